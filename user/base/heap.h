/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * heap.h - items that come in any order, and are taken in order of time.
 *
 * An item begins with a struct pt_heap_key; items of the same time are taken as they came. Set
 * item_bytes, push, pop, pt_heap_release(). Cost: some 20 compares and copies an item, if a million
 * wait.
 */
#ifndef PT_BASE_HEAP_H
#define PT_BASE_HEAP_H

#include <stddef.h>
#include <stdint.h>

struct pt_heap_key {
	uint64_t time_ns, order; /* order is set by push */
};

struct pt_heap {
	size_t item_bytes;
	char *items;
	size_t count, size;
	uint64_t next_order;
};

/* The item is copied. 0 or -ENOMEM. */
int pt_heap_push(struct pt_heap *heap, const void *item);
/* The time of the first one; there must be one. */
uint64_t pt_heap_first_ns(const struct pt_heap *heap);
/* Copies the first one to item and removes it; there must be one. */
void pt_heap_pop(struct pt_heap *heap, void *item);
void pt_heap_release(struct pt_heap *heap);

#endif
