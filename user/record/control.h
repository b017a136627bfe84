/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * control.h - the control socket: who may speak, lines in, lines out. What they mean is in
 * commands.c.
 *
 * A Unix stream socket of mode 0600. Only root and the user that the recorder runs as are heard
 * (SO_PEERCRED). A client sends commands, one line of at most PT_CONTROL_LINE_BYTES each, and gets
 * one JSON object on one line for each, in order:
 *
 *   status | pause | resume | clear | save [FILE] | stop [--flush-unfinished]
 *   {"ok": true, ...} or {"ok": false, "error": "...", "exit_code": N}
 *
 * Nothing here ever waits: a client that sends nothing for IDLE_NS, or does not take its answer, is
 * dropped. Life cycle: pt_control_open() (a stale socket is replaced) -> pt_control_service(),
 * often
 * -> pt_control_close() (removes the socket). One thread.
 */
#ifndef PT_RECORD_CONTROL_H
#define PT_RECORD_CONTROL_H

#include <stdint.h>

#include "base/err.h"

#define PT_CONTROL_LINE_BYTES 8192
#define PT_CONTROL_SOCKET     "/run/pytrace-bpf.sock" /* where 'ctl' looks unless told otherwise */

struct pt_control;

/* A command has come. The answer is given with pt_control_answer(), now or later; until then the
 * client's next command waits. line lives for the call. */
typedef void (*pt_control_fn)(uint32_t client, const char *line, void *ctx);

int pt_control_open(const char *path, struct pt_control **control, struct pt_err *err);
void pt_control_service(struct pt_control *control, pt_control_fn fn, void *ctx);
/* json: one object without a line break. A client that has gone is no error. */
void pt_control_answer(struct pt_control *control, uint32_t client, const char *json);
void pt_control_refuse(struct pt_control *control, uint32_t client, const struct pt_err *err);
/* NULL is fine. */
void pt_control_close(struct pt_control *control);

#endif
