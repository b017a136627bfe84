// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
#include "python/paths.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* A nop of any length, as compilers put between pieces of code; nothing leads there. */
static bool is_padding(const struct region *region, const struct mc_insn *insn)
{
	const uint8_t *bytes = elf_at_vaddr(region->elf, insn->vaddr, insn->length);
	size_t i = 0;

	if (!bytes)
		return false;
	while (i + 1 < insn->length && (bytes[i] == 0x66 || bytes[i] == 0x2e))
		i++;
	return bytes[i] == 0x90 ||
	       (i + 2 < insn->length && bytes[i] == 0x0f && bytes[i + 1] == 0x1f);
}

/* Does the jump leave the region, or start another function of it? */
static bool leaves(const struct region *region, const struct mc_insn *insn)
{
	return (insn->flow == MC_FLOW_JMP || insn->flow == MC_FLOW_JCC) &&
	       region_index(region, insn->target) == REGION_NONE;
}

/* The instructions that may run after i: at most two. Returns how many. */
static size_t successors(const struct paths *paths, size_t i, size_t next[2])
{
	const struct region *region = paths->region;
	const struct mc_insn *insn = &region->insns[i];
	size_t count = 0, to;

	if ((insn->flow == MC_FLOW_JCC || insn->flow == MC_FLOW_JMP) &&
	    !(paths->roles[i] & PATHS_NEVER)) {
		to = region_index(region, insn->target);
		if (to != REGION_NONE)
			next[count++] = to;
	}
	if (insn->flow == MC_FLOW_JMP || insn->flow == MC_FLOW_JMP_INDIRECT ||
	    insn->flow == MC_FLOW_RET || insn->flow == MC_FLOW_STOP ||
	    region->marks[i] & REGION_NORETURN)
		return count;
	to = region_next(region, i);
	if (to != REGION_NONE)
		next[count++] = to;
	return count;
}

/* Predecessor lists by counting sort. */
static void link_preds(struct paths *paths)
{
	size_t count = paths->region->insn_count, next[2];

	memset(paths->pred_from, 0, (count + 2) * sizeof(size_t));
	for (size_t i = 0; i < count; i++)
		for (size_t k = successors(paths, i, next); k > 0; k--)
			paths->pred_from[next[k - 1] + 2]++;
	for (size_t i = 2; i < count + 2; i++)
		paths->pred_from[i] += paths->pred_from[i - 1];
	for (size_t i = 0; i < count; i++)
		for (size_t k = successors(paths, i, next); k > 0; k--)
			paths->preds[paths->pred_from[next[k - 1] + 1]++] = i;
}

int paths_load(struct paths *paths, const struct region *region, uint64_t entry)
{
	size_t count = region->insn_count;

	memset(paths, 0, sizeof(*paths));
	paths->region = region;
	paths->entry = region_index(region, entry);
	paths->roles = calloc(count + 1, 1);
	paths->seen = calloc(count + 1, 1);
	paths->todo = calloc(count + 1, sizeof(size_t));
	paths->pred_from = calloc(count + 2, sizeof(size_t));
	paths->preds = calloc(2 * count + 1, sizeof(size_t));
	if (!paths->roles || !paths->seen || !paths->todo || !paths->pred_from || !paths->preds)
		return -ENOMEM;
	if (paths->entry == REGION_NONE)
		return -EINVAL;
	for (size_t i = 0; i < count; i++)
		if (region->insns[i].flow == MC_FLOW_RET || leaves(region, &region->insns[i]))
			paths->roles[i] |= PATHS_RETURN;
	return 0;
}

void paths_release(struct paths *paths)
{
	free(paths->roles);
	free(paths->seen);
	free(paths->todo);
	free(paths->pred_from);
	free(paths->preds);
	memset(paths, 0, sizeof(*paths));
}

static void visit(struct paths *paths, size_t i)
{
	if (paths->seen[i])
		return;
	paths->seen[i] = 1;
	paths->todo[paths->todo_count++] = i;
}

uint8_t paths_forward(struct paths *paths, uint8_t from, uint8_t stop)
{
	const struct region *region = paths->region;
	size_t next[2];
	uint8_t met = 0;

	memset(paths->seen, 0, region->insn_count);
	paths->todo_count = 0;
	if (!from)
		visit(paths, paths->entry);
	for (size_t i = 0; i < region->insn_count && from; i++)
		if (paths->roles[i] & from)
			for (size_t k = successors(paths, i, next); k > 0; k--)
				visit(paths, next[k - 1]);
	while (paths->todo_count) {
		size_t i = paths->todo[--paths->todo_count];

		met |= paths->roles[i];
		if (region->insns[i].flow == MC_FLOW_JMP_INDIRECT)
			met |= PATHS_UNKNOWN;
		if (paths->roles[i] & stop)
			continue;
		for (size_t k = successors(paths, i, next); k > 0; k--)
			visit(paths, next[k - 1]);
	}
	return met;
}

static void visit_preds(struct paths *paths, size_t i)
{
	for (size_t k = paths->pred_from[i]; k < paths->pred_from[i + 1]; k++)
		visit(paths, paths->preds[k]);
}

/* Nothing known leads there, yet it is code: an indirect jump must. */
static bool starts_nowhere(const struct paths *paths, size_t i)
{
	return i != paths->entry && paths->pred_from[i] == paths->pred_from[i + 1] &&
	       !is_padding(paths->region, &paths->region->insns[i]);
}

uint8_t paths_backward(struct paths *paths, uint8_t from, uint8_t stop)
{
	const struct region *region = paths->region;
	uint8_t met = 0;

	link_preds(paths); /* the roles that cut edges may have changed */
	memset(paths->seen, 0, region->insn_count);
	paths->todo_count = 0;
	if (!from)
		visit(paths, paths->entry);
	for (size_t i = 0; i < region->insn_count && from; i++)
		if (paths->roles[i] & from)
			visit_preds(paths, i);
	while (paths->todo_count) {
		size_t i = paths->todo[--paths->todo_count];

		met |= paths->roles[i];
		if (paths->roles[i] & stop)
			continue;
		if (region->marks[i] & REGION_INDIRECT || starts_nowhere(paths, i))
			met |= PATHS_UNKNOWN;
		visit_preds(paths, i);
	}
	return met;
}
