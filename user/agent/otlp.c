// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
#include "agent/otlp.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include <zlib.h>

#include "agent/post.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/thread.h"
#include "sink/otlp.h"

#define SECOND_NS       1000000000ull
#define BACKOFF_MIN_NS  SECOND_NS
#define BACKOFF_TIMES   60u             /* the longest one, of the first */
#define RETRY_AFTER_MAX 3600u           /* seconds; nobody holds us up for longer */
#define LAST_NS         (3 * SECOND_NS) /* for what waits when the agent ends */
#define TRACES_NS       (5 * SECOND_NS) /* people look at a trace while it is new */

struct agent_otlp {
	struct agent_otlp_options options;
	struct agent_resource resource;
	struct pt_otlp_source source;
	struct agent_outbox *outbox;
	struct agent_post *post;
	pthread_t thread;
	_Atomic bool stop;
	bool last;
	/* the thread's own */
	struct pt_buf body; /* that is being sent */
	bool sending, failing;
	long refused_status; /* that was told last */
	uint64_t collect_ns; /* when to take the series next */
	uint64_t retry_ns;   /* not to send before */
	uint64_t backoff_ns; /* the last one; 0: the last request was answered */
};

static const char *signal_name(const struct agent_otlp *otlp)
{
	return otlp->options.take ? "traces" : "metrics";
}

static uint64_t below(uint64_t most)
{
	uint64_t number = 0;

	if (getrandom(&number, sizeof(number), GRND_NONBLOCK) != sizeof(number))
		number = pt_now_ns() * 0x9e3779b97f4a7c15ull; /* early at boot */
	return most ? number % most : 0;
}

/* ---- what is to be sent ---- */

/* 0 or -ENOMEM. */
static int compress_into(struct pt_buf *out, const struct pt_buf *message)
{
	z_stream stream = {.next_in = (Bytef *)message->data, .avail_in = (uInt)message->len};
	size_t room;
	int rc;

	/* 16: with gzip's header */
	if (deflateInit2(&stream, Z_DEFAULT_COMPRESSION, Z_DEFLATED, 15 + 16, 8,
			 Z_DEFAULT_STRATEGY) != Z_OK)
		return -ENOMEM;
	room = deflateBound(&stream, (uLong)message->len);
	rc = pt_buf_reserve(out, room);
	if (!rc) {
		stream.next_out = (Bytef *)out->data + out->len;
		stream.avail_out = (uInt)room;
		rc = deflate(&stream, Z_FINISH) == Z_STREAM_END ? 0 : -ENOMEM;
		out->len += stream.total_out;
	}
	deflateEnd(&stream);
	return rc;
}

static void put(struct agent_otlp *otlp, const struct pt_buf *message)
{
	struct pt_buf packed = {0};

	if (compress_into(&packed, message))
		atomic_fetch_add(&otlp->options.stats->outbox.dropped, 1);
	else
		agent_outbox_put(otlp->outbox, packed.data, packed.len);
	pt_buf_release(&packed);
}

static void collect_traces(struct agent_otlp *otlp)
{
	struct pt_otlp_trace *traces[PT_OTLP_TRACES_MAX];
	size_t count;

	while ((count = otlp->options.take(traces, PT_OTLP_TRACES_MAX, otlp->options.ctx))) {
		struct pt_buf message = {0};

		if (pt_otlp_traces(&otlp->source, (const struct pt_otlp_trace *const *)traces,
				   count, &message))
			atomic_fetch_add(&otlp->options.stats->outbox.dropped, 1);
		else
			put(otlp, &message);
		pt_buf_release(&message);
		for (size_t i = 0; i < count; i++)
			pt_otlp_trace_free(traces[i]);
	}
}

static void collect_series(struct agent_otlp *otlp)
{
	const struct pt_buf *messages;
	struct pt_series_sink sink;
	struct pt_otlp *writer;
	size_t count = 0;

	/* not our own clock and a shift: the host's may be set, and ours rests with the host */
	if (pt_otlp_new(&otlp->source, pt_clock_ns(CLOCK_REALTIME), &writer)) {
		atomic_fetch_add(&otlp->options.stats->outbox.dropped, 1);
		return;
	}
	sink = pt_otlp_sink(writer);
	otlp->options.collect(&sink, otlp->options.ctx);
	if (pt_otlp_finish(writer, &messages, &count))
		atomic_fetch_add(&otlp->options.stats->outbox.dropped, 1);
	for (size_t i = 0; i < count; i++)
		put(otlp, &messages[i]);
	pt_otlp_free(writer);
}

static void collect(struct agent_otlp *otlp)
{
	if (otlp->options.take)
		collect_traces(otlp);
	else
		collect_series(otlp);
}

/* ---- sending ---- */

static void back_off(struct agent_otlp *otlp, uint64_t retry_after)
{
	uint64_t first_ns = otlp->options.backoff_ns ? otlp->options.backoff_ns : BACKOFF_MIN_NS;
	uint64_t next_ns = otlp->backoff_ns ? 2 * otlp->backoff_ns : first_ns, wait_ns;

	if (next_ns > BACKOFF_TIMES * first_ns)
		next_ns = BACKOFF_TIMES * first_ns;
	otlp->backoff_ns = next_ns;
	wait_ns = next_ns - below(next_ns / 2);
	if (retry_after > RETRY_AFTER_MAX)
		retry_after = RETRY_AFTER_MAX;
	if (retry_after * SECOND_NS > wait_ns) /* not all agents at the same moment after it */
		wait_ns = retry_after * SECOND_NS + below(next_ns / 2);
	otlp->retry_ns = pt_now_ns() + wait_ns;
}

static void begin(struct agent_otlp *otlp)
{
	int rc;

	otlp->body.len = 0;
	rc = agent_outbox_first(otlp->outbox, &otlp->body);
	if (rc == -ENOENT)
		return;
	if (!rc)
		rc = agent_post_begin(otlp->post, otlp->body.data, otlp->body.len);
	if (rc) {
		pt_buf_release(&otlp->body); /* clears that it failed */
		back_off(otlp, 0);
	} else {
		otlp->sending = true;
	}
}

static void try_again(struct agent_otlp *otlp, const struct agent_post_result *result)
{
	static const enum agent_otlp_retry causes[] = {
	    [AGENT_POST_DONE] = AGENT_OTLP_BUSY,
	    [AGENT_POST_UNREACHABLE] = AGENT_OTLP_UNREACHABLE,
	    [AGENT_POST_SLOW] = AGENT_OTLP_SLOW,
	};

	atomic_fetch_add(&otlp->options.stats->retries[causes[result->outcome]], 1);
	if (!otlp->failing && result->status)
		pt_warn("the collector at %s answers %ld; messages wait",
			otlp->options.config->endpoint, result->status);
	else if (!otlp->failing)
		pt_warn("the collector at %s does not answer: %s; messages wait",
			otlp->options.config->endpoint, result->error);
	otlp->failing = true;
	back_off(otlp, result->retry_after);
}

static void read_answer(struct agent_otlp *otlp, const struct agent_post_result *result)
{
	uint64_t rejected;
	char reason[200];

	/* what is no protobuf says nothing that we could read */
	if (pt_otlp_answer(result->answer.data, result->answer.len, &rejected, reason,
			   sizeof(reason)) ||
	    !rejected)
		return;
	if (!atomic_fetch_add(&otlp->options.stats->refused_items, rejected))
		pt_warn("the collector refuses %llu %s of a message: %s",
			(unsigned long long)rejected, otlp->options.take ? "spans" : "values",
			reason);
}

static void sent(struct agent_otlp *otlp, const struct agent_post_result *result)
{
	atomic_fetch_add(&otlp->options.stats->sent, 1);
	atomic_fetch_add(&otlp->options.stats->sent_bytes, otlp->body.len);
	otlp->refused_status = 0;
	read_answer(otlp, result);
}

static void refused(struct agent_otlp *otlp, long status)
{
	atomic_fetch_add(&otlp->options.stats->refused, 1);
	if (otlp->refused_status != status)
		pt_error("the collector at %s refuses %s: it answers %ld",
			 otlp->options.config->endpoint, signal_name(otlp), status);
	otlp->refused_status = status;
}

static bool is_busy(long status)
{
	return status == 429 || status == 502 || status == 503 || status == 504;
}

static void finish(struct agent_otlp *otlp, const struct agent_post_result *result)
{
	otlp->sending = false;
	if (result->outcome != AGENT_POST_DONE || is_busy(result->status)) {
		try_again(otlp, result);
		return;
	}
	if (otlp->failing)
		pt_info("the collector at %s answers again; %llu messages wait",
			otlp->options.config->endpoint,
			(unsigned long long)atomic_load(&otlp->options.stats->outbox.messages));
	otlp->failing = false;
	otlp->backoff_ns = 0;
	if (result->status >= 200 && result->status < 300)
		sent(otlp, result);
	else
		refused(otlp, result->status);
	agent_outbox_remove_first(otlp->outbox);
}

/* Begins to send, or goes on with it, for at most until_ns. */
static void send_until(struct agent_otlp *otlp, uint64_t until_ns)
{
	struct agent_post_result result;
	uint64_t now_ns = pt_now_ns();

	if (!otlp->sending && otlp->retry_ns <= now_ns)
		begin(otlp);
	if (!otlp->sending && otlp->retry_ns > now_ns && otlp->retry_ns < until_ns)
		until_ns = otlp->retry_ns;
	if (agent_post_wait(otlp->post, until_ns > now_ns ? until_ns - now_ns : 0, &result))
		finish(otlp, &result);
}

/* ---- the thread ---- */

/* One more message, and what waits: each is tried once. */
static void send_last(struct agent_otlp *otlp)
{
	uint64_t until_ns = pt_now_ns() + LAST_NS;

	collect(otlp);
	otlp->retry_ns = 0;
	while (pt_now_ns() < until_ns && !otlp->retry_ns &&
	       atomic_load(&otlp->options.stats->outbox.messages))
		send_until(otlp, until_ns);
}

static void *run(void *ctx)
{
	struct agent_otlp *otlp = ctx;
	uint64_t interval_ns = otlp->options.config->interval_ns;

	if (otlp->options.take && interval_ns > TRACES_NS)
		interval_ns = TRACES_NS;
	otlp->collect_ns = pt_now_ns() + below(interval_ns);
	while (!atomic_load(&otlp->stop)) {
		uint64_t now_ns = pt_now_ns();

		if (now_ns >= otlp->collect_ns) {
			collect(otlp);
			/* those that were missed, in a suspended machine, are not made up for */
			otlp->collect_ns += interval_ns *
					    ((now_ns - otlp->collect_ns) / interval_ns + 1);
		}
		send_until(otlp, otlp->collect_ns);
	}
	if (otlp->last)
		send_last(otlp);
	else if (otlp->options.take)
		collect(otlp);
	return NULL;
}

static int new_post(struct agent_otlp *otlp)
{
	const struct agent_otlp_config *config = otlp->options.config;
	const char *headers[AGENT_HEADERS_MAX + 2] = {"Content-Type: application/x-protobuf",
						      "Content-Encoding: gzip"};
	struct agent_post_options options = {.headers = headers,
					     .header_count = 2 + config->header_count,
					     .ca_file = config->ca_file,
					     .timeout_ns = config->timeout_ns};
	size_t len = strlen(config->endpoint);
	struct pt_buf url = {0};
	int rc;

	for (size_t i = 0; i < config->header_count; i++)
		headers[2 + i] = config->headers[i];
	while (len && config->endpoint[len - 1] == '/')
		len--;
	pt_buf_printf(&url, "%.*s/v1/%s", (int)len, config->endpoint, signal_name(otlp));
	options.url = url.data;
	rc = url.failed ? -ENOMEM : agent_post_new(&options, &otlp->post);
	pt_buf_release(&url);
	return rc;
}

static int describe(struct agent_otlp *otlp)
{
	int rc = agent_resource_init(&otlp->resource, getenv("OTEL_RESOURCE_ATTRIBUTES"));

	if (rc == -EBADMSG) {
		pt_warn("OTEL_RESOURCE_ATTRIBUTES is not key=value,..: it is left out");
		rc = 0;
	}
	otlp->source = (struct pt_otlp_source){
	    .host = otlp->resource.host,
	    .version = PT_VERSION,
	    .attributes = otlp->resource.attributes,
	    .attribute_count = otlp->resource.attribute_count,
	    .start_ns = otlp->options.start_ns,
	    .since_1970_ns = otlp->options.since_1970_ns,
	};
	return rc;
}

static void release(struct agent_otlp *otlp)
{
	agent_post_free(otlp->post);
	agent_outbox_close(otlp->outbox);
	agent_resource_release(&otlp->resource);
	pt_buf_release(&otlp->body);
	free(otlp);
}

/* Those of traces are in a folder in the one that the exporter of series has made. */
static int open_outbox(struct agent_otlp *otlp, struct pt_err *err)
{
	const struct agent_otlp_config *config = otlp->options.config;
	struct agent_outbox_stats *stats = &otlp->options.stats->outbox;
	char dir[PATH_MAX];

	if (!otlp->options.take || !config->spool_dir)
		return agent_outbox_open(config->spool_dir, config->spool_bytes, stats,
					 &otlp->outbox, err);
	if (snprintf(dir, sizeof(dir), "%s/traces", config->spool_dir) >= (int)sizeof(dir))
		return -ENAMETOOLONG;
	return agent_outbox_open(dir, config->spool_bytes, stats, &otlp->outbox, err);
}

int agent_otlp_start(const struct agent_otlp_options *options, struct agent_otlp **result,
		     struct pt_err *err)
{
	struct agent_otlp *otlp = calloc(1, sizeof(*otlp));
	int rc;

	if (!otlp)
		return pt_err_set(err, -ENOMEM, PT_EXIT_FAILED, "", "out of memory");
	otlp->options = *options;
	rc = open_outbox(otlp, err);
	if (!rc)
		rc = describe(otlp);
	if (!rc)
		rc = new_post(otlp);
	if (!rc)
		rc = pt_thread_start(&otlp->thread, run, otlp);
	if (rc) {
		release(otlp);
		return pt_err_set(err, rc, PT_EXIT_FAILED, "",
				  "cannot begin to send to a collector: %s", strerror(-rc));
	}
	atomic_store(&options->stats->used, true);
	*result = otlp;
	return 0;
}

void agent_otlp_stop(struct agent_otlp *otlp, bool last)
{
	if (!otlp)
		return;
	otlp->last = last;
	atomic_store(&otlp->stop, true);
	agent_post_wake(otlp->post);
	pthread_join(otlp->thread, NULL);
	release(otlp);
}
