// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * Stands in for libcudart where there is no GPU: two devices with streams, whose work is done as
 * late as CUDA's documentation allows, in the call that has to wait for it, and which notes that
 * call. What waits for what is a graph of operations: each names those that must be done before it.
 * Calls come one at a time (the program sees to that).
 */
#define _GNU_SOURCE
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#define SUCCESS       0
#define INVALID_VALUE 1
#define BAD_HANDLE    400
#define NOT_READY     600
#define CAPTURING     900
#define IMPLICIT      906
#define DEVICES       2
#define STREAMS       64 /* 0 and 1: the legacy streams */
#define EVENTS        64
#define OPS           100000
#define DEPS          (STREAMS + 2)

struct work { /* read by the program */
	int tid, number;           /* the thread's work of this number */
	int done_tid, done_number; /* done in this call of this thread; 0: not yet */
	int captured;
};

struct op {
	int deps[DEPS], dep_count;
	int work; /* -1: none */
	int done;
};

struct stream {
	int used, device, blocking, captured, last; /* last: its last operation; -1: none */
};

struct event {
	int op, captured; /* op -1: nothing is to be waited for */
};

static struct op ops[OPS];
static struct work works[OPS];
static struct stream streams[STREAMS];
static struct event events[EVENTS];
static int op_count, work_count, captures;
static unsigned int dice = 12345;
static __thread int calls, launches, device;

__attribute__((constructor)) static void init(void)
{
	for (int i = 0; i < STREAMS; i++)
		streams[i] = (struct stream){.used = i < DEVICES, .device = i, .last = -1};
	for (int i = 0; i < EVENTS; i++)
		events[i].op = -1;
}

int double_works(const struct work **list)
{
	*list = works;
	return work_count;
}

static int is_legacy(const struct stream *stream)
{
	return stream - streams < DEVICES;
}

/* Handles: 0 and 1 the legacy stream of the device; others as they were given out. */
static struct stream *find(uint64_t handle)
{
	struct stream *stream = handle <= 1 ? &streams[device] : &streams[handle & 0xff];

	return (handle <= 1 || handle >> 8 == 0x51) && stream->used ? stream : NULL;
}

/* Does all that must be done before, and itself. */
static void perform(int i)
{
	struct op *op = &ops[i];

	if (i < 0 || op->done)
		return;
	op->done = 1;
	for (int d = 0; d < op->dep_count; d++)
		perform(op->deps[d]);
	if (op->work >= 0) {
		works[op->work].done_tid = gettid();
		works[op->work].done_number = calls;
	}
}

static void add_dep(struct op *op, int dep)
{
	if (dep >= 0 && !ops[dep].done)
		op->deps[op->dep_count++] = dep;
}

/* Behind what the stream has, and what it has to wait for. */
static int put(struct stream *stream, int work, int dep)
{
	struct op *op = &ops[op_count];

	op->work = work;
	add_dep(op, dep);
	add_dep(op, stream->last);
	for (struct stream *other = streams; other < streams + STREAMS; other++)
		if (other->used && other->device == stream->device && is_legacy(other) != is_legacy(stream) &&
		    (is_legacy(stream) ? other->blocking : stream->blocking))
			add_dep(op, other->last);
	stream->last = op_count;
	return op_count++;
}

static int legacy_is_unusable(const struct stream *stream)
{
	for (int i = 0; is_legacy(stream) && i < STREAMS; i++)
		if (streams[i].used && streams[i].device == stream->device &&
		    streams[i].blocking && streams[i].captured)
			return 1;
	return 0;
}

static int launch(uint64_t handle, int kernel)
{
	struct stream *stream = find(handle);

	if (!stream || (kernel && stream->device != device))
		return BAD_HANDLE;
	if (legacy_is_unusable(stream))
		return IMPLICIT;
	works[work_count] = (struct work){
	    .tid = gettid(), .number = ++launches, .captured = stream->captured};
	if (!stream->captured)
		put(stream, work_count, -1);
	work_count++;
	return SUCCESS;
}

int cudaSetDevice(int number)
{
	calls++;
	if (number < 0 || number >= DEVICES)
		return INVALID_VALUE;
	device = number;
	return SUCCESS;
}

int cudaLaunchKernel(const void *func, uint64_t grid, uint32_t grid_z, uint64_t block,
		     uint32_t block_z, void **args, size_t shared_bytes, uint64_t stream)
{
	calls++;
	return func ? launch(stream, 1) : INVALID_VALUE;
}

int cudaMemsetAsync(void *ptr, int value, size_t count, uint64_t stream)
{
	calls++;
	return launch(stream, 0);
}

int cudaMemcpyAsync(void *dst, const void *src, size_t count, int kind, uint64_t stream)
{
	calls++;
	return launch(stream, 0);
}

int cudaGraphLaunch(void *graph, uint64_t stream)
{
	calls++;
	return launch(stream, 0);
}

int cudaMemcpy(void *dst, const void *src, size_t count, int kind)
{
	int rc;

	calls++;
	if (legacy_is_unusable(&streams[device]))
		return IMPLICIT;
	if (kind == 1) /* the memory is pageable */
		perform(streams[device].last);
	rc = launch(0, 0);
	if (kind == 2)
		perform(streams[device].last);
	return rc;
}

int cudaFree(void *ptr)
{
	calls++;
	return SUCCESS;
}

int cudaStreamCreateWithFlags(uint64_t *handle, unsigned int flags)
{
	calls++;
	for (int i = DEVICES; i < STREAMS; i++) {
		if (streams[i].used)
			continue;
		streams[i] = (struct stream){
		    .used = 1, .device = device, .blocking = !(flags & 1), .last = -1};
		*handle = 0x5100 + (uint64_t)i;
		return SUCCESS;
	}
	return INVALID_VALUE;
}

/* Its work goes on: a device that is waited for waits for it, too. */
static int orphans[OPS], orphan_count, orphan_device[OPS];

int cudaStreamDestroy(uint64_t handle)
{
	struct stream *stream = find(handle);

	calls++;
	if (!stream || is_legacy(stream) || stream->captured)
		return BAD_HANDLE;
	orphan_device[orphan_count] = stream->device;
	orphans[orphan_count++] = stream->last;
	stream->used = 0;
	return SUCCESS;
}

int cudaStreamSynchronize(uint64_t handle)
{
	struct stream *stream = find(handle);

	calls++;
	if (!stream)
		return BAD_HANDLE;
	if (stream->captured)
		return CAPTURING;
	perform(stream->last);
	return SUCCESS;
}

int cudaStreamQuery(uint64_t handle)
{
	struct stream *stream = find(handle);

	calls++;
	if (!stream)
		return BAD_HANDLE;
	if (stream->captured)
		return CAPTURING;
	dice = dice * 1103515245 + 12345;
	if (stream->last >= 0 && !ops[stream->last].done && dice & 0x10000)
		return NOT_READY;
	perform(stream->last);
	return SUCCESS;
}

int cudaDeviceSynchronize(void)
{
	calls++;
	for (int i = 0; i < STREAMS; i++)
		if (streams[i].used && streams[i].device == device && streams[i].captured)
			return CAPTURING;
	for (int i = 0; i < STREAMS; i++)
		if (streams[i].used && streams[i].device == device)
			perform(streams[i].last);
	for (int i = 0; i < orphan_count; i++)
		if (orphan_device[i] == device)
			perform(orphans[i]);
	return SUCCESS;
}

static struct event *event_of(uint64_t handle)
{
	return handle >> 8 == 0x52 && (handle & 0xff) < EVENTS ? &events[handle & 0xff] : NULL;
}

int cudaEventRecord(uint64_t handle, uint64_t stream_handle)
{
	struct stream *stream = find(stream_handle);
	struct event *event = event_of(handle);

	calls++;
	if (!event || !stream)
		return BAD_HANDLE;
	if (legacy_is_unusable(stream))
		return IMPLICIT;
	event->captured = stream->captured;
	event->op = stream->captured ? -1 : put(stream, -1, -1);
	return SUCCESS;
}

int cudaEventSynchronize(uint64_t handle)
{
	struct event *event = event_of(handle);

	calls++;
	if (!event)
		return BAD_HANDLE;
	if (event->captured)
		return CAPTURING;
	perform(event->op);
	return SUCCESS;
}

int cudaStreamWaitEvent(uint64_t stream_handle, uint64_t handle, unsigned int flags)
{
	struct stream *stream = find(stream_handle);
	struct event *event = event_of(handle);
	int joins = 0;

	calls++;
	if (!event || !stream)
		return BAD_HANDLE;
	for (int i = 0; event->captured && i < STREAMS; i++)
		joins |= streams[i].used && streams[i].captured == event->captured;
	if (legacy_is_unusable(stream) || (event->captured && (!joins || is_legacy(stream))) ||
	    (stream->captured && stream->captured != event->captured))
		return CAPTURING;
	if (joins)
		stream->captured = event->captured;
	else if (event->op >= 0) /* else it was never recorded, and this does nothing */
		put(stream, -1, event->op);
	return SUCCESS;
}

int cudaStreamBeginCapture(uint64_t handle, int mode)
{
	struct stream *stream = find(handle);

	calls++;
	if (!stream || is_legacy(stream) || stream->captured)
		return CAPTURING;
	stream->captured = ++captures;
	return SUCCESS;
}

int cudaStreamEndCapture(uint64_t handle, void **graph)
{
	struct stream *stream = find(handle);
	int capture = stream ? stream->captured : 0;

	calls++;
	if (!capture)
		return 401; /* cudaErrorIllegalState */
	for (int i = 0; i < STREAMS; i++)
		if (streams[i].captured == capture)
			streams[i].captured = 0;
	*graph = (void *)0x5555;
	return SUCCESS;
}
