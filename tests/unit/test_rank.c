// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/* Ranks of a distributed job: the environment, what the model makes of it and of communicators, and
 * where the document says it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "op_recorder.h"
#include "scratch.h"
#include "sink/sink.h"
#include "target/rank.h"

#define ENV(text) text, sizeof(text) - 1

static void test_environment(void **state)
{
	static const struct {
		const char *text;
		size_t size;
		bool found;
		uint32_t rank, world_size;
	} cases[] = {
	    {ENV("A=1\0RANK=3\0WORLD_SIZE=8\0"), true, 3, 8},
	    {ENV("WORLD_SIZE=1\0RANK=0"), true, 0, 1}, /* no NUL at the end */
	    {ENV("RANK=3\0WORLD_SIZE=8\0RANK=4\0"), true, 3, 8},
	    {ENV("RANK=2147483646\0WORLD_SIZE=2147483647\0"), true, 2147483646, 2147483647},
	    {ENV("LOCAL_RANK=3\0LOCAL_WORLD_SIZE=8\0"), false, 0, 0},
	    {ENV("RANK=3\0"), false, 0, 0},
	    {ENV("WORLD_SIZE=3\0"), false, 0, 0},
	    {ENV("RANK=8\0WORLD_SIZE=8\0"), false, 0, 0},
	    {ENV("RANK=-1\0WORLD_SIZE=8\0"), false, 0, 0},
	    {ENV("RANK= 1\0WORLD_SIZE=8\0"), false, 0, 0},
	    {ENV("RANK=1x\0WORLD_SIZE=8\0"), false, 0, 0},
	    {ENV("RANK=\0WORLD_SIZE=8\0"), false, 0, 0},
	    {ENV("RANK=x\0RANK=1\0WORLD_SIZE=8\0"), false, 0, 0},
	    {ENV("RANK=1\0WORLD_SIZE=2147483648\0"), false, 0, 0},
	    {ENV("RANK=1\0WORLD_SIZE=99999999999999999999999\0"), false, 0, 0},
	    {ENV("RANK"), false, 0, 0},
	    {ENV(""), false, 0, 0},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		uint32_t rank = 0, world_size = 0;

		assert_int_equal(pt_rank_parse(cases[i].text, cases[i].size, &rank, &world_size),
				 cases[i].found);
		if (cases[i].found) {
			assert_int_equal(rank, cases[i].rank);
			assert_int_equal(world_size, cases[i].world_size);
		}
	}
}

static void assert_rank(const struct op_recorder *ops, size_t i, pid_t pid, int rank,
			int world_size, bool from_nccl)
{
	assert_true(i < ops->process_count);
	assert_int_equal(ops->processes[i].pid, pid);
	assert_int_equal(ops->processes[i].rank.rank, rank);
	assert_int_equal(ops->processes[i].rank.world_size, world_size);
	assert_int_equal(ops->processes[i].rank.from_nccl, from_nccl);
}

/* A fork has the environment, an exec has one of its own. */
static void test_processes(void **state)
{
	struct op_recorder ops;
	struct rec_thread t = rec_thread(10, 10, 1, "main"), child = rec_thread(11, 11, 2, "main");

	ops_init(&ops, NULL);
	rec_rank(&ops.builder, 10, 1, 3, 8, 1000);
	rec_proc(&ops.builder, PT_PROC_ATTACH, 10, 1, 1000, 1, "python3", "", 0);
	rec_code(&ops.builder, 1, "f", "", "/app/main.py", 1);
	rec_fork(&ops.builder, &t, 11, 2, 1500);
	batch_begin(&ops.builder, &child, 2000);
	batch_snap(&ops.builder, NULL, 0, 0, 2000);
	batch_enter(&ops.builder, 1, 2000);
	batch_exit(&ops.builder, 2100);
	batch_end(&ops.builder, 0);
	rec_proc(&ops.builder, PT_PROC_EXEC, 11, 3, 2500, 1, "python3", "", 0);
	rec_proc(&ops.builder, PT_PROC_ATTACH, 11, 3, 2600, 1, "python3", "", 0);
	rec_rank(&ops.builder, 11, 3, 4, 8, 2700); /* it comes late */
	assert_null(ops_finish(&ops));
	assert_int_equal(ops.totals.bad_records, 0);
	assert_rank(&ops, 0, 10, 3, 8, false);
	assert_rank(&ops, 1, 11, 3, 8, false);
	assert_rank(&ops, ops.process_count - 2, 11, 0, 0, false);
	assert_rank(&ops, ops.process_count - 1, 11, 4, 8, false);
	ops_release(&ops);
}

#define COMM_INIT 20

static void make_comm(struct op_recorder *ops, uint64_t comm, uint64_t size, uint64_t rank,
		      uint64_t ns)
{
	const uint64_t in[11] = {0x7ff0, size, rank};

	batch_cuda(&ops->builder, PT_X_CUDA_BEGIN, PT_CUDA_DESC(COMM_INIT, 0, 0), in, 11, ns);
	batch_cuda(&ops->builder, PT_X_CUDA_END, PT_CUDA_DESC(COMM_INIT, 0, 0), &comm, 1, ns + 5);
}

/* How many times the process was told of, and the last rank. */
static size_t of_comms(const uint64_t (*comms)[2], size_t count, bool environment,
		       struct pt_op_rank *rank)
{
	struct rec_thread t = rec_thread(10, 10, 1, "main");
	struct op_recorder ops;
	size_t told;

	ops_init(&ops, NULL);
	if (environment)
		rec_rank(&ops.builder, 10, 1, 1, 2, 1000);
	rec_proc(&ops.builder, PT_PROC_ATTACH, 10, 1, 1000, 1, "python3", "", 0);
	rec_code(&ops.builder, 1, "f", "", "/app/main.py", 1);
	rec_cuda_fn(&ops.builder, COMM_INIT, "ncclCommInitRank", PT_CUDA_NCCL, 0, 11, 1);
	batch_begin(&ops.builder, &t, 1900);
	batch_snap(&ops.builder, NULL, 0, 0, 1900);
	batch_enter(&ops.builder, 1, 1900);
	for (size_t i = 0; i < count; i++)
		make_comm(&ops, 0xc0 + i, comms[i][0], comms[i][1], 2000 + 100 * i);
	batch_exit(&ops.builder, 9000);
	batch_end(&ops.builder, 0);
	assert_null(ops_finish(&ops));
	told = ops.process_count;
	*rank = ops.processes[told - 1].rank;
	ops_release(&ops);
	return told;
}

static void test_communicators(void **state)
{
	/* those of parts of the job come before and behind that of all of it */
	static const uint64_t parts[][2] = {{2, 1}, {8, 5}, {4, 2}};
	static const uint64_t several[][2] = {{8, 5}, {8, 6}, {4, 2}};
	static const uint64_t wrong[][2] = {{4, 4}, {0, 0}, {UINT32_MAX, 1}};
	struct pt_op_rank rank;

	assert_int_equal(of_comms(parts, 3, false, &rank), 3);
	assert_int_equal(rank.rank, 5);
	assert_int_equal(rank.world_size, 8);
	assert_true(rank.from_nccl);
	of_comms(several, 3, false, &rank);
	assert_int_equal(rank.world_size, 0);
	assert_int_equal(of_comms(wrong, 3, false, &rank), 1);
	assert_int_equal(rank.world_size, 0);
	/* the environment is believed more */
	assert_int_equal(of_comms(parts, 3, true, &rank), 1);
	assert_int_equal(rank.rank, 1);
	assert_false(rank.from_nccl);
}

/* Which rank the first line has that Holistic Trace Analysis takes; behind: it is behind the
 * events. */
static void assert_document(const struct pt_op_rank *ranks, size_t count, int rank, bool behind)
{
	static const struct pt_capture_info info = {.tool_version = "0.1.0"};
	const char *path = scratch_path("rank.json"), *found;
	struct pt_totals totals = {0};
	struct pt_sink *sink;
	size_t len;
	char *text;

	assert_int_equal(pt_sink_open(path, &info, NULL, &sink, NULL), 0);
	for (size_t i = 0; i < count; i++) {
		struct pt_op op = {.kind = PT_OP_PROCESS,
				   .process = {.pid = 10,
					       .ns_pid = 10,
					       .name = "\"rank\": 77",
					       .cmdline = "\n\"rank\": 78",
					       .rank = ranks[i]}};

		assert_int_equal(pt_sink_op(&op, sink), 0);
	}
	assert_int_equal(pt_sink_close(sink, &totals, NULL), 0);
	text = scratch_read(path, &len);
	found = strstr(text, "\"rank\": ");
	assert_non_null(found);
	assert_int_equal(strtol(found + 8, NULL, 10), rank);
	assert_null(strstr(found + 1, "\"rank\": "));
	assert_int_equal(found > strstr(text, "\"traceEvents\""), behind);
	free(text);
}

static void test_document(void **state)
{
	static const struct pt_op_rank env = {3, 8, false}, nccl = {5, 8, true}, none = {0};

	assert_document(&env, 1, 3, false);
	assert_document((struct pt_op_rank[]){none, env}, 2, 3, true);
	assert_document((struct pt_op_rank[]){none, nccl}, 2, 5, true);
	assert_document((struct pt_op_rank[]){nccl, none}, 2, 0, true);
	assert_document(&none, 1, 0, true);
	assert_document(NULL, 0, 0, true);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_environment),
	    cmocka_unit_test(test_processes),
	    cmocka_unit_test(test_communicators),
	    cmocka_unit_test(test_document),
	};

	return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
