// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/* Times, sizes, numbers and lists of pids. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/parse.h"

static void test_times(void **state)
{
	static const struct {
		const char *text;
		int rc;
		uint64_t ns;
	} cases[] = {
	    {"10s", 0, 10000000000ull},
	    {"10", 0, 10000000000ull},
	    {"500ms", 0, 500000000ull},
	    {"1.5s", 0, 1500000000ull},
	    {"0.000000001", 0, 1},
	    {"2m", 0, 120000000000ull},
	    {"2min", 0, 120000000000ull},
	    {"1h", 0, 3600000000000ull},
	    {"20us", 0, 20000},
	    {"7ns", 0, 7},
	    {"0", 0, 0},
	    {"1.9999999999ns", 0, 1},
	    {"", -EINVAL, 0},
	    {"s", -EINVAL, 0},
	    {"-1s", -EINVAL, 0},
	    {" 1s", -EINVAL, 0},
	    {"1 s", -EINVAL, 0},
	    {"1.s", -EINVAL, 0},
	    {".5s", -EINVAL, 0},
	    {"1e3s", -EINVAL, 0},
	    {"5parsecs", -EINVAL, 0},
	    {"0x10", -EINVAL, 0},
	    {"99999999999999999999s", -ERANGE, 0},
	    {"18446744074s", -ERANGE, 0},
	    {"18446744073.709551616s", -ERANGE, 0},
	    {"18446744073.709551615s", 0, UINT64_MAX},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		uint64_t ns = 0;
		int rc = pt_parse_time_ns(cases[i].text, &ns);

		if (rc != cases[i].rc || (!rc && ns != cases[i].ns))
			fail_msg("'%s': %d, %llu", cases[i].text, rc, (unsigned long long)ns);
	}
}

static void test_sizes(void **state)
{
	uint64_t bytes;

	assert_int_equal(pt_parse_size("64M", &bytes), 0);
	assert_int_equal(bytes, 64u << 20);
	assert_int_equal(pt_parse_size("1.5K", &bytes), 0);
	assert_int_equal(bytes, 1536);
	assert_int_equal(pt_parse_size("4096", &bytes), 0);
	assert_int_equal(bytes, 4096);
	assert_int_equal(pt_parse_size("2GiB", &bytes), 0);
	assert_int_equal(bytes, 2ull << 30);
	assert_int_equal(pt_parse_size("16777216T", &bytes), -ERANGE);
	assert_int_equal(pt_parse_size("99999999999G", &bytes), -ERANGE);
	assert_int_equal(pt_parse_size("big", &bytes), -EINVAL);
	assert_int_equal(pt_parse_size("1s", &bytes), -EINVAL);
}

static void test_numbers(void **state)
{
	uint64_t number;

	assert_int_equal(pt_parse_number("18446744073709551615", &number), 0);
	assert_true(number == UINT64_MAX);
	assert_int_equal(pt_parse_number("18446744073709551616", &number), -ERANGE);
	assert_int_equal(pt_parse_number("1.0", &number), -EINVAL);
	assert_int_equal(pt_parse_number("", &number), -EINVAL);
	assert_int_equal(pt_parse_number("+1", &number), -EINVAL);
}

static void test_pids(void **state)
{
	static const char *const bad[] = {"",  ",",  "1,",  ",1", "1,,2",
					  "0", "-5", "1.5", "a",  "1 2"};
	pid_t *pids = NULL;
	size_t count = 0;

	assert_int_equal(pt_parse_pids("12,34,12", &pids, &count), 0);
	assert_int_equal(count, 2);
	assert_int_equal(pt_parse_pids("56", &pids, &count), 0);
	assert_int_equal(count, 3);
	assert_int_equal(pids[0], 12);
	assert_int_equal(pids[1], 34);
	assert_int_equal(pids[2], 56);
	assert_int_equal(pt_parse_pids("99999999999", &pids, &count), -ERANGE);
	free(pids);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		pids = NULL;
		count = 0;
		if (pt_parse_pids(bad[i], &pids, &count) != -EINVAL)
			fail_msg("'%s' was taken", bad[i]);
		free(pids);
	}
}

static void test_percent(void **state)
{
	uint64_t ppm;

	assert_int_equal(pt_parse_percent("1%", &ppm), 0);
	assert_int_equal(ppm, 10000);
	assert_int_equal(pt_parse_percent("0.05", &ppm), 0);
	assert_int_equal(ppm, 500);
	assert_int_equal(pt_parse_percent("100%", &ppm), 0);
	assert_int_equal(ppm, 1000000);
	assert_int_equal(pt_parse_percent("100.1%", &ppm), -ERANGE);
	assert_int_equal(pt_parse_percent("1x", &ppm), -EINVAL);
	assert_int_equal(pt_parse_percent("%", &ppm), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_percent), cmocka_unit_test(test_times),
	    cmocka_unit_test(test_sizes),   cmocka_unit_test(test_numbers),
	    cmocka_unit_test(test_pids),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
