// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * Where a code object is freed: the destructor in PyCode_Type.tp_dealloc, which gets the object in
 * rdi. From then on its address may belong to another one.
 */
#include <errno.h>

#include "python/region.h"

/* PyTypeObject.tp_dealloc: behind PyVarObject (24 bytes), tp_name, tp_basicsize and tp_itemsize;
 * the same in 3.8 - 3.15 without --with-trace-refs (Include/cpython/object.h). */
#define TYPE_DEALLOC  0x30
#define MOVE_STEPS    8
#define DEALLOC_BYTES 4096 /* the longest destructor seen has 700 */

struct scan {
	const struct py_finder *finder;
	uint64_t start;
	uint64_t best;          /* first emulated instruction that still has the object in rdi */
	uint64_t fallback;      /* first instruction that a probe may sit on */
	uint64_t lowest_target; /* of the jumps within the function, behind its start */
	unsigned int steps;
	bool rdi_holds;
};

static int scan_insn(const struct mc_insn *insn, void *ctx)
{
	struct scan *scan = ctx;
	bool jump = insn->flow == MC_FLOW_JCC || insn->flow == MC_FLOW_JMP;

	if (jump && insn->target > scan->start && insn->target < scan->lowest_target)
		scan->lowest_target = insn->target;
	if (!scan->rdi_holds || scan->steps++ >= MOVE_STEPS)
		return 0; /* only jumps are of interest from here on */
	if (insn->op != MC_OP_ENDBR && !insn->refused) {
		if (!scan->fallback)
			scan->fallback = insn->vaddr;
		if (!scan->best && scan->finder->emulated >> insn->class & 1)
			scan->best = insn->vaddr;
	}
	if (insn->flow != MC_FLOW_NEXT || insn->writes >> MC_RDI & 1)
		scan->rdi_holds = false;
	return 0;
}

int py_site_free_code(const struct py_image *image, const struct py_finder *finder,
		      struct py_engine_plan *plan)
{
	struct scan scan = {.finder = finder, .lowest_target = UINT64_MAX, .rdi_holds = true};
	const struct eh_range *range;
	struct mc_decoder *decoder;
	struct elf_symbol type;
	struct py_site site;
	int rc;

	(void)image;
	if (!elf_symbol(finder->elf, "PyCode_Type", &type) ||
	    elf_read_ptr(finder->elf, type.vaddr + TYPE_DEALLOC, &scan.start))
		return py_plan_refuse(plan, "the destructor of code objects is not to be found "
					    "(PyCode_Type.tp_dealloc)");
	range = eh_range_at(finder->eh, scan.start);
	if (!range || range->start != scan.start || range->end - range->start > DEALLOC_BYTES)
		return py_plan_refuse(plan, "PyCode_Type.tp_dealloc does not lead to a function");
	rc = mc_decoder_open(&decoder);
	if (rc)
		return rc;
	rc = region_each_insn(finder->elf, decoder, range, scan_insn, &scan);
	mc_decoder_close(decoder);
	if (rc == -ENOMEM)
		return rc;
	if (rc || !scan.fallback)
		return py_plan_refuse(plan, "the destructor of code objects cannot be decoded");
	/* A jump that comes back before the position would bring another rdi. */
	if (!scan.best || scan.lowest_target <= scan.best)
		scan.best = scan.fallback;
	if (scan.lowest_target <= scan.best)
		return py_plan_refuse(plan, "the destructor of code objects starts with a loop");
	rc = py_site_init(&site, finder->elf, scan.best);
	if (rc)
		return rc;
	site.cookie = PT_COOKIE(PT_SITE_FREE_CODE, 0, PT_TS_NONE, 0, PT_REG_NONE, 0, 0,
				plan->site_count);
	site.method = "code destructor";
	return py_plan_add(plan, &site);
}
