/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * memory_history.h - PyTorch's memory snapshot (torch.cuda.memory._snapshot()), which its viewer
 * and torch/cuda/_memory_viz.py read: pickles, one a process, from PT_OP_MEMORY.
 *
 * Life cycle: pt_memory_history_open() -> pt_memory_history_op() -> pt_memory_history_close().
 * What happened goes through temporary files, so memory grows with processes, distinct stacks, what
 * is allocated at a time, and by a byte an allocation. A file appears under its name when it is
 * whole.
 *
 * The first process gets the path; %p in it stands for the pid, and where it has none, further
 * processes get _PID before the suffix.
 */
#ifndef PT_SINK_MEMORY_HISTORY_H
#define PT_SINK_MEMORY_HISTORY_H

#include "base/err.h"
#include "ingest/capture.h"
#include "model/op.h"

struct pt_memory_history;

/* path and info are borrowed. */
int pt_memory_history_open(const char *path, const struct pt_capture_info *info,
			   struct pt_memory_history **history);
/* PT_OP_MEMORY only. Stacks must live until the close. */
int pt_memory_history_op(const struct pt_op *op, struct pt_memory_history *history);
/* Writes the files, calls done for each, and frees. Without any allocation there is one for no
 * process. */
int pt_memory_history_close(struct pt_memory_history *history,
			    void (*done)(const char *path, void *ctx), void *ctx,
			    struct pt_err *err);
/* Frees without leaving a file. */
void pt_memory_history_discard(struct pt_memory_history *history);

#endif
