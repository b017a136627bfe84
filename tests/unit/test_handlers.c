// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * Tail-calling interpreters: a small one written for the purpose and assembled into this test. The
 * entry calls the first function, which goes on through a table of 256 pointers to functions of 16
 * bytes each. The counter lies at offset 0x30.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "elf_builder.h"
#include "python/counter.h"

#ifdef __x86_64__

#define COUNTER  0x30
#define HANDLERS 120
#define TABLE    (ELF_DATA + 0x100)

enum handler { NEXT, RETURNS, FAILS, SPILLS, RELOADS, SWITCHES, CLOBBERS };

/* lea rax, [rip + TABLE] */
#define LEA_TABLE ".byte 0x48, 0x8d, 0x05\n .long 0x2100 - (. + 4 - interpreter)\n"
#define DISPATCH  LEA_TABLE "jmp [rax + 8*rcx]\n"
#define ASM(text)                                                                                  \
	__asm__(".pushsection .rodata\n.intel_syntax noprefix\n" text                              \
		"\n.att_syntax\n.popsection\n")
#define HANDLER(text) ASM(".balign 16, 0xcc\n" text)

extern const uint8_t interpreter[], interpreter_first[], interpreter_error[],
    interpreter_handlers[], interpreter_caller[], interpreter_by_table[], interpreter_part[],
    interpreter_unclear[], interpreter_end[];

/* The entry has the thread state in rdi, the others in r14. */
ASM("interpreter: push rbp\n mov rbp, rsp\n push r14\n mov r14, rdi\n test edx, edx\n je 1f\n"
    "dec dword ptr [r14+0x30]\n call interpreter_error\n jmp 2f\n"
    "1: call interpreter_first\n 2: pop r14\n pop rbp\n ret");
ASM("interpreter_first: push rbp\n xor edi, edi\n dec dword ptr [r14+0x30]\n pop rbp\n" DISPATCH);
ASM("interpreter_error: mov r13, r14\n jmp interpreter_first");
/* in the order of the enum */
HANDLER("interpreter_handlers:\n" DISPATCH);
HANDLER("inc dword ptr [r14+0x30]\n test ecx, ecx\n je interpreter_handlers\n ret");
HANDLER("jmp interpreter_error");
HANDLER("push r14\n pop rdx\n" DISPATCH);
HANDLER("mov [rsp-8], r14\n mov r14, rcx\n mov r14, [rsp-8]\n jmp interpreter_handlers");
HANDLER("push rbx\n jmp rdx\n pop rbx\n jmp interpreter_handlers");
HANDLER("mov r14, rcx\n jmp interpreter_handlers");
HANDLER(".rept 113\n jmp interpreter_handlers\n .balign 16, 0xcc\n .endr");
/* callers that have taken in the entry: the thread state is in rsi, or read from memory */
ASM("interpreter_caller: push rbx\n mov rbx, rsi\n dec dword ptr [rbx+0x30]\n mov r14, rbx\n"
    "call interpreter_first\n pop rbx\n ret");
ASM("interpreter_by_table: push r14\n mov r14, [rdx]\n dec dword ptr [r14+0x30]\n test edi, edi\n"
    "je interpreter_part\n" LEA_TABLE "call [rax + 8*rcx]\n interpreter_back: pop r14\n ret");
ASM("interpreter_part: inc dword ptr [r14+0x30]\n jmp interpreter_back");
/* not known to count the thread's frames */
ASM("interpreter_unclear: dec dword ptr [rdi+0x30]\n mov r14, rsi\n call interpreter_first\n ret\n"
    "interpreter_end:");

struct bench {
	struct elf_image image;
	struct elf_file *elf;
	struct eh_range ranges[HANDLERS + 8];
	struct eh_ranges eh;
	struct py_finder finder;
	struct region region;
	struct flow flow;
	struct counters counters;
};

static uint64_t vaddr_of(const uint8_t *code)
{
	return ELF_CODE + (uint64_t)(code - interpreter);
}

static uint64_t handler_at(unsigned int number)
{
	return vaddr_of(interpreter_handlers) + 16u * number;
}

static void range_add(struct bench *b, uint64_t start, uint64_t end)
{
	b->ranges[b->eh.count++] = (struct eh_range){start, end, false};
}

static void table_set(struct bench *b, unsigned int opcode, uint64_t to)
{
	memcpy(b->image.bytes + TABLE + 8 * opcode, &to, sizeof(to));
}

/* All opcodes but those of the handlers that a test asks for. */
static struct bench *bench_new(void)
{
	struct bench *b = calloc(1, sizeof(*b));

	assert_non_null(b);
	elf_build(&b->image, interpreter, (size_t)(interpreter_end - interpreter));
	range_add(b, ELF_CODE, vaddr_of(interpreter_first));
	range_add(b, vaddr_of(interpreter_first), vaddr_of(interpreter_error));
	range_add(b, vaddr_of(interpreter_error), handler_at(0));
	for (unsigned int i = 0; i < HANDLERS; i++)
		range_add(b, handler_at(i), handler_at(i + 1));
	assert_int_equal(handler_at(HANDLERS), vaddr_of(interpreter_caller));
	for (unsigned int i = 0; i < 256; i++)
		table_set(b, i, handler_at(i % HANDLERS == CLOBBERS ? NEXT : i % HANDLERS));
	return b;
}

static int bench_load(struct bench *b, unsigned int minor)
{
	struct pt_err err = {0};

	assert_int_equal(elf_file_memory(&b->image, sizeof(b->image), &b->elf, &err), 0);
	b->eh.ranges = b->ranges;
	b->finder = (struct py_finder){b->elf, &b->eh, PY_INSN_EMULATED_DEFAULT};
	return region_load_loop(&b->region, &b->finder, ELF_CODE, minor);
}

static int bench_count(struct bench *b, uint64_t *vaddr)
{
	const uint64_t entry = ELF_CODE;

	assert_int_equal(region_find_tables(&b->region), 0);
	assert_int_equal(flow_analyse(&b->flow, &b->region, &entry, 1), 0);
	return counters_find(&b->counters, &b->region, &b->flow, COUNTER, vaddr);
}

static void bench_close(struct bench *b)
{
	counters_release(&b->counters);
	flow_release(&b->flow);
	region_release(&b->region);
	elf_file_close(b->elf);
	free(b);
}

static void test_all_functions_are_one_loop(void **state)
{
	static const int deltas[] = {-1, -1, 1};
	struct bench *b = bench_new();
	uint64_t bad = 0;

	(void)state;
	assert_int_equal(bench_load(b, 14), 0);
	assert_true(b->region.tail_calls);
	assert_int_equal(bench_count(b, &bad), 0);
	assert_int_equal(b->region.table_count, 1);
	assert_int_equal(b->region.tables[0], TABLE);
	for (unsigned int i = 0; i < HANDLERS; i++)
		assert_int_equal(region_holds(&b->region, handler_at(i)), i != CLOBBERS);
	assert_int_equal(b->counters.count, 3);
	for (size_t i = 0; i < 3; i++) {
		assert_int_equal(b->counters.items[i].delta, deltas[i]);
		assert_true(flow_proves(&b->flow, b->counters.items[i].insn, MC_R8 + 6));
	}
	bench_close(b);
}

static void test_nothing_is_known_of_another_functions_stack(void **state)
{
	struct bench *b = bench_new();
	uint64_t bad = 0;

	(void)state;
	assert_int_equal(bench_load(b, 14), 0);
	assert_int_equal(bench_count(b, &bad), 0);
	for (unsigned int i = 0; i < HANDLERS; i++) {
		size_t at = region_index(&b->region, handler_at(i));

		if (i == CLOBBERS)
			continue;
		assert_true(b->flow.states[at].reached);
		assert_int_equal(b->flow.states[at].sp, 0);
		assert_int_equal(b->flow.states[at].fp, FLOW_SP_UNKNOWN);
		assert_int_equal(b->flow.states[at].slots, 0);
	}
	bench_close(b);
}

static void test_the_calls_give_no_register_back(void **state)
{
	struct bench *b = bench_new();
	uint64_t bad = 0;

	(void)state;
	assert_int_equal(bench_load(b, 14), 0);
	assert_int_equal(bench_count(b, &bad), 0);
	for (size_t i = 0; i < b->region.insn_count; i++)
		if (b->region.insns[i].flow == MC_FLOW_CALL)
			assert_int_equal(b->flow.states[i + 1].regs, 0);
	bench_close(b);
}

static void test_a_handler_that_loses_the_thread_state(void **state)
{
	struct bench *b = bench_new();
	uint64_t bad = 0;

	(void)state;
	table_set(b, 7, handler_at(CLOBBERS));
	assert_int_equal(bench_load(b, 14), 0);
	assert_int_equal(bench_count(b, &bad), -ENOTSUP);
	assert_int_equal(bad, vaddr_of(interpreter_first) + 3);
	bench_close(b);
}

static void refused(struct bench *b, const char *text)
{
	assert_int_equal(bench_load(b, 14), -ENOTSUP);
	assert_non_null(strstr(b->region.reason, text));
	bench_close(b);
}

static void test_what_is_no_table_is_refused(void **state)
{
	struct bench *b = bench_new();

	(void)state;
	table_set(b, 255, handler_at(3) + 2);
	refused(b, "opcode table was not found");
	b = bench_new();
	for (unsigned int i = 0; i < 256; i++)
		table_set(b, i, handler_at(i % 50));
	refused(b, "opcode table was not found");
}

static void test_callers_that_have_taken_in_the_entry(void **state)
{
	static const struct {
		int delta;
		unsigned int reg;
	} counters[] = {{-1, MC_RBX}, {-1, MC_R8 + 6}, {1, MC_R8 + 6}};
	struct bench *b = bench_new();
	uint64_t bad = 0;

	(void)state;
	range_add(b, vaddr_of(interpreter_caller), vaddr_of(interpreter_by_table));
	range_add(b, vaddr_of(interpreter_by_table), vaddr_of(interpreter_part));
	range_add(b, vaddr_of(interpreter_part), vaddr_of(interpreter_unclear));
	b->ranges[b->eh.count - 1].inside = true;
	assert_int_equal(bench_load(b, 14), 0);
	assert_int_equal(b->region.caller_count, 3);
	assert_int_equal(b->region.callers[0], ELF_CODE);
	assert_true(region_holds(&b->region, vaddr_of(interpreter_part)));
	assert_int_equal(bench_count(b, &bad), 0);
	assert_int_equal(b->counters.count, 6);
	for (size_t i = 0; i < 3; i++) {
		const struct counter *counter = &b->counters.items[3 + i];

		assert_int_equal(counter->delta, counters[i].delta);
		assert_int_equal(counter->base, counters[i].reg);
	}
	bench_close(b);
}

static void test_a_caller_that_counts_something_else(void **state)
{
	struct bench *b = bench_new();
	uint64_t bad = 0;

	(void)state;
	range_add(b, vaddr_of(interpreter_unclear), vaddr_of(interpreter_end));
	assert_int_equal(bench_load(b, 14), 0);
	assert_int_equal(bench_count(b, &bad), -ENOTSUP);
	assert_int_equal(bad, vaddr_of(interpreter_unclear));
	bench_close(b);
}

static void test_a_caller_of_which_a_part_is_known_only(void **state)
{
	struct bench *b = bench_new();

	(void)state;
	range_add(b, vaddr_of(interpreter_unclear), vaddr_of(interpreter_end));
	b->ranges[b->eh.count - 1].inside = true;
	refused(b, "a part of an unknown function");
}

static void test_older_versions_have_a_loop(void **state)
{
	struct bench *b = bench_new();

	(void)state;
	assert_int_equal(bench_load(b, 13), 0);
	assert_false(b->region.tail_calls);
	assert_int_equal(b->region.range_count, 1);
	bench_close(b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_all_functions_are_one_loop),
	    cmocka_unit_test(test_nothing_is_known_of_another_functions_stack),
	    cmocka_unit_test(test_the_calls_give_no_register_back),
	    cmocka_unit_test(test_a_handler_that_loses_the_thread_state),
	    cmocka_unit_test(test_what_is_no_table_is_refused),
	    cmocka_unit_test(test_callers_that_have_taken_in_the_entry),
	    cmocka_unit_test(test_a_caller_that_counts_something_else),
	    cmocka_unit_test(test_a_caller_of_which_a_part_is_known_only),
	    cmocka_unit_test(test_older_versions_have_a_loop),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

#else
int main(void)
{
	return 0;
}
#endif
