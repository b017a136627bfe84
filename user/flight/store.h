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
/* Removes a capture, whole or not. 0 or -errno. */
int pt_store_remove(const char *folder, const char *name);

#endif
