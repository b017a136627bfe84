// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * The capture reader, on any bytes. The input is written to a file in memory. So that checksums do
 * not keep the fuzzer out, an input that is no capture is taken as the chunks behind a good header,
 * whose checksums are put right.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <zlib.h>

#include "ingest/capture.h"
#include "ingest/capture_format.h"
#include "ingest/decode.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_all(const char *path)
{
	struct pt_capture_reader *reader;
	struct pt_capture_info info;
	const struct pt_rec *record;
	struct pt_err err = {0};
	volatile uint8_t sum = 0;
	size_t len;

	if (pt_capture_open(path, &reader, &info, &err)) {
		if (!pt_err_is_set(&err))
			abort();
		return;
	}
	while (pt_capture_next(reader, &record, &len, &err) > 0) {
		if (len % 8 || len != record->len)
			abort();
		for (size_t i = 0; i < len; i += 64)
			sum += ((const uint8_t *)record)[i];
		pt_record_check(record, len);
	}
	pt_capture_reader_free(reader);
}

static void put_header(FILE *file)
{
	struct pt_capture_header head = {
	    .magic = PT_CAPTURE_MAGIC,
	    .version = PT_CAPTURE_VERSION,
	    .abi_version = PT_ABI_VERSION,
	    .header_bytes = sizeof(head),
	};

	head.crc = (uint32_t)crc32(0, (const Bytef *)&head, sizeof(head));
	fwrite(&head, 1, sizeof(head), file);
}

/* Chunks: one byte of flags, two of length, then the data. */
static void put_chunks(FILE *file, const uint8_t *data, size_t size)
{
	while (size >= 3) {
		size_t len = data[1] | (size_t)data[2] << 8;
		struct pt_capture_chunk chunk = {.magic = PT_CHUNK_MAGIC, .flags = data[0] & 3};

		data += 3;
		size -= 3;
		len = len < size ? len : size;
		chunk.stored_bytes = (uint32_t)len;
		chunk.raw_bytes = (uint32_t)(len & ~(size_t)7);
		if (!(chunk.flags & PT_CHUNK_DEFLATE))
			len = chunk.stored_bytes = chunk.raw_bytes;
		chunk.crc = (uint32_t)crc32(0, data, chunk.raw_bytes);
		chunk.header_crc = (uint32_t)crc32(0, (const Bytef *)&chunk,
						   offsetof(struct pt_capture_chunk, header_crc));
		fwrite(&chunk, 1, sizeof(chunk), file);
		fwrite(data, 1, len, file);
		data += len;
		size -= len;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	int fd = memfd_create("capture", MFD_CLOEXEC);
	char path[64];
	FILE *file;

	if (fd < 0)
		abort();
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	file = fdopen(fd, "wb");
	if (size >= 8 && !memcmp(data, PT_CAPTURE_MAGIC, 8)) {
		fwrite(data, 1, size, file);
	} else {
		put_header(file);
		put_chunks(file, data, size);
	}
	fflush(file);
	read_all(path);
	fclose(file);
	return 0;
}
