// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * The evaluation loop of a tail-calling interpreter (CPython 3.14 and later, built by clang with
 * --with-tail-call-interp), which is no loop: each opcode has a function of its own, and so has
 * each label of the loop (error, exit_unwind, start_frame ..). They end by a jump to the next one,
 * most through a table of 256 pointers. _PyEval_EvalFrameDefault() calls the first and is returned
 * to by the last.
 *
 * All of them together are a region as good as a loop's: the table's functions, what these jump to
 * the start of, and what _PyEval_EvalFrameDefault() calls that goes on through the table. Others
 * that call them, or name the table, are looked for in the whole file: _PyEval_EvalFrameDefault()
 * is so small that compilers put it into its callers.
 *
 * The opcodes' functions share a calling convention in which nearly all registers carry arguments
 * (preserve_none). Nothing is assumed of it here: flow.c follows the thread state from one function
 * to the next.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "python/region.h"
#include "python/scan.h"

#define LOOP_MIN_INSNS 3000 /* the smallest loop seen has 10 000 instructions */
#define FUNCTIONS_MIN  100  /* different ones in a table; 235 seen */
#define LIST_MAX       2048
#define TABLES_MAX     8
#define ROUNDS_MAX     16
#define CALL_LOOK_BACK 24 /* instructions from where a call's table is named to the call */
/* For hostile files: */
#define LOOKS_MAX      128       /* functions looked at before it is known that they belong here */
#define LOOK_MAX_BYTES 32768     /* of each */
#define READS_MAX      (1 << 20) /* entries of what might be a table */

struct list {
	uint64_t vaddrs[LIST_MAX];
	size_t count;
};

struct handlers {
	struct region *region;
	const struct py_finder *finder;
	uint64_t tables[TABLES_MAX];
	size_t table_count;
	struct list add; /* functions that the region lacks */
	bool dispatches; /* what was looked at names a table */
	bool want_parts;
	unsigned int looks, reads;
};

static bool starts_function(const struct handlers *h, uint64_t vaddr)
{
	const struct eh_range *range = eh_range_at(h->finder->eh, vaddr);

	return range && range->start == vaddr && !range->inside;
}

static int vaddr_compare(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

/* 256 pointers, all to the starts of functions, most to different ones. */
static bool is_table(struct handlers *h, uint64_t vaddr)
{
	uint64_t to[REGION_TABLE_ENTRIES];
	size_t different = 0;

	for (size_t i = 0; i < REGION_TABLE_ENTRIES; i++)
		if (h->reads++ > READS_MAX || elf_read_ptr(h->finder->elf, vaddr + 8 * i, &to[i]) ||
		    !starts_function(h, to[i]))
			return false;
	qsort(to, REGION_TABLE_ENTRIES, sizeof(to[0]), vaddr_compare);
	for (size_t i = 0; i < REGION_TABLE_ENTRIES; i++)
		different += !i || to[i] != to[i - 1];
	return different >= FUNCTIONS_MIN;
}

static int refuse(struct handlers *h, const char *text, uint64_t vaddr)
{
	snprintf(h->region->reason, sizeof(h->region->reason), text, (unsigned long long)vaddr);
	return -ENOTSUP;
}

static int list_add(struct handlers *h, uint64_t vaddr)
{
	struct list *list = &h->add;

	if (region_index(h->region, vaddr) != REGION_NONE)
		return 0;
	for (size_t i = 0; i < list->count; i++)
		if (list->vaddrs[i] == vaddr)
			return 0;
	if (list->count == LIST_MAX)
		return refuse(h, "implausibly many functions of opcodes", 0);
	list->vaddrs[list->count++] = vaddr;
	return 0;
}

/* Takes a table that the instruction names, and the functions in it. */
static int take_table(struct handlers *h, const struct mc_insn *insn)
{
	uint64_t table = region_data_named(h->region, insn), to;
	int ret = 0;

	if (!table || table & 7)
		return 0;
	for (size_t i = 0; i < h->table_count; i++)
		if (h->tables[i] == table) {
			h->dispatches = true;
			return 0;
		}
	if (!is_table(h, table))
		return 0;
	h->dispatches = true;
	if (h->table_count == TABLES_MAX)
		return refuse(h, "implausibly many opcode tables", 0);
	h->tables[h->table_count++] = table;
	for (size_t i = 0; i < REGION_TABLE_ENTRIES && !ret; i++)
		if (!elf_read_ptr(h->finder->elf, table + 8 * i, &to))
			ret = list_add(h, to);
	return ret;
}

static bool is_jump(const struct mc_insn *insn)
{
	return insn->flow == MC_FLOW_JMP || insn->flow == MC_FLOW_JCC;
}

static int see_insn(const struct mc_insn *insn, void *ctx)
{
	return take_table(ctx, insn);
}

/* Looks at a function outside of the region: does it go on through a table? A large one is no
 * function of an opcode. */
static int look(struct handlers *h, uint64_t vaddr)
{
	const struct eh_range *range = eh_range_at(h->finder->eh, vaddr);
	int ret;

	h->dispatches = false;
	if (range->end - range->start > LOOK_MAX_BYTES)
		return 0;
	if (h->looks++ == LOOKS_MAX)
		return refuse(h, "implausibly many functions to look at", 0);
	ret = region_each_insn(h->finder->elf, h->region->decoder, range, see_insn, h);
	return ret == -EILSEQ || ret == -ENOENT ? 0 : ret;
}

/* _PyEval_EvalFrameDefault(): the functions that it calls, or what it has taken in of them. */
static int look_at_entry(struct handlers *h)
{
	int ret = 0;

	for (size_t i = 0; i < h->region->insn_count && !ret; i++) {
		const struct mc_insn *insn = &h->region->insns[i];

		ret = take_table(h, insn);
		if (ret || insn->flow != MC_FLOW_CALL || !starts_function(h, insn->target))
			continue;
		ret = look(h, insn->target);
		if (!ret && h->dispatches)
			ret = list_add(h, insn->target);
	}
	return ret;
}

/* What the functions of the region jump to the start of, and name. */
static int look_at_functions(struct handlers *h, const struct eh_range *entry)
{
	int ret = 0;

	for (size_t i = 0; i < h->region->insn_count && !ret; i++) {
		const struct mc_insn *insn = &h->region->insns[i];

		if (insn->vaddr >= entry->start && insn->vaddr < entry->end)
			continue;
		ret = take_table(h, insn);
		if (!ret && is_jump(insn) && starts_function(h, insn->target))
			ret = list_add(h, insn->target);
	}
	return ret;
}

static int find_functions(struct handlers *h, const struct eh_range *entry)
{
	int ret = look_at_entry(h);

	if (!ret && !h->table_count)
		return refuse(h,
			      "a tail-calling interpreter (one function per opcode) whose opcode "
			      "table was not found",
			      0);
	for (int round = 0; !ret && h->add.count; round++) {
		if (round == ROUNDS_MAX)
			return refuse(h, "functions of opcodes lead on and on", 0);
		ret = region_add_whole(h->region, h->add.vaddrs, h->add.count);
		h->add.count = 0;
		if (!ret)
			ret = look_at_functions(h, entry);
	}
	return ret;
}

/* ---- which of them are the opcodes' ---- */

static bool is_in_table(const struct handlers *h, uint64_t vaddr)
{
	uint64_t to;

	for (size_t t = 0; t < h->table_count; t++)
		for (size_t i = 0; i < REGION_TABLE_ENTRIES; i++)
			if (!elf_read_ptr(h->finder->elf, h->tables[t] + 8 * i, &to) && to == vaddr)
				return true;
	return false;
}

/* Goes on through a table, or by a jump to another function of the region. */
static bool goes_on(struct handlers *h, const struct eh_range *range)
{
	const struct region *region = h->region;

	for (size_t i = region_index(region, range->start); i != REGION_NONE;
	     i = region_next(region, i)) {
		size_t to = is_jump(&region->insns[i])
				? region_index(region, region->insns[i].target)
				: REGION_NONE;

		h->dispatches = false;
		if (take_table(h, &region->insns[i]) || h->dispatches)
			return true;
		if (to != REGION_NONE && region->marks[to] & REGION_START)
			return true;
	}
	return false;
}

static int name_functions(struct handlers *h, uint64_t entry)
{
	struct region *region = h->region;

	region->functions = calloc(region->range_count, sizeof(*region->functions));
	if (!region->functions)
		return -ENOMEM;
	for (size_t r = 0; r < region->range_count; r++) {
		const struct eh_range *range = &region->ranges[r];

		if (range->start != entry && (is_in_table(h, range->start) || goes_on(h, range)))
			region->functions[region->function_count++] = range->start;
	}
	return 0;
}

static bool is_opcode_function(const struct region *region, uint64_t vaddr)
{
	return region->function_count && bsearch(&vaddr, region->functions, region->function_count,
						 sizeof(*region->functions), vaddr_compare);
}

/* Is what the call's base register holds a table? Set in a straight line before it. */
static bool calls_by_table(const struct region *region, size_t i)
{
	const struct mc_insn *call = &region->insns[i];

	if (call->flow != MC_FLOW_CALL_INDIRECT || !call->mem || call->scale != 8)
		return false;
	for (size_t t = 0; t < region->table_count && call->base == MC_NO_REG; t++)
		if ((uint64_t)call->disp == region->tables[t])
			return true;
	for (unsigned int n = 0; n < CALL_LOOK_BACK && call->base < MC_RIP; n++) {
		i = region_previous(region, i);
		if (i == REGION_NONE)
			return false;
		if (region->insns[i].writes >> call->base & 1)
			break;
	}
	for (size_t t = 0; t < region->table_count; t++)
		if (region_data_named(region, &region->insns[i]) == region->tables[t])
			return true;
	return false;
}

bool region_calls_opcode(const struct region *region, size_t i)
{
	if (!region->tail_calls)
		return false;
	if (region->insns[i].flow == MC_FLOW_CALL)
		return is_opcode_function(region, region->insns[i].target);
	return calls_by_table(region, i);
}

/* Through a table, or a register; a caller and a part of a function (in which something lies on the
 * stack) have other uses for the latter. */
bool region_may_dispatch(const struct region *region, size_t i)
{
	const struct mc_insn *jump = &region->insns[i];
	const struct eh_range *range = eh_range_at(region->eh, jump->vaddr);

	if (jump->mem)
		return jump->scale == 8;
	for (size_t c = 0; range && c < region->caller_count; c++)
		if (region->callers[c] == range->start)
			return false;
	return range && !range->inside;
}

/* ---- who else calls them ---- */

static int add_caller(struct handlers *h, uint64_t vaddr)
{
	const struct eh_range *range = eh_range_at(h->finder->eh, vaddr);

	/* Parts come with their functions. */
	if (!range || (range->inside && !h->want_parts) || region_holds(h->region, vaddr))
		return 0;
	return list_add(h, range->start);
}

static int see_call(uint64_t vaddr, uint64_t target, void *ctx)
{
	struct handlers *h = ctx;

	return is_opcode_function(h->region, target) ? add_caller(h, vaddr) : 0;
}

static int see_reference(uint64_t vaddr, uint64_t target, void *ctx)
{
	(void)target;
	return add_caller(ctx, vaddr);
}

/* Lists the callers that the region lacks. */
static int list_callers(struct handlers *h, bool want_parts)
{
	int ret;

	h->want_parts = want_parts;
	h->add.count = 0;
	ret = scan_calls(h->finder->elf, see_call, h);
	for (size_t i = 0; i < h->table_count && !ret; i++)
		ret = scan_references(h->finder->elf, h->tables[i], see_reference, h);
	return ret;
}

static int find_callers(struct handlers *h, uint64_t entry)
{
	struct region *region = h->region;
	int ret = list_callers(h, false);

	if (ret)
		return ret;
	region->callers = calloc(1 + h->add.count, sizeof(*region->callers));
	if (!region->callers)
		return -ENOMEM;
	region->caller_count = 1 + h->add.count;
	region->callers[0] = entry;
	memcpy(region->callers + 1, h->add.vaddrs, h->add.count * sizeof(*region->callers));
	ret = region_add_whole(region, h->add.vaddrs, h->add.count);
	if (!ret)
		ret = list_callers(h, true);
	if (!ret && h->add.count)
		return refuse(h,
			      "the code at %#llx calls functions of opcodes, and is a part of an "
			      "unknown function",
			      h->add.vaddrs[0]);
	return ret;
}

static int find_all(struct handlers *h, uint64_t entry)
{
	const struct eh_range range = *eh_range_at(h->finder->eh, entry);
	int ret = find_functions(h, &range);

	if (!ret)
		ret = name_functions(h, entry);
	return ret ? ret : find_callers(h, entry);
}

int region_load_loop(struct region *region, const struct py_finder *finder, uint64_t entry,
		     unsigned int minor)
{
	int ret = region_load(region, finder, entry);
	struct handlers *h;

	if (ret || minor < 14 || region->insn_count >= LOOP_MIN_INSNS)
		return ret;
	h = calloc(1, sizeof(*h));
	if (!h)
		return -ENOMEM;
	h->region = region;
	h->finder = finder;
	region->tail_calls = true;
	ret = find_all(h, entry);
	free(h);
	return ret;
}
