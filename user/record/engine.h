/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * engine.h - which processes can be traced, and by which engine. Stateless.
 */
#ifndef PT_RECORD_ENGINE_H
#define PT_RECORD_ENGINE_H

#include <stddef.h>

#include "base/err.h"
#include "python/image.h"
#include "target/process.h"

enum pt_engine_wish {
	PT_ENGINE_AUTO,
	PT_ENGINE_USDT,
	PT_ENGINE_FRAME,
	PT_ENGINE_SAMPLE,
	PT_ENGINE_HYBRID, /* of Python samples, and beside them all that has probes of its own */
};

const char *pt_engine_name(enum py_engine engine);
/* Of what is wished for and what an image has: the hybrid is PY_ENGINE_SAMPLE with more in its
 * plan. */
const char *pt_engine_wish_name(enum pt_engine_wish wish, enum py_engine engine);

/* -ENOTSUP and err: no engine, or not the one that was asked for. why says in a few words why this
 * one was taken, and what spoke against the other. */
int pt_engine_choose(const struct py_image *image, enum pt_engine_wish wish, enum py_engine *engine,
		     char *why, size_t why_size, struct pt_err *err);

/* -ESRCH not Python, -ENOTSUP 32-bit or musl: what can be told without reading the interpreter. */
int pt_process_check(const struct pt_process *process, struct pt_err *err);

#endif
