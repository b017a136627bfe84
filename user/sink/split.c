// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
#include "sink/split.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/map.h"

struct split_file {
	struct pt_sink *sink;
	char *path;
	uint64_t *told; /* bits: functions that the sink knows */
	size_t told_words;
	struct split_file *next;
};

struct pt_split {
	const char *path;
	const struct pt_capture_info *info;
	const struct pt_sink_options *options;
	struct pt_err err; /* why a file could not be opened */
	struct pt_map by_pid;
	struct split_file *list, *rest, *last;
	pid_t last_pid;
	size_t count;
	struct pt_function *functions; /* by id; qualname NULL: not there */
	size_t function_count;
};

bool pt_split_wanted(const char *path)
{
	return strstr(path, "%p") != NULL;
}

char *pt_split_path(const char *path, pid_t pid)
{
	const char *place = strstr(path, "%p");
	char number[16], *out;

	snprintf(number, sizeof(number), "%d", pid);
	if (asprintf(&out, "%.*s%s%s", (int)(place - path), path, pid ? number : "rest",
		     place + 2) < 0)
		return NULL;
	return out;
}

int pt_split_open(const char *path, const struct pt_capture_info *info,
		  const struct pt_sink_options *options, struct pt_split **result)
{
	struct pt_split *split = calloc(1, sizeof(*split));

	if (!split)
		return -ENOMEM;
	split->path = path;
	split->info = info;
	split->options = options;
	*result = split;
	return 0;
}

static int file_new(struct pt_split *split, pid_t pid, struct split_file **result)
{
	struct split_file *file = calloc(1, sizeof(*file));
	int rc = -ENOMEM;

	if (!file)
		return rc;
	file->path = pt_split_path(split->path, pid);
	if (file->path)
		rc = pt_sink_open(file->path, split->info, split->options, &file->sink,
				  &split->err);
	if (rc) {
		free(file->path);
		free(file);
		return rc;
	}
	file->next = split->list;
	split->list = file;
	*result = file;
	return 0;
}

static int file_for(struct pt_split *split, pid_t pid, struct split_file **result)
{
	struct split_file *file = split->last;
	int rc = 0;

	if (file && split->last_pid == pid)
		goto found;
	file = pt_map_get(&split->by_pid, (uint32_t)pid, 0);
	if (file)
		goto found;
	if (split->count < PT_SPLIT_MAX_FILES) {
		rc = file_new(split, pid, &file);
		split->count += !rc;
	} else {
		if (!split->rest) {
			rc = file_new(split, 0, &split->rest);
			if (!rc)
				pt_warn("more than %d processes: the others are together in '%s'",
					PT_SPLIT_MAX_FILES, split->rest->path);
		}
		file = split->rest;
	}
	if (!rc)
		rc = pt_map_put(&split->by_pid, (uint32_t)pid, 0, file);
	if (rc)
		return rc;
found:
	split->last = file;
	split->last_pid = pid;
	*result = file;
	return 0;
}

static int remember(struct pt_split *split, const struct pt_function *function)
{
	size_t count = split->function_count ? split->function_count : 256;
	struct pt_function *functions;

	while (count <= function->id)
		count *= 2;
	if (count > split->function_count) {
		functions = reallocarray(split->functions, count, sizeof(*functions));
		if (!functions)
			return -ENOMEM;
		memset(functions + split->function_count, 0,
		       (count - split->function_count) * sizeof(*functions));
		split->functions = functions;
		split->function_count = count;
	}
	split->functions[function->id] = *function;
	return 0;
}

/* Before a file's first slice of a function. */
static int tell_function(struct pt_split *split, struct split_file *file, uint32_t id)
{
	struct pt_op op = {.kind = PT_OP_FUNCTION};
	size_t words = split->function_count / 64;
	uint64_t *told;

	if (id >= split->function_count || !split->functions[id].qualname)
		return -EINVAL; /* no function op came before */
	if (id / 64 >= file->told_words) {
		told = reallocarray(file->told, words, sizeof(*told));
		if (!told)
			return -ENOMEM;
		memset(told + file->told_words, 0, (words - file->told_words) * sizeof(*told));
		file->told = told;
		file->told_words = words;
	}
	if (file->told[id / 64] & 1ull << id % 64)
		return 0;
	file->told[id / 64] |= 1ull << id % 64;
	op.function = split->functions[id];
	return pt_sink_op(&op, file->sink);
}

static pid_t pid_of(const struct pt_op *op)
{
	switch (op->kind) {
	case PT_OP_PROCESS:
		return op->process.pid;
	case PT_OP_THREAD:
		return op->thread.pid;
	case PT_OP_SLICE:
		return op->slice.pid;
	case PT_OP_INSTANT:
		return op->instant.pid;
	case PT_OP_SPAN:
		return op->span.pid;
	case PT_OP_STACK:
		return op->stack.pid;
	case PT_OP_STATE:
		return op->state.pid;
	case PT_OP_RANGE:
		return op->range.pid;
	case PT_OP_COUNTER:
		return op->counter.pid;
	case PT_OP_FLOW:
		return op->flow.from.pid;
	case PT_OP_SAMPLE:
		return op->sample.pid;
	case PT_OP_LOSS:
		return op->loss.pid;
	case PT_OP_GPU_BOUND:
		return op->gpu_bound.pid;
	case PT_OP_MEMORY:
		return op->memory.pid;
	case PT_OP_FUNCTION:
	case PT_OP_CLEAR:
		break;
	}
	return 0;
}

static int clear(struct pt_split *split, const struct pt_op *op)
{
	int rc = 0;

	for (struct split_file *file = split->list; file && !rc; file = file->next)
		rc = pt_sink_op(op, file->sink);
	return rc;
}

int pt_split_op(const struct pt_op *op, void *ctx)
{
	struct pt_split *split = ctx;
	struct split_file *file;
	int rc;

	if (op->kind == PT_OP_FUNCTION)
		return remember(split, &op->function);
	if (op->kind == PT_OP_CLEAR)
		return clear(split, op);
	if (op->kind == PT_OP_FLOW && op->flow.from.pid != op->flow.to.pid)
		return 0; /* no document has both its ends */
	rc = file_for(split, pid_of(op), &file);
	if (!rc && op->kind == PT_OP_SLICE)
		rc = tell_function(split, file, op->slice.function->id);
	return rc ? rc : pt_sink_op(op, file->sink);
}

uint64_t pt_split_bytes(const struct pt_split *split)
{
	uint64_t bytes = 0;

	for (const struct split_file *file = split->list; file; file = file->next)
		bytes += pt_sink_bytes(file->sink);
	return bytes;
}

int pt_split_close(struct pt_split *split, const struct pt_totals *totals,
		   void (*done)(const char *path, void *ctx), void *ctx, struct pt_err *err)
{
	struct pt_totals all = *totals;
	int rc = 0;

	all.of_all_files = true;
	if (pt_err_is_set(&split->err) && err && !pt_err_is_set(err))
		*err = split->err;
	while (split->list) {
		struct split_file *file = split->list;
		int closed = pt_sink_close(file->sink, &all, err);

		rc = rc ? rc : closed;
		if (done)
			done(file->path, ctx);
		split->list = file->next;
		free(file->path);
		free(file->told);
		free(file);
	}
	pt_map_release(&split->by_pid);
	free(split->functions);
	free(split);
	return rc;
}
