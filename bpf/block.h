/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * block.h - what PyTorch's allocators give out and take back (--torch-memory): a program of its
 * own, loaded only if it is wanted.
 *
 * The functions are called when that has been done, with all that there is to say in their
 * arguments (user/cuda/torch_memory.h); so one probe at the entry does, and none is needed at a
 * return.
 *
 * Cost: a call takes the clock twice and the thread's state once, besides its stack.
 */
#ifndef PT_BPF_BLOCK_H
#define PT_BPF_BLOCK_H

#include "cuda.h"

#define BLOCK_WORDS       4
/* c10/core/DeviceType.h; ROCm's devices call themselves so, too */
#define BLOCK_DEVICE_CUDA 1

static __always_inline int block_hit(struct pt_regs *ctx)
{
	__u32 gate = *(volatile __u32 *)&control.gate, what, device = 0, stack, n;
	__u64 address, bytes, now;
	struct thread *t;

	if (gate != PT_GATE_OPEN)
		return 0;
	t = thread_traced();
	if (!t || trigger_silent(t))
		return 0;
	what = bpf_get_attach_cookie(ctx);
	/* the first argument of a method is its object */
	address = REGS_ARG1(ctx);
	bytes = what == PT_BLOCK_HOST_DELETE ? 0 : REGS_ARG2(ctx);
	if (what == PT_BLOCK_DEVICE) {
		address = REGS_ARG0(ctx);
		bytes = REGS_ARG1(ctx);
		/* a c10::Device: type and number, a byte each. Of the host the others tell. */
		device = (__u32)REGS_ARG4(ctx);
		if ((device & 0xff) != BLOCK_DEVICE_CUDA)
			return 0;
		device = device >> 8 & 0xff;
	}
	stack = use_stacks ? stack_take(ctx, t) : 0;
	now = bpf_ktime_get_ns();
	n = cuda_place(t, now);
	if (n > CUDA_ROOM) {
		count_add(&counters.lost_records, 1);
		return 0;
	}
	if (stack) {
		stack_word(t, n, stack, now);
		n += 2;
	}
	t->words[n + 1] = address;
	t->words[n + 2] = bytes;
	cuda_finish(t, PT_X_BLOCK, n, BLOCK_WORDS,
		    (__u64)PT_BLOCK_DESC(what, device) << PT_RT_SHIFT, now);
	return 0;
}

#endif /* PT_BPF_BLOCK_H */
