/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * stacks.h - the frames that are open when a process is attached, as records.
 */
#ifndef PT_RECORD_STACKS_H
#define PT_RECORD_STACKS_H

#include <linux/types.h>
#include <stdint.h>
#include <sys/types.h>

#include "probe/attach.h"
#include "python/image.h"

/* Reads the process's stacks and gives fn a PT_REC_CODE for each code object and a PT_REC_STACK for
 * each thread. *next_code_id counts up from PT_CODE_ID_USER through the recording. The tracer is
 * told the threads' states. Returns what fn returned if non-zero; -errno of the reading otherwise
 * (nothing given then). */
int pt_stacks_records(pid_t pid, uint32_t image_id, const struct py_image *image, uint64_t bias,
		      uint64_t time_ns, uint32_t *next_code_id, struct pt_tracer *tracer,
		      pt_record_fn fn, void *ctx);

#endif
