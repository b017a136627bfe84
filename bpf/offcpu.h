/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * offcpu.h - how long threads are blocked, and where (--off-cpu, with --engine sample).
 *
 * When a traced thread is switched out to wait, its stack is what it will be until it runs again:
 * it is read then, by sample.h, as only then its memory is at hand; that it waited long enough to
 * be told is known when it is switched in, and then the record is sent. Both run with interrupts
 * off, so the clock's program does not come in between: they share what is per CPU.
 *
 * Cost: a look-up in each of two hashes a context switch of any thread; of one that blocks, a stack
 * (sample.h) and 2 KB copied. So no more than OFF_CPU_STACKS stacks a second are read on a CPU;
 * what blocks beyond has its time and its cause, and no frames.
 */
#ifndef PT_BPF_OFFCPU_H
#define PT_BPF_OFFCPU_H

#include "sample.h"

#define OFF_CPU_STACKS    1000 /* 25 us each (docs/SAMPLING.md): 2.5 % of a CPU */
#define OFF_CPU_SECOND_NS 1000000000ull
#define OFF_CPU_DEAD      0xb0u /* EXIT_DEAD, EXIT_ZOMBIE, TASK_DEAD (include/linux/sched.h) */

const volatile __u64 off_cpu_min_ns; /* what is shorter is not told */

struct off_cpu_value {
	struct pt_rec_blocked rec;
	__u32 frames[PT_SAMPLE_FRAMES_MAX];
};
_Static_assert(sizeof(struct off_cpu_value) == PT_OFF_CPU_BYTES, "user space reads it");

struct off_cpu_state {
	struct off_cpu_value value;
	__u64 second_ns; /* this second began then .. */
	__u32 stacks;    /* and has so many */
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct off_cpu_state);
} off_cpu_states SEC(".maps");

/* The threads that are blocked. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, PT_OFF_CPU_MAX);
	__type(key, __u32); /* tid */
	__type(value, struct off_cpu_value);
} off_cpu SEC(".maps");

static __always_inline bool off_cpu_affordable(struct off_cpu_state *o, __u64 now)
{
	if (now - o->second_ns >= OFF_CPU_SECOND_NS) {
		o->second_ns = now;
		o->stacks = 0;
	}
	return o->stacks++ < OFF_CPU_STACKS;
}

/* What sample.h has found. */
static __always_inline void off_cpu_stack(struct off_cpu_state *o, const struct sample_state *s)
{
	__u32 count = s->rec.frame_count;
	__u64 bytes = 4ull * count;

	o->value.rec.hdr.flags = s->rec.hdr.flags;
	opaque(bytes);
	if (bytes > sizeof(o->value.frames) ||
	    bpf_probe_read_kernel(o->value.frames, bytes, s->frames))
		return;
	o->value.rec.frame_count = count;
}

static __always_inline void off_cpu_out(struct task_struct *task, __u32 state, __u64 now)
{
	__u32 tid = task->pid, tgid = task->tgid, zero = 0;
	__u64 id = (__u64)tgid << 32 | tid;
	struct off_cpu_state *o;
	struct sample_state *s;
	struct pt_proc *proc;

	if (!state || state & OFF_CPU_DEAD || *(volatile __u32 *)&control.gate != PT_GATE_OPEN)
		return;
	proc = bpf_map_lookup_elem(&procs, &tgid);
	if (!proc || proc->flags & PT_PF_REFUSED)
		return;
	o = bpf_map_lookup_elem(&off_cpu_states, &zero);
	s = sample_get();
	if (!o || !s)
		return;
	rec_init(&o->value.rec.hdr, PT_REC_BLOCKED, 0, id, proc->image_id, 0);
	o->value.rec.out_ns = now;
	o->value.rec.period_ns = sample_period_ns;
	o->value.rec.state = state & SCHED_STATES ? state & SCHED_STATES : SCHED_STATES;
	o->value.rec.syscall = sched_syscall(task);
	o->value.rec.why = BPF_CORE_READ_BITFIELD_PROBED(task, in_iowait) ? PT_SCHED_IO : 0;
	o->value.rec.frame_count = 0;
	bpf_get_current_comm(o->value.rec.comm, sizeof(o->value.rec.comm));
	if (off_cpu_affordable(o, now)) {
		sample_look(s, task, id, proc, now);
		off_cpu_stack(o, s);
	} else {
		o->value.rec.hdr.flags = PT_SAMPLE_SKIPPED;
	}
	if (bpf_map_update_elem(&off_cpu, &tid, &o->value, BPF_ANY))
		count_add(&counters.off_cpu_full, 1);
}

static __always_inline void off_cpu_send(struct off_cpu_value *value, __u64 now)
{
	__u32 count = value->rec.frame_count;
	__u64 len;

	opaque(count);
	if (count > PT_SAMPLE_FRAMES_MAX)
		return;
	if (count < PT_SAMPLE_FRAMES_MAX)
		value->frames[count] = 0; /* the padding */
	len = (sizeof(value->rec) + 4 * count + 7) & ~7ull;
	value->rec.hdr.len = len;
	value->rec.hdr.time_ns = now;
	opaque(len);
	if (len <= sizeof(*value))
		rec_send(value, len);
}

/* A pause in between leaves it out: what the thread did then is not to be told. */
static __always_inline void off_cpu_in(struct task_struct *task, __u64 now)
{
	__u32 tid = task->pid;
	struct off_cpu_value *value = bpf_map_lookup_elem(&off_cpu, &tid);

	if (!value)
		return;
	if (*(volatile __u32 *)&control.gate == PT_GATE_OPEN &&
	    value->rec.out_ns > control.pause_ns && now - value->rec.out_ns >= off_cpu_min_ns)
		off_cpu_send(value, now);
	bpf_map_delete_elem(&off_cpu, &tid);
}

static __always_inline int off_cpu_switched(bool preempt, struct task_struct *prev,
					    struct task_struct *next)
{
	__u64 now = bpf_ktime_get_ns();

	if (sched_over()) /* what is in the map now is for user space */
		return 0;
	off_cpu_in(next, now);
	off_cpu_out(prev, preempt ? 0 : sched_state(prev), now);
	return 0;
}

#endif /* PT_BPF_OFFCPU_H */
