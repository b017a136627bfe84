/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * utf8.h - text of unknown quality becomes valid UTF-8.
 */
#ifndef PT_BASE_UTF8_H
#define PT_BASE_UTF8_H

#include <stddef.h>
#include <stdint.h>

#define PT_UTF8_REPLACEMENT 0xfffdu

/* Writes a code point (what is none becomes U+FFFD) into out, which has room for 4 bytes; returns
 * the number of bytes. */
size_t pt_utf8_put(char *out, uint32_t code_point);

/* Copies len bytes of text into out as valid UTF-8 with a NUL at the end: each byte that is not
 * part of a valid sequence, and each NUL, becomes U+FFFD. At most size bytes are written, whole
 * characters only; returns the length written without the NUL. */
size_t pt_utf8_clean(char *out, size_t size, const char *text, size_t len);

#endif
