/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * model.h - rebuilds the stacks from records and emits trace ops.
 *
 * Balance and nesting are guaranteed here and nowhere else. Per process image it knows code
 * objects, per thread the open frames with their absolute depths; a gap in the sequence, a
 * snapshot or an impossible depth heals the stack and is reported as PT_OP_LOSS.
 * Memory: grows with threads, functions and open frames, not with the length of the trace.
 */
#ifndef PT_MODEL_MODEL_H
#define PT_MODEL_MODEL_H

#include <stddef.h>

#include "base/err.h"
#include "ingest/capture.h"
#include "model/op.h"
#include "pt_abi.h"

struct pt_model;

struct pt_model_options {
	uint64_t min_duration_ns;     /* shorter slices are left out (they still nest) */
	unsigned int max_stack_depth; /* 0: no limit */
	const char *const
	    *include_files; /* globs on the code object's file; NULL-terminated or NULL */
	const char *const *exclude_files;
	bool no_c_functions;
	bool memory;     /* follow the memory of CUDA: counters, what is left, and PT_OP_MEMORY */
	bool gpu_bounds; /* say what the host knows of when GPUs worked: PT_OP_GPU_BOUND */
	const char *const *c_globs; /* C functions to keep, see pt_glob_qualified(); NULL: all */
	bool c_chosen; /* recorded with the same c_globs: what has PT_C_PROBED was chosen by them */
};

/* A sink's entry: non-zero (-errno) stops. */
typedef int (*pt_op_fn)(const struct pt_op *op, void *ctx);

int pt_model_new(const struct pt_model_options *options, const struct pt_capture_info *info,
		 pt_op_fn emit, void *ctx, struct pt_model **model);
/* A damaged record is counted (totals.bad_records) and skipped; errors are only the sink's. */
int pt_model_record(struct pt_model *model, const struct pt_rec *record, size_t len);
/* Closes what is open (at PT_NOTE_GATE_CLOSE's time, or the last event's) and fills totals. */
int pt_model_finish(struct pt_model *model, struct pt_totals *totals);
/* What a trace that ended now would have besides what has gone out: the calls that are open. Each
 * ends at its thread's last event, or at known_ns: until then all that happened has come.
 * pt_model_announce_open() sends the process, thread and function ops that they need; then
 * pt_model_open_slices() gives the slices themselves to copy. The recording goes on as before. */
void pt_model_announce_open(struct pt_model *model, uint64_t known_ns);
int pt_model_open_slices(struct pt_model *model, uint64_t known_ns, pt_op_fn copy, void *ctx);
void pt_model_totals(const struct pt_model *model, struct pt_totals *totals);
void pt_model_free(struct pt_model *model);

#endif
