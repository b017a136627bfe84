/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * ehframe.h - where functions start and end, from .eh_frame.
 *
 * .eh_frame survives strip, and it knows what a symbol's size does not: the parts that a compiler
 * moved elsewhere ("cold" ones) have an FDE of their own. Only address ranges are read, and of the
 * unwind rules whether a range starts like a function. .eh_frame_hdr is not needed.
 *
 * Life cycle: eh_ranges_load() -> use -> eh_ranges_release(). The input is hostile: entries that do
 * not lie in the section or in code are ignored, the count is bounded by the section's size.
 */
#ifndef PT_TARGET_EHFRAME_H
#define PT_TARGET_EHFRAME_H

#include "target/elf.h"

struct eh_range {
	uint64_t start, end; /* end is the first byte behind */
	/* Where it starts there is already something on the stack: it is a part of a function that
	 * lies elsewhere, and is not called, but jumped to. */
	bool inside;
};

struct eh_ranges { /* sorted by start; empty ranges and duplicates are left out */
	struct eh_range *ranges;
	size_t count;
};

/* -ENOENT: the file has no .eh_frame, or nothing in it is usable. */
int eh_ranges_load(const struct elf_file *elf, struct eh_ranges *eh);
void eh_ranges_release(struct eh_ranges *eh);
/* The range that holds vaddr, or NULL. */
const struct eh_range *eh_range_at(const struct eh_ranges *eh, uint64_t vaddr);

#endif
