// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/* Arguments, variables and results: their words, their records, their text, and damage. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "op_recorder.h"
#include "probe/attach.h"

static void start(struct op_recorder *ops, struct rec_thread *t)
{
	ops_init(ops, NULL);
	*t = rec_thread(10, 10, 1, "main");
	rec_code(&ops->builder, 1, "f", "", "/app/main.py", 1);
	rec_code(&ops->builder, 2, "g", "", "/app/main.py", 2);
	rec_proc(&ops->builder, PT_PROC_ATTACH, 10, 1, 1000, 1, "python3", "python3 main.py", 0);
}

static void finish(struct op_recorder *ops)
{
	const char *wrong = ops_finish(ops);

	if (wrong)
		fail_msg("%s", wrong);
}

/* What the trace says of a value; it is that of a call's result. */
static void assert_shown(struct pt_value value, const void *data, const char *text)
{
	char wanted[192];
	struct op_recorder ops;
	struct rec_thread t;

	value.name_width = 1;
	start(&ops, &t);
	rec_values(&ops.builder, &t, 1, &value, 1, 0, data, 2000);
	batch_begin(&ops.builder, &t, 2000);
	batch_snap(&ops.builder, NULL, 0, 0, 2000);
	batch_enter(&ops.builder, 1, 2000);
	batch_values(&ops.builder, PT_X_RESULT, 1, 2100);
	batch_exit(&ops.builder, 2100);
	batch_end(&ops.builder, 0);
	finish(&ops);
	assert_int_equal(ops.totals.bad_records, 0);
	snprintf(wanted, sizeof(wanted), "||%s", text);
	assert_string_equal(ops_values(&ops, "f", 0), wanted);
	ops_release(&ops);
}

static void assert_float(double number, const char *text)
{
	struct pt_value value = {.type = PT_V_FLOAT};

	memcpy(&value.number, &number, sizeof(number));
	assert_shown(value, "", text);
}

static void test_floats(void **state)
{
	assert_float(0, "0.0");
	assert_float(-0.0, "-0.0");
	assert_float(1, "1.0");
	assert_float(0.1, "0.1");
	assert_float(1.0 / 3, "0.3333333333333333");
	assert_float(1e15, "1000000000000000.0");
	assert_float(1e16, "1e+16");
	assert_float(123456.789, "123456.789");
	assert_float(0.0001, "0.0001");
	assert_float(0.00001, "1e-05");
	assert_float(1.5e300, "1.5e+300");
	assert_float(-5e-324, "-5e-324");
	assert_float(1e308 * 10, "inf");
	assert_float(-1e308 * 10, "-inf");
}

static void test_big_ints(void **state)
{
	const uint32_t three[] = {0x3fffffff, 0x3fffffff, 0xf}, four[] = {0, 0, 0, 1};
	const uint32_t over[] = {0, 0, 0x10}, beyond[] = {0xffffffff, 0, 0};

	assert_shown((struct pt_value){.type = PT_V_BIG_INT, .bytes = 12, .number = 3}, three,
		     "18446744073709551615");
	assert_shown((struct pt_value){.type = PT_V_BIG_INT, .bytes = 12, .number = -3}, over,
		     "-0x10000000000000000");
	assert_shown((struct pt_value){.type = PT_V_BIG_INT, .bytes = 16, .number = 4}, four,
		     "0x40000000000000000000000");
	assert_shown((struct pt_value){.type = PT_V_BIG_INT, .bytes = 12, .number = 3}, beyond,
		     "1073741823");
	assert_shown(
	    (struct pt_value){.type = PT_V_BIG_INT, .bytes = 16, .number = 9, .truncated = 1}, four,
	    "<int of more than 120 bits>");
}

static void test_texts(void **state)
{
	const uint16_t two[] = {0x20ac, '\'', 0xd800};
	const uint32_t four[] = {0x1f600, 0x110000};
	const int64_t dims[] = {2, 3};
	char array[16 + 13];

	memcpy(array, dims, 16);
	memcpy(array + 16, "numpy.float64", 13);
	assert_shown((struct pt_value){.type = PT_V_TEXT, .width = 1, .bytes = 5}, "a\n\\'\"",
		     "'a\\n\\\\\\'\"'");
	assert_shown((struct pt_value){.type = PT_V_TEXT, .width = 2, .bytes = 6}, two,
		     "\"\u20ac'\\ud800\"");
	assert_shown((struct pt_value){.type = PT_V_TEXT, .width = 4, .bytes = 8, .truncated = 1},
		     four, "'\U0001f600\ufffd'\u2026");
	assert_shown((struct pt_value){.type = PT_V_BYTES, .bytes = 3}, "a\0\xff",
		     "b'a\\x00\\xff'");
	assert_shown((struct pt_value){.type = PT_V_SIZED, .bytes = 4, .number = 7}, "list",
		     "<list of length 7>");
	assert_shown((struct pt_value){.type = PT_V_OBJECT, .bytes = 3, .number = 0xabc}, "Foo",
		     "<Foo at 0xabc>");
	assert_shown((struct pt_value){.type = PT_V_ARRAY, .bytes = sizeof(array), .number = 2},
		     array, "<numpy.ndarray float64 (2, 3)>");
	assert_shown((struct pt_value){.type = PT_V_ARRAY, .bytes = 13, .number = 0}, array + 16,
		     "<numpy.ndarray float64 ()>");
	memcpy(array + 16, "Parameter", 9);
	assert_shown((struct pt_value){.type = PT_V_TENSOR, .bytes = 25, .number = PT_TENSOR(2, 6)},
		     array, "<Parameter float32 (2, 3)>");
	assert_shown(
	    (struct pt_value){.type = PT_V_TENSOR, .bytes = 8, .number = PT_TENSOR(1, 999)}, array,
	    "<Tensor ? (2,)>");
	assert_shown((struct pt_value){.type = PT_V_UNREADABLE}, "", "<unreadable>");
}

/* Each goes to its call, and what was lost leaves the others as they are. */
static void test_places(void **state)
{
	struct pt_value value = {.type = PT_V_INT, .name_bytes = 1, .name_width = 1, .number = 1};
	struct pt_value result = {.type = PT_V_INT, .name_width = 1, .number = 2};
	struct pt_value both[] = {value, result};
	struct op_recorder ops;
	struct rec_thread t;

	start(&ops, &t);
	rec_values(&ops.builder, &t, 1, &value, 1, 0, "x", 2000);
	rec_values(&ops.builder, &t, 2, &value, 1, 3, "y", 2000); /* its word is lost */
	rec_values(&ops.builder, &t, 3, both, 2, 0, "v", 2000);
	batch_begin(&ops.builder, &t, 2000);
	batch_snap(&ops.builder, NULL, 0, 0, 2000);
	batch_values(&ops.builder, PT_X_ARGS, 1, 2000);
	batch_depth(&ops.builder, 1, 2000);
	batch_enter(&ops.builder, 1, 2000);
	batch_enter(&ops.builder, 2, 2100); /* without any */
	batch_exit(&ops.builder, 2200);
	batch_values(&ops.builder, PT_X_RESULT, 3, 2300);
	batch_exit(&ops.builder, 2300);
	batch_values(&ops.builder, PT_X_ARGS, 4, 2400); /* the record is lost */
	batch_enter(&ops.builder, 2, 2400);
	batch_exit(&ops.builder, 2500);
	batch_end(&ops.builder, 0);
	finish(&ops);
	assert_int_equal(ops.totals.bad_records, 0);
	assert_string_equal(ops_values(&ops, "f", 0), "x=1|v=1|2");
	assert_string_equal(ops_values(&ops, "g", 0), "");
	assert_string_equal(ops_values(&ops, "g", 1), "");
	ops_release(&ops);
}

static void test_damage(void **state)
{
	const struct pt_value good = {.type = PT_V_TEXT, .width = 1, .name_width = 1, .bytes = 2};
	struct pt_value bad[] = {good, good, good, good, good, good, good, good};
	struct op_recorder ops;
	struct rec_thread t;

	bad[0].width = 3;
	bad[1].type = PT_V_TENSOR + 1;
	bad[2].name_width = 0;
	bad[3].type = PT_V_INT; /* and two bytes */
	bad[4].type = PT_V_ARRAY;
	bad[4].number = -1;
	bad[5].bytes = 3;
	bad[5].width = 2;
	bad[6].type = bad[7].type = PT_V_TENSOR;
	bad[6].number = PT_TENSOR(1, 6); /* in two bytes */
	bad[7].number = -1;
	start(&ops, &t);
	for (unsigned int i = 0; i < 8; i++)
		rec_values(&ops.builder, &t, i + 1, &bad[i], 1, 0, "abc", 2000);
	batch_begin(&ops.builder, &t, 2000);
	batch_snap(&ops.builder, NULL, 0, 0, 2000);
	batch_values(&ops.builder, PT_X_RESULT, 1, 2000); /* nothing is open */
	batch_enter(&ops.builder, 1, 2000);
	batch_values(&ops.builder, PT_X_RESULT, 2, 2100);
	batch_exit(&ops.builder, 2100);
	batch_end(&ops.builder, 0);
	finish(&ops);
	assert_int_equal(ops.totals.bad_records, 8);
	assert_string_equal(ops_values(&ops, "f", 0), "");
	ops_release(&ops);
}

static void test_wanted(void **state)
{
	const char *const globs[] = {"a*", "C.m", NULL}, *const bracket[] = {"a", "[", NULL};
	const char *const local[] = {"f:x", "*:_y1", NULL}, *const digit[] = {"f:1", NULL};
	const char *const none[] = {"f", NULL};
	const char *culprit;

	assert_int_equal(pt_values_check(NULL, NULL, NULL, &culprit), 0);
	assert_int_equal(pt_values_check(globs, globs, local, &culprit), 0);
	assert_int_not_equal(pt_values_check(globs, bracket, NULL, &culprit), 0);
	assert_string_equal(culprit, "[");
	assert_int_not_equal(pt_values_check(NULL, NULL, digit, &culprit), 0);
	assert_int_not_equal(pt_values_check(NULL, NULL, none, &culprit), 0);
	assert_string_equal(culprit, "f");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_floats), cmocka_unit_test(test_big_ints),
	    cmocka_unit_test(test_texts),  cmocka_unit_test(test_places),
	    cmocka_unit_test(test_damage), cmocka_unit_test(test_wanted),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
