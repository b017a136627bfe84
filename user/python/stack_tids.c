// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "python/stack_parts.h"

/* The thread's TID in its innermost pid namespace: the last number of NSpid (Linux 4.1+). 0: the
 * thread is gone. */
static pid_t read_ns_tid(int task_dir, const char *name)
{
	char path[64], buf[4096], *line, *end;
	ssize_t got;
	long tid = 0;
	int fd;

	snprintf(path, sizeof(path), "%s/status", name);
	fd = openat(task_dir, path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 0;
	got = read(fd, buf, sizeof(buf) - 1);
	close(fd);
	if (got <= 0)
		return 0;
	buf[got] = 0;
	line = strstr(buf, "\nNSpid:");
	if (!line)
		return (pid_t)atol(name);
	for (line += 7; *line == '\t' || *line == ' '; line = end) {
		long value = strtol(line, &end, 10);

		if (end == line)
			break;
		tid = value;
	}
	return (pid_t)tid;
}

static int compare_pairs(const void *a, const void *b)
{
	const struct tid_pair *x = a, *y = b;

	return x->ns_tid < y->ns_tid ? -1 : x->ns_tid > y->ns_tid;
}

static int append_pair(struct tid_map *map, size_t *room, struct tid_pair pair)
{
	if (map->count == *room) {
		size_t wanted = *room ? *room * 2 : 16;
		struct tid_pair *more = realloc(map->pairs, wanted * sizeof(*more));

		if (!more)
			return -ENOMEM;
		map->pairs = more;
		*room = wanted;
	}
	map->pairs[map->count++] = pair;
	return 0;
}

int tid_map_load(struct tid_map *map, pid_t pid)
{
	size_t room = 0;
	struct dirent *entry;
	char path[64];
	int rc = 0;
	DIR *dir;

	memset(map, 0, sizeof(*map));
	snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
	dir = opendir(path);
	if (!dir)
		return errno == ENOENT ? -ESRCH : -errno;
	while (!rc && map->count < STACK_MAX_THREADS && (entry = readdir(dir))) {
		struct tid_pair pair = {.tid = (pid_t)atol(entry->d_name)};

		if (pair.tid <= 0)
			continue;
		pair.ns_tid = read_ns_tid(dirfd(dir), entry->d_name);
		if (pair.ns_tid > 0)
			rc = append_pair(map, &room, pair);
	}
	closedir(dir);
	if (rc)
		tid_map_release(map);
	else if (map->count)
		qsort(map->pairs, map->count, sizeof(*map->pairs), compare_pairs);
	return rc;
}

void tid_map_release(struct tid_map *map)
{
	free(map->pairs);
	memset(map, 0, sizeof(*map));
}

pid_t tid_map_find(const struct tid_map *map, uint64_t ns_tid)
{
	struct tid_pair key = {.ns_tid = (pid_t)ns_tid};
	const struct tid_pair *found;

	if (ns_tid == 0 || ns_tid > INT32_MAX || !map->count)
		return 0;
	found = bsearch(&key, map->pairs, map->count, sizeof(key), compare_pairs);
	return found ? found->tid : 0;
}
