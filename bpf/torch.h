/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * torch.h - calls of PyTorch's operators (--torch): programs of their own, loaded only if wanted.
 *
 * They are told by the same words as calls of CUDA functions, with levels of their own. A call ends
 * where its code says so (user/cuda/torch.h), never by a return probe; the probe there knows how
 * far the stack pointer is below its value at the entry, which tells the call it belongs to. Calls
 * that an exception left without our notice are forgotten at the next entry or end above them.
 *
 * Cost: a call takes the clock twice, the thread's two states twice, and reads nothing of the
 * user's.
 */
#ifndef PT_BPF_TORCH_H
#define PT_BPF_TORCH_H

#include "cuda.h"

/* Operators that are open at once, in one thread; seen: 8. */
#define TORCH_OPEN_MAX 64

struct torch_call {
	__u64 sp;
	__u32 fn;
	__u32 sent; /* its begin was */
};

struct torch_thread {
	__u32 image_id;
	__u32 count;
	struct torch_call calls[TORCH_OPEN_MAX];
};

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct torch_thread);
} torch_threads SEC(".maps");

static __always_inline struct torch_thread *torch_thread_get(const struct thread *t, bool make)
{
	struct torch_thread *c;

	c = bpf_task_storage_get(&torch_threads, bpf_get_current_task_btf(), NULL,
				 make ? BPF_LOCAL_STORAGE_GET_F_CREATE : 0);
	if (c && c->image_id != t->image_id) {
		c->image_id = t->image_id;
		c->count = 0;
	}
	return c;
}

/* As cuda_settle(). */
static __always_inline __u32 torch_settle(struct torch_thread *c, __u64 sp)
{
	__u32 n = c->count;
	int i;

	for (i = 0; i < TORCH_OPEN_MAX && n > 0; i++) {
		__u32 top = n - 1;

		opaque(top);
		if (top >= TORCH_OPEN_MAX || c->calls[top].sp >= sp)
			break;
		n = top;
	}
	c->count = n;
	return n;
}

/* Puts a begin or an end into the batch; non-zero: there was no place. */
static __always_inline int torch_put(struct thread *t, __u32 type, __u32 fn, __u32 level)
{
	__u64 now = bpf_ktime_get_ns();
	__u32 n = cuda_place(t, now);

	if (n > CUDA_ROOM)
		return 1;
	cuda_finish(t, type, n, 2, PT_CUDA_DESC(fn, level, 0), now);
	return 0;
}

static __always_inline int torch_enter(struct pt_regs *ctx)
{
	__u32 gate = *(volatile __u32 *)&control.gate, n;
	struct torch_thread *c;
	struct torch_call *call;
	struct thread *t;
	__u64 cookie, sp = REGS_SP(ctx);

	if (gate != PT_GATE_OPEN && gate != PT_GATE_PAUSED)
		return 0;
	t = thread_traced();
	if (!t)
		return 0;
	cookie = bpf_get_attach_cookie(ctx);
	c = torch_thread_get(t, true);
	n = c ? torch_settle(c, sp + 1) : TORCH_OPEN_MAX;
	opaque(n);
	if (!c || n >= TORCH_OPEN_MAX) {
		count_add(&counters.torch_missed, 1);
		return 0;
	}
	call = &c->calls[n];
	call->sp = sp;
	call->fn = PT_CUDA_COOKIE_FN(cookie);
	call->sent = 0;
	c->count = n + 1;
	if (gate != PT_GATE_OPEN || trigger_silent(t))
		return 0;
	if (torch_put(t, PT_X_CUDA_BEGIN, call->fn, n))
		count_add(&counters.torch_missed, 1);
	else
		call->sent = 1;
	return 0;
}

/* Is it this call that ends with the stack pointer there? */
static __always_inline bool torch_is_call(const struct torch_call *call, __u64 sp, __u64 cookie)
{
	__u64 distance = call->sp - sp;

	if (call->fn != PT_CUDA_COOKIE_FN(cookie))
		return false;
	return PT_TORCH_COOKIE_AT_MOST(cookie) ? distance <= PT_TORCH_COOKIE_DISTANCE(cookie)
					       : distance == PT_TORCH_COOKIE_DISTANCE(cookie);
}

static __always_inline int torch_leave(struct pt_regs *ctx)
{
	__u32 gate = *(volatile __u32 *)&control.gate, top;
	__u64 cookie, sp = REGS_SP(ctx);
	struct torch_thread *c;
	struct thread *t;

	if (gate != PT_GATE_OPEN && gate != PT_GATE_PAUSED)
		return 0;
	t = thread_traced();
	if (!t)
		return 0;
	c = torch_thread_get(t, false);
	if (!c || !c->count)
		return 0;
	cookie = bpf_get_attach_cookie(ctx);
	top = torch_settle(c, sp) - 1;
	opaque(top);
	if (top >= TORCH_OPEN_MAX || !torch_is_call(&c->calls[top], sp, cookie))
		return 0;
	c->count = top;
	if (!c->calls[top].sent)
		return 0;
	if (gate == PT_GATE_PAUSED)
		cuda_ended_paused(t);
	else if (!trigger_silent(t) && torch_put(t, PT_X_CUDA_END, c->calls[top].fn, top))
		count_add(&counters.torch_missed, 1);
	return 0;
}

#endif /* PT_BPF_TORCH_H */
