// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * What sinks see of the work of GPUs: tracks, bounds, and links to the calls.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "model/gpu_parts.h"

/* Names of kernels in a slice. */
#define NAMES_MAX 8

/* Contexts that the program made itself before anybody looked have default streams of their own,
 * and what waits for a device says nothing of them. Only of a stream of which the call has the
 * handle is it certain. */
static bool assumes_no_contexts(const struct gpu_process *own, const struct gpu_group *group)
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
	       track->device == model_gpu_device_now(own, stream->device);
}

/* The first that has room; *lane: how many there are before. */
static struct gpu_track *track_get(struct pt_model *model, struct gpu_process *own,
				   const struct gpu_group *group, unsigned int *lane)
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
	track->device = model_gpu_device_now(own, stream->device);
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

bool model_gpu_in_group(const struct gpu_group *group, const struct gpu_work *work)
{
	return work && work->seq <= group->upto;
}

/* "a, b (3)": the first kernels, and how often each is there. */
static void kernels_text(const struct gpu_group *group, struct pt_buf *text)
{
	const char *names[NAMES_MAX];
	uint64_t counts[NAMES_MAX], others = 0;
	unsigned int count = 0, i;

	for (const struct gpu_work *work = group->first; model_gpu_in_group(group, work);
	     work = work->next) {
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

static struct tally tally_of(const struct gpu_group *group)
{
	struct tally tally = {0};

	for (const struct gpu_work *work = group->first; model_gpu_in_group(group, work);
	     work = work->next) {
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

static struct pt_gpu_link *links_of(struct pt_model *model, const struct gpu_group *group,
				    uint32_t count)
{
	struct pt_gpu_link *links = count ? calloc(count, sizeof(*links)) : NULL;
	uint32_t n = 0;

	if (count && !links)
		model_fail(model, -ENOMEM);
	for (const struct gpu_work *work = group->first; links && model_gpu_in_group(group, work);
	     work = work->next)
		if (work->link.tid)
			links[n++] = work->link;
	return links;
}

static void emit(struct pt_model *model, struct gpu_process *own, const struct gpu_group *group,
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

void model_gpu_draw(struct pt_model *model, struct gpu_process *own, struct gpu_group *group)
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
