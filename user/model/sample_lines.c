// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * In which lines of a function samples found it, when it called nothing: counted for each slice of
 * samples, and told as its argument PT_SAMPLE_ARG_LINES.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "base/buf.h"
#include "model/model_priv.h"

/* Of a slice. What a function has beyond is not told: its samples have no line then. */
#define LINES_MAX 256

struct sample_lines {
	uint32_t count, room;
	struct line_count {
		uint32_t line;
		uint64_t samples;
	} of[];
};

static struct sample_lines *grow(struct sample_lines *lines)
{
	uint32_t room = lines ? 2 * lines->room : 4;
	struct sample_lines *bigger = realloc(lines, sizeof(*lines) + room * sizeof(lines->of[0]));

	if (!bigger)
		return NULL;
	if (!lines)
		bigger->count = 0;
	bigger->room = room;
	return bigger;
}

int model_sample_lines_add(struct sample_lines **at, uint32_t line)
{
	struct sample_lines *lines = *at;
	uint32_t i = 0;

	while (lines && i < lines->count && lines->of[i].line != line)
		i++;
	if (!line || i == LINES_MAX)
		return 0;
	if (!lines || i == lines->room) {
		lines = grow(lines);
		if (!lines)
			return -ENOMEM;
		*at = lines;
	}
	if (i == lines->count)
		lines->of[lines->count++] = (struct line_count){.line = line};
	lines->of[i].samples++;
	return 0;
}

/* The most samples first. */
static int by_samples(const void *left, const void *right)
{
	const struct line_count *a = left, *b = right;

	if (a->samples != b->samples)
		return a->samples < b->samples ? 1 : -1;
	return (a->line > b->line) - (a->line < b->line);
}

void model_sample_lines_text(struct sample_lines *lines, struct pt_buf *text)
{
	qsort(lines->of, lines->count, sizeof(lines->of[0]), by_samples);
	for (uint32_t i = 0; i < lines->count; i++)
		pt_buf_printf(text, "%s%u: %" PRIu64, i ? ", " : "", lines->of[i].line,
			      lines->of[i].samples);
	pt_buf_add(text, "", 1);
}
