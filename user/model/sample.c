// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * Samples (--engine sample), and the spans that are put together of them.
 *
 * A sample says what a thread ran when the clock of its CPU ticked, so it stands for the time since
 * the thread's sample before. What consecutive samples have in common, from the outermost frame on,
 * is taken to have gone on from one to the next: that is a guess, and so a category of its own.
 * Where a thread had no sample for longer than it takes to move to another CPU, whose clock ticks
 * at other times, it did not run: everything ends at the last sample.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "model/model_priv.h"

/* Of periods, as halves: at most two between samples of a thread that changes its CPU, and the
 * timers' own delay. */
#define JOIN_HALVES 5

struct sample_frame {
	struct model_function *function;
	uint64_t begin_ns;
	uint64_t samples, self;
	bool inside; /* of another of the same function */
};

struct model_samples {
	struct sample_frame *frames; /* open ones, outermost first */
	uint32_t count, room;
	uint64_t last_ns;     /* of the last sample; 0: none */
	uint64_t boundary_ns; /* the last one given out */
	uint64_t clear_ns;    /* the model's, when the last sample came */
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

static void emit(struct pt_model *model, const struct model_thread *thread,
		 const struct sample_frame *frame, uint64_t end_ns, struct emitter *to)
{
	const struct pt_arg args[] = {
	    {.key = PT_SAMPLE_ARG, .number = (int64_t)frame->samples},
	    {.key = PT_SAMPLE_ARG_SELF, .number = (int64_t)frame->self},
	    {.key = PT_SAMPLE_ARG_WHOM, .number = 1},
	};
	const struct pt_op op = {
	    .kind = PT_OP_SPAN,
	    .span =
		{
		    .pid = thread->process->pid,
		    .tid = thread->tid,
		    .begin_ns = frame->begin_ns,
		    .end_ns = end_ns,
		    .category = PT_SAMPLE_CATEGORY,
		    .function = &frame->function->pub,
		    .args = args,
		    .arg_count = frame->inside ? 3 : 2,
		},
	};

	if (!to->fn)
		model_emit(model, &op);
	else if (!to->rc)
		to->rc = to->fn(&op, to->ctx);
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

struct stack {
	struct model_function *functions[PT_SAMPLE_FRAMES_MAX + 1]; /* outermost first */
	uint32_t count;
};

static const char *what_is_missing(const struct pt_rec_sample *record)
{
	unsigned int flags = record->hdr.flags;

	if (flags & PT_SAMPLE_TORN)
		return "[between two frames]";
	if (flags & PT_SAMPLE_UNKNOWN)
		return "[not known]";
	if (flags)
		return "[outer frames missing]";
	return record->frame_count ? NULL : "[no Python frame]";
}

/* -ENOMEM is the only error. */
static int name_frames(struct pt_model *model, const struct pt_rec_sample *record,
		       struct stack *stack)
{
	const char *missing = what_is_missing(record);
	uint32_t most = model->options.max_stack_depth;

	stack->count = 0;
	if (missing) {
		stack->functions[0] = model_function_named(model, missing);
		if (!stack->functions[stack->count++])
			return -ENOMEM;
	}
	for (uint32_t i = record->frame_count; i-- > 0 && (!most || stack->count < most);) {
		struct model_code *code = model_code_get(model, record->frames[i]);
		struct model_function *function = code ? model_code_function(model, code) : NULL;

		if (!function)
			return -ENOMEM;
		if (!function->excluded)
			stack->functions[stack->count++] = function;
	}
	return 0;
}

static void emit_sample(struct pt_model *model, const struct model_thread *thread,
			const struct pt_rec_sample *record, const struct stack *stack)
{
	const struct pt_function *functions[PT_SAMPLE_FRAMES_MAX + 1];
	struct pt_op op = {
	    .kind = PT_OP_SAMPLE,
	    .sample =
		{
		    .pid = thread->process->pid,
		    .tid = thread->tid,
		    .time_ns = record->hdr.time_ns,
		    .period_ns = record->period_ns,
		    .functions = functions,
		    .function_count = stack->count,
		    .complete = !record->hdr.flags,
		},
	};

	for (uint32_t i = 0; i < stack->count; i++)
		functions[i] = &stack->functions[stack->count - 1 - i]->pub;
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
		    const struct pt_rec_sample *record)
{
	return samples->last_ns && model->last_pause_ns <= samples->last_ns &&
	       record->hdr.time_ns - samples->last_ns <= record->period_ns / 2 * JOIN_HALVES;
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
			 const struct pt_rec_sample *record)
{
	uint64_t begin_ns = record->hdr.time_ns - record->period_ns;

	if (begin_ns < model->gate_open_ns)
		begin_ns = model->gate_open_ns;
	return begin_ns > samples->last_ns ? begin_ns : samples->last_ns;
}

static void join(struct pt_model *model, struct model_thread *thread,
		 const struct pt_rec_sample *record, const struct stack *stack)
{
	struct model_samples *samples = thread->samples;
	bool on = follows(model, samples, record);
	uint32_t common = on ? in_common(samples, stack) : 0;
	uint64_t begin_ns = on ? samples->last_ns : begin_of(model, samples, record);
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
	for (uint32_t i = 0; i < stack->count; i++)
		samples->frames[i].samples++;
	samples->frames[stack->count - 1].self++;
	samples->last_ns = record->hdr.time_ns;
}

void model_sample_record(struct pt_model *model, struct model_thread *thread,
			 const struct pt_rec_sample *record)
{
	struct model_samples *samples;
	struct stack stack;

	if (thread->ended)
		model_thread_reset(model, thread);
	if (record->hdr.time_ns <= model->clear_ns || record->hdr.time_ns <= thread->floor_ns)
		return;
	samples = samples_get(model, thread);
	if (!samples)
		return;
	if (record->hdr.time_ns <= samples->last_ns || name_frames(model, record, &stack) ||
	    !reserve(model, samples, stack.count)) {
		model->totals.bad_records++;
		return;
	}
	model->totals.samples++;
	model->totals.samples_incomplete += record->hdr.flags != 0;
	if (record->hdr.time_ns > model->totals.last_ns)
		model->totals.last_ns = record->hdr.time_ns;
	model_thread_name(model, thread, record->comm);
	if (!stack.count)
		return; /* all of it is left out */
	if (!thread->announced)
		model_thread_announce(model, thread);
	for (uint32_t i = 0; i < stack.count; i++)
		model_function_announce(model, stack.functions[i]);
	emit_sample(model, thread, record, &stack);
	join(model, thread, record, &stack);
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
