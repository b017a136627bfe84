/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * otlp.h - series as OTLP messages (ExportMetricsServiceRequest, as protobuf).
 *
 * Each process is a resource of its own: service.name and service.instance.id ("HOST:PID") tell
 * what the labels process and pid do elsewhere; what is of several processes, or of the agent
 * itself, is the agent's. Counters are cumulative and carry the time at which they were 0. Pure.
 *
 * Life cycle: pt_otlp_new() -> series are given to pt_otlp_sink() -> pt_otlp_finish() ->
 * pt_otlp_free(). A message has at most PT_OTLP_POINTS_MAX points: collectors refuse what is too
 * long (some 100 bytes a point).
 */
#ifndef PT_SINK_OTLP_H
#define PT_SINK_OTLP_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/buf.h"
#include "sink/series.h"

#define PT_OTLP_POINTS_MAX 10000

struct pt_otlp;

/* What all messages of an agent say. */
struct pt_otlp_source {
	const char *host;                         /* valid UTF-8 */
	const char *version;                      /* the agent's */
	pid_t pid;                                /* the agent's */
	const struct pt_series_label *attributes; /* further ones of each resource */
	size_t attribute_count;
	uint64_t start_ns;      /* when the agent began to count; CLOCK_MONOTONIC */
	uint64_t since_1970_ns; /* what that clock lacks, of start times; the same all the time, or
				   counters would seem to begin anew */
};

/* Borrows source. now_ns: since 1970, of all values. 0 or -ENOMEM. */
int pt_otlp_new(const struct pt_otlp_source *source, uint64_t now_ns, struct pt_otlp **otlp);
struct pt_series_sink pt_otlp_sink(struct pt_otlp *otlp);
/* The messages, until pt_otlp_free(). -ENOMEM. */
int pt_otlp_finish(struct pt_otlp *otlp, const struct pt_buf **messages, size_t *count);
void pt_otlp_free(struct pt_otlp *otlp);

/* What a collector answered to one that it took: how many points it refused, and its reason (as
 * valid UTF-8). -EBADMSG: this is no such answer. */
int pt_otlp_answer(const void *data, size_t len, uint64_t *rejected, char *reason,
		   size_t reason_size);

#endif
