// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * Calls that put work into streams or wait for it, as they come in a thread: only those that no
 * other CUDA call makes. Which device a thread uses is known from its calls alone, so it is
 * followed here, where they come in order.
 */
#include <errno.h>
#include <stdlib.h>

#include "cuda/memory.h"
#include "model/gpu_priv.h"

/* The outermost call under way. */
struct gpu_thread {
	uint32_t outer; /* calls of NCCL that it lies in */
	bool open;
	gpu_device device;
	uint64_t device_ns;     /* when that came to be known */
	struct gpu_event event; /* of its begin */
	struct pt_ev_cuda begin;
};

static void set_device(struct gpu_thread *own, gpu_device device, uint64_t ns)
{
	own->device = device;
	own->device_ns = ns;
}

static struct gpu_thread *thread_get(struct pt_model *model, struct model_thread *thread)
{
	if (!thread->gpu) {
		thread->gpu = calloc(1, sizeof(*thread->gpu));
		if (!thread->gpu)
			model_fail(model, -ENOMEM);
		else
			set_device(thread->gpu, model_gpu_new_device(model), 0);
	}
	return thread->gpu;
}

/* While nothing was recorded it may have changed. */
static void check_device(struct pt_model *model, struct gpu_thread *own, uint64_t ns)
{
	if (own->device_ns <= model->last_pause_ns && ns > model->last_pause_ns)
		set_device(own, model_gpu_new_device(model), ns);
}

static void cut(struct pt_model *model, struct gpu_thread *own, uint64_t ns)
{
	own->open = false;
	own->event.type = GPU_CUT;
	own->event.time_ns = ns;
	model_gpu_push(model, &own->event);
}

static void begin(struct pt_model *model, struct model_thread *thread, const struct pt_ev *ev)
{
	struct gpu_thread *own = thread->gpu;
	struct gpu_event *event = &own->event;
	struct model_cuda_stream fn;

	if (own->open)
		cut(model, own, ev->time_ns);
	if (!model_cuda_stream(model, ev->cuda.fn, &fn))
		return;
	check_device(model, own, ev->time_ns);
	*event = (struct gpu_event){
	    .time_ns = ev->time_ns,
	    .type = GPU_BEGIN,
	    .what = fn.what,
	    .process = model_gpu_process(model, thread->process),
	    .tid = thread->tid,
	    .device = own->device,
	    .call = ev->cuda.correlation,
	    .begin_ns = ev->time_ns,
	    .symbol = fn.symbol,
	};
	if (!event->process)
		return;
	own->open = true;
	own->begin = ev->cuda;
	event->readable = fn.layout && ev->cuda.words == pt_cuda_in_words(fn.layout) &&
			  pt_cuda_stream_read(fn.symbol, fn.layout, ev->cuda.word, NULL,
					      &event->stream);
	if (fn.what != PT_CUDA_STREAM_NOTHING)
		model_gpu_push(model, event);
}

/* What the call says of the thread's device. */
static void take_device(struct pt_model *model, struct gpu_thread *own, const struct pt_ev *ev)
{
	const struct pt_cuda_arg *arg;
	struct model_cuda_memory fn;
	struct pt_cuda_memory memory;
	enum pt_cuda_memory_what what;
	struct gpu_event event = own->event;

	if (!model_cuda_memory(model, ev->cuda.fn, &fn))
		return;
	what = pt_cuda_memory_what(fn.call);
	if (what == PT_CUDA_MEMORY_DEVICE_UNKNOWN)
		set_device(own, model_gpu_new_device(model), ev->time_ns);
	if (what != PT_CUDA_MEMORY_DEVICE)
		return;
	if (!fn.layout || own->begin.words != pt_cuda_in_words(fn.layout) ||
	    ev->cuda.words != fn.layout->out_count ||
	    !pt_cuda_memory_read(fn.call, fn.layout, own->begin.word, ev->cuda.word, &memory)) {
		set_device(own, model_gpu_new_device(model), ev->time_ns);
		return;
	}
	arg = pt_cuda_arg_find(fn.layout, "device");
	if (own->device < 0 && arg && arg->out) { /* it was that one all the time */
		event.type = GPU_DEVICE;
		event.time_ns = ev->time_ns;
		event.number = memory.device;
		model_gpu_push(model, &event);
	}
	set_device(own, memory.device, ev->time_ns);
}

/* The call's slice is in the trace: what leaves it out is model_span_end()'s and span_emit()'s. */
static bool is_shown(const struct pt_model *model, const struct gpu_event *event)
{
	return event->begin_ns >= model->clear_ns &&
	       event->time_ns - event->begin_ns >= model->options.min_duration_ns;
}

static void end(struct pt_model *model, struct model_thread *thread, const struct pt_ev *ev)
{
	struct gpu_thread *own = thread->gpu;
	struct gpu_event *event = &own->event;
	struct model_cuda_stream fn;
	bool known;

	if (!own->open || own->begin.fn != ev->cuda.fn ||
	    !model_cuda_stream(model, ev->cuda.fn, &fn))
		return; /* its call was not seen */
	own->open = false;
	if (!ev->cuda.code)
		take_device(model, own, ev);
	if (fn.what == PT_CUDA_STREAM_NOTHING)
		return;
	event->type = GPU_DONE;
	event->time_ns = ev->time_ns;
	event->code = ev->cuda.code;
	if (event->readable && !ev->cuda.code)
		event->readable = ev->cuda.words == fn.layout->out_count &&
				  pt_cuda_stream_read(fn.symbol, fn.layout, own->begin.word,
						      ev->cuda.word, &event->stream);
	if (event->readable && event->stream.kernel)
		event->kernel = model_kernel_name(model, thread->process, event->stream.kernel,
						  event->begin_ns, &known);
	if (is_shown(model, event))
		event->track = model_greenlet_track(model, thread);
	model_gpu_push(model, event);
}

void model_gpu_event(struct pt_model *model, struct model_thread *thread, const struct pt_ev *event)
{
	struct gpu_thread *own;

	if (!model_cuda_is_call(event))
		return;
	own = thread_get(model, thread);
	if (!own)
		return;
	switch (model_cuda_place(model, &own->outer, event)) {
	case CUDA_AROUND:
		if (own->open && event->cuda.level <= own->outer)
			cut(model, own, event->time_ns);
		break;
	case CUDA_OUTERMOST:
		if (event->kind == PT_EV_CUDA_BEGIN)
			begin(model, thread, event);
		else
			end(model, thread, event);
		break;
	case CUDA_WITHIN:
		break;
	}
}

void model_gpu_interrupted(struct pt_model *model, struct model_thread *thread, uint64_t from_ns,
			   uint64_t until_ns)
{
	struct gpu_thread *own = thread->gpu;

	if (from_ns < model->gate_open_ns)
		from_ns = model->gate_open_ns;
	if (own) {
		own->open = false;
		own->outer = 0;
		set_device(own, model_gpu_new_device(model), until_ns);
	}
	model_gpu_forget(model, thread->process, from_ns, until_ns, "events were lost");
}

void model_gpu_release(struct pt_model *model, struct model_thread *thread, uint64_t ns)
{
	if (thread->gpu->open)
		cut(model, thread->gpu, ns);
	free(thread->gpu);
	thread->gpu = NULL;
}
