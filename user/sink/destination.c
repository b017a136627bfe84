// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
#include "sink/destination.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "base/outfile.h"
#include "base/thread.h"

#define BLOCKS        4
/* Held back for the tail: on disk, and of max_bytes. */
#define RESERVE_BYTES 16384
#define TAIL_BYTES    4096

#define DEFAULT_GZIP_LEVEL 1

struct block {
	char *data;
	size_t len;
	bool whole; /* must not be cut */
};

struct pt_destination {
	struct pt_outfile file;
	struct pt_destination_options options;

	/* of the writing thread, until it is joined */
	z_stream zlib;
	bool zlib_ready;
	uint32_t crc, raw_bytes; /* of the gzip member; raw_bytes modulo 2^32, as the trailer */
	char *packed;
	size_t packed_size;

	/* the queue: blocks[first .. first + count) are to be written */
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	struct block blocks[BLOCKS];
	unsigned int first, count;
	bool thread_runs, stop;
	struct block *current; /* the one that the format fills; not in the queue */

	_Atomic int error;
	_Atomic uint64_t bytes;
};

/* ---- the writing thread ---- */

static int pack(struct pt_destination *d, const char *data, size_t len, int flush, size_t *packed)
{
	z_stream *zlib = &d->zlib;
	int rc;

	/* a fresh start: the piece refers to nothing before it, so it may go missing */
	if (deflateReset(zlib) != Z_OK)
		return -EIO;
	zlib->next_in = (Bytef *)data;
	zlib->avail_in = (uInt)len;
	zlib->next_out = (Bytef *)d->packed;
	zlib->avail_out = (uInt)d->packed_size;
	rc = deflate(zlib, flush);
	if (zlib->avail_in || (flush == Z_FINISH ? rc != Z_STREAM_END : rc != Z_OK))
		return -EIO;
	*packed = zlib->total_out;
	return 0;
}

/* Writes a piece whole, or nothing of it. */
static int write_piece(struct pt_destination *d, const char *data, size_t len, bool limited)
{
	const char *out = data;
	size_t out_len = len;
	int rc;

	if (d->options.gzip) {
		rc = pack(d, data, len, Z_SYNC_FLUSH, &out_len);
		if (rc)
			return rc;
		out = d->packed;
	}
	if (limited && d->options.max_bytes &&
	    d->file.bytes + out_len + TAIL_BYTES > d->options.max_bytes)
		return -EFBIG;
	rc = pt_outfile_append(&d->file, out, out_len);
	if (rc)
		return rc == -EFBIG ? -EDQUOT : rc; /* the system's limit, not max_bytes */
	if (d->options.gzip) {
		d->crc = (uint32_t)crc32(d->crc, (const Bytef *)data, (uInt)len);
		d->raw_bytes += (uint32_t)len;
	}
	atomic_store(&d->bytes, d->file.bytes);
	return 0;
}

/* The longest run of whole events in data[0 .. len), without the comma that follows it. */
static size_t whole_events(const char *data, size_t len)
{
	while (len > 1 && !(data[len - 1] == '\n' && data[len - 2] == ','))
		len--;
	return len > 1 ? len - 2 : 0;
}

static int write_block(struct pt_destination *d, const struct block *block)
{
	size_t len = block->len, piece = len, done = 0;
	int rc, error = 0;

	while (len > done) {
		rc = write_piece(d, block->data + done, piece, !block->whole);
		if (rc && !error)
			error = rc;
		if (!rc) {
			done += piece;
			if (!error)
				return 0;
		} else if (block->whole || (rc != -ENOSPC && rc != -EDQUOT && rc != -EFBIG)) {
			break;
		} else {
			len = done + piece - 1;
		}
		/* try half of what is left, then half of that: most of the block gets in */
		piece = whole_events(block->data + done, (len - done) / 2);
		if (!piece)
			break;
	}
	return error;
}

static void *writing_thread(void *arg)
{
	struct pt_destination *d = arg;

	pthread_mutex_lock(&d->lock);
	for (;;) {
		struct block *block;

		while (!d->count && !d->stop)
			pthread_cond_wait(&d->changed, &d->lock);
		if (!d->count)
			break;
		block = &d->blocks[d->first];
		pthread_mutex_unlock(&d->lock);
		if (!atomic_load(&d->error)) {
			int rc = write_block(d, block);

			if (rc)
				atomic_store(&d->error, rc);
		}
		pthread_mutex_lock(&d->lock);
		block->len = 0;
		d->first = (d->first + 1) % BLOCKS;
		d->count--;
		pthread_cond_signal(&d->changed);
	}
	pthread_mutex_unlock(&d->lock);
	return NULL;
}

/* ---- the caller's side ---- */

static int start_thread(struct pt_destination *d)
{
	int rc = pt_thread_start(&d->thread, writing_thread, d);

	d->thread_runs = rc == 0;
	return rc;
}

static void join_thread(struct pt_destination *d)
{
	if (!d->thread_runs)
		return;
	pthread_mutex_lock(&d->lock);
	d->stop = true;
	pthread_cond_signal(&d->changed);
	pthread_mutex_unlock(&d->lock);
	pthread_join(d->thread, NULL);
	d->thread_runs = false;
}

static void destination_free(struct pt_destination *d)
{
	if (!d)
		return;
	join_thread(d);
	if (d->zlib_ready)
		deflateEnd(&d->zlib);
	for (int i = 0; i < BLOCKS; i++)
		free(d->blocks[i].data);
	free(d->packed);
	pthread_mutex_destroy(&d->lock);
	pthread_cond_destroy(&d->changed);
	free(d);
}

static int gzip_head(struct pt_destination *d)
{
	/* RFC 1952: magic, deflate, no flags, no time, no extra flags, unknown system */
	static const unsigned char head[10] = {0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff};

	return d->options.gzip ? pt_outfile_append(&d->file, head, sizeof(head)) : 0;
}

static int gzip_begin(struct pt_destination *d)
{
	int level = d->options.gzip_level ? d->options.gzip_level : DEFAULT_GZIP_LEVEL;

	if (!d->options.gzip)
		return 0;
	if (deflateInit2(&d->zlib, level, Z_DEFLATED, -15, 8, Z_DEFAULT_STRATEGY) != Z_OK)
		return -ENOMEM;
	d->zlib_ready = true;
	d->packed_size = deflateBound(&d->zlib, PT_BLOCK_BYTES) + 64;
	d->packed = malloc(d->packed_size);
	if (!d->packed)
		return -ENOMEM;
	return gzip_head(d);
}

int pt_destination_open(const char *path, const struct pt_destination_options *options,
			struct pt_destination **result, struct pt_err *err)
{
	struct pt_destination *d = calloc(1, sizeof(*d));
	int rc;

	if (!d)
		return -ENOMEM;
	d->options = *options;
	d->current = &d->blocks[0];
	pthread_mutex_init(&d->lock, NULL);
	pthread_cond_init(&d->changed, NULL);
	rc = pt_outfile_open(&d->file, path, RESERVE_BYTES, err);
	if (rc)
		goto fail;
	rc = -ENOMEM;
	for (int i = 0; i < BLOCKS; i++) {
		d->blocks[i].data = malloc(PT_BLOCK_BYTES);
		if (!d->blocks[i].data)
			goto fail;
	}
	rc = gzip_begin(d);
	if (!rc)
		rc = start_thread(d);
	if (rc)
		goto fail;
	*result = d;
	return 0;
fail:
	pt_err_set(err, rc, PT_EXIT_FAILED, "", "cannot write '%s': %s", path, strerror(-rc));
	pt_outfile_discard(&d->file);
	destination_free(d);
	return rc;
}

/* Hands the current block to the thread and takes the next free one. */
static void submit(struct pt_destination *d, bool whole)
{
	pthread_mutex_lock(&d->lock);
	d->current->whole = whole;
	d->count++;
	pthread_cond_signal(&d->changed);
	while (d->count == BLOCKS)
		pthread_cond_wait(&d->changed, &d->lock);
	d->current = &d->blocks[(d->first + d->count) % BLOCKS];
	pthread_mutex_unlock(&d->lock);
}

char *pt_destination_room(struct pt_destination *d, size_t len)
{
	if (d->current->len + len > PT_BLOCK_BYTES)
		submit(d, false);
	return d->current->data + d->current->len;
}

void pt_destination_used(struct pt_destination *d, size_t len)
{
	d->current->len += len;
}

int pt_destination_flush(struct pt_destination *d, bool whole)
{
	if (d->current->len)
		submit(d, whole);
	pthread_mutex_lock(&d->lock);
	while (d->count)
		pthread_cond_wait(&d->changed, &d->lock);
	pthread_mutex_unlock(&d->lock);
	return atomic_load(&d->error);
}

int pt_destination_restart(struct pt_destination *d)
{
	/* the writing thread rests when nothing is queued */
	int rc = pt_destination_flush(d, false);

	if (!rc)
		rc = pt_outfile_restart(&d->file);
	if (!rc)
		rc = gzip_head(d);
	if (rc)
		return rc;
	d->crc = d->raw_bytes = 0;
	atomic_store(&d->bytes, d->file.bytes);
	return 0;
}

int pt_destination_copy(struct pt_destination *d, const char *path, struct pt_destination **result,
			struct pt_err *err)
{
	struct pt_destination_options options = d->options;
	struct pt_destination *copy;
	int rc = pt_destination_flush(d, false);

	options.max_bytes = 0;
	if (rc)
		return pt_err_set(err, rc, PT_EXIT_FAILED, "", "cannot write '%s': %s",
				  d->file.path, strerror(-rc));
	rc = pt_destination_open(path, &options, &copy, err);
	if (rc)
		return rc;
	rc = pt_outfile_append_rest(&copy->file, &d->file);
	if (rc) {
		pt_destination_discard(copy);
		return pt_err_set(err, rc, PT_EXIT_FAILED, "", "cannot write '%s': %s", path,
				  strerror(-rc));
	}
	copy->crc = d->crc;
	copy->raw_bytes = d->raw_bytes;
	*result = copy;
	return 0;
}

int pt_destination_error(const struct pt_destination *d)
{
	return atomic_load(&d->error);
}

uint64_t pt_destination_bytes(const struct pt_destination *d)
{
	return atomic_load(&d->bytes);
}

int pt_destination_append(struct pt_destination *d, const char *text, size_t len)
{
	uint32_t crc, raw_bytes;
	uint64_t bytes;
	size_t piece;
	int rc;

	if (d->current->len)
		submit(d, false);
	join_thread(d);
	rc = atomic_load(&d->error);
	bytes = d->file.bytes;
	crc = d->crc;
	raw_bytes = d->raw_bytes;
	for (size_t done = 0; !rc && done < len; done += piece) {
		piece = len - done < PT_BLOCK_BYTES ? len - done : PT_BLOCK_BYTES;
		rc = write_piece(d, text + done, piece, true);
	}
	if (rc && !pt_outfile_cut(&d->file, bytes)) {
		d->crc = crc;
		d->raw_bytes = raw_bytes;
		atomic_store(&d->bytes, bytes);
	}
	return rc;
}

static int write_tail(struct pt_destination *d, const char *tail, size_t len)
{
	unsigned char end[8];
	size_t packed;
	int rc;

	if (!d->options.gzip)
		return pt_outfile_append(&d->file, tail, len);
	if (len > PT_BLOCK_BYTES)
		return -EINVAL;
	rc = pack(d, tail, len, Z_FINISH, &packed);
	if (rc)
		return rc;
	d->crc = (uint32_t)crc32(d->crc, (const Bytef *)tail, (uInt)len);
	d->raw_bytes += (uint32_t)len;
	for (int i = 0; i < 4; i++) {
		end[i] = (unsigned char)(d->crc >> 8 * i);
		end[4 + i] = (unsigned char)(d->raw_bytes >> 8 * i);
	}
	memcpy(d->packed + packed, end, sizeof(end)); /* 64 bytes more than the bound */
	return pt_outfile_append(&d->file, d->packed, packed + sizeof(end));
}

int pt_destination_close(struct pt_destination *d, const char *tail, size_t tail_len,
			 struct pt_err *err)
{
	int rc, error;

	if (d->current->len)
		submit(d, false);
	join_thread(d);
	error = atomic_load(&d->error);
	if (error == -EFBIG)
		error = 0; /* the limit was the user's wish */
	pt_outfile_use_reserve(&d->file);
	rc = write_tail(d, tail, tail_len);
	if (rc)
		pt_err_set(err, rc, PT_EXIT_FAILED, "The file is kept, but its end is missing.",
			   "cannot write '%s': %s", d->file.path, strerror(-rc));
	else if (error)
		pt_err_set(err, error, PT_EXIT_FAILED,
			   "The file is valid and holds what was recorded before. Free some "
			   "space, or set --max-file-size.",
			   "cannot write all of '%s': %s", d->file.path, strerror(-error));
	if (!error)
		error = rc;
	rc = pt_outfile_commit(&d->file, err);
	destination_free(d);
	return error ? error : rc;
}

void pt_destination_discard(struct pt_destination *d)
{
	if (!d)
		return;
	join_thread(d);
	pt_outfile_discard(&d->file);
	destination_free(d);
}
