// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * Calls that allocate and free CUDA memory, as they come in a thread. Only calls that no other CUDA
 * call makes count, so nothing counts twice, whatever --cuda records. What NCCL calls does count.
 * What PyTorch's allocators say comes as blocks, which are no calls.
 *
 * They are taken as they come, also where the thread's stack is not known yet.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "model/memory_priv.h"

/* The outermost call under way. */
struct memory_thread {
	uint32_t outer; /* calls of NCCL that it lies in */
	bool open;
	uint32_t fn;
	uint64_t call;
	struct pt_ev_cuda begin;
	const struct pt_stack *stack;
	int device;                          /* that the thread has set last; -1 unknown */
	struct model_call_stack *next_stack; /* on which the next call is made; NULL: not known */
};

/* ---- calls ---- */

static struct memory_thread *thread_get(struct pt_model *model, struct model_thread *thread)
{
	if (!thread->memory) {
		thread->memory = calloc(1, sizeof(*thread->memory));
		if (!thread->memory)
			model_fail(model, -ENOMEM);
		else
			thread->memory->device = PT_CUDA_DEVICE_UNKNOWN;
	}
	return thread->memory;
}

static bool allocates_or_frees(enum pt_cuda_memory_what what)
{
	return what <= PT_CUDA_MEMORY_UNMAP;
}

static void fill(struct memory_event *event, struct model_thread *thread,
		 const struct model_cuda_memory *fn, uint64_t ns)
{
	const struct memory_thread *own = thread->memory;

	*event = (struct memory_event){
	    .time_ns = ns,
	    .what = pt_cuda_memory_what(fn->call),
	    .process = thread->process,
	    .tid = thread->tid,
	    .call = own->call,
	    .device = own->device,
	    .api = fn->api,
	    .symbol = fn->symbol,
	    .stack = own->stack,
	};
}

/* The call under way will not be seen to return. */
static void cut(struct pt_model *model, struct model_thread *thread, uint64_t ns)
{
	struct memory_event event;
	struct model_cuda_memory fn;

	thread->memory->open = false;
	if (!model_cuda_memory(model, thread->memory->fn, &fn))
		return;
	fill(&event, thread, &fn, ns);
	event.type = EVENT_CUT;
	if (allocates_or_frees(event.what))
		model_memory_push(model, &event);
	else if (event.what == PT_CUDA_MEMORY_DEVICE)
		thread->memory->device = PT_CUDA_DEVICE_UNKNOWN;
}

void model_memory_interrupted(struct pt_model *model, struct model_thread *thread, uint64_t ns)
{
	if (thread->memory->open)
		cut(model, thread, ns);
	thread->memory->device = PT_CUDA_DEVICE_UNKNOWN;
}

void model_memory_release(struct pt_model *model, struct model_thread *thread, uint64_t ns)
{
	if (thread->memory->open)
		cut(model, thread, ns);
	free(thread->memory);
	thread->memory = NULL;
}

static bool read_call(const struct model_cuda_memory *fn, const struct pt_ev_cuda *begin,
		      const struct pt_ev_cuda *end, struct pt_cuda_memory *memory)
{
	if (!fn->layout || begin->words != pt_cuda_in_words(fn->layout) ||
	    (end && end->words != fn->layout->out_count))
		return false;
	return pt_cuda_memory_read(fn->call, fn->layout, begin->word, end ? end->word : NULL,
				   memory);
}

static void begin(struct pt_model *model, struct model_thread *thread, const struct pt_ev *ev)
{
	struct model_cuda_memory fn;
	struct memory_thread *own;
	struct memory_event event;

	if (thread->memory && thread->memory->open)
		cut(model, thread, ev->time_ns);
	if (!model_cuda_memory(model, ev->cuda.fn, &fn))
		return;
	own = thread_get(model, thread);
	if (!own)
		return;
	own->open = true;
	own->fn = ev->cuda.fn;
	own->call = model_memory_next_call(model);
	own->begin = ev->cuda;
	own->stack = allocates_or_frees(pt_cuda_memory_what(fn.call))
			 ? model_memory_stack(model, thread, own->next_stack)
			 : NULL;
	fill(&event, thread, &fn, ev->time_ns);
	event.type = EVENT_ASK;
	if (event.what == PT_CUDA_MEMORY_FREE && read_call(&fn, &own->begin, NULL, &event.memory))
		model_memory_push(model, &event);
}

/* What the call says of the thread's device; true: it says nothing else. */
static bool take_device(struct memory_thread *own, enum pt_cuda_memory_what what, bool known,
			const struct pt_cuda_memory *memory)
{
	if (what != PT_CUDA_MEMORY_DEVICE && what != PT_CUDA_MEMORY_DEVICE_UNKNOWN)
		return false;
	own->device = what == PT_CUDA_MEMORY_DEVICE && known ? memory->device
							     : PT_CUDA_DEVICE_UNKNOWN;
	return true;
}

static void end(struct pt_model *model, struct model_thread *thread, const struct pt_ev *ev)
{
	struct memory_thread *own = thread->memory;
	struct model_cuda_memory fn;
	struct memory_event event;
	bool known;

	if (!own || !own->open || own->fn != ev->cuda.fn ||
	    !model_cuda_memory(model, ev->cuda.fn, &fn))
		return; /* its call was not seen */
	own->open = false;
	fill(&event, thread, &fn, ev->time_ns);
	event.code = ev->cuda.code;
	known = read_call(&fn, &own->begin, &ev->cuda, &event.memory);
	if (!event.code && take_device(own, event.what, known, &event.memory))
		return;
	if (!allocates_or_frees(event.what) && (event.code || !known))
		return;
	event.type = known ? EVENT_DONE : EVENT_BLIND;
	model_memory_push(model, &event);
	if (event.what == PT_CUDA_MEMORY_CONTEXT)
		own->device = PT_CUDA_DEVICE_UNKNOWN;
}

/* ---- PyTorch's allocators ---- */

static void block(struct pt_model *model, struct model_thread *thread, const struct pt_ev *ev)
{
	const struct pt_ev_block *block = &ev->block;
	bool device = block->what == PT_BLOCK_DEVICE;
	struct memory_thread *own = thread_get(model, thread);
	struct memory_event event;

	if (!own || !block->address)
		return; /* of no bytes */
	event = (struct memory_event){
	    .time_ns = ev->time_ns,
	    .what = block->bytes > 0 ? PT_CUDA_MEMORY_ALLOC : PT_CUDA_MEMORY_FREE,
	    .memory = {.space = device ? PT_CUDA_SPACE_BLOCK : PT_CUDA_SPACE_HOST_BLOCK,
		       .kind = device ? PT_CUDA_KIND_TORCH : PT_CUDA_KIND_TORCH_HOST,
		       .address = block->address,
		       .bytes = block->bytes > 0 ? (uint64_t)block->bytes : 0,
		       .device = device ? block->device : PT_CUDA_DEVICE_UNKNOWN},
	    .process = thread->process,
	    .tid = thread->tid,
	    .call = model_memory_next_call(model),
	    .device = PT_CUDA_DEVICE_UNKNOWN,
	    .symbol = device ? "c10::reportMemoryUsageToProfiler"
			     : "c10::ProfiledCPUMemoryReporter::Delete",
	    .stack = model_memory_stack(model, thread, own->next_stack),
	};
	if (event.what == PT_CUDA_MEMORY_FREE) {
		event.type = EVENT_ASK;
		model_memory_push(model, &event);
	}
	event.type = EVENT_DONE;
	model_memory_push(model, &event);
}

/* Which stack the call has that comes next. */
static void next_stack(struct pt_model *model, struct model_thread *thread, uint32_t serial)
{
	struct memory_thread *own = thread_get(model, thread);

	if (own)
		own->next_stack = model_stack_find(thread, serial);
}

static void call_event(struct pt_model *model, struct model_thread *thread,
		       const struct pt_ev *event)
{
	bool open = thread->memory && thread->memory->open;
	struct memory_thread *own;

	if (!model_cuda_is_call(event))
		return;
	own = thread_get(model, thread);
	if (!own)
		return;
	switch (model_cuda_place(model, &own->outer, event)) {
	case CUDA_AROUND:
		if (open && event->cuda.level <= own->outer)
			cut(model, thread, event->time_ns);
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

void model_memory_event(struct pt_model *model, struct model_thread *thread,
			const struct pt_ev *event)
{
	if (event->kind == PT_EV_STACK) {
		next_stack(model, thread, event->serial);
		return;
	}
	if (event->kind == PT_EV_BLOCK)
		block(model, thread, event);
	else
		call_event(model, thread, event);
	if (thread->memory)
		thread->memory->next_stack = NULL; /* it was this call's */
}
