/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * method_cache.h - remembers what py_method_sites_find() has found in a file for a list of globs,
 * in a directory of the user's, as cache.h does for interpreters.
 */
#ifndef PT_PYTHON_METHOD_CACHE_H
#define PT_PYTHON_METHOD_CACHE_H

#include "python/method_sites.h"
#include "target/cachefile.h"

void py_method_cache_key(struct pt_cache_key *key, const struct elf_file *elf,
			 const char *const *globs, unsigned int emulated);
/* functions: how many the file has, asked for or not. -ENOENT: nothing usable; -ENOMEM. */
int py_method_cache_read(const char *dir, const struct pt_cache_key *key,
			 const struct elf_file *elf, struct py_method_sites *sites,
			 size_t *functions);
/* What cannot be written is found again the next time. */
void py_method_cache_write(const char *dir, const struct pt_cache_key *key,
			   const struct py_method_sites *sites, size_t functions);

#endif
