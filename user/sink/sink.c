// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
#include "sink/sink.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "sink/format.h"

/* The registry: the first whose suffix fits. */
static const struct pt_format *const formats[] = {
    &pt_format_speedscope, &pt_format_folded,      &pt_format_pprof,
    &pt_format_pprof_gzip, &pt_format_chrome_gzip, &pt_format_chrome,
};

struct pt_sink {
	const struct pt_format *format;
	struct pt_destination *destination;
	void *state;
	char *path;
};

static const struct pt_format *format_for(const char *path)
{
	size_t len = strlen(path);

	if (strcmp(path, "-") == 0)
		return &pt_format_chrome;
	for (size_t i = 0; i < sizeof(formats) / sizeof(formats[0]); i++) {
		size_t suffix_len = strlen(formats[i]->suffix);

		if (len > suffix_len && !strcmp(path + len - suffix_len, formats[i]->suffix))
			return formats[i];
	}
	return NULL;
}

bool pt_sink_knows(const char *path)
{
	return format_for(path) != NULL;
}

const char *pt_sink_suffix(const char *path)
{
	const struct pt_format *format = format_for(path);

	if (!strcmp(path, "-"))
		return "";
	return format ? path + strlen(path) - strlen(format->suffix) : NULL;
}

bool pt_sink_wants_samples(const char *path)
{
	const struct pt_format *format = format_for(path);

	return format && format->samples;
}

static void sink_free(struct pt_sink *sink)
{
	if (sink->state)
		sink->format->free(sink->state);
	free(sink->path);
	free(sink);
}

int pt_sink_open(const char *path, const struct pt_capture_info *info,
		 const struct pt_sink_options *options, struct pt_sink **result, struct pt_err *err)
{
	static const struct pt_sink_options no_options;
	struct pt_destination_options where = {0};
	struct pt_sink *sink = calloc(1, sizeof(*sink));
	int rc = -ENOMEM;

	if (!sink)
		return rc;
	options = options ? options : &no_options;
	sink->format = format_for(path);
	if (!sink->format) {
		free(sink);
		return pt_err_set(
		    err, -EINVAL, PT_EXIT_USAGE,
		    "Use a name that ends in .json, .json.gz, .folded, .pprof, .pb.gz or "
		    ".speedscope.json.",
		    "no output format has the suffix of '%s'", path);
	}
	where.gzip = sink->format->gzip;
	where.gzip_level = options->gzip_level;
	where.max_bytes = options->max_bytes;
	sink->path = strdup(path);
	if (sink->path)
		rc = pt_destination_open(path, &where, &sink->destination, err);
	if (!rc)
		rc = sink->format->open(sink->destination, info, options, &sink->state);
	if (rc) {
		pt_destination_discard(sink->destination);
		sink_free(sink);
		return pt_err_set(err, rc, PT_EXIT_FAILED,
				  "Free some space, or write to another file system with -o.",
				  "cannot write '%s': %s", path, strerror(-rc));
	}
	*result = sink;
	return 0;
}

int pt_sink_op(const struct pt_op *op, void *ctx)
{
	struct pt_sink *sink = ctx;

	return sink->format->op(sink->state, op);
}

uint64_t pt_sink_bytes(const struct pt_sink *sink)
{
	return pt_destination_bytes(sink->destination);
}

/* True: it is there, whole. destination: the sink's own, or that of a copy at path. */
static bool write_extra(struct pt_sink *sink, struct pt_destination *destination, const char *path)
{
	struct pt_buf extra = {0};
	int rc = 0;

	sink->format->extra(sink->state, &extra);
	if (extra.failed)
		rc = -ENOMEM;
	else if (extra.len)
		rc = pt_destination_append(destination, extra.data, extra.len);
	/* that events are missing is told otherwise */
	if (rc && !pt_destination_error(destination))
		pt_warn("the sources of the functions, and stacks, are left out of '%s': %s", path,
			rc == -EFBIG ? "the file would exceed --max-file-size" : strerror(-rc));
	rc = rc || !extra.len;
	pt_buf_release(&extra);
	return !rc;
}

int pt_sink_save(struct pt_sink *sink, const char *path,
		 int (*fill)(pt_op_fn op, void *sink, void *ctx), void *ctx,
		 const struct pt_totals *totals, struct pt_err *err)
{
	struct pt_destination *copy;
	struct pt_buf tail = {0};
	bool extra;
	int rc;

	if (format_for(path) != sink->format)
		return pt_err_set(err, -EINVAL, PT_EXIT_USAGE, "",
				  "'%s' does not end as '%s' does, which it is to be a copy of",
				  path, sink->path);
	rc = pt_destination_copy(sink->destination, path, &copy, err);
	if (rc)
		return rc;
	sink->format->redirect(sink->state, copy);
	rc = fill(pt_sink_op, sink, ctx);
	extra = write_extra(sink, copy, path);
	sink->format->tail(sink->state, path, totals, extra, &tail);
	sink->format->redirect(sink->state, NULL);
	if (!rc && tail.failed)
		rc = -ENOMEM;
	if (rc) {
		pt_destination_discard(copy);
		pt_err_set(err, rc, PT_EXIT_FAILED, "", "cannot write '%s': %s", path,
			   strerror(-rc));
	} else {
		rc = pt_destination_close(copy, tail.data, tail.len, err);
	}
	pt_buf_release(&tail);
	return rc;
}

int pt_sink_close(struct pt_sink *sink, const struct pt_totals *totals, struct pt_err *err)
{
	struct pt_buf tail = {0};
	bool extra = write_extra(sink, sink->destination, sink->path);
	int rc;

	sink->format->tail(sink->state, sink->path, totals, extra, &tail);
	rc = tail.failed ? -ENOMEM : 0;
	if (rc)
		pt_destination_discard(sink->destination);
	else
		rc = pt_destination_close(sink->destination, tail.data, tail.len, err);
	pt_buf_release(&tail);
	sink_free(sink);
	return rc;
}
