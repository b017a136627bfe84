// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * Stands in for libcudart and libcuda where there is no device: functions that allocate and free
 * memory, with the signatures of CUDA 13. An address that is freed is given out again at once, and
 * to another thread even before the call that freed it has returned. What is no allocation cannot
 * be freed (cudaErrorInvalidValue), and too much cannot be allocated.
 */
#include <pthread.h>
#include <sched.h>
#include <stddef.h>
#include <stdint.h>

#define SLOTS      (1u << 16)
#define SLOT_BYTES (2ull << 20)
#define TOO_MUCH   (1ull << 40)

#define INVALID_VALUE     1
#define MEMORY_ALLOCATION 2
#define NO_DEVICE         100

struct extent { /* cudaExtent */
	size_t width, height, depth;
};

struct pitched { /* cudaPitchedPtr */
	uint64_t ptr;
	size_t pitch, xsize, ysize;
};

struct space {
	uint64_t base;
	uint32_t free[SLOTS], free_count, next;
	uint8_t used[SLOTS];
};

static struct space memory = {.base = 0x7f0000000000}, arrays = {.base = 0x555000000000};
static struct space handles = {.base = 0x10000}, streams = {.base = 0x666000000000};
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static __thread int device;
static uint64_t registered[64];

static int take(struct space *space, uint64_t *address, size_t bytes)
{
	uint32_t slot = SLOTS;

	if (bytes >= TOO_MUCH)
		return MEMORY_ALLOCATION;
	pthread_mutex_lock(&lock);
	if (space->free_count)
		slot = space->free[--space->free_count];
	else if (space->next < SLOTS)
		slot = space->next++;
	if (slot < SLOTS)
		space->used[slot] = 1;
	pthread_mutex_unlock(&lock);
	*address = space->base + slot * SLOT_BYTES;
	return slot < SLOTS ? 0 : MEMORY_ALLOCATION;
}

static int give(struct space *space, uint64_t address)
{
	uint64_t slot = (address - space->base) / SLOT_BYTES;
	int rc = INVALID_VALUE;

	if (!address)
		return 0;
	pthread_mutex_lock(&lock);
	if (address >= space->base && slot < SLOTS && space->used[slot]) {
		space->used[slot] = 0;
		space->free[space->free_count++] = (uint32_t)slot;
		rc = 0;
	}
	pthread_mutex_unlock(&lock);
	sched_yield(); /* somebody may get it meanwhile */
	return rc;
}

int cudaSetDevice(int number)
{
	if (number < 0 || number > 3)
		return NO_DEVICE;
	device = number;
	return 0;
}

int cudaGetDevice(int *number)
{
	*number = device;
	return 0;
}

int cudaDeviceReset(void)
{
	return 0;
}

int cudaMalloc(uint64_t *ptr, size_t size)
{
	return size ? take(&memory, ptr, size) : (*ptr = 0);
}

int cudaMallocManaged(uint64_t *ptr, size_t size, unsigned int flags)
{
	return take(&memory, ptr, size);
}

int cudaMallocHost(uint64_t *ptr, size_t size)
{
	return take(&memory, ptr, size);
}

int cudaHostAlloc(uint64_t *ptr, size_t size, unsigned int flags)
{
	return take(&memory, ptr, size);
}

int cudaMallocPitch(uint64_t *ptr, size_t *pitch, size_t width, size_t height)
{
	*pitch = (width + 511) & ~(size_t)511;
	return take(&memory, ptr, *pitch * height);
}

int cudaMalloc3D(struct pitched *pitched, struct extent extent)
{
	pitched->pitch = (extent.width + 511) & ~(size_t)511;
	return take(&memory, &pitched->ptr, pitched->pitch * extent.height * extent.depth);
}

int cudaMallocArray(uint64_t *array, const int *desc, size_t width, size_t height,
		    unsigned int flags)
{
	return take(&arrays, array, 0);
}

int cudaMalloc3DArray(uint64_t *array, const int *desc, struct extent extent, unsigned int flags)
{
	return take(&arrays, array, 0);
}

int cudaMallocAsync(uint64_t *ptr, size_t size, uint64_t stream)
{
	return take(&memory, ptr, size);
}

int cudaMallocFromPoolAsync_ptsz(uint64_t *ptr, size_t size, uint64_t pool, uint64_t stream)
{
	return take(&memory, ptr, size);
}

int cudaFree(uint64_t ptr)
{
	return give(&memory, ptr);
}

int cudaFreeAsync(uint64_t ptr, uint64_t stream)
{
	return give(&memory, ptr);
}

int cudaFreeHost(uint64_t ptr)
{
	return give(&memory, ptr);
}

int cudaFreeArray(uint64_t array)
{
	return give(&arrays, array);
}

int cudaHostRegister(uint64_t ptr, size_t size, unsigned int flags)
{
	registered[ptr % 64] = ptr;
	return 0;
}

int cudaHostUnregister(uint64_t ptr)
{
	if (registered[ptr % 64] != ptr)
		return INVALID_VALUE;
	registered[ptr % 64] = 0;
	return 0;
}

int cudaStreamCreate(uint64_t *stream)
{
	return take(&streams, stream, 0);
}

int cudaStreamDestroy(uint64_t stream)
{
	return give(&streams, stream);
}

int cuMemCreate(uint64_t *handle, size_t size, const void *properties, unsigned long long flags)
{
	return take(&handles, handle, size);
}

int cuMemRelease(uint64_t handle)
{
	return give(&handles, handle);
}

int cuMemMap(uint64_t ptr, size_t size, size_t offset, uint64_t handle, unsigned long long flags)
{
	return 0;
}

int cuMemUnmap(uint64_t ptr, size_t size)
{
	return 0;
}
