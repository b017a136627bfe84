// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
#include "base/clock.h"

uint64_t pt_clock_ns(clockid_t clock)
{
	struct timespec now;

	if (clock_gettime(clock, &now))
		return 0;
	return (uint64_t)now.tv_sec * 1000000000ull + (uint64_t)now.tv_nsec;
}
