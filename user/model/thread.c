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

/* No interpreter gets near; keeps depth + 1 from wrapping. */
#define DEPTH_MAX (1u << 30)

static uint64_t boundary(struct model_thread *thread, uint64_t ns)
{
	if (ns <= thread->last_ns)
		ns = thread->last_ns + 1;
	thread->last_ns = ns;
	return ns;
}

static uint64_t recording_start(const struct pt_model *model, const struct model_thread *thread)
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
		    .time_ns = recording_start(model, thread),
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

/* ---- frames ---- */

static bool frame_reserve(struct pt_model *model, struct model_thread *thread)
{
	uint32_t size = thread->frame_size ? 2 * thread->frame_size : 32;
	struct model_frame *frames;

	if (thread->frame_count < thread->frame_size)
		return true;
	frames = realloc(thread->frames, size * sizeof(*frames));
	if (!frames) {
		model_fail(model, -ENOMEM);
		return false;
	}
	thread->frames = frames;
	thread->frame_size = size;
	return true;
}

/* A span that its frame outlives ends by a word of its own; if that did not come, it was lost. */
static uint32_t span_flags(const struct model_span *span, uint32_t flags)
{
	return flags || span->end.what || span->scoped ? flags : PT_SLICE_INTO_LOSS;
}

/* The line of the call that `frame`, which is or just was on the stack, came from, and where. */
static uint32_t call_line(struct pt_model *model, const struct model_thread *thread,
			  const struct model_frame *frame, const struct pt_function **function)
{
	const struct model_code *around = NULL;

	if (!frame->caller)
		return 0;
	/* What is no Python frame lies between: a collection that runs a finalizer, which has no
	 * code, or a C function that calls back. */
	for (const struct model_frame *f = frame; f > thread->frames && !around; f--)
		around = f[-1].is_c ? NULL : f[-1].code;
	if (!around)
		return 0;
	/* A line of another caller would be taken for one of the slice around: of one that is left
	 * out of the trace, or that throw() passed through without entering it. */
	if (!model_code_same(around, frame->caller) || !around->function ||
	    around->function->excluded)
		return 0;
	*function = &around->function->pub;
	return model_lines_find(model, frame->caller, frame->call_unit);
}

uint32_t model_thread_call_line(struct pt_model *model, const struct model_thread *thread,
				const struct model_frame *frame)
{
	const struct pt_function *function;

	return call_line(model, thread, frame, &function);
}

/* Whether the frame's slice belongs into the trace if it ends at end_ns. */
static bool is_shown(const struct pt_model *model, const struct model_frame *frame,
		     const struct model_function *function, uint64_t end_ns)
{
	const struct pt_model_options *options = &model->options;

	return function && !function->excluded &&
	       end_ns - frame->begin_ns >= options->min_duration_ns &&
	       (!options->max_stack_depth || frame->level <= options->max_stack_depth);
}

static void fill_slice(struct pt_model *model, struct model_thread *thread,
		       const struct model_frame *frame, const struct model_function *function,
		       uint64_t end_ns, uint32_t flags, struct pt_op_slice *slice)
{
	slice->pid = thread->process->pid;
	slice->tid = model_greenlet_track(model, thread);
	slice->function = &function->pub;
	slice->begin_ns = frame->begin_ns;
	slice->end_ns = end_ns;
	slice->id = frame->id;
	slice->parent_id = frame->parent_id;
	slice->depth = frame->level;
	slice->flags = frame->flags | flags;
	slice->call_line = call_line(model, thread, frame, &slice->call_function);
	slice->values = frame->args || frame->result ? model_values_show(model, frame) : NULL;
}

static void frame_drop_values(struct pt_model *model, struct model_frame *frame)
{
	if (!frame->args && !frame->result)
		return;
	model_values_free(model, frame->args);
	model_values_free(model, frame->result);
	frame->args = frame->result = NULL;
}

/* Cost of a slice: this, the sink, and push(). */
static void pop_frame(struct pt_model *model, struct model_thread *thread, uint64_t ns,
		      uint32_t flags)
{
	struct model_frame *frame = &thread->frames[--thread->frame_count];
	struct model_function *function;
	struct pt_op op;

	ns = boundary(thread, ns);
	model->open_frames--;
	if (thread->frame_count < thread->opened_at_start)
		thread->opened_at_start = 0;
	if (frame->span) {
		thread->span_count--;
		model_span_end(model, thread, frame, ns, span_flags(frame->span, flags));
		return;
	}
	if (frame->task)
		model_async_leave(model, thread, frame, ns, flags);
	function = model_code_function(model, frame->code);
	if (!is_shown(model, frame, function, ns) || model_thread_silent(model, thread) ||
	    (model->drop_open && flags & PT_SLICE_OPEN_AT_END)) {
		frame_drop_values(model, frame);
		return;
	}
	model_function_announce(model, function);
	if (!thread->announced)
		model_thread_announce(model, thread);
	model->totals.slices++;
	op.kind = PT_OP_SLICE;
	fill_slice(model, thread, frame, function, ns, flags, &op.slice);
	model_emit(model, &op);
	frame_drop_values(model, frame);
}

/* Closes the innermost frame. */
static void pop(struct pt_model *model, struct model_thread *thread, uint64_t ns, uint32_t flags)
{
	bool outermost = thread->greenlets && thread->frame_count == 1;

	if (outermost)
		model_greenlet_ending(thread);
	pop_frame(model, thread, ns, flags);
	if (outermost)
		model_greenlet_ended(thread);
}

static void pop_above(struct pt_model *model, struct model_thread *thread, uint32_t depth,
		      uint64_t ns, uint32_t flags)
{
	while (thread->frame_count && thread->frames[thread->frame_count - 1].depth > depth)
		pop(model, thread, ns, flags);
}

/* A frame on top; NULL: there is no room. */
static struct model_frame *push_frame(struct pt_model *model, struct model_thread *thread,
				      uint32_t depth, uint64_t ns, uint32_t flags)
{
	struct model_frame *frame, *below;
	bool below_visible;

	if (!frame_reserve(model, thread))
		return NULL;
	if (model->open_frames >= MODEL_MAX_FRAMES) {
		model->totals.bad_records++; /* no real program; do not let it take all memory */
		return NULL;
	}
	model->open_frames++;
	frame = &thread->frames[thread->frame_count];
	frame->code = NULL;
	frame->span = NULL;
	frame->task = NULL;
	frame->begin_ns = boundary(thread, ns);
	frame->id = 0;
	frame->depth = depth;
	frame->flags = flags;
	frame->caller = NULL;
	frame->args = frame->result = NULL;
	frame->is_c = false;
	frame->parent_id = 0;
	frame->level = 1;
	if (thread->frame_count++) {
		below = frame - 1;
		below_visible = below->code &&
				(!below->code->function || !below->code->function->excluded);
		frame->parent_id = below_visible ? below->id : below->parent_id;
		frame->level = below->level + below_visible;
	}
	return frame;
}

static void push(struct pt_model *model, struct model_thread *thread, struct model_code *code,
		 uint32_t depth, uint64_t ns, uint32_t flags)
{
	struct model_frame *frame = code ? push_frame(model, thread, depth, ns, flags) : NULL;

	if (!frame)
		return;
	frame->code = code;
	frame->id = ++model->next_call_id;
	if (thread->process->forked_by.pid && !thread->process->flow_told &&
	    !(code->function && code->function->excluded) && !model_thread_silent(model, thread))
		model_flow(model, thread, frame->begin_ns);
}

/* It has the depth of the frame that it lies on, so that it is above it and goes with it. */
void model_thread_push_span(struct pt_model *model, struct model_thread *thread,
			    struct model_span *span, uint64_t ns)
{
	struct model_frame *frame = push_frame(model, thread, thread->depth, ns, 0);

	if (!frame) {
		model_span_free(span);
		return;
	}
	frame->span = span;
	thread->span_count++;
}

void model_thread_pop_to(struct pt_model *model, struct model_thread *thread, uint32_t count,
			 uint64_t ns, uint32_t flags)
{
	while (thread->frame_count > count)
		pop(model, thread, ns, flags);
}

/* ---- lists of open frames: snapshots, and stacks read from outside ---- */

static void opens_release(struct pt_model *model, struct model_opens *opens)
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
	opens_release(model, &thread->outside);
	thread->outside.depth = stack->depth < DEPTH_MAX ? stack->depth : DEPTH_MAX;
	for (uint32_t i = 0; i < stack->frame_count; i++) {
		const struct pt_rec_stack_frame *frame = &stack->frames[i];

		if (!opens_add(model, &thread->outside, frame->code_id, frame->depth)) {
			opens_release(model, &thread->outside);
			return -EBADMSG;
		}
	}
	return 0;
}

/* ---- a thread's first event ---- */

/* Time to give to count frames so that they lie before the first event, at first_ns. */
static void begin_before(struct pt_model *model, struct model_thread *thread, uint32_t count,
			 uint64_t first_ns)
{
	uint64_t start_ns = recording_start(model, thread);

	if (thread->early_count && thread->early[0].time_ns < first_ns)
		first_ns = thread->early[0].time_ns;
	/* one more, for first_exit() */
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
		push(model, thread, opens->frames[i - 1].code, opens->frames[i - 1].depth, ns,
		     flags);
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

	begin_before(model, thread, snap->count, thread->pause_until_ns);
	for (; i > 0 && snap->frames[i - 1].depth <= thread->pause_kept; i--)
		push(model, thread, snap->frames[i - 1].code, snap->frames[i - 1].depth, 0,
		     PT_SLICE_OPEN_AT_START);
	thread->opened_at_start = thread->frame_count;
	for (; i > 0; i--)
		push(model, thread, snap->frames[i - 1].code, snap->frames[i - 1].depth,
		     thread->pause_until_ns, PT_SLICE_AFTER_PAUSE);
	thread->depth = snap->depth;
	thread->paused = false;
	model_runtime_replay(model, thread);
}

static void first_snapshot(struct pt_model *model, struct model_thread *thread)
{
	/* nothing is known of what it did before */
	if (thread->floor_ns < model->absent_until_ns && model->absent_until_ns < thread->snap_ns)
		thread->floor_ns = model->absent_until_ns;
	begin_before(model, thread, thread->snap.count + thread->outside.count, thread->snap_ns);
	open_list(model, thread, &thread->outside, outside_below(thread), 0,
		  PT_SLICE_OPEN_AT_START);
	open_list(model, thread, &thread->snap, UINT32_MAX, 0, PT_SLICE_OPEN_AT_START);
	thread->opened_at_start = thread->frame_count;
	thread->depth = thread->snap.depth;
	thread->started = true;
	thread->at_first_event = true;
}

/* A thread whose first words are no snapshot, or lost, or that had no events at all. */
static void start_from_outside(struct pt_model *model, struct model_thread *thread,
			       uint64_t first_ns)
{
	begin_before(model, thread, thread->outside.count, first_ns);
	open_list(model, thread, &thread->outside, UINT32_MAX, 0, PT_SLICE_OPEN_AT_START);
	thread->opened_at_start = thread->frame_count;
	thread->depth = thread->outside.depth;
	thread->started = true;
	opens_release(model, &thread->outside);
}

/* The thread's first event is the exit of a frame that no enter named. If the stack that was read
 * from outside has that frame, on top of the same callers, it was open since the start: it is
 * opened, for the exit to close. */
static void first_exit(struct pt_model *model, struct model_thread *thread, uint32_t depth)
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
	push(model, thread, code, depth + 1, 0, PT_SLICE_OPEN_AT_START);
	thread->opened_at_start = 0; /* this one's begin is out: the others can move no more */
}

void model_thread_redate(struct pt_model *model, struct model_thread *thread)
{
	uint64_t start_ns = recording_start(model, thread), count = thread->opened_at_start;

	if (!count || thread->ended)
		return;
	if (start_ns + count + 1 >= thread->first_ns)
		start_ns = thread->first_ns > count + 2 ? thread->first_ns - count - 2 : 1;
	if (start_ns <= thread->frames[0].begin_ns)
		return;
	for (uint32_t i = 0; i < count; i++)
		thread->frames[i].begin_ns = start_ns + i;
}

/* ---- snapshots ---- */

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
		push(model, thread, thread->snap.frames[next - 1].code,
		     thread->snap.frames[next - 1].depth, open_ns, flags);
	if (!exits)
		thread->depth = thread->snap.depth;
	thread->gap = false;
	thread->paused = false;
	thread->switched = false;
	model_runtime_replay(model, thread);
}

static void snapshot_apply(struct pt_model *model, struct model_thread *thread)
{
	thread->snap_active = false;
	if (thread->snap_left)
		model->totals.bad_records++; /* fewer frames than it promised */
	if (!thread->started)
		first_snapshot(model, thread);
	else if (thread->paused && thread->last_ns == thread->untouched_ns)
		first_snapshot_after_pause(model, thread);
	else
		heal(model, thread);
	opens_release(model, &thread->snap);
}

static void snapshot_begin(struct pt_model *model, struct model_thread *thread,
			   const struct pt_ev *event)
{
	opens_release(model, &thread->snap);
	thread->snap_active = true;
	thread->snap_left = event->count;
	thread->snap_ns = event->time_ns;
	thread->snap.depth = event->depth < DEPTH_MAX ? event->depth : DEPTH_MAX;
	if (!thread->snap_left)
		snapshot_apply(model, thread);
}

static void snapshot_add(struct pt_model *model, struct model_thread *thread,
			 const struct pt_ev *event)
{
	if (!thread->snap_active) {
		model->totals.bad_records++;
		return;
	}
	if (!opens_add(model, &thread->snap, event->code_id, event->depth))
		model->totals.bad_records++;
	if (--thread->snap_left == 0)
		snapshot_apply(model, thread);
}

/* ---- pauses ---- */

static void set_depth(struct pt_model *model, struct model_thread *thread, uint32_t depth,
		      uint64_t ns, uint32_t flags)
{
	if (depth > DEPTH_MAX)
		depth = DEPTH_MAX;
	pop_above(model, thread, depth, ns, flags);
	thread->depth = depth;
}

/* Closes the innermost C function of the innermost frame, if there is one. */
static bool close_c(struct pt_model *model, struct model_thread *thread, uint64_t ns,
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
		pop(model, thread, ns, PT_SLICE_INTO_PAUSE);
}

/* When probes were absent after the thread's last event, or 0. The first batch of a thread may come
 * later than the record of that. */
static uint64_t unseen_since(const struct pt_model *model, const struct model_thread *thread)
{
	if (thread->absent_ns)
		return thread->absent_ns;
	return thread->last_ns < model->last_absent_ns ? model->last_absent_ns : 0;
}

/* Frames that ended within the pause end where it began. Those above a loss as well: of them
 * nothing is known any more, and the snapshot says the rest. */
static void pause_ended_frames(struct pt_model *model, struct model_thread *thread,
			       const struct pt_ev *event)
{
	uint64_t from_ns = event->from_ns, unseen_ns = unseen_since(model, thread);
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
		begin_before(model, thread, 0, from_ns);
		thread->untouched_ns = thread->last_ns;
		thread->started = true;
	} else if (!thread->started) {
		start_from_outside(model, thread, from_ns);
	}
	model_runtime_replay(model, thread);
	model_greenlet_close(model, thread, from_ns, PT_SLICE_INTO_PAUSE);
	thread->paused = true;
	thread->at_first_event = false;
	opens_release(model, &thread->outside);
	thread->muted = from_ns < model->clear_ns && thread->last_ns == thread->cleared_last_ns;
	if (kept < thread->depth)
		set_depth(model, thread, kept, from_ns, PT_SLICE_INTO_PAUSE);
	pop_spans(model, thread, from_ns);
	for (uint32_t i = 0; i < event->c_over && thread->depth == kept; i++) {
		if (!close_c(model, thread, from_ns, PT_SLICE_INTO_PAUSE))
			break;
		pop_spans(model, thread, from_ns);
	}
	thread->muted = false;
	thread->pause_last_ns = thread->last_ns;
}

/* ---- events ---- */

static void enter(struct pt_model *model, struct model_thread *thread, const struct pt_ev *event)
{
	uint32_t frames;

	if (thread->depth < DEPTH_MAX)
		thread->depth++;
	else
		pop_above(model, thread, DEPTH_MAX - 1, event->time_ns, PT_SLICE_INTO_LOSS);
	frames = thread->frame_count;
	push(model, thread, model_code_get(model, event->code_id), thread->depth, event->time_ns,
	     0);
	if (thread->frame_count > frames) {
		thread->frames[frames].caller = thread->caller;
		thread->frames[frames].call_unit = thread->call_unit;
		thread->frames[frames].args = thread->next_args;
		thread->next_args = NULL;
		if (thread->coro)
			model_async_enter(model, thread);
	}
	if (thread->async && !thread->coro)
		model_async_other(model, thread, true);
}

/* An exit carries the low bits of the depth; the rest is that of the depth before. */
static void leave(struct pt_model *model, struct model_thread *thread, const struct pt_ev *event)
{
	uint32_t depth = (thread->depth & ~PT_WORD_ARG_MASK) | event->depth;

	if (depth > thread->depth) {
		if (depth > PT_WORD_ARG_MASK)
			depth -= PT_WORD_ARG_MASK + 1;
		else
			model->totals.stack_jumps++; /* deeper than believed: calls were missed */
	}
	if (thread->at_first_event) {
		if (!thread->frame_count || thread->frames[thread->frame_count - 1].depth <= depth)
			first_exit(model, thread, depth);
		model_runtime_replay(model, thread);
	}
	pop_above(model, thread, depth, event->time_ns, 0);
	thread->depth = depth;
}

static void enter_c(struct pt_model *model, struct model_thread *thread, const struct pt_ev *event)
{
	struct model_code *code = model_code_get(model, event->code_id);
	uint32_t count;

	if (!thread->depth) {
		model->totals.bad_records++; /* nobody is there who could call it */
		return;
	}
	/* else the frame calls one at a time, and an earlier one was lost sight of */
	if (!code || !code->c_probed)
		close_c(model, thread, event->time_ns, PT_SLICE_INTO_LOSS);
	count = thread->frame_count;
	push(model, thread, code, thread->depth, event->time_ns, 0);
	if (thread->frame_count > count)
		thread->frames[count].is_c = true;
}

static void leave_c(struct pt_model *model, struct model_thread *thread, const struct pt_ev *event)
{
	/* else frames were missed, and so was what they left open */
	if ((thread->depth & PT_WORD_ARG_MASK) == event->depth)
		close_c(model, thread, event->time_ns, 0);
	else
		model->totals.stack_jumps++;
}

static void drop_next_args(struct pt_model *model, struct model_thread *thread)
{
	if (!thread->next_args)
		return;
	model_values_free(model, thread->next_args);
	thread->next_args = NULL;
}

/* What the next frame is called with, or what the innermost one returns. */
static void take_values(struct pt_model *model, struct model_thread *thread,
			const struct pt_ev *event)
{
	struct model_values *values = model_values_take(model, thread, event->serial);
	uint32_t i = thread->frame_count;

	drop_next_args(model, thread);
	if (event->kind == PT_EV_ARGS) {
		thread->next_args = values;
		return;
	}
	/* what lies on it and is no Python frame goes with it */
	while (i > 0 && (thread->frames[i - 1].span || thread->frames[i - 1].is_c))
		i--;
	if (!i || thread->frames[i - 1].depth != thread->depth) {
		model_values_free(model, values);
		return;
	}
	model_values_free(model, thread->frames[i - 1].result);
	thread->frames[i - 1].result = values;
}

static void take_event(struct pt_model *model, struct model_thread *thread,
		       const struct pt_ev *event)
{
	if (thread->absent_ns && event->kind != PT_EV_PAUSED && event->time_ns > thread->absent_ns)
		thread->absent_ns = 0;
	if (event->kind == PT_EV_SWITCH) {
		if (thread->snap_active)
			snapshot_apply(model, thread);
		model_greenlet_switch(model, thread, event->object);
		return;
	}
	if (event->kind == PT_EV_SNAP) {
		thread->caller = NULL;
		drop_next_args(model, thread);
		thread->coro = 0;
		model_async_settle(model, thread);
		snapshot_begin(model, thread, event);
		return;
	}
	if (event->kind == PT_EV_OPEN) {
		snapshot_add(model, thread, event);
		return;
	}
	if (thread->snap_active)
		snapshot_apply(model, thread);
	if (thread->at_first_event && event->kind != PT_EV_EXIT)
		model_runtime_replay(model, thread);
	if (event->kind == PT_EV_PAUSED) {
		thread->caller = NULL;
		model_async_forget(model, thread);
		pause_ended_frames(model, thread, event);
		return;
	}
	if (thread->paused) { /* no snapshot was needed */
		thread->paused = false;
		model_runtime_replay(model, thread);
	}
	if (event->kind == PT_EV_LINE) {
		thread->caller = model_code_get(model, event->code_id);
		thread->call_unit = event->unit;
		return;
	}
	if (event->kind == PT_EV_ARGS || event->kind == PT_EV_RESULT) {
		take_values(model, thread, event);
		return;
	}
	if (event->kind == PT_EV_CORO) {
		thread->coro = event->object | event->coro;
		return;
	}
	if (thread->async && event->kind == PT_EV_EXIT)
		model_async_other(model, thread, false);
	else if (thread->async && event->kind != PT_EV_ENTER && event->kind != PT_EV_DEPTH)
		model_async_settle(model, thread);
	switch (event->kind) {
	case PT_EV_TASK:
		model_async_made(model, thread, event->object);
		break;
	case PT_EV_ENTER:
		enter(model, thread, event);
		break;
	case PT_EV_EXIT:
		leave(model, thread, event);
		break;
	case PT_EV_DEPTH:
		set_depth(model, thread, event->depth, event->time_ns, 0);
		break;
	case PT_EV_C_ENTER:
		enter_c(model, thread, event);
		break;
	case PT_EV_C_EXIT:
		leave_c(model, thread, event);
		break;
	case PT_EV_SNAP:
	case PT_EV_OPEN:
	case PT_EV_PAUSED:
	case PT_EV_RT_BEGIN:
	case PT_EV_RT_END:
	case PT_EV_RT_INSTANT:
	case PT_EV_CUDA_BEGIN:
	case PT_EV_CUDA_END:
	case PT_EV_STACK:
	case PT_EV_BLOCK:
	case PT_EV_LINE:
	case PT_EV_ARGS:
	case PT_EV_RESULT:
	case PT_EV_CORO:
	case PT_EV_SWITCH:
		break;
	}
	if (event->kind != PT_EV_DEPTH) {
		thread->caller = NULL;
		drop_next_args(model, thread);
		thread->coro = 0;
	}
	if (thread->at_first_event) {
		thread->at_first_event = false;
		opens_release(model, &thread->outside);
	}
}

/* A thread that has had no event: what was read from outside is still so. */
static void each_outside(struct pt_model *model, struct model_thread *thread, uint64_t known_ns,
			 void (*fn)(struct pt_model *model, struct model_thread *thread,
				    const struct pt_op_slice *slice, void *ctx),
			 void *ctx)
{
	const struct model_opens *outside = &thread->outside;
	uint64_t start_ns = recording_start(model, thread), parent = 0;
	struct model_frame frame = {.flags = PT_SLICE_OPEN_AT_START};
	struct pt_op_slice slice;

	if (known_ns <= start_ns + outside->count)
		return;
	for (uint32_t i = 0; i < outside->count; i++) {
		const struct model_open *open = &outside->frames[outside->count - 1 - i];
		struct model_function *function = model_code_function(model, open->code);

		frame.begin_ns = start_ns + i;
		frame.id = ++model->next_call_id;
		frame.parent_id = parent;
		if (!function || function->excluded)
			continue;
		frame.level++;
		parent = frame.id;
		fill_slice(model, thread, &frame, function, known_ns + outside->count - i,
			   PT_SLICE_OPEN_AT_END, &slice);
		if (is_shown(model, &frame, function, slice.end_ns))
			fn(model, thread, &slice, ctx);
	}
}

struct open_calls {
	uint64_t end_ns; /* of the innermost, and a nanosecond more for each around it */
	void (*fn)(struct pt_model *model, struct model_thread *thread,
		   const struct pt_op_slice *slice, void *ctx);
	void *ctx;
};

static void each_frame(struct pt_model *model, struct model_thread *thread, void *ctx)
{
	const struct open_calls *calls = ctx;
	uint64_t end_ns = calls->end_ns + thread->frame_count;
	struct pt_op_slice slice;

	for (uint32_t i = 0; i < thread->frame_count; i++) {
		const struct model_frame *frame = &thread->frames[i];
		struct model_function *function;

		if (frame->span)
			continue;
		function = model_code_function(model, frame->code);
		if (!is_shown(model, frame, function, end_ns - i))
			continue;
		fill_slice(model, thread, frame, function, end_ns - i, PT_SLICE_OPEN_AT_END,
			   &slice);
		calls->fn(model, thread, &slice, calls->ctx);
	}
}

void model_thread_each_open(struct pt_model *model, struct model_thread *thread, uint64_t known_ns,
			    void (*fn)(struct pt_model *model, struct model_thread *thread,
				       const struct pt_op_slice *slice, void *ctx),
			    void *ctx)
{
	struct open_calls calls = {.end_ns = known_ns, .fn = fn, .ctx = ctx};

	/* of what it did in a pause it tells at its next event */
	if (thread->last_ns > known_ns ||
	    (thread->started && thread->last_ns < model->last_pause_ns))
		calls.end_ns = thread->last_ns;
	if (!thread->started && !thread->ended)
		each_outside(model, thread, known_ns, fn, ctx);
	if (thread->ended || thread->clear_ns != model->clear_ns)
		return;
	each_frame(model, thread, &calls);
	model_greenlet_each(model, thread, each_frame, &calls);
}

/* ---- clearing ---- */

/* Brings the stack to the last clear_ns: what is open then begins there. next_ns: of what follows.
 */
static void cleared(struct pt_model *model, struct model_thread *thread, uint64_t next_ns)
{
	uint64_t start_ns = model->clear_ns, count = thread->frame_count;

	if (start_ns + count + 1 >= next_ns)
		start_ns = next_ns > count + 2 ? next_ns - count - 2 : 1;
	for (uint32_t i = 0; i < count; i++) {
		thread->frames[i].begin_ns = start_ns + i;
		thread->frames[i].flags = PT_SLICE_OPEN_AT_START;
	}
	model_greenlet_cleared(thread, start_ns);
	if (thread->started)
		thread->last_ns = start_ns + count;
	if (thread->gap && thread->gap_begin_ns < thread->last_ns)
		thread->gap_begin_ns = thread->last_ns;
	thread->opened_at_start = 0;
	thread->clear_ns = model->clear_ns;
	thread->cleared_last_ns = thread->last_ns;
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
		start_from_outside(model, thread, end_ns);
	else if (thread->snap_active)
		snapshot_apply(model, thread);
	if (!thread->gap)
		model_runtime_replay(model, thread);
	thread->at_first_event = false;
	thread->paused = false;
	opens_release(model, &thread->outside);
	model_greenlet_close(model, thread, thread->last_ns, PT_SLICE_INTO_LOSS);
	thread->gap = true;
	thread->gap_begin_ns = thread->last_ns;
	thread->caller = NULL;
	drop_next_args(model, thread);
	report_loss(model, thread, events, end_ns);
}

void model_thread_assume(struct pt_model *model, struct model_thread *thread, uint64_t ns)
{
	if (!thread->started)
		start_from_outside(model, thread, ns);
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
		start_from_outside(model, thread, ns);
	} else if (!thread->started) {
		/* as an empty snapshot, which is not sent */
		thread->snap_ns = ns;
		thread->snap.depth = batch->depth < DEPTH_MAX ? batch->depth : DEPTH_MAX;
		first_snapshot(model, thread);
	} else if (thread->gap) {
		model_thread_pop_to(model, thread, 0, thread->gap_begin_ns, PT_SLICE_INTO_LOSS);
		set_depth(model, thread, batch->depth, ns, 0);
		thread->gap = false;
	} else if (thread->depth != batch->depth) {
		model->totals.stack_jumps++;
		set_depth(model, thread, batch->depth, ns, PT_SLICE_INTO_LOSS);
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
			cleared(model, thread, event.time_ns);
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
			take_event(model, thread, &event);
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
		frame_drop_values(model, &thread->frames[i]);
		model_async_drop(&thread->frames[i]);
	}
	free(thread->frames);
	thread->frames = NULL;
	thread->span_count = 0;
	thread->frame_count = thread->frame_size = 0;
}

static void stack_release(struct pt_model *model, struct model_thread *thread)
{
	opens_release(model, &thread->outside);
	opens_release(model, &thread->snap);
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
	uint64_t unseen_ns = unseen_since(model, thread);
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
		cleared(model, thread, end_ns);
	model_runtime_settle(model, thread);
	if (thread->snap_active)
		snapshot_apply(model, thread);
	if (!thread->started && (lost || thread->outside.count || thread->early_count))
		start_from_outside(model, thread, end_ns);
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
