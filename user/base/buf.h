/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * buf.h - a byte buffer that grows.
 *
 * Zero-initialise, add, pt_buf_release(). A failed allocation sets failed and makes all further
 * additions do nothing, so that a caller may check once, at the end.
 */
#ifndef PT_BASE_BUF_H
#define PT_BASE_BUF_H

#include <stdbool.h>
#include <stddef.h>

struct pt_buf {
	char *data;
	size_t len, size;
	bool failed;
};

/* Room for len more bytes: 0 or -ENOMEM. */
int pt_buf_reserve(struct pt_buf *buf, size_t len);
void pt_buf_add(struct pt_buf *buf, const void *data, size_t len);
void pt_buf_add_str(struct pt_buf *buf, const char *text);
void pt_buf_printf(struct pt_buf *buf, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void pt_buf_release(struct pt_buf *buf);

#endif
