// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * What whoever runs a recording may ask of it while it runs: by the control socket and by SIGUSR1
 * (pause, resume) and SIGUSR2 (save). All of it happens in the recording thread but the writing of
 * a copy, which the output's thread does where it meets PT_REC_SAVE in the queue.
 */
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/utf8.h"
#include "record/session_parts.h"
#include "sink/json_text.h"

/* A mark in the queue; no other record has this kind, and it is in no file. */
#define PT_REC_SAVE      0xffff
/* A thread's events reach the queue at once when it rests (a copy is asked for before each save),
 * and at the latest with its next full batch: some 490 words, at least one each millisecond. */
#define KNOWN_AFTER_NS   1000000000ull
#define STALE_AT_SAVE_NS 1000000ull
/* How often the ring buffer is emptied for a command before it goes on all the same. */
#define DRAIN_MAX        16

enum save_state { SAVE_NONE, SAVE_ASKED, SAVE_DONE };

int commands_open(struct session *session, struct pt_err *err)
{
	const char *path = session->options->control;

	return path ? pt_control_open(path, &session->commands.control, err) : 0;
}

/* ---- answers ---- */

static void answer(struct session *session, uint32_t client, struct pt_buf *text)
{
	struct pt_err err = {0};

	pt_buf_add(text, "}", 2); /* with its NUL */
	if (text->failed) {
		pt_err_set(&err, -ENOMEM, PT_EXIT_FAILED, "", "out of memory");
		pt_control_refuse(session->commands.control, client, &err);
	} else {
		pt_control_answer(session->commands.control, client, text->data);
	}
	pt_buf_release(text);
}

static const char *state_name(const struct session *session)
{
	if (session->commands.ended)
		return "writing";
	if (!session->gate_open)
		return "starting";
	if (session->commands.paused)
		return "paused";
	return overhead_resting(session) ? "resting" : "recording";
}

static void begin_answer(const struct session *session, struct pt_buf *text)
{
	pt_buf_printf(text, "{\"ok\": true, \"state\": \"%s\"", state_name(session));
}

static void add_path(struct pt_buf *text, const char *path, uint64_t bytes)
{
	char clean[3 * PATH_MAX + 1];

	pt_utf8_clean(clean, sizeof(clean), path, strlen(path));
	pt_buf_add_str(text, ", \"file\": ");
	pt_json_string(text, clean);
	pt_buf_printf(text, ", \"file_bytes\": %llu", (unsigned long long)bytes);
}

static void answer_state(struct session *session, uint32_t client)
{
	struct pt_buf text = {0};

	begin_answer(session, &text);
	answer(session, client, &text);
}

static int refuse(struct session *session, uint32_t client, struct pt_err *err)
{
	if (client)
		pt_control_refuse(session->commands.control, client, err);
	else
		pt_warn("%s", err->what);
	return -1;
}

static void status(struct session *session, uint32_t client)
{
	const struct commands *commands = &session->commands;
	uint64_t now_ns = pt_now_ns(), paused_ns = commands->paused_total_ns;
	struct pt_tracer_stats stats = {0};
	struct pt_buf text = {0};

	if (commands->paused)
		paused_ns += now_ns - commands->paused_since_ns;
	if (session->tracer)
		commands_stats(session, &stats);
	else
		stats = session->result->stats;
	begin_answer(session, &text);
	pt_buf_printf(&text, ", \"pid\": %d, \"processes\": %zu", getpid(), session->target_count);
	if (session->gate_open)
		pt_buf_printf(&text, ", \"elapsed_s\": %.3f",
			      (double)(now_ns - session->gate_ns) / 1e9);
	pt_buf_printf(&text,
		      ", \"events\": %llu, \"lost_events\": %llu, \"pauses\": %u, "
		      "\"paused_s\": %.3f",
		      (unsigned long long)stats.events, (unsigned long long)stats.lost_events,
		      commands->pauses, (double)paused_ns / 1e9);
	if (session->spool)
		pt_buf_printf(&text, ", \"backlog_bytes\": %llu",
			      (unsigned long long)pt_spool_backlog_bytes(session->spool));
	add_path(&text, session->result->path,
		 session->output ? pt_output_bytes(session->output) : 0);
	answer(session, client, &text);
}

/* ---- pause, resume, clear ---- */

int session_put_control(struct session *session, enum pt_control_what what, uint32_t why,
			uint64_t time_ns)
{
	const struct pt_rec_control record = {
	    .hdr = {.kind = PT_REC_CONTROL, .len = sizeof(record), .time_ns = time_ns},
	    .what = what,
	    .why = why,
	};

	return session_put(session, &record.hdr, sizeof(record));
}

int commands_drop_open(struct session *session, uint64_t time_ns)
{
	return session->commands.drop_open
		   ? session_put_control(session, PT_CONTROL_DROP_OPEN, 0, time_ns)
		   : 0;
}

static int switch_pause(struct session *session, bool pause)
{
	struct commands *commands = &session->commands;
	bool resting = overhead_resting(session);
	uint64_t ns;
	int rc = 0;

	if (commands->paused == pause)
		return 0;
	/* while recording rests all is done but to say so */
	if (resting)
		ns = pt_now_ns();
	else
		rc = pause ? pt_tracer_pause(session->tracer, &ns)
			   : pt_tracer_resume(session->tracer, &ns);
	if (rc)
		return 0; /* --max-events shut the gate: the recording ends now */
	if (pause) {
		commands->paused_since_ns = ns;
		if (!commands->first_pause_ns)
			commands->first_pause_ns = ns;
		commands->pauses++;
	} else {
		commands->paused_total_ns += ns - commands->paused_since_ns;
	}
	commands->paused = pause;
	pt_info(pause ? "paused" : "resumed");
	return resting ? overhead_paused(session)
		       : session_put_control(session, pause ? PT_CONTROL_PAUSE : PT_CONTROL_RESUME,
					     0, ns);
}

int commands_drain(struct session *session)
{
	int rc = 1;

	for (int i = 0; rc > 0 && i < DRAIN_MAX; i++)
		rc = pt_tracer_poll(session->tracer, 0, session_on_record, session);
	return rc < 0 && rc != -EINTR ? rc : 0;
}

void commands_stats(const struct session *session, struct pt_tracer_stats *stats)
{
	const struct pt_tracer_stats *base = &session->commands.cleared;

	pt_tracer_stats(session->tracer, stats);
	stats->events = stats->events > base->events ? stats->events - base->events : 0;
	stats->lost_events -= base->lost_events;
	stats->lost_records -= base->lost_records;
	stats->missed -= base->missed;
	stats->cuda_missed -= base->cuda_missed;
	stats->torch_missed -= base->torch_missed;
	stats->stacks_missed -= base->stacks_missed;
}

static int clear(struct session *session, uint32_t client)
{
	struct commands *commands = &session->commands;
	struct pt_err err = {0};
	uint64_t ns;
	int rc;

	if (pt_output_check_rewrite(session->result->path, &err)) {
		refuse(session, client, &err);
		return 0;
	}
	rc = commands_drain(session);
	if (rc)
		return rc;
	ns = pt_now_ns();
	pt_tracer_stats(session->tracer, &commands->cleared);
	commands->pauses = commands->paused;
	commands->paused_total_ns = 0;
	if (commands->paused)
		commands->paused_since_ns = ns;
	pt_info("cleared");
	rc = session_put_control(session, PT_CONTROL_CLEAR, 0, ns);
	answer_state(session, client);
	return rc;
}

/* ---- save ---- */

/* In the output's thread. */
int commands_record(const struct pt_rec *record, size_t len, void *ctx)
{
	struct session *session = ctx;
	struct commands *commands = &session->commands;

	if (record->kind != PT_REC_SAVE)
		return cuda_output(session, record, len);
	commands->save_rc = pt_output_save(session->output, commands->save_path, record->time_ns,
					   &commands->save_err);
	atomic_store(&commands->save_state, SAVE_DONE);
	return 0;
}

/* trace.json.gz -> trace-1.json.gz */
static void default_save_path(struct session *session, char *path, size_t size)
{
	const char *output = session->result->path, *name = strrchr(output, '/');
	const char *dot = strchr(name ? name : output, '.');
	int stem = dot ? (int)(dot - output) : (int)strlen(output);

	if (dot && strlen(output) > 8 && !strcmp(output + strlen(output) - 8, ".json.gz"))
		stem = (int)strlen(output) - 8;
	else if ((dot = strrchr(output, '.')))
		stem = (int)(dot - output);
	do {
		snprintf(path, size, "%.*s-%u%s", stem, output, ++session->commands.save_number,
			 output + stem);
	} while (!access(path, F_OK) && session->commands.save_number < 1000000);
}

/* Until then all that has happened has come, and no pause hides anything. */
static uint64_t known_ns(const struct session *session)
{
	uint64_t after_ns = KNOWN_AFTER_NS + session->options->tracer.min_duration_ns;
	uint64_t now_ns = pt_now_ns(), ns = now_ns > after_ns ? now_ns - after_ns : 0;
	uint64_t pause_ns = session->commands.first_pause_ns;

	return pause_ns && pause_ns < ns ? pause_ns : ns;
}

static int save(struct session *session, uint32_t client, const char *file)
{
	struct commands *commands = &session->commands;
	struct pt_rec mark = {.kind = PT_REC_SAVE, .len = sizeof(mark)};
	struct pt_err err = {0};
	int rc;

	if (atomic_load(&commands->save_state) != SAVE_NONE) {
		pt_err_set(&err, -EBUSY, PT_EXIT_FAILED, "", "a copy is being written already");
		refuse(session, client, &err);
		return 0;
	}
	if (strlen(file) >= sizeof(commands->save_path)) {
		pt_err_set(&err, -ENAMETOOLONG, PT_EXIT_USAGE, "", "the name is too long");
		refuse(session, client, &err);
		return 0;
	}
	if (*file)
		strcpy(commands->save_path, file);
	else
		default_save_path(session, commands->save_path, sizeof(commands->save_path));
	if (pt_output_check_copy(&session->output_options, commands->save_path, &err)) {
		refuse(session, client, &err);
		return 0;
	}
	rc = pt_tracer_flush_stale(session->tracer, STALE_AT_SAVE_NS);
	if (!rc)
		rc = commands_drain(session);
	if (rc)
		return rc;
	pt_err_clear(&commands->save_err);
	commands->save_client = client;
	atomic_store(&commands->save_state, SAVE_ASKED);
	mark.time_ns = known_ns(session);
	rc = session_put(session, &mark, sizeof(mark));
	pt_spool_flush(session->spool);
	return rc;
}

/* Tells of a copy that is finished. */
static void saved(struct session *session)
{
	struct commands *commands = &session->commands;
	struct pt_buf text = {0};
	struct stat st = {0};

	if (atomic_load(&commands->save_state) != SAVE_DONE)
		return;
	if (commands->save_rc) {
		if (!pt_err_is_set(&commands->save_err))
			pt_err_set(&commands->save_err, commands->save_rc, PT_EXIT_FAILED, "",
				   "cannot write '%s': %s", commands->save_path,
				   strerror(-commands->save_rc));
		refuse(session, commands->save_client, &commands->save_err);
	} else {
		stat(commands->save_path, &st);
		pt_info("saved %s (%.1f MB)", commands->save_path, (double)st.st_size / 1e6);
		if (commands->save_client) {
			begin_answer(session, &text);
			add_path(&text, commands->save_path, (uint64_t)st.st_size);
			answer(session, commands->save_client, &text);
		}
	}
	atomic_store(&commands->save_state, SAVE_NONE);
}

/* ---- what comes in ---- */

static void stop(struct session *session, uint32_t client, bool flush_unfinished)
{
	struct commands *commands = &session->commands;
	struct pt_err err = {0};

	if (commands->stop_client) {
		pt_err_set(&err, -EALREADY, PT_EXIT_FAILED, "", "it is being stopped already");
		refuse(session, client, &err);
		return;
	}
	commands->stop = true;
	commands->stop_client = client; /* it is answered when the file is whole */
	commands->drop_open = !flush_unfinished;
}

static int while_recording(struct session *session, uint32_t client, const char *line)
{
	int rc;

	if (!strcmp(line, "pause") || !strcmp(line, "resume")) {
		rc = switch_pause(session, *line == 'p');
		answer_state(session, client);
		return rc;
	}
	if (!strcmp(line, "clear"))
		return clear(session, client);
	return save(session, client, line[4] ? line + 5 : "");
}

static bool is_known(const char *line)
{
	return !strcmp(line, "pause") || !strcmp(line, "resume") || !strcmp(line, "clear") ||
	       !strcmp(line, "save") || !strncmp(line, "save ", 5);
}

static void on_line(uint32_t client, const char *line, void *ctx)
{
	struct session *session = ctx;
	struct commands *commands = &session->commands;
	bool flush = !strcmp(line, "stop --flush-unfinished");
	struct pt_err err = {0};
	char clean[200];
	int rc;

	if (!strcmp(line, "status")) {
		status(session, client);
	} else if (!commands->ended && (flush || !strcmp(line, "stop"))) {
		stop(session, client, flush);
	} else if (!flush && !is_known(line) && strcmp(line, "stop") != 0) {
		pt_utf8_clean(clean, sizeof(clean), line, strnlen(line, 60));
		for (char *p = clean; *p; p++) /* it ends on a terminal */
			*p = (unsigned char)*p < ' ' || *p == 0x7f ? '?' : *p;
		pt_err_set(&err, -EINVAL, PT_EXIT_USAGE, "", "there is no command '%s'", clean);
		refuse(session, client, &err);
	} else if (commands->ended || !session->gate_open) {
		pt_err_set(&err, -EAGAIN, PT_EXIT_FAILED, "",
			   commands->ended ? "the recording has ended"
					   : "the recording has not begun yet");
		refuse(session, client, &err);
	} else {
		rc = while_recording(session, client, line);
		if (rc && !commands->rc)
			commands->rc = rc;
	}
}

int commands_service(struct session *session)
{
	if (session->commands.control)
		pt_control_service(session->commands.control, on_line, session);
	saved(session);
	return session->commands.rc;
}

void commands_signal(struct session *session, int signal_number)
{
	struct commands *commands = &session->commands;
	int rc;

	if (!session->gate_open || commands->ended) {
		pt_warn("signal %d does nothing: %s", signal_number,
			commands->ended ? "the recording has ended"
					: "the recording has not begun yet");
		return;
	}
	if (session->output_options.flight) {
		pt_output_signal(session->output, signal_number);
		return;
	}
	rc = signal_number == SIGUSR1 ? switch_pause(session, !commands->paused)
				      : save(session, 0, "");
	if (rc && !commands->rc)
		commands->rc = rc;
}

void commands_close(struct session *session, const struct pt_err *err)
{
	struct commands *commands = &session->commands;
	struct pt_buf text = {0};

	if (!commands->control)
		return;
	if (commands->stop_client && err && pt_err_is_set(err)) {
		pt_control_refuse(commands->control, commands->stop_client, err);
	} else if (commands->stop_client) {
		pt_buf_add_str(&text, "{\"ok\": true, \"state\": \"stopped\"");
		add_path(&text, session->result->path, session->result->file_bytes);
		answer(session, commands->stop_client, &text);
	}
	pt_control_close(commands->control);
	commands->control = NULL;
}
