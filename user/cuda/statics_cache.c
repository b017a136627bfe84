// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * The file: struct cache_head and the functions. It stays on the machine that wrote it, so structs
 * are written as they lie in memory. Two files may claim the same build id, so that each function
 * still refers to its name is looked up in the ELF file. That a file has none is not kept.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "cuda/names_parts.h"
#include "cuda/statics.h"
#include "target/cachefile.h"

/* Raise this when the result for the same file may change. */
#define STATICS_REVISION 3
#define CACHE_MAGIC      0x3163747374617470ull
#define CACHE_MAX_BYTES  (1u << 20)
#define FUNCTION_BYTES   (64u << 10) /* as in statics.c: the use lies within */

struct cache_head {
	uint64_t magic;
	uint64_t checksum; /* of everything behind this field */
	uint64_t key_hash;
	uint64_t count, refused, major;
};

struct cache_fn {
	uint64_t vaddr, name, use;
	char symbol[PT_CUDA_SYMBOL_BYTES];
};

#define CHECKED_FROM 16u /* bytes: behind checksum */

static void make_key(struct pt_cache_key *key, const struct elf_file *elf)
{
	/* what is found depends on which functions the table has */
	pt_cache_key(key, "cudart", elf, (unsigned int)pt_cuda_row_count, STATICS_REVISION);
}

/* Does the instruction at use still refer to the name? */
static bool refers(const struct elf_file *elf, uint64_t major, const struct cache_fn *fn)
{
	const char *name = elf_string_at_vaddr(elf, fn->name, sizeof(fn->symbol));
	const uint8_t *code;

	if (!name || strcmp(name, fn->symbol) != 0 || fn->use - fn->vaddr >= FUNCTION_BYTES ||
	    !kn_is_code(elf, fn->vaddr))
		return false;
	code = elf_at_vaddr(elf, fn->use, PT_CUDA_STATIC_BYTES);
	return code && pt_cuda_static_name(elf, (unsigned int)major, code, fn->use) == fn->name;
}

static bool parse(const struct cache_head *head, const uint8_t *data, const struct elf_file *elf,
		  struct pt_cuda_statics *statics)
{
	statics->fns = calloc(head->count + 1, sizeof(*statics->fns));
	if (!statics->fns)
		return false;
	for (uint64_t i = 0; i < head->count; i++) {
		const struct pt_cuda_row *row;
		struct cache_fn fn;

		memcpy(&fn, data + i * sizeof(fn), sizeof(fn));
		fn.symbol[sizeof(fn.symbol) - 1] = '\0';
		row = pt_cuda_row_find(fn.symbol, (unsigned int)head->major);
		elf_trim(elf, KN_RESIDENT_BYTES);
		if (!row || row->api != PT_CUDA_RUNTIME || !refers(elf, head->major, &fn))
			return false;
		statics->fns[statics->count++] = (struct pt_cuda_static){row, fn.vaddr, fn.name,
									 fn.use};
	}
	statics->refused = head->refused;
	statics->major = (unsigned int)head->major;
	return true;
}

static bool cache_read(const char *dir, const struct elf_file *elf, struct pt_cuda_statics *statics)
{
	struct cache_head head = {0};
	struct pt_cache_key key;
	uint8_t *data;
	size_t size;
	bool good;

	make_key(&key, elf);
	if (pt_cache_file_read(dir, key.name, CACHE_MAX_BYTES, &data, &size))
		return false;
	if (size >= sizeof(head))
		memcpy(&head, data, sizeof(head));
	good = head.magic == CACHE_MAGIC && head.key_hash == key.hash && head.count &&
	       head.count <= pt_cuda_row_count &&
	       size == sizeof(head) + head.count * sizeof(struct cache_fn) &&
	       head.checksum ==
		   pt_cache_hash(PT_CACHE_HASH_START, data + CHECKED_FROM, size - CHECKED_FROM) &&
	       parse(&head, data + sizeof(head), elf, statics);
	free(data);
	if (!good)
		pt_cuda_statics_release(statics);
	return good;
}

static int cache_write(const char *dir, const struct elf_file *elf,
		       const struct pt_cuda_statics *statics)
{
	struct cache_head head = {.magic = CACHE_MAGIC,
				  .count = statics->count,
				  .refused = statics->refused,
				  .major = statics->major};
	struct pt_cache_key key;
	struct pt_buf buf = {0};
	int rc = -ENOMEM;

	make_key(&key, elf);
	head.key_hash = key.hash;
	pt_buf_add(&buf, &head, sizeof(head));
	for (size_t i = 0; i < statics->count; i++) {
		const struct pt_cuda_static *from = &statics->fns[i];
		struct cache_fn fn = {from->vaddr, from->name, from->use, ""};

		memcpy(fn.symbol, from->row->symbol, strlen(from->row->symbol));
		pt_buf_add(&buf, &fn, sizeof(fn));
	}
	if (!buf.failed) {
		head.checksum = pt_cache_hash(PT_CACHE_HASH_START, buf.data + CHECKED_FROM,
					      buf.len - CHECKED_FROM);
		memcpy(buf.data, &head, sizeof(head));
		rc = pt_cache_file_write(dir, key.name, (const uint8_t *)buf.data, buf.len);
	}
	pt_buf_release(&buf);
	return rc;
}

int pt_cuda_statics_load(const struct elf_file *elf, const char *cache_dir, const atomic_bool *stop,
			 struct pt_cuda_statics *statics)
{
	int rc;

	if (cache_dir && cache_read(cache_dir, elf, statics))
		return 0;
	rc = pt_cuda_statics_find(elf, stop, statics);
	if (rc || !cache_dir || !statics->count)
		return rc;
	rc = cache_write(cache_dir, elf, statics);
	if (rc)
		pt_verbose("cannot write to the cache '%s': %s", cache_dir, strerror(-rc));
	return 0;
}
