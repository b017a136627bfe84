// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * What is before what on a GPU: streams, CUDA events, and their fronts.
 */
#include <errno.h>
#include <stdlib.h>

#include "model/gpu_parts.h"

struct gpu_stream *model_gpu_stream_with_id(const struct gpu_process *own, uint64_t id)
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
	const struct gpu_stream *stream = model_gpu_stream_with_id(own, point->stream);

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

void model_gpu_front_join(struct pt_model *model, const struct gpu_process *own,
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
	model_gpu_front_join(model, own, front, &stream->after);
}

/* ---- streams ---- */

static bool is_stream(const struct gpu_process *own, const struct gpu_stream *stream,
		      const struct gpu_event *event)
{
	if (stream->gone || stream->kind != event->stream.kind)
		return false;
	if (stream->kind == PT_CUDA_STREAM_NAMED)
		return stream->handle == event->stream.handle;
	return model_gpu_same_device(own, stream->device, event->device) &&
	       (stream->kind == PT_CUDA_STREAM_LEGACY || stream->tid == event->tid);
}

struct gpu_stream *model_gpu_stream_find(const struct gpu_process *own,
					 const struct gpu_event *event)
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

struct gpu_stream *model_gpu_stream_get(struct pt_model *model, struct gpu_process *own,
					const struct gpu_event *event)
{
	struct gpu_stream *stream = model_gpu_stream_find(own, event);

	return stream ? stream : stream_new(model, own, event);
}

void model_gpu_stream_gone(struct gpu_process *own, const struct gpu_event *event)
{
	struct gpu_stream *stream = model_gpu_stream_find(own, event);

	if (stream && stream->kind == PT_CUDA_STREAM_NAMED)
		stream->gone = true;
}

void model_gpu_stream_made(struct pt_model *model, struct gpu_process *own,
			   const struct gpu_event *event)
{
	struct gpu_stream *stream;

	model_gpu_stream_gone(own, event);
	stream = stream_new(model, own, event);
	if (!stream)
		return;
	stream->device = event->device;
	stream->blocking = !event->stream.no_blocking;
}

static bool any_pending(const struct gpu_process *own, const struct gpu_front *front)
{
	for (uint32_t i = 0; i < front->count; i++)
		if (is_pending(own, &front->points[i]))
			return true;
	return false;
}

/* Whoever waits for the device waits for what a stream that was destroyed still has to do or to
 * wait for. */
void model_gpu_streams_tidy(struct gpu_process *own)
{
	struct gpu_stream **link = &own->streams;

	while (*link) {
		struct gpu_stream *stream = *link;

		if (!stream->gone || stream->works || any_pending(own, &stream->after)) {
			link = &stream->next;
			continue;
		}
		*link = stream->next;
		free(stream->after.points);
		free(stream);
	}
}

void model_gpu_front_of_legacy(struct pt_model *model, const struct gpu_process *own,
			       const struct gpu_event *event, struct gpu_front *front)
{
	const struct gpu_stream *stream = model_gpu_stream_find(own, event), *other;
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

		if (waited_for && !other->gone && model_gpu_same_device(own, other->device, device))
			front_add_stream(model, own, front, other);
	}
}

void model_gpu_front_of_stream(struct pt_model *model, const struct gpu_process *own,
			       const struct gpu_event *event, struct gpu_front *front)
{
	/* two that were taken for different ones until the device was known */
	for (const struct gpu_stream *stream = own->streams; stream; stream = stream->next)
		if (is_stream(own, stream, event))
			front_add_stream(model, own, front, stream);
}

gpu_device model_gpu_device_of(const struct gpu_event *event)
{
	return event->stream.device >= 0 && event->what == PT_CUDA_STREAM_RESET
		   ? event->stream.device
		   : event->device;
}

void model_gpu_front_of_device(struct pt_model *model, const struct gpu_process *own,
			       const struct gpu_event *event, struct gpu_front *front)
{
	for (const struct gpu_stream *stream = own->streams; stream; stream = stream->next)
		if (model_gpu_same_device(own, stream->device, model_gpu_device_of(event)))
			front_add_stream(model, own, front, stream);
}

struct gpu_marker *model_gpu_marker_find(const struct gpu_process *own, uint64_t handle)
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

struct gpu_marker *model_gpu_marker_get(struct pt_model *model, struct gpu_process *own,
					uint64_t handle)
{
	struct gpu_marker *marker = pt_map_get(&own->markers, handle, 0);

	if (!marker) {
		marker = pt_map_make(&own->markers, handle, 0, sizeof(*marker));
		if (!marker) {
			model_fail(model, -ENOMEM);
			return NULL;
		}
	}
	if (marker->epoch != own->epoch)
		marker_reset(own, marker);
	return marker;
}

void model_gpu_marker_in_graph(struct pt_model *model, struct gpu_process *own, uint64_t handle)
{
	struct gpu_marker *marker = model_gpu_marker_get(model, own, handle);

	if (!marker)
		return;
	marker_reset(own, marker);
	marker->in_graph = true;
}

void model_gpu_marker_gone(struct gpu_process *own, uint64_t handle)
{
	struct gpu_marker *marker = model_gpu_marker_find(own, handle);

	if (!marker)
		return;
	marker_reset(own, marker);
	marker->in_graph = false;
}

uint64_t model_gpu_record_begins(struct pt_model *model, struct gpu_process *own,
				 const struct gpu_event *event)
{
	struct gpu_marker *marker = model_gpu_marker_get(model, own, event->stream.event);
	struct gpu_stream *stream = model_gpu_stream_get(model, own, event);

	if (!marker || !stream)
		return 0;
	if (marker->stream != stream->id || marker->capture)
		marker_reset(own, marker);
	marker->stream = stream->id;
	return marker->changes;
}
