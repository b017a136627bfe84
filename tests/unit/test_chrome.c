// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/* The Chrome trace: the schema, exact times, valid JSON for any name and when space runs out. */
#include <errno.h>
#include <inttypes.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cjson/cJSON.h>
#include <cmocka.h>

#include "scratch.h"
#include "sink/json_text.h"
#include "sink/sink.h"

/* three months, as in Kineto */
#define INTERVAL_NS 7889238000000000ull
#define BASE_NS     (226 * INTERVAL_NS)

static const struct pt_capture_info info = {
    .start_mono_ns = 1000000,
    .start_real_ns = BASE_NS + 5000000,
    .tool_version = "0.1.0",
    .kernel = "6.18 \"quoted\"",
    .host = "host",
    .engine = "frame",
    .interpreter = "CPython 3.12.1",
};

static const struct pt_function function = {
    .id = 0, .code_id = 1, .line = 12, .name = "f", .qualname = "C.f", .file = "/app/main.py"};

static struct pt_sink *open_sink(const char *path, const struct pt_sink_options *options)
{
	struct pt_op process = {.kind = PT_OP_PROCESS,
				.process = {.pid = 10,
					    .ns_pid = 3,
					    .parent_pid = 1,
					    .image_id = 1,
					    .time_ns = 1000000,
					    .name = "python3",
					    .cmdline = "python3 -c \"x\""}};
	struct pt_op thread = {.kind = PT_OP_THREAD,
			       .thread = {.pid = 10, .tid = 11, .time_ns = 1000000, .name = "wo"}};
	struct pt_op define = {.kind = PT_OP_FUNCTION, .function = function};
	struct pt_err err = {0};
	struct pt_sink *sink;

	assert_int_equal(pt_sink_open(path, &info, options, &sink, &err), 0);
	assert_int_equal(pt_sink_op(&process, sink), 0);
	assert_int_equal(pt_sink_op(&thread, sink), 0);
	assert_int_equal(pt_sink_op(&define, sink), 0);
	return sink;
}

static int put_slice(struct pt_sink *sink, uint64_t begin_ns, uint64_t end_ns, uint64_t id,
		     uint64_t parent_id, uint32_t flags)
{
	struct pt_op op = {.kind = PT_OP_SLICE,
			   .slice = {.pid = 10,
				     .tid = 11,
				     .function = &function,
				     .begin_ns = begin_ns,
				     .end_ns = end_ns,
				     .id = id,
				     .parent_id = parent_id,
				     .depth = 1,
				     .flags = flags}};

	return pt_sink_op(&op, sink);
}

static cJSON *load(const char *path)
{
	size_t len;
	char *text = scratch_read(path, &len);
	cJSON *json = cJSON_Parse(text);

	if (!json)
		fail_msg("'%s' is not valid JSON near %.40s", path, cJSON_GetErrorPtr());
	assert_int_equal(strlen(text), len);
	free(text);
	return json;
}

static const cJSON *nth(const cJSON *json, const char *phase, int n)
{
	const cJSON *event;

	cJSON_ArrayForEach (event, cJSON_GetObjectItem(json, "traceEvents")) {
		if (!strcmp(cJSON_GetStringValue(cJSON_GetObjectItem(event, "ph")), phase) &&
		    n-- == 0)
			return event;
	}
	fail_msg("no such event");
	return NULL;
}

static const char *text_of(const cJSON *object, const char *key)
{
	return cJSON_GetStringValue(cJSON_GetObjectItem(object, key));
}

static void assert_in_order(const char *text, const char *const *keys)
{
	for (; *keys; keys++) {
		const char *found = strstr(text, *keys);

		if (!found)
			fail_msg("%s is missing or out of order", *keys);
		text = found + 1;
	}
}

static void test_schema(void **state)
{
	static const char *const order[] = {"\"schemaVersion\": 1",
					    "\"deviceProperties\"",
					    "\"displayTimeUnit\": \"ms\"",
					    "\"baseTimeNanoseconds\"",
					    "\"traceEvents\"",
					    "\n    \"rank\": 0,\n",
					    "\"traceName\"",
					    NULL};
	const char *path = scratch_path("schema.json");
	struct pt_sink *sink = open_sink(path, NULL);
	struct pt_totals totals = {.lost_events = 7};
	struct pt_op loss = {
	    .kind = PT_OP_LOSS,
	    .loss = {.pid = 10, .tid = 11, .begin_ns = 1005000, .end_ns = 1006001, .events = 7}};
	const cJSON *event, *args;
	size_t len;
	char *text;
	cJSON *json;

	assert_int_equal(put_slice(sink, 1000001, 1001234, 5, 2, 0), 0);
	assert_int_equal(put_slice(sink, 1000000, 1002000, 2, 0, 0xf), 0);
	assert_int_equal(pt_sink_op(&loss, sink), 0);
	assert_int_equal(pt_sink_close(sink, &totals, NULL), 0);
	json = load(path);
	event = nth(json, "X", 0);
	assert_string_equal(text_of(event, "cat"), "python_function");
	assert_string_equal(text_of(event, "name"), "/app/main.py(12): C.f");
	args = cJSON_GetObjectItem(event, "args");
	assert_int_equal(cJSON_GetObjectItem(args, "Python id")->valueint, 5);
	assert_int_equal(cJSON_GetObjectItem(args, "Python parent id")->valueint, 2);
	args = cJSON_GetObjectItem(nth(json, "X", 1), "args");
	assert_true(cJSON_IsNull(cJSON_GetObjectItem(args, "Python parent id")));
	assert_true(cJSON_IsTrue(cJSON_GetObjectItem(args, "open at start")));
	assert_true(cJSON_IsTrue(cJSON_GetObjectItem(args, "end lost")));
	event = nth(json, "i", 0);
	assert_string_equal(text_of(event, "s"), "t");
	args = cJSON_GetObjectItem(event, "args");
	assert_int_equal(cJSON_GetObjectItem(args, "events")->valueint, 7);
	assert_string_equal(text_of(cJSON_GetObjectItem(nth(json, "M", 3), "args"), "name"),
			    "thread 11 (wo)");
	cJSON_Delete(json);
	text = scratch_read(path, &len);
	assert_in_order(text, order);
	assert_non_null(strstr(text, "\"ts\":5000.001,\"dur\":1.233,"));
	assert_non_null(strstr(text, "\"ts\":5000.000,\"dur\":2.000,"));
	assert_non_null(strstr(text, "\"lost events\": 7"));
	free(text);
}

static void test_no_call_ids(void **state)
{
	struct pt_sink_options options = {.no_call_ids = true};
	const char *path = scratch_path("noids.json");
	struct pt_sink *sink = open_sink(path, &options);
	struct pt_totals totals = {0};
	cJSON *json;

	assert_int_equal(put_slice(sink, 1000001, 1001234, 5, 2, 0), 0);
	assert_int_equal(put_slice(sink, 1000000, 1002000, 2, 0, PT_SLICE_OPEN_AT_END), 0);
	assert_int_equal(pt_sink_close(sink, &totals, NULL), 0);
	json = load(path);
	assert_null(cJSON_GetObjectItem(nth(json, "X", 0), "args"));
	assert_int_equal(cJSON_GetArraySize(cJSON_GetObjectItem(nth(json, "X", 1), "args")), 1);
	cJSON_Delete(json);
}

static void test_any_name(void **state)
{
	static const char *const names[] = {"quote\" back\\slash / <lambda>",
					    "control \x01\x1f\x7f\n\r\t",
					    "\xc3\xa9\xf0\x9f\x98\x80", "\xef\xbf\xbd"};
	const char *path = scratch_path("names.json.gz");
	struct pt_sink *sink = open_sink(path, NULL);
	struct pt_totals totals = {0};
	char want[128];
	cJSON *json;

	for (uint32_t i = 0; i < 4; i++) {
		struct pt_function named = {
		    .id = i + 70, .line = 1, .name = "x", .qualname = names[i], .file = names[i]};
		struct pt_op op = {.kind = PT_OP_FUNCTION, .function = named};

		assert_int_equal(pt_sink_op(&op, sink), 0);
		op = (struct pt_op){.kind = PT_OP_SLICE,
				    .slice = {.pid = 1,
					      .tid = 1,
					      .function = &named,
					      .begin_ns = 2000000 + 10 * i,
					      .end_ns = 2000005 + 10 * i,
					      .id = 1 + i}};
		assert_int_equal(pt_sink_op(&op, sink), 0);
	}
	assert_int_equal(pt_sink_close(sink, &totals, NULL), 0);
	json = load(path);
	for (int i = 0; i < 4; i++) {
		snprintf(want, sizeof(want), "%s(1): %s", names[i], names[i]);
		assert_string_equal(text_of(nth(json, "X", i), "name"), want);
	}
	cJSON_Delete(json);
}

static void test_empty(void **state)
{
	struct pt_totals totals = {0};
	struct pt_sink *sink;
	cJSON *json;

	assert_int_equal(pt_sink_open(scratch_path("empty.json.gz"), &info, NULL, &sink, NULL), 0);
	assert_int_equal(pt_sink_close(sink, &totals, NULL), 0);
	json = load(scratch_path("empty.json.gz"));
	assert_int_equal(cJSON_GetArraySize(cJSON_GetObjectItem(json, "traceEvents")), 0);
	cJSON_Delete(json);
}

static void test_unknown_suffix(void **state)
{
	struct pt_err err = {0};
	struct pt_sink *sink;

	assert_int_equal(pt_sink_open("trace.xml", &info, NULL, &sink, &err), -EINVAL);
	assert_int_equal(err.exit_code, PT_EXIT_USAGE);
	assert_true(pt_sink_knows("a.json.gz"));
	assert_true(pt_sink_knows("-"));
	assert_false(pt_sink_knows(".json"));
	assert_false(pt_sink_knows("a.ptcap"));
}

/* Puts slices until the sink refuses; returns how many, and the error. */
static unsigned int put_until_error(struct pt_sink *sink, unsigned int most, int *rc)
{
	unsigned int count = 0;

	*rc = 0;
	while (count < most && !*rc) {
		*rc = put_slice(sink, 2000000 + 10 * count, 2000005 + 10 * count, count + 1, 0, 0);
		count += !*rc;
	}
	return count;
}

static unsigned int count_slices(const char *path)
{
	cJSON *json = load(path);
	const cJSON *event;
	unsigned int count = 0;
	double last = -1;

	cJSON_ArrayForEach (event, cJSON_GetObjectItem(json, "traceEvents")) {
		if (strcmp(text_of(event, "ph"), "X"))
			continue;
		/* none is missing in between */
		assert_true(cJSON_GetObjectItem(event, "ts")->valuedouble > last);
		last = cJSON_GetObjectItem(event, "ts")->valuedouble;
		count++;
		assert_int_equal(
		    cJSON_GetObjectItem(cJSON_GetObjectItem(event, "args"), "Python id")->valueint,
		    count);
	}
	cJSON_Delete(json);
	return count;
}

static void limited(const char *path, uint64_t max_bytes, unsigned int least)
{
	struct pt_sink_options options = {.max_bytes = max_bytes};
	struct pt_sink *sink = open_sink(path, &options);
	struct pt_totals totals = {0};
	struct stat st;
	int rc;

	put_until_error(sink, 300000, &rc);
	assert_int_equal(rc, -EFBIG);
	assert_int_equal(pt_sink_close(sink, &totals, NULL), 0);
	assert_int_equal(stat(path, &st), 0);
	assert_true((uint64_t)st.st_size <= max_bytes);
	assert_true((uint64_t)st.st_size > max_bytes * 8 / 10);
	assert_true(count_slices(path) > least);
}

static void test_max_bytes(void **state)
{
	limited(scratch_path("max.json"), 100000, 400);
	limited(scratch_path("max.json"), 3000000, 15000);
	limited(scratch_path("max.json.gz"), 100000, 4000);
	limited(scratch_path("max.json.gz"), 400000, 15000);
}

/* A file system of 2 MiB in a mount namespace of its own, if this user may make one. */
static void fill_up(const char *folder, const char *name)
{
	struct pt_totals totals = {0};
	struct pt_err err = {0};
	struct pt_sink *sink;
	char path[600];
	unsigned int put;
	int rc;

	if (unshare(CLONE_NEWNS) && unshare(CLONE_NEWUSER | CLONE_NEWNS))
		_exit(77);
	mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL);
	if (mkdir(folder, 0700) || mount("tmpfs", folder, "tmpfs", 0, "size=2m"))
		_exit(77);
	snprintf(path, sizeof(path), "%s/%s", folder, name);
	sink = open_sink(path, NULL);
	put = put_until_error(sink, 2000000, &rc);
	if (rc != -ENOSPC)
		_exit(3);
	if (pt_sink_close(sink, &totals, &err) != -ENOSPC || !pt_err_is_set(&err))
		_exit(4);
	if (count_slices(path) < 8000 || count_slices(path) > put)
		_exit(5);
	unlink(path);
	umount(folder);
	rmdir(folder);
	_exit(0);
}

static void full_disk(const char *name)
{
	const char *folder = scratch_path("mount");
	int status;
	pid_t pid = fork();

	if (pid == 0)
		fill_up(folder, name);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	rmdir(folder);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
		skip();
	assert_int_equal(status, 0);
}

static void test_full_disk(void **state)
{
	full_disk("full.json");
}

static void test_full_disk_gzip(void **state)
{
	full_disk("full.json.gz");
}

static void test_cannot_write(void **state)
{
	struct pt_err err = {0};
	struct pt_sink *sink;

	assert_int_equal(pt_sink_open("/nonexistent/x.json", &info, NULL, &sink, &err), -ENOENT);
	assert_string_not_equal(err.hint, "");
	pt_err_clear(&err);
	assert_int_equal(symlink("/dev/full", scratch_path("full.json")), 0);
	assert_int_equal(pt_sink_open(scratch_path("full.json"), &info, NULL, &sink, &err),
			 -ENOSPC);
	assert_true(pt_err_is_set(&err));
}

static void test_numbers(void **state)
{
	static const uint64_t values[] = {
	    0, 1, 9, 10, 99, 100, 999, 1000, 12345, 999999, 1000000, 1u << 31, 1ull << 53, ~0ull};
	char got[32], want[32];

	for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
		*pt_json_u64(got, values[i]) = '\0';
		snprintf(want, sizeof(want), "%" PRIu64, values[i]);
		assert_string_equal(got, want);
		*pt_json_us(got, values[i]) = '\0';
		snprintf(want, sizeof(want), "%" PRIu64 ".%03" PRIu64, values[i] / 1000,
			 values[i] % 1000);
		assert_string_equal(got, want);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_schema),         cmocka_unit_test(test_no_call_ids),
	    cmocka_unit_test(test_any_name),       cmocka_unit_test(test_empty),
	    cmocka_unit_test(test_unknown_suffix), cmocka_unit_test(test_max_bytes),
	    cmocka_unit_test(test_full_disk),      cmocka_unit_test(test_full_disk_gzip),
	    cmocka_unit_test(test_cannot_write),   cmocka_unit_test(test_numbers),
	};

	return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
