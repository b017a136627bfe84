/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * session.h - one recording, from finding the processes to the finished file.
 *
 * pt_session_run() does it all in the calling thread (the output is written in a second one, see
 * spool.h) and returns when the recording has ended: the time is up, the processes are gone, a
 * limit is reached, SIGINT, SIGTERM or SIGHUP came, or 'stop' by the control socket. SIGUSR1 pauses
 * and resumes, SIGUSR2 saves a copy. While it runs these signals are blocked and taken
 * synchronously. Whatever was recorded is in the file, also when it returns an error.
 */
#ifndef PT_RECORD_SESSION_H
#define PT_RECORD_SESSION_H

#include <linux/types.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "model/op.h"
#include "probe/attach.h"
#include "record/cuda.h"
#include "record/engine.h"
#include "record/output.h"
#include "target/process.h"

/* How children are followed; docs/DESIGN.md, "How far the probes reach". */
enum pt_follow { PT_FOLLOW_AUTO, PT_FOLLOW_EXACT, PT_FOLLOW_LATE, PT_FOLLOW_NO };

struct pt_session_progress;
struct pt_session_result;

/* Processes are found as they start, and chosen one by one; each gets probes of its own, and what
 * it forks is looked at as any other. The session's thread calls these. */
struct pt_session_choice {
	bool (*wanted)(const struct pt_process *process, void *ctx);
	/* rc: 0, or why it is not traced (-ESRCH: it has ended) */
	void (*attached)(const struct pt_process *process, const char *version, const char *engine,
			 int rc, const struct pt_err *err, void *ctx);
	void (*ended)(pid_t pid, void *ctx);
	/* Twice a second; true: the session is to end. */
	bool (*tick)(const struct pt_session_progress *progress,
		     const struct pt_tracer_stats *stats, void *ctx);
	/* SIGINT, SIGTERM, SIGHUP, SIGUSR1 or SIGUSR2 came; true: the session is to end. The caller
	 * of pt_session_run() keeps them blocked. */
	bool (*signal)(int signal_number, void *ctx);
	/* NULL, or told every second what recording has cost a process since the last time, of the
	 * CPU time that it used for itself; the cost of all is shared out by their numbers of
	 * calls. True: the process is let go, until it executes something else. */
	bool (*cost)(pid_t pid, uint64_t spent_ns, uint64_t own_ns, void *ctx);
	/* The processes that are there have their probes; when it returns recording begins. False:
	 * it is not to (-ECANCELED). */
	bool (*ready)(void *ctx);
	/* Recording is over: another session's may begin. What was recorded is still on its way. */
	void (*shut)(uint64_t time_ns, void *ctx);
	/* All that was recorded is out, or why not; the probes are still to be removed, which takes
	 * the kernel a second or two for each process before 6.10. */
	void (*finished)(const struct pt_session_result *result, int rc, const struct pt_err *err,
			 void *ctx);
	uint64_t scan_ns; /* how often to look for new ones */
	void *ctx;
};

struct pt_session_options {
	/* what to trace: one of these four */
	const pid_t *pids;
	size_t pid_count;
	bool all;
	char *const *command; /* NULL-terminated */
	const struct pt_session_choice *choice;

	uint64_t duration_ns; /* 0: until the end */
	enum pt_engine_wish engine;
	enum pt_follow follow;
	unsigned int features, features_asked; /* see struct pt_images_options */
	struct pt_tracer_options tracer; /* trace_all and follow_children are set by the session */
	struct pt_output_options output; /* path NULL: pytrace-COMM-PID.json.gz */
	const char *cache_dir;           /* may be NULL */
	enum pt_cuda_mode cuda;
	unsigned int cuda_libs;    /* PT_CUDA_WANT_CUBLAS, _CUDNN */
	unsigned int stacks;       /* PT_CUDA_WANT_STACK_*: whose stacks are wanted; 0: none */
	bool native_stacks;        /* with native frames, or of Python only */
	bool cuda_asked;           /* it was named, so it is told if it does nothing */
	bool torch;                /* calls of PyTorch's operators, too */
	bool torch_memory;         /* what its allocators do, too */
	const char *const *probes; /* of --probe, NULL-terminated; or NULL */
	bool nvtx;
	bool say_complete;          /* say up to when the stream of records is complete */
	double max_overhead;        /* see governor.h; 0: no limit */
	double max_cpu;             /* of one CPU, that the session itself may take; 0: no limit */
	uint64_t max_memory_bytes;  /* likewise; see base/usage.h */
	const char *const *c_named; /* see method_files_new() */
	bool c_asked;               /* the user named C functions */
	const char *control;        /* the control socket's path; NULL: none */
};

/* What is known when the gate opens; strings live for the call. */
struct pt_session_opened {
	const char *targets;     /* "1234 (python3)", "1234, 1240", "all Python processes" */
	const char *interpreter; /* "CPython 3.12.1" */
	const char *engine, *why;
	const char *link_kind;
	size_t probe_count;
	unsigned int sample_hz; /* 0: probes only */
	bool hybrid;            /* samples and probes */
	bool reach_file;
	const char *path;
	double attach_ms; /* from the start of the session to the gate */
};

/* What recording costs the processes, as it is measured with a limit, or with choice->cost. */
struct pt_session_overhead {
	bool known;
	double limit, share; /* of the processes' own CPU time; 0.01: 1 %; limit 0: none */
	uint64_t spent_ns, own_ns, recorded_ns, rested_ns, rests;
	bool without_c, resting;
	bool sampling;               /* while it rests */
	uint64_t sampled_ns;         /* of rested_ns */
	unsigned int level;          /* enum governor_level */
	double cpu_limit, cpu_share; /* of one CPU, by the session itself; limit 0: none */
};

struct pt_session_progress {
	uint64_t elapsed_ns, events, lost_events, file_bytes, backlog_bytes;
	size_t process_count;
	bool writing; /* recording is over, the rest is being written */
	bool paused;
	struct pt_session_overhead overhead;
};

struct pt_session_watch {
	void (*opened)(const struct pt_session_opened *opened, void *ctx);
	void (*progress)(const struct pt_session_progress *progress,
			 void *ctx); /* twice a second */
	void *ctx;
};

enum pt_session_stop {
	PT_STOP_ERROR,
	PT_STOP_DURATION,
	PT_STOP_SIGNAL,
	PT_STOP_COMMAND,
	PT_STOP_TARGET_ENDED,
	PT_STOP_MAX_EVENTS,
	PT_STOP_TRIGGER,
	PT_STOP_MAX_FILE,
	PT_STOP_MAX_MEMORY,
};

struct pt_session_result {
	enum pt_session_stop stop;
	bool opened; /* the gate was open: there is a file */
	char path[4096];
	uint64_t file_bytes, duration_ns, spilled_bytes;
	struct pt_totals totals;
	struct pt_tracer_stats stats;
	struct pt_session_overhead overhead;
	uint64_t forks_missed;    /* pt_tracer_forks_missed() */
	uint64_t stacks_unmapped; /* without native frames: their code was not known */
	bool has_wait_status;     /* the launched command has ended so: */
	int wait_status;
};

int pt_session_run(const struct pt_session_options *options, const struct pt_session_watch *watch,
		   struct pt_session_result *result, struct pt_err *err);

#endif
