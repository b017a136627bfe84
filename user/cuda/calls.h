/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * calls.h - which CUDA functions a file has, and where: by its symbol tables, never by its name. So
 * libcudart of any origin, libcuda, and a libcudart that was linked into a program or an extension
 * module which still has its symbols are all the same here. Of one that was linked into a stripped
 * file the code tells (statics.h); that takes reading all of it, so it is a step of its own.
 *
 * pt_cuda_library_load(), perhaps pt_cuda_library_load_inside() -> use -> pt_cuda_library_free().
 */
#ifndef PT_CUDA_CALLS_H
#define PT_CUDA_CALLS_H

#include <stdatomic.h>

#include "base/err.h"
#include "cuda/table.h"
#include "python/image.h"
#include "target/elf.h"

/* Bits for what is wanted. */
#define PT_CUDA_WANT_RUNTIME      (1u << PT_CUDA_RUNTIME)
#define PT_CUDA_WANT_DRIVER       (1u << PT_CUDA_DRIVER)
#define PT_CUDA_WANT_NCCL         (1u << PT_CUDA_NCCL)
#define PT_CUDA_WANT_CUBLAS       (1u << PT_CUDA_CUBLAS)
#define PT_CUDA_WANT_CUDNN        (1u << PT_CUDA_CUDNN)
#define PT_CUDA_WANT_TORCH        (1u << PT_CUDA_TORCH) /* see torch.h */
/* The stacks of calls of these groups (pt_cuda_group()), and of all. */
#define PT_CUDA_WANT_STACK(group) (0x100u << (group))
#define PT_CUDA_WANT_STACKS       PT_CUDA_WANT_STACK(PT_CUDA_GROUP_OTHER)
#define PT_WANT_MARK_STACKS       PT_CUDA_WANT_STACK(PT_CUDA_GROUP_COUNT) /* of the user's probes */

/* A function's number in the trace. bare: the arguments are not known, since its CUDA is newer than
 * the table, or its cuBLAS or cuDNN another one. */
struct pt_cuda_fn {
	uint32_t id;
	const struct pt_cuda_row *row;
	bool bare;
	struct pt_cuda_layout layout; /* empty if bare */
};

struct pt_cuda_library {
	char *path;         /* as the process sees it */
	unsigned int major; /* of the runtime; 0: has none */
	bool bare;
	unsigned int lib_major; /* of cuBLAS or cuDNN; 0: has none, or does not say */
	bool lib_bare;
	size_t refused;        /* functions that are somewhere in its code, but not sure where */
	char why_refused[256]; /* of PyTorch's operators: the first */
	struct py_engine_plan plan; /* one site a function; cookie: PT_CUDA_COOKIE */
	struct pt_cuda_fn *fns;     /* of the sites, in their order */
	/* of PyTorch's operators only (torch.h) */
	struct py_engine_plan
	    leaves; /* where they end, cookie: PT_TORCH_COOKIE; else: the return */
	struct pt_cuda_row *rows;
	bool blocks; /* PyTorch's allocators (torch_memory.h): no leaves, no returns, no fns */
};

struct pt_cuda_inside_options {
	unsigned int want;
	const char *cache_dir;   /* NULL: no cache */
	const atomic_bool *stop; /* set by another thread to end it early; may be NULL */
};

/* The newest whose arguments the table knows. */
#define PT_CUDA_MAJOR_MAX    13
/* Those that the table's arguments are of. */
#define PT_CUDA_CUBLAS_MAJOR 13
#define PT_CUDA_CUDNN_MAJOR  9

/* *library NULL: the file has none of the wanted functions, or *inside: its code has to be looked
 * at for them. path is copied. */
int pt_cuda_library_load(const char *open_path, const char *path, unsigned int want,
			 struct pt_cuda_library **library, bool *inside, struct pt_err *err);
/* Takes a second for 200 MB of code; -ECANCELED: *stop was set. */
int pt_cuda_library_load_inside(const char *open_path, const char *path,
				const struct pt_cuda_inside_options *options,
				struct pt_cuda_library **library, struct pt_err *err);
/* Where to put a probe on the entry: behind endbr64, which does nothing, but which the kernel has
 * to single-step. */
uint64_t pt_cuda_entry(const struct elf_file *elf, uint64_t vaddr);
void pt_cuda_library_free(struct pt_cuda_library *library);

#endif
