// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * The frame engine for CPython 3.11 and later: probes at the interpreter's own recursion counter.
 *
 * From 3.11 on Python calls Python without leaving _PyEval_EvalFrameDefault(), so a probe at its
 * entry sees few of the calls. But every frame that starts counts (Python/ceval.c,
 * _Py_EnterRecursivePy and _PUSH_FRAME), and every frame that ends counts back: 6 to 22
 * instructions in all, found in the machine code of a stripped file:
 *
 *   the counter's offset  counter.h, from the exported Py_SetRecursionLimit()
 *   the code              region.h, from .eh_frame
 *   the thread state      flow.h, the registers that hold it
 *   the counting          counter.h
 *   where the probe goes  place.h
 *
 * 3.12+: all sites are PT_SITE_DELTA. BPF compares the depth with the last one it saw, so a site
 * may fire too often, and an enter may be noticed a little later: at the RESUME instruction that
 * every Python frame runs. 3.11: the counter also counts C calls, so each site has a direction.
 *
 * Whatever is unclear makes the engine say no.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "python/failed.h"
#include "python/parts.h"
#include "python/place.h"

#define HELPER_MAX_BYTES 128 /* _Py_EnterRecursivePy() out of line, in a -Og build */
#define HELPERS_MAX      16
#define SITES_WANTED_MAX 200
#define FIRST_EVENT_BITS (PT_COOKIE_WITH_DIR(0, 3) | PT_COOKIE_BEFORE_POP)
#define POP_LOOK_BACK    12 /* instructions before the counter among which the store may be */
#define CFRAME_LOOK      24 /* instructions from the C frame's address to where it is stored */

/* Opcode numbers: Include/opcode.h up to 3.12, Include/opcode_ids.h of 3.13 and later. */
static const struct resume_opcodes {
	unsigned int minor;
	uint8_t opcode[PY_RESUME_OPCODES];
} resume_opcodes[] = {
    {11, {151, 0, 150, 0}}, /* the latter: RESUME_QUICK */
    {12, {151, 240, 0, 0}},   {13, {149, 236, 207, 0}},
    {14, {128, 245, 196, 0}}, {15, {128, 244, 200, 201}},
};

struct search {
	const struct py_image *image;
	const struct py_finder *finder;
	struct pt_layout *layout;
	struct py_engine_plan *plan;
	struct region region;
	struct flow flow;
	struct counters counters;
	struct place_finder places;
	uint8_t *failed;                   /* 3.11: marks of failed.h, one for each instruction */
	uint64_t entries[1 + HELPERS_MAX]; /* functions of the region that take the thread state */
	size_t entry_count;
	bool delta; /* 3.12+ */
	bool need_resume;
	int32_t frame_slot; /* 3.11, 3.12: where the current frame is kept; or FLOW_SP_UNKNOWN */
	unsigned int raw_count, enter_ways, exit_ways;
};

static unsigned int minor_of(const struct py_image *image)
{
	return image->version >> 16 & 0xff;
}

static const char *method_moved(unsigned int distance)
{
	static const char *const texts[] = {
	    "raw",      "moved +1", "moved +2", "moved +3",  "moved +4",  "moved +5",  "moved +6",
	    "moved +7", "moved +8", "moved +9", "moved +10", "moved +11", "moved +12",
	};

	return distance < sizeof(texts) / sizeof(texts[0]) ? texts[distance] : "moved far";
}

/* ---- adding sites ---- */

struct wanted { /* what a site's cookie says beside its place */
	enum pt_site_kind kind;
	int raw_delta;
	unsigned int frame_reg;
	const char *method;
	unsigned int code_reg; /* 1 + register, 0 none */
	unsigned int left_reg; /* likewise */
};

/* Two reasons for a probe at one place: what they do not both mean is not said. */
static void cookie_widen(uint64_t *cookie, unsigned int condition, uint64_t first_event)
{
	if (PT_COOKIE_COND(*cookie) != condition)
		*cookie &= ~((uint64_t)0x3f << 26);
	*cookie &= ~((uint64_t)0x1f << 51);
	if ((*cookie & FIRST_EVENT_BITS) != first_event)
		*cookie &= ~FIRST_EVENT_BITS;
}

/*
 * 3.11 and 3.12: the evaluation function has a C frame (struct _PyCFrame) on its stack, with the
 * pointer to the current frame in it, and gives its address to the thread state.
 */
static int32_t frame_slot_find(const struct search *s)
{
	const struct region *region = &s->region;

	for (size_t i = 0; i < region->insn_count; i++) {
		const struct mc_insn *lea = &region->insns[i];
		int32_t slot;

		if (lea->op != MC_OP_LEA || !flow_slot(lea, &s->flow.states[i], &slot))
			continue;
		for (size_t k = i + 1; k < region->insn_count && k <= i + CFRAME_LOOK; k++) {
			const struct mc_insn *insn = &region->insns[k];

			if (insn->op == MC_OP_MOV && insn->mem == 1 &&
			    insn->disp == s->layout->ts_frame && insn->reg[1] == lea->reg[0] &&
			    flow_proves(&s->flow, k, insn->base))
				return slot + s->layout->cframe_frame;
			if (insn->flow != MC_FLOW_NEXT || insn->writes >> lea->reg[0] & 1)
				break;
		}
	}
	return FLOW_SP_UNKNOWN;
}

static bool sets_current_frame(const struct search *s, size_t i, uint8_t base)
{
	const struct mc_insn *insn = &s->region.insns[i];
	int32_t slot;

	if (insn->mem != 1 || insn->mem_bytes != 8)
		return false;
	if (s->frame_slot != FLOW_SP_UNKNOWN && flow_slot(insn, &s->flow.states[i], &slot) &&
	    slot == s->frame_slot)
		return true;
	return insn->base == base && insn->disp == s->layout->ts_frame;
}

/*
 * Is the frame that is left still the current one where the probe fires? The store of the pointer
 * says: into the thread state (3.13+), or into the C frame (3.12), before the counter or behind it,
 * as the compiler likes. 3.11 counts back first (RETURN_VALUE and exit_unwind in Python/ceval.c),
 * so there it still is, unless the store or the end of the C frame is on the way to the probe.
 */
static bool exits_before_pop(const struct search *s, const struct counter *counter,
			     const struct place *place)
{
	size_t i = counter->insn;

	if (counter->delta <= 0 || place->insn == REGION_NONE)
		return false;
	while (s->delta && i > 0 && counter->insn - i < POP_LOOK_BACK &&
	       s->region.insns[i - 1].flow == MC_FLOW_NEXT)
		i--;
	for (; i < place->insn; i++)
		if (sets_current_frame(s, i, counter->base))
			return false;
	return true;
}

/* What the first event of a thread that was running before is: its depth alone does not tell. */
static uint64_t first_event_bits(const struct search *s, const struct counter *counter,
				 const struct place *place)
{
	if (!s->delta || (counter && !counter->delta))
		return 0;
	if (!counter || counter->delta < 0)
		return PT_COOKIE_WITH_DIR(0, PT_DIR_ENTER);
	return PT_COOKIE_WITH_DIR(0, PT_DIR_EXIT) |
	       (exits_before_pop(s, counter, place) ? PT_COOKIE_BEFORE_POP : 0);
}

static int site_add(struct search *s, const struct place *place, const struct wanted *wanted,
		    const struct counter *counter)
{
	const struct mc_insn *insn = &s->region.insns[place->insn];
	uint64_t first_event = first_event_bits(s, counter, place);
	struct py_site site;
	int ret;

	/* On 3.12+ one probe may stand for several counters; in 3.11 for those that share a check.
	 */
	for (size_t i = 0; i < s->plan->site_count; i++) {
		uint64_t *cookie = &s->plan->sites[i].cookie;

		if (s->plan->sites[i].vaddr != insn->vaddr)
			continue;
		if (s->delta)
			cookie_widen(cookie, place->condition, first_event);
		else if (PT_COOKIE_KIND(*cookie) != wanted->kind ||
			 PT_COOKIE_COND(*cookie) != place->condition)
			return py_plan_refuse(s->plan, "two reasons for a probe at %#llx",
					      (unsigned long long)insn->vaddr);
		return 0;
	}
	if (s->plan->site_count >= SITES_WANTED_MAX)
		return py_plan_refuse(s->plan, "implausibly many sites");
	ret = py_site_init(&site, s->finder->elf, insn->vaddr);
	if (ret)
		return ret;
	site.cookie = PT_COOKIE(wanted->kind, wanted->raw_delta, place->ts, place->slot,
				wanted->frame_reg, place->condition, 0, s->plan->site_count);
	site.cookie |= first_event | (uint64_t)wanted->code_reg << 59 |
		       (uint64_t)wanted->left_reg << 51;
	site.counter_vaddr = counter ? s->region.insns[counter->insn].vaddr : 0;
	site.method = wanted->method;
	return py_plan_add(s->plan, &site);
}

static enum pt_site_kind kind_of(const struct search *s, const struct counter *counter)
{
	if (s->delta)
		return PT_SITE_DELTA;
	return counter->delta < 0 ? PT_SITE_ENTER : PT_SITE_EXIT;
}

/*
 * _Py_EnterRecursivePy() at start_frame and at the entry for throw() (Python/ceval.c, 3.12
 * to 3.15): the frame is the current one there, whoever made it so.
 */
static bool is_checked(const struct search *s, const struct counter *counter)
{
	struct counter_check checks[2];

	return counter_checks_find(checks, &s->counters, &s->region, counter->insn) > 0;
}

/* _PyInterpreterFrame.stacktop of 3.11 and 3.12 (pycore_frame.h): an int, with owner and another
 * small field in the 8 bytes that it begins. */
static uint16_t stacktop_offset(const struct search *s)
{
	return s->layout->frame_owner & ~7u;
}

/* Puts a probe at this place if the entered frame can be found there; -EAGAIN: it cannot. */
static int try_kind(struct search *s, const struct counter *counter, const struct place *place,
		    enum pt_site_kind kind, int raw_delta, const char *method)
{
	struct wanted wanted = {kind, raw_delta, PT_REG_NONE, method, 0, 0};

	if (place->insn == REGION_NONE)
		return -EAGAIN;
	/* 3.11 and 3.12 reach the frame through cframe, which is up to date already. */
	if (counter->delta <= 0 && s->layout->cframe_frame == PT_NO_FIELD &&
	    !is_checked(s, counter)) {
		int reg = place_frame_register(&s->places, counter, place, s->layout->ts_frame);

		if (reg < 0)
			return reg;
		wanted.frame_reg = (unsigned int)reg;
	}
	if (counter->delta < 0 && s->layout->cframe_frame != PT_NO_FIELD)
		wanted.frame_reg = place_started_frame(&s->places, place, stacktop_offset(s));
	if (s->delta && counter->delta == -1 && !raw_delta && wanted.frame_reg != PT_REG_NONE) {
		unsigned int reg = place_left_register(&s->places, counter, place);

		wanted.left_reg = reg == PT_REG_NONE ? 0 : reg + 1;
	}
	return site_add(s, place, &wanted, counter);
}

static int try_place(struct search *s, const struct counter *counter, const struct place *place,
		     int raw_delta, const char *method)
{
	if (!s->delta && exits_before_pop(s, counter, place))
		raw_delta = 1;
	return try_kind(s, counter, place, kind_of(s, counter), raw_delta, method);
}

static enum pt_site_kind passed_kind(const struct search *s, const struct counter_check *check)
{
	if (s->delta)
		return PT_SITE_DELTA;
	return check->slow_count ? PT_SITE_ENTER : PT_SITE_CHECKED;
}

/*
 * A frame that does not start because the recursion is too deep is no call. So the branch that
 * tells whether enough is left counts only if it is, and the branch behind the check only if it
 * passed. In 3.11 the exit of such a frame cannot be told from others where it happens, but the
 * failed check announces it; where it is inlined, no probe lies on the way of such an exit.
 */
static int add_passed(struct search *s, const struct counter *counter,
		      const struct counter_check *check, bool only_ask)
{
	for (size_t p = 0; p <= check->passed_count; p++) {
		const struct counter_branch *branch = p ? &check->passed[p - 1] : &check->branch;
		struct place place = place_branch(&s->places, branch->insn, branch->taken,
						  counter->base);
		int ret = place.insn == REGION_NONE ? -EAGAIN : 0;

		if (ret || only_ask)
			;
		else if (!p)
			ret = try_place(s, counter, &place, 0, "enough left");
		else
			ret = try_kind(s, counter, &place, passed_kind(s, check), 0,
				       "check passed");
		if (ret)
			return ret;
	}
	return check->passed_count ? 0 : -EAGAIN;
}

static int add_checked(struct search *s, const struct counter *counter)
{
	struct counter_check checks[2];
	size_t count = counter_checks_find(checks, &s->counters, &s->region, counter->insn);
	int ret = counter->delta >= 0 || !count ? -EAGAIN : 0;

	for (size_t i = 0; i < 2 * count && !ret; i++)
		ret = add_passed(s, counter, &checks[i % count], i < count);
	return ret;
}

/* The same for _Py_EnterRecursivePy() out of line: its caller tests what it returns. */
static int add_called(struct search *s, const struct counter *counter)
{
	uint64_t vaddr = s->region.insns[counter->insn].vaddr;
	const struct eh_range *range = eh_range_at(s->finder->eh, vaddr);
	struct place places[PLACE_EDGES_MAX];
	size_t count = 0;

	if (!range || range->start == s->image->eval.vaddr || counter->delta >= 0 ||
	    !is_checked(s, counter))
		return -EAGAIN;
	for (size_t i = 0; i < s->region.insn_count; i++) {
		const struct mc_insn *insn = &s->region.insns[i];
		bool taken;
		size_t branch;

		if (insn->flow != MC_FLOW_CALL || insn->target != range->start)
			continue;
		branch = counter_check_result(&s->region, i, &taken);
		if (count == PLACE_EDGES_MAX)
			return -EAGAIN;
		places[count] = place_branch(&s->places, branch, taken, PT_TS_NONE);
		if (places[count++].insn == REGION_NONE)
			return -EAGAIN;
	}
	for (size_t i = 0; i < count; i++) {
		int ret = try_place(s, counter, &places[i], 0, "check passed");

		if (ret)
			return ret;
	}
	return count ? 0 : -EAGAIN;
}

static int add_edges(struct search *s, const struct counter *counter)
{
	struct place edges[PLACE_EDGES_MAX];
	struct wanted wanted = {
	    kind_of(s, counter), counter->delta, PT_REG_NONE, "branch edge", 0, 0};
	size_t count = place_edges(&s->places, counter, edges);

	if (!count)
		return -EAGAIN;
	for (size_t i = 0; i < count; i++) {
		int ret = site_add(s, &edges[i], &wanted, counter);

		if (ret)
			return ret;
	}
	return 0;
}

static int add_single_stepped(struct search *s, const struct counter *counter)
{
	struct place place = place_behind(&s->places, counter);
	int ret = try_place(s, counter, &place, 0, "single-stepped +1");

	if (ret == -EAGAIN && (counter->delta || !s->delta)) {
		place = place_raw(&s->places, counter);
		ret = try_place(s, counter, &place, s->delta ? counter->delta : 0, "raw");
	}
	if (!ret)
		s->raw_count++;
	return ret;
}

static bool has_resume(const struct search *s)
{
	return s->delta && s->region.table_count;
}

static int add_counter(struct search *s, const struct counter *counter)
{
	struct place place = place_forward(&s->places, counter);
	int ret;

	if (place_is_covered(&s->places, counter))
		return 0;
	if (counter->failed) {
		ret = add_edges(s, counter);
		return ret != -EAGAIN
			   ? ret
			   : py_plan_refuse(
				 s->plan,
				 "what comes to %#llx from elsewhere than "
				 "from a failed check cannot be told",
				 (unsigned long long)s->region.insns[counter->insn].vaddr);
	}
	ret = add_called(s, counter);
	if (ret == -EAGAIN)
		ret = add_checked(s, counter);
	if (ret == -EAGAIN && counter->delta < 0 && is_checked(s, counter))
		return py_plan_refuse(s->plan,
				      "where the check behind %#llx lets a frame start cannot be "
				      "told",
				      (unsigned long long)s->region.insns[counter->insn].vaddr);
	if (ret == -EAGAIN)
		ret = try_place(s, counter, &place, 0, method_moved(place.distance));
	if (ret != -EAGAIN)
		return ret;
	if (counter->delta <= 0 && has_resume(s)) {
		s->need_resume = true;
		if (counter->delta < 0)
			return 0;
	}
	if (counter->delta > 0) {
		ret = add_edges(s, counter);
		if (ret != -EAGAIN)
			return ret;
	}
	ret = add_single_stepped(s, counter);
	if (ret == -EAGAIN)
		return py_plan_refuse(s->plan, "no safe place for a probe near %#llx",
				      (unsigned long long)s->region.insns[counter->insn].vaddr);
	return ret;
}

/* ---- RESUME ---- */

/* Of instr_ptr in _PyInterpreterFrame, 3.13 and 3.14 (pycore_frame.h); 3.15 needs no handlers. */
#define INSTR_PTR 56

static int add_handler(struct search *s, uint64_t table, unsigned int opcode)
{
	struct wanted wanted = {PT_SITE_DELTA, 0, PT_REG_NONE, "RESUME handler", 0, 0};
	size_t handler = region_table_entry(&s->region, table, opcode);
	struct place_frame frame;
	struct place place;

	if (handler == REGION_NONE)
		return py_plan_refuse(s->plan, "the handler of opcode %u is not in the loop",
				      opcode);
	place = place_handler(&s->places, handler);
	if (place.insn == REGION_NONE)
		return py_plan_refuse(
		    s->plan, "the thread state is not known in the handler of opcode %u", opcode);
	frame = place_handler_frame(&s->places, handler, &place, INSTR_PTR, s->layout->frame_code);
	wanted.frame_reg = frame.frame;
	wanted.code_reg = frame.code == PT_REG_NONE ? 0 : frame.code + 1;
	return site_add(s, &place, &wanted, NULL);
}

const uint8_t *py_resume_opcodes(unsigned int minor)
{
	for (size_t i = 0; i < sizeof(resume_opcodes) / sizeof(resume_opcodes[0]); i++)
		if (resume_opcodes[i].minor == minor)
			return resume_opcodes[i].opcode;
	return NULL;
}

/* Every table: 3.15 has a second one, used while it records for the JIT. */
static int add_resume(struct search *s)
{
	const uint8_t *opcodes = py_resume_opcodes(minor_of(s->image));

	if (!opcodes)
		return py_plan_refuse(s->plan, "the opcode numbers of this version are not known");
	for (size_t t = 0; t < s->region.table_count; t++)
		for (size_t o = 0; o < PY_RESUME_OPCODES; o++) {
			int ret = opcodes[o] ? add_handler(s, s->region.tables[t], opcodes[o]) : 0;

			if (ret)
				return ret;
		}
	return 0;
}

/* ---- helpers out of line ---- */

static int is_counter(const struct mc_insn *insn, void *ctx)
{
	const struct search *s = ctx;

	return counter_matches(insn, s->layout->ts_remaining) && insn->base == MC_RDI;
}

/* A small function that is called with the thread state and counts. */
static bool is_helper(struct search *s, const struct eh_range *range)
{
	uint64_t size = range->end - range->start;
	const uint8_t *bytes = elf_at_vaddr(s->finder->elf, range->start, size);

	/* Cheap first: the offset must stand in the code. */
	if (!bytes || size > HELPER_MAX_BYTES || s->layout->ts_remaining > 127 ||
	    !memchr(bytes, s->layout->ts_remaining, size))
		return false;
	return region_each_insn(s->finder->elf, s->region.decoder, range, is_counter, s) == 1;
}

static int add_helpers(struct search *s)
{
	size_t own = s->region.insn_count;
	uint64_t found[HELPERS_MAX];
	size_t count = 0;

	for (size_t i = 0; i < own && count < HELPERS_MAX; i++) {
		const struct mc_insn *insn = &s->region.insns[i];
		const struct eh_range *range;
		bool known = false;

		if (insn->flow != MC_FLOW_CALL || !flow_proves(&s->flow, i, MC_RDI))
			continue;
		range = eh_range_at(s->finder->eh, insn->target);
		for (size_t k = 0; k < count; k++)
			known |= found[k] == insn->target;
		if (known || !range || range->start != insn->target ||
		    region_holds(&s->region, insn->target) || !is_helper(s, range))
			continue;
		found[count++] = insn->target;
	}
	for (size_t i = 0; i < count; i++) {
		int ret = region_add_function(&s->region, found[i]);

		if (ret)
			return ret;
		s->entries[s->entry_count++] = found[i];
	}
	return 0;
}

/* ---- the search ---- */

static int analyse(struct search *s)
{
	int ret = region_find_tables(&s->region);

	flow_release(&s->flow);
	if (!ret)
		ret = flow_analyse(&s->flow, &s->region, s->entries, s->entry_count);
	return ret;
}

static int load_code(struct search *s)
{
	int ret = region_load_loop(&s->region, s->finder, s->image->eval.vaddr, minor_of(s->image));

	if (ret)
		return ret;
	s->entries[s->entry_count++] = s->image->eval.vaddr;
	ret = analyse(s);
	if (ret)
		return ret;
	/* In 3.11 small functions that count are C call brackets; later ones never mislead, because
	 * only the thread's own depth decides. */
	if (s->delta) {
		size_t before = s->entry_count;

		ret = add_helpers(s);
		if (!ret && s->entry_count != before)
			ret = analyse(s);
	}
	return ret;
}

/* The layout's own frame pointer must be in use in this code, or the layout is another version's.
 */
static bool layout_fits(const struct search *s)
{
	for (size_t i = 0; i < s->region.insn_count; i++) {
		const struct mc_insn *insn = &s->region.insns[i];

		if (insn->mem && insn->mem_bytes == 8 && insn->disp == s->layout->ts_frame &&
		    flow_proves(&s->flow, i, insn->base))
			return true;
	}
	return false;
}

static int find_counters(struct search *s)
{
	uint64_t vaddr = 0;
	int ret = counters_find(&s->counters, &s->region, &s->flow, s->layout->ts_remaining,
				&vaddr);

	if (ret == -ENOTSUP)
		return py_plan_refuse(s->plan, "the counting at %#llx may not be the thread's own",
				      (unsigned long long)vaddr);
	if (ret)
		return ret;
	counters_drop_corrections(&s->counters, &s->region);
	if (!s->delta) {
		counters_drop_brackets(&s->counters, &s->region);
		ret = counters_find_failed(&s->counters, &s->region, s->failed, &vaddr);
		if (ret == -ENOTSUP)
			return py_plan_refuse(
			    s->plan,
			    "what a failed check of the recursion at %#llx leads to "
			    "cannot be told",
			    (unsigned long long)vaddr);
		if (ret)
			return ret;
	}
	for (size_t i = 0; i < s->counters.count; i++) {
		const struct counter *counter = &s->counters.items[i];

		if (counter->dropped)
			continue;
		if (!counter->delta && !s->delta)
			return py_plan_refuse(
			    s->plan, "whether %#llx enters or leaves a frame cannot be told",
			    (unsigned long long)s->region.insns[counter->insn].vaddr);
		s->enter_ways += counter->delta <= 0;
		s->exit_ways += counter->delta >= 0;
	}
	if (!s->enter_ways || !s->exit_ways)
		return py_plan_refuse(s->plan,
				      "only %u ways to enter and %u to leave a frame found",
				      s->enter_ways, s->exit_ways);
	return 0;
}

static int add_all(struct search *s)
{
	int ret = 0;

	s->places = (struct place_finder){&s->region,          &s->flow,  &s->counters,
					  s->finder->emulated, s->failed, s->delta};
	for (size_t i = 0; i < s->counters.count && !ret; i++)
		if (!s->counters.items[i].dropped)
			ret = add_counter(s, &s->counters.items[i]);
	if (!ret && s->need_resume)
		ret = add_resume(s);
	if (!ret && s->raw_count)
		snprintf(s->plan->reason, sizeof(s->plan->reason),
			 "%u of %zu probes are single-stepped: some 6 us each time", s->raw_count,
			 s->plan->site_count);
	return ret;
}

static int take_offset(struct search *s)
{
	uint16_t offset;
	int ret = counter_offset(s->finder->elf, s->finder->eh, &offset);

	if (ret == -ENOMEM)
		return ret;
	if (ret)
		return py_plan_refuse(s->plan,
				      "the recursion counter is not where Py_SetRecursionLimit() "
				      "was expected to write it");
	if (s->layout->ts_remaining != PT_NO_FIELD && s->layout->ts_remaining != offset)
		return py_plan_refuse(s->plan,
				      "the recursion counter lies at %#x, not at %#x as in other "
				      "builds of this version",
				      offset, s->layout->ts_remaining);
	s->layout->ts_remaining = offset;
	return 0;
}

int py_sites_frame(const struct py_image *image, const struct py_finder *finder,
		   struct pt_layout *layout, struct py_engine_plan *plan)
{
	struct search s = {.image = image,
			   .finder = finder,
			   .layout = layout,
			   .plan = plan,
			   .delta = layout->flags & PT_LF_DELTA};
	int ret;

	if (image->free_threaded)
		return py_plan_refuse(plan, "free-threaded builds are not supported");
	ret = take_offset(&s);
	if (ret)
		return ret;
	ret = load_code(&s);
	if (ret == -ENOTSUP)
		py_plan_refuse(plan, "%s", s.region.reason);
	if (!ret && !layout_fits(&s))
		ret = py_plan_refuse(plan,
				     "the evaluation loop never uses the current frame at "
				     "offset %#x",
				     layout->ts_frame);
	s.frame_slot = FLOW_SP_UNKNOWN;
	if (!ret && layout->cframe_frame != PT_NO_FIELD) {
		s.frame_slot = frame_slot_find(&s);
		if (s.delta && s.frame_slot == FLOW_SP_UNKNOWN)
			ret = py_plan_refuse(plan, "where the evaluation function keeps the "
						   "current frame cannot be told");
	}
	if (!ret) {
		s.failed = calloc(s.region.insn_count, sizeof(*s.failed));
		ret = s.failed ? find_counters(&s) : -ENOMEM;
	}
	if (!ret)
		ret = add_all(&s);
	free(s.failed);
	counters_release(&s.counters);
	flow_release(&s.flow);
	region_release(&s.region);
	return ret;
}
