/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * mapped.h - notices that a traced process maps more files than before, by the size of its mapped
 * libraries (VmLib), ten times a second (twice if there are many), and has them looked at for what
 * is probed in files.
 */
#ifndef PT_RECORD_MAPPED_H
#define PT_RECORD_MAPPED_H

#include <stdbool.h>
#include <sys/types.h>

struct session;
struct mapped; /* of session->mapped; made when first needed */

/* Does it map more code, or less, than *lib_kb says, which is then brought up to date? */
bool mapped_changed(pid_t pid, long *lib_kb);
/* Looks for what was mapped since the last call. */
int mapped_poll(struct session *session);
void mapped_forget(struct session *session, pid_t pid);
void mapped_free(struct session *session);

#endif
