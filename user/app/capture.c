// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/* capture: a flight recorder, and what it says. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "app/verbs.h"
#include "base/log.h"
#include "flight/flight.h"
#include "flight/server.h"
#include "record/session.h"
#include "target/secret.h"

static void opened(const struct pt_session_opened *o, void *ctx)
{
	const struct app_options *options = ctx;

	pt_info("recording %s, %s, engine %s, %zu probes by %s; the last %g s stay in memory%s",
		o->targets, o->interpreter, o->engine, o->probe_count, o->link_kind,
		(double)options->last_ns / 1e9, options->command ? "" : "; Ctrl-C ends it");
	pt_verbose("attached in %.0f ms", o->attach_ms);
}

static int take_triggers(const struct app_options *options, struct pt_trigger *triggers,
			 size_t *count, struct pt_err *err)
{
	int rc = 0;

	for (*count = 0; !rc && *count < options->triggers.count; *count += !rc)
		rc = pt_trigger_parse(options->triggers.items[*count], &triggers[*count], err);
	return rc;
}

static void tell_summary(const struct pt_session_result *result)
{
	const struct pt_totals *totals = &result->totals;

	pt_info("%llu captures in %.1f s; %llu events of %llu threads, %llu lost",
		(unsigned long long)totals->captures, (double)result->duration_ns / 1e9,
		(unsigned long long)totals->events, (unsigned long long)totals->threads,
		(unsigned long long)result->stats.lost_events);
	if (totals->captures_failed)
		pt_warn("%llu captures could not be written",
			(unsigned long long)totals->captures_failed);
}

static int run(const struct app_options *options, const struct pt_flight_options *flight,
	       struct pt_err *err)
{
	const struct pt_session_watch watch = {opened, NULL, (void *)(uintptr_t)options};
	struct pt_session_options session;
	struct pt_session_result result;
	char cache_dir[4096];
	int rc;

	app_session_options(options, &session);
	session.output.flight = flight;
	session.tracer.count = 0; /* of captures here */
	session.cache_dir = app_cache_dir(options, cache_dir, sizeof(cache_dir));
	rc = pt_session_run(&session, &watch, &result, err);
	if (result.opened)
		tell_summary(&result);
	if (rc)
		return rc;
	if (result.has_wait_status)
		return app_command_status(result.wait_status);
	if (result.totals.captures_failed)
		return PT_EXIT_FAILED;
	return result.stats.lost_events || result.stats.lost_records ? PT_EXIT_LOST : PT_EXIT_DONE;
}

/* Where a capture can be asked for, if it is to be. */
static int start_server(const struct app_options *options, const struct pt_flight_options *flight,
			struct pt_flight_server **server, struct pt_err *err)
{
	const char *where = NULL;
	char *token = NULL;
	int rc = 0;

	*server = NULL;
	for (size_t i = 0; i < flight->trigger_count; i++)
		if (flight->triggers[i].kind == pt_trigger_asked())
			where = flight->triggers[i].pattern;
	if (!where)
		return 0;
	if (options->token_file)
		rc = pt_secret_read_token(options->token_file, &token, err);
	if (!rc)
		rc = pt_flight_server_start(where, token, server, err);
	free(token);
	if (!rc)
		pt_info("POST %s/capture makes a capture", pt_flight_server_url(*server));
	return rc;
}

int app_capture(const struct app_options *options, struct pt_err *err)
{
	struct pt_trigger triggers[PT_TRIGGERS_MAX];
	struct pt_flight_options flight = {
	    .folder = options->output ? options->output : ".",
	    .triggers = triggers,
	    .last_ns = options->last_ns,
	    .after_ns = options->after_ns,
	    .cool_down_ns = options->cool_down_ns,
	    .memory_bytes = options->window_bytes,
	    .count = options->count,
	    .keep_count = options->max_captures,
	    .keep_bytes = options->max_disk_bytes,
	    .tar = options->format == 1,
	    .command_line = options->command_line,
	};
	int rc = take_triggers(options, triggers, &flight.trigger_count, err);

	if (!rc)
		rc = start_server(options, &flight, &flight.server, err);
	if (!rc)
		rc = run(options, &flight, err);
	pt_flight_server_stop(flight.server);
	for (size_t i = 0; i < flight.trigger_count; i++)
		pt_trigger_release(&triggers[i]);
	return rc;
}
