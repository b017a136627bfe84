/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * rec_builder.h - makes records by hand, for tests, golden captures and benchmarks.
 *
 * Each rec_*() hands one finished record to the builder's sink. A batch is collected word by word
 * with batch_*() between batch_begin() and batch_end(). The builder keeps each thread's sequence
 * and event count only if the test does not set them: fields may be changed before batch_end() to
 * make damage.
 */
#ifndef REC_BUILDER_H
#define REC_BUILDER_H

#include <linux/types.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pt_abi.h"

typedef int (*rec_fn)(const struct pt_rec *record, size_t len, void *ctx);

/* One thread's stream. */
struct rec_thread {
	uint32_t tgid, tid, image_id, ns_tid;
	uint32_t seq, depth;
	uint64_t events;
	char comm[16];
};

struct rec_builder {
	rec_fn emit;
	void *ctx;
	int rc; /* the first that emit returned */
	struct rec_thread *thread;
	union { /* last: it ends in a flexible array */
		struct pt_rec_batch batch;
		uint64_t space[(sizeof(struct pt_rec_batch) / 8) + PT_BATCH_WORDS];
		uint16_t kernel_flags; /* of rec_cuda_kernel() */
	};
};

void rec_init(struct rec_builder *b, rec_fn emit, void *ctx);
struct rec_thread rec_thread(uint32_t tgid, uint32_t tid, uint32_t image_id, const char *comm);

void rec_code(struct rec_builder *b, uint32_t id, const char *name, const char *qualname,
	      const char *file, uint32_t line);
/* As rec_code(), with co_flags. */
void rec_code_flags(struct rec_builder *b, uint32_t id, const char *name, const char *file,
		    uint32_t line, uint32_t co_flags);
void rec_cfunc(struct rec_builder *b, uint32_t id, enum pt_cfunc_kind kind, const char *name,
	       const char *owner);
void rec_proc(struct rec_builder *b, enum pt_proc_what what, uint32_t tgid, uint32_t image_id,
	      uint64_t time_ns, uint32_t parent, const char *comm, const char *cmdline,
	      int exit_code);
void rec_rank(struct rec_builder *b, uint32_t tgid, uint32_t image_id, uint32_t rank,
	      uint32_t world_size, uint64_t time_ns);
void rec_thread_start(struct rec_builder *b, const struct rec_thread *t, uint64_t time_ns);
void rec_thread_exit(struct rec_builder *b, const struct rec_thread *t, uint64_t time_ns);
/* A piece of a line table: table[offset .. offset + bytes). */
void rec_lines(struct rec_builder *b, uint32_t id, uint32_t version, const void *table,
	       uint32_t total, uint32_t offset, uint32_t bytes);
void rec_note(struct rec_builder *b, enum pt_note_what what, uint64_t time_ns, uint64_t value);
void rec_control(struct rec_builder *b, enum pt_control_what what, uint64_t time_ns);
/* why: PT_WHY_* */
void rec_control_why(struct rec_builder *b, enum pt_control_what what, uint32_t why,
		     uint64_t time_ns);
/* A turn of the thread that is like record, whose header is filled in. */
void rec_sched(struct rec_builder *b, const struct rec_thread *t, struct pt_rec_sched record);
/* ids[0 .. count): innermost first; flags: PT_SAMPLE_*. Its period is 100 ns. */
/* serial: of the PT_REC_CALL_STACK that it stands in; 0: none. */
void rec_sample_native(struct rec_builder *b, const struct rec_thread *t, uint64_t time_ns,
		       uint32_t serial, const uint32_t *ids, uint32_t count, uint16_t flags);
/* Likewise, with the places where they stand. */
void rec_sample_placed(struct rec_builder *b, const struct rec_thread *t, uint64_t time_ns,
		       uint32_t serial, const struct pt_sample_frame *frames, uint32_t count);
/* It was blocked from out_ns until time_ns, in pselect6. */
void rec_blocked(struct rec_builder *b, const struct rec_thread *t, uint64_t out_ns,
		 uint64_t time_ns, const uint32_t *ids, uint32_t count, uint16_t flags);
void rec_sample(struct rec_builder *b, const struct rec_thread *t, uint64_t time_ns,
		const uint32_t *ids, uint32_t count, uint16_t flags);
/* ids[0 .. count): innermost first, at the depths depth, depth - 1, ... */
void rec_stack(struct rec_builder *b, const struct rec_thread *t, uint64_t time_ns,
	       const uint32_t *ids, uint32_t count, uint32_t depth);

void batch_begin(struct rec_builder *b, struct rec_thread *t, uint64_t base_ns);
unsigned int batch_room(const struct rec_builder *b);
void batch_enter(struct rec_builder *b, uint32_t code_id, uint64_t ns);
/* The next enter is called from there. */
void batch_line(struct rec_builder *b, uint32_t caller_id, uint32_t unit);
/* The next enter is of the coroutine at this address, with PT_CORO_*; the last one makes a task of
 * it.
 */
void batch_coro(struct rec_builder *b, uint64_t object, uint64_t ns);
void batch_task(struct rec_builder *b, uint64_t object, uint64_t ns);
/* A snapshot of that stack follows. */
void batch_switch(struct rec_builder *b, uint64_t number, uint64_t ns);
void batch_c_enter(struct rec_builder *b, uint32_t id, uint64_t ns);
void batch_c_exit(struct rec_builder *b, uint64_t ns);
void batch_exit(struct rec_builder *b, uint64_t ns);
void batch_exit_to(struct rec_builder *b, uint32_t depth, uint64_t ns);
void batch_depth(struct rec_builder *b, uint32_t depth, uint64_t ns);
void batch_snap(struct rec_builder *b, const uint32_t *ids, uint32_t count, uint32_t depth,
		uint64_t ns);
void batch_snap_head(struct rec_builder *b, uint32_t count, uint32_t depth, uint64_t ns);
/* A snapshot is to follow, or the end of the thread. */
/* kept: a depth, perhaps with PT_PAUSED_C_OVER */
void batch_paused(struct rec_builder *b, uint64_t kept, uint64_t from_ns, uint64_t until_ns,
		  uint64_t ns);
void batch_open(struct rec_builder *b, const uint32_t *ids, uint32_t count, uint32_t depth,
		uint64_t ns);
/* type: PT_X_RT_*. flags: PT_RT_* */
void batch_rt(struct rec_builder *b, unsigned int type, unsigned int what, unsigned int flags,
	      const int64_t *values, uint32_t count, uint64_t ns);
struct rec_mark_arg { /* name NULL ends them */
	const char *name;
	enum pt_mark_arg_type type;
};
void rec_mark(struct rec_builder *b, uint32_t id, enum pt_mark_kind kind, uint32_t group,
	      const char *name, const struct rec_mark_arg *args);
void rec_fork(struct rec_builder *b, const struct rec_thread *parent, uint32_t tgid,
	      uint32_t image_id, uint64_t time_ns);
/* A PT_REC_RUNTIME of texts, NULL ends them; "#1" is a number. */
void rec_runtime(struct rec_builder *b, const struct rec_thread *t, uint32_t serial,
		 unsigned int what, const char *const *texts, uint64_t ns);
/* A PT_REC_VALUES. data: of all values, names before them. */
void rec_values(struct rec_builder *b, const struct rec_thread *t, uint32_t serial,
		const struct pt_value *values, uint16_t count, uint16_t more, const char *data,
		uint64_t ns);
/* type: PT_X_ARGS, PT_X_RESULT */
void batch_values(struct rec_builder *b, unsigned int type, uint32_t serial, uint64_t ns);
void rec_cuda_fn(struct rec_builder *b, uint32_t id, const char *symbol, unsigned int api,
		 unsigned int major, unsigned int in_words, unsigned int out_words);
void rec_cuda_kernel(struct rec_builder *b, uint32_t tgid, uint32_t image_id, uint64_t address,
		     const char *name, uint32_t names, const char *path, uint64_t ns);
void rec_cuda_lib(struct rec_builder *b, uint32_t tgid, const char *path, uint64_t ns);
/* type: PT_X_CUDA_*; desc: PT_CUDA_DESC */
void batch_cuda(struct rec_builder *b, unsigned int type, uint64_t desc, const uint64_t *words,
		uint32_t count, uint64_t ns);
/* A stack of which the frames come (count 0: have come); text: their names and paths, in order. */
void rec_call_stack(struct rec_builder *b, const struct rec_thread *t, uint32_t serial, uint32_t id,
		    const struct pt_call_frame *frames, uint32_t count, const char *text,
		    uint64_t ns);
/* It is that of the CUDA call that follows. */
void batch_stack(struct rec_builder *b, uint32_t serial, uint64_t ns);
/* desc: PT_BLOCK_DESC */
void batch_block(struct rec_builder *b, uint64_t address, int64_t bytes, uint64_t desc,
		 uint64_t ns);
/* Hands a copy out; the batch goes on. */
void batch_peek(struct rec_builder *b);
void batch_end(struct rec_builder *b, uint16_t flags);
/* The batch is lost: it takes a sequence number and its events count. */
void batch_lose(struct rec_builder *b);

#endif
