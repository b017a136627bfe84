// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * The bytes at a site are compared before it is probed: this program is the process. The bytes lie
 * in data here; /proc/PID/mem does not mind.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the four above first */
#include <cmocka.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "probe/parallel.h"
#include "probe/tracer.h"

static const uint8_t analysed[6] = {0x0f, 0x84, 0x11, 0x22, 0x33, 0x44}; /* je rel32 */
static uint8_t in_memory[16];

static int check(enum py_insn_class insn_class, const uint8_t *bytes, uint8_t count, uint64_t vaddr,
		 struct pt_err *err)
{
	struct py_site site = {
	    .vaddr = vaddr, .insn_class = insn_class, .byte_count = count, .cookie = 1};
	struct py_image image = {.path = (char *)"test"};

	memcpy(site.bytes, bytes, sizeof(analysed) < count ? sizeof(analysed) : count);
	image.engines[PY_ENGINE_FRAME] = (struct py_engine_plan){
	    .usable = true, .sites = &site, .site_count = 1};
	memset(err, 0, sizeof(*err));
	return pt_text_check_process(&image, PY_ENGINE_FRAME, getpid(), (uintptr_t)in_memory, err);
}

static void same_bytes_pass(void **state)
{
	struct pt_err err;

	(void)state;
	memcpy(in_memory, analysed, sizeof(analysed));
	assert_int_equal(check(PY_INSN_JCC, analysed, 6, 0, &err), 0);
}

static void other_code_is_refused(void **state)
{
	struct pt_err err;

	(void)state;
	for (size_t i = 0; i < sizeof(analysed); i++) {
		memcpy(in_memory, analysed, sizeof(analysed));
		in_memory[i] ^= 0x10;
		assert_int_equal(check(PY_INSN_JCC, analysed, 6, 0, &err), -EINVAL);
		assert_int_equal(err.exit_code, PT_EXIT_UNSUPPORTED);
		assert_non_null(strstr(err.what, "differs"));
	}
}

static void a_breakpoint_is_tolerated_only_as_the_first_byte(void **state)
{
	struct pt_err err;

	(void)state;
	memcpy(in_memory, analysed, sizeof(analysed));
	in_memory[0] = 0xcc;
	assert_int_equal(check(PY_INSN_JCC, analysed, 6, 0, &err), 0);
	in_memory[3] = 0xcc;
	assert_int_equal(check(PY_INSN_JCC, analysed, 6, 0, &err), -EINVAL);
}

static void an_optimised_nop5_is_tolerated(void **state)
{
	static const uint8_t nop5[5] = {0x0f, 0x1f, 0x44, 0x00, 0x00};
	static const uint8_t call[5] = {0xe8, 0x01, 0x02, 0x03, 0x04};
	struct pt_err err;

	(void)state;
	memcpy(in_memory, call, sizeof(call));
	assert_int_equal(check(PY_INSN_NOP5, nop5, 5, 0, &err), 0);
	/* elsewhere a call is just other code */
	assert_int_equal(check(PY_INSN_CALL, nop5, 5, 0, &err), -EINVAL);
}

static void what_cannot_be_read_is_refused(void **state)
{
	struct pt_err err;

	(void)state;
	/* the first page is never mapped */
	assert_int_equal(check(PY_INSN_JCC, analysed, 6, 16 - (uintptr_t)in_memory, &err), -ESRCH);
	assert_int_equal(err.exit_code, PT_EXIT_NO_TARGET);
	/* a site without bytes, or with too many, proves nothing */
	memcpy(in_memory, analysed, sizeof(analysed));
	assert_int_not_equal(check(PY_INSN_JCC, analysed, 0, 0, &err), 0);
	assert_int_not_equal(check(PY_INSN_JCC, analysed, 17, 0, &err), 0);
}

static void mark(size_t i, void *ctx)
{
	__atomic_add_fetch((int *)ctx + i, 1, __ATOMIC_RELAXED);
}

static void parallel_does_each_once(void **state)
{
	static const size_t counts[] = {0, 1, 2, 31, 33, 1000};
	int done[1000];

	(void)state;
	for (size_t n = 0; n < sizeof(counts) / sizeof(counts[0]); n++) {
		memset(done, 0, sizeof(done));
		pt_parallel(counts[n], mark, done);
		for (size_t i = 0; i < 1000; i++)
			assert_int_equal(done[i], i < counts[n]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(same_bytes_pass),
	    cmocka_unit_test(other_code_is_refused),
	    cmocka_unit_test(a_breakpoint_is_tolerated_only_as_the_first_byte),
	    cmocka_unit_test(an_optimised_nop5_is_tolerated),
	    cmocka_unit_test(what_cannot_be_read_is_refused),
	    cmocka_unit_test(parallel_does_each_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
