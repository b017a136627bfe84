// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * The code of a function is its range of .eh_frame, the parts that the compiler moved elsewhere,
 * which are jumped to like any other function, and the functions that it ends in. All of these are
 * decoded from start to end.
 *
 * An indirect jump goes by a switch's table, and stays in the function, or ends the function in
 * another one that nobody knows here. A switch scales an index: by 8 in a table of pointers, by 4
 * in one of distances, which are added to the table's address.
 */
#include "python/method_exits.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "python/parts.h"
#include "python/region.h"

#define PARTS_MAX      48u
#define PART_BYTES_MAX (256u << 10)
#define NEAR_START     192u /* bytes: the 12 instructions within which its probe lies */
#define INSNS_BEFORE   8u   /* looked at for a table's index */

struct walk {
	const struct method_code *code;
	struct method_exits *exits;
	uint64_t meth, lowest;
	size_t first_exit; /* of this function */
	const struct eh_range *parts[PARTS_MAX];
	size_t part_count;
	const struct eh_range *now;
	struct mc_insn before[INSNS_BEFORE];
	size_t seen;
	const char *reason;
	int rc;
};

/* Functions that make an object or set an exception, run no Python code and wait for nothing; one
 * that ends with * stands for all that begin so. */
static const char *const short_ones[] = {
    "PyLong_From*",
    "_PyLong_From*",
    "PyBool_FromLong",
    "PyFloat_FromDouble",
    "PyComplex_From*",
    "PyUnicode_From*",
    "_PyUnicode_From*",
    "PyUnicode_DecodeFSDefault*",
    "PyBytes_From*",
    "PyTuple_New",
    "PyTuple_Pack",
    "PyList_New",
    "PyList_AsTuple",
    "PyDict_New",
    "Py_BuildValue",
    "_Py_BuildValue_SizeT",
    "PyErr_Set*",
    "_PyErr_Set*",
    "PyErr_Format",
    "_PyErr_Format",
    "PyErr_NoMemory",
    "_PyErr_NoMemory",
    "PyErr_BadArgument",
    "PyErr_BadInternalCall",
    "_PyErr_BadInternalCall",
    "_PyArg_BadArgument",
};

static bool is_short(const char *name)
{
	for (size_t i = 0; name && i < sizeof(short_ones) / sizeof(short_ones[0]); i++) {
		size_t len = strlen(short_ones[i]);

		if (short_ones[i][len - 1] == '*' ? !strncmp(name, short_ones[i], len - 1)
						  : !strcmp(name, short_ones[i]))
			return true;
	}
	return false;
}

static int refuse(struct walk *walk, const char *reason)
{
	walk->reason = reason;
	walk->rc = -ENOTSUP;
	return 1;
}

/* -ENOMEM. */
static int add_vaddr(uint64_t **vaddrs, size_t *count, size_t *room, uint64_t vaddr)
{
	size_t bigger = *room ? *room * 2 : 64;
	uint64_t *moved;

	if (*count == *room) {
		moved = reallocarray(*vaddrs, bigger, sizeof(*moved));
		if (!moved)
			return -ENOMEM;
		*vaddrs = moved;
		*room = bigger;
	}
	(*vaddrs)[(*count)++] = vaddr;
	return 0;
}

static int add_exit(struct walk *walk, const struct mc_insn *insn)
{
	struct method_exits *exits = walk->exits;

	if (insn->refused)
		return refuse(walk, "the kernel puts no probe where it ends");
	for (size_t i = walk->first_exit; i < exits->count; i++)
		if (exits->vaddrs[i] == insn->vaddr)
			return 0;
	walk->rc = add_vaddr(&exits->vaddrs, &exits->count, &exits->room, insn->vaddr);
	return walk->rc != 0;
}

/* ---- the function that a jump ends in ---- */

static int see_symbol(const struct elf_symbol *symbol, void *ctx)
{
	struct method_exits *exits = ctx;

	if (!is_short(symbol->name))
		return 0;
	return add_vaddr(&exits->shorts, &exits->short_count, &exits->short_room, symbol->vaddr);
}

/* Asked for each jump out of a function, so the symbols are looked at once. */
static bool is_short_at(struct walk *walk, uint64_t vaddr)
{
	struct method_exits *exits = walk->exits;

	if (!exits->shorts_known)
		walk->rc = elf_each_symbol(walk->code->elf, see_symbol, exits);
	exits->shorts_known = !walk->rc;
	for (size_t i = 0; i < exits->short_count; i++)
		if (exits->shorts[i] == vaddr)
			return true;
	return false;
}

static int add_part(struct walk *walk, uint64_t vaddr)
{
	const struct eh_range *part = eh_range_at(walk->code->eh, vaddr);

	if (!part)
		return refuse(walk, "it jumps to what is no function");
	for (size_t i = 0; i < walk->part_count; i++)
		if (walk->parts[i] == part)
			return 0;
	if (walk->part_count == PARTS_MAX || part->end - part->start > PART_BYTES_MAX)
		return refuse(walk, "it ends in too many other functions");
	walk->parts[walk->part_count++] = part;
	return 0;
}

/* The function of that name ends this one; it may be this file's. */
static int end_in_import(struct walk *walk, const char *name, const struct mc_insn *jump)
{
	struct elf_symbol symbol;

	if (is_short(name) || walk->code->jumps_are_exits)
		return add_exit(walk, jump);
	if (!elf_symbol(walk->code->elf, name, &symbol))
		return refuse(walk, "it ends in a function of another file");
	return add_part(walk, symbol.vaddr);
}

static int leave_to(struct walk *walk, const struct mc_insn *insn)
{
	const struct method_code *code = walk->code;
	const char *import;
	bool ends;

	if (insn->target >= walk->now->start && insn->target < walk->now->end)
		return 0;
	import = function_import_name(code->elf, code->decoder, insn->target);
	ends = import || is_short_at(walk, insn->target);
	if (walk->rc)
		return 1;
	if (ends) {
		/* the probe would fire where it is not taken, too */
		if (insn->flow == MC_FLOW_JCC)
			return refuse(walk, "it ends in another function on a condition");
		return import ? end_in_import(walk, import, insn) : add_exit(walk, insn);
	}
	return add_part(walk, insn->target);
}

/* ---- indirect jumps ---- */

/* Is what it jumps to computed from an index? */
static bool is_switch(const struct walk *walk, const struct mc_insn *jump)
{
	size_t n = walk->seen < INSNS_BEFORE ? walk->seen : INSNS_BEFORE;

	if (jump->mem)
		return jump->index < MC_RIP && jump->scale == 8;
	for (size_t i = 0; i < n; i++) {
		const struct mc_insn *insn = &walk->before[(walk->seen - 1 - i) % INSNS_BEFORE];

		if (insn->mem && insn->index < MC_RIP && (insn->scale == 4 || insn->scale == 8))
			return true;
		if (insn->stack_bytes > 0)
			return false; /* registers are given back: it leaves */
	}
	return false;
}

static int end_by_pointer(struct walk *walk, const struct mc_insn *jump)
{
	if (walk->code->jumps_are_exits)
		return add_exit(walk, jump);
	return refuse(walk, "it ends in a function that only a pointer tells");
}

static int jump_indirect(struct walk *walk, const struct mc_insn *insn)
{
	const struct elf_file *elf = walk->code->elf;
	uint64_t slot, target;
	const char *import;

	if (is_switch(walk, insn))
		return 0;
	if (!insn->mem || insn->base != MC_RIP || insn->index != MC_NO_REG)
		return end_by_pointer(walk, insn);
	slot = insn->vaddr + insn->length + (uint64_t)insn->disp;
	import = elf_import_at(elf, slot);
	if (import)
		return end_in_import(walk, import, insn);
	if (elf_is_variable(elf, slot) || elf_read_ptr(elf, slot, &target))
		return end_by_pointer(walk, insn);
	return add_part(walk, target);
}

/* ---- all of it ---- */

static int see_insn(const struct mc_insn *insn, void *ctx)
{
	struct walk *walk = ctx;
	int stop = 0;

	switch ((enum mc_flow)insn->flow) {
	case MC_FLOW_RET:
		stop = add_exit(walk, insn);
		break;
	case MC_FLOW_JMP:
	case MC_FLOW_JCC:
		if (insn->target >= walk->meth && insn->target - walk->meth < NEAR_START &&
		    (!walk->lowest || insn->target < walk->lowest))
			walk->lowest = insn->target;
		stop = leave_to(walk, insn);
		break;
	case MC_FLOW_JMP_INDIRECT:
		stop = jump_indirect(walk, insn);
		break;
	case MC_FLOW_NEXT:
	case MC_FLOW_CALL:
	case MC_FLOW_CALL_INDIRECT:
	case MC_FLOW_STOP:
		break;
	}
	walk->before[walk->seen++ % INSNS_BEFORE] = *insn;
	return stop;
}

int method_exits_add(const struct method_code *code, uint64_t meth, struct method_exits *exits,
		     uint64_t *lowest, const char **reason)
{
	struct walk walk = {.code = code, .exits = exits, .meth = meth, .first_exit = exits->count};

	add_part(&walk, meth);
	for (size_t i = 0; i < walk.part_count && !walk.rc; i++) {
		walk.now = walk.parts[i];
		walk.seen = 0;
		if (region_each_insn(code->elf, code->decoder, walk.now, see_insn, &walk) &&
		    !walk.rc)
			refuse(&walk, "its code cannot be decoded");
	}
	if (!walk.rc && exits->count == walk.first_exit)
		refuse(&walk, "it never returns");
	if (walk.rc)
		exits->count = walk.first_exit;
	*lowest = walk.lowest;
	*reason = walk.reason;
	return walk.rc;
}

void method_exits_release(struct method_exits *exits)
{
	free(exits->vaddrs);
	free(exits->shorts);
	*exits = (struct method_exits){0};
}
