/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * report_priv.h - what report.c (printing), report_tally.c (adding up), report_lines.c and
 * report_memory.c share.
 */
#ifndef PT_SINK_REPORT_PRIV_H
#define PT_SINK_REPORT_PRIV_H

#include "base/map.h"
#include "sink/report.h"

struct cJSON;

struct report_function {
	char *file, *qualname;
	uint32_t line;
	uint64_t calls, self_ns;
	uint64_t total_ns; /* of calls that no call of the same function encloses */
	uint64_t self_samples, total_samples;
	uint64_t self_blocked_ns, total_blocked_ns;
};

/* The finished calls whose caller is still running. */
struct report_group {
	uint64_t caller;      /* id */
	uint64_t first_clock; /* of the earliest call in it or below */
	uint64_t ns;
};

/* Time that a function has gathered in a thread, by the clock of the last call of it. */
struct report_span {
	uint64_t clock, ns;
};

struct report_spans {
	struct report_span *spans;
	uint32_t count, size;
	struct report_spans *next;
};

struct report_thread {
	pid_t pid, tid;
	char *name;
	uint64_t calls, lost_events;
	uint64_t state_ns[PT_STATE_COUNT];
	uint64_t clock; /* calls finished so far */
	uint32_t number;
	struct report_group *groups;
	size_t group_count, group_size;
	struct report_thread *next;
};

#define REPORT_MEMORY_COUNTS 13

/* Memory of a kind and device, or what one stack has left of it. */
struct report_memory_row {
	int64_t bytes, allocations, most;
	int device;
	bool at_least, is_usage;
	char *kind, *stack;
};

struct report_memory {
	pid_t pid;
	int64_t counts[REPORT_MEMORY_COUNTS];
	struct report_memory_row *rows;
	size_t row_count;
	struct report_memory *next;
};

/* Samples that were in a line of a function, and in nothing that it called. */
struct report_line {
	uint32_t function, line;
	uint64_t self_samples;
};

struct report_lines {
	struct report_line *rows;
	size_t count, room;
	struct pt_map by_place; /* (function, line): a row's number, from 1 */
};

struct pt_report {
	struct report_function *functions; /* by function id; empty ones have no qualname */
	size_t function_count;
	struct pt_map threads; /* (pid, tid) */
	struct pt_map spans;   /* (thread number, function id) */
	struct report_thread *thread_list, **thread_tail;
	struct report_spans *spans_list;
	uint64_t calls, begin_ns, end_ns;
	uint64_t samples, blocked_ns;
	struct report_lines lines;
	uint32_t thread_count;
	bool has_states;
	struct report_memory *memory; /* a process each */
};

/* Names come from the traced program; they must not reach the terminal's control codes. */
void report_print_plain(const char *text, FILE *out);
/* Takes root. -ENOMEM, -EIO. */
int report_print_json(struct cJSON *root, FILE *out);
/* Other instants are passed over. */
int report_memory_add(struct pt_report *report, const struct pt_op_instant *instant);
void report_memory_release(struct pt_report *report);
/* text: as PT_SAMPLE_ARG_LINES has it, else -EBADMSG. */
int report_lines_add(struct pt_report *report, uint32_t function, const char *text);
int report_lines_print(const struct pt_report *report, size_t top, FILE *out);
/* NULL: no memory. */
struct cJSON *report_lines_json(const struct pt_report *report, size_t top);
void report_lines_release(struct pt_report *report);

#endif
