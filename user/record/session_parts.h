/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * session_parts.h - one recording, for the files that make it up; nobody else includes it.
 *
 * session.c runs the phases: prepare.c and programs.c before it, start.c, loop.c, finish.c. What
 * goes on meanwhile: targets.c (the processes), follow.c and scan.c (new ones), commands.c (what
 * others ask for), overhead.c (--max-overhead), cuda.c and methods.c (probes in libraries).
 */
#ifndef PT_RECORD_SESSION_PARTS_H
#define PT_RECORD_SESSION_PARTS_H

#include <signal.h>
#include <stdatomic.h>

#include "base/clock.h"
#include "record/callstacks.h"
#include "record/control.h"
#include "record/images.h"
#include "record/launch.h"
#include "record/mapped.h"
#include "record/marks.h"
#include "record/methods.h"
#include "record/session.h"
#include "record/spool.h"
#include "record/unmatched.h"

/* A process that is traced, as far as is known here. */
struct target {
	pid_t pid;
	int pidfd;       /* -1: none could be had */
	uint64_t cpu_ns; /* what it had used when the governor last looked */
	/* since its cost was last told: what it used, and calls and returns that came */
	uint64_t used_ns, events;
	uint32_t image_id;
	struct pt_traced_image *image; /* NULL: it never ran Python */
	uint64_t bias;
	bool runs_python; /* false from an exec until the new program turns out to be Python */
	bool marks_done;  /* no probe of the user's is left to look for in it */
	bool attached;    /* it has probes of its own for image (PT_REACH_PROCESS) */
	bool ended;       /* about to be forgotten */
};

/* Something that BPF reported and that must be acted on outside the ring buffer's callback. */
struct task {
	enum pt_proc_what what; /* FORK, EXEC; ATTACH: with -a, BPF met one that we did not name */
	pid_t pid, parent;
	uint32_t image_id;
	uint64_t next_ns, deadline_ns; /* EXEC: when to look again, when to give up */
	/* at the last look; see is_the_same() */
	uint64_t cpu_ns;
	long lib_kb;
	unsigned int tries;
	bool again; /* it could not be attached to, and is still there */
};

/* Of rest.c. */
struct rest {
	int epoll_fd, signal_fd; /* -1: it is not used */
	bool ended;              /* a target, since somebody last asked */
	bool unwatched;          /* a target could not be watched: look at them all */
};

/* Of commands.c. */
struct commands {
	struct pt_control *control; /* NULL: no socket */
	int rc;                     /* why recording cannot go on */
	bool ended;                 /* what is left is being written */
	bool paused;
	uint64_t paused_since_ns, paused_total_ns, first_pause_ns;
	unsigned int pauses;
	struct pt_tracer_stats cleared; /* what was there at the last clear */
	bool stop, drop_open;
	uint32_t stop_client;
	/* one copy at a time; while it is asked for, the rest belongs to the output's thread */
	atomic_int save_state;
	uint32_t save_client;
	unsigned int save_number;
	char save_path[4096];
	int save_rc;
	struct pt_err save_err;
};

struct session {
	const struct pt_session_options *options;
	const struct pt_session_watch *watch;
	struct pt_session_result *result;

	struct pt_images_options images_options;
	struct pt_output_options output_options;
	struct pt_tracer *tracer;
	struct pt_images *images;
	struct pt_file_cache *files;
	struct pt_launch *launch;
	struct pt_marks *marks; /* NULL: none are wanted */
	uint64_t marks_next_ns; /* when to look for them again */
	struct pt_output *output;
	struct pt_spool *spool;
	struct commands commands;
	struct rest rest;
	struct overhead *overhead; /* NULL: no limit */
	double trap_ns;            /* what a hit costs beside the program */
	bool sample_rests;         /* samples can be taken while recording rests */
	bool c_calls; /* C functions are recorded where they are called; the rest can do without */
	uint64_t stale_ns;            /* when to copy out what rests */
	uint64_t sweep_ns;            /* when to look for children with breakpoints again */
	uint64_t complete_until_ns;   /* what is to be said of it then; 0: nothing */
	struct cuda_session *cuda;    /* NULL: not wanted */
	struct method_files *methods; /* NULL: no C functions are probed at themselves */
	struct mapped *mapped;
	struct callstacks *callstacks; /* NULL: likewise */
	struct unmatched *unmatched;   /* NULL: no names were given */

	struct target *targets;
	size_t target_count;
	unsigned int ended_with_links;
	struct task *tasks;
	size_t task_count;
	struct seen_process *seen; /* -a: see scan.c */
	size_t seen_count;
	struct unwanted_process *unwanted; /* likewise */
	size_t unwanted_count;
	uint64_t arrivals; /* of the host, before the last walk through /proc */

	char folder[4096];
	uint32_t next_code_id;
	uint64_t begin_ns, gate_ns;
	bool gate_open, had_target, reach_file;
	bool stuck;              /* a record was still being written long after the end */
	struct pt_err *err;      /* of the call under way */
	struct pt_err image_err; /* why the first interpreter was refused */
};

#define PATIENCE_NS 5000000000ull /* the ring buffer may not be empty for so long */
#define NS_PER_MS   1000000ull

/* ---- session.c ---- */

/* Those that are blocked and waited for. */
void session_signals(sigset_t *set);
/* Takes a pending signal. True: stop. forwarded: how many the launched command was sent. */
bool session_signal_says_stop(struct session *session, unsigned int *forwarded);
/* Of Python samples only, not calls? */
bool session_samples(const struct session *session);
/* Is this one to be traced? */
bool session_wants(const struct session *session, const struct pt_process *process);
/* A process was attached to (rc 0), or why it was not; image may be NULL. */
void session_tell_attached(const struct session *session, const struct pt_process *process, int rc,
			   const struct pt_err *err);
/* Adds a record to the output's queue. */
int session_put(struct session *session, const struct pt_rec *record, size_t len);
/* The same, as pt_record_fn with the session as ctx. */
int session_put_record(const struct pt_rec *record, size_t len, void *session);
int session_put_note(struct session *session, enum pt_note_what what, uint64_t value,
		     uint64_t time_ns);

/* prepare.c: all that is needed before a process is touched. */
int session_prepare(struct session *session, struct pt_err *err);

/* programs.c: loads the BPF programs; session->tracer. */
int session_make_tracer(struct session *session, struct pt_err *err);

/* ---- start.c ---- */

/* The processes that were asked for, or all that are there. */
int session_attach_all(struct session *session, struct pt_err *err);
/* A process of the launched command holds still: attach if it has become Python. Suits
 * pt_launch_service(). */
int session_look_at_launched(pid_t pid, void *session);
/* Waits until a process of the launched command runs Python and the gate is open. */
int session_wait_for_python(struct session *session, enum pt_session_stop *stop,
			    struct pt_err *err);
/* Opens the gate and the output, once the first processes are attached. */
int session_open_gate(struct session *session, struct pt_err *err);

/* ---- loop.c ---- */

/* Records until there is a reason to stop, which is put into stop. */
int session_record(struct session *session, enum pt_session_stop *stop, struct pt_err *err);
/* Each record that comes out of the ring buffer. Suits pt_record_fn with the session as ctx. */
int session_on_record(const struct pt_rec *record, size_t len, void *session);
/* Takes what the recording comes to at this moment to who watches; true: it is to end. */
bool session_tell_progress(struct session *session, bool writing);
/* Do we use more than that ourselves? 0: no limit. */
bool session_too_much_memory(uint64_t limit_bytes);

/* ---- finish.c ---- */

/* Ends the output; rc is what the recording ended with. */
int session_finish(struct session *session, int rc, enum pt_session_stop *stop, struct pt_err *err);
/* Recording is over but the command may still run: its exit status is ours. */
void session_await_command(struct session *session, enum pt_session_stop stop);

/* targets.c */
struct target *target_find(struct session *session, pid_t pid);
bool target_has_ended(const struct target *target);
struct target *target_add(struct session *session, pid_t pid, uint32_t image_id);
/* It is not recorded any longer; its probes are removed. */
void target_let_go(struct session *session, pid_t pid);
void target_drop(struct session *session, pid_t pid);
/* Drops those that have ended, once what they did last is known: a child that they forked is a
 * target by then. */
int targets_forget_ended(struct session *session);
void targets_release(struct session *session);
/* Loads the process's interpreter and attaches to it; the gate may be open already. starting: the
 * process has only just executed it. */
int target_attach(struct session *session, const struct pt_process *process, bool starting,
		  struct pt_err *err);
/* -ENOTSUP (err set): the process runs, or is about to run, with the JIT on. */
int target_check_jit(struct session *session, pid_t pid, struct pt_traced_image *image,
		     uint64_t bias, bool starting, struct pt_err *err);
/* Has the JIT been turned on since? Drops those processes; -ENOTSUP (err set) if it was the only
 * one. Called ten times a second. */
int targets_check_jit(struct session *session, struct pt_err *err);
/* The ATTACH (or LATE) record, and unless it only just began, the frames it has open. */
int target_announce(struct session *session, const struct target *target, enum pt_proc_what what,
		    bool with_stacks, uint64_t time_ns);
enum pt_reach target_reach(struct session *session, const struct pt_module *module);

/* Attaches probes of the user's that the process may have by now. Once the gate is open, what goes
 * wrong is a warning. */
int target_look_for_marks(struct session *session, struct target *target, struct pt_err *err);
/* The same for all. */
int targets_look_for_marks(struct session *session);

/* follow.c: children, execs and, with -a, new processes */
int follow_record(struct session *session, const struct pt_rec *record, size_t len);
int follow_tasks(struct session *session);
/* Looks at a process that may be about to become Python; image_id 0: BPF does not know it. */
int follow_look_at(struct session *session, enum pt_proc_what what, pid_t pid, pid_t parent,
		   uint32_t image_id);
/* Nanoseconds until the next task is due, or UINT64_MAX. */
uint64_t follow_next_ns(const struct session *session);

/* commands.c: the control socket, and what may be asked for while recording */
int commands_open(struct session *session, struct pt_err *err);
/* Takes commands and answers those that are done. -errno: recording cannot go on. */
int commands_service(struct session *session);
void commands_signal(struct session *session, int signal_number);
/* Takes what lies in the ring buffer; under load there is always more. */
int commands_drain(struct session *session);
/* The queue's end: suits pt_spool_fn with the session as ctx. */
int commands_record(const struct pt_rec *record, size_t len, void *session);
/* As pt_tracer_stats(), since the last clear. */
void commands_stats(const struct session *session, struct pt_tracer_stats *stats);
/* At the end, if calls that are still running are to be left out. */
int commands_drop_open(struct session *session, uint64_t time_ns);
/* The recording is over, with err if it failed: answers who waits for that, removes the socket. */
void commands_close(struct session *session, const struct pt_err *err);

/* Writes down that recording was paused or goes on; why: PT_WHY_*. */
int session_put_control(struct session *session, enum pt_control_what what, uint32_t why,
			uint64_t time_ns);

/* rest.c: only with options->choice */
int rest_open(struct session *session);
void rest_watch(struct session *session, const struct target *target);
/* Until timeout_ms are over, much is in the ring buffer, a signal is there or a target has ended.
 */
int rest_wait(struct session *session, int timeout_ms);
/* Asks, and forgets it; true without rest_open(). */
bool rest_may_have_ended(struct session *session);
void rest_close(struct session *session);

/* overhead.c: --max-overhead. All of it does nothing without the option. */
/* Before there are probes: what they cost is counted from now on. */
int overhead_prepare(struct session *session, struct pt_err *err);
/* The gate is open. */
void overhead_begin(struct session *session);
int overhead_step(struct session *session, uint64_t now_ns);
/* When that is to be called; UINT64_MAX: never. */
uint64_t overhead_next_ns(const struct session *session);
/* Each record that comes out of the ring buffer. */
void overhead_record(struct session *session, const struct pt_rec *record);
/* What it came to so far. */
struct pt_session_overhead overhead_so_far(const struct session *session);
/* Recording rests: there are no probes, and the gate is that of a pause. */
bool overhead_resting(const struct session *session);
/* While it rests somebody has paused it, or resumed. */
int overhead_paused(struct session *session);
/* Before the tracer is gone: what it came to. */
void overhead_end(struct session *session);

/* scan.c: with -a, processes that began or changed their program since the last call are looked
 * at. */
int scan_processes(struct session *session, bool first);
/* A Python process that is not wanted, as it was when its stack began there: looked at again once
 * it has another. A child that is about to execute something still is what its parent is. */
int scan_unwanted(struct session *session, pid_t pid, uint64_t start_stack);

#endif
