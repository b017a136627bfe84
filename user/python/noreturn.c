// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * Functions that do not return. Behind a call of one stands unrelated code; taking that for what is
 * run next would make the flow analysis join paths that never meet.
 *
 * A function never returns if neither it nor what it jumps to holds a ret or an indirect jump. What
 * it calls does not matter: if it returned, control would run off the function's end.
 */
#include <string.h>

#include "python/region.h"

#define PARTS_MAX      8 /* ranges that one function may be spread over */
#define STUB_MAX_BYTES 32

struct walk {
	struct eh_range parts[PARTS_MAX];
	size_t part_count;
	const struct eh_ranges *eh;
	struct eh_range now;
};

/* Non-zero: it may return. */
static int may_return(const struct mc_insn *insn, void *ctx)
{
	struct walk *walk = ctx;
	const struct eh_range *to;

	if (insn->flow == MC_FLOW_RET || insn->flow == MC_FLOW_JMP_INDIRECT)
		return 1;
	if ((insn->flow != MC_FLOW_JMP && insn->flow != MC_FLOW_JCC) ||
	    (insn->target >= walk->now.start && insn->target < walk->now.end))
		return 0;
	to = eh_range_at(walk->eh, insn->target);
	if (!to)
		return 1;
	for (size_t i = 0; i < walk->part_count; i++)
		if (walk->parts[i].start == to->start)
			return 0;
	if (walk->part_count == PARTS_MAX)
		return 1;
	walk->parts[walk->part_count++] = *to;
	return 0;
}

/* Imported functions that do not return: C library, LSB; assert() in debug builds. */
static bool is_known_import(const char *name)
{
	static const char *const names[] = {
	    "abort",          "exit",       "_exit",   "__assert_fail", "__stack_chk_fail",
	    "__fortify_fail", "__chk_fail", "longjmp", "__longjmp_chk", "siglongjmp",
	    "pthread_exit",   "quick_exit",
	};

	for (size_t i = 0; name && i < sizeof(names) / sizeof(names[0]); i++)
		if (!strcmp(name, names[i]))
			return true;
	return false;
}

struct stub {
	uint64_t slot; /* the GOT entry that the stub jumps through, or 0 */
};

static int stub_insn(const struct mc_insn *insn, void *ctx)
{
	struct stub *stub = ctx;

	if (insn->flow == MC_FLOW_JMP_INDIRECT && insn->mem && insn->base == MC_RIP &&
	    insn->index == MC_NO_REG)
		stub->slot = insn->vaddr + insn->length + (uint64_t)insn->disp;
	return insn->op != MC_OP_ENDBR;
}

/* The GOT entry that a PLT stub at vaddr jumps through, or 0. */
static uint64_t stub_slot(const struct elf_file *elf, struct mc_decoder *decoder, uint64_t vaddr)
{
	struct eh_range range = {.start = vaddr, .end = vaddr + STUB_MAX_BYTES};
	struct stub stub = {0};

	if (vaddr > UINT64_MAX - STUB_MAX_BYTES)
		return 0;
	region_each_insn(elf, decoder, &range, stub_insn, &stub);
	return stub.slot;
}

const char *function_import_name(const struct elf_file *elf, struct mc_decoder *decoder,
				 uint64_t vaddr)
{
	uint64_t slot = stub_slot(elf, decoder, vaddr);

	return slot ? elf_import_at(elf, slot) : NULL;
}

bool function_never_returns(const struct elf_file *elf, const struct eh_ranges *eh,
			    struct mc_decoder *decoder, uint64_t vaddr)
{
	struct walk walk = {.eh = eh};
	uint64_t slot = stub_slot(elf, decoder, vaddr);
	const struct eh_range *range;

	if (slot) {
		struct elf_symbol symbol;
		const char *name = elf_import_at(elf, slot);

		if (is_known_import(name))
			return true;
		if (!name || !elf_symbol(elf, name, &symbol))
			return false;
		vaddr = symbol.vaddr; /* of this file itself */
	}
	range = eh_range_at(eh, vaddr);
	if (!range || range->start != vaddr)
		return false;
	walk.parts[walk.part_count++] = *range;
	for (size_t i = 0; i < walk.part_count; i++) {
		walk.now = walk.parts[i];
		if (region_each_insn(elf, decoder, &walk.now, may_return, &walk))
			return false;
	}
	return true;
}
