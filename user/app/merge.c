// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * merge: several traces and captures become one trace. A capture is first turned into a trace of
 * its own, in a folder beside the result that is gone at the end; one at a time.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "app/verbs.h"
#include "base/log.h"
#include "ingest/capture.h"
#include "sink/merge.h"

struct merging {
	const struct app_options *options;
	struct pt_merge *merge;
	uint64_t base_ns;
	char folder[4096 + 32], path[4096 + 64]; /* of the capture's trace; "": none was made yet */
};

static int find_start(const char *path, uint64_t *base_ns, struct pt_err *err)
{
	struct pt_capture_reader *reader;
	struct pt_capture_info info;
	int rc;

	if (!pt_output_is_capture(path))
		return pt_merge_start(path, base_ns, err);
	rc = pt_capture_open(path, &reader, &info, err);
	if (rc)
		return rc;
	pt_capture_reader_free(reader);
	*base_ns = pt_chrome_base_ns(info.start_real_ns);
	return 0;
}

static int make_folder(struct merging *merging, struct pt_err *err)
{
	char where[4096];

	if (merging->folder[0])
		return 0;
	pt_output_folder(merging->options->output, where, sizeof(where));
	snprintf(merging->folder, sizeof(merging->folder), "%s/.pytrace-merge.XXXXXX", where);
	if (!mkdtemp(merging->folder)) {
		int rc = -errno;

		merging->folder[0] = '\0';
		return pt_err_set(err, rc, PT_EXIT_FAILED, "choose another place with -o",
				  "cannot make a folder in '%s': %s", where, strerror(-rc));
	}
	snprintf(merging->path, sizeof(merging->path), "%s/trace.json.gz", merging->folder);
	return 0;
}

static int pump(struct pt_capture_reader *reader, const char *name, struct pt_output *output,
		struct pt_err *err)
{
	const struct pt_rec *record;
	uint64_t count = 0;
	size_t len;
	int rc;

	while ((rc = pt_capture_next(reader, &record, &len, err)) > 0) {
		rc = pt_output_record(record, len, output);
		if (rc)
			return pt_err_set(err, rc, PT_EXIT_FAILED, "is the disk full?",
					  "cannot make a trace of '%s': %s", name, strerror(-rc));
		count++;
	}
	if (!rc && !count)
		return pt_err_set(err, -EBADMSG, PT_EXIT_FAILED, "leave it out",
				  "there is no whole record in '%s'", name);
	return rc;
}

/* Turns the capture into the trace at merging->path. */
static int replay(struct merging *merging, const char *name, struct pt_err *err)
{
	struct pt_output_options options;
	struct pt_capture_reader *reader;
	struct pt_capture_info info;
	struct pt_output *output;
	int rc = pt_capture_open(name, &reader, &info, err);

	if (rc)
		return rc;
	app_output_options(merging->options, &options);
	options.path = merging->path;
	options.sink.gzip_level = 1; /* it is read once */
	rc = pt_output_open(&options, &info, &output, err);
	if (!rc) {
		rc = pump(reader, name, output, err);
		if (rc)
			pt_output_discard(output);
		else
			rc = pt_output_close(output, NULL, err);
	}
	if (!rc && pt_capture_cut_short(reader))
		pt_warn("'%s' is cut short; what was whole is in the trace", name);
	pt_capture_reader_free(reader);
	return rc;
}

static int add_file(struct merging *merging, const char *name, struct pt_err *err)
{
	int rc;

	if (!pt_output_is_capture(name))
		return pt_merge_add(merging->merge, name, name, err);
	rc = make_folder(merging, err);
	if (!rc)
		rc = replay(merging, name, err);
	if (!rc)
		rc = pt_merge_add(merging->merge, merging->path, name, err);
	if (merging->path[0])
		unlink(merging->path);
	return rc;
}

/* The result takes the place of what has its name only at the end, but that is an input. */
static int check_output(const struct app_options *options, struct pt_err *err)
{
	struct stat out, in;
	int rc;

	if (pt_output_is_capture(options->output) || strstr(options->output, "%p"))
		return pt_err_set(err, -EINVAL, PT_EXIT_USAGE,
				  "end it in .json or .json.gz, without %p",
				  "'merge' writes one trace, not '%s'", options->output);
	rc = pt_output_check(options->output, err);
	if (rc || !strcmp(options->output, "-") || stat(options->output, &out))
		return rc;
	for (size_t i = 0; i < options->word_count; i++)
		if (!stat(options->words[i], &in) && in.st_dev == out.st_dev &&
		    in.st_ino == out.st_ino)
			return pt_err_set(err, -EEXIST, PT_EXIT_USAGE,
					  "choose another name with -o",
					  "'%s' is one of the files to be merged", options->output);
	return 0;
}

int app_merge(const struct app_options *options, struct pt_err *err)
{
	struct merging merging = {.options = options, .base_ns = UINT64_MAX};
	uint64_t base_ns = 0, events;
	int rc = check_output(options, err);

	for (size_t i = 0; !rc && i < options->word_count; i++) {
		rc = find_start(options->words[i], &base_ns, err);
		if (!rc && base_ns < merging.base_ns)
			merging.base_ns = base_ns;
	}
	if (!rc)
		rc = pt_merge_open(options->output, merging.base_ns, (int)options->gzip_level,
				   &merging.merge, err);
	for (size_t i = 0; !rc && i < options->word_count; i++)
		rc = add_file(&merging, options->words[i], err);
	if (merging.folder[0])
		rmdir(merging.folder);
	if (rc) {
		pt_merge_discard(merging.merge);
		return rc;
	}
	events = pt_merge_events(merging.merge);
	rc = pt_merge_close(merging.merge, err);
	if (!rc)
		pt_info("%llu events of %zu files; wrote %s", (unsigned long long)events,
			options->word_count, options->output);
	return rc;
}
