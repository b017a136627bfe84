// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/* Functions of a CUDA 11 or 12 (MAJOR) whose arguments a later one has changed, or that it has no
 * more; each succeeds. */
#include <stddef.h>

int cudaMemAdvise(const void *pointer, size_t count, int advice, int device)
{
	return 0;
}

int cudaMemPrefetchAsync(const void *pointer, size_t count, int device, void *stream)
{
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

int cudaStreamIsCapturing(void *stream, int *status)
{
	*status = 1;
	return 0;
}

#if MAJOR == 12
int cudaGraphInstantiate(void **exec, void *graph, unsigned long long flags)
{
	*exec = (void *)0x8000;
	return 0;
}

int cudaGraphExecUpdate(void *exec, void *graph, void *result)
{
	return 0;
}

int cudaGetDriverEntryPoint(const char *symbol, void **function, unsigned long long flags, int *status)
{
	*function = (void *)0x8000;
	*status = 1;
	return 0;
}
#else
int cudaGraphInstantiate(void **exec, void *graph, void **error_node, char *log, size_t size)
{
	*exec = (void *)0x8000;
	*error_node = (void *)0x8200;
	return 0;
}

int cudaGraphExecUpdate(void *exec, void *graph, void **error_node, int *result)
{
	*error_node = (void *)0x8100;
	*result = 1;
	return 0;
}

int cudaGetDriverEntryPoint(const char *symbol, void **function, unsigned long long flags)
{
	*function = (void *)0x8000;
	return 0;
}

int cudaProfilerInitialize(const char *config, const char *output, int mode)
{
	return 0;
}

int cudaUnbindTexture(const void *texture)
{
	return 0;
}
#endif
