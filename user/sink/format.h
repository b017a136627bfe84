/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * format.h - what a format gives to sink.c: how trace ops become bytes.
 *
 * Life cycle: open (writes the head) -> op, many times -> extra -> tail -> free. All bytes go to
 * the destination, an event never in two pieces.
 */
#ifndef PT_SINK_FORMAT_H
#define PT_SINK_FORMAT_H

#include "base/buf.h"
#include "sink/destination.h"
#include "sink/sink.h"

struct pt_format {
	const char *suffix;
	bool gzip;
	bool samples; /* it holds nothing but samples */
	int (*open)(struct pt_destination *destination, const struct pt_capture_info *info,
		    const struct pt_sink_options *options, void **state);
	int (*op)(void *state, const struct pt_op *op);
	/* What may be left out where there is no room for it, between the events and the tail. */
	void (*extra)(void *state, struct pt_buf *extra);
	/* What ends the document; path is its name. extra: that stands before it. */
	void (*tail)(void *state, const char *path, const struct pt_totals *totals, bool extra,
		     struct pt_buf *tail);
	/* From now on ops and the tail go to this destination, which has a copy of what was
	 * written; NULL: to its own again, as if there had been nothing in between. */
	void (*redirect)(void *state, struct pt_destination *copy);
	void (*free)(void *state);
};

extern const struct pt_format pt_format_chrome, pt_format_chrome_gzip, pt_format_folded,
    pt_format_speedscope, pt_format_pprof, pt_format_pprof_gzip;

#endif
