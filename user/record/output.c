// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
#include "record/output.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "flight/flight.h"
#include "record/inductor.h"
#include "record/sources.h"
#include "record/tally.h"
#include "sink/memory_history.h"
#include "sink/newest.h"
#include "sink/split.h"

struct pt_output {
	const struct pt_output_options *options;
	struct pt_capture_writer *capture; /* either this .. */
	struct pt_flight *flight;          /* .. or this .. */
	struct pt_model *model;            /* .. or this and one of these */
	struct pt_sink *sink;
	struct pt_split *split;
	struct pt_newest *newest;          /* between the model and these; NULL: all is kept */
	struct pt_memory_history *history; /* NULL: none */
	int history_failed;                /* its first -errno */
	struct pt_capture_info info;       /* for the split's files */
	struct pt_sink_options sink_options;
	struct pt_err err; /* of the capture writer's failed write */
	int failed;        /* the first -errno */
	struct pt_totals capture_totals;
	struct pt_tally tally; /* where there is no model to count */
	atomic_ullong bytes;
};

static bool ends_with(const char *text, const char *end)
{
	size_t text_len = strlen(text), end_len = strlen(end);

	return text_len >= end_len && !strcmp(text + text_len - end_len, end);
}

bool pt_output_is_capture(const char *path)
{
	return ends_with(path, ".ptcap");
}

void pt_output_folder(const char *path, char *folder, size_t size)
{
	const char *slash = strrchr(path, '/');

	if (!strcmp(path, "-"))
		snprintf(folder, size, "/var/tmp");
	else if (!slash)
		snprintf(folder, size, ".");
	else
		snprintf(folder, size, "%.*s", slash == path ? 1 : (int)(slash - path), path);
}

/* %p stands in the file's name alone. */
static int check_split(const char *path, struct pt_err *err)
{
	const char *slash = strrchr(path, '/');

	if (pt_output_is_capture(path))
		return pt_err_set(err, -EINVAL, PT_EXIT_USAGE,
				  "write one .ptcap and make 'replay -o FILE_%p.json' of it",
				  "a capture holds all processes: it cannot be one file a process");
	if (slash && pt_split_wanted(path) && strstr(path, "%p") < slash)
		return pt_err_set(err, -EINVAL, PT_EXIT_USAGE, "put it into the file's name",
				  "'%s': %%p stands in a folder's name", path);
	return 0;
}

static int cannot_write(const char *path, int rc, struct pt_err *err)
{
	const char *hint = rc == -ENOENT                    ? "make the folder first"
			   : rc == -EISDIR                  ? "give a file, with -o"
			   : rc == -ENOSPC || rc == -EDQUOT ? "the disk is full"
			   : rc == -EOPNOTSUPP
			       ? "it holds a 'clear': a stream cannot be taken back; give a file"
			   : rc == -EROFS
			       ? "the file system is read-only; choose another place with -o"
			       : "choose another place with -o";

	return pt_err_set(err, rc, PT_EXIT_FAILED, hint, "cannot write '%s': %s", path,
			  strerror(-rc));
}

static int check_split_path(const char *path, int (*check)(const char *path, struct pt_err *err),
			    struct pt_err *err)
{
	int rc = check_split(path, err);
	char *one = rc ? NULL : pt_split_path(path, getpid());

	if (!rc)
		rc = one ? check(one, err) : -ENOMEM;
	free(one);
	return rc;
}

int pt_output_check(const char *path, struct pt_err *err)
{
	if (pt_split_wanted(path))
		return check_split_path(path, pt_output_check, err);
	if (!strcmp(path, "-")) {
		if (isatty(STDOUT_FILENO))
			return pt_err_set(
			    err, -EINVAL, PT_EXIT_USAGE, "redirect it, or give a file with -o",
			    "standard output is a terminal; the trace is not meant for "
			    "eyes");
		return 0;
	}
	if (!pt_sink_knows(path) && !pt_output_is_capture(path))
		return pt_err_set(
		    err, -EINVAL, PT_EXIT_USAGE,
		    "end it in .json, .json.gz, .folded, .pprof, .pb.gz, .speedscope.json or "
		    ".ptcap; the suffix chooses the format",
		    "'%s' has no known suffix", path);
	return pt_output_check_writable(path, err);
}

int pt_output_check_writable(const char *path, struct pt_err *err)
{
	char temporary[4096];
	struct stat st;
	int fd;

	if (pt_split_wanted(path))
		return check_split_path(path, pt_output_check_writable, err);
	if (!stat(path, &st) && S_ISDIR(st.st_mode))
		return cannot_write(path, -EISDIR, err);
	/* the name that the writers use before they rename */
	if (snprintf(temporary, sizeof(temporary), "%s.tmp", path) >= (int)sizeof(temporary))
		return cannot_write(path, -ENAMETOOLONG, err);
	fd = open(temporary, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
	if (fd < 0)
		return cannot_write(path, -errno, err);
	close(fd);
	unlink(temporary);
	return 0;
}

static int write_op(const struct pt_op *op, void *ctx)
{
	struct pt_output *output = ctx;

	return output->split ? pt_split_op(op, output->split) : pt_sink_op(op, output->sink);
}

/* The trace goes on if the history cannot be written. */
static int memory_op(const struct pt_op *op, struct pt_output *output)
{
	int rc = output->history ? pt_memory_history_op(op, output->history) : 0;

	if (!rc)
		return 0;
	pt_warn("--memory-history: given up: %s", strerror(-rc));
	pt_memory_history_discard(output->history);
	output->history = NULL;
	output->history_failed = rc;
	return 0;
}

static int keep_op(const struct pt_op *op, void *ctx)
{
	struct pt_output *output = ctx;

	return output->newest ? pt_newest_op(op, output->newest) : write_op(op, output);
}

static int output_op(const struct pt_op *op, void *ctx)
{
	struct pt_output *output = ctx;

	if (output->options->op)
		return output->options->op(op, output->options->op_ctx);
	if (op->kind == PT_OP_MEMORY)
		return memory_op(op, output);
	if (output->options->sources)
		pt_sources_op(output->options->sources, op);
	if (output->options->origins)
		pt_sources_op(output->options->origins, op);
	if (op->kind == PT_OP_STACK && output->options->origins)
		return pt_inductor_stack(output->options->origins, op, keep_op, output);
	return keep_op(op, output);
}

static int open_sink(struct pt_output *output, const struct pt_capture_info *info,
		     struct pt_err *err)
{
	const struct pt_output_options *options = output->options;
	int rc;

	output->info = *info;
	output->sink_options = options->sink;
	if (options->sources) {
		output->sink_options.source = pt_sources_find;
		output->sink_options.source_ctx = options->sources;
	}
	rc = options->op ? 0
	     : pt_split_wanted(options->path)
		 ? pt_split_open(options->path, &output->info, &output->sink_options,
				 &output->split)
		 : pt_sink_open(options->path, &output->info, &output->sink_options, &output->sink,
				err);
	if (!rc && options->memory_history)
		rc = pt_memory_history_open(options->memory_history, &output->info,
					    &output->history);
	if (!rc && options->newest_count)
		rc = pt_newest_new(options->newest_count, write_op, output, &output->newest);
	if (!rc)
		rc = pt_model_new(&options->model, info, output_op, output, &output->model);
	if (rc && err && !pt_err_is_set(err))
		pt_err_set(err, rc, PT_EXIT_FAILED, "", "out of memory");
	return rc;
}

static int open_flight(struct pt_output *output, const struct pt_capture_info *info,
		       struct pt_err *err)
{
	const struct pt_output_options *options = output->options;

	return pt_flight_open(options->flight, &options->model, &options->sink, info,
			      options->give_to_owner ? options->owner_uid : (uid_t)-1,
			      options->give_to_owner ? options->owner_gid : (gid_t)-1,
			      &output->flight, err);
}

int pt_output_open(const struct pt_output_options *options, const struct pt_capture_info *info,
		   struct pt_output **out, struct pt_err *err)
{
	struct pt_output *output = calloc(1, sizeof(*output));
	int rc;

	*out = NULL;
	if (!output)
		return pt_err_set(err, -ENOMEM, PT_EXIT_FAILED, "", "out of memory");
	output->options = options;
	if (options->flight) {
		rc = open_flight(output, info, err);
	} else if (pt_output_is_capture(options->path)) {
		rc = pt_capture_create(options->path, info, true, &output->capture, err);
	} else {
		rc = open_sink(output, info, err);
	}
	if (!rc && options->tap)
		rc = options->tap->open(info, &options->model, options->tap->ctx, err);
	if (rc) {
		pt_output_discard(output);
		return rc;
	}
	*out = output;
	return 0;
}

static void tally(struct pt_output *output, const struct pt_rec *record, size_t len)
{
	struct pt_totals *totals = &output->capture_totals;

	if (record->kind == PT_REC_BATCH && len >= sizeof(struct pt_rec_batch)) {
		pt_tally_batch(&output->tally, (const struct pt_rec_batch *)record);
	} else if (record->kind == PT_REC_CONTROL && len >= sizeof(struct pt_rec_control)) {
		/* the file keeps what was before; whoever replays it starts anew there */
		if (((const struct pt_rec_control *)record)->what == PT_CONTROL_CLEAR) {
			*totals = (struct pt_totals){0};
			output->tally.events = 0;
		}
	} else if (record->kind == PT_REC_NOTE && len >= sizeof(struct pt_rec_note)) {
		const struct pt_rec_note *note = (const struct pt_rec_note *)record;

		if (note->what == PT_NOTE_LOST_EVENTS)
			totals->lost_events = note->value;
		else if (note->what == PT_NOTE_LOST_RECORDS)
			totals->lost_records = note->value;
	}
}

static int record_capture(struct pt_output *output, const struct pt_rec *record, size_t len)
{
	uint64_t max_bytes = output->options->sink.max_bytes;

	if (max_bytes && pt_capture_bytes(output->capture) + len > max_bytes)
		return -EFBIG;
	tally(output, record, len);
	return pt_capture_write(output->capture, record, len, &output->err);
}

static void tell_complete(struct pt_output *output, const struct pt_rec *record, size_t len)
{
	const struct pt_rec_note *note = (const struct pt_rec_note *)record;

	if (record->kind == PT_REC_NOTE && len >= sizeof(*note) && note->what == PT_NOTE_COMPLETE)
		output->options->complete(output->model, note->value, output->options->op_ctx);
}

int pt_output_record(const struct pt_rec *record, size_t len, void *ctx)
{
	struct pt_output *output = ctx;
	int rc;

	if (output->failed)
		return output->failed;
	if (output->flight) {
		tally(output, record, len);
		output->failed = pt_flight_record(record, len, output->flight);
		return output->failed;
	}
	if (output->options->tap)
		output->options->tap->record(record, len, output->options->tap->ctx);
	rc = output->capture ? record_capture(output, record, len)
			     : pt_model_record(output->model, record, len);
	if (!rc && output->options->complete)
		tell_complete(output, record, len);
	if (rc)
		output->failed = rc;
	atomic_store_explicit(&output->bytes,
			      output->options->op ? 0
			      : output->capture   ? pt_capture_bytes(output->capture)
			      : output->split     ? pt_split_bytes(output->split)
						  : pt_sink_bytes(output->sink),
			      memory_order_relaxed);
	return rc;
}

void pt_output_signal(struct pt_output *output, int signal_number)
{
	if (output->flight)
		pt_flight_signal(output->flight, signal_number);
}

bool pt_output_done(const struct pt_output *output)
{
	return output->flight && pt_flight_done(output->flight);
}

uint64_t pt_output_bytes(const struct pt_output *output)
{
	return atomic_load(&((struct pt_output *)(uintptr_t)output)->bytes);
}

/* The file was made by root on behalf of whoever called sudo. */
static void give_to_owner(const char *path, void *ctx)
{
	const struct pt_output_options *options = ctx;
	struct stat st;
	int fd;

	if (!options->give_to_owner || !strcmp(path, "-"))
		return;
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (fd < 0)
		return;
	if (fstat(fd, &st) || !S_ISREG(st.st_mode) || st.st_nlink != 1 || st.st_uid != geteuid() ||
	    fchown(fd, options->owner_uid, options->owner_gid))
		pt_warn("'%s' belongs to root: cannot give it to user %u", path,
			options->owner_uid);
	close(fd);
}

static void remove_file(const char *path, void *ctx)
{
	unlink(path);
}

static bool is_file(const char *path)
{
	struct stat st;

	return strcmp(path, "-") != 0 && (stat(path, &st) || S_ISREG(st.st_mode));
}

static bool same_place(const char *a, const char *b)
{
	const char *a_slash = strrchr(a, '/'), *b_slash = strrchr(b, '/');
	char a_folder[4096], b_folder[4096];
	struct stat a_st, b_st;

	if (strcmp(a_slash ? a_slash + 1 : a, b_slash ? b_slash + 1 : b) != 0)
		return false;
	pt_output_folder(a, a_folder, sizeof(a_folder));
	pt_output_folder(b, b_folder, sizeof(b_folder));
	return !stat(a_folder, &a_st) && !stat(b_folder, &b_st) && a_st.st_dev == b_st.st_dev &&
	       a_st.st_ino == b_st.st_ino;
}

int pt_output_check_rewrite(const char *path, struct pt_err *err)
{
	if (pt_split_wanted(path))
		return pt_err_set(err, -EOPNOTSUPP, PT_EXIT_USAGE, "",
				  "the output is one file a process; only that of all processes "
				  "together can be copied or emptied");
	if (!is_file(path))
		return pt_err_set(err, -EOPNOTSUPP, PT_EXIT_USAGE, "",
				  "the output is a stream; it can be neither copied nor emptied");
	return 0;
}

int pt_output_check_copy(const struct pt_output_options *options, const char *path,
			 struct pt_err *err)
{
	static const char *const suffixes[] = {".json.gz", ".speedscope.json", ".json", ".folded",
					       ".pprof",   ".pb.gz",           ".ptcap"};
	int rc = pt_output_check_rewrite(options->path, err);

	if (rc)
		return rc;
	if (pt_split_wanted(path))
		return pt_err_set(err, -EINVAL, PT_EXIT_USAGE, "",
				  "'%s': a copy is one file, without %%p", path);
	for (size_t i = 0; i < sizeof(suffixes) / sizeof(suffixes[0]); i++) {
		if (ends_with(options->path, suffixes[i]) && !ends_with(path, suffixes[i]))
			return pt_err_set(err, -EINVAL, PT_EXIT_USAGE, "",
					  "'%s' must end in %s, as the output does", path,
					  suffixes[i]);
	}
	/* before the check, which tries the temporary name: that one is in use */
	if (same_place(options->path, path))
		return pt_err_set(err, -EEXIST, PT_EXIT_USAGE, "",
				  "'%s' is the output itself, which comes there at the end", path);
	return pt_output_check(path, err);
}

struct save {
	struct pt_model *model;
	const struct pt_newest *newest;
	uint64_t known_ns;
};

static int fill_open(pt_op_fn op, void *sink, void *ctx)
{
	const struct save *save = ctx;
	int rc = save->newest ? pt_newest_each(save->newest, op, sink) : 0;

	return rc ? rc : pt_model_open_slices(save->model, save->known_ns, op, sink);
}

int pt_output_save(struct pt_output *output, const char *path, uint64_t known_ns,
		   struct pt_err *err)
{
	struct save save = {output->model, output->newest, known_ns};
	struct pt_totals totals;
	int rc;

	if (output->failed)
		return pt_err_set(err, output->failed, PT_EXIT_FAILED, "", "cannot write '%s': %s",
				  output->options->path, strerror(-output->failed));
	if (output->capture) {
		rc = pt_capture_save(output->capture, path, known_ns, err);
	} else {
		pt_model_announce_open(output->model, known_ns);
		pt_model_totals(output->model, &totals);
		if (output->newest)
			totals.left_out = pt_newest_left_out(output->newest);
		rc = pt_sink_save(output->sink, path, fill_open, &save, &totals, err);
	}
	if (!rc)
		give_to_owner(path, (void *)(uintptr_t)output->options);
	return rc;
}

/* -errno if it is not there, or not whole. */
static int close_history(struct pt_output *output, struct pt_err *err)
{
	struct pt_memory_history *history = output->history;

	output->history = NULL;
	if (output->failed && history) {
		pt_warn(
		    "--memory-history: nothing is written: the trace ends before the recording");
		pt_memory_history_discard(history);
		return 0;
	}
	if (output->history_failed)
		return pt_err_set(err, output->history_failed, PT_EXIT_FAILED, "",
				  "cannot write '%s': %s", output->options->memory_history,
				  strerror(-output->history_failed));
	return history ? pt_memory_history_close(history, give_to_owner,
						 (void *)(uintptr_t)output->options, err)
		       : 0;
}

static void release(struct pt_output *output)
{
	if (output->options->tap)
		output->options->tap->close(output->options->tap->ctx);
	pt_memory_history_discard(output->history);
	pt_model_free(output->model);
	pt_newest_free(output->newest);
	pt_tally_release(&output->tally);
	free(output);
}

static void tallied(const struct pt_output *output, struct pt_totals *totals)
{
	*totals = output->capture_totals;
	totals->events = output->tally.events;
	totals->threads = pt_tally_threads(&output->tally);
}

static int close_flight(struct pt_output *output, struct pt_totals *totals, struct pt_err *err)
{
	int rc = output->failed;

	tallied(output, totals);
	pt_flight_close(output->flight, &totals->captures, &totals->captures_failed);
	release(output);
	return rc ? pt_err_set(err, rc, PT_EXIT_FAILED, "", "the flight recorder stopped: %s",
			       strerror(-rc))
		  : 0;
}

int pt_output_close(struct pt_output *output, struct pt_totals *totals, struct pt_err *err)
{
	struct pt_totals own = {0};
	int rc = 0, rc2;

	if (!totals)
		totals = &own;
	if (output->flight)
		return close_flight(output, totals, err);
	if (output->capture) {
		tallied(output, totals);
		rc2 = pt_capture_close(output->capture, true, err);
	} else {
		if (!output->failed)
			rc = pt_model_finish(output->model, totals);
		else
			pt_model_totals(output->model, totals);
		if (!rc && output->newest)
			rc = pt_newest_flush(output->newest);
		if (rc && !output->failed)
			output->failed = rc;
		if (output->newest)
			totals->left_out = pt_newest_left_out(output->newest);
		rc = close_history(output, err); /* stacks are the model's */
		rc2 = output->options->op ? 0
		      : output->split     ? pt_split_close(output->split, totals, give_to_owner,
							   (void *)(uintptr_t)output->options, err)
					  : pt_sink_close(output->sink, totals, err);
		rc2 = rc2 ? rc2 : rc;
	}
	if (output->failed && output->failed != -EFBIG) {
		if (pt_err_is_set(&output->err) && err && !pt_err_is_set(err))
			*err = output->err;
		rc2 = cannot_write(output->options->path, output->failed, err);
	}
	if (!output->split)
		give_to_owner(output->options->path, (void *)(uintptr_t)output->options);
	release(output);
	return rc2;
}

void pt_output_discard(struct pt_output *output)
{
	struct pt_totals nothing = {0};

	if (!output)
		return;
	if (output->flight)
		pt_flight_close(output->flight, &nothing.captures, &nothing.captures_failed);
	if (output->capture)
		pt_capture_close(output->capture, false, NULL);
	if (output->sink) {
		pt_sink_close(output->sink, &nothing, NULL);
		unlink(output->options->path);
	}
	if (output->split)
		pt_split_close(output->split, &nothing, remove_file, NULL, NULL);
	release(output);
}
