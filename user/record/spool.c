// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
#include "record/spool.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "base/thread.h"

#define CHUNK_BYTES          (1u << 20)
#define DEFAULT_MEMORY_BYTES (16u << 20)

struct chunk {
	struct chunk *next;
	char *data; /* NULL: it lies in the spill file */
	size_t len;
	off_t at; /* in the spill file */
};

struct pt_spool {
	pt_spool_fn fn;
	void *ctx;
	const char *spill_dir;
	size_t memory_chunk_max;
	pthread_t thread;

	/* the producer's own */
	char *filling;
	size_t filling_len;
	int spill_fd;
	off_t spill_end;
	bool spill_failed;

	pthread_mutex_t lock; /* for what follows */
	pthread_cond_t changed;
	struct chunk *first, **last;
	char *spare; /* one buffer kept for the next chunk */
	size_t memory_chunks, spilled_chunks;
	bool ended, done, abandoned;

	atomic_int error;
	atomic_ullong backlog_bytes, spilled_max_bytes;
};

/* Reads a spilled chunk back, or takes the one in memory. Returns its bytes or NULL. */
static char *chunk_bytes(struct pt_spool *spool, const struct chunk *chunk, char *own)
{
	size_t got = 0;

	if (chunk->data)
		return chunk->data;
	while (got < chunk->len) {
		ssize_t n = pread(spool->spill_fd, own + got, chunk->len - got,
				  chunk->at + (off_t)got);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			atomic_store(&spool->error, n ? -errno : -EIO);
			return NULL;
		}
		got += (size_t)n;
	}
	return own;
}

static void consume(struct pt_spool *spool, const char *data, size_t len)
{
	size_t at = 0;

	while (at < len && !atomic_load_explicit(&spool->error, memory_order_relaxed)) {
		uint64_t record_len;
		int rc;

		memcpy(&record_len, data + at, sizeof(record_len));
		at += sizeof(record_len);
		rc = spool->fn((const struct pt_rec *)(const void *)(data + at), record_len,
			       spool->ctx);
		if (rc)
			atomic_store(&spool->error, rc);
		at += (record_len + 7) & ~7ull;
	}
	atomic_fetch_sub(&spool->backlog_bytes, len);
}

/* Takes the next chunk off the queue, or NULL when all is done. */
static struct chunk *take_chunk(struct pt_spool *spool)
{
	struct chunk *chunk;

	pthread_mutex_lock(&spool->lock);
	while (!spool->first && !spool->ended && !spool->abandoned)
		pthread_cond_wait(&spool->changed, &spool->lock);
	chunk = spool->abandoned ? NULL : spool->first;
	if (chunk) {
		spool->first = chunk->next;
		if (!spool->first)
			spool->last = &spool->first;
	} else {
		spool->done = true;
		pthread_cond_broadcast(&spool->changed);
	}
	pthread_mutex_unlock(&spool->lock);
	return chunk;
}

static void give_back(struct pt_spool *spool, struct chunk *chunk)
{
	pthread_mutex_lock(&spool->lock);
	if (!chunk->data) {
		spool->spilled_chunks--;
	} else {
		spool->memory_chunks--;
		if (!spool->spare) {
			spool->spare = chunk->data;
			chunk->data = NULL;
		}
	}
	pthread_cond_broadcast(&spool->changed);
	pthread_mutex_unlock(&spool->lock);
	free(chunk->data);
	free(chunk);
}

static void *consumer(void *arg)
{
	struct pt_spool *spool = arg;
	struct chunk *chunk;
	char *own = malloc(CHUNK_BYTES);

	if (!own)
		atomic_store(&spool->error, -ENOMEM);
	while ((chunk = take_chunk(spool))) {
		const char *data = own ? chunk_bytes(spool, chunk, own) : NULL;

		if (data)
			consume(spool, data, chunk->len);
		else
			atomic_fetch_sub(&spool->backlog_bytes, chunk->len);
		give_back(spool, chunk);
	}
	free(own);
	return NULL;
}

int pt_spool_new(size_t memory_bytes, const char *spill_dir, pt_spool_fn fn, void *ctx,
		 struct pt_spool **out, struct pt_err *err)
{
	struct pt_spool *spool = calloc(1, sizeof(*spool));
	int rc;

	if (!spool)
		return pt_err_set(err, -ENOMEM, PT_EXIT_FAILED, "", "out of memory");
	spool->fn = fn;
	spool->ctx = ctx;
	spool->spill_dir = spill_dir;
	spool->spill_fd = -1;
	spool->memory_chunk_max = (memory_bytes ? memory_bytes : DEFAULT_MEMORY_BYTES) /
				  CHUNK_BYTES;
	spool->last = &spool->first;
	pthread_mutex_init(&spool->lock, NULL);
	pthread_cond_init(&spool->changed, NULL);
	rc = pt_thread_start(&spool->thread, consumer, spool);
	if (rc) {
		pthread_cond_destroy(&spool->changed);
		pthread_mutex_destroy(&spool->lock);
		free(spool);
		return pt_err_set(err, rc, PT_EXIT_FAILED, "", "cannot start a thread: %s",
				  strerror(-rc));
	}
	*out = spool;
	return 0;
}

/* A file without a name, so that nothing is left behind whatever happens. */
static int open_spill(const char *dir)
{
	char path[4096];
	int fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

	if (fd >= 0)
		return fd;
	if (snprintf(path, sizeof(path), "%s/.pytrace-bpf-XXXXXX", dir) >= (int)sizeof(path))
		return -ENAMETOOLONG;
	fd = mkostemp(path, O_CLOEXEC);
	if (fd < 0)
		return -errno;
	unlink(path);
	return fd;
}

static int write_spill(struct pt_spool *spool, off_t at)
{
	size_t put = 0;

	if (spool->spill_fd < 0) {
		int fd = open_spill(spool->spill_dir);

		if (fd < 0)
			return fd;
		spool->spill_fd = fd;
	}
	while (put < spool->filling_len) {
		ssize_t n = pwrite(spool->spill_fd, spool->filling + put, spool->filling_len - put,
				   at + (off_t)put);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n ? -errno : -EIO;
		put += (size_t)n;
	}
	return 0;
}

/* Writes the chunk being filled to the spill file. True if that worked. */
static bool spill(struct pt_spool *spool, struct chunk *chunk)
{
	int rc;

	if (spool->spill_failed || !spool->spill_dir)
		return false;
	rc = write_spill(spool, spool->spill_end);
	if (rc) {
		pt_warn("cannot put records aside in %s: %s; events may be lost until the output "
			"has caught up",
			spool->spill_dir, strerror(-rc));
		spool->spill_failed = true;
		return false;
	}
	chunk->at = spool->spill_end;
	spool->spill_end += (off_t)spool->filling_len;
	if ((uint64_t)spool->spill_end > atomic_load(&spool->spilled_max_bytes))
		atomic_store(&spool->spilled_max_bytes, (uint64_t)spool->spill_end);
	return true;
}

static int hand_over(struct pt_spool *spool)
{
	struct chunk *chunk;
	bool room;

	if (!spool->filling_len)
		return 0;
	chunk = calloc(1, sizeof(*chunk));
	if (!chunk)
		return -ENOMEM;
	chunk->len = spool->filling_len;
	pthread_mutex_lock(&spool->lock);
	room = spool->memory_chunks < spool->memory_chunk_max;
	if (!spool->spilled_chunks)
		spool->spill_end = 0;
	pthread_mutex_unlock(&spool->lock);
	if (!room && !spill(spool, chunk)) {
		pthread_mutex_lock(&spool->lock);
		while (spool->memory_chunks >= spool->memory_chunk_max)
			pthread_cond_wait(&spool->changed, &spool->lock);
		pthread_mutex_unlock(&spool->lock);
		room = true;
	}
	pthread_mutex_lock(&spool->lock);
	if (room) {
		chunk->data = spool->filling;
		spool->filling = spool->spare;
		spool->spare = NULL;
		spool->memory_chunks++;
	} else {
		spool->spilled_chunks++;
	}
	*spool->last = chunk;
	spool->last = &chunk->next;
	pthread_cond_broadcast(&spool->changed);
	pthread_mutex_unlock(&spool->lock);
	spool->filling_len = 0;
	return 0;
}

int pt_spool_put(struct pt_spool *spool, const struct pt_rec *record, size_t len)
{
	uint64_t record_len = len;
	size_t padded = (len + 7) & ~(size_t)7;
	int rc;

	if (len > CHUNK_BYTES - sizeof(record_len))
		return -EMSGSIZE;
	if (spool->filling_len + sizeof(record_len) + padded > CHUNK_BYTES) {
		rc = hand_over(spool);
		if (rc)
			return rc;
	}
	if (!spool->filling) {
		spool->filling = malloc(CHUNK_BYTES);
		if (!spool->filling)
			return -ENOMEM;
	}
	memcpy(spool->filling + spool->filling_len, &record_len, sizeof(record_len));
	memcpy(spool->filling + spool->filling_len + sizeof(record_len), record, len);
	spool->filling_len += sizeof(record_len) + padded;
	atomic_fetch_add_explicit(&spool->backlog_bytes, sizeof(record_len) + padded,
				  memory_order_relaxed);
	return 0;
}

void pt_spool_flush(struct pt_spool *spool)
{
	hand_over(spool); /* out of memory: the chunk stays and is tried again */
}

void pt_spool_end(struct pt_spool *spool)
{
	while (hand_over(spool) == -ENOMEM)
		nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
	pthread_mutex_lock(&spool->lock);
	spool->ended = true;
	pthread_cond_broadcast(&spool->changed);
	pthread_mutex_unlock(&spool->lock);
}

bool pt_spool_wait(struct pt_spool *spool, int timeout_ms)
{
	struct timespec until;
	bool done;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += timeout_ms / 1000;
	until.tv_nsec += timeout_ms % 1000 * 1000000l;
	if (until.tv_nsec >= 1000000000l) {
		until.tv_sec++;
		until.tv_nsec -= 1000000000l;
	}
	pthread_mutex_lock(&spool->lock);
	while (!spool->done)
		if (pthread_cond_timedwait(&spool->changed, &spool->lock, &until) == ETIMEDOUT)
			break;
	done = spool->done;
	pthread_mutex_unlock(&spool->lock);
	return done;
}

int pt_spool_error(const struct pt_spool *spool)
{
	return atomic_load(&((struct pt_spool *)(uintptr_t)spool)->error);
}

uint64_t pt_spool_backlog_bytes(const struct pt_spool *spool)
{
	return atomic_load(&((struct pt_spool *)(uintptr_t)spool)->backlog_bytes);
}

uint64_t pt_spool_spilled_bytes(const struct pt_spool *spool)
{
	return atomic_load(&((struct pt_spool *)(uintptr_t)spool)->spilled_max_bytes);
}

void pt_spool_free(struct pt_spool *spool)
{
	if (!spool)
		return;
	pthread_mutex_lock(&spool->lock);
	spool->abandoned = true;
	pthread_cond_broadcast(&spool->changed);
	pthread_mutex_unlock(&spool->lock);
	pthread_join(spool->thread, NULL);
	while (spool->first) {
		struct chunk *chunk = spool->first;

		spool->first = chunk->next;
		free(chunk->data);
		free(chunk);
	}
	if (spool->spill_fd >= 0)
		close(spool->spill_fd);
	free(spool->filling);
	free(spool->spare);
	pthread_cond_destroy(&spool->changed);
	pthread_mutex_destroy(&spool->lock);
	free(spool);
}
