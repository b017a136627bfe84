// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/* What waits to be sent: its order, what is there after a crash, what is too much, what is broken.
 */
#include <errno.h>
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

#include "agent/outbox.h"
#include "scratch.h"

#define MANY 1000000u

static struct agent_outbox_stats stats;
static char folder[512];

static struct agent_outbox *open_at(const char *dir, uint64_t max_bytes)
{
	struct agent_outbox *outbox;
	struct pt_err err = {0};

	if (agent_outbox_open(dir, max_bytes, &stats, &outbox, &err))
		fail_msg("%s", err.what);
	return outbox;
}

static int setup(void **state)
{
	static int number;
	char name[32];

	memset(&stats, 0, sizeof(stats));
	snprintf(name, sizeof(name), "outbox%d", number++);
	snprintf(folder, sizeof(folder), "%s", scratch_path(name));
	return 0;
}

static int teardown(void **state)
{
	char lock[600];

	snprintf(lock, sizeof(lock), "%s/lock", folder);
	unlink(lock);
	return access(folder, F_OK) ? 0 : rmdir(folder);
}

static void put(struct agent_outbox *outbox, const char *text)
{
	agent_outbox_put(outbox, text, strlen(text));
}

static void is_first(struct agent_outbox *outbox, const char *text)
{
	struct pt_buf data = {0};

	assert_int_equal(agent_outbox_first(outbox, &data), 0);
	assert_int_equal(data.len, strlen(text));
	assert_memory_equal(data.data, text, data.len);
	pt_buf_release(&data);
}

static void next_is(struct agent_outbox *outbox, const char *text)
{
	is_first(outbox, text);
	agent_outbox_remove_first(outbox);
}

static void is_empty(struct agent_outbox *outbox)
{
	struct pt_buf data = {0};

	assert_int_equal(agent_outbox_first(outbox, &data), -ENOENT);
	assert_int_equal(stats.messages, 0);
	assert_int_equal(stats.bytes, 0);
}

static const char *file(unsigned int number, const char *suffix)
{
	static char path[600];

	snprintf(path, sizeof(path), "%s/%020u.msg%s", folder, number, suffix);
	return path;
}

static void test_order(void **state)
{
	for (int in_memory = 0; in_memory < 2; in_memory++) {
		struct agent_outbox *outbox = open_at(in_memory ? NULL : folder, MANY);
		char text[32];

		is_empty(outbox);
		for (int i = 0; i < 200; i++) {
			snprintf(text, sizeof(text), "message %d", i);
			put(outbox, text);
		}
		is_first(outbox, "message 0");
		for (int i = 0; i < 150; i++) {
			snprintf(text, sizeof(text), "message %d", i);
			next_is(outbox, text);
		}
		assert_int_equal(stats.messages, 50);
		put(outbox, "");
		for (int i = 150; i < 200; i++) {
			snprintf(text, sizeof(text), "message %d", i);
			next_is(outbox, text);
		}
		next_is(outbox, "");
		is_empty(outbox);
		agent_outbox_close(outbox);
	}
	assert_int_equal(stats.dropped, 0);
}

/* Of another process. */
static void is_taken(void)
{
	pid_t child = fork();
	int status;

	if (!child) {
		struct agent_outbox *outbox;
		struct pt_err err = {0};

		_exit(agent_outbox_open(folder, MANY, &stats, &outbox, &err) != -EBUSY ||
		      !strstr(err.what, "another agent"));
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
}

/* Whoever comes next finds what was left, and goes on behind it. */
static void test_again(void **state)
{
	struct agent_outbox *outbox = open_at(folder, MANY);

	put(outbox, "a");
	put(outbox, "b");
	put(outbox, "c");
	is_first(outbox, "a");
	is_taken();
	agent_outbox_close(outbox);
	assert_int_equal(stats.messages, 0);
	outbox = open_at(folder, MANY);
	assert_int_equal(stats.messages, 3);
	put(outbox, "d");
	next_is(outbox, "a");
	next_is(outbox, "b");
	agent_outbox_close(outbox);
	outbox = open_at(folder, MANY);
	next_is(outbox, "c");
	next_is(outbox, "d");
	is_empty(outbox);
	agent_outbox_close(outbox);
	assert_int_equal(stats.dropped, 0);
}

/* All but the newest goes, and never the one that is being sent. */
static void test_too_much(void **state)
{
	static char big[400000];
	struct agent_outbox *outbox = open_at(folder, MANY);

	memset(big, 'x', sizeof(big) - 1);
	put(outbox, "1");
	put(outbox, big);
	is_first(outbox, "1");
	put(outbox, big);
	assert_int_equal(stats.dropped, 0);
	put(outbox, "2");
	put(outbox, big);
	assert_int_equal(stats.dropped, 1);
	next_is(outbox, "1");
	next_is(outbox, big);
	next_is(outbox, "2");
	next_is(outbox, big);
	is_empty(outbox);
	agent_outbox_close(outbox);

	/* a smaller limit, at the start */
	outbox = open_at(folder, MANY);
	put(outbox, big);
	put(outbox, big);
	put(outbox, "3");
	agent_outbox_close(outbox);
	outbox = open_at(folder, sizeof(big));
	assert_int_equal(stats.dropped, 3);
	put(outbox, big); /* with its header it does not fit: nothing else goes for it */
	assert_int_equal(stats.dropped, 4);
	next_is(outbox, "3");
	is_empty(outbox);
	agent_outbox_close(outbox);
}

static void test_too_much_memory(void **state)
{
	size_t len = AGENT_OUTBOX_MEMORY / 4;
	struct agent_outbox *outbox = open_at(NULL, UINT64_MAX);
	char *big = calloc(1, AGENT_OUTBOX_MEMORY + 1);

	for (int i = 0; i < 5; i++) {
		big[0] = (char)i;
		agent_outbox_put(outbox, big, len);
	}
	assert_int_equal(stats.dropped, 1);
	assert_int_equal(stats.messages, 4);
	agent_outbox_put(outbox, big, AGENT_OUTBOX_MEMORY + 1);
	assert_int_equal(stats.messages, 4);
	assert_int_equal(stats.dropped, 2);
	agent_outbox_close(outbox); /* there it is lost */
	assert_int_equal(stats.dropped, 6);
	free(big);
}

static void test_broken(void **state)
{
	static const struct {
		long at; /* -1: cut there; -2: emptied */
		const char *what;
	} cases[] = {{0, "magic"},    {8, "length"}, {12, "sum"},
		     {17, "message"}, {-1, "cut"},   {-2, "empty"}};
	struct agent_outbox *outbox = open_at(folder, MANY);
	unsigned int count = sizeof(cases) / sizeof(cases[0]);
	FILE *f;

	for (unsigned int i = 0; i < count; i++)
		put(outbox, "broken");
	put(outbox, "whole");
	agent_outbox_close(outbox);
	for (unsigned int i = 0; i < count; i++) {
		if (cases[i].at < 0) {
			assert_int_equal(truncate(file(i, ""), cases[i].at == -1 ? 20 : 0), 0);
			continue;
		}
		f = fopen(file(i, ""), "r+");
		assert_non_null(f);
		fseek(f, cases[i].at, SEEK_SET);
		fputc(0xa5, f);
		fclose(f);
	}
	scratch_write(file(90, ".tmp"), "x", 1);   /* of a writer that was killed */
	scratch_write(file(91, ".other"), "x", 1); /* not ours */
	outbox = open_at(folder, MANY);
	next_is(outbox, "whole");
	is_empty(outbox);
	assert_int_equal(stats.corrupt, count);
	assert_int_equal(access(file(0, ""), F_OK), -1);
	assert_int_equal(access(file(90, ".tmp"), F_OK), -1);
	assert_int_equal(access(file(91, ".other"), F_OK), 0);
	agent_outbox_close(outbox);
	unlink(file(91, ".other"));
}

static void refuses(const char *dir, const char *what)
{
	struct agent_outbox *outbox;
	struct pt_err err = {0};

	assert_true(agent_outbox_open(dir, MANY, &stats, &outbox, &err) < 0);
	if (!strstr(err.what, what))
		fail_msg("said '%s', not '%s'", err.what, what);
}

static void test_folder(void **state)
{
	struct agent_outbox *outbox;

	refuses("/nonexistent/a", "cannot make the folder");
	scratch_write(scratch_path("plain"), "", 0);
	refuses(scratch_path("plain"), "cannot open the folder");
	assert_int_equal(mkdir(folder, 0700), 0);
	assert_int_equal(chmod(folder, 0770), 0);
	refuses(folder, "others may write");
	assert_int_equal(chmod(folder, 0700), 0);
	/* a folder that goes away: messages wait in memory */
	outbox = open_at(folder, MANY);
	put(outbox, "file");
	assert_int_equal(unlink(file(0, "")), 0);
	assert_int_equal(teardown(NULL), 0);
	put(outbox, "memory");
	put(outbox, "more");
	assert_int_equal(stats.write_errors, 2);
	next_is(outbox, "memory"); /* the file counts as broken */
	assert_int_equal(mkdir(folder, 0700), 0);
	put(outbox, "file");
	assert_int_equal(stats.write_errors, 2);
	next_is(outbox, "more");
	next_is(outbox, "file");
	is_empty(outbox);
	assert_int_equal(stats.corrupt, 1);
	agent_outbox_close(outbox);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(test_order, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_again, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_too_much, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_too_much_memory, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_broken, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_folder, setup, teardown),
	};

	return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
