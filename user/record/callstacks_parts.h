/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * callstacks_parts.h - what callstacks.c and callstacks_merge.c share, and their unit test.
 */
#ifndef PT_RECORD_CALLSTACKS_PARTS_H
#define PT_RECORD_CALLSTACKS_PARTS_H

#include <linux/types.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "pt_abi.h"
#include "pt_maps.h"
#include "target/elf.h"
#include "target/process.h"
#include "target/symbols.h"
#include "target/unwind.h"

#define EVAL_PARTS_MAX   8
/* Of the names and paths of one record; frames behind that have none. */
#define PT_CALL_TEXT_MAX (2u << 20)

/* A file that a process maps executable. */
struct code_file {
	uint32_t number; /* from 1 */
	uint64_t dev, inode;
	char *path;
	int fd; /* kept, so that its inode stays its own; or -1 */

	/* of the thread that reads the ring buffer */
	bool loaded;
	struct elf_file *elf; /* NULL: it cannot be read */
	struct unwind_file *unwind;
	/* where _PyEval_EvalFrameDefault and the parts of it that were moved elsewhere lie */
	struct code_part {
		uint64_t start, end;
	} eval[EVAL_PARTS_MAX];
	unsigned int eval_count;
	bool eval_known;

	/* of the output's */
	bool named;
	struct elf_file *named_elf;
	struct symbols symbols;
};

struct code_map {
	struct code_file *file;
	uint64_t start, end, offset; /* of its first executable mapping */
};

/* What a process mapped at some time. */
struct code_look {
	uint64_t begin_ns, end_ns; /* CLOCK_MONOTONIC: while it was looked at */
	struct pt_code_identity identity;
	struct code_map *maps;
	size_t map_count;
};

/* Fills frames (PT_CALL_FRAMES_MAX) and returns their number; look NULL: what the process mapped is
 * not known. A native frame's code_id is its file's number. */
uint32_t callstacks_merge(const struct code_look *look, const struct pt_raw_stack *raw,
			  struct pt_call_frame *frames);

#endif
