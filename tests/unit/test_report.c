// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/* The report: self and total time, recursion counted once, traces read back. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cjson/cJSON.h>
#include <cmocka.h>

#include "model/model.h"
#include "scratch.h"
#include "sink/report.h"
#include "sink/sink.h"

#define FUNCTIONS 8

static const struct pt_capture_info info = {.start_mono_ns = 1000,
					    .start_real_ns = 1790000000000000000ull};

static struct pt_function functions[FUNCTIONS];
static char names[FUNCTIONS][8];

static void define(pt_op_fn emit, void *ctx)
{
	struct pt_op op = {.kind = PT_OP_FUNCTION};

	for (uint32_t i = 0; i < FUNCTIONS; i++) {
		snprintf(names[i], sizeof(names[i]), "f%u", i);
		functions[i] = (struct pt_function){
		    .id = i, .line = i + 1, .name = names[i], .qualname = names[i], .file = "m.py"};
		op.function = functions[i];
		assert_int_equal(emit(&op, ctx), 0);
	}
}

/* A call tree, made at random, given out in the order of the ends, and added up the simple way. */
struct truth {
	uint64_t calls[FUNCTIONS], self[FUNCTIONS], total[FUNCTIONS];
	uint64_t next_id, ns;
	unsigned int open[FUNCTIONS], left;
	pt_op_fn emit;
	void *ctx;
};

static uint64_t random_state;

static uint32_t random_below(uint32_t limit)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return (uint32_t)(random_state >> 20) % limit;
}

static uint64_t make_call(struct truth *truth, uint64_t parent_id, unsigned int depth)
{
	uint32_t f = random_below(FUNCTIONS);
	uint64_t id = ++truth->next_id, begin = truth->ns, inner = 0;
	struct pt_op op = {.kind = PT_OP_SLICE};

	truth->ns += 1 + random_below(50);
	truth->open[f]++;
	while (truth->left && depth < 12 && random_below(3)) {
		truth->left--;
		inner += make_call(truth, id, depth + 1);
		truth->ns += 1 + random_below(50);
	}
	truth->open[f]--;
	op.slice.pid = 1;
	op.slice.tid = 2;
	op.slice.function = &functions[f];
	op.slice.begin_ns = begin;
	op.slice.end_ns = truth->ns;
	op.slice.id = id;
	op.slice.parent_id = parent_id;
	op.slice.depth = depth;
	assert_int_equal(truth->emit(&op, truth->ctx), 0);
	truth->calls[f]++;
	truth->self[f] += truth->ns - begin - inner;
	if (!truth->open[f])
		truth->total[f] += truth->ns - begin;
	return truth->ns++ - begin;
}

static cJSON *report_json(const struct pt_report *report, const struct pt_totals *totals)
{
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);
	cJSON *json;

	assert_int_equal(pt_report_print_json(report, totals, 100, out), 0);
	fclose(out);
	json = cJSON_Parse(text);
	assert_non_null(json);
	free(text);
	return json;
}

static uint64_t number(const cJSON *object, const char *key)
{
	return (uint64_t)cJSON_GetObjectItem(object, key)->valuedouble;
}

static void assert_true_to(const struct pt_report *report, const struct truth *truth)
{
	struct pt_totals totals = {0};
	cJSON *json = report_json(report, &totals);
	const cJSON *item;
	uint64_t last = UINT64_MAX, calls = 0;

	cJSON_ArrayForEach (item, cJSON_GetObjectItem(json, "by_self")) {
		unsigned int f = (unsigned int)atoi(cJSON_GetObjectItem(item, "name")->valuestring +
						    1);

		assert_int_equal(number(item, "line"), f + 1);
		assert_int_equal(number(item, "calls"), truth->calls[f]);
		assert_int_equal(number(item, "self_ns"), truth->self[f]);
		assert_int_equal(number(item, "total_ns"), truth->total[f]);
		assert_true(number(item, "self_ns") <= last);
		last = number(item, "self_ns");
		calls += truth->calls[f];
	}
	assert_int_equal(number(json, "calls"), calls);
	cJSON_Delete(json);
}

static void test_random_trees(void **state)
{
	for (uint64_t seed = 1; seed <= 200; seed++) {
		struct truth truth = {.ns = 100};
		struct pt_report *report;

		random_state = seed * 0x9e3779b97f4a7c15ull;
		assert_int_equal(pt_report_new(&report), 0);
		truth.emit = pt_report_op;
		truth.ctx = report;
		define(pt_report_op, report);
		truth.left = 300;
		while (truth.left) {
			truth.left--;
			make_call(&truth, 0, 1);
		}
		assert_true_to(report, &truth);
		pt_report_free(report);
	}
}

/* The same through a trace file. */
static void read_back(const char *path)
{
	struct truth truth = {.ns = 5000, .left = 3000};
	struct pt_op loss = {
	    .kind = PT_OP_LOSS,
	    .loss = {.pid = 1, .tid = 2, .begin_ns = 2000, .end_ns = 3000, .events = 17}};
	struct pt_op thread = {.kind = PT_OP_THREAD,
			       .thread = {.pid = 1, .tid = 2, .time_ns = 1000, .name = "wo(r)k"}};
	struct pt_totals totals = {.lost_events = 17, .events = 6000}, got;
	struct pt_report *report;
	struct pt_err err = {0};
	struct pt_sink *sink;
	const cJSON *item;
	cJSON *json;

	random_state = 77;
	assert_int_equal(pt_sink_open(path, &info, NULL, &sink, &err), 0);
	assert_int_equal(pt_sink_op(&thread, sink), 0);
	define(pt_sink_op, sink);
	truth.emit = pt_sink_op;
	truth.ctx = sink;
	while (truth.left) {
		truth.left--;
		make_call(&truth, 0, 1);
	}
	assert_int_equal(pt_sink_op(&loss, sink), 0);
	assert_int_equal(pt_sink_close(sink, &totals, &err), 0);
	assert_int_equal(pt_report_new(&report), 0);
	assert_int_equal(pt_report_read_trace(path, report, &got, &err), 0);
	assert_true_to(report, &truth);
	assert_int_equal(got.lost_events, 17);
	assert_int_equal(got.events, 6000);
	assert_int_equal(got.bad_records, 0);
	assert_false(got.cut_short);
	json = report_json(report, &got);
	item = cJSON_GetArrayItem(cJSON_GetObjectItem(json, "threads"), 0);
	assert_string_equal(cJSON_GetObjectItem(item, "name")->valuestring, "wo(r)k");
	assert_int_equal(number(item, "lost_events"), 17);
	cJSON_Delete(json);
	pt_report_free(report);
}

static void test_read_back(void **state)
{
	read_back(scratch_path("r.json"));
	read_back(scratch_path("r.json.gz"));
}

static int read_text(const char *text, struct pt_totals *totals, struct pt_err *err)
{
	const char *path = scratch_path("t.json");
	struct pt_report *report;
	int rc;

	scratch_write(path, text, strlen(text));
	assert_int_equal(pt_report_new(&report), 0);
	memset(err, 0, sizeof(*err));
	rc = pt_report_read_trace(path, report, totals, err);
	assert_int_equal(rc != 0, pt_err_is_set(err));
	pt_report_free(report);
	return rc;
}

#define HEAD "{\n  \"pytrace-bpf\": {\n  },\n  \"traceEvents\": [\n"
#define CALL(id)                                                                                   \
	"{\"ph\":\"X\",\"cat\":\"python_function\",\"name\":\"a(1): b\",\"pid\":1,\"tid\":1,"      \
	"\"ts\":1.000,\"dur\":2.500,\"args\":{\"Python id\":" id ",\"Python parent id\":null}}"

static void test_foreign_and_damaged(void **state)
{
	struct pt_totals totals;
	struct pt_err err;

	assert_int_equal(read_text("", &totals, &err), -EINVAL);
	assert_int_equal(read_text("{\"traceEvents\": []}\n", &totals, &err), -EINVAL);
	assert_int_equal(read_text("[1,2,3]\n", &totals, &err), -EINVAL);
	assert_string_not_equal(err.hint, "");
	assert_int_equal(read_text(HEAD CALL("1") "\n  ]\n}\n", &totals, &err), 0);
	assert_int_equal(totals.slices, 1);
	assert_false(totals.cut_short);
	assert_int_equal(read_text(HEAD CALL("1") ",\n" CALL("2"), &totals, &err), 0);
	assert_true(totals.cut_short);
	assert_int_equal(totals.slices, 2);
	/* a damaged line is counted, the others are used */
	assert_int_equal(
	    read_text(HEAD CALL("1") ",\n{\"ph\":\"X\",,}\n" CALL("0") "\n" CALL(
			  "-1") "\n{\"name\":\"\\ud8\"}\n{\"a\":[[[[[[[[[[[[[[[[[[[[[[]}\n"
				"{\"ts\":99999999999999999999999}\n" CALL("3") "\n  ]\n}\n",
		      &totals, &err),
	    0);
	assert_int_equal(totals.slices, 2);
	assert_int_equal(totals.bad_records, 6);
	assert_int_equal(read_text(HEAD
				   "{\"ph\":\"X\",\"cat\":\"python_function\",\"name\":\"a\"}\n",
				   &totals, &err),
			 -ENODATA); /* no call ids */
	assert_int_equal(pt_report_read_trace("/nonexistent.json", NULL, &totals, NULL), -ENOENT);
}

/* What a terminal would obey is not printed; a name may end in the middle of a character. */
static void test_control_codes(void **state)
{
	static const char trace[] = HEAD
	    "{\"ph\":\"X\",\"cat\":\"python_function\",\"name\":"
	    "\"a(1): b\xc2\x9b\\u001bc\xc2\xa0\xc2\",\"pid\":1,\"tid\":1,\"ts\":1.000,"
	    "\"dur\":2.500,\"args\":{\"Python id\":1}}\n  ]\n}\n";
	const char *path = scratch_path("t.json");
	struct pt_totals totals;
	struct pt_report *report;
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	scratch_write(path, trace, strlen(trace));
	assert_int_equal(pt_report_new(&report), 0);
	assert_int_equal(pt_report_read_trace(path, report, &totals, NULL), 0);
	assert_int_equal(pt_report_print_text(report, &totals, 5, out), 0);
	fclose(out);
	assert_non_null(strstr(text, "a(1): b??c\xc2\xa0\xc2\n"));
	free(text);
	pt_report_free(report);
}

static void test_text(void **state)
{
	struct truth truth = {.ns = 1, .left = 40};
	struct pt_totals totals = {.lost_events = 3, .bad_records = 2};
	struct pt_report *report;
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	random_state = 5;
	assert_int_equal(pt_report_new(&report), 0);
	define(pt_report_op, report);
	truth.emit = pt_report_op;
	truth.ctx = report;
	make_call(&truth, 0, 1);
	assert_int_equal(pt_report_print_text(report, &totals, 2, out), 0);
	fclose(out);
	assert_non_null(strstr(text, "lost events 3"));
	assert_non_null(strstr(text, "damaged records 2"));
	assert_non_null(strstr(text, "Functions by self time"));
	assert_non_null(strstr(text, " more\n"));
	free(text);
	pt_report_free(report);
}

/* Memory must not grow with the number of calls: what grew here would be seen as a slow test. */
static void test_many_calls_few_spans(void **state)
{
	struct pt_report *report;
	struct pt_op op = {.kind = PT_OP_SLICE};
	struct pt_totals totals = {0};
	const cJSON *item;
	cJSON *json;
	uint64_t ns = 1;

	assert_int_equal(pt_report_new(&report), 0);
	define(pt_report_op, report);
	/* f0 runs throughout (id 1); it calls f1 again and again, which calls f2, which calls f1 */
	for (uint64_t id = 2; id < 300000; id += 3) {
		for (uint64_t i = 3; i-- > 0;) {
			op.slice = (struct pt_op_slice){.pid = 1,
							.tid = 1,
							.function = &functions[i == 1 ? 2 : 1],
							.begin_ns = ns + i,
							.end_ns = ns + 10 - i,
							.id = id + i,
							.parent_id = i ? id + i - 1 : 1};
			assert_int_equal(pt_report_op(&op, report), 0);
		}
		ns += 20;
	}
	json = report_json(report, &totals);
	cJSON_ArrayForEach (item, cJSON_GetObjectItem(json, "by_total")) {
		bool f1 = !strcmp(cJSON_GetObjectItem(item, "name")->valuestring, "f1");

		assert_int_equal(number(item, "calls"), f1 ? 200000 : 100000);
		assert_int_equal(number(item, "total_ns"), f1 ? 1000000 : 800000);
		assert_int_equal(number(item, "self_ns"), f1 ? 800000 : 200000);
	}
	cJSON_Delete(json);
	pt_report_free(report);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_random_trees),         cmocka_unit_test(test_read_back),
	    cmocka_unit_test(test_foreign_and_damaged),  cmocka_unit_test(test_text),
	    cmocka_unit_test(test_many_calls_few_spans), cmocka_unit_test(test_control_codes),
	};

	return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
