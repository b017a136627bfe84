// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
#include "python/counter.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define LOOK_BACK    40 /* instructions between the arithmetic and the store: at most 12 seen */
#define LOOK_AHEAD   40 /* instructions inside a bracket: at most 17 seen */
#define COUNTERS_MAX 256

/* ---- the offset ---- */

struct limit_stores {
	struct {
		uint8_t base;
		int64_t disp;
	} seen[32];
	size_t count;
};

static int limit_store(const struct mc_insn *insn, void *ctx)
{
	struct limit_stores *stores = ctx;

	if ((insn->op != MC_OP_MOV && insn->op != MC_OP_ADD) || insn->mem != 1 ||
	    insn->mem_bytes != 4 || insn->base >= MC_RIP || insn->base == MC_RSP ||
	    insn->index != MC_NO_REG || insn->reg[1] >= MC_RIP)
		return 0;
	if (stores->count < sizeof(stores->seen) / sizeof(stores->seen[0])) {
		stores->seen[stores->count].base = insn->base;
		stores->seen[stores->count++].disp = insn->disp;
	}
	return 0;
}

int counter_offset(const struct elf_file *elf, const struct eh_ranges *eh, uint16_t *offset)
{
	struct limit_stores stores = {.count = 0};
	const struct eh_range *range;
	struct mc_decoder *decoder;
	struct elf_symbol symbol;
	int ret;

	if (!elf_symbol(elf, "Py_SetRecursionLimit", &symbol))
		return -ENOENT;
	range = eh_range_at(eh, symbol.vaddr);
	if (!range || range->start != symbol.vaddr || range->end - range->start > 4096)
		return -ENOENT;
	ret = mc_decoder_open(&decoder);
	if (ret)
		return ret;
	ret = region_each_insn(elf, decoder, range, limit_store, &stores);
	mc_decoder_close(decoder);
	if (ret)
		return -ENOENT;
	for (size_t i = 0; i < stores.count; i++)
		for (size_t k = 0; k < stores.count; k++)
			if (stores.seen[i].base == stores.seen[k].base &&
			    stores.seen[i].disp + 4 == stores.seen[k].disp &&
			    stores.seen[i].disp > 0 && stores.seen[i].disp < 4096) {
				*offset = (uint16_t)stores.seen[i].disp;
				return 0;
			}
	return -ENOENT;
}

/* ---- the sites ---- */

/* A frame more or less, or two: a call of a class with a Python __init__ opens a hidden frame below
 * the one of __init__ (3.13+). */
static int counts(int64_t by)
{
	return by == 1 || by == -1 || by == -2 ? (int)by : 0;
}

/* What adding or subtracting that much to a counter means; 0: it is no counting. */
static int step_of(uint8_t op, bool has_imm, int64_t imm)
{
	int64_t by = (int32_t)imm;

	if (op == MC_OP_INC)
		return 1;
	if (op == MC_OP_DEC)
		return -1;
	if (!has_imm)
		return 0;
	if (op == MC_OP_SUB)
		by = -by;
	else if (op != MC_OP_ADD)
		return 0;
	return counts(by);
}

static bool is_memory_step(const struct mc_insn *insn)
{
	return step_of(insn->op, insn->has_imm, insn->imm) != 0;
}

bool counter_matches(const struct mc_insn *insn, uint16_t offset)
{
	if (insn->mem != 1 || insn->mem_bytes != 4 || insn->disp != offset ||
	    insn->base >= MC_RIP || insn->base == MC_RSP || insn->index != MC_NO_REG)
		return false;
	if (insn->op == MC_OP_MOV)
		return insn->reg[1] < MC_RIP;
	return is_memory_step(insn);
}

/* What one path says of the register that is stored. */
enum { PATH_UNKNOWN = 100, PATH_SAME = 0 }; /* else the difference */

struct direction_search {
	const struct region *region;
	uint8_t reg, base;
	uint16_t offset;
	unsigned int steps;
};

/* What the last instruction that wrote the register made of the counter's value. */
static int made_by(const struct direction_search *search, const struct mc_insn *insn)
{
	int by;

	if (insn->reg[0] != search->reg)
		return PATH_UNKNOWN;
	if (insn->op == MC_OP_MOV && insn->mem == 2)
		return insn->base == search->base && insn->disp == search->offset ? PATH_SAME
										  : PATH_UNKNOWN;
	if (insn->op == MC_OP_LEA)
		by = insn->index == MC_NO_REG ? counts(insn->disp) : 0;
	else
		by = insn->mem ? 0 : step_of(insn->op, insn->has_imm, insn->imm);
	return by ? by : PATH_UNKNOWN;
}

/*
 * Paths that meet must agree. One that stores what it loaded agrees with any: where a check for too
 * deep a recursion failed, the compiler folds the correction into the exit that follows.
 */
static int agree(int a, int b)
{
	if (a == PATH_UNKNOWN || b == PATH_UNKNOWN)
		return PATH_UNKNOWN;
	if (a == PATH_SAME || b == PATH_SAME)
		return a + b;
	return a == b ? a : PATH_UNKNOWN;
}

static int direction_at(struct direction_search *search, size_t i, unsigned int depth);

/* Over all ways to come to instruction i. */
static int direction_before(struct direction_search *search, size_t i, unsigned int depth)
{
	const struct region *region = search->region;
	size_t before = region_previous(region, i);
	int found = PATH_SAME;

	if ((region->marks[i] & REGION_INDIRECT) || depth > 4)
		return PATH_UNKNOWN;
	for (size_t k = 0; (region->marks[i] & REGION_TARGET) && k < region->insn_count; k++) {
		const struct mc_insn *insn = &region->insns[k];

		if ((insn->flow == MC_FLOW_JCC || insn->flow == MC_FLOW_JMP) &&
		    insn->target == region->insns[i].vaddr && found != PATH_UNKNOWN)
			found = agree(found, direction_at(search, k, depth + 1));
	}
	if (before == REGION_NONE)
		return found;
	if (region->insns[before].flow == MC_FLOW_NEXT || region->insns[before].flow == MC_FLOW_JCC)
		return agree(found, direction_at(search, before, depth));
	if (region->insns[before].flow == MC_FLOW_CALL ||
	    region->insns[before].flow == MC_FLOW_CALL_INDIRECT)
		return PATH_UNKNOWN;
	return found;
}

/* After instruction i has run. */
static int direction_at(struct direction_search *search, size_t i, unsigned int depth)
{
	if (search->steps++ > 4 * LOOK_BACK)
		return PATH_UNKNOWN;
	if (search->region->insns[i].writes >> search->reg & 1)
		return made_by(search, &search->region->insns[i]);
	return direction_before(search, i, depth);
}

/* The direction of "mov [counter], reg": the arithmetic that made reg. 0: not known, as several
 * paths share the store. */
static int mov_direction(const struct region *region, size_t i, uint16_t offset)
{
	const struct mc_insn *insn = &region->insns[i];
	struct direction_search search = {region, insn->reg[1], insn->base, offset, 0};
	int found = direction_before(&search, i, 0);

	return found == PATH_UNKNOWN ? 0 : found;
}

/* An unproven base: another structure's field may lie at the same offset. It is one if a register
 * is stored there that was not loaded from there. */
static bool is_foreign(const struct region *region, size_t i, uint16_t offset)
{
	const struct mc_insn *store = &region->insns[i];

	if (store->op != MC_OP_MOV)
		return false;
	for (unsigned int n = 0; n < LOOK_BACK; n++) {
		const struct mc_insn *insn;

		i = region_previous(region, i);
		if (i == REGION_NONE)
			break;
		insn = &region->insns[i];
		if (insn->op == MC_OP_MOV && insn->mem == 2 && insn->mem_bytes == 4 &&
		    insn->base == store->base && insn->disp == offset)
			return false;
	}
	return true;
}

static int counter_add(struct counters *counters, const struct counter *counter)
{
	struct counter *bigger;

	if (counters->count >= COUNTERS_MAX)
		return -E2BIG;
	bigger = realloc(counters->items, (counters->count + 1) * sizeof(*bigger));
	if (!bigger)
		return -ENOMEM;
	counters->items = bigger;
	counters->items[counters->count++] = *counter;
	return 0;
}

int counters_find(struct counters *counters, const struct region *region, const struct flow *flow,
		  uint16_t offset, uint64_t *vaddr)
{
	memset(counters, 0, sizeof(*counters));
	for (size_t i = 0; i < region->insn_count; i++) {
		const struct mc_insn *insn = &region->insns[i];
		struct counter counter = {.insn = i, .base = insn->base};
		int ret;

		if (!counter_matches(insn, offset))
			continue;
		if (!flow_proves(flow, i, insn->base)) {
			if (!flow->states[i].reached || is_foreign(region, i, offset))
				continue;
			*vaddr = insn->vaddr;
			return -ENOTSUP;
		}
		counter.delta = insn->op == MC_OP_MOV ? mov_direction(region, i, offset)
						      : step_of(insn->op, insn->has_imm, insn->imm);
		ret = counter_add(counters, &counter);
		if (ret)
			return ret;
	}
	return 0;
}

void counters_release(struct counters *counters)
{
	free(counters->items);
	memset(counters, 0, sizeof(*counters));
}

static struct counter *find(const struct counters *counters, size_t insn)
{
	for (size_t i = 0; i < counters->count; i++)
		if (counters->items[i].insn == insn)
			return &counters->items[i];
	return NULL;
}

const struct counter *counter_at(const struct counters *counters, size_t insn)
{
	return find(counters, insn);
}

/* ---- 3.11: brackets ---- */

/* _Py_EnterRecursiveCallTstate() failed: "call _Py_CheckRecursiveCall; test eax, eax; jcc" and then
 * start_frame takes 1 again (ceval.c of 3.11), because the check has given it back. */
static bool is_after_check(const struct region *region, size_t i)
{
	size_t jcc = region_previous(region, i), test, call;

	if (jcc == REGION_NONE || region->insns[jcc].flow != MC_FLOW_JCC)
		return false;
	test = region_previous(region, jcc);
	if (test == REGION_NONE || region->insns[test].op != MC_OP_TEST ||
	    region->insns[test].reg[0] != MC_RAX || region->insns[test].reg[1] != MC_RAX)
		return false;
	call = region_previous(region, test);
	return call != REGION_NONE && region->insns[call].flow == MC_FLOW_CALL;
}

/* The first counter in straight line from instruction i on, if it gives back what was taken, behind
 * a call and not shared with paths that come from elsewhere. */
static struct counter *closing(const struct counters *counters, const struct region *region,
			       size_t i, uint8_t base)
{
	bool called = false, shared = false;

	for (unsigned int n = 0; n < LOOK_AHEAD && i != REGION_NONE; n++) {
		const struct mc_insn *insn = &region->insns[i];
		struct counter *counter = find(counters, i);

		shared |= (region->marks[i] & (REGION_TARGET | REGION_INDIRECT)) != 0;
		if (counter)
			return counter->delta == 1 && counter->base == base && called && !shared
				   ? counter
				   : NULL;
		if (insn->flow == MC_FLOW_CALL || insn->flow == MC_FLOW_CALL_INDIRECT) {
			called = true;
			shared = false;
		} else if (insn->flow != MC_FLOW_NEXT && insn->flow != MC_FLOW_JCC) {
			return NULL;
		}
		i = region_next(region, i);
	}
	return NULL;
}

/* The next conditional jump within so many instructions, with no call on the way. Unconditional
 * jumps are followed: several decrements may share the check behind them. */
static size_t next_jcc(const struct region *region, size_t i, unsigned int within)
{
	for (unsigned int n = 0; n < within; n++) {
		const struct mc_insn *insn = &region->insns[i];

		i = insn->flow == MC_FLOW_JMP ? region_index(region, insn->target)
					      : region_next(region, i);
		if (i == REGION_NONE || region->insns[i].flow == MC_FLOW_JCC)
			return i;
		if (region->insns[i].flow != MC_FLOW_NEXT && region->insns[i].flow != MC_FLOW_JMP)
			break;
	}
	return REGION_NONE;
}

/* x86 condition codes, Intel SDM volume 1, appendix B. */
enum { CC_E = 4, CC_NE = 5, CC_S = 8, CC_NS = 9, CC_L = 12, CC_GE = 13, CC_LE = 14, CC_G = 15 };

/* Below the limit _Py_CheckRecursiveCall() lets 50 more frames run while an error is being handled
 * (Python/ceval.c, 3.11 to 3.15); where it is inlined, the comparison gives it away. */
#define HEADROOM_LIMIT (-50)

static bool is_headroom_compare(const struct mc_insn *insn)
{
	return insn->op == MC_OP_CMP && !insn->mem && insn->has_imm &&
	       (int32_t)insn->imm == HEADROOM_LIMIT;
}

/*
 * The branch that says how the check ended, on the way that starts at instruction i:
 *   call _Py_CheckRecursiveCall; test eax, eax; je passed (or jne failed)
 *   cmp remaining, -50; jge passed (or jl failed)
 */
size_t counter_check_result(const struct region *region, size_t i, bool *taken)
{
	for (unsigned int n = 0; n < 12 && i != REGION_NONE; n++) {
		const struct mc_insn *insn = &region->insns[i];

		if (insn->flow == MC_FLOW_CALL || is_headroom_compare(insn)) {
			size_t jcc = next_jcc(region, i, 8);
			uint8_t cc = jcc == REGION_NONE ? 0 : region->insns[jcc].cc;

			*taken = cc == CC_E || cc == CC_GE;
			if (insn->flow == MC_FLOW_CALL ? cc == CC_E || cc == CC_NE
						       : cc == CC_GE || cc == CC_L)
				return jcc;
			return REGION_NONE;
		}
		if (insn->flow == MC_FLOW_JMP)
			i = region_index(region, insn->target);
		else if (insn->flow == MC_FLOW_NEXT || insn->flow == MC_FLOW_JCC)
			i = region_next(region, i);
		else
			break;
	}
	return REGION_NONE;
}

bool counter_check_find(struct counter_check *check, const struct region *region, size_t insn)
{
	size_t slow;

	*check = (struct counter_check){next_jcc(region, insn, 4), REGION_NONE, false, false};
	if (check->branch == REGION_NONE)
		return false;
	switch (region->insns[check->branch].cc) {
	case CC_LE:
	case CC_L:
	case CC_S:
		slow = region_index(region, region->insns[check->branch].target);
		break;
	case CC_G:
	case CC_GE:
	case CC_NS:
		slow = region_next(region, check->branch);
		check->branch_taken = true;
		break;
	default:
		return false;
	}
	check->passed = counter_check_result(region, slow, &check->passed_taken);
	return true;
}

size_t counter_checks_find(struct counter_check checks[2], const struct region *region, size_t insn)
{
	size_t jcc, ways[2], count = 0;

	if (counter_check_find(&checks[0], region, insn))
		return 1;
	jcc = next_jcc(region, insn, 4);
	if (jcc == REGION_NONE)
		return 0;
	ways[0] = region_next(region, jcc);
	ways[1] = region_index(region, region->insns[jcc].target);
	for (int w = 0; w < 2; w++) {
		/* the first instruction of a way cannot be the branch: the flags are test's */
		if (ways[w] == REGION_NONE || !counter_check_find(&checks[count], region, ways[w]))
			return 0;
		count++;
	}
	return count;
}

/* Where a branch goes. */
static size_t way(const struct region *region, size_t branch, bool taken)
{
	if (branch == REGION_NONE)
		return REGION_NONE;
	return taken ? region_index(region, region->insns[branch].target)
		     : region_next(region, branch);
}

void counters_drop_corrections(struct counters *counters, const struct region *region)
{
	for (size_t i = 0; i < counters->count; i++)
		if (counters->items[i].delta < 0 && is_after_check(region, counters->items[i].insn))
			counters->items[i].dropped = true;
}

void counters_drop_brackets(struct counters *counters, const struct region *region)
{
	for (size_t i = 0; i < counters->count; i++) {
		struct counter *open = &counters->items[i];
		struct counter *close;
		struct counter_check check;
		size_t enough = region_next(region, open->insn);

		if (open->delta > 0 || open->dropped)
			continue;
		if (counter_check_find(&check, region, open->insn))
			enough = way(region, check.branch, check.branch_taken);
		close = closing(counters, region, enough, open->base);
		if (!close)
			continue;
		open->dropped = close->dropped = true;
		/* The way through the check may have a copy of the call and its closing. */
		close = closing(counters, region, way(region, check.passed, check.passed_taken),
				open->base);
		if (close)
			close->dropped = true;
	}
}
