/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * task.h - the names of asyncio's tasks (--async): what create_task() is told, what asyncio makes
 * up where it is told none (Task-1, ..), and what Task.set_name() says later.
 *
 * A step of a task is run by Handle._run() of the event loop, and what a handle calls has the task.
 * So the task is found when _run() is entered, and its name is read when the coroutine that the
 * task says that it has is entered, and when _run() is left, where the task still is. What is new
 * since it was last read is sent. Only tasks of _asyncio are read: those written in Python have
 * their names in a dictionary. A loop with handles of its own (uvloop's) is not seen through.
 *
 * Cost: four to seven user reads for a handle, and for each step two times three, with a hash of
 * the name.
 */
#ifndef PT_BPF_TASK_H
#define PT_BPF_TASK_H

#include "runtime.h"

/* asyncio.Handle: its slots are in the order of their names (Lib/asyncio/events.py, 3.8 to 3.15) */
#define HANDLE_CALLBACK  24
/* TaskStepMethWrapper.sw_task, TaskWakeupMethWrapper.ww_task (Modules/_asynciomodule.c) */
#define WRAPPER_TASK     16
/* PyCFunctionObject: Include/cpython/methodobject.h */
#define CFUNCTION_DEF    16
#define CFUNCTION_SELF   24
/* in thread.task: it is the address of the task's coroutine and name */
#define TASK_FOUND       1ull
#define NAME_HASH_FACTOR 0x9e3779b97f4a7c15ull

struct task_key {
	__u32 image_id;
	__u32 zero;
	__u64 coroutine;
};

/* What was sent last: a hash of the name. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__type(key, struct task_key);
	__type(value, __u64);
} task_names SEC(".maps");

static __always_inline void task_forget(struct thread *t)
{
	t->task_depth = 0;
}

/* What the reader knows of this thread's stack is not right: names are told anew. */
static __always_inline void task_restart(struct thread *t)
{
	task_forget(t);
	t->task_salt++;
}

/* The first 16 bytes of a string of C, as numbers. */
struct task_text {
	__u64 a, b;
};
#define TEXT_IS(t, x, y) ((t).a == (x) && (t).b == (y))

/* The task whose step, or whose wake-up, a callable is; or 0. */
static __always_inline __u64 task_of_callback(__u64 callback)
{
	__u64 type = user_u64(callback + OBJECT_TYPE);
	struct task_text text = {};

	if (bpf_probe_read_user(&text, sizeof(text), (void *)user_u64(type + TYPE_NAME)))
		return 0;
	if (TEXT_IS(text, 0x706574536b736154ull, 0x706172576874654dull) || /* TaskStepMethWrap.. */
	    TEXT_IS(text, 0x656b61576b736154ull, 0x72576874654d7075ull) || /* TaskWakeupMethWr.. */
	    TEXT_IS(text, 0x6f69636e7973615full, 0x6574536b7361542eull))   /* _asyncio.TaskSte.. */
		return user_u64(callback + WRAPPER_TASK);
	if (!TEXT_IS(text, 0x5f6e69746c697562ull, 0x6e6f6974636e7566ull)) /* builtin_function.. */
		return 0;
	if (bpf_probe_read_user_str(&text, 12,
				    (void *)user_u64(user_u64(callback + CFUNCTION_DEF))) != 12 ||
	    text.a != 0x6b61775f6b736174ull || (__u32)text.b != 0x00707565u) /* task_wakeup */
		return 0;
	return user_u64(callback + CFUNCTION_SELF);
}

/* Handle._run() was entered. */
__noinline int task_handle(__u64 frame, __u32 layout_index)
{
	const struct pt_image *image = image_at(layout_index);
	struct thread *t = thread_get();
	__u64 handle, task;

	if (!t || image->rt.task_coro == PT_NO_FIELD || image->rt.frame_locals == PT_NO_FIELD)
		return 0;
	handle = user_u64(frame + image->rt.frame_locals) & ~(__u64)image->rt.locals_mask;
	task = task_of_callback(user_u64(handle + HANDLE_CALLBACK));
	task_forget(t);
	if (!task || task & TASK_FOUND)
		return 0;
	t->task = task + image->rt.task_coro;
	t->task_depth = t->depth;
	return 0;
}

/* The name that was just read, which lies in t->rt, and behind it zeroes. */
static __always_inline __u64 name_hash(struct thread *t, const struct pt_rt_item *item)
{
	__u64 hash = t->task_salt, word;
	__u32 i;

	hash = (hash ^ item->number) * NAME_HASH_FACTOR;
	hash = (hash ^ item->type ^ item->width << 8 ^ item->bytes << 16) * NAME_HASH_FACTOR;
	for (i = 0; i < PT_RT_ITEM_MAX_BYTES; i += 8) {
		word = *(__u64 *)&t->rt.data[i];
		hash = (hash ^ word) * NAME_HASH_FACTOR;
		hash ^= hash >> 29;
	}
	return hash;
}

/* Sends the name of the coroutine's task, if it is another one than was sent last. From 3.12 on a
 * number stands for Task-1, .. until somebody asks for the name. */
__noinline int task_name(__u64 object, __u64 name, __u32 layout_index, __u64 now)
{
	struct rt_event event = {.type = PT_X_RT_INSTANT, .values = 1};
	struct thread *t = thread_get();
	struct task_key key = {.coroutine = object};
	const struct pt_rt_item *item;
	__u64 hash, *known;
	__u32 end;

	/* a kernel before 6.8 verifies this even where nothing calls it, and there is no task_names
	 * then */
	if (!want_async || !t)
		return 0;
	key.image_id = t->image_id;
	details_begin(t, PT_RT_TASK_NAME);
	__builtin_memset(t->rt.data, 0, PT_RT_ITEM_MAX_BYTES);
	end = details_add_object(name, layout_index, 0);
	item = &t->rt.rec.items[0];
	if ((item->type != PT_RT_TEXT || item->truncated == 2) && item->type != PT_RT_INT)
		return 0;
	hash = name_hash(t, item);
	known = bpf_map_lookup_elem(&task_names, &key);
	if (known && *known == hash)
		return 0;
	event.value[1] = object;
	if (!put_detailed_event(t, &event, end, now))
		bpf_map_update_elem(&task_names, &key, &hash, BPF_ANY);
	return 0;
}

/* A coroutine was entered while a handle runs. If it is the one that the task is of: what is the
 * task's name? 3.10 got a field before both within the minor version (fut_exception_tb; 3.10.4 has
 * none, 3.10.13 has); elsewhere what is looked at as well is a name, which is no coroutine. */
__noinline int task_step(__u64 object, __u32 layout_index, __u64 now)
{
	struct thread *t = thread_get();
	struct task_fields {
		__u64 coroutine, name, name_later;
	} fields;

	if (!t || t->task & TASK_FOUND ||
	    bpf_probe_read_user(&fields, sizeof(fields), (void *)t->task))
		return 0;
	if (fields.coroutine != object) {
		if (fields.name != object)
			return 0;
		fields.name = fields.name_later;
		t->task += 8;
	}
	t->task |= TASK_FOUND;
	return task_name(object, fields.name, layout_index, now);
}

/* Handle._run() is left. The loop has the handle still, and that the task. */
__noinline int task_handled(__u32 layout_index, __u64 now)
{
	struct thread *t = thread_get();
	__u64 at;

	if (!t)
		return 0;
	at = t->task & ~TASK_FOUND;
	if (t->task_depth == t->depth && t->task & TASK_FOUND)
		task_name(user_u64(at), user_u64(at + 8), layout_index, now);
	task_forget(t);
	return 0;
}

static __always_inline void task_left(struct thread *t, __u32 depth, __u32 layout_index)
{
	if (want_async && unlikely(t->task_depth > depth))
		task_handled(layout_index, bpf_ktime_get_ns());
}

#endif /* PT_BPF_TASK_H */
