/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * sources.h - the sources of the functions in a trace (--file-info).
 *
 * Life cycle: pt_sources_new() -> pt_sources_process() for each process while it lives, from the
 * thread that attaches -> pt_sources_op() and pt_sources_find() from the one that writes ->
 * _free(). A file is read once, when the first function of it comes. A forked process that was
 * never seen alive has its parent's root.
 */
#ifndef PT_RECORD_SOURCES_H
#define PT_RECORD_SOURCES_H

#include <sys/types.h>

#include "model/op.h"
#include "sink/sink.h"

/* Of one file and of all together: a trace is to be opened in a browser. */
#define PT_SOURCE_MAX_BYTES  (4u << 20)
#define PT_SOURCES_MAX_BYTES (64u << 20)

struct pt_sources;

struct pt_sources *pt_sources_new(void);
void pt_sources_process(struct pt_sources *sources, pid_t pid);
/* Learns who forked whom. */
void pt_sources_op(struct pt_sources *sources, const struct pt_op *op);
/* A pt_source_fn; ctx is the struct pt_sources. */
const struct pt_source *pt_sources_find(void *ctx, pid_t pid, const char *file);
/* Says how many files could not be had, and frees. */
void pt_sources_free(struct pt_sources *sources);

#endif
