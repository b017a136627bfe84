/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * memory.h - which CUDA functions allocate and free memory, and what a call of one did: read from
 * the words of its call and return by the layout of table.h. Stateless.
 */
#ifndef PT_CUDA_MEMORY_H
#define PT_CUDA_MEMORY_H

#include "cuda/table.h"

enum pt_cuda_memory_what {
	PT_CUDA_MEMORY_ALLOC = 1,
	PT_CUDA_MEMORY_FREE,
	PT_CUDA_MEMORY_RETAIN, /* one more owner of physical memory */
	PT_CUDA_MEMORY_IMPORT, /* physical memory of another process */
	PT_CUDA_MEMORY_MAP,    /* physical memory gets an address */
	PT_CUDA_MEMORY_UNMAP,
	PT_CUDA_MEMORY_DEVICE,         /* the thread's device is known now */
	PT_CUDA_MEMORY_DEVICE_UNKNOWN, /* and now it is not */
	PT_CUDA_MEMORY_RESET,          /* all memory of a device is freed */
	PT_CUDA_MEMORY_CONTEXT,        /* all memory of a context is freed */
	PT_CUDA_MEMORY_STREAM,         /* a stream is made on the thread's device */
	PT_CUDA_MEMORY_STREAM_GONE,
};

/* An address names memory only together with one of these. */
enum pt_cuda_memory_space {
	PT_CUDA_SPACE_ADDRESS,
	PT_CUDA_SPACE_REGISTERED, /* the program's own memory, while it is registered */
	PT_CUDA_SPACE_ARRAY,      /* opaque handles */
	PT_CUDA_SPACE_MIPMAP,
	PT_CUDA_SPACE_PHYSICAL, /* handles of cuMemCreate() */
	PT_CUDA_SPACE_MAPPING,
	PT_CUDA_SPACE_STREAM,
	PT_CUDA_SPACE_BLOCK, /* of PyTorch's allocators, within memory of CUDA */
	PT_CUDA_SPACE_HOST_BLOCK,
};

enum pt_cuda_memory_kind {
	PT_CUDA_KIND_DEVICE,
	PT_CUDA_KIND_MANAGED,
	PT_CUDA_KIND_POOL,
	PT_CUDA_KIND_ARRAY,
	PT_CUDA_KIND_PHYSICAL,
	PT_CUDA_KIND_TORCH,
	PT_CUDA_KIND_PINNED, /* from here on memory of the host */
	PT_CUDA_KIND_REGISTERED,
	PT_CUDA_KIND_TORCH_HOST,
	PT_CUDA_KIND_COUNT
};

#define PT_CUDA_DEVICE_UNKNOWN (-1)

struct pt_cuda_memory {
	enum pt_cuda_memory_space space;
	enum pt_cuda_memory_kind kind;
	uint64_t address, bytes;
	uint64_t handle; /* of a MAP */
	uint64_t stream; /* 0: none was named, or the default one */
	int device;      /* that the call itself names */
	bool at_least;   /* it may take more than bytes */
	bool from_pool;  /* of the program's, so the device is that of the pool */
};

struct pt_cuda_memory_call;

/* NULL: it has nothing to do with memory. */
const struct pt_cuda_memory_call *pt_cuda_memory_find(const char *symbol);
enum pt_cuda_memory_what pt_cuda_memory_what(const struct pt_cuda_memory_call *call);
/* in: the words of the call, as many as pt_cuda_in_words() says; out: those of the return, or NULL
 * if it has not returned. False: what it did cannot be told. */
bool pt_cuda_memory_read(const struct pt_cuda_memory_call *call,
			 const struct pt_cuda_layout *layout, const uint64_t *in,
			 const uint64_t *out, struct pt_cuda_memory *memory);
bool pt_cuda_kind_is_host(enum pt_cuda_memory_kind kind);
/* "device", "managed" .. */
const char *pt_cuda_kind_name(enum pt_cuda_memory_kind kind);

#endif
