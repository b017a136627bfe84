// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
#include "agent/captures.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "agent/config.h"
#include "base/log.h"
#include "flight/flight.h"
#include "flight/store.h"

/* Processes that have ended are remembered for captures of their end, the newest of them. */
#define ENDED_MAX 64

struct recorder {
	struct agent_captures *captures;
	const struct agent_rule *rule;
	struct pt_flight_options options;
	struct pt_flight *flight; /* NULL: no session, or it has failed in this one */
	char folder[PATH_MAX];
};

/* A process that was attached to. */
struct route {
	pid_t pid;
	struct recorder *recorder; /* NULL: of no rule that has one */
	bool announced;            /* its records come from now on */
	bool ended;
	char version[32], engine[16];
};

struct agent_captures {
	struct recorder *recorders;
	size_t recorder_count;
	struct pt_output_tap tap;
	struct agent_upload *upload; /* NULL: captures stay here */
	unsigned int needs;

	pthread_mutex_t lock; /* for what follows, and recorder.flight where it is set or asked */
	/* In the order in which they were attached to: of a number that was used again the one that
	 * is not announced yet is the newer one. */
	struct route *routes;
	size_t route_count, route_size;
	struct agent_captures_counts counts;
};

/* ---- which recorder ---- */

static void drop_route(struct agent_captures *captures, size_t i)
{
	memmove(&captures->routes[i], &captures->routes[i + 1],
		(--captures->route_count - i) * sizeof(captures->routes[0]));
}

/* The one whose records come now, or came last. */
static struct route *find_route(const struct agent_captures *captures, pid_t pid)
{
	for (size_t i = captures->route_count; i-- > 0;)
		if (captures->routes[i].pid == pid && captures->routes[i].announced)
			return &captures->routes[i];
	return NULL;
}

static void drop_oldest_ended(struct agent_captures *captures)
{
	size_t ended = 0, oldest = 0;

	for (size_t i = captures->route_count; i-- > 0;) {
		if (!captures->routes[i].ended)
			continue;
		ended++;
		oldest = i;
	}
	if (ended > ENDED_MAX)
		drop_route(captures, oldest);
}

void agent_captures_attached(struct agent_captures *captures, pid_t pid,
			     const struct agent_rule *rule, const char *version, const char *engine)
{
	struct route route = {.pid = pid};

	if (!captures)
		return;
	for (size_t i = 0; i < captures->recorder_count; i++)
		if (captures->recorders[i].rule == rule)
			route.recorder = &captures->recorders[i];
	snprintf(route.version, sizeof(route.version), "%s", version);
	snprintf(route.engine, sizeof(route.engine), "%s", engine);
	pthread_mutex_lock(&captures->lock);
	if (captures->route_count == captures->route_size) {
		size_t size = 2 * captures->route_size + 64;
		struct route *bigger = reallocarray(captures->routes, size, sizeof(*bigger));

		if (!bigger) {
			pthread_mutex_unlock(&captures->lock);
			pt_error("process %d is in no capture: out of memory", pid);
			return;
		}
		captures->routes = bigger;
		captures->route_size = size;
	}
	captures->routes[captures->route_count++] = route;
	pthread_mutex_unlock(&captures->lock);
}

/* Its first record. Those that it had before under its number are over. */
static void announce(struct agent_captures *captures, pid_t pid)
{
	for (size_t i = 0; i < captures->route_count; i++) {
		struct route *route = &captures->routes[i];

		if (route->pid != pid || route->announced)
			continue;
		route->announced = true;
		while (i-- > 0)
			if (captures->routes[i].pid == pid)
				drop_route(captures, i);
		return;
	}
}

/* Ids of these are the whole recording's. */
static bool is_for_all(const struct pt_rec *record)
{
	switch (record->kind) {
	case PT_REC_NOTE:
	case PT_REC_CONTROL:
	case PT_REC_MARK:
	case PT_REC_CFUNC:
	case PT_REC_CUDA_FN:
	case PT_REC_CUDA_LIB:
	case PT_REC_CUDA_KERNEL:
	case PT_REC_CUDA_LOADED:
		return true;
	default:
		return !record->tgid;
	}
}

static struct recorder *choose(struct agent_captures *captures, const struct pt_rec *record,
			       size_t len)
{
	const struct pt_rec_proc *process = (const struct pt_rec_proc *)record;
	bool is_process = record->kind == PT_REC_PROC && len >= sizeof(*process);
	struct recorder *recorder = NULL;
	struct route *route;

	pthread_mutex_lock(&captures->lock);
	if (is_process && process->what == PT_PROC_ATTACH)
		announce(captures, (pid_t)record->tgid);
	route = find_route(captures, (pid_t)record->tgid);
	if (route) {
		recorder = route->recorder;
		if (is_process && process->what == PT_PROC_EXIT) {
			route->ended = true;
			drop_oldest_ended(captures);
		}
	}
	pthread_mutex_unlock(&captures->lock);
	return recorder;
}

/* ---- a session ---- */

static void close_flight(struct recorder *recorder)
{
	struct agent_captures *captures = recorder->captures;
	struct pt_flight *flight = recorder->flight;
	uint64_t made, failed;

	pthread_mutex_lock(&captures->lock);
	recorder->flight = NULL;
	pthread_mutex_unlock(&captures->lock);
	if (flight)
		pt_flight_close(flight, &made, &failed);
}

static void put(struct recorder *recorder, const struct pt_rec *record, size_t len)
{
	int rc = recorder->flight ? pt_flight_record(record, len, recorder->flight) : 0;

	if (!rc)
		return;
	pt_error("rule '%s' has no flight recorder until the recording is begun anew: %s",
		 recorder->rule->name, strerror(-rc));
	close_flight(recorder);
}

static void tap_record(const struct pt_rec *record, size_t len, void *ctx)
{
	struct agent_captures *captures = ctx;
	struct recorder *recorder;

	if (len < sizeof(*record))
		return;
	if (is_for_all(record)) {
		for (size_t i = 0; i < captures->recorder_count; i++)
			put(&captures->recorders[i], record, len);
		return;
	}
	recorder = choose(captures, record, len);
	if (recorder)
		put(recorder, record, len);
}

static int tap_open(const struct pt_capture_info *info, const struct pt_model_options *model,
		    void *ctx, struct pt_err *err)
{
	static const struct pt_sink_options sink;
	struct agent_captures *captures = ctx;
	int rc = 0;

	for (size_t i = 0; !rc && i < captures->recorder_count; i++) {
		struct recorder *recorder = &captures->recorders[i];
		struct pt_flight *flight;

		rc = pt_flight_open(&recorder->options, model, &sink, info, (uid_t)-1, (gid_t)-1,
				    &flight, err);
		pthread_mutex_lock(&captures->lock);
		recorder->flight = rc ? NULL : flight;
		pthread_mutex_unlock(&captures->lock);
	}
	return rc;
}

static void tap_close(void *ctx)
{
	struct agent_captures *captures = ctx;

	for (size_t i = 0; i < captures->recorder_count; i++)
		close_flight(&captures->recorders[i]);
}

void agent_captures_begin(struct agent_captures *captures, bool attached)
{
	if (!captures)
		return;
	pthread_mutex_lock(&captures->lock);
	for (size_t i = captures->route_count; i-- > 0;)
		if (!attached || captures->routes[i].announced)
			drop_route(captures, i);
	pthread_mutex_unlock(&captures->lock);
}

const struct pt_output_tap *agent_captures_tap(const struct agent_captures *captures)
{
	return captures ? &captures->tap : NULL;
}

unsigned int agent_captures_needs(const struct agent_captures *captures)
{
	return captures ? captures->needs : 0;
}

void agent_captures_signal(struct agent_captures *captures, int signal_number)
{
	if (!captures)
		return;
	pthread_mutex_lock(&captures->lock);
	for (size_t i = 0; i < captures->recorder_count; i++) {
		struct recorder *recorder = &captures->recorders[i];
		bool waits = false;

		for (size_t k = 0; k < recorder->options.trigger_count; k++)
			waits |= recorder->options.triggers[k].signal_number == signal_number;
		if (waits && recorder->flight)
			pt_flight_signal(recorder->flight, signal_number);
	}
	pthread_mutex_unlock(&captures->lock);
}

/* ---- captures that have ended ---- */

static void captured(const char *name, const char *kind, bool failed, void *ctx)
{
	struct recorder *recorder = ctx;
	struct agent_captures *captures = recorder->captures;

	pthread_mutex_lock(&captures->lock);
	captures->counts.failed += failed;
	for (size_t i = 0; !failed && i < AGENT_CAPTURE_KINDS && pt_trigger_kind_name(i); i++)
		captures->counts.made[i] += !strcmp(kind, pt_trigger_kind_name(i));
	pthread_mutex_unlock(&captures->lock);
	if (!failed && captures->upload)
		agent_upload_put(captures->upload, recorder->folder, recorder->rule->name, name);
}

/* The session was begun before its processes were known. */
static void describe(pid_t pid, struct pt_capture_info *info, void *ctx)
{
	struct agent_captures *captures = ((struct recorder *)ctx)->captures;
	const struct route *route;

	info->interpreter[0] = info->engine[0] = '\0';
	pthread_mutex_lock(&captures->lock);
	route = find_route(captures, pid);
	if (route) {
		snprintf(info->interpreter, sizeof(info->interpreter), "CPython %s",
			 route->version);
		snprintf(info->engine, sizeof(info->engine), "%s", route->engine);
	}
	pthread_mutex_unlock(&captures->lock);
}

/* ---- the life of the recorders ---- */

static int make_recorder(struct agent_captures *captures, const struct agent_rule *rule,
			 const char *folder, struct pt_err *err)
{
	struct recorder *recorder = &captures->recorders[captures->recorder_count];
	struct agent_capture *capture = rule->capture; /* its triggers have a state */
	int rc;

	if (snprintf(recorder->folder, sizeof(recorder->folder), "%s/%s", folder, rule->name) >=
	    (int)sizeof(recorder->folder))
		return pt_err_set(err, -ENAMETOOLONG, PT_EXIT_USAGE, "",
				  "\"captures\" is too long");
	recorder->captures = captures;
	recorder->rule = rule;
	recorder->options = (struct pt_flight_options){.folder = recorder->folder,
						       .triggers = capture->triggers,
						       .trigger_count = capture->trigger_count,
						       .last_ns = capture->last_ns,
						       .after_ns = capture->after_ns,
						       .cool_down_ns = capture->cool_down_ns,
						       .memory_bytes = capture->memory_bytes,
						       .keep_count = capture->max_captures,
						       .keep_bytes = capture->max_disk_bytes,
						       .tar = true,
						       .command_line = capture->command_line,
						       .captured = captured,
						       .describe = describe,
						       .ctx = recorder};
	for (size_t i = 0; i < capture->trigger_count; i++)
		captures->needs |= capture->triggers[i].kind->needs;
	captures->recorder_count++;
	rc = pt_flight_check(&recorder->options, err);
	if (!rc)
		pt_store_clear_unfinished(recorder->folder);
	return rc;
}

/* The folder, and those that it lies in. */
static int make_folders(const char *path)
{
	char part[PATH_MAX];

	if (snprintf(part, sizeof(part), "%s", path) >= (int)sizeof(part))
		return -ENAMETOOLONG;
	for (char *slash = strchr(part + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		mkdir(part, 0700); /* if it cannot be made, what is below cannot either */
		*slash = '/';
	}
	return mkdir(path, 0700) && errno != EEXIST ? -errno : 0;
}

static int make_recorders(struct agent_captures *captures, const struct agent_config *config,
			  struct pt_err *err)
{
	const char *folder = config->captures;
	int rc;

	rc = make_folders(folder);
	if (rc)
		return pt_err_set(err, rc, PT_EXIT_FAILED, "\"captures\" chooses another place",
				  "cannot make the folder '%s': %s", folder, strerror(-rc));
	for (size_t i = 0; !rc && i < config->rule_count; i++)
		if (config->rules[i].capture)
			rc = make_recorder(captures, &config->rules[i], folder, err);
	return rc;
}

static int start_upload(struct agent_captures *captures, const struct agent_config *config,
			struct agent_upload_stats *stats, struct pt_err *err)
{
	const struct agent_upload_config *upload = &config->upload;
	const struct agent_upload_options options = {
	    .command = upload->command_count ? upload->command : NULL,
	    .url = upload->url,
	    .region = upload->region,
	    .credentials = upload->credentials,
	    .ca_file = upload->ca_file,
	    .timeout_ns = upload->timeout_ns,
	    .attempts = upload->attempts,
	};
	int rc = options.command || options.url
		     ? agent_upload_new(&options, stats, &captures->upload)
		     : 0;

	return rc ? pt_err_set(err, rc, PT_EXIT_FAILED, "", "captures cannot be sent: %s",
			       rc == -ENOPKG ? "there is no libcurl" : strerror(-rc))
		  : 0;
}

int agent_captures_new(const struct agent_config *config, const struct agent_captures *before,
		       struct agent_upload_stats *uploads, struct agent_captures **out,
		       struct pt_err *err)
{
	struct agent_captures *captures;
	size_t count = 0;
	int rc;

	*out = NULL;
	for (size_t i = 0; i < config->rule_count; i++)
		count += config->rules[i].capture != NULL;
	if (!count)
		return 0;
	captures = calloc(1, sizeof(*captures));
	if (captures)
		captures->recorders = calloc(count, sizeof(*captures->recorders));
	if (!captures || !captures->recorders) {
		free(captures);
		return pt_err_set(err, -ENOMEM, PT_EXIT_FAILED, "", "out of memory");
	}
	pthread_mutex_init(&captures->lock, NULL);
	captures->tap = (struct pt_output_tap){
	    .open = tap_open, .record = tap_record, .close = tap_close, .ctx = captures};
	if (before)
		captures->counts = before->counts;
	rc = make_recorders(captures, config, err);
	if (!rc)
		rc = start_upload(captures, config, uploads, err);
	if (rc) {
		agent_captures_free(captures);
		return rc;
	}
	*out = captures;
	return 0;
}

void agent_captures_free(struct agent_captures *captures)
{
	if (!captures)
		return;
	agent_upload_free(captures->upload);
	pthread_mutex_destroy(&captures->lock);
	free(captures->recorders);
	free(captures->routes);
	free(captures);
}

/* ---- what others ask ---- */

int agent_captures_ask(struct agent_captures *captures, pid_t pid, struct pt_buf *text)
{
	char name[PT_FLIGHT_NAME_MAX];
	const struct route *route;
	uint64_t none;
	int rc = -ESRCH;

	if (!captures)
		return rc;
	pthread_mutex_lock(&captures->lock);
	route = find_route(captures, pid);
	if (route && !route->ended && route->recorder && route->recorder->flight)
		rc = pt_flight_ask(route->recorder->flight, pid, false, name, &none);
	if (!rc) /* nothing in these that JSON escapes */
		pt_buf_printf(text, "{\"rule\":\"%s\",\"pid\":%d,\"name\":\"%s\"}\n",
			      route->recorder->rule->name, pid, name);
	pthread_mutex_unlock(&captures->lock);
	return rc;
}

struct listing {
	struct pt_buf *text;
	const char *rule;
	size_t count;
};

static int list_one(const char *name, uint64_t bytes, void *ctx)
{
	struct listing *listing = ctx;

	/* neither holds anything that JSON escapes */
	pt_buf_printf(listing->text,
		      "%s\n{\"rule\":\"%s\",\"name\":\"%s\",\"path\":\"/captures/%s/%s\","
		      "\"bytes\":%llu}",
		      listing->count++ ? "," : "", listing->rule, name, listing->rule, name,
		      (unsigned long long)bytes);
	return 0;
}

void agent_captures_list(struct agent_captures *captures, struct pt_buf *text)
{
	struct listing listing = {.text = text};

	pt_buf_add_str(text, "[");
	for (size_t i = 0; captures && i < captures->recorder_count; i++) {
		listing.rule = captures->recorders[i].rule->name;
		pt_store_each_file(captures->recorders[i].folder, list_one, &listing);
	}
	pt_buf_add_str(text, "]\n");
}

int agent_captures_open(const struct agent_captures *captures, const char *path, uint64_t *bytes)
{
	const char *slash = strchr(path, '/');

	for (size_t i = 0; captures && slash && i < captures->recorder_count; i++) {
		const struct recorder *recorder = &captures->recorders[i];
		size_t len = strlen(recorder->rule->name);

		if (len == (size_t)(slash - path) && !memcmp(path, recorder->rule->name, len))
			return pt_store_open_file(recorder->folder, slash + 1, bytes);
	}
	return -ENOENT;
}

bool agent_captures_counts(struct agent_captures *captures, struct agent_captures_counts *counts)
{
	if (!captures)
		return false;
	pthread_mutex_lock(&captures->lock);
	*counts = captures->counts;
	counts->sends = captures->upload != NULL;
	pthread_mutex_unlock(&captures->lock);
	return true;
}
