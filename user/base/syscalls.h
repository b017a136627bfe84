/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/* syscalls.h - names of system calls. */
#ifndef PT_BASE_SYSCALLS_H
#define PT_BASE_SYSCALLS_H

/* Of an x86-64 system call, or NULL if it is not known. Pure. */
const char *pt_syscall_name(long number);

#endif
