/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * parallel.h - does the same to many things at once.
 *
 * Closing a probe's link waits for RCU grace periods: 30 ms on an idle machine, half a second on a
 * busy one. Many at once wait for the same grace periods, one after the other each for its own. (Of
 * a perf event's three the last two are waited for under a lock, one event after the other.)
 */
#ifndef PT_PROBE_PARALLEL_H
#define PT_PROBE_PARALLEL_H

#include <stddef.h>

/* Calls fn(i, ctx) for i in 0 .. count - 1, from up to 32 threads, and returns when all are done.
 * Where no thread can be made it works in the caller's. */
void pt_parallel(size_t count, void (*fn)(size_t i, void *ctx), void *ctx);

#endif
