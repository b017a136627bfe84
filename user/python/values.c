// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * Values are numbers: 1 + i for what instruction i put into its first operand; above those, for
 * each instruction and each place, what came together there ("joined"); above those, what
 * instruction i left in some other register ("left"), about which nothing is known.
 */
#include "python/values.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define INSNS_MAX   120000 /* four times the largest loop seen; a hostile file gets no further */
#define SWEEPS_MAX  64
/* After so many, what came together once counts as joined for good: true as well, if less exact */
#define SWEEPS_FREE 12

static uint32_t made(size_t i)
{
	return (uint32_t)(1 + i);
}

static uint32_t joined(const struct values *values, size_t i, size_t place)
{
	return (uint32_t)(1 + values->region->insn_count + i * VALUES_WIDTH + place);
}

static uint32_t left(const struct values *values, size_t i, size_t place)
{
	return (uint32_t)(1 + values->region->insn_count * (1 + VALUES_WIDTH) + i * VALUES_WIDTH +
			  place);
}

/* ---- stack slots ---- */

#define SLOT_REACH 65536 /* bytes from the stack pointer at the function's start */

static bool stack_distance(const struct values *values, size_t i, int32_t *slot)
{
	const struct mc_insn *insn = &values->region->insns[i];
	const struct flow_state *state = &values->flow->states[i];
	int32_t base;

	if (!insn->mem || insn->index != MC_NO_REG || !state->reached || insn->disp > INT16_MAX ||
	    insn->disp < INT16_MIN)
		return false;
	base = insn->base == MC_RSP   ? state->sp
	       : insn->base == MC_RBP ? state->fp
				      : FLOW_SP_UNKNOWN;
	if (base == FLOW_SP_UNKNOWN)
		return false;
	*slot = base + (int32_t)insn->disp;
	return *slot > -SLOT_REACH && *slot < SLOT_REACH;
}

/* Functions have slots of their own at the same distances. */
static int32_t slot_name(const struct values *values, size_t i, int32_t slot)
{
	return slot + 2 * SLOT_REACH * values->owner[i];
}

static bool stack_operand(const struct values *values, size_t i, int32_t *slot)
{
	if (!stack_distance(values, i, slot))
		return false;
	*slot = slot_name(values, i, *slot);
	return true;
}

static size_t slot_place(const struct values *values, int32_t slot)
{
	for (size_t s = 0; s < values->slot_count; s++)
		if (values->slots[s] == slot)
			return 16 + s;
	return REGION_NONE;
}

static bool is_spill(const struct mc_insn *insn)
{
	return insn->op == MC_OP_MOV && insn->mem == 1 && insn->mem_bytes == 8 &&
	       insn->reg[1] < MC_RIP;
}

/* Slots that registers are stored to; one whose address is taken may change behind our back. */
static void slots_collect(struct values *values)
{
	const struct region *region = values->region;
	int32_t slot;

	for (size_t i = 0; i < region->insn_count; i++)
		if (values->marked[i] && is_spill(&region->insns[i]) &&
		    stack_operand(values, i, &slot) && slot_place(values, slot) == REGION_NONE &&
		    values->slot_count < VALUES_SLOTS_MAX)
			values->slots[values->slot_count++] = slot;
	for (size_t i = 0; i < region->insn_count; i++) {
		size_t place;

		if (!values->marked[i] || region->insns[i].op != MC_OP_LEA ||
		    !stack_operand(values, i, &slot))
			continue;
		place = slot_place(values, slot);
		if (place != REGION_NONE)
			values->slots[place - 16] = INT32_MIN;
	}
}

/* ---- one instruction ---- */

static void forget_slots(const struct values *values, size_t i, int32_t slot, int32_t bytes,
			 struct value_state *state)
{
	for (size_t s = 0; s < values->slot_count; s++)
		if (values->slots[s] != INT32_MIN && slot < values->slots[s] + 8 &&
		    values->slots[s] < slot + bytes)
			state->held[16 + s] = left(values, i, 16 + s);
}

static void store_step(const struct values *values, size_t i, const struct value_state *before,
		       struct value_state *state)
{
	const struct mc_insn *insn = &values->region->insns[i];
	size_t place;
	int32_t slot;

	if (insn->stack_bytes < 0 && values->flow->states[i].reached &&
	    values->flow->states[i].sp != FLOW_SP_UNKNOWN)
		forget_slots(values, i, slot_name(values, i, values->flow->states[i].sp - 8), 8,
			     state);
	if (insn->mem != 1 || insn->op == MC_OP_CMP || insn->op == MC_OP_TEST ||
	    insn->flow != MC_FLOW_NEXT || !stack_operand(values, i, &slot))
		return;
	forget_slots(values, i, slot, insn->mem_bytes ? insn->mem_bytes : 8, state);
	place = slot_place(values, slot);
	if (is_spill(insn) && place != REGION_NONE)
		state->held[place] = before->held[insn->reg[1]];
}

/* What the instruction's first operand holds afterwards. */
static uint32_t result_of(const struct values *values, size_t i, const struct value_state *before)
{
	const struct mc_insn *insn = &values->region->insns[i];
	size_t place;
	int32_t slot;

	if (insn->op != MC_OP_MOV || insn->reg_bytes != 8)
		return made(i);
	if (!insn->mem && insn->reg[1] < MC_RIP)
		return before->held[insn->reg[1]];
	if (insn->mem == 2 && insn->mem_bytes == 8 && stack_operand(values, i, &slot)) {
		place = slot_place(values, slot);
		if (place != REGION_NONE && before->held[place])
			return before->held[place];
	}
	return made(i);
}

static void step(const struct values *values, size_t i, struct value_state *state)
{
	const struct mc_insn *insn = &values->region->insns[i];
	const struct value_state before = *state;
	uint32_t result;

	store_step(values, i, &before, state);
	for (unsigned int reg = 0; reg < 16; reg++)
		if (insn->writes >> reg & 1)
			state->held[reg] = left(values, i, reg);
	if (insn->flow != MC_FLOW_NEXT || insn->reg[0] >= MC_RIP ||
	    !(insn->writes >> insn->reg[0] & 1) || insn->op == MC_OP_XCHG)
		return;
	result = result_of(values, i, &before);
	/* what it made the last time is another value */
	for (size_t place = 0; result == made(i) && place < VALUES_WIDTH; place++)
		if (state->held[place] == result)
			state->held[place] = left(values, i, place);
	state->held[insn->reg[0]] = result;
}

/* ---- all of them ---- */

static int edge_compare(const void *a, const void *b)
{
	const struct value_edge *x = a, *y = b;

	if (x->target != y->target)
		return x->target < y->target ? -1 : 1;
	return x->from < y->from ? -1 : x->from > y->from;
}

static void edges_build(struct values *values)
{
	for (size_t i = 0; i < values->region->insn_count; i++) {
		const struct mc_insn *insn = &values->region->insns[i];

		if (insn->flow == MC_FLOW_JCC || insn->flow == MC_FLOW_JMP)
			values->edges[values->edge_count++] = (struct value_edge){insn->target, i};
	}
	qsort(values->edges, values->edge_count, sizeof(*values->edges), edge_compare);
}

static size_t first_edge(const struct values *values, uint64_t target)
{
	size_t low = 0, high = values->edge_count;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (values->edges[mid].target < target)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

void value_jumps(const struct values *values, size_t i, size_t *first, size_t *last)
{
	uint64_t vaddr = values->region->insns[i].vaddr;

	*first = SIZE_MAX;
	*last = 0;
	for (size_t e = first_edge(values, vaddr);
	     e < values->edge_count && values->edges[e].target == vaddr; e++) {
		if (values->edges[e].from < *first)
			*first = values->edges[e].from;
		if (values->edges[e].from > *last)
			*last = values->edges[e].from;
	}
}

/* Calls fn for each instruction that control may come from; non-zero ends it. */
static int each_source(const struct values *values, size_t i, int (*fn)(size_t from, void *ctx),
		       void *ctx)
{
	size_t previous = region_previous(values->region, i);
	uint64_t vaddr = values->region->insns[i].vaddr;
	int rc = 0;

	if (previous != REGION_NONE && region_goes_on(values->region, previous))
		rc = fn(previous, ctx);
	for (size_t e = first_edge(values, vaddr);
	     !rc && e < values->edge_count && values->edges[e].target == vaddr; e++)
		rc = fn(values->edges[e].from, ctx);
	return rc;
}

struct join {
	const struct values *values;
	size_t at;
	struct value_state state;
	bool unknown; /* comes from where nothing is known, too */
};

static int join_source(size_t from, void *ctx)
{
	struct join *join = ctx;
	struct value_state state;

	state = join->values->states[from];
	if (!state.held[MC_RSP])
		return 0; /* not reached yet */
	step(join->values, from, &state);
	for (size_t place = 0; place < VALUES_WIDTH; place++) {
		uint32_t *held = &join->state.held[place];

		/* round a loop and back: what comes from elsewhere decides */
		if (state.held[place] == joined(join->values, join->at, place))
			continue;
		if (!*held)
			*held = state.held[place];
		else if (*held != state.held[place])
			*held = joined(join->values, join->at, place);
	}
	return 0;
}

/* Can control come from where nobody looks? The start of a range may be a function's, or that of a
 * part which the compiler moved away and which is only jumped to. */
static bool is_entry(const struct values *values, size_t i)
{
	if (values->region->marks[i] & REGION_INDIRECT)
		return true;
	if (!(values->region->marks[i] & REGION_START))
		return false;
	for (size_t e = 0; e < values->entry_count; e++)
		if (values->entries[e] == values->region->insns[i].vaddr)
			return true;
	return !(values->region->marks[i] & REGION_TARGET);
}

static bool sweep(struct values *values, bool settle)
{
	bool changed = false;

	for (size_t i = 0; i < values->region->insn_count; i++) {
		struct join join = {.values = values, .at = i};

		if (is_entry(values, i))
			join.unknown = true;
		else
			each_source(values, i, join_source, &join);
		for (size_t place = 0; place < VALUES_WIDTH; place++) {
			uint32_t *held = &values->states[i].held[place];
			uint32_t own = joined(values, i, place);
			uint32_t now = join.unknown ? own : join.state.held[place];

			if (*held == now || (settle && *held == own))
				continue;
			*held = now;
			changed = true;
		}
	}
	return changed;
}

int values_analyse(struct values *values, const struct region *region, const struct flow *flow,
		   const uint8_t *marked, const uint8_t *owner, const uint64_t *entries,
		   size_t entry_count)
{
	memset(values, 0, sizeof(*values));
	values->region = region;
	values->flow = flow;
	values->marked = marked;
	values->owner = owner;
	values->entries = entries;
	values->entry_count = entry_count;
	if (region->insn_count > INSNS_MAX)
		return -ENOTSUP;
	values->edges = calloc(region->insn_count + 1, sizeof(*values->edges));
	values->states = calloc(region->insn_count + 1, sizeof(*values->states));
	if (!values->edges || !values->states)
		return -ENOMEM;
	slots_collect(values);
	edges_build(values);
	for (int round = 0; round < SWEEPS_MAX; round++)
		if (!sweep(values, round >= SWEEPS_FREE))
			return 0;
	return -ENOTSUP;
}

void values_release(struct values *values)
{
	free(values->edges);
	free(values->states);
	memset(values, 0, sizeof(*values));
}

uint32_t value_at(const struct values *values, size_t i, unsigned int reg)
{
	return reg < 16 ? values->states[i].held[reg] : 0;
}

uint32_t value_at_slot(const struct values *values, size_t i, size_t slot)
{
	return values->slots[slot] != INT32_MIN ? values->states[i].held[16 + slot] : 0;
}

int32_t value_slot_distance(const struct values *values, size_t i, size_t slot)
{
	return values->slots[slot] - slot_name(values, i, 0);
}

size_t value_maker(const struct values *values, uint32_t value)
{
	return value && value <= values->region->insn_count ? value - 1 : REGION_NONE;
}

struct sources {
	const struct values *values;
	size_t place;
	int (*fn)(const struct value_state *state, size_t place, void *ctx);
	void *ctx;
};

static int give_source(size_t from, void *ctx)
{
	struct sources *sources = ctx;
	struct value_state state = sources->values->states[from];

	if (!state.held[MC_RSP])
		return 0;
	step(sources->values, from, &state);
	return sources->fn(&state, sources->place, sources->ctx);
}

size_t value_join(const struct values *values, uint32_t value)
{
	size_t count = values->region->insn_count, index = value - 1 - count;

	if (value <= count || index >= count * VALUES_WIDTH ||
	    is_entry(values, index / VALUES_WIDTH))
		return REGION_NONE;
	return index / VALUES_WIDTH;
}

int value_each_source(const struct values *values, uint32_t value,
		      int (*fn)(const struct value_state *state, size_t place, void *ctx),
		      void *ctx)
{
	size_t join = value_join(values, value);
	struct sources sources = {values, 0, fn, ctx};

	if (join == REGION_NONE)
		return -ENOENT;
	sources.place = (value - 1 - values->region->insn_count) % VALUES_WIDTH;
	return each_source(values, join, give_source, &sources);
}
