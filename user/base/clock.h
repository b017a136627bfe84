/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * clock.h - the kernel's clocks in nanoseconds.
 */
#ifndef PT_BASE_CLOCK_H
#define PT_BASE_CLOCK_H

#include <stdint.h>
#include <time.h>

/* 0: there is no such clock (the process of a CPU clock has ended). */
uint64_t pt_clock_ns(clockid_t clock);

/* CLOCK_MONOTONIC, in which BPF's times are. */
static inline uint64_t pt_now_ns(void)
{
	return pt_clock_ns(CLOCK_MONOTONIC);
}

/* What that clock lacks of CLOCK_REALTIME, now. */
uint64_t pt_since_1970_ns(void);

#endif /* PT_BASE_CLOCK_H */
