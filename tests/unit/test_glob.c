// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/* Globs for BPF: characters, what stands for others, and what is refused. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "probe/tracer.h"

static void assert_chars(const char *text, const uint32_t *chars, size_t count)
{
	struct pt_glob glob;

	assert_int_equal(pt_glob_parse(text, &glob), 0);
	assert_int_equal(glob.count, count);
	assert_memory_equal(glob.chars, chars, count * sizeof(*chars));
}

static void test_characters(void **state)
{
	static const uint32_t plain[] = {'a', '.', '_', 'Z'};
	static const uint32_t wild[] = {PT_GLOB_STAR, 'x', PT_GLOB_ANY, PT_GLOB_STAR};
	static const uint32_t taken[] = {'*', '?', '[', '\\', ']'};
	static const uint32_t wide[] = {0xe9, 0x540d, 0x1f40d};

	assert_chars("a._Z", plain, 4);
	assert_chars("*x?*", wild, 4);
	assert_chars("\\*\\?\\[\\\\]", taken, 5);
	assert_chars("\u00e9\u540d\U0001f40d", wide, 3);
}

static void test_refused(void **state)
{
	static const char *const bad[] = {"",
					  "a\\",
					  "[ab]",
					  "\xff",
					  "\xc3",
					  "\xc0\x80",
					  "\xe0\x80",
					  "\xe0\x80\x80",
					  "\xf4\x90\x80\x80",
					  "\xf5\x80\x80\x80",
					  "\x80"};
	char text[66];

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(pt_glob_check(bad[i]), -EINVAL);
	memset(text, 'x', 65);
	text[65] = '\0';
	assert_int_equal(pt_glob_check(text), -E2BIG);
	text[64] = '\0';
	assert_int_equal(pt_glob_check(text), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_characters),
	    cmocka_unit_test(test_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
