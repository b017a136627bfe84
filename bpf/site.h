/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * site.h - a probe fires.
 *
 * Cost over an empty program, Linux 6.18 in a VM: an exit needs one user read (33 ns; none up to
 * 3.11), the clock (25 ns), the thread's state (7 ns) and one word; an enter up to two user reads
 * more. What is not needed at each event is out of line, in event_slow() and code_lookup().
 *
 * Hidden frames. A generator's creation enters a frame and leaves it at once, and calls nothing in
 * between: its enter is forgotten before t->depth takes notice, so that its exit finds the depth
 * unchanged and is dropped as a duplicate. The __init__ shim is treated the same way; its __init__
 * then appears two levels up, which tells the shim from a missed event. Where both decrements of
 * such a call see the same frame, the first one has been taken for the call: same_frame() makes up
 * for it.
 */
#ifndef PT_BPF_SITE_H
#define PT_BPF_SITE_H

#include "async.h"
#include "call.h"
#include "process.h"
#include "regs.h"
#include "runtime.h"
#include "values.h"

enum verdict {
	EV_DROP,
	EV_ENTER,
	EV_EXIT,
};

#define INFO_COUNTING 0x100 /* event_slow: depth is counted, not read */
#define INFO_BEFORE   0x200 /* an exit whose frame is still the current one */
#define INFO_DIR(x)   ((x) << 10)
#define INFO_SWITCH   0x1000 /* another stack than before */

static __always_inline void hidden_push(struct thread *t, __u32 depth)
{
	__u32 n = t->hidden_count, below = t->hidden_top ? depth - t->hidden_top : 0;

	if (n >= HIDDEN_MAX || below > 0xffff)
		return; /* its exit will be sent, and closes nothing */
	t->hidden[n & (HIDDEN_MAX - 1)] = below;
	t->hidden_count = n + 1;
	t->hidden_top = depth;
}

static __always_inline void hidden_pop(struct thread *t)
{
	__u32 n = t->hidden_count - 1, below = 0;

	if (n < HIDDEN_MAX) {
		below = t->hidden[n];
		t->hidden_count = n;
	}
	t->hidden_top = below ? t->hidden_top - below : 0;
}

/* What the depths say: a direction, EV_DROP for nothing, or -1 for a jump. */
static __always_inline int direction_by_depth(struct thread *t, __u32 depth)
{
	__s32 delta = depth - t->depth;

	if (delta == 0)
		return EV_DROP;
	if (delta == 1)
		return EV_ENTER;
	if (delta == 2) {
		hidden_push(t, depth - 1);
		t->depth = depth - 1;
		return EV_ENTER;
	}
	if (delta == -1)
		return EV_EXIT;
	if (delta == -2 && t->hidden_top == t->depth - 1) {
		hidden_pop(t);
		t->depth--;
		return EV_EXIT;
	}
	return -1;
}

/* Is the frame that is entered the first one of its thread state? frame: 0 for the current one. */
static __always_inline bool is_outermost(const struct pt_layout *layout, __u64 tstate, __u64 frame)
{
	if (!frame)
		frame = frame_current(layout, tstate);
	return frame && !user_u64(frame + layout->frame_back);
}

/*
 * Sub-interpreters. What a thread runs in another interpreter has a thread state of its own, and
 * its frames lie on those of the thread state that was left, which stands still until they are
 * gone. So they are counted from there on. One interpreter below is kept; what lies deeper is cut.
 */
static __always_inline void nest_follow(struct thread *t, const struct pt_layout *layout,
					__u64 tstate, __u64 frame, __u32 own, int direction)
{
	if (t->below && t->depth <= t->base) {
		t->tstate = t->below;
		nest_forget(t);
	}
	if (tstate == t->tstate || direction == EV_EXIT || !t->tstate || t->below || !t->depth)
		return;
	if (own ? own != 1 : !is_outermost(layout, tstate, frame))
		return;
	t->below = t->tstate;
	t->base = t->depth;
	t->tstate = tstate;
	t->last_frame = 0;
}

/* The event at hand is not of t->tstate. If that is in order, it is from now on. own: the depth in
 * tstate; 0: not known, it is counted. Not for a thread of which nothing is known yet. */
__noinline int other_tstate(__u64 tstate, __u64 frame, __u32 own, __u32 info)
{
	const struct pt_layout *layout = &image_at(info & 0xff)->layout;
	int direction = info >> 10 & 3;
	struct thread *t = thread_get();
	bool first;

	if (!t)
		return 0;
	if (!t->attention && !(info & INFO_SWITCH))
		nest_follow(t, layout, tstate, frame, own, direction);
	if (tstate == t->tstate || (t->tstate && t->depth))
		return 0;
	/* a thread state that this thread has not run before, from its start on */
	if (info & INFO_COUNTING)
		first = direction == EV_ENTER && is_outermost(layout, tstate, frame);
	else
		first = !(t->attention & ATT_SNAP) ? own <= 2 : !t->tstate;
	if (first)
		t->tstate = tstate;
	return 0;
}

/* Brings the reader's stack in line before (an enter) or after (else) the event at hand. */
static __always_inline int resync(struct thread *t, __u64 tstate, __u64 frame, __u32 depth,
				  __u32 info, int direction)
{
	const struct pt_layout *layout = &image_at(info & 0xff)->layout;
	bool counting = info & INFO_COUNTING;
	__u64 now = bpf_ktime_get_ns();
	__u32 at = depth;
	int lost;

	if (want_async)
		task_restart(t);
	if (!frame && tstate)
		frame = frame_current(layout, tstate);
	if (!frame && (counting || direction == EV_ENTER)) {
		if (!(t->attention & ATT_UNKNOWN)) {
			t->depth = direction == EV_ENTER ? t->depth + 1 : t->depth - !!t->depth;
			event_drop(t);
		}
		return EV_DROP;
	}
	if (direction == EV_ENTER || (direction == EV_EXIT && (info & INFO_BEFORE)))
		frame = user_u64(frame + layout->frame_back);
	if (direction == EV_ENTER)
		at = depth - 1;
	if (unlikely(t->base)) {
		/* the snapshot has this thread state's frames only */
		nest_forget(t);
		t->pause_kept = 0;
		t->pause_c = 0;
	}
	if (t->pause_from)
		put_paused(t, now);
	lost = put_stack(t, now);
	t->walk.layout = info & 0xff;
	if (snapshot(t, frame, &at, counting, now) || lost) {
		t->depth = direction == EV_ENTER ? at + 1 : at;
		t->tstate = tstate;
		t->attention = ATT_SNAP;
		if (direction != EV_DROP)
			event_drop(t);
		return EV_DROP;
	}
	t->attention = 0;
	t->tstate = tstate;
	t->last_frame = 0;
	t->depth = direction == EV_EXIT ? at + 1 : at;
	trigger_depth(t, t->depth, false);
	return direction;
}

/*
 * Everything that is not one step up or down on a known stack. Says how to go on: as an enter, as
 * an exit, or not at all.
 */
__noinline int event_slow(__u64 tstate, __u64 frame, __u32 depth, __u32 info)
{
	int direction = info >> 10 & 3;
	bool counting = info & INFO_COUNTING;
	struct thread *t = thread_get();
	__u32 own;
	bool known;

	if (!t)
		return EV_DROP;
	known = !(t->attention & ATT_UNKNOWN);
	own = counting ? 0 : depth - t->base;
	if (known && tstate != t->tstate)
		other_tstate(tstate, frame, own, info);
	depth = own + t->base;
	if (known && tstate == t->tstate && !(info & INFO_SWITCH)) {
		if (!counting) {
			int found = direction_by_depth(t, depth);

			if (found == EV_DROP)
				return EV_DROP;
			if (found > 0)
				direction = found;
			else
				t->attention |= ATT_SNAP;
			if (found < 0) {
				trigger_depth(t, 0, false); /* another stack */
				if (use_values)
					values_settle(0);
				count_add(&counters.resyncs, 1);
			}
		}
		if (!t->attention)
			return direction;
	} else if (known) {
		trigger_depth(t, 0, false);
		if (use_values)
			values_settle(0);
		if (!(info & INFO_SWITCH))
			count_add(&counters.resyncs, 1);
	}
	return resync(t, tstate, frame, own, info, direction);
}

/* The frame of the last enter is entered once more, one level up: what lay below it was the shim.
 * [ENTER] becomes [DEPTH, payload, ENTER]. */
static __always_inline void same_frame(struct thread *t, __u32 depth)
{
	/* that of an empty batch is out of bounds; 5.10 learns nothing from a comparison with 0 */
	__u32 last = t->head.word_count - 1;
	__u64 enter;

	opaque(last);
	if (last > PT_BATCH_WORDS - 3)
		return;
	enter = t->words[last];
	if (PT_WORD_KIND(enter) != PT_W_ENTER)
		return;
	t->words[last + 2] = enter;
	t->words[last + 1] = depth - 1;
	t->words[last] = PT_WORD(PT_W_EXT, PT_EXT_ARG(PT_X_DEPTH, 1), PT_WORD_DT(enter));
	t->ext_words += 2;
	t->head.word_count = last + 3;
	brief_depth(t, last, depth - 2);
	hidden_push(t, depth - 1);
	t->depth = depth;
	t->shown = depth;
	if (use_values) {
		/* its values may be out, before the depth */
		if (min_duration_ns)
			t->ext_end = t->head.word_count;
		if (t->value_depth)
			values_move(depth);
	}
}

static __always_inline int put_enter(struct thread *t, __u32 id, __u32 depth, __u64 now)
{
	__u64 dt = now - t->head.base_ns;
	__u32 n = t->head.word_count;

	if (unlikely(dt > batch_ns_max)) {
		if (batch_flush(now, 0))
			return 1;
		dt = 0;
		n = t->head.word_count;
	}
	opaque(n);
	if (n > PT_BATCH_WORDS - 4)
		return 1;
	if (unlikely(t->shown + 1 != depth)) {
		t->words[n] = PT_WORD(PT_W_EXT, PT_EXT_ARG(PT_X_DEPTH, 1), dt);
		t->words[n + 1] = depth - 1;
		t->ext_words += 2;
		brief_depth(t, n, t->shown);
		n += 2;
	}
	if (likely(id <= PT_WORD_ARG_MASK)) {
		t->words[n] = PT_WORD(PT_W_ENTER, id, dt);
	} else {
		t->words[n] = PT_WORD(PT_W_EXT, PT_EXT_ARG(PT_X_ENTER, 1), dt);
		t->words[n + 1] = id;
		t->ext_words += 1;
		n++;
		if (min_duration_ns)
			t->ext_end = n + 1;
	}
	t->head.word_count = n + 1;
	t->shown = depth;
	t->last_ns = now;
	return 0;
}

/* code: as read from the frame, or 0. */
static __always_inline int event_enter(struct thread *t, const struct pt_layout *layout,
				       __u64 frame, __u64 code, __u32 depth, __u32 layout_index)
{
	const struct near_code *near;
	__u32 id, flags;
	__u64 now;

	if (!code)
		code = user_u64(frame + layout->frame_code);
	code &= ~(__u64)layout->frame_code_mask;
	near = near_slot(t, code);
	now = bpf_ktime_get_ns();
	if (likely(near->addr == code && t->near_valid == near_codes(t))) {
		id = near->id;
		flags = near->flags;
	} else {
		__u64 id_flags = code_lookup(code, layout_index, now);

		id = id_flags;
		flags = id_flags >> 32;
	}
	t->skip_exit = 0;
	if (unlikely(flags & (PT_CO_GEN_MASK | PT_CO_SHIM))) {
		__u8 owner = 0;

		if (flags & PT_CO_SHIM)
			return 0;
		if (layout->flags & PT_LF_HAS_OWNER) {
			bpf_probe_read_user(&owner, 1, (void *)(frame + layout->frame_owner));
			if (owner == PT_OWNED_BY_THREAD) {
				t->skip_exit = 1;
				return 0;
			}
		}
	}
	if (unlikely(frame == t->last_frame && depth == t->shown + 1)) {
		same_frame(t, depth);
		return 0;
	}
	t->depth = depth;
	if (!trigger_enter(t, flags, depth)) {
		t->last_frame = 0;
		return 0;
	}
	if (unlikely(depth > max_depth))
		return 0;
	if (want_async && unlikely(flags & CORO_FLAGS) && id)
		async_coroutine(frame, layout_index, now);
	if (use_values && unlikely(flags & CODE_VALUES))
		values_enter(frame, code, id, layout_index, now);
	if (send_lines && id)
		call_put(frame, layout_index, now);
	if (unlikely(!id || put_enter(t, id, depth, now))) {
		event_drop(t);
		return 0;
	}
	t->last_frame = frame;
	if (use_values && min_duration_ns && flags & CODE_VALUES)
		t->ext_end = t->head.word_count; /* not to be taken back: its values are out */
	if (want_imports && unlikely(flags & CODE_IMPORT))
		runtime_import(frame, layout_index, now);
	if (want_async && unlikely(flags & (CORO_FLAGS | CODE_TASK | CODE_HANDLE)))
		async_entered(t, frame, flags, layout_index, now);
	return 0;
}

static __always_inline int put_exit(struct thread *t, __u32 depth)
{
	__u32 old = t->depth, shown = depth, n;
	__u64 now, dt;

	t->depth = depth;
	t->last_frame = 0;
	if (unlikely(t->hidden_top)) {
		if (t->hidden_top == old) {
			hidden_pop(t);
			return 0;
		}
		/* the frame below is hidden and will go silently: say so now */
		if (t->hidden_top == depth)
			shown = depth - 1;
	}
	if (unlikely(old > max_depth && depth >= max_depth))
		return 0;
	if (trigger_silent(t))
		return 0;
	now = bpf_ktime_get_ns();
	if (brief_call(t, shown, now))
		return 0;
	dt = now - t->head.base_ns;
	n = t->head.word_count;
	if (unlikely(dt > batch_ns_max)) {
		if (batch_flush(now, 0)) {
			event_drop(t);
			return 0;
		}
		dt = 0;
		n = t->head.word_count;
	}
	opaque(n);
	if (n >= PT_BATCH_WORDS)
		return 0;
	t->words[n] = PT_WORD(PT_W_EXIT, shown, dt);
	t->head.word_count = n + 1;
	t->shown = shown;
	t->last_ns = now;
	return 0;
}

static __always_inline int event_exit(struct thread *t, __u32 depth, __u32 layout_index)
{
	int rc;

	if (use_values && unlikely(t->value_depth > depth)) {
		if (t->value_depth == t->depth)
			values_exit(layout_index, bpf_ktime_get_ns());
		values_settle(depth);
	}
	task_left(t, depth, layout_index);
	rc = put_exit(t, depth);
	trigger_depth(t, depth, true);
	return rc;
}

/* Before 5.15 a program does not know its site; the address tells. */
static __always_inline __u64 cookie_by_address(struct pt_regs *ctx)
{
	__u32 tgid = bpf_get_current_pid_tgid() >> 32;
	struct pt_proc *proc = bpf_map_lookup_elem(&procs, &tgid);
	struct pt_site_key key = {};
	struct pt_site_value *site;

	if (proc && proc->bias) {
		key.by = PT_SITE_BY_VADDR;
		key.image_index = proc->image_index;
		key.addr = REGS_IP(ctx) - proc->bias;
	} else {
		/* exec'd while traced, or never named: the bias is a multiple of the page size */
		key.by = PT_SITE_BY_OFFSET;
		key.addr = REGS_IP(ctx) & 4095;
	}
	site = bpf_map_lookup_elem(&sites, &key);
	if (!site || !site->cookie)
		return 0;
	if (proc && !proc->bias) {
		proc->image_index = PT_COOKIE_LAYOUT(site->cookie);
		proc->bias = REGS_IP(ctx) - site->vaddr;
	}
	return site->cookie;
}

static __always_inline __u64 site_cookie(struct pt_regs *ctx)
{
	if (use_cookie)
		return bpf_get_attach_cookie(ctx);
	return cookie_by_address(ctx);
}

/* Up to 3.10, usdt: the tstate is in a variable of the process. */
__noinline __u64 tstate_absolute(__u64 ip, __u32 site_number, __u32 layout_index)
{
	const struct pt_image *image = image_at(layout_index);
	struct thread *t = thread_get();
	__u64 vaddr;

	if (!t)
		return 0;
	if (!t->bias) {
		vaddr = site_vaddr(layout_index, site_number);
		if (!vaddr)
			return 0;
		t->bias = ip - vaddr;
	}
	return user_u64(t->bias + image->tstate_vaddr);
}

static __always_inline __u64 site_tstate(struct pt_regs *ctx, __u64 cookie)
{
	__u32 where = PT_COOKIE_TS(cookie);

	if (likely(where < PT_TS_SLOT))
		return reg_read(ctx, where);
	if (where == PT_TS_SLOT)
		return user_u64(REGS_SP(ctx) + 8 * PT_COOKIE_SLOT(cookie));
	if (where == PT_TS_ABS)
		return tstate_absolute(REGS_IP(ctx), PT_COOKIE_SITE(cookie),
				       PT_COOKIE_LAYOUT(cookie));
	return 0;
}

/*
 * PyThreadState from py_recursion_remaining on: the limit next to it (sys.setrecursionlimit()
 * shifts both), and the current frame, or 3.12's cframe, 20 to 28 bytes on. One read gets all; it
 * costs what a read of the counter alone does, as long as it goes to the stack: hardened_usercopy
 * takes 40 ns more to check a map's memory (mm/usercopy.c).
 */
struct window {
	__u32 remaining, limit;
	__u32 words[7];
};

/* The current frame. Verifiers before 5.12 know only constant offsets into the stack. */
static __always_inline __u64 window_frame(const struct window *w, const struct pt_layout *layout,
					  __u64 tstate)
{
	__u64 frame;

	switch (layout->ts_frame - layout->ts_remaining) {
	case 20: /* 3.15 */
		frame = w->words[3] | (__u64)w->words[4] << 32;
		break;
	case 24: /* 3.14 */
		frame = w->words[4] | (__u64)w->words[5] << 32;
		break;
	case 28: /* 3.12, 3.13 */
		frame = w->words[5] | (__u64)w->words[6] << 32;
		break;
	default:
		return frame_current(layout, tstate);
	}
	if (layout->cframe_frame != PT_NO_FIELD && frame)
		frame = user_u64(frame + layout->cframe_frame);
	return frame;
}

/* 3.12 and later: the depth is in the thread state. */
static __always_inline int site_delta(struct pt_regs *ctx, struct thread *t, __u64 cookie)
{
	__u32 layout_index = PT_COOKIE_LAYOUT(cookie), depth;
	const struct pt_layout *layout = &image_at(layout_index)->layout;
	__u64 tstate = site_tstate(ctx, cookie), frame = 0, code = 0;
	int raw = PT_COOKIE_RAW_DELTA(cookie), verdict;
	struct window w;
	bool switched = stack_switched(t, layout, tstate);
	__s32 delta;

	/* A register has the counter: that saves a read. Whatever is out of the ordinary goes the
	 * long way, sys.setrecursionlimit() too. */
	if (PT_COOKIE_LEFT_REG(cookie)) {
		depth = t->limit - (__u32)reg_read(ctx, PT_COOKIE_LEFT_REG(cookie) - 1);
		if (likely(depth == t->depth + 1 && !t->attention && tstate == t->tstate)) {
			frame = reg_read(ctx, PT_COOKIE_FRAME_REG(cookie));
			goto enter;
		}
	}
	if (bpf_probe_read_user(&w, sizeof(w), (void *)(tstate + layout->ts_remaining)))
		return 0;
	t->limit = w.limit + t->base;
	depth = t->limit - w.remaining - raw;
	delta = depth - t->depth;
	if (delta == 0 && !t->attention && tstate == t->tstate)
		return 0;
	if (PT_COOKIE_FRAME_REG(cookie) < PT_REG_NONE)
		frame = reg_read(ctx, PT_COOKIE_FRAME_REG(cookie));
	verdict = delta > 0 ? EV_ENTER : EV_EXIT;
	if (unlikely(t->attention || tstate != t->tstate || (delta != 1 && delta != -1))) {
		int hint = PT_COOKIE_DIR(cookie);

		if (!hint && raw)
			hint = raw < 0 ? EV_ENTER : EV_EXIT;
		verdict = event_slow(tstate, frame, depth,
				     layout_index |
					 (cookie & PT_COOKIE_BEFORE_POP ? INFO_BEFORE : 0) |
					 (switched ? INFO_SWITCH : 0) | INFO_DIR(hint));
		t->limit = w.limit + t->base;
		if (verdict == EV_DROP)
			return 0;
		depth = t->limit - w.remaining - raw;
	}
	if (verdict == EV_EXIT)
		return event_exit(t, depth, layout_index);
	if (!frame)
		frame = window_frame(&w, layout, tstate);
	if (PT_COOKIE_CODE_REG(cookie))
		code = reg_read(ctx, PT_COOKIE_CODE_REG(cookie) - 1);
enter:
	return event_enter(t, layout, frame, code, depth, layout_index);
}

/* The frame that a register holds at a site where BPF counts, or 0. That of an exit is the one that
 * is left, and only greenlets need it. */
static __always_inline __u64 site_frame(struct pt_regs *ctx, __u64 cookie, bool enter)
{
	__u32 reg = PT_COOKIE_FRAME_REG(cookie);

	return reg < PT_REG_NONE && (enter || want_async) ? reg_read(ctx, reg) : 0;
}

/* Up to 3.11: does another stack run than at the last event? *frame is found if it is not known. */
static __always_inline bool counting_switched(struct thread *t, __u32 layout_index, __u64 tstate,
					      __u64 *frame, bool enter)
{
	const struct pt_image *image = image_at(layout_index);

	if (!want_async || !tstate)
		return false;
	if (!image->rt.chains)
		return stack_switched(t, &image->layout, tstate);
	if (!*frame)
		*frame = frame_current(&image->layout, tstate);
	return *frame && chain_switched(t, image, tstate, *frame, layout_index, enter);
}

/* Up to 3.11: the depth is counted here. */
static __always_inline int site_counting(struct pt_regs *ctx, struct thread *t, __u64 cookie)
{
	__u32 layout_index = PT_COOKIE_LAYOUT(cookie), kind = PT_COOKIE_KIND(cookie);
	const struct pt_image *image = image_at(layout_index);
	int direction = kind == PT_SITE_EXIT ? EV_EXIT : EV_ENTER;
	__u64 tstate = 0, frame = site_frame(ctx, cookie, direction == EV_ENTER);
	bool switched;

	if (direction == EV_EXIT && t->skip_exit) {
		t->skip_exit = 0;
		return 0;
	}
	/* In memory, it costs a read. An exit with calls open belongs to the thread state of the
	 * last enter: what a thread runs under another one in between begins with an enter. */
	if (PT_COOKIE_TS(cookie) != PT_TS_ABS || direction == EV_ENTER || t->attention ||
	    t->depth == 0 || want_async)
		tstate = site_tstate(ctx, cookie);
	switched = counting_switched(t, layout_index, tstate, &frame, direction == EV_ENTER);
	if (unlikely(t->attention || switched || (tstate && tstate != t->tstate) ||
		     (direction == EV_EXIT && t->depth == 0))) {
		__u32 before = PT_COOKIE_RAW_DELTA(cookie) > 0 || frame ? INFO_BEFORE : 0;

		direction = event_slow(tstate ? tstate : t->tstate, frame, 0,
				       layout_index | INFO_COUNTING | before |
					   (switched ? INFO_SWITCH : 0) | INFO_DIR(direction));
		if (direction == EV_DROP)
			return 0;
	}
	if (direction == EV_EXIT) {
		if (t->depth == 0)
			return 0; /* nothing is open that we know of */
		return event_exit(t, t->depth - 1, layout_index);
	}
	if (!frame)
		frame = frame_current(&image->layout, tstate);
	return event_enter(t, &image->layout, frame, 0, t->depth + 1, layout_index);
}

static __always_inline int site_free_code(struct pt_regs *ctx)
{
	__u32 tgid = bpf_get_current_pid_tgid() >> 32;
	struct pt_proc *proc = bpf_map_lookup_elem(&procs, &tgid);

	if (proc)
		code_forget(proc->image_id, REGS_ARG0(ctx));
	return 0;
}

static __always_inline int site_throw(struct pt_regs *ctx, __u64 cookie)
{
	return async_throw(reg_read(ctx, PT_COOKIE_TS(cookie)),
			   reg_read(ctx, PT_COOKIE_FRAME_REG(cookie)), PT_COOKIE_LAYOUT(cookie));
}

static int site_paused(struct pt_regs *ctx); /* paused.h */

static __always_inline int site_hit(struct pt_regs *ctx)
{
	struct thread *t;
	__u64 cookie;
	__u32 cond, gate = *(volatile __u32 *)&control.gate;

	if (unlikely(gate != PT_GATE_OPEN))
		return gate == PT_GATE_PAUSED ? site_paused(ctx) : 0;
	cookie = site_cookie(ctx);
	t = thread_get();
	if (unlikely(!t || t->generation != control.generation || !t->image_id)) {
		if (!thread_refresh(PT_COOKIE_LAYOUT(cookie)))
			return 0;
		t = thread_get();
		if (!t)
			return 0;
	}
	if (frames_sampled && t->attention)
		frameless_settle(bpf_ktime_get_ns());
	cond = PT_COOKIE_COND(cookie);
	if (unlikely(cond) && !condition_met(REGS_FLAGS(ctx), cond)) {
		if (PT_COOKIE_KIND(cookie) == PT_SITE_CHECKED)
			t->skip_exit = 1;
		return 0;
	}
	if (unlikely(t->head.word_count > batch_limit))
		batch_flush(bpf_ktime_get_ns(), 0);
	switch (PT_COOKIE_KIND(cookie)) {
	case PT_SITE_DELTA:
		return site_delta(ctx, t, cookie);
	case PT_SITE_ENTER:
	case PT_SITE_EXIT:
	case PT_SITE_ENTER_REG:
	case PT_SITE_CHECKED:
		return site_counting(ctx, t, cookie);
	case PT_SITE_FREE_CODE:
		return site_free_code(ctx);
	case PT_SITE_RUNTIME:
		return want_runtime ? site_runtime(ctx, cookie) : 0;
	case PT_SITE_THROW:
		return want_async ? site_throw(ctx, cookie) : 0;
	case PT_SITE_RAISE:
		return want_exceptions
			   ? runtime_raise(site_tstate(ctx, cookie), PT_COOKIE_LAYOUT(cookie))
			   : 0;
	default:
		return 0;
	}
}

#endif /* PT_BPF_SITE_H */
