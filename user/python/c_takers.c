// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * Functions that call a callable which they are given: those of CPython's interface, by name;
 * copies and local ones, by what they do with their arguments; and parts of the evaluation loop
 * itself that the compiler, or CPython, put out of line.
 */
#include <stdlib.h>
#include <string.h>

#include "python/cfunc.h"

#define TAKER_INSNS  120 /* looked at from a function's start */
#define HELPER_BYTES 4096
#define SCANS_MAX    64 /* of all the code */

/* Functions that take the callable as their first or second argument. */
static const struct c_taker takers[C_TAKERS] = {
    {"PyObject_Vectorcall", MC_RDI, PT_C_SELF_ARGV_RSI},
    {"PyObject_Call", MC_RDI, PT_C_SELF_TUPLE_RSI},
    {"PyCFunction_Call", MC_RDI, PT_C_SELF_TUPLE_RSI},
    {"PyObject_CallOneArg", MC_RDI, PT_C_SELF_NONE},
    {"PyObject_CallNoArgs", MC_RDI, PT_C_SELF_NONE},
    {"_PyObject_MakeTpCall", MC_RSI, PT_C_SELF_ARGV_RDX},
    {"_PyObject_Call", MC_RSI, PT_C_SELF_TUPLE_RDX},
    /* 3.15: they convert the arguments and call, nothing else */
    {"_Py_BuiltinCallFast_StackRef", MC_RDI, PT_C_SELF_NONE},
    {"_Py_BuiltinCallFastWithKeywords_StackRef", MC_RDI, PT_C_SELF_NONE},
    {"_PyCallMethodDescriptorFast_StackRef", MC_RDI, PT_C_SELF_RDX},
    {"_PyCallMethodDescriptorFastWithKeywords_StackRef", MC_RDI, PT_C_SELF_RDX},
};

void c_takers_find(struct c_search *s)
{
	struct elf_symbol symbol;

	for (size_t i = 0; i < C_TAKERS; i++)
		if (elf_symbol(s->finder->elf, takers[i].name, &symbol))
			s->taker_vaddr[i] = symbol.vaddr;
}

const struct c_taker *c_taker_at(const struct c_search *s, uint64_t vaddr)
{
	const char *import = function_import_name(s->region.elf, s->region.decoder, vaddr);

	for (size_t i = 0; i < sizeof(takers) / sizeof(takers[0]); i++)
		if (s->taker_vaddr[i] == vaddr || (import && !strcmp(import, takers[i].name)))
			return &takers[i];
	return NULL;
}

/* A local function, or a copy that the compiler made of one above, is known by what it does with
 * its arguments: it takes tp_call from the callable's type (_PyObject_MakeTpCall), or the distance
 * of the vectorcall pointer. */
struct taker_scan {
	uint16_t argument[2]; /* sets of registers that hold the first and the second */
	uint16_t type[2];     /* .. and their types */
	bool tp_call[2], vectorcall[2];
	unsigned int count;
};

static int taker_insn(const struct mc_insn *insn, void *ctx)
{
	struct taker_scan *scan = ctx;
	bool plain = insn->mem && insn->index == MC_NO_REG && insn->base < MC_RIP;
	bool load = c_is_load(insn) && plain && insn->reg[0] < MC_RIP;
	bool copy = insn->op == MC_OP_MOV && !insn->mem && insn->reg_bytes == 8 &&
		    insn->reg[0] < MC_RIP && insn->reg[1] < MC_RIP;

	for (int a = 0; a < 2; a++) {
		bool of_type = plain && scan->type[a] >> insn->base & 1;
		bool takes = of_type && (load || insn->flow != MC_FLOW_NEXT);
		bool type = load && insn->disp == OB_TYPE && scan->argument[a] >> insn->base & 1;
		bool argument = copy && scan->argument[a] >> insn->reg[1] & 1;

		scan->tp_call[a] |= takes && insn->disp == TP_CALL;
		scan->vectorcall[a] |= load && of_type && insn->disp == TP_VECTORCALL_OFFSET;
		scan->argument[a] &= (uint16_t)~insn->writes;
		scan->type[a] &= (uint16_t)~insn->writes;
		if (type)
			scan->type[a] |= (uint16_t)(1u << insn->reg[0]);
		if (argument)
			scan->argument[a] |= (uint16_t)(1u << insn->reg[0]);
	}
	return ++scan->count >= TAKER_INSNS;
}

const struct c_taker *c_local_taker_at(struct c_search *s, uint64_t vaddr)
{
	static const struct c_taker found[2][3] = {
	    {{NULL, MC_RDI, PT_C_SELF_NONE},
	     {NULL, MC_RDI, PT_C_SELF_ARGV_RSI},
	     {NULL, MC_RDI, PT_C_SELF_TUPLE_RSI}},
	    {{NULL, MC_RSI, PT_C_SELF_NONE},
	     {NULL, MC_RSI, PT_C_SELF_ARGV_RDX},
	     {NULL, MC_RSI, PT_C_SELF_TUPLE_RDX}},
	};
	struct taker_scan scan = {.argument = {1u << MC_RDI, 1u << MC_RSI}};
	const struct eh_range *range = eh_range_at(s->finder->eh, vaddr);

	if (!range || range->start != vaddr || region_holds(&s->region, vaddr))
		return NULL;
	region_each_insn(s->finder->elf, s->region.decoder, range, taker_insn, &scan);
	for (int a = 0; a < 2; a++)
		if (scan.tp_call[a] || scan.vectorcall[a])
			return &found[a][!scan.vectorcall[a] ? 0 : 1 + scan.tp_call[a]];
	return NULL;
}

struct helper_scan {
	struct c_search *s;
	bool calls, offset, leaves;
};

static int helper_insn(const struct mc_insn *insn, void *ctx)
{
	struct helper_scan *scan = ctx;
	bool load = c_is_load(insn);

	if (insn->flow == MC_FLOW_CALL)
		scan->calls |= c_taker_at(scan->s, insn->target) != NULL;
	else if (insn->flow == MC_FLOW_JMP)
		scan->leaves |= c_taker_at(scan->s, insn->target) != NULL;
	else if (insn->flow == MC_FLOW_JMP_INDIRECT)
		scan->leaves = true;
	/* the type's tp_vectorcall_offset, then what lies there in the callable */
	scan->offset |= load && insn->index == MC_NO_REG && insn->disp == TP_VECTORCALL_OFFSET;
	scan->calls |= scan->offset && load && insn->index != MC_NO_REG && insn->scale == 1 &&
		       !insn->disp;
	return 0;
}

/* Is the function called, or jumped to, from outside the region? Any bytes that look like it count.
 */
static bool is_called_elsewhere(const struct c_search *s, uint64_t vaddr)
{
	const struct elf_file *elf = s->finder->elf;

	for (size_t k = 0; k < elf->segment_count; k++) {
		const struct elf_segment *segment = &elf->segments[k];
		const uint8_t *code = elf_at_vaddr(elf, segment->vaddr, segment->file_size);

		if (segment->type != PT_LOAD || !(segment->flags & PF_X) || !code)
			continue;
		for (uint64_t at = 0; at + 5 <= segment->file_size; at++) {
			int32_t distance;

			if (code[at] != 0xe8 && code[at] != 0xe9)
				continue;
			memcpy(&distance, code + at + 1, sizeof(distance));
			if (segment->vaddr + at + 5 + (uint64_t)(int64_t)distance == vaddr &&
			    !region_holds(&s->region, segment->vaddr + at))
				return true;
		}
	}
	return false;
}

/* A function that only the loop calls and that makes the call in its stead: call_function() and its
 * like up to 3.11, _Py_VectorCall_StackRefSteal() and its like in 3.15. From 3.12 on those that get
 * the thread state tell tools of sys.monitoring what is called. i: a call of it. */
bool c_is_helper(struct c_search *s, size_t i)
{
	uint64_t vaddr = s->region.insns[i].target;
	const struct eh_range *range = eh_range_at(s->finder->eh, vaddr);
	struct helper_scan scan = {.s = s};

	if (!range || range->start != vaddr || range->end - range->start > HELPER_BYTES ||
	    (c_minor(s) >= 12 && flow_proves(&s->flow, i, MC_RDI)))
		return false;
	region_each_insn(s->finder->elf, s->region.decoder, range, helper_insn, &scan);
	return scan.calls && !scan.leaves && s->scans++ < SCANS_MAX &&
	       !is_called_elsewhere(s, vaddr);
}
