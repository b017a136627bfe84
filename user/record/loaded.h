/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * loaded.h - handles of kernels that processes have loaded by the driver's API while recorded:
 * whose they are, and their names. What is unloaded is forgotten, as its handle may be given again.
 *
 * Zero-initialise -> use -> loaded_release(). Not thread-safe.
 */
#ifndef PT_RECORD_LOADED_H
#define PT_RECORD_LOADED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/map.h"

struct loaded_kernel {
	struct loaded_kernel *next;
	uint64_t image, handle;
	uint64_t owner; /* module or library; 0: goes with the process's context only */
	bool gone;
	char *name; /* NULL: it is that of a stub in a file, which the caller knows */
};

struct loaded {
	struct pt_map by_handle;
	struct loaded_kernel *all;
	size_t count;
};

/* NULL: not loaded, or no longer. image stands for one image of one process. */
const struct loaded_kernel *loaded_find(const struct loaded *loaded, uint64_t image,
					uint64_t handle);
/* Replaces what the handle stood for. name is copied. -ENOMEM; -E2BIG: there are too many. */
int loaded_put(struct loaded *loaded, uint64_t image, uint64_t handle, uint64_t owner,
	       const char *name);
/* Forgets the owner's kernels of that image (of_all: all), and calls fn for each; stops when it
 * returns non-zero, and returns that. */
int loaded_forget(struct loaded *loaded, uint64_t image, uint64_t owner, bool of_all,
		  int (*fn)(const struct loaded_kernel *kernel, void *ctx), void *ctx);
void loaded_release(struct loaded *loaded);

#endif
