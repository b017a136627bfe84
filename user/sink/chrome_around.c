// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * What stands before the events and behind them: where it was recorded, sources, totals.
 */
#include <stdio.h>
#include <string.h>

#include "base/utf8.h"
#include "sink/chrome_parts.h"
#include "sink/json_text.h"

static void add_text(struct pt_buf *buf, const char *key, const char *value)
{
	pt_buf_printf(buf, "    \"%s\": ", key);
	pt_json_string(buf, value);
}

void chrome_write_head(struct chrome *chrome, struct pt_buf *buf)
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

void chrome_extra(void *state, struct pt_buf *buf)
{
	struct chrome *chrome = state;

	if (!chrome->any_event && chrome_put_head(chrome))
		buf->failed = true;
	write_sources(state, buf);
	chrome_write_frames(state, buf);
}

/* Those that most traces have not. */
static void add_rare_totals(struct pt_buf *tail, const struct pt_totals *totals)
{
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
	if (totals->cuda_left_out)
		pt_buf_printf(tail, "    \"short CUDA calls left out\": %llu,\n",
			      (unsigned long long)totals->cuda_left_out);
	if (totals->open_left_out)
		pt_buf_add_str(tail, "    \"running calls left out\": true,\n");
}

void chrome_tail(void *state, const char *path, const struct pt_totals *totals, bool extra,
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
	add_rare_totals(tail, totals);
	pt_buf_printf(tail,
		      "    \"capture cut short\": %s,\n"
		      "    \"document cut short\": %s\n"
		      "  }\n}\n",
		      totals->cut_short ? "true" : "false", limited ? "true" : "false");
}
