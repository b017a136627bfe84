// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/* --max-overhead: a program whose events have a price, and what the governor makes of it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "record/governor.h"

#define STEP_NS 20000000ull
#define S       1000000000ull

/* One processor's time goes to the program and to what the probes take of it. */
struct program {
	double price, c_price; /* of a ns of its own work: by frames, by C functions */
	double busy;           /* share of the time that it runs at all */
	double sample_price;   /* likewise of samples, in rests */
	uint64_t change_ns;    /* how long it takes to put probes back, or away: half as dear */
};

static void run(struct governor *g, const struct program *p, uint64_t *now_ns, uint64_t for_ns)
{
	for (uint64_t end_ns = *now_ns + for_ns; *now_ns < end_ns;) {
		double price = g->resting ? (g->sampling ? p->sample_price : 0)
					  : p->price + (g->without_c ? 0 : p->c_price);
		double cpu_ns = (double)STEP_NS * p->busy, own_ns = cpu_ns / (1 + price);

		*now_ns += STEP_NS;
		if (governor_step(g, *now_ns, cpu_ns - own_ns, cpu_ns) == GOVERNOR_GO_ON ||
		    !p->change_ns)
			continue;
		*now_ns += p->change_ns;
		cpu_ns = (double)p->change_ns * p->busy;
		own_ns = cpu_ns / (1 + p->price / 2);
		governor_changed(g, *now_ns, cpu_ns - own_ns, cpu_ns);
	}
}

static void test_cheap_is_left_alone(void **state)
{
	const struct program p = {.price = 0.009, .busy = 1};
	uint64_t now_ns = S;
	struct governor g;

	governor_init(&g, 0.01, true, now_ns);
	run(&g, &p, &now_ns, 60 * S);
	assert_int_equal(g.rests, 0);
	assert_false(g.without_c);
	assert_int_equal(g.recorded_ns, 60 * S);
}

/* The limit holds over a minute, whatever the price, and something is recorded all the same. */
static void test_limit_holds(void **state)
{
	const double limits[] = {0.001, 0.01, 0.05, 0.5}, prices[] = {0.02, 0.3, 2, 20};

	for (size_t i = 0; i < 16; i++) {
		const struct program p = {.price = prices[i % 4], .busy = i & 1 ? 1 : 0.3};
		double limit = limits[i / 4];
		uint64_t now_ns = S;
		struct governor g;

		governor_init(&g, limit, false, now_ns);
		run(&g, &p, &now_ns, 1000 * S);
		assert_true(governor_share(&g) < limit * 1.1);
		if (p.price > limit)
			assert_true(governor_share(&g) > limit * 0.7);
		assert_true(g.recorded_ns > 0 && g.recorded_ns + g.rested_ns == 1000 * S);
	}
}

/* A few seconds are enough, though there is nothing saved up at the start and though it takes time
 * to take probes away. */
static void test_limit_holds_soon(void **state)
{
	const struct program p = {.price = 1.5, .busy = 1, .change_ns = 30000000};
	uint64_t now_ns = S;
	struct governor g;

	governor_init(&g, 0.01, false, now_ns);
	run(&g, &p, &now_ns, S);
	assert_int_equal(g.rests, 1);
	assert_true(g.recorded_ns < GOVERNOR_WINDOW_NS);
	run(&g, &p, &now_ns, 3 * S);
	assert_true(governor_share(&g) < 0.01);
	/* later windows are long enough, and are paid for with all that belongs to them */
	while (g.resting)
		run(&g, &p, &now_ns, STEP_NS);
	assert_true(g.change_ns > 0.5 * 0.4 * 30e6);
	assert_true(g.balance_ns > 0.05 * (double)GOVERNOR_WINDOW_NS);
	run(&g, &p, &now_ns, 100 * S);
	assert_true(governor_share(&g) < 0.0105); /* it may be in debt for a window */
}

/* A program that is a little too dear gets a whole window at once. */
static void test_first_window(void **state)
{
	const struct program p = {.price = 0.03, .busy = 1};
	uint64_t now_ns = S;
	struct governor g;

	governor_init(&g, 0.01, false, now_ns);
	run(&g, &p, &now_ns, S / 2);
	assert_int_equal(g.rests, 1);
	assert_int_equal(g.recorded_ns, GOVERNOR_WINDOW_NS);
}

static void test_c_functions_go_first(void **state)
{
	const struct program p = {.price = 0.005, .c_price = 0.1, .busy = 1};
	uint64_t now_ns = S;
	struct governor g;

	governor_init(&g, 0.01, true, now_ns);
	run(&g, &p, &now_ns, 29 * S);
	assert_true(g.without_c);
	assert_int_equal(g.rests, 1); /* only to take them away */
	/* they are tried again, each time later */
	run(&g, &p, &now_ns, 60 * S);
	assert_true(g.rests >= 3);
	assert_int_equal(g.retry_ns, 2 * GOVERNOR_RETRY_NS);
	run(&g, &p, &now_ns, 4000 * S);
	assert_int_equal(g.retry_ns, GOVERNOR_RETRY_MAX_NS);
	assert_true(governor_share(&g) < 0.011);
}

/* They come back for good when they have become cheap. */
static void test_c_functions_come_back(void **state)
{
	struct program p = {.price = 0.001, .c_price = 0.1, .busy = 1};
	uint64_t now_ns = S;
	struct governor g;

	governor_init(&g, 0.01, true, now_ns);
	run(&g, &p, &now_ns, 10 * S);
	assert_true(g.without_c);
	p.c_price = 0.001;
	run(&g, &p, &now_ns, 100 * S);
	assert_false(g.without_c || g.resting);
}

/* A long quiet time saves up no more than the credit. */
static void test_credit(void **state)
{
	struct program p = {.price = 0, .busy = 1};
	uint64_t now_ns = S;
	struct governor g;

	governor_init(&g, 0.01, false, now_ns);
	run(&g, &p, &now_ns, 3600 * S);
	assert_true(g.balance_ns <= 0.01 * GOVERNOR_CREDIT_NS);
	p.price = 1;
	run(&g, &p, &now_ns, S);
	assert_int_equal(g.rests, 1);
}

/* What happens while somebody else has paused it is paid for, and nothing is decided. */
static void test_book(void **state)
{
	uint64_t now_ns = S;
	struct governor g;

	governor_init(&g, 0.01, false, now_ns);
	governor_book(&g, now_ns + S, 5e8, 1e9);
	assert_false(g.resting);
	assert_true(g.balance_ns < 0);
	assert_int_equal(governor_step(&g, now_ns + S + STEP_NS, 0, 0), GOVERNOR_REST);
	/* a clock that goes back does no harm */
	assert_int_equal(governor_step(&g, now_ns, 0, 0), GOVERNOR_GO_ON);
	assert_int_equal(g.recorded_ns, S + STEP_NS);
}

/* Samples fill the rests, and the limit holds with them. */
static void test_samples_in_rests(void **state)
{
	const struct program p = {.price = 0.3, .sample_price = 0.002, .busy = 1};
	uint64_t now_ns = S, sampled_ns = 0;
	struct governor g;

	governor_init(&g, 0.01, false, now_ns);
	g.samples = true;
	assert_int_equal(governor_level(&g), GOVERNOR_EVERYTHING);
	assert_true(governor_samples(&g)); /* nothing speaks against them */
	while (now_ns < 1000 * S) {
		run(&g, &p, &now_ns, STEP_NS);
		assert_int_equal(governor_level(&g), g.sampling  ? GOVERNOR_SAMPLING
						     : g.resting ? GOVERNOR_PAUSED
						     : g.rests   ? GOVERNOR_WINDOWS
								 : GOVERNOR_EVERYTHING);
		sampled_ns += g.sampling ? STEP_NS : 0;
	}
	assert_true(governor_share(&g) < 0.011);
	assert_true(sampled_ns > g.rested_ns * 9 / 10);
	assert_true(g.rests > 100); /* there are windows all the same */
}

/* What takes more than half of what is earned ends, and is tried again, each time later. */
static void test_dear_samples(void **state)
{
	struct program p = {.price = 20, .sample_price = 0.008, .busy = 1};
	uint64_t now_ns = S, rests, paused = 0;
	struct governor g;

	governor_init(&g, 0.01, false, now_ns);
	g.samples = true;
	run(&g, &p, &now_ns, 3 * STEP_NS);
	assert_int_equal(governor_level(&g), GOVERNOR_SAMPLING);
	run(&g, &p, &now_ns, 4 * S);
	assert_int_equal(governor_level(&g), GOVERNOR_PAUSED);
	assert_int_equal(g.silent_ns, 2 * GOVERNOR_RETRY_NS);
	run(&g, &p, &now_ns, 4000 * S);
	assert_int_equal(g.silent_ns, GOVERNOR_RETRY_MAX_NS);
	assert_true(governor_share(&g) < 0.011);
	/* they stay once they have become cheap */
	p.sample_price = 0.001;
	run(&g, &p, &now_ns, GOVERNOR_RETRY_MAX_NS + S);
	rests = g.rests;
	for (unsigned int i = 0; i < 5000; i++) {
		run(&g, &p, &now_ns, STEP_NS);
		paused += governor_level(&g) == GOVERNOR_PAUSED;
	}
	assert_true(paused <= g.rests - rests + 1); /* a rest's first step */
}

/* Processes that rest themselves earn nothing; ticks that cost next to nothing are allowed. */
static void test_samples_of_idle(void **state)
{
	const struct program p = {.price = 0, .busy = 0};
	uint64_t now_ns = S;
	struct governor g;

	governor_init(&g, 0.01, false, now_ns);
	g.samples = true;
	assert_int_equal(governor_step(&g, now_ns += S, 1e8, 2e8), GOVERNOR_REST);
	run(&g, &p, &now_ns, 60 * S);
	assert_int_equal(governor_level(&g), GOVERNOR_SAMPLING);
	governor_step(&g, now_ns += STEP_NS, 1e7, 1e7);
	assert_int_equal(governor_level(&g), GOVERNOR_PAUSED);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_cheap_is_left_alone),
	    cmocka_unit_test(test_limit_holds),
	    cmocka_unit_test(test_limit_holds_soon),
	    cmocka_unit_test(test_first_window),
	    cmocka_unit_test(test_c_functions_go_first),
	    cmocka_unit_test(test_c_functions_come_back),
	    cmocka_unit_test(test_credit),
	    cmocka_unit_test(test_book),
	    cmocka_unit_test(test_samples_in_rests),
	    cmocka_unit_test(test_dear_samples),
	    cmocka_unit_test(test_samples_of_idle),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
