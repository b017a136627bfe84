/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * torch_memory.h - where PyTorch's allocators tell what they have given out and taken back:
 * libc10's
 *
 *   c10::ProfiledCPUMemoryReporter::New(void *ptr, size_t nbytes)   memory of the host is allocated
 *   c10::ProfiledCPUMemoryReporter::Delete(void *ptr)               and will be freed at once
 *   c10::reportMemoryUsageToProfiler(void *ptr, int64_t alloc_size, size_t total_allocated,
 *                                    size_t total_reserved, Device device)
 *                                                          of a device: freed if alloc_size < 0
 *
 * The allocators call them whether or not anybody profiles. c10::alloc_cpu() and free_cpu() are the
 * layer below; but it takes a return probe to see what alloc_cpu() returns, and it may throw.
 *
 * The first two are called within libc10 only. A compiler that is allowed to could have put copies
 * of them into their callers, where no probe would see them; where it is not, the calls go by the
 * symbol, and the file asks the dynamic linker for it. That is looked for, and what fails is
 * refused. The third is called by other libraries.
 *
 * The result is a struct pt_cuda_library with blocks, whose sites have an enum pt_block_what as
 * cookie.
 */
#ifndef PT_CUDA_TORCH_MEMORY_H
#define PT_CUDA_TORCH_MEMORY_H

#include "cuda/calls.h"

/* *library NULL: the file has none of these functions. refused and why_refused of the library say
 * what is left out. -ENOTSUP: all of them. */
int pt_torch_memory_load(const char *open_path, const char *path, struct pt_cuda_library **library,
			 struct pt_err *err);

#endif
