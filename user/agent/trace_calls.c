// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
#include "agent/trace_calls.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static uint64_t length(const struct agent_call *call)
{
	return call->end_ns - call->begin_ns;
}

static void release(struct agent_call *call)
{
	free(call->category);
	free(call->name);
}

/* Keeps those for which keep() is true, in their order. */
static void filter(struct agent_calls *calls,
		   bool (*keep)(const struct agent_call *call, uint64_t number), uint64_t number)
{
	size_t kept = 0;

	for (size_t i = 0; i < calls->count; i++) {
		if (keep(&calls->items[i], number))
			calls->items[kept++] = calls->items[i];
		else
			release(&calls->items[i]);
	}
	calls->count = kept;
}

static bool ends_late(const struct agent_call *call, uint64_t ns)
{
	return call->end_ns >= ns;
}

static bool is_longer(const struct agent_call *call, uint64_t ns)
{
	return length(call) > ns;
}

static int by_number(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

/* The median goes, too, so there is room afterwards. */
static int drop_short(struct agent_calls *calls)
{
	uint64_t *lengths = calloc(calls->count, sizeof(*lengths));

	if (!lengths)
		return -ENOMEM;
	for (size_t i = 0; i < calls->count; i++)
		lengths[i] = length(&calls->items[i]);
	qsort(lengths, calls->count, sizeof(*lengths), by_number);
	filter(calls, is_longer, lengths[calls->count / 2]);
	free(lengths);
	return 0;
}

static int make_room(struct agent_calls *calls)
{
	size_t size = calls->size ? 2 * calls->size : 16;
	struct agent_call *bigger;

	if (calls->count < calls->size)
		return 0;
	if (calls->size >= AGENT_CALLS_MAX)
		return drop_short(calls);
	bigger = reallocarray(calls->items, size, sizeof(*bigger));
	if (!bigger)
		return -ENOMEM;
	calls->items = bigger;
	calls->size = size;
	return 0;
}

int agent_calls_add(struct agent_calls *calls, const struct agent_call *call)
{
	int rc = make_room(calls);
	struct agent_call own = *call;

	if (rc)
		release(&own);
	else
		calls->items[calls->count++] = own;
	return rc;
}

void agent_calls_drop(struct agent_calls *calls, uint64_t ns)
{
	filter(calls, ends_late, ns);
	if (calls->count || !calls->items)
		return;
	free(calls->items);
	*calls = (struct agent_calls){0};
}

void agent_calls_clear(struct agent_calls *calls)
{
	agent_calls_drop(calls, UINT64_MAX);
}

static bool is_within(const struct agent_call *call, uint64_t begin_ns, uint64_t end_ns)
{
	return call->begin_ns >= begin_ns && call->end_ns <= end_ns;
}

void agent_calls_move(struct agent_calls *from, struct agent_calls *to, uint64_t begin_ns,
		      uint64_t end_ns)
{
	size_t kept = 0;

	for (size_t i = 0; i < from->count; i++) {
		if (is_within(&from->items[i], begin_ns, end_ns))
			agent_calls_add(to, &from->items[i]);
		else
			from->items[kept++] = from->items[i];
	}
	from->count = kept;
}

/* ---- which are told ---- */

static int outer_first(const void *a, const void *b)
{
	const struct agent_call *x = ((const struct agent_chosen *)a)->call;
	const struct agent_call *y = ((const struct agent_chosen *)b)->call;

	if (x->begin_ns != y->begin_ns)
		return x->begin_ns < y->begin_ns ? -1 : 1;
	return x->end_ns < y->end_ns ? 1 : x->end_ns > y->end_ns ? -1 : 0;
}

/* They nest. Each one's parent is the innermost one around it. */
static void find_parents(struct agent_chosen *chosen, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		size_t at = i; /* 1 + the one before */

		while (at && chosen[at - 1].call->end_ns < chosen[i].call->end_ns)
			at = chosen[at - 1].parent;
		chosen[i].parent = at;
	}
}

/* Without the longest one inside. */
static void find_own(struct agent_chosen *chosen, size_t count)
{
	for (size_t i = 0; i < count; i++)
		chosen[i].own_ns = length(chosen[i].call);
	for (size_t i = 0; i < count; i++) {
		struct agent_chosen *parent = chosen[i].parent ? &chosen[chosen[i].parent - 1]
							       : NULL;
		uint64_t left_ns;

		if (!parent)
			continue;
		left_ns = length(parent->call) - length(chosen[i].call);
		if (left_ns < parent->own_ns)
			parent->own_ns = left_ns;
	}
}

/* The own time that the max-th greatest one has, but at least least_ns. */
static uint64_t own_limit(const struct agent_chosen *chosen, size_t count, size_t max,
			  uint64_t least_ns)
{
	uint64_t *numbers = calloc(count, sizeof(*numbers)), limit = UINT64_MAX;

	if (!numbers)
		return limit;
	for (size_t i = 0; i < count; i++)
		numbers[i] = chosen[i].own_ns;
	qsort(numbers, count, sizeof(*numbers), by_number);
	if (max)
		limit = count > max ? numbers[count - max] : 0;
	free(numbers);
	return limit > least_ns ? limit : least_ns;
}

struct agent_chosen *agent_calls_choose(const struct agent_calls *calls, uint64_t begin_ns,
					uint64_t end_ns, uint64_t except, uint64_t least_ns,
					size_t max, const struct agent_call *always, size_t *count)
{
	struct agent_chosen *chosen = calls->count ? calloc(calls->count, sizeof(*chosen)) : NULL;
	size_t all = 0, kept = 0, left = max;
	uint64_t limit_ns;

	*count = 0;
	for (size_t i = 0; chosen && i < calls->count; i++) {
		const struct agent_call *call = &calls->items[i];

		if (is_within(call, begin_ns, end_ns) && (!call->id || call->id != except))
			chosen[all++].call = call;
	}
	if (!all) {
		free(chosen);
		return NULL;
	}
	qsort(chosen, all, sizeof(*chosen), outer_first);
	find_parents(chosen, all);
	find_own(chosen, all);
	limit_ns = own_limit(chosen, all, max, least_ns);
	for (size_t i = 0; i < all; i++) {
		bool is_told = chosen[i].own_ns >= limit_ns && left;

		left -= is_told;
		if (is_told || chosen[i].call == always)
			chosen[kept++] = chosen[i];
	}
	find_parents(chosen, kept);
	*count = kept;
	return chosen;
}
