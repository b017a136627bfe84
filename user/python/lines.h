/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * lines.h - line tables of code objects: co_lnotab (3.8, 3.9), co_linetable (3.10 and later).
 *
 * Pure functions. Tables come from other processes' memory and from files: whatever they hold,
 * nothing is read beyond their end, and at worst a line is wrong.
 */
#ifndef PT_PYTHON_LINES_H
#define PT_PYTHON_LINES_H

#include <stddef.h>
#include <stdint.h>

/* From this code unit (2 bytes) on the code stands at this line; 0: at none. */
struct py_line {
	uint32_t unit, line;
};

struct py_lines {
	struct py_line *entries; /* units increase strictly */
	size_t count, size;
	uint32_t end; /* the first unit that the table says nothing of */
};

/* version is a PY_VERSION_HEX. 0, -ENOMEM; -ENOTSUP: a version whose format is not known. Ends
 * quietly where the table is cut. */
int py_lines_decode(struct py_lines *lines, uint32_t version, uint32_t firstlineno,
		    const void *table, size_t len);
/* 0: none. */
uint32_t py_lines_find(const struct py_lines *lines, uint32_t unit);
void py_lines_release(struct py_lines *lines);

#endif
