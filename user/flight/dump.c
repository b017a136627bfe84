// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
#include "flight/dump.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "flight/html.h"
#include "flight/stacks_text.h"
#include "flight/store.h"
#include "flight/tar.h"
#include "sink/json_text.h"
#include "sink/report.h"

#define REPORT_TOP 20

struct pt_dump_writing {
	bool begun; /* what lies before the window is over */
	struct pt_sink *sink;
	struct pt_report *report;
	struct pt_stacks_text stacks;
	struct pt_totals totals;
	struct pt_buf meta;   /* the text of meta.json */
	char *stacks_content; /* that of stacks.txt */
	char folder[PATH_MAX];
};

/* ---- the ops ---- */

static int write_op(struct pt_dump_writing *writing, const struct pt_op *op)
{
	int rc = pt_sink_op(op, writing->sink);

	if (!rc)
		rc = pt_report_op(op, writing->report);
	return rc ? rc : pt_stacks_text_op(&writing->stacks, op);
}

int pt_dump_op(const struct pt_op *op, void *ctx)
{
	struct pt_dump *dump = ctx;
	struct pt_dump_writing *writing = dump->writing;
	struct pt_op shown;

	if (!writing)
		return 0;
	if (op->kind == PT_OP_CLEAR) {
		writing->begun = true;
		return 0;
	}
	if (!writing->begun || op->kind == PT_OP_MEMORY)
		return 0;
	if (op->kind != PT_OP_PROCESS || dump->options->command_line)
		return write_op(writing, op);
	shown = *op;
	shown.process.cmdline = NULL;
	return write_op(writing, &shown);
}

/* ---- the records ---- */

/* Where the window begins says the clear, which came first. */
static int feed(const struct pt_rec *record, size_t len, void *ctx)
{
	const struct pt_rec_note *note = (const struct pt_rec_note *)record;

	if (record->kind == PT_REC_NOTE && len >= sizeof(*note) && note->what == PT_NOTE_GATE_OPEN)
		return 0;
	return pt_model_record(ctx, record, len);
}

static int feed_all(struct pt_dump *dump)
{
	const struct pt_rec_control clear = {
	    .hdr = {.kind = PT_REC_CONTROL, .len = sizeof(clear), .time_ns = dump->begin_ns},
	    .what = PT_CONTROL_CLEAR,
	};
	const struct pt_rec_note end = {
	    .hdr = {.kind = PT_REC_NOTE, .len = sizeof(end), .time_ns = dump->end_ns},
	    .what = PT_NOTE_GATE_CLOSE,
	};
	int rc = pt_model_record(dump->model, &clear.hdr, sizeof(clear));

	if (!rc)
		rc = pt_ring_each(dump->ring, feed, dump->model);
	if (!rc)
		rc = pt_model_record(dump->model, &end.hdr, sizeof(end));
	return rc ? rc : pt_model_finish(dump->model, &dump->writing->totals);
}

/* ---- the files ---- */

static uint64_t real_ns(const struct pt_dump *dump, uint64_t mono_ns)
{
	return dump->info->start_real_ns + (mono_ns - dump->info->start_mono_ns);
}

static void time_text(uint64_t ns, char *text, size_t size)
{
	time_t seconds = (time_t)(ns / 1000000000u);
	struct tm tm;
	size_t len;

	gmtime_r(&seconds, &tm);
	len = strftime(text, size, "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(text + len, size - len, ".%06uZ", (unsigned int)(ns / 1000 % 1000000));
}

static FILE *create(const struct pt_dump_writing *writing, const char *name)
{
	char path[PATH_MAX + 32];
	FILE *file;
	int fd;

	snprintf(path, sizeof(path), "%s/%s", writing->folder, name);
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return NULL;
	file = fdopen(fd, "w");
	if (!file)
		close(fd);
	return file;
}

/* rc: what writing into it returned. */
static int finish(FILE *file, int rc)
{
	int failed = ferror(file) || fflush(file) ? (errno ? -errno : -EIO) : 0;

	if (fclose(file) && !failed)
		failed = -errno;
	return rc ? rc : failed;
}

static int write_report(struct pt_dump_writing *writing)
{
	FILE *file = create(writing, "report.txt");

	if (!file)
		return -errno;
	return finish(file,
		      pt_report_print_text(writing->report, &writing->totals, REPORT_TOP, file));
}

static int write_text(const struct pt_dump_writing *writing, const char *name, const char *text)
{
	FILE *file = create(writing, name);

	if (!file)
		return -errno;
	fputs(text, file);
	return finish(file, 0);
}

static int write_stacks(const struct pt_dump *dump)
{
	struct pt_dump_writing *writing = dump->writing;
	size_t size;
	FILE *text = open_memstream(&writing->stacks_content, &size);
	int rc;

	if (!text)
		return -errno;
	for (size_t i = 0; i < dump->cause_count; i++)
		fprintf(text, "%s: %s\n", dump->causes[i].trigger->text,
			dump->causes[i].fired.text);
	rc = finish(text, pt_stacks_text_print(&writing->stacks, dump->end_ns, text));
	return rc ? rc : write_text(writing, "stacks.txt", writing->stacks_content);
}

static void add_text(struct pt_buf *buf, const char *key, const char *text)
{
	pt_buf_printf(buf, "%s  \"%s\": ", buf->len > 2 ? ",\n" : "", key);
	pt_json_string(buf, text);
}

static void add_number(struct pt_buf *buf, const char *key, uint64_t number)
{
	pt_buf_printf(buf, ",\n  \"%s\": %llu", key, (unsigned long long)number);
}

static void add_seconds(struct pt_buf *buf, const char *key, uint64_t ns)
{
	pt_buf_printf(buf, ",\n  \"%s\": %.6f", key, (double)ns / 1e9);
}

static void add_time(struct pt_buf *buf, const struct pt_dump *dump, const char *key, uint64_t ns)
{
	char text[40];

	time_text(real_ns(dump, ns), text, sizeof(text));
	add_text(buf, key, text);
}

static void add_causes(struct pt_buf *buf, const struct pt_dump *dump)
{
	const struct pt_dump_cause *first = &dump->causes[0];

	add_text(buf, "trigger", first->trigger->text);
	add_text(buf, "what", first->fired.text);
	add_time(buf, dump, "time", first->fired.time_ns);
	if (first->fired.pid)
		add_number(buf, "pid", (uint64_t)first->fired.pid);
	if (first->fired.tid)
		add_number(buf, "tid", (uint64_t)first->fired.tid);
	pt_buf_add_str(buf, ",\n  \"also fired\": [");
	for (size_t i = 1; i < dump->cause_count; i++) {
		pt_buf_add_str(buf, i > 1 ? ", [" : "[");
		pt_json_string(buf, dump->causes[i].trigger->text);
		pt_buf_add_str(buf, ", ");
		pt_json_string(buf, dump->causes[i].fired.text);
		pt_buf_add_str(buf, "]");
	}
	pt_buf_add_str(buf, "]");
	if (dump->container[0])
		add_text(buf, "container", dump->container);
	add_number(buf, "triggers passed over before", dump->passed_over);
}

static void add_trace(struct pt_buf *buf, const struct pt_dump *dump)
{
	const struct pt_totals *totals = &dump->writing->totals;
	uint64_t fired_ns = dump->causes[0].fired.time_ns;

	add_time(buf, dump, "window begins", dump->begin_ns);
	add_time(buf, dump, "window ends", dump->end_ns);
	add_seconds(buf, "seconds before the trigger",
		    fired_ns > dump->begin_ns ? fired_ns - dump->begin_ns : 0);
	add_seconds(buf, "seconds asked for", dump->options->last_ns);
	add_number(buf, "events", totals->events);
	add_number(buf, "calls", totals->slices);
	add_number(buf, "lost events", totals->lost_events);
	add_number(buf, "lost records", totals->lost_records);
	add_number(buf, "damaged records", totals->bad_records);
	add_number(buf, "stack jumps", totals->stack_jumps);
}

static int write_meta(const struct pt_dump *dump)
{
	struct pt_buf *buf = &dump->writing->meta;
	struct rusage usage = {0};

	pt_buf_add_str(buf, "{\n");
	add_causes(buf, dump);
	add_text(buf, "host", dump->info->host);
	add_text(buf, "kernel", dump->info->kernel);
	if (dump->info->interpreter[0])
		add_text(buf, "interpreter", dump->info->interpreter);
	if (dump->info->engine[0])
		add_text(buf, "engine", dump->info->engine);
	add_text(buf, "pytrace-bpf", dump->info->tool_version);
	add_trace(buf, dump);
	add_seconds(buf, "recorder seconds", dump->recorded_ns);
	add_seconds(buf, "recorder cpu seconds", dump->recorder_cpu_ns);
	add_number(buf, "recorder records bytes", pt_ring_bytes(dump->ring));
	if (!getrusage(RUSAGE_SELF, &usage))
		add_number(buf, "writing cpu ms",
			   (uint64_t)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000 +
			       (uint64_t)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1000);
	pt_buf_add(buf, "\n}\n", sizeof("\n}\n")); /* with the NUL */
	return buf->failed ? -ENOMEM : write_text(dump->writing, "meta.json", buf->data);
}

static int write_html(const struct pt_dump_writing *writing)
{
	FILE *file = create(writing, "report.html");

	if (!file)
		return -errno;
	return finish(file, pt_html_report(writing->meta.data, writing->report,
					   writing->stacks_content, REPORT_TOP, file));
}

static int write_trace(struct pt_dump *dump, struct pt_err *err)
{
	struct pt_dump_writing *writing = dump->writing;
	char path[PATH_MAX + 32];
	int rc, closed;

	snprintf(path, sizeof(path), "%s/trace.json.gz", writing->folder);
	rc = pt_sink_open(path, dump->info, dump->sink_options, &writing->sink, err);
	if (rc)
		return rc;
	rc = feed_all(dump);
	closed = pt_sink_close(writing->sink, &writing->totals, rc ? NULL : err);
	return rc ? rc : closed;
}

/* The files were made by root on behalf of whoever called sudo. */
static int give_to_owner(const struct pt_dump *dump)
{
	char path[PATH_MAX + 32];

	if (dump->owner_uid == (uid_t)-1)
		return 0;
	for (size_t i = 0; pt_store_files[i]; i++) {
		snprintf(path, sizeof(path), "%s/%s", dump->writing->folder, pt_store_files[i]);
		if (lchown(path, dump->owner_uid, dump->owner_gid) && errno != ENOENT)
			return -errno;
	}
	return lchown(dump->writing->folder, dump->owner_uid, dump->owner_gid) ? -errno : 0;
}

static int write_files(struct pt_dump *dump, struct pt_err *err)
{
	int rc = write_trace(dump, err);

	if (!rc)
		rc = write_report(dump->writing);
	if (!rc)
		rc = write_stacks(dump);
	if (!rc)
		rc = write_meta(dump);
	return rc ? rc : write_html(dump->writing);
}

/* Packs the finished folder, which goes. */
static int pack(const struct pt_dump *dump, const char *last)
{
	char temporary[PATH_MAX + 16];
	int rc;

	snprintf(temporary, sizeof(temporary), "%s.gz", dump->writing->folder);
	rc = pt_tar_gz(dump->writing->folder, dump->name, pt_store_files, temporary);
	if (rc)
		return rc;
	if (dump->owner_uid != (uid_t)-1 && lchown(temporary, dump->owner_uid, dump->owner_gid))
		rc = -errno;
	if (!rc && rename(temporary, last))
		rc = -errno;
	if (rc)
		unlink(temporary);
	return rc;
}

static int show(const struct pt_dump *dump, const char *last)
{
	int rc;

	if (dump->options->tar)
		return pack(dump, last);
	rc = give_to_owner(dump);
	return !rc && rename(dump->writing->folder, last) ? -errno : rc;
}

int pt_dump_write(struct pt_dump *dump, struct pt_err *err)
{
	struct pt_dump_writing writing = {0};
	char last[PATH_MAX], temporary[160];
	int rc;

	snprintf(temporary, sizeof(temporary), ".%s.tmp", dump->name);
	if (snprintf(writing.folder, sizeof(writing.folder), "%s/%s", dump->options->folder,
		     temporary) >= (int)sizeof(writing.folder) ||
	    snprintf(last, sizeof(last), "%s/%s%s", dump->options->folder, dump->name,
		     dump->options->tar ? PT_STORE_TAR : "") >= (int)sizeof(last))
		return pt_err_set(err, -ENAMETOOLONG, PT_EXIT_FAILED, "",
				  "the name of the folder of captures is too long");
	rc = pt_report_new(&writing.report);
	if (!rc && mkdir(writing.folder, 0700))
		rc = -errno;
	if (!rc) {
		dump->writing = &writing;
		rc = write_files(dump, err);
		if (!rc)
			rc = show(dump, last);
		dump->writing = NULL;
		if (rc || dump->options->tar)
			pt_store_remove(dump->options->folder, temporary);
	}
	pt_report_free(writing.report);
	pt_stacks_text_release(&writing.stacks);
	pt_buf_release(&writing.meta);
	free(writing.stacks_content);
	return rc ? pt_err_set(err, rc, PT_EXIT_FAILED, "", "cannot write '%s': %s", last,
			       strerror(-rc))
		  : 0;
}
