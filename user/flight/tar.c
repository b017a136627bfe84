// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
#include "flight/tar.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#define BLOCK_BYTES    512u
#define COPY_BYTES     65536u
#define SIZE_MAX_BYTES 077777777777ull /* eleven octal digits */

/* As POSIX has it (pax, "ustar Interchange Format"). */
struct header {
	char name[100], mode[8], uid[8], gid[8], size[12], mtime[12], checksum[8], type;
	char link[100], magic[6], version[2], user[32], group[32], major[8], minor[8], prefix[155];
	char rest[12];
};
_Static_assert(sizeof(struct header) == BLOCK_BYTES, "a header is one block");

static int put(gzFile gz, const void *data, size_t bytes)
{
	errno = 0;
	if (gzwrite(gz, data, (unsigned int)bytes) == (int)bytes)
		return 0;
	return errno ? -errno : -EIO;
}

/* folder/file, or the folder itself. It belongs to whoever unpacks it. */
static int put_header(gzFile gz, const char *folder, const char *file, const struct stat *st)
{
	struct header header = {.type = file ? '0' : '5', .magic = "ustar", .version = {'0', '0'}};
	uint64_t size = file ? (uint64_t)st->st_size : 0;
	const unsigned char *bytes = (const unsigned char *)&header;
	unsigned int sum = 0;

	if (size > SIZE_MAX_BYTES)
		return -EFBIG;
	if (strlen(folder) >= sizeof(header.name) - 1 ||
	    (file && strlen(file) >= sizeof(header.name)))
		return -ENAMETOOLONG;
	if (file) {
		snprintf(header.name, sizeof(header.name), "%s", file);
		snprintf(header.prefix, sizeof(header.prefix), "%s", folder);
	} else {
		snprintf(header.name, sizeof(header.name), "%s/", folder);
	}
	snprintf(header.mode, sizeof(header.mode), "%07o", file ? 0600 : 0700);
	snprintf(header.uid, sizeof(header.uid), "%07o", 0);
	snprintf(header.gid, sizeof(header.gid), "%07o", 0);
	snprintf(header.size, sizeof(header.size), "%011llo", (unsigned long long)size);
	snprintf(header.mtime, sizeof(header.mtime), "%011llo",
		 (unsigned long long)st->st_mtime & SIZE_MAX_BYTES);
	memset(header.checksum, ' ', sizeof(header.checksum));
	for (size_t i = 0; i < sizeof(header); i++)
		sum += bytes[i];
	snprintf(header.checksum, sizeof(header.checksum), "%06o", sum);
	return put(gz, &header, sizeof(header));
}

/* As many bytes as its header says, and zeros up to a whole block. */
static int put_content(gzFile gz, int fd, uint64_t size)
{
	static const char zeros[BLOCK_BYTES];
	char buffer[COPY_BYTES];
	uint64_t left = size;
	int rc = 0;

	while (!rc && left) {
		ssize_t n = read(fd, buffer, left < sizeof(buffer) ? left : sizeof(buffer));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n ? -errno : -EIO;
		rc = put(gz, buffer, (size_t)n);
		left -= (uint64_t)n;
	}
	if (!rc && size % BLOCK_BYTES)
		rc = put(gz, zeros, BLOCK_BYTES - size % BLOCK_BYTES);
	return rc;
}

static int put_file(gzFile gz, int folder, const char *name, const char *file)
{
	int fd = openat(folder, file, O_RDONLY | O_NOFOLLOW | O_CLOEXEC), rc;
	struct stat st;

	if (fd < 0)
		return errno == ENOENT ? 0 : -errno;
	rc = fstat(fd, &st) ? -errno : put_header(gz, name, file, &st);
	if (!rc)
		rc = put_content(gz, fd, (uint64_t)st.st_size);
	close(fd);
	return rc;
}

static int put_all(gzFile gz, int folder, const char *name, const char *const *files)
{
	static const char end[2 * BLOCK_BYTES];
	struct stat st;
	int rc = fstat(folder, &st) ? -errno : put_header(gz, name, NULL, &st);

	for (size_t i = 0; !rc && files[i]; i++)
		rc = put_file(gz, folder, name, files[i]);
	return rc ? rc : put(gz, end, sizeof(end));
}

int pt_tar_gz(const char *folder, const char *name, const char *const *files, const char *path)
{
	int from = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC), to, rc;
	gzFile gz;

	if (from < 0)
		return -errno;
	to = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (to < 0) {
		rc = -errno;
		close(from);
		return rc;
	}
	gz = gzdopen(to, "wb1"); /* the trace, which is most of it, is deflated already */
	if (gz) {
		rc = put_all(gz, from, name, files);
		errno = 0;
		if (gzclose(gz) != Z_OK && !rc)
			rc = errno ? -errno : -EIO;
	} else {
		close(to);
		rc = -ENOMEM;
	}
	close(from);
	if (rc)
		unlink(path);
	return rc;
}
