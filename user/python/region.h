/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * region.h - the machine code of one function wherever the compiler put it, decoded.
 *
 * A region is a set of whole .eh_frame ranges: the function's own, and each one that is jumped into
 * the middle of. (A jump to a range's start is a tail call of another function, unless its unwind
 * rules say that it lies inside of one: BOLT's parts begin where they are jumped to.) Decoding is
 * linear from each range's start to its end and must succeed throughout, and every direct jump that
 * lands in the region must land on an instruction: only then is it known where instructions start,
 * and a probe anywhere else would crash the traced process.
 *
 * Life cycle: region_load() -> region_add_function() .. -> region_find_tables() -> use ->
 * region_release(). Adding or finding invalidates indices and pointers taken before.
 */
#ifndef PT_PYTHON_REGION_H
#define PT_PYTHON_REGION_H

#include "python/decode.h"
#include "python/parts.h"

#define REGION_NONE          SIZE_MAX
#define REGION_TABLE_ENTRIES 256 /* one for each value of an 8-bit opcode */

/* region.marks[i] */
#define REGION_TARGET   0x1 /* a direct jump in the region leads here */
#define REGION_INDIRECT 0x2 /* an entry of a jump table or an opcode table leads here */
#define REGION_START    0x4 /* first instruction of a range */
#define REGION_NORETURN 0x8 /* a call that does not come back */

struct region {
	const struct elf_file *elf;
	const struct eh_ranges *eh;
	struct mc_decoder *decoder;
	struct eh_range *ranges; /* sorted by start */
	size_t range_count;
	struct mc_insn *insns; /* sorted by address */
	size_t insn_count;
	uint8_t *marks;
	uint64_t *tables; /* addresses of opcode tables: 256 pointers, most into the region */
	size_t table_count;
	bool tail_calls;     /* the tables lead to functions, see handlers.c: */
	uint64_t *functions; /* those of opcodes and of what they share, sorted */
	uint64_t *callers;   /* functions that call them: the entry, others */
	size_t function_count, caller_count;
	char reason[160]; /* why the last call said -ENOTSUP */
};

/* -ENOTSUP: the code cannot be decoded safely (region->reason); -ENOMEM. On failure the region must
 * still be released. */
int region_load(struct region *region, const struct py_finder *finder, uint64_t entry);
/* Adds the range that starts at entry (not what it jumps to) unless it is there. */
int region_add_function(struct region *region, uint64_t entry);
/* The same for several, with the ranges that they jump into the middle of. */
int region_add_whole(struct region *region, const uint64_t *entries, size_t count);
/* handlers.c: region_load() of the evaluation loop of 3.N, with the functions of its opcodes if it
 * is made of such. */
int region_load_loop(struct region *region, const struct py_finder *finder, uint64_t entry,
		     unsigned int minor);
/* Finds opcode tables and jump tables through the code that refers to them and marks where they
 * lead. Finding none is no error. Then marks the calls that do not come back. */
int region_find_tables(struct region *region);
void region_release(struct region *region);

/* Can the next instruction follow? */
bool region_goes_on(const struct region *region, size_t i);
/* handlers.c, tail-calling interpreters: does the instruction call one of the functions? May an
 * indirect jump lead to one? */
bool region_calls_opcode(const struct region *region, size_t i);
bool region_may_dispatch(const struct region *region, size_t i);

/* Index of the instruction at exactly this address, or REGION_NONE. */
size_t region_index(const struct region *region, uint64_t vaddr);
bool region_holds(const struct region *region, uint64_t vaddr);
/* May it leave the region other than by a ret or a call? */
bool region_leaves(const struct region *region, const struct mc_insn *insn);
/* Index of the instruction behind i in the same range, or REGION_NONE. */
size_t region_next(const struct region *region, size_t i);
/* Index of the instruction before i in the same range, or REGION_NONE. */
size_t region_previous(const struct region *region, size_t i);
/* The address of data that an instruction names, or 0. */
uint64_t region_data_named(const struct region *region, const struct mc_insn *insn);
/* What a table's entry points to, if that is an instruction of the region; else REGION_NONE. */
size_t region_table_entry(const struct region *region, uint64_t table, unsigned int index);

/* The table of distances or pointers that only the switch at an indirect jump goes by, as the code
 * right before it says; 0: it is not known, or one of the opcode tables. */
struct region_switch {
	uint64_t table;
	bool pointers;
};
struct region_switch region_switch_at(const struct region *region, size_t jump);
/* Where an entry leads; REGION_NONE: the table ends before it. */
size_t region_switch_entry(const struct region *region, const struct region_switch *by,
			   unsigned int index);

/* Decodes [start, end) and calls fn for each instruction until it returns non-zero. */
int region_each_insn(const struct elf_file *elf, struct mc_decoder *decoder,
		     const struct eh_range *range, int (*fn)(const struct mc_insn *insn, void *ctx),
		     void *ctx);

/* noreturn.c: does the function at vaddr never return (abort() and what ends in it)? Looks through
 * a stub of the procedure linkage table. In doubt no. */
bool function_never_returns(const struct elf_file *elf, const struct eh_ranges *eh,
			    struct mc_decoder *decoder, uint64_t vaddr);

#endif
