// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * Stacks: chrome://tracing's "stackFrames", a tree that "sf" of an event points into.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "sink/chrome_parts.h"
#include "sink/json_text.h"

static void add_frame_name(struct pt_buf *buf, const struct pt_stack_frame *frame)
{
	if (frame->kind == PT_STACK_PYTHON) {
		pt_buf_add_str(buf, frame->file);
		if (frame->line)
			pt_buf_printf(buf, "(%u)", frame->line);
		pt_buf_add_str(buf, ": ");
	}
	pt_buf_add_str(buf, frame->name);
	/* a nameless one has its file in its name */
	if (frame->kind == PT_STACK_NATIVE && frame->file[0] && !strstr(frame->name, "+0x")) {
		const char *slash = strrchr(frame->file, '/');

		pt_buf_printf(buf, " (%s)", slash ? slash + 1 : frame->file);
	}
	pt_buf_add(buf, "", 1);
}

/* The frame's number, made if need be; takes name. 0: no memory. */
static uint32_t frame_number(struct chrome *chrome, uint32_t parent, const char *category,
			     char *name)
{
	uint64_t hash = pt_hash_bytes(name, strlen(name), (uintptr_t)category);
	uint32_t first = (uint32_t)(uintptr_t)pt_map_get(&chrome->frame_by_hash, hash, parent);
	uint32_t number = first;
	struct chrome_frame *bigger;

	for (; number; number = chrome->frames[number - 1].next_same_hash) {
		if (strcmp(chrome->frames[number - 1].name, name) ||
		    chrome->frames[number - 1].category != category)
			continue;
		free(name);
		return number;
	}
	if (chrome->frame_count == chrome->frame_room) {
		uint32_t room = chrome->frame_room ? 2 * chrome->frame_room : 256;

		bigger = reallocarray(chrome->frames, room, sizeof(*bigger));
		if (!bigger) {
			free(name);
			return 0;
		}
		chrome->frames = bigger;
		chrome->frame_room = room;
	}
	number = chrome->frame_count + 1;
	if (pt_map_put(&chrome->frame_by_hash, hash, parent, (void *)(uintptr_t)number)) {
		free(name);
		return 0;
	}
	chrome->frames[chrome->frame_count++] = (struct chrome_frame){parent, category, name,
								      first};
	return number;
}

int chrome_add_stack(struct chrome *chrome, const struct pt_op_stack *stack)
{
	static const char *const categories[] = {[PT_STACK_PYTHON] = "python",
						 [PT_STACK_NATIVE] = "native",
						 [PT_STACK_GAP] = "unknown",
						 [PT_STACK_ORIGIN] = "inductor"};
	uint32_t room = chrome->stack_room ? chrome->stack_room : 64, number = 0, *bigger;

	while (room <= stack->id)
		room *= 2;
	if (room > chrome->stack_room) {
		bigger = reallocarray(chrome->stacks, room, sizeof(*bigger));
		if (!bigger)
			return -ENOMEM;
		memset(bigger + chrome->stack_room, 0,
		       (room - chrome->stack_room) * sizeof(*bigger));
		chrome->stacks = bigger;
		chrome->stack_room = room;
	}
	for (uint32_t i = stack->frame_count; i-- > 0;) {
		struct pt_buf name = {0};

		add_frame_name(&name, &stack->frames[i]);
		if (name.failed) {
			pt_buf_release(&name);
			return -ENOMEM;
		}
		number = frame_number(chrome, number, categories[stack->frames[i].kind], name.data);
		if (!number)
			return -ENOMEM;
	}
	chrome->stacks[stack->id] = number;
	return 0;
}

void chrome_write_frames(const struct chrome *chrome, struct pt_buf *buf)
{
	if (!chrome->frame_count)
		return;
	pt_buf_add_str(buf, buf->len ? ",\n" : "\n  ],\n");
	pt_buf_add_str(buf, "  \"stackFrames\": {");
	for (uint32_t i = 0; i < chrome->frame_count; i++) {
		const struct chrome_frame *frame = &chrome->frames[i];

		pt_buf_printf(buf, "%s\n\"%u\":{\"category\":\"%s\",\"name\":", i ? "," : "", i + 1,
			      frame->category);
		pt_json_string(buf, frame->name);
		if (frame->parent)
			pt_buf_printf(buf, ",\"parent\":\"%u\"", frame->parent);
		pt_buf_add_str(buf, "}");
	}
	pt_buf_add_str(buf, "}");
}

void chrome_add_stack_frame(const struct chrome *chrome, struct pt_buf *buf, uint32_t stack_id)
{
	if (stack_id && stack_id < chrome->stack_room)
		pt_buf_printf(buf, "\"sf\":%u,", chrome->stacks[stack_id]);
}
