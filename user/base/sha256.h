/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/* sha256.h - SHA-256 (FIPS 180-4). Zero-initialise nothing: pt_sha256_begin(), add, end. */
#ifndef PT_BASE_SHA256_H
#define PT_BASE_SHA256_H

#include <stddef.h>
#include <stdint.h>

#define PT_SHA256_HEX 65 /* with the NUL */

struct pt_sha256 {
	uint32_t state[8];
	uint64_t bytes;
	unsigned char block[64];
};

void pt_sha256_begin(struct pt_sha256 *sha);
void pt_sha256_add(struct pt_sha256 *sha, const void *data, size_t len);
/* In lower-case hexadecimal digits. */
void pt_sha256_end(struct pt_sha256 *sha, char hex[PT_SHA256_HEX]);

#endif
