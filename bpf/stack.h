/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * stack.h - the stack on which a call is made (--stacks, --memory): the Python frames with the
 * place where each one stands, and of the native ones the registers and a piece of the stack, as it
 * lies in memory. Interpreters and libraries have no frame pointers, so whoever reads it unwinds it
 * by the files' .eh_frame; nothing of that is possible here.
 *
 * Stacks go through the ring buffer of the events, but never take its last half: where they came
 * too fast, stacks are missing, and no events. x86-64 only, as calls of CUDA functions are.
 * Cost: five user reads (28 ns each) a Python frame, and a copy of the stack's piece, which
 * --memory alone does without. Without both the verifier removes it all, and the map is not
 * created.
 */
#ifndef PT_BPF_STACK_H
#define PT_BPF_STACK_H

#include "call.h"
#include "regs.h"

/* In two loops, each verified once. */
#define STACK_INNER 32
#define STACK_OUTER 16 /* 512 steps: the words, and hidden frames among them */

#define STACK_PAGE 4096

struct stack_state {
	struct pt_raw_stack raw;
	__u64 frame;  /* the next one */
	__u64 cframe; /* 3.11: that of the run of the loop at hand */
	__u32 layout, serial;
};

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct stack_state);
} stack_states SEC(".maps");

static __always_inline struct stack_state *stack_state_get(__u64 flags)
{
	/* global functions are verified whether they are called or not: the map may be missing */
	if (!use_stacks)
		return NULL;
	return bpf_task_storage_get(&stack_states, bpf_get_current_task_btf(), NULL, flags);
}

static __always_inline int stack_push(struct stack_state *s, __u64 word)
{
	__u32 n = s->raw.python_count;

	opaque(n);
	if (n >= PT_RAW_PYTHON_MAX) {
		s->raw.flags |= PT_RAW_PYTHON_CUT;
		return 0;
	}
	s->raw.python[n] = word;
	s->raw.python_count = n + 1;
	return 1;
}

/* The mark behind a frame that is not hidden, if there is one. */
static __always_inline int stack_mark(struct stack_state *s, const struct pt_layout *layout,
				      __u64 frame)
{
	__u8 is_entry = 0;

	if (layout->version < 0x030b0000)
		return stack_push(s, PT_RAW_MARK | frame);
	if (layout->version >= 0x030c0000)
		return 1;
	/* 3.11: is_entry lies before owner (_PyInterpreterFrame, Include/internal/pycore_frame.h),
	 * previous behind current_frame (_PyCFrame, Include/cpython/pystate.h) */
	bpf_probe_read_user(&is_entry, 1, (const void *)(frame + layout->frame_owner - 1));
	if (!is_entry)
		return 1;
	frame = s->cframe;
	s->cframe = user_u64(frame + layout->cframe_frame + 8);
	return stack_push(s, PT_RAW_MARK | frame);
}

/* One frame. 1: go on; 0: that was the last. */
__noinline int stack_step(__u64 now)
{
	struct stack_state *s = stack_state_get(0);
	const struct pt_layout *layout;
	__u64 frame, code = 0, id_flags, unit;

	if (!s)
		return 0;
	layout = &image_at(s->layout)->layout;
	frame = s->frame;
	if (!frame)
		return 0;
	if (bpf_probe_read_user(&code, 8, (const void *)(frame + layout->frame_code))) {
		s->raw.flags |= PT_RAW_PYTHON_CUT;
		return 0;
	}
	s->frame = user_u64(frame + layout->frame_back);
	if (frame_owner_hidden(layout, frame))
		return stack_push(s, PT_RAW_MARK | frame);
	code &= ~(__u64)layout->frame_code_mask;
	id_flags = code_lookup(code, s->layout, now);
	if (!(id_flags >> 32 & PT_CO_SHIM)) {
		unit = call_unit(layout, frame, code);
		if (unit > PT_WORD_ARG_MASK)
			unit = 0xffffffff >> 1;
		if (!stack_push(s, (__u32)id_flags | unit << 32))
			return 0;
	}
	return stack_mark(s, layout, frame);
}

__noinline int stack_steps(__u64 now)
{
	int i;

	for (i = 0; i < STACK_INNER; i++)
		if (!stack_step(now))
			return 0;
	return 1;
}

/* The Python frames, into the thread's struct stack_state. */
__noinline int stack_python(__u32 layout_index, __u64 tstate, __u64 now)
{
	const struct pt_layout *layout = &image_at(layout_index)->layout;
	struct stack_state *s = stack_state_get(0);
	int i;

	if (!s)
		return 0;
	s->layout = layout_index;
	s->raw.objects = layout->version < 0x030b0000;
	s->frame = frame_current(layout, tstate);
	s->cframe = user_u64(tstate + layout->ts_frame);
	for (i = 0; i < STACK_OUTER; i++)
		if (!stack_steps(now))
			return 0;
	s->raw.flags |= PT_RAW_PYTHON_CUT;
	return 0;
}

/* What return probes have put in the place of return addresses. */
static __always_inline void stack_returns(struct stack_state *s, struct task_struct *task)
{
	struct return_instance *at = BPF_CORE_READ(task, utask, return_instances);
	__u32 i;

	for (i = 0; i < PT_RAW_RETURNS_MAX; i++) {
		if (!at)
			break;
		s->raw.returns[i].at = BPF_CORE_READ(at, stack);
		s->raw.returns[i].to = BPF_CORE_READ(at, orig_ret_vaddr);
		at = BPF_CORE_READ(at, next);
	}
	s->raw.return_count = i;
	if (at)
		s->raw.flags |= PT_RAW_RETURNS_CUT;
}

static __always_inline void stack_regs(struct stack_state *s, struct pt_regs *ctx)
{
#if defined(__TARGET_ARCH_x86)
	s->raw.regs[PT_RAW_IP] = ctx->ip;
	s->raw.regs[PT_RAW_SP] = ctx->sp;
	s->raw.regs[PT_RAW_BP] = ctx->bp;
	s->raw.regs[PT_RAW_BX] = ctx->bx;
	s->raw.regs[PT_RAW_R12] = ctx->r12;
	s->raw.regs[PT_RAW_R12 + 1] = ctx->r13;
	s->raw.regs[PT_RAW_R12 + 2] = ctx->r14;
	s->raw.regs[PT_RAW_R12 + 3] = ctx->r15;
#endif
}

/* How much of the stack there is, but not more than wanted: the pages that follow each other. */
static __always_inline __u32 stack_size(__u64 sp)
{
	__u32 size = STACK_PAGE - (sp & (STACK_PAGE - 1)), i;
	__u64 word;

#pragma unroll
	for (i = 0; i < PT_RAW_STACK_BYTES_MAX / STACK_PAGE; i++) {
		if (size >= stacks_bytes ||
		    bpf_probe_read_user(&word, 8, (const void *)(sp + size)))
			break;
		size += STACK_PAGE;
	}
	return size < stacks_bytes ? size : stacks_bytes;
}

/* Sends it with that much of the stack, in a record that has room for so much (a constant). */
static __always_inline int stack_send(struct stack_state *s, __u64 sp, __u32 size, const __u32 room)
{
	struct pt_raw_stack *rec = bpf_ringbuf_reserve(&ring, sizeof(*rec) + room, 0);
	__u64 bytes = size;

	if (!rec)
		return 1;
	opaque(bytes);
	if (bytes > room)
		bytes = room;
	if (bpf_probe_read_kernel(rec, sizeof(*rec), &s->raw)) {
		bpf_ringbuf_discard(rec, 0);
		return 1;
	}
	if (room && bpf_probe_read_user(rec->stack, bytes, (const void *)sp))
		bytes = 0; /* swapped out in between: the native frames are not known */
	rec->stack_bytes = bytes;
	rec->hdr.len = sizeof(*rec) + room;
	bpf_ringbuf_submit(rec, wake_flag());
	return 0;
}

static __always_inline int stack_send_fitting(struct stack_state *s, __u64 sp)
{
	__u32 size;

	if (!stacks_bytes)
		return stack_send(s, sp, 0, 0);
	size = stack_size(sp);
	if (size <= 4096)
		return stack_send(s, sp, size, 4096);
	if (size <= 8192)
		return stack_send(s, sp, size, 8192);
	if (size <= 16384)
		return stack_send(s, sp, size, 16384);
	return stack_send(s, sp, size, PT_RAW_STACK_BYTES_MAX);
}

/* Sends the stack of the call at hand; its number, or 0. */
static __always_inline __u32 stack_take(struct pt_regs *ctx, struct thread *t)
{
	struct stack_state *s = stack_state_get(BPF_LOCAL_STORAGE_GET_F_CREATE);
	struct task_struct *task = bpf_get_current_task_btf();
	__u64 now = bpf_ktime_get_ns();

	if (!s || bpf_ringbuf_query(&ring, BPF_RB_AVAIL_DATA) > stacks_ring_bytes) {
		count_add(&counters.stacks_missed, 1);
		return 0;
	}
	rec_init(&s->raw.hdr, PT_REC_CALL_STACK, 0, t->pid_tgid, t->image_id, now);
	s->raw.hdr.flags = PT_RF_RAW;
	s->raw.serial = ++s->serial;
	s->raw.flags = stacks_bytes ? 0 : PT_RAW_PYTHON_ONLY;
	s->raw.python_count = 0;
	s->raw.start_stack = BPF_CORE_READ(task, mm, start_stack);
	s->raw.exec_pages = BPF_CORE_READ(task, mm, exec_vm) -
			    (BPF_CORE_READ(task, mm, uprobes_state.xol_area) ? 1 : 0);
	if (t->attention & ATT_UNKNOWN)
		s->raw.flags |= PT_RAW_PYTHON_UNKNOWN;
	else if (t->depth) /* else the thread state may be gone by now */
		stack_python(t->image_index, t->tstate, now);
	s->raw.return_count = 0;
	if (stacks_bytes) {
		stack_regs(s, ctx);
		stack_returns(s, task);
	}
	if (stack_send_fitting(s, REGS_SP(ctx))) {
		count_add(&counters.stacks_missed, 1);
		return 0;
	}
	return s->raw.serial;
}

/* Says which stack belongs to what comes next, at words[n]; there is room. */
static __always_inline void stack_word(struct thread *t, __u32 n, __u32 serial, __u64 now)
{
	opaque(n);
	if (n > PT_BATCH_WORDS - 2)
		return;
	t->words[n] = PT_WORD(PT_W_EXT, PT_EXT_ARG(PT_X_STACK, 1), now - t->head.base_ns);
	t->words[n + 1] = (__u64)serial << PT_RT_SHIFT;
	t->ext_words += 2;
	t->head.word_count = n + 2;
}

#endif /* PT_BPF_STACK_H */
