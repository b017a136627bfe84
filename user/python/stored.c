// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * The straight code before the store is gone through with sums in the place of numbers: what the
 * registers, the counter and the limit hold at its start has no known value, but the store is
 * understood if what it changes the counter by is a number, or is what the limit was changed by.
 */
#include "python/stored.h"

#include <string.h>

#define LOOK_BACK  40 /* instructions from the load to the store: at most 17 seen */
#define LOOK_AHEAD 8  /* from there to the store of the limit: none seen, it comes first */
#define TERMS_MAX  4

/* constant + each of these numbers so many times, modulo 2^32 */
struct sum {
	uint32_t constant;
	struct {
		unsigned int number; /* 0: the term is free */
		int32_t times;
	} terms[TERMS_MAX];
};

enum { COUNTER, LIMIT, FIELDS };

struct run {
	const struct region *region;
	const struct flow *flow;
	uint16_t offset;
	unsigned int numbers; /* so many are in use */
	struct sum regs[MC_RIP], fields[FIELDS], limit_by;
	unsigned int limits; /* stores of the limit */
};

static struct sum any(struct run *run)
{
	return (struct sum){.terms = {{++run->numbers, 1}}};
}

static struct sum number(int64_t value)
{
	return (struct sum){.constant = (uint32_t)value};
}

static void term_add(struct run *run, struct sum *sum, unsigned int of, int32_t times)
{
	size_t at = TERMS_MAX;

	for (size_t i = 0; i < TERMS_MAX && (at == TERMS_MAX || sum->terms[at].number != of); i++)
		if (sum->terms[i].number == of || (at == TERMS_MAX && !sum->terms[i].number))
			at = i;
	if (at == TERMS_MAX) {
		*sum = any(run);
		return;
	}
	sum->terms[at].number = of;
	sum->terms[at].times += times;
	if (!sum->terms[at].times)
		sum->terms[at].number = 0;
}

/* a + sign * b */
static struct sum add(struct run *run, struct sum a, const struct sum *b, int32_t sign)
{
	a.constant += (uint32_t)sign * b->constant;
	for (size_t i = 0; i < TERMS_MAX; i++)
		if (b->terms[i].number)
			term_add(run, &a, b->terms[i].number, sign * b->terms[i].times);
	return a;
}

static bool is_number(const struct sum *sum)
{
	for (size_t i = 0; i < TERMS_MAX; i++)
		if (sum->terms[i].number)
			return false;
	return true;
}

/* The field of the thread state that the memory operand is; FIELDS: neither. */
static unsigned int field_of(const struct run *run, size_t i)
{
	const struct mc_insn *insn = &run->region->insns[i];

	if (!insn->mem || insn->index != MC_NO_REG || !flow_proves(run->flow, i, insn->base))
		return FIELDS;
	for (unsigned int f = 0; f < FIELDS; f++)
		if (insn->disp < run->offset + 4 * (int)f + 4 &&
		    insn->disp + (insn->mem_bytes ? insn->mem_bytes : 8) > run->offset + 4 * (int)f)
			return f;
	return FIELDS;
}

/* What the instruction's source operand holds. */
static struct sum source(struct run *run, const struct mc_insn *insn, unsigned int field)
{
	if (insn->has_imm)
		return number(insn->imm);
	if (insn->mem == 2)
		return field < FIELDS && insn->mem_bytes == 4 ? run->fields[field] : any(run);
	return insn->reg[1] < MC_RIP ? run->regs[insn->reg[1]] : any(run);
}

static struct sum address(struct run *run, const struct mc_insn *insn)
{
	struct sum sum = number(insn->disp);

	if (insn->base >= MC_RIP || (insn->index != MC_NO_REG && insn->scale != 1))
		return any(run);
	sum = add(run, sum, &run->regs[insn->base], 1);
	if (insn->index < MC_RIP)
		sum = add(run, sum, &run->regs[insn->index], 1);
	return sum;
}

/* What the instruction makes of its destination. */
static struct sum result(struct run *run, const struct mc_insn *insn, const struct sum *before,
			 unsigned int field)
{
	struct sum by = number(1);

	switch (insn->op) {
	case MC_OP_MOV:
		return source(run, insn, field);
	case MC_OP_LEA:
		return address(run, insn);
	case MC_OP_ADD:
	case MC_OP_SUB:
		by = source(run, insn, field);
		return add(run, *before, &by, insn->op == MC_OP_ADD ? 1 : -1);
	case MC_OP_INC:
	case MC_OP_DEC:
		return add(run, *before, &by, insn->op == MC_OP_INC ? 1 : -1);
	default:
		return any(run);
	}
}

static bool writes_memory(const struct mc_insn *insn)
{
	return insn->mem == 1 && insn->op != MC_OP_CMP && insn->op != MC_OP_TEST &&
	       insn->op != MC_OP_LEA;
}

static void field_set(struct run *run, unsigned int field, const struct sum *value)
{
	if (field == LIMIT) {
		run->limits++;
		run->limit_by = add(run, *value, &run->fields[LIMIT], -1);
	}
	run->fields[field] = *value;
}

static void step(struct run *run, size_t i)
{
	const struct mc_insn *insn = &run->region->insns[i];
	unsigned int field = field_of(run, i), to = insn->reg[0];
	struct sum value;

	if (writes_memory(insn)) {
		if (field == FIELDS)
			return;
		value = insn->mem_bytes == 4 && insn->disp == run->offset + 4 * (int)field
			    ? result(run, insn, &run->fields[field], field)
			    : any(run);
		field_set(run, field, &value);
		return;
	}
	if (to < MC_RIP && insn->reg_bytes >= 4 && insn->writes == 1u << to) {
		if (insn->mem_bytes && insn->mem_bytes != 4 && insn->op != MC_OP_LEA)
			field = FIELDS;
		run->regs[to] = result(run, insn, &run->regs[to], field);
		return;
	}
	for (unsigned int reg = 0; reg < MC_RIP; reg++)
		if (insn->writes >> reg & 1)
			run->regs[reg] = any(run);
}

/* Does control come to instruction i from the one before only, and straight? */
static bool is_straight(const struct region *region, size_t i)
{
	size_t before = region_previous(region, i);

	return !(region->marks[i] & (REGION_TARGET | REGION_INDIRECT | REGION_START)) &&
	       before != REGION_NONE &&
	       (region->insns[before].flow == MC_FLOW_NEXT ||
		region->insns[before].flow == MC_FLOW_JCC);
}

/* Behind the store, until the limit is stored. */
static void run_on(struct run *run, size_t i)
{
	for (unsigned int n = 0; n < LOOK_AHEAD && !run->limits; n++) {
		if (run->region->insns[i].flow != MC_FLOW_NEXT)
			return;
		i = region_next(run->region, i);
		if (i == REGION_NONE || !is_straight(run->region, i) ||
		    (field_of(run, i) == COUNTER && writes_memory(&run->region->insns[i])))
			return;
		step(run, i);
	}
}

enum stored stored_find(const struct region *region, const struct flow *flow, size_t store,
			uint16_t offset, int32_t *by)
{
	struct run run = {.region = region, .flow = flow, .offset = offset};
	struct sum change;
	size_t i = store;

	for (unsigned int n = 0; n < LOOK_BACK && is_straight(region, i); n++)
		i = region_previous(region, i);
	for (unsigned int reg = 0; reg < MC_RIP; reg++)
		run.regs[reg] = any(&run);
	for (unsigned int f = 0; f < FIELDS; f++)
		run.fields[f] = any(&run);
	for (; i != store; i = region_next(region, i)) {
		if (region->insns[i].flow != MC_FLOW_NEXT && run.limits)
			return STORED_UNKNOWN; /* the limit alone was changed */
		step(&run, i);
	}
	change = run.regs[region->insns[store].reg[1]];
	change = add(&run, change, &run.fields[COUNTER], -1);
	if (is_number(&change)) {
		*by = (int32_t)change.constant;
		return run.limits ? STORED_UNKNOWN : STORED_COUNTS;
	}
	step(&run, store);
	run_on(&run, store);
	change = add(&run, change, &run.limit_by, -1);
	return run.limits == 1 && is_number(&change) && !change.constant ? STORED_LIMIT
									 : STORED_UNKNOWN;
}
