// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/* Merging: one event at a time, and whole files, damaged in every way that is cheap to make. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cjson/cJSON.h>
#include <cmocka.h>

#include "scratch.h"
#include "sink/json_scan.h"
#include "sink/merge.h"
#include "sink/merge_event.h"

static void test_scan(void **state)
{
	static const char *const bad[] = {"",
					  "{",
					  "{\"a\"}",
					  "{\"a\":}",
					  "{\"a\":1",
					  "{a:1}",
					  "{\"a\":\"",
					  "{\"a\\",
					  "{\"a\":[1}",
					  "[1]",
					  "{\"a\":\"\\q\"}",
					  "{\"a\":\"\\u12g4\"}",
					  "{\"a\":\"\\u1"};
	const char *p = "{ \"a\" : [1,{\"b\":\"}\\\"\"}] ,\"c\":-1.5e3, \"d\":{}}x";
	static const char *const values[] = {"[1,{\"b\":\"}\\\"\"}]", "-1.5e3", "{}"};
	struct pt_json_member member;
	char deep[200];
	uint64_t n;
	int i = 0;

	while (pt_json_next(&p, &member) > 0)
		assert_true(pt_json_is(&member.value, values[i++]));
	assert_int_equal(i, 3);
	assert_string_equal(p, "x");
	for (size_t b = 0; b < sizeof(bad) / sizeof(bad[0]); b++) {
		int rc;

		p = bad[b];
		while ((rc = pt_json_next(&p, &member)) > 0)
			;
		assert_int_equal(rc, -EBADMSG);
	}
	memset(deep, '[', sizeof(deep) - 1);
	deep[sizeof(deep) - 1] = '\0';
	assert_null(pt_json_skip(deep, PT_JSON_NESTING_MAX));
	assert_true(pt_json_take_u64(&(struct pt_json_span){"18446744073709551615", 20}, &n));
	assert_true(n == UINT64_MAX);
	assert_false(pt_json_take_u64(&(struct pt_json_span){"18446744073709551616", 20}, &n));
	assert_false(pt_json_take_u64(&(struct pt_json_span){"", 0}, &n));
	assert_true(pt_json_take_milli(&(struct pt_json_span){"12.5", 4}, &n));
	assert_int_equal(n, 12500);
	assert_false(pt_json_take_milli(&(struct pt_json_span){"12.5678", 7}, &n));
	assert_false(pt_json_take_milli(&(struct pt_json_span){"-1", 2}, &n));
}

struct line {
	const char *in, *out; /* out NULL: -EBADMSG */
};

static void check_lines(struct pt_merge_ids *ids, const struct pt_merge_file *file,
			const struct line *lines, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		struct pt_buf out = {0};
		const char *end;
		int rc = pt_merge_event(ids, file, lines[i].in, &end, &out);

		pt_buf_add(&out, "", 1);
		assert_int_equal(rc, lines[i].out ? 0 : -EBADMSG);
		if (lines[i].out)
			assert_string_equal(out.data, lines[i].out);
		if (lines[i].out)
			assert_string_equal(end, "");
		pt_buf_release(&out);
	}
}

#define LINES(lines) lines, sizeof(lines) / sizeof(lines[0])

static void test_events(void **state)
{
	/* the first file keeps all but the host's name */
	static const struct line first[] = {
	    {"{\"ph\":\"M\",\"name\":\"process_name\",\"pid\":7,\"tid\":7,\"ts\":1.000,\"args\":{"
	     "\"name\":\"py\"}}",
	     "{\"ph\":\"M\",\"name\":\"process_name\",\"pid\":7,\"tid\":7,\"ts\":1.000,\"args\":{"
	     "\"name\":\"py (a)\"}}"},
	    {"{\"ph\":\"X\",\"cat\":\"python_function\",\"name\":\"f\",\"pid\":7,\"tid\":8,\"ts\":"
	     "2.500,"
	     "\"dur\":1.000,\"args\":{\"Python id\":5,\"Python parent id\":null}}",
	     "{\"ph\":\"X\",\"cat\":\"python_function\",\"name\":\"f\",\"pid\":7,\"tid\":8,\"ts\":"
	     "2.500,"
	     "\"dur\":1.000,\"args\":{\"Python id\":5,\"Python parent id\":null}}"},
	    {"{\"ph\":\"s\",\"cat\":\"c\",\"name\":\"n\",\"pid\":7,\"tid\":8,\"ts\":3.000,\"id\":"
	     "9}",
	     "{\"ph\":\"s\",\"cat\":\"c\",\"name\":\"n\",\"pid\":7,\"tid\":8,\"ts\":3.000,\"id\":"
	     "9}"},
	};
	/* the second has one process of the same number, and one of its own */
	static const struct line second[] = {
	    {"{\"ph\":\"M\",\"name\":\"process_name\",\"pid\":7,\"tid\":7,\"ts\":1.000,\"args\":{"
	     "\"name\":\"py\"}}",
	     "{\"ph\":\"M\",\"name\":\"process_name\",\"pid\":4194304,\"tid\":4194304,\"ts\":3.000,"
	     "\"args\":{\"name\":\"py (b, pid 7)\"}}"},
	    {"{\"ph\":\"M\",\"name\":\"process_sort_index\",\"pid\":9,\"tid\":9,\"ts\":1.000,"
	     "\"args\":{"
	     "\"sort_index\":9}}",
	     "{\"ph\":\"M\",\"name\":\"process_sort_index\",\"pid\":9,\"tid\":9,\"ts\":3.000,"
	     "\"args\":{"
	     "\"sort_index\":5000009}}"},
	    {"{\"ph\":\"X\",\"cat\":\"python_function\",\"name\":\"f\",\"pid\":7,\"tid\":8,\"ts\":"
	     "2.500,"
	     "\"dur\":1.000,\"args\":{\"Python id\":2,\"Python parent "
	     "id\":1,\"func_args\":{\"Python "
	     "id\":\"3\",\"correlation\":\"1\"}}}",
	     "{\"ph\":\"X\",\"cat\":\"python_function\",\"name\":\"f\",\"pid\":4194304,\"tid\":"
	     "4194305,"
	     "\"ts\":4.500,\"dur\":1.000,\"args\":{\"Python id\":7,\"Python parent "
	     "id\":6,\"func_args\":"
	     "{\"Python id\":\"3\",\"correlation\":\"1\"}}}"},
	    {"{\"ph\":\"f\",\"cat\":\"c\",\"name\":\"n\",\"pid\":9,\"tid\":9,\"ts\":0.000,\"bp\":"
	     "\"e\","
	     "\"id\":1}",
	     "{\"ph\":\"f\",\"cat\":\"c\",\"name\":\"n\",\"pid\":9,\"tid\":9,\"ts\":2.000,\"bp\":"
	     "\"e\","
	     "\"id\":10}"},
	    {"{\"ph\":\"b\",\"cat\":\"mark\",\"name\":\"n\",\"pid\":9,\"tid\":8,\"ts\":0.000,"
	     "\"id\":\"8."
	     "a1\",\"args\":{\"correlation\":4}}",
	     "{\"ph\":\"b\",\"cat\":\"mark\",\"name\":\"n\",\"pid\":9,\"tid\":4194305,\"ts\":2.000,"
	     "\"id\":\"4194305.a1\",\"args\":{\"correlation\":4}}"},
	    {"{\"ph\":\"X\",\"cat\":\"gil\",\"name\":\"g\",\"pid\":9,\"tid\":9,\"ts\":0.000,"
	     "\"dur\":1,"
	     "\"sf\":3,\"args\":{\"holder\":8}}",
	     "{\"ph\":\"X\",\"cat\":\"gil\",\"name\":\"g\",\"pid\":9,\"tid\":9,\"ts\":2.000,"
	     "\"dur\":1,"
	     "\"sf\":3,\"args\":{\"holder\":4194305}}"},
	    /* the states of a thread stay beside it */
	    {"{\"ph\":\"X\",\"cat\":\"thread_state\",\"name\":\"running\",\"pid\":7,\"tid\":"
	     "1000000008,"
	     "\"ts\":0.000,\"dur\":1}",
	     "{\"ph\":\"X\",\"cat\":\"thread_state\",\"name\":\"running\",\"pid\":4194304,\"tid\":"
	     "1004194305,\"ts\":2.000,\"dur\":1}"},
	    {"{}", NULL},
	    {"{\"ph\":\"X\",\"name\":\"f\"}", NULL},
	    {"{\"ph\":\"X\",\"name\":\"f\",\"pid\":-1}", NULL},
	    {"{\"ph\":\"X\",\"name\":\"f\",\"pid\":1,\"ts\":\"a\"}", NULL},
	    {"{\"ph\":\"X\",\"name\":\"f\",\"pid\":1,\"args\":3}", NULL},
	    {"{\"ph\":\"b\",\"name\":\"f\",\"pid\":1,\"id\":\"8\"}", NULL},
	};
	struct pt_merge_file a = {.index = 0, .host = "a"};
	struct pt_merge_file b = {.index = 1, .host = "b", .shift_ns = 2000};
	struct pt_merge_ids ids = {0};

	pt_merge_begin(&ids, &a);
	check_lines(&ids, &a, LINES(first));
	pt_merge_begin(&ids, &b);
	check_lines(&ids, &b, LINES(second));
	pt_merge_ids_release(&ids);
}

#define GOLDEN "tests/golden/stacks.json"

static int merge_two(const char *a, const char *b, const char *out, struct pt_err *err)
{
	struct pt_merge *merge;
	char host[PT_MERGE_HOST_BYTES];
	uint64_t base_ns;
	int rc = pt_merge_start(a, &base_ns, host, err);

	if (!rc)
		rc = pt_merge_open(out, base_ns, 0, &merge, err);
	if (rc)
		return rc;
	rc = pt_merge_add(merge, a, a, 0, err);
	if (!rc)
		rc = pt_merge_add(merge, b, b, 0, err);
	if (!rc)
		return pt_merge_close(merge, err);
	pt_merge_discard(merge);
	return rc;
}

static int count_frames(const cJSON *document)
{
	return cJSON_GetArraySize(cJSON_GetObjectItem(document, "stackFrames"));
}

static void test_files(void **state)
{
	char out[4096], *text, *one = scratch_read(GOLDEN, &(size_t){0});
	struct pt_err err = {0};
	cJSON *document, *single = cJSON_Parse(one);
	const cJSON *event, *frames;
	int events = cJSON_GetArraySize(cJSON_GetObjectItem(single, "traceEvents"));
	size_t len;

	snprintf(out, sizeof(out), "%s", scratch_path("two.json.gz"));
	assert_int_equal(merge_two(GOLDEN, GOLDEN, out, &err), 0);
	text = scratch_read(out, &len);
	document = cJSON_Parse(text);
	assert_non_null(document);
	assert_int_equal(cJSON_GetArraySize(cJSON_GetObjectItem(document, "traceEvents")),
			 2 * events);
	assert_int_equal(count_frames(document), 2 * count_frames(single));
	frames = cJSON_GetObjectItem(document, "stackFrames");
	cJSON_ArrayForEach (event, cJSON_GetObjectItem(document, "traceEvents")) {
		const cJSON *sf = cJSON_GetObjectItem(event, "sf");
		char number[32];

		snprintf(number, sizeof(number), "%d", sf ? sf->valueint : 1);
		assert_non_null(cJSON_GetObjectItem(frames, number));
	}
	/* what was merged can be merged again */
	assert_int_equal(merge_two(out, GOLDEN, scratch_path("three.json"), &err), 0);
	cJSON_Delete(document);
	cJSON_Delete(single);
	free(text);
	free(one);
}

/* Cut anywhere, or with a byte changed to what no JSON has there: refused, and no file is left. */
static void test_damage(void **state)
{
	char out[4096], bad[4096], *text;
	size_t len;

	text = scratch_read(GOLDEN, &len);
	snprintf(out, sizeof(out), "%s", scratch_path("out.json"));
	snprintf(bad, sizeof(bad), "%s", scratch_path("bad.json"));
	for (size_t at = 0; at < len - 2; at += 1 + len / 97) {
		struct pt_err err = {0};

		scratch_write(bad, text, at);
		assert_true(merge_two(GOLDEN, bad, out, &err) < 0);
		assert_true(pt_err_is_set(&err));
		assert_int_equal(access(out, F_OK), -1);
	}
	for (char *line = strstr(text, "\n{"); line; line = strstr(line + 1, "\n{")) {
		struct pt_err err = {0};

		line[1] = '\x01';
		scratch_write(bad, text, len);
		line[1] = '{';
		assert_int_equal(merge_two(GOLDEN, bad, out, &err), -EBADMSG);
		assert_non_null(strstr(err.what, "is damaged at line "));
		assert_int_equal(access(out, F_OK), -1);
	}
	free(text);
}

static void test_foreign(void **state)
{
	static const char *const texts[] = {
	    "",
	    "{}",
	    "[]",
	    "\x1f\x8b nonsense",
	    "{\n  \"traceEvents\": [\n  ]\n}\n",
	    "{\n  \"pytrace-bpf\": {\n  },\n  \"traceEvents\": [\n  ]\n}\n"};
	char host[PT_MERGE_HOST_BYTES];
	struct pt_err err = {0};
	uint64_t base_ns;

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		const char *path = scratch_path("foreign.json");

		pt_err_clear(&err);
		scratch_write(path, texts[i], strlen(texts[i]));
		assert_int_equal(pt_merge_start(path, &base_ns, host, &err), -EINVAL);
		assert_non_null(strstr(err.what, "foreign.json"));
	}
	pt_err_clear(&err);
	assert_int_equal(pt_merge_start(scratch_path("nothing.json"), &base_ns, host, &err),
			 -ENOENT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_scan),    cmocka_unit_test(test_events),
	    cmocka_unit_test(test_files),   cmocka_unit_test(test_damage),
	    cmocka_unit_test(test_foreign),
	};

	return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
