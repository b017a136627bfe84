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

static struct agent_process *process_find(struct agent *agent, pid_t pid)
{
	for (size_t i = 0; i < agent->process_count; i++)
		if (agent->processes[i].pid == pid)
			return &agent->processes[i];
	return NULL;
}

static bool wanted(const struct pt_process *process, void *ctx)
{
	const struct agent *agent = ctx;
	const struct agent_rule *rule = agent_config_rule(agent->config, process);

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

static void add_attached(struct agent *agent, const struct agent_process *described)
{
	struct agent_process *process = process_find(agent, described->pid), *bigger;

	agent->attached++;
	agent->attached_in_session++;
	if (!process) {
		bigger = reallocarray(agent->processes, agent->process_count + 1, sizeof(*bigger));
		if (!bigger)
			return; /* it is counted, but not shown */
		agent->processes = bigger;
		process = &bigger[agent->process_count++];
	}
	*process = *described;
}

static void attached(const struct pt_process *process, const char *version, const char *engine,
		     int rc, const struct pt_err *err, void *ctx)
{
	struct agent_process described;
	struct agent *agent = ctx;

	describe(agent, process, version, engine, &described);
	pthread_mutex_lock(&agent->lock);
	if (rc)
		add_failure(agent, &described, rc, err);
	else
		add_attached(agent, &described);
	pthread_mutex_unlock(&agent->lock);
	if (!rc)
		agent_captures_attached(agent->captures, process->pid,
					agent_config_rule(agent->config, process), version, engine);
}

static void ended(pid_t pid, void *ctx)
{
	struct agent *agent = ctx;
	struct agent_process *process;

	pthread_mutex_lock(&agent->lock);
	process = process_find(agent, pid);
	if (process)
		*process = agent->processes[--agent->process_count];
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
	struct agent *agent = ctx;
	struct agent_process *process;
	struct pt_err err = {0};
	bool let_go;

	pthread_mutex_lock(&agent->lock);
	process = process_find(agent, pid);
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

static void alive(struct agent *agent, uint64_t now_ns)
{
	if (!getenv("WATCHDOG_USEC") || now_ns - agent->notified_ns < NOTIFY_NS)
		return;
	agent->notified_ns = now_ns;
	agent_notify("WATCHDOG=1");
}

static bool tick(const struct pt_session_progress *progress, const struct pt_tracer_stats *stats,
		 void *ctx)
{
	uint64_t now_ns = pt_now_ns();
	struct agent *agent = ctx;
	uint64_t in_session;

	pthread_mutex_lock(&agent->lock);
	agent->stats = *stats;
	agent->overhead = progress->overhead;
	agent->backlog_bytes = progress->backlog_bytes;
	agent->ticked_ns = now_ns;
	in_session = agent->attached_in_session;
	pthread_mutex_unlock(&agent->lock);
	alive(agent, now_ns);
	if (progress->writing)
		return false;
	if (progress->backlog_bytes > BACKLOG_MAX_BYTES)
		agent->why = WHY_BACKLOG;
	else if (in_session > ATTACHED_MAX || pt_metrics_model_size(agent->metrics) > MODEL_MAX)
		agent->why = WHY_ROTATE;
	else
		return false;
	return true;
}

static bool reload(struct agent *agent)
{
	struct pt_err err = {0};
	int rc = agent_config_load(agent->config_path, &agent->next, &err);

	pthread_mutex_lock(&agent->lock);
	agent->reloads++;
	agent->bad_reloads += rc != 0;
	pthread_mutex_unlock(&agent->lock);
	if (rc)
		pt_error("the configuration stays as it was: %s", err.what);
	else
		agent->why = WHY_RELOAD;
	return !rc;
}

static bool take_signal(int number, void *ctx)
{
	struct agent *agent = ctx;

	if (number == SIGHUP)
		return reload(agent);
	if (number == SIGUSR1 || number == SIGUSR2)
		agent_captures_signal(agent->captures, number);
	if (number == SIGINT || number == SIGTERM)
		agent->stop = true;
	return agent->stop;
}

static void opened(const struct pt_session_opened *session, void *ctx)
{
	struct agent *agent = ctx;

	if (!agent->opened)
		pt_info("the agent answers at %s; %zu rule%s", agent_http_url(agent->http),
			agent->config->rule_count, agent->config->rule_count == 1 ? "" : "s");
	agent->opened = true;
	pthread_mutex_lock(&agent->lock);
	agent->recording = true;
	pthread_mutex_unlock(&agent->lock);
	agent_notify("READY=1");
}

/* ---- sessions ---- */

static int start_http(const struct agent_config *config, struct agent *agent,
		      struct agent_http **http, struct pt_err *err)
{
	const struct agent_http_options options = {.listen = config->listen,
						   .tls_cert = config->tls.cert,
						   .tls_key = config->tls.key,
						   .token = config->token,
						   .answer = agent_answer,
						   .ctx = agent};

	return agent_http_start(&options, http, err);
}

/* Suits struct agent_otlp_options. */
static void collect(const struct pt_series_sink *sink, void *ctx)
{
	agent_series(ctx, sink);
}

/* With the configuration that holds; without an endpoint there is nothing to do. */
static int start_otlp(struct agent *agent, struct pt_err *err)
{
	const struct agent_otlp_options options = {.config = &agent->config->otlp,
						   .stats = &agent->otlp_stats,
						   .start_ns = agent->start_ns,
						   .since_1970_ns = agent->since_1970_ns,
						   .collect = collect,
						   .ctx = agent};

	return agent->config->otlp.endpoint ? agent_otlp_start(&options, &agent->otlp, err) : 0;
}

static void stop_otlp(struct agent *agent, bool last)
{
	agent_otlp_stop(agent->otlp, last);
	agent->otlp = NULL;
}

static bool same_text(const char *a, const char *b)
{
	return a == b || (a && b && !strcmp(a, b));
}

/* The server of the next configuration; NULL: the one that is there serves it as well. */
static int next_http(struct agent *agent, struct agent_http **http, struct pt_err *err)
{
	const struct agent_config *old = agent->config, *next = agent->next;
	bool same_place = same_text(old->listen, next->listen);

	if (same_place && same_text(old->token, next->token) &&
	    same_text(old->tls.cert, next->tls.cert) && same_text(old->tls.key, next->tls.key))
		return 0;
	if (same_place) {
		agent_http_stop(agent->http);
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

static void swap_configs(struct agent *agent)
{
	struct agent_config *old = agent->config;

	agent->config = agent->next;
	agent->next = old;
}

/* Takes the next configuration. Where it cannot listen, send, or write captures, the old one stays.
 */
static void take_next(struct agent *agent)
{
	struct agent_http *http = NULL;
	struct pt_err err = {0}, ignored = {0};
	struct agent_captures *captures;
	int rc = agent_captures_new(agent->next, agent->captures, &agent->uploads, &captures, &err);

	stop_otlp(agent, false); /* a folder is for one */
	if (!rc)
		rc = next_http(agent, &http, &err);
	swap_configs(agent);
	if (!rc)
		rc = start_otlp(agent, &err);
	if (rc) {
		swap_configs(agent);
		agent_http_stop(http);
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
	agent_config_free(agent->next);
	agent->next = NULL;
	if (http) {
		agent_http_stop(agent->http);
		agent->http = http;
	}
}

static void metrics_options(const struct agent_config *config, struct pt_metrics_options *options)
{
	*options = (struct pt_metrics_options){.processes = (unsigned int)config->processes,
					       .functions = (unsigned int)config->functions,
					       .keep_ns = config->keep_ended_ns,
					       .calls = !config->sample,
					       .samples = config->sample};
}

static void session_begin(struct agent *agent)
{
	struct pt_metrics_options options;

	metrics_options(agent->config, &options);
	pt_metrics_set_options(agent->metrics, &options);
	pt_metrics_begin(agent->metrics, pt_now_ns());
	agent_captures_begin(agent->captures);
	pthread_mutex_lock(&agent->lock);
	agent->whys[agent->why]++;
	agent->process_count = 0;
	agent->attached_in_session = 0;
	agent->ratios_max = agent->config->processes;
	agent->ticked_ns = pt_now_ns();
	pthread_mutex_unlock(&agent->lock);
}

static void add_overhead(struct pt_session_overhead *sum, const struct pt_session_overhead *one)
{
	sum->known |= one->known;
	sum->spent_ns += one->spent_ns;
	sum->own_ns += one->own_ns;
	sum->recorded_ns += one->recorded_ns;
	sum->rested_ns += one->rested_ns;
	sum->rests += one->rests;
}

static void add_stats(struct pt_tracer_stats *sum, const struct pt_tracer_stats *stats)
{
	sum->events += stats->events;
	sum->lost_events += stats->lost_events;
	sum->lost_records += stats->lost_records;
	sum->missed += stats->missed;
	sum->cuda_missed += stats->cuda_missed;
}

/* What the configuration asks for, and what triggers wait for. */
static unsigned int features(const struct agent *agent)
{
	const struct agent_config *config = agent->config;
	unsigned int needs = agent_captures_needs(agent->captures);
	bool exceptions = config->exceptions || needs & PT_NEEDS_EXCEPTIONS;
	bool async = needs & PT_NEEDS_ASYNC;

	return (unsigned int)config->gc << PY_FEATURE_GC |
	       (unsigned int)config->gil << PY_FEATURE_GIL |
	       (unsigned int)exceptions << PY_FEATURE_EXCEPTIONS |
	       (unsigned int)async << PY_FEATURE_ASYNC;
}

static int run_session(struct agent *agent, struct pt_err *err)
{
	const struct agent_config *config = agent->config;
	const struct pt_output_tap *tap = agent_captures_tap(agent->captures);
	const struct pt_session_choice choice = {.wanted = wanted,
						 .attached = attached,
						 .ended = ended,
						 .tick = tick,
						 .signal = take_signal,
						 .cost = wants_cost(config) ? cost : NULL,
						 .scan_ns = config->scan_ns,
						 .ctx = agent};
	const struct pt_session_watch watch = {.opened = opened, .ctx = agent};
	struct pt_session_options options = {
	    .choice = &choice,
	    .follow = PT_FOLLOW_NO,
	    .features = features(agent),
	    .tracer = {.ring_bytes = config->buffer_bytes,
		       .withdrawable = config->max_overhead_ppm != 0},
	    .max_overhead = (double)config->max_overhead_ppm / 1e6,
	    .output = {.op = pt_metrics_op,
		       .op_ctx = agent->metrics,
		       .tap = tap,
		       .model = {.no_c_functions = true,
				 .memory = agent_captures_needs(agent->captures) &
					   PT_NEEDS_MEMORY}},
	    .cache_dir = agent->cache_dir,
	    .cuda = (enum pt_cuda_mode)config->cuda,
	    .say_complete = tap != NULL,
	};
	struct pt_session_result *result = calloc(1, sizeof(*result));
	int rc;

	if (!result)
		return pt_err_set(err, -ENOMEM, PT_EXIT_FAILED, "", "out of memory");
	if (config->sample) {
		options.engine = PT_ENGINE_SAMPLE;
		options.tracer.sample_hz = (unsigned int)config->frequency;
		options.features = 0;
		options.cuda = PT_CUDA_NONE;
	}
	session_begin(agent);
	agent->why = WHY_ERROR; /* unless something else ends it */
	rc = pt_session_run(&options, &watch, result, err);
	pthread_mutex_lock(&agent->lock);
	add_stats(&agent->before, &result->stats);
	agent->stats = (struct pt_tracer_stats){0};
	add_overhead(&agent->overhead_before, &result->overhead);
	agent->overhead = (struct pt_session_overhead){0};
	agent->recording = false;
	agent->backlog_bytes = 0;
	pthread_mutex_unlock(&agent->lock);
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
		alive(agent, pt_now_ns());
		agent->stop = sigtimedwait(&set, NULL, &second) >= 0;
	}
}

static int run(struct agent *agent, struct pt_err *err)
{
	while (!agent->stop) {
		struct pt_err failed = {0};
		int rc = run_session(agent, &failed);

		if (rc && !agent->opened) {
			*err = failed;
			return rc;
		}
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
	agent->since_1970_ns = pt_clock_ns(CLOCK_REALTIME) - agent->start_ns;
	pthread_mutex_init(&agent->lock, NULL);
	pthread_rwlock_init(&agent->captures_lock, NULL);
	block_signals();
	metrics_options(config, &options);
	rc = pt_metrics_new(&options, &agent->metrics);
	if (!rc)
		rc = agent_captures_new(config, NULL, &agent->uploads, &agent->captures, err);
	if (!rc)
		rc = start_http(config, agent, &agent->http, err);
	if (!rc)
		rc = start_otlp(agent, err);
	if (!rc)
		rc = run(agent, err);
	stop_otlp(agent, true);
	agent_http_stop(agent->http);
	agent_captures_free(agent->captures);
	pt_metrics_free(agent->metrics);
	agent_config_free(agent->config);
	agent_config_free(agent->next);
	pthread_rwlock_destroy(&agent->captures_lock);
	pthread_mutex_destroy(&agent->lock);
	free(agent->processes);
	free(agent);
	return rc;
}
