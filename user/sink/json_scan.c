// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
#include "sink/json_scan.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>

static const char *skip_space(const char *p)
{
	while (*p == ' ' || *p == '\t' || *p == '\r' || *p == '\n')
		p++;
	return p;
}

/* p is behind the backslash; the escape's last character, or NULL. */
static const char *skip_escape(const char *p)
{
	if (*p != 'u')
		return *p && strchr("\"\\/bfnrt", *p) ? p : NULL;
	for (int i = 0; i < 4; i++) {
		if (!isxdigit((unsigned char)*++p))
			return NULL;
	}
	return p;
}

/* p is at the opening quote. */
static const char *skip_string(const char *p)
{
	for (p++; *p != '"'; p++) {
		if ((unsigned char)*p < 0x20)
			return NULL; /* the NUL, too */
		if (*p == '\\' && !(p = skip_escape(p + 1)))
			return NULL;
	}
	return p + 1;
}

static const char *skip_word(const char *p)
{
	const char *start = p;

	while ((*p >= '0' && *p <= '9') || (*p >= 'a' && *p <= 'z') || *p == '-' || *p == '+' ||
	       *p == '.' || *p == 'E')
		p++;
	return p == start ? NULL : p;
}

const char *pt_json_skip(const char *p, int nesting_max)
{
	int nesting = 0;

	do {
		p = skip_space(p);
		if (*p == '"') {
			p = skip_string(p);
			if (!p)
				return NULL;
		} else if (*p == '{' || *p == '[') {
			if (++nesting > nesting_max)
				return NULL;
			p++;
		} else if (*p == '}' || *p == ']') {
			if (--nesting < 0)
				return NULL;
			p++;
		} else if (nesting && (*p == ',' || *p == ':')) {
			p++;
		} else {
			p = skip_word(p);
			if (!p)
				return NULL;
		}
	} while (nesting);
	return p;
}

int pt_json_next(const char **at, struct pt_json_member *member)
{
	const char *p = skip_space(*at), *end;

	if (*p == '}') {
		*at = p + 1;
		return 0;
	}
	if (*p != '{' && *p != ',')
		return -EBADMSG;
	end = skip_space(p + 1);
	if (*p == '{' && *end == '}') {
		*at = end + 1;
		return 0;
	}
	p = end;
	if (*p != '"' || !(end = skip_string(p)))
		return -EBADMSG;
	member->key = (struct pt_json_span){p + 1, (size_t)(end - p - 2)};
	p = skip_space(end);
	if (*p != ':')
		return -EBADMSG;
	p = skip_space(p + 1);
	end = pt_json_skip(p, PT_JSON_NESTING_MAX);
	if (!end)
		return -EBADMSG;
	member->value = (struct pt_json_span){p, (size_t)(end - p)};
	*at = end;
	return 1;
}

bool pt_json_is(const struct pt_json_span *span, const char *text)
{
	size_t len = strlen(text);

	return span->len == len && !memcmp(span->text, text, len);
}

bool pt_json_take_u64(const struct pt_json_span *span, uint64_t *value)
{
	uint64_t n = 0;

	for (size_t i = 0; i < span->len; i++) {
		unsigned int digit = (unsigned int)(span->text[i] - '0');

		if (digit > 9 || n > (UINT64_MAX - digit) / 10)
			return false;
		n = n * 10 + digit;
	}
	*value = n;
	return span->len > 0;
}

bool pt_json_take_milli(const struct pt_json_span *span, uint64_t *value)
{
	const char *point = memchr(span->text, '.', span->len);
	struct pt_json_span whole = *span, fraction = {"", 0};
	uint64_t n, part = 0;

	if (point) {
		whole.len = (size_t)(point - span->text);
		fraction = (struct pt_json_span){point + 1, span->len - whole.len - 1};
	}
	if (!pt_json_take_u64(&whole, &n) || n > UINT64_MAX / 1000 - 1 || fraction.len > 3)
		return false;
	if (point && !pt_json_take_u64(&fraction, &part))
		return false;
	for (size_t i = fraction.len; i < 3; i++)
		part *= 10;
	*value = n * 1000 + part;
	return true;
}
