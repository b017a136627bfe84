/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * native.h - the native frames of samples (--native).
 *
 * As with --stacks (stack.h), whose record and whose user space this is: the registers that the
 * thread had in user mode and a piece of its stack are sent, with the Python frames that sample.h
 * finds on its way and the marks that tell where among the native ones they belong. The sample
 * comes behind it and has its number. All that is per CPU here, as in sample.h.
 *
 * Cost: a copy of up to PT_RAW_STACK_BYTES_MAX a sample, into the ring buffer.
 */
#ifndef PT_BPF_NATIVE_H
#define PT_BPF_NATIVE_H

#include "sched.h"
#include "stack.h"

#define NATIVE_NO_PLACE (0xffffffffu >> 1) /* of a word; bit 63 is that of marks */

const volatile bool want_native;

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct stack_state);
} native_stacks SEC(".maps");

static __always_inline struct stack_state *native_get(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&native_stacks, &zero);
}

/* A stack's number: a thread has no two within a microsecond. */
static __always_inline __u32 native_serial(__u64 now)
{
	return (__u32)(now >> 10) | 1;
}

/* No Python frames yet. */
static __always_inline void native_reset(void)
{
	struct stack_state *n = native_get();

	if (!n)
		return;
	n->raw.flags = PT_RAW_SAMPLE;
	n->raw.python_count = 0;
	n->raw.return_count = 0;
}

/* They follow. */
static __always_inline void native_python(const struct pt_layout *layout, __u64 tstate)
{
	struct stack_state *n = native_get();

	if (!n)
		return;
	n->raw.objects = layout->version < 0x030b0000;
	n->cframe = user_u64(tstate + layout->ts_frame);
}

/* One that the interpreter hides: what lies there belongs to a run of its loop. */
static __always_inline void native_hidden(__u64 frame)
{
	struct stack_state *n = native_get();

	if (n)
		stack_push(n, PT_RAW_MARK | frame);
}

/* code_id 0: the trace does not show it. */
static __always_inline void native_frame(const struct pt_layout *layout, __u64 frame, __u32 code_id)
{
	struct stack_state *n = native_get();

	if (!n)
		return;
	if (code_id)
		stack_push(n, code_id | (__u64)NATIVE_NO_PLACE << 32);
	stack_mark(n, layout, frame);
}

/* What the thread had in user mode; false: that is not known. */
static __always_inline bool native_regs(struct stack_state *n, __u64 regs)
{
#if defined(__TARGET_ARCH_x86)
	static const __u8 at[PT_RAW_REGS] = {
	    [PT_RAW_IP] = offsetof(struct pt_regs, ip),
	    [PT_RAW_SP] = offsetof(struct pt_regs, sp),
	    [PT_RAW_BP] = offsetof(struct pt_regs, bp),
	    [PT_RAW_BX] = offsetof(struct pt_regs, bx),
	    [PT_RAW_R12] = offsetof(struct pt_regs, r12),
	    [PT_RAW_R12 + 1] = offsetof(struct pt_regs, r13),
	    [PT_RAW_R12 + 2] = offsetof(struct pt_regs, r14),
	    [PT_RAW_R12 + 3] = offsetof(struct pt_regs, r15),
	};
	int i;

	if (!regs)
		return false;
#pragma unroll
	for (i = 0; i < PT_RAW_REGS; i++)
		if (bpf_probe_read_kernel(&n->raw.regs[i], 8, (void *)(regs + at[i])))
			return false;
	return true;
#else
	return false;
#endif
}

/* All but the piece of the stack; NULL: the registers are not known. torn: the Python frames that
 * were found are not to be trusted. */
static __always_inline struct stack_state *
native_fill(struct task_struct *task, __u64 id, __u32 image_id, __u32 serial, bool torn, __u64 now)
{
	struct stack_state *n = native_get();
	__u64 regs;

	if (use_task_regs)
		regs = sched_regs_checked((__u64)bpf_task_pt_regs(bpf_get_current_task_btf()));
	else
		regs = sched_regs_old((__u64)BPF_CORE_READ(task, stack));
	if (!n || !native_regs(n, regs))
		return NULL;
	rec_init(&n->raw.hdr, PT_REC_CALL_STACK, 0, id, image_id, now);
	n->raw.hdr.flags = PT_RF_RAW;
	n->raw.serial = serial;
	if (torn) {
		n->raw.python_count = 0;
		n->raw.flags |= PT_RAW_PYTHON_UNKNOWN;
	}
	n->raw.start_stack = BPF_CORE_READ(task, mm, start_stack);
	n->raw.exec_pages = BPF_CORE_READ(task, mm, exec_vm) -
			    (BPF_CORE_READ(task, mm, uprobes_state.xol_area) ? 1 : 0);
	stack_returns(n, task);
	return n;
}

static __always_inline bool native_has_room(void)
{
	return bpf_ringbuf_query(&ring, BPF_RB_AVAIL_DATA) <= stacks_ring_bytes;
}

/* Sends the stack of the current thread under that number. */
static __always_inline void native_send(struct task_struct *task, __u64 id, __u32 image_id,
					__u32 serial, bool torn, __u64 now)
{
	struct stack_state *n = NULL;

	if (native_has_room())
		n = native_fill(task, id, image_id, serial, torn, now);
	if (!n || stack_send_fitting(n, n->raw.regs[PT_RAW_SP] - PT_RAW_RED_ZONE))
		count_add(&counters.stacks_missed, 1);
}

#endif /* PT_BPF_NATIVE_H */
