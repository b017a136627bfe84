// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
#include "scratch.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

static char folder[256];

const char *scratch_path(const char *name)
{
	static char paths[8][512];
	static unsigned int next;
	char *path = paths[next++ % 8];

	snprintf(path, sizeof(paths[0]), "%s/%s", folder, name);
	return path;
}

char *scratch_read(const char *path, size_t *len)
{
	gzFile file = gzopen(path, "rb");
	size_t size = 1 << 16;
	char *data = malloc(size);
	int n;

	*len = 0;
	if (!file || !data)
		abort();
	while ((n = gzread(file, data + *len, (unsigned int)(size - *len - 1))) > 0) {
		*len += (size_t)n;
		if (size - *len < 2) {
			size *= 2;
			data = realloc(data, size);
			if (!data)
				abort();
		}
	}
	if (n < 0 || gzclose(file) != Z_OK) {
		fprintf(stderr, "%s is no whole file\n", path);
		abort();
	}
	data[*len] = '\0';
	return data;
}

void scratch_write(const char *path, const void *data, size_t len)
{
	FILE *file = fopen(path, "wb");

	if (!file || fwrite(data, 1, len, file) != len || fclose(file))
		abort();
}

int scratch_setup(void **state)
{
	const char *tmp = getenv("TMPDIR");

	snprintf(folder, sizeof(folder), "%s/pytrace-unit-XXXXXX", tmp ? tmp : "/tmp");
	return mkdtemp(folder) ? 0 : -1;
}

int scratch_teardown(void **state)
{
	DIR *dir = opendir(folder);
	struct dirent *entry;

	while (dir && (entry = readdir(dir)))
		if (entry->d_name[0] != '.')
			unlink(scratch_path(entry->d_name));
	if (dir)
		closedir(dir);
	return rmdir(folder);
}
