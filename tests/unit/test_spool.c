// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/* The queue of records: order, spilling, a slow consumer, a failing one. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <linux/types.h>

#include <cmocka.h>

#include "record/spool.h"

struct consumer {
	uint64_t next, fail_at;
	unsigned int sleep_us;
	bool wrong;
};

/* Records carry their number in time_ns, and their length depends on it. */
static size_t length_of(uint64_t number)
{
	return sizeof(struct pt_rec) + 8 + number * 7919 % 4000 / 8 * 8;
}

static int consume(const struct pt_rec *record, size_t len, void *ctx)
{
	struct consumer *consumer = ctx;

	if (record->time_ns != consumer->next || len != length_of(consumer->next) ||
	    record->len != len || ((const char *)record)[len - 1] != (char)consumer->next)
		consumer->wrong = true;
	consumer->next++;
	if (consumer->sleep_us)
		usleep(consumer->sleep_us);
	return consumer->fail_at && consumer->next > consumer->fail_at ? -ENOSPC : 0;
}

static void put(struct pt_spool *spool, uint64_t number)
{
	_Alignas(8) char buffer[sizeof(struct pt_rec) + 4008] = {0};
	struct pt_rec *record = (struct pt_rec *)(void *)buffer;
	size_t len = length_of(number);

	buffer[len - 1] = (char)number;
	record->len = (__u32)len;
	record->time_ns = number;
	assert_int_equal(pt_spool_put(spool, record, len), 0);
}

static struct pt_spool *start(struct consumer *consumer, size_t memory_bytes)
{
	struct pt_spool *spool;
	struct pt_err err = {0};

	assert_int_equal(pt_spool_new(memory_bytes, "/tmp", consume, consumer, &spool, &err), 0);
	return spool;
}

static void finish(struct pt_spool *spool)
{
	pt_spool_end(spool);
	for (int i = 0; !pt_spool_wait(spool, 1000); i++)
		assert_true(i < 60);
}

static void put_many(struct pt_spool *spool, uint64_t from, uint64_t count)
{
	for (uint64_t i = from; i < from + count; i++)
		put(spool, i);
}

static void test_all_arrive(void **state)
{
	struct consumer consumer = {0};
	struct pt_spool *spool = start(&consumer, 0);

	put_many(spool, 0, 20000);
	finish(spool);
	assert_int_equal(consumer.next, 20000);
	assert_int_equal(pt_spool_error(spool), 0);
	assert_int_equal(pt_spool_backlog_bytes(spool), 0);
	pt_spool_free(spool);
}

/* 40 MB for a consumer that hardly moves: beyond 2 MB they go to disk, and come back in order. */
static void test_spills(void **state)
{
	struct consumer consumer = {.sleep_us = 20};
	struct pt_spool *spool = start(&consumer, 2 << 20);

	put_many(spool, 0, 20000);
	assert_true(pt_spool_spilled_bytes(spool) > 10 << 20);
	assert_true(pt_spool_backlog_bytes(spool) > 10 << 20);
	pt_spool_flush(spool);
	put_many(spool, 20000, 10);
	finish(spool);
	assert_int_equal(consumer.next, 20010);
	assert_int_equal(pt_spool_backlog_bytes(spool), 0);
	pt_spool_free(spool);
}

static void test_consumer_fails(void **state)
{
	struct consumer consumer = {.fail_at = 100};
	struct pt_spool *spool = start(&consumer, 0);

	put_many(spool, 0, 5000);
	finish(spool);
	assert_int_equal(pt_spool_error(spool), -ENOSPC);
	assert_int_equal(consumer.next, 101);
	pt_spool_free(spool);
}

static void test_too_long(void **state)
{
	struct consumer consumer = {0};
	struct pt_spool *spool = start(&consumer, 0);
	struct pt_rec *record = calloc(1, 2 << 20);

	assert_non_null(record);
	assert_int_equal(pt_spool_put(spool, record, 2 << 20), -EMSGSIZE);
	free(record);
	finish(spool);
	assert_int_equal(consumer.next, 0);
	pt_spool_free(spool);
}

/* Freed with records left: they are dropped, nothing hangs or leaks. */
static void test_abandoned(void **state)
{
	struct consumer consumer = {.sleep_us = 1000};
	struct pt_spool *spool = start(&consumer, 1 << 20);

	put_many(spool, 0, 5000);
	pt_spool_free(spool);
	assert_true(consumer.next < 5000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_all_arrive),     cmocka_unit_test(test_spills),
	    cmocka_unit_test(test_consumer_fails), cmocka_unit_test(test_too_long),
	    cmocka_unit_test(test_abandoned),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
