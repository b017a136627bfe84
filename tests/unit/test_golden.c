// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/* The captures in tests/golden (or $GOLDEN_DIR) lead to exactly the outputs beside them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "golden_outputs.h"
#include "scratch.h"
#include "sink/sink.h"

static char golden[4096];

static void same_file(const char *name, const char *suffix)
{
	char expected_path[4352], path[256];
	char *expected, *got;
	size_t expected_len, len, at;

	snprintf(path, sizeof(path), "%s%s", name, suffix);
	snprintf(expected_path, sizeof(expected_path), "%s/%s", golden, path);
	expected = scratch_read(expected_path, &expected_len);
	got = scratch_read(scratch_path(path), &len);
	for (at = 0; at < len && at < expected_len && got[at] == expected[at]; at++)
		;
	if (at != len || at != expected_len)
		fail_msg("%s differs at byte %zu: '%.60s', expected '%.60s' (make golden-update "
			 "if that is right)",
			 path, at, got + at, expected + at);
	free(expected);
	free(got);
}

static void replay_one(const char *name)
{
	char capture[4352];
	const char *wrong;

	snprintf(capture, sizeof(capture), "%s/%s.ptcap", golden, name);
	assert_int_equal(chdir(scratch_path("")), 0); /* the trace holds the name it was given */
	wrong = golden_outputs(capture, name);
	if (wrong)
		fail_msg("%s failed", wrong);
	same_file(name, ".json");
	same_file(name, ".report.txt");
	same_file(name, ".report.json");
}

static void test_calls(void **state)
{
	replay_one("calls");
}

static void test_loss(void **state)
{
	replay_one("loss");
}

static void test_runtime(void **state)
{
	replay_one("runtime");
}

static void test_processes(void **state)
{
	replay_one("processes");
}

static void test_damage(void **state)
{
	replay_one("damage");
}

static void test_cuda(void **state)
{
	replay_one("cuda");
}

static void test_lines(void **state)
{
	replay_one("lines");
}

static void test_control(void **state)
{
	replay_one("control");
}

static void test_sched(void **state)
{
	replay_one("sched");
}

static void test_marks(void **state)
{
	replay_one("marks");
}

static void test_memory(void **state)
{
	replay_one("memory");
	same_file("memory", ".pickle");
}

static void test_torch(void **state)
{
	replay_one("torch");
}

static void test_gpu(void **state)
{
	replay_one("gpu");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_calls),     cmocka_unit_test(test_loss),
	    cmocka_unit_test(test_processes), cmocka_unit_test(test_runtime),
	    cmocka_unit_test(test_damage),    cmocka_unit_test(test_lines),
	    cmocka_unit_test(test_control),   cmocka_unit_test(test_sched),
	    cmocka_unit_test(test_cuda),      cmocka_unit_test(test_marks),
	    cmocka_unit_test(test_memory),    cmocka_unit_test(test_torch),
	    cmocka_unit_test(test_gpu),
	};
	const char *dir = getenv("GOLDEN_DIR");

	if (!realpath(dir ? dir : "tests/golden", golden)) {
		perror("tests/golden");
		return 1;
	}
	return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
