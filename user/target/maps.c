// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
#include "target/maps.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define READ_STEP_BYTES 65536

int pt_proc_read(const char *path, size_t max_bytes, char **text, size_t *size)
{
	size_t capacity = READ_STEP_BYTES, used = 0;
	char *buffer = malloc(capacity + 1);
	int fd, rc = 0;

	*text = NULL;
	*size = 0;
	if (!buffer)
		return -ENOMEM;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0) {
		rc = -errno;
		free(buffer);
		return rc;
	}
	for (;;) {
		ssize_t n;

		if (used == capacity) {
			char *bigger;

			if (capacity >= max_bytes) {
				rc = -EFBIG;
				break;
			}
			capacity *= 2;
			bigger = realloc(buffer, capacity + 1);
			if (!bigger) {
				rc = -ENOMEM;
				break;
			}
			buffer = bigger;
		}
		n = read(fd, buffer + used, capacity - used);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			rc = -errno;
		if (n <= 0)
			break;
		used += (size_t)n;
	}
	close(fd);
	if (rc) {
		free(buffer);
		return rc;
	}
	buffer[used] = '\0';
	*text = buffer;
	*size = used;
	return 0;
}

/* Reads a number in the given base that must be followed by the character end; moves *at behind
 * it. */
static bool take_number(char **at, int base, char end, uint64_t *value)
{
	char *stop;

	if (**at == ' ' || **at == '-' || **at == '+' || **at == '\t')
		return false; /* strtoull() would take these */
	errno = 0;
	*value = strtoull(*at, &stop, base);
	if (errno || stop == *at || *stop != end)
		return false;
	*at = stop + 1;
	return true;
}

static bool is_octal(char c)
{
	return c >= '0' && c <= '7';
}

/* The kernel writes a newline in a path as \012 (fs/proc/task_mmu.c: seq_path with "\n"). Nothing
 * else is escaped, so a path that really holds the four characters cannot be told apart. */
static void unescape(char *path)
{
	char *out = path;

	while (*path) {
		if (path[0] == '\\' && is_octal(path[1]) && is_octal(path[2]) &&
		    is_octal(path[3])) {
			*out++ = (char)((path[1] - '0') << 6 | (path[2] - '0') << 3 |
					(path[3] - '0'));
			path += 4;
		} else {
			*out++ = *path++;
		}
	}
	*out = '\0';
}

int pt_map_parse(char *line, struct pt_map *map)
{
	static const char deleted[] = " (deleted)";
	uint64_t major, minor;
	char *at = line;
	size_t len;

	memset(map, 0, sizeof(*map));
	if (!take_number(&at, 16, '-', &map->start) || !take_number(&at, 16, ' ', &map->end))
		return -EBADMSG;
	if (strlen(at) < 5 || at[4] != ' ' || map->end <= map->start)
		return -EBADMSG;
	map->readable = at[0] == 'r';
	map->writable = at[1] == 'w';
	map->executable = at[2] == 'x';
	at += 5;
	if (!take_number(&at, 16, ' ', &map->offset) || !take_number(&at, 16, ':', &major) ||
	    !take_number(&at, 16, ' ', &minor))
		return -EBADMSG;
	map->dev = makedev((unsigned int)major, (unsigned int)minor);
	len = strspn(at, "0123456789");
	if (!len || (at[len] && at[len] != ' '))
		return -EBADMSG;
	errno = 0;
	map->inode = strtoull(at, NULL, 10);
	if (errno)
		return -EBADMSG;
	at += len;
	at += strspn(at, " ");
	len = strlen(at);
	if (len >= sizeof(deleted) && !strcmp(at + len - strlen(deleted), deleted)) {
		map->deleted = true;
		at[len - strlen(deleted)] = '\0';
	}
	unescape(at);
	map->path = at;
	return 0;
}

int pt_status_number(const char *status, const char *key, int field, long *value)
{
	size_t key_len = strlen(key);
	const char *line = status;
	bool found = false;

	while (line && !(found = !strncmp(line, key, key_len) && line[key_len] == ':')) {
		line = strchr(line, '\n');
		line = line ? line + 1 : NULL;
	}
	if (!found)
		return -ENOENT;
	line += key_len + 1;
	for (int i = 0;; i++) {
		char *stop;
		long number;

		line += strspn(line, " \t");
		errno = 0;
		number = strtol(line, &stop, 10);
		if (stop == line || errno)
			return i > 0 && field < 0 && (*line == '\n' || !*line) ? 0 : -EBADMSG;
		*value = number;
		if (i == field)
			return 0;
		line = stop;
	}
}
