/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * origins.h - where functions that call a tail-calling interpreter's functions got the thread
 * state.
 *
 * _PyEval_EvalFrameDefault() is small in such a build, so compilers put copies of it into its
 * callers (region->callers), whose arguments are others. But the functions of the opcodes take the
 * thread state in one register always. What is in it at a call of them is followed back to where it
 * was written, or to the caller's own argument: there it is the thread state, too.
 */
#ifndef PT_PYTHON_ORIGINS_H
#define PT_PYTHON_ORIGINS_H

#include "python/region.h"

struct origins {
	/* for each instruction of the region, sets of registers that hold the thread state: */
	uint16_t *after; /* behind it, as it has written them */
	uint16_t *entry; /* before it, where a function starts: an argument */
};

/* regs: the registers in which all functions of the opcodes take the thread state. -ENOMEM. */
int origins_find(struct origins *origins, const struct region *region, uint16_t regs);
void origins_release(struct origins *origins);

#endif
