// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * Indirect calls that the compiler, or BOLT, made direct ones for the function that a profile has
 * seen there most: "cmp target, function; jne other; call function". The comparison says what is
 * called: what is compared with the address of code is what the indirect call would call. If it is
 * a C function's and no direct call of it follows, it was put in place, and would be missed.
 */
#include "python/cfunc.h"

#define BRANCH_STEPS 4  /* instructions from a comparison to its branch; 0 seen */
#define CALL_STEPS   24 /* .. and from the branch to the call; 0 seen */

/* The address that a value is, if it is a constant, or 0. */
static uint64_t address_of(const struct c_search *s, uint32_t value)
{
	size_t maker = value_maker(&s->values, value);
	const struct mc_insn *insn;

	if (maker == REGION_NONE)
		return 0;
	insn = &s->region.insns[maker];
	if (insn->op == MC_OP_LEA && insn->base == MC_RIP && insn->index == MC_NO_REG)
		return insn->vaddr + insn->length + (uint64_t)insn->disp;
	return insn->op == MC_OP_MOV && !insn->mem && insn->has_imm ? (uint64_t)insn->imm : 0;
}

/* The function that comparison i is with; 0: it is none with the address of code. *target: the
 * value that is compared; 0: what is in memory there. */
static uint64_t compared_with(const struct c_search *s, size_t i, uint32_t *target)
{
	const struct mc_insn *insn = &s->region.insns[i];
	uint32_t values[2] = {value_at(&s->values, i, insn->reg[0]),
			      value_at(&s->values, i, insn->reg[1])};
	uint64_t function = (uint64_t)insn->imm;

	if (insn->op != MC_OP_CMP || (insn->mem ? insn->mem_bytes : insn->reg_bytes) != 8)
		return 0;
	*target = insn->mem ? 0 : values[0];
	if (!insn->has_imm)
		function = address_of(s, insn->mem ? values[insn->mem == 1] : values[1]);
	if (!insn->has_imm && !insn->mem && !function) {
		*target = values[1];
		function = address_of(s, values[0]);
	}
	return function && elf_is_code(s->finder->elf, function) ? function : 0;
}

/* The way on which the two that instruction i compares are equal. */
static size_t equal_way(const struct region *region, size_t i)
{
	for (unsigned int n = 0; n < BRANCH_STEPS; n++) {
		const struct mc_insn *insn;

		i = region_next(region, i);
		if (i == REGION_NONE)
			break;
		insn = &region->insns[i];
		if (insn->flow == MC_FLOW_JCC)
			return insn->cc == MC_CC_E    ? region_index(region, insn->target)
			       : insn->cc == MC_CC_NE ? region_next(region, i)
						      : REGION_NONE;
		if (insn->op != MC_OP_MOV && insn->op != MC_OP_LEA)
			break;
	}
	return REGION_NONE;
}

static size_t call_behind(const struct region *region, size_t i, uint64_t function)
{
	for (unsigned int n = 0; n < CALL_STEPS && i != REGION_NONE; n++) {
		const struct mc_insn *insn = &region->insns[i];

		if (insn->flow == MC_FLOW_CALL && insn->target == function)
			return i;
		if (insn->flow == MC_FLOW_JMP)
			i = region_index(region, insn->target);
		else if (insn->flow == MC_FLOW_NEXT)
			i = region_next(region, i);
		else
			break;
	}
	return REGION_NONE;
}

enum c_target c_promoted(struct c_search *s, size_t i, struct c_call *call)
{
	uint32_t target = 0;
	uint64_t function = compared_with(s, i, &target);
	enum c_target kind;

	*call = (struct c_call){.insn = i, .callable = MC_NO_REG};
	if (!function)
		return C_TARGET_OTHER;
	kind = target ? c_target_of_value(s, target) : c_target_of_memory(s, i);
	if (kind != C_TARGET_VECTORCALL && kind != C_TARGET_ML)
		return C_TARGET_OTHER; /* also what is not known: no indirect call goes there */
	call->insn = call_behind(&s->region, equal_way(&s->region, i), function);
	if (call->insn == REGION_NONE) {
		call->insn = i;
		return C_TARGET_UNKNOWN;
	}
	return kind == C_TARGET_ML && !c_find_callable(s, call->insn, target, i, call)
		   ? C_TARGET_UNKNOWN
		   : kind;
}
