// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/* The finder of PyTorch's operators on an ELF file in memory: each has its number, its name, and
 * ends that tell the same number. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "cuda/torch.h"
#include "pt_maps.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const struct pt_cuda_library *library)
{
	for (size_t i = 0; i < library->plan.site_count; i++) {
		const struct pt_cuda_fn *fn = &library->fns[i];
		size_t ends = 0;

		if (fn->id < PT_TORCH_ID_FIRST || fn->id > PT_CUDA_FN_MAX || !*fn->row->symbol ||
		    PT_CUDA_COOKIE_FN(library->plan.sites[i].cookie) != fn->id)
			abort();
		for (size_t k = 0; k < library->leaves.site_count; k++)
			ends += PT_CUDA_COOKIE_FN(library->leaves.sites[k].cookie) == fn->id;
		if (!ends)
			abort();
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct pt_torch_names names = {0};
	struct pt_cuda_library *library;
	struct pt_err err = {0};
	struct elf_file *elf;
	uint8_t *copy = malloc(size ? size
				    : 1); /* exactly its size, so that reading beyond is seen */

	if (!copy)
		abort();
	memcpy(copy, data, size);
	if (!elf_file_memory(copy, size, &elf, &err)) {
		if (pt_torch_library_find(elf, "x", PY_INSN_EMULATED_DEFAULT, NULL, &names,
					  &library, &err)) {
			if (!pt_err_is_set(&err))
				abort();
		} else if (library) {
			check(library);
			pt_cuda_library_free(library);
		}
		elf_file_close(elf);
	}
	pt_torch_names_release(&names);
	free(copy);
	return 0;
}
