/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * vdso.h - the kernel's code that each process maps, and that is no file. All 64-bit processes of a
 * machine have the same, at an address of their own, and so has this one.
 */
#ifndef PT_TARGET_VDSO_H
#define PT_TARGET_VDSO_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Our own as a file in memory, an ELF object; the caller closes it. *size: what is mapped of it.
 * -errno: there is none, or no memory. */
int vdso_open(size_t *size);
/* Where the process has it; 0: it has none, or has ended. */
uint64_t vdso_address(pid_t pid);

#endif
