// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
#include "python/region.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define REGION_MAX_BYTES (2u << 20) /* ten times the largest seen (a -Og build) */
#define RANGES_MAX       1024       /* 260 seen, in a tail-calling interpreter */
#define TABLE_MIN        200 /* of them must lead into the region; some lead to error handlers */
#define TABLES_MAX       8
#define SWITCH_MAX       512
#define SWITCH_STEPS     12 /* instructions from a switch's table to its jump; 5 seen */

static int say_no(struct region *region, const char *text, uint64_t vaddr)
{
	snprintf(region->reason, sizeof(region->reason), text, (unsigned long long)vaddr);
	return -ENOTSUP;
}

/* ---- looking up ---- */

size_t region_index(const struct region *region, uint64_t vaddr)
{
	size_t low = 0, high = region->insn_count;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (region->insns[mid].vaddr < vaddr)
			low = mid + 1;
		else
			high = mid;
	}
	return low < region->insn_count && region->insns[low].vaddr == vaddr ? low : REGION_NONE;
}

bool region_holds(const struct region *region, uint64_t vaddr)
{
	for (size_t i = 0; i < region->range_count; i++)
		if (vaddr >= region->ranges[i].start && vaddr < region->ranges[i].end)
			return true;
	return false;
}

bool region_leaves(const struct region *region, const struct mc_insn *insn)
{
	if (insn->flow == MC_FLOW_JMP_INDIRECT)
		return true;
	return (insn->flow == MC_FLOW_JMP || insn->flow == MC_FLOW_JCC) &&
	       !region_holds(region, insn->target);
}

bool region_goes_on(const struct region *region, size_t i)
{
	uint8_t flow = region->insns[i].flow;

	return flow != MC_FLOW_JMP && flow != MC_FLOW_JMP_INDIRECT && flow != MC_FLOW_RET &&
	       flow != MC_FLOW_STOP && !(region->marks[i] & REGION_NORETURN);
}

size_t region_next(const struct region *region, size_t i)
{
	if (i + 1 >= region->insn_count || (region->marks[i + 1] & REGION_START))
		return REGION_NONE;
	return i + 1;
}

size_t region_previous(const struct region *region, size_t i)
{
	return i && !(region->marks[i] & REGION_START) ? i - 1 : REGION_NONE;
}

size_t region_table_entry(const struct region *region, uint64_t table, unsigned int index)
{
	uint64_t value;

	if (elf_read_ptr(region->elf, table + 8ull * index, &value) || !region_holds(region, value))
		return REGION_NONE;
	return region_index(region, value);
}

/* ---- decoding ---- */

int region_each_insn(const struct elf_file *elf, struct mc_decoder *decoder,
		     const struct eh_range *range, int (*fn)(const struct mc_insn *insn, void *ctx),
		     void *ctx)
{
	uint64_t size = range->end - range->start;
	const uint8_t *bytes = elf_at_vaddr(elf, range->start, size);
	int ret = 0;

	if (!bytes)
		return -ENOENT;
	for (uint64_t at = 0; at < size && !ret;) {
		struct mc_insn insn;

		if (mc_decode(decoder, bytes + at, size - at, range->start + at, &insn))
			return -EILSEQ;
		ret = fn(&insn, ctx);
		at += insn.length;
	}
	return ret;
}

struct collector {
	struct region *region;
	size_t room;
};

static int collect(const struct mc_insn *insn, void *ctx)
{
	struct collector *collector = ctx;
	struct region *region = collector->region;

	if (region->insn_count == collector->room) {
		size_t more = collector->room ? collector->room * 2 : 16384;
		struct mc_insn *bigger = realloc(region->insns, more * sizeof(*bigger));

		if (!bigger)
			return -ENOMEM;
		region->insns = bigger;
		collector->room = more;
	}
	region->insns[region->insn_count++] = *insn;
	return 0;
}

static int range_add(struct region *region, const struct eh_range *range)
{
	uint64_t total = range->end - range->start;
	struct eh_range *bigger;

	for (size_t i = 0; i < region->range_count; i++) {
		const struct eh_range *known = &region->ranges[i];

		if (range->start == known->start)
			return 0;
		if (range->start < known->end && known->start < range->end)
			return say_no(region, "overlapping function ranges at %#llx", range->start);
		total += known->end - known->start;
	}
	if (total > REGION_MAX_BYTES || region->range_count >= RANGES_MAX)
		return say_no(region, "the function at %#llx is implausibly large", range->start);
	bigger = realloc(region->ranges, (region->range_count + 1) * sizeof(*bigger));
	if (!bigger)
		return -ENOMEM;
	region->ranges = bigger;
	region->ranges[region->range_count++] = *range;
	return 0;
}

/* Decodes ranges[first..], adding the ranges that their jumps lead into the middle of. */
static int ranges_decode(struct region *region, size_t first, bool follow)
{
	struct collector collector = {region, region->insn_count};

	for (size_t r = first; r < region->range_count; r++) {
		struct eh_range range = region->ranges[r];
		size_t from = region->insn_count;
		int ret = region_each_insn(region->elf, region->decoder, &range, collect,
					   &collector);

		if (ret == -ENOMEM)
			return ret;
		if (ret)
			return say_no(region, "code at %#llx cannot be decoded", range.start);
		for (size_t i = from; follow && i < region->insn_count; i++) {
			const struct mc_insn *insn = &region->insns[i];
			const struct eh_range *to;

			if (insn->flow != MC_FLOW_JCC && insn->flow != MC_FLOW_JMP)
				continue;
			if (insn->target >= range.start && insn->target < range.end)
				continue;
			to = eh_range_at(region->eh, insn->target);
			ret = to && (to->start != insn->target || to->inside)
				  ? range_add(region, to)
				  : 0;
			if (ret)
				return ret;
		}
	}
	return 0;
}

static int insn_compare(const void *a, const void *b)
{
	const struct mc_insn *x = a, *y = b;

	return x->vaddr < y->vaddr ? -1 : x->vaddr > y->vaddr;
}

static int range_compare(const void *a, const void *b)
{
	const struct eh_range *x = a, *y = b;

	return x->start < y->start ? -1 : x->start > y->start;
}

static void sort_all(struct region *region)
{
	qsort(region->ranges, region->range_count, sizeof(*region->ranges), range_compare);
	for (size_t i = 1; i < region->insn_count; i++)
		if (region->insns[i - 1].vaddr > region->insns[i].vaddr) {
			qsort(region->insns, region->insn_count, sizeof(*region->insns),
			      insn_compare);
			return;
		}
}

/* Puts everything in order and marks where jumps land; says no if one lands inside an instruction.
 */
static int arrange(struct region *region)
{
	uint8_t *marks;

	sort_all(region);
	marks = realloc(region->marks, region->insn_count + 1);
	if (!marks)
		return -ENOMEM;
	region->marks = marks;
	memset(marks, 0, region->insn_count + 1);
	for (size_t r = 0; r < region->range_count; r++)
		marks[region_index(region, region->ranges[r].start)] |= REGION_START;
	for (size_t i = 0; i < region->insn_count; i++) {
		const struct mc_insn *insn = &region->insns[i];
		size_t to;

		if (insn->flow != MC_FLOW_JCC && insn->flow != MC_FLOW_JMP)
			continue;
		to = region_index(region, insn->target);
		if (to != REGION_NONE)
			marks[to] |= REGION_TARGET;
		else if (region_holds(region, insn->target))
			return say_no(region, "a jump to %#llx lands inside an instruction",
				      insn->target);
	}
	return 0;
}

int region_load(struct region *region, const struct py_finder *finder, uint64_t entry)
{
	const struct eh_range *range = eh_range_at(finder->eh, entry);
	int ret;

	memset(region, 0, sizeof(*region));
	region->elf = finder->elf;
	region->eh = finder->eh;
	if (!range || range->start != entry)
		return say_no(region, "no function starts at %#llx in .eh_frame", entry);
	ret = mc_decoder_open(&region->decoder);
	if (!ret)
		ret = range_add(region, range);
	if (!ret)
		ret = ranges_decode(region, 0, true);
	return ret ? ret : arrange(region);
}

static int add_functions(struct region *region, const uint64_t *entries, size_t count, bool follow)
{
	size_t before = region->range_count;
	int ret = 0;

	for (size_t i = 0; i < count && !ret; i++) {
		const struct eh_range *range = eh_range_at(region->eh, entries[i]);

		if (!range || range->start != entries[i])
			return say_no(region, "no function starts at %#llx in .eh_frame",
				      entries[i]);
		ret = range_add(region, range);
	}
	if (ret || region->range_count == before)
		return ret;
	ret = ranges_decode(region, before, follow);
	return ret ? ret : arrange(region);
}

int region_add_function(struct region *region, uint64_t entry)
{
	return add_functions(region, &entry, 1, false);
}

int region_add_whole(struct region *region, const uint64_t *entries, size_t count)
{
	return add_functions(region, entries, count, true);
}

void region_release(struct region *region)
{
	mc_decoder_close(region->decoder);
	free(region->ranges);
	free(region->insns);
	free(region->marks);
	free(region->tables);
	free(region->functions);
	free(region->callers);
	memset(region, 0, sizeof(*region));
}

/* ---- tables ---- */

/* An address that the code names, and how often: the dispatch at each opcode's end names the opcode
 * table, while a short table in front of it is named once. */
struct named {
	uint64_t vaddr;
	unsigned int count;
	unsigned int good; /* entries that lead into the region, if it is an opcode table; else 0 */
};

static unsigned int opcode_entries(const struct region *region, uint64_t table)
{
	unsigned int good = 0;

	for (unsigned int i = 0; i < REGION_TABLE_ENTRIES; i++) {
		good += region_table_entry(region, table, i) != REGION_NONE;
		if (i + 1 - good > REGION_TABLE_ENTRIES - TABLE_MIN)
			return 0;
	}
	return good;
}

static int table_add(struct region *region, uint64_t table)
{
	uint64_t *bigger = realloc(region->tables, (region->table_count + 1) * sizeof(*bigger));

	if (!bigger)
		return -ENOMEM;
	region->tables = bigger;
	region->tables[region->table_count++] = table;
	for (unsigned int i = 0; i < REGION_TABLE_ENTRIES; i++) {
		size_t to = region_table_entry(region, table, i);

		if (to != REGION_NONE)
			region->marks[to] |= REGION_INDIRECT;
	}
	return 0;
}

static bool overlaps_table(const struct region *region, uint64_t vaddr)
{
	for (size_t i = 0; i < region->table_count; i++)
		if (vaddr < region->tables[i] + 8 * REGION_TABLE_ENTRIES &&
		    region->tables[i] < vaddr + 8 * REGION_TABLE_ENTRIES)
			return true;
	return false;
}

/* Takes the best candidate that does not overlap one already taken, until none is left. */
static int tables_choose(struct region *region, const struct named *named, size_t count)
{
	region->table_count = 0;
	while (region->table_count < TABLES_MAX) {
		const struct named *best = NULL;
		int ret;

		for (size_t i = 0; i < count; i++) {
			if (!named[i].good || overlaps_table(region, named[i].vaddr))
				continue;
			if (!best || named[i].count > best->count ||
			    (named[i].count == best->count && named[i].good > best->good))
				best = &named[i];
		}
		if (!best)
			return 0;
		ret = table_add(region, best->vaddr);
		if (ret)
			return ret;
	}
	return 0;
}

uint64_t region_data_named(const struct region *region, const struct mc_insn *insn)
{
	uint64_t vaddr = 0;

	if (insn->flow == MC_FLOW_CALL_INDIRECT)
		return 0; /* a table of functions */
	if (insn->op == MC_OP_LEA && insn->mem && insn->base == MC_RIP && insn->index == MC_NO_REG)
		vaddr = insn->vaddr + insn->length + (uint64_t)insn->disp;
	else if (insn->mem && insn->base == MC_NO_REG && insn->scale == 8 && insn->disp > 0)
		vaddr = (uint64_t)insn->disp;
	else if (insn->op == MC_OP_MOV && !insn->mem && insn->has_imm)
		vaddr = (uint64_t)insn->imm;
	/* (BOLT puts tables into the segment that has the code.) */
	return vaddr && !(vaddr & 3) && elf_at_vaddr(region->elf, vaddr, 8) &&
		       !region_holds(region, vaddr)
		   ? vaddr
		   : 0;
}

/* A switch's table: 32-bit distances from the table to the cases; or absolute pointers, in a
 * program that is not position independent. Nothing says how long it is; it ends before the first
 * entry that does not lead to an instruction of the region. */
size_t region_switch_entry(const struct region *region, const struct region_switch *by,
			   unsigned int index)
{
	const void *raw;
	int32_t distance;

	if (index >= SWITCH_MAX)
		return REGION_NONE;
	if (by->pointers)
		return region_table_entry(region, by->table, index);
	raw = elf_at_vaddr(region->elf, by->table + 4ull * index, sizeof(distance));
	if (!raw)
		return REGION_NONE;
	memcpy(&distance, raw, sizeof(distance));
	return region_index(region, by->table + (uint64_t)(int64_t)distance);
}

static void switch_mark(struct region *region, uint64_t table, bool pointers)
{
	const struct region_switch by = {table, pointers};
	size_t to;

	for (unsigned int i = 0; (to = region_switch_entry(region, &by, i)) != REGION_NONE; i++)
		region->marks[to] |= REGION_INDIRECT;
}

/* "lea base, [rip + table]; movsxd reg, [base + 4 * x]; add reg, base; jmp reg", with others in
 * between: which of them instruction i is, seen from the jump backwards. false: it is none, and
 * changes what matters. */
struct switch_walk {
	unsigned int target; /* register that is jumped to */
	unsigned int other;  /* the one that is added to it, once seen */
	unsigned int base;   /* that which has the table's address, once seen */
	uint64_t table;
};

static bool switch_step(struct switch_walk *w, const struct region *region, size_t i)
{
	const struct mc_insn *insn = &region->insns[i];
	unsigned int writes = insn->writes;

	if (w->base != MC_NO_REG) {
		if (insn->op == MC_OP_LEA && insn->reg[0] == w->base && insn->base == MC_RIP)
			w->table = region_data_named(region, insn);
		return w->table || !(writes >> w->base & 1);
	}
	if (w->other == MC_NO_REG) {
		if (insn->op == MC_OP_ADD && !insn->mem && insn->reg[0] == w->target &&
		    insn->reg[1] < MC_RIP && insn->reg_bytes == 8)
			w->other = insn->reg[1];
		return w->other != MC_NO_REG || !(writes >> w->target & 1);
	}
	if (insn->op == MC_OP_MOVSXD && insn->mem == 2 && insn->scale == 4 && !insn->disp &&
	    insn->index < MC_RIP &&
	    ((insn->reg[0] == w->target && insn->base == w->other) ||
	     (insn->reg[0] == w->other && insn->base == w->target))) {
		w->base = insn->base;
		return true;
	}
	return !((writes >> w->target | writes >> w->other) & 1);
}

static uint64_t switch_of_distances(const struct region *region, size_t jump)
{
	struct switch_walk w = {region->insns[jump].reg[0], MC_NO_REG, MC_NO_REG, 0};
	size_t i = jump;

	for (unsigned int n = 0; n < SWITCH_STEPS && !w.table && w.target < MC_RIP; n++) {
		if (region->marks[i] & (REGION_TARGET | REGION_INDIRECT | REGION_START))
			return 0; /* it may come from elsewhere, with another table */
		i = region_previous(region, i);
		if (i == REGION_NONE || region->insns[i].flow != MC_FLOW_NEXT ||
		    !switch_step(&w, region, i))
			return 0;
	}
	return w.table;
}

struct region_switch region_switch_at(const struct region *region, size_t jump)
{
	const struct mc_insn *insn = &region->insns[jump];
	struct region_switch by = {0};

	if (insn->flow != MC_FLOW_JMP_INDIRECT)
		return by;
	by.pointers = insn->mem;
	by.table = by.pointers ? region_data_named(region, insn)
			       : switch_of_distances(region, jump);
	for (size_t t = 0; t < region->table_count; t++)
		if (by.table >= region->tables[t] &&
		    by.table < region->tables[t] + 8 * REGION_TABLE_ENTRIES)
			by.table = 0;
	return by;
}

static int named_compare(const void *a, const void *b)
{
	const struct named *x = a, *y = b;

	return x->vaddr < y->vaddr ? -1 : x->vaddr > y->vaddr;
}

/* All addresses of data that the region names, each once, in order. */
static size_t names_collect(const struct region *region, struct named *named)
{
	size_t count = 0, kept = 0;

	for (size_t i = 0; i < region->insn_count; i++) {
		named[count] = (struct named){region_data_named(region, &region->insns[i]), 1, 0};
		count += named[count].vaddr != 0;
	}
	qsort(named, count, sizeof(*named), named_compare);
	for (size_t i = 0; i < count; i++) {
		if (kept && named[kept - 1].vaddr == named[i].vaddr)
			named[kept - 1].count++;
		else
			named[kept++] = named[i];
	}
	return kept;
}

/* Is what stands behind a call only there because it is jumped to? BOLT, which does not know of
 * functions that do not return, puts a jump behind their calls. */
static bool may_end_path(const struct region *region, size_t call)
{
	size_t next = region_next(region, call);

	return next == REGION_NONE || region->marks[next] & ~REGION_NORETURN ||
	       region->insns[next].flow == MC_FLOW_JMP;
}

/* Only such calls can be of that kind: what stands behind them would be unreachable otherwise. That
 * leaves few functions to look at. */
static int find_noreturn(struct region *region)
{
	uint64_t *seen = calloc(region->insn_count + 1, sizeof(*seen)); /* low bit: the answer */
	size_t count = 0;

	if (!seen)
		return -ENOMEM;
	for (size_t i = 0; i < region->insn_count; i++) {
		const struct mc_insn *insn = &region->insns[i];
		size_t k = 0;

		if (insn->flow != MC_FLOW_CALL || !may_end_path(region, i))
			continue;
		while (k < count && seen[k] >> 1 != insn->target)
			k++;
		if (k == count)
			seen[count++] = insn->target << 1 |
					function_never_returns(region->elf, region->eh,
							       region->decoder, insn->target);
		if (seen[k] & 1)
			region->marks[i] |= REGION_NORETURN;
	}
	free(seen);
	return 0;
}

int region_find_tables(struct region *region)
{
	struct named *named = calloc(region->insn_count + 1, sizeof(*named));
	size_t count;
	int ret;

	if (!named)
		return -ENOMEM;
	count = names_collect(region, named);
	for (size_t i = 0; i < count; i++)
		if (!(named[i].vaddr & 7))
			named[i].good = opcode_entries(region, named[i].vaddr);
	ret = tables_choose(region, named, count);
	for (size_t i = 0; i < count; i++) {
		switch_mark(region, named[i].vaddr, false);
		switch_mark(region, named[i].vaddr, true);
	}
	free(named);
	return ret ? ret : find_noreturn(region);
}
