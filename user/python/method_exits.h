/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * method_exits.h - the instructions at which a C function is over, with the stack pointer as it was
 * at the function's first instruction.
 *
 * Such an instruction is a ret, or a jump to another function that ends in this one's place. That
 * one's own exits are this one's then, unless it only makes an object or sets an exception
 * (PyLong_FromLong, PyErr_Format): there the jump is the end.
 *
 * No return probe is needed, so none is lost where many are nested, and none kills a process that
 * switches stacks (greenlet): the kernel keeps what a return probe replaces on a stack of its own.
 * Nor one that throws a C++ exception: no unwinder gets past what a return probe puts on the stack.
 *
 * Pure. Life cycle: method_exits_add() .. -> use -> method_exits_release().
 */
#ifndef PT_PYTHON_METHOD_EXITS_H
#define PT_PYTHON_METHOD_EXITS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "python/decode.h"
#include "target/ehframe.h"
#include "target/elf.h"

/* Of functions of one file. */
struct method_exits {
	uint64_t *vaddrs; /* each once in what one call has added */
	size_t count, room;
	/* the functions that only make an object or set an exception, once they were asked for */
	uint64_t *shorts;
	size_t short_count, short_room;
	bool shorts_known;
};

struct method_code {
	const struct elf_file *elf;
	const struct eh_ranges *eh;
	struct mc_decoder *decoder;
	/* A jump to a function of another file, or to one that only a pointer tells, is an exit;
	 * else it is a reason to refuse. */
	bool jumps_are_exits;
};

/* Appends the exits of the function at meth. -ENOTSUP: not all can be told, *reason says why, and
 * nothing was added; -ENOMEM. lowest: the lowest place near its start that the code seen jumps to,
 * 0: none. */
int method_exits_add(const struct method_code *code, uint64_t meth, struct method_exits *exits,
		     uint64_t *lowest, const char **reason);
void method_exits_release(struct method_exits *exits);

#endif
