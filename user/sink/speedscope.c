// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * The file format of speedscope (https://www.speedscope.app/file-format-schema.json): a profile of
 * the type "sampled" for each thread. Its time is CPU time: each sample has the weight of a period,
 * and what lies between is left out. Blocked time (--off-cpu) has a profile of its own beside it.
 *
 * Its frames are functions; with --lines they are lines of functions ("f:12"), as its views do not
 * add up what differs by its line only.
 *
 * Memory: 16 bytes a sample or less; samples of the same stack in a row are one with more weight.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/grow.h"
#include "base/utf8.h"
#include "sink/format.h"
#include "sink/json_text.h"
#include "sink/stack_tree.h"

/* Above all thread ids. */
#define BLOCKED_KEY (1ull << 32)

struct run {
	uint32_t stack; /* number */
	uint64_t ns;
};

struct profile {
	struct profile *next;
	pid_t pid, tid;
	bool blocked;
	char *name;
	struct run *runs;
	size_t count, room;
};

struct speedscope {
	struct stack_tree tree;
	struct pt_map by_thread; /* (pid, tid, and BLOCKED_KEY) */
	struct profile *list, **tail;
	char version[32];
};

static int speedscope_open(struct pt_destination *destination, const struct pt_capture_info *info,
			   const struct pt_sink_options *options, void **state)
{
	struct speedscope *s = calloc(1, sizeof(*s));

	*state = s;
	if (!s)
		return -ENOMEM;
	s->tail = &s->list;
	s->tree.by_line = options->lines;
	snprintf(s->version, sizeof(s->version), "%s", info->tool_version);
	return 0;
}

static struct profile *profile_get(struct speedscope *s, pid_t pid, pid_t tid, bool blocked)
{
	uint64_t key = (uint32_t)tid | (blocked ? BLOCKED_KEY : 0);
	struct profile *profile = pt_map_get(&s->by_thread, (uint32_t)pid, key);

	if (profile)
		return profile;
	profile = calloc(1, sizeof(*profile));
	if (!profile)
		return NULL;
	profile->pid = pid;
	profile->tid = tid;
	profile->blocked = blocked;
	*s->tail = profile;
	s->tail = &profile->next;
	return pt_map_put(&s->by_thread, (uint32_t)pid, key, profile) ? NULL : profile;
}

static int add_sample(struct speedscope *s, const struct pt_op_sample *sample)
{
	struct profile *profile = profile_get(s, sample->pid, sample->tid, !sample->period_ns);
	uint64_t ns = sample->period_ns + sample->blocked_ns;
	uint32_t stack = stack_tree_add(&s->tree, sample);
	struct run *last, *bigger;

	if (!profile || !stack)
		return -ENOMEM;
	last = profile->count ? &profile->runs[profile->count - 1] : NULL;
	if (last && last->stack == stack) {
		last->ns += ns;
		return 0;
	}
	bigger = pt_grow(profile->runs, profile->count, &profile->room, 256, sizeof(*bigger));
	if (!bigger)
		return -ENOMEM;
	profile->runs = bigger;
	profile->runs[profile->count++] = (struct run){stack, ns};
	return 0;
}

static int name_thread(struct speedscope *s, const struct pt_op_thread *thread, bool blocked)
{
	struct profile *profile = profile_get(s, thread->pid, thread->tid, blocked);
	char *name = strdup(thread->name);

	if (!profile || !name) {
		free(name);
		return -ENOMEM;
	}
	free(profile->name);
	profile->name = name;
	return 0;
}

static void forget(struct speedscope *s)
{
	stack_tree_release(&s->tree);
	while (s->list) {
		struct profile *next = s->list->next;

		free(s->list->name);
		free(s->list->runs);
		free(s->list);
		s->list = next;
	}
	s->tail = &s->list;
	pt_map_release(&s->by_thread);
}

static int speedscope_op(void *state, const struct pt_op *op)
{
	if (op->kind == PT_OP_SAMPLE)
		return add_sample(state, &op->sample);
	if (op->kind == PT_OP_THREAD)
		return name_thread(state, &op->thread, false) ||
			       name_thread(state, &op->thread, true)
			   ? -ENOMEM
			   : 0;
	if (op->kind == PT_OP_CLEAR)
		forget(state);
	return 0;
}

static void add_frame(const struct stack_node *node, bool by_line, struct pt_buf *buf)
{
	const struct pt_function *function = node->function;
	uint32_t line = by_line ? node->line : function->line;

	pt_buf_add_str(buf, "{\"name\":\"");
	pt_json_escape(buf, function->qualname);
	if (by_line && line)
		pt_buf_printf(buf, ":%u", line);
	pt_buf_add_str(buf, "\"");
	if (function->file[0]) {
		pt_buf_add_str(buf, ",\"file\":");
		pt_json_string(buf, function->file);
	}
	if (function->file[0] && line)
		pt_buf_printf(buf, ",\"line\":%u", line);
	pt_buf_add_str(buf, "}");
}

/* The frames, each once; places: function and line -> its place in the file. */
static void add_frames(const struct speedscope *s, struct pt_map *places, struct pt_buf *buf)
{
	uintptr_t count = 0;

	for (uint32_t i = 0; i < s->tree.count; i++) {
		const struct stack_node *node = &s->tree.nodes[i];

		if (pt_map_get(places, (uintptr_t)node->function, node->line))
			continue;
		if (pt_map_put(places, (uintptr_t)node->function, node->line, (void *)(count + 1)))
			buf->failed = true;
		pt_buf_add_str(buf, count++ ? ",\n" : "\n");
		add_frame(node, s->tree.by_line, buf);
	}
}

static void add_stack(const struct speedscope *s, const struct pt_map *places, uint32_t stack,
		      struct pt_buf *buf)
{
	uint32_t path[STACK_TREE_DEPTH], count = stack_tree_path(&s->tree, stack, path);

	pt_buf_add_str(buf, "[");
	for (uint32_t i = 0; i < count; i++) {
		const struct stack_node *node = &s->tree.nodes[path[i] - 1];
		uintptr_t place = (uintptr_t)pt_map_get(places, (uintptr_t)node->function,
							node->line);

		pt_buf_printf(buf, "%s%llu", i ? "," : "", (unsigned long long)place - 1);
	}
	pt_buf_add_str(buf, "]");
}

static void add_profile(const struct speedscope *s, const struct pt_map *places,
			const struct profile *profile, struct pt_buf *buf)
{
	uint64_t ns = 0;
	char name[256];

	snprintf(name, sizeof(name), "process %d, thread %d%s%s%s%s", profile->pid, profile->tid,
		 profile->name ? " (" : "", profile->name ? profile->name : "",
		 profile->name ? ")" : "", profile->blocked ? ", blocked" : "");
	for (size_t i = 0; i < profile->count; i++)
		ns += profile->runs[i].ns;
	pt_buf_add_str(buf, "\n{\"type\":\"sampled\",\"name\":");
	pt_json_string(buf, name);
	pt_buf_printf(buf,
		      ",\"unit\":\"nanoseconds\",\"startValue\":0,\"endValue\":%" PRIu64
		      ",\"samples\":[",
		      ns);
	for (size_t i = 0; i < profile->count; i++) {
		if (i)
			pt_buf_add_str(buf, ",\n");
		add_stack(s, places, profile->runs[i].stack, buf);
	}
	pt_buf_add_str(buf, "],\"weights\":[");
	for (size_t i = 0; i < profile->count; i++)
		pt_buf_printf(buf, "%s%" PRIu64, i ? "," : "", profile->runs[i].ns);
	pt_buf_add_str(buf, "]}");
}

static void speedscope_extra(void *state, struct pt_buf *extra)
{
}

static void speedscope_tail(void *state, const char *path, const struct pt_totals *totals,
			    bool extra, struct pt_buf *tail)
{
	const struct speedscope *s = state;
	struct pt_map places = {0};
	const char *comma = "";
	char name[1024];

	pt_utf8_clean(name, sizeof(name), path, strlen(path));
	pt_buf_add_str(tail,
		       "{\"$schema\":\"https://www.speedscope.app/file-format-schema.json\",\n"
		       "\"exporter\":\"pytrace-bpf ");
	pt_json_escape(tail, s->version);
	pt_buf_add_str(tail, "\",\"name\":");
	pt_json_string(tail, name);
	pt_buf_add_str(tail, ",\n\"shared\":{\"frames\":[");
	add_frames(s, &places, tail);
	pt_buf_add_str(tail, "]},\n\"profiles\":[");
	for (const struct profile *profile = s->list; profile; profile = profile->next) {
		if (!profile->count)
			continue;
		pt_buf_add_str(tail, comma);
		add_profile(s, &places, profile, tail);
		comma = ",";
	}
	pt_buf_add_str(tail, "]}\n");
	pt_map_release(&places);
}

static void speedscope_redirect(void *state, struct pt_destination *copy)
{
	/* nothing is written before the tail */
}

static void speedscope_free(void *state)
{
	forget(state);
	free(state);
}

const struct pt_format pt_format_speedscope = {
    .suffix = ".speedscope.json",
    .samples = true,
    .open = speedscope_open,
    .op = speedscope_op,
    .extra = speedscope_extra,
    .tail = speedscope_tail,
    .redirect = speedscope_redirect,
    .free = speedscope_free,
};
