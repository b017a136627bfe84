/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * calls.h - which CUDA functions a file has, and where: by its symbol tables, never by its name. So
 * libcudart of any origin, libcuda, and a libcudart that was linked into a program or an extension
 * module which still has its symbols are all the same here.
 *
 * pt_cuda_library_load() -> use -> pt_cuda_library_free().
 */
#ifndef PT_CUDA_CALLS_H
#define PT_CUDA_CALLS_H

#include "base/err.h"
#include "cuda/table.h"
#include "python/image.h"

/* Bits for what is wanted. */
#define PT_CUDA_WANT_RUNTIME (1u << PT_CUDA_RUNTIME)
#define PT_CUDA_WANT_DRIVER  (1u << PT_CUDA_DRIVER)

/* A function's number in the trace. bare: the arguments are not known, since its CUDA is newer than
 * the table. */
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
	struct py_engine_plan plan; /* one site a function; cookie: PT_CUDA_COOKIE */
	struct pt_cuda_fn *fns;     /* of the sites, in their order */
};

/* The newest whose arguments the table knows. */
#define PT_CUDA_MAJOR_MAX 13

/* *library NULL: the file has none of the wanted functions. path is copied. */
int pt_cuda_library_load(const char *open_path, const char *path, unsigned int want,
			 struct pt_cuda_library **library, struct pt_err *err);
void pt_cuda_library_free(struct pt_cuda_library *library);

#endif
