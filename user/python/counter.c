// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
#include "python/counter.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "python/stored.h"

#define LOOK_BACK      40 /* instructions between the arithmetic and the store: at most 12 seen */
#define LOOK_AHEAD     40 /* instructions inside a bracket: at most 17 seen */
#define COUNTERS_MAX   256
#define SLOW_TODO_MAX  16
/* From a branch of the slow way to where it goes on if the check passed: 3 seen (3.11, clang) */
#define SLOW_PASS_MAX  8
/* From a correction to the exit that it is folded into: 2 seen */
#define GIVEN_BACK_MAX 8

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

/* What a store of a register means for the counter. */
static void store_understand(struct counter *counter, const struct region *region,
			     const struct flow *flow, uint16_t offset)
{
	int32_t by = 0;
	enum stored stored = stored_find(region, flow, counter->insn, offset, &by);

	counter->limit = counter->dropped = stored == STORED_LIMIT;
	if (counter->limit)
		return;
	counter->delta = stored == STORED_COUNTS ? counts(by) : 0;
	if (!counter->delta)
		counter->delta = mov_direction(region, counter->insn, offset);
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
		if (insn->op == MC_OP_MOV)
			store_understand(&counter, region, flow, offset);
		else
			counter.delta = step_of(insn->op, insn->has_imm, insn->imm);
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
			       size_t i)
{
	bool called = false, shared = false;

	for (unsigned int n = 0; n < LOOK_AHEAD && i != REGION_NONE; n++) {
		const struct mc_insn *insn = &region->insns[i];
		struct counter *counter = find(counters, i);

		shared |= (region->marks[i] & (REGION_TARGET | REGION_INDIRECT)) != 0;
		if (counter)
			return counter->delta == 1 && called && !shared ? counter : NULL;
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

/* Below the limit _Py_CheckRecursiveCall() lets 50 more frames run while an error is being handled
 * (Python/ceval.c, 3.11 to 3.15); where it is inlined, the comparison gives it away. */
#define HEADROOM_LIMIT (-50)

static bool is_headroom_compare(const struct mc_insn *insn)
{
	return insn->op == MC_OP_CMP && !insn->mem && insn->has_imm &&
	       (int32_t)insn->imm == HEADROOM_LIMIT;
}

/* Does the branch go by what a call has returned? */
static bool is_result_tested(const struct region *region, size_t jcc)
{
	size_t i = region_previous(region, jcc);

	for (unsigned int n = 0; n < 4 && i != REGION_NONE; n++) {
		const struct mc_insn *insn = &region->insns[i];

		if (insn->op == MC_OP_TEST)
			return insn->reg[0] == MC_RAX && insn->reg[1] == MC_RAX;
		if (insn->op != MC_OP_MOV && insn->op != MC_OP_LEA)
			break;
		i = region_previous(region, i);
	}
	return false;
}

/*
 * The branch that says how the check ended, on the way that starts at instruction i:
 *   call _Py_CheckRecursiveCall; test eax, eax; je passed (or jne failed)
 *   cmp remaining, -50; jge passed (or jl failed)
 */
static size_t check_result(const struct region *region, size_t i, size_t good, bool *taken)
{
	for (unsigned int n = 0; n < 12 && i != REGION_NONE && i != good; n++) {
		const struct mc_insn *insn = &region->insns[i];

		if (insn->flow == MC_FLOW_CALL || is_headroom_compare(insn)) {
			size_t jcc = next_jcc(region, i, 8);
			uint8_t cc = jcc == REGION_NONE ? 0 : region->insns[jcc].cc;

			*taken = cc == MC_CC_E || cc == MC_CC_GE;
			if (insn->flow == MC_FLOW_CALL
				? (cc == MC_CC_E || cc == MC_CC_NE) && is_result_tested(region, jcc)
				: cc == MC_CC_GE || cc == MC_CC_L)
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

size_t counter_check_result(const struct region *region, size_t i, bool *taken)
{
	return check_result(region, i, REGION_NONE, taken);
}

/* Where a branch goes. */
size_t counter_way(const struct region *region, const struct counter_branch *branch)
{
	if (branch->insn == REGION_NONE)
		return REGION_NONE;
	return branch->taken ? region_index(region, region->insns[branch->insn].target)
			     : region_next(region, branch->insn);
}

/* The way on which a check may still pass, instruction by instruction. */
struct slow_way {
	const struct region *region;
	const struct counters *counters;
	struct counter_check *check;
	size_t good;     /* where it leads when it passes */
	int64_t counter; /* offset */
	size_t todo[SLOW_TODO_MAX], todo_count;
	bool bad;
};

static void slow_branch(struct slow_way *slow, size_t insn, bool taken)
{
	struct counter_check *check = slow->check;

	if (check->passed_count == COUNTER_PASSED_MAX)
		slow->bad = true;
	else
		check->passed[check->passed_count++] = (struct counter_branch){insn, taken};
}

/* Control goes on at instruction i, from anything but a conditional jump that leads there. */
static void slow_go(struct slow_way *slow, size_t i)
{
	struct counter_check *check = slow->check;

	for (size_t k = 0; k < check->slow_count; k++)
		if (check->slow[k] == i)
			return;
	if (i == slow->good || check->slow_count == COUNTER_SLOW_MAX ||
	    slow->todo_count == SLOW_TODO_MAX)
		slow->bad = true; /* no branch says that it passed; or there is no end to it */
	else if (i != REGION_NONE)
		slow->todo[slow->todo_count++] = check->slow[check->slow_count++] = i;
}

/* Does it write the counter? A change of the limit does not count. */
static bool slow_counts(const struct slow_way *slow, size_t i)
{
	const struct counter *counter = counter_at(slow->counters, i);

	return (!counter || !counter->limit) &&
	       counter_matches(&slow->region->insns[i], (uint16_t)slow->counter);
}

/* Does instruction i lead to where it goes on if the check passes, with no other way from there? */
static bool slow_passes(const struct slow_way *slow, size_t i)
{
	for (unsigned int n = 0; n < SLOW_PASS_MAX && i != REGION_NONE; n++) {
		const struct mc_insn *insn = &slow->region->insns[i];

		if (i == slow->good)
			return true;
		if (insn->flow == MC_FLOW_JMP)
			i = region_index(slow->region, insn->target);
		else if (insn->flow == MC_FLOW_NEXT && !slow_counts(slow, i))
			i = region_next(slow->region, i);
		else
			break;
	}
	return false;
}

static void slow_step(struct slow_way *slow, size_t i)
{
	const struct region *region = slow->region;
	const struct mc_insn *insn = &region->insns[i];
	size_t next = region_next(region, i), to = REGION_NONE;
	bool taken, fallen;

	if (slow_counts(slow, i) || region->marks[i] & REGION_NORETURN)
		return; /* where it failed, what was taken is given back */
	if (insn->flow == MC_FLOW_JCC || insn->flow == MC_FLOW_JMP)
		to = region_index(region, insn->target);
	taken = slow_passes(slow, to);
	fallen = slow_passes(slow, next);
	if (insn->flow == MC_FLOW_JCC && taken != fallen) {
		slow_branch(slow, i, taken);
		slow_go(slow, taken ? next : to);
		return;
	}
	slow_go(slow, to);
	if (region_goes_on(region, i))
		slow_go(slow, next);
}

/* 3.11, with the check inlined */
static bool any_limit(const struct counters *counters)
{
	for (size_t i = 0; i < counters->count; i++)
		if (counters->items[i].limit)
			return true;
	return false;
}

/*
 * Where all of the check is inlined (clang), there may be more than one branch to where it goes on
 * if the check passed: all conditional jumps there that are to be met on the slow way. Where the
 * comparison with the headroom was found, that one is enough, unless the limit may change.
 */
static void passed_find(struct counter_check *check, const struct counters *counters,
			const struct region *region, size_t insn, size_t from)
{
	struct slow_way slow = {.region = region,
				.counters = counters,
				.check = check,
				.good = counter_way(region, &check->branch),
				.counter = region->insns[insn].disp};
	struct counter_branch compared = check->passed[0];

	if (slow.good == REGION_NONE)
		return;
	check->passed_count = 0;
	slow_go(&slow, from);
	while (slow.todo_count && !slow.bad)
		slow_step(&slow, slow.todo[--slow.todo_count]);
	if (slow.bad)
		check->passed_count = 0;
	if (compared.insn != REGION_NONE && !any_limit(counters)) {
		check->passed[0] = compared;
		check->passed_count = 1;
	}
}

static bool check_find(struct counter_check *check, const struct counters *counters,
		       const struct region *region, size_t counter, size_t insn)
{
	struct counter_branch *branch = &check->branch;
	bool taken = false;
	size_t slow;

	*check = (struct counter_check){.branch = {next_jcc(region, insn, 4), false}};
	if (branch->insn == REGION_NONE)
		return false;
	switch (region->insns[branch->insn].cc) {
	case MC_CC_LE:
	case MC_CC_L:
	case MC_CC_S:
		slow = region_index(region, region->insns[branch->insn].target);
		break;
	case MC_CC_G:
	case MC_CC_GE:
	case MC_CC_NS:
		slow = region_next(region, branch->insn);
		branch->taken = true;
		break;
	default:
		return false;
	}
	check->passed[0].insn = check_result(region, slow, counter_way(region, branch), &taken);
	check->passed[0].taken = taken;
	if (check->passed[0].insn != REGION_NONE &&
	    (region->insns[check->passed[0].insn].cc & ~1) == MC_CC_E) /* of a call's result */
		check->passed_count = 1;
	else
		passed_find(check, counters, region, counter, slow);
	return true;
}

bool counter_check_find(struct counter_check *check, const struct counters *counters,
			const struct region *region, size_t insn)
{
	return check_find(check, counters, region, insn, insn);
}

size_t counter_checks_find(struct counter_check checks[2], const struct counters *counters,
			   const struct region *region, size_t insn)
{
	size_t jcc, ways[2], count = 0;

	if (counter_check_find(&checks[0], counters, region, insn))
		return 1;
	jcc = next_jcc(region, insn, 4);
	if (jcc == REGION_NONE)
		return 0;
	ways[0] = region_next(region, jcc);
	ways[1] = region_index(region, region->insns[jcc].target);
	for (int w = 0; w < 2; w++) {
		/* the first instruction of a way cannot be the branch: the flags are test's */
		if (ways[w] == REGION_NONE ||
		    !check_find(&checks[count], counters, region, insn, ways[w]))
			return 0;
		count++;
	}
	return count;
}

/* Does nothing but straight code lie between what is taken and giving it back? Then nothing runs in
 * between: it is the same correction, where the check is inlined (clang). */
static bool is_given_back(const struct counters *counters, const struct region *region, size_t i)
{
	for (unsigned int n = 0; n < GIVEN_BACK_MAX; n++) {
		const struct counter *counter;

		if (region->insns[i].flow == MC_FLOW_JMP)
			i = region_index(region, region->insns[i].target);
		else if (region->insns[i].flow == MC_FLOW_NEXT)
			i = region_next(region, i);
		else
			break;
		if (i == REGION_NONE)
			break;
		counter = counter_at(counters, i);
		if (counter)
			return counter->delta > 0;
	}
	return false;
}

void counters_drop_corrections(struct counters *counters, const struct region *region)
{
	for (size_t i = 0; i < counters->count; i++) {
		struct counter *counter = &counters->items[i];

		if (counter->delta < 0 && (is_after_check(region, counter->insn) ||
					   is_given_back(counters, region, counter->insn)))
			counter->dropped = true;
	}
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
		if (counter_check_find(&check, counters, region, open->insn))
			enough = counter_way(region, &check.branch);
		close = closing(counters, region, enough);
		if (!close)
			continue;
		open->dropped = close->dropped = true;
		/* The way through the check may have a copy of the call and its closing. */
		for (size_t p = 0; p < check.passed_count; p++) {
			close = closing(counters, region, counter_way(region, &check.passed[p]));
			if (close)
				close->dropped = true;
		}
	}
}
