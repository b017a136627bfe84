// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * One session after the other, each in a thread of its own. To load the programs and to put probes
 * into each process takes some tenths of a second to seconds, to remove them longer; neither is to
 * be time in which nothing is counted. So a recording that has grown goes on until its successor
 * has all its probes: then its gate is shut, and the other's opens, a few milliseconds later. What
 * the new one records waits in its queue until all of the old one is counted; the old one's probes
 * are removed meanwhile. A call that a thread is entering while the gates change may be missing; if
 * the kernel is held up between the two programs at its probe for all that time, it comes twice.
 */
#include <errno.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>

#include "agent/agent_parts.h"
#include "agent/captures.h"
#include "base/log.h"
#include "base/thread.h"

/* A recording that could not be replaced goes on for so long before it is tried again. */
#define ROTATE_AGAIN_NS 60000000000ull
/* The same while the probes of the one before are still being removed. */
#define LINGERS_NS      1000000000ull

/* Under the lock; lets go of it. */
static void wait_for_change(struct agent *agent)
{
	pthread_cond_wait(&agent->changed, &agent->lock);
}

static void set_state(struct agent_recording *recording, enum agent_state state)
{
	recording->state = state;
	pthread_cond_broadcast(&recording->agent->changed);
}

/* ---- what the session asks ---- */

bool agent_recording_ready(void *ctx)
{
	struct agent_recording *recording = ctx, *before = recording->before;
	struct agent *agent = recording->agent;
	bool go;

	if (!before)
		return true;
	pthread_mutex_lock(&agent->lock);
	before->to_end = true;
	while (before->state < AGENT_SHUT)
		wait_for_change(agent);
	go = before->handed_over;
	pthread_mutex_unlock(&agent->lock);
	return go;
}

void agent_recording_shut(uint64_t time_ns, void *ctx)
{
	struct agent_recording *recording = ctx;
	struct agent *agent = recording->agent;

	pthread_mutex_lock(&agent->lock);
	agent->shut_ns = time_ns;
	set_state(recording, AGENT_SHUT);
	pthread_mutex_unlock(&agent->lock);
}

/* Of what was recorded; no later than the main thread may take another configuration. */
static void end_traces(struct agent_recording *recording)
{
	agent_trace_watch_free(recording->traces);
	recording->traces = NULL;
}

void agent_recording_finished(const struct pt_session_result *result, int rc,
			      const struct pt_err *err, void *ctx)
{
	struct agent_recording *recording = ctx;
	struct agent *agent = recording->agent;

	end_traces(recording);
	pthread_mutex_lock(&agent->lock);
	agent_recording_account(recording, &result->stats, &result->overhead);
	recording->backlog_bytes = 0;
	recording->rc = rc;
	recording->err = *err;
	set_state(recording, AGENT_FINISHED);
	pthread_mutex_unlock(&agent->lock);
}

void agent_recording_account(struct agent_recording *recording, const struct pt_tracer_stats *stats,
			     const struct pt_session_overhead *overhead)
{
	struct pt_tracer_stats *stats_sum = &recording->agent->stats, *told = &recording->stats;
	struct pt_session_overhead *sum = &recording->agent->overhead, *was = &recording->overhead;

	stats_sum->events += stats->events - told->events;
	stats_sum->lost_events += stats->lost_events - told->lost_events;
	stats_sum->lost_records += stats->lost_records - told->lost_records;
	stats_sum->missed += stats->missed - told->missed;
	stats_sum->cuda_missed += stats->cuda_missed - told->cuda_missed;
	*told = *stats;
	sum->known |= overhead->known;
	sum->spent_ns += overhead->spent_ns - was->spent_ns;
	sum->own_ns += overhead->own_ns - was->own_ns;
	sum->recorded_ns += overhead->recorded_ns - was->recorded_ns;
	sum->rested_ns += overhead->rested_ns - was->rested_ns;
	sum->sampled_ns += overhead->sampled_ns - was->sampled_ns;
	sum->rests += overhead->rests - was->rests;
	*was = *overhead;
}

/* ---- what comes of it, in the output's thread ---- */

static void wait_for_turn(struct agent_recording *recording)
{
	struct agent *agent = recording->agent;

	if (__atomic_load_n(&recording->counts, __ATOMIC_ACQUIRE))
		return;
	pthread_mutex_lock(&agent->lock);
	while (!recording->counts)
		wait_for_change(agent);
	pthread_mutex_unlock(&agent->lock);
}

int agent_recording_op(const struct pt_op *op, void *ctx)
{
	struct agent_recording *recording = ctx;

	wait_for_turn(recording);
	if (recording->traces)
		agent_trace_watch_op(recording->traces, op);
	return pt_metrics_op(op, recording->agent->metrics);
}

void agent_recording_complete(struct pt_model *model, uint64_t known_ns, void *ctx)
{
	agent_trace_watch_complete(((struct agent_recording *)ctx)->traces, model, known_ns);
}

static int open_tap(struct agent_recording *recording, struct pt_err *err)
{
	recording->tap_open = true;
	return recording->tap->open(&recording->tap_info, &recording->tap_model,
				    recording->tap->ctx, err);
}

/* The session's thread cannot wait for the recorders' turn; the output's does. */
static int tap_open(const struct pt_capture_info *info, const struct pt_model_options *model,
		    void *ctx, struct pt_err *err)
{
	struct agent_recording *recording = ctx;

	recording->tap_info = *info;
	recording->tap_model = *model;
	return recording->before ? 0 : open_tap(recording, err);
}

static void tap_record(const struct pt_rec *record, size_t len, void *ctx)
{
	struct agent_recording *recording = ctx;
	struct pt_err err = {0};

	wait_for_turn(recording);
	if (!recording->tap_open && open_tap(recording, &err)) {
		pt_error("the recording is begun anew: %s", err.what);
		pthread_mutex_lock(&recording->agent->lock);
		recording->to_end = true;
		pthread_mutex_unlock(&recording->agent->lock);
	}
	recording->tap->record(record, len, recording->tap->ctx);
}

static void tap_close(void *ctx)
{
	struct agent_recording *recording = ctx;

	if (recording->tap_open)
		recording->tap->close(recording->tap->ctx);
}

const struct pt_output_tap *agent_recording_tap(struct agent_recording *recording)
{
	recording->tap = agent_captures_tap(recording->agent->captures);
	recording->own_tap = (struct pt_output_tap){
	    .open = tap_open, .record = tap_record, .close = tap_close, .ctx = recording};
	return recording->tap ? &recording->own_tap : NULL;
}

/* ---- the main thread ---- */

static void *run(void *ctx)
{
	struct agent_recording *recording = ctx;
	struct agent *agent = recording->agent;
	struct pt_err err = {0};
	int rc = agent_session_run(recording, &err);

	end_traces(recording);
	pthread_mutex_lock(&agent->lock);
	if (recording->state < AGENT_FINISHED) {
		recording->rc = rc;
		recording->err = err;
	}
	set_state(recording, AGENT_GONE);
	pthread_mutex_unlock(&agent->lock);
	return NULL;
}

int agent_recording_start(struct agent *agent, enum agent_why why, struct agent_recording *before,
			  struct agent_recording **out, struct pt_err *err)
{
	struct agent_recording *recording = calloc(1, sizeof(*recording));
	int rc;

	if (!recording) {
		pt_err_set(err, -ENOMEM, PT_EXIT_FAILED, "", "out of memory");
		return -ENOMEM;
	}
	recording->agent = agent;
	recording->began_ns = pt_now_ns();
	recording->before = before;
	recording->why = why;
	recording->next_why = WHY_ERROR; /* unless something else ends it */
	rc = agent_trace_watch_new(agent->traces, &recording->traces);
	if (!rc && !before)
		agent_recording_count(recording);
	if (!rc)
		rc = pt_thread_start(&recording->thread, run, recording);
	if (rc) {
		end_traces(recording);
		free(recording);
		pt_err_set(err, rc, PT_EXIT_FAILED, "", "cannot start a thread: %s", strerror(-rc));
		return rc;
	}
	pthread_mutex_lock(&agent->lock);
	recording->next = agent->recordings;
	agent->recordings = recording;
	pthread_mutex_unlock(&agent->lock);
	*out = recording;
	return 0;
}

void agent_recording_count(struct agent_recording *recording)
{
	struct agent *agent = recording->agent;

	agent_metrics_begin(agent, recording->before ? recording->began_ns : UINT64_MAX);
	agent_captures_begin(agent->captures, recording->before != NULL);
	pthread_mutex_lock(&agent->lock);
	agent->ticked_ns = pt_now_ns();
	recording->before = NULL;
	__atomic_store_n(&recording->counts, true, __ATOMIC_RELEASE);
	pthread_cond_broadcast(&agent->changed);
	pthread_mutex_unlock(&agent->lock);
}

bool agent_recording_wait(struct agent_recording *recording)
{
	struct agent *agent = recording->agent;
	bool grown;

	pthread_mutex_lock(&agent->lock);
	while (recording->state < AGENT_FINISHED &&
	       !(agent->rotate && recording->state < AGENT_SHUT))
		wait_for_change(agent);
	grown = recording->state < AGENT_FINISHED;
	agent->rotate = false;
	pthread_mutex_unlock(&agent->lock);
	return grown;
}

/* Until the one that goes is finished, or the other one has failed. True: that one records. */
static bool handed_over(struct agent_recording *old, struct agent_recording *next)
{
	struct agent *agent = old->agent;
	bool done;

	pthread_mutex_lock(&agent->lock);
	while (old->state < AGENT_FINISHED && (next->state < AGENT_FINISHED || old->handed_over))
		wait_for_change(agent);
	done = old->state >= AGENT_FINISHED && old->handed_over;
	while (!done && next->state < AGENT_FINISHED)
		wait_for_change(agent);
	pthread_mutex_unlock(&agent->lock);
	return done;
}

static void rotate_later(struct agent *agent, uint64_t wait_ns)
{
	pthread_mutex_lock(&agent->lock);
	agent->rotate_after_ns = pt_now_ns() + wait_ns;
	pthread_mutex_unlock(&agent->lock);
}

void agent_recording_replace(struct agent_recording **recording)
{
	struct agent_recording *old = *recording, *next;
	struct agent *agent = old->agent;
	struct pt_err err = {0};

	agent_recordings_free(agent, false);
	if (old->next || agent->recordings != old) {
		rotate_later(agent, LINGERS_NS);
		return;
	}
	if (agent_recording_start(agent, WHY_ROTATE, old, &next, &err)) {
		pt_warn("the recording goes on, though it has grown: %s", err.what);
		rotate_later(agent, ROTATE_AGAIN_NS);
		return;
	}
	if (handed_over(old, next)) {
		pthread_mutex_lock(&agent->lock);
		agent->rotate = false; /* the old one may have said so again */
		pthread_mutex_unlock(&agent->lock);
		agent_recording_count(next);
		*recording = next;
		return;
	}
	if (next->rc && next->rc != -ECANCELED)
		pt_warn("the recording goes on, though it has grown: %s", next->err.what);
	rotate_later(agent, ROTATE_AGAIN_NS);
}

void agent_recordings_free(struct agent *agent, bool all)
{
	struct agent_recording **at = &agent->recordings;
	bool freed = false;

	while (*at) {
		struct agent_recording *recording = *at;
		bool gone;

		pthread_mutex_lock(&agent->lock);
		gone = recording->state == AGENT_GONE;
		if (agent->now == recording && (all || gone))
			agent->now = NULL;
		pthread_mutex_unlock(&agent->lock);
		if (!gone && !all) {
			at = &recording->next;
			continue;
		}
		pthread_join(recording->thread, NULL);
		pthread_mutex_lock(&agent->lock);
		*at = recording->next;
		pthread_mutex_unlock(&agent->lock);
		free(recording->processes);
		free(recording);
		freed = true;
	}
	/* what a recording knew is megabytes in small pieces, which free() keeps otherwise */
	if (freed)
		malloc_trim(0);
}
