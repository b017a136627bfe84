// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * Record decoder, model and Chrome writer, on any bytes: the input is a run of records whose
 * lengths are put right. What comes out of the model has to be nested, whatever went in.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ingest/decode.h"
#include "model/model.h"
#include "sink/report.h"
#include "sink/sink.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv);

#define THREADS 64 /* so that records of one thread meet */

struct check {
	struct pt_sink *sink;
	struct pt_report *report;
};

static char null_path[64]; /* leads to /dev/null, by a name that a format knows */

static int check_op(const struct pt_op *op, void *ctx)
{
	struct check *check = ctx;

	if (op->kind == PT_OP_SLICE) {
		if (op->slice.begin_ns >= op->slice.end_ns || op->slice.parent_id >= op->slice.id)
			abort();
		if (!op->slice.function->qualname[0] && !op->slice.function->name)
			abort();
	}
	if (pt_report_op(op, check->report))
		abort();
	if (op->kind == PT_OP_CLEAR)
		return 0; /* the sink's is no file that could be emptied: it would say so */
	return pt_sink_op(op, check->sink);
}

/* Feeds the records of data, each in aligned memory of exactly its size. */
static void feed(struct pt_model *model, const uint8_t *data, size_t size)
{
	while (size >= sizeof(struct pt_rec)) {
		struct pt_rec head;
		uint64_t *record;
		size_t len;

		memcpy(&head, data, sizeof(head));
		len = head.len & 0xffffu & ~7u;
		if (len < sizeof(head))
			len = sizeof(head);
		if (len > size)
			len = size & ~(size_t)7;
		record = malloc(len);
		if (!record)
			abort();
		memcpy(record, data, len);
		((struct pt_rec *)record)->len = (uint32_t)len;
		((struct pt_rec *)record)->tid %= THREADS;
		if (pt_model_record(model, (struct pt_rec *)record, len))
			abort();
		free(record);
		data += len;
		size -= len;
	}
}

static void remove_path(void)
{
	unlink(null_path);
	*strrchr(null_path, '/') = '\0';
	rmdir(null_path);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	char folder[] = "/tmp/pytrace-fuzz-XXXXXX";

	(void)argc;
	(void)argv;
	if (!mkdtemp(folder))
		abort();
	snprintf(null_path, sizeof(null_path), "%s/null.json", folder);
	if (symlink("/dev/null", null_path))
		abort();
	return atexit(remove_path);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const exclude[] = {"*x*", NULL};
	struct pt_capture_info info = {.start_mono_ns = 1000, .start_real_ns = 1000000};
	struct pt_model_options options = {0};
	struct check check = {0};
	struct pt_totals totals;
	struct pt_model *model;

	if (size && data[0] & 0x80) {
		options.exclude_files = exclude;
		options.max_stack_depth = 5;
	}
	options.memory = size && data[0] & 0x40;
	options.gpu_bounds = size && data[0] & 0x20;
	if (pt_sink_open(null_path, &info, NULL, &check.sink, NULL) ||
	    pt_report_new(&check.report) || pt_model_new(&options, &info, check_op, &check, &model))
		abort();
	feed(model, data, size);
	if (pt_model_finish(model, &totals))
		abort();
	if (pt_sink_close(check.sink, &totals, NULL))
		abort();
	pt_report_free(check.report);
	pt_model_free(model);
	return 0;
}
