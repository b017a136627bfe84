/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * cache.h - remembers what was found in an interpreter file, in a directory of the user's.
 *
 * One file per interpreter, named by its build id (or, without one, by what identifies the file),
 * the set of emulated instructions and the revision of the finders. Written to a temporary name and
 * renamed, so that nobody sees half of one. It is a cache: whatever is wrong with it (another
 * version, a bad checksum, bytes that differ from the interpreter's) makes it be ignored and
 * written anew. Failing to write is reported to the caller, who may say so at a low log level.
 */
#ifndef PT_PYTHON_CACHE_H
#define PT_PYTHON_CACHE_H

#include "python/parts.h"
#include "target/cachefile.h"

/* Raise this when a finder's result for the same file may change. */
#define PY_FINDER_REVISION 50

void py_cache_key(struct pt_cache_key *key, const struct elf_file *elf, unsigned int emulated);
/* Fills image (version .. eval, engines) and *pool, which owns the sites' method texts and must
 * outlive them. -ENOENT: nothing usable. */
int py_cache_read(const char *dir, const struct pt_cache_key *key, const struct elf_file *elf,
		  struct py_image *image, char **pool);
int py_cache_write(const char *dir, const struct pt_cache_key *key, const struct py_image *image);

#endif
