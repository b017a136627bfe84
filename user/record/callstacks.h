/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * callstacks.h - turns the stacks that BPF sends (--stacks) into frames.
 *
 * The thread that reads the ring buffer unwinds each one by the rules of the files that the process
 * maps, puts the Python frames into the places of the interpreter's C frames that evaluate them,
 * and hands on a record that says which stack it was; the frames go with the first one only. The
 * output's thread adds the names of their functions there, since reading symbols may take a while.
 *
 * A stack says how much code the process mapped then. If that is not what it was when it was looked
 * at, it is looked at again; if it has changed once more, only what it mapped at both times counts.
 * Files are kept open, so a process may end before its stacks are read.
 *
 * Life cycle: callstacks_new() -> the others -> callstacks_free() after the queue is freed.
 */
#ifndef PT_RECORD_CALLSTACKS_H
#define PT_RECORD_CALLSTACKS_H

#include "probe/attach.h"
#include "target/process.h"

struct callstacks;

struct callstacks_options {
	struct pt_file_cache *files; /* of pt_process_open_cached() */
	/* Puts a record into the queue. */
	int (*put)(const struct pt_rec *record, size_t len, void *ctx);
	void *ctx;
};

/* NULL: no memory. */
struct callstacks *callstacks_new(const struct callstacks_options *options);
void callstacks_free(struct callstacks *stacks);
/* What that image of the process maps now. -ENOMEM */
int callstacks_look(struct callstacks *stacks, pid_t pid, uint32_t image_id);
/* A record of BPF's (PT_RF_RAW). What put() returned, or -ENOMEM. */
int callstacks_take(struct callstacks *stacks, const struct pt_rec *record, size_t len);
/* The output's thread: hands the completed record to next, and returns what that does; or -ENOMEM.
 */
int callstacks_complete(struct callstacks *stacks, const struct pt_rec_call_stack *record,
			int (*next)(const struct pt_rec *record, size_t len, void *ctx), void *ctx);
/* Stacks without their native frames, because what the process mapped then was not known. */
uint64_t callstacks_unmapped(const struct callstacks *stacks);

#endif
