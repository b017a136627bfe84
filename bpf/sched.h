/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * sched.h - what the scheduler does with a thread (--sched): it runs, is blocked, is runnable.
 *
 * sched_switch and sched_wakeup run with the run queue locked, so of one thread they come in order
 * and never at once, on whatever CPU. They may interrupt the thread's own probe in the middle of
 * its batch; so nothing here touches struct thread but by the thread itself, and each time that it
 * gets a CPU again one record tells what went before (80 bytes).
 *
 * sched_waking comes before sched_wakeup, but also for a thread that is only about to be switched
 * out; at sched_wakeup it is in a run queue.
 *
 * When the gate is shut, what a thread does then is in the map.
 *
 * Cost: two hash lookups a context switch and one a wakeup, of any thread; nothing without --sched.
 */
#ifndef PT_BPF_SCHED_H
#define PT_BPF_SCHED_H

#include "emit.h"

/* include/linux/sched.h: TASK_INTERRUPTIBLE .. TASK_DEAD. All of them: the state is not known. */
#define SCHED_STATES 0xffu

/* The whole of a thread's kernel stack: THREAD_SIZE of x86-64
 * (arch/x86/include/asm/page_64_types.h) without KASAN. Only before 5.15, and what is found there
 * is checked. */
#define STACK_BYTES  16384
#define USER_CS_MASK 3

static __always_inline struct pt_sched *sched_find(__u32 tid)
{
	return bpf_map_lookup_elem(&sched, &tid);
}

static __always_inline __u64 sched_run_ns(const struct pt_sched *s)
{
	return s->begin_ns > s->run_ns ? s->begin_ns : s->run_ns;
}

static __always_inline void sched_send(struct pt_sched *s, __u32 tid, __u64 out_ns, __u64 in_ns,
				       __u16 rec_flags)
{
	struct pt_rec_sched rec = {};

	rec_init(&rec.hdr, PT_REC_SCHED, sizeof(rec), (__u64)s->tgid << 32 | tid, s->image_id,
		 in_ns ? in_ns : out_ns);
	rec.hdr.flags = rec_flags;
	rec.run_ns = sched_run_ns(s);
	rec.out_ns = out_ns;
	rec.in_ns = in_ns;
	rec.seq = s->seq++;
	rec.cpu = s->cpu;
	if (in_ns) {
		rec.wake_ns = s->wake_ns;
		rec.state = s->state;
		rec.syscall = s->syscall;
		rec.flags = s->flags;
	}
	rec_send(&rec, sizeof(rec));
}

/* Recording goes on, or the turn began before the pause. */
static __always_inline bool sched_wanted(const struct pt_sched *s)
{
	__u32 gate = *(volatile __u32 *)&control.gate;

	return s->active && (gate == PT_GATE_OPEN || gate == PT_GATE_REACHED ||
			     (gate == PT_GATE_PAUSED && sched_run_ns(s) < control.pause_ns));
}

/* The recording is over: what is in the map stays as it was then, for user space to read. */
static __always_inline bool sched_over(void)
{
	return *(volatile __u32 *)&control.gate == PT_GATE_CLOSED;
}

/*
 * Under heavy load 6.18 was seen to switch between threads without a word to anybody, its own
 * tracing included. It counts each switch before it tells of it (__schedule()), so a thread's
 * count says how many were not told of. Their turns are missing as if their records had been lost,
 * and so their place is shown.
 */
static __always_inline __u32 sched_count(struct task_struct *task)
{
	return (__u32)(task->nvcsw + task->nivcsw);
}

static __always_inline __u32 sched_count_own(void)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();

	return (__u32)(BPF_CORE_READ(task, nvcsw) + BPF_CORE_READ(task, nivcsw));
}

/* The switches from the thread since the last that was told of; a count that is behind is none. */
static __always_inline __u32 sched_switches_since(const struct pt_sched *s, __u32 count)
{
	return (__s32)(count - s->switches) > 0 ? count - s->switches : 0;
}

static __always_inline void sched_missing(struct pt_sched *s, __u32 turns, __u64 now)
{
	s->seq += turns;
	s->run_ns = now;
}

/* The current thread is switched from meanwhile or not: in the end the count is that of the last
 * switch. */
static __always_inline void sched_begin_count(struct pt_sched *s)
{
	for (int i = 0; i < 3; i++) {
		__u32 count = sched_count_own();

		*(volatile __u32 *)&s->switches = count;
		asm volatile("" ::: "memory");
		if (sched_count_own() == count)
			break;
	}
}

/* The current thread's states are recorded from now on. */
__noinline int sched_begin_id(__u32 image_id)
{
	__u64 id = bpf_get_current_pid_tgid();
	struct pt_sched fresh = {}, *s;
	__u32 tid = (__u32)id;

	if (!want_sched)
		return 0;
	s = sched_find(tid);
	if (!s) {
		/* from here on the tracepoints follow it: begin_ns is later than what they miss */
		bpf_map_update_elem(&sched, &tid, &fresh, BPF_NOEXIST);
		s = sched_find(tid);
	}
	if (!s) {
		count_add(&counters.sched_full, 1);
		return 0;
	}
	if (s->image_id != image_id)
		s->seq = 0;
	s->tgid = id >> 32;
	s->image_id = image_id;
	s->cpu = bpf_get_smp_processor_id();
	sched_begin_count(s);
	s->begin_ns = bpf_ktime_get_ns();
	asm volatile("" ::: "memory");
	s->active = 1;
	return 0;
}

/* tid: the current thread's, as it was when its states began. */
__noinline int sched_end_tid(__u32 tid)
{
	struct pt_sched *s;
	__u64 run_ns, now;
	__u32 turns;

	if (!want_sched)
		return 0;
	s = sched_find(tid);
	if (!s || !s->active || sched_over())
		return 0;
	s->active = 0;
	asm volatile("" ::: "memory");
	turns = sched_switches_since(s, sched_count_own());
	if (*(volatile __u32 *)&s->where != PT_SCHED_RUNNING)
		turns++;
	now = bpf_ktime_get_ns();
	if (turns)
		sched_missing(s, turns, now);
	run_ns = sched_run_ns(s);
	now = bpf_ktime_get_ns();
	/* it lost the CPU just here, which is not recorded: nor is what it did before that */
	if (run_ns != sched_run_ns(s))
		now = run_ns = sched_run_ns(s);
	sched_send(s, tid, now, 0, PT_SCHED_END);
	return 0;
}

static __always_inline void sched_begin(const struct thread *t)
{
	if (want_sched)
		sched_begin_id(t->image_id);
}

static __always_inline void sched_end(const struct thread *t)
{
	if (want_sched)
		sched_end_tid((__u32)t->pid_tgid);
}

static __always_inline void sched_forget(__u32 tid)
{
	if (want_sched && !sched_over())
		bpf_map_delete_elem(&sched, &tid);
}

#if defined(__TARGET_ARCH_x86)

/* Where the task's registers in user mode lie, if they do: regs, or 0. */
static __always_inline __u64 sched_regs_checked(__u64 regs)
{
	__u64 cs = 0;

	if (bpf_probe_read_kernel(&cs, 8, (void *)(regs + offsetof(struct pt_regs, cs))) ||
	    (cs & 0xffff & ~USER_CS_MASK) != 0x30 || (cs & USER_CS_MASK) != USER_CS_MASK)
		return 0;
	return regs;
}

static __always_inline __u64 sched_regs_old(__u64 stack)
{
	return sched_regs_checked(stack + STACK_BYTES - sizeof(struct pt_regs));
}

/* The system call that the task is in: the kernel puts -1 there at exceptions and interrupts
 * (arch/x86/entry/entry_64.S, idtentry_body). */
static __always_inline __s16 sched_syscall(struct task_struct *task)
{
	__s64 call = 0;
	__u64 regs;

	if (use_task_regs)
		regs = sched_regs_checked((__u64)bpf_task_pt_regs(task));
	else
		regs = sched_regs_old((__u64)task->stack);
	if (!regs ||
	    bpf_probe_read_kernel(&call, 8, (void *)(regs + offsetof(struct pt_regs, orig_ax))))
		return PT_SCHED_CALL_UNKNOWN;
	if (call < 0)
		return PT_SCHED_NO_CALL;
	return call > 0x7fff ? PT_SCHED_CALL_UNKNOWN : (__s16)call;
}

#else

static __always_inline __u64 sched_regs_checked(__u64 regs)
{
	return 0;
}

static __always_inline __u64 sched_regs_old(__u64 stack)
{
	return 0;
}

static __always_inline __s16 sched_syscall(struct task_struct *task)
{
	return PT_SCHED_CALL_UNKNOWN;
}

#endif

/* The state is taken from the task and not from the tracepoint's argument, which some kernels do
 * not have, and which others leave as it was if a signal kept the task from being blocked. Nothing
 * can set it to running before the switch is over. */
static __always_inline __u32 sched_state(struct task_struct *task)
{
	struct task_struct___old *old = (void *)task;

	if (bpf_core_field_exists(task->__state))
		return task->__state;
	return BPF_CORE_READ(old, state);
}

static __always_inline void sched_out(struct task_struct *task, bool preempt, __u64 now)
{
	struct pt_sched *s = sched_find(task->pid);
	__u32 state, count = sched_count(task), turns;

	if (!s)
		return;
	turns = sched_switches_since(s, count - 1);
	if (s->where != PT_SCHED_RUNNING)
		turns++;
	if (turns && sched_wanted(s))
		sched_missing(s, turns, now);
	s->switches = count;
	state = preempt ? 0 : sched_state(task);
	s->out_ns = now;
	s->wake_ns = 0;
	s->cpu = bpf_get_smp_processor_id();
	s->state = state & SCHED_STATES;
	s->flags = 0;
	if (!state) {
		s->where = PT_SCHED_RUNNABLE;
		s->wake_ns = now;
		s->syscall = PT_SCHED_CALL_UNKNOWN;
		return;
	}
	s->where = PT_SCHED_BLOCKED;
	/* TASK_WAKING: somebody wakes it up, who waits for the switch to be over; what it was
	 * before is gone */
	if (!s->state)
		s->state = SCHED_STATES;
	s->syscall = sched_syscall(task);
	if (BPF_CORE_READ_BITFIELD_PROBED(task, in_iowait))
		s->flags = PT_SCHED_IO;
}

static __always_inline void sched_in(struct task_struct *task, __u64 now)
{
	__u32 tid = task->pid;
	struct pt_sched *s = sched_find(tid);
	__u32 count = sched_count(task), untold;

	if (!s)
		return;
	untold = sched_switches_since(s, count);
	if (!sched_wanted(s))
		;
	else if (s->where == PT_SCHED_RUNNING)
		sched_missing(s, untold ? untold : 1, now);
	else if (untold)
		sched_missing(s, untold + 1, now);
	else
		sched_send(s, tid, s->out_ns, now, 0);
	s->switches = count;
	s->where = PT_SCHED_RUNNING;
	s->run_ns = now;
}

static __always_inline int sched_switched(bool preempt, struct task_struct *prev,
					  struct task_struct *next)
{
	__u64 now = bpf_ktime_get_ns();

	if (sched_over())
		return 0;
	sched_out(prev, preempt, now);
	sched_in(next, now);
	return 0;
}

static __always_inline int sched_woken(struct task_struct *task)
{
	struct pt_sched *s;

	if (sched_over())
		return 0;
	s = sched_find(task->pid);
	if (!s || s->where != PT_SCHED_BLOCKED)
		return 0;
	s->wake_ns = bpf_ktime_get_ns();
	s->where = PT_SCHED_RUNNABLE;
	return 0;
}

#endif /* PT_BPF_SCHED_H */
