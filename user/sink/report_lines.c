// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * The lines in which most samples were, by what the spans of samples say (PT_SAMPLE_ARG_LINES).
 */
#include <cjson/cJSON.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/grow.h"
#include "sink/report_priv.h"

/* In all; the text of a trace may say anything. */
#define LINES_MAX (1u << 20)

static struct report_line *line_get(struct report_lines *lines, uint32_t function, uint32_t line)
{
	uintptr_t number = (uintptr_t)pt_map_get(&lines->by_place, function, line);
	struct report_line *bigger;

	if (number)
		return &lines->rows[number - 1];
	bigger = pt_grow(lines->rows, lines->count, &lines->room, 64, sizeof(*bigger));
	if (!bigger)
		return NULL;
	lines->rows = bigger;
	if (pt_map_put(&lines->by_place, function, line, (void *)(lines->count + 1)))
		return NULL;
	lines->rows[lines->count] = (struct report_line){.function = function, .line = line};
	return &lines->rows[lines->count++];
}

int report_lines_add(struct pt_report *report, uint32_t function, const char *text)
{
	while (*text) {
		struct report_line *row;
		unsigned long long samples;
		unsigned long line;
		char *end;

		line = strtoul(text, &end, 10);
		if (end == text || *end != ':' || !line || line > INT32_MAX)
			return -EBADMSG;
		text = end + 1;
		samples = strtoull(text, &end, 10);
		if (end == text || (*end && *end != ','))
			return -EBADMSG;
		text = end + (*end == ',');
		if (report->lines.count == LINES_MAX)
			return -EBADMSG;
		row = line_get(&report->lines, function, (uint32_t)line);
		if (!row)
			return -ENOMEM;
		row->self_samples += samples;
	}
	return 0;
}

void report_lines_release(struct pt_report *report)
{
	free(report->lines.rows);
	pt_map_release(&report->lines.by_place);
	report->lines = (struct report_lines){0};
}

struct sorted_line {
	const struct report_function *function;
	const struct report_line *line;
};

/* The most samples first; then by name, so that the order is always the same. */
static int by_self(const void *left, const void *right)
{
	const struct sorted_line *a = left, *b = right;
	int order;

	if (a->line->self_samples != b->line->self_samples)
		return a->line->self_samples < b->line->self_samples ? 1 : -1;
	order = strcmp(a->function->file, b->function->file);
	if (!order)
		order = (a->line->line > b->line->line) - (a->line->line < b->line->line);
	return order ? order : strcmp(a->function->qualname, b->function->qualname);
}

/* The caller frees; NULL: no memory. */
static struct sorted_line *sorted(const struct pt_report *report)
{
	struct sorted_line *list = calloc(report->lines.count + 1, sizeof(*list));

	if (!list)
		return NULL;
	for (size_t i = 0; i < report->lines.count; i++) {
		list[i].line = &report->lines.rows[i];
		list[i].function = &report->functions[list[i].line->function];
	}
	qsort(list, report->lines.count, sizeof(*list), by_self);
	return list;
}

int report_lines_print(const struct pt_report *report, size_t top, FILE *out)
{
	struct sorted_line *list = sorted(report);

	if (!list)
		return -ENOMEM;
	fprintf(out, "\nLines by samples\n%12s %7s  line, and its function\n", "self", "%");
	for (size_t i = 0; i < report->lines.count && i < top; i++) {
		fprintf(out, "%12llu %7.2f  ", (unsigned long long)list[i].line->self_samples,
			100.0 * (double)list[i].line->self_samples / (double)report->samples);
		report_print_plain(list[i].function->file, out);
		fprintf(out, "(%u): ", list[i].line->line);
		report_print_plain(list[i].function->qualname, out);
		putc('\n', out);
	}
	if (report->lines.count > top)
		fprintf(out, "%12s and %zu more\n", "", report->lines.count - top);
	free(list);
	return 0;
}

cJSON *report_lines_json(const struct pt_report *report, size_t top)
{
	struct sorted_line *list = sorted(report);
	cJSON *array = list ? cJSON_CreateArray() : NULL;

	for (size_t i = 0; array && i < report->lines.count && i < top; i++) {
		cJSON *item = cJSON_CreateObject();

		cJSON_AddStringToObject(item, "file", list[i].function->file);
		cJSON_AddNumberToObject(item, "line", list[i].line->line);
		cJSON_AddStringToObject(item, "name", list[i].function->qualname);
		cJSON_AddNumberToObject(item, "self_samples", (double)list[i].line->self_samples);
		cJSON_AddItemToArray(array, item);
	}
	free(list);
	return array;
}
