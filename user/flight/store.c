// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
#include "flight/store.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* Those that end in .tmp are there while the one before them is written (base/outfile.h). */
const char *const pt_store_files[] = {
    "meta.json",
    "report.html",
    "report.txt",
    "stacks.txt",
    "trace.json.gz",
    "trace.json.gz.tmp",
    "trace.json.gz.tmp.reserve",
    NULL,
};

void pt_store_name(uint64_t real_ns, pid_t pid, const char *kind, char *name, size_t size)
{
	time_t seconds = (time_t)(real_ns / 1000000000u);
	char when[32], who[16] = "";
	struct tm tm;

	gmtime_r(&seconds, &tm);
	strftime(when, sizeof(when), "%Y%m%dT%H%M%S", &tm);
	if (pid)
		snprintf(who, sizeof(who), "%d-", pid);
	snprintf(name, size, PT_STORE_PREFIX "%s.%03uZ-%s%s", when,
		 (unsigned int)(real_ns / 1000000 % 1000), who, kind);
}

static int open_capture(int folder, const char *name)
{
	return openat(folder, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

static bool is_tar(const char *name)
{
	size_t len = strlen(name), end = strlen(PT_STORE_TAR);

	return len > end && !strcmp(name + len - end, PT_STORE_TAR);
}

static int remove_at(int folder, const char *name)
{
	int fd = is_tar(name) ? -1 : open_capture(folder, name);

	if (is_tar(name))
		return unlinkat(folder, name, 0) ? -errno : 0;
	if (fd < 0)
		return -errno;
	for (size_t i = 0; pt_store_files[i]; i++)
		unlinkat(fd, pt_store_files[i], 0);
	close(fd);
	return unlinkat(folder, name, AT_REMOVEDIR) ? -errno : 0;
}

int pt_store_remove(const char *folder, const char *name)
{
	int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC), rc;

	if (fd < 0)
		return -errno;
	rc = remove_at(fd, name);
	close(fd);
	return rc;
}

static uint64_t capture_bytes(int folder, const char *name)
{
	uint64_t bytes = 0;
	struct stat st;
	int fd;

	if (is_tar(name))
		return fstatat(folder, name, &st, AT_SYMLINK_NOFOLLOW)
			   ? 0
			   : (uint64_t)st.st_blocks * 512;
	fd = open_capture(folder, name);
	if (fd < 0)
		return 0;
	for (size_t i = 0; pt_store_files[i]; i++)
		if (!fstatat(fd, pt_store_files[i], &st, AT_SYMLINK_NOFOLLOW))
			bytes += (uint64_t)st.st_blocks * 512;
	close(fd);
	return bytes;
}

bool pt_store_is_name(const char *name)
{
	static const char plain[] =
	    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.+-";
	const char *at = name + strlen(PT_STORE_PREFIX);

	/* capture-20260102T030405.678Z */
	return !strncmp(name, PT_STORE_PREFIX, strlen(PT_STORE_PREFIX)) &&
	       strspn(at, "0123456789") == 8 && at[8] == 'T' && strspn(at + 9, "0123456789") == 6 &&
	       at[15] == '.' && !at[strspn(at, plain)];
}

static int is_capture(const struct dirent *entry)
{
	return pt_store_is_name(entry->d_name);
}

int pt_store_open_file(const char *folder, const char *name, uint64_t *bytes)
{
	int at, fd, rc = 0;
	struct stat st = {0};

	if (!pt_store_is_name(name) || !is_tar(name))
		return -ENOENT;
	at = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (at < 0)
		return -errno;
	fd = openat(at, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		rc = -errno;
	else if (fstat(fd, &st))
		rc = -errno;
	else if (!S_ISREG(st.st_mode))
		rc = -ENOENT;
	close(at);
	if (rc && fd >= 0)
		close(fd);
	if (rc)
		return rc;
	*bytes = (uint64_t)st.st_size;
	return fd;
}

int pt_store_each_file(const char *folder, int (*fn)(const char *name, uint64_t bytes, void *ctx),
		       void *ctx)
{
	struct dirent **entries;
	int count = scandir(folder, &entries, is_capture, alphasort), rc = 0;

	if (count < 0)
		return -errno;
	for (int i = 0; i < count; i++) {
		uint64_t bytes = 0;
		int fd = rc ? -1 : pt_store_open_file(folder, entries[i]->d_name, &bytes);

		if (fd >= 0) { /* it may have gone meanwhile */
			close(fd);
			rc = fn(entries[i]->d_name, bytes, ctx);
		}
		free(entries[i]);
	}
	free(entries);
	return rc;
}

/* ".capture-20260102T030405.678Z-1234-slow.tmp" */
static int is_unfinished(const struct dirent *entry)
{
	return entry->d_name[0] == '.' && pt_store_is_name(entry->d_name + 1);
}

void pt_store_clear_unfinished(const char *folder)
{
	struct dirent **entries;
	int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC), count;

	if (fd < 0)
		return;
	count = scandirat(fd, ".", &entries, is_unfinished, alphasort);
	for (int i = 0; i < count; i++) {
		if (remove_at(fd, entries[i]->d_name))
			unlinkat(fd, entries[i]->d_name, 0); /* an archive */
		free(entries[i]);
	}
	if (count >= 0)
		free(entries);
	close(fd);
}

size_t pt_store_trim(const char *folder, uint64_t keep_count, uint64_t keep_bytes)
{
	struct dirent **entries;
	int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC), count;
	uint64_t bytes = 0, kept = 0;
	size_t gone = 0;

	if (fd < 0)
		return 0;
	count = scandirat(fd, ".", &entries, is_capture, alphasort);
	for (int i = count; i-- > 0;) {
		const char *name = entries[i]->d_name;

		kept++;
		bytes += capture_bytes(fd, name);
		if (kept > 1 &&
		    ((keep_count && kept > keep_count) || (keep_bytes && bytes > keep_bytes)))
			gone += !remove_at(fd, name);
		free(entries[i]);
	}
	if (count >= 0)
		free(entries);
	close(fd);
	return gone;
}
