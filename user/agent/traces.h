/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * traces.h - slow requests, as spans for a collector: of rules that have "traces".
 *
 * Sees the trace ops that the metrics see. A request that took longer than its rule says becomes a
 * trace, with what took long inside of it, once nothing can be around it that is the same request
 * (a server around a framework). What is not known exactly is counted, and not told: a request that
 * was running when its process was attached to, or in which events were lost.
 *
 * Life cycle: agent_traces_new() -> of each recording: agent_trace_watch_new(), _attached(), _op(),
 * _complete(), agent_trace_watch_free() -> agent_traces_free(). NULL stands for a configuration
 * without such rules; all that are not about ops take it, but agent_traces_take(). The ops of a
 * recording come from one thread; another may attach, and a third take.
 */
#ifndef PT_AGENT_TRACES_H
#define PT_AGENT_TRACES_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "model/model.h"
#include "sink/otlp_traces.h"

/* That wait to be taken; further ones are dropped. */
#define AGENT_TRACES_WAIT_MAX 1000

struct agent_config;
struct agent_rule;
struct agent_traces;
struct agent_trace_watch;

enum agent_trace_result {
	AGENT_TRACE_TOLD,
	AGENT_TRACE_OVER_LIMIT, /* the rule's "per_minute" */
	AGENT_TRACE_INCOMPLETE, /* see above */
	AGENT_TRACE_NO_ROOM,    /* too many wait; or out of memory */
	AGENT_TRACE_RESULTS
};

struct agent_trace_stats { /* for any thread */
	_Atomic bool used; /* there was such a rule, once */
	_Atomic uint64_t results[AGENT_TRACE_RESULTS];
};

/* stats are borrowed. *traces is NULL if no rule has any. */
int agent_traces_new(const struct agent_config *config, struct agent_trace_stats *stats,
		     struct agent_traces **traces, struct pt_err *err);
void agent_traces_free(struct agent_traces *traces);

/* *watch is NULL if traces is. -ENOMEM. */
int agent_trace_watch_new(struct agent_traces *traces, struct agent_trace_watch **watch);
/* The recording attached to a process; before its first op. */
void agent_trace_watch_attached(struct agent_trace_watch *watch, pid_t pid,
				const struct agent_rule *rule, const char *version);
void agent_trace_watch_op(struct agent_trace_watch *watch, const struct pt_op *op);
/* As of struct pt_output_options. */
void agent_trace_watch_complete(struct agent_trace_watch *watch, struct pt_model *model,
				uint64_t known_ns);
/* There come no ops any more. */
void agent_trace_watch_free(struct agent_trace_watch *watch);

/* From any thread: what waits, oldest first; max at most. The caller frees each. */
size_t agent_traces_take(struct agent_traces *traces, struct pt_otlp_trace **taken, size_t max);

#endif
