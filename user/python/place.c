// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
#include "python/place.h"

#include <errno.h>
#include <string.h>

#include "python/failed.h"

#define FORWARD_MAX  24 /* at most 10 seen */
#define BACKWARD_MAX 40
#define HANDLER_MAX  20
#define STORE_MAX    24 /* instructions between a decrement and the store of current_frame */

static const struct place NOWHERE = {.insn = REGION_NONE};

static bool is_emulated(const struct place_finder *finder, size_t i)
{
	const struct mc_insn *insn = &finder->region->insns[i];

	return !insn->refused && (finder->emulated >> insn->class & 1);
}

/* Can control come here from elsewhere than the instruction before? */
static bool is_entered(const struct place_finder *finder, size_t i)
{
	return (finder->region->marks[i] & (REGION_TARGET | REGION_INDIRECT | REGION_START)) ||
	       finder->region->insns[i].op == MC_OP_ENDBR;
}

/* The place at instruction i, or nowhere if the thread state cannot be found there. */
static struct place place_at(const struct place_finder *finder, size_t i, unsigned int preferred,
			     unsigned int distance)
{
	struct place place = {.insn = i, .distance = distance};

	place.ts = flow_tstate(finder->flow, i, preferred, &place.slot);
	return place.ts == PT_TS_NONE || finder->region->insns[i].refused ? NOWHERE : place;
}

/* May a probe for this counter lie behind that other one? Both directions in one event would
 * cancel out. */
static bool may_pass(const struct place_finder *finder, const struct counter *counter,
		     const struct counter *other)
{
	if (other->dropped)
		return true;
	return finder->merge && counter->delta * other->delta > 0;
}

struct place place_forward(const struct place_finder *finder, const struct counter *counter)
{
	size_t i = counter->insn;

	for (unsigned int n = 1; n <= FORWARD_MAX; n++) {
		const struct counter *other;

		i = region_next(finder->region, i);
		if (i == REGION_NONE || is_entered(finder, i))
			break;
		other = counter_at(finder->counters, i);
		if (other && !may_pass(finder, counter, other))
			break;
		if (is_emulated(finder, i))
			return place_at(finder, i, counter->base, n);
		if (finder->region->insns[i].flow != MC_FLOW_NEXT)
			break;
	}
	return NOWHERE;
}

struct place place_behind(const struct place_finder *finder, const struct counter *counter)
{
	size_t i = region_next(finder->region, counter->insn);

	if (i == REGION_NONE || is_entered(finder, i) || counter_at(finder->counters, i))
		return NOWHERE;
	return place_at(finder, i, counter->base, 1);
}

bool place_is_covered(const struct place_finder *finder, const struct counter *counter)
{
	const struct region *region = finder->region;
	size_t i = counter->insn;

	for (unsigned int n = 0; finder->merge && n < FORWARD_MAX; n++) {
		const struct counter *other;

		if (region->insns[i].flow == MC_FLOW_JMP)
			i = region_index(region, region->insns[i].target);
		else if (region->insns[i].flow == MC_FLOW_NEXT)
			i = region_next(region, i);
		else
			return false;
		if (i == REGION_NONE)
			return false;
		other = counter_at(finder->counters, i);
		if (other && !other->dropped)
			return counter->delta * other->delta > 0;
	}
	return false;
}

struct place place_raw(const struct place_finder *finder, const struct counter *counter)
{
	return place_at(finder, counter->insn, counter->base, 0);
}

static unsigned int condition_of(const struct mc_insn *jump, bool taken)
{
	if (jump->flow == MC_FLOW_JMP)
		return 0;
	return PT_COND_VALID | (taken ? PT_COND_TAKEN : 0) | jump->cc;
}

static bool edge_add(const struct place_finder *finder, const struct counter *counter, size_t jump,
		     bool taken, struct place *edges, size_t *count)
{
	struct place edge = NOWHERE;

	if (*count < PLACE_EDGES_MAX && is_emulated(finder, jump) &&
	    (finder->region->insns[jump].class == PY_INSN_JCC ||
	     finder->region->insns[jump].class == PY_INSN_JMP))
		edge = place_at(finder, jump, counter->base, 0);
	if (edge.insn == REGION_NONE)
		return false;
	edge.condition = condition_of(&finder->region->insns[jump], taken);
	edges[(*count)++] = edge;
	return true;
}

struct place place_branch(const struct place_finder *finder, size_t branch, bool taken,
			  unsigned int preferred)
{
	struct place place = NOWHERE;

	if (branch != REGION_NONE && is_emulated(finder, branch) &&
	    finder->region->insns[branch].class == PY_INSN_JCC)
		place = place_at(finder, branch, preferred, 0);
	if (place.insn != REGION_NONE)
		place.condition = condition_of(&finder->region->insns[branch], taken);
	return place;
}

static bool is_failed(const struct place_finder *finder, size_t i)
{
	return finder->failed && (finder->failed[i] & FAILED_PURE);
}

/* All direct jumps to instruction i. */
static bool edges_to(const struct place_finder *finder, const struct counter *counter, size_t i,
		     struct place *edges, size_t *count)
{
	const struct region *region = finder->region;
	uint64_t vaddr = region->insns[i].vaddr;

	if (!(region->marks[i] & REGION_TARGET))
		return true;
	for (size_t k = 0; k < region->insn_count; k++) {
		const struct mc_insn *insn = &region->insns[k];

		if ((insn->flow == MC_FLOW_JCC || insn->flow == MC_FLOW_JMP) &&
		    insn->target == vaddr && !is_failed(finder, k) &&
		    !edge_add(finder, counter, k, true, edges, count))
			return false;
	}
	return true;
}

size_t place_edges(const struct place_finder *finder, const struct counter *counter,
		   struct place edges[PLACE_EDGES_MAX])
{
	const struct region *region = finder->region;
	size_t i = counter->insn, count = 0;

	for (unsigned int n = 0; n < BACKWARD_MAX; n++) {
		const struct mc_insn *insn;

		if ((region->marks[i] & (REGION_INDIRECT | REGION_START)) ||
		    region->insns[i].op == MC_OP_ENDBR ||
		    !edges_to(finder, counter, i, edges, &count))
			return 0;
		i = region_previous(region, i);
		if (i == REGION_NONE)
			return 0;
		if (is_failed(finder, i))
			return count;
		insn = &region->insns[i];
		switch ((enum mc_flow)insn->flow) {
		case MC_FLOW_JMP:
		case MC_FLOW_JMP_INDIRECT:
		case MC_FLOW_RET:
		case MC_FLOW_STOP: /* nothing falls through to here: complete */
			return count;
		case MC_FLOW_JCC:
			return edge_add(finder, counter, i, false, edges, &count) ? count : 0;
		case MC_FLOW_CALL: /* what is called may run Python before the counter moves */
		case MC_FLOW_CALL_INDIRECT:
			return 0;
		case MC_FLOW_NEXT:
			break;
		}
		if (counter_at(finder->counters, i))
			return 0;
	}
	return 0;
}

struct place place_handler(const struct place_finder *finder, size_t handler)
{
	size_t i = handler;

	for (unsigned int n = 0; n < HANDLER_MAX && i != REGION_NONE; n++) {
		const struct mc_insn *insn = &finder->region->insns[i];

		if (is_emulated(finder, i))
			return place_at(finder, i, PT_TS_NONE, n);
		if (insn->flow == MC_FLOW_JMP)
			i = region_index(finder->region, insn->target);
		else if (insn->flow == MC_FLOW_NEXT)
			i = region_next(finder->region, i);
		else
			break;
	}
	/* Dear, but as good. */
	return place_at(finder, handler, PT_TS_NONE, 0);
}

/* ---- where the frame is ---- */

struct handler_regs {
	unsigned int frame;             /* PT_REG_NONE: not seen so far */
	unsigned int code_from[MC_RIP]; /* by register: it holds the code object of the frame in
					   this one, or PT_REG_NONE */
};

/* 8 bytes at [register + disp]; operand 1 it stores, operand 2 it loads. */
static bool moves_field(const struct mc_insn *insn, unsigned int operand, uint16_t disp)
{
	return insn->op == MC_OP_MOV && insn->mem == operand && insn->mem_bytes == 8 &&
	       insn->disp == disp && insn->index == MC_NO_REG && insn->base < MC_RIP &&
	       insn->base != MC_RSP;
}

/* Tag bits cleared: -2 or -4. */
static bool clears_tag(const struct mc_insn *insn)
{
	return insn->op == MC_OP_AND && !insn->mem && insn->reg_bytes == 8 && insn->has_imm &&
	       (insn->imm == -2 || insn->imm == -4);
}

static void handler_step(struct handler_regs *regs, const struct mc_insn *insn, uint16_t instr_ptr,
			 uint16_t code)
{
	if (moves_field(insn, 1, instr_ptr) && insn->reg[1] < MC_RIP)
		regs->frame = insn->base;
	if (clears_tag(insn))
		return;
	for (unsigned int reg = 0; reg < MC_RIP; reg++) {
		if (!(insn->writes >> reg & 1))
			continue;
		regs->code_from[reg] = PT_REG_NONE;
		for (unsigned int i = 0; i < MC_RIP; i++)
			if (regs->code_from[i] == reg)
				regs->code_from[i] = PT_REG_NONE;
		if (regs->frame == reg)
			regs->frame = PT_REG_NONE;
	}
	if (moves_field(insn, 2, code) && insn->reg[0] < MC_RIP && insn->reg[0] != insn->base)
		regs->code_from[insn->reg[0]] = insn->base;
}

struct place_frame place_handler_frame(const struct place_finder *finder, size_t handler,
				       const struct place *place, uint16_t instr_ptr, uint16_t code)
{
	struct place_frame found = {PT_REG_NONE, PT_REG_NONE};
	struct handler_regs regs = {.frame = PT_REG_NONE};

	for (unsigned int i = 0; i < MC_RIP; i++)
		regs.code_from[i] = PT_REG_NONE;
	for (size_t i = handler; i != place->insn; i = region_next(finder->region, i)) {
		if (i == REGION_NONE || finder->region->insns[i].flow != MC_FLOW_NEXT ||
		    (i != handler && is_entered(finder, i)))
			return found;
		handler_step(&regs, &finder->region->insns[i], instr_ptr, code);
	}
	if (is_entered(finder, place->insn) || regs.frame == PT_REG_NONE)
		return found;
	found.frame = regs.frame;
	for (unsigned int i = 0; i < MC_RIP; i++)
		if (regs.code_from[i] == regs.frame)
			found.code = i;
	return found;
}

static bool is_frame_store(const struct place_finder *finder, size_t i, uint16_t offset)
{
	const struct mc_insn *insn = &finder->region->insns[i];

	return insn->op == MC_OP_MOV && insn->mem == 1 && insn->mem_bytes == 8 &&
	       insn->disp == offset && insn->index == MC_NO_REG && insn->reg[1] < MC_RIP &&
	       flow_proves(finder->flow, i, insn->base);
}

/* Was current_frame stored before the counter, on the straight way to it? */
static bool stored_before(const struct place_finder *finder, size_t i, uint16_t offset)
{
	for (unsigned int n = 0; n < STORE_MAX; n++) {
		if (is_entered(finder, i))
			return false;
		i = region_previous(finder->region, i);
		if (i == REGION_NONE)
			return false;
		if (is_frame_store(finder, i, offset))
			return true;
		if (finder->region->insns[i].flow != MC_FLOW_NEXT &&
		    finder->region->insns[i].flow != MC_FLOW_JCC)
			return false;
	}
	return false;
}

struct frame_search {
	const struct place_finder *finder;
	uint16_t offset;
	unsigned int reg; /* found, or PT_REG_NONE */
	unsigned int steps;
};

/* Follows direct control flow up to the first store of current_frame on each path, a call, or an
 * indirect jump. */
static void search_from(struct frame_search *search, size_t i, unsigned int written,
			unsigned int depth)
{
	const struct region *region = search->finder->region;

	for (; i != REGION_NONE && search->steps < 4 * STORE_MAX; search->steps++) {
		const struct mc_insn *insn = &region->insns[i];

		if (is_frame_store(search->finder, i, search->offset)) {
			/* else its register is only loaded behind the place */
			if (!(written >> insn->reg[1] & 1))
				search->reg = insn->reg[1];
			return;
		}
		written |= insn->writes;
		if (insn->flow == MC_FLOW_JCC && depth < 4)
			search_from(search, region_index(region, insn->target), written, depth + 1);
		else if (insn->flow == MC_FLOW_JMP) {
			i = region_index(region, insn->target);
			continue;
		} else if (insn->flow != MC_FLOW_NEXT && insn->flow != MC_FLOW_JCC) {
			return;
		}
		i = region_next(region, i);
	}
}

int place_frame_register(const struct place_finder *finder, const struct counter *counter,
			 const struct place *place, uint16_t offset)
{
	struct frame_search search = {finder, offset, PT_REG_NONE, 0};

	if (stored_before(finder, counter->insn, offset))
		return PT_REG_NONE;
	for (size_t i = counter->insn; i < place->insn; i++)
		if (is_frame_store(finder, i, offset))
			return PT_REG_NONE;
	search_from(&search, place->insn, 0, 0);
	return search.reg != PT_REG_NONE ? (int)search.reg : -EAGAIN;
}

unsigned int place_left_register(const struct place_finder *finder, const struct counter *counter,
				 const struct place *place)
{
	const struct region *region = finder->region;
	const struct mc_insn *insn = &region->insns[counter->insn];
	unsigned int reg = insn->reg[1];
	size_t i = counter->insn;

	if (insn->op != MC_OP_MOV || insn->mem != 1 || insn->mem_bytes != 4 || reg >= MC_RIP)
		return PT_REG_NONE;
	for (unsigned int n = 0; n < STORE_MAX; n++) {
		i = region_next(region, i);
		if (i == REGION_NONE || is_entered(finder, i) || counter_at(finder->counters, i))
			return PT_REG_NONE;
		if (i == place->insn)
			return reg;
		if (region->insns[i].flow != MC_FLOW_NEXT || region->insns[i].writes >> reg & 1)
			return PT_REG_NONE;
	}
	return PT_REG_NONE;
}

static bool takes_stack(const struct place_finder *finder, size_t i, uint16_t stacktop)
{
	const struct mc_insn *insn = &finder->region->insns[i];

	if (insn->op != MC_OP_MOV || insn->mem != 1 || insn->mem_bytes != 4 ||
	    insn->disp != stacktop || insn->index != MC_NO_REG || !insn->has_imm ||
	    (int32_t)insn->imm != -1)
		return false;
	return insn->base < MC_RIP && insn->base != MC_RSP &&
	       !flow_proves(finder->flow, i, insn->base) &&
	       (insn->base != MC_RBP || finder->flow->states[i].fp == FLOW_SP_UNKNOWN);
}

unsigned int place_started_frame(const struct place_finder *finder, const struct place *place,
				 uint16_t stacktop)
{
	const struct region *region = finder->region;
	const struct mc_insn *insn = &region->insns[place->insn];
	unsigned int written = 0;
	size_t i;

	if (insn->flow != MC_FLOW_JCC || !(place->condition & PT_COND_VALID))
		return PT_REG_NONE;
	i = place->condition & PT_COND_TAKEN ? region_index(region, insn->target)
					     : region_next(region, place->insn);
	for (unsigned int n = 0; n < STORE_MAX && i != REGION_NONE; n++) {
		insn = &region->insns[i];
		if (takes_stack(finder, i, stacktop))
			return written >> insn->base & 1 ? PT_REG_NONE : insn->base;
		written |= insn->writes;
		if (insn->flow == MC_FLOW_JMP)
			i = region_index(region, insn->target);
		else if (insn->flow == MC_FLOW_NEXT)
			i = region_next(region, i);
		else
			break;
	}
	return PT_REG_NONE;
}
