// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
#include "target/source.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/utf8.h"
#include "target/maps.h"

#define GROUPS_MAX 1024

/* Who opens a file: fsuid, fsgid and supplementary groups. */
struct credentials {
	uid_t uid;
	gid_t gid;
	int group_count;
	gid_t groups[GROUPS_MAX];
};

struct pt_source_root {
	int fd;
	bool known; /* the two below are */
	uint64_t mount_id, inode;
	struct credentials credentials;
};

/* The numbers that stand behind "key:" in /proc/PID/status; returns how many, at most max. */
static int status_numbers(const char *text, const char *key, unsigned long *numbers, int max)
{
	size_t len = strlen(key);
	const char *line = text;
	int count = 0;

	while (line && strncmp(line, key, len) != 0) {
		line = strchr(line, '\n');
		line = line ? line + 1 : NULL;
	}
	if (!line)
		return 0;
	for (line += len; count < max; count++) {
		char *end;

		while (*line == ' ' || *line == '\t')
			line++;
		if (*line < '0' || *line > '9')
			break;
		numbers[count] = strtoul(line, &end, 10);
		line = end;
	}
	return count;
}

static int credentials_of(pid_t pid, struct credentials *credentials)
{
	unsigned long numbers[GROUPS_MAX];
	char path[64], *text;
	size_t size;
	int rc;

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	rc = pt_proc_read(path, 1u << 20, &text, &size);
	if (rc)
		return rc == -ENOENT ? -ESRCH : rc;
	/* real, effective, saved, file system (proc_pid_status(5)) */
	rc = -EPROTO;
	if (status_numbers(text, "Uid:", numbers, 4) != 4)
		goto out;
	credentials->uid = (uid_t)numbers[3];
	if (status_numbers(text, "Gid:", numbers, 4) != 4)
		goto out;
	credentials->gid = (gid_t)numbers[3];
	credentials->group_count = status_numbers(text, "Groups:", numbers, GROUPS_MAX);
	for (int i = 0; i < credentials->group_count; i++)
		credentials->groups[i] = (gid_t)numbers[i];
	rc = 0;
out:
	free(text);
	return rc;
}

int pt_source_root_open(pid_t pid, struct pt_source_root **result)
{
	struct pt_source_root *root = calloc(1, sizeof(*root));
	struct statx st;
	char path[64];
	int rc;

	if (!root)
		return -ENOMEM;
	snprintf(path, sizeof(path), "/proc/%d/root", pid);
	root->fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	rc = root->fd < 0 ? (errno == ENOENT ? -ESRCH : -errno)
			  : credentials_of(pid, &root->credentials);
	/* a mount belongs to one mount namespace */
	if (!rc && !statx(root->fd, "", AT_EMPTY_PATH, STATX_INO | STATX_MNT_ID, &st) &&
	    (st.stx_mask & STATX_INO) && (st.stx_mask & STATX_MNT_ID)) {
		root->known = true;
		root->mount_id = st.stx_mnt_id;
		root->inode = st.stx_ino;
	}
	if (rc)
		pt_source_root_free(root);
	else
		*result = root;
	return rc;
}

bool pt_source_root_same(const struct pt_source_root *a, const struct pt_source_root *b)
{
	const struct credentials *x = &a->credentials, *y = &b->credentials;

	return a->known && b->known && a->mount_id == b->mount_id && a->inode == b->inode &&
	       x->uid == y->uid && x->gid == y->gid && x->group_count == y->group_count &&
	       !memcmp(x->groups, y->groups, (size_t)x->group_count * sizeof(x->groups[0]));
}

void pt_source_root_free(struct pt_source_root *root)
{
	if (!root)
		return;
	if (root->fd >= 0)
		close(root->fd);
	free(root);
}

/* The system calls themselves change this thread alone; libc's setgroups() would change all. */
static bool take_on(const struct credentials *credentials)
{
	if (syscall(SYS_setgroups, (size_t)credentials->group_count, credentials->groups))
		return false;
	setfsgid(credentials->gid);
	/* to a user other than root: the kernel takes the capabilities that pass over file modes */
	setfsuid(credentials->uid);
	return (gid_t)setfsgid((gid_t)-1) == credentials->gid &&
	       (uid_t)setfsuid((uid_t)-1) == credentials->uid;
}

static int own_credentials(struct credentials *credentials)
{
	credentials->uid = (uid_t)setfsuid((uid_t)-1);
	credentials->gid = (gid_t)setfsgid((gid_t)-1);
	credentials->group_count = getgroups(GROUPS_MAX, credentials->groups);
	return credentials->group_count < 0 ? -EPERM : 0;
}

#define FOLDER SIZE_MAX /* in place of a file's greatest size */

/* Opens first without any effect on what is opened (a device, a pipe), then for reading. */
static int open_checked(int root, const char *path, size_t max_bytes)
{
	struct open_how how = {.flags = O_PATH | O_CLOEXEC,
			       .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS};
	int fd = (int)syscall(SYS_openat2, root, path, &how, sizeof(how)), file, rc = 0;
	struct statfs fs;
	struct stat st;
	char self[64];

	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) || fstatfs(fd, &fs))
		rc = -errno;
	/* /proc/self would be the tracer itself, whatever its credentials are */
	else if (fs.f_type == PROC_SUPER_MAGIC ||
		 (max_bytes == FOLDER ? !S_ISDIR(st.st_mode) : !S_ISREG(st.st_mode)))
		rc = -ENOTSUP;
	else if (max_bytes != FOLDER && (uint64_t)st.st_size > max_bytes)
		rc = -EFBIG;
	snprintf(self, sizeof(self), "/proc/self/fd/%d", fd);
	file = rc ? -1 : open(self, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	if (!rc && file < 0)
		rc = -errno;
	close(fd);
	return rc ? rc : file;
}

/* It may grow meanwhile: what counts is what is read. */
static int read_all(int fd, size_t max_bytes, struct pt_buf *raw)
{
	for (;;) {
		size_t room = max_bytes + 1 - raw->len;
		ssize_t n;

		if (room > 1u << 16)
			room = 1u << 16;
		if (pt_buf_reserve(raw, room))
			return -ENOMEM;
		n = read(fd, raw->data + raw->len, room);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n ? -errno : 0;
		raw->len += (size_t)n;
		if (raw->len > max_bytes)
			return -EFBIG;
	}
}

static int add_clean(const struct pt_buf *raw, struct pt_buf *text)
{
	size_t skip = raw->len >= 3 && !memcmp(raw->data, "\xef\xbb\xbf", 3) ? 3 : 0;
	size_t len = raw->len - skip, room = 3 * len + 1; /* a bad byte becomes three */

	if (pt_buf_reserve(text, room))
		return -ENOMEM;
	text->data[text->len] = '\0';
	if (len)
		text->len += pt_utf8_clean(text->data + text->len, room, raw->data + skip, len);
	return 0;
}

static int open_as(const struct pt_source_root *root, const char *path, size_t max_bytes)
{
	struct credentials own;
	int rc = own_credentials(&own);

	if (rc)
		return rc;
	if (own.uid == root->credentials.uid && own.uid != 0)
		return open_checked(root->fd, path, max_bytes);
	rc = take_on(&root->credentials) ? open_checked(root->fd, path, max_bytes) : -EPERM;
	/* the rights to change them back come with the user id */
	setfsuid(own.uid);
	setfsgid(own.gid);
	syscall(SYS_setgroups, (size_t)own.group_count, own.groups);
	return rc;
}

int pt_source_open(const struct pt_source_root *root, const char *path)
{
	return path[0] == '/' ? open_as(root, path, FOLDER - 1) : -EINVAL;
}

int pt_source_open_folder(const struct pt_source_root *root, const char *path)
{
	return path[0] == '/' ? open_as(root, path, FOLDER) : -EINVAL;
}

int pt_source_read_bytes(const struct pt_source_root *root, const char *path, size_t max_bytes,
			 struct pt_buf *raw)
{
	int rc, fd;

	if (path[0] != '/')
		return -EINVAL;
	fd = open_as(root, path, max_bytes);
	if (fd < 0)
		return fd;
	rc = read_all(fd, max_bytes, raw);
	close(fd);
	return rc;
}

int pt_source_read(const struct pt_source_root *root, const char *path, size_t max_bytes,
		   struct pt_buf *text)
{
	struct pt_buf raw = {0};
	int rc = pt_source_read_bytes(root, path, max_bytes, &raw);

	if (!rc)
		rc = add_clean(&raw, text);
	pt_buf_release(&raw);
	return rc;
}
