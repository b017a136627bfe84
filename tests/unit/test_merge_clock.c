// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/* Clocks of hosts that are merged: intervals, and what calls of NCCL make of them. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cjson/cJSON.h>
#include <cmocka.h>

#include "scratch.h"
#include "sink/clock_bounds.h"
#include "sink/merge.h"
#include "sink/merge_clock.h"
#include "sink/nccl_calls.h"

#define MS 1000000ll

/* ---- intervals ---- */

struct fact {
	uint32_t a;
	int64_t a_ns;
	uint32_t b;
	int64_t b_ns;
};

static int solve(uint32_t hosts, const struct fact *facts, size_t count,
		 struct pt_clock_offset *offsets, uint32_t *a, uint32_t *b)
{
	struct pt_clock_bounds *bounds = pt_clock_bounds_new(hosts);
	int rc;

	assert_non_null(bounds);
	for (size_t i = 0; i < count; i++)
		pt_clock_not_before(bounds, facts[i].a, facts[i].a_ns, facts[i].b, facts[i].b_ns);
	rc = pt_clock_solve(bounds, offsets, a, b);
	pt_clock_bounds_free(bounds);
	return rc;
}

#define SOLVE(hosts, facts) solve(hosts, facts, sizeof(facts) / sizeof(facts[0]), offsets, &a, &b)

static void test_intervals(void **state)
{
	struct pt_clock_offset offsets[4];
	uint32_t a, b;
	/* host 1 from -3 to +5; host 2 from 10 to 20; host 3 is known to be at least 7 behind 2 */
	static const struct fact facts[] = {{0, 105, 1, 100}, {1, 203, 0, 200}, {1, 900, 0, 100},
					    {0, 120, 2, 100}, {2, 90, 0, 100},  {3, 93, 2, 100}};

	assert_int_equal(SOLVE(4, facts), 0);
	assert_int_equal(offsets[0].offset_ns, 0);
	assert_int_equal(offsets[0].facts, 5);
	assert_int_equal(offsets[1].offset_ns, 0);
	assert_int_equal(offsets[1].least_ns, -3);
	assert_int_equal(offsets[1].most_ns, 5);
	assert_int_equal(offsets[1].facts, 3);
	assert_int_equal(offsets[2].offset_ns, 15);
	assert_int_equal(offsets[2].least_ns, 10);
	assert_int_equal(offsets[2].most_ns, 20);
	/* one end: the least that will do, beside host 2 where it is put */
	assert_int_equal(offsets[3].least_ns, 17);
	assert_true(offsets[3].most_ns == INT64_MAX);
	assert_int_equal(offsets[3].offset_ns, 22);
}

/* Host 1 is wrong by 100 to 170, and host 2, which lies at most 120 before it, may be right: so it
 * is, though in the middle of what it may be host 1 would not let it. */
static void test_right_first(void **state)
{
	static const struct fact facts[] = {{0, 300, 1, 100},
					    {1, 100, 0, 200},
					    {0, 150, 2, 100},
					    {2, 150, 0, 100},
					    {2, 220, 1, 100}};
	struct pt_clock_offset offsets[3];
	uint32_t a, b;

	assert_int_equal(SOLVE(3, facts), 0);
	assert_int_equal(offsets[1].least_ns, 100);
	assert_int_equal(offsets[1].most_ns, 170);
	assert_int_equal(offsets[2].offset_ns, 0);
	assert_int_equal(offsets[1].offset_ns, 110);
}

static void test_not_known(void **state)
{
	static const struct fact one[] = {{1, 50, 2, 40}};
	struct pt_clock_offset offsets[3];
	uint32_t a, b;

	assert_int_equal(solve(3, NULL, 0, offsets, &a, &b), 0);
	assert_true(offsets[1].least_ns == INT64_MIN && offsets[1].most_ns == INT64_MAX);
	assert_int_equal(SOLVE(3, one), 0); /* they know of each other, but nothing of host 0 */
	assert_true(offsets[2].least_ns == INT64_MIN && offsets[2].most_ns == INT64_MAX);
	assert_int_equal(offsets[2].offset_ns, 0);
	assert_null(pt_clock_bounds_new(0));
	assert_null(pt_clock_bounds_new(PT_CLOCK_HOSTS_MAX + 1));
}

static void test_contradiction(void **state)
{
	static const struct fact two[] = {{0, 100, 1, 110}, {1, 100, 0, 95}},
				 one[] = {{0, 100, 1, 110}, {1, 5, 1, 6}},
				 ring[] = {{0, 9, 1, 10}, {1, 9, 2, 10}, {2, 11, 0, 10}},
				 fits[] = {{0, 9, 1, 10}, {1, 9, 2, 10}, {2, 12, 0, 10}};
	struct pt_clock_offset offsets[3];
	uint32_t a, b;

	assert_int_equal(SOLVE(3, two), -ERANGE);
	assert_int_equal(a + b, 1);
	assert_int_equal(offsets[1].offset_ns, 0);
	assert_true(offsets[1].most_ns == INT64_MAX);
	assert_int_equal(SOLVE(3, one), -ERANGE);
	assert_true(a == 1 && b == 1);
	assert_int_equal(SOLVE(3, ring), -ELOOP);
	assert_int_equal(SOLVE(3, fits), 0);
	assert_int_equal(offsets[1].offset_ns, -1);
	assert_int_equal(offsets[2].offset_ns, -2);
}

/* Chosen one after the other, so what is chosen must hold together: at random, with the truth
 * known. */
static void test_random(void **state)
{
	srand(1);
	for (int round = 0; round < 300; round++) {
		struct fact facts[40];
		struct pt_clock_offset offsets[6];
		int64_t wrong[6];
		uint32_t a, b;

		for (int i = 0; i < 6; i++)
			wrong[i] = rand() % 3 ? 0 : rand() % 2000 - 1000;
		for (int i = 0; i < 40; i++) {
			int64_t ns = rand() % 100000, later = ns + rand() % 500;

			facts[i].a = (uint32_t)rand() % 6;
			facts[i].b = (uint32_t)rand() % 6;
			facts[i].a_ns = later + wrong[facts[i].a];
			facts[i].b_ns = ns + wrong[facts[i].b];
		}
		assert_int_equal(SOLVE(6, facts), 0);
		for (int i = 0; i < 40; i++)
			assert_true(facts[i].a_ns + offsets[facts[i].a].offset_ns >=
				    facts[i].b_ns + offsets[facts[i].b].offset_ns);
		for (int i = 0; i < 6; i++) {
			assert_true(offsets[i].least_ns <= wrong[0] - wrong[i]);
			assert_true(offsets[i].most_ns >= wrong[0] - wrong[i]);
		}
	}
}

static void test_extremes(void **state)
{
	static const struct fact facts[] = {{0, INT64_MAX, 1, INT64_MIN},
					    {1, INT64_MIN, 2, INT64_MAX},
					    {2, INT64_MIN, 1, INT64_MAX},
					    {1, INT64_MAX, 0, -5}};
	struct pt_clock_offset offsets[3];
	uint32_t a, b;

	assert_int_equal(SOLVE(3, facts), -ERANGE);
}

/* ---- calls ---- */

#define MADE(rank, size, ts, dur)                                                                  \
	"{\"ph\":\"X\",\"cat\":\"nccl\",\"name\":\"ncclCommInitRank\",\"pid\":1,\"tid\":1,"        \
	"\"ts\":" #ts ",\"dur\":" #dur ",\"args\":{\"comm\":\"0x10\",\"nranks\":" #size            \
	",\"rank\":" #rank ",\"commId\":\"00ab12cd34ef5678\",\"return\":\"ncclSuccess\"}}"
#define CALL(name, ts, dur)                                                                        \
	"{\"ph\":\"X\",\"cat\":\"nccl\",\"name\":\"" name "\",\"pid\":1,\"tid\":1,\"ts\":" #ts     \
	",\"dur\":" #dur ",\"args\":{\"comm\":\"0x10\",\"count\":4,\"return\":\"ncclSuccess\"}}"
#define LAUNCH(id, ts)                                                                             \
	"{\"ph\":\"X\",\"cat\":\"cuda_driver\",\"name\":\"cuLaunchKernelEx\",\"pid\":1,\"tid\":1," \
	"\"ts\":" #ts ",\"dur\":1,\"args\":{\"correlation\":" #id                                  \
	",\"kernel\":\"k\",\"return\":\"CUDA_SUCCESS\"}}"
#define BOUND(args)                                                                                \
	"{\"ph\":\"B\",\"cat\":\"gpu_bounds\",\"name\":\"k\",\"pid\":0,\"tid\":9,\"ts\":1,"        \
	"\"args\":{" args "}}"
#define ENDED "\"ended by call\":7"
#define END(ts)                                                                                    \
	"{\"ph\":\"E\",\"cat\":\"gpu_bounds\",\"name\":\"k\",\"pid\":0,\"tid\":9,\"ts\":" #ts "}"
#define ARROW(id)                                                                                  \
	"{\"ph\":\"s\",\"cat\":\"gpu_bounds\",\"name\":\"gpu_bounds\",\"pid\":1,\"tid\":1,"        \
	"\"ts\":3,\"id\":" #id "}"
#define LINES_MAX 16

struct file {
	uint32_t host;
	const char *lines[LINES_MAX];
};

static struct pt_nccl_result compared(const struct file *files, size_t count,
				      struct pt_clock_offset offsets[2])
{
	struct pt_clock_bounds *bounds = pt_clock_bounds_new(2);
	struct pt_nccl *nccl = pt_nccl_new();
	struct pt_nccl_result result;
	uint32_t a, b;

	for (size_t i = 0; i < count; i++) {
		pt_nccl_file_begin(nccl, files[i].host, 1000);
		for (size_t k = 0; k < LINES_MAX && files[i].lines[k]; k++)
			assert_int_equal(pt_nccl_event(nccl, files[i].lines[k]), 0);
		assert_int_equal(pt_nccl_file_end(nccl, true), 0);
	}
	assert_int_equal(pt_nccl_compare(nccl, 2, bounds, &result), 0);
	pt_clock_solve(bounds, offsets, &a, &b);
	pt_clock_bounds_free(bounds);
	pt_nccl_free(nccl);
	return result;
}

#define COMPARED(...)                                                                              \
	compared((const struct file[]){__VA_ARGS__},                                               \
		 sizeof((const struct file[]){__VA_ARGS__}) / sizeof(struct file), offsets)

/* With the microsecond that they are given. */
static void check(const struct pt_clock_offset *offset, int64_t least_us, int64_t most_us)
{
	assert_true(offset->least_ns == (least_us == INT64_MIN ? INT64_MIN : least_us * 1000));
	assert_true(offset->most_ns == (most_us == INT64_MAX ? INT64_MAX : most_us * 1000));
}

static void test_made(void **state)
{
	struct pt_clock_offset offsets[2];
	struct pt_nccl_result result;

	result = COMPARED({0, {MADE(0, 2, 100, 50)}}, {1, {MADE(1, 2, 140, 30)}});
	assert_int_equal(result.communicators, 1);
	check(&offsets[1], 100 - 170 - 1, 150 - 140 + 1);
	/* the earlier of two ends, the later of two begins, by host */
	COMPARED({0, {MADE(0, 3, 100, 50)}}, {1, {MADE(1, 3, 140, 30)}},
		 {1, {MADE(2, 3, 145, 20)}});
	check(&offsets[1], 100 - 165 - 1, 150 - 145 + 1);
	/* in a group: by its end; within two */
	COMPARED({0,
		  {CALL("ncclGroupStart", 90, 1), CALL("ncclGroupStart", 92, 1), MADE(0, 2, 100, 5),
		   CALL("ncclGroupEnd", 120, 1), CALL("ncclGroupEnd", 130, 70)}},
		 {1, {MADE(1, 2, 140, 30)}});
	check(&offsets[1], 100 - 170 - 1, 200 - 140 + 1);
	/* the group's end did not come; or it began before the recording did */
	COMPARED({0, {CALL("ncclGroupStart", 90, 1), MADE(0, 2, 100, 5)}},
		 {1, {MADE(1, 2, 140, 30)}});
	check(&offsets[1], 100 - 170 - 1, INT64_MAX);
	COMPARED({0, {MADE(0, 2, 100, 5), CALL("ncclGroupEnd", 120, 90)}},
		 {1, {MADE(1, 2, 140, 30)}});
	check(&offsets[1], 100 - 170 - 1, INT64_MAX);
}

static void test_made_in_doubt(void **state)
{
	static const char failed[] =
	    "{\"ph\":\"X\",\"cat\":\"nccl\",\"name\":\"ncclCommInitRank\",\"pid\":1,\"tid\":1,"
	    "\"ts\":1,\"dur\":1,\"args\":{\"nranks\":2,\"rank\":0,"
	    "\"commId\":\"00ab12cd34ef5678\",\"return\":\"ncclSystemError\"}}";
	static const char later[] =
	    "{\"ph\":\"X\",\"cat\":\"nccl\",\"name\":\"ncclCommInitRankConfig\",\"pid\":1,"
	    "\"tid\":1,\"ts\":100,\"dur\":1,\"args\":{\"comm\":\"0x10\",\"nranks\":2,\"rank\":0,"
	    "\"commId\":\"00ab12cd34ef5678\",\"return\":\"ncclInProgress\"}}";
	struct pt_clock_offset offsets[2];
	struct pt_nccl_result result;

	result = COMPARED({0, {failed}}, {1, {MADE(1, 2, 140, 30)}});
	assert_int_equal(result.communicators, 0);
	check(&offsets[1], INT64_MIN, INT64_MAX);
	result = COMPARED({0, {later}}, {1, {MADE(1, 2, 140, 30)}});
	assert_int_equal(result.communicators, 1);
	check(&offsets[1], 100 - 170 - 1, INT64_MAX);
	result = COMPARED({0, {MADE(0, 2, 1, 1), MADE(0, 2, 5, 1)}}, {1, {MADE(1, 2, 140, 30)}});
	assert_int_equal(result.ambiguous, 1);
	check(&offsets[1], INT64_MIN, INT64_MAX);
	result = COMPARED({0, {MADE(0, 3, 1, 1)}}, {1, {MADE(1, 2, 140, 30)}});
	assert_int_equal(result.ambiguous, 1);
	result = COMPARED({0, {MADE(2, 2, 1, 1)}}, {1, {MADE(1, 2, 140, 30)}});
	assert_int_equal(result.ambiguous, 1);
	result = COMPARED({0, {MADE(0, 2, 1, 1)}}, {0, {MADE(1, 2, 140, 30)}});
	assert_int_equal(result.communicators, 0);
}

#define OTHER MADE(1, 2, 5, 900), CALL("ncclAllReduce", 2000, 10)

static void test_collectives(void **state)
{
	struct pt_clock_offset offsets[2];
	struct pt_nccl_result result;

	result = COMPARED({0,
			   {MADE(0, 2, 1, 900), LAUNCH(4, 1005), CALL("ncclAllReduce", 1000, 20),
			    BOUND(ENDED), END(1100), ARROW(4)}},
			  {1, {OTHER}});
	assert_int_equal(result.collectives, 1);
	check(&offsets[1], 1 - 905 - 1, 1100 - 2000 + 1);
	/* two kernels; in a group; made by a call within the call */
	COMPARED(
	    {0,
	     {MADE(0, 2, 1, 900), LAUNCH(4, 1005), LAUNCH(5, 1007), CALL("ncclAllReduce", 1000, 20),
	      BOUND(ENDED), END(1100), ARROW(4), BOUND(ENDED), END(1200), ARROW(5)}},
	    {1, {OTHER}});
	check(&offsets[1], -905, 1200 - 2000 + 1);
	COMPARED(
	    {0,
	     {MADE(0, 2, 1, 900), CALL("ncclGroupStart", 990, 1), CALL("ncclAllReduce", 1000, 20),
	      LAUNCH(4, 1035), CALL("ncclGroupEnd", 1030, 9), BOUND(ENDED), END(1100), ARROW(4)}},
	    {1, {OTHER}});
	check(&offsets[1], -905, 1100 - 2000 + 1);
	COMPARED({0,
		  {MADE(0, 2, 1, 900), LAUNCH(4, 1005), CALL("ncclReduce", 1003, 10),
		   CALL("ncclAllReduce", 1000, 20), BOUND(ENDED), END(1100), ARROW(4)}},
		 {1, {OTHER}});
	check(&offsets[1], -905, 1100 - 2000 + 1);
}

/* When the work had ended is not known, so nothing is said by it. */
static void test_collectives_in_doubt(void **state)
{
	static const struct file files[] = {
	    /* nobody waited; only for one of two; assumed; until the end of the recording */
	    {0, {MADE(0, 2, 1, 900), LAUNCH(4, 1005), CALL("ncclAllReduce", 1000, 20)}},
	    {0,
	     {MADE(0, 2, 1, 900), LAUNCH(4, 1005), LAUNCH(5, 1006), CALL("ncclAllReduce", 1000, 20),
	      BOUND(ENDED), END(1100), ARROW(4), ARROW(4)}},
	    {0,
	     {MADE(0, 2, 1, 900), LAUNCH(4, 1005), CALL("ncclAllReduce", 1000, 20),
	      BOUND(ENDED ",\"assumes\":\"that\""), END(1100), ARROW(4)}},
	    {0,
	     {MADE(0, 2, 1, 900), LAUNCH(4, 1005), CALL("ncclAllReduce", 1000, 20),
	      BOUND("\"ended by\":\"end of the recording\""), END(1100), ARROW(4)}},
	    /* not of all to all; with a message between two in the group; after the end of it */
	    {0,
	     {MADE(0, 2, 1, 900), CALL("ncclGroupStart", 990, 1), CALL("ncclAllReduce", 1000, 2),
	      CALL("ncclSend", 1005, 2), LAUNCH(4, 1035), CALL("ncclGroupEnd", 1030, 9),
	      BOUND(ENDED), END(1100), ARROW(4)}},
	    {0,
	     {MADE(0, 2, 1, 900), CALL("ncclCommDestroy", 950, 5), LAUNCH(4, 1005),
	      CALL("ncclAllReduce", 1000, 20), BOUND(ENDED), END(1100), ARROW(4)}},
	};
	static const struct file other = {1, {OTHER}};
	struct pt_clock_offset offsets[2];

	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
		struct pt_nccl_result result = COMPARED(files[i], other);

		assert_int_equal(result.communicators, 1);
		assert_int_equal(result.collectives, 0);
		check(&offsets[1], -905, 901 - 5 + 1);
	}
}

static void test_different(void **state)
{
	struct pt_clock_offset offsets[2];
	struct pt_nccl_result result;

	result = COMPARED({0,
			   {MADE(0, 2, 1, 900), CALL("ncclBroadcast", 950, 5), LAUNCH(4, 1005),
			    CALL("ncclAllReduce", 1000, 20), BOUND(ENDED), END(1100), ARROW(4)}},
			  {1, {OTHER}});
	assert_int_equal(result.different, 1);
	assert_int_equal(result.collectives, 0);
	/* a root's broadcast says nothing of the others, but counts */
	result = COMPARED(
	    {0,
	     {MADE(0, 2, 1, 900), LAUNCH(3, 951), CALL("ncclBroadcast", 950, 5), BOUND(ENDED),
	      END(960), ARROW(3), LAUNCH(4, 1005), CALL("ncclAllReduce", 1000, 20), BOUND(ENDED),
	      END(1100), ARROW(4)}},
	    {1,
	     {MADE(1, 2, 5, 900), CALL("ncclBroadcast", 1500, 1), CALL("ncclAllReduce", 2000, 9)}});
	assert_int_equal(result.collectives, 1);
	check(&offsets[1], -905, 1100 - 2000 + 1);
}

static void test_bad_events(void **state)
{
	static const char *const bad[] = {
	    "",
	    "[]",
	    "{",
	    "{\"ph\":\"X\",\"ts\":-1}",
	    "{\"ph\":\"X\",\"pid\":99999999999}",
	    "{\"ph\":\"X\",\"cat\":\"nccl\",\"name\":\"ncclAllReduce\",\"args\":{\"a\"}}",
	    "{\"ph\":\"X\",\"cat\":\"cuda_driver\",\"name\":\"f\",\"args\":7}",
	    "{\"ph\":\"B\",\"cat\":\"gpu_bounds\",\"args\":[]}"};
	static const char *const odd[] = {
	    "{}",
	    "{\"ph\":\"X\",\"cat\":\"nccl\",\"name\":\"ncclAllReduce\",\"args\":{}}",
	    "{\"ph\":\"X\",\"cat\":\"nccl\",\"name\":\"ncclGroupEnd\",\"args\":{\"comm\":\"0x\"}}",
	    "{\"ph\":\"X\",\"cat\":\"nccl\",\"name\":\"ncclCommInitRank\",\"args\":{\"comm\":7,"
	    "\"commId\":\"zz\",\"nranks\":-4,\"rank\":99999999999}}",
	    "{\"ph\":\"E\",\"cat\":\"gpu_bounds\"}",
	    "{\"ph\":\"s\",\"cat\":\"gpu_bounds\",\"id\":\"x\"}",
	    "{\"ph\":\"s\",\"cat\":\"gpu_bounds\",\"id\":77}"};
	struct pt_nccl *nccl = pt_nccl_new();

	pt_nccl_file_begin(nccl, 0, UINT64_MAX);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(pt_nccl_event(nccl, bad[i]), -EBADMSG);
	for (size_t i = 0; i < sizeof(odd) / sizeof(odd[0]); i++)
		assert_int_equal(pt_nccl_event(nccl, odd[i]), 0);
	assert_int_equal(pt_nccl_file_end(nccl, true), 0);
	pt_nccl_free(nccl);
}

/* ---- files ---- */

#define BASE 7889238000000000ll /* a multiple of the three months that times count from */

static const char *write_file(const char *name, const char *host, long long base_ns,
			      const char *event, const char *summary)
{
	static char paths[4][4096];
	static unsigned int next;
	char *path = paths[next++ % 4], text[4096];

	snprintf(path, sizeof(paths[0]), "%s", scratch_path(name));
	snprintf(text, sizeof(text),
		 "{\n  \"pytrace-bpf\": {\n    \"version\": \"1\",\n    \"host\": \"%s\"\n  },\n"
		 "  \"baseTimeNanoseconds\": %lld,\n  \"traceEvents\": [\n%s\n  ],\n"
		 "  \"pytrace-bpf summary\": {\n%s    \"lost events\": 0\n  }\n}\n",
		 host, base_ns, event, summary);
	scratch_write(path, text, strlen(text));
	return path;
}

static struct pt_merge_clock *clock_of(const char *const *paths, size_t count)
{
	struct pt_merge_clock *clock = pt_merge_clock_new();
	char host[PT_MERGE_HOST_BYTES];
	struct pt_err err = {0};
	uint64_t base_ns;

	for (size_t i = 0; i < count; i++) {
		assert_int_equal(pt_merge_start(paths[i], &base_ns, host, &err), 0);
		assert_int_equal(pt_merge_clock_file(clock, host, base_ns), 0);
	}
	for (size_t i = 0; i < count; i++)
		assert_int_equal(pt_merge_clock_read(clock, i, paths[i], paths[i], &err), 0);
	assert_int_equal(pt_merge_clock_solve(clock, &err), 0);
	return clock;
}

/* A clock that is ahead: its times move before the base, so all count from an earlier one. */
static void test_files(void **state)
{
	const char *paths[] = {
	    write_file("a.json", "a", 10 * BASE, MADE(0, 2, 100, 50), ""),
	    write_file("b.json", "b", 10 * BASE, MADE(1, 2, 5000, 30), ""),
	    write_file("c.json", "b", 11 * BASE, CALL("ncclAllReduce", 4000, 30), "")};
	struct pt_merge_clock *clock = clock_of(paths, 3);
	struct pt_buf text = {0};
	cJSON *document;

	assert_int_equal(pt_merge_clock_hosts(clock), 2);
	assert_int_equal(pt_merge_clock_offset(clock, 0), 0);
	/* from 100 - 5030 - 1 to 150 - 5000 + 1 */
	assert_int_equal(pt_merge_clock_offset(clock, 1), -4890000);
	assert_int_equal(pt_merge_clock_offset(clock, 2), -4890000);
	assert_true(pt_merge_clock_base(clock) == 10 * BASE);
	pt_buf_add_str(&text, "[");
	pt_merge_clock_describe(clock, &text);
	pt_buf_add(&text, "]", 2);
	document = cJSON_Parse(text.data);
	assert_int_equal(cJSON_GetArraySize(document), 2);
	assert_string_equal(
	    cJSON_GetObjectItem(cJSON_GetArrayItem(document, 1), "host")->valuestring, "b");
	cJSON_Delete(document);
	pt_buf_release(&text);
	pt_merge_clock_free(clock);

	/* the same, and an event of the clock that is moved lies at the base */
	paths[1] = write_file(
	    "b.json", "b", 10 * BASE,
	    "{\"ph\":\"i\",\"name\":\"n\",\"pid\":1,\"tid\":1,\"ts\":1},\n" MADE(1, 2, 5000, 30),
	    "");
	clock = clock_of(paths, 2);
	assert_true(pt_merge_clock_base(clock) == 9 * BASE);
	pt_merge_clock_free(clock);
}

static void test_files_not_whole(void **state)
{
	static const char *const summaries[] = {
	    "    \"lost records\": 1,\n", "    \"pauses\": 2,\n",
	    "    \"short CUDA calls left out\": 1,\n", "    \"document cut short\": true,\n"};

	for (size_t i = 0; i < sizeof(summaries) / sizeof(summaries[0]); i++) {
		const char *paths[] = {
		    write_file("a.json", "a", 10 * BASE, MADE(0, 2, 100, 50), ""),
		    write_file("b.json", "b", 10 * BASE, MADE(1, 2, 5000, 30), summaries[i])};
		struct pt_merge_clock *clock = clock_of(paths, 2);

		assert_int_equal(pt_merge_clock_offset(clock, 1), 0);
		pt_merge_clock_free(clock);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_intervals),   cmocka_unit_test(test_right_first),
	    cmocka_unit_test(test_not_known),   cmocka_unit_test(test_contradiction),
	    cmocka_unit_test(test_random),      cmocka_unit_test(test_extremes),
	    cmocka_unit_test(test_made),        cmocka_unit_test(test_made_in_doubt),
	    cmocka_unit_test(test_collectives), cmocka_unit_test(test_collectives_in_doubt),
	    cmocka_unit_test(test_different),   cmocka_unit_test(test_bad_events),
	    cmocka_unit_test(test_files),       cmocka_unit_test(test_files_not_whole),
	};

	return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
