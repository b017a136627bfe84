// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
#include "base/heap.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/grow.h"

static struct pt_heap_key *at(const struct pt_heap *heap, size_t i)
{
	return (struct pt_heap_key *)(heap->items + i * heap->item_bytes);
}

static bool is_before(const struct pt_heap_key *a, const struct pt_heap_key *b)
{
	return a->time_ns != b->time_ns ? a->time_ns < b->time_ns : a->order < b->order;
}

static void move(const struct pt_heap *heap, size_t to, const struct pt_heap_key *item)
{
	memcpy(at(heap, to), item, heap->item_bytes);
}

static int grow(struct pt_heap *heap)
{
	char *items = pt_grow(heap->items, heap->count, &heap->size, 256, heap->item_bytes);

	if (!items)
		return -ENOMEM;
	heap->items = items;
	return 0;
}

int pt_heap_push(struct pt_heap *heap, const void *item)
{
	struct pt_heap_key key = *(const struct pt_heap_key *)item;
	size_t i = heap->count;

	if (grow(heap))
		return -ENOMEM;
	heap->count++;
	key.order = ++heap->next_order;
	for (; i > 0 && is_before(&key, at(heap, (i - 1) / 2)); i = (i - 1) / 2)
		move(heap, i, at(heap, (i - 1) / 2));
	move(heap, i, item);
	*at(heap, i) = key;
	return 0;
}

uint64_t pt_heap_first_ns(const struct pt_heap *heap)
{
	return at(heap, 0)->time_ns;
}

void pt_heap_pop(struct pt_heap *heap, void *item)
{
	size_t count = --heap->count, i = 0, child;
	const struct pt_heap_key *last = at(heap, count);

	memcpy(item, at(heap, 0), heap->item_bytes);
	while ((child = 2 * i + 1) < count) {
		child += child + 1 < count && is_before(at(heap, child + 1), at(heap, child));
		if (!is_before(at(heap, child), last))
			break;
		move(heap, i, at(heap, child));
		i = child;
	}
	if (i != count)
		move(heap, i, last);
}

void pt_heap_release(struct pt_heap *heap)
{
	free(heap->items);
	heap->items = NULL;
	heap->count = heap->size = 0;
}
