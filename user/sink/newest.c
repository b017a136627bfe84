// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
#include "sink/newest.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

struct entry {
	struct pt_op op;
	void *texts; /* owned: what op points to; NULL: nothing of its own */
};

struct pt_newest {
	pt_op_fn next;
	void *ctx;
	uint64_t max, left_out;
	struct entry *entries; /* a ring once it has all its room */
	size_t room, count, first;
};

int pt_newest_new(uint64_t count, pt_op_fn next, void *ctx, struct pt_newest **result)
{
	struct pt_newest *newest = calloc(1, sizeof(*newest));

	if (!newest)
		return -ENOMEM;
	newest->max = count;
	newest->next = next;
	newest->ctx = ctx;
	*result = newest;
	return 0;
}

static void forget_all(struct pt_newest *newest)
{
	for (size_t i = 0; i < newest->count; i++)
		free(newest->entries[(newest->first + i) % newest->room].texts);
	newest->count = newest->first = 0;
}

void pt_newest_free(struct pt_newest *newest)
{
	if (!newest)
		return;
	forget_all(newest);
	free(newest->entries);
	free(newest);
}

/* ---- copies of what is borrowed ---- */

/* The texts of an op and its arguments, as places to be set. */
struct borrowed {
	const char **texts[4];
	size_t text_count;
	const struct pt_arg **args;
	uint32_t arg_count;
};

/* The categories are literals; they are borrowed all the same. */
static struct borrowed borrowed_by(struct pt_op *op)
{
	struct borrowed b = {.text_count = 0};

	if (op->kind == PT_OP_SPAN)
		b = (struct borrowed){
		    {&op->span.category, &op->span.name}, 2, &op->span.args, op->span.arg_count};
	else if (op->kind == PT_OP_STATE)
		b = (struct borrowed){{&op->state.name}, 1, &op->state.args, op->state.arg_count};
	else if (op->kind == PT_OP_RANGE)
		b = (struct borrowed){{&op->range.category, &op->range.name},
				      2,
				      &op->range.args,
				      op->range.arg_count};
	else if (op->kind == PT_OP_GPU_BOUND)
		b = (struct borrowed){
		    {&op->gpu_bound.category, &op->gpu_bound.name, &op->gpu_bound.track_name},
		    3,
		    &op->gpu_bound.args,
		    op->gpu_bound.arg_count};
	else if (op->kind == PT_OP_INSTANT)
		b = (struct borrowed){
		    {&op->instant.category, &op->instant.name, &op->instant.detail},
		    3,
		    &op->instant.args,
		    op->instant.arg_count};
	else if (op->kind == PT_OP_COUNTER)
		b = (struct borrowed){{&op->counter.name, &op->counter.series}, 2, NULL, 0};
	else if (op->kind == PT_OP_FLOW)
		b = (struct borrowed){{&op->flow.category, &op->flow.name}, 2, NULL, 0};
	return b;
}

static size_t text_bytes(const char *text)
{
	return text ? strlen(text) + 1 : 0;
}

static const char *move_text(const char *text, char **to)
{
	size_t bytes = text_bytes(text);
	char *at = *to;

	if (!text)
		return NULL;
	memcpy(at, text, bytes);
	*to += bytes;
	return at;
}

static size_t args_bytes(const struct pt_arg *args, uint32_t count)
{
	size_t bytes = count * sizeof(*args);

	for (uint32_t i = 0; i < count; i++)
		bytes += text_bytes(args[i].key) + text_bytes(args[i].text);
	return bytes;
}

/* Copies arguments to own, and their texts to *to. */
static const struct pt_arg *move_args(const struct pt_arg *args, uint32_t count, struct pt_arg *own,
				      char **to)
{
	for (uint32_t i = 0; i < count; i++) {
		own[i] = args[i];
		own[i].key = move_text(args[i].key, to);
		own[i].text = move_text(args[i].text, to);
	}
	return own;
}

/* The values of a call: a struct pt_values, the arguments, the variables, then all texts. */
static int own_values(struct entry *entry)
{
	const struct pt_values *values = entry->op.slice.values;
	struct pt_values *own;
	struct pt_arg *args;
	char *to;

	own = entry->texts = malloc(sizeof(*own) + args_bytes(values->args, values->arg_count) +
				    args_bytes(values->locals, values->local_count) +
				    text_bytes(values->result));
	if (!own)
		return -ENOMEM;
	*own = *values;
	args = (struct pt_arg *)(own + 1);
	to = (char *)(args + values->arg_count + values->local_count);
	own->args = move_args(values->args, values->arg_count, args, &to);
	own->locals = move_args(values->locals, values->local_count, args + values->arg_count, &to);
	own->result = move_text(values->result, &to);
	entry->op.slice.values = own;
	return 0;
}

/* What an op has besides texts and arguments. */
static size_t links_bytes(const struct pt_op *op)
{
	return op->kind == PT_OP_GPU_BOUND ? op->gpu_bound.link_count * sizeof(*op->gpu_bound.links)
					   : 0;
}

static void move_links(struct pt_op *op, char *to)
{
	if (!links_bytes(op))
		return;
	memcpy(to, op->gpu_bound.links, links_bytes(op));
	op->gpu_bound.links = (const struct pt_gpu_link *)to;
}

/* Gives the entry copies of its own: the arguments, links, then all texts, in one piece. */
static int own_texts(struct entry *entry)
{
	struct borrowed b = borrowed_by(&entry->op);
	size_t links = links_bytes(&entry->op);
	size_t bytes = links + (b.args ? args_bytes(*b.args, b.arg_count) : 0);
	struct pt_arg *args;
	char *to;

	entry->texts = NULL;
	if (entry->op.kind == PT_OP_SLICE && entry->op.slice.values)
		return own_values(entry);
	for (size_t i = 0; i < b.text_count; i++)
		bytes += text_bytes(*b.texts[i]);
	if (!bytes)
		return 0;
	args = entry->texts = malloc(bytes);
	if (!args)
		return -ENOMEM;
	to = (char *)(args + b.arg_count);
	move_links(&entry->op, to);
	to += links;
	for (size_t i = 0; i < b.text_count; i++)
		*b.texts[i] = move_text(*b.texts[i], &to);
	if (b.args)
		*b.args = move_args(*b.args, b.arg_count, args, &to);
	return 0;
}

/* ---- the ring ---- */

static int grow(struct pt_newest *newest)
{
	size_t room = newest->room ? 2 * newest->room : 1024;
	struct entry *entries;

	if (room > newest->max)
		room = newest->max;
	entries = reallocarray(newest->entries, room, sizeof(*entries));
	if (!entries)
		return -ENOMEM;
	newest->entries = entries;
	newest->room = room;
	return 0;
}

static int keep(struct pt_newest *newest, const struct pt_op *op)
{
	struct entry *entry;
	int rc = 0;

	if (newest->count == newest->max) {
		free(newest->entries[newest->first].texts);
		newest->first = (newest->first + 1) % newest->room;
		newest->count--;
		newest->left_out++;
	} else if (newest->count == newest->room) {
		rc = grow(newest);
	}
	if (rc)
		return rc;
	entry = &newest->entries[(newest->first + newest->count) % newest->room];
	entry->op = *op;
	rc = own_texts(entry);
	newest->count += !rc;
	return rc;
}

int pt_newest_op(const struct pt_op *op, void *ctx)
{
	struct pt_newest *newest = ctx;

	switch (op->kind) {
	case PT_OP_SLICE:
	case PT_OP_SPAN:
	case PT_OP_STATE:
	case PT_OP_RANGE:
	case PT_OP_INSTANT:
	case PT_OP_COUNTER:
	case PT_OP_FLOW:
	case PT_OP_GPU_BOUND:
		return keep(newest, op);
	case PT_OP_CLEAR:
		forget_all(newest);
		newest->left_out = 0;
		break;
	case PT_OP_PROCESS:
	case PT_OP_THREAD:
	case PT_OP_FUNCTION:
	case PT_OP_STACK:
	case PT_OP_SAMPLE: /* its spans are kept */
	case PT_OP_LOSS:
	case PT_OP_MEMORY:
		break;
	}
	return newest->next(op, newest->ctx);
}

int pt_newest_each(const struct pt_newest *newest, pt_op_fn fn, void *ctx)
{
	int rc = 0;

	for (size_t i = 0; !rc && i < newest->count; i++)
		rc = fn(&newest->entries[(newest->first + i) % newest->room].op, ctx);
	return rc;
}

int pt_newest_flush(struct pt_newest *newest)
{
	int rc = pt_newest_each(newest, newest->next, newest->ctx);

	forget_all(newest);
	return rc;
}

uint64_t pt_newest_left_out(const struct pt_newest *newest)
{
	return newest->left_out;
}
