/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * thread.h - finding the current thread's state.
 *
 * Task storage costs about 7 ns and goes away with the thread. The hash costs about 25 ns, holds
 * 2048 threads and is cleared in sched_process_exit.
 */
#ifndef PT_BPF_THREAD_H
#define PT_BPF_THREAD_H

#include "maps.h"

/* The current thread's state, or NULL if it has none (yet). */
static __always_inline struct thread *thread_get(void)
{
	__u32 tid;

	if (use_task_storage)
		return bpf_task_storage_get(&threads, bpf_get_current_task_btf(), NULL, 0);
	tid = (__u32)bpf_get_current_pid_tgid();
	return bpf_map_lookup_elem(&threads_by_tid, &tid);
}

/* What lies below the thread state's frames is not known, or nothing does. */
static __always_inline void nest_forget(struct thread *t)
{
	t->below = 0;
	t->base = 0;
}

/* Makes it if need be; NULL if there is no memory. */
static __always_inline struct thread *thread_make(void)
{
	struct thread *t = thread_get();
	__u32 tid, zero = 0;

	if (t)
		return t;
	if (use_task_storage) {
		t = bpf_task_storage_get(&threads, bpf_get_current_task_btf(), NULL,
					 BPF_LOCAL_STORAGE_GET_F_CREATE);
		/* the allocator's per-CPU stock is small; it was refilled by now */
		if (!t)
			t = bpf_task_storage_get(&threads, bpf_get_current_task_btf(), NULL,
						 BPF_LOCAL_STORAGE_GET_F_CREATE);
		return t;
	}
	t = bpf_map_lookup_elem(&thread_template, &zero);
	if (!t)
		return NULL;
	tid = (__u32)bpf_get_current_pid_tgid();
	bpf_map_update_elem(&threads_by_tid, &tid, t, BPF_NOEXIST);
	return bpf_map_lookup_elem(&threads_by_tid, &tid);
}

/* A thread's id in its innermost pid namespace, or 0. */
static __always_inline __u32 task_ns_tid(struct task_struct *task)
{
	struct pid *pid = BPF_CORE_READ(task, thread_pid);
	__u32 level, nr = 0;
	__u64 addr;

	if (!pid)
		return 0;
	level = BPF_CORE_READ(pid, level);
	if (level > 32) /* MAX_PID_NS_LEVEL, include/linux/pid_namespace.h */
		return 0;
	addr = (__u64)pid + bpf_core_field_offset(struct pid, numbers) +
	       level * bpf_core_type_size(struct upid) + bpf_core_field_offset(struct upid, nr);
	bpf_probe_read_kernel(&nr, sizeof(nr), (const void *)addr);
	return nr;
}

#endif /* PT_BPF_THREAD_H */
