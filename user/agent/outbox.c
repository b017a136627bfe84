// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
#include "agent/outbox.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <zlib.h>

#include "base/grow.h"
#include "base/log.h"
#include "base/outfile.h"

#define MAGIC       "PTOUT1\n" /* with its NUL, 8 bytes */
#define SUFFIX      ".msg"
#define NAME_DIGITS 20
#define MESSAGE_MAX (64u << 20) /* in a file; ours are far smaller */

struct header {
	char magic[8];
	uint32_t len, crc; /* as this machine has them: nobody else reads it */
};

struct entry {
	uint64_t number;
	uint32_t bytes; /* with the header */
	char *data;     /* NULL: in a file */
};

struct agent_outbox {
	struct agent_outbox_stats *stats;
	char *dir;        /* or NULL */
	int folder, lock; /* or -1 */
	uint64_t max_bytes, bytes, memory_bytes, next;
	struct entry *entries; /* by number */
	size_t first, end, room;
	bool held; /* the first one is being sent */
	bool failing;
};

static void path_of(const struct agent_outbox *outbox, uint64_t number, char *path, size_t size)
{
	snprintf(path, size, "%s/%0*llu" SUFFIX, outbox->dir, NAME_DIGITS,
		 (unsigned long long)number);
}

/* ---- the list ---- */

static int add_entry(struct agent_outbox *outbox, const struct entry *entry)
{
	struct entry *bigger;

	if (outbox->first && outbox->end == outbox->room) {
		outbox->end -= outbox->first;
		memmove(outbox->entries, outbox->entries + outbox->first,
			outbox->end * sizeof(*entry));
		outbox->first = 0;
	}
	bigger = pt_grow(outbox->entries, outbox->end, &outbox->room, 64, sizeof(*bigger));
	if (!bigger)
		return -ENOMEM;
	outbox->entries = bigger;
	outbox->entries[outbox->end++] = *entry;
	outbox->bytes += entry->bytes;
	if (entry->data)
		outbox->memory_bytes += entry->bytes;
	atomic_fetch_add(&outbox->stats->messages, 1);
	atomic_fetch_add(&outbox->stats->bytes, entry->bytes);
	return 0;
}

static void remove_entry(struct agent_outbox *outbox, size_t at)
{
	struct entry *entry = &outbox->entries[at];
	char path[PATH_MAX];

	outbox->bytes -= entry->bytes;
	atomic_fetch_sub(&outbox->stats->messages, 1);
	atomic_fetch_sub(&outbox->stats->bytes, entry->bytes);
	if (entry->data) {
		outbox->memory_bytes -= entry->bytes;
		free(entry->data);
	} else {
		path_of(outbox, entry->number, path, sizeof(path));
		unlink(path);
	}
	memmove(&outbox->entries[outbox->first + 1], &outbox->entries[outbox->first],
		(at - outbox->first) * sizeof(*entry));
	outbox->first++;
}

/* The oldest one goes, but the one that is being sent. */
static bool drop_oldest(struct agent_outbox *outbox, bool in_memory)
{
	for (size_t i = outbox->first + outbox->held; i < outbox->end; i++) {
		if (in_memory && !outbox->entries[i].data)
			continue;
		remove_entry(outbox, i);
		atomic_fetch_add(&outbox->stats->dropped, 1);
		return true;
	}
	return false;
}

static void make_room(struct agent_outbox *outbox, uint64_t bytes)
{
	while (outbox->bytes + bytes > outbox->max_bytes && drop_oldest(outbox, false))
		;
}

/* ---- files ---- */

static int write_file(const struct agent_outbox *outbox, uint64_t number,
		      const struct header *header, const void *data)
{
	struct pt_outfile file;
	char path[PATH_MAX];
	int rc;

	path_of(outbox, number, path, sizeof(path));
	rc = pt_outfile_open(&file, path, 0, NULL);
	if (rc)
		return rc;
	rc = pt_outfile_append(&file, header, sizeof(*header));
	if (!rc)
		rc = pt_outfile_append(&file, data, header->len);
	if (!rc)
		return pt_outfile_commit(&file, NULL);
	pt_outfile_discard(&file);
	return rc;
}

/* Says so when it begins to fail, and when it works again. */
static void tell(struct agent_outbox *outbox, int rc)
{
	if (rc)
		atomic_fetch_add(&outbox->stats->write_errors, 1);
	if (rc && !outbox->failing)
		pt_warn("messages cannot be kept in '%s': %s; they wait in memory", outbox->dir,
			strerror(-rc));
	else if (!rc && outbox->failing)
		pt_info("messages are kept in '%s' again", outbox->dir);
	outbox->failing = rc != 0;
}

static int read_whole(int fd, struct header *header, struct pt_buf *data)
{
	size_t old = data->len;

	if (read(fd, header, sizeof(*header)) != sizeof(*header) ||
	    memcmp(header->magic, MAGIC, sizeof(header->magic)) != 0 || header->len > MESSAGE_MAX)
		return -EBADMSG;
	if (pt_buf_reserve(data, header->len))
		return -ENOMEM;
	while (data->len - old < header->len) {
		ssize_t n = read(fd, data->data + data->len, header->len - (data->len - old));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return -EBADMSG;
		data->len += (size_t)n;
	}
	if (crc32(0, (const Bytef *)data->data + old, header->len) != header->crc)
		return -EBADMSG;
	return 0;
}

static int read_file(const struct agent_outbox *outbox, uint64_t number, struct pt_buf *data)
{
	size_t old = data->len;
	struct header header;
	char path[PATH_MAX];
	int fd, rc;

	path_of(outbox, number, path, sizeof(path));
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return -EBADMSG;
	rc = read_whole(fd, &header, data);
	close(fd);
	if (rc)
		data->len = old;
	return rc;
}

/* ---- what is there at the start ---- */

static int by_number(const void *a, const void *b)
{
	const struct entry *x = a, *y = b;

	return x->number < y->number ? -1 : x->number > y->number;
}

/* Of a name that we give, with or without the suffix of an unfinished one. */
static bool parse_name(const char *name, uint64_t *number, bool *unfinished)
{
	char *end;

	if (strspn(name, "0123456789") != NAME_DIGITS)
		return false;
	errno = 0;
	*number = strtoull(name, &end, 10);
	*unfinished = !strcmp(end, SUFFIX ".tmp");
	return !errno && *number < UINT64_MAX && (*unfinished || !strcmp(end, SUFFIX));
}

static int take_found(struct agent_outbox *outbox, const char *name)
{
	struct entry entry = {0};
	bool unfinished;
	struct stat st;

	if (!parse_name(name, &entry.number, &unfinished))
		return 0; /* not ours */
	if (unfinished) {
		unlinkat(outbox->folder, name, 0);
		return 0;
	}
	if (fstatat(outbox->folder, name, &st, AT_SYMLINK_NOFOLLOW))
		return 0;
	if (!S_ISREG(st.st_mode) || st.st_size > (off_t)(MESSAGE_MAX + sizeof(struct header)))
		return 0;
	entry.bytes = (uint32_t)st.st_size;
	if (entry.number >= outbox->next)
		outbox->next = entry.number + 1;
	return add_entry(outbox, &entry);
}

static int find_old(struct agent_outbox *outbox)
{
	DIR *dir = opendir(outbox->dir);
	const struct dirent *entry;
	int rc = 0;

	if (!dir)
		return -errno;
	while (!rc && (entry = readdir(dir)))
		rc = take_found(outbox, entry->d_name);
	closedir(dir);
	if (outbox->end)
		qsort(outbox->entries, outbox->end, sizeof(*outbox->entries), by_number);
	make_room(outbox, 0);
	return rc;
}

/* A lock of ours alone: what we fork does not have it, and may live on. */
static int lock_folder(struct agent_outbox *outbox, struct pt_err *err)
{
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};

	outbox->lock = openat(outbox->folder, "lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW,
			      0600);
	if (outbox->lock < 0)
		return pt_err_set(err, -errno, PT_EXIT_FAILED, "", "cannot write into '%s': %s",
				  outbox->dir, strerror(errno));
	if (fcntl(outbox->lock, F_SETLK, &lock))
		return pt_err_set(err, -EBUSY, PT_EXIT_FAILED,
				  "give each agent a folder of its own",
				  "another agent keeps its messages in '%s'", outbox->dir);
	return 0;
}

/* Who may write there might take messages away, or have others' sent with our headers. */
static int open_folder(struct agent_outbox *outbox, struct pt_err *err)
{
	const char *dir = outbox->dir;
	struct stat st;

	if (mkdir(dir, 0700) && errno != EEXIST)
		return pt_err_set(err, -errno, PT_EXIT_FAILED, "",
				  "cannot make the folder '%s': %s", dir, strerror(errno));
	outbox->folder = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (outbox->folder < 0 || fstat(outbox->folder, &st))
		return pt_err_set(err, -errno, PT_EXIT_FAILED, "",
				  "cannot open the folder '%s': %s", dir, strerror(errno));
	if (st.st_uid != geteuid() || st.st_mode & 0022)
		return pt_err_set(err, -EPERM, PT_EXIT_FAILED, "chmod 700 it, and chown it",
				  "others may write into the folder '%s'", dir);
	return lock_folder(outbox, err);
}

/* ---- */

int agent_outbox_open(const char *dir, uint64_t max_bytes, struct agent_outbox_stats *stats,
		      struct agent_outbox **result, struct pt_err *err)
{
	struct agent_outbox *outbox = calloc(1, sizeof(*outbox));
	int rc = 0;

	if (!outbox)
		return pt_err_set(err, -ENOMEM, PT_EXIT_FAILED, "", "out of memory");
	outbox->stats = stats;
	outbox->max_bytes = max_bytes;
	outbox->folder = outbox->lock = -1;
	if (dir && !(outbox->dir = strdup(dir)))
		rc = pt_err_set(err, -ENOMEM, PT_EXIT_FAILED, "", "out of memory");
	if (!rc && outbox->dir)
		rc = open_folder(outbox, err);
	if (!rc && outbox->dir && (rc = find_old(outbox)))
		pt_err_set(err, rc, PT_EXIT_FAILED, "", "cannot read the folder '%s': %s", dir,
			   strerror(-rc));
	if (rc) {
		agent_outbox_close(outbox);
		return rc;
	}
	*result = outbox;
	return 0;
}

static int keep_in_memory(struct agent_outbox *outbox, struct entry *entry, const void *data,
			  size_t len)
{
	int rc;

	while (outbox->memory_bytes + len > AGENT_OUTBOX_MEMORY)
		if (len > AGENT_OUTBOX_MEMORY || !drop_oldest(outbox, true))
			return -ENOSPC;
	entry->bytes = (uint32_t)len;
	entry->data = malloc(len ? len : 1);
	if (!entry->data)
		return -ENOMEM;
	memcpy(entry->data, data, len);
	rc = add_entry(outbox, entry);
	if (rc)
		free(entry->data);
	return rc;
}

static int keep_in_file(struct agent_outbox *outbox, struct entry *entry, const void *data,
			size_t len)
{
	struct header header = {.len = (uint32_t)len, .crc = (uint32_t)crc32(0, data, (uInt)len)};
	char path[PATH_MAX];
	int rc;

	memcpy(header.magic, MAGIC, sizeof(header.magic));
	entry->bytes = (uint32_t)(sizeof(header) + len);
	rc = write_file(outbox, entry->number, &header, data);
	tell(outbox, rc);
	if (rc)
		return rc;
	rc = add_entry(outbox, entry);
	if (rc) {
		path_of(outbox, entry->number, path, sizeof(path));
		unlink(path);
	}
	return rc;
}

void agent_outbox_put(struct agent_outbox *outbox, const void *data, size_t len)
{
	struct entry entry = {.number = outbox->next++};
	uint64_t bytes = len + sizeof(struct header);
	int rc = len > MESSAGE_MAX || bytes > outbox->max_bytes ? -EFBIG : 0;

	if (!rc) {
		make_room(outbox, bytes);
		rc = outbox->bytes + bytes > outbox->max_bytes ? -ENOSPC : 0;
	}
	if (!rc && outbox->dir && !keep_in_file(outbox, &entry, data, len))
		return;
	if (!rc)
		rc = keep_in_memory(outbox, &entry, data, len);
	if (rc)
		atomic_fetch_add(&outbox->stats->dropped, 1);
}

int agent_outbox_first(struct agent_outbox *outbox, struct pt_buf *data)
{
	while (outbox->first < outbox->end) {
		const struct entry *entry = &outbox->entries[outbox->first];
		int rc;

		if (entry->data) {
			pt_buf_add(data, entry->data, entry->bytes);
			rc = data->failed ? -ENOMEM : 0;
		} else {
			rc = read_file(outbox, entry->number, data);
		}
		outbox->held = !rc;
		if (rc != -EBADMSG)
			return rc;
		remove_entry(outbox, outbox->first);
		atomic_fetch_add(&outbox->stats->corrupt, 1);
	}
	return -ENOENT;
}

void agent_outbox_remove_first(struct agent_outbox *outbox)
{
	remove_entry(outbox, outbox->first);
	outbox->held = false;
}

void agent_outbox_close(struct agent_outbox *outbox)
{
	if (!outbox)
		return;
	for (size_t i = outbox->first; i < outbox->end; i++) {
		atomic_fetch_sub(&outbox->stats->messages, 1);
		atomic_fetch_sub(&outbox->stats->bytes, outbox->entries[i].bytes);
		if (outbox->entries[i].data)
			atomic_fetch_add(&outbox->stats->dropped, 1);
		free(outbox->entries[i].data);
	}
	if (outbox->lock >= 0)
		close(outbox->lock);
	if (outbox->folder >= 0)
		close(outbox->folder);
	free(outbox->entries);
	free(outbox->dir);
	free(outbox);
}
