// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/* Slow requests: which become traces, with what inside of them, and what is only counted. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "agent/config.h"
#include "agent/trace_calls.h"
#include "agent/traces.h"
#include "base/clock.h"
#include "model/model.h"
#include "otlp.pb-c.h"
#include "rec_builder.h"

#define MS 1000000ull
#define S  1000000000ull

/* Codes of watched processes. */
enum {
	MAIN = 1,
	SERVER, /* a request of gunicorn's */
	FLASK,  /* a request of Flask's */
	DISPATCH,
	METHOD_VIEW,
	VIEW,
	QUERY,
	DJANGO,
	RESPONSE,
	MIDDLEWARE,
	DECORATOR,
	RENDER,
	TASK, /* a request of uvicorn's */
	ANSWERED,
	JOB,
};

struct watched {
	struct agent_config *config;
	struct agent_trace_stats stats;
	struct agent_traces *traces;
	struct agent_trace_watch *watch;
	struct pt_model *model;
	struct rec_builder builder;
	struct rec_thread thread;
	char text[2048];
};

static int on_op(const struct pt_op *op, void *ctx)
{
	agent_trace_watch_op(((struct watched *)ctx)->watch, op);
	return 0;
}

static int put(const struct pt_rec *record, size_t len, void *ctx)
{
	return pt_model_record(((struct watched *)ctx)->model, record, len);
}

static void define(struct rec_builder *b)
{
	rec_code(b, MAIN, "main", "main", "/app/main.py", 1);
	rec_code(b, SERVER, "handle_request", "SyncWorker.handle_request",
		 "/x/gunicorn/workers/sync.py", 2);
	rec_code(b, FLASK, "wsgi_app", "Flask.wsgi_app", "/x/flask/app.py", 3);
	rec_code(b, DISPATCH, "dispatch_request", "Flask.dispatch_request", "/x/flask/app.py", 4);
	rec_code(b, METHOD_VIEW, "view", "View.as_view.<locals>.view", "/x/flask/views.py", 5);
	rec_code(b, VIEW, "show", "show", "/app/flask/views.py", 6);
	rec_code(b, QUERY, "query", "DB.query", "/app/db.py", 7);
	rec_code(b, DJANGO, "__call__", "WSGIHandler.__call__", "/x/django/core/handlers/wsgi.py",
		 8);
	rec_code(b, RESPONSE, "_get_response", "BaseHandler._get_response",
		 "/x/django/core/handlers/base.py", 9);
	rec_code(b, MIDDLEWARE, "process_view", "Mine.process_view", "/app/middleware.py", 10);
	rec_code(b, DECORATOR, "_view_wrapper", "csrf_exempt.<locals>._view_wrapper",
		 "/x/django/views/decorators/csrf.py", 11);
	rec_code(b, RENDER, "render", "SimpleTemplateResponse.render",
		 "/x/django/template/response.py", 12);
	rec_code_flags(b, TASK, "run_asgi", "/x/uvicorn/protocols/http/h11_impl.py", 13, 0x80);
	rec_code(b, ANSWERED, "on_response_complete", "H11Protocol.on_response_complete",
		 "/x/uvicorn/protocols/http/h11_impl.py", 14);
	rec_code_flags(b, JOB, "job", "/app/jobs.py", 15, 0x80);
}

/* Requests of more than a second; json: further members of "traces". */
static void start(struct watched *w, const char *json)
{
	static const struct pt_capture_info info = {.start_mono_ns = S};
	static const struct pt_model_options model;
	char text[400];

	*w = (struct watched){0};
	snprintf(text, sizeof(text),
		 "{\"record\": {\"engine\": \"exact\"}, \"otlp\": {\"endpoint\": \"http://x\"},"
		 "\"rules\": [{\"traces\": {\"slower_than\": \"1s\"%s}}]}",
		 json);
	assert_int_equal(agent_config_parse("f", text, &w->config, NULL), 0);
	assert_int_equal(agent_traces_new(w->config, &w->stats, &w->traces, NULL), 0);
	assert_int_equal(agent_trace_watch_new(w->traces, &w->watch), 0);
	agent_trace_watch_attached(w->watch, 10, &w->config->rules[0], "3.11.2");
	assert_int_equal(pt_model_new(&model, &info, on_op, w, &w->model), 0);
	rec_init(&w->builder, put, w);
	w->thread = rec_thread(10, 11, 1, "main");
	rec_proc(&w->builder, PT_PROC_ATTACH, 10, 1, S, 1, "web", "", 0);
	define(&w->builder);
	batch_begin(&w->builder, &w->thread, 2 * S);
	batch_snap(&w->builder, NULL, 0, 0, 2 * S);
}

static void go_on(struct watched *w, uint64_t ns)
{
	batch_end(&w->builder, 0);
	agent_trace_watch_complete(w->watch, w->model, ns);
	batch_begin(&w->builder, &w->thread, ns);
}

/* All spans of the next trace: "PARENT:NAME:MS ..", from 1 on; "": there is none. */
static const char *next(struct watched *w)
{
	struct pt_otlp_trace *trace;
	int len = 0;

	w->text[0] = '\0';
	if (!agent_traces_take(w->traces, &trace, 1))
		return w->text;
	assert_string_equal(trace->service, "web");
	assert_int_equal(trace->pid, 10);
	for (size_t i = 0; i < trace->span_count; i++) {
		const struct pt_otlp_span *span = &trace->spans[i];

		assert_true(i ? span->parent < i : !span->parent);
		len += snprintf(w->text + len, sizeof(w->text) - (size_t)len, "%s%zu:%s:%llu",
				i ? " " : "", i ? span->parent + 1 : 0, span->name,
				(unsigned long long)((span->end_ns - span->begin_ns) / MS));
	}
	pt_otlp_trace_free(trace);
	return w->text;
}

static void finish(struct watched *w, uint64_t told, uint64_t over_limit, uint64_t incomplete)
{
	batch_end(&w->builder, 0);
	assert_int_equal(w->builder.rc, 0);
	pt_model_finish(w->model, &(struct pt_totals){0});
	agent_trace_watch_free(w->watch);
	pt_model_free(w->model);
	assert_int_equal(w->stats.results[AGENT_TRACE_TOLD], told);
	assert_int_equal(w->stats.results[AGENT_TRACE_OVER_LIMIT], over_limit);
	assert_int_equal(w->stats.results[AGENT_TRACE_INCOMPLETE], incomplete);
	assert_int_equal(w->stats.results[AGENT_TRACE_NO_ROOM], 0);
	agent_traces_free(w->traces);
	agent_config_free(w->config);
}

/* ---- calls ---- */

/* The framework within the server is the same request, whenever it is looked at; what only calls
 * something else is left out, but for the program's own function. */
static void test_nested(void **state)
{
	struct watched w;

	start(&w, "");
	batch_enter(&w.builder, MAIN, 3 * S);
	batch_enter(&w.builder, SERVER, 10 * S);
	batch_enter(&w.builder, FLASK, 10 * S + 100 * MS);
	batch_enter(&w.builder, DISPATCH, 10 * S + 101 * MS);
	batch_enter(&w.builder, METHOD_VIEW, 10 * S + 102 * MS);
	batch_enter(&w.builder, VIEW, 10 * S + 103 * MS);
	batch_enter(&w.builder, QUERY, 10 * S + 104 * MS);
	batch_exit(&w.builder, 11 * S + 204 * MS);
	batch_exit(&w.builder, 11 * S + 205 * MS);
	batch_exit(&w.builder, 11 * S + 206 * MS);
	batch_exit(&w.builder, 11 * S + 207 * MS);
	batch_exit(&w.builder, 11 * S + 208 * MS);
	go_on(&w, 11 * S + 300 * MS);
	assert_string_equal(next(&w), ""); /* the server still is at it */
	batch_exit(&w.builder, 13 * S);
	batch_enter(&w.builder, SERVER, 14 * S);
	batch_enter(&w.builder, QUERY, 14 * S + MS);
	batch_exit(&w.builder, 14 * S + 999 * MS);
	batch_exit(&w.builder, 15 * S); /* not longer than */
	batch_enter(&w.builder, SERVER, 16 * S);
	go_on(&w, 16 * S + MS); /* another one is open; it is none around it */
	assert_string_equal(next(&w), "0:show:3000 1:show:1102 2:DB.query:1100");
	batch_exit(&w.builder, 17 * S + 1 * MS);
	go_on(&w, 18 * S);
	assert_string_equal(next(&w), "0:SyncWorker.handle_request:1001");
	assert_string_equal(next(&w), "");
	finish(&w, 2, 0, 0);
}

static void test_django(void **state)
{
	struct watched w;

	start(&w, ", \"calls\": 1");
	batch_enter(&w.builder, DJANGO, 10 * S);
	batch_enter(&w.builder, RESPONSE, 10 * S + 1 * MS);
	batch_enter(&w.builder, MIDDLEWARE, 10 * S + 2 * MS);
	batch_exit(&w.builder, 10 * S + 102 * MS);
	batch_enter(&w.builder, DECORATOR, 10 * S + 103 * MS);
	batch_enter(&w.builder, VIEW, 10 * S + 104 * MS);
	batch_exit(&w.builder, 10 * S + 304 * MS);
	batch_exit(&w.builder, 10 * S + 305 * MS);
	batch_enter(&w.builder, RENDER, 10 * S + 400 * MS);
	batch_enter(&w.builder, QUERY, 10 * S + 401 * MS);
	batch_exit(&w.builder, 11 * S + 401 * MS);
	batch_exit(&w.builder, 11 * S + 402 * MS);
	batch_exit(&w.builder, 11 * S + 403 * MS);
	batch_exit(&w.builder, 11 * S + 404 * MS);
	go_on(&w, 20 * S);
	assert_string_equal(next(&w), "0:show:1404 1:show:200 1:DB.query:1000");
	/* what the program's function took is too short to be known */
	batch_enter(&w.builder, DJANGO, 20 * S);
	batch_enter(&w.builder, RESPONSE, 20 * S + 1 * MS);
	batch_enter(&w.builder, VIEW, 20 * S + 2 * MS);
	batch_exit(&w.builder, 20 * S + 3 * MS);
	batch_enter(&w.builder, RENDER, 20 * S + 4 * MS);
	batch_exit(&w.builder, 22 * S);
	batch_exit(&w.builder, 22 * S + 1 * MS);
	batch_exit(&w.builder, 22 * S + 2 * MS);
	go_on(&w, 30 * S);
	assert_string_equal(next(&w),
			    "0:WSGIHandler.__call__:2002 1:SimpleTemplateResponse.render:1996");
	finish(&w, 2, 0, 0);
}

static void request(struct watched *w, uint64_t ns, uint64_t took_ns)
{
	batch_enter(&w->builder, SERVER, ns);
	batch_exit(&w->builder, ns + took_ns);
}

/* What was not seen whole is counted; so is what is too much. */
static void test_counted(void **state)
{
	static const uint32_t open[] = {SERVER};
	struct watched w;

	start(&w, ", \"per_minute\": 2");
	batch_snap(&w.builder, open, 1, 1, 3 * S);
	batch_exit(&w.builder, 10 * S); /* when did it begin? */
	for (uint64_t i = 0; i < 5; i++)
		request(&w, (10 + 3 * i) * S, 2 * S);
	go_on(&w, 30 * S);
	assert_string_equal(next(&w), "0:SyncWorker.handle_request:2000");
	assert_string_equal(next(&w), "0:SyncWorker.handle_request:2000");
	assert_string_equal(next(&w), "");
	request(&w, 30 * S, MS);
	batch_enter(&w.builder, SERVER, 31 * S);
	batch_enter(&w.builder, QUERY, 34 * S);
	batch_exit(&w.builder, 35 * S);
	finish(&w, 2, 3, 1); /* and one that is open is none yet */
}

static void test_loss(void **state)
{
	struct watched w;

	start(&w, "");
	batch_enter(&w.builder, SERVER, 10 * S);
	batch_end(&w.builder, 0);
	w.thread.seq++; /* a batch is missing */
	w.thread.events += 2;
	batch_begin(&w.builder, &w.thread, 11 * S);
	batch_snap(&w.builder, (const uint32_t[]){SERVER}, 1, 1, 11 * S);
	batch_exit(&w.builder, 13 * S);
	request(&w, 14 * S, 2 * S);
	go_on(&w, 20 * S);
	assert_string_equal(next(&w), "0:SyncWorker.handle_request:2000");
	finish(&w, 1, 0, 1);
}

/* Of another rule, or of none. */
static void test_others(void **state)
{
	struct agent_rule other = {.include = true};
	struct watched w;

	start(&w, "");
	request(&w, 10 * S, 2 * S);
	go_on(&w, 20 * S);
	assert_string_equal(next(&w), "0:SyncWorker.handle_request:2000");
	agent_trace_watch_attached(w.watch, 10, &other, "3.11.2"); /* it has executed something */
	request(&w, 20 * S, 2 * S);
	finish(&w, 1, 0, 0);
}

/* ---- tasks ---- */

static void step(struct watched *w, uint64_t object, uint32_t code, uint64_t ns, uint64_t took_ns,
		 bool answers)
{
	batch_coro(&w->builder, object, ns);
	batch_enter(&w->builder, code, ns);
	batch_enter(&w->builder, QUERY, ns + MS);
	batch_exit(&w->builder, ns + took_ns - 2 * MS);
	if (answers) {
		batch_enter(&w->builder, ANSWERED, ns + took_ns - MS);
		batch_exit(&w->builder, ns + took_ns - MS / 2);
	}
	batch_exit(&w->builder, ns + took_ns);
	batch_enter(&w->builder, MAIN, ns + took_ns + MS); /* the loop goes on */
	batch_exit(&w->builder, ns + took_ns + 2 * MS);
}

static void made(struct watched *w, uint64_t object, uint64_t ns)
{
	batch_enter(&w->builder, MAIN, ns);
	batch_task(&w->builder, object, ns);
	batch_exit(&w->builder, ns + MS);
}

/* Requests of one thread that overlap: each has its own calls and waits, up to its answer. */
static void test_tasks(void **state)
{
	enum { FIRST = PT_CORO_FIRST };
	const uint64_t a = 0x7f0000001000, b = 0x7f0000002000, c = 0x7f0000003000;
	const uint64_t d = 0x7f0000004000;
	struct watched w;

	start(&w, "");
	made(&w, a, 10 * S);
	step(&w, a | FIRST, TASK, 10 * S + 100 * MS, 100 * MS, false);
	made(&w, b, 10 * S + 500 * MS);
	step(&w, b | FIRST, TASK, 10 * S + 600 * MS, 10 * MS, false);
	made(&w, c, 10 * S + 700 * MS);
	step(&w, c | FIRST, JOB, 10 * S + 800 * MS, 100 * MS, false);
	step(&w, b, TASK, 11 * S, 10 * MS, true); /* 0.4 s */
	go_on(&w, 11 * S + 50 * MS);
	step(&w, c, JOB, 12 * S, 100 * MS, true); /* of nobody's request */
	step(&w, a, TASK, 12 * S + 200 * MS, 200 * MS, true);
	step(&w, a, TASK, 14 * S, 500 * MS, false); /* what it does then nobody waits for */
	step(&w, d, TASK, 15 * S, 10 * MS, false);  /* who knows when it began */
	step(&w, d, TASK, 17 * S, 10 * MS, true);
	go_on(&w, 20 * S);
	assert_string_equal(next(&w), "0:run_asgi:2299 1:DB.query:97 1:wait:1999 1:DB.query:197");
	assert_string_equal(next(&w), "");
	finish(&w, 1, 0, 1);
}

/* ---- which calls ---- */

static void add(struct agent_calls *calls, uint64_t id, uint64_t begin, uint64_t end)
{
	const struct agent_call call = {.id = id, .begin_ns = begin, .end_ns = end};

	assert_int_equal(agent_calls_add(calls, &call), 0);
}

static void assert_chosen(const struct agent_calls *calls, size_t max, uint64_t least,
			  const char *expected)
{
	struct agent_chosen *chosen;
	char text[200] = "";
	size_t count;

	chosen = agent_calls_choose(calls, 0, 1000, 9, least, max, NULL, &count);
	for (size_t i = 0; i < count; i++)
		snprintf(text + strlen(text), sizeof(text) - strlen(text), "%s%zu:%llu",
			 i ? " " : "", chosen[i].parent, (unsigned long long)chosen[i].call->id);
	free(chosen);
	assert_string_equal(text, expected);
}

static void test_choose(void **state)
{
	struct agent_calls calls = {0};

	assert_chosen(&calls, 10, 0, "");
	add(&calls, 1, 100, 300);
	add(&calls, 2, 310, 500);
	add(&calls, 3, 90, 510); /* two long ones: it tells them apart from others */
	add(&calls, 4, 80, 520); /* only calls 3 */
	add(&calls, 5, 600, 640);
	add(&calls, 6, 650, 1100); /* ends too late */
	add(&calls, 9, 0, 1000);   /* the request */
	assert_chosen(&calls, 10, 30, "0:3 1:1 1:2 0:5");
	assert_chosen(&calls, 10, 0, "0:4 1:3 2:1 2:2 0:5");
	assert_chosen(&calls, 2, 30, "0:3 1:1");
	assert_chosen(&calls, 0, 30, "");
	agent_calls_drop(&calls, 510);
	assert_int_equal(calls.count, 5);
	for (uint64_t i = 0; i < 3 * AGENT_CALLS_MAX; i++)
		add(&calls, 100 + i, 2000 + i, 2001 + i);
	assert_true(calls.count <= AGENT_CALLS_MAX);
	assert_chosen(&calls, 10, 30, "0:3 0:5"); /* longer ones stay */
	agent_calls_clear(&calls);
	assert_null(calls.items);
}

/* ---- messages ---- */

static const char *text_of(const Otlp__Resource *resource, const char *key)
{
	for (size_t i = 0; i < resource->n_attributes; i++)
		if (!strcmp(resource->attributes[i]->key, key))
			return resource->attributes[i]->value->text;
	return NULL;
}

static void test_message(void **state)
{
	static const struct pt_series_label attributes[] = {{"container.id", "given"}};
	const struct pt_otlp_source source = {
	    .host = "h", .version = "1", .attributes = attributes, .attribute_count = 1};
	struct pt_otlp_span spans[] = {
	    {.id = {1}, .begin_ns = 5, .end_ns = 9, .name = "r", .file = "/r.py", .line = 3},
	    {.id = {2}, .begin_ns = 6, .end_ns = 7, .name = "gc", .category = "gc", .file = ""}};
	struct pt_otlp_trace a = {.id = {7},
				  .pid = 1,
				  .service = "s",
				  .request = "R",
				  .version = "",
				  .container = "c",
				  .spans = spans,
				  .span_count = 2};
	struct pt_otlp_trace b = a, c = a;
	const struct pt_otlp_trace *const traces[] = {&a, &b, &c};
	struct pt_buf packed = {0};
	Otlp__Traces *message;
	const Otlp__Span *span;

	b.pid = 2;
	b.version = "3.11.2";
	assert_int_equal(pt_otlp_traces(&source, traces, 3, &packed), 0);
	message = otlp__traces__unpack(NULL, packed.len, (const uint8_t *)packed.data);
	assert_non_null(message);
	assert_int_equal(message->n_resources, 2);
	assert_int_equal(message->resources[0]->scopes[0]->n_spans, 4);
	assert_int_equal(message->resources[1]->scopes[0]->n_spans, 2);
	assert_string_equal(text_of(message->resources[0]->resource, "service.name"), "s");
	assert_string_equal(text_of(message->resources[0]->resource, "container.id"), "given");
	assert_null(text_of(message->resources[0]->resource, "process.runtime.version"));
	assert_string_equal(text_of(message->resources[1]->resource, "process.runtime.version"),
			    "3.11.2");
	span = message->resources[0]->scopes[0]->spans[0];
	assert_int_equal(span->trace_id.len, 16);
	assert_int_equal(span->parent_span_id.len, 0);
	assert_int_equal(span->kind, OTLP__SPAN_KIND__SERVER);
	assert_int_equal(span->n_attributes, 5);
	span = message->resources[0]->scopes[0]->spans[1];
	assert_memory_equal(span->parent_span_id.data, spans[0].id, 8);
	assert_int_equal(span->n_attributes, 1);
	assert_int_equal(span->end_ns, 7);
	otlp__traces__free_unpacked(message, NULL);
	pt_buf_release(&packed);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_nested),  cmocka_unit_test(test_django),
	    cmocka_unit_test(test_counted), cmocka_unit_test(test_loss),
	    cmocka_unit_test(test_others),  cmocka_unit_test(test_tasks),
	    cmocka_unit_test(test_choose),  cmocka_unit_test(test_message),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
