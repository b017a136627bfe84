/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * decode.h - from raw records to events by value.
 *
 * Stateless but for one thing: a record is either whole and consistent in itself, and its events
 * come out in order, or it is refused with -EBADMSG and nothing comes out. What spans records
 * (sequence, depth, peeked batches) is the model's business.
 * Cost: about 2 ns a word; a batch is decoded in place.
 */
#ifndef PT_INGEST_DECODE_H
#define PT_INGEST_DECODE_H

#include <linux/types.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "pt_abi.h"

/* No record is longer: the stack of a thread in very deep recursion is the longest. */
#define PT_RECORD_MAX_BYTES (4u << 20)
/* Later is no CLOCK_MONOTONIC time (146 years); keeps all sums below 2^64. */
#define PT_TIME_MAX_NS      (1ull << 62)

/* One word of a batch, unpacked. */
enum pt_ev_kind {
	PT_EV_ENTER,
	PT_EV_EXIT,
	PT_EV_DEPTH,
	PT_EV_SNAP,
	PT_EV_OPEN,
	PT_EV_LINE,
	PT_EV_C_ENTER,
	PT_EV_C_EXIT,
	PT_EV_PAUSED,
	PT_EV_ARGS,   /* of the next enter: .serial */
	PT_EV_RESULT, /* of the innermost frame: .serial */
	PT_EV_CORO,
	PT_EV_TASK,
	PT_EV_SWITCH,
	PT_EV_RT_BEGIN, /* and the two behind it: .rt is set, and the rest is not */
	PT_EV_RT_END,
	PT_EV_RT_INSTANT,
	PT_EV_CUDA_BEGIN, /* and END: .cuda is set, and the rest is not */
	PT_EV_CUDA_END,
	PT_EV_STACK, /* of the next CUDA_BEGIN or BLOCK: .serial */
	PT_EV_BLOCK, /* .block is set, and the rest is not */
};

/* What a PT_X_RT_* word says. */
struct pt_ev_rt {
	uint16_t what;  /* enum pt_rt_what, or one that this program does not know */
	uint8_t flags;  /* PT_RT_* */
	uint8_t values; /* that are set, at most PT_RT_VALUES_MAX */
	int64_t value[PT_RT_VALUES_MAX];
};

/* What a PT_X_CUDA_* item says. */
struct pt_ev_cuda {
	uint32_t fn; /* id of a PT_REC_CUDA_FN */
	uint32_t level;
	int32_t code; /* END: what it returned */
	uint32_t words;
	uint64_t word[PT_CUDA_IN_MAX];
	uint64_t correlation; /* BEGIN: for the model, which numbers them */
};

/* What a PT_X_BLOCK item says. */
struct pt_ev_block {
	uint64_t address;
	int64_t bytes;
	uint8_t what; /* enum pt_block_what */
	uint8_t device;
};

struct pt_ev {
	enum pt_ev_kind kind;
	uint32_t code_id; /* ENTER, OPEN, C_ENTER; LINE: of the caller */
	/* EXIT, C_EXIT: low 21 bits; DEPTH, SNAP: the depth; OPEN: the frame's depth; PAUSED:
	 * frames above it are gone */
	uint32_t depth;
	uint32_t count;   /* SNAP: frames that follow */
	uint32_t serial;  /* ARGS, RESULT: of a PT_REC_VALUES; STACK: of a PT_REC_CALL_STACK */
	uint32_t unit;    /* LINE: of the caller's code, at which the next enter was called */
	uint8_t coro;     /* CORO: PT_CORO_* */
	uint64_t object;  /* CORO, TASK: address; SWITCH: number */
	uint64_t time_ns; /* CLOCK_MONOTONIC; LINE: none of its own */
	struct pt_ev_rt rt;
	struct pt_ev_cuda cuda;
	struct pt_ev_block block;
	uint64_t from_ns, until_ns; /* PAUSED; until 0: not resumed */
	uint32_t c_over; /* PAUSED: C functions that the frame at that depth called returned */
};

/* Walks a batch: pt_batch_begin() checks it whole, then pt_batch_next() until it returns false. */
struct pt_batch_iter {
	const struct pt_rec_batch *batch;
	uint32_t pos, open_left;
	uint64_t open_time_ns;
};

int pt_record_check(const struct pt_rec *record, size_t len);
int pt_batch_begin(struct pt_batch_iter *iter, const struct pt_rec_batch *batch, size_t len);
int pt_batch_next(struct pt_batch_iter *iter, struct pt_ev *event);

/* Passes over the first words of a batch, those of an earlier peek; -EBADMSG if an item does not
 * end there. */
int pt_batch_skip(struct pt_batch_iter *iter, uint32_t words);

/* Converts a PT_REC_CODE string to UTF-8 (always valid: what cannot be converted becomes U+FFFD,
 * lone surrogates too). out gets at most size bytes with the NUL; returns the size needed, NUL
 * included. */
size_t pt_str_utf8(const struct pt_rec_code *code, int which, char *out, size_t size);

/* Character i of a text that has width bytes a character. */
uint32_t pt_text_char(const char *data, unsigned int width, size_t i);

/* The same for the text of a PT_REC_RUNTIME's item (PT_RT_TEXT, PT_RT_BYTES, PT_RT_OBJECT). */
size_t pt_rt_item_utf8(const struct pt_rec_runtime *record, unsigned int item, char *out,
		       size_t size);

#endif
