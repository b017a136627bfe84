// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * Lines of calls. A code object's line table comes in pieces and is decoded when the first line is
 * wanted, which is when a call from that code ends. A table of which a piece is missing gives no
 * line.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "model/model_priv.h"
#include "python/lines.h"

struct model_lines {
	uint8_t *table;
	uint32_t bytes, total_bytes, version;
	bool is_decoded;
	struct py_lines decoded;
};

void model_lines_free(struct model_lines *lines)
{
	if (!lines)
		return;
	py_lines_release(&lines->decoded);
	free(lines->table);
	free(lines);
}

static struct model_lines *lines_begin(struct pt_model *model, const struct pt_rec_lines *record)
{
	struct model_lines *lines = calloc(1, sizeof(*lines));

	if (!lines) {
		model_fail(model, -ENOMEM);
		return NULL;
	}
	lines->total_bytes = record->total_bytes;
	lines->version = record->version;
	return lines;
}

int model_lines_take(struct pt_model *model, const struct pt_rec_lines *record)
{
	struct model_code *code = model_code_get(model, record->code_id);
	struct model_lines *lines;
	uint8_t *table;

	if (!code)
		return 0;
	if (record->offset == 0) {
		model_lines_free(code->lines);
		code->lines = lines_begin(model, record);
	}
	lines = code->lines;
	if (!lines)
		return 0; /* the first piece was lost, or there is no memory */
	if (lines->is_decoded || record->offset != lines->bytes ||
	    record->total_bytes != lines->total_bytes || record->version != lines->version ||
	    record->bytes > lines->total_bytes - lines->bytes)
		return -EBADMSG;
	/* no more memory than the records themselves take, whatever total_bytes says */
	table = realloc(lines->table, lines->bytes + record->bytes + 1u);
	if (!table) {
		model_fail(model, -ENOMEM);
		return 0;
	}
	lines->table = table;
	memcpy(table + lines->bytes, record->data, record->bytes);
	lines->bytes += record->bytes;
	return 0;
}

uint32_t model_lines_find(struct pt_model *model, const struct model_code *code, uint32_t unit)
{
	struct model_lines *lines = code->lines;

	if (!lines || !code->function || lines->bytes != lines->total_bytes)
		return 0;
	if (!lines->is_decoded) {
		if (py_lines_decode(&lines->decoded, lines->version, code->function->pub.line,
				    lines->table, lines->bytes) == -ENOMEM)
			model_fail(model, -ENOMEM);
		free(lines->table);
		lines->table = NULL;
		lines->is_decoded = true;
	}
	return py_lines_find(&lines->decoded, unit);
}
