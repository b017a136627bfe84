// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * py_image_load() on the interpreters of 3.11 and later that are installed. That the sites are
 * exact is what tests/e2e shows; here they are found, plausible, the same from the cache, and
 * never anything but refused when the code is damaged.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
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

#include "python/image.h"
#include "python/parts.h"

#define FILES_MAX     16
#define DAMAGE_ROUNDS 40

static char paths[FILES_MAX][PATH_MAX];
static size_t path_count;

/* Builds that were traced exactly: what must be found in them, the code destructor not counted. */
static const struct known {
	const char *build_id; /* how it starts */
	unsigned int sites, single_stepped;
} known[] = {
    {"49daf84ed369fe58", 8, 0},  /* 3.11.7, pyenv */
    {"571d98e01096d5c1", 12, 0}, /* 3.11.2, Debian 12 */
    {"f9d5c82f5f2c22df", 10, 0}, /* 3.12.1, pyenv */
    {"d11d13fb0f82d32f", 14, 1}, /* 3.13.0, pyenv; the dear one is YIELD_VALUE */
    {"7e8d5f6d0cd6cd1e", 16, 1}, /* 3.13.5, Debian 13 */
    {"f9de766c3a031e07", 15, 1}, /* 3.13.18, Debian sid */
    {"eed13024f47cd567", 15, 0}, /* 3.14.8, Debian forky */
    {"cccda113240f3ba4", 15, 0}, /* 3.14.10, Debian sid */
    {"707ba6ee7fc4b6e4", 23, 0}, /* 3.14.10, its debug build */
    {"d41ac9e28ff414f1", 25, 0}, /* 3.15.2, Debian sid */
};

static void add_matches(const char *pattern)
{
	glob_t found;

	if (glob(pattern, 0, NULL, &found))
		return;
	for (size_t i = 0; i < found.gl_pathc && path_count < FILES_MAX; i++) {
		struct stat st;

		if (!lstat(found.gl_pathv[i], &st) && S_ISREG(st.st_mode))
			snprintf(paths[path_count++], PATH_MAX, "%s", found.gl_pathv[i]);
	}
	globfree(&found);
}

static int find_files(void **state)
{
	const char *home = getenv("HOME"), *cache = getenv("PYTRACE_CACHE");
	char pattern[PATH_MAX];

	(void)state;
	snprintf(pattern, sizeof(pattern), "%s/.pyenv/versions/3.1[1-9].*/lib/libpython3.1?.so.1.0",
		 home ? home : "");
	add_matches(pattern);
	add_matches("/usr/bin/python3.1[1-9]");
	snprintf(pattern, sizeof(pattern), "%s/roots/*/usr/bin/python3.1[1-9]",
		 cache ? cache : "/var/cache/pytrace-bpf");
	add_matches(pattern);
	snprintf(pattern, sizeof(pattern), "%s/roots/*/usr/bin/python3.1[1-9]d",
		 cache ? cache : "/var/cache/pytrace-bpf");
	add_matches(pattern);
	if (!path_count)
		printf("SKIP: no interpreter of 3.11 or later is installed here\n");
	return 0;
}

static struct py_image *load(const char *path, unsigned int emulated, const char *cache)
{
	struct pt_err err = {0};
	struct py_image *image;
	int ret = py_image_load(path, path, emulated, cache, &image, &err);

	if (ret)
		fail_msg("%s (%d)", err.what, ret);
	return image;
}

static void check_site(const struct py_image *image, const struct py_site *site)
{
	bool delta = image->layout.flags & PT_LF_DELTA;
	unsigned int kind = PT_COOKIE_KIND(site->cookie), ts = PT_COOKIE_TS(site->cookie);
	size_t length;

	assert_non_null(site->method);
	assert_in_range(site->byte_count, 1, 15);
	assert_int_equal(site->insn_class,
			 py_insn_classify(site->bytes, site->byte_count, site->vaddr, &length));
	assert_int_equal(length, site->byte_count);
	if (kind == PT_SITE_FREE_CODE)
		return;
	if (delta)
		assert_int_equal(kind, PT_SITE_DELTA);
	else
		assert_true(kind == PT_SITE_ENTER || kind == PT_SITE_EXIT ||
			    kind == PT_SITE_CHECKED);
	assert_true(ts < 16 || ts == PT_TS_SLOT);
	assert_int_not_equal(ts, 4); /* rsp */
	if (PT_COOKIE_COND(site->cookie))
		assert_int_equal(site->insn_class, PY_INSN_JCC);
}

static void check_known(const struct py_image *image, unsigned int single_stepped)
{
	char id[2 * sizeof(image->build_id) + 1] = "";

	for (size_t i = 0; i < image->build_id_len; i++)
		snprintf(id + 2 * i, 3, "%02x", image->build_id[i]);
	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
		if (strncmp(id, known[i].build_id, strlen(known[i].build_id)))
			continue;
		assert_int_equal(image->engines[PY_ENGINE_FRAME].site_count, known[i].sites + 1);
		assert_int_equal(single_stepped, known[i].single_stepped);
	}
}

/* Calls of C functions: each probe on a call has one that notices the return. */
static void test_c_calls(void **state)
{
	(void)state;
	for (size_t f = 0; f < path_count; f++) {
		struct py_image *image = load(paths[f], PY_INSN_EMULATED_DEFAULT | PY_FIND_C_CALLS,
					      NULL);
		const struct py_engine_plan *plan = &image->engines[PY_ENGINE_C_CALLS];
		size_t calls = 0, returns = 0;

		if (!plan->usable) {
			printf("%s: %s\n", paths[f], plan->reason);
			assert_true(plan->reason[0]);
			assert_int_equal(plan->site_count, 0);
			assert_true(image->debug);
		}
		for (size_t i = 0; i < plan->site_count; i++) {
			const struct py_site *site = &plan->sites[i];

			calls += PT_COOKIE_KIND(site->cookie) == PT_SITE_C_CALL;
			returns += PT_COOKIE_KIND(site->cookie) == PT_SITE_C_RETURN;
			assert_true(PT_COOKIE_KIND(site->cookie) == PT_SITE_C_RETURN ||
				    PT_COOKIE_FRAME_REG(site->cookie) < 16);
		}
		assert_int_equal(calls + returns, plan->site_count);
		assert_true(!plan->usable || (calls >= 8 && returns && returns <= calls));
		printf("%s: CPython %s, %zu calls\n", paths[f], image->version_text, calls);
		py_image_free(image);
	}
}

static size_t opcode_sites(const struct py_engine_plan *plan, unsigned int opcode,
			   enum pt_site_kind kind)
{
	size_t count = 0;

	for (size_t i = 0; i < plan->site_count; i++)
		count += PT_C_OPCODE_OF(plan->sites[i].cookie) == opcode &&
			 PT_COOKIE_KIND(plan->sites[i].cookie) == kind;
	return count;
}

/* From 3.11 on some builtins have opcodes of their own, whose probes go where they are not wanted.
 */
static void test_c_opcodes(void **state)
{
	static const char *const globs[] = {"time.*", "list.app*", NULL};

	(void)state;
	for (size_t f = 0; f < path_count; f++) {
		struct py_image *image = load(paths[f], PY_INSN_EMULATED_DEFAULT | PY_FIND_C_CALLS,
					      NULL);
		const struct py_engine_plan *plan = &image->engines[PY_ENGINE_C_CALLS];
		bool has = plan->usable && image->version >= 0x030b0000;
		size_t before = plan->site_count, others = 0;

		for (unsigned int o = 1; o <= PT_C_OPCODES; o++) {
			size_t calls = opcode_sites(plan, o, PT_SITE_C_CALL);
			size_t returns = opcode_sites(plan, o, PT_SITE_C_RETURN);

			assert_in_range(calls, has, has ? 2 : 0);
			assert_true(returns <= calls);
			if (o != PT_C_OPCODE_APPEND)
				others += calls + returns;
		}
		assert_int_equal(py_image_keep_c_opcodes(image, NULL), 0);
		assert_int_equal(plan->site_count, before);
		assert_int_equal(py_image_keep_c_opcodes(image, globs), 0);
		assert_int_equal(plan->site_count, before - others);
		assert_int_equal(opcode_sites(plan, PT_C_OPCODE_APPEND, PT_SITE_C_CALL), has);
		/* as in a build where they were not found */
		assert_int_equal(py_image_keep_c_opcodes(image, NULL),
				 has ? 1u << PT_C_OPCODE_LEN | 1u << PT_C_OPCODE_ISINSTANCE : 0);
		py_image_free(image);
	}
}

static void test_sites(void **state)
{
	(void)state;
	for (size_t f = 0; f < path_count; f++) {
		struct py_image *image = load(paths[f], PY_INSN_EMULATED_DEFAULT, NULL);
		const struct py_engine_plan *plan = &image->engines[PY_ENGINE_FRAME];
		unsigned int kinds[8] = {0}, single_stepped = 0;

		assert_true(plan->usable);
		assert_in_range(plan->site_count, 5, 64);
		for (size_t i = 0; i < plan->site_count; i++) {
			check_site(image, &plan->sites[i]);
			kinds[PT_COOKIE_KIND(plan->sites[i].cookie) & 7]++;
			single_stepped += plan->sites[i].insn_class == PY_INSN_OTHER;
			for (size_t k = 0; k < i; k++)
				assert_false(plan->sites[i].vaddr == plan->sites[k].vaddr &&
					     plan->sites[i].cookie == plan->sites[k].cookie);
		}
		assert_int_equal(kinds[PT_SITE_FREE_CODE], 1);
		assert_in_range(single_stepped, 0, 2);
		check_known(image, single_stepped);
		printf("%s: CPython %s, %zu sites, %u single-stepped, %.1f ms\n", paths[f],
		       image->version_text, plan->site_count, single_stepped, image->find_ms);
		py_image_free(image);
	}
}

/* A kernel that emulates nothing: every site has a place, none of them moves over a branch. */
static void test_without_emulation(void **state)
{
	(void)state;
	for (size_t f = 0; f < path_count; f++) {
		struct pt_err err = {0};
		struct py_image *image;
		int ret = py_image_load(paths[f], paths[f], 0, NULL, &image, &err);

		if (ret) { /* refusing is right, too, where the direction cannot be told */
			assert_int_equal(ret, -ENOTSUP);
			assert_true(err.what[0]);
			continue;
		}
		for (size_t i = 0; i < image->engines[PY_ENGINE_FRAME].site_count; i++)
			check_site(image, &image->engines[PY_ENGINE_FRAME].sites[i]);
		py_image_free(image);
	}
}

static void assert_same(const struct py_image *a, const struct py_image *b)
{
	assert_int_equal(a->version, b->version);
	assert_string_equal(a->version_text, b->version_text);
	assert_memory_equal(&a->layout, &b->layout, sizeof(a->layout));
	assert_memory_equal(&a->runtime, &b->runtime, sizeof(a->runtime));
	assert_memory_equal(&a->eval, &b->eval, sizeof(a->eval));
	assert_memory_equal(&a->sample, &b->sample, sizeof(a->sample));
	assert_int_equal(a->debug, b->debug);
	assert_int_equal(a->dtrace, b->dtrace);
	for (int e = 0; e < PY_ENGINE_COUNT; e++) {
		const struct py_engine_plan *x = &a->engines[e], *y = &b->engines[e];

		assert_int_equal(x->usable, y->usable);
		assert_string_equal(x->reason, y->reason);
		assert_int_equal(x->site_count, y->site_count);
		for (size_t i = 0; i < x->site_count; i++) {
			assert_int_equal(x->sites[i].vaddr, y->sites[i].vaddr);
			assert_int_equal(x->sites[i].offset, y->sites[i].offset);
			assert_int_equal(x->sites[i].cookie, y->sites[i].cookie);
			assert_int_equal(x->sites[i].ref_ctr_offset, y->sites[i].ref_ctr_offset);
			assert_int_equal(x->sites[i].counter_vaddr, y->sites[i].counter_vaddr);
			assert_int_equal(x->sites[i].insn_class, y->sites[i].insn_class);
			assert_string_equal(x->sites[i].method, y->sites[i].method);
			assert_memory_equal(x->sites[i].bytes, y->sites[i].bytes, 16);
			assert_int_equal(x->sites[i].byte_count, y->sites[i].byte_count);
		}
	}
}

/* The only file in the directory. */
static void only_file(const char *dir, char path[PATH_MAX])
{
	DIR *handle = opendir(dir);
	struct dirent *entry;
	unsigned int count = 0;

	assert_non_null(handle);
	while ((entry = readdir(handle))) {
		if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
			continue;
		snprintf(path, PATH_MAX, "%s/%s", dir, entry->d_name);
		count++;
	}
	closedir(handle);
	assert_int_equal(count, 1);
}

static void damage(const char *path, off_t at)
{
	int fd = open(path, O_RDWR);
	uint8_t byte;

	assert_true(fd >= 0);
	assert_int_equal(pread(fd, &byte, 1, at), 1);
	byte ^= 0x41;
	assert_int_equal(pwrite(fd, &byte, 1, at), 1);
	close(fd);
}

static void check_cache(const char *path, const char *dir)
{
	struct py_image *found = load(path, PY_INSN_EMULATED_DEFAULT | PY_FIND_C_CALLS, dir),
			*cached;
	char file[PATH_MAX];
	struct stat st;

	assert_false(found->from_cache);
	assert_true(found->find_ms > 0);
	cached = load(path, PY_INSN_EMULATED_DEFAULT | PY_FIND_C_CALLS, dir);
	assert_true(cached->from_cache);
	assert_same(found, cached);
	py_image_free(cached);
	/* every byte matters; a damaged file is ignored, then replaced */
	only_file(dir, file);
	assert_int_equal(stat(file, &st), 0);
	for (off_t at = 0; at < st.st_size; at += st.st_size / 7 + 1) {
		damage(file, at);
		cached = load(path, PY_INSN_EMULATED_DEFAULT | PY_FIND_C_CALLS, dir);
		assert_false(cached->from_cache);
		assert_same(found, cached);
		py_image_free(cached);
	}
	assert_int_equal(truncate(file, st.st_size - 1), 0);
	cached = load(path, PY_INSN_EMULATED_DEFAULT | PY_FIND_C_CALLS, dir);
	assert_false(cached->from_cache);
	py_image_free(cached);
	assert_int_equal(chmod(file, 0666), 0); /* anybody may have written it */
	cached = load(path, PY_INSN_EMULATED_DEFAULT | PY_FIND_C_CALLS, dir);
	assert_false(cached->from_cache);
	py_image_free(cached);
	/* another set of emulated instructions is another question */
	cached = load(path, PY_INSN_EMULATED_DEFAULT & ~(1u << PY_INSN_NOP5), dir);
	assert_false(cached->from_cache);
	py_image_free(cached);
	py_image_free(found);
}

static void remove_dir(const char *dir)
{
	char pattern[PATH_MAX];
	glob_t found;

	snprintf(pattern, sizeof(pattern), "%s/*", dir);
	if (!glob(pattern, 0, NULL, &found)) {
		for (size_t i = 0; i < found.gl_pathc; i++)
			unlink(found.gl_pathv[i]);
		globfree(&found);
	}
	rmdir(dir);
}

static void test_cache(void **state)
{
	(void)state;
	for (size_t f = 0; f < path_count && f < 3; f++) {
		char dir[] = "/tmp/pt-cache-XXXXXX";

		assert_non_null(mkdtemp(dir));
		check_cache(paths[f], dir);
		remove_dir(dir);
	}
}

static void test_cache_that_cannot_be_written(void **state)
{
	struct py_image *image;

	(void)state;
	if (!path_count)
		return;
	image = load(paths[0], PY_INSN_EMULATED_DEFAULT, "/proc/nowhere");
	assert_true(image->engines[PY_ENGINE_FRAME].usable);
	py_image_free(image);
}

struct victim {
	uint8_t *data, *pristine;
	size_t size;
};

static void victim_open(struct victim *victim, const char *path)
{
	struct stat st;
	int fd = open(path, O_RDONLY);

	assert_true(fd >= 0);
	assert_int_equal(fstat(fd, &st), 0);
	victim->size = (size_t)st.st_size;
	victim->data = malloc(victim->size);
	victim->pristine = malloc(victim->size);
	assert_true(victim->data && victim->pristine);
	assert_int_equal(read(fd, victim->pristine, victim->size), victim->size);
	close(fd);
}

/* Runs the finder on what is in memory; whatever it says, its sites must be instructions. */
static void victim_find(struct victim *victim)
{
	struct py_image image = {0};
	struct py_engine_plan *plan = &image.engines[PY_ENGINE_FRAME];
	struct pt_err err = {0};
	struct elf_file *elf;
	struct eh_ranges eh;

	if (elf_file_memory(victim->data, victim->size, &elf, &err))
		return;
	if (!py_layout_fill(&image, elf, &err) && image.version >= 0x030b0000 &&
	    !eh_ranges_load(elf, &eh)) {
		struct py_finder finder = {elf, &eh, PY_INSN_EMULATED_DEFAULT};
		int ret = py_sites_frame(&image, &finder, &image.layout, plan);

		if (!ret)
			for (size_t i = 0; i < plan->site_count; i++)
				check_site(&image, &plan->sites[i]);
		else
			assert_true(ret != -ENOTSUP || plan->reason[0]);
		free(plan->sites);
		eh_ranges_release(&eh);
	}
	elf_file_close(elf);
}

static uint32_t next_random(uint32_t *seed)
{
	*seed = *seed * 1664525u + 1013904223u;
	return *seed >> 8;
}

/* Flips bytes in the code of the evaluation loop. */
static void test_damaged_code(void **state)
{
	struct py_image *image;
	struct victim victim;
	uint32_t seed = 7;

	(void)state;
	if (!path_count)
		return;
	image = load(paths[0], PY_INSN_EMULATED_DEFAULT, NULL);
	victim_open(&victim, paths[0]);
	for (unsigned int n = 0; n < DAMAGE_ROUNDS; n++) {
		memcpy(victim.data, victim.pristine, victim.size);
		for (unsigned int c = 0; c <= n % 4; c++)
			victim.data[image->eval.offset +
				    next_random(&seed) % (uint32_t)image->eval.size] ^=
			    (uint8_t)(1u << next_random(&seed) % 8);
		victim_find(&victim);
	}
	free(victim.data);
	free(victim.pristine);
	py_image_free(image);
}

static void test_files_without_python(void **state)
{
	struct pt_err err = {0};
	struct py_image *image;

	(void)state;
	assert_int_equal(py_image_load("/proc/self/exe", "this test", PY_INSN_EMULATED_DEFAULT,
				       NULL, &image, &err),
			 -ENOEXEC);
	assert_null(image);
	assert_int_equal(err.exit_code, PT_EXIT_NO_TARGET);
	pt_err_clear(&err);
	assert_int_equal(
	    py_image_load("/nonexistent", "nothing", PY_INSN_EMULATED_DEFAULT, NULL, &image, &err),
	    -ENOENT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_c_calls),
	    cmocka_unit_test(test_c_opcodes),
	    cmocka_unit_test(test_sites),
	    cmocka_unit_test(test_without_emulation),
	    cmocka_unit_test(test_cache),
	    cmocka_unit_test(test_cache_that_cannot_be_written),
	    cmocka_unit_test(test_damaged_code),
	    cmocka_unit_test(test_files_without_python),
	};

	return cmocka_run_group_tests(tests, find_files, NULL);
}
