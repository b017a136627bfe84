/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * names_parts.h - what the parts of the kernel name decoder share: walk (functions, and what the
 * registers hold at their calls), register (the registrations), handles (the variables), cache.
 */
#ifndef PT_CUDA_NAMES_PARTS_H
#define PT_CUDA_NAMES_PARTS_H

#include "base/buf.h"
#include "cuda/names.h"
#include "python/decode.h"
#include "target/ehframe.h"
#include "target/elf.h"

#define KN_RESIDENT_BYTES (16u << 20) /* of the file, held in memory while it is read through */
#define KN_NAME_MAX       (32u << 10) /* characters; the longest seen has 4 K */

/* Where a call or a tail jump goes: code of the file, or a slot that another file's address is
 * written to ("call *slot(%rip)"). */
struct kn_target {
	uint64_t vaddr;
	bool indirect;
};

struct kn_regs {
	uint16_t known; /* set of 1 << enum mc_reg */
	uint64_t value[16];
};

struct kn_walk {
	const struct elf_file *elf;
	const struct eh_ranges *eh;
	const atomic_bool *stop;
	struct mc_decoder *decoder;
	struct mc_insn *insns; /* of the function being looked at */
	size_t insn_room;
	uint8_t *joined;       /* one bit a byte of it: a jump leads there */
	uint64_t budget_bytes; /* of code that may still be decoded */
	/* Functions that the result rests on; kn_walk_uses() adds them. */
	struct eh_range *used;
	size_t used_count, used_room;
};

/* A call or jump that leaves the function, and the registers before it. Stops when it returns
 * non-zero. */
typedef int (*kn_leave_fn)(void *ctx, const struct mc_insn *insn, const struct kn_target *target,
			   const struct kn_regs *regs);

/* -ENOMEM */
int kn_walk_init(struct kn_walk *walk, const struct elf_file *elf, const struct eh_ranges *eh,
		 const atomic_bool *stop);
void kn_walk_release(struct kn_walk *walk);
/* 0, what fn returned, -ENOMEM, -E2BIG (the budget is used up) or -ECANCELED. A function of a
 * megabyte and more is passed over. Trims the file. */
int kn_walk_function(struct kn_walk *walk, const struct eh_range *function, kn_leave_fn fn,
		     void *ctx);
/* -ENOMEM */
int kn_walk_uses(struct kn_walk *walk, const struct eh_range *function);
bool kn_reg(const struct kn_regs *regs, enum mc_reg reg, uint64_t *value);

/* In a section of code? Segments will not do: some linkers put all that is read-only into one. */
bool kn_is_code(const struct elf_file *elf, uint64_t vaddr);

#define KN_WINDOW_BYTES (1u << 20) /* read at once */

/* A window begins KN_WINDOW_BYTES behind the one before and runs a little into the next. */
typedef void (*kn_window_fn)(void *ctx, const uint8_t *bytes, size_t size, uint64_t vaddr);

/* Reads through the sections that are wanted. -E2BIG: they overlap; -ECANCELED, -EIO. */
int kn_each_window(const struct elf_file *elf, const atomic_bool *stop,
		   bool (*wanted)(const struct elf_section *section), kn_window_fn fn, void *ctx);
bool kn_section_is_code(const struct elf_section *section);

struct kn_site {             /* one registration */
	uint64_t host, name; /* addresses of the stub and of the text */
};

struct kn_sites {
	struct kn_site *sites;
	size_t count, room;
	size_t undecoded;
	uint64_t registrar; /* as in pt_kernels */
};

/* All calls of __cudaRegisterFunction(). */
int kn_register_find(struct kn_walk *walk, struct kn_sites *sites);

/* Fills kernels[].handle; kernels with the same stub lie side by side. */
int kn_handles_find(struct kn_walk *walk, struct pt_kernel *kernels, size_t count);

/* The table in a cache directory: pt_kernels, and the code and texts that it was read from. */
int kn_cache_read(const char *dir, const struct elf_file *elf, struct pt_kernels **kernels);
int kn_cache_write(const char *dir, const struct kn_walk *walk, const struct pt_kernels *kernels);

#endif
