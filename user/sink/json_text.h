/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * json_text.h - strings and numbers as JSON text, fast.
 */
#ifndef PT_SINK_JSON_TEXT_H
#define PT_SINK_JSON_TEXT_H

#include <stdint.h>
#include <string.h>

#include "base/buf.h"

/* Adds text (valid UTF-8) with what JSON must escape escaped, without the quotes. */
void pt_json_escape(struct pt_buf *buf, const char *text);
/* The same with quotes. */
void pt_json_string(struct pt_buf *buf, const char *text);

/* The most that the two below write. */
#define PT_JSON_NUMBER_MAX 24

extern const char pt_digit_pairs[201];

/* Writes value in decimal; returns the end. */
static inline char *pt_json_u64(char *out, uint64_t value)
{
	char text[20], *p = text + sizeof(text);

	while (value >= 100) {
		p -= 2;
		memcpy(p, pt_digit_pairs + 2 * (value % 100), 2);
		value /= 100;
	}
	if (value >= 10) {
		p -= 2;
		memcpy(p, pt_digit_pairs + 2 * value, 2);
	} else {
		*--p = (char)('0' + value);
	}
	memcpy(out, p, (size_t)(text + sizeof(text) - p));
	return out + (text + sizeof(text) - p);
}

/* Writes nanoseconds as microseconds with exactly three decimals; returns the end. */
static inline char *pt_json_us(char *out, uint64_t ns)
{
	unsigned int fraction = (unsigned int)(ns % 1000);

	out = pt_json_u64(out, ns / 1000);
	*out++ = '.';
	*out++ = (char)('0' + fraction / 100);
	memcpy(out, pt_digit_pairs + 2 * (fraction % 100), 2);
	return out + 2;
}

#endif
