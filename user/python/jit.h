/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * jit.h - is the JIT (or the tier 2 interpreter below it) on in a process?
 *
 * Frames that JIT code pushes and pops never pass the evaluation loop's counter sites, so a process
 * that runs with the JIT on would be traced wrongly without anybody noticing; it is refused
 * instead. From 3.14 on each interpreter says so itself (PyInterpreterState.jit), and where that
 * field lies is read off sys._jit.is_enabled(), which does nothing but return it. 3.13 has no such
 * field: there and before the interpreter has read it, the process's environment decides.
 *
 * py_jit_find() is part of py_image_load(); the rest reads a process and keeps nothing. The file
 * and the process are hostile input: every read may fail, every chain is bounded.
 */
#ifndef PT_PYTHON_JIT_H
#define PT_PYTHON_JIT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "python/image.h"
#include "target/elf.h"

enum py_jit_state {
	PY_JIT_NONE, /* the file was built without one */
	PY_JIT_OFF,
	PY_JIT_ON,
	PY_JIT_UNKNOWN, /* what the build does by default could not be found out */
};

/* Fills image->jit of an image whose version and runtime are known. Finding nothing is no error
 * (image->jit.interp_jit is PY_JIT_NO_FIELD then). -ENOMEM. */
int py_jit_find(struct py_image *image, const struct elf_file *elf);

/* starting: the process may not have got as far as deciding; then its environment counts as well.
 * bias: where the image's vaddr 0 lies in the process. */
enum py_jit_state py_jit_state(pid_t pid, const struct py_image *image, uint64_t bias,
			       bool starting);
/* What the interpreters of the process say, and nothing else: cheap enough to ask again and again.
 * False also if they do not say. */
bool py_jit_is_on(pid_t pid, const struct py_image *image, uint64_t bias);
/* Says that the process is not traced for its JIT; returns -ENOTSUP. */
int py_jit_refuse(pid_t pid, const struct py_image *image, struct pt_err *err);

/* Does an environment as in /proc/PID/environ (entries that end in NUL) turn the JIT on (1) or off
 * (0)? -1: it says nothing. */
int py_jit_environment(const char *text, size_t size, uint32_t version);

#endif
