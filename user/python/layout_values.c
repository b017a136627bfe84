// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * py_value_layout_fill(): where a frame's variables and what it returns are found. Offsets up to
 * 3.13 were compiled from the headers of 3.8.18, 3.9.18, 3.10.13, 3.11.7, 3.12.1 and 3.13.0; from
 * 3.13 on _Py_DebugOffsets has to agree. Opcodes: Include/opcode.h, opcode_ids.h of each version.
 */
#include <string.h>

#include "python/parts.h"

#define NONE PT_NO_FIELD

struct row {
	unsigned int minor;
	/* of co_argcount in _Py_DebugOffsets, with co_localsplusnames and co_localspluskinds behind
	 * it; 0: not there */
	uint8_t argcount_index;
	struct pt_value_layout layout;
};

/* clang-format off */
#define OLD(stacktop_at, kind)                                                                     \
	{.code_names = 72, .code_argcount = 16, .code_kwonly = 24, .code_kinds = NONE,             \
	 .code_cellvars = 88, .code_code = 48, .frame_stack = 64, .frame_stacktop = (stacktop_at), \
	 .code_consts = NONE, .stacktop = PT_STACKTOP_##kind, .op_return = {83}, .op_yield = {86}}
#define NEW(argcount, consts, kind, ...)                                                           \
	{.code_names = 96, .code_argcount = (argcount), .code_kwonly = (argcount) + 8,             \
	 .code_kinds = 104, .code_cellvars = NONE, .code_code = NONE, .frame_stack = NONE,         \
	 .frame_stacktop = 64, .code_consts = (consts), .stacktop = PT_STACKTOP_##kind,            \
	 __VA_ARGS__}

static const struct row rows[] = {
	{8, 0, OLD(72, POINTER)},
	{9, 0, OLD(72, POINTER)},
	{10, 0, OLD(80, DEPTH)},
	{11, 0, NEW(56, NONE, INDEX, .op_return = {83}, .op_yield = {86}, .op_generator = 75,
		    .op_resume = {151})},
	{12, 0, NEW(52, 24, INDEX, .op_return = {83, 242}, .op_return_const = {121, 247},
		    .op_yield = {150, 243}, .op_generator = 75, .op_resume = {151, 240})},
	{13, 40, NEW(52, 24, INDEX, .op_return = {36, 239}, .op_return_const = {103, 240},
		     .op_yield = {118, 241}, .op_generator = 35, .op_resume = {149, 236, 207})},
	{14, 45, NEW(52, NONE, POINTER, .op_return = {35, 246}, .op_yield = {120, 247},
		     .op_generator = 34, .op_resume = {128, 245, 196})},
	{15, 53, NEW(52, NONE, POINTER, .op_return = {33, 245}, .op_yield = {119, 246},
		     .op_generator = 32, .op_resume = {128, 244, 200, 201})},
};
/* clang-format on */

static bool agrees(const struct py_image *image, const struct elf_file *elf, unsigned int index,
		   uint16_t offset)
{
	uint64_t value = 0;
	const void *data;

	data = elf_at_vaddr(elf, image->runtime.vaddr + 8ull * index, sizeof(value));
	if (data)
		memcpy(&value, data, sizeof(value));
	return value == offset;
}

void py_value_layout_fill(struct py_image *image, const struct elf_file *elf)
{
	image->values = (struct pt_value_layout){.code_names = PT_NO_FIELD};
	if (image->rt.frame_locals == PT_NO_FIELD || image->rt.ts_exception == PT_NO_FIELD)
		return;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const struct row *row = &rows[i];

		unsigned int at = row->argcount_index;

		if (row->minor == (image->version >> 16 & 0xff) &&
		    (!at || (agrees(image, elf, at, row->layout.code_argcount) &&
			     agrees(image, elf, at + 1, row->layout.code_names) &&
			     agrees(image, elf, at + 2, row->layout.code_kinds))))
			image->values = row->layout;
	}
}
