/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * filecache.h - which files hold a CPython, remembered by device, inode and change time.
 *
 * The change time is part of the key because an inode number is given out again after a file was
 * removed. A small hash table that only grows; see pt_file_cache_new() in process.h.
 */
#ifndef PT_TARGET_FILECACHE_H
#define PT_TARGET_FILECACHE_H

#include <stdbool.h>
#include <sys/stat.h>

struct pt_file_cache;

/* -ENOENT: not known yet. */
int pt_file_cache_get(const struct pt_file_cache *cache, const struct stat *file, bool *holds);
/* Out of memory is no failure: the file is then looked at again next time. */
void pt_file_cache_put(struct pt_file_cache *cache, const struct stat *file, bool holds);

#endif
