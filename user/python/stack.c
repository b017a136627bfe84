// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * From _PyRuntime to every frame: interpreters -> thread states -> frames -> code objects, one
 * bounded chain after another. The process runs on while it is read, so each thread is read until
 * two looks at its innermost frame and its depth agree (STACK_TRIES times at most); a thread that
 * sleeps in a C call is right at once.
 */
#include "python/stack.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "python/stack_parts.h"
#include "target/memory.h"

#define STACK_TRIES      4
#define FRAME_BYTES      128 /* every field of a frame that we read lies below */
#define DEPTH_MAX        (1u << 24)
#define GLIBC_TID_OFFSET 0x2d0 /* struct pthread.tid, glibc x86-64 (nptl/descr.h), 2.4 - 2.42 */

struct reader {
	pid_t pid;
	const struct pt_layout *layout;
	struct py_runtime_layout runtime;
	uint64_t runtime_addr;
	struct tid_map tids;
	struct code_cache codes;
	struct pt_map by_tid; /* -> index in the result, plus 1 */
	size_t frames_total;
};

struct raw_frame {
	uint64_t addr, code_addr;
	uint8_t owner;
};

struct raw_stack { /* one thread, as it lies in memory */
	uint64_t head;
	uint32_t remaining, limit;
	struct raw_frame *frames;
	size_t count, room;
	bool cut; /* the chain broke: unreadable, a cycle, or too long */
};

struct address_list {
	uint64_t *items;
	size_t count, room;
};

static int list_add(struct address_list *list, uint64_t item)
{
	if (list->count == list->room) {
		size_t room = list->room ? list->room * 2 : 64;
		uint64_t *more = realloc(list->items, room * sizeof(*more));

		if (!more)
			return -ENOMEM;
		list->items = more;
		list->room = room;
	}
	list->items[list->count++] = item;
	return 0;
}

/* ---- frames ---- */

/* The innermost frame and the recursion counter (Include/cpython/pystate.h). */
static int read_head(const struct reader *reader, uint64_t ts, struct raw_stack *raw)
{
	const struct pt_layout *layout = reader->layout;
	uint32_t counter[2] = {0};
	int rc = pt_memory_read_ptr(reader->pid, ts + layout->ts_frame, &raw->head);

	if (!rc && layout->cframe_frame != PT_NO_FIELD)
		rc = raw->head ? pt_memory_read_ptr(reader->pid, raw->head + layout->cframe_frame,
						    &raw->head)
			       : 0;
	if (!rc && layout->flags & PT_LF_DELTA && layout->ts_remaining != PT_NO_FIELD)
		rc = pt_memory_read(reader->pid, ts + layout->ts_remaining, counter,
				    sizeof(counter));
	raw->remaining = counter[0];
	raw->limit = counter[1];
	return rc;
}

static int add_frame(struct raw_stack *raw, const struct raw_frame *frame)
{
	if (raw->count == raw->room) {
		size_t room = raw->room ? raw->room * 2 : 64;
		struct raw_frame *more = realloc(raw->frames, room * sizeof(*more));

		if (!more)
			return -ENOMEM;
		raw->frames = more;
		raw->room = room;
	}
	raw->frames[raw->count++] = *frame;
	return 0;
}

static uint64_t field_u64(const uint8_t *bytes, uint16_t offset)
{
	uint64_t value = 0;

	if (offset <= FRAME_BYTES - sizeof(value))
		memcpy(&value, bytes + offset, sizeof(value));
	return value;
}

static size_t frame_read_size(const struct pt_layout *layout)
{
	size_t size = layout->frame_code + 8u;

	if (layout->frame_back + 8u > size)
		size = layout->frame_back + 8u;
	if (layout->frame_owner != PT_NO_FIELD && layout->frame_owner + 1u > size)
		size = layout->frame_owner + 1u;
	return size;
}

/* Finds a cycle in a chain by Brent's method: a marker that jumps ahead at each power of two. */
struct cycle_check {
	uint64_t marker;
	size_t steps;
};

static bool cycle_found(struct cycle_check *check, uint64_t addr)
{
	if (check->steps && addr == check->marker)
		return true;
	if ((check->steps & (check->steps + 1)) == 0)
		check->marker = addr;
	check->steps++;
	return false;
}

/* Walks the chain from raw->head; -ENOMEM is the only error. */
static int walk_frames(const struct reader *reader, struct raw_stack *raw)
{
	const struct pt_layout *layout = reader->layout;
	size_t size = frame_read_size(layout);
	struct cycle_check check = {0};
	uint64_t addr = raw->head;
	uint8_t bytes[FRAME_BYTES] = {0};

	raw->count = 0;
	raw->cut = size > sizeof(bytes);
	while (addr && !raw->cut) {
		struct raw_frame frame = {.addr = addr};

		if (raw->count >= STACK_MAX_FRAMES || cycle_found(&check, addr) ||
		    pt_memory_read(reader->pid, addr, bytes, size)) {
			raw->cut = true;
			break;
		}
		frame.code_addr = field_u64(bytes, layout->frame_code) &
				  ~(uint64_t)layout->frame_code_mask;
		if (layout->frame_owner < sizeof(bytes))
			frame.owner = bytes[layout->frame_owner];
		if (add_frame(raw, &frame))
			return -ENOMEM;
		addr = field_u64(bytes, layout->frame_back);
	}
	return 0;
}

/* Not an interpreter frame of its own: the entry from C, which the counter does not count. */
static bool frame_is_entry(const struct pt_layout *layout, const struct raw_frame *frame)
{
	return layout->frame_owner != PT_NO_FIELD && frame->owner >= layout->owner_hidden;
}

/* Counted, but no call of the program: the shim under an inlined __init__, or the moment in which a
 * generator is created. */
static bool frame_is_hidden(const struct pt_layout *layout, const struct raw_frame *frame,
			    const struct py_code_text *code)
{
	if (layout->flags & PT_LF_DELTA && code->co_flags & PT_CO_SHIM)
		return true;
	return layout->frame_owner != PT_NO_FIELD && frame->owner == 0 &&
	       code->co_flags & PT_CO_GEN_MASK;
}

static uint32_t counted_frames(const struct pt_layout *layout, const struct raw_stack *raw)
{
	uint32_t count = 0;

	for (size_t i = 0; i < raw->count; i++)
		count += !frame_is_entry(layout, &raw->frames[i]);
	return count;
}

/* limit - remaining where the interpreter counts Python frames alone, else the frames. */
static uint32_t stack_depth(const struct pt_layout *layout, const struct raw_stack *raw)
{
	uint32_t depth = raw->limit - raw->remaining;

	if (!(layout->flags & PT_LF_DELTA) || layout->ts_remaining == PT_NO_FIELD ||
	    depth > DEPTH_MAX)
		return counted_frames(layout, raw);
	return depth;
}

static int read_raw_stack(const struct reader *reader, uint64_t ts, struct raw_stack *raw)
{
	for (int i = 0; i < STACK_TRIES; i++) {
		struct raw_stack again = {0};
		int rc = read_head(reader, ts, raw);

		if (rc)
			return rc;
		rc = walk_frames(reader, raw);
		if (!rc)
			rc = read_head(reader, ts, &again);
		if (rc)
			return rc;
		if (!raw->cut && again.head == raw->head && again.remaining == raw->remaining &&
		    stack_depth(reader->layout, raw) == counted_frames(reader->layout, raw))
			break;
	}
	return 0;
}

/* Names the frames. A frame whose code object cannot be read ends the stack there. */
static int name_frames(struct reader *reader, const struct raw_stack *raw,
		       struct py_thread_stack *stack)
{
	uint32_t depth = stack->depth;

	stack->frames = calloc(raw->count ? raw->count : 1, sizeof(*stack->frames));
	if (!stack->frames)
		return -ENOMEM;
	for (size_t i = 0; i < raw->count && depth > 0; i++) {
		struct py_frame *frame = &stack->frames[stack->frame_count];
		int rc;

		if (frame_is_entry(reader->layout, &raw->frames[i]))
			continue;
		rc = code_cache_get(&reader->codes, reader->pid, reader->layout,
				    raw->frames[i].code_addr, &frame->code);
		if (rc == -ENOMEM)
			return rc;
		if (rc)
			break;
		frame->frame_addr = raw->frames[i].addr;
		frame->code_addr = raw->frames[i].code_addr;
		frame->depth = depth--;
		if (frame_is_hidden(reader->layout, &raw->frames[i], &frame->code))
			py_code_text_release(&frame->code);
		else
			stack->frame_count++;
	}
	return 0;
}

/* ---- threads ---- */

static pid_t thread_tid(const struct reader *reader, uint64_t ts)
{
	const struct py_runtime_layout *runtime = &reader->runtime;
	uint64_t value;
	uint32_t tid32;

	if (runtime->ts_native_thread_id != PY_NO_OFFSET) {
		if (pt_memory_read_ptr(reader->pid, ts + runtime->ts_native_thread_id, &value))
			return 0;
		return tid_map_find(&reader->tids, value);
	}
	/* Up to 3.10 there is pthread_self() only. */
	if (pt_memory_read_ptr(reader->pid, ts + runtime->ts_thread_id, &value) ||
	    pt_memory_read(reader->pid, value + GLIBC_TID_OFFSET, &tid32, sizeof(tid32)))
		return 0;
	return tid_map_find(&reader->tids, tid32);
}

static void stack_release(struct py_thread_stack *stack)
{
	for (size_t i = 0; i < stack->frame_count; i++)
		py_code_text_release(&stack->frames[i].code);
	free(stack->frames);
	memset(stack, 0, sizeof(*stack));
}

/* Takes *stack on success. */
static int keep_stack(struct reader *reader, struct py_stacks *stacks,
		      const struct py_thread_stack *stack)
{
	struct py_thread_stack *more = realloc(stacks->threads,
					       (stacks->thread_count + 1) * sizeof(*more));
	int rc;

	if (!more)
		return -ENOMEM;
	stacks->threads = more;
	rc = pt_map_put(&reader->by_tid, (uint64_t)stack->tid, 0,
			(void *)(stacks->thread_count + 1));
	if (!rc)
		stacks->threads[stacks->thread_count++] = *stack;
	return rc;
}

/* A thread may have a state in several interpreters, of which the newest come first; the first one
 * with frames is what the thread runs. */
static int add_thread(struct reader *reader, uint64_t ts, struct py_stacks *stacks)
{
	struct py_thread_stack stack = {.tid = thread_tid(reader, ts), .tstate = ts};
	struct raw_stack raw = {0};
	size_t known = (size_t)pt_map_get(&reader->by_tid, (uint64_t)stack.tid, 0);
	int rc;

	if (!stack.tid || reader->frames_total >= STACK_MAX_FRAMES_ALL)
		return 0; /* the thread has just ended, or has no TID yet */
	if (known && stacks->threads[known - 1].frame_count)
		return 0;
	rc = read_raw_stack(reader, ts, &raw);
	if (!rc) {
		reader->frames_total += raw.count;
		stack.depth = stack_depth(reader->layout, &raw);
		rc = name_frames(reader, &raw, &stack);
	}
	free(raw.frames);
	if (!rc && known) {
		stack_release(&stacks->threads[known - 1]);
		stacks->threads[known - 1] = stack;
		return 0;
	}
	if (!rc)
		rc = keep_stack(reader, stacks, &stack);
	if (rc)
		stack_release(&stack);
	return rc == -EFAULT ? 0 : rc; /* -EFAULT: its state was freed under us */
}

/* Adds the thread states of one interpreter. A state that names another interpreter is not one (any
 * more): -EAGAIN. */
static int list_threads(const struct reader *reader, uint64_t interp, struct address_list *list)
{
	const struct py_runtime_layout *runtime = &reader->runtime;
	struct cycle_check check = {0};
	uint64_t ts, back;
	int rc = pt_memory_read_ptr(reader->pid, interp + runtime->interp_threads_head, &ts);

	while (!rc && ts && list->count < STACK_MAX_THREADS) {
		if (cycle_found(&check, ts) ||
		    pt_memory_read_ptr(reader->pid, ts + runtime->ts_interp, &back) ||
		    back != interp)
			return -EAGAIN;
		rc = list_add(list, ts);
		if (!rc)
			rc = pt_memory_read_ptr(reader->pid, ts + runtime->ts_next, &ts);
	}
	return rc == -EFAULT ? -EAGAIN : rc;
}

static int list_all_threads(const struct reader *reader, struct address_list *list)
{
	struct cycle_check check = {0};
	uint64_t interp;
	int rc = pt_memory_read_ptr(reader->pid,
				    reader->runtime_addr + reader->runtime.rt_interp_head, &interp);

	list->count = 0;
	for (unsigned int i = 0; !rc && interp && i < STACK_MAX_INTERPRETERS; i++) {
		rc = cycle_found(&check, interp) ? -EAGAIN : list_threads(reader, interp, list);
		if (!rc)
			rc = pt_memory_read_ptr(reader->pid, interp + reader->runtime.interp_next,
						&interp);
	}
	return rc;
}

/* ---- the whole ---- */

static int explain(int rc, pid_t pid, struct pt_err *err)
{
	if (rc == -EPERM || rc == -EACCES)
		return pt_err_set(err, rc, PT_EXIT_PERMISSION, "run as root",
				  "cannot read the memory of process %d: %s", (int)pid,
				  strerror(-rc));
	if (rc == -ESRCH)
		return pt_err_set(err, rc, PT_EXIT_NO_TARGET, "check the PID",
				  "process %d has ended", (int)pid);
	if (rc == -EFAULT || rc == -EAGAIN)
		return pt_err_set(err, -EBADMSG, PT_EXIT_FAILED,
				  "it may be starting or ending just now; try again",
				  "the interpreter state of process %d cannot be read", (int)pid);
	if (rc)
		return pt_err_set(err, rc, PT_EXIT_FAILED, "",
				  "cannot read the stacks of process %d: %s", (int)pid,
				  strerror(-rc));
	return 0;
}

/* The offsets that image->layout lacks: from the table, or from the process itself. */
static int load_runtime_layout(struct reader *reader, const struct py_image *image,
			       struct pt_err *err)
{
	uint8_t data[PY_DEBUG_OFFSETS_BYTES];
	struct pt_layout layout;
	bool free_threaded;
	ssize_t got;

	if (image->version < 0x030d0000)
		return py_layout_from_table(image->version, &layout, &reader->runtime, err);
	got = pt_memory_read_some(reader->pid, reader->runtime_addr, data, sizeof(data));
	if (got < 0)
		return explain((int)got, reader->pid, err);
	return py_layout_from_debug_offsets(data, (size_t)got, image->version, &free_threaded,
					    &layout, &reader->runtime, err);
}

static int read_all(struct reader *reader, struct py_stacks *stacks)
{
	struct address_list list = {0};
	int rc = -EAGAIN;

	for (int i = 0; i < STACK_TRIES && rc == -EAGAIN; i++)
		rc = list_all_threads(reader, &list);
	if (rc == -EAGAIN && list.count)
		rc = 0; /* threads come and go all the time: what was found is good */
	for (size_t i = 0; !rc && i < list.count; i++)
		rc = add_thread(reader, list.items[i], stacks);
	free(list.items);
	return rc;
}

int py_stacks_read(pid_t pid, const struct py_image *image, uint64_t bias, struct py_stacks *stacks,
		   struct pt_err *err)
{
	struct reader reader = {
	    .pid = pid,
	    .layout = &image->layout,
	    .runtime_addr = image->runtime.vaddr + bias,
	};
	int rc = load_runtime_layout(&reader, image, err);

	memset(stacks, 0, sizeof(*stacks));
	if (rc)
		return rc;
	rc = tid_map_load(&reader.tids, pid);
	if (!rc)
		rc = read_all(&reader, stacks);
	if (rc)
		py_stacks_release(stacks);
	code_cache_release(&reader.codes);
	tid_map_release(&reader.tids);
	pt_map_release(&reader.by_tid);
	return explain(rc, pid, err);
}

void py_stacks_release(struct py_stacks *stacks)
{
	for (size_t i = 0; i < stacks->thread_count; i++)
		stack_release(&stacks->threads[i]);
	free(stacks->threads);
	memset(stacks, 0, sizeof(*stacks));
}

int py_process_version(pid_t pid, const struct py_image *image, uint64_t bias, uint32_t *version)
{
	struct py_version_place place;
	struct elf_file *elf;
	char text[25] = "";
	int rc;

	/* Which address to look at is the file's to say. */
	rc = elf_file_open(image->path, &elf, NULL);
	if (rc)
		return rc;
	rc = py_version_locate(elf, &place);
	elf_file_close(elf);
	if (rc)
		return rc;
	if (place.is_text) {
		ssize_t got = pt_memory_read_some(pid, place.vaddr + bias, text, sizeof(text) - 1);

		if (got < 0)
			return (int)got;
		*version = py_version_parse(text, sizeof(text));
	} else {
		uint64_t value;

		rc = pt_memory_read_ptr(pid, place.vaddr + bias, &value);
		if (rc)
			return rc;
		*version = (uint32_t)value;
	}
	return *version ? 0 : -EBADMSG;
}
