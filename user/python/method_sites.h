/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * method_sites.h - where to probe the chosen ones of a file's C functions: a place that is passed
 * once in each call, where the stack pointer and the first argument (self) are as at the call, and
 * the places at which they are over (method_exits.h).
 *
 * Pure.
 *
 * Life cycle: py_method_sites_find() -> use -> py_method_sites_release().
 */
#ifndef PT_PYTHON_METHOD_SITES_H
#define PT_PYTHON_METHOD_SITES_H

#include "python/image.h"
#include "python/method_defs.h"

struct py_method_site {
	/* One of the records with this function that were asked for; its strings: */
	struct py_method_def def;
	char *name, *owner;
	/* All names that the function has, that of def first: at its entry nothing tells by which
	 * one it was called. A lock's is "acquire|acquire_lock|__enter__". */
	char *names;
	struct py_site site; /* cookie is 0 */
};

struct py_method_sites {
	struct py_method_site *sites; /* by def.meth */
	size_t count;
	struct py_site *exits; /* of all of them, each once, by address; cookie is 0 */
	size_t exit_count;
	size_t refused;   /* asked for, but with no such places */
	char reason[256]; /* why the first of those */
	size_t elsewhere; /* asked for, but the function is another file's */
};

/* Is the record one that the patterns ask for? They are held against the name, OWNER.name, and for
 * methods also against the owner without its module: socket.recv is _socket.socket's. */
bool py_method_wanted(const struct py_method_def *def, const char *const *globs);

/* The same of any of the function's names. */
bool py_method_site_has(const struct py_method_site *site, const char *const *globs);

/* emulated: set of 1u << enum py_insn_class. -ENOMEM. */
int py_method_sites_find(const struct elf_file *elf, const struct py_method_defs *defs,
			 const char *const *globs, unsigned int emulated,
			 struct py_method_sites *result);
void py_method_sites_release(struct py_method_sites *sites);

#endif
