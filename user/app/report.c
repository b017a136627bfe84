// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/* report: the functions that took the most time, or what is left of CUDA memory. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "app/verbs.h"
#include "base/log.h"
#include "ingest/capture.h"
#include "model/model.h"
#include "sink/report.h"

static int model_capture(struct pt_capture_reader *reader, struct pt_model *model,
			 struct pt_err *err)
{
	const struct pt_rec *record;
	size_t len;
	int rc;

	while ((rc = pt_capture_next(reader, &record, &len, err)) > 0) {
		rc = pt_model_record(model, record, len);
		if (rc)
			return pt_err_set(err, rc, PT_EXIT_FAILED, "", "%s", strerror(-rc));
	}
	return rc;
}

static int read_capture(const struct app_options *options, struct pt_report *report,
			struct pt_totals *totals, struct pt_err *err)
{
	struct pt_output_options output;
	struct pt_capture_reader *reader;
	struct pt_capture_info info;
	struct pt_model *model;
	int rc = pt_capture_open(options->file, &reader, &info, err);

	if (rc)
		return rc;
	app_output_options(options, &output);
	rc = pt_model_new(&output.model, &info, pt_report_op, report, &model);
	if (rc) {
		pt_capture_reader_free(reader);
		return pt_err_set(err, rc, PT_EXIT_FAILED, "", "out of memory");
	}
	rc = model_capture(reader, model, err);
	if (!rc)
		rc = pt_model_finish(model, totals);
	totals->cut_short = pt_capture_cut_short(reader);
	pt_model_free(model);
	pt_capture_reader_free(reader);
	return rc;
}

int app_report(const struct app_options *options, struct pt_err *err)
{
	struct pt_totals totals = {0};
	struct pt_report *report;
	int rc = pt_report_new(&report);

	if (rc)
		return pt_err_set(err, rc, PT_EXIT_FAILED, "", "out of memory");
	if (pt_output_is_capture(options->file))
		rc = read_capture(options, report, &totals, err);
	else
		rc = pt_report_read_trace(options->file, report, &totals, err);
	if (!rc && totals.cut_short)
		pt_warn("'%s' is cut short; this is what was whole", options->file);
	if (!rc && options->memory)
		rc = options->json
			 ? pt_report_print_memory_json(report, &totals, options->top, stdout)
			 : pt_report_print_memory_text(report, &totals, options->top, stdout);
	else if (!rc)
		rc = options->json ? pt_report_print_json(report, &totals, options->top, stdout)
				   : pt_report_print_text(report, &totals, options->top, stdout);
	pt_report_free(report);
	return rc;
}
