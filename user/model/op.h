/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * op.h - trace ops: all that a sink ever sees.
 *
 * Invariants that the model keeps and sinks rely on:
 *  - a track is a thread, or has a number from PT_TRACK_TID on;
 *  - times are CLOCK_MONOTONIC nanoseconds; within a track they nest exactly: two slices are
 *    disjoint or one contains the other, and no two boundaries of one track are equal;
 *  - a slice op comes when the slice ends, so inner slices come before outer ones;
 *  - process and thread ops come before the first slice that names them;
 *  - strings are valid UTF-8, borrowed for the call;
 *  - sample ops are for what adds up; who shows time shows the spans that were made of them;
 *  - memory ops are for who asks for them (pt_model_options.memory); most sinks see none.
 */
#ifndef PT_MODEL_OP_H
#define PT_MODEL_OP_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum pt_op_kind {
	PT_OP_PROCESS,  /* a process image becomes known, or its name, parent or rank changes */
	PT_OP_THREAD,   /* a thread becomes known, or its name changes */
	PT_OP_FUNCTION, /* a code object, before the first slice of it */
	PT_OP_STACK,    /* where something was called, before the first span that was */
	PT_OP_SLICE,    /* a call, complete */
	PT_OP_SPAN,     /* a slice that is no Python call, complete */
	PT_OP_STATE,    /* what a thread was for some time: running, runnable, blocked */
	PT_OP_RANGE,    /* likewise, but it need not nest with calls */
	PT_OP_INSTANT,
	PT_OP_COUNTER,
	PT_OP_FLOW,      /* one thing leads to another, perhaps on another track: a fork, a task */
	PT_OP_GPU_BOUND, /* a GPU worked at some time between begin and end, as the host knows */
	PT_OP_MEMORY,    /* CUDA memory was allocated or freed, or is still there at the end */
	PT_OP_SAMPLE,    /* what a thread ran when the clock ticked, or where it was blocked;
			    spans show the same */
	PT_OP_LOSS,      /* events of a thread are missing between begin and end */
	PT_OP_CLEAR, /* all ops so far are to be forgotten; what is needed again is sent again */
};

/* pt_op_slice.flags */
#define PT_SLICE_OPEN_AT_START 0x1  /* was running when the recording of the thread began */
#define PT_SLICE_OPEN_AT_END   0x2  /* still running when it ended */
#define PT_SLICE_AFTER_LOSS    0x4  /* its real start lies within a loss */
#define PT_SLICE_INTO_LOSS     0x8  /* its real end lies within a loss */
#define PT_SLICE_AFTER_PAUSE   0x10 /* its real start lies within a pause; it begins at its end */
#define PT_SLICE_INTO_PAUSE    0x20 /* its real end lies within a pause; it ends at its start */

/* Which process of a distributed job it is. */
struct pt_op_rank {
	int32_t rank, world_size; /* world_size 0: not known */
	bool from_nccl;           /* of its largest communicator, else of its environment */
};

struct pt_op_process {
	pid_t pid, ns_pid, parent_pid;
	uint32_t image_id;
	uint64_t time_ns;
	const char *name, *cmdline; /* cmdline may be NULL */
	struct pt_op_rank rank;
};

/* Tracks that are no threads have numbers from here on, each one used once in a trace. pid_max is
 * at most 4 Mi (include/linux/threads.h). */
#define PT_TRACK_TID (1 << 30)

struct pt_op_thread {
	pid_t pid, tid;
	pid_t beside; /* of a track: the thread that it is shown with, or 0 */
	uint64_t time_ns;
	const char *name; /* of a thread its comm; of another track all of its name */
};

struct pt_function { /* owned by the model, lives as long as it; compare by id */
	uint32_t id; /* dense, from 0 */
	uint32_t code_id;
	uint32_t line;
	/* qualname falls back to name; never NULL. A C function has no file (""), line 0, and the
	 * qualname that repr() shows, but for the address: <built-in function sorted>, <built-in
	 * method append of list object> */
	const char *name, *qualname, *file;
};

struct pt_arg { /* text NULL: a number */
	const char *key, *text;
	int64_t number;
};

/* Of a call, as repr() would show them, but for what only code of the program could tell. */
struct pt_values {
	const struct pt_arg *args, *locals;
	uint32_t arg_count, local_count;
	const char *result; /* NULL: none, or nobody asked */
};

struct pt_op_slice {
	pid_t pid, tid;
	const struct pt_function *function;
	uint64_t begin_ns, end_ns;
	uint64_t id, parent_id; /* of the call, unique in the trace, from 1; parent 0: none. Within
				   a thread, callers have smaller ids than what they call */
	uint32_t depth;         /* visible callers + 1 */
	uint32_t flags;
	uint32_t call_line; /* of the call within the slice around it; 0 unknown */
	const struct pt_function *call_function; /* that slice's; NULL if call_line is 0 */
	const struct pt_values *values;          /* NULL: none */
};

/* What a thread did that is no Python call: a garbage collection, a wait, an import. It lies on the
 * thread's track and nests with its calls. */
struct pt_op_span {
	pid_t pid, tid;
	uint64_t begin_ns, end_ns;
	const char *category, *name;
	const struct pt_function
	    *function; /* with the category PT_SAMPLE_CATEGORY: instead of a name */
	const struct pt_arg *args;
	uint32_t arg_count;
	uint32_t flags;    /* PT_SLICE_* */
	uint32_t stack_id; /* of a PT_OP_STACK; 0: none */
	/* Of a step of a task ("asyncio_step"): its coroutine, and when the task began its first
	 * step, or the first one that was seen. */
	const struct pt_function *task;
	uint64_t task_begin_ns;
};

/* Spans that were put together of samples: from the sample before the first one that has the
 * function at this place of the stack to the last one. Their arguments say how many samples have
 * it, and in how many of these nothing was called below. */
#define PT_SAMPLE_CATEGORY    "python_sample"
#define PT_SAMPLE_ARG         "samples"
#define PT_SAMPLE_ARG_SELF    "self samples"
/* Text, in which lines of the function the latter were, as far as is known: "12: 30, 14: 5". */
#define PT_SAMPLE_ARG_LINES   "self lines"
#define PT_SAMPLE_ARG_WHOM    "inside of itself" /* a span of the same function lies around it */
/* In how much of it the thread was blocked; only where it was (--off-cpu). */
#define PT_SAMPLE_ARG_BLOCKED "blocked ns"
#define PT_SAMPLE_ARG_WAITED  "self blocked ns" /* and had called nothing */
/* Spans of blocked time, within those: measured, but for where there are none around it. */
#define PT_OFF_CPU_CATEGORY   "off_cpu"

enum pt_stack_frame_kind {
	PT_STACK_PYTHON, /* name: qualname; file and line: where it stands, line 0 unknown */
	PT_STACK_NATIVE, /* name: the function, or "FILE+0x.." ; file: that holds its code */
	PT_STACK_GAP,    /* name says what is missing here; no file */
	PT_STACK_ORIGIN, /* name says what the frame before it was generated from; no file */
};

struct pt_stack_frame {
	enum pt_stack_frame_kind kind;
	const char *name, *file; /* never NULL */
	uint32_t line;
};

/* Innermost frame first. */
struct pt_op_stack {
	pid_t pid;
	uint32_t id; /* unique in the trace, from 1 */
	uint32_t frame_count;
	const struct pt_stack_frame *frames;
};

enum pt_state {
	PT_STATE_RUNNING,
	PT_STATE_RUNNABLE,
	PT_STATE_BLOCKED,
	PT_STATE_LOST, /* records are missing: it may have been any of these */
	PT_STATE_COUNT
};

/* The states of a thread come in order and do not overlap. They do not nest with its calls. */
struct pt_op_state {
	pid_t pid, tid;
	uint64_t begin_ns, end_ns;
	enum pt_state state;
	const char *name; /* the state, and the reason if it is blocked: "blocked: futex" */
	const struct pt_arg *args;
	uint32_t arg_count;
};

/* What a thread began and ended, at places of its choice. Those of one track of one thread nest. */
struct pt_op_range {
	pid_t pid, tid;
	uint64_t begin_ns, end_ns, track;
	const char *category, *name;
	const struct pt_arg *args;
	uint32_t arg_count;
	uint32_t flags;    /* PT_SLICE_* */
	uint32_t stack_id; /* of a PT_OP_STACK, where it began; 0: none */
};

struct pt_op_instant {
	pid_t pid, tid;
	uint64_t time_ns;
	const char *name, *category, *detail; /* detail may be NULL */
	const struct pt_arg *args;
	uint32_t arg_count;
	uint32_t stack_id; /* of a PT_OP_STACK; 0: none */
};

struct pt_op_counter {
	pid_t pid;
	uint64_t time_ns;
	const char *name, *series;
	double value;
};

/* Both ends lie within slices of their tracks. */
struct pt_op_flow {
	struct pt_op_flow_end {
		pid_t pid, tid;
		uint64_t time_ns;
	} from, to;
	uint64_t id; /* unique in the trace, from 1 */
	const char *category, *name;
};

/* From a call to the bound that it is in; time_ns lies within both slices. */
struct pt_gpu_link {
	pid_t tid;            /* of the call's slice */
	uint64_t time_ns, id; /* the call's correlation id */
};

/* Not measured: from the first call that put work into a stream to the return of the one that says
 * that it is done. The bounds of one track do not overlap. */
struct pt_op_gpu_bound {
	pid_t pid, tid;         /* of the program; tid: the track's number, from PT_TRACK_TID on */
	int device;             /* -1: not known */
	const char *track_name; /* the same for all of the track */
	uint64_t begin_ns, end_ns;
	const char *category, *name;
	const struct pt_arg *args;
	const struct pt_gpu_link *links;
	uint32_t arg_count, link_count;
	uint32_t flags; /* PT_SLICE_* */
};

/* A frame, and its callers. Each distinct stack is there once, for as long as the model. */
struct pt_stack {
	const struct pt_stack *caller; /* NULL: the outermost */
	/* PT_STACK_NATIVE: name, and in file that of its code; PT_STACK_GAP: the name says it */
	const struct pt_function *function;
	enum pt_stack_frame_kind kind;
	uint32_t line; /* where it stands: at the call of the next inner frame; 0 unknown */
	uint32_t id;   /* dense, from 1 */
};

enum pt_memory_action {
	PT_MEMORY_ALLOC,
	PT_MEMORY_FREE,
	PT_MEMORY_LIVE, /* at the end of the recording: still allocated */
};

/* These come in order of time in each process, later than other ops of that time. */
struct pt_op_memory {
	pid_t pid, tid; /* tid 0: a device's memory was freed as a whole, or a free was not seen */
	uint64_t time_ns;
	enum pt_memory_action action;
	const char *kind;                /* "device", "managed", "pool" .. */
	bool host;                       /* it is memory of the host */
	bool within;                     /* it is a part of what was allocated otherwise */
	int device;                      /* -1 unknown, or none */
	uint64_t address, bytes, stream; /* address: or a handle */
	/* The address, or for what has a handle a number of its own. What is allocated at the same
	 * time lies in different bytes from here on, but for what lies within something. */
	uint64_t place;
	const struct pt_stack *stack; /* of the call; NULL: none is known */
};

/* Functions innermost first; what is no function (no Python code; frames that are missing; why a
 * thread is blocked) is one without a file, named in brackets. Never empty. They have been
 * announced. */
struct pt_op_sample {
	pid_t pid, tid;
	uint64_t time_ns;
	uint64_t period_ns;  /* of CPU time, that it stands for; 0: it was blocked .. */
	uint64_t blocked_ns; /* .. for so long, until time_ns */
	bool beside;         /* blocked time is recorded, so that CPU time is not all there is */
	const struct pt_function *const *functions; /* innermost first */
	const uint32_t *lines; /* of each: where it stands, or where its call does; 0: unknown */
	uint32_t function_count;
	bool complete; /* no frame is missing */
};

struct pt_op_loss {
	pid_t pid, tid;
	uint64_t begin_ns, end_ns;
	uint64_t events;
};

struct pt_op {
	enum pt_op_kind kind;
	union {
		struct pt_op_process process;
		struct pt_op_thread thread;
		struct pt_function function;
		struct pt_op_slice slice;
		struct pt_op_span span;
		struct pt_op_stack stack;
		struct pt_op_state state;
		struct pt_op_range range;
		struct pt_op_instant instant;
		struct pt_op_counter counter;
		struct pt_op_flow flow;
		struct pt_op_gpu_bound gpu_bound;
		struct pt_op_memory memory;
		struct pt_op_sample sample;
		struct pt_op_loss loss;
	};
};

/* What is known only at the end. */
struct pt_totals {
	uint64_t events, lost_events, lost_records, bad_records;
	uint64_t slices, threads, processes, functions;
	uint64_t spans, instants; /* of the runtime: what is no Python call */
	uint64_t first_ns, last_ns;
	bool cut_short;         /* the capture ended in the middle */
	bool of_all_files;      /* set by a sink: this document is one of several */
	uint64_t stack_jumps;   /* stacks replaced by a snapshot though nothing was lost */
	uint64_t unknown_codes; /* code objects whose definition never came */
	uint64_t pauses, paused_ns;
	uint64_t unnamed_kernels; /* calls of CUDA functions that have a kernel of unknown name */
	uint64_t gpu_bounds;      /* work of GPUs that has bounds */
	uint64_t gpu_unbounded;   /* and that of which they are not known */
	uint64_t states, lost_states;         /* of threads; records that are missing */
	uint64_t samples, samples_incomplete; /* the latter of these: frames are missing */
	uint64_t blocks, blocks_incomplete;   /* likewise: threads were blocked */
	uint64_t left_out;                    /* older entries, by --tracer-entries */
	uint64_t cuda_left_out; /* calls shorter than pt_model_options.min_duration_ns */
	uint64_t captures, captures_failed; /* of a flight recorder */
	bool open_left_out; /* calls that were still running at the end are not there */
};

#endif
