// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * Bounds of what GPUs did, as the host sees them: from the call that put work into a stream to the
 * return of the first call that says it is done. Nothing here is a measured time.
 *
 * Calls of different threads come in any order; they wait in a heap until all that happened before
 * them has come (as in memory.c), and are taken in order of time.
 *
 * A bound may be too long, never too short. So a call that waits counts for what was there when it
 * began, is taken at its return, and only if it succeeded; of two calls at the same time neither is
 * before the other; and what is not known (whether a stream waits for the legacy one, the device of
 * a thread) is taken as what covers less.
 *
 * What is before what. A front is a set of (stream, number of its last work). A stream has one:
 * what is done before anything that it gets from now on (events that it waits for; the legacy
 * stream and the blocking ones wait for each other). It is complete: it has the fronts of what it
 * names. An event has the front of its record, a wait that of its begin.
 *
 * Capture. What a stream gets while it is captured is no work. Of a capture whose begin was not
 * seen the end is: then what all streams have got is in doubt and forgotten. Nothing of it was
 * drawn, since no call that waits for a captured stream succeeds.
 *
 * Losses, pauses, late libraries: what is known of a process is forgotten (GPU_FORGET), and no
 * bound reaches over one.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/heap.h"
#include "model/gpu_priv.h"

/* Events that wait, where nothing says that those before have come. */
#define WAITING_MAX   (1u << 20)
/* Work of all streams that nothing has waited for; more goes with the last one of its stream. */
#define WORKS_MAX     (1u << 20)
/* The stream's device is not known. */
#define DEVICE_NONE   INT64_MIN
/* Names of kernels in a slice. */
#define NAMES_MAX     8
#define WRONG_THREAD  908 /* cudaErrorStreamCaptureWrongThread; the driver's is the same */
#define ILLEGAL_STATE 401 /* cudaErrorIllegalState */

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

/* ---- the life of it ---- */

int model_gpu_new(struct pt_model *model)
{
	model->gpu = calloc(1, sizeof(*model->gpu));
	if (!model->gpu)
		return -ENOMEM;
	model->gpu->waiting.item_bytes = sizeof(struct gpu_event);
	return 0;
}

static void works_release(struct pt_model *model, struct gpu_stream *stream)
{
	while (stream->works) {
		struct gpu_work *work = stream->works;

		stream->works = work->next;
		free(work);
		model->gpu->works--;
	}
	stream->works_tail = &stream->works;
}

static void streams_release(struct pt_model *model, struct gpu_process *own)
{
	while (own->streams) {
		struct gpu_stream *stream = own->streams;

		own->streams = stream->next;
		works_release(model, stream);
		free(stream->after.points);
		free(stream);
	}
}

static void snapshot_free(struct gpu_snapshot *snapshot)
{
	if (snapshot) {
		free(snapshot->front.points);
		free(snapshot->later.points);
	}
	free(snapshot);
}

static void snapshots_release(struct gpu_process *own)
{
	while (own->snapshots) {
		struct gpu_snapshot *snapshot = own->snapshots;

		own->snapshots = snapshot->next;
		snapshot_free(snapshot);
	}
}

static void process_free(struct pt_model *model, struct gpu_process *own)
{
	streams_release(model, own);
	snapshots_release(own);
	for (size_t i = 0; own->markers.entries && i <= own->markers.mask; i++) {
		struct gpu_marker *marker = own->markers.entries[i].value;

		if (marker)
			free(marker->front.points);
		free(marker);
	}
	pt_map_release(&own->markers);
	pt_map_release(&own->devices);
	while (own->tracks) {
		struct gpu_track *track = own->tracks;

		own->tracks = track->next;
		free(track);
	}
	free(own);
}

void model_gpu_free(struct pt_model *model)
{
	struct model_gpu *gpu = model->gpu;

	if (!gpu)
		return;
	while (gpu->processes) {
		struct gpu_process *own = gpu->processes;

		gpu->processes = own->next;
		process_free(model, own);
	}
	pt_map_release(&gpu->by_process);
	pt_heap_release(&gpu->waiting);
	free(gpu);
	model->gpu = NULL;
}

static struct gpu_process *process_find(const struct pt_model *model,
					const struct model_process *process)
{
	return pt_map_get(&model->gpu->by_process, (uint32_t)process->pid, process->image_id);
}

struct gpu_process *model_gpu_process(struct pt_model *model, struct model_process *process)
{
	struct model_gpu *gpu = model->gpu;
	struct gpu_process *own = process_find(model, process);

	if (own)
		return own;
	own = calloc(1, sizeof(*own));
	if (!own || pt_map_put(&gpu->by_process, (uint32_t)process->pid, process->image_id, own)) {
		free(own);
		model_fail(model, -ENOMEM);
		return NULL;
	}
	own->process = process;
	own->epoch = 1;
	own->next = gpu->processes;
	gpu->processes = own;
	return own;
}

gpu_device model_gpu_new_device(struct pt_model *model)
{
	return --model->gpu->last_device;
}

/* Its number, if that is known by now. */
static gpu_device device_now(const struct gpu_process *own, gpu_device device)
{
	void *number;

	if (device >= 0 || device == DEVICE_NONE)
		return device;
	number = pt_map_get(&own->devices, (uint64_t)-device, 0);
	return number ? (gpu_device)(uintptr_t)number - 1 : device;
}

static bool same_device(const struct gpu_process *own, gpu_device a, gpu_device b)
{
	return a != DEVICE_NONE && device_now(own, a) == device_now(own, b);
}

/* ---- fronts ---- */

static struct gpu_stream *stream_with_id(const struct gpu_process *own, uint64_t id)
{
	struct gpu_stream *stream = own->streams;

	while (stream && stream->id != id)
		stream = stream->next;
	return stream;
}

static void front_add(struct pt_model *model, struct gpu_front *front, struct gpu_point point)
{
	uint32_t size = front->size ? 2 * front->size : 4, i = 0;
	struct gpu_point *bigger;

	while (i < front->count && front->points[i].stream != point.stream)
		i++;
	if (i < front->count) {
		if (front->points[i].seq < point.seq)
			front->points[i].seq = point.seq;
		return;
	}
	if (front->count == front->size) {
		bigger = reallocarray(front->points, size, sizeof(*bigger));
		if (!bigger) {
			model_fail(model, -ENOMEM);
			return;
		}
		front->points = bigger;
		front->size = size;
	}
	front->points[front->count++] = point;
}

static bool is_pending(const struct gpu_process *own, const struct gpu_point *point)
{
	const struct gpu_stream *stream = stream_with_id(own, point->stream);

	return stream && stream->works && stream->works->seq <= point->seq;
}

/* Before it would grow: most of what it names is done. */
static void front_tidy(const struct gpu_process *own, struct gpu_front *front)
{
	uint32_t kept = 0;

	if (front->count < front->size)
		return;
	for (uint32_t i = 0; i < front->count; i++)
		if (is_pending(own, &front->points[i]))
			front->points[kept++] = front->points[i];
	front->count = kept;
}

/* What is done already need not be named. */
static void front_join(struct pt_model *model, const struct gpu_process *own,
		       struct gpu_front *front, const struct gpu_front *other)
{
	front_tidy(own, front);
	for (uint32_t i = 0; i < other->count; i++)
		if (is_pending(own, &other->points[i]))
			front_add(model, front, other->points[i]);
}

static void front_add_stream(struct pt_model *model, const struct gpu_process *own,
			     struct gpu_front *front, const struct gpu_stream *stream)
{
	if (stream->works)
		front_add(model, front, (struct gpu_point){stream->id, stream->last});
	front_join(model, own, front, &stream->after);
}

/* ---- streams ---- */

static bool is_stream(const struct gpu_process *own, const struct gpu_stream *stream,
		      const struct gpu_event *event)
{
	if (stream->gone || stream->kind != event->stream.kind)
		return false;
	if (stream->kind == PT_CUDA_STREAM_NAMED)
		return stream->handle == event->stream.handle;
	return same_device(own, stream->device, event->device) &&
	       (stream->kind == PT_CUDA_STREAM_LEGACY || stream->tid == event->tid);
}

static struct gpu_stream *stream_find(const struct gpu_process *own, const struct gpu_event *event)
{
	struct gpu_stream *stream = own->streams;

	while (stream && !is_stream(own, stream, event))
		stream = stream->next;
	return stream;
}

static struct gpu_stream *stream_new(struct pt_model *model, struct gpu_process *own,
				     const struct gpu_event *event)
{
	struct gpu_stream *stream = calloc(1, sizeof(*stream));

	if (!stream) {
		model_fail(model, -ENOMEM);
		return NULL;
	}
	stream->id = ++model->gpu->next_stream;
	stream->kind = event->stream.kind;
	stream->handle = event->stream.handle;
	stream->tid = event->tid;
	stream->device = stream->kind == PT_CUDA_STREAM_NAMED ? DEVICE_NONE : event->device;
	stream->blocking = stream->kind == PT_CUDA_STREAM_PER_THREAD;
	stream->works_tail = &stream->works;
	stream->next = own->streams;
	own->streams = stream;
	return stream;
}

static struct gpu_stream *stream_get(struct pt_model *model, struct gpu_process *own,
				     const struct gpu_event *event)
{
	struct gpu_stream *stream = stream_find(own, event);

	return stream ? stream : stream_new(model, own, event);
}

/* Its handle may mean another one from now on; its work goes on. */
static void stream_gone(struct gpu_process *own, const struct gpu_event *event)
{
	struct gpu_stream *stream = stream_find(own, event);

	if (stream && stream->kind == PT_CUDA_STREAM_NAMED)
		stream->gone = true;
}

static void stream_made(struct pt_model *model, struct gpu_process *own,
			const struct gpu_event *event)
{
	struct gpu_stream *stream;

	stream_gone(own, event);
	stream = stream_new(model, own, event);
	if (!stream)
		return;
	stream->device = event->device;
	stream->blocking = !event->stream.no_blocking;
}

/* Those that are gone and have nothing left. */
static void streams_tidy(struct gpu_process *own)
{
	struct gpu_stream **link = &own->streams;

	while (*link) {
		struct gpu_stream *stream = *link;

		if (!stream->gone || stream->works) {
			link = &stream->next;
			continue;
		}
		*link = stream->next;
		free(stream->after.points);
		free(stream);
	}
}

/* The streams that what the stream gets now waits for, besides what it waits for anyway. */
static void front_of_legacy(struct pt_model *model, const struct gpu_process *own,
			    const struct gpu_event *event, struct gpu_front *front)
{
	const struct gpu_stream *stream = stream_find(own, event), *other;
	bool legacy = event->stream.kind == PT_CUDA_STREAM_LEGACY;
	gpu_device device = legacy || event->stream.kind == PT_CUDA_STREAM_PER_THREAD
				? event->device
			    : stream ? stream->device
				     : DEVICE_NONE;

	if (!legacy && event->stream.kind == PT_CUDA_STREAM_NAMED && !(stream && stream->blocking))
		return;
	for (other = own->streams; other; other = other->next) {
		bool waited_for = legacy ? other->blocking && !other->capture
					 : other->kind == PT_CUDA_STREAM_LEGACY;

		if (waited_for && !other->gone && same_device(own, other->device, device))
			front_add_stream(model, own, front, other);
	}
}

static void front_of_stream(struct pt_model *model, const struct gpu_process *own,
			    const struct gpu_event *event, struct gpu_front *front)
{
	/* two that were taken for different ones until the device was known */
	for (const struct gpu_stream *stream = own->streams; stream; stream = stream->next)
		if (is_stream(own, stream, event))
			front_add_stream(model, own, front, stream);
}

static gpu_device device_of(const struct gpu_event *event)
{
	return event->stream.device >= 0 && event->what == PT_CUDA_STREAM_RESET
		   ? event->stream.device
		   : event->device;
}

static void front_of_device(struct pt_model *model, const struct gpu_process *own,
			    const struct gpu_event *event, struct gpu_front *front)
{
	for (const struct gpu_stream *stream = own->streams; stream; stream = stream->next)
		if (same_device(own, stream->device, device_of(event)))
			front_add_stream(model, own, front, stream);
}

/* ---- events of CUDA's ---- */

/* NULL: nothing is known of it. */
static struct gpu_marker *marker_find(const struct gpu_process *own, uint64_t handle)
{
	struct gpu_marker *marker = pt_map_get(&own->markers, handle, 0);

	return marker && marker->epoch == own->epoch ? marker : NULL;
}

static void marker_reset(struct gpu_process *own, struct gpu_marker *marker)
{
	marker->epoch = own->epoch;
	marker->stream = marker->capture = 0;
	marker->changes++;
	marker->front.count = 0;
}

static struct gpu_marker *marker_get(struct pt_model *model, struct gpu_process *own,
				     uint64_t handle)
{
	struct gpu_marker *marker = pt_map_get(&own->markers, handle, 0);

	if (!marker) {
		marker = calloc(1, sizeof(*marker));
		if (!marker || pt_map_put(&own->markers, handle, 0, marker)) {
			free(marker);
			model_fail(model, -ENOMEM);
			return NULL;
		}
	}
	if (marker->epoch != own->epoch)
		marker_reset(own, marker);
	return marker;
}

/* From now on nothing is known of when it is recorded. */
static void marker_in_graph(struct pt_model *model, struct gpu_process *own, uint64_t handle)
{
	struct gpu_marker *marker = marker_get(model, own, handle);

	if (!marker)
		return;
	marker_reset(own, marker);
	marker->in_graph = true;
}

static void marker_gone(struct gpu_process *own, uint64_t handle)
{
	struct gpu_marker *marker = marker_find(own, handle);

	if (!marker)
		return;
	marker_reset(own, marker);
	marker->in_graph = false;
}

/* From now on it may be that of another stream: until the call returns it is of none. */
static uint64_t record_begins(struct pt_model *model, struct gpu_process *own,
			      const struct gpu_event *event)
{
	struct gpu_marker *marker = marker_get(model, own, event->stream.event);
	struct gpu_stream *stream = stream_get(model, own, event);

	if (!marker || !stream)
		return 0;
	if (marker->stream != stream->id || marker->capture)
		marker_reset(own, marker);
	marker->stream = stream->id;
	return marker->changes;
}

/* ---- a call begins ---- */

static void front_of_copy(struct pt_model *model, const struct gpu_process *own,
			  const struct gpu_event *event, struct gpu_snapshot *snapshot)
{
	bool part = event->stream.waits && !event->stream.waits_all;

	if (event->stream.waits)
		front_of_stream(model, own, event, &snapshot->front);
	/* of a copy to the device the end may not have begun when the call returns */
	front_of_legacy(model, own, event, part ? &snapshot->later : &snapshot->front);
}

/* What is before the call, or would be waited for by it. */
static void front_at_begin(struct pt_model *model, struct gpu_process *own,
			   const struct gpu_event *event, struct gpu_snapshot *snapshot)
{
	struct gpu_front *front = &snapshot->front;
	const struct gpu_marker *marker = marker_find(own, event->stream.event);

	switch (event->what) {
	case PT_CUDA_STREAM_COPY:
		front_of_copy(model, own, event, snapshot);
		break;
	case PT_CUDA_STREAM_KERNEL:
	case PT_CUDA_STREAM_GRAPH:
	case PT_CUDA_STREAM_SET:
		front_of_legacy(model, own, event, front);
		break;
	case PT_CUDA_STREAM_RECORD:
		snapshot->changes = record_begins(model, own, event);
		front_of_stream(model, own, event, front);
		front_of_legacy(model, own, event, front);
		break;
	case PT_CUDA_STREAM_WAIT:
	case PT_CUDA_STREAM_SYNC_EVENT:
		if (marker) {
			snapshot->changes = marker->changes;
			front_join(model, own, front, &marker->front);
		}
		if (event->what == PT_CUDA_STREAM_WAIT)
			front_of_legacy(model, own, event, front);
		break;
	case PT_CUDA_STREAM_SYNC:
		front_of_stream(model, own, event, front);
		break;
	case PT_CUDA_STREAM_SYNC_DEVICE:
	case PT_CUDA_STREAM_RESET:
		front_of_device(model, own, event, front);
		break;
	case PT_CUDA_STREAM_GONE:
		stream_gone(own, event);
		break;
	case PT_CUDA_STREAM_EVENT:
		marker_gone(own, event->stream.event);
		break;
	case PT_CUDA_STREAM_NODE:
		marker_in_graph(model, own, event->stream.event);
		break;
	case PT_CUDA_STREAM_NOTHING:
	case PT_CUDA_STREAM_MADE:
	case PT_CUDA_STREAM_FLAGS:
	case PT_CUDA_STREAM_CAPTURE:
	case PT_CUDA_STREAM_CAPTURE_END:
	case PT_CUDA_STREAM_CONTEXT:
		break;
	}
}

static void call_begins(struct pt_model *model, struct gpu_process *own,
			const struct gpu_event *event)
{
	struct gpu_snapshot *snapshot;

	if (!event->readable)
		return;
	snapshot = calloc(1, sizeof(*snapshot));
	if (!snapshot) {
		model_fail(model, -ENOMEM);
		return;
	}
	snapshot->call = event->call;
	front_at_begin(model, own, event, snapshot);
	snapshot->next = own->snapshots;
	own->snapshots = snapshot;
}

/* That of the call, which is the caller's then; NULL: what was known then is forgotten. */
static struct gpu_snapshot *snapshot_take(struct gpu_process *own, uint64_t call)
{
	struct gpu_snapshot **link = &own->snapshots, *snapshot;

	while (*link && (*link)->call != call)
		link = &(*link)->next;
	snapshot = *link;
	if (snapshot)
		*link = snapshot->next;
	return snapshot;
}

/* ---- what sinks see ---- */

/* Some work of one stream that is done at the same time, for all that is known. */
struct group {
	const struct gpu_stream *stream;
	const struct gpu_work *first;
	uint64_t begin_ns, end_ns, upto; /* the number of its last work */
	const char *ended_by;
	uint64_t ended_by_call;     /* 0: none did */
	const struct gpu_event *by; /* likewise, NULL */
	uint32_t flags;
};

/* Contexts that the program made itself before anybody looked have default streams of their own,
 * and what waits for a device says nothing of them. Only of a stream of which the call has the
 * handle is it certain. */
static bool assumes_no_contexts(const struct gpu_process *own, const struct group *group)
{
	const struct gpu_event *by = group->by;

	if (!own->process->had_cuda || !by)
		return false;
	return by->what != PT_CUDA_STREAM_SYNC || by->stream.kind != PT_CUDA_STREAM_NAMED ||
	       group->stream->kind != PT_CUDA_STREAM_NAMED ||
	       group->stream->handle != by->stream.handle;
}

static bool same_track(const struct gpu_process *own, const struct gpu_track *track,
		       const struct gpu_stream *stream)
{
	return track->kind == stream->kind && track->handle == stream->handle &&
	       (stream->kind != PT_CUDA_STREAM_PER_THREAD || track->tid == stream->tid) &&
	       track->device == device_now(own, stream->device);
}

/* The first that has room; *lane: how many there are before. */
static struct gpu_track *track_get(struct pt_model *model, struct gpu_process *own,
				   const struct group *group, unsigned int *lane)
{
	const struct gpu_stream *stream = group->stream;
	struct gpu_track **link = &own->tracks, *track;

	*lane = 0;
	for (; *link; link = &(*link)->next) {
		if (!same_track(own, *link, stream))
			continue;
		if ((*link)->end_ns <= group->begin_ns)
			return *link;
		++*lane;
	}
	track = calloc(1, sizeof(*track));
	if (!track) {
		model_fail(model, -ENOMEM);
		return NULL;
	}
	track->kind = stream->kind;
	track->handle = stream->handle;
	track->tid = stream->tid;
	track->device = device_now(own, stream->device);
	track->number = PT_TRACK_TID + (pid_t)model->tracks++;
	*link = track;
	return track;
}

static void stream_text(const struct gpu_stream *stream, char *text, size_t size)
{
	if (stream->kind == PT_CUDA_STREAM_LEGACY)
		snprintf(text, size, "default stream");
	else if (stream->kind == PT_CUDA_STREAM_PER_THREAD)
		snprintf(text, size, "default stream of thread %d", stream->tid);
	else
		snprintf(text, size, "stream 0x%" PRIx64, stream->handle);
}

static bool in_group(const struct group *group, const struct gpu_work *work)
{
	return work && work->seq <= group->upto;
}

/* "a, b (3)": the first kernels, and how often each is there. */
static void kernels_text(const struct group *group, struct pt_buf *text)
{
	const char *names[NAMES_MAX];
	uint64_t counts[NAMES_MAX], others = 0;
	unsigned int count = 0, i;

	for (const struct gpu_work *work = group->first; in_group(group, work); work = work->next) {
		const char *name = work->kernel ? work->kernel : work->symbol;

		others += work->more;
		for (i = 0; i < count && strcmp(names[i], name); i++)
			;
		if (i == NAMES_MAX) {
			others++;
			continue;
		}
		if (i == count) {
			names[count] = name;
			counts[count++] = 0;
		}
		counts[i]++;
	}
	for (i = 0; i < count; i++) {
		pt_buf_printf(text, "%s%s", i ? ", " : "", names[i]);
		if (counts[i] > 1)
			pt_buf_printf(text, " (%" PRIu64 ")", counts[i]);
	}
	if (others)
		pt_buf_printf(text, ", %" PRIu64 " others", others);
	pt_buf_add(text, "", 1);
}

struct tally {
	uint64_t works, kernels, graphs, copies, sets, last_call;
	uint32_t links;
};

static struct tally tally_of(const struct group *group)
{
	struct tally tally = {0};

	for (const struct gpu_work *work = group->first; in_group(group, work); work = work->next) {
		tally.works += 1 + work->more;
		tally.kernels += work->what == PT_CUDA_STREAM_KERNEL;
		tally.graphs += work->what == PT_CUDA_STREAM_GRAPH;
		tally.copies += work->what == PT_CUDA_STREAM_COPY;
		tally.sets += work->what == PT_CUDA_STREAM_SET;
		tally.links += work->link.tid != 0;
		tally.last_call = work->call;
	}
	return tally;
}

static struct pt_gpu_link *links_of(struct pt_model *model, const struct group *group,
				    uint32_t count)
{
	struct pt_gpu_link *links = count ? calloc(count, sizeof(*links)) : NULL;
	uint32_t n = 0;

	if (count && !links)
		model_fail(model, -ENOMEM);
	for (const struct gpu_work *work = group->first; links && in_group(group, work);
	     work = work->next)
		if (work->link.tid)
			links[n++] = work->link;
	return links;
}

static void emit(struct pt_model *model, struct gpu_process *own, const struct group *group,
		 const struct gpu_track *track, const char *track_name)
{
	struct tally tally = tally_of(group);
	struct pt_buf kernels = {0};
	struct pt_gpu_link *links = links_of(model, group, tally.links);
	char name[64], stream[64];
	struct pt_arg args[] = {
	    {.key = "what this is", .text = "bounds seen by the host, nothing measured"},
	    {.key = "works"},
	    {.key = "of"},
	    {.key = "in", .text = stream},
	    {.key = "first launch", .number = (int64_t)group->first->call},
	    {.key = "last launch", .number = (int64_t)tally.last_call},
	    {.key = "ended by", .text = group->ended_by},
	    {.key = "ended by call", .number = (int64_t)group->ended_by_call},
	    {.key = "assumes",
	     .text = "that the program had no contexts of its own before the recording"},
	};
	unsigned int args_not_there = group->ended_by_call ? !assumes_no_contexts(own, group) : 2;
	const struct pt_op op = {
	    .kind = PT_OP_GPU_BOUND,
	    .gpu_bound =
		{
		    .pid = own->process->pid,
		    .tid = track->number,
		    .device = track->device >= 0 ? (int)track->device : -1,
		    .track_name = track_name,
		    .begin_ns = group->begin_ns,
		    .end_ns = group->end_ns,
		    .category = CATEGORY,
		    .name = tally.works == 1 && group->first->kernel ? group->first->kernel
			    : tally.works == 1                       ? group->first->symbol
								     : name,
		    .args = args,
		    .arg_count = sizeof(args) / sizeof(args[0]) - args_not_there,
		    .links = links,
		    .link_count = links ? tally.links : 0,
		    .flags = group->flags,
		},
	};

	kernels_text(group, &kernels);
	stream_text(group->stream, stream, sizeof(stream));
	snprintf(name, sizeof(name), "%" PRIu64 " works", tally.works);
	args[1].number = (int64_t)tally.works;
	args[2].text = kernels.failed ? "" : kernels.data;
	model->totals.gpu_bounds += tally.works;
	model_announce_process(model, own->process);
	model_emit(model, &op);
	pt_buf_release(&kernels);
	free(links);
}

static void draw(struct pt_model *model, struct gpu_process *own, struct group *group)
{
	struct gpu_track *track;
	unsigned int lane;
	char stream[64], name[160], place[16] = "";

	if (group->begin_ns < model->clear_ns || group->end_ns <= group->begin_ns)
		return;
	track = track_get(model, own, group, &lane);
	if (!track)
		return;
	stream_text(group->stream, stream, sizeof(stream));
	if (lane)
		snprintf(place, sizeof(place), " (%u)", lane + 1);
	snprintf(name, sizeof(name), "bounds, not measured: %s of process %d%s", stream,
		 own->process->pid, place);
	emit(model, own, group, track, name);
	track->end_ns = group->end_ns;
	if (!(group->flags & PT_SLICE_OPEN_AT_END))
		own->drawn_until_ns = group->end_ns;
}

/* ---- work is done ---- */

/* Draws what the stream has up to this number, and forgets it. */
static void stream_done(struct pt_model *model, struct gpu_process *own, struct gpu_stream *stream,
			uint64_t upto, struct group group)
{
	struct gpu_work *work = stream->works;

	group.stream = stream;
	group.upto = upto;
	/* what was launched before a clear is not in the trace */
	while (in_group(&group, work) && work->begin_ns < model->clear_ns)
		work = work->next;
	group.first = work;
	group.begin_ns = UINT64_MAX;
	for (; in_group(&group, work); work = work->next)
		if (work->begin_ns < group.begin_ns)
			group.begin_ns = work->begin_ns;
	if (in_group(&group, group.first))
		draw(model, own, &group);
	while (in_group(&group, stream->works)) {
		work = stream->works;
		stream->works = work->next;
		free(work);
		model->gpu->works--;
	}
	if (!stream->works)
		stream->works_tail = &stream->works;
}

static void front_done(struct pt_model *model, struct gpu_process *own,
		       const struct gpu_front *front, const struct gpu_event *event)
{
	const struct group group = {.end_ns = event->time_ns,
				    .ended_by = event->symbol,
				    .ended_by_call = event->call,
				    .by = event};

	for (uint32_t i = 0; i < front->count; i++) {
		struct gpu_stream *stream = stream_with_id(own, front->points[i].stream);

		if (stream)
			stream_done(model, own, stream, front->points[i].seq, group);
	}
	streams_tidy(own);
}

/* All that is left, at the end of the process or of the recording. */
static void all_done(struct pt_model *model, struct gpu_process *own, struct group group)
{
	for (struct gpu_stream *stream = own->streams; stream; stream = stream->next)
		stream_done(model, own, stream, UINT64_MAX, group);
}

/* ---- what is not known ---- */

static uint64_t drop_works(struct pt_model *model, struct gpu_process *own, bool legacy_too)
{
	uint64_t dropped = 0;

	for (struct gpu_stream *stream = own->streams; stream; stream = stream->next) {
		if (!legacy_too && stream->kind == PT_CUDA_STREAM_LEGACY)
			continue;
		for (const struct gpu_work *work = stream->works; work; work = work->next)
			dropped += 1 + work->more;
		works_release(model, stream);
	}
	model->totals.gpu_unbounded += dropped;
	return dropped;
}

static void tell_dropped(struct pt_model *model, const struct gpu_process *own, uint64_t dropped,
			 const char *why, uint64_t ns)
{
	char detail[160];

	if (!dropped)
		return;
	snprintf(detail, sizeof(detail), "%" PRIu64 " launches have no bounds: %s", dropped, why);
	model_instant(model, own->process, ns, CATEGORY, "bounds not known", detail);
}

/* Of handles, events and fronts nothing is known any more; tracks stay. */
static void forget(struct pt_model *model, struct gpu_process *own, const char *why, uint64_t ns)
{
	tell_dropped(model, own, drop_works(model, own, true), why, ns);
	streams_release(model, own);
	snapshots_release(own);
	own->epoch++;
}

static void forget_from(struct pt_model *model, struct gpu_process *own,
			const struct gpu_event *event)
{
	if (own->drawn_until_ns > event->time_ns)
		model_instant(model, own->process, event->time_ns, CATEGORY, "bounds in doubt",
			      "those drawn after this may be wrong, until the loss ends");
	own->drawn_until_ns = 0; /* it is told once */
	forget(model, own, event->why, event->time_ns);
	if (event->until_ns > own->blind_until_ns)
		own->blind_until_ns = event->until_ns;
}

static void refuse(struct pt_model *model, struct gpu_process *own, const struct gpu_event *event)
{
	forget(model, own, "the program has contexts of its own", event->time_ns);
	own->refused = true;
	model_instant(model, own->process, event->time_ns, CATEGORY, "bounds given up",
		      "the program has contexts of its own, besides the devices' primary ones");
}

/* ---- a call has returned ---- */

static bool is_captured(const struct gpu_process *own, uint64_t capture)
{
	const struct gpu_stream *stream = own->streams;

	while (capture && stream && stream->capture != capture)
		stream = stream->next;
	return capture && stream;
}

static struct gpu_work *work_new(struct pt_model *model, const struct gpu_event *event)
{
	struct gpu_work *work = calloc(1, sizeof(*work));

	if (!work) {
		model_fail(model, -ENOMEM);
		return NULL;
	}
	model->gpu->works++;
	work->begin_ns = event->begin_ns;
	work->call = event->call;
	work->what = event->what;
	work->symbol = event->symbol;
	work->kernel = event->kernel;
	if (event->track)
		/* in the middle of the call's slice, wherever that was moved to */
		work->link = (struct pt_gpu_link){.tid = event->track,
						  .time_ns = event->begin_ns +
							     (event->time_ns - event->begin_ns) / 2,
						  .id = event->call};
	return work;
}

static void add_work(struct pt_model *model, struct gpu_stream *stream,
		     const struct gpu_event *event)
{
	struct gpu_work *work = NULL, *last;

	stream->last++;
	if (model->gpu->works < WORKS_MAX || !stream->works)
		work = work_new(model, event);
	if (work) {
		work->seq = stream->last;
		*stream->works_tail = work;
		stream->works_tail = &work->next;
	} else if (stream->works) {
		last = (struct gpu_work *)((char *)stream->works_tail -
					   offsetof(struct gpu_work, next));
		last->seq = stream->last;
		last->more++;
	}
}

/* A copy to the host that has returned is done, and all before it. */
static void copy_returned(struct pt_model *model, struct gpu_process *own,
			  struct gpu_stream *stream, const struct gpu_snapshot *snapshot,
			  const struct gpu_event *event)
{
	struct group group = {.stream = stream,
			      .end_ns = event->time_ns,
			      .begin_ns = event->begin_ns,
			      .ended_by = event->symbol,
			      .ended_by_call = event->call,
			      .by = event};
	struct gpu_work *work;

	front_done(model, own, &snapshot->front, event);
	if (!event->stream.waits_all) {
		front_join(model, own, &stream->after, &snapshot->later);
		add_work(model, stream, event);
		return;
	}
	work = work_new(model, event);
	if (!work)
		return;
	group.first = work;
	draw(model, own, &group);
	free(work);
	model->gpu->works--;
}

static void launched(struct pt_model *model, struct gpu_process *own,
		     const struct gpu_snapshot *snapshot, const struct gpu_event *event)
{
	struct gpu_stream *stream;

	if (event->stream.host_only)
		return;
	stream = stream_get(model, own, event);
	if (!stream || stream->capture)
		return;
	/* a kernel for a stream of another device is refused */
	if (stream->device == DEVICE_NONE && event->what == PT_CUDA_STREAM_KERNEL)
		stream->device = event->device;
	if (event->stream.waits) {
		copy_returned(model, own, stream, snapshot, event);
		return;
	}
	front_join(model, own, &stream->after, &snapshot->front);
	add_work(model, stream, event);
}

static void recorded(struct pt_model *model, struct gpu_process *own,
		     const struct gpu_snapshot *snapshot, const struct gpu_event *event)
{
	struct gpu_marker *marker = marker_get(model, own, event->stream.event);
	struct gpu_stream *stream = stream_get(model, own, event);

	if (!marker || !stream || marker->changes != snapshot->changes)
		return; /* another record was under way at the same time */
	marker->stream = stream->id;
	marker->capture = stream->capture;
	marker->front.count = 0;
	if (stream->capture && event->stream.external)
		marker_in_graph(model, own, event->stream.event);
	if (stream->capture)
		return;
	if (!marker->in_graph)
		front_join(model, own, &marker->front, &snapshot->front);
	front_join(model, own, &stream->after, &snapshot->front);
}

static void waits(struct pt_model *model, struct gpu_process *own,
		  const struct gpu_snapshot *snapshot, const struct gpu_event *event)
{
	const struct gpu_marker *marker = marker_find(own, event->stream.event);
	struct gpu_stream *stream = stream_get(model, own, event);

	if (!stream || !marker || marker->changes != snapshot->changes)
		return;
	if (is_captured(own, marker->capture))
		stream->capture = marker->capture; /* it belongs to the capture now */
	else if (!stream->capture)
		front_join(model, own, &stream->after, &snapshot->front);
}

static void event_waited_for(struct pt_model *model, struct gpu_process *own,
			     const struct gpu_snapshot *snapshot, const struct gpu_event *event)
{
	const struct gpu_marker *marker = marker_find(own, event->stream.event);

	if (marker && marker->changes == snapshot->changes)
		front_done(model, own, &snapshot->front, event);
}

static void stream_waited_for(struct pt_model *model, struct gpu_process *own,
			      const struct gpu_snapshot *snapshot, const struct gpu_event *event)
{
	struct gpu_stream *stream = stream_find(own, event);

	if (stream)
		stream->capture = 0; /* else it had failed */
	front_done(model, own, &snapshot->front, event);
}

static void device_reset(struct pt_model *model, struct gpu_process *own,
			 const struct gpu_snapshot *snapshot, const struct gpu_event *event)
{
	front_done(model, own, &snapshot->front, event);
	for (struct gpu_stream *stream = own->streams; stream; stream = stream->next)
		if (stream->kind == PT_CUDA_STREAM_NAMED &&
		    (stream->device == DEVICE_NONE ||
		     same_device(own, stream->device, device_of(event))))
			stream->gone = true;
	own->epoch++; /* its events are others' handles now */
	streams_tidy(own);
}

/* A capture ends in any case, but if another thread than its own asks for it. */
static void capture_ended(struct pt_model *model, struct gpu_process *own,
			  const struct gpu_event *event)
{
	struct gpu_stream *ended = stream_find(own, event), *stream;
	uint64_t capture = ended ? ended->capture : 0;

	if (event->code == WRONG_THREAD || event->code == ILLEGAL_STATE)
		return;
	if (!capture) {
		if (event->code == 1 || event->code == 400) /* no such stream */
			return;
		tell_dropped(model, own, drop_works(model, own, false),
			     "a graph was captured, from before this was known", event->time_ns);
		return;
	}
	for (stream = own->streams; stream; stream = stream->next)
		if (stream->capture == capture)
			stream->capture = 0;
}

static void flags_known(struct pt_model *model, struct gpu_process *own,
			const struct gpu_event *event)
{
	struct gpu_stream *stream = stream_get(model, own, event);

	if (stream && stream->kind == PT_CUDA_STREAM_NAMED)
		stream->blocking = !event->stream.no_blocking;
}

static void capture_begun(struct pt_model *model, struct gpu_process *own,
			  const struct gpu_event *event)
{
	struct gpu_stream *stream = stream_get(model, own, event);

	if (stream)
		stream->capture = ++own->captures;
}

static void succeeded(struct pt_model *model, struct gpu_process *own,
		      struct gpu_snapshot *snapshot, const struct gpu_event *event)
{
	switch (event->what) {
	case PT_CUDA_STREAM_KERNEL:
	case PT_CUDA_STREAM_GRAPH:
	case PT_CUDA_STREAM_COPY:
	case PT_CUDA_STREAM_SET:
		launched(model, own, snapshot, event);
		return;
	case PT_CUDA_STREAM_NOTHING:
	case PT_CUDA_STREAM_GONE: /* stream_gone() */
	case PT_CUDA_STREAM_NODE: /* marker_in_graph() */
	case PT_CUDA_STREAM_CAPTURE_END:
		return;
	case PT_CUDA_STREAM_MADE:
		stream_made(model, own, event);
		return;
	case PT_CUDA_STREAM_FLAGS:
		flags_known(model, own, event);
		return;
	case PT_CUDA_STREAM_EVENT:
		marker_gone(own, event->stream.event);
		return;
	case PT_CUDA_STREAM_CAPTURE:
		capture_begun(model, own, event);
		return;
	case PT_CUDA_STREAM_CONTEXT:
		refuse(model, own, event);
		return;
	case PT_CUDA_STREAM_SYNC:
		stream_waited_for(model, own, snapshot, event);
		return;
	case PT_CUDA_STREAM_SYNC_EVENT:
		event_waited_for(model, own, snapshot, event);
		return;
	case PT_CUDA_STREAM_SYNC_DEVICE:
		front_done(model, own, &snapshot->front, event);
		return;
	case PT_CUDA_STREAM_RECORD:
		recorded(model, own, snapshot, event);
		return;
	case PT_CUDA_STREAM_WAIT:
		waits(model, own, snapshot, event);
		return;
	case PT_CUDA_STREAM_RESET:
		device_reset(model, own, snapshot, event);
		return;
	}
}

static bool is_work(enum pt_cuda_stream_what what)
{
	return what >= PT_CUDA_STREAM_KERNEL && what <= PT_CUDA_STREAM_SET;
}

static void call_returned(struct pt_model *model, struct gpu_process *own,
			  const struct gpu_event *event)
{
	struct gpu_snapshot *snapshot = snapshot_take(own, event->call);

	if (event->what == PT_CUDA_STREAM_CAPTURE_END && event->readable)
		capture_ended(model, own, event);
	if (!event->code && !event->readable)
		forget(model, own, "arguments of a call are not known", event->time_ns);
	if (!event->code && is_work(event->what) && (!event->readable || !snapshot))
		model->totals.gpu_unbounded++;
	else if (!event->code && event->readable && snapshot)
		succeeded(model, own, snapshot, event);
	snapshot_free(snapshot);
}

/* ---- events, in order of time ---- */

static void process_gone(struct pt_model *model, struct gpu_process *own, uint64_t ns)
{
	const struct group group = {.end_ns = ns, .ended_by = "end of the process"};

	all_done(model, own, group);
	streams_release(model, own);
	snapshots_release(own);
	own->epoch++;
}

static void device_known(struct pt_model *model, struct gpu_process *own,
			 const struct gpu_event *event)
{
	if (pt_map_put(&own->devices, (uint64_t)-event->device, 0,
		       (void *)(uintptr_t)(event->number + 1)))
		model_fail(model, -ENOMEM);
}

static void take_call(struct pt_model *model, struct gpu_process *own,
		      const struct gpu_event *event)
{
	bool blind = own->paused || event->begin_ns < own->blind_until_ns;

	if (own->refused || blind) {
		if (event->type == GPU_DONE && !event->code && is_work(event->what))
			model->totals.gpu_unbounded++;
		return;
	}
	if (event->type == GPU_BEGIN)
		call_begins(model, own, event);
	else if (event->type == GPU_DONE)
		call_returned(model, own, event);
	else
		snapshot_free(snapshot_take(own, event->call));
}

/* What comes too late may have changed what was taken since. */
static void take_late(struct pt_model *model, struct gpu_process *own, uint64_t ns)
{
	const struct gpu_event event = {
	    .time_ns = ns, .until_ns = model->gpu->taken_ns, .why = "calls came out of order"};

	forget_from(model, own, &event);
}

static void take(struct pt_model *model, const struct gpu_event *event)
{
	struct gpu_process *own = event->process;

	if (event->time_ns >= model->gpu->taken_ns)
		model->gpu->taken_ns = event->time_ns;
	else if (event->type <= GPU_DONE)
		take_late(model, own, event->time_ns);
	switch (event->type) {
	case GPU_BEGIN:
	case GPU_DONE:
	case GPU_CUT:
		take_call(model, own, event);
		break;
	case GPU_DEVICE:
		device_known(model, own, event);
		break;
	case GPU_FORGET:
		forget_from(model, own, event);
		break;
	case GPU_PAUSE:
		forget(model, own, event->why, event->time_ns);
		own->paused = true;
		break;
	case GPU_RESUME:
		own->paused = false;
		own->blind_until_ns = event->time_ns;
		break;
	case GPU_GONE:
		process_gone(model, own, event->time_ns);
		break;
	}
}

static void take_first(struct pt_model *model)
{
	struct gpu_event first;

	pt_heap_pop(&model->gpu->waiting, &first);
	take(model, &first);
}

void model_gpu_push(struct pt_model *model, const struct gpu_event *event)
{
	struct pt_heap *waiting = &model->gpu->waiting;

	if (pt_heap_push(waiting, event))
		model_fail(model, -ENOMEM);
	else if (waiting->count > WAITING_MAX)
		take_first(model);
}

void model_gpu_complete(struct pt_model *model, uint64_t ns)
{
	const struct pt_heap *waiting = &model->gpu->waiting;

	while (waiting->count && pt_heap_first_ns(waiting) < ns)
		take_first(model);
}

/* ---- what others tell ---- */

void model_gpu_forget(struct pt_model *model, const struct model_process *process, uint64_t from_ns,
		      uint64_t until_ns, const char *why)
{
	const struct gpu_event event = {.type = GPU_FORGET,
					.process = process_find(model, process),
					.time_ns = from_ns,
					.until_ns = until_ns,
					.why = why};

	if (event.process)
		model_gpu_push(model, &event);
}

void model_gpu_paused(struct pt_model *model, bool paused, uint64_t ns)
{
	struct gpu_event event = {.type = paused ? GPU_PAUSE : GPU_RESUME,
				  .time_ns = ns,
				  .why = "the recording was paused"};

	for (event.process = model->gpu->processes; event.process;
	     event.process = event.process->next)
		model_gpu_push(model, &event);
}

void model_gpu_process_end(struct pt_model *model, const struct model_process *process, uint64_t ns)
{
	const struct gpu_event event = {
	    .type = GPU_GONE, .process = process_find(model, process), .time_ns = ns};

	if (event.process)
		model_gpu_push(model, &event);
}

void model_gpu_finish(struct pt_model *model, uint64_t end_ns)
{
	const struct group open = {
	    .end_ns = end_ns, .ended_by = "end of the recording", .flags = PT_SLICE_OPEN_AT_END};

	model_gpu_complete(model, UINT64_MAX);
	for (struct gpu_process *own = model->gpu->processes; own; own = own->next) {
		if (own->process->exit_ns)
			process_gone(model, own, own->process->exit_ns);
		else
			all_done(model, own, open);
	}
}
