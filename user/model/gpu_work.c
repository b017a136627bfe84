// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * What a call makes a GPU do, and what is done once a call has returned.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "model/gpu_parts.h"

/* Work of all streams that nothing has waited for; more goes with the last one of its stream. */
#define WORKS_MAX     (1u << 20)
#define WRONG_THREAD  908 /* cudaErrorStreamCaptureWrongThread; the driver's is the same */
#define ILLEGAL_STATE 401 /* cudaErrorIllegalState */

static void front_of_copy(struct pt_model *model, const struct gpu_process *own,
			  const struct gpu_event *event, struct gpu_snapshot *snapshot)
{
	bool part = event->stream.waits && !event->stream.waits_all;

	if (event->stream.waits)
		model_gpu_front_of_stream(model, own, event, &snapshot->front);
	/* of a copy to the device the end may not have begun when the call returns */
	model_gpu_front_of_legacy(model, own, event, part ? &snapshot->later : &snapshot->front);
}

/* What is before the call, or would be waited for by it. */
static void front_at_begin(struct pt_model *model, struct gpu_process *own,
			   const struct gpu_event *event, struct gpu_snapshot *snapshot)
{
	struct gpu_front *front = &snapshot->front;
	const struct gpu_marker *marker = model_gpu_marker_find(own, event->stream.event);

	switch (event->what) {
	case PT_CUDA_STREAM_COPY:
		front_of_copy(model, own, event, snapshot);
		break;
	case PT_CUDA_STREAM_KERNEL:
	case PT_CUDA_STREAM_GRAPH:
	case PT_CUDA_STREAM_SET:
		model_gpu_front_of_legacy(model, own, event, front);
		break;
	case PT_CUDA_STREAM_RECORD:
		snapshot->changes = model_gpu_record_begins(model, own, event);
		model_gpu_front_of_stream(model, own, event, front);
		model_gpu_front_of_legacy(model, own, event, front);
		break;
	case PT_CUDA_STREAM_WAIT:
	case PT_CUDA_STREAM_SYNC_EVENT:
		if (marker) {
			snapshot->changes = marker->changes;
			model_gpu_front_join(model, own, front, &marker->front);
		}
		if (event->what == PT_CUDA_STREAM_WAIT)
			model_gpu_front_of_legacy(model, own, event, front);
		break;
	case PT_CUDA_STREAM_SYNC:
		model_gpu_front_of_stream(model, own, event, front);
		break;
	case PT_CUDA_STREAM_SYNC_DEVICE:
	case PT_CUDA_STREAM_RESET:
		model_gpu_front_of_device(model, own, event, front);
		break;
	case PT_CUDA_STREAM_GONE:
		model_gpu_stream_gone(own, event);
		break;
	case PT_CUDA_STREAM_EVENT:
		model_gpu_marker_gone(own, event->stream.event);
		break;
	case PT_CUDA_STREAM_NODE:
		model_gpu_marker_in_graph(model, own, event->stream.event);
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

void model_gpu_call_begins(struct pt_model *model, struct gpu_process *own,
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

struct gpu_snapshot *model_gpu_snapshot_take(struct gpu_process *own, uint64_t call)
{
	struct gpu_snapshot **link = &own->snapshots, *snapshot;

	while (*link && (*link)->call != call)
		link = &(*link)->next;
	snapshot = *link;
	if (snapshot)
		*link = snapshot->next;
	return snapshot;
}

/* Draws what the stream has up to this number, and forgets it. */
static void stream_done(struct pt_model *model, struct gpu_process *own, struct gpu_stream *stream,
			uint64_t upto, struct gpu_group group)
{
	struct gpu_work *work = stream->works;

	group.stream = stream;
	group.upto = upto;
	/* what was launched before a clear is not in the trace */
	while (model_gpu_in_group(&group, work) && work->begin_ns < model->clear_ns)
		work = work->next;
	group.first = work;
	group.begin_ns = UINT64_MAX;
	for (; model_gpu_in_group(&group, work); work = work->next)
		if (work->begin_ns < group.begin_ns)
			group.begin_ns = work->begin_ns;
	if (model_gpu_in_group(&group, group.first))
		model_gpu_draw(model, own, &group);
	while (model_gpu_in_group(&group, stream->works)) {
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
	const struct gpu_group group = {.end_ns = event->time_ns,
					.ended_by = event->symbol,
					.ended_by_call = event->call,
					.by = event};

	for (uint32_t i = 0; i < front->count; i++) {
		struct gpu_stream *stream = model_gpu_stream_with_id(own, front->points[i].stream);

		if (stream)
			stream_done(model, own, stream, front->points[i].seq, group);
	}
	model_gpu_streams_tidy(own);
}

void model_gpu_all_done(struct pt_model *model, struct gpu_process *own, struct gpu_group group)
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
		model_gpu_works_release(model, stream);
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

void model_gpu_forget_work(struct pt_model *model, struct gpu_process *own, const char *why,
			   uint64_t ns)
{
	tell_dropped(model, own, drop_works(model, own, true), why, ns);
	model_gpu_streams_release(model, own);
	model_gpu_snapshots_release(own);
	own->epoch++;
}

void model_gpu_forget_from(struct pt_model *model, struct gpu_process *own,
			   const struct gpu_event *event)
{
	if (own->drawn_until_ns > event->time_ns)
		model_instant(model, own->process, event->time_ns, CATEGORY, "bounds in doubt",
			      "those drawn after this may be wrong, until the loss ends");
	own->drawn_until_ns = 0; /* it is told once */
	model_gpu_forget_work(model, own, event->why, event->time_ns);
	if (event->until_ns > own->blind_until_ns)
		own->blind_until_ns = event->until_ns;
}

static void refuse(struct pt_model *model, struct gpu_process *own, const struct gpu_event *event)
{
	model_gpu_forget_work(model, own, "the program has contexts of its own", event->time_ns);
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
	struct gpu_group group = {.stream = stream,
				  .end_ns = event->time_ns,
				  .begin_ns = event->begin_ns,
				  .ended_by = event->symbol,
				  .ended_by_call = event->call,
				  .by = event};
	struct gpu_work *work;

	front_done(model, own, &snapshot->front, event);
	if (!event->stream.waits_all) {
		model_gpu_front_join(model, own, &stream->after, &snapshot->later);
		add_work(model, stream, event);
		return;
	}
	work = work_new(model, event);
	if (!work)
		return;
	group.first = work;
	model_gpu_draw(model, own, &group);
	free(work);
	model->gpu->works--;
}

static void launched(struct pt_model *model, struct gpu_process *own,
		     const struct gpu_snapshot *snapshot, const struct gpu_event *event)
{
	struct gpu_stream *stream;

	if (event->stream.host_only)
		return;
	stream = model_gpu_stream_get(model, own, event);
	if (!stream || stream->capture)
		return;
	/* a kernel for a stream of another device is refused */
	if (stream->device == DEVICE_NONE && event->what == PT_CUDA_STREAM_KERNEL)
		stream->device = event->device;
	if (event->stream.waits) {
		copy_returned(model, own, stream, snapshot, event);
		return;
	}
	model_gpu_front_join(model, own, &stream->after, &snapshot->front);
	add_work(model, stream, event);
}

static void recorded(struct pt_model *model, struct gpu_process *own,
		     const struct gpu_snapshot *snapshot, const struct gpu_event *event)
{
	struct gpu_marker *marker = model_gpu_marker_get(model, own, event->stream.event);
	struct gpu_stream *stream = model_gpu_stream_get(model, own, event);

	if (!marker || !stream || marker->changes != snapshot->changes)
		return; /* another record was under way at the same time */
	marker->stream = stream->id;
	marker->capture = stream->capture;
	marker->front.count = 0;
	if (stream->capture && event->stream.external)
		model_gpu_marker_in_graph(model, own, event->stream.event);
	if (stream->capture)
		return;
	if (!marker->in_graph)
		model_gpu_front_join(model, own, &marker->front, &snapshot->front);
	model_gpu_front_join(model, own, &stream->after, &snapshot->front);
}

static void waits(struct pt_model *model, struct gpu_process *own,
		  const struct gpu_snapshot *snapshot, const struct gpu_event *event)
{
	const struct gpu_marker *marker = model_gpu_marker_find(own, event->stream.event);
	struct gpu_stream *stream = model_gpu_stream_get(model, own, event);

	if (!stream || !marker || marker->changes != snapshot->changes)
		return;
	if (is_captured(own, marker->capture))
		stream->capture = marker->capture; /* it belongs to the capture now */
	else if (!stream->capture)
		model_gpu_front_join(model, own, &stream->after, &snapshot->front);
}

static void event_waited_for(struct pt_model *model, struct gpu_process *own,
			     const struct gpu_snapshot *snapshot, const struct gpu_event *event)
{
	const struct gpu_marker *marker = model_gpu_marker_find(own, event->stream.event);

	if (marker && marker->changes == snapshot->changes)
		front_done(model, own, &snapshot->front, event);
}

static void stream_waited_for(struct pt_model *model, struct gpu_process *own,
			      const struct gpu_snapshot *snapshot, const struct gpu_event *event)
{
	struct gpu_stream *stream = model_gpu_stream_find(own, event);

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
		     model_gpu_same_device(own, stream->device, model_gpu_device_of(event))))
			stream->gone = true;
	own->epoch++; /* its events are others' handles now */
	model_gpu_streams_tidy(own);
}

/* A capture ends in any case, but if another thread than its own asks for it. */
static void capture_ended(struct pt_model *model, struct gpu_process *own,
			  const struct gpu_event *event)
{
	struct gpu_stream *ended = model_gpu_stream_find(own, event), *stream;
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
	struct gpu_stream *stream = model_gpu_stream_get(model, own, event);

	if (stream && stream->kind == PT_CUDA_STREAM_NAMED)
		stream->blocking = !event->stream.no_blocking;
}

static void capture_begun(struct pt_model *model, struct gpu_process *own,
			  const struct gpu_event *event)
{
	struct gpu_stream *stream = model_gpu_stream_get(model, own, event);

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
	case PT_CUDA_STREAM_GONE: /* model_gpu_stream_gone() */
	case PT_CUDA_STREAM_NODE: /* model_gpu_marker_in_graph() */
	case PT_CUDA_STREAM_CAPTURE_END:
		return;
	case PT_CUDA_STREAM_MADE:
		model_gpu_stream_made(model, own, event);
		return;
	case PT_CUDA_STREAM_FLAGS:
		flags_known(model, own, event);
		return;
	case PT_CUDA_STREAM_EVENT:
		model_gpu_marker_gone(own, event->stream.event);
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

bool model_gpu_is_work(enum pt_cuda_stream_what what)
{
	return what >= PT_CUDA_STREAM_KERNEL && what <= PT_CUDA_STREAM_SET;
}

void model_gpu_call_returned(struct pt_model *model, struct gpu_process *own,
			     const struct gpu_event *event)
{
	struct gpu_snapshot *snapshot = model_gpu_snapshot_take(own, event->call);

	if (event->what == PT_CUDA_STREAM_CAPTURE_END && event->readable)
		capture_ended(model, own, event);
	if (!event->code && !event->readable)
		model_gpu_forget_work(model, own, "arguments of a call are not known",
				      event->time_ns);
	if (!event->code && model_gpu_is_work(event->what) && (!event->readable || !snapshot))
		model->totals.gpu_unbounded++;
	else if (!event->code && event->readable && snapshot)
		succeeded(model, own, snapshot, event);
	model_gpu_snapshot_free(snapshot);
}
