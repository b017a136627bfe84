/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * gpu_parts.h - what the files of the bounds share; nobody else includes it.
 *
 * gpu_bounds.c takes what happened in order of time, gpu_streams.c knows what is before what,
 * gpu_work.c what is begun and done by it, gpu_show.c tells sinks.
 */
#ifndef PT_MODEL_GPU_PARTS_H
#define PT_MODEL_GPU_PARTS_H

#include "base/heap.h"
#include "model/gpu_priv.h"

#define CATEGORY "gpu_bounds"

struct gpu_point {
	uint64_t stream, seq;
};

struct gpu_front {
	struct gpu_point *points;
	uint32_t count, size;
};

struct gpu_work {
	struct gpu_work *next;
	uint64_t seq, begin_ns, call;
	uint64_t more; /* that begin later and are no works of their own */
	enum pt_cuda_stream_what what;
	const char *symbol, *kernel;
	struct pt_gpu_link link; /* tid 0: none */
};

struct gpu_stream {
	struct gpu_stream *next;
	uint64_t id;
	enum pt_cuda_stream_kind kind;
	uint64_t handle;
	pid_t tid;         /* PER_THREAD */
	gpu_device device; /* or DEVICE_NONE */
	bool blocking;     /* it is known that it and the legacy stream wait for each other */
	bool gone;         /* its handle means another one now */
	uint64_t capture;  /* 0: it is not captured, as far as is known */
	uint64_t last;     /* number of its last work */
	struct gpu_work *works, **works_tail;
	struct gpu_front after;
};

struct gpu_marker {     /* an event of CUDA's */
	uint64_t epoch; /* of the process; another: nothing is known */
	uint64_t stream, capture;
	uint64_t changes; /* records into another stream */
	bool in_graph;    /* graphs record it, too, and nobody sees it */
	struct gpu_front front;
};

/* What was known when a call began. */
struct gpu_snapshot {
	struct gpu_snapshot *next;
	uint64_t call, changes;
	struct gpu_front front;
	struct gpu_front later; /* what the call does not wait for, but its copy does */
};

/* Where the bounds of a stream are drawn: slices of one track do not overlap. */
struct gpu_track {
	struct gpu_track *next;
	enum pt_cuda_stream_kind kind;
	uint64_t handle, end_ns;
	pid_t tid, number;
	gpu_device device;
};

struct gpu_process {
	struct gpu_process *next;
	struct model_process *process;
	struct gpu_stream *streams;
	struct pt_map markers; /* handle: struct gpu_marker */
	struct pt_map devices; /* -device: number + 1 */
	struct gpu_snapshot *snapshots;
	struct gpu_track *tracks;
	uint64_t epoch, captures;
	uint64_t blind_until_ns, drawn_until_ns;
	bool paused, refused;
};

struct model_gpu {
	struct pt_heap waiting;
	uint64_t taken_ns; /* the newest event that was taken */
	uint64_t next_stream, works;
	gpu_device last_device;
	struct pt_map by_process; /* (pid, image) */
	struct gpu_process *processes;
};

/* Some work of one stream that is done at the same time, for all that is known. */
struct gpu_group {
	const struct gpu_stream *stream;
	const struct gpu_work *first;
	uint64_t begin_ns, end_ns, upto; /* the number of its last work */
	const char *ended_by;
	uint64_t ended_by_call;     /* 0: none did */
	const struct gpu_event *by; /* likewise, NULL */
	uint32_t flags;
};

/* The stream's device is not known. */
#define DEVICE_NONE INT64_MIN

/* ---- gpu_bounds.c ---- */

void model_gpu_works_release(struct pt_model *model, struct gpu_stream *stream);
void model_gpu_streams_release(struct pt_model *model, struct gpu_process *own);
void model_gpu_snapshot_free(struct gpu_snapshot *snapshot);
void model_gpu_snapshots_release(struct gpu_process *own);
/* Its number, if that is known by now. */
gpu_device model_gpu_device_now(const struct gpu_process *own, gpu_device device);
bool model_gpu_same_device(const struct gpu_process *own, gpu_device a, gpu_device b);

/* ---- gpu_streams.c ---- */

struct gpu_stream *model_gpu_stream_with_id(const struct gpu_process *own, uint64_t id);
/* What is done already need not be named. */
void model_gpu_front_join(struct pt_model *model, const struct gpu_process *own,
			  struct gpu_front *front, const struct gpu_front *other);
struct gpu_stream *model_gpu_stream_find(const struct gpu_process *own,
					 const struct gpu_event *event);
struct gpu_stream *model_gpu_stream_get(struct pt_model *model, struct gpu_process *own,
					const struct gpu_event *event);
/* Its handle may mean another one from now on; its work goes on. */
void model_gpu_stream_gone(struct gpu_process *own, const struct gpu_event *event);
void model_gpu_stream_made(struct pt_model *model, struct gpu_process *own,
			   const struct gpu_event *event);
/* Those that are gone and have nothing left. */
void model_gpu_streams_tidy(struct gpu_process *own);
/* The streams that what the stream gets now waits for, besides what it waits for anyway. */
void model_gpu_front_of_legacy(struct pt_model *model, const struct gpu_process *own,
			       const struct gpu_event *event, struct gpu_front *front);
void model_gpu_front_of_stream(struct pt_model *model, const struct gpu_process *own,
			       const struct gpu_event *event, struct gpu_front *front);
gpu_device model_gpu_device_of(const struct gpu_event *event);
void model_gpu_front_of_device(struct pt_model *model, const struct gpu_process *own,
			       const struct gpu_event *event, struct gpu_front *front);
/* NULL: nothing is known of it. */
struct gpu_marker *model_gpu_marker_find(const struct gpu_process *own, uint64_t handle);
struct gpu_marker *model_gpu_marker_get(struct pt_model *model, struct gpu_process *own,
					uint64_t handle);
/* From now on nothing is known of when it is recorded. */
void model_gpu_marker_in_graph(struct pt_model *model, struct gpu_process *own, uint64_t handle);
void model_gpu_marker_gone(struct gpu_process *own, uint64_t handle);
/* From now on it may be that of another stream: until the call returns it is of none. */
uint64_t model_gpu_record_begins(struct pt_model *model, struct gpu_process *own,
				 const struct gpu_event *event);

/* ---- gpu_work.c ---- */

void model_gpu_call_begins(struct pt_model *model, struct gpu_process *own,
			   const struct gpu_event *event);
/* That of the call, which is the caller's then; NULL: what was known then is forgotten. */
struct gpu_snapshot *model_gpu_snapshot_take(struct gpu_process *own, uint64_t call);
/* All that is left, at the end of the process or of the recording. */
void model_gpu_all_done(struct pt_model *model, struct gpu_process *own, struct gpu_group group);
/* Of handles, events and fronts nothing is known any more; tracks stay. */
void model_gpu_forget_work(struct pt_model *model, struct gpu_process *own, const char *why,
			   uint64_t ns);
void model_gpu_forget_from(struct pt_model *model, struct gpu_process *own,
			   const struct gpu_event *event);
bool model_gpu_is_work(enum pt_cuda_stream_what what);
void model_gpu_call_returned(struct pt_model *model, struct gpu_process *own,
			     const struct gpu_event *event);

/* ---- gpu_show.c ---- */

bool model_gpu_in_group(const struct gpu_group *group, const struct gpu_work *work);
void model_gpu_draw(struct pt_model *model, struct gpu_process *own, struct gpu_group *group);

#endif
