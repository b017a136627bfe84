/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * split.h - one trace file a process: a path with "%p" in its name, which stands for the pid.
 *
 * Same life cycle as a sink. A file is opened when the first op of its process comes. From
 * PT_SPLIT_MAX_FILES processes on the others share one file, with "rest" in the place of the pid.
 */
#ifndef PT_SINK_SPLIT_H
#define PT_SINK_SPLIT_H

#include "sink/sink.h"

/* Each open file takes a thread and a megabyte. */
#define PT_SPLIT_MAX_FILES 128

struct pt_split;

/* Whether path asks for it. */
bool pt_split_wanted(const char *path);
/* path with pid (or "rest" for 0) in the place of %p; the caller frees it. NULL: no memory. */
char *pt_split_path(const char *path, pid_t pid);

/* All arguments are borrowed until pt_split_close(). Functions are remembered by reference: their
 * strings must live as long. */
int pt_split_open(const char *path, const struct pt_capture_info *info,
		  const struct pt_sink_options *options, struct pt_split **split);
/* Suits pt_op_fn with the split as ctx. */
int pt_split_op(const struct pt_op *op, void *split);
uint64_t pt_split_bytes(const struct pt_split *split);
/* Closes all files, calls done (may be NULL) with each one's path, and frees. The first error is
 * the result. */
int pt_split_close(struct pt_split *split, const struct pt_totals *totals,
		   void (*done)(const char *path, void *ctx), void *ctx, struct pt_err *err);

#endif
