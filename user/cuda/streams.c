// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * One row a function, without the suffixes of its forms (_v2, _ptsz); copies and sets, of which
 * there are many, are known by how their names begin.
 */
#include "cuda/streams.h"

#include <stdlib.h>
#include <string.h>

/* Handles that name no stream of their own (driver_types.h: cudaStreamLegacy, ..PerThread). */
#define HANDLE_LEGACY     1
#define HANDLE_PER_THREAD 2
#define NON_BLOCKING      1 /* cudaStreamNonBlocking, CU_STREAM_NON_BLOCKING */
#define EXTERNAL          1 /* cudaEventRecordExternal, CU_EVENT_RECORD_EXTERNAL */

static const struct row {
	const char *name;
	enum pt_cuda_stream_what what;
} rows[] = {
    /* sorted by name */
    {"cuCtxCreate", PT_CUDA_STREAM_CONTEXT},
    {"cuCtxDestroy", PT_CUDA_STREAM_CONTEXT},
    {"cuCtxDetach", PT_CUDA_STREAM_CONTEXT},
    {"cuCtxFromGreenCtx", PT_CUDA_STREAM_CONTEXT},
    {"cuCtxRecordEvent", PT_CUDA_STREAM_CONTEXT},
    {"cuCtxSynchronize", PT_CUDA_STREAM_SYNC_DEVICE},
    {"cuCtxWaitEvent", PT_CUDA_STREAM_CONTEXT},
    {"cuDevicePrimaryCtxReset", PT_CUDA_STREAM_RESET},
    {"cuEventCreate", PT_CUDA_STREAM_EVENT},
    {"cuEventDestroy", PT_CUDA_STREAM_EVENT},
    {"cuEventQuery", PT_CUDA_STREAM_SYNC_EVENT},
    {"cuEventRecord", PT_CUDA_STREAM_RECORD},
    {"cuEventRecordWithFlags", PT_CUDA_STREAM_RECORD},
    {"cuEventSynchronize", PT_CUDA_STREAM_SYNC_EVENT},
    {"cuGraphAddEventRecordNode", PT_CUDA_STREAM_NODE},
    {"cuGraphEventRecordNodeSetEvent", PT_CUDA_STREAM_NODE},
    {"cuGraphExecEventRecordNodeSetEvent", PT_CUDA_STREAM_NODE},
    {"cuGraphLaunch", PT_CUDA_STREAM_GRAPH},
    {"cuGreenCtxCreate", PT_CUDA_STREAM_CONTEXT},
    {"cuGreenCtxRecordEvent", PT_CUDA_STREAM_CONTEXT},
    {"cuGreenCtxStreamCreate", PT_CUDA_STREAM_CONTEXT},
    {"cuGreenCtxWaitEvent", PT_CUDA_STREAM_CONTEXT},
    {"cuLaunchCooperativeKernel", PT_CUDA_STREAM_KERNEL},
    {"cuLaunchKernel", PT_CUDA_STREAM_KERNEL},
    {"cuLaunchKernelEx", PT_CUDA_STREAM_KERNEL},
    {"cuStreamBeginCapture", PT_CUDA_STREAM_CAPTURE},
    {"cuStreamBeginCaptureToGraph", PT_CUDA_STREAM_CAPTURE},
    {"cuStreamCreate", PT_CUDA_STREAM_MADE},
    {"cuStreamCreateWithPriority", PT_CUDA_STREAM_MADE},
    {"cuStreamDestroy", PT_CUDA_STREAM_GONE},
    {"cuStreamEndCapture", PT_CUDA_STREAM_CAPTURE_END},
    {"cuStreamGetFlags", PT_CUDA_STREAM_FLAGS},
    {"cuStreamQuery", PT_CUDA_STREAM_SYNC},
    {"cuStreamSynchronize", PT_CUDA_STREAM_SYNC},
    {"cuStreamWaitEvent", PT_CUDA_STREAM_WAIT},
    {"cudaDeviceReset", PT_CUDA_STREAM_RESET},
    {"cudaDeviceSynchronize", PT_CUDA_STREAM_SYNC_DEVICE},
    {"cudaEventCreate", PT_CUDA_STREAM_EVENT},
    {"cudaEventCreateWithFlags", PT_CUDA_STREAM_EVENT},
    {"cudaEventDestroy", PT_CUDA_STREAM_EVENT},
    {"cudaEventQuery", PT_CUDA_STREAM_SYNC_EVENT},
    {"cudaEventRecord", PT_CUDA_STREAM_RECORD},
    {"cudaEventRecordWithFlags", PT_CUDA_STREAM_RECORD},
    {"cudaEventSynchronize", PT_CUDA_STREAM_SYNC_EVENT},
    {"cudaGraphAddEventRecordNode", PT_CUDA_STREAM_NODE},
    {"cudaGraphEventRecordNodeSetEvent", PT_CUDA_STREAM_NODE},
    {"cudaGraphExecEventRecordNodeSetEvent", PT_CUDA_STREAM_NODE},
    {"cudaGraphLaunch", PT_CUDA_STREAM_GRAPH},
    {"cudaLaunchCooperativeKernel", PT_CUDA_STREAM_KERNEL},
    {"cudaLaunchKernel", PT_CUDA_STREAM_KERNEL},
    {"cudaLaunchKernelExC", PT_CUDA_STREAM_KERNEL},
    {"cudaStreamBeginCapture", PT_CUDA_STREAM_CAPTURE},
    {"cudaStreamBeginCaptureToGraph", PT_CUDA_STREAM_CAPTURE},
    {"cudaStreamCreate", PT_CUDA_STREAM_MADE},
    {"cudaStreamCreateWithFlags", PT_CUDA_STREAM_MADE},
    {"cudaStreamCreateWithPriority", PT_CUDA_STREAM_MADE},
    {"cudaStreamDestroy", PT_CUDA_STREAM_GONE},
    {"cudaStreamEndCapture", PT_CUDA_STREAM_CAPTURE_END},
    {"cudaStreamGetFlags", PT_CUDA_STREAM_FLAGS},
    {"cudaStreamQuery", PT_CUDA_STREAM_SYNC},
    {"cudaStreamSynchronize", PT_CUDA_STREAM_SYNC},
    {"cudaStreamWaitEvent", PT_CUDA_STREAM_WAIT},
    {"cudaThreadSynchronize", PT_CUDA_STREAM_SYNC_DEVICE},
};

static int compare(const void *key, const void *row)
{
	return strcmp(key, ((const struct row *)row)->name);
}

static bool begins_with(const char *text, const char *start)
{
	return !strncmp(text, start, strlen(start));
}

enum pt_cuda_stream_what pt_cuda_stream_what(const char *symbol)
{
	char name[PT_CUDA_SYMBOL_BYTES];
	const struct row *row;

	pt_cuda_base_name(symbol, name);
	/* its argument, a context, is not that of the thread */
	if (!strcmp(symbol, "cuCtxSynchronize_v2"))
		return PT_CUDA_STREAM_NOTHING;
	if (begins_with(name, "cudaMemcpy") || begins_with(name, "cuMemcpy"))
		return PT_CUDA_STREAM_COPY;
	if (begins_with(name, "cudaMemset") || begins_with(name, "cuMemset"))
		return PT_CUDA_STREAM_SET;
	row = bsearch(name, rows, sizeof(rows) / sizeof(rows[0]), sizeof(rows[0]), compare);
	return row ? row->what : PT_CUDA_STREAM_NOTHING;
}

/* ---- arguments ---- */

struct words {
	const struct pt_cuda_layout *layout;
	const uint64_t *in, *out;
};

static bool get(const struct words *words, const char *name, uint64_t *value)
{
	return pt_cuda_argument(words->layout, name, words->in, words->out, value);
}

/* The block that an argument with one of these codes points to; NULL: there is none. */
static const uint64_t *block(const struct words *words, const char *codes)
{
	const struct pt_cuda_layout *layout = words->layout;

	for (unsigned int i = 0; i < layout->arg_count; i++)
		if (strchr(codes, layout->args[i].code) && layout->args[i].word >= 0)
			return &words->in[layout->regs + layout->stack];
	return NULL;
}

static bool has_suffix(const char *symbol, const char *suffix)
{
	size_t len = strlen(symbol), suffix_len = strlen(suffix);

	return len > suffix_len && !strcmp(symbol + len - suffix_len, suffix);
}

static void set_stream(struct pt_cuda_stream *stream, const char *symbol, uint64_t handle)
{
	bool per_thread = has_suffix(symbol, "_ptsz") || has_suffix(symbol, "_ptds");

	stream->handle = 0;
	if (handle == HANDLE_PER_THREAD || (!handle && per_thread))
		stream->kind = PT_CUDA_STREAM_PER_THREAD;
	else if (handle <= HANDLE_LEGACY)
		stream->kind = PT_CUDA_STREAM_LEGACY;
	else
		stream->handle = handle;
}

/* False: a stream should be named, and what it is is not known. */
static bool read_stream(const struct words *words, const char *symbol,
			struct pt_cuda_stream *stream)
{
	static const char *const names[] = {"stream", "hStream"};
	const uint64_t *config = block(words, "CD");
	uint64_t handle = 0;

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (!pt_cuda_arg_find(words->layout, names[i]))
			continue;
		if (!get(words, names[i], &handle))
			return false;
		set_stream(stream, symbol, handle);
		return true;
	}
	set_stream(stream, symbol, config ? config[4] : 0);
	return true;
}

/* cudaMemcpyKind; -1: not known. */
static int copy_kind(const struct words *words, const char *symbol)
{
	const uint64_t *params = block(words, "M");
	uint64_t kind;

	if (get(words, "kind", &kind))
		return (int)kind;
	if (params)
		return (int)params[3];
	if (strstr(symbol, "DtoH") || strstr(symbol, "AtoH"))
		return 2;
	if (strstr(symbol, "HtoD") || strstr(symbol, "HtoA"))
		return 1;
	return -1;
}

/* From host to device only what was there before is waited for: the last piece may be under way. */
static void read_copy(const struct words *words, const char *symbol, struct pt_cuda_stream *stream)
{
	int kind = copy_kind(words, symbol);

	stream->host_only = kind == 0;
	if (strstr(symbol, "Async"))
		return;
	stream->waits_all = kind == 2;
	stream->waits = kind == 1 || kind == 2;
}

static void read_kernel(const struct words *words, struct pt_cuda_stream *stream)
{
	const struct pt_cuda_layout *layout = words->layout;

	for (unsigned int i = 0; i < layout->arg_count; i++)
		if (layout->args[i].code == 'k' && layout->args[i].word >= 0)
			stream->kernel = words->in[layout->args[i].word];
}

static bool read_event(const struct words *words, struct pt_cuda_stream *stream)
{
	static const char *const names[] = {"event", "hEvent", "phEvent"};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (get(words, names[i], &stream->event))
			return true;
	return !words->out; /* that of one to be made comes at the return */
}

static bool read_made(const struct words *words, struct pt_cuda_stream *stream)
{
	uint64_t flags = 0;

	get(words, "flags", &flags);
	get(words, "Flags", &flags);
	stream->no_blocking = flags & NON_BLOCKING;
	return !words->out || get(words, "pStream", &stream->handle) ||
	       get(words, "phStream", &stream->handle);
}

bool pt_cuda_stream_read(const char *symbol, const struct pt_cuda_layout *layout,
			 const uint64_t *in, const uint64_t *out, struct pt_cuda_stream *stream)
{
	const struct words words = {layout, in, out};
	uint64_t flags, device;

	*stream = (struct pt_cuda_stream){.kind = PT_CUDA_STREAM_NAMED, .device = -1};
	switch (pt_cuda_stream_what(symbol)) {
	case PT_CUDA_STREAM_KERNEL:
		read_kernel(&words, stream);
		return read_stream(&words, symbol, stream);
	case PT_CUDA_STREAM_COPY:
		read_copy(&words, symbol, stream);
		return read_stream(&words, symbol, stream);
	case PT_CUDA_STREAM_GRAPH:
	case PT_CUDA_STREAM_SET:
	case PT_CUDA_STREAM_SYNC:
	case PT_CUDA_STREAM_GONE:
	case PT_CUDA_STREAM_CAPTURE:
	case PT_CUDA_STREAM_CAPTURE_END:
		return read_stream(&words, symbol, stream);
	case PT_CUDA_STREAM_FLAGS:
		if (out && !get(&words, "flags", &flags))
			return false;
		stream->no_blocking = out && flags & NON_BLOCKING;
		return read_stream(&words, symbol, stream);
	case PT_CUDA_STREAM_RECORD:
		stream->external = get(&words, "flags", &flags) && flags & EXTERNAL;
		return read_stream(&words, symbol, stream) && read_event(&words, stream);
	case PT_CUDA_STREAM_WAIT:
		return read_stream(&words, symbol, stream) && read_event(&words, stream);
	case PT_CUDA_STREAM_SYNC_EVENT:
	case PT_CUDA_STREAM_EVENT:
	case PT_CUDA_STREAM_NODE:
		return read_event(&words, stream);
	case PT_CUDA_STREAM_MADE:
		return read_made(&words, stream);
	case PT_CUDA_STREAM_RESET:
		if (get(&words, "dev", &device))
			stream->device = (int)device;
		return true;
	case PT_CUDA_STREAM_NOTHING:
	case PT_CUDA_STREAM_SYNC_DEVICE:
	case PT_CUDA_STREAM_CONTEXT:
		break;
	}
	return true;
}
