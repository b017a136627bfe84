// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * Ranks of one communicator are those with one id. Of each thing that they did together the
 * earliest end and the latest begin on each host are compared; the others say less.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "sink/nccl_priv.h"

/* Pairs of hosts that are compared for one communicator: some 0.3 s. Of more collectives only each
 * second one, third one and so on is taken, which leaves the bounds true. */
#define COMPARISONS_MAX (1ull << 28)
/* Boundaries of slices at the same nanosecond are moved apart (model/op.h), by less than this. */
#define SLACK_NS        1000

struct host_times {
	int64_t first_end_ns, last_begin_ns; /* NCCL_NEVER, INT64_MIN: not there */
};

int nccl_ranks_add(struct nccl_ranks *ranks, const struct nccl_rank *rank, uint32_t *index)
{
	uint32_t size = ranks->size ? 2 * ranks->size : 16;
	struct nccl_rank *bigger;

	if (ranks->count == ranks->size) {
		bigger = reallocarray(ranks->ranks, size, sizeof(*bigger));
		if (!bigger)
			return -ENOMEM;
		ranks->ranks = bigger;
		ranks->size = size;
	}
	*index = ranks->count;
	ranks->ranks[ranks->count++] = *rank;
	return 0;
}

int nccl_ranks_op(struct nccl_ranks *ranks, uint32_t index, const struct nccl_op *op)
{
	struct nccl_rank *rank = &ranks->ranks[index];
	uint32_t size = rank->op_size ? 2 * rank->op_size : 64;
	struct nccl_op *bigger;

	if (rank->op_count == rank->op_size) {
		bigger = reallocarray(rank->ops, size, sizeof(*bigger));
		if (!bigger)
			return -ENOMEM;
		rank->ops = bigger;
		rank->op_size = size;
	}
	rank->ops[rank->op_count++] = *op;
	ranks->op_count++;
	return 0;
}

void nccl_ranks_release(struct nccl_ranks *ranks)
{
	for (uint32_t i = 0; i < ranks->count; i++)
		free(ranks->ranks[i].ops);
	free(ranks->ranks);
	memset(ranks, 0, sizeof(*ranks));
}

/* ---- comparing ---- */

static int by_id(const void *a, const void *b)
{
	const struct nccl_rank *x = a, *y = b;

	if (x->id != y->id)
		return x->id < y->id ? -1 : 1;
	return x->rank < y->rank ? -1 : x->rank > y->rank;
}

/* Is each of them there once, and do all agree how many there are? */
static bool is_one(const struct nccl_rank *ranks, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		if (ranks[i].nranks != ranks[0].nranks || ranks[i].rank >= ranks[i].nranks)
			return false;
		if (i && ranks[i].rank == ranks[i - 1].rank)
			return false;
	}
	return true;
}

static bool on_several_hosts(const struct nccl_rank *ranks, uint32_t count)
{
	for (uint32_t i = 1; i < count; i++)
		if (ranks[i].host != ranks[0].host)
			return true;
	return false;
}

static uint32_t most_ops(const struct nccl_rank *ranks, uint32_t count)
{
	uint32_t most = 0;

	for (uint32_t i = 0; i < count; i++)
		if (ranks[i].op_count > most)
			most = ranks[i].op_count;
	return most;
}

/* Have all made the same calls, as far as they got? */
static bool are_alike(const struct nccl_rank *ranks, uint32_t count)
{
	uint32_t most = most_ops(ranks, count), longest = 0;

	while (ranks[longest].op_count < most)
		longest++;
	for (uint32_t i = 0; i < count; i++)
		for (uint32_t k = 0; k < ranks[i].op_count; k++)
			if (ranks[i].ops[k].likeness != ranks[longest].ops[k].likeness)
				return false;
	return true;
}

static void clear(struct host_times *times, uint32_t hosts)
{
	for (uint32_t i = 0; i < hosts; i++)
		times[i] = (struct host_times){NCCL_NEVER, INT64_MIN};
}

static void note(struct host_times *times, int64_t begin_ns, int64_t end_ns)
{
	if (end_ns < times->first_end_ns)
		times->first_end_ns = end_ns;
	if (begin_ns > times->last_begin_ns)
		times->last_begin_ns = begin_ns;
}

/* No end was before any begin. True: something was compared. */
static bool compare(const struct host_times *times, uint32_t hosts, struct pt_clock_bounds *bounds)
{
	bool any = false;

	for (uint32_t a = 0; a < hosts; a++) {
		int64_t end_ns = times[a].first_end_ns;

		if (end_ns > INT64_MAX - SLACK_NS)
			continue;
		for (uint32_t b = 0; b < hosts; b++) {
			if (times[b].last_begin_ns == INT64_MIN)
				continue;
			pt_clock_not_before(bounds, a, end_ns + SLACK_NS, b,
					    times[b].last_begin_ns);
			any |= a != b;
		}
	}
	return any;
}

static void compare_ops(const struct nccl_rank *ranks, uint32_t count, uint32_t hosts,
			struct host_times *times, struct pt_clock_bounds *bounds,
			struct pt_nccl_result *result)
{
	uint64_t most = most_ops(ranks, count);
	uint64_t step = 1 + most * hosts * hosts / COMPARISONS_MAX;

	for (uint64_t k = 0; k < most; k += step) {
		clear(times, hosts);
		for (uint32_t i = 0; i < count; i++)
			if (k < ranks[i].op_count)
				note(&times[ranks[i].host], ranks[i].ops[k].begin_ns,
				     ranks[i].ops[k].end_ns);
		result->collectives += compare(times, hosts, bounds);
	}
}

static void compare_one(const struct nccl_rank *ranks, uint32_t count, uint32_t hosts,
			struct host_times *times, struct pt_clock_bounds *bounds,
			struct pt_nccl_result *result)
{
	if (!on_several_hosts(ranks, count))
		return;
	if (!is_one(ranks, count)) {
		result->ambiguous++;
		return;
	}
	clear(times, hosts);
	for (uint32_t i = 0; i < count; i++)
		note(&times[ranks[i].host], ranks[i].begin_ns, ranks[i].end_ns);
	result->communicators += compare(times, hosts, bounds);
	if (are_alike(ranks, count))
		compare_ops(ranks, count, hosts, times, bounds, result);
	else
		result->different++;
}

int nccl_ranks_compare(struct nccl_ranks *ranks, uint32_t hosts, struct pt_clock_bounds *bounds,
		       struct pt_nccl_result *result)
{
	struct host_times *times = calloc(hosts, sizeof(*times));
	uint32_t end;

	*result = (struct pt_nccl_result){0};
	if (!times)
		return -ENOMEM;
	if (ranks->count)
		qsort(ranks->ranks, ranks->count, sizeof(ranks->ranks[0]), by_id);
	for (uint32_t i = 0; i < ranks->count; i = end) {
		for (end = i; end < ranks->count && ranks->ranks[end].id == ranks->ranks[i].id;)
			end++;
		compare_one(&ranks->ranks[i], end - i, hosts, times, bounds, result);
	}
	free(times);
	return 0;
}
