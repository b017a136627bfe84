// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
#include "probe/attach.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/glob.h"
#include "base/log.h"
#include "probe/features.h"
#include "probe/gen_skel.h"
#include "probe/parallel.h"
#include "probe/tracer.h"
#include "target/memory.h"

#define RING_BYTES_DEFAULT (32u << 20)
#define RING_BYTES_MAX     (1u << 30)
/* Ids lie ready for BPF in queues; refilled when fewer than half of these are left. */
#define CODE_BLOCKS_READY  4096
#define IMAGE_IDS_READY    4096
/* A poll hands out at most so many records, so that its caller gets to look at the time. */
#define RECORDS_PER_POLL   8192
/* With a least duration batches may fill slowly. */
#define BATCH_NS_MAX       500000000ull
/* While recording, only batches that rest for so long are copied; see bpf/peek.h. */
#define PEEK_MIN_AGE_NS    1000000ull
/* No program at a probe takes so long from reading the clock to putting the event down. */
#define COMPLETE_MARGIN_NS 1000000000ull

_Static_assert(PT_AUDIT_NAME_MAX == PT_AUDIT_NAME_BYTES - 1, "longest name");
_Static_assert(PT_AUDIT_COUNT_MAX == PT_AUDIT_NAMES_MAX, "number of names");

__attribute__((format(printf, 2, 0))) static int print_libbpf(enum libbpf_print_level level,
							      const char *format, va_list args)
{
	char *text, *rest, *line;

	if (pt_log_level() < PT_LOG_DEBUG || vasprintf(&text, format, args) < 0)
		return 0;
	/* the verifier's log comes as one message of many lines */
	for (line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest))
		pt_debug("%s", line);
	free(text);
	return 0;
}

/* ---- loading ---- */

static size_t ring_size(size_t wanted)
{
	size_t size = (size_t)sysconf(_SC_PAGESIZE);

	if (wanted == 0)
		wanted = RING_BYTES_DEFAULT;
	while (size < wanted && size < RING_BYTES_MAX)
		size *= 2;
	return size;
}

int pt_require(enum pt_feature feature, struct pt_err *err)
{
	const struct pt_feature_result *result = pt_feature(feature);

	if (result->available)
		return 0;
	return pt_err_set(err, -ENOTSUP, PT_EXIT_UNSUPPORTED, result->remedy,
			  "this kernel lacks %s (%s): %s", result->name, result->since,
			  result->reason);
}

static int choose_features(struct pt_tracer *tracer, struct pt_err *err)
{
	static const enum pt_feature needed[] = {PT_FEAT_BTF, PT_FEAT_RINGBUF, PT_FEAT_UPROBE,
						 PT_FEAT_TP_BTF, PT_FEAT_TASK_ITER};
	const struct pt_feature_result *privilege = pt_feature(PT_FEAT_PRIVILEGE);
	const struct pt_feature_result *lockdown = pt_feature(PT_FEAT_LOCKDOWN_OFF);
	int rc = 0;

	if (!privilege->available)
		return pt_err_set(err, -EPERM, PT_EXIT_PERMISSION, privilege->remedy,
				  "not permitted to trace: %s", privilege->reason);
	if (!lockdown->available)
		return pt_err_set(err, -EPERM, PT_EXIT_PERMISSION, lockdown->remedy,
				  "not permitted to trace: %s", lockdown->reason);
	for (size_t i = 0; i < sizeof(needed) / sizeof(needed[0]) && !rc; i++)
		rc = pt_require(needed[i], err);
	tracer->task_storage = !tracer->options.no_task_storage &&
			       pt_feature(PT_FEAT_TASK_STORAGE)->available;
	tracer->cookie = !tracer->options.no_cookie && pt_feature(PT_FEAT_ATTACH_COOKIE)->available;
	tracer->multi = !tracer->options.no_uprobe_multi &&
			pt_feature(PT_FEAT_UPROBE_MULTI)->available;
	return rc;
}

static void configure_triggers(struct pt_tracer *tracer)
{
	const struct pt_tracer_options *options = &tracer->options;
	struct pytrace_bpf *skel = tracer->skel;

	skel->rodata->use_triggers = options->start_on || options->stop_on;
	skel->rodata->use_windows = options->start_on != NULL;
	skel->rodata->use_tickets = options->start_on && options->count;
	if (options->start_on)
		pt_glob_parse(options->start_on, &skel->rodata->globs[PT_GLOB_START]);
	if (options->stop_on)
		pt_glob_parse(options->stop_on, &skel->rodata->globs[PT_GLOB_STOP]);
	bpf_map__set_autocreate(skel->maps.tickets, skel->rodata->use_tickets);
	if (skel->rodata->use_tickets)
		bpf_map__set_max_entries(skel->maps.tickets, (uint32_t)options->count);
}

static void configure(struct pt_tracer *tracer)
{
	struct pytrace_bpf *skel = tracer->skel;
	size_t ring_bytes = ring_size(tracer->options.ring_bytes);
	uint64_t max_events = tracer->options.max_events;

	skel->rodata->use_task_storage = tracer->task_storage;
	skel->rodata->use_cookie = tracer->cookie;
	skel->rodata->trace_all = tracer->options.trace_all;
	skel->rodata->want_runtime = tracer->options.runtime;
	skel->rodata->want_imports = tracer->options.imports;
	skel->rodata->want_exceptions = tracer->options.exceptions;
	skel->rodata->want_sched = tracer->options.sched;
	skel->rodata->use_task_regs = pt_feature(PT_FEAT_TASK_REGS)->available;
	skel->rodata->want_async = tracer->options.async;
	skel->rodata->want_audit = tracer->options.audit != NULL;
	skel->rodata->send_lines = tracer->options.lines;
	skel->rodata->send_tables = tracer->options.lines || tracer->options.exceptions ||
				    tracer->options.stacks;
	skel->rodata->max_depth = tracer->options.max_depth ? tracer->options.max_depth
							    : UINT32_MAX;
	skel->rodata->max_events = max_events;
	skel->rodata->wake_bytes = ring_bytes / 8;
	if (max_events && max_events / 8 < skel->rodata->batch_limit)
		skel->rodata->batch_limit = max_events < 16 * 8 ? 16 : (uint32_t)(max_events / 8);
	skel->rodata->min_duration_ns = tracer->options.min_duration_ns;
	if (tracer->options.min_duration_ns)
		skel->rodata->batch_ns_max = BATCH_NS_MAX;
	configure_triggers(tracer);
	pt_values_configure(tracer);
	bpf_map__set_max_entries(skel->maps.ring, (uint32_t)ring_bytes);
	bpf_map__set_autocreate(skel->maps.threads, tracer->task_storage);
	bpf_map__set_autocreate(skel->maps.threads_by_tid, !tracer->task_storage);
	bpf_map__set_autocreate(skel->maps.audit_names, tracer->options.audit != NULL);
	bpf_map__set_autocreate(skel->maps.task_names, tracer->options.async);
	bpf_map__set_autocreate(skel->maps.thread_template, !tracer->task_storage);
	bpf_map__set_autocreate(skel->maps.sched, tracer->options.sched);
	bpf_program__set_autoload(skel->progs.pt_switch, tracer->options.sched);
	bpf_program__set_autoload(skel->progs.pt_wakeup, tracer->options.sched);
	bpf_program__set_autoload(skel->progs.pt_site_multi, tracer->multi);
	bpf_map__set_autocreate(skel->maps.c_threads, tracer->options.c_functions);
	bpf_map__set_autocreate(skel->maps.cfuncs, tracer->options.c_functions);
	bpf_program__set_autoload(skel->progs.pt_c_site, tracer->options.c_functions);
	bpf_program__set_autoload(skel->progs.pt_c_site_multi,
				  tracer->options.c_functions && tracer->multi);
	pt_cuda_configure(tracer, ring_bytes);
	pt_methods_configure(tracer);
	pt_sample_configure(tracer);
	bpf_map__set_autocreate(skel->maps.marks, tracer->options.marks);
	bpf_map__set_autocreate(skel->maps.mark_levels, tracer->options.marks);
	bpf_program__set_autoload(skel->progs.pt_mark, tracer->options.marks);
	bpf_program__set_autoload(skel->progs.pt_mark_end, tracer->options.marks);
	bpf_program__set_autoload(skel->progs.pt_empty_multi,
				  tracer->multi && tracer->options.bench_empty);
	bpf_program__set_autoload(skel->progs.pt_empty, tracer->options.bench_empty);
}

static int queue_push(struct bpf_map *queue, uint32_t id)
{
	return bpf_map_update_elem(bpf_map__fd(queue), NULL, &id, BPF_ANY);
}

/* Keeps the queues filled; used_* are the highest ids seen in records. */
static int refill_ids(struct pt_tracer *tracer, uint32_t used_code_id, uint32_t used_image_id)
{
	int rc = 0;

	while (!rc && tracer->next_image_id < used_image_id + IMAGE_IDS_READY) {
		rc = queue_push(tracer->skel->maps.image_ids, tracer->next_image_id);
		tracer->next_image_id += rc ? 0 : 1;
	}
	while (!rc && tracer->next_code_id < used_code_id + CODE_BLOCKS_READY * PT_ID_BLOCK &&
	       tracer->next_code_id < PT_CODE_ID_USER - PT_ID_BLOCK) {
		rc = queue_push(tracer->skel->maps.code_ids, tracer->next_code_id);
		tracer->next_code_id += rc ? 0 : PT_ID_BLOCK;
	}
	return rc == -E2BIG ? 0 : rc; /* full is good too */
}

/* Tells BPF that nobody wants to see a C function; whoever reads the records filters as well, since
 * some of its calls were recorded meanwhile. */
static void skip_unwanted(struct pt_tracer *tracer, const struct pt_rec_cfunc *cfunc)
{
	struct pt_cfunc_key key = {
	    .image_id = cfunc->hdr.image_id, .def = cfunc->def, .type = cfunc->type};
	int fd = bpf_map__fd(tracer->skel->maps.cfuncs);
	struct pt_cfunc value;

	if (!tracer->options.c_globs || (cfunc->kind & PT_C_PROBED) || !cfunc->name[0] ||
	    !memchr(cfunc->name, 0, sizeof(cfunc->name)) ||
	    !memchr(cfunc->owner, 0, sizeof(cfunc->owner)) ||
	    pt_glob_qualified(tracer->options.c_globs, cfunc->owner, cfunc->name))
		return;
	if (bpf_map_lookup_elem(fd, &key, &value) || value.id != cfunc->id)
		return;
	value.flags |= PT_CF_SKIP;
	bpf_map_update_elem(fd, &key, &value, BPF_EXIST);
}

static void read_text(pid_t pid, uint64_t addr, char *text, size_t size)
{
	ssize_t len = addr ? pt_memory_read_some(pid, addr, text, size - 1) : 0;

	text[len > 0 ? len : 0] = '\0';
}

static void keep_fork(struct pt_tracer *tracer, const struct pt_rec_proc *proc)
{
	tracer->forks[tracer->fork_count++ % FORKS_KEPT] = (struct tracer_fork){
	    (pid_t)proc->hdr.tgid, (pid_t)proc->parent_tgid};
}

/* 0: not known. */
static pid_t parent_of(const struct pt_tracer *tracer, pid_t pid)
{
	size_t kept = tracer->fork_count < FORKS_KEPT ? tracer->fork_count : FORKS_KEPT;

	for (size_t i = 1; i <= kept; i++) {
		const struct tracer_fork *fork =
		    &tracer->forks[(tracer->fork_count - i) % FORKS_KEPT];

		if (fork->child == pid)
			return fork->parent;
	}
	return 0;
}

/* False: the process does not have the function where it should be. */
static bool complete_from(pid_t pid, struct pt_rec_cfunc *cfunc)
{
	uint64_t def[2]; /* ml_name, ml_meth */

	if (pt_memory_read(pid, cfunc->def, def, sizeof(def)) || def[1] != cfunc->ml_meth)
		return false;
	if (!cfunc->name[0])
		read_text(pid, def[0], cfunc->name, sizeof(cfunc->name));
	if (!cfunc->owner[0])
		read_text(pid, cfunc->type, cfunc->owner, sizeof(cfunc->owner));
	return true;
}

/* BPF reads what is in memory. Names of C functions lie in files, and a page of those is read when
 * the process first looks at it: then they are read here. A child that has ended meanwhile had them
 * where its parent has them; else its address stands for the name. A name may be empty, as of
 * methods that pybind11 makes. */
static void complete_cfunc(const struct pt_tracer *tracer, struct pt_rec_cfunc *cfunc)
{
	pid_t pid = (pid_t)cfunc->hdr.tgid;

	if (cfunc->kind & PT_C_PROBED || (cfunc->name[0] && (cfunc->owner[0] || !cfunc->type)))
		return;
	for (int i = 0; i < FORK_LEVELS_MAX && pid; i++) {
		if (complete_from(pid, cfunc))
			return;
		pid = parent_of(tracer, pid);
	}
	if (!cfunc->name[0])
		snprintf(cfunc->name, sizeof(cfunc->name), "%#llx",
			 (unsigned long long)cfunc->ml_meth);
	if (!cfunc->owner[0] && cfunc->type)
		snprintf(cfunc->owner, sizeof(cfunc->owner), "?");
}

static int on_record(void *ctx, void *data, size_t len)
{
	struct pt_tracer *tracer = ctx;
	const struct pt_rec *rec = data;
	struct pt_rec_cfunc cfunc;

	if (len < sizeof(*rec) || rec->len != len) {
		pt_debug("a record of %zu bytes is not one of ours", len);
		return 0;
	}
	if (rec->kind == PT_REC_CODE) {
		uint32_t id = ((const struct pt_rec_code *)rec)->id;

		if (tracer->next_code_id - id < CODE_BLOCKS_READY / 2 * PT_ID_BLOCK)
			refill_ids(tracer, id, 0);
	} else if (rec->kind == PT_REC_CFUNC && len >= sizeof(struct pt_rec_cfunc)) {
		memcpy(&cfunc, data, sizeof(cfunc));
		if (tracer->next_code_id - cfunc.id < CODE_BLOCKS_READY / 2 * PT_ID_BLOCK)
			refill_ids(tracer, cfunc.id, 0);
		complete_cfunc(tracer, &cfunc);
		skip_unwanted(tracer, &cfunc);
		rec = &cfunc.hdr;
		len = sizeof(cfunc);
	} else if (rec->kind == PT_REC_PROC) {
		if (tracer->next_image_id - rec->image_id < IMAGE_IDS_READY / 2)
			refill_ids(tracer, 0, rec->image_id);
		if (len >= sizeof(struct pt_rec_proc) &&
		    ((const struct pt_rec_proc *)data)->what == PT_PROC_FORK)
			keep_fork(tracer, data);
	}
	tracer->handed_out++;
	tracer->fn_rc = tracer->fn ? tracer->fn(rec, len, tracer->fn_ctx) : 0;
	/* a negative value ends libbpf's loop; the record itself counts as consumed */
	return tracer->fn_rc || tracer->handed_out >= RECORDS_PER_POLL ? -ECANCELED : 0;
}

static int attach_scheduler(struct pt_tracer *tracer, struct pt_err *err)
{
	struct pytrace_bpf *skel = tracer->skel;

	tracer->fork_link = bpf_program__attach(skel->progs.pt_fork);
	tracer->exec_link = bpf_program__attach(skel->progs.pt_exec);
	tracer->exit_link = bpf_program__attach(skel->progs.pt_exit);
	tracer->peek_link = bpf_program__attach_iter(skel->progs.pt_peek, NULL);
	if (tracer->options.sched) {
		tracer->switch_link = bpf_program__attach(skel->progs.pt_switch);
		tracer->wakeup_link = bpf_program__attach(skel->progs.pt_wakeup);
	}
	if (!tracer->fork_link || !tracer->exec_link || !tracer->exit_link || !tracer->peek_link ||
	    (tracer->options.sched && (!tracer->switch_link || !tracer->wakeup_link)))
		return pt_probe_error(err, errno ? -errno : -EINVAL,
				      "attach to the scheduler's tracepoints", false);
	return 0;
}

static int fill_audit_names(struct pt_tracer *tracer)
{
	uint32_t value = 1;
	int rc = 0;

	for (const char *const *name = tracer->options.audit; name && *name && !rc; name++) {
		struct pt_audit_key key = {0};
		size_t len = strlen(*name), bytes = len + 1;

		if (len && (*name)[len - 1] == '*')
			bytes = --len;
		if (bytes > sizeof(key.name))
			return -ENAMETOOLONG;
		memcpy(key.name, *name, len);
		key.bits = (uint32_t)(8 * bytes);
		rc = bpf_map_update_elem(bpf_map__fd(tracer->skel->maps.audit_names), &key, &value,
					 BPF_ANY);
	}
	return rc;
}

static int load(struct pt_tracer *tracer, struct pt_err *err)
{
	int rc;

	tracer->skel = pytrace_bpf__open();
	if (!tracer->skel)
		return pt_probe_error(err, -errno, "open the BPF programs", false);
	configure(tracer);
	rc = pytrace_bpf__load(tracer->skel);
	/* the verifier says EACCES and EINVAL, too; missing privileges were ruled out before */
	if (rc == -EACCES || rc == -EINVAL)
		return pt_err_set(err, rc, PT_EXIT_UNSUPPORTED,
				  "Run with -vv for the verifier's reasons, and please report them "
				  "with the kernel's version.",
				  "this kernel refuses the BPF programs: %s", strerror(-rc));
	if (rc)
		return pt_probe_error(err, rc, "load the BPF programs", false);
	rc = refill_ids(tracer, 0, 0);
	if (!rc)
		rc = fill_audit_names(tracer);
	for (uint32_t i = 0; !rc && tracer->skel->rodata->use_tickets && i < tracer->options.count;
	     i++)
		rc = queue_push(tracer->skel->maps.tickets, i);
	if (rc)
		return pt_probe_error(err, rc, "fill the BPF maps", false);
	tracer->ring = ring_buffer__new(bpf_map__fd(tracer->skel->maps.ring), on_record, tracer,
					NULL);
	if (!tracer->ring)
		return pt_probe_error(err, -errno, "map the ring buffer", false);
	rc = attach_scheduler(tracer, err);
	return rc || !tracer->options.sample_hz ? rc : pt_sample_attach(tracer, err);
}

/* Cookies and task storage are there and not switched off. */
static bool newer_kernel(const struct pt_tracer_options *options, struct pt_err *err)
{
	static const enum pt_feature needed[] = {PT_FEAT_TASK_STORAGE, PT_FEAT_ATTACH_COOKIE};

	for (size_t i = 0; i < sizeof(needed) / sizeof(needed[0]); i++)
		if (pt_require(needed[i], err))
			return false;
	if (options->no_cookie || options->no_task_storage) {
		pt_err_set(err, -ENOTSUP, PT_EXIT_UNSUPPORTED, NULL,
			   "attach cookies or task storage are switched off");
		return false;
	}
	return true;
}

bool pt_tracer_sched_supported(struct pt_err *err)
{
	return !pt_require(PT_FEAT_SCHED, err);
}

bool pt_tracer_c_functions_supported(const struct pt_tracer_options *options, struct pt_err *err)
{
	return newer_kernel(options, err);
}

bool pt_tracer_mark_stacks_supported(const struct pt_tracer_options *options, struct pt_err *err)
{
	return newer_kernel(options, err);
}

bool pt_tracer_cuda_supported(const struct pt_tracer_options *options, struct pt_err *err)
{
	if (!newer_kernel(options, err) || pt_require(PT_FEAT_UPROBE_MULTI, err))
		return false;
	if (options->no_uprobe_multi)
		pt_err_set(err, -ENOTSUP, PT_EXIT_UNSUPPORTED, NULL,
			   "uprobe.multi is switched off");
	return !options->no_uprobe_multi;
}

int pt_tracer_new(const struct pt_tracer_options *options, struct pt_tracer **out,
		  struct pt_err *err)
{
	struct pt_tracer *tracer = calloc(1, sizeof(*tracer));
	int rc;

	*out = NULL;
	if (!tracer)
		return pt_err_set(err, -ENOMEM, PT_EXIT_FAILED, NULL, "out of memory");
	tracer->options = *options;
	tracer->next_image_id = 1;
	tracer->next_code_id = 1;
	tracer->stats_fd = -1;
	libbpf_set_print(print_libbpf);
	rc = choose_features(tracer, err);
	if (!rc)
		rc = load(tracer, err);
	if (rc) {
		pt_tracer_free(tracer);
		return rc;
	}
	*out = tracer;
	return 0;
}

static void release_set(size_t i, void *ctx)
{
	struct pt_tracer *tracer = ctx;

	if (i < tracer->image_count) {
		pt_links_release(&tracer->images[i].links);
		pt_links_release(&tracer->images[i].kept);
	} else if (i - tracer->image_count < tracer->process_count) {
		pt_links_release(&tracer->processes[i - tracer->image_count].links);
		pt_links_release(&tracer->processes[i - tracer->image_count].kept);
	} else if (i - tracer->image_count - tracer->process_count < tracer->cuda_count) {
		pt_links_release(&tracer->cuda[i - tracer->image_count - tracer->process_count]);
	} else {
		pt_links_release(&tracer->methods[i - tracer->image_count - tracer->process_count -
						  tracer->cuda_count]);
	}
}

static void release_site_links(struct pt_tracer *tracer)
{
	pt_parallel(tracer->image_count + tracer->process_count + tracer->cuda_count +
			tracer->methods_count,
		    release_set, tracer);
	pt_links_release(&tracer->marks);
	pt_links_release(&tracer->samples);
}

void pt_tracer_free(struct pt_tracer *tracer)
{
	if (!tracer)
		return;
	if (tracer->skel && tracer->skel->bss)
		tracer->skel->bss->control.gate = PT_GATE_CLOSED;
	release_site_links(tracer);
	pt_tracer_count_cost(tracer, false);
	for (size_t i = 0; i < tracer->image_count; i++)
		if (tracer->images[i].fd >= 0)
			close(tracer->images[i].fd);
	bpf_link__destroy(tracer->fork_link);
	bpf_link__destroy(tracer->exec_link);
	bpf_link__destroy(tracer->exit_link);
	bpf_link__destroy(tracer->switch_link);
	bpf_link__destroy(tracer->wakeup_link);
	bpf_link__destroy(tracer->peek_link);
	ring_buffer__free(tracer->ring);
	pytrace_bpf__destroy(tracer->skel);
	free(tracer->processes);
	free(tracer->cuda);
	free(tracer->methods);
	free(tracer);
}

/* ---- images and processes ---- */

static int set_site(struct pt_tracer *tracer, const struct pt_site_key *key,
		    const struct pt_site_value *value)
{
	return bpf_map_update_elem(bpf_map__fd(tracer->skel->maps.sites), key, value, BPF_ANY);
}

static int register_site(struct pt_tracer *tracer, const struct py_site *site, int image_index)
{
	struct pt_site_value value = {
	    .cookie = (site->cookie & ~(0xffull << 32)) | (uint64_t)image_index << 32,
	    .vaddr = site->vaddr,
	};
	struct pt_site_key key = {.by = PT_SITE_BY_VADDR, .image_index = (uint32_t)image_index};
	struct pt_site_value other;
	int rc;

	key.addr = site->vaddr;
	rc = set_site(tracer, &key, &value);
	key.by = PT_SITE_BY_NUMBER;
	key.addr = PT_COOKIE_SITE(site->cookie);
	if (!rc)
		rc = set_site(tracer, &key, &value);
	key.by = PT_SITE_BY_OFFSET;
	key.image_index = 0;
	key.addr = site->vaddr & 4095;
	if (!bpf_map_lookup_elem(bpf_map__fd(tracer->skel->maps.sites), &key, &other))
		value.cookie = 0; /* ambiguous */
	if (!rc)
		rc = set_site(tracer, &key, &value);
	return rc;
}

static int register_image(struct pt_tracer *tracer, int image_index, struct pt_err *err)
{
	const struct py_image *image = tracer->images[image_index].image;
	const struct py_engine_plan *plan = &image->engines[tracer->images[image_index].engine];
	struct pt_image *slot = &tracer->skel->bss->control.images[image_index];
	int rc = 0;

	memset(slot, 0, sizeof(*slot));
	slot->layout = image->layout;
	slot->tstate_vaddr = image->tstate_current.vaddr;
	slot->rt = image->rt;
	slot->values = image->values;
	slot->type_function = image->c_types.function;
	slot->type_method = image->c_types.method;
	slot->type_descr = image->c_types.descr;
	slot->type_module = image->c_types.module;
	for (size_t i = 0; i < plan->site_count && !rc; i++)
		rc = register_site(tracer, &plan->sites[i], image_index);
	if (!rc && tracer->options.sample_hz)
		rc = pt_sample_set_image(tracer, image_index);
	plan = pt_c_plan(tracer, image_index);
	for (size_t i = 0; plan && i < plan->site_count && !rc; i++)
		rc = register_site(tracer, &plan->sites[i], image_index);
	if (rc)
		pt_probe_error(err, rc, "fill the BPF maps", false);
	return rc;
}

int pt_tracer_add_image(struct pt_tracer *tracer, const struct py_image *image,
			enum py_engine engine, enum pt_reach reach, bool c_methods,
			const char *open_path, struct pt_err *err)
{
	const struct py_engine_plan *plan = &image->engines[engine];
	int index = (int)tracer->image_count, rc;

	if (index >= PT_LAYOUT_MAX)
		return pt_err_set(err, -ENOSPC, PT_EXIT_FAILED, "Trace fewer processes at once.",
				  "more than %d different interpreter files", PT_LAYOUT_MAX);
	if (!plan->usable || (engine != PY_ENGINE_SAMPLE && plan->site_count == 0))
		return pt_err_set(err, -ENOTSUP, PT_EXIT_UNSUPPORTED, NULL,
				  "'%s' cannot be probed this way: %s", image->path, plan->reason);
	rc = pt_text_check_file(image, engine, open_path, err);
	if (!rc && tracer->options.c_functions && !c_methods &&
	    image->engines[PY_ENGINE_C_CALLS].usable)
		rc = pt_text_check_file(image, PY_ENGINE_C_CALLS, open_path, err);
	if (rc)
		return rc;
	tracer->images[index] = (struct tracer_image){
	    .image = image, .engine = engine, .reach = reach, .c_methods = c_methods, .fd = -1};
	rc = register_image(tracer, index, err);
	if (!rc && (tracer->options.withdrawable || reach == PT_REACH_PROCESS)) {
		tracer->images[index].fd = open(open_path, O_RDONLY | O_CLOEXEC);
		if (tracer->images[index].fd < 0)
			rc = pt_err_set(err, -errno, PT_EXIT_FAILED, NULL, "cannot open '%s': %s",
					open_path, strerror(errno));
	}
	if (!rc && reach == PT_REACH_FILE && engine != PY_ENGINE_SAMPLE)
		rc = pt_links_attach_image(tracer, index, -1, open_path,
					   &tracer->images[index].links,
					   &tracer->images[index].kept, err);
	if (rc) {
		if (tracer->images[index].fd >= 0)
			close(tracer->images[index].fd);
		return rc;
	}
	tracer->image_count++;
	return index;
}

size_t pt_tracer_probe_count(const struct pt_tracer *tracer, int image_index)
{
	const struct tracer_image *slot = &tracer->images[image_index];
	const struct py_engine_plan *calls = pt_c_plan(tracer, image_index);

	return slot->image->engines[slot->engine].site_count + (calls ? calls->site_count : 0);
}

const char *pt_tracer_c_functions_refusal(const struct pt_tracer *tracer, int image_index)
{
	const struct tracer_image *slot = &tracer->images[image_index];

	if (!tracer->options.c_functions || slot->c_methods || pt_c_plan(tracer, image_index))
		return NULL;
	if (slot->engine != PY_ENGINE_FRAME)
		return "they need the frame engine";
	return slot->image->engines[PY_ENGINE_C_CALLS].reason;
}

static struct tracer_process *process_slot(struct pt_tracer *tracer, pid_t pid)
{
	struct tracer_process *grown;

	for (size_t i = 0; i < tracer->process_count; i++)
		if (tracer->processes[i].pid == pid)
			return &tracer->processes[i];
	grown = realloc(tracer->processes, (tracer->process_count + 1) * sizeof(*grown));
	if (!grown)
		return NULL;
	tracer->processes = grown;
	grown += tracer->process_count++;
	*grown = (struct tracer_process){.pid = pid};
	return grown;
}

static int set_proc(struct pt_tracer *tracer, pid_t pid, const struct pt_proc *proc)
{
	uint32_t tgid = (uint32_t)pid;
	int rc = bpf_map_update_elem(bpf_map__fd(tracer->skel->maps.procs), &tgid, proc, BPF_ANY);

	__atomic_add_fetch(&tracer->skel->bss->control.generation, 1, __ATOMIC_RELEASE);
	return rc;
}

/*
 * Tells BPF of a process. BPF changes the entry itself when the process executes another program,
 * at any time: so it is written at once after it was read, and only if something is new; a forked
 * child's is right already. What takes longer to find out goes into another map (set_since).
 */
static int set_traced(struct pt_tracer *tracer, int image_index, pid_t pid, uint64_t bias,
		      uint32_t *image_id)
{
	bool file = tracer->images[image_index].reach == PT_REACH_FILE;
	uint32_t tgid = (uint32_t)pid;
	struct pt_proc before = {0}, proc;
	bool known = !bpf_map_lookup_elem(bpf_map__fd(tracer->skel->maps.procs), &tgid, &before);

	proc = before;
	if (!known)
		proc.image_id = tracer->next_image_id++;
	/* without probes of the file it has run unseen so far */
	proc.flags = file ? (before.flags & PT_PF_START_KNOWN) | PT_PF_FILE : 0;
	if (tracer->options.follow_children)
		proc.flags |= PT_PF_FOLLOW;
	if (tracer->options.sample_hz)
		proc.flags |= PT_PF_LOCATED;
	proc.image_index = (uint32_t)image_index;
	proc.bias = bias;
	proc.since_ns = file ? pt_now_ns() : PT_SINCE_UNKNOWN;
	*image_id = proc.image_id;
	if (known && proc.flags == before.flags && proc.image_index == before.image_index &&
	    proc.bias == before.bias && before.since_ns == proc.since_ns)
		return 0;
	return set_proc(tracer, pid, &proc);
}

static int set_since(struct pt_tracer *tracer, uint32_t image_id)
{
	uint64_t since_ns = pt_now_ns();

	return bpf_map_update_elem(bpf_map__fd(tracer->skel->maps.since), &image_id, &since_ns,
				   BPF_ANY);
}

int pt_tracer_trace_process(struct pt_tracer *tracer, int image_index, pid_t pid, uint64_t bias,
			    const char *open_path, uint32_t *image_id, struct pt_err *err)
{
	const struct tracer_image *image;
	struct tracer_process *slot;
	uint32_t id;
	int rc;

	if (image_index < 0 || (size_t)image_index >= tracer->image_count)
		return -EINVAL;
	image = &tracer->images[image_index];
	rc = pt_text_check_process(image->image, image->engine, pid, bias, err);
	if (!rc && pt_c_plan(tracer, image_index))
		rc = pt_text_check_process(image->image, PY_ENGINE_C_CALLS, pid, bias, err);
	if (rc)
		return rc;
	slot = process_slot(tracer, pid);
	if (!slot)
		return pt_err_set(err, -ENOMEM, PT_EXIT_FAILED, NULL, "out of memory");
	slot->image_index = image_index;
	rc = set_traced(tracer, image_index, pid, bias, &id);
	if (rc)
		return pt_probe_error(err, rc, "add a process to the BPF maps", false);
	if (image->reach == PT_REACH_PROCESS) {
		pt_links_release(&slot->links);
		pt_links_release(&slot->kept);
		rc = pt_links_attach_image(tracer, image_index, pid, open_path, &slot->links,
					   &slot->kept, err);
		if (!rc)
			rc = set_since(tracer, id);
		if (rc) {
			pt_tracer_forget_process(tracer, pid);
			return rc;
		}
	}
	if (image_id)
		*image_id = id;
	return 0;
}

static void release_process(struct pt_tracer *tracer, pid_t pid)
{
	for (size_t i = 0; i < tracer->process_count; i++) {
		if (tracer->processes[i].pid != pid)
			continue;
		pt_links_release(&tracer->processes[i].links);
		pt_links_release(&tracer->processes[i].kept);
		tracer->processes[i] = tracer->processes[--tracer->process_count];
		return;
	}
}

void pt_tracer_forget_process(struct pt_tracer *tracer, pid_t pid)
{
	uint32_t tgid = (uint32_t)pid;

	bpf_map_delete_elem(bpf_map__fd(tracer->skel->maps.procs), &tgid);
	__atomic_add_fetch(&tracer->skel->bss->control.generation, 1, __ATOMIC_RELEASE);
	release_process(tracer, pid);
}

int pt_tracer_refuse_process(struct pt_tracer *tracer, pid_t pid)
{
	uint32_t tgid = (uint32_t)pid;
	struct pt_proc proc = {0};

	if (bpf_map_lookup_elem(bpf_map__fd(tracer->skel->maps.procs), &tgid, &proc)) {
		proc.image_id = tracer->next_image_id++;
		proc.flags = (tracer->options.follow_children ? PT_PF_FOLLOW : 0) |
			     (tracer->options.trace_all ? PT_PF_FILE : 0);
	}
	proc.flags |= PT_PF_REFUSED;
	return set_proc(tracer, pid, &proc);
}

int pt_tracer_let_go(struct pt_tracer *tracer, pid_t pid)
{
	int rc = pt_tracer_refuse_process(tracer, pid);

	release_process(tracer, pid);
	return rc;
}

bool pt_tracer_refuses(const struct pt_tracer *tracer, pid_t pid)
{
	uint32_t tgid = (uint32_t)pid;
	struct pt_proc proc;

	return !bpf_map_lookup_elem(bpf_map__fd(tracer->skel->maps.procs), &tgid, &proc) &&
	       proc.flags & PT_PF_REFUSED;
}

/* ---- recording ---- */

int pt_tracer_open_gate(struct pt_tracer *tracer, uint64_t *time_ns)
{
	struct pt_control *control = &tracer->skel->bss->control;

	if (control->gate != PT_GATE_NOT_YET)
		return -EALREADY;
	*time_ns = pt_now_ns();
	control->gate_open_ns = *time_ns;
	__atomic_store_n(&control->gate, PT_GATE_OPEN, __ATOMIC_RELEASE);
	return 0;
}

static int switch_gate(struct pt_tracer *tracer, uint32_t from, uint32_t to)
{
	/* BPF shuts the gate by itself when max_events is reached */
	return __atomic_compare_exchange_n(&tracer->skel->bss->control.gate, &from, to, false,
					   __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)
		   ? 0
		   : -EALREADY;
}

int pt_tracer_pause(struct pt_tracer *tracer, uint64_t *time_ns)
{
	struct pt_control *control = &tracer->skel->bss->control;

	if (control->gate != PT_GATE_OPEN)
		return -EALREADY;
	*time_ns = pt_now_ns();
	control->pause_ns = *time_ns;
	return switch_gate(tracer, PT_GATE_OPEN, PT_GATE_PAUSED);
}

int pt_tracer_resume(struct pt_tracer *tracer, uint64_t *time_ns)
{
	struct pt_control *control = &tracer->skel->bss->control;

	if (control->gate != PT_GATE_PAUSED)
		return -EALREADY;
	*time_ns = pt_now_ns();
	control->resume_ns = *time_ns;
	return switch_gate(tracer, PT_GATE_PAUSED, PT_GATE_OPEN);
}

/* Runs the iterator over all tasks. */
static int peek(struct pt_tracer *tracer, uint64_t older_ns)
{
	struct pt_control *control = &tracer->skel->bss->control;
	struct pt_counters *counters = &tracer->skel->bss->counters;
	char nothing[256];
	ssize_t n;
	int fd;

	control->peek_older_ns = older_ns;
	counters->peek_pending = 0;
	counters->peek_failed = 0;
	counters->peek_left_ns = 0;
	fd = bpf_iter_create(bpf_link__fd(tracer->peek_link));
	if (fd < 0)
		return -errno;
	do {
		n = read(fd, nothing, sizeof(nothing));
	} while (n > 0 || (n < 0 && (errno == EINTR || errno == EAGAIN)));
	n = n < 0 ? -errno : 0;
	close(fd);
	tracer->total_at_peek = counters->events + counters->peek_pending;
	return (int)n;
}

int pt_tracer_close_gate(struct pt_tracer *tracer, uint64_t *time_ns)
{
	struct pt_control *control = &tracer->skel->bss->control;

	tracer->stopped = control->gate == PT_GATE_REACHED;
	__atomic_store_n(&control->gate, PT_GATE_CLOSED, __ATOMIC_RELEASE);
	*time_ns = pt_now_ns();
	/* After this no program runs at a site any more: the kernel waits for those under way. */
	release_site_links(tracer);
	pt_cost_removed(tracer, *time_ns);
	tracer->closing = true;
	return peek(tracer, UINT64_MAX);
}

static void sched_fill(const struct pt_sched *s, uint32_t tid, uint64_t time_ns,
		       struct pt_rec_sched *rec)
{
	*rec = (struct pt_rec_sched){
	    .hdr = {.kind = PT_REC_SCHED,
		    .flags = PT_SCHED_OPEN,
		    .len = sizeof(*rec),
		    .tgid = s->tgid,
		    .tid = tid,
		    .image_id = s->image_id,
		    .time_ns = time_ns},
	    .run_ns = s->begin_ns > s->run_ns ? s->begin_ns : s->run_ns,
	    .seq = s->seq,
	    .cpu = s->cpu,
	};
	if (s->where == PT_SCHED_RUNNING)
		return;
	rec->out_ns = s->out_ns;
	rec->wake_ns = s->where == PT_SCHED_RUNNABLE ? s->wake_ns : 0;
	rec->state = s->state;
	rec->syscall = s->syscall;
	rec->flags = s->flags;
}

int pt_tracer_sched_rest(struct pt_tracer *tracer, uint64_t time_ns, pt_record_fn fn, void *ctx)
{
	int fd = tracer->options.sched ? bpf_map__fd(tracer->skel->maps.sched) : -1, rc = 0;
	uint32_t tid, *before = NULL;

	while (fd >= 0 && !rc && !bpf_map_get_next_key(fd, before, &tid)) {
		struct pt_rec_sched rec;
		struct pt_sched s;

		before = &tid;
		if (bpf_map_lookup_elem(fd, &tid, &s) || !s.active)
			continue;
		sched_fill(&s, tid, time_ns, &rec);
		/* what began in the moment in which the gate was closed */
		if (rec.run_ns < time_ns && rec.out_ns <= time_ns && rec.wake_ns <= time_ns)
			rc = fn(&rec.hdr, sizeof(rec), ctx);
	}
	return rc;
}

/* A program that is interrupted while it writes a record keeps all behind it from us. */
static int consume(struct pt_tracer *tracer)
{
	struct ring *ring = ring_buffer__ring(tracer->ring, 0);
	unsigned long until = ring__producer_pos(ring);
	int rc;

	tracer->handed_out = 0;
	tracer->fn_rc = 0;
	rc = ring_buffer__consume(tracer->ring);
	tracer->emptied = (long)(ring__consumer_pos(ring) - until) >= 0;
	if (rc < 0 && rc != -ECANCELED)
		return rc;
	if (tracer->fn_rc)
		return tracer->fn_rc < 0 ? tracer->fn_rc : (int)tracer->handed_out;
	return (int)tracer->handed_out;
}

int pt_tracer_poll(struct pt_tracer *tracer, int timeout_ms, pt_record_fn fn, void *ctx)
{
	struct pollfd pfd = {.fd = ring_buffer__epoll_fd(tracer->ring), .events = POLLIN};
	int rc;

	tracer->fn = fn;
	tracer->fn_ctx = ctx;
	rc = consume(tracer);
	if (rc == 0 && !tracer->closing && timeout_ms != 0) {
		/* BPF wakes us only when much is pending, so a timeout does not mean nothing */
		if (poll(&pfd, 1, timeout_ms) < 0 && errno != EINTR)
			rc = -errno;
		else
			rc = consume(tracer);
	}
	/* the last copies did not all fit; there is room now */
	if (rc >= 0 && tracer->closing && tracer->skel->bss->counters.peek_failed > 0 &&
	    !tracer->fn_rc) {
		int more = peek(tracer, UINT64_MAX);

		if (!more)
			more = consume(tracer);
		rc = more < 0 ? more : rc + more;
	}
	tracer->fn = NULL;
	return rc;
}

int pt_tracer_flush_stale(struct pt_tracer *tracer, uint64_t older_than_ns)
{
	uint64_t now = pt_now_ns();

	if (older_than_ns < PEEK_MIN_AGE_NS)
		older_than_ns = PEEK_MIN_AGE_NS;
	if (older_than_ns < tracer->options.min_duration_ns)
		older_than_ns = tracer->options.min_duration_ns; /* bpf/brief.h */
	if (tracer->closing)
		return 0;
	return peek(tracer, now > older_than_ns ? now - older_than_ns : 0);
}

int pt_tracer_flush_complete(struct pt_tracer *tracer, uint64_t *until_ns)
{
	const struct pt_counters *counters = &tracer->skel->bss->counters;
	uint64_t now = pt_now_ns(), left_ns;
	int rc = pt_tracer_flush_stale(tracer, 0);

	*until_ns = 0;
	if (rc || tracer->closing || counters->peek_failed)
		return rc;
	*until_ns = now > COMPLETE_MARGIN_NS ? now - COMPLETE_MARGIN_NS : 0;
	left_ns = counters->peek_left_ns;
	if (left_ns && left_ns < *until_ns)
		*until_ns = left_ns;
	return 0;
}

int pt_tracer_poll_fd(const struct pt_tracer *tracer)
{
	return ring_buffer__epoll_fd(tracer->ring);
}

uint64_t pt_tracer_arrivals(const struct pt_tracer *tracer)
{
	return __atomic_load_n(&tracer->skel->bss->counters.arrivals, __ATOMIC_ACQUIRE);
}

bool pt_tracer_emptied(const struct pt_tracer *tracer)
{
	return tracer->emptied;
}

void pt_tracer_stats(const struct pt_tracer *tracer, struct pt_tracer_stats *stats)
{
	const struct pt_counters *counters = &tracer->skel->bss->counters;

	memset(stats, 0, sizeof(*stats));
	stats->events = counters->events;
	if (tracer->total_at_peek > stats->events)
		stats->events = tracer->total_at_peek;
	stats->lost_events = counters->lost_events;
	stats->lost_records = counters->lost_records;
	stats->resyncs = counters->resyncs;
	stats->batches = counters->batches;
	stats->missed = counters->missed;
	stats->c_too_deep = counters->c_too_deep;
	stats->sched_full = counters->sched_full;
	stats->off_cpu_full = counters->off_cpu_full;
	stats->cuda_missed = counters->cuda_missed;
	stats->torch_missed = counters->torch_missed;
	stats->stacks_missed = counters->stacks_missed;
	stats->stopped = tracer->stopped || tracer->skel->bss->control.gate == PT_GATE_REACHED;
	stats->triggered = counters->stop_on ||
			   (tracer->options.count && counters->windows >= tracer->options.count);
	for (size_t i = 0; i < tracer->image_count; i++)
		stats->links += tracer->images[i].links.count;
	for (size_t i = 0; i < tracer->process_count; i++)
		stats->links += tracer->processes[i].links.count;
	for (size_t i = 0; i < tracer->cuda_count; i++)
		stats->links += tracer->cuda[i].count;
	for (size_t i = 0; i < tracer->methods_count; i++)
		stats->links += tracer->methods[i].count;
	stats->links += tracer->marks.count + tracer->samples.count;
}

const char *pt_tracer_link_kind(const struct pt_tracer *tracer)
{
	if (tracer->options.sample_hz)
		return "a clock of each CPU";
	for (size_t i = 0; i < tracer->image_count; i++)
		if (pt_links_multi(tracer, tracer->images[i].reach == PT_REACH_PROCESS))
			return "uprobe.multi";
	return "perf uprobes";
}
