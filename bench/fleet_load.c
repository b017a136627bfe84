// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * fleet_load - what so many agents send and answer, from one process: the agent's own counters,
 * encoder, exporter, outbox and HTTP server, once for each host; only the calls are made up.
 *
 *   fleet_load HOSTS PROCESSES FUNCTIONS INTERVAL_MS ENDPOINT FIRST_PORT SPOOL_FOLDER
 *
 * Prints one line of JSON a second, until stdin ends. FIRST_PORT 0: no HTTP servers.
 */
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "agent/otlp.h"
#include "base/http.h"
#include "base/log.h"
#include "model/op.h"
#include "sink/metrics.h"

#define KNOWN      40 /* functions of a process, of which those with most self time have series */
#define OWN_SERIES 38 /* as the agent has of itself, with "otlp" */
#define SECOND_NS  1000000000ull

static struct pt_function functions[KNOWN];
static unsigned int process_count;

struct host {
	pthread_mutex_t lock; /* the exporter and the server make it go on */
	struct pt_metrics *metrics;
	struct agent_otlp *otlp;
	struct agent_otlp_config config;
	struct agent_otlp_stats stats;
	struct pt_http *http;
	uint64_t random, own;
	_Atomic uint64_t scrapes, scrape_bytes;
};

static uint64_t now_ns(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return (uint64_t)ts.tv_sec * SECOND_NS + (uint64_t)ts.tv_nsec;
}

static uint64_t chance(struct host *host, uint64_t below)
{
	host->random ^= host->random << 13;
	host->random ^= host->random >> 7;
	host->random ^= host->random << 17;
	return host->random % below;
}

static void name_functions(void)
{
	for (unsigned int i = 0; i < KNOWN; i++) {
		char *name = NULL, *file = NULL;

		if (asprintf(&name, "RequestHandler%u.process_item", i / 4) < 0 ||
		    asprintf(&file,
			     "/srv/app/lib/python3.11/site-packages/shop/orders/part_%02u.py",
			     i / 3) < 0)
			abort();
		functions[i] = (struct pt_function){
		    .id = i, .line = 10 + 7 * i, .name = name, .qualname = name, .file = file};
	}
}

static void give(struct host *host, struct pt_op op)
{
	if (pt_metrics_op(&op, host->metrics))
		abort();
}

static pid_t pid_of(unsigned int process)
{
	return (pid_t)(1000 + 37 * process);
}

static void begin(struct host *host)
{
	for (unsigned int i = 0; i < process_count; i++)
		give(host, (struct pt_op){.kind = PT_OP_PROCESS,
					  .process = {.pid = pid_of(i),
						      .time_ns = now_ns(CLOCK_MONOTONIC),
						      .name = "gunicorn: worke"}});
	for (unsigned int i = 0; i < KNOWN; i++)
		give(host, (struct pt_op){.kind = PT_OP_FUNCTION, .function = functions[i]});
}

/* Some calls of each function, a collection, a wait: all counters that move do. */
static void go_on(struct host *host)
{
	for (unsigned int i = 0; i < process_count; i++) {
		pid_t pid = pid_of(i);

		for (unsigned int f = 0; f < KNOWN; f++)
			give(host, (struct pt_op){
				       .kind = PT_OP_SLICE,
				       .slice = {.pid = pid,
						 .tid = pid,
						 .function = &functions[f],
						 .end_ns = 1000 + chance(host, 900000000) / (f + 1),
						 .depth = 1}});
		for (unsigned int n = 0; n < 2; n++)
			give(host, (struct pt_op){.kind = PT_OP_SPAN,
						  .span = {.pid = pid,
							   .tid = pid,
							   .category = n ? "gc" : "gil",
							   .name = "",
							   .end_ns = chance(host, 30000000)}});
	}
}

static void walk(const struct pt_series_sink *sink, void *ctx)
{
	const struct pt_series_name own = {"pytrace_agent_some_total", "Like those of the agent.",
					   PT_SERIES_COUNTER, PT_SERIES_PLAIN};
	struct host *host = ctx;

	pthread_mutex_lock(&host->lock);
	go_on(host);
	host->own += chance(host, 100000);
	sink->name(&own, sink->ctx);
	for (unsigned int i = 0; i < OWN_SERIES; i++) {
		char text[16];
		struct pt_series_sample sample = {.labels = {{"reason", text}},
						  .value = i % 4 ? i : host->own};

		snprintf(text, sizeof(text), "reason_%u", i);
		sink->sample(&own, &sample, sink->ctx);
	}
	pthread_mutex_unlock(&host->lock);
	pt_metrics_walk(host->metrics, now_ns(CLOCK_MONOTONIC), sink);
}

static const struct pt_http_page pages[] = {
    {"/metrics", "GET", "text/plain; version=0.0.4; charset=utf-8", 0, false, false}};

static unsigned int answer(const struct pt_http_request *request, struct pt_http_reply *reply,
			   void *ctx)
{
	const struct pt_series_sink sink = pt_series_text(&reply->text);
	struct host *host = ctx;

	walk(&sink, host);
	atomic_fetch_add(&host->scrapes, 1);
	atomic_fetch_add(&host->scrape_bytes, reply->text.len);
	return 200;
}

static void start(struct host *host, unsigned int number, char **argv)
{
	const struct pt_metrics_options options = {.processes = process_count,
						   .functions = (unsigned int)atoi(argv[3]),
						   .calls = true,
						   .keep_ns = 300 * SECOND_NS};
	uint64_t now = now_ns(CLOCK_MONOTONIC);
	struct agent_otlp_options otlp = {.config = &host->config,
					  .stats = &host->stats,
					  .start_ns = now,
					  .since_1970_ns = now_ns(CLOCK_REALTIME) - now,
					  .collect = walk,
					  .ctx = host};
	struct pt_http_options http = {
	    .busy_hint = "", .pages = pages, .page_count = 1, .answer = answer, .ctx = host};
	struct pt_err err = {0};
	char text[64];

	pthread_mutex_init(&host->lock, NULL);
	host->random = 0x9e3779b97f4a7c15ull * (number + 1);
	if (pt_metrics_new(&options, &host->metrics))
		abort();
	begin(host);
	host->config = (struct agent_otlp_config){.endpoint = argv[5],
						  .interval_ns = strtoull(argv[4], NULL, 10) *
								 1000000,
						  .timeout_ns = 10 * SECOND_NS,
						  .spool_bytes = 64u << 20};
	if (asprintf(&host->config.spool_dir, "%s/%u", argv[7], number) < 0)
		abort();
	snprintf(text, sizeof(text), "host.name=node-%04u", number);
	setenv("OTEL_RESOURCE_ATTRIBUTES", text, 1);
	snprintf(text, sizeof(text), "127.0.0.1:%u", (unsigned int)atoi(argv[6]) + number);
	http.listen = text;
	if (agent_otlp_start(&otlp, &host->otlp, &err) ||
	    (atoi(argv[6]) && pt_http_start(&http, &host->http, &err))) {
		fprintf(stderr, "fleet_load: %s\n", err.what);
		exit(1);
	}
}

static void tell(const struct host *hosts, unsigned int count)
{
	uint64_t sent = 0, bytes = 0, lost = 0, retries = 0, waiting = 0, scrapes = 0, scraped = 0;
	struct rusage usage;

	for (unsigned int i = 0; i < count; i++) {
		const struct agent_otlp_stats *stats = &hosts[i].stats;

		sent += stats->sent;
		bytes += stats->sent_bytes;
		lost += stats->refused + stats->outbox.dropped + stats->outbox.corrupt;
		for (int r = 0; r < AGENT_OTLP_RETRIES; r++)
			retries += stats->retries[r];
		waiting += stats->outbox.messages;
		scrapes += hosts[i].scrapes;
		scraped += hosts[i].scrape_bytes;
	}
	getrusage(RUSAGE_SELF, &usage);
	printf("{\"sent\": %" PRIu64 ", \"bytes\": %" PRIu64 ", \"lost\": %" PRIu64
	       ", \"retries\": %" PRIu64 ", \"waiting\": %" PRIu64 ", \"scrapes\": %" PRIu64
	       ", \"scrape_bytes\": %" PRIu64 ", \"cpu_s\": %.2f}\n",
	       sent, bytes, lost, retries, waiting, scrapes, scraped,
	       (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
		   (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6);
	fflush(stdout);
}

int main(int argc, char **argv)
{
	struct pollfd end = {.fd = STDIN_FILENO, .events = POLLIN};
	unsigned int count = argc == 8 ? (unsigned int)atoi(argv[1]) : 0;
	struct host *hosts = calloc(count, sizeof(*hosts));
	struct rlimit files;

	if (!count || !hosts) {
		fprintf(stderr, "usage: fleet_load HOSTS PROCESSES FUNCTIONS INTERVAL_MS ENDPOINT "
				"FIRST_PORT SPOOL_FOLDER\n");
		return 2;
	}
	getrlimit(RLIMIT_NOFILE, &files);
	files.rlim_cur = files.rlim_max; /* some eight for each host */
	setrlimit(RLIMIT_NOFILE, &files);
	pt_log_set_level(PT_LOG_ERROR);
	process_count = (unsigned int)atoi(argv[2]);
	name_functions();
	for (unsigned int i = 0; i < count; i++)
		start(&hosts[i], i, argv);
	while (!poll(&end, 1, 1000))
		tell(hosts, count);
	for (unsigned int i = 0; i < count; i++) {
		agent_otlp_stop(hosts[i].otlp, false);
		pt_http_stop(hosts[i].http);
		pt_metrics_free(hosts[i].metrics);
		free(hosts[i].config.spool_dir);
	}
	free(hosts);
	return 0;
}
