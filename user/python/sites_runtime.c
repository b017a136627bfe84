// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * Garbage collections and waits for the GIL.
 *
 * Collections: the USDT probes gc__start and gc__done where the build has them. Else the
 * collector's function, which is the one that names its own debug message; it has one entry, and a
 * probe on each of its returns needs no return probe. From 3.14 on sites_collector.c does that.
 *
 * The GIL: take_gil() holds the interpreter's only call of pthread_cond_timedwait(); probes sit on
 * that call and right behind it.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "python/region.h"
#include "python/scan.h"
#include "python/sdt_args.h"

#define GC_MESSAGE    "gc: collecting generation %d...\n" /* gcmodule.c, gc.c; 3.8 to 3.15 */
#define FUNCTIONS_MAX 4    /* clones of one function; the most seen is 2 */
#define PLT_MAX       4    /* .plt, .plt.got, .plt.sec */
#define STUBS_MAX     4096 /* of 16 bytes, so that none has the place of another */

/* ---- garbage collections by USDT ---- */

struct gc_notes {
	const struct elf_file *elf;
	struct py_engine_plan *plan;
	size_t starts, dones;
};

/* In a register, or an int on the stack. */
static bool arg_cookie(const struct sdt_arg *arg, unsigned int what, uint64_t *cookie)
{
	if (arg->memory &&
	    (arg->bytes != -4 || arg->disp % 4 || arg->disp < -512 || arg->disp > 508))
		return false;
	*cookie = PT_COOKIE_RT(what, arg->reg, arg->memory ? arg->disp / 4 : 0, PT_REG_NONE, 0);
	if (arg->memory)
		*cookie |= PT_RT_MEMORY;
	return true;
}

static int see_gc_note(const struct elf_sdt_note *note, void *ctx)
{
	struct gc_notes *notes = ctx;
	bool start = !strcmp(note->name, "gc__start");
	struct sdt_arg arg;
	struct py_site site;
	uint64_t cookie;
	int rc;

	if (strcmp(note->provider, "python") || (!start && strcmp(note->name, "gc__done")))
		return 0;
	rc = py_site_init(&site, notes->elf, note->vaddr);
	if (rc == -ENOMEM)
		return rc;
	if (rc || !sdt_arg_parse(note->args, 0, &arg) || arg.constant ||
	    !arg_cookie(&arg, start ? PT_RT_SITE_GC_START : PT_RT_SITE_GC_DONE, &cookie) ||
	    (note->semaphore_vaddr &&
	     !elf_vaddr_to_offset(notes->elf, note->semaphore_vaddr, &site.ref_ctr_offset)))
		return py_plan_refuse(notes->plan, "the %s probe cannot be understood (%s)",
				      note->name, note->args);
	++*(start ? &notes->starts : &notes->dones);
	site.cookie = cookie;
	site.method = start ? "gc__start" : "gc__done";
	return py_plan_add(notes->plan, &site);
}

/* ---- garbage collections by the collector's function ---- */

struct functions {
	const struct py_finder *finder;
	uint64_t starts[FUNCTIONS_MAX];
	size_t count;
	bool too_many;
};

static int add_function(struct functions *functions, uint64_t start)
{
	for (size_t i = 0; i < functions->count; i++)
		if (functions->starts[i] == start)
			return 0;
	if (functions->count == FUNCTIONS_MAX) {
		functions->too_many = true;
		return 1;
	}
	functions->starts[functions->count++] = start;
	return 0;
}

static int see_reference(uint64_t vaddr, uint64_t target, void *ctx)
{
	struct functions *functions = ctx;
	const struct eh_range *range = eh_range_at(functions->finder->eh, vaddr);

	(void)target;
	return range ? add_function(functions, range->start) : 0;
}

static int count_call(uint64_t vaddr, uint64_t target, void *ctx)
{
	const uint64_t *called = ctx;

	(void)vaddr;
	return target == *called;
}

static int add_collector(const struct py_finder *finder, uint64_t start,
			 struct py_engine_plan *plan)
{
	struct region region = {0};
	size_t returns = 0, entry;
	int rc = region_load(&region, finder, start);

	if (rc == -ENOTSUP)
		rc = py_plan_refuse(plan, "the collector cannot be decoded: %s", region.reason);
	entry = rc ? 0 : region_index(&region, start);
	while (!rc && entry != REGION_NONE && region.insns[entry].op == MC_OP_ENDBR)
		entry = region_next(&region, entry);
	if (!rc && entry == REGION_NONE)
		rc = py_plan_refuse(plan, "the collector's entry cannot be decoded");
	/* the thread state is its first argument; 3.8 has none, and needs none */
	if (!rc)
		rc = py_plan_add_at(plan, finder->elf, region.insns[entry].vaddr,
				    PT_COOKIE_RT(PT_RT_SITE_GC_ENTER, MC_RDI, 0, PT_REG_NONE, 0),
				    "collector's entry");
	for (size_t i = 0; i < region.insn_count && !rc; i++) {
		if (region_leaves(&region, &region.insns[i]))
			rc = py_plan_refuse(plan, "the collector ends in a jump elsewhere");
		if (rc || region.insns[i].flow != MC_FLOW_RET)
			continue;
		returns++;
		rc = py_plan_add_at(
		    plan, finder->elf, region.insns[i].vaddr,
		    PT_COOKIE_RT(PT_RT_SITE_GC_LEAVE, PT_REG_NONE, 0, PT_REG_NONE, 0),
		    "collector's return");
	}
	if (!rc && !returns)
		rc = py_plan_refuse(plan, "the collector has no return");
	region_release(&region);
	return rc;
}

/* A jump to the first of functions, which is a part: the function that it belongs to is added. */
static int see_jump(uint64_t vaddr, uint64_t target, void *ctx)
{
	struct functions *functions = ctx;
	const struct py_finder *finder = functions->finder;
	const struct eh_range *range = eh_range_at(finder->eh, vaddr);
	struct region region = {0};
	bool real;
	int rc;

	if (!range || range->inside ||
	    (functions->count > 1 && functions->starts[1] == range->start))
		return 0;
	rc = region_load(&region, finder, range->start);
	real = !rc && region_index(&region, vaddr) != REGION_NONE && region_holds(&region, target);
	region_release(&region);
	if (rc == -ENOMEM)
		return rc;
	return real ? add_function(functions, range->start) : 0;
}

/* The start of the function that a range is, or is a part of; 0: not known. */
static uint64_t function_of(const struct py_finder *finder, const struct eh_range *range)
{
	struct functions functions = {.finder = finder, .starts = {range->start}, .count = 1};

	if (!range->inside)
		return range->start;
	scan_jumps(finder->elf, range->start, range->end, see_jump, &functions);
	return functions.count == 2 ? functions.starts[1] : 0;
}

static int find_collector(const struct py_image *image, const struct py_finder *finder,
			  struct py_engine_plan *plan)
{
	struct functions functions = {.finder = finder};
	uint64_t message = scan_bytes(finder->elf, GC_MESSAGE, sizeof(GC_MESSAGE));
	int rc = 0;

	if (message && !image->rt.gc_stats && !image->rt.gc_stats_vaddr)
		return py_sites_collector(finder, message, plan);
	if (message)
		scan_references(finder->elf, message, see_reference, &functions);
	if (!functions.count || functions.too_many)
		return py_plan_refuse(plan, "the collector is not to be found");
	for (size_t i = 0; i < functions.count && !rc; i++) {
		uint64_t start = function_of(finder, eh_range_at(finder->eh, functions.starts[i]));

		if (!start || scan_calls(finder->elf, count_call, &start) != 1)
			return py_plan_refuse(plan, "the collector's entry is not to be found");
		rc = add_collector(finder, start, plan);
	}
	return rc;
}

int py_sites_gc(const struct py_image *image, const struct py_finder *finder,
		struct py_engine_plan *plan)
{
	struct gc_notes notes = {.elf = finder->elf, .plan = plan};
	int rc = elf_each_sdt_note(finder->elf, see_gc_note, &notes);

	if (rc)
		return rc;
	if (notes.starts && notes.dones)
		return 0;
	if (plan->site_count)
		return py_plan_refuse(plan, "the file has gc__start or gc__done, but not both");
	return find_collector(image, finder, plan);
}

/* ---- the GIL ---- */

struct waits {
	const struct py_finder *finder;
	struct mc_decoder *decoder;
	struct py_engine_plan *plan;
	uint64_t stub;              /* of pthread_cond_timedwait, once seen */
	uint64_t others[STUBS_MAX]; /* stubs of other functions */
	struct eh_range plt[PLT_MAX];
	size_t plt_count;
	struct functions functions;
};

static bool is_wait(struct waits *waits, uint64_t target)
{
	uint64_t *other = &waits->others[(target >> 4) % STUBS_MAX];
	const char *name;

	if (waits->stub)
		return target == waits->stub;
	if (*other == target)
		return false;
	*other = target;
	/* a stub is no function of this file, and has no unwind range of its own */
	name = function_import_name(waits->finder->elf, waits->decoder, target);
	if (!name || strcmp(name, "pthread_cond_timedwait"))
		return false;
	waits->stub = target;
	return true;
}

static void find_plt(struct waits *waits)
{
	const struct elf_file *elf = waits->finder->elf;

	for (size_t i = 0; i < elf->section_count && waits->plt_count < PLT_MAX; i++) {
		const struct elf_section *section = &elf->sections[i];

		if (!strncmp(section->name, ".plt", 4))
			waits->plt[waits->plt_count++] = (struct eh_range){
			    .start = section->vaddr, .end = section->vaddr + section->size};
	}
}

static bool in_plt(const struct waits *waits, uint64_t vaddr)
{
	for (size_t i = 0; i < waits->plt_count; i++)
		if (vaddr >= waits->plt[i].start && vaddr < waits->plt[i].end)
			return true;
	return false;
}

static int see_call(uint64_t vaddr, uint64_t target, void *ctx)
{
	struct waits *waits = ctx;
	const struct eh_range *range;
	struct py_site call;
	int rc;

	if (!in_plt(waits, target) || !is_wait(waits, target))
		return 0;
	range = eh_range_at(waits->finder->eh, vaddr);
	if (!range || add_function(&waits->functions, range->start))
		return 0;
	rc = py_site_init(&call, waits->finder->elf, vaddr);
	if (!rc)
		rc = py_plan_add_at(waits->plan, waits->finder->elf, vaddr,
				    PT_COOKIE_RT(PT_RT_SITE_GIL_WAIT, MC_RDI, 0, MC_RSI, 0),
				    "GIL wait");
	if (!rc)
		rc = py_plan_add_at(waits->plan, waits->finder->elf, vaddr + call.byte_count,
				    PT_COOKIE_RT(PT_RT_SITE_GIL_WAITED, MC_RAX, 0, PT_REG_NONE, 0),
				    "GIL wait's end");
	return rc;
}

/* Both ends of each wait must be instructions of the function around them. */
static int check_waits(const struct waits *waits)
{
	for (size_t i = 0; i < waits->plan->site_count; i++) {
		uint64_t vaddr = waits->plan->sites[i].vaddr;
		const struct eh_range *range = eh_range_at(waits->finder->eh, vaddr);
		struct region region = {0};
		int rc = range ? region_load(&region, waits->finder, range->start) : -ENOTSUP;
		bool good = !rc && region_index(&region, vaddr) != REGION_NONE;

		region_release(&region);
		if (rc == -ENOMEM)
			return rc;
		if (!good)
			return py_plan_refuse(waits->plan, "take_gil() cannot be decoded");
	}
	return 0;
}

int py_sites_gil(const struct py_image *image, const struct py_finder *finder,
		 struct py_engine_plan *plan)
{
	struct waits waits = {.finder = finder, .plan = plan, .functions.finder = finder};
	/* 3.8's compiler cloned take_gil() */
	size_t most = image->version < 0x03090000 ? 2 : 1;
	int rc = mc_decoder_open(&waits.decoder);

	if (rc)
		return rc;
	find_plt(&waits);
	rc = scan_calls(finder->elf, see_call, &waits);
	mc_decoder_close(waits.decoder);
	if (rc == -ENOMEM)
		return rc;
	if (rc || !plan->site_count)
		return py_plan_refuse(plan, "the interpreter's wait for the GIL is not to be found "
					    "(pthread_cond_timedwait)");
	if (waits.functions.too_many || waits.functions.count > most)
		return py_plan_refuse(plan,
				      "%zu functions wait with pthread_cond_timedwait(); "
				      "which one takes the GIL is not known",
				      waits.functions.count);
	return check_waits(&waits);
}
