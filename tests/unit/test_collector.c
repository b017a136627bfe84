// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * The collector of 3.14 and later, found in the interpreters that are installed as in a build
 * without USDT probes. Those that have the probes say themselves where the generation is; that the
 * collections are the right ones is what tests/e2e shows.
 */
#include <errno.h>
#include <glob.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "python/parts.h"
#include "python/scan.h"
#include "python/sdt_args.h"
#include "scratch.h"

#define MESSAGE       "gc: collecting generation %d...\n"
#define DAMAGE_ROUNDS 60

struct file {
	uint8_t *data; /* may be changed */
	struct elf_file *elf;
	struct eh_ranges eh;
};

static glob_t paths;
static size_t wanted; /* so many of the paths, the first ones, are of 3.14 and later */

/* Those up to 3.13 have other ways; here they show what other compilers' options lead to. */
static int find_files(void **state)
{
	const char *cache = getenv("PYTRACE_CACHE"), *home = getenv("HOME");
	char pattern[PATH_MAX];

	(void)state;
	snprintf(pattern, sizeof(pattern), "%s/roots/*/usr/bin/python3.1[45]*",
		 cache ? cache : "/var/cache/pytrace-bpf");
	glob(pattern, 0, NULL, &paths);
	wanted = paths.gl_pathc;
	snprintf(pattern, sizeof(pattern), "%s/.pyenv/versions/3.1[0-3].*/lib/libpython3.1?.so.1.0",
		 home ? home : "");
	glob(pattern, GLOB_APPEND, NULL, &paths);
	return 0;
}

static int forget_files(void **state)
{
	(void)state;
	globfree(&paths);
	return 0;
}

/* Is it a program, and not a script such as python3.14-config? */
static bool load(struct file *file, const char *path)
{
	struct pt_err err = {0};
	size_t size;

	file->data = (uint8_t *)scratch_read(path, &size);
	if (size < 4 || memcmp(file->data, "\177ELF", 4)) {
		free(file->data);
		return false;
	}
	assert_int_equal(elf_file_memory(file->data, size, &file->elf, &err), 0);
	assert_int_equal(eh_ranges_load(file->elf, &file->eh), 0);
	return true;
}

static void unload(struct file *file)
{
	eh_ranges_release(&file->eh);
	elf_file_close(file->elf);
	free(file->data);
}

static int find(const struct file *file, struct py_engine_plan *plan)
{
	struct py_finder finder = {file->elf, &file->eh, PY_INSN_EMULATED_DEFAULT};
	uint64_t message = scan_bytes(file->elf, MESSAGE, sizeof(MESSAGE));

	memset(plan, 0, sizeof(*plan));
	return py_sites_collector(&finder, message, plan);
}

static int see_note(const struct elf_sdt_note *note, void *ctx)
{
	struct sdt_arg *arg = ctx;

	return !strcmp(note->name, "gc__start") && sdt_arg_parse(note->args, 0, arg);
}

static void check(const struct file *file, const struct py_engine_plan *plan)
{
	uint64_t begin = plan->sites[0].cookie;
	struct sdt_arg arg = {.bytes = 0};

	assert_int_equal(PT_COOKIE_RT_WHAT(begin), PT_RT_SITE_GC_BEGIN);
	assert_int_equal(plan->sites[0].insn_class, PY_INSN_JCC);
	assert_int_equal(PT_COOKIE_FRAME_REG(begin), 4); /* rsp */
	if (elf_each_sdt_note(file->elf, see_note, &arg)) {
		assert_int_equal(PT_COOKIE_TS(begin), arg.reg);
		assert_int_equal(!!(begin & PT_RT_MEMORY), arg.memory);
		if (arg.memory)
			assert_int_equal(PT_COOKIE_RT_DISP(begin), arg.disp);
	}
	assert_true(plan->site_count >= 2);
	for (size_t i = 1; i < plan->site_count; i++) {
		const struct py_site *site = &plan->sites[i];

		assert_int_equal(PT_COOKIE_RT_WHAT(site->cookie), PT_RT_SITE_GC_RETURN);
		assert_int_equal(site->bytes[0], 0xc3);
		assert_int_equal(PT_COOKIE_TS(site->cookie), 0); /* rax */
		assert_in_range(PT_COOKIE_SLOT(site->cookie), 1, PT_RT_DEPTH_MAX);
		assert_false(site->cookie & PT_RT_MEMORY);
	}
}

static void test_found(void **state)
{
	size_t count = 0;

	(void)state;
	for (size_t i = 0; i < paths.gl_pathc; i++) {
		struct py_engine_plan plan;
		struct file file;

		if (!load(&file, paths.gl_pathv[i]))
			continue;
		if (!find(&file, &plan)) {
			check(&file, &plan);
			print_message("  %s: %zu sites, %u bytes of stack\n", paths.gl_pathv[i],
				      plan.site_count, 8 * PT_COOKIE_SLOT(plan.sites[1].cookie));
		} else {
			print_message("  %s: %s\n", paths.gl_pathv[i], plan.reason);
			assert_true(i >= wanted);
		}
		free(plan.sites);
		unload(&file);
		count++;
	}
	if (!count)
		skip();
}

/* What it goes by is gone: refused, with a reason. */
static void assert_refused(const struct file *file)
{
	struct py_engine_plan plan;

	assert_int_equal(find(file, &plan), -ENOTSUP);
	assert_int_equal(plan.site_count, 0);
	assert_non_null(strstr(plan.reason, "the collector is not understood: "));
}

static void damage_it(struct file *file)
{
	struct py_engine_plan plan, other;
	struct py_site begin, end;
	uint8_t *at;

	assert_int_equal(find(file, &plan), 0);
	begin = plan.sites[0];
	end = plan.sites[plan.site_count - 1];
	free(plan.sites);
	at = file->data + begin.offset;
	memset(at, 0x90, begin.byte_count); /* the jump */
	assert_refused(file);
	memcpy(at, begin.bytes, begin.byte_count);
	if (at[-1] == 1) { /* the test's mask, in all builds seen */
		at[-1] = 2;
		assert_refused(file);
		at[-1] = 1;
	}
	for (int n = 0; n < DAMAGE_ROUNDS; n++) {
		uint64_t around = n & 1 ? end.offset : begin.offset;
		uint64_t where = around - 400 + (uint64_t)random() % 800;
		uint8_t old = file->data[where];
		int rc;

		file->data[where] = (uint8_t)random();
		rc = find(file, &other);
		assert_true(rc == 0 || rc == -ENOTSUP);
		assert_int_equal(rc == 0, other.site_count > 0);
		free(other.sites);
		file->data[where] = old;
	}
}

static void test_damaged(void **state)
{
	struct file file;

	(void)state;
	srandom(3);
	for (size_t i = 0; i < wanted; i++) {
		if (!load(&file, paths.gl_pathv[i]))
			continue;
		damage_it(&file);
		unload(&file);
		return;
	}
	skip();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_found),
	    cmocka_unit_test(test_damaged),
	};

	return cmocka_run_group_tests(tests, find_files, forget_files);
}
