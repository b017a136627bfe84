// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * Where the evaluation loop calls C functions: what sys.setprofile() reports as c_call.
 *
 * The handlers of the CALL opcodes, and all code that they lead to without going through another
 * dispatch, are searched for call instructions of three kinds:
 *
 *   a function of CPython that takes a callable   PyObject_Vectorcall(), _PyObject_MakeTpCall() ..
 *   a vectorcall pointer, loaded from inside the callable (object + tp_vectorcall_offset)
 *   a PyMethodDef's ml_meth, by specialized opcodes (PyCFunctionObject.m_ml or
 *   PyMethodDescrObject.d_method, then ml_meth)
 *
 * Each gets two probes: on the call, where the arguments are in their ABI registers, or on a branch
 * before it that costs less; and behind it. Whether the callable is a C function is then seen in
 * the process, by its type. The handlers of other opcodes also call things (__enter__ of a with
 * statement, iterators); those are no c_call, and are not probed. Whatever cannot be classified
 * makes the finder say no.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "python/cfunc.h"

#define MOVE_STEPS  30   /* instructions before a call that are looked at */
#define SITE_NUMBER 1000 /* numbers of these sites begin here: the frame plan's come before */

/* The opcodes that call: Include/opcode.h (3.8 - 3.12), Include/opcode_ids.h (3.13+). */
static const struct call_opcodes {
	unsigned int minor;
	struct {
		uint8_t first, last;
	} range[12];
} call_opcodes[] = {
    {8, {{131, 131}, {141, 142}, {161, 161}}},
    {9, {{131, 131}, {141, 142}, {161, 161}}},
    {10, {{131, 131}, {141, 142}, {161, 161}}},
    {11,
     {{22, 24},
      {64, 67},
      {72, 73},
      {76, 81},
      {113, 113},
      {121, 121},
      {127, 127},
      {141, 143},
      {166, 166},
      {171, 171}}},
    {12,
     {{23, 24},
      {28, 29},
      {34, 34},
      {38, 48},
      {56, 56},
      {142, 142},
      {171, 171},
      {241, 241},
      {244, 244}}},
    {13, {{53, 54}, {57, 57}, {162, 181}, {244, 246}}},
    {14, {{4, 4}, {52, 52}, {55, 55}, {143, 165}, {250, 252}}},
    {15, {{4, 4}, {50, 50}, {53, 53}, {144, 168}, {249, 251}}},
};

/* ---- which code belongs to the CALL opcodes ---- */

/* Marks all that is reached from start without going through a dispatch; over_calls: also behind
 * calls. */
void c_reach(const struct c_search *s, uint8_t *marks, size_t start, uint8_t mark, bool over_calls)
{
	size_t count = 0;

	if (start == REGION_NONE || marks[start])
		return;
	marks[start] = mark;
	s->todo[count++] = start;
	while (count) {
		size_t i = s->todo[--count], to[2] = {REGION_NONE, REGION_NONE};
		const struct mc_insn *insn = &s->region.insns[i];

		if (region_goes_on(&s->region, i) && (over_calls || !c_is_call(insn)))
			to[0] = region_next(&s->region, i);
		if (insn->flow == MC_FLOW_JCC || insn->flow == MC_FLOW_JMP)
			to[1] = region_index(&s->region, insn->target);
		for (int k = 0; k < 2; k++) {
			if (to[k] == REGION_NONE || marks[to[k]])
				continue;
			marks[to[k]] = mark;
			s->todo[count++] = to[k];
		}
	}
}

/* ---- calls ---- */

static int call_add(struct c_search *s, const struct c_call *call)
{
	for (size_t i = 0; i < s->call_count; i++)
		if (s->calls[i].insn == call->insn)
			return 0;
	if (s->call_count == C_CALLS_MAX)
		return py_plan_refuse(s->plan, "implausibly many call sites");
	s->calls[s->call_count++] = *call;
	return 0;
}

static int direct_call(struct c_search *s, size_t i)
{
	const struct c_taker *taker = c_taker_at(s, s->region.insns[i].target);
	struct c_call call = {.insn = i, .method = "call of a callable"};

	if (!taker && (taker = c_local_taker_at(s, s->region.insns[i].target)))
		call.method = "call of a local function";
	if (!taker)
		return 0;
	call.callable = taker->callable;
	call.self = taker->self;
	/* 3.8: without the thread state */
	if (c_minor(s) == 8 && taker->name && taker->callable == MC_RSI) {
		call.callable = MC_RDI;
		call.self--;
	}
	return call_add(s, &call);
}

static int classified_call(struct c_search *s, size_t i, enum c_target kind, struct c_call call)
{
	switch (kind) {
	case C_TARGET_OTHER:
		return 0;
	case C_TARGET_VECTORCALL:
		call.callable = MC_RDI;
		call.self = PT_C_SELF_ARGV_RSI;
		call.value = value_at(&s->values, call.insn, MC_RDI);
		call.arguments_value = value_at(&s->values, call.insn, MC_RSI);
		call.method = "vectorcall";
		return call_add(s, &call);
	case C_TARGET_ML:
		call.method = "ml_meth";
		return call_add(s, &call);
	case C_TARGET_NONE:
	case C_TARGET_UNKNOWN:
		break;
	}
	return py_plan_refuse(s->plan, "what is called at %#llx cannot be told",
			      (unsigned long long)s->region.insns[i].vaddr);
}

static int indirect_call(struct c_search *s, size_t i)
{
	struct c_call call;
	enum c_target kind = c_classify(s, i, &call);

	return classified_call(s, i, kind, call);
}

static int promoted_call(struct c_search *s, size_t i)
{
	struct c_call call;
	enum c_target kind = c_promoted(s, i, &call);

	return classified_call(s, i, kind, call);
}

/* ---- helpers out of line ---- */

static int helpers_find(struct c_search *s)
{
	size_t before = s->helper_count;

	for (size_t i = 0; i < s->region.insn_count; i++) {
		const struct mc_insn *insn = &s->region.insns[i];
		bool known = false;

		if (!s->zone[i] || insn->flow != MC_FLOW_CALL ||
		    region_holds(&s->region, insn->target) || c_taker_at(s, insn->target))
			continue;
		for (size_t k = 0; k < s->helper_count; k++)
			known |= s->helpers[k] == insn->target;
		if (known || !c_is_helper(s, i))
			continue;
		if (s->helper_count == C_HELPERS_MAX)
			return py_plan_refuse(s->plan, "implausibly many helpers of calls");
		s->helpers[s->helper_count++] = insn->target;
	}
	for (size_t k = before; k < s->helper_count; k++) {
		int ret = region_add_whole(&s->region, &s->helpers[k], 1);

		if (ret == -ENOTSUP)
			return py_plan_refuse(s->plan, "%s", s->region.reason);
		if (ret)
			return ret;
	}
	return 0;
}

/* ---- the search ---- */

static int zone_mark(struct c_search *s)
{
	const struct call_opcodes *opcodes = NULL;

	for (size_t i = 0; i < sizeof(call_opcodes) / sizeof(call_opcodes[0]); i++)
		if (call_opcodes[i].minor == c_minor(s))
			opcodes = &call_opcodes[i];
	if (!opcodes || !s->region.table_count)
		return py_plan_refuse(s->plan, opcodes ? "the opcode table was not found"
						       : "the opcode numbers are not known");
	for (size_t t = 0; t < s->region.table_count; t++)
		for (size_t r = 0; r < 12 && opcodes->range[r].last; r++)
			for (unsigned int o = opcodes->range[r].first; o <= opcodes->range[r].last;
			     o++)
				c_reach(s, s->zone,
					region_table_entry(&s->region, s->region.tables[t], o), 1,
					true);
	for (size_t k = 0; k < s->helper_count; k++) {
		size_t start = region_index(&s->region, s->helpers[k]);

		c_reach(s, s->zone, start, 1, true);
		c_reach(s, s->owner, start, (uint8_t)(1 + k), true);
	}
	return 0;
}

static int analyse(struct c_search *s)
{
	int ret = region_find_tables(&s->region);

	free(s->zone);
	free(s->owner);
	free(s->todo);
	s->owner = calloc(s->region.insn_count + 1, 1);
	s->zone = calloc(s->region.insn_count + 1, 1);
	s->todo = calloc(2 * s->region.insn_count + 2, sizeof(*s->todo));
	if (!s->owner || !s->zone || !s->todo)
		return -ENOMEM;
	flow_release(&s->flow);
	if (!ret)
		ret = flow_analyse(&s->flow, &s->region, &s->image->eval.vaddr, 1);
	return ret ? ret : zone_mark(s);
}

static int load_code(struct c_search *s)
{
	int ret = region_load_loop(&s->region, s->finder, s->image->eval.vaddr, c_minor(s));

	if (ret)
		return ret == -ENOTSUP ? py_plan_refuse(s->plan, "%s", s->region.reason) : ret;
	c_takers_find(s);
	for (int round = 0; round < 3 && !ret; round++) {
		size_t before = s->helper_count;

		ret = analyse(s);
		if (!ret)
			ret = helpers_find(s);
		if (!ret && s->helper_count == before)
			return 0;
	}
	return ret ? ret : py_plan_refuse(s->plan, "helpers of calls call helpers");
}

static int find_calls(struct c_search *s)
{
	int ret = 0;

	for (size_t i = 0; i < s->region.insn_count && !ret; i++) {
		if (!s->zone[i])
			continue;
		if (s->region.insns[i].flow == MC_FLOW_CALL)
			ret = direct_call(s, i);
		else if (s->region.insns[i].flow == MC_FLOW_CALL_INDIRECT)
			ret = indirect_call(s, i);
		else if (s->region.insns[i].op == MC_OP_CMP)
			ret = promoted_call(s, i);
	}
	return ret;
}

/* ---- the probes ---- */

bool c_is_emulated(const struct c_search *s, size_t i)
{
	const struct mc_insn *insn = &s->region.insns[i];

	return !insn->refused && s->finder->emulated >> insn->class & 1;
}

static bool is_frame_site(const struct c_search *s, size_t i)
{
	const struct py_engine_plan *frame = &s->image->engines[PY_ENGINE_FRAME];

	for (size_t k = 0; k < frame->site_count; k++)
		if (frame->sites[k].vaddr == s->region.insns[i].vaddr)
			return true;
	return false;
}

/* Is there a probe for a call already? */
static bool is_site(const struct c_search *s, size_t i)
{
	for (size_t k = 0; k < s->plan->site_count; k++)
		if (s->plan->sites[k].vaddr == s->region.insns[i].vaddr)
			return true;
	return false;
}

static bool is_call_site(const struct c_search *s, size_t i)
{
	for (size_t k = 0; k < s->plan->site_count; k++)
		if (s->plan->sites[k].vaddr == s->region.insns[i].vaddr &&
		    PT_COOKIE_KIND(s->plan->sites[k].cookie) == PT_SITE_C_CALL)
			return true;
	return false;
}

/* Where the return is noticed: the first emulated instruction behind the call on the straight way,
 * with the stack pointer as it was at the call. BPF matches by that, so it does no harm if other
 * ways lead there too. */
size_t c_return_place(const struct c_search *s, size_t call)
{
	size_t next = region_next(&s->region, call), i = next;

	for (int n = 0; n < 16 && i != REGION_NONE; n++) {
		if (c_is_emulated(s, i) && !is_frame_site(s, i) && !is_call_site(s, i))
			return i;
		if (s->region.insns[i].flow != MC_FLOW_NEXT ||
		    s->region.insns[i].writes >> MC_RSP & 1)
			break;
		i = region_next(&s->region, i);
	}
	return next;
}

static int site_add(struct c_search *s, size_t i, uint64_t cookie, const char *method)
{
	struct py_site site;
	int ret = py_site_init(&site, s->finder->elf, s->region.insns[i].vaddr);

	if (ret)
		return ret;
	if (s->region.insns[i].refused || is_frame_site(s, i))
		return py_plan_refuse(s->plan, "no safe place for a probe at %#llx",
				      (unsigned long long)site.vaddr);
	for (size_t k = 0; k < s->plan->site_count; k++)
		if (s->plan->sites[k].vaddr == site.vaddr) {
			if (PT_COOKIE_KIND(cookie) == PT_SITE_C_RETURN &&
			    PT_COOKIE_KIND(s->plan->sites[k].cookie) == PT_SITE_C_RETURN)
				return 0;
			return py_plan_refuse(s->plan, "two reasons for a probe at %#llx",
					      (unsigned long long)site.vaddr);
		}
	site.cookie = cookie | (uint64_t)(SITE_NUMBER + s->plan->site_count) << 40;
	site.method = method;
	return py_plan_add(s->plan, &site);
}

/* Is instruction i, on the straight way to a call, only reached from there? Jumps to it from
 * further up count as well, if they turn out to lie on the way: *lowest keeps the first of them. */
static bool is_on_the_way(const struct c_search *s, size_t i, size_t *lowest)
{
	const struct region *region = &s->region;
	size_t first, last;

	if (region->marks[i] & (REGION_INDIRECT | REGION_START))
		return false;
	if (!(region->marks[i] & REGION_TARGET))
		return true;
	value_jumps(&s->values, i, &first, &last);
	if (first < *lowest)
		*lowest = first;
	return last < i;
}

/*
 * A place before an indirect call that is passed if and only if the call is made, on an instruction
 * that the kernel emulates, with nothing in between that could be left, run Python code or move the
 * stack pointer. REGION_NONE: there is none. The last branch that leads elsewhere counts if it is
 * not taken.
 */
size_t c_earlier_place(const struct c_search *s, size_t call, unsigned int *condition)
{
	size_t i = call, lowest = call;

	*condition = 0;
	for (int n = 0; n < MOVE_STEPS && is_on_the_way(s, i, &lowest); n++) {
		const struct mc_insn *insn;
		bool leaves = false;

		i = region_previous(&s->region, i);
		if (i == REGION_NONE || !region_goes_on(&s->region, i))
			break;
		insn = &s->region.insns[i];
		if (insn->flow == MC_FLOW_CALL || insn->flow == MC_FLOW_CALL_INDIRECT ||
		    insn->stack_bytes || insn->writes >> MC_RSP & 1)
			break;
		if (insn->flow == MC_FLOW_JCC) {
			size_t to = region_index(&s->region, insn->target);

			leaves = to == REGION_NONE || to <= i || to > call;
		}
		if (lowest >= i && c_is_emulated(s, i) && !is_frame_site(s, i) && !is_site(s, i) &&
		    (!leaves || insn->class == PY_INSN_JCC)) {
			if (leaves)
				*condition = PT_COND_VALID | insn->cc;
			return i;
		}
		if (leaves)
			break;
	}
	return REGION_NONE;
}

/* The same call, noticed at an earlier instruction; false: what is needed is not at hand there. */
static bool move_call(const struct c_search *s, const struct c_call *call, size_t place,
		      struct c_call *moved)
{
	*moved = *call;
	moved->insn = place;
	if (!call->value || !c_find_holder(s, place, call->value, moved))
		return false;
	moved->self = PT_C_SELF_NONE; /* ml_meth: the opcode has compared the types */
	if (!call->arguments_value)
		return true;
	moved->self = PT_C_SELF_ARGV_REG;
	for (unsigned int reg = 0; reg < 16 && !moved->in_stack; reg++)
		if (value_at(&s->values, place, reg) == call->arguments_value) {
			moved->argv = (uint8_t)reg;
			return true;
		}
	return false;
}

static int call_site_add(struct c_search *s, const struct c_call *call, unsigned int condition,
			 const char *method)
{
	unsigned int slot = 0, ts = flow_tstate(&s->flow, call->insn, PT_TS_NONE, &slot);
	uint64_t cookie;

	if (c_minor(s) == 8)
		ts = PT_TS_NONE; /* the first argument is the frame */
	cookie = PT_COOKIE(PT_SITE_C_CALL, -8, ts, slot, call->callable, condition, 0, 0) |
		 PT_C_SELF(call->self);
	if (call->in_stack)
		cookie |= PT_C_IN_STACK | PT_C_DISP(call->disp);
	else if (call->self == PT_C_SELF_ARGV_REG)
		cookie |= PT_C_ARGV(call->argv) | (call->argv_is_self ? PT_C_ARGV_SELF : 0);
	return site_add(s, call->insn, cookie | PT_C_OPCODE(call->opcode), method);
}

/* The two probes of a function that has an opcode, if there is room for both. */
int c_opcode_pair_add(struct c_search *s, const struct c_call *call, unsigned int condition,
		      size_t back, const char **why)
{
	const uint64_t cookie = PT_COOKIE(PT_SITE_C_RETURN, -8, PT_TS_NONE, 0, PT_REG_NONE, 0, 0,
					  0);
	size_t shared = REGION_NONE;
	int ret;

	for (size_t k = 0; k < s->plan->site_count && back != REGION_NONE; k++)
		if (s->plan->sites[k].vaddr == s->region.insns[back].vaddr)
			shared = k;
	if (back == REGION_NONE || back == call->insn || is_frame_site(s, back) ||
	    s->region.insns[back].refused || is_call_site(s, back) ||
	    is_frame_site(s, call->insn) || is_site(s, call->insn) ||
	    s->region.insns[call->insn].refused) {
		*why = "there is no safe place for a probe";
		return 0;
	}
	ret = call_site_add(s, call, condition, py_c_opcode_name(call->opcode));
	if (ret)
		return ret;
	if (shared == REGION_NONE)
		return site_add(s, back, cookie | PT_C_OPCODE(call->opcode), "return");
	/* notices the return of more than one, and so is needed for any of them */
	if (PT_C_OPCODE_OF(s->plan->sites[shared].cookie) != call->opcode)
		s->plan->sites[shared].cookie &= ~PT_C_OPCODE(PT_C_OPCODES);
	return 0;
}

static int call_probe(struct c_search *s, const struct c_call *call)
{
	size_t back = c_return_place(s, call->insn), place = REGION_NONE;
	unsigned int condition = 0;
	struct c_call moved;
	int ret;

	if (back == REGION_NONE)
		return py_plan_refuse(s->plan, "a call at the end of the code");
	if (!c_is_emulated(s, call->insn))
		place = c_earlier_place(s, call->insn, &condition);
	if (place != REGION_NONE && move_call(s, call, place, &moved))
		ret = call_site_add(s, &moved, condition, "moved up");
	else
		ret = call_site_add(s, call, 0, call->method);
	if (ret)
		return ret;
	return site_add(s, back,
			PT_COOKIE(PT_SITE_C_RETURN, -8, PT_TS_NONE, 0, PT_REG_NONE, 0, 0, 0),
			"return");
}

static int find_types(struct c_search *s)
{
	static const uint32_t pymethod_since = 0x03090000;

	if (!s->image->c_types.function || !s->image->c_types.descr || !s->image->c_types.module ||
	    (!s->image->c_types.method && s->image->version >= pymethod_since))
		return py_plan_refuse(s->plan, "the types of C functions are not to be found");
	return 0;
}

static int follow_values(struct c_search *s)
{
	int ret;

	s->entries[0] = s->image->eval.vaddr;
	memcpy(s->entries + 1, s->helpers, s->helper_count * sizeof(*s->helpers));
	ret = flow_analyse(&s->stack, &s->region, s->entries, 1 + s->helper_count);
	if (!ret)
		ret = values_analyse(&s->values, &s->region, &s->stack, s->zone, s->owner,
				     s->entries, 1 + s->helper_count);
	if (ret == -ENOTSUP)
		py_plan_refuse(s->plan, "the code of the calls is too involved");
	return ret;
}

static int search_all(struct c_search *s)
{
	unsigned int stepped = 0;
	int ret = find_types(s);

	if (!ret)
		ret = load_code(s);
	if (!ret)
		ret = follow_values(s);
	if (!ret)
		ret = find_calls(s);
	if (!ret && !s->call_count)
		ret = py_plan_refuse(s->plan, "no call sites were found");
	for (size_t k = 0; k < s->call_count && !ret; k++)
		ret = call_probe(s, &s->calls[k]);
	if (!ret)
		ret = c_opcodes_add(s);
	for (size_t k = 0; k < s->plan->site_count; k++)
		stepped += !(s->finder->emulated >> s->plan->sites[k].insn_class & 1);
	if (!ret && stepped) {
		size_t len = strlen(s->plan->reason);

		snprintf(s->plan->reason + len, sizeof(s->plan->reason) - len,
			 "%s%u of %zu probes are single-stepped: some 6 us each time",
			 len ? "; " : "", stepped, s->plan->site_count);
	}
	return ret;
}

int py_sites_c(const struct py_image *image, const struct py_finder *finder,
	       struct py_engine_plan *plan)
{
	struct c_search *s = calloc(1, sizeof(*s));
	int ret;

	if (!s)
		return -ENOMEM;
	s->image = image;
	s->finder = finder;
	s->plan = plan;
	if (!image->engines[PY_ENGINE_FRAME].usable)
		ret = py_plan_refuse(plan, "the frame engine cannot be used");
	else
		ret = search_all(s);
	flow_release(&s->flow);
	flow_release(&s->stack);
	region_release(&s->region);
	values_release(&s->values);
	free(s->owner);
	free(s->zone);
	free(s->todo);
	free(s);
	return ret;
}
