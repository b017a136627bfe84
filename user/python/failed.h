/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * failed.h - 3.11: what a failed check of the recursion leads to where all of it is inlined.
 *
 * _Py_CheckRecursiveCall() (Python/ceval.c) gives back what was taken. If a C function was to be
 * called, that ends its bracket. If a frame was to start, compilers fold it, the correction that
 * follows, and the exit of a frame into one: it is counted as for a frame that ends, but none does.
 */
#ifndef PT_PYTHON_FAILED_H
#define PT_PYTHON_FAILED_H

#include "python/counter.h"

#define FAILED_PURE 0x1 /* runs only if such a check has failed */

/*
 * Drops what ends brackets there, and marks as failed the exits that the frames share. Corrections
 * and brackets must have been dropped. marks: one for each instruction of the region, zeroed.
 * -ENOTSUP: it cannot be told (*vaddr: for the check of which counter).
 */
int counters_find_failed(struct counters *counters, const struct region *region, uint8_t *marks,
			 uint64_t *vaddr);

#endif
