// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
#include "op_recorder.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static void keep_bounds(struct op_recorder *ops, pid_t tid, uint64_t begin_ns, uint64_t end_ns)
{
	if (ops->bounds_count == ops->bounds_size) {
		ops->bounds_size = ops->bounds_size ? 2 * ops->bounds_size : 64;
		ops->bounds = realloc(ops->bounds, ops->bounds_size * sizeof(*ops->bounds));
		if (!ops->bounds)
			abort();
	}
	ops->bounds[ops->bounds_count++] = (struct op_bounds){tid, begin_ns, end_ns};
}

/* "key=value key=value" */
static const char *args_text(const struct pt_arg *args, uint32_t count)
{
	static char text[512];
	size_t len = 0;

	text[0] = '\0';
	for (uint32_t i = 0; i < count && len < sizeof(text); i++) {
		const char *space = i ? " " : "";

		len += args[i].text
			   ? (size_t)snprintf(text + len, sizeof(text) - len, "%s%s=%s", space,
					      args[i].key, args[i].text)
			   : (size_t)snprintf(text + len, sizeof(text) - len, "%s%s=%lld", space,
					      args[i].key, (long long)args[i].number);
	}
	return text;
}

static int keep_slice(struct op_recorder *ops, const struct pt_op_slice *op)
{
	struct op_slice *slice;

	if (ops->slice_count == ops->slice_size) {
		ops->slice_size = ops->slice_size ? 2 * ops->slice_size : 64;
		ops->slices = realloc(ops->slices, ops->slice_size * sizeof(*ops->slices));
		if (!ops->slices)
			abort();
	}
	if (op->function->id >= COUNT(ops->function_seen) || !ops->function_seen[op->function->id])
		return -EPROTO; /* the function op has to come first */
	if (!ops->process_count || !ops->thread_count)
		return -EPROTO;
	slice = &ops->slices[ops->slice_count++];
	slice->op = *op;
	slice->op.function = NULL;
	snprintf(slice->name, sizeof(slice->name), "%s", op->function->qualname);
	slice->values[0] = '\0';
	slice->op.values = NULL;
	if (op->values) {
		char args[sizeof(slice->values) / 2];

		snprintf(args, sizeof(args), "%s",
			 args_text(op->values->args, op->values->arg_count));
		snprintf(slice->values, sizeof(slice->values), "%s|%s|%s", args,
			 args_text(op->values->locals, op->values->local_count),
			 op->values->result ? op->values->result : "");
	}
	return 0;
}

static void keep_sample(struct op_recorder *ops, const struct pt_op_sample *sample)
{
	size_t i = ops->sample_count++, len = 0, used = 0;
	char *text, *lines;

	if (i >= COUNT(ops->samples))
		return;
	text = ops->samples[i].functions;
	lines = ops->samples[i].lines;
	ops->samples[i].op = *sample;
	for (uint32_t f = 0; f < sample->function_count && len < sizeof(ops->samples[i].functions);
	     f++)
		len += (size_t)snprintf(text + len, sizeof(ops->samples[i].functions) - len, "%s%s",
					f ? " " : "", sample->functions[f]->qualname);
	for (uint32_t f = 0; f < sample->function_count && used < sizeof(ops->samples[i].lines);
	     f++)
		used += (size_t)snprintf(lines + used, sizeof(ops->samples[i].lines) - used, "%s%u",
					 f ? " " : "", sample->lines[f]);
}

static int keep(const struct pt_op *op, void *ctx)
{
	struct op_recorder *ops = ctx;

	switch (op->kind) {
	case PT_OP_SLICE:
		keep_bounds(ops, op->slice.tid, op->slice.begin_ns, op->slice.end_ns);
		return keep_slice(ops, &op->slice);
	case PT_OP_SPAN:
		keep_bounds(ops, op->span.tid, op->span.begin_ns, op->span.end_ns);
		if (ops->span_count < COUNT(ops->spans)) {
			size_t i = ops->span_count++;

			ops->spans[i].op = op->span;
			snprintf(ops->spans[i].name, sizeof(ops->spans[i].name), "%s",
				 op->span.function ? op->span.function->qualname : op->span.name);
			snprintf(ops->spans[i].args, sizeof(ops->spans[i].args), "%s",
				 args_text(op->span.args, op->span.arg_count));
		}
		return 0;
	case PT_OP_FUNCTION:
		if (op->function.id < COUNT(ops->function_seen))
			ops->function_seen[op->function.id] = true;
		return 0;
	case PT_OP_LOSS:
		if (ops->loss_count < COUNT(ops->losses))
			ops->losses[ops->loss_count++] = op->loss;
		return 0;
	case PT_OP_PROCESS:
		if (ops->process_count < COUNT(ops->processes)) {
			size_t i = ops->process_count++;

			ops->processes[i].pid = op->process.pid;
			ops->processes[i].parent = op->process.parent_pid;
			ops->processes[i].rank = op->process.rank;
			snprintf(ops->processes[i].name, 64, "%s", op->process.name);
			snprintf(ops->processes[i].cmdline, 128, "%s",
				 op->process.cmdline ? op->process.cmdline : "");
		}
		return 0;
	case PT_OP_THREAD:
		if (ops->thread_count < COUNT(ops->threads)) {
			size_t i = ops->thread_count++;

			ops->threads[i].pid = op->thread.pid;
			ops->threads[i].tid = op->thread.tid;
			snprintf(ops->threads[i].name, 64, "%s", op->thread.name);
		}
		return 0;
	case PT_OP_INSTANT:
		if (ops->instant_count < COUNT(ops->instants)) {
			size_t i = ops->instant_count++;

			snprintf(ops->instants[i].name, 64, "%s", op->instant.name);
			ops->instants[i].ns = op->instant.time_ns;
			snprintf(ops->instants[i].args, sizeof(ops->instants[i].args), "%s",
				 args_text(op->instant.args, op->instant.arg_count));
		}
		return 0;
	case PT_OP_CLEAR:
		ops->slice_count = ops->loss_count = ops->process_count = 0;
		ops->thread_count = ops->instant_count = ops->span_count = 0;
		ops->counter_count = ops->bounds_count = ops->state_count = 0;
		ops->range_count = ops->flow_count = ops->memory_count = ops->gpu_bound_count = 0;
		ops->sample_count = 0;
		memset(ops->function_seen, 0, sizeof(ops->function_seen));
		return 0;
	case PT_OP_STATE:
		if (ops->state_count < COUNT(ops->states)) {
			size_t i = ops->state_count++;

			ops->states[i].op = op->state;
			snprintf(ops->states[i].name, sizeof(ops->states[i].name), "%s",
				 op->state.name);
			snprintf(ops->states[i].args, sizeof(ops->states[i].args), "%s",
				 args_text(op->state.args, op->state.arg_count));
		}
		return 0;
	case PT_OP_COUNTER:
		ops->counter_count++;
		snprintf(ops->counter_name, sizeof(ops->counter_name), "%s", op->counter.name);
		ops->counter_value = op->counter.value;
		return 0;
	case PT_OP_MEMORY:
		if (ops->memory_count < COUNT(ops->memory))
			ops->memory[ops->memory_count++] = op->memory;
		return 0;
	case PT_OP_RANGE:
		if (ops->range_count < COUNT(ops->ranges)) {
			size_t i = ops->range_count++;

			ops->ranges[i].op = op->range;
			snprintf(ops->ranges[i].name, sizeof(ops->ranges[i].name), "%s",
				 op->range.name);
			snprintf(ops->ranges[i].args, sizeof(ops->ranges[i].args), "%s",
				 args_text(op->range.args, op->range.arg_count));
		}
		return 0;
	case PT_OP_GPU_BOUND:
		if (ops->gpu_bound_count < COUNT(ops->gpu_bounds)) {
			size_t i = ops->gpu_bound_count++;

			ops->gpu_bounds[i].op = op->gpu_bound;
			snprintf(ops->gpu_bounds[i].name, sizeof(ops->gpu_bounds[i].name), "%s",
				 op->gpu_bound.name);
			snprintf(ops->gpu_bounds[i].track, sizeof(ops->gpu_bounds[i].track), "%s",
				 op->gpu_bound.track_name);
			snprintf(ops->gpu_bounds[i].args, sizeof(ops->gpu_bounds[i].args), "%s",
				 args_text(op->gpu_bound.args, op->gpu_bound.arg_count));
			if (op->gpu_bound.link_count)
				ops->gpu_bounds[i].link = op->gpu_bound.links[0];
		}
		return 0;
	case PT_OP_SAMPLE:
		keep_sample(ops, &op->sample);
		return 0;
	case PT_OP_STACK:
		ops->stack_count++;
		return 0;
	case PT_OP_FLOW:
		if (ops->flow_count < COUNT(ops->flows))
			ops->flows[ops->flow_count++] = op->flow;
		return 0;
	}
	return -EINVAL;
}

static int feed(const struct pt_rec *record, size_t len, void *ctx)
{
	return pt_model_record(ctx, record, len);
}

void ops_init(struct op_recorder *ops, const struct pt_model_options *options)
{
	struct pt_capture_info info = {.start_mono_ns = 1000, .start_real_ns = 5000};

	memset(ops, 0, sizeof(*ops));
	if (pt_model_new(options, &info, keep, ops, &ops->model))
		abort();
	rec_init(&ops->builder, feed, ops->model);
}

/* By thread, then outermost first. */
static int by_begin(const void *left, const void *right)
{
	const struct pt_op_slice *a = &((const struct op_slice *)left)->op;
	const struct pt_op_slice *b = &((const struct op_slice *)right)->op;

	if (a->tid != b->tid)
		return a->tid < b->tid ? -1 : 1;
	if (a->begin_ns != b->begin_ns)
		return a->begin_ns < b->begin_ns ? -1 : 1;
	return (a->end_ns < b->end_ns) - (a->end_ns > b->end_ns);
}

static int by_number(const void *left, const void *right)
{
	uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;

	return (a > b) - (a < b);
}

static bool has_twice(uint64_t *numbers, size_t count)
{
	qsort(numbers, count, sizeof(*numbers), by_number);
	for (size_t i = 1; i < count; i++) {
		if (numbers[i] == numbers[i - 1])
			return true;
	}
	return false;
}

/* The slices of one thread, sorted. */
static const char *check_thread(const struct op_slice *slices, size_t count)
{
	const struct pt_op_slice **open = calloc(count + 1, sizeof(*open));
	uint64_t *bounds = calloc(2 * count + 1, sizeof(*bounds));
	const char *wrong = NULL;
	size_t depth = 0;

	if (!open || !bounds)
		abort();
	for (size_t i = 0; i < count && !wrong; i++) {
		const struct pt_op_slice *op = &slices[i].op;

		bounds[2 * i] = op->begin_ns;
		bounds[2 * i + 1] = op->end_ns;
		if (op->end_ns <= op->begin_ns)
			wrong = "a slice that does not last";
		while (depth && open[depth - 1]->end_ns < op->begin_ns)
			depth--;
		if (depth && open[depth - 1]->end_ns < op->end_ns)
			wrong = "slices overlap in part";
		if (op->parent_id != (depth ? open[depth - 1]->id : 0))
			wrong = "the parent is not the enclosing slice";
		if (op->depth != depth + 1)
			wrong = "the depth is not that of the nesting";
		if (depth && op->id <= open[depth - 1]->id)
			wrong = "a callee's id is not larger than its caller's";
		open[depth++] = op;
	}
	if (!wrong && has_twice(bounds, 2 * count))
		wrong = "two boundaries at the same time";
	free(open);
	free(bounds);
	return wrong;
}

static int bounds_by_begin(const void *left, const void *right)
{
	const struct op_bounds *a = left, *b = right;

	if (a->tid != b->tid)
		return a->tid < b->tid ? -1 : 1;
	return (a->begin_ns > b->begin_ns) - (a->begin_ns < b->begin_ns);
}

/* Slices and spans together nest. */
static const char *check_bounds(struct op_recorder *ops)
{
	const struct op_bounds **open = calloc(ops->bounds_count + 1, sizeof(*open));
	const char *wrong = NULL;
	size_t depth = 0;

	if (!open)
		abort();
	if (ops->bounds_count)
		qsort(ops->bounds, ops->bounds_count, sizeof(*ops->bounds), bounds_by_begin);
	for (size_t i = 0; i < ops->bounds_count && !wrong; i++) {
		const struct op_bounds *one = &ops->bounds[i];

		while (depth && (open[depth - 1]->tid != one->tid ||
				 open[depth - 1]->end_ns < one->begin_ns))
			depth--;
		if (one->end_ns <= one->begin_ns)
			wrong = "a slice or span that does not last";
		if (depth && (open[depth - 1]->end_ns <= one->end_ns ||
			      open[depth - 1]->begin_ns == one->begin_ns ||
			      open[depth - 1]->end_ns == one->begin_ns))
			wrong = "a slice or span overlaps another in part";
		open[depth++] = one;
	}
	free(open);
	return wrong;
}

const char *ops_finish(struct op_recorder *ops)
{
	const char *wrong = NULL;
	struct op_slice *sorted;
	uint64_t *ids;
	size_t from, to;

	if (pt_model_finish(ops->model, &ops->totals))
		return "the model failed";
	sorted = calloc(ops->slice_count + 1, sizeof(*sorted));
	ids = calloc(ops->slice_count + 1, sizeof(*ids));
	if (!sorted || !ids)
		abort();
	if (ops->slice_count)
		memcpy(sorted, ops->slices, ops->slice_count * sizeof(*sorted));
	qsort(sorted, ops->slice_count, sizeof(*sorted), by_begin);
	for (from = 0; from < ops->slice_count && !wrong; from = to) {
		for (to = from; to < ops->slice_count && sorted[to].op.tid == sorted[from].op.tid;
		     to++)
			ids[to] = sorted[to].op.id;
		wrong = check_thread(sorted + from, to - from);
	}
	if (!wrong && has_twice(ids, ops->slice_count))
		wrong = "an id twice";
	if (!wrong)
		wrong = check_bounds(ops);
	free(sorted);
	free(ids);
	return wrong;
}

void ops_release(struct op_recorder *ops)
{
	pt_model_free(ops->model);
	free(ops->slices);
	free(ops->bounds);
}

const struct pt_op_slice *ops_slice(const struct op_recorder *ops, const char *name, size_t n)
{
	for (size_t i = 0; i < ops->slice_count; i++) {
		if (!strcmp(ops->slices[i].name, name) && n-- == 0)
			return &ops->slices[i].op;
	}
	return NULL;
}

const char *ops_values(const struct op_recorder *ops, const char *name, size_t n)
{
	const struct pt_op_slice *op = ops_slice(ops, name, n);

	if (!op)
		return NULL;
	return ((const struct op_slice *)((const char *)op - offsetof(struct op_slice, op)))
	    ->values;
}

size_t ops_count(const struct op_recorder *ops, const char *name)
{
	size_t count = 0;

	for (size_t i = 0; i < ops->slice_count; i++)
		count += !strcmp(ops->slices[i].name, name);
	return count;
}

void ops_define(struct op_recorder *ops)
{
	for (uint32_t id = 1; id <= 26; id++) {
		char name[2] = {(char)('a' + id - 1), '\0'};

		rec_code(&ops->builder, id, name, "", "/app/main.py", id);
	}
}
