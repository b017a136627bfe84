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
#include <stdlib.h>

#include "base/heap.h"
#include "model/gpu_parts.h"

/* Events that wait, where nothing says that those before have come. */
#define WAITING_MAX (1u << 20)

/* ---- the life of it ---- */

int model_gpu_new(struct pt_model *model)
{
	model->gpu = calloc(1, sizeof(*model->gpu));
	if (!model->gpu)
		return -ENOMEM;
	model->gpu->waiting.item_bytes = sizeof(struct gpu_event);
	return 0;
}

void model_gpu_works_release(struct pt_model *model, struct gpu_stream *stream)
{
	while (stream->works) {
		struct gpu_work *work = stream->works;

		stream->works = work->next;
		free(work);
		model->gpu->works--;
	}
	stream->works_tail = &stream->works;
}

void model_gpu_streams_release(struct pt_model *model, struct gpu_process *own)
{
	while (own->streams) {
		struct gpu_stream *stream = own->streams;

		own->streams = stream->next;
		model_gpu_works_release(model, stream);
		free(stream->after.points);
		free(stream);
	}
}

void model_gpu_snapshot_free(struct gpu_snapshot *snapshot)
{
	if (snapshot) {
		free(snapshot->front.points);
		free(snapshot->later.points);
	}
	free(snapshot);
}

void model_gpu_snapshots_release(struct gpu_process *own)
{
	while (own->snapshots) {
		struct gpu_snapshot *snapshot = own->snapshots;

		own->snapshots = snapshot->next;
		model_gpu_snapshot_free(snapshot);
	}
}

static void process_free(struct pt_model *model, struct gpu_process *own)
{
	model_gpu_streams_release(model, own);
	model_gpu_snapshots_release(own);
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
	own = pt_map_make(&gpu->by_process, (uint32_t)process->pid, process->image_id,
			  sizeof(*own));
	if (!own) {
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

gpu_device model_gpu_device_now(const struct gpu_process *own, gpu_device device)
{
	void *number;

	if (device >= 0 || device == DEVICE_NONE)
		return device;
	number = pt_map_get(&own->devices, (uint64_t)-device, 0);
	return number ? (gpu_device)(uintptr_t)number - 1 : device;
}

bool model_gpu_same_device(const struct gpu_process *own, gpu_device a, gpu_device b)
{
	return a != DEVICE_NONE && model_gpu_device_now(own, a) == model_gpu_device_now(own, b);
}

/* ---- events, in order of time ---- */

static void process_gone(struct pt_model *model, struct gpu_process *own, uint64_t ns)
{
	const struct gpu_group group = {.end_ns = ns, .ended_by = "end of the process"};

	model_gpu_all_done(model, own, group);
	model_gpu_streams_release(model, own);
	model_gpu_snapshots_release(own);
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
		if (event->type == GPU_DONE && !event->code && model_gpu_is_work(event->what))
			model->totals.gpu_unbounded++;
		return;
	}
	if (event->type == GPU_BEGIN)
		model_gpu_call_begins(model, own, event);
	else if (event->type == GPU_DONE)
		model_gpu_call_returned(model, own, event);
	else
		model_gpu_snapshot_free(model_gpu_snapshot_take(own, event->call));
}

/* What comes too late may have changed what was taken since. */
static void take_late(struct pt_model *model, struct gpu_process *own, uint64_t ns)
{
	const struct gpu_event event = {
	    .time_ns = ns, .until_ns = model->gpu->taken_ns, .why = "calls came out of order"};

	model_gpu_forget_from(model, own, &event);
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
		model_gpu_forget_from(model, own, event);
		break;
	case GPU_PAUSE:
		model_gpu_forget_work(model, own, event->why, event->time_ns);
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
	const struct gpu_group open = {
	    .end_ns = end_ns, .ended_by = "end of the recording", .flags = PT_SLICE_OPEN_AT_END};

	model_gpu_complete(model, UINT64_MAX);
	for (struct gpu_process *own = model->gpu->processes; own; own = own->next) {
		if (own->process->exit_ns)
			process_gone(model, own, own->process->exit_ns);
		else
			model_gpu_all_done(model, own, open);
	}
}
