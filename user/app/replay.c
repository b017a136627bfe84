// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/* replay: from a raw capture to a trace. No root, no kernel features. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "app/verbs.h"
#include "base/log.h"
#include "ingest/capture.h"
#include "sink/sink.h"

/* Feeds the whole capture to the output, and counts. 1: the output has its largest size. */
static int pump(struct pt_capture_reader *reader, struct pt_output *output, uint64_t *count,
		struct pt_err *err)
{
	const struct pt_rec *record;
	size_t len;
	int rc;

	while ((rc = pt_capture_next(reader, &record, &len, err)) > 0) {
		rc = pt_output_record(record, len, output);
		if (rc)
			return rc == -EFBIG ? 1 : rc;
		(*count)++;
	}
	return rc;
}

int app_replay(const struct app_options *options, struct pt_err *err)
{
	struct pt_output_options output_options;
	struct pt_capture_reader *reader;
	struct pt_capture_info info;
	struct pt_output *output;
	struct pt_totals totals;
	uint64_t record_count = 0;
	bool cut_short;
	int rc, written;

	app_output_options(options, &output_options);
	rc = pt_output_check(options->output, err);
	if (!rc && options->memory_history)
		rc = pt_output_check_writable(options->memory_history, err);
	if (!rc)
		rc = pt_capture_open(options->file, &reader, &info, err);
	if (rc)
		return rc;
	rc = pt_output_open(&output_options, &info, &output, err);
	if (rc) {
		pt_capture_reader_free(reader);
		return rc;
	}
	rc = pump(reader, output, &record_count, err);
	cut_short = pt_capture_cut_short(reader);
	pt_capture_reader_free(reader);
	if (!record_count) {
		pt_output_discard(output);
		return rc ? rc
			  : pt_err_set(err, -EBADMSG, PT_EXIT_FAILED,
				       "is it a capture of pytrace-bpf?",
				       "there is no whole record in '%s'", options->file);
	}
	written = pt_output_close(output, &totals, err);
	if (rc < 0 || written)
		return rc < 0 ? rc : written;
	if (rc)
		pt_info("stopped by --max-file-size");
	if (cut_short)
		pt_warn("'%s' is cut short; what was whole is in the trace", options->file);
	if (totals.bad_records)
		pt_warn("%llu damaged records were left out",
			(unsigned long long)totals.bad_records);
	if (totals.left_out)
		pt_info("%llu older entries were left out (--tracer-entries)",
			(unsigned long long)totals.left_out);
	if (totals.unnamed_kernels)
		pt_info("%llu CUDA calls have a kernel whose name is not known",
			(unsigned long long)totals.unnamed_kernels);
	if (totals.gpu_unbounded)
		pt_warn("of %llu launches and copies it is not known until when the GPU worked on "
			"them (the trace says why)",
			(unsigned long long)totals.gpu_unbounded);
	if (pt_sink_wants_samples(options->output) && !totals.samples)
		pt_warn("'%s' holds no samples, so there is nothing in '%s'", options->file,
			options->output);
	if (totals.samples)
		pt_info("%llu samples, %llu without all or some of their frames",
			(unsigned long long)totals.samples,
			(unsigned long long)totals.samples_incomplete);
	pt_info("%llu events, %llu threads, %llu lost; wrote %s", (unsigned long long)totals.events,
		(unsigned long long)totals.threads, (unsigned long long)totals.lost_events,
		options->output);
	return totals.lost_events || totals.lost_records ? PT_EXIT_LOST : PT_EXIT_DONE;
}
