// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * Audit events and exceptions.
 *
 * ---- Audit events ----
 *
 * Where the build has USDT probes, "audit" tells the name and the tuple of arguments of each event;
 * having a probe there makes CPython raise events that no hook would hear.
 *
 * Else the function through which C raises them: sys_audit_tstate(), the only function of the file
 * that PySys_Audit() calls, or PySys_Audit() itself in 3.8. It has the name, and its arguments in a
 * form that cannot be read. sys.audit() returns before it gets there if there is no hook, so its
 * own function, which the PyMethodDef of that name leads to, is probed as well.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "python/flow.h"
#include "python/sdt_args.h"

#define METH_FASTCALL 0x80 /* Include/methodobject.h */

struct audit_notes {
	const struct elf_file *elf;
	struct py_engine_plan *plan;
};

static int see_note(const struct elf_sdt_note *note, void *ctx)
{
	struct audit_notes *notes = ctx;
	struct sdt_arg name, args;
	struct py_site site;
	int rc;

	if (strcmp(note->provider, "python") || strcmp(note->name, "audit"))
		return 0;
	rc = py_site_init(&site, notes->elf, note->vaddr);
	if (rc == -ENOMEM)
		return rc;
	if (rc || !sdt_arg_parse(note->args, 0, &name) || !sdt_arg_parse(note->args, 1, &args) ||
	    name.memory || args.memory || name.constant || args.constant ||
	    (note->semaphore_vaddr &&
	     !elf_vaddr_to_offset(notes->elf, note->semaphore_vaddr, &site.ref_ctr_offset)))
		return py_plan_refuse(notes->plan, "the audit probe cannot be understood (%s)",
				      note->args);
	site.cookie = PT_COOKIE_RT(PT_RT_SITE_AUDIT, name.reg, 0, args.reg, 0);
	site.method = "audit";
	return py_plan_add(notes->plan, &site);
}

/* ---- without USDT ---- */

struct callee {
	const struct eh_ranges *eh;
	uint64_t vaddr;
	size_t count;
};

/* Functions of this file have an unwind range that starts where they do; stubs have not. */
static int see_insn(const struct mc_insn *insn, void *ctx)
{
	struct callee *callee = ctx;
	const struct eh_range *range;

	if ((insn->flow != MC_FLOW_CALL && insn->flow != MC_FLOW_JMP) ||
	    insn->target == callee->vaddr)
		return 0;
	range = eh_range_at(callee->eh, insn->target);
	if (!range || range->start != insn->target)
		return 0;
	callee->vaddr = insn->target;
	callee->count++;
	return 0;
}

/* The entry behind an endbr64, where a probe is cheaper; 0: it cannot be decoded. */
static uint64_t entry_of(const struct py_finder *finder, uint64_t vaddr)
{
	struct region region = {0};
	size_t i = region_load(&region, finder, vaddr) ? REGION_NONE : region_index(&region, vaddr);

	while (i != REGION_NONE && region.insns[i].op == MC_OP_ENDBR)
		i = region_next(&region, i);
	vaddr = i == REGION_NONE ? 0 : region.insns[i].vaddr;
	region_release(&region);
	return vaddr;
}

static int find_c_entry(const struct py_image *image, const struct py_finder *finder,
			struct py_engine_plan *plan)
{
	struct callee callee = {.eh = finder->eh};
	unsigned int reg = MC_RSI; /* behind the thread state */
	const struct eh_range *range;
	struct mc_decoder *decoder;
	struct elf_symbol symbol;
	uint64_t entry;
	int rc;

	if (!elf_symbol(finder->elf, "PySys_Audit", &symbol))
		return py_plan_refuse(plan, "the interpreter exports no PySys_Audit");
	range = eh_range_at(finder->eh, symbol.vaddr);
	if (!range || range->start != symbol.vaddr)
		return py_plan_refuse(plan, "PySys_Audit is no function");
	callee.vaddr = symbol.vaddr;
	if (image->version < 0x03090000) {
		reg = MC_RDI;
		callee.count = 1;
	} else {
		rc = mc_decoder_open(&decoder);
		if (rc)
			return rc;
		rc = region_each_insn(finder->elf, decoder, range, see_insn, &callee);
		mc_decoder_close(decoder);
		if (rc == -ENOMEM)
			return rc;
	}
	entry = callee.count == 1 ? entry_of(finder, callee.vaddr) : 0;
	if (!entry)
		return py_plan_refuse(plan, "the function behind PySys_Audit is not to be found");
	return py_plan_add_at(plan, finder->elf, entry,
			      PT_COOKIE_RT(PT_RT_SITE_AUDIT, reg, 0, PT_REG_NONE, 0),
			      "audit function");
}

/* PyMethodDef: name, function, flags (int), text; Include/methodobject.h */
static bool is_audit_method(const struct elf_file *elf, uint64_t vaddr, uint64_t *function)
{
	const void *raw = elf_at_vaddr(elf, vaddr + 16, sizeof(uint32_t));
	uint64_t name;
	const char *text;
	uint32_t flags;

	if (!raw)
		return false;
	memcpy(&flags, raw, sizeof(flags));
	if (flags != METH_FASTCALL || elf_read_ptr(elf, vaddr, &name))
		return false;
	text = elf_string_at_vaddr(elf, name, sizeof("audit"));
	return text && !strcmp(text, "audit") && !elf_read_ptr(elf, vaddr + 8, function) &&
	       elf_is_code(elf, *function);
}

static int find_python_entry(const struct py_finder *finder, struct py_engine_plan *plan)
{
	const struct elf_file *elf = finder->elf;
	uint64_t function = 0, found = 0;
	size_t count = 0;

	for (size_t s = 0; s < elf->segment_count; s++) {
		const struct elf_segment *segment = &elf->segments[s];

		if (segment->type != PT_LOAD || !(segment->flags & PF_W))
			continue;
		for (uint64_t at = (segment->vaddr + 7) & ~7ull;
		     at + 32 <= segment->vaddr + segment->file_size; at += 8)
			if (is_audit_method(elf, at, &function)) {
				found = function;
				count++;
			}
	}
	function = count == 1 ? entry_of(finder, found) : 0;
	if (!function)
		return py_plan_refuse(plan, "sys.audit's function is not to be found");
	return py_plan_add_at(plan, elf, function,
			      PT_COOKIE_RT(PT_RT_SITE_AUDIT_PYTHON, MC_RSI, 0, MC_RDX, 0),
			      "sys.audit");
}

int py_sites_audit(const struct py_image *image, const struct py_finder *finder,
		   struct py_engine_plan *plan)
{
	struct audit_notes notes = {.elf = finder->elf, .plan = plan};
	int rc = elf_each_sdt_note(finder->elf, see_note, &notes);

	if (rc || plan->site_count)
		return rc;
	rc = find_c_entry(image, finder, plan);
	return rc ? rc : find_python_entry(finder, plan);
}

/* ---- exceptions ---- */

#define RAISES_MAX 8 /* the most seen is 1 */

struct raises {
	const struct py_image *image;
	const struct py_finder *finder;
	struct py_engine_plan *plan;
	struct region region;
	struct flow flow;
	uint64_t function; /* PyTraceBack_Here */
};

static bool calls_traceback(const struct raises *r, const struct mc_insn *insn)
{
	const char *name;

	if (insn->flow != MC_FLOW_CALL)
		return false;
	if (insn->target == r->function)
		return true;
	if (eh_range_at(r->finder->eh, insn->target) &&
	    eh_range_at(r->finder->eh, insn->target)->start == insn->target)
		return false; /* another function of this file */
	name = function_import_name(r->finder->elf, r->region.decoder, insn->target);
	return name && !strcmp(name, "PyTraceBack_Here");
}

static int add_raise(struct raises *r, size_t i)
{
	bool legacy = r->image->version < 0x030b0000;
	unsigned int slot = 0;
	unsigned int ts = legacy ? PT_TS_ABS : flow_tstate(&r->flow, i, PT_TS_NONE, &slot);

	if (ts == PT_TS_NONE)
		return py_plan_refuse(r->plan,
				      "the thread state is not to be found where exceptions get "
				      "their traceback");
	if (r->plan->site_count == RAISES_MAX)
		return py_plan_refuse(r->plan, "too many calls of PyTraceBack_Here()");
	return py_plan_add_at(r->plan, r->finder->elf, r->region.insns[i].vaddr,
			      PT_COOKIE(PT_SITE_RAISE, 0, ts, slot, PT_REG_NONE, 0, 0, 0),
			      "traceback");
}

static int find_raises(struct raises *r)
{
	int rc = region_load_loop(&r->region, r->finder, r->image->eval.vaddr,
				  r->image->version >> 16 & 0xff);

	if (!rc && r->image->version >= 0x030b0000) {
		rc = region_find_tables(&r->region);
		if (!rc)
			rc = flow_analyse(&r->flow, &r->region, &r->image->eval.vaddr, 1);
	}
	if (rc == -ENOTSUP)
		return py_plan_refuse(r->plan, "%s", r->region.reason);
	for (size_t i = 0; i < r->region.insn_count && !rc; i++)
		if (calls_traceback(r, &r->region.insns[i]))
			rc = add_raise(r, i);
	if (!rc && !r->plan->site_count)
		rc = py_plan_refuse(r->plan,
				    "the evaluation loop does not call PyTraceBack_Here()");
	return rc;
}

int py_sites_raise(const struct py_image *image, const struct py_finder *finder,
		   struct py_engine_plan *plan)
{
	struct raises r = {.image = image, .finder = finder, .plan = plan};
	struct elf_symbol symbol;
	int rc;

	if (image->rt.ts_exception == PT_NO_FIELD)
		return py_plan_refuse(plan, "where the current exception lies is not known "
					    "(PyErr_Occurred)");
	if (image->version < 0x030b0000 && !image->tstate_current.vaddr)
		return py_plan_refuse(plan, "the variable with the running thread's state is not "
					    "where it should be (_PyThreadState_UncheckedGet)");
	if (!elf_symbol(finder->elf, "PyTraceBack_Here", &symbol))
		return py_plan_refuse(plan, "the interpreter exports no PyTraceBack_Here");
	r.function = symbol.vaddr;
	rc = find_raises(&r);
	flow_release(&r.flow);
	region_release(&r.region);
	return rc;
}
