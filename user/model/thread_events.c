// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * What an event does to a thread's stack: frames, and calls of C functions, begin and end.
 */
#include <errno.h>
#include <stdlib.h>

#include "model/model_priv.h"
#include "model/thread_parts.h"

static uint64_t boundary(struct model_thread *thread, uint64_t ns)
{
	if (ns <= thread->last_ns)
		ns = thread->last_ns + 1;
	thread->last_ns = ns;
	return ns;
}

static bool frame_reserve(struct pt_model *model, struct model_thread *thread)
{
	uint32_t size = thread->frame_size ? 2 * thread->frame_size : 32;
	struct model_frame *frames;

	if (thread->frame_count < thread->frame_size)
		return true;
	frames = realloc(thread->frames, size * sizeof(*frames));
	if (!frames) {
		model_fail(model, -ENOMEM);
		return false;
	}
	thread->frames = frames;
	thread->frame_size = size;
	return true;
}

/* A span that its frame outlives ends by a word of its own; if that did not come, it was lost. */
static uint32_t span_flags(const struct model_span *span, uint32_t flags)
{
	return flags || span->end.what || span->scoped ? flags : PT_SLICE_INTO_LOSS;
}

/* The line of the call that `frame`, which is or just was on the stack, came from, and where. */
static uint32_t call_line(struct pt_model *model, const struct model_thread *thread,
			  const struct model_frame *frame, const struct pt_function **function)
{
	const struct model_code *around = NULL;

	if (!frame->caller)
		return 0;
	/* What is no Python frame lies between: a collection that runs a finalizer, which has no
	 * code, or a C function that calls back. */
	for (const struct model_frame *f = frame; f > thread->frames && !around; f--)
		around = f[-1].is_c ? NULL : f[-1].code;
	if (!around)
		return 0;
	/* A line of another caller would be taken for one of the slice around: of one that is left
	 * out of the trace, or that throw() passed through without entering it. */
	if (!model_code_same(around, frame->caller) || !around->function ||
	    around->function->excluded)
		return 0;
	*function = &around->function->pub;
	return model_lines_find(model, frame->caller, frame->call_unit);
}

uint32_t model_thread_call_line(struct pt_model *model, const struct model_thread *thread,
				const struct model_frame *frame)
{
	const struct pt_function *function;

	return call_line(model, thread, frame, &function);
}

bool model_thread_is_shown(const struct pt_model *model, const struct model_frame *frame,
			   const struct model_function *function, uint64_t end_ns)
{
	const struct pt_model_options *options = &model->options;

	return function && !function->excluded &&
	       end_ns - frame->begin_ns >= options->min_duration_ns &&
	       (!options->max_stack_depth || frame->level <= options->max_stack_depth);
}

void model_thread_fill_slice(struct pt_model *model, struct model_thread *thread,
			     const struct model_frame *frame, const struct model_function *function,
			     uint64_t end_ns, uint32_t flags, struct pt_op_slice *slice)
{
	slice->pid = thread->process->pid;
	slice->tid = model_greenlet_track(model, thread);
	slice->function = &function->pub;
	slice->begin_ns = frame->begin_ns;
	slice->end_ns = end_ns;
	slice->id = frame->id;
	slice->parent_id = frame->parent_id;
	slice->depth = frame->level;
	slice->flags = frame->flags | flags;
	slice->call_line = call_line(model, thread, frame, &slice->call_function);
	slice->values = frame->args || frame->result ? model_values_show(model, frame) : NULL;
}

void model_thread_frame_drop_values(struct pt_model *model, struct model_frame *frame)
{
	if (!frame->args && !frame->result)
		return;
	model_values_free(model, frame->args);
	model_values_free(model, frame->result);
	frame->args = frame->result = NULL;
}

/* Cost of a slice: this, the sink, and model_thread_push(). */
static void pop_frame(struct pt_model *model, struct model_thread *thread, uint64_t ns,
		      uint32_t flags)
{
	struct model_frame *frame = &thread->frames[--thread->frame_count];
	struct model_function *function;
	struct pt_op op;

	ns = boundary(thread, ns);
	model->open_frames--;
	if (thread->frame_count < thread->opened_at_start)
		thread->opened_at_start = 0;
	if (frame->span) {
		thread->span_count--;
		model_span_end(model, thread, frame, ns, span_flags(frame->span, flags));
		return;
	}
	if (frame->task)
		model_async_leave(model, thread, frame, ns, flags);
	function = model_code_function(model, frame->code);
	if (!model_thread_is_shown(model, frame, function, ns) ||
	    model_thread_silent(model, thread) ||
	    (model->drop_open && flags & PT_SLICE_OPEN_AT_END)) {
		model_thread_frame_drop_values(model, frame);
		return;
	}
	model_function_announce(model, function);
	if (!thread->announced)
		model_thread_announce(model, thread);
	model->totals.slices++;
	op.kind = PT_OP_SLICE;
	model_thread_fill_slice(model, thread, frame, function, ns, flags, &op.slice);
	model_emit(model, &op);
	model_thread_frame_drop_values(model, frame);
}

void model_thread_pop(struct pt_model *model, struct model_thread *thread, uint64_t ns,
		      uint32_t flags)
{
	bool outermost = thread->greenlets && thread->frame_count == 1;

	if (outermost)
		model_greenlet_ending(thread);
	pop_frame(model, thread, ns, flags);
	if (outermost)
		model_greenlet_ended(thread);
}

void model_thread_pop_above(struct pt_model *model, struct model_thread *thread, uint32_t depth,
			    uint64_t ns, uint32_t flags)
{
	while (thread->frame_count && thread->frames[thread->frame_count - 1].depth > depth)
		model_thread_pop(model, thread, ns, flags);
}

/* A frame on top; NULL: there is no room. */
static struct model_frame *push_frame(struct pt_model *model, struct model_thread *thread,
				      uint32_t depth, uint64_t ns, uint32_t flags)
{
	struct model_frame *frame, *below;
	bool below_visible;

	if (!frame_reserve(model, thread))
		return NULL;
	if (model->open_frames >= MODEL_MAX_FRAMES) {
		model->totals.bad_records++; /* no real program; do not let it take all memory */
		return NULL;
	}
	model->open_frames++;
	frame = &thread->frames[thread->frame_count];
	frame->code = NULL;
	frame->span = NULL;
	frame->task = NULL;
	frame->begin_ns = boundary(thread, ns);
	frame->id = 0;
	frame->depth = depth;
	frame->flags = flags;
	frame->caller = NULL;
	frame->args = frame->result = NULL;
	frame->is_c = false;
	frame->parent_id = 0;
	frame->level = 1;
	if (thread->frame_count++) {
		below = frame - 1;
		below_visible = below->code &&
				(!below->code->function || !below->code->function->excluded);
		frame->parent_id = below_visible ? below->id : below->parent_id;
		frame->level = below->level + below_visible;
	}
	return frame;
}

void model_thread_push(struct pt_model *model, struct model_thread *thread, struct model_code *code,
		       uint32_t depth, uint64_t ns, uint32_t flags)
{
	struct model_frame *frame = code ? push_frame(model, thread, depth, ns, flags) : NULL;

	if (!frame)
		return;
	frame->code = code;
	frame->id = ++model->next_call_id;
	if (thread->process->forked_by.pid && !thread->process->flow_told &&
	    !(code->function && code->function->excluded) && !model_thread_silent(model, thread))
		model_flow(model, thread, frame->begin_ns);
}

/* It has the depth of the frame that it lies on, so that it is above it and goes with it. */
void model_thread_push_span(struct pt_model *model, struct model_thread *thread,
			    struct model_span *span, uint64_t ns)
{
	struct model_frame *frame = push_frame(model, thread, thread->depth, ns, 0);

	if (!frame) {
		model_span_free(span);
		return;
	}
	frame->span = span;
	thread->span_count++;
}

void model_thread_pop_to(struct pt_model *model, struct model_thread *thread, uint32_t count,
			 uint64_t ns, uint32_t flags)
{
	while (thread->frame_count > count)
		model_thread_pop(model, thread, ns, flags);
}

static void enter(struct pt_model *model, struct model_thread *thread, const struct pt_ev *event)
{
	uint32_t frames;

	if (thread->depth < DEPTH_MAX)
		thread->depth++;
	else
		model_thread_pop_above(model, thread, DEPTH_MAX - 1, event->time_ns,
				       PT_SLICE_INTO_LOSS);
	frames = thread->frame_count;
	model_thread_push(model, thread, model_code_get(model, event->code_id), thread->depth,
			  event->time_ns, 0);
	if (thread->frame_count > frames) {
		thread->frames[frames].caller = thread->caller;
		thread->frames[frames].call_unit = thread->call_unit;
		thread->frames[frames].args = thread->next_args;
		thread->next_args = NULL;
		if (thread->coro)
			model_async_enter(model, thread);
	}
	if (thread->async && !thread->coro)
		model_async_other(model, thread, true);
}

/* An exit carries the low bits of the depth; the rest is that of the depth before. */
static void leave(struct pt_model *model, struct model_thread *thread, const struct pt_ev *event)
{
	uint32_t depth = (thread->depth & ~PT_WORD_ARG_MASK) | event->depth;

	if (depth > thread->depth) {
		if (depth > PT_WORD_ARG_MASK)
			depth -= PT_WORD_ARG_MASK + 1;
		else
			model->totals.stack_jumps++; /* deeper than believed: calls were missed */
	}
	if (thread->at_first_event) {
		if (!thread->frame_count || thread->frames[thread->frame_count - 1].depth <= depth)
			model_thread_first_exit(model, thread, depth);
		model_runtime_replay(model, thread);
	}
	model_thread_pop_above(model, thread, depth, event->time_ns, 0);
	thread->depth = depth;
}

static void enter_c(struct pt_model *model, struct model_thread *thread, const struct pt_ev *event)
{
	struct model_code *code = model_code_get(model, event->code_id);
	uint32_t count;

	if (!thread->depth) {
		model->totals.bad_records++; /* nobody is there who could call it */
		return;
	}
	/* else the frame calls one at a time, and an earlier one was lost sight of */
	if (!code || !code->c_probed)
		model_thread_close_c(model, thread, event->time_ns, PT_SLICE_INTO_LOSS);
	count = thread->frame_count;
	model_thread_push(model, thread, code, thread->depth, event->time_ns, 0);
	if (thread->frame_count > count)
		thread->frames[count].is_c = true;
}

static void leave_c(struct pt_model *model, struct model_thread *thread, const struct pt_ev *event)
{
	/* else frames were missed, and so was what they left open */
	if ((thread->depth & PT_WORD_ARG_MASK) == event->depth)
		model_thread_close_c(model, thread, event->time_ns, 0);
	else
		model->totals.stack_jumps++;
}

void model_thread_drop_next_args(struct pt_model *model, struct model_thread *thread)
{
	if (!thread->next_args)
		return;
	model_values_free(model, thread->next_args);
	thread->next_args = NULL;
}

/* What the next frame is called with, or what the innermost one returns. */
static void take_values(struct pt_model *model, struct model_thread *thread,
			const struct pt_ev *event)
{
	struct model_values *values = model_values_take(model, thread, event->serial);
	uint32_t i = thread->frame_count;

	model_thread_drop_next_args(model, thread);
	if (event->kind == PT_EV_ARGS) {
		thread->next_args = values;
		return;
	}
	/* what lies on it and is no Python frame goes with it */
	while (i > 0 && (thread->frames[i - 1].span || thread->frames[i - 1].is_c))
		i--;
	if (!i || thread->frames[i - 1].depth != thread->depth) {
		model_values_free(model, values);
		return;
	}
	model_values_free(model, thread->frames[i - 1].result);
	thread->frames[i - 1].result = values;
}

/* What is open, and pauses. True: that was all of the event. */
static bool take_state(struct pt_model *model, struct model_thread *thread,
		       const struct pt_ev *event)
{
	if (event->kind == PT_EV_SNAP) {
		thread->caller = NULL;
		model_thread_drop_next_args(model, thread);
		thread->coro = 0;
		model_async_settle(model, thread);
		model_thread_snapshot_begin(model, thread, event);
		return true;
	}
	if (event->kind == PT_EV_OPEN) {
		model_thread_snapshot_add(model, thread, event);
		return true;
	}
	if (thread->snap_active)
		model_thread_snapshot_apply(model, thread);
	if (event->kind == PT_EV_SWITCH) {
		model_greenlet_switch(model, thread, event->object);
		return true;
	}
	if (thread->at_first_event && event->kind != PT_EV_EXIT)
		model_runtime_replay(model, thread);
	if (event->kind == PT_EV_PAUSED) {
		thread->caller = NULL;
		model_async_forget(model, thread);
		model_thread_pause_ended_frames(model, thread, event);
		return true;
	}
	if (thread->paused) { /* no snapshot was needed */
		thread->paused = false;
		model_runtime_replay(model, thread);
	}
	return false;
}

/* What is said of the event that follows. True: that was all. */
static bool take_prefix(struct pt_model *model, struct model_thread *thread,
			const struct pt_ev *event)
{
	if (event->kind == PT_EV_LINE) {
		thread->caller = model_code_get(model, event->code_id);
		thread->call_unit = event->unit;
		return true;
	}
	if (event->kind == PT_EV_ARGS || event->kind == PT_EV_RESULT) {
		take_values(model, thread, event);
		return true;
	}
	if (event->kind == PT_EV_CORO) {
		thread->coro = event->object | event->coro;
		return true;
	}
	return false;
}

void model_thread_take_event(struct pt_model *model, struct model_thread *thread,
			     const struct pt_ev *event)
{
	if (thread->absent_ns && event->kind != PT_EV_PAUSED && event->time_ns > thread->absent_ns)
		thread->absent_ns = 0;
	if (take_state(model, thread, event) || take_prefix(model, thread, event))
		return;
	if (thread->async && event->kind == PT_EV_EXIT)
		model_async_other(model, thread, false);
	else if (thread->async && event->kind != PT_EV_ENTER && event->kind != PT_EV_DEPTH)
		model_async_settle(model, thread);
	switch (event->kind) {
	case PT_EV_TASK:
		model_async_made(model, thread, event->object);
		break;
	case PT_EV_ENTER:
		enter(model, thread, event);
		break;
	case PT_EV_EXIT:
		leave(model, thread, event);
		break;
	case PT_EV_DEPTH:
		model_thread_set_depth(model, thread, event->depth, event->time_ns, 0);
		break;
	case PT_EV_C_ENTER:
		enter_c(model, thread, event);
		break;
	case PT_EV_C_EXIT:
		leave_c(model, thread, event);
		break;
	case PT_EV_SNAP:
	case PT_EV_OPEN:
	case PT_EV_PAUSED:
	case PT_EV_RT_BEGIN:
	case PT_EV_RT_END:
	case PT_EV_RT_INSTANT:
	case PT_EV_CUDA_BEGIN:
	case PT_EV_CUDA_END:
	case PT_EV_STACK:
	case PT_EV_BLOCK:
	case PT_EV_LINE:
	case PT_EV_ARGS:
	case PT_EV_RESULT:
	case PT_EV_CORO:
	case PT_EV_SWITCH:
		break;
	}
	if (event->kind != PT_EV_DEPTH) {
		thread->caller = NULL;
		model_thread_drop_next_args(model, thread);
		thread->coro = 0;
	}
	if (thread->at_first_event) {
		thread->at_first_event = false;
		model_thread_opens_release(model, &thread->outside);
	}
}
