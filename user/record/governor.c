// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
#include "record/governor.h"

#include <string.h>

void governor_init(struct governor *g, double limit, bool c_calls, uint64_t now_ns)
{
	memset(g, 0, sizeof(*g));
	g->limit = limit;
	g->c_calls = c_calls;
	g->last_ns = g->since_ns = now_ns;
	g->retry_ns = g->silent_ns = GOVERNOR_RETRY_NS;
}

static void start_samples(struct governor *g, uint64_t now_ns)
{
	g->sampling = true;
	g->samples_since_ns = now_ns;
	g->samples_spent_ns = g->samples_own_ns = 0;
}

/* Do they take too much? What processes earn in a second is allowed ahead: those that rest, rest.
 */
static void judge_samples(struct governor *g, uint64_t now_ns)
{
	double may_ns = GOVERNOR_SAMPLES * g->limit * (g->samples_own_ns + GOVERNOR_DEBT_NS);

	if (!g->sampling) {
		if (g->samples && now_ns >= g->silent_until_ns)
			start_samples(g, now_ns);
		return;
	}
	if (now_ns - g->samples_since_ns < GOVERNOR_SAMPLES_NS || g->samples_spent_ns <= may_ns)
		return;
	g->sampling = false;
	g->silent_until_ns = now_ns + g->silent_ns;
	g->silent_ns *= 2;
	if (g->silent_ns > GOVERNOR_RETRY_MAX_NS)
		g->silent_ns = GOVERNOR_RETRY_MAX_NS;
}

static enum governor_action rest(struct governor *g, uint64_t now_ns)
{
	g->resting = true;
	g->rests++;
	g->since_ns = now_ns;
	return GOVERNOR_REST;
}

static enum governor_action overdrawn(struct governor *g, uint64_t now_ns)
{
	double window_ns = (double)(now_ns - g->since_ns);

	g->price = window_ns > 0 ? g->window_spent_ns / window_ns : 0;
	if (g->c_calls && !g->without_c) {
		/* they have been tried again before, and were too dear again */
		if (g->tried)
			g->retry_ns *= 2;
		if (g->retry_ns > GOVERNOR_RETRY_MAX_NS)
			g->retry_ns = GOVERNOR_RETRY_MAX_NS;
		g->without_c = true;
	}
	return rest(g, now_ns);
}

static enum governor_action wake(struct governor *g, uint64_t now_ns)
{
	g->resting = g->sampling = false;
	g->since_ns = g->woken_ns = now_ns;
	g->window_spent_ns = 0;
	return GOVERNOR_WAKE;
}

/* Later windows begin when they can be paid for, and how long they are has to be relied upon. */
static bool deep_in_debt(const struct governor *g)
{
	return !g->rests && g->balance_ns < -g->limit * GOVERNOR_DEBT_NS;
}

static enum governor_action step_recording(struct governor *g, uint64_t now_ns)
{
	if (g->balance_ns < 0 && (now_ns - g->since_ns >= GOVERNOR_WINDOW_NS || deep_in_debt(g)))
		return overdrawn(g, now_ns);
	/* long without a rest: the C functions may come back, by way of a short one */
	if (g->without_c && now_ns - g->since_ns >= g->retry_ns) {
		g->without_c = false;
		g->tried = true;
		g->price = 0;
		return rest(g, now_ns);
	}
	return GOVERNOR_GO_ON;
}

static enum governor_action step_resting(struct governor *g, uint64_t now_ns)
{
	double need_ns = g->price * (double)GOVERNOR_WINDOW_NS + g->change_ns;
	double credit_ns = g->limit * GOVERNOR_CREDIT_NS;

	judge_samples(g, now_ns);
	if (need_ns > credit_ns)
		need_ns = credit_ns; /* the window will be overdrawn, and paid for afterwards */
	if (now_ns - g->since_ns < GOVERNOR_REST_NS || g->balance_ns < need_ns)
		return GOVERNOR_GO_ON;
	return wake(g, now_ns);
}

void governor_book(struct governor *g, uint64_t now_ns, double spent_ns, double cpu_ns)
{
	uint64_t passed_ns = now_ns > g->last_ns ? now_ns - g->last_ns : 0;
	double own_ns = cpu_ns > spent_ns ? cpu_ns - spent_ns : 0;

	g->last_ns += passed_ns;
	g->spent_ns += spent_ns;
	g->own_ns += own_ns;
	g->balance_ns += g->limit * own_ns - spent_ns;
	if (g->balance_ns > g->limit * GOVERNOR_CREDIT_NS)
		g->balance_ns = g->limit * GOVERNOR_CREDIT_NS;
	if (g->resting) {
		g->rested_ns += passed_ns;
		g->samples_spent_ns += spent_ns;
		g->samples_own_ns += own_ns;
	} else {
		g->recorded_ns += passed_ns;
		g->window_spent_ns += spent_ns;
	}
}

void governor_changed(struct governor *g, uint64_t now_ns, double spent_ns, double cpu_ns)
{
	governor_book(g, now_ns, spent_ns, cpu_ns);
	if (g->resting) {
		g->change_ns += spent_ns;
		return;
	}
	g->change_ns = spent_ns;
	g->window_spent_ns = 0;
	g->since_ns = g->last_ns;
}

enum governor_action governor_step(struct governor *g, uint64_t now_ns, double spent_ns,
				   double cpu_ns)
{
	governor_book(g, now_ns, spent_ns, cpu_ns);
	return g->resting ? step_resting(g, g->last_ns) : step_recording(g, g->last_ns);
}

bool governor_samples(const struct governor *g)
{
	return g->sampling || !g->resting;
}

enum governor_level governor_level(const struct governor *g)
{
	if (g->resting)
		return g->sampling ? GOVERNOR_SAMPLING : GOVERNOR_PAUSED;
	if (g->rests && g->last_ns - g->woken_ns < GOVERNOR_RETRY_NS)
		return GOVERNOR_WINDOWS;
	return g->without_c ? GOVERNOR_NO_C : GOVERNOR_EVERYTHING;
}

double governor_share(const struct governor *g)
{
	return g->own_ns > 0 ? g->spent_ns / g->own_ns : 0;
}
