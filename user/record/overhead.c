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

#define STEP_NS 20000000ull /* CPU time is exact to the nanosecond, so this may be short */

struct overhead {
	struct governor governor;
	uint64_t cost_ns; /* at the last step */
	uint64_t next_ns;
};

/* What the targets have used since the last call. */
static double cpu_used_ns(struct session *session)
{
	uint64_t sum_ns = 0;

	for (size_t i = 0; i < session->target_count; i++) {
		struct target *target = &session->targets[i];
		uint64_t now_ns = pt_process_cpu_ns(target->pid);

		if (target->cpu_ns && now_ns > target->cpu_ns)
			sum_ns += now_ns - target->cpu_ns;
		if (now_ns)
			target->cpu_ns = now_ns;
	}
	return (double)sum_ns;
}

int overhead_prepare(struct session *session, struct pt_err *err)
{
	int rc;

	if (session->options->max_overhead <= 0)
		return 0;
	rc = pt_tracer_count_cost(session->tracer, true);
	if (rc)
		return pt_err_set(
		    err, rc, PT_EXIT_UNSUPPORTED, "leave out --max-overhead",
		    "--max-overhead: this kernel does not count what programs cost: %s",
		    strerror(-rc));
	session->overhead = calloc(1, sizeof(*session->overhead));
	if (!session->overhead)
		return pt_err_set(err, -ENOMEM, PT_EXIT_FAILED, "", "out of memory");
	return 0;
}

void overhead_begin(struct session *session)
{
	struct overhead *overhead = session->overhead;

	if (!overhead)
		return;
	governor_init(&overhead->governor, session->options->max_overhead, session->c_calls,
		      session->gate_ns);
	cpu_used_ns(session);
	overhead->next_ns = session->gate_ns + STEP_NS;
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

int overhead_step(struct session *session, uint64_t now_ns)
{
	struct overhead *overhead = session->overhead;
	double spent_ns, used_ns;

	if (!overhead || now_ns < overhead->next_ns)
		return 0;
	overhead->next_ns = now_ns + STEP_NS;
	spent_ns = spent(session);
	used_ns = cpu_used_ns(session);
	if (session->commands.paused) { /* it is paid for all the same; whoever paused, resumes */
		governor_book(&overhead->governor, now_ns, spent_ns, used_ns);
		return 0;
	}
	switch (governor_step(&overhead->governor, now_ns, spent_ns, used_ns)) {
	case GOVERNOR_GO_ON:
		return 0;
	case GOVERNOR_REST:
		return begin_rest(session);
	case GOVERNOR_WAKE:
		return end_rest(session);
	}
	return 0;
}

void overhead_end(struct session *session)
{
	struct overhead *overhead = session->overhead;
	const struct governor *g;
	double spent_ns;

	if (!overhead)
		return;
	g = &overhead->governor;
	spent_ns = spent(session);
	governor_book(&overhead->governor, session_now_ns(), spent_ns, cpu_used_ns(session));
	session->result->overhead = (struct pt_session_overhead){
	    .known = true,
	    .limit = g->limit,
	    .share = governor_share(g),
	    .spent_ns = (uint64_t)g->spent_ns,
	    .recorded_ns = g->recorded_ns,
	    .rested_ns = g->rested_ns,
	    .rests = g->rests,
	    .without_c = g->without_c,
	};
}
