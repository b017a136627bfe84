/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * common.h - what every subject needs: kernel types, helpers, the shared records, small tools.
 */
#ifndef PT_BPF_COMMON_H
#define PT_BPF_COMMON_H

#include "vmlinux.h"

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

#include "pt_abi.h"
#include "pt_layout.h"
#include "pt_maps.h"

#define likely(x)   __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

/* An add whose result nobody reads. Spelled out, because compilers disagree whether
 * __sync_fetch_and_add() of an unused result may be the form that needs Linux 5.12. */
static __always_inline void count_add(__u64 *counter, __u64 value)
{
	asm volatile("lock *(u64 *)(%0 + 0) += %1" : : "r"(counter), "r"(value) : "memory");
}

/* Hides a value's origin from the compiler, so that the bounds check that follows stays. */
#define opaque(x) asm volatile("" : "+r"(x))

static __always_inline __u64 user_u64(__u64 addr)
{
	__u64 value = 0;

	bpf_probe_read_user(&value, sizeof(value), (const void *)addr);
	return value;
}

static __always_inline __u32 user_u32(__u64 addr)
{
	__u32 value = 0;

	bpf_probe_read_user(&value, sizeof(value), (const void *)addr);
	return value;
}

#endif /* PT_BPF_COMMON_H */
