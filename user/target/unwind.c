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

#include "base/map.h"
#include "target/dwarf.h"

#define ROWS_MAX       (1u << 14) /* kept of a file */
#define REMEMBER_MAX   8          /* DW_CFA_remember_state, nested */
#define EXPRESSION_MAX 64         /* operations, and words on its stack */
#define NO_CFA_REG     0xff
/* The registers that a function leaves as they are (System V ABI): rbx rbp rsp r12-r15. */
#define KEPT_REGS      (1u << UNWIND_BX | 1u << UNWIND_BP | 0xf000u)

enum rule_kind {
	RULE_NONE, /* kept, or lost, as the ABI has it */
	RULE_UNDEFINED,
	RULE_SAME,
	RULE_OFFSET, /* it lies at CFA + number */
	RULE_VAL_OFFSET,
	RULE_REGISTER,
	RULE_EXPRESSION, /* it lies at what the expression gives */
	RULE_VAL_EXPRESSION,
};

struct rule {
	uint8_t kind;
	uint32_t bytes; /* of an expression */
	int64_t number;
	const uint8_t *expression;
};

struct row {
	uint64_t function_start, function_end;
	uint8_t cfa_reg; /* NO_CFA_REG: an expression */
	bool is_signal;
	struct rule cfa;
	struct rule regs[UNWIND_REGS];
};

struct unwind_file {
	const struct elf_file *elf;
	uint64_t table, count; /* of .eh_frame_hdr's entries: where in the file */
	uint64_t hdr_vaddr;
	struct pt_map rows; /* by address + 1 */
	struct pt_map none; /* addresses without rules */
};

/* ---- finding an FDE ---- */

/* version, eh_frame_ptr_enc, fde_count_enc, table_enc; the table in the one form that linkers
 * write: sorted pairs of 4 bytes, relative to the header. */
static void find_table(struct unwind_file *file)
{
	const struct elf_file *elf = file->elf;

	for (size_t i = 0; i < elf->segment_count; i++) {
		const struct elf_segment *s = &elf->segments[i];
		const uint8_t *head;
		struct dw_cursor c;

		if (s->type != PT_GNU_EH_FRAME || s->file_size < 12)
			continue;
		head = elf_at(elf, s->offset, 12);
		if (!head || head[0] != 1 || head[2] != DW_EH_PE_udata4 || head[3] != 0x3b)
			return;
		c = (struct dw_cursor){head + 4, head + 12, s->vaddr + 4, false};
		dw_encoded(&c, head[1]);
		file->count = dw_u32(&c);
		file->table = s->offset + 12;
		file->hdr_vaddr = s->vaddr;
		if (c.bad || file->count > (s->file_size - 12) / 8)
			file->count = 0;
		return;
	}
}

struct unwind_file *unwind_file_new(const struct elf_file *elf)
{
	struct unwind_file *file = calloc(1, sizeof(*file));

	if (!file)
		return NULL;
	file->elf = elf;
	find_table(file);
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

static bool table_at(const struct unwind_file *file, uint64_t i, uint64_t *start, uint64_t *fde)
{
	const uint8_t *at = elf_at(file->elf, file->table + 8 * i, 8);
	int32_t pair[2];

	if (!at)
		return false;
	memcpy(pair, at, sizeof(pair));
	*start = file->hdr_vaddr + (uint64_t)(int64_t)pair[0];
	*fde = file->hdr_vaddr + (uint64_t)(int64_t)pair[1];
	return true;
}

/* The FDE with the last start that is not behind vaddr; 0: none. */
static uint64_t find_fde(const struct unwind_file *file, uint64_t vaddr)
{
	uint64_t low = 0, high = file->count, start, fde = 0;

	while (low < high) {
		uint64_t mid = low + (high - low) / 2;

		if (!table_at(file, mid, &start, &fde))
			return 0;
		if (start <= vaddr)
			low = mid + 1;
		else
			high = mid;
	}
	return low && table_at(file, low - 1, &start, &fde) ? fde : 0;
}

/* ---- CIE and FDE ---- */

struct frame_entry {
	uint64_t start, end;
	uint64_t code_align;
	int64_t data_align;
	bool is_signal;
	uint8_t encoding;
	struct dw_cursor first, program; /* instructions of the CIE, of the FDE */
};

/* The entry's bytes behind its length. */
static struct dw_cursor entry_at(const struct elf_file *elf, uint64_t vaddr)
{
	const uint8_t *head = elf_at_vaddr(elf, vaddr, 4);
	struct dw_cursor c = {.bad = true};
	uint32_t length;

	if (!head)
		return c;
	memcpy(&length, head, sizeof(length));
	head = length < 4 || length >= UINT32_MAX ? NULL : elf_at_vaddr(elf, vaddr, 4ull + length);
	if (head)
		c = (struct dw_cursor){head + 4, head + 4 + length, vaddr + 4, false};
	return c;
}

static void read_augmentation(struct dw_cursor *c, const char *letter, struct frame_entry *entry)
{
	for (; *letter && !c->bad; letter++) {
		if (*letter == 'R')
			entry->encoding = dw_u8(c);
		else if (*letter == 'L')
			dw_u8(c);
		else if (*letter == 'P')
			dw_encoded(c, dw_u8(c) & 0x0f); /* only its size matters */
		else if (*letter == 'S')
			entry->is_signal = true;
		else if (*letter != 'B')
			c->bad = true;
	}
}

static bool read_cie(const struct elf_file *elf, uint64_t vaddr, struct frame_entry *entry)
{
	struct dw_cursor c = entry_at(elf, vaddr), data;
	const char *augmentation;
	uint64_t return_reg, len;
	uint8_t version;

	if (dw_u32(&c) || c.bad)
		return false;
	version = dw_u8(&c);
	if (version != 1 && version != 3)
		return false;
	augmentation = (const char *)c.at;
	while (dw_u8(&c))
		;
	entry->code_align = dw_uleb(&c);
	entry->data_align = dw_sleb(&c);
	return_reg = version == 1 ? dw_u8(&c) : dw_uleb(&c);
	entry->encoding = DW_EH_PE_absptr;
	if (c.bad || return_reg != UNWIND_IP || (augmentation[0] && augmentation[0] != 'z'))
		return false;
	if (augmentation[0]) {
		len = dw_uleb(&c);
		if (c.bad || len > (size_t)(c.end - c.at))
			return false;
		data = c;
		data.end = c.at + len;
		read_augmentation(&data, augmentation + 1, entry);
		c.at += len;
		c.vaddr += len;
		c.bad = data.bad;
	}
	entry->first = c;
	return !c.bad;
}

static bool read_fde(const struct elf_file *elf, uint64_t vaddr, struct frame_entry *entry)
{
	struct dw_cursor c = entry_at(elf, vaddr);
	uint64_t id_at = c.vaddr, len;
	uint32_t id = dw_u32(&c);

	if (c.bad || !id || !read_cie(elf, id_at - id, entry))
		return false;
	entry->start = dw_encoded(&c, entry->encoding);
	entry->end = entry->start + dw_encoded(&c, entry->encoding & 0x0f);
	len = dw_uleb(&c); /* of augmentation data */
	if (c.bad || len > (size_t)(c.end - c.at) || entry->end <= entry->start)
		return false;
	c.at += len;
	c.vaddr += len;
	entry->program = c;
	return true;
}

/* ---- the program ---- */

struct machine {
	const struct frame_entry *entry;
	struct row row, first; /* first: behind the CIE's instructions */
	struct row saved[REMEMBER_MAX];
	unsigned int saved_count;
	uint64_t at; /* the address that the row holds from */
	bool bad;
};

static void set_rule(struct machine *m, uint64_t reg, uint8_t kind, int64_t number)
{
	/* others (of vectors) are not needed */
	if (reg < UNWIND_REGS)
		m->row.regs[reg] = (struct rule){.kind = kind, .number = number};
}

static struct rule take_expression(struct machine *m, struct dw_cursor *c, uint8_t kind)
{
	uint64_t len = dw_uleb(c);
	struct rule rule = {.kind = kind, .expression = c->at};

	if (c->bad || len > (size_t)(c->end - c->at)) {
		m->bad = true;
		return rule;
	}
	rule.bytes = (uint32_t)len;
	c->at += len;
	c->vaddr += len;
	return rule;
}

static void set_expression(struct machine *m, struct dw_cursor *c, uint8_t kind)
{
	uint64_t reg = dw_uleb(c);
	struct rule rule = take_expression(m, c, kind);

	if (reg < UNWIND_REGS)
		m->row.regs[reg] = rule;
}

static void set_cfa(struct machine *m, uint64_t reg, int64_t offset)
{
	m->bad = m->bad || reg >= UNWIND_REGS;
	m->row.cfa_reg = (uint8_t)reg;
	m->row.cfa.number = offset;
}

static void restore(struct machine *m, uint64_t reg)
{
	if (reg < UNWIND_REGS)
		m->row.regs[reg] = m->first.regs[reg];
}

static void remember(struct machine *m, bool back)
{
	if (back ? !m->saved_count : m->saved_count == REMEMBER_MAX)
		m->bad = true;
	else if (back)
		m->row = m->saved[--m->saved_count];
	else
		m->saved[m->saved_count++] = m->row;
}

/* DW_CFA_* that say where registers are (DWARF 4, figure 40). */
static void run_rule(struct machine *m, struct dw_cursor *c, uint8_t op)
{
	int64_t align = m->entry->data_align;
	uint64_t reg;

	switch (op) {
	case 0x05: /* offset_extended */
		reg = dw_uleb(c);
		set_rule(m, reg, RULE_OFFSET, (int64_t)dw_uleb(c) * align);
		break;
	case 0x11: /* offset_extended_sf */
		reg = dw_uleb(c);
		set_rule(m, reg, RULE_OFFSET, dw_sleb(c) * align);
		break;
	case 0x2f: /* GNU_negative_offset_extended */
		reg = dw_uleb(c);
		set_rule(m, reg, RULE_OFFSET, -(int64_t)dw_uleb(c) * align);
		break;
	case 0x14: /* val_offset */
		reg = dw_uleb(c);
		set_rule(m, reg, RULE_VAL_OFFSET, (int64_t)dw_uleb(c) * align);
		break;
	case 0x15: /* val_offset_sf */
		reg = dw_uleb(c);
		set_rule(m, reg, RULE_VAL_OFFSET, dw_sleb(c) * align);
		break;
	case 0x06: /* restore_extended */
		restore(m, dw_uleb(c));
		break;
	case 0x07: /* undefined */
		set_rule(m, dw_uleb(c), RULE_UNDEFINED, 0);
		break;
	case 0x08: /* same_value */
		set_rule(m, dw_uleb(c), RULE_SAME, 0);
		break;
	case 0x09: /* register */
		reg = dw_uleb(c);
		set_rule(m, reg, RULE_REGISTER, (int64_t)dw_uleb(c));
		break;
	case 0x10: /* expression */
		set_expression(m, c, RULE_EXPRESSION);
		break;
	case 0x16: /* val_expression */
		set_expression(m, c, RULE_VAL_EXPRESSION);
		break;
	default:
		m->bad = true;
	}
}

/* Those that say where the CFA is, and the others. */
static void run_other(struct machine *m, struct dw_cursor *c, uint8_t op)
{
	int64_t align = m->entry->data_align;
	uint64_t reg;

	switch (op) {
	case 0x00: /* nop */
		break;
	case 0x0a: /* remember_state */
	case 0x0b: /* restore_state */
		remember(m, op == 0x0b);
		break;
	case 0x0c: /* def_cfa */
		reg = dw_uleb(c);
		set_cfa(m, reg, (int64_t)dw_uleb(c));
		break;
	case 0x12: /* def_cfa_sf */
		reg = dw_uleb(c);
		set_cfa(m, reg, dw_sleb(c) * align);
		break;
	case 0x0d: /* def_cfa_register */
		set_cfa(m, dw_uleb(c), m->row.cfa.number);
		break;
	case 0x0e: /* def_cfa_offset */
		m->row.cfa.number = (int64_t)dw_uleb(c);
		break;
	case 0x13: /* def_cfa_offset_sf */
		m->row.cfa.number = dw_sleb(c) * align;
		break;
	case 0x0f: /* def_cfa_expression */
		m->row.cfa = take_expression(m, c, RULE_VAL_EXPRESSION);
		m->row.cfa_reg = NO_CFA_REG;
		break;
	case 0x2e: /* GNU_args_size */
		dw_uleb(c);
		break;
	default:
		run_rule(m, c, op);
	}
}

/* How far an instruction advances the address; false: it is another one. */
static bool take_advance(struct dw_cursor *c, uint8_t op, uint64_t *delta)
{
	uint16_t two;

	switch (op) {
	case 0x02:
		*delta = dw_u8(c);
		return true;
	case 0x03:
		dw_take(c, &two, sizeof(two));
		*delta = two;
		return true;
	case 0x04:
		*delta = dw_u32(c);
		return true;
	default:
		*delta = op & 0x3f;
		return op >> 6 == 1;
	}
}

static void run(struct machine *m, struct dw_cursor c, uint64_t vaddr)
{
	uint64_t delta;

	while (c.at < c.end && !c.bad && !m->bad) {
		uint8_t op = dw_u8(&c);

		if (take_advance(&c, op, &delta)) {
			m->at += delta * m->entry->code_align;
			if (m->at > vaddr)
				return;
		} else if (op >> 6 == 2) { /* offset */
			set_rule(m, op & 0x3f, RULE_OFFSET,
				 (int64_t)dw_uleb(&c) * m->entry->data_align);
		} else if (op >> 6 == 3) { /* restore */
			restore(m, op & 0x3f);
		} else if (op == 0x01) { /* set_loc */
			m->at = dw_encoded(&c, m->entry->encoding);
			if (m->at > vaddr)
				return;
		} else {
			run_other(m, &c, op);
		}
	}
	m->bad = m->bad || c.bad;
}

/* The row of an address; false: there is none. */
static bool make_row(const struct unwind_file *file, uint64_t vaddr, struct row *row)
{
	uint64_t fde = find_fde(file, vaddr);
	struct frame_entry entry = {0};
	struct machine m = {.entry = &entry, .row = {.cfa_reg = UNWIND_SP}};

	if (!fde || !read_fde(file->elf, fde, &entry) || vaddr < entry.start || vaddr >= entry.end)
		return false;
	m.at = entry.start;
	run(&m, entry.first, UINT64_MAX);
	m.first = m.row;
	m.at = entry.start;
	run(&m, entry.program, vaddr);
	*row = m.row;
	row->function_start = entry.start;
	row->function_end = entry.end;
	row->is_signal = entry.is_signal;
	return !m.bad;
}

static int find_row(struct unwind_file *file, uint64_t vaddr, const struct row **found)
{
	struct row *row = pt_map_get(&file->rows, vaddr, 0);
	int rc = 0;

	*found = row;
	if (row)
		return 0;
	if (pt_map_get(&file->none, vaddr, 0))
		return -ENOENT;
	if (file->rows.count + file->none.count >= ROWS_MAX)
		return -ENOMEM;
	row = calloc(1, sizeof(*row));
	if (!row)
		return -ENOMEM;
	if (!make_row(file, vaddr, row)) {
		free(row);
		rc = pt_map_put(&file->none, vaddr, 0, file);
		return rc ? rc : -ENOENT;
	}
	rc = pt_map_put(&file->rows, vaddr, 0, row);
	if (rc)
		free(row);
	else
		*found = row;
	return rc;
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
	int rc = find_row(file, vaddr, &row);

	if (rc)
		return rc;
	if (row->regs[UNWIND_IP].kind == RULE_UNDEFINED)
		return 1;
	rc = find_cfa(row, memory, frame, &cfa);
	for (unsigned int reg = 0; reg < UNWIND_REGS && !rc; reg++) {
		bool known;

		rc = find_reg(&row->regs[reg], reg, cfa, memory, frame, &caller.reg[reg], &known);
		caller.known |= (uint32_t)known << reg;
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

	if (find_row(file, vaddr, &row))
		return false;
	*start = row->function_start;
	*end = row->function_end;
	return true;
}
