/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * dump.h - writes one capture: a folder with trace.json.gz, report.txt, report.html, stacks.txt and
 * meta.json, or one .tar.gz of it.
 *
 * Runs in a child of the recorder, which has the model and the ring of that instant. The capture
 * appears under its name only when it is whole. Files 0600, folder 0700.
 */
#ifndef PT_FLIGHT_DUMP_H
#define PT_FLIGHT_DUMP_H

#include "flight/flight.h"
#include "flight/ring.h"

/* Each trigger once, and somebody who asks. */
#define PT_CAUSES_MAX (PT_TRIGGERS_MAX + 1)

/* A trigger that fired, and with what. */
struct pt_dump_cause {
	struct pt_trigger *trigger;
	struct pt_fired fired;
};

/* The model's ops go here; they do nothing until the dump has begun. */
struct pt_dump {
	const struct pt_flight_options *options;
	const struct pt_sink_options *sink_options;
	const struct pt_capture_info *info;
	uid_t owner_uid; /* -1: nobody */
	gid_t owner_gid;
	struct pt_model *model; /* of what is before the ring */
	struct pt_ring *ring;

	/* of this one */
	struct pt_dump_cause causes[PT_CAUSES_MAX]; /* the first one made it */
	size_t cause_count;
	const char *container;     /* of the first one's process, or "" */
	char name[128];            /* of the folder */
	uint64_t begin_ns, end_ns; /* what it holds */
	bool cut;                  /* it begins later than was asked for */
	uint64_t passed_over;      /* triggers that fired since the last one, without a capture */
	uint64_t recorded_ns;      /* since the recorder began */
	uint64_t recorder_cpu_ns;  /* in that time */

	struct pt_dump_writing *writing; /* NULL: not begun */
};

/* Suits pt_op_fn with the struct pt_dump as ctx. */
int pt_dump_op(const struct pt_op *op, void *dump);
/* begin_ns: what lies before is left out. 0 or -errno with err set; then nothing is left behind. */
int pt_dump_write(struct pt_dump *dump, struct pt_err *err);

#endif
