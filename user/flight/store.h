/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * store.h - the folder of captures: their names, and which of them go when there are too many.
 *
 * A capture is a folder whose name begins with PT_STORE_PREFIX and a time, so that names sort by
 * age, or a file whose name ends in PT_STORE_TAR besides. Only such are ever removed, and of
 * folders only the files that a capture consists of; one with anything else in it stays.
 */
#ifndef PT_FLIGHT_STORE_H
#define PT_FLIGHT_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define PT_STORE_PREFIX "capture-"
#define PT_STORE_TAR    ".tar.gz"

extern const char *const pt_store_files[]; /* NULL-terminated */

/* "capture-20260102T030405.678Z-1234-slow"; real_ns: CLOCK_REALTIME. pid 0: left out. */
void pt_store_name(uint64_t real_ns, pid_t pid, const char *kind, char *name, size_t size);
/* Removes the oldest captures until at most keep_count of keep_bytes in all are left (0: no limit);
 * the newest always stays. Returns how many went. */
size_t pt_store_trim(const char *folder, uint64_t keep_count, uint64_t keep_bytes);
/* Is this how a capture is called? Then it is one name, without slashes, and not hidden. */
bool pt_store_is_name(const char *name);
/* Each capture in the folder that is a file, oldest first. 0, -errno, or what fn returned. */
int pt_store_each_file(const char *folder, int (*fn)(const char *name, uint64_t bytes, void *ctx),
		       void *ctx);
/* A capture that is a file: its descriptor, or -errno. -ENOENT also for what is no capture. */
int pt_store_open_file(const char *folder, const char *name, uint64_t *bytes);
/* Removes captures that were not finished when their recorder was killed. Nobody may write into the
 * folder meanwhile. */
void pt_store_clear_unfinished(const char *folder);
/* Removes a capture, whole or not. 0 or -errno. */
int pt_store_remove(const char *folder, const char *name);

#endif
