// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * Finds the calls of __cudaRegisterFunction(handle, stub, name, name, thread limit -1, ..). First
 * the function itself: wherever some code sets r8d (the fifth argument) to -1, a call with code in
 * rsi, the same text in rdx and rcx, and that -1 leads to it. Then every call of it: each has to be
 * decoded, or it is counted.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cuda/names_parts.h"

#define TARGETS_MAX   8
#define REGISTER_NAME "__cudaRegisterFunction"
#define SITES_MAX     (4u << 20)

struct candidate {
	struct kn_target at;
	size_t sites;
	bool named; /* an import or a symbol says that it is the one */
};

struct finder {
	struct kn_walk *walk;
	struct kn_sites *sites;
	uint8_t *wanted;            /* one bit a function: it is to be looked at */
	const struct eh_range *now; /* the function that is looked at */
	struct candidate targets[TARGETS_MAX];
	size_t target_count;
	bool targets_known;
	uint64_t symbol; /* the registering function, as a symbol says; 0: none does */
};

/* ---- reading all code ---- */

static void want(struct finder *finder, uint64_t vaddr)
{
	const struct eh_range *function = eh_range_at(finder->walk->eh, vaddr);
	size_t i;

	if (!function) {
		finder->sites->undecoded += finder->targets_known;
		return;
	}
	i = (size_t)(function - finder->walk->eh->ranges);
	finder->wanted[i / 8] |= (uint8_t)(1u << i % 8);
}

/* r8 or r8d becomes -1: mov (two forms), or, push and pop. */
static void find_minus_one(void *ctx, const uint8_t *bytes, size_t size, uint64_t vaddr)
{
	struct finder *finder = ctx;
	static const struct {
		uint8_t bytes[7], size;
	} forms[] = {
	    {{0x41, 0xb8, 0xff, 0xff, 0xff, 0xff}, 6},
	    {{0x49, 0xc7, 0xc0, 0xff, 0xff, 0xff, 0xff}, 7},
	    {{0x41, 0x83, 0xc8, 0xff}, 4},
	    {{0x49, 0x83, 0xc8, 0xff}, 4},
	    {{0x6a, 0xff, 0x41, 0x58}, 4},
	};

	for (size_t f = 0; f < sizeof(forms) / sizeof(forms[0]); f++) {
		const uint8_t *at = bytes, *end = bytes + size;

		while ((at = memmem(at, (size_t)(end - at), forms[f].bytes, forms[f].size))) {
			want(finder, vaddr + (uint64_t)(at - bytes));
			at++;
		}
	}
}

static struct candidate *find_target(struct finder *finder, uint64_t vaddr, bool indirect)
{
	for (size_t i = 0; i < finder->target_count; i++)
		if (finder->targets[i].at.vaddr == vaddr &&
		    finder->targets[i].at.indirect == indirect)
			return &finder->targets[i];
	return NULL;
}

/* call rel32, jmp rel32, call *disp(%rip), jmp *disp(%rip) */
static void find_calls(void *ctx, const uint8_t *bytes, size_t size, uint64_t vaddr)
{
	struct finder *finder = ctx;

	for (size_t i = 0; i + 5 <= size && i < KN_WINDOW_BYTES; i++) {
		bool indirect = bytes[i] == 0xff && (bytes[i + 1] == 0x15 || bytes[i + 1] == 0x25);
		int32_t distance;

		if (indirect ? i + 6 > size : bytes[i] != 0xe8 && bytes[i] != 0xe9)
			continue;
		memcpy(&distance, bytes + i + 1 + indirect, sizeof(distance));
		if (find_target(finder, vaddr + i + 5 + indirect + (uint64_t)(int64_t)distance,
				indirect))
			want(finder, vaddr + i);
	}
}

static int walk_wanted(struct finder *finder, kn_leave_fn fn)
{
	const struct eh_ranges *eh = finder->walk->eh;
	int rc = 0;

	for (size_t i = 0; i < eh->count && !rc; i++) {
		if (!(finder->wanted[i / 8] & 1u << i % 8))
			continue;
		finder->now = &eh->ranges[i];
		rc = kn_walk_function(finder->walk, finder->now, fn, finder);
	}
	memset(finder->wanted, 0, eh->count / 8 + 1);
	return rc;
}

/* ---- what a call says ---- */

static bool is_name(const struct elf_file *elf, uint64_t vaddr)
{
	const char *first = kn_is_code(elf, vaddr) ? NULL : elf_at_vaddr(elf, vaddr, 1);

	return first && *first > ' ' && *first <= '~';
}

static bool registers(const struct finder *finder, const struct kn_regs *regs, uint64_t *host,
		      uint64_t *name)
{
	const struct elf_file *elf = finder->walk->elf;
	uint64_t again, limit;

	return kn_reg(regs, MC_R8, &limit) && (uint32_t)limit == UINT32_MAX &&
	       kn_reg(regs, MC_RSI, host) && kn_reg(regs, MC_RDX, name) &&
	       kn_reg(regs, MC_RCX, &again) && *name == again && kn_is_code(elf, *host) &&
	       is_name(elf, *name);
}

/* The slot of the global offset table that a linkage table entry jumps to; 0: it is none. */
static uint64_t plt_slot(const struct finder *finder, uint64_t vaddr)
{
	struct mc_insn insn = {.op = MC_OP_ENDBR};
	const uint8_t *bytes;

	for (int i = 0; i < 2 && insn.op == MC_OP_ENDBR; i++, vaddr += insn.length) {
		bytes = elf_at_vaddr(finder->walk->elf, vaddr, 8);
		if (!bytes || mc_decode(finder->walk->decoder, bytes, 8, vaddr, &insn))
			return 0;
	}
	return insn.flow == MC_FLOW_JMP_INDIRECT && insn.mem && insn.base == MC_RIP
		   ? vaddr + (uint64_t)insn.disp
		   : 0;
}

/* Whether the callee may be the one, as far as anything tells its name. */
static bool judge(const struct finder *finder, struct candidate *candidate)
{
	uint64_t vaddr = candidate->at.vaddr;
	uint64_t slot = candidate->at.indirect ? vaddr : plt_slot(finder, vaddr);
	const char *import;

	if (slot) {
		import = elf_import_at(finder->walk->elf, slot);
		candidate->named = import && !strcmp(import, REGISTER_NAME);
		return candidate->named;
	}
	candidate->named = finder->symbol == vaddr;
	return candidate->named || !finder->symbol;
}

static int learn_target(void *ctx, const struct mc_insn *insn, const struct kn_target *target,
			const struct kn_regs *regs)
{
	struct finder *finder = ctx;
	struct candidate *known = find_target(finder, target->vaddr, target->indirect);
	struct candidate candidate = {.at = *target, .sites = 1};
	uint64_t host, name;

	if (!registers(finder, regs, &host, &name))
		return 0;
	if (known)
		known->sites++;
	else if (finder->target_count < TARGETS_MAX && judge(finder, &candidate))
		finder->targets[finder->target_count++] = candidate;
	return 0;
}

/* Those that have the name; or else, since a file has one such function, the one that is called so
 * most often. */
static void choose_targets(struct finder *finder)
{
	size_t kept = 0, best = 0;
	bool named = false, tie = false;

	for (size_t i = 0; i < finder->target_count; i++) {
		named |= finder->targets[i].named;
		tie = (tie && finder->targets[i].sites <= finder->targets[best].sites) ||
		      (i && finder->targets[i].sites == finder->targets[best].sites);
		best = finder->targets[i].sites > finder->targets[best].sites ? i : best;
	}
	for (size_t i = 0; i < finder->target_count; i++) {
		struct candidate *candidate = &finder->targets[i];

		if (named ? !candidate->named : tie || i != best)
			continue;
		if (!candidate->at.indirect && !plt_slot(finder, candidate->at.vaddr))
			finder->sites->registrar = candidate->at.vaddr;
		finder->targets[kept++] = *candidate;
	}
	if (!kept && finder->target_count)
		finder->sites->undecoded = finder->targets[best].sites;
	finder->target_count = kept;
	finder->targets_known = true;
}

static int add_site(void *ctx, const struct mc_insn *insn, const struct kn_target *target,
		    const struct kn_regs *regs)
{
	struct finder *finder = ctx;
	struct kn_sites *sites = finder->sites;
	struct kn_site site;

	if (!find_target(finder, target->vaddr, target->indirect))
		return 0;
	if (!registers(finder, regs, &site.host, &site.name)) {
		sites->undecoded++;
		return 0;
	}
	if (sites->count == sites->room) {
		size_t room = sites->room ? 2 * sites->room : 1024;
		struct kn_site *bigger = room > SITES_MAX
					     ? NULL
					     : reallocarray(sites->sites, room, sizeof(*bigger));

		if (!bigger)
			return -ENOMEM;
		sites->sites = bigger;
		sites->room = room;
	}
	sites->sites[sites->count++] = site;
	return kn_walk_uses(finder->walk, finder->now);
}

int kn_register_find(struct kn_walk *walk, struct kn_sites *sites)
{
	struct finder finder = {.walk = walk, .sites = sites};
	struct elf_symbol symbol;
	int rc;

	finder.wanted = calloc(walk->eh->count / 8 + 1, 1);
	if (!finder.wanted)
		return -ENOMEM;
	if (elf_symbol(walk->elf, REGISTER_NAME, &symbol))
		finder.symbol = symbol.vaddr;
	rc = kn_each_window(walk->elf, walk->stop, kn_section_is_code, find_minus_one, &finder);
	if (!rc)
		rc = walk_wanted(&finder, learn_target);
	if (!rc)
		choose_targets(&finder);
	if (!rc && finder.target_count)
		rc = kn_each_window(walk->elf, walk->stop, kn_section_is_code, find_calls, &finder);
	if (!rc && finder.target_count)
		rc = walk_wanted(&finder, add_site);
	free(finder.wanted);
	return rc;
}
