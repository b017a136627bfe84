/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * map.h - a hash table from a pair of integers to a pointer.
 *
 * Zero-initialise, put, get, pt_map_release(). It borrows what the pointers point at. Entries are
 * never removed. The hash is seeded per table: keys may come from hostile input.
 */
#ifndef PT_BASE_MAP_H
#define PT_BASE_MAP_H

#include <stddef.h>
#include <stdint.h>

struct pt_map_entry {
	uint64_t a, b;
	void *value; /* NULL: a free slot */
};

struct pt_map {
	struct pt_map_entry *entries;
	size_t count, mask; /* mask + 1 slots, once there are any */
	uint64_t seed;
};

void *pt_map_get(const struct pt_map *map, uint64_t a, uint64_t b);
/* value must not be NULL; an entry with the same key is replaced. 0 or -ENOMEM. */
int pt_map_put(struct pt_map *map, uint64_t a, uint64_t b, void *value);
/* Puts so many bytes of zeroes, from malloc, under a key that is not there yet. NULL: no memory. */
void *pt_map_make(struct pt_map *map, uint64_t a, uint64_t b, size_t size);
void pt_map_release(struct pt_map *map);

/* A hash of bytes, for callers that key by content. */
uint64_t pt_hash_bytes(const void *data, size_t len, uint64_t seed);

#endif
