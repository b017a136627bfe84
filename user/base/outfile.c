// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
#include "base/outfile.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void release(struct pt_outfile *file)
{
	pt_outfile_use_reserve(file);
	if (file->fd >= 0)
		close(file->fd);
	free(file->path);
	free(file->tmp_path);
	memset(file, 0, sizeof(*file));
	file->fd = -1;
}

static int open_failed(struct pt_outfile *file, int code, struct pt_err *err)
{
	const char *hint = code == -ENOSPC
			       ? "Free some space, or write to another file system with -o."
			       : "Choose another file with -o.";
	enum pt_exit exit_code = code == -EACCES || code == -EPERM ? PT_EXIT_PERMISSION
								   : PT_EXIT_FAILED;

	pt_err_set(err, code, exit_code, hint, "cannot create '%s': %s", file->path,
		   strerror(-code));
	release(file);
	return code;
}

/* A file of real blocks, not a hole: fallocate where the file system can, else zeros. */
static int create_reserve(struct pt_outfile *file, size_t bytes)
{
	int fd, rc;

	if (asprintf(&file->reserve_path, "%s.reserve", file->tmp_path) < 0) {
		file->reserve_path = NULL;
		return -ENOMEM;
	}
	unlink(file->reserve_path);
	fd = open(file->reserve_path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0) {
		rc = -errno;
		free(file->reserve_path);
		file->reserve_path = NULL;
		return rc;
	}
	rc = -posix_fallocate(fd, 0, (off_t)bytes);
	close(fd);
	if (rc)
		pt_outfile_use_reserve(file);
	return rc;
}

int pt_outfile_open(struct pt_outfile *file, const char *path, size_t reserve_bytes,
		    struct pt_err *err)
{
	struct stat st;
	int rc;

	memset(file, 0, sizeof(*file));
	file->fd = -1;
	file->path = strdup(path);
	if (!file->path)
		return -ENOMEM;
	if (strcmp(path, "-") == 0) {
		file->in_place = true;
		file->fd = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
		return file->fd < 0 ? open_failed(file, -errno, err) : 0;
	}
	if (stat(path, &st) == 0 && !S_ISREG(st.st_mode)) {
		if (S_ISDIR(st.st_mode))
			return open_failed(file, -EISDIR, err);
		file->in_place = true;
		file->fd = open(path, O_WRONLY | O_CLOEXEC);
		return file->fd < 0 ? open_failed(file, -errno, err) : 0;
	}
	if (asprintf(&file->tmp_path, "%s.tmp", path) < 0) {
		file->tmp_path = NULL;
		return open_failed(file, -ENOMEM, err);
	}
	/* Never follow a link that somebody else put there: the tracer runs as root. */
	unlink(file->tmp_path);
	file->fd = open(file->tmp_path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	if (file->fd < 0)
		return open_failed(file, -errno, err);
	rc = reserve_bytes ? create_reserve(file, reserve_bytes) : 0;
	if (rc) {
		unlink(file->tmp_path);
		return open_failed(file, rc, err);
	}
	return 0;
}

/* Returns 0 or -errno; *done is what was written. */
static int write_all(int fd, const char *data, size_t len, size_t *done)
{
	*done = 0;
	while (*done < len) {
		ssize_t n = write(fd, data + *done, len - *done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return -ENOSPC;
		*done += (size_t)n;
	}
	return 0;
}

int pt_outfile_append(struct pt_outfile *file, const void *data, size_t len)
{
	size_t done;
	int rc = write_all(file->fd, data, len, &done);

	if (rc && !file->in_place) {
		if (done == 0)
			return rc;
		if (ftruncate(file->fd, (off_t)file->bytes) ||
		    lseek(file->fd, (off_t)file->bytes, SEEK_SET) < 0)
			file->bytes += done; /* cannot be undone: count what is there */
		return rc;
	}
	file->bytes += done;
	return rc;
}

int pt_outfile_cut(struct pt_outfile *file, uint64_t bytes)
{
	if (bytes == file->bytes)
		return 0;
	if (file->in_place)
		return -ESPIPE;
	if (ftruncate(file->fd, (off_t)bytes) || lseek(file->fd, (off_t)bytes, SEEK_SET) < 0)
		return -errno;
	file->bytes = bytes;
	return 0;
}

int pt_outfile_restart(struct pt_outfile *file)
{
	if (file->in_place)
		return -EOPNOTSUPP;
	if (ftruncate(file->fd, 0) || lseek(file->fd, 0, SEEK_SET) < 0)
		return -errno;
	file->bytes = 0;
	return 0;
}

int pt_outfile_append_rest(struct pt_outfile *file, const struct pt_outfile *from)
{
	size_t size = 1u << 20, len;
	uint64_t until = from->bytes;
	char *data;
	int fd, rc = 0;

	if (from->in_place || file->in_place)
		return -EOPNOTSUPP;
	fd = open(from->tmp_path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return -errno;
	data = malloc(size);
	if (!data)
		rc = -ENOMEM;
	while (!rc && file->bytes < until) {
		ssize_t n;

		len = until - file->bytes < size ? until - file->bytes : size;
		n = pread(fd, data, len, (off_t)file->bytes);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			rc = n ? -errno : -EIO;
		else
			rc = pt_outfile_append(file, data, (size_t)n);
	}
	free(data);
	close(fd);
	return rc;
}

void pt_outfile_use_reserve(struct pt_outfile *file)
{
	if (!file->reserve_path)
		return;
	unlink(file->reserve_path);
	free(file->reserve_path);
	file->reserve_path = NULL;
}

/* The new name itself must reach the disk too. */
static void sync_folder(const char *path)
{
	char *copy = strdup(path);
	int fd = copy ? open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;

	if (fd >= 0) {
		fsync(fd); /* best effort: not every file system syncs folders */
		close(fd);
	}
	free(copy);
}

int pt_outfile_commit(struct pt_outfile *file, struct pt_err *err)
{
	const char *hint = "The data may still be in the file with the suffix .tmp.";
	int rc = 0;

	pt_outfile_use_reserve(file);
	if (!file->in_place) {
		if (fsync(file->fd))
			rc = pt_err_set(err, -errno, PT_EXIT_FAILED, hint, "cannot write '%s': %s",
					file->tmp_path, strerror(errno));
		else if (rename(file->tmp_path, file->path))
			rc = pt_err_set(err, -errno, PT_EXIT_FAILED, hint,
					"cannot rename '%s' to '%s': %s", file->tmp_path,
					file->path, strerror(errno));
		else
			sync_folder(file->path);
	}
	release(file);
	return rc;
}

void pt_outfile_discard(struct pt_outfile *file)
{
	if (file->fd >= 0 && file->tmp_path)
		unlink(file->tmp_path);
	release(file);
}
