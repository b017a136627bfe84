// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/* What is left of CUDA memory, from the instants with which the model ends (model/memory.c). */
#include <cjson/cJSON.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "sink/report_priv.h"

#define CATEGORY "cuda_memory"

/* The counts of "memory calls"; those from FIRST_RARE on are shown only if they are not 0. */
static const char *const count_keys[REPORT_MEMORY_COUNTS] = {
    "allocations",
    "frees",
    "failed allocations",
    "failed frees",
    "frees of unknown addresses",
    "double frees",
    "freed by a reset",
    "unseen frees",
    "calls of unknown outcome",
    "resets of unknown extent",
    "events out of order",
    "stacks cut",
    "ended",
};
#define FIRST_RARE 2
#define ENDED      (REPORT_MEMORY_COUNTS - 1)

static const struct pt_arg *find_arg(const struct pt_op_instant *instant, const char *key)
{
	for (uint32_t i = 0; i < instant->arg_count; i++)
		if (!strcmp(instant->args[i].key, key))
			return &instant->args[i];
	return NULL;
}

static int64_t number_of(const struct pt_op_instant *instant, const char *key)
{
	const struct pt_arg *arg = find_arg(instant, key);

	return arg && !arg->text ? arg->number : 0;
}

static char *text_of(const struct pt_op_instant *instant, const char *key)
{
	const struct pt_arg *arg = find_arg(instant, key);

	return strdup(arg && arg->text ? arg->text : "");
}

static struct report_memory *memory_get(struct pt_report *report, pid_t pid)
{
	struct report_memory *memory = report->memory, **tail = &report->memory;

	for (; memory; memory = memory->next) {
		if (memory->pid == pid)
			return memory;
		tail = &memory->next;
	}
	memory = calloc(1, sizeof(*memory));
	if (!memory)
		return NULL;
	memory->pid = pid;
	*tail = memory;
	return memory;
}

static int add_row(struct report_memory *memory, const struct pt_op_instant *instant, bool usage)
{
	struct report_memory_row *rows, row = {
					    .bytes = number_of(instant, "bytes"),
					    .allocations = number_of(instant, "allocations"),
					    .most = number_of(instant, "most bytes"),
					    .device = (int)number_of(instant, "device"),
					    .at_least = number_of(instant, "at least") != 0,
					    .is_usage = usage,
					    .kind = text_of(instant, "kind"),
					    .stack = text_of(instant, "stack"),
					};

	rows = reallocarray(memory->rows, memory->row_count + 1, sizeof(*rows));
	if (rows)
		memory->rows = rows;
	if (!rows || !row.kind || !row.stack) {
		free(row.kind);
		free(row.stack);
		return -ENOMEM;
	}
	rows[memory->row_count++] = row;
	return 0;
}

int report_memory_add(struct pt_report *report, const struct pt_op_instant *instant)
{
	bool calls = !strcmp(instant->name, "memory calls");
	bool usage = !strcmp(instant->name, "memory in use");
	struct report_memory *memory;

	if (!instant->category || strcmp(instant->category, CATEGORY) != 0 ||
	    (!calls && !usage && strcmp(instant->name, "still allocated") != 0))
		return 0;
	memory = memory_get(report, instant->pid);
	if (!memory)
		return -ENOMEM;
	if (!calls)
		return add_row(memory, instant, usage);
	for (size_t i = 0; i < REPORT_MEMORY_COUNTS; i++)
		memory->counts[i] += number_of(instant, count_keys[i]);
	return 0;
}

void report_memory_release(struct pt_report *report)
{
	while (report->memory) {
		struct report_memory *memory = report->memory;

		report->memory = memory->next;
		for (size_t i = 0; i < memory->row_count; i++) {
			free(memory->rows[i].kind);
			free(memory->rows[i].stack);
		}
		free(memory->rows);
		free(memory);
	}
}

/* ---- printing ---- */

/* Usages as they are, then the largest first. */
static int compare_rows(const void *left, const void *right)
{
	const struct report_memory_row *a = left, *b = right;
	int order;

	if (a->is_usage != b->is_usage)
		return a->is_usage ? -1 : 1;
	if (!a->is_usage && a->bytes != b->bytes)
		return a->bytes < b->bytes ? 1 : -1;
	order = strcmp(a->kind, b->kind);
	if (!order)
		order = (a->device > b->device) - (a->device < b->device);
	if (!order)
		order = strcmp(a->stack, b->stack);
	return order ? order
		     : (a->allocations > b->allocations) - (a->allocations < b->allocations);
}

static void print_where(const struct report_memory_row *row, FILE *out)
{
	bool host = strstr(row->kind, "host") != NULL;

	report_print_plain(row->kind, out);
	if (!host && row->device < 0)
		fprintf(out, ", device not known");
	else if (!host)
		fprintf(out, ", device %d", row->device);
}

/* One frame a line. */
static void print_stack(const char *stack, FILE *out)
{
	while (*stack) {
		size_t len = strcspn(stack, "\n");
		char *line = strndup(stack, len);

		fprintf(out, "%30s", "");
		report_print_plain(line ? line : "?", out);
		putc('\n', out);
		free(line);
		stack += len + (stack[len] != '\0');
	}
}

static void print_process(const struct report_memory *memory, size_t top, FILE *out)
{
	size_t shown = 0, left = 0;

	fprintf(out, "\nMemory of process %d%s: ", memory->pid,
		memory->counts[ENDED] ? ", which has ended" : "");
	for (size_t i = 0; i < ENDED; i++)
		if (i < FIRST_RARE || memory->counts[i])
			fprintf(out, "%s%s %lld", i ? ", " : "", count_keys[i],
				(long long)memory->counts[i]);
	fprintf(out, "\n%18s %11s %18s  kind\n", "bytes in use", "allocations", "most bytes");
	for (size_t i = 0; i < memory->row_count && memory->rows[i].is_usage; i++) {
		const struct report_memory_row *row = &memory->rows[i];

		fprintf(out, "%18lld %11lld %18lld  ", (long long)row->bytes,
			(long long)row->allocations, (long long)row->most);
		print_where(row, out);
		putc('\n', out);
	}
	fprintf(out, "Still allocated, by stack\n%18s %11s\n", "bytes", "allocations");
	for (size_t i = 0; i < memory->row_count; i++) {
		const struct report_memory_row *row = &memory->rows[i];

		left += !row->is_usage;
		if (row->is_usage || shown == top)
			continue;
		shown++;
		fprintf(out, "%18lld %11lld  ", (long long)row->bytes, (long long)row->allocations);
		print_where(row, out);
		fprintf(out, "%s\n", row->at_least ? ", at least" : "");
		print_stack(row->stack, out);
	}
	if (left > shown)
		fprintf(out, "%18s and %zu more\n", "", left - shown);
	if (!left)
		fprintf(out, "%18s nothing\n", "");
}

static void sort_rows(const struct pt_report *report)
{
	for (struct report_memory *memory = report->memory; memory; memory = memory->next)
		if (memory->row_count)
			qsort(memory->rows, memory->row_count, sizeof(*memory->rows), compare_rows);
}

int pt_report_print_memory_text(const struct pt_report *report, const struct pt_totals *totals,
				size_t top, FILE *out)
{
	sort_rows(report);
	if (!report->memory) {
		fprintf(out, "nothing about CUDA memory: no call allocated or freed any, or the "
			     "trace was made without --memory or is cut short\n");
		return ferror(out) ? -EIO : 0;
	}
	fprintf(out, "What was allocated before the recording reached a process is not known.\n");
	if (totals->lost_events || totals->lost_records || totals->pauses || totals->cut_short)
		fprintf(out,
			"Events are missing (lost, in a pause, or the file is cut short): what "
			"follows is not exact.\n");
	for (const struct report_memory *memory = report->memory; memory; memory = memory->next)
		print_process(memory, top, out);
	return ferror(out) ? -EIO : 0;
}

static void add_device(cJSON *item, const struct report_memory_row *row)
{
	cJSON_AddStringToObject(item, "kind", row->kind);
	if (row->device < 0)
		cJSON_AddNullToObject(item, "device");
	else
		cJSON_AddNumberToObject(item, "device", row->device);
	cJSON_AddNumberToObject(item, "bytes", (double)row->bytes);
	cJSON_AddNumberToObject(item, "allocations", (double)row->allocations);
}

static cJSON *stack_json(const char *stack)
{
	cJSON *array = cJSON_CreateArray();

	while (*stack) {
		size_t len = strcspn(stack, "\n");
		char *line = strndup(stack, len);

		cJSON_AddItemToArray(array, cJSON_CreateString(line ? line : "?"));
		free(line);
		stack += len + (stack[len] != '\0');
	}
	return array;
}

static cJSON *process_json(const struct report_memory *memory, size_t top)
{
	cJSON *root = cJSON_CreateObject(), *calls = cJSON_CreateObject(), *item;
	cJSON *usages = cJSON_CreateArray(), *left = cJSON_CreateArray();
	size_t shown = 0;

	cJSON_AddNumberToObject(root, "pid", memory->pid);
	cJSON_AddBoolToObject(root, "ended", memory->counts[ENDED] != 0);
	for (size_t i = 0; i < ENDED; i++)
		cJSON_AddNumberToObject(calls, count_keys[i], (double)memory->counts[i]);
	for (size_t i = 0; i < memory->row_count; i++) {
		const struct report_memory_row *row = &memory->rows[i];

		if (!row->is_usage && shown++ >= top)
			continue;
		item = cJSON_CreateObject();
		add_device(item, row);
		if (row->is_usage) {
			cJSON_AddNumberToObject(item, "most_bytes", (double)row->most);
		} else {
			cJSON_AddBoolToObject(item, "at_least", row->at_least);
			cJSON_AddItemToObject(item, "stack", stack_json(row->stack));
		}
		cJSON_AddItemToArray(row->is_usage ? usages : left, item);
	}
	cJSON_AddItemToObject(root, "calls", calls);
	cJSON_AddItemToObject(root, "in_use", usages);
	cJSON_AddItemToObject(root, "still_allocated", left);
	cJSON_AddNumberToObject(root, "still_allocated_stacks", (double)shown);
	return root;
}

int pt_report_print_memory_json(const struct pt_report *report, const struct pt_totals *totals,
				size_t top, FILE *out)
{
	cJSON *root = cJSON_CreateObject(), *processes = cJSON_CreateArray();

	sort_rows(report);
	for (const struct report_memory *memory = report->memory; memory; memory = memory->next)
		cJSON_AddItemToArray(processes, process_json(memory, top));
	cJSON_AddNumberToObject(root, "lost_events", (double)totals->lost_events);
	cJSON_AddNumberToObject(root, "lost_records", (double)totals->lost_records);
	cJSON_AddNumberToObject(root, "pauses", (double)totals->pauses);
	cJSON_AddBoolToObject(root, "cut_short", totals->cut_short);
	cJSON_AddItemToObject(root, "processes", processes);
	return report_print_json(root, out);
}
