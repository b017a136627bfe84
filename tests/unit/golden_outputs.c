// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
#include "golden_outputs.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ingest/capture.h"
#include "model/model.h"
#include "sink/memory_history.h"
#include "sink/report.h"
#include "sink/sink.h"

const char *const golden_names[] = {"calls",   "loss",  "processes", "damage", "runtime", "lines",
				    "control", "sched", "values",    "cuda",   "marks",   "async",
				    "memory",  "torch", "stacks",    "gpu",    NULL};

struct outputs {
	struct pt_sink *sink;     /* either this .. */
	struct pt_report *report; /* .. or this */
	struct pt_memory_history *history;
};

static int take_op(const struct pt_op *op, void *ctx)
{
	struct outputs *outputs = ctx;

	if (op->kind == PT_OP_MEMORY)
		return outputs->history ? pt_memory_history_op(op, outputs->history) : 0;
	return outputs->sink ? pt_sink_op(op, outputs->sink) : pt_report_op(op, outputs->report);
}

/* The capture of this name is about memory. */
static bool is_memory(const char *name)
{
	return !strcmp(name, "memory");
}

static int replay(const char *capture, const char *name, const char *sink_path,
		  struct pt_report *report, struct pt_totals *totals)
{
	const struct pt_model_options options = {.memory = is_memory(name),
						 .gpu_bounds = !strcmp(name, "gpu")};
	struct outputs outputs = {.report = report};
	struct pt_capture_reader *reader;
	struct pt_capture_info info;
	const struct pt_rec *record;
	struct pt_model *model;
	size_t len;
	int rc = pt_capture_open(capture, &reader, &info, NULL);

	if (rc)
		return rc;
	if (sink_path)
		rc = pt_sink_open(sink_path, &info, NULL, &outputs.sink, NULL);
	if (!rc && sink_path && options.memory)
		rc = pt_memory_history_open("memory.pickle", &info, &outputs.history);
	if (!rc)
		rc = pt_model_new(&options, &info, take_op, &outputs, &model);
	while (!rc && (rc = pt_capture_next(reader, &record, &len, NULL)) > 0)
		rc = pt_model_record(model, record, len);
	if (!rc)
		rc = pt_model_finish(model, totals);
	totals->cut_short = pt_capture_cut_short(reader);
	pt_capture_reader_free(reader);
	if (!rc && sink_path)
		rc = pt_sink_close(outputs.sink, totals, NULL);
	if (!rc && outputs.history)
		rc = pt_memory_history_close(outputs.history, NULL, NULL, NULL);
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
	if (is_memory(name))
		rc = json ? pt_report_print_memory_json(report, totals, 10, out)
			  : pt_report_print_memory_text(report, totals, 10, out);
	else
		rc = json ? pt_report_print_json(report, totals, 10, out)
			  : pt_report_print_text(report, totals, 10, out);
	return fclose(out) ? -1 : rc;
}

const char *golden_outputs(const char *capture, const char *name)
{
	struct pt_totals totals = {0};
	struct pt_report *report;
	const char *wrong = NULL;
	char path[256];

	snprintf(path, sizeof(path), "%s.json", name);
	if (replay(capture, name, path, NULL, &totals))
		return "the replay into a trace";
	if (pt_report_new(&report))
		return "memory";
	if (replay(capture, name, NULL, report, &totals))
		wrong = "the replay into a report";
	else if (print_report(report, &totals, name, false) ||
		 print_report(report, &totals, name, true))
		wrong = "the printing of the report";
	pt_report_free(report);
	return wrong;
}
