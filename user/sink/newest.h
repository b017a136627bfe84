/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * newest.h - keeps the newest entries and forgets older ones (--tracer-entries), so that a
 * recording that goes on and on takes a bounded amount of memory and disk.
 *
 * An entry is what VizTracer counts: a call that has ended, a slice of another kind, a thread's
 * state, an instant, a counter's value, a flow. They come when they end, so of two calls that nest
 * the outer one is kept for longer, and what is kept nests. Names of processes, threads and
 * functions, and losses, go on at once.
 *
 * Life cycle: pt_newest_new() -> pt_newest_op() -> pt_newest_flush() -> pt_newest_free().
 * Memory: 96 bytes an entry or less, and texts: those of what is no call, and of values.
 */
#ifndef PT_SINK_NEWEST_H
#define PT_SINK_NEWEST_H

#include <stdint.h>

#include "model/model.h"

struct pt_newest;

int pt_newest_new(uint64_t count, pt_op_fn next, void *ctx, struct pt_newest **newest);
void pt_newest_free(struct pt_newest *newest);
/* Suits pt_op_fn with the pt_newest as ctx. */
int pt_newest_op(const struct pt_op *op, void *newest);
/* Hands out what is kept, oldest first; it stays. */
int pt_newest_each(const struct pt_newest *newest, pt_op_fn fn, void *ctx);
/* Hands it to next and forgets it. */
int pt_newest_flush(struct pt_newest *newest);
/* How many were forgotten for newer ones. */
uint64_t pt_newest_left_out(const struct pt_newest *newest);

#endif
