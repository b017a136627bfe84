// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
#include "sink/merge.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "base/log.h"
#include "base/utf8.h"
#include "sink/destination.h"
#include "sink/json_scan.h"
#include "sink/json_text.h"
#include "sink/merge_event.h"
#include "sink/nccl_calls.h"

/* The longest event that chrome.c writes fills a block; it may grow by some longer numbers. */
#define LINE_MAX_BYTES PT_BLOCK_BYTES
#define HEAD_MAX_LINES 64
#define TOTALS_MAX     48
#define KEY_MAX_BYTES  64

/* One number or flag of the summary, of all files together. */
struct total {
	char key[KEY_MAX_BYTES];
	uint64_t number;
	bool is_flag;
};

struct merge_input {
	const char *name;
	gzFile file;
	uint64_t line_number;
	uint64_t base_ns;
	bool ours, has_base, merged;
	char host[PT_MERGE_HOST_BYTES];
	char description[2048]; /* members of its object in the result */
};

struct pt_merge {
	struct pt_destination *destination;
	struct pt_merge_ids ids;
	char *out, *line;
	uint64_t base_ns, events, file_count;
	struct pt_buf inputs; /* the objects that tell of the files */
	struct pt_buf clocks; /* likewise, of hosts */
	FILE *frames;
	uint64_t frame_count;
	struct total totals[TOTALS_MAX];
	size_t total_count;
};

/* ---- reading ---- */

static int damaged(const struct merge_input *input, const char *what, struct pt_err *err)
{
	return pt_err_set(err, -EBADMSG, PT_EXIT_FAILED,
			  "Copy it again, or merge the .ptcap capture that it was made of.",
			  "'%s' is damaged at line %llu: %s", input->name,
			  (unsigned long long)input->line_number, what);
}

static int not_ours(const struct merge_input *input, struct pt_err *err)
{
	return pt_err_set(err, -EINVAL, PT_EXIT_FAILED,
			  "Give .ptcap, .json or .json.gz files that pytrace-bpf wrote.",
			  "'%s' is not a trace of pytrace-bpf", input->name);
}

static int input_open(const char *path, const char *name, struct merge_input *input,
		      struct pt_err *err)
{
	*input = (struct merge_input){.name = name};
	errno = 0;
	input->file = gzopen(path, "rbe");
	if (!input->file) {
		int rc = errno ? -errno : -ENOMEM;

		return pt_err_set(err, rc, rc == -EACCES ? PT_EXIT_PERMISSION : PT_EXIT_FAILED,
				  "Give the path of a file that you may read.",
				  "cannot read '%s': %s", name, strerror(-rc));
	}
	gzbuffer(input->file, 1u << 17);
	return 0;
}

/* 1: a line, or the first part of one that is longer (-EMSGSIZE, its rest comes next); 0: the end;
 * -EBADMSG. */
static int next_line(struct merge_input *input, char *line)
{
	size_t len;
	int code;

	input->line_number++;
	if (!gzgets(input->file, line, LINE_MAX_BYTES)) {
		gzerror(input->file, &code);
		return code == Z_OK || code == Z_STREAM_END ? 0 : -EBADMSG;
	}
	len = strlen(line);
	if (len == LINE_MAX_BYTES - 1 && line[len - 1] != '\n')
		return -EMSGSIZE;
	return 1;
}

/* "key": VALUE on a line of its own, perhaps with a comma. */
static bool take_line(const char *line, struct pt_json_member *member)
{
	const char *end;

	line += strspn(line, " ");
	if (*line != '"' || !(end = pt_json_skip(line, PT_JSON_NESTING_MAX)) || end[0] != ':')
		return false;
	member->key = (struct pt_json_span){line + 1, (size_t)(end - line - 2)};
	end++;
	end += strspn(end, " ");
	member->value.text = end;
	end = pt_json_skip(end, PT_JSON_NESTING_MAX);
	member->value.len = end ? (size_t)(end - member->value.text) : 0;
	return true;
}

static void describe(struct merge_input *input, const struct pt_json_member *member)
{
	size_t len = strlen(input->description);

	if (len + member->key.len + member->value.len + 8 < sizeof(input->description))
		snprintf(input->description + len, sizeof(input->description) - len,
			 ", \"%.*s\": %.*s", (int)member->key.len, member->key.text,
			 (int)member->value.len, member->value.text);
}

static void take_head_line(struct merge_input *input, const char *line)
{
	struct pt_json_member member;

	if (!take_line(line, &member))
		return;
	if (pt_json_is(&member.key, "pytrace-bpf"))
		input->ours = true;
	else if (pt_json_is(&member.key, "baseTimeNanoseconds"))
		input->has_base = pt_json_take_u64(&member.value, &input->base_ns);
	else if (pt_json_is(&member.key, "merged"))
		input->merged = true;
	if (!member.value.len || member.value.text[0] != '"' || !input->ours || input->has_base)
		return;
	if (pt_json_is(&member.key, "host"))
		snprintf(input->host, sizeof(input->host), "%.*s",
			 member.value.len < sizeof(input->host) + 2 ? (int)member.value.len - 2 : 0,
			 member.value.text + 1);
	if (!pt_json_is(&member.key, "displayTimeUnit"))
		describe(input, &member);
}

static int read_head(struct merge_input *input, char *line, struct pt_err *err)
{
	for (int i = 0; i < HEAD_MAX_LINES; i++) {
		int rc = next_line(input, line);

		if (rc <= 0)
			break;
		take_head_line(input, line);
		if (!strstr(line, "\"traceEvents\": ["))
			continue;
		if (!input->ours)
			break;
		if (!input->has_base)
			return pt_err_set(err, -EINVAL, PT_EXIT_FAILED,
					  "Merge the .ptcap capture, or record with --dialect "
					  "pytorch.",
					  "'%s' is in VizTracer's dialect, which cannot be merged",
					  input->name);
		return 0;
	}
	return not_ours(input, err);
}

uint64_t pt_merge_events(const struct pt_merge *merge)
{
	return merge->events;
}

int pt_merge_start(const char *path, uint64_t *base_ns, char host[PT_MERGE_HOST_BYTES],
		   struct pt_err *err)
{
	struct merge_input input = {0};
	char *line = malloc(LINE_MAX_BYTES);
	int rc;

	if (!line)
		return pt_err_set(err, -ENOMEM, PT_EXIT_FAILED, "", "out of memory");
	rc = input_open(path, path, &input, err);
	if (!rc) {
		rc = read_head(&input, line, err);
		gzclose(input.file);
		*base_ns = input.base_ns;
		snprintf(host, PT_MERGE_HOST_BYTES, "%s", input.merged ? "" : input.host);
	}
	free(line);
	return rc;
}

/* ---- writing ---- */

static int put(struct pt_merge *merge, const struct pt_buf *buf)
{
	if (buf->failed)
		return -ENOMEM;
	if (buf->len > PT_BLOCK_BYTES)
		return -EMSGSIZE;
	memcpy(pt_destination_room(merge->destination, buf->len), buf->data, buf->len);
	pt_destination_used(merge->destination, buf->len);
	return pt_destination_error(merge->destination);
}

static int put_head(struct pt_merge *merge)
{
	struct pt_buf head = {0};
	int rc;

	pt_buf_printf(&head,
		      "{\n  \"schemaVersion\": 1,\n  \"deviceProperties\": [],\n"
		      "  \"distributedInfo\": {\n    \"rank\": 0\n  },\n"
		      "  \"pytrace-bpf\": {\n    \"version\": \"%s\",\n    \"merged\": true\n  },\n"
		      "  \"displayTimeUnit\": \"ms\",\n  \"baseTimeNanoseconds\": %llu,\n"
		      "  \"traceEvents\": [",
		      PT_VERSION, (unsigned long long)merge->base_ns);
	rc = put(merge, &head);
	pt_buf_release(&head);
	return rc;
}

static int write_failed(const struct pt_merge *merge, int rc, struct pt_err *err)
{
	return pt_err_set(err, rc, PT_EXIT_FAILED,
			  rc == -ENOSPC || rc == -EDQUOT ? "The disk is full; nothing was written."
							 : "Nothing was written.",
			  "cannot write '%s': %s", merge->out, strerror(-rc));
}

static void merge_free(struct pt_merge *merge)
{
	pt_merge_ids_release(&merge->ids);
	pt_buf_release(&merge->inputs);
	pt_buf_release(&merge->clocks);
	if (merge->frames)
		fclose(merge->frames);
	free(merge->out);
	free(merge->line);
	free(merge);
}

int pt_merge_open(const char *out, uint64_t base_ns, int gzip_level, struct pt_merge **result,
		  struct pt_err *err)
{
	size_t len = strlen(out);
	const struct pt_destination_options options = {
	    .gzip = len > 3 && !strcmp(out + len - 3, ".gz"), .gzip_level = gzip_level};
	struct pt_merge *merge = calloc(1, sizeof(*merge));
	int rc = -ENOMEM;

	if (!merge)
		return pt_err_set(err, rc, PT_EXIT_FAILED, "", "out of memory");
	merge->base_ns = base_ns;
	merge->out = strdup(out);
	merge->line = malloc(LINE_MAX_BYTES);
	merge->frames = tmpfile();
	if (!merge->frames)
		rc = -errno;
	if (merge->out && merge->line && merge->frames)
		rc = pt_destination_open(out, &options, &merge->destination, err);
	if (!rc) {
		rc = put_head(merge);
		if (rc)
			pt_destination_discard(merge->destination);
	}
	if (rc) {
		pt_err_set(err, rc, PT_EXIT_FAILED, "", "cannot write '%s': %s", out,
			   strerror(-rc));
		merge_free(merge);
		return rc;
	}
	*result = merge;
	return 0;
}

/* ---- one file ---- */

struct adding {
	struct pt_merge *merge;
	const struct pt_merge_file *file;
	struct pt_buf out;
};

static int bad_event(const struct merge_input *input, int rc, struct pt_err *err)
{
	if (rc == -EOVERFLOW)
		return damaged(input, "a number is too large", err);
	if (rc == -EBADMSG)
		return damaged(input, "it is no event", err);
	return pt_err_set(err, rc, PT_EXIT_FAILED, "", "%s", strerror(-rc));
}

static int add_event(const struct merge_input *input, const char *line, void *ctx,
		     struct pt_err *err)
{
	struct adding *adding = ctx;
	struct pt_merge *merge = adding->merge;
	struct pt_buf *out = &adding->out;
	const char *end = line;
	int rc;

	out->len = 0;
	pt_buf_add_str(out, merge->events ? ",\n" : "\n");
	rc = *line == '{' ? pt_merge_event(&merge->ids, adding->file, line, &end, out) : -EBADMSG;
	if (!rc && end[strspn(end, ",\r\n")])
		rc = -EBADMSG;
	if (rc)
		return bad_event(input, rc, err);
	rc = put(merge, out);
	merge->events++;
	return rc == -EMSGSIZE ? damaged(input, "it is too long", err)
	       : rc            ? write_failed(merge, rc, err)
			       : 0;
}

/* Up to the "]" behind the last event. buffer: of LINE_MAX_BYTES. */
static int read_events(struct merge_input *input, char *buffer,
		       int (*take)(const struct merge_input *input, const char *line, void *ctx,
				   struct pt_err *err),
		       void *ctx, struct pt_err *err)
{
	int taken = 0;

	while (!taken && next_line(input, buffer) > 0) {
		const char *line = buffer + strspn(buffer, " \r\n");

		if (*line == ']')
			return 0;
		if (*line)
			taken = take(input, line, ctx, err);
	}
	return taken ? taken : damaged(input, "it is cut short", err);
}

static int add_total(struct pt_merge *merge, const struct pt_json_member *member)
{
	bool is_flag = pt_json_is(&member->value, "true") || pt_json_is(&member->value, "false");
	struct total *total = merge->totals;
	uint64_t number = pt_json_is(&member->value, "true");
	size_t i;

	if (member->key.len >= KEY_MAX_BYTES ||
	    (!is_flag && !pt_json_take_u64(&member->value, &number)))
		return -EBADMSG;
	for (i = 0; i < merge->total_count; i++, total++)
		if (pt_json_is(&member->key, total->key))
			break;
	if (i == TOTALS_MAX)
		return -EBADMSG;
	if (i == merge->total_count) {
		memcpy(total->key, member->key.text, member->key.len);
		total->is_flag = is_flag;
		merge->total_count++;
	}
	total->number = is_flag ? total->number | number : total->number + number;
	return 0;
}

/* A line of stackFrames; 1: more follow, 0: it was the last, -errno. */
static int take_frame(struct pt_merge *merge, const struct pt_merge_file *file, const char *line,
		      struct pt_buf *out)
{
	const char *end;
	int rc;

	out->len = 0;
	pt_buf_add_str(out, merge->frame_count ? ",\n" : "\n");
	rc = pt_merge_frame(&merge->ids, file, line, &end, out);
	if (rc)
		return rc;
	if (fwrite(out->data, 1, out->len, merge->frames) != out->len)
		return -EIO;
	merge->frame_count++;
	return *end == ',';
}

static int read_frames(struct pt_merge *merge, struct merge_input *input,
		       const struct pt_merge_file *file, struct pt_err *err)
{
	struct pt_buf out = {0};
	int rc;

	while ((rc = next_line(input, merge->line)) > 0) {
		rc = take_frame(merge, file, merge->line, &out);
		if (rc <= 0)
			break;
	}
	pt_buf_release(&out);
	if (rc == -EIO)
		return pt_err_set(err, rc, PT_EXIT_FAILED, "Is there room in /tmp?",
				  "cannot write a temporary file");
	return rc ? damaged(input, "stackFrames", err) : 0;
}

static int read_summary(struct pt_merge *merge, struct merge_input *input, struct pt_err *err)
{
	struct pt_json_member member;

	while (next_line(input, merge->line) > 0) {
		if (merge->line[strspn(merge->line, " ")] == '}')
			return 0;
		if (!take_line(merge->line, &member) || add_total(merge, &member))
			break;
	}
	return damaged(input, "its summary", err);
}

/* What stands behind the events. What is not known, or belongs to one file only, is left out. */
static int read_tail(struct pt_merge *merge, struct merge_input *input,
		     const struct pt_merge_file *file, struct pt_err *err)
{
	struct pt_json_member member;
	bool begins = true; /* not the rest of a long line */
	int rc;

	while ((rc = next_line(input, merge->line)) > 0 || rc == -EMSGSIZE) {
		const char *line = merge->line;
		bool top = begins && !strncmp(line, "  \"", 3);

		begins = rc > 0;
		if (begins && line[0] == '}')
			return 0;
		if (!top || !take_line(line, &member))
			continue;
		if (pt_json_is(&member.key, "stackFrames"))
			rc = read_frames(merge, input, file, err);
		else if (pt_json_is(&member.key, "pytrace-bpf summary"))
			rc = read_summary(merge, input, err);
		else if (pt_json_is(&member.key, "file_info"))
			pt_warn("'%s': its source files are left out", input->name);
		if (rc < 0)
			return rc;
	}
	return damaged(input, "it is cut short", err);
}

static void tell_input(struct pt_merge *merge, const struct merge_input *input)
{
	char name[1024];

	pt_utf8_clean(name, sizeof(name), input->name, strlen(input->name));
	pt_buf_add_str(&merge->inputs,
		       merge->file_count ? ",\n    {\"file\": " : "\n    {\"file\": ");
	pt_json_string(&merge->inputs, name);
	pt_buf_add_str(&merge->inputs, input->description);
	pt_buf_add_str(&merge->inputs, "}");
}

int pt_merge_add(struct pt_merge *merge, const char *path, const char *name, int64_t offset_ns,
		 struct pt_err *err)
{
	struct pt_merge_file file = {.index = merge->file_count};
	struct adding adding = {.merge = merge, .file = &file};
	struct merge_input input = {0};
	int rc = input_open(path, name, &input, err);

	if (rc)
		return rc;
	rc = read_head(&input, merge->line, err);
	if (!rc && input.base_ns < merge->base_ns)
		rc = pt_err_set(err, -EINVAL, PT_EXIT_FAILED, "Was it written anew meanwhile?",
				"'%s' counts from an earlier time than before", name);
	if (!rc) {
		file.host = input.merged ? "" : input.host;
		if (input.base_ns - merge->base_ns > INT64_MAX / 2 ||
		    __builtin_add_overflow((int64_t)(input.base_ns - merge->base_ns), offset_ns,
					   &file.shift_ns))
			rc = damaged(&input, "its time is too large", err);
		pt_merge_begin(&merge->ids, &file);
	}
	if (!rc)
		rc = read_events(&input, merge->line, add_event, &adding, err);
	pt_buf_release(&adding.out);
	if (!rc)
		rc = read_tail(merge, &input, &file, err);
	if (!rc)
		tell_input(merge, &input);
	merge->file_count++;
	gzclose(input.file);
	return rc;
}

void pt_merge_tell_clocks(struct pt_merge *merge, const struct pt_buf *clocks)
{
	pt_buf_add(&merge->clocks, clocks->data, clocks->len);
	merge->clocks.failed |= clocks->failed;
}

/* ---- a look, before anything is written ---- */

static int look_at_event(const struct merge_input *input, const char *line, void *ctx,
			 struct pt_err *err)
{
	int rc = *line == '{' ? pt_nccl_event(ctx, line) : -EBADMSG;

	return rc ? bad_event(input, rc, err) : 0;
}

/* What a number or flag of the summary says about events that are not there; NULL: nothing. */
static const char *missing_by(const struct pt_json_member *member)
{
	static const char *const keys[] = {"lost events",
					   "lost records",
					   "damaged records",
					   "pauses",
					   "older entries left out",
					   "running calls left out",
					   "capture cut short",
					   PT_MERGE_SHORT_CALLS,
					   "document cut short"};

	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
		if (pt_json_is(&member->key, keys[i]))
			return pt_json_is(&member->value, "0") ||
				       pt_json_is(&member->value, "false")
				   ? NULL
				   : keys[i];
	return NULL;
}

/* Up to the end of the summary, which ends the file. */
static int look_at_tail(struct merge_input *input, char *line, const char **missing,
			struct pt_err *err)
{
	struct pt_json_member member;
	bool begins = true, inside = false; /* not the rest of a long line; the summary */
	int rc;

	while ((rc = next_line(input, line)) > 0 || rc == -EMSGSIZE) {
		bool whole = begins && rc > 0;

		begins = rc > 0;
		if (inside && line[strspn(line, " ")] == '}')
			return 0;
		if (!whole || !take_line(line, &member))
			continue;
		if (inside && !*missing)
			*missing = missing_by(&member);
		inside |= !strncmp(line, "  \"", 3) &&
			  pt_json_is(&member.key, "pytrace-bpf summary");
	}
	return damaged(input, "it is cut short", err);
}

int pt_merge_look(const char *path, const char *name, struct pt_nccl *nccl, const char **missing,
		  struct pt_err *err)
{
	struct merge_input input = {0};
	char *line = malloc(LINE_MAX_BYTES);
	int rc = -ENOMEM;

	*missing = NULL;
	if (line)
		rc = input_open(path, name, &input, err);
	else
		pt_err_set(err, rc, PT_EXIT_FAILED, "", "out of memory");
	if (!rc) {
		rc = read_head(&input, line, err);
		if (!rc)
			rc = read_events(&input, line, look_at_event, nccl, err);
		if (!rc)
			rc = look_at_tail(&input, line, missing, err);
		gzclose(input.file);
	}
	free(line);
	return rc;
}

/* ---- the end ---- */

static int put_frames(struct pt_merge *merge)
{
	char piece[4096];
	size_t len;

	if (!merge->frame_count)
		return 0;
	if (fflush(merge->frames) || fseek(merge->frames, 0, SEEK_SET))
		return -errno;
	while ((len = fread(piece, 1, sizeof(piece), merge->frames))) {
		const struct pt_buf buf = {.data = piece, .len = len};
		int rc = put(merge, &buf);

		if (rc)
			return rc;
	}
	return ferror(merge->frames) ? -EIO : 0;
}

static int put_text(struct pt_merge *merge, const char *text)
{
	const struct pt_buf buf = {.data = (char *)(uintptr_t)text, .len = strlen(text)};

	return put(merge, &buf);
}

static void write_tail(const struct pt_merge *merge, struct pt_buf *tail)
{
	char name[1024];

	pt_utf8_clean(name, sizeof(name), merge->out, strlen(merge->out));
	pt_buf_add_str(tail, merge->frame_count ? "},\n" : "\n  ],\n");
	pt_buf_add_str(tail, "  \"pytrace-bpf inputs\": [");
	pt_buf_add(tail, merge->inputs.data, merge->inputs.len);
	if (merge->clocks.len) {
		pt_buf_add_str(tail, "\n  ],\n  \"pytrace-bpf clocks\": [");
		pt_buf_add(tail, merge->clocks.data, merge->clocks.len);
	}
	pt_buf_add_str(tail, "\n  ],\n  \"traceName\": ");
	pt_json_string(tail, name);
	pt_buf_add_str(tail, ",\n  \"pytrace-bpf summary\": {");
	for (size_t i = 0; i < merge->total_count; i++) {
		const struct total *total = &merge->totals[i];

		pt_buf_printf(tail, "%s\n    \"%s\": ", i ? "," : "", total->key);
		if (total->is_flag)
			pt_buf_add_str(tail, total->number ? "true" : "false");
		else
			pt_buf_printf(tail, "%llu", (unsigned long long)total->number);
	}
	pt_buf_add_str(tail, "\n  }\n}\n");
	tail->failed |= merge->inputs.failed || merge->clocks.failed;
}

int pt_merge_close(struct pt_merge *merge, struct pt_err *err)
{
	struct pt_buf tail = {0};
	int rc = 0;

	if (merge->frame_count)
		rc = put_text(merge, "\n  ],\n  \"stackFrames\": {");
	if (!rc)
		rc = put_frames(merge);
	write_tail(merge, &tail);
	if (!rc && tail.failed)
		rc = -ENOMEM;
	if (!rc)
		rc = pt_destination_flush(merge->destination, true);
	if (rc) {
		pt_destination_discard(merge->destination);
		write_failed(merge, rc, err);
	} else {
		rc = pt_destination_close(merge->destination, tail.data, tail.len, err);
	}
	pt_buf_release(&tail);
	merge_free(merge);
	return rc;
}

void pt_merge_discard(struct pt_merge *merge)
{
	if (!merge)
		return;
	pt_destination_discard(merge->destination);
	merge_free(merge);
}
