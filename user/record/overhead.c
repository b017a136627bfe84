// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * --max-overhead: reads what recording costs and does what the governor says.
 *
 * What a hit costs is the trap, as measured when the session began (probe/calibrate.h), and the
 * program's own time, as the kernel counts it.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "record/governor.h"
#include "record/session_parts.h"

#define STEP_NS        20000000ull  /* CPU time is exact to the nanosecond, so this may be short */
#define STEP_CHOSEN_NS 100000000ull /* of a session that is never over */
#define TELL_NS        1000000000ull

struct overhead {
	struct governor governor;
	bool limited;
	uint64_t cost_ns; /* at the last step */
	uint64_t next_ns;
	/* since the processes' costs were last told */
	double told_spent_ns;
	uint64_t events, tell_ns;
};

/* What the targets have used since the last call. */
static double cpu_used_ns(struct session *session)
{
	uint64_t sum_ns = 0;

	for (size_t i = 0; i < session->target_count; i++) {
		struct target *target = &session->targets[i];
		uint64_t now_ns = pt_process_cpu_ns(target->pid);

		if (target->cpu_ns && now_ns > target->cpu_ns) {
			sum_ns += now_ns - target->cpu_ns;
			target->used_ns += now_ns - target->cpu_ns;
		}
		if (now_ns)
			target->cpu_ns = now_ns;
	}
	return (double)sum_ns;
}

int overhead_prepare(struct session *session, struct pt_err *err)
{
	const struct pt_session_choice *choice = session->options->choice;
	int rc;

	if (session->options->max_overhead <= 0 && !(choice && choice->cost))
		return 0;
	rc = pt_tracer_count_cost(session->tracer, true);
	if (rc)
		return pt_err_set(
		    err, rc, PT_EXIT_UNSUPPORTED, "do without a limit on overhead",
		    "there can be no limit on overhead: this kernel does not count what programs "
		    "cost: %s",
		    strerror(-rc));
	session->overhead = calloc(1, sizeof(*session->overhead));
	if (!session->overhead)
		return pt_err_set(err, -ENOMEM, PT_EXIT_FAILED, "", "out of memory");
	return 0;
}

static uint64_t step_ns(const struct session *session)
{
	return session->options->choice ? STEP_CHOSEN_NS : STEP_NS;
}

void overhead_begin(struct session *session)
{
	struct overhead *overhead = session->overhead;

	if (!overhead)
		return;
	governor_init(&overhead->governor, session->options->max_overhead, session->c_calls,
		      session->gate_ns);
	cpu_used_ns(session);
	overhead->limited = session->options->max_overhead > 0;
	overhead->next_ns = session->gate_ns + step_ns(session);
	overhead->tell_ns = session->gate_ns + TELL_NS;
}

static void tell(const struct session *session, bool again, const char *what)
{
	if (again)
		pt_verbose("--max-overhead: %s", what);
	else
		pt_info("--max-overhead: %s", what);
}

/* What it has cost since the last call. */
static double spent(struct session *session)
{
	struct overhead *overhead = session->overhead;
	uint64_t before_ns = overhead->cost_ns;

	overhead->cost_ns = pt_tracer_cost_ns(session->tracer, session->trap_ns);
	return (double)(overhead->cost_ns - before_ns);
}

/* Probes have been taken away or put back: what that cost. */
static void changed(struct session *session)
{
	double spent_ns = spent(session), used_ns = cpu_used_ns(session);

	governor_changed(&session->overhead->governor, session_now_ns(), spent_ns, used_ns);
}

static int begin_rest(struct session *session)
{
	struct governor *g = &session->overhead->governor;
	uint64_t ns;

	if (pt_tracer_withdraw(session->tracer, &ns)) {
		g->resting = false; /* the gate is shut for good: the recording ends now */
		return 0;
	}
	changed(session);
	if (!session->commands.first_pause_ns)
		session->commands.first_pause_ns = ns;
	tell(session, g->rests > 1,
	     "recording rests, until what it has cost is within the limit again");
	return session_put_control(session, PT_CONTROL_PAUSE, PT_WHY_OVERHEAD | PT_WHY_ABSENT, ns);
}

static int end_rest(struct session *session)
{
	struct governor *g = &session->overhead->governor;
	struct pt_err why = {0};
	uint64_t ns;
	int rc = pt_tracer_restore(session->tracer, !g->without_c, &ns, &why);

	if (rc == -EALREADY)
		return 0;
	if (rc) {
		pt_warn("--max-overhead: recording cannot go on: %s",
			pt_err_is_set(&why) ? why.what : strerror(-rc));
		return rc;
	}
	changed(session);
	tell(session, g->rests > 1,
	     g->without_c ? "recording goes on without C functions" : "recording goes on");
	return session_put_control(
	    session, PT_CONTROL_RESUME,
	    PT_WHY_OVERHEAD | PT_WHY_ABSENT | (g->without_c ? PT_WHY_NO_C : 0), ns);
}

bool overhead_resting(const struct session *session)
{
	return session->overhead && session->overhead->governor.resting;
}

/* What each process cost, by its share of the calls. */
static void tell_costs(struct session *session, uint64_t now_ns)
{
	const struct pt_session_choice *choice = session->options->choice;
	struct overhead *overhead = session->overhead;
	double price_ns;

	if (!choice || !choice->cost || now_ns < overhead->tell_ns)
		return;
	price_ns = (overhead->governor.spent_ns - overhead->told_spent_ns) /
		   (double)(overhead->events ? overhead->events : 1);
	/* from the end: whoever is let go is replaced by the last one */
	for (size_t i = session->target_count; i-- > 0;) {
		struct target *target = &session->targets[i];
		uint64_t spent_ns = (uint64_t)(price_ns * (double)target->events);
		uint64_t own_ns = target->used_ns > spent_ns ? target->used_ns - spent_ns : 0;

		target->events = target->used_ns = 0;
		if (choice->cost(target->pid, spent_ns, own_ns, choice->ctx))
			target_let_go(session, target->pid);
	}
	overhead->told_spent_ns = overhead->governor.spent_ns;
	overhead->events = 0;
	overhead->tell_ns = now_ns + TELL_NS;
}

void overhead_record(struct session *session, const struct pt_rec *record)
{
	const struct pt_rec_batch *batch = (const struct pt_rec_batch *)record;
	struct target *target;

	if (!session->overhead || !session->options->choice || record->kind != PT_REC_BATCH ||
	    record->len < sizeof(*batch) || record->flags & PT_RF_PEEK)
		return;
	session->overhead->events += batch->events;
	target = target_find(session, (pid_t)record->tgid);
	if (target)
		target->events += batch->events;
}

uint64_t overhead_next_ns(const struct session *session)
{
	return session->overhead ? session->overhead->next_ns : UINT64_MAX;
}

int overhead_step(struct session *session, uint64_t now_ns)
{
	struct overhead *overhead = session->overhead;
	double spent_ns, used_ns;
	int rc = 0;

	if (!overhead || now_ns < overhead->next_ns)
		return 0;
	overhead->next_ns = now_ns + step_ns(session);
	spent_ns = spent(session);
	used_ns = cpu_used_ns(session);
	/* a pause is paid for all the same; whoever paused, resumes */
	if (session->commands.paused || !overhead->limited) {
		governor_book(&overhead->governor, now_ns, spent_ns, used_ns);
	} else {
		switch (governor_step(&overhead->governor, now_ns, spent_ns, used_ns)) {
		case GOVERNOR_GO_ON:
			break;
		case GOVERNOR_REST:
			rc = begin_rest(session);
			break;
		case GOVERNOR_WAKE:
			rc = end_rest(session);
			break;
		}
	}
	tell_costs(session, now_ns);
	return rc;
}

struct pt_session_overhead overhead_so_far(const struct session *session)
{
	const struct governor *g;

	if (!session->overhead)
		return (struct pt_session_overhead){0};
	g = &session->overhead->governor;
	return (struct pt_session_overhead){
	    .known = true,
	    .limit = g->limit,
	    .share = governor_share(g),
	    .spent_ns = (uint64_t)g->spent_ns,
	    .own_ns = (uint64_t)g->own_ns,
	    .recorded_ns = g->recorded_ns,
	    .rested_ns = g->rested_ns,
	    .rests = g->rests,
	    .without_c = g->without_c,
	    .resting = g->resting,
	};
}

void overhead_end(struct session *session)
{
	double spent_ns;

	if (!session->overhead)
		return;
	spent_ns = spent(session);
	governor_book(&session->overhead->governor, session_now_ns(), spent_ns,
		      cpu_used_ns(session));
	session->result->overhead = overhead_so_far(session);
}
