// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * The stacks of calls that allocate and free memory. Best is what was recorded at the call
 * (call_stack.c): each frame has its line, and native ones may be there. Where that is missing, as
 * in a capture without --memory, the frames that are open are taken; of those the innermost has no
 * line. Before a thread's first event it is what was read from outside.
 *
 * Each distinct stack is there once, whichever way it became known.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "model/memory_priv.h"

/* Frames of all distinct stacks; a real program has thousands. */
#define STACK_NODES_MAX (1u << 21)

struct stack_node {
	struct pt_stack pub;
	struct stack_node *next;
};

/* What a frame that is no Python function is shown as. */
struct native_function {
	struct pt_function pub;
	struct native_function *next; /* of all */
	struct native_function *same; /* with the same hashes */
	char text[];                  /* name, file */
};

static const struct pt_stack *stack_push(struct pt_model *model, const struct pt_stack *caller,
					 const struct pt_function *function, uint32_t line,
					 enum pt_stack_frame_kind kind)
{
	struct memory_stacks *stacks = model_memory_stacks(model);
	uint64_t key = (uint64_t)(caller ? caller->id : 0) << 32 | line;
	struct stack_node *node = pt_map_get(&stacks->map, key, (uintptr_t)function);

	if (node)
		return &node->pub;
	if (stacks->count == STACK_NODES_MAX) {
		stacks->cut++;
		return caller;
	}
	node = calloc(1, sizeof(*node));
	if (!node || pt_map_put(&stacks->map, key, (uintptr_t)function, node)) {
		free(node);
		model_fail(model, -ENOMEM);
		return caller;
	}
	node->pub = (struct pt_stack){
	    .caller = caller, .function = function, .kind = kind, .line = line};
	node->pub.id = ++stacks->count;
	node->next = stacks->list;
	stacks->list = node;
	return &node->pub;
}

static const struct pt_stack *push_python(struct pt_model *model, const struct pt_stack *caller,
					  const struct model_function *function, uint32_t line)
{
	static const struct pt_function unknown = {.name = "?", .qualname = "?", .file = ""};

	return stack_push(model, caller, function ? &function->pub : &unknown, line,
			  PT_STACK_PYTHON);
}

void model_memory_stacks_release(struct memory_stacks *stacks)
{
	while (stacks->list) {
		struct stack_node *node = stacks->list;

		stacks->list = node->next;
		free(node);
	}
	while (stacks->native_list) {
		struct native_function *function = stacks->native_list;

		stacks->native_list = function->next;
		free(function);
	}
	pt_map_release(&stacks->map);
	pt_map_release(&stacks->natives);
}

/* ---- by the frames that are open ---- */

/* The line of a frame is that of the call of the next one above it that is a call. */
static const struct pt_stack *stack_of_frames(struct pt_model *model,
					      const struct model_thread *thread)
{
	const struct model_frame *below = NULL;
	const struct pt_stack *stack = NULL;

	for (uint32_t i = 0; i < thread->frame_count; i++) {
		const struct model_frame *frame = &thread->frames[i];

		if (!frame->code)
			continue;
		if (below)
			stack = push_python(model, stack, below->code->function,
					    model_thread_call_line(model, thread, frame));
		below = frame;
	}
	return below ? push_python(model, stack, below->code->function, 0) : NULL;
}

/* As it was read from outside, before the thread's first event. */
static const struct pt_stack *stack_of_outside(struct pt_model *model,
					       const struct model_thread *thread)
{
	const struct pt_stack *stack = NULL;

	for (uint32_t i = thread->outside.count; i > 0; i--)
		stack = push_python(model, stack, thread->outside.frames[i - 1].code->function, 0);
	return stack;
}

static const struct pt_stack *stack_now(struct pt_model *model, const struct model_thread *thread)
{
	if (!thread->started)
		return stack_of_outside(model, thread);
	if (thread->gap || thread->paused || thread->snap_active || thread->switched)
		return NULL; /* a snapshot is to follow */
	return stack_of_frames(model, thread);
}

/* ---- as it was recorded ---- */

static struct native_function *native_new(const char *name, const char *file)
{
	size_t name_size = strlen(name) + 1, file_size = strlen(file) + 1;
	struct native_function *function = calloc(1, sizeof(*function) + name_size + file_size);

	if (!function)
		return NULL;
	memcpy(function->text, name, name_size);
	memcpy(function->text + name_size, file, file_size);
	function->pub.name = function->pub.qualname = function->text;
	function->pub.file = function->text + name_size;
	return function;
}

/* The function of that name and file; NULL: no memory. */
static const struct pt_function *native_get(struct memory_stacks *stacks, const char *name,
					    const char *file)
{
	uint64_t name_hash = pt_hash_bytes(name, strlen(name), 0);
	uint64_t file_hash = pt_hash_bytes(file, strlen(file), 0);
	struct native_function *first = pt_map_get(&stacks->natives, name_hash, file_hash);
	struct native_function *function = first;

	while (function &&
	       (strcmp(function->pub.name, name) != 0 || strcmp(function->pub.file, file) != 0))
		function = function->same;
	if (function)
		return &function->pub;
	function = native_new(name, file);
	if (!function)
		return NULL;
	function->same = first;
	if (pt_map_put(&stacks->natives, name_hash, file_hash, function)) {
		free(function);
		return NULL;
	}
	function->next = stacks->native_list;
	stacks->native_list = function;
	return &function->pub;
}

static const struct pt_stack *push_recorded(struct pt_model *model, const struct pt_stack *caller,
					    const struct model_call_stack *recorded, uint32_t i)
{
	struct model_stack_frame frame;
	const struct pt_function *function;

	model_stack_frame(model, recorded, i, &frame);
	if (frame.shown.kind == PT_STACK_PYTHON)
		return push_python(model, caller, frame.function, frame.shown.line);
	function = native_get(model_memory_stacks(model), frame.shown.name, frame.shown.file);
	if (!function) {
		model_fail(model, -ENOMEM);
		return caller;
	}
	return stack_push(model, caller, function, 0, frame.shown.kind);
}

const struct pt_stack *model_memory_stack(struct pt_model *model, const struct model_thread *thread,
					  struct model_call_stack *recorded)
{
	const struct pt_stack *now, **kept = recorded ? model_stack_kept(recorded) : NULL;

	/* one without Python frames, since the thread's state was not known, may say less */
	if (!recorded || !model_stack_has_python(recorded)) {
		now = stack_now(model, thread);
		if (now || !recorded)
			return now;
	}
	for (uint32_t i = *kept ? 0 : model_stack_frames(recorded); i > 0; i--)
		*kept = push_recorded(model, *kept, recorded, i - 1);
	return *kept;
}
