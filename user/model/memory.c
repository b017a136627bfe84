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
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/buf.h"
#include "base/heap.h"
#include "model/memory_priv.h"

/* Events that wait, where nothing says that those before have come: a capture without --memory. */
#define WAITING_MAX   (1u << 21)
/* Addresses that were freed last, to tell a second free from one of an unknown address. */
#define FREED_MAX     (1u << 14)
#define SPACE_PENDING 100 /* the address is the number of a call */
#define SPACE_FREED   200 /* + the space that it was in */
#define SPACE_ASKED   300 /* likewise: a free of it is under way */
/* Streams 0, 1 and 2 are the default ones of a device (driver_types.h: cudaStreamLegacy ..). */
#define STREAM_NAMED  3
/* What has no address lies from here on, in the snapshot: above all addresses of programs (2^47),
 * and small enough for a double (2^53). */
#define FIRST_PLACE   (1ull << 48)
#define PLACE_ALIGN   512ull
#define STACK_BYTES   (24u << 10) /* of text, in an instant */

#define CATEGORY "cuda_memory"

struct memory_entry {
	struct memory_entry *next;
	const struct model_process *process;
	uint64_t address;
	unsigned int space;
};

struct memory_usage {
	struct memory_usage *next;
	enum pt_cuda_memory_kind kind;
	int device;
	uint64_t bytes, most, blocks;
};

struct memory_block {
	struct memory_entry entry;         /* in the table while refs > 0 */
	struct memory_block *next, **link; /* of its process's; NULL: a mapping, a stream */
	struct memory_process *owner;
	struct memory_usage *usage; /* NULL: it does not count: another process's */
	uint64_t bytes, stream, place;
	unsigned int refs, maps;
	unsigned int asks;               /* frees of it that are under way */
	struct memory_pending *asked_by; /* the one that took the last reference */
	struct memory_block *of;         /* a mapping's memory; NULL: not known */
	const struct pt_stack *stack;
	int device; /* that was the thread's; of a stream, its own */
	bool at_least;
};

/* A free under way. */
struct memory_pending {
	struct memory_entry entry;
	struct memory_block *block;
	bool was_freed;
	bool proved; /* it has happened, though it has not returned */
	pid_t tid;
	const struct pt_stack *stack;
};

struct memory_freed {
	struct memory_entry entry;
	bool used;
};

struct memory_counts {
	uint64_t allocations, frees, failed_allocations, failed_frees;
	uint64_t unknown_frees, double_frees;
	uint64_t unseen_frees; /* an address was given out again */
	uint64_t cut;          /* calls of which it is not known what they did */
	uint64_t reset_frees, unknown_resets;
};

struct memory_process {
	struct model_process *process;
	struct memory_process *next;
	struct memory_block *blocks;
	struct memory_usage *usages, **usages_tail;
	struct memory_counts counts;
	size_t block_count;
	bool told; /* what it has left */
};

struct model_memory {
	struct memory_stacks stacks;
	struct pt_heap waiting;
	uint64_t next_call, next_place;
	uint64_t taken_ns; /* the newest event that was taken */
	uint64_t late;     /* events that came when newer ones had been taken */
	uint64_t shown_clear_ns;

	struct memory_entry **table;
	size_t table_count, table_size; /* a power of two */
	uint64_t seed;
	struct memory_freed *freed;
	size_t freed_next;

	struct pt_map by_process; /* (pid, image) */
	struct memory_process *processes, **processes_tail;
};

/* ---- the table ---- */

static size_t bucket_of(const struct model_memory *memory, const struct model_process *process,
			unsigned int space, uint64_t address)
{
	const uint64_t key[] = {(uintptr_t)process, space, address};

	return pt_hash_bytes(key, sizeof(key), memory->seed) & (memory->table_size - 1);
}

static struct memory_entry **table_slot(const struct model_memory *memory,
					const struct model_process *process, unsigned int space,
					uint64_t address)
{
	struct memory_entry **slot = &memory->table[bucket_of(memory, process, space, address)];

	while (*slot && ((*slot)->process != process || (*slot)->space != space ||
			 (*slot)->address != address))
		slot = &(*slot)->next;
	return slot;
}

static void *table_find(const struct model_memory *memory, const struct model_process *process,
			unsigned int space, uint64_t address)
{
	return *table_slot(memory, process, space, address);
}

static void table_remove(struct model_memory *memory, const struct memory_entry *entry)
{
	struct memory_entry **slot = table_slot(memory, entry->process, entry->space,
						entry->address);

	*slot = entry->next;
	memory->table_count--;
}

static int table_resize(struct model_memory *memory, size_t size)
{
	struct memory_entry **old = memory->table;
	size_t old_size = memory->table_size;

	memory->table = calloc(size, sizeof(*memory->table));
	if (!memory->table) {
		memory->table = old;
		return -ENOMEM;
	}
	memory->table_size = size;
	for (size_t i = 0; i < old_size; i++) {
		while (old[i]) {
			struct memory_entry *entry = old[i], **slot;

			old[i] = entry->next;
			slot = &memory->table[bucket_of(memory, entry->process, entry->space,
							entry->address)];
			entry->next = *slot;
			*slot = entry;
		}
	}
	free(old);
	return 0;
}

/* The key must not be in the table. */
static void table_add(struct pt_model *model, struct memory_entry *entry)
{
	struct model_memory *memory = model->memory;
	struct memory_entry **slot;

	if (memory->table_count == memory->table_size &&
	    table_resize(memory, 2 * memory->table_size))
		model_fail(model, -ENOMEM); /* but it goes on with longer chains */
	slot = table_slot(memory, entry->process, entry->space, entry->address);
	entry->next = *slot;
	*slot = entry;
	memory->table_count++;
}

/* ---- the life of it ---- */

int model_memory_new(struct pt_model *model)
{
	struct model_memory *memory = calloc(1, sizeof(*memory));

	model->memory = memory;
	if (!memory || table_resize(memory, 1024)) {
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
	own = calloc(1, sizeof(*own));
	if (!own ||
	    pt_map_put(&memory->by_process, (uint64_t)process->pid, process->image_id, own)) {
		free(own);
		model_fail(model, -ENOMEM);
		return NULL;
	}
	own->process = process;
	own->usages_tail = &own->usages;
	*memory->processes_tail = own;
	memory->processes_tail = &own->next;
	return own;
}

/* ---- what sinks see ---- */

static void track_name(const struct memory_usage *usage, char *text, size_t size)
{
	const char *kind = pt_cuda_kind_name(usage->kind);

	if (usage->kind == PT_CUDA_KIND_TORCH_HOST)
		snprintf(text, size, "PyTorch memory: host");
	else if (usage->kind == PT_CUDA_KIND_TORCH)
		snprintf(text, size, "PyTorch memory: device %d", usage->device);
	else if (pt_cuda_kind_is_host(usage->kind))
		snprintf(text, size, "CUDA memory: %s", kind);
	else if (usage->device == PT_CUDA_DEVICE_UNKNOWN)
		snprintf(text, size, "CUDA memory: device ?, %s", kind);
	else
		snprintf(text, size, "CUDA memory: device %d, %s", usage->device, kind);
}

static void emit_counter(struct pt_model *model, struct memory_process *own,
			 const struct memory_usage *usage, uint64_t ns)
{
	char name[64];
	struct pt_op op = {
	    .kind = PT_OP_COUNTER,
	    .counter = {.pid = own->process->pid,
			.time_ns = ns,
			.name = name,
			.series = "bytes",
			.value = (double)usage->bytes},
	};

	track_name(usage, name, sizeof(name));
	model_announce_process(model, own->process);
	model_emit(model, &op);
}

/* Behind a clear the tracks begin with what is there. */
static void show_after_clear(struct pt_model *model)
{
	struct model_memory *memory = model->memory;

	memory->shown_clear_ns = model->clear_ns;
	for (struct memory_process *own = memory->processes; own; own = own->next)
		for (struct memory_usage *usage = own->usages; usage; usage = usage->next)
			emit_counter(model, own, usage, model->clear_ns);
}

static void changed(struct pt_model *model, struct memory_process *own,
		    const struct memory_usage *usage, uint64_t ns)
{
	if (ns >= model->clear_ns)
		emit_counter(model, own, usage, ns);
}

static void emit_block(struct pt_model *model, const struct memory_block *block,
		       enum pt_memory_action action, pid_t tid, uint64_t ns,
		       const struct pt_stack *stack)
{
	bool host = pt_cuda_kind_is_host(block->usage->kind);
	const struct pt_op op = {
	    .kind = PT_OP_MEMORY,
	    .memory = {.pid = block->owner->process->pid,
		       .tid = tid,
		       .time_ns = ns,
		       .action = action,
		       .kind = pt_cuda_kind_name(block->usage->kind),
		       .host = host,
		       .within = block->usage->kind == PT_CUDA_KIND_TORCH,
		       .device = block->usage->device,
		       .address = block->entry.address,
		       .place = block->place,
		       .bytes = block->bytes,
		       .stream = block->stream,
		       .stack = stack},
	};

	model_emit(model, &op);
}

static void add_caller(struct pt_buf *text, const struct pt_stack *stack)
{
	const struct pt_function *function = stack->function;
	const char *slash = strrchr(function->file, '/');

	if (text->len)
		pt_buf_add_str(text, "\n");
	if (stack->kind == PT_STACK_NATIVE) {
		pt_buf_add_str(text, function->name);
		if (function->file[0] && !strstr(function->name, "+0x")) /* it names its file */
			pt_buf_printf(text, " (%s)", slash ? slash + 1 : function->file);
		return;
	}
	if (function->file[0])
		pt_buf_printf(text, "%s(%u): ", function->file, function->line);
	pt_buf_add_str(text, function->qualname);
	if (stack->line)
		pt_buf_printf(text, ", line %u", stack->line);
}

/* Innermost first, a line each. */
static void stack_text(const struct pt_stack *stack, struct pt_buf *text)
{
	if (!stack)
		pt_buf_add_str(text, "(no Python stack is known)");
	for (; stack && text->len < STACK_BYTES; stack = stack->caller)
		add_caller(text, stack);
	if (stack)
		pt_buf_add_str(text, "\n(and callers of it)");
	pt_buf_add(text, "", 1);
}

/* Something is wrong with a call. */
static void emit_instant(struct pt_model *model, const struct memory_event *event, const char *name)
{
	const char *code = pt_cuda_error_name(event->api, event->code);
	char address[24], number[24];
	struct pt_buf stack = {0};
	struct pt_arg args[] = {
	    {.key = "function", .text = event->symbol},
	    {.key = "address", .text = address},
	    {.key = "stack"},
	    {.key = "return", .text = code ? code : number}, /* if it returns one */
	};
	struct pt_op op = {
	    .kind = PT_OP_INSTANT,
	    .instant = {.pid = event->process->pid,
			.tid = event->tid,
			.time_ns = event->time_ns,
			.name = name,
			.category = CATEGORY,
			.args = args,
			.arg_count = sizeof(args) / sizeof(args[0]) - !event->api},
	};

	if (event->time_ns < model->clear_ns)
		return;
	snprintf(address, sizeof(address), "0x%" PRIx64, event->memory.address);
	snprintf(number, sizeof(number), "%d", event->code);
	stack_text(event->stack, &stack);
	args[2].text = stack.failed ? "" : stack.data;
	model->totals.instants++;
	model_announce_process(model, event->process);
	model_emit(model, &op);
	pt_buf_release(&stack);
}

/* ---- blocks ---- */

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
	changed(model, own, usage, ns);
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
		changed(model, own, block->usage, event->time_ns);
		emit_block(model, block, PT_MEMORY_FREE, known_caller ? event->tid : 0,
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
	table_add(model, &block->entry);
	return block;
}

static void forget_freed(struct model_memory *memory, const struct model_process *process,
			 unsigned int space, uint64_t address)
{
	struct memory_freed *freed = table_find(memory, process, SPACE_FREED + space, address);

	if (!freed)
		return;
	table_remove(memory, &freed->entry);
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
		table_remove(memory, &freed->entry);
	freed->used = true;
	freed->entry = (struct memory_entry){.process = event->process,
					     .space = SPACE_FREED + event->memory.space,
					     .address = event->memory.address};
	table_add(model, &freed->entry);
}

/* ---- allocations ---- */

/* The block lies where it lay before a free of it began, but it is not in the table. */
static void take_back(struct model_memory *memory, struct memory_block *block)
{
	table_remove(memory, &block->entry);
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
	struct memory_block *asked = table_find(model->memory, event->process,
						SPACE_ASKED + what->space, what->address);
	struct memory_block *block = table_find(model->memory, event->process, what->space,
						what->address);

	if (asked)
		prove(model, asked, event);
	if (!block)
		return;
	table_remove(model->memory, &block->entry);
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
	stream = table_find(memory, event->process, PT_CUDA_SPACE_STREAM, event->memory.stream);
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

static void allocated(struct pt_model *model, struct memory_process *own,
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
	emit_block(model, block, PT_MEMORY_ALLOC, event->tid, event->time_ns, event->stack);
}

/* ---- frees ---- */

/* Takes a reference, and the block aside with the last one. */
static void ask(struct pt_model *model, struct memory_block *block, struct memory_pending *pending)
{
	block->asks++;
	if (--block->refs)
		return;
	table_remove(model->memory, &block->entry);
	block->entry.space += SPACE_ASKED;
	block->asked_by = pending;
	table_add(model, &block->entry);
}

static void free_asked(struct pt_model *model, const struct memory_event *event)
{
	struct model_memory *memory = model->memory;
	const struct pt_cuda_memory *what = &event->memory;
	struct memory_pending *pending = calloc(1, sizeof(*pending));

	if (!pending) {
		model_fail(model, -ENOMEM);
		return;
	}
	pending->block = table_find(memory, event->process, what->space, what->address);
	pending->was_freed = table_find(memory, event->process, SPACE_FREED + what->space,
					what->address) != NULL;
	pending->tid = event->tid;
	pending->stack = event->stack;
	if (pending->block)
		ask(model, pending->block, pending);
	pending->entry = (struct memory_entry){
	    .process = event->process, .space = SPACE_PENDING, .address = event->call};
	table_add(model, &pending->entry);
}

/* There is nothing at that address. */
static void free_of_none(struct pt_model *model, struct memory_process *own,
			 const struct memory_event *event, bool was_freed)
{
	*(was_freed ? &own->counts.double_frees : &own->counts.unknown_frees) += 1;
	emit_instant(model, event, was_freed ? "double free" : "free of an unknown address");
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
	if (table_find(model->memory, event->process, block->entry.space, block->entry.address)) {
		block->refs = 0;
		own->counts.unseen_frees++;
		block_less(model, block, event, false);
		return;
	}
	table_add(model, &block->entry);
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

static void free_done(struct pt_model *model, struct memory_process *own,
		      const struct memory_event *event)
{
	struct memory_pending *pending = table_find(model->memory, event->process, SPACE_PENDING,
						    event->call);
	struct memory_block *block = pending ? pending->block : NULL;
	bool was_freed = pending && pending->was_freed, proved = pending && pending->proved;

	if (pending)
		table_remove(model->memory, &pending->entry);
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

/* All of a device's memory, but what is no context's. */
static void reset(struct pt_model *model, struct memory_process *own,
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
		table_remove(model->memory, &block->entry);
		own->counts.reset_frees++;
		block_gone(model, block, event, false);
	}
	own->counts.unknown_resets += unknown;
}

/* ---- physical memory, streams ---- */

static void retained(struct pt_model *model, struct memory_process *own,
		     const struct memory_event *event)
{
	struct model_memory *memory = model->memory;
	const struct pt_cuda_memory *what = &event->memory;
	struct memory_block *block = table_find(memory, event->process, PT_CUDA_SPACE_PHYSICAL,
						what->address);
	const struct memory_block *mapping;

	if (block) {
		block->refs++;
		return;
	}
	mapping = event->what == PT_CUDA_MEMORY_RETAIN
		      ? table_find(memory, event->process, PT_CUDA_SPACE_MAPPING, what->handle)
		      : NULL;
	block = mapping ? mapping->of : NULL;
	make_room(model, own, event);
	if (block && block->asked_by)
		prove(model, block, event); /* the mapping keeps it */
	if (block && !block->refs) {
		block->refs = 1;
		block->entry.address = what->address;
		table_add(model, &block->entry);
	} else {
		block = block_new(model, own, PT_CUDA_SPACE_PHYSICAL, what->address);
		if (block)
			block_list(model, block, event->time_ns);
	}
}

static void mapped(struct pt_model *model, struct memory_process *own,
		   const struct memory_event *event)
{
	struct memory_block *mapping;

	make_room(model, own, event);
	mapping = block_new(model, own, PT_CUDA_SPACE_MAPPING, event->memory.address);
	if (!mapping)
		return;
	mapping->bytes = event->memory.bytes;
	mapping->of = table_find(model->memory, event->process, PT_CUDA_SPACE_PHYSICAL,
				 event->memory.handle);
	if (mapping->of)
		mapping->of->maps++;
}

/* A range of whole mappings. */
static void unmapped(struct pt_model *model, struct memory_process *own,
		     const struct memory_event *event)
{
	uint64_t address = event->memory.address, left = event->memory.bytes;
	struct memory_block *mapping;

	while (left) {
		mapping = table_find(model->memory, event->process, PT_CUDA_SPACE_MAPPING, address);
		if (!mapping || !mapping->bytes || mapping->bytes > left)
			break;
		table_remove(model->memory, &mapping->entry);
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
		emit_instant(model, event, "unmap of an unknown address");
	}
}

static void stream_made(struct pt_model *model, struct memory_process *own,
			const struct memory_event *event)
{
	struct memory_block *stream = table_find(model->memory, event->process,
						 PT_CUDA_SPACE_STREAM, event->memory.address);

	if (!stream)
		stream = block_new(model, own, PT_CUDA_SPACE_STREAM, event->memory.address);
	if (stream)
		stream->device = event->device;
}

static void stream_gone(struct pt_model *model, const struct memory_event *event)
{
	struct memory_block *stream = table_find(model->memory, event->process,
						 PT_CUDA_SPACE_STREAM, event->memory.address);

	if (!stream)
		return;
	table_remove(model->memory, &stream->entry);
	free(stream);
}

/* ---- what is left ---- */

/* Blocks that have all but their addresses in common: what a line of the table shows. */
static int compare_blocks(const void *left, const void *right)
{
	const struct memory_block *a = *(const struct memory_block *const *)left;
	const struct memory_block *b = *(const struct memory_block *const *)right;
	uint32_t a_stack = a->stack ? a->stack->id : 0, b_stack = b->stack ? b->stack->id : 0;

	if (a->usage->kind != b->usage->kind)
		return a->usage->kind < b->usage->kind ? -1 : 1;
	if (a->usage->device != b->usage->device)
		return a->usage->device < b->usage->device ? -1 : 1;
	if (a_stack != b_stack)
		return a_stack < b_stack ? -1 : 1;
	return 0;
}

static int compare_addresses(const void *left, const void *right)
{
	const struct memory_block *a = *(const struct memory_block *const *)left;
	const struct memory_block *b = *(const struct memory_block *const *)right;
	int order = compare_blocks(left, right);

	if (order)
		return order;
	return (a->entry.address > b->entry.address) - (a->entry.address < b->entry.address);
}

static void emit_about(struct pt_model *model, const struct memory_process *own, uint64_t ns,
		       const char *name, const struct pt_arg *args, uint32_t count)
{
	const struct pt_op op = {
	    .kind = PT_OP_INSTANT,
	    .instant = {.pid = own->process->pid,
			.tid = own->process->pid,
			.time_ns = ns,
			.name = name,
			.category = CATEGORY,
			.args = args,
			.arg_count = count},
	};

	model->totals.instants++;
	model_announce_process(model, own->process);
	model_emit(model, &op);
}

static void emit_group(struct pt_model *model, const struct memory_process *own,
		       struct memory_block *const *blocks, size_t count, uint64_t ns)
{
	const struct memory_block *first = blocks[0];
	struct pt_buf stack = {0};
	uint64_t bytes = 0;
	bool at_least = false;

	for (size_t i = 0; i < count; i++) {
		bytes += blocks[i]->bytes;
		at_least |= blocks[i]->at_least;
		emit_block(model, blocks[i], PT_MEMORY_LIVE, 0, ns, first->stack);
	}
	stack_text(first->stack, &stack);
	if (stack.failed) {
		model_fail(model, -ENOMEM);
	} else {
		const struct pt_arg args[] = {
		    {.key = "bytes", .number = (int64_t)bytes},
		    {.key = "allocations", .number = (int64_t)count},
		    {.key = "kind", .text = pt_cuda_kind_name(first->usage->kind)},
		    {.key = "device", .number = first->usage->device},
		    {.key = "at least", .number = at_least},
		    {.key = "stack", .text = stack.data},
		};

		emit_about(model, own, ns, "still allocated", args, sizeof(args) / sizeof(args[0]));
	}
	pt_buf_release(&stack);
}

static void emit_left(struct pt_model *model, const struct memory_process *own, uint64_t ns)
{
	struct memory_block **blocks = malloc((own->block_count + 1) * sizeof(*blocks));
	size_t count = 0, from, to;

	if (!blocks) {
		model_fail(model, -ENOMEM);
		return;
	}
	for (struct memory_block *block = own->blocks; block; block = block->next)
		if (block->usage)
			blocks[count++] = block;
	qsort(blocks, count, sizeof(*blocks), compare_addresses);
	for (from = 0; from < count; from = to) {
		for (to = from + 1; to < count && !compare_blocks(&blocks[from], &blocks[to]);)
			to++;
		emit_group(model, own, &blocks[from], to - from, ns);
	}
	free(blocks);
}

static void emit_usages(struct pt_model *model, const struct memory_process *own, uint64_t ns)
{
	for (const struct memory_usage *usage = own->usages; usage; usage = usage->next) {
		const struct pt_arg args[] = {
		    {.key = "kind", .text = pt_cuda_kind_name(usage->kind)},
		    {.key = "device", .number = usage->device},
		    {.key = "bytes", .number = (int64_t)usage->bytes},
		    {.key = "allocations", .number = (int64_t)usage->blocks},
		    {.key = "most bytes", .number = (int64_t)usage->most},
		};

		emit_about(model, own, ns, "memory in use", args, sizeof(args) / sizeof(args[0]));
	}
}

static void emit_counts(struct pt_model *model, const struct memory_process *own, bool ended,
			uint64_t ns)
{
	const struct memory_counts *counts = &own->counts;
	const struct pt_arg args[] = {
	    {.key = "allocations", .number = (int64_t)counts->allocations},
	    {.key = "frees", .number = (int64_t)counts->frees},
	    {.key = "failed allocations", .number = (int64_t)counts->failed_allocations},
	    {.key = "failed frees", .number = (int64_t)counts->failed_frees},
	    {.key = "frees of unknown addresses", .number = (int64_t)counts->unknown_frees},
	    {.key = "double frees", .number = (int64_t)counts->double_frees},
	    {.key = "freed by a reset", .number = (int64_t)counts->reset_frees},
	    {.key = "unseen frees", .number = (int64_t)counts->unseen_frees},
	    {.key = "calls of unknown outcome", .number = (int64_t)counts->cut},
	    {.key = "resets of unknown extent", .number = (int64_t)counts->unknown_resets},
	    {.key = "events out of order", .number = (int64_t)model->memory->late},
	    {.key = "stacks cut", .number = (int64_t)model->memory->stacks.cut},
	    {.key = "ended", .number = ended},
	};

	emit_about(model, own, ns, "memory calls", args, sizeof(args) / sizeof(args[0]));
}

static void tell_process(struct pt_model *model, struct memory_process *own, bool ended,
			 uint64_t ns)
{
	if (own->told)
		return;
	own->told = true;
	emit_counts(model, own, ended, ns);
	emit_usages(model, own, ns);
	emit_left(model, own, ns);
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
		allocated(model, own, event);
		break;
	case PT_CUDA_MEMORY_RETAIN:
	case PT_CUDA_MEMORY_IMPORT:
		retained(model, own, event);
		break;
	case PT_CUDA_MEMORY_MAP:
		mapped(model, own, event);
		break;
	case PT_CUDA_MEMORY_UNMAP:
		unmapped(model, own, event);
		break;
	case PT_CUDA_MEMORY_RESET:
		reset(model, own, event);
		break;
	case PT_CUDA_MEMORY_CONTEXT:
		own->counts.unknown_resets++;
		break;
	case PT_CUDA_MEMORY_STREAM:
		stream_made(model, own, event);
		break;
	case PT_CUDA_MEMORY_STREAM_GONE:
		stream_gone(model, event);
		break;
	case PT_CUDA_MEMORY_FREE: /* free_done() */
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
		show_after_clear(model);
	if (event->time_ns < memory->taken_ns)
		memory->late++;
	else
		memory->taken_ns = event->time_ns;
	own = process_get(model, event->process);
	if (!own)
		return;
	if (event->type == EVENT_ASK)
		free_asked(model, event);
	else if (event->type == EVENT_BLIND)
		own->counts.cut++;
	else if (event->what == PT_CUDA_MEMORY_FREE)
		free_done(model, own, event);
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
		show_after_clear(model);
	for (struct memory_process *own = memory->processes; own; own = own->next)
		tell_process(model, own, own->process->exit_ns != 0, end_ns);
}
