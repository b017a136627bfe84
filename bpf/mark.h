/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * mark.h - probes of the user's (--probe, --nvtx): any function or USDT probe of any file that a
 * traced process maps.
 *
 * Loaded only where there are some. What such a probe tells lies in the thread's batch, as what the
 * runtime does (runtime.h), so it is in order with the calls.
 */
#ifndef PT_BPF_MARK_H
#define PT_BPF_MARK_H

#include "cuda.h"
#include "paused.h"
#include "process.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, PT_MARKS_MAX);
	__type(key, __u32); /* attach cookie */
	__type(value, struct pt_mark);
} marks SEC(".maps");

/* How many ranges a thread has open. What a thread leaves behind does no harm: it only shifts the
 * numbers of the next one that has its id, in begin and end alike. */
struct mark_level_key {
	__u64 pid_tgid, key;
	__u32 group, zero;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct mark_level_key);
	__type(value, __u32);
} mark_levels SEC(".maps");

/* nvtxEventAttributes_t of NVTX 2 and 3: messageType, message */
#define NVTX_MESSAGE_TYPE 32
#define NVTX_MESSAGE      40
#define NVTX_ASCII        1

#define MARK_KEY_BITS 47 /* of a user address; above it there is room for the level */

static __always_inline __u64 mark_value(struct pt_regs *ctx, const struct pt_mark_arg *arg)
{
	__u64 value = (__s64)arg->disp;
	__u32 shift = 64 - 8 * arg->bytes;

	if (arg->reg < PT_REG_NONE) {
		value = reg_read(ctx, arg->reg);
		if (arg->memory)
			value = user_u64(value + (__s64)arg->disp);
	}
	shift &= 63;
	return arg->is_signed ? (__u64)((__s64)(value << shift) >> shift) : value << shift >> shift;
}

/* An item that is a number; the new end. */
__noinline __u32 details_add_number(__u64 number, __u32 end)
{
	struct thread *t = thread_get();
	struct pt_rt_item *item;

	if (!t)
		return end;
	item = details_item(t);
	if (item) {
		item->type = PT_RT_INT;
		item->number = number;
	}
	return end;
}

static __always_inline __u64 nvtx_message(__u64 attributes)
{
	if (user_u32(attributes + NVTX_MESSAGE_TYPE) != NVTX_ASCII)
		return 0;
	return user_u64(attributes + NVTX_MESSAGE);
}

/* The number that the range which begins here, or the one which ends, has among those of its thread
 * and group; 0: what ends here began before anybody looked. */
static __always_inline __u32 mark_level(const struct pt_mark *m, __u64 key_value)
{
	struct mark_level_key key = {
	    .pid_tgid = bpf_get_current_pid_tgid(),
	    .key = key_value,
	    .group = m->group,
	};
	__u32 *open = bpf_map_lookup_elem(&mark_levels, &key), level = open ? *open : 0, left;

	if (m->kind == PT_MARK_END && !level)
		return 0;
	left = m->kind == PT_MARK_END ? level - 1 : level + 1;
	bpf_map_update_elem(&mark_levels, &key, &left, BPF_ANY);
	return m->kind == PT_MARK_END ? level : left;
}

static __always_inline void mark_send(struct thread *t, const struct rt_event *event, __u32 end)
{
	__u64 now = bpf_ktime_get_ns();

	if (trigger_silent(t))
		return;
	if (event->flags & PT_RT_DETAILS)
		details_send(t, end, now);
	put_runtime(t, event, now);
}

/* The stack on which this probe fires, before all else that it tells. */
static __always_inline void mark_stack(struct pt_regs *ctx, struct thread *t)
{
	__u32 stack = stack_take(ctx, t), n;
	__u64 now = bpf_ktime_get_ns();

	if (!stack)
		return;
	n = cuda_place(t, now);
	if (n > CUDA_ROOM)
		return;
	stack_word(t, n, stack, now);
	brief_item(t);
}

static __always_inline int mark_hit(struct pt_regs *ctx)
{
	__u32 gate = *(volatile __u32 *)&control.gate, index = (__u32)bpf_get_attach_cookie(ctx);
	const struct pt_mark *m = bpf_map_lookup_elem(&marks, &index);
	struct rt_event event = {.type = PT_X_RT_INSTANT, .what = PT_RT_MARK, .values = 3};
	__u32 end = 0, i;
	__u64 key = 0, value;
	struct thread *t;

	if (!m || (gate != PT_GATE_OPEN && gate != PT_GATE_PAUSED))
		return 0;
	t = thread_traced();
	if (!t)
		return 0;
	if (mark_stacks && gate == PT_GATE_OPEN && m->kind != PT_MARK_END &&
	    m->kind != PT_MARK_COUNTER && !trigger_silent(t))
		mark_stack(ctx, t);
	details_begin(t, PT_RT_MARK);
	for (i = 0; i < PT_MARK_ARGS_MAX; i++) {
		if (i >= m->arg_count)
			break;
		value = mark_value(ctx, &m->args[i]);
		if (m->args[i].read == PT_MARK_READ_KEY)
			key = value;
		else if (m->args[i].read == PT_MARK_READ_TEXT)
			end = details_add_c_text(value, end);
		else if (m->args[i].read == PT_MARK_READ_NVTX)
			end = details_add_c_text(nvtx_message(value), end);
		else
			end = details_add_number(value, end);
	}
	if (m->kind == PT_MARK_BEGIN || m->kind == PT_MARK_END) {
		value = mark_level(m, key);
		if (!value)
			return 0;
		key = (key & ((1ull << MARK_KEY_BITS) - 1)) | value << MARK_KEY_BITS;
	} else if (m->kind == PT_MARK_SLICE) {
		event.type = PT_X_RT_BEGIN;
		key = REGS_SP(ctx);
	}
	if (gate == PT_GATE_PAUSED)
		return 0;
	if (t->rt.rec.item_count) {
		event.flags = PT_RT_DETAILS;
		event.value[0] = t->rt.rec.serial;
	}
	event.value[1] = m->id;
	event.value[2] = key;
	mark_send(t, &event, end);
	return 0;
}

/* A function of PT_MARK_SLICE is over. The stack pointer is what it was at the entry and tells
 * which call it is; other functions may end here, too. */
static __always_inline int mark_end(struct pt_regs *ctx)
{
	__u32 gate = *(volatile __u32 *)&control.gate, index = (__u32)bpf_get_attach_cookie(ctx);
	const struct pt_mark *m = bpf_map_lookup_elem(&marks, &index);
	struct rt_event event = {.type = PT_X_RT_END, .what = PT_RT_MARK, .values = 3};
	struct thread *t;

	if (!m || (gate != PT_GATE_OPEN && gate != PT_GATE_PAUSED))
		return 0;
	t = thread_traced();
	if (!t)
		return 0;
	if (gate == PT_GATE_PAUSED) {
		paused_begin(t); /* or its slice would seem to go on */
		return 0;
	}
	event.value[1] = m->id;
	event.value[2] = REGS_SP(ctx);
	mark_send(t, &event, 0);
	return 0;
}

#endif /* PT_BPF_MARK_H */
