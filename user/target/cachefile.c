// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
#include "target/cachefile.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

uint64_t pt_cache_hash(uint64_t hash, const void *data, size_t size)
{
	const uint8_t *bytes = data;

	for (size_t i = 0; i < size; i++)
		hash = (hash ^ bytes[i]) * 0x100000001b3ull;
	return hash;
}

void pt_cache_key(struct pt_cache_key *key, const char *kind, const struct elf_file *elf,
		  unsigned int variant, unsigned int revision)
{
	uint64_t words[] = {elf->size, elf->build_id_len ? 0 : elf->dev,
			    elf->build_id_len ? 0 : elf->inode,
			    elf->build_id_len ? 0 : elf->mtime_ns, variant};
	size_t used;

	memset(key, 0, sizeof(*key));
	key->hash = pt_cache_hash(PT_CACHE_HASH_START, elf->build_id, elf->build_id_len);
	key->hash = pt_cache_hash(key->hash, words, sizeof(words));
	used = (size_t)snprintf(key->name, sizeof(key->name), "%s-%016llx-", kind,
				(unsigned long long)key->hash);
	for (size_t i = 0; i < elf->build_id_len; i++)
		used += (size_t)snprintf(key->name + used, sizeof(key->name) - used, "%02x",
					 elf->build_id[i]);
	snprintf(key->name + used, sizeof(key->name) - used, "-%x.r%u", variant, revision);
}

int pt_cache_file_read(const char *dir, const char *name, size_t max, uint8_t **data, size_t *size)
{
	char path[4096];
	struct stat st;
	ssize_t n = -1;
	int fd;

	if (snprintf(path, sizeof(path), "%s/%s", dir, name) >= (int)sizeof(path))
		return -ENAMETOOLONG;
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (fd < 0)
		return -ENOENT;
	*data = NULL;
	/* Only what root or we ourselves wrote. */
	if (!fstat(fd, &st) && S_ISREG(st.st_mode) && st.st_size > 0 &&
	    (uint64_t)st.st_size <= max && (st.st_uid == geteuid() || st.st_uid == 0) &&
	    !(st.st_mode & (S_IWGRP | S_IWOTH))) {
		*size = (size_t)st.st_size;
		*data = malloc(*size);
		n = *data ? read(fd, *data, *size) : -1;
	}
	close(fd);
	if (n < 0 || (size_t)n != *size) {
		free(*data);
		*data = NULL;
		return -ENOENT;
	}
	return 0;
}

int pt_cache_file_write(const char *dir, const char *name, const uint8_t *data, size_t size)
{
	char path[4096], temporary[4096];
	int fd, ret = 0;
	ssize_t n;

	if (mkdir(dir, 0700) && errno != EEXIST)
		return -errno;
	if (snprintf(path, sizeof(path), "%s/%s", dir, name) >= (int)sizeof(path) ||
	    snprintf(temporary, sizeof(temporary), "%s/.%.60s.XXXXXX", dir, name) >=
		(int)sizeof(temporary))
		return -ENAMETOOLONG;
	fd = mkostemp(temporary, O_CLOEXEC);
	if (fd < 0)
		return -errno;
	n = write(fd, data, size);
	if (n < 0)
		ret = -errno;
	else if ((size_t)n != size)
		ret = -ENOSPC;
	if (close(fd) && !ret)
		ret = -errno;
	if (!ret && rename(temporary, path))
		ret = -errno;
	if (ret)
		unlink(temporary);
	return ret;
}
