// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * The program of an FDE: a row of rules for an address.
 */
#include <errno.h>
#include <stdlib.h>

#include "target/unwind_parts.h"

#define ROWS_MAX     (1u << 14) /* kept of a file */
#define REMEMBER_MAX 8          /* DW_CFA_remember_state, nested */

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
	uint64_t fde = unwind_find_fde(file, vaddr);
	struct frame_entry entry = {0};
	struct machine m = {.entry = &entry, .row = {.cfa_reg = UNWIND_SP}};

	if (!fde || !unwind_read_fde(file->elf, fde, &entry) || vaddr < entry.start ||
	    vaddr >= entry.end)
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

int unwind_find_row(struct unwind_file *file, uint64_t vaddr, const struct row **found)
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
