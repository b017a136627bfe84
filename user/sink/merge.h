/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * merge.h - joins traces that this tool wrote (Chrome JSON in PyTorch's schema) into one.
 *
 * Each trace says which moment of CLOCK_REALTIME its times count from, so on hosts whose clocks
 * agree the times of all do; for others there is merge_clock.h. Life cycle: pt_merge_start() of
 * each file -> perhaps pt_merge_look() -> pt_merge_open() with the least of their bases ->
 * pt_merge_add() of each, in the same order -> pt_merge_close(), or pt_merge_discard(), which
 * leaves no file.
 * Memory: a line, the processes and threads, and a buffer of the output. Stacks (stackFrames) wait
 * in a temporary file.
 */
#ifndef PT_SINK_MERGE_H
#define PT_SINK_MERGE_H

#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

struct pt_merge;
struct pt_nccl;

#define PT_MERGE_HOST_BYTES  256
#define PT_MERGE_SHORT_CALLS "short CUDA calls left out" /* one of what pt_merge_look() says */

/* From which moment the trace at path counts, and the host that it is of: JSON text without quotes,
 * "" if it is of several, or does not say. */
int pt_merge_start(const char *path, uint64_t *base_ns, char host[PT_MERGE_HOST_BYTES],
		   struct pt_err *err);
/* Gives all events of the trace to nccl. *missing: what its summary says about events that are not
 * there; NULL: all are. */
int pt_merge_look(const char *path, const char *name, struct pt_nccl *nccl, const char **missing,
		  struct pt_err *err);

/* out: FILE.json, FILE.json.gz or "-". gzip_level 0: the default. */
int pt_merge_open(const char *out, uint64_t base_ns, int gzip_level, struct pt_merge **merge,
		  struct pt_err *err);
/* name is what messages and the result call it; offset_ns is added to all times. */
int pt_merge_add(struct pt_merge *merge, const char *path, const char *name, int64_t offset_ns,
		 struct pt_err *err);
/* JSON objects that tell how the hosts' clocks were compared; before pt_merge_close(). */
void pt_merge_tell_clocks(struct pt_merge *merge, const struct pt_buf *clocks);
uint64_t pt_merge_events(const struct pt_merge *merge);
/* Frees. */
int pt_merge_close(struct pt_merge *merge, struct pt_err *err);
void pt_merge_discard(struct pt_merge *merge);

#endif
