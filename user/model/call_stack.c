// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * Stacks on which calls were made (--stacks). Each distinct one comes once, and goes out once,
 * before the first call that is shown with it; calls refer to it by number.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/utf8.h"
#include "cuda/names.h"
#include "model/model_priv.h"

/* Of all names. A mangled name may stand for one that is a thousand times as long. */
#define NAMES_MAX_BYTES (256u << 20)

struct model_call_stack {
	struct model_call_stack *next;
	pid_t pid;
	uint32_t number; /* in the trace */
	bool announced;
	char *at;                    /* the innermost Python frame, or NULL */
	const struct pt_stack *kept; /* memory_stacks.c's form of it, or NULL */
	uint32_t frame_count;
	struct stack_frame {
		uint32_t kind; /* enum pt_call_frame_kind */
		struct model_code *code;
		uint64_t where;
		char *name, *path; /* of a native frame, as they are shown */
	} frames[];
};

/* Whose word has not come yet. */
struct model_stack_ref {
	struct model_stack_ref *next;
	uint32_t serial;
	struct model_call_stack *stack;
};

static uint64_t image_key(const struct pt_rec *record)
{
	return (uint64_t)record->tgid << 32 | record->image_id;
}

/* ---- records ---- */

/* A text of the file's or of a path, as valid UTF-8; NULL: no memory. */
static char *clean(const char *text, size_t len)
{
	char *out = malloc(3 * len + 1); /* a bad byte becomes three */

	if (out)
		pt_utf8_clean(out, 3 * len + 1, text, len);
	return out;
}

static const char *base_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

/* What a function is called, or where its code lies. */
static char *native_name(struct pt_model *model, const char *symbol, const char *path,
			 uint64_t vaddr)
{
	char *readable = NULL, *name;
	struct pt_buf text = {0};

	if (symbol[0] && model->stack_name_bytes < NAMES_MAX_BYTES)
		readable = pt_kernel_demangle(symbol);
	if (symbol[0])
		pt_buf_add_str(&text, readable ? readable : symbol);
	else
		pt_buf_printf(&text, "%s%s0x%llx", base_name(path), path[0] ? "+" : "",
			      (unsigned long long)vaddr);
	model->stack_name_bytes += text.len;
	name = text.failed ? NULL : clean(text.data, text.len);
	pt_buf_release(&text);
	free(readable);
	return name;
}

static bool take_native(struct pt_model *model, struct stack_frame *to,
			const struct pt_call_frame *from, const char *text)
{
	char *symbol = strndup(text, from->name_bytes);

	to->path = clean(text + from->name_bytes, from->path_bytes);
	if (symbol && to->path)
		to->name = native_name(model, symbol, to->path, from->where);
	free(symbol);
	return to->name != NULL;
}

static struct model_call_stack *define(struct pt_model *model,
				       const struct pt_rec_call_stack *record)
{
	size_t size = sizeof(struct model_call_stack) +
		      record->frame_count * sizeof(struct stack_frame);
	const char *text = (const char *)&record->frames[record->frame_count];
	struct model_call_stack *stack = calloc(1, size);
	bool good = true;

	if (!stack)
		return NULL;
	stack->pid = (pid_t)record->hdr.tgid;
	stack->frame_count = record->frame_count;
	stack->next = model->stack_list;
	model->stack_list = stack;
	for (uint32_t i = 0; good && i < record->frame_count; i++) {
		const struct pt_call_frame *frame = &record->frames[i];

		stack->frames[i].kind = frame->kind;
		stack->frames[i].where = frame->where;
		if (frame->kind == PT_CF_PYTHON)
			stack->frames[i].code = model_code_get(model, frame->code_id);
		else if (frame->kind == PT_CF_NATIVE)
			good = take_native(model, &stack->frames[i], frame, text);
		text += frame->name_bytes + frame->path_bytes;
	}
	if (!good || pt_map_put(&model->call_stacks, image_key(&record->hdr), record->id, stack))
		return NULL; /* the list has it */
	return stack;
}

int model_stack_record(struct pt_model *model, struct model_thread *thread,
		       const struct pt_rec_call_stack *record)
{
	struct model_call_stack *stack = pt_map_get(&model->call_stacks, image_key(&record->hdr),
						    record->id);
	struct model_stack_ref *ref;

	if (!stack && !record->frame_count)
		return -EBADMSG;
	if (model->details_bytes + sizeof(*ref) > MODEL_MAX_DETAILS)
		return -EBADMSG;
	if (!stack)
		stack = define(model, record);
	ref = stack ? calloc(1, sizeof(*ref)) : NULL;
	if (!ref) {
		model_fail(model, -ENOMEM);
		return 0;
	}
	ref->serial = record->serial;
	ref->stack = stack;
	if (!thread->stacks)
		thread->stacks_tail = &thread->stacks;
	*thread->stacks_tail = ref;
	thread->stacks_tail = &ref->next;
	model->details_bytes += sizeof(*ref);
	return 0;
}

static void drop_first(struct pt_model *model, struct model_thread *thread)
{
	struct model_stack_ref *first = thread->stacks;

	thread->stacks = first->next;
	model->details_bytes -= sizeof(*first);
	free(first);
}

/* ---- calls ---- */

void model_stack_event(struct pt_model *model, struct model_thread *thread, uint32_t serial)
{
	/* those before it are of words that were lost */
	while (thread->stacks && (int32_t)(thread->stacks->serial - serial) < 0)
		drop_first(model, thread);
	thread->next_stack = NULL;
	if (!thread->stacks || thread->stacks->serial != serial)
		return;
	thread->next_stack = thread->stacks->stack;
	drop_first(model, thread);
}

struct model_call_stack *model_stack_take(struct model_thread *thread)
{
	struct model_call_stack *stack = thread->next_stack;

	thread->next_stack = NULL;
	return stack;
}

struct model_call_stack *model_stack_find(const struct model_thread *thread, uint32_t serial)
{
	const struct model_stack_ref *ref = thread->stacks;

	while (ref && ref->serial != serial)
		ref = ref->next;
	return ref ? ref->stack : NULL;
}

static void show_frame(struct pt_model *model, const struct stack_frame *frame,
		       struct pt_stack_frame *out)
{
	const struct model_function *function;

	*out = (struct pt_stack_frame){.kind = PT_STACK_GAP, .name = "", .file = ""};
	switch ((enum pt_call_frame_kind)frame->kind) {
	case PT_CF_PYTHON:
		function = model_code_function(model, frame->code);
		out->kind = PT_STACK_PYTHON;
		out->name = function ? function->pub.qualname : "?";
		out->file = function ? function->pub.file : "?";
		if (frame->where <= PT_WORD_ARG_MASK)
			out->line = model_lines_find(model, frame->code, (uint32_t)frame->where);
		break;
	case PT_CF_NATIVE:
		out->kind = PT_STACK_NATIVE;
		out->name = frame->name;
		out->file = frame->path;
		break;
	case PT_CF_NATIVE_UNKNOWN:
		out->name = NATIVE_UNKNOWN;
		break;
	case PT_CF_PYTHON_MORE:
		out->name = "[Python frames that are not known]";
		break;
	}
}

static void set_at(struct pt_model *model, struct model_call_stack *stack,
		   const struct pt_stack_frame *frames)
{
	struct pt_buf text = {0};
	uint32_t i = 0;

	while (i < stack->frame_count && frames[i].kind != PT_STACK_PYTHON)
		i++;
	if (stack->at || i == stack->frame_count)
		return;
	pt_buf_add_str(&text, frames[i].file);
	if (frames[i].line)
		pt_buf_printf(&text, "(%u)", frames[i].line);
	pt_buf_printf(&text, ": %s", frames[i].name);
	pt_buf_add(&text, "", 1);
	if (text.failed) {
		model_fail(model, -ENOMEM);
		pt_buf_release(&text);
		return;
	}
	stack->at = text.data;
}

static void announce(struct pt_model *model, struct model_call_stack *stack)
{
	struct pt_stack_frame *frames = calloc(stack->frame_count + 1, sizeof(*frames));
	struct pt_op op = {.kind = PT_OP_STACK};

	if (!frames) {
		model_fail(model, -ENOMEM);
		return;
	}
	for (uint32_t i = 0; i < stack->frame_count; i++)
		show_frame(model, &stack->frames[i], &frames[i]);
	if (!stack->number)
		stack->number = ++model->stacks_shown;
	set_at(model, stack, frames);
	op.stack = (struct pt_op_stack){.pid = stack->pid,
					.id = stack->number,
					.frame_count = stack->frame_count,
					.frames = frames};
	stack->announced = true;
	model_emit(model, &op);
	free(frames);
}

uint32_t model_stack_show(struct pt_model *model, struct model_call_stack *stack, const char **at)
{
	if (!stack->announced)
		announce(model, stack);
	*at = stack->at;
	return stack->number;
}

uint32_t model_stack_frames(const struct model_call_stack *stack)
{
	return stack->frame_count;
}

bool model_stack_has_python(const struct model_call_stack *stack)
{
	for (uint32_t i = 0; i < stack->frame_count; i++)
		if (stack->frames[i].kind == PT_CF_PYTHON)
			return true;
	return false;
}

void model_stack_frame(struct pt_model *model, const struct model_call_stack *stack, uint32_t i,
		       struct model_stack_frame *frame)
{
	struct model_code *code = stack->frames[i].code;

	show_frame(model, &stack->frames[i], &frame->shown);
	frame->function = code ? model_code_function(model, code) : NULL;
}

const struct pt_stack **model_stack_kept(struct model_call_stack *stack)
{
	return &stack->kept;
}

void model_stacks_clear(struct pt_model *model)
{
	for (struct model_call_stack *stack = model->stack_list; stack; stack = stack->next)
		stack->announced = false;
}

/* ---- the end ---- */

void model_stacks_drop(struct pt_model *model, struct model_thread *thread)
{
	while (thread->stacks)
		drop_first(model, thread);
	thread->next_stack = NULL;
}

void model_stacks_release(struct pt_model *model)
{
	while (model->stack_list) {
		struct model_call_stack *stack = model->stack_list;

		model->stack_list = stack->next;
		for (uint32_t i = 0; i < stack->frame_count; i++) {
			free(stack->frames[i].name);
			free(stack->frames[i].path);
		}
		free(stack->at);
		free(stack);
	}
	pt_map_release(&model->call_stacks);
}
