// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * What is no Python frame. Such words stand in a thread's batches, in order with its calls, so a
 * span is pushed and popped on the same stack as the frames, and nests with them by construction.
 *
 * A word may come before the stack is known: at a thread's start, or after a loss, until the next
 * call or return brings a snapshot. No call happened in between, so these words wait, and are
 * replayed on top of the stack that the snapshot tells of.
 *
 * Waits for the GIL. The interpreter waits in turns of a few milliseconds. A turn that timed out is
 * followed by the next one unless the GIL was free just then, so a wait ends with the turn that did
 * not time out, or with the last one before anything else happens in the thread.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/model_priv.h"

/* So many words may wait for a snapshot; a thread that calls no Python function never sends one. */
#define EARLY_MAX 1024

#define TEXT_MAX MODEL_TEXT_MAX

/* ---- details ---- */

static void details_drop(struct pt_model *model, struct model_thread *thread)
{
	struct model_details *first = thread->details;

	thread->details = first->next;
	if (!thread->details)
		thread->details_tail = NULL;
	model->details_bytes -= first->record.hdr.len;
	free(first);
}

void model_runtime_record(struct pt_model *model, struct model_thread *thread,
			  const struct pt_rec_runtime *record, size_t len)
{
	struct model_details *details;

	if (model->details_bytes + len > MODEL_MAX_DETAILS) {
		model->totals.bad_records++;
		return;
	}
	details = malloc(offsetof(struct model_details, record) + len);
	if (!details) {
		model_fail(model, -ENOMEM);
		return;
	}
	details->next = NULL;
	memcpy(&details->record, record, len);
	if (!thread->details_tail)
		thread->details_tail = &thread->details;
	*thread->details_tail = details;
	thread->details_tail = &details->next;
	model->details_bytes += len;
}

/* The details of a word, or NULL if they were lost. Those before it are of words that were lost. */
static const struct pt_rec_runtime *
details_find(struct pt_model *model, struct model_thread *thread, const struct pt_ev_rt *rt)
{
	uint32_t serial = (uint32_t)rt->value[0];

	if (!(rt->flags & PT_RT_DETAILS) || !rt->values)
		return NULL;
	while (thread->details && (int32_t)(thread->details->record.serial - serial) < 0)
		details_drop(model, thread);
	if (!thread->details || thread->details->record.serial != serial ||
	    thread->details->record.what != rt->what)
		return NULL;
	return &thread->details->record;
}

static struct pt_rec_runtime *details_copy(struct pt_model *model,
					   const struct pt_rec_runtime *record)
{
	struct pt_rec_runtime *copy = record ? malloc(record->hdr.len) : NULL;

	if (copy)
		memcpy(copy, record, record->hdr.len);
	else if (record)
		model_fail(model, -ENOMEM);
	return copy;
}

/* ---- texts ---- */

struct texts {
	struct pt_arg args[PT_RT_ITEMS_MAX + PT_RT_VALUES_MAX + 1];
	uint32_t arg_count;
	char text[PT_RT_ITEMS_MAX][TEXT_MAX];
	uint32_t text_count;
};

static void add_number(struct texts *texts, const char *key, int64_t number)
{
	texts->args[texts->arg_count++] = (struct pt_arg){.key = key, .number = number};
}

static const char *item_text(struct texts *texts, const struct pt_rec_runtime *record,
			     unsigned int i)
{
	const struct pt_rt_item *item = &record->items[i];
	char *text = texts->text[texts->text_count++];

	pt_rt_item_utf8(record, i, text, TEXT_MAX - 4);
	if (item->truncated == 1)
		strcat(text, "\u2026");
	else if (item->truncated == 2 && !text[0])
		strcpy(text, "?");
	return text;
}

/* The first item, which is the event's name. */
static const char *name_of(struct texts *texts, const struct pt_rec_runtime *record,
			   const char *otherwise)
{
	return record && record->item_count ? item_text(texts, record, 0) : otherwise;
}

static void gc_texts(const struct model_span *span, struct texts *texts, char *name, size_t size)
{
	const struct pt_ev_rt *begin = &span->begin, *end = &span->end;
	int64_t generation = begin->values ? begin->value[0] : -1;

	if (end->values == 3)
		generation = end->value[0];
	snprintf(name, size, generation < 0 ? "gc" : "gc generation %d", (int)generation);
	if (generation >= 0)
		add_number(texts, "generation", generation);
	if (end->values == 3) {
		add_number(texts, "collected", end->value[1]);
		add_number(texts, "uncollectable", end->value[2]);
	} else if (end->values) {
		add_number(texts, "unreachable", end->value[0]);
	}
}

/* Who had the GIL when the wait began. Of a thread that has had no events nothing is known, but
 * that its id is the same everywhere if this thread's is. */
static void add_holder(struct pt_model *model, const struct model_thread *thread,
		       const struct pt_ev_rt *begin, struct texts *texts)
{
	uint64_t pid = (uint32_t)thread->process->pid;
	const struct model_thread *holder;

	if (!begin->values || begin->value[0] <= 0 || begin->value[0] > INT32_MAX)
		return;
	holder = pt_map_get(&model->ns_threads, pid << 32 | (uint64_t)begin->value[0],
			    thread->process->image_id);
	if (!holder && thread->ns_tid != thread->tid)
		return;
	add_number(texts, "holder", holder ? holder->tid : begin->value[0]);
	if (holder && holder->name[0])
		texts->args[texts->arg_count++] = (struct pt_arg){.key = "holder name",
								  .text = holder->name};
}

static void gc_counter(struct pt_model *model, const struct model_thread *thread,
		       const struct model_span *span, uint64_t ns)
{
	const struct pt_ev_rt *end = &span->end;
	struct pt_op op = {
	    .kind = PT_OP_COUNTER,
	    .counter =
		{
		    .pid = thread->process->pid,
		    .time_ns = ns,
		    .name = "gc: unreachable objects",
		    .series = "objects",
		},
	};

	if (!end->values)
		return;
	op.counter.value = (double)(end->values == 3 ? end->value[1] + end->value[2]
						     : end->value[0]);
	model_emit(model, &op);
}

/* ---- spans ---- */

void model_span_free(struct model_span *span)
{
	if (span) {
		free(span->details);
		free(span->cuda);
	}
	free(span);
}

static void span_emit(struct pt_model *model, struct model_thread *thread,
		      const struct model_frame *frame, uint64_t end_ns, uint32_t flags)
{
	const struct model_span *span = frame->span;
	struct texts texts = {.arg_count = 0};
	struct model_mark_texts mark;
	char name[TEXT_MAX + 16];
	struct pt_op op = {
	    .kind = PT_OP_SPAN,
	    .span =
		{
		    .pid = thread->process->pid,
		    .tid = model_greenlet_track(model, thread),
		    .begin_ns = frame->begin_ns,
		    .end_ns = end_ns,
		    .name = name,
		    .args = texts.args,
		    .flags = frame->flags | flags,
		},
	};

	if (model_thread_silent(model, thread))
		return;
	if (span->cuda) {
		model_cuda_emit(model, thread, frame, end_ns, frame->flags | flags);
		return;
	}
	switch ((enum pt_rt_what)span->what) {
	case PT_RT_GC:
		op.span.category = "gc";
		gc_texts(span, &texts, name, sizeof(name));
		break;
	case PT_RT_GIL:
		op.span.category = "gil";
		snprintf(name, sizeof(name), "wait for the GIL");
		add_number(&texts, "timed waits", span->waits);
		add_holder(model, thread, &span->begin, &texts);
		break;
	case PT_RT_IMPORT:
		op.span.category = "import";
		snprintf(name, sizeof(name), "import %s", name_of(&texts, span->details, "?"));
		break;
	case PT_RT_MARK:
		op.span.category = "mark";
		model_mark_texts(model, &span->begin, span->details, &mark);
		op.span.name = mark.name;
		op.span.args = mark.args;
		op.span.stack_id = model_mark_stack(model, span->stack, &mark);
		texts.arg_count = mark.arg_count;
		break;
	case PT_RT_AUDIT: /* these have no duration */
	case PT_RT_EXCEPTION:
	case PT_RT_TASK_NAME:
		return;
	}
	op.span.arg_count = texts.arg_count;
	model->totals.spans++;
	if (!thread->announced)
		model_thread_announce(model, thread);
	model_emit(model, &op);
	if (span->what == PT_RT_GC)
		gc_counter(model, thread, span, end_ns);
}

void model_span_end(struct pt_model *model, struct model_thread *thread,
		    const struct model_frame *frame, uint64_t end_ns, uint32_t flags)
{
	if (!frame->span->cancelled && end_ns - frame->begin_ns >= model->options.min_duration_ns)
		span_emit(model, thread, frame, end_ns, flags);
	else if (frame->span->cuda)
		model->totals.cuda_left_out++;
	model_span_free(frame->span);
}

/* Is it known, and may it begin? */
static bool is_span(uint16_t what)
{
	return what == PT_RT_GC || what == PT_RT_GIL || what == PT_RT_IMPORT || what == PT_RT_MARK;
}

static void begin(struct pt_model *model, struct model_thread *thread, const struct pt_ev *event)
{
	struct model_span *span;

	if (!is_span(event->rt.what))
		return;
	span = calloc(1, sizeof(*span));
	if (!span) {
		model_fail(model, -ENOMEM);
		return;
	}
	if (event->rt.what == PT_RT_MARK) {
		model_marks_left(model, thread, event);
		span->stack = model_stack_take(thread);
	}
	span->what = event->rt.what;
	span->begin = event->rt;
	span->scoped = span->what == PT_RT_IMPORT;
	span->waits = 1;
	span->details = details_copy(model, details_find(model, thread, &event->rt));
	model_thread_push_span(model, thread, span, event->time_ns);
}

/* Two ends of one call of the collector: its stack, where they tell it. */
static bool same_collection(const struct pt_ev_rt *begin, const struct pt_ev_rt *end)
{
	return begin->values != 2 || end->values != 2 || begin->value[1] == end->value[1];
}

/* Is this the end of that? */
static bool is_end(const struct model_span *span, const struct pt_ev_rt *end)
{
	if (span->what != end->what)
		return false;
	if (span->what == PT_RT_MARK)
		return model_mark_same(&span->begin, end);
	return span->what != PT_RT_GC || same_collection(&span->begin, end);
}

/* What an end belongs to began before the recording, or in a loss, if it is not found. */
static void end(struct pt_model *model, struct model_thread *thread, const struct pt_ev *event)
{
	uint32_t i = thread->span_count ? thread->frame_count : 0;
	struct model_span *span = NULL;

	while (i > 0 && !span) {
		span = thread->frames[--i].span;
		if (span && !is_end(span, &event->rt))
			span = NULL;
	}
	if (!span)
		return;
	model_thread_pop_to(model, thread, i + 1, event->time_ns, PT_SLICE_INTO_LOSS);
	span->end = event->rt;
	span->cancelled = event->rt.flags & PT_RT_CANCEL;
	if (span->what == PT_RT_GIL && event->rt.values && event->rt.value[0])
		thread->wait_ended_ns = event->time_ns; /* perhaps it goes on */
	else
		model_thread_pop_to(model, thread, i, event->time_ns, 0);
}

void model_runtime_settle(struct pt_model *model, struct model_thread *thread)
{
	uint64_t ns = thread->wait_ended_ns;

	if (!ns)
		return;
	thread->wait_ended_ns = 0;
	if (thread->frame_count)
		model_thread_pop_to(model, thread, thread->frame_count - 1, ns, 0);
}

/* The wait on top goes on. */
static bool wait_again(struct model_thread *thread, const struct pt_ev *event)
{
	if (!thread->wait_ended_ns || event->kind != PT_EV_RT_BEGIN || event->rt.what != PT_RT_GIL)
		return false;
	thread->wait_ended_ns = 0;
	thread->frames[thread->frame_count - 1].span->waits++;
	return true;
}

/* ---- instants ---- */

static void add_items(struct texts *texts, const struct pt_rec_runtime *record, unsigned int from,
		      const char *const *keys)
{
	for (unsigned int i = from; i < record->item_count; i++) {
		const struct pt_rt_item *item = &record->items[i];
		struct pt_arg *arg = &texts->args[texts->arg_count++];

		arg->key = keys[i];
		arg->number = item->number;
		if (item->type == PT_RT_INT)
			arg->text = NULL;
		else if (item->type == PT_RT_NONE)
			arg->text = "None";
		else
			arg->text = item_text(texts, record, i);
	}
}

/* The line at which an exception was raised. */
static void add_raise_line(struct pt_model *model, struct texts *texts, const struct pt_ev_rt *rt)
{
	const struct model_code *code;
	uint32_t line;

	if (rt->what != PT_RT_EXCEPTION || rt->values != 3 || rt->value[1] <= 0 ||
	    rt->value[1] > UINT32_MAX || rt->value[2] < 0 || rt->value[2] > PT_WORD_ARG_MASK)
		return;
	code = model_code_get(model, (uint32_t)rt->value[1]);
	line = code ? model_lines_find(model, code, (uint32_t)rt->value[2]) : 0;
	if (line)
		add_number(texts, "line", line);
}

static void instant(struct pt_model *model, struct model_thread *thread, const struct pt_ev *event)
{
	static const char *const number_keys[] = {"", "0", "1", "2", "3", "4"};
	/* one argument is a message; of more, none is more of it than another */
	static const char *const message_keys[] = {"", "message"};
	const struct pt_rec_runtime *record = details_find(model, thread, &event->rt);
	bool exception = event->rt.what == PT_RT_EXCEPTION;
	struct texts texts = {.arg_count = 0};
	struct pt_op op = {
	    .kind = PT_OP_INSTANT,
	    .instant =
		{
		    .pid = thread->process->pid,
		    .tid = model_greenlet_track(model, thread),
		    .time_ns = event->time_ns > thread->last_ns ? event->time_ns : thread->last_ns,
		    .category = exception ? "exception" : "audit",
		    .args = texts.args,
		},
	};

	if (event->rt.what == PT_RT_MARK)
		model_mark(model, thread, event, record);
	if (event->rt.what == PT_RT_TASK_NAME && event->rt.values == 2)
		model_async_named(model, thread, (uint64_t)event->rt.value[1], record);
	if (!exception && event->rt.what != PT_RT_AUDIT)
		return;
	op.instant.name = name_of(&texts, record, "?");
	if (record) {
		add_items(&texts, record, 1,
			  exception && record->item_count == 2 && !record->more ? message_keys
										: number_keys);
		if (record->more)
			add_number(&texts, "more", record->more);
	}
	add_raise_line(model, &texts, &event->rt);
	op.instant.arg_count = texts.arg_count;
	if (model_thread_silent(model, thread))
		return;
	model->totals.instants++;
	if (!thread->announced)
		model_thread_announce(model, thread);
	model_emit(model, &op);
}

/* ---- words ---- */

static void apply(struct pt_model *model, struct model_thread *thread, const struct pt_ev *event)
{
	if (wait_again(thread, event))
		return;
	model_runtime_settle(model, thread);
	if (event->kind == PT_EV_STACK)
		model_stack_event(model, thread, event->serial);
	else if (event->kind == PT_EV_BLOCK)
		model_stack_take(thread); /* it has nothing but the memory to show */
	else if (event->kind >= PT_EV_CUDA_BEGIN)
		model_cuda_event(model, thread, event);
	else if (event->kind == PT_EV_RT_BEGIN)
		begin(model, thread, event);
	else if (event->kind == PT_EV_RT_END)
		end(model, thread, event);
	else
		instant(model, thread, event);
}

static void keep(struct pt_model *model, struct model_thread *thread, const struct pt_ev *event)
{
	uint32_t size = thread->early_size ? 2 * thread->early_size : 16;
	struct pt_ev *early;

	/* counts as a frame, to bound the memory that hostile input can take */
	if (model->open_frames >= MODEL_MAX_FRAMES) {
		model->totals.bad_records++;
		return;
	}
	if (thread->early_count == thread->early_size) {
		early = realloc(thread->early, size * sizeof(*early));
		if (!early) {
			model_fail(model, -ENOMEM);
			return;
		}
		thread->early = early;
		thread->early_size = size;
	}
	thread->early[thread->early_count++] = *event;
	model->open_frames++;
	if (thread->early_count >= EARLY_MAX && !thread->snap_active)
		model_thread_assume(model, thread, thread->early[0].time_ns);
}

void model_runtime_event(struct pt_model *model, struct model_thread *thread, struct pt_ev *event)
{
	if (event->kind == PT_EV_CUDA_BEGIN)
		event->cuda.correlation = ++model->cuda_calls;
	if (model->memory && event->kind >= PT_EV_CUDA_BEGIN)
		model_memory_event(model, thread, event);
	if (model->gpu && event->kind >= PT_EV_CUDA_BEGIN)
		model_gpu_event(model, thread, event);
	if (thread->started && !thread->gap && !thread->snap_active && !thread->at_first_event &&
	    !thread->paused)
		apply(model, thread, event);
	else
		keep(model, thread, event);
}

void model_runtime_replay(struct pt_model *model, struct model_thread *thread)
{
	struct pt_ev *early = thread->early;
	uint32_t count = thread->early_count;

	if (!count)
		return;
	thread->early = NULL;
	thread->early_count = thread->early_size = 0;
	model->open_frames -= count;
	for (uint32_t i = 0; i < count; i++)
		apply(model, thread, &early[i]);
	free(early);
	model_runtime_settle(model, thread); /* what comes next is no wait */
}

void model_runtime_release(struct pt_model *model, struct model_thread *thread)
{
	while (thread->details)
		details_drop(model, thread);
	model->open_frames -= thread->early_count;
	free(thread->early);
	thread->early = NULL;
	thread->early_count = thread->early_size = 0;
	thread->wait_ended_ns = 0;
}
