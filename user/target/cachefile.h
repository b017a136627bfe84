/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * cachefile.h - files of the user's cache directory: what was found out about an ELF file.
 *
 * A cache file is only believed if we ourselves or root wrote it. It is written to a temporary name
 * and renamed, so that nobody sees half of one.
 */
#ifndef PT_TARGET_CACHEFILE_H
#define PT_TARGET_CACHEFILE_H

#include <stddef.h>
#include <stdint.h>

#include "target/elf.h"

struct pt_cache_key {
	char name[160]; /* of the file in the cache directory */
	uint64_t hash;  /* of everything the name stands for */
};

/* Names a cache file for an ELF file by its build id or, without one, by what identifies it; kind
 * begins the name, variant and revision (hexadecimal, decimal) end it. */
void pt_cache_key(struct pt_cache_key *key, const char *kind, const struct elf_file *elf,
		  unsigned int variant, unsigned int revision);

/* -ENOENT: there is none, or none to believe, of at most max bytes. The caller frees *data. */
int pt_cache_file_read(const char *dir, const char *name, size_t max, uint8_t **data, size_t *size);
/* Makes the directory if it is not there. */
int pt_cache_file_write(const char *dir, const char *name, const uint8_t *data, size_t size);

/* FNV-1a, enough against damage. Begin with PT_CACHE_HASH_START. */
#define PT_CACHE_HASH_START 0xcbf29ce484222325ull
uint64_t pt_cache_hash(uint64_t hash, const void *data, size_t size);

#endif
