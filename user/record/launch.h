/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * launch.h - starts the command to be traced and stops it at the instant when a CPython is mapped
 * but has not run yet.
 *
 * The command is our own child, so it may be held by ptrace: exec events of it and of what it forks
 * are watched; after an exec, mappings of executable files are looked at until one holds CPython
 * (libpython comes after the exec, through the dynamic loader) or the loader is certainly done.
 * That finds `python`, `env python`, scripts by their first line and shell scripts that end in a
 * python. A process that turned out to be Python is let go of ptrace at once; what it forks is
 * followed by BPF. Processes that are not Python stay watched but run freely.
 *
 * Life cycle: pt_launch_new() (forked, held) -> pt_launch_go() -> pt_launch_service() until
 * finished -> pt_launch_free(). All from one thread: ptrace wants it.
 */
#ifndef PT_RECORD_LAUNCH_H
#define PT_RECORD_LAUNCH_H

#include <stdbool.h>
#include <sys/types.h>

#include "base/err.h"

struct pt_launch;

/* A process holds still and maps what may be a CPython. Looks, attaches. > 0: it is Python, let it
 * go; 0: it is not (yet); -errno: give up. */
typedef int (*pt_launch_look_fn)(pid_t pid, void *ctx);

/* The command runs as the user that called sudo, if any. */
int pt_launch_new(char *const *command, struct pt_launch **launch, struct pt_err *err);
pid_t pt_launch_pid(const struct pt_launch *launch);
/* Lets the command exec. */
int pt_launch_go(struct pt_launch *launch, struct pt_err *err);
/* After the command has ended: -errno and err if it could not be executed at all, else 0. */
int pt_launch_exec_error(struct pt_launch *launch, struct pt_err *err);
/* Does what is pending; never blocks for longer than a few milliseconds. Returns what look
 * returned if that was negative, else 0. */
int pt_launch_service(struct pt_launch *launch, pt_launch_look_fn look, void *ctx);
/* Processes under ptrace at the moment. */
bool pt_launch_watching(const struct pt_launch *launch);
/* The command itself has ended; *wait_status as in wait(2). */
bool pt_launch_ended(const struct pt_launch *launch, int *wait_status);
void pt_launch_signal(const struct pt_launch *launch, int signal_number);
/* Ends the watch: what is not Python by now will not be found. */
void pt_launch_let_go(struct pt_launch *launch);
/* Lets go of everything still watched; a command that never went is killed. */
void pt_launch_free(struct pt_launch *launch);

/* Who called sudo; false: nobody, or not root. */
bool pt_sudo_user(uid_t *uid, gid_t *gid);

#endif
