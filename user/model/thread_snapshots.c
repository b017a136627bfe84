// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * What is open according to BPF: lists of frames from outside, and snapshots, which heal a stack.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "model/model_priv.h"
#include "model/thread_parts.h"

void model_thread_opens_release(struct pt_model *model, struct model_opens *opens)
{
	model->open_frames -= opens->count;
	free(opens->frames);
	memset(opens, 0, sizeof(*opens));
}

static bool opens_add(struct pt_model *model, struct model_opens *opens, uint32_t code_id,
		      uint32_t depth)
{
	struct model_open *frames;
	uint32_t size;

	/* innermost first: depths decrease strictly down to 1, or the list is damaged */
	if (!depth || depth > opens->depth || model->open_frames >= MODEL_MAX_FRAMES ||
	    (opens->count && opens->frames[opens->count - 1].depth <= depth))
		return false;
	if (opens->count == opens->size) {
		size = opens->size ? 2 * opens->size : 16;
		frames = realloc(opens->frames, size * sizeof(*frames));
		if (!frames) {
			model_fail(model, -ENOMEM);
			return false;
		}
		opens->frames = frames;
		opens->size = size;
	}
	opens->frames[opens->count].code = model_code_get(model, code_id);
	opens->frames[opens->count].depth = depth;
	if (!opens->frames[opens->count].code)
		return false;
	opens->count++;
	model->open_frames++;
	return true;
}

int model_thread_outside(struct pt_model *model, struct model_thread *thread,
			 const struct pt_rec_stack *stack)
{
	if (thread->started || thread->ended)
		return 0;
	model_thread_opens_release(model, &thread->outside);
	thread->outside.depth = stack->depth < DEPTH_MAX ? stack->depth : DEPTH_MAX;
	for (uint32_t i = 0; i < stack->frame_count; i++) {
		const struct pt_rec_stack_frame *frame = &stack->frames[i];

		if (!opens_add(model, &thread->outside, frame->code_id, frame->depth)) {
			model_thread_opens_release(model, &thread->outside);
			return -EBADMSG;
		}
	}
	return 0;
}

void model_thread_begin_before(struct pt_model *model, struct model_thread *thread, uint32_t count,
			       uint64_t first_ns)
{
	uint64_t start_ns = model_thread_recording_start(model, thread);

	if (thread->early_count && thread->early[0].time_ns < first_ns)
		first_ns = thread->early[0].time_ns;
	/* one more, for model_thread_first_exit() */
	if (start_ns + count + 1 >= first_ns)
		start_ns = first_ns > count + 2 ? first_ns - count - 2 : 1;
	thread->last_ns = start_ns ? start_ns - 1 : 0;
	if (thread->last_ns < thread->floor_ns)
		thread->last_ns = thread->floor_ns;
	thread->first_ns = first_ns;
	if (!model->totals.first_ns || first_ns < model->totals.first_ns)
		model->totals.first_ns = first_ns;
}

static void open_list(struct pt_model *model, struct model_thread *thread,
		      const struct model_opens *opens, uint32_t below_depth, uint64_t ns,
		      uint32_t flags)
{
	for (uint32_t i = opens->count; i > 0 && opens->frames[i - 1].depth < below_depth; i--)
		model_thread_push(model, thread, opens->frames[i - 1].code,
				  opens->frames[i - 1].depth, ns, flags);
}

/* The outermost frames that a bounded walk did not reach are known from outside if the frame where
 * the walk stopped is the same there. Returns the depth below which to take them; 0: none. */
static uint32_t outside_below(const struct model_thread *thread)
{
	const struct model_opens *snap = &thread->snap, *outside = &thread->outside;
	const struct model_open *last = snap->count ? &snap->frames[snap->count - 1] : NULL;

	for (uint32_t i = 0; last && i < outside->count; i++) {
		if (outside->frames[i].depth == last->depth)
			return model_code_same(outside->frames[i].code, last->code) ? last->depth
										    : 0;
	}
	return 0;
}

/* A thread without events before a pause, that ran in it: what was kept was open all the time. */
static void first_snapshot_after_pause(struct pt_model *model, struct model_thread *thread)
{
	const struct model_opens *snap = &thread->snap;
	uint32_t i = snap->count;

	model_thread_begin_before(model, thread, snap->count, thread->pause_until_ns);
	for (; i > 0 && snap->frames[i - 1].depth <= thread->pause_kept; i--)
		model_thread_push(model, thread, snap->frames[i - 1].code,
				  snap->frames[i - 1].depth, 0, PT_SLICE_OPEN_AT_START);
	thread->opened_at_start = thread->frame_count;
	for (; i > 0; i--)
		model_thread_push(model, thread, snap->frames[i - 1].code,
				  snap->frames[i - 1].depth, thread->pause_until_ns,
				  PT_SLICE_AFTER_PAUSE);
	thread->depth = snap->depth;
	thread->paused = false;
	model_runtime_replay(model, thread);
}

void model_thread_first_snapshot(struct pt_model *model, struct model_thread *thread)
{
	/* nothing is known of what it did before */
	if (thread->floor_ns < model->absent_until_ns && model->absent_until_ns < thread->snap_ns)
		thread->floor_ns = model->absent_until_ns;
	model_thread_begin_before(model, thread, thread->snap.count + thread->outside.count,
				  thread->snap_ns);
	open_list(model, thread, &thread->outside, outside_below(thread), 0,
		  PT_SLICE_OPEN_AT_START);
	open_list(model, thread, &thread->snap, UINT32_MAX, 0, PT_SLICE_OPEN_AT_START);
	thread->opened_at_start = thread->frame_count;
	thread->depth = thread->snap.depth;
	thread->started = true;
	thread->at_first_event = true;
}

void model_thread_start_from_outside(struct pt_model *model, struct model_thread *thread,
				     uint64_t first_ns)
{
	model_thread_begin_before(model, thread, thread->outside.count, first_ns);
	open_list(model, thread, &thread->outside, UINT32_MAX, 0, PT_SLICE_OPEN_AT_START);
	thread->opened_at_start = thread->frame_count;
	thread->depth = thread->outside.depth;
	thread->started = true;
	model_thread_opens_release(model, &thread->outside);
}

void model_thread_first_exit(struct pt_model *model, struct model_thread *thread, uint32_t depth)
{
	const struct model_opens *outside = &thread->outside;
	struct model_code *code = NULL;
	uint32_t known = 0;

	for (uint32_t i = outside->count; i > 0; i--) {
		const struct model_open *open = &outside->frames[i - 1];

		if (open->depth == depth + 1)
			code = open->code;
		if (open->depth > depth)
			break;
		if (known == thread->frame_count || thread->frames[known].depth != open->depth ||
		    !model_code_same(thread->frames[known].code, open->code))
			return;
		known++;
	}
	if (!code || known != thread->frame_count)
		return;
	model_thread_push(model, thread, code, depth + 1, 0, PT_SLICE_OPEN_AT_START);
	thread->opened_at_start = 0; /* this one's begin is out: the others can move no more */
}

void model_thread_redate(struct pt_model *model, struct model_thread *thread)
{
	uint64_t start_ns = model_thread_recording_start(model, thread),
		 count = thread->opened_at_start;

	if (!count || thread->ended)
		return;
	if (start_ns + count + 1 >= thread->first_ns)
		start_ns = thread->first_ns > count + 2 ? thread->first_ns - count - 2 : 1;
	if (start_ns <= thread->frames[0].begin_ns)
		return;
	for (uint32_t i = 0; i < count; i++)
		thread->frames[i].begin_ns = start_ns + i;
}

/* What no snapshot tells of, and is there if the frame that it lies on is. Behind a pause that goes
 * for C functions, too: those that returned in it are gone already. */
static bool is_passed(const struct model_frame *frame, bool paused)
{
	return frame->span ? frame->span->scoped : paused && frame->is_c;
}

/* The number of believed frames that the snapshot confirms; *next: the snapshot's frames that are
 * left to open. A walk that stopped early says nothing of the frames below its last one: they stay
 * if that one is confirmed. */
static uint32_t confirmed_frames(const struct model_thread *thread, bool paused, uint32_t *next)
{
	const struct model_opens *snap = &thread->snap;
	const struct model_open *open;
	uint32_t i = 0, left = snap->count;

	*next = left;
	if (!left)
		return 0;
	while (i < thread->frame_count && thread->frames[i].depth < snap->frames[left - 1].depth)
		i++;
	for (; i < thread->frame_count && left; i++, left--) {
		/* one that may have ended in the gap cannot stay, nor what lies above it */
		while (i < thread->frame_count && is_passed(&thread->frames[i], paused))
			i++;
		if (i == thread->frame_count || thread->frames[i].span)
			break;
		open = &snap->frames[left - 1];
		if (thread->frames[i].depth != open->depth ||
		    !model_code_same(thread->frames[i].code, open->code))
			break;
	}
	if (left == snap->count)
		return 0;
	while (paused && !left && i < thread->frame_count && is_passed(&thread->frames[i], true))
		i++;
	*next = left;
	return i;
}

static void heal(struct pt_model *model, struct model_thread *thread)
{
	uint64_t close_ns = thread->gap ? thread->gap_begin_ns : thread->snap_ns;
	bool paused = thread->paused && thread->last_ns == thread->pause_last_ns;
	/* the stack is as it was left: what is no Python frame, too */
	bool kept = paused || (thread->switched && !thread->gap);
	uint64_t open_ns = paused ? thread->pause_until_ns : thread->snap_ns;
	uint32_t flags = paused ? PT_SLICE_AFTER_PAUSE : PT_SLICE_AFTER_LOSS;
	uint32_t next, confirmed = confirmed_frames(thread, kept, &next);
	bool exits;

	/* an exit is at hand: the snapshot was taken behind it, and what a pause has left was not
	 */
	exits = kept && !next && thread->frame_count > confirmed &&
		thread->frames[confirmed].depth > thread->snap.depth;
	if (!thread->gap && !exits && (!kept || thread->frame_count > confirmed))
		model->totals.stack_jumps++;
	if (!exits)
		model_thread_pop_to(model, thread, confirmed, close_ns, PT_SLICE_INTO_LOSS);
	if (thread->early_count && !paused) {
		model_runtime_replay(model, thread);
		/* whether it lies below or above what the snapshot brings is not known */
		model_thread_pop_to(model, thread, confirmed, thread->snap_ns, PT_SLICE_INTO_LOSS);
	}
	for (; next > 0; next--)
		model_thread_push(model, thread, thread->snap.frames[next - 1].code,
				  thread->snap.frames[next - 1].depth, open_ns, flags);
	if (!exits)
		thread->depth = thread->snap.depth;
	thread->gap = false;
	thread->paused = false;
	thread->switched = false;
	model_runtime_replay(model, thread);
}

void model_thread_snapshot_apply(struct pt_model *model, struct model_thread *thread)
{
	thread->snap_active = false;
	if (thread->snap_left)
		model->totals.bad_records++; /* fewer frames than it promised */
	if (!thread->started)
		model_thread_first_snapshot(model, thread);
	else if (thread->paused && thread->last_ns == thread->untouched_ns)
		first_snapshot_after_pause(model, thread);
	else
		heal(model, thread);
	model_thread_opens_release(model, &thread->snap);
}

void model_thread_snapshot_begin(struct pt_model *model, struct model_thread *thread,
				 const struct pt_ev *event)
{
	model_thread_opens_release(model, &thread->snap);
	thread->snap_active = true;
	thread->snap_left = event->count;
	thread->snap_ns = event->time_ns;
	thread->snap.depth = event->depth < DEPTH_MAX ? event->depth : DEPTH_MAX;
	if (!thread->snap_left)
		model_thread_snapshot_apply(model, thread);
}

void model_thread_snapshot_add(struct pt_model *model, struct model_thread *thread,
			       const struct pt_ev *event)
{
	if (!thread->snap_active) {
		model->totals.bad_records++;
		return;
	}
	if (!opens_add(model, &thread->snap, event->code_id, event->depth))
		model->totals.bad_records++;
	if (--thread->snap_left == 0)
		model_thread_snapshot_apply(model, thread);
}
