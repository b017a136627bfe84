/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * merge_clock.h - which offset the times of each file get when files of several hosts are merged.
 *
 * Their own CLOCK_REALTIME is what they are compared by. Where calls of NCCL (nccl_calls.h) show
 * that the clocks of two hosts cannot both be right, the later host's is corrected.
 *
 * pt_merge_clock_new() -> pt_merge_clock_file() of each -> if pt_merge_clock_hosts() is more than
 * one, pt_merge_clock_read() of each -> pt_merge_clock_solve() -> the offsets.
 */
#ifndef PT_SINK_MERGE_CLOCK_H
#define PT_SINK_MERGE_CLOCK_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

struct pt_merge_clock;

struct pt_merge_clock *pt_merge_clock_new(void); /* NULL: no memory */
void pt_merge_clock_free(struct pt_merge_clock *clock);

/* A file of this host that counts from base_ns; "" for one that is of several. In their order.
 * -ENOMEM. */
int pt_merge_clock_file(struct pt_merge_clock *clock, const char *host, uint64_t base_ns);
uint32_t pt_merge_clock_hosts(const struct pt_merge_clock *clock);
/* Reads the trace that is of the file of this index; name is what messages call it. */
int pt_merge_clock_read(struct pt_merge_clock *clock, size_t file, const char *path,
			const char *name, struct pt_err *err);
/* Says on stderr what it found. */
int pt_merge_clock_solve(struct pt_merge_clock *clock, struct pt_err *err);

/* Before pt_merge_clock_solve(), or without it, 0. */
int64_t pt_merge_clock_offset(const struct pt_merge_clock *clock, size_t file);
/* What all times can count from: the earliest base, or an earlier one if an offset needs that. */
uint64_t pt_merge_clock_base(const struct pt_merge_clock *clock);
/* One object a host, for the result. Nothing where there is one host, or nobody has looked. */
void pt_merge_clock_describe(const struct pt_merge_clock *clock, struct pt_buf *buf);

#endif
