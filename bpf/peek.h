/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * peek.h - copies half-full batches of threads that sleep, without disturbing their owners.
 *
 * The owner may wake up and go on at any time, on another CPU. What was published (the first
 * word_count words) does not change until the batch is flushed, which changes seq first: so a copy
 * is good if seq is the same before and after. One exception: the last word may still be turned
 * into three (the same-frame repair of site.h), at once after it was written. Hence the copy is
 * taken only if the last event is older than user space asks for, and before the end without a
 * last word that is an enter, unless that has been there for a second: it is where a thread that
 * hangs does so. Should it be turned into three all the same, the reader knows (skip_seen(),
 * user/model/thread.c).
 *
 * At the end a thread that ran during a pause and not since gets the mark of it appended to its
 * copy; should the thread exit before the copy is taken, its own batch has the mark at that place.
 */
#ifndef PT_BPF_PEEK_H
#define PT_BPF_PEEK_H

#include "process.h"

/* No thread is kept from its next instructions for so long, or nearly none. */
#define PEEK_ENTER_RESTS_NS 1000000000ull

static __always_inline struct thread *thread_of(struct task_struct *task)
{
	__u32 tid;

	if (use_task_storage)
		return bpf_task_storage_get(&threads, task, NULL, 0);
	tid = task->pid;
	return bpf_map_lookup_elem(&threads_by_tid, &tid);
}

/* A pause that the reader must be told of, and that its thread will hardly tell. */
static __always_inline bool peek_pause(const struct thread *t)
{
	return t->pause_from && !gate_recording();
}

static __always_inline void peek_send(struct thread *t, struct page *page, __u64 now)
{
	__u32 words = page->head.word_count, ext = t->ext_words;
	__u64 mark;

	if (gate_recording() && t->last_ns + PEEK_ENTER_RESTS_NS > now && words > 0 &&
	    words <= PT_BATCH_WORDS && words == t->head.word_count) {
		__u32 last = words - 1;

		opaque(last);
		if (last < PT_BATCH_WORDS && PT_WORD_KIND(page->words[last]) == PT_W_ENTER)
			words--;
	}
	opaque(words);
	if (peek_pause(t) && words <= PT_BATCH_WORDS - 4) {
		__u64 dt = now - page->head.base_ns;

		paused_words(&page->words[words], t, dt > PT_WORD_TIME_MAX ? PT_WORD_TIME_MAX : dt);
		words += 4;
		ext += 4;
	}
	opaque(words);
	if (words == 0 || words > PT_BATCH_WORDS || ext > words)
		return;
	mark = (__u64)page->head.seq << 32 | words;
	if (t->peeked == mark)
		return; /* nothing new since the last copy */
	rec_init(&page->head.hdr, PT_REC_BATCH, sizeof(page->head) + 8 * words, t->pid_tgid,
		 t->image_id, now);
	page->head.hdr.flags = PT_RF_PEEK;
	page->head.word_count = words;
	page->head.events = words - ext;
	if (bpf_ringbuf_output(&ring, page, sizeof(page->head) + 8 * words, BPF_RB_NO_WAKEUP)) {
		count_add(&counters.peek_failed, 1);
		return;
	}
	t->peeked = mark;
}

/* Words of the batch that began then stay where they are in this run. */
static __always_inline int peek_left(__u64 base_ns)
{
	if (!counters.peek_left_ns || base_ns < counters.peek_left_ns)
		counters.peek_left_ns = base_ns;
	return 0;
}

static __always_inline int peek_task(struct task_struct *task)
{
	__u64 now = bpf_ktime_get_ns(), base_ns;
	__u32 zero = 0, words, seq;
	struct thread *t;
	struct page *page;

	t = thread_of(task);
	page = bpf_map_lookup_elem(&peek_page, &zero);
	if (!t || !page || !t->image_id)
		return 0;
	seq = t->head.seq;
	words = t->head.word_count;
	if (words == 0 && t->lost == 0 && !peek_pause(t))
		return 0;
	count_add(&counters.peek_pending, words - t->ext_words + t->lost);
	base_ns = *(volatile __u64 *)&t->head.base_ns;
	if (t->last_ns >= control.peek_older_ns)
		return words ? peek_left(base_ns) : 0;
	opaque(words);
	if (words > PT_BATCH_WORDS || (words == 0 && !peek_pause(t)))
		return 0;
	if (bpf_probe_read_kernel(&page->head, sizeof(page->head), &t->head) ||
	    bpf_probe_read_kernel(page->words, 8 * words, t->words))
		return peek_left(base_ns);
	page->head.seq = seq;
	page->head.word_count = words;
	BPF_CORE_READ_INTO(&page->head.comm, task, comm);
	asm volatile("" ::: "memory");
	if (*(volatile __u32 *)&t->head.seq != seq)
		return peek_left(base_ns);
	peek_send(t, page, now);
	return 0;
}

#endif /* PT_BPF_PEEK_H */
