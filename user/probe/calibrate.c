// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * calibrate.c - runs one small function per instruction class many times with a uprobe on it.
 *
 * A kernel either emulates a probed instruction or copies it out and single-steps it, which costs
 * ten times as much; which it emulates has changed between versions. Each function below holds one
 * instruction of its class at a label. All are probed at once (attaching and detaching wait for
 * RCU, the hits themselves take some 15 ms in all), with a program that returns at once. A class is
 * taken as emulated if it costs less than half of what the one class costs that no kernel emulates.
 */
#include "probe/calibrate.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/bpf.h>
#include <linux/perf_event.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "base/thread.h"
#include "probe/parallel.h"

#if !defined(__x86_64__)
#error "calibration knows the instructions of x86-64 only"
#endif

#define HITS 256

/* One function a class, the probed instruction at *_site. ZF is set before the jcc, which jumps to
 * the next instruction either way. */
__asm__(".pushsection .text\n"
	"pt_cal_jcc: xor %eax, %eax\n"
	"pt_cal_jcc_site: je 1f\n"
	"1: ret\n"
	"pt_cal_jmp:\n"
	"pt_cal_jmp_site: jmp 1f\n"
	"1: ret\n"
	"pt_cal_call:\n"
	"pt_cal_call_site: call 1f\n"
	"1: ret\n"
	"pt_cal_push:\n"
	"pt_cal_push_site: push %rax\n"
	"pop %rax\n"
	"ret\n"
	"pt_cal_nop1:\n"
	"pt_cal_nop1_site: nop\n"
	"ret\n"
	"pt_cal_nop_long:\n"
	"pt_cal_nop_long_site: .byte 0x0f, 0x1f, 0x40, 0x00\n"
	"ret\n"
	"pt_cal_nop5:\n"
	"pt_cal_nop5_site: .byte 0x0f, 0x1f, 0x44, 0x00, 0x00\n"
	"ret\n"
	"pt_cal_other:\n"
	"pt_cal_other_site: mov %eax, %eax\n"
	"ret\n"
	".popsection\n");

#define DECLARE(name)                                                                              \
	extern void pt_cal_##name(void);                                                           \
	extern const char pt_cal_##name##_site[];
DECLARE(jcc)
DECLARE(jmp)
DECLARE(call)
DECLARE(push)
DECLARE(nop1)
DECLARE(nop_long)
DECLARE(nop5)
DECLARE(other)

static const struct {
	const char *name;
	void (*run)(void);
	const char *site;
} probes[PY_INSN_CLASS_COUNT] = {
    [PY_INSN_JCC] = {"jcc", pt_cal_jcc, pt_cal_jcc_site},
    [PY_INSN_JMP] = {"jmp", pt_cal_jmp, pt_cal_jmp_site},
    [PY_INSN_CALL] = {"call", pt_cal_call, pt_cal_call_site},
    [PY_INSN_PUSH] = {"push", pt_cal_push, pt_cal_push_site},
    [PY_INSN_NOP1] = {"nop1", pt_cal_nop1, pt_cal_nop1_site},
    [PY_INSN_NOP_LONG] = {"nop_long", pt_cal_nop_long, pt_cal_nop_long_site},
    [PY_INSN_NOP5] = {"nop5", pt_cal_nop5, pt_cal_nop5_site},
    [PY_INSN_OTHER] = {"other", pt_cal_other, pt_cal_other_site},
};

static double time_calls(void (*run)(void))
{
	double best = 1e18;

	for (int round = 0; round < 4; round++) {
		struct timespec a, b;
		double ns;

		clock_gettime(CLOCK_MONOTONIC, &a);
		for (int i = 0; i < HITS / 4; i++)
			run();
		clock_gettime(CLOCK_MONOTONIC, &b);
		ns = (double)(b.tv_sec - a.tv_sec) * 1e9 + (double)(b.tv_nsec - a.tv_nsec);
		if (ns < best)
			best = ns;
	}
	return best / (HITS / 4);
}

/* Where an address of this program lies in its file. */
static int file_offset(uint64_t addr, uint64_t *offset)
{
	FILE *maps = fopen("/proc/self/maps", "re");
	char line[512];
	int rc = -ENOENT;

	if (!maps)
		return -errno;
	while (fgets(line, sizeof(line), maps)) {
		uint64_t start, end, base;

		if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %*s %" SCNx64, &start, &end, &base) ==
			3 &&
		    addr >= start && addr < end) {
			*offset = addr - start + base;
			rc = 0;
			break;
		}
	}
	fclose(maps);
	return rc;
}

static int uprobe_type(void)
{
	FILE *file = fopen("/sys/bus/event_source/devices/uprobe/type", "re");
	int type = -1;

	if (file) {
		if (fscanf(file, "%d", &type) != 1)
			type = -1;
		fclose(file);
	}
	return type;
}

static int empty_program(void)
{
	struct bpf_insn insns[] = {{.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 0, .imm = 0},
				   {.code = BPF_JMP | BPF_EXIT}};
	int fd = bpf_prog_load(BPF_PROG_TYPE_KPROBE, NULL, "GPL", insns, 2, NULL);

	return fd < 0 ? -errno : fd;
}

static int probe_site(int type, int program, uint64_t offset)
{
	struct perf_event_attr attr = {
	    .type = (uint32_t)type,
	    .size = sizeof(attr),
	    .config1 = (uint64_t)(uintptr_t) "/proc/self/exe",
	    .config2 = offset,
	};
	int fd, rc;

	/* not 0: that would be the helper thread that runs this, and end with it */
	fd = (int)syscall(SYS_perf_event_open, &attr, getpid(), -1, -1, PERF_FLAG_FD_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (ioctl(fd, PERF_EVENT_IOC_SET_BPF, program) || ioctl(fd, PERF_EVENT_IOC_ENABLE, 0)) {
		rc = -errno;
		close(fd);
		return rc;
	}
	return fd;
}

struct probing {
	int type, program;
	int fds[PY_INSN_CLASS_COUNT]; /* or -errno */
};

static void probe_class(size_t i, void *ctx)
{
	struct probing *probing = ctx;
	uint64_t offset = 0;
	int rc = file_offset((uint64_t)(uintptr_t)probes[i].site, &offset);

	probing->fds[i] = rc ? rc : probe_site(probing->type, probing->program, offset);
}

static void unprobe_class(size_t i, void *ctx)
{
	struct probing *probing = ctx;

	if (probing->fds[i] >= 0)
		close(probing->fds[i]);
}

/* Detaching waits for RCU; nobody has to wait for that but who ends the program: a thread that is
 * killed in the middle of it makes the kernel leak the probe ("failed to unregister", 6.18). */
static void *unprobe_all(void *arg)
{
	struct probing *probing = arg;

	pt_parallel(PY_INSN_CLASS_COUNT, unprobe_class, probing);
	close(probing->program);
	free(probing);
	return NULL;
}

static pthread_t unprobing;
static bool unprobing_runs;

static void unprobe_wait(void)
{
	if (unprobing_runs)
		pthread_join(unprobing, NULL);
	unprobing_runs = false;
}

static void unprobe_later(struct probing *probing)
{
	static bool asked;

	unprobe_wait();
	if (!asked)
		asked = !atexit(unprobe_wait);
	unprobing_runs = asked && !pt_thread_start(&unprobing, unprobe_all, probing);
	if (!unprobing_runs)
		unprobe_all(probing);
}

static void judge(struct pt_calibration *result)
{
	double slow = result->ns[PY_INSN_OTHER];

	result->emulated = 0;
	for (int i = 0; i < PY_INSN_OTHER; i++)
		if (result->ns[i] > 0 && result->ns[i] * 2 < slow)
			result->emulated |= 1u << i;
}

static int measure(struct pt_calibration *result)
{
	struct probing *probing = calloc(1, sizeof(*probing));
	int rc = 0;

	if (!probing)
		return -ENOMEM;
	probing->type = uprobe_type();
	probing->program = probing->type < 0 ? -ENOTSUP : empty_program();
	if (probing->program < 0) {
		rc = probing->program;
		free(probing);
		return rc;
	}
	pt_parallel(PY_INSN_CLASS_COUNT, probe_class, probing);
	for (int i = 0; i < PY_INSN_CLASS_COUNT; i++) {
		int fd = probing->fds[i];

		if (fd >= 0)
			continue;
		pt_debug("calibration: cannot probe '%s': %s", probes[i].name, strerror(-fd));
		/* an instruction that this kernel refuses is no place for a probe */
		if (fd == -EPERM || fd == -EACCES || i == PY_INSN_OTHER)
			rc = fd;
	}
	for (int i = 0; i < PY_INSN_CLASS_COUNT && !rc; i++) {
		if (probing->fds[i] >= 0)
			result->ns[i] = time_calls(probes[i].run);
		pt_debug("calibration: %s %.0f ns", probes[i].name, result->ns[i]);
	}
	unprobe_later(probing);
	if (!rc)
		judge(result);
	return rc;
}

/* ---- the cache: one line, "KERNEL BOOT_ID EMULATED NS NS ..", written whole by rename ---- */

static void cache_key(char *key, size_t size)
{
	FILE *file = fopen("/proc/sys/kernel/random/boot_id", "re");
	char boot[64] = "-";
	struct utsname name;

	if (file) {
		if (fscanf(file, "%63s", boot) != 1)
			snprintf(boot, sizeof(boot), "-");
		fclose(file);
	}
	uname(&name);
	snprintf(key, size, "%.80s %.60s", name.release, boot);
}

static bool cache_read(const char *path, const char *key, struct pt_calibration *result)
{
	FILE *file = fopen(path, "re");
	struct pt_calibration found = {0};
	size_t len = strlen(key);
	char line[512];
	bool ok = false;
	int used = 0;

	if (!file)
		return false;
	if (fgets(line, sizeof(line), file) && !strncmp(line, key, len) && line[len] == ' ' &&
	    sscanf(line + len, "%x%n", &found.emulated, &used) == 1) {
		const char *at = line + len + used;

		ok = true;
		for (int i = 0; i < PY_INSN_CLASS_COUNT && ok; i++) {
			ok = sscanf(at, "%lf%n", &found.ns[i], &used) == 1;
			at += used;
		}
	}
	fclose(file);
	if (ok && !(found.emulated >> PY_INSN_OTHER) && found.emulated) {
		*result = found;
		result->from_cache = true;
		return true;
	}
	return false;
}

static void cache_write(const char *path, const char *key, const struct pt_calibration *result)
{
	char temporary[4200];
	FILE *file;
	bool ok;

	snprintf(temporary, sizeof(temporary), "%s.%d.tmp", path, getpid());
	file = fopen(temporary, "we");
	if (!file) {
		pt_debug("calibration: cannot write '%s': %s", temporary, strerror(errno));
		return;
	}
	fprintf(file, "%s %x", key, result->emulated);
	for (int i = 0; i < PY_INSN_CLASS_COUNT; i++)
		fprintf(file, " %.1f", result->ns[i]);
	fputc('\n', file);
	ok = !ferror(file);
	ok = !fclose(file) && ok;
	if (!ok || rename(temporary, path)) {
		pt_debug("calibration: cannot write '%s': %s", path, strerror(errno));
		unlink(temporary);
	}
}

int pt_calibrate(const char *cache_dir, struct pt_calibration *result, struct pt_err *err)
{
	char path[4096], key[160];
	int rc;

	memset(result, 0, sizeof(*result));
	cache_key(key, sizeof(key));
	if (cache_dir) {
		snprintf(path, sizeof(path), "%s/calibration", cache_dir);
		if (cache_read(path, key, result))
			return 0;
	}
	rc = measure(result);
	if (rc == -EPERM || rc == -EACCES)
		return pt_err_set(err, rc, PT_EXIT_PERMISSION, "Run with sudo.",
				  "cannot measure what a probe costs here: %s", strerror(-rc));
	if (rc || !result->emulated) {
		memset(result->ns, 0, sizeof(result->ns));
		result->emulated = PY_INSN_EMULATED_DEFAULT;
		pt_debug("calibration failed (%s); assuming what every kernel since 5.10 emulates",
			 rc ? strerror(-rc) : "nothing looks emulated");
		return 0;
	}
	if (cache_dir)
		cache_write(path, key, result);
	return 0;
}
