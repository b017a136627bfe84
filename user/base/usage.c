// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
#include "base/usage.h"

#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"

uint64_t pt_own_memory_bytes(void)
{
	unsigned long resident = 0, shared = 0;
	FILE *file = fopen("/proc/self/statm", "re");

	if (!file)
		return 0;
	if (fscanf(file, "%*u %lu %lu", &resident, &shared) != 2)
		resident = shared = 0;
	fclose(file);
	return (uint64_t)(resident - shared) * (uint64_t)sysconf(_SC_PAGESIZE);
}

uint64_t pt_own_cpu_ns(void)
{
	return pt_clock_ns(CLOCK_PROCESS_CPUTIME_ID);
}
