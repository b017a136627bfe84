/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * outfile.h - a file that appears under its name only when it is whole.
 *
 * Life cycle: pt_outfile_open() creates PATH.tmp -> pt_outfile_append() -> pt_outfile_commit()
 * (fsync, rename) or pt_outfile_discard(). "-" is standard output; a path that exists and is no
 * regular file (a pipe, /dev/null) is written in place. Neither can be rolled back.
 *
 * An append writes all or nothing: after a failure (full disk) the file ends where it ended
 * before, so that the caller can write a shorter piece or an ending. Space for that ending is held
 * by PATH.tmp.reserve, which pt_outfile_use_reserve() gives back to the file system.
 */
#ifndef PT_BASE_OUTFILE_H
#define PT_BASE_OUTFILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct pt_outfile {
	int fd;         /* -1: not open */
	bool in_place;  /* no temporary file, no roll-back */
	char *path;     /* owned */
	char *tmp_path; /* owned; NULL in place */
	char *reserve_path;
	uint64_t bytes; /* written so far */
};

int pt_outfile_open(struct pt_outfile *file, const char *path, size_t reserve_bytes,
		    struct pt_err *err);
int pt_outfile_append(struct pt_outfile *file, const void *data, size_t len);
/* Takes back what was appended after there were `bytes`; -ESPIPE in place. */
int pt_outfile_cut(struct pt_outfile *file, uint64_t bytes);
/* Empties it. Not in place (-EOPNOTSUPP). */
int pt_outfile_restart(struct pt_outfile *file);
/* Appends what from has beyond the bytes that file has, which are the same. from is not in place
 * (-EOPNOTSUPP). */
int pt_outfile_append_rest(struct pt_outfile *file, const struct pt_outfile *from);
void pt_outfile_use_reserve(struct pt_outfile *file);
/* Both release what the struct holds, whatever happens. */
int pt_outfile_commit(struct pt_outfile *file, struct pt_err *err);
void pt_outfile_discard(struct pt_outfile *file);

#endif
