/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * source.h - reads files as one traced process sees them, and no more than it may read.
 *
 * The process is not trusted: it says which files its code comes from. So a path is resolved below
 * the process's own root (symbolic links too), with its user, groups and no more rights than those
 * give; only regular files of a bounded size are read. The root is held open, so files can still be
 * read after the process has ended.
 *
 * Life cycle: pt_source_root_open() while the process lives -> pt_source_read() -> _free(). A read
 * changes the calling thread's file-system credentials and puts them back.
 */
#ifndef PT_TARGET_SOURCE_H
#define PT_TARGET_SOURCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/buf.h"

struct pt_source_root;

/* -ESRCH, -EACCES, -ENOMEM. */
int pt_source_root_open(pid_t pid, struct pt_source_root **root);
/* Whether both give the same files to the same user: one of them may serve for both processes. */
bool pt_source_root_same(const struct pt_source_root *a, const struct pt_source_root *b);
void pt_source_root_free(struct pt_source_root *root);

/* Appends the file as valid UTF-8 (without a byte order mark); nothing is appended on failure:
 * -EINVAL path is not absolute, -EFBIG larger than max_bytes, -ENOTSUP no regular file, -EPERM the
 * process's credentials cannot be taken on, or what opening it gave. */
int pt_source_read(const struct pt_source_root *root, const char *path, size_t max_bytes,
		   struct pt_buf *text);
/* The same into an empty buffer, byte for byte; after a failure it may hold a part. */
int pt_source_read_bytes(const struct pt_source_root *root, const char *path, size_t max_bytes,
			 struct pt_buf *raw);

/* A descriptor for reading a regular file of any size, or for listing a folder; likewise. */
int pt_source_open(const struct pt_source_root *root, const char *path);
int pt_source_open_folder(const struct pt_source_root *root, const char *path);

#endif
