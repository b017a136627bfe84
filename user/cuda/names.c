// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
#include "cuda/names.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/utf8.h"
#include "cuda/names_parts.h"
#include "target/memory.h"

#define NAMES_MAX_BYTES (256u << 20) /* of one file */

/* ---- the table ---- */

static int compare(const void *a, const void *b)
{
	const struct pt_kernel *x = a, *y = b;

	if (x->host != y->host)
		return x->host < y->host ? -1 : 1;
	return strcmp(x->name, y->name);
}

/* Some files register a kernel twice. */
static void drop_doubles(struct pt_kernels *kernels)
{
	size_t kept = 0;

	for (size_t i = 0; i < kernels->count; i++)
		if (!kept || compare(&kernels->kernels[i], &kernels->kernels[kept - 1]))
			kernels->kernels[kept++] = kernels->kernels[i];
	kernels->count = kept;
}

/* It gets to terminals and into JSON: UTF-8 without control characters. */
static bool is_printable(const char *name)
{
	size_t len = strlen(name);
	char *clean = malloc(len + 1);
	bool good = clean && len && pt_utf8_clean(clean, len + 1, name, len) == len &&
		    !memcmp(clean, name, len);

	for (size_t i = 0; i < len && good; i++)
		good = (unsigned char)name[i] > ' ' && name[i] != 0x7f;
	free(clean);
	return good;
}

static int names_read(const struct elf_file *elf, const struct kn_sites *sites,
		      struct pt_kernels *kernels, struct pt_buf *names)
{
	size_t *at = calloc(sites->count + 1, sizeof(*at));

	if (!at)
		return -ENOMEM;
	for (size_t i = 0; i < sites->count && !names->failed; i++) {
		const char *name = elf_string_at_vaddr(elf, sites->sites[i].name, KN_NAME_MAX);

		if (!name || !is_printable(name) || names->len > NAMES_MAX_BYTES) {
			kernels->undecoded++;
			continue;
		}
		at[kernels->count] = names->len;
		kernels->kernels[kernels->count++] = (struct pt_kernel){
		    .host = sites->sites[i].host, .text = sites->sites[i].name};
		pt_buf_add(names, name, strlen(name) + 1);
		elf_trim(elf, KN_RESIDENT_BYTES);
	}
	for (size_t i = 0; i < kernels->count && !names->failed; i++)
		kernels->kernels[i].name = names->data + at[i];
	free(at);
	return names->failed ? -ENOMEM : 0;
}

static int table_build(const struct elf_file *elf, const struct kn_sites *sites,
		       struct pt_kernels *kernels)
{
	struct pt_buf names = {0};
	int rc;

	kernels->undecoded = sites->undecoded;
	kernels->registrar = sites->registrar;
	kernels->kernels = calloc(sites->count + 1, sizeof(*kernels->kernels));
	rc = kernels->kernels ? names_read(elf, sites, kernels, &names) : -ENOMEM;
	kernels->names = names.data;
	if (rc)
		return rc;
	qsort(kernels->kernels, kernels->count, sizeof(*kernels->kernels), compare);
	drop_doubles(kernels);
	return 0;
}

void pt_kernels_free(struct pt_kernels *kernels)
{
	if (!kernels)
		return;
	free(kernels->kernels);
	free(kernels->names);
	free(kernels);
}

const struct pt_kernel *pt_kernels_find(const struct pt_kernels *kernels, uint64_t vaddr,
					size_t *names)
{
	size_t low = 0, high = kernels->count, end;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (kernels->kernels[middle].host < vaddr)
			low = middle + 1;
		else
			high = middle;
	}
	for (end = low; end < kernels->count && kernels->kernels[end].host == vaddr; end++)
		;
	if (names)
		*names = end - low;
	return end > low ? &kernels->kernels[low] : NULL;
}

/* ---- from the file ---- */

/* nvcc and clang put what they register, code for the GPU, into a section of this name. */
bool pt_kernels_has_code(const struct elf_file *elf)
{
	return elf_section(elf, ".nvFatBinSegment") != NULL;
}

static int decode(struct kn_walk *walk, struct pt_kernels *kernels)
{
	struct kn_sites sites = {0};
	int rc = kn_register_find(walk, &sites);

	if (!rc)
		rc = table_build(walk->elf, &sites, kernels);
	if (!rc)
		rc = kn_handles_find(walk, kernels->kernels, kernels->count);
	free(sites.sites);
	return rc;
}

static const char *why(int rc)
{
	switch (rc) {
	case -ECANCELED:
		return "decoding was given up";
	case -ENOEXEC:
		return "without section headers it cannot be told";
	case -ENOENT:
		return "without .eh_frame its code cannot be read";
	case -ENOTSUP:
		return "it is not for x86-64";
	case -E2BIG:
		return "its code overlaps, or there is more of it than the file holds";
	case -EIO:
		return "it is shorter than its headers say";
	default:
		return strerror(-rc);
	}
}

static int tell(struct pt_err *err, const char *label, int rc)
{
	return pt_err_set(err, rc, rc == -ENOMEM ? PT_EXIT_FAILED : PT_EXIT_UNSUPPORTED, NULL,
			  "cannot find the CUDA kernels of '%s': %s", label, why(rc));
}

/* Of a file with device code. Leaves the result in the cache, if there is one. */
static int decode_code(const struct elf_file *elf, const struct pt_kernels_options *options,
		       struct pt_kernels *kernels)
{
	struct eh_ranges eh = {0};
	struct kn_walk walk = {0};
	int rc = elf->machine == EM_X86_64 ? eh_ranges_load(elf, &eh) : -ENOTSUP, cached;

	if (!rc)
		rc = kn_walk_init(&walk, elf, &eh, options->stop);
	if (!rc)
		rc = decode(&walk, kernels);
	if (!rc && options->cache_dir) {
		cached = kn_cache_write(options->cache_dir, &walk, kernels);
		if (cached)
			pt_verbose("cannot write to the cache '%s': %s", options->cache_dir,
				   strerror(-cached));
	}
	kn_walk_release(&walk);
	eh_ranges_release(&eh);
	return rc;
}

static int decode_file(const struct elf_file *elf, const struct pt_kernels_options *options,
		       struct pt_kernels **result)
{
	struct pt_kernels *kernels = calloc(1, sizeof(*kernels));
	int rc = !kernels ? -ENOMEM : !elf->section_count ? -ENOEXEC : 0;

	if (!rc && pt_kernels_has_code(elf)) {
		kernels->device_code = true;
		rc = decode_code(elf, options, kernels);
	}
	if (rc) {
		pt_kernels_free(kernels);
		return rc;
	}
	*result = kernels;
	return 0;
}

int pt_kernels_decode(const struct elf_file *elf, const atomic_bool *stop,
		      struct pt_kernels **kernels, struct pt_err *err)
{
	const struct pt_kernels_options options = {.stop = stop};
	int rc = decode_file(elf, &options, kernels);

	return rc ? tell(err, "memory", rc) : 0;
}

int pt_kernels_open(const char *path, const struct pt_kernels_options *options,
		    struct pt_kernels **kernels, struct pt_err *err)
{
	struct elf_file *elf;
	int rc = elf_file_open(path, &elf, err);

	*kernels = NULL;
	if (rc)
		return rc;
	if (!options->cache_dir || !pt_kernels_has_code(elf) ||
	    kn_cache_read(options->cache_dir, elf, kernels)) {
		rc = decode_file(elf, options, kernels);
		if (rc)
			tell(err, options->label ? options->label : path, rc);
	}
	elf_file_close(elf);
	return rc;
}

/* ---- handles ---- */

#define HANDLES_AT_ONCE 4096u /* bytes: most variables lie close to one another */

static int compare_handles(const void *a, const void *b)
{
	const struct pt_kernel *const *x = a, *const *y = b;

	return (*x)->handle < (*y)->handle ? -1 : (*x)->handle > (*y)->handle;
}

/* Kernels with a variable, by its address. */
static const struct pt_kernel **by_variable(const struct pt_kernels *kernels, size_t *count)
{
	const struct pt_kernel **list = calloc(kernels->count + 1, sizeof(*list));

	*count = 0;
	for (size_t i = 0; list && i < kernels->count; i++)
		if (kernels->kernels[i].handle)
			list[(*count)++] = &kernels->kernels[i];
	if (list)
		qsort(list, *count, sizeof(*list), compare_handles);
	return list;
}

ssize_t pt_kernel_handles_read(struct pt_kernel_handles *handles, const struct pt_kernels *kernels,
			       pid_t pid, uint64_t bias)
{
	size_t count, i = 0;
	const struct pt_kernel **list = by_variable(kernels, &count);
	ssize_t found = 0;
	int rc = list ? 0 : -ENOMEM;

	while (i < count && !rc) {
		uint8_t bytes[HANDLES_AT_ONCE];
		uint64_t first = list[i]->handle, value;
		size_t end = i;

		while (end < count && list[end]->handle - first <= sizeof(bytes) - sizeof(value))
			end++;
		rc = pt_memory_read(pid, bias + first, bytes,
				    list[end - 1]->handle - first + sizeof(value));
		for (; i < end && !rc; i++) {
			memcpy(&value, bytes + (list[i]->handle - first), sizeof(value));
			if (!value)
				continue;
			found++;
			rc = pt_map_put(&handles->by_value, value, 0, (void *)list[i]);
		}
	}
	free(list);
	return rc ? rc : found;
}

const struct pt_kernel *pt_kernel_handles_find(const struct pt_kernel_handles *handles,
					       uint64_t handle)
{
	return pt_map_get(&handles->by_value, handle, 0);
}

void pt_kernel_handles_release(struct pt_kernel_handles *handles)
{
	pt_map_release(&handles->by_value);
}
