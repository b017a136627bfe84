/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/* Functions that C++ exceptions leave; one that ends in a function of another file. */
#include <stdlib.h>

#define EXPORT extern "C" __attribute__((visibility("default"), noinline))

EXPORT void mark_thrower(int number)
{
	if (number & 1)
		throw number;
	__asm__ volatile("");
}

EXPORT int mark_through(int number)
{
	mark_thrower(number);
	return number;
}

/* How many of its calls throw. */
EXPORT int mark_guarded(int count)
{
	int thrown = 0;

	for (int i = 0; i < count; i++) {
		try {
			mark_through(i);
		} catch (int) {
			thrown++;
		}
	}
	return thrown;
}

volatile int handed_over;

EXPORT void mark_hands_over(void *memory)
{
	handed_over++;
	free(memory);
}
