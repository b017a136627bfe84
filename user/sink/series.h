/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * series.h - what is measured now, as a walk that knows nothing of who writes it down.
 *
 * Who measures calls name() once for each name and sample() for each of its series, right after it.
 * Whatever is handed over is borrowed for the call, the name up to its last sample.
 */
#ifndef PT_SINK_SERIES_H
#define PT_SINK_SERIES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/buf.h"

enum pt_series_kind { PT_SERIES_COUNTER, PT_SERIES_GAUGE };

enum pt_series_unit {
	PT_SERIES_PLAIN,
	PT_SERIES_BYTES,
	PT_SERIES_NS,    /* told in seconds */
	PT_SERIES_RATIO, /* in billionths, told as a fraction */
};

struct pt_series_name {
	const char *name, *help;
	enum pt_series_kind kind;
	enum pt_series_unit unit;
};

struct pt_series_label {
	const char *key, *value; /* valid UTF-8 */
};

#define PT_SERIES_LABELS 3

struct pt_series_sample {
	const char *process; /* NULL: of the agent itself */
	pid_t pid;           /* 0: of several processes, the label has process' text */
	uint64_t since_ns;   /* of a counter: when it was 0, CLOCK_MONOTONIC; 0: at the start */
	struct pt_series_label labels[PT_SERIES_LABELS]; /* as far as they have a key */
	uint64_t value;
};

struct pt_series_sink {
	void (*name)(const struct pt_series_name *name, void *ctx);
	void (*sample)(const struct pt_series_name *name, const struct pt_series_sample *sample,
		       void *ctx);
	void *ctx;
};

/* Is what is told the value over a billion? */
static inline bool pt_series_divided(enum pt_series_unit unit)
{
	return unit == PT_SERIES_NS || unit == PT_SERIES_RATIO;
}

/* Writes Prometheus' text format into text. */
struct pt_series_sink pt_series_text(struct pt_buf *text);

#endif
