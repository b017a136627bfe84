// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * The end: what is left is taken and written, and a launched command is waited for.
 */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "base/clock.h"
#include "base/log.h"
#include "record/session_parts.h"

/* All that has happened: a thread may be in the middle of writing its last events. */
static int drain(struct session *session)
{
	uint64_t give_up_ns = pt_now_ns() + PATIENCE_NS;
	int rc;

	do {
		rc = pt_tracer_poll(session->tracer, 0, session_on_record, session);
		if (rc == 0 && !pt_tracer_emptied(session->tracer) && pt_now_ns() < give_up_ns) {
			nanosleep(&(struct timespec){.tv_nsec = (long)NS_PER_MS}, NULL);
			rc = 1;
		}
	} while (rc > 0);
	session->stuck = rc == 0 && !pt_tracer_emptied(session->tracer);
	return rc == -EINTR ? 0 : rc;
}

/* Shuts the gate, takes what is left and writes the totals. */
static void stop_recording(struct session *session)
{
	struct pt_tracer_stats *stats = &session->result->stats;
	const struct pt_session_choice *choice = session->options->choice;
	uint64_t end_ns = pt_tracer_shut_gate(session->tracer);

	if (choice)
		choice->shut(end_ns, choice->ctx);
	pt_tracer_close_gate(session->tracer, choice != NULL);
	session->result->duration_ns = end_ns - session->gate_ns;
	overhead_end(session);
	drain(session); /* an error here is the spool's and is told below */
	pt_tracer_sched_rest(session->tracer, end_ns, session_on_record, session); /* so is this */
	pt_tracer_off_cpu_rest(session->tracer, end_ns, session_on_record, session);
	commands_stats(session, stats);
	session->result->forks_missed = pt_tracer_forks_missed(session->tracer);
	stats->lost_records += session->stuck; /* one at least */
	commands_drop_open(session, end_ns);
	session->commands.ended = true;
	session_put_note(session, PT_NOTE_LOST_EVENTS, stats->lost_events, end_ns);
	session_put_note(session, PT_NOTE_LOST_RECORDS, stats->lost_records, end_ns);
	session_put_note(session, PT_NOTE_GATE_CLOSE, 0, end_ns);
}

static void wait_for_writer(struct session *session)
{
	const struct timespec no_wait = {0};
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGHUP);
	pt_spool_end(session->spool);
	while (!pt_spool_wait(session->spool, 250)) {
		session_tell_progress(session, true);
		commands_service(session);
		if (!session->options->choice && sigtimedwait(&set, NULL, &no_wait) >= 0)
			pt_info("recording has ended; the file is still being written (%.0f MB of "
				"records to go)",
				(double)pt_spool_backlog_bytes(session->spool) / 1e6);
	}
}

int session_finish(struct session *session, int rc, enum pt_session_stop *stop, struct pt_err *err)
{
	int written, spool_error;
	struct stat st;

	stop_recording(session);
	cuda_tell(session);
	/* the records that have the names may be among those lost */
	if (session->unmatched && !session->result->stats.lost_records)
		unmatched_tell(session->unmatched);
	if (session->callstacks)
		session->result->stacks_unmapped = callstacks_unmapped(session->callstacks);
	if (!session->options->choice) {
		pt_tracer_free(session->tracer); /* gone before the file is finished */
		session->tracer = NULL;
	}
	wait_for_writer(session);
	spool_error = pt_spool_error(session->spool);
	session->result->spilled_bytes = pt_spool_spilled_bytes(session->spool);
	session->result->file_bytes = pt_output_bytes(session->output);
	pt_spool_free(session->spool);
	session->spool = NULL;
	written = pt_output_close(session->output, &session->result->totals, err);
	session->output = NULL;
	if (!stat(session->result->path, &st))
		session->result->file_bytes = (uint64_t)st.st_size;
	if (spool_error == -EFBIG) {
		*stop = PT_STOP_MAX_FILE;
		rc = 0;
	}
	if (written) {
		*stop = PT_STOP_ERROR;
		return written;
	}
	if (rc || (spool_error && spool_error != -EFBIG)) {
		rc = rc ? rc : spool_error;
		*stop = PT_STOP_ERROR;
		pt_err_set(err, rc, PT_EXIT_FAILED, "what was recorded so far is in the file",
			   "recording stopped: %s", strerror(-rc));
	}
	return rc;
}

static int look_at_nothing(pid_t pid, void *ctx)
{
	return 0;
}

void session_await_command(struct session *session, enum pt_session_stop stop)
{
	struct pt_session_result *result = session->result;
	unsigned int forwarded = 0;

	pt_launch_let_go(session->launch);
	while (!pt_launch_ended(session->launch, &result->wait_status)) {
		pt_launch_service(session->launch, look_at_nothing, NULL);
		if (stop == PT_STOP_SIGNAL || session_signal_says_stop(session, &forwarded))
			return;
		nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
	}
	result->has_wait_status = true;
}
