// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * python/jit.c on the interpreters of 3.12 and later that are installed: where the JIT's switch
 * lies, also out of the cache; and what an environment says. That processes are refused by it is
 * what tests/e2e/test_jit.py shows.
 */
#include <glob.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "python/jit.h"

#define FILES_MAX 16

/* What the compiler made of PyInterpreterState (Include/internal/pycore_interp_structs.h). */
static const struct known {
	const char *build_id; /* how it starts */
	uint32_t interp_jit;
} known[] = {
    {"eed13024f47cd567", 0x367d0}, /* 3.14.8, Debian forky */
    {"cccda113240f3ba4", 0x367d0}, /* 3.14.10, Debian sid */
    {"707ba6ee7fc4b6e4", 0x367e0}, /* 3.14.10, its debug build */
    {"d41ac9e28ff414f1", 0x368b0}, /* 3.15.2, Debian sid */
};

static char paths[FILES_MAX][PATH_MAX];
static size_t path_count;

static void add_matches(const char *format, const char *folder)
{
	char pattern[PATH_MAX];
	struct stat st;
	glob_t found;

	snprintf(pattern, sizeof(pattern), format, folder);
	if (glob(pattern, 0, NULL, &found))
		return;
	for (size_t i = 0; i < found.gl_pathc && path_count < FILES_MAX; i++)
		if (!lstat(found.gl_pathv[i], &st) && S_ISREG(st.st_mode))
			snprintf(paths[path_count++], PATH_MAX, "%s", found.gl_pathv[i]);
	globfree(&found);
}

static int find_files(void **state)
{
	const char *home = getenv("HOME"), *cache = getenv("PYTRACE_CACHE");

	(void)state;
	cache = cache ? cache : "/var/cache/pytrace-bpf";
	add_matches("%s/.pyenv/versions/3.1[2-9].*/lib/libpython3.1?.so.1.0", home ? home : "");
	add_matches("%s/roots/*/usr/bin/python3.1[2-9]", cache);
	add_matches("%s/roots/*/usr/bin/python3.1[2-9]d", cache);
	if (!path_count)
		printf("SKIP: no interpreter of 3.12 or later is installed here\n");
	return 0;
}

static struct py_image *load(const char *path, const char *cache_dir)
{
	struct py_image *image;
	struct pt_err err = {0};

	if (py_image_load(path, path, PY_INSN_EMULATED_DEFAULT, cache_dir, &image, &err))
		fail_msg("%s: %s", path, err.what);
	return image;
}

static const struct known *find_known(const struct py_image *image)
{
	char id[17] = "";

	for (size_t i = 0; i < 8 && i < image->build_id_len; i++)
		snprintf(id + 2 * i, 3, "%02x", image->build_id[i]);
	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (!strcmp(known[i].build_id, id))
			return &known[i];
	return NULL;
}

static void check_file(const char *path, const char *cache_dir)
{
	struct py_image *image = load(path, cache_dir), *again = load(path, cache_dir);
	const struct known *expected = find_known(image);

	printf("%s: JIT %s, field at %#x\n", path, image->jit.built ? "built in" : "none",
	       image->jit.interp_jit);
	assert_true(again->from_cache);
	assert_memory_equal(&image->jit, &again->jit, sizeof(image->jit));
	if (!image->jit.built || image->version < 0x030e0000)
		assert_int_equal(image->jit.interp_jit, PY_JIT_NO_FIELD);
	if (image->version < 0x030d0000)
		assert_false(image->jit.built);
	if (expected) {
		assert_true(image->jit.built);
		assert_int_equal(image->jit.interp_jit, expected->interp_jit);
	}
	py_image_free(again);
	py_image_free(image);
}

static void test_files(void **state)
{
	char folder[] = "/tmp/pytrace-jit.XXXXXX", pattern[64];
	glob_t found;

	(void)state;
	assert_non_null(mkdtemp(folder));
	for (size_t i = 0; i < path_count; i++)
		check_file(paths[i], folder);
	snprintf(pattern, sizeof(pattern), "%s/*", folder);
	if (!glob(pattern, 0, NULL, &found)) {
		for (size_t i = 0; i < found.gl_pathc; i++)
			unlink(found.gl_pathv[i]);
		globfree(&found);
	}
	assert_int_equal(rmdir(folder), 0);
}

static uint8_t *file_bytes(const char *path, size_t *size)
{
	FILE *file = fopen(path, "rb");
	struct stat st;
	uint8_t *data;

	assert_non_null(file);
	assert_int_equal(fstat(fileno(file), &st), 0);
	*size = (size_t)st.st_size;
	data = malloc(*size);
	assert_non_null(data);
	assert_int_equal(fread(data, 1, *size, file), *size);
	fclose(file);
	return data;
}

/* py_jit_find() on the bytes with one text overwritten, wherever it stands. */
static struct py_jit find_without(const struct py_image *image, const char *path, const char *text)
{
	struct py_image copy = {.version = image->version, .runtime = image->runtime};
	size_t size, length = strlen(text) + 1;
	uint8_t *data = file_bytes(path, &size), *at = data;
	struct elf_file *elf;

	while ((at = memmem(at, size - (size_t)(at - data), text, length)))
		memset(at, 'x', length);
	assert_int_equal(elf_file_memory(data, size, &elf, NULL), 0);
	assert_int_equal(py_jit_find(&copy, elf), 0);
	elf_file_close(elf);
	free(data);
	return copy.jit;
}

/* A build without a JIT lacks one string; an interpreter that hides its switch is not guessed at.
 */
static void test_missing(void **state)
{
	(void)state;
	for (size_t i = 0; i < path_count; i++) {
		struct py_image *image = load(paths[i], NULL);
		struct py_jit jit;

		if (image->jit.interp_jit != PY_JIT_NO_FIELD) {
			jit = find_without(image, paths[i], "PYTHON_JIT");
			assert_false(jit.built);
			jit = find_without(image, paths[i], "is_active");
			assert_true(jit.built);
			assert_int_equal(jit.interp_jit, PY_JIT_NO_FIELD);
			jit = find_without(image, paths[i], "is_enabled");
			assert_int_equal(jit.interp_jit, PY_JIT_NO_FIELD);
			/* another string gone changes nothing */
			jit = find_without(image, paths[i], "PYTHON_UOPS");
			assert_memory_equal(&jit, &image->jit, sizeof(jit));
			py_image_free(image);
			return;
		}
		py_image_free(image);
	}
	printf("SKIP: no interpreter with a JIT is installed here\n");
}

#define SAYS(text, version) py_jit_environment(text, sizeof(text), version)

static void test_environment(void **state)
{
	(void)state;
	assert_int_equal(py_jit_environment("", 0, 0x030e00f0), -1);
	assert_int_equal(SAYS("PATH=/bin", 0x030e00f0), -1);
	assert_int_equal(SAYS("PATH=/bin\0PYTHON_JIT=1\0A=b", 0x030e00f0), 1);
	assert_int_equal(SAYS("PYTHON_JIT=0", 0x030e00f0), 0);
	assert_int_equal(SAYS("PYTHON_JIT=00", 0x030e00f0), 0);
	assert_int_equal(SAYS("PYTHON_JIT=no", 0x030e00f0), 1);
	assert_int_equal(SAYS("PYTHON_JIT=", 0x030e00f0), -1);
	assert_int_equal(SAYS("XPYTHON_JIT=1\0PYTHON_JIT_X=1\0PYTHON_JIT", 0x030e00f0), -1);
	assert_int_equal(SAYS("PYTHON_JIT=0\0PYTHON_JIT=1", 0x030e00f0), 0);
	assert_int_equal(SAYS("PYTHON_UOPS=1", 0x030e00f0), -1);
	assert_int_equal(SAYS("PYTHON_UOPS=1", 0x030d00f0), 1);
	assert_int_equal(SAYS("PYTHON_UOPS=1\0PYTHON_JIT=0", 0x030d00f0), 1);
	assert_int_equal(SAYS("PYTHON_UOPS=0", 0x030d00f0), 0);
	/* cut off in the middle */
	assert_int_equal(py_jit_environment("PYTHON_JIT=1", 12, 0x030e00f0), -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_files),
	    cmocka_unit_test(test_missing),
	    cmocka_unit_test(test_environment),
	};

	return cmocka_run_group_tests_name("jit", tests, find_files, NULL);
}
