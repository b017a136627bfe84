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
#include "agent/http.h"
#include "agent/otlp.h"
#include "agent/upload.h"
#include "base/clock.h"
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

struct agent {
	const char *config_path, *cache_dir;
	/* the main thread's own */
	struct agent_config *config, *next; /* next: takes its place */
	struct agent_http *http;
	struct agent_otlp *otlp; /* NULL: nothing is sent */
	struct pt_metrics *metrics;
	uint64_t start_ns, since_1970_ns; /* CLOCK_MONOTONIC, and what it lacks */
	struct agent_otlp_stats otlp_stats;
	/* The server's threads read the pointer, the main thread sets it, under the lock. */
	pthread_rwlock_t captures_lock;
	struct agent_captures *captures; /* NULL: no rule has a flight recorder */
	struct agent_upload_stats uploads;
	bool stop, opened;
	uint64_t notified_ns;

	pthread_mutex_t lock; /* for what follows */
	bool recording;       /* those that are attached to are recorded */
	struct agent_process *processes;
	size_t process_count;
	struct agent_process refused[AGENT_REFUSED_MAX];
	size_t refused_count, refused_next;
	uint64_t attached, attached_in_session;
	uint64_t ratios_max; /* so many processes have one in the series */
	uint64_t failures[FAILURES], whys[WHYS], reloads, bad_reloads;
	struct pt_tracer_stats before, stats; /* of the sessions that have ended, of this one */
	struct pt_session_overhead overhead_before, overhead; /* likewise */
	uint64_t backlog_bytes;
	uint64_t ticked_ns; /* CLOCK_MONOTONIC */
	enum agent_why why;
};

/* series.c */
void agent_series(struct agent *agent, const struct pt_series_sink *sink);
/* pages.c: suits agent_answer_fn with the agent as ctx. */
unsigned int agent_answer(const struct agent_request *request, struct agent_reply *reply,
			  void *agent);

#endif
