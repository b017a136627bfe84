// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * Several stacks in a thread: greenlets. One runs, and is the thread's stack as ever; the others
 * are put aside as they are until they run again, so a call that waits in one of them goes on. The
 * calls of two greenlets overlap in time, so each has a track of its own; what ran first, which as
 * a rule is the thread's own stack, stays on the thread's. A greenlet's number is used again when
 * it is gone, and its end is not seen but for that of its outermost call: so it is that which has a
 * track.
 *
 * The snapshot behind each switch (thread_snapshots.c, heal()) confirms the frames of the stack,
 * and brings those that were there before the recording.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/model_priv.h"

#define NAME_MAX_BYTES (3 * PT_STR_MAX_BYTES + 64)

/* While it runs, the thread has what stands here. */
struct model_greenlet {
	struct model_greenlet *next;
	bool own;                /* on the thread's track */
	pid_t track;             /* else; 0: not given yet */
	uint64_t told_ns;        /* the model's clear_ns when the track was announced, and 1 */
	char *name;              /* once announced */
	struct model_code *root; /* the outermost call's, as it ends */
	struct model_frame *frames;
	uint32_t frame_count, frame_size, depth, span_count;
	struct model_task *task; /* async.c */
};

struct model_greenlets {
	struct pt_map by_number;
	struct model_greenlet *list, *current;
};

static struct model_greenlet *greenlet_get(struct pt_model *model, struct model_thread *thread,
					   uint64_t number)
{
	struct model_greenlet *greenlet;

	if (!thread->greenlets) {
		thread->greenlets = calloc(1, sizeof(*thread->greenlets));
		if (!thread->greenlets) {
			model_fail(model, -ENOMEM);
			return NULL;
		}
	}
	greenlet = pt_map_get(&thread->greenlets->by_number, number, 0);
	if (greenlet)
		return greenlet;
	if (model->coroutines >= MODEL_MAX_COROUTINES) {
		model->totals.bad_records++; /* no real program; do not let it take all memory */
		return NULL;
	}
	greenlet = pt_map_make(&thread->greenlets->by_number, number, 0, sizeof(*greenlet));
	if (!greenlet) {
		model_fail(model, -ENOMEM);
		return NULL;
	}
	model->coroutines++;
	greenlet->next = thread->greenlets->list;
	thread->greenlets->list = greenlet;
	return greenlet;
}

static void put_aside(struct model_thread *thread, struct model_greenlet *greenlet)
{
	greenlet->frames = thread->frames;
	greenlet->frame_count = thread->frame_count;
	greenlet->frame_size = thread->frame_size;
	greenlet->depth = thread->depth;
	greenlet->span_count = thread->span_count;
	greenlet->task = model_async_swap(thread, NULL);
	thread->frames = NULL;
	thread->frame_count = thread->frame_size = thread->span_count = thread->depth = 0;
}

static void take_up(struct model_thread *thread, struct model_greenlet *greenlet)
{
	thread->frames = greenlet->frames;
	thread->frame_count = greenlet->frame_count;
	thread->frame_size = greenlet->frame_size;
	thread->depth = greenlet->depth;
	thread->span_count = greenlet->span_count;
	model_async_swap(thread, greenlet->task);
	thread->greenlets->current = greenlet;
	greenlet->frames = NULL;
	greenlet->frame_count = greenlet->frame_size = greenlet->span_count = 0;
	greenlet->task = NULL;
}

/* What the stack that is left had open when something was lost, or in a pause, is over. */
static void leave_unknown(struct pt_model *model, struct model_thread *thread)
{
	if (thread->gap)
		model_thread_pop_to(model, thread, 0, thread->gap_begin_ns, PT_SLICE_INTO_LOSS);
	else if (thread->paused)
		model_thread_pop_to(model, thread, 0, thread->last_ns, PT_SLICE_INTO_PAUSE);
}

void model_greenlet_switch(struct pt_model *model, struct model_thread *thread, uint64_t number)
{
	struct model_greenlet *greenlet = greenlet_get(model, thread, number), *before;

	thread->caller = NULL;
	thread->coro = 0;
	if (!greenlet)
		return;
	before = thread->greenlets->current;
	if (!before) {
		greenlet->own = true;
		thread->greenlets->current = greenlet;
	}
	if (!before || before == greenlet)
		return;
	model_async_settle(model, thread);
	leave_unknown(model, thread);
	thread->at_first_event = false;
	thread->opened_at_start = 0; /* of another stack */
	put_aside(thread, before);
	take_up(thread, greenlet);
	thread->switched = true;
}

/* Named by its outermost function. */
static void announce(struct pt_model *model, struct model_thread *thread,
		     struct model_greenlet *greenlet)
{
	struct model_code *code = thread->frame_count ? thread->frames[0].code : greenlet->root;
	struct model_function *function = code ? model_code_function(model, code) : NULL;
	struct pt_op op = {
	    .kind = PT_OP_THREAD,
	    .thread =
		{
		    .pid = thread->process->pid,
		    .tid = greenlet->track,
		    .time_ns = model->gate_open_ns,
		},
	};
	char name[NAME_MAX_BYTES];

	if (!greenlet->name) {
		if (function)
			snprintf(name, sizeof(name), "greenlet %s #%u", function->pub.qualname,
				 ++function->greenlets);
		else
			snprintf(name, sizeof(name), "greenlet");
		greenlet->name = strdup(name);
		if (!greenlet->name) {
			model_fail(model, -ENOMEM);
			return;
		}
	}
	greenlet->told_ns = model->clear_ns + 1;
	op.thread.name = greenlet->name;
	model_announce_process(model, thread->process);
	model_emit(model, &op);
}

pid_t model_greenlet_track(struct pt_model *model, struct model_thread *thread)
{
	struct model_greenlet *greenlet = thread->greenlets ? thread->greenlets->current : NULL;

	if (!greenlet || greenlet->own)
		return thread->tid;
	if (!greenlet->track)
		greenlet->track = (pid_t)(PT_TRACK_TID | (model->tracks++ & (PT_TRACK_TID - 1)));
	if (greenlet->told_ns != model->clear_ns + 1)
		announce(model, thread, greenlet);
	return greenlet->track;
}

void model_greenlet_ending(struct model_thread *thread)
{
	struct model_greenlet *greenlet = thread->greenlets->current;

	if (greenlet)
		greenlet->root = thread->frames[0].code;
}

void model_greenlet_ended(struct model_thread *thread)
{
	struct model_greenlet *greenlet = thread->greenlets->current;

	if (!greenlet || greenlet->own)
		return;
	free(greenlet->name);
	greenlet->name = NULL;
	greenlet->track = 0;
	greenlet->told_ns = 0;
	greenlet->root = NULL;
}

void model_greenlet_each(struct pt_model *model, struct model_thread *thread,
			 void (*fn)(struct pt_model *model, struct model_thread *thread, void *ctx),
			 void *ctx)
{
	struct model_greenlet *current = thread->greenlets ? thread->greenlets->current : NULL;
	struct model_greenlet *greenlet;

	if (!current)
		return;
	put_aside(thread, current);
	for (greenlet = thread->greenlets->list; greenlet; greenlet = greenlet->next) {
		if (greenlet == current || !greenlet->frame_count)
			continue;
		take_up(thread, greenlet);
		fn(model, thread, ctx);
		put_aside(thread, greenlet);
	}
	take_up(thread, current);
}

struct closing {
	uint64_t ns;
	uint32_t flags;
};

static void close_one(struct pt_model *model, struct model_thread *thread, void *ctx)
{
	const struct closing *closing = ctx;

	model_thread_pop_to(model, thread, 0, closing->ns, closing->flags);
	model_async_settle(model, thread);
}

void model_greenlet_close(struct pt_model *model, struct model_thread *thread, uint64_t ns,
			  uint32_t flags)
{
	struct closing closing = {.ns = ns, .flags = flags};

	model_greenlet_each(model, thread, close_one, &closing);
}

void model_greenlet_cleared(struct model_thread *thread, uint64_t ns)
{
	struct model_greenlet *greenlet = thread->greenlets ? thread->greenlets->list : NULL;

	for (; greenlet; greenlet = greenlet->next) {
		for (uint32_t i = 0; i < greenlet->frame_count; i++) {
			greenlet->frames[i].begin_ns = ns + i;
			greenlet->frames[i].flags = PT_SLICE_OPEN_AT_START;
		}
	}
}

void model_greenlet_release(struct pt_model *model, struct model_thread *thread)
{
	struct model_greenlets *greenlets = thread->greenlets;

	if (!greenlets)
		return;
	model_thread_drop_frames(model, thread);
	while (greenlets->list) {
		struct model_greenlet *greenlet = greenlets->list;

		greenlets->list = greenlet->next;
		take_up(thread, greenlet);
		model_thread_drop_frames(model, thread);
		free(greenlet->name);
		free(greenlet);
		model->coroutines--;
	}
	pt_map_release(&greenlets->by_number);
	free(greenlets);
	thread->greenlets = NULL;
}
