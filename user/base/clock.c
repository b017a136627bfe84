// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
#include "base/clock.h"

#define PAIR_TRIES 10
#define PAIR_NS    2000 /* far more than three readings take */

uint64_t pt_clock_ns(clockid_t clock)
{
	struct timespec now;

	if (clock_gettime(clock, &now))
		return 0;
	return (uint64_t)now.tv_sec * 1000000000ull + (uint64_t)now.tv_nsec;
}

uint64_t pt_since_1970_ns(void)
{
	uint64_t best_ns = UINT64_MAX, shift_ns = 0;

	/* whoever is interrupted between the readings tries again */
	for (int i = 0; i < PAIR_TRIES && best_ns > PAIR_NS; i++) {
		uint64_t before_ns = pt_now_ns(), real_ns = pt_clock_ns(CLOCK_REALTIME);
		uint64_t gap_ns = pt_now_ns() - before_ns;

		if (gap_ns >= best_ns)
			continue;
		best_ns = gap_ns;
		shift_ns = real_ns - (before_ns + gap_ns / 2);
	}
	return shift_ns;
}
