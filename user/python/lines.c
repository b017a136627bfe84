// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * The three formats (Objects/lnotab_notes.txt up to 3.10, Objects/locations.md and
 * InternalDocs/code_objects.md later):
 *
 *  3.8, 3.9   pairs of bytes: bytes of code to go on, then signed lines to go on
 *  3.10       pairs of bytes: a range's length in bytes of code, then signed lines from the range
 *             before; -128: the range has no line
 *  3.11+      entries: a byte 1kkkklll (kind, length - 1 in code units), then bytes without the
 *             top bit, as the kind says. Columns and end lines are passed over.
 */
#include "python/lines.h"

#include <errno.h>
#include <stdlib.h>

#include "base/grow.h"

struct reader {
	const uint8_t *at, *end;
};

static int add(struct py_lines *lines, uint32_t unit, uint32_t line)
{
	struct py_line *last = lines->count ? &lines->entries[lines->count - 1] : NULL, *entries;

	if (last && last->line == line)
		return 0;
	if (last && last->unit == unit) {
		last->line = line;
		return 0;
	}
	entries = pt_grow(lines->entries, lines->count, &lines->size, 16, sizeof(*entries));
	if (!entries)
		return -ENOMEM;
	lines->entries = entries;
	lines->entries[lines->count++] = (struct py_line){.unit = unit, .line = line};
	return 0;
}

/* The last entry of co_lnotab reaches to the end of the code, which it does not know. */
static int decode_lnotab(struct py_lines *lines, uint32_t line, struct reader r)
{
	uint32_t bytes = 0;
	int rc = add(lines, 0, line);

	for (; !rc && r.end - r.at >= 2; r.at += 2) {
		bytes += r.at[0];
		line += (uint32_t)(int8_t)r.at[1];
		rc = add(lines, bytes / 2, line);
	}
	lines->end = UINT32_MAX;
	return rc;
}

static int decode_310(struct py_lines *lines, uint32_t line, struct reader r)
{
	uint32_t bytes = 0;
	int rc = 0;

	for (; !rc && r.end - r.at >= 2; r.at += 2) {
		int8_t delta = (int8_t)r.at[1];

		if (delta != -128)
			line += (uint32_t)delta;
		if (r.at[0])
			rc = add(lines, bytes / 2, delta == -128 ? 0 : line);
		bytes += r.at[0];
	}
	lines->end = bytes / 2;
	return rc;
}

/* Six bits a byte, the lowest first; 0x40: one more follows. */
static uint32_t take_varint(struct reader *r)
{
	uint32_t value = 0;

	for (unsigned int shift = 0; r->at < r->end && shift < 32; shift += 6) {
		uint8_t byte = *r->at++;

		value |= (uint32_t)(byte & 0x3f) << shift;
		if (!(byte & 0x40))
			break;
	}
	return value;
}

/* The sign is the lowest bit. */
static uint32_t take_signed(struct reader *r)
{
	uint32_t value = take_varint(r);

	return value & 1 ? 0u - (value >> 1) : value >> 1;
}

static int decode_311(struct py_lines *lines, uint32_t line, struct reader r)
{
	enum { ONE_LINE = 10, NO_COLUMNS = 13, LONG = 14, NONE = 15 };
	uint32_t unit = 0;
	int rc = 0;

	while (!rc && r.at < r.end) {
		uint8_t first = *r.at++, kind = first >> 3 & 15;

		if (!(first & 0x80))
			continue; /* what belongs to the entry before */
		if (kind == LONG || kind == NO_COLUMNS)
			line += take_signed(&r);
		else if (kind >= ONE_LINE && kind < NO_COLUMNS)
			line += kind - (uint32_t)ONE_LINE;
		rc = add(lines, unit, kind == NONE ? 0 : line);
		unit += (first & 7u) + 1;
	}
	lines->end = unit;
	return rc;
}

int py_lines_decode(struct py_lines *lines, uint32_t version, uint32_t firstlineno,
		    const void *table, size_t len)
{
	struct reader r = {.at = table, .end = (const uint8_t *)table + len};
	unsigned int minor = version >> 16 & 0xff;
	int rc;

	*lines = (struct py_lines){0};
	if (version >> 24 != 3 || minor < 8 || minor > 15)
		return -ENOTSUP;
	if (minor <= 9)
		rc = decode_lnotab(lines, firstlineno, r);
	else if (minor == 10)
		rc = decode_310(lines, firstlineno, r);
	else
		rc = decode_311(lines, firstlineno, r);
	if (rc)
		py_lines_release(lines);
	return rc;
}

uint32_t py_lines_find(const struct py_lines *lines, uint32_t unit)
{
	size_t low = 0, high = lines->count;

	if (unit >= lines->end)
		return 0;
	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (lines->entries[middle].unit <= unit)
			low = middle + 1;
		else
			high = middle;
	}
	return low ? lines->entries[low - 1].line : 0;
}

void py_lines_release(struct py_lines *lines)
{
	free(lines->entries);
	*lines = (struct py_lines){0};
}
