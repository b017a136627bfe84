// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/* Probes of the user's: how they are written, and what the model makes of them; flows; the ring
 * that keeps the newest entries. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "op_recorder.h"
#include "python/sdt_args.h"
#include "record/mark_spec.h"
#include "sink/newest.h"

/* ---- what the user writes ---- */

static void test_good_specs(void **state)
{
	struct pt_mark_spec spec;

	assert_int_equal(pt_mark_spec_parse("uprobe:libc.so.6:malloc", &spec, NULL), 0);
	assert_false(spec.usdt);
	assert_string_equal(spec.path, "libc.so.6");
	assert_string_equal(spec.symbol, "malloc");
	assert_int_equal(spec.kind, PT_MARK_INSTANT);
	assert_int_equal(spec.arg_count, 0);

	assert_int_equal(
	    pt_mark_spec_parse("uprobe:/a:b=(c)/d.so:f(name:str,n:u16)=counter:jobs", &spec, NULL),
	    0);
	assert_string_equal(spec.path, "/a:b=(c)/d.so");
	assert_string_equal(spec.symbol, "f");
	assert_int_equal(spec.kind, PT_MARK_COUNTER);
	assert_string_equal(spec.label, "jobs");
	assert_int_equal(spec.arg_count, 2);
	assert_int_equal(spec.args[0].type, PT_MARK_NAME);
	assert_int_equal(spec.args[0].read, PT_MARK_READ_TEXT);
	assert_int_equal(spec.args[1].type, PT_MARK_UNSIGNED);
	assert_int_equal(spec.args[1].bytes, 2);

	assert_int_equal(pt_mark_spec_parse("usdt:./x:prov:name()=begin", &spec, NULL), 0);
	assert_true(spec.usdt);
	assert_string_equal(spec.path, "./x");
	assert_string_equal(spec.provider, "prov");
	assert_string_equal(spec.symbol, "name");
	assert_int_equal(spec.kind, PT_MARK_BEGIN);
	assert_string_equal(spec.label, "");

	for (const char *const *text = pt_mark_nvtx; *text; text++) {
		assert_int_equal(pt_mark_spec_parse(*text, &spec, NULL), 0);
		assert_string_equal(spec.path, "*");
	}
}

static void test_bad_specs(void **state)
{
	static const struct {
		const char *text, *why;
	} bad[] = {
	    {"", "neither"},
	    {"uprobe", "neither"},
	    {"kprobe:x:y", "neither"},
	    {"uprobe:", "symbol"},
	    {"uprobe:x", "symbol"},
	    {"uprobe::f", "path"},
	    {"uprobe:x:", "symbol"},
	    {"usdt:x:name", "provider"},
	    {"usdt:x::name", "provider"},
	    {"uprobe:x:f(", "')'"},
	    {"uprobe:x:f(a:int", "')'"},
	    {"uprobe:x:f(a:int)slice", "')'"},
	    {"uprobe:x:f(a)", "NAME:TYPE"},
	    {"uprobe:x:f(:int)", "NAME:TYPE"},
	    {"uprobe:x:f(a:int,,b:int)", "NAME:TYPE"},
	    {"uprobe:x:f(a:number)", "no type 'number'"},
	    {"uprobe:x:f(a:double)", "vector registers"},
	    {"uprobe:x:f(a:int,b:int,c:int,d:int,e:int,f:int,g:int)", "six"},
	    {"uprobe:x:f=", "a kind is"},
	    {"uprobe:x:f=slices", "a kind is"},
	    {"uprobe:x:f=slice:", "label"},
	    {"usdt:x:p:n=slice", "no return"},
	    {"uprobe:x:f=counter", "numbers"},
	    {"uprobe:x:f(name:str)=counter", "numbers"},
	    {"uprobe:x:f(text:str,n:int)=counter", "numbers"},
	};
	char text[6000];
	struct pt_mark_spec spec;
	struct pt_err err;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		err = (struct pt_err){0};
		if (pt_mark_spec_parse(bad[i].text, &spec, &err) != -EINVAL ||
		    !strstr(err.what, bad[i].why) || !err.hint[0] || err.exit_code != PT_EXIT_USAGE)
			fail_msg("'%s': '%s', expected '%s'", bad[i].text, err.what, bad[i].why);
	}
	memset(text, 'x', sizeof(text));
	memcpy(text, "uprobe:", 7);
	memcpy(text + 5000, ":f", 3);
	assert_int_equal(pt_mark_spec_parse(text, &spec, NULL), -EINVAL);
}

static void test_sdt_constant(void **state)
{
	struct sdt_arg arg;

	assert_true(sdt_arg_parse("-4@$-7 8@%rdi", 0, &arg));
	assert_true(arg.constant);
	assert_int_equal(arg.disp, -7);
	assert_int_equal(arg.bytes, -4);
	assert_true(sdt_arg_parse("-4@$-7 8@%rdi", 1, &arg));
	assert_false(arg.constant);
	assert_false(sdt_arg_parse("-4@$", 0, &arg));
	assert_false(sdt_arg_parse("-4@$x", 0, &arg));
	assert_false(sdt_arg_parse("8@%xmm0", 0, &arg));
	assert_false(sdt_arg_parse("8f@%xmm0", 0, &arg));
	assert_false(sdt_arg_parse("8@(%rax,%rbx,4)", 0, &arg));
}

/* ---- the model ---- */

static void start(struct op_recorder *ops, struct rec_thread *t)
{
	ops_init(ops, NULL);
	*t = rec_thread(10, 10, 1, "python3");
	rec_code(&ops->builder, 1, "a", "a", "f.py", 1);
	rec_code(&ops->builder, 2, "b", "b", "f.py", 2);
	rec_mark(&ops->builder, 1, PT_MARK_SLICE, 0, "work", NULL);
	rec_mark(&ops->builder, 2, PT_MARK_BEGIN, 1, "phase", NULL);
	rec_mark(&ops->builder, 3, PT_MARK_END, 1, "phase", NULL);
	rec_mark(&ops->builder, 4, PT_MARK_INSTANT, 2, "event", NULL);
}

static void mark(struct op_recorder *ops, unsigned int type, int64_t id, int64_t key, uint64_t ns)
{
	const int64_t values[] = {0, id, key};

	batch_rt(&ops->builder, type, PT_RT_MARK, 0, values, 3, ns);
}

static void finish(struct op_recorder *ops)
{
	const char *wrong;

	rec_note(&ops->builder, PT_NOTE_GATE_CLOSE, 9000, 0);
	wrong = ops_finish(ops);
	if (wrong)
		fail_msg("%s", wrong);
}

/* The function calls itself, and the innermost return is never seen: each return ends its own call.
 */
static void test_slices(void **state)
{
	struct op_recorder ops;
	struct rec_thread t;

	start(&ops, &t);
	batch_begin(&ops.builder, &t, 2000);
	batch_snap(&ops.builder, NULL, 0, 0, 2000);
	batch_enter(&ops.builder, 1, 2000);
	mark(&ops, PT_X_RT_END, 1, 50, 2050); /* of a call from before the recording */
	mark(&ops, PT_X_RT_BEGIN, 1, 100, 2100);
	mark(&ops, PT_X_RT_BEGIN, 1, 80, 2200);
	batch_enter(&ops.builder, 2, 2250);
	batch_exit(&ops.builder, 2260);
	mark(&ops, PT_X_RT_BEGIN, 1, 60, 2300);
	mark(&ops, PT_X_RT_END, 1, 80, 2400);
	mark(&ops, PT_X_RT_END, 1, 100, 2500);
	batch_exit(&ops.builder, 2600);
	batch_end(&ops.builder, 0);
	finish(&ops);
	assert_int_equal(ops.span_count, 3);
	assert_int_equal(ops.spans[0].op.begin_ns, 2300);
	assert_int_equal(ops.spans[0].op.flags, PT_SLICE_INTO_LOSS);
	assert_int_equal(ops.spans[1].op.begin_ns, 2200);
	assert_int_equal(ops.spans[1].op.flags, 0);
	assert_int_equal(ops.spans[2].op.begin_ns, 2100);
	assert_int_equal(ops.spans[2].op.end_ns, 2500);
	assert_string_equal(ops.spans[2].name, "work");
	assert_string_equal(ops.spans[2].op.category, "mark");
	ops_release(&ops);
}

/* Ranges begin and end within calls that are over long before. */
static void test_ranges(void **state)
{
	struct op_recorder ops;
	struct rec_thread t;

	start(&ops, &t);
	batch_begin(&ops.builder, &t, 2000);
	mark(&ops, PT_X_RT_INSTANT, 3, 9, 2000); /* before the stack is known */
	batch_snap(&ops.builder, NULL, 0, 0, 2000);
	batch_enter(&ops.builder, 1, 2000);
	mark(&ops, PT_X_RT_INSTANT, 2, 1, 2100);
	batch_exit(&ops.builder, 2200);
	mark(&ops, PT_X_RT_INSTANT, 2, 2, 2300);
	mark(&ops, PT_X_RT_INSTANT, 3, 2, 2400);
	mark(&ops, PT_X_RT_INSTANT, 2, 2, 2500);
	mark(&ops, PT_X_RT_INSTANT, 2, 2, 2600); /* the end was lost */
	batch_enter(&ops.builder, 2, 2700);
	mark(&ops, PT_X_RT_INSTANT, 3, 1, 2800);
	batch_exit(&ops.builder, 2900);
	batch_end(&ops.builder, 0);
	finish(&ops);
	assert_int_equal(ops.range_count, 4);
	assert_int_equal(ops.ranges[0].op.begin_ns, 2300);
	assert_int_equal(ops.ranges[0].op.end_ns, 2400);
	assert_int_equal(ops.ranges[0].op.flags, 0);
	assert_int_equal(ops.ranges[1].op.end_ns, 2600);
	assert_int_equal(ops.ranges[1].op.flags, PT_SLICE_INTO_LOSS);
	assert_int_equal(ops.ranges[2].op.begin_ns, 2100);
	assert_int_equal(ops.ranges[2].op.end_ns, 2800);
	assert_int_equal(ops.ranges[3].op.flags, PT_SLICE_OPEN_AT_END);
	assert_int_equal(ops.totals.bad_records, 0);
	ops_release(&ops);
}

/* A clear: what was open begins there, what had ended is not there. */
static void test_clear(void **state)
{
	struct op_recorder ops;
	struct rec_thread t;

	start(&ops, &t);
	batch_begin(&ops.builder, &t, 2000);
	batch_snap(&ops.builder, NULL, 0, 0, 2000);
	batch_enter(&ops.builder, 1, 2000);
	mark(&ops, PT_X_RT_INSTANT, 2, 1, 2100);
	mark(&ops, PT_X_RT_INSTANT, 2, 2, 2200);
	batch_end(&ops.builder, 0);
	rec_control(&ops.builder, PT_CONTROL_CLEAR, 2500);
	batch_begin(&ops.builder, &t, 2300);
	mark(&ops, PT_X_RT_INSTANT, 3, 2, 2300);
	mark(&ops, PT_X_RT_INSTANT, 4, 0, 2400);
	mark(&ops, PT_X_RT_INSTANT, 4, 0, 2600);
	mark(&ops, PT_X_RT_INSTANT, 3, 1, 2700);
	batch_end(&ops.builder, 0);
	finish(&ops);
	assert_int_equal(ops.range_count, 1);
	assert_int_equal(ops.ranges[0].op.begin_ns, 2500);
	assert_int_equal(ops.ranges[0].op.flags, PT_SLICE_OPEN_AT_START);
	assert_int_equal(ops.instant_count, 1);
	ops_release(&ops);
}

static void test_bad_definitions(void **state)
{
	struct op_recorder ops;
	struct rec_thread t;

	start(&ops, &t);
	rec_mark(&ops.builder, 0, PT_MARK_SLICE, 0, "no id", NULL);
	rec_mark(&ops.builder, 9, (enum pt_mark_kind)6, 0, "no kind", NULL);
	rec_mark(&ops.builder, 1u << 30, PT_MARK_SLICE, 0, "a high id", NULL);
	rec_mark(&ops.builder, 1, PT_MARK_SLICE, 0, "once more", NULL);
	batch_begin(&ops.builder, &t, 2000);
	batch_snap(&ops.builder, NULL, 0, 0, 2000);
	mark(&ops, PT_X_RT_INSTANT, 1ll << 40, 0, 2100);
	mark(&ops, PT_X_RT_INSTANT, -1, 0, 2200);
	mark(&ops, PT_X_RT_BEGIN, 500, 0, 2300);
	batch_enter(&ops.builder, 1, 2400);
	batch_end(&ops.builder, 0);
	finish(&ops);
	assert_int_equal(ops.totals.bad_records, 4);
	assert_int_equal(ops.instant_count, 2);
	assert_string_equal(ops.instants[0].name, "?");
	ops_release(&ops);
}

/* From the thread that forked to the first call, behind an exec too. */
static void test_flow(void **state)
{
	struct rec_thread child = rec_thread(20, 20, 3, "python3");
	struct op_recorder ops;
	struct rec_thread t;

	start(&ops, &t);
	t.tid = 11;
	rec_fork(&ops.builder, &t, 20, 2, 2100);
	rec_proc(&ops.builder, PT_PROC_EXEC, 20, 3, 2200, 0, "sh", NULL, 0);
	batch_begin(&ops.builder, &child, 2300);
	batch_enter(&ops.builder, 1, 2300);
	batch_enter(&ops.builder, 2, 2400);
	batch_exit_to(&ops.builder, 0, 2500);
	batch_end(&ops.builder, 0);
	finish(&ops);
	assert_int_equal(ops.flow_count, 1);
	assert_int_equal(ops.flows[0].from.pid, 10);
	assert_int_equal(ops.flows[0].from.tid, 11);
	assert_int_equal(ops.flows[0].from.time_ns, 2100);
	assert_int_equal(ops.flows[0].to.pid, 20);
	assert_int_equal(ops.flows[0].to.tid, 20);
	assert_int_equal(ops.flows[0].to.time_ns, 2300);
	ops_release(&ops);
}

/* ---- the newest entries ---- */

struct seen {
	char text[4096];
	unsigned int names; /* of processes, threads, functions */
};

static int see(const struct pt_op *op, void *ctx)
{
	struct seen *seen = ctx;
	size_t len = strlen(seen->text);

	if (op->kind == PT_OP_INSTANT)
		snprintf(seen->text + len, sizeof(seen->text) - len, "%s(%s=%s,%s=%d) ",
			 op->instant.name, op->instant.args[0].key, op->instant.args[0].text,
			 op->instant.args[1].key, (int)op->instant.args[1].number);
	else if (op->kind == PT_OP_SLICE)
		snprintf(seen->text + len, sizeof(seen->text) - len, "%d ", (int)op->slice.id);
	else if (op->kind == PT_OP_CLEAR)
		seen->text[0] = '\0';
	else
		seen->names++;
	return 0;
}

static void put_slice(struct pt_newest *newest, unsigned int id)
{
	const struct pt_op op = {.kind = PT_OP_SLICE, .slice = {.id = id}};

	assert_int_equal(pt_newest_op(&op, newest), 0);
}

static void put_instant(struct pt_newest *newest, const char *name)
{
	char own[16], text[] = "value";
	struct pt_arg args[] = {{.key = "key", .text = text}, {.key = "n", .number = 7}};
	const struct pt_op op = {
	    .kind = PT_OP_INSTANT,
	    .instant = {.name = own, .category = "mark", .args = args, .arg_count = 2}};

	snprintf(own, sizeof(own), "%s", name);
	assert_int_equal(pt_newest_op(&op, newest), 0);
	memset(own, 'x', sizeof(own) - 1);
	memset(text, 'x', sizeof(text) - 1);
	args[0].key = "gone";
}

static void test_newest(void **state)
{
	const struct pt_op clear = {.kind = PT_OP_CLEAR}, thread = {.kind = PT_OP_THREAD};
	struct seen seen = {.names = 0}, copy = {.names = 0};
	struct pt_newest *newest;

	assert_int_equal(pt_newest_new(3, see, &seen, &newest), 0);
	put_slice(newest, 1);
	put_instant(newest, "first");
	assert_int_equal(pt_newest_op(&thread, newest), 0);
	assert_int_equal(seen.names, 1);
	assert_string_equal(seen.text, "");
	put_slice(newest, 2);
	put_slice(newest, 3);
	put_instant(newest, "last");
	assert_int_equal(pt_newest_left_out(newest), 2);
	assert_int_equal(pt_newest_each(newest, see, &copy), 0);
	assert_string_equal(copy.text, "2 3 last(key=value,n=7) ");
	put_slice(newest, 4);
	assert_int_equal(pt_newest_flush(newest), 0);
	assert_string_equal(seen.text, "3 last(key=value,n=7) 4 ");
	assert_int_equal(pt_newest_left_out(newest), 3);
	put_slice(newest, 5);
	assert_int_equal(pt_newest_op(&clear, newest), 0);
	assert_int_equal(pt_newest_left_out(newest), 0);
	assert_int_equal(pt_newest_flush(newest), 0);
	assert_string_equal(seen.text, "");
	pt_newest_free(newest);
}

/* The values of a call are copies, too. */
static int see_values(const struct pt_op *op, void *ctx)
{
	const struct pt_values *values = op->slice.values;

	assert_int_equal(values->arg_count, 1);
	assert_string_equal(values->args[0].key, "a");
	assert_string_equal(values->args[0].text, "'text'");
	assert_int_equal(values->local_count, 2);
	assert_string_equal(values->locals[1].key, "c");
	assert_int_equal(values->locals[1].number, 5);
	assert_string_equal(values->result, "None");
	return 0;
}

static void test_newest_values(void **state)
{
	char text[] = "'text'", result[] = "None";
	struct pt_arg args[] = {{.key = "a", .text = text}};
	struct pt_arg locals[] = {{.key = "b", .text = text}, {.key = "c", .number = 5}};
	struct pt_values values = {args, locals, 1, 2, result};
	const struct pt_op op = {.kind = PT_OP_SLICE, .slice = {.id = 1, .values = &values}};
	struct pt_newest *newest;

	assert_int_equal(pt_newest_new(3, see_values, NULL, &newest), 0);
	assert_int_equal(pt_newest_op(&op, newest), 0);
	text[1] = result[0] = 'x';
	args[0].key = locals[1].key = NULL;
	values.arg_count = 0;
	assert_int_equal(pt_newest_each(newest, see_values, NULL), 0);
	pt_newest_free(newest);
}

/* More than the ring has room for at first, and round it several times. */
static void test_newest_many(void **state)
{
	struct seen seen = {.names = 0};
	struct pt_newest *newest;

	assert_int_equal(pt_newest_new(2500, see, &seen, &newest), 0);
	for (unsigned int i = 1; i <= 9999; i++) {
		if (i % 3)
			put_slice(newest, i);
		else
			put_instant(newest, "i");
	}
	assert_int_equal(pt_newest_left_out(newest), 9999 - 2500);
	for (unsigned int i = 0; i < 2499; i++)
		put_instant(newest, "i");
	put_slice(newest, 10000);
	pt_newest_flush(newest);
	assert_non_null(strstr(seen.text, "i(key=value,n=7) "));
	pt_newest_free(newest);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_good_specs),      cmocka_unit_test(test_bad_specs),
	    cmocka_unit_test(test_sdt_constant),    cmocka_unit_test(test_slices),
	    cmocka_unit_test(test_ranges),          cmocka_unit_test(test_clear),
	    cmocka_unit_test(test_bad_definitions), cmocka_unit_test(test_flow),
	    cmocka_unit_test(test_newest),          cmocka_unit_test(test_newest_many),
	    cmocka_unit_test(test_newest_values),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
