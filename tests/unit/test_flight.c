// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/* The flight recorder: triggers, the ring of records, captures, the folder that they are in. */
#include <dirent.h>
#include <errno.h>
#include <ftw.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <linux/types.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/log.h"
#include "flight/containers.h"
#include "flight/flight.h"
#include "flight/html.h"
#include "flight/ring.h"
#include "flight/store.h"
#include "flight/watch.h"
#include "rec_builder.h"
#include "scratch.h"

#define S  1000000000ull
#define MS 1000000ull

/* ---- reading triggers ---- */

static void test_parse(void **state)
{
	static const struct {
		const char *text, *kind, *pattern;
		uint64_t limit_ns;
	} good[] = {
	    {"slow:app.*:200ms", "slow", "app.*", 200 * MS},
	    {"slow:a::b:1s", "slow", "a::b", S},
	    {"request:1s", "request", NULL, S},
	    {"exception:KeyError", "exception", "KeyError", 0},
	    {"gc:50ms", "gc", NULL, 50 * MS},
	    {"gil:100ms", "gil", NULL, 100 * MS},
	    {"cuda:cudaMemcpy*:10ms", "cuda", "cudaMemcpy*", 10 * MS},
	    {"cuda-error", "cuda-error", NULL, 0},
	    {"crash", "crash", NULL, 0},
	    {"exit", "exit", NULL, 0},
	    {"hang:5s", "hang", NULL, 5 * S},
	    {"memory:host:2G", "memory", NULL, 0},
	    {"memory:device:2G", "device-memory", NULL, 0},
	    {"signal:SIGUSR2", "signal", NULL, 0},
	    {"file:/tmp/a:b", "file", "/tmp/a:b", 0},
	    {"at:23:05", "at", NULL, 0},
	    {"at:00:00:59", "at", NULL, 0},
	    {"http", "http", "127.0.0.1:9755", 0},
	    {"http:80", "http", "127.0.0.1:80", 0},
	    {"http:[::1]:80", "http", "[::1]:80", 0},
	    {"http:unix:/run/x", "http", "unix:/run/x", 0},
	};
	static const char *const bad[] = {
	    "",
	    "http:",
	    "http:x",
	    "http:70000",
	    "http:localhost:80",
	    "http:unix:x",
	    "slow",
	    "slow:",
	    "slow:f",
	    "slow::1s",
	    "slow:f:",
	    "slow:f:0",
	    "slow:f:-1s",
	    "slow:f:fast",
	    "request",
	    "request:0",
	    "request:f:1s",
	    "exception",
	    "exception:",
	    "gc",
	    "gc:",
	    "gc:0ms",
	    "gil:x",
	    "cuda:f",
	    "cuda::1ms",
	    "cuda-error:x",
	    "crash:now",
	    "exit:1",
	    "hang",
	    "hang:0",
	    "memory:1G",
	    "memory:host",
	    "memory:host:",
	    "memory:host:0",
	    "memory:cuda:1G",
	    "memory:device",
	    "memory:device:",
	    "memory:device:0",
	    "device-memory:1G",
	    "signal",
	    "signal:KILL",
	    "signal:10",
	    "file",
	    "file:",
	    "at",
	    "at:noon",
	    "at:24:00",
	    "at:12:60",
	    "at:12:00:60",
	    "at:12",
	    "at:12:00:",
	    "at: 1:00",
	    "at:-1:00",
	    "at:1:2:3:4",
	    "Slow:f:1s",
	    "slowly:f:1s",
	    "nothing:1s",
	    "crash:",
	    "exit:",
	};

	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		struct pt_trigger trigger;

		if (pt_trigger_parse(good[i].text, &trigger, NULL))
			fail_msg("'%s' is refused", good[i].text);
		assert_string_equal(trigger.kind->name, good[i].kind);
		assert_string_equal(trigger.text, good[i].text);
		assert_int_equal(trigger.limit_ns, good[i].limit_ns);
		if (good[i].pattern)
			assert_string_equal(trigger.pattern, good[i].pattern);
		pt_trigger_release(&trigger);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct pt_trigger trigger;
		struct pt_err err = {0};

		if (pt_trigger_parse(bad[i], &trigger, &err) != -EINVAL ||
		    err.exit_code != PT_EXIT_USAGE)
			fail_msg("'%s' is taken", bad[i]);
	}
}

/* ---- the ring ---- */

struct seen {
	uint64_t next; /* number of the record that must come */
	bool wrong;
};

static int see(const struct pt_rec *record, size_t len, void *ctx)
{
	struct seen *seen = ctx;

	seen->wrong |= record->image_id != (uint32_t)seen->next || record->len != len ||
		       len != sizeof(*record) + 8 * (seen->next * 7919 % 500);
	seen->next++;
	return 0;
}

/* Record number n, at a hundredth of a second each; what is in it does not compress. */
static void ring_put(struct pt_ring *ring, uint64_t n)
{
	size_t words = n * 7919 % 500, len = sizeof(struct pt_rec) + 8 * words;
	static uint64_t random = 88172645463325252ull;
	uint64_t data[4 + 500];
	struct pt_rec *record = (struct pt_rec *)(void *)data;

	for (size_t i = 0; i < words; i++) {
		random ^= random << 13;
		random ^= random >> 7;
		random ^= random << 17;
		data[4 + i] = random;
	}
	*record = (struct pt_rec){.kind = PT_REC_BATCH,
				  .len = (__u32)len,
				  .image_id = (uint32_t)n,
				  .time_ns = n * 10 * MS};
	assert_int_equal(pt_ring_put(ring, record, len), 0);
}

static struct pt_ring *ring_new(size_t max_bytes, uint64_t keep_ns, struct seen *gone)
{
	const struct pt_ring_options options = {max_bytes, keep_ns, see, gone};
	struct pt_ring *ring;

	assert_int_equal(pt_ring_new(&options, &ring), 0);
	return ring;
}

/* What has gone and what is there are all records, in order, each once. */
static void check_ring(struct pt_ring *ring, const struct seen *gone, uint64_t count)
{
	struct seen here = {.next = gone->next};

	assert_int_equal(pt_ring_each(ring, see, &here), 0);
	assert_int_equal(here.next, count);
	assert_false(here.wrong || gone->wrong);
	assert_int_equal(pt_ring_gone_ns(ring), gone->next ? (gone->next - 1) * 10 * MS : 0);
}

static void test_ring_memory(void **state)
{
	struct seen gone = {0};
	struct pt_ring *ring = ring_new(4u << 20, 1000 * S, &gone);

	for (uint64_t n = 0; n < 20000; n++) {
		ring_put(ring, n);
		assert_true(pt_ring_bytes(ring) <= 4u << 20);
	}
	check_ring(ring, &gone, 20000);
	assert_in_range(gone.next, 15000, 19999);
	pt_ring_free(ring);
}

static void test_ring_time(void **state)
{
	struct seen gone = {0};
	struct pt_ring *ring = ring_new(256u << 20, 30 * S, &gone);

	for (uint64_t n = 0; n < 3000; n++)
		ring_put(ring, n);
	check_ring(ring, &gone, 3000);
	assert_int_equal(gone.next, 0);
	pt_ring_hold(ring, 29 * S);
	for (uint64_t n = 3000; n < 8000; n++)
		ring_put(ring, n);
	assert_int_equal(gone.next, 0);
	pt_ring_hold(ring, 0);
	ring_put(ring, 8000);
	check_ring(ring, &gone, 8001);
	/* whole chunks go, of some 130 records */
	assert_in_range(gone.next, 4700, 5000);
	pt_ring_free(ring);
}

static void test_ring_refuses(void **state)
{
	struct seen gone = {0};
	struct pt_ring *ring = ring_new(4u << 20, S, &gone);
	struct pt_rec record = {.kind = PT_REC_NOTE, .len = 48};

	assert_int_equal(pt_ring_put(ring, &record, sizeof(record)), -EINVAL);
	record.len = 8;
	assert_int_equal(pt_ring_put(ring, &record, 8), -EINVAL);
	pt_ring_free(ring);
}

/* ---- what fires ---- */

struct watched {
	struct pt_trigger triggers[8];
	struct pt_watch *watch;
	struct rec_builder builder;
	struct rec_thread thread;
	struct pt_fired fired[16];
	const struct pt_trigger *by[16];
	size_t count;
};

static void on_fired(struct pt_trigger *trigger, const struct pt_fired *fired, void *ctx)
{
	struct watched *w = ctx;

	assert_true(w->count < 16);
	w->by[w->count] = trigger;
	w->fired[w->count++] = *fired;
}

static int watch_put(const struct pt_rec *record, size_t len, void *ctx)
{
	return pt_watch_record(((struct watched *)ctx)->watch, record, len);
}

/* texts: NULL-terminated. Code 1 is a(), 2 is b(), 3 is C.c(). */
static void watch_start(struct watched *w, const char *const *texts)
{
	static const struct pt_capture_info info = {.start_mono_ns = S};
	static const struct pt_model_options model;
	struct pt_watch_options options = {.triggers = w->triggers,
					   .model = &model,
					   .info = &info,
					   .last_ns = 30 * S,
					   .fired = on_fired,
					   .ctx = w};

	w->count = 0;
	for (; texts[options.trigger_count]; options.trigger_count++)
		assert_int_equal(pt_trigger_parse(texts[options.trigger_count],
						  &w->triggers[options.trigger_count], NULL),
				 0);
	assert_int_equal(pt_watch_new(&options, &w->watch), 0);
	rec_init(&w->builder, watch_put, w);
	w->thread = rec_thread(10, 11, 1, "main");
	rec_proc(&w->builder, PT_PROC_ATTACH, 10, 1, S, 1, "python3", "", 0);
	rec_code(&w->builder, 1, "a", "a", "/app/main.py", 1);
	rec_code(&w->builder, 2, "b", "b", "/app/main.py", 2);
	rec_code(&w->builder, 3, "c", "C.c", "/app/main.py", 3);
}

static void watch_end(struct watched *w)
{
	pt_watch_free(w->watch);
	for (size_t i = 0; i < 8; i++)
		if (w->triggers[i].kind)
			pt_trigger_release(&w->triggers[i]);
}

static void assert_fired(const struct watched *w, size_t n, const char *kind, uint64_t ns,
			 pid_t pid, const char *part)
{
	if (n >= w->count)
		fail_msg("only %zu have fired", w->count);
	assert_string_equal(w->by[n]->kind->name, kind);
	assert_int_equal(w->fired[n].time_ns, ns);
	assert_int_equal(w->fired[n].pid, pid);
	if (!strstr(w->fired[n].text, part))
		fail_msg("'%s' has no '%s'", w->fired[n].text, part);
}

static void test_slow(void **state)
{
	static const char *const texts[] = {"slow:C.*:200ms", "slow:b:1s", NULL};
	struct watched w = {0};

	watch_start(&w, texts);
	batch_begin(&w.builder, &w.thread, 2 * S);
	batch_enter(&w.builder, 1, 2 * S);
	batch_enter(&w.builder, 3, 2 * S + 10);
	batch_exit(&w.builder, 2 * S + 10 + 200 * MS); /* not longer than */
	batch_enter(&w.builder, 2, 3 * S);
	batch_exit(&w.builder, 3 * S + 900 * MS); /* another limit */
	batch_enter(&w.builder, 3, 4 * S);
	batch_enter(&w.builder, 3, 4 * S + 100 * MS);
	batch_exit(&w.builder, 4 * S + 200 * MS);
	batch_exit(&w.builder, 4 * S + 250 * MS);
	batch_exit(&w.builder, 9 * S); /* a(): in no trigger */
	batch_end(&w.builder, 0);
	assert_int_equal(w.count, 1);
	assert_fired(&w, 0, "slow", 4 * S + 250 * MS, 10, "C.c took 250.000 ms");
	assert_int_equal(w.fired[0].tid, 11);
	watch_end(&w);
}

/* A call that does not end is told of once, when it has run for nearly as long as is kept. */
static void test_slow_runs(void **state)
{
	static const char *const texts[] = {"slow:b:1s", NULL};
	struct watched w = {0};

	watch_start(&w, texts);
	batch_begin(&w.builder, &w.thread, 10 * S);
	batch_enter(&w.builder, 1, 10 * S);
	batch_enter(&w.builder, 2, 20 * S);
	batch_end(&w.builder, PT_RF_PEEK);
	pt_watch_tick(w.watch, 48 * S - MS, 48 * S, 0);
	assert_int_equal(w.count, 0);
	pt_watch_tick(w.watch, 48 * S + MS, 48 * S, 0);
	assert_int_equal(w.count, 1);
	if (!strstr(w.fired[0].text, "a call of b still runs after 28.00"))
		fail_msg("'%s'", w.fired[0].text);
	pt_watch_tick(w.watch, 60 * S, 60 * S, 0);
	batch_begin(&w.builder, &w.thread, 70 * S);
	batch_exit(&w.builder, 70 * S);
	batch_enter(&w.builder, 2, 71 * S);
	batch_exit(&w.builder, 73 * S);
	batch_end(&w.builder, 0);
	pt_watch_tick(w.watch, 74 * S, 74 * S, 0);
	assert_int_equal(w.count, 2); /* another call of it */
	assert_fired(&w, 1, "slow", 73 * S, 10, "2000.000 ms");
	watch_end(&w);
}

/* A request is told of once, whoever around it takes as long; it is known by file and name. */
static void test_request(void **state)
{
	static const char *const texts[] = {"request:1s", "request:1h", NULL};
	struct watched w = {0};

	watch_start(&w, texts);
	rec_code(&w.builder, 4, "wsgi_app", "Flask.wsgi_app", "/x/flask/app.py", 1);
	rec_code(&w.builder, 5, "handle_request", "SyncWorker.handle_request",
		 "/x/gunicorn/workers/sync.py", 2);
	rec_code(&w.builder, 6, "run", "", "/lib/wsgiref/handlers.py", 3); /* up to 3.10 */
	rec_code(&w.builder, 7, "wsgi_app", "Flask.wsgi_app", "/x/myflask/app.py", 4);
	rec_code(&w.builder, 8, "run", "Server.run", "/lib/wsgiref/handlers.py", 5);
	batch_begin(&w.builder, &w.thread, 10 * S);
	batch_enter(&w.builder, 5, 10 * S);
	batch_enter(&w.builder, 4, 10 * S + MS);
	batch_exit(&w.builder, 11 * S + MS); /* not longer than */
	batch_exit(&w.builder, 11 * S + 2 * MS);
	batch_enter(&w.builder, 5, 20 * S);
	batch_enter(&w.builder, 4, 20 * S + MS);
	batch_exit(&w.builder, 21 * S + 2 * MS);
	batch_exit(&w.builder, 21 * S + 3 * MS); /* the same one */
	batch_enter(&w.builder, 7, 30 * S);
	batch_exit(&w.builder, 32 * S);
	batch_enter(&w.builder, 8, 33 * S);
	batch_exit(&w.builder, 35 * S);
	batch_enter(&w.builder, 6, 40 * S);
	batch_exit(&w.builder, 42 * S);
	batch_enter(&w.builder, 6, 50 * S); /* it does not end */
	batch_end(&w.builder, PT_RF_PEEK);
	assert_int_equal(w.count, 3);
	assert_fired(&w, 0, "request", 11 * S + 2 * MS, 10,
		     "a request took 1002.000 ms in SyncWorker.handle_request");
	assert_fired(&w, 1, "request", 21 * S + 2 * MS, 10,
		     "a request took 1001.000 ms in Flask.wsgi_app");
	assert_fired(&w, 2, "request", 42 * S, 10, "a request took 2000.000 ms in run");
	pt_watch_tick(w.watch, 79 * S, 79 * S, 0);
	assert_int_equal(w.count, 4);
	if (!strstr(w.fired[3].text, "a request in run still runs after 29.000 s"))
		fail_msg("'%s'", w.fired[3].text);
	watch_end(&w);
}

static void request_step(struct watched *w, uint64_t object, uint32_t code, uint64_t ns,
			 uint64_t took_ns)
{
	batch_coro(&w->builder, object, ns);
	batch_enter(&w->builder, code, ns);
	batch_exit(&w->builder, ns + took_ns);
	batch_enter(&w->builder, 2, ns + took_ns + MS); /* the loop goes on */
	batch_exit(&w->builder, ns + took_ns + 2 * MS);
}

static void request_made(struct watched *w, uint64_t object, uint64_t ns)
{
	batch_enter(&w->builder, 2, ns);
	batch_task(&w->builder, object, ns);
	batch_exit(&w->builder, ns + MS);
}

/* Requests of one thread that overlap: of each the time is from its own first step on. */
static void test_request_tasks(void **state)
{
	static const char *const texts[] = {"request:1s", NULL};
	enum { FIRST = PT_CORO_FIRST };
	const uint64_t a = 0x7f0000001000, b = 0x7f0000002000, c = 0x7f0000003000;
	struct watched w = {0};

	watch_start(&w, texts);
	rec_code_flags(&w.builder, 4, "run_asgi", "/x/uvicorn/protocols/http/h11_impl.py", 1, 0x80);
	rec_code_flags(&w.builder, 5, "job", "/app/jobs.py", 1, 0x80);
	batch_begin(&w.builder, &w.thread, 10 * S);
	batch_snap(&w.builder, NULL, 0, 0, 10 * S);
	request_made(&w, a, 10 * S);
	request_step(&w, a | FIRST, 4, 10 * S + 100 * MS, 10 * MS);
	request_made(&w, b, 10 * S + 500 * MS);
	request_step(&w, b | FIRST, 4, 10 * S + 600 * MS, 10 * MS);
	request_made(&w, c, 10 * S + 700 * MS);
	request_step(&w, c | FIRST, 5, 10 * S + 800 * MS, 10 * MS);
	request_step(&w, a, 4, 11 * S, 10 * MS);
	request_step(&w, b, 4, 11 * S + 200 * MS, 10 * MS); /* 0.61 s: it has ended */
	assert_int_equal(w.count, 0);
	request_step(&w, a, 4, 11 * S + 300 * MS, 10 * MS); /* 1.21 s */
	request_step(&w, a, 4, 12 * S, 10 * MS);            /* told of */
	request_step(&w, c, 5, 15 * S, 10 * MS);            /* no request */
	request_made(&w, b, 16 * S);                        /* another one at the same place */
	request_step(&w, b | FIRST, 4, 16 * S + 100 * MS, 10 * MS);
	request_step(&w, b, 4, 17 * S, 10 * MS);
	request_made(&w, c, 18 * S);
	request_step(&w, c | FIRST, 4, 18 * S + 100 * MS, 2 * S); /* in a single step: told once */
	batch_end(&w.builder, 0);
	assert_int_equal(w.count, 2);
	assert_fired(&w, 0, "request", 11 * S + 310 * MS, 10,
		     "a request has taken 1210.000 ms so far in run_asgi");
	assert_fired(&w, 1, "request", 20 * S + 100 * MS, 10,
		     "a request took 2000.000 ms in run_asgi");
	watch_end(&w);
}

static void test_exits(void **state)
{
	static const char *const texts[] = {"crash", "exit", NULL};
	struct watched w = {0};

	watch_start(&w, texts);
	rec_proc(&w.builder, PT_PROC_EXIT, 20, 2, 2 * S, 1, "python3", "", 0);
	assert_int_equal(w.count, 0);
	rec_proc(&w.builder, PT_PROC_EXIT, 21, 3, 3 * S, 1, "python3", "", 3 << 8);
	assert_int_equal(w.count, 1);
	assert_fired(&w, 0, "exit", 3 * S, 21, "status 3");
	rec_proc(&w.builder, PT_PROC_EXIT, 22, 4, 4 * S, 1, "python3", "", SIGTERM);
	assert_int_equal(w.count, 2);
	assert_fired(&w, 1, "exit", 4 * S, 22, "signal 15");
	rec_proc(&w.builder, PT_PROC_EXIT, 23, 5, 5 * S, 1, "python3", "", SIGSEGV | 0x80);
	assert_int_equal(w.count, 4);
	assert_fired(&w, 2, "crash", 5 * S, 23, "signal 11");
	assert_fired(&w, 3, "exit", 5 * S, 23, "signal 11");
	watch_end(&w);
}

static void test_hang(void **state)
{
	static const char *const texts[] = {"hang:5s", "hang:1m", NULL};
	struct watched w = {0};

	watch_start(&w, texts);
	pt_watch_tick(w.watch, 6 * S, 6 * S, 0); /* attached at 1 s: not longer than 5 s */
	assert_int_equal(w.count, 0);
	batch_begin(&w.builder, &w.thread, 6 * S);
	batch_enter(&w.builder, 1, 7 * S);
	batch_end(&w.builder, PT_RF_PEEK);
	/* a child that never runs Python hangs never */
	rec_proc(&w.builder, PT_PROC_FORK, 30, 2, 7 * S, 10, "sh", "", 0);
	pt_watch_tick(w.watch, 12 * S, 12 * S, 0);
	assert_int_equal(w.count, 0);
	pt_watch_tick(w.watch, 12 * S + 1, 12 * S + 1, 0);
	assert_int_equal(w.count, 1);
	assert_fired(&w, 0, "hang", 12 * S + 1, 10, "for 5.0 s");
	pt_watch_tick(w.watch, 20 * S, 20 * S, 0); /* told already */
	assert_int_equal(w.count, 1);
	batch_begin(&w.builder, &w.thread, 21 * S);
	batch_exit(&w.builder, 21 * S);
	batch_end(&w.builder, 0);
	pt_watch_tick(w.watch, 25 * S, 25 * S, 0);
	assert_int_equal(w.count, 1);
	pt_watch_tick(w.watch, 27 * S, 27 * S, 0); /* again */
	assert_int_equal(w.count, 2);
	rec_proc(&w.builder, PT_PROC_EXIT, 10, 1, 28 * S, 1, "python3", "", 0);
	batch_begin(&w.builder, &w.thread, 28 * S);
	batch_enter(&w.builder, 1, 28 * S);
	batch_end(&w.builder, 0);
	pt_watch_tick(w.watch, 900 * S, 900 * S, 0); /* it has ended */
	assert_int_equal(w.count, 2);
	watch_end(&w);
}

/* Of this very process. */
static void test_memory(void **state)
{
	static const char *const texts[] = {"memory:host:1K", "memory:host:1000T", NULL};
	struct watched w = {0};

	watch_start(&w, texts);
	rec_proc(&w.builder, PT_PROC_EXIT, 10, 1, S, 1, "python3", "", 0); /* who that may be */
	pt_watch_tick(w.watch, S, S, 0);
	assert_int_equal(w.count, 0);
	rec_proc(&w.builder, PT_PROC_ATTACH, (uint32_t)getpid(), 1, S, 1, "python3", "", 0);
	pt_watch_tick(w.watch, 2 * S, 2 * S, 0);
	assert_int_equal(w.count, 1);
	assert_fired(&w, 0, "memory", 2 * S, getpid(), "MB of memory");
	pt_watch_tick(w.watch, 3 * S, 3 * S, 0);
	assert_int_equal(w.count, 1); /* told already */
	watch_end(&w);
}

/* By process and device; after an exec there is nothing. */
static void test_device_memory(void **state)
{
	static const struct {
		pid_t pid;
		int device;
		enum pt_memory_action action;
		uint64_t bytes;
		bool host, fires;
	} steps[] = {
	    {10, 0, PT_MEMORY_ALLOC, 900, false, false},
	    {10, 1, PT_MEMORY_ALLOC, 900, false, false},
	    {11, 0, PT_MEMORY_ALLOC, 900, false, false},
	    {10, 0, PT_MEMORY_ALLOC, 900, true, false},
	    {10, 0, PT_MEMORY_FREE, 500, false, false},
	    {10, 0, PT_MEMORY_ALLOC, 624, false, false},
	    {10, 0, PT_MEMORY_ALLOC, 1, false, true},
	    {10, 0, PT_MEMORY_ALLOC, 1, false, false},
	    {10, 0, PT_MEMORY_LIVE, 1000, false, false},
	    {10, 0, PT_MEMORY_FREE, 100, false, false},
	    {10, 0, PT_MEMORY_ALLOC, 100, false, true},
	    {10, -1, PT_MEMORY_ALLOC, 1025, false, true},
	};
	struct pt_op image = {.kind = PT_OP_PROCESS, .process = {.pid = 10, .image_id = 1}};
	struct pt_op op = {.kind = PT_OP_MEMORY};
	struct pt_trigger trigger;
	struct pt_fired fired;

	assert_int_equal(pt_trigger_parse("memory:device:1K", &trigger, NULL), 0);
	assert_false(trigger.kind->op(&trigger, &image, &fired));
	for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
		op.memory.pid = steps[i].pid;
		op.memory.device = steps[i].device;
		op.memory.action = steps[i].action;
		op.memory.bytes = steps[i].bytes;
		op.memory.host = steps[i].host;
		op.memory.time_ns = i;
		if (trigger.kind->op(&trigger, &op, &fired) != steps[i].fires)
			fail_msg("step %zu", i);
	}
	assert_string_equal(fired.text, "process 10 has 0.0 MB on devices that are not known");
	image.process.image_id = 2;
	assert_false(trigger.kind->op(&trigger, &image, &fired));
	op.memory = (struct pt_op_memory){.pid = 10, .bytes = 1024, .action = PT_MEMORY_ALLOC};
	assert_false(trigger.kind->op(&trigger, &op, &fired));
	op.memory.bytes = 1;
	assert_true(trigger.kind->op(&trigger, &op, &fired));
	pt_trigger_release(&trigger);
}

static void test_outside(void **state)
{
	char file[256];
	const char *const texts[] = {file, "signal:USR2", "at:12:30", NULL};
	struct watched w = {0};
	uint64_t noon = 1893499200; /* 2030-01-01T12:00:00Z */

	setenv("TZ", "UTC", 1);
	tzset();
	snprintf(file, sizeof(file), "file:%s", scratch_path("appears"));
	scratch_write(scratch_path("appears"), "", 0);
	watch_start(&w, texts);
	pt_watch_tick(w.watch, 2 * S, 2 * S, noon * S); /* it is there from the start */
	pt_log_set_level(PT_LOG_ERROR);
	pt_watch_signal(w.watch, SIGUSR1); /* nobody waits for this one */
	pt_log_set_level(PT_LOG_INFO);
	unlink(scratch_path("appears"));
	pt_watch_tick(w.watch, 3 * S, 3 * S, (noon + 1799) * S);
	assert_int_equal(w.count, 0);
	scratch_write(scratch_path("appears"), "", 0);
	pt_watch_tick(w.watch, 4 * S, 4 * S, (noon + 1799) * S);
	assert_fired(&w, 0, "file", 4 * S, 0, "appears");
	pt_watch_signal(w.watch, SIGUSR2);
	pt_watch_tick(w.watch, 5 * S, 5 * S, (noon + 1799) * S);
	assert_fired(&w, 1, "signal", 5 * S, 0, "SIGUSR2");
	pt_watch_tick(w.watch, 6 * S, 6 * S, (noon + 1800) * S);
	assert_fired(&w, 2, "at", 6 * S, 0, "12:30:00");
	pt_watch_tick(w.watch, 7 * S, 7 * S, (noon + 1801) * S);
	assert_int_equal(w.count, 3);
	pt_watch_tick(w.watch, 8 * S, 8 * S, (noon + 86400 + 1800) * S); /* the next day */
	assert_fired(&w, 3, "at", 8 * S, 0, "12:30:00");
	assert_int_equal(w.count, 4);
	watch_end(&w);
}

/* ---- captures ---- */

struct recorder {
	struct pt_trigger triggers[4];
	struct pt_flight_options options;
	struct pt_flight *flight;
	struct rec_builder builder;
	struct rec_thread thread;
};

static int flight_put(const struct pt_rec *record, size_t len, void *ctx)
{
	return pt_flight_record(record, len, ((struct recorder *)ctx)->flight);
}

static void flight_start(struct recorder *r, const char *folder, const char *const *texts)
{
	static const struct pt_capture_info info = {.start_mono_ns = S,
						    .start_real_ns = 1893499200 * S,
						    .host = "host",
						    .interpreter = "CPython 3.12.1"};
	static const struct pt_model_options model;
	static const struct pt_sink_options sink;

	r->options.folder = folder;
	r->options.triggers = r->triggers;
	if (!r->options.memory_bytes)
		r->options.memory_bytes = 64u << 20;
	if (!r->options.last_ns)
		r->options.last_ns = 2 * S;
	for (; texts[r->options.trigger_count]; r->options.trigger_count++)
		assert_int_equal(pt_trigger_parse(texts[r->options.trigger_count],
						  &r->triggers[r->options.trigger_count], NULL),
				 0);
	pt_log_set_level(PT_LOG_WARN);
	assert_int_equal(pt_flight_check(&r->options, NULL), 0);
	assert_int_equal(pt_flight_open(&r->options, &model, &sink, &info, (uid_t)-1, (gid_t)-1,
					&r->flight, NULL),
			 0);
	rec_init(&r->builder, flight_put, r);
	r->thread = rec_thread(10, 10, 1, "main");
	rec_note(&r->builder, PT_NOTE_GATE_OPEN, S, 0);
	rec_proc(&r->builder, PT_PROC_ATTACH, 10, 1, S, 1, "python3", "python3 --password=x", 0);
	rec_code(&r->builder, 1, "main", "main", "/app/main.py", 1);
	rec_code(&r->builder, 2, "tick", "tick", "/app/main.py", 2);
	rec_code(&r->builder, 3, "slow", "slow", "/app/main.py", 3);
	rec_code(&r->builder, 4, "cause", "cause", "/app/main.py", 4);
	batch_begin(&r->builder, &r->thread, S);
	batch_enter(&r->builder, 1, S);
	batch_end(&r->builder, 0);
}

static void flight_end(struct recorder *r, uint64_t captures, uint64_t failed)
{
	uint64_t got, got_failed;

	assert_int_equal(r->builder.rc, 0);
	pt_flight_close(r->flight, &got, &got_failed);
	pt_log_set_level(PT_LOG_INFO);
	assert_int_equal(got, captures);
	assert_int_equal(got_failed, failed);
	for (size_t i = 0; i < r->options.trigger_count; i++)
		pt_trigger_release(&r->triggers[i]);
}

/* tick() every hundredth of a second, and each second it is said that all has come. */
static void ticks(struct recorder *r, uint64_t from_ns, uint64_t until_ns)
{
	for (uint64_t ns = from_ns; ns < until_ns; ns += 10 * MS) {
		batch_begin(&r->builder, &r->thread, ns);
		batch_enter(&r->builder, 2, ns);
		batch_exit(&r->builder, ns + MS);
		batch_end(&r->builder, 0);
		if (ns % S == 0)
			rec_note(&r->builder, PT_NOTE_COMPLETE, ns, ns - S / 2);
	}
}

/* slow() from ns on for a quarter of a second, in it cause(). */
static void slow_call(struct recorder *r, uint64_t ns)
{
	batch_begin(&r->builder, &r->thread, ns);
	batch_enter(&r->builder, 3, ns);
	batch_enter(&r->builder, 4, ns + MS);
	batch_exit(&r->builder, ns + 249 * MS);
	batch_exit(&r->builder, ns + 250 * MS);
	batch_end(&r->builder, 0);
}

static int is_capture(const struct dirent *entry)
{
	return !strncmp(entry->d_name, PT_STORE_PREFIX, strlen(PT_STORE_PREFIX));
}

/* The n-th capture's file, and how many captures there are. */
static char *capture_file(const char *folder, size_t n, const char *file, size_t *count)
{
	struct dirent **entries;
	int got = scandir(folder, &entries, is_capture, alphasort);
	char path[512], *text = NULL;

	assert_true(got >= 0);
	*count = (size_t)got;
	for (int i = 0; i < got; i++) {
		if ((size_t)i == n) {
			struct stat st;
			size_t len;

			snprintf(path, sizeof(path), "%s/%s/%s", folder, entries[i]->d_name, file);
			assert_int_equal(stat(path, &st), 0);
			assert_int_equal(st.st_mode & 07777, 0600);
			text = scratch_read(path, &len);
		}
		free(entries[i]);
	}
	free(entries);
	return text;
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *at)
{
	return remove(path);
}

static void remove_folder(const char *folder)
{
	nftw(folder, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

static size_t occurrences(const char *text, const char *part)
{
	size_t n = 0;

	while ((text = strstr(text, part))) {
		n++;
		text += strlen(part);
	}
	return n;
}

/* After a minute the ring has turned over: the capture has the two seconds before the slow call
 * ended, with the call around them, whose begin is long gone. */
static void test_capture(void **state)
{
	static const char *const texts[] = {"slow:slow:200ms", "slow:tick:200ms", "crash", NULL};
	char folder[256], *text;
	struct recorder r = {.options = {.memory_bytes = 2u << 20}};
	size_t count;

	snprintf(folder, sizeof(folder), "%s", scratch_path("captures"));
	flight_start(&r, folder, texts);
	ticks(&r, 2 * S, 60 * S);
	slow_call(&r, 60 * S);
	ticks(&r, 61 * S, 64 * S);
	rec_note(&r.builder, PT_NOTE_GATE_CLOSE, 64 * S, 0);
	flight_end(&r, 1, 0);
	text = capture_file(folder, 0, "trace.json.gz", &count);
	assert_int_equal(count, 1);
	/* from 58.25 s to 60 s, and from 61 s to when it was known that all had come */
	assert_int_equal(occurrences(text, "/app/main.py(2): tick"), 175 + 1);
	assert_int_equal(occurrences(text, "/app/main.py(3): slow"), 1);
	assert_int_equal(occurrences(text, "/app/main.py(4): cause"), 1);
	assert_int_equal(occurrences(text, "/app/main.py(1): main"), 1);
	assert_int_equal(occurrences(text, "\"open at start\":true,\"open at end\":true"), 1);
	assert_null(strstr(text, "password"));
	free(text);
	text = capture_file(folder, 0, "meta.json", &count);
	assert_non_null(strstr(text, "\"trigger\": \"slow:slow:200ms\""));
	assert_non_null(strstr(text, "\"what\": \"a call of slow took 250.000 ms\""));
	assert_non_null(strstr(text, "\"time\": \"2030-01-01T12:00:59.250000Z\""));
	assert_non_null(strstr(text, "\"seconds before the trigger\": 2.000000"));
	assert_null(strstr(text, "password"));
	free(text);
	text = capture_file(folder, 0, "stacks.txt", &count);
	assert_non_null(strstr(text, "main (/app/main.py:1), for at least"));
	free(text);
	text = capture_file(folder, 0, "report.txt", &count);
	assert_non_null(strstr(text, "/app/main.py(3): slow"));
	free(text);
	text = capture_file(folder, 0, "report.html", &count);
	assert_non_null(strstr(text, "<h1>a call of slow took 250.000 ms</h1>"));
	assert_non_null(strstr(text, "<td>slow:slow:200ms</td>"));
	assert_non_null(strstr(text, "tick <small>/app/main.py:2</small>"));
	assert_non_null(strstr(text, "\n  main (/app/main.py:1), for at least"));
	assert_null(strstr(text, "password"));
	assert_null(strstr(text, "http://"));
	assert_null(strstr(text, "https://"));
	free(text);
	pt_store_trim(folder, 1, 1);
	free(capture_file(folder, 0, "meta.json", &count));
	assert_int_equal(count, 1); /* the newest stays */
	remove_folder(folder);
}

static void make_capture(const char *folder, uint64_t real_ns, const char *file)
{
	char name[128], path[512];

	pt_store_name(real_ns, 7, "slow", name, sizeof(name));
	snprintf(path, sizeof(path), "%s/%s", folder, name);
	assert_int_equal(mkdir(path, 0700), 0);
	snprintf(path, sizeof(path), "%s/%s/%s", folder, name, file);
	scratch_write(path, name, sizeof(name));
}

/* Names that want to be markup, or to move the cursor, are text. */
static void test_html(void **state)
{
	static const char text[] = "<script>alert('&\"')</script>\x1b[2J\xc2\x9b\xc3\xa9\n";
	char *got = NULL;
	size_t size;
	FILE *out = open_memstream(&got, &size);

	assert_non_null(out);
	pt_html_text(text, out);
	assert_int_equal(fclose(out), 0);
	assert_string_equal(got, "&lt;script&gt;alert(&#39;&amp;&quot;&#39;)&lt;/script&gt;?[2J?"
				 "\xc3\xa9\n");
	free(got);
}

/* The archive's members, by its headers, whose checksums are right: "NAME/ NAME/FILE:SIZE .." */
static void read_tar(const char *path, char *members, size_t size)
{
	size_t len, at = 0, used = 0;
	unsigned char *tar = (unsigned char *)scratch_read(path, &len);

	assert_int_equal(len % 512, 0);
	for (; at + 1024 < len && tar[at]; at += 512) {
		const char *header = (const char *)tar + at;
		size_t bytes = strtoul(header + 124, NULL, 8), sum = 8 * ' ';

		for (size_t i = 0; i < 512; i++)
			sum += i >= 148 && i < 156 ? 0 : tar[at + i];
		assert_int_equal(strtoul(header + 148, NULL, 8), sum);
		assert_memory_equal(header + 257, "ustar\00000", 8);
		used += (size_t)snprintf(members + used, size - used, "%s%s%s:%s ", header + 345,
					 header[345] ? "/" : "", header, bytes ? "full" : "empty");
		at += (bytes + 511) / 512 * 512;
	}
	assert_int_equal(at + 1024, len); /* two empty blocks end it */
	free(tar);
}

static void test_tar(void **state)
{
	static const char *const texts[] = {"slow:slow:200ms", NULL};
	struct recorder r = {.options = {.tar = true}};
	char folder[256], path[600], members[1024] = "";
	struct dirent **entries;
	struct stat st;

	snprintf(folder, sizeof(folder), "%s", scratch_path("packed"));
	flight_start(&r, folder, texts);
	slow_call(&r, 10 * S);
	ticks(&r, 11 * S, 15 * S);
	rec_note(&r.builder, PT_NOTE_GATE_CLOSE, 15 * S, 0);
	flight_end(&r, 1, 0);
	assert_int_equal(scandir(folder, &entries, NULL, alphasort), 3); /* with "." and ".." */
	assert_string_equal(entries[2]->d_name, "capture-20300101T120009.250Z-10-slow.tar.gz");
	snprintf(path, sizeof(path), "%s/%s", folder, entries[2]->d_name);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	read_tar(path, members, sizeof(members));
#define IN "capture-20300101T120009.250Z-10-slow/"
	assert_string_equal(members,
			    IN ":empty " IN "meta.json:full " IN "report.html:full " IN
			       "report.txt:full " IN "stacks.txt:full " IN "trace.json.gz:full ");
	make_capture(folder, 1893499200 * S, "meta.json");
	assert_int_equal(pt_store_trim(folder, 1, 0), 1); /* the folder was older */
	assert_int_equal(access(path, F_OK), 0);
	make_capture(folder, 1893499300 * S, "meta.json");
	assert_int_equal(pt_store_trim(folder, 0, 1), 1);
	assert_int_equal(access(path, F_OK), -1);
	for (int i = 0; i < 3; i++)
		free(entries[i]);
	free(entries);
	remove_folder(folder);
}

/* A trigger that fires again is passed over while it cools down; --count and what is kept hold. */
static void test_capture_again(void **state)
{
	static const char *const texts[] = {"slow:slow:200ms", NULL};
	struct recorder r = {
	    .options = {.cool_down_ns = 10 * S, .after_ns = 2 * S, .keep_count = 2}};
	char folder[256], *text;
	size_t count;

	snprintf(folder, sizeof(folder), "%s", scratch_path("again"));
	flight_start(&r, folder, texts);
	for (uint64_t ns = 10 * S; ns < 70 * S; ns += 5 * S) {
		slow_call(&r, ns);
		ticks(&r, ns + S, ns + 5 * S);
		usleep(
		    50000); /* the child that writes gets on, or the next one is passed over, too */
	}
	rec_note(&r.builder, PT_NOTE_GATE_CLOSE, 70 * S, 0);
	assert_false(pt_flight_done(r.flight));
	pt_flight_close(r.flight, &(uint64_t){0}, &(uint64_t){0});
	pt_log_set_level(PT_LOG_INFO);
	pt_trigger_release(&r.triggers[0]);
	text = capture_file(folder, 1, "meta.json", &count);
	assert_int_equal(count, 2);
	assert_null(strstr(text, "\"triggers passed over before\": 0"));
	free(text);
	remove_folder(folder);
}

/* Whoever asks is told the name of the capture, or how long to wait, or that there will be none. */
static void ask_once(uint64_t count_max, uint64_t cool_down_ns, int then)
{
	static const char *const texts[] = {"slow:slow:200ms", "http", NULL};
	struct recorder r = {.options = {.cool_down_ns = cool_down_ns, .count = count_max}};
	char folder[256], first[PT_FLIGHT_NAME_MAX], second[PT_FLIGHT_NAME_MAX], path[512], *text;
	uint64_t wait_ns = 0;
	size_t count;

	snprintf(folder, sizeof(folder), "%s", scratch_path("asked"));
	flight_start(&r, folder, texts);
	slow_call(&r, 10 * S); /* of the same capture, and before it */
	assert_int_equal(pt_flight_ask(r.flight, 10, true, first, &wait_ns), 0);
	assert_int_equal(pt_flight_ask(r.flight, 11, true, second, &wait_ns), 0);
	assert_string_equal(first, second);
	rec_note(&r.builder, PT_NOTE_COMPLETE, pt_now_ns(), pt_now_ns());
	assert_int_equal(pt_flight_ask(r.flight, 10, true, second, &wait_ns), then);
	assert_int_equal(wait_ns > 0 && wait_ns <= cool_down_ns, then == -EAGAIN);
	if (then) {
		assert_string_equal(second, "");
		assert_int_equal(pt_flight_ask(r.flight, 10, false, second, &wait_ns), 0);
	}
	assert_true(pt_store_is_name(second));
	rec_note(&r.builder, PT_NOTE_GATE_CLOSE, pt_now_ns(), 0);
	assert_int_equal(pt_flight_ask(r.flight, 10, false, second, &wait_ns), -ESHUTDOWN);
	flight_end(&r, 2, 0);
	text = capture_file(folder, 0, "meta.json", &count);
	assert_int_equal(count, 2);
	assert_non_null(strstr(text, "\"http\""));
	free(text);
	snprintf(path, sizeof(path), "%s/%s", folder, first);
	assert_int_equal(access(path, F_OK), 0);
	remove_folder(folder);
}

static void test_ask(void **state)
{
	ask_once(0, 0, 0);
	ask_once(0, 3600 * S, -EAGAIN);
	ask_once(1, 3600 * S, -EDQUOT);
}

/* Without a place to write to there is an error message, and recording goes on. */
static void test_capture_fails(void **state)
{
	static const char *const texts[] = {"slow:slow:200ms", NULL};
	struct recorder r = {0};
	char folder[256], aside[256];

	snprintf(folder, sizeof(folder), "%s", scratch_path("gone"));
	snprintf(aside, sizeof(aside), "%s", scratch_path("aside"));
	flight_start(&r, folder, texts);
	assert_int_equal(rename(folder, aside), 0);
	slow_call(&r, 10 * S);
	ticks(&r, 11 * S, 15 * S);
	rec_note(&r.builder, PT_NOTE_GATE_CLOSE, 15 * S, 0);
	flight_end(&r, 0, 1);
	remove_folder(aside);
}

/* ---- the folder, containers ---- */

static size_t captures(const char *folder)
{
	struct dirent **entries;
	int count = scandir(folder, &entries, is_capture, alphasort);

	for (int i = 0; i < count; i++)
		free(entries[i]);
	free(entries);
	return (size_t)count;
}

static void test_store(void **state)
{
	char folder[256], name[128], path[512];

	pt_store_name(1893499200 * S + 5 * MS, 7, "slow", name, sizeof(name));
	assert_string_equal(name, "capture-20300101T120000.005Z-7-slow");
	pt_store_name(1893499200 * S, 0, "at", name, sizeof(name));
	assert_string_equal(name, "capture-20300101T120000.000Z-at");
	snprintf(folder, sizeof(folder), "%s", scratch_path("store"));
	mkdir(folder, 0700);
	for (uint64_t i = 0; i < 6; i++)
		make_capture(folder, (1893499200 + i) * S, "meta.json");
	make_capture(folder, 1893499100 * S, "mine.txt"); /* has what no capture has */
	snprintf(path, sizeof(path), "%s/capture-of-mine", folder);
	assert_int_equal(mkdir(path, 0700), 0);
	assert_int_equal(pt_store_trim(folder, 0, 0), 0);
	assert_int_equal(pt_store_trim(folder, 4, 0), 2);
	assert_int_equal(captures(folder), 4 + 2);
	/* each takes a block at least */
	assert_int_equal(pt_store_trim(folder, 0, 2 * 4096), 2);
	assert_int_equal(captures(folder), 2 + 2);
	assert_int_equal(access(path, F_OK), 0);
	pt_store_name(1893499205 * S, 7, "slow", name, sizeof(name));
	snprintf(path, sizeof(path), "%s/%s/meta.json", folder, name);
	assert_int_equal(access(path, F_OK), 0);
	assert_int_equal(pt_store_trim("/nowhere/at/all", 1, 1), 0);
	assert_int_equal(pt_store_remove(folder, "none"), -ENOENT);
	/* what a recorder left that was killed; nothing else that is hidden */
	snprintf(path, sizeof(path), "%s/.%s.tmp", folder, name);
	assert_int_equal(mkdir(path, 0700), 0);
	snprintf(path, sizeof(path), "%s/.%s.tmp/meta.json", folder, name);
	scratch_write(path, "", 0);
	snprintf(path, sizeof(path), "%s/.%s.tmp.gz", folder, name);
	scratch_write(path, "", 0);
	snprintf(path, sizeof(path), "%s/.mine", folder);
	scratch_write(path, "", 0);
	pt_store_clear_unfinished(folder);
	assert_int_equal(access(path, F_OK), 0);
	snprintf(path, sizeof(path), "%s/.%s.tmp.gz", folder, name);
	assert_int_equal(access(path, F_OK), -1);
	snprintf(path, sizeof(path), "%s/.%s.tmp", folder, name);
	assert_int_equal(access(path, F_OK), -1);
	remove_folder(folder);
}

static int count_file(const char *name, uint64_t bytes, void *ctx)
{
	assert_string_equal(name, "capture-20300101T120000.000Z-7-a+b.tar.gz");
	assert_int_equal(bytes, 3);
	++*(size_t *)ctx;
	return 0;
}

/* Only captures that are files can be opened, by no other way than their name. */
static void test_store_files(void **state)
{
#define NAME "capture-20300101T120000.000Z-7-a+b.tar.gz"
	static const char *const bad[] = {"",
					  ".",
					  "..",
					  "capture-",
					  "x",
					  "../" NAME,
					  "./" NAME,
					  "/" NAME,
					  NAME "/",
					  NAME "x",
					  "." NAME,
					  "capture-20300101T120000.000Z-7/../" NAME,
					  "capture-20300101T120000.000Z-slow",
					  "capture-20300101T120000.000Z-7-\xc3\xa9.tar.gz",
					  "capture-20300101T120000.000Z .tar.gz",
					  "capture-20300101T120000.000Z-l.tar.gz",
					  "capture-20300101T120000.000Z-d.tar.gz"};
	char folder[256], path[512];
	uint64_t bytes = 0;
	size_t count = 0;
	int fd;

	snprintf(folder, sizeof(folder), "%s", scratch_path("files"));
	assert_int_equal(mkdir(folder, 0700), 0);
	assert_int_equal(pt_store_open_file(folder, NAME, &bytes), -ENOENT);
	snprintf(path, sizeof(path), "%s/%s", folder, NAME);
	scratch_write(path, "abc", 3);
	snprintf(path, sizeof(path), "%s/capture-20300101T120000.000Z-l.tar.gz", folder);
	assert_int_equal(symlink("/etc/passwd", path), 0);
	snprintf(path, sizeof(path), "%s/capture-20300101T120000.000Z-d.tar.gz", folder);
	assert_int_equal(mkdir(path, 0700), 0);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (pt_store_open_file(folder, bad[i], &bytes) >= 0)
			fail_msg("'%s' was opened", bad[i]);
	fd = pt_store_open_file(folder, NAME, &bytes);
	assert_true(fd >= 0);
	close(fd);
	assert_int_equal(bytes, 3);
	assert_int_equal(pt_store_each_file(folder, count_file, &count), 0);
	assert_int_equal(count, 1);
	assert_int_equal(pt_store_each_file("/nowhere", count_file, &count), -ENOENT);
	remove_folder(folder);
}

static void test_container_id(void **state)
{
#define ID "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	char id[PT_CONTAINER_ID_CHARS + 1];

	assert_true(pt_container_id("0::/system.slice/docker-" ID ".scope\n", id));
	assert_string_equal(id, ID);
	assert_true(pt_container_id("12:cpu:/kubepods/pod1/" ID "\n0::/x\n", id));
	assert_true(pt_container_id("0::/machine.slice/libpod-" ID ".scope/container", id));
	assert_false(pt_container_id("0::/user.slice/user-1000.slice/session-3.scope\n", id));
	assert_false(pt_container_id("0::/a" ID "\n", id)); /* 65 digits */
	assert_false(pt_container_id("", id));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_parse),         cmocka_unit_test(test_ring_memory),
	    cmocka_unit_test(test_ring_time),     cmocka_unit_test(test_ring_refuses),
	    cmocka_unit_test(test_slow),          cmocka_unit_test(test_slow_runs),
	    cmocka_unit_test(test_exits),         cmocka_unit_test(test_hang),
	    cmocka_unit_test(test_memory),        cmocka_unit_test(test_outside),
	    cmocka_unit_test(test_capture),       cmocka_unit_test(test_capture_again),
	    cmocka_unit_test(test_capture_fails), cmocka_unit_test(test_store),
	    cmocka_unit_test(test_container_id),  cmocka_unit_test(test_html),
	    cmocka_unit_test(test_device_memory), cmocka_unit_test(test_request),
	    cmocka_unit_test(test_request_tasks), cmocka_unit_test(test_tar),
	    cmocka_unit_test(test_store_files),   cmocka_unit_test(test_ask),
	};

	return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
