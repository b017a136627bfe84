// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
#include "base/buf.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int pt_buf_reserve(struct pt_buf *buf, size_t len)
{
	size_t size = buf->size ? buf->size : 256;
	char *data;

	if (buf->failed)
		return -ENOMEM;
	if (buf->size - buf->len >= len)
		return 0;
	while (size - buf->len < len) {
		if (size > (size_t)-1 / 4)
			goto fail;
		size *= 2;
	}
	data = realloc(buf->data, size);
	if (!data)
		goto fail;
	buf->data = data;
	buf->size = size;
	return 0;
fail:
	buf->failed = true;
	return -ENOMEM;
}

void pt_buf_add(struct pt_buf *buf, const void *data, size_t len)
{
	if (!len || pt_buf_reserve(buf, len))
		return;
	memcpy(buf->data + buf->len, data, len);
	buf->len += len;
}

void pt_buf_add_str(struct pt_buf *buf, const char *text)
{
	pt_buf_add(buf, text, strlen(text));
}

void pt_buf_printf(struct pt_buf *buf, const char *fmt, ...)
{
	va_list args;
	int len;

	va_start(args, fmt);
	len = vsnprintf(NULL, 0, fmt, args);
	va_end(args);
	if (len < 0 || pt_buf_reserve(buf, (size_t)len + 1))
		return;
	va_start(args, fmt);
	vsnprintf(buf->data + buf->len, (size_t)len + 1, fmt, args);
	va_end(args);
	buf->len += (size_t)len;
}

void pt_buf_release(struct pt_buf *buf)
{
	free(buf->data);
	memset(buf, 0, sizeof(*buf));
}
