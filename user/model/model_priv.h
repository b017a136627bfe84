/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * model_priv.h - the model's state, shared by its files:
 *   model.c      records, processes, the life of the model
 *   control.c    pauses, clearing, and copies of what is open
 *   thread.c     one thread's stack: its life, batches, losses
 *   thread_events.c, thread_snapshots.c, thread_pauses.c, thread_open.c  likewise: what events do,
 *                what is open, what ended unseen, what is told of it meanwhile
 *   function.c   code objects: names, filters
 *   runtime.c    what is no Python frame: garbage collections, waits, imports, exceptions
 *   lines.c      lines of calls
 *   sched.c      what the scheduler did with the threads
 *   values.c     arguments, variables and results of calls
 *   cuda.c       calls of CUDA functions
 *   kernel.c     names of CUDA kernels
 *   nccl.c       collectives and communicators
 *   memory.c     memory that CUDA functions allocate and free: what there is
 *   memory_blocks.c, memory_table.c, memory_show.c  likewise: its blocks, where they are, what
 * sinks see memory_calls.c  likewise: what calls did memory_stacks.c likewise: from where
 *   gpu_bounds.c  bounds of what GPUs did, from what the host saw
 *   gpu_streams.c, gpu_work.c, gpu_show.c, gpu_calls.c  likewise: what is before what, what calls
 *                 make a GPU do, what sinks see, what calls said
 *   call_stack.c stacks of calls
 *   mark.c       probes of the user's
 *   async.c      coroutines: tasks, and tracks of their own
 *   greenlet.c   several stacks in a thread
 *   sample.c     samples, and what is put together of them
 *   sample_lines.c  in which lines they lie
 */
#ifndef PT_MODEL_MODEL_PRIV_H
#define PT_MODEL_MODEL_PRIV_H

#include "base/map.h"
#include "base/utf8.h"
#include "cuda/streams.h"
#include "ingest/decode.h"
#include "model/model.h"

/* A function as sinks see it. Code objects with the same name, file and line share one. */
struct model_function {
	struct pt_function pub;
	bool announced;     /* PT_OP_FUNCTION went out */
	bool excluded;      /* by include_files / exclude_files */
	uint32_t tasks;     /* that began with it and were shown: they are numbered */
	uint32_t greenlets; /* likewise */
	struct model_function *next_same_hash, *next;
};

/* What a code id stands for; function is NULL until its definition comes. */
struct model_code {
	uint32_t id;
	struct model_function *function;
	struct model_lines *lines; /* NULL: no line table came */
	uint32_t co_flags;
	bool c_probed; /* PT_C_PROBED */
	struct model_code *next;
};

/* Something open on a thread's stack that is no Python frame. */
struct model_span {
	uint16_t what;                  /* enum pt_rt_what */
	bool scoped;                    /* ends with the frame that it lies on */
	bool cancelled;                 /* nothing is to be shown */
	uint32_t waits;                 /* PT_RT_GIL: timed waits in a row */
	struct pt_ev_rt begin, end;     /* end.what 0: it did not come */
	struct pt_rec_runtime *details; /* owned, or NULL */
	struct model_cuda_call *cuda;   /* owned; what is SPAN_CUDA then */
	struct model_call_stack *stack; /* of a PT_RT_MARK, or NULL */
};

/* model_span.what of a call of a CUDA function: no enum pt_rt_what */
#define SPAN_CUDA 0xffff

struct model_frame {
	struct model_code *code; /* NULL: there is a span instead */
	struct model_span *span; /* owned */
	struct model_task *task; /* it is a step of this one; or NULL */
	uint64_t begin_ns, id;
	uint64_t parent_id; /* of the next visible frame below */
	uint32_t depth;     /* absolute, as in pt_abi.h */
	uint32_t level;     /* visible callers + 1 */
	uint32_t flags;     /* PT_SLICE_*, what is known at its start */
	/* where it was called: NULL unknown, else a code unit of that code */
	struct model_code *caller;
	uint32_t call_unit;
	struct model_values *args, *result; /* owned, or NULL */
	bool is_c; /* a C function; depth is then that of the frame that called it */
};

struct model_process {
	pid_t pid, parent_pid, ns_pid;
	uint32_t image_id;
	uint64_t start_ns; /* fork, exec, or when late probes arrived; 0: from the gate on */
	char name[16 * 3 + 1];
	char *cmdline;
	struct pt_op_rank rank;
	bool had_cuda;     /* libraries of it, before their probes were there */
	int32_t comm_size; /* of its largest communicator, if that says a rank */
	uint64_t exit_ns;  /* when it exited, or 0 */
	bool announced, ended;
	bool threads_ended;
	/* The fork that made it, or the shell that made it; pid 0: none. Its first call shows where
	 * the flow leads. */
	struct pt_op_flow_end forked_by;
	bool flow_told;
	bool continues; /* an exec of a process that is counted already */
	struct model_thread *threads, **threads_tail;
	struct model_process *next;
};

/* A frame of a snapshot or of a PT_REC_STACK. */
struct model_open {
	struct model_code *code;
	uint32_t depth;
};

struct model_opens {
	struct model_open *frames; /* innermost first */
	uint32_t count, size, depth;
};

/* Details whose word has not come yet. */
struct model_details {
	struct model_details *next;
	struct pt_rec_runtime record;
};

struct model_values {
	struct model_values *next; /* of those whose word has not come yet */
	struct pt_rec_values record;
};

struct model_thread {
	struct model_process *process;
	pid_t tid, ns_tid; /* the latter in its own pid namespace; 0 unknown */
	char comm[16], name[16 * 3 + 1];
	bool announced, started, ended;

	uint64_t last_ns;  /* the last boundary given out */
	uint64_t end_ns;   /* once ended */
	uint64_t floor_ns; /* all boundaries lie after this: the end of the tid's earlier image */

	/* the stream */
	uint32_t next_seq, words_seen; /* of the batch next_seq, by a peek */
	uint64_t events;               /* seen or lost so far */

	uint32_t events_peeked; /* of these, in the first words_seen words */

	/* the stack */
	/* outermost first; depths increase strictly, but a C function has its caller's */
	struct model_frame *frames;
	uint32_t frame_count, frame_size;
	uint32_t depth;
	struct model_code *caller; /* of the enter that follows: as in struct model_frame */
	uint32_t call_unit;
	uint64_t coro;             /* of the enter that follows: an address, with PT_CORO_*; or 0 */
	struct model_async *async; /* async.c; NULL: there were no coroutines */
	struct model_greenlets *greenlets; /* greenlet.c; NULL: there are none */
	bool switched;                     /* to another stack; its snapshot is to follow */
	uint32_t opened_at_start;          /* frames, and none of them closed */
	uint64_t first_ns;                 /* of its first event */

	/* a snapshot under way */
	bool snap_active;
	uint32_t snap_left;
	uint64_t snap_ns;
	struct model_opens snap;
	/* a gap before the next event; the stack is as it was at gap_begin_ns */
	bool gap;
	uint64_t gap_begin_ns;

	/* it ran while recording was paused (pause_kept: see PT_X_PAUSED); a snapshot is to follow
	 */
	bool paused;
	uint32_t pause_kept;
	uint64_t pause_until_ns, pause_last_ns; /* the latter: last_ns behind it */
	uint64_t absent_ns; /* its probes were absent from then on, and it has not told since; 0 */
	uint64_t untouched_ns; /* last_ns, if nothing came before; else 0 */

	/* the model's clear_ns that the stack has been brought to; until then nothing goes out */
	uint64_t clear_ns, cleared_last_ns; /* the latter: last_ns then */
	bool muted;                         /* these slices lie before it all the same */

	struct model_opens outside; /* PT_REC_STACK; dropped after the first event */
	bool at_first_event;        /* nothing but the first snapshot has come so far */
	bool fresh_batch; /* no word of the batch but those of the runtime has been taken */

	/* runtime.c */
	uint32_t span_count;    /* of the frames */
	uint64_t wait_ended_ns; /* the frame on top is a wait that ended then, or goes on; or 0 */
	struct model_details *details, **details_tail;
	struct pt_ev *early; /* words that came before the stack was known */
	uint32_t early_count, early_size;

	/* sched.c */
	uint32_t sched_seq; /* of the next record */
	uint64_t sched_ns;  /* its states are known until then; 0: they begin with the next one */
	/* values.c */
	struct model_values *values, **values_tail; /* their words have not come yet */
	struct model_values *next_args;             /* of the enter that follows, or NULL */

	struct gpu_thread *gpu;       /* gpu_calls.c; likewise */
	struct memory_thread *memory; /* memory_calls.c; NULL: it has made no such calls */
	/* call_stack.c: stacks whose words have not come yet, and that of the call to come */
	struct model_stack_ref *stacks, **stacks_tail;
	struct model_call_stack *next_stack;

	struct model_samples *samples; /* sample.c; NULL: there were none */

	struct model_range *ranges; /* mark.c: those that are open */
	uint32_t range_count;

	struct model_thread *next_in_process;
};

/* All frames of all threads together: bounds the memory that hostile input can take. */
#define MODEL_MAX_FRAMES     (1u << 22)
/* pid_max is at most 4 Mi (include/linux/threads.h); this many in one recording is damage */
#define MODEL_MAX_THREADS    (1u << 20)
/* Addresses of coroutines, and greenlets, of all threads together */
#define MODEL_MAX_COROUTINES (1u << 20)
/* Details that wait for their words, all together */
#define MODEL_MAX_DETAILS    (64u << 20)
#define CODE_PAGE_BITS       10
#define CODE_PAGES           (1u << (PT_WORD_ARG_BITS - CODE_PAGE_BITS))

struct pt_model {
	struct pt_model_options options;
	pt_op_fn emit;
	void *ctx;
	int error; /* the sink's first; nothing goes out after it */
	bool finished;

	uint64_t gate_open_ns, gate_close_ns; /* close 0: not yet */
	uint64_t clear_ns;                    /* of the last PT_CONTROL_CLEAR */
	uint64_t pause_ns;                    /* the pause under way began then; 0: none */
	uint64_t last_pause_ns;               /* the last one that there was */
	/* likewise of those without probes, and when the last one was over; 0: none, not yet */
	uint64_t last_absent_ns, absent_until_ns;
	bool drop_open; /* PT_CONTROL_DROP_OPEN */
	uint64_t next_call_id, next_flow_id;
	uint32_t tracks;     /* that are no threads */
	uint32_t coroutines; /* addresses that are known, and greenlets */
	uint32_t open_frames;
	size_t details_bytes;                  /* of values, too */
	struct model_value_texts *value_texts; /* made when needed */
	struct pt_totals totals;
	uint64_t lost_reported; /* by PT_NOTE_LOST_EVENTS */

	struct pt_rec_mark **marks; /* by id; NULL: there are none */

	struct pt_map processes;      /* (pid, image_id) */
	struct pt_map threads;        /* (pid << 32 | tid, image_id) */
	struct pt_map newest_threads; /* pid << 32 | tid: of its newest image */
	struct pt_map ns_threads;     /* (pid << 32 | ns_tid, image_id) */
	struct pt_map images;         /* pid: its newest process */
	struct model_process *process_list, **process_tail;
	uint32_t exiting; /* processes that have exited, but whose threads have not been ended */
	struct model_code **code_pages[CODE_PAGES]; /* ids that fit into a word */
	struct pt_map codes;                        /* the others: id */
	struct pt_map functions;                    /* hash of the content */
	struct model_code *code_list;
	struct model_function *function_list;
	struct model_cuda_fn *cuda_fns; /* by id; NULL: there was none */
	uint64_t cuda_calls;            /* so far: the last one's correlation id */
	struct pt_map kernels;          /* (pid << 32 | image_id, address): the newest of it */
	struct model_kernel *kernel_list;
	size_t kernel_bytes; /* of their texts */
	struct pt_map comms; /* NCCL's communicators: (pid << 32 | image_id, address) */
	struct model_comm *comm_list;
	struct model_memory *memory; /* NULL: not followed */
	struct model_gpu *gpu;       /* likewise */

	struct pt_map call_stacks; /* (pid << 32 | image_id, id) */
	struct model_call_stack *stack_list;
	uint32_t stacks_shown;   /* so far: the last one's number */
	size_t stack_name_bytes; /* of native frames */
};

/* A failure (the sink's, or lack of memory) sticks in model->error; callers need not look. */
void model_fail(struct pt_model *model, int error);
void model_emit(struct pt_model *model, const struct pt_op *op);
void model_announce_process(struct pt_model *model, struct model_process *process);
/* It is this rank of so many; world_size 0: that is not known, after all. */
void model_process_rank(struct pt_model *model, struct model_process *process, int32_t rank,
			int32_t world_size, bool from_nccl);

/* The process does something at last: the flow from the fork that made it leads there. */
void model_flow(struct pt_model *model, struct model_thread *thread, uint64_t ns);

/* An instant of the process, if that is in the trace. */
void model_instant(struct pt_model *model, const struct model_process *process, uint64_t ns,
		   const char *category, const char *name, const char *detail);

/* ---- control.c ---- */
void model_control(struct pt_model *model, const struct pt_rec_control *record);
/* The end of a recording that is paused. */
void model_control_end(struct pt_model *model, uint64_t end_ns);

/* What the thread does now lies before the last clear. */
static inline bool model_thread_silent(const struct pt_model *model,
				       const struct model_thread *thread)
{
	return thread->clear_ns != model->clear_ns || thread->muted;
}

/* ---- function.c ---- */
struct model_code *model_code_get(struct pt_model *model, uint32_t id);
void model_code_define(struct pt_model *model, const struct pt_rec_code *record);
void model_cfunc_define(struct pt_model *model, const struct pt_rec_cfunc *record);
/* What is no function of the program; in brackets. NULL only for lack of memory. */
struct model_function *model_function_named(struct pt_model *model, const char *name);
/* A native function of that file. */
struct model_function *model_function_native(struct pt_model *model, const char *name,
					     const char *file);
/* What was never defined gets a name of its own; NULL only for lack of memory. */
struct model_function *model_code_function(struct pt_model *model, struct model_code *code);
void model_function_announce(struct pt_model *model, struct model_function *function);
bool model_code_same(const struct model_code *a, const struct model_code *b);
void model_functions_release(struct pt_model *model);

/* ---- lines.c ---- */
/* -EBADMSG: not the piece that must come now. */
int model_lines_take(struct pt_model *model, const struct pt_rec_lines *record);
/* The line of a code unit, 0 if it is not known. */
uint32_t model_lines_find(struct pt_model *model, const struct model_code *code, uint32_t unit);
void model_lines_free(struct model_lines *lines);

/* ---- async.c ---- */
/* The frame on top was entered, with thread->coro. */
void model_async_enter(struct pt_model *model, struct model_thread *thread);
/* The frame on top was entered, and is no coroutine's; or an exit comes. */
void model_async_other(struct pt_model *model, struct model_thread *thread, bool enter);
/* A frame that is a step ends; it is off the stack. */
void model_async_leave(struct pt_model *model, struct model_thread *thread,
		       const struct model_frame *frame, uint64_t end_ns, uint32_t flags);
/* PT_EV_TASK */
void model_async_made(struct pt_model *model, struct model_thread *thread, uint64_t object);
/* PT_RT_TASK_NAME; record: the name, NULL if it got lost. */
void model_async_named(struct pt_model *model, struct model_thread *thread, uint64_t object,
		       const struct pt_rec_runtime *record);
/* Something else happens than what may go on with the last step. */
void model_async_settle(struct pt_model *model, struct model_thread *thread);
/* What coroutines did meanwhile is not known: addresses may mean others now. */
void model_async_forget(struct pt_model *model, struct model_thread *thread);
void model_async_release(struct pt_model *model, struct model_thread *thread);

/* The task whose step is under way on the running stack. Returns the one before. */
struct model_task *model_async_swap(struct model_thread *thread, struct model_task *current);
void model_async_drop(struct model_frame *frame);

/* ---- greenlet.c ---- */
/* PT_EV_SWITCH */
void model_greenlet_switch(struct pt_model *model, struct model_thread *thread, uint64_t number);
/* The track of what runs now: the thread's own number, or that of a greenlet, which is announced.
 */
pid_t model_greenlet_track(struct pt_model *model, struct model_thread *thread);
/* The outermost call ends, and has ended. Only with thread->greenlets. */
void model_greenlet_ending(struct model_thread *thread);
void model_greenlet_ended(struct model_thread *thread);
/* Closes what the stacks that do not run have open. */
void model_greenlet_close(struct pt_model *model, struct model_thread *thread, uint64_t ns,
			  uint32_t flags);
/* Calls fn for each stack that does not run, while it is the thread's. */
void model_greenlet_each(struct pt_model *model, struct model_thread *thread,
			 void (*fn)(struct pt_model *model, struct model_thread *thread, void *ctx),
			 void *ctx);
/* What they have open began at ns: a clear. */
void model_greenlet_cleared(struct model_thread *thread, uint64_t ns);
void model_greenlet_release(struct pt_model *model, struct model_thread *thread);

/* ---- memory.c, memory_calls.c ---- */
int model_memory_new(struct pt_model *model);
/* A PT_EV_CUDA_*, as it comes; its thread's stack need not be known yet. */
void model_memory_event(struct pt_model *model, struct model_thread *thread,
			const struct pt_ev *event);
/* Events of the thread were lost, or it ends: the end of a call will not be seen. */
void model_memory_interrupted(struct pt_model *model, struct model_thread *thread, uint64_t ns);
void model_memory_release(struct pt_model *model, struct model_thread *thread, uint64_t ns);
/* The process has ended, or runs another image. */
void model_memory_process_end(struct pt_model *model, struct model_process *process, uint64_t ns);
/* All that happened before ns has come. */
void model_memory_complete(struct pt_model *model, uint64_t ns);
void model_memory_finish(struct pt_model *model, uint64_t end_ns);
void model_memory_free(struct pt_model *model);

/* ---- gpu_bounds.c, gpu_calls.c: as those of memory.c ---- */
int model_gpu_new(struct pt_model *model);
void model_gpu_event(struct pt_model *model, struct model_thread *thread,
		     const struct pt_ev *event);
/* Events of the thread were lost. */
void model_gpu_interrupted(struct pt_model *model, struct model_thread *thread, uint64_t from_ns,
			   uint64_t until_ns);
void model_gpu_release(struct pt_model *model, struct model_thread *thread, uint64_t ns);
/* Calls of the process in this time are not all known; why: a literal. */
void model_gpu_forget(struct pt_model *model, const struct model_process *process, uint64_t from_ns,
		      uint64_t until_ns, const char *why);
void model_gpu_paused(struct pt_model *model, bool paused, uint64_t ns);
void model_gpu_process_end(struct pt_model *model, const struct model_process *process,
			   uint64_t ns);
void model_gpu_complete(struct pt_model *model, uint64_t ns);
void model_gpu_finish(struct pt_model *model, uint64_t end_ns);
void model_gpu_free(struct pt_model *model);

/* ---- thread.c and thread_*.c ---- */
/* The line within its caller of a frame of the thread, 0 if it is not known. */
uint32_t model_thread_call_line(struct pt_model *model, const struct model_thread *thread,
				const struct model_frame *frame);
/* -EBADMSG: the batch is damaged, nothing was taken from it. */
int model_thread_batch(struct pt_model *model, struct model_thread *thread,
		       const struct pt_rec_batch *batch, size_t len);
int model_thread_outside(struct pt_model *model, struct model_thread *thread,
			 const struct pt_rec_stack *stack);
void model_thread_name(struct pt_model *model, struct model_thread *thread, const char comm[16]);
/* The slices of what is open, outermost first, if the trace ended now. Nothing is known to have
 * happened until known_ns unless it has come. */
void model_thread_each_open(struct pt_model *model, struct model_thread *thread, uint64_t known_ns,
			    void (*fn)(struct pt_model *model, struct model_thread *thread,
				       const struct pt_op_slice *slice, void *ctx),
			    void *ctx);
/* Its start became known, perhaps after its first events. */
void model_thread_redate(struct pt_model *model, struct model_thread *thread);
/* Closes what is open. events_total: what it produced in all, 0 if that is not known. */
void model_thread_end(struct pt_model *model, struct model_thread *thread, uint64_t end_ns,
		      uint64_t events_total);
/* For runtime.c: a span on top of the stack; it is taken over. */
void model_thread_push_span(struct pt_model *model, struct model_thread *thread,
			    struct model_span *span, uint64_t ns);
/* Closes the innermost frames until this many are left. */
void model_thread_pop_to(struct pt_model *model, struct model_thread *thread, uint32_t count,
			 uint64_t ns, uint32_t flags);
void model_thread_announce(struct pt_model *model, struct model_thread *thread);
/* Frees the frames without a word. */
void model_thread_drop_frames(struct pt_model *model, struct model_thread *thread);
/* The tid is used again by a new thread. */
void model_thread_reset(struct pt_model *model, struct model_thread *thread);

/* ---- sched.c ---- */
/* Why a thread is blocked. args refer to letter. */
struct model_cause {
	char name[64]; /* "blocked: futex" */
	char letter[2];
	struct pt_arg args[2];
	uint32_t arg_count;
};
void model_sched_cause(uint16_t state, int16_t syscall, uint32_t flags, struct model_cause *cause);
void model_sched_record(struct pt_model *model, struct model_thread *thread,
			const struct pt_rec_sched *record);

/* Goes on without the snapshot that does not come: from the stack that is known from outside, or,
 * behind a loss, from none. */
void model_thread_assume(struct pt_model *model, struct model_thread *thread, uint64_t ns);

/* ---- cuda.c ---- */
void model_cuda_define(struct pt_model *model, const struct pt_rec_cuda_fn *record);
void model_cuda_lib(struct pt_model *model, const struct pt_rec_cuda_lib *record);
/* An event of a thread whose stack is known. */
void model_cuda_event(struct pt_model *model, struct model_thread *thread,
		      const struct pt_ev *event);
/* What a function of this id does to memory; false: nothing, or it cannot be read. */
struct model_cuda_memory {
	const struct pt_cuda_memory_call *call;
	const struct pt_cuda_layout *layout;
	const char *symbol; /* lives as long as the model */
	unsigned int api;
};
bool model_cuda_memory(const struct pt_model *model, uint32_t fn, struct model_cuda_memory *memory);
/* What a function of this id does to streams; false: nothing, and nothing to devices. */
struct model_cuda_stream {
	enum pt_cuda_stream_what what;
	const struct pt_cuda_layout *layout; /* NULL: not known */
	const char *symbol;                  /* lives as long as the model */
};
bool model_cuda_stream(const struct pt_model *model, uint32_t fn, struct model_cuda_stream *stream);
/* A call of CUDA or NCCL begins or ends; not of PyTorch's operators. */
bool model_cuda_is_call(const struct pt_ev *event);
/* Where a call stands: NCCL's calls of CUDA count as those of a program. */
enum model_cuda_place {
	CUDA_WITHIN,    /* another call of CUDA makes it */
	CUDA_OUTERMOST, /* no other does */
	CUDA_AROUND,    /* it is one of NCCL */
};
/* outer: the thread's calls of NCCL that are open, to be kept from call to call. */
enum model_cuda_place model_cuda_place(const struct pt_model *model, uint32_t *outer,
				       const struct pt_ev *event);
/* The call's slice, and an instant if it failed. */
void model_cuda_emit(struct pt_model *model, struct model_thread *thread,
		     const struct model_frame *frame, uint64_t end_ns, uint32_t flags);

/* ---- nccl.c ---- */
struct model_nccl_call {
	const char *symbol;
	/* The word of an argument, also of one that was given back; NULL: it is not known. */
	const uint64_t *(*word)(void *ctx, const char *name);
	void *ctx;
};

struct model_nccl { /* numbers: -1 not known */
	const char *collective;
	const char *dtype; /* NULL: not known, and so type_bytes */
	uint32_t type_bytes;
	int64_t in, out; /* elements */
	int32_t size, rank;
};

/* A call that succeeded: it may tell of a communicator. */
void model_nccl_learn(struct pt_model *model, struct model_process *process,
		      const struct model_nccl_call *call);
/* false: it sends nothing. */
bool model_nccl_explain(const struct pt_model *model, const struct model_process *process,
			const struct model_nccl_call *call, struct model_nccl *shown);
#define MODEL_NCCL_ID_BYTES 17 /* with the NUL */
/* What stands for an ncclUniqueId, of whose first words these are; false: it is not unique. */
bool model_nccl_id(const uint64_t *words, size_t count, char text[MODEL_NCCL_ID_BYTES]);
void model_nccl_release(struct pt_model *model);

/* ---- kernel.c ---- */
void model_kernel_define(struct pt_model *model, const struct pt_rec_cuda_kernel *record);
/* What a call of that time is shown to launch: the kernel's name, or, if it is not known, where it
 * lies; NULL: neither is. It lives as long as the model. */
const char *model_kernel_name(const struct pt_model *model, const struct model_process *process,
			      uint64_t address, uint64_t ns, bool *known);
void model_kernels_release(struct pt_model *model);

/* ---- call_stack.c ---- */
/* -EBADMSG: of a stack that was not defined. */
int model_stack_record(struct pt_model *model, struct model_thread *thread,
		       const struct pt_rec_call_stack *record);
/* PT_EV_STACK */
void model_stack_event(struct pt_model *model, struct model_thread *thread, uint32_t serial);
/* That of the call which begins now, or NULL; it lives as long as the model. */
struct model_call_stack *model_stack_take(struct model_thread *thread);
/* That of a PT_EV_STACK which has come and not been applied; NULL: none. */
struct model_call_stack *model_stack_find(const struct model_thread *thread, uint32_t serial);
/* Its frames, innermost first: how many, whether one is of Python, and what one is. */
struct model_stack_frame {
	struct pt_stack_frame shown;
	struct model_function *function; /* of a Python frame; NULL: not known */
};
uint32_t model_stack_frames(const struct model_call_stack *stack);
bool model_stack_has_python(const struct model_call_stack *stack);
void model_stack_frame(struct pt_model *model, const struct model_call_stack *stack, uint32_t i,
		       struct model_stack_frame *frame);
/* A place for memory_stacks.c to keep its own form of it in; NULL at first. */
const struct pt_stack **model_stack_kept(struct model_call_stack *stack);
/* Its number in the trace, and in *at its innermost Python frame as text, or NULL. It has been
 * announced then. */
uint32_t model_stack_show(struct pt_model *model, struct model_call_stack *stack, const char **at);
void model_stacks_clear(struct pt_model *model);
void model_stacks_drop(struct pt_model *model, struct model_thread *thread);
void model_stacks_release(struct pt_model *model);

/* ---- runtime.c ---- */
void model_runtime_record(struct pt_model *model, struct model_thread *thread,
			  const struct pt_rec_runtime *record, size_t len);
/* A PT_X_RT_* word: at once, or once the stack is known. A CUDA_BEGIN gets its number. */
void model_runtime_event(struct pt_model *model, struct model_thread *thread, struct pt_ev *event);
/* The stack is known now. */
void model_runtime_replay(struct pt_model *model, struct model_thread *thread);
/* Something else happens than one more timed wait: the last one was the last. */
void model_runtime_settle(struct pt_model *model, struct model_thread *thread);
/* frame->span is over; frees it. */
void model_span_end(struct pt_model *model, struct model_thread *thread,
		    const struct model_frame *frame, uint64_t end_ns, uint32_t flags);
void model_span_free(struct model_span *span);
void model_runtime_release(struct pt_model *model, struct model_thread *thread);

#define NATIVE_UNKNOWN "[native frames that are not known]"

/* ---- sample.c ---- */
void model_sample_record(struct pt_model *model, struct model_thread *thread,
			 const struct pt_rec_sample *record);
void model_blocked_record(struct pt_model *model, struct model_thread *thread,
			  const struct pt_rec_blocked *record);
/* Ends what the thread's samples have open. */
void model_samples_end(struct pt_model *model, struct model_thread *thread);
/* What model_samples_end() would emit now goes to fn instead; nothing changes. */
int model_samples_copy(struct pt_model *model, struct model_thread *thread, pt_op_fn fn, void *ctx);
void model_samples_release(struct pt_model *model, struct model_thread *thread);

/* ---- sample_lines.c ---- */
struct pt_buf;
struct sample_lines; /* NULL: none; free() frees it */
/* One more in this line, unless that is not known (0). -ENOMEM. */
int model_sample_lines_add(struct sample_lines **lines, uint32_t line);
/* As PT_SAMPLE_ARG_LINES has it. */
void model_sample_lines_text(struct sample_lines *lines, struct pt_buf *text);

/* ---- values.c ---- */
void model_values_record(struct pt_model *model, struct model_thread *thread,
			 const struct pt_rec_values *record, size_t len);
/* Those with this number, which are the caller's then; NULL: they were lost. */
struct model_values *model_values_take(struct pt_model *model, struct model_thread *thread,
				       uint32_t serial);
void model_values_free(struct pt_model *model, struct model_values *values);
/* What the frame has of them, as text; NULL: nothing. Good until the next call. */
const struct pt_values *model_values_show(struct pt_model *model, const struct model_frame *frame);
void model_values_release(struct pt_model *model, struct model_thread *thread);

/* ---- mark.c ---- */
/* A byte that was sent gives at most three bytes of UTF-8; and an ellipsis. */
#define MODEL_TEXT_MAX (3 * PT_RT_ITEM_MAX_BYTES + 8)

struct model_mark_texts {
	char name[MODEL_TEXT_MAX];
	struct pt_arg args[PT_MARK_ARGS_MAX + 2]; /* and where it was called */
	uint32_t arg_count;
	char keys[PT_MARK_ARGS_MAX][3 * PT_MARK_ARG_NAME_BYTES];
	char text[PT_MARK_ARGS_MAX][MODEL_TEXT_MAX];
};

/* -EBADMSG: there is one of that id. */
int model_mark_define(struct pt_model *model, const struct pt_rec_mark *record);
void model_marks_release(struct pt_model *model);
/* Is this the return of that call? */
bool model_mark_same(const struct pt_ev_rt *begin, const struct pt_ev_rt *end);
/* Ends calls of probed functions that were left without their end, by an exception or longjmp():
 * the one that begins has their stack. */
void model_marks_left(struct pt_model *model, struct model_thread *thread,
		      const struct pt_ev *event);
/* record: its details, or NULL. */
void model_mark_texts(const struct pt_model *model, const struct pt_ev_rt *rt,
		      const struct pt_rec_runtime *record, struct model_mark_texts *texts);
/* Says where it was called, behind its arguments, and returns the stack's number; stack may be
 * NULL. */
uint32_t model_mark_stack(struct pt_model *model, struct model_call_stack *stack,
			  struct model_mark_texts *texts);
/* A word that is no slice. */
void model_mark(struct pt_model *model, struct model_thread *thread, const struct pt_ev *event,
		const struct pt_rec_runtime *record);
/* Ends the thread's open ranges. */
void model_marks_end(struct pt_model *model, struct model_thread *thread, uint64_t end_ns);
void model_ranges_release(struct pt_model *model, struct model_thread *thread);

#endif
