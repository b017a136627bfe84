// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * Functions that call each other and then CUDA, and note the return addresses on their stack, as the
 * C library's own unwinder finds them.
 */
#include <execinfo.h>
#include <stddef.h>

int cudaMalloc(void **ptr, size_t size);
int cudaFree(void *ptr);

typedef int (*callback_fn)(void);

static void *addresses[4096];
static int count;

int stack_addresses(void ***at)
{
	*at = addresses;
	return count;
}

__attribute__((noinline)) static int inner(size_t size)
{
	void *ptr = NULL;
	int rc;

	count = backtrace(addresses, sizeof(addresses) / sizeof(addresses[0]));
	rc = cudaMalloc(&ptr, size);
	return rc + cudaFree(ptr);
}

__attribute__((noinline)) static int middle(size_t size)
{
	volatile char room[300];

	room[size % sizeof(room)] = 1;
	return inner(size) + room[size % sizeof(room)];
}

/* A name of C++. */
__attribute__((noinline)) int deep_outer(size_t size) __asm__("_ZN4deep5outerEm");
int deep_outer(size_t size)
{
	return middle(size) + 1;
}

int stack_call(size_t size)
{
	return deep_outer(size) + 1;
}

int stack_back(callback_fn fn)
{
	return fn() + 1;
}
