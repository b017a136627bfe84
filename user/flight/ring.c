// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
#include "flight/ring.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "ingest/decode.h"

/* Of records; as much as a chunk of a capture file (ingest/capture_format.h). */
#define CHUNK_BYTES (256u << 10)
/* What deflate and inflate take by themselves with their default windows (zconf.h). */
#define ZLIB_BYTES  (320u << 10)

struct chunk {
	struct chunk *next;
	uint64_t newest_ns;
	uint32_t stored_bytes, raw_bytes; /* equal: it is not deflated */
	unsigned char data[];
};

struct pt_ring {
	struct pt_ring_options options;
	struct chunk *first, **last;
	char *filling;
	size_t filling_bytes, filling_size;
	uint64_t filling_newest_ns;
	unsigned char *packed; /* where a chunk is deflated to */
	size_t packed_size;
	char *raw; /* .. and inflated to */
	size_t raw_size;
	z_stream deflate, inflate;
	bool deflate_ready, inflate_ready;
	size_t chunk_bytes;
	uint64_t newest_ns, held_ns, gone_ns;
};

int pt_ring_new(const struct pt_ring_options *options, struct pt_ring **out)
{
	struct pt_ring *ring = calloc(1, sizeof(*ring));

	if (!ring)
		return -ENOMEM;
	ring->options = *options;
	ring->last = &ring->first;
	ring->deflate_ready = deflateInit(&ring->deflate, 1) == Z_OK;
	ring->inflate_ready = inflateInit(&ring->inflate) == Z_OK;
	if (!ring->deflate_ready || !ring->inflate_ready) {
		pt_ring_free(ring);
		return -ENOMEM;
	}
	*out = ring;
	return 0;
}

void pt_ring_free(struct pt_ring *ring)
{
	if (!ring)
		return;
	while (ring->first) {
		struct chunk *chunk = ring->first;

		ring->first = chunk->next;
		free(chunk);
	}
	if (ring->deflate_ready)
		deflateEnd(&ring->deflate);
	if (ring->inflate_ready)
		inflateEnd(&ring->inflate);
	free(ring->filling);
	free(ring->packed);
	free(ring->raw);
	free(ring);
}

static int grow(void *data, size_t *size, size_t need)
{
	void **at = data, *bigger;

	if (*size >= need)
		return 0;
	bigger = realloc(*at, need);
	if (!bigger)
		return -ENOMEM;
	*at = bigger;
	*size = need;
	return 0;
}

size_t pt_ring_bytes(const struct pt_ring *ring)
{
	return ring->chunk_bytes + ring->filling_size + ring->packed_size + ring->raw_size +
	       ZLIB_BYTES;
}

uint64_t pt_ring_gone_ns(const struct pt_ring *ring)
{
	return ring->gone_ns;
}

void pt_ring_hold(struct pt_ring *ring, uint64_t ns)
{
	ring->held_ns = ns;
}

/* The records of a chunk, one behind the other. */
static int unpack(struct pt_ring *ring, struct chunk *chunk, const char **raw)
{
	z_stream *zlib = &ring->inflate;
	int rc;

	if (chunk->stored_bytes == chunk->raw_bytes) {
		*raw = (const char *)chunk->data;
		return 0;
	}
	rc = grow(&ring->raw, &ring->raw_size, chunk->raw_bytes);
	if (rc)
		return rc;
	inflateReset(zlib);
	zlib->next_in = chunk->data;
	zlib->avail_in = chunk->stored_bytes;
	zlib->next_out = (Bytef *)ring->raw;
	zlib->avail_out = chunk->raw_bytes;
	if (inflate(zlib, Z_FINISH) != Z_STREAM_END)
		return -EIO;
	*raw = ring->raw;
	return 0;
}

static int each_record(const char *raw, size_t bytes, pt_ring_fn fn, void *ctx)
{
	int rc = 0;

	for (size_t at = 0; !rc && at < bytes;) {
		const struct pt_rec *record = (const struct pt_rec *)(const void *)(raw + at);

		rc = fn(record, record->len, ctx);
		at += record->len;
	}
	return rc;
}

static int drop_first(struct pt_ring *ring)
{
	struct chunk *chunk = ring->first;
	const char *raw;
	int rc = unpack(ring, chunk, &raw);

	if (!rc)
		rc = each_record(raw, chunk->raw_bytes, ring->options.gone, ring->options.ctx);
	if (chunk->newest_ns > ring->gone_ns)
		ring->gone_ns = chunk->newest_ns;
	ring->first = chunk->next;
	if (!ring->first)
		ring->last = &ring->first;
	ring->chunk_bytes -= sizeof(*chunk) + chunk->stored_bytes;
	free(chunk);
	return rc;
}

static int drop_old(struct pt_ring *ring)
{
	uint64_t now_ns = ring->held_ns && ring->held_ns < ring->newest_ns ? ring->held_ns
									   : ring->newest_ns;
	int rc = 0;

	while (!rc && ring->first &&
	       (ring->first->newest_ns + ring->options.keep_ns < now_ns ||
		pt_ring_bytes(ring) > ring->options.max_bytes))
		rc = drop_first(ring);
	return rc;
}

/* Deflates what is being filled to where a chunk is deflated to; as it is, if that saves nothing.
 */
static int pack(struct pt_ring *ring, const void **data, size_t *bytes)
{
	z_stream *zlib = &ring->deflate;
	int rc = grow(&ring->packed, &ring->packed_size,
		      deflateBound(zlib, (uLong)ring->filling_bytes));

	if (rc)
		return rc;
	deflateReset(zlib);
	zlib->next_in = (Bytef *)ring->filling;
	zlib->avail_in = (uInt)ring->filling_bytes;
	zlib->next_out = ring->packed;
	zlib->avail_out = (uInt)ring->packed_size;
	if (deflate(zlib, Z_FINISH) != Z_STREAM_END)
		return -EIO;
	*bytes = zlib->total_out < ring->filling_bytes ? zlib->total_out : ring->filling_bytes;
	*data = *bytes < ring->filling_bytes ? (const void *)ring->packed : ring->filling;
	return 0;
}

static int end_chunk(struct pt_ring *ring)
{
	struct chunk *chunk;
	const void *data;
	size_t bytes;
	int rc;

	if (!ring->filling_bytes)
		return 0;
	rc = pack(ring, &data, &bytes);
	if (rc)
		return rc;
	chunk = malloc(sizeof(*chunk) + bytes);
	if (!chunk)
		return -ENOMEM;
	chunk->next = NULL;
	chunk->newest_ns = ring->filling_newest_ns;
	chunk->stored_bytes = (uint32_t)bytes;
	chunk->raw_bytes = (uint32_t)ring->filling_bytes;
	memcpy(chunk->data, data, bytes);
	*ring->last = chunk;
	ring->last = &chunk->next;
	ring->chunk_bytes += sizeof(*chunk) + bytes;
	ring->filling_bytes = 0;
	ring->filling_newest_ns = 0;
	return 0;
}

int pt_ring_put(struct pt_ring *ring, const struct pt_rec *record, size_t len)
{
	int rc = 0;

	/* a longer one was never meant to be recorded, and a chunk counts in 32 bits */
	if (len < sizeof(*record) || len != record->len || len > PT_RECORD_MAX_BYTES)
		return -EINVAL;
	if (ring->filling_bytes + len > CHUNK_BYTES)
		rc = end_chunk(ring);
	if (!rc)
		rc = grow(&ring->filling, &ring->filling_size,
			  ring->filling_bytes + len > CHUNK_BYTES ? ring->filling_bytes + len
								  : CHUNK_BYTES);
	if (rc)
		return rc;
	memcpy(ring->filling + ring->filling_bytes, record, len);
	ring->filling_bytes += len;
	if (record->time_ns > ring->filling_newest_ns)
		ring->filling_newest_ns = record->time_ns;
	if (record->time_ns > ring->newest_ns)
		ring->newest_ns = record->time_ns;
	return drop_old(ring);
}

int pt_ring_each(struct pt_ring *ring, pt_ring_fn fn, void *ctx)
{
	int rc = 0;

	for (struct chunk *chunk = ring->first; !rc && chunk; chunk = chunk->next) {
		const char *raw;

		rc = unpack(ring, chunk, &raw);
		if (!rc)
			rc = each_record(raw, chunk->raw_bytes, fn, ctx);
	}
	return rc ? rc : each_record(ring->filling, ring->filling_bytes, fn, ctx);
}
