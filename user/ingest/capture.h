/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * capture.h - capture files (.ptcap): raw records behind a small header, so that a recording can be
 * replayed anywhere, without root.
 *
 * File: struct pt_capture_header, then chunks. A chunk is {magic, byte counts, CRC-32, flags} and a
 * run of whole records, deflated if flags say so (capture_format.h). A file that ends in the middle
 * of a chunk is read up to its last whole chunk and reported as cut short. Capture files are
 * hostile input.
 */
#ifndef PT_INGEST_CAPTURE_H
#define PT_INGEST_CAPTURE_H

#include <linux/types.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "pt_abi.h"

/* What a recording says of itself; the live path fills the same struct. */
struct pt_capture_info {
	uint64_t start_mono_ns; /* gate open, CLOCK_MONOTONIC */
	uint64_t start_real_ns; /* the same instant, CLOCK_REALTIME */
	char tool_version[32];
	char kernel[96];
	char host[64];
	char engine[16];
	char interpreter[64]; /* "CPython 3.12.1", or several separated by commas */
};

struct pt_capture_writer;
struct pt_capture_reader;

/* path is written as path.tmp and renamed by pt_capture_close(); "-" is stdout. */
int pt_capture_create(const char *path, const struct pt_capture_info *info, bool compress,
		      struct pt_capture_writer **writer, struct pt_err *err);
int pt_capture_write(struct pt_capture_writer *writer, const struct pt_rec *record, size_t len,
		     struct pt_err *err);
/* Writes a whole capture of what went in so far, and ends_at as its GATE_CLOSE, to path. */
int pt_capture_save(struct pt_capture_writer *writer, const char *path, uint64_t ends_at_ns,
		    struct pt_err *err);
/* The most that the file can have if it is closed now. */
uint64_t pt_capture_bytes(const struct pt_capture_writer *writer);
/* Frees the writer; keep false removes the file. What reached the disk is kept on a write error. */
int pt_capture_close(struct pt_capture_writer *writer, bool keep, struct pt_err *err);

int pt_capture_open(const char *path, struct pt_capture_reader **reader,
		    struct pt_capture_info *info, struct pt_err *err);
/* 1 and a record (borrowed until the next call), 0 at the end, -errno. Structural checks are done:
 * len is a multiple of 8, fits its kind's fixed part, and equals record->len. */
int pt_capture_next(struct pt_capture_reader *reader, const struct pt_rec **record, size_t *len,
		    struct pt_err *err);
bool pt_capture_cut_short(const struct pt_capture_reader *reader);
void pt_capture_reader_free(struct pt_capture_reader *reader);

#endif
