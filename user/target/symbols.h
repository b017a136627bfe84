/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * symbols.h - the functions of a file by address, from .symtab and .dynsym.
 *
 * symbols_load() -> symbols_find() -> symbols_release(). Names lie in elf, which must live as long.
 */
#ifndef PT_TARGET_SYMBOLS_H
#define PT_TARGET_SYMBOLS_H

#include "target/elf.h"

struct symbols {
	struct symbol {
		uint64_t start, end;
		const char *name;
		uint8_t rank; /* of those at one address the lowest is shown */
	} * list;             /* sorted by start, one of each */
	size_t count;
};

/* -ENOMEM. A file without any gives none. */
int symbols_load(const struct elf_file *elf, struct symbols *symbols);
void symbols_release(struct symbols *symbols);
/* As the file has it; NULL: no function there has a name. A symbol holds for its size only: what
 * lies behind, and is stripped, is not taken for a part of it. */
const char *symbols_find(const struct symbols *symbols, uint64_t vaddr);

#endif
