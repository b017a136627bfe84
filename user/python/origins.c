// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
#include "python/origins.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/grow.h"

struct point { /* before this instruction the register holds the thread state */
	size_t insn;
	unsigned int reg;
};

struct search {
	struct origins *origins;
	const struct region *region;
	uint16_t *seen; /* by instruction: registers */
	struct point *todo;
	size_t count, room;
};

static int push(struct search *s, size_t insn, unsigned int reg)
{
	struct point *bigger;

	if (s->seen[insn] >> reg & 1)
		return 0;
	s->seen[insn] |= (uint16_t)(1u << reg);
	bigger = pt_grow(s->todo, s->count, &s->room, 256, sizeof(*bigger));
	if (!bigger)
		return -ENOMEM;
	s->todo = bigger;
	s->todo[s->count++] = (struct point){insn, reg};
	return 0;
}

/* The point lies behind this instruction. */
static int step(struct search *s, size_t insn, unsigned int reg)
{
	const struct mc_insn *before = &s->region->insns[insn];

	if (!(before->writes >> reg & 1))
		return push(s, insn, reg);
	s->origins->after[insn] |= (uint16_t)(1u << reg);
	if (before->op == MC_OP_MOV && !before->mem && before->reg_bytes == 8 &&
	    before->reg[0] == reg && before->reg[1] < MC_RIP && before->reg[1] != MC_RSP)
		return push(s, insn, before->reg[1]);
	return 0;
}

/* All ways to come to the point. */
static int follow(struct search *s, struct point point)
{
	const struct region *region = s->region;
	size_t before = region_previous(region, point.insn);
	int ret = 0;

	if (before != REGION_NONE && region_goes_on(region, before))
		ret = step(s, before, point.reg);
	if (region->marks[point.insn] & REGION_TARGET)
		for (size_t i = 0; i < region->insn_count && !ret; i++) {
			const struct mc_insn *insn = &region->insns[i];

			if ((insn->flow != MC_FLOW_JCC && insn->flow != MC_FLOW_JMP) ||
			    insn->target != region->insns[point.insn].vaddr)
				continue;
			ret = step(s, i, point.reg);
		}
	if (region->marks[point.insn] & REGION_START)
		s->origins->entry[point.insn] |= (uint16_t)(1u << point.reg);
	return ret;
}

int origins_find(struct origins *origins, const struct region *region, uint16_t regs)
{
	struct search s = {.origins = origins, .region = region};
	int ret = 0;

	origins->after = calloc(region->insn_count + 1, sizeof(*origins->after));
	origins->entry = calloc(region->insn_count + 1, sizeof(*origins->entry));
	s.seen = calloc(region->insn_count + 1, sizeof(*s.seen));
	if (!origins->after || !origins->entry || !s.seen)
		ret = -ENOMEM;
	for (size_t i = 0; i < region->insn_count && !ret; i++) {
		if (!region_calls_opcode(region, i))
			continue;
		for (unsigned int reg = 0; reg < 16 && !ret; reg++)
			if (regs >> reg & 1)
				ret = push(&s, i, reg);
	}
	while (!ret && s.count)
		ret = follow(&s, s.todo[--s.count]);
	free(s.seen);
	free(s.todo);
	return ret;
}

void origins_release(struct origins *origins)
{
	free(origins->after);
	free(origins->entry);
	memset(origins, 0, sizeof(*origins));
}
