// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * The Chrome trace format, in the schema that PyTorch's profiler writes: Perfetto,
 * chrome://tracing, speedscope and Holistic Trace Analysis read it. The other dialect is
 * VizTracer's, for its own viewer and tools (src/viztracer/modules/eventnode.c, report_builder.py).
 *
 * One event a line, and the comma before the line break, so that the destination can cut the
 * document between events. What repeats is prepared: each function's text up to its name, and
 * each thread's pid and tid; an event is then two copies, four numbers and some punctuation.
 * Cost: about 0.1 us an event.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/map.h"
#include "base/utf8.h"
#include "sink/format.h"
#include "sink/json_text.h"
#include "sink/ranks.h"

/* Kineto's ChromeTraceBaseTime: times count from unix time floored to a multiple of three months
 * of 2629746 s (libkineto/src/time_since_epoch.h, ChromeTraceBaseTime.h), so that traces of several
 * hosts share it and a double holds them to the nanosecond. */
#define BASE_INTERVAL_NS (7889238ull * 1000000000ull)

/* All of an event but its prepared texts. */
#define EVENT_REST_BYTES 512

/* PT_SLICE_*, by bit */
static const char *const flag_texts[] = {
    "\"open at start\":true", "\"open at end\":true",  "\"begin lost\":true",
    "\"end lost\":true",      "\"begin paused\":true", "\"end paused\":true",
};
#define FLAG_COUNT (sizeof(flag_texts) / sizeof(flag_texts[0]))

struct text {
	char *data;
	size_t len;
};

struct chrome_function {
	struct text head; /* ,\n{..,"name":"..." */
	struct text call; /* "CallFrom":"FILE:, once it is wanted */
	const struct pt_source *source;
	char *file; /* NULL: no sources are wanted */
	uint32_t line;
	bool asked; /* for its source */
};

struct chrome_thread {
	pid_t pid, tid;
	struct text where; /* ,"pid":1,"tid":2,"ts": */
	bool has_states;   /* their track has its name; of a GPU's track: it has */
	struct chrome_thread *next;
};

/* A frame below its callers, of which several stacks have the outer ones in common. */
struct chrome_frame {
	uint32_t parent; /* a number, from 1; 0: it is the outermost */
	const char *category;
	char *name;
	uint32_t next_same_hash;
};

struct chrome {
	struct pt_destination *destination;
	struct pt_destination *own; /* while destination is a copy's; else NULL */
	enum pt_dialect dialect;
	pt_source_fn source;
	void *source_ctx;
	char process_name[256]; /* "": their own */
	char version[32];       /* of the tool */
	bool call_ids, any_event, own_any_event;
	struct pt_capture_info info;
	struct pt_ranks ranks;
	int head_error;                    /* of a head that comes with the first event */
	uint64_t base_ns;                  /* unix time */
	uint64_t mono_base;                /* CLOCK_MONOTONIC at base_ns, modulo 2^64 */
	struct chrome_function *functions; /* by id */
	uint32_t function_count;
	struct pt_map threads;
	struct chrome_thread *thread_list, *last;
	struct chrome_frame *frames; /* number 1 first */
	uint32_t frame_count, frame_room;
	struct pt_map frame_by_hash; /* (hash of the name, parent): the newest, as a number */
	uint32_t *stacks;            /* by id: the innermost frame's number */
	uint32_t stack_room;
};

uint64_t pt_chrome_base_ns(uint64_t start_real_ns)
{
	return start_real_ns - start_real_ns % BASE_INTERVAL_NS;
}

static void add_text(struct pt_buf *buf, const char *key, const char *value)
{
	pt_buf_printf(buf, "    \"%s\": ", key);
	pt_json_string(buf, value);
}

static void write_head(struct chrome *chrome, struct pt_buf *buf)
{
	const struct pt_capture_info *info = &chrome->info;

	if (chrome->dialect == PT_DIALECT_PYTORCH)
		pt_ranks_head(&chrome->ranks, buf);
	pt_buf_add_str(buf, "  \"pytrace-bpf\": {\n");
	add_text(buf, "version", info->tool_version);
	pt_buf_add_str(buf, ",\n");
	add_text(buf, "interpreter", info->interpreter);
	pt_buf_add_str(buf, ",\n");
	add_text(buf, "engine", info->engine);
	pt_buf_add_str(buf, ",\n");
	add_text(buf, "host", info->host);
	pt_buf_add_str(buf, ",\n");
	add_text(buf, "kernel", info->kernel);
	pt_buf_add_str(buf, "\n  },\n"
			    "  \"displayTimeUnit\": \"ms\",\n");
	if (chrome->dialect == PT_DIALECT_PYTORCH)
		pt_buf_printf(buf, "  \"baseTimeNanoseconds\": %llu,\n",
			      (unsigned long long)chrome->base_ns);
	pt_buf_add_str(buf, "  \"traceEvents\": [");
}

static int put_buf(struct chrome *chrome, const struct pt_buf *buf)
{
	if (buf->failed)
		return -ENOMEM;
	if (buf->len > PT_BLOCK_BYTES)
		return -E2BIG;
	memcpy(pt_destination_room(chrome->destination, buf->len), buf->data, buf->len);
	pt_destination_used(chrome->destination, buf->len);
	return 0;
}

static int take(struct text *text, struct pt_buf *buf)
{
	if (buf->failed) {
		pt_buf_release(buf);
		return -ENOMEM;
	}
	text->data = buf->data;
	text->len = buf->len;
	return 0;
}

/* What comes at once, so that it is known early where nothing can be written. */
static int put_start(struct chrome *chrome)
{
	struct pt_buf start = {0};
	int rc;

	pt_buf_add_str(&start, "{\n");
	if (chrome->dialect == PT_DIALECT_PYTORCH)
		pt_buf_add_str(&start, "  \"schemaVersion\": 1,\n"
				       "  \"deviceProperties\": [],\n");
	rc = put_buf(chrome, &start);
	pt_buf_release(&start);
	return rc ? rc : pt_destination_flush(chrome->destination, true);
}

/* What comes with the first event, since by then ranks are known. */
static int put_head(struct chrome *chrome)
{
	struct pt_buf head = {0};
	int rc;

	write_head(chrome, &head);
	rc = put_buf(chrome, &head);
	pt_buf_release(&head);
	return rc ? rc : pt_destination_flush(chrome->destination, true);
}

static void chrome_free(void *state)
{
	struct chrome *chrome = state;

	while (chrome->thread_list) {
		struct chrome_thread *thread = chrome->thread_list;

		chrome->thread_list = thread->next;
		free(thread->where.data);
		free(thread);
	}
	for (uint32_t i = 0; i < chrome->function_count; i++) {
		free(chrome->functions[i].head.data);
		free(chrome->functions[i].call.data);
		free(chrome->functions[i].file);
	}
	free(chrome->functions);
	for (uint32_t i = 0; i < chrome->frame_count; i++)
		free(chrome->frames[i].name);
	free(chrome->frames);
	free(chrome->stacks);
	pt_map_release(&chrome->frame_by_hash);
	pt_map_release(&chrome->threads);
	pt_ranks_release(&chrome->ranks);
	free(chrome);
}

static int chrome_open(struct pt_destination *destination, const struct pt_capture_info *info,
		       const struct pt_sink_options *options, void **state)
{
	struct chrome *chrome = calloc(1, sizeof(*chrome));
	int rc;

	if (!chrome)
		return -ENOMEM;
	chrome->destination = destination;
	chrome->info = *info;
	chrome->dialect = options->dialect;
	chrome->source = options->source;
	chrome->source_ctx = options->source_ctx;
	if (options->process_name)
		pt_utf8_clean(chrome->process_name, sizeof(chrome->process_name),
			      options->process_name, strlen(options->process_name));
	snprintf(chrome->version, sizeof(chrome->version), "%s", info->tool_version);
	chrome->call_ids = !options->no_call_ids;
	chrome->base_ns = pt_chrome_base_ns(info->start_real_ns);
	chrome->mono_base = info->start_mono_ns - info->start_real_ns % BASE_INTERVAL_NS;
	rc = put_start(chrome);
	if (rc)
		chrome_free(chrome);
	else
		*state = chrome;
	return rc;
}

static uint64_t since_base(const struct chrome *chrome, uint64_t mono_ns)
{
	uint64_t ns = mono_ns - chrome->mono_base;

	return ns >> 63 ? 0 : ns; /* before the base: only a damaged capture says so */
}

/* The name of a function's events, as JSON text. */
static void add_name(const struct chrome *chrome, struct pt_buf *buf,
		     const struct pt_function *function)
{
	if (!function->file[0] && !function->line) { /* a C function */
		pt_json_escape(buf, function->qualname);
	} else if (chrome->dialect == PT_DIALECT_VIZTRACER) {
		pt_json_escape(buf, function->qualname);
		pt_buf_add_str(buf, " (");
		pt_json_escape(buf, function->file);
		pt_buf_printf(buf, ":%u)", function->line);
	} else {
		pt_json_escape(buf, function->file);
		pt_buf_printf(buf, "(%u): ", function->line);
		pt_json_escape(buf, function->qualname);
	}
}

/* Its place in the table, zeroed if it is new; NULL: no memory. */
static struct chrome_function *function_at(struct chrome *chrome, uint32_t id)
{
	uint32_t count = chrome->function_count ? chrome->function_count : 64;
	struct chrome_function *functions;

	while (count <= id)
		count *= 2;
	if (count > chrome->function_count) {
		functions = realloc(chrome->functions, count * sizeof(*functions));
		if (!functions)
			return NULL;
		memset(functions + chrome->function_count, 0,
		       (count - chrome->function_count) * sizeof(*functions));
		chrome->functions = functions;
		chrome->function_count = count;
	}
	return &chrome->functions[id];
}

static int add_function(struct chrome *chrome, const struct pt_function *function)
{
	struct chrome_function *entry = function_at(chrome, function->id);
	struct pt_buf buf = {0};

	if (!entry)
		return -ENOMEM;
	pt_buf_printf(&buf, ",\n{\"ph\":\"X\",\"cat\":\"%s\",\"name\":\"",
		      chrome->dialect == PT_DIALECT_VIZTRACER ? "FEE" : "python_function");
	add_name(chrome, &buf, function);
	pt_buf_add(&buf, "\"", 1);
	free(entry->head.data);
	free(entry->file);
	*entry = (struct chrome_function){.call = entry->call, .line = function->line};
	if (chrome->source) {
		entry->file = strdup(function->file);
		if (!entry->file)
			buf.failed = true;
	}
	return take(&entry->head, &buf);
}

/* What a call from this function says of that, up to the line. The function itself may be announced
 * later, since a slice comes when it ends. */
static int call_text(struct chrome *chrome, const struct pt_function *function, struct text *text)
{
	struct chrome_function *entry = function_at(chrome, function->id);
	struct pt_buf buf = {0};
	int rc = 0;

	if (!entry)
		return -ENOMEM;
	if (!entry->call.data) {
		pt_buf_add_str(&buf, "\"CallFrom\":\"");
		pt_json_escape(&buf, function->file);
		pt_buf_add(&buf, ":", 1);
		rc = take(&entry->call, &buf);
	}
	*text = entry->call;
	return rc;
}

static struct chrome_thread *thread_get(struct chrome *chrome, pid_t pid, pid_t tid)
{
	struct chrome_thread *thread = chrome->last;
	struct pt_buf buf = {0};

	if (thread && thread->pid == pid && thread->tid == tid)
		return thread;
	thread = pt_map_get(&chrome->threads, (uint32_t)pid, (uint32_t)tid);
	if (thread)
		goto found;
	thread = calloc(1, sizeof(*thread));
	if (!thread)
		return NULL;
	thread->pid = pid;
	thread->tid = tid;
	pt_buf_printf(&buf, ",\"pid\":%d,\"tid\":%d,\"ts\":", pid, tid);
	if (take(&thread->where, &buf) ||
	    pt_map_put(&chrome->threads, (uint32_t)pid, (uint32_t)tid, thread)) {
		free(thread->where.data);
		free(thread);
		return NULL;
	}
	thread->next = chrome->thread_list;
	chrome->thread_list = thread;
found:
	chrome->last = thread;
	return thread;
}

static inline char *copy(char *out, const char *text, size_t len)
{
	memcpy(out, text, len);
	return out + len;
}

#define COPY(out, literal) copy(out, literal, sizeof(literal) - 1)

/* "key":{"name":"value",..} */
static void add_values(struct pt_buf *buf, const char *key, const struct pt_arg *args,
		       uint32_t count)
{
	if (!count)
		return;
	pt_buf_printf(buf, "%s\"%s\":{", buf->len ? "," : "", key);
	for (uint32_t i = 0; i < count; i++) {
		if (i)
			pt_buf_add_str(buf, ",");
		pt_json_string(buf, args[i].key);
		pt_buf_add_str(buf, ":");
		pt_json_string(buf, args[i].text);
	}
	pt_buf_add_str(buf, "}");
}

/* The names are VizTracer's, in both dialects; it has none for variables. */
static int values_json(struct pt_buf *buf, const struct pt_values *values)
{
	add_values(buf, "func_args", values->args, values->arg_count);
	add_values(buf, "locals", values->locals, values->local_count);
	if (values->result) {
		pt_buf_add_str(buf, buf->len ? ",\"return_value\":" : "\"return_value\":");
		pt_json_string(buf, values->result);
	}
	/* a record holds some 3 KiB, of which no byte becomes more than 12 */
	return buf->failed || buf->len > PT_BLOCK_BYTES / 2 ? -ENOMEM : 0;
}

/* values: JSON. */
static char *slice_args(const struct chrome *chrome, const struct pt_op_slice *slice,
			const struct text *call, const struct pt_buf *values, char *out)
{
	bool comma = false;

	out = COPY(out, ",\"args\":{");
	if (chrome->call_ids) {
		out = COPY(out, "\"Python id\":");
		out = pt_json_u64(out, slice->id);
		out = COPY(out, ",\"Python parent id\":");
		if (slice->parent_id)
			out = pt_json_u64(out, slice->parent_id);
		else
			out = COPY(out, "null");
		comma = true;
	}
	if (slice->call_line) {
		if (comma)
			*out++ = ',';
		out = copy(out, call->data, call->len);
		out = pt_json_u64(out, slice->call_line);
		*out++ = '"';
		comma = true;
	}
	if (values->len) {
		if (comma)
			*out++ = ',';
		out = copy(out, values->data, values->len);
		comma = true;
	}
	for (unsigned int i = 0; slice->flags && i < FLAG_COUNT; i++) {
		if (!(slice->flags & 1u << i))
			continue;
		if (comma)
			*out++ = ',';
		out = copy(out, flag_texts[i], strlen(flag_texts[i]));
		comma = true;
	}
	*out++ = '}';
	return out;
}

/* The first event of the document has no comma before it, but the head. */
static const char *skip_comma(struct chrome *chrome, const char *text, size_t *len)
{
	if (chrome->any_event)
		return text;
	chrome->any_event = true;
	chrome->head_error = put_head(chrome);
	(*len)--;
	return text + 1;
}

static int put_slice(struct chrome *chrome, const struct pt_op_slice *slice)
{
	struct chrome_thread *thread = thread_get(chrome, slice->pid, slice->tid);
	uint32_t id = slice->function->id;
	uint64_t begin_ns = since_base(chrome, slice->begin_ns);
	struct chrome_function *function;
	struct pt_buf values = {0};
	struct text call = {0};
	size_t head_len;
	const char *head;
	char *start, *out;

	if (!thread || (slice->call_line && call_text(chrome, slice->call_function, &call)))
		return -ENOMEM;
	if (id >= chrome->function_count || !chrome->functions[id].head.data)
		return -EINVAL; /* no function op came before */
	function = &chrome->functions[id];
	if (function->file && !function->asked) {
		function->asked = true;
		function->source = chrome->source(chrome->source_ctx, slice->pid, function->file);
	}
	head_len = function->head.len;
	head = skip_comma(chrome, function->head.data, &head_len);
	if (slice->values && values_json(&values, slice->values)) {
		pt_buf_release(&values);
		return -ENOMEM;
	}
	start = out = pt_destination_room(chrome->destination,
					  head_len + EVENT_REST_BYTES + call.len + values.len);
	out = copy(out, head, head_len);
	out = copy(out, thread->where.data, thread->where.len);
	out = pt_json_us(out, begin_ns);
	out = COPY(out, ",\"dur\":");
	out = pt_json_us(out, slice->end_ns - slice->begin_ns);
	if (chrome->call_ids || slice->flags || slice->call_line || values.len)
		out = slice_args(chrome, slice, &call, &values, out);
	*out++ = '}';
	pt_destination_used(chrome->destination, (size_t)(out - start));
	if (slice->values)
		pt_buf_release(&values);
	return 0;
}

/* What is rare goes through a buffer. */
static int put_rare(struct chrome *chrome, struct pt_buf *buf)
{
	struct pt_buf shifted = *buf;
	int rc;

	if (!buf->failed)
		shifted.data = (char *)skip_comma(chrome, buf->data, &shifted.len);
	rc = put_buf(chrome, &shifted);
	pt_buf_release(buf);
	return rc;
}

static void begin_category(struct pt_buf *buf, const char *ph, const char *category)
{
	pt_buf_printf(buf, ",\n{\"ph\":\"%s\",", ph);
	if (category) {
		pt_buf_add_str(buf, "\"cat\":");
		pt_json_string(buf, category);
		pt_buf_add_str(buf, ",");
	}
	pt_buf_add_str(buf, "\"name\":");
}

static void begin_where(const struct chrome *chrome, struct pt_buf *buf, pid_t pid, pid_t tid,
			uint64_t ns)
{
	char ts[PT_JSON_NUMBER_MAX + 1];

	*pt_json_us(ts, since_base(chrome, ns)) = '\0';
	pt_buf_printf(buf, ",\"pid\":%d,\"tid\":%d,\"ts\":%s,", pid, tid, ts);
}

static void begin_rare(const struct chrome *chrome, struct pt_buf *buf, const char *ph,
		       const char *category, const char *name, pid_t pid, pid_t tid, uint64_t ns)
{
	begin_category(buf, ph, category);
	pt_json_string(buf, name);
	begin_where(chrome, buf, pid, tid, ns);
}

static int put_metadata_text(struct chrome *chrome, const char *name, pid_t pid, pid_t tid,
			     uint64_t ns, const char *key, const char *value)
{
	struct pt_buf buf = {0};

	begin_rare(chrome, &buf, "M", NULL, name, pid, tid, ns);
	pt_buf_printf(&buf, "\"args\":{\"%s\":", key);
	pt_json_string(&buf, value);
	pt_buf_add_str(&buf, "}}");
	return put_rare(chrome, &buf);
}

static int put_sort_index(struct chrome *chrome, const char *name, pid_t pid, pid_t tid,
			  pid_t sort_index, uint64_t ns)
{
	struct pt_buf buf = {0};

	begin_rare(chrome, &buf, "M", NULL, name, pid, tid, ns);
	pt_buf_printf(&buf, "\"args\":{\"sort_index\":%d}}", sort_index);
	return put_rare(chrome, &buf);
}

static int put_process(struct chrome *chrome, const struct pt_op_process *process)
{
	pid_t pid = process->pid;
	const struct pt_op_rank *rank = &process->rank;
	struct pt_buf labels = {0};
	int rc = pt_ranks_add(&chrome->ranks, process);

	if (rc)
		return rc;
	rc = put_metadata_text(chrome, "process_name", pid, pid, process->time_ns, "name",
			       chrome->process_name[0] ? chrome->process_name : process->name);
	if (rc)
		return rc;
	pt_buf_add_str(&labels, process->cmdline ? process->cmdline : "");
	if (process->ns_pid != pid)
		pt_buf_printf(&labels, "%s(pid %d in its namespace)", labels.len ? " " : "",
			      process->ns_pid);
	if (rank->world_size)
		pt_buf_printf(&labels, "%s(rank %d of %d)", labels.len ? " " : "", rank->rank,
			      rank->world_size);
	if (labels.len || labels.failed) {
		pt_buf_add(&labels, "", 1);
		rc = labels.failed ? -ENOMEM
				   : put_metadata_text(chrome, "process_labels", pid, pid,
						       process->time_ns, "labels", labels.data);
	}
	pt_buf_release(&labels);
	return rc ? rc
		  : put_sort_index(chrome, "process_sort_index", pid, pid, pid, process->time_ns);
}

static int put_track(struct chrome *chrome, pid_t pid, pid_t tid, pid_t sort_index, uint64_t ns,
		     const char *name)
{
	int rc = put_metadata_text(chrome, "thread_name", pid, tid, ns, "name", name);

	return rc ? rc : put_sort_index(chrome, "thread_sort_index", pid, tid, sort_index, ns);
}

static int put_thread(struct chrome *chrome, const struct pt_op_thread *thread)
{
	char name[128];

	if (thread->tid >= PT_TRACK_TID)
		return put_track(chrome, thread->pid, thread->tid, thread->tid, thread->time_ns,
				 thread->name);
	if (thread->name && thread->name[0])
		snprintf(name, sizeof(name), "thread %d (%s)", thread->tid, thread->name);
	else
		snprintf(name, sizeof(name), "thread %d", thread->tid);
	return put_track(chrome, thread->pid, thread->tid, thread->tid, thread->time_ns, name);
}

/* "args":{..} of what is rare: the flags of a slice, a detail, and the arguments. */
static void add_args(struct pt_buf *buf, uint32_t flags, const char *detail,
		     const struct pt_arg *args, uint32_t count)
{
	const char *comma = "";

	pt_buf_add_str(buf, "\"args\":{");
	if (detail) {
		pt_buf_add_str(buf, "\"detail\":");
		pt_json_string(buf, detail);
		comma = ",";
	}
	for (uint32_t i = 0; i < count; i++) {
		pt_buf_add_str(buf, comma);
		pt_json_string(buf, args[i].key);
		pt_buf_add_str(buf, ":");
		if (args[i].text)
			pt_json_string(buf, args[i].text);
		else
			pt_buf_printf(buf, "%lld", (long long)args[i].number);
		comma = ",";
	}
	for (unsigned int i = 0; i < FLAG_COUNT; i++) {
		if (!(flags & 1u << i))
			continue;
		pt_buf_add_str(buf, comma);
		pt_buf_add_str(buf, flag_texts[i]);
		comma = ",";
	}
	pt_buf_add_str(buf, "}");
}

/* ---- stacks: chrome://tracing's "stackFrames", a tree that "sf" of an event points into ---- */

static void add_frame_name(struct pt_buf *buf, const struct pt_stack_frame *frame)
{
	if (frame->kind == PT_STACK_PYTHON) {
		pt_buf_add_str(buf, frame->file);
		if (frame->line)
			pt_buf_printf(buf, "(%u)", frame->line);
		pt_buf_add_str(buf, ": ");
	}
	pt_buf_add_str(buf, frame->name);
	/* a nameless one has its file in its name */
	if (frame->kind == PT_STACK_NATIVE && frame->file[0] && !strstr(frame->name, "+0x")) {
		const char *slash = strrchr(frame->file, '/');

		pt_buf_printf(buf, " (%s)", slash ? slash + 1 : frame->file);
	}
	pt_buf_add(buf, "", 1);
}

/* The frame's number, made if need be; takes name. 0: no memory. */
static uint32_t frame_number(struct chrome *chrome, uint32_t parent, const char *category,
			     char *name)
{
	uint64_t hash = pt_hash_bytes(name, strlen(name), (uintptr_t)category);
	uint32_t first = (uint32_t)(uintptr_t)pt_map_get(&chrome->frame_by_hash, hash, parent);
	uint32_t number = first;
	struct chrome_frame *bigger;

	for (; number; number = chrome->frames[number - 1].next_same_hash) {
		if (strcmp(chrome->frames[number - 1].name, name) ||
		    chrome->frames[number - 1].category != category)
			continue;
		free(name);
		return number;
	}
	if (chrome->frame_count == chrome->frame_room) {
		uint32_t room = chrome->frame_room ? 2 * chrome->frame_room : 256;

		bigger = reallocarray(chrome->frames, room, sizeof(*bigger));
		if (!bigger) {
			free(name);
			return 0;
		}
		chrome->frames = bigger;
		chrome->frame_room = room;
	}
	number = chrome->frame_count + 1;
	if (pt_map_put(&chrome->frame_by_hash, hash, parent, (void *)(uintptr_t)number)) {
		free(name);
		return 0;
	}
	chrome->frames[chrome->frame_count++] = (struct chrome_frame){parent, category, name,
								      first};
	return number;
}

static int add_stack(struct chrome *chrome, const struct pt_op_stack *stack)
{
	static const char *const categories[] = {[PT_STACK_PYTHON] = "python",
						 [PT_STACK_NATIVE] = "native",
						 [PT_STACK_GAP] = "unknown",
						 [PT_STACK_ORIGIN] = "inductor"};
	uint32_t room = chrome->stack_room ? chrome->stack_room : 64, number = 0, *bigger;

	while (room <= stack->id)
		room *= 2;
	if (room > chrome->stack_room) {
		bigger = reallocarray(chrome->stacks, room, sizeof(*bigger));
		if (!bigger)
			return -ENOMEM;
		memset(bigger + chrome->stack_room, 0,
		       (room - chrome->stack_room) * sizeof(*bigger));
		chrome->stacks = bigger;
		chrome->stack_room = room;
	}
	for (uint32_t i = stack->frame_count; i-- > 0;) {
		struct pt_buf name = {0};

		add_frame_name(&name, &stack->frames[i]);
		if (name.failed) {
			pt_buf_release(&name);
			return -ENOMEM;
		}
		number = frame_number(chrome, number, categories[stack->frames[i].kind], name.data);
		if (!number)
			return -ENOMEM;
	}
	chrome->stacks[stack->id] = number;
	return 0;
}

static void write_frames(const struct chrome *chrome, struct pt_buf *buf)
{
	if (!chrome->frame_count)
		return;
	pt_buf_add_str(buf, buf->len ? ",\n" : "\n  ],\n");
	pt_buf_add_str(buf, "  \"stackFrames\": {");
	for (uint32_t i = 0; i < chrome->frame_count; i++) {
		const struct chrome_frame *frame = &chrome->frames[i];

		pt_buf_printf(buf, "%s\n\"%u\":{\"category\":\"%s\",\"name\":", i ? "," : "", i + 1,
			      frame->category);
		pt_json_string(buf, frame->name);
		if (frame->parent)
			pt_buf_printf(buf, ",\"parent\":\"%u\"", frame->parent);
		pt_buf_add_str(buf, "}");
	}
	pt_buf_add_str(buf, "}");
}

static void add_stack_frame(const struct chrome *chrome, struct pt_buf *buf, uint32_t stack_id)
{
	if (stack_id && stack_id < chrome->stack_room)
		pt_buf_printf(buf, "\"sf\":%u,", chrome->stacks[stack_id]);
}

/* A slice that is no call. */
static int put_x(struct chrome *chrome, const struct pt_op_span *span)
{
	char dur[PT_JSON_NUMBER_MAX + 1];
	struct pt_buf buf = {0};

	*pt_json_us(dur, span->end_ns - span->begin_ns) = '\0';
	begin_category(&buf, "X", span->category);
	if (span->function) {
		pt_buf_add_str(&buf, "\"");
		add_name(chrome, &buf, span->function);
		pt_buf_add_str(&buf, "\"");
	} else {
		pt_json_string(&buf, span->name);
	}
	begin_where(chrome, &buf, span->pid, span->tid, span->begin_ns);
	pt_buf_printf(&buf, "\"dur\":%s,", dur);
	add_stack_frame(chrome, &buf, span->stack_id);
	add_args(&buf, span->flags, NULL, span->args, span->arg_count);
	pt_buf_add_str(&buf, "}");
	return put_rare(chrome, &buf);
}

static int put_state(struct chrome *chrome, const struct pt_op_state *state)
{
	struct chrome_thread *thread = thread_get(chrome, state->pid, state->tid);
	const struct pt_op_span span = {
	    .pid = state->pid,
	    .tid = PT_STATE_TID_BASE + state->tid,
	    .begin_ns = state->begin_ns,
	    .end_ns = state->end_ns,
	    .category = PT_STATE_CATEGORY,
	    .name = state->name,
	    .args = state->args,
	    .arg_count = state->arg_count,
	};
	char name[64];
	int rc;

	if (!thread)
		return -ENOMEM;
	if (!thread->has_states) {
		snprintf(name, sizeof(name), "thread %d: states", state->tid);
		rc = put_track(chrome, span.pid, span.tid, state->tid, state->begin_ns, name);
		if (rc)
			return rc;
		thread->has_states = true;
	}
	return put_x(chrome, &span);
}

/* "b" and "e" of one id nest among themselves; viewers show them on a track of their own. */
static int put_range(struct chrome *chrome, const struct pt_op_range *range)
{
	char ts[PT_JSON_NUMBER_MAX + 1];
	struct pt_buf buf = {0};

	begin_rare(chrome, &buf, "b", range->category, range->name, range->pid, range->tid,
		   range->begin_ns);
	pt_buf_printf(&buf, "\"id\":\"%d.%llx\",", range->tid, (unsigned long long)range->track);
	add_stack_frame(chrome, &buf, range->stack_id);
	add_args(&buf, range->flags, NULL, range->args, range->arg_count);
	*pt_json_us(ts, since_base(chrome, range->end_ns)) = '\0';
	pt_buf_add_str(&buf, "},\n{\"ph\":\"e\",\"cat\":");
	pt_json_string(&buf, range->category);
	pt_buf_add_str(&buf, ",\"name\":");
	pt_json_string(&buf, range->name);
	pt_buf_printf(&buf, ",\"pid\":%d,\"tid\":%d,\"ts\":%s,\"id\":\"%d.%llx\"}", range->pid,
		      range->tid, ts, range->tid, (unsigned long long)range->track);
	return put_rare(chrome, &buf);
}

static int put_flow(struct chrome *chrome, const struct pt_op_flow *flow)
{
	struct pt_buf buf = {0};

	begin_rare(chrome, &buf, "s", flow->category, flow->name, flow->from.pid, flow->from.tid,
		   flow->from.time_ns);
	pt_buf_printf(&buf, "\"id\":%llu}", (unsigned long long)flow->id);
	begin_rare(chrome, &buf, "f", flow->category, flow->name, flow->to.pid, flow->to.tid,
		   flow->to.time_ns);
	pt_buf_printf(&buf, "\"bp\":\"e\",\"id\":%llu}", (unsigned long long)flow->id);
	return put_rare(chrome, &buf);
}

/* GPU n is a process of its own, as in PyTorch's traces: pid n, and sorted behind all others;
 * tracks of one that is not known are the program's. */
#define GPU_SORT_BASE 5000000

static pid_t gpu_pid(const struct pt_op_gpu_bound *bound)
{
	return bound->device >= 0 ? bound->device : bound->pid;
}

static int put_gpu_track(struct chrome *chrome, const struct pt_op_gpu_bound *bound)
{
	pid_t pid = gpu_pid(bound);
	char name[64];
	int rc = 0;

	snprintf(name, sizeof(name), "GPU %d", bound->device);
	if (bound->device >= 0)
		rc = put_metadata_text(chrome, "process_name", pid, pid, bound->begin_ns, "name",
				       name);
	if (!rc && bound->device >= 0)
		rc = put_metadata_text(chrome, "process_labels", pid, pid, bound->begin_ns,
				       "labels", name);
	if (!rc && bound->device >= 0)
		rc = put_sort_index(chrome, "process_sort_index", pid, pid,
				    GPU_SORT_BASE + bound->device, bound->begin_ns);
	return rc ? rc
		  : put_track(chrome, pid, bound->tid, bound->tid, bound->begin_ns,
			      bound->track_name);
}

/* An arrow from a launch to the bound that it is in. */
static int put_gpu_link(struct chrome *chrome, const struct pt_op_gpu_bound *bound,
			const struct pt_gpu_link *link)
{
	struct pt_buf buf = {0};

	begin_rare(chrome, &buf, "s", bound->category, bound->category, bound->pid, link->tid,
		   link->time_ns);
	pt_buf_printf(&buf, "\"id\":%llu}", (unsigned long long)link->id);
	begin_rare(chrome, &buf, "f", bound->category, bound->category, gpu_pid(bound), bound->tid,
		   link->time_ns);
	pt_buf_printf(&buf, "\"bp\":\"e\",\"id\":%llu}", (unsigned long long)link->id);
	return put_rare(chrome, &buf);
}

/* "B" and "E", which viewers draw as they do "X", but readers that take what has a "dur" for
 * something measured pass over. */
static int put_gpu_bound(struct chrome *chrome, const struct pt_op_gpu_bound *bound)
{
	struct chrome_thread *track = thread_get(chrome, gpu_pid(bound), bound->tid);
	struct pt_buf buf = {0};
	int rc = 0;

	if (!track)
		return -ENOMEM;
	if (!track->has_states)
		rc = put_gpu_track(chrome, bound);
	track->has_states = true;
	if (rc)
		return rc;
	begin_rare(chrome, &buf, "B", bound->category, bound->name, gpu_pid(bound), bound->tid,
		   bound->begin_ns);
	add_args(&buf, bound->flags, NULL, bound->args, bound->arg_count);
	pt_buf_add_str(&buf, "}");
	begin_rare(chrome, &buf, "E", bound->category, bound->name, gpu_pid(bound), bound->tid,
		   bound->end_ns);
	buf.len--; /* the comma */
	pt_buf_add_str(&buf, "}");
	rc = put_rare(chrome, &buf);
	for (uint32_t i = 0; !rc && i < bound->link_count; i++)
		rc = put_gpu_link(chrome, bound, &bound->links[i]);
	return rc;
}

static int put_instant(struct chrome *chrome, const struct pt_op_instant *instant)
{
	struct pt_buf buf = {0};

	begin_rare(chrome, &buf, "i", instant->category, instant->name, instant->pid, instant->tid,
		   instant->time_ns);
	pt_buf_add_str(&buf, "\"s\":\"t\"");
	if (instant->detail || instant->arg_count) {
		pt_buf_add_str(&buf, ",");
		add_stack_frame(chrome, &buf, instant->stack_id);
		add_args(&buf, 0, instant->detail, instant->args, instant->arg_count);
	}
	pt_buf_add_str(&buf, "}");
	return put_rare(chrome, &buf);
}

static int put_counter(struct chrome *chrome, const struct pt_op_counter *counter)
{
	struct pt_buf buf = {0};

	begin_rare(chrome, &buf, "C", NULL, counter->name, counter->pid, counter->pid,
		   counter->time_ns);
	pt_buf_add_str(&buf, "\"args\":{");
	pt_json_string(&buf, counter->series);
	pt_buf_printf(&buf, ":%.17g}}", counter->value);
	return put_rare(chrome, &buf);
}

static int put_loss(struct chrome *chrome, const struct pt_op_loss *loss)
{
	char dur[PT_JSON_NUMBER_MAX + 1];
	struct pt_buf buf = {0};

	*pt_json_us(dur, loss->end_ns - loss->begin_ns) = '\0';
	begin_rare(chrome, &buf, "i", "loss", "events lost", loss->pid, loss->tid, loss->begin_ns);
	pt_buf_printf(&buf, "\"s\":\"t\",\"args\":{\"events\":%llu,\"gap (us)\":%s}}",
		      (unsigned long long)loss->events, dur);
	return put_rare(chrome, &buf);
}

static int clear(struct chrome *chrome)
{
	int rc = pt_destination_restart(chrome->destination);
	struct chrome_thread *thread;

	chrome->any_event = false;
	for (thread = chrome->thread_list; thread; thread = thread->next)
		thread->has_states = false;
	for (uint32_t i = 0; i < chrome->function_count; i++) {
		chrome->functions[i].source = NULL;
		chrome->functions[i].asked = false;
	}
	return rc ? rc : put_start(chrome);
}

static int chrome_op(void *state, const struct pt_op *op)
{
	struct chrome *chrome = state;
	int rc = chrome->head_error ? chrome->head_error
				    : pt_destination_error(chrome->destination);

	if (rc)
		return rc;
	switch (op->kind) {
	case PT_OP_SLICE:
		return put_slice(chrome, &op->slice);
	case PT_OP_STACK:
		return add_stack(chrome, &op->stack);
	case PT_OP_SPAN:
		return put_x(chrome, &op->span);
	case PT_OP_STATE:
		return put_state(chrome, &op->state);
	case PT_OP_RANGE:
		return put_range(chrome, &op->range);
	case PT_OP_FUNCTION:
		return add_function(chrome, &op->function);
	case PT_OP_PROCESS:
		return put_process(chrome, &op->process);
	case PT_OP_THREAD:
		return put_thread(chrome, &op->thread);
	case PT_OP_INSTANT:
		return put_instant(chrome, &op->instant);
	case PT_OP_FLOW:
		return put_flow(chrome, &op->flow);
	case PT_OP_COUNTER:
		return put_counter(chrome, &op->counter);
	case PT_OP_GPU_BOUND:
		return put_gpu_bound(chrome, &op->gpu_bound);
	case PT_OP_LOSS:
		return put_loss(chrome, &op->loss);
	case PT_OP_CLEAR:
		return clear(chrome);
	case PT_OP_MEMORY:
	case PT_OP_SAMPLE: /* the spans show it */
		return 0;
	}
	return -EINVAL;
}

/* VizTracer's "overflow" is its one way to say that events are missing. */
static void viztracer_metadata(const struct chrome *chrome, const struct pt_totals *totals,
			       struct pt_buf *tail)
{
	char version[64];

	snprintf(version, sizeof(version), "pytrace-bpf %s", chrome->version);
	pt_buf_add_str(tail, "  \"viztracer_metadata\": {\n    \"version\": ");
	pt_json_string(tail, version);
	pt_buf_printf(tail, ",\n    \"overflow\": %s,\n    \"baseTimeNanoseconds\": %llu\n  },\n",
		      totals->lost_events ? "true" : "false", (unsigned long long)chrome->base_ns);
}

/* A name as a JSON string, from the head of its events. */
static void add_head_name(const struct chrome_function *function, struct pt_buf *buf)
{
	static const char key[] = "\"name\":";
	const char *name = strstr(function->head.data, key) + sizeof(key) - 1;

	pt_buf_add(buf, name, function->head.len - (size_t)(name - function->head.data));
}

/* VizTracer's file_info (report_builder.py): which file and line a slice's name stands for, and the
 * files: [text, number of lines]. */
static void write_sources(const struct chrome *chrome, struct pt_buf *buf)
{
	struct pt_map written = {0};
	const char *comma = "";

	if (!chrome->source)
		return;
	pt_buf_add_str(buf, "\n  ],\n  \"file_info\": {\"files\": {");
	for (uint32_t i = 0; i < chrome->function_count; i++) {
		const struct chrome_function *function = &chrome->functions[i];

		if (!function->source || pt_map_get(&written, (uintptr_t)function->source, 0))
			continue;
		if (pt_map_put(&written, (uintptr_t)function->source, 0, (void *)function))
			buf->failed = true;
		pt_buf_printf(buf, "%s\n", comma);
		pt_json_string(buf, function->file);
		pt_buf_add_str(buf, ": [");
		pt_json_string(buf, function->source->text);
		pt_buf_printf(buf, ", %llu]", (unsigned long long)function->source->lines);
		comma = ",";
	}
	pt_map_release(&written);
	pt_buf_add_str(buf, "},\n  \"functions\": {");
	comma = "";
	for (uint32_t i = 0; i < chrome->function_count; i++) {
		const struct chrome_function *function = &chrome->functions[i];

		if (!function->source)
			continue;
		pt_buf_printf(buf, "%s\n", comma);
		add_head_name(function, buf);
		pt_buf_add_str(buf, ": [");
		pt_json_string(buf, function->file);
		pt_buf_printf(buf, ", %u]", function->line);
		comma = ",";
	}
	pt_buf_add_str(buf, "}}");
}

static void chrome_extra(void *state, struct pt_buf *buf)
{
	struct chrome *chrome = state;

	if (!chrome->any_event && put_head(chrome))
		buf->failed = true;
	write_sources(state, buf);
	write_frames(state, buf);
}

static void chrome_tail(void *state, const char *path, const struct pt_totals *totals, bool extra,
			struct pt_buf *tail)
{
	struct chrome *chrome = state;
	bool limited = pt_destination_flush(chrome->destination, false) != 0;
	char name[1024];

	pt_utf8_clean(name, sizeof(name), path, strlen(path));
	pt_buf_add_str(tail, extra ? ",\n" : "\n  ],\n");
	if (chrome->dialect == PT_DIALECT_VIZTRACER)
		viztracer_metadata(chrome, totals, tail);
	else
		pt_ranks_tail(&chrome->ranks, tail);
	pt_buf_add_str(tail, "  \"traceName\": ");
	pt_json_string(tail, name);
	pt_buf_printf(
	    tail,
	    ",\n  \"pytrace-bpf summary\": {\n%s"
	    "    \"events\": %llu,\n"
	    "    \"lost events\": %llu,\n"
	    "    \"lost records\": %llu,\n"
	    "    \"damaged records\": %llu,\n"
	    "    \"stack jumps\": %llu,\n"
	    "    \"unknown code objects\": %llu,\n",
	    totals->of_all_files ? "    \"of all files together\": true,\n" : "",
	    (unsigned long long)totals->events, (unsigned long long)totals->lost_events,
	    (unsigned long long)totals->lost_records, (unsigned long long)totals->bad_records,
	    (unsigned long long)totals->stack_jumps, (unsigned long long)totals->unknown_codes);
	if (totals->pauses)
		pt_buf_printf(tail, "    \"pauses\": %llu,\n    \"paused (ns)\": %llu,\n",
			      (unsigned long long)totals->pauses,
			      (unsigned long long)totals->paused_ns);
	if (totals->states || totals->lost_states)
		pt_buf_printf(
		    tail, "    \"thread states\": %llu,\n    \"lost thread states\": %llu,\n",
		    (unsigned long long)totals->states, (unsigned long long)totals->lost_states);
	if (totals->unnamed_kernels)
		pt_buf_printf(tail, "    \"kernels of unknown name\": %llu,\n",
			      (unsigned long long)totals->unnamed_kernels);
	if (totals->gpu_bounds || totals->gpu_unbounded)
		pt_buf_printf(tail,
			      "    \"GPU work with bounds\": %llu,\n"
			      "    \"GPU work without bounds\": %llu,\n",
			      (unsigned long long)totals->gpu_bounds,
			      (unsigned long long)totals->gpu_unbounded);
	if (totals->samples)
		pt_buf_printf(tail, "    \"samples\": %llu,\n    \"incomplete samples\": %llu,\n",
			      (unsigned long long)totals->samples,
			      (unsigned long long)totals->samples_incomplete);
	if (totals->blocks)
		pt_buf_printf(tail,
			      "    \"times blocked\": %llu,\n"
			      "    \"incomplete times blocked\": %llu,\n",
			      (unsigned long long)totals->blocks,
			      (unsigned long long)totals->blocks_incomplete);
	if (totals->left_out)
		pt_buf_printf(tail, "    \"older entries left out\": %llu,\n",
			      (unsigned long long)totals->left_out);
	if (totals->open_left_out)
		pt_buf_add_str(tail, "    \"running calls left out\": true,\n");
	pt_buf_printf(tail,
		      "    \"capture cut short\": %s,\n"
		      "    \"document cut short\": %s\n"
		      "  }\n}\n",
		      totals->cut_short ? "true" : "false", limited ? "true" : "false");
}

static void chrome_redirect(void *state, struct pt_destination *copy)
{
	struct chrome *chrome = state;

	if (copy) {
		chrome->own = chrome->destination;
		chrome->own_any_event = chrome->any_event;
		chrome->destination = copy;
	} else {
		chrome->destination = chrome->own;
		chrome->any_event = chrome->own_any_event;
		chrome->own = NULL;
	}
}

const struct pt_format pt_format_chrome = {
    .suffix = ".json",
    .open = chrome_open,
    .op = chrome_op,
    .extra = chrome_extra,
    .tail = chrome_tail,
    .redirect = chrome_redirect,
    .free = chrome_free,
};

const struct pt_format pt_format_chrome_gzip = {
    .suffix = ".json.gz",
    .gzip = true,
    .open = chrome_open,
    .op = chrome_op,
    .extra = chrome_extra,
    .tail = chrome_tail,
    .redirect = chrome_redirect,
    .free = chrome_free,
};
