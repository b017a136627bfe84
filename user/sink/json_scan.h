/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * json_scan.h - walks JSON text without changing or copying it.
 *
 * For text of unknown quality in one line: whatever is no JSON is refused, nothing is read beyond
 * the NUL. Strings are handed out as they stand there, quotes and escapes included. Pure.
 */
#ifndef PT_SINK_JSON_SCAN_H
#define PT_SINK_JSON_SCAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct pt_json_span {
	const char *text;
	size_t len;
};

struct pt_json_member {
	struct pt_json_span key; /* without its quotes */
	struct pt_json_span value;
};

#define PT_JSON_NESTING_MAX 32 /* of what pt_json_next() walks; enough for what is ours */

/* What follows the value at p (white space before it is passed over), or NULL. Nesting deeper than
 * nesting_max is refused. */
const char *pt_json_skip(const char *p, int nesting_max);

/* Walks an object: *p is at its '{' the first time. 1: member is set; 0: the object has ended and
 * *p is behind its '}'; -EBADMSG. */
int pt_json_next(const char **p, struct pt_json_member *member);

bool pt_json_is(const struct pt_json_span *span, const char *text);
/* The whole span is a decimal number below 2^64 and nothing else. */
bool pt_json_take_u64(const struct pt_json_span *span, uint64_t *value);
/* Likewise one with up to three decimals, times 1000. */
bool pt_json_take_milli(const struct pt_json_span *span, uint64_t *value);

#endif
