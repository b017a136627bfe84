/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * unwind.h - from a call to its caller, by the unwind rules of .eh_frame. x86-64.
 *
 * The rules of an address are looked up through .eh_frame_hdr and kept, so that a frame costs some
 * 100 ns once its address is known. Memory is what was copied of a thread's stack, and nothing
 * else. Both are hostile input.
 *
 * Life cycle: unwind_file_new() -> unwind_step() -> unwind_file_free(). One thread at a time.
 */
#ifndef PT_TARGET_UNWIND_H
#define PT_TARGET_UNWIND_H

#include "target/elf.h"

/* By DWARF's numbers (System V ABI, x86-64, figure 3.36) */
#define UNWIND_BX   3
#define UNWIND_BP   6
#define UNWIND_SP   7
#define UNWIND_R12  12
#define UNWIND_IP   16
#define UNWIND_REGS 17

struct unwind_memory {
	uint64_t start;
	const uint8_t *bytes;
	size_t size;
	/* What is to be read instead at some addresses: return addresses that were replaced. */
	const struct unwind_patch {
		uint64_t at, value;
	} * patches;
	size_t patch_count;
};

struct unwind_frame {
	uint64_t reg[UNWIND_REGS];
	uint32_t known;   /* registers, by bit */
	bool interrupted; /* it stands at the instruction itself, not behind a call */
	uint64_t cfa;     /* of the frame that was called from here, once there is one */
};

struct unwind_file;

/* Borrows elf, which must live as long. NULL: no memory. */
struct unwind_file *unwind_file_new(const struct elf_file *elf);
void unwind_file_free(struct unwind_file *file);

/*
 * Turns the frame into its caller's; its code is that of the file, which is loaded at bias. Stands
 * the frame behind a call that is a function's last instruction, it is that function's all the
 * same. -ENOENT: no rules for this address; 1: there is no caller; -EFAULT: what is needed is not
 * in the copied memory; -EBADMSG: the rules make no sense here; -ENOMEM.
 */
int unwind_step(struct unwind_file *file, uint64_t bias, const struct unwind_memory *memory,
		struct unwind_frame *frame);

/* The function's addresses in the file around vaddr, as .eh_frame has them: false, there is none.
 */
bool unwind_function(struct unwind_file *file, uint64_t vaddr, uint64_t *start, uint64_t *end);

bool unwind_read(const struct unwind_memory *memory, uint64_t addr, uint64_t *value);

#endif
