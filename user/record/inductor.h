/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * inductor.h - what code that PyTorch's Inductor has generated was made from, in stacks (--stacks).
 *
 * A file of its cache has, above each launch of a kernel, a comment with the nodes of the compiled
 * function and the operators that the launch stands for. (It has no lines of the source: those are
 * in PyTorch's memory only.) Behind a frame that stands at such a launch comes one with that.
 */
#ifndef PT_RECORD_INDUCTOR_H
#define PT_RECORD_INDUCTOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "model/op.h"
#include "record/sources.h"

/* Is it called as files of Inductor's cache are: .../xy/cxy….py? */
bool pt_inductor_is_file(const char *path);
/* "[source nodes a, b; aten.mm]" for a line, from 1, of such a file. False: it is not known. */
bool pt_inductor_origin(const char *text, size_t bytes, uint32_t line, char *out, size_t size);
/* Hands a PT_OP_STACK on to next with those frames. -ENOMEM, or what next returned. */
int pt_inductor_stack(struct pt_sources *sources, const struct pt_op *op,
		      int (*next)(const struct pt_op *op, void *ctx), void *ctx);

#endif
