// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/* Functions of a CUDA 12 whose arguments CUDA 13 has changed, or that it has no more; each succeeds. */
#include <stddef.h>

int cudaMemAdvise(const void *pointer, size_t count, int advice, int device)
{
	return 0;
}

int cudaMemPrefetchAsync(const void *pointer, size_t count, int device, void *stream)
{
	return 0;
}

int cudaGraphInstantiate(void **exec, void *graph, unsigned long long flags)
{
	*exec = (void *)0x8000;
	return 0;
}

int cudaStreamGetCaptureInfo(void *stream, int *status, unsigned long long *id)
{
	*status = 1;
	*id = 77;
	return 0;
}

int cudaSignalExternalSemaphoresAsync_v2(const void *semaphores, const void *parameters,
					 unsigned int count, void *stream)
{
	return 0;
}

int cudaThreadSynchronize(void)
{
	return 0;
}
