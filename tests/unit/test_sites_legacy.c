// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * The sites up to 3.10 on the interpreters that are installed: found, on instructions that the
 * kernel emulates, and refused as soon as one store is not where it should be. That they are exact
 * is what tests/e2e shows.
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

#define MAX_FILES 16

struct file {
	char path[PATH_MAX];
	uint8_t *data; /* a copy that may be changed */
	size_t size;
	struct elf_file *elf;
	struct eh_ranges eh;
	struct py_image image;
};

static char paths[MAX_FILES][PATH_MAX];
static size_t path_count;

static void add_matches(const char *pattern)
{
	glob_t found;

	if (glob(pattern, 0, NULL, &found))
		return;
	for (size_t i = 0; i < found.gl_pathc && path_count < MAX_FILES; i++)
		snprintf(paths[path_count++], PATH_MAX, "%s", found.gl_pathv[i]);
	globfree(&found);
}

static int find_files(void **state)
{
	static const char *const minors[] = {"3.8", "3.9", "3.10"};
	const char *home = getenv("HOME"), *cache = getenv("PYTRACE_CACHE");
	char pattern[PATH_MAX];

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		snprintf(pattern, sizeof(pattern), "%s/.pyenv/versions/%s.*/lib/libpython%s.so.1.0",
			 home ? home : "", minors[i], minors[i]);
		add_matches(pattern);
		snprintf(pattern, sizeof(pattern), "%s/roots/*/usr/bin/python%s",
			 cache ? cache : "/var/cache/pytrace-bpf", minors[i]);
		add_matches(pattern);
	}
	return 0;
}

static void load(struct file *file, const char *path)
{
	FILE *in = fopen(path, "rb");
	struct pt_err err = {0};

	memset(file, 0, sizeof(*file));
	snprintf(file->path, sizeof(file->path), "%s", path);
	assert_non_null(in);
	fseek(in, 0, SEEK_END);
	file->size = (size_t)ftell(in);
	rewind(in);
	file->data = malloc(file->size);
	assert_non_null(file->data);
	assert_int_equal(fread(file->data, 1, file->size, in), file->size);
	fclose(in);
	assert_int_equal(elf_file_memory(file->data, file->size, &file->elf, &err), 0);
	assert_int_equal(eh_ranges_load(file->elf, &file->eh), 0);
	if (py_layout_fill(&file->image, file->elf, &err))
		fail_msg("%s: %s", path, err.what);
}

static void unload(struct file *file)
{
	eh_ranges_release(&file->eh);
	elf_file_close(file->elf);
	free(file->data);
}

static int find(const struct file *file, unsigned int emulated, struct py_engine_plan *plan)
{
	struct py_finder finder = {file->elf, &file->eh, emulated};

	memset(plan, 0, sizeof(*plan));
	return py_sites_legacy(&file->image, &finder, plan);
}

static void check_plan(const struct file *file, const struct py_engine_plan *plan, bool moved)
{
	size_t enters = 0, exits = 0;

	for (size_t i = 0; i < plan->site_count; i++) {
		const struct py_site *site = &plan->sites[i];
		unsigned int kind = PT_COOKIE_KIND(site->cookie);

		assert_true(kind == PT_SITE_ENTER_REG || kind == PT_SITE_EXIT);
		enters += kind == PT_SITE_ENTER_REG;
		exits += kind == PT_SITE_EXIT;
		assert_int_equal(PT_COOKIE_SITE(site->cookie), i);
		assert_true(PT_COOKIE_TS(site->cookie) < 16);
		/* of an exit it may be lost on the store, and is known where the probe can move */
		if (moved || kind == PT_SITE_ENTER_REG)
			assert_true(PT_COOKIE_FRAME_REG(site->cookie) < 16);
		assert_memory_equal(site->bytes, file->data + site->offset, site->byte_count);
		assert_int_equal(site->insn_class != PY_INSN_OTHER, moved);
		if (moved && strcmp(site->method, "jump before"))
			assert_int_equal(PT_COOKIE_RAW_DELTA(site->cookie), 0);
		else
			assert_int_equal(PT_COOKIE_RAW_DELTA(site->cookie),
					 kind == PT_SITE_ENTER_REG ? -1 : 1);
	}
	assert_true(enters > 0 && exits > 0);
}

static void test_sites_are_found(void **state)
{
	(void)state;
	for (size_t i = 0; i < path_count; i++) {
		struct py_engine_plan plan;
		struct file file;

		load(&file, paths[i]);
		if (find(&file, PY_INSN_EMULATED_DEFAULT, &plan))
			fail_msg("%s: %s", paths[i], plan.reason);
		print_message("  CPython %s %s: %zu sites\n", file.image.version_text, paths[i],
			      plan.site_count);
		check_plan(&file, &plan, true);
		free(plan.sites);
		/* a kernel that emulates nothing: on the stores themselves */
		assert_int_equal(find(&file, 0, &plan), 0);
		check_plan(&file, &plan, false);
		assert_true(plan.reason[0]);
		free(plan.sites);
		unload(&file);
	}
	if (!path_count)
		skip();
}

/* Each store that makes a site becomes nops, or stores something else: refused, never a plan with
 * a hole. */
static void test_a_missing_store_is_refused(void **state)
{
	(void)state;
	for (size_t i = 0; i < path_count; i++) {
		struct py_engine_plan plan, broken;
		struct file file;

		load(&file, paths[i]);
		assert_int_equal(find(&file, 0, &plan), 0);
		for (size_t s = 0; s < plan.site_count; s++) {
			const struct py_site *site = &plan.sites[s];

			memset(file.data + site->offset, 0x90, site->byte_count);
			assert_int_equal(find(&file, PY_INSN_EMULATED_DEFAULT, &broken), -ENOTSUP);
			assert_int_equal(broken.site_count, 0);
			assert_true(broken.reason[0]);
			memcpy(file.data + site->offset, site->bytes, site->byte_count);
		}
		free(plan.sites);
		unload(&file);
	}
	if (!path_count)
		skip();
}

/* The code of the function, damaged at random: a plan may still come out, but nothing breaks, and
 * each site lies on an instruction of the file. */
static void test_damaged_code(void **state)
{
	(void)state;
	srandom(7);
	for (size_t i = 0; i < path_count; i++) {
		struct file file;

		load(&file, paths[i]);
		for (int n = 0; n < 40; n++) {
			size_t at = file.image.eval.offset +
				    (size_t)random() % (file.image.eval.size + 1);
			uint8_t old = file.data[at];
			struct py_engine_plan plan;
			int rc;

			file.data[at] = (uint8_t)random();
			rc = find(&file, PY_INSN_EMULATED_DEFAULT, &plan);
			assert_true(rc == 0 || rc == -ENOTSUP);
			assert_int_equal(rc == 0, plan.site_count > 0);
			free(plan.sites);
			file.data[at] = old;
		}
		unload(&file);
	}
	if (!path_count)
		skip();
}

static void test_code_destructor(void **state)
{
	(void)state;
	for (size_t i = 0; i < path_count; i++) {
		struct py_engine_plan plan = {0};
		struct file file;
		struct py_finder finder;

		load(&file, paths[i]);
		finder = (struct py_finder){file.elf, &file.eh, PY_INSN_EMULATED_DEFAULT};
		assert_int_equal(py_site_free_code(&file.image, &finder, &plan), 0);
		assert_int_equal(plan.site_count, 1);
		assert_int_equal(PT_COOKIE_KIND(plan.sites[0].cookie), PT_SITE_FREE_CODE);
		free(plan.sites);
		unload(&file);
	}
	if (!path_count)
		skip();
}

/* What a generator's throw() does to the chain of frames: 3.8 does nothing; up to 3.10.7 greenlets
 * are not told apart if that is not seen. */
static void test_throws(void **state)
{
	(void)state;
	for (size_t i = 0; i < path_count; i++) {
		struct py_engine_plan plan = {0}, broken = {0}, *frame;
		struct py_finder finder;
		struct file file;

		load(&file, paths[i]);
		finder = (struct py_finder){file.elf, &file.eh, PY_INSN_EMULATED_DEFAULT};
		py_rt_layout_fill(&file.image, &finder);
		py_value_layout_fill(&file.image, file.elf);
		frame = &file.image.engines[PY_ENGINE_FRAME];
		assert_int_equal(find(&file, PY_INSN_EMULATED_DEFAULT, frame), 0);
		assert_int_equal(py_sites_throw(&file.image, &finder, &plan), 0);
		assert_int_equal(file.image.rt.chains, 1);
		assert_int_equal(plan.site_count > 0, file.image.version >= 0x03090000);
		for (size_t s = 0; s < plan.site_count; s++) {
			const struct py_site *site = &plan.sites[s];

			assert_int_equal(PT_COOKIE_KIND(site->cookie), PT_SITE_THROW);
			assert_true(PT_COOKIE_TS(site->cookie) < 16);
			assert_true(PT_COOKIE_FRAME_REG(site->cookie) < 16);
			memset(file.data + site->offset, 0x90, site->byte_count);
		}
		assert_int_equal(py_sites_throw(&file.image, &finder, &broken), 0);
		/* 3.10 has another store of that kind there */
		if (file.image.version < 0x030a0000)
			assert_int_equal(broken.site_count, 0);
		assert_int_equal(file.image.rt.chains, file.image.version < 0x03090000 ||
							   file.image.version >= 0x030a0800);
		/* the frame that is left is not known */
		for (size_t s = 0; s < frame->site_count; s++)
			if (PT_COOKIE_KIND(frame->sites[s].cookie) == PT_SITE_EXIT)
				frame->sites[s].cookie = PT_COOKIE(PT_SITE_EXIT, 0, 0, 0,
								   PT_REG_NONE, 0, 0, s);
		assert_int_equal(py_sites_throw(&file.image, &finder, &broken), 0);
		assert_int_equal(file.image.rt.chains, 0);
		free(frame->sites);
		free(broken.sites);
		free(plan.sites);
		unload(&file);
	}
	if (!path_count)
		skip();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_sites_are_found),
	    cmocka_unit_test(test_a_missing_store_is_refused),
	    cmocka_unit_test(test_damaged_code),
	    cmocka_unit_test(test_code_destructor),
	    cmocka_unit_test(test_throws),
	};

	return cmocka_run_group_tests(tests, find_files, NULL);
}
