// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/* Of a libcudart: a call that takes 30 ms, one that fails, and ones that do neither. */
#include <stddef.h>
#include <unistd.h>

int cudaDeviceSynchronize(void)
{
	usleep(30000);
	return 0;
}

int cudaMalloc(void **ptr, size_t size)
{
	static char *next = (char *)0x700000000000;

	if (size == 1)
		return 2; /* cudaErrorMemoryAllocation */
	*ptr = next;
	next += size;
	return 0;
}

int cudaFree(void *ptr)
{
	return 0;
}

int cudaEventQuery(void *event)
{
	return 600; /* cudaErrorNotReady */
}
