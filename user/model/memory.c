// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * CUDA memory: what is allocated, by whom, and what is left.
 *
 * Batches of different threads come in any order, and one thread may free what another has
 * allocated. So events wait in a heap until all that happened before them has come
 * (PT_NOTE_COMPLETE says so, and the end), and are taken in order of time. What comes later still
 * is counted.
 *
 * An address that a call frees may be given out again before that call returns. So a free takes the
 * block aside when it begins (EVENT_ASK); whether it succeeded is known when it returns
 * (EVENT_DONE) or when the address is given out again, and until then the block counts. A free that
 * failed puts it back.
 *
 * Physical memory (cuMemCreate) lives as long as its handles, of which cuMemRetainAllocationHandle
 * makes more, and its mappings.
 *
 * What a process has left is told when it ends, and forgotten.
 *
 * Memory: by the blocks that are there, the events of some seconds, and the distinct stacks.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>

#include "base/heap.h"
#include "model/memory_parts.h"

/* Events that wait, where nothing says that those before have come: a capture without --memory. */
#define WAITING_MAX (1u << 21)
/* What has no address lies from here on, in the snapshot: above all addresses of programs (2^47),
 * and small enough for a double (2^53). */
#define FIRST_PLACE (1ull << 48)

/* ---- the life of it ---- */

int model_memory_new(struct pt_model *model)
{
	struct model_memory *memory = calloc(1, sizeof(*memory));

	model->memory = memory;
	if (!memory || model_memory_table_resize(memory, 1024)) {
		free(memory);
		model->memory = NULL;
		return -ENOMEM;
	}
	if (getrandom(&memory->seed, sizeof(memory->seed), GRND_NONBLOCK) < 0)
		memory->seed = (uintptr_t)memory;
	memory->waiting.item_bytes = sizeof(struct memory_event);
	memory->processes_tail = &memory->processes;
	memory->next_place = FIRST_PLACE;
	return 0;
}

/* Neither in the array of those that were freed, nor in a process's list. */
static bool is_table_only(const struct memory_entry *entry)
{
	return entry->space < SPACE_FREED &&
	       (entry->space == SPACE_PENDING || !((const struct memory_block *)entry)->link);
}

static void process_release(struct memory_process *process)
{
	while (process->blocks) {
		struct memory_block *block = process->blocks;

		process->blocks = block->next;
		free(block);
	}
	while (process->usages) {
		struct memory_usage *usage = process->usages;

		process->usages = usage->next;
		free(usage);
	}
	process->usages_tail = &process->usages;
	process->block_count = 0;
}

void model_memory_free(struct pt_model *model)
{
	struct model_memory *memory = model->memory;

	if (!memory)
		return;
	for (size_t i = 0; i < memory->table_size; i++) {
		while (memory->table[i]) {
			struct memory_entry *entry = memory->table[i];

			memory->table[i] = entry->next;
			if (is_table_only(entry))
				free(entry);
		}
	}
	while (memory->processes) {
		struct memory_process *process = memory->processes;

		memory->processes = process->next;
		process_release(process);
		free(process);
	}
	pt_map_release(&memory->by_process);
	model_memory_stacks_release(&memory->stacks);
	free(memory->table);
	free(memory->freed);
	pt_heap_release(&memory->waiting);
	free(memory);
	model->memory = NULL;
}

struct memory_stacks *model_memory_stacks(struct pt_model *model)
{
	return &model->memory->stacks;
}

uint64_t model_memory_next_call(struct pt_model *model)
{
	return ++model->memory->next_call;
}

static struct memory_process *process_get(struct pt_model *model, struct model_process *process)
{
	struct model_memory *memory = model->memory;
	struct memory_process *own = pt_map_get(&memory->by_process, (uint64_t)process->pid,
						process->image_id);

	if (own)
		return own;
	own = pt_map_make(&memory->by_process, (uint64_t)process->pid, process->image_id,
			  sizeof(*own));
	if (!own) {
		model_fail(model, -ENOMEM);
		return NULL;
	}
	own->process = process;
	own->usages_tail = &own->usages;
	*memory->processes_tail = own;
	memory->processes_tail = &own->next;
	return own;
}

/* ---- what is left ---- */

static void tell_process(struct pt_model *model, struct memory_process *own, bool ended,
			 uint64_t ns)
{
	if (own->told)
		return;
	own->told = true;
	model_memory_emit_counts(model, own, ended, ns);
	model_memory_emit_usages(model, own, ns);
	model_memory_emit_left(model, own, ns);
}

/* Takes all that is the process's out of the table. */
static void forget_entries(struct model_memory *memory, const struct model_process *process)
{
	for (size_t i = 0; i < memory->table_size; i++) {
		struct memory_entry **slot = &memory->table[i];

		while (*slot) {
			struct memory_entry *entry = *slot;

			if (entry->process != process) {
				slot = &entry->next;
				continue;
			}
			*slot = entry->next;
			memory->table_count--;
			if (entry->space >= SPACE_FREED && entry->space < SPACE_ASKED)
				((struct memory_freed *)entry)->used = false;
			else if (is_table_only(entry))
				free(entry);
		}
	}
}

static void process_gone(struct pt_model *model, const struct memory_event *event)
{
	struct model_memory *memory = model->memory;
	struct memory_process *own = pt_map_get(&memory->by_process, (uint64_t)event->process->pid,
						event->process->image_id);

	if (!own)
		return;
	tell_process(model, own, true, event->time_ns);
	forget_entries(memory, event->process);
	process_release(own);
}

/* ---- events, in order of time ---- */

static void succeeded(struct pt_model *model, struct memory_process *own,
		      const struct memory_event *event)
{
	switch (event->what) {
	case PT_CUDA_MEMORY_ALLOC:
		model_memory_allocated(model, own, event);
		break;
	case PT_CUDA_MEMORY_RETAIN:
	case PT_CUDA_MEMORY_IMPORT:
		model_memory_retained(model, own, event);
		break;
	case PT_CUDA_MEMORY_MAP:
		model_memory_mapped(model, own, event);
		break;
	case PT_CUDA_MEMORY_UNMAP:
		model_memory_unmapped(model, own, event);
		break;
	case PT_CUDA_MEMORY_RESET:
		model_memory_device_reset(model, own, event);
		break;
	case PT_CUDA_MEMORY_CONTEXT:
		own->counts.unknown_resets++;
		break;
	case PT_CUDA_MEMORY_STREAM:
		model_memory_stream_made(model, own, event);
		break;
	case PT_CUDA_MEMORY_STREAM_GONE:
		model_memory_stream_gone(model, event);
		break;
	case PT_CUDA_MEMORY_FREE: /* model_memory_free_done() */
	case PT_CUDA_MEMORY_DEVICE:
	case PT_CUDA_MEMORY_DEVICE_UNKNOWN:
		break;
	}
}

static void take(struct pt_model *model, const struct memory_event *event)
{
	struct model_memory *memory = model->memory;
	struct memory_process *own;

	if (event->type == EVENT_GONE) {
		process_gone(model, event);
		return;
	}
	if (memory->shown_clear_ns != model->clear_ns && event->time_ns >= model->clear_ns)
		model_memory_show_after_clear(model);
	if (event->time_ns < memory->taken_ns)
		memory->late++;
	else
		memory->taken_ns = event->time_ns;
	own = process_get(model, event->process);
	if (!own)
		return;
	if (event->type == EVENT_ASK)
		model_memory_free_asked(model, event);
	else if (event->type == EVENT_BLIND)
		own->counts.cut++;
	else if (event->what == PT_CUDA_MEMORY_FREE)
		model_memory_free_done(model, own, event);
	else if (event->type == EVENT_CUT)
		own->counts.cut++;
	else if (event->code)
		own->counts.failed_allocations += event->what == PT_CUDA_MEMORY_ALLOC;
	else
		succeeded(model, own, event);
}

/* Takes the earliest event. */
static void take_first(struct pt_model *model)
{
	struct memory_event first;

	pt_heap_pop(&model->memory->waiting, &first);
	take(model, &first);
}

void model_memory_push(struct pt_model *model, const struct memory_event *event)
{
	struct pt_heap *waiting = &model->memory->waiting;

	if (pt_heap_push(waiting, event))
		model_fail(model, -ENOMEM);
	else if (waiting->count > WAITING_MAX)
		take_first(model);
}

void model_memory_complete(struct pt_model *model, uint64_t ns)
{
	const struct pt_heap *waiting = &model->memory->waiting;

	while (waiting->count && pt_heap_first_ns(waiting) < ns)
		take_first(model);
}

/* ---- the end ---- */

void model_memory_process_end(struct pt_model *model, struct model_process *process, uint64_t ns)
{
	const struct memory_event event = {.type = EVENT_GONE, .process = process, .time_ns = ns};

	model_memory_push(model, &event);
}

void model_memory_finish(struct pt_model *model, uint64_t end_ns)
{
	struct model_memory *memory = model->memory;

	model_memory_complete(model, UINT64_MAX);
	if (memory->shown_clear_ns != model->clear_ns)
		model_memory_show_after_clear(model);
	for (struct memory_process *own = memory->processes; own; own = own->next)
		tell_process(model, own, own->process->exit_ns != 0, end_ns);
}
