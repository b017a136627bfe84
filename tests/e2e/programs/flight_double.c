// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/* Of a libcudart: a call that takes 30 ms, one that fails, and one that does neither. */
#include <stddef.h>
#include <unistd.h>

int cudaDeviceSynchronize(void)
{
	usleep(30000);
	return 0;
}

int cudaMalloc(void **ptr, size_t size)
{
	return 2; /* cudaErrorMemoryAllocation */
}

int cudaEventQuery(void *event)
{
	return 600; /* cudaErrorNotReady */
}
