// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/* Thread states: turns become states that join, a loss is shown, nonsense is refused. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/syscalls.h"
#include "op_recorder.h"

static void start(struct op_recorder *ops, struct rec_thread *t)
{
	ops_init(ops, NULL);
	*t = rec_thread(10, 11, 1, "main");
	rec_code(&ops->builder, 1, "f", "", "/app/main.py", 1);
	rec_proc(&ops->builder, PT_PROC_ATTACH, 10, 1, 1000, 1, "python3", "python3 main.py", 0);
}

static void finish(struct op_recorder *ops)
{
	const char *wrong = ops_finish(ops);

	if (wrong)
		fail_msg("%s", wrong);
}

static void assert_state(const struct op_recorder *ops, size_t i, enum pt_state state,
			 const char *name, uint64_t begin_ns, uint64_t end_ns, const char *args)
{
	const struct pt_op_state *op = &ops->states[i].op;

	if (i >= ops->state_count)
		fail_msg("only %zu states", ops->state_count);
	if (op->state != state || strcmp(ops->states[i].name, name) || op->begin_ns != begin_ns ||
	    op->end_ns != end_ns || strcmp(ops->states[i].args, args))
		fail_msg("%zu: %s %llu..%llu (%s), not %s %llu..%llu (%s)", i, ops->states[i].name,
			 (unsigned long long)op->begin_ns, (unsigned long long)op->end_ns,
			 ops->states[i].args, name, (unsigned long long)begin_ns,
			 (unsigned long long)end_ns, args);
}

/* Blocked in futex(). */
static struct pt_rec_sched turn(uint32_t seq, uint64_t ns)
{
	return (struct pt_rec_sched){
	    .seq = seq,
	    .run_ns = ns,
	    .out_ns = ns + 10,
	    .wake_ns = ns + 30,
	    .in_ns = ns + 35,
	    .state = 1,
	    .syscall = 202,
	};
}

static void test_a_turn(void **state)
{
	struct pt_rec_sched second = turn(1, 2035), third = turn(2, 2070), last = turn(3, 2105);
	struct op_recorder ops;
	struct rec_thread t;

	start(&ops, &t);
	rec_sched(&ops.builder, &t, turn(0, 2000));
	second.state = 2;
	second.syscall = PT_SCHED_NO_CALL;
	second.flags = PT_SCHED_IO;
	rec_sched(&ops.builder, &t, second);
	third.state = 0;
	third.wake_ns = third.out_ns;
	rec_sched(&ops.builder, &t, third);
	last.wake_ns = last.in_ns = 0;
	last.hdr.flags = PT_SCHED_OPEN;
	last.hdr.time_ns = 3000;
	rec_sched(&ops.builder, &t, last);
	finish(&ops);
	assert_int_equal(ops.state_count, 10);
	assert_state(&ops, 0, PT_STATE_RUNNING, "running", 2000, 2010, "cpu=0");
	assert_state(&ops, 1, PT_STATE_BLOCKED, "blocked: futex", 2010, 2030, "state=S");
	assert_state(&ops, 2, PT_STATE_RUNNABLE, "runnable", 2030, 2035, "after=it was woken");
	assert_state(&ops, 4, PT_STATE_BLOCKED, "blocked: no system call (D)", 2045, 2065,
		     "state=D waits for a device=1");
	assert_state(&ops, 7, PT_STATE_RUNNABLE, "runnable", 2080, 2105, "after=it lost the CPU");
	assert_state(&ops, 8, PT_STATE_RUNNING, "running", 2105, 2115, "cpu=0");
	assert_state(&ops, 9, PT_STATE_BLOCKED, "blocked: futex", 2115, 3000, "state=S");
	assert_int_equal(ops.totals.states, 10);
	assert_int_equal(ops.totals.lost_states, 0);
	assert_int_equal(ops.thread_count, 1);
	ops_release(&ops);
}

/* The wakeup was not seen; the state's bits are gone; a call that has no name. */
static void test_what_is_not_known(void **state)
{
	struct pt_rec_sched a = turn(0, 2000), b = turn(1, 2035), c = turn(2, 2070);
	struct op_recorder ops;
	struct rec_thread t;

	start(&ops, &t);
	a.wake_ns = 0;
	rec_sched(&ops.builder, &t, a);
	b.state = 0xff;
	b.syscall = PT_SCHED_CALL_UNKNOWN;
	rec_sched(&ops.builder, &t, b);
	c.syscall = 30000;
	rec_sched(&ops.builder, &t, c);
	finish(&ops);
	assert_int_equal(ops.state_count, 8);
	assert_state(&ops, 1, PT_STATE_BLOCKED, "blocked: futex", 2010, 2035, "state=S");
	assert_state(&ops, 3, PT_STATE_BLOCKED, "blocked: ? (?)", 2045, 2065, "state=?");
	assert_state(&ops, 6, PT_STATE_BLOCKED, "blocked: system call 30000", 2080, 2100,
		     "state=S");
	ops_release(&ops);
}

static void test_loss(void **state)
{
	struct op_recorder ops;
	struct rec_thread t;

	start(&ops, &t);
	rec_sched(&ops.builder, &t, turn(0, 2000));
	rec_sched(&ops.builder, &t, turn(3, 2500));
	finish(&ops);
	assert_int_equal(ops.state_count, 7);
	assert_state(&ops, 3, PT_STATE_LOST, "states lost", 2035, 2500, "records=2");
	assert_state(&ops, 4, PT_STATE_RUNNING, "running", 2500, 2510, "cpu=0");
	assert_int_equal(ops.totals.lost_states, 2);
	ops_release(&ops);
}

/* The thread's first turns are missing. */
static void test_loss_at_first(void **state)
{
	struct op_recorder ops;
	struct rec_thread t;

	start(&ops, &t);
	rec_sched(&ops.builder, &t, turn(2, 2000));
	finish(&ops);
	assert_int_equal(ops.state_count, 4);
	assert_state(&ops, 0, PT_STATE_LOST, "states lost", 1999, 2000, "records=2");
	assert_state(&ops, 1, PT_STATE_RUNNING, "running", 2000, 2010, "cpu=0");
	assert_int_equal(ops.totals.lost_states, 2);
	ops_release(&ops);
}

/* The thread ends, or is not recorded for a while; a tid is used again. */
static void test_end_and_again(void **state)
{
	struct pt_rec_sched end = turn(1, 2035), other = turn(3, 5035);
	struct op_recorder ops;
	struct rec_thread t;

	start(&ops, &t);
	rec_sched(&ops.builder, &t, turn(0, 2000));
	end.wake_ns = end.in_ns = 0;
	end.state = 0;
	end.hdr.flags = other.hdr.flags = PT_SCHED_END;
	rec_sched(&ops.builder, &t, end);
	rec_sched(&ops.builder, &t, turn(2, 5000));
	other.wake_ns = other.in_ns = 0;
	rec_sched(&ops.builder, &t, other);
	rec_sched(&ops.builder, &t, turn(0, 7000));
	finish(&ops);
	assert_int_equal(ops.state_count, 3 + 1 + 3 + 1 + 3);
	assert_state(&ops, 3, PT_STATE_RUNNING, "running", 2035, 2045, "cpu=0");
	assert_state(&ops, 4, PT_STATE_RUNNING, "running", 5000, 5010, "cpu=0");
	assert_state(&ops, 8, PT_STATE_RUNNING, "running", 7000, 7010, "cpu=0");
	assert_int_equal(ops.totals.lost_states, 0);
	ops_release(&ops);
}

static void test_clear(void **state)
{
	struct op_recorder ops;
	struct rec_thread t;

	start(&ops, &t);
	rec_sched(&ops.builder, &t, turn(0, 2000));
	rec_control(&ops.builder, PT_CONTROL_CLEAR, 2060);
	rec_sched(&ops.builder, &t, turn(1, 2035));
	rec_sched(&ops.builder, &t, turn(2, 2070));
	finish(&ops);
	assert_int_equal(ops.state_count, 5);
	assert_state(&ops, 0, PT_STATE_BLOCKED, "blocked: futex", 2060, 2065, "state=S");
	assert_int_equal(ops.totals.states, 5);
	ops_release(&ops);
}

/* What overlaps, or comes twice, is damage; nothing comes out of it. */
static void test_damage(void **state)
{
	struct pt_rec_sched bad = turn(1, 2035);
	struct op_recorder ops;
	struct rec_thread t, u;

	start(&ops, &t);
	rec_sched(&ops.builder, &t, turn(0, 2000));
	rec_sched(&ops.builder, &t, turn(1, 2020));
	bad.wake_ns = bad.out_ns - 1; /* the decoder refuses these */
	rec_sched(&ops.builder, &t, bad);
	bad = turn(1, 2035);
	bad.hdr.time_ns = bad.in_ns - 1;
	rec_sched(&ops.builder, &t, bad);
	bad = turn(1, 0);
	bad.run_ns = 0;
	rec_sched(&ops.builder, &t, bad);
	u = t;
	u.tid = 0x7fffffff; /* its track would have no tid */
	rec_sched(&ops.builder, &u, turn(0, 2000));
	rec_sched(&ops.builder, &t, turn(1, 2035));
	rec_sched(&ops.builder, &t, turn(1, 2070));
	finish(&ops);
	assert_int_equal(ops.totals.bad_records, 6);
	assert_int_equal(ops.state_count, 6);
	ops_release(&ops);
}

/* A thread whose states are told before its first batch, after an exec: its calls keep their times.
 */
static void test_states_come_before_calls(void **state)
{
	const struct pt_op_slice *slice;
	struct op_recorder ops;
	struct rec_thread t, u;

	start(&ops, &t);
	u = t;
	u.image_id = 2;
	batch_begin(&ops.builder, &t, 1500);
	batch_snap(&ops.builder, NULL, 0, 0, 1500);
	batch_enter(&ops.builder, 1, 1500);
	batch_exit(&ops.builder, 1600);
	batch_end(&ops.builder, 0);
	rec_sched(&ops.builder, &u, turn(0, 2000));
	batch_begin(&ops.builder, &u, 2001);
	batch_snap(&ops.builder, NULL, 0, 0, 2001);
	batch_enter(&ops.builder, 1, 2001);
	batch_exit(&ops.builder, 2009);
	batch_end(&ops.builder, 0);
	finish(&ops);
	slice = ops_slice(&ops, "f", 1);
	assert_non_null(slice);
	assert_int_equal(slice->begin_ns, 2001);
	assert_int_equal(slice->end_ns, 2009);
	ops_release(&ops);
}

/* ns_tid: of the thread that waits; that of the other, 12, is 7. */
static const char *wait_args(struct op_recorder *ops, uint32_t ns_tid, int64_t holder)
{
	const int64_t woken[] = {0};
	struct rec_thread t, other;

	start(ops, &t);
	other = rec_thread(10, 12, 1, "hog");
	other.ns_tid = 7;
	t.ns_tid = ns_tid;
	rec_thread_start(&ops->builder, &t, 1500);
	rec_thread_start(&ops->builder, &other, 1500);
	batch_begin(&ops->builder, &other, 1500);
	batch_snap(&ops->builder, NULL, 0, 0, 1500);
	batch_end(&ops->builder, 0);
	batch_begin(&ops->builder, &t, 1500);
	batch_snap(&ops->builder, NULL, 0, 0, 1500);
	batch_enter(&ops->builder, 1, 1500);
	batch_rt(&ops->builder, PT_X_RT_BEGIN, PT_RT_GIL, 0, &holder, 1, 1510);
	batch_rt(&ops->builder, PT_X_RT_END, PT_RT_GIL, 0, woken, 1, 1520);
	batch_exit(&ops->builder, 1600);
	batch_end(&ops->builder, 0);
	finish(ops);
	assert_int_equal(ops->span_count, 1);
	return ops->spans[0].args;
}

static void test_holder(void **state)
{
	struct op_recorder ops;

	assert_string_equal(wait_args(&ops, 6, 7), "timed waits=1 holder=12 holder name=hog");
	ops_release(&ops);
	/* a thread that has had no events: what it is called outside is known only if it has no
	 * namespace of its own */
	assert_string_equal(wait_args(&ops, 6, 4000), "timed waits=1");
	ops_release(&ops);
	assert_string_equal(wait_args(&ops, 11, 4000), "timed waits=1 holder=4000");
	ops_release(&ops);
	assert_string_equal(wait_args(&ops, 11, -5), "timed waits=1");
	ops_release(&ops);
}

static void test_names(void **state)
{
	assert_string_equal(pt_syscall_name(0), "read");
	assert_string_equal(pt_syscall_name(202), "futex");
	assert_null(pt_syscall_name(400));
	assert_null(pt_syscall_name(-1));
	assert_null(pt_syscall_name(100000));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_a_turn),        cmocka_unit_test(test_what_is_not_known),
	    cmocka_unit_test(test_loss),          cmocka_unit_test(test_loss_at_first),
	    cmocka_unit_test(test_end_and_again), cmocka_unit_test(test_clear),
	    cmocka_unit_test(test_damage),        cmocka_unit_test(test_states_come_before_calls),
	    cmocka_unit_test(test_holder),        cmocka_unit_test(test_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
