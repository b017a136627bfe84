/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * counter.h - the instructions of the evaluation loop that count frames.
 *
 * Each frame that starts to run takes 1 from the thread state's recursion counter, each frame that
 * returns, yields or is unwound gives it back. From 3.12 on nothing else does
 * (py_recursion_remaining); in 3.11 calls of C functions bracket themselves with the same counter,
 * and those pairs are dropped here.
 */
#ifndef PT_PYTHON_COUNTER_H
#define PT_PYTHON_COUNTER_H

#include "python/flow.h"

struct counter {
	size_t insn;  /* index in the region */
	int delta;    /* what it adds to the counter: -2, -1, 1; 0: not known statically */
	uint8_t base; /* register that holds the thread state there */
	bool dropped; /* brackets a C call (3.11), or no frame starts or ends there */
	bool limit;   /* the limit has changed, the depth has not; dropped as well */
	bool failed;  /* 3.11: also passed by a frame that fails its check, see failed.h */
};

struct counters {
	struct counter *items; /* in address order */
	size_t count;
};

/* The counter's offset in PyThreadState, from the exported Py_SetRecursionLimit(), which writes the
 * counter and, 4 bytes behind it, the limit. -ENOENT: not found. */
int counter_offset(const struct elf_file *elf, const struct eh_ranges *eh, uint16_t *offset);

/* Does the instruction write the dword at that offset in a way that counts? Says nothing about
 * what the base register holds. */
bool counter_matches(const struct mc_insn *insn, uint16_t offset);

/* All of them, in address order. -ENOTSUP: one of them goes through a register that is not proven
 * to hold the thread state (*vaddr tells which). */
int counters_find(struct counters *counters, const struct region *region, const struct flow *flow,
		  uint16_t offset, uint64_t *vaddr);
/* Marks as dropped what only takes back the correction of a failed check: no frame starts there. */
void counters_drop_corrections(struct counters *counters, const struct region *region);
/* 3.11: marks those that bracket C calls and the clearing of frames as dropped. */
void counters_drop_brackets(struct counters *counters, const struct region *region);
/* The check for too deep a recursion behind a decrement (_Py_EnterRecursivePy, start_frame of
 * Python/ceval.c): where it branches, and where it turns out well after all: one of those branches
 * is passed then. Indices in the region; branch may be REGION_NONE; taken: the good way is the
 * branch's target. */
#define COUNTER_PASSED_MAX 4
#define COUNTER_SLOW_MAX   96 /* instructions of an inlined check: 40 seen (clang), 4 branches */
struct counter_check {
	struct counter_branch {
		size_t insn;
		bool taken;
	} branch, passed[COUNTER_PASSED_MAX];
	size_t passed_count; /* 0: not known */
	/* All of the check is inlined: the instructions behind the branch up to where it passes,
	 * and to the first one that counts or to a call that does not come back where it fails. */
	size_t slow[COUNTER_SLOW_MAX], slow_count;
};

/* Where the branch goes if it is passed. */
size_t counter_way(const struct region *region, const struct counter_branch *branch);

/* false: the decrement is not followed by such a check. */
bool counter_check_find(struct counter_check *check, const struct counters *counters,
			const struct region *region, size_t insn);
/* The branch on the outcome of the check whose call is, or follows on, instruction i; *taken: it is
 * taken when the check passed. REGION_NONE: there is none. */
size_t counter_check_result(const struct region *region, size_t i, bool *taken);
/* Likewise, on both ways if the decrement is first followed by another branch (on throwflag, at the
 * entry). How many there are: 0, 1 or 2. */
size_t counter_checks_find(struct counter_check checks[2], const struct counters *counters,
			   const struct region *region, size_t insn);
void counters_release(struct counters *counters);
const struct counter *counter_at(const struct counters *counters, size_t insn);

#endif
