// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
#include "python/failed.h"

#include <errno.h>

#define FRAME 0x2  /* on the slow way of a frame's check */
#define CALL  0x4  /* on that of a C call's */
#define GATE  0x8  /* the branch to a slow way */
#define GOOD  0x10 /* where it goes on if a check passed */

struct failed {
	struct counters *counters;
	const struct region *region;
	uint8_t *marks;
};

/* Is all of this decrement's check inlined? -ENOTSUP: yes, but it is not understood. */
static int inlined_check(const struct failed *failed, const struct counter *counter,
			 struct counter_check checks[2], size_t *count)
{
	*count = counter_checks_find(checks, failed->counters, failed->region, counter->insn);
	for (size_t i = 0; i < *count; i++)
		if (!checks[i].passed_count)
			return -ENOTSUP;
	return 0;
}

static void mark_check(const struct failed *failed, const struct counter_check *check, uint8_t of)
{
	const struct region *region = failed->region;
	size_t branch = check->branch.insn;
	size_t good = counter_way(region, &check->branch);

	if (!check->slow_count)
		return;
	for (size_t i = 0; i < check->slow_count; i++)
		failed->marks[check->slow[i]] |= FAILED_PURE | of;
	failed->marks[branch] |= GATE;
	if (good != REGION_NONE)
		failed->marks[good] |= GOOD;
}

static int mark_all(const struct failed *failed, uint64_t *vaddr)
{
	struct counter_check checks[2];
	size_t count;

	for (size_t c = 0; c < failed->counters->count; c++) {
		const struct counter *counter = &failed->counters->items[c];

		if (counter->delta >= 0)
			continue;
		*vaddr = failed->region->insns[counter->insn].vaddr;
		if (inlined_check(failed, counter, checks, &count))
			return -ENOTSUP;
		for (size_t i = 0; i < count; i++)
			mark_check(failed, &checks[i], counter->dropped ? CALL : FRAME);
	}
	return 0;
}

/* May control that comes from elsewhere go through instruction i? */
static bool is_entered(const struct failed *failed, size_t i)
{
	const struct region *region = failed->region;
	size_t before = region_previous(region, i);
	uint64_t vaddr = region->insns[i].vaddr;

	if ((region->marks[i] & (REGION_INDIRECT | REGION_START)) || (failed->marks[i] & GOOD))
		return true;
	if (before != REGION_NONE && region_goes_on(region, before) &&
	    !(failed->marks[before] & (FAILED_PURE | GATE)))
		return true;
	for (size_t k = 0; (region->marks[i] & REGION_TARGET) && k < region->insn_count; k++)
		if ((region->insns[k].flow == MC_FLOW_JCC ||
		     region->insns[k].flow == MC_FLOW_JMP) &&
		    region->insns[k].target == vaddr && !(failed->marks[k] & (FAILED_PURE | GATE)))
			return true;
	return false;
}

/* Keeps as pure what nothing else leads to. */
static void purify(const struct failed *failed)
{
	bool changed = true;

	while (changed) {
		changed = false;
		for (size_t i = 0; i < failed->region->insn_count; i++)
			if ((failed->marks[i] & FAILED_PURE) && is_entered(failed, i)) {
				failed->marks[i] &= (uint8_t)~FAILED_PURE;
				changed = true;
			}
	}
}

/* What counts on the slow ways is where they end. */
static int end_understand(const struct failed *failed, struct counter *counter)
{
	uint8_t mark = failed->marks[counter->insn];

	if (!(mark & (FRAME | CALL)) || counter->limit)
		return 0;
	if (counter->delta != 1 || counter->dropped)
		return -ENOTSUP;
	if ((mark & (FRAME | CALL | FAILED_PURE)) == (CALL | FAILED_PURE))
		counter->dropped = true;
	else if ((mark & (FRAME | CALL | FAILED_PURE)) == FRAME)
		counter->failed = true;
	else
		return -ENOTSUP;
	return 0;
}

int counters_find_failed(struct counters *counters, const struct region *region, uint8_t *marks,
			 uint64_t *vaddr)
{
	struct failed failed = {counters, region, marks};
	int ret = mark_all(&failed, vaddr);

	if (ret)
		return ret;
	purify(&failed);
	for (size_t i = 0; i < counters->count && !ret; i++) {
		*vaddr = region->insns[counters->items[i].insn].vaddr;
		ret = end_understand(&failed, &counters->items[i]);
	}
	return ret;
}
