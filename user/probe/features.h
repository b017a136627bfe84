/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * features.h - what this kernel offers, one lazily cached test a row (features.c has the table).
 */
#ifndef PT_PROBE_FEATURES_H
#define PT_PROBE_FEATURES_H

#include <stdbool.h>
#include <stddef.h>

enum pt_feature {
	PT_FEAT_PRIVILEGE,     /* CAP_BPF + CAP_PERFMON + CAP_SYS_PTRACE, or CAP_SYS_ADMIN */
	PT_FEAT_LOCKDOWN_OFF,  /* kernel lockdown does not forbid reading user memory from BPF */
	PT_FEAT_BTF,           /* /sys/kernel/btf/vmlinux; 5.2 */
	PT_FEAT_RINGBUF,       /* 5.8 */
	PT_FEAT_UPROBE,        /* perf's uprobe PMU; 4.17 */
	PT_FEAT_TP_BTF,        /* BPF_TRACE_RAW_TP with BTF; 5.5 */
	PT_FEAT_TASK_ITER,     /* iter/task; 5.8 */
	PT_FEAT_TASK_STORAGE,  /* task local storage in tracing programs; 5.11. Fallback: a hash */
	PT_FEAT_ATTACH_COOKIE, /* bpf_get_attach_cookie; 5.15. Fallback: a map keyed by address */
	PT_FEAT_UPROBE_MULTI,  /* 6.6. Fallback: one perf event a site */
	PT_FEAT_TASK_REGS,     /* bpf_task_pt_regs; 5.15. Fallback: where they lie on the stack */
	PT_FEAT_SCHED,         /* sched_switch and sched_wakeup as they are expected; for --sched */
	PT_FEAT_COUNT
};

struct pt_feature_result {
	bool available;
	bool required;            /* nothing works without it */
	const char *name, *since; /* static text, for example "uprobe.multi", "Linux 6.6" */
	char reason[256];         /* why not */
	char remedy[256];         /* what the user can do, or which fallback is used */
};

const struct pt_feature_result *pt_feature(enum pt_feature feature);

/* Whether nothing works without it, without asking for it. */
bool pt_feature_required(enum pt_feature feature);

/* Gives back the memory that the tests share; what they found stays, and they may run again. */
void pt_features_release(void);

/* Does this process have CAP_SYS_ADMIN? */
bool pt_has_sys_admin(void);

#endif
