// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/* Series as Prometheus' text. */
#include "sink/series.h"

#include <string.h>

static void text_name(const struct pt_series_name *name, void *ctx)
{
	pt_buf_printf(ctx, "# HELP %s %s\n# TYPE %s %s\n", name->name, name->help, name->name,
		      name->kind == PT_SERIES_COUNTER ? "counter" : "gauge");
}

static void add_escaped(struct pt_buf *text, const char *value)
{
	for (const char *p = value; *p; p++) {
		if (*p == '\\' || *p == '"')
			pt_buf_add_str(text, "\\");
		if (*p == '\n')
			pt_buf_add_str(text, "\\n");
		else
			pt_buf_add(text, p, 1);
	}
}

static void add_label(struct pt_buf *text, bool *first, const char *key, const char *value)
{
	pt_buf_printf(text, "%s%s=\"", *first ? "{" : ",", key);
	add_escaped(text, value);
	pt_buf_add_str(text, "\"");
	*first = false;
}

static void add_process(struct pt_buf *text, bool *first, const struct pt_series_sample *sample)
{
	add_label(text, first, "process", sample->process);
	if (sample->pid)
		pt_buf_printf(text, ",pid=\"%d\"", sample->pid);
	else
		add_label(text, first, "pid", sample->process);
}

static void text_sample(const struct pt_series_name *name, const struct pt_series_sample *sample,
			void *ctx)
{
	struct pt_buf *text = ctx;
	bool first = true;

	pt_buf_add_str(text, name->name);
	if (sample->process)
		add_process(text, &first, sample);
	for (size_t i = 0; i < PT_SERIES_LABELS && sample->labels[i].key; i++)
		add_label(text, &first, sample->labels[i].key, sample->labels[i].value);
	if (!first)
		pt_buf_add_str(text, "}");
	if (pt_series_divided(name->unit))
		pt_buf_printf(text, " %llu.%09llu\n",
			      (unsigned long long)(sample->value / 1000000000),
			      (unsigned long long)(sample->value % 1000000000));
	else
		pt_buf_printf(text, " %llu\n", (unsigned long long)sample->value);
}

struct pt_series_sink pt_series_text(struct pt_buf *text)
{
	return (struct pt_series_sink){.name = text_name, .sample = text_sample, .ctx = text};
}
