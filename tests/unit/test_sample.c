// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/* Samples: what is joined and what is not, what is missing, what is refused; and the formats that
 * hold nothing but samples. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cjson/cJSON.h>
#include <cmocka.h>
#include <zlib.h>

#include "ingest/decode.h"
#include "op_recorder.h"
#include "pprof.pb-c.h"
#include "scratch.h"
#include "sink/report.h"
#include "sink/sink.h"

enum { A = 1, B, C };
/* co_lnotab of 3.8: two units a line */
static const uint8_t table[] = {4, 1, 4, 1};
#define FRAMES(...)                                                                                \
	(const struct pt_sample_frame[]){__VA_ARGS__},                                             \
	    sizeof((struct pt_sample_frame[]){__VA_ARGS__}) / sizeof(struct pt_sample_frame)
#define IDS(...) (const uint32_t[]){__VA_ARGS__}, sizeof((uint32_t[]){__VA_ARGS__}) / 4

static void start(struct op_recorder *ops, struct rec_thread *t,
		  const struct pt_model_options *options)
{
	ops_init(ops, options);
	*t = rec_thread(10, 11, 1, "main");
	ops_define(ops);
	rec_proc(&ops->builder, PT_PROC_ATTACH, 10, 1, 1000, 1, "python3", "python3 main.py", 0);
}

static void finish(struct op_recorder *ops)
{
	const char *wrong = ops_finish(ops);

	if (wrong)
		fail_msg("%s", wrong);
	assert_int_equal(ops->slice_count, 0);
}

/* Boundaries that would be the same are a nanosecond apart. */
static void assert_span(const struct op_recorder *ops, size_t i, const char *name,
			uint64_t begin_ns, uint64_t end_ns, const char *args)
{
	const struct pt_op_span *op = &ops->spans[i].op;

	if (i >= ops->span_count)
		fail_msg("only %zu spans", ops->span_count);
	if (strcmp(ops->spans[i].name, name) || op->begin_ns - begin_ns > 8 ||
	    op->end_ns - end_ns > 8 || strcmp(ops->spans[i].args, args))
		fail_msg("%zu: %s %llu..%llu (%s), not %s %llu..%llu (%s)", i, ops->spans[i].name,
			 (unsigned long long)op->begin_ns, (unsigned long long)op->end_ns,
			 ops->spans[i].args, name, (unsigned long long)begin_ns,
			 (unsigned long long)end_ns, args);
	assert_string_equal(op->category, PT_SAMPLE_CATEGORY);
}

static void assert_off_cpu(const struct op_recorder *ops, size_t i, uint64_t begin_ns,
			   uint64_t end_ns)
{
	const struct pt_op_span *op = &ops->spans[i].op;

	assert_true(i < ops->span_count);
	assert_string_equal(op->category, PT_OFF_CPU_CATEGORY);
	assert_string_equal(ops->spans[i].name, "blocked: pselect6");
	assert_string_equal(ops->spans[i].args, "state=S");
	assert_in_range(op->begin_ns, begin_ns, begin_ns + 8);
	assert_in_range(op->end_ns, end_ns, end_ns + 8);
}

static void test_join(void **state)
{
	struct op_recorder ops;
	struct rec_thread t;

	start(&ops, &t, NULL);
	rec_sample(&ops.builder, &t, 2000, IDS(B, A), 0);
	rec_sample(&ops.builder, &t, 2100, IDS(B, A), 0);
	rec_sample(&ops.builder, &t, 2200, IDS(C, A), 0);
	rec_sample(&ops.builder, &t, 2450, IDS(C, C, A), 0);
	/* longer than a thread takes to another CPU */
	rec_sample(&ops.builder, &t, 2701, IDS(C, C, A), 0);
	finish(&ops);
	assert_int_equal(ops.span_count, 7);
	assert_span(&ops, 0, "b", 1900, 2100, "samples=2 self samples=2");
	assert_span(&ops, 1, "c", 2200, 2450, "samples=1 self samples=1 inside of itself=1");
	assert_span(&ops, 2, "c", 2100, 2450, "samples=2 self samples=1");
	assert_span(&ops, 3, "a", 1900, 2450, "samples=4 self samples=0");
	assert_span(&ops, 6, "a", 2601, 2701, "samples=1 self samples=0");
	assert_int_equal(ops.sample_count, 5);
	assert_string_equal(ops.samples[3].functions, "c c a");
	assert_int_equal(ops.samples[3].op.period_ns, 100);
	assert_true(ops.samples[3].op.complete);
	assert_int_equal(ops.totals.samples, 5);
	assert_int_equal(ops.totals.samples_incomplete, 0);
	assert_int_equal(ops.thread_count, 1);
	ops_release(&ops);
}

static void test_what_is_missing(void **state)
{
	struct op_recorder ops;
	struct rec_thread t;

	start(&ops, &t, NULL);
	rec_sample(&ops.builder, &t, 2000, NULL, 0, 0);
	rec_sample(&ops.builder, &t, 2100, NULL, 0, PT_SAMPLE_TORN);
	rec_sample(&ops.builder, &t, 2200, NULL, 0, PT_SAMPLE_UNKNOWN);
	rec_sample(&ops.builder, &t, 2300, IDS(B, A), PT_SAMPLE_PARTLY);
	rec_sample(&ops.builder, &t, 2400, IDS(B, A), PT_SAMPLE_CUT);
	rec_sample(&ops.builder, &t, 2500, IDS(B, A), 0);
	finish(&ops);
	assert_int_equal(ops.totals.samples, 6);
	assert_int_equal(ops.totals.samples_incomplete, 4);
	assert_span(&ops, 0, "[no Python frame]", 1900, 2000, "samples=1 self samples=1");
	assert_span(&ops, 1, "[between two frames]", 2000, 2100, "samples=1 self samples=1");
	assert_span(&ops, 2, "[not known]", 2100, 2200, "samples=1 self samples=1");
	assert_span(&ops, 5, "[outer frames missing]", 2200, 2400, "samples=2 self samples=0");
	assert_string_equal(ops.samples[3].functions, "b a [outer frames missing]");
	assert_false(ops.samples[3].op.complete);
	ops_release(&ops);
}

/* A pause and a clear end what is open; filters leave frames out. */
static void test_control(void **state)
{
	static const char *const files[] = {"/app/*", NULL};
	const struct pt_model_options deep = {.max_stack_depth = 1},
				      none = {.exclude_files = files};
	struct op_recorder ops;
	struct rec_thread t;

	start(&ops, &t, &deep);
	rec_sample(&ops.builder, &t, 2000, IDS(B, A), 0);
	rec_control(&ops.builder, PT_CONTROL_PAUSE, 2010);
	rec_control(&ops.builder, PT_CONTROL_RESUME, 2050);
	rec_sample(&ops.builder, &t, 2100, IDS(B, A), 0);
	rec_control(&ops.builder, PT_CONTROL_CLEAR, 2200);
	rec_sample(&ops.builder, &t, 2150, IDS(B, A), 0); /* it comes late */
	rec_sample(&ops.builder, &t, 2250, IDS(B, A), 0);
	finish(&ops);
	assert_int_equal(ops.span_count, 1); /* the recorder forgot, too */
	assert_span(&ops, 0, "a", 2200, 2250, "samples=1 self samples=1");
	assert_int_equal(ops.totals.samples, 1);
	ops_release(&ops);
	start(&ops, &t, &deep);
	rec_sample(&ops.builder, &t, 2000, IDS(B, A), 0);
	rec_control(&ops.builder, PT_CONTROL_PAUSE, 2010);
	rec_control(&ops.builder, PT_CONTROL_RESUME, 2050);
	rec_sample(&ops.builder, &t, 2100, IDS(B, A), 0);
	finish(&ops);
	assert_int_equal(ops.span_count, 2);
	ops_release(&ops);
	start(&ops, &t, &none);
	rec_sample(&ops.builder, &t, 2000, IDS(B, A), 0);
	finish(&ops);
	assert_int_equal(ops.span_count + ops.sample_count, 0);
	ops_release(&ops);
}

/* Blocked time goes on from the sample before, and what comes next from it. */
static void test_blocked(void **state)
{
	struct op_recorder ops;
	struct rec_thread t;

	start(&ops, &t, NULL);
	rec_sample(&ops.builder, &t, 2000, IDS(B, A), PT_SAMPLE_BESIDE);
	rec_blocked(&ops.builder, &t, 2100, 9000, IDS(C, A), 0);
	rec_blocked(&ops.builder, &t, 9050, 9900, IDS(C, A), 0);
	rec_sample(&ops.builder, &t, 10000, IDS(A), PT_SAMPLE_BESIDE);
	/* it did something else in between */
	rec_blocked(&ops.builder, &t, 20000, 30000, NULL, 0, PT_SAMPLE_SKIPPED);
	rec_blocked(&ops.builder, &t, 29000, 31000, IDS(A), 0); /* that cannot be */
	finish(&ops);
	assert_int_equal(ops.span_count, 7);
	assert_span(&ops, 0, "b", 1900, 2000, "samples=1 self samples=1");
	assert_off_cpu(&ops, 1, 2100, 9000);
	assert_off_cpu(&ops, 2, 9050, 9900);
	assert_span(&ops, 3, "c", 2000, 9900,
		    "samples=0 self samples=0 blocked ns=7750 self blocked ns=7750");
	assert_span(&ops, 4, "a", 1900, 10000, "samples=2 self samples=1 blocked ns=7750");
	assert_off_cpu(&ops, 5, 20000, 30000);
	assert_span(&ops, 6, "[not looked at]", 20000, 30000,
		    "samples=0 self samples=0 blocked ns=10000 self blocked ns=10000");
	assert_int_equal(ops.sample_count, 5);
	assert_string_equal(ops.samples[1].functions, "[blocked: pselect6] c a");
	assert_int_equal(ops.samples[1].op.period_ns, 0);
	assert_int_equal(ops.samples[1].op.blocked_ns, 6900);
	assert_true(ops.samples[0].op.beside);
	assert_int_equal(ops.totals.samples, 2);
	assert_int_equal(ops.totals.blocks, 3);
	assert_int_equal(ops.totals.blocks_incomplete, 1);
	assert_int_equal(ops.totals.bad_records, 1);
	ops_release(&ops);
}

/* A stack with native frames is all there is to show; without it the Python frames are. */
static pid_t track_of_samples(const struct op_recorder *ops)
{
	for (size_t i = 0; i < ops->thread_count; i++)
		if (!strcmp(ops->threads[i].name, "thread 11: samples"))
			return ops->threads[i].tid;
	return 0;
}

/* Beside what threads tell of themselves samples have a track, as slices would cross: here a
 * collection, on the stack of one invisible frame that --engine hybrid has. */
static void test_aside(void **state)
{
	struct op_recorder ops;
	struct rec_thread t;
	pid_t track;

	start(&ops, &t, NULL);
	rec_sample(&ops.builder, &t, 2000, IDS(B, A), PT_SAMPLE_ASIDE);
	rec_sample(&ops.builder, &t, 2100, IDS(B, A), PT_SAMPLE_ASIDE);
	rec_blocked(&ops.builder, &t, 2150, 2240, IDS(C, A), PT_SAMPLE_ASIDE);
	batch_begin(&ops.builder, &t, 2040);
	batch_snap_head(&ops.builder, 0, 1, 2040);
	batch_depth(&ops.builder, 1, 2040);
	batch_rt(&ops.builder, PT_X_RT_BEGIN, PT_RT_GC, 0, NULL, 0, 2050);
	batch_rt(&ops.builder, PT_X_RT_END, PT_RT_GC, 0, NULL, 0, 2220);
	batch_end(&ops.builder, 0);
	finish(&ops);
	track = track_of_samples(&ops);
	assert_true(track >= PT_TRACK_TID);
	assert_int_equal(ops.span_count, 5);
	for (size_t i = 0; i < ops.span_count; i++)
		assert_int_equal(ops.spans[i].op.tid,
				 strcmp(ops.spans[i].op.category, "gc") ? track : 11);
	for (size_t i = 0; i < ops.sample_count; i++)
		assert_int_equal(ops.samples[i].op.tid, 11);
	assert_int_equal(ops.totals.samples, 2);
	assert_int_equal(ops.totals.samples_incomplete, 0);
	assert_int_equal(ops.totals.blocks_incomplete, 0);
	assert_int_equal(ops.totals.stack_jumps, 0);
	assert_int_equal(ops.totals.bad_records, 0);
	ops_release(&ops);
}

static void test_native(void **state)
{
	static const struct pt_call_frame frames[] = {
	    {.kind = PT_CF_NATIVE, .where = 0x10, .name_bytes = 6, .path_bytes = 14},
	    {.kind = PT_CF_PYTHON, .code_id = B, .where = PT_CF_NO_PLACE},
	    {.kind = PT_CF_NATIVE, .where = 0x20, .path_bytes = 14},
	    {.kind = PT_CF_NATIVE_UNKNOWN},
	    {.kind = PT_CF_PYTHON, .code_id = A, .where = PT_CF_NO_PLACE},
	};
	struct op_recorder ops;
	struct rec_thread t;

	start(&ops, &t, NULL);
	rec_call_stack(&ops.builder, &t, 5, 1, frames, 5, "memcpy/lib/libc.so.6/lib/libc.so.6",
		       2000);
	rec_sample_native(&ops.builder, &t, 2000, 5, IDS(B, A), 0);
	rec_call_stack(&ops.builder, &t, 7, 1, NULL, 0, "", 2100);
	rec_call_stack(&ops.builder, &t, 9, 1, NULL, 0, "", 2100); /* its sample was lost */
	rec_sample_native(&ops.builder, &t, 2100, 7, IDS(B, A), 0);
	rec_sample_native(&ops.builder, &t, 2200, 11, IDS(B, A), 0);
	finish(&ops);
	assert_int_equal(ops.sample_count, 3);
	assert_string_equal(ops.samples[1].functions,
			    "memcpy (libc.so.6) b libc.so.6+0x20 [native frames that are not "
			    "known] a");
	assert_string_equal(ops.samples[2].functions, "[native frames that are not known] b a");
	assert_span(&ops, 0, "memcpy (libc.so.6)", 1900, 2100, "samples=2 self samples=2");
	assert_span(&ops, ops.span_count - 1, "a", 1900, 2200, "samples=3 self samples=0");
	assert_int_equal(ops.totals.bad_records, 0);
	ops_release(&ops);
}

/* Lines of what stands somewhere; a slice says in which ones its own samples were. */
static void test_lines(void **state)
{
	static const struct pt_call_frame native[] = {
	    {.kind = PT_CF_PYTHON, .code_id = B, .where = PT_CF_NO_PLACE},
	    {.kind = PT_CF_NATIVE_UNKNOWN},
	    {.kind = PT_CF_PYTHON, .code_id = C, .where = PT_CF_NO_PLACE},
	};
	struct op_recorder ops;
	struct rec_thread t;

	start(&ops, &t, NULL); /* b begins at line 2 */
	rec_lines(&ops.builder, B, 0x030812f0, table, sizeof(table), 0, sizeof(table));
	rec_sample_placed(&ops.builder, &t, 2000, 0, FRAMES({B, 2}, {A, 0}));
	rec_sample_placed(&ops.builder, &t, 2100, 0, FRAMES({B, 4}, {A, 1}));
	rec_sample_placed(&ops.builder, &t, 2200, 0, FRAMES({B, 5}, {A, 1}));
	rec_sample_placed(&ops.builder, &t, 2300, 0, FRAMES({B, PT_SAMPLE_NO_PLACE}, {A, 1}));
	rec_sample_placed(&ops.builder, &t, 2400, 0, FRAMES({B, PT_SAMPLE_NOT_BEGUN}, {B, 2}));
	rec_call_stack(&ops.builder, &t, 3, 1, native, 3, "", 2500);
	/* the outer frame is not what the stack has there */
	rec_sample_placed(&ops.builder, &t, 2500, 3, FRAMES({B, 2}, {B, 2}));
	finish(&ops);
	assert_int_equal(ops.sample_count, 6);
	assert_string_equal(ops.samples[0].lines, "3 0");
	assert_string_equal(ops.samples[3].lines, "0 0");
	assert_string_equal(ops.samples[4].lines, "2 3");
	assert_string_equal(ops.samples[5].lines, "3 0 0");
	assert_span(&ops, 0, "b", 1900, 2300, "samples=4 self samples=4 self lines=4: 2, 3: 1");
	assert_span(&ops, 1, "a", 1900, 2300, "samples=4 self samples=0");
	assert_span(&ops, 2, "b", 2300, 2400,
		    "samples=1 self samples=1 self lines=2: 1 inside of itself=1");
	ops_release(&ops);
}

/* ---- damage ---- */

static uint64_t space[512];

static int keep(const struct pt_rec *record, size_t len, void *ctx)
{
	memcpy(space, record, len);
	return 0;
}

static void test_damage(void **state)
{
	struct pt_rec_sample *record = (struct pt_rec_sample *)(void *)space;
	struct rec_thread t = rec_thread(1, 2, 3, "x");
	struct rec_builder b;

	rec_init(&b, keep, NULL);
#define BAD(what)                                                                                  \
	do {                                                                                       \
		rec_sample(&b, &t, 5000, IDS(1, 2, 3), 0);                                         \
		assert_int_equal(pt_record_check(&record->hdr, record->hdr.len), 0);               \
		what;                                                                              \
		assert_int_equal(pt_record_check(&record->hdr, record->hdr.len), -EBADMSG);        \
	} while (0)
	BAD(record->frame_count = 5);
	BAD(record->frame_count = UINT32_MAX);
	BAD(record->frames[1].code_id = 0);
	BAD(record->hdr.flags = PT_SAMPLE_TORN);
	BAD(record->hdr.flags = PT_SAMPLE_FLAGS + 1);
	BAD(record->hdr.image_id = 0);
	BAD(record->period_ns = 0);
	BAD(record->period_ns = PT_SAMPLE_PERIOD_MAX + 1);
	BAD(record->period_ns = 5001);
	BAD(record->hdr.tid = UINT32_MAX);
#undef BAD
}

static void test_damage_of_blocked(void **state)
{
	struct pt_rec_blocked *record = (struct pt_rec_blocked *)(void *)space;
	struct rec_thread t = rec_thread(1, 2, 3, "x");
	struct rec_builder b;

	rec_init(&b, keep, NULL);
#define BAD(what)                                                                                  \
	do {                                                                                       \
		rec_blocked(&b, &t, 4000, 5000, IDS(1, 2, 3), 0);                                  \
		assert_int_equal(pt_record_check(&record->hdr, record->hdr.len), 0);               \
		what;                                                                              \
		assert_int_equal(pt_record_check(&record->hdr, record->hdr.len), -EBADMSG);        \
	} while (0)
	BAD(record->frame_count = 5);
	BAD(record->frames[1].code_id = 0);
	BAD(record->hdr.flags = PT_SAMPLE_SKIPPED);
	BAD(record->hdr.flags = PT_SAMPLE_BESIDE);
	BAD(record->out_ns = 5001);
	BAD(record->out_ns = 0);
	BAD(record->state = 0);
	BAD(record->state = 0x100);
	BAD(record->syscall = -3);
	BAD(record->why = 2);
	BAD(record->period_ns = 0);
#undef BAD
}

/* ---- formats ---- */

struct outputs {
	struct pt_sink *sink;
	struct pt_report *report;
};

static int both(const struct pt_op *op, void *ctx)
{
	struct outputs *to = ctx;

	assert_int_equal(pt_report_op(op, to->report), 0);
	return pt_sink_op(op, to->sink);
}

static int into_model(const struct pt_rec *record, size_t len, void *model)
{
	return pt_model_record(model, record, len);
}

/* Two threads; the text that the format made of it. */
static char *write_format(const char *name, bool by_line, char *report_text, size_t size)
{
	const struct pt_sink_options options = {.lines = by_line};
	static const struct pt_capture_info info = {
	    .start_mono_ns = 1000, .start_real_ns = 5000, .tool_version = "0.1.0"};
	struct rec_thread t = rec_thread(10, 11, 1, "main"), u = rec_thread(10, 12, 1, "other");
	struct outputs to = {0};
	struct pt_totals totals;
	struct pt_model *model;
	struct rec_builder b;
	const char *path = scratch_path(name);
	size_t len;
	FILE *out;

	assert_int_equal(pt_report_new(&to.report), 0);
	assert_int_equal(pt_sink_open(path, &info, &options, &to.sink, NULL), 0);
	assert_int_equal(pt_model_new(NULL, &info, both, &to, &model), 0);
	rec_init(&b, into_model, model);
	rec_proc(&b, PT_PROC_ATTACH, 10, 1, 1000, 1, "py;thon", "x", 0);
	rec_code(&b, 1, "a\nb", "", "/x;y.py", 3);
	rec_code(&b, 2, "f", "C.f", "/app/\"m\".py", 7);
	rec_lines(&b, 2, 0x030812f0, table, sizeof(table), 0, sizeof(table));
	rec_sample_placed(&b, &t, 2000, 0, FRAMES({2, 0}, {1, 9}));
	rec_sample_placed(&b, &t, 2100, 0, FRAMES({2, 2}, {1, 9}));
	rec_sample_placed(&b, &u, 2150, 0, FRAMES({2, 2}, {2, 4}, {1, 9}));
	rec_sample(&b, &t, 2200, IDS(1), 0);
	rec_sample(&b, &t, 2300, NULL, 0, 0);
	assert_int_equal(pt_model_finish(model, &totals), 0);
	assert_int_equal(pt_sink_close(to.sink, &totals, NULL), 0);
	if (report_text) {
		out = fmemopen(report_text, size, "w");
		assert_int_equal(pt_report_print_text(to.report, &totals, 10, out), 0);
		fclose(out);
	}
	pt_report_free(to.report);
	pt_model_free(model);
	return scratch_read(path, &len);
}

static void test_folded(void **state)
{
	char report[4096] = "";
	char *text = write_format("a.folded", false, report, sizeof(report));

	assert_string_equal(text, "py:thon 10;a b (/x:y.py:3) 1\n"
				  "py:thon 10;a b (/x:y.py:3);C.f (/app/\"m\".py:7) 2\n"
				  "py:thon 10;a b (/x:y.py:3);C.f (/app/\"m\".py:7);C.f "
				  "(/app/\"m\".py:7) 1\n"
				  "py:thon 10;[no Python frame] 1\n");
	free(text);
	assert_non_null(strstr(report, "samples 5, calls 0, threads 2"));
	/* a function inside of itself counts once */
	assert_non_null(
	    strstr(report, "           3   60.00            3   60.00  /app/\"m\".py(7): C.f\n"));
	assert_null(strstr(report, "self time"));
	assert_non_null(strstr(report, "           2   40.00  /app/\"m\".py(8): C.f\n"
				       "           1   20.00  /app/\"m\".py(7): C.f\n"));
}

static void test_folded_by_line(void **state)
{
	char *text = write_format("l.folded", true, NULL, 0);

	assert_string_equal(text, "py:thon 10;a b (/x:y.py) 1\n"
				  "py:thon 10;a b (/x:y.py);C.f (/app/\"m\".py:7) 1\n"
				  "py:thon 10;a b (/x:y.py);C.f (/app/\"m\".py:8) 1\n"
				  "py:thon 10;a b (/x:y.py);C.f (/app/\"m\".py:9);C.f "
				  "(/app/\"m\".py:8) 1\n"
				  "py:thon 10;[no Python frame] 1\n");
	free(text);
}

static void test_speedscope_by_line(void **state)
{
	char *text = write_format("l.speedscope.json", true, NULL, 0);
	cJSON *root = cJSON_Parse(text), *frames;

	assert_non_null(root);
	frames = cJSON_GetObjectItem(cJSON_GetObjectItem(root, "shared"), "frames");
	/* a, f in three lines, none */
	assert_int_equal(cJSON_GetArraySize(frames), 5);
	assert_string_equal(cJSON_GetObjectItem(cJSON_GetArrayItem(frames, 0), "name")->valuestring,
			    "a\nb");
	assert_null(cJSON_GetObjectItem(cJSON_GetArrayItem(frames, 0), "line"));
	assert_string_equal(cJSON_GetObjectItem(cJSON_GetArrayItem(frames, 2), "name")->valuestring,
			    "C.f:8");
	assert_int_equal(cJSON_GetObjectItem(cJSON_GetArrayItem(frames, 2), "line")->valueint, 8);
	cJSON_Delete(root);
	free(text);
}

static void test_speedscope(void **state)
{
	char *text = write_format("a.speedscope.json", false, NULL, 0);
	cJSON *root = cJSON_Parse(text), *frames, *profiles, *first;

	assert_non_null(root);
	frames = cJSON_GetObjectItem(cJSON_GetObjectItem(root, "shared"), "frames");
	assert_int_equal(cJSON_GetArraySize(frames), 3);
	assert_string_equal(cJSON_GetObjectItem(cJSON_GetArrayItem(frames, 0), "name")->valuestring,
			    "a\nb");
	assert_int_equal(cJSON_GetObjectItem(cJSON_GetArrayItem(frames, 1), "line")->valueint, 7);
	profiles = cJSON_GetObjectItem(root, "profiles");
	assert_int_equal(cJSON_GetArraySize(profiles), 2);
	first = cJSON_GetArrayItem(profiles, 0);
	assert_string_equal(cJSON_GetObjectItem(first, "name")->valuestring,
			    "process 10, thread 11 (main)");
	assert_int_equal(cJSON_GetObjectItem(first, "endValue")->valueint, 400);
	/* two of one stack in a row are one */
	assert_int_equal(cJSON_GetArraySize(cJSON_GetObjectItem(first, "samples")), 3);
	assert_int_equal(cJSON_GetArrayItem(cJSON_GetObjectItem(first, "weights"), 0)->valueint,
			 200);
	cJSON_Delete(root);
	free(text);
}

/* What protobuf-c makes of the file; the caller frees. */
static Pprof__Profile *read_pprof(const char *path)
{
	static uint8_t bytes[1 << 16];
	gzFile file = gzopen(path, "r");
	Pprof__Profile *profile;
	int len;

	assert_non_null(file);
	len = gzread(file, bytes, sizeof(bytes));
	assert_in_range(len, 1, sizeof(bytes) - 1);
	assert_int_equal(gzclose(file), Z_OK);
	profile = pprof__profile__unpack(NULL, (size_t)len, bytes);
	assert_non_null(profile);
	return profile;
}

static void test_pprof(void **state)
{
	Pprof__Profile *profile;
	Pprof__Sample *sample;

	free(write_format("a.pb.gz", false, NULL, 0));
	profile = read_pprof(scratch_path("a.pb.gz"));
#define TEXT(index) profile->string_table[index]
	assert_string_equal(TEXT(0), "");
	assert_int_equal(profile->n_sample_type, 2);
	assert_string_equal(TEXT(profile->sample_type[0]->type), "samples");
	assert_string_equal(TEXT(profile->sample_type[1]->unit), "nanoseconds");
	assert_string_equal(TEXT(profile->default_sample_type), "cpu");
	assert_int_equal(profile->period, 100);
	assert_int_equal(profile->time_nanos, 5000);
	assert_int_equal(profile->duration_nanos, 1300);
	assert_int_equal(profile->n_mapping, 1);
	assert_string_equal(TEXT(profile->mapping[0]->filename), "py;thon");
	/* each function once: a, f, and what stands for no frame; f in three lines */
	assert_int_equal(profile->n_function, 3);
	assert_int_equal(profile->n_location, 5);
	/* thread 11: [f a] in two lines, [a], none; thread 12: [f f a] */
	assert_int_equal(profile->n_sample, 5);
	sample = profile->sample[1];
	assert_int_equal(sample->n_location_id, 2);
	assert_int_equal(sample->value[0], 1);
	assert_int_equal(sample->value[1], 100);
	assert_int_equal(sample->n_label, 3);
	assert_string_equal(TEXT(sample->label[1]->key), "tid");
	assert_int_equal(sample->label[1]->num, 11);
	assert_string_equal(TEXT(sample->label[2]->str), "main");
	for (size_t i = 0; i < profile->n_location; i++) {
		const Pprof__Location *location = profile->location[i];

		assert_int_equal(location->id, i + 1);
		assert_int_equal(location->mapping_id, 1);
		assert_int_equal(location->n_line, 1);
		if (location->id != sample->location_id[0])
			continue;
		/* innermost first */
		assert_string_equal(
		    TEXT(profile->function[location->line[0]->function_id - 1]->name), "C.f");
		assert_int_equal(location->line[0]->line, 8);
	}
#undef TEXT
	pprof__profile__free_unpacked(profile, NULL);
}

/* Lines that a trace cannot say. */
static void test_bad_lines(void **state)
{
	static const char *const bad[] = {
	    "x", "5", "5:", "5: x", "0: 1", "5: 1;", "-1: 2", "9999999999: 1", "5: 1, 6"};
	const struct pt_op function = {
	    .kind = PT_OP_FUNCTION,
	    .function = {.name = "f", .qualname = "f", .file = "/x", .line = 1}};
	struct pt_arg arg = {.key = PT_SAMPLE_ARG_LINES};
	const struct pt_op span = {.kind = PT_OP_SPAN,
				   .span = {.pid = 1,
					    .tid = 1,
					    .category = PT_SAMPLE_CATEGORY,
					    .function = &function.function,
					    .args = &arg,
					    .arg_count = 1}};
	struct pt_report *report;

	assert_int_equal(pt_report_new(&report), 0);
	assert_int_equal(pt_report_op(&function, report), 0);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		arg.text = bad[i];
		assert_int_equal(pt_report_op(&span, report), -EBADMSG);
	}
	arg.text = "5: 1, 6: 2";
	assert_int_equal(pt_report_op(&span, report), 0);
	pt_report_free(report);
}

/* What the trace says is what the samples said, in both dialects. */
static void test_report_of_trace(void **state)
{
	char live[4096] = "", read[4096] = "";
	struct pt_totals totals = {0};
	struct pt_report *report;
	FILE *out;

	free(write_format("a.json", false, live, sizeof(live)));
	assert_int_equal(pt_report_new(&report), 0);
	assert_int_equal(pt_report_read_trace(scratch_path("a.json"), report, &totals, NULL), 0);
	out = fmemopen(read, sizeof(read), "w");
	assert_int_equal(pt_report_print_text(report, &totals, 10, out), 0);
	fclose(out);
	assert_string_equal(live, read);
	pt_report_free(report);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_join),
	    cmocka_unit_test(test_what_is_missing),
	    cmocka_unit_test(test_control),
	    cmocka_unit_test(test_blocked),
	    cmocka_unit_test(test_aside),
	    cmocka_unit_test(test_native),
	    cmocka_unit_test(test_lines),
	    cmocka_unit_test(test_damage),
	    cmocka_unit_test(test_damage_of_blocked),
	    cmocka_unit_test(test_folded),
	    cmocka_unit_test(test_folded_by_line),
	    cmocka_unit_test(test_speedscope),
	    cmocka_unit_test(test_speedscope_by_line),
	    cmocka_unit_test(test_pprof),
	    cmocka_unit_test(test_bad_lines),
	    cmocka_unit_test(test_report_of_trace),
	};

	return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
