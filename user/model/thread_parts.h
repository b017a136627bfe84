/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * thread_parts.h - what the files of one thread's stack share; nobody else includes it.
 *
 * thread.c has a thread's life and its batches, thread_events.c what single events do,
 * thread_snapshots.c what is open according to BPF, thread_pauses.c what ended unseen.
 */
#ifndef PT_MODEL_THREAD_PARTS_H
#define PT_MODEL_THREAD_PARTS_H

#include "model/model_priv.h"

/* No interpreter gets near; keeps depth + 1 from wrapping. */
#define DEPTH_MAX (1u << 30)

/* ---- thread.c ---- */

uint64_t model_thread_recording_start(const struct pt_model *model,
				      const struct model_thread *thread);

/* ---- thread_events.c ---- */

/* Whether the frame's slice belongs into the trace if it ends at end_ns. */
bool model_thread_is_shown(const struct pt_model *model, const struct model_frame *frame,
			   const struct model_function *function, uint64_t end_ns);
void model_thread_fill_slice(struct pt_model *model, struct model_thread *thread,
			     const struct model_frame *frame, const struct model_function *function,
			     uint64_t end_ns, uint32_t flags, struct pt_op_slice *slice);
void model_thread_frame_drop_values(struct pt_model *model, struct model_frame *frame);
/* Closes the innermost frame. */
void model_thread_pop(struct pt_model *model, struct model_thread *thread, uint64_t ns,
		      uint32_t flags);
void model_thread_pop_above(struct pt_model *model, struct model_thread *thread, uint32_t depth,
			    uint64_t ns, uint32_t flags);
void model_thread_push(struct pt_model *model, struct model_thread *thread, struct model_code *code,
		       uint32_t depth, uint64_t ns, uint32_t flags);
void model_thread_drop_next_args(struct pt_model *model, struct model_thread *thread);
void model_thread_take_event(struct pt_model *model, struct model_thread *thread,
			     const struct pt_ev *event);

/* ---- thread_snapshots.c ---- */

void model_thread_opens_release(struct pt_model *model, struct model_opens *opens);
/* Time to give to count frames so that they lie before the first event, at first_ns. */
void model_thread_begin_before(struct pt_model *model, struct model_thread *thread, uint32_t count,
			       uint64_t first_ns);
void model_thread_first_snapshot(struct pt_model *model, struct model_thread *thread);
/* A thread whose first words are no snapshot, or lost, or that had no events at all. */
void model_thread_start_from_outside(struct pt_model *model, struct model_thread *thread,
				     uint64_t first_ns);
/* The thread's first event is the exit of a frame that no enter named. If the stack that was read
 * from outside has that frame, on top of the same callers, it was open since the start: it is
 * opened, for the exit to close. */
void model_thread_first_exit(struct pt_model *model, struct model_thread *thread, uint32_t depth);
void model_thread_snapshot_apply(struct pt_model *model, struct model_thread *thread);
void model_thread_snapshot_begin(struct pt_model *model, struct model_thread *thread,
				 const struct pt_ev *event);
void model_thread_snapshot_add(struct pt_model *model, struct model_thread *thread,
			       const struct pt_ev *event);

/* ---- thread_pauses.c ---- */

void model_thread_set_depth(struct pt_model *model, struct model_thread *thread, uint32_t depth,
			    uint64_t ns, uint32_t flags);
/* Closes the innermost C function of the innermost frame, if there is one. */
bool model_thread_close_c(struct pt_model *model, struct model_thread *thread, uint64_t ns,
			  uint32_t flags);
/* When probes were absent after the thread's last event, or 0. The first batch of a thread may come
 * later than the record of that. */
uint64_t model_thread_unseen_since(const struct pt_model *model, const struct model_thread *thread);
/* Frames that ended within the pause end where it began. Those above a loss as well: of them
 * nothing is known any more, and the snapshot says the rest. */
void model_thread_pause_ended_frames(struct pt_model *model, struct model_thread *thread,
				     const struct pt_ev *event);

/* ---- thread_open.c ---- */

/* Brings the stack to the last clear_ns: what is open then begins there. next_ns: of what follows.
 */
void model_thread_cleared(struct pt_model *model, struct model_thread *thread, uint64_t next_ns);

#endif
