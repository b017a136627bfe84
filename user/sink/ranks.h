/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * ranks.h - a trace's "distributedInfo": which rank of a distributed job its processes are.
 *
 * Holistic Trace Analysis takes the first line of a file that has "rank": for that of the whole
 * file. So this stands before the events, where the rank is known before the first one; what is
 * known only later stands behind them. Nothing else in the document looks like that line: events
 * have no space behind a colon.
 */
#ifndef PT_SINK_RANKS_H
#define PT_SINK_RANKS_H

#include "base/buf.h"
#include "model/op.h"

struct pt_ranks {
	struct pt_ranks_entry *entries; /* in the order in which they came */
	uint32_t count, room;
	bool in_head, warned;
};

/* -ENOMEM. A process may come again. */
int pt_ranks_add(struct pt_ranks *ranks, const struct pt_op_process *process);
/* What the document says, of the ranks that came so far; once before the events, once behind. */
void pt_ranks_head(struct pt_ranks *ranks, struct pt_buf *head);
void pt_ranks_tail(struct pt_ranks *ranks, struct pt_buf *tail);
void pt_ranks_release(struct pt_ranks *ranks);

#endif
