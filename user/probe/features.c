// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * features.c - one row a feature: what it is called, since when it exists, how to find out, and
 * what to do without it. A test runs at most once, when first asked for. Not thread-safe.
 *
 * Tests try the thing itself where that is cheap, because distributions backport and disable
 * features: a version number proves nothing.
 */
#include "probe/features.h"

#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <linux/bpf.h>
#include <linux/capability.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "pt_maps.h"

#ifndef CAP_PERFMON
#define CAP_PERFMON 38 /* include/uapi/linux/capability.h, 5.8 */
#define CAP_BPF     39
#endif

/* Since Linux 6.6; not in the headers of older distributions (include/uapi/linux/bpf.h). */
#define ATTACH_TRACE_UPROBE_MULTI 48

struct row {
	const char *name, *since;
	bool required;
	/* true if available; else fills reason */
	bool (*test)(struct pt_feature_result *result);
	const char *remedy;
};

static bool fail(struct pt_feature_result *result, const char *reason)
{
	snprintf(result->reason, sizeof(result->reason), "%s", reason);
	return false;
}

/* ---- tests ---- */

static bool read_capabilities(uint64_t *effective)
{
	FILE *file = fopen("/proc/self/status", "re");
	unsigned long long value = 0;
	bool found = false;
	char line[256];

	while (file && fgets(line, sizeof(line), file))
		if (sscanf(line, "CapEff: %llx", &value) == 1)
			found = true;
	if (file)
		fclose(file);
	*effective = value;
	return found;
}

bool pt_has_sys_admin(void)
{
	uint64_t caps;

	return read_capabilities(&caps) && (caps >> CAP_SYS_ADMIN & 1);
}

static bool test_privilege(struct pt_feature_result *result)
{
	static const struct {
		int bit;
		const char *name;
	} needed[] = {
	    {CAP_BPF, "CAP_BPF"}, {CAP_PERFMON, "CAP_PERFMON"}, {CAP_SYS_PTRACE, "CAP_SYS_PTRACE"}};
	char missing[128] = "";
	uint64_t caps;

	if (!read_capabilities(&caps))
		return fail(result, "/proc/self/status cannot be read");
	if (caps >> CAP_SYS_ADMIN & 1)
		return true;
	for (size_t i = 0; i < sizeof(needed) / sizeof(needed[0]); i++) {
		size_t len = strlen(missing);

		if (!(caps >> needed[i].bit & 1))
			snprintf(missing + len, sizeof(missing) - len, "%s%s", len ? ", " : "",
				 needed[i].name);
	}
	if (!missing[0])
		return true;
	snprintf(result->reason, sizeof(result->reason), "the process lacks %s", missing);
	return false;
}

static bool test_lockdown(struct pt_feature_result *result)
{
	FILE *file = fopen("/sys/kernel/security/lockdown", "re");
	char line[128] = "";
	bool locked;

	if (!file)
		return true; /* a kernel without lockdown, or securityfs is not mounted */
	if (!fgets(line, sizeof(line), file))
		line[0] = '\0';
	fclose(file);
	locked = strstr(line, "[confidentiality]") != NULL;
	if (locked)
		return fail(result, "the kernel is locked down in confidentiality mode");
	return true;
}

/* Of the running kernel, or NULL; 7 ms and 7 MiB (Linux 6.18), so the tests share one. */
static struct btf *kernel_btf;

static const struct btf *read_kernel_btf(void)
{
	if (!kernel_btf)
		kernel_btf = btf__load_vmlinux_btf();
	return kernel_btf;
}

void pt_features_release(void)
{
	btf__free(kernel_btf);
	kernel_btf = NULL;
}

static bool test_btf(struct pt_feature_result *result)
{
	if (access("/sys/kernel/btf/vmlinux", R_OK))
		return fail(result, "/sys/kernel/btf/vmlinux cannot be read");
	return read_kernel_btf() || fail(result, "/sys/kernel/btf/vmlinux cannot be parsed");
}

static bool test_ringbuf(struct pt_feature_result *result)
{
	int rc = libbpf_probe_bpf_map_type(BPF_MAP_TYPE_RINGBUF, NULL);

	if (rc == 1)
		return true;
	return fail(result, rc == 0 ? "the kernel knows no such map" : strerror(-rc));
}

static bool test_uprobe(struct pt_feature_result *result)
{
	if (access("/sys/bus/event_source/devices/uprobe/type", R_OK) == 0)
		return true;
	if (access("/sys/bus/event_source", F_OK) != 0)
		return fail(result, "/sys is not mounted");
	return fail(result, "the kernel was built without CONFIG_UPROBE_EVENTS");
}

static bool btf_has(struct pt_feature_result *result, const char *name, uint32_t kind)
{
	const struct btf *btf = read_kernel_btf();
	bool found = btf && btf__find_by_name_kind(btf, name, kind) > 0;

	if (!found)
		snprintf(result->reason, sizeof(result->reason), "the kernel's BTF has no '%s'",
			 name);
	return found;
}

static bool test_tp_btf(struct pt_feature_result *result)
{
	return btf_has(result, "btf_trace_sched_process_fork", BTF_KIND_TYPEDEF);
}

static bool test_task_iter(struct pt_feature_result *result)
{
	return btf_has(result, "bpf_iter_task", BTF_KIND_FUNC);
}

static bool helper_in_kprobe(struct pt_feature_result *result, enum bpf_func_id helper)
{
	int rc = libbpf_probe_bpf_helper(BPF_PROG_TYPE_KPROBE, helper, NULL);

	if (rc == 1)
		return true;
	return fail(result, rc == 0 ? "the kernel does not have the helper" : strerror(-rc));
}

/* A map of this process's own storage, as large as a thread's state is; the fd, or -errno. */
static int own_task_storage(uint32_t bytes)
{
	LIBBPF_OPTS(bpf_map_create_opts, opts, .map_flags = BPF_F_NO_PREALLOC);
	struct btf *btf = btf__new_empty();
	int fd, error;

	if (!btf)
		return -ENOMEM;
	opts.btf_key_type_id = btf__add_int(btf, "int", sizeof(int), BTF_INT_SIGNED);
	opts.btf_value_type_id = btf__add_array(btf, opts.btf_key_type_id, opts.btf_key_type_id,
						bytes / sizeof(int));
	error = btf__load_into_kernel(btf);
	opts.btf_fd = error ? 0 : btf__fd(btf);
	fd = error ? error
		   : bpf_map_create(BPF_MAP_TYPE_TASK_STORAGE, "pt_probe", sizeof(int), bytes, 0,
				    &opts);
	btf__free(btf);
	return fd;
}

/*
 * Knowing the helper is not enough: Linux 7.2 gives no memory for it on a processor without
 * cmpxchg16b (mm/slub.c, kmalloc_nolock()). The allocator's stock may be empty for a moment, hence
 * the second try.
 */
static bool test_task_storage(struct pt_feature_result *result)
{
	static const char value[PT_THREAD_BYTES_MAX];
	int map, pidfd, rc = -1, error = 0;

	/* 5.11 has it for LSM programs only */
	if (!helper_in_kprobe(result, BPF_FUNC_task_storage_get))
		return false;
	map = own_task_storage(sizeof(value));
	if (map < 0)
		return fail(result, strerror(-map));
	pidfd = (int)syscall(SYS_pidfd_open, getpid(), 0);
	for (int i = 0; i < 2 && rc && pidfd >= 0; i++) {
		rc = bpf_map_update_elem(map, &pidfd, value, BPF_ANY);
		error = errno;
	}
	if (pidfd >= 0)
		close(pidfd);
	close(map);
	if (rc && pidfd >= 0)
		snprintf(result->reason, sizeof(result->reason),
			 "the kernel gives no memory for it: %s", strerror(error));
	return pidfd < 0 || !rc;
}

static bool test_cookie(struct pt_feature_result *result)
{
	return helper_in_kprobe(result, BPF_FUNC_get_attach_cookie);
}

/* Links to a directory, which a kernel that knows the link type refuses with EBADF
 * (kernel/trace/bpf_trace.c, bpf_uprobe_multi_link_attach()). */
static bool test_uprobe_multi(struct pt_feature_result *result)
{
	struct bpf_insn insns[] = {{.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 0, .imm = 0},
				   {.code = BPF_JMP | BPF_EXIT}};
	LIBBPF_OPTS(bpf_prog_load_opts, load,
		    .expected_attach_type = (enum bpf_attach_type)ATTACH_TRACE_UPROBE_MULTI);
	LIBBPF_OPTS(bpf_link_create_opts, link);
	unsigned long offset = 0;
	int prog, fd, error;

	prog = bpf_prog_load(BPF_PROG_TYPE_KPROBE, NULL, "GPL", insns, 2, &load);
	if (prog < 0)
		return fail(result, strerror(errno));
	link.uprobe_multi.path = "/";
	link.uprobe_multi.offsets = &offset;
	link.uprobe_multi.cnt = 1;
	fd = bpf_link_create(prog, -1, (enum bpf_attach_type)ATTACH_TRACE_UPROBE_MULTI, &link);
	error = errno;
	close(prog);
	if (fd >= 0) {
		close(fd);
		return fail(result, "the kernel links to a directory");
	}
	if (error == EBADF)
		return true;
	return fail(result, error == EINVAL ? "the kernel knows no such link" : strerror(error));
}

static bool test_task_regs(struct pt_feature_result *result)
{
	return helper_in_kprobe(result, BPF_FUNC_task_pt_regs);
}

static bool is_task_pointer(const struct btf *btf, uint32_t id)
{
	const struct btf_type *type = btf__type_by_id(btf, id);

	if (!type || !btf_is_ptr(type))
		return false;
	type = btf__type_by_id(btf, type->type);
	return type && btf_is_struct(type) &&
	       !strcmp(btf__name_by_offset(btf, type->name_off), "task_struct");
}

/* Whether the tracepoint's arguments from the first one on (0: the context) are tasks. */
static bool takes_tasks(const struct btf *btf, const char *tracepoint, int first, int count)
{
	int id = btf__find_by_name_kind(btf, tracepoint, BTF_KIND_TYPEDEF);
	const struct btf_type *type = id > 0 ? btf__type_by_id(btf, (uint32_t)id) : NULL;

	type = type ? btf__type_by_id(btf, type->type) : NULL; /* a pointer */
	type = type ? btf__type_by_id(btf, type->type) : NULL;
	if (!type || !btf_is_func_proto(type) || btf_vlen(type) < first + count)
		return false;
	for (int i = first; i < first + count; i++)
		if (!is_task_pointer(btf, btf_params(type)[i].type))
			return false;
	return true;
}

/* 5.18.0 had an argument in front of them (include/trace/events/sched.h). */
static bool test_sched(struct pt_feature_result *result)
{
	const struct btf *btf = read_kernel_btf();

	if (!btf)
		return fail(result, "/sys/kernel/btf/vmlinux cannot be parsed");
	return (takes_tasks(btf, "btf_trace_sched_switch", 2, 2) &&
		takes_tasks(btf, "btf_trace_sched_wakeup", 1, 1)) ||
	       fail(result, "sched_switch or sched_wakeup has other arguments than are known");
}

/* ---- the table ---- */

static const struct row rows[PT_FEAT_COUNT] = {
    [PT_FEAT_PRIVILEGE] =
	{"privileges", "any kernel", true, test_privilege,
	 "Run with sudo. In a container, add CAP_BPF, CAP_PERFMON and CAP_SYS_PTRACE "
	 "and allow bpf(2) and perf_event_open(2) in its seccomp profile."},
    [PT_FEAT_LOCKDOWN_OFF] =
	{"reading user memory", "any kernel", true, test_lockdown,
	 "Boot with lockdown=integrity, or with Secure Boot's lockdown relaxed."},
    [PT_FEAT_BTF] = {"kernel type information", "Linux 5.2", true, test_btf,
		     "Use a kernel built with CONFIG_DEBUG_INFO_BTF; distributions' kernels are."},
    [PT_FEAT_RINGBUF] = {"BPF ring buffer", "Linux 5.8", true, test_ringbuf,
			 "Use Linux 5.10 or later."},
    [PT_FEAT_UPROBE] = {"uprobes", "Linux 4.17", true, test_uprobe,
			"Use a kernel with CONFIG_UPROBE_EVENTS, and mount /sys."},
    [PT_FEAT_TP_BTF] = {"typed tracepoints", "Linux 5.5", true, test_tp_btf,
			"Use Linux 5.10 or later, with BTF."},
    [PT_FEAT_TASK_ITER] = {"task iterator", "Linux 5.8", true, test_task_iter,
			   "Use Linux 5.10 or later, with BTF."},
    [PT_FEAT_TASK_STORAGE] =
	{"task storage", "Linux 5.12", false, test_task_storage,
	 "A hash of 2048 threads is used instead; each event costs 20 ns more."},
    [PT_FEAT_ATTACH_COOKIE] =
	{"attach cookies", "Linux 5.15", false, test_cookie,
	 "A map keyed by address is used instead; each event costs 20 ns more."},
    [PT_FEAT_UPROBE_MULTI] = {"uprobe.multi", "Linux 6.6", false, test_uprobe_multi,
			      "One perf event a probe is used instead; attaching takes longer."},
    [PT_FEAT_TASK_REGS] =
	{"registers of a task", "Linux 5.15", false, test_task_regs,
	 "They are looked for on its stack; where they are not there, --sched names no system "
	 "calls."},
    [PT_FEAT_SCHED] = {"thread states", "Linux 5.10", false, test_sched,
		       "--sched is refused; all else works."},
};

bool pt_feature_required(enum pt_feature feature)
{
	return rows[feature].required;
}

const struct pt_feature_result *pt_feature(enum pt_feature feature)
{
	static struct pt_feature_result results[PT_FEAT_COUNT];
	static bool tested[PT_FEAT_COUNT];
	const struct row *row = &rows[feature];
	struct pt_feature_result *result = &results[feature];

	if (tested[feature])
		return result;
	result->name = row->name;
	result->since = row->since;
	result->required = row->required;
	result->available = row->test(result);
	if (!result->available)
		snprintf(result->remedy, sizeof(result->remedy), "%s", row->remedy);
	tested[feature] = true;
	return result;
}
