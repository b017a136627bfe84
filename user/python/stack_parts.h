/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * stack_parts.h - what py_stacks_read() is made of. For user/python/stack*.c alone.
 */
#ifndef PT_PYTHON_STACK_PARTS_H
#define PT_PYTHON_STACK_PARTS_H

#include "base/map.h"
#include "python/layout.h"
#include "python/stack.h"

/* Bounds on what a hostile or torn process can make us do. */
#define STACK_MAX_INTERPRETERS 4096
#define STACK_MAX_THREADS      65536
#define STACK_MAX_FRAMES       (1u << 16) /* of one thread, hidden ones included */
#define STACK_MAX_FRAMES_ALL   (1u << 19)
#define STACK_MAX_TEXT_BYTES   (64u << 20) /* names of all frames; there the stack ends */

/* The threads of a process: TIDs here and in the process's own pid namespace. */
struct tid_pair {
	pid_t ns_tid, tid;
};

struct tid_map { /* sorted by ns_tid */
	struct tid_pair *pairs;
	size_t count;
};

/* -ESRCH: no such process. */
int tid_map_load(struct tid_map *map, pid_t pid);
void tid_map_release(struct tid_map *map);
/* 0: no thread has that TID. */
pid_t tid_map_find(const struct tid_map *map, uint64_t ns_tid);

/* Code objects read so far, by address; the names are read once each. */
struct code_entry {
	struct py_code_text text;
	struct code_entry *next;
};

struct code_cache {
	struct pt_map by_addr; /* -> struct code_entry */
	struct code_entry *entries;
	size_t text_bytes; /* handed out */
};

/* Fills *text with copies that the caller owns (py_code_text_release); name and filename are set.
 * -EFAULT: there is no code object, or too much text. */
int code_cache_get(struct code_cache *cache, pid_t pid, const struct pt_layout *layout,
		   uint64_t code_addr, struct py_code_text *text);
void code_cache_release(struct code_cache *cache);
void py_code_text_release(struct py_code_text *text);

#endif
