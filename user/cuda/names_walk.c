// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * Follows constants (addresses of code, variables and texts) through the registers of a function,
 * in the order of its bytes. What several paths lead to starts with nothing known, so a value that
 * is known at a call is known whichever way the program came there.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/grow.h"
#include "cuda/names_parts.h"

#define FUNCTION_MAX_BYTES (1u << 20)
#define WINDOW_OVERLAP     128u /* bytes; no pattern is longer */

int kn_walk_init(struct kn_walk *walk, const struct elf_file *elf, const struct eh_ranges *eh,
		 const atomic_bool *stop)
{
	*walk = (struct kn_walk){.elf = elf, .eh = eh, .stop = stop};
	/* Few functions are decoded, at most three times; but .eh_frame may lie. */
	walk->budget_bytes = 4 * elf->size;
	walk->joined = malloc(FUNCTION_MAX_BYTES / 8);
	if (!walk->joined || mc_decoder_open(&walk->decoder)) {
		kn_walk_release(walk);
		return -ENOMEM;
	}
	return 0;
}

void kn_walk_release(struct kn_walk *walk)
{
	mc_decoder_close(walk->decoder);
	free(walk->insns);
	free(walk->joined);
	free(walk->used);
	memset(walk, 0, sizeof(*walk));
}

int kn_walk_uses(struct kn_walk *walk, const struct eh_range *function)
{
	struct eh_range *bigger;

	if (walk->used_count && walk->used[walk->used_count - 1].start == function->start)
		return 0;
	bigger = pt_grow(walk->used, walk->used_count, &walk->used_room, 1024, sizeof(*bigger));
	if (!bigger)
		return -ENOMEM;
	walk->used = bigger;
	walk->used[walk->used_count++] = *function;
	return 0;
}

bool kn_reg(const struct kn_regs *regs, enum mc_reg reg, uint64_t *value)
{
	if (!(regs->known & 1u << reg))
		return false;
	*value = regs->value[reg];
	return true;
}

bool kn_is_code(const struct elf_file *elf, uint64_t vaddr)
{
	for (size_t i = 0; i < elf->section_count; i++) {
		const struct elf_section *s = &elf->sections[i];

		if ((s->flags & SHF_EXECINSTR) && vaddr >= s->vaddr && vaddr - s->vaddr < s->size)
			return true;
	}
	return false;
}

bool kn_section_is_code(const struct elf_section *section)
{
	return section->flags & SHF_EXECINSTR;
}

int kn_each_window(const struct elf_file *elf, const atomic_bool *stop,
		   bool (*wanted)(const struct elf_section *section), kn_window_fn fn, void *ctx)
{
	uint64_t total = 0;

	for (size_t i = 0; i < elf->section_count; i++) {
		const struct elf_section *s = &elf->sections[i];

		if (s->type == SHT_NOBITS || !wanted(s))
			continue;
		total += s->size;
		if (total > elf->size)
			return -E2BIG; /* they overlap */
		for (uint64_t at = 0; at < s->size; at += KN_WINDOW_BYTES) {
			uint64_t rest = s->size - at;
			size_t size = rest < KN_WINDOW_BYTES + WINDOW_OVERLAP
					  ? (size_t)rest
					  : KN_WINDOW_BYTES + WINDOW_OVERLAP;
			const uint8_t *bytes;

			if (stop && atomic_load(stop))
				return -ECANCELED;
			elf_trim(elf, KN_RESIDENT_BYTES);
			bytes = elf_at_vaddr(elf, s->vaddr + at, size);
			if (!bytes)
				return -EIO; /* shorter than its headers say */
			fn(ctx, bytes, size, s->vaddr + at);
		}
	}
	return 0;
}

static void set(struct kn_regs *regs, uint8_t reg, uint64_t value)
{
	regs->known |= (uint16_t)(1u << reg);
	regs->value[reg] = value;
}

/* -1 as compilers write it when bytes count: "or $-1, %r8d", and "pop %r8" behind "push $-1". */
static bool is_minus_one(const uint8_t *bytes, const struct mc_insn *insn,
			 const struct mc_insn *before)
{
	static const uint8_t or_r8d[] = {0x41, 0x83, 0xc8, 0xff},
			     or_r8[] = {0x49, 0x83, 0xc8, 0xff};
	static const uint8_t push[] = {0x6a, 0xff}, pop[] = {0x41, 0x58};

	if (insn->length == 4)
		return !memcmp(bytes, or_r8d, 4) || !memcmp(bytes, or_r8, 4);
	return before && insn->length == 2 && before->length == 2 && !memcmp(bytes, pop, 2) &&
	       !memcmp(bytes - 2, push, 2);
}

static void move(const struct kn_walk *walk, const struct mc_insn *insn, struct kn_regs *regs)
{
	uint64_t value, at = insn->vaddr + insn->length + (uint64_t)insn->disp;
	uint64_t mask = insn->reg_bytes == 4 ? UINT32_MAX : UINT64_MAX;
	uint8_t to = insn->reg[0], from = insn->reg[1];

	if (to >= MC_RIP || insn->reg_bytes < 4 || insn->mem == 1) {
		regs->known &= (uint16_t)~insn->writes;
		return;
	}
	if (insn->op == MC_OP_LEA && insn->base == MC_RIP && insn->index == MC_NO_REG)
		set(regs, to, at & mask);
	else if (insn->op == MC_OP_LEA)
		regs->known &= (uint16_t)~insn->writes;
	else if (insn->has_imm)
		set(regs, to, (uint64_t)insn->imm & mask);
	else if (!insn->mem && from < MC_RIP && kn_reg(regs, (enum mc_reg)from, &value))
		set(regs, to, value & mask);
	else if (insn->mem == 2 && insn->mem_bytes == 8 && insn->base == MC_RIP &&
		 insn->index == MC_NO_REG && !elf_read_ptr(walk->elf, at, &value))
		set(regs, to, value); /* from the global offset table */
	else
		regs->known &= (uint16_t)~insn->writes;
}

static void step(const struct kn_walk *walk, const uint8_t *bytes, const struct mc_insn *insn,
		 const struct mc_insn *before, struct kn_regs *regs)
{
	if (insn->op == MC_OP_MOV || insn->op == MC_OP_LEA) {
		move(walk, insn, regs);
		return;
	}
	regs->known &= (uint16_t)~insn->writes;
	if (is_minus_one(bytes, insn, before))
		set(regs, MC_R8, UINT32_MAX);
	if (insn->flow == MC_FLOW_JMP || insn->flow == MC_FLOW_JMP_INDIRECT ||
	    insn->flow == MC_FLOW_RET || insn->flow == MC_FLOW_STOP)
		regs->known = 0;
}

/* Where an instruction goes to if that is outside of the function. */
static bool leaves(const struct mc_insn *insn, const struct eh_range *function,
		   struct kn_target *target)
{
	switch ((enum mc_flow)insn->flow) {
	case MC_FLOW_CALL:
	case MC_FLOW_JMP:
	case MC_FLOW_JCC:
		*target = (struct kn_target){insn->target, false};
		return insn->target < function->start || insn->target >= function->end ||
		       insn->flow == MC_FLOW_CALL;
	case MC_FLOW_CALL_INDIRECT:
	case MC_FLOW_JMP_INDIRECT:
		if (!insn->mem || insn->base != MC_RIP || insn->index != MC_NO_REG)
			return false;
		*target = (struct kn_target){insn->vaddr + insn->length + (uint64_t)insn->disp,
					     true};
		return true;
	case MC_FLOW_NEXT:
	case MC_FLOW_RET:
	case MC_FLOW_STOP:
		break;
	}
	return false;
}

/* Decodes the whole function; returns the number of instructions, or -ENOMEM. */
static ssize_t decode(struct kn_walk *walk, const uint8_t *bytes, const struct eh_range *function)
{
	size_t size = function->end - function->start, count = 0;

	memset(walk->joined, 0, size / 8 + 1);
	for (size_t at = 0; at < size;) {
		struct mc_insn *insn = pt_grow(walk->insns, count, &walk->insn_room, 1024,
					       sizeof(*insn));

		if (!insn)
			return -ENOMEM;
		walk->insns = insn;
		insn = &walk->insns[count];
		if (mc_decode(walk->decoder, bytes + at, size - at, function->start + at, insn)) {
			/* Data, or newer than capstone: whatever follows starts anew. */
			at++;
			if (at < size)
				walk->joined[at / 8] |= (uint8_t)(1u << at % 8);
			continue;
		}
		count++;
		at += insn->length;
		if ((insn->flow == MC_FLOW_JCC || insn->flow == MC_FLOW_JMP) &&
		    insn->target >= function->start && insn->target < function->end) {
			size_t to = insn->target - function->start;

			walk->joined[to / 8] |= (uint8_t)(1u << to % 8);
		}
	}
	return (ssize_t)count;
}

int kn_walk_function(struct kn_walk *walk, const struct eh_range *function, kn_leave_fn fn,
		     void *ctx)
{
	uint64_t size = function->end - function->start;
	struct kn_regs regs = {0};
	const uint8_t *bytes;
	ssize_t count;
	int rc = 0;

	if (walk->stop && atomic_load_explicit(walk->stop, memory_order_relaxed))
		return -ECANCELED;
	if (size >= FUNCTION_MAX_BYTES)
		return 0;
	if (size > walk->budget_bytes)
		return -E2BIG;
	walk->budget_bytes -= size;
	elf_trim(walk->elf, KN_RESIDENT_BYTES);
	bytes = elf_at_vaddr(walk->elf, function->start, size);
	if (!bytes)
		return 0;
	count = decode(walk, bytes, function);
	if (count < 0)
		return (int)count;
	for (ssize_t i = 0; i < count && !rc; i++) {
		const struct mc_insn *insn = &walk->insns[i];
		uint64_t at = insn->vaddr - function->start;
		struct kn_target target;
		bool joined = walk->joined[at / 8] & 1u << at % 8;

		if (joined)
			regs.known = 0;
		if (leaves(insn, function, &target))
			rc = fn(ctx, insn, &target, &regs);
		step(walk, bytes + at, insn, i && !joined ? insn - 1 : NULL, &regs);
	}
	return rc;
}
