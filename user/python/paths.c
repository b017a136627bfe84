// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
#include "python/paths.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define PLT_BYTES 16

/* ret, as against what also stops (ud2, hlt, int3). */
static bool is_return(const struct region *region, const struct mc_insn *insn)
{
	const uint8_t *bytes = elf_at_vaddr(region->elf, insn->vaddr, insn->length);

	if (insn->flow != MC_FLOW_STOP || !bytes)
		return false;
	return bytes[0] == 0xc3 || bytes[0] == 0xc2 ||
	       (insn->length == 2 && bytes[0] == 0xf3 && bytes[1] == 0xc3);
}

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

/* Where a call goes: through a procedure linkage table entry to a function of this file, if it is
 * one. */
static uint64_t call_target(const struct region *region, uint64_t target)
{
	uint64_t vaddr = target, function;
	struct mc_insn insn;

	if (region_holds(region, target))
		return target;
	for (int i = 0; i < 2; i++) {
		const uint8_t *bytes = elf_at_vaddr(region->elf, vaddr, PLT_BYTES);

		if (!bytes || mc_decode(region->decoder, bytes, PLT_BYTES, vaddr, &insn))
			return target;
		if (insn.flow == MC_FLOW_JMP_INDIRECT && insn.mem && insn.base == MC_RIP)
			return elf_read_ptr(region->elf, vaddr + insn.length + (uint64_t)insn.disp,
					    &function)
				   ? target
				   : function;
		if (insn.op != MC_OP_ENDBR)
			return target;
		vaddr += insn.length;
	}
	return target;
}

static void mark_noreturn(struct paths *paths)
{
	static const char *const names[] = {"Py_FatalError", "_Py_FatalErrorFunc",
					    "_Py_FatalErrorFormat", "_Py_FatalError_TstateNULL"};
	const struct region *region = paths->region;
	uint64_t functions[sizeof(names) / sizeof(names[0])];
	struct elf_symbol symbol;
	size_t count = 0;

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (elf_symbol(region->elf, names[i], &symbol))
			functions[count++] = symbol.vaddr;
	for (size_t i = 0; i < region->insn_count; i++) {
		uint64_t target;

		if (region->insns[i].flow != MC_FLOW_CALL)
			continue;
		target = call_target(region, region->insns[i].target);
		for (size_t k = 0; k < count; k++)
			if (functions[k] == target)
				paths->roles[i] |= PATHS_NORETURN;
	}
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
	    insn->flow == MC_FLOW_STOP || paths->roles[i] & PATHS_NORETURN)
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
	mark_noreturn(paths);
	for (size_t i = 0; i < count; i++)
		if (is_return(region, &region->insns[i]) || leaves(region, &region->insns[i]))
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
