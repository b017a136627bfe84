/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * flow.h - in which registers and stack slots the thread state lies, at each instruction.
 *
 * A forward "must" analysis over a region: the thread state is the evaluation function's first
 * argument, and it is followed through moves, spills and reloads. What is not proven is not used:
 * a probe never reads a register that might hold something else.
 *
 * Life cycle: flow_analyse() -> use -> flow_release(). Borrows the region.
 */
#ifndef PT_PYTHON_FLOW_H
#define PT_PYTHON_FLOW_H

#include "python/region.h"

#define FLOW_SP_UNKNOWN INT32_MIN

#define FLOW_SLOTS_MAX 64

struct flow_state {     /* before the instruction */
	uint64_t slots; /* set of 1 << index in flow.slots that hold the thread state */
	int32_t sp;     /* rsp minus its value at the function's entry, or FLOW_SP_UNKNOWN */
	int32_t fp;     /* rbp likewise, where it is a frame pointer; else FLOW_SP_UNKNOWN */
	uint16_t regs;  /* set of registers that hold the thread state */
	bool reached;   /* some path leads here */
};

struct flow {
	struct flow_state *states; /* one for each instruction of the region */
	/* stack slots that hold the thread state somewhere, relative to rsp at entry */
	int32_t slots[FLOW_SLOTS_MAX];
	size_t slot_count;
};

/* The region's tables must have been found. entry and helpers: addresses where rdi holds the thread
 * state. -ENOMEM. */
int flow_analyse(struct flow *flow, const struct region *region, const uint64_t *entries,
		 size_t entry_count);
void flow_release(struct flow *flow);

/* Where a probe at instruction i finds the thread state: a register (prefers the given one) or
 * PT_TS_SLOT with *slot set, or PT_TS_NONE. */
unsigned int flow_tstate(const struct flow *flow, size_t i, unsigned int preferred,
			 unsigned int *slot);
/* The stack slot that the instruction's memory operand names, relative to rsp at entry; false: it
 * names none, or which is not known. state: before the instruction. */
bool flow_slot(const struct mc_insn *insn, const struct flow_state *state, int32_t *slot);
static inline bool flow_proves(const struct flow *flow, size_t i, unsigned int reg)
{
	return reg < 16 && flow->states[i].reached && (flow->states[i].regs >> reg & 1);
}

#endif
