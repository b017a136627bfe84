// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
#include "flight/stacks_text.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static int add_call(struct pt_stacks_text *stacks, const struct pt_open_call *call)
{
	if (stacks->call_count == stacks->call_size) {
		size_t size = 2 * stacks->call_size + 64;
		struct pt_open_call *bigger = reallocarray(stacks->calls, size, sizeof(*bigger));

		if (!bigger)
			return -ENOMEM;
		stacks->calls = bigger;
		stacks->call_size = size;
	}
	stacks->calls[stacks->call_count++] = *call;
	return 0;
}

static int add_slice(struct pt_stacks_text *stacks, const struct pt_op_slice *slice)
{
	const struct pt_open_call call = {
	    .pid = slice->pid,
	    .tid = slice->tid,
	    .function = slice->function,
	    .begin_ns = slice->begin_ns,
	    .end_ns = slice->end_ns,
	    .flags = slice->flags,
	    .call_line = slice->call_line,
	};

	return add_call(stacks, &call);
}

static int add_span(struct pt_stacks_text *stacks, const struct pt_op_span *span)
{
	const struct pt_open_call call = {
	    .pid = span->pid,
	    .tid = span->tid,
	    .name = strdup(span->name),
	    .begin_ns = span->begin_ns,
	    .end_ns = span->end_ns,
	    .flags = span->flags,
	};
	int rc = call.name ? add_call(stacks, &call) : -ENOMEM;

	if (rc)
		free(call.name);
	return rc;
}

static struct pt_track_name *find_name(const struct pt_stacks_text *stacks, pid_t pid, pid_t tid)
{
	for (size_t i = 0; i < stacks->name_count; i++)
		if (stacks->names[i].pid == pid && stacks->names[i].tid == tid)
			return &stacks->names[i];
	return NULL;
}

static int set_name(struct pt_stacks_text *stacks, pid_t pid, pid_t tid, const char *name)
{
	struct pt_track_name *track = find_name(stacks, pid, tid);

	if (!track && stacks->name_count == stacks->name_size) {
		size_t size = 2 * stacks->name_size + 16;
		struct pt_track_name *bigger = reallocarray(stacks->names, size, sizeof(*bigger));

		if (!bigger)
			return -ENOMEM;
		stacks->names = bigger;
		stacks->name_size = size;
	}
	if (!track)
		track = &stacks->names[stacks->name_count++];
	*track = (struct pt_track_name){.pid = pid, .tid = tid};
	snprintf(track->name, sizeof(track->name), "%s", name);
	return 0;
}

int pt_stacks_text_op(struct pt_stacks_text *stacks, const struct pt_op *op)
{
	if (op->kind == PT_OP_SLICE && op->slice.flags & PT_SLICE_OPEN_AT_END)
		return add_slice(stacks, &op->slice);
	if (op->kind == PT_OP_SPAN && op->span.flags & PT_SLICE_OPEN_AT_END)
		return add_span(stacks, &op->span);
	if (op->kind == PT_OP_PROCESS)
		return set_name(stacks, op->process.pid, 0, op->process.name);
	if (op->kind == PT_OP_THREAD)
		return set_name(stacks, op->thread.pid, op->thread.tid, op->thread.name);
	return 0;
}

/* By thread; of one thread what began later is further in. */
static int compare(const void *left, const void *right)
{
	const struct pt_open_call *a = left, *b = right;

	if (a->pid != b->pid)
		return a->pid < b->pid ? -1 : 1;
	if (a->tid != b->tid)
		return a->tid < b->tid ? -1 : 1;
	return a->begin_ns > b->begin_ns ? -1 : a->begin_ns < b->begin_ns;
}

static void print_head(const struct pt_stacks_text *stacks, const struct pt_open_call *call,
		       uint64_t end_ns, FILE *out)
{
	const struct pt_track_name *process = find_name(stacks, call->pid, 0);
	const struct pt_track_name *thread = find_name(stacks, call->pid, call->tid);

	fprintf(out, "\nprocess %d (%s), ", call->pid, process ? process->name : "?");
	if (call->tid < PT_TRACK_TID)
		fprintf(out, "thread %d (%s)", call->tid, thread ? thread->name : "?");
	else
		fprintf(out, "%s", thread ? thread->name : "?");
	if (call->end_ns < end_ns)
		fprintf(out, ", ended %.3f s before the end of the capture",
			(double)(end_ns - call->end_ns) / 1e9);
	fputs(", innermost call first\n", out);
}

static void print_call(const struct pt_open_call *call, FILE *out)
{
	double seconds = (double)(call->end_ns - call->begin_ns) / 1e9;
	const char *least = call->flags & PT_SLICE_OPEN_AT_START ? "at least " : "";

	if (!call->function)
		fprintf(out, "  %s", call->name);
	else if (call->function->file[0])
		fprintf(out, "  %s (%s:%u)", call->function->qualname, call->function->file,
			call->function->line);
	else
		fprintf(out, "  %s", call->function->qualname);
	fprintf(out, ", for %s%.3f s", least, seconds);
	if (call->call_line)
		fprintf(out, ", called at line %u", call->call_line);
	fputc('\n', out);
}

int pt_stacks_text_print(struct pt_stacks_text *stacks, uint64_t end_ns, FILE *out)
{
	const struct pt_open_call *before = NULL;

	if (!stacks->call_count)
		fputs("\nno calls are open\n", out);
	else
		qsort(stacks->calls, stacks->call_count, sizeof(*stacks->calls), compare);
	for (size_t i = 0; i < stacks->call_count; i++) {
		const struct pt_open_call *call = &stacks->calls[i];

		if (!before || before->pid != call->pid || before->tid != call->tid)
			print_head(stacks, call, end_ns, out);
		print_call(call, out);
		before = call;
	}
	return ferror(out) ? -EIO : 0;
}

void pt_stacks_text_release(struct pt_stacks_text *stacks)
{
	for (size_t i = 0; i < stacks->call_count; i++)
		free(stacks->calls[i].name);
	free(stacks->calls);
	free(stacks->names);
	*stacks = (struct pt_stacks_text){0};
}
