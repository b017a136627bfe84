/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * metrics.h - adds trace ops up to counters; no trace is kept.
 *
 * What is counted is exact, and nothing is counted twice or dropped: the sum over all series of a
 * name is what all processes did. A process that runs has series of its own while there is room
 * (options.processes); what further ones do is added to those with pid="other", and what one did
 * that has ended, options.keep_ns later, to those with pid="ended". A call is counted when it ends,
 * if it was seen to begin. Memory: bounded by the options: up to FUNCTIONS_PER_PROCESS functions a
 * process, FUNCTIONS_MAX names in all (user/sink/metrics.c); what is beyond adds to its process
 * alone. Thread-safe: one thread gives ops while another walks.
 */
#ifndef PT_SINK_METRICS_H
#define PT_SINK_METRICS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "model/op.h"
#include "sink/series.h"

struct pt_metrics;

struct pt_metrics_options {
	unsigned int processes; /* with series of their own, those that ended lately included */
	unsigned int functions; /* of each of these, the ones with most self time */
	uint64_t keep_ns;       /* series of a process that has ended */
	/* What is recorded. Of what never was there are no series: 0 would say that nothing
	 * happened. */
	bool calls, samples;
	bool events; /* collections and the like, which calls have beside them anyway */
};

int pt_metrics_new(const struct pt_metrics_options *options, struct pt_metrics **metrics);
/* New ones hold from now on; processes that have series keep them. */
void pt_metrics_set_options(struct pt_metrics *metrics, const struct pt_metrics_options *options);
/* A model begins whose functions have numbers of their own; what is not announced again has ended.
 * now_ns: CLOCK_MONOTONIC. since_ns: the recording behind it was prepared since then, beside the
 * one before, so a process that has ended after that may be announced all the same; UINT64_MAX:
 * not. */
void pt_metrics_begin(struct pt_metrics *metrics, uint64_t now_ns, uint64_t since_ns);
/* Suits pt_op_fn with the metrics as ctx. */
int pt_metrics_op(const struct pt_op *op, void *metrics);
/* Gives all series to sink, which must not call back. */
void pt_metrics_walk(struct pt_metrics *metrics, uint64_t now_ns,
		     const struct pt_series_sink *sink);
/* Threads, processes and functions that the model at work has announced. */
uint64_t pt_metrics_model_size(struct pt_metrics *metrics);
void pt_metrics_free(struct pt_metrics *metrics);

#endif
