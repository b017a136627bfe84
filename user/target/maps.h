/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * maps.h - reads files under /proc whole, and takes lines of /proc/PID/maps apart.
 *
 * What stands there is partly chosen by the traced process (paths, names), so nothing is assumed
 * but what the kernel itself writes. Stateless.
 */
#ifndef PT_TARGET_MAPS_H
#define PT_TARGET_MAPS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct pt_map {
	uint64_t start, end, offset;
	uint64_t dev, inode; /* dev as makedev() gives it; inode 0: no file */
	bool readable, writable, executable;
	bool deleted;     /* the kernel says so: " (deleted)" was cut off the path */
	const char *path; /* points into the line; "" if there is none */
};

/* Takes one line without its newline apart, in place (the path is unescaped). -EBADMSG: not a line
 * of maps. */
int pt_map_parse(char *line, struct pt_map *map);

/* Reads a whole file of /proc, at most max_bytes, NUL-terminated (it may hold NULs as well; size
 * tells). The caller frees *text. -errno as open(2), read(2); -EFBIG longer than max_bytes. */
int pt_proc_read(const char *path, size_t max_bytes, char **text, size_t *size);

/* The number behind "key:" in a /proc/PID/status text; field 0 is the first, -1 the last of the
 * line. -ENOENT: no such key, -EBADMSG: no number there. */
int pt_status_number(const char *status, const char *key, int field, long *value);

#endif
