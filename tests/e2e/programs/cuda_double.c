// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * Stands in for libcudart (-DRUNTIME) and libcuda where there is no device: functions with the
 * signatures of CUDA 13, which succeed, hand out addresses of their own, and call the driver as the
 * runtime does.
 */
#include <stddef.h>
#include <stdint.h>

struct dim3 {
	unsigned int x, y, z;
};

struct launch_config { /* cudaLaunchConfig_t */
	struct dim3 grid, block;
	size_t shared_bytes;
	void *stream, *attrs;
	unsigned int attr_count;
};

int cuMemAlloc_v2(uint64_t *dptr, size_t bytes);
int cuMemFree_v2(uint64_t dptr);
int cuMemcpyHtoD_v2(uint64_t dst, const void *src, size_t bytes);
int cuLaunchKernel(void *f, unsigned int gx, unsigned int gy, unsigned int gz, unsigned int bx,
		   unsigned int by, unsigned int bz, unsigned int shared_bytes, void *stream,
		   void **params, void **extra);
int cuCtxSynchronize(void);

#ifdef RUNTIME

int cudaMalloc(void **ptr, size_t size)
{
	return size ? cuMemAlloc_v2((uint64_t *)ptr, size) : 2; /* cudaErrorMemoryAllocation */
}

int cudaFree(void *ptr)
{
	return cuMemFree_v2((uint64_t)(uintptr_t)ptr);
}

int cudaMemcpy(void *dst, const void *src, size_t count, int kind)
{
	return cuMemcpyHtoD_v2((uint64_t)(uintptr_t)dst, src, count);
}

int cudaStreamCreate(void **stream)
{
	*stream = (void *)0x5000;
	return 0;
}

int cudaStreamSynchronize(void *stream)
{
	return cuCtxSynchronize();
}

int cudaEventQuery(void *event)
{
	return 600; /* cudaErrorNotReady */
}

int cudaEventElapsedTime(float *ms, void *start, void *end)
{
	*ms = 1.5f;
	return 0;
}

int cudaGetDevice(int *device)
{
	*device = 3;
	return 0;
}

int cudaLaunchKernel(const void *func, struct dim3 grid, struct dim3 block, void **args,
		     size_t shared_bytes, void *stream)
{
	return cuLaunchKernel((void *)func, grid.x, grid.y, grid.z, block.x, block.y, block.z,
			      (unsigned int)shared_bytes, stream, args, NULL);
}

/* A handle for each kernel, which is no address of code. */
int __cudaGetKernel(void **handle, const void *host)
{
	static char handles[64];
	static unsigned int count;

	*handle = &handles[count++ % sizeof(handles)];
	return 0;
}

int __cudaRegisterFunction(void **module, const void *host, char *text, const char *name, int limit,
			   void *a, void *b, void *c, void *d, int *e)
{
	return 0;
}

int cudaLaunchKernelExC(const struct launch_config *config, const void *func, void **args)
{
	return 0;
}

#else

static uint64_t next = 0x700000000000;

int cuMemAlloc_v2(uint64_t *dptr, size_t bytes)
{
	*dptr = next;
	next += (bytes + 255) & ~(size_t)255;
	return 0;
}

int cuMemFree_v2(uint64_t dptr)
{
	return 0;
}

int cuMemcpyHtoD_v2(uint64_t dst, const void *src, size_t bytes)
{
	return 0;
}

int cuLaunchKernel(void *f, unsigned int gx, unsigned int gy, unsigned int gz, unsigned int bx,
		   unsigned int by, unsigned int bz, unsigned int shared_bytes, void *stream,
		   void **params, void **extra)
{
	return 0;
}

int cuCtxSynchronize(void)
{
	return 0;
}

int cuDeviceGet(int *device, int ordinal)
{
	*device = ordinal;
	return ordinal < 4 ? 0 : 101; /* CUDA_ERROR_INVALID_DEVICE */
}

int cuLaunchKernelEx(const void *config, void *f, void **params, void **extra)
{
	return 0;
}

/* Kernels of modules and libraries. A handle that was given back is given again. */
static struct loaded {
	const void *owner;
	char kernel, function; /* what a CUkernel and its CUfunction point to */
} loaded[64];

static struct loaded *load(const void *owner)
{
	for (int i = 0; i < 64; i++) {
		if (loaded[i].owner)
			continue;
		loaded[i].owner = owner;
		return &loaded[i];
	}
	return NULL;
}

static int unload(const void *owner)
{
	for (int i = 0; i < 64; i++)
		if (loaded[i].owner == owner)
			loaded[i].owner = NULL;
	return 0;
}

int cuModuleGetFunction(void **function, void *module, const char *name)
{
	*function = *name == '?' ? NULL : load(module);
	return *name == '?' ? 500 : 0; /* CUDA_ERROR_NOT_FOUND */
}

int cuModuleUnload(void *module)
{
	return unload(module);
}

int cuLibraryGetKernel(void **kernel, void *library, const char *name)
{
	struct loaded *one = load(library);

	*kernel = &one->kernel;
	return 0;
}

int cuKernelGetFunction(void **function, void *kernel)
{
	*function = (char *)kernel + 1;
	return 0;
}

int cuLibraryUnload(void *library)
{
	return unload(library);
}

int cuCtxDestroy_v2(void *context)
{
	for (int i = 0; i < 64; i++)
		loaded[i].owner = NULL;
	return 0;
}

#endif
