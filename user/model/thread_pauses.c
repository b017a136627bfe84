// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * What ended while nobody looked: recording was paused, or the depth jumped.
 */
#include "model/model_priv.h"
#include "model/thread_parts.h"

void model_thread_set_depth(struct pt_model *model, struct model_thread *thread, uint32_t depth,
			    uint64_t ns, uint32_t flags)
{
	if (depth > DEPTH_MAX)
		depth = DEPTH_MAX;
	model_thread_pop_above(model, thread, depth, ns, flags);
	thread->depth = depth;
}

bool model_thread_close_c(struct pt_model *model, struct model_thread *thread, uint64_t ns,
			  uint32_t flags)
{
	uint32_t count = thread->frame_count;

	/* a span on top of it, whose end was not seen, goes with it */
	while (count && thread->frames[count - 1].span &&
	       thread->frames[count - 1].depth == thread->depth)
		count--;
	if (!count || !thread->frames[count - 1].is_c ||
	    thread->frames[count - 1].depth != thread->depth)
		return false;
	model_thread_pop_to(model, thread, count - 1, ns, flags);
	return true;
}

/* What lies on the innermost frame, and does not end with it, may have ended within the pause. */
static void pop_spans(struct pt_model *model, struct model_thread *thread, uint64_t ns)
{
	while (thread->frame_count && thread->frames[thread->frame_count - 1].span &&
	       !thread->frames[thread->frame_count - 1].span->scoped)
		model_thread_pop(model, thread, ns, PT_SLICE_INTO_PAUSE);
}

uint64_t model_thread_unseen_since(const struct pt_model *model, const struct model_thread *thread)
{
	bool back = model->absent_until_ns > model->last_absent_ns;

	if (thread->absent_ns)
		return thread->absent_ns;
	if (thread->last_ns < model->last_absent_ns)
		return model->last_absent_ns;
	/* its last events were on their way when the probes went */
	if (model->last_absent_ns && (!back || thread->last_ns < model->absent_until_ns))
		return thread->last_ns;
	return 0;
}

void model_thread_pause_ended_frames(struct pt_model *model, struct model_thread *thread,
				     const struct pt_ev *event)
{
	uint64_t from_ns = event->from_ns, unseen_ns = model_thread_unseen_since(model, thread);
	uint32_t kept = unseen_ns ? 0 : event->depth;

	if (unseen_ns && unseen_ns < from_ns)
		from_ns = unseen_ns; /* it has slept through later ones */
	thread->absent_ns = 0;
	if (thread->gap)
		return;
	thread->pause_kept = kept;
	thread->pause_until_ns = event->until_ns ? event->until_ns : event->time_ns;
	if (thread->pause_until_ns < model->clear_ns)
		thread->pause_until_ns = model->clear_ns;
	thread->untouched_ns = 0;
	if (!thread->started && !thread->outside.count) {
		model_thread_begin_before(model, thread, 0, from_ns);
		thread->untouched_ns = thread->last_ns;
		thread->started = true;
	} else if (!thread->started) {
		model_thread_start_from_outside(model, thread, from_ns);
	}
	model_runtime_replay(model, thread);
	model_greenlet_close(model, thread, from_ns, PT_SLICE_INTO_PAUSE);
	thread->paused = true;
	thread->at_first_event = false;
	model_thread_opens_release(model, &thread->outside);
	thread->muted = from_ns < model->clear_ns && thread->last_ns == thread->cleared_last_ns;
	if (kept < thread->depth)
		model_thread_set_depth(model, thread, kept, from_ns, PT_SLICE_INTO_PAUSE);
	pop_spans(model, thread, from_ns);
	for (uint32_t i = 0; i < event->c_over && thread->depth == kept; i++) {
		if (!model_thread_close_c(model, thread, from_ns, PT_SLICE_INTO_PAUSE))
			break;
		pop_spans(model, thread, from_ns);
	}
	thread->muted = false;
	thread->pause_last_ns = thread->last_ns;
}
