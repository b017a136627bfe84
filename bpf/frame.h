/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * frame.h - walking a thread's frames, and the snapshot that a walk sends.
 *
 * A snapshot says how many frames follow before they follow, so the chain is walked two or three
 * times; the thread stands still meanwhile, in its own probe. The loops are global functions of
 * scalar arguments, each verified once: a plain loop over thousands of frames would be verified
 * frame by frame, which 5.10 does not finish.
 */
#ifndef PT_BPF_FRAME_H
#define PT_BPF_FRAME_H

#include "chain.h"

#define WALK_INNER 128
#define WALK_OUTER 128 /* 16384 frames; those further out stay unnamed */

enum walk_mode {
	WALK_FRAMES,  /* count the frames: the depth where no counter tells it */
	WALK_VISIBLE, /* count those that the trace shows */
	WALK_EMIT,    /* send these */
};

static __always_inline __u64 frame_current(const struct pt_layout *layout, __u64 tstate)
{
	__u64 frame = user_u64(tstate + layout->ts_frame);

	if (layout->cframe_frame != PT_NO_FIELD && frame)
		frame = user_u64(frame + layout->cframe_frame);
	return frame;
}

static __always_inline bool frame_owner_hidden(const struct pt_layout *layout, __u64 frame)
{
	__u8 owner = 0;

	if (layout->owner_hidden == 0xff || layout->frame_owner == PT_NO_FIELD)
		return false;
	bpf_probe_read_user(&owner, 1, (void *)(frame + layout->frame_owner));
	return owner >= layout->owner_hidden;
}

static __always_inline int walk_visible(struct thread *t, __u64 code, __u32 mode, __u32 depth,
					__u64 now)
{
	struct walk *w = &t->walk;
	__u64 id_flags = code_define(code, w->layout, now);

	if ((id_flags >> 32 & PT_CO_SHIM) || depth > max_depth || depth < t->window)
		return 1;
	if (mode == WALK_VISIBLE)
		w->visible++;
	else if (put_ext(t, now, PT_X_OPEN, (id_flags & 0xffffffff) | (__u64)depth << 32))
		return -1;
	return 1;
}

/* One frame. 1: go on, 0: that was the last, -1: the batch was lost. */
__noinline int walk_step(__u32 mode, __u64 now)
{
	struct thread *t = thread_get();
	const struct pt_layout *layout;
	__u64 frame, code = 0;
	struct walk *w;
	__u32 depth;

	if (!t)
		return 0;
	w = &t->walk;
	layout = &image_at(w->layout)->layout;
	frame = w->frame;
	if (!frame || bpf_probe_read_user(&code, 8, (void *)(frame + layout->frame_code)))
		return 0;
	if (want_async && image_at(w->layout)->rt.chains) {
		if (chain_step())
			return 1;
	} else {
		w->frame = user_u64(frame + layout->frame_back);
		if (frame_owner_hidden(layout, frame))
			return 1;
	}
	w->frames++;
	if (mode == WALK_FRAMES)
		return 1;
	depth = w->depth;
	if (depth == 0)
		return 0; /* more frames than the counter says: not a stack that we understand */
	w->depth = depth - 1;
	return walk_visible(t, code & ~(__u64)layout->frame_code_mask, mode, depth, now);
}

__noinline int walk_inner(__u32 mode, __u64 now)
{
	int i, rc;

	for (i = 0; i < WALK_INNER; i++) {
		rc = walk_step(mode, now);
		if (rc <= 0)
			return rc;
	}
	return 1;
}

__noinline int walk_all(__u32 mode, __u64 now)
{
	int i, rc;

	for (i = 0; i < WALK_OUTER; i++) {
		rc = walk_inner(mode, now);
		if (rc <= 0)
			return rc;
	}
	return 0;
}

static __always_inline int walk_run(struct thread *t, __u64 frame, __u32 depth, __u32 mode,
				    __u64 now)
{
	t->walk.frame = frame;
	t->walk.depth = depth;
	t->walk.frames = 0;
	if (mode == WALK_VISIBLE)
		t->walk.visible = 0;
	return walk_all(mode, now);
}

/*
 * Sends the stack whose innermost frame is `frame` and lies at `depth` (counting layouts: depth is
 * found by counting). Returns 0, or 1 if it got lost on the way. Sets t->shown.
 */
static __always_inline int snapshot(struct thread *t, __u64 frame, __u32 *depth_io, bool counting,
				    __u64 now)
{
	__u32 depth = *depth_io;

	if (counting) {
		walk_run(t, frame, 0, WALK_FRAMES, now);
		depth = t->walk.frames;
		*depth_io = depth;
	}
	if (trigger_silent(t)) {
		t->hidden_top = 0;
		t->hidden_count = 0;
		return 0;
	}
	walk_run(t, frame, depth, WALK_VISIBLE, now);
	t->hidden_top = 0;
	t->hidden_count = 0;
	/* an ordinary new thread: the reader starts from nothing anyway */
	if (depth == 0 && t->head.seq == 0 && t->head.word_count == 0) {
		t->shown = 0;
		return 0;
	}
	t->shown = depth < max_depth ? depth : max_depth;
	if (put_ext(t, now, PT_X_SNAP, t->walk.visible | (__u64)t->shown << 32))
		return 1;
	if (walk_run(t, frame, depth, WALK_EMIT, now) < 0)
		return 1;
	return 0;
}

#endif /* PT_BPF_FRAME_H */
