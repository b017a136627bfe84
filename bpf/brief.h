/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * brief.h - calls shorter than --min-duration are not sent.
 *
 * When a call ends too soon and its enter is still the batch's last word, the enter is taken back
 * and no exit is put. What it called was shorter still and has been taken back before, so this
 * reaches callers as well; a longer call inside keeps its callers' enters where they are. Taken
 * back is only what is younger than the limit, so what has rested for that long may be copied by
 * the iterator (peek.h): user space asks for nothing younger.
 *
 * An enter that went out with a full batch has to be followed by its exit, and so has that of an
 * __init__ that calls another one, since hidden frames lie between; whoever reads the records
 * leaves these out. A batch is sent when it is half a second old, full or not: where most is taken
 * back it would not fill for long, and what stays in it would come late.
 *
 * A last word looks like an enter also where it is the payload of an item; so t->ext_end says where
 * plain words begin. The depth of a hidden caller, put right before an enter, goes with it.
 */
#ifndef PT_BPF_BRIEF_H
#define PT_BPF_BRIEF_H

#include "thread.h"

#define NO_ITEM 0xffffffffu

static __always_inline void brief_restart(struct thread *t)
{
	t->ext_end = 0;
	t->item_enter = NO_ITEM;
}

/* An item ends where the batch does. */
static __always_inline void brief_item(struct thread *t)
{
	if (min_duration_ns)
		t->ext_end = t->head.word_count;
}

/* A depth lies at words[at], and an enter will lie behind it; the reader believed in shown before.
 */
static __always_inline void brief_depth(struct thread *t, __u32 at, __u32 shown)
{
	if (!min_duration_ns)
		return;
	t->item_enter = at + 2;
	t->item_shown = shown;
	t->item_ext_end = t->ext_end;
	t->ext_end = at + 2;
}

/* The word before an enter, at which the enter's own begin, goes with it if it says where the call
 * stands. Returns how many words that are. */
static __always_inline __u32 brief_line(struct thread *t, __u32 at)
{
	__u32 line = at - 1;

	if (!send_lines || at <= t->ext_end)
		return 0;
	opaque(line);
	if (line >= PT_BATCH_WORDS || PT_WORD_KIND(t->words[line]) != PT_W_LINE)
		return 0;
	t->ext_words -= 1;
	return 1;
}

/* The innermost call ends now, and leaves the reader at shown. True if it never was. */
static __always_inline bool brief_call(struct thread *t, __u32 shown, __u64 now)
{
	__u32 last = t->head.word_count - 1, at;
	__u64 enter;

	if (!min_duration_ns)
		return false;
	opaque(last);
	if (last >= PT_BATCH_WORDS || last < t->ext_end)
		return false;
	enter = t->words[last];
	if (PT_WORD_KIND(enter) != PT_W_ENTER ||
	    now - (t->head.base_ns + PT_WORD_DT(enter)) >= min_duration_ns)
		return false;
	at = last;
	if (t->item_enter == last && shown == t->item_shown) {
		at = last - 2;
		t->ext_words -= 2;
		t->ext_end = t->item_ext_end;
		t->item_enter = NO_ITEM;
	} else if (shown + 1 != t->shown) {
		return false;
	}
	at -= brief_line(t, at);
	t->head.word_count = at;
	t->shown = shown;
	return true;
}

/* Likewise the C function that the innermost frame calls. */
static __always_inline bool brief_c_call(struct thread *t, __u64 now)
{
	__u32 last = t->head.word_count - 1;
	__u64 enter;

	if (!min_duration_ns)
		return false;
	opaque(last);
	if (last >= PT_BATCH_WORDS || last < t->ext_end)
		return false;
	enter = t->words[last];
	if (PT_WORD_KIND(enter) != PT_W_C_ENTER ||
	    now - (t->head.base_ns + PT_WORD_DT(enter)) >= min_duration_ns)
		return false;
	t->head.word_count = last;
	return true;
}

#endif /* PT_BPF_BRIEF_H */
