/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * scan.h - looks through a whole file's code for what refers to an address.
 *
 * Bytes are compared, not instructions decoded, so a hit may be part of something else: whoever
 * uses one decodes the function around it.
 */
#ifndef PT_PYTHON_SCAN_H
#define PT_PYTHON_SCAN_H

#include "target/elf.h"

/* Return non-zero to stop; the scan returns that. */
typedef int (*scan_fn)(uint64_t vaddr, uint64_t target, void *ctx);

/* Each "call rel32" whose target is code. vaddr: of the instruction. */
int scan_calls(const struct elf_file *elf, scan_fn fn, void *ctx);
/* Each "jmp rel32" and "jcc rel32" that leads to start or behind it, but not to end. */
int scan_jumps(const struct elf_file *elf, uint64_t start, uint64_t end, scan_fn fn, void *ctx);
/* Each "lea reg, [rip + target]" and "mov reg32, target". */
int scan_references(const struct elf_file *elf, uint64_t target, scan_fn fn, void *ctx);
/* The address of these bytes in the file's data, or 0. */
uint64_t scan_bytes(const struct elf_file *elf, const void *bytes, size_t size);

#endif
