/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * trigger.h - functions by whose name recording starts (--start-on) and ends (--stop-on).
 *
 * Which code objects these are is decided once, when a code object is met first, by its name; the
 * answer lies beside its id. It is decided here and not by who reads the records, because that one
 * would be too late for the first call.
 *
 * --start-on: a thread is silent but within a call of such a function, its window. Outside of it
 * the depth is followed, and nothing is sent; so the first word of a window is the depth of its
 * caller, and the reader never hears of the frames below. --count: each window takes a ticket.
 *
 * Whose arguments and results are wanted (values.h) is decided here, too.
 */
#ifndef PT_BPF_TRIGGER_H
#define PT_BPF_TRIGGER_H

#include "sched.h"

#define GLOB_INNER 256
#define GLOB_OUTER 256

static __always_inline __u32 glob_char(const struct thread *t, const struct glob *g)
{
	__u32 width = g->width, at = g->text + g->i * width, c;

	opaque(at);
	if (at > STRINGS_BYTES - 4)
		return 0;
	c = t->code.data[at];
	if (width >= 2)
		c |= (__u32)t->code.data[at + 1] << 8;
	if (width == 4)
		c |= (__u32)t->code.data[at + 2] << 16;
	return c;
}

/* One step of a match with one star to come back to. 2: go on, 1: it matches, 0: it does not. */
__noinline int glob_step(__u32 which)
{
	struct thread *t = thread_get();
	struct glob *g;
	__u32 p, wanted;

	if ((!use_triggers && !use_values) || !t)
		return 0;
	g = &t->glob;
	p = g->p;
	opaque(p);
	if (p > PT_GLOB_CHARS)
		return 0;
	which &= PT_GLOB_ROOM - 1;
	wanted = globs[which].chars[p & PT_GLOB_CHARS_MASK];
	if (p >= globs[which].count)
		wanted = PT_GLOB_END;
	if (wanted == PT_GLOB_STAR) {
		g->star = p + 1;
		g->star_i = g->i;
		g->p = p + 1;
		return 2;
	}
	if (g->i >= g->chars)
		return wanted == PT_GLOB_END;
	if (wanted == PT_GLOB_ANY || wanted == glob_char(t, g)) {
		g->p = p + 1;
		g->i++;
		return 2;
	}
	if (!g->star)
		return 0;
	g->p = g->star;
	g->i = ++g->star_i;
	return 2;
}

__noinline int glob_inner(__u32 which)
{
	int i, rc;

	for (i = 0; i < GLOB_INNER; i++) {
		rc = glob_step(which);
		if (rc != 2)
			return rc;
	}
	return 2;
}

/* Whether the code object in t->code has a name that matches. Inlined: with a walk below it, the
 * calls are as deep as a verifier allows (MAX_CALL_FRAMES, 8). */
static __always_inline int glob_match(struct thread *t, __u32 which)
{
	const struct pt_str *str;
	int i, rc;

	if (!globs[which].count)
		return 0;
	str = &t->code.rec.str[PT_STR_QUALNAME];
	t->glob.text = t->code.rec.str[PT_STR_NAME].bytes;
	if (!str->bytes) { /* up to 3.10 */
		str = &t->code.rec.str[PT_STR_NAME];
		t->glob.text = 0;
	}
	if (str->truncated == 2 || !str->width)
		return 0;
	t->glob.width = str->width;
	t->glob.chars = str->bytes >> (str->width == 4 ? 2 : str->width == 2 ? 1 : 0);
	t->glob.i = t->glob.p = t->glob.star = t->glob.star_i = 0;
	for (i = 0; i < GLOB_OUTER; i++) {
		rc = glob_inner(which);
		if (rc != 2)
			return rc;
	}
	return 0;
}

/* For the flags of a code object that was just read into t->code. */
static __always_inline __u32 trigger_flags(struct thread *t)
{
	__u32 flags = 0;

	if (!use_triggers)
		return 0;
	if (glob_match(t, PT_GLOB_START))
		flags |= CODE_START;
	if (glob_match(t, PT_GLOB_STOP))
		flags |= CODE_STOP;
	return flags;
}

/* Likewise CODE_VALUES, if values of its calls are wanted. The mask is built up in memory: in a
 * register the verifier would follow each of its values. */
static __always_inline __u32 values_flags(struct thread *t, __u32 id)
{
	struct pt_value_code value = {};
	__u32 i;

	if (!use_values)
		return 0;
	t->value_mask = 0;
	for (i = 0; i < PT_VALUE_GLOBS_MAX; i++)
		if (glob_match(t, PT_GLOB_VALUES + i))
			t->value_mask |= 1u << i;
	value.mask = t->value_mask;
	if (!value.mask)
		return 0;
	if (bpf_map_update_elem(&value_codes, &id, &value, BPF_ANY)) {
		count_add(&counters.lost_records, 1);
		return 0;
	}
	return CODE_VALUES;
}

/* Nothing of this thread is sent now. */
static __always_inline bool trigger_silent(const struct thread *t)
{
	return use_triggers && use_windows && !t->window;
}

/* A call begins at depth. Returns false if it is not to be sent. */
static __always_inline bool trigger_enter(struct thread *t, __u32 flags, __u32 depth)
{
	__u32 ticket;

	if (!use_triggers)
		return true;
	if (flags & CODE_STOP && !t->stop_depth)
		t->stop_depth = depth;
	if (!use_windows || t->window)
		return true;
	if (!(flags & CODE_START) || (use_tickets && bpf_map_pop_elem(&tickets, &ticket)))
		return false;
	t->window = depth;
	sched_begin(t);
	return true;
}

/* The thread is at depth now; returned: by an exit that was seen. */
static __always_inline void trigger_depth(struct thread *t, __u32 depth, bool returned)
{
	if (!use_triggers)
		return;
	if (t->window && depth < t->window) {
		t->window = 0;
		sched_end(t);
		count_add(&counters.windows, 1);
	}
	if (t->stop_depth && depth < t->stop_depth) {
		t->stop_depth = 0;
		if (returned && control.gate == PT_GATE_OPEN) {
			counters.stop_on = 1;
			control.gate = PT_GATE_REACHED;
		}
	}
}

#endif /* PT_BPF_TRIGGER_H */
