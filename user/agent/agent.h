/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * agent.h - one recording after the other on a host, without a trace: only counters are kept.
 *
 * A session of record/ does the work (struct pt_session_choice). It is ended and begun again when
 * the configuration changes; when the model has grown (it keeps each thread and function that it
 * has met) another one takes its place, see recording.c: so memory is bounded, and a call that is
 * open then is counted once.
 */
#ifndef PT_AGENT_AGENT_H
#define PT_AGENT_AGENT_H

#include "base/err.h"

struct agent_config;

/* Runs until SIGTERM or SIGINT; SIGHUP reads the configuration anew. Frees config. 0, or -errno if
 * the first recording could not begin. */
int agent_run(const char *config_path, struct agent_config *config, const char *cache_dir,
	      struct pt_err *err);

#endif
