// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
#include "base/map.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

static uint64_t mix(uint64_t x)
{
	x ^= x >> 32;
	x *= 0x9e3779b97f4a7c15ull; /* 2^64 / golden ratio, odd */
	x ^= x >> 29;
	return x;
}

static struct pt_map_entry *slot(const struct pt_map *map, uint64_t a, uint64_t b)
{
	size_t i = mix(mix(a ^ map->seed) + b) & map->mask;
	struct pt_map_entry *entry;

	for (;; i = (i + 1) & map->mask) {
		entry = &map->entries[i];
		if (!entry->value || (entry->a == a && entry->b == b))
			return entry;
	}
}

void *pt_map_get(const struct pt_map *map, uint64_t a, uint64_t b)
{
	return map->entries ? slot(map, a, b)->value : NULL;
}

static int grow(struct pt_map *map)
{
	size_t old_slots = map->entries ? map->mask + 1 : 0;
	struct pt_map_entry *old = map->entries;
	size_t slots = old_slots ? 2 * old_slots : 64;
	struct pt_map_entry *entries = calloc(slots, sizeof(*entries));

	if (!entries)
		return -ENOMEM;
	if (!old && getrandom(&map->seed, sizeof(map->seed), GRND_NONBLOCK) < 0)
		map->seed = (uintptr_t)entries;
	map->entries = entries;
	map->mask = slots - 1;
	for (size_t i = 0; i < old_slots; i++) {
		if (old[i].value)
			*slot(map, old[i].a, old[i].b) = old[i];
	}
	free(old);
	return 0;
}

int pt_map_put(struct pt_map *map, uint64_t a, uint64_t b, void *value)
{
	struct pt_map_entry *entry;

	/* at most three quarters full, so that a probe always ends at a free slot */
	if (!map->entries || (map->count + 1) * 4 > (map->mask + 1) * 3) {
		if (grow(map))
			return -ENOMEM;
	}
	entry = slot(map, a, b);
	if (!entry->value)
		map->count++;
	entry->a = a;
	entry->b = b;
	entry->value = value;
	return 0;
}

void *pt_map_make(struct pt_map *map, uint64_t a, uint64_t b, size_t size)
{
	void *value = calloc(1, size);

	if (value && pt_map_put(map, a, b, value)) {
		free(value);
		return NULL;
	}
	return value;
}

void pt_map_release(struct pt_map *map)
{
	free(map->entries);
	memset(map, 0, sizeof(*map));
}

uint64_t pt_hash_bytes(const void *data, size_t len, uint64_t seed)
{
	const unsigned char *bytes = data;
	uint64_t hash = mix(seed ^ len), word;

	for (; len >= 8; len -= 8, bytes += 8) {
		memcpy(&word, bytes, 8);
		hash = mix(hash ^ word) + word;
	}
	for (word = 0; len > 0; len--, bytes++)
		word = word << 8 | *bytes;
	return mix(hash ^ word);
}
