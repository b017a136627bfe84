/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * tidset.h - counts distinct threads. Zero-initialise; pt_tidset_release() at the end.
 */
#ifndef PT_RECORD_TIDSET_H
#define PT_RECORD_TIDSET_H

#include <stddef.h>
#include <stdint.h>

struct pt_tidset {
	uint64_t *slots; /* open addressing; 0 is free */
	size_t slot_count, used;
	uint64_t last;
};

/* Out of memory leaves the thread uncounted: the count is for a summary only. */
void pt_tidset_add(struct pt_tidset *set, uint32_t tgid, uint32_t tid);
void pt_tidset_release(struct pt_tidset *set);

#endif
