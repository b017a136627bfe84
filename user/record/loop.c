// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * While it records: records come, time passes, until there is a reason to stop.
 */
#include <errno.h>
#include <malloc.h>

#include "base/clock.h"
#include "base/usage.h"
#include "record/session_parts.h"

#define POLL_MS          50
#define POLL_WATCHING_MS 1
#define POLL_OVERHEAD_MS 10
#define TICK_NS          100000000ull /* look at limits and ends */
#define TICK_CHOSEN_NS   250000000ull /* the same of a session that is never over */
#define SCAN_NS          200000000ull /* look for new processes (-a) */
#define PROGRESS_NS      500000000ull
#define SWEEP_NS         1000000000ull /* at least from one sweep to the next */
#define STALE_NS         1000000000ull /* copy out batches that have lain for so long */

bool session_too_much_memory(uint64_t limit_bytes)
{
	if (!limit_bytes || pt_own_memory_bytes() <= limit_bytes)
		return false;
	malloc_trim(0); /* what was freed need not be given back yet */
	return pt_own_memory_bytes() > limit_bytes;
}

int session_on_record(const struct pt_rec *record, size_t len, void *ctx)
{
	struct session *session = ctx;
	bool taken;
	int rc;

	overhead_record(session, record);
	if (record->kind == PT_REC_CALL_STACK)
		return session->callstacks ? callstacks_take(session->callstacks, record, len) : 0;
	if (session->unmatched)
		unmatched_record(session->unmatched, record, len);
	rc = cuda_record(session, record, len, &taken);
	if (!rc && !taken)
		rc = session_put(session, record, len);
	return rc || taken ? rc : follow_record(session, record, len);
}

static int poll_ms(const struct session *session)
{
	uint64_t next_ns = follow_next_ns(session);

	if (session->launch && pt_launch_watching(session->launch))
		return POLL_WATCHING_MS;
	if (session->overhead)
		return POLL_OVERHEAD_MS;
	/* a child waits for its probes */
	if (!session->reach_file && session->options->follow != PT_FOLLOW_NO)
		return POLL_WATCHING_MS;
	if (next_ns < POLL_MS * NS_PER_MS)
		return (int)(next_ns / NS_PER_MS) + 1;
	return POLL_MS;
}

/* Records wait in the ring buffer until due_ns, unless there are many. */
static int poll_chosen(struct session *session, uint64_t due_ns)
{
	uint64_t now_ns = pt_now_ns(), next_ns = follow_next_ns(session);
	uint64_t wait_ns = due_ns > now_ns ? due_ns - now_ns : 0;
	int rc = pt_tracer_poll(session->tracer, 0, session_on_record, session);

	if (rc < 0 || (rc > 0 && !pt_tracer_emptied(session->tracer)))
		return rc;
	if (next_ns < wait_ns)
		wait_ns = next_ns;
	rc = rest_wait(session, wait_ns ? (int)(wait_ns / NS_PER_MS) + 1 : 0);
	return rc ? rc : pt_tracer_poll(session->tracer, 0, session_on_record, session);
}

bool session_tell_progress(struct session *session, bool writing)
{
	const struct pt_session_choice *choice = session->options->choice;
	struct pt_session_progress progress = {
	    .elapsed_ns = pt_now_ns() - session->gate_ns,
	    .file_bytes = pt_output_bytes(session->output),
	    .backlog_bytes = pt_spool_backlog_bytes(session->spool),
	    .process_count = session->target_count,
	    .writing = writing,
	    .paused = session->commands.paused,
	    .overhead = writing ? session->result->overhead : overhead_so_far(session),
	};
	struct pt_tracer_stats stats = {0};

	if (!choice && (!session->watch || !session->watch->progress))
		return false;
	if (writing)
		stats = session->result->stats;
	else
		commands_stats(session, &stats);
	progress.events = stats.events;
	progress.lost_events = stats.lost_events;
	if (choice)
		return choice->tick(&progress, &stats, choice->ctx);
	session->watch->progress(&progress, session->watch->ctx);
	return false;
}

/* Is there a reason to stop? Called ten times a second. */
static bool limit_reached(struct session *session, enum pt_session_stop *stop)
{
	const struct pt_session_options *options = session->options;
	struct pt_tracer_stats stats;

	if (options->duration_ns && pt_now_ns() - session->gate_ns >= options->duration_ns) {
		*stop = PT_STOP_DURATION;
		return true;
	}
	if (!options->all && !options->choice && !session->target_count && !session->task_count &&
	    !(session->launch && pt_launch_watching(session->launch))) {
		*stop = PT_STOP_TARGET_ENDED;
		return true;
	}
	if (pt_output_done(session->output)) {
		*stop = PT_STOP_TRIGGER;
		return true;
	}
	if (session_too_much_memory(options->max_memory_bytes)) {
		*stop = PT_STOP_MAX_MEMORY;
		return true;
	}
	pt_tracer_stats(session->tracer, &stats);
	*stop = stats.triggered ? PT_STOP_TRIGGER : PT_STOP_MAX_EVENTS;
	return stats.stopped || stats.triggered;
}

static int step(struct session *session, uint64_t due_ns)
{
	int rc = session->options->choice ? poll_chosen(session, due_ns)
					  : pt_tracer_poll(session->tracer, poll_ms(session),
							   session_on_record, session);

	if (rc < 0 && rc != -EINTR)
		return rc;
	rc = pt_spool_error(session->spool);
	if (!rc)
		rc = commands_service(session);
	if (!rc && session->launch)
		rc = pt_launch_service(session->launch, session_look_at_launched, session);
	return rc ? rc : follow_tasks(session);
}

/* Wakes up in time for the end of -d. */
static uint64_t next_tick(const struct session *session, uint64_t now_ns)
{
	uint64_t duration_ns = session->options->duration_ns;
	uint64_t tick_ns = now_ns + (session->options->choice ? TICK_CHOSEN_NS : TICK_NS);

	if (duration_ns && session->gate_ns + duration_ns < tick_ns)
		return session->gate_ns + duration_ns;
	return tick_ns;
}

/* With --memory and --gpu-bounds, and in a flight recorder: copies out what rests, and now and then
 * says up to when all has come. That is put down a second later, so that batches which were on
 * their way at the time are there. */
static int complete(struct session *session, uint64_t now_ns)
{
	uint64_t until_ns = session->complete_until_ns;
	int rc = 0;

	if (now_ns < session->stale_ns)
		return 0;
	if (until_ns && !pt_tracer_emptied(session->tracer)) {
		if (now_ns < session->stale_ns + PATIENCE_NS)
			return 0;
		until_ns = 0;
	}
	if (until_ns)
		rc = session_put_note(session, PT_NOTE_COMPLETE, until_ns, now_ns);
	/* if it fails, more comes at once the next time */
	pt_tracer_flush_complete(session->tracer, &session->complete_until_ns);
	session->stale_ns = now_ns + STALE_NS;
	return rc;
}

static int flush_stale(struct session *session, uint64_t now_ns)
{
	if (session->options->say_complete || session->options->output.flight)
		return complete(session, now_ns);
	if (now_ns >= session->stale_ns) {
		pt_tracer_flush_stale(session->tracer, STALE_NS);
		session->stale_ns = now_ns + STALE_NS;
	}
	return 0;
}

static uint64_t min4(uint64_t a, uint64_t b, uint64_t c, uint64_t d)
{
	uint64_t ab = a < b ? a : b, cd = c < d ? c : d;

	return ab < cd ? ab : cd;
}

/* Children that nobody wants get rid of the breakpoints that they inherited. */
static void sweep(struct session *session, uint64_t now_ns)
{
	if (now_ns < session->sweep_ns)
		return;
	pt_tracer_sweep(session->tracer); /* says so if it fails; then they cost, and no more */
	session->sweep_ns = now_ns + SWEEP_NS;
}

/* Somebody asks for the end. */
static bool told_to_stop(struct session *session, unsigned int *forwarded,
			 enum pt_session_stop *stop)
{
	if (session_signal_says_stop(session, forwarded))
		*stop = PT_STOP_SIGNAL;
	else if (session->commands.stop)
		*stop = PT_STOP_COMMAND;
	else
		return false;
	return true;
}

/* What is looked at now and then; over: there is a reason to stop. */
static int tick(struct session *session, uint64_t now_ns, enum pt_session_stop *stop, bool *over,
		struct pt_err *err)
{
	int rc = targets_forget_ended(session);

	if (rc)
		return rc;
	*over = limit_reached(session, stop);
	if (*over)
		return 0;
	pt_spool_flush(session->spool);
	rc = targets_check_jit(session, err);
	if (!rc)
		rc = mapped_poll(session);
	if (!rc)
		rc = targets_look_for_marks(session);
	if (!rc)
		sweep(session, now_ns);
	return rc;
}

int session_record(struct session *session, enum pt_session_stop *stop, struct pt_err *err)
{
	uint64_t now_ns = pt_now_ns(), tick_ns = next_tick(session, now_ns);
	uint64_t progress_ns = now_ns + PROGRESS_NS;
	const struct pt_session_choice *choice = session->options->choice;
	uint64_t scan_every_ns = choice ? choice->scan_ns : SCAN_NS;
	uint64_t scan_ns = session->options->all || choice ? now_ns + scan_every_ns : UINT64_MAX;
	unsigned int forwarded = 0;
	bool over = false;

	session->stale_ns = now_ns + STALE_NS;
	for (;;) {
		int rc = step(session,
			      min4(tick_ns, scan_ns, session->stale_ns, overhead_next_ns(session)));

		if (rc || told_to_stop(session, &forwarded, stop))
			return rc;
		now_ns = pt_now_ns();
		rc = overhead_step(session, now_ns);
		if (!rc && (now_ns >= tick_ns || session->rest.ended)) {
			rc = tick(session, now_ns, stop, &over, err);
			tick_ns = next_tick(session, now_ns);
		}
		if (!rc && !over && now_ns >= scan_ns) {
			rc = scan_processes(session, false);
			scan_ns = now_ns + scan_every_ns;
		}
		if (!rc && !over)
			rc = flush_stale(session, now_ns);
		if (rc || over)
			return rc;
		if (now_ns >= progress_ns) {
			progress_ns = now_ns + PROGRESS_NS;
			if (session_tell_progress(session, false)) {
				*stop = PT_STOP_COMMAND;
				return 0;
			}
		}
	}
}
