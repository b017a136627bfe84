/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * report.h - totals by function (calls, total and self time) from trace ops: the report verb and
 * the summary use it. Feed it ops, then print.
 */
#ifndef PT_SINK_REPORT_H
#define PT_SINK_REPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/err.h"
#include "model/op.h"

struct pt_report;

int pt_report_new(struct pt_report **report);
int pt_report_op(const struct pt_op *op, void *report); /* suits pt_op_fn */
/* top: how many functions. */
int pt_report_print_text(const struct pt_report *report, const struct pt_totals *totals, size_t top,
			 FILE *out);
int pt_report_print_json(const struct pt_report *report, const struct pt_totals *totals, size_t top,
			 FILE *out);
/* What is left of CUDA memory instead; top: how many stacks of a process. */
int pt_report_print_memory_text(const struct pt_report *report, const struct pt_totals *totals,
				size_t top, FILE *out);
int pt_report_print_memory_json(const struct pt_report *report, const struct pt_totals *totals,
				size_t top, FILE *out);

struct pt_report_row {
	const char *file, *qualname;
	uint32_t line;
	uint64_t calls, self_ns, total_ns;
};

/* The functions with the most self time, or total time, in that order; top: how many. -ENOMEM. */
int pt_report_each(const struct pt_report *report, bool by_total_time, size_t top,
		   void (*fn)(const struct pt_report_row *row, void *ctx), void *ctx);
void pt_report_free(struct pt_report *report);

/* Reads a trace (.json, .json.gz as this tool writes them) back into ops; .ptcap goes through
 * capture + model instead. */
int pt_report_read_trace(const char *path, struct pt_report *report, struct pt_totals *totals,
			 struct pt_err *err);

#endif
