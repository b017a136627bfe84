/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * agent_parts.h - what agent.c, pages.c and series.c share; nobody else includes it.
 */
#ifndef PT_AGENT_AGENT_PARTS_H
#define PT_AGENT_AGENT_PARTS_H

#include <linux/types.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "agent/config.h"
#include "agent/otlp.h"
#include "agent/traces.h"
#include "agent/upload.h"
#include "base/clock.h"
#include "base/http.h"
#include "record/session.h"
#include "sink/metrics.h"

#define AGENT_REFUSED_MAX 100 /* remembered for /processes */

enum agent_failure {
	FAILED_PERMISSION,
	FAILED_UNSUPPORTED,
	FAILED_ENDED,
	FAILED_OVERHEAD, /* it was recorded, and too dear */
	FAILED_OTHER,
	FAILURES
};

/* Why a session began. */
enum agent_why { WHY_START, WHY_RELOAD, WHY_ROTATE, WHY_BACKLOG, WHY_ERROR, WHYS };

struct agent_process {
	pid_t pid;
	uid_t uid;
	int64_t since; /* unix time */
	char name[16], version[32], engine[16], rule[64];
	char reason[256];          /* of a refused one */
	uint64_t limit_ppm;        /* see agent_rule.max_overhead_ppm */
	uint64_t spent_ns, own_ns; /* by the probes, and by itself, since it is recorded */
	double balance_ns;         /* what it may cost still */
};

enum agent_state {
	AGENT_PREPARES,
	AGENT_RECORDS,
	AGENT_SHUT,     /* nothing more is recorded */
	AGENT_FINISHED, /* all that was recorded is counted; the probes are being removed */
	AGENT_GONE      /* its thread is about to end */
};

/* A session of record/, in a thread of its own. */
struct agent_recording {
	struct agent *agent;
	struct agent_recording *next;   /* of all that are not freed */
	struct agent_recording *before; /* the one that it takes the place of; or NULL */
	pthread_t thread;
	uint64_t began_ns;               /* to be prepared */
	const struct pt_output_tap *tap; /* the recorders'; NULL: none */
	struct pt_output_tap own_tap;    /* in front of it */
	struct pt_capture_info tap_info; /* what it is to be opened with */
	struct pt_model_options tap_model;
	bool tap_open;
	struct agent_trace_watch *traces; /* NULL: no rule has any */

	/* the agent's lock is for what follows */
	enum agent_state state;
	enum agent_why why, next_why; /* it began, and the next one is to begin */
	bool counts;                  /* what those before recorded is counted */
	bool to_end, handed_over;     /* another one takes its place; it has ended for that */
	int rc;                       /* how it ended */
	struct pt_err err;
	struct agent_process *processes;
	size_t process_count;
	uint64_t attached;
	struct pt_tracer_stats stats; /* so far, in the agent's sum already */
	struct pt_session_overhead overhead;
	uint64_t backlog_bytes;
};

struct agent {
	const char *config_path, *cache_dir;
	/* the main thread's own */
	struct agent_config *config, *next; /* next: takes its place */
	struct pt_http *http;
	struct agent_otlp *otlp;        /* NULL: nothing is sent */
	struct agent_otlp *otlp_traces; /* likewise */
	struct agent_traces *traces;    /* NULL: no rule has any */
	struct pt_metrics *metrics;
	uint64_t start_ns, since_1970_ns; /* CLOCK_MONOTONIC, and what it lacks */
	struct agent_otlp_stats otlp_stats, otlp_traces_stats;
	struct agent_trace_stats trace_stats;
	/* The server's threads read the pointer, the main thread sets it, under the lock. */
	pthread_rwlock_t captures_lock;
	struct agent_captures *captures; /* NULL: no rule has a flight recorder */
	struct agent_upload_stats uploads;

	pthread_mutex_t lock; /* for what follows */
	pthread_cond_t changed;
	struct agent_recording *recordings; /* all that are not freed; the main thread changes it */
	struct agent_recording *now;        /* the one to be shown; NULL: none */
	bool stop, opened;
	bool rotate; /* the recording has grown */
	uint64_t rotate_after_ns;
	uint64_t notified_ns;
	struct agent_process refused[AGENT_REFUSED_MAX];
	size_t refused_count, refused_next;
	uint64_t attached;
	uint64_t ratios_max; /* so many processes have one in the series */
	uint64_t failures[FAILURES], whys[WHYS], reloads, bad_reloads;
	struct pt_tracer_stats stats;        /* of all recordings, so far */
	struct pt_session_overhead overhead; /* likewise */
	uint64_t shut_ns,
	    gap_ns;         /* since when nothing is recorded (0: it is); between recordings */
	uint64_t ticked_ns; /* CLOCK_MONOTONIC */
};

/* recording.c: how one session comes after the other */
/* Runs what session_run() in agent.c makes of it; why: why it begins. before: it takes the place of
 * that one, which records until the new one is about to. */
int agent_recording_start(struct agent *agent, enum agent_why why, struct agent_recording *before,
			  struct agent_recording **recording, struct pt_err *err);
/* From now on what it recorded is counted; what those before recorded has been. */
void agent_recording_count(struct agent_recording *recording);
/* Takes the place of *recording, which has grown, if it can; *recording is then the new one. If it
 * ends meanwhile for another reason it stays. */
void agent_recording_replace(struct agent_recording **recording);
/* Until it is finished, or has grown (true). */
bool agent_recording_wait(struct agent_recording *recording);
/* Frees those whose probes are gone; all: waits for them. */
void agent_recordings_free(struct agent *agent, bool all);
/* What struct pt_session_choice wants; ctx: the recording. */
bool agent_recording_ready(void *ctx);
void agent_recording_shut(uint64_t time_ns, void *ctx);
void agent_recording_finished(const struct pt_session_result *result, int rc,
			      const struct pt_err *err, void *ctx);
/* Suits pt_op_fn: the trace ops are counted in order of the recordings. */
int agent_recording_op(const struct pt_op *op, void *recording);
/* Suits struct pt_output_options. */
void agent_recording_complete(struct pt_model *model, uint64_t known_ns, void *recording);
/* For the output; NULL: nobody wants it. */
const struct pt_output_tap *agent_recording_tap(struct agent_recording *recording);
/* Under the lock: adds what is new to the agent's sums. */
void agent_recording_account(struct agent_recording *recording, const struct pt_tracer_stats *stats,
			     const struct pt_session_overhead *overhead);

/* Under the lock: the one that records; NULL: none does. */
static inline const struct agent_recording *agent_recording_now(const struct agent *agent)
{
	return agent->now && agent->now->state == AGENT_RECORDS ? agent->now : NULL;
}

/* agent.c */
/* A model begins, whose functions have numbers of their own; see pt_metrics_begin(). */
void agent_metrics_begin(struct agent *agent, uint64_t since_ns);
int agent_session_run(struct agent_recording *recording, struct pt_err *err);

/* series.c */
void agent_series(struct agent *agent, const struct pt_series_sink *sink);
/* pages.c: what there is to ask for; agent_answer() suits pt_http_answer_fn with the agent as ctx.
 */
extern const struct pt_http_page agent_pages[];
extern const size_t agent_page_count;
unsigned int agent_answer(const struct pt_http_request *request, struct pt_http_reply *reply,
			  void *agent);

#endif
