// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * Garbage collections of CPython 3.14 and later in builds without USDT probes. Nothing is read of
 * the state of the collector, whose layout differs between 3.14.0, later 3.14 and 3.15:
 *
 * The collector is the function that PyGC_Collect() calls, or ends in, and that refers to the debug
 * message "gc: collecting generation %d...". It tests whether the message is wanted once for each
 * collection that it does, when it is known which generation that is (callers may leave that to it)
 * and whether there is to be one (not within another). So the collection begins at the jump behind
 * that test, where the register or stack slot that the message's number would be taken from holds
 * the generation. It ends where the function returns, with what PyGC_Collect() is documented to
 * return: how many objects were found unreachable. A return belongs to the begin with the same
 * stack.
 */
#include <errno.h>
#include <string.h>

#include "python/flow.h"
#include "python/region.h"
#include "python/scan.h"

#define BLOCK_MAX   24 /* instructions from the jump's target to the message's call; 7 seen */
#define TEST_MAX    4  /* from the test to the jump; 1 seen */
#define DEBUG_STATS 1  /* the bit of gc.set_debug() */

struct collector {
	const struct py_finder *finder;
	struct py_engine_plan *plan;
	uint64_t reference; /* the instruction that refers to it */
	size_t references;
	uint64_t start; /* the function */
	struct region region;
	struct flow flow;
	size_t jump; /* the instruction: the collection begins */
	uint64_t cookie;
};

static int no(struct collector *c, const char *reason)
{
	return py_plan_refuse(c->plan, "the collector is not understood: %s", reason);
}

/* ---- the function ---- */

static int see_reference(uint64_t vaddr, uint64_t target, void *ctx)
{
	struct collector *c = ctx;

	(void)target;
	if (eh_range_at(c->finder->eh, vaddr)) {
		c->reference = vaddr;
		c->references++;
	}
	return 0;
}

/* Does the function at this address refer to the message? Keeps its region if it does. */
static int try_callee(struct collector *c, uint64_t vaddr)
{
	const struct eh_range *range = eh_range_at(c->finder->eh, vaddr);
	int rc;

	if (!range || range->start != vaddr)
		return 0;
	rc = region_load(&c->region, c->finder, vaddr);
	if (!rc && region_index(&c->region, c->reference) != REGION_NONE) {
		c->start = vaddr;
		return 1;
	}
	region_release(&c->region);
	memset(&c->region, 0, sizeof(c->region));
	return rc == -ENOMEM ? rc : 0;
}

static int see_insn(const struct mc_insn *insn, void *ctx)
{
	return insn->flow == MC_FLOW_CALL || insn->flow == MC_FLOW_JMP
		   ? try_callee(ctx, insn->target)
		   : 0;
}

static int find_function(struct collector *c)
{
	const struct eh_range *range;
	struct mc_decoder *decoder;
	struct elf_symbol symbol;
	int rc;

	if (!elf_symbol(c->finder->elf, "PyGC_Collect", &symbol))
		return no(c, "the interpreter exports no PyGC_Collect");
	range = eh_range_at(c->finder->eh, symbol.vaddr);
	if (!range || range->start != symbol.vaddr)
		return no(c, "PyGC_Collect() has no unwind range");
	if (mc_decoder_open(&decoder))
		return -ENOMEM;
	rc = region_each_insn(c->finder->elf, decoder, range, see_insn, c);
	mc_decoder_close(decoder);
	if (rc == -ENOMEM)
		return rc;
	if (!c->start)
		return no(c, "PyGC_Collect() calls no function with its debug message");
	rc = region_find_tables(&c->region);
	return rc ? rc : flow_analyse(&c->flow, &c->region, &c->start, 1);
}

/* ---- the jump to where the message is written ---- */

/* How many direct jumps lead to the instruction; *from: the last of them. */
static size_t jumps_to(const struct region *region, size_t to, size_t *from)
{
	size_t count = 0;

	for (size_t i = 0; i < region->insn_count; i++) {
		const struct mc_insn *insn = &region->insns[i];

		if ((insn->flow != MC_FLOW_JCC && insn->flow != MC_FLOW_JMP) ||
		    insn->target != region->insns[to].vaddr)
			continue;
		*from = i;
		count++;
	}
	return count;
}

/* Does the instruction before this one go on with it? Padding, which nothing leads to, does not. */
static bool falls_into(const struct collector *c, size_t i)
{
	size_t previous = region_previous(&c->region, i);
	uint8_t flow;

	if (previous == REGION_NONE || c->region.marks[previous] & REGION_NORETURN ||
	    !c->flow.states[previous].reached)
		return false;
	flow = c->region.insns[previous].flow;
	return flow != MC_FLOW_STOP && flow != MC_FLOW_JMP && flow != MC_FLOW_RET &&
	       flow != MC_FLOW_JMP_INDIRECT;
}

/* The block in which the message is written: *first to *call, which calls. The only way into it is
 * the jump. */
static bool find_block(struct collector *c, size_t *first, size_t *call)
{
	const struct region *region = &c->region;
	size_t at = region_index(region, c->reference), other = 0;

	for (*call = at; region->insns[*call].flow != MC_FLOW_CALL; ++*call)
		if (region->insns[*call].flow != MC_FLOW_NEXT || *call == at + BLOCK_MAX ||
		    region_next(region, *call) == REGION_NONE ||
		    jumps_to(region, *call + 1, &other))
			return false;
	for (*first = at; !jumps_to(region, *first, &c->jump); --*first) {
		if (!falls_into(c, *first) || *first + BLOCK_MAX == at)
			return false;
		if (region->insns[*first - 1].flow == MC_FLOW_JCC) {
			c->jump = *first - 1;
			return true;
		}
		if (region->insns[*first - 1].flow != MC_FLOW_NEXT)
			return false;
	}
	return jumps_to(region, *first, &c->jump) == 1 && !falls_into(c, *first) &&
	       region->insns[c->jump].flow == MC_FLOW_JCC;
}

/* The jump goes by a test of the bit that asks for messages. */
static bool tests_debug(const struct collector *c)
{
	size_t i = c->jump, other;

	for (unsigned int n = 0; n < TEST_MAX; n++) {
		const struct mc_insn *insn;

		if (jumps_to(&c->region, i, &other))
			return false;
		i = region_previous(&c->region, i);
		if (i == REGION_NONE)
			return false;
		insn = &c->region.insns[i];
		if (insn->op == MC_OP_TEST || insn->op == MC_OP_AND)
			return insn->has_imm && insn->imm == DEBUG_STATS;
		if (insn->op != MC_OP_MOV || insn->flow != MC_FLOW_NEXT)
			return false; /* it may change the flags */
	}
	return false;
}

/* ---- the generation ---- */

static bool changes(const struct mc_insn *insn, unsigned int reg, bool memory)
{
	if (insn->writes >> reg & 1)
		return true;
	return memory && ((insn->mem == 1 && insn->op != MC_OP_CMP && insn->op != MC_OP_TEST) ||
			  insn->stack_bytes);
}

/* The message's number is its second argument, an int: from where did the block get it? */
static bool find_generation(struct collector *c, size_t first, size_t call)
{
	const struct mc_insn *insns = c->region.insns, *set = NULL;
	unsigned int reg = MC_RSI, disp = 0;
	bool memory;

	for (size_t i = first; i < call; i++)
		if (insns[i].writes >> MC_RSI & 1)
			set = &insns[i];
	if (set && (set->op != MC_OP_MOV || set->reg[0] != MC_RSI || set->reg_bytes < 4))
		return false;
	memory = set && set->mem == 2;
	if (memory) {
		if (set->base >= MC_RIP || set->index != MC_NO_REG || set->mem_bytes != 4 ||
		    set->disp % 4 || set->disp < -512 || set->disp > 508)
			return false;
		reg = set->base;
		disp = (unsigned int)(set->disp / 4);
	} else if (set) {
		if (set->mem || set->has_imm || set->reg[1] >= MC_RIP)
			return false;
		reg = set->reg[1];
	}
	for (size_t i = first; i < call && &insns[i] != set; i++)
		if (changes(&insns[i], reg, memory))
			return false;
	c->cookie = PT_COOKIE_RT(PT_RT_SITE_GC_BEGIN, reg, disp, MC_RSP, 0);
	if (memory)
		c->cookie |= PT_RT_MEMORY;
	return true;
}

/* ---- the stack ---- */

/* How far down the stack is at the jump since the function's entry, in units of 8 bytes; 0: not
 * known. */
static unsigned int stack_depth(const struct collector *c)
{
	const struct flow_state *state = &c->flow.states[c->jump];

	if (!state->reached || state->sp == FLOW_SP_UNKNOWN || state->sp >= 0 || state->sp & 7 ||
	    -state->sp / 8 > PT_RT_DEPTH_MAX)
		return 0;
	return (unsigned int)(-state->sp / 8);
}

/* ---- all of it ---- */

static int add_begin(struct collector *c)
{
	size_t first, call;

	if (!find_block(c, &first, &call) || !tests_debug(c))
		return no(c, "its test of gc.DEBUG_STATS is not to be found");
	if (!find_generation(c, first, call))
		return no(c, "where it has the generation is not to be found");
	return py_plan_add_at(c->plan, c->finder->elf, c->region.insns[c->jump].vaddr, c->cookie,
			      "collection's begin");
}

static int add_returns(struct collector *c)
{
	unsigned int depth = stack_depth(c);
	size_t returns = 0;
	int rc = 0;

	if (!depth)
		return no(c, "how much stack it has is not to be found");
	for (size_t i = 0; i < c->region.insn_count && !rc; i++) {
		const struct mc_insn *insn = &c->region.insns[i];

		if (region_leaves(&c->region, insn))
			return no(c, "it ends in a jump elsewhere");
		if (insn->flow != MC_FLOW_RET)
			continue;
		returns++;
		rc = py_plan_add_at(c->plan, c->finder->elf, insn->vaddr,
				    PT_COOKIE_RT(PT_RT_SITE_GC_RETURN, MC_RAX, depth, MC_RSP, 0),
				    "collector's return");
	}
	return rc || returns ? rc : no(c, "it has no return");
}

int py_sites_collector(const struct py_finder *finder, uint64_t message,
		       struct py_engine_plan *plan)
{
	struct collector c = {.finder = finder, .plan = plan};
	int rc;

	scan_references(finder->elf, message, see_reference, &c);
	if (c.references != 1)
		return no(&c, "not one place refers to its debug message");
	rc = find_function(&c);
	if (!rc)
		rc = add_begin(&c);
	if (!rc)
		rc = add_returns(&c);
	flow_release(&c.flow);
	region_release(&c.region);
	return rc;
}
