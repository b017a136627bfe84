/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * streams.h - which CUDA functions put work into streams, which wait for it, and what a call of one
 * says: read from the words of its call and return by the layout of table.h. Stateless.
 *
 * What they do is as the comments of cuda_runtime_api.h (13.0) document it, "API synchronization
 * behavior" above all. What waits only "perhaps" (cudaFree) waits for nothing here.
 */
#ifndef PT_CUDA_STREAMS_H
#define PT_CUDA_STREAMS_H

#include "cuda/table.h"

enum pt_cuda_stream_what {
	PT_CUDA_STREAM_NOTHING,
	PT_CUDA_STREAM_KERNEL, /* these four put work into a stream */
	PT_CUDA_STREAM_GRAPH,
	PT_CUDA_STREAM_COPY,
	PT_CUDA_STREAM_SET,
	PT_CUDA_STREAM_SYNC,       /* if it succeeds, what was in the stream is done */
	PT_CUDA_STREAM_SYNC_EVENT, /* likewise: what was before the event */
	PT_CUDA_STREAM_SYNC_DEVICE,
	PT_CUDA_STREAM_RECORD, /* an event is put into a stream */
	PT_CUDA_STREAM_WAIT,   /* what the stream gets later waits for the event */
	PT_CUDA_STREAM_EVENT,  /* an event is made or destroyed */
	PT_CUDA_STREAM_NODE,   /* a graph records an event from now on, whenever it is launched */
	PT_CUDA_STREAM_MADE,
	PT_CUDA_STREAM_FLAGS, /* those of a stream are known */
	PT_CUDA_STREAM_GONE,
	PT_CUDA_STREAM_CAPTURE, /* what the stream gets makes a graph, and is not done */
	PT_CUDA_STREAM_CAPTURE_END,
	PT_CUDA_STREAM_RESET,   /* all that a device does ends */
	PT_CUDA_STREAM_CONTEXT, /* a context besides the devices' primary ones */
};

enum pt_cuda_stream_kind {
	PT_CUDA_STREAM_NAMED, /* it has a handle */
	PT_CUDA_STREAM_LEGACY,
	PT_CUDA_STREAM_PER_THREAD,
};

struct pt_cuda_stream {
	enum pt_cuda_stream_kind kind;
	uint64_t handle; /* of a NAMED one; of one that is made at the return */
	uint64_t event;
	int device;       /* RESET: that it names; -1: the thread's */
	uint64_t kernel;  /* the address that it was launched by */
	bool external;    /* RECORD: if it is captured, it is as a NODE */
	bool no_blocking; /* MADE, FLAGS: it does not wait for the legacy stream */
	/* COPY: when the call returns, what was in the stream is done */
	bool waits;
	/* and so is the copy, with all that it had to wait for */
	bool waits_all;
	bool host_only; /* COPY: it is none for the device */
};

enum pt_cuda_stream_what pt_cuda_stream_what(const char *symbol);
/* in: the words of the call, as many as pt_cuda_in_words() says; out: those of the return, or NULL
 * if it has not returned. False: what it did cannot be told. */
bool pt_cuda_stream_read(const char *symbol, const struct pt_cuda_layout *layout,
			 const uint64_t *in, const uint64_t *out, struct pt_cuda_stream *stream);

#endif
