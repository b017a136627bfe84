/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * governor.h - keeps what recording costs within a share of the traced processes' own CPU time.
 *
 * An account: the processes' own time earns limit times as much, what the probes take of it is
 * spent. When it is overdrawn recording rests, without probes, until it can pay for the next window
 * at the price of the last one, and for putting the probes back and taking them away as the last
 * time. The first window has nothing saved up: it may be short. Before there are rests, C functions
 * are given up, if they are recorded where they are called; after a while without a rest they are
 * tried again, each time later. So over any longer time the limit holds, but for one window that
 * turns out dearer than the one before.
 *
 * While recording rests, samples may be taken. They are paid for, too, and may take half of what is
 * earned, so that a next window can be paid for. If they take more there are none for a while, each
 * time longer.
 *
 * Pure: no clock, no BPF. All times are in ns.
 */
#ifndef PT_RECORD_GOVERNOR_H
#define PT_RECORD_GOVERNOR_H

#include <stdbool.h>
#include <stdint.h>

enum governor_action {
	GOVERNOR_GO_ON,
	GOVERNOR_REST, /* from now on nothing is recorded */
	GOVERNOR_WAKE, /* recording goes on, see without_c */
};

/* What is recorded; each costs less than the one before. */
enum governor_level {
	GOVERNOR_EVERYTHING,
	GOVERNOR_NO_C,     /* no C functions */
	GOVERNOR_WINDOWS,  /* for now: there have been rests lately */
	GOVERNOR_SAMPLING, /* it rests, but for samples */
	GOVERNOR_PAUSED,
};

struct governor {
	double limit; /* 0.01: 1 % */
	bool c_calls; /* there are C functions to give up */
	bool samples; /* can be taken in rests; set behind governor_init() */
	/* what to do */
	bool resting, without_c;
	bool sampling; /* while resting */
	/* the account; not more than GOVERNOR_CREDIT_NS of the processes' time is saved up */
	double balance_ns;
	double price;               /* of a ns of recording, in the last window */
	double change_ns;           /* spent while probes were put back and taken away, last time */
	double window_spent_ns;     /* in the window under way */
	uint64_t last_ns, since_ns; /* the last step; begin of the window, or of the rest */
	uint64_t woken_ns;          /* the last rest ended */
	bool tried;                 /* C functions, once more */
	uint64_t retry_ns;          /* how long until the next try */
	/* of samples: since they are taken, in this rest; or not to be until then, and for how long
	 * the next time */
	double samples_spent_ns, samples_own_ns;
	uint64_t samples_since_ns, silent_until_ns, silent_ns;
	/* so far */
	double spent_ns, own_ns; /* by the probes; by the processes themselves */
	uint64_t rests, recorded_ns, rested_ns;
};

#define GOVERNOR_CREDIT_NS    10e9
#define GOVERNOR_WINDOW_NS    100000000ull /* at least, but for the first one */
#define GOVERNOR_DEBT_NS      1e9 /* of the processes' time: it ends when that would pay for it */
#define GOVERNOR_REST_NS      500000000ull /* at least: taking probes away and back costs, too */
#define GOVERNOR_RETRY_NS     30000000000ull
#define GOVERNOR_RETRY_MAX_NS 600000000000ull
#define GOVERNOR_SAMPLES      0.5          /* of what is earned, at most for samples .. */
#define GOVERNOR_SAMPLES_NS   500000000ull /* .. over at least so long */

void governor_init(struct governor *governor, double limit, bool c_calls, uint64_t now_ns);
/* Enters into the account what was spent of cpu_ns, what the processes used, since the last time;
 * and says what to do. */
enum governor_action governor_step(struct governor *governor, uint64_t now_ns, double spent_ns,
				   double cpu_ns);
/* Only enters it. */
void governor_book(struct governor *governor, uint64_t now_ns, double spent_ns, double cpu_ns);
/* Likewise, of the time since the last call, in which the probes were taken away or put back. */
void governor_changed(struct governor *governor, uint64_t now_ns, double spent_ns, double cpu_ns);
/* May samples be taken in a rest, for all that this account has to say? */
bool governor_samples(const struct governor *governor);
enum governor_level governor_level(const struct governor *governor);
/* The probes' share of the processes' own time so far. */
double governor_share(const struct governor *governor);

#endif
