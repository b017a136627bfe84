/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * trace_calls.h - the long calls of a track, until it is known which of them are of a slow request.
 *
 * They come when they end, inner ones first. Zero-initialise, agent_calls_clear() at the end.
 */
#ifndef PT_AGENT_TRACE_CALLS_H
#define PT_AGENT_TRACE_CALLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "model/op.h"

/* Of a track. With more the shortest half goes. */
#define AGENT_CALLS_MAX 4096

struct agent_call {
	uint64_t begin_ns, end_ns;          /* CLOCK_MONOTONIC */
	uint64_t id, parent_id;             /* as of pt_op_slice; 0: it is no call */
	const struct pt_function *function; /* the model's; NULL: no call, but: */
	char *category, *name;              /* from malloc */
};

struct agent_calls {
	struct agent_call *items;
	size_t count, size;
};

/* One that is told. */
struct agent_chosen {
	const struct agent_call *call;
	size_t parent; /* 1 + an earlier one's place; 0: the request */
	uint64_t own_ns;
};

/* Takes its texts. -ENOMEM: they are gone, and it is not there. */
int agent_calls_add(struct agent_calls *calls, const struct agent_call *call);
/* Forgets those that ended before ns. */
void agent_calls_drop(struct agent_calls *calls, uint64_t ns);
/* Gives those that lie within begin_ns to end_ns to another. */
void agent_calls_move(struct agent_calls *from, struct agent_calls *to, uint64_t begin_ns,
		      uint64_t end_ns);
/* Of those within begin_ns to end_ns, but the call except (its id), the at most max that say where
 * the time went: what is left of each without the longest one inside of it is least_ns or more, and
 * these are the greatest ones. always: this one too; NULL: none. From malloc, outer ones and
 * earlier ones first; NULL: none, or out of memory. */
struct agent_chosen *agent_calls_choose(const struct agent_calls *calls, uint64_t begin_ns,
					uint64_t end_ns, uint64_t except, uint64_t least_ns,
					size_t max, const struct agent_call *always, size_t *count);
void agent_calls_clear(struct agent_calls *calls);

#endif
