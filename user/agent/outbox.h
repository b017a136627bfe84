/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * outbox.h - messages that wait to be sent, oldest first, in files or in memory.
 *
 * With a folder each message is a file of its own there (a header with length and CRC-32, then the
 * message), written beside, synced and renamed: what was put and not removed is there after a
 * crash, in its order. A file that is not whole is removed and counted. Without a folder, and while
 * the folder cannot be written, messages wait in memory, AGENT_OUTBOX_MEMORY bytes at most. What is
 * too much costs the oldest ones, which is counted. For one thread; the counters are for any.
 */
#ifndef PT_AGENT_OUTBOX_H
#define PT_AGENT_OUTBOX_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

#define AGENT_OUTBOX_MEMORY (8u << 20)

struct agent_outbox;

struct agent_outbox_stats { /* of all outboxes that were opened with it */
	_Atomic uint64_t dropped, corrupt, write_errors;
	_Atomic uint64_t messages, bytes; /* that wait now */
};

/* dir NULL: in memory alone. Makes the folder if need be; it must be ours alone. */
int agent_outbox_open(const char *dir, uint64_t max_bytes, struct agent_outbox_stats *stats,
		      struct agent_outbox **outbox, struct pt_err *err);
/* Copies the message. It may cost older ones; what cannot be kept at all is counted as dropped. */
void agent_outbox_put(struct agent_outbox *outbox, const void *data, size_t len);
/* Adds the oldest message to data; it stays, whatever is put, until it is removed. -ENOENT: none
 * waits; -ENOMEM. */
int agent_outbox_first(struct agent_outbox *outbox, struct pt_buf *data);
void agent_outbox_remove_first(struct agent_outbox *outbox);
/* What waits in files stays there. */
void agent_outbox_close(struct agent_outbox *outbox);

#endif
