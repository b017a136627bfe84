/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * offcpu.h - how long threads are blocked, and where (--off-cpu, with --engine sample).
 *
 * When a traced thread is switched out to wait, its stack is what it will be until it runs again:
 * it is read then, by sample.h, as only then its memory is at hand; that it waited long enough to
 * be told is known when it is switched in, and then the record is sent. Both run with interrupts
 * off, so the clock's program does not come in between: they share what is per CPU.
 *
 * With --native the registers and a piece of the native stack are copied then, too, into a slot,
 * and sent from there. Where all slots are taken the block has no native frames.
 *
 * Cost: a look-up in each of two hashes a context switch of any thread; of one that blocks, a stack
 * (sample.h) and 4 KB copied. So no more than OFF_CPU_STACKS stacks a second are read on a CPU;
 * what blocks beyond has its time and its cause, and no frames. --native adds some 3 us.
 */
#ifndef PT_BPF_OFFCPU_H
#define PT_BPF_OFFCPU_H

#include "sample.h"

#define OFF_CPU_STACKS    1000 /* 25 us each (docs/SAMPLING.md): 2.5 % of a CPU */
#define OFF_CPU_SECOND_NS 1000000000ull
#define OFF_CPU_DEAD      0xb0u /* EXIT_DEAD, EXIT_ZOMBIE, TASK_DEAD (include/linux/sched.h) */

const volatile __u64 off_cpu_min_ns; /* what is shorter is not told */

struct off_cpu_value {
	struct pt_off_cpu head;
	struct pt_sample_frame frames[PT_SAMPLE_FRAMES_MAX];
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

/* The slots, and the numbers of those that are free, from 0. */
struct off_cpu_slot {
	struct pt_raw_stack raw;
	__u8 stack[PT_RAW_STACK_BYTES_MAX];
};
_Static_assert(sizeof(struct off_cpu_slot) == PT_OFF_CPU_STACK_BYTES, "user space reads it");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, PT_OFF_CPU_STACKS);
	__type(key, __u32);
	__type(value, struct off_cpu_slot);
} off_cpu_stacks SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_QUEUE);
	__uint(max_entries, PT_OFF_CPU_STACKS);
	__uint(value_size, sizeof(__u32));
} off_cpu_free SEC(".maps");

/* ---- native stacks ---- */

static __always_inline bool off_cpu_native(void)
{
	return want_native && want_off_cpu; /* else the maps are not there */
}

/* Copies what the current thread has into a slot; its number from 1, or 0. Global functions are
 * verified apart from what calls them. */
__noinline int off_cpu_keep(__u32 image_id, __u32 flags, __u64 now)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	struct off_cpu_slot *slot;
	struct stack_state *n;
	__u64 bytes, sp;
	__u32 number;

	if (!off_cpu_native() || bpf_map_pop_elem(&off_cpu_free, &number))
		return 0;
	slot = bpf_map_lookup_elem(&off_cpu_stacks, &number);
	n = native_fill(task, bpf_get_current_pid_tgid(), image_id, 0,
			flags & (PT_SAMPLE_TORN | PT_SAMPLE_UNKNOWN | PT_SAMPLE_PARTLY), now);
	if (!slot || !n || bpf_probe_read_kernel(&slot->raw, sizeof(slot->raw), &n->raw)) {
		bpf_map_push_elem(&off_cpu_free, &number, BPF_ANY);
		return 0;
	}
	sp = n->raw.regs[PT_RAW_SP] - PT_RAW_RED_ZONE;
	bytes = stack_size(sp);
	opaque(bytes);
	if (bytes > sizeof(slot->stack))
		bytes = sizeof(slot->stack);
	if (bpf_probe_read_user(slot->stack, bytes, (const void *)sp))
		bytes = 0;
	slot->raw.stack_bytes = bytes;
	return number + 1;
}

/* Nobody waits there any longer. */
static __always_inline void off_cpu_release(__u32 slot)
{
	__u32 number = slot - 1;

	if (off_cpu_native() && slot)
		bpf_map_push_elem(&off_cpu_free, &number, BPF_ANY);
}

/* Sends what is in a slot. */
__noinline int off_cpu_send_stack(__u32 slot, __u32 serial)
{
	__u32 number = slot - 1;
	struct off_cpu_slot *from;
	__u64 len;

	if (!off_cpu_native() || !slot)
		return 0;
	from = bpf_map_lookup_elem(&off_cpu_stacks, &number);
	if (!from)
		return 0;
	len = (sizeof(from->raw) + from->raw.stack_bytes + 7) & ~7ull;
	from->raw.serial = serial;
	from->raw.hdr.len = len;
	opaque(len);
	if (len > sizeof(*from))
		return 0;
	if (!native_has_room() || bpf_ringbuf_output(&ring, from, len, wake_flag()))
		count_add(&counters.stacks_missed, 1);
	return 0;
}

/* ---- */

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
	__u64 bytes = sizeof(s->frames[0]) * (__u64)count;

	o->value.head.rec.hdr.flags = s->rec.hdr.flags;
	opaque(bytes);
	if (bytes > sizeof(o->value.frames) ||
	    bpf_probe_read_kernel(o->value.frames, bytes, s->frames))
		return;
	o->value.head.rec.frame_count = count;
}

static __always_inline void off_cpu_out(struct task_struct *task, __u32 state, __u64 now)
{
	__u32 tid = task->pid, tgid = task->tgid, zero = 0;
	__u64 id = (__u64)tgid << 32 | tid;
	struct off_cpu_state *o;
	struct pt_rec_blocked *rec;
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
	rec = &o->value.head.rec;
	rec_init(&rec->hdr, PT_REC_BLOCKED, 0, id, proc->image_id, 0);
	rec->out_ns = now;
	rec->period_ns = sample_period_ns;
	rec->state = state & SCHED_STATES ? state & SCHED_STATES : SCHED_STATES;
	rec->syscall = sched_syscall(task);
	rec->why = BPF_CORE_READ_BITFIELD_PROBED(task, in_iowait) ? PT_SCHED_IO : 0;
	rec->frame_count = 0;
	rec->stack = 0;
	o->value.head.slot = 0;
	bpf_get_current_comm(rec->comm, sizeof(rec->comm));
	if (off_cpu_affordable(o, now)) {
		sample_look(s, task, id, proc, now);
		off_cpu_stack(o, s);
		if (off_cpu_native()) {
			rec->stack = native_serial(now);
			o->value.head.slot = off_cpu_keep(proc->image_id, rec->hdr.flags, now);
		}
	} else {
		rec->hdr.flags = PT_SAMPLE_SKIPPED;
	}
	if (samples_aside)
		rec->hdr.flags |= PT_SAMPLE_ASIDE;
	if (bpf_map_update_elem(&off_cpu, &tid, &o->value, BPF_ANY)) {
		count_add(&counters.off_cpu_full, 1);
		off_cpu_release(o->value.head.slot);
	}
}

static __always_inline void off_cpu_send(struct off_cpu_value *value, __u64 now)
{
	struct pt_rec_blocked *rec = &value->head.rec;
	__u32 count = rec->frame_count;
	__u64 len;

	opaque(count);
	if (count > PT_SAMPLE_FRAMES_MAX)
		return;
	if (off_cpu_native())
		off_cpu_send_stack(value->head.slot, rec->stack);
	len = sizeof(*rec) + sizeof(value->frames[0]) * (__u64)count;
	rec->hdr.len = len;
	rec->hdr.time_ns = now;
	opaque(len);
	if (len <= sizeof(*rec) + sizeof(value->frames))
		rec_send(rec, len);
}

/* A pause in between leaves it out: what the thread did then is not to be told. */
static __always_inline void off_cpu_in(struct task_struct *task, __u64 now)
{
	__u32 tid = task->pid;
	struct off_cpu_value *value = bpf_map_lookup_elem(&off_cpu, &tid);

	if (!value)
		return;
	if (*(volatile __u32 *)&control.gate == PT_GATE_OPEN &&
	    value->head.rec.out_ns > control.pause_ns &&
	    now - value->head.rec.out_ns >= off_cpu_min_ns)
		off_cpu_send(value, now);
	off_cpu_release(value->head.slot);
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
