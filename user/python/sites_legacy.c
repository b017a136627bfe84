// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * Frame sites up to 3.10, where _PyEval_EvalFrameDefault() runs once for each Python frame:
 *
 *	if (Py_EnterRecursiveCall(tstate, "")) return NULL;
 *	tstate->frame = f;              <- enter
 *	...
 * exit_eval_frame:
 *	Py_LeaveRecursiveCall(tstate);
 *	tstate->frame = f->f_back;      <- exit
 *	return _Py_CheckFunctionResult(...);
 *
 * (Python/ceval.c; the compiler may have several copies of each.) The two kinds of stores are found
 * by what they are; that they are all of them, and that each call passes exactly one of each, is
 * then proven on the function's control flow, so that recursion to the limit (where the first line
 * returns) and every way out are right. What cannot be proven is refused. The function's entry is
 * not probed: it comes before the recursion check.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "python/paths.h"

#define ROLE_ENTER 0x10
#define ROLE_EXIT  0x20
#define ROLE_STORE 0x40 /* a store that an exit passes: where it is probed at first */
#define ROLE_EARLY 0x80 /* a jump before such stores */

#define CALLEE_SAVED (1u << MC_RBX | 1u << MC_RBP | 1u << 12 | 1u << 13 | 1u << 14 | 1u << MC_R15)
#define ARG_1        (1u << MC_RDI)
#define ARG_2        (1u << MC_RSI)
#define ENTRY_STEPS  256 /* instructions from the function's entry to its first enter store */
#define LOAD_STEPS   16  /* from the load of f->f_back to the store */
#define MOVE_STEPS   12  /* from a store to the instruction that is probed */
#define EARLY_STEPS  12  /* from a jump to the exit store behind it */

struct legacy {
	const struct pt_layout *layout;
	const struct py_finder *finder;
	struct region region;
	struct paths paths;
	/* sets of registers: at the first enter store, then only the callee-saved ones, which
	 * hold the same all through the function */
	uint16_t tstate, frame;
	size_t enters, exits;
	bool early; /* exits are probed at jumps before their stores */
};

static bool is_frame_store(const struct legacy *legacy, const struct mc_insn *insn)
{
	return insn->op == MC_OP_MOV && insn->mem == 1 && insn->mem_bytes == 8 &&
	       insn->index == MC_NO_REG && insn->disp == legacy->layout->ts_frame &&
	       insn->base < MC_RIP && insn->base != MC_RSP && insn->reg[1] < MC_RIP;
}

static uint16_t follow_copy(const struct mc_insn *insn, uint16_t set)
{
	bool copied = insn->op == MC_OP_MOV && !insn->mem && insn->reg_bytes == 8 &&
		      insn->reg[0] < MC_RIP && insn->reg[1] < MC_RIP && set >> insn->reg[1] & 1;

	set &= (uint16_t)~insn->writes;
	return copied ? (uint16_t)(set | 1u << insn->reg[0]) : set;
}

/* "test r, r" with r holding the thread state: the jump for NULL behind it is a fatal error. */
static void mark_null_check(struct legacy *legacy, size_t i, uint16_t tstate)
{
	const struct mc_insn *insn = &legacy->region.insns[i];
	size_t next = region_next(&legacy->region, i);

	if (insn->op == MC_OP_TEST && !insn->mem && insn->reg_bytes == 8 &&
	    insn->reg[0] == insn->reg[1] && insn->reg[0] < MC_RIP && tstate >> insn->reg[0] & 1 &&
	    next != REGION_NONE && legacy->region.insns[next].flow == MC_FLOW_JCC &&
	    legacy->region.insns[next].cc == MC_CC_E)
		legacy->paths.roles[next] |= PATHS_NEVER;
}

/*
 * Goes straight on from the entry to the first store of the frame argument into another structure
 * at tstate->frame's offset. 3.8 takes (f, throwflag) and loads tstate itself; 3.9 and 3.10 take
 * (tstate, f, throwflag).
 */
static bool find_first_enter(struct legacy *legacy)
{
	bool old = legacy->layout->version < 0x03090000;
	uint16_t tstate = old ? 0 : ARG_1, frame = old ? ARG_1 : ARG_2;
	size_t i = legacy->paths.entry;

	for (int step = 0; step < ENTRY_STEPS && i != REGION_NONE; step++) {
		const struct mc_insn *insn = &legacy->region.insns[i];

		if (is_frame_store(legacy, insn) && frame >> insn->reg[1] & 1 &&
		    (old ? !(frame >> insn->base & 1) : tstate >> insn->base & 1)) {
			if (old)
				tstate = (uint16_t)(1u << insn->base);
			legacy->tstate = tstate;
			legacy->frame = frame;
			legacy->paths.roles[i] |= ROLE_ENTER;
			return true;
		}
		mark_null_check(legacy, i, tstate);
		tstate = follow_copy(insn, tstate);
		frame = follow_copy(insn, frame);
		if (insn->flow == MC_FLOW_JMP)
			i = region_index(&legacy->region, insn->target);
		else if (insn->flow == MC_FLOW_STOP || insn->flow == MC_FLOW_RET ||
			 insn->flow == MC_FLOW_JMP_INDIRECT)
			return false;
		else
			i = region_next(&legacy->region, i);
	}
	return false;
}

/* The load from f->f_back of the stored register, in a straight line before the store, or
 * REGION_NONE. */
static size_t f_back_load(const struct legacy *legacy, size_t store)
{
	const struct region *region = &legacy->region;
	uint8_t reg = region->insns[store].reg[1];
	size_t i = store;

	for (int step = 0; step < LOAD_STEPS; step++) {
		const struct mc_insn *insn;

		if (region->marks[i] & (REGION_TARGET | REGION_INDIRECT))
			return REGION_NONE;
		i = region_previous(region, i);
		if (i == REGION_NONE)
			return REGION_NONE;
		insn = &region->insns[i];
		if (insn->flow != MC_FLOW_NEXT && insn->flow != MC_FLOW_JCC)
			return REGION_NONE;
		if (!(insn->writes >> reg & 1))
			continue;
		if (insn->op != MC_OP_MOV || insn->mem != 2 || insn->mem_bytes != 8 ||
		    insn->index != MC_NO_REG || insn->disp != legacy->layout->frame_back ||
		    insn->base >= MC_RIP || !(legacy->frame >> insn->base & 1))
			return REGION_NONE;
		return i;
	}
	return REGION_NONE;
}

static bool stores_f_back(const struct legacy *legacy, size_t store)
{
	return f_back_load(legacy, store) != REGION_NONE;
}

/* The registers that hold the frame that is left, at the store. */
static uint16_t left_frame(const struct legacy *legacy, size_t store)
{
	size_t i = f_back_load(legacy, store);
	uint16_t set = (uint16_t)(1u << legacy->region.insns[i].base);

	for (; i != store; i = region_next(&legacy->region, i))
		set = follow_copy(&legacy->region.insns[i], set);
	return set;
}

/* Gives every store to tstate->frame its role. Returns a store that is neither, or REGION_NONE. */
static size_t mark_stores(struct legacy *legacy)
{
	for (size_t i = 0; i < legacy->region.insn_count; i++) {
		const struct mc_insn *insn = &legacy->region.insns[i];

		if (legacy->paths.roles[i] & ROLE_ENTER) {
			legacy->enters++;
			continue;
		}
		if (!is_frame_store(legacy, insn) || !(legacy->tstate >> insn->base & 1))
			continue;
		if (legacy->frame >> insn->reg[1] & 1 && !stores_f_back(legacy, i)) {
			legacy->paths.roles[i] |= ROLE_ENTER;
			legacy->enters++;
		} else if (stores_f_back(legacy, i)) {
			legacy->paths.roles[i] |= ROLE_EXIT | ROLE_STORE;
			legacy->exits++;
		} else {
			return i;
		}
	}
	return REGION_NONE;
}

/* NULL, or what could not be proven. */
static const char *prove(struct legacy *legacy)
{
	struct paths *paths = &legacy->paths;
	const uint8_t sites = ROLE_ENTER | ROLE_EXIT;
	uint8_t met = paths_forward(paths, 0, ROLE_ENTER);

	if (met & (ROLE_EXIT | PATHS_UNKNOWN) || !(met & ROLE_ENTER))
		return "a way into the function's body may avoid the enter sites";
	met = paths_backward(paths, ROLE_ENTER, sites);
	if (met & (sites | PATHS_UNKNOWN))
		return "a call may pass two enter sites";
	met = paths_backward(paths, PATHS_RETURN, sites);
	if (met & (ROLE_ENTER | PATHS_UNKNOWN) || !(met & ROLE_EXIT))
		return "a way out of the function may avoid the exit sites";
	met = paths_forward(paths, ROLE_EXIT, PATHS_RETURN);
	if (met & (sites | PATHS_UNKNOWN) || !(met & PATHS_RETURN))
		return "a call may pass two exit sites";
	return NULL;
}

/* PT_REG_NONE, if there is none */
static unsigned int lowest(uint16_t set)
{
	unsigned int reg = 0;

	while (reg < 16 && !(set >> reg & 1))
		reg++;
	return reg;
}

struct position {
	size_t insn;
	uint16_t tstate, frame; /* what holds them there */
	int moved;
};

/* The store itself, or the next instruction behind it that the kernel emulates, if nothing but the
 * store leads there and the wanted registers still hold. The frame that is entered, or left; of the
 * latter it is welcome, but not waited for. */
static struct position find_position(const struct legacy *legacy, size_t store, bool enter)
{
	const struct region *region = &legacy->region;
	const struct mc_insn *insn = &region->insns[store];
	struct position raw = {store, (uint16_t)(1u << insn->base),
			       enter ? (uint16_t)(1u << insn->reg[1]) : left_frame(legacy, store),
			       0};
	struct position at = {store, (uint16_t)(raw.tstate | legacy->tstate), raw.frame, 0};

	if (enter)
		at.frame |= legacy->frame;
	while (at.moved < MOVE_STEPS) {
		at.tstate = follow_copy(insn, at.tstate);
		at.frame = follow_copy(insn, at.frame);
		if (insn->flow != MC_FLOW_NEXT)
			break;
		at.insn = region_next(region, at.insn);
		at.moved++;
		if (at.insn == REGION_NONE || !at.tstate || (enter && !at.frame) ||
		    region->marks[at.insn] & (REGION_TARGET | REGION_INDIRECT))
			break;
		insn = &region->insns[at.insn];
		if (legacy->finder->emulated >> insn->class & 1 && !insn->refused)
			return at;
	}
	return raw;
}

/*
 * Where no register holds the frame any more behind the store (Debian's 3.9 loads f_back over it),
 * and greenlets need it (sites_throw.c): shortly before lies the jump of Py_LeaveRecursiveCall().
 * Those jumps are as good as the stores, if every way from them leads straight to a store, and
 * prove() agrees.
 */

/* Does none of the instructions from i up to the one at end change the register? */
static bool keeps(const struct region *region, size_t i, size_t end, uint8_t reg)
{
	for (int step = 0; step < EARLY_STEPS && i != REGION_NONE; step++) {
		if (i == end)
			return true;
		if (region->insns[i].writes >> reg & 1)
			return false;
		i = region_next(region, i);
	}
	return false;
}

/* The exit store to which the instructions from i on lead straight, with the frame and the thread
 * state in registers all the way; or REGION_NONE. */
static size_t straight_to_exit(const struct legacy *legacy, size_t i)
{
	const struct region *region = &legacy->region;
	size_t store = i, load;

	for (int step = 0; step < EARLY_STEPS && store != REGION_NONE; step++) {
		if (legacy->paths.roles[store] & ROLE_STORE ||
		    region->insns[store].flow != MC_FLOW_NEXT)
			break;
		store = region_next(region, store);
	}
	if (store == REGION_NONE || !(legacy->paths.roles[store] & ROLE_STORE))
		return REGION_NONE;
	load = f_back_load(legacy, store);
	return load != REGION_NONE && keeps(region, i, load, region->insns[load].base) &&
		       keeps(region, i, store, region->insns[store].base)
		   ? store
		   : REGION_NONE;
}

/* Is it such a jump? Then *at has the registers. */
static bool early_exit(const struct legacy *legacy, size_t i, struct position *at)
{
	const struct mc_insn *insns = legacy->region.insns, *insn = &insns[i];
	size_t taken, next, load;

	if (insn->flow != MC_FLOW_JCC || insn->refused ||
	    !(legacy->finder->emulated >> insn->class & 1))
		return false;
	taken = region_index(&legacy->region, insn->target);
	taken = taken == REGION_NONE ? taken : straight_to_exit(legacy, taken);
	next = region_next(&legacy->region, i);
	next = next == REGION_NONE ? next : straight_to_exit(legacy, next);
	if (taken == REGION_NONE || next == REGION_NONE)
		return false;
	load = f_back_load(legacy, taken);
	*at = (struct position){i, (uint16_t)(1u << insns[taken].base),
				(uint16_t)(1u << insns[load].base), 0};
	return insns[next].base == insns[taken].base &&
	       insns[f_back_load(legacy, next)].base == insns[load].base;
}

static bool exits_lose_frame(const struct legacy *legacy)
{
	for (size_t i = 0; i < legacy->region.insn_count; i++)
		if (legacy->paths.roles[i] & ROLE_EXIT && !find_position(legacy, i, false).frame)
			return true;
	return false;
}

/* Exits are where this role is. */
static void place_exits(struct legacy *legacy, uint8_t role)
{
	uint8_t *roles = legacy->paths.roles;

	legacy->exits = 0;
	for (size_t i = 0; i < legacy->region.insn_count; i++) {
		bool here = roles[i] & role;

		roles[i] = (uint8_t)((roles[i] & ~ROLE_EXIT) | (here ? ROLE_EXIT : 0));
		legacy->exits += here;
	}
}

/* Goes over to the jumps, if they will do. */
static void take_early_exits(struct legacy *legacy)
{
	struct position at;

	if (!exits_lose_frame(legacy))
		return;
	for (size_t i = 0; i < legacy->region.insn_count; i++)
		if (early_exit(legacy, i, &at))
			legacy->paths.roles[i] |= ROLE_EARLY;
	place_exits(legacy, ROLE_EARLY);
	legacy->early = !prove(legacy);
	if (!legacy->early)
		place_exits(legacy, ROLE_STORE);
}

static int add_site(const struct legacy *legacy, struct py_engine_plan *plan, size_t i,
		    size_t *raw_count)
{
	static const char *const moved[MOVE_STEPS + 1] = {
	    "raw",      "moved +1", "moved +2", "moved +3",  "moved +4",  "moved +5", "moved +6",
	    "moved +7", "moved +8", "moved +9", "moved +10", "moved +11", "moved +12"};
	bool enter = legacy->paths.roles[i] & ROLE_ENTER, early = legacy->early && !enter;
	struct position at;
	struct py_site site;
	int rc;

	if (!early || !early_exit(legacy, i, &at))
		at = find_position(legacy, i, enter);
	rc = py_site_init(&site, legacy->finder->elf, legacy->region.insns[at.insn].vaddr);
	if (rc)
		return rc;
	if (legacy->region.insns[at.insn].refused)
		return py_plan_refuse(plan, "the kernel puts no uprobe at %#llx",
				      (unsigned long long)site.vaddr);
	/* raw_delta: on the store itself, and before it, nothing has happened yet */
	site.cookie = PT_COOKIE(enter ? PT_SITE_ENTER_REG : PT_SITE_EXIT,
				at.moved ? 0
				: enter  ? -1
					 : 1,
				lowest(at.tstate), 0, lowest(at.frame), 0, 0, plan->site_count);
	site.counter_vaddr = legacy->region.insns[i].vaddr;
	site.method = early ? "jump before" : moved[at.moved];
	*raw_count += at.moved == 0 && !early;
	return py_plan_add(plan, &site);
}

static int add_sites(const struct legacy *legacy, struct py_engine_plan *plan)
{
	size_t raw_count = 0;
	int rc = 0;

	for (size_t i = 0; i < legacy->region.insn_count && !rc; i++)
		if (legacy->paths.roles[i] & (ROLE_ENTER | ROLE_EXIT))
			rc = add_site(legacy, plan, i, &raw_count);
	if (!rc && raw_count)
		snprintf(plan->reason, sizeof(plan->reason),
			 "%zu of %zu sites cannot move to an instruction that the kernel emulates",
			 raw_count, legacy->enters + legacy->exits);
	return rc;
}

static int find_sites(struct legacy *legacy, const struct py_image *image,
		      struct py_engine_plan *plan)
{
	const char *doubt;
	size_t odd;
	int rc = region_load(&legacy->region, legacy->finder, image->eval.vaddr);

	if (!rc)
		rc = region_find_tables(&legacy->region);
	if (rc == -ENOTSUP)
		return py_plan_refuse(plan, "%s", legacy->region.reason);
	if (!rc)
		rc = paths_load(&legacy->paths, &legacy->region, image->eval.vaddr);
	if (rc)
		return rc;
	if (!find_first_enter(legacy))
		return py_plan_refuse(plan, "_PyEval_EvalFrameDefault does not set tstate->frame "
					    "the way it is known to");
	legacy->tstate &= CALLEE_SAVED;
	legacy->frame &= CALLEE_SAVED;
	odd = mark_stores(legacy);
	if (odd != REGION_NONE)
		return py_plan_refuse(plan,
				      "tstate->frame seems to be set at %#llx in a way that "
				      "is not known",
				      (unsigned long long)legacy->region.insns[odd].vaddr);
	doubt = prove(legacy);
	if (doubt)
		return py_plan_refuse(plan, "%s (%zu enter, %zu exit sites)", doubt, legacy->enters,
				      legacy->exits);
	take_early_exits(legacy);
	return add_sites(legacy, plan);
}

int py_sites_legacy(const struct py_image *image, const struct py_finder *finder,
		    struct py_engine_plan *plan)
{
	struct legacy legacy = {.layout = &image->layout, .finder = finder};
	int rc;

	if (image->version >= 0x030b0000)
		return py_plan_refuse(plan, "these sites end with CPython 3.10");
	rc = find_sites(&legacy, image, plan);
	paths_release(&legacy.paths);
	region_release(&legacy.region);
	return rc;
}
