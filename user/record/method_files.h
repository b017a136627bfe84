/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * method_files.h - files whose C functions are to be probed at themselves (--c-functions LIST), and
 * whether that is possible for an interpreter.
 *
 * It is if what the list asks for is known ahead: in the interpreter's file, in the extension
 * modules of its standard library, mapped or not, and in what the process maps now. Else calls are
 * probed where Python makes them, which serves whatever is called.
 *
 * Where each glob is that of a set and begins with a module's whole name, other modules' files are
 * not looked at: "time.sleep" can be in the interpreter's file and in time.*.so.
 *
 * Each file is looked at once. No BPF here; --dry-run and check use it too. Life cycle:
 * method_files_new() -> method_files_each(), method_files_choose() -> method_files_free().
 */
#ifndef PT_RECORD_METHOD_FILES_H
#define PT_RECORD_METHOD_FILES_H

#include "python/method_sites.h"
#include "record/images.h"
#include "target/process.h"

struct method_file {
	char *path;                          /* as a process saw it */
	uint64_t dev, inode, size, mtime_ns; /* as stat(2) says */
	struct py_method_sites sites;
	size_t functions; /* that the file has, asked for or not */
	/* for methods.c */
	bool numbered; /* BPF knows its functions, from this number on: */
	uint32_t first;
	bool refused; /* it could not be attached to, and that was said */
	bool for_all; /* it has probes for every process */
	pid_t *pids;  /* else these have them */
	size_t pid_count;
};

struct method_files;

struct method_files_options {
	const char *const *globs;
	const char *const *named; /* of these, what the user gave; the others are those of a set */
	unsigned int emulated;    /* set of 1u << enum py_insn_class */
	const char *cache_dir;    /* may be NULL */
	bool only;                /* what cannot be probed at itself is not recorded at all */
};

/* Borrows what options point to. NULL: no memory. */
struct method_files *method_files_new(const struct method_files_options *options);
void method_files_free(struct method_files *files);
size_t method_files_count(const struct method_files *files);
struct method_file *method_files_at(const struct method_files *files, size_t i);

/* Calls fn for each file that the process maps or may load from its standard library and that has
 * functions that are asked for; open_path opens it, until the process has ended. Stops when fn
 * returns non-zero, and returns that; -ENOMEM. */
int method_files_each(struct method_files *files, const struct pt_process *process,
		      const struct py_image *image,
		      int (*fn)(struct method_file *file, const char *open_path, void *ctx),
		      void *ctx);

/* Sets image->c_methods and c_why, once. -ENOMEM. */
int method_files_choose(struct method_files *files, const struct pt_process *process,
			struct pt_traced_image *image);

#endif
