/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * vmlinux.h - the kernel types that the BPF programs use; see README.md.
 */
#ifndef PT_VMLINUX_H
#define PT_VMLINUX_H

typedef signed char __s8;
typedef unsigned char __u8;
typedef short __s16;
typedef unsigned short __u16;
typedef int __s32;
typedef unsigned int __u32;
typedef long long __s64;
typedef unsigned long long __u64;
typedef __u16 __be16;
typedef __u32 __be32;
typedef __u32 __wsum;
typedef _Bool bool;

#define true 1
#define false 0
#define NULL ((void *)0)

/* include/uapi/linux/bpf.h; the numbers are ABI. */
enum bpf_map_type {
	BPF_MAP_TYPE_HASH = 1,
	BPF_MAP_TYPE_ARRAY = 2,
	BPF_MAP_TYPE_PERCPU_ARRAY = 6,
	BPF_MAP_TYPE_LRU_HASH = 9,
	BPF_MAP_TYPE_LPM_TRIE = 11,
	BPF_MAP_TYPE_QUEUE = 22,
	BPF_MAP_TYPE_RINGBUF = 27,
	BPF_MAP_TYPE_TASK_STORAGE = 29,
};

enum {
	BPF_ANY = 0,
	BPF_NOEXIST = 1,
	BPF_EXIST = 2,
};

enum {
	BPF_F_NO_PREALLOC = 1,
};

enum {
	BPF_LOCAL_STORAGE_GET_F_CREATE = 1,
};

enum {
	BPF_RB_NO_WAKEUP = 1,
	BPF_RB_FORCE_WAKEUP = 2,
};

enum {
	BPF_RB_AVAIL_DATA = 0,
};

/* What a uprobe program gets; ABI. arch/x86/include/asm/ptrace.h, and struct user_pt_regs in
 * arch/arm64/include/uapi/asm/ptrace.h */
#if defined(__TARGET_ARCH_x86)
struct pt_regs {
	unsigned long r15, r14, r13, r12, bp, bx;
	unsigned long r11, r10, r9, r8, ax, cx, dx, si, di;
	unsigned long orig_ax, ip, cs, flags, sp, ss;
};
#elif defined(__TARGET_ARCH_arm64)
struct pt_regs {
	__u64 regs[31], sp, pc, pstate;
};
#else
#error "the BPF programs know the registers of x86-64 and arm64 only"
#endif

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

/* include/linux/pid.h */
struct upid {
	int nr;
};

struct pid {
	unsigned int level;
	struct upid numbers[1];
};

/* include/linux/sched/signal.h */
typedef struct {
	int counter;
} atomic_t;

struct signal_struct {
	atomic_t live;
	int group_exit_code;
};

/* include/linux/uprobes.h */
struct return_instance {
	unsigned long stack;
	unsigned long orig_ret_vaddr;
	struct return_instance *next;
};

struct uprobe_task {
	struct return_instance *return_instances;
};

struct xol_area;

struct uprobes_state {
	struct xol_area *xol_area;
};

/* include/linux/mm_types.h */
struct mm_struct {
	struct uprobes_state uprobes_state;
	unsigned long exec_vm;
	unsigned long start_stack;
	unsigned long arg_start, arg_end; /* the command line, in the process */
};

#if defined(__TARGET_ARCH_x86)
/* arch/x86/include/asm/processor.h */
struct thread_struct {
	unsigned long fsbase;
};
#endif

/* include/linux/sched.h */
struct task_struct {
	int pid;
	int tgid;
	int exit_code;
	__u64 start_time;
	unsigned int flags; /* PF_* */
	struct task_struct *group_leader;
	struct pid *thread_pid;
	struct mm_struct *mm;
	struct signal_struct *signal;
	char comm[16];
	void *stack;
	struct uprobe_task *utask;
	unsigned int __state; /* 5.14+ */
	unsigned int in_iowait : 1;
	unsigned long nvcsw, nivcsw; /* switches from it, of its own will and not */
#if defined(__TARGET_ARCH_x86)
	struct thread_struct thread;
#endif
};

/* until 5.14 */
struct task_struct___old {
	long state;
};

/* kernel/bpf/task_iter.c */
struct bpf_iter__task {
	struct task_struct *task;
};

#pragma clang attribute pop

#endif /* PT_VMLINUX_H */
