/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * spool.h - a queue of raw records between the thread that reads the ring buffer and the one that
 * writes the output, so that a slow output never makes the kernel's buffer run over.
 *
 * Records are copied into chunks. Up to memory_bytes of chunks wait in memory; beyond that they go
 * to an unlinked temporary file in spill_dir, so memory stays bounded and nothing is lost. Only if
 * that file cannot be written either does the reader wait for the writer (and the kernel counts
 * what then does not fit).
 *
 * Life cycle: pt_spool_new() starts the consumer's thread -> pt_spool_put(), pt_spool_flush() from
 * one producer -> pt_spool_end() -> pt_spool_wait() until true -> pt_spool_free(). The consumer's
 * fn runs in that thread alone; once it has returned non-zero it is not called again, and the
 * records left are dropped.
 * Cost: one memcpy a record, a lock every MiB.
 */
#ifndef PT_RECORD_SPOOL_H
#define PT_RECORD_SPOOL_H

#include <linux/types.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "pt_abi.h"

struct pt_spool;

#define PT_SPOOL_RECORD_MAX_BYTES ((1u << 20) - 8)

typedef int (*pt_spool_fn)(const struct pt_rec *record, size_t len, void *ctx);

/* spill_dir is borrowed until pt_spool_free(); NULL: nothing goes to a file, the reader waits.
 * memory_bytes 0: the default, 16 MiB. */
int pt_spool_new(size_t memory_bytes, const char *spill_dir, pt_spool_fn fn, void *ctx,
		 struct pt_spool **spool, struct pt_err *err);
/* -EMSGSIZE: longer than a chunk, -ENOMEM. */
int pt_spool_put(struct pt_spool *spool, const struct pt_rec *record, size_t len);
/* Hands over a half-full chunk; call it about every tenth of a second. */
void pt_spool_flush(struct pt_spool *spool);
/* No more records come. */
void pt_spool_end(struct pt_spool *spool);
/* True when the consumer has had everything; else waits up to timeout_ms. After pt_spool_end(). */
bool pt_spool_wait(struct pt_spool *spool, int timeout_ms);
/* What fn returned when it stopped, or 0. */
int pt_spool_error(const struct pt_spool *spool);
/* Bytes put but not yet consumed, and the most that ever lay in the temporary file. */
uint64_t pt_spool_backlog_bytes(const struct pt_spool *spool);
uint64_t pt_spool_spilled_bytes(const struct pt_spool *spool);
/* Ends the thread; records not yet consumed are dropped. */
void pt_spool_free(struct pt_spool *spool);

#endif
