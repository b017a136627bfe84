/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * async.h - coroutines (--async): which one a frame is a step of, and who makes a task of it.
 *
 * A coroutine's address names it as long as it lives; its first step says that the address means
 * another one from now on. What a task is made of that is for whoever reads the words.
 *
 * Cost: two user reads (28 ns each) and two words an enter of a coroutine or an asynchronous
 * generator; a handful of reads a task. Without --async the verifier removes it all.
 */
#ifndef PT_BPF_ASYNC_H
#define PT_BPF_ASYNC_H

#include "frame.h"
#include "runtime.h"
#include "task.h"

/* CO_COROUTINE, CO_ITERABLE_COROUTINE, CO_ASYNC_GENERATOR: Include/cpython/code.h */
#define CORO_FLAGS (0x80u | 0x100u | 0x200u)

/* Up to 3.10: PyGenObject.gi_frame (Include/genobject.h) */
#define GEN_FRAME 16

/*
 * Has the code of a generator's frame not run yet? Up to 3.10 f_lasti tells. From 3.11 on the frame
 * stands at, or shortly before, the RESUME that goes on: that of the first start has the low bits
 * 0, those behind a yield or an await have others (Python/compile.c). Line events of a debugger or
 * of coverage may hide it.
 */
static __always_inline __u64 coro_bits(const struct pt_image *image, __u64 frame)
{
	const struct pt_layout *layout = &image->layout;
	__u64 units, i;
	__u8 opcode;

	if (layout->code_adaptive == PT_NO_FIELD)
		return user_u32(frame + layout->frame_instr) == 0xffffffff ? PT_CORO_FIRST : 0;
	units = user_u64(user_u64(frame + layout->frame_instr));
#pragma unroll
	for (i = 0; i < 3; i++) {
		opcode = units >> 16 * i;
		if (opcode && (opcode == image->rt.resume[0] || opcode == image->rt.resume[1] ||
			       opcode == image->rt.resume[2] || opcode == image->rt.resume[3]))
			return units >> (16 * i + 8) & 3 ? 0 : PT_CORO_FIRST;
	}
	return PT_CORO_UNKNOWN;
}

static __always_inline __u64 coro_object(const struct pt_image *image, __u64 frame)
{
	if (image->rt.gen_frame == PT_NO_FIELD)
		return 0;
	if (image->layout.code_adaptive == PT_NO_FIELD)
		return user_u64(frame + image->rt.gen_frame);
	return frame - image->rt.gen_frame;
}

/* A coroutine's frame is entered; its enter follows. */
__noinline int async_coroutine(__u64 frame, __u32 layout_index, __u64 now)
{
	const struct pt_image *image = image_at(layout_index);
	struct thread *t = thread_get();
	__u64 object;

	if (!t)
		return 0;
	object = coro_object(image, frame);
	if (!object || object & PT_CORO_BITS)
		return 0;
	return put_ext(t, now, PT_X_CORO, object | coro_bits(image, frame));
}

/* Is this a coroutine that has not run yet? What is asked may be any object, or none. */
static __always_inline bool is_new_coroutine(struct thread *t, const struct pt_image *image,
					     __u64 object)
{
	const struct pt_layout *layout = &image->layout;
	struct code_value *known;
	__u64 frame, code;
	__u8 owner = 0;

	if (!object || object & PT_CORO_BITS)
		return false;
	if (layout->code_adaptive == PT_NO_FIELD) {
		frame = user_u64(object + GEN_FRAME);
		if (!frame || user_u64(frame + image->rt.gen_frame) != object)
			return false;
		code = user_u64(frame + layout->frame_code);
		return user_u32(code + layout->code_flags) & CORO_FLAGS &&
		       coro_bits(image, frame) == PT_CORO_FIRST;
	}
	frame = object + image->rt.gen_frame;
	bpf_probe_read_user(&owner, 1, (void *)(frame + layout->frame_owner));
	if (owner != PT_OWNED_BY_GENERATOR)
		return false;
	/* it was made by entering its code, so that this is known */
	code = user_u64(frame + layout->frame_code) & ~(__u64)layout->frame_code_mask;
	known = code_find(t->image_id, code);
	return known && known->flags & CORO_FLAGS && coro_bits(image, frame) == PT_CORO_FIRST;
}

/*
 * Dictionaries of keyword arguments, as calls make them (Include/cpython/dictobject.h,
 * pycore_dict.h, 3.11 to 3.15): PyDictObject.ma_keys; PyDictKeysObject.dk_log2_index_bytes and
 * .dk_kind; behind 32 bytes and the index come entries {key, value}. Only functions of 3.14 and
 * later take them. That "name" is found there is what tells that the layout is the right one.
 */
#define TYPE_IS_DICT        (1u << 29) /* Py_TPFLAGS_DICT_SUBCLASS */
#define DICT_KEYS           32
#define KEYS_LOG2_INDEX     9
#define KEYS_KIND           10
#define KEYS_INDEX          32
#define KEYS_UNICODE        1
#define KEYS_LOG2_INDEX_MAX 8
#define KWARGS_MAX          4 /* name, context, eager_start */

static __always_inline __u64 kwargs_name(const struct pt_layout *layout, __u64 dict)
{
	__u64 keys = user_u64(dict + DICT_KEYS), entry[2], i;
	__u8 head[2] = {};

	if (bpf_probe_read_user(head, sizeof(head), (void *)(keys + KEYS_LOG2_INDEX)) ||
	    head[0] > KEYS_LOG2_INDEX_MAX || head[1] != KEYS_UNICODE)
		return 0;
	keys += KEYS_INDEX + (1ull << head[0]);
#pragma unroll
	for (i = 0; i < KWARGS_MAX; i++) {
		if (bpf_probe_read_user(entry, sizeof(entry), (void *)(keys + 16 * i)) || !entry[0])
			return 0;
		if (user_u64(entry[0] + layout->str_length) == 4 &&
		    (user_u32(entry[0] + layout->str_state) & 0x60) == 0x60 &&
		    user_u32(entry[0] + layout->str_ascii_data) == 0x656d616e) /* "name" */
			return entry[1];
	}
	return 0;
}

/* The frame's local variable behind the coroutine is the task's name or what has it, if any is
 * given: name (up to 3.13), or **kwargs. Else None, or an event loop (ensure_future()). */
__noinline int async_name(__u64 local, __u64 object, __u32 layout_index, __u64 now)
{
	const struct pt_image *image = image_at(layout_index);
	struct rt_event event = {.type = PT_X_RT_INSTANT, .values = 1};
	struct thread *t = thread_get();
	__u64 name, flags;
	__u32 end;

	if (!t)
		return 0;
	name = user_u64(local) & ~(__u64)image->rt.locals_mask;
	flags = user_u64(user_u64(name + OBJECT_TYPE) + TYPE_FLAGS);
	if (flags & TYPE_IS_DICT) {
		name = kwargs_name(&image->layout, name);
		flags = name ? user_u64(user_u64(name + OBJECT_TYPE) + TYPE_FLAGS) : 0;
	}
	if (!(flags & TYPE_IS_STR))
		return 0;
	details_begin(t, PT_RT_TASK_NAME);
	end = details_add_str(name, layout_index, 0);
	event.value[1] = object;
	put_detailed_event(t, &event, end, now);
	return 0;
}

/* A function was entered that makes a task of its first argument, or, a method, of its second. */
__noinline int async_task(__u64 frame, __u32 layout_index, __u64 now)
{
	const struct pt_image *image = image_at(layout_index);
	struct thread *t = thread_get();
	__u64 object, i;

	if (!t || image->rt.gen_frame == PT_NO_FIELD || image->rt.frame_locals == PT_NO_FIELD)
		return 0;
	for (i = 0; i < 2; i++) {
		object = user_u64(frame + image->rt.frame_locals + 8 * i) &
			 ~(__u64)image->rt.locals_mask;
		if (is_new_coroutine(t, image, object)) {
			if (put_ext(t, now, PT_X_TASK, object))
				return 1;
			return async_name(frame + image->rt.frame_locals + 8 * (i + 1), object,
					  layout_index, now);
		}
	}
	return 0;
}

/* The enter was put. That of a coroutine is not taken back, however short the step (brief.h): what
 * is known of tasks hangs on it. */
static __always_inline void async_entered(struct thread *t, __u64 frame, __u32 flags,
					  __u32 layout_index, __u64 now)
{
	if (flags & CORO_FLAGS) {
		brief_item(t);
		if (t->task_depth && !(t->task & TASK_FOUND))
			task_step(coro_object(image_at(layout_index), frame), layout_index, now);
	}
	if (flags & CODE_TASK)
		async_task(frame, layout_index, now);
	if (flags & CODE_HANDLE)
		task_handle(frame, layout_index);
}

/*
 * Greenlets. A switch exchanges what the thread state says of the running stack: the frame, the
 * depth, and the data stack on which frames lie, a list of pieces of which each greenlet has its
 * own. The first piece stays, so it is the greenlet's number; that another one is in use, at the
 * first event behind a switch, tells of the switch. The depth does not: it may be the same, or one
 * off, as behind a call. One more user read an event (28 ns).
 */
#define CHUNKS_INNER 16
#define CHUNKS_OUTER 32 /* 512 pieces of 16 KiB (Python/pystate.c): some 50000 frames */

/* Down the list for some pieces. The same one comes back: it is the first. */
__noinline __u64 chunks_down(__u64 chunk)
{
	__u64 previous;
	int i;

	for (i = 0; i < CHUNKS_INNER; i++) {
		previous = user_u64(chunk); /* _PyStackChunk.previous */
		if (!previous)
			break;
		chunk = previous;
	}
	return chunk;
}

/* Another piece than before: is it of another stack? The first one ever is none, but the reader has
 * to be told its number. */
__noinline int async_switch(__u64 chunk)
{
	struct thread *t = thread_get();
	__u64 below, root = chunk;
	bool first, found = false;
	int i;

	if (!t || !chunk)
		return 0;
	if (t->stack_root && user_u64(chunk) == t->stack_chunk) { /* one more piece */
		t->stack_chunk = chunk;
		return 0;
	}
	for (i = 0; i < CHUNKS_OUTER && !found; i++) {
		below = chunks_down(root);
		found = below == root;
		root = below;
	}
	t->stack_chunk = chunk;
	if (!found || root == t->stack_root)
		return 0;
	first = !t->stack_root;
	t->stack_root = root;
	t->attention |= ATT_SNAP;
	return !first;
}

static __always_inline bool stack_switched(struct thread *t, const struct pt_layout *layout,
					   __u64 tstate)
{
	__u64 chunk;

	if (!want_async || layout->ts_datastack == PT_NO_FIELD)
		return false;
	/* another interpreter's frames lie on these, with a data stack of their own */
	if (unlikely(t->below || (t->depth && t->tstate && tstate != t->tstate)))
		return false;
	chunk = user_u64(tstate + layout->ts_datastack);
	return unlikely(chunk != t->stack_chunk) && async_switch(chunk);
}

/*
 * Up to 3.10 there is no data stack, but a greenlet's frames end in an outermost frame of its own,
 * which is its number as long as that frame runs. As long as each event goes on from the frame that
 * was current behind the one before, nothing was switched; else the chain is walked. The thread's
 * own stack is what ran first. It keeps its number when it begins anew, with an outermost frame
 * where the stack was empty: so a greenlet's first frame is told from a callback's.
 */
#define OWN_STACK (PT_CORO_BITS + 1) /* no address, and a number that a word may hold */

/* A frame is entered or left that does not go on from the last event, or has none below it.
 * last: what was the current frame. Returns 1 if it is of another stack. */
__noinline int async_chain(__u64 frame, __u64 last, __u32 layout_index, __u32 enter)
{
	const struct pt_layout *layout = &image_at(layout_index)->layout;
	struct thread *t = thread_get();
	__u64 back, root, number;
	bool first;

	if (!want_async || !t)
		return 0;
	back = user_u64(frame + layout->frame_back);
	root = chain_outermost(t, frame, back, layout_index);
	if (!root) {
		if (!t->stack_root)
			return 0;
		root = frame;
	}
	first = !t->stack_root;
	if (first || (enter && !back && !last && t->stack_root == OWN_STACK))
		t->own_root = root;
	number = root == t->own_root ? OWN_STACK : root;
	if (!enter && root == frame && root == t->own_root)
		t->own_root = 0;
	if (number == t->stack_root)
		return 0;
	t->stack_root = number;
	t->attention |= ATT_SNAP;
	return !first;
}

static __always_inline bool chain_switched(struct thread *t, const struct pt_image *image,
					   __u64 tstate, __u64 frame, __u32 layout_index,
					   bool enter)
{
	__u64 back, last = t->stack_chunk;

	if (!want_async || !image->rt.chains)
		return false;
	if (unlikely(t->below || (t->depth && t->tstate && tstate != t->tstate)))
		return false;
	back = user_u64(frame + image->layout.frame_back);
	t->stack_chunk = enter ? frame : back;
	if (likely(back && (enter ? back : frame) == last && t->stack_root))
		return false;
	return async_chain(frame, last, layout_index, enter);
}

/* An exception goes through a generator to the one that it delegates to: its frame becomes the
 * current one, and does not run. */
__noinline int async_throw(__u64 tstate, __u64 frame, __u32 layout_index)
{
	const struct pt_image *image = image_at(layout_index);
	struct thread *t = thread_get();
	struct throw_key key = {};
	__u64 below;

	if (!want_async || !t)
		return 0;
	below = user_u64(tstate + image->layout.ts_frame);
	if (!frame || !below || below == frame)
		return 0;
	key.image_id = t->image_id;
	key.frame = frame;
	bpf_map_update_elem(&throws, &key, &below, BPF_ANY);
	return 0;
}

/* Says which stack the snapshot that follows is of. Returns 1 if a batch got lost. */
static __always_inline int put_stack(struct thread *t, __u64 now)
{
	return want_async && t->stack_root ? put_ext(t, now, PT_X_SWITCH, t->stack_root) : 0;
}

#endif /* PT_BPF_ASYNC_H */
