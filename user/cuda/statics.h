/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * statics.h - the functions of a libcudart that was linked into a file without symbols, as nvcc
 * does by default and NVIDIA's libraries do.
 *
 * Each of them tells whoever profiles it its name and its number (CUPTI's callback id), so its code
 * refers to the one and holds the other. A function is believed to be cudaX if it is the only one
 * whose code has both, and has no other such name. The number changes with the arguments, so it
 * also says which of a row's forms it is.
 *
 * The ELF file may be hostile; memory and work are bounded by its size. Only x86-64.
 */
#ifndef PT_CUDA_STATICS_H
#define PT_CUDA_STATICS_H

#include <stdatomic.h>

#include "cuda/table.h"
#include "target/elf.h"

struct pt_cuda_static {
	const struct pt_cuda_row *row;
	uint64_t vaddr;     /* where the function begins */
	uint64_t name, use; /* where its name lies, and the instruction that refers to it */
};

struct pt_cuda_statics {
	struct pt_cuda_static *fns;
	size_t count;
	size_t refused;     /* names that some code refers to, but of no function, or of several */
	unsigned int major; /* of CUDA: 11 (or before), 12, 13 (or later) */
};

/* The name that this instruction refers to, or whose address it loads; 0: it does neither. bytes:
 * of the code from there on, so many; major: of CUDA, as below. */
#define PT_CUDA_STATIC_BYTES 8
uint64_t pt_cuda_static_name(const struct elf_file *elf, unsigned int major, const uint8_t *bytes,
			     uint64_t vaddr);
/* Whether the file may have such functions; quick, for files without symbols of theirs. */
bool pt_cuda_statics_likely(const struct elf_file *elf);
/* Reads through all code of the file; it is trimmed (elf_trim()). A file with none gives 0 and
 * count 0. -ENOENT: it has no .eh_frame; -E2BIG, -EIO, -ECANCELED (*stop was set), -ENOMEM. stop
 * may be NULL. */
int pt_cuda_statics_find(const struct elf_file *elf, const atomic_bool *stop,
			 struct pt_cuda_statics *statics);
/* The same, or what the cache directory (may be NULL) has of the file, if it holds still. */
int pt_cuda_statics_load(const struct elf_file *elf, const char *cache_dir, const atomic_bool *stop,
			 struct pt_cuda_statics *statics);
void pt_cuda_statics_release(struct pt_cuda_statics *statics);

#endif
