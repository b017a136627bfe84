// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
#include "base/utf8.h"

#include <string.h>

size_t pt_utf8_put(char *out, uint32_t c)
{
	if (c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff) || c == 0)
		c = PT_UTF8_REPLACEMENT;
	if (c < 0x80) {
		out[0] = (char)c;
		return 1;
	}
	if (c < 0x800) {
		out[0] = (char)(0xc0 | c >> 6);
		out[1] = (char)(0x80 | (c & 0x3f));
		return 2;
	}
	if (c < 0x10000) {
		out[0] = (char)(0xe0 | c >> 12);
		out[1] = (char)(0x80 | (c >> 6 & 0x3f));
		out[2] = (char)(0x80 | (c & 0x3f));
		return 3;
	}
	out[0] = (char)(0xf0 | c >> 18);
	out[1] = (char)(0x80 | (c >> 12 & 0x3f));
	out[2] = (char)(0x80 | (c >> 6 & 0x3f));
	out[3] = (char)(0x80 | (c & 0x3f));
	return 4;
}

/* Reads one code point; returns the bytes it took, or 0 if text starts with no valid sequence. */
static size_t utf8_get(const unsigned char *text, size_t len, uint32_t *code_point)
{
	static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
	size_t bytes = text[0] < 0x80   ? 1
		       : text[0] < 0xc2 ? 0
		       : text[0] < 0xe0 ? 2
		       : text[0] < 0xf0 ? 3
		       : text[0] < 0xf5 ? 4
					: 0;
	uint32_t c;

	if (!bytes || bytes > len)
		return 0;
	c = bytes == 1 ? text[0] : text[0] & (0xffu >> (bytes + 1));
	for (size_t i = 1; i < bytes; i++) {
		if ((text[i] & 0xc0) != 0x80)
			return 0;
		c = c << 6 | (text[i] & 0x3f);
	}
	if (c < least[bytes] || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff))
		return 0;
	*code_point = c;
	return bytes;
}

size_t pt_utf8_clean(char *out, size_t size, const char *text, size_t len)
{
	size_t n = 0;

	if (!size)
		return 0;
	while (len > 0) {
		char one[4];
		uint32_t c = PT_UTF8_REPLACEMENT;
		size_t took = utf8_get((const unsigned char *)text, len, &c);
		size_t put = pt_utf8_put(one, c);

		if (n + put >= size)
			break;
		memcpy(out + n, one, put);
		n += put;
		text += took ? took : 1;
		len -= took ? took : 1;
	}
	out[n] = '\0';
	return n;
}
