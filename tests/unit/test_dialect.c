// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/* VizTracer's dialect, the sources of functions in a trace, and one file a process. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cjson/cJSON.h>
#include <cmocka.h>

#include "base/log.h"
#include "scratch.h"
#include "sink/report.h"
#include "sink/split.h"

static const struct pt_capture_info info = {
    .start_mono_ns = 1000000, .start_real_ns = 5000000, .tool_version = "0.1.0"};

static const struct pt_function functions[] = {
    {.id = 0, .line = 12, .name = "f", .qualname = "C.f", .file = "/app/ma\"in.py"},
    {.id = 1, .line = 3, .name = "g", .qualname = "g", .file = "/app/ma\"in.py"},
    {.id = 300, .line = 1, .name = "<module>", .qualname = "<module>", .file = "<string>"},
};

static int asked;

static const struct pt_source *find_source(void *ctx, pid_t pid, const char *file)
{
	static const struct pt_source source = {.text = "a\n\"b\"\n", .bytes = 6, .lines = 2};

	asked++;
	return file[0] == '/' ? &source : NULL;
}

static int put(int (*op_fn)(const struct pt_op *, void *), void *sink, pid_t pid,
	       unsigned int which, uint64_t begin_ns)
{
	struct pt_op op = {.kind = PT_OP_SLICE,
			   .slice = {.pid = pid,
				     .tid = pid,
				     .function = &functions[which],
				     .begin_ns = begin_ns,
				     .end_ns = begin_ns + 500,
				     .id = begin_ns}};

	return op_fn(&op, sink);
}

static void define(int (*op_fn)(const struct pt_op *, void *), void *sink)
{
	for (size_t i = 0; i < 3; i++) {
		struct pt_op op = {.kind = PT_OP_FUNCTION, .function = functions[i]};

		assert_int_equal(op_fn(&op, sink), 0);
	}
}

static cJSON *load(const char *path)
{
	size_t len;
	char *text = scratch_read(path, &len);
	cJSON *json = cJSON_Parse(text);

	if (!json)
		fail_msg("'%s' is not valid JSON near %.40s", path, cJSON_GetErrorPtr());
	free(text);
	return json;
}

static const char *text_of(const cJSON *object, const char *key)
{
	return cJSON_GetStringValue(cJSON_GetObjectItem(object, key));
}

static void test_viztracer(void **state)
{
	struct pt_sink_options options = {
	    .dialect = PT_DIALECT_VIZTRACER, .source = find_source, .process_name = "x\xff"};
	struct pt_op process = {.kind = PT_OP_PROCESS,
				.process = {.pid = 7, .ns_pid = 7, .name = "python3"}};
	const char *path = scratch_path("viz.json.gz");
	struct pt_totals totals = {.lost_events = 3}, read = {0};
	const cJSON *file_info, *event, *item;
	struct pt_report *report;
	struct pt_sink *sink;
	cJSON *json;

	asked = 0;
	assert_int_equal(pt_sink_open(path, &info, &options, &sink, NULL), 0);
	assert_int_equal(pt_sink_op(&process, sink), 0);
	define(pt_sink_op, sink);
	for (unsigned int i = 0; i < 6; i++)
		assert_int_equal(put(pt_sink_op, sink, 7, i % 3, 2000000 + 1000 * i), 0);
	assert_int_equal(pt_sink_close(sink, &totals, NULL), 0);
	assert_int_equal(asked, 3);
	json = load(path);
	item = cJSON_GetObjectItem(json, "viztracer_metadata");
	assert_string_equal(text_of(item, "version"), "pytrace-bpf 0.1.0");
	assert_true(cJSON_IsTrue(cJSON_GetObjectItem(item, "overflow")));
	assert_null(cJSON_GetObjectItem(json, "schemaVersion"));
	event = cJSON_GetArrayItem(cJSON_GetObjectItem(json, "traceEvents"), 0);
	assert_string_equal(text_of(cJSON_GetObjectItem(event, "args"), "name"), "x\xef\xbf\xbd");
	event = cJSON_GetArrayItem(cJSON_GetObjectItem(json, "traceEvents"), 2);
	assert_string_equal(text_of(event, "cat"), "FEE");
	assert_string_equal(text_of(event, "name"), "C.f (/app/ma\"in.py:12)");
	file_info = cJSON_GetObjectItem(json, "file_info");
	item = cJSON_GetObjectItem(cJSON_GetObjectItem(file_info, "files"), "/app/ma\"in.py");
	assert_string_equal(cJSON_GetArrayItem(item, 0)->valuestring, "a\n\"b\"\n");
	assert_int_equal(cJSON_GetArrayItem(item, 1)->valueint, 2);
	item = cJSON_GetObjectItem(file_info, "functions");
	assert_int_equal(cJSON_GetArraySize(item), 2);
	item = cJSON_GetObjectItem(item, "g (/app/ma\"in.py:3)");
	assert_string_equal(cJSON_GetArrayItem(item, 0)->valuestring, "/app/ma\"in.py");
	assert_int_equal(cJSON_GetArrayItem(item, 1)->valueint, 3);
	cJSON_Delete(json);
	assert_int_equal(pt_report_new(&report), 0);
	assert_int_equal(pt_report_read_trace(path, report, &read, NULL), 0);
	assert_int_equal(read.slices, 6);
	assert_int_equal(read.bad_records, 0);
	assert_false(read.cut_short);
	pt_report_free(report);
}

/* A source that does not fit is left out; the document is whole. */
static const struct pt_source *find_huge(void *ctx, pid_t pid, const char *file)
{
	return ctx;
}

static void huge_source(const char *name, uint64_t max_bytes, bool there)
{
	uint32_t random = 1;
	size_t size = 3u << 20;
	char *text = malloc(size + 1);
	struct pt_source source = {.text = text, .bytes = size};
	struct pt_sink_options options = {
	    .source = find_huge, .source_ctx = &source, .max_bytes = max_bytes};
	const char *path = scratch_path(name);
	struct pt_totals totals = {0}, read = {0};
	struct pt_report *report;
	struct pt_sink *sink;
	cJSON *json;

	for (size_t i = 0; i < size; i++) {
		random = random * 1103515245 + 12345;
		text[i] = (char)(' ' + (random >> 16) % 90);
	}
	text[size] = '\0';
	assert_int_equal(pt_sink_open(path, &info, &options, &sink, NULL), 0);
	define(pt_sink_op, sink);
	assert_int_equal(put(pt_sink_op, sink, 7, 0, 2000000), 0);
	assert_int_equal(pt_sink_close(sink, &totals, NULL), 0);
	json = load(path);
	assert_int_equal(cJSON_GetArraySize(cJSON_GetObjectItem(json, "traceEvents")), 1);
	assert_true(there == (cJSON_GetObjectItem(json, "file_info") != NULL));
	assert_non_null(cJSON_GetObjectItem(json, "pytrace-bpf summary"));
	cJSON_Delete(json);
	assert_int_equal(pt_report_new(&report), 0);
	assert_int_equal(pt_report_read_trace(path, report, &read, NULL), 0);
	assert_false(read.cut_short);
	pt_report_free(report);
	free(text);
}

static void test_huge_source(void **state)
{
	pt_log_set_level(PT_LOG_ERROR);
	huge_source("huge.json", 0, true);
	huge_source("huge.json.gz", 0, true);
	huge_source("cut.json", 1u << 20, false);
	huge_source("cut.json.gz", 100000, false);
}

static void count_path(const char *path, void *ctx)
{
	assert_non_null(strstr(path, "/split"));
	++*(int *)ctx;
}

static void test_split(void **state)
{
	char path[256], one[256];
	struct pt_totals totals = {.events = 9};
	struct pt_split *split;
	int files = 0;
	cJSON *json;

	snprintf(path, sizeof(path), "%s", scratch_path("split%p.json"));
	assert_true(pt_split_wanted(path));
	assert_false(pt_split_wanted("/x/100%.json"));
	assert_int_equal(pt_split_open(path, &info, &(struct pt_sink_options){0}, &split), 0);
	define(pt_split_op, split);
	for (int pid = 1; pid <= PT_SPLIT_MAX_FILES + 3; pid++) {
		assert_int_equal(put(pt_split_op, split, pid, 0, 2000000), 0);
		assert_int_equal(put(pt_split_op, split, pid, 2, 2001000), 0);
	}
	assert_int_equal(put(pt_split_op, split, 2, 0, 2002000), 0);
	assert_int_equal(pt_split_close(split, &totals, count_path, &files, NULL), 0);
	assert_int_equal(files, PT_SPLIT_MAX_FILES + 1);
	snprintf(one, sizeof(one), "%s", scratch_path("split2.json"));
	json = load(one);
	assert_int_equal(cJSON_GetArraySize(cJSON_GetObjectItem(json, "traceEvents")), 3);
	assert_non_null(cJSON_GetObjectItem(cJSON_GetObjectItem(json, "pytrace-bpf summary"),
					    "of all files together"));
	cJSON_Delete(json);
	json = load(scratch_path("splitrest.json"));
	assert_int_equal(cJSON_GetArraySize(cJSON_GetObjectItem(json, "traceEvents")), 6);
	cJSON_Delete(json);
}

static void test_split_cannot_write(void **state)
{
	struct pt_totals totals = {0};
	struct pt_split *split;
	struct pt_err err = {0};

	assert_int_equal(
	    pt_split_open("/nonexistent/%p.json", &info, &(struct pt_sink_options){0}, &split), 0);
	define(pt_split_op, split);
	assert_int_equal(put(pt_split_op, split, 1, 0, 2000000), -ENOENT);
	assert_int_equal(pt_split_close(split, &totals, NULL, NULL, &err), 0);
	assert_non_null(strstr(err.what, "/nonexistent/1.json"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_viztracer),
	    cmocka_unit_test(test_huge_source),
	    cmocka_unit_test(test_split),
	    cmocka_unit_test(test_split_cannot_write),
	};

	return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
