/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * process.h - finds processes and what they map, through /proc.
 *
 * Everything is read from the host's view; paths are opened through /proc/PID/root or
 * /proc/PID/map_files so that a process in another mount namespace gives its own files. A process
 * may end at any moment and its pid be used again: what is returned was true of one process when it
 * was read, and whoever acts on it later must hold a pidfd.
 *
 * Life cycle: pt_process_open() -> use -> pt_process_free(). Finding the interpreter reads the
 * symbol tables of the files a process maps; the cache remembers the verdict by device and inode,
 * so keep one where many processes are looked at.
 */
#ifndef PT_TARGET_PROCESS_H
#define PT_TARGET_PROCESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

/* One file that a process maps executable. */
struct pt_module {
	char *path;          /* as the process sees it */
	char *open_path;     /* opens the same file from here (/proc/PID/map_files/..) */
	uint64_t dev, inode; /* as /proc/PID/maps shows them */
	uint64_t start, end; /* of the executable mapping */
	uint64_t file_offset;
	bool deleted; /* the file was replaced or removed after it was mapped */
};

/* Another executable mapping of a module's file: BOLT makes two, for what it moved and what not. */
struct pt_module_part {
	size_t module; /* index */
	uint64_t start, end;
	uint64_t file_offset;
};

struct pt_process {
	pid_t pid, ppid;
	pid_t ns_pid; /* in its innermost pid namespace; == pid where there is none */
	uid_t uid;
	char comm[16];
	char *cmdline; /* arguments separated by a space, for people */
	size_t module_count;
	struct pt_module *modules;
	size_t part_count;
	struct pt_module_part *parts;
	/* the module that holds _PyEval_EvalFrameDefault, or -1 */
	int interpreter;
	int unreadable; /* a module called python whose file we may not read, or -1 */
	bool other_mount_ns, other_pid_ns;
	bool other_root; /* chroot: paths mean something else there */
	bool is_32bit;
	bool has_ended;     /* it, or its main thread: it waits for its parent, and maps nothing */
	bool is_musl;       /* its C library is musl */
	bool exe_is_loader; /* started as "ld.so program": /proc/PID/exe is the dynamic loader */
};

/* Which files hold a CPython. One thread at a time. */
struct pt_file_cache;

/* -ESRCH no such process, -EACCES not permitted; err says what to do. */
int pt_process_open(pid_t pid, struct pt_process **process, struct pt_err *err);
/* The same with a cache (may be NULL). */
int pt_process_open_cached(pid_t pid, struct pt_file_cache *cache, struct pt_process **process,
			   struct pt_err *err);
void pt_process_free(struct pt_process *process);

/* Which address space a process has, and how many pages of it are code (mm_struct.start_stack and
 * .exec_vm, but for the page of uprobes): while both stay the same, so do its modules. -ESRCH, or
 * what /proc says. */
struct pt_code_identity {
	uint64_t start_stack, exec_pages;
};
int pt_process_code(pid_t pid, struct pt_code_identity *identity);
/* Half of it, for little: it is another after an exec. */
int pt_process_start_stack(pid_t pid, uint64_t *start_stack);

/* The CPU time that all its threads have used; 0: it has ended. Costs less than a look into /proc.
 */
uint64_t pt_process_cpu_ns(pid_t pid);

/* Where the module's file address 0 lies (start - p_vaddr), or 0 if it cannot be told. */
uint64_t pt_module_bias(const struct pt_module *module);

/* Calls fn for each process that maps a CPython; stops when fn returns non-zero and returns that.
 * Processes that end meanwhile or may not be looked at are passed over. cache may be NULL. */
int pt_process_each_python(struct pt_file_cache *cache,
			   int (*fn)(const struct pt_process *process, void *ctx), void *ctx,
			   struct pt_err *err);
struct pt_file_cache *pt_file_cache_new(void);
void pt_file_cache_free(struct pt_file_cache *cache);

/* pids that map this file executable, other than those in except[]; returns the count, or -errno.
 */
int pt_process_mapping_file(uint64_t dev, uint64_t inode, const pid_t *except, size_t except_count,
			    pid_t **pids);
/* Does the process map this file executable? */
bool pt_process_maps(pid_t pid, uint64_t dev, uint64_t inode);

#endif
