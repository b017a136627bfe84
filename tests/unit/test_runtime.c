// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/* What is no Python frame: its words and records, its place among the frames, and where its probes'
 * arguments are. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "op_recorder.h"
#include "python/sdt_args.h"

static const int64_t two[] = {2, 30, 4}; /* generation, collected, uncollectable */
static const int64_t timed_out[] = {1}, woken[] = {0};

static void start(struct op_recorder *ops, struct rec_thread *t)
{
	ops_init(ops, NULL);
	*t = rec_thread(10, 10, 1, "main");
	ops_define(ops);
	rec_proc(&ops->builder, PT_PROC_ATTACH, 10, 1, 1000, 1, "python3", "python3 main.py", 0);
}

static void finish(struct op_recorder *ops)
{
	const char *wrong = ops_finish(ops);

	if (wrong)
		fail_msg("%s", wrong);
}

static void assert_span(const struct op_recorder *ops, size_t i, const char *name,
			uint64_t begin_ns, uint64_t end_ns, uint32_t flags)
{
	const struct pt_op_span *span = &ops->spans[i].op;

	if (i >= ops->span_count)
		fail_msg("only %zu spans", ops->span_count);
	if (strcmp(ops->spans[i].name, name) || span->begin_ns != begin_ns ||
	    span->end_ns != end_ns || span->flags != flags)
		fail_msg("%s %llu..%llu flags %x, not %s %llu..%llu flags %x", ops->spans[i].name,
			 (unsigned long long)span->begin_ns, (unsigned long long)span->end_ns,
			 span->flags, name, (unsigned long long)begin_ns,
			 (unsigned long long)end_ns, flags);
}

static void gc_begin(struct op_recorder *ops, uint64_t ns)
{
	batch_rt(&ops->builder, PT_X_RT_BEGIN, PT_RT_GC, 0, NULL, 0, ns);
}

static void gc_end(struct op_recorder *ops, uint64_t ns)
{
	batch_rt(&ops->builder, PT_X_RT_END, PT_RT_GC, 0, two, 3, ns);
}

static void wait_begin(struct op_recorder *ops, uint64_t ns)
{
	batch_rt(&ops->builder, PT_X_RT_BEGIN, PT_RT_GIL, 0, NULL, 0, ns);
}

static void wait_end(struct op_recorder *ops, const int64_t *how, uint64_t ns)
{
	batch_rt(&ops->builder, PT_X_RT_END, PT_RT_GIL, 0, how, 1, ns);
}

static void test_gc_around_calls(void **state)
{
	struct op_recorder ops;
	struct rec_thread t;

	start(&ops, &t);
	batch_begin(&ops.builder, &t, 2000);
	batch_snap(&ops.builder, NULL, 0, 0, 2000);
	batch_enter(&ops.builder, 1, 2000);
	gc_begin(&ops, 2100);
	batch_enter(&ops.builder, 2, 2200); /* a finaliser */
	batch_exit(&ops.builder, 2300);
	gc_end(&ops, 2400);
	batch_exit(&ops.builder, 2500);
	batch_end(&ops.builder, 0);
	finish(&ops);
	assert_int_equal(ops.span_count, 1);
	assert_span(&ops, 0, "gc generation 2", 2100, 2400, 0);
	assert_string_equal(ops.spans[0].args, "generation=2 collected=30 uncollectable=4");
	assert_string_equal(ops.spans[0].op.category, "gc");
	assert_int_equal(ops.counter_count, 1);
	/* a call within has the parent and the depth that it would have without */
	assert_int_equal(ops_slice(&ops, "b", 0)->parent_id, ops_slice(&ops, "a", 0)->id);
	assert_int_equal(ops_slice(&ops, "b", 0)->depth, 2);
	assert_int_equal(ops.totals.spans, 1);
	assert_int_equal(ops.totals.events, 4);
	ops_release(&ops);
}

static void test_gc_by_usdt_and_cancelled(void **state)
{
	static const int64_t one = 1, ninety = 90;
	struct op_recorder ops;
	struct rec_thread t;

	start(&ops, &t);
	batch_begin(&ops.builder, &t, 2000);
	batch_snap(&ops.builder, NULL, 0, 0, 2000);
	batch_enter(&ops.builder, 1, 2000);
	batch_rt(&ops.builder, PT_X_RT_BEGIN, PT_RT_GC, 0, &one, 1, 2100);
	batch_rt(&ops.builder, PT_X_RT_END, PT_RT_GC, 0, &ninety, 1, 2200);
	gc_begin(&ops, 2300); /* a collection was under way: nothing is done */
	batch_rt(&ops.builder, PT_X_RT_END, PT_RT_GC, PT_RT_CANCEL, NULL, 0, 2400);
	gc_end(&ops, 2450); /* one that began before the recording */
	batch_exit(&ops.builder, 2500);
	batch_end(&ops.builder, 0);
	finish(&ops);
	assert_int_equal(ops.span_count, 1);
	assert_span(&ops, 0, "gc generation 1", 2100, 2200, 0);
	assert_string_equal(ops.spans[0].args, "generation=1 unreachable=90");
	ops_release(&ops);
}

static void test_waits_are_joined(void **state)
{
	struct op_recorder ops;
	struct rec_thread t;

	start(&ops, &t);
	batch_begin(&ops.builder, &t, 2000);
	batch_snap(&ops.builder, NULL, 0, 0, 2000);
	batch_enter(&ops.builder, 1, 2000);
	wait_begin(&ops, 2100);
	wait_end(&ops, timed_out, 2200);
	wait_begin(&ops, 2201);
	wait_end(&ops, woken, 2300);
	wait_begin(&ops, 2310); /* it was woken: this is another */
	wait_end(&ops, timed_out, 2400);
	batch_enter(&ops.builder, 2, 2500); /* it had the GIL after the time-out */
	wait_begin(&ops, 2600);
	wait_end(&ops, timed_out, 2700);
	batch_end(&ops.builder, 0);
	rec_note(&ops.builder, PT_NOTE_GATE_CLOSE, 3000, 0);
	finish(&ops);
	assert_int_equal(ops.span_count, 3);
	assert_span(&ops, 0, "wait for the GIL", 2100, 2300, 0);
	assert_string_equal(ops.spans[0].args, "timed waits=2");
	assert_span(&ops, 1, "wait for the GIL", 2310, 2400, 0);
	assert_span(&ops, 2, "wait for the GIL", 2600, 2700, 0);
	ops_release(&ops);
}

/* Words before the first snapshot lie on the frames that it tells of. */
static void test_before_the_first_snapshot(void **state)
{
	static const uint32_t open[] = {2, 1};
	struct op_recorder ops;
	struct rec_thread t;

	start(&ops, &t);
	batch_begin(&ops.builder, &t, 2000);
	gc_begin(&ops, 2000);
	gc_end(&ops, 2100);
	gc_begin(&ops, 2200);
	batch_peek(&ops.builder);
	batch_snap(&ops.builder, open, 2, 2, 2300);
	batch_enter(&ops.builder, 3, 2300);
	batch_exit(&ops.builder, 2400);
	gc_end(&ops, 2500);
	batch_exit(&ops.builder, 2600);
	batch_end(&ops.builder, 0);
	rec_note(&ops.builder, PT_NOTE_GATE_CLOSE, 3000, 0);
	finish(&ops);
	assert_int_equal(ops.span_count, 2);
	assert_span(&ops, 0, "gc generation 2", 2000, 2100, 0);
	assert_span(&ops, 1, "gc generation 2", 2200, 2500, 0);
	assert_int_equal(ops_slice(&ops, "a", 0)->begin_ns, 1000);
	assert_int_equal(ops_slice(&ops, "b", 0)->end_ns, 2600);
	assert_int_equal(ops_slice(&ops, "c", 0)->parent_id, ops_slice(&ops, "b", 0)->id);
	assert_int_equal(ops.totals.stack_jumps, 0);
	assert_int_equal(ops.totals.bad_records, 0);
	ops_release(&ops);
}

/* The first call is an exit: its frame was open, and what came before lies in it. */
static void test_before_a_first_exit(void **state)
{
	static const uint32_t outside[] = {2, 1}, open[] = {1};
	struct op_recorder ops;
	struct rec_thread t;

	start(&ops, &t);
	rec_stack(&ops.builder, &t, 1100, outside, 2, 2);
	batch_begin(&ops.builder, &t, 2000);
	gc_begin(&ops, 2000);
	gc_end(&ops, 2100);
	batch_snap(&ops.builder, open, 1, 1, 2300);
	batch_exit_to(&ops.builder, 1, 2300);
	batch_end(&ops.builder, 0);
	rec_note(&ops.builder, PT_NOTE_GATE_CLOSE, 3000, 0);
	finish(&ops);
	assert_span(&ops, 0, "gc generation 2", 2000, 2100, 0);
	assert_true(ops_slice(&ops, "b", 0)->begin_ns < 2000);
	assert_int_equal(ops_slice(&ops, "b", 0)->end_ns, 2300);
	ops_release(&ops);
}

/* A thread that calls nothing shows what its runtime did all the same. */
static void test_no_calls_at_all(void **state)
{
	struct op_recorder ops;
	struct rec_thread t;

	start(&ops, &t);
	batch_begin(&ops.builder, &t, 2000);
	gc_begin(&ops, 2000);
	gc_end(&ops, 2100);
	wait_begin(&ops, 2200);
	batch_end(&ops.builder, 0);
	rec_note(&ops.builder, PT_NOTE_GATE_CLOSE, 3000, 0);
	finish(&ops);
	assert_int_equal(ops.span_count, 2);
	assert_span(&ops, 0, "gc generation 2", 2000, 2100, 0);
	assert_span(&ops, 1, "wait for the GIL", 2200, 3000, PT_SLICE_OPEN_AT_END);
	assert_int_equal(ops.thread_count, 1);
	ops_release(&ops);
}

static void test_loss(void **state)
{
	static const uint32_t open[] = {1};
	struct op_recorder ops;
	struct rec_thread t;

	start(&ops, &t);
	batch_begin(&ops.builder, &t, 2000);
	batch_snap(&ops.builder, NULL, 0, 0, 2000);
	batch_enter(&ops.builder, 1, 2000);
	gc_begin(&ops, 2100);
	batch_end(&ops.builder, 0);
	batch_begin(&ops.builder, &t, 2200);
	batch_enter(&ops.builder, 2, 2200);
	batch_lose(&ops.builder);
	batch_begin(&ops.builder, &t, 2300);
	gc_end(&ops, 2300); /* of which collection? */
	wait_begin(&ops, 2350);
	wait_end(&ops, woken, 2360);
	batch_snap(&ops.builder, open, 1, 1, 2400);
	batch_exit(&ops.builder, 2500);
	batch_end(&ops.builder, 0);
	finish(&ops);
	assert_int_equal(ops.span_count, 2);
	assert_span(&ops, 0, "gc", 2100, 2101, PT_SLICE_INTO_LOSS);
	assert_span(&ops, 1, "wait for the GIL", 2350, 2360, 0);
	assert_int_equal(ops_slice(&ops, "a", 0)->end_ns, 2500);
	assert_int_equal(ops.totals.lost_events, 1);
	ops_release(&ops);
}

static void test_details(void **state)
{
	static const char *const json[] = {"json", NULL}, *const re[] = {"re", NULL};
	static const char *const audit[] = {"open", "/etc/passwd", "r", NULL};
	static const char *const raised[] = {"ValueError", "no", NULL};
	static const int64_t first = 1, third = 3, fourth = 4, fifth = 5;
	struct op_recorder ops;
	struct rec_thread t;

	start(&ops, &t);
	rec_runtime(&ops.builder, &t, 1, PT_RT_IMPORT, json, 2000);
	rec_runtime(&ops.builder, &t, 2, PT_RT_IMPORT, re, 2000); /* its word was lost */
	rec_runtime(&ops.builder, &t, 3, PT_RT_AUDIT, audit, 2000);
	rec_runtime(&ops.builder, &t, 5, PT_RT_EXCEPTION, raised, 2000);
	batch_begin(&ops.builder, &t, 2000);
	batch_snap(&ops.builder, NULL, 0, 0, 2000);
	batch_enter(&ops.builder, 1, 2000);
	batch_rt(&ops.builder, PT_X_RT_BEGIN, PT_RT_IMPORT, PT_RT_DETAILS, &first, 1, 2000);
	batch_enter(&ops.builder, 2, 2100);
	batch_rt(&ops.builder, PT_X_RT_INSTANT, PT_RT_AUDIT, PT_RT_DETAILS, &third, 1, 2200);
	batch_rt(&ops.builder, PT_X_RT_INSTANT, PT_RT_AUDIT, PT_RT_DETAILS, &fourth, 1, 2250);
	batch_rt(&ops.builder, PT_X_RT_INSTANT, PT_RT_EXCEPTION, PT_RT_DETAILS, &fifth, 1, 2260);
	batch_exit(&ops.builder, 2300);
	batch_exit(&ops.builder, 2400); /* the import ends with its frame */
	batch_end(&ops.builder, 0);
	finish(&ops);
	assert_int_equal(ops.span_count, 1);
	assert_span(&ops, 0, "import json", 2001, 2400, 0);
	assert_int_equal(ops_slice(&ops, "a", 0)->end_ns, 2401);
	assert_int_equal(ops.instant_count, 3);
	assert_string_equal(ops.instants[0].name, "open");
	assert_string_equal(ops.instants[0].args, "0=/etc/passwd 1=r");
	assert_string_equal(ops.instants[1].name, "?"); /* its details were lost */
	assert_string_equal(ops.instants[2].name, "ValueError");
	assert_string_equal(ops.instants[2].args, "message=no");
	assert_int_equal(ops.totals.bad_records, 0);
	ops_release(&ops);
}

static void test_damage(void **state)
{
	static const char *const name[] = {"x", NULL};
	struct pt_rec_batch *batch;
	struct op_recorder ops;
	struct rec_thread t;

	start(&ops, &t);
	batch = &ops.builder.batch;
	for (int damage = 0; damage < 4; damage++) {
		batch_begin(&ops.builder, &t, 2000);
		gc_begin(&ops, 2000);
		gc_end(&ops, 2100);
		switch (damage) {
		case 0: /* a value that looks like another word */
			batch->words[3] |= PT_W_ENTER;
			break;
		case 1: /* more values than there are */
			batch->words[3] = PT_RT_DESC(PT_RT_GC, 4, 0);
			break;
		case 2: /* fewer words */
			batch->word_count--;
			break;
		case 3: /* no description */
			batch->words[0] = PT_WORD(PT_W_EXT, PT_EXT_ARG(PT_X_RT_BEGIN, 0), 0);
			break;
		}
		batch_end(&ops.builder, 0);
		assert_int_equal(ops.builder.rc, 0);
	}
	rec_runtime(&ops.builder, &t, 1, PT_RT_AUDIT, name, 2000);
	/* kinds that are not known are passed over: a newer recorder wrote them */
	batch_begin(&ops.builder, &t, 3000);
	batch_rt(&ops.builder, PT_X_RT_BEGIN, 4711, 0, NULL, 0, 3000);
	batch_rt(&ops.builder, PT_X_RT_END, 4711, 0, NULL, 0, 3100);
	batch_rt(&ops.builder, PT_X_RT_INSTANT, 4711, 0, NULL, 0, 3200);
	batch_end(&ops.builder, 0);
	finish(&ops);
	assert_int_equal(ops.totals.bad_records, 4);
	assert_int_equal(ops.span_count, 0);
	assert_int_equal(ops.instant_count, 0);
	ops_release(&ops);
}

/* Random words, with losses and peeks: everything that comes out nests. */
static void test_random(void **state)
{
	srand(7);
	for (int run = 0; run < 300; run++) {
		struct op_recorder ops;
		struct rec_thread t;
		uint64_t ns = 2000;

		start(&ops, &t);
		for (int batches = 0; batches < 6; batches++) {
			batch_begin(&ops.builder, &t, ns);
			for (int i = rand() % 60; i > 0; i--) {
				int64_t how = rand() % 2;

				ns += (uint64_t)(rand() % 4);
				switch (rand() % 9) {
				case 0:
				case 1:
					batch_enter(&ops.builder, 1 + (uint32_t)(rand() % 26), ns);
					break;
				case 2:
				case 3:
					if (t.depth)
						batch_exit(&ops.builder, ns);
					break;
				case 4:
					gc_begin(&ops, ns);
					break;
				case 5:
					gc_end(&ops, ns);
					break;
				case 6:
					wait_begin(&ops, ns);
					break;
				case 7:
					wait_end(&ops, &how, ns);
					break;
				default:
					if (rand() % 4 == 0)
						batch_peek(&ops.builder);
					break;
				}
			}
			if (rand() % 4)
				batch_end(&ops.builder, 0);
			else
				batch_lose(&ops.builder);
		}
		finish(&ops);
		ops_release(&ops);
	}
}

static void assert_arg(const char *args, unsigned int number, int bytes, unsigned int reg,
		       bool memory, int disp)
{
	struct sdt_arg arg;

	assert_true(sdt_arg_parse(args, number, &arg));
	assert_int_equal(arg.bytes, bytes);
	assert_int_equal(arg.reg, reg);
	assert_int_equal(arg.memory, memory);
	assert_int_equal(arg.disp, disp);
}

static void test_sdt_args(void **state)
{
	static const char *const bad[] = {"",
					  "8",
					  "8@",
					  "@%rax",
					  "8@%zax",
					  "8@8(%rax",
					  "8@8(%rax,%rbx,4)",
					  "8@sym(%rip)",
					  "8@%rax)",
					  "8@(%rbx) "};
	struct sdt_arg arg;

	assert_arg("8@%rbx -4@112(%rsp)", 0, 8, 3, false, 0);
	assert_arg("8@%rbx -4@112(%rsp)", 1, -4, 4, true, 112);
	assert_arg("-4@-228(%rbp)", 0, -4, 5, true, -228);
	assert_arg("8@%rax -4@%edx", 1, -4, 2, false, 0);
	assert_arg("8@%r13 8@%rbp", 0, 8, 13, false, 0);
	assert_false(sdt_arg_parse("8@%rax", 1, &arg));
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]) - 1; i++)
		if (sdt_arg_parse(bad[i], 0, &arg))
			fail_msg("'%s' was taken", bad[i]);
}

/* Collections whose ends say on which stack they are: a return of a call within one, which did
 * nothing, ends none; one of another interpreter may lie within. */
static void test_gc_by_stack(void **state)
{
	static const int64_t outer[] = {2, 0x7000}, inner[] = {1, 0x6000}, nothing[] = {0, 0x5000};
	struct op_recorder ops;
	struct rec_thread t;

	start(&ops, &t);
	batch_begin(&ops.builder, &t, 2000);
	batch_snap(&ops.builder, NULL, 0, 0, 2000);
	batch_rt(&ops.builder, PT_X_RT_END, PT_RT_GC, 0, inner, 2, 2050); /* began before */
	batch_rt(&ops.builder, PT_X_RT_BEGIN, PT_RT_GC, 0, outer, 2, 2100);
	batch_rt(&ops.builder, PT_X_RT_END, PT_RT_GC, 0, nothing, 2, 2200);
	batch_rt(&ops.builder, PT_X_RT_BEGIN, PT_RT_GC, 0, inner, 2, 2300);
	batch_rt(&ops.builder, PT_X_RT_END, PT_RT_GC, 0, nothing, 2, 2400);
	batch_rt(&ops.builder, PT_X_RT_END, PT_RT_GC, 0, inner, 2, 2500);
	batch_rt(&ops.builder, PT_X_RT_END, PT_RT_GC, 0, outer, 2, 2600);
	batch_end(&ops.builder, 0);
	finish(&ops);
	assert_int_equal(ops.span_count, 2);
	assert_span(&ops, 0, "gc generation 1", 2300, 2500, 0);
	assert_span(&ops, 1, "gc generation 2", 2100, 2600, 0);
	assert_string_equal(ops.spans[1].args, "generation=2 unreachable=2");
	ops_release(&ops);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_gc_around_calls),
	    cmocka_unit_test(test_gc_by_usdt_and_cancelled),
	    cmocka_unit_test(test_gc_by_stack),
	    cmocka_unit_test(test_waits_are_joined),
	    cmocka_unit_test(test_before_the_first_snapshot),
	    cmocka_unit_test(test_before_a_first_exit),
	    cmocka_unit_test(test_no_calls_at_all),
	    cmocka_unit_test(test_loss),
	    cmocka_unit_test(test_details),
	    cmocka_unit_test(test_damage),
	    cmocka_unit_test(test_random),
	    cmocka_unit_test(test_sdt_args),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
