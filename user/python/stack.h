/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * stack.h - reads the Python stacks of a running process from outside (process_vm_readv), without
 * stopping it.
 *
 * Only good for threads that do not run Python meanwhile: a running thread's result may be torn,
 * so the caller (record/) uses it for threads that produce no event, or after comparing depths.
 * The process's memory is hostile input: every read may fail, every chain is bounded.
 */
#ifndef PT_PYTHON_STACK_H
#define PT_PYTHON_STACK_H

#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "python/image.h"

struct py_code_text {                     /* strings are UTF-8, owned by whoever holds the struct */
	char *name, *qualname, *filename; /* qualname may be NULL, is so up to 3.10 */
	uint32_t firstlineno, co_flags;
};

struct py_frame {
	uint64_t frame_addr, code_addr;
	uint32_t depth;
	struct py_code_text code;
};

struct py_thread_stack {
	pid_t tid; /* in the host's pid namespace */
	uint64_t tstate;
	uint32_t depth; /* as in PT_REC_BATCH: limit - remaining (3.12+), else number of frames */
	size_t frame_count;
	struct py_frame
	    *frames; /* innermost first; hidden frames left out, their depth is skipped */
};

struct py_stacks {
	size_t thread_count;
	struct py_thread_stack *threads;
};

/* bias: where the image's vaddr 0 lies in the process. */
int py_stacks_read(pid_t pid, const struct py_image *image, uint64_t bias, struct py_stacks *stacks,
		   struct pt_err *err);
void py_stacks_release(struct py_stacks *stacks);

/* The version as the process itself says it (Py_Version, or the string behind Py_GetVersion). */
int py_process_version(pid_t pid, const struct py_image *image, uint64_t bias, uint32_t *version);

#endif
