// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * A function's probe lies on its first instruction, behind endbr64, or on one that follows before
 * the first push, branch or change of the stack pointer or of self, that one included: of these the
 * first that the kernel emulates. A push that is the first is probed before it is done.
 */
#include "python/method_sites.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/glob.h"
#include "python/method_exits.h"
#include "python/parts.h"
#include "python/region.h"
#include "target/ehframe.h"

#define NAME_MAX_BYTES 256 /* as method_defs.c */
#define STRAIGHT_MAX   12  /* instructions that are looked at from a function's start on */

struct search {
	const struct elf_file *elf;
	const char *const *globs;
	unsigned int emulated;
	struct eh_ranges eh;
	struct mc_decoder *decoder;
	struct method_exits exits; /* of all functions so far */
	struct py_method_sites *result;
	size_t room;
};

/* The start of one function. */
struct start {
	const struct search *search;
	unsigned int seen;
	bool ended;
	uint64_t first;    /* behind endbr64; 0: nothing is there */
	uint64_t chosen;   /* the first that the kernel emulates, or 0 */
	bool refused;      /* the kernel puts no probe at first */
	size_t first_exit; /* of this function */
};

bool py_method_wanted(const struct py_method_def *def, const char *const *globs)
{
	const char *owner = def->owner ? def->owner : "", *dot = strrchr(owner, '.');

	return pt_glob_qualified(globs, owner, def->name) ||
	       (dot && def->kind == PY_DEF_TYPE && pt_glob_qualified(globs, dot + 1, def->name));
}

bool py_method_site_has(const struct py_method_site *site, const char *const *globs)
{
	char one[NAME_MAX_BYTES];
	struct py_method_def def = site->def;

	def.name = one;
	for (const char *name = site->names;; name++) {
		size_t len = strcspn(name, "|");

		snprintf(one, sizeof(one), "%.*s", (int)len, name);
		if (py_method_wanted(&def, globs))
			return true;
		name += len;
		if (!*name)
			return false;
	}
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

static bool is_exit(const struct start *start, uint64_t vaddr)
{
	const struct method_exits *exits = &start->search->exits;

	for (size_t i = start->first_exit; i < exits->count; i++)
		if (exits->vaddrs[i] == vaddr)
			return true;
	return false;
}

static int see_insn(const struct mc_insn *insn, void *ctx)
{
	struct start *start = ctx;

	see_straight(start, insn);
	return start->ended;
}

/* The address to probe in the function, whose exits are known, or 0 with the reason. jumped: the
 * lowest place at its start that is jumped to, 0: none. */
static uint64_t place(const struct search *search, uint64_t meth, size_t first_exit,
		      uint64_t jumped, const char **reason)
{
	struct start start = {.search = search, .first_exit = first_exit};

	/* it was decoded before, for its exits */
	region_each_insn(search->elf, search->decoder, eh_range_at(&search->eh, meth), see_insn,
			 &start);
	*reason = "it jumps back to where it starts";
	if (!start.first || (jumped && jumped <= start.first))
		return 0;
	if (start.chosen && (!jumped || jumped > start.chosen) && !is_exit(&start, start.chosen))
		return start.chosen;
	*reason = start.refused ? "the kernel puts no probe on its first instruction"
				: "it does nothing before it ends";
	return start.refused || is_exit(&start, start.first) ? 0 : start.first;
}

/* Finds its exits, too. */
static int place_all(struct search *search, uint64_t meth, uint64_t *vaddr, const char **reason)
{
	const struct method_code code = {
	    .elf = search->elf, .eh = &search->eh, .decoder = search->decoder};
	const struct eh_range *range = eh_range_at(&search->eh, meth);
	size_t first_exit = search->exits.count;
	uint64_t jumped;
	int rc;

	*vaddr = 0;
	*reason = "it is no function that .eh_frame knows";
	if (!range || range->start != meth)
		return 0;
	rc = method_exits_add(&code, meth, &search->exits, &jumped, reason);
	if (rc)
		return rc == -ENOTSUP ? 0 : rc;
	*vaddr = place(search, meth, first_exit, jumped, reason);
	if (!*vaddr)
		search->exits.count = first_exit;
	return 0;
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
	uint64_t vaddr;
	int rc = place_all(search, def->meth, &vaddr, &reason);

	if (rc)
		return rc;
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
	site->name = strdup(def->name);
	site->owner = def->owner ? strdup(def->owner) : NULL;
	site->def.name = site->name;
	site->def.owner = site->owner;
	result->count++;
	return site->names && site->name && (site->owner || !def->owner) ? 0 : -ENOMEM;
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

static int by_vaddr(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

/* The exits of all, each once. */
static int make_exits(struct search *search)
{
	struct py_method_sites *result = search->result;
	const struct method_exits *exits = &search->exits;

	result->exits = calloc(exits->count + 1, sizeof(*result->exits));
	if (!result->exits)
		return -ENOMEM;
	if (exits->count)
		qsort(exits->vaddrs, exits->count, sizeof(*exits->vaddrs), by_vaddr);
	for (size_t i = 0; i < exits->count; i++) {
		struct py_site *site = &result->exits[result->exit_count];

		if (i && exits->vaddrs[i] == exits->vaddrs[i - 1])
			continue;
		if (py_site_init(site, search->elf, exits->vaddrs[i]))
			return -EINVAL; /* it was decoded before */
		site->method = "method exit";
		result->exit_count++;
	}
	return 0;
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
	if (!rc)
		rc = make_exits(&search);
	method_exits_release(&search.exits);
	eh_ranges_release(&search.eh);
	if (rc)
		py_method_sites_release(result);
	return rc;
}

void py_method_sites_release(struct py_method_sites *sites)
{
	for (size_t i = 0; i < sites->count; i++) {
		free(sites->sites[i].names);
		free(sites->sites[i].name);
		free(sites->sites[i].owner);
	}
	free(sites->sites);
	free(sites->exits);
	*sites = (struct py_method_sites){0};
}
