// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/* Tasks: which coroutine is one, its steps, its waits, and who made it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "op_recorder.h"

enum { MODULE = 1, CREATE, OUTER, INNER, GENERATOR, HANDLE };
#define A 0x7f0000001000ull
#define B 0x7f0000002000ull
#define C 0x7f0000003000ull

static void start(struct op_recorder *ops, struct rec_thread *t)
{
	struct rec_builder *b = &ops->builder;

	ops_init(ops, NULL);
	*t = rec_thread(10, 10, 1, "main");
	rec_code(b, MODULE, "module", "", "/app/main.py", 1);
	rec_code(b, CREATE, "create_task", "", "/lib/asyncio/tasks.py", 2);
	rec_code_flags(b, OUTER, "outer", "/app/main.py", 3, 0x80);
	rec_code_flags(b, INNER, "inner", "/app/main.py", 4, 0x80);
	rec_code_flags(b, GENERATOR, "__await__", "/app/main.py", 5, 0x20);
	rec_code(b, HANDLE, "_run", "", "/lib/asyncio/events.py", 6);
	rec_proc(b, PT_PROC_ATTACH, 10, 1, 1000, 1, "python3", "python3 main.py", 0);
	batch_begin(b, t, 2000);
	batch_snap(b, NULL, 0, 0, 2000);
	batch_enter(b, MODULE, 2000);
}

static void finish(struct op_recorder *ops)
{
	const char *wrong;

	batch_end(&ops->builder, 0);
	wrong = ops_finish(ops);
	if (wrong)
		fail_msg("%s", wrong);
}

static void enter(struct op_recorder *ops, uint64_t object, uint32_t code, uint64_t ns)
{
	batch_coro(&ops->builder, object, ns);
	batch_enter(&ops->builder, code, ns);
}

/* A step without anything in it. */
static void step(struct op_recorder *ops, uint64_t object, uint32_t code, uint64_t ns)
{
	enter(ops, object, code, ns);
	batch_exit(&ops->builder, ns + 50);
}

static void made(struct op_recorder *ops, uint64_t object, uint64_t ns)
{
	batch_enter(&ops->builder, CREATE, ns);
	batch_task(&ops->builder, object, ns);
	batch_exit(&ops->builder, ns + 50);
}

/* Some other call between. */
static void call(struct op_recorder *ops, uint64_t ns)
{
	batch_enter(&ops->builder, HANDLE, ns);
	batch_exit(&ops->builder, ns + 1);
}

static void assert_span(const struct op_recorder *ops, size_t i, const char *name,
			uint64_t begin_ns, uint64_t end_ns, const char *args)
{
	const struct pt_op_span *span = &ops->spans[i].op;

	if (i >= ops->span_count)
		fail_msg("only %zu spans", ops->span_count);
	if (strcmp(ops->spans[i].name, name) || span->begin_ns != begin_ns ||
	    span->end_ns != end_ns || strcmp(ops->spans[i].args, args))
		fail_msg("%s %llu..%llu %s, not %s %llu..%llu %s", ops->spans[i].name,
			 (unsigned long long)span->begin_ns, (unsigned long long)span->end_ns,
			 ops->spans[i].args, name, (unsigned long long)begin_ns,
			 (unsigned long long)end_ns, args);
}

static void test_steps_and_waits(void **state)
{
	struct op_recorder ops;
	struct rec_thread t;

	start(&ops, &t);
	made(&ops, A, 2100);
	enter(&ops, A | PT_CORO_FIRST, OUTER, 2200);
	made(&ops, C, 2210);
	enter(&ops, B | PT_CORO_FIRST, INNER, 2300); /* awaited: no task */
	batch_exit(&ops.builder, 2400);
	batch_exit(&ops.builder, 2500);
	step(&ops, C | PT_CORO_FIRST, INNER, 2600);
	step(&ops, A, OUTER, 3000);
	finish(&ops);
	assert_int_equal(ops.span_count, 4);
	assert_span(&ops, 0, "outer", 2200, 2500, "thread=10 step=1");
	assert_span(&ops, 1, "inner", 2600, 2650, "thread=10 step=1 parent=task outer #1");
	assert_span(&ops, 2, "wait", 2501, 2999, "");
	assert_span(&ops, 3, "outer", 3000, 3050, "thread=10 step=2");
	assert_int_equal(ops.spans[0].op.tid, ops.spans[3].op.tid);
	assert_int_not_equal(ops.spans[0].op.tid, ops.spans[1].op.tid);
	assert_true(ops.spans[0].op.tid >= PT_TRACK_TID);
	assert_int_equal(ops.flow_count, 2);
	assert_int_equal(ops.flows[0].from.time_ns, 2100);
	assert_int_equal(ops.flows[0].to.time_ns, 2200);
	assert_int_equal(ops.flows[1].from.tid, 10);
	assert_int_equal(ops.flows[1].to.tid, ops.spans[1].op.tid);
	assert_string_equal(ops.threads[1].name, "task outer #1");
	ops_release(&ops);
}

static void named(struct op_recorder *ops, uint64_t object, int64_t details, uint64_t ns)
{
	const int64_t values[] = {details, (int64_t)object};

	batch_rt(&ops->builder, PT_X_RT_INSTANT, PT_RT_TASK_NAME, PT_RT_DETAILS, values, 2, ns);
}

/* The name comes behind what the task is made of. */
static void test_names(void **state)
{
	static const char *const first[] = {"worker (1)", NULL}, *const gone[] = {"gone", NULL};
	struct op_recorder ops;
	struct rec_thread t;

	start(&ops, &t);
	batch_end(&ops.builder, 0);
	rec_runtime(&ops.builder, &t, 1, PT_RT_TASK_NAME, first, 2000);
	rec_runtime(&ops.builder, &t, 2, PT_RT_TASK_NAME, gone, 2000);
	batch_begin(&ops.builder, &t, 2050);
	named(&ops, A, 1, 2060); /* of a coroutine that nobody made a task of: nothing */
	batch_enter(&ops.builder, CREATE, 2100);
	batch_task(&ops.builder, A, 2100);
	named(&ops, A, 1, 2110);
	batch_enter(&ops.builder, CREATE, 2120); /* within, and without a name */
	batch_task(&ops.builder, A, 2120);
	batch_exit(&ops.builder, 2130);
	batch_exit(&ops.builder, 2150);
	step(&ops, A | PT_CORO_FIRST, OUTER, 2200);
	batch_enter(&ops.builder, CREATE, 2300);
	batch_task(&ops.builder, A, 2300); /* never runs, and another one has its address */
	named(&ops, A, 2, 2310);
	batch_exit(&ops.builder, 2350);
	made(&ops, A, 2400);
	step(&ops, A | PT_CORO_FIRST, INNER, 2500);
	batch_enter(&ops.builder, CREATE, 2600);
	batch_task(&ops.builder, B, 2600);
	named(&ops, B, 7, 2610); /* its details were lost */
	batch_exit(&ops.builder, 2650);
	step(&ops, B | PT_CORO_FIRST, INNER, 2700);
	finish(&ops);
	assert_int_equal(ops.span_count, 3);
	assert_int_equal(ops.instant_count, 0);
	assert_string_equal(ops.threads[1].name, "task worker (1) (outer #1)");
	assert_string_equal(ops.threads[2].name, "task inner #1");
	assert_string_equal(ops.threads[3].name, "task inner #2");
	ops_release(&ops);
}

/* A name that comes once the coroutine runs is that of its task from then on, whether the track was
 * announced or not, and also behind the last step; one that is the same is not told again. */
static void test_named_later(void **state)
{
	static const char *const number[] = {"#12", NULL}, *const text[] = {"worker", NULL};
	struct op_recorder ops;
	struct rec_thread t;

	start(&ops, &t);
	batch_end(&ops.builder, 0);
	for (uint32_t i = 1; i <= 4; i++)
		rec_runtime(&ops.builder, &t, i, PT_RT_TASK_NAME, i == 1 ? number : text, 2000);
	batch_begin(&ops.builder, &t, 2050);
	made(&ops, A, 2100);
	enter(&ops, A | PT_CORO_FIRST, OUTER, 2200);
	named(&ops, A, 1, 2200);
	batch_exit(&ops.builder, 2250);
	call(&ops, 2300); /* the step is told */
	named(&ops, B, 2, 2400);
	named(&ops, A, 3, 2400);
	named(&ops, A, 4, 2410);
	named(&ops, A, 9, 2420); /* its details were lost */
	finish(&ops);
	assert_int_equal(ops.span_count, 1);
	assert_int_equal(ops.instant_count, 0);
	assert_int_equal(ops.thread_count, 3);
	assert_string_equal(ops.threads[1].name, "task Task-12 (outer #1)");
	assert_string_equal(ops.threads[2].name, "task worker (outer #1)");
	assert_int_equal(ops.threads[1].tid, ops.threads[2].tid);
	ops_release(&ops);
}

/* The frames come innermost first, with a generator between. */
static void test_exception_in_pieces(void **state)
{
	struct op_recorder ops;
	struct rec_thread t;

	start(&ops, &t);
	made(&ops, A, 2100);
	enter(&ops, A | PT_CORO_FIRST, OUTER, 2200);
	batch_enter(&ops.builder, GENERATOR, 2210);
	enter(&ops, B | PT_CORO_FIRST, INNER, 2220);
	batch_exit(&ops.builder, 2230);
	batch_exit(&ops.builder, 2240);
	batch_exit(&ops.builder, 2250);
	call(&ops, 2260);
	step(&ops, B, INNER, 3000);
	batch_enter(&ops.builder, GENERATOR, 3100);
	batch_exit(&ops.builder, 3150);
	step(&ops, A, OUTER, 3200);
	/* two steps with nothing between, as uvloop has them, are no pieces of one */
	step(&ops, A, OUTER, 3300);
	finish(&ops);
	assert_int_equal(ops.span_count, 5);
	assert_span(&ops, 1, "wait", 2251, 2999, "");
	assert_span(&ops, 2, "outer", 3000, 3250, "thread=10 step=2");
	assert_span(&ops, 4, "outer", 3300, 3350, "thread=10 step=3");
	assert_int_equal(ops.spans[2].op.tid, ops.spans[0].op.tid);
	ops_release(&ops);
}

static void test_addresses_are_used_again(void **state)
{
	struct op_recorder ops;
	struct rec_thread t;

	start(&ops, &t);
	for (uint64_t i = 0; i < 3; i++) {
		made(&ops, A, 2100 + 1000 * i);
		step(&ops, A | PT_CORO_FIRST, OUTER, 2200 + 1000 * i);
	}
	finish(&ops);
	assert_int_equal(ops.span_count, 3);
	assert_int_equal(ops.flow_count, 3);
	assert_string_equal(ops.threads[3].name, "task outer #3");
	ops_release(&ops);
}

/* Nobody was seen to make a task of it: it is one when it goes on. */
static void test_not_made(void **state)
{
	struct op_recorder ops;
	struct rec_thread t;

	start(&ops, &t);
	step(&ops, A | PT_CORO_FIRST, OUTER, 2100); /* by close(), perhaps */
	step(&ops, B | PT_CORO_FIRST, INNER, 2200);
	step(&ops, B, INNER, 2300);
	finish(&ops);
	assert_int_equal(ops.span_count, 3);
	assert_span(&ops, 0, "inner", 2200, 2250, "thread=10 step=1");
	assert_span(&ops, 2, "inner", 2300, 2350, "thread=10 step=2");
	assert_int_equal(ops.flow_count, 0);
	ops_release(&ops);
}

/* Within another's step: one that was made runs eagerly; one that was not is driven by hand. */
static void test_within_a_step(void **state)
{
	struct op_recorder ops;
	struct rec_thread t;

	start(&ops, &t);
	made(&ops, A, 2100);
	enter(&ops, A | PT_CORO_FIRST, OUTER, 2200);
	batch_enter(&ops.builder, CREATE, 2300);
	batch_task(&ops.builder, B, 2300);
	step(&ops, B | PT_CORO_FIRST, INNER, 2400);
	step(&ops, C | PT_CORO_FIRST, INNER, 2500);
	step(&ops, C, INNER, 2600);
	batch_exit(&ops.builder, 2700);
	batch_exit(&ops.builder, 2800);
	step(&ops, B, INNER, 2900);
	finish(&ops);
	assert_int_equal(ops.span_count, 4);
	assert_span(&ops, 0, "inner", 2400, 2450, "thread=10 step=1 parent=task outer #1");
	assert_span(&ops, 1, "outer", 2200, 2800, "thread=10 step=1");
	assert_span(&ops, 3, "inner", 2900, 2950, "thread=10 step=2");
	ops_release(&ops);
}

/* What lies before a recording, a loss or a pause is not known: steps have no numbers. */
static void test_unknown_past(void **state)
{
	static const uint32_t open[] = {MODULE};
	struct op_recorder ops;
	struct rec_thread t;

	start(&ops, &t);
	step(&ops, A, OUTER, 2100);
	step(&ops, A, OUTER, 2200);
	batch_end(&ops.builder, 0);
	batch_begin(&ops.builder, &t, 3000);
	call(&ops, 3000);
	batch_lose(&ops.builder);
	batch_begin(&ops.builder, &t, 4000);
	batch_snap(&ops.builder, open, 1, 1, 4000);
	step(&ops, A, OUTER, 4100);
	batch_paused(&ops.builder, 1, 5000, 6000, 6100);
	batch_snap(&ops.builder, open, 1, 1, 6100);
	step(&ops, A, OUTER, 6200);
	finish(&ops);
	assert_int_equal(ops.span_count, 5);
	assert_span(&ops, 0, "outer", 2100, 2150, "thread=10");
	assert_span(&ops, 1, "wait", 2151, 2199, "");
	assert_span(&ops, 3, "outer", 4100, 4150, "thread=10");
	assert_int_not_equal(ops.spans[3].op.tid, ops.spans[2].op.tid);
	assert_int_not_equal(ops.spans[4].op.tid, ops.spans[3].op.tid);
	ops_release(&ops);
}

/* An exception comes into a task that was there before: the outermost is the task. */
static void test_unknown_in_pieces(void **state)
{
	struct op_recorder ops;
	struct rec_thread t;

	start(&ops, &t);
	step(&ops, B, INNER, 2100);
	step(&ops, A, OUTER, 2200);
	call(&ops, 2300);
	step(&ops, A, OUTER, 2400);
	finish(&ops);
	assert_int_equal(ops.span_count, 3);
	assert_span(&ops, 0, "outer", 2100, 2250, "thread=10");
	assert_int_equal(ops.spans[0].op.tid, ops.spans[2].op.tid);
	ops_release(&ops);
}

static void test_clear(void **state)
{
	struct op_recorder ops;
	struct rec_thread t;

	start(&ops, &t);
	made(&ops, A, 2100);
	step(&ops, A | PT_CORO_FIRST, OUTER, 2200);
	batch_end(&ops.builder, 0);
	rec_control(&ops.builder, PT_CONTROL_CLEAR, 3000);
	batch_begin(&ops.builder, &t, 3500);
	step(&ops, A, OUTER, 3500);
	finish(&ops);
	assert_int_equal(ops.span_count, 2);
	assert_span(&ops, 0, "wait", 3001, 3499, "");
	assert_span(&ops, 1, "outer", 3500, 3550, "thread=10 step=2");
	assert_int_equal(ops.flow_count, 0);
	ops_release(&ops);
}

/* A step that the end of the recording finds under way, and words that mean nothing. */
static void test_end_and_damage(void **state)
{
	struct op_recorder ops;
	struct rec_thread t;

	start(&ops, &t);
	batch_coro(&ops.builder, A | PT_CORO_FIRST, 2100); /* no enter follows */
	batch_task(&ops.builder, A, 2110);
	batch_exit(&ops.builder, 2120);
	batch_task(&ops.builder, A, 2130);
	step(&ops, B, MODULE, 2140); /* not the code of a coroutine */
	made(&ops, A, 2200);
	enter(&ops, A | PT_CORO_FIRST, OUTER, 2300);
	finish(&ops);
	assert_int_equal(ops.span_count, 1);
	assert_int_equal(ops.spans[0].op.flags, PT_SLICE_OPEN_AT_END);
	ops_release(&ops);
	start(&ops, &t);
	batch_coro(&ops.builder, PT_CORO_FIRST, 2100); /* no address */
	finish(&ops);
	assert_int_equal(ops.totals.bad_records, 1);
	ops_release(&ops);
}

/* ---- greenlets ---- */

static const uint32_t main_only[] = {MODULE}, first[] = {CREATE}, second[] = {HANDLE};

/* MODULE runs on the thread's own stack, CREATE and HANDLE on two others, at the same depth. */
static void three_stacks(struct op_recorder *ops, struct rec_thread *t)
{
	struct rec_builder *b = &ops->builder;

	ops_init(ops, NULL);
	*t = rec_thread(10, 10, 1, "main");
	rec_code(b, MODULE, "module", "", "/app/main.py", 1);
	rec_code(b, CREATE, "one", "", "/app/main.py", 2);
	rec_code(b, HANDLE, "two", "", "/app/main.py", 3);
	rec_code_flags(b, OUTER, "outer", "/app/main.py", 3, 0x80);
	rec_proc(b, PT_PROC_ATTACH, 10, 1, 1000, 1, "python3", "python3 main.py", 0);
	batch_begin(b, t, 2000);
	batch_switch(b, A, 2000);
	batch_snap(b, NULL, 0, 0, 2000);
	batch_enter(b, MODULE, 2000);
	batch_switch(b, B, 2100);
	batch_snap(b, NULL, 0, 1, 2100);
	batch_enter(b, CREATE, 2100);
	batch_switch(b, C, 2200);
	batch_snap(b, NULL, 0, 1, 2200);
	batch_enter(b, HANDLE, 2200);
}

static void test_stacks_are_kept(void **state)
{
	struct op_recorder ops;
	struct rec_thread t;

	three_stacks(&ops, &t);
	batch_switch(&ops.builder, B, 2300);
	batch_snap(&ops.builder, NULL, 0, 1, 2300); /* its call ends: taken behind it */
	batch_exit_to(&ops.builder, 1, 2300);
	batch_switch(&ops.builder, A, 2400);
	batch_snap(&ops.builder, main_only, 1, 1, 2400);
	batch_enter(&ops.builder, CREATE, 2400);
	batch_exit(&ops.builder, 2500);
	batch_switch(&ops.builder, C, 2600);
	batch_snap(&ops.builder, second, 1, 2, 2600);
	batch_exit_to(&ops.builder, 1, 2700);
	batch_switch(&ops.builder, B, 2800); /* the number again, another greenlet */
	batch_snap(&ops.builder, NULL, 0, 1, 2800);
	batch_enter(&ops.builder, CREATE, 2800);
	batch_exit(&ops.builder, 2900);
	batch_switch(&ops.builder, A, 3000);
	batch_snap(&ops.builder, NULL, 0, 0, 3000);
	batch_exit_to(&ops.builder, 0, 3000);
	finish(&ops);
	assert_int_equal(ops_slice(&ops, "module", 0)->end_ns, 3000);
	assert_int_equal(ops_slice(&ops, "module", 0)->tid, 10);
	assert_int_equal(ops_slice(&ops, "one", 0)->begin_ns, 2100);
	assert_int_equal(ops_slice(&ops, "one", 0)->end_ns, 2300);
	assert_int_equal(ops_slice(&ops, "one", 0)->parent_id, 0);
	assert_int_equal(ops_slice(&ops, "one", 1)->tid, 10);
	assert_int_equal(ops_slice(&ops, "two", 0)->end_ns, 2700);
	assert_int_not_equal(ops_slice(&ops, "one", 0)->tid, ops_slice(&ops, "one", 2)->tid);
	for (size_t i = 0; i < ops.slice_count; i++)
		assert_int_equal(ops.slices[i].op.flags, 0);
	assert_int_equal(ops.totals.stack_jumps, 0);
	assert_int_equal(ops.thread_count, 4);
	assert_string_equal(ops.threads[1].name, "greenlet one #1");
	ops_release(&ops);
}

static void test_stacks_at_the_end(void **state)
{
	struct op_recorder ops;
	struct rec_thread t;

	three_stacks(&ops, &t);
	finish(&ops);
	assert_int_equal(ops.slice_count, 3);
	for (size_t i = 0; i < ops.slice_count; i++)
		assert_int_equal(ops.slices[i].op.flags, PT_SLICE_OPEN_AT_END);
	ops_release(&ops);
}

/* In a loss any of them may have run. */
static void test_stacks_and_loss(void **state)
{
	struct op_recorder ops;
	struct rec_thread t;

	three_stacks(&ops, &t);
	batch_end(&ops.builder, 0);
	batch_begin(&ops.builder, &t, 3000);
	batch_enter(&ops.builder, CREATE, 3000);
	batch_lose(&ops.builder);
	batch_begin(&ops.builder, &t, 4000);
	batch_switch(&ops.builder, B, 4000);
	batch_snap(&ops.builder, first, 1, 2, 4000);
	batch_exit_to(&ops.builder, 1, 4100);
	finish(&ops);
	assert_int_equal(ops.slice_count, 4);
	assert_int_equal(ops_slice(&ops, "one", 0)->flags, PT_SLICE_INTO_LOSS);
	assert_int_equal(ops_slice(&ops, "one", 1)->flags, PT_SLICE_AFTER_LOSS);
	assert_int_equal(ops_slice(&ops, "two", 0)->flags, PT_SLICE_INTO_LOSS);
	assert_int_equal(ops_slice(&ops, "module", 0)->flags, PT_SLICE_INTO_LOSS);
	ops_release(&ops);
}

/* A step of a task goes on where its greenlet does. */
static void test_step_and_stacks(void **state)
{
	struct op_recorder ops;
	struct rec_thread t;

	three_stacks(&ops, &t);
	enter(&ops, 0x7f0000009000ull, OUTER, 2300);
	batch_switch(&ops.builder, A, 2400);
	batch_snap(&ops.builder, main_only, 1, 1, 2400);
	step(&ops, 0x7f000000a000ull, OUTER, 2500);
	batch_switch(&ops.builder, C, 2600);
	batch_snap(&ops.builder, second, 1, 2, 2600);
	batch_exit_to(&ops.builder, 2, 2600);
	finish(&ops);
	assert_int_equal(ops.span_count, 2);
	assert_span(&ops, 0, "outer", 2500, 2550, "thread=10");
	assert_span(&ops, 1, "outer", 2300, 2600, "thread=10");
	ops_release(&ops);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_steps_and_waits),
	    cmocka_unit_test(test_names),
	    cmocka_unit_test(test_named_later),
	    cmocka_unit_test(test_exception_in_pieces),
	    cmocka_unit_test(test_addresses_are_used_again),
	    cmocka_unit_test(test_not_made),
	    cmocka_unit_test(test_within_a_step),
	    cmocka_unit_test(test_unknown_past),
	    cmocka_unit_test(test_unknown_in_pieces),
	    cmocka_unit_test(test_clear),
	    cmocka_unit_test(test_end_and_damage),
	    cmocka_unit_test(test_stacks_are_kept),
	    cmocka_unit_test(test_stacks_at_the_end),
	    cmocka_unit_test(test_stacks_and_loss),
	    cmocka_unit_test(test_step_and_stacks),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
