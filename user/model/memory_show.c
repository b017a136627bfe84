// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * What sinks see of memory: counters, allocations that fail, and what is left at the end.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "model/memory_parts.h"

#define STACK_BYTES (24u << 10) /* of text, in an instant */

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

void model_memory_show_after_clear(struct pt_model *model)
{
	struct model_memory *memory = model->memory;

	memory->shown_clear_ns = model->clear_ns;
	for (struct memory_process *own = memory->processes; own; own = own->next)
		for (struct memory_usage *usage = own->usages; usage; usage = usage->next)
			emit_counter(model, own, usage, model->clear_ns);
}

void model_memory_changed(struct pt_model *model, struct memory_process *own,
			  const struct memory_usage *usage, uint64_t ns)
{
	if (ns >= model->clear_ns)
		emit_counter(model, own, usage, ns);
}

void model_memory_emit_block(struct pt_model *model, const struct memory_block *block,
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

void model_memory_emit_instant(struct pt_model *model, const struct memory_event *event,
			       const char *name)
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
		model_memory_emit_block(model, blocks[i], PT_MEMORY_LIVE, 0, ns, first->stack);
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

void model_memory_emit_left(struct pt_model *model, const struct memory_process *own, uint64_t ns)
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

void model_memory_emit_usages(struct pt_model *model, const struct memory_process *own, uint64_t ns)
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

void model_memory_emit_counts(struct pt_model *model, const struct memory_process *own, bool ended,
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
