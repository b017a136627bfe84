// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * The file: struct cache_head, the kernels, the ranges of the code that they were read from, that
 * code, the names. It stays on the machine that wrote it, so structs are written as they lie in
 * memory. Two files may claim the same build id, so code and names are compared with the ELF
 * file's: that costs a small part of what decoding does.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cuda/names_parts.h"
#include "target/cachefile.h"

/* Raise this when the result for the same file may change. */
#define NAMES_REVISION  1
#define CACHE_MAGIC     0x3173656d616e7470ull
#define CACHE_MAX_BYTES (512u << 20)
#define COUNT_MAX       (16u << 20)

struct cache_head {
	uint64_t magic;
	uint64_t checksum; /* of everything behind this field */
	uint64_t key_hash;
	uint64_t kernel_count, range_count, undecoded, registrar;
	uint64_t code_bytes, name_bytes;
};

struct cache_kernel {
	uint64_t host, handle, text;
	uint64_t name; /* offset in the names */
};

#define CHECKED_FROM 16u /* bytes: behind checksum */

static void make_key(struct pt_cache_key *key, const struct elf_file *elf)
{
	pt_cache_key(key, "kernels", elf, 0, NAMES_REVISION);
}

/* ---- reading ---- */

static bool head_fits(const struct cache_head *head, const struct pt_cache_key *key,
		      const uint8_t *data, size_t size)
{
	if (head->magic != CACHE_MAGIC || head->key_hash != key->hash ||
	    head->kernel_count > COUNT_MAX || head->range_count > COUNT_MAX ||
	    head->code_bytes > size || head->name_bytes > size)
		return false;
	if (size != sizeof(*head) + head->kernel_count * sizeof(struct cache_kernel) +
			head->range_count * sizeof(struct eh_range) + head->code_bytes +
			head->name_bytes)
		return false;
	if (head->name_bytes ? data[size - 1] != 0 : head->kernel_count != 0)
		return false;
	return head->checksum ==
	       pt_cache_hash(PT_CACHE_HASH_START, data + CHECKED_FROM, size - CHECKED_FROM);
}

static bool code_fits(const struct cache_head *head, const uint8_t *ranges, const uint8_t *code,
		      const struct elf_file *elf)
{
	uint64_t left = head->code_bytes;

	for (uint64_t i = 0; i < head->range_count; i++) {
		struct eh_range range;
		const void *bytes;

		memcpy(&range, ranges + i * sizeof(range), sizeof(range));
		if (range.end - range.start > left)
			return false;
		elf_trim(elf, KN_RESIDENT_BYTES);
		bytes = elf_at_vaddr(elf, range.start, range.end - range.start);
		if (!bytes || memcmp(bytes, code, range.end - range.start) != 0)
			return false;
		code += range.end - range.start;
		left -= range.end - range.start;
	}
	return !left;
}

static bool kernel_read(const struct cache_kernel *from, const struct cache_head *head,
			const struct elf_file *elf, const char *names, struct pt_kernel *kernel)
{
	const char *text;

	if (from->name >= head->name_bytes)
		return false;
	*kernel = (struct pt_kernel){.host = from->host,
				     .handle = from->handle,
				     .text = from->text,
				     .name = names + from->name};
	elf_trim(elf, KN_RESIDENT_BYTES);
	text = elf_at_vaddr(elf, from->text, strlen(kernel->name) + 1);
	return text && !memcmp(text, kernel->name, strlen(kernel->name) + 1);
}

static bool parse(const struct cache_head *head, const uint8_t *data, size_t size,
		  const struct elf_file *elf, struct pt_kernels *kernels)
{
	const uint8_t *from = data + sizeof(*head);
	const uint8_t *ranges = from + head->kernel_count * sizeof(struct cache_kernel);
	const uint8_t *code = ranges + head->range_count * sizeof(struct eh_range);

	kernels->undecoded = head->undecoded;
	kernels->registrar = head->registrar;
	kernels->device_code = true;
	kernels->kernels = calloc(head->kernel_count + 1, sizeof(*kernels->kernels));
	kernels->names = malloc(head->name_bytes + 1);
	if (!kernels->kernels || !kernels->names || !code_fits(head, ranges, code, elf))
		return false;
	memcpy(kernels->names, data + size - head->name_bytes, head->name_bytes);
	for (uint64_t i = 0; i < head->kernel_count; i++) {
		struct cache_kernel stored;

		memcpy(&stored, from + i * sizeof(stored), sizeof(stored));
		if (!kernel_read(&stored, head, elf, kernels->names, &kernels->kernels[i]) ||
		    (i && stored.host < kernels->kernels[i - 1].host))
			return false;
		kernels->count++;
	}
	return true;
}

int kn_cache_read(const char *dir, const struct elf_file *elf, struct pt_kernels **result)
{
	struct pt_kernels *kernels;
	struct pt_cache_key key;
	struct cache_head head;
	bool good = false;
	uint8_t *data;
	size_t size;

	make_key(&key, elf);
	if (pt_cache_file_read(dir, key.name, CACHE_MAX_BYTES, &data, &size))
		return -ENOENT;
	kernels = calloc(1, sizeof(*kernels));
	if (kernels && size >= sizeof(head)) {
		memcpy(&head, data, sizeof(head));
		good = head_fits(&head, &key, data, size) && parse(&head, data, size, elf, kernels);
	}
	free(data);
	if (!good) {
		pt_kernels_free(kernels);
		return -ENOENT;
	}
	*result = kernels;
	return 0;
}

/* ---- writing ---- */

static int compare_ranges(const void *a, const void *b)
{
	const struct eh_range *x = a, *y = b;

	return x->start < y->start ? -1 : x->start > y->start;
}

/* The ranges, each once, and their code behind them; returns how many. */
static size_t add_code(struct pt_buf *buf, const struct kn_walk *walk, uint64_t *code_bytes)
{
	struct eh_range *ranges = calloc(walk->used_count + 1, sizeof(*ranges));
	size_t count = 0;

	if (!ranges) {
		buf->failed = true;
		return 0;
	}
	memcpy(ranges, walk->used, walk->used_count * sizeof(*ranges));
	qsort(ranges, walk->used_count, sizeof(*ranges), compare_ranges);
	for (size_t i = 0; i < walk->used_count; i++)
		if (!count || ranges[i].start != ranges[count - 1].start)
			ranges[count++] = ranges[i];
	pt_buf_add(buf, ranges, count * sizeof(*ranges));
	*code_bytes = 0;
	for (size_t i = 0; i < count; i++) {
		uint64_t bytes = ranges[i].end - ranges[i].start;
		const void *code;

		elf_trim(walk->elf, KN_RESIDENT_BYTES);
		code = elf_at_vaddr(walk->elf, ranges[i].start, bytes);
		if (!code || buf->len > CACHE_MAX_BYTES) {
			buf->failed = true;
			break;
		}
		pt_buf_add(buf, code, bytes);
		*code_bytes += bytes;
	}
	free(ranges);
	return count;
}

int kn_cache_write(const char *dir, const struct kn_walk *walk, const struct pt_kernels *kernels)
{
	struct cache_head head = {.magic = CACHE_MAGIC,
				  .kernel_count = kernels->count,
				  .undecoded = kernels->undecoded,
				  .registrar = kernels->registrar};
	struct pt_cache_key key;
	struct pt_buf buf = {0};
	int rc = -ENOMEM;

	make_key(&key, walk->elf);
	head.key_hash = key.hash;
	pt_buf_add(&buf, &head, sizeof(head));
	for (size_t i = 0; i < kernels->count; i++) {
		const struct pt_kernel *kernel = &kernels->kernels[i];
		struct cache_kernel stored = {kernel->host, kernel->handle, kernel->text,
					      head.name_bytes};

		head.name_bytes += strlen(kernel->name) + 1;
		pt_buf_add(&buf, &stored, sizeof(stored));
	}
	head.range_count = add_code(&buf, walk, &head.code_bytes);
	for (size_t i = 0; i < kernels->count; i++)
		pt_buf_add(&buf, kernels->kernels[i].name, strlen(kernels->kernels[i].name) + 1);
	if (!buf.failed && buf.len <= CACHE_MAX_BYTES) {
		memcpy(buf.data, &head, sizeof(head));
		head.checksum = pt_cache_hash(PT_CACHE_HASH_START, buf.data + CHECKED_FROM,
					      buf.len - CHECKED_FROM);
		memcpy(buf.data, &head, sizeof(head));
		rc = pt_cache_file_write(dir, key.name, (const uint8_t *)buf.data, buf.len);
	}
	pt_buf_release(&buf);
	return rc;
}
