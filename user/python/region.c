// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
#include "python/region.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define REGION_MAX_BYTES (2u << 20) /* ten times the largest seen (a -Og build) */
#define RANGES_MAX       256
#define TABLE_ENTRIES    256 /* one for each value of an 8-bit opcode */
#define TABLE_MIN        200 /* of them must lead into the region; some lead to error handlers */
#define TABLES_MAX       8
#define SWITCH_MAX       512

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
			ret = to && to->start != insn->target ? range_add(region, to) : 0;
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

static int add_function(struct region *region, uint64_t entry, bool follow)
{
	const struct eh_range *range = eh_range_at(region->eh, entry);
	size_t before = region->range_count;
	int ret;

	if (!range || range->start != entry)
		return say_no(region, "no function starts at %#llx in .eh_frame", entry);
	ret = range_add(region, range);
	if (ret || region->range_count == before)
		return ret;
	ret = ranges_decode(region, before, follow);
	return ret ? ret : arrange(region);
}

int region_add_function(struct region *region, uint64_t entry)
{
	return add_function(region, entry, false);
}

int region_add_whole(struct region *region, uint64_t entry)
{
	return add_function(region, entry, true);
}

void region_release(struct region *region)
{
	mc_decoder_close(region->decoder);
	free(region->ranges);
	free(region->insns);
	free(region->marks);
	free(region->tables);
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

	for (unsigned int i = 0; i < TABLE_ENTRIES; i++) {
		good += region_table_entry(region, table, i) != REGION_NONE;
		if (i + 1 - good > TABLE_ENTRIES - TABLE_MIN)
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
	for (unsigned int i = 0; i < TABLE_ENTRIES; i++) {
		size_t to = region_table_entry(region, table, i);

		if (to != REGION_NONE)
			region->marks[to] |= REGION_INDIRECT;
	}
	return 0;
}

static bool overlaps_table(const struct region *region, uint64_t vaddr)
{
	for (size_t i = 0; i < region->table_count; i++)
		if (vaddr < region->tables[i] + 8 * TABLE_ENTRIES &&
		    region->tables[i] < vaddr + 8 * TABLE_ENTRIES)
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

/* A switch's table: 32-bit distances from the table to the cases. Nothing says how long it is; it
 * ends before the first entry that does not lead to an instruction of the region. */
static void switch_mark(struct region *region, uint64_t table)
{
	for (unsigned int i = 0; i < SWITCH_MAX; i++) {
		const void *raw = elf_at_vaddr(region->elf, table + 4ull * i, sizeof(int32_t));
		int32_t distance;
		size_t to;

		if (!raw)
			return;
		memcpy(&distance, raw, sizeof(distance));
		to = region_index(region, table + (uint64_t)(int64_t)distance);
		if (to == REGION_NONE)
			return;
		region->marks[to] |= REGION_INDIRECT;
	}
}

/* A short table of absolute pointers (a switch in a program that is not position independent). */
static void pointers_mark(struct region *region, uint64_t table)
{
	for (unsigned int i = 0; i < SWITCH_MAX; i++) {
		size_t to = region_table_entry(region, table, i);

		if (to == REGION_NONE)
			return;
		region->marks[to] |= REGION_INDIRECT;
	}
}

/* The address of data that an instruction names, or 0. */
static uint64_t data_named(const struct region *region, const struct mc_insn *insn)
{
	uint64_t vaddr = 0;

	if (insn->op == MC_OP_LEA && insn->mem && insn->base == MC_RIP && insn->index == MC_NO_REG)
		vaddr = insn->vaddr + insn->length + (uint64_t)insn->disp;
	else if (insn->mem && insn->base == MC_NO_REG && insn->scale == 8 && insn->disp > 0)
		vaddr = (uint64_t)insn->disp;
	else if (insn->op == MC_OP_MOV && !insn->mem && insn->has_imm)
		vaddr = (uint64_t)insn->imm;
	return vaddr && !(vaddr & 3) && elf_at_vaddr(region->elf, vaddr, 8) &&
		       !elf_is_code(region->elf, vaddr)
		   ? vaddr
		   : 0;
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
		named[count] = (struct named){data_named(region, &region->insns[i]), 1, 0};
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

/* Only calls before a place that is jumped to can be of that kind: what stands behind them would be
 * unreachable otherwise. That leaves few functions to look at. */
static int find_noreturn(struct region *region)
{
	uint64_t *seen = calloc(region->insn_count + 1, sizeof(*seen)); /* low bit: the answer */
	size_t count = 0;

	if (!seen)
		return -ENOMEM;
	for (size_t i = 0; i < region->insn_count; i++) {
		const struct mc_insn *insn = &region->insns[i];
		size_t next = region_next(region, i), k = 0;

		if (insn->flow != MC_FLOW_CALL ||
		    (next != REGION_NONE && !(region->marks[next] & ~REGION_NORETURN)))
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
		switch_mark(region, named[i].vaddr);
		pointers_mark(region, named[i].vaddr);
	}
	free(named);
	return ret ? ret : find_noreturn(region);
}
