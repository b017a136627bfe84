// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
#include "python/layout.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define HINT_VERSION                                                                               \
	"CPython 3.8 to 3.15 releases are supported; run the program on one of them, or look for " \
	"a newer pytrace-bpf"

/* One minor version up to 3.12. Fields as in struct pt_layout and struct py_runtime_layout. */
struct layout_row {
	unsigned int minor;
	uint16_t ts_remaining, ts_limit, ts_frame, cframe_frame;
	uint16_t frame_code, frame_back, frame_owner;
	uint8_t owner_hidden;
	uint16_t code_flags, code_firstlineno, code_name, code_qualname, code_filename;
	uint16_t str_length, str_state, str_ascii_data, str_data;
	uint16_t frame_instr, code_adaptive, code_linetable, ts_datastack;
	uint16_t rt_interp_head, rt_tstate_current, interp_next, interp_threads_head;
	uint16_t ts_next, ts_interp, ts_thread_id, ts_native_thread_id;
};

static const struct layout_row rows[] = {
#include "python/layout_data.h"
};

/*
 * _Py_DebugOffsets is an array of u64 in effect; which one is which differs by minor version
 * (Include/internal/pycore_runtime.h in 3.13, Include/internal/pycore_debug_offsets.h later).
 * 3.14 added interpreter_state.threads_main, code_object_generation and tlbc_generation,
 * interpreter_frame.stackpointer and tlbc_index, code_object.co_tlbc and the set object; 3.15 added
 * seven thread_state fields, err_stackitem and four type_object fields.
 */
enum {
	DO_COOKIE = 0, /* "xdebugpy" */
	DO_VERSION = 1,
	DO_FREE_THREADED = 2,
	DO_RUNTIME_SIZE = 3,
	DO_INTERP_HEAD = 5,
	DO_INTERP_SIZE = 6,
	DO_INTERP_NEXT = 8,
	DO_INTERP_THREADS_HEAD = 9,
};

struct offsets_map {
	unsigned int minor;
	uint8_t count; /* u64 read in all */
	uint8_t thread_size, thread_next, thread_interp, thread_frame, thread_id, thread_native_id;
	uint8_t frame_size, frame_previous, frame_executable, frame_instr, frame_owner;
	uint8_t code_size, code_filename, code_name, code_qualname, code_linetable;
	uint8_t code_firstlineno, code_argcount, code_adaptive;
	uint8_t object_size, unicode_size, unicode_state, unicode_length, unicode_ascii_size;
};

static const struct offsets_map maps[] = {
    {
	.minor = 13,
	.count = 71,
	.thread_size = 19,
	.thread_next = 21,
	.thread_interp = 22,
	.thread_frame = 23,
	.thread_id = 24,
	.thread_native_id = 25,
	.frame_size = 28,
	.frame_previous = 29,
	.frame_executable = 30,
	.frame_instr = 31,
	.frame_owner = 33,
	.code_size = 34,
	.code_filename = 35,
	.code_name = 36,
	.code_qualname = 37,
	.code_linetable = 38,
	.code_firstlineno = 39,
	.code_argcount = 40,
	.code_adaptive = 43,
	.object_size = 44,
	.unicode_size = 67,
	.unicode_state = 68,
	.unicode_length = 69,
	.unicode_ascii_size = 70,
    },
    {
	.minor = 14,
	.count = 81,
	.thread_size = 22,
	.thread_next = 24,
	.thread_interp = 25,
	.thread_frame = 26,
	.thread_id = 27,
	.thread_native_id = 28,
	.frame_size = 31,
	.frame_previous = 32,
	.frame_executable = 33,
	.frame_instr = 34,
	.frame_owner = 36,
	.code_size = 39,
	.code_filename = 40,
	.code_name = 41,
	.code_qualname = 42,
	.code_linetable = 43,
	.code_firstlineno = 44,
	.code_argcount = 45,
	.code_adaptive = 48,
	.object_size = 50,
	.unicode_size = 77,
	.unicode_state = 78,
	.unicode_length = 79,
	.unicode_ascii_size = 80,
    },
    {
	.minor = 15,
	.count = 93,
	.thread_size = 22,
	.thread_next = 24,
	.thread_interp = 25,
	.thread_frame = 26,
	.thread_id = 30,
	.thread_native_id = 31,
	.frame_size = 39,
	.frame_previous = 40,
	.frame_executable = 41,
	.frame_instr = 42,
	.frame_owner = 44,
	.code_size = 47,
	.code_filename = 48,
	.code_name = 49,
	.code_qualname = 50,
	.code_linetable = 51,
	.code_firstlineno = 52,
	.code_argcount = 53,
	.code_adaptive = 56,
	.object_size = 58,
	.unicode_size = 89,
	.unicode_state = 90,
	.unicode_length = 91,
	.unicode_ascii_size = 92,
    },
};
_Static_assert(PY_DEBUG_OFFSETS_BYTES == 93 * sizeof(uint64_t), "the longest map");

static int refuse_version(uint32_t version, struct pt_err *err)
{
	char text[32];

	py_version_format(version, text, sizeof(text));
	return pt_err_set(err, -ENOTSUP, PT_EXIT_UNSUPPORTED, HINT_VERSION,
			  "the field offsets of CPython %s are not known", text);
}

/* Alphas and betas change their structs from one to the next (PY_RELEASE_LEVEL_ALPHA 0xA, _BETA
 * 0xB, _GAMMA 0xC, _FINAL 0xF). */
static bool is_release(uint32_t version)
{
	return version >> 24 == 3 && (version >> 4 & 0xf) >= 0xc;
}

int py_layout_from_table(uint32_t version, struct pt_layout *layout,
			 struct py_runtime_layout *runtime, struct pt_err *err)
{
	const struct layout_row *row = NULL;

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		if (rows[i].minor == (version >> 16 & 0xff))
			row = &rows[i];
	if (!row || !is_release(version))
		return refuse_version(version, err);
	*layout = (struct pt_layout){
	    .version = version,
	    .flags = (row->minor >= 12 ? PT_LF_DELTA : 0) |
		     (row->frame_owner != PT_NO_FIELD ? PT_LF_HAS_OWNER : 0),
	    .ts_remaining = row->ts_remaining,
	    .ts_frame = row->ts_frame,
	    .cframe_frame = row->cframe_frame,
	    .frame_code = row->frame_code,
	    .frame_back = row->frame_back,
	    .frame_owner = row->frame_owner,
	    .frame_code_mask = 0,
	    .owner_hidden = row->owner_hidden,
	    .code_flags = row->code_flags,
	    .code_firstlineno = row->code_firstlineno,
	    .code_name = row->code_name,
	    .code_qualname = row->code_qualname,
	    .code_filename = row->code_filename,
	    .str_length = row->str_length,
	    .str_state = row->str_state,
	    .str_ascii_data = row->str_ascii_data,
	    .str_data = row->str_data,
	    .frame_instr = row->frame_instr,
	    .code_adaptive = row->code_adaptive,
	    .code_linetable = row->code_linetable,
	    .ts_datastack = row->ts_datastack,
	};
	*runtime = (struct py_runtime_layout){
	    .rt_interp_head = row->rt_interp_head,
	    .rt_tstate_current = row->rt_tstate_current == PT_NO_FIELD ? PY_NO_OFFSET
								       : row->rt_tstate_current,
	    .interp_next = row->interp_next,
	    .interp_threads_head = row->interp_threads_head,
	    .ts_next = row->ts_next,
	    .ts_interp = row->ts_interp,
	    .ts_thread_id = row->ts_thread_id,
	    .ts_native_thread_id = row->ts_native_thread_id == PT_NO_FIELD
				       ? PY_NO_OFFSET
				       : row->ts_native_thread_id,
	};
	return 0;
}

/* Every offset lies in its struct, and the structs that have not changed since 3.12 look so. */
static bool offsets_plausible(const struct offsets_map *map, const uint64_t *offsets)
{
	const uint8_t thread[] = {map->thread_next,      map->thread_interp,
				  map->thread_frame,     map->thread_id,
				  map->thread_native_id, (uint8_t)(map->thread_native_id + 1)};
	const uint8_t frame[] = {map->frame_previous, map->frame_executable, map->frame_instr,
				 map->frame_owner};
	const uint8_t code[] = {map->code_filename,  map->code_name,        map->code_qualname,
				map->code_linetable, map->code_firstlineno, map->code_argcount,
				map->code_adaptive};
	uint64_t thread_size = offsets[map->thread_size], frame_size = offsets[map->frame_size];
	uint64_t code_size = offsets[map->code_size], ascii = offsets[map->unicode_ascii_size];

	for (size_t i = 0; i < sizeof(thread); i++)
		if (offsets[thread[i]] >= thread_size || offsets[thread[i]] % 8)
			return false;
	for (size_t i = 0; i < sizeof(frame); i++)
		if (offsets[frame[i]] >= frame_size)
			return false;
	for (size_t i = 0; i < sizeof(code); i++)
		if (offsets[code[i]] >= code_size)
			return false;
	/* PyCodeObject: co_flags, co_argcount, two more, co_stacksize, co_firstlineno are ints
	 * in a row since 3.12 (Include/cpython/code.h). */
	return thread_size < 0x4000 && frame_size <= 256 && code_size <= 1024 &&
	       offsets[DO_RUNTIME_SIZE] < 1u << 24 && offsets[DO_INTERP_SIZE] < 1u << 24 &&
	       offsets[DO_INTERP_HEAD] < offsets[DO_RUNTIME_SIZE] &&
	       offsets[DO_INTERP_NEXT] < offsets[DO_INTERP_SIZE] &&
	       offsets[DO_INTERP_THREADS_HEAD] < offsets[DO_INTERP_SIZE] &&
	       offsets[map->object_size] == 16 &&
	       offsets[map->code_firstlineno] == offsets[map->code_argcount] + 16 &&
	       offsets[map->code_argcount] >= 20 && ascii >= 40 && ascii <= 64 &&
	       offsets[map->unicode_size] == ascii + 24 && offsets[map->unicode_length] == 16 &&
	       offsets[map->unicode_state] == 32;
}

static void layout_from_map(const struct offsets_map *map, const uint64_t *offsets,
			    uint32_t version, struct pt_layout *layout,
			    struct py_runtime_layout *runtime)
{
	*layout = (struct pt_layout){
	    .version = version,
	    .flags = PT_LF_DELTA | PT_LF_HAS_OWNER,
	    .ts_remaining = PT_NO_FIELD,
	    .ts_frame = (uint16_t)offsets[map->thread_frame],
	    .cframe_frame = PT_NO_FIELD,
	    .frame_code = (uint16_t)offsets[map->frame_executable],
	    .frame_back = (uint16_t)offsets[map->frame_previous],
	    .frame_owner = (uint16_t)offsets[map->frame_owner],
	    /* _PyStackRef: the low two bits are tags (3.14: Include/internal/pycore_stackref.h) */
	    .frame_code_mask = map->minor >= 14 ? 3 : 0,
	    /* 3.13: FRAME_OWNED_BY_CSTACK; 3.14+: FRAME_OWNED_BY_INTERPRETER, then _CSTACK */
	    .owner_hidden = 3,
	    .code_flags = (uint16_t)(offsets[map->code_argcount] - 4),
	    .code_firstlineno = (uint16_t)offsets[map->code_firstlineno],
	    .code_name = (uint16_t)offsets[map->code_name],
	    .code_qualname = (uint16_t)offsets[map->code_qualname],
	    .code_filename = (uint16_t)offsets[map->code_filename],
	    .frame_instr = (uint16_t)offsets[map->frame_instr],
	    .code_adaptive = (uint16_t)offsets[map->code_adaptive],
	    .code_linetable = (uint16_t)offsets[map->code_linetable],
	    /* the next in the thread state's list, 3.13 to 3.15 */
	    .ts_datastack = (uint16_t)offsets[map->thread_native_id + 1],
	    .str_length = (uint16_t)offsets[map->unicode_length],
	    .str_state = (uint16_t)offsets[map->unicode_state],
	    .str_ascii_data = (uint16_t)offsets[map->unicode_ascii_size],
	    /* PyUnicodeObject is PyCompactUnicodeObject and one pointer */
	    .str_data = (uint16_t)(offsets[map->unicode_size] - 8),
	};
	*runtime = (struct py_runtime_layout){
	    .rt_interp_head = (uint32_t)offsets[DO_INTERP_HEAD],
	    .rt_tstate_current = PY_NO_OFFSET,
	    .interp_next = (uint32_t)offsets[DO_INTERP_NEXT],
	    .interp_threads_head = (uint32_t)offsets[DO_INTERP_THREADS_HEAD],
	    .ts_next = (uint32_t)offsets[map->thread_next],
	    .ts_interp = (uint32_t)offsets[map->thread_interp],
	    .ts_thread_id = (uint32_t)offsets[map->thread_id],
	    .ts_native_thread_id = (uint32_t)offsets[map->thread_native_id],
	};
}

int py_layout_from_debug_offsets(const void *data, size_t size, uint32_t version,
				 bool *free_threaded, struct pt_layout *layout,
				 struct py_runtime_layout *runtime, struct pt_err *err)
{
	uint64_t offsets[PY_DEBUG_OFFSETS_BYTES / sizeof(uint64_t)];
	const struct offsets_map *map = NULL;
	char text[32];

	*free_threaded = false;
	py_version_format(version, text, sizeof(text));
	for (size_t i = 0; i < sizeof(maps) / sizeof(maps[0]); i++)
		if (maps[i].minor == (version >> 16 & 0xff))
			map = &maps[i];
	if (!map || !is_release(version))
		return refuse_version(version, err);
	if (size < map->count * sizeof(uint64_t) || memcmp(data, "xdebugpy", 8))
		return pt_err_set(err, -ENOTSUP, PT_EXIT_UNSUPPORTED,
				  "the interpreter may be patched or damaged; try a stock build",
				  "CPython %s carries no _Py_DebugOffsets", text);
	memcpy(offsets, data, map->count * sizeof(uint64_t));
	*free_threaded = offsets[DO_FREE_THREADED] != 0;
	if (*free_threaded)
		return pt_err_set(err, -ENOTSUP, PT_EXIT_UNSUPPORTED,
				  "run the program on the build with the GIL",
				  "this is a free-threaded build of CPython %s, which is not "
				  "supported yet",
				  text);
	if (offsets[DO_VERSION] != version || !offsets_plausible(map, offsets))
		return pt_err_set(err, -ENOTSUP, PT_EXIT_UNSUPPORTED,
				  "the interpreter may be patched or damaged; try a stock build",
				  "the _Py_DebugOffsets of CPython %s make no sense", text);
	layout_from_map(map, offsets, version, layout, runtime);
	return 0;
}
