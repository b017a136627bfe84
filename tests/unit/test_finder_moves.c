// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * Where the probe for a counter instruction goes, on small pieces of code written for the purpose.
 * They are assembled into this test; each starts like _PyEval_EvalFrameDefault, with the thread
 * state in rdi. The counter lies at offset 0x30, current_frame at 0x48.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "elf_builder.h"
#include "python/failed.h"
#include "python/place.h"

#ifdef __x86_64__

#define COUNTER 0x30
#define FRAME   0x48
#define ALL     PY_INSN_EMULATED_DEFAULT

/* Code between name and name_end; name_at marks the instruction that matters. */
#define CODE(name, text)                                                                           \
	extern const uint8_t name[], name##_end[], name##_at[], name##_to[];                       \
	__asm__(".pushsection .rodata\n.intel_syntax noprefix\n" #name ":\n" text "\n" #name       \
		"_end:\n.weak " #name "_at\n.weak " #name "_to\n.att_syntax\n.popsection\n")

struct bench {
	struct elf_image image;
	struct elf_file *elf;
	struct eh_range range;
	struct eh_ranges eh;
	struct py_finder finder;
	struct region region;
	struct flow flow;
	struct counters counters;
	struct place_finder places;
};

static int bench_load(struct bench *b, const uint8_t *code, const uint8_t *end,
		      unsigned int emulated)
{
	struct pt_err err = {0};
	const uint64_t entry = ELF_CODE;
	uint64_t bad = 0;
	int ret;

	memset(b, 0, sizeof(*b));
	elf_build(&b->image, code, (size_t)(end - code));
	assert_int_equal(elf_file_memory(&b->image, sizeof(b->image), &b->elf, &err), 0);
	b->range = (struct eh_range){.start = ELF_CODE, .end = ELF_CODE + (uint64_t)(end - code)};
	b->eh = (struct eh_ranges){&b->range, 1};
	b->finder = (struct py_finder){b->elf, &b->eh, emulated};
	ret = region_load(&b->region, &b->finder, ELF_CODE);
	if (ret)
		return ret;
	assert_int_equal(region_find_tables(&b->region), 0);
	assert_int_equal(flow_analyse(&b->flow, &b->region, &entry, 1), 0);
	ret = counters_find(&b->counters, &b->region, &b->flow, COUNTER, &bad);
	b->places = (struct place_finder){&b->region, &b->flow, &b->counters, emulated, NULL, true};
	return ret;
}

static void bench_close(struct bench *b)
{
	counters_release(&b->counters);
	flow_release(&b->flow);
	region_release(&b->region);
	elf_file_close(b->elf);
	free(b);
}

static struct bench *bench_open(const uint8_t *code, const uint8_t *end, unsigned int emulated,
				size_t counters)
{
	struct bench *b = malloc(sizeof(*b));

	assert_non_null(b);
	assert_int_equal(bench_load(b, code, end, emulated), 0);
	assert_int_equal(b->counters.count, counters);
	return b;
}

#define OPEN(name, emulated, counters) bench_open(name, name##_end, emulated, counters)
/* The index of the instruction at a label. */
#define AT(b, name, label)             region_index(&(b)->region, ELF_CODE + (uint64_t)(name##label - name))

CODE(forward, "mov rbx, rdi\n mov eax, [rbx+0x30]\n lea edx, [rax-1]\n mov [rbx+0x30], edx\n"
	      "test eax, eax\n forward_at: jle 1f\n nop\n 1: ret");

static void test_moves_to_the_next_emulated_instruction(void **state)
{
	struct bench *b = OPEN(forward, ALL, 1);
	struct place place = place_forward(&b->places, &b->counters.items[0]);

	(void)state;
	assert_int_equal(b->counters.items[0].delta, -1);
	assert_int_equal(place.insn, AT(b, forward, _at));
	assert_int_equal(place.distance, 2);
	assert_int_equal(place.ts, MC_RBX);
	assert_int_equal(place.condition, 0);
	bench_close(b);
}

static void test_does_not_pass_a_branch_that_is_not_emulated(void **state)
{
	struct bench *b = OPEN(forward, 1u << PY_INSN_CALL | 1u << PY_INSN_NOP1, 1);
	struct place place = place_forward(&b->places, &b->counters.items[0]);

	(void)state;
	assert_int_equal(place.insn, REGION_NONE);
	place = place_behind(&b->places, &b->counters.items[0]);
	assert_int_equal(place.insn, b->counters.items[0].insn + 1);
	bench_close(b);
}

CODE(joined, "mov rbx, rdi\n test esi, esi\n jne 1f\n sub dword ptr [rbx+0x30], 1\n"
	     "1: mov rax, rbx\n nop\n ret");

static void test_does_not_pass_a_jump_target(void **state)
{
	struct bench *b = OPEN(joined, ALL, 1);

	(void)state;
	assert_int_equal(place_forward(&b->places, &b->counters.items[0]).insn, REGION_NONE);
	assert_int_equal(place_behind(&b->places, &b->counters.items[0]).insn, REGION_NONE);
	assert_int_equal(place_raw(&b->places, &b->counters.items[0]).insn,
			 b->counters.items[0].insn);
	bench_close(b);
}

CODE(clobbered, "mov rbx, rdi\n dec dword ptr [rdi+0x30]\n xor edi, edi\n clobbered_at: nop\n ret");

static void test_uses_another_register_when_the_base_is_overwritten(void **state)
{
	struct bench *b = OPEN(clobbered, ALL, 1);
	struct place place = place_forward(&b->places, &b->counters.items[0]);

	(void)state;
	assert_int_equal(place.insn, AT(b, clobbered, _at));
	assert_int_equal(place.ts, MC_RBX);
	bench_close(b);
}

CODE(spilled, "sub rsp, 0x28\n mov [rsp+0x18], rdi\n xor edi, edi\n push rsi\n"
	      "mov rax, [rsp+0x20]\n inc dword ptr [rax+0x30]\n mov eax, 1\n"
	      "spilled_at: nop\n pop rsi\n add rsp, 0x28\n ret");

static void test_uses_a_stack_slot(void **state)
{
	struct bench *b = OPEN(spilled, ALL, 1);
	struct place place = place_forward(&b->places, &b->counters.items[0]);

	(void)state;
	assert_int_equal(b->counters.items[0].delta, 1);
	assert_int_equal(place.insn, AT(b, spilled, _at));
	assert_int_equal(place.ts, PT_TS_SLOT);
	assert_int_equal(place.slot, 4); /* [rsp+0x20], with one push on top */
	bench_close(b);
}

CODE(overwritten,
     "sub rsp, 0x28\n mov [rsp+0x18], rdi\n mov [rsp+0x1c], esi\n"
     "mov rax, [rsp+0x18]\n mov ecx, [rax+0x30]\n inc ecx\n mov [rax+0x30], ecx\n ret");

static void test_refuses_a_base_that_may_be_something_else(void **state)
{
	struct bench *b = malloc(sizeof(*b));

	(void)state;
	assert_non_null(b);
	assert_int_equal(bench_load(b, overwritten, overwritten_end, ALL), -ENOTSUP);
	bench_close(b);
}

CODE(foreign, "mov rbx, rdi\n mov rax, [rsi]\n mov [rax+0x30], edx\n dec dword ptr [rbx+0x30]\n"
	      "nop\n ret");

static void test_ignores_another_structures_field(void **state)
{
	struct bench *b = OPEN(foreign, ALL, 1);

	(void)state;
	assert_int_equal(b->counters.items[0].base, MC_RBX);
	bench_close(b);
}

CODE(both, "dec dword ptr [rdi+0x30]\n inc dword ptr [rdi+0x30]\n nop\n ret");

static void test_does_not_pass_a_counter_of_the_other_direction(void **state)
{
	struct bench *b = OPEN(both, ALL, 2);

	(void)state;
	assert_int_equal(place_forward(&b->places, &b->counters.items[0]).insn, REGION_NONE);
	assert_int_equal(place_forward(&b->places, &b->counters.items[1]).insn,
			 b->counters.items[1].insn + 1);
	bench_close(b);
}

CODE(shim, "dec dword ptr [rdi+0x30]\n mov rax, rsi\n dec dword ptr [rdi+0x30]\n"
	   "shim_at: nop\n ret");

static void test_two_of_one_direction_share_a_probe_but_on_3_11(void **state)
{
	struct bench *b = OPEN(shim, ALL, 2);

	(void)state;
	assert_int_equal(place_forward(&b->places, &b->counters.items[0]).insn, AT(b, shim, _at));
	b->places.merge = false;
	assert_int_equal(place_forward(&b->places, &b->counters.items[0]).insn, REGION_NONE);
	bench_close(b);
}

CODE(covered, "dec dword ptr [rdi+0x30]\n mov rax, rsi\n jmp 1f\n nop\n"
	      "1: mov eax, [rdi+0x30]\n lea edx, [rax-1]\n mov [rdi+0x30], edx\n test eax, eax\n"
	      "jle 2f\n ret\n 2: ret");

static void test_a_shim_needs_no_probe(void **state)
{
	struct bench *b = OPEN(covered, ALL, 2);

	(void)state;
	assert_true(place_is_covered(&b->places, &b->counters.items[0]));
	assert_false(place_is_covered(&b->places, &b->counters.items[1]));
	b->places.merge = false;
	assert_false(place_is_covered(&b->places, &b->counters.items[0]));
	bench_close(b);
}

/* Entry: on each way of the branch on throwflag a check, one called, one inlined. */
CODE(checked, "mov rbx, rdi\n mov eax, [rbx+0x30]\n test esi, esi\n lea edx, [rax-1]\n"
	      "mov [rbx+0x30], edx\n jne 2f\n test eax, eax\n checked_at: jg 1f\n"
	      "mov rdi, rbx\n call 9f\n test eax, eax\n je 1f\n jmp 8f\n 1: jmp rcx\n"
	      "2: test eax, eax\n checked_to: jle 3f\n jmp rcx\n"
	      "3: mov ecx, [rbx+0x38]\n test ecx, ecx\n je 8f\n cmp edx, -50\n jge 1b\n"
	      "8: xor eax, eax\n 9: ret");

static void test_checks_of_the_recursion(void **state)
{
	struct bench *b = OPEN(checked, ALL, 1);
	struct counter_check checks[2];
	struct place place;

	(void)state;
	assert_int_equal(
	    counter_checks_find(checks, &b->counters, &b->region, b->counters.items[0].insn), 2);
	assert_int_equal(checks[0].branch.insn, AT(b, checked, _at));
	assert_true(checks[0].branch.taken);
	assert_int_equal(checks[0].passed_count, 1);
	assert_true(checks[0].passed[0].taken);
	assert_int_equal(b->region.insns[checks[0].passed[0].insn].cc, 4); /* je */
	assert_int_equal(checks[1].branch.insn, AT(b, checked, _to));
	assert_false(checks[1].branch.taken);
	assert_int_equal(checks[1].passed_count, 1);
	assert_true(checks[1].passed[0].taken);
	assert_int_equal(b->region.insns[checks[1].passed[0].insn].cc, 13); /* jge */
	place = place_branch(&b->places, checks[1].branch.insn, checks[1].branch.taken, MC_RBX);
	assert_int_equal(place.condition, PT_COND_VALID | 14);
	assert_int_equal(place.ts, MC_RBX);
	bench_close(b);
}

/* All of the check inlined, as clang does: it passes in two more places. */
CODE(inlined, "mov rbx, rdi\n mov ecx, [rbx+0x30]\n lea eax, [rcx-1]\n mov [rbx+0x30], eax\n"
	      "test ecx, ecx\n jg 2f\n cmp dword ptr [rbx+0x38], 0\n je 1f\n cmp eax, -51\n"
	      "inlined_at: jg 2f\n call 9f\n"
	      "1: test eax, eax\n inlined_to: jle 3f\n 2: jmp rcx\n"
	      "3: inc dword ptr [rbx+0x30]\n jmp 2b\n 9: ud2");

static void test_a_check_that_passes_in_several_places(void **state)
{
	struct bench *b = OPEN(inlined, ALL, 2);
	struct counter_check check;

	(void)state;
	assert_true(
	    counter_check_find(&check, &b->counters, &b->region, b->counters.items[0].insn));
	assert_true(check.branch.taken);
	assert_int_equal(check.passed_count, 2);
	for (size_t i = 0; i < 2; i++) {
		bool taken = check.passed[i].insn == AT(b, inlined, _at);

		assert_true(taken || check.passed[i].insn == AT(b, inlined, _to));
		assert_int_equal(check.passed[i].taken, taken);
	}
	assert_int_not_equal(check.passed[0].insn, check.passed[1].insn);
	bench_close(b);
}

/* The same laid out by BOLT: behind one of the branches a jump leads to where it goes on. */
CODE(laid_out, "mov rbx, rdi\n mov ecx, [rbx+0x30]\n lea eax, [rcx-1]\n mov [rbx+0x30], eax\n"
	       "test ecx, ecx\n jle 1f\n 2: jmp rcx\n 4: ret\n"
	       "1: cmp dword ptr [rbx+0x38], 0\n je 3f\n cmp eax, -51\n"
	       "laid_out_at: jle 4b\n jmp 2b\n 3: test eax, eax\n laid_out_to: jg 2b\n ret");

static void test_a_check_that_passes_by_a_jump(void **state)
{
	struct bench *b = OPEN(laid_out, ALL, 1);
	struct counter_check check;

	(void)state;
	assert_true(
	    counter_check_find(&check, &b->counters, &b->region, b->counters.items[0].insn));
	assert_false(check.branch.taken);
	assert_int_equal(check.passed_count, 2);
	for (size_t i = 0; i < 2; i++) {
		bool fallen = check.passed[i].insn == AT(b, laid_out, _at);

		assert_true(fallen || check.passed[i].insn == AT(b, laid_out, _to));
		assert_int_equal(check.passed[i].taken, !fallen);
	}
	bench_close(b);
}

/* No branch tells when it passes: control falls into where it goes on. */
CODE(unclear, "mov rbx, rdi\n mov ecx, [rbx+0x30]\n lea eax, [rcx-1]\n mov [rbx+0x30], eax\n"
	      "test ecx, ecx\n jg 2f\n cmp dword ptr [rbx+0x38], 0\n jne 3f\n call 3f\n"
	      "2: jmp rcx\n 3: ret");

static void test_a_check_that_no_branch_ends(void **state)
{
	struct bench *b = OPEN(unclear, ALL, 1);
	struct counter_check check;

	(void)state;
	assert_true(
	    counter_check_find(&check, &b->counters, &b->region, b->counters.items[0].insn));
	assert_int_equal(check.passed_count, 0);
	bench_close(b);
}

/* 3.11, all of the check inlined as clang does it: the limit may have been raised meanwhile, and
 * what a frame gives back where it fails is one with the exit of a frame that an exception ends. */
CODE(raised, "mov rbx, rdi\n mov ecx, [rbx+0x30]\n lea eax, [rcx-1]\n mov [rbx+0x30], eax\n"
	     "test ecx, ecx\n jg 2f\n mov edi, [rbx+0x34]\n sub edi, eax\n mov edx, [rsi+0x60]\n"
	     "mov ecx, edx\n sub ecx, edi\n raised_at: jle 1f\n mov [rbx+0x34], edx\n"
	     "mov [rbx+0x30], ecx\n jmp 2f\n 1: cmp dword ptr [rbx+0x38], 0\n jne 9f\n"
	     "test eax, eax\n jle 3f\n 2: test esi, esi\n raised_to: je 4f\n jmp rcx\n"
	     "3: call 9f\n 4: mov eax, [rbx+0x30]\n lea ecx, [rax+1]\n mov [rbx+0x30], ecx\n"
	     "test esi, esi\n je 9f\n mov [rbx+0x30], eax\n call 9f\n inc dword ptr [rbx+0x30]\n"
	     "9: ret");

static void test_a_limit_that_was_raised(void **state)
{
	/* the check, the limit, the exit, and the bracket of what clears the frame */
	static const int deltas[] = {-1, 0, 1, -1, 1};
	struct bench *b = OPEN(raised, ALL, 5);
	struct place found[PLACE_EDGES_MAX];
	uint8_t marks[128] = {0};
	struct counter_check check;
	uint64_t vaddr;

	(void)state;
	for (size_t i = 0; i < 5; i++) {
		assert_int_equal(b->counters.items[i].delta, deltas[i]);
		assert_int_equal(b->counters.items[i].limit, i == 1);
	}
	counters_drop_corrections(&b->counters, &b->region);
	counters_drop_brackets(&b->counters, &b->region);
	for (size_t i = 0; i < 5; i++)
		assert_int_equal(b->counters.items[i].dropped, i == 1 || i > 2);
	assert_true(
	    counter_check_find(&check, &b->counters, &b->region, b->counters.items[0].insn));
	assert_int_equal(check.passed_count, 2);
	assert_true(check.passed[0].insn == AT(b, raised, _at) ||
		    check.passed[1].insn == AT(b, raised, _at));
	assert_int_equal(counters_find_failed(&b->counters, &b->region, marks, &vaddr), 0);
	assert_true(b->counters.items[2].failed);
	b->places.failed = marks;
	assert_int_equal(place_edges(&b->places, &b->counters.items[2], found), 1);
	assert_int_equal(found[0].insn, AT(b, raised, _to));
	bench_close(b);
}

/* What is stored is not what the limit has changed by: the depth is another one. */
CODE(sunk, "mov rbx, rdi\n mov ecx, [rbx+0x30]\n lea eax, [rcx-1]\n mov edi, [rbx+0x34]\n"
	   "sub edi, eax\n mov edx, [rsi+0x60]\n mov ecx, edx\n sub ecx, edi\n"
	   "mov [rbx+0x34], edx\n mov [rbx+0x30], ecx\n ret");

static void test_a_limit_that_hides_a_frame(void **state)
{
	struct bench *b = OPEN(sunk, ALL, 1);

	(void)state;
	assert_false(b->counters.items[0].limit);
	assert_int_equal(b->counters.items[0].delta, 0);
	bench_close(b);
}

/* The check of a C call gives back itself where it fails, and where a frame's does so alone what
 * follows is not understood. */
CODE(gives_back, "mov rbx, rdi\n mov ecx, [rbx+0x30]\n lea eax, [rcx-1]\n mov [rbx+0x30], eax\n"
		 "test ecx, ecx\n jg 2f\n cmp dword ptr [rbx+0x38], 0\n jne 9f\n test eax, eax\n"
		 "jle 3f\n 2: call rdx\n inc dword ptr [rbx+0x30]\n jmp rcx\n"
		 "3: call 9f\n inc dword ptr [rbx+0x30]\n jmp rcx\n 9: ret");
CODE(gives_up, "mov rbx, rdi\n mov ecx, [rbx+0x30]\n lea eax, [rcx-1]\n mov [rbx+0x30], eax\n"
	       "test ecx, ecx\n jg 2f\n cmp dword ptr [rbx+0x38], 0\n jne 9f\n test eax, eax\n"
	       "jle 3f\n 2: jmp rcx\n 3: call 9f\n inc dword ptr [rbx+0x30]\n jmp rcx\n 9: ret");

static void test_what_a_failed_check_gives_back(void **state)
{
	struct bench *b = OPEN(gives_back, ALL, 3);
	uint8_t marks[64] = {0}, others[64] = {0};
	uint64_t vaddr;

	(void)state;
	counters_drop_brackets(&b->counters, &b->region);
	assert_true(b->counters.items[1].dropped);
	assert_false(b->counters.items[2].dropped);
	assert_int_equal(counters_find_failed(&b->counters, &b->region, marks, &vaddr), 0);
	assert_true(b->counters.items[2].dropped);
	bench_close(b);
	b = OPEN(gives_up, ALL, 2);
	counters_drop_brackets(&b->counters, &b->region);
	assert_int_equal(counters_find_failed(&b->counters, &b->region, others, &vaddr), -ENOTSUP);
	bench_close(b);
}

CODE(edges, "test esi, esi\n edges_at: je 1f\n cmp esi, 3\n edges_to: jne 2f\n"
	    "mov rax, rsi\n 1: add dword ptr [rdi+0x30], 1\n pop rbx\n ret\n"
	    "2: cmp esi, 4\n jg 3f\n jmp 1b\n 3: ret");

static void test_branch_edges(void **state)
{
	struct bench *b = OPEN(edges, ALL, 1);
	struct place found[PLACE_EDGES_MAX];
	bool taken = false, fallen = false, jumped = false;

	(void)state;
	assert_int_equal(place_forward(&b->places, &b->counters.items[0]).insn, REGION_NONE);
	assert_int_equal(place_edges(&b->places, &b->counters.items[0], found), 3);
	for (size_t i = 0; i < 3; i++) {
		assert_int_equal(found[i].ts, MC_RDI);
		taken |= found[i].insn == AT(b, edges, _at) &&
			 found[i].condition == (PT_COND_VALID | PT_COND_TAKEN | 4);
		fallen |= found[i].insn == AT(b, edges, _to) &&
			  found[i].condition == (PT_COND_VALID | 5);
		jumped |= b->region.insns[found[i].insn].flow == MC_FLOW_JMP && !found[i].condition;
	}
	assert_true(taken && fallen && jumped);
	bench_close(b);
}

CODE(called, "mov rbx, rdi\n call 1f\n add dword ptr [rbx+0x30], 1\n pop rbx\n 1: ret");

static void test_no_edge_before_a_call(void **state)
{
	struct bench *b = OPEN(called, ALL, 1);
	struct place found[PLACE_EDGES_MAX];

	(void)state;
	assert_int_equal(place_edges(&b->places, &b->counters.items[0], found), 0);
	bench_close(b);
}

CODE(late, "sub dword ptr [rdi+0x30], 1\n late_at: mov eax, 1\n mov [rdi+0x48], rdx\n ret");
CODE(early, "mov [rdi+0x48], rdx\n sub dword ptr [rdi+0x30], 1\n early_at: mov eax, 1\n ret");
CODE(later, "sub dword ptr [rdi+0x30], 1\n later_at: mov rdx, [rsi]\n mov [rdi+0x48], rdx\n ret");

static int frame_register(const uint8_t *code, const uint8_t *end)
{
	struct bench *b = bench_open(code, end, ALL, 1);
	struct place place = place_behind(&b->places, &b->counters.items[0]);
	int reg = place_frame_register(&b->places, &b->counters.items[0], &place, FRAME);

	bench_close(b);
	return reg;
}

static void test_frame_register(void **state)
{
	(void)state;
	assert_int_equal(frame_register(late, late_end), MC_RDX);
	assert_int_equal(frame_register(early, early_end), PT_REG_NONE);
	assert_int_equal(frame_register(later, later_end), -EAGAIN);
}

CODE(handler, "mov rbx, rdi\n mov eax, [rbx+0x18]\n cmp eax, ecx\n handler_at: jne 1f\n 1: ret");

static void test_handler(void **state)
{
	struct bench *b = OPEN(handler, ALL, 0);
	struct place place = place_handler(&b->places, 0);

	(void)state;
	assert_int_equal(place.insn, AT(b, handler, _at));
	assert_true(flow_proves(&b->flow, place.insn, place.ts));
	bench_close(b);
}

CODE(left, "mov rbx, rdi\n mov eax, [rbx+0x30]\n lea edx, [rax-1]\n mov [rbx+0x30], edx\n"
	   "test eax, eax\n left_at: jle 1f\n nop\n 1: ret");
CODE(left_gone, "mov rbx, rdi\n mov eax, [rbx+0x30]\n lea edx, [rax-1]\n mov [rbx+0x30], edx\n"
		"mov edx, [rbx]\n test eax, eax\n left_gone_at: jle 1f\n nop\n 1: ret");
CODE(left_entered, "mov rbx, rdi\n mov eax, [rbx+0x30]\n lea edx, [rax-1]\n mov [rbx+0x30], edx\n"
		   "1: test eax, eax\n left_entered_at: jle 2f\n jmp 1b\n 2: ret");
CODE(in_memory, "sub dword ptr [rdi+0x30], 1\n in_memory_at: jle 1f\n nop\n 1: ret");

static unsigned int left_register(const uint8_t *code, const uint8_t *end, const uint8_t *at)
{
	struct bench *b = bench_open(code, end, ALL, 1);
	struct place place = {.insn = region_index(&b->region, ELF_CODE + (uint64_t)(at - code))};
	unsigned int reg = place_left_register(&b->places, &b->counters.items[0], &place);

	assert_int_not_equal(place.insn, REGION_NONE);
	bench_close(b);
	return reg;
}

static void test_counter_in_a_register(void **state)
{
	(void)state;
	assert_int_equal(left_register(left, left_end, left_at), MC_RDX);
	assert_int_equal(left_register(left_gone, left_gone_end, left_gone_at), PT_REG_NONE);
	assert_int_equal(left_register(left_entered, left_entered_end, left_entered_at),
			 PT_REG_NONE);
	assert_int_equal(left_register(in_memory, in_memory_end, in_memory_at), PT_REG_NONE);
}

#define INSTR_PTR 0x38

/* rdi: the thread state; rbx: the frame. The code object is read from it and loses its tag. */
CODE(resume, "mov rbp, rdi\n mov rax, [rbx]\n mov [rbx+0x38], r10\n mov rcx, [rbp+0x18]\n"
	     "and rax, -2\n cmp [rax+0xa8], rcx\n resume_at: jne 1f\n 1: ret");
/* what is read at offset 0 is no frame's: nothing was stored there */
CODE(other_base, "mov rbp, rdi\n mov rax, [r12]\n mov [rbx+0x38], r10\n cmp [rax+0xa8], rcx\n"
		 "other_base_at: jne 1f\n 1: ret");
CODE(reloaded, "mov rbp, rdi\n mov rax, [rbx]\n mov [rbx+0x38], r10\n mov eax, [rbp+0x18]\n"
	       "cmp eax, ecx\n reloaded_at: jne 1f\n 1: ret");
CODE(another_frame, "mov rbp, rdi\n mov rax, [rbx]\n mov [rbx+0x38], r10\n mov rbx, [rbx+8]\n"
		    "cmp eax, ecx\n another_frame_at: jne 1f\n 1: ret");
CODE(arithmetic, "mov rbp, rdi\n mov rax, [rbx]\n mov [rbx+0x38], r10\n or rax, -2\n"
		 "cmp eax, ecx\n arithmetic_at: jne 1f\n 1: ret");
/* somebody else comes to the branch without having read anything */
CODE(met_halfway, "mov rbp, rdi\n test ecx, ecx\n je 2f\n mov rax, [rbx]\n mov [rbx+0x38], r10\n"
		  "2: cmp eax, ecx\n met_halfway_at: jne 1f\n 1: ret");

static void handler_frame(const uint8_t *code, const uint8_t *end, size_t from, unsigned int frame,
			  unsigned int object)
{
	struct bench *b = bench_open(code, end, ALL, 0);
	struct place place = place_handler(&b->places, from);
	struct place_frame found = place_handler_frame(&b->places, from, &place, INSTR_PTR, 0);

	assert_int_not_equal(place.insn, REGION_NONE);
	assert_int_equal(found.frame, frame);
	assert_int_equal(found.code, object);
	bench_close(b);
}

static void test_frame_and_code_in_a_handler(void **state)
{
	(void)state;
	handler_frame(resume, resume_end, 0, MC_RBX, MC_RAX);
	handler_frame(other_base, other_base_end, 0, MC_RBX, PT_REG_NONE);
	handler_frame(reloaded, reloaded_end, 0, MC_RBX, PT_REG_NONE);
	handler_frame(another_frame, another_frame_end, 0, PT_REG_NONE, PT_REG_NONE);
	handler_frame(arithmetic, arithmetic_end, 0, MC_RBX, PT_REG_NONE);
	handler_frame(met_halfway, met_halfway_end, 3, PT_REG_NONE, PT_REG_NONE);
}

/* 3.11: "dec; test; jle check; call *; inc", and what the check leads to. */
CODE(bracket, "push rbx\n mov rbx, rdi\n mov eax, [rbx+0x30]\n lea ecx, [rax-1]\n"
	      "mov [rbx+0x30], ecx\n test eax, eax\n jle 2f\n call rdx\n"
	      "add dword ptr [rbx+0x30], 1\n 1: mov eax, [rbx+0x30]\n lea edx, [rax-1]\n"
	      "mov [rbx+0x30], edx\n test eax, eax\n jle 5f\n jmp rsi\n"
	      "2: mov rdi, rbx\n call 4f\n test eax, eax\n je 3f\n jmp 1b\n"
	      "3: call rdx\n add dword ptr [rbx+0x30], 1\n jmp 1b\n 4: ret\n"
	      "5: call 4b\n test eax, eax\n jne 6f\n jmp rsi\n"
	      "6: sub dword ptr [rbx+0x30], 1\n"
	      "add dword ptr [rbx+0x30], 1\n pop rbx\n ret");

static void test_brackets_of_c_calls_are_dropped(void **state)
{
	/* the last but one is the correction where the check has failed */
	static const bool dropped[] = {true, true, false, true, true, false};
	struct bench *b = OPEN(bracket, ALL, 6);

	(void)state;
	counters_drop_corrections(&b->counters, &b->region);
	counters_drop_brackets(&b->counters, &b->region);
	for (size_t i = 0; i < 6; i++)
		assert_int_equal(b->counters.items[i].dropped, dropped[i]);
	bench_close(b);
}

CODE(exhausted, "push rbx\n mov rbx, rdi\n call 2f\n test eax, eax\n je 1f\n"
		"sub dword ptr [rbx+0x30], 1\n nop\n 1: add dword ptr [rbx+0x30], 1\n pop rbx\n"
		"2: ret");

static void test_the_correction_behind_a_check_is_dropped(void **state)
{
	struct bench *b = OPEN(exhausted, ALL, 2);

	(void)state;
	counters_drop_corrections(&b->counters, &b->region);
	counters_drop_brackets(&b->counters, &b->region);
	assert_true(b->counters.items[0].dropped);
	assert_false(b->counters.items[1].dropped);
	bench_close(b);
}

CODE(shared, "mov rbx, rdi\n mov eax, [rbx+0x30]\n test esi, esi\n je 1f\n lea edx, [rax+1]\n"
	     "jmp 2f\n 1: lea edx, [rax-1]\n 2: mov [rbx+0x30], edx\n nop\n ret");
CODE(folded, "mov rbx, rdi\n mov eax, [rbx+0x30]\n test esi, esi\n je 1f\n lea edx, [rax+1]\n"
	     "jmp 2f\n 1: mov edx, [rbx+0x30]\n 2: mov [rbx+0x30], edx\n nop\n ret");

static void test_direction_where_paths_meet(void **state)
{
	struct bench *b = OPEN(shared, ALL, 1);

	(void)state;
	assert_int_equal(b->counters.items[0].delta, 0);
	bench_close(b);
	b = OPEN(folded, ALL, 1);
	assert_int_equal(b->counters.items[0].delta, 1);
	bench_close(b);
}

CODE(midway, "mov rbx, rdi\n jmp 1f+1\n 1: mov eax, 0x11223344\n ret");
CODE(garbage, "mov rbx, rdi\n .byte 0x06\n ret");

static void test_refuses_code_that_is_not_clear(void **state)
{
	struct bench *b = malloc(sizeof(*b));

	(void)state;
	assert_non_null(b);
	assert_int_equal(bench_load(b, midway, midway_end, ALL), -ENOTSUP);
	assert_non_null(strstr(b->region.reason, "inside an instruction"));
	bench_close(b);
	b = malloc(sizeof(*b));
	assert_non_null(b);
	assert_int_equal(bench_load(b, garbage, garbage_end, ALL), -ENOTSUP);
	assert_non_null(strstr(b->region.reason, "cannot be decoded"));
	bench_close(b);
}

static void test_classes(void **state)
{
	static const struct {
		uint8_t bytes[10], length;
		enum py_insn_class class;
	} rows[] = {
	    {{0x74, 0x10}, 2, PY_INSN_JCC},
	    {{0x0f, 0x8e, 1, 2, 3, 4}, 6, PY_INSN_JCC},
	    {{0xeb, 0x10}, 2, PY_INSN_JMP},
	    {{0xe9, 1, 2, 3, 4}, 5, PY_INSN_JMP},
	    {{0xe8, 1, 2, 3, 4}, 5, PY_INSN_CALL},
	    {{0x55}, 1, PY_INSN_PUSH},
	    {{0x41, 0x57}, 2, PY_INSN_PUSH},
	    {{0x90}, 1, PY_INSN_NOP1},
	    {{0x66, 0x90}, 2, PY_INSN_NOP_LONG},
	    {{0x0f, 0x1f, 0x00}, 3, PY_INSN_NOP_LONG},
	    {{0x0f, 0x1f, 0x44, 0x00, 0x00}, 5, PY_INSN_NOP5},
	    {{0xe3, 0x10}, 2, PY_INSN_OTHER},             /* jrcxz */
	    {{0x3e, 0x74, 0x10}, 3, PY_INSN_OTHER},       /* jcc with a hint */
	    {{0x66, 0xe8, 1, 2}, 4, PY_INSN_OTHER},       /* callw */
	    {{0xf3, 0x90}, 2, PY_INSN_OTHER},             /* pause */
	    {{0x41, 0x90}, 2, PY_INSN_OTHER},             /* xchg r8, rax */
	    {{0xf3, 0x0f, 0x1e, 0xfa}, 4, PY_INSN_OTHER}, /* endbr64 */
	    {{0x5b}, 1, PY_INSN_OTHER},                   /* pop */
	    {{0xff, 0xd0}, 2, PY_INSN_OTHER},             /* call rax */
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		assert_int_equal(mc_class(rows[i].bytes, rows[i].length), rows[i].class);
}

CODE(aborting, "push rbx\n mov rbx, rdi\n test esi, esi\n je 1f\n xor ebx, ebx\n call 2f\n"
	       "1: dec dword ptr [rbx+0x30]\n nop\n ret\n");
CODE(aborts, "2: push rax\n hlt\n");

/* The callee is a function of its own, placed where the call above leads: right behind. */
static void test_a_call_that_never_returns_ends_the_path(void **state)
{
	struct bench *b = calloc(1, sizeof(*b));
	size_t size = (size_t)(aborting_end - aborting);
	struct eh_range ranges[2] = {{.start = ELF_CODE, .end = ELF_CODE + size},
				     {.start = ELF_CODE + size, .end = ELF_CODE + size + 2}};
	const uint64_t entry = ELF_CODE;
	struct pt_err err = {0};
	uint64_t bad;

	(void)state;
	assert_non_null(b);
	elf_build(&b->image, aborting, size);
	memcpy(b->image.bytes + ELF_CODE + size, aborts, 2);
	assert_int_equal(elf_file_memory(&b->image, sizeof(b->image), &b->elf, &err), 0);
	b->eh = (struct eh_ranges){ranges, 2};
	b->finder = (struct py_finder){b->elf, &b->eh, ALL};
	assert_int_equal(region_load(&b->region, &b->finder, ELF_CODE), 0);
	assert_int_equal(region_find_tables(&b->region), 0);
	assert_int_equal(flow_analyse(&b->flow, &b->region, &entry, 1), 0);
	assert_int_equal(counters_find(&b->counters, &b->region, &b->flow, COUNTER, &bad), 0);
	assert_int_equal(b->counters.count, 1);
	bench_close(b);
}

/* A switch by distances, which lie at the start of the data; one that another way leads into. */
CODE(switched, "mov rbx, rdi\n .byte 0x48, 0x8d, 0x0d\n .long 0x2000 - (9f - switched)\n 9: nop\n"
	       "movsxd rax, dword ptr [rcx+rsi*4]\n add rax, rcx\n switched_at: jmp rax\n"
	       "switched_to: dec dword ptr [rbx+0x30]\n nop\n ret");
CODE(entered,
     "mov rbx, rdi\n .byte 0x48, 0x8d, 0x0d\n .long 0x2000 - (9f - entered)\n"
     "9: test esi, esi\n je 1f\n nop\n 1: movsxd rax, dword ptr [rcx+rsi*4]\n"
     "add rax, rcx\n entered_at: jmp rax\n entered_to: dec dword ptr [rbx+0x30]\n nop\n ret");

static struct region_switch switch_of(const uint8_t *code, const uint8_t *end, const uint8_t *at,
				      const uint8_t *to)
{
	struct bench *b = calloc(1, sizeof(*b));
	const uint64_t entry = ELF_CODE, target = ELF_CODE + (uint64_t)(to - code);
	const int32_t distances[2] = {(int32_t)(target - ELF_DATA), 1};
	struct region_switch by;
	struct pt_err err = {0};
	uint64_t bad;

	assert_non_null(b);
	elf_build(&b->image, code, (size_t)(end - code));
	memcpy(b->image.bytes + ELF_DATA, distances, sizeof(distances));
	assert_int_equal(elf_file_memory(&b->image, sizeof(b->image), &b->elf, &err), 0);
	b->range = (struct eh_range){.start = ELF_CODE, .end = ELF_CODE + (uint64_t)(end - code)};
	b->eh = (struct eh_ranges){&b->range, 1};
	b->finder = (struct py_finder){b->elf, &b->eh, ALL};
	assert_int_equal(region_load(&b->region, &b->finder, ELF_CODE), 0);
	assert_int_equal(region_find_tables(&b->region), 0);
	assert_int_equal(flow_analyse(&b->flow, &b->region, &entry, 1), 0);
	assert_int_equal(counters_find(&b->counters, &b->region, &b->flow, COUNTER, &bad), 0);
	assert_int_equal(b->counters.count, 1); /* what it leads to is followed */
	assert_int_equal(b->counters.items[0].base, MC_RBX);
	by = region_switch_at(&b->region,
			      region_index(&b->region, ELF_CODE + (uint64_t)(at - code)));
	if (by.table) {
		assert_int_equal(region_switch_entry(&b->region, &by, 0),
				 region_index(&b->region, target));
		assert_int_equal(region_switch_entry(&b->region, &by, 1), REGION_NONE);
	}
	bench_close(b);
	return by;
}

static void test_the_table_of_a_switch(void **state)
{
	struct region_switch by = switch_of(switched, switched_end, switched_at, switched_to);

	(void)state;
	assert_int_equal(by.table, ELF_DATA);
	assert_false(by.pointers);
	by = switch_of(entered, entered_end, entered_at, entered_to);
	assert_int_equal(by.table, 0);
}

CODE(corrected, "mov rbx, rdi\n test esi, esi\n je 1f\n dec dword ptr [rbx+0x30]\n jmp 2f\n"
		"1: dec dword ptr [rbx+0x30]\n call 3f\n 2: inc dword ptr [rbx+0x30]\n 3: ret");

static void test_an_inlined_correction_is_dropped(void **state)
{
	struct bench *b = OPEN(corrected, ALL, 3);

	(void)state;
	counters_drop_corrections(&b->counters, &b->region);
	assert_true(b->counters.items[0].dropped);
	assert_false(b->counters.items[1].dropped); /* something runs in between */
	assert_false(b->counters.items[2].dropped);
	bench_close(b);
}

/* Two functions, or a function and its part: where the second begins. */
static struct bench *bench_two(const uint8_t *code, const uint8_t *end, const uint8_t *second,
			       bool inside, size_t counters)
{
	static struct eh_range ranges[2];
	struct bench *b = calloc(1, sizeof(*b));
	const uint64_t entry = ELF_CODE;
	struct pt_err err = {0};
	uint64_t bad;

	assert_non_null(b);
	ranges[0] = (struct eh_range){.start = ELF_CODE,
				      .end = ELF_CODE + (uint64_t)(second - code)};
	ranges[1] = (struct eh_range){
	    .start = ranges[0].end, .end = ELF_CODE + (uint64_t)(end - code), .inside = inside};
	elf_build(&b->image, code, (size_t)(end - code));
	assert_int_equal(elf_file_memory(&b->image, sizeof(b->image), &b->elf, &err), 0);
	b->eh = (struct eh_ranges){ranges, 2};
	b->finder = (struct py_finder){b->elf, &b->eh, ALL};
	assert_int_equal(region_load(&b->region, &b->finder, ELF_CODE), 0);
	assert_int_equal(region_find_tables(&b->region), 0);
	assert_int_equal(flow_analyse(&b->flow, &b->region, &entry, 1), 0);
	assert_int_equal(counters_find(&b->counters, &b->region, &b->flow, COUNTER, &bad), 0);
	assert_int_equal(b->counters.count, counters);
	return b;
}

CODE(ended, "mov rbx, rdi\n test esi, esi\n jne 1f\n xor ebx, ebx\n call 2f\n jmp 1f\n"
	    "1: dec dword ptr [rbx+0x30]\n nop\n ret\n ended_at: 2: ud2");

static void test_a_jump_behind_a_call_that_never_returns(void **state)
{
	(void)state;
	bench_close(bench_two(ended, ended_end, ended_at, false, 1));
}

CODE(parted, "mov rbx, rdi\n test esi, esi\n jne 1f\n ret\n"
	     "parted_at: 1: dec dword ptr [rbx+0x30]\n nop\n ret");

static void test_a_part_that_is_jumped_to_at_its_start(void **state)
{
	struct bench *b = bench_two(parted, parted_end, parted_at, true, 1);

	(void)state;
	assert_int_equal(b->region.range_count, 2);
	assert_int_equal(b->counters.items[0].base, MC_RBX);
	bench_close(b);
	/* another function: a jump to it is its call */
	bench_close(bench_two(parted, parted_end, parted_at, false, 0));
}

#endif

int main(void)
{
#ifdef __x86_64__
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_moves_to_the_next_emulated_instruction),
	    cmocka_unit_test(test_does_not_pass_a_branch_that_is_not_emulated),
	    cmocka_unit_test(test_does_not_pass_a_jump_target),
	    cmocka_unit_test(test_uses_another_register_when_the_base_is_overwritten),
	    cmocka_unit_test(test_uses_a_stack_slot),
	    cmocka_unit_test(test_refuses_a_base_that_may_be_something_else),
	    cmocka_unit_test(test_ignores_another_structures_field),
	    cmocka_unit_test(test_does_not_pass_a_counter_of_the_other_direction),
	    cmocka_unit_test(test_two_of_one_direction_share_a_probe_but_on_3_11),
	    cmocka_unit_test(test_a_shim_needs_no_probe),
	    cmocka_unit_test(test_checks_of_the_recursion),
	    cmocka_unit_test(test_a_check_that_passes_in_several_places),
	    cmocka_unit_test(test_a_check_that_passes_by_a_jump),
	    cmocka_unit_test(test_a_check_that_no_branch_ends),
	    cmocka_unit_test(test_a_limit_that_was_raised),
	    cmocka_unit_test(test_a_limit_that_hides_a_frame),
	    cmocka_unit_test(test_what_a_failed_check_gives_back),
	    cmocka_unit_test(test_an_inlined_correction_is_dropped),
	    cmocka_unit_test(test_the_table_of_a_switch),
	    cmocka_unit_test(test_a_jump_behind_a_call_that_never_returns),
	    cmocka_unit_test(test_a_part_that_is_jumped_to_at_its_start),
	    cmocka_unit_test(test_branch_edges),
	    cmocka_unit_test(test_no_edge_before_a_call),
	    cmocka_unit_test(test_frame_register),
	    cmocka_unit_test(test_handler),
	    cmocka_unit_test(test_counter_in_a_register),
	    cmocka_unit_test(test_frame_and_code_in_a_handler),
	    cmocka_unit_test(test_brackets_of_c_calls_are_dropped),
	    cmocka_unit_test(test_the_correction_behind_a_check_is_dropped),
	    cmocka_unit_test(test_direction_where_paths_meet),
	    cmocka_unit_test(test_refuses_code_that_is_not_clear),
	    cmocka_unit_test(test_classes),
	    cmocka_unit_test(test_a_call_that_never_returns_ends_the_path),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
#else
	printf("SKIP: the code to analyse is x86-64\n");
	return 0;
#endif
}
