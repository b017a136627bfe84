// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * One thread's stack.
 *
 * The stack is keyed by absolute depth: frames[] holds the visible frames, outermost first, and
 * depths that no frame has are hidden ones. An exit names the depth after it, so it closes
 * whatever lies above, and a frame that was missed cannot shift the others.
 *
 * Boundaries. Each begin or end of a slice takes a time of its own: boundary() moves it on by a
 * nanosecond where the thread has used the time already. Since boundaries are given out in the
 * order of the events, slices nest exactly.
 *
 * Healing. After a gap, or when the depth jumped, a snapshot says what is open. Frames of the
 * believed stack that it confirms (same code at the same depth, from the outermost on) stay open;
 * the others end where the gap began, and what is new begins at the snapshot.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "model/model_priv.h"
#include "model/thread_parts.h"

uint64_t model_thread_recording_start(const struct pt_model *model,
				      const struct model_thread *thread)
{
	uint64_t start_ns = model->gate_open_ns;

	/* A thread's own start says nothing: BPF tells of it at the thread's first event, and a
	 * thread that was born later has no frames open at its start. */
	return thread->process->start_ns > start_ns ? thread->process->start_ns : start_ns;
}

void model_thread_announce(struct pt_model *model, struct model_thread *thread)
{
	struct pt_op op = {
	    .kind = PT_OP_THREAD,
	    .thread =
		{
		    .pid = thread->process->pid,
		    .tid = thread->tid,
		    .time_ns = model_thread_recording_start(model, thread),
		    .name = thread->name,
		},
	};

	if (!thread->announced)
		model->totals.threads++;
	thread->announced = true;
	model_announce_process(model, thread->process);
	model_emit(model, &op);
}

void model_thread_name(struct pt_model *model, struct model_thread *thread, const char comm[16])
{
	if (!comm[0] || !memcmp(thread->comm, comm, sizeof(thread->comm)))
		return;
	memcpy(thread->comm, comm, sizeof(thread->comm));
	pt_utf8_clean(thread->name, sizeof(thread->name), comm, strnlen(comm, 16));
	if (thread->announced)
		model_thread_announce(model, thread);
}

/* ---- batches ---- */

static void report_loss(struct pt_model *model, struct model_thread *thread, uint64_t events,
			uint64_t end_ns)
{
	struct pt_op op = {
	    .kind = PT_OP_LOSS,
	    .loss =
		{
		    .pid = thread->process->pid,
		    .tid = thread->tid,
		    .begin_ns = thread->gap_begin_ns,
		    .end_ns = end_ns > thread->gap_begin_ns ? end_ns : thread->gap_begin_ns + 1,
		    .events = events,
		},
	};

	thread->events += events;
	if (!events || (thread->clear_ns != model->clear_ns && end_ns < model->clear_ns))
		return;
	if (op.loss.begin_ns < model->clear_ns)
		op.loss.begin_ns = model->clear_ns;
	if (op.loss.end_ns <= op.loss.begin_ns)
		op.loss.end_ns = op.loss.begin_ns + 1;
	model->totals.lost_events += events;
	if (!thread->announced)
		model_thread_announce(model, thread);
	model_emit(model, &op);
}

static void gap(struct pt_model *model, struct model_thread *thread, uint64_t events,
		uint64_t end_ns)
{
	model_runtime_settle(model, thread);
	model_async_forget(model, thread);
	if (!thread->started)
		model_thread_start_from_outside(model, thread, end_ns);
	else if (thread->snap_active)
		model_thread_snapshot_apply(model, thread);
	if (!thread->gap)
		model_runtime_replay(model, thread);
	thread->at_first_event = false;
	thread->paused = false;
	model_thread_opens_release(model, &thread->outside);
	model_greenlet_close(model, thread, thread->last_ns, PT_SLICE_INTO_LOSS);
	thread->gap = true;
	thread->gap_begin_ns = thread->last_ns;
	thread->caller = NULL;
	model_thread_drop_next_args(model, thread);
	report_loss(model, thread, events, end_ns);
}

void model_thread_assume(struct pt_model *model, struct model_thread *thread, uint64_t ns)
{
	if (!thread->started)
		model_thread_start_from_outside(model, thread, ns);
	else if (thread->gap)
		model_thread_pop_to(model, thread, 0, thread->gap_begin_ns, PT_SLICE_INTO_LOSS);
	thread->gap = false;
	thread->paused = false;
	thread->at_first_event = false;
	model_runtime_replay(model, thread);
}

/* The batch's first word is no snapshot: its header says how deep the thread is. */
static void without_snapshot(struct pt_model *model, struct model_thread *thread,
			     const struct pt_rec_batch *batch, uint64_t ns)
{
	if (thread->snap_active)
		return;
	if (!thread->started && batch->depth && batch->depth == thread->outside.depth) {
		model_thread_start_from_outside(model, thread, ns);
	} else if (!thread->started) {
		/* as an empty snapshot, which is not sent */
		thread->snap_ns = ns;
		thread->snap.depth = batch->depth < DEPTH_MAX ? batch->depth : DEPTH_MAX;
		model_thread_first_snapshot(model, thread);
	} else if (thread->gap) {
		model_thread_pop_to(model, thread, 0, thread->gap_begin_ns, PT_SLICE_INTO_LOSS);
		model_thread_set_depth(model, thread, batch->depth, ns, 0);
		thread->gap = false;
	} else if (thread->depth != batch->depth) {
		model->totals.stack_jumps++;
		model_thread_set_depth(model, thread, batch->depth, ns, PT_SLICE_INTO_LOSS);
	}
	if (!thread->at_first_event)
		model_runtime_replay(model, thread);
}

/* An ended thread's tid: a new thread's first batch began after the old one's end, a copy that was
 * under way when the thread ended did not. */
static bool is_stale(struct pt_model *model, struct model_thread *thread,
		     const struct pt_rec_batch *batch)
{
	bool peek = batch->hdr.flags & PT_RF_PEEK;

	if (thread->ended && batch->base_ns > thread->end_ns)
		model_thread_reset(model, thread);
	if (!thread->ended && (int32_t)(batch->seq - thread->next_seq) >= 0)
		return false;
	if (!peek)
		model->totals.bad_records++;
	return true;
}

/* Passes over the words that a peek has shown. One thing may have changed since: when the frame
 * of the last enter turns out to lie above a hidden one, BPF puts a depth before the enter. */
static int skip_seen(struct model_thread *thread, struct pt_batch_iter *iter)
{
	const struct pt_rec_batch *batch = iter->batch;
	uint32_t seen = thread->words_seen, last = seen - 1;
	struct model_frame *top;

	if (seen > batch->word_count)
		seen = batch->word_count;
	if (!pt_batch_skip(iter, seen))
		return 0;
	/* [.. ENTER] became [.. DEPTH payload ENTER] */
	if (iter->pos != seen + 1 || iter->pos >= batch->word_count || !thread->frame_count ||
	    batch->words[last] << (64 - 3 - PT_WORD_ARG_BITS) !=
		PT_WORD(PT_W_EXT, PT_EXT_ARG(PT_X_DEPTH, 1), 0) << (64 - 3 - PT_WORD_ARG_BITS) ||
	    PT_WORD_KIND(batch->words[last + 2]) != PT_W_ENTER)
		return -EBADMSG;
	top = &thread->frames[thread->frame_count - 1];
	if (!top->code || top->depth != thread->depth || batch->words[last + 1] != thread->depth ||
	    PT_WORD_ARG(batch->words[last + 2]) != top->code->id)
		return -EBADMSG;
	top->depth = ++thread->depth;
	iter->pos++;
	return 0;
}

/* The time of the event that words[pos] begins with. */
static uint64_t first_dt(const struct pt_rec_batch *batch, uint32_t pos)
{
	if (pos < batch->word_count && PT_WORD_KIND(batch->words[pos]) == PT_W_LINE)
		pos++;
	if (pos >= batch->word_count || PT_WORD_KIND(batch->words[pos]) == PT_W_LINE)
		return 0;
	return PT_WORD_DT(batch->words[pos]);
}

/* Checks the sequence, and passes over what a peek has shown already. */
static int resume_at(struct pt_model *model, struct model_thread *thread,
		     struct pt_batch_iter *iter)
{
	const struct pt_rec_batch *batch = iter->batch;
	uint64_t first_ns = batch->base_ns, before = batch->events_before;
	bool missing = batch->seq != thread->next_seq;

	if (!missing && thread->words_seen) {
		int rc = skip_seen(thread, iter);

		if (rc)
			return rc;
		before += thread->events_peeked;
	}
	first_ns += first_dt(batch, iter->pos);
	if (missing) {
		thread->words_seen = 0;
		thread->events_peeked = 0;
	}
	if (before < thread->events)
		model->totals.bad_records++;
	if (missing && thread->memory)
		model_memory_interrupted(model, thread, first_ns);
	if (model->gpu && (missing || before > thread->events))
		model_gpu_interrupted(model, thread, thread->last_ns, first_ns);
	if (missing || before > thread->events)
		gap(model, thread, before > thread->events ? before - thread->events : 0, first_ns);
	return 0;
}

int model_thread_batch(struct pt_model *model, struct model_thread *thread,
		       const struct pt_rec_batch *batch, size_t len)
{
	bool peek = batch->hdr.flags & PT_RF_PEEK;
	bool clearing = thread->clear_ns != model->clear_ns;
	struct pt_batch_iter iter;
	struct pt_ev event;
	uint32_t events = 0, forgotten = 0;
	int rc = pt_batch_begin(&iter, batch, len);

	if (rc || is_stale(model, thread, batch))
		return rc;
	rc = resume_at(model, thread, &iter);
	if (rc)
		return rc;
	model_thread_name(model, thread, batch->comm);
	if (iter.pos == 0)
		thread->fresh_batch = true;
	while (pt_batch_next(&iter, &event)) {
		if (clearing && event.time_ns >= model->clear_ns) {
			model_thread_cleared(model, thread, event.time_ns);
			clearing = false;
			forgotten = events;
		}
		if (event.kind >= PT_EV_RT_BEGIN) {
			model_runtime_event(model, thread, &event);
		} else {
			if (thread->wait_ended_ns)
				model_runtime_settle(model, thread);
			if (thread->fresh_batch && event.kind != PT_EV_SNAP &&
			    event.kind != PT_EV_PAUSED && event.kind != PT_EV_SWITCH)
				without_snapshot(model, thread, batch, event.time_ns);
			if (event.kind != PT_EV_SWITCH)
				thread->fresh_batch = false;
			events += event.kind == PT_EV_ENTER || event.kind == PT_EV_EXIT ||
				  event.kind == PT_EV_C_ENTER || event.kind == PT_EV_C_EXIT;
			model_thread_take_event(model, thread, &event);
		}
		if (event.time_ns > model->totals.last_ns)
			model->totals.last_ns = event.time_ns;
	}
	model->totals.events += clearing ? 0 : events - forgotten;
	thread->events += events;
	thread->next_seq = batch->seq + !peek;
	if (!peek) {
		thread->words_seen = thread->events_peeked = 0;
	} else if (batch->word_count > thread->words_seen) {
		thread->words_seen = batch->word_count;
		thread->events_peeked += events;
	}
	if (!peek && (batch->hdr.flags & PT_RF_LAST))
		model_thread_end(model, thread, batch->hdr.time_ns, 0);
	return 0;
}

/* ---- the end ---- */

void model_thread_drop_frames(struct pt_model *model, struct model_thread *thread)
{
	model->open_frames -= thread->frame_count;
	for (uint32_t i = 0; i < thread->frame_count; i++) {
		model_span_free(thread->frames[i].span);
		model_thread_frame_drop_values(model, &thread->frames[i]);
		model_async_drop(&thread->frames[i]);
	}
	free(thread->frames);
	thread->frames = NULL;
	thread->span_count = 0;
	thread->frame_count = thread->frame_size = 0;
}

static void stack_release(struct pt_model *model, struct model_thread *thread)
{
	model_thread_opens_release(model, &thread->outside);
	model_thread_opens_release(model, &thread->snap);
	model_greenlet_release(model, thread);
	model_thread_drop_frames(model, thread);
	model_values_release(model, thread);
	model_runtime_release(model, thread);
	model_ranges_release(model, thread);
	model_stacks_drop(model, thread);
	model_async_release(model, thread);
	model_samples_release(model, thread);
	if (thread->memory)
		model_memory_release(model, thread, thread->last_ns);
	if (thread->gpu)
		model_gpu_release(model, thread, thread->last_ns);
}

static void close_at_end(struct pt_model *model, struct model_thread *thread, uint64_t end_ns)
{
	uint64_t unseen_ns = model_thread_unseen_since(model, thread);
	uint32_t flags = PT_SLICE_OPEN_AT_END;

	if (unseen_ns && unseen_ns < end_ns) {
		end_ns = unseen_ns;
		flags = PT_SLICE_INTO_PAUSE;
	}
	model_thread_pop_to(model, thread, 0, end_ns, flags);
	model_marks_end(model, thread, end_ns);
	model_greenlet_close(model, thread, end_ns, flags);
}

void model_thread_end(struct pt_model *model, struct model_thread *thread, uint64_t end_ns,
		      uint64_t events_total)
{
	uint64_t lost = events_total > thread->events ? events_total - thread->events : 0;

	if (lost && model->gpu)
		model_gpu_interrupted(model, thread, thread->last_ns, end_ns);
	if (thread->ended) {
		if (lost) {
			thread->gap_begin_ns = thread->last_ns;
			report_loss(model, thread, lost, end_ns);
		}
		return;
	}
	if (thread->clear_ns != model->clear_ns && end_ns >= model->clear_ns)
		model_thread_cleared(model, thread, end_ns);
	model_runtime_settle(model, thread);
	if (thread->snap_active)
		model_thread_snapshot_apply(model, thread);
	if (!thread->started && (lost || thread->outside.count || thread->early_count))
		model_thread_start_from_outside(model, thread, end_ns);
	if (!thread->gap)
		model_runtime_replay(model, thread);
	if (lost) {
		thread->gap_begin_ns = thread->last_ns;
		report_loss(model, thread, lost, end_ns);
		thread->gap = true;
	}
	if (thread->gap) {
		model_thread_pop_to(model, thread, 0, thread->gap_begin_ns, PT_SLICE_INTO_LOSS);
		model_runtime_replay(model, thread);
	}
	close_at_end(model, thread, end_ns);
	model_async_settle(model, thread);
	model_samples_end(model, thread);
	stack_release(model, thread);
	thread->ended = true;
	thread->end_ns = end_ns > thread->last_ns ? end_ns : thread->last_ns;
}

void model_thread_reset(struct pt_model *model, struct model_thread *thread)
{
	struct model_thread fresh = {
	    .process = thread->process,
	    .tid = thread->tid,
	    .ns_tid = thread->ns_tid,
	    .next_in_process = thread->next_in_process,
	    .clear_ns = thread->clear_ns,
	    .sched_seq = thread->sched_seq, /* its records may have come before */
	    .sched_ns = thread->sched_ns,
	};

	stack_release(model, thread);
	*thread = fresh;
}
