// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
#include "agent/agent.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "agent/agent_parts.h"
#include "agent/captures.h"
#include "agent/notify.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/utf8.h"

#define NOTIFY_NS         1000000000ull
/* A session is ended and begun again beyond these; see agent.h. */
#define MODEL_MAX         20000
#define ATTACHED_MAX      500
/* Records that wait, in a temporary file mostly. Recording rests until they are worked off. */
#define BACKLOG_MAX_BYTES (256ull << 20)
#define RETRY_SECONDS     10
/* Of a process's own CPU time: what it earns for its limit is saved up for so long, and it is let
 * go when so much would not pay for its debt. Imports at its start are dear. */
#define CREDIT_NS         60e9

/* ---- processes ---- */

static struct agent_process *process_find(struct agent_recording *recording, pid_t pid)
{
	for (size_t i = 0; i < recording->process_count; i++)
		if (recording->processes[i].pid == pid)
			return &recording->processes[i];
	return NULL;
}

static bool wanted(const struct pt_process *process, void *ctx)
{
	const struct agent_recording *recording = ctx;
	const struct agent_rule *rule = agent_config_rule(recording->agent->config, process);

	return rule && rule->include;
}

static void describe(const struct agent *agent, const struct pt_process *process,
		     const char *version, const char *engine, struct agent_process *out)
{
	const struct agent_rule *rule = agent_config_rule(agent->config, process);

	*out = (struct agent_process){
	    .pid = process->pid, .uid = process->uid, .since = (int64_t)time(NULL)};
	pt_utf8_clean(out->name, sizeof(out->name), process->comm,
		      strnlen(process->comm, sizeof(process->comm)));
	snprintf(out->version, sizeof(out->version), "%s", version);
	snprintf(out->engine, sizeof(out->engine), "%s", engine);
	snprintf(out->rule, sizeof(out->rule), "%s", rule && rule->name ? rule->name : "");
	out->limit_ppm = rule ? rule->max_overhead_ppm : 0;
}

static void add_failure(struct agent *agent, struct agent_process *described, int rc,
			const struct pt_err *err)
{
	enum agent_failure failure = rc == -ESRCH ? FAILED_ENDED : FAILED_OTHER;

	if (rc == -EDQUOT)
		failure = FAILED_OVERHEAD;
	else if (err->exit_code == PT_EXIT_PERMISSION)
		failure = FAILED_PERMISSION;
	else if (err->exit_code == PT_EXIT_UNSUPPORTED)
		failure = FAILED_UNSUPPORTED;
	agent->failures[failure]++;
	if (failure == FAILED_ENDED)
		return;
	pt_utf8_clean(described->reason, sizeof(described->reason), err->what, strlen(err->what));
	agent->refused[agent->refused_next] = *described;
	agent->refused_next = (agent->refused_next + 1) % AGENT_REFUSED_MAX;
	if (agent->refused_count < AGENT_REFUSED_MAX)
		agent->refused_count++;
}

static void add_attached(struct agent_recording *recording, const struct agent_process *described)
{
	struct agent_process *process = process_find(recording, described->pid), *bigger;

	recording->agent->attached++;
	recording->attached++;
	if (!process) {
		bigger = reallocarray(recording->processes, recording->process_count + 1,
				      sizeof(*bigger));
		if (!bigger)
			return; /* it is counted, but not shown */
		recording->processes = bigger;
		process = &bigger[recording->process_count++];
	}
	*process = *described;
}

static void attached(const struct pt_process *process, const char *version, const char *engine,
		     int rc, const struct pt_err *err, void *ctx)
{
	struct agent_recording *recording = ctx;
	struct agent *agent = recording->agent;
	const struct agent_rule *rule;
	struct agent_process described;

	describe(agent, process, version, engine, &described);
	pthread_mutex_lock(&agent->lock);
	if (rc)
		add_failure(agent, &described, rc, err);
	else
		add_attached(recording, &described);
	pthread_mutex_unlock(&agent->lock);
	if (rc)
		return;
	rule = agent_config_rule(agent->config, process);
	agent_captures_attached(agent->captures, process->pid, rule, version, engine);
	agent_trace_watch_attached(recording->traces, process->pid, rule, version);
}

static void ended(pid_t pid, void *ctx)
{
	struct agent_recording *recording = ctx;
	struct agent *agent = recording->agent;
	struct agent_process *process;

	pthread_mutex_lock(&agent->lock);
	process = process_find(recording, pid);
	if (process)
		*process = recording->processes[--recording->process_count];
	pthread_mutex_unlock(&agent->lock);
}

/* Enters it into the process's account; true: it is in debt too deep. */
static bool too_dear(struct agent_process *process, uint64_t spent_ns, uint64_t own_ns)
{
	double limit = (double)process->limit_ppm / 1e6;

	process->spent_ns += spent_ns;
	process->own_ns += own_ns;
	if (!process->limit_ppm)
		return false;
	process->balance_ns += limit * (double)own_ns - (double)spent_ns;
	if (process->balance_ns > limit * CREDIT_NS)
		process->balance_ns = limit * CREDIT_NS;
	return process->balance_ns < -limit * CREDIT_NS;
}

static bool cost(pid_t pid, uint64_t spent_ns, uint64_t own_ns, void *ctx)
{
	struct agent_recording *recording = ctx;
	struct agent *agent = recording->agent;
	struct agent_process *process;
	struct pt_err err = {0};
	bool let_go;

	pthread_mutex_lock(&agent->lock);
	process = process_find(recording, pid);
	let_go = process && too_dear(process, spent_ns, own_ns);
	if (let_go) {
		pt_err_set(&err, -EDQUOT, PT_EXIT_FAILED, "",
			   "recording cost it %.3g %% of its own CPU time (max_overhead %.4g%%)",
			   process->own_ns
			       ? 100 * (double)process->spent_ns / (double)process->own_ns
			       : 100,
			   (double)process->limit_ppm / 1e4);
		pt_warn("process %d (%s) is let go: %s", pid, process->name, err.what);
		add_failure(agent, process, -EDQUOT, &err);
	}
	pthread_mutex_unlock(&agent->lock);
	return let_go;
}

static bool wants_cost(const struct agent_config *config)
{
	for (size_t i = 0; i < config->rule_count; i++)
		if (config->rules[i].max_overhead_ppm)
			return true;
	return config->max_overhead_ppm != 0;
}

/* ---- while it records ---- */

/* For the watchdog: while recording, by the recording thread alone. */
static void alive(struct agent *agent)
{
	uint64_t now_ns = pt_now_ns();
	bool due;

	if (!getenv("WATCHDOG_USEC"))
		return;
	pthread_mutex_lock(&agent->lock);
	due = now_ns - agent->notified_ns >= NOTIFY_NS;
	if (due)
		agent->notified_ns = now_ns;
	pthread_mutex_unlock(&agent->lock);
	if (due)
		agent_notify("WATCHDOG=1");
}

/* What ends it, or what its successor is for. */
static bool judge(struct agent_recording *recording, const struct pt_session_progress *progress,
		  uint64_t now_ns)
{
	struct agent *agent = recording->agent;

	if (recording->to_end) {
		recording->handed_over = true;
		return true;
	}
	if (!recording->counts)
		return false; /* what is before it is not its fault */
	if (progress->backlog_bytes > BACKLOG_MAX_BYTES) {
		recording->next_why = WHY_BACKLOG;
		return true;
	}
	if ((recording->attached > ATTACHED_MAX ||
	     pt_metrics_model_size(agent->metrics) > MODEL_MAX) &&
	    now_ns >= agent->rotate_after_ns) {
		agent->rotate = true;
		pthread_cond_broadcast(&agent->changed);
	}
	return false;
}

static bool tick(const struct pt_session_progress *progress, const struct pt_tracer_stats *stats,
		 void *ctx)
{
	struct agent_recording *recording = ctx;
	struct agent *agent = recording->agent;
	uint64_t now_ns = pt_now_ns();
	bool ends;

	pthread_mutex_lock(&agent->lock);
	agent_recording_account(recording, stats, &progress->overhead);
	recording->backlog_bytes = progress->backlog_bytes;
	agent->ticked_ns = now_ns;
	ends = !progress->writing && judge(recording, progress, now_ns);
	pthread_mutex_unlock(&agent->lock);
	alive(agent);
	return ends;
}

static bool reload(struct agent_recording *recording)
{
	struct agent *agent = recording->agent;
	struct pt_err err = {0};
	int rc = agent_config_load(agent->config_path, &agent->next, &err);

	pthread_mutex_lock(&agent->lock);
	agent->reloads++;
	agent->bad_reloads += rc != 0;
	pthread_mutex_unlock(&agent->lock);
	if (rc)
		pt_error("the configuration stays as it was: %s", err.what);
	else
		recording->next_why = WHY_RELOAD;
	return !rc;
}

static bool take_signal(int number, void *ctx)
{
	struct agent_recording *recording = ctx;
	struct agent *agent = recording->agent;

	if (number == SIGHUP)
		return reload(recording);
	if (number == SIGUSR1 || number == SIGUSR2)
		agent_captures_signal(agent->captures, number);
	if (number == SIGINT || number == SIGTERM)
		agent->stop = true;
	return agent->stop;
}

/* It is the one that is shown now. */
static void begun(struct agent_recording *recording)
{
	struct agent *agent = recording->agent;

	agent->whys[recording->why]++;
	agent->ratios_max = agent->config->processes;
	agent->now = recording;
}

static void opened(const struct pt_session_opened *session, void *ctx)
{
	struct agent_recording *recording = ctx;
	struct agent *agent = recording->agent;

	if (!agent->opened)
		pt_info("the agent answers at %s; %zu rule%s", pt_http_url(agent->http),
			agent->config->rule_count, agent->config->rule_count == 1 ? "" : "s");
	agent->opened = true;
	pthread_mutex_lock(&agent->lock);
	if (agent->shut_ns)
		agent->gap_ns += pt_now_ns() - agent->shut_ns;
	agent->shut_ns = 0;
	if (agent->now != recording)
		begun(recording);
	recording->state = AGENT_RECORDS;
	pthread_mutex_unlock(&agent->lock);
	agent_notify("READY=1");
}

/* ---- sessions ---- */

static int start_http(const struct agent_config *config, struct agent *agent, struct pt_http **http,
		      struct pt_err *err)
{
	const struct pt_http_options options = {.listen = config->listen,
						.tls_cert = config->tls.cert,
						.tls_key = config->tls.key,
						.token = config->token,
						.token_name = "token_file",
						.busy_hint = "is another agent running? "
							     "\"listen\" chooses "
							     "another place",
						.pages = agent_pages,
						.page_count = agent_page_count,
						.answer = agent_answer,
						.ctx = agent};

	return pt_http_start(&options, http, err);
}

/* Suits struct agent_otlp_options. */
static void collect(const struct pt_series_sink *sink, void *ctx)
{
	agent_series(ctx, sink);
}

/* Likewise. */
static size_t take(struct pt_otlp_trace **traces, size_t max, void *ctx)
{
	return agent_traces_take(((struct agent *)ctx)->traces, traces, max);
}

static void stop_otlp(struct agent *agent, bool last)
{
	agent_otlp_stop(agent->otlp_traces, last);
	agent->otlp_traces = NULL;
	agent_otlp_stop(agent->otlp, last);
	agent->otlp = NULL;
}

/* With the configuration that holds; without an endpoint there is nothing to do. */
static int start_otlp(struct agent *agent, struct pt_err *err)
{
	struct agent_otlp_options options = {.config = &agent->config->otlp,
					     .stats = &agent->otlp_stats,
					     .start_ns = agent->start_ns,
					     .since_1970_ns = agent->since_1970_ns,
					     .collect = collect,
					     .ctx = agent};
	int rc = agent->config->otlp.endpoint ? agent_otlp_start(&options, &agent->otlp, err) : 0;

	if (rc || !agent->traces)
		return rc;
	options.stats = &agent->otlp_traces_stats;
	options.take = take;
	rc = agent_otlp_start(&options, &agent->otlp_traces, err);
	if (rc)
		stop_otlp(agent, false);
	return rc;
}

static bool same_text(const char *a, const char *b)
{
	return a == b || (a && b && !strcmp(a, b));
}

/* The server of the next configuration; NULL: the one that is there serves it as well. */
static int next_http(struct agent *agent, struct pt_http **http, struct pt_err *err)
{
	const struct agent_config *old = agent->config, *next = agent->next;
	bool same_place = same_text(old->listen, next->listen);

	if (same_place && same_text(old->token, next->token) &&
	    same_text(old->tls.cert, next->tls.cert) && same_text(old->tls.key, next->tls.key))
		return 0;
	if (same_place) {
		pt_http_stop(agent->http);
		agent->http = NULL;
	}
	return start_http(next, agent, http, err);
}

static void swap_captures(struct agent *agent, struct agent_captures *captures)
{
	struct agent_captures *before = agent->captures;

	pthread_rwlock_wrlock(&agent->captures_lock);
	agent->captures = captures;
	pthread_rwlock_unlock(&agent->captures_lock);
	agent_captures_free(before);
}

/* With what belongs to each. */
static void swap_configs(struct agent *agent, struct agent_traces **traces)
{
	struct agent_config *old = agent->config;
	struct agent_traces *old_traces = agent->traces;

	agent->config = agent->next;
	agent->next = old;
	agent->traces = *traces;
	*traces = old_traces;
}

/* Takes the next configuration. Where it cannot listen, send, or write captures, the old one stays.
 */
static void take_next(struct agent *agent)
{
	struct pt_http *http = NULL;
	struct pt_err err = {0}, ignored = {0};
	struct agent_traces *traces = NULL;
	struct agent_captures *captures;
	int rc = agent_captures_new(agent->next, agent->captures, &agent->uploads, &captures, &err);

	stop_otlp(agent, false); /* a folder is for one */
	if (!rc)
		rc = agent_traces_new(agent->next, &agent->trace_stats, &traces, &err);
	if (!rc)
		rc = next_http(agent, &http, &err);
	swap_configs(agent, &traces);
	if (!rc)
		rc = start_otlp(agent, &err);
	if (rc) {
		swap_configs(agent, &traces);
		pt_http_stop(http);
		http = NULL;
		pt_error("the configuration stays as it was: %s", err.what);
		if (!agent->http && start_http(agent->config, agent, &agent->http, &ignored))
			pt_error("%s", ignored.what);
		if (start_otlp(agent, &ignored))
			pt_error("%s", ignored.what);
		agent_captures_free(captures);
	} else {
		swap_captures(agent, captures);
		pt_info("the configuration was read anew: %zu rules", agent->config->rule_count);
	}
	agent_traces_free(traces);
	agent_config_free(agent->next);
	agent->next = NULL;
	if (http) {
		pt_http_stop(agent->http);
		agent->http = http;
	}
}

static void metrics_options(const struct agent_config *config, struct pt_metrics_options *options)
{
	*options = (struct pt_metrics_options){.processes = (unsigned int)config->processes,
					       .functions = (unsigned int)config->functions,
					       .keep_ns = config->keep_ended_ns,
					       .calls = config->engine == PT_ENGINE_AUTO,
					       .events = config->engine != PT_ENGINE_SAMPLE,
					       .samples = config->engine != PT_ENGINE_AUTO ||
							  config->max_overhead_ppm};
}

void agent_metrics_begin(struct agent *agent, uint64_t since_ns)
{
	struct pt_metrics_options options;

	metrics_options(agent->config, &options);
	pt_metrics_set_options(agent->metrics, &options);
	pt_metrics_begin(agent->metrics, pt_now_ns(), since_ns);
}

/* What the configuration asks for, and what triggers wait for. */
static unsigned int features(const struct agent *agent)
{
	const struct agent_config *config = agent->config;
	unsigned int needs = agent_captures_needs(agent->captures);
	bool exceptions = config->exceptions || needs & PT_NEEDS_EXCEPTIONS;
	bool async = needs & PT_NEEDS_ASYNC || agent->traces; /* requests may be tasks */

	return (unsigned int)config->gc << PY_FEATURE_GC |
	       (unsigned int)config->gil << PY_FEATURE_GIL |
	       (unsigned int)exceptions << PY_FEATURE_EXCEPTIONS |
	       (unsigned int)async << PY_FEATURE_ASYNC;
}

int agent_session_run(struct agent_recording *recording, struct pt_err *err)
{
	struct agent *agent = recording->agent;
	const struct agent_config *config = agent->config;
	const struct pt_output_tap *tap = agent_recording_tap(recording);
	const struct pt_session_choice choice = {.wanted = wanted,
						 .attached = attached,
						 .ended = ended,
						 .tick = tick,
						 .signal = take_signal,
						 .cost = wants_cost(config) ? cost : NULL,
						 .ready = agent_recording_ready,
						 .shut = agent_recording_shut,
						 .finished = agent_recording_finished,
						 .scan_ns = config->scan_ns,
						 .ctx = recording};
	const struct pt_session_watch watch = {.opened = opened, .ctx = recording};
	struct pt_session_options options = {
	    .choice = &choice,
	    .follow = PT_FOLLOW_NO,
	    .features = features(agent),
	    .tracer = {.ring_bytes = config->buffer_bytes,
		       .withdrawable = config->max_overhead_ppm != 0},
	    .max_overhead = (double)config->max_overhead_ppm / 1e6,
	    .output = {.op = agent_recording_op,
		       .op_ctx = recording,
		       .complete = recording->traces ? agent_recording_complete : NULL,
		       .tap = tap,
		       .model = {.no_c_functions = true,
				 .memory = agent_captures_needs(agent->captures) &
					   PT_NEEDS_MEMORY}},
	    .cache_dir = agent->cache_dir,
	    .cuda = (enum pt_cuda_mode)config->cuda,
	    .say_complete = tap != NULL || recording->traces,
	};
	struct pt_session_result *result = calloc(1, sizeof(*result));
	int rc;

	if (!result)
		return pt_err_set(err, -ENOMEM, PT_EXIT_FAILED, "", "out of memory");
	options.engine = config->engine;
	options.tracer.hybrid = config->engine == PT_ENGINE_HYBRID;
	options.tracer.sample_rests = options.tracer.withdrawable;
	if (config->engine != PT_ENGINE_AUTO || options.tracer.sample_rests)
		options.tracer.sample_hz = (unsigned int)config->frequency;
	if (config->engine == PT_ENGINE_SAMPLE) {
		options.features = 0;
		options.cuda = PT_CUDA_NONE;
	}
	rc = pt_session_run(&options, &watch, result, err);
	free(result);
	return rc;
}

/* After a session that failed: waits a while, or until a signal says to stop. */
static void rest(struct agent *agent, const struct pt_err *err)
{
	uint64_t until_ns = pt_now_ns() + RETRY_SECONDS * 1000000000ull;
	const struct timespec second = {.tv_sec = 1};
	sigset_t set;

	pt_error("%s; trying again in %d s", err->what, RETRY_SECONDS);
	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	while (!agent->stop && pt_now_ns() < until_ns) {
		alive(agent);
		agent->stop = sigtimedwait(&set, NULL, &second) >= 0;
	}
}

/* One recording, and those that take its place as it grows, to the end of the last one. */
static int run_once(struct agent *agent, enum agent_why *why, struct pt_err *err)
{
	struct agent_recording *recording;
	int rc = agent_recording_start(agent, *why, NULL, &recording, err);

	*why = WHY_ERROR;
	if (rc)
		return rc;
	pthread_mutex_lock(&agent->lock);
	if (agent->now != recording)
		begun(recording);
	pthread_mutex_unlock(&agent->lock);
	while (agent_recording_wait(recording))
		agent_recording_replace(&recording);
	pthread_mutex_lock(&agent->lock);
	*why = recording->next_why;
	*err = recording->err;
	rc = recording->rc;
	pthread_mutex_unlock(&agent->lock);
	return rc;
}

static int run(struct agent *agent, struct pt_err *err)
{
	enum agent_why why = WHY_START;

	while (!agent->stop) {
		struct pt_err failed = {0};
		int rc = run_once(agent, &why, &failed);

		if (rc && !agent->opened) {
			*err = failed;
			return rc;
		}
		agent_recordings_free(agent, false);
		if (agent->next)
			take_next(agent);
		if (rc && !agent->stop)
			rest(agent, &failed);
	}
	agent_notify("STOPPING=1");
	return 0;
}

/* Whoever waits for them takes them: the session, or rest(). */
static void block_signals(void)
{
	static const int numbers[] = {SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2};
	sigset_t set;

	sigemptyset(&set);
	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
		sigaddset(&set, numbers[i]);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
}

int agent_run(const char *config_path, struct agent_config *config, const char *cache_dir,
	      struct pt_err *err)
{
	struct agent *agent = calloc(1, sizeof(*agent));
	struct pt_metrics_options options;
	int rc = -ENOMEM;

	if (!agent) {
		agent_config_free(config);
		return pt_err_set(err, rc, PT_EXIT_FAILED, "", "out of memory");
	}
	agent->config_path = config_path;
	agent->config = config;
	agent->cache_dir = cache_dir;
	agent->start_ns = pt_now_ns();
	agent->since_1970_ns = pt_since_1970_ns();
	pthread_mutex_init(&agent->lock, NULL);
	pthread_cond_init(&agent->changed, NULL);
	pthread_rwlock_init(&agent->captures_lock, NULL);
	block_signals();
	metrics_options(config, &options);
	rc = pt_metrics_new(&options, &agent->metrics);
	if (!rc)
		rc = agent_captures_new(config, NULL, &agent->uploads, &agent->captures, err);
	if (!rc)
		rc = agent_traces_new(config, &agent->trace_stats, &agent->traces, err);
	if (!rc)
		rc = start_http(config, agent, &agent->http, err);
	if (!rc)
		rc = start_otlp(agent, err);
	if (!rc)
		rc = run(agent, err);
	agent_recordings_free(agent, true);
	stop_otlp(agent, true);
	pt_http_stop(agent->http);
	agent_captures_free(agent->captures);
	agent_traces_free(agent->traces);
	pt_metrics_free(agent->metrics);
	agent_config_free(agent->config);
	agent_config_free(agent->next);
	pthread_rwlock_destroy(&agent->captures_lock);
	pthread_cond_destroy(&agent->changed);
	pthread_mutex_destroy(&agent->lock);
	free(agent);
	return rc;
}
