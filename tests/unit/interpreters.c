// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
#include "interpreters.h"

#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct interpreter interpreters[INTERPRETERS_MAX];
static size_t count;

/* root_end: where in the path the part inside of a root begins, which is changed into first. */
static void add(const char *pattern, const char *root_end)
{
	glob_t found;

	if (glob(pattern, 0, NULL, &found))
		return;
	for (size_t i = 0; i < found.gl_pathc && count < INTERPRETERS_MAX; i++) {
		char *path = found.gl_pathv[i], *cut = root_end ? strstr(path, root_end) : NULL;
		struct interpreter *out = &interpreters[count];
		int root_len = cut ? (int)(cut - path) : 0;

		if (strstr(path, "config") || (root_end && (geteuid() || !cut)))
			continue;
		snprintf(out->root, sizeof(out->root), "%.*s", root_len, path);
		if (root_end)
			snprintf(out->command, sizeof(out->command), "chroot %.*s %s", root_len,
				 path, cut);
		else
			snprintf(out->command, sizeof(out->command), "%s", path);
		count++;
	}
	globfree(&found);
}

size_t interpreters_find(void)
{
	const char *home = getenv("HOME"), *cache = getenv("PYTRACE_CACHE");
	char pattern[PATH_MAX];

	count = 0;
	snprintf(pattern, sizeof(pattern), "%s/.pyenv/versions/3.[89].*/bin/python3",
		 home ? home : "");
	add(pattern, NULL);
	snprintf(pattern, sizeof(pattern), "%s/.pyenv/versions/3.1*/bin/python3", home ? home : "");
	add(pattern, NULL);
	add("/usr/bin/python3", NULL);
	snprintf(pattern, sizeof(pattern), "%s/roots/*/usr/bin/python3.*[0-9d]",
		 cache ? cache : "/var/cache/pytrace-bpf");
	add(pattern, "/usr/bin/");
	return count;
}
