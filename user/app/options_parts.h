/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * options_parts.h - what the files that read options share; nobody else includes it.
 *
 * options.c reads the command line, the environment and a file, by the table in options_rows.c.
 * options_values.c knows what values may be, options_check.c what does not go together,
 * options_help.c prints the table.
 */
#ifndef PT_APP_OPTIONS_PARTS_H
#define PT_APP_OPTIONS_PARTS_H

#include "app/options.h"

#define APP_TRACERS (APP_RECORD | APP_CAPTURE)
/* Those that each verb has. */
#define APP_EVERYWHERE                                                                             \
	(APP_TRACERS | APP_CHECK | APP_LIST | APP_REPLAY | APP_REPORT | APP_CTL | APP_KERNELS |    \
	 APP_MERGE | APP_AGENT)

enum app_kind {
	KIND_FLAG,
	KIND_LEVEL, /* a flag that may be given again, for more */
	KIND_STRING,
	KIND_TIME,
	KIND_SIZE,
	KIND_NUMBER,
	KIND_PERCENT,
	KIND_CHOICE,
	KIND_CHOICES, /* several, split at commas: their values together */
	KIND_LIST,
	KIND_EVENTS,
	KIND_NAMES, /* a list that is split at commas */
	KIND_PROBES,
	KIND_TRIGGERS,
	KIND_PIDS,
};

struct app_choice {
	const char *name;
	int value;
};

struct app_row {
	const char *name;
	char letter; /* 0: none */
	enum app_kind kind;
	const char *argument; /* its name in the help text */
	size_t at;            /* offset in struct app_options */
	unsigned int verbs;
	const char *help; /* NULL: not shown (for tests) */
	const struct app_choice *choices;
	bool only_flag; /* neither in the environment nor in a file */
	uint64_t max;   /* of a number; 0: any */
};

struct app_verb_row {
	const char *name;
	enum app_verb verb;
	const char *usage, *help;
	bool wants_file;
};

/* ---- options_rows.c ---- */

#define APP_ROWS_MAX 160

extern const struct app_row app_rows[];
extern const size_t app_row_count;            /* up to APP_ROWS_MAX */
extern const struct app_verb_row app_verbs[]; /* the first one: to record */
extern const size_t app_verb_count;

/* NULL: there is none. */
const struct app_row *app_row_find(const char *name);
bool app_row_takes_argument(const struct app_row *row);
const struct app_verb_row *app_verb_find(enum app_verb verb);

/* ---- options_values.c ---- */

/* -EINVAL, exit code 2. */
int app_usage(struct pt_err *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Copies the item. -ENOMEM. */
int app_list_append(struct app_list *list, const char *item);
/* source: "--engine", "PYTRACE_BPF_ENGINE" or "'engine' in FILE". */
int app_option_set(struct app_options *options, const struct app_row *row, const char *value,
		   const char *source, struct pt_err *err);

/* ---- options_check.c ---- */

/* What cannot be told of one option alone; sets what follows from several. */
int app_options_check(struct app_options *options, struct pt_err *err);

#endif
