// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * What is open now, for those who ask: copies that are saved meanwhile, and a clear.
 */
#include "model/model_priv.h"
#include "model/thread_parts.h"

/* A thread that has had no event: what was read from outside is still so. */
static void each_outside(struct pt_model *model, struct model_thread *thread, uint64_t known_ns,
			 void (*fn)(struct pt_model *model, struct model_thread *thread,
				    const struct pt_op_slice *slice, void *ctx),
			 void *ctx)
{
	const struct model_opens *outside = &thread->outside;
	uint64_t start_ns = model_thread_recording_start(model, thread), parent = 0;
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
		model_thread_fill_slice(model, thread, &frame, function,
					known_ns + outside->count - i, PT_SLICE_OPEN_AT_END,
					&slice);
		if (model_thread_is_shown(model, &frame, function, slice.end_ns))
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
		if (!model_thread_is_shown(model, frame, function, end_ns - i))
			continue;
		model_thread_fill_slice(model, thread, frame, function, end_ns - i,
					PT_SLICE_OPEN_AT_END, &slice);
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
	    (thread->started &&
	     (thread->last_ns < model->last_pause_ns || model_thread_unseen_since(model, thread))))
		calls.end_ns = thread->last_ns;
	if (!thread->started && !thread->ended)
		each_outside(model, thread, known_ns, fn, ctx);
	if (thread->ended || thread->clear_ns != model->clear_ns)
		return;
	each_frame(model, thread, &calls);
	model_greenlet_each(model, thread, each_frame, &calls);
}

void model_thread_cleared(struct pt_model *model, struct model_thread *thread, uint64_t next_ns)
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
