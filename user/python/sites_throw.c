// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * Chains of frames up to 3.10: what must be known of an interpreter so that they tell greenlets
 * apart (bpf/chain.h, bpf/async.h).
 *
 * _gen_throw() (Objects/genobject.c), from 3.9 on, where a generator delegates to another one:
 *
 *	f = tstate->frame;
 *	tstate->frame = gen->gi_frame;  <- probed
 *	ret = _gen_throw(yf, ..);
 *	tstate->frame = f;
 *
 * 3.9 and the first of 3.10 leave gi_frame->f_back NULL, so the chain ends there. The function is
 * the one that calls itself with such a store before, which generator.throw() is or calls. The
 * compiler may have put it into others as well: all calls of it in the file are looked at.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "python/region.h"
#include "python/scan.h"

#define TYPE_METHODS  232 /* PyTypeObject.tp_methods, 3.8 to 3.15 */
#define DEF_BYTES     32  /* PyMethodDef: name, function, flags, doc */
#define METHODS_MAX   16
#define STORE_STEPS   16         /* from the store to the call; the most seen is 5 */
#define WHOLE_VERSION 0x030a0800 /* from here on, at the latest, f_back is set */

struct throws {
	const struct py_image *image;
	const struct py_finder *finder;
	struct py_engine_plan *plan;
	uint64_t function; /* _gen_throw() */
	int rc;
};

/* The C function of generator.throw(), or 0. */
static uint64_t throw_method(const struct elf_file *elf)
{
	uint64_t def = 0, name = 0, function = 0;
	struct elf_symbol type;
	const char *text;

	if (!elf_symbol(elf, "PyGen_Type", &type) ||
	    elf_read_ptr(elf, type.vaddr + TYPE_METHODS, &def))
		return 0;
	for (int i = 0; i < METHODS_MAX; i++, def += DEF_BYTES) {
		if (elf_read_ptr(elf, def, &name) || !name)
			return 0;
		text = elf_string_at_vaddr(elf, name, sizeof("throw"));
		if (text && !strcmp(text, "throw"))
			return elf_read_ptr(elf, def + 8, &function) ? 0 : function;
	}
	return 0;
}

/* The store to tstate->frame in a straight line before the call, or REGION_NONE. */
static size_t store_before(const struct throws *throws, const struct region *region, size_t i)
{
	for (int step = 0; step < STORE_STEPS; step++) {
		const struct mc_insn *insn;

		if (region->marks[i] & (REGION_TARGET | REGION_INDIRECT))
			return REGION_NONE;
		i = region_previous(region, i);
		if (i == REGION_NONE || region->insns[i].flow != MC_FLOW_NEXT)
			return REGION_NONE;
		insn = &region->insns[i];
		if (insn->op == MC_OP_MOV && insn->mem == 1 && insn->mem_bytes == 8 &&
		    insn->index == MC_NO_REG && insn->disp == throws->image->layout.ts_frame &&
		    insn->base < MC_RIP && insn->base != MC_RSP && insn->reg[1] < MC_RIP)
			return i;
	}
	return REGION_NONE;
}

/* Does the function call itself behind such a store? */
static bool calls_itself(const struct throws *throws, uint64_t function)
{
	struct region region = {0};
	bool found = false;

	if (!region_load(&region, throws->finder, function))
		for (size_t i = 0; i < region.insn_count && !found; i++)
			found = region.insns[i].flow == MC_FLOW_CALL &&
				region.insns[i].target == function &&
				store_before(throws, &region, i) != REGION_NONE;
	region_release(&region);
	return found;
}

static uint64_t find_function(const struct throws *throws)
{
	uint64_t method = throw_method(throws->finder->elf), found = 0;
	struct region region = {0};

	if (!method || calls_itself(throws, method))
		return method;
	if (!region_load(&region, throws->finder, method)) {
		for (size_t i = 0; i < region.insn_count && !found; i++) {
			const struct mc_insn *insn = &region.insns[i];

			if ((insn->flow == MC_FLOW_CALL || insn->flow == MC_FLOW_JMP) &&
			    !region_holds(&region, insn->target) &&
			    calls_itself(throws, insn->target))
				found = insn->target;
		}
	}
	region_release(&region);
	return found;
}

static int add_site(struct throws *throws, const struct mc_insn *insn)
{
	if (insn->refused)
		return py_plan_refuse(throws->plan, "the kernel puts no uprobe at %#llx",
				      (unsigned long long)insn->vaddr);
	return py_plan_add_at(throws->plan, throws->finder->elf, insn->vaddr,
			      PT_COOKIE(PT_SITE_THROW, 0, insn->base, 0, insn->reg[1], 0, 0, 0),
			      "generator's throw");
}

/* What looks like a call of it; 3.10 stores another frame as well, which BPF finds out. */
static int see_call(uint64_t vaddr, uint64_t target, void *ctx)
{
	struct throws *throws = ctx;
	const struct eh_range *range;
	struct region region = {0};
	size_t i, store;

	if (target != throws->function)
		return 0;
	range = eh_range_at(throws->finder->eh, vaddr);
	throws->rc = range ? region_load(&region, throws->finder, range->start) : -ENOTSUP;
	i = throws->rc ? REGION_NONE : region_index(&region, vaddr);
	if (i != REGION_NONE && region.insns[i].flow == MC_FLOW_CALL) {
		store = store_before(throws, &region, i);
		if (store != REGION_NONE)
			throws->rc = add_site(throws, &region.insns[store]);
	}
	region_release(&region);
	return throws->rc;
}

/* BPF follows the chain from the frame that is left; a probe that only knows the one below it
 * cannot tell which stack an outermost frame was of. */
static bool exits_tell_frames(const struct py_engine_plan *plan)
{
	for (size_t i = 0; i < plan->site_count; i++) {
		uint64_t cookie = plan->sites[i].cookie;

		if (PT_COOKIE_KIND(cookie) == PT_SITE_EXIT &&
		    PT_COOKIE_FRAME_REG(cookie) == PT_REG_NONE && PT_COOKIE_RAW_DELTA(cookie) <= 0)
			return false;
	}
	return true;
}

int py_sites_throw(struct py_image *image, const struct py_finder *finder,
		   struct py_engine_plan *plan)
{
	struct throws throws = {.image = image, .finder = finder, .plan = plan};

	image->rt.chains = 0;
	if (image->version >= 0x030b0000 || image->values.code_names == PT_NO_FIELD ||
	    !exits_tell_frames(&image->engines[PY_ENGINE_FRAME]))
		return 0;
	if (image->version >= 0x03090000)
		throws.function = find_function(&throws);
	if (throws.function)
		scan_calls(finder->elf, see_call, &throws);
	if (throws.rc == -ENOMEM)
		return throws.rc;
	image->rt.chains = image->version < 0x03090000 || image->version >= WHOLE_VERSION ||
			   (!throws.rc && plan->site_count);
	return 0;
}
