// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/* Names to match in BPF: characters, as they lie in a Python string. */
#include <errno.h>
#include <string.h>

#include "probe/tracer.h"

/* The character at *text, which moves on; 0 if it is no UTF-8. */
static uint32_t next_char(const char **text)
{
	const unsigned char *p = (const unsigned char *)*text;
	unsigned int more = *p < 0x80 ? 0 : *p >= 0xf0 ? 3 : *p >= 0xe0 ? 2 : 1;
	static const unsigned char mask[] = {0x7f, 0x1f, 0x0f, 0x07};
	static const uint32_t least[] = {0, 0x80, 0x800, 0x10000};
	uint32_t c = *p & mask[more];

	if ((*p >= 0x80 && *p < 0xc2) || *p > 0xf4)
		return 0;
	for (unsigned int i = 1; i <= more; i++) {
		if ((p[i] & 0xc0) != 0x80)
			return 0;
		c = c << 6 | (p[i] & 0x3f);
	}
	*text += more + 1;
	return c >= least[more] && c <= 0x10ffff ? c : 0;
}

int pt_glob_parse(const char *text, struct pt_glob *glob)
{
	memset(glob, 0, sizeof(*glob));
	while (*text) {
		bool literal = *text == '\\';
		uint32_t c;

		text += literal;
		if (!literal && *text == '[')
			return -EINVAL; /* in other globs it has a meaning */
		c = *text ? next_char(&text) : 0;
		if (!c)
			return -EINVAL;
		if (glob->count == PT_GLOB_CHARS)
			return -E2BIG;
		if (!literal && c == '*')
			c = PT_GLOB_STAR;
		else if (!literal && c == '?')
			c = PT_GLOB_ANY;
		glob->chars[glob->count++] = c;
	}
	return glob->count ? 0 : -EINVAL;
}

int pt_glob_check(const char *text)
{
	struct pt_glob glob;

	return pt_glob_parse(text, &glob);
}
