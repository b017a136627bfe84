/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * ring.h - the newest raw records, in bounded memory.
 *
 * Records lie in chunks, each deflated by itself, so that the oldest can go alone. What goes is
 * given to the ring's owner first: what the records before the ring said (names, threads, open
 * calls) is known only to whoever has read them. A chunk goes when all of it is older than is to be
 * kept, or when there is no room.
 *
 * Life cycle: pt_ring_new() -> pt_ring_put() ... -> pt_ring_free(). One thread. pt_ring_each()
 * changes nothing but buffers of its own, so it works in a forked child as well. Cost: one memcpy a
 * record, and deflating and inflating each chunk once (level 1).
 */
#ifndef PT_FLIGHT_RING_H
#define PT_FLIGHT_RING_H

#include <linux/types.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pt_abi.h"

/* Less would not hold a chunk being filled, one packed, and the work space of zlib. */
#define PT_RING_MIN_BYTES (2u << 20)

struct pt_ring;

/* Non-zero (-errno) stops. */
typedef int (*pt_ring_fn)(const struct pt_rec *record, size_t len, void *ctx);

struct pt_ring_options {
	size_t max_bytes; /* of memory, all in all; at least PT_RING_MIN_BYTES */
	uint64_t keep_ns; /* as long before the newest record */
	pt_ring_fn gone;  /* gets what leaves the ring, in the order in which it came */
	void *ctx;
};

int pt_ring_new(const struct pt_ring_options *options, struct pt_ring **ring);
/* -errno: out of memory, or what gone() returned. */
int pt_ring_put(struct pt_ring *ring, const struct pt_rec *record, size_t len);
/* As if the newest record were of that time, 0: as it is. What is still kept then stays, if there
 * is room. */
void pt_ring_hold(struct pt_ring *ring, uint64_t ns);
/* All records in order, oldest first. */
int pt_ring_each(struct pt_ring *ring, pt_ring_fn fn, void *ctx);
/* No record that has gone is newer; 0: none has. */
uint64_t pt_ring_gone_ns(const struct pt_ring *ring);
/* Memory in use. */
size_t pt_ring_bytes(const struct pt_ring *ring);
void pt_ring_free(struct pt_ring *ring);

#endif
