/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * memory_parts.h - what the files of CUDA memory share; nobody else includes it.
 *
 * memory.c takes what happened in order of time, memory_blocks.c knows the blocks by it,
 * memory_table.c where they are, memory_show.c tells sinks.
 */
#ifndef PT_MODEL_MEMORY_PARTS_H
#define PT_MODEL_MEMORY_PARTS_H

#include "base/heap.h"
#include "model/memory_priv.h"

#define CATEGORY "cuda_memory"

/* Beside those of enum pt_cuda_memory_space, in the table: */
#define SPACE_PENDING 100 /* the address is the number of a call */
#define SPACE_FREED   200 /* + the space that it was in */
#define SPACE_ASKED   300 /* likewise: a free of it is under way */

struct memory_entry {
	struct memory_entry *next;
	const struct model_process *process;
	uint64_t address;
	unsigned int space;
};

struct memory_usage {
	struct memory_usage *next;
	enum pt_cuda_memory_kind kind;
	int device;
	uint64_t bytes, most, blocks;
};

struct memory_block {
	struct memory_entry entry;         /* in the table while refs > 0 */
	struct memory_block *next, **link; /* of its process's; NULL: a mapping, a stream */
	struct memory_process *owner;
	struct memory_usage *usage; /* NULL: it does not count: another process's */
	uint64_t bytes, stream, place;
	unsigned int refs, maps;
	unsigned int asks;               /* frees of it that are under way */
	struct memory_pending *asked_by; /* the one that took the last reference */
	struct memory_block *of;         /* a mapping's memory; NULL: not known */
	const struct pt_stack *stack;
	int device; /* that was the thread's; of a stream, its own */
	bool at_least;
};

/* A free under way. */
struct memory_pending {
	struct memory_entry entry;
	struct memory_block *block;
	bool was_freed;
	bool proved; /* it has happened, though it has not returned */
	pid_t tid;
	const struct pt_stack *stack;
};

struct memory_freed {
	struct memory_entry entry;
	bool used;
};

struct memory_counts {
	uint64_t allocations, frees, failed_allocations, failed_frees;
	uint64_t unknown_frees, double_frees;
	uint64_t unseen_frees; /* an address was given out again */
	uint64_t cut;          /* calls of which it is not known what they did */
	uint64_t reset_frees, unknown_resets;
};

struct memory_process {
	struct model_process *process;
	struct memory_process *next;
	struct memory_block *blocks;
	struct memory_usage *usages, **usages_tail;
	struct memory_counts counts;
	size_t block_count;
	bool told; /* what it has left */
};

struct model_memory {
	struct memory_stacks stacks;
	struct pt_heap waiting;
	uint64_t next_call, next_place;
	uint64_t taken_ns; /* the newest event that was taken */
	uint64_t late;     /* events that came when newer ones had been taken */
	uint64_t shown_clear_ns;

	struct memory_entry **table;
	size_t table_count, table_size; /* a power of two */
	uint64_t seed;
	struct memory_freed *freed;
	size_t freed_next;

	struct pt_map by_process; /* (pid, image) */
	struct memory_process *processes, **processes_tail;
};

/* ---- memory_table.c ---- */

void *model_memory_table_find(const struct model_memory *memory,
			      const struct model_process *process, unsigned int space,
			      uint64_t address);
void model_memory_table_remove(struct model_memory *memory, const struct memory_entry *entry);
int model_memory_table_resize(struct model_memory *memory, size_t size);
/* The key must not be in the table. */
void model_memory_table_add(struct pt_model *model, struct memory_entry *entry);

/* ---- memory_blocks.c ---- */

void model_memory_allocated(struct pt_model *model, struct memory_process *own,
			    const struct memory_event *event);
void model_memory_free_asked(struct pt_model *model, const struct memory_event *event);
void model_memory_free_done(struct pt_model *model, struct memory_process *own,
			    const struct memory_event *event);
/* All of a device's memory, but what is no context's. */
void model_memory_device_reset(struct pt_model *model, struct memory_process *own,
			       const struct memory_event *event);
void model_memory_retained(struct pt_model *model, struct memory_process *own,
			   const struct memory_event *event);
void model_memory_mapped(struct pt_model *model, struct memory_process *own,
			 const struct memory_event *event);
/* A range of whole mappings. */
void model_memory_unmapped(struct pt_model *model, struct memory_process *own,
			   const struct memory_event *event);
void model_memory_stream_made(struct pt_model *model, struct memory_process *own,
			      const struct memory_event *event);
void model_memory_stream_gone(struct pt_model *model, const struct memory_event *event);

/* ---- memory_show.c ---- */

/* Behind a clear the tracks begin with what is there. */
void model_memory_show_after_clear(struct pt_model *model);
void model_memory_changed(struct pt_model *model, struct memory_process *own,
			  const struct memory_usage *usage, uint64_t ns);
void model_memory_emit_block(struct pt_model *model, const struct memory_block *block,
			     enum pt_memory_action action, pid_t tid, uint64_t ns,
			     const struct pt_stack *stack);
/* Something is wrong with a call. */
void model_memory_emit_instant(struct pt_model *model, const struct memory_event *event,
			       const char *name);
void model_memory_emit_left(struct pt_model *model, const struct memory_process *own, uint64_t ns);
void model_memory_emit_usages(struct pt_model *model, const struct memory_process *own,
			      uint64_t ns);
void model_memory_emit_counts(struct pt_model *model, const struct memory_process *own, bool ended,
			      uint64_t ns);

#endif
