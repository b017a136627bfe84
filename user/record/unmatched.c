// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
#include "record/unmatched.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/glob.h"
#include "base/log.h"
#include "ingest/decode.h"

#define TEXT_MAX (3 * PT_STR_MAX_BYTES + 1)

struct wanted {
	const char *option;
	char *glob;
	bool event; /* of audit events, not of functions */
	bool met;
};

struct unmatched {
	struct wanted *items;
	size_t count, functions_left, events_left;
};

/* What follows a ':', of --local, is the name of a variable. */
static int add(struct unmatched *unmatched, const char *option, const char *text, bool event)
{
	const char *colon = !strcmp(option, "--local") ? strrchr(text, ':') : NULL;
	struct wanted *items = realloc(unmatched->items,
				       (unmatched->count + 1) * sizeof(*unmatched->items));
	struct wanted *item;

	if (!items)
		return -ENOMEM;
	unmatched->items = items;
	item = &items[unmatched->count];
	*item = (struct wanted){
	    .option = option,
	    .glob = strndup(text, colon ? (size_t)(colon - text) : strlen(text)),
	    .event = event,
	};
	if (!item->glob)
		return -ENOMEM;
	unmatched->count++;
	*(event ? &unmatched->events_left : &unmatched->functions_left) += 1;
	return 0;
}

static int add_all(struct unmatched *unmatched, const char *option, const char *const *texts,
		   bool event)
{
	int rc = 0;

	for (; !rc && texts && *texts; texts++)
		rc = add(unmatched, option, *texts, event);
	return rc;
}

int unmatched_new(const struct pt_tracer_options *options, struct unmatched **out)
{
	struct unmatched *unmatched = calloc(1, sizeof(*unmatched));
	int rc;

	*out = NULL;
	if (!unmatched)
		return -ENOMEM;
	rc = add_all(unmatched, "--args", options->args, false);
	if (!rc)
		rc = add_all(unmatched, "--retval", options->retval, false);
	if (!rc)
		rc = add_all(unmatched, "--local", options->local, false);
	if (!rc)
		rc = add_all(unmatched, "--audit", options->audit, true);
	if (!rc && options->start_on)
		rc = add(unmatched, "--start-on", options->start_on, false);
	if (!rc && options->stop_on)
		rc = add(unmatched, "--stop-on", options->stop_on, false);
	if (rc || !unmatched->count)
		unmatched_free(unmatched);
	else
		*out = unmatched;
	return rc;
}

static void met(struct unmatched *unmatched, const char *name, bool event)
{
	size_t *left = event ? &unmatched->events_left : &unmatched->functions_left;

	for (size_t i = 0; i < unmatched->count; i++) {
		struct wanted *item = &unmatched->items[i];
		const char *const globs[] = {item->glob, NULL};

		if (item->met || item->event != event || !pt_glob_qualified(globs, "", name))
			continue;
		item->met = true;
		(*left)--;
	}
}

void unmatched_record(struct unmatched *unmatched, const struct pt_rec *record, size_t len)
{
	const struct pt_rec_runtime *runtime = (const struct pt_rec_runtime *)record;
	const struct pt_rec_code *code = (const struct pt_rec_code *)record;
	char name[TEXT_MAX];

	if (record->kind == PT_REC_CODE && unmatched->functions_left && len >= sizeof(*code)) {
		pt_str_utf8(code, code->str[PT_STR_QUALNAME].bytes ? PT_STR_QUALNAME : PT_STR_NAME,
			    name, sizeof(name));
		met(unmatched, name, false);
	} else if (record->kind == PT_REC_RUNTIME && unmatched->events_left &&
		   len >= sizeof(*runtime) && runtime->what == PT_RT_AUDIT && runtime->item_count) {
		pt_rt_item_utf8(runtime, 0, name, sizeof(name));
		met(unmatched, name, true);
	}
}

void unmatched_tell(const struct unmatched *unmatched)
{
	for (size_t i = 0; i < unmatched->count; i++)
		if (!unmatched->items[i].met)
			pt_warn("%s: no %s matched '%s'", unmatched->items[i].option,
				unmatched->items[i].event ? "event that was raised"
							  : "function that was called",
				unmatched->items[i].glob);
}

size_t unmatched_count(const struct unmatched *unmatched)
{
	return unmatched->functions_left + unmatched->events_left;
}

void unmatched_free(struct unmatched *unmatched)
{
	if (!unmatched)
		return;
	for (size_t i = 0; i < unmatched->count; i++)
		free(unmatched->items[i].glob);
	free(unmatched->items);
	free(unmatched);
}
