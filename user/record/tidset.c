// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
#include "record/tidset.h"

#include <stdlib.h>

static uint64_t *find(uint64_t *slots, size_t slot_count, uint64_t key)
{
	size_t i = (size_t)(key * 0x9e3779b97f4a7c15ull >> 32) & (slot_count - 1);

	while (slots[i] && slots[i] != key)
		i = (i + 1) & (slot_count - 1);
	return &slots[i];
}

static int grow(struct pt_tidset *set)
{
	size_t slot_count = set->slot_count ? set->slot_count * 2 : 64;
	uint64_t *slots = calloc(slot_count, sizeof(*slots));

	if (!slots)
		return -1;
	for (size_t i = 0; i < set->slot_count; i++)
		if (set->slots[i])
			*find(slots, slot_count, set->slots[i]) = set->slots[i];
	free(set->slots);
	set->slots = slots;
	set->slot_count = slot_count;
	return 0;
}

void pt_tidset_add(struct pt_tidset *set, uint32_t tgid, uint32_t tid)
{
	uint64_t key = (uint64_t)tgid << 32 | tid, *slot;

	if (!key || key == set->last)
		return;
	set->last = key;
	if (set->used * 2 >= set->slot_count && grow(set))
		return;
	slot = find(set->slots, set->slot_count, key);
	if (!*slot) {
		*slot = key;
		set->used++;
	}
}

void pt_tidset_release(struct pt_tidset *set)
{
	free(set->slots);
	*set = (struct pt_tidset){0};
}
