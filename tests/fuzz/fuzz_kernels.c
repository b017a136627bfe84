// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * The kernel name decoder, and the search for a runtime's functions, on an ELF file in memory. What
 * it says must be consistent: stubs are found again, names are printable text that can be demangled
 * or not, but does no harm.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "cuda/names.h"
#include "cuda/statics.h"
#include "target/elf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const struct pt_kernels *kernels)
{
	for (size_t i = 0; i < kernels->count; i++) {
		const struct pt_kernel *kernel = &kernels->kernels[i];
		size_t names;

		if (!pt_kernels_find(kernels, kernel->host, &names) || !names || !*kernel->name)
			abort();
		free(pt_kernel_demangle(kernel->name));
	}
}

/* Of a runtime inside of the file, each function at most once, and in code. */
static void check_statics(const struct elf_file *elf)
{
	struct pt_cuda_statics statics = {0};

	if (pt_cuda_statics_find(elf, NULL, &statics))
		return;
	for (size_t i = 0; i < statics.count; i++)
		if (!elf_is_code(elf, statics.fns[i].vaddr) ||
		    (i && statics.fns[i].row <= statics.fns[i - 1].row))
			abort();
	pt_cuda_statics_release(&statics);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct pt_kernels *kernels;
	struct pt_err err = {0};
	struct elf_file *elf;
	uint8_t *copy = malloc(size ? size
				    : 1); /* exactly its size, so that reading beyond is seen */

	if (!copy)
		abort();
	memcpy(copy, data, size);
	if (!elf_file_memory(copy, size, &elf, &err)) {
		if (!pt_kernels_decode(elf, NULL, &kernels, &err)) {
			check(kernels);
			pt_kernels_free(kernels);
		} else if (!pt_err_is_set(&err)) {
			abort();
		}
		check_statics(elf);
		elf_file_close(elf);
	}
	free(copy);
	return 0;
}
