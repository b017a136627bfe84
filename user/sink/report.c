// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
#include "sink/report.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "sink/report_priv.h"

#define THREADS_SHOWN 20

typedef int (*compare_fn)(const void *, const void *);

/* Larger first; the order of equal ones must not depend on anything but the names. */
static int by_name(const struct report_function *a, const struct report_function *b)
{
	int order = strcmp(a->file, b->file);

	if (!order)
		order = (a->line > b->line) - (a->line < b->line);
	return order ? order : strcmp(a->qualname, b->qualname);
}

static int by_self(const void *left, const void *right)
{
	const struct report_function *a = *(const struct report_function *const *)left;
	const struct report_function *b = *(const struct report_function *const *)right;

	if (a->self_ns != b->self_ns)
		return a->self_ns < b->self_ns ? 1 : -1;
	return by_name(a, b);
}

static int by_total(const void *left, const void *right)
{
	const struct report_function *a = *(const struct report_function *const *)left;
	const struct report_function *b = *(const struct report_function *const *)right;

	if (a->total_ns != b->total_ns)
		return a->total_ns < b->total_ns ? 1 : -1;
	return by_name(a, b);
}

static int by_samples(const void *left, const void *right)
{
	const struct report_function *a = *(const struct report_function *const *)left;
	const struct report_function *b = *(const struct report_function *const *)right;

	if (a->self_samples != b->self_samples)
		return a->self_samples < b->self_samples ? 1 : -1;
	if (a->total_samples != b->total_samples)
		return a->total_samples < b->total_samples ? 1 : -1;
	return by_name(a, b);
}

static int by_blocked(const void *left, const void *right)
{
	const struct report_function *a = *(const struct report_function *const *)left;
	const struct report_function *b = *(const struct report_function *const *)right;

	if (a->self_blocked_ns != b->self_blocked_ns)
		return a->self_blocked_ns < b->self_blocked_ns ? 1 : -1;
	if (a->total_blocked_ns != b->total_blocked_ns)
		return a->total_blocked_ns < b->total_blocked_ns ? 1 : -1;
	return by_name(a, b);
}

static bool is_listed(const struct report_function *function, compare_fn compare)
{
	if (compare == by_blocked)
		return function->total_blocked_ns;
	return compare == by_samples ? function->total_samples : function->calls;
}

/* The functions that were called, sampled or blocked, in order; the caller frees the array. */
static int sorted(const struct pt_report *report, compare_fn compare,
		  const struct report_function ***result, size_t *count)
{
	const struct report_function **list = malloc((report->function_count + 1) * sizeof(*list));

	*count = 0;
	if (!list)
		return -ENOMEM;
	for (size_t i = 0; i < report->function_count; i++) {
		if (is_listed(&report->functions[i], compare))
			list[(*count)++] = &report->functions[i];
	}
	qsort(list, *count, sizeof(*list), compare);
	*result = list;
	return 0;
}

void report_print_plain(const char *text, FILE *out)
{
	for (; *text; text++) {
		unsigned char c = (unsigned char)text[0], next = (unsigned char)text[1];
		/* U+0080 .. U+009F are control codes too: C2 80 .. C2 9F */
		bool c1 = c == 0xc2 && next >= 0x80 && next < 0xa0;

		if (c1)
			text++;
		putc(c1 || c < 0x20 || c == 0x7f ? '?' : c, out);
	}
}

static void print_name(const struct report_function *function, FILE *out)
{
	if (function->file[0] || function->line) {
		report_print_plain(function->file, out);
		fprintf(out, "(%u): ", function->line);
	}
	report_print_plain(function->qualname, out);
	putc('\n', out);
}

static double percent(uint64_t part, uint64_t whole)
{
	return whole ? 100.0 * (double)part / (double)whole : 0;
}

static int print_samples(const struct pt_report *report, size_t top, FILE *out)
{
	const struct report_function **list;
	size_t count;
	int rc = sorted(report, by_samples, &list, &count);

	if (rc)
		return rc;
	fprintf(out, "\nFunctions by samples\n%12s %7s %12s %7s  function\n", "self", "%", "total",
		"%");
	for (size_t i = 0; i < count && i < top; i++) {
		fprintf(out, "%12llu %7.2f %12llu %7.2f  ",
			(unsigned long long)list[i]->self_samples,
			percent(list[i]->self_samples, report->samples),
			(unsigned long long)list[i]->total_samples,
			percent(list[i]->total_samples, report->samples));
		print_name(list[i], out);
	}
	if (count > top)
		fprintf(out, "%12s and %zu more\n", "", count - top);
	free(list);
	return 0;
}

static int print_blocked(const struct pt_report *report, size_t top, FILE *out)
{
	const struct report_function **list;
	size_t count;
	int rc = sorted(report, by_blocked, &list, &count);

	if (rc)
		return rc;
	fprintf(out, "\nFunctions by blocked time\n%12s %7s %12s %7s  function\n", "self ms", "%",
		"total ms", "%");
	for (size_t i = 0; i < count && i < top; i++) {
		fprintf(out, "%12.3f %7.2f %12.3f %7.2f  ", (double)list[i]->self_blocked_ns / 1e6,
			percent(list[i]->self_blocked_ns, report->blocked_ns),
			(double)list[i]->total_blocked_ns / 1e6,
			percent(list[i]->total_blocked_ns, report->blocked_ns));
		print_name(list[i], out);
	}
	if (count > top)
		fprintf(out, "%12s and %zu more\n", "", count - top);
	free(list);
	return 0;
}

static int print_table(const struct pt_report *report, const char *title, compare_fn compare,
		       size_t top, FILE *out)
{
	const struct report_function **list;
	size_t count;
	int rc = sorted(report, compare, &list, &count);

	if (rc)
		return rc;
	fprintf(out, "\n%s\n%12s %14s %14s  function\n", title, "calls", "self (ms)", "total (ms)");
	for (size_t i = 0; i < count && i < top; i++) {
		fprintf(out, "%12llu %14.3f %14.3f  ", (unsigned long long)list[i]->calls,
			(double)list[i]->self_ns / 1e6, (double)list[i]->total_ns / 1e6);
		print_name(list[i], out);
	}
	if (count > top)
		fprintf(out, "%12s and %zu more\n", "", count - top);
	free(list);
	return 0;
}

int pt_report_each(const struct pt_report *report, bool by_total_time, size_t top,
		   void (*fn)(const struct pt_report_row *row, void *ctx), void *ctx)
{
	const struct report_function **list;
	size_t count;
	int rc = sorted(report, by_total_time ? by_total : by_self, &list, &count);

	if (rc)
		return rc;
	for (size_t i = 0; i < count && i < top; i++) {
		const struct pt_report_row row = {.file = list[i]->file,
						  .qualname = list[i]->qualname,
						  .line = list[i]->line,
						  .calls = list[i]->calls,
						  .self_ns = list[i]->self_ns,
						  .total_ns = list[i]->total_ns};

		fn(&row, ctx);
	}
	free(list);
	return 0;
}

/* by enum pt_state */
static const char *const state_titles[PT_STATE_COUNT] = {"running (ms)", "runnable (ms)",
							 "blocked (ms)", "unknown (ms)"};
static const char *const state_keys[PT_STATE_COUNT] = {"running_ns", "runnable_ns", "blocked_ns",
						       "unknown_ns"};
/* A track that is no thread, and has no calls. */
static bool is_other_track(const struct report_thread *thread)
{
	return thread->tid >= PT_TRACK_TID && !thread->calls && !thread->lost_events;
}

static uint32_t count_threads(const struct pt_report *report)
{
	const struct report_thread *thread;
	uint32_t count = 0;

	for (thread = report->thread_list; thread; thread = thread->next)
		count += !is_other_track(thread);
	return count;
}

static void print_threads(const struct pt_report *report, FILE *out)
{
	const struct report_thread *thread;
	unsigned int shown = 0;

	fprintf(out, "\nThreads\n%12s %10s %10s %12s", "calls", "pid", "tid", "lost events");
	for (size_t i = 0; report->has_states && i < PT_STATE_COUNT; i++)
		fprintf(out, " %14s", state_titles[i]);
	fprintf(out, "  name\n");
	for (thread = report->thread_list; thread && shown < THREADS_SHOWN; thread = thread->next) {
		if (is_other_track(thread))
			continue;
		fprintf(out, "%12llu %10d %10d %12llu", (unsigned long long)thread->calls,
			thread->pid, thread->tid, (unsigned long long)thread->lost_events);
		for (size_t i = 0; report->has_states && i < PT_STATE_COUNT; i++)
			fprintf(out, " %14.3f", (double)thread->state_ns[i] / 1e6);
		fprintf(out, "  ");
		report_print_plain(thread->name ? thread->name : "", out);
		putc('\n', out);
		shown++;
	}
	if (count_threads(report) > shown)
		fprintf(out, "%12s and %u more\n", "", count_threads(report) - shown);
}

int pt_report_print_text(const struct pt_report *report, const struct pt_totals *totals, size_t top,
			 FILE *out)
{
	bool sampled = report->samples || report->blocked_ns;
	int rc = 0;

	if (report->samples)
		fprintf(out, "samples %llu, ", (unsigned long long)report->samples);
	fprintf(out, "calls %llu, threads %u, time %.3f ms, lost events %llu%s\n",
		(unsigned long long)report->calls, count_threads(report),
		(double)(report->end_ns - report->begin_ns) / 1e6,
		(unsigned long long)totals->lost_events,
		totals->cut_short ? ", the file was cut short" : "");
	if (totals->bad_records)
		fprintf(out, "damaged records %llu\n", (unsigned long long)totals->bad_records);
	if (report->samples)
		rc = print_samples(report, top, out);
	if (!rc && report->lines.count)
		rc = report_lines_print(report, top, out);
	if (!rc && report->blocked_ns)
		rc = print_blocked(report, top, out);
	if (!rc && (report->calls || !sampled))
		rc = print_table(report, "Functions by self time", by_self, top, out);
	if (!rc && (report->calls || !sampled))
		rc = print_table(report, "Functions by total time", by_total, top, out);
	if (rc)
		return rc;
	print_threads(report, out);
	return ferror(out) ? -EIO : 0;
}

static void add_calls(cJSON *item, const struct report_function *function)
{
	cJSON_AddNumberToObject(item, "calls", (double)function->calls);
	cJSON_AddNumberToObject(item, "self_ns", (double)function->self_ns);
	cJSON_AddNumberToObject(item, "total_ns", (double)function->total_ns);
}

static void add_samples(cJSON *item, const struct report_function *function)
{
	cJSON_AddNumberToObject(item, "self_samples", (double)function->self_samples);
	cJSON_AddNumberToObject(item, "total_samples", (double)function->total_samples);
}

static void add_blocked(cJSON *item, const struct report_function *function)
{
	cJSON_AddNumberToObject(item, "self_blocked_ns", (double)function->self_blocked_ns);
	cJSON_AddNumberToObject(item, "total_blocked_ns", (double)function->total_blocked_ns);
}

static cJSON *functions_json(const struct pt_report *report, compare_fn compare, size_t top,
			     void (*add)(cJSON *item, const struct report_function *function))
{
	cJSON *array = cJSON_CreateArray(), *item;
	const struct report_function **list;
	size_t count;

	if (!array || sorted(report, compare, &list, &count)) {
		cJSON_Delete(array);
		return NULL;
	}
	for (size_t i = 0; i < count && i < top; i++) {
		item = cJSON_CreateObject();
		cJSON_AddStringToObject(item, "file", list[i]->file);
		cJSON_AddNumberToObject(item, "line", list[i]->line);
		cJSON_AddStringToObject(item, "name", list[i]->qualname);
		add(item, list[i]);
		cJSON_AddItemToArray(array, item);
	}
	free(list);
	return array;
}

static cJSON *threads_json(const struct pt_report *report)
{
	cJSON *array = cJSON_CreateArray(), *item;
	const struct report_thread *thread;

	for (thread = report->thread_list; thread; thread = thread->next) {
		if (is_other_track(thread))
			continue;
		item = cJSON_CreateObject();
		cJSON_AddNumberToObject(item, "pid", thread->pid);
		cJSON_AddNumberToObject(item, "tid", thread->tid);
		cJSON_AddStringToObject(item, "name", thread->name ? thread->name : "");
		cJSON_AddNumberToObject(item, "calls", (double)thread->calls);
		cJSON_AddNumberToObject(item, "lost_events", (double)thread->lost_events);
		for (size_t i = 0; report->has_states && i < PT_STATE_COUNT; i++)
			cJSON_AddNumberToObject(item, state_keys[i], (double)thread->state_ns[i]);
		cJSON_AddItemToArray(array, item);
	}
	return array;
}

int report_print_json(cJSON *root, FILE *out)
{
	char *text = cJSON_Print(root);

	cJSON_Delete(root);
	if (!text)
		return -ENOMEM;
	fprintf(out, "%s\n", text);
	free(text);
	return ferror(out) ? -EIO : 0;
}

int pt_report_print_json(const struct pt_report *report, const struct pt_totals *totals, size_t top,
			 FILE *out)
{
	cJSON *root = cJSON_CreateObject();

	cJSON_AddNumberToObject(root, "calls", (double)report->calls);
	cJSON_AddNumberToObject(root, "duration_ns", (double)(report->end_ns - report->begin_ns));
	cJSON_AddNumberToObject(root, "lost_events", (double)totals->lost_events);
	cJSON_AddNumberToObject(root, "lost_records", (double)totals->lost_records);
	cJSON_AddNumberToObject(root, "damaged_records", (double)totals->bad_records);
	cJSON_AddBoolToObject(root, "cut_short", totals->cut_short);
	cJSON_AddItemToObject(root, "by_self", functions_json(report, by_self, top, add_calls));
	cJSON_AddItemToObject(root, "by_total", functions_json(report, by_total, top, add_calls));
	if (report->samples) {
		cJSON_AddNumberToObject(root, "samples", (double)report->samples);
		cJSON_AddItemToObject(root, "by_samples",
				      functions_json(report, by_samples, top, add_samples));
		if (report->lines.count)
			cJSON_AddItemToObject(root, "by_lines", report_lines_json(report, top));
	}
	if (report->blocked_ns) {
		cJSON_AddNumberToObject(root, "blocked_ns", (double)report->blocked_ns);
		cJSON_AddItemToObject(root, "by_blocked",
				      functions_json(report, by_blocked, top, add_blocked));
	}
	cJSON_AddItemToObject(root, "threads", threads_json(report));
	return report_print_json(root, out);
}
