/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * marks.h - probes of the user's (--probe, --nvtx): finds their places in what the traced processes
 * map, and attaches them.
 *
 * A path leads to a file below the process's root, and is attached before recording begins; a
 * file's name is looked for among the files that a process maps, again and again, because a library
 * may be loaded at any time.
 *
 * Life cycle: pt_marks_new() -> pt_marks_define() once -> pt_marks_look() at each process, now and
 * then -> pt_marks_free(). The probes themselves belong to the tracer.
 */
#ifndef PT_RECORD_MARKS_H
#define PT_RECORD_MARKS_H

#include <linux/types.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/err.h"
#include "probe/attach.h"
#include "pt_abi.h"
#include "target/process.h"

struct pt_marks;

/* texts: NULL-terminated, borrowed; may be NULL. */
int pt_marks_new(const char *const *texts, bool nvtx, struct pt_marks **marks, struct pt_err *err);
void pt_marks_free(struct pt_marks *marks);
/* Hands the PT_REC_MARK of each probe to put. */
int pt_marks_define(const struct pt_marks *marks, uint64_t time_ns,
		    int (*put)(const struct pt_rec *record, size_t len, void *ctx), void *ctx);
/* Attaches what is found in this process and is not attached yet: for all who map the file, or for
 * this process alone. *done: there is nothing left to look for in it. -errno (err set): a probe
 * that was found cannot be attached, or a path leads nowhere. */
int pt_marks_look(struct pt_marks *marks, struct pt_tracer *tracer, pid_t pid, bool alone,
		  struct pt_file_cache *cache, bool *done, struct pt_err *err);
/* How many places there are. */
size_t pt_marks_count(const struct pt_marks *marks);
/* Warns of probes that were found nowhere. */
void pt_marks_warn_unused(const struct pt_marks *marks);

#endif
