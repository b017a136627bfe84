// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/* Line tables: decoded as CPython itself does, for the standard library of each interpreter that is
 * installed; hostile ones; and the lines of calls that the model makes of them. */
#include <errno.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "interpreters.h"
#include "op_recorder.h"
#include "python/lines.h"

static size_t from_hex(const char *text, uint8_t *bytes)
{
	size_t n = 0;
	unsigned int byte;

	for (; text[0] != '-' && sscanf(text, "%2x", &byte) == 1; text += 2)
		bytes[n++] = (uint8_t)byte;
	return n;
}

/* One line of lines_dump.py; returns the number of code units compared. */
static size_t compare_code(char *text, const char *command)
{
	unsigned int version, first, line, count, unit = 0;
	struct py_lines lines;
	uint8_t *table = malloc(strlen(text));
	int used = 0, rc;
	size_t len;

	assert_int_equal(sscanf(text, "%x %u %n", &version, &first, &used), 2);
	text += used;
	len = from_hex(text, table);
	rc = py_lines_decode(&lines, version, first, table, len);
	assert_int_equal(rc, 0);
	text = strchr(text, ' ');
	while (text && sscanf(text, " %u*%u%n", &line, &count, &used) == 2) {
		for (unsigned int end = unit + count; unit < end; unit++) {
			if (py_lines_find(&lines, unit) != line)
				fail_msg("%s: line %u of unit %u (code at line %u), not %u",
					 command, py_lines_find(&lines, unit), unit, first, line);
		}
		text += used;
	}
	if (version >= 0x030a0000)
		assert_int_equal(py_lines_find(&lines, unit), 0);
	py_lines_release(&lines);
	free(table);
	return unit;
}

static void test_as_cpython(void **state)
{
	char *text = NULL;
	size_t size = 0, count;

	count = interpreters_find();
	if (!count) {
		printf("SKIP: no interpreter is installed here\n");
		skip();
	}
	for (size_t i = 0; i < count; i++) {
		char shell[2 * PATH_MAX + 64];
		size_t codes = 0, units = 0;
		FILE *pipe;

		snprintf(shell, sizeof(shell), "%.*s - <tests/unit/lines_dump.py", 2 * PATH_MAX,
			 interpreters[i].command);
		pipe = popen(shell, "r");
		assert_non_null(pipe);
		for (; getline(&text, &size, pipe) > 0; codes++)
			units += compare_code(text, interpreters[i].command);
		assert_int_equal(pclose(pipe), 0);
		if (codes < 1000)
			fail_msg("%s: only %zu code objects", interpreters[i].command, codes);
		printf("%s: %zu code objects, %zu code units\n", interpreters[i].command, codes,
		       units);
	}
	free(text);
}

static void test_hostile_tables(void **state)
{
	static const uint32_t versions[] = {0x030800f0, 0x030a00f0, 0x030b00f0, 0x030f00f0};
	struct py_lines lines;
	uint8_t table[300];

	srand(1);
	for (int round = 0; round < 20000; round++) {
		size_t len = (size_t)rand() % sizeof(table);

		for (size_t i = 0; i < len; i++)
			table[i] = (uint8_t)(rand() >> 8);
		assert_int_equal(py_lines_decode(&lines, versions[round % 4], 1u << 31, table, len),
				 0);
		for (size_t i = 1; i < lines.count; i++)
			assert_true(lines.entries[i].unit > lines.entries[i - 1].unit);
		py_lines_find(&lines, (uint32_t)rand() % 4096);
		py_lines_release(&lines);
	}
	assert_int_equal(py_lines_decode(&lines, 0x030700f0, 1, table, 4), -ENOTSUP);
	assert_int_equal(py_lines_decode(&lines, 0x031000f0, 1, table, 4), -ENOTSUP);
	assert_int_equal(py_lines_decode(&lines, 0x030900f0, 7, NULL, 0), 0);
	assert_int_equal(py_lines_find(&lines, 12345), 7);
	py_lines_release(&lines);
}

/* 3.8: a byte pair a line: from unit 4 * n on it is line 10 + n */
static const char table_38[16] = {8, 1, 8, 1, 8, 1, 8, 1};

static void send_table(struct op_recorder *ops, uint32_t id, uint32_t total, uint32_t offset,
		       uint32_t bytes)
{
	rec_lines(&ops->builder, id, 0x030800f0, table_38, total, offset, bytes);
}

static void start(struct op_recorder *ops, const struct pt_model_options *options)
{
	ops_init(ops, options);
	rec_code(&ops->builder, 1, "a", "", "/app/main.py", 10);
	rec_code(&ops->builder, 2, "b", "", "/app/main.py", 20);
	rec_code(&ops->builder, 3, "lib", "", "/usr/lib/lib.py", 30);
	rec_proc(&ops->builder, PT_PROC_ATTACH, 10, 1, 1000, 1, "python3", "", 0);
}

static void finish(struct op_recorder *ops)
{
	const char *wrong = ops_finish(ops);

	if (wrong)
		fail_msg("%s", wrong);
}

static uint32_t line_of(const struct op_recorder *ops, const char *name, size_t n)
{
	const struct pt_op_slice *slice = ops_slice(ops, name, n);

	if (!slice)
		fail_msg("no slice %zu of %s", n, name);
	return slice->call_line;
}

static void test_calls(void **state)
{
	struct op_recorder ops;
	struct rec_thread t = rec_thread(10, 10, 1, "main");

	start(&ops, NULL);
	send_table(&ops, 1, 8, 0, 4);
	send_table(&ops, 1, 8, 4, 4);
	batch_begin(&ops.builder, &t, 2000);
	batch_snap(&ops.builder, NULL, 0, 0, 2000);
	batch_enter(&ops.builder, 1, 2000); /* nobody called it */
	batch_line(&ops.builder, 1, 5);
	batch_enter(&ops.builder, 2, 2100);
	batch_exit(&ops.builder, 2200);
	batch_line(&ops.builder, 1, 1); /* the copy ends here */
	batch_peek(&ops.builder);
	batch_enter(&ops.builder, 2, 2300);
	batch_exit(&ops.builder, 2400);
	batch_line(&ops.builder, 1, 400);
	batch_depth(&ops.builder, 2, 2500); /* above a hidden frame */
	batch_enter(&ops.builder, 2, 2500);
	batch_line(&ops.builder, 2, 1); /* its own table never came */
	batch_enter(&ops.builder, 1, 2600);
	batch_line(&ops.builder, 2, 1); /* called by another than the frame around it */
	batch_enter(&ops.builder, 3, 2700);
	batch_end(&ops.builder, 0);
	finish(&ops);
	assert_int_equal(line_of(&ops, "a", 1), 0);
	assert_int_equal(line_of(&ops, "b", 0), 11);
	assert_int_equal(line_of(&ops, "b", 1), 10);
	assert_int_equal(line_of(&ops, "b", 2), 14);
	assert_int_equal(line_of(&ops, "a", 0), 0);
	assert_int_equal(line_of(&ops, "lib", 0), 0);
	assert_int_equal(ops.totals.bad_records, 0);
	assert_int_equal(ops.totals.events, 8);
	ops_release(&ops);
}

static void test_line_first_in_a_batch(void **state)
{
	struct op_recorder ops;
	struct rec_thread t = rec_thread(10, 10, 1, "main");

	start(&ops, NULL);
	send_table(&ops, 1, 8, 0, 8);
	batch_begin(&ops.builder, &t, 2000);
	batch_snap(&ops.builder, NULL, 0, 0, 2000);
	batch_enter(&ops.builder, 1, 2000);
	batch_end(&ops.builder, 0);
	batch_begin(&ops.builder, &t, 2500);
	batch_line(&ops.builder, 1, 9);
	batch_enter(&ops.builder, 2, 2600);
	batch_lose(&ops.builder);
	batch_begin(&ops.builder, &t, 2700);
	batch_line(&ops.builder, 1, 0xfffff);
	batch_enter(&ops.builder, 3, 2800);
	batch_end(&ops.builder, 0);
	finish(&ops);
	assert_int_equal(ops.loss_count, 1);
	assert_int_equal(ops.losses[0].end_ns, 2800);
	ops_release(&ops);
}

static void test_left_out_callers(void **state)
{
	static const char *const exclude[] = {"/usr/*", NULL};
	const struct pt_model_options options = {.exclude_files = exclude};
	struct op_recorder ops;
	struct rec_thread t = rec_thread(10, 10, 1, "main");

	start(&ops, &options);
	send_table(&ops, 1, 8, 0, 8);
	send_table(&ops, 3, 8, 0, 8);
	batch_begin(&ops.builder, &t, 2000);
	batch_snap(&ops.builder, NULL, 0, 0, 2000);
	batch_enter(&ops.builder, 1, 2000);
	batch_line(&ops.builder, 1, 4);
	batch_enter(&ops.builder, 3, 2100);
	batch_line(&ops.builder, 3, 4); /* of a caller that is not in the trace */
	batch_enter(&ops.builder, 2, 2200);
	batch_end(&ops.builder, 0);
	finish(&ops);
	assert_int_equal(line_of(&ops, "b", 0), 0);
	ops_release(&ops);
}

static void test_damaged(void **state)
{
	struct op_recorder ops;
	struct rec_thread t = rec_thread(10, 10, 1, "main");

	start(&ops, NULL);
	send_table(&ops, 1, 8, 4, 4); /* the first piece was lost */
	send_table(&ops, 2, 8, 0, 4);
	send_table(&ops, 2, 8, 6, 2); /* the second */
	send_table(&ops, 0, 8, 0, 8);
	send_table(&ops, 3, PT_LINES_MAX_BYTES + 1, 0, 8);
	send_table(&ops, 3, 8, 4, 8);
	batch_begin(&ops.builder, &t, 2000);
	batch_snap(&ops.builder, NULL, 0, 0, 2000);
	batch_enter(&ops.builder, 1, 2000);
	batch_line(&ops.builder, 1, 1);
	batch_enter(&ops.builder, 2, 2100);
	batch_line(&ops.builder, 2, 1);
	batch_enter(&ops.builder, 3, 2200);
	batch_end(&ops.builder, 0);
	batch_begin(&ops.builder, &t, 2300);
	batch_line(&ops.builder, 0, 1); /* no code has this id: the batch is refused */
	batch_enter(&ops.builder, 3, 2400);
	batch_end(&ops.builder, 0);
	finish(&ops);
	assert_int_equal(line_of(&ops, "b", 0), 0);
	assert_int_equal(line_of(&ops, "lib", 0), 0);
	assert_int_equal(ops.totals.bad_records, 5);
	ops_release(&ops);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_as_cpython),
	    cmocka_unit_test(test_hostile_tables),
	    cmocka_unit_test(test_calls),
	    cmocka_unit_test(test_line_first_in_a_batch),
	    cmocka_unit_test(test_left_out_callers),
	    cmocka_unit_test(test_damaged),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
