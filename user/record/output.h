/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * output.h - where a recording goes: a capture file (.ptcap), or the model and a sink.
 *
 * Life cycle: pt_output_check() before anything is attached -> pt_output_open() once the start is
 * known -> pt_output_record() for each record -> pt_output_close(). One thread at a time, but
 * pt_output_bytes() may be asked by any. The same is used for live recordings and for replay.
 */
#ifndef PT_RECORD_OUTPUT_H
#define PT_RECORD_OUTPUT_H

#include <linux/types.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "ingest/capture.h"
#include "model/model.h"
#include "pt_abi.h"
#include "sink/sink.h"

/* Sees each record before the model does, in the thread of pt_output_record(). */
struct pt_output_tap {
	int (*open)(const struct pt_capture_info *info, const struct pt_model_options *model,
		    void *ctx, struct pt_err *err);
	void (*record)(const struct pt_rec *record, size_t len, void *ctx);
	void (*close)(void *ctx); /* also if nothing was opened */
	void *ctx;
};

struct pt_output_options {
	const char *path; /* FILE.json, FILE.json.gz, FILE.ptcap, or "-"; %p: one file a process */
	pt_op_fn op;      /* trace ops go there, and no file is written; NULL: to path */
	void *op_ctx;
	/* With op, or NULL: all that happened until known_ns has been given to op. The model may be
	 * asked what is open. */
	void (*complete)(struct pt_model *model, uint64_t known_ns, void *op_ctx);
	const struct pt_output_tap *tap; /* NULL: none; with op only */
	bool pid_suffix; /* one file a process, also where path is NULL and chosen by the session */
	struct pt_sources *sources; /* borrowed; NULL: no sources in the trace */
	struct pt_sources *origins; /* likewise, of generated files in stacks; see inductor.h */
	struct pt_model_options model;
	struct pt_sink_options sink; /* sink.max_bytes holds for capture files too */
	/* A flight recorder, which writes captures into the folder path; or NULL. */
	const struct pt_flight_options *flight;
	const char *memory_history; /* likewise a path, of a snapshot; NULL: none (model.memory) */
	uint64_t newest_count;      /* of entries, only so many, the newest; 0: all */
	bool give_to_owner;         /* the finished file belongs to: */
	uid_t owner_uid;
	gid_t owner_gid;
};

struct pt_output;
struct pt_sources;
struct pt_flight_options;

/* Whether path could be written, found out without leaving anything there. */
int pt_output_check(const char *path, struct pt_err *err);
/* The same of a path of any suffix. */
int pt_output_check_writable(const char *path, struct pt_err *err);
/* options are borrowed until pt_output_close(). */
int pt_output_open(const struct pt_output_options *options, const struct pt_capture_info *info,
		   struct pt_output **output, struct pt_err *err);
/* Suits pt_spool_fn. -EFBIG: the file has its largest size; -errno: writing failed. Either way
 * pt_output_close() keeps what is there. */
int pt_output_record(const struct pt_rec *record, size_t len, void *output);
/* Whether what goes to path can be copied and emptied while it is written: not if it is a stream,
 * or one file a process. */
int pt_output_check_rewrite(const char *path, struct pt_err *err);
/* Whether a copy of the output may be written to path: another file, with the same suffix. */
int pt_output_check_copy(const struct pt_output_options *options, const char *path,
			 struct pt_err *err);
/* Writes a whole document of what was recorded so far to path. known_ns: until then all that
 * happened has come, so calls that are open lasted at least until then. */
int pt_output_save(struct pt_output *output, const char *path, uint64_t known_ns,
		   struct pt_err *err);
/* Of a flight recorder: the recorder got a signal; all captures that were asked for are there. From
 * any thread. */
void pt_output_signal(struct pt_output *output, int signal_number);
bool pt_output_done(const struct pt_output *output);
uint64_t pt_output_bytes(const struct pt_output *output);
/* Ends the document and frees. totals may be NULL; for a capture file only events, lost_* and
 * threads are filled. */
int pt_output_close(struct pt_output *output, struct pt_totals *totals, struct pt_err *err);
/* Frees without leaving a file. */
void pt_output_discard(struct pt_output *output);

bool pt_output_is_capture(const char *path);
/* The folder that path lies in; "-" gives one for temporary files. */
void pt_output_folder(const char *path, char *folder, size_t size);

#endif
