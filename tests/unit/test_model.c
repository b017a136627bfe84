// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/* The model: stacks from records, losses, and the promises of op.h under random input. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "op_recorder.h"

/* Codes 1 .. 26 are functions a .. z of /app/main.py; 27 is in /usr/lib. */
static void start(struct op_recorder *ops, const struct pt_model_options *options)
{
	ops_init(ops, options);
	ops_define(ops);
	rec_code(&ops->builder, 27, "lib", "Lib.lib", "/usr/lib/python3/lib.py", 1);
	rec_proc(&ops->builder, PT_PROC_ATTACH, 10, 1, 1000, 1, "python3", "python3 main.py", 0);
}

static void finish(struct op_recorder *ops)
{
	const char *wrong = ops_finish(ops);

	if (wrong)
		fail_msg("%s", wrong);
}

static void assert_slice(const struct op_recorder *ops, const char *name, size_t n,
			 uint64_t begin_ns, uint64_t end_ns, uint32_t flags)
{
	const struct pt_op_slice *slice = ops_slice(ops, name, n);

	if (!slice)
		fail_msg("no slice %zu of %s", n, name);
	if (slice->begin_ns != begin_ns || slice->end_ns != end_ns || slice->flags != flags)
		fail_msg("%s: %llu..%llu flags %x, not %llu..%llu flags %x", name,
			 (unsigned long long)slice->begin_ns, (unsigned long long)slice->end_ns,
			 slice->flags, (unsigned long long)begin_ns, (unsigned long long)end_ns,
			 flags);
}

static void test_calls_nest(void **state)
{
	struct op_recorder ops;
	struct rec_thread t = rec_thread(10, 10, 1, "main");

	start(&ops, NULL);
	batch_begin(&ops.builder, &t, 2000);
	batch_snap(&ops.builder, NULL, 0, 0, 2000);
	batch_enter(&ops.builder, 1, 2000);
	batch_enter(&ops.builder, 2, 2100);
	batch_enter(&ops.builder, 3, 2200);
	batch_exit(&ops.builder, 2300);
	batch_exit_to(&ops.builder, 0, 2400); /* an exception through two frames */
	batch_end(&ops.builder, 0);
	finish(&ops);
	assert_int_equal(ops.slice_count, 3);
	assert_slice(&ops, "a", 0, 2000, 2401, 0);
	assert_slice(&ops, "b", 0, 2100, 2400, 0);
	assert_slice(&ops, "c", 0, 2200, 2300, 0);
	assert_int_equal(ops.totals.events, 5);
	assert_int_equal(ops.totals.lost_events, 0);
	assert_int_equal(ops.totals.slices, 3);
	assert_int_equal(ops.totals.threads, 1);
	assert_int_equal(ops.totals.processes, 1);
	assert_string_equal(ops.processes[0].name, "python3");
	assert_string_equal(ops.processes[0].cmdline, "python3 main.py");
	assert_string_equal(ops.threads[0].name, "main");
	ops_release(&ops);
}

static void test_equal_times_move_apart(void **state)
{
	struct op_recorder ops;
	struct rec_thread t = rec_thread(10, 10, 1, "main");

	start(&ops, NULL);
	batch_begin(&ops.builder, &t, 2000);
	batch_snap(&ops.builder, NULL, 0, 0, 2000);
	for (int i = 0; i < 5; i++)
		batch_enter(&ops.builder, 1, 2000);
	for (int i = 0; i < 5; i++)
		batch_exit(&ops.builder, 2000);
	batch_end(&ops.builder, 0);
	finish(&ops);
	assert_int_equal(ops.slice_count, 5);
	assert_slice(&ops, "a", 4, 2000, 2009, 0);
	assert_slice(&ops, "a", 0, 2004, 2005, 0);
	ops_release(&ops);
}

static void test_open_at_start_and_end(void **state)
{
	static const uint32_t open[] = {3, 2, 1};
	struct op_recorder ops;
	struct rec_thread t = rec_thread(10, 10, 1, "main");

	start(&ops, NULL);
	batch_begin(&ops.builder, &t, 2000);
	batch_snap(&ops.builder, open, 3, 3, 2000);
	batch_enter(&ops.builder, 4, 2000);
	batch_exit(&ops.builder, 2100);
	batch_exit(&ops.builder, 2200);
	batch_end(&ops.builder, 0);
	rec_note(&ops.builder, PT_NOTE_GATE_CLOSE, 3000, 0);
	finish(&ops);
	assert_slice(&ops, "a", 0, 1000, 3001, PT_SLICE_OPEN_AT_START | PT_SLICE_OPEN_AT_END);
	assert_slice(&ops, "b", 0, 1001, 3000, PT_SLICE_OPEN_AT_START | PT_SLICE_OPEN_AT_END);
	assert_slice(&ops, "c", 0, 1002, 2200, PT_SLICE_OPEN_AT_START);
	assert_slice(&ops, "d", 0, 2000, 2100, 0);
	ops_release(&ops);
}

static void test_exit_first_named_from_outside(void **state)
{
	static const uint32_t below[] = {2, 1}, outside[] = {3, 2, 1}, other[] = {3, 4, 1};
	struct op_recorder ops;
	struct rec_thread t = rec_thread(10, 10, 1, "main"), u = rec_thread(10, 11, 1, "other");

	start(&ops, NULL);
	rec_stack(&ops.builder, &t, 1100, outside, 3, 3);
	rec_stack(&ops.builder, &u, 1100, other, 3, 3); /* its callers do not agree */
	batch_begin(&ops.builder, &t, 2000);
	batch_snap(&ops.builder, below, 2, 2, 2000);
	batch_exit_to(&ops.builder, 2, 2000);
	batch_exit_to(&ops.builder, 1, 2100);
	batch_end(&ops.builder, 0);
	batch_begin(&ops.builder, &u, 2000);
	batch_snap(&ops.builder, below, 2, 2, 2000);
	batch_exit_to(&ops.builder, 2, 2000);
	batch_end(&ops.builder, 0);
	rec_note(&ops.builder, PT_NOTE_GATE_CLOSE, 3000, 0);
	finish(&ops);
	assert_int_equal(ops_count(&ops, "c"), 1);
	assert_slice(&ops, "c", 0, 1002, 2000, PT_SLICE_OPEN_AT_START);
	assert_slice(&ops, "b", 0, 1001, 2100, PT_SLICE_OPEN_AT_START);
	ops_release(&ops);
}

/* A hidden frame's exit names a depth that nobody is above of. */
static void test_hidden_frames(void **state)
{
	struct op_recorder ops;
	struct rec_thread t = rec_thread(10, 10, 1, "main");

	start(&ops, NULL);
	batch_begin(&ops.builder, &t, 2000);
	batch_snap(&ops.builder, NULL, 0, 4, 2000);
	batch_enter(&ops.builder, 1, 2000);
	batch_depth(&ops.builder, 6, 2100); /* a shim below the next */
	batch_enter(&ops.builder, 2, 2100);
	batch_exit_to(&ops.builder, 6, 2200);
	batch_exit_to(&ops.builder, 5, 2300); /* the shim's */
	batch_exit_to(&ops.builder, 4, 2400);
	batch_end(&ops.builder, 0);
	finish(&ops);
	assert_int_equal(ops.slice_count, 2);
	assert_slice(&ops, "a", 0, 2000, 2400, 0);
	assert_slice(&ops, "b", 0, 2100, 2200, 0);
	assert_int_equal(ops_slice(&ops, "b", 0)->parent_id, ops_slice(&ops, "a", 0)->id);
	ops_release(&ops);
}

static void test_silent_thread(void **state)
{
	static const uint32_t open[] = {2, 1};
	struct op_recorder ops;
	struct rec_thread t = rec_thread(10, 11, 1, "sleeper"), u = rec_thread(10, 12, 1, "ends");

	start(&ops, NULL);
	rec_thread_start(&ops.builder, &t, 500);
	rec_stack(&ops.builder, &t, 1100, open, 2, 2);
	rec_stack(&ops.builder, &u, 1100, open, 1, 1);
	rec_thread_exit(&ops.builder, &u, 2500);
	rec_note(&ops.builder, PT_NOTE_GATE_CLOSE, 3000, 0);
	finish(&ops);
	assert_int_equal(ops.slice_count, 3);
	assert_slice(&ops, "a", 0, 1000, 3001, PT_SLICE_OPEN_AT_START | PT_SLICE_OPEN_AT_END);
	assert_slice(&ops, "b", 0, 1000, 2500, PT_SLICE_OPEN_AT_START | PT_SLICE_OPEN_AT_END);
	ops_release(&ops);
}

static void test_loss_heals(void **state)
{
	static const uint32_t after[] = {4, 2, 1};
	struct op_recorder ops;
	struct rec_thread t = rec_thread(10, 10, 1, "main");

	start(&ops, NULL);
	batch_begin(&ops.builder, &t, 2000);
	batch_snap(&ops.builder, NULL, 0, 0, 2000);
	batch_enter(&ops.builder, 1, 2000);
	batch_enter(&ops.builder, 2, 2100);
	batch_enter(&ops.builder, 3, 2200);
	batch_end(&ops.builder, 0);
	batch_begin(&ops.builder, &t, 3000); /* c returns, d is called */
	batch_exit(&ops.builder, 3000);
	batch_enter(&ops.builder, 5, 3100);
	batch_exit(&ops.builder, 3100);
	batch_enter(&ops.builder, 4, 3200);
	batch_lose(&ops.builder);
	batch_begin(&ops.builder, &t, 4000);
	batch_snap(&ops.builder, after, 3, 3, 4000);
	batch_exit(&ops.builder, 4100);
	batch_exit(&ops.builder, 4200);
	batch_exit(&ops.builder, 4300);
	batch_end(&ops.builder, 0);
	rec_note(&ops.builder, PT_NOTE_LOST_EVENTS, 5000, 4);
	finish(&ops);
	assert_int_equal(ops.loss_count, 1);
	assert_int_equal(ops.losses[0].events, 4);
	assert_int_equal(ops.losses[0].begin_ns, 2200);
	assert_int_equal(ops.losses[0].end_ns, 4000);
	assert_int_equal(ops.totals.lost_events, 4);
	assert_int_equal(ops.totals.events, 6);
	assert_slice(&ops, "c", 0, 2200, 2201, PT_SLICE_INTO_LOSS);
	assert_slice(&ops, "d", 0, 4000, 4100, PT_SLICE_AFTER_LOSS);
	assert_slice(&ops, "b", 0, 2100, 4200, 0);
	assert_slice(&ops, "a", 0, 2000, 4300, 0);
	assert_int_equal(ops.slice_count, 4);
	ops_release(&ops);
}

static void test_loss_at_both_ends(void **state)
{
	static const uint32_t open[] = {1};
	struct op_recorder ops;
	struct rec_thread t = rec_thread(10, 10, 1, "main");

	start(&ops, NULL);
	batch_begin(&ops.builder, &t, 2000); /* the first batch is lost */
	batch_snap(&ops.builder, NULL, 0, 0, 2000);
	batch_enter(&ops.builder, 1, 2000);
	batch_lose(&ops.builder);
	batch_begin(&ops.builder, &t, 3000);
	batch_snap(&ops.builder, open, 1, 1, 3000);
	batch_enter(&ops.builder, 2, 3100);
	batch_exit(&ops.builder, 3200);
	batch_end(&ops.builder, 0);
	batch_begin(&ops.builder, &t, 4000); /* and the last */
	batch_exit(&ops.builder, 4000);
	batch_lose(&ops.builder);
	rec_thread_exit(&ops.builder, &t, 4500);
	finish(&ops);
	assert_int_equal(ops.loss_count, 2);
	assert_int_equal(ops.totals.lost_events, 2);
	assert_slice(&ops, "a", 0, 3000, 3201, PT_SLICE_AFTER_LOSS | PT_SLICE_INTO_LOSS);
	assert_slice(&ops, "b", 0, 3100, 3200, 0);
	assert_int_equal(ops.losses[1].begin_ns, 3200);
	assert_int_equal(ops.losses[1].end_ns, 4500);
	ops_release(&ops);
}

static void test_peeks(void **state)
{
	struct op_recorder ops;
	struct rec_thread t = rec_thread(10, 10, 1, "main");

	start(&ops, NULL);
	batch_begin(&ops.builder, &t, 2000);
	batch_snap(&ops.builder, NULL, 0, 0, 2000);
	batch_enter(&ops.builder, 1, 2000);
	batch_peek(&ops.builder);
	batch_peek(&ops.builder); /* nothing new */
	batch_enter(&ops.builder, 2, 2100);
	batch_peek(&ops.builder);
	batch_exit(&ops.builder, 2200);
	batch_end(&ops.builder, 0);
	/* a copy that was under way when the owner sent the batch */
	t.seq--;
	t.events -= 3;
	batch_begin(&ops.builder, &t, 2000);
	batch_snap(&ops.builder, NULL, 0, 0, 2000);
	batch_enter(&ops.builder, 1, 2000);
	batch_peek(&ops.builder);
	t.seq++;
	t.events += 3;
	t.depth = 1;
	batch_begin(&ops.builder, &t, 2300);
	batch_exit(&ops.builder, 2300);
	batch_peek(&ops.builder); /* the last that is ever seen of it */
	rec_note(&ops.builder, PT_NOTE_GATE_CLOSE, 3000, 0);
	finish(&ops);
	assert_int_equal(ops.slice_count, 2);
	assert_slice(&ops, "a", 0, 2000, 2300, 0);
	assert_slice(&ops, "b", 0, 2100, 2200, 0);
	assert_int_equal(ops.totals.events, 4);
	assert_int_equal(ops.loss_count, 0);
	assert_int_equal(ops.totals.bad_records, 0);
	ops_release(&ops);
}

/* After a peek BPF learns that the last enter's frame lies above a hidden one. */
static void test_peek_rewritten(void **state)
{
	struct op_recorder ops;
	struct rec_thread t = rec_thread(10, 10, 1, "main");

	start(&ops, NULL);
	batch_begin(&ops.builder, &t, 2000);
	batch_snap(&ops.builder, NULL, 0, 0, 2000);
	batch_enter(&ops.builder, 1, 2000);
	batch_enter(&ops.builder, 2, 2100);
	batch_peek(&ops.builder);
	ops.builder.batch.word_count--;
	ops.builder.batch.events--;
	batch_depth(&ops.builder, 2, 2100);
	batch_enter(&ops.builder, 2, 2100);
	batch_exit_to(&ops.builder, 2, 2200);
	batch_exit_to(&ops.builder, 1, 2300); /* the hidden one's */
	batch_exit_to(&ops.builder, 0, 2400);
	batch_end(&ops.builder, 0);
	finish(&ops);
	assert_int_equal(ops.slice_count, 2);
	assert_slice(&ops, "a", 0, 2000, 2400, 0);
	assert_slice(&ops, "b", 0, 2100, 2200, 0);
	assert_int_equal(ops.totals.bad_records, 0);
	assert_int_equal(ops.totals.events, 5);
	ops_release(&ops);
}

/* A thread that starts at depth 0 sends no snapshot; neither does one whose only frame returns. */
static void test_no_snapshot_at_depth_0(void **state)
{
	static const uint32_t only[] = {7};
	struct op_recorder ops;
	struct rec_thread t = rec_thread(10, 11, 1, "new"), u = rec_thread(10, 12, 1, "old");

	start(&ops, NULL);
	rec_stack(&ops.builder, &u, 1100, only, 1, 1);
	rec_thread_start(&ops.builder, &t, 2000);
	batch_begin(&ops.builder, &t, 2000);
	batch_enter(&ops.builder, 1, 2000);
	batch_exit(&ops.builder, 2100);
	batch_end(&ops.builder, 0);
	rec_thread_start(&ops.builder, &u, 2500); /* told at its first event */
	batch_begin(&ops.builder, &u, 2500);
	batch_exit_to(&ops.builder, 0, 2500);
	batch_enter(&ops.builder, 2, 2600);
	batch_exit(&ops.builder, 2700);
	batch_end(&ops.builder, 0);
	finish(&ops);
	assert_int_equal(ops.slice_count, 3);
	assert_slice(&ops, "a", 0, 2000, 2100, 0);
	assert_slice(&ops, "g", 0, 1000, 2500, PT_SLICE_OPEN_AT_START);
	assert_slice(&ops, "b", 0, 2600, 2700, 0);
	assert_int_equal(ops.totals.stack_jumps, 0);
	ops_release(&ops);
}

/* A batch that was peeked and then lost: what the peek showed is not lost. */
static void test_peek_then_loss(void **state)
{
	static const uint32_t open[] = {3, 1};
	struct op_recorder ops;
	struct rec_thread t = rec_thread(10, 10, 1, "main");

	start(&ops, NULL);
	batch_begin(&ops.builder, &t, 2000);
	batch_snap(&ops.builder, NULL, 0, 0, 2000);
	batch_enter(&ops.builder, 1, 2000);
	batch_peek(&ops.builder);
	batch_enter(&ops.builder, 2, 2100);
	batch_lose(&ops.builder);
	batch_begin(&ops.builder, &t, 3000);
	batch_snap(&ops.builder, open, 2, 2, 3000);
	batch_exit(&ops.builder, 3100);
	batch_end(&ops.builder, 0);
	finish(&ops);
	assert_int_equal(ops.loss_count, 1);
	assert_int_equal(ops.losses[0].events, 1);
	assert_int_equal(ops_count(&ops, "b"), 0);
	assert_slice(&ops, "c", 0, 3000, 3100, PT_SLICE_AFTER_LOSS);
	ops_release(&ops);
}

static void test_snapshot_over_batches(void **state)
{
	static const uint32_t inner[] = {4, 3}, outer[] = {2, 1};
	struct op_recorder ops;
	struct rec_thread t = rec_thread(10, 10, 1, "main");

	start(&ops, NULL);
	batch_begin(&ops.builder, &t, 2000);
	batch_snap_head(&ops.builder, 4, 4, 2000);
	batch_open(&ops.builder, inner, 2, 4, 2000);
	batch_end(&ops.builder, 0);
	batch_begin(&ops.builder, &t, 2000);
	batch_open(&ops.builder, outer, 2, 2, 2000);
	batch_exit(&ops.builder, 2100);
	batch_end(&ops.builder, 0);
	rec_note(&ops.builder, PT_NOTE_GATE_CLOSE, 3000, 0);
	finish(&ops);
	assert_int_equal(ops.slice_count, 4);
	assert_slice(&ops, "d", 0, 1003, 2100, PT_SLICE_OPEN_AT_START);
	assert_int_equal(ops.totals.bad_records, 0);
	ops_release(&ops);
}

/* A jump (a greenlet switch) replaces what differs. */
static void test_depth_jump(void **state)
{
	static const uint32_t other[] = {6, 5, 1};
	struct op_recorder ops;
	struct rec_thread t = rec_thread(10, 10, 1, "main");

	start(&ops, NULL);
	batch_begin(&ops.builder, &t, 2000);
	batch_snap(&ops.builder, NULL, 0, 0, 2000);
	batch_enter(&ops.builder, 1, 2000);
	batch_enter(&ops.builder, 2, 2100);
	batch_snap(&ops.builder, other, 3, 3, 2200);
	batch_exit(&ops.builder, 2300);
	batch_exit(&ops.builder, 2400);
	batch_exit(&ops.builder, 2500);
	batch_end(&ops.builder, 0);
	finish(&ops);
	assert_slice(&ops, "a", 0, 2000, 2500, 0);
	assert_slice(&ops, "b", 0, 2100, 2200, PT_SLICE_INTO_LOSS);
	assert_slice(&ops, "e", 0, 2201, 2400, PT_SLICE_AFTER_LOSS);
	assert_int_equal(ops.loss_count, 0);
	assert_int_equal(ops.totals.stack_jumps, 1);
	ops_release(&ops);
}

/* A walk that BPF had to stop early: the outer frames are known already, or from outside. */
static void test_bounded_walk(void **state)
{
	static const uint32_t all[] = {5, 4, 3, 2, 1}, some[] = {5, 4, 3};
	struct op_recorder ops;
	struct rec_thread t = rec_thread(10, 10, 1, "main");

	start(&ops, NULL);
	rec_stack(&ops.builder, &t, 1100, all, 5, 5);
	batch_begin(&ops.builder, &t, 2000);
	batch_snap(&ops.builder, some, 3, 5, 2000);
	batch_exit(&ops.builder, 2100);
	batch_lose(&ops.builder);
	ops.builder.batch.hdr.len = 0;
	t.seq = 0;
	t.events = 0;
	batch_begin(&ops.builder, &t, 2000);
	batch_snap(&ops.builder, some, 3, 5, 2000);
	batch_exit(&ops.builder, 2100);
	batch_end(&ops.builder, 0);
	t.seq++; /* lost, with one event */
	t.events++;
	batch_begin(&ops.builder, &t, 2500);
	batch_snap(&ops.builder, some + 1, 2, 4, 2500);
	batch_exit_to(&ops.builder, 0, 2600);
	batch_end(&ops.builder, 0);
	finish(&ops);
	assert_slice(&ops, "a", 0, 1000, 2603, PT_SLICE_OPEN_AT_START);
	assert_slice(&ops, "e", 0, 1004, 2100, PT_SLICE_OPEN_AT_START);
	assert_int_equal(ops.slice_count, 5);
	ops_release(&ops);
}

static void test_fork_exec_exit(void **state)
{
	static const uint32_t open[] = {1};
	struct op_recorder ops;
	struct rec_thread child = rec_thread(20, 20, 2, "child"),
			  image = rec_thread(20, 20, 3, "py");
	struct rec_thread again;

	start(&ops, NULL);
	/* the child's first batch comes before the record of its fork */
	batch_begin(&ops.builder, &child, 2000);
	batch_snap(&ops.builder, open, 1, 1, 2000);
	batch_enter(&ops.builder, 2, 2000);
	batch_end(&ops.builder, 0);
	rec_proc(&ops.builder, PT_PROC_FORK, 20, 2, 1500, 10, "child", NULL, 0);
	rec_proc(&ops.builder, PT_PROC_EXEC, 20, 3, 2500, 0, "py", NULL, 0);
	batch_begin(&ops.builder, &image, 2600);
	batch_snap(&ops.builder, NULL, 0, 0, 2600);
	batch_enter(&ops.builder, 3, 2600);
	batch_end(&ops.builder, PT_RF_LAST);
	rec_thread_exit(&ops.builder, &image, 2700);
	rec_proc(&ops.builder, PT_PROC_EXIT, 20, 3, 2701, 0, "", NULL, 9);
	/* the pid is used again by an unrelated process */
	again = rec_thread(20, 20, 4, "new");
	rec_proc(&ops.builder, PT_PROC_FORK, 20, 4, 2800, 10, "new", NULL, 0);
	batch_begin(&ops.builder, &again, 2900);
	batch_snap(&ops.builder, NULL, 0, 0, 2900);
	batch_enter(&ops.builder, 4, 2900);
	batch_exit(&ops.builder, 2950);
	batch_end(&ops.builder, 0);
	finish(&ops);
	assert_slice(&ops, "a", 0, 1500, 2501, PT_SLICE_OPEN_AT_START | PT_SLICE_OPEN_AT_END);
	assert_slice(&ops, "b", 0, 2000, 2500, PT_SLICE_OPEN_AT_END);
	assert_slice(&ops, "c", 0, 2600, 2601, PT_SLICE_OPEN_AT_END);
	assert_slice(&ops, "d", 0, 2900, 2950, 0);
	assert_int_equal(ops.totals.processes, 3); /* the parent, the child, the new one */
	assert_int_equal(ops.instant_count, 2);
	assert_string_equal(ops.instants[0].name, "exec");
	assert_string_equal(ops.instants[1].name, "process exit");
	ops_release(&ops);
}

/* Two threads exit at the same time, and the one that tells of the process's exit is not the last.
 */
static void test_exit_before_last_thread(void **state)
{
	struct op_recorder ops;
	struct rec_thread first = rec_thread(10, 10, 1, "py"), last = rec_thread(10, 11, 1, "py"),
			  silent = rec_thread(10, 12, 1, "py");
	static const uint32_t open[] = {4};

	start(&ops, NULL);
	rec_stack(&ops.builder, &silent, 1100, open, 1, 1);
	batch_begin(&ops.builder, &last, 2000);
	batch_snap(&ops.builder, NULL, 0, 0, 2000);
	batch_enter(&ops.builder, 1, 2000);
	batch_end(&ops.builder, 0);
	batch_begin(&ops.builder, &first, 2100);
	batch_snap(&ops.builder, NULL, 0, 0, 2100);
	batch_enter(&ops.builder, 2, 2100);
	batch_end(&ops.builder, PT_RF_LAST);
	rec_thread_exit(&ops.builder, &first, 2600);
	rec_proc(&ops.builder, PT_PROC_EXIT, 10, 1, 2601, 0, "", NULL, 9);
	batch_begin(&ops.builder, &last, 2200);
	batch_enter(&ops.builder, 3, 2200);
	batch_exit(&ops.builder, 2300);
	batch_end(&ops.builder, PT_RF_LAST);
	rec_thread_exit(&ops.builder, &last, 2700);
	/* a copy that was under way when it ended */
	last.seq--;
	last.events -= 2;
	batch_begin(&ops.builder, &last, 2200);
	batch_enter(&ops.builder, 3, 2200);
	batch_end(&ops.builder, PT_RF_PEEK);
	finish(&ops);
	assert_slice(&ops, "a", 0, 2000, 2301, PT_SLICE_OPEN_AT_END);
	assert_slice(&ops, "b", 0, 2100, 2101, PT_SLICE_OPEN_AT_END);
	assert_slice(&ops, "c", 0, 2200, 2300, 0);
	assert_slice(&ops, "d", 0, 1000, 2601, PT_SLICE_OPEN_AT_START | PT_SLICE_OPEN_AT_END);
	assert_int_equal(ops.slice_count, 4);
	assert_int_equal(ops.totals.bad_records, 0);
	assert_int_equal(ops.totals.lost_events, 0);
	ops_release(&ops);
}

/* Two images of one thread whose exec nobody told of: the second begins where the first ends. */
static void test_image_replaced(void **state)
{
	static const uint32_t open[] = {3, 2};
	struct op_recorder ops;
	struct rec_thread old = rec_thread(10, 10, 2, "py"), new = rec_thread(10, 10, 3, "py");

	start(&ops, NULL);
	rec_thread_start(&ops.builder, &old, 1500);
	batch_begin(&ops.builder, &old, 1500);
	batch_snap(&ops.builder, NULL, 0, 0, 1500);
	batch_enter(&ops.builder, 1, 1500);
	batch_enter(&ops.builder, 2, 1600);
	batch_end(&ops.builder, 0);
	rec_thread_start(&ops.builder, &new, 2000);
	batch_begin(&ops.builder, &new, 2000);
	batch_snap(&ops.builder, open, 2, 2, 2000);
	batch_exit(&ops.builder, 2100);
	batch_end(&ops.builder, 0);
	finish(&ops);
	assert_slice(&ops, "b", 0, 1600, 2000, PT_SLICE_OPEN_AT_END);
	assert_slice(&ops, "a", 0, 1500, 2001, PT_SLICE_OPEN_AT_END);
	assert_slice(&ops, "b", 1, 2002, 2101, PT_SLICE_OPEN_AT_START | PT_SLICE_OPEN_AT_END);
	assert_slice(&ops, "c", 0, 2003, 2100, PT_SLICE_OPEN_AT_START);
	ops_release(&ops);
}

static void test_tid_reused(void **state)
{
	struct op_recorder ops;
	struct rec_thread t = rec_thread(10, 11, 1, "one"), u = rec_thread(10, 11, 1, "two");

	start(&ops, NULL);
	batch_begin(&ops.builder, &t, 2000);
	batch_snap(&ops.builder, NULL, 0, 0, 2000);
	batch_enter(&ops.builder, 1, 2000);
	batch_exit(&ops.builder, 2100);
	batch_end(&ops.builder, PT_RF_LAST);
	rec_thread_exit(&ops.builder, &t, 2200);
	t.seq = 0;
	t.events = 0;
	batch_begin(&ops.builder, &t, 2000); /* a late copy of its batch */
	batch_snap(&ops.builder, NULL, 0, 0, 2000);
	batch_enter(&ops.builder, 1, 2000);
	batch_peek(&ops.builder);
	batch_begin(&ops.builder, &u, 3000);
	batch_snap(&ops.builder, NULL, 0, 0, 3000);
	batch_enter(&ops.builder, 2, 3000);
	batch_exit(&ops.builder, 3100);
	batch_end(&ops.builder, 0);
	finish(&ops);
	assert_int_equal(ops.slice_count, 2);
	assert_int_equal(ops.totals.bad_records, 0);
	assert_int_equal(ops.loss_count, 0);
	assert_int_equal(ops.totals.threads, 2);
	ops_release(&ops);
}

static void test_names_come_late(void **state)
{
	struct op_recorder ops;
	struct rec_thread t = rec_thread(10, 10, 1, "main");

	start(&ops, NULL);
	batch_begin(&ops.builder, &t, 2000);
	batch_snap(&ops.builder, NULL, 0, 0, 2000);
	batch_enter(&ops.builder, 100, 2000);
	batch_enter(&ops.builder, PT_CODE_ID_USER + 5, 2100);
	batch_enter(&ops.builder, 102, 2200);
	batch_exit(&ops.builder, 2300);
	batch_end(&ops.builder, 0);
	rec_code(&ops.builder, 100, "late", "Late.late", "/app/late.py", 7);
	rec_code(&ops.builder, PT_CODE_ID_USER + 5, "user", "", "/app/late.py", 8);
	batch_begin(&ops.builder, &t, 2400);
	batch_exit(&ops.builder, 2400);
	batch_exit(&ops.builder, 2500);
	batch_end(&ops.builder, 0);
	finish(&ops);
	assert_slice(&ops, "Late.late", 0, 2000, 2500, 0);
	assert_slice(&ops, "user", 0, 2100, 2400, 0);
	assert_slice(&ops, "<unknown code 0x66>", 0, 2200, 2300, 0);
	assert_int_equal(ops.totals.unknown_codes, 1);
	ops_release(&ops);
}

static void test_filters(void **state)
{
	static const char *const exclude[] = {"/usr/lib/*", NULL};
	struct pt_model_options options = {.exclude_files = exclude, .min_duration_ns = 50};
	struct op_recorder ops;
	struct rec_thread t = rec_thread(10, 10, 1, "main");

	start(&ops, &options);
	batch_begin(&ops.builder, &t, 2000);
	batch_snap(&ops.builder, NULL, 0, 0, 2000);
	batch_enter(&ops.builder, 1, 2000);
	batch_enter(&ops.builder, 27, 2100);
	batch_enter(&ops.builder, 2, 2200);
	batch_exit(&ops.builder, 2300);
	batch_exit(&ops.builder, 2400);
	batch_enter(&ops.builder, 3, 2500);
	batch_exit(&ops.builder, 2549); /* too short */
	batch_exit(&ops.builder, 2600);
	batch_end(&ops.builder, 0);
	finish(&ops);
	assert_int_equal(ops.slice_count, 2);
	assert_int_equal(ops_slice(&ops, "b", 0)->parent_id, ops_slice(&ops, "a", 0)->id);
	ops_release(&ops);
}

static void test_include_and_depth_limit(void **state)
{
	static const char *const include[] = {"*/lib.py", "/app/*", NULL};
	struct pt_model_options options = {.include_files = include, .max_stack_depth = 2};
	struct op_recorder ops;
	struct rec_thread t = rec_thread(10, 10, 1, "main");

	start(&ops, &options);
	rec_code(&ops.builder, 30, "no", "", "/opt/no.py", 1);
	batch_begin(&ops.builder, &t, 2000);
	batch_snap(&ops.builder, NULL, 0, 0, 2000);
	for (uint32_t i = 0; i < 4; i++)
		batch_enter(&ops.builder, i == 0 ? 30 : 26 + (i == 1), 2000 + i);
	for (uint32_t i = 0; i < 4; i++)
		batch_exit(&ops.builder, 2100 + i);
	batch_end(&ops.builder, 0);
	finish(&ops);
	assert_int_equal(ops.slice_count, 2);
	assert_int_equal(ops_slice(&ops, "Lib.lib", 0)->depth, 1);
	assert_int_equal(ops_slice(&ops, "z", 0)->depth, 2);
	ops_release(&ops);
}

#define SORTED "<built-in function sorted>"
#define APPEND "<built-in method append of list"

/* a() calls sorted(), which calls b(), which calls list.append(); then append() from a(). */
static void test_c_functions(void **state)
{
	struct op_recorder ops;
	struct rec_thread t = rec_thread(10, 10, 1, "main");
	uint32_t big = PT_WORD_ARG_MASK + 5;

	start(&ops, NULL);
	rec_cfunc(&ops.builder, 40, PT_C_FUNCTION, "sorted", "builtins");
	rec_cfunc(&ops.builder, big, PT_C_METHOD, "append", "list");
	batch_begin(&ops.builder, &t, 2000);
	batch_snap(&ops.builder, NULL, 0, 0, 2000);
	batch_enter(&ops.builder, 1, 2000);
	batch_c_enter(&ops.builder, 40, 2100);
	batch_enter(&ops.builder, 2, 2200);
	batch_c_enter(&ops.builder, big, 2300);
	batch_c_exit(&ops.builder, 2310);
	batch_exit(&ops.builder, 2400);
	batch_c_exit(&ops.builder, 2500);
	batch_c_exit(&ops.builder, 2510); /* of nothing: ignored */
	batch_c_enter(&ops.builder, big, 2600);
	batch_exit(&ops.builder, 2700); /* and its exit got lost: it ends with its caller */
	batch_end(&ops.builder, 0);
	finish(&ops);
	assert_int_equal(ops.slice_count, 5);
	assert_slice(&ops, SORTED, 0, 2100, 2500, 0);
	assert_slice(&ops, "b", 0, 2200, 2400, 0);
	assert_slice(&ops, "<built-in method append of list", 0, 2300, 2310, 0);
	assert_slice(&ops, "<built-in method append of list", 1, 2600, 2700, 0);
	assert_int_equal(ops_slice(&ops, "b", 0)->parent_id, ops_slice(&ops, SORTED, 0)->id);
	assert_int_equal(ops_slice(&ops, SORTED, 0)->parent_id, ops_slice(&ops, "a", 0)->id);
	assert_int_equal(ops_slice(&ops, APPEND, 1)->parent_id, ops_slice(&ops, "a", 0)->id);
	assert_int_equal(ops.totals.events, 10);
	ops_release(&ops);
}

/* Probed at themselves: one calls another with no frame between, and each has its end. */
static void test_c_functions_nested(void **state)
{
	struct op_recorder ops;
	struct rec_thread t = rec_thread(10, 10, 1, "main");

	start(&ops, NULL);
	rec_cfunc(&ops.builder, 40, PT_C_FUNCTION | PT_C_PROBED, "sorted", "builtins");
	rec_cfunc(&ops.builder, 41, PT_C_METHOD | PT_C_PROBED, "append", "list");
	batch_begin(&ops.builder, &t, 2000);
	batch_snap(&ops.builder, NULL, 0, 0, 2000);
	batch_enter(&ops.builder, 1, 2000);
	batch_c_enter(&ops.builder, 40, 2100);
	batch_c_enter(&ops.builder, 41, 2200);
	batch_enter(&ops.builder, 2, 2300);
	batch_exit(&ops.builder, 2400);
	batch_c_exit(&ops.builder, 2500);
	batch_c_exit(&ops.builder, 2600);
	batch_exit(&ops.builder, 2700);
	batch_end(&ops.builder, 0);
	finish(&ops);
	assert_int_equal(ops.slice_count, 4);
	assert_slice(&ops, SORTED, 0, 2100, 2600, 0);
	assert_slice(&ops, APPEND, 0, 2200, 2500, 0);
	assert_int_equal(ops_slice(&ops, APPEND, 0)->parent_id, ops_slice(&ops, SORTED, 0)->id);
	assert_int_equal(ops_slice(&ops, "b", 0)->parent_id, ops_slice(&ops, APPEND, 0)->id);
	ops_release(&ops);
}

/* One of several names is enough; what was chosen while recording need not match at all. */
static void test_c_function_names(void **state)
{
	static const char *const globs[] = {"_thread.lock.acquire_lock", "other", NULL};
	struct pt_model_options options = {.c_globs = globs};

	for (int chosen = 0; chosen < 2; chosen++) {
		struct rec_thread t = rec_thread(10, 10, 1, "main");
		struct op_recorder ops;

		options.c_chosen = chosen;
		start(&ops, &options);
		rec_cfunc(&ops.builder, 40, PT_C_METHOD | PT_C_PROBED, "acquire|acquire_lock",
			  "_thread.lock");
		rec_cfunc(&ops.builder, 41, PT_C_METHOD | PT_C_PROBED, "append", "list");
		batch_begin(&ops.builder, &t, 2000);
		batch_snap(&ops.builder, NULL, 0, 0, 2000);
		batch_enter(&ops.builder, 1, 2000);
		for (uint32_t i = 40; i < 42; i++) {
			batch_c_enter(&ops.builder, i, 2000 + 10 * i);
			batch_c_exit(&ops.builder, 2003 + 10 * i);
		}
		batch_exit(&ops.builder, 2900);
		batch_end(&ops.builder, 0);
		finish(&ops);
		assert_int_equal(ops_count(&ops, "<built-in method acquire|acquir"), 1);
		assert_int_equal(ops_count(&ops, APPEND), chosen);
		ops_release(&ops);
	}
}

static void test_c_function_filter(void **state)
{
	static const char *const globs[] = {"time.*", "append", NULL};
	struct pt_model_options options = {.c_globs = globs};
	struct op_recorder ops;
	struct rec_thread t = rec_thread(10, 10, 1, "main");

	for (int none = 0; none < 2; none++) {
		options.no_c_functions = none;
		t = rec_thread(10, 10, 1, "main");
		start(&ops, &options);
		rec_cfunc(&ops.builder, 40, PT_C_FUNCTION, "sleep", "time");
		rec_cfunc(&ops.builder, 41, PT_C_FUNCTION, "sleep", "other");
		rec_cfunc(&ops.builder, 42, PT_C_METHOD, "append", "list");
		batch_begin(&ops.builder, &t, 2000);
		batch_snap(&ops.builder, NULL, 0, 0, 2000);
		batch_enter(&ops.builder, 1, 2000);
		for (uint32_t i = 40; i < 43; i++) {
			batch_c_enter(&ops.builder, i, 2000 + 10 * i);
			batch_enter(&ops.builder, 2, 2001 + 10 * i);
			batch_exit(&ops.builder, 2002 + 10 * i);
			batch_c_exit(&ops.builder, 2003 + 10 * i);
		}
		batch_exit(&ops.builder, 2900);
		batch_end(&ops.builder, 0);
		finish(&ops);
		assert_int_equal(ops_count(&ops, "<built-in function sleep>"), !none);
		assert_int_equal(ops_count(&ops, APPEND), !none);
		assert_int_equal(ops_count(&ops, "b"), 3);
		/* what is left out is nobody's caller */
		assert_int_equal(ops_slice(&ops, "b", 1)->parent_id, ops_slice(&ops, "a", 0)->id);
		assert_int_equal(ops_slice(&ops, "b", 1)->depth, 2);
		ops_release(&ops);
	}
}

/* A loss while a C function runs: it ends there, and what the snapshot shows goes on. */
static void test_c_function_loss(void **state)
{
	struct op_recorder ops;
	struct rec_thread t = rec_thread(10, 10, 1, "main");
	uint32_t open[2] = {2, 1};

	start(&ops, NULL);
	rec_cfunc(&ops.builder, 40, PT_C_FUNCTION, "sorted", "");
	batch_begin(&ops.builder, &t, 2000);
	batch_snap(&ops.builder, NULL, 0, 0, 2000);
	batch_enter(&ops.builder, 1, 2000);
	batch_c_enter(&ops.builder, 40, 2100);
	batch_enter(&ops.builder, 2, 2200);
	batch_end(&ops.builder, 0);
	batch_begin(&ops.builder, &t, 3000);
	batch_exit(&ops.builder, 3000);
	batch_enter(&ops.builder, 2, 3100);
	batch_lose(&ops.builder);
	batch_begin(&ops.builder, &t, 4000);
	batch_snap(&ops.builder, open, 2, 2, 4000);
	batch_exit(&ops.builder, 4100);
	batch_c_exit(&ops.builder, 4200); /* it may have been another call */
	batch_exit(&ops.builder, 4300);
	batch_end(&ops.builder, 0);
	finish(&ops);
	assert_int_equal(ops_count(&ops, SORTED), 1);
	assert_int_equal(ops_slice(&ops, SORTED, 0)->flags, PT_SLICE_INTO_LOSS);
	assert_int_equal(ops_count(&ops, "b"), 2);
	assert_int_equal(ops_slice(&ops, "b", 1)->parent_id, ops_slice(&ops, "a", 0)->id);
	ops_release(&ops);
}

static void test_very_deep(void **state)
{
	const uint32_t deep = 3u << 20; /* an exit carries 21 bits of the depth */
	struct op_recorder ops;
	struct rec_thread t = rec_thread(10, 10, 1, "main");
	uint64_t ns = 2000;

	start(&ops, NULL);
	batch_begin(&ops.builder, &t, ns);
	batch_snap(&ops.builder, NULL, 0, 0, ns);
	batch_enter(&ops.builder, 1, ns);
	batch_depth(&ops.builder, deep, ++ns);
	for (int i = 0; i < 3; i++)
		batch_enter(&ops.builder, 2, ++ns);
	for (int i = 0; i < 3; i++)
		batch_exit(&ops.builder, ++ns);
	batch_exit_to(&ops.builder, (2u << 20) - 1, ++ns); /* hidden ones, over the 21 bits' edge */
	batch_exit_to(&ops.builder, 0, ++ns);
	batch_end(&ops.builder, 0);
	finish(&ops);
	assert_int_equal(ops.slice_count, 4);
	assert_int_equal(ops.totals.stack_jumps, 0);
	assert_slice(&ops, "a", 0, 2000, ns, 0);
	ops_release(&ops);
}

static void test_damage_is_counted(void **state)
{
	struct op_recorder ops;
	struct rec_thread t = rec_thread(10, 10, 1, "main");

	start(&ops, NULL);
	batch_begin(&ops.builder, &t, 2000);
	batch_snap(&ops.builder, NULL, 0, 0, 2000);
	batch_enter(&ops.builder, 1, 2000);
	batch_end(&ops.builder, 0);
	batch_begin(&ops.builder, &t, 2100);
	batch_enter(&ops.builder, 2, 2100);
	ops.builder.batch.events = 7; /* not what the words say */
	batch_end(&ops.builder, 0);
	t.events -= 6;
	batch_begin(&ops.builder, &t, 2200);
	batch_exit_to(&ops.builder, 0, 2200);
	batch_end(&ops.builder, 0);
	finish(&ops);
	assert_int_equal(ops.totals.bad_records, 1);
	assert_int_equal(ops.losses[0].events, 1);
	assert_int_equal(ops.slice_count, 1);
	assert_slice(&ops, "a", 0, 2000, 2001, PT_SLICE_INTO_LOSS);
	ops_release(&ops);
}

static int refuse(const struct pt_op *op, void *ctx)
{
	(void)ctx;
	return op->kind == PT_OP_SLICE ? -28 : 0;
}

static void test_sink_error_stops(void **state)
{
	struct pt_capture_info info = {.start_mono_ns = 1000};
	struct rec_thread t = rec_thread(10, 10, 1, "main");
	struct rec_builder b;
	struct pt_model *model;
	struct pt_totals totals;

	assert_int_equal(pt_model_new(NULL, &info, refuse, NULL, &model), 0);
	rec_init(&b, (rec_fn)NULL, NULL);
	batch_begin(&b, &t, 2000);
	batch_snap(&b, NULL, 0, 0, 2000);
	batch_enter(&b, 1, 2000);
	batch_exit(&b, 2100);
	b.batch.hdr.len = (uint32_t)(sizeof(b.batch) + 8 * b.batch.word_count);
	assert_int_equal(pt_model_record(model, &b.batch.hdr, b.batch.hdr.len), -28);
	assert_int_equal(pt_model_record(model, &b.batch.hdr, b.batch.hdr.len), -28);
	assert_int_equal(pt_model_finish(model, &totals), -28);
	pt_model_free(model);
}

/* ---- properties ---- */

static uint64_t random_state;

static uint32_t random_below(uint32_t limit)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return (uint32_t)(random_state >> 20) % limit;
}

/* A simulated thread: what really happens, and what the stream tells of it. */
struct sim {
	struct rec_thread t;
	uint32_t stack[64]; /* code ids by depth - 1; 0: hidden */
	uint64_t ns, calls, lost;
	bool need_snap;
};

static void sim_snapshot(struct rec_builder *b, struct sim *sim)
{
	uint32_t visible = 0;

	for (uint32_t i = 0; i < sim->t.depth; i++)
		visible += sim->stack[i] != 0;
	batch_snap_head(b, visible, sim->t.depth, sim->ns);
	for (uint32_t i = sim->t.depth; i > 0; i--) {
		if (sim->stack[i - 1])
			batch_open(b, &sim->stack[i - 1], 1, i, sim->ns);
	}
	sim->need_snap = false;
}

static void sim_event(struct rec_builder *b, struct sim *sim)
{
	uint32_t depth = sim->t.depth;

	sim->ns += random_below(3); /* often no time passes */
	if (depth < 20 && (depth == 0 || random_below(2))) {
		if (depth < 18 && random_below(8) == 0) {
			sim->stack[depth++] = 0;
			batch_depth(b, depth, sim->ns);
		}
		sim->stack[depth] = 1 + random_below(26);
		batch_enter(b, sim->stack[depth], sim->ns);
		sim->calls++;
	} else {
		batch_exit_to(b, random_below(6) ? depth - 1 : random_below(depth), sim->ns);
	}
}

static void sim_batch(struct rec_builder *b, struct sim *sim, bool may_lose)
{
	uint32_t events = 1 + random_below(40);

	batch_begin(b, &sim->t, sim->ns);
	if (sim->need_snap)
		sim_snapshot(b, sim);
	for (uint32_t i = 0; i < events; i++) {
		sim_event(b, sim);
		if (random_below(10) == 0)
			batch_peek(b);
	}
	if (may_lose && random_below(4) == 0) {
		batch_lose(b);
		sim->need_snap = true;
	} else {
		batch_end(b, 0);
	}
}

static void test_random_without_loss(void **state)
{
	for (uint64_t seed = 1; seed <= 300; seed++) {
		struct op_recorder ops;
		struct sim sims[3];
		uint64_t calls = 0, events = 0;

		random_state = seed * 0x9e3779b97f4a7c15ull;
		start(&ops, NULL);
		for (uint32_t i = 0; i < 3; i++)
			sims[i] = (struct sim){
			    .t = rec_thread(10, 10 + i, 1, "t"), .ns = 2000, .need_snap = true};
		for (int i = 0; i < 30; i++)
			sim_batch(&ops.builder, &sims[random_below(3)], false);
		for (int i = 0; i < 3; i++) {
			calls += sims[i].calls;
			events += sims[i].t.events;
		}
		finish(&ops);
		assert_int_equal(ops.slice_count, calls);
		assert_int_equal(ops.totals.events, events);
		assert_int_equal(ops.totals.bad_records, 0);
		assert_int_equal(ops.totals.stack_jumps, 0);
		assert_int_equal(ops.loss_count, 0);
		ops_release(&ops);
	}
}

static void test_random_with_loss(void **state)
{
	for (uint64_t seed = 1; seed <= 300; seed++) {
		struct op_recorder ops;
		struct sim sim = {.t = rec_thread(10, 10, 1, "t"), .ns = 2000, .need_snap = true};
		uint64_t told = 0;

		random_state = seed * 0x9e3779b97f4a7c15ull;
		start(&ops, NULL);
		for (int i = 0; i < 40; i++)
			sim_batch(&ops.builder, &sim, true);
		rec_thread_exit(&ops.builder, &sim.t, sim.ns + 10);
		finish(&ops);
		for (size_t i = 0; i < ops.loss_count; i++)
			told += ops.losses[i].events;
		/* every event is either there or counted as lost */
		assert_int_equal(ops.totals.events + told, sim.t.events);
		assert_int_equal(ops.totals.lost_events, told);
		assert_int_equal(ops.totals.bad_records, 0);
		ops_release(&ops);
	}
}

/* Words at random: whatever comes, what leaves is balanced and nested. */
static void test_random_words(void **state)
{
	for (uint64_t seed = 1; seed <= 500; seed++) {
		struct op_recorder ops;
		struct rec_thread t = rec_thread(10, 10, 1, "t");

		random_state = seed * 0x9e3779b97f4a7c15ull;
		start(&ops, NULL);
		for (int i = 0; i < 10; i++) {
			batch_begin(&ops.builder, &t, 2000 + random_below(1000));
			for (int j = 0; j < 30; j++) {
				uint64_t ns = ops.builder.batch.base_ns + random_below(100);
				uint32_t ids[3] = {1, 2, 3}, depth = random_below(8);
				const int64_t values[3] = {1, 2, 3};

				switch (random_below(10)) {
				case 6:
					batch_c_enter(&ops.builder, 30 + random_below(2), ns);
					break;
				case 7:
					batch_c_exit(&ops.builder, ns);
					break;
				case 0:
					batch_depth(&ops.builder, depth, ns);
					break;
				case 8:
					batch_paused(&ops.builder,
						     depth | random_below(2) * PT_PAUSED_C_OVER,
						     1500 + random_below(1000),
						     random_below(2) * (ns - random_below(50)), ns);
					break;
				case 9:
					batch_rt(&ops.builder, PT_X_RT_BEGIN + random_below(3),
						 1 + random_below(5), 0, values, random_below(4),
						 ns);
					break;
				case 1:
					batch_snap_head(&ops.builder, random_below(5), depth, ns);
					break;
				case 2:
					batch_open(&ops.builder, ids, random_below(4), depth, ns);
					break;
				case 3:
					batch_exit_to(&ops.builder, depth, ns);
					break;
				default:
					batch_enter(&ops.builder, 1 + random_below(26), ns);
					break;
				}
			}
			t.seq += random_below(3);
			t.events += random_below(3);
			batch_end(&ops.builder, random_below(20) ? 0 : PT_RF_LAST);
			if (random_below(8) == 0)
				rec_control(&ops.builder, 1 + random_below(3),
					    1500 + random_below(2000));
		}
		finish(&ops);
		ops_release(&ops);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_calls_nest),
	    cmocka_unit_test(test_equal_times_move_apart),
	    cmocka_unit_test(test_open_at_start_and_end),
	    cmocka_unit_test(test_exit_first_named_from_outside),
	    cmocka_unit_test(test_hidden_frames),
	    cmocka_unit_test(test_silent_thread),
	    cmocka_unit_test(test_loss_heals),
	    cmocka_unit_test(test_loss_at_both_ends),
	    cmocka_unit_test(test_peeks),
	    cmocka_unit_test(test_peek_rewritten),
	    cmocka_unit_test(test_no_snapshot_at_depth_0),
	    cmocka_unit_test(test_peek_then_loss),
	    cmocka_unit_test(test_snapshot_over_batches),
	    cmocka_unit_test(test_depth_jump),
	    cmocka_unit_test(test_bounded_walk),
	    cmocka_unit_test(test_fork_exec_exit),
	    cmocka_unit_test(test_exit_before_last_thread),
	    cmocka_unit_test(test_image_replaced),
	    cmocka_unit_test(test_tid_reused),
	    cmocka_unit_test(test_names_come_late),
	    cmocka_unit_test(test_filters),
	    cmocka_unit_test(test_include_and_depth_limit),
	    cmocka_unit_test(test_c_functions),
	    cmocka_unit_test(test_c_functions_nested),
	    cmocka_unit_test(test_c_function_names),
	    cmocka_unit_test(test_c_function_filter),
	    cmocka_unit_test(test_c_function_loss),
	    cmocka_unit_test(test_very_deep),
	    cmocka_unit_test(test_damage_is_counted),
	    cmocka_unit_test(test_sink_error_stops),
	    cmocka_unit_test(test_random_without_loss),
	    cmocka_unit_test(test_random_with_loss),
	    cmocka_unit_test(test_random_words),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
