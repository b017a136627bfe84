// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * py_rt_layout_fill(): the fields that only the runtime's events need. The numbers up to 3.13 were
 * compiled from the headers of 3.8.18, 3.9.18, 3.10.13, 3.11.7, 3.12.1 and 3.13.0, with and without
 * Py_DEBUG, in which they agree; CPython keeps these structs within a minor version. From 3.13 on
 * _Py_DebugOffsets has some of them, and what it says must be what the table says. What is not
 * known is left out, and the feature that needs it says no.
 */
#include <string.h>

#include "python/region.h"

#define TS_INTERP 16 /* PyThreadState.interp, 3.8 to 3.15 */

struct row {
	unsigned int minor;
	uint16_t gc_stats;    /* gc.generation_stats in PyInterpreterState; 3.8: in _PyRuntime */
	uint16_t locals;      /* _PyInterpreterFrame.localsplus, PyFrameObject.f_localsplus */
	uint8_t locals_index; /* of that in _Py_DebugOffsets, as an array of u64; 0: not there */
	uint8_t exception;    /* PyThreadState.current_exception; up to 3.11 curexc_type */
	uint8_t gen_frame;    /* gi_iframe of a generator; up to 3.10 PyFrameObject.f_gen */
	uint8_t coro_bytes;   /* sizeof(PyCoroObject), 3.11+: up to the frame's localsplus */
	/* TaskObj.task_coro (Modules/_asynciomodule.c), as seen in a run; later 3.10: 8 more */
	uint8_t task_coro;
};

static const struct row rows[] = {
    {8, 472, 360, 0, 88, 96, 104, 112}, {9, 744, 360, 0, 88, 96, 104, 152},
    {10, 744, 352, 0, 88, 88, 96, 152}, {11, 776, 72, 0, 96, 80, 152, 136},
    {12, 240, 72, 0, 96, 72, 144, 136}, {13, 7528, 72, 32, 112, 72, 144, 120},
    {14, 0, 80, 35, 112, 72, 152, 128}, {15, 0, 80, 43, 136, 72, 152, 128},
};

/* PyBaseExceptionObject: behind ob_base and dict; in 3.11+ notes come before traceback */
#define EXC_ARGS      24
#define EXC_TRACEBACK 40

#define DO_INTERP_GC 10  /* interpreter_state.gc in _Py_DebugOffsets, 3.13 */
#define GC_STATS_313 128 /* _gc_runtime_state.generation_stats, 3.13 */

static uint64_t debug_offset(const struct py_image *image, const struct elf_file *elf,
			     unsigned int index)
{
	uint64_t value = 0;
	const void *data = elf_at_vaddr(elf, image->runtime.vaddr + 8ull * index, sizeof(value));

	if (data)
		memcpy(&value, data, sizeof(value));
	return value;
}

static void fill_gc(struct py_image *image, const struct elf_file *elf, const struct row *row)
{
	struct pt_rt_layout *rt = &image->rt;

	if (row->minor == 13 &&
	    debug_offset(image, elf, DO_INTERP_GC) + GC_STATS_313 != row->gc_stats)
		return;
	if (row->minor == 8)
		rt->gc_stats_vaddr = image->runtime.vaddr + row->gc_stats;
	else
		rt->gc_stats = row->gc_stats;
}

struct loads {
	int64_t wanted; /* offset */
	bool any, found;
};

static int see_load(const struct mc_insn *insn, void *ctx)
{
	struct loads *loads = ctx;

	/* not what lies at the start of a struct, such as an object's type */
	if (insn->op != MC_OP_MOV || insn->mem != 2 || insn->mem_bytes != 8 ||
	    insn->base >= MC_RIP || insn->base == MC_RSP || insn->index != MC_NO_REG ||
	    insn->disp <= TS_INTERP)
		return 0;
	loads->any = true;
	loads->found |= insn->disp == loads->wanted;
	return loads->found;
}

/* PyErr_Occurred() reads the field; only a debug build may do it out of sight. */
static bool exception_fits(const struct py_image *image, const struct py_finder *finder,
			   uint16_t offset)
{
	struct loads loads = {.wanted = offset};
	const struct eh_range *range;
	struct mc_decoder *decoder;
	struct elf_symbol symbol;

	if (!elf_symbol(finder->elf, "PyErr_Occurred", &symbol))
		return false;
	range = eh_range_at(finder->eh, symbol.vaddr);
	if (!range || range->start != symbol.vaddr || mc_decoder_open(&decoder))
		return false;
	region_each_insn(finder->elf, decoder, range, see_load, &loads);
	mc_decoder_close(decoder);
	return loads.found || (!loads.any && image->debug);
}

/* PyTypeObject.tp_basicsize: behind ob_base, ob_size and tp_name, 3.8 to 3.15 */
#define TYPE_BASICSIZE 32

/* The interpreter's own size of a coroutine must be what the table comes to. */
static void fill_coroutine(struct py_image *image, const struct elf_file *elf,
			   const struct row *row)
{
	const uint8_t *resume = py_resume_opcodes(row->minor);
	struct elf_symbol symbol;
	uint64_t size = 0;
	const void *data;

	if (!elf_symbol(elf, "PyCoro_Type", &symbol))
		return;
	data = elf_at_vaddr(elf, symbol.vaddr + TYPE_BASICSIZE, sizeof(size));
	if (data)
		memcpy(&size, data, sizeof(size));
	if (size != row->coro_bytes || (row->minor >= 11 && !resume))
		return;
	if (resume)
		memcpy(image->rt.resume, resume, sizeof(image->rt.resume));
	image->rt.gen_frame = row->gen_frame;
}

void py_rt_layout_fill(struct py_image *image, const struct py_finder *finder)
{
	const struct elf_file *elf = finder->elf;
	struct pt_rt_layout *rt = &image->rt;
	const struct row *row = NULL;

	*rt = (struct pt_rt_layout){
	    .ts_interp = TS_INTERP,
	    .frame_locals = PT_NO_FIELD,
	    .ts_exception = PT_NO_FIELD,
	    .ts_native_id = rt->ts_native_id, /* of py_layout_fill() */
	    .gen_frame = PT_NO_FIELD,
	    .task_coro = PT_NO_FIELD,
	};
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		if (rows[i].minor == (image->version >> 16 & 0xff))
			row = &rows[i];
	if (!row)
		return;
	fill_gc(image, elf, row);
	fill_coroutine(image, elf, row);
	rt->task_coro = row->task_coro;
	if (!row->locals_index || debug_offset(image, elf, row->locals_index) == row->locals)
		rt->frame_locals = row->locals;
	if (exception_fits(image, finder, row->exception))
		rt->ts_exception = row->exception;
	rt->exc_args = EXC_ARGS;
	rt->exc_traceback = row->minor >= 12 ? EXC_TRACEBACK : 0;
	/* 3.14 keeps a tuple's hash before its items (Include/cpython/tupleobject.h) */
	rt->tuple_items = row->minor >= 14 ? 32 : 24;
	/* _PyStackRef, as in pt_layout.frame_code_mask */
	rt->locals_mask = row->minor >= 14 ? 3 : 0;
}
