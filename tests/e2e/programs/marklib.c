/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * A library to probe: plain functions, USDT probes as <sys/sdt.h> makes them (one of them behind a
 * semaphore), and a double of NVTX's: the names and arguments that its public header declares. It
 * needs no C library, so it runs with any.
 */
#include <stdint.h>

#define EXPORT __attribute__((visibility("default"), noinline))

__attribute__((section(".probes"))) volatile unsigned short app_guarded_semaphore;

__asm__(".pushsection .stapsdt.base,\"aG\",\"progbits\",.stapsdt.base,comdat\n"
	".weak _.stapsdt.base\n.hidden _.stapsdt.base\n_.stapsdt.base: .space 1\n"
	".size _.stapsdt.base,1\n.popsection\n");

#define USDT(name, semaphore, args, ...)                                                           \
	__asm__ volatile("990: nop\n.pushsection .note.stapsdt,\"?\",\"note\"\n.balign 4\n"        \
			 ".4byte 992f-991f,994f-993f,3\n991: .asciz \"stapsdt\"\n"                 \
			 "992: .balign 4\n993: .8byte 990b\n.8byte _.stapsdt.base\n"               \
			 ".8byte " semaphore "\n.asciz \"app\"\n.asciz \"" name "\"\n"             \
			 ".asciz \"" args "\"\n994: .balign 4\n.popsection\n"                      \
			 :                                                                         \
			 : __VA_ARGS__)

/* ---- what a program calls for a mark ---- */

EXPORT void app_event(const char *name, int value, uint64_t big, const void *where)
{
	__asm__ volatile("" : : "r"(name), "r"(value), "r"(big), "r"(where));
}

EXPORT void app_counter(const char *name, long value)
{
	__asm__ volatile("" : : "r"(name), "r"(value));
}

/* Calls back, so that Python calls lie within it, and itself. */
EXPORT int app_work(int depth, int (*back)(int))
{
	int sum = back(depth);

	if (depth > 1)
		sum += app_work(depth - 1, back);
	__asm__ volatile("" : "+r"(sum)); /* or the compiler makes a loop of it */
	return sum;
}

EXPORT void app_open(const char *name)
{
	__asm__ volatile("" : : "r"(name));
}

EXPORT void app_close(void)
{
	__asm__ volatile("");
}

/* ---- USDT ---- */

EXPORT void app_usdt(const char *text, int number)
{
	long memory = (long)number * 1000;

	USDT("tick", "0", "8@%0 -4@%1 -8@%2 -4@$-7", "r"(text), "r"(number), "m"(memory));
}

/* Returns whether somebody looks. */
EXPORT int app_usdt_guarded(int number)
{
	if (!app_guarded_semaphore)
		return 0;
	USDT("guarded", "app_guarded_semaphore", "-4@%0", "r"(number));
	return 1;
}

/* ---- NVTX's double ---- */

struct attributes { /* nvtxEventAttributes_t */
	uint16_t version, size;
	uint32_t category;
	int32_t color_type;
	uint32_t color;
	int32_t payload_type, reserved;
	uint64_t payload;
	int32_t message_type;
	const char *message;
};

EXPORT int nvtxRangePushA(const char *message)
{
	__asm__ volatile("" : : "r"(message));
	return 0;
}

EXPORT int nvtxRangePushW(const void *message)
{
	__asm__ volatile("" : : "r"(message));
	return 0;
}

EXPORT int nvtxRangePushEx(const struct attributes *attributes)
{
	__asm__ volatile("" : : "r"(attributes));
	return 0;
}

EXPORT int nvtxRangePop(void)
{
	__asm__ volatile("");
	return 0;
}

EXPORT int nvtxDomainRangePushEx(void *domain, const struct attributes *attributes)
{
	__asm__ volatile("" : : "r"(domain), "r"(attributes));
	return 0;
}

EXPORT int nvtxDomainRangePop(void *domain)
{
	__asm__ volatile("" : : "r"(domain));
	return 0;
}

EXPORT void nvtxMarkA(const char *message)
{
	__asm__ volatile("" : : "r"(message));
}

EXPORT uint64_t nvtxRangeStartA(const char *message)
{
	__asm__ volatile("" : : "r"(message));
	return 7;
}

EXPORT void nvtxRangeEnd(uint64_t id)
{
	__asm__ volatile("" : : "r"(id));
}

__attribute__((visibility("default"))) const int app_number = 5;
