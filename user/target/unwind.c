// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * An FDE is a program that makes a row of rules for each address of its function: where the
 * caller's stack pointer (the CFA) and registers are. It is run up to the address, behind the
 * instructions of its CIE, which give the row to begin with (DWARF 4, 6.4; Linux Standard Base,
 * "Exception Frames").
 */
#include "target/unwind.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "target/unwind_parts.h"

#define EXPRESSION_MAX 64 /* operations, and words on its stack */
/* The registers that a function leaves as they are (System V ABI): rbx rbp rsp r12-r15. */
#define KEPT_REGS      (1u << UNWIND_BX | 1u << UNWIND_BP | 0xf000u)

struct unwind_file *unwind_file_new(const struct elf_file *elf)
{
	struct unwind_file *file = calloc(1, sizeof(*file));

	if (!file)
		return NULL;
	file->elf = elf;
	unwind_find_table(file);
	return file;
}

void unwind_file_free(struct unwind_file *file)
{
	if (!file)
		return;
	for (size_t i = 0; file->rows.entries && i <= file->rows.mask; i++)
		free(file->rows.entries[i].value);
	pt_map_release(&file->rows);
	pt_map_release(&file->none);
	free(file);
}

/* ---- values ---- */

bool unwind_read(const struct unwind_memory *memory, uint64_t addr, uint64_t *value)
{
	for (size_t i = 0; i < memory->patch_count; i++) {
		if (memory->patches[i].at != addr)
			continue;
		*value = memory->patches[i].value;
		return true;
	}
	if (addr < memory->start || memory->size < 8 || addr - memory->start > memory->size - 8)
		return false;
	memcpy(value, memory->bytes + (addr - memory->start), 8);
	return true;
}

struct stack {
	uint64_t word[EXPRESSION_MAX];
	unsigned int count;
	int rc;
};

static void push(struct stack *s, uint64_t value)
{
	if (s->count == EXPRESSION_MAX)
		s->rc = -EBADMSG;
	else
		s->word[s->count++] = value;
}

static uint64_t pop(struct stack *s)
{
	if (s->count)
		return s->word[--s->count];
	s->rc = -EBADMSG;
	return 0;
}

static void push_reg(struct stack *s, const struct unwind_frame *frame, uint64_t reg,
		     int64_t offset)
{
	if (reg >= UNWIND_REGS || !(frame->known >> reg & 1))
		s->rc = -EBADMSG;
	else
		push(s, frame->reg[reg] + (uint64_t)offset);
}

/* Operations on the two words on top. */
static void run_pair(struct stack *s, uint8_t op)
{
	uint64_t b = pop(s), a = pop(s);

	switch (op) {
	case 0x1a: /* and */
		push(s, a & b);
		break;
	case 0x1c: /* minus */
		push(s, a - b);
		break;
	case 0x1e: /* mul */
		push(s, a * b);
		break;
	case 0x21: /* or */
		push(s, a | b);
		break;
	case 0x22: /* plus */
		push(s, a + b);
		break;
	case 0x24: /* shl */
		push(s, b < 64 ? a << b : 0);
		break;
	case 0x25: /* shr */
		push(s, b < 64 ? a >> b : 0);
		break;
	case 0x29: /* eq */
		push(s, a == b);
		break;
	case 0x2a: /* ge */
		push(s, (int64_t)a >= (int64_t)b);
		break;
	case 0x2b: /* gt */
		push(s, (int64_t)a > (int64_t)b);
		break;
	case 0x2c: /* le */
		push(s, (int64_t)a <= (int64_t)b);
		break;
	case 0x2d: /* lt */
		push(s, (int64_t)a < (int64_t)b);
		break;
	case 0x2e: /* ne */
		push(s, a != b);
		break;
	default:
		s->rc = -EBADMSG;
	}
}

/* DW_OP_const1u .. consts: 1, 2, 4 and 8 bytes, each unsigned and signed, then the two LEBs. */
static void run_const(struct stack *s, struct dw_cursor *c, uint8_t op)
{
	unsigned int bytes = 1u << (op - 0x08) / 2;
	uint64_t value = 0;

	if (op == 0x10) {
		value = dw_uleb(c);
	} else if (op == 0x11) {
		value = (uint64_t)dw_sleb(c);
	} else {
		dw_take(c, &value, bytes);
		if (op & 1 && bytes < 8 && value >> (8 * bytes - 1))
			value |= UINT64_MAX << 8 * bytes;
	}
	push(s, value);
}

static void run_op(struct stack *s, struct dw_cursor *c, const struct unwind_memory *memory,
		   const struct unwind_frame *frame)
{
	uint8_t op = dw_u8(c);
	uint64_t value = 0, reg;

	if (op >= 0x30 && op < 0x50) { /* lit */
		push(s, op - 0x30u);
	} else if (op >= 0x70 && op < 0x90) { /* breg */
		push_reg(s, frame, op - 0x70u, dw_sleb(c));
	} else if (op >= 0x08 && op <= 0x11) {
		run_const(s, c, op);
	} else if (op == 0x92) { /* bregx */
		reg = dw_uleb(c);
		push_reg(s, frame, reg, dw_sleb(c));
	} else if (op == 0x23) { /* plus_uconst */
		value = pop(s);
		push(s, value + dw_uleb(c));
	} else if (op == 0x06) { /* deref */
		if (!unwind_read(memory, pop(s), &value))
			s->rc = s->rc ? s->rc : -EFAULT;
		push(s, value);
	} else if (op == 0x12) { /* dup */
		value = pop(s);
		push(s, value);
		push(s, value);
	} else if (op != 0x96) { /* nop */
		run_pair(s, op);
	}
}

/* first: pushed before it begins, if is_reg (the CFA). */
static int evaluate(const struct rule *rule, const uint64_t *cfa,
		    const struct unwind_memory *memory, const struct unwind_frame *frame,
		    uint64_t *value)
{
	struct dw_cursor c = {rule->expression, rule->expression + rule->bytes, 0, false};
	struct stack s = {0};

	if (cfa)
		push(&s, *cfa);
	for (unsigned int i = 0; c.at < c.end && !c.bad && !s.rc; i++) {
		if (i == EXPRESSION_MAX)
			return -EBADMSG;
		run_op(&s, &c, memory, frame);
	}
	*value = pop(&s);
	return c.bad ? -EBADMSG : s.rc;
}

static int find_cfa(const struct row *row, const struct unwind_memory *memory,
		    const struct unwind_frame *frame, uint64_t *cfa)
{
	if (row->cfa_reg == NO_CFA_REG)
		return evaluate(&row->cfa, NULL, memory, frame, cfa);
	if (row->cfa_reg >= UNWIND_REGS || !(frame->known >> row->cfa_reg & 1))
		return -EBADMSG;
	*cfa = frame->reg[row->cfa_reg] + (uint64_t)row->cfa.number;
	return 0;
}

/* A register of the caller; *known: it has a value. */
static int find_reg(const struct rule *rule, unsigned int reg, uint64_t cfa,
		    const struct unwind_memory *memory, const struct unwind_frame *frame,
		    uint64_t *value, bool *known)
{
	uint64_t at = cfa + (uint64_t)rule->number;
	uint64_t other = (uint64_t)rule->number;
	int rc;

	*known = true;
	*value = frame->reg[reg];
	switch ((enum rule_kind)rule->kind) {
	case RULE_NONE:
		*known = frame->known & KEPT_REGS & 1u << reg;
		return 0;
	case RULE_SAME:
		*known = frame->known >> reg & 1;
		return 0;
	case RULE_UNDEFINED:
		*known = false;
		return 0;
	case RULE_OFFSET:
		return unwind_read(memory, at, value) ? 0 : -EFAULT;
	case RULE_VAL_OFFSET:
		*value = at;
		return 0;
	case RULE_REGISTER:
		*known = other < UNWIND_REGS && frame->known >> other & 1;
		*value = *known ? frame->reg[other] : 0;
		return 0;
	case RULE_EXPRESSION:
		rc = evaluate(rule, &cfa, memory, frame, &at);
		if (rc)
			return rc;
		return unwind_read(memory, at, value) ? 0 : -EFAULT;
	case RULE_VAL_EXPRESSION:
		return evaluate(rule, &cfa, memory, frame, value);
	}
	return -EBADMSG;
}

int unwind_step(struct unwind_file *file, uint64_t bias, const struct unwind_memory *memory,
		struct unwind_frame *frame)
{
	uint64_t vaddr = frame->reg[UNWIND_IP] - bias - !frame->interrupted;
	struct unwind_frame caller = {0};
	const struct row *row;
	uint64_t cfa;
	int rc = unwind_find_row(file, vaddr, &row);

	if (rc)
		return rc;
	if (row->regs[UNWIND_IP].kind == RULE_UNDEFINED)
		return 1;
	rc = find_cfa(row, memory, frame, &cfa);
	for (unsigned int reg = 0; reg < UNWIND_REGS && !rc; reg++) {
		bool known = false;

		rc = find_reg(&row->regs[reg], reg, cfa, memory, frame, &caller.reg[reg], &known);
		if (known)
			caller.known |= 1u << reg;
	}
	if (rc)
		return rc;
	if (row->regs[UNWIND_SP].kind == RULE_NONE) {
		caller.reg[UNWIND_SP] = cfa;
		caller.known |= 1u << UNWIND_SP;
	}
	if (!(caller.known >> UNWIND_IP & 1) || !caller.reg[UNWIND_IP])
		return 1;
	/* stacks grow downwards; else a loop would not end */
	if (!row->is_signal && cfa <= frame->reg[UNWIND_SP])
		return -EBADMSG;
	caller.cfa = cfa;
	caller.interrupted = row->is_signal;
	*frame = caller;
	return 0;
}

bool unwind_function(struct unwind_file *file, uint64_t vaddr, uint64_t *start, uint64_t *end)
{
	const struct row *row;

	if (unwind_find_row(file, vaddr, &row))
		return false;
	*start = row->function_start;
	*end = row->function_end;
	return true;
}
