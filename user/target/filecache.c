// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
#include "target/filecache.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>

#include "target/process.h"

#define FIRST_SLOTS 256

struct slot {
	uint64_t dev, inode, ctime_ns;
	bool used, holds;
};

struct pt_file_cache {
	struct slot *slots;
	size_t slot_count; /* a power of two */
	size_t used;
};

struct pt_file_cache *pt_file_cache_new(void)
{
	struct pt_file_cache *cache = calloc(1, sizeof(*cache));

	if (!cache)
		return NULL;
	cache->slots = calloc(FIRST_SLOTS, sizeof(*cache->slots));
	if (!cache->slots) {
		free(cache);
		return NULL;
	}
	cache->slot_count = FIRST_SLOTS;
	return cache;
}

void pt_file_cache_free(struct pt_file_cache *cache)
{
	if (!cache)
		return;
	free(cache->slots);
	free(cache);
}

static struct slot make_key(const struct stat *file)
{
	return (struct slot){
	    .dev = file->st_dev,
	    .inode = file->st_ino,
	    .ctime_ns = (uint64_t)file->st_ctim.tv_sec * 1000000000ull +
			(uint64_t)file->st_ctim.tv_nsec,
	    .used = true,
	};
}

/* The slot that holds the key, or the free one where it belongs. The table is never full. */
static struct slot *find_slot(struct slot *slots, size_t slot_count, const struct slot *key)
{
	uint64_t hash = (key->inode * 0x9e3779b97f4a7c15ull) ^ (key->dev << 17) ^ key->ctime_ns;
	size_t i = (size_t)(hash ^ hash >> 29) & (slot_count - 1);

	while (slots[i].used && (slots[i].inode != key->inode || slots[i].dev != key->dev ||
				 slots[i].ctime_ns != key->ctime_ns))
		i = (i + 1) & (slot_count - 1);
	return &slots[i];
}

static bool grow(struct pt_file_cache *cache)
{
	size_t slot_count = cache->slot_count * 2;
	struct slot *slots = calloc(slot_count, sizeof(*slots));

	if (!slots)
		return false;
	for (size_t i = 0; i < cache->slot_count; i++)
		if (cache->slots[i].used)
			*find_slot(slots, slot_count, &cache->slots[i]) = cache->slots[i];
	free(cache->slots);
	cache->slots = slots;
	cache->slot_count = slot_count;
	return true;
}

int pt_file_cache_get(const struct pt_file_cache *cache, const struct stat *file, bool *holds)
{
	struct slot key = make_key(file);
	const struct slot *slot = find_slot(cache->slots, cache->slot_count, &key);

	if (!slot->used)
		return -ENOENT;
	*holds = slot->holds;
	return 0;
}

void pt_file_cache_put(struct pt_file_cache *cache, const struct stat *file, bool holds)
{
	struct slot key = make_key(file), *slot;

	if (cache->used * 2 >= cache->slot_count && !grow(cache) &&
	    cache->used + 1 >= cache->slot_count)
		return;
	key.holds = holds;
	slot = find_slot(cache->slots, cache->slot_count, &key);
	if (!slot->used)
		cache->used++;
	*slot = key;
}
