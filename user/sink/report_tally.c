// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * Adds up calls, self time and total time from slices, which come when they end: inner ones first.
 *
 * Self time. The time of finished calls is gathered in a group per caller; when the caller ends,
 * it takes its group's time off its own. Callers that are running nest, so the groups of a thread
 * are a stack, and since a caller's id is smaller than those of what it calls, ids tell where in
 * the stack a slice belongs. (Ids whose slice never comes are passed over: hostile input is only
 * added up wrongly.)
 *
 * Total time with recursion. When a call of f ends, time that calls of f inside it have added to
 * f's total must come off again. "Inside" is: finished since the first call below it finished,
 * which is the first_clock of its group. So each thread keeps for each function the time added, in
 * spans by clock. Spans that can only be taken back together, because the same running callers
 * enclose them, are merged; so there are no more spans than running callers.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "sink/report_priv.h"

int pt_report_new(struct pt_report **result)
{
	struct pt_report *report = calloc(1, sizeof(*report));

	if (!report)
		return -ENOMEM;
	report->thread_tail = &report->thread_list;
	*result = report;
	return 0;
}

static void release(struct pt_report *report)
{
	for (size_t i = 0; i < report->function_count; i++) {
		free(report->functions[i].file);
		free(report->functions[i].qualname);
	}
	free(report->functions);
	while (report->thread_list) {
		struct report_thread *thread = report->thread_list;

		report->thread_list = thread->next;
		free(thread->name);
		free(thread->groups);
		free(thread);
	}
	while (report->spans_list) {
		struct report_spans *spans = report->spans_list;

		report->spans_list = spans->next;
		free(spans->spans);
		free(spans);
	}
	report_memory_release(report);
	report_lines_release(report);
	pt_map_release(&report->threads);
	pt_map_release(&report->spans);
}

void pt_report_free(struct pt_report *report)
{
	if (!report)
		return;
	release(report);
	free(report);
}

static int add_function(struct pt_report *report, const struct pt_function *function)
{
	size_t count = report->function_count ? report->function_count : 64;
	struct report_function *functions;
	char *file, *qualname;

	while (count <= function->id)
		count *= 2;
	if (count > report->function_count) {
		functions = realloc(report->functions, count * sizeof(*functions));
		if (!functions)
			return -ENOMEM;
		memset(functions + report->function_count, 0,
		       (count - report->function_count) * sizeof(*functions));
		report->functions = functions;
		report->function_count = count;
	}
	file = strdup(function->file);
	qualname = strdup(function->qualname);
	if (!file || !qualname) {
		free(file);
		free(qualname);
		return -ENOMEM;
	}
	functions = &report->functions[function->id];
	free(functions->file);
	free(functions->qualname);
	functions->file = file;
	functions->qualname = qualname;
	functions->line = function->line;
	return 0;
}

static struct report_thread *thread_get(struct pt_report *report, pid_t pid, pid_t tid)
{
	struct report_thread *thread = pt_map_get(&report->threads, (uint32_t)pid, (uint32_t)tid);

	if (thread)
		return thread;
	thread = calloc(1, sizeof(*thread));
	if (!thread)
		return NULL;
	thread->pid = pid;
	thread->tid = tid;
	thread->number = report->thread_count++;
	*report->thread_tail = thread;
	report->thread_tail = &thread->next;
	return pt_map_put(&report->threads, (uint32_t)pid, (uint32_t)tid, thread) ? NULL : thread;
}

static int add_thread(struct pt_report *report, const struct pt_op_thread *op)
{
	struct report_thread *thread = thread_get(report, op->pid, op->tid);
	char *name = strdup(op->name);

	if (!thread || !name) {
		free(name);
		return -ENOMEM;
	}
	free(thread->name);
	thread->name = name;
	return 0;
}

static int push_group(struct report_thread *thread, uint64_t caller, uint64_t first_clock)
{
	struct report_group *groups;
	size_t size;

	if (!thread->groups || thread->group_count == thread->group_size) {
		size = thread->group_size ? 2 * thread->group_size : 32;
		groups = realloc(thread->groups, size * sizeof(*groups));
		if (!groups)
			return -ENOMEM;
		thread->groups = groups;
		thread->group_size = size;
	}
	thread->groups[thread->group_count++] = (struct report_group){
	    .caller = caller,
	    .first_clock = first_clock,
	};
	return 0;
}

static struct report_group *top_group(struct report_thread *thread)
{
	return thread->group_count ? &thread->groups[thread->group_count - 1] : NULL;
}

/* The group that a call finished at clock belongs to. */
static size_t group_of(const struct report_thread *thread, uint64_t clock)
{
	size_t low = 0, high = thread->group_count;

	while (low < high) {
		size_t middle = (low + high) / 2;

		if (thread->groups[middle].first_clock <= clock)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static struct report_spans *spans_get(struct pt_report *report, const struct report_thread *thread,
				      uint32_t function_id)
{
	struct report_spans *spans = pt_map_get(&report->spans, thread->number, function_id);

	if (spans)
		return spans;
	spans = calloc(1, sizeof(*spans));
	if (!spans)
		return NULL;
	spans->next = report->spans_list;
	report->spans_list = spans;
	return pt_map_put(&report->spans, thread->number, function_id, spans) ? NULL : spans;
}

static void merge_spans(struct report_spans *spans, uint32_t i)
{
	spans->spans[i].clock = spans->spans[i + 1].clock;
	spans->spans[i].ns += spans->spans[i + 1].ns;
	memmove(&spans->spans[i + 1], &spans->spans[i + 2],
		(spans->count - i - 2) * sizeof(spans->spans[0]));
	spans->count--;
}

/* Adds a call of function to its total; inside_clock: calls since then lie inside this one. */
static int add_total(struct pt_report *report, struct report_thread *thread,
		     struct report_function *function, uint32_t function_id, uint64_t ns,
		     uint64_t inside_clock)
{
	struct report_spans *spans = spans_get(report, thread, function_id);
	struct report_span *bigger;

	if (!spans)
		return -ENOMEM;
	while (spans->count && spans->spans[spans->count - 1].clock >= inside_clock)
		function->total_ns -= spans->spans[--spans->count].ns;
	if (spans->count == spans->size) {
		bigger = realloc(spans->spans, (2 * spans->size + 2) * sizeof(*bigger));
		if (!bigger)
			return -ENOMEM;
		spans->spans = bigger;
		spans->size = 2 * spans->size + 2;
	}
	spans->spans[spans->count].clock = thread->clock;
	spans->spans[spans->count++].ns = ns;
	function->total_ns += ns;
	/* each call adds one span, so looking at the last few keeps them few */
	for (uint32_t i = spans->count - 1; i > 0 && i + 3 > spans->count; i--) {
		if (group_of(thread, spans->spans[i - 1].clock) ==
		    group_of(thread, spans->spans[i].clock))
			merge_spans(spans, i - 1);
	}
	return 0;
}

static void add_times(struct pt_report *report, uint64_t begin_ns, uint64_t end_ns)
{
	if ((!report->calls && !report->samples && !report->blocked_ns) ||
	    begin_ns < report->begin_ns)
		report->begin_ns = begin_ns;
	if (end_ns > report->end_ns)
		report->end_ns = end_ns;
}

static int add_slice(struct pt_report *report, const struct pt_op_slice *slice)
{
	struct report_thread *thread = thread_get(report, slice->pid, slice->tid);
	uint64_t ns = slice->end_ns - slice->begin_ns, inner_ns = 0, inside, first;
	struct report_function *function;
	struct report_group *group;

	if (!thread)
		return -ENOMEM;
	if (slice->function->id >= report->function_count ||
	    !report->functions[slice->function->id].qualname)
		return -EINVAL;
	function = &report->functions[slice->function->id];
	inside = first = ++thread->clock;
	for (group = top_group(thread); group && group->caller >= slice->id;
	     group = top_group(thread)) {
		inner_ns += group->ns;
		inside = first = group->first_clock;
		thread->group_count--;
	}
	for (; group && group->caller > slice->parent_id; group = top_group(thread)) {
		first = group->first_clock;
		thread->group_count--;
	}
	if (!group || group->caller != slice->parent_id) {
		if (push_group(thread, slice->parent_id, first))
			return -ENOMEM;
		group = top_group(thread);
	}
	group->ns += ns;
	add_times(report, slice->begin_ns, slice->end_ns);
	report->calls++;
	thread->calls++;
	function->calls++;
	function->self_ns += ns > inner_ns ? ns - inner_ns : 0;
	return add_total(report, thread, function, slice->function->id, ns, inside);
}

/* A span of samples; others are time of the function that they lie in. */
static int add_span(struct pt_report *report, const struct pt_op_span *span)
{
	struct report_function *function;
	const char *lines = NULL;
	bool inside = false;
	uint64_t self = 0, all = 0, waited_ns = 0, blocked_ns = 0;

	if (!span->function)
		return 0;
	if (span->function->id >= report->function_count ||
	    !report->functions[span->function->id].qualname ||
	    !thread_get(report, span->pid, span->tid))
		return -EINVAL;
	function = &report->functions[span->function->id];
	for (uint32_t i = 0; i < span->arg_count; i++) {
		const struct pt_arg *arg = &span->args[i];

		if (!strcmp(arg->key, PT_SAMPLE_ARG))
			all = (uint64_t)arg->number;
		else if (!strcmp(arg->key, PT_SAMPLE_ARG_SELF))
			self = (uint64_t)arg->number;
		else if (!strcmp(arg->key, PT_SAMPLE_ARG_LINES))
			lines = arg->text;
		else if (!strcmp(arg->key, PT_SAMPLE_ARG_WHOM))
			inside = true;
		else if (!strcmp(arg->key, PT_SAMPLE_ARG_BLOCKED))
			blocked_ns = (uint64_t)arg->number;
		else if (!strcmp(arg->key, PT_SAMPLE_ARG_WAITED))
			waited_ns = (uint64_t)arg->number;
	}
	add_times(report, span->begin_ns, span->end_ns);
	report->samples += self;
	function->self_samples += self;
	function->total_samples += inside ? 0 : all;
	report->blocked_ns += waited_ns;
	function->self_blocked_ns += waited_ns;
	function->total_blocked_ns += inside ? 0 : blocked_ns;
	return lines ? report_lines_add(report, span->function->id, lines) : 0;
}

int pt_report_op(const struct pt_op *op, void *ctx)
{
	struct pt_report *report = ctx;
	struct report_thread *thread;

	switch (op->kind) {
	case PT_OP_FUNCTION:
		return add_function(report, &op->function);
	case PT_OP_SLICE:
		return add_slice(report, &op->slice);
	case PT_OP_THREAD:
		return add_thread(report, &op->thread);
	case PT_OP_LOSS:
		thread = thread_get(report, op->loss.pid, op->loss.tid);
		if (!thread)
			return -ENOMEM;
		thread->lost_events += op->loss.events;
		return 0;
	case PT_OP_STATE:
		thread = thread_get(report, op->state.pid, op->state.tid);
		if (!thread)
			return -ENOMEM;
		thread->state_ns[op->state.state] += op->state.end_ns - op->state.begin_ns;
		report->has_states = true;
		return 0;
	case PT_OP_CLEAR:
		release(report);
		memset(report, 0, sizeof(*report));
		report->thread_tail = &report->thread_list;
		return 0;
	case PT_OP_SPAN:
		return add_span(report, &op->span);
	case PT_OP_PROCESS:
	case PT_OP_SAMPLE: /* the spans have it */
	case PT_OP_STACK:
	case PT_OP_RANGE:
	case PT_OP_FLOW:
	case PT_OP_GPU_BOUND:
	case PT_OP_COUNTER:
	case PT_OP_MEMORY: /* what is left comes as instants, too */
		return 0;
	case PT_OP_INSTANT:
		return report_memory_add(report, &op->instant);
	}
	return -EINVAL;
}
