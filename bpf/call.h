/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * call.h - where a call stands (--lines): the word before an enter.
 *
 * Cost: three to five user reads (28 ns each) and a lookup an enter; nothing without --lines.
 */
#ifndef PT_BPF_CALL_H
#define PT_BPF_CALL_H

#include "frame.h"

/* A caller lies below at most two hidden frames: a C entry's trampoline, the __init__ shim. */
#define CALL_HIDDEN_MAX 2

/* In code units; more than fits into a word if it cannot be told. */
static __always_inline __u64 call_unit(const struct pt_layout *layout, __u64 frame, __u64 code)
{
	__u64 at;

	if (layout->code_adaptive != PT_NO_FIELD) {
		at = user_u64(frame + layout->frame_instr) - code - layout->code_adaptive;
		return at >> 1;
	}
	at = user_u32(frame + layout->frame_instr);
	/* 3.8 and 3.9 count bytes (f_lasti, Include/frameobject.h) */
	return layout->version < 0x030a0000 ? at >> 1 : at;
}

static __always_inline int put_call(struct thread *t, __u32 unit, __u32 id, __u64 now)
{
	__u32 n;

	/* before the enter would do it: the two go together */
	if (unlikely(now - t->head.base_ns > batch_ns_max))
		batch_flush(now, 0);
	n = t->head.word_count;
	opaque(n);
	if (n > PT_BATCH_WORDS - 8)
		return 0;
	t->words[n] = PT_WORD(PT_W_LINE, unit, id);
	t->ext_words += 1;
	t->head.word_count = n + 1;
	return 1;
}

/* Says where the call stands that entered `frame`, unless it has no caller or its place cannot be
 * told; the enter's word follows. */
__noinline int call_put(__u64 frame, __u32 layout_index, __u64 now)
{
	const struct pt_layout *layout = &image_at(layout_index)->layout;
	struct thread *t = thread_get();
	__u64 id_flags, code, unit;
	const struct near_code *near;
	int i;

	if (!t)
		return 0;
	for (i = 0; i <= CALL_HIDDEN_MAX; i++) {
		frame = user_u64(frame + layout->frame_back);
		if (!frame)
			return 0;
		if (frame_owner_hidden(layout, frame))
			continue;
		code = user_u64(frame + layout->frame_code) & ~(__u64)layout->frame_code_mask;
		near = near_slot(t, code);
		if (near->addr == code && t->near_valid == near_codes(t))
			id_flags = near->id | (__u64)near->flags << 32;
		else
			id_flags = code_lookup(code, layout_index, now);
		if (id_flags >> 32 & PT_CO_SHIM)
			continue;
		unit = call_unit(layout, frame, code);
		if (unit > PT_WORD_ARG_MASK || !(__u32)id_flags)
			return 0;
		return put_call(t, unit, (__u32)id_flags, now);
	}
	return 0;
}

#endif /* PT_BPF_CALL_H */
