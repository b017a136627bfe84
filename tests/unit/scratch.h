/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * scratch.h - files for a test, in a folder of its own that goes when the test program ends well.
 */
#ifndef SCRATCH_H
#define SCRATCH_H

#include <stddef.h>

/* The path of a file there; up to eight at a time are valid. */
const char *scratch_path(const char *name);
/* The file's bytes with a NUL behind them, inflated if it is gzip; the caller frees them. */
char *scratch_read(const char *path, size_t *len);
void scratch_write(const char *path, const void *data, size_t len);
/* cmocka's group fixtures. */
int scratch_setup(void **state);
int scratch_teardown(void **state);

#endif
