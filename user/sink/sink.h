/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * sink.h - formats (how bytes look) and destinations (where they go).
 *
 * pt_sink_open() chooses the format by the file's suffix from the registry in sink.c; a new format
 * is one file and one line there.
 */
#ifndef PT_SINK_SINK_H
#define PT_SINK_SINK_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "ingest/capture.h"
#include "model/op.h"

struct pt_sink;

struct pt_sink_options {
	bool no_call_ids;   /* leave out Python id / Python parent id (speedscope merges frames by
			       args) */
	uint64_t max_bytes; /* stop with -EFBIG when the file would exceed it; 0: no limit */
	int gzip_level;     /* 1-9; 0: the default */
};

/* Whether a format has the suffix of path ("-" is plain JSON). */
bool pt_sink_knows(const char *path);
/* path: FILE.json, FILE.json.gz, or "-" (plain JSON on stdout). Written to path.tmp. */
int pt_sink_open(const char *path, const struct pt_capture_info *info,
		 const struct pt_sink_options *options, struct pt_sink **sink, struct pt_err *err);
/* Suits pt_op_fn with the sink as ctx. */
int pt_sink_op(const struct pt_op *op, void *sink);
uint64_t pt_sink_bytes(const struct pt_sink *sink);
/* Writes the tail, fsyncs, renames, frees. After a write error (full disk) the document is closed
 * as far as possible and kept: what was recorded is not lost. */
int pt_sink_close(struct pt_sink *sink, const struct pt_totals *totals, struct pt_err *err);

#endif
