// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
#include "base/glob.h"

#include <fnmatch.h>
#include <stdio.h>

#define TEXT_MAX 512

bool pt_glob_qualified(const char *const *globs, const char *owner, const char *name)
{
	char text[TEXT_MAX];

	snprintf(text, sizeof(text), "%s.%s", owner, name);
	for (; globs && *globs; globs++)
		if (!fnmatch(*globs, name, 0) || (owner[0] && !fnmatch(*globs, text, 0)))
			return true;
	return false;
}
