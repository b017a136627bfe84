/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * memory_priv.h - what memory_calls.c (calls become events), memory_stacks.c (where they are made)
 * and memory.c (events in order of time become a state) share.
 */
#ifndef PT_MODEL_MEMORY_PRIV_H
#define PT_MODEL_MEMORY_PRIV_H

#include "cuda/memory.h"
#include "model/model_priv.h"

enum memory_event_type {
	EVENT_DONE,  /* a call has returned: what it did, by .what and .memory */
	EVENT_ASK,   /* a call frees: from now on the address may be given out again */
	EVENT_CUT,   /* that it returns will not be seen */
	EVENT_GONE,  /* the process has ended, or runs another image */
	EVENT_BLIND, /* a call that allocates or frees, whose arguments are not known */
};

/* An event happens when what it did can first be seen by another thread: an allocation when it
 * returns, a free when it is called. */
struct memory_event {
	uint64_t time_ns, order; /* a struct pt_heap_key */
	enum memory_event_type type;
	enum pt_cuda_memory_what what;
	struct pt_cuda_memory memory;
	struct model_process *process;
	pid_t tid;
	uint64_t call;    /* what an ASK, and its DONE or CUT, have in common */
	int device;       /* the thread's */
	int code;         /* DONE: what it returned; 0: it succeeded */
	unsigned int api; /* 0: it returns no code */
	const char *symbol;
	const struct pt_stack *stack;
};

/* ---- memory.c ---- */
/* The event is copied. */
void model_memory_push(struct pt_model *model, const struct memory_event *event);
uint64_t model_memory_next_call(struct pt_model *model);

/* ---- memory_stacks.c ---- */
struct memory_stacks {
	struct pt_map map;       /* (caller's id << 32 | line, function's address) */
	struct stack_node *list; /* all, to be freed */
	struct pt_map natives;   /* (hash of the name, hash of the file): functions of no Python */
	struct native_function *native_list;
	uint32_t count;
	uint64_t cut; /* stacks that are not whole: there are too many */
};

struct memory_stacks *model_memory_stacks(struct pt_model *model);
void model_memory_stacks_release(struct memory_stacks *stacks);
/* That of a call which is made now: as it was recorded (recorded may be NULL), else by the frames
 * that are open; NULL: not known. */
const struct pt_stack *model_memory_stack(struct pt_model *model, const struct model_thread *thread,
					  struct model_call_stack *recorded);

#endif
