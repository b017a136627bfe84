// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
#include "record/tally.h"

#include <stdlib.h>

/* The batch that was last seen, by a peek, and so comes again. */
struct tally_thread {
	uint32_t image_id, seq;
	uint32_t peeked; /* events of it that are counted already */
};

void pt_tally_batch(struct pt_tally *tally, const struct pt_rec_batch *batch)
{
	uint64_t key = (uint64_t)batch->hdr.tgid << 32 | batch->hdr.tid;
	struct tally_thread *thread = pt_map_get(&tally->threads, key, 0);

	if (!thread) {
		thread = pt_map_make(&tally->threads, key, 0, sizeof(*thread));
		if (!thread)
			return;
	}
	if (thread->image_id != batch->hdr.image_id || thread->seq != batch->seq)
		thread->peeked = 0;
	thread->image_id = batch->hdr.image_id;
	thread->seq = batch->seq;
	if (batch->events > thread->peeked) {
		tally->events += batch->events - thread->peeked;
		thread->peeked = batch->events;
	}
}

size_t pt_tally_threads(const struct pt_tally *tally)
{
	return tally->threads.count;
}

void pt_tally_release(struct pt_tally *tally)
{
	for (size_t i = 0; tally->threads.entries && i <= tally->threads.mask; i++)
		free(tally->threads.entries[i].value);
	pt_map_release(&tally->threads);
}
