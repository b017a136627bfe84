// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * A system of difference constraints. A fact "a at x was not before b at y" is
 * offset(b) - offset(a) <= x - y: an edge from a to b of that length. The shortest way from a to b
 * is the most that offset(b) - offset(a) can be; a way from a host back to itself that is shorter
 * than nothing is a contradiction (CLRS, "Difference constraints and shortest paths").
 */
#include "sink/clock_bounds.h"

#include <errno.h>
#include <stdlib.h>

#define FAR INT64_MAX

struct pt_clock_bounds {
	uint32_t hosts;
	int64_t *most;   /* [a * hosts + b]; FAR: nothing is known */
	uint32_t *facts; /* likewise; stays at its largest value */
};

struct pt_clock_bounds *pt_clock_bounds_new(uint32_t hosts)
{
	struct pt_clock_bounds *bounds = calloc(1, sizeof(*bounds));
	size_t pairs = (size_t)hosts * hosts;

	if (!bounds || !hosts || hosts > PT_CLOCK_HOSTS_MAX) {
		free(bounds);
		return NULL;
	}
	bounds->hosts = hosts;
	bounds->most = calloc(pairs, sizeof(*bounds->most));
	bounds->facts = calloc(pairs, sizeof(*bounds->facts));
	if (!bounds->most || !bounds->facts) {
		pt_clock_bounds_free(bounds);
		return NULL;
	}
	for (size_t i = 0; i < pairs; i++)
		bounds->most[i] = FAR;
	return bounds;
}

void pt_clock_bounds_free(struct pt_clock_bounds *bounds)
{
	if (!bounds)
		return;
	free(bounds->most);
	free(bounds->facts);
	free(bounds);
}

/* Towards what is known less; both may be at their ends. */
static int64_t sum(int64_t x, int64_t y)
{
	int64_t result;

	if (x == FAR || y == FAR)
		return FAR;
	if (__builtin_add_overflow(x, y, &result))
		return x > 0 ? FAR : INT64_MIN;
	return result;
}

static int64_t difference(int64_t x, int64_t y)
{
	int64_t result;

	if (__builtin_sub_overflow(x, y, &result))
		return x >= 0 ? FAR : INT64_MIN;
	return result;
}

void pt_clock_not_before(struct pt_clock_bounds *bounds, uint32_t a, int64_t a_ns, uint32_t b,
			 int64_t b_ns)
{
	size_t pair = (size_t)a * bounds->hosts + b;
	int64_t most = difference(a_ns, b_ns);

	if (most < bounds->most[pair])
		bounds->most[pair] = most;
	if (bounds->facts[pair] < UINT32_MAX)
		bounds->facts[pair]++;
}

static int64_t most_of(const struct pt_clock_bounds *bounds, uint32_t a, uint32_t b)
{
	return bounds->most[(size_t)a * bounds->hosts + b];
}

/* Two hosts that contradict each other by themselves, or one. */
static bool contradiction(const struct pt_clock_bounds *bounds, uint32_t *a, uint32_t *b)
{
	for (*a = 0; *a < bounds->hosts; (*a)++) {
		if (most_of(bounds, *a, *a) >= 0)
			continue;
		*b = *a;
		return true;
	}
	for (*a = 0; *a < bounds->hosts; (*a)++)
		for (*b = *a + 1; *b < bounds->hosts; (*b)++)
			if (sum(most_of(bounds, *a, *b), most_of(bounds, *b, *a)) < 0)
				return true;
	return false;
}

/* The shortest ways between all (Floyd and Warshall). */
static void close_over(struct pt_clock_bounds *bounds)
{
	uint32_t n = bounds->hosts;

	for (uint32_t via = 0; via < n; via++)
		for (uint32_t a = 0; a < n; a++) {
			int64_t *row = &bounds->most[(size_t)a * n];

			if (row[via] == FAR)
				continue;
			for (uint32_t b = 0; b < n; b++) {
				int64_t way = sum(row[via], most_of(bounds, via, b));

				if (way < row[b])
					row[b] = way;
			}
		}
}

static int64_t within(int64_t least, int64_t most)
{
	if (least <= 0 && most >= 0)
		return 0;
	if (least == INT64_MIN)
		return most;
	if (most == FAR)
		return least;
	return least + (most - least) / 2; /* both have one sign */
}

/* The one of a host, beside those that were chosen before. */
static int64_t choose(const struct pt_clock_bounds *bounds, const struct pt_clock_offset *offsets,
		      const bool *chosen, uint32_t host)
{
	int64_t least = INT64_MIN, most = FAR;

	for (uint32_t i = 0; i < bounds->hosts; i++) {
		int64_t there = most_of(bounds, i, host), back = most_of(bounds, host, i);

		if (!chosen[i])
			continue;
		if (there != FAR && sum(offsets[i].offset_ns, there) < most)
			most = sum(offsets[i].offset_ns, there);
		if (back != FAR && difference(offsets[i].offset_ns, back) > least)
			least = difference(offsets[i].offset_ns, back);
	}
	return within(least, most);
}

/* Any that is within its bounds leaves some for the others, as the ways are the shortest. Those
 * that may keep their clocks come first, so that none is moved for one that is wrong. */
static void choose_all(const struct pt_clock_bounds *bounds, struct pt_clock_offset *offsets)
{
	bool chosen[PT_CLOCK_HOSTS_MAX] = {true};

	for (uint32_t i = 1; i < bounds->hosts; i++)
		chosen[i] = !choose(bounds, offsets, chosen, i);
	for (uint32_t i = 1; i < bounds->hosts; i++) {
		if (chosen[i])
			continue;
		offsets[i].offset_ns = choose(bounds, offsets, chosen, i);
		chosen[i] = true;
	}
}

int pt_clock_solve(struct pt_clock_bounds *bounds, struct pt_clock_offset *offsets, uint32_t *a,
		   uint32_t *b)
{
	uint32_t n = bounds->hosts;
	int rc = contradiction(bounds, a, b) ? -ERANGE : 0;

	for (uint32_t i = 0; i < n; i++) {
		offsets[i] = (struct pt_clock_offset){0};
		for (uint32_t j = 0; j < n; j++)
			if (i != j)
				offsets[i].facts += (uint64_t)bounds->facts[(size_t)i * n + j] +
						    bounds->facts[(size_t)j * n + i];
	}
	if (!rc) {
		close_over(bounds);
		rc = contradiction(bounds, a, b) ? -ELOOP : 0;
	}
	for (uint32_t i = 0; i < n; i++) {
		offsets[i].least_ns = INT64_MIN;
		offsets[i].most_ns = INT64_MAX;
		if (rc)
			continue;
		offsets[i].most_ns = i ? most_of(bounds, 0, i) : 0;
		if (!i || most_of(bounds, i, 0) != FAR)
			offsets[i].least_ns = i ? difference(0, most_of(bounds, i, 0)) : 0;
	}
	if (!rc)
		choose_all(bounds, offsets);
	return rc;
}
