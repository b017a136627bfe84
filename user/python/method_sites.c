// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * One breakpoint serves an entry and a return probe if the return address is on top of the stack
 * there. The function's first instruction, behind endbr64, is such a place; so is each one that
 * follows up to the first push or branch, itself included, and one of them may be emulated by the
 * kernel: 1.4 us for both probes instead of 9 (6.18, empty programs). A push that is the first is
 * probed before it is done.
 */
#include "python/method_sites.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/glob.h"
#include "python/decode.h"
#include "python/parts.h"
#include "python/region.h"
#include "target/ehframe.h"

#define STRAIGHT_MAX 12 /* instructions that are looked at from a function's start on */

struct search {
	const struct elf_file *elf;
	const char *const *globs;
	unsigned int emulated;
	struct eh_ranges eh;
	struct mc_decoder *decoder;
	struct py_method_sites *result;
	size_t room;
};

/* The start of one function. */
struct start {
	const struct search *search;
	unsigned int seen;
	bool ended;
	uint64_t first;         /* behind endbr64; 0: nothing is there */
	uint64_t chosen;        /* the first that the kernel emulates, or 0 */
	bool refused;           /* the kernel puts no probe at first */
	uint64_t begin, jumped; /* the lowest place behind begin that is jumped back to, 0: none */
};

bool py_method_wanted(const struct py_method_def *def, const char *const *globs)
{
	const char *owner = def->owner ? def->owner : "", *dot = strrchr(owner, '.');

	return pt_glob_qualified(globs, owner, def->name) ||
	       (dot && def->kind == PY_DEF_TYPE && pt_glob_qualified(globs, dot + 1, def->name));
}

static bool is_dunder(const char *name)
{
	return !strncmp(name, "__", 2);
}

/* Is a's name the better one to show? The shortest, but no dunder if there is another. */
static bool is_better(const struct py_method_def *a, const struct py_method_def *b)
{
	if (is_dunder(a->name) != is_dunder(b->name))
		return is_dunder(b->name);
	return strlen(a->name) < strlen(b->name);
}

/* Of the records [0, count), which have one function, the one that names it; NULL: not wanted. */
static const struct py_method_def *choose(const struct search *search,
					  const struct py_method_def *defs, size_t count)
{
	const struct py_method_def *best = NULL;

	for (size_t i = 0; i < count; i++)
		if (py_method_wanted(&defs[i], search->globs) &&
		    (!best || is_better(&defs[i], best)))
			best = &defs[i];
	return best;
}

/* Goes on from the start as long as each instruction leads to the next. */
static void see_straight(struct start *start, const struct mc_insn *insn)
{
	if (start->seen++ >= STRAIGHT_MAX) {
		start->ended = true;
		return;
	}
	if (insn->op == MC_OP_ENDBR)
		return;
	if (!start->first) {
		start->first = insn->vaddr;
		start->refused = insn->refused;
	}
	if (!insn->refused && (start->search->emulated >> insn->class & 1))
		start->chosen = insn->vaddr;
	start->ended = start->chosen || insn->flow != MC_FLOW_NEXT || insn->stack_bytes ||
		       (insn->writes & (1u << MC_RSP | 1u << MC_RDI));
}

static int see_insn(const struct mc_insn *insn, void *ctx)
{
	struct start *start = ctx;

	if (!start->ended)
		see_straight(start, insn);
	if ((insn->flow == MC_FLOW_JCC || insn->flow == MC_FLOW_JMP) &&
	    insn->target >= start->begin && (!start->jumped || insn->target < start->jumped))
		start->jumped = insn->target;
	return 0;
}

/* The address to probe in the function, or 0 with the reason. */
static uint64_t place(const struct search *search, uint64_t meth, const char **reason)
{
	const struct eh_range *range = eh_range_at(&search->eh, meth);
	struct start start = {.search = search, .begin = meth};

	*reason = "it is no function that .eh_frame knows";
	if (!range || range->start != meth)
		return 0;
	*reason = "its code cannot be decoded";
	if (region_each_insn(search->elf, search->decoder, range, see_insn, &start) || !start.first)
		return 0;
	*reason = "it jumps back to where it starts";
	if (start.jumped && start.jumped <= start.first)
		return 0;
	if (start.chosen && (!start.jumped || start.jumped > start.chosen))
		return start.chosen;
	*reason = "the kernel puts no probe on its first instruction";
	return start.refused ? 0 : start.first;
}

static void refuse(struct py_method_sites *result, const struct py_method_def *def,
		   const char *reason)
{
	if (!result->refused++)
		snprintf(result->reason, sizeof(result->reason), "%s%s%s: %s",
			 def->owner ? def->owner : "", def->owner ? "." : "", def->name, reason);
}

static bool is_among(const char *name, const struct py_method_def *defs, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (!strcmp(defs[i].name, name))
			return true;
	return false;
}

/* The names of records with one function, that of best first; NULL: no memory. */
static char *names_of(const struct py_method_def *best, const struct py_method_def *defs,
		      size_t count)
{
	struct pt_buf text = {0};

	pt_buf_add_str(&text, best->name);
	for (size_t i = 0; i < count; i++) {
		if (!strcmp(defs[i].name, best->name) || is_among(defs[i].name, defs, i))
			continue;
		pt_buf_add_str(&text, "|");
		pt_buf_add_str(&text, defs[i].name);
	}
	pt_buf_add(&text, "", 1);
	if (!text.failed)
		return text.data;
	pt_buf_release(&text);
	return NULL;
}

/* def: one of the records, which have one function. */
static int add(struct search *search, const struct py_method_def *def,
	       const struct py_method_def *defs, size_t count)
{
	struct py_method_sites *result = search->result;
	struct py_method_site *bigger, *site;
	const char *reason;
	uint64_t vaddr = place(search, def->meth, &reason);

	if (result->count == search->room) {
		search->room = search->room ? search->room * 2 : 64;
		bigger = reallocarray(result->sites, search->room, sizeof(*bigger));
		if (!bigger)
			return -ENOMEM;
		result->sites = bigger;
	}
	site = &result->sites[result->count];
	if (!vaddr || py_site_init(&site->site, search->elf, vaddr)) {
		refuse(result, def, vaddr ? "its code cannot be read" : reason);
		return 0;
	}
	site->site.method = "method entry";
	site->def = *def;
	site->names = names_of(def, defs, count);
	result->count += site->names != NULL;
	return site->names ? 0 : -ENOMEM;
}

static int find(struct search *search, const struct py_method_defs *defs)
{
	const struct py_method_def *def;
	size_t same;
	int rc = 0;

	for (size_t i = 0; i < defs->count && !rc; i += same) {
		for (same = 1; i + same < defs->count && defs->defs[i].meth &&
			       defs->defs[i + same].meth == defs->defs[i].meth;)
			same++;
		def = choose(search, &defs->defs[i], same);
		if (def && !def->meth)
			search->result->elsewhere++;
		else if (def)
			rc = add(search, def, &defs->defs[i], same);
	}
	return rc;
}

static bool any_wanted(const struct py_method_defs *defs, const char *const *globs)
{
	for (size_t i = 0; i < defs->count; i++)
		if (py_method_wanted(&defs->defs[i], globs))
			return true;
	return false;
}

int py_method_sites_find(const struct elf_file *elf, const struct py_method_defs *defs,
			 const char *const *globs, unsigned int emulated,
			 struct py_method_sites *result)
{
	struct search search = {.elf = elf, .globs = globs, .emulated = emulated, .result = result};
	int rc;

	*result = (struct py_method_sites){0};
	if (!any_wanted(defs, globs))
		return 0;
	rc = eh_ranges_load(elf, &search.eh);
	if (rc && rc != -ENOENT)
		return rc;
	rc = mc_decoder_open(&search.decoder);
	if (!rc) {
		rc = find(&search, defs);
		mc_decoder_close(search.decoder);
	}
	eh_ranges_release(&search.eh);
	if (rc)
		py_method_sites_release(result);
	return rc;
}

void py_method_sites_release(struct py_method_sites *sites)
{
	for (size_t i = 0; i < sites->count; i++)
		free(sites->sites[i].names);
	free(sites->sites);
	*sites = (struct py_method_sites){0};
}
