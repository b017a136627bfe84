// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * Coroutines: which of them are tasks, and a track for each.
 *
 * A task is a coroutine that no other awaits: whatever entered its frame is not the frame of a
 * coroutine but the event loop, or who else drives it by send(). All that it awaits runs on top of
 * its frame and belongs to it. So a step of a task is a slice of that outermost frame, and between
 * two steps the task waits.
 *
 * An address names a coroutine until one starts there for the first time. All this is per thread:
 * batches of different threads come in any order.
 *
 * Exceptions. Whatever throws one into a task, as cancelling it does, calls throw() of its
 * coroutine, which hands it on to the innermost one that waits. That one's frame is entered first,
 * with none of its callers below it, then its caller's, and so on. These are pieces of one step.
 * Each coroutine is known by the task that it ran in before, so pieces that follow each other with
 * nothing in between are put together, generators between them as well.
 *
 * Inside of a step. A coroutine that is started there by no await is a task if create_task() was
 * called for it: it is run eagerly (3.12+), or by a loop in the loop. Else it may be one that the
 * program drives itself, which is part of the step; it is a task once it is resumed outside.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/model_priv.h"

/* Include/cpython/code.h, 3.8 to 3.15 */
#define CO_GENERATOR       0x20u
#define CO_COROUTINE       (0x80u | 0x100u) /* and CO_ITERABLE_COROUTINE, of types.coroutine() */
#define CO_ASYNC_GENERATOR 0x200u

/* of a function, and the name that the program gave */
#define NAME_MAX_BYTES (3 * PT_STR_MAX_BYTES + MODEL_TEXT_MAX + 64)

struct model_task {
	uint32_t refs;
	char *name; /* as last read; NULL: none that is known */
	struct model_code *code;
	uint64_t object;   /* the coroutine */
	uint32_t instance; /* of those that began with the same function; 0: not shown */
	pid_t track;       /* once shown */
	bool running;
	bool whole;               /* all steps from the first on were seen */
	uint64_t told_ns;         /* the model's clear_ns when the track was announced, and 1 */
	struct model_task *outer; /* while running: the one within whose step */
	uint64_t seen_ns;         /* when the first step that was seen began */
	uint64_t begin_ns;        /* of the step under way */
	uint64_t piece;           /* and the coroutine that it, or its last piece, began with */
	uint64_t end_ns;          /* of the last one; 0: there was none */
	uint64_t steps;
	/* not shown yet: the first step */
	uint64_t first_begin_ns, first_end_ns;
	uint64_t made_ns; /* create_task() was called for it; 0: not seen, or told */
	pid_t made_on;    /* the track of that call */
	const struct model_function *parent;
	uint32_t parent_instance;
};

/* What is known of an address. */
struct model_coroutine {
	struct model_coroutine *next;
	struct model_task *task; /* that it ran in last; NULL: none */
	/* its first step is to come, and create_task() was called for it: when, by which call, and
	 * in which task */
	uint64_t made_ns, made_by;
	pid_t made_on;
	char *name; /* likewise */
	const struct model_function *parent;
	uint32_t parent_instance;
};

struct model_async {
	struct pt_map coroutines; /* by address */
	struct model_coroutine *list;
	struct model_task *current; /* whose step is under way; innermost */
	/* a step that is over, unless what comes next is a piece of it */
	struct model_task *held;
	uint64_t held_begin_ns, held_end_ns;
	uint32_t held_flags;
};

/* ---- life ---- */

static struct model_task *task_ref(struct model_task *task)
{
	if (task)
		task->refs++;
	return task;
}

static void task_unref(struct model_task *task)
{
	if (!task || --task->refs)
		return;
	free(task->name);
	free(task);
}

static struct model_async *async_get(struct pt_model *model, struct model_thread *thread)
{
	if (!thread->async) {
		thread->async = calloc(1, sizeof(*thread->async));
		if (!thread->async)
			model_fail(model, -ENOMEM);
	}
	return thread->async;
}

static struct model_coroutine *coroutine_get(struct pt_model *model, struct model_async *async,
					     uint64_t object)
{
	struct model_coroutine *coroutine = pt_map_get(&async->coroutines, object, 0);

	if (coroutine)
		return coroutine;
	if (model->coroutines >= MODEL_MAX_COROUTINES) {
		model->totals.bad_records++; /* no real program; do not let it take all memory */
		return NULL;
	}
	coroutine = pt_map_make(&async->coroutines, object, 0, sizeof(*coroutine));
	if (!coroutine) {
		model_fail(model, -ENOMEM);
		return NULL;
	}
	coroutine->next = async->list;
	async->list = coroutine;
	model->coroutines++;
	return coroutine;
}

static void set_task(struct model_coroutine *coroutine, struct model_task *task)
{
	task_ref(task);
	task_unref(coroutine->task);
	coroutine->task = task;
}

static void set_name(struct model_coroutine *coroutine, char *name)
{
	free(coroutine->name);
	coroutine->name = name;
}

static void coroutines_release(struct pt_model *model, struct model_async *async)
{
	while (async->list) {
		struct model_coroutine *coroutine = async->list;

		async->list = coroutine->next;
		task_unref(coroutine->task);
		free(coroutine->name);
		free(coroutine);
		model->coroutines--;
	}
	pt_map_release(&async->coroutines);
	async->coroutines = (struct pt_map){0};
}

void model_async_forget(struct pt_model *model, struct model_thread *thread)
{
	thread->coro = 0;
	if (!thread->async)
		return;
	model_async_settle(model, thread);
	coroutines_release(model, thread->async);
}

struct model_task *model_async_swap(struct model_thread *thread, struct model_task *current)
{
	struct model_task *before = thread->async ? thread->async->current : NULL;

	if (thread->async)
		thread->async->current = current;
	return before;
}

void model_async_drop(struct model_frame *frame)
{
	task_unref(frame->task);
	frame->task = NULL;
}

void model_async_release(struct pt_model *model, struct model_thread *thread)
{
	thread->coro = 0;
	if (!thread->async)
		return;
	task_unref(thread->async->held);
	coroutines_release(model, thread->async);
	free(thread->async);
	thread->async = NULL;
}

/* ---- what goes out ---- */

/* From now on it has a track. */
static void show(struct pt_model *model, struct model_task *task)
{
	struct model_function *function = model_code_function(model, task->code);

	if (!function)
		return;
	if (!task->instance)
		task->track = (pid_t)(PT_TRACK_TID | (model->tracks++ & (PT_TRACK_TID - 1)));
	task->instance = ++function->tasks;
}

static void write_name(char *name, size_t size, const char *given,
		       const struct model_function *function, uint32_t instance)
{
	if (given)
		snprintf(name, size, "task %s (%s #%u)", given, function->pub.qualname, instance);
	else
		snprintf(name, size, "task %s #%u", function->pub.qualname, instance);
}

static void announce(struct pt_model *model, const struct model_thread *thread,
		     struct model_task *task, const struct model_function *function)
{
	char name[NAME_MAX_BYTES];
	struct pt_op op = {
	    .kind = PT_OP_THREAD,
	    .thread =
		{
		    .pid = thread->process->pid,
		    .tid = task->track,
		    .time_ns = model->gate_open_ns,
		    .name = name,
		},
	};

	if (task->told_ns == model->clear_ns + 1)
		return;
	task->told_ns = model->clear_ns + 1;
	write_name(name, sizeof(name), task->name, function, task->instance);
	model_announce_process(model, thread->process);
	model_emit(model, &op);
}

static void tell_flow(struct pt_model *model, const struct model_thread *thread,
		      struct model_task *task, uint64_t to_ns)
{
	struct pt_op op = {
	    .kind = PT_OP_FLOW,
	    .flow =
		{
		    .from = {thread->process->pid, task->made_on, task->made_ns},
		    .to = {thread->process->pid, task->track, to_ns},
		    .id = ++model->next_flow_id,
		    .category = "create_task",
		    .name = "create_task",
		},
	};

	if (task->made_ns > model->clear_ns)
		model_emit(model, &op);
	task->made_ns = 0;
}

/* The wait before a step that begins at ns. */
static void tell_wait(struct pt_model *model, const struct model_thread *thread,
		      const struct model_task *task, uint64_t ns)
{
	struct pt_op op = {
	    .kind = PT_OP_SPAN,
	    .span =
		{
		    .pid = thread->process->pid,
		    .tid = task->track,
		    .begin_ns = task->end_ns + 1, /* no boundary comes twice */
		    .end_ns = ns - 1,
		    .category = "asyncio_wait",
		    .name = "wait",
		},
	};

	if (!task->end_ns)
		return;
	if (op.span.begin_ns <= model->clear_ns)
		op.span.begin_ns = model->clear_ns + 1;
	if (op.span.begin_ns >= op.span.end_ns ||
	    op.span.end_ns - op.span.begin_ns < model->options.min_duration_ns)
		return;
	model->totals.spans++;
	model_emit(model, &op);
}

static void tell_step(struct pt_model *model, struct model_thread *thread, struct model_task *task,
		      uint64_t begin_ns, uint64_t end_ns, uint32_t flags)
{
	struct model_function *function = model_code_function(model, task->code);
	char parent[NAME_MAX_BYTES];
	struct pt_arg args[3] = {{.key = "thread", .number = thread->tid}};
	struct pt_op op = {
	    .kind = PT_OP_SPAN,
	    .span =
		{
		    .pid = thread->process->pid,
		    .tid = task->track,
		    .end_ns = end_ns,
		    .category = "asyncio_step",
		    .args = args,
		    .arg_count = 1,
		    .flags = flags,
		},
	};

	if (!function || model_thread_silent(model, thread) || end_ns <= model->clear_ns + 1)
		return;
	if (begin_ns <= model->clear_ns)
		begin_ns = model->clear_ns + 1;
	op.span.begin_ns = begin_ns;
	op.span.name = function->pub.qualname;
	op.span.task = &function->pub;
	op.span.task_begin_ns = task->seen_ns;
	announce(model, thread, task, function);
	tell_wait(model, thread, task, begin_ns);
	if (end_ns - begin_ns < model->options.min_duration_ns ||
	    (model->drop_open && flags & PT_SLICE_OPEN_AT_END))
		return;
	if (task->whole)
		args[op.span.arg_count++] = (struct pt_arg){.key = "step",
							    .number = (int64_t)task->steps};
	if (task->whole && task->steps == 1 && task->parent) {
		write_name(parent, sizeof(parent), NULL, task->parent, task->parent_instance);
		args[op.span.arg_count++] = (struct pt_arg){.key = "parent", .text = parent};
	}
	model->totals.spans++;
	model_emit(model, &op);
	if (task->made_ns)
		tell_flow(model, thread, task, begin_ns);
}

/* A step of a task that is shown is over. */
static void end_step(struct pt_model *model, struct model_thread *thread, struct model_task *task,
		     uint64_t begin_ns, uint64_t end_ns, uint32_t flags)
{
	task->steps++;
	tell_step(model, thread, task, begin_ns, end_ns, flags);
	task->end_ns = end_ns;
}

void model_async_settle(struct pt_model *model, struct model_thread *thread)
{
	struct model_async *async = thread->async;
	struct model_task *task = async ? async->held : NULL;

	if (!task)
		return;
	async->held = NULL;
	end_step(model, thread, task, async->held_begin_ns, async->held_end_ns, async->held_flags);
	task_unref(task);
}

/* ---- steps ---- */

/* Whether the frame on top was entered by an await of the frame below: a coroutine's, perhaps
 * through generators (__await__). */
static bool is_awaited(const struct model_thread *thread)
{
	for (uint32_t i = thread->frame_count - 1; i > 0; i--) {
		const struct model_frame *below = &thread->frames[i - 1];

		if (!below->code || below->is_c)
			continue;
		if (below->code->co_flags & (CO_COROUTINE | CO_ASYNC_GENERATOR))
			return true;
		if (!(below->code->co_flags & CO_GENERATOR))
			return false;
	}
	return false;
}

static struct model_task *task_new(struct pt_model *model, struct model_code *code, uint64_t object,
				   bool first, struct model_coroutine *coroutine)
{
	struct model_task *task = calloc(1, sizeof(*task));

	if (!task) {
		model_fail(model, -ENOMEM);
		return NULL;
	}
	task->code = code;
	task->object = object;
	task->whole = first;
	if (first) {
		task->made_ns = coroutine->made_ns;
		task->made_on = coroutine->made_on;
		task->parent = coroutine->parent;
		task->parent_instance = coroutine->parent_instance;
		task->name = coroutine->name;
		coroutine->name = NULL;
	}
	set_task(coroutine, task);
	return task;
}

/* The task that a coroutine is, which nothing awaits; NULL: it is none. */
static struct model_task *task_of(struct pt_model *model, struct model_async *async,
				  struct model_coroutine *coroutine, struct model_code *code,
				  uint64_t coro)
{
	struct model_task *task = coroutine->task;
	uint64_t object = coro & ~PT_CORO_BITS;
	bool first = coro & PT_CORO_FIRST;

	if (!(code->co_flags & CO_COROUTINE) && (first || !task)) {
		/* an asynchronous generator that is driven by itself: not by its address can one
		 * tell which task drives it */
		set_task(coroutine, async->current);
		return NULL;
	}
	if (first)
		return task_new(model, code, object, true, coroutine);
	if (task)
		return task->running ? NULL : task;
	task = async->held;
	if (!task || task->whole)
		return task_new(model, code, object, false, coroutine);
	/* a task that began before the recording gets an exception: this is a caller of the piece
	 * before it */
	task->code = code;
	task->object = object;
	if (task->instance)
		show(model, task);
	set_task(coroutine, task);
	return task;
}

/* What nobody was seen to make a task of may be one all the same: once it is resumed. Until then it
 * may as well be a coroutine that close() ends before it has run, which up to 3.11 enters it; and
 * within the step of another task, one that the program drives itself. */
static bool is_task(const struct model_async *async, const struct model_task *task)
{
	return task->made_ns || (!async->current && (!task->whole || task->first_end_ns));
}

static void begin_step(struct pt_model *model, struct model_thread *thread,
		       struct model_frame *frame, struct model_task *task)
{
	struct model_async *async = thread->async;
	uint64_t object = thread->coro & ~PT_CORO_BITS;

	if (!task->instance && is_task(async, task)) {
		show(model, task);
		if (task->first_end_ns)
			end_step(model, thread, task, task->first_begin_ns, task->first_end_ns, 0);
	}
	frame->task = task_ref(task);
	task->begin_ns = frame->begin_ns;
	/* the coroutine that the task is comes last */
	if (async->held == task && task->piece != object &&
	    (!task->whole || task->piece != task->object)) {
		task->begin_ns = async->held_begin_ns;
		async->held = NULL;
		task_unref(task);
	}
	model_async_settle(model, thread);
	if (!task->seen_ns) /* NOLINT(clang-analyzer-unix.Malloc): the frame refers to it */
		task->seen_ns = task->begin_ns;
	task->piece = object;
	task->outer = async->current;
	task->running = true;
	async->current = task;
}

void model_async_enter(struct pt_model *model, struct model_thread *thread)
{
	struct model_frame *frame = &thread->frames[thread->frame_count - 1];
	struct model_async *async = async_get(model, thread);
	struct model_coroutine *coroutine;
	struct model_task *task = NULL;

	coroutine = async ? coroutine_get(model, async, thread->coro & ~PT_CORO_BITS) : NULL;
	if (!coroutine)
		return;
	if (is_awaited(thread))
		set_task(coroutine, async->current);
	else
		task = task_of(model, async, coroutine, frame->code, thread->coro);
	if (thread->coro & PT_CORO_FIRST) {
		coroutine->made_ns = 0;
		coroutine->parent = NULL;
		set_name(coroutine, NULL);
	}
	if (task)
		begin_step(model, thread, frame, task);
	else
		model_async_settle(model, thread);
}

void model_async_leave(struct pt_model *model, struct model_thread *thread,
		       const struct model_frame *frame, uint64_t end_ns, uint32_t flags)
{
	struct model_async *async = thread->async;
	struct model_task *task = frame->task;

	task->running = false;
	async->current = task->outer;
	model_async_settle(model, thread);
	if (task->instance) {
		async->held = task; /* and the frame's reference */
		async->held_begin_ns = task->begin_ns;
		async->held_end_ns = end_ns;
		async->held_flags = frame->flags | flags;
		return;
	}
	if (!task->first_end_ns && task->whole && !flags) {
		task->first_begin_ns = task->begin_ns;
		task->first_end_ns = end_ns;
	} else {
		task->whole = false;
		task->first_end_ns = 0;
	}
	task_unref(task);
}

/* An exception goes through a generator, too (that of an __await__), of which nobody tells whose it
 * is: where it comes between pieces it is one. */
void model_async_other(struct pt_model *model, struct model_thread *thread, bool enter)
{
	const struct model_frame *top;

	if (!thread->async->held)
		return;
	top = thread->frame_count ? &thread->frames[thread->frame_count - 1] : NULL;
	if (!top || !top->code || top->is_c || !(top->code->co_flags & CO_GENERATOR) ||
	    is_awaited(thread) || (!enter && top->begin_ns < thread->async->held_end_ns))
		model_async_settle(model, thread);
}

/* ---- who made it ---- */

static bool is_open(const struct model_thread *thread, uint64_t call_id)
{
	for (uint32_t i = thread->frame_count; i > 0; i--)
		if (thread->frames[i - 1].id == call_id)
			return true;
	return false;
}

/* asyncio.create_task() calls create_task() of the loop: it is the outer one that the program
 * called.
 */
void model_async_made(struct pt_model *model, struct model_thread *thread, uint64_t object)
{
	struct model_async *async = async_get(model, thread);
	struct model_coroutine *coroutine = async ? coroutine_get(model, async, object) : NULL;
	const struct model_frame *frame;
	const struct model_task *parent;

	if (!coroutine || !thread->frame_count)
		return;
	frame = &thread->frames[thread->frame_count - 1];
	if (!frame->code || (coroutine->made_ns && is_open(thread, coroutine->made_by)))
		return;
	coroutine->made_ns = frame->begin_ns;
	coroutine->made_by = frame->id;
	coroutine->made_on = model_greenlet_track(model, thread);
	coroutine->parent = NULL;
	set_name(coroutine, NULL);
	parent = async->current;
	while (parent && !parent->instance)
		parent = parent->outer;
	if (parent) {
		coroutine->parent = parent->code->function;
		coroutine->parent_instance = parent->instance;
	}
}

/* The name that a record has; NULL: none. */
static char *name_from(const struct pt_rec_runtime *record)
{
	char text[MODEL_TEXT_MAX];

	if (record->items[0].type == PT_RT_INT) {
		snprintf(text, sizeof(text), "Task-%lld", (long long)record->items[0].number);
		return strdup(text);
	}
	pt_rt_item_utf8(record, 0, text, sizeof(text) - 4);
	if (record->items[0].truncated)
		strcat(text, "\u2026");
	return strdup(text);
}

/* From now on; a track that has been announced is announced once more. */
static void rename_task(struct pt_model *model, const struct model_thread *thread,
			struct model_task *task, char *name)
{
	struct model_function *function = model_code_function(model, task->code);

	if (task->name && !strcmp(task->name, name)) {
		free(name);
		return;
	}
	free(task->name);
	task->name = name;
	if (!task->told_ns || !function)
		return;
	task->told_ns = 0;
	announce(model, thread, task, function);
}

void model_async_named(struct pt_model *model, struct model_thread *thread, uint64_t object,
		       const struct pt_rec_runtime *record)
{
	struct model_coroutine *coroutine = thread->async
						? pt_map_get(&thread->async->coroutines, object, 0)
						: NULL;
	char *name;

	if (!coroutine || !record || !record->item_count || record->items[0].truncated == 2 ||
	    (!coroutine->made_ns && !coroutine->task))
		return;
	name = name_from(record);
	if (!name)
		model_fail(model, -ENOMEM);
	else if (coroutine->made_ns)
		set_name(coroutine, name);
	else
		rename_task(model, thread, coroutine->task, name);
}
