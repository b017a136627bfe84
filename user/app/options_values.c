// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * What the value of an option may be, and where it is stored.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "app/options_parts.h"
#include "base/parse.h"
#include "flight/trigger.h"
#include "probe/attach.h"
#include "record/mark_spec.h"

int app_usage(struct pt_err *err, const char *fmt, ...)
{
	char what[sizeof(err->what)];
	va_list args;

	va_start(args, fmt);
	vsnprintf(what, sizeof(what), fmt, args);
	va_end(args);
	return pt_err_set(err, -EINVAL, PT_EXIT_USAGE, "'pytrace-bpf --help' lists the options",
			  "%s", what);
}

static int set_choice(const struct app_row *row, int *field, const char *value)
{
	for (const struct app_choice *choice = row->choices; choice->name; choice++) {
		if (!strcmp(choice->name, value)) {
			*field = choice->value;
			return 0;
		}
	}
	return -EINVAL;
}

static int add_choices(const struct app_row *row, int *field, const char *value)
{
	char *copy = strdup(value), *rest = copy, *name;
	int rc = copy ? 0 : -ENOMEM, one;

	while (!rc && (name = strsep(&rest, ","))) {
		rc = set_choice(row, &one, name);
		if (!rc)
			*field |= one;
	}
	free(copy);
	return rc;
}

static int set_flag(bool *field, const char *value)
{
	static const struct app_choice words[] = {{"1", 1},     {"true", 1}, {"yes", 1}, {"0", 0},
						  {"false", 0}, {"no", 0},   {"", 0},    {NULL, 0}};
	const struct app_row row = {.choices = words};
	int on = 1, rc = value ? set_choice(&row, &on, value) : 0;

	*field = on;
	return rc;
}

static int raise_level(int *level, const char *value)
{
	bool on;
	int rc = set_flag(&on, value);

	if (!rc)
		*level = on ? *level + 1 : 0;
	return rc;
}

int app_list_append(struct app_list *list, const char *item)
{
	char **bigger = reallocarray(list->items, list->count + 2, sizeof(*bigger));

	if (!bigger)
		return -ENOMEM;
	list->items = bigger;
	bigger[list->count] = strdup(item);
	if (!bigger[list->count])
		return -ENOMEM;
	bigger[++list->count] = NULL;
	return 0;
}

/* Names of audit events, with a star at the end or none. */
static int add_events(struct app_list *list, const char *value)
{
	char *copy = strdup(value), *rest = copy, *name;
	int rc = copy ? 0 : -ENOMEM;

	while (!rc && (name = strsep(&rest, ","))) {
		const char *star = strchr(name, '*');

		if (!*name || strlen(name) > PT_AUDIT_NAME_MAX || (star && star[1]))
			rc = -EINVAL;
		else if (list->count >= PT_AUDIT_COUNT_MAX)
			rc = -ERANGE;
		else
			rc = app_list_append(list, name);
	}
	free(copy);
	return rc;
}

static int add_names(struct app_list *list, const char *value)
{
	char *copy = strdup(value), *rest = copy, *name;
	int rc = copy ? 0 : -ENOMEM;

	while (!rc && (name = strsep(&rest, ",")))
		rc = *name ? app_list_append(list, name) : -EINVAL;
	free(copy);
	return rc;
}

static int set_string(char **field, const char *value)
{
	char *copy = strdup(value);

	if (!copy)
		return -ENOMEM;
	free(*field);
	*field = copy;
	return 0;
}

static int set_field(struct app_options *options, const struct app_row *row, const char *value)
{
	void *field = (char *)options + row->at;
	int rc;

	switch (row->kind) {
	case KIND_FLAG:
		return set_flag(field, value);
	case KIND_LEVEL:
		return raise_level(field, value);
	case KIND_STRING:
		return *value ? set_string(field, value) : -EINVAL;
	case KIND_TIME:
		return pt_parse_time_ns(value, field);
	case KIND_SIZE:
	case KIND_NUMBER:
		rc = row->kind == KIND_SIZE ? pt_parse_size(value, field)
					    : pt_parse_number(value, field);
		return !rc && row->max && *(uint64_t *)field > row->max ? -ERANGE : rc;
	case KIND_PERCENT:
		rc = pt_parse_percent(value, field);
		return !rc && !*(uint64_t *)field ? -EINVAL : rc;
	case KIND_CHOICE:
		return set_choice(row, field, value);
	case KIND_CHOICES:
		return add_choices(row, field, value);
	case KIND_LIST:
		return app_list_append(field, value);
	case KIND_PROBES:
	case KIND_TRIGGERS:
		return app_list_append(field, value);
	case KIND_EVENTS:
		return add_events(field, value);
	case KIND_NAMES:
		return add_names(field, value);
	case KIND_PIDS:
		return pt_parse_pids(value, &options->pids, &options->pid_count);
	}
	return -EINVAL;
}

int app_option_set(struct app_options *options, const struct app_row *row, const char *value,
		   const char *source, struct pt_err *err)
{
	struct pt_trigger trigger = {0};
	struct pt_mark_spec spec;
	int rc;

	/* these say better what is wrong */
	if (row->kind == KIND_PROBES && pt_mark_spec_parse(value, &spec, err))
		return -EINVAL;
	if (row->kind == KIND_TRIGGERS && pt_trigger_parse(value, &trigger, err))
		return -EINVAL;
	pt_trigger_release(&trigger);
	rc = set_field(options, row, value);
	if (!rc)
		return 0;
	if (rc == -ENOMEM)
		return pt_err_set(err, rc, PT_EXIT_FAILED, "", "out of memory");
	if (rc == -ERANGE)
		return app_usage(err, "%s: '%s' is too large", source, value);
	if (!app_row_takes_argument(row))
		return app_usage(err, "%s: '%s' is neither true nor false", source, value);
	return app_usage(err, "%s: '%s' is not a valid %s", source, value, row->argument);
}
