// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/* Libraries that a process may load: where they are looked for, and the loader's cache. */
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "scratch.h"
#include "target/loadable.h"

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *ftw)
{
	return remove(path);
}

/* A process with this environment, until its standard input is closed. */
static pid_t start(char *const env[], int *hold)
{
	char *const arguments[] = {"cat", NULL};
	int in[2], out[2];
	char byte;
	pid_t pid;

	assert_int_equal(pipe(in), 0);
	assert_int_equal(pipe(out), 0);
	assert_int_equal(write(in[1], "x", 1), 1);
	pid = fork();
	if (!pid) {
		dup2(in[0], 0);
		dup2(out[1], 1);
		close(in[1]);
		execve("/bin/cat", arguments, env);
		_exit(1);
	}
	close(in[0]);
	close(out[1]);
	assert_int_equal(read(out[0], &byte, 1), 1); /* it runs */
	close(out[0]);
	*hold = in[1];
	return pid;
}

static const char *put(const char *folder, const char *name)
{
	static char path[4096];

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		mkdir(path, 0755);
		*slash = '/';
	}
	scratch_write(path, "library", 7);
	return path;
}

static const struct pt_loadable *item(const struct pt_loadables *found, const char *end)
{
	for (size_t i = 0; i < found->count; i++) {
		size_t len = strlen(found->items[i].path);

		if (len >= strlen(end) && !strcmp(found->items[i].path + len - strlen(end), end))
			return &found->items[i];
	}
	return NULL;
}

static void test_folders(void **state)
{
	static const char *const globs[] = {"libx.so.*", "libz-no-such.so", NULL};
	char folder[3000], paths[6100], packages[3500], venv[3500], alias[4096];
	char *env[] = {paths, packages, venv, NULL};
	struct pt_module module = {0};
	struct pt_process process = {.module_count = 1, .modules = &module, .interpreter = -1};
	struct pt_loadables found = {0};
	struct stat st;
	int hold;

	snprintf(folder, sizeof(folder), "%s", scratch_path("folders"));
	snprintf(paths, sizeof(paths), "LD_LIBRARY_PATH=relative:%s/a:/nowhere;%s/b", folder,
		 folder);
	snprintf(packages, sizeof(packages), "PYTHONPATH=%s/p", folder);
	snprintf(venv, sizeof(venv), "VIRTUAL_ENV=%s/env", folder);
	put(folder, "a/libx.so.1");
	put(folder, "a/liby.so.1");
	put(folder, "b/libx.so.2");
	put(folder, "p/nvidia/cuda/lib/libx.so.3");
	put(folder, "p/torch/lib/libx.so.4");
	put(folder, "env/lib/python3.11/site-packages/nvidia/cu13/lib/libx.so.5");
	put(folder, "env/lib/libx.so.6");
	put(folder, "env/lib/python3.11/site-packages/other/libx.so.7");
	put(folder, "m/site-packages/torch/lib/libx.so.8");
	/* the same file again, one that may not be opened as such, and a folder */
	snprintf(alias, sizeof(alias), "%s/b/libx.so.1", folder);
	assert_int_equal(symlink("../a/libx.so.1", alias), 0);
	snprintf(alias, sizeof(alias), "%s/b/libx.so.9", folder);
	assert_int_equal(mkfifo(alias, 0644), 0);
	snprintf(alias, sizeof(alias), "%s/b/libx.so.10", folder);
	assert_int_equal(mkdir(alias, 0755), 0);
	snprintf(alias, sizeof(alias), "%s/m/site-packages/numpy/core.so", folder);
	module.path = alias;
	process.pid = start(env, &hold);
	assert_int_equal(pt_loadables_find(&process, globs, &found), 0);
	assert_int_equal(found.count, 7);
	for (char n = '1'; n <= '8'; n++) {
		char end[] = "/libx.so.0";
		const struct pt_loadable *one;

		end[sizeof(end) - 2] = n;
		one = item(&found, end);
		if (n == '7') {
			assert_null(one);
			continue;
		}
		assert_non_null(one);
		assert_int_equal(fstat(one->fd, &st), 0);
		assert_int_equal(one->inode, st.st_ino);
	}
	pt_loadables_release(&found);
	close(hold);
	waitpid(process.pid, NULL, 0);
	assert_int_equal(nftw(folder, remove_one, 16, FTW_DEPTH | FTW_PHYS), 0);
}

/* What the loader has loaded here, it has found in its cache. */
static void test_real_cache(void **state)
{
	static const char *const globs[] = {"libc.so.6", NULL};
	struct pt_process process = {.pid = getpid(), .interpreter = -1};
	struct pt_loadables found = {0};

	if (access("/etc/ld.so.cache", R_OK))
		skip();
	assert_int_equal(pt_loadables_find(&process, globs, &found), 0);
	assert_true(found.count >= 1);
	assert_non_null(item(&found, "/libc.so.6"));
	for (size_t i = 0; i < found.count && i < 1; i++)
		assert_true(pt_process_maps(getpid(), found.items[i].dev, found.items[i].inode));
	pt_loadables_release(&found);
}

struct seen {
	int count;
	char last[64];
};

static void see(const char *name, const char *path, void *ctx)
{
	struct seen *seen = ctx;

	seen->count++;
	snprintf(seen->last, sizeof(seen->last), "%s=%s", name, path);
}

static void test_cache(void **state)
{
	struct {
		char older[16];
		char magic[20];
		uint32_t count, string_bytes, flags, extensions, unused[3];
		struct {
			int32_t flags;
			uint32_t key, value, os_version;
			uint64_t hwcap;
		} __attribute__((packed)) entries[2];
		char text[16];
	} __attribute__((packed)) cache = {.older = "ld.so-1.7.0", .count = 2};
	struct seen seen = {0};

	memcpy(cache.magic, "glibc-ld.so.cache1.1", 20);
	memcpy(cache.text, "libx.so\0/a/x", 13);
	cache.entries[0].key = 96;
	cache.entries[0].value = 104;
	cache.entries[1].key = 96;
	cache.entries[1].value = 5000; /* outside */
	pt_loader_cache_each((const char *)&cache, sizeof(cache), see, &seen);
	assert_int_equal(seen.count, 1);
	assert_string_equal(seen.last, "libx.so=/a/x");
	/* cut anywhere, it is not read beyond its end */
	for (size_t size = 0; size < sizeof(cache); size++) {
		char *copy = malloc(size + 1);

		memcpy(copy, &cache, size);
		pt_loader_cache_each(copy, size, see, &seen);
		free(copy);
	}
	cache.count = UINT32_MAX;
	seen.count = 0;
	pt_loader_cache_each((const char *)&cache, sizeof(cache), see, &seen);
	assert_int_equal(seen.count, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_folders),
	    cmocka_unit_test(test_real_cache),
	    cmocka_unit_test(test_cache),
	};

	return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
