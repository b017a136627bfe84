/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * cuda.h - probes for CUDA functions in a session (--cuda).
 *
 * Each file that a traced process maps executable is looked at once for CUDA functions, for those
 * inside of a stripped file in a thread of its own (cuda_inside.h). What it may load by the usual
 * names has its probes before it does (target/loadable.h). What else it maps later is noticed a
 * little later (mapped.h); calls that were made until then are missing, and the trace says so. Once
 * a library is attached to, the kernels that its calls launch get their names (kernels.h).
 * cuda_new() -> cuda_attach() for each process, cuda_announce..() when the gate opens ->
 * cuda_record(), cuda_output() -> cuda_free().
 */
#ifndef PT_RECORD_CUDA_H
#define PT_RECORD_CUDA_H

#include <linux/types.h>

#include "base/err.h"
#include "pt_abi.h"
#include "target/process.h"

enum pt_cuda_mode {
	PT_CUDA_AUTO, /* runtime, and driver calls that no runtime function makes */
	PT_CUDA_ONLY_RUNTIME,
	PT_CUDA_ONLY_DRIVER,
	PT_CUDA_ALL, /* what CUDA functions call among themselves, too */
	PT_CUDA_NONE,
};

struct session;
struct cuda_session;

int cuda_new(struct session *session, struct pt_err *err);
void cuda_free(struct cuda_session *cuda);
/* Attaches to what the process maps now; a library that cannot be attached to costs a warning. */
int cuda_attach(struct session *session, const struct pt_process *process);
/* The gate has just opened: tells the trace of what is attached. */
int cuda_announce(struct session *session);
/* The processes have been announced: tells which of them had such libraries before. */
int cuda_announce_mapped(struct session *session);
/* A record is about to be put into the queue: kernels that a batch launches are told of first. One
 * that is taken is not to be put there. */
int cuda_record(struct session *session, const struct pt_rec *record, size_t len, bool *taken);
/* At the queue's end: a record goes to the output. Not for the recording's thread. */
int cuda_output(struct session *session, const struct pt_rec *record, size_t len);
/* Is there something new to attach to in files that were looked at? Once. */
bool cuda_news(const struct session *session);
/* The process has ended: its number may be used again. */
void cuda_forget(struct session *session, pid_t pid);
/* The recording is over: says if there was nothing to record though it was asked for. */
void cuda_tell(const struct session *session);

#endif
