/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * capture_format.h - the bytes of a .ptcap file; for capture.c and the tests that damage files.
 *
 * All numbers are little-endian. After the header come chunks; the last one has PT_CHUNK_END and no
 * data, so a file without it was cut short.
 */
#ifndef PT_INGEST_CAPTURE_FORMAT_H
#define PT_INGEST_CAPTURE_FORMAT_H

#include <stdint.h>

/* As in PNG: a byte above 127 and both kinds of line end show damage by a text transfer. */
#define PT_CAPTURE_MAGIC   "\211PTCAP\r\n"
#define PT_CAPTURE_VERSION 1

struct pt_capture_header {
	char magic[8];
	uint32_t version;      /* PT_CAPTURE_VERSION */
	uint32_t abi_version;  /* PT_ABI_VERSION of the records */
	uint32_t header_bytes; /* of this struct; newer versions may append */
	uint32_t crc;          /* CRC-32 of this struct with crc = 0 */
	uint64_t start_mono_ns, start_real_ns;
	char tool_version[32];
	char kernel[96];
	char host[64];
	char engine[16];
	char interpreter[64];
};
_Static_assert(sizeof(struct pt_capture_header) == 312, "capture header");

#define PT_CHUNK_MAGIC   0x4b434550u /* "PECK" */
#define PT_CHUNK_DEFLATE 0x1u        /* the data is a zlib stream */
#define PT_CHUNK_END     0x2u        /* nothing follows */

struct pt_capture_chunk {
	uint32_t magic;
	uint32_t stored_bytes; /* in the file */
	uint32_t raw_bytes;    /* of records, once inflated */
	uint32_t crc;          /* CRC-32 of the records */
	uint32_t flags;
	uint32_t header_crc; /* CRC-32 of the five fields above */
};
_Static_assert(sizeof(struct pt_capture_chunk) == 24, "chunk header");

/* A writer starts a new chunk here; a reader takes up to the second. One record fits always. */
#define PT_CHUNK_BYTES     (256u << 10)
#define PT_CHUNK_MAX_BYTES (8u << 20)

#endif
