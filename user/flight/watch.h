/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * watch.h - looks at the records as they come, for what triggers wait for.
 *
 * Life cycle: pt_watch_new() -> pt_watch_record() for each record, pt_watch_tick() about once a
 * second
 * -> pt_watch_free(). One thread. What fires is told at once, from within these.
 * Cost: with a trigger that needs trace ops each record goes through a model, about as much as
 * replaying it does but for the writing; with a hang trigger 2 ns a word; else nothing.
 */
#ifndef PT_FLIGHT_WATCH_H
#define PT_FLIGHT_WATCH_H

#include <linux/types.h>
#include <stddef.h>
#include <stdint.h>

#include "flight/trigger.h"
#include "model/model.h"
#include "pt_abi.h"

struct pt_watch;

typedef void (*pt_fired_fn)(struct pt_trigger *trigger, const struct pt_fired *fired, void *ctx);

struct pt_watch_options {
	/* borrowed, with their state, and begun anew; at most PT_TRIGGERS_MAX */
	struct pt_trigger *triggers;
	size_t trigger_count;
	uint64_t last_ns; /* how far a capture reaches back */
	const struct pt_model_options *model;
	const struct pt_capture_info *info;
	pt_fired_fn fired;
	void *ctx;
};

int pt_watch_new(const struct pt_watch_options *options, struct pt_watch **watch);
/* -ENOMEM. */
int pt_watch_record(struct pt_watch *watch, const struct pt_rec *record, size_t len);
/* known_ns: what happened until then has come; real_ns: now, too, by CLOCK_REALTIME. */
void pt_watch_tick(struct pt_watch *watch, uint64_t known_ns, uint64_t now_ns, uint64_t real_ns);
/* The recorder got a signal; told at the next tick. */
void pt_watch_signal(struct pt_watch *watch, int signal_number);
void pt_watch_free(struct pt_watch *watch);

#endif
