/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * merge.h - joins traces that this tool wrote (Chrome JSON in PyTorch's schema) into one.
 *
 * Each trace says which moment of CLOCK_REALTIME its times count from, so on hosts whose clocks
 * agree the times of all do. Life cycle: pt_merge_start() of each file -> pt_merge_open() with the
 * least of them -> pt_merge_add() of each, in the same order -> pt_merge_close(), or
 * pt_merge_discard(), which leaves no file.
 * Memory: a line, the processes and threads, and a buffer of the output. Stacks (stackFrames) wait
 * in a temporary file.
 */
#ifndef PT_SINK_MERGE_H
#define PT_SINK_MERGE_H

#include <stdint.h>

#include "base/err.h"

struct pt_merge;

/* From which moment the trace at path counts. */
int pt_merge_start(const char *path, uint64_t *base_ns, struct pt_err *err);

/* out: FILE.json, FILE.json.gz or "-". gzip_level 0: the default. */
int pt_merge_open(const char *out, uint64_t base_ns, int gzip_level, struct pt_merge **merge,
		  struct pt_err *err);
/* name is what messages and the result call it. */
int pt_merge_add(struct pt_merge *merge, const char *path, const char *name, struct pt_err *err);
uint64_t pt_merge_events(const struct pt_merge *merge);
/* Frees. */
int pt_merge_close(struct pt_merge *merge, struct pt_err *err);
void pt_merge_discard(struct pt_merge *merge);

#endif
