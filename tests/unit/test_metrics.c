// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/* Metrics: nothing is counted twice or dropped, whatever has series of its own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "sink/metrics.h"

#define SECOND 1000000000ull

static const struct pt_metrics_options two = {
    .processes = 2, .functions = 2, .keep_ns = 10 * SECOND, .calls = true, .samples = true};

static void give(struct pt_metrics *metrics, const struct pt_op *op)
{
	assert_int_equal(pt_metrics_op(op, metrics), 0);
}

static void process(struct pt_metrics *metrics, pid_t pid, const char *name)
{
	give(metrics,
	     &(struct pt_op){.kind = PT_OP_PROCESS, .process = {.pid = pid, .name = name}});
}

static void end_process(struct pt_metrics *metrics, pid_t pid, uint64_t ns)
{
	give(metrics, &(struct pt_op){.kind = PT_OP_INSTANT,
				      .instant = {.pid = pid,
						  .tid = pid,
						  .time_ns = ns,
						  .category = "process",
						  .name = "process exit"}});
}

static const struct pt_function functions[] = {
    {.id = 0, .line = 1, .name = "f", .qualname = "C.f", .file = "a\"\\\n.py"},
    {.id = 1, .line = 2, .name = "g", .qualname = "g", .file = "b.py"},
    {.id = 2, .line = 3, .name = "h", .qualname = "h", .file = "b.py"},
};

static void define(struct pt_metrics *metrics)
{
	for (size_t i = 0; i < 3; i++)
		give(metrics, &(struct pt_op){.kind = PT_OP_FUNCTION, .function = functions[i]});
}

static void call(struct pt_metrics *metrics, pid_t pid, unsigned int function, uint32_t depth,
		 uint64_t begin_ns, uint64_t end_ns, uint32_t flags)
{
	give(metrics, &(struct pt_op){.kind = PT_OP_SLICE,
				      .slice = {.pid = pid,
						.tid = pid,
						.function = &functions[function],
						.begin_ns = begin_ns,
						.end_ns = end_ns,
						.depth = depth,
						.flags = flags}});
}

static char *text(struct pt_metrics *metrics, uint64_t now_ns)
{
	struct pt_buf buf = {0};
	struct pt_series_sink sink = pt_series_text(&buf);

	pt_metrics_walk(metrics, now_ns, &sink);
	pt_buf_add(&buf, "", 1);
	assert_false(buf.failed);
	return buf.data;
}

static void has(const char *all, const char *line)
{
	if (!strstr(all, line))
		fail_msg("no '%s' in:\n%s", line, all);
}

/* The sum of all series of a name. */
static double sum(const char *all, const char *name)
{
	double total = 0;

	for (const char *p = all; (p = strstr(p, name)); p++)
		if ((p == all || p[-1] == '\n') && p[strlen(name)] == '{')
			total += strtod(strstr(p, "} ") + 2, NULL);
	return total;
}

static void test_calls(void **state)
{
	struct pt_metrics *metrics;
	char *all;

	assert_int_equal(pt_metrics_new(&two, &metrics), 0);
	process(metrics, 10, "py\"t");
	define(metrics);
	/* f [0, 100] calls g [10, 40], which calls h [20, 30], and h [50, 55] */
	call(metrics, 10, 2, 3, 20, 30, 0);
	call(metrics, 10, 1, 2, 10, 40, 0);
	call(metrics, 10, 2, 2, 50, 55, 0);
	call(metrics, 10, 0, 1, 0, 100, 0);
	all = text(metrics, 0);
	has(all, "\npytrace_calls_total{process=\"py\\\"t\",pid=\"10\"} 4\n");
	has(all, "\npytrace_self_seconds_total{process=\"py\\\"t\",pid=\"10\"} 0.000000100\n");
	has(all, "function=\"C.f\",file=\"a\\\"\\\\\\n.py\",line=\"1\"} 0.000000065\n");
	has(all, "function=\"g\",file=\"b.py\",line=\"2\"} 0.000000020\n");
	assert_null(strstr(all, "function=\"h\"")); /* the third of two */
	has(all,
	    "\npytrace_other_functions_self_seconds{process=\"py\\\"t\",pid=\"10\"} 0.000000015\n");
	free(all);
	pt_metrics_free(metrics);
}

/* A call that is open when one session ends and the next begins is one call. */
static void test_sessions(void **state)
{
	struct pt_metrics *metrics;
	char *all;

	assert_int_equal(pt_metrics_new(&two, &metrics), 0);
	process(metrics, 10, "a");
	define(metrics);
	call(metrics, 10, 1, 2, 10, 20, PT_SLICE_OPEN_AT_END);
	call(metrics, 10, 0, 1, 0, 20, PT_SLICE_OPEN_AT_END);
	pt_metrics_begin(metrics, 1 * SECOND, UINT64_MAX);
	assert_int_equal(pt_metrics_model_size(metrics), 0);
	process(metrics, 10, "a");
	define(metrics);
	call(metrics, 10, 1, 2, 30, 40, PT_SLICE_OPEN_AT_START);
	call(metrics, 10, 0, 1, 30, 50, PT_SLICE_OPEN_AT_START);
	all = text(metrics, 100 * SECOND); /* it did not end */
	has(all, "\npytrace_calls_total{process=\"a\",pid=\"10\"} 2\n");
	has(all, "\npytrace_self_seconds_total{process=\"a\",pid=\"10\"} 0.000000040\n");
	has(all, "function=\"C.f\",file=\"a\\\"\\\\\\n.py\",line=\"1\"} 0.000000020\n");
	free(all);
	pt_metrics_begin(metrics, 101 * SECOND, UINT64_MAX);
	all = text(metrics, 200 * SECOND); /* but here it was not seen again */
	has(all, "\npytrace_calls_total{process=\"ended\",pid=\"ended\"} 2\n");
	free(all);
	pt_metrics_free(metrics);
}

/* A number that comes again after its process has ended is another process's. */
static void test_number_again(void **state)
{
	struct pt_metrics *metrics;
	char *all;

	assert_int_equal(pt_metrics_new(&two, &metrics), 0);
	define(metrics);
	process(metrics, 7, "web");
	call(metrics, 7, 0, 1, 0, 10, 0);
	end_process(metrics, 7, 20);
	process(metrics, 7, "web");
	call(metrics, 7, 0, 1, 30, 40, 0);
	all = text(metrics, 40);
	has(all, "\npytrace_calls_total{process=\"web\",pid=\"7\"} 1\n");
	has(all, "\npytrace_calls_total{process=\"ended\",pid=\"ended\"} 1\n");
	free(all);
	pt_metrics_free(metrics);
}

/* But a recording that was prepared beside another has met those that ended meanwhile, too. */
static void test_number_of_both(void **state)
{
	struct pt_metrics *metrics;
	char *all;

	assert_int_equal(pt_metrics_new(&two, &metrics), 0);
	define(metrics);
	process(metrics, 7, "web");
	process(metrics, 8, "web");
	call(metrics, 7, 0, 1, 0, 10, 0);
	call(metrics, 8, 0, 1, 0, 10, 0);
	end_process(metrics, 8, 20); /* before the other began */
	end_process(metrics, 7, 40);
	pt_metrics_begin(metrics, 50, 30);
	define(metrics);
	process(metrics, 7, "python"); /* what it is called if nobody knows */
	process(metrics, 8, "web");
	end_process(metrics, 7, 40);
	all = text(metrics, 60);
	has(all, "\npytrace_calls_total{process=\"web\",pid=\"7\"} 1\n");
	has(all, "\npytrace_calls_total{process=\"web\",pid=\"8\"} 0\n");
	has(all, "\npytrace_calls_total{process=\"ended\",pid=\"ended\"} 1\n");
	free(all);
	pt_metrics_free(metrics);
}

static void test_room(void **state)
{
	struct pt_metrics *metrics;
	uint64_t calls = 0;
	char *all;

	assert_int_equal(pt_metrics_new(&two, &metrics), 0);
	define(metrics);
	for (pid_t pid = 1; pid <= 3; pid++) {
		process(metrics, pid, "p");
		for (pid_t i = 0; i < pid; i++, calls++)
			call(metrics, pid, 0, 1, 0, 10, 0);
	}
	all = text(metrics, 0);
	has(all, "\npytrace_calls_total{process=\"p\",pid=\"1\"} 1\n");
	has(all, "\npytrace_calls_total{process=\"p\",pid=\"2\"} 2\n");
	has(all, "\npytrace_calls_total{process=\"other\",pid=\"other\"} 3\n");
	has(all, "\npytrace_calls_total{process=\"ended\",pid=\"ended\"} 0\n");
	free(all);
	/* what has ended stays for a while, but gives way */
	end_process(metrics, 1, 5 * SECOND);
	end_process(metrics, 2, 6 * SECOND);
	end_process(metrics, 3, 6 * SECOND);
	process(metrics, 4, "p");
	call(metrics, 4, 0, 1, 0, 10, 0);
	calls++;
	all = text(metrics, 10 * SECOND);
	assert_null(strstr(all, "pid=\"1\""));
	has(all, "\npytrace_calls_total{process=\"p\",pid=\"2\"} 2\n");
	has(all, "\npytrace_calls_total{process=\"ended\",pid=\"ended\"} 1\n");
	assert_true(sum(all, "pytrace_calls_total") == (double)calls);
	free(all);
	/* a number is used again by another program; what comes late is not lost */
	process(metrics, 4, "q");
	call(metrics, 4, 0, 1, 0, 10, 0);
	call(metrics, 99, 0, 1, 0, 10, 0);
	calls += 2;
	all = text(metrics, 20 * SECOND);
	has(all, "\npytrace_calls_total{process=\"q\",pid=\"4\"} 1\n");
	assert_null(strstr(all, "pid=\"2\""));
	assert_true(sum(all, "pytrace_calls_total") == (double)calls);
	free(all);
	pt_metrics_free(metrics);
}

/* The CPU time of a sample is its innermost function's. */
static void test_samples(void **state)
{
	const struct pt_function *stack[] = {&functions[1], &functions[0]};
	const struct pt_op op = {
	    .kind = PT_OP_SAMPLE,
	    .sample = {
		.pid = 10, .tid = 10, .period_ns = 5, .functions = stack, .function_count = 2}};
	struct pt_metrics *metrics;
	char *all;

	assert_int_equal(pt_metrics_new(&two, &metrics), 0);
	process(metrics, 10, "a");
	define(metrics);
	give(metrics, &op);
	give(metrics, &op);
	all = text(metrics, 0);
	has(all, "\npytrace_samples_total{process=\"a\",pid=\"10\"} 2\n");
	has(all, "\npytrace_sampled_seconds_total{process=\"a\",pid=\"10\"} 0.000000010\n");
	has(all, "\npytrace_function_sampled_seconds_total{process=\"a\",pid=\"10\",function=\"g\","
		 "file=\"b.py\",line=\"2\"} 0.000000010\n");
	has(all, "\npytrace_calls_total{process=\"a\",pid=\"10\"} 0\n");
	assert_null(strstr(all, "pytrace_function_calls_total{"));
	assert_null(strstr(all, "function=\"C.f\""));
	free(all);
	pt_metrics_free(metrics);
}

/* What is not recorded is not said to be 0. */
static void test_not_recorded(void **state)
{
	struct pt_metrics_options options = two;
	struct pt_metrics *metrics;
	char *all;

	options.calls = false;
	assert_int_equal(pt_metrics_new(&options, &metrics), 0);
	process(metrics, 1, "p");
	all = text(metrics, 0);
	has(all, "pytrace_samples_total{process=\"p\",pid=\"1\"} 0\n");
	has(all, "pytrace_lost_events_total{process=\"p\",pid=\"1\"} 0\n");
	assert_null(strstr(all, "calls_total"));
	assert_null(strstr(all, "self_seconds"));
	assert_null(strstr(all, "pytrace_g"));
	free(all);
	options.events = true; /* --engine hybrid */
	pt_metrics_set_options(metrics, &options);
	all = text(metrics, 0);
	has(all, "pytrace_gc_collections_total{process=\"p\",pid=\"1\"} 0\n");
	assert_null(strstr(all, "pytrace_calls_total"));
	assert_null(strstr(all, "self_seconds"));
	free(all);
	options.calls = true;
	options.samples = false;
	pt_metrics_set_options(metrics, &options);
	all = text(metrics, 0);
	has(all, "pytrace_samples_total{process=\"p\",pid=\"1\"} 0\n"); /* it was */
	has(all, "pytrace_calls_total{process=\"p\",pid=\"1\"} 0\n");
	free(all);
	pt_metrics_free(metrics);
}

static void test_others(void **state)
{
	static const struct pt_op_span spans[] = {
	    {.category = "gc", .name = "gc", .end_ns = 5},
	    {.category = "gil", .name = "wait", .end_ns = 6},
	    {.category = "cuda_runtime", .name = "cudaLaunchKernel", .end_ns = 7},
	    {.category = "cuda_runtime", .name = "cudaMalloc", .end_ns = 7},
	    {.category = "nccl", .name = "ncclAllReduce", .end_ns = 7},
	    {.category = "mark", .name = "x", .end_ns = 7},
	};
	struct pt_metrics *metrics;
	char *all;

	assert_int_equal(pt_metrics_new(&two, &metrics), 0);
	process(metrics, 1, "p");
	for (size_t i = 0; i < sizeof(spans) / sizeof(spans[0]); i++) {
		struct pt_op op = {.kind = PT_OP_SPAN, .span = spans[i]};

		op.span.pid = op.span.tid = 1;
		give(metrics, &op);
	}
	give(metrics, &(struct pt_op){.kind = PT_OP_INSTANT,
				      .instant = {.pid = 1, .category = "exception", .name = "E"}});
	give(metrics,
	     &(struct pt_op){.kind = PT_OP_INSTANT,
			     .instant = {.pid = 1, .category = "cuda_error", .name = "E"}});
	give(metrics, &(struct pt_op){.kind = PT_OP_LOSS, .loss = {.pid = 1, .events = 12}});
	all = text(metrics, 0);
	has(all, "pytrace_gc_collections_total{process=\"p\",pid=\"1\"} 1\n");
	has(all, "pytrace_gc_seconds_total{process=\"p\",pid=\"1\"} 0.000000005\n");
	has(all, "pytrace_gil_wait_seconds_total{process=\"p\",pid=\"1\"} 0.000000006\n");
	has(all, "pytrace_cuda_calls_total{process=\"p\",pid=\"1\"} 3\n");
	has(all, "pytrace_cuda_launches_total{process=\"p\",pid=\"1\"} 1\n");
	has(all, "pytrace_cuda_errors_total{process=\"p\",pid=\"1\"} 1\n");
	has(all, "pytrace_exceptions_total{process=\"p\",pid=\"1\"} 1\n");
	has(all, "pytrace_lost_events_total{process=\"p\",pid=\"1\"} 12\n");
	free(all);
	pt_metrics_free(metrics);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_calls),        cmocka_unit_test(test_sessions),
	    cmocka_unit_test(test_number_again), cmocka_unit_test(test_number_of_both),
	    cmocka_unit_test(test_room),         cmocka_unit_test(test_samples),
	    cmocka_unit_test(test_others),       cmocka_unit_test(test_not_recorded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
