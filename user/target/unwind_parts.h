/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * unwind_parts.h - what the files of the unwinder share; nobody else includes it.
 *
 * unwind_fde.c finds what .eh_frame has of an address, unwind_rows.c makes a row of rules of it,
 * and unwind.c takes a step by that.
 */
#ifndef PT_TARGET_UNWIND_PARTS_H
#define PT_TARGET_UNWIND_PARTS_H

#include "base/map.h"
#include "target/dwarf.h"
#include "target/unwind.h"

#define NO_CFA_REG 0xff /* the CFA is what an expression gives */

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
	uint8_t cfa_reg; /* or NO_CFA_REG */
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

struct frame_entry {
	uint64_t start, end;
	uint64_t code_align;
	int64_t data_align;
	bool is_signal;
	uint8_t encoding;
	struct dw_cursor first, program; /* instructions of the CIE, of the FDE */
};

/* ---- unwind_fde.c ---- */

/* version, eh_frame_ptr_enc, fde_count_enc, table_enc; the table in the one form that linkers
 * write: sorted pairs of 4 bytes, relative to the header. */
void unwind_find_table(struct unwind_file *file);
/* The FDE with the last start that is not behind vaddr; 0: none. */
uint64_t unwind_find_fde(const struct unwind_file *file, uint64_t vaddr);
bool unwind_read_fde(const struct elf_file *elf, uint64_t vaddr, struct frame_entry *entry);

/* ---- unwind_rows.c ---- */

int unwind_find_row(struct unwind_file *file, uint64_t vaddr, const struct row **found);

#endif
