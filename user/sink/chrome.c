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

#include "base/utf8.h"
#include "sink/chrome_parts.h"
#include "sink/json_text.h"

/* Kineto's ChromeTraceBaseTime: times count from unix time floored to a multiple of three months
 * of 2629746 s (libkineto/src/time_since_epoch.h, ChromeTraceBaseTime.h), so that traces of several
 * hosts share it and a double holds them to the nanosecond. */
#define BASE_INTERVAL_NS (7889238ull * 1000000000ull)

/* All of an event but its prepared texts. */
#define EVENT_REST_BYTES 512

const char *const chrome_flag_texts[CHROME_FLAGS] = {
    "\"open at start\":true", "\"open at end\":true",  "\"begin lost\":true",
    "\"end lost\":true",      "\"begin paused\":true", "\"end paused\":true",
};

uint64_t pt_chrome_base_ns(uint64_t start_real_ns)
{
	return start_real_ns - start_real_ns % BASE_INTERVAL_NS;
}

int chrome_put_buf(struct chrome *chrome, const struct pt_buf *buf)
{
	if (buf->failed)
		return -ENOMEM;
	if (buf->len > PT_BLOCK_BYTES)
		return -E2BIG;
	memcpy(pt_destination_room(chrome->destination, buf->len), buf->data, buf->len);
	pt_destination_used(chrome->destination, buf->len);
	return 0;
}

static int take(struct chrome_text *text, struct pt_buf *buf)
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
	rc = chrome_put_buf(chrome, &start);
	pt_buf_release(&start);
	return rc ? rc : pt_destination_flush(chrome->destination, true);
}

int chrome_put_head(struct chrome *chrome)
{
	struct pt_buf head = {0};
	int rc;

	chrome_write_head(chrome, &head);
	rc = chrome_put_buf(chrome, &head);
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

uint64_t chrome_since_base(const struct chrome *chrome, uint64_t mono_ns)
{
	uint64_t ns = mono_ns - chrome->mono_base;

	return ns >> 63 ? 0 : ns; /* before the base: only a damaged capture says so */
}

void chrome_add_name(const struct chrome *chrome, struct pt_buf *buf,
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
	chrome_add_name(chrome, &buf, function);
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
static int call_text(struct chrome *chrome, const struct pt_function *function,
		     struct chrome_text *text)
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

struct chrome_thread *chrome_thread_get(struct chrome *chrome, pid_t pid, pid_t tid)
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
			const struct chrome_text *call, const struct pt_buf *values, char *out)
{
	char *start = out;
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
	for (unsigned int i = 0; slice->flags && i < CHROME_FLAGS; i++) {
		if (!(slice->flags & 1u << i))
			continue;
		if (comma)
			*out++ = ',';
		out = copy(out, chrome_flag_texts[i], strlen(chrome_flag_texts[i]));
		comma = true;
	}
	if (!comma)
		return start; /* none at all */
	*out++ = '}';
	return out;
}

const char *chrome_skip_comma(struct chrome *chrome, const char *text, size_t *len)
{
	if (chrome->any_event)
		return text;
	chrome->any_event = true;
	chrome->head_error = chrome_put_head(chrome);
	(*len)--;
	return text + 1;
}

static int put_slice(struct chrome *chrome, const struct pt_op_slice *slice)
{
	struct chrome_thread *thread = chrome_thread_get(chrome, slice->pid, slice->tid);
	uint32_t id = slice->function->id;
	uint64_t begin_ns = chrome_since_base(chrome, slice->begin_ns);
	struct chrome_function *function;
	struct pt_buf values = {0};
	struct chrome_text call = {0};
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
	head = chrome_skip_comma(chrome, function->head.data, &head_len);
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
		return chrome_add_stack(chrome, &op->stack);
	case PT_OP_SPAN:
		return chrome_put_x(chrome, &op->span);
	case PT_OP_STATE:
		return chrome_put_state(chrome, &op->state);
	case PT_OP_RANGE:
		return chrome_put_range(chrome, &op->range);
	case PT_OP_FUNCTION:
		return add_function(chrome, &op->function);
	case PT_OP_PROCESS:
		return chrome_put_process(chrome, &op->process);
	case PT_OP_THREAD:
		return chrome_put_thread(chrome, &op->thread);
	case PT_OP_INSTANT:
		return chrome_put_instant(chrome, &op->instant);
	case PT_OP_FLOW:
		return chrome_put_flow(chrome, &op->flow);
	case PT_OP_COUNTER:
		return chrome_put_counter(chrome, &op->counter);
	case PT_OP_GPU_BOUND:
		return chrome_put_gpu_bound(chrome, &op->gpu_bound);
	case PT_OP_LOSS:
		return chrome_put_loss(chrome, &op->loss);
	case PT_OP_CLEAR:
		return clear(chrome);
	case PT_OP_MEMORY:
	case PT_OP_SAMPLE: /* the spans show it */
		return 0;
	}
	return -EINVAL;
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
