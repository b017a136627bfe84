// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * The ELF reader and the site finders, on files in memory. The first byte of the input chooses:
 * even: the rest is an ELF file; odd: the rest is a list of changes (place, bits) to a real
 * interpreter, $FUZZ_INTERPRETER or the system's, which gets the fuzzer past the identification.
 * Whatever a finder says, its sites have to be whole instructions of the file.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "python/cfunc.h"
#include "python/method_sites.h"
#include "python/parts.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv);

#define CHANGES_MAX 16

struct change {
	uint32_t place;
	uint8_t bits;
} __attribute__((packed));

static uint8_t *base, *pristine;
static size_t base_bytes;
static uint64_t eval_offset, eval_bytes; /* where most changes go */

static void check_sites(const struct elf_file *elf, const struct py_engine_plan *plan)
{
	for (size_t i = 0; i < plan->site_count; i++) {
		const struct py_site *site = &plan->sites[i];
		const void *bytes = elf_at_vaddr(elf, site->vaddr, site->byte_count);

		if (!site->byte_count || !bytes || memcmp(bytes, site->bytes, site->byte_count))
			abort();
	}
}

static void find(const struct elf_file *elf, struct py_image *image)
{
	struct eh_ranges eh;
	struct py_finder finder = {elf, &eh, PY_INSN_EMULATED_DEFAULT};

	if (eh_ranges_load(elf, &eh))
		return;
	for (int engine = 0; engine < PY_ENGINE_COUNT; engine++) {
		struct py_engine_plan *plan = &image->engines[engine];
		int rc;

		if (engine == PY_ENGINE_USDT)
			rc = py_sites_usdt(image, &finder, plan);
		else if (engine == PY_ENGINE_C_CALLS)
			rc = py_sites_c(image, &finder, plan);
		else if (engine == PY_ENGINE_SAMPLE)
			rc = py_sample_fill(image, elf, plan);
		else if (image->version >= 0x030b0000)
			rc = py_sites_frame(image, &finder, &image->layout, plan);
		else
			rc = py_sites_legacy(image, &finder, plan);
		if (!rc && engine < PY_ENGINE_C_CALLS)
			py_site_free_code(image, &finder, plan);
		check_sites(elf, plan);
		free(plan->sites);
	}
	eh_ranges_release(&eh);
}

/* C functions, of small files: in the interpreter it takes long. */
static void find_methods(const struct elf_file *elf)
{
	static const char *const all[] = {"*", NULL};
	struct py_method_defs defs;
	struct py_method_sites found;

	if (py_method_defs_find(elf, &defs))
		return;
	if (!py_method_sites_find(elf, &defs, all, PY_INSN_EMULATED_DEFAULT, &found)) {
		for (size_t i = 0; i < found.count; i++) {
			struct py_engine_plan plan = {.sites = &found.sites[i].site,
						      .site_count = 1};

			check_sites(elf, &plan);
		}
		py_method_sites_release(&found);
	}
	py_method_defs_release(&defs);
}

static void run(const void *data, size_t size, bool whole)
{
	struct py_image image = {0};
	struct pt_err err = {0};
	struct elf_file *elf;

	if (elf_file_memory(data, size, &elf, &err)) {
		if (!pt_err_is_set(&err))
			abort();
		return;
	}
	if (!py_layout_fill(&image, elf, &err)) {
		if (whole) {
			eval_offset = image.eval.offset;
			eval_bytes = image.eval.size;
		}
		find(elf, &image);
	}
	if (data != base)
		find_methods(elf);
	elf_file_close(elf);
}

static void change(const uint8_t *data, size_t size)
{
	struct change changes[CHANGES_MAX];
	size_t count = size / sizeof(changes[0]);

	count = count < CHANGES_MAX ? count : CHANGES_MAX;
	memcpy(changes, data, count * sizeof(changes[0]));
	for (size_t i = 0; i < count; i++) {
		uint64_t place = changes[i].place >> 1;

		place = changes[i].place & 1 && eval_bytes ? eval_offset + place % eval_bytes
							   : place % base_bytes;
		base[place % base_bytes] ^= changes[i].bits;
		changes[i].place = (uint32_t)(place % base_bytes);
	}
	run(base, base_bytes, false);
	for (size_t i = 0; i < count; i++)
		base[changes[i].place] = pristine[changes[i].place];
}

static bool load_base(const char *path)
{
	int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
	struct stat st;
	bool ok;

	if (fd < 0)
		return false;
	ok = fstat(fd, &st) == 0 && st.st_size > 0 && st.st_size < INT32_MAX;
	if (ok) {
		base_bytes = (size_t)st.st_size;
		base = malloc(base_bytes);
		pristine = malloc(base_bytes);
		ok = base && pristine && read(fd, base, base_bytes) == (ssize_t)base_bytes;
	}
	close(fd);
	if (!ok)
		abort();
	memcpy(pristine, base, base_bytes);
	return true;
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	if (!load_base(getenv("FUZZ_INTERPRETER")) && !load_base("/usr/bin/python3"))
		fprintf(stderr, "no interpreter to change: only small files are tried\n");
	else
		run(base, base_bytes, true);
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t *copy;

	if (!size)
		return 0;
	if (data[0] & 1) {
		if (base)
			change(data + 1, size - 1);
		return 0;
	}
	copy = malloc(size - 1); /* exactly its size, so that reading beyond is seen */
	if (!copy)
		abort();
	memcpy(copy, data + 1, size - 1);
	run(copy, size - 1, false);
	free(copy);
	return 0;
}
