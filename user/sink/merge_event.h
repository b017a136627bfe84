/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * merge_event.h - one event of a trace becomes one of a trace made of several.
 *
 * Processes and threads keep their numbers unless an earlier file has used the same, for either;
 * then they get numbers that Linux gives to no process. Calls, flows, correlations and stacks count
 * on from those of the files before. Times are shifted to the common base.
 * Memory: a few words for each process and thread, nothing for each event.
 */
#ifndef PT_SINK_MERGE_EVENT_H
#define PT_SINK_MERGE_EVENT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/map.h"

enum pt_merge_id {
	PT_MERGE_CALL,        /* Python id, Python parent id */
	PT_MERGE_FLOW,        /* id of s, t and f */
	PT_MERGE_CORRELATION, /* of calls of CUDA functions */
	PT_MERGE_STACK,       /* sf; a frame in stackFrames */
	PT_MERGE_ID_COUNT
};

/* Zero-initialise; pt_merge_ids_release(). */
struct pt_merge_ids {
	struct pt_map numbers; /* (file, number) -> the number there is now, plus one */
	struct pt_map used;    /* (number, 0) */
	uint64_t next_number, next_track;
	uint64_t most[PT_MERGE_ID_COUNT]; /* given out so far */
};

struct pt_merge_file {
	uint64_t index;                   /* 0, 1, .. */
	const char *host;                 /* JSON text without quotes; "" is not shown */
	int64_t shift_ns;                 /* of the times */
	uint64_t base[PT_MERGE_ID_COUNT]; /* set by pt_merge_begin() */
};

/* What comes from now on is of this file. */
void pt_merge_begin(const struct pt_merge_ids *ids, struct pt_merge_file *file);
/* Adds the event at text (an object, as one line of a trace has it) to out. *end is behind it.
 * -EBADMSG: it is no event of this tool's; -EOVERFLOW: a number grows too large; -ENOMEM. */
int pt_merge_event(struct pt_merge_ids *ids, const struct pt_merge_file *file, const char *text,
		   const char **end, struct pt_buf *out);
/* The same of an entry of stackFrames: "1":{..} */
int pt_merge_frame(struct pt_merge_ids *ids, const struct pt_merge_file *file, const char *text,
		   const char **end, struct pt_buf *out);
void pt_merge_ids_release(struct pt_merge_ids *ids);

#endif
