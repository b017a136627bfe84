// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/* Versions and field offsets: what is known is taken, everything else is refused. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "python/layout.h"

/* _Py_DebugOffsets as Debian's 3.13.5, 3.14.10 and 3.15.2 carry them, without cookie and version.
 */
static const uint64_t offsets_313[] = {
    0,  283376, 608,  632, 194976, 7272, 7264, 7344, 7400, 7656, 7640, 7648, 16,  7752,
    0,  7768,   7760, 304, 0,      8,    16,   72,   152,  160,  232,  32,   80,  8,
    0,  56,     72,   70,  208,    112,  120,  128,  136,  68,   52,   96,   104, 200,
    16, 8,      416,  24,  88,     168,  32,   24,   16,   40,   24,   16,   48,  32,
    40, 24,     16,   32,  16,     24,   40,   16,   32,   64,   32,   16,   40};
static const uint64_t offsets_314[] = {
    0,    316616, 784,  808, 225864, 7280, 7272, 7344, 7360, 7408, 7688, 7672, 7680, 16,  7784, 0,
    7800, 7792,   7992, 0,   832,    0,    8,    16,   72,   152,  160,  232,  32,   88,  8,    0,
    56,   80,     74,   64,  0,      216,  112,  120,  128,  136,  68,   52,   96,   104, 208,  0,
    16,   8,      416,  24,  88,     168,  40,   32,   16,   40,   24,   16,   200,  24,  40,   32,
    48,   32,     40,   24,  16,     32,   16,   24,   40,   16,   32,   64,   32,   16,  40};
static const uint64_t offsets_315[] = {
    0,    346568, 912,  936, 226240, 7272, 7264, 7336, 7352, 7400, 7592, 7576, 7584, 16,  7736, 0,
    7752, 7744,   7944, 0,   888,    0,    8,    16,   72,   80,   88,   96,   176,  184, 256,  32,
    36,   40,     136,  288, 0,      88,   8,    0,    56,   80,   74,   64,   0,    216, 112,  120,
    128,  136,    68,   52,  96,     104,  208,  0,    16,   8,    424,  24,   88,   168, 32,   288,
    944,  888,    40,   32,  16,     40,   24,   16,   200,  24,   40,   32,   48,   32,  40,   24,
    16,   32,     16,   24,  40,     16,   32,   64,   32,   16,   40};

static size_t fill(uint64_t *data, uint32_t version)
{
	const uint64_t *from = offsets_315;
	size_t size = sizeof(offsets_315);

	if ((version >> 16 & 0xff) == 13) {
		from = offsets_313;
		size = sizeof(offsets_313);
	} else if ((version >> 16 & 0xff) == 14) {
		from = offsets_314;
		size = sizeof(offsets_314);
	}
	memset(data, 0, PY_DEBUG_OFFSETS_BYTES);
	memcpy(data, "xdebugpy", 8);
	data[1] = version;
	memcpy(data + 2, from, size);
	return 16 + size;
}

static void test_version_text(void **state)
{
	static const struct {
		const char *text;
		uint32_t version;
	} cases[] = {
	    {"3.12.1", 0x030c01f0},
	    {"3.8.0", 0x030800f0},
	    {"3.9.2+", 0x030902f0},
	    {"3.13.0rc2", 0x030d00c2},
	    {"3.15.0a7", 0x030f00a7},
	    {"3.14.0b4+", 0x030e00b4},
	    {"3.12", 0},
	    {"3.12.1 (main)", 0},
	    {"", 0},
	    {"3.12.", 0},
	    {"three", 0},
	    {"3.12.300", 0},
	    {"3.12.1rc", 0},
	    {"%.80s (%.80s) %.80s", 0},
	};
	char text[32];

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		assert_int_equal(py_version_parse(cases[i].text, 24), cases[i].version);
	/* not terminated within its bounds */
	assert_int_equal(py_version_parse("3.12.12", 6), 0x030c01f0);
	py_version_format(0x030c01f0, text, sizeof(text));
	assert_string_equal(text, "3.12.1");
	py_version_format(0x030d00c2, text, sizeof(text));
	assert_string_equal(text, "3.13.0rc2");
}

static void test_table(void **state)
{
	struct py_runtime_layout runtime;
	struct pt_layout layout;
	struct pt_err err = {0};

	(void)state;
	for (uint32_t minor = 8; minor <= 12; minor++) {
		uint32_t version = 0x030000f0 | minor << 16;

		assert_int_equal(py_layout_from_table(version, &layout, &runtime, &err), 0);
		assert_int_equal(layout.version, version);
		assert_int_equal(!!(layout.flags & PT_LF_DELTA), minor >= 12);
		assert_int_equal(!!(layout.flags & PT_LF_HAS_OWNER), minor >= 11);
		assert_int_equal(layout.ts_remaining != PT_NO_FIELD, minor >= 11);
		assert_int_equal(layout.code_qualname != PT_NO_FIELD, minor >= 11);
		assert_int_equal(layout.owner_hidden, minor >= 12 ? 3 : 0xff);
	}
	/* facts measured on running interpreters */
	assert_int_equal(layout.ts_remaining, 0x1c);
	assert_int_equal(layout.ts_frame, 0x38);
	assert_int_equal(layout.code_firstlineno, 68);
	assert_int_equal(layout.str_ascii_data, 40);
}

static void test_unknown_versions_are_refused(void **state)
{
	static const uint32_t versions[] = {0x030711f0, 0x031000f0, 0x030c00a1, 0x030d00b2,
					    0x020712f0, 0x040000f0, 0x030d00f0, 0};
	uint64_t data[PY_DEBUG_OFFSETS_BYTES / 8];
	struct py_runtime_layout runtime;
	struct pt_layout layout;
	bool free_threaded;

	(void)state;
	for (size_t i = 0; i < sizeof(versions) / sizeof(versions[0]); i++) {
		struct pt_err err = {0};

		assert_int_equal(py_layout_from_table(versions[i], &layout, &runtime, &err),
				 -ENOTSUP);
		assert_int_equal(err.exit_code, PT_EXIT_UNSUPPORTED);
		assert_true(err.hint[0]);
		if (versions[i] == 0x030d00f0)
			continue; /* known, but not from the table */
		fill(data, versions[i]);
		assert_int_equal(py_layout_from_debug_offsets(data, sizeof(data), versions[i],
							      &free_threaded, &layout, &runtime,
							      NULL),
				 -ENOTSUP);
	}
}

static void check_offsets(uint32_t version, uint16_t owner, uint32_t native_id)
{
	uint64_t data[PY_DEBUG_OFFSETS_BYTES / 8];
	struct py_runtime_layout runtime;
	struct pt_layout layout;
	struct pt_err err = {0};
	bool free_threaded;
	size_t size = fill(data, version);

	if (py_layout_from_debug_offsets(data, size, version, &free_threaded, &layout, &runtime,
					 &err))
		fail_msg("%s", err.what);
	assert_int_equal(layout.ts_frame, 72);
	assert_int_equal(layout.frame_back, 8);
	assert_int_equal(layout.frame_owner, owner);
	assert_int_equal(layout.frame_code_mask, version >= 0x030e0000 ? 3 : 0);
	assert_int_equal(layout.code_flags, 48);
	assert_int_equal(layout.code_name, 120);
	assert_int_equal(layout.code_qualname, 128);
	assert_int_equal(layout.code_filename, 112);
	assert_int_equal(layout.str_ascii_data, 40);
	assert_int_equal(layout.str_data, 56);
	assert_int_equal(runtime.ts_next, 8);
	assert_int_equal(runtime.ts_native_thread_id, native_id);
	/* cut short, of another version, without the GIL, with another cookie */
	assert_int_equal(py_layout_from_debug_offsets(data, size - 1, version, &free_threaded,
						      &layout, &runtime, NULL),
			 -ENOTSUP);
	assert_int_equal(py_layout_from_debug_offsets(data, size, version + 0x100, &free_threaded,
						      &layout, &runtime, NULL),
			 -ENOTSUP);
	data[2] = 1;
	assert_int_equal(py_layout_from_debug_offsets(data, size, version, &free_threaded, &layout,
						      &runtime, NULL),
			 -ENOTSUP);
	assert_true(free_threaded);
	fill(data, version);
	((char *)data)[0] = 'X';
	assert_int_equal(py_layout_from_debug_offsets(data, size, version, &free_threaded, &layout,
						      &runtime, NULL),
			 -ENOTSUP);
}

static void test_debug_offsets(void **state)
{
	(void)state;
	check_offsets(0x030d05f0, 70, 160);
	check_offsets(0x030e0af0, 74, 160);
	check_offsets(0x030f02f0, 74, 184);
}

/* Whatever stands there: no offset that is used ever lies outside its struct. */
static void test_random_offsets(void **state)
{
	uint64_t data[PY_DEBUG_OFFSETS_BYTES / 8];
	struct py_runtime_layout runtime;
	struct pt_layout layout;
	bool free_threaded;

	(void)state;
	srandom(1);
	for (int i = 0; i < 200000; i++) {
		uint32_t version = 0x030d00f0 + ((uint32_t)(i % 3) << 16);
		size_t size = fill(data, version);

		for (int n = 0; n < 2; n++)
			data[3 + (size_t)random() % (size / 8 - 3)] = random() % 2
									  ? (uint64_t)random()
									  : ~0ull >> random() % 64;
		if (py_layout_from_debug_offsets(data, size, version, &free_threaded, &layout,
						 &runtime, NULL))
			continue;
		assert_true(layout.ts_frame < 0x4000 && runtime.ts_next < 0x4000);
		assert_true(layout.frame_back < 256 && layout.frame_code < 256 &&
			    layout.frame_owner < 256);
		assert_true(layout.code_name < 1024 && layout.code_flags < 1024);
		assert_true(runtime.rt_interp_head < 1u << 24 &&
			    runtime.interp_threads_head < 1u << 24);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_version_text),
	    cmocka_unit_test(test_table),
	    cmocka_unit_test(test_unknown_versions_are_refused),
	    cmocka_unit_test(test_debug_offsets),
	    cmocka_unit_test(test_random_offsets),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
