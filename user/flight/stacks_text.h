/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * stacks_text.h - the calls that are open at the end of a trace, by thread, as text.
 *
 * Zero-initialise, feed it ops, print, pt_stacks_text_release(). Functions are borrowed from the
 * model.
 */
#ifndef PT_FLIGHT_STACKS_TEXT_H
#define PT_FLIGHT_STACKS_TEXT_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "model/op.h"

struct pt_open_call {
	pid_t pid, tid;
	const struct pt_function *function; /* NULL: it is no call, and has a name of its own */
	char *name;
	uint64_t begin_ns, end_ns;
	uint32_t flags, call_line;
};

struct pt_track_name {
	pid_t pid, tid; /* tid 0: the process's */
	char name[64];
};

struct pt_stacks_text {
	struct pt_open_call *calls; /* of each thread innermost first */
	size_t call_count, call_size;
	struct pt_track_name *names;
	size_t name_count, name_size;
};

int pt_stacks_text_op(struct pt_stacks_text *stacks, const struct pt_op *op);
/* end_ns: of the trace. Sorts the calls. */
int pt_stacks_text_print(struct pt_stacks_text *stacks, uint64_t end_ns, FILE *out);
void pt_stacks_text_release(struct pt_stacks_text *stacks);

#endif
