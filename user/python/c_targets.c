// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * What an indirect call in the evaluation loop calls, told by where its target comes from: a type's
 * slot ([type + constant]), the vectorcall pointer inside an object ([object + offset]), or a
 * PyMethodDef's ml_meth, which is reached through the callable. Values are followed through
 * registers and stack slots (values.h); ways that come together must agree.
 */
#include <errno.h>

#include "python/cfunc.h"

#define LOOKS_MAX     100000
#define SOURCES_DEPTH 6 /* joins behind a value that are looked through */

struct look {
	struct c_search *s;
	enum c_target kind;
	unsigned int depth;
	enum c_target (*classify)(struct c_search *s, uint32_t value, unsigned int depth);
};

static int look_source(const struct value_state *state, size_t place, void *ctx)
{
	struct look *look = ctx;
	enum c_target kind = look->classify(look->s, state->held[place], look->depth + 1);

	if (kind == C_TARGET_NONE)
		return 0;
	if (look->kind != C_TARGET_NONE && look->kind != kind)
		kind = C_TARGET_UNKNOWN;
	look->kind = kind;
	return kind == C_TARGET_UNKNOWN;
}

/* A value in which several come together is what they all are. */
static enum c_target of_sources(struct c_search *s, uint32_t value, unsigned int depth,
				enum c_target (*classify)(struct c_search *, uint32_t,
							  unsigned int))
{
	struct look look = {s, C_TARGET_NONE, depth, classify};

	if (!value || depth > SOURCES_DEPTH || s->looks++ > LOOKS_MAX ||
	    value_each_source(&s->values, value, look_source, &look) < 0)
		return C_TARGET_UNKNOWN;
	return look.kind;
}

static const struct mc_insn *maker_of(const struct c_search *s, uint32_t value)
{
	size_t maker = value_maker(&s->values, value);

	return maker == REGION_NONE ? NULL : &s->region.insns[maker];
}

/* What is [value + ML_METH]? */
static enum c_target at_meth(struct c_search *s, uint32_t value, unsigned int depth)
{
	const struct mc_insn *insn = maker_of(s, value);

	if (!insn)
		return of_sources(s, value, depth, at_meth);
	if (c_is_load(insn) && insn->index == MC_NO_REG && insn->base < MC_RIP &&
	    (insn->disp == CFUNCTION_ML || insn->disp == DESCR_METHOD))
		return C_TARGET_ML;
	return c_is_load(insn) ? C_TARGET_OTHER /* a table of slots, such as tp_as_async */
			       : C_TARGET_UNKNOWN;
}

/* What is [value]? */
static enum c_target at_zero(struct c_search *s, uint32_t value, unsigned int depth)
{
	const struct mc_insn *insn = maker_of(s, value);

	if (!insn)
		return of_sources(s, value, depth, at_zero);
	if (insn->op == MC_OP_ADD ||
	    (insn->op == MC_OP_LEA && insn->index != MC_NO_REG && insn->scale == 1))
		return C_TARGET_VECTORCALL;
	return c_is_load(insn) ? C_TARGET_OTHER : C_TARGET_UNKNOWN;
}

/* What does the memory operand of instruction i hold? */
static enum c_target of_memory(struct c_search *s, size_t i, unsigned int depth)
{
	const struct mc_insn *insn = &s->region.insns[i];

	if (insn->base == MC_RIP || insn->base == MC_NO_REG)
		return C_TARGET_OTHER;
	if (insn->index != MC_NO_REG)
		return insn->scale == 1 && !insn->disp ? C_TARGET_VECTORCALL : C_TARGET_OTHER;
	if (insn->base == MC_RSP ||
	    (insn->base == MC_RBP && s->stack.states[i].fp != FLOW_SP_UNKNOWN))
		return C_TARGET_UNKNOWN;
	if (insn->disp == 0)
		return at_zero(s, value_at(&s->values, i, insn->base), depth);
	if (insn->disp == ML_METH)
		return at_meth(s, value_at(&s->values, i, insn->base), depth);
	return C_TARGET_OTHER;
}

static enum c_target of_value(struct c_search *s, uint32_t value, unsigned int depth)
{
	const struct mc_insn *insn = maker_of(s, value);

	if (!insn)
		return of_sources(s, value, depth, of_value);
	if (insn->op == MC_OP_MOV && !insn->mem && insn->has_imm)
		return C_TARGET_OTHER; /* a function by name */
	if (!c_is_load(insn))
		return insn->op == MC_OP_LEA && insn->base == MC_RIP ? C_TARGET_OTHER
								     : C_TARGET_UNKNOWN;
	return of_memory(s, value_maker(&s->values, value), depth);
}

static bool stack_place(int32_t where, int32_t pointer, uint8_t reg, struct c_call *call)
{
	if (pointer == FLOW_SP_UNKNOWN || !PT_C_DISP_FITS(where - pointer))
		return false;
	call->in_stack = true;
	call->callable = reg;
	call->disp = where - pointer;
	return true;
}

static bool holds(const struct c_search *s, size_t i, uint32_t value, struct c_call *call)
{
	const struct flow_state *stack = &s->stack.states[i];

	call->value = value;
	call->in_stack = false;
	call->disp = 0;
	for (unsigned int reg = 0; reg < 16; reg++)
		if (reg != MC_RSP && value && value_at(&s->values, i, reg) == value) {
			call->callable = (uint8_t)reg;
			return true;
		}
	for (size_t slot = 0; slot < s->values.slot_count && value && stack->reached; slot++) {
		int32_t where = value_slot_distance(&s->values, i, slot);

		if (value_at_slot(&s->values, i, slot) == value &&
		    (stack_place(where, stack->sp, MC_RSP, call) ||
		     stack_place(where, stack->fp, MC_RBP, call)))
			return true;
	}
	return false;
}

/* Places that hold the same as another one at the end of each way that comes together. */
struct twins {
	bool differs[VALUES_WIDTH];
};

static int drop_differing(const struct value_state *state, size_t place, void *ctx)
{
	struct twins *twins = ctx;

	for (size_t p = 0; p < VALUES_WIDTH; p++)
		twins->differs[p] |= !state->held[p] || state->held[p] != state->held[place];
	return 0;
}

/* A register, or a stack slot that can be named in a cookie. Where ways came together each place
 * got a value of its own, also if two of them hold the same: the other one will do. */
bool c_find_holder(const struct c_search *s, size_t i, uint32_t value, struct c_call *call)
{
	size_t join = value_join(&s->values, value);
	struct twins twins = {0};

	if (holds(s, i, value, call))
		return true;
	if (join == REGION_NONE || value_each_source(&s->values, value, drop_differing, &twins))
		return false;
	for (size_t p = 0; p < VALUES_WIDTH; p++)
		if (!twins.differs[p] && holds(s, i, s->values.states[join].held[p], call))
			return true;
	return false;
}

/* The loads behind a target: ml_meth from def, def from the callable. */
struct chain {
	uint32_t def, callable;
};

static bool chain_of(const struct c_search *s, size_t target, struct chain *chain)
{
	const struct mc_insn *load;

	if (target == REGION_NONE)
		return false;
	chain->def = value_at(&s->values, target, s->region.insns[target].base);
	load = maker_of(s, chain->def);
	if (!load)
		return false;
	chain->callable = value_at(&s->values, value_maker(&s->values, chain->def), load->base);
	return true;
}

/* 3.14+: the callable with its tag bits, before they were masked off, or 0. */
uint32_t c_tagged(const struct c_search *s, uint32_t callable)
{
	const struct mc_insn *mask = maker_of(s, callable);

	if (!mask || mask->op != MC_OP_AND || !mask->has_imm || mask->reg_bytes != 8 || mask->mem ||
	    (mask->imm != -2 && mask->imm != -4))
		return 0;
	return value_at(&s->values, value_maker(&s->values, callable), mask->reg[0]);
}

/* Ways that came together, each with a target of its own: the registers that hold the callable at
 * the end of all of them. */
struct common {
	const struct c_search *s;
	uint16_t regs;
};

static int narrow(const struct value_state *state, size_t place, void *ctx)
{
	struct common *common = ctx;
	struct chain chain;

	if (!chain_of(common->s, value_maker(&common->s->values, state->held[place]), &chain))
		return -ENOENT;
	for (unsigned int reg = 0; reg < 16; reg++)
		if (reg == MC_RSP || state->held[reg] != chain.callable)
			common->regs &= (uint16_t) ~(1u << reg);
	return 0;
}

static bool find_common(const struct c_search *s, uint32_t target, struct c_call *call)
{
	struct common common = {s, 0xffff};
	size_t join = value_join(&s->values, target);

	if (join == REGION_NONE || value_each_source(&s->values, target, narrow, &common))
		return false;
	for (unsigned int reg = 0; reg < 16; reg++)
		if (common.regs >> reg & 1 &&
		    value_at(&s->values, call->insn, reg) == value_at(&s->values, join, reg)) {
			call->callable = (uint8_t)reg;
			return true;
		}
	return false;
}

/* The call's target, from a register or a stack slot; 0: the call itself loads it. */
static uint32_t target_of(const struct c_search *s, size_t i)
{
	const struct mc_insn *insn = &s->region.insns[i];
	int32_t where;

	if (!insn->mem)
		return value_at(&s->values, i, insn->reg[0]);
	if (flow_slot(insn, &s->stack.states[i], &where))
		for (size_t slot = 0; slot < s->values.slot_count; slot++)
			if (value_slot_distance(&s->values, i, slot) == where)
				return value_at_slot(&s->values, i, slot);
	return 0;
}

bool c_find_callable(const struct c_search *s, size_t i, uint32_t target, size_t load,
		     struct c_call *call)
{
	struct chain chain;

	call->self = PT_C_SELF_RDI;
	if (!chain_of(s, target ? value_maker(&s->values, target) : load, &chain))
		return find_common(s, target, call);
	return c_find_holder(s, i, chain.callable, call) ||
	       c_find_holder(s, i, c_tagged(s, chain.callable), call);
}

enum c_target c_target_of_value(struct c_search *s, uint32_t value)
{
	return of_value(s, value, 0);
}

enum c_target c_target_of_memory(struct c_search *s, size_t i)
{
	return of_memory(s, i, 0);
}

enum c_target c_classify(struct c_search *s, size_t i, struct c_call *call)
{
	uint32_t target = target_of(s, i);
	enum c_target kind;

	*call = (struct c_call){.insn = i, .callable = MC_NO_REG};
	if (target || !s->region.insns[i].mem)
		kind = of_value(s, target, 0);
	else
		kind = of_memory(s, i, 0);
	if (kind == C_TARGET_ML && !c_find_callable(s, i, target, i, call))
		return C_TARGET_UNKNOWN;
	return kind;
}
