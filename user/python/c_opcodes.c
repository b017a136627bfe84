// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * len(), isinstance() and list.append() from 3.11 on: opcodes of their own do the work, so that no
 * callable is called. Each first compares the callable with the one that the interpreter keeps at
 * hand (PyInterpreterState.callable_cache), and leaves the call to the general opcode if it is
 * another one. Behind that comparison
 *
 *   len and isinstance call PyObject_Size() and PyObject_IsInstance(), which may run Python code
 *   list.append compares the list's length with what is allocated, and never runs Python code
 *
 * So the first two are a call like any other, and the third gets a probe before that comparison
 * that says that the function is called, and one on its branch that says that it has returned.
 * What cannot be followed is left out, each function by itself, with a reason.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/glob.h"
#include "python/cfunc.h"

/* The same from 3.11 to 3.15 (Include/cpython/object.h, listobject.h) */
#define TP_AS_SEQUENCE 0x68 /* whose first member is sq_length */
#define LIST_SIZE      0x10 /* ob_size */
#define LIST_ALLOCATED 0x20
#define CACHE_MIN      0x100 /* callable_cache lies deep inside PyInterpreterState */

#define GUARD_MAX 8 /* instructions from a comparison to the branch; 5 seen */

#define FUNCTIONS PT_C_OPCODES

/* In the order of callable_cache. Names in the sources: PRECALL_NO_KW_.. in 3.11, CALL_NO_KW_.. in
 * 3.12, CALL_.. since. Include/opcode.h (3.11, 3.12), Include/opcode_ids.h (3.13+) */
static const struct {
	unsigned int minor;
	uint8_t opcode[FUNCTIONS];
} functions[] = {
    {11, {77, 78, 79}},    {12, {41, 42, 43}},    {13, {169, 170, 171}},
    {14, {150, 154, 155}}, {15, {153, 157, 158}},
};

static const struct {
	const char *owner, *name, *text;
} names[FUNCTIONS] = {
    {"builtins", "isinstance", "isinstance()"},
    {"builtins", "len", "len()"},
    {"list", "append", "list.append()"},
};

const char *py_c_opcode_name(unsigned int opcode)
{
	return opcode && opcode <= FUNCTIONS ? names[opcode - 1].text : "";
}

struct opcodes {
	struct c_search *s;
	uint8_t *handlers; /* for each instruction: set of 1 << function whose handler gets there */
	/* behind the comparison at hand, what is reached .. */
	uint8_t *left;  /* where the callable is another one */
	uint8_t *inner; /* where it is the right one, up to the next call */
	int64_t cache;  /* offset of callable_cache */
	const char *why;
};

/* ---- the comparison ---- */

/* The register that is compared with a member of something, MC_NO_REG: it is no such comparison. */
static unsigned int compared(const struct mc_insn *insn)
{
	if (insn->op != MC_OP_CMP || !insn->mem || insn->mem_bytes != 8 ||
	    insn->index != MC_NO_REG || insn->base >= MC_RIP || insn->has_imm)
		return MC_NO_REG;
	return insn->reg[insn->mem == 1];
}

/* The branch that a comparison decides, with nothing in between but moves. */
static size_t branch_of(const struct c_search *s, size_t i)
{
	for (i = region_next(&s->region, i); i != REGION_NONE; i = region_next(&s->region, i)) {
		const struct mc_insn *insn = &s->region.insns[i];

		if (insn->flow == MC_FLOW_JCC)
			return i;
		if (insn->flow != MC_FLOW_NEXT || (insn->op != MC_OP_MOV && insn->op != MC_OP_LEA))
			break;
	}
	return REGION_NONE;
}

static bool is_guard(const struct c_search *s, size_t i, int64_t disp)
{
	const struct mc_insn *insn = &s->region.insns[i];

	return compared(insn) < MC_RIP && insn->disp == disp;
}

static void mark_handlers(struct opcodes *o, const uint8_t *opcode)
{
	struct c_search *s = o->s;

	for (int f = 0; f < FUNCTIONS; f++) {
		memset(o->left, 0, s->region.insn_count);
		for (size_t t = 0; t < s->region.table_count; t++)
			c_reach(s, o->left,
				region_table_entry(&s->region, s->region.tables[t], opcode[f]), 1,
				true);
		for (size_t i = 0; i < s->region.insn_count; i++)
			o->handlers[i] |= (uint8_t)(o->left[i] << f);
	}
}

/* Does the function's handler, and no other, compare with this member? What they share is the
 * general opcode, which compares with all of them to choose a special one. */
static bool handler_has(const struct opcodes *o, int function, int64_t disp)
{
	for (size_t i = 0; i < o->s->region.insn_count; i++)
		if (o->handlers[i] == 1u << function && is_guard(o->s, i, disp))
			return true;
	return false;
}

/* callable_cache is where the three handlers compare with one pointer each, one behind the other,
 * and with neither of the others. */
static void find_cache(struct opcodes *o)
{
	const struct region *region = &o->s->region;

	for (size_t i = 0; i < region->insn_count; i++) {
		int64_t at = region->insns[i].disp;
		bool fits = o->handlers[i] == 1 && at >= CACHE_MIN && is_guard(o->s, i, at);

		for (int f = 0; f < FUNCTIONS; f++)
			for (int k = 0; k < FUNCTIONS && fits; k++)
				fits = handler_has(o, f, at + 8 * k) == (f == k);
		if (!fits || at == o->cache)
			continue;
		o->why = o->cache ? "the callables that are compared are not clear" : NULL;
		o->cache = at;
	}
	if (!o->cache)
		o->why = "the comparison of the callable was not found";
}

/* ---- behind the comparison ---- */

struct guard {
	uint32_t callable; /* the value that was compared */
	size_t pass, fail; /* where it goes on */
};

/*
 * One branch for several comparisons (clang): "cmp; setne al; ..; sete cl; or cl, al; jne". Follows
 * what setcc made of the comparison at instruction i up to the branch on it and another condition.
 * *equal: the way on which the first comparison has found the two equal is that of this condition.
 */
static size_t joined_branch(const struct c_search *s, size_t i, unsigned int *equal)
{
	unsigned int reg = MC_NO_REG, cc = 0;

	for (unsigned int n = 0; n < GUARD_MAX; n++) {
		const struct mc_insn *insn;
		bool both;

		i = region_next(&s->region, i);
		if (i == REGION_NONE || s->region.marks[i] & ~REGION_NORETURN)
			break;
		insn = &s->region.insns[i];
		if (reg == MC_NO_REG) {
			if (insn->op == MC_OP_SETCC && !insn->mem) {
				reg = insn->reg[0];
				cc = insn->cc;
			} else if (insn->op != MC_OP_MOV && insn->op != MC_OP_LEA) {
				break;
			}
			continue;
		}
		both = !insn->mem && insn->reg_bytes == 1 &&
		       (insn->reg[0] == reg || insn->reg[1] == reg);
		/* not zero: one differs; not zero: all are equal */
		if (both && ((insn->op == MC_OP_OR && cc == MC_CC_NE) ||
			     ((insn->op == MC_OP_AND || insn->op == MC_OP_TEST) && cc == MC_CC_E &&
			      insn->reg[0] != insn->reg[1]))) {
			*equal = cc == MC_CC_E ? MC_CC_NE : MC_CC_E;
			return branch_of(s, i);
		}
		if (insn->flow != MC_FLOW_NEXT || insn->writes >> reg & 1)
			break;
	}
	return REGION_NONE;
}

static bool guard_read(const struct c_search *s, size_t i, struct guard *guard)
{
	size_t branch = branch_of(s, i), to, next;
	unsigned int cc, equal = MC_CC_E;

	if (branch == REGION_NONE)
		branch = joined_branch(s, i, &equal);
	if (branch == REGION_NONE)
		return false;
	cc = s->region.insns[branch].cc;
	to = region_index(&s->region, s->region.insns[branch].target);
	next = region_next(&s->region, branch);
	guard->callable = value_at(&s->values, i, compared(&s->region.insns[i]));
	guard->pass = cc == equal ? to : next;
	guard->fail = cc == equal ? next : to;
	return (cc == MC_CC_E || cc == MC_CC_NE) && guard->callable && to != REGION_NONE &&
	       next != REGION_NONE;
}

/* What only belongs to the function. */
static bool is_inside(const struct opcodes *o, size_t i)
{
	return o->inner[i] && !o->left[i];
}

static bool is_function(const struct c_search *s, uint64_t vaddr, const char *name)
{
	const char *import = function_import_name(s->region.elf, s->region.decoder, vaddr);
	struct elf_symbol symbol;

	return (import && !strcmp(import, name)) ||
	       (elf_symbol(s->finder->elf, name, &symbol) && symbol.vaddr == vaddr);
}

/* Does [type + tp_as_sequence] + 0 lie behind the value? */
static bool is_sq_length(const struct c_search *s, size_t call)
{
	const struct mc_insn *insn = &s->region.insns[call];
	size_t load = call;

	if (!insn->mem)
		load = value_maker(&s->values, value_at(&s->values, call, insn->reg[0]));
	if (load == REGION_NONE)
		return false;
	insn = &s->region.insns[load];
	if (!insn->mem || insn->index != MC_NO_REG || insn->base >= MC_RIP || insn->disp)
		return false;
	load = value_maker(&s->values, value_at(&s->values, load, insn->base));
	return load != REGION_NONE && c_is_load(&s->region.insns[load]) &&
	       s->region.insns[load].disp == TP_AS_SEQUENCE;
}

struct thunk {
	uint64_t target;
	bool other; /* it does more than set registers and jump */
};

static int thunk_insn(const struct mc_insn *insn, void *ctx)
{
	struct thunk *thunk = ctx;

	if (insn->flow == MC_FLOW_JMP) {
		thunk->target = insn->target;
		return 1; /* padding may follow */
	}
	thunk->other = insn->flow != MC_FLOW_NEXT || insn->stack_bytes;
	return thunk->other;
}

/* Is it the function that the one of that name does nothing but jump to? The compiler calls it in
 * its stead: object_recursive_isinstance() for PyObject_IsInstance(). */
static bool is_behind(const struct c_search *s, uint64_t vaddr, const char *name)
{
	const struct eh_range *range;
	struct thunk thunk = {0};
	struct elf_symbol symbol;

	if (!elf_symbol(s->finder->elf, name, &symbol))
		return false;
	range = eh_range_at(s->finder->eh, symbol.vaddr);
	if (!range || range->start != symbol.vaddr)
		return false;
	region_each_insn(s->finder->elf, s->region.decoder, range, thunk_insn, &thunk);
	return !thunk.other && thunk.target == vaddr;
}

/* The calls that are the function's work. PyObject_Size() may have been put in place; what it calls
 * beside sq_length and PyMapping_Size() is null_error(), for what is no object. */
static bool is_work(struct opcodes *o, size_t i, bool length, bool inlined)
{
	const struct mc_insn *insn = &o->s->region.insns[i];

	if (insn->flow == MC_FLOW_CALL_INDIRECT)
		return inlined && is_sq_length(o->s, i);
	if (inlined)
		return is_function(o->s, insn->target, "PyMapping_Size");
	if (length)
		return is_function(o->s, insn->target, "PyObject_Size");
	return is_function(o->s, insn->target, "PyObject_IsInstance") ||
	       is_behind(o->s, insn->target, "PyObject_IsInstance");
}

/* Where the callable lies at instruction i. */
static bool find_holder(const struct opcodes *o, size_t i, uint32_t callable, struct c_call *call)
{
	call->insn = i;
	return c_find_holder(o->s, i, callable, call) ||
	       c_find_holder(o->s, i, c_tagged(o->s, callable), call);
}

static int call_add(struct opcodes *o, size_t i, const struct guard *guard, int function)
{
	struct c_search *s = o->s;
	struct c_call call = {.opcode = (uint8_t)(1 + function)}, moved = call;
	unsigned int condition = 0;
	bool here = find_holder(o, i, guard->callable, &call);
	size_t place = REGION_NONE;

	if (!here || !c_is_emulated(s, i))
		place = c_earlier_place(s, i, &condition);
	if (place != REGION_NONE && find_holder(o, place, guard->callable, &moved))
		call = moved;
	else if (!here)
		o->why = "where the callable lies is not known";
	else
		condition = 0;
	return o->why ? 0 : c_opcode_pair_add(s, &call, condition, c_return_place(s, i), &o->why);
}

static int calls_add(struct opcodes *o, const struct guard *guard, int function)
{
	const struct region *region = &o->s->region;
	bool length = function == 1, inlined = false;
	size_t work = 0, others = 0, indirect = 0;
	int ret = 0;

	for (size_t i = 0; i < region->insn_count; i++)
		inlined |= length && is_inside(o, i) &&
			   region->insns[i].flow == MC_FLOW_CALL_INDIRECT;
	for (size_t i = 0; i < region->insn_count; i++) {
		if (!is_inside(o, i) || !c_is_call(&region->insns[i]))
			continue;
		if (!is_work(o, i, length, inlined)) {
			others++;
			o->why = region->insns[i].flow == MC_FLOW_CALL && inlined
				     ? NULL
				     : "it calls something unknown";
			if (o->why)
				return 0;
			continue;
		}
		indirect += region->insns[i].flow == MC_FLOW_CALL_INDIRECT;
		work++;
	}
	if (!work || (inlined && (!indirect || indirect == work || others > 1))) {
		o->why = "its work was not found";
		return 0;
	}
	for (size_t i = 0; i < region->insn_count && !ret && !o->why; i++)
		if (is_inside(o, i) && c_is_call(&region->insns[i]) &&
		    is_work(o, i, length, inlined))
			ret = call_add(o, i, guard, function);
	return ret;
}

/* ---- list.append ---- */

/* The instruction that loaded a member of the object in *object (0: any, which is set). */
static bool is_member(const struct c_search *s, size_t i, int64_t disp, uint32_t *object)
{
	const struct mc_insn *insn;
	uint32_t base;

	if (i == REGION_NONE)
		return false;
	insn = &s->region.insns[i];
	if (!insn->mem || insn->mem_bytes != 8 || insn->index != MC_NO_REG ||
	    insn->base >= MC_RIP || insn->disp != disp)
		return false;
	base = value_at(&s->values, i, insn->base);
	if (!base || (*object && *object != base))
		return false;
	*object = base;
	return true;
}

static size_t maker_at(const struct c_search *s, size_t i, unsigned int reg)
{
	return reg < MC_RIP ? value_maker(&s->values, value_at(&s->values, i, reg)) : REGION_NONE;
}

/* Is a list's length compared with what is allocated? *list: the value that is the list. */
static bool compares_room(const struct c_search *s, size_t i, uint32_t *list)
{
	const struct mc_insn *insn = &s->region.insns[i];
	size_t loads[2];

	if (insn->op != MC_OP_CMP || insn->has_imm)
		return false;
	for (unsigned int k = 0; k < 2; k++)
		loads[k] = insn->mem == k + 1 ? i : maker_at(s, i, insn->reg[k]);
	for (unsigned int k = 0; k < 2; k++) {
		*list = 0;
		if (is_member(s, loads[k], LIST_SIZE, list) &&
		    is_member(s, loads[!k], LIST_ALLOCATED, list))
			return true;
	}
	return false;
}

static int append_add(struct opcodes *o, const struct guard *guard, int function)
{
	struct c_search *s = o->s;
	struct c_call call = {.opcode = (uint8_t)(1 + function), .argv = MC_NO_REG};
	size_t room = REGION_NONE, back, place = REGION_NONE;
	unsigned int condition = 0;
	uint32_t list = 0, at;

	for (size_t i = 0; i < s->region.insn_count; i++) {
		if (!is_inside(o, i) || !compares_room(s, i, &at))
			continue;
		if (room != REGION_NONE)
			o->why = "its work is not clear";
		room = i;
		list = at;
	}
	back = room == REGION_NONE ? REGION_NONE : branch_of(s, room);
	if (back != REGION_NONE)
		place = c_earlier_place(s, back, &condition);
	if (place == REGION_NONE || !is_inside(o, back)) {
		o->why = "its work was not found";
		return 0;
	}
	for (unsigned int reg = 0; reg < 16; reg++)
		if (reg != MC_RSP && value_at(&s->values, place, reg) == list)
			call.argv = (uint8_t)reg;
	call.self = PT_C_SELF_ARGV_REG;
	call.argv_is_self = true;
	if (call.argv == MC_NO_REG || !find_holder(o, place, guard->callable, &call) ||
	    call.in_stack)
		o->why = "where the callable lies is not known";
	return o->why ? 0 : c_opcode_pair_add(s, &call, condition, back, &o->why);
}

/* ---- all of it ---- */

static int function_add(struct opcodes *o, int function)
{
	struct c_search *s = o->s;
	int ret = 0;

	for (size_t i = 0; i < s->region.insn_count && !ret && !o->why; i++) {
		struct guard guard;

		if (o->handlers[i] != 1u << function || !is_guard(s, i, o->cache + 8 * function))
			continue;
		if (!guard_read(s, i, &guard)) {
			o->why = "the comparison of the callable is not understood";
			break;
		}
		memset(o->left, 0, s->region.insn_count);
		memset(o->inner, 0, s->region.insn_count);
		c_reach(s, o->left, guard.fail, 1, true);
		c_reach(s, o->inner, guard.pass, 1, false);
		ret = function == 2 ? append_add(o, &guard, function)
				    : calls_add(o, &guard, function);
	}
	return ret;
}

static void note(struct c_search *s, int function, const char *why)
{
	size_t len = strlen(s->plan->reason);

	snprintf(s->plan->reason + len, sizeof(s->plan->reason) - len,
		 "%s%s by its own opcode is not recorded: %s", len ? "; " : "",
		 names[function].text, why);
}

/* Takes the sites of a function out of the plan. */
static void drop(struct py_engine_plan *plan, unsigned int opcode)
{
	size_t kept = 0;

	for (size_t i = 0; i < plan->site_count; i++)
		if (PT_C_OPCODE_OF(plan->sites[i].cookie) != opcode)
			plan->sites[kept++] = plan->sites[i];
	plan->site_count = kept;
}

int c_opcodes_add(struct c_search *s)
{
	struct opcodes o = {.s = s};
	const uint8_t *opcode = NULL;
	size_t n = s->region.insn_count + 1;
	int ret = -ENOMEM;

	for (size_t i = 0; i < sizeof(functions) / sizeof(functions[0]); i++)
		if (functions[i].minor == c_minor(s))
			opcode = functions[i].opcode;
	if (!opcode)
		return 0;
	o.handlers = calloc(n, 1);
	o.left = calloc(n, 1);
	o.inner = calloc(n, 1);
	if (o.handlers && o.left && o.inner) {
		mark_handlers(&o, opcode);
		find_cache(&o);
		ret = 0;
		for (int f = 0; f < FUNCTIONS && !ret; f++) {
			const char *common = o.why;

			if (!o.why)
				ret = function_add(&o, f);
			if (o.why) {
				drop(s->plan, 1 + f);
				note(s, f, o.why);
			}
			o.why = common;
		}
	}
	free(o.handlers);
	free(o.left);
	free(o.inner);
	return ret;
}

unsigned int py_image_keep_c_opcodes(struct py_image *image, const char *const *globs)
{
	struct py_engine_plan *plan = &image->engines[PY_ENGINE_C_CALLS];
	unsigned int missing = 0;

	for (unsigned int f = 0; f < FUNCTIONS; f++) {
		bool wanted = !globs || pt_glob_qualified(globs, names[f].owner, names[f].name);
		bool found = false;

		for (size_t i = 0; i < plan->site_count; i++)
			found |= PT_C_OPCODE_OF(plan->sites[i].cookie) == 1 + f;
		if (!wanted)
			drop(plan, 1 + f);
		else if (!found && plan->usable && image->version >= 0x030b0000)
			missing |= 1u << (1 + f);
	}
	return missing;
}

bool py_c_opcodes_wanted(const struct py_image *image, const char *const *globs)
{
	for (unsigned int f = 0; f < FUNCTIONS; f++)
		if (pt_glob_qualified(globs, names[f].owner, names[f].name))
			return image->version >= 0x030b0000;
	return false;
}
