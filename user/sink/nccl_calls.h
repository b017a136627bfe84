/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * nccl_calls.h - what calls of NCCL say about the order of things on several hosts.
 *
 * Two things make hosts wait for each other. A communicator: the call that makes it returns on no
 * rank before it has begun on all. And a collective that sends from all to all: its work ends on no
 * rank before the call has begun on all; when the work had ended at the latest is known from the
 * bounds of the GPU's work (model/gpu_bounds.c), not from the call, which returns at once. Calls of
 * one communicator are told by the hash of its unique id, and collectives by their order in it.
 *
 * pt_nccl_new() -> of each file pt_nccl_file_begin(), pt_nccl_event() of each of its events,
 * pt_nccl_file_end() -> pt_nccl_compare() -> pt_nccl_free(). Files are hostile input.
 * Memory: some 100 bytes a call of NCCL of the file that is read, 24 of those before.
 */
#ifndef PT_SINK_NCCL_CALLS_H
#define PT_SINK_NCCL_CALLS_H

#include <stdbool.h>
#include <stdint.h>

#include "sink/clock_bounds.h"

struct pt_nccl;

struct pt_nccl_result {
	uint64_t communicators; /* of ranks on several hosts, which were compared */
	uint64_t collectives;   /* of these, whose end is known on some host */
	uint64_t ambiguous;     /* communicators: one rank of it is there twice */
	uint64_t different;     /* communicators: ranks made different calls */
};

struct pt_nccl *pt_nccl_new(void); /* NULL: no memory */
void pt_nccl_free(struct pt_nccl *nccl);

/* base_ns: of CLOCK_REALTIME, to be added to the times of the events. */
void pt_nccl_file_begin(struct pt_nccl *nccl, uint32_t host, uint64_t base_ns);
/* text: an object, as one line of a trace has it. -EBADMSG, -ENOMEM. */
int pt_nccl_event(struct pt_nccl *nccl, const char *text);
/* whole: no call is missing in the file; else nothing of it counts. -ENOMEM. */
int pt_nccl_file_end(struct pt_nccl *nccl, bool whole);

/* Of the file that ended last. */
struct pt_nccl_file {
	uint64_t first_ns; /* of its events, from its base; UINT64_MAX: it has none */
	bool any;          /* it has calls of NCCL */
	bool told;         /* and by one of them it can be compared */
	bool full;         /* there are too many, so its collectives do not count */
};

const struct pt_nccl_file *pt_nccl_file(const struct pt_nccl *nccl);

/* What all files say together becomes facts of bounds. -ENOMEM. */
int pt_nccl_compare(struct pt_nccl *nccl, uint32_t hosts, struct pt_clock_bounds *bounds,
		    struct pt_nccl_result *result);

#endif
