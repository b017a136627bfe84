// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/* Lines of /proc/PID/maps, hostile ones included, and real processes. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "target/filecache.h"
#include "target/maps.h"
#include "target/process.h"

static int parse_line(const char *line, struct pt_map *map, char *storage, size_t size)
{
	snprintf(storage, size, "%s", line);
	return pt_map_parse(storage, map);
}

static void test_map_lines(void **state)
{
	char line[512];
	struct pt_map map;

	assert_int_equal(parse_line("7f0000001000-7f0000002000 r-xp 00003000 fe:01 4242      "
				    "/usr/lib/a b\\012c.so (deleted)",
				    &map, line, sizeof(line)),
			 0);
	assert_true(map.start == 0x7f0000001000 && map.end == 0x7f0000002000);
	assert_true(map.readable && !map.writable && map.executable && map.deleted);
	assert_int_equal(map.offset, 0x3000);
	assert_int_equal(map.inode, 4242);
	assert_int_equal(map.dev, makedev(0xfe, 1));
	assert_string_equal(map.path, "/usr/lib/a b\nc.so");
	assert_int_equal(parse_line("1000-2000 rw-s 0 00:00 0", &map, line, sizeof(line)), 0);
	assert_string_equal(map.path, "");
	assert_false(map.executable || map.deleted);
	assert_int_equal(
	    parse_line("1000-2000 rw-p 00000000 00:00 0 [heap]", &map, line, sizeof(line)), 0);
	assert_string_equal(map.path, "[heap]");
	/* only the ending counts, and a file may be called so */
	assert_int_equal(
	    parse_line("1000-2000 r-xp 0 1:2 3 /x (deleted) y", &map, line, sizeof(line)), 0);
	assert_false(map.deleted);
	assert_string_equal(map.path, "/x (deleted) y");
}

static void test_bad_map_lines(void **state)
{
	static const char *const bad[] = {
	    "",
	    "1000",
	    "1000-2000",
	    "1000-2000 ",
	    "1000-2000 r-xp",
	    "1000-2000 r-xp 0",
	    "1000-2000 r-xp 0 1:2",
	    "1000-2000 r-xp 0 1:2 ",
	    "1000-2000 r-xp 0 1:2 x",
	    "1000-2000 r-xp 0 1:2 3x /y",
	    "1000-2000 r-xp 0 12 3 /y",
	    "2000-1000 r-xp 0 1:2 3 /y",
	    "1000-1000 r-xp 0 1:2 3 /y",
	    "-1000-2000 r-xp 0 1:2 3 /y",
	    "1000--2000 r-xp 0 1:2 3 /y",
	    " 1000-2000 r-xp 0 1:2 3 /y",
	    "1000-2000 r-x 0 1:2 3 /y",
	    "1000-fffffffffffffffff r-xp 0 1:2 3 /y",
	    "1000-2000 r-xp 0 1:2 99999999999999999999 /y",
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		char line[128];
		struct pt_map map;

		if (parse_line(bad[i], &map, line, sizeof(line)) != -EBADMSG)
			fail_msg("'%s' was taken", bad[i]);
	}
}

static void test_status(void **state)
{
	/* the name is the process's own choice, a newline in it comes escaped */
	static const char status[] = "Name:\tPid:\\n7\nTgid:\t42\nUid:\t1\t2\t3\t4\n"
				     "NStgid:\t42\t7\t1\nSeccomp:\t2\nVmPeak:\t x kB\n";
	long value;

	assert_int_equal(pt_status_number(status, "Tgid", 0, &value), 0);
	assert_int_equal(value, 42);
	assert_int_equal(pt_status_number(status, "Uid", 1, &value), 0);
	assert_int_equal(value, 2);
	assert_int_equal(pt_status_number(status, "NStgid", -1, &value), 0);
	assert_int_equal(value, 1);
	assert_int_equal(pt_status_number(status, "Pid", 0, &value), -ENOENT);
	assert_int_equal(pt_status_number(status, "Uid", 4, &value), -EBADMSG);
	assert_int_equal(pt_status_number(status, "VmPeak", 0, &value), -EBADMSG);
	assert_int_equal(pt_status_number("", "Tgid", 0, &value), -ENOENT);
}

static void test_self(void **state)
{
	struct pt_process *process;
	struct pt_err err = {0};
	uint64_t bias;

	assert_int_equal(pt_process_open(getpid(), &process, &err), 0);
	assert_int_equal(process->pid, getpid());
	assert_int_equal(process->ppid, getppid());
	assert_int_equal(process->uid, geteuid());
	assert_int_equal(process->interpreter, -1);
	assert_false(process->is_32bit || process->is_musl || process->other_mount_ns ||
		     process->other_pid_ns || process->other_root);
	assert_true(process->module_count >= 2); /* this program and libc */
	for (size_t i = 0; i < process->module_count; i++) {
		struct stat st;

		assert_int_equal(stat(process->modules[i].open_path, &st), 0);
		assert_int_equal(st.st_ino, process->modules[i].inode);
	}
	/* the module that this function lies in: its bias makes addresses of the file */
	for (size_t i = 0; i < process->module_count; i++) {
		const struct pt_module *module = &process->modules[i];

		if ((uintptr_t)test_self < module->start || (uintptr_t)test_self >= module->end)
			continue;
		bias = pt_module_bias(module);
		assert_true(bias <= module->start && module->start - bias < 1u << 30);
		assert_int_equal(bias & 4095, 0);
	}
	pt_process_free(process);
}

/* BOLT gives a file two executable segments; the second is a part of the same module. */
static void test_two_executable_mappings(void **state)
{
	int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	void *again = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 4096);
	struct pt_process *process;
	struct pt_err err = {0};
	bool found = false;
	struct stat st;

	assert_true(fd >= 0 && again != MAP_FAILED && !fstat(fd, &st));
	assert_int_equal(pt_process_open(getpid(), &process, &err), 0);
	for (size_t i = 0; i < process->part_count; i++) {
		const struct pt_module_part *part = &process->parts[i];

		assert_true(part->module < process->module_count);
		if (process->modules[part->module].inode != st.st_ino)
			continue;
		/* whichever of the two lies lower in memory is the module's */
		found = part->start == (uintptr_t)again ||
			process->modules[part->module].start == (uintptr_t)again;
		assert_true(part->end > part->start);
		assert_int_not_equal(part->start, process->modules[part->module].start);
	}
	assert_true(found);
	pt_process_free(process);
	munmap(again, 4096);
	close(fd);
}

static void test_gone(void **state)
{
	struct pt_process *process;
	struct pt_err err = {0};
	pid_t child = fork();

	if (!child)
		_exit(0);
	waitpid(child, NULL, 0);
	assert_int_equal(pt_process_open(child, &process, &err), -ESRCH);
	assert_null(process);
	assert_int_equal(err.exit_code, PT_EXIT_NO_TARGET);
	assert_true(err.hint[0]);
}

static void test_zombie(void **state)
{
	struct pt_process *process;
	struct pt_err err = {0};
	siginfo_t info;
	pid_t child = fork();

	if (!child)
		_exit(0);
	assert_int_equal(waitid(P_PID, (id_t)child, &info, WEXITED | WNOWAIT), 0);
	if (!pt_process_open(child, &process, &err)) {
		assert_int_equal(process->interpreter, -1);
		assert_int_equal(process->module_count, 0);
		pt_process_free(process);
	}
	waitpid(child, NULL, 0);
}

static void copy_file(const char *from, const char *to)
{
	char buffer[65536];
	int in = open(from, O_RDONLY), out = open(to, O_WRONLY | O_CREAT | O_TRUNC, 0755);
	ssize_t n;

	assert_true(in >= 0 && out >= 0);
	while ((n = read(in, buffer, sizeof(buffer))) > 0)
		assert_int_equal(write(out, buffer, (size_t)n), n);
	close(in);
	close(out);
}

/* A file that is mapped and then removed is still found, and can still be opened by root. */
static void test_deleted_and_odd_name(void **state)
{
	char path[] = "/tmp/test process\nXXXXXX";
	struct pt_process *process;
	struct pt_err err = {0};
	bool found = false;
	int fd = mkstemp(path);
	void *at;

	assert_true(fd >= 0);
	copy_file("/proc/self/exe", path);
	at = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0);
	assert_true(at != MAP_FAILED);
	unlink(path);
	assert_int_equal(pt_process_open(getpid(), &process, &err), 0);
	for (size_t i = 0; i < process->module_count; i++) {
		const struct pt_module *module = &process->modules[i];

		if (module->start != (uintptr_t)at)
			continue;
		found = true;
		assert_true(module->deleted);
		assert_string_equal(module->path, path);
		if (!geteuid())
			assert_int_equal(access(module->open_path, R_OK), 0);
	}
	assert_true(found);
	pt_process_free(process);
	munmap(at, 4096);
	close(fd);
}

static void test_mapping_file(void **state)
{
	struct pt_process *process;
	struct pt_err err = {0};
	pid_t *pids = NULL, self = getpid();
	bool found = false;
	int count;

	assert_int_equal(pt_process_open(self, &process, &err), 0);
	count = pt_process_mapping_file(process->modules[0].dev, process->modules[0].inode, NULL, 0,
					&pids);
	assert_true(count >= 1);
	for (int i = 0; i < count; i++)
		found = found || pids[i] == self;
	assert_true(found);
	free(pids);
	pids = NULL;
	count = pt_process_mapping_file(process->modules[0].dev, process->modules[0].inode, &self,
					1, &pids);
	assert_true(count >= 0);
	for (int i = 0; i < count; i++)
		assert_int_not_equal(pids[i], self);
	free(pids);
	pt_process_free(process);
}

static void test_file_cache(void **state)
{
	struct pt_file_cache *cache = pt_file_cache_new();
	struct stat st = {0};
	bool holds;

	assert_non_null(cache);
	for (unsigned int i = 1; i <= 5000; i++) {
		st.st_dev = i % 3;
		st.st_ino = i;
		st.st_ctim.tv_sec = i % 7;
		assert_int_equal(pt_file_cache_get(cache, &st, &holds), -ENOENT);
		pt_file_cache_put(cache, &st, i % 5 == 0);
	}
	for (unsigned int i = 1; i <= 5000; i++) {
		st.st_dev = i % 3;
		st.st_ino = i;
		st.st_ctim.tv_sec = i % 7;
		assert_int_equal(pt_file_cache_get(cache, &st, &holds), 0);
		assert_int_equal(holds, i % 5 == 0);
		st.st_ctim.tv_nsec = 1; /* another file with the same number */
		assert_int_equal(pt_file_cache_get(cache, &st, &holds), -ENOENT);
		st.st_ctim.tv_nsec = 0;
	}
	pt_file_cache_free(cache);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_map_lines),
	    cmocka_unit_test(test_bad_map_lines),
	    cmocka_unit_test(test_status),
	    cmocka_unit_test(test_self),
	    cmocka_unit_test(test_two_executable_mappings),
	    cmocka_unit_test(test_gone),
	    cmocka_unit_test(test_zombie),
	    cmocka_unit_test(test_deleted_and_odd_name),
	    cmocka_unit_test(test_mapping_file),
	    cmocka_unit_test(test_file_cache),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
