// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
#include "target/memory.h"

#include <errno.h>
#include <sys/uio.h>

#define PAGE_BYTES 4096u

static ssize_t read_once(pid_t pid, uint64_t addr, void *data, size_t size)
{
	struct iovec local = {.iov_base = data, .iov_len = size};
	struct iovec remote = {.iov_base = (void *)(uintptr_t)addr, .iov_len = size};
	ssize_t got;

	if (size == 0)
		return 0;
	if (addr + size < addr)
		return -EFAULT;
	got = process_vm_readv(pid, &local, 1, &remote, 1, 0);
	if (got < 0)
		return -errno;
	return got;
}

int pt_memory_read(pid_t pid, uint64_t addr, void *data, size_t size)
{
	ssize_t got = read_once(pid, addr, data, size);

	if (got < 0)
		return (int)got;
	return (size_t)got == size ? 0 : -EFAULT;
}

ssize_t pt_memory_read_some(pid_t pid, uint64_t addr, void *data, size_t size)
{
	size_t total = 0;

	/* The kernel may give all or nothing for one iovec that crosses into an unmapped page, so
	 * a short read is finished page by page. */
	while (total < size) {
		size_t left = size - total;
		ssize_t got = read_once(pid, addr + total, (char *)data + total, left);

		if (got <= 0) {
			size_t to_page_end = PAGE_BYTES - (addr + total) % PAGE_BYTES;

			if (got == -EFAULT && to_page_end < left)
				got = read_once(pid, addr + total, (char *)data + total,
						to_page_end);
			if (got <= 0)
				return total ? (ssize_t)total : got < 0 ? got : -EFAULT;
		}
		total += (size_t)got;
	}
	return (ssize_t)total;
}

int pt_memory_read_ptr(pid_t pid, uint64_t addr, uint64_t *value)
{
	return pt_memory_read(pid, addr, value, sizeof(*value));
}
