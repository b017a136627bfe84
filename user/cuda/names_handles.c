// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * Finds the variable that holds a kernel's handle. CUDA 13's stub calls __cudaGetKernel(&handle,
 * &stub) once, so: a call with the stub's own address in rsi and a variable's in rdi. It stands in
 * the stub, or in what the stub calls or jumps to (__device_stub__.., a part moved elsewhere).
 */
#include <errno.h>
#include <stdlib.h>

#include "cuda/names_parts.h"

#define REACH_MAX 12 /* functions looked at for one stub; two or three do */

struct search {
	struct kn_walk *walk;
	uint64_t host;
	uint64_t handle; /* 0: not found yet */
	uint64_t callee;
	const struct eh_range *reach[REACH_MAX];
	size_t reach_count;
};

struct found {
	struct pt_kernel *kernel;
	uint64_t callee;
};

static void add_reach(struct search *search, uint64_t vaddr)
{
	const struct eh_range *function = eh_range_at(search->walk->eh, vaddr);

	for (size_t i = 0; i < search->reach_count; i++)
		if (search->reach[i] == function)
			return;
	if (function && search->reach_count < REACH_MAX)
		search->reach[search->reach_count++] = function;
}

static int look(void *ctx, const struct mc_insn *insn, const struct kn_target *target,
		const struct kn_regs *regs)
{
	struct search *search = ctx;
	uint64_t host, handle;

	if (kn_reg(regs, MC_RSI, &host) && host == search->host && kn_reg(regs, MC_RDI, &handle) &&
	    elf_is_variable(search->walk->elf, handle)) {
		search->handle = handle;
		search->callee = target->vaddr;
		return 1;
	}
	if (!target->indirect)
		add_reach(search, target->vaddr);
	return 0;
}

static int find_one(struct search *search, uint64_t host)
{
	int rc = 0;

	search->host = host;
	search->handle = 0;
	search->reach_count = 0;
	add_reach(search, host);
	for (size_t i = 0; i < search->reach_count && !rc; i++)
		rc = kn_walk_function(search->walk, search->reach[i], look, search);
	for (size_t i = 0; i < search->reach_count && rc == 1; i++)
		if (kn_walk_uses(search->walk, search->reach[i]))
			return -ENOMEM;
	return rc < 0 ? rc : 0;
}

static int compare_callees(const void *a, const void *b)
{
	const struct found *x = a, *y = b;

	return x->callee < y->callee ? -1 : x->callee > y->callee;
}

/* All stubs ask the same function; what a rare other one seems to say is not believed. */
static void keep_common(struct found *found, size_t count)
{
	size_t best = 0, best_at = 0;

	qsort(found, count, sizeof(*found), compare_callees);
	for (size_t i = 0, start = 0; i < count; i++) {
		if (found[i].callee != found[start].callee)
			start = i;
		if (i - start + 1 > best) {
			best = i - start + 1;
			best_at = start;
		}
	}
	for (size_t i = 0; i < count; i++)
		if (i < best_at || i >= best_at + best)
			found[i].kernel->handle = 0;
}

int kn_handles_find(struct kn_walk *walk, struct pt_kernel *kernels, size_t count)
{
	struct search search = {.walk = walk};
	struct found *found = calloc(count + 1, sizeof(*found));
	size_t found_count = 0;
	int rc = found ? 0 : -ENOMEM;

	for (size_t i = 0; i < count && !rc; i++) {
		if (!i || kernels[i].host != kernels[i - 1].host)
			rc = find_one(&search, kernels[i].host);
		kernels[i].handle = search.handle;
		if (search.handle)
			found[found_count++] = (struct found){&kernels[i], search.callee};
	}
	if (!rc)
		keep_common(found, found_count);
	free(found);
	return rc;
}
