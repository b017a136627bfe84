// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
#include "flight/watch.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "ingest/decode.h"

struct pt_watch {
	struct pt_watch_options options;
	struct pt_model *model; /* NULL: no trigger needs trace ops */
	bool hangs, opens;      /* a trigger looks at processes; at calls that still run */
	struct pt_watched *watched;
	size_t watched_count, watched_size;
};

static void tell(struct pt_watch *watch, struct pt_trigger *trigger, struct pt_fired *fired)
{
	watch->options.fired(trigger, fired, watch->options.ctx);
}

static int on_op(const struct pt_op *op, void *ctx)
{
	struct pt_watch *watch = ctx;
	struct pt_fired fired;

	for (size_t i = 0; i < watch->options.trigger_count; i++) {
		struct pt_trigger *trigger = &watch->options.triggers[i];

		if (trigger->kind->op && trigger->kind->op(trigger, op, &fired))
			tell(watch, trigger, &fired);
	}
	return 0;
}

int pt_watch_new(const struct pt_watch_options *options, struct pt_watch **out)
{
	struct pt_watch *watch = calloc(1, sizeof(*watch));
	unsigned int needs = 0;
	int rc = 0;

	if (!watch)
		return -ENOMEM;
	watch->options = *options;
	for (size_t i = 0; i < options->trigger_count; i++) {
		struct pt_trigger *trigger = &options->triggers[i];

		pt_trigger_restart(trigger);
		trigger->number = (unsigned int)i;
		needs |= trigger->kind->needs;
		watch->hangs |= trigger->kind->watches;
		watch->opens |= trigger->kind->open != NULL;
	}
	if (needs & PT_NEEDS_OPS)
		rc = pt_model_new(options->model, options->info, on_op, watch, &watch->model);
	if (rc) {
		free(watch);
		return rc;
	}
	*out = watch;
	return 0;
}

void pt_watch_free(struct pt_watch *watch)
{
	if (!watch)
		return;
	pt_model_free(watch->model);
	free(watch->watched);
	free(watch);
}

/* ---- processes, for hangs ---- */

static struct pt_watched *watched_find(struct pt_watch *watch, pid_t pid)
{
	for (size_t i = 0; i < watch->watched_count; i++)
		if (watch->watched[i].pid == pid)
			return &watch->watched[i];
	return NULL;
}

/* Found or made; NULL: out of memory. */
static struct pt_watched *watched_get(struct pt_watch *watch, const struct pt_rec *record)
{
	struct pt_watched *watched = watched_find(watch, (pid_t)record->tgid);

	if (watched)
		return watched;
	if (watch->watched_count == watch->watched_size) {
		size_t size = 2 * watch->watched_size + 16;
		struct pt_watched *bigger = reallocarray(watch->watched, size, sizeof(*bigger));

		if (!bigger)
			return NULL;
		watch->watched = bigger;
		watch->watched_size = size;
	}
	watched = &watch->watched[watch->watched_count++];
	*watched = (struct pt_watched){.pid = (pid_t)record->tgid, .image_id = record->image_id};
	return watched;
}

static void watched_drop(struct pt_watch *watch, pid_t pid)
{
	struct pt_watched *watched = watched_find(watch, pid);

	if (watched)
		*watched = watch->watched[--watch->watched_count];
}

static int watch_process(struct pt_watch *watch, const struct pt_rec_proc *record)
{
	struct pt_watched *watched;

	if (record->what == PT_PROC_EXIT) {
		watched_drop(watch, (pid_t)record->hdr.tgid);
		return 0;
	}
	watched = watched_get(watch, &record->hdr);
	if (!watched)
		return -ENOMEM;
	watched->image_id = record->hdr.image_id;
	watched->runs_python = record->what == PT_PROC_ATTACH || record->what == PT_PROC_LATE;
	watched->told = 0;
	if (record->hdr.time_ns > watched->last_ns)
		watched->last_ns = record->hdr.time_ns;
	return 0;
}

static void watch_batch(struct pt_watch *watch, const struct pt_rec_batch *batch, size_t len)
{
	struct pt_batch_iter iter;
	struct pt_watched *watched;
	struct pt_ev event;
	uint64_t last_ns = 0;

	watched = watched_find(watch, (pid_t)batch->hdr.tgid);
	/* it has ended, or this is of what it ran before an exec */
	if (!watched || watched->image_id != batch->hdr.image_id ||
	    pt_batch_begin(&iter, batch, len))
		return;
	while (pt_batch_next(&iter, &event))
		if (event.kind != PT_EV_LINE && event.time_ns > last_ns)
			last_ns = event.time_ns;
	if (last_ns <= watched->last_ns)
		return;
	watched->last_ns = last_ns;
	watched->runs_python = true;
	watched->told = 0;
}

/* ---- what comes in ---- */

static void tell_exit(struct pt_watch *watch, const struct pt_rec_proc *record)
{
	struct pt_fired fired;

	for (size_t i = 0; i < watch->options.trigger_count; i++) {
		struct pt_trigger *trigger = &watch->options.triggers[i];

		if (trigger->kind->exit && trigger->kind->exit(trigger, record, &fired))
			tell(watch, trigger, &fired);
	}
}

int pt_watch_record(struct pt_watch *watch, const struct pt_rec *record, size_t len)
{
	const struct pt_rec_proc *process = (const struct pt_rec_proc *)record;
	int rc = watch->model ? pt_model_record(watch->model, record, len) : 0;

	if (!rc && record->kind == PT_REC_BATCH && watch->hangs)
		watch_batch(watch, (const struct pt_rec_batch *)record, len);
	if (rc || record->kind != PT_REC_PROC || pt_record_check(record, len))
		return rc;
	if (process->what == PT_PROC_EXIT)
		tell_exit(watch, process);
	return watch->hangs ? watch_process(watch, process) : 0;
}

static int on_open(const struct pt_op *op, void *ctx)
{
	struct pt_watch *watch = ctx;
	struct pt_fired fired;

	for (size_t i = 0; i < watch->options.trigger_count; i++) {
		struct pt_trigger *trigger = &watch->options.triggers[i];

		if (trigger->kind->open &&
		    trigger->kind->open(trigger, op, watch->options.last_ns, &fired))
			tell(watch, trigger, &fired);
	}
	return 0;
}

void pt_watch_tick(struct pt_watch *watch, uint64_t known_ns, uint64_t now_ns, uint64_t real_ns)
{
	struct pt_trigger_tick tick = {.known_ns = known_ns,
				       .now_ns = now_ns,
				       .real_ns = real_ns,
				       .watched = watch->watched,
				       .watched_count = watch->watched_count};
	struct pt_fired fired;

	if (watch->opens)
		pt_model_open_slices(watch->model, known_ns, on_open, watch);
	for (size_t i = 0; i < watch->options.trigger_count; i++) {
		struct pt_trigger *trigger = &watch->options.triggers[i];

		if (trigger->kind->tick && trigger->kind->tick(trigger, &tick, &fired))
			tell(watch, trigger, &fired);
	}
}

void pt_watch_signal(struct pt_watch *watch, int signal_number)
{
	bool wanted = false;

	for (size_t i = 0; i < watch->options.trigger_count; i++) {
		if (watch->options.triggers[i].signal_number != signal_number)
			continue;
		watch->options.triggers[i].came = wanted = true;
	}
	if (!wanted)
		pt_warn("signal %d does nothing: no trigger waits for it", signal_number);
}
