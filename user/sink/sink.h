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
#include "model/model.h"

struct pt_sink;

/* The states of a thread (--sched) are slices of this category, under a tid of their own: this much
 * beyond the thread's, which no thread has (PID_MAX_LIMIT, include/linux/threads.h, is 4 Mi). On
 * the thread's own track they would break the nesting of its calls. */
#define PT_STATE_CATEGORY "thread_state"
#define PT_STATE_TID_BASE 1000000000

/* Whose schema the trace follows. */
enum pt_dialect {
	PT_DIALECT_PYTORCH,   /* Kineto's: "path(line): qualname", category python_function */
	PT_DIALECT_VIZTRACER, /* "qualname (path:line)", category FEE, viztracer_metadata */
};

/* A source file: valid UTF-8 that lives as long as its reader. */
struct pt_source {
	const char *text; /* NUL-terminated */
	size_t bytes;
	uint64_t lines; /* line feeds */
};

/* Finds the source of a file as process pid sees it, or NULL. */
typedef const struct pt_source *(*pt_source_fn)(void *ctx, pid_t pid, const char *file);

struct pt_sink_options {
	pt_source_fn source; /* NULL: no sources in the trace; called once a function */
	void *source_ctx;
	enum pt_dialect dialect;
	const char *process_name; /* of every process, instead of its own; or NULL */
	bool no_call_ids;   /* leave out Python id / Python parent id (speedscope merges frames by
			       args) */
	bool lines;         /* what holds samples: by the line, not only by function */
	uint64_t max_bytes; /* stop with -EFBIG when the file would exceed it; 0: no limit */
	int gzip_level;     /* 1-9; 0: the default */
};

/* From which moment the times of a Chrome trace count that starts then (CLOCK_REALTIME). */
uint64_t pt_chrome_base_ns(uint64_t start_real_ns);
/* Whether a format has the suffix of path ("-" is plain JSON). */
bool pt_sink_knows(const char *path);
/* The suffix of path that chooses its format; "" for "-" (plain JSON), NULL: there is none. */
const char *pt_sink_suffix(const char *path);
/* Does what it holds come of samples alone (--engine sample)? */
bool pt_sink_wants_samples(const char *path);
/* path: FILE with a suffix of a format, or "-" (plain JSON on stdout). Written to path.tmp. */
int pt_sink_open(const char *path, const struct pt_capture_info *info,
		 const struct pt_sink_options *options, struct pt_sink **sink, struct pt_err *err);
/* Suits pt_op_fn with the sink as ctx. */
int pt_sink_op(const struct pt_op *op, void *sink);
/* Writes a whole document of what went in so far and what fill gives to it (slices only, of what
 * was announced) to path, which must have the suffix of the sink's own; the sink goes on as before.
 */
int pt_sink_save(struct pt_sink *sink, const char *path,
		 int (*fill)(pt_op_fn op, void *sink, void *ctx), void *ctx,
		 const struct pt_totals *totals, struct pt_err *err);
uint64_t pt_sink_bytes(const struct pt_sink *sink);
/* Writes the tail, fsyncs, renames, frees. After a write error (full disk) the document is closed
 * as far as possible and kept: what was recorded is not lost. */
int pt_sink_close(struct pt_sink *sink, const struct pt_totals *totals, struct pt_err *err);

#endif
