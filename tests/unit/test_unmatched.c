// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/* Names that the user gave: which of them nothing had. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "rec_builder.h"
#include "record/unmatched.h"

static int take(const struct pt_rec *record, size_t len, void *ctx)
{
	unmatched_record(ctx, record, len);
	return 0;
}

static void test_none(void **state)
{
	const struct pt_tracer_options options = {0};
	struct unmatched *unmatched;

	assert_int_equal(unmatched_new(&options, &unmatched), 0);
	assert_null(unmatched);
	unmatched_free(unmatched);
}

static void test_met(void **state)
{
	static const char *const args[] = {"C.m*", "nosuch", NULL}, *const local[] = {"f:x", NULL};
	static const char *const audit[] = {"app.*", "open", NULL};
	static const char *const event[] = {"app.mark", "#1", NULL};
	const struct pt_tracer_options options = {.args = args,
						  .local = local,
						  .audit = audit,
						  .start_on = "open",
						  .stop_on = "app.mark"};
	struct rec_thread t = rec_thread(10, 10, 1, "main");
	struct unmatched *unmatched;
	struct rec_builder b;

	assert_int_equal(unmatched_new(&options, &unmatched), 0);
	assert_int_equal(unmatched_count(unmatched), 7);
	rec_init(&b, take, unmatched);
	rec_code(&b, 1, "method", "C.method", "/app/main.py", 1);
	assert_int_equal(unmatched_count(unmatched), 6);
	rec_code(&b, 2, "f", "", "/app/main.py", 2); /* has no qualified name */
	rec_code(&b, 3, "nosuch", "C.nosuch", "/app/main.py", 3);
	assert_int_equal(unmatched_count(unmatched), 5);
	rec_runtime(&b, &t, 1, PT_RT_AUDIT, event, 100); /* not a function */
	rec_runtime(&b, &t, 2, PT_RT_IMPORT, audit + 1, 100);
	assert_int_equal(unmatched_count(unmatched), 4);
	unmatched_tell(unmatched);
	unmatched_free(unmatched);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_none), cmocka_unit_test(test_met)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
