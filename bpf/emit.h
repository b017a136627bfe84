/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * emit.h - the way into the ring buffer: records, and the batch that each thread fills.
 *
 * Nobody is woken for a record; the reader polls. Only when much is pending is it woken at once.
 */
#ifndef PT_BPF_EMIT_H
#define PT_BPF_EMIT_H

#include "brief.h"

static __always_inline void rec_init(struct pt_rec *rec, __u16 kind, __u32 len, __u64 pid_tgid,
				     __u32 image_id, __u64 now)
{
	rec->kind = kind;
	rec->flags = 0;
	rec->len = len;
	rec->tgid = pid_tgid >> 32;
	rec->tid = (__u32)pid_tgid;
	rec->image_id = image_id;
	rec->reserved = 0;
	rec->time_ns = now;
}

static __always_inline __u64 wake_flag(void)
{
	if (bpf_ringbuf_query(&ring, BPF_RB_AVAIL_DATA) > wake_bytes)
		return BPF_RB_FORCE_WAKEUP;
	return BPF_RB_NO_WAKEUP;
}

/* A record that is not a batch. */
static __always_inline long rec_send(void *rec, __u64 size)
{
	long rc = bpf_ringbuf_output(&ring, rec, size, wake_flag());

	if (rc)
		count_add(&counters.lost_records, 1);
	return rc;
}

static __always_inline void batch_restart(struct thread *t, __u64 now)
{
	/* The iterator reads seq, word_count and the words, and then seq again: so a new seq never
	 * stands beside the old words' number, and seq changes before the words do. */
	t->head.word_count = 0;
	asm volatile("" ::: "memory");
	t->head.seq++;
	asm volatile("" ::: "memory");
	t->head.base_ns = now;
	t->head.depth = t->shown;
	t->head.events_before = t->events_total;
	t->ext_words = 0;
	brief_restart(t);
}

__noinline int batch_flush(__u64 now, __u32 rec_flags)
{
	struct thread *t = thread_get();
	__u32 words, events;
	long rc;

	if (!t || !t->image_id)
		return 0;
	words = t->head.word_count;
	opaque(words);
	if (words == 0 || words > PT_BATCH_WORDS) {
		t->head.base_ns = now;
		return 0;
	}
	events = words - t->ext_words;
	rec_init(&t->head.hdr, PT_REC_BATCH, sizeof(t->head) + 8 * words, t->pid_tgid, t->image_id,
		 now);
	t->head.hdr.flags = rec_flags;
	t->head.events = events;
	bpf_get_current_comm(t->head.comm, sizeof(t->head.comm));
	rc = bpf_ringbuf_output(&ring, &t->head, sizeof(t->head) + 8 * words, wake_flag());
	if (rc) {
		count_add(&counters.lost_events, events);
		/* words that are no events: it has to be seen that something is missing */
		if (!events)
			count_add(&counters.lost_records, 1);
		t->attention |= ATT_SNAP;
	}
	count_add(&counters.events, events + t->lost);
	count_add(&counters.batches, 1);
	t->events_total += events;
	t->lost = 0;
	batch_restart(t, now);
	if (max_events && counters.events >= max_events && control.gate == PT_GATE_OPEN)
		control.gate = PT_GATE_REACHED;
	return rc ? 1 : 0;
}

/* An event that cannot be recorded: it is counted, and the reader's stack is set right later. */
static __always_inline void event_drop(struct thread *t)
{
	t->events_total++;
	t->lost++;
	t->attention |= ATT_SNAP;
	t->last_frame = 0;
	count_add(&counters.lost_events, 1);
}

/*
 * Appends one extended item: a word and its one payload word. Both become visible to the iterator
 * at once. Returns 0, or 1 if the batch before it was lost.
 */
static __always_inline int put_ext(struct thread *t, __u64 now, __u32 type, __u64 payload)
{
	__u32 n = t->head.word_count;
	int lost = 0;

	if (n > batch_limit || now - t->head.base_ns > batch_ns_max) {
		lost = batch_flush(now, 0);
		n = t->head.word_count;
	}
	opaque(n);
	if (n > PT_BATCH_WORDS - 2)
		return 1;
	t->words[n] = PT_WORD(PT_W_EXT, PT_EXT_ARG(type, 1), now - t->head.base_ns);
	t->words[n + 1] = payload;
	t->ext_words += 2;
	t->head.word_count = n + 2;
	brief_item(t);
	return lost;
}

/* Recording goes on, also where it is paused for now. */
static __always_inline bool gate_recording(void)
{
	__u32 gate = *(volatile __u32 *)&control.gate;

	return gate == PT_GATE_OPEN || gate == PT_GATE_PAUSED;
}

/* The four words of PT_X_PAUSED. */
static __always_inline void paused_words(__u64 *words, const struct thread *t, __u64 dt)
{
	words[0] = PT_WORD(PT_W_EXT, PT_EXT_ARG(PT_X_PAUSED, 3), dt);
	words[1] = t->pause_kept;
	if (t->pause_c && t->pause_c == t->pause_kept)
		words[1] |= t->pause_c_count * PT_PAUSED_C_OVER;
	words[2] = t->pause_from;
	words[3] = control.gate == PT_GATE_PAUSED ? 0 : control.resume_ns;
}

/* Tells what a pause has left of the stack. A snapshot or the end of the thread follows. */
static __always_inline void put_paused(struct thread *t, __u64 now)
{
	__u32 n = t->head.word_count;

	if (n > batch_limit || now - t->head.base_ns > batch_ns_max) {
		batch_flush(now, 0);
		n = t->head.word_count;
	}
	opaque(n);
	if (n > PT_BATCH_WORDS - 4)
		return;
	paused_words(&t->words[n], t, now - t->head.base_ns);
	t->ext_words += 4;
	t->head.word_count = n + 4;
	brief_item(t);
	if (t->shown > t->pause_kept)
		t->shown = t->pause_kept;
	t->pause_from = 0;
}

static __always_inline void send_thread(struct thread *t, __u32 what, __u32 ns_tid, __u64 now)
{
	struct pt_rec_thread rec = {};

	rec_init(&rec.hdr, PT_REC_THREAD, sizeof(rec), t->pid_tgid, t->image_id, now);
	rec.what = what;
	rec.ns_tid = ns_tid;
	rec.events_total = t->events_total;
	bpf_get_current_comm(rec.comm, sizeof(rec.comm));
	rec_send(&rec, sizeof(rec));
}

#endif /* PT_BPF_EMIT_H */
