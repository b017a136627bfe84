// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * The lattice: a state is a set of registers plus two stack offsets; joining two paths keeps what
 * both agree on. Sweeps in address order until nothing changes; code is mostly laid out in the
 * order it runs, so a few suffice.
 *
 * Indirect jumps: where the opcode and switch tables lead is known, which table a jump uses often
 * is not, so one common state stands for all of them. It is the join of all indirect jumps through
 * a register or an indexed table, and it flows into every table target. But a switch whose table is
 * known leads to its own cases only: there compilers have other things in the registers.
 *
 * A tail-calling interpreter (handlers.c) has a second one, for jumps out of one function into
 * another: these happen with the stack pointer as it was at the function's entry, and of what lies
 * on the stack nothing is known behind them. The entry function calls the first of those functions,
 * and gets no register back.
 *
 * Stack slots are followed like registers: compilers park the thread state in one for a while, and
 * use the same slot for something else later. A slot gets a number when the thread state is first
 * stored there; a write to any part of it, or taking its address, ends that.
 */
#include "python/flow.h"
#include "python/origins.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define SWEEPS_MAX 64

struct analysis {
	struct flow *flow;
	const struct region *region;
	const struct origins *origins; /* or NULL: not known yet */
	struct flow_state indirect;    /* what flows into table targets */
	struct flow_state handlers;    /* into those that start a function */
	bool changed;
};

static bool state_join(struct flow_state *into, const struct flow_state *from)
{
	struct flow_state before = *into;

	if (!from->reached)
		return false;
	if (!into->reached) {
		*into = *from;
		return true;
	}
	into->regs &= from->regs;
	into->slots &= from->slots;
	if (into->sp != from->sp)
		into->sp = FLOW_SP_UNKNOWN;
	if (into->fp != from->fp)
		into->fp = FLOW_SP_UNKNOWN;
	return into->regs != before.regs || into->slots != before.slots || into->sp != before.sp ||
	       into->fp != before.fp;
}

bool flow_slot(const struct mc_insn *insn, const struct flow_state *state, int32_t *slot)
{
	int32_t base;

	if (!insn->mem || insn->index != MC_NO_REG || insn->disp > INT16_MAX ||
	    insn->disp < INT16_MIN)
		return false;
	base = insn->base == MC_RSP   ? state->sp
	       : insn->base == MC_RBP ? state->fp
				      : FLOW_SP_UNKNOWN;
	if (base == FLOW_SP_UNKNOWN)
		return false;
	*slot = base + (int32_t)insn->disp;
	return true;
}

/* The slot's bit; 0: it has no number (and gets none, or there are too many). */
static uint64_t slot_bit(struct flow *flow, int32_t slot, bool add)
{
	for (size_t i = 0; i < flow->slot_count; i++)
		if (flow->slots[i] == slot)
			return 1ull << i;
	if (!add || flow->slot_count == FLOW_SLOTS_MAX)
		return 0;
	flow->slots[flow->slot_count] = slot;
	return 1ull << flow->slot_count++;
}

/* The numbered slots that a write of so many bytes touches. */
static uint64_t slots_touched(const struct flow *flow, int32_t slot, int32_t bytes)
{
	uint64_t set = 0;

	for (size_t i = 0; i < flow->slot_count; i++)
		if (slot < flow->slots[i] + 8 && flow->slots[i] < slot + bytes)
			set |= 1ull << i;
	return set;
}

/* An instruction that may write its memory operand, or takes its address. */
static bool may_write(const struct mc_insn *insn)
{
	if (insn->op == MC_OP_LEA || insn->op == MC_OP_XCHG)
		return true;
	return insn->mem == 1 && insn->op != MC_OP_CMP && insn->op != MC_OP_TEST &&
	       insn->flow == MC_FLOW_NEXT && !insn->stack_bytes;
}

static bool is_copy(const struct mc_insn *insn)
{
	return insn->op == MC_OP_MOV && insn->reg_bytes == 8 && insn->reg[0] < MC_RIP;
}

static int32_t sp_add(int32_t sp, int64_t bytes)
{
	if (sp == FLOW_SP_UNKNOWN || bytes > INT16_MAX * 16 || bytes < INT16_MIN * 16)
		return FLOW_SP_UNKNOWN;
	sp += (int32_t)bytes;
	return sp > INT32_MAX / 2 || sp < INT32_MIN / 2 ? FLOW_SP_UNKNOWN : sp;
}

/* How the instruction moves rsp and rbp. */
static void stack_step(const struct mc_insn *insn, struct flow_state *state)
{
	const struct flow_state before = *state;

	if (insn->writes >> MC_RBP & 1)
		state->fp = FLOW_SP_UNKNOWN;
	if (is_copy(insn) && insn->reg[0] == MC_RBP && insn->reg[1] == MC_RSP)
		state->fp = before.sp;
	if (insn->op == MC_OP_LEA && insn->reg[0] == MC_RBP && insn->base == MC_RSP &&
	    insn->index == MC_NO_REG)
		state->fp = sp_add(before.sp, insn->disp);
	if (!(insn->writes >> MC_RSP & 1))
		return;
	state->sp = FLOW_SP_UNKNOWN;
	if (insn->stack_bytes)
		state->sp = sp_add(before.sp, insn->stack_bytes);
	else if (insn->reg[0] != MC_RSP)
		return;
	else if (insn->op == MC_OP_SUB && insn->has_imm)
		state->sp = sp_add(before.sp, -insn->imm);
	else if (insn->op == MC_OP_ADD && insn->has_imm)
		state->sp = sp_add(before.sp, insn->imm);
	else if (insn->op == MC_OP_LEA && insn->index == MC_NO_REG && insn->base == MC_RBP)
		state->sp = before.fp == FLOW_SP_UNKNOWN ? before.fp
							 : sp_add(before.fp, insn->disp);
	else if (insn->op == MC_OP_LEA && insn->index == MC_NO_REG && insn->base == MC_RSP)
		state->sp = sp_add(before.sp, insn->disp);
	else if (is_copy(insn) && insn->reg[1] == MC_RBP)
		state->sp = before.fp;
}

static bool holds(const struct flow_state *state, unsigned int reg)
{
	return reg < MC_RIP && (state->regs >> reg & 1);
}

static void slots_step(struct flow *flow, const struct mc_insn *insn, struct flow_state *state)
{
	int32_t bytes = insn->mem_bytes && insn->op != MC_OP_LEA ? insn->mem_bytes : 8, slot;

	if (insn->stack_bytes < 0 && state->sp != FLOW_SP_UNKNOWN) {
		slot = state->sp - 8;
		state->slots &= ~slots_touched(flow, slot, 8);
		if (!insn->mem && holds(state, insn->reg[0]))
			state->slots |= slot_bit(flow, slot, true);
	} else if (may_write(insn) && flow_slot(insn, state, &slot)) {
		/* no object that has a pointer in it begins between two slots */
		if (insn->op == MC_OP_LEA)
			bytes -= slot & 7;
		state->slots &= ~slots_touched(flow, slot, bytes);
		if (insn->op == MC_OP_MOV && bytes == 8 && !(slot & 7) &&
		    holds(state, insn->reg[1]))
			state->slots |= slot_bit(flow, slot, true);
	}
}

static void state_step(struct flow *flow, const struct mc_insn *insn, struct flow_state *state)
{
	const struct flow_state before = *state;
	int32_t slot;

	slots_step(flow, insn, state);
	state->regs &= (uint16_t)~insn->writes;
	if (is_copy(insn) &&
	    (holds(&before, insn->reg[1]) || (insn->mem == 2 && flow_slot(insn, &before, &slot) &&
					      (before.slots & slot_bit(flow, slot, false)))))
		state->regs |= (uint16_t)(1u << insn->reg[0]);
	if (insn->op == MC_OP_XCHG && !insn->mem && insn->reg_bytes == 8) {
		if (holds(&before, insn->reg[0]))
			state->regs |= (uint16_t)(1u << insn->reg[1]);
		if (holds(&before, insn->reg[1]))
			state->regs |= (uint16_t)(1u << insn->reg[0]);
	}
	stack_step(insn, state);
}

static void flow_into(struct analysis *a, size_t i, const struct flow_state *state)
{
	if (i != REGION_NONE && state_join(&a->flow->states[i], state))
		a->changed = true;
}

/* A tail call through memory ([rax+0x30]) leaves the function; a dispatch goes through a register
 * or a table. */
static bool is_dispatch(const struct mc_insn *insn)
{
	return insn->flow == MC_FLOW_JMP_INDIRECT &&
	       (!insn->mem || insn->index != MC_NO_REG || insn->base == MC_NO_REG);
}

/* At the first instruction of another function. */
static struct flow_state crossed(const struct flow_state *state)
{
	return (struct flow_state){.fp = FLOW_SP_UNKNOWN, .regs = state->regs, .reached = true};
}

/* A direct jump. Only a part of the same function is jumped to with something on the stack. */
static void jump(struct analysis *a, const struct mc_insn *insn, const struct flow_state *state)
{
	size_t to = region_index(a->region, insn->target);
	struct flow_state start = crossed(state);

	if (a->region->tail_calls && to != REGION_NONE && a->region->marks[to] & REGION_START &&
	    state->sp == 0)
		state = &start;
	flow_into(a, to, state);
}

/* An indirect jump whose switch is not known: within the function, or to another opcode's. */
static void dispatch_anywhere(struct analysis *a, size_t i, const struct flow_state *state)
{
	const struct mc_insn *insn = &a->region->insns[i];
	struct flow_state start = crossed(state);
	bool leaves = a->region->tail_calls && region_may_dispatch(a->region, i) &&
		      (state->sp == 0 || state->sp == FLOW_SP_UNKNOWN);

	if (leaves && state_join(&a->handlers, &start))
		a->changed = true;
	/* [table + 8 * index], the table in a register: the opcodes', others are of distances */
	if (leaves && insn->mem && insn->base != MC_NO_REG && insn->scale == 8)
		return;
	if (state_join(&a->indirect, state))
		a->changed = true;
}

/* A call of one of the opcodes' functions, which give no register back. state: before it, then
 * behind it. */
static void enter_handlers(struct analysis *a, size_t i, struct flow_state *state)
{
	const struct mc_insn *insn = &a->region->insns[i];
	const struct flow_state start = crossed(state);

	if (!region_calls_opcode(a->region, i))
		return;
	if (insn->flow == MC_FLOW_CALL)
		flow_into(a, region_index(a->region, insn->target), &start);
	else if (state_join(&a->handlers, &start))
		a->changed = true;
	state->regs = 0;
}

static void dispatch(struct analysis *a, size_t i, const struct flow_state *state)
{
	struct region_switch by = region_switch_at(a->region, i);
	size_t to = by.table ? region_switch_entry(a->region, &by, 0) : REGION_NONE;

	if (to == REGION_NONE) {
		dispatch_anywhere(a, i, state);
		return;
	}
	for (unsigned int k = 1; to != REGION_NONE; k++) {
		flow_into(a, to, state);
		to = region_switch_entry(a->region, &by, k);
	}
}

static void sweep(struct analysis *a)
{
	const struct region *region = a->region;

	for (size_t i = 0; i < region->insn_count; i++) {
		const struct mc_insn *insn = &region->insns[i];
		struct flow_state state;

		if (region->marks[i] & REGION_INDIRECT)
			flow_into(a, i,
				  region->tail_calls && region->marks[i] & REGION_START
				      ? &a->handlers
				      : &a->indirect);
		state = a->flow->states[i];
		if (!state.reached)
			continue;
		enter_handlers(a, i, &state);
		state_step(a->flow, insn, &state);
		if (a->origins)
			state.regs |= a->origins->after[i];
		if (insn->flow == MC_FLOW_JCC || insn->flow == MC_FLOW_JMP)
			jump(a, insn, &state);
		else if (is_dispatch(insn))
			dispatch(a, i, &state);
		if (region_goes_on(region, i))
			flow_into(a, region_next(region, i), &state);
	}
}

static void start(struct analysis *a, uint64_t entry, uint16_t regs)
{
	struct flow_state state = {.fp = FLOW_SP_UNKNOWN, .regs = regs, .reached = true};

	flow_into(a, region_index(a->region, entry), &state);
}

/* Returns the registers in which the opcodes' functions take the thread state. */
static uint16_t solve(struct flow *flow, const struct region *region, const uint64_t *entries,
		      size_t entry_count, const struct origins *origins)
{
	struct analysis a = {.flow = flow, .region = region, .origins = origins};

	memset(flow->states, 0, region->insn_count * sizeof(*flow->states));
	for (size_t e = 0; e < entry_count; e++)
		start(&a, entries[e], 1u << MC_RDI);
	for (size_t c = 1; origins && c < region->caller_count; c++)
		start(&a, region->callers[c],
		      origins->entry[region_index(region, region->callers[c])]);
	for (unsigned int round = 0; round < SWEEPS_MAX; round++) {
		a.changed = false;
		sweep(&a);
		if (!a.changed)
			return a.handlers.reached ? a.handlers.regs : 0;
	}
	/* Not settled: nothing may be believed. */
	for (size_t i = 0; i < region->insn_count; i++)
		flow->states[i].reached = false;
	return 0;
}

int flow_analyse(struct flow *flow, const struct region *region, const uint64_t *entries,
		 size_t entry_count)
{
	struct origins origins;
	uint16_t regs;
	int ret = 0;

	memset(flow, 0, sizeof(*flow));
	flow->states = calloc(region->insn_count + 1, sizeof(*flow->states));
	if (!flow->states)
		return -ENOMEM;
	regs = solve(flow, region, entries, entry_count, NULL);
	if (region->caller_count < 2)
		return 0; /* no other than the entry */
	ret = origins_find(&origins, region, regs);
	if (!ret)
		solve(flow, region, entries, entry_count, &origins);
	origins_release(&origins);
	return ret;
}

void flow_release(struct flow *flow)
{
	free(flow->states);
	memset(flow, 0, sizeof(*flow));
}

unsigned int flow_tstate(const struct flow *flow, size_t i, unsigned int preferred,
			 unsigned int *slot)
{
	const struct flow_state *state = &flow->states[i];

	*slot = 0;
	if (!state->reached)
		return PT_TS_NONE;
	if (flow_proves(flow, i, preferred))
		return preferred;
	for (unsigned int reg = 0; reg < 16; reg++)
		if (flow_proves(flow, i, reg))
			return reg;
	for (size_t s = 0; s < flow->slot_count && state->sp != FLOW_SP_UNKNOWN; s++) {
		int32_t distance = flow->slots[s] - state->sp;

		if (!(state->slots >> s & 1) || distance < 0 || (distance & 7) ||
		    distance / 8 > 255)
			continue;
		*slot = (unsigned int)distance / 8;
		return PT_TS_SLOT;
	}
	return PT_TS_NONE;
}
