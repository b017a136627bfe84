// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/* --args, --retval, --local: what is wanted, as BPF knows it. */
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "probe/gen_skel.h"
#include "probe/tracer.h"

_Static_assert(PT_VALUES_WANTED_MAX == PT_VALUE_GLOBS_MAX, "as many");

static size_t count_of(const char *const *list)
{
	size_t count = 0;

	while (list && list[count])
		count++;
	return count;
}

/* "GLOB:NAME": where the name begins, or NULL if it is none that can be looked for. */
static const char *local_name(const char *text)
{
	const char *colon = strrchr(text, ':'), *name = colon ? colon + 1 : NULL;

	if (!name || colon == text || isdigit((unsigned char)*name) || !*name ||
	    strlen(name) >= PT_LOCAL_NAME_BYTES)
		return NULL;
	for (const char *p = name; *p; p++)
		if (!isalnum((unsigned char)*p) && *p != '_')
			return NULL;
	return name;
}

static int local_parse(const char *text, struct pt_glob *glob)
{
	const char *name = local_name(text);
	char *copy;
	int rc;

	if (!name)
		return -EDOM;
	copy = strndup(text, (size_t)(name - 1 - text));
	rc = copy ? pt_glob_parse(copy, glob) : -ENOMEM;
	free(copy);
	return rc;
}

int pt_values_check(const char *const *args, const char *const *retval, const char *const *local,
		    const char **culprit)
{
	const char *const *lists[] = {args, retval, local};
	struct pt_glob glob;
	int rc = 0;

	*culprit = NULL;
	if (count_of(args) + count_of(retval) + count_of(local) > PT_VALUE_GLOBS_MAX)
		return -ERANGE;
	for (int i = 0; i < 3; i++)
		for (const char *const *text = lists[i]; text && *text && !rc; text++) {
			rc = lists[i] == local ? local_parse(*text, &glob)
					       : pt_glob_parse(*text, &glob);
			*culprit = *text;
		}
	return rc;
}

void pt_values_configure(struct pt_tracer *tracer)
{
	const struct pt_tracer_options *options = &tracer->options;
	struct pytrace_bpf *skel = tracer->skel;
	unsigned int n = 0;

	for (const char *const *text = options->args; text && *text; text++) {
		skel->rodata->values_args |= 1u << n;
		pt_glob_parse(*text, &skel->rodata->globs[PT_GLOB_VALUES + n++]);
	}
	for (const char *const *text = options->retval; text && *text; text++) {
		skel->rodata->values_result |= 1u << n;
		pt_glob_parse(*text, &skel->rodata->globs[PT_GLOB_VALUES + n++]);
	}
	for (const char *const *text = options->local; text && *text; text++) {
		skel->rodata->values_local |= 1u << n;
		strcpy(skel->rodata->local_names[n].text, local_name(*text));
		local_parse(*text, &skel->rodata->globs[PT_GLOB_VALUES + n++]);
	}
	skel->rodata->use_values = n > 0;
	bpf_map__set_autocreate(skel->maps.value_codes, n > 0);
	bpf_map__set_autocreate(skel->maps.value_calls,
				skel->rodata->values_result || skel->rodata->values_local);
}
