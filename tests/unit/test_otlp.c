// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/* OTLP messages hold what the text of /metrics says, no more and no less; and what is sent of them:
 * to a collector that is there, is away, is busy, refuses. */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>
#include <microhttpd.h>
#include <zlib.h>

#include "agent/otlp.h"
#include "base/buf.h"
#include "otlp.pb-c.h"
#include "scratch.h"
#include "sink/otlp.h"

#define START 5000000000ull
#define NOW   9000000000ull
#define SHIFT 1700000000000000000ull

static const struct pt_series_name calls = {"calls_total", "Calls.", PT_SERIES_COUNTER,
					    PT_SERIES_PLAIN};
static const struct pt_series_name seconds = {"self_seconds_total", "Time.", PT_SERIES_COUNTER,
					      PT_SERIES_NS};
static const struct pt_series_name memory = {"memory_bytes", "Memory.", PT_SERIES_GAUGE,
					     PT_SERIES_BYTES};

/* Two processes, all others, and the agent. */
static void walk(const struct pt_series_sink *sink, void *ctx)
{
	static const struct pt_series_sample samples[] = {
	    {.process = "a\"b", .pid = 7, .since_ns = 6000000000ull, .value = 1},
	    {.process = "c", .pid = 7, .value = 2},
	    {.process = "c", .pid = 8, .value = UINT32_MAX},
	    {.process = "ended", .value = 4},
	    {.value = 1500000000},
	    {.process = "c",
	     .pid = 8,
	     .labels = {{"function", "f"}, {"file", "/\xc3\xa4\\.py"}, {"line", "3"}},
	     .value = 6},
	};
	const struct pt_series_name *names[] = {&calls, &seconds, &memory};

	for (size_t n = 0; n < 3; n++) {
		sink->name(names[n], sink->ctx);
		for (size_t i = 0; i < sizeof(samples) / sizeof(samples[0]); i++)
			sink->sample(names[n], &samples[i], sink->ctx);
	}
}

static const struct pt_series_label attributes[] = {{"k8s.node.name", "n"}};
static const struct pt_otlp_source source = {.host = "h",
					     .version = "1",
					     .attributes = attributes,
					     .attribute_count = 1,
					     .start_ns = START,
					     .since_1970_ns = SHIFT};

static const char *attribute(size_t count, Otlp__Attribute **list, const char *key, int64_t *number)
{
	for (size_t i = 0; i < count; i++) {
		if (strcmp(list[i]->key, key) != 0)
			continue;
		if (list[i]->value->value_case == OTLP__VALUE__VALUE_TEXT)
			return list[i]->value->text;
		*number = list[i]->value->number;
	}
	return NULL;
}

/* The sample that a point was made of; a process' name and pid are the resource's. */
static void read_point(const Otlp__Metric *metric, const Otlp__Resource *resource,
		       const Otlp__Point *point, const struct pt_series_sink *text)
{
	bool sum = metric->data_case == OTLP__METRIC__DATA_SUM;
	bool real = point->value_case == OTLP__POINT__VALUE_REAL;
	struct pt_series_name name = {metric->name, metric->description,
				      sum ? PT_SERIES_COUNTER : PT_SERIES_GAUGE,
				      real ? PT_SERIES_NS : PT_SERIES_PLAIN};
	struct pt_series_sample sample = {0};
	int64_t pid = 0;
	size_t n = 0;

	attribute(resource->n_attributes, resource->attributes, "process.pid", &pid);
	sample.pid = (pid_t)pid;
	if (pid)
		sample.process = attribute(resource->n_attributes, resource->attributes,
					   "service.name", &pid);
	for (size_t i = 0; i < point->n_attributes; i++) {
		const Otlp__Attribute *a = point->attributes[i];

		if (!strcmp(a->key, "process"))
			sample.process = a->value->text;
		else if (strcmp(a->key, "pid") != 0)
			sample.labels[n++] = (struct pt_series_label){a->key, a->value->text};
	}
	sample.value = real ? (uint64_t)(point->real * 1e9 + 0.5) : (uint64_t)point->number;
	assert_int_equal(point->time_ns, SHIFT + NOW);
	assert_int_equal(point->start_ns,
			 sum ? SHIFT + (sample.process && !strcmp(sample.process, "a\"b")
					    ? 6000000000ull
					    : START)
			     : 0);
	text->sample(&name, &sample, text->ctx);
}

static void read_message(const struct pt_buf *packed, const struct pt_series_sink *text)
{
	Otlp__Metrics *message = otlp__metrics__unpack(NULL, packed->len,
						       (const uint8_t *)packed->data);

	assert_non_null(message);
	for (size_t r = 0; r < message->n_resources; r++) {
		const Otlp__ResourceMetrics *resource = message->resources[r];
		int64_t none;

		assert_string_equal(attribute(resource->resource->n_attributes,
					      resource->resource->attributes, "host.name", &none),
				    "h");
		assert_string_equal(attribute(resource->resource->n_attributes,
					      resource->resource->attributes, "k8s.node.name",
					      &none),
				    "n");
		assert_int_equal(resource->n_scopes, 1);
		for (size_t m = 0; m < resource->scopes[0]->n_metrics; m++) {
			const Otlp__Metric *metric = resource->scopes[0]->metrics[m];
			bool sum = metric->data_case == OTLP__METRIC__DATA_SUM;
			size_t count = sum ? metric->sum->n_points : metric->gauge->n_points;

			if (sum)
				assert_true(metric->sum->monotonic &&
					    metric->sum->temporality ==
						OTLP__TEMPORALITY__CUMULATIVE);
			for (size_t p = 0; p < count; p++)
				read_point(metric, resource->resource,
					   sum ? metric->sum->points[p] : metric->gauge->points[p],
					   text);
		}
	}
	otlp__metrics__free_unpacked(message, NULL);
}

static int compare(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The lines with values, sorted. */
static char **lines_of(struct pt_buf *text, size_t *count)
{
	char *rest, *line, **lines = calloc(1000, sizeof(*lines));

	pt_buf_add(text, "", 1);
	rest = text->data;
	*count = 0;
	while ((line = strsep(&rest, "\n")))
		if (*line && *line != '#')
			lines[(*count)++] = line;
	qsort(lines, *count, sizeof(*lines), compare);
	return lines;
}

static void test_same_as_text(void **state)
{
	struct pt_buf expected = {0}, got = {0};
	struct pt_series_sink text = pt_series_text(&expected), sink;
	const struct pt_buf *messages;
	size_t count, expected_count, got_count;
	char **expected_lines, **got_lines;
	struct pt_otlp *otlp;

	walk(&text, NULL);
	assert_int_equal(pt_otlp_new(&source, SHIFT + NOW, &otlp), 0);
	sink = pt_otlp_sink(otlp);
	walk(&sink, NULL);
	assert_int_equal(pt_otlp_finish(otlp, &messages, &count), 0);
	assert_int_equal(count, 1);
	text = pt_series_text(&got);
	read_message(&messages[0], &text);
	/* here "bytes" and plain numbers look the same, and seconds have all digits */
	expected_lines = lines_of(&expected, &expected_count);
	got_lines = lines_of(&got, &got_count);
	assert_int_equal(expected_count, 18);
	assert_int_equal(got_count, expected_count);
	for (size_t i = 0; i < got_count; i++)
		assert_string_equal(got_lines[i], expected_lines[i]);
	free(expected_lines);
	free(got_lines);
	pt_buf_release(&expected);
	pt_buf_release(&got);
	pt_otlp_free(otlp);
}

/* A long walk becomes several messages, none of them too long, and nothing is missing. */
static void test_split(void **state)
{
	const struct pt_buf *messages;
	struct pt_series_sink sink;
	struct pt_buf text = {0};
	struct pt_otlp *otlp;
	size_t count, all = 2 * PT_OTLP_POINTS_MAX + 5, found = 0;

	assert_int_equal(pt_otlp_new(&source, SHIFT + NOW, &otlp), 0);
	sink = pt_otlp_sink(otlp);
	sink.name(&calls, sink.ctx);
	for (size_t i = 0; i < all; i++) {
		const struct pt_series_sample sample = {
		    .process = "p", .pid = (pid_t)(i % 100 + 1), .value = i};

		sink.sample(&calls, &sample, sink.ctx);
	}
	assert_int_equal(pt_otlp_finish(otlp, &messages, &count), 0);
	assert_int_equal(count, 3);
	sink = pt_series_text(&text);
	for (size_t i = 0; i < count; i++)
		read_message(&messages[i], &sink);
	for (const char *p = text.data; p < text.data + text.len; p++)
		found += *p == '\n';
	assert_int_equal(found, all);
	pt_buf_release(&text);
	pt_otlp_free(otlp);

	assert_int_equal(pt_otlp_new(&source, SHIFT + NOW, &otlp), 0);
	assert_int_equal(pt_otlp_finish(otlp, &messages, &count), 0);
	assert_int_equal(count, 0);
	pt_otlp_free(otlp);
}

/* Nothing begins after it is told. */
static void test_clock_set_back(void **state)
{
	const struct pt_buf *messages;
	struct pt_series_sink sink;
	Otlp__Metrics *message;
	struct pt_otlp *otlp;
	size_t count;

	assert_int_equal(pt_otlp_new(&source, SHIFT, &otlp), 0);
	sink = pt_otlp_sink(otlp);
	walk(&sink, NULL);
	assert_int_equal(pt_otlp_finish(otlp, &messages, &count), 0);
	message = otlp__metrics__unpack(NULL, messages[0].len, (const uint8_t *)messages[0].data);
	assert_int_equal(message->resources[0]->scopes[0]->metrics[0]->sum->points[0]->start_ns,
			 SHIFT);
	otlp__metrics__free_unpacked(message, NULL);
	pt_otlp_free(otlp);
}

static void test_answer(void **state)
{
	uint64_t rejected;
	char reason[8];

	assert_int_equal(pt_otlp_answer("", 0, &rejected, reason, sizeof(reason)), 0);
	assert_int_equal(rejected, 0);
	assert_int_equal(pt_otlp_answer("\x0a\x0b\x08\x03\x12\x07too bad", 13, &rejected, reason,
					sizeof(reason)),
			 0);
	assert_int_equal(rejected, 3);
	assert_string_equal(reason, "too bad");
	assert_int_equal(pt_otlp_answer("{\"a\":1}", 7, &rejected, reason, sizeof(reason)),
			 -EBADMSG);
}

static void test_resource(void **state)
{
	struct agent_resource resource;
	char host[256] = "";

	gethostname(host, sizeof(host) - 1);
	assert_int_equal(agent_resource_init(&resource, NULL), 0);
	assert_string_equal(resource.host, host);
	agent_resource_release(&resource);
	assert_int_equal(agent_resource_init(
			     &resource, " a=b , host.name=x%2cy,service.name=no,k8s.pod=%C3%A4,,"),
			 0);
	assert_string_equal(resource.host, "x,y");
	assert_int_equal(resource.attribute_count, 2);
	assert_string_equal(resource.attributes[0].key, "a");
	assert_string_equal(resource.attributes[0].value, "b");
	assert_string_equal(resource.attributes[1].value, "\xc3\xa4");
	agent_resource_release(&resource);
	for (const char *const *p = (const char *const[]){"a", "=b", "a=%", "a=%4", "a=%zz",
							  "a=%ff", "a=%00", "host.name=x,b", NULL};
	     *p; p++) {
		assert_int_equal(agent_resource_init(&resource, *p), -EBADMSG);
		assert_string_equal(resource.host, host);
		assert_int_equal(resource.attribute_count, 0);
		agent_resource_release(&resource);
	}
}

/* ---- a collector ---- */

static void rest(void)
{
	nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
}

static struct {
	pthread_mutex_t lock;
	struct MHD_Daemon *daemon;
	uint16_t port;
	unsigned int statuses[8]; /* to answer with, in this order; 0: as before */
	size_t asked, taken;      /* requests, and those that were answered with 200 */
	bool partial, bad;
} collector = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void check_body(const struct pt_buf *body, struct MHD_Connection *connection)
{
	static unsigned char plain[1 << 20];
	z_stream stream = {.next_in = (Bytef *)body->data,
			   .avail_in = (uInt)body->len,
			   .next_out = plain,
			   .avail_out = sizeof(plain)};
	Otlp__Metrics *message = NULL;
	const char *type = MHD_lookup_connection_value(connection, MHD_HEADER_KIND, "Content-Type");
	const char *coding = MHD_lookup_connection_value(connection, MHD_HEADER_KIND,
							 "Content-Encoding");
	const char *secret = MHD_lookup_connection_value(connection, MHD_HEADER_KIND, "X-Secret");

	if (inflateInit2(&stream, 15 + 16) == Z_OK && inflate(&stream, Z_FINISH) == Z_STREAM_END)
		message = otlp__metrics__unpack(NULL, stream.total_out, plain);
	inflateEnd(&stream);
	collector.bad |= !message || message->n_resources != 4 || !type ||
			 strcmp(type, "application/x-protobuf") != 0 || !coding ||
			 strcmp(coding, "gzip") != 0 || !secret || strcmp(secret, "s") != 0;
	if (message)
		otlp__metrics__free_unpacked(message, NULL);
}

static enum MHD_Result answer(struct MHD_Connection *connection)
{
	static const char refused[] = "\x0a\x02\x08\x02";
	unsigned int status = collector.statuses[collector.asked];
	struct MHD_Response *response;
	enum MHD_Result result;

	if (status && collector.asked < 7)
		collector.asked++;
	else
		status = 200;
	collector.taken += status == 200;
	response = MHD_create_response_from_buffer(status == 200 && collector.partial ? 4 : 0,
						   (void *)(uintptr_t)refused,
						   MHD_RESPMEM_PERSISTENT);
	if (status == 429)
		MHD_add_response_header(response, "Retry-After", "1");
	result = MHD_queue_response(connection, status, response);
	MHD_destroy_response(response);
	return result;
}

static enum MHD_Result on_request(void *ctx, struct MHD_Connection *connection, const char *url,
				  const char *method, const char *version, const char *data,
				  size_t *len, void **state)
{
	struct pt_buf *body = *state;
	enum MHD_Result result;

	if (!body) {
		*state = calloc(1, sizeof(*body));
		return *state ? MHD_YES : MHD_NO;
	}
	if (*len) {
		pt_buf_add(body, data, *len);
		*len = 0;
		return MHD_YES;
	}
	pthread_mutex_lock(&collector.lock);
	collector.bad |= strcmp(url, "/x/v1/metrics") != 0 || strcmp(method, "POST") != 0;
	check_body(body, connection);
	result = answer(connection);
	pthread_mutex_unlock(&collector.lock);
	pt_buf_release(body);
	free(body);
	*state = NULL;
	return result;
}

/* The port stays the same, and is none that the kernel gives away meanwhile. */
static void collector_start(void)
{
	for (unsigned int i = 0; !collector.daemon && i < 1000; i++) {
		uint16_t port = collector.port ? collector.port
					       : (uint16_t)(20000 + (getpid() + i * 37) % 12000);

		collector.daemon = MHD_start_daemon(
		    MHD_USE_INTERNAL_POLLING_THREAD, port, NULL, NULL, on_request, NULL,
		    MHD_OPTION_LISTENING_ADDRESS_REUSE, 1u, MHD_OPTION_END);
		if (collector.daemon)
			collector.port = port;
		else
			rest();
	}
	assert_non_null(collector.daemon);
}

static void collector_stop(void)
{
	MHD_stop_daemon(collector.daemon);
	collector.daemon = NULL;
}

static size_t taken(void)
{
	size_t count;

	pthread_mutex_lock(&collector.lock);
	count = collector.taken;
	pthread_mutex_unlock(&collector.lock);
	return count;
}

static struct agent_otlp_stats stats;
static char endpoint[64], header[] = "X-Secret: s";
static struct agent_otlp_config config;

static struct agent_otlp *start(void)
{
	struct agent_otlp_options options = {
	    .config = &config, .stats = &stats, .backoff_ns = 20000000, .collect = walk};
	struct agent_otlp *otlp;
	struct pt_err err = {0};

	snprintf(endpoint, sizeof(endpoint), "http://127.0.0.1:%u/x/", collector.port);
	config.endpoint = endpoint;
	config.headers[0] = header;
	config.header_count = 1;
	config.timeout_ns = 60000000000ull;
	if (!config.interval_ns)
		config.interval_ns = 20000000;
	config.spool_bytes = 1 << 20;
	if (agent_otlp_start(&options, &otlp, &err))
		fail_msg("%s", err.what);
	return otlp;
}

/* What was collected is sent, sooner or later: away, busy, slow, or there. */
static void test_sent(void **state)
{
	static const unsigned int statuses[] = {503, 502, 504, 429, 200};
	struct agent_otlp *otlp;
	struct timespec begin, end;

	collector_start();
	memcpy(collector.statuses, statuses, sizeof(statuses));
	clock_gettime(CLOCK_MONOTONIC, &begin);
	otlp = start();
	while (taken() < 5)
		rest();
	clock_gettime(CLOCK_MONOTONIC, &end);
	/* Retry-After: 1 */
	assert_true((end.tv_sec - begin.tv_sec) * 1000 + (end.tv_nsec - begin.tv_nsec) / 1000000 >=
		    1000);
	assert_int_equal(stats.retries[AGENT_OTLP_BUSY], 4);
	/* it goes away and comes back */
	collector_stop();
	while (stats.retries[AGENT_OTLP_UNREACHABLE] < 3 || stats.outbox.messages < 5)
		rest();
	collector_start();
	while (stats.outbox.messages)
		rest();
	assert_int_equal(stats.outbox.dropped, 0);
	agent_otlp_stop(otlp, false);
	assert_true(stats.sent <= taken()); /* an answer may have been cut off */
	assert_int_equal(stats.refused, 0);
	assert_int_equal(stats.refused_items, 0);
	assert_false(collector.bad);
	collector_stop();
}

/* What is refused for good is not sent again; what is refused in part is counted. */
static void test_refused(void **state)
{
	static const unsigned int statuses[] = {400, 500, 301};
	struct agent_otlp *otlp;

	memset(&stats, 0, sizeof(stats));
	memset(collector.statuses, 0, sizeof(collector.statuses));
	memcpy(collector.statuses, statuses, sizeof(statuses));
	collector.asked = collector.taken = 0;
	collector.partial = true;
	collector_start();
	otlp = start();
	while (taken() < 2)
		rest();
	agent_otlp_stop(otlp, false);
	assert_int_equal(stats.refused, 3);
	assert_true(stats.refused_items >= 4 && stats.refused_items == 2 * stats.sent);
	assert_int_equal(stats.retries[AGENT_OTLP_BUSY], 0);
	assert_false(collector.bad);
	collector_stop();
}

/* Nobody there until the end: what was collected waits for the next one. */
static void test_kept(void **state)
{
	struct agent_otlp *otlp;
	size_t before, waiting;
	char lock[600];

	memset(&stats, 0, sizeof(stats));
	memset(collector.statuses, 0, sizeof(collector.statuses));
	config.spool_dir = strdup(scratch_path("spool"));
	otlp = start();
	while (stats.outbox.messages < 4)
		rest();
	agent_otlp_stop(otlp, true);
	assert_int_equal(stats.outbox.messages, 0); /* of ours */
	assert_int_equal(stats.outbox.dropped, 0);
	collector_start();
	before = taken();
	config.interval_ns = 3600000000000ull; /* chance decides when: most likely not now */
	otlp = start();
	waiting = stats.outbox.messages;
	while (stats.outbox.messages)
		rest();
	agent_otlp_stop(otlp, false);
	assert_true(waiting <= taken() - before);
	assert_true(taken() - before >= 4);
	assert_int_equal(stats.sent, taken() - before);
	assert_false(collector.bad);
	collector_stop();
	snprintf(lock, sizeof(lock), "%s/lock", config.spool_dir);
	unlink(lock);
	rmdir(config.spool_dir);
	free(config.spool_dir);
	config.spool_dir = NULL;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_same_as_text),   cmocka_unit_test(test_split),
	    cmocka_unit_test(test_clock_set_back), cmocka_unit_test(test_answer),
	    cmocka_unit_test(test_resource),       cmocka_unit_test(test_sent),
	    cmocka_unit_test(test_refused),        cmocka_unit_test(test_kept),
	};

	return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
