// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * The interpreter's own probe points, python:function__entry and python:function__return, where
 * they tell exactly which calls run: with --with-dtrace, up to 3.10.
 *
 * Both lie behind a semaphore that the kernel raises while they are attached, and cost more than
 * the frame sites: the interpreter converts both names to UTF-8 and looks up the line for each one.
 * At function__entry tstate->frame is the new frame; at function__return it still is the one that
 * is left (Python/ceval.c, _PyEval_EvalFrameDefault), hence the raw_delta of that site.
 */
#include <errno.h>
#include <string.h>

#include "python/parts.h"

#define MAX_NOTES 64 /* of one kind; the most seen is 1 */

struct notes {
	const struct py_finder *finder;
	struct py_engine_plan *plan;
	size_t entries, returns;
};

static int add_note(struct notes *notes, const struct elf_sdt_note *note, bool entry)
{
	struct py_site site;
	int rc = py_site_init(&site, notes->finder->elf, note->vaddr);

	if (rc == -ENOMEM)
		return rc;
	if (rc || site.insn_class != PY_INSN_NOP1)
		return py_plan_refuse(notes->plan, "the %s probe is not on a nop", note->name);
	if (note->semaphore_vaddr &&
	    !elf_vaddr_to_offset(notes->finder->elf, note->semaphore_vaddr, &site.ref_ctr_offset))
		return py_plan_refuse(notes->plan, "the semaphore of %s is not in the file",
				      note->name);
	site.cookie = PT_COOKIE(entry ? PT_SITE_ENTER : PT_SITE_EXIT, entry ? 0 : 1, PT_TS_ABS, 0,
				PT_REG_NONE, 0, 0, notes->plan->site_count);
	site.method = entry ? "function__entry" : "function__return";
	return py_plan_add(notes->plan, &site);
}

static int see_note(const struct elf_sdt_note *note, void *ctx)
{
	struct notes *notes = ctx;
	bool entry = !strcmp(note->name, "function__entry");

	if (strcmp(note->provider, "python") || (!entry && strcmp(note->name, "function__return")))
		return 0;
	if (++*(entry ? &notes->entries : &notes->returns) > MAX_NOTES)
		return py_plan_refuse(notes->plan, "too many %s probes", note->name);
	return add_note(notes, note, entry);
}

/* NULL: these probes can be exact in this version. */
static const char *version_reason(uint32_t version)
{
	if (version < 0x030b0000)
		return NULL;
	if (version < 0x030c0000)
		return "in CPython 3.11 function__entry never fires (cpython#98894)";
	if (version < 0x030f0000)
		return "CPython 3.12 to 3.14 have no function probes (cpython#104280)";
	return "in CPython 3.15 function__entry also fires when a generator is created, without a "
	       "return, and the thread state that would tell is in no register there";
}

int py_sites_usdt(const struct py_image *image, const struct py_finder *finder,
		  struct py_engine_plan *plan)
{
	struct notes notes = {.finder = finder, .plan = plan};
	const char *reason;
	int rc;

	if (!image->dtrace)
		return py_plan_refuse(plan, "built without dtrace probes (--with-dtrace)");
	reason = version_reason(image->version);
	if (reason)
		return py_plan_refuse(plan, "%s", reason);
	if (!image->tstate_current.vaddr)
		return py_plan_refuse(plan, "the variable with the running thread's state is not "
					    "where it should be (_PyThreadState_UncheckedGet)");
	rc = elf_each_sdt_note(finder->elf, see_note, &notes);
	if (rc)
		return rc;
	if (!notes.entries || !notes.returns)
		return py_plan_refuse(plan, "the file has no function__entry and function__return "
					    "probes");
	return 0;
}
