/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * loadable.h - libraries that a process would find if it loaded them, by name: so that they can be
 * probed before it does.
 *
 * Looked at are LD_LIBRARY_PATH, the loader's cache (/etc/ld.so.cache), and for Python the folders
 * lib, torch/lib and nvidia/X/lib of the environments that the process was started from or has
 * loaded from. What is loaded from elsewhere is not found. The process says where they lie, so they
 * are opened below its own root and with its own rights (source.h).
 */
#ifndef PT_TARGET_LOADABLE_H
#define PT_TARGET_LOADABLE_H

#include <stddef.h>
#include <stdint.h>

#include "target/process.h"

struct pt_loadable {
	char *path;          /* as the process would open it */
	int fd;              /* the file */
	uint64_t dev, inode; /* as /proc/PID/maps would show them */
};

struct pt_loadables {
	struct pt_loadable *items;
	size_t count;
};

/* globs: of file names, ends with NULL. Each file once. Zero-initialise found, and release it in
 * any case: -ENOMEM, or what opening the process's root gave. */
int pt_loadables_find(const struct pt_process *process, const char *const *globs,
		      struct pt_loadables *found);
void pt_loadables_release(struct pt_loadables *found);

/* Calls fn with what /etc/ld.so.cache has: a library's name and where it lies. data may be damaged.
 */
void pt_loader_cache_each(const char *data, size_t size,
			  void (*fn)(const char *name, const char *path, void *ctx), void *ctx);

#endif
