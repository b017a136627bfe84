/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * methods.h - C functions probed at themselves in a session (--c-functions LIST).
 *
 * methods_new() -> methods_choose() for each interpreter before it is handed to the tracer ->
 * methods_attach() for each process, again when it maps more (mapped.h) -> methods_free().
 */
#ifndef PT_RECORD_METHODS_H
#define PT_RECORD_METHODS_H

#include "base/err.h"
#include "record/images.h"
#include "target/process.h"

struct session;

/* session->methods stays NULL where no interpreter can be served so. */
int methods_new(struct session *session, struct pt_err *err);
void methods_free(struct session *session);
/* Where are this interpreter's C functions probed? -ENOMEM. */
int methods_choose(struct session *session, const struct pt_process *process,
		   struct pt_traced_image *image);
/* Attaches to what the process maps and may load; a file that cannot be attached to costs a
 * warning. late: it has mapped more while recording, and may have called what is there. */
int methods_attach(struct session *session, const struct pt_process *process, bool late);
/* A forked child gets the probes that its parent alone has; those that were not asked for it gets
 * later, by methods_attach(). */
int methods_fork(struct session *session, pid_t child);
/* The process has ended: its number may be used again. */
void methods_forget(struct session *session, pid_t pid);

#endif
