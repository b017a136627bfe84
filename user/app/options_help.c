// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * --help.
 */
#include <stdio.h>
#include <string.h>

#include "app/options_parts.h"

#define HELP_COLUMN 30
#define HELP_WIDTH  90

/* Prints text from HELP_COLUMN on, broken at spaces. */
static void print_wrapped(FILE *out, int column, const char *text)
{
	fprintf(out, "%*s", column < HELP_COLUMN ? HELP_COLUMN - column : 0, "");
	if (column >= HELP_COLUMN)
		fprintf(out, "\n%*s", HELP_COLUMN, "");
	column = HELP_COLUMN;
	for (const char *space = ""; *text; space = " ") {
		int len = (int)strcspn(text, " ");

		if (column + 1 + len > HELP_WIDTH && column > HELP_COLUMN) {
			fprintf(out, "\n%*s", HELP_COLUMN, "");
			column = HELP_COLUMN;
			space = "";
		}
		column += fprintf(out, "%s%.*s", space, len, text);
		text += len;
		text += strspn(text, " ");
	}
	fputc('\n', out);
}

static void print_row(FILE *out, const struct app_row *row)
{
	char left[96];
	int len = snprintf(left, sizeof(left), "  %c%c%s--%s%s%s", row->letter ? '-' : ' ',
			   row->letter ? row->letter : ' ', row->letter ? ", " : "  ", row->name,
			   row->argument ? " " : "", row->argument ? row->argument : "");

	fputs(left, out);
	print_wrapped(out, len, row->help);
}

void app_options_help(enum app_verb verb, FILE *out)
{
	fprintf(out, "%s\n\n", app_verb_find(verb)->help);
	if (verb == APP_RECORD) {
		for (size_t i = 0; i < app_verb_count; i++)
			fprintf(out, "%s pytrace-bpf %s\n",
				i ? "      " : "Usage:", app_verbs[i].usage);
		fputs("\nVerbs:\n", out);
		for (size_t i = 1; i < app_verb_count; i++)
			print_wrapped(out, fprintf(out, "  %s", app_verbs[i].name),
				      app_verbs[i].help);
	} else {
		fprintf(out, "Usage: pytrace-bpf %s\n", app_verb_find(verb)->usage);
	}
	fputs("\nOptions:\n", out);
	for (size_t i = 0; i < app_row_count; i++)
		if (app_rows[i].help && (app_rows[i].verbs & verb))
			print_row(out, &app_rows[i]);
	fputs(
	    "\nEach option but -p, -a and those that only print may also stand in the environment "
	    "(--max-events\nas PYTRACE_BPF_MAX_EVENTS) or in the file of --config.\n",
	    out);
	fputs(
	    "\nExit codes: 0 done, 1 failed while running, 2 wrong options, 3 not permitted, 4 no "
	    "such process or\nnot Python, 5 interpreter or kernel not supported, 6 done but events "
	    "were lost. With -- COMMAND the\ncommand's own exit code (128 + N if signal N ended "
	    "it) "
	    "once it has been recorded.\n",
	    out);
}
