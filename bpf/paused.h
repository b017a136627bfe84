/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * paused.h - a probe fires while recording is paused.
 *
 * No event is made, no name is read and nothing is sent. What goes on is the depth, and how far
 * down it went: the frames up to there are the same when recording goes on, and all others are not,
 * even if they look alike (the same function, called once more). Code objects that are freed must
 * be forgotten in the meantime, or another one at the same address would get their names.
 *
 * A thread that hits nothing is not looked at, and needs nothing afterwards.
 */
#ifndef PT_BPF_PAUSED_H
#define PT_BPF_PAUSED_H

#include "site.h"

static __always_inline void paused_begin(struct thread *t)
{
	if (!t->pause_from) {
		t->pause_from = control.pause_ns;
		t->pause_kept = t->attention & ATT_UNKNOWN ? 0 : t->depth;
		t->pause_c = 0;
		t->pause_c_count = 0;
	}
	t->attention |= ATT_SNAP;
	t->last_frame = 0;
}

static __always_inline void paused_keep(struct thread *t, __u32 depth)
{
	if (depth < t->pause_kept)
		t->pause_kept = depth;
	if (use_values && t->value_depth > depth)
		values_settle(depth);
	trigger_depth(t, t->pause_kept, false);
}

static __always_inline int paused_delta(struct pt_regs *ctx, struct thread *t, __u64 cookie)
{
	const struct pt_layout *layout = &image_at(PT_COOKIE_LAYOUT(cookie))->layout;
	__u64 tstate = site_tstate(ctx, cookie);
	struct {
		__u32 remaining, limit;
	} counter;
	__u32 depth;
	__s32 delta;

	if (bpf_probe_read_user(&counter, sizeof(counter), (void *)(tstate + layout->ts_remaining)))
		return 0;
	if (t->base && tstate != t->tstate)
		nest_forget(t); /* and what lies below it is cut */
	t->limit = counter.limit + t->base;
	depth = t->limit - counter.remaining - PT_COOKIE_RAW_DELTA(cookie);
	delta = depth - t->depth;
	if (t->attention & ATT_UNKNOWN) {
		/* its first event: of the frames that were there, at most the innermost is gone,
		 * and depth - 1 of them are below the one that came instead */
		t->pause_kept = depth && !(t->attention & ATT_ABSENT) ? depth - 1 : 0;
		t->attention = ATT_SNAP;
	} else if ((t->tstate && tstate != t->tstate) || delta > 2 || delta < -2) {
		t->pause_kept = 0; /* another thread state, or another greenlet */
	}
	paused_keep(t, depth);
	t->tstate = tstate;
	t->depth = depth;
	return 0;
}

/* As in site_counting(), but that a generator's creation counts as the enter and exit that it is:
 * it leaves the depth as it was. */
static __always_inline int paused_counting(struct pt_regs *ctx, struct thread *t, __u64 cookie)
{
	__u64 tstate = site_tstate(ctx, cookie), frame;
	bool enter = PT_COOKIE_KIND(cookie) != PT_SITE_EXIT;

	if (!enter && t->skip_exit) {
		t->skip_exit = 0;
		return 0;
	}
	t->skip_exit = 0;
	frame = site_frame(ctx, cookie, enter);
	if (counting_switched(t, PT_COOKIE_LAYOUT(cookie), tstate, &frame, enter))
		t->pause_kept = 0;
	if (t->attention & ATT_UNKNOWN)
		return 0; /* pause_kept is 0, and the snapshot finds the depth */
	if (tstate && tstate != t->tstate) {
		if (t->tstate)
			t->pause_kept = 0;
		t->tstate = tstate;
	}
	if (enter) {
		t->depth++;
		return 0;
	}
	if (t->depth)
		t->depth--;
	paused_keep(t, t->depth);
	return 0;
}

static __noinline int site_paused(struct pt_regs *ctx)
{
	__u64 cookie = site_cookie(ctx);
	struct thread *t = thread_get();
	__u32 cond = PT_COOKIE_COND(cookie);

	if (PT_COOKIE_KIND(cookie) == PT_SITE_FREE_CODE)
		return site_free_code(ctx);
	if (PT_COOKIE_KIND(cookie) > PT_SITE_CHECKED && PT_COOKIE_KIND(cookie) != PT_SITE_THROW)
		return 0; /* what is no frame */
	if (!t || t->generation != control.generation || !t->image_id) {
		if (!thread_refresh(PT_COOKIE_LAYOUT(cookie)))
			return 0;
		t = thread_get();
		if (!t)
			return 0;
	}
	if (cond && !condition_met(REGS_FLAGS(ctx), cond)) {
		if (PT_COOKIE_KIND(cookie) == PT_SITE_CHECKED)
			t->skip_exit = 1;
		return 0;
	}
	if (PT_COOKIE_KIND(cookie) == PT_SITE_THROW)
		return want_async ? site_throw(ctx, cookie) : 0;
	paused_begin(t);
	switch (PT_COOKIE_KIND(cookie)) {
	case PT_SITE_DELTA:
		return paused_delta(ctx, t, cookie);
	case PT_SITE_ENTER:
	case PT_SITE_EXIT:
	case PT_SITE_ENTER_REG:
	case PT_SITE_CHECKED:
		return paused_counting(ctx, t, cookie);
	default:
		return 0;
	}
}

#endif /* PT_BPF_PAUSED_H */
