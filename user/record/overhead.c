// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * --max-overhead and --max-cpu: reads what recording costs and does what the governors say. Each
 * has an account of its own; recording rests while either wants it to.
 *
 * What a hit costs is the trap, as measured when the session began (probe/calibrate.h), and the
 * program's own time, as the kernel counts it.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/usage.h"
#include "record/governor.h"
#include "record/session_parts.h"

#define STEP_NS        20000000ull  /* CPU time is exact to the nanosecond, so this may be short */
#define STEP_CHOSEN_NS 100000000ull /* of a session that is never over */
#define TELL_NS        1000000000ull

struct overhead {
	struct governor governor, cpu; /* of the processes' CPU time; of one CPU's */
	bool limited, cpu_limited, counted;
	bool resting, sampling;
	uint64_t sampled_ns;
	uint64_t cost_ns, own_cpu_ns; /* at the last step */
	uint64_t wall_ns;             /* when that was */
	uint64_t recorded_ns, rested_ns, rests;
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
	bool limited = session->options->max_overhead > 0 || (choice && choice->cost);
	int rc = limited ? pt_tracer_count_cost(session->tracer, true) : 0;

	if (!limited && session->options->max_cpu <= 0)
		return 0;
	if (rc)
		return pt_err_set(
		    err, rc, PT_EXIT_UNSUPPORTED, "do without a limit on overhead",
		    "there can be no limit on overhead: this kernel does not count what programs "
		    "cost: %s",
		    strerror(-rc));
	session->overhead = calloc(1, sizeof(*session->overhead));
	if (!session->overhead)
		return pt_err_set(err, -ENOMEM, PT_EXIT_FAILED, "", "out of memory");
	session->overhead->counted = limited;
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
	governor_init(&overhead->cpu, session->options->max_cpu, false, session->gate_ns);
	overhead->governor.samples = overhead->cpu.samples = session->sample_rests;
	overhead->limited = session->options->max_overhead > 0;
	overhead->cpu_limited = session->options->max_cpu > 0;
	overhead->own_cpu_ns = pt_own_cpu_ns();
	overhead->wall_ns = session->gate_ns;
	overhead->next_ns = session->gate_ns + step_ns(session);
	overhead->tell_ns = session->gate_ns + TELL_NS;
}

/* What it has cost since the last call. */
static double spent(struct session *session)
{
	struct overhead *overhead = session->overhead;
	uint64_t before_ns = overhead->cost_ns;

	if (!overhead->counted)
		return 0;
	overhead->cost_ns = pt_tracer_cost_ns(session->tracer, session->trap_ns);
	return (double)(overhead->cost_ns - before_ns);
}

/* What has passed for both accounts since the last call. */
struct passed {
	uint64_t now_ns;
	double spent_ns, used_ns; /* by the probes, and by the processes altogether */
	double cpu_ns, wall_ns;   /* by this program */
};

static struct passed look(struct session *session)
{
	struct overhead *overhead = session->overhead;
	uint64_t own_cpu_ns = pt_own_cpu_ns();
	struct passed passed = {
	    .now_ns = pt_now_ns(),
	    .spent_ns = spent(session),
	    .used_ns = cpu_used_ns(session),
	    .cpu_ns = (double)(own_cpu_ns - overhead->own_cpu_ns),
	};

	passed.wall_ns = (double)(passed.now_ns - overhead->wall_ns);
	*(overhead->resting ? &overhead->rested_ns : &overhead->recorded_ns) += passed.now_ns -
										overhead->wall_ns;
	if (overhead->sampling)
		overhead->sampled_ns += passed.now_ns - overhead->wall_ns;
	overhead->own_cpu_ns = own_cpu_ns;
	overhead->wall_ns = passed.now_ns;
	return passed;
}

static void book(struct overhead *overhead, const struct passed *passed)
{
	governor_book(&overhead->governor, passed->now_ns, passed->spent_ns, passed->used_ns);
	governor_book(&overhead->cpu, passed->now_ns, passed->cpu_ns,
		      passed->cpu_ns + passed->wall_ns);
}

/* Probes have been taken away or put back: what that cost. */
static void changed(struct session *session)
{
	struct overhead *overhead = session->overhead;
	struct passed passed = look(session);

	governor_changed(&overhead->governor, passed.now_ns, passed.spent_ns, passed.used_ns);
	governor_changed(&overhead->cpu, passed.now_ns, passed.cpu_ns,
			 passed.cpu_ns + passed.wall_ns);
}

static uint32_t why(const struct overhead *overhead)
{
	return PT_WHY_ABSENT | (overhead->limited ? PT_WHY_OVERHEAD : 0) |
	       (overhead->cpu_limited ? PT_WHY_CPU : 0);
}

static const char *name(const struct overhead *overhead)
{
	return !overhead->cpu_limited ? "--max-overhead"
	       : overhead->limited    ? "--max-overhead, --max-cpu"
				      : "--max-cpu";
}

/* The first time for all to see. */
static void tell(const struct overhead *overhead, const char *what)
{
	if (overhead->rests > 1)
		pt_verbose("%s: %s", name(overhead), what);
	else
		pt_info("%s: %s", name(overhead), what);
}

/* The clocks run, or no longer; whoever reads the records knows by what is said next. */
static int switch_clocks(struct session *session, bool on)
{
	struct overhead *overhead = session->overhead;
	int rc;

	if (on == overhead->sampling)
		return 0;
	rc = pt_tracer_sample(session->tracer, on);
	if (rc) /* a CPU is gone */
		pt_verbose("%s: the clocks of samples: %s", name(overhead), strerror(-rc));
	overhead->sampling = on;
	return on ? 0 : commands_drain(session);
}

/* In a rest: takes samples if both accounts can pay for them, and nobody has paused. */
static int follow_samples(struct session *session)
{
	struct overhead *overhead = session->overhead;
	bool wanted = overhead->resting && session->sample_rests && !session->commands.paused &&
		      (!overhead->limited || governor_samples(&overhead->governor)) &&
		      (!overhead->cpu_limited || governor_samples(&overhead->cpu));
	int rc;

	if (wanted == overhead->sampling)
		return 0;
	rc = switch_clocks(session, wanted);
	if (rc)
		return rc;
	tell(overhead, wanted ? "samples are taken meanwhile" : "no more samples are taken");
	return session_put_control(session, PT_CONTROL_SAMPLES,
				   why(overhead) | (wanted ? PT_WHY_SAMPLES : 0), pt_now_ns());
}

int overhead_paused(struct session *session)
{
	return follow_samples(session);
}

static int begin_rest(struct session *session)
{
	struct overhead *overhead = session->overhead;
	uint64_t ns;

	if (pt_tracer_withdraw(session->tracer, &ns)) {
		/* the gate is shut for good: the recording ends now */
		overhead->governor.resting = overhead->cpu.resting = false;
		return 0;
	}
	overhead->resting = true;
	overhead->rests++;
	changed(session);
	if (!session->commands.first_pause_ns)
		session->commands.first_pause_ns = ns;
	tell(overhead, "recording rests, until what it has cost is within the limit again");
	return session_put_control(session, PT_CONTROL_PAUSE, why(overhead), ns);
}

static int end_rest(struct session *session)
{
	struct overhead *overhead = session->overhead;
	bool without_c = overhead->governor.without_c;
	struct pt_err err = {0};
	uint64_t ns;
	int rc = switch_clocks(session, false);

	if (rc)
		return rc;
	rc = pt_tracer_restore(session->tracer, !without_c, &ns, &err);
	overhead->resting = false;
	if (rc == -EALREADY)
		return 0;
	if (rc) {
		pt_warn("%s: recording cannot go on: %s", name(overhead),
			pt_err_is_set(&err) ? err.what : strerror(-rc));
		return rc;
	}
	changed(session);
	tell(overhead, without_c ? "recording goes on without C functions" : "recording goes on");
	return session_put_control(session, PT_CONTROL_RESUME,
				   why(overhead) | (without_c ? PT_WHY_NO_C : 0), ns);
}

bool overhead_resting(const struct session *session)
{
	return session->overhead && session->overhead->resting;
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

/* Asks both governors, and does what they say together. */
static int decide(struct session *session, const struct passed *passed)
{
	struct overhead *overhead = session->overhead;
	bool rest;
	int rc = 0;

	if (overhead->limited)
		governor_step(&overhead->governor, passed->now_ns, passed->spent_ns,
			      passed->used_ns);
	else
		governor_book(&overhead->governor, passed->now_ns, passed->spent_ns,
			      passed->used_ns);
	if (overhead->cpu_limited)
		governor_step(&overhead->cpu, passed->now_ns, passed->cpu_ns,
			      passed->cpu_ns + passed->wall_ns);
	rest = overhead->governor.resting || overhead->cpu.resting;
	if (rest != overhead->resting)
		rc = rest ? begin_rest(session) : end_rest(session);
	return rc ? rc : follow_samples(session);
}

int overhead_step(struct session *session, uint64_t now_ns)
{
	struct overhead *overhead = session->overhead;
	struct passed passed;
	int rc = 0;

	if (!overhead || now_ns < overhead->next_ns)
		return 0;
	overhead->next_ns = now_ns + step_ns(session);
	passed = look(session);
	/* a pause is paid for all the same; whoever paused, resumes */
	if (session->commands.paused)
		book(overhead, &passed);
	else
		rc = decide(session, &passed);
	tell_costs(session, now_ns);
	return rc;
}

/* That of the dearer account: the one that rests. */
static enum governor_level level(const struct overhead *overhead)
{
	enum governor_level probes = governor_level(&overhead->governor);
	enum governor_level cpu = governor_level(&overhead->cpu);

	if (overhead->resting)
		return overhead->sampling ? GOVERNOR_SAMPLING : GOVERNOR_PAUSED;
	return probes > cpu ? probes : cpu;
}

struct pt_session_overhead overhead_so_far(const struct session *session)
{
	const struct overhead *overhead = session->overhead;
	const struct governor *g;

	if (!overhead)
		return (struct pt_session_overhead){0};
	g = &overhead->governor;
	return (struct pt_session_overhead){
	    .known = overhead->counted,
	    .limit = g->limit,
	    .share = governor_share(g),
	    .spent_ns = (uint64_t)g->spent_ns,
	    .own_ns = (uint64_t)g->own_ns,
	    .recorded_ns = overhead->recorded_ns,
	    .rested_ns = overhead->rested_ns,
	    .rests = overhead->rests,
	    .without_c = g->without_c,
	    .resting = overhead->resting,
	    .sampling = overhead->sampling,
	    .sampled_ns = overhead->sampled_ns,
	    .level = level(overhead),
	    .cpu_limit = overhead->cpu_limited ? overhead->cpu.limit : 0,
	    .cpu_share = governor_share(&overhead->cpu),
	};
}

void overhead_end(struct session *session)
{
	struct passed passed;

	if (!session->overhead)
		return;
	passed = look(session);
	book(session->overhead, &passed);
	session->result->overhead = overhead_so_far(session);
}
