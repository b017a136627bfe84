/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * values.h - which registers and stack slots hold the same value, in a region.
 *
 * Each instruction that loads or computes something makes a value; copies between registers, and
 * through stack slots, keep it; where ways with different values meet, a new one comes into being.
 * So two places that hold the same number hold the same 64 bits, whatever happened in between.
 *
 * Life cycle: values_analyse() -> use -> values_release(). Borrows all that it is given.
 */
#ifndef PT_PYTHON_VALUES_H
#define PT_PYTHON_VALUES_H

#include "python/flow.h"

#define VALUES_SLOTS_MAX 96
#define VALUES_WIDTH     (16 + VALUES_SLOTS_MAX)

struct value_edge { /* a direct jump */
	uint64_t target;
	size_t from;
};

struct value_state { /* before the instruction; 0: not known yet */
	uint32_t held[VALUES_WIDTH];
};

struct values {
	const struct region *region;
	const struct flow *flow;
	const uint8_t *marked;   /* for each instruction: its stack slots matter */
	const uint8_t *owner;    /* likewise: the number of the function that it belongs to */
	const uint64_t *entries; /* where functions start */
	size_t entry_count;
	struct value_edge *edges;
	size_t edge_count;
	struct value_state *states; /* one for each instruction of the region */
	int32_t slots[VALUES_SLOTS_MAX];
	size_t slot_count;
};

/* -ENOMEM; -ENOTSUP: it did not settle. */
int values_analyse(struct values *values, const struct region *region, const struct flow *flow,
		   const uint8_t *marked, const uint8_t *owner, const uint64_t *entries,
		   size_t entry_count);
void values_release(struct values *values);

/* The value that the register holds before instruction i. */
uint32_t value_at(const struct values *values, size_t i, unsigned int reg);
uint32_t value_at_slot(const struct values *values, size_t i, size_t slot);
/* Of a slot of the function that instruction i belongs to: relative to rsp at its entry. */
int32_t value_slot_distance(const struct values *values, size_t i, size_t slot);
/* The instruction that made the value, or REGION_NONE. */
size_t value_maker(const struct values *values, uint32_t value);
/* The instruction where ways came together and made the value, or REGION_NONE. */
size_t value_join(const struct values *values, uint32_t value);
/* For such a value: calls fn for each of the ways, with what is held at its end; the value lies in
 * held[place]. Non-zero from fn ends it and is returned; -ENOENT: it is not such a value. */
int value_each_source(const struct values *values, uint32_t value,
		      int (*fn)(const struct value_state *state, size_t place, void *ctx),
		      void *ctx);
/* The first and the last direct jump to instruction i, by index; SIZE_MAX and 0 if there is none.
 */
void value_jumps(const struct values *values, size_t i, size_t *first, size_t *last);

#endif
