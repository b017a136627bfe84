/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * memory.h - reads another process's memory without stopping it (process_vm_readv).
 *
 * What comes back is hostile and may be torn: the process runs on meanwhile. Addresses may be
 * anything; a read never faults here. Needs the rights of ptrace (CAP_SYS_PTRACE or the same user).
 */
#ifndef PT_TARGET_MEMORY_H
#define PT_TARGET_MEMORY_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* All size bytes, or an error: -EFAULT (not all mapped), -ESRCH, -EPERM. */
int pt_memory_read(pid_t pid, uint64_t addr, void *data, size_t size);
/* As many bytes as are mapped from addr on, at most size; -EFAULT if not one is. */
ssize_t pt_memory_read_some(pid_t pid, uint64_t addr, void *data, size_t size);
int pt_memory_read_ptr(pid_t pid, uint64_t addr, uint64_t *value);

#endif
