/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * cuda.h - calls of CUDA functions: programs of their own, loaded only if they are wanted.
 *
 * One program serves all functions: the cookie says which one it is and what of its arguments to
 * take (PT_CUDA_COOKIE). They go into the thread's batch as they lie in registers and memory; what
 * they mean is known to whoever reads them. The call and its return belong together by the stack
 * pointer. What is called while another CUDA function is open belongs to that one and is passed
 * over, unless cuda_nested; so the driver calls of a runtime call are not counted twice. NCCL is a
 * layer above: what it calls of CUDA is no part of its call.
 *
 * A thread need not run Python: these events need neither its depth nor its frames.
 * Cost: a call and its return take the clock twice, the thread's two states twice, and one user
 * read for what lies on the stack, for a block, and for each value given back.
 */
#ifndef PT_BPF_CUDA_H
#define PT_BPF_CUDA_H

#include "paused.h"
#include "stack.h"

/* Calls of CUDA functions that are open at once, in one thread. */
#define CUDA_OPEN_MAX 16
/* Words of an item with its PT_X_STACK, and what the iterator may add behind it (batch_limit) */
#define CUDA_ITEM_MAX (4 + PT_CUDA_IN_MAX)
#define CUDA_ROOM     (PT_BATCH_WORDS - CUDA_ITEM_MAX - 8)

struct cuda_call {
	__u64 sp;
	__u32 fn;
	__u16 sent;  /* its begin was */
	__u16 outer; /* a function of NCCL */
	__u64 out[PT_CUDA_OUT_MAX];
	__u64 load[3]; /* the first arguments, of a function that loads kernels */
};

struct cuda_thread {
	__u32 image_id;
	__u32 count;
	struct cuda_call calls[CUDA_OPEN_MAX];
};

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct cuda_thread);
} cuda_threads SEC(".maps");

static __always_inline struct cuda_thread *cuda_thread_get(const struct thread *t, bool make)
{
	struct cuda_thread *c;

	c = bpf_task_storage_get(&cuda_threads, bpf_get_current_task_btf(), NULL,
				 make ? BPF_LOCAL_STORAGE_GET_F_CREATE : 0);
	if (c && c->image_id != t->image_id) {
		c->image_id = t->image_id;
		c->count = 0;
	}
	return c;
}

/* Forgets calls that were left without our notice: those whose stack pointers are below this one.
 * Returns how many stay open. */
static __always_inline __u32 cuda_settle(struct cuda_thread *c, __u64 sp)
{
	__u32 n = c->count;
	int i;

	for (i = 0; i < CUDA_OPEN_MAX && n > 0; i++) {
		__u32 top = n - 1;

		opaque(top);
		if (top >= CUDA_OPEN_MAX || c->calls[top].sp >= sp)
			break;
		n = top;
	}
	c->count = n;
	return n;
}

/* Where the next item goes: at most CUDA_ROOM; more if there is no place for it. */
static __always_inline __u32 cuda_place(struct thread *t, __u64 now)
{
	__u32 n;

	if (t->pause_from)
		put_paused(t, now);
	n = t->head.word_count;
	if (n > batch_limit || n > CUDA_ROOM || now - t->head.base_ns > batch_ns_max) {
		batch_flush(now, 0);
		n = t->head.word_count;
	}
	opaque(n);
	return n;
}

/* The item's last word; words: with the first and with that one. */
static __always_inline void cuda_finish(struct thread *t, __u32 type, __u32 n, __u32 words,
					__u64 desc, __u64 now)
{
	__u32 last = n + words - 1;

	opaque(last);
	if (last >= PT_BATCH_WORDS)
		return;
	t->words[last] = desc;
	t->words[n] = PT_WORD(PT_W_EXT, PT_EXT_ARG(type, words - 1), now - t->head.base_ns);
	t->ext_words += words;
	t->head.word_count = n + words;
	brief_item(t);
	t->last_ns = now;
}

/* Copies words of the user's behind the n that there are. */
static __always_inline __u32 cuda_read(struct thread *t, __u32 n, __u32 words, __u64 addr)
{
	__u64 bytes = 8 * (__u64)words;

	opaque(n);
	if (n > PT_BATCH_WORDS - PT_CUDA_STACK_MAX)
		return n;
	/* a comparison of its own: 6.12 learns nothing of bytes from one that clang made of two */
	opaque(bytes);
	if (bytes > 8 * PT_CUDA_STACK_MAX)
		return n;
	bpf_probe_read_user(&t->words[n], bytes, (void *)addr);
	return n + words;
}
_Static_assert(PT_CUDA_STACK_MAX == PT_CUDA_BLOCK_MAX, "cuda_read");

/* Puts the call into the batch and keeps where it gives values back. */
static __always_inline int cuda_begin(struct pt_regs *ctx, struct thread *t, __u64 cookie,
				      struct cuda_call *call, __u32 level)
{
	__u32 stack = use_stacks && cookie & PT_CUDA_COOKIE_STACKS ? stack_take(ctx, t) : 0;
	__u64 now = bpf_ktime_get_ns(), args[8] = {}; /* eight: an index of three bits */
	__u32 n = cuda_place(t, now), end;

	if (n > CUDA_ROOM)
		return 1;
	if (stack) {
		stack_word(t, n, stack, now);
		n += 2;
	}
	args[0] = REGS_ARG0(ctx);
	args[1] = REGS_ARG1(ctx);
	args[2] = REGS_ARG2(ctx);
	args[3] = REGS_ARG3(ctx);
	args[4] = REGS_ARG4(ctx);
	args[5] = REGS_ARG5(ctx);
	call->out[0] = args[PT_CUDA_COOKIE_OUT(cookie, 0) & 7];
	call->out[1] = args[PT_CUDA_COOKIE_OUT(cookie, 1) & 7];
	/* those behind the last are overwritten */
	t->words[n + 1] = args[0];
	t->words[n + 2] = args[1];
	t->words[n + 3] = args[2];
	t->words[n + 4] = args[3];
	t->words[n + 5] = args[4];
	t->words[n + 6] = args[5];
	end = n + 1 + PT_CUDA_COOKIE_REGS(cookie);
	if (PT_CUDA_COOKIE_STACK(cookie))
		end = cuda_read(t, end, PT_CUDA_COOKIE_STACK(cookie), REGS_SP(ctx) + 8);
	if (PT_CUDA_COOKIE_WORDS(cookie))
		end = cuda_read(t, end, PT_CUDA_COOKIE_WORDS(cookie),
				args[PT_CUDA_COOKIE_SLOT(cookie)] + PT_CUDA_COOKIE_OFFSET(cookie));
	cuda_finish(t, PT_X_CUDA_BEGIN, n, end + 1 - n,
		    PT_CUDA_DESC(PT_CUDA_COOKIE_FN(cookie), level, 0), now);
	return 0;
}

/* ---- kernels that the driver loads ---- */

/* The process's names for handles are void from now on. */
static __noinline int cuda_unloading(__u32 what, __u64 owner)
{
	__u64 now = bpf_ktime_get_ns();
	struct pt_rec_cuda_loaded *rec;
	struct thread *t = thread_get();

	if (!t)
		return 0;
	rec = bpf_ringbuf_reserve(&ring, sizeof(*rec), 0);
	if (!rec) {
		count_add(&counters.lost_records, 1);
		return 0;
	}
	rec_init(&rec->hdr, PT_REC_CUDA_LOADED, sizeof(*rec), t->pid_tgid, t->image_id, now);
	rec->handle = 0;
	rec->owner = owner;
	rec->what = what;
	rec->text_bytes = 0;
	bpf_ringbuf_submit(rec, wake_flag());
	return 0;
}

/* A function that gives back a handle has done so: at once, not by way of a batch, since another
 * thread may launch it. */
static __noinline int cuda_loaded(__u32 what, __u64 handle_at, __u64 owner, __u64 name)
{
	__u64 now = bpf_ktime_get_ns(), handle = 0;
	struct pt_rec_cuda_loaded *rec;
	struct thread *t = thread_get();
	long bytes = 0;

	if (!t || bpf_probe_read_user(&handle, sizeof(handle), (const void *)handle_at))
		return 0;
	rec = bpf_ringbuf_reserve(&ring, sizeof(*rec), 0);
	if (!rec) {
		count_add(&counters.lost_records, 1);
		return 0;
	}
	if (what == PT_CUDA_LOAD_NAMED)
		bytes = bpf_probe_read_user_str(rec->text, sizeof(rec->text), (const void *)name);
	if (bytes < 0) {
		bpf_ringbuf_discard(rec, 0);
		return 0;
	}
	rec_init(&rec->hdr, PT_REC_CUDA_LOADED, sizeof(*rec), t->pid_tgid, t->image_id, now);
	rec->handle = handle;
	rec->owner = owner;
	rec->what = what;
	rec->text_bytes = bytes;
	bpf_ringbuf_submit(rec, wake_flag());
	return 0;
}

static __always_inline void cuda_load_begin(struct pt_regs *ctx, __u32 load, struct cuda_call *call)
{
	call->load[0] = REGS_ARG0(ctx);
	call->load[1] = REGS_ARG1(ctx);
	call->load[2] = REGS_ARG2(ctx);
	if (load >= PT_CUDA_LOAD_GONE)
		cuda_unloading(load, call->load[0]);
}

/* Is this a call that a function of NCCL makes of CUDA? n: the calls that are open. */
static __always_inline bool cuda_in_outer(const struct cuda_thread *c, __u32 n, __u64 cookie)
{
	__u32 top = n - 1;

	opaque(top);
	return top < CUDA_OPEN_MAX && c->calls[top].outer && !(cookie & PT_CUDA_COOKIE_OUTER);
}

/* libcudnn.so jumps to the function of the same name in one of its other libraries: one call. */
static __always_inline bool cuda_jumped(const struct cuda_thread *c, __u64 cookie, __u64 sp)
{
	__u32 top = c->count - 1;

	opaque(top);
	return top < CUDA_OPEN_MAX && c->calls[top].outer && c->calls[top].sp == sp &&
	       c->calls[top].fn == PT_CUDA_COOKIE_FN(cookie);
}

static __always_inline int cuda_enter(struct pt_regs *ctx)
{
	__u32 gate = *(volatile __u32 *)&control.gate, n;
	__u64 cookie, sp = REGS_SP(ctx);
	struct cuda_thread *c;
	struct cuda_call *call;
	struct thread *t;

	if (gate != PT_GATE_OPEN && gate != PT_GATE_PAUSED)
		return 0;
	t = thread_traced();
	if (!t)
		return 0;
	cookie = bpf_get_attach_cookie(ctx);
	c = cuda_thread_get(t, true);
	if (!c) {
		count_add(&counters.cuda_missed, 1);
		return 0;
	}
	if (cookie & PT_CUDA_COOKIE_OUTER && cuda_jumped(c, cookie, sp))
		return 0;
	n = cuda_settle(c, sp + 1);
	if (n && !cuda_nested && !cuda_in_outer(c, n, cookie))
		return 0;
	opaque(n);
	if (n >= CUDA_OPEN_MAX) {
		count_add(&counters.cuda_missed, 1);
		return 0;
	}
	call = &c->calls[n];
	call->sp = sp;
	call->fn = PT_CUDA_COOKIE_FN(cookie);
	call->sent = 0;
	call->outer = cookie & PT_CUDA_COOKIE_OUTER ? 1 : 0;
	c->count = n + 1;
	if (PT_CUDA_COOKIE_LOAD(cookie))
		cuda_load_begin(ctx, PT_CUDA_COOKIE_LOAD(cookie), call);
	if (gate != PT_GATE_OPEN || trigger_silent(t))
		return 0;
	if (cuda_begin(ctx, t, cookie, call, n))
		count_add(&counters.cuda_missed, 1);
	else
		call->sent = 1;
	return 0;
}

/* Reads what a call has given back, behind the n words that there are. */
static __always_inline __u32 cuda_out(struct thread *t, __u32 n, __u32 how, __u64 addr)
{
	__u64 value = 0;

	if ((how & 7) == PT_CUDA_OUT_NONE)
		return n;
	if (addr && how & 8)
		bpf_probe_read_user(&value, 8, (void *)addr);
	else if (addr)
		bpf_probe_read_user(&value, 4, (void *)addr);
	opaque(n);
	if (n >= PT_BATCH_WORDS)
		return n;
	t->words[n] = value;
	return n + 1;
}

static __always_inline void cuda_end(struct pt_regs *ctx, struct thread *t, __u64 cookie,
				     const struct cuda_call *call, __u32 level)
{
	__u64 now = bpf_ktime_get_ns();
	__u32 n = cuda_place(t, now), end = n + 1;

	if (n > CUDA_ROOM)
		return;
	end = cuda_out(t, end, PT_CUDA_COOKIE_OUT(cookie, 0), call->out[0]);
	end = cuda_out(t, end, PT_CUDA_COOKIE_OUT(cookie, 1), call->out[1]);
	cuda_finish(t, PT_X_CUDA_END, n, end + 1 - n, PT_CUDA_DESC(call->fn, level, REGS_RC(ctx)),
		    now);
}

/* A call that the reader knows of returns while recording is paused. */
static __always_inline void cuda_ended_paused(struct thread *t)
{
	paused_begin(t);
	if (!(t->attention & ATT_UNKNOWN))
		paused_keep(t, t->depth);
}

static __always_inline int cuda_leave(struct pt_regs *ctx)
{
	__u32 gate = *(volatile __u32 *)&control.gate, top, load;
	__u64 cookie, sp = REGS_SP(ctx) - 8; /* the return address is gone */
	struct cuda_thread *c;
	struct thread *t;

	if (gate != PT_GATE_OPEN && gate != PT_GATE_PAUSED)
		return 0;
	t = thread_traced();
	if (!t)
		return 0;
	c = cuda_thread_get(t, false);
	if (!c || !c->count)
		return 0;
	cookie = bpf_get_attach_cookie(ctx);
	top = cuda_settle(c, sp) - 1;
	opaque(top);
	if (top >= CUDA_OPEN_MAX || c->calls[top].sp != sp ||
	    c->calls[top].fn != PT_CUDA_COOKIE_FN(cookie))
		return 0;
	c->count = top;
	load = PT_CUDA_COOKIE_LOAD(cookie);
	if (load && load < PT_CUDA_LOAD_GONE && !(__u32)REGS_RC(ctx))
		cuda_loaded(load, c->calls[top].load[0], c->calls[top].load[1],
			    c->calls[top].load[2]);
	if (!c->calls[top].sent)
		return 0;
	if (gate == PT_GATE_PAUSED)
		cuda_ended_paused(t);
	else if (!trigger_silent(t))
		cuda_end(ctx, t, cookie, &c->calls[top], top);
	return 0;
}

#endif /* PT_BPF_CUDA_H */
