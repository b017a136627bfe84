/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * tally.h - counts the events and threads of a stream of records, for the summary of a raw capture.
 *
 * Zero-initialise; pt_tally_release() at the end.
 */
#ifndef PT_RECORD_TALLY_H
#define PT_RECORD_TALLY_H

#include <linux/types.h>

#include "base/map.h"
#include "pt_abi.h"

struct pt_tally {
	struct pt_map threads; /* tgid << 32 | tid: struct tally_thread */
	uint64_t events;
};

/* Out of memory leaves a thread uncounted: the counts are for a summary only. */
void pt_tally_batch(struct pt_tally *tally, const struct pt_rec_batch *batch);
/* Distinct threads. */
size_t pt_tally_threads(const struct pt_tally *tally);
void pt_tally_release(struct pt_tally *tally);

#endif
