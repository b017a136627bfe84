// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * A library with kernels, in the form that nvcc gives it, but without any CUDA: it registers two
 * and launches them and a third one, which nobody registered. With cuda_double.c.
 */
#include <stddef.h>

struct dim3 {
	unsigned int x, y, z;
};

int __cudaRegisterFunction(void **module, const void *host, char *text, const char *name, int limit,
			   void *a, void *b, void *c, void *d, int *e);
int __cudaGetKernel(void **handle, const void *host);
int cudaLaunchKernel(const void *func, struct dim3 grid, struct dim3 block, void **args,
		     size_t shared_bytes, void *stream);

#define HIDDEN __attribute__((visibility("hidden")))
#define SCALE  "_ZN4deep5scaleEPfi"
#define PLAIN  "plain"

/* What tells the decoder that there is code for a GPU. */
__attribute__((section(".nvFatBinSegment"), used)) static int wrapper[6] = {0x466243b1, 1};

static void **module, *scale_handle, *plain_handle;
static int by_stub; /* as up to CUDA 12 */

static int launch(const void *stub, const void *handle)
{
	struct dim3 one = {1, 1, 1};

	return cudaLaunchKernel(by_stub ? stub : handle, one, one, NULL, 0, NULL);
}

HIDDEN int scale(void)
{
	if (!scale_handle)
		__cudaGetKernel(&scale_handle, (const void *)scale);
	return launch((const void *)scale, scale_handle);
}

HIDDEN int plain(void)
{
	if (!plain_handle)
		__cudaGetKernel(&plain_handle, (const void *)plain);
	return launch((const void *)plain, plain_handle);
}

HIDDEN int unregistered(void)
{
	return launch((const void *)unregistered, (const void *)unregistered);
}

__attribute__((constructor)) static void all(void)
{
	__cudaRegisterFunction(module, (const void *)scale, (char *)SCALE, SCALE, -1, NULL, NULL,
			       NULL, NULL, NULL);
	__cudaRegisterFunction(module, (const void *)plain, (char *)PLAIN, PLAIN, -1, NULL, NULL,
			       NULL, NULL, NULL);
}

int launch_all(int as_stubs)
{
	by_stub = as_stubs;
	return scale() + plain() + unregistered();
}
