/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * attach.h - turns probe plans into links, owns the BPF skeleton, and opens the gate.
 *
 * Life cycle: pt_tracer_new() loads the programs with the gate shut -> pt_tracer_add_image() for
 * each interpreter file -> pt_tracer_trace_process() for each process -> pt_tracer_open_gate() ->
 * pt_tracer_poll() until done -> pt_tracer_shut_gate(), pt_tracer_close_gate() (no new events;
 * half-full batches are flushed into the ring buffer) -> pt_tracer_poll() once more ->
 * pt_tracer_free() (all links gone; the kernel restores every byte, also if this process is killed
 * instead). One thread uses a tracer at a time.
 */
#ifndef PT_PROBE_ATTACH_H
#define PT_PROBE_ATTACH_H

#include <linux/types.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "cuda/calls.h"
#include "pt_abi.h"
#include "python/image.h"
#include "python/method_sites.h"

struct pt_tracer;

/* Of pt_tracer_options.audit: bytes of a name, and names. */
#define PT_AUDIT_NAME_MAX  59
#define PT_AUDIT_COUNT_MAX 1024

struct pt_tracer_options {
	size_t ring_bytes;    /* ring buffer; rounded up to a power of two of pages */
	bool trace_all;       /* every process that hits a site, not only those named */
	bool follow_children; /* forks of traced processes are traced, and what they exec */
	/* Calls at a greater depth are not recorded; 0: no limit. Absolute depth, hidden frames
	 * included. */
	unsigned int max_depth;
	/* Stop recording after so many; 0: no limit. Checked when a batch is sent, so up to one
	 * batch a thread more is recorded, but never fewer; small limits make smaller batches. */
	uint64_t max_events;
	unsigned int
	    sample_hz;      /* of Python so many samples a second and CPU, not calls; 0: calls */
	bool hybrid;        /* with sample_hz: what the plans have and what is added is probed,
			       and C functions at themselves */
	bool sample_rests;  /* with sample_hz: calls, and samples while pt_tracer_sample() says
			       so, withdrawn; also needs withdrawable */
	bool off_cpu;       /* with sample_hz: and where threads are blocked; needs
			       pt_tracer_sched_supported() */
	bool sample_native; /* the samples have native frames, too */
	uint64_t off_cpu_min_ns; /* what is shorter is left out */
	bool lines; /* say where in its caller each call stands (PT_W_LINE, PT_REC_LINES) */
	/* Shorter calls are not sent, but for those whose enter went out with a full batch. */
	uint64_t min_duration_ns;
	/* Globs on qualified names (plain names up to 3.10); see pt_glob_check(). */
	const char *start_on; /* record only within calls of these; NULL: all */
	const char *stop_on;  /* stop recording when a call of these returns; NULL: never */
	uint64_t count;       /* of start_on: only so many calls, the first ones; 0: all */
	/* Whose arguments, results and variables are read: globs as above, those of local with
	 * ":NAME" behind them; NULL-terminated or NULL. pt_values_check() was passed. */
	const char *const *args, *const *retval, *const *local;
	bool no_uprobe_multi, no_cookie, no_task_storage; /* force the fallbacks, for tests */
	bool runtime;                                     /* the plans hold PT_SITE_RUNTIME sites */
	bool imports; /* tell what importlib searches and loads */
	bool exceptions;
	bool sched; /* PT_REC_SCHED; needs pt_tracer_sched_supported() */
	bool async; /* tell coroutines apart (PT_X_CORO, PT_X_TASK) */
	/* Audit events: "name" or "prefix.*", NULL-terminated; NULL: none */
	const char *const *audit;
	/* Record the calls of C functions, too, where the image's plan has them; those that no glob
	 * matches (NULL: all are wanted) are passed over as early as can be. Needs
	 * pt_tracer_c_functions_supported(). */
	bool c_functions;
	const char *const *c_globs;
	/* Some are probed at themselves; needs pt_tracer_methods_supported() as well. */
	bool methods;
	bool methods_only; /* .. and where that cannot be, none are recorded */
	/* Calls of CUDA functions are recorded where pt_tracer_add_cuda() puts probes. Needs
	 * pt_tracer_cuda_supported(). */
	bool cuda;
	bool cuda_nested;   /* those that are made by other CUDA functions, too */
	bool torch;         /* likewise calls of PyTorch's operators */
	bool torch_memory;  /* likewise what its allocators do */
	bool stacks;        /* of those calls that pt_tracer_add_cuda()'s cookies say */
	bool mark_stacks;   /* of what pt_tracer_set_mark()'s begin, and of instants; with stacks */
	bool native_stacks; /* with the native frames */
	bool marks;        /* probes of the user's are to come; needs pt_tracer_marks_supported() */
	bool withdrawable; /* pt_tracer_withdraw() is to come */
	/* Attach programs that return at once: what the traps alone cost, for the benchmark. */
	bool bench_empty;
};

struct pt_tracer_stats {
	uint64_t events;       /* enters + exits recorded by BPF, lost ones included */
	uint64_t lost_events;  /* of these, not delivered: the ring buffer was full */
	uint64_t lost_records; /* other records not delivered */
	uint64_t resyncs;      /* depth jumps that were repaired by a snapshot */
	uint64_t batches;
	uint64_t
	    missed; /* hits that found no memory for their thread's state; healed like losses */
	uint64_t c_too_deep; /* calls of C functions that were nested too deep to be recorded */
	uint64_t
	    sched_full; /* threads whose states were not recorded, because there were too many */
	uint64_t off_cpu_full;  /* times that a thread was blocked, likewise */
	uint64_t cuda_missed;   /* calls of CUDA functions: nested too deep, or no memory */
	uint64_t torch_missed;  /* likewise of PyTorch's operators */
	uint64_t stacks_missed; /* calls whose stacks were not sent, since they came too fast */
	size_t links;
	bool stopped;   /* max_events was reached: the gate shut by itself */
	bool triggered; /* count calls have ended, or one of stop_on has returned */
};

/* How far an image's probes reach. */
enum pt_reach {
	PT_REACH_FILE, /* every process that maps the file hits the sites (and new ones at once) */
	PT_REACH_PROCESS, /* only the processes named; children get their probes when seen */
};

/* A record as it came out of the ring buffer: fn borrows it for the call. Non-zero stops polling.
 */
typedef int (*pt_record_fn)(const struct pt_rec *record, size_t len, void *ctx);

/* What a glob may be: 1 to 64 characters, * and ? stand for others, \ takes the next one as it is.
 * -EINVAL, or -E2BIG. */
int pt_glob_check(const char *glob);
#define PT_VALUES_WANTED_MAX 16 /* of args, retval and local together */
/* 0; -ERANGE: too many; or what is wrong with *culprit: as above, -EDOM: not GLOB:NAME. */
int pt_values_check(const char *const *args, const char *const *retval, const char *const *local,
		    const char **culprit);

int pt_tracer_new(const struct pt_tracer_options *options, struct pt_tracer **tracer,
		  struct pt_err *err);
void pt_tracer_free(struct pt_tracer *tracer);

/* Does this kernel have what recording C functions takes? err says what is missing. */
bool pt_tracer_c_functions_supported(const struct pt_tracer_options *options, struct pt_err *err);

bool pt_tracer_sched_supported(struct pt_err *err);

/* Registers the image's layout; with PT_REACH_FILE attaches its sites for all who map the file
 * (open_path is opened now). c_methods: its C functions are not probed where they are called;
 * pt_tracer_attach_methods() is to come. Returns its index, or -errno. Borrows image until
 * pt_tracer_free(). */
int pt_tracer_add_image(struct pt_tracer *tracer, const struct py_image *image,
			enum py_engine engine, enum pt_reach reach, bool c_methods,
			const char *open_path, struct pt_err *err);

/* Does this kernel have what recording CUDA functions takes? err says what is missing. */
/* Stacks where probes of the user's fire. */
bool pt_tracer_mark_stacks_supported(const struct pt_tracer_options *options, struct pt_err *err);
bool pt_tracer_cuda_supported(const struct pt_tracer_options *options, struct pt_err *err);
/* Can one process alone get probes by a uprobe.multi link? If not, those that need one are to be
 * for all who map the file. */
bool pt_tracer_multi_one_process(void);
/* Does this kernel have what probing C functions at themselves takes? file_wide: no process will
 * get probes of its own. err says what is missing. */
bool pt_tracer_methods_supported(const struct pt_tracer_options *options, bool file_wide,
				 struct pt_err *err);
/* Makes a file's C functions known; *first goes to pt_tracer_attach_methods(). */
int pt_tracer_add_methods(struct pt_tracer *tracer, const struct py_method_sites *sites,
			  uint32_t *first, struct pt_err *err);
/* Attaches to them, for all who map the file (pid -1) or for one process. Borrows sites. */
int pt_tracer_attach_methods(struct pt_tracer *tracer, const struct py_method_sites *sites,
			     uint32_t first, pid_t pid, const char *open_path, struct pt_err *err);
/* The thread state of a thread that may call C functions before it is seen to run Python. */
void pt_tracer_set_tstate(struct pt_tracer *tracer, pid_t tid, uint32_t image_id, uint64_t tstate);
/* Attaches to a file's CUDA functions, or PyTorch's operators: for all who map it (pid -1) or for
 * one process. What the process does with them is recorded if it is traced. Copies what it needs of
 * library. */
int pt_tracer_add_cuda(struct pt_tracer *tracer, const struct pt_cuda_library *library, pid_t pid,
		       const char *open_path, struct pt_err *err);

/* How many probes the image takes, those for C functions included. */
size_t pt_tracer_probe_count(const struct pt_tracer *tracer, int image_index);
/* Why the C functions of this image are not recorded though they are wanted; NULL: they are, or
 * nobody wants them. */
const char *pt_tracer_c_functions_refusal(const struct pt_tracer *tracer, int image_index);

/* Refuses unless the process's memory has the bytes that were analysed. pt_tracer_trace_process()
 * does this too, but with PT_REACH_FILE it must be done before pt_tracer_add_image(): afterwards
 * breakpoints stand there. */
int pt_text_check_process(const struct py_image *image, enum py_engine engine, pid_t pid,
			  uint64_t bias, struct pt_err *err);

/* Marks the process as traced; with PT_REACH_PROCESS attaches the image's sites to it. bias as in
 * pt_module_bias(): the fallback without cookies needs it. image_id: see struct pt_rec. */
int pt_tracer_trace_process(struct pt_tracer *tracer, int image_index, pid_t pid, uint64_t bias,
			    const char *open_path, uint32_t *image_id, struct pt_err *err);
/* Do probes of a process alone stay of use in what it executes from the same file? (They live on
 * through exec, and the kernel places them in whatever maps it.) */
bool pt_tracer_probes_stay(const struct pt_tracer *tracer, int image_index);
/* A process with such probes has executed the same file. Returns 0 if they were there from its
 * first instruction; 1 if it executed it while they were being attached, so that it is recorded
 * from now on; or -errno. */
int pt_tracer_executed(struct pt_tracer *tracer, pid_t pid, uint32_t image_id);
/* Detaches what was attached for this process alone, and stops recording it. */
void pt_tracer_forget_process(struct pt_tracer *tracer, pid_t pid);
/* Passes the process and what it forks over from now on, whichever probes it hits, until it
 * executes something else or pt_tracer_trace_process() is called for it. Probes of its own stay:
 * removing them would make the reader of the ring buffer wait. */
int pt_tracer_refuse_process(struct pt_tracer *tracer, pid_t pid);
/* The same, and its probes go. */
int pt_tracer_let_go(struct pt_tracer *tracer, pid_t pid);
bool pt_tracer_refuses(const struct pt_tracer *tracer, pid_t pid);
/* Removes the breakpoints that children inherited from processes with probes of their own and that
 * nobody wants; only if there are new ones. Takes the kernel some 50 ms. Call it now and then. */
int pt_tracer_sweep(struct pt_tracer *tracer);

/* ---- marks.c: probes of the user's ---- */
struct pt_mark;
/* Does this kernel have what they take? err says what is missing. */
bool pt_tracer_marks_supported(const struct pt_tracer_options *options, struct pt_err *err);
/* Tells BPF what to do at places of that number, below PT_MARKS_MAX. */
int pt_tracer_set_mark(struct pt_tracer *tracer, uint32_t number, const struct pt_mark *mark,
		       struct pt_err *err);

struct pt_mark_place {
	uint32_t number;  /* as given to pt_tracer_set_mark() */
	uint64_t offset;  /* in the file */
	uint64_t ref_ctr; /* of its semaphore in the file; 0: none */
	bool ends;        /* there the function of that number ends: a ret, or a jump elsewhere */
};
/* pid -1: for all who map the file. */
int pt_tracer_attach_mark(struct pt_tracer *tracer, const struct pt_mark_place *place, pid_t pid,
			  const char *open_path, struct pt_err *err);

int pt_tracer_open_gate(struct pt_tracer *tracer, uint64_t *time_ns);
/* While paused nothing is recorded, but the depths are followed, so that the stacks are right when
 * recording goes on; the probes cost about as much as when they record. -EALREADY: it is so
 * already, or recording has ended. */
int pt_tracer_pause(struct pt_tracer *tracer, uint64_t *time_ns);
int pt_tracer_resume(struct pt_tracer *tracer, uint64_t *time_ns);
/* ---- absent.c: a pause that costs the processes next to nothing; options.withdrawable ---- */
/* Pauses and removes the probes of the interpreters' calls; those of libraries and of the user's
 * stay. What threads do then is not known, so no stack lasts over it. Takes the kernel some 30 ms,
 * with perf events (before Linux 6.10) a process's own probes as much for each. -EALREADY as above.
 */
int pt_tracer_withdraw(struct pt_tracer *tracer, uint64_t *time_ns);
/* Puts them back and resumes. c_functions: with those of the calls of C functions. On an error it
 * stays as it is. */
int pt_tracer_restore(struct pt_tracer *tracer, bool c_functions, uint64_t *time_ns,
		      struct pt_err *err);
/* options.sample_rests: from now on samples are taken until it is off again, which is to be before
 * pt_tracer_restore(). -errno. */
int pt_tracer_sample(struct pt_tracer *tracer, bool on);
/* ---- cost.c ---- */
/* Lets the kernel count what the programs take; -errno. */
int pt_tracer_count_cost(struct pt_tracer *tracer, bool on);
/* What all hits have taken of the processes' time while it was counted; trap_ns: what a hit costs
 * beside the program (struct pt_calibration). */
uint64_t pt_tracer_cost_ns(struct pt_tracer *tracer, double trap_ns);

/* From now on nothing is recorded, but by programs that are in the middle of it. */
uint64_t pt_tracer_shut_gate(struct pt_tracer *tracer);
/* Waits for those, and copies out what is left. keep_links: removing the probes is left to
 * pt_tracer_free() if the kernel can wait without. */
int pt_tracer_close_gate(struct pt_tracer *tracer, bool keep_links);

/* Hands out records; waits up to timeout_ms for the first. Returns the number, or -errno. */
int pt_tracer_poll(struct pt_tracer *tracer, int timeout_ms, pt_record_fn fn, void *ctx);
/* Copies of batches that have lain half-full for longer than older_than_ns come as PT_RF_PEEK
 * records; call now and then so that a sleeping thread's calls are seen. */
int pt_tracer_flush_stale(struct pt_tracer *tracer, uint64_t older_than_ns);
/* Likewise, of all that rest at all. Once the ring buffer has been empty a second later, all that
 * happened before *until_ns has come, or was lost; 0: that cannot be said this time. */
int pt_tracer_flush_complete(struct pt_tracer *tracer, uint64_t *until_ns);
/* Readable once much is pending in the ring buffer; pt_tracer_poll() then takes it. */
int pt_tracer_poll_fd(const struct pt_tracer *tracer);
/* How many processes of the host have begun, or changed their program, so far. */
uint64_t pt_tracer_arrivals(const struct pt_tracer *tracer);
/* Whether the last poll took all that there was. */
bool pt_tracer_emptied(const struct pt_tracer *tracer);
/* After the gate was closed, at time_ns: in what state the threads were then. */
int pt_tracer_sched_rest(struct pt_tracer *tracer, uint64_t time_ns, pt_record_fn fn, void *ctx);
/* Likewise: who was blocked then, and has been for so long. */
int pt_tracer_off_cpu_rest(struct pt_tracer *tracer, uint64_t time_ns, pt_record_fn fn, void *ctx);
void pt_tracer_stats(const struct pt_tracer *tracer, struct pt_tracer_stats *stats);
/* Forks and execs, of any process of the host, for which the kernel did not run our programs
 * (bpf/pytrace.bpf.c). Two system calls. */
uint64_t pt_tracer_forks_missed(const struct pt_tracer *tracer);
/* What the tracer uses, for the status line: "uprobe.multi", "perf uprobes". */
const char *pt_tracer_link_kind(const struct pt_tracer *tracer);

#endif
