// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
#include "target/vdso.h"

#include <elf.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <unistd.h>

#include "target/maps.h"
#include "target/memory.h"

#define VDSO_MAX_BYTES (1u << 16) /* it has two pages (arch/x86/entry/vdso, Linux 6.18) */
#define AUXV_MAX_BYTES 4096

/* Copies len bytes into a new file in memory. */
static int keep(const char *bytes, size_t len)
{
	int fd = memfd_create("vdso", MFD_CLOEXEC);
	ssize_t written = fd < 0 ? -1 : write(fd, bytes, len);
	int error = written < 0 ? errno : EIO;

	if (written == (ssize_t)len)
		return fd;
	if (fd >= 0)
		close(fd);
	return -error;
}

int vdso_open(size_t *size)
{
	uint64_t at = getauxval(AT_SYSINFO_EHDR);
	char *bytes = at ? malloc(VDSO_MAX_BYTES) : NULL;
	ssize_t len;
	int fd;

	if (!bytes)
		return at ? -ENOMEM : -ENOENT;
	/* not beyond the mapping, whose size nothing says */
	len = pt_memory_read_some(getpid(), at, bytes, VDSO_MAX_BYTES);
	if (len <= 0 || memcmp(bytes, ELFMAG, SELFMAG) != 0) {
		free(bytes);
		return -ENOENT;
	}
	fd = keep(bytes, (size_t)len);
	free(bytes);
	*size = (size_t)len;
	return fd;
}

uint64_t vdso_address(pid_t pid)
{
	char path[32], *text = NULL;
	uint64_t entry[2], at = 0;
	size_t size = 0;

	snprintf(path, sizeof(path), "/proc/%d/auxv", pid);
	if (pt_proc_read(path, AUXV_MAX_BYTES, &text, &size))
		return 0;
	for (size_t i = 0; !at && i + sizeof(entry) <= size; i += sizeof(entry)) {
		memcpy(entry, text + i, sizeof(entry));
		if (entry[0] == AT_SYSINFO_EHDR)
			at = entry[1];
	}
	free(text);
	return at;
}
