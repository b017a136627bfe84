/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/* glob.h - lists of shell patterns. */
#ifndef PT_BASE_GLOB_H
#define PT_BASE_GLOB_H

#include <stdbool.h>

/* Does one of the patterns (NULL-terminated; NULL: none) match "name" or, if owner is not empty,
 * "owner.name"? Pure. */
bool pt_glob_qualified(const char *const *globs, const char *owner, const char *name);

#endif
