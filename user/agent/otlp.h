/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * otlp.h - sends what the agent measures to an OpenTelemetry collector, by OTLP over HTTP: either
 * the series, or the traces of slow requests; each has an exporter of its own.
 *
 * A thread of its own takes all series once an interval (from a moment in the first one that chance
 * chooses, so that a fleet's agents do not all come at once), puts the message, compressed, into an
 * outbox and sends what is there, oldest first. What the collector cannot take now is tried again,
 * after a second at first and up to a minute later (of which chance takes up to a half), or when
 * the collector asks for it; what it refuses for good is counted and forgotten. A request that had
 * no answer is sent again: counters are cumulative, and spans keep their ids, so that a message
 * which comes twice changes nothing. Traces are taken every few seconds, and wait in a folder in
 * the spool's, which may hold as much.
 */
#ifndef PT_AGENT_OTLP_H
#define PT_AGENT_OTLP_H

#include <stdatomic.h>
#include <stdint.h>

#include "agent/config.h"
#include "agent/outbox.h"
#include "base/err.h"
#include "sink/otlp_traces.h"
#include "sink/series.h"

struct agent_otlp;

enum agent_otlp_retry {
	AGENT_OTLP_UNREACHABLE,
	AGENT_OTLP_SLOW,
	AGENT_OTLP_BUSY, /* 429, 502, 503, 504 */
	AGENT_OTLP_RETRIES
};

struct agent_otlp_stats {  /* for any thread */
	_Atomic bool used; /* something was to be sent, once */
	/* items: points or spans, of messages that were taken */
	_Atomic uint64_t sent, sent_bytes, refused, refused_items, retries[AGENT_OTLP_RETRIES];
	struct agent_outbox_stats outbox;
};

struct agent_otlp_options {
	const struct agent_otlp_config *config; /* has an endpoint */
	struct agent_otlp_stats *stats;
	uint64_t start_ns, since_1970_ns; /* as in struct pt_otlp_source */
	uint64_t backoff_ns;              /* the first one; 0: a second */
	/* Gives all series to sink; called by the exporter's thread. */
	void (*collect)(const struct pt_series_sink *sink, void *ctx);
	/* Or NULL; else traces are sent, and no series: gives some, which the exporter frees. */
	size_t (*take)(struct pt_otlp_trace **traces, size_t max, void *ctx);
	void *ctx;
};

/* Borrows what options point at, until agent_otlp_stop(). */
int agent_otlp_start(const struct agent_otlp_options *options, struct agent_otlp **otlp,
		     struct pt_err *err);
/* last: the series are taken once more, and what waits is sent for a few seconds at most. Traces
 * are taken in any case. What is not sent stays in its folder. */
void agent_otlp_stop(struct agent_otlp *otlp, bool last);

/* ---- otlp_resource.c: what each message says of where it comes from ---- */

struct agent_resource {
	char host[256];
	char *text; /* of the attributes */
	struct pt_series_label attributes[32];
	size_t attribute_count;
};

/* The host's name, and what variable (as OTEL_RESOURCE_ATTRIBUTES: key=value,.. with % escapes;
 * NULL: nothing) adds: host.name takes the place of the host's name, what the messages say of
 * themselves is left out. -EBADMSG: it is wrong, nothing is taken of it; -ENOMEM. */
int agent_resource_init(struct agent_resource *resource, const char *variable);
void agent_resource_release(struct agent_resource *resource);

#endif
