// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
#include "golden_outputs.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ingest/capture.h"
#include "model/model.h"
#include "sink/report.h"
#include "sink/sink.h"

const char *const golden_names[] = {"calls", "loss",    "processes", "damage", "runtime",
				    "lines", "control", "sched",     "values", "cuda",
				    "marks", "async",   NULL};

static int replay(const char *capture, struct pt_sink **sink, const char *sink_path,
		  struct pt_report *report, struct pt_totals *totals)
{
	struct pt_capture_reader *reader;
	struct pt_capture_info info;
	const struct pt_rec *record;
	struct pt_model *model;
	size_t len;
	int rc = pt_capture_open(capture, &reader, &info, NULL);

	if (rc)
		return rc;
	if (sink_path)
		rc = pt_sink_open(sink_path, &info, NULL, sink, NULL);
	if (!rc)
		rc = pt_model_new(NULL, &info, sink_path ? pt_sink_op : pt_report_op,
				  sink_path ? (void *)*sink : (void *)report, &model);
	while (!rc && (rc = pt_capture_next(reader, &record, &len, NULL)) > 0)
		rc = pt_model_record(model, record, len);
	if (!rc)
		rc = pt_model_finish(model, totals);
	totals->cut_short = pt_capture_cut_short(reader);
	pt_capture_reader_free(reader);
	if (!rc && sink_path)
		rc = pt_sink_close(*sink, totals, NULL);
	pt_model_free(model);
	return rc;
}

static int print_report(const struct pt_report *report, const struct pt_totals *totals,
			const char *name, bool json)
{
	char path[256];
	FILE *out;
	int rc;

	snprintf(path, sizeof(path), "%s.report.%s", name, json ? "json" : "txt");
	out = fopen(path, "w");
	if (!out)
		return -1;
	rc = json ? pt_report_print_json(report, totals, 10, out)
		  : pt_report_print_text(report, totals, 10, out);
	return fclose(out) ? -1 : rc;
}

const char *golden_outputs(const char *capture, const char *name)
{
	struct pt_totals totals = {0};
	struct pt_report *report;
	const char *wrong = NULL;
	struct pt_sink *sink;
	char path[256];

	snprintf(path, sizeof(path), "%s.json", name);
	if (replay(capture, &sink, path, NULL, &totals))
		return "the replay into a trace";
	if (pt_report_new(&report))
		return "memory";
	if (replay(capture, NULL, NULL, report, &totals))
		wrong = "the replay into a report";
	else if (print_report(report, &totals, name, false) ||
		 print_report(report, &totals, name, true))
		wrong = "the printing of the report";
	pt_report_free(report);
	return wrong;
}
