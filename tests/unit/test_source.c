// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/* Source files of a process that is not trusted: only what it may read itself, only regular files,
 * of a bounded size. What needs another user's credentials is tested as root alone. */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "scratch.h"
#include "target/source.h"

#define MAX 1000

/* What reading gives: the text, or the error as a number. */
static const char *read_as(const struct pt_source_root *root, const char *path)
{
	static char text[64];
	struct pt_buf buf = {0};
	int rc = pt_source_read(root, path, MAX, &buf);

	assert_false(buf.failed);
	if (rc)
		assert_int_equal(buf.len, 0);
	if (rc)
		snprintf(text, sizeof(text), "%s", strerrorname_np(-rc));
	else
		snprintf(text, sizeof(text), "%.*s", (int)buf.len, buf.data);
	pt_buf_release(&buf);
	return text;
}

static void put(const char *name, const char *text)
{
	scratch_write(scratch_path(name), text, strlen(text));
}

static void test_files(void **state)
{
	struct pt_source_root *root;
	char big[MAX + 2];

	memset(big, 'x', sizeof(big));
	assert_int_equal(pt_source_root_open(getpid(), &root), 0);
	put("a.py", "one\ntwo\n");
	assert_string_equal(read_as(root, scratch_path("a.py")), "one\ntwo\n");
	put("bom.py", "\xef\xbb\xbfx\xff\n");
	assert_string_equal(read_as(root, scratch_path("bom.py")), "x\xef\xbf\xbd\n");
	put("empty.py", "");
	assert_string_equal(read_as(root, scratch_path("empty.py")), "");
	scratch_write(scratch_path("big.py"), big, MAX + 1);
	assert_string_equal(read_as(root, scratch_path("big.py")), "EFBIG");
	assert_int_equal(mkfifo(scratch_path("fifo.py"), 0600), 0);
	assert_string_equal(read_as(root, scratch_path("fifo.py")), "EOPNOTSUPP");
	assert_int_equal(symlink("/dev/zero", scratch_path("zero.py")), 0);
	assert_string_equal(read_as(root, scratch_path("zero.py")), "EOPNOTSUPP");
	assert_int_equal(symlink("a.py", scratch_path("link.py")), 0);
	assert_string_equal(read_as(root, scratch_path("link.py")), "one\ntwo\n");
	assert_string_equal(read_as(root, "/proc/self/status"), "EOPNOTSUPP");
	assert_string_equal(read_as(root, "/proc/self/environ"), "EOPNOTSUPP");
	assert_string_equal(read_as(root, "a.py"), "EINVAL");
	assert_string_equal(read_as(root, "/tmp"), "EOPNOTSUPP");
	assert_string_equal(read_as(root, "/nowhere/a.py"), "ENOENT");
	assert_string_equal(read_as(root, scratch_path("a.py/b")), "ENOTDIR");
	pt_source_root_free(root);
	assert_int_equal(pt_source_root_open(0x7ffffff0, &root), -ESRCH);
}

/* A child with the given root and user that waits; its root can be read after it has ended. */
static struct pt_source_root *child_root(const char *root_path, uid_t uid)
{
	struct pt_source_root *root;
	int ready[2], status;
	char byte;
	pid_t pid;

	assert_int_equal(pipe(ready), 0);
	pid = fork();
	if (pid == 0) {
		if (chroot(root_path) || setgid(uid) || setuid(uid) || write(ready[1], "x", 1) != 1)
			_exit(1);
		pause();
		_exit(0);
	}
	assert_int_equal(read(ready[0], &byte, 1), 1);
	assert_int_equal(pt_source_root_open(pid, &root), 0);
	kill(pid, SIGKILL);
	waitpid(pid, &status, 0);
	close(ready[0]);
	close(ready[1]);
	return root;
}

static void test_other_user(void **state)
{
	struct pt_source_root *root, *other;
	char folder[256];

	if (geteuid())
		skip();
	snprintf(folder, sizeof(folder), "%s", scratch_path("."));
	chmod(folder, 0755);
	put("open.py", "open");
	put("secret.py", "secret");
	assert_int_equal(chmod(scratch_path("secret.py"), 0600), 0);
	root = child_root("/", 65534);
	assert_string_equal(read_as(root, scratch_path("open.py")), "open");
	assert_string_equal(read_as(root, scratch_path("secret.py")), "EACCES");
	/* and we are ourselves again */
	assert_int_equal(setfsuid((uid_t)-1), 0);
	assert_int_equal(access(scratch_path("secret.py"), R_OK), 0);
	other = child_root("/", 65534);
	assert_true(pt_source_root_same(root, other));
	pt_source_root_free(other);
	other = child_root("/", 65533);
	assert_false(pt_source_root_same(root, other));
	pt_source_root_free(other);
	other = child_root(folder, 65534);
	assert_false(pt_source_root_same(root, other));
	pt_source_root_free(other);
	pt_source_root_free(root);
	/* in its own root nothing leads out */
	assert_int_equal(symlink("../../../../../etc/passwd", scratch_path("out.py")), 0);
	assert_int_equal(symlink("/open.py", scratch_path("absolute.py")), 0);
	root = child_root(folder, 65534);
	assert_string_equal(read_as(root, "/open.py"), "open");
	assert_string_equal(read_as(root, "/absolute.py"), "open");
	assert_string_equal(read_as(root, "/out.py"), "ENOENT");
	assert_string_equal(read_as(root, "/../../etc/passwd"), "ENOENT");
	assert_string_equal(read_as(root, "/secret.py"), "EACCES");
	pt_source_root_free(root);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_files),
	    cmocka_unit_test(test_other_user),
	};

	return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
