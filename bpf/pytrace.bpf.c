// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * pytrace.bpf.c - the programs. Each subject stands in its own header; together they make one
 * object, so that there is one set of maps.
 *
 *   common.h   small tools
 *   maps.h     maps, constants, struct thread
 *   regs.h     registers and conditions
 *   thread.h   finding the thread's state
 *   brief.h    short calls
 *   emit.h     records and batches
 *   lines.h    line tables
 *   trigger.h  names by which recording starts and ends
 *   code.h     code objects and their names
 *   call.h     where calls stand
 *   async.h    coroutines and the tasks that they are
 *   frame.h    walks and snapshots
 *   process.h  who is traced; fork, exec, exit
 *   runtime.h  what is no Python frame: garbage collections, waits for the GIL ..
 *   values.h   arguments and results of chosen calls
 *   site.h     what happens at a probe
 *   paused.h   what happens there while recording is paused
 *   cfunc.h    calls of C functions
 *   method.h   C functions that are probed at themselves
 *   stack.h    the stacks of chosen calls
 *   cuda.h     calls of CUDA functions
 *   torch.h    calls of PyTorch's operators
 *   block.h    memory of PyTorch's allocators
 *   mark.h     probes of the user's
 *   peek.h     copies of half-full batches
 *   sched.h    what the scheduler does with a thread
 *   native.h   the native frames of that
 *   sample.h   what threads run when a clock ticks
 *   offcpu.h   how long they are blocked, and where
 */
#include "block.h"
#include "cfunc.h"
#include "cuda.h"
#include "mark.h"
#include "method.h"
#include "offcpu.h"
#include "peek.h"
#include "process.h"
#include "site.h"
#include "torch.h"

SEC("uprobe")
int pt_site(struct pt_regs *ctx)
{
	return site_hit(ctx);
}

SEC("uprobe.multi")
int pt_site_multi(struct pt_regs *ctx)
{
	return site_hit(ctx);
}

SEC("uprobe")
int pt_c_site(struct pt_regs *ctx)
{
	return c_hit(ctx);
}

SEC("uprobe.multi")
int pt_c_site_multi(struct pt_regs *ctx)
{
	return c_hit(ctx);
}

SEC("uprobe.multi")
int pt_method(struct pt_regs *ctx)
{
	return method_hit(ctx);
}

SEC("uprobe.multi")
int pt_cuda_enter(struct pt_regs *ctx)
{
	return cuda_enter(ctx);
}

SEC("uretprobe.multi")
int pt_cuda_leave(struct pt_regs *ctx)
{
	return cuda_leave(ctx);
}

SEC("uprobe.multi")
int pt_torch_enter(struct pt_regs *ctx)
{
	return torch_enter(ctx);
}

SEC("uprobe.multi")
int pt_torch_leave(struct pt_regs *ctx)
{
	return torch_leave(ctx);
}

SEC("uprobe.multi")
int pt_block(struct pt_regs *ctx)
{
	return block_hit(ctx);
}

SEC("uprobe")
int pt_mark(struct pt_regs *ctx)
{
	return mark_hit(ctx);
}

SEC("uretprobe")
int pt_mark_end(struct pt_regs *ctx)
{
	return mark_end(ctx);
}

/* What the trap alone costs: the benchmark attaches these to the same sites. */
SEC("uprobe")
int pt_empty(struct pt_regs *ctx)
{
	return 0;
}

SEC("uprobe.multi")
int pt_empty_multi(struct pt_regs *ctx)
{
	return 0;
}

SEC("tp_btf/sched_process_fork")
int pt_fork(__u64 *ctx)
{
	return process_fork((struct task_struct *)ctx[0], (struct task_struct *)ctx[1]);
}

SEC("tp_btf/sched_process_exec")
int pt_exec(__u64 *ctx)
{
	return process_exec((struct task_struct *)ctx[0], (__u32)ctx[1]);
}

SEC("tp_btf/sched_process_exit")
int pt_exit(__u64 *ctx)
{
	return process_exit((struct task_struct *)ctx[0]);
}

/* Since tracepoints leave preemption on (Linux 7), the kernel does not run a program for a task if
 * it is interrupted on that processor while it runs for another one (prog->active,
 * kernel/trace/bpf_trace.c): the last events of a thread would be gone, without a word. So there
 * are two programs. The second one finds nothing to do, unless the first was not run; of 300 ends
 * of threads in the slowest guest of tests/vm that were 2. Forks and execs that are missed so are
 * counted. */
SEC("tp_btf/sched_process_exit")
int pt_exit_again(__u64 *ctx)
{
	return process_exit((struct task_struct *)ctx[0]);
}

SEC("tp_btf/sched_switch")
int pt_switch(__u64 *ctx)
{
	return sched_switched((bool)ctx[0], (struct task_struct *)ctx[1],
			      (struct task_struct *)ctx[2]);
}

SEC("tp_btf/sched_wakeup")
int pt_wakeup(__u64 *ctx)
{
	return sched_woken((struct task_struct *)ctx[0]);
}

SEC("perf_event")
int pt_sample(void *ctx)
{
	return sample_take();
}

SEC("tp_btf/sched_switch")
int pt_off_cpu(__u64 *ctx)
{
	return off_cpu_switched((bool)ctx[0], (struct task_struct *)ctx[1],
				(struct task_struct *)ctx[2]);
}

SEC("iter/task")
int pt_peek(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task;

	if (task)
		peek_task(task);
	return 0;
}

/* The helpers used are for GPL-compatible programs. */
char _license[] SEC("license") = "Dual BSD/GPL";
