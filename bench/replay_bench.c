// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * Measures replay: replay_bench FILE.ptcap OUT, where OUT is a trace (FILE.json, FILE.json.gz,
 * /dev/null.json is not special), "report", or "none" for reading and modelling alone. Prints one
 * JSON object: events, seconds of wall and CPU time, events/s, peak resident memory.
 */
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "ingest/capture.h"
#include "model/model.h"
#include "sink/report.h"
#include "sink/sink.h"

static int ignore_op(const struct pt_op *op, void *ctx)
{
	(void)op;
	(void)ctx;
	return 0;
}

static double seconds(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static int replay(struct pt_capture_reader *reader, struct pt_model *model,
		  struct pt_totals *totals, struct pt_err *err)
{
	const struct pt_rec *record;
	size_t len;
	int rc;

	while ((rc = pt_capture_next(reader, &record, &len, err)) > 0) {
		rc = pt_model_record(model, record, len);
		if (rc)
			return rc;
	}
	return rc ? rc : pt_model_finish(model, totals);
}

static void print_result(const char *out, const struct pt_totals *totals, double wall, double cpu)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	printf("{\"out\": \"%s\", \"events\": %llu, \"slices\": %llu, \"wall_s\": %.3f, "
	       "\"cpu_s\": %.3f, \"events_per_s\": %.0f, \"events_per_cpu_s\": %.0f, "
	       "\"peak_rss_kib\": %ld, \"bad_records\": %llu, \"lost_events\": %llu}\n",
	       out, (unsigned long long)totals->events, (unsigned long long)totals->slices, wall,
	       cpu, (double)totals->events / wall, (double)totals->events / cpu, usage.ru_maxrss,
	       (unsigned long long)totals->bad_records, (unsigned long long)totals->lost_events);
}

int main(int argc, char **argv)
{
	const char *out = argc > 2 ? argv[2] : "none";
	double wall = seconds(CLOCK_MONOTONIC), cpu = seconds(CLOCK_PROCESS_CPUTIME_ID);
	struct pt_sink_options options = {0};
	struct pt_totals totals = {0};
	struct pt_capture_reader *reader;
	struct pt_capture_info info;
	struct pt_report *report = NULL;
	struct pt_sink *sink = NULL;
	struct pt_model *model;
	struct pt_err err = {0};
	pt_op_fn emit = ignore_op;
	void *ctx = NULL;
	int rc;

	if (argc < 2) {
		fprintf(stderr, "usage: replay_bench FILE.ptcap [OUT|report|none]\n");
		return 2;
	}
	rc = pt_capture_open(argv[1], &reader, &info, &err);
	if (rc)
		goto fail;
	if (!strcmp(out, "report")) {
		rc = pt_report_new(&report);
		emit = pt_report_op;
		ctx = report;
	} else if (strcmp(out, "none")) {
		rc = pt_sink_open(out, &info, &options, &sink, &err);
		emit = pt_sink_op;
		ctx = sink;
	}
	if (!rc)
		rc = pt_model_new(NULL, &info, emit, ctx, &model);
	if (!rc)
		rc = replay(reader, model, &totals, &err);
	if (!rc && sink)
		rc = pt_sink_close(sink, &totals, &err);
	if (rc)
		goto fail;
	print_result(out, &totals, seconds(CLOCK_MONOTONIC) - wall,
		     seconds(CLOCK_PROCESS_CPUTIME_ID) - cpu);
	pt_model_free(model);
	pt_report_free(report);
	pt_capture_reader_free(reader);
	return 0;
fail:
	fprintf(stderr, "replay_bench: %s (%s)\n", err.what, strerror(-rc));
	return 1;
}
