/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * destination.h - where a format's bytes go: a file or standard output, plain or gzip.
 *
 * The format fills blocks; a thread of the destination compresses and writes them, so that on a
 * second core it costs the caller nothing. A block is written whole or, when the disk is full or
 * max_bytes reached, as far as whole events fit: a piece may be cut before any ",\n". Each block
 * is compressed by itself (the stream stays one gzip member), which is what makes it possible to
 * take back a block that did not fit and to end the document behind the one before.
 *
 * One thread uses a destination.
 */
#ifndef PT_SINK_DESTINATION_H
#define PT_SINK_DESTINATION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct pt_destination;

struct pt_destination_options {
	bool gzip;
	int gzip_level;     /* 0: the default */
	uint64_t max_bytes; /* 0: no limit */
};

/* An event has to fit into a block. */
#define PT_BLOCK_BYTES (256u << 10)

int pt_destination_open(const char *path, const struct pt_destination_options *options,
			struct pt_destination **destination, struct pt_err *err);

/* Room for len bytes (at most PT_BLOCK_BYTES), valid until the next call; they count once
 * pt_destination_used() says so. */
char *pt_destination_room(struct pt_destination *destination, size_t len);
void pt_destination_used(struct pt_destination *destination, size_t len);
/* Waits until what is there is written; whole: it must not be cut. 0, or -errno. */
int pt_destination_flush(struct pt_destination *destination, bool whole);
/* 0, or why nothing is written any more: -EFBIG (max_bytes), -ENOSPC, ... */
int pt_destination_error(const struct pt_destination *destination);
uint64_t pt_destination_bytes(const struct pt_destination *destination);

/* Writes text behind everything, whole or not at all. Nothing but the tail may follow. 0, or why it
 * is not there: -EFBIG (max_bytes), -ENOSPC, ... */
int pt_destination_append(struct pt_destination *destination, const char *text, size_t len);
/* Forgets what was written: the next byte is the document's first. 0, or -errno. */
int pt_destination_restart(struct pt_destination *destination);
/* A destination of its own that begins with what this one has so far, without a limit of size. */
int pt_destination_copy(struct pt_destination *destination, const char *path,
			struct pt_destination **copy, struct pt_err *err);

/* Writes the tail behind the last event that fitted, and closes (see outfile.h). Frees. The error
 * that was met while writing, but -EFBIG, is the result even if the document is whole. */
int pt_destination_close(struct pt_destination *destination, const char *tail, size_t tail_len,
			 struct pt_err *err);
/* Frees; the file disappears. */
void pt_destination_discard(struct pt_destination *destination);

#endif
