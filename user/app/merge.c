// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * merge: several traces and captures become one trace. A capture is first turned into a trace of
 * its own, in a folder beside the result that is gone at the end; one at a time. Where the files
 * are of several hosts all are read twice, first for what calls of NCCL say about the hosts'
 * clocks.
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
#include "sink/json_text.h"
#include "sink/merge.h"
#include "sink/merge_clock.h"

struct merging {
	const struct app_options *options;
	struct pt_merge *merge;
	struct pt_merge_clock *clock;
	char folder[4096 + 32], path[4096 + 64]; /* of the capture's trace; "": none was made yet */
};

static int find_start(const char *path, uint64_t *base_ns, char host[PT_MERGE_HOST_BYTES],
		      struct pt_err *err)
{
	struct pt_capture_reader *reader;
	struct pt_capture_info info;
	struct pt_buf text = {0};
	int rc;

	if (!pt_output_is_capture(path))
		return pt_merge_start(path, base_ns, host, err);
	rc = pt_capture_open(path, &reader, &info, err);
	if (rc)
		return rc;
	pt_capture_reader_free(reader);
	*base_ns = pt_chrome_base_ns(info.start_real_ns);
	pt_json_escape(&text, info.host);
	snprintf(host, PT_MERGE_HOST_BYTES, "%.*s", (int)text.len, text.len ? text.data : "");
	if (text.failed)
		rc = pt_err_set(err, -ENOMEM, PT_EXIT_FAILED, "", "out of memory");
	pt_buf_release(&text);
	return rc;
}

static int find_starts(struct merging *merging, struct pt_err *err)
{
	const struct app_options *options = merging->options;
	char host[PT_MERGE_HOST_BYTES];
	uint64_t base_ns = 0;

	for (size_t i = 0; i < options->word_count; i++) {
		int rc = find_start(options->words[i], &base_ns, host, err);

		if (!rc && pt_merge_clock_file(merging->clock, host, base_ns))
			rc = pt_err_set(err, -ENOMEM, PT_EXIT_FAILED, "", "out of memory");
		if (rc)
			return rc;
	}
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

/* Turns the capture into the trace at merging->path. clocks: with all that says something about
 * clocks, for this alone. */
static int replay(struct merging *merging, const char *name, bool clocks, struct pt_err *err)
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
	if (clocks) {
		options.model = (struct pt_model_options){
		    .gpu_bounds = true, .no_c_functions = true, .max_stack_depth = 1};
		options.memory_history = NULL;
		options.newest_count = 0;
	}
	rc = pt_output_open(&options, &info, &output, err);
	if (!rc) {
		rc = pump(reader, name, output, err);
		if (rc)
			pt_output_discard(output);
		else
			rc = pt_output_close(output, NULL, err);
	}
	if (!rc && !clocks && pt_capture_cut_short(reader))
		pt_warn("'%s' is cut short; what was whole is in the trace", name);
	pt_capture_reader_free(reader);
	return rc;
}

/* The file is looked at, or added: as it is, or as the trace that its capture becomes. */
static int take_file(struct merging *merging, size_t file, bool look, struct pt_err *err)
{
	const char *name = merging->options->words[file], *path = name;
	int rc = 0;

	if (pt_output_is_capture(name)) {
		path = merging->path;
		rc = make_folder(merging, err);
		if (!rc)
			rc = replay(merging, name, look, err);
	}
	if (!rc && look)
		rc = pt_merge_clock_read(merging->clock, file, path, name, err);
	else if (!rc)
		rc = pt_merge_add(merging->merge, path, name,
				  pt_merge_clock_offset(merging->clock, file), err);
	if (path != name && path[0])
		unlink(path);
	return rc;
}

static int compare_clocks(struct merging *merging, struct pt_err *err)
{
	int rc = 0;

	if (merging->options->clock == APP_CLOCK_REALTIME ||
	    pt_merge_clock_hosts(merging->clock) < 2)
		return 0;
	for (size_t i = 0; !rc && i < merging->options->word_count; i++)
		rc = take_file(merging, i, true, err);
	return rc ? rc : pt_merge_clock_solve(merging->clock, err);
}

static void tell_clocks(const struct merging *merging)
{
	struct pt_buf clocks = {0};

	pt_merge_clock_describe(merging->clock, &clocks);
	pt_merge_tell_clocks(merging->merge, &clocks);
	pt_buf_release(&clocks);
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
	struct merging merging = {.options = options, .clock = pt_merge_clock_new()};
	uint64_t events;
	int rc = check_output(options, err);

	if (!rc && !merging.clock)
		rc = pt_err_set(err, -ENOMEM, PT_EXIT_FAILED, "", "out of memory");
	if (!rc)
		rc = find_starts(&merging, err);
	if (!rc)
		rc = compare_clocks(&merging, err);
	if (!rc)
		rc = pt_merge_open(options->output, pt_merge_clock_base(merging.clock),
				   (int)options->gzip_level, &merging.merge, err);
	for (size_t i = 0; !rc && i < options->word_count; i++)
		rc = take_file(&merging, i, false, err);
	if (merging.folder[0])
		rmdir(merging.folder);
	if (!rc)
		tell_clocks(&merging);
	pt_merge_clock_free(merging.clock);
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
