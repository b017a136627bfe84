/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * clock_bounds.h - how far the clocks of hosts are apart, from what was seen to happen in order.
 *
 * One fact is "this moment of a's clock was not before that moment of b's". Each says how far b's
 * clock is behind a's at most; all facts together leave an interval for each host, or contradict
 * each other. Pure; memory: 12 bytes for each pair of hosts.
 */
#ifndef PT_SINK_CLOCK_BOUNDS_H
#define PT_SINK_CLOCK_BOUNDS_H

#include <stdbool.h>
#include <stdint.h>

#define PT_CLOCK_HOSTS_MAX 256

struct pt_clock_bounds;

/* To be added to the times of a host, so that they are of host 0's clock. */
struct pt_clock_offset {
	int64_t offset_ns;
	int64_t least_ns, most_ns; /* INT64_MIN, INT64_MAX: nothing is known */
	uint64_t facts;            /* that compare the host with another one */
};

/* NULL: no memory. hosts: up to PT_CLOCK_HOSTS_MAX. */
struct pt_clock_bounds *pt_clock_bounds_new(uint32_t hosts);
void pt_clock_bounds_free(struct pt_clock_bounds *bounds);

/* At a_ns, by its own clock, a was not before b at b_ns, by b's. a == b: no more than a check. */
void pt_clock_not_before(struct pt_clock_bounds *bounds, uint32_t a, int64_t a_ns, uint32_t b,
			 int64_t b_ns);

/* Fills one offset a host. A host whose interval has 0 in it, beside those that keep theirs before
 * it, keeps its clock; of the others the middle is taken, or the only end that is known. Host 0
 * keeps its own. -ERANGE: the facts contradict each other, and all offsets are 0; a and b are two
 * hosts of which they do (a == b: of one host alone). -ELOOP: so do those of a and more hosts. Once
 * only. */
int pt_clock_solve(struct pt_clock_bounds *bounds, struct pt_clock_offset *offsets, uint32_t *a,
		   uint32_t *b);

#endif
