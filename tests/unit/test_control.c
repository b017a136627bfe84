// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/* Pauses, clears and copies in the model and the writers; the control socket. */
#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "op_recorder.h"
#include "record/control.h"
#include "record/output.h"
#include "scratch.h"

/* ---- the model ---- */

static void start(struct op_recorder *ops)
{
	ops_init(ops, NULL);
	ops_define(ops);
	rec_proc(&ops->builder, PT_PROC_ATTACH, 10, 1, 1000, 1, "python3", "python3 main.py", 0);
}

static void finish(struct op_recorder *ops)
{
	const char *wrong = ops_finish(ops);

	if (wrong)
		fail_msg("%s", wrong);
	assert_int_equal(ops->totals.bad_records, 0);
	assert_int_equal(ops->totals.stack_jumps, 0);
	assert_int_equal(ops->totals.lost_events, 0);
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

/* a calls b calls c; paused; c and b return, b is called once more and calls d; resumed. */
static void test_pause(void **state)
{
	static const uint32_t open[] = {4, 2, 1};
	struct op_recorder ops;
	struct rec_thread t = rec_thread(10, 10, 1, "main");

	start(&ops);
	batch_begin(&ops.builder, &t, 2000);
	batch_enter(&ops.builder, 1, 2000);
	batch_enter(&ops.builder, 2, 2100);
	batch_enter(&ops.builder, 3, 2200);
	rec_control(&ops.builder, PT_CONTROL_PAUSE, 3000);
	rec_control(&ops.builder, PT_CONTROL_RESUME, 4000);
	batch_paused(&ops.builder, 1, 3000, 4000, 4500);
	batch_snap(&ops.builder, open, 3, 3, 4500);
	batch_exit_to(&ops.builder, 2, 4500);
	batch_exit_to(&ops.builder, 0, 5000);
	batch_end(&ops.builder, 0);
	finish(&ops);
	assert_int_equal(ops.slice_count, 5);
	assert_slice(&ops, "c", 0, 2200, 3000, PT_SLICE_INTO_PAUSE);
	assert_slice(&ops, "b", 0, 2100, 3001, PT_SLICE_INTO_PAUSE);
	assert_slice(&ops, "b", 1, 4000, 5000, PT_SLICE_AFTER_PAUSE);
	assert_slice(&ops, "d", 0, 4001, 4500, PT_SLICE_AFTER_PAUSE);
	assert_slice(&ops, "a", 0, 2000, 5001, 0);
	assert_int_equal(ops.totals.pauses, 1);
	assert_int_equal(ops.totals.paused_ns, 1000);
	assert_int_equal(ops.instant_count, 2);
	assert_string_equal(ops.instants[0].name, "recording paused");
	assert_int_equal(ops.instants[0].ns, 3000);
	assert_string_equal(ops.instants[1].name, "recording resumed");
	assert_int_equal(ops.instants[1].ns, 4000);
	ops_release(&ops);
}

/* a calls b calls c; c ends in the pause, and the return of b is what comes next: the snapshot was
 * taken behind it. */
static void test_pause_then_exit(void **state)
{
	static const uint32_t open[] = {1};
	struct op_recorder ops;
	struct rec_thread t = rec_thread(10, 10, 1, "main");

	start(&ops);
	batch_begin(&ops.builder, &t, 2000);
	batch_enter(&ops.builder, 1, 2000);
	batch_enter(&ops.builder, 2, 2100);
	batch_enter(&ops.builder, 3, 2200);
	batch_paused(&ops.builder, 2, 3000, 4000, 4500);
	batch_snap(&ops.builder, open, 1, 1, 4500);
	batch_exit_to(&ops.builder, 1, 4600);
	batch_enter(&ops.builder, 4, 4700);
	batch_exit(&ops.builder, 4800);
	batch_paused(&ops.builder, 1, 5000, 6000, 6500);
	batch_snap(&ops.builder, NULL, 0, 0, 6500);
	batch_exit_to(&ops.builder, 0, 6600);
	batch_end(&ops.builder, 0);
	finish(&ops);
	assert_slice(&ops, "c", 0, 2200, 3000, PT_SLICE_INTO_PAUSE);
	assert_slice(&ops, "b", 0, 2100, 4600, 0);
	assert_slice(&ops, "d", 0, 4700, 4800, 0);
	assert_slice(&ops, "a", 0, 2000, 6600, 0);
	ops_release(&ops);
}

/* a calls a C function that calls b; paused; b returns, and is called once more. The C function is
 * the same all the time, or has returned as well (over) and is not the one that called b. */
static void test_pause_in_c(void **state)
{
	static const uint32_t open[] = {2, 1};

	for (int over = 0; over < 2; over++) {
		struct op_recorder ops;
		struct rec_thread t = rec_thread(10, 10, 1, "main");

		start(&ops);
		rec_cfunc(&ops.builder, 40, PT_C_FUNCTION, "sorted", "builtins");
		batch_begin(&ops.builder, &t, 2000);
		batch_enter(&ops.builder, 1, 2000);
		batch_c_enter(&ops.builder, 40, 2100);
		batch_enter(&ops.builder, 2, 2200);
		batch_paused(&ops.builder, over ? 1 | PT_PAUSED_C_OVER : 1, 3000, 4000, 4500);
		batch_snap(&ops.builder, open, 2, 2, 4500);
		batch_exit_to(&ops.builder, 1, 4500);
		if (!over)
			batch_c_exit(&ops.builder, 4600);
		batch_exit_to(&ops.builder, 0, 5000);
		batch_end(&ops.builder, 0);
		finish(&ops);
		assert_int_equal(ops.slice_count, 4);
		assert_slice(&ops, "b", 0, 2200, 3000, PT_SLICE_INTO_PAUSE);
		assert_slice(&ops, "b", 1, 4000, 4500, PT_SLICE_AFTER_PAUSE);
		assert_slice(&ops, "a", 0, 2000, 5000, 0);
		if (over)
			assert_slice(&ops, "<built-in function sorted>", 0, 2100, 3001,
				     PT_SLICE_INTO_PAUSE);
		else
			assert_slice(&ops, "<built-in function sorted>", 0, 2100, 4600, 0);
		assert_int_equal(ops_slice(&ops, "b", 1)->depth, 3 - over);
		ops_release(&ops);
	}
}

/* Paused within a C function, which calls nothing: it stays, or is over. */
static void test_pause_on_c(void **state)
{
	static const uint32_t open[] = {1};

	for (int over = 0; over < 2; over++) {
		struct op_recorder ops;
		struct rec_thread t = rec_thread(10, 10, 1, "main");

		start(&ops);
		rec_cfunc(&ops.builder, 40, PT_C_FUNCTION, "sorted", "builtins");
		batch_begin(&ops.builder, &t, 2000);
		batch_enter(&ops.builder, 1, 2000);
		batch_c_enter(&ops.builder, 40, 2100);
		batch_paused(&ops.builder, over ? 1 | PT_PAUSED_C_OVER : 1, 3000, 4000, 4500);
		batch_snap(&ops.builder, open, 1, 1, 4500);
		batch_c_exit(&ops.builder, 4600); /* of none, if over */
		batch_exit_to(&ops.builder, 0, 5000);
		batch_end(&ops.builder, 0);
		finish(&ops);
		assert_int_equal(ops.slice_count, 2);
		assert_slice(&ops, "<built-in function sorted>", 0, 2100, over ? 3000 : 4600,
			     over ? PT_SLICE_INTO_PAUSE : 0);
		assert_slice(&ops, "a", 0, 2000, 5000, 0);
		ops_release(&ops);
	}
}

/* Paused within three C functions that called one another: so many of them are over. */
static void test_pause_on_nested_c(void **state)
{
	static const uint32_t open[] = {1};

	for (uint32_t over = 0; over <= 4; over++) {
		struct op_recorder ops;
		struct rec_thread t = rec_thread(10, 10, 1, "main");

		start(&ops);
		for (uint32_t i = 0; i < 3; i++)
			rec_cfunc(&ops.builder, 40 + i, PT_C_FUNCTION | PT_C_PROBED,
				  i == 0   ? "x"
				  : i == 1 ? "y"
					   : "z",
				  "m");
		batch_begin(&ops.builder, &t, 2000);
		batch_enter(&ops.builder, 1, 2000);
		for (uint32_t i = 0; i < 3; i++)
			batch_c_enter(&ops.builder, 40 + i, 2100 + i);
		batch_paused(&ops.builder, 1 | over * PT_PAUSED_C_OVER, 3000, 4000, 4500);
		batch_snap(&ops.builder, open, 1, 1, 4500);
		for (uint32_t i = over; i < 3; i++)
			batch_c_exit(&ops.builder, 4600 + i);
		batch_exit_to(&ops.builder, 0, 5000);
		batch_end(&ops.builder, 0);
		finish(&ops);
		assert_int_equal(ops.slice_count, 4);
		assert_slice(&ops, "<built-in function z>", 0, 2102, over > 0 ? 3000 : 4600,
			     over > 0 ? PT_SLICE_INTO_PAUSE : 0);
		assert_slice(&ops, "a", 0, 2000, 5000, 0);
		if (over < 3)
			assert_slice(&ops, "<built-in function x>", 0, 2100, 4602, 0);
		ops_release(&ops);
	}
}

/* The thread had no event before the pause: what it kept was open from the start on. */
static void test_pause_before_first_event(void **state)
{
	static const uint32_t open[] = {3, 2, 1}, outside[] = {102, 101};

	for (int with_outside = 0; with_outside < 2; with_outside++) {
		struct op_recorder ops;
		struct rec_thread t = rec_thread(10, 10, 1, "main");

		start(&ops);
		rec_code(&ops.builder, 101, "a", "", "/app/main.py", 1);
		rec_code(&ops.builder, 102, "x", "", "/app/main.py", 24);
		if (with_outside)
			rec_stack(&ops.builder, &t, 1100, outside, 2, 2);
		batch_begin(&ops.builder, &t, 4000);
		batch_paused(&ops.builder, 1, 3000, 4000, 4500);
		batch_snap(&ops.builder, open, 3, 3, 4500);
		batch_exit(&ops.builder, 4500);
		batch_end(&ops.builder, 0);
		rec_note(&ops.builder, PT_NOTE_GATE_CLOSE, 6000, 0);
		finish(&ops);
		assert_int_equal(ops.slice_count, 3 + with_outside);
		if (with_outside)
			assert_slice(&ops, "x", 0, 1001, 3000,
				     PT_SLICE_OPEN_AT_START | PT_SLICE_INTO_PAUSE);
		assert_slice(&ops, "c", 0, 4001, 4500, PT_SLICE_AFTER_PAUSE);
		assert_slice(&ops, "b", 0, 4000, 6000, PT_SLICE_AFTER_PAUSE | PT_SLICE_OPEN_AT_END);
		assert_slice(&ops, "a", 0, 1000, 6001,
			     PT_SLICE_OPEN_AT_START | PT_SLICE_OPEN_AT_END);
		ops_release(&ops);
	}
}

/* The recording ends in the pause, or the thread does. */
static void test_pause_to_the_end(void **state)
{
	struct op_recorder ops;
	struct rec_thread t = rec_thread(10, 10, 1, "main");

	start(&ops);
	batch_begin(&ops.builder, &t, 2000);
	batch_enter(&ops.builder, 1, 2000);
	batch_enter(&ops.builder, 2, 2100);
	rec_control(&ops.builder, PT_CONTROL_PAUSE, 3000);
	batch_paused(&ops.builder, 1, 3000, 0, 3500);
	batch_end(&ops.builder, 0);
	rec_note(&ops.builder, PT_NOTE_GATE_CLOSE, 5000, 0);
	finish(&ops);
	assert_slice(&ops, "b", 0, 2100, 3000, PT_SLICE_INTO_PAUSE);
	assert_slice(&ops, "a", 0, 2000, 5000, PT_SLICE_OPEN_AT_END);
	assert_int_equal(ops.totals.paused_ns, 2000);
	ops_release(&ops);
}

#define WHY (PT_WHY_OVERHEAD | PT_WHY_ABSENT)

/* Probes were absent: whatever a thread says of the frames that stayed, none is known to have. One
 * that sleeps through it all is not known to have gone on either. */
static void test_absent(void **state)
{
	static const uint32_t open[] = {2, 1};
	struct op_recorder ops;
	struct rec_thread t = rec_thread(10, 10, 1, "main"), sleeps = rec_thread(10, 11, 1, "b");

	start(&ops);
	batch_begin(&ops.builder, &sleeps, 1900);
	batch_enter(&ops.builder, 4, 1900);
	batch_end(&ops.builder, 0);
	batch_begin(&ops.builder, &t, 2000);
	batch_enter(&ops.builder, 1, 2000);
	batch_enter(&ops.builder, 2, 2100);
	rec_control_why(&ops.builder, PT_CONTROL_PAUSE, WHY, 3000);
	rec_control_why(&ops.builder, PT_CONTROL_RESUME, WHY | PT_WHY_NO_C, 4000);
	batch_paused(&ops.builder, 2, 3000, 4000, 4500);
	batch_snap(&ops.builder, open, 2, 2, 4500);
	batch_exit(&ops.builder, 4500);
	batch_end(&ops.builder, 0);
	rec_control_why(&ops.builder, PT_CONTROL_PAUSE, WHY, 6000);
	rec_control_why(&ops.builder, PT_CONTROL_RESUME, WHY, 7000);
	rec_note(&ops.builder, PT_NOTE_GATE_CLOSE, 8000, 0);
	finish(&ops);
	assert_slice(&ops, "b", 0, 2100, 3000, PT_SLICE_INTO_PAUSE);
	assert_slice(&ops, "a", 0, 2000, 3001, PT_SLICE_INTO_PAUSE);
	assert_slice(&ops, "d", 0, 1900, 3000, PT_SLICE_INTO_PAUSE);
	assert_slice(&ops, "b", 1, 4001, 4500, PT_SLICE_AFTER_PAUSE);
	assert_slice(&ops, "a", 1, 4000, 6000, PT_SLICE_AFTER_PAUSE | PT_SLICE_INTO_PAUSE);
	assert_int_equal(ops.slice_count, 5);
	assert_int_equal(ops.totals.pauses, 2);
	assert_int_equal(ops.totals.paused_ns, 2000);
	assert_int_equal(ops.totals.stack_jumps, 0);
	ops_release(&ops);
}

/* The pause's time is taken first: an event that was on its way is younger, and the last for now.
 */
static void test_absent_with_late_events(void **state)
{
	for (int known = 0; known < 2; known++) {
		for (int goes_on = 0; goes_on < 2; goes_on++) {
			struct op_recorder ops;
			struct rec_thread t = rec_thread(10, 10, 1, "main");

			start(&ops);
			if (known) {
				batch_begin(&ops.builder, &t, 2000);
				batch_enter(&ops.builder, 1, 2000);
				batch_end(&ops.builder, 0);
			}
			rec_control_why(&ops.builder, PT_CONTROL_PAUSE, WHY, 3000);
			batch_begin(&ops.builder, &t, 2100);
			if (!known)
				batch_enter(&ops.builder, 1, 2100);
			batch_enter(&ops.builder, 2, 3005);
			batch_end(&ops.builder, 0);
			if (goes_on)
				rec_control_why(&ops.builder, PT_CONTROL_RESUME, WHY, 4000);
			rec_note(&ops.builder, PT_NOTE_GATE_CLOSE, 8000, 0);
			finish(&ops);
			assert_int_equal(ops.slice_count, 2);
			assert_slice(&ops, "b", 0, 3005, 3006, PT_SLICE_INTO_PAUSE);
			assert_slice(&ops, "a", 0, known ? 2000 : 2100, 3007, PT_SLICE_INTO_PAUSE);
			ops_release(&ops);
		}
	}
}

/* Samples in the place of what is absent: each change is told, and what is made of them begins in
 * the pause. */
static void test_samples_meanwhile(void **state)
{
	static const uint32_t stack[] = {2, 1};
	struct op_recorder ops;
	struct rec_thread t = rec_thread(10, 10, 1, "main");

	start(&ops);
	batch_begin(&ops.builder, &t, 2000);
	batch_enter(&ops.builder, 1, 2000);
	batch_end(&ops.builder, 0);
	rec_control_why(&ops.builder, PT_CONTROL_PAUSE, WHY, 3000);
	rec_control_why(&ops.builder, PT_CONTROL_SAMPLES, WHY | PT_WHY_SAMPLES, 3010);
	rec_sample(&ops.builder, &t, 3050, stack, 2, PT_SAMPLE_ASIDE); /* of a period of 100 */
	rec_sample(&ops.builder, &t, 3150, stack, 1, PT_SAMPLE_ASIDE);
	rec_control_why(&ops.builder, PT_CONTROL_SAMPLES, WHY, 3200);
	rec_control_why(&ops.builder, PT_CONTROL_RESUME, WHY, 7000);
	rec_note(&ops.builder, PT_NOTE_GATE_CLOSE, 8000, 0);
	finish(&ops);
	assert_slice(&ops, "a", 0, 2000, 3000, PT_SLICE_INTO_PAUSE);
	assert_int_equal(ops.span_count, 3);
	for (size_t i = 0; i < ops.span_count; i++)
		assert_true(ops.spans[i].op.begin_ns >= 3000 && ops.spans[i].op.end_ns < 3160);
	assert_string_equal(ops.instants[1].name, "samples are taken meanwhile");
	assert_string_equal(ops.instants[2].name, "no more samples are taken");
	assert_int_equal(ops.instants[2].ns, 3200);
	assert_int_equal(ops.totals.samples, 2);
	assert_int_equal(ops.totals.bad_records, 0);
	ops_release(&ops);
}

static void test_clear(void **state)
{
	struct op_recorder ops;
	struct rec_thread t = rec_thread(10, 10, 1, "main");

	start(&ops);
	batch_begin(&ops.builder, &t, 2000);
	batch_enter(&ops.builder, 1, 2000);
	batch_enter(&ops.builder, 2, 2100);
	batch_exit(&ops.builder, 2200);
	batch_enter(&ops.builder, 3, 2300);
	batch_peek(&ops.builder);
	rec_control(&ops.builder, PT_CONTROL_CLEAR, 3000);
	/* older events that come later */
	batch_enter(&ops.builder, 4, 2900);
	batch_exit(&ops.builder, 2950);
	batch_enter(&ops.builder, 5, 2990);
	batch_exit_to(&ops.builder, 1, 3001);
	batch_enter(&ops.builder, 6, 4000);
	batch_exit(&ops.builder, 4100);
	batch_end(&ops.builder, 0);
	rec_note(&ops.builder, PT_NOTE_GATE_CLOSE, 5000, 0);
	finish(&ops);
	/* a, c, e are open at 3000: three boundaries lie before the first event, at 3001 */
	assert_int_equal(ops.slice_count, 4);
	assert_slice(&ops, "e", 0, 2998, 3001, PT_SLICE_OPEN_AT_START);
	assert_slice(&ops, "c", 0, 2997, 3002, PT_SLICE_OPEN_AT_START);
	assert_slice(&ops, "f", 0, 4000, 4100, 0);
	assert_slice(&ops, "a", 0, 2996, 5000, PT_SLICE_OPEN_AT_START | PT_SLICE_OPEN_AT_END);
	assert_int_equal(ops.totals.events, 3);
	assert_int_equal(ops.process_count, 1);
	assert_int_equal(ops.totals.processes, 1);
	assert_int_equal(ops.totals.threads, 1);
	ops_release(&ops);
}

/* What ended in a pause before the clear is not in the new trace. */
static void test_clear_while_paused(void **state)
{
	static const uint32_t open[] = {1};
	struct op_recorder ops;
	struct rec_thread t = rec_thread(10, 10, 1, "main");

	start(&ops);
	batch_begin(&ops.builder, &t, 2000);
	batch_enter(&ops.builder, 1, 2000);
	batch_enter(&ops.builder, 2, 2100);
	rec_control(&ops.builder, PT_CONTROL_PAUSE, 3000);
	rec_control(&ops.builder, PT_CONTROL_CLEAR, 3500);
	rec_control(&ops.builder, PT_CONTROL_RESUME, 4000);
	batch_paused(&ops.builder, 1, 3000, 4000, 4500);
	batch_snap(&ops.builder, open, 1, 1, 4500);
	batch_exit(&ops.builder, 4500);
	batch_end(&ops.builder, 0);
	finish(&ops);
	assert_int_equal(ops.slice_count, 1);
	assert_slice(&ops, "a", 0, 3500, 4500, PT_SLICE_OPEN_AT_START);
	assert_int_equal(ops.totals.pauses, 1);
	assert_int_equal(ops.totals.paused_ns, 500);
	ops_release(&ops);
}

static void test_running_left_out(void **state)
{
	struct op_recorder ops;
	struct rec_thread t = rec_thread(10, 10, 1, "main");

	start(&ops);
	batch_begin(&ops.builder, &t, 2000);
	batch_enter(&ops.builder, 1, 2000);
	batch_enter(&ops.builder, 2, 2100);
	batch_exit(&ops.builder, 2200);
	batch_exit(&ops.builder, 2300);
	batch_enter(&ops.builder, 3, 2400);
	batch_end(&ops.builder, 0);
	rec_control(&ops.builder, PT_CONTROL_DROP_OPEN, 5000);
	rec_note(&ops.builder, PT_NOTE_GATE_CLOSE, 5000, 0);
	finish(&ops);
	assert_int_equal(ops.slice_count, 2);
	assert_int_equal(ops_count(&ops, "c"), 0);
	assert_true(ops.totals.open_left_out);
	ops_release(&ops);
}

/* ---- copies ---- */

static int feed(const struct pt_rec *record, size_t len, void *output)
{
	return pt_output_record(record, len, output);
}

static size_t count_text(const char *text, const char *part)
{
	size_t count = 0;

	while ((text = strstr(text, part))) {
		count++;
		text++;
	}
	return count;
}

static void assert_calls(const char *path, size_t f, size_t g, size_t open)
{
	size_t len;
	char *text = scratch_read(path, &len);

	assert_int_equal(count_text(text, ": f\""), f);
	assert_int_equal(count_text(text, ": g\""), g);
	assert_int_equal(count_text(text, "\"open at end\":true"), open);
	assert_int_equal(count_text(text, "\"traceName\""), 1);
	assert_int_equal(text[len - 2], '}');
	free(text);
}

static void test_copies(void **state)
{
	static const char *const suffixes[] = {".json", ".json.gz"};
	const struct pt_capture_info info = {.start_mono_ns = 1000, .start_real_ns = 5000};

	for (size_t i = 0; i < 2; i++) {
		struct pt_output_options options = {0};
		struct rec_thread t = rec_thread(10, 10, 1, "main");
		char path[4096], copy[4096], other[4096], name[32];
		struct pt_output *output;
		struct rec_builder b;
		struct pt_err err = {0};

		snprintf(name, sizeof(name), "whole%s", suffixes[i]);
		snprintf(path, sizeof(path), "%s", scratch_path(name));
		snprintf(name, sizeof(name), "copy%s", suffixes[i]);
		snprintf(copy, sizeof(copy), "%s", scratch_path(name));
		snprintf(other, sizeof(other), "%s", scratch_path("copy.ptcap"));
		options.path = path;
		assert_int_equal(pt_output_open(&options, &info, &output, &err), 0);
		rec_init(&b, feed, output);
		rec_code(&b, 6, "f", "", "/app/main.py", 1);
		rec_code(&b, 7, "g", "", "/app/main.py", 2);
		rec_proc(&b, PT_PROC_ATTACH, 10, 1, 1000, 1, "python3", "python3", 0);
		/* nothing yet */
		assert_int_equal(pt_output_save(output, copy, 1500, &err), 0);
		assert_calls(copy, 0, 0, 0);
		batch_begin(&b, &t, 2000);
		batch_enter(&b, 7, 2000);
		batch_end(&b, 0);
		assert_int_equal(pt_output_save(output, copy, 2500, &err), 0);
		assert_calls(copy, 0, 1, 1);
		batch_begin(&b, &t, 3000);
		batch_enter(&b, 6, 3000);
		batch_exit(&b, 3100);
		batch_end(&b, 0);
		assert_int_equal(pt_output_save(output, copy, 3500, &err), 0);
		assert_calls(copy, 1, 1, 1);
		/* the output itself, another format, a folder that is not there */
		assert_int_equal(pt_output_check_copy(&options, path, &err), -EEXIST);
		pt_err_clear(&err);
		assert_int_equal(pt_output_check_copy(&options, other, &err), -EINVAL);
		pt_err_clear(&err);
		assert_int_equal(pt_output_save(output, "/nonexistent/x.json", 1, &err),
				 i ? -EINVAL : -ENOENT);
		pt_err_clear(&err);
		batch_begin(&b, &t, 4000);
		batch_exit(&b, 4100);
		batch_end(&b, 0);
		rec_control(&b, PT_CONTROL_CLEAR, 4050);
		batch_begin(&b, &t, 5000);
		batch_enter(&b, 6, 5000);
		batch_exit(&b, 5100);
		batch_end(&b, 0);
		assert_int_equal(b.rc, 0);
		assert_int_equal(pt_output_close(output, NULL, &err), 0);
		assert_calls(path, 1, 0, 0);
		assert_calls(copy, 1, 1, 1);
	}
}

static void test_streams_cannot(void **state)
{
	struct pt_output_options options = {.path = "/dev/null"};
	struct pt_err err = {0};

	assert_int_equal(pt_output_check_rewrite(scratch_path("not-there.json"), &err), 0);
	assert_int_equal(pt_output_check_rewrite("-", &err), -EOPNOTSUPP);
	pt_err_clear(&err);
	assert_int_equal(pt_output_check_rewrite("/dev/null", &err), -EOPNOTSUPP);
	pt_err_clear(&err);
	assert_int_equal(pt_output_check_rewrite("/tmp/x-%p.json", &err), -EOPNOTSUPP);
	pt_err_clear(&err);
	assert_int_equal(pt_output_check_copy(&options, "x.json", &err), -EOPNOTSUPP);
	pt_err_clear(&err);
	options.path = scratch_path("not-there.json");
	assert_int_equal(pt_output_check_copy(&options, "/tmp/x-%p.json", &err), -EINVAL);
	pt_err_clear(&err);
}

/* ---- the socket ---- */

struct heard {
	struct pt_control *control;
	char lines[8][64];
	uint32_t clients[8];
	size_t count;
	bool answer;
};

static void hear(uint32_t client, const char *line, void *ctx)
{
	struct heard *heard = ctx;

	assert_true(heard->count < 8);
	snprintf(heard->lines[heard->count], 64, "%s", line);
	heard->clients[heard->count++] = client;
	if (heard->answer)
		pt_control_answer(heard->control, client, "{\"ok\": true}");
}

static int reach(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	assert_true(fd >= 0 && strlen(path) < sizeof(address.sun_path));
	strcpy(address.sun_path, path);
	assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	return fd;
}

static void say(int fd, const void *data, size_t len)
{
	assert_int_equal(send(fd, data, len, MSG_NOSIGNAL), len);
}

/* What has come so far. */
static const char *answer_of(int fd)
{
	static char answer[4096];
	ssize_t n = recv(fd, answer, sizeof(answer) - 1, MSG_DONTWAIT);

	answer[n > 0 ? n : 0] = '\0';
	return answer;
}

static void test_lines(void **state)
{
	struct heard heard = {.answer = true};
	struct pt_err err = {0};
	const char *path = scratch_path("control");
	struct stat st;
	int fd, other;

	assert_int_equal(pt_control_open(path, &heard.control, &err), 0);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	fd = reach(path);
	say(fd, "sta", 3);
	pt_control_service(heard.control, hear, &heard);
	assert_int_equal(heard.count, 0);
	say(fd, "tus\npause\r\nres", 14);
	for (int i = 0; i < 3; i++)
		pt_control_service(heard.control, hear, &heard);
	assert_int_equal(heard.count, 2);
	assert_string_equal(heard.lines[0], "status");
	assert_string_equal(heard.lines[1], "pause");
	assert_string_equal(answer_of(fd), "{\"ok\": true}\n{\"ok\": true}\n");
	/* a command that is not answered yet holds up the client's next, and nobody else */
	heard.answer = false;
	say(fd, "ume\nclear\n", 10);
	other = reach(path);
	say(other, "save\n", 5);
	for (int i = 0; i < 3; i++)
		pt_control_service(heard.control, hear, &heard);
	assert_int_equal(heard.count, 4);
	assert_string_equal(heard.lines[2], "resume");
	assert_string_equal(heard.lines[3], "save");
	pt_control_answer(heard.control, heard.clients[2], "{}");
	pt_control_service(heard.control, hear, &heard);
	assert_int_equal(heard.count, 5);
	assert_string_equal(heard.lines[4], "clear");
	close(fd); /* before its answer */
	pt_control_answer(heard.control, heard.clients[4], "{}");
	pt_err_set(&err, -1, PT_EXIT_USAGE, "", "a \"bad\" thing");
	pt_control_refuse(heard.control, heard.clients[3], &err);
	assert_string_equal(
	    answer_of(other),
	    "{\"ok\": false, \"error\": \"a \\\"bad\\\" thing\", \"exit_code\": 2}\n");
	pt_control_answer(heard.control, 12345, "{}"); /* nobody */
	pt_control_close(heard.control);
	close(other);
	assert_int_equal(access(path, F_OK), -1);
}

static void test_too_long_and_nul(void **state)
{
	struct heard heard = {.answer = true};
	struct pt_err err = {0};
	const char *path = scratch_path("control");
	char *many = malloc(2 * PT_CONTROL_LINE_BYTES);
	int fd;

	assert_non_null(many);
	memset(many, 'x', 2 * PT_CONTROL_LINE_BYTES);
	assert_int_equal(pt_control_open(path, &heard.control, &err), 0);
	fd = reach(path);
	say(fd, many, 2 * PT_CONTROL_LINE_BYTES);
	for (int i = 0; i < 3; i++)
		pt_control_service(heard.control, hear, &heard);
	assert_non_null(strstr(answer_of(fd), "too long"));
	close(fd);
	fd = reach(path);
	say(fd, "pau\0se\n", 7);
	pt_control_service(heard.control, hear, &heard);
	assert_non_null(strstr(answer_of(fd), "NUL"));
	close(fd);
	assert_int_equal(heard.count, 0);
	pt_control_close(heard.control);
	free(many);
}

static void test_places(void **state)
{
	struct pt_control *control, *second;
	struct pt_err err = {0};
	const char *path = scratch_path("control"), *file = scratch_path("file");
	char many[300];

	memset(many, 'x', sizeof(many) - 1);
	many[sizeof(many) - 1] = '\0';
	assert_int_equal(pt_control_open(many, &control, &err), -ENAMETOOLONG);
	assert_int_equal(err.exit_code, PT_EXIT_USAGE);
	pt_err_clear(&err);
	scratch_write(file, "x", 1);
	assert_int_equal(pt_control_open(file, &control, &err), -EEXIST);
	pt_err_clear(&err);
	assert_int_equal(access(file, F_OK), 0);
	assert_int_equal(pt_control_open("/nonexistent/x", &control, &err), -ENOENT);
	pt_err_clear(&err);
	assert_int_equal(pt_control_open(path, &control, &err), 0);
	assert_int_equal(pt_control_open(path, &second, &err), -EADDRINUSE);
	pt_err_clear(&err);
	/* somebody put something else there: it stays */
	assert_int_equal(unlink(path), 0);
	scratch_write(path, "x", 1);
	pt_control_close(control);
	assert_int_equal(access(path, F_OK), 0);
	unlink(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_pause),
	    cmocka_unit_test(test_pause_then_exit),
	    cmocka_unit_test(test_pause_in_c),
	    cmocka_unit_test(test_pause_on_c),
	    cmocka_unit_test(test_pause_on_nested_c),
	    cmocka_unit_test(test_pause_before_first_event),
	    cmocka_unit_test(test_pause_to_the_end),
	    cmocka_unit_test(test_absent),
	    cmocka_unit_test(test_absent_with_late_events),
	    cmocka_unit_test(test_samples_meanwhile),
	    cmocka_unit_test(test_clear),
	    cmocka_unit_test(test_clear_while_paused),
	    cmocka_unit_test(test_running_left_out),
	    cmocka_unit_test(test_copies),
	    cmocka_unit_test(test_streams_cannot),
	    cmocka_unit_test(test_lines),
	    cmocka_unit_test(test_too_long_and_nul),
	    cmocka_unit_test(test_places),
	};

	return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
