// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * One row a function, without the suffixes of its forms (_v2, _ptsz); the arguments are found by
 * their names in table_data.c. Sizes of arrays are those of their elements: how CUDA pads them is
 * not known.
 */
#include "cuda/memory.h"

#include <stdlib.h>
#include <string.h>

struct pt_cuda_memory_call {
	const char *name;
	enum pt_cuda_memory_what what;
	enum pt_cuda_memory_space space;
	enum pt_cuda_memory_kind kind;
	const char *address, *size, *times; /* size * times bytes; times NULL: size */
	const char *other;                  /* the stream, the device, or the handle of a MAP */
};

#define ALLOC(NAME, SPACE, KIND, ...)                                                              \
	{                                                                                          \
		NAME, PT_CUDA_MEMORY_ALLOC, PT_CUDA_SPACE_##SPACE, PT_CUDA_KIND_##KIND,            \
		    __VA_ARGS__                                                                    \
	}
#define FREE(NAME, SPACE, ...)                                                                     \
	{                                                                                          \
		NAME, PT_CUDA_MEMORY_FREE, PT_CUDA_SPACE_##SPACE, 0, __VA_ARGS__                   \
	}
#define OTHER(NAME, WHAT, SPACE, ...)                                                              \
	{                                                                                          \
		NAME, PT_CUDA_MEMORY_##WHAT, PT_CUDA_SPACE_##SPACE, PT_CUDA_KIND_PHYSICAL,         \
		    __VA_ARGS__                                                                    \
	}

/* Sorted by name. */
static const struct pt_cuda_memory_call calls[] = {
    ALLOC("cuArray3DCreate", ARRAY, ARRAY, "pHandle", NULL, NULL, NULL),
    ALLOC("cuArrayCreate", ARRAY, ARRAY, "pHandle", NULL, NULL, NULL),
    FREE("cuArrayDestroy", ARRAY, "hArray", NULL, NULL, NULL),
    OTHER("cuCtxAttach", DEVICE_UNKNOWN, ADDRESS, NULL, NULL, NULL, NULL),
    OTHER("cuCtxCreate", DEVICE_UNKNOWN, ADDRESS, NULL, NULL, NULL, NULL),
    OTHER("cuCtxDestroy", CONTEXT, ADDRESS, NULL, NULL, NULL, NULL),
    OTHER("cuCtxDetach", CONTEXT, ADDRESS, NULL, NULL, NULL, NULL),
    OTHER("cuCtxGetDevice", DEVICE, ADDRESS, NULL, NULL, NULL, "device"),
    OTHER("cuCtxPopCurrent", DEVICE_UNKNOWN, ADDRESS, NULL, NULL, NULL, NULL),
    OTHER("cuCtxPushCurrent", DEVICE_UNKNOWN, ADDRESS, NULL, NULL, NULL, NULL),
    OTHER("cuCtxSetCurrent", DEVICE_UNKNOWN, ADDRESS, NULL, NULL, NULL, NULL),
    OTHER("cuDevicePrimaryCtxReset", RESET, ADDRESS, NULL, NULL, NULL, "dev"),
    ALLOC("cuMemAlloc", ADDRESS, DEVICE, "dptr", "bytesize", NULL, NULL),
    ALLOC("cuMemAllocAsync", ADDRESS, POOL, "dptr", "bytesize", NULL, "hStream"),
    ALLOC("cuMemAllocFromPoolAsync", ADDRESS, POOL, "dptr", "bytesize", NULL, "hStream"),
    ALLOC("cuMemAllocHost", ADDRESS, PINNED, "pp", "bytesize", NULL, NULL),
    ALLOC("cuMemAllocManaged", ADDRESS, MANAGED, "dptr", "bytesize", NULL, NULL),
    ALLOC("cuMemAllocPitch", ADDRESS, DEVICE, "dptr", "pPitch", "Height", NULL),
    ALLOC("cuMemCreate", PHYSICAL, PHYSICAL, "handle", "size", NULL, NULL),
    FREE("cuMemFree", ADDRESS, "dptr", NULL, NULL, NULL),
    FREE("cuMemFreeAsync", ADDRESS, "dptr", NULL, NULL, "hStream"),
    FREE("cuMemFreeHost", ADDRESS, "p", NULL, NULL, NULL),
    ALLOC("cuMemHostAlloc", ADDRESS, PINNED, "pp", "bytesize", NULL, NULL),
    ALLOC("cuMemHostRegister", REGISTERED, REGISTERED, "p", "bytesize", NULL, NULL),
    FREE("cuMemHostUnregister", REGISTERED, "p", NULL, NULL, NULL),
    OTHER("cuMemImportFromShareableHandle", IMPORT, PHYSICAL, "handle", NULL, NULL, NULL),
    OTHER("cuMemMap", MAP, MAPPING, "ptr", "size", NULL, "handle"),
    FREE("cuMemRelease", PHYSICAL, "handle", NULL, NULL, NULL),
    OTHER("cuMemRetainAllocationHandle", RETAIN, PHYSICAL, "handle", NULL, NULL, "addr"),
    OTHER("cuMemUnmap", UNMAP, MAPPING, "ptr", "size", NULL, NULL),
    ALLOC("cuMipmappedArrayCreate", MIPMAP, ARRAY, "pHandle", NULL, "numMipmapLevels", NULL),
    FREE("cuMipmappedArrayDestroy", MIPMAP, "hMipmappedArray", NULL, NULL, NULL),
    OTHER("cuStreamCreate", STREAM, STREAM, "phStream", NULL, NULL, NULL),
    OTHER("cuStreamCreateWithPriority", STREAM, STREAM, "phStream", NULL, NULL, NULL),
    OTHER("cuStreamDestroy", STREAM_GONE, STREAM, "hStream", NULL, NULL, NULL),
    OTHER("cudaDeviceReset", RESET, ADDRESS, NULL, NULL, NULL, NULL),
    FREE("cudaFree", ADDRESS, "devPtr", NULL, NULL, NULL),
    FREE("cudaFreeArray", ARRAY, "array", NULL, NULL, NULL),
    FREE("cudaFreeAsync", ADDRESS, "devPtr", NULL, NULL, "hStream"),
    FREE("cudaFreeHost", ADDRESS, "ptr", NULL, NULL, NULL),
    FREE("cudaFreeMipmappedArray", MIPMAP, "mipmappedArray", NULL, NULL, NULL),
    OTHER("cudaGetDevice", DEVICE, ADDRESS, NULL, NULL, NULL, "device"),
    ALLOC("cudaHostAlloc", ADDRESS, PINNED, "pHost", "size", NULL, NULL),
    ALLOC("cudaHostRegister", REGISTERED, REGISTERED, "ptr", "size", NULL, NULL),
    FREE("cudaHostUnregister", REGISTERED, "ptr", NULL, NULL, NULL),
    ALLOC("cudaMalloc", ADDRESS, DEVICE, "devPtr", "size", NULL, NULL),
    ALLOC("cudaMalloc3D", ADDRESS, DEVICE, "pitchedDevPtr", NULL, NULL, NULL),
    ALLOC("cudaMalloc3DArray", ARRAY, ARRAY, "array", NULL, NULL, NULL),
    ALLOC("cudaMallocArray", ARRAY, ARRAY, "array", NULL, NULL, NULL),
    ALLOC("cudaMallocAsync", ADDRESS, POOL, "devPtr", "size", NULL, "hStream"),
    ALLOC("cudaMallocFromPoolAsync", ADDRESS, POOL, "ptr", "size", NULL, "stream"),
    ALLOC("cudaMallocHost", ADDRESS, PINNED, "ptr", "size", NULL, NULL),
    ALLOC("cudaMallocManaged", ADDRESS, MANAGED, "devPtr", "size", NULL, NULL),
    ALLOC("cudaMallocMipmappedArray", MIPMAP, ARRAY, "mipmappedArray", NULL, "numLevels", NULL),
    ALLOC("cudaMallocPitch", ADDRESS, DEVICE, "devPtr", "pitch", "height", NULL),
    OTHER("cudaSetDevice", DEVICE, ADDRESS, NULL, NULL, NULL, "device"),
    OTHER("cudaStreamCreate", STREAM, STREAM, "pStream", NULL, NULL, NULL),
    OTHER("cudaStreamCreateWithFlags", STREAM, STREAM, "pStream", NULL, NULL, NULL),
    OTHER("cudaStreamCreateWithPriority", STREAM, STREAM, "pStream", NULL, NULL, NULL),
    OTHER("cudaStreamDestroy", STREAM_GONE, STREAM, "stream", NULL, NULL, NULL),
};

static int compare(const void *key, const void *call)
{
	return strcmp(key, ((const struct pt_cuda_memory_call *)call)->name);
}

/* Their first forms have addresses of 32 bits, and no program of 64 bits calls them. */
static bool is_obsolete(const char *symbol)
{
	return !strcmp(symbol, "cuMemAlloc") || !strcmp(symbol, "cuMemAllocPitch") ||
	       !strcmp(symbol, "cuMemFree");
}

const struct pt_cuda_memory_call *pt_cuda_memory_find(const char *symbol)
{
	char name[PT_CUDA_SYMBOL_BYTES];

	if (is_obsolete(symbol))
		return NULL;
	pt_cuda_base_name(symbol, name);
	return bsearch(name, calls, sizeof(calls) / sizeof(calls[0]), sizeof(calls[0]), compare);
}

enum pt_cuda_memory_what pt_cuda_memory_what(const struct pt_cuda_memory_call *call)
{
	return call->what;
}

/* ---- arguments ---- */

struct words {
	const struct pt_cuda_layout *layout;
	const uint64_t *in, *out;
};

static bool get(const struct words *words, const char *name, uint64_t *value)
{
	return pt_cuda_argument(words->layout, name, words->in, words->out, value);
}

/* The words of the argument with this code; NULL: there is none. */
static const uint64_t *with_code(const struct words *words, char code)
{
	const struct pt_cuda_layout *layout = words->layout;

	for (unsigned int i = 0; i < layout->arg_count; i++) {
		const struct pt_cuda_arg *arg = &layout->args[i];

		if (arg->code != code || arg->word < 0)
			continue;
		return strchr(PT_CUDA_BLOCK_CODES, code) ? &words->in[layout->regs + layout->stack]
							 : &words->in[arg->word];
	}
	return NULL;
}

/* ---- sizes ---- */

/* False: it is more than 2^64, so it is none. */
static bool multiply(uint64_t *value, uint64_t by)
{
	return !__builtin_mul_overflow(*value, by, value);
}

struct shape {
	uint64_t width, height, depth, element, levels;
	uint64_t flags;
};

#define LAYERED  0x1 /* cudaArrayLayered, CUDA_ARRAY3D_LAYERED; and so on */
#define CUBEMAP  0x4
#define UNBACKED (0x40 | 0x80) /* sparse, deferred mapping: it gets its memory elsewhere */

/* One of cudaChannelFormatKind of which x, y, z and w have so many bits. */
static bool plain_format(uint32_t kind)
{
	return kind <= 2 || (kind >= 5 && kind <= 16); /* up to float; normalised integers */
}

/* Bytes of a CUarray_format; 0: it is another one. */
static unsigned int format_bytes(uint32_t format)
{
	switch (format) {
	case 0x01: /* CU_AD_FORMAT_UNSIGNED_INT8 */
	case 0x08: /* SIGNED_INT8 */
		return 1;
	case 0x02: /* UNSIGNED_INT16 */
	case 0x09: /* SIGNED_INT16 */
	case 0x10: /* HALF */
		return 2;
	case 0x03: /* UNSIGNED_INT32 */
	case 0x0a: /* SIGNED_INT32 */
	case 0x20: /* FLOAT */
		return 4;
	default:
		return 0;
	}
}

static bool runtime_shape(const struct words *words, const uint64_t *desc, struct shape *shape)
{
	const uint64_t *extent = with_code(words, 's');
	uint64_t bits = (desc[0] & UINT32_MAX) + (desc[0] >> 32) + (desc[1] & UINT32_MAX) +
			(desc[1] >> 32);

	if (!plain_format((uint32_t)desc[2]) || bits % 8)
		return false;
	shape->element = bits / 8;
	get(words, "flags", &shape->flags);
	if (!extent)
		return get(words, "width", &shape->width) && get(words, "height", &shape->height);
	shape->width = extent[0];
	shape->height = extent[1];
	shape->depth = extent[2];
	return true;
}

static bool driver_shape(const uint64_t *desc, bool three, struct shape *shape)
{
	uint64_t format = desc[three ? 3 : 2];

	shape->width = desc[0];
	shape->height = desc[1];
	shape->depth = three ? desc[2] : 0;
	shape->flags = three ? (uint32_t)desc[4] : 0;
	shape->element = (format >> 32) * format_bytes((uint32_t)format);
	return shape->element > 0;
}

static uint64_t halved(uint64_t length, uint64_t level)
{
	length = level < 64 ? length >> level : 0;
	return length ? length : 1;
}

static bool shape_bytes(const struct shape *shape, uint64_t *bytes)
{
	bool layers = shape->flags & (LAYERED | CUBEMAP);

	*bytes = 0;
	for (uint64_t level = 0; level < shape->levels && level < 64; level++) {
		uint64_t more = shape->element;

		if (!multiply(&more, halved(shape->width, level)) ||
		    !multiply(&more, halved(shape->height, level)) ||
		    !multiply(&more, halved(shape->depth, layers ? 0 : level)) ||
		    __builtin_add_overflow(*bytes, more, bytes))
			return false;
	}
	return true;
}

/* What the elements of an array take; false: that is not known. */
static bool array_bytes(const struct pt_cuda_memory_call *call, const struct words *words,
			uint64_t *bytes)
{
	const uint64_t *runtime = with_code(words, 'F'), *two = with_code(words, 'A');
	const uint64_t *three = with_code(words, 'B');
	struct shape shape = {.levels = 1};
	bool known = runtime ? runtime_shape(words, runtime, &shape)
		     : two   ? driver_shape(two, false, &shape)
		     : three ? driver_shape(three, true, &shape)
			     : false;

	if (call->times)
		get(words, call->times, &shape.levels);
	return known && !(shape.flags & UNBACKED) && shape_bytes(&shape, bytes);
}

/* cudaMalloc3D(): the extent is in bytes; rows may be longer. */
static bool extent_bytes(const struct words *words, uint64_t *bytes)
{
	const uint64_t *extent = with_code(words, 's');

	if (!extent)
		return false;
	*bytes = extent[0];
	return multiply(bytes, extent[1]) && multiply(bytes, extent[2]);
}

static void set_bytes(const struct pt_cuda_memory_call *call, const struct words *words,
		      struct pt_cuda_memory *memory)
{
	uint64_t times = 1;
	bool known;

	memory->at_least = !call->size;
	if (call->size)
		known = get(words, call->size, &memory->bytes) &&
			(!call->times || get(words, call->times, &times)) &&
			multiply(&memory->bytes, times);
	else
		known = call->kind == PT_CUDA_KIND_ARRAY ? array_bytes(call, words, &memory->bytes)
							 : extent_bytes(words, &memory->bytes);
	if (!known) {
		memory->bytes = 0;
		memory->at_least = true;
	}
}

/* CUmemAllocationProp.location: 1 is CU_MEM_LOCATION_TYPE_DEVICE. */
static int location_device(const struct words *words)
{
	const uint64_t *property = with_code(words, 'L');

	return property && (uint32_t)property[1] == 1 ? (int)(property[1] >> 32)
						      : PT_CUDA_DEVICE_UNKNOWN;
}

bool pt_cuda_memory_read(const struct pt_cuda_memory_call *call,
			 const struct pt_cuda_layout *layout, const uint64_t *in,
			 const uint64_t *out, struct pt_cuda_memory *memory)
{
	const struct words words = {layout, in, out};
	uint64_t other = 0;
	bool has_other = get(&words, call->other, &other);

	*memory = (struct pt_cuda_memory){
	    .space = call->space, .kind = call->kind, .device = location_device(&words)};
	if (call->address && !get(&words, call->address, &memory->address))
		return false;
	switch (call->what) {
	case PT_CUDA_MEMORY_DEVICE:
		memory->device = (int)(uint32_t)other;
		return has_other && memory->device >= 0;
	case PT_CUDA_MEMORY_RESET:
		if (has_other)
			memory->device = (int)(uint32_t)other;
		return true;
	case PT_CUDA_MEMORY_ALLOC:
		set_bytes(call, &words, memory);
		memory->stream = other;
		memory->from_pool = pt_cuda_arg_find(layout, "memPool") ||
				    pt_cuda_arg_find(layout, "pool");
		return true;
	case PT_CUDA_MEMORY_FREE:
		memory->stream = other;
		return true;
	case PT_CUDA_MEMORY_MAP:
	case PT_CUDA_MEMORY_UNMAP:
	case PT_CUDA_MEMORY_RETAIN:
		memory->handle = other;
		return !call->size || get(&words, call->size, &memory->bytes);
	case PT_CUDA_MEMORY_IMPORT:
	case PT_CUDA_MEMORY_DEVICE_UNKNOWN:
	case PT_CUDA_MEMORY_CONTEXT:
	case PT_CUDA_MEMORY_STREAM:
	case PT_CUDA_MEMORY_STREAM_GONE:
		break;
	}
	return true;
}

bool pt_cuda_kind_is_host(enum pt_cuda_memory_kind kind)
{
	return kind >= PT_CUDA_KIND_PINNED;
}

const char *pt_cuda_kind_name(enum pt_cuda_memory_kind kind)
{
	static const char *const names[] = {
	    [PT_CUDA_KIND_DEVICE] = "device",
	    [PT_CUDA_KIND_MANAGED] = "managed",
	    [PT_CUDA_KIND_POOL] = "pool",
	    [PT_CUDA_KIND_ARRAY] = "array",
	    [PT_CUDA_KIND_PHYSICAL] = "physical",
	    [PT_CUDA_KIND_TORCH] = "PyTorch block",
	    [PT_CUDA_KIND_PINNED] = "pinned host",
	    [PT_CUDA_KIND_REGISTERED] = "registered host",
	    [PT_CUDA_KIND_TORCH_HOST] = "PyTorch host",
	};

	return names[kind];
}
