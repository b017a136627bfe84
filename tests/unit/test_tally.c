// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/* The counts in a raw capture's summary: copies of half-full batches count once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "rec_builder.h"
#include "record/tally.h"

static int take(const struct pt_rec *record, size_t len, void *ctx)
{
	(void)len;
	if (record->kind == PT_REC_BATCH)
		pt_tally_batch(ctx, (const struct pt_rec_batch *)record);
	return 0;
}

static void test_peeks_count_once(void **state)
{
	struct rec_thread t = rec_thread(10, 11, 1, "t");
	struct pt_tally tally = {0};
	struct rec_builder b;

	(void)state;
	rec_init(&b, take, &tally);
	batch_begin(&b, &t, 1000);
	batch_enter(&b, 1, 1000);
	batch_peek(&b);
	assert_int_equal(tally.events, 1);
	batch_peek(&b);
	assert_int_equal(tally.events, 1);
	batch_exit(&b, 1100);
	batch_enter(&b, 2, 1200);
	batch_peek(&b);
	assert_int_equal(tally.events, 3);
	batch_exit(&b, 1300);
	batch_end(&b, 0);
	assert_int_equal(tally.events, 4);
	/* the next batch is as long as the last one was */
	batch_begin(&b, &t, 2000);
	for (unsigned int i = 0; i < 4; i++)
		batch_enter(&b, 1, 2000 + i);
	batch_peek(&b);
	assert_int_equal(tally.events, 8);
	assert_int_equal(pt_tally_threads(&tally), 1);
	pt_tally_release(&tally);
}

static void test_threads_and_images(void **state)
{
	struct rec_thread threads[] = {
	    rec_thread(10, 10, 1, "a"),
	    rec_thread(10, 11, 1, "b"),
	    rec_thread(10, 10, 2, "executed"),
	    rec_thread(11, 11, 3, "c"),
	};
	struct pt_tally tally = {0};
	struct rec_builder b;

	(void)state;
	rec_init(&b, take, &tally);
	for (size_t i = 0; i < sizeof(threads) / sizeof(threads[0]); i++) {
		batch_begin(&b, &threads[i], 1000);
		batch_enter(&b, 1, 1000);
		batch_peek(&b);
		batch_exit(&b, 1000);
		batch_end(&b, 0);
	}
	assert_int_equal(tally.events, 8);
	assert_int_equal(pt_tally_threads(&tally), 3);
	pt_tally_release(&tally);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_peeks_count_once),
	    cmocka_unit_test(test_threads_and_images),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
