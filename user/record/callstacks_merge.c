// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * One stack of native frames and one of Python frames become one, innermost first.
 *
 * A run of the interpreter's loop is one C frame, and evaluates one Python frame up to 3.10, and
 * from 3.11 on as many as called each other without C in between. Something of each run is known by
 * its address (PT_RAW_MARK): from 3.11 on it is a local variable of the loop, so the C frame whose
 * memory it lies in is that run. Up to 3.10 it is the run's PyFrameObject: the C frame is the next
 * one of _PyEval_EvalFrameDefault, and it must have that pointer in its memory or its registers.
 * The Python frames then take the place of that C frame.
 */
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "record/callstacks_parts.h"

#define EVAL_SYMBOL "_PyEval_EvalFrameDefault"

struct merge {
	const struct pt_raw_stack *raw;
	struct unwind_memory memory;
	struct unwind_patch patches[PT_RAW_RETURNS_MAX];
	uint32_t at; /* in raw->python: what is not placed yet */
	struct pt_call_frame *frames;
	uint32_t count;
};

/* ---- files ---- */

static int add_eval_part(const struct elf_symbol *symbol, void *ctx)
{
	struct code_file *file = ctx;
	size_t len = strlen(EVAL_SYMBOL);

	if (file->eval_count == EVAL_PARTS_MAX || !symbol->size ||
	    strncmp(symbol->name, EVAL_SYMBOL, len) != 0 ||
	    (symbol->name[len] && symbol->name[len] != '.'))
		return 0;
	file->eval[file->eval_count++] = (struct code_part){symbol->vaddr,
							    symbol->vaddr + symbol->size};
	return 0;
}

static void load_file(struct code_file *file)
{
	char path[32];

	file->loaded = true;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", file->fd);
	if (file->fd < 0 || elf_file_open(path, &file->elf, NULL))
		return;
	file->unwind = unwind_file_new(file->elf);
}

/* The file that holds the address, ready, and where its address 0 lies; NULL: none does. */
static struct code_file *file_at(const struct code_look *look, uint64_t addr, uint64_t *bias)
{
	for (size_t i = 0; i < look->map_count; i++) {
		const struct code_map *map = &look->maps[i];
		uint64_t vaddr;

		if (addr < map->start || addr >= map->end)
			continue;
		if (!map->file->loaded)
			load_file(map->file);
		if (!map->file->unwind || !elf_mapped_code(map->file->elf, map->offset, &vaddr))
			return NULL;
		*bias = map->start - vaddr;
		return map->file;
	}
	return NULL;
}

static bool is_eval(struct code_file *file, uint64_t vaddr)
{
	if (!file->eval_known)
		elf_each_symbol(file->elf, add_eval_part, file);
	file->eval_known = true;
	for (unsigned int i = 0; i < file->eval_count; i++)
		if (vaddr >= file->eval[i].start && vaddr < file->eval[i].end)
			return true;
	return false;
}

/* ---- frames ---- */

static void add(struct merge *m, uint32_t kind, uint32_t code_id, uint64_t where)
{
	/* the last is for what says that there are more */
	if (m->count < PT_CALL_FRAMES_MAX - 1)
		m->frames[m->count++] = (struct pt_call_frame){
		    .kind = kind, .code_id = code_id, .where = where};
}

/* A sample may stand anywhere: for its stacks to be the same ones again and again, a frame is its
 * function, which begins there. */
static uint64_t place_of(const struct merge *m, struct code_file *file, uint64_t vaddr)
{
	uint64_t start, end;

	if (m->raw->flags & PT_RAW_SAMPLE && unwind_function(file->unwind, vaddr, &start, &end))
		return start;
	return vaddr;
}

static void add_python(struct merge *m, uint64_t word)
{
	uint64_t place = word >> 32;

	add(m, PT_CF_PYTHON, (uint32_t)word, place > PT_WORD_ARG_MASK ? PT_CF_NO_PLACE : place);
}

/* The mark of the run that is to be placed next; 0: there is none. */
static uint64_t next_mark(const struct merge *m)
{
	for (uint32_t i = m->at; i < m->raw->python_count; i++)
		if (m->raw->python[i] & PT_RAW_MARK)
			return m->raw->python[i] & ~PT_RAW_MARK;
	return 0;
}

/* The frames of the next run; false: it has none. */
static bool place_run(struct merge *m)
{
	uint32_t before = m->count;

	while (m->at < m->raw->python_count) {
		uint64_t word = m->raw->python[m->at++];

		if (word & PT_RAW_MARK)
			break;
		add_python(m, word);
	}
	return m->count > before;
}

static bool has_pointer(const struct merge *m, const struct unwind_frame *frame, uint64_t end,
			uint64_t pointer)
{
	uint64_t value;

	for (unsigned int reg = 0; reg < UNWIND_REGS; reg++)
		if (frame->known >> reg & 1 && frame->reg[reg] == pointer)
			return true;
	for (uint64_t at = frame->reg[UNWIND_SP]; at + 8 <= end; at += 8)
		if (unwind_read(&m->memory, at, &value) && value == pointer)
			return true;
	return false;
}

/* Is this C frame, whose memory ends at end, the run of the loop that is to be placed next? */
static bool is_next_run(const struct merge *m, const struct unwind_frame *frame, uint64_t end,
			struct code_file *file, uint64_t vaddr)
{
	uint64_t mark = next_mark(m);

	if (!mark)
		return false;
	if (m->raw->objects)
		return is_eval(file, vaddr) && has_pointer(m, frame, end, mark);
	return mark >= frame->reg[UNWIND_SP] && mark < end;
}

/* Behind the last native frame that is known. */
static void add_rest(struct merge *m, bool complete)
{
	bool more = m->raw->flags & (PT_RAW_PYTHON_CUT | PT_RAW_PYTHON_UNKNOWN);
	uint32_t before;

	if (!complete)
		add(m, PT_CF_NATIVE_UNKNOWN, 0, 0);
	before = m->count;
	while (m->at < m->raw->python_count)
		place_run(m);
	if (complete && m->count > before) {
		/* all native frames are there, but these have no place among them */
		memmove(&m->frames[before + 1], &m->frames[before],
			(m->count - before) * sizeof(*m->frames));
		m->frames[before] = (struct pt_call_frame){.kind = PT_CF_NATIVE_UNKNOWN};
		m->count++;
	}
	if (more && m->count < PT_CALL_FRAMES_MAX)
		m->frames[m->count++] = (struct pt_call_frame){.kind = PT_CF_PYTHON_MORE};
}

/* The Python frames alone: 0 if there is none. */
static uint32_t python_only(struct merge *m)
{
	while (m->at < m->raw->python_count)
		place_run(m);
	if (m->count && m->raw->flags & PT_RAW_PYTHON_CUT)
		add(m, PT_CF_PYTHON_MORE, 0, 0);
	return m->count;
}

static void begin(struct merge *m, struct unwind_frame *frame)
{
	static const uint8_t dwarf[PT_RAW_REGS] = {
	    [PT_RAW_IP] = UNWIND_IP, [PT_RAW_SP] = UNWIND_SP,   [PT_RAW_BP] = UNWIND_BP,
	    [PT_RAW_BX] = UNWIND_BX, [PT_RAW_R12] = UNWIND_R12, [PT_RAW_R12 + 1] = 13,
	    [PT_RAW_R12 + 2] = 14,   [PT_RAW_R12 + 3] = 15,
	};
	const struct pt_raw_stack *raw = m->raw;
	uint64_t below = raw->flags & PT_RAW_SAMPLE ? PT_RAW_RED_ZONE : 0;

	for (unsigned int i = 0; i < PT_RAW_REGS; i++) {
		frame->reg[dwarf[i]] = raw->regs[i];
		frame->known |= 1u << dwarf[i];
	}
	frame->interrupted = true;
	for (uint32_t i = 0; i < raw->return_count; i++)
		m->patches[i] = (struct unwind_patch){raw->returns[i].at, raw->returns[i].to};
	m->memory = (struct unwind_memory){
	    .start = raw->regs[PT_RAW_SP] - below,
	    .bytes = raw->stack,
	    .size = raw->stack_bytes,
	    .patches = m->patches,
	    .patch_count = raw->return_count,
	};
}

/* True: up to where the thread begins. */
static bool walk(struct merge *m, const struct code_look *look)
{
	struct unwind_frame frame = {0}, caller;
	struct code_file *file;
	uint64_t bias = 0, vaddr;

	begin(m, &frame);
	/* the function that is called itself comes first, and is not shown; a sample's is */
	for (uint32_t i = 0; i < PT_CALL_FRAMES_MAX; i++) {
		int rc;

		file = file_at(look, frame.reg[UNWIND_IP] - !frame.interrupted, &bias);
		if (!file)
			return false;
		vaddr = frame.reg[UNWIND_IP] - bias - !frame.interrupted;
		caller = frame;
		rc = unwind_step(file->unwind, bias, &m->memory, &caller);
		if ((i || m->raw->flags & PT_RAW_SAMPLE) &&
		    (rc || !is_next_run(m, &frame, caller.cfa, file, vaddr) || !place_run(m)))
			add(m, PT_CF_NATIVE, file->number, place_of(m, file, vaddr));
		if (rc)
			return rc == 1;
		frame = caller;
	}
	return false;
}

uint32_t callstacks_merge(const struct code_look *look, const struct pt_raw_stack *raw,
			  struct pt_call_frame *frames)
{
	struct merge m = {.raw = raw, .frames = frames};
	bool complete;

	if (raw->flags & PT_RAW_PYTHON_ONLY)
		return python_only(&m);
	complete = look && walk(&m, look);
	add_rest(&m, complete);
	return m.count;
}
