/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * chrome_parts.h - what the files of the Chrome trace format share; nobody else includes it.
 *
 * chrome.c has functions and the slices of their calls, chrome_events.c all other events,
 * chrome_stacks.c the tree of frames, chrome_around.c what stands around the events.
 */
#ifndef PT_SINK_CHROME_PARTS_H
#define PT_SINK_CHROME_PARTS_H

#include "base/map.h"
#include "sink/format.h"
#include "sink/ranks.h"

#define CHROME_FLAGS 6
/* PT_SLICE_*, by bit */
extern const char *const chrome_flag_texts[CHROME_FLAGS];

struct chrome_text {
	char *data;
	size_t len;
};

struct chrome_function {
	struct chrome_text head; /* ,\n{..,"name":"..." */
	struct chrome_text call; /* "CallFrom":"FILE:, once it is wanted */
	const struct pt_source *source;
	char *file; /* NULL: no sources are wanted */
	uint32_t line;
	bool asked; /* for its source */
};

struct chrome_thread {
	pid_t pid, tid;
	struct chrome_text where; /* ,"pid":1,"tid":2,"ts": */
	bool has_states;          /* their track has its name; of a GPU's track: it has */
	struct chrome_thread *next;
};

/* A frame below its callers, of which several stacks have the outer ones in common. */
struct chrome_frame {
	uint32_t parent; /* a number, from 1; 0: it is the outermost */
	const char *category;
	char *name;
	uint32_t next_same_hash;
};

struct chrome {
	struct pt_destination *destination;
	struct pt_destination *own; /* while destination is a copy's; else NULL */
	enum pt_dialect dialect;
	pt_source_fn source;
	void *source_ctx;
	char process_name[256]; /* "": their own */
	char version[32];       /* of the tool */
	bool call_ids, any_event, own_any_event;
	struct pt_capture_info info;
	struct pt_ranks ranks;
	int head_error;                    /* of a head that comes with the first event */
	uint64_t base_ns;                  /* unix time */
	uint64_t mono_base;                /* CLOCK_MONOTONIC at base_ns, modulo 2^64 */
	struct chrome_function *functions; /* by id */
	uint32_t function_count;
	struct pt_map threads;
	struct chrome_thread *thread_list, *last;
	struct chrome_frame *frames; /* number 1 first */
	uint32_t frame_count, frame_room;
	struct pt_map frame_by_hash; /* (hash of the name, parent): the newest, as a number */
	uint32_t *stacks;            /* by id: the innermost frame's number */
	uint32_t stack_room;
};

/* ---- chrome.c ---- */

int chrome_put_buf(struct chrome *chrome, const struct pt_buf *buf);
/* What comes with the first event, since by then ranks are known. */
int chrome_put_head(struct chrome *chrome);
uint64_t chrome_since_base(const struct chrome *chrome, uint64_t mono_ns);
/* The name of a function's events, as JSON text. */
void chrome_add_name(const struct chrome *chrome, struct pt_buf *buf,
		     const struct pt_function *function);
struct chrome_thread *chrome_thread_get(struct chrome *chrome, pid_t pid, pid_t tid);
/* The first event of the document has no comma before it, but the head. */
const char *chrome_skip_comma(struct chrome *chrome, const char *text, size_t *len);

/* ---- chrome_events.c ---- */

int chrome_put_process(struct chrome *chrome, const struct pt_op_process *process);
int chrome_put_thread(struct chrome *chrome, const struct pt_op_thread *thread);
/* "args":{..} of what is rare: the flags of a slice, a detail, and the arguments. Without any of
 * these the comma before goes: speedscope would show "import json {}". */
void chrome_add_args(struct pt_buf *buf, uint32_t flags, const char *detail,
		     const struct pt_arg *args, uint32_t count);
/* A slice that is no call. */
int chrome_put_x(struct chrome *chrome, const struct pt_op_span *span);
int chrome_put_state(struct chrome *chrome, const struct pt_op_state *state);
/* "b" and "e" of one id nest among themselves; viewers show them on a track of their own. */
int chrome_put_range(struct chrome *chrome, const struct pt_op_range *range);
int chrome_put_flow(struct chrome *chrome, const struct pt_op_flow *flow);
/* "B" and "E", which viewers draw as they do "X", but readers that take what has a "dur" for
 * something measured pass over. */
int chrome_put_gpu_bound(struct chrome *chrome, const struct pt_op_gpu_bound *bound);
int chrome_put_instant(struct chrome *chrome, const struct pt_op_instant *instant);
int chrome_put_counter(struct chrome *chrome, const struct pt_op_counter *counter);
int chrome_put_loss(struct chrome *chrome, const struct pt_op_loss *loss);

/* ---- chrome_stacks.c ---- */

int chrome_add_stack(struct chrome *chrome, const struct pt_op_stack *stack);
void chrome_write_frames(const struct chrome *chrome, struct pt_buf *buf);
void chrome_add_stack_frame(const struct chrome *chrome, struct pt_buf *buf, uint32_t stack_id);

/* ---- chrome_around.c ---- */

void chrome_write_head(struct chrome *chrome, struct pt_buf *buf);
void chrome_extra(void *state, struct pt_buf *buf);
void chrome_tail(void *state, const char *path, const struct pt_totals *totals, bool extra,
		 struct pt_buf *tail);

#endif
