// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * Samples (--engine sample), what blocks beside them (--off-cpu), and the spans that are put
 * together of them.
 *
 * A sample says what a thread ran when the clock of its CPU ticked, so it stands for the time since
 * the thread's sample before. What consecutive samples have in common, from the outermost frame on,
 * is taken to have gone on from one to the next: that is a guess, and so a category of its own.
 * Where a thread had no sample for longer than it takes to move to another CPU, whose clock ticks
 * at other times, it did not run: everything ends at the last sample.
 *
 * Where threads tell of single events, too (PT_SAMPLE_ASIDE), their slices begin and end between
 * two samples, so what is made of samples would not nest with them: each thread has a track for it.
 *
 * While a thread is blocked its stack is known, and goes on for as long: it counts as a sample at
 * the time it lost the CPU, and as one when it got it back.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "model/model_priv.h"

/* Of periods, as halves: at most two between samples of a thread that changes its CPU, and the
 * timers' own delay. */
#define JOIN_HALVES 5

struct sample_frame {
	struct model_function *function;
	uint64_t begin_ns;
	uint64_t samples, self, blocked_ns, waited_ns;
	struct sample_lines *lines; /* of the self samples */
	bool inside;                /* of another of the same function */
};

struct model_samples {
	struct sample_frame *frames; /* open ones, outermost first */
	uint32_t count, room;
	uint64_t last_ns;     /* of the last sample; 0: none */
	uint64_t boundary_ns; /* the last one given out */
	uint64_t clear_ns;    /* the model's, when the last sample came */
	pid_t track;          /* not the thread's; 0: it is */
	uint64_t told_ns;     /* the model's clear_ns when the track was announced, and 1 */
};

struct emitter {
	pt_op_fn fn; /* NULL: the model's own */
	void *ctx;
	int rc;
};

static uint64_t boundary(uint64_t *last_ns, uint64_t ns)
{
	*last_ns = ns > *last_ns ? ns : *last_ns + 1;
	return *last_ns;
}

static pid_t track_of(const struct model_thread *thread)
{
	return thread->samples->track ? thread->samples->track : thread->tid;
}

static void emit(struct pt_model *model, const struct model_thread *thread,
		 const struct sample_frame *frame, uint64_t end_ns, struct emitter *to)
{
	struct pt_arg args[6] = {
	    {.key = PT_SAMPLE_ARG, .number = (int64_t)frame->samples},
	    {.key = PT_SAMPLE_ARG_SELF, .number = (int64_t)frame->self},
	};
	struct pt_op op = {
	    .kind = PT_OP_SPAN,
	    .span =
		{
		    .pid = thread->process->pid,
		    .tid = track_of(thread),
		    .begin_ns = frame->begin_ns,
		    .end_ns = end_ns,
		    .category = PT_SAMPLE_CATEGORY,
		    .function = &frame->function->pub,
		    .args = args,
		    .arg_count = 2,
		},
	};
	struct pt_buf lines = {0};

	if (frame->lines) {
		model_sample_lines_text(frame->lines, &lines);
		if (lines.failed)
			model_fail(model, -ENOMEM);
		else
			args[op.span.arg_count++] = (struct pt_arg){.key = PT_SAMPLE_ARG_LINES,
								    .text = lines.data};
	}
	if (frame->inside)
		args[op.span.arg_count++] = (struct pt_arg){.key = PT_SAMPLE_ARG_WHOM, .number = 1};
	if (frame->blocked_ns)
		args[op.span.arg_count++] = (struct pt_arg){.key = PT_SAMPLE_ARG_BLOCKED,
							    .number = (int64_t)frame->blocked_ns};
	if (frame->waited_ns)
		args[op.span.arg_count++] = (struct pt_arg){.key = PT_SAMPLE_ARG_WAITED,
							    .number = (int64_t)frame->waited_ns};
	if (!to->fn)
		model_emit(model, &op);
	else if (!to->rc)
		to->rc = to->fn(&op, to->ctx);
	pt_buf_release(&lines);
}

/* Closes all but the outermost `keep` ones. */
static void close_above(struct pt_model *model, const struct model_thread *thread, uint32_t keep,
			uint64_t *boundary_ns, struct emitter *to)
{
	const struct model_samples *samples = thread->samples;

	for (uint32_t i = samples->count; i-- > keep;)
		emit(model, thread, &samples->frames[i], boundary(boundary_ns, samples->last_ns),
		     to);
}

static void drop_above(struct pt_model *model, struct model_samples *samples, uint32_t keep)
{
	if (samples->count <= keep)
		return;
	model->open_frames -= samples->count - keep;
	for (uint32_t i = keep; i < samples->count; i++)
		free(samples->frames[i].lines);
	samples->count = keep;
}

static struct model_samples *samples_get(struct pt_model *model, struct model_thread *thread)
{
	struct model_samples *samples = thread->samples;

	if (!samples) {
		samples = thread->samples = calloc(1, sizeof(*samples));
		if (!samples) {
			model_fail(model, -ENOMEM);
			return NULL;
		}
		samples->clear_ns = model->clear_ns;
		samples->boundary_ns = thread->floor_ns;
	}
	if (samples->clear_ns != model->clear_ns) {
		drop_above(model, samples, 0);
		samples->last_ns = 0;
		samples->boundary_ns = model->clear_ns;
		samples->clear_ns = model->clear_ns;
	}
	return samples;
}

/* ---- one sample ---- */

/* Of either record. */
struct seen {
	const struct pt_rec *hdr;
	uint64_t begin_ns; /* it was so from then, */
	uint64_t end_ns;   /* and until then */
	uint64_t period_ns;
	const char *comm;
	const struct pt_sample_frame *frames; /* innermost first */
	uint32_t frame_count;
	unsigned int missing; /* PT_SAMPLE_* */
	uint32_t stack;       /* with native frames; 0: none are wanted */
};

/* Beside the frames at most: what is missing outside, why it is blocked inside. */
#define FUNCTIONS_MAX (PT_CALL_FRAMES_MAX + 2)
_Static_assert(PT_SAMPLE_FRAMES_MAX <= PT_CALL_FRAMES_MAX, "room for either");

struct stack {
	struct model_function *functions[FUNCTIONS_MAX]; /* outermost first */
	uint32_t lines[FUNCTIONS_MAX];                   /* where they stand; 0: not known */
	uint32_t count;
};

static const char *what_is_missing(const struct seen *seen)
{
	unsigned int flags = seen->missing;

	if (flags & PT_SAMPLE_SKIPPED)
		return "[not looked at]";
	if (flags & PT_SAMPLE_TORN)
		return "[between two frames]";
	if (flags & PT_SAMPLE_UNKNOWN)
		return "[not known]";
	if (flags)
		return "[outer frames missing]";
	return seen->frame_count ? NULL : "[no Python frame]";
}

static bool push(struct stack *stack, struct model_function *function, uint32_t line)
{
	if (!function)
		return false;
	stack->functions[stack->count] = function;
	stack->lines[stack->count++] = line;
	return true;
}

static uint32_t line_of(struct pt_model *model, const struct model_code *code,
			const struct model_function *function, uint32_t place)
{
	if (place == PT_SAMPLE_NOT_BEGUN)
		return function->pub.line;
	return place <= PT_WORD_ARG_MASK ? model_lines_find(model, code, place) : 0;
}

/* -ENOMEM is the only error. */
static int name_frames(struct pt_model *model, const struct seen *seen, struct stack *stack)
{
	const char *missing = what_is_missing(seen);
	uint32_t most = model->options.max_stack_depth;

	stack->count = 0;
	if (missing && !push(stack, model_function_named(model, missing), 0))
		return -ENOMEM;
	for (uint32_t i = seen->frame_count; i-- > 0 && (!most || stack->count < most);) {
		const struct pt_sample_frame *frame = &seen->frames[i];
		struct model_code *code = model_code_get(model, frame->code_id);
		struct model_function *function = code ? model_code_function(model, code) : NULL;

		if (!function)
			return -ENOMEM;
		if (!function->excluded)
			push(stack, function, line_of(model, code, function, frame->place));
	}
	return 0;
}

static struct model_function *frame_function(struct pt_model *model,
					     const struct model_stack_frame *frame)
{
	if (frame->function)
		return frame->function;
	if (frame->shown.kind == PT_STACK_NATIVE)
		return model_function_native(model, frame->shown.name, frame->shown.file);
	return model_function_named(model, frame->shown.name);
}

/* Of a Python frame of a stack with native ones, the n-th from the innermost: the sample itself
 * says it, so that one stack has one number wherever its frames stand. */
static uint32_t line_in_sample(struct pt_model *model, const struct seen *seen, uint32_t n,
			       const struct model_function *function)
{
	const struct pt_sample_frame *frame = &seen->frames[n];
	struct model_code *code;

	if (n >= seen->frame_count)
		return 0;
	code = model_code_get(model, frame->code_id);
	if (!code || model_code_function(model, code) != function)
		return 0;
	return line_of(model, code, function, frame->place);
}

/* All frames of the stack, innermost first, into one that is the other way round from its end on;
 * where it begins, or -ENOMEM. */
static int turn_frames(struct pt_model *model, const struct model_call_stack *from,
		       const struct seen *seen, struct stack *stack)
{
	uint32_t at = FUNCTIONS_MAX, python = 0;

	for (uint32_t i = 0; i < model_stack_frames(from) && at; i++) {
		struct model_stack_frame frame;
		struct model_function *function;

		model_stack_frame(model, from, i, &frame);
		function = frame_function(model, &frame);
		if (!function)
			return -ENOMEM;
		stack->functions[--at] = function;
		stack->lines[at] = 0;
		if (frame.shown.kind == PT_STACK_PYTHON)
			stack->lines[at] = line_in_sample(model, seen, python++, function);
	}
	return (int)at;
}

/* Likewise with the native ones, as far as they are known. */
static int name_all_frames(struct pt_model *model, struct model_thread *thread,
			   const struct seen *seen, struct stack *stack)
{
	uint32_t most = model->options.max_stack_depth;
	struct model_call_stack *from;
	int at;

	model_stack_event(model, thread, seen->stack);
	from = model_stack_take(thread);
	if (!from) {
		if (name_frames(model, seen, stack) ||
		    !push(stack, model_function_named(model, NATIVE_UNKNOWN), 0))
			return -ENOMEM;
		return 0;
	}
	stack->count = 0;
	at = turn_frames(model, from, seen, stack);
	for (; at >= 0 && at < FUNCTIONS_MAX && (!most || stack->count < most); at++)
		if (!stack->functions[at]->excluded)
			push(stack, stack->functions[at], stack->lines[at]);
	return at < 0 ? at : 0;
}

static void emit_sample(struct pt_model *model, const struct model_thread *thread,
			const struct seen *seen, const struct stack *stack)
{
	const struct pt_function *functions[FUNCTIONS_MAX];
	uint32_t lines[FUNCTIONS_MAX];
	bool blocked = seen->hdr->kind == PT_REC_BLOCKED;
	struct pt_op op = {
	    .kind = PT_OP_SAMPLE,
	    .sample =
		{
		    .pid = thread->process->pid,
		    .tid = thread->tid,
		    .time_ns = seen->end_ns,
		    .period_ns = blocked ? 0 : seen->period_ns,
		    .blocked_ns = seen->end_ns - seen->begin_ns,
		    .beside = blocked || seen->hdr->flags & PT_SAMPLE_BESIDE,
		    .functions = functions,
		    .lines = lines,
		    .function_count = stack->count,
		    .complete = !seen->missing,
		},
	};

	for (uint32_t i = 0; i < stack->count; i++) {
		functions[i] = &stack->functions[stack->count - 1 - i]->pub;
		lines[i] = stack->lines[stack->count - 1 - i];
	}
	model_emit(model, &op);
}

static bool reserve(struct pt_model *model, struct model_samples *samples, uint32_t count)
{
	struct sample_frame *bigger;

	if (count > samples->count &&
	    model->open_frames + count - samples->count > MODEL_MAX_FRAMES)
		return false;
	if (count <= samples->room)
		return true;
	bigger = reallocarray(samples->frames, 2 * (size_t)count, sizeof(*bigger));
	if (!bigger) {
		model_fail(model, -ENOMEM);
		return false;
	}
	samples->frames = bigger;
	samples->room = 2 * count;
	return true;
}

/* Did the thread run on since its last sample? */
static bool follows(const struct pt_model *model, const struct model_samples *samples,
		    const struct seen *seen)
{
	return samples->last_ns && model->last_pause_ns <= samples->last_ns &&
	       seen->begin_ns - samples->last_ns <= seen->period_ns / 2 * JOIN_HALVES;
}

/* How many of the open frames go on. */
static uint32_t in_common(const struct model_samples *samples, const struct stack *stack)
{
	uint32_t i;

	for (i = 0; i < samples->count && i < stack->count; i++)
		if (samples->frames[i].function != stack->functions[i])
			break;
	return i;
}

static bool lies_inside(const struct stack *stack, uint32_t at)
{
	for (uint32_t i = 0; i < at; i++)
		if (stack->functions[i] == stack->functions[at])
			return true;
	return false;
}

/* Where what is new began, if the thread did not run on. */
static uint64_t begin_of(const struct pt_model *model, const struct model_samples *samples,
			 const struct seen *seen)
{
	uint64_t begin_ns = seen->begin_ns;

	if (seen->hdr->kind == PT_REC_SAMPLE)
		begin_ns -= seen->period_ns;
	if (begin_ns < model->gate_open_ns)
		begin_ns = model->gate_open_ns;
	/* in the pause, as samples are taken in its stead */
	if (begin_ns < model->last_absent_ns && model->last_absent_ns < seen->begin_ns)
		begin_ns = model->last_absent_ns;
	return begin_ns > samples->last_ns ? begin_ns : samples->last_ns;
}

static void join(struct pt_model *model, struct model_thread *thread, const struct seen *seen,
		 const struct stack *stack)
{
	struct model_samples *samples = thread->samples;
	bool on = follows(model, samples, seen);
	uint32_t common = on ? in_common(samples, stack) : 0;
	uint64_t begin_ns = on ? samples->last_ns : begin_of(model, samples, seen);
	struct emitter own = {0};

	close_above(model, thread, common, &samples->boundary_ns, &own);
	drop_above(model, samples, common);
	for (uint32_t i = common; i < stack->count; i++) {
		samples->frames[i] = (struct sample_frame){
		    .function = stack->functions[i],
		    .begin_ns = boundary(&samples->boundary_ns, begin_ns),
		    .inside = lies_inside(stack, i),
		};
	}
	model->open_frames += stack->count - common;
	samples->count = stack->count;
	samples->last_ns = seen->end_ns;
}

/* The thread's stack from the record; false: there is nothing to show. */
static bool take(struct pt_model *model, struct model_thread *thread, const struct seen *seen,
		 struct stack *stack)
{
	struct model_samples *samples;
	int rc;

	if (thread->ended)
		model_thread_reset(model, thread);
	if (seen->begin_ns <= model->clear_ns || seen->begin_ns <= thread->floor_ns)
		return false;
	samples = samples_get(model, thread);
	if (!samples)
		return false;
	rc = seen->stack ? name_all_frames(model, thread, seen, stack)
			 : name_frames(model, seen, stack);
	if (seen->begin_ns <= samples->last_ns || rc || !reserve(model, samples, stack->count)) {
		model->totals.bad_records++;
		return false;
	}
	if (seen->end_ns > model->totals.last_ns)
		model->totals.last_ns = seen->end_ns;
	model_thread_name(model, thread, seen->comm);
	return true;
}

static void announce_track(struct pt_model *model, const struct model_thread *thread)
{
	struct model_samples *samples = thread->samples;
	char name[32];
	struct pt_op op = {
	    .kind = PT_OP_THREAD,
	    .thread =
		{
		    .pid = thread->process->pid,
		    .beside = thread->tid,
		    .time_ns = model->gate_open_ns,
		    .name = name,
		},
	};

	if (!samples->track)
		samples->track = (pid_t)(PT_TRACK_TID | (model->tracks++ & (PT_TRACK_TID - 1)));
	if (samples->told_ns == model->clear_ns + 1)
		return;
	samples->told_ns = model->clear_ns + 1;
	op.thread.tid = samples->track;
	snprintf(name, sizeof(name), "thread %d: samples", thread->tid);
	model_emit(model, &op);
}

static void announce(struct pt_model *model, struct model_thread *thread, const struct seen *seen,
		     const struct stack *stack)
{
	if (!thread->announced)
		model_thread_announce(model, thread);
	if (seen->hdr->flags & PT_SAMPLE_ASIDE)
		announce_track(model, thread);
	for (uint32_t i = 0; i < stack->count; i++)
		model_function_announce(model, stack->functions[i]);
}

void model_sample_record(struct pt_model *model, struct model_thread *thread,
			 const struct pt_rec_sample *record)
{
	const struct seen seen = {
	    .hdr = &record->hdr,
	    .begin_ns = record->hdr.time_ns,
	    .end_ns = record->hdr.time_ns,
	    .period_ns = record->period_ns,
	    .comm = record->comm,
	    .frames = record->frames,
	    .frame_count = record->frame_count,
	    .missing = record->hdr.flags & PT_SAMPLE_FLAGS,
	    .stack = record->stack,
	};
	struct sample_frame *innermost;
	struct stack stack;

	if (!take(model, thread, &seen, &stack))
		return;
	model->totals.samples++;
	model->totals.samples_incomplete += seen.missing != 0;
	if (!stack.count)
		return; /* all of it is left out */
	announce(model, thread, &seen, &stack);
	emit_sample(model, thread, &seen, &stack);
	join(model, thread, &seen, &stack);
	for (uint32_t i = 0; i < stack.count; i++)
		thread->samples->frames[i].samples++;
	innermost = &thread->samples->frames[stack.count - 1];
	innermost->self++;
	if (model_sample_lines_add(&innermost->lines, stack.lines[stack.count - 1]))
		model_fail(model, -ENOMEM);
}

/* ---- off the CPU ---- */

static void emit_off_cpu(struct pt_model *model, const struct model_thread *thread,
			 const struct seen *seen, const struct model_cause *cause)
{
	struct pt_op op = {
	    .kind = PT_OP_SPAN,
	    .span =
		{
		    .pid = thread->process->pid,
		    .tid = track_of(thread),
		    .category = PT_OFF_CPU_CATEGORY,
		    .name = cause->name,
		    .args = cause->args,
		    .arg_count = cause->arg_count,
		},
	};

	op.span.begin_ns = boundary(&thread->samples->boundary_ns, seen->begin_ns);
	op.span.end_ns = boundary(&thread->samples->boundary_ns, seen->end_ns);
	model_emit(model, &op);
}

void model_blocked_record(struct pt_model *model, struct model_thread *thread,
			  const struct pt_rec_blocked *record)
{
	const struct seen seen = {
	    .hdr = &record->hdr,
	    .begin_ns = record->out_ns,
	    .end_ns = record->hdr.time_ns,
	    .period_ns = record->period_ns,
	    .comm = record->comm,
	    .frames = record->frames,
	    .frame_count = record->frame_count,
	    .missing = record->hdr.flags & ~PT_SAMPLE_ASIDE,
	    .stack = record->stack,
	};
	struct model_function *why;
	struct model_cause cause;
	char bracketed[sizeof(cause.name) + 2];
	struct stack stack;

	if (!take(model, thread, &seen, &stack))
		return;
	model->totals.blocks++;
	model->totals.blocks_incomplete += seen.missing != 0;
	if (!stack.count)
		return;
	model_sched_cause(record->state, record->syscall, record->why, &cause);
	snprintf(bracketed, sizeof(bracketed), "[%s]", cause.name);
	why = model_function_named(model, bracketed);
	if (!why)
		return;
	announce(model, thread, &seen, &stack);
	model_function_announce(model, why);
	join(model, thread, &seen, &stack);
	for (uint32_t i = 0; i < stack.count; i++)
		thread->samples->frames[i].blocked_ns += seen.end_ns - seen.begin_ns;
	thread->samples->frames[stack.count - 1].waited_ns += seen.end_ns - seen.begin_ns;
	emit_off_cpu(model, thread, &seen, &cause);
	push(&stack, why, 0);
	emit_sample(model, thread, &seen, &stack);
}

/* ---- the end ---- */

void model_samples_end(struct pt_model *model, struct model_thread *thread)
{
	struct model_samples *samples = thread->samples;
	struct emitter own = {0};

	if (!samples)
		return;
	if (samples->clear_ns == model->clear_ns)
		close_above(model, thread, 0, &samples->boundary_ns, &own);
	drop_above(model, samples, 0);
}

int model_samples_copy(struct pt_model *model, struct model_thread *thread, pt_op_fn fn, void *ctx)
{
	const struct model_samples *samples = thread->samples;
	struct emitter to = {.fn = fn, .ctx = ctx};
	uint64_t boundary_ns;

	if (!samples || samples->clear_ns != model->clear_ns)
		return 0;
	boundary_ns = samples->boundary_ns;
	close_above(model, thread, 0, &boundary_ns, &to);
	return to.rc;
}

void model_samples_release(struct pt_model *model, struct model_thread *thread)
{
	if (!thread->samples)
		return;
	drop_above(model, thread->samples, 0);
	free(thread->samples->frames);
	free(thread->samples);
	thread->samples = NULL;
}
