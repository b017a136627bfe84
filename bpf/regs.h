/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * regs.h - the user's registers by number, and the condition of a branch; per architecture.
 *
 * Context memory may only be read at constant offsets, so a register chosen at run time is a
 * switch; clang makes a balanced tree of it (four compares). The loads are spelled out, because
 * clang would otherwise merge them into one load at a computed offset.
 */
#ifndef PT_BPF_REGS_H
#define PT_BPF_REGS_H

#include "common.h"

#define REG_CASE(number, offset)                                                                   \
	case number:                                                                               \
		asm volatile("%0 = *(u64 *)(%1 + " #offset ")" : "=r"(value) : "r"(ctx));          \
		break;

/* reg_read(): number in machine order, as in PT_COOKIE_TS.
 * condition_met(): whether a branch with the condition in cond (PT_COND_*) goes the way that
 * counts. The low bit of a condition code negates it, on both architectures. */

#if defined(__TARGET_ARCH_x86)

#define REGS_IP(ctx)    ((ctx)->ip)
#define REGS_SP(ctx)    ((ctx)->sp)
#define REGS_ARG0(ctx)  ((ctx)->di)
#define REGS_ARG1(ctx)  ((ctx)->si)
#define REGS_ARG2(ctx)  ((ctx)->dx)
#define REGS_ARG3(ctx)  ((ctx)->cx)
#define REGS_ARG4(ctx)  ((ctx)->r8)
#define REGS_ARG5(ctx)  ((ctx)->r9)
#define REGS_RC(ctx)    ((ctx)->ax)
#define REGS_FLAGS(ctx) ((ctx)->flags)

/* offsets: struct pt_regs of x86-64 */
static __always_inline __u64 reg_read(struct pt_regs *ctx, __u32 number)
{
	__u64 value = 0;

	switch (number) {
		REG_CASE(0, 80)  /* rax */
		REG_CASE(1, 88)  /* rcx */
		REG_CASE(2, 96)  /* rdx */
		REG_CASE(3, 40)  /* rbx */
		REG_CASE(4, 152) /* rsp */
		REG_CASE(5, 32)  /* rbp */
		REG_CASE(6, 104) /* rsi */
		REG_CASE(7, 112) /* rdi */
		REG_CASE(8, 72)  /* r8 */
		REG_CASE(9, 64)  /* r9 */
		REG_CASE(10, 56) /* r10 */
		REG_CASE(11, 48) /* r11 */
		REG_CASE(12, 24) /* r12 */
		REG_CASE(13, 16) /* r13 */
		REG_CASE(14, 8)  /* r14 */
		REG_CASE(15, 0)  /* r15 */
	default:
		break;
	}
	return value;
}

#define FLAG_CF 0x001
#define FLAG_PF 0x004
#define FLAG_ZF 0x040
#define FLAG_SF 0x080
#define FLAG_OF 0x800

/* Intel SDM, volume 1, appendix B */
static __always_inline bool condition_met(__u64 flags, __u32 cond)
{
	bool less = !(flags & FLAG_SF) != !(flags & FLAG_OF);
	bool met;

	switch (cond >> 1 & 7) {
	case 0:
		met = flags & FLAG_OF;
		break;
	case 1:
		met = flags & FLAG_CF;
		break;
	case 2:
		met = flags & FLAG_ZF;
		break;
	case 3:
		met = flags & (FLAG_CF | FLAG_ZF);
		break;
	case 4:
		met = flags & FLAG_SF;
		break;
	case 5:
		met = flags & FLAG_PF;
		break;
	case 6:
		met = less;
		break;
	default:
		met = less || (flags & FLAG_ZF);
		break;
	}
	if (cond & 1)
		met = !met;
	return met == !!(cond & PT_COND_TAKEN);
}

#elif defined(__TARGET_ARCH_arm64)

#define REGS_IP(ctx)    ((ctx)->pc)
#define REGS_SP(ctx)    ((ctx)->sp)
#define REGS_ARG0(ctx)  ((ctx)->regs[0])
#define REGS_ARG1(ctx)  ((ctx)->regs[1])
#define REGS_ARG2(ctx)  ((ctx)->regs[2])
#define REGS_ARG3(ctx)  ((ctx)->regs[3])
#define REGS_ARG4(ctx)  ((ctx)->regs[4])
#define REGS_ARG5(ctx)  ((ctx)->regs[5])
#define REGS_RC(ctx)    ((ctx)->regs[0])
#define REGS_FLAGS(ctx) ((ctx)->pstate)

/* x0 .. x30. The cookie has room for 16 numbers, which the arm64 site finder will have to share out
 * once it is written; until then user space refuses arm64 interpreters. */
static __always_inline __u64 reg_read(struct pt_regs *ctx, __u32 number)
{
	__u64 value = 0;

	switch (number) {
		REG_CASE(0, 0)
		REG_CASE(1, 8)
		REG_CASE(2, 16)
		REG_CASE(3, 24)
		REG_CASE(4, 32)
		REG_CASE(5, 40)
		REG_CASE(6, 48)
		REG_CASE(7, 56)
		REG_CASE(8, 64)
		REG_CASE(9, 72)
		REG_CASE(10, 80)
		REG_CASE(11, 88)
		REG_CASE(12, 96)
		REG_CASE(13, 104)
		REG_CASE(14, 112)
		REG_CASE(15, 120)
		REG_CASE(16, 128)
		REG_CASE(17, 136)
		REG_CASE(18, 144)
		REG_CASE(19, 152)
		REG_CASE(20, 160)
		REG_CASE(21, 168)
		REG_CASE(22, 176)
		REG_CASE(23, 184)
		REG_CASE(24, 192)
		REG_CASE(25, 200)
		REG_CASE(26, 208)
		REG_CASE(27, 216)
		REG_CASE(28, 224)
		REG_CASE(29, 232)
		REG_CASE(30, 240)
	default:
		break;
	}
	return value;
}

#define FLAG_N (1u << 31)
#define FLAG_Z (1u << 30)
#define FLAG_C (1u << 29)
#define FLAG_V (1u << 28)

/* Arm ARM, C1.2.4: the codes of b.cond; 14 and 15 are "always" and never come here. */
static __always_inline bool condition_met(__u64 flags, __u32 cond)
{
	bool less = !(flags & FLAG_N) != !(flags & FLAG_V);
	bool met;

	switch (cond >> 1 & 7) {
	case 0:
		met = flags & FLAG_Z;
		break;
	case 1:
		met = flags & FLAG_C;
		break;
	case 2:
		met = flags & FLAG_N;
		break;
	case 3:
		met = flags & FLAG_V;
		break;
	case 4:
		met = (flags & FLAG_C) && !(flags & FLAG_Z);
		break;
	case 5:
		met = !less;
		break;
	default:
		met = !less && !(flags & FLAG_Z);
		break;
	}
	if (cond & 1)
		met = !met;
	return met == !!(cond & PT_COND_TAKEN);
}

#endif /* architecture */

#endif /* PT_BPF_REGS_H */
