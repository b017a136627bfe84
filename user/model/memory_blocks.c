// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * Blocks: what a call allocates, frees, maps and unmaps.
 */
#include <errno.h>
#include <stdlib.h>

#include "model/memory_parts.h"

/* Addresses that were freed last, to tell a second free from one of an unknown address. */
#define FREED_MAX    (1u << 14)
/* Streams 0, 1 and 2 are the default ones of a device (driver_types.h: cudaStreamLegacy ..). */
#define STREAM_NAMED 3
#define PLACE_ALIGN  512ull

static struct memory_usage *usage_get(struct pt_model *model, struct memory_process *own,
				      enum pt_cuda_memory_kind kind, int device)
{
	struct memory_usage *usage = own->usages;

	if (pt_cuda_kind_is_host(kind))
		device = PT_CUDA_DEVICE_UNKNOWN;
	while (usage && (usage->kind != kind || usage->device != device))
		usage = usage->next;
	if (usage)
		return usage;
	usage = calloc(1, sizeof(*usage));
	if (!usage) {
		model_fail(model, -ENOMEM);
		return NULL;
	}
	usage->kind = kind;
	usage->device = device;
	*own->usages_tail = usage;
	own->usages_tail = &usage->next;
	return usage;
}

/* It is there from now on. */
static void block_list(struct pt_model *model, struct memory_block *block, uint64_t ns)
{
	struct memory_process *own = block->owner;
	struct memory_usage *usage = block->usage;

	block->next = own->blocks;
	block->link = &own->blocks;
	if (block->next)
		block->next->link = &block->next;
	own->blocks = block;
	own->block_count++;
	if (!usage)
		return;
	usage->bytes += block->bytes;
	usage->blocks++;
	if (usage->bytes > usage->most)
		usage->most = usage->bytes;
	model_memory_changed(model, own, usage, ns);
}

/* It is gone. The table does not have it. */
static void block_gone(struct pt_model *model, struct memory_block *block,
		       const struct memory_event *event, bool known_caller)
{
	struct memory_process *own = block->owner;

	if (block->link) {
		*block->link = block->next;
		if (block->next)
			block->next->link = block->link;
		own->block_count--;
	}
	if (block->usage) {
		block->usage->bytes -= block->bytes;
		block->usage->blocks--;
		model_memory_changed(model, own, block->usage, event->time_ns);
		model_memory_emit_block(model, block, PT_MEMORY_FREE, known_caller ? event->tid : 0,
					event->time_ns, known_caller ? event->stack : NULL);
	}
	free(block);
}

/* It has an owner less; if that was the last one, it is gone. */
static void block_less(struct pt_model *model, struct memory_block *block,
		       const struct memory_event *event, bool known_caller)
{
	if (block->refs || block->maps || block->asks)
		return;
	block->owner->counts.frees += known_caller && block->usage;
	block_gone(model, block, event, known_caller);
}

static struct memory_block *block_new(struct pt_model *model, struct memory_process *own,
				      unsigned int space, uint64_t address)
{
	struct memory_block *block = calloc(1, sizeof(*block));

	if (!block) {
		model_fail(model, -ENOMEM);
		return NULL;
	}
	block->entry.process = own->process;
	block->entry.space = space;
	block->entry.address = address;
	block->owner = own;
	block->refs = 1;
	block->device = PT_CUDA_DEVICE_UNKNOWN;
	model_memory_table_add(model, &block->entry);
	return block;
}

static void forget_freed(struct model_memory *memory, const struct model_process *process,
			 unsigned int space, uint64_t address)
{
	struct memory_freed *freed = model_memory_table_find(memory, process, SPACE_FREED + space,
							     address);

	if (!freed)
		return;
	model_memory_table_remove(memory, &freed->entry);
	freed->used = false;
}

static void remember_freed(struct pt_model *model, const struct memory_event *event)
{
	struct model_memory *memory = model->memory;
	struct memory_freed *freed;

	if (!memory->freed)
		memory->freed = calloc(FREED_MAX, sizeof(*memory->freed));
	if (!memory->freed) {
		model_fail(model, -ENOMEM);
		return;
	}
	forget_freed(memory, event->process, event->memory.space, event->memory.address);
	freed = &memory->freed[memory->freed_next++ % FREED_MAX];
	if (freed->used)
		model_memory_table_remove(memory, &freed->entry);
	freed->used = true;
	freed->entry = (struct memory_entry){.process = event->process,
					     .space = SPACE_FREED + event->memory.space,
					     .address = event->memory.address};
	model_memory_table_add(model, &freed->entry);
}

/* ---- allocations ---- */

/* The block lies where it lay before a free of it began, but it is not in the table. */
static void take_back(struct model_memory *memory, struct memory_block *block)
{
	model_memory_table_remove(memory, &block->entry);
	block->entry.space -= SPACE_ASKED;
	block->asked_by = NULL;
}

/* The free that is under way has happened. */
static void prove(struct pt_model *model, struct memory_block *block,
		  const struct memory_event *event)
{
	struct memory_pending *pending = block->asked_by;
	struct memory_event freed = *event;

	freed.tid = pending->tid;
	freed.stack = pending->stack;
	pending->proved = true;
	pending->block = NULL;
	take_back(model->memory, block);
	block->asks--;
	block_less(model, block, &freed, true);
}

/* The address has been given out again, so what was there is gone. */
static void make_room(struct pt_model *model, struct memory_process *own,
		      const struct memory_event *event)
{
	const struct pt_cuda_memory *what = &event->memory;
	struct memory_block *asked = model_memory_table_find(
	    model->memory, event->process, SPACE_ASKED + what->space, what->address);
	struct memory_block *block = model_memory_table_find(model->memory, event->process,
							     what->space, what->address);

	if (asked)
		prove(model, asked, event);
	if (!block)
		return;
	model_memory_table_remove(model->memory, &block->entry);
	block->refs = 0;
	if (block->of) {
		block->of->maps--;
		block_less(model, block->of, event, false);
	}
	own->counts.unseen_frees += block->usage != NULL;
	block_less(model, block, event, false);
}

/* Of which device it is: the thread's, unless a stream or a pool says otherwise. */
static int device_of(const struct model_memory *memory, const struct memory_event *event)
{
	const struct memory_block *stream;

	if (event->memory.kind == PT_CUDA_KIND_PHYSICAL || event->memory.kind == PT_CUDA_KIND_TORCH)
		return event->memory.device;
	if (event->memory.from_pool)
		return PT_CUDA_DEVICE_UNKNOWN;
	if (event->memory.stream < STREAM_NAMED)
		return event->device;
	stream = model_memory_table_find(memory, event->process, PT_CUDA_SPACE_STREAM,
					 event->memory.stream);
	return stream ? stream->device : PT_CUDA_DEVICE_UNKNOWN;
}

/* Arrays and physical memory have handles. */
static uint64_t place_of(struct model_memory *memory, const struct pt_cuda_memory *what)
{
	uint64_t place = memory->next_place;

	if (what->space != PT_CUDA_SPACE_ARRAY && what->space != PT_CUDA_SPACE_MIPMAP &&
	    what->space != PT_CUDA_SPACE_PHYSICAL)
		return what->address;
	memory->next_place += (what->bytes / PLACE_ALIGN + 1) * PLACE_ALIGN;
	return place;
}

void model_memory_allocated(struct pt_model *model, struct memory_process *own,
			    const struct memory_event *event)
{
	const struct pt_cuda_memory *what = &event->memory;
	int device = device_of(model->memory, event);
	struct memory_usage *usage = usage_get(model, own, what->kind, device);
	struct memory_block *block;

	own->counts.allocations++;
	if (!what->address || !usage)
		return; /* of no bytes */
	make_room(model, own, event);
	forget_freed(model->memory, event->process, what->space, what->address);
	block = block_new(model, own, what->space, what->address);
	if (!block)
		return;
	block->usage = usage;
	block->bytes = what->bytes;
	block->stream = what->stream;
	block->place = place_of(model->memory, what);
	block->at_least = what->at_least;
	block->device = what->kind == PT_CUDA_KIND_PHYSICAL ? device : event->device;
	if (!pt_cuda_kind_is_host(what->kind))
		block->device = device;
	block->stack = event->stack;
	block_list(model, block, event->time_ns);
	model_memory_emit_block(model, block, PT_MEMORY_ALLOC, event->tid, event->time_ns,
				event->stack);
}

/* ---- frees ---- */

/* Takes a reference, and the block aside with the last one. */
static void ask(struct pt_model *model, struct memory_block *block, struct memory_pending *pending)
{
	block->asks++;
	if (--block->refs)
		return;
	model_memory_table_remove(model->memory, &block->entry);
	block->entry.space += SPACE_ASKED;
	block->asked_by = pending;
	model_memory_table_add(model, &block->entry);
}

void model_memory_free_asked(struct pt_model *model, const struct memory_event *event)
{
	struct model_memory *memory = model->memory;
	const struct pt_cuda_memory *what = &event->memory;
	struct memory_pending *pending = calloc(1, sizeof(*pending));

	if (!pending) {
		model_fail(model, -ENOMEM);
		return;
	}
	pending->block = model_memory_table_find(memory, event->process, what->space,
						 what->address);
	pending->was_freed = model_memory_table_find(memory, event->process,
						     SPACE_FREED + what->space,
						     what->address) != NULL;
	pending->tid = event->tid;
	pending->stack = event->stack;
	if (pending->block)
		ask(model, pending->block, pending);
	pending->entry = (struct memory_entry){
	    .process = event->process, .space = SPACE_PENDING, .address = event->call};
	model_memory_table_add(model, &pending->entry);
}

/* There is nothing at that address. */
static void free_of_none(struct pt_model *model, struct memory_process *own,
			 const struct memory_event *event, bool was_freed)
{
	*(was_freed ? &own->counts.double_frees : &own->counts.unknown_frees) += 1;
	model_memory_emit_instant(model, event,
				  was_freed ? "double free" : "free of an unknown address");
}

static void free_succeeded(struct pt_model *model, struct memory_process *own,
			   const struct memory_event *event, struct memory_block *block,
			   bool was_freed)
{
	if (!event->memory.address)
		return; /* does nothing */
	if (block) {
		if (!block->refs)
			remember_freed(model, event);
		block_less(model, block, event, true);
	} else {
		free_of_none(model, own, event, was_freed);
	}
}

/* It did not happen: what it took away is back, unless the address means something else now. */
static void free_undone(struct pt_model *model, struct memory_process *own,
			const struct memory_event *event, struct memory_block *block)
{
	if (block->refs++)
		return;
	if (model_memory_table_find(model->memory, event->process, block->entry.space,
				    block->entry.address)) {
		block->refs = 0;
		own->counts.unseen_frees++;
		block_less(model, block, event, false);
		return;
	}
	model_memory_table_add(model, &block->entry);
}

static void free_failed(struct pt_model *model, struct memory_process *own,
			const struct memory_event *event, struct memory_block *block,
			bool was_freed)
{
	own->counts.failed_frees++;
	if (block)
		free_undone(model, own, event, block);
	else
		free_of_none(model, own, event, was_freed);
}

void model_memory_free_done(struct pt_model *model, struct memory_process *own,
			    const struct memory_event *event)
{
	struct memory_pending *pending = model_memory_table_find(model->memory, event->process,
								 SPACE_PENDING, event->call);
	struct memory_block *block = pending ? pending->block : NULL;
	bool was_freed = pending && pending->was_freed, proved = pending && pending->proved;

	if (pending)
		model_memory_table_remove(model->memory, &pending->entry);
	if (block) {
		block->asks--;
		if (block->asked_by == pending)
			take_back(model->memory, block);
	}
	free(pending);
	if (proved) {
		own->counts.failed_frees += event->type == EVENT_DONE && event->code;
	} else if (event->type == EVENT_CUT) {
		own->counts.cut++;
		if (block)
			free_undone(model, own, event, block);
	} else if (event->code) {
		free_failed(model, own, event, block, was_freed);
	} else {
		free_succeeded(model, own, event, block, was_freed);
	}
}

void model_memory_device_reset(struct pt_model *model, struct memory_process *own,
			       const struct memory_event *event)
{
	int device = event->memory.device != PT_CUDA_DEVICE_UNKNOWN ? event->memory.device
								    : event->device;
	struct memory_block *block = own->blocks, *next;
	bool unknown = device == PT_CUDA_DEVICE_UNKNOWN;

	for (; block && device != PT_CUDA_DEVICE_UNKNOWN; block = next) {
		next = block->next;
		if (block->entry.space == PT_CUDA_SPACE_PHYSICAL ||
		    block->entry.space >= PT_CUDA_SPACE_BLOCK || !block->refs)
			continue; /* it belongs to no context; a free is under way */
		unknown |= block->device == PT_CUDA_DEVICE_UNKNOWN;
		if (block->device != device)
			continue;
		model_memory_table_remove(model->memory, &block->entry);
		own->counts.reset_frees++;
		block_gone(model, block, event, false);
	}
	own->counts.unknown_resets += unknown;
}

/* ---- physical memory, streams ---- */

void model_memory_retained(struct pt_model *model, struct memory_process *own,
			   const struct memory_event *event)
{
	struct model_memory *memory = model->memory;
	const struct pt_cuda_memory *what = &event->memory;
	struct memory_block *block = model_memory_table_find(memory, event->process,
							     PT_CUDA_SPACE_PHYSICAL, what->address);
	const struct memory_block *mapping;

	if (block) {
		block->refs++;
		return;
	}
	mapping = event->what == PT_CUDA_MEMORY_RETAIN
		      ? model_memory_table_find(memory, event->process, PT_CUDA_SPACE_MAPPING,
						what->handle)
		      : NULL;
	block = mapping ? mapping->of : NULL;
	make_room(model, own, event);
	if (block && block->asked_by)
		prove(model, block, event); /* the mapping keeps it */
	if (block && !block->refs) {
		block->refs = 1;
		block->entry.address = what->address;
		model_memory_table_add(model, &block->entry);
	} else {
		block = block_new(model, own, PT_CUDA_SPACE_PHYSICAL, what->address);
		if (block)
			block_list(model, block, event->time_ns);
	}
}

void model_memory_mapped(struct pt_model *model, struct memory_process *own,
			 const struct memory_event *event)
{
	struct memory_block *mapping;

	make_room(model, own, event);
	mapping = block_new(model, own, PT_CUDA_SPACE_MAPPING, event->memory.address);
	if (!mapping)
		return;
	mapping->bytes = event->memory.bytes;
	mapping->of = model_memory_table_find(model->memory, event->process, PT_CUDA_SPACE_PHYSICAL,
					      event->memory.handle);
	if (mapping->of)
		mapping->of->maps++;
}

void model_memory_unmapped(struct pt_model *model, struct memory_process *own,
			   const struct memory_event *event)
{
	uint64_t address = event->memory.address, left = event->memory.bytes;
	struct memory_block *mapping;

	while (left) {
		mapping = model_memory_table_find(model->memory, event->process,
						  PT_CUDA_SPACE_MAPPING, address);
		if (!mapping || !mapping->bytes || mapping->bytes > left)
			break;
		model_memory_table_remove(model->memory, &mapping->entry);
		address += mapping->bytes;
		left -= mapping->bytes;
		if (mapping->of) {
			mapping->of->maps--;
			block_less(model, mapping->of, event, true);
		}
		free(mapping);
	}
	if (left) {
		own->counts.unknown_frees++;
		model_memory_emit_instant(model, event, "unmap of an unknown address");
	}
}

void model_memory_stream_made(struct pt_model *model, struct memory_process *own,
			      const struct memory_event *event)
{
	struct memory_block *stream = model_memory_table_find(
	    model->memory, event->process, PT_CUDA_SPACE_STREAM, event->memory.address);

	if (!stream)
		stream = block_new(model, own, PT_CUDA_SPACE_STREAM, event->memory.address);
	if (stream)
		stream->device = event->device;
}

void model_memory_stream_gone(struct pt_model *model, const struct memory_event *event)
{
	struct memory_block *stream = model_memory_table_find(
	    model->memory, event->process, PT_CUDA_SPACE_STREAM, event->memory.address);

	if (!stream)
		return;
	model_memory_table_remove(model->memory, &stream->entry);
	free(stream);
}
