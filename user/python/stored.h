/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * stored.h - what a store to the recursion counter makes of it, shown by the straight code around.
 */
#ifndef PT_PYTHON_STORED_H
#define PT_PYTHON_STORED_H

#include "python/flow.h"

enum stored {
	STORED_UNKNOWN,
	STORED_COUNTS, /* *by more than it was */
	/* The limit of the recursion has changed, and what remains by as much, so that the depth is
	 * the same: _Py_CheckRecursiveCall() of 3.11 (Python/ceval.c) inlined. */
	STORED_LIMIT,
};

/* The instruction is a "mov" of a register to the counter, which lies at that offset in the thread
 * state, with the limit 4 bytes behind it. */
enum stored stored_find(const struct region *region, const struct flow *flow, size_t store,
			uint16_t offset, int32_t *by);

#endif
