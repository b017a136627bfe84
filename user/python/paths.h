/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * paths.h - which instructions of a region can be reached from which, along direct jumps.
 *
 * Used to prove that a set of probe sites is complete: that no way through a function avoids them
 * and none passes two. The caller gives instructions roles (bits of its own); a walk tells which
 * roles it met. Indirect jumps are not followed: a walk that meets one, or that comes backwards to
 * where one may lead, says so, and the proof then fails.
 *
 * Life cycle: paths_load() -> set roles -> walks -> paths_release(). Borrows the region, whose
 * tables must have been found.
 */
#ifndef PT_PYTHON_PATHS_H
#define PT_PYTHON_PATHS_H

#include "python/region.h"

#define PATHS_RETURN  0x01 /* leaves the function: ret, or a jump out of the region; set here */
#define PATHS_UNKNOWN 0x02 /* met an indirect jump (forwards), or its possible target */
#define PATHS_NEVER   0x04 /* a jcc that is never taken */
/* 0x10 .. 0x80 are the caller's */

struct paths {
	const struct region *region;
	size_t entry;
	uint8_t *roles;    /* one for each instruction */
	size_t *pred_from; /* preds[pred_from[i] .. pred_from[i + 1] - 1] lead to i */
	size_t *preds;
	uint8_t *seen;
	size_t *todo;
	size_t todo_count;
};

/* -ENOMEM. After a failure the paths must still be released. */
int paths_load(struct paths *paths, const struct region *region, uint64_t entry);
void paths_release(struct paths *paths);

/* Walks from the instructions that have a role in from (or, if it is 0, from the entry alone), not
 * past those that have one in stop. Returns the roles of all that were met; the first steps are the
 * starting instructions' neighbours, or the entry itself. */
uint8_t paths_forward(struct paths *paths, uint8_t from, uint8_t stop);
uint8_t paths_backward(struct paths *paths, uint8_t from, uint8_t stop);

#endif
