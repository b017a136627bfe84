/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * gpu_priv.h - what gpu_calls.c (calls become events) and gpu_bounds.c (events in order of time
 * become bounds) share.
 */
#ifndef PT_MODEL_GPU_PRIV_H
#define PT_MODEL_GPU_PRIV_H

#include "cuda/streams.h"
#include "model/model_priv.h"

enum gpu_event_type {
	GPU_BEGIN,  /* a call begins: what is before it now is so for sure */
	GPU_DONE,   /* and has returned */
	GPU_CUT,    /* that it returns will not be seen */
	GPU_DEVICE, /* the number of a device is known now */
	GPU_FORGET, /* what happened from now to until_ns is not known */
	GPU_PAUSE,  /* likewise, and when it ends is not known yet */
	GPU_RESUME,
	GPU_GONE, /* the process has ended, or runs another image */
};

/* Devices by number; below 0: one that is not known, each a number of its own. */
typedef int64_t gpu_device;

struct gpu_event {
	uint64_t time_ns, order; /* a struct pt_heap_key */
	enum gpu_event_type type;
	enum pt_cuda_stream_what what;
	struct gpu_process *process;
	pid_t tid;
	gpu_device device;       /* the thread's */
	uint64_t call, begin_ns; /* its correlation id */
	int code;                /* DONE */
	bool readable;           /* stream is set */
	struct pt_cuda_stream stream;
	const char *symbol, *kernel; /* kernel NULL: not known, or none; they live with the model */
	pid_t track;                 /* of the call's slice; 0: it is not in the trace */
	int number;                  /* DEVICE */
	uint64_t until_ns;           /* FORGET */
	const char *why;
};

/* ---- gpu_bounds.c ---- */
/* NULL: no memory. */
struct gpu_process *model_gpu_process(struct pt_model *model, struct model_process *process);
/* The event is copied. */
void model_gpu_push(struct pt_model *model, const struct gpu_event *event);
/* For a device that is not known. */
gpu_device model_gpu_new_device(struct pt_model *model);

#endif
