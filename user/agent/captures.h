/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * captures.h - the agent's flight recorders: one for each rule that has "capture".
 *
 * Each sees the records of the processes that its rule included when they were attached to, and
 * writes captures into a folder of its own, DIR/RULE/. Records of others cost it nothing but that
 * they are told apart. What somebody else asks (the server's threads) is answered under a lock that
 * is never held while something is written.
 *
 * Life cycle: agent_captures_new() -> of each session: agent_captures_begin(), _attached() and the
 * tap, which the session gives its output -> agent_captures_free(). NULL stands for a configuration
 * without recorders; all functions take it.
 */
#ifndef PT_AGENT_CAPTURES_H
#define PT_AGENT_CAPTURES_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "agent/upload.h"
#include "base/buf.h"
#include "base/err.h"
#include "record/output.h"

/* More kinds of triggers than there are. */
#define AGENT_CAPTURE_KINDS 32

/* Since the agent began. */
struct agent_captures_counts {
	uint64_t made[AGENT_CAPTURE_KINDS]; /* by pt_trigger_kind_name()'s number */
	uint64_t failed;
	bool sends; /* they are sent somewhere */
};

struct agent_captures;
struct agent_config;
struct agent_rule;

/* Makes the folders. config and uploads are borrowed. before: the counts go on from these; NULL:
 * from 0. *captures is NULL if no rule has a recorder. */
int agent_captures_new(const struct agent_config *config, const struct agent_captures *before,
		       struct agent_upload_stats *uploads, struct agent_captures **captures,
		       struct pt_err *err);
void agent_captures_free(struct agent_captures *captures);

/* What is to be recorded for the triggers: PT_NEEDS_*. */
unsigned int agent_captures_needs(const struct agent_captures *captures);
/* A session begins; what another recorded is over. attached: its processes are known already. */
void agent_captures_begin(struct agent_captures *captures, bool attached);
/* NULL: nothing is to be kept. */
const struct pt_output_tap *agent_captures_tap(const struct agent_captures *captures);
/* The session's thread attached to a process; before the record that says so. */
void agent_captures_attached(struct agent_captures *captures, pid_t pid,
			     const struct agent_rule *rule, const char *version,
			     const char *engine);
/* SIGUSR1 or SIGUSR2 came. */
void agent_captures_signal(struct agent_captures *captures, int signal_number);

/* From any thread. Somebody wants a capture of the recorder that has the process; says in JSON
 * which that is. -ESRCH: none has it; or as pt_flight_ask(). */
int agent_captures_ask(struct agent_captures *captures, pid_t pid, struct pt_buf *text);
/* From any thread. Adds what there is, as a JSON list. */
void agent_captures_list(struct agent_captures *captures, struct pt_buf *text);
/* From any thread. path: RULE/NAME. A descriptor, or -errno: -ENOENT for all that is none of the
 * captures, wherever it is. */
int agent_captures_open(const struct agent_captures *captures, const char *path, uint64_t *bytes);
/* From any thread. False: there are no recorders. */
bool agent_captures_counts(struct agent_captures *captures, struct agent_captures_counts *counts);

#endif
