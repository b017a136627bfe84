// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * Reads a trace back, a line at a time: this tool writes one event a line (chrome.c). Another
 * tool's JSON is refused. The file is hostile input: lines are bounded, numbers are checked, and a
 * line that is no event is counted as damage.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "base/map.h"
#include "base/utf8.h"
#include "sink/json_scan.h"
#include "sink/report.h"
#include "sink/sink.h"

/* The longest line that chrome.c can write is an event that fills a block. */
#define LINE_MAX_BYTES (256u << 10)
#define HEAD_MAX_LINES 64
#define NESTING_MAX    16
#define TIME_MAX_NS    (1ull << 62)
#define ARGS_MAX       16 /* of an instant about memory */

struct name {
	struct pt_function function;
	struct name *next_same_hash, *next;
	char *key;
};

struct event {
	char *name; /* into the line buffer, unescaped in place */
	char phase;
	bool is_call, is_viztracer, is_loss, is_state, is_memory, is_sample, has_id;
	uint64_t pid, tid, ts_ns, dur_ns, id, parent_id, events;
	char *thread_name;
	struct pt_arg args[ARGS_MAX]; /* with is_memory, is_sample */
	uint32_t arg_count;
};

struct trace_reader {
	gzFile file;
	char *line;
	bool at_end;
	struct pt_report *report;
	struct pt_totals *totals;
	struct pt_map names; /* by hash */
	struct name *name_list;
	uint32_t name_count;
};

/* ---- JSON, in place ---- */

static char *skip_space(char *p)
{
	while (*p == ' ' || *p == '\t' || *p == '\r' || *p == '\n')
		p++;
	return p;
}

static int hex4(const char *p, uint32_t *value)
{
	*value = 0;
	for (int i = 0; i < 4; i++) {
		char c = p[i];
		int digit = c >= '0' && c <= '9'   ? c - '0'
			    : c >= 'a' && c <= 'f' ? c - 'a' + 10
			    : c >= 'A' && c <= 'F' ? c - 'A' + 10
						   : -1;

		if (digit < 0)
			return -EBADMSG;
		*value = *value << 4 | (uint32_t)digit;
	}
	return 0;
}

/* After the backslash; returns where it goes on, or NULL. */
static char *unescape(char *p, char **out)
{
	static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
	const char *plain = *p ? strchr(from, *p) : NULL;
	uint32_t c, low;

	if (plain) {
		*(*out)++ = to[plain - from];
		return p + 1;
	}
	if (*p != 'u' || hex4(p + 1, &c))
		return NULL;
	p += 5;
	if (c >= 0xd800 && c < 0xdc00 && p[0] == '\\' && p[1] == 'u' && !hex4(p + 2, &low) &&
	    low >= 0xdc00 && low < 0xe000) {
		c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
		p += 6;
	}
	*out += pt_utf8_put(*out, c); /* never longer than what it replaces */
	return p;
}

/* Unescapes the string at p in place; returns what follows it, or NULL. */
static char *take_string(char *p, char **text)
{
	char *out;

	if (*p != '"')
		return NULL;
	*text = out = ++p;
	while (*p != '"') {
		if ((unsigned char)*p < 0x20)
			return NULL;
		if (*p == '\\') {
			p = unescape(p + 1, &out);
			if (!p)
				return NULL;
		} else {
			*out++ = *p++;
		}
	}
	*out = '\0';
	return p + 1;
}

/* A number with up to three decimals, times 1000. */
static char *take_milli(char *p, uint64_t *milli)
{
	uint64_t value = 0;
	char *start = p;
	int decimals;

	for (; *p >= '0' && *p <= '9'; p++) {
		value = value * 10 + (uint64_t)(*p - '0');
		if (value > TIME_MAX_NS / 1000)
			return NULL;
	}
	if (p == start)
		return NULL;
	value *= 1000;
	if (*p == '.') {
		p++;
		for (decimals = 100; *p >= '0' && *p <= '9'; p++, decimals /= 10)
			value += (uint64_t)(*p - '0') * (uint64_t)decimals;
	}
	*milli = value;
	return p;
}

static char *take_u64(char *p, uint64_t *value)
{
	char *end;

	if (!strncmp(p, "null", 4)) {
		*value = 0;
		return p + 4;
	}
	if (*p < '0' || *p > '9')
		return NULL;
	errno = 0;
	*value = strtoull(p, &end, 10);
	return errno ? NULL : end;
}

static char *skip_value(char *p)
{
	const char *end = pt_json_skip(p, NESTING_MAX);

	return end ? p + (end - p) : NULL;
}

typedef char *(*member_fn)(const char *key, char *value, struct event *event);

static char *take_object(char *p, member_fn member, struct event *event)
{
	char *key;

	if (*p++ != '{')
		return NULL;
	p = skip_space(p);
	if (*p == '}')
		return p + 1;
	for (;;) {
		p = take_string(skip_space(p), &key);
		if (!p)
			return NULL;
		p = skip_space(p);
		if (*p++ != ':')
			return NULL;
		p = member(key, skip_space(p), event);
		if (!p)
			return NULL;
		p = skip_space(p);
		if (*p == '}')
			return p + 1;
		if (*p++ != ',')
			return NULL;
	}
}

/* The category comes before the arguments. */
static char *take_memory_arg(const char *key, char *value, struct event *event)
{
	struct pt_arg *arg = &event->args[event->arg_count];
	uint64_t number = 0;
	char *text, *end;

	if (event->arg_count == ARGS_MAX)
		return skip_value(value);
	arg->key = key;
	event->arg_count++;
	if (*value == '"') {
		end = take_string(value, &text);
		arg->text = text;
		return end;
	}
	end = take_u64(value + (*value == '-'), &number);
	arg->number = *value == '-' ? -(int64_t)number : (int64_t)number;
	return end;
}

static char *take_arg(const char *key, char *value, struct event *event)
{
	if (event->is_memory || event->is_sample)
		return take_memory_arg(key, value, event);
	if (!strcmp(key, "Python id")) {
		event->has_id = true;
		return take_u64(value, &event->id);
	}
	if (!strcmp(key, "Python parent id"))
		return take_u64(value, &event->parent_id);
	if (!strcmp(key, "events"))
		return take_u64(value, &event->events);
	if (!strcmp(key, "name"))
		return take_string(value, &event->thread_name);
	return skip_value(value);
}

static char *take_member(const char *key, char *value, struct event *event)
{
	char *text, *end;

	if (!strcmp(key, "ph")) {
		end = take_string(value, &text);
		if (end)
			event->phase = text[0];
		return end;
	}
	if (!strcmp(key, "cat")) {
		end = take_string(value, &text);
		if (end) {
			event->is_call = !strcmp(text, "python_function") || !strcmp(text, "FEE");
			event->is_viztracer = event->is_call && text[0] == 'F';
			event->is_loss = !strcmp(text, "loss");
			event->is_state = !strcmp(text, PT_STATE_CATEGORY);
			event->is_memory = !strcmp(text, "cuda_memory");
			event->is_sample = !strcmp(text, PT_SAMPLE_CATEGORY);
		}
		return end;
	}
	if (!strcmp(key, "name"))
		return take_string(value, &event->name);
	if (!strcmp(key, "pid"))
		return take_u64(value, &event->pid);
	if (!strcmp(key, "tid"))
		return take_u64(value, &event->tid);
	if (!strcmp(key, "ts"))
		return take_milli(value, &event->ts_ns);
	if (!strcmp(key, "dur"))
		return take_milli(value, &event->dur_ns);
	if (!strcmp(key, "args"))
		return *value == '{' ? take_object(value, take_arg, event) : NULL;
	return skip_value(value);
}

/* ---- events ---- */

/* Splits "file(line): qualname" in place. */
static void split_name(char *text, struct pt_function *function)
{
	char *open, *close = NULL, *digit;

	for (open = strchr(text, '('); open; open = strchr(open + 1, '(')) {
		for (digit = open + 1; *digit >= '0' && *digit <= '9'; digit++)
			;
		if (digit > open + 1 && !strncmp(digit, "): ", 3)) {
			close = digit;
			break;
		}
	}
	function->file = text;
	function->qualname = text;
	if (!close) {
		function->file = "";
		return;
	}
	*open = '\0';
	function->line = (uint32_t)strtoul(open + 1, NULL, 10);
	function->qualname = close + 3;
}

/* Splits "qualname (file:line)" in place. */
static void split_viztracer_name(char *text, struct pt_function *function)
{
	char *open = strstr(text, " ("), *colon = strrchr(text, ':'), *end;
	unsigned long line;

	function->file = "";
	function->qualname = text;
	if (!open || !colon || colon < open)
		return;
	line = strtoul(colon + 1, &end, 10);
	if (end == colon + 1 || strcmp(end, ")") != 0)
		return;
	*open = *colon = '\0';
	function->file = open + 2;
	function->line = (uint32_t)line;
}

static struct name *name_get(struct trace_reader *reader, const char *text, bool viztracer)
{
	size_t len = strlen(text) + 1;
	uint64_t hash = pt_hash_bytes(text, len, 0);
	struct name *head = pt_map_get(&reader->names, hash, 0), *name;
	struct pt_op op = {.kind = PT_OP_FUNCTION};

	for (name = head; name; name = name->next_same_hash) {
		if (!strcmp(name->key, text))
			return name;
	}
	name = calloc(1, sizeof(*name) + 2 * len);
	if (!name)
		return NULL;
	name->key = memcpy(name + 1, text, len);
	(viztracer ? split_viztracer_name : split_name)(memcpy(name->key + len, text, len),
							&name->function);
	name->function.name = name->function.qualname;
	name->function.id = reader->name_count++;
	name->next_same_hash = head;
	name->next = reader->name_list;
	reader->name_list = name;
	op.function = name->function;
	if (pt_map_put(&reader->names, hash, 0, name) || pt_report_op(&op, reader->report))
		return NULL;
	return name;
}

static int take_call(struct trace_reader *reader, const struct event *event)
{
	struct pt_op op = {.kind = PT_OP_SLICE};
	struct name *name;

	if (!event->has_id)
		return -ENODATA;
	if (!event->id || event->parent_id >= event->id || !event->name)
		return -EBADMSG;
	name = name_get(reader, event->name, event->is_viztracer);
	if (!name)
		return -ENOMEM;
	op.slice = (struct pt_op_slice){
	    .pid = (pid_t)event->pid,
	    .tid = (pid_t)event->tid,
	    .function = &name->function,
	    .begin_ns = event->ts_ns,
	    .end_ns = event->ts_ns + event->dur_ns,
	    .id = event->id,
	    .parent_id = event->parent_id,
	};
	reader->totals->slices++;
	return pt_report_op(&op, reader->report);
}

static int take_sample(struct trace_reader *reader, const struct event *event)
{
	struct pt_op op = {.kind = PT_OP_SPAN};
	struct name *name;

	if (!event->name)
		return -EBADMSG;
	/* either dialect's */
	name = name_get(reader, event->name, !strstr(event->name, "): "));
	if (!name)
		return -ENOMEM;
	op.span = (struct pt_op_span){
	    .pid = (pid_t)event->pid,
	    .tid = (pid_t)event->tid,
	    .function = &name->function,
	    .begin_ns = event->ts_ns,
	    .end_ns = event->ts_ns + event->dur_ns,
	    .category = PT_SAMPLE_CATEGORY,
	    .args = event->args,
	    .arg_count = event->arg_count,
	};
	return pt_report_op(&op, reader->report);
}

static int take_state(struct trace_reader *reader, const struct event *event)
{
	struct pt_op op = {.kind = PT_OP_STATE};

	if (!event->name || event->tid < PT_STATE_TID_BASE)
		return -EBADMSG;
	op.state = (struct pt_op_state){
	    .pid = (pid_t)event->pid,
	    .tid = (pid_t)(event->tid - PT_STATE_TID_BASE),
	    .begin_ns = event->ts_ns,
	    .end_ns = event->ts_ns + event->dur_ns,
	    .state = !strcmp(event->name, "running")       ? PT_STATE_RUNNING
		     : !strcmp(event->name, "runnable")    ? PT_STATE_RUNNABLE
		     : !strncmp(event->name, "blocked", 7) ? PT_STATE_BLOCKED
							   : PT_STATE_LOST,
	    .name = event->name,
	};
	return pt_report_op(&op, reader->report);
}

static int take_memory(struct trace_reader *reader, const struct event *event)
{
	const struct pt_op op = {.kind = PT_OP_INSTANT,
				 .instant = {.pid = (pid_t)event->pid,
					     .tid = (pid_t)event->tid,
					     .time_ns = event->ts_ns,
					     .name = event->name,
					     .category = "cuda_memory",
					     .args = event->args,
					     .arg_count = event->arg_count}};

	return event->name ? pt_report_op(&op, reader->report) : -EBADMSG;
}

/* "thread TID (comm)" -> comm */
static char *comm_of(char *name)
{
	char *open = strchr(name, '('), *close = strrchr(name, ')');

	if (!open || !close || close < open)
		return name;
	*close = '\0';
	return open + 1;
}

static int take_event(struct trace_reader *reader, char *line)
{
	struct event event = {0};
	struct pt_op op = {0};
	char *end = take_object(line, take_member, &event);

	if (!end || event.pid > INT32_MAX || event.tid > INT32_MAX)
		return -EBADMSG;
	end = skip_space(end);
	if (*end == ',')
		end = skip_space(end + 1);
	if (*end)
		return -EBADMSG;
	if (event.phase == 'X' && event.is_call)
		return take_call(reader, &event);
	if (event.phase == 'X' && event.is_sample)
		return take_sample(reader, &event);
	if (event.phase == 'X' && event.is_state)
		return take_state(reader, &event);
	if (event.phase == 'i' && event.is_memory)
		return take_memory(reader, &event);
	if (event.phase == 'i' && event.is_loss) {
		op.kind = PT_OP_LOSS;
		op.loss.pid = (pid_t)event.pid;
		op.loss.tid = (pid_t)event.tid;
		op.loss.events = event.events;
		return pt_report_op(&op, reader->report);
	}
	if (event.phase == 'M' && event.name && !strcmp(event.name, "thread_name") &&
	    event.thread_name && event.tid < PT_STATE_TID_BASE) {
		op.kind = PT_OP_THREAD;
		op.thread.pid = (pid_t)event.pid;
		op.thread.tid = (pid_t)event.tid;
		op.thread.name = event.tid >= PT_TRACK_TID ? event.thread_name
							   : comm_of(event.thread_name);
		return pt_report_op(&op, reader->report);
	}
	return 0;
}

/* ---- lines ---- */

/* 1: a line; 0: the end; -errno. */
static int next_line(struct trace_reader *reader)
{
	size_t len;
	int code;

	if (!gzgets(reader->file, reader->line, LINE_MAX_BYTES)) {
		gzerror(reader->file, &code);
		if (code == Z_BUF_ERROR || code == Z_OK || code == Z_STREAM_END)
			return 0; /* the end, or a compressed file that was cut */
		return -EBADMSG;
	}
	len = strlen(reader->line);
	if (len == LINE_MAX_BYTES - 1 && reader->line[len - 1] != '\n')
		return -EMSGSIZE;
	return 1;
}

static int read_head(struct trace_reader *reader)
{
	bool ours = false;
	int rc;

	for (int i = 0; i < HEAD_MAX_LINES; i++) {
		rc = next_line(reader);
		if (rc <= 0)
			return rc ? rc : -EINVAL;
		if (strstr(reader->line, "\"pytrace-bpf\": {"))
			ours = true;
		if (strstr(reader->line, "\"traceEvents\": ["))
			return ours ? 0 : -EINVAL;
	}
	return -EINVAL;
}

static void read_tail(struct trace_reader *reader)
{
	static const struct {
		const char *key;
		size_t offset;
	} fields[] = {
	    {"\"events\": ", offsetof(struct pt_totals, events)},
	    {"\"lost events\": ", offsetof(struct pt_totals, lost_events)},
	    {"\"lost records\": ", offsetof(struct pt_totals, lost_records)},
	    {"\"damaged records\": ", offsetof(struct pt_totals, bad_records)},
	    {"\"pauses\": ", offsetof(struct pt_totals, pauses)},
	};
	bool whole = false;
	int rc;

	/* a source file is one line; nothing in it looks like a key, since its quotes are escaped
	 */
	while ((rc = next_line(reader)) > 0 || rc == -EMSGSIZE) {
		char *line = skip_space(reader->line);

		for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
			size_t len = strlen(fields[i].key);

			if (!strncmp(line, fields[i].key, len))
				take_u64(line + len,
					 (uint64_t *)((char *)reader->totals + fields[i].offset));
		}
		if (strstr(line, "cut short\": true"))
			reader->totals->cut_short = true;
		whole = line[0] == '}' && line == reader->line;
	}
	if (!whole)
		reader->totals->cut_short = true;
}

static int read_events(struct trace_reader *reader)
{
	uint64_t damaged = 0;
	char *line;
	int rc;

	for (rc = next_line(reader); rc > 0; rc = next_line(reader)) {
		line = skip_space(reader->line);
		if (*line == ']') {
			read_tail(reader);
			reader->totals->bad_records += damaged;
			return 0;
		}
		rc = *line == '{' ? take_event(reader, line) : -EBADMSG;
		if (rc == -EBADMSG)
			damaged++;
		else if (rc)
			return rc;
	}
	reader->totals->cut_short = true;
	reader->totals->bad_records += damaged;
	return rc;
}

static void reader_release(struct trace_reader *reader)
{
	if (reader->file)
		gzclose(reader->file);
	free(reader->line);
	while (reader->name_list) {
		struct name *name = reader->name_list;

		reader->name_list = name->next;
		free(name);
	}
	pt_map_release(&reader->names);
}

static int read_failed(const char *path, int rc, struct pt_err *err)
{
	switch (rc) {
	case -EINVAL:
		return pt_err_set(err, rc, PT_EXIT_FAILED,
				  "Give a .json, .json.gz or .ptcap file that pytrace-bpf wrote.",
				  "'%s' is not a trace of pytrace-bpf", path);
	case -ENODATA:
		return pt_err_set(err, rc, PT_EXIT_FAILED,
				  "Report on the .ptcap capture, or write the trace with call ids.",
				  "'%s' was written without call ids, which self times need", path);
	case -EBADMSG:
	case -EMSGSIZE:
		return pt_err_set(err, -EBADMSG, PT_EXIT_FAILED,
				  "Copy it again, or report on the .ptcap capture.",
				  "'%s' is damaged", path);
	default:
		return pt_err_set(err, rc, rc == -EACCES ? PT_EXIT_PERMISSION : PT_EXIT_FAILED,
				  "Give the path of a trace that you may read.",
				  "cannot read '%s': %s", path, strerror(-rc));
	}
}

int pt_report_read_trace(const char *path, struct pt_report *report, struct pt_totals *totals,
			 struct pt_err *err)
{
	struct trace_reader reader = {.report = report, .totals = totals};
	int rc = -ENOMEM;

	memset(totals, 0, sizeof(*totals));
	reader.line = malloc(LINE_MAX_BYTES);
	if (!reader.line)
		goto out;
	errno = 0;
	reader.file = gzopen(path, "rbe");
	if (!reader.file) {
		rc = errno ? -errno : -ENOMEM;
		goto out;
	}
	gzbuffer(reader.file, 1u << 17);
	rc = read_head(&reader);
	if (!rc)
		rc = read_events(&reader);
	totals->functions = reader.name_count;
out:
	reader_release(&reader);
	return rc ? read_failed(path, rc, err) : 0;
}
