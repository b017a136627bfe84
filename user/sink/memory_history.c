// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * The subset of pickle that PyTorch's viewer reads (MemoryViz.js: no classes, no POP), protocol 2:
 *
 *   {"pytrace-bpf": {"stacks": [..], "devices": [..], ..}, "segments": [..], "device_traces":
 * [[..]]}
 *
 * Each distinct stack is written once, in "stacks", and named by its memo number from then on.
 * Since only the end knows all stacks, what happened waits in a temporary file for each device.
 *
 * Each allocation is a segment: CUDA's own allocations are the segments of PyTorch's allocator.
 * Where that is followed (op.within), what it gives out is the blocks of the segments; else a
 * segment is one block. Which of both a segment is shows later only, so what is written of it as a
 * block is marked, and left out at the end. A block in no segment that is known is one itself.
 * Memory of which the device is not known, and that of the host, have places of their own behind
 * the last device. "handle" is what the program has for it, and the address mostly.
 */
#include "sink/memory_history.h"

#include <errno.h>
#include <search.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/grow.h"
#include "base/outfile.h"
#include "sink/split.h"

#define DEVICES_MAX 1024 /* a device of a larger number is none */
#define BLOCK_BYTES (64u << 10)

enum { PLACE_HOST = -2, PLACE_UNKNOWN = -1 };

/* Memory that CUDA gave out, or a block that lies in none that is known. */
struct segment {
	uint64_t start, end;
	size_t number; /* in its place, from 0 */
	bool is_block;
};

/* What happened on one device, and what is left. */
struct place {
	int device; /* or PLACE_* */
	FILE *entries;
	void *segments;     /* tsearch(3): those that are there */
	uint8_t *split;     /* by number: whether PyTorch has given out blocks of it */
	size_t split_count; /* numbers that were given */
	size_t split_size;
	struct pt_op_memory *live;
	size_t live_count, live_size;
	struct place *next;
};

/* In a place's file: what stands in front of an entry. */
struct entry_head {
	uint32_t bytes;
	bool whole; /* it is of a segment as one block: void if that turns out to be split */
	uint64_t number;
};

struct process {
	pid_t pid;
	struct place *places;
	struct process *next;
};

struct pt_memory_history {
	const char *path;
	const struct pt_capture_info *info;
	struct process *processes;
	const struct pt_stack **stacks; /* by id; NULL: not used */
	size_t stack_count;
};

/* ---- pickle ---- */

static void put_bytes(struct pt_buf *out, uint64_t value, unsigned int count)
{
	for (unsigned int i = 0; i < count; i++) {
		char byte = (char)(value >> 8 * i);

		pt_buf_add(out, &byte, 1);
	}
}

static void put_op(struct pt_buf *out, char op)
{
	pt_buf_add(out, &op, 1);
}

static void put_text(struct pt_buf *out, const char *text)
{
	size_t len = strlen(text);

	put_op(out, 'X');
	put_bytes(out, len, 4);
	pt_buf_add(out, text, len);
}

static void put_number(struct pt_buf *out, uint64_t value)
{
	if (value <= INT32_MAX) {
		put_op(out, 'J');
		put_bytes(out, value, 4);
		return;
	}
	put_op(out, (char)0x8a); /* LONG1, signed: one byte more where the top bit is set */
	put_op(out, value >> 63 ? 9 : 8);
	put_bytes(out, value, 8);
	if (value >> 63)
		put_op(out, 0);
}

static void put_key_number(struct pt_buf *out, const char *key, uint64_t value)
{
	put_text(out, key);
	put_number(out, value);
}

static void put_key_text(struct pt_buf *out, const char *key, const char *value)
{
	put_text(out, key);
	put_text(out, value);
}

static void begin_dict(struct pt_buf *out)
{
	pt_buf_add_str(out, "}(");
}

static void end_dict(struct pt_buf *out)
{
	put_op(out, 'u');
}

/* The frames of a stack: memo number 0 is the list of none. */
static void put_frames(struct pt_buf *out, const struct pt_stack *stack)
{
	put_text(out, "frames");
	put_op(out, 'j');
	put_bytes(out, stack ? stack->id : 0, 4);
}

/* ---- ops ---- */

static int use_stack(struct pt_memory_history *history, const struct pt_stack *stack)
{
	size_t count = history->stack_count ? history->stack_count : 1024;
	const struct pt_stack **bigger;

	if (!stack)
		return 0;
	while (count <= stack->id)
		count *= 2;
	if (count > history->stack_count) {
		bigger = reallocarray(history->stacks, count, sizeof(*bigger));
		if (!bigger)
			return -ENOMEM;
		memset(bigger + history->stack_count, 0,
		       (count - history->stack_count) * sizeof(*bigger));
		history->stacks = bigger;
		history->stack_count = count;
	}
	history->stacks[stack->id] = stack;
	return 0;
}

static struct process *process_get(struct pt_memory_history *history, pid_t pid)
{
	struct process **at = &history->processes;

	while (*at && (*at)->pid != pid)
		at = &(*at)->next;
	if (!*at) {
		*at = calloc(1, sizeof(**at));
		if (*at)
			(*at)->pid = pid;
	}
	return *at;
}

/* 0, 1 .. then memory of which it is not known, then that of the host. */
static int order_of(int device)
{
	return device >= 0 ? device : DEVICES_MAX - device;
}

static struct place *place_get(struct process *process, int device)
{
	struct place **at = &process->places, *place;

	while (*at && order_of((*at)->device) < order_of(device))
		at = &(*at)->next;
	place = *at;
	if (place && place->device == device)
		return place;
	place = calloc(1, sizeof(*place));
	if (!place)
		return NULL;
	place->device = device;
	place->entries = tmpfile();
	place->next = *at;
	*at = place;
	return place;
}

static int place_of(const struct pt_op_memory *op)
{
	if (op->host)
		return PLACE_HOST;
	return op->device >= 0 && op->device < DEVICES_MAX ? op->device : PLACE_UNKNOWN;
}

static void put_entry(const struct pt_memory_history *history, struct pt_buf *out,
		      const struct pt_op_memory *op, const char *action)
{
	uint64_t real_ns = history->info->start_real_ns + op->time_ns -
			   history->info->start_mono_ns;

	begin_dict(out);
	put_key_text(out, "action", action);
	put_key_number(out, "addr", op->place);
	put_key_number(out, "handle", op->address);
	put_key_number(out, "size", op->bytes);
	put_key_number(out, "stream", op->stream);
	put_key_number(out, "time_us", real_ns / 1000);
	put_key_text(out, "kind", op->kind);
	put_frames(out, op->stack);
	end_dict(out);
	put_op(out, 'a');
}

static void put_block(struct pt_buf *out, uint64_t address, uint64_t bytes,
		      const struct pt_op_memory *op)
{
	begin_dict(out);
	put_key_number(out, "address", address);
	put_key_number(out, "size", bytes);
	put_key_number(out, "requested_size", op ? bytes : 0);
	put_key_text(out, "state", op ? "active_allocated" : "inactive");
	put_frames(out, op ? op->stack : NULL);
	end_dict(out);
	put_op(out, 'a');
}

/* What lies between two blocks. */
static void put_gap(struct pt_buf *out, uint64_t from, uint64_t to)
{
	if (from < to)
		put_block(out, from, to - from, NULL);
}

/* A segment and the blocks in it, in order of address; as one block if whole. */
static void put_segment(struct pt_buf *out, const struct pt_op_memory *op, bool whole,
			const struct pt_op_memory *blocks, size_t count, size_t index)
{
	uint64_t used = whole ? op->bytes : 0, at = op->place;

	for (size_t i = 0; i < count; i++)
		used += blocks[i].bytes;
	begin_dict(out);
	put_key_number(out, "address", op->place);
	put_key_number(out, "handle", op->address);
	put_key_number(out, "total_size", op->bytes);
	put_key_number(out, "stream", op->stream);
	put_key_text(out, "segment_type", "large");
	put_key_number(out, "allocated_size", used);
	put_key_number(out, "active_size", used);
	put_key_number(out, "requested_size", used);
	put_key_text(out, "kind", op->kind);
	put_key_number(out, "device", index);
	put_frames(out, op->stack);
	put_text(out, "blocks");
	put_op(out, ']');
	if (whole)
		put_block(out, op->place, op->bytes, op);
	for (size_t i = 0; i < count; i++) {
		put_gap(out, at, blocks[i].place);
		put_block(out, blocks[i].place, blocks[i].bytes, &blocks[i]);
		at = blocks[i].place + blocks[i].bytes;
	}
	if (!whole)
		put_gap(out, at, op->place + op->bytes);
	end_dict(out);
	put_op(out, 'a');
}

/* ---- segments ---- */

/* What lies within a segment is equal to it. */
static int compare_segments(const void *left, const void *right)
{
	const struct segment *a = left, *b = right;

	if ((a->start >= b->start && a->end <= b->end) ||
	    (b->start >= a->start && b->end <= a->end))
		return 0;
	return a->start < b->start ? -1 : 1;
}

static struct segment *segment_of(const struct place *place, const struct pt_op_memory *op)
{
	const struct segment key = {.start = op->place, .end = op->place + op->bytes};
	void *const *found = tfind(&key, &place->segments, compare_segments);

	return found ? *found : NULL;
}

/* Its number; memory of the host has none, as nothing lies within it. */
static int segment_add(struct place *place, const struct pt_op_memory *op)
{
	struct segment *segment;
	size_t size = place->split_size ? 2 * place->split_size : 256;
	uint8_t *bigger;
	void **found;

	if (op->host)
		return 0;
	if (place->split_count == place->split_size) {
		bigger = realloc(place->split, size);
		if (!bigger)
			return -ENOMEM;
		memset(bigger + place->split_size, 0, size - place->split_size);
		place->split = bigger;
		place->split_size = size;
	}
	segment = calloc(1, sizeof(*segment));
	if (!segment)
		return -ENOMEM;
	*segment = (struct segment){op->place, op->place + op->bytes, place->split_count,
				    op->within};
	found = tsearch(segment, &place->segments, compare_segments);
	if (found && *found == segment)
		place->split_count++;
	else
		free(segment); /* something lies there already: it is not known what is within */
	return found ? 0 : -ENOMEM;
}

static void segment_remove(struct place *place, struct segment *segment)
{
	tdelete(segment, &place->segments, compare_segments);
	free(segment);
}

/* ---- what happens ---- */

static int write_entry(const struct pt_memory_history *history, struct place *place,
		       const struct pt_op_memory *op, const char *action,
		       const struct segment *whole)
{
	struct pt_buf out = {0};
	struct entry_head head;
	int rc = 0;

	put_entry(history, &out, op, action);
	head = (struct entry_head){.bytes = (uint32_t)out.len,
				   .whole = whole != NULL,
				   .number = whole ? whole->number : 0};
	errno = 0;
	if (out.failed)
		rc = -ENOMEM;
	else if (fwrite(&head, sizeof(head), 1, place->entries) != 1 ||
		 fwrite(out.data, 1, out.len, place->entries) != out.len)
		rc = errno ? -errno : -EIO;
	pt_buf_release(&out);
	return rc;
}

static int on_alloc(const struct pt_memory_history *history, struct place *place,
		    const struct pt_op_memory *op)
{
	struct segment *segment = op->within ? segment_of(place, op) : NULL;
	int rc = 0;

	if (segment && !segment->is_block) {
		place->split[segment->number] = 1;
		return write_entry(history, place, op, "alloc", NULL);
	}
	rc = segment_add(place, op);
	if (!rc)
		rc = write_entry(history, place, op, "segment_alloc", NULL);
	segment = segment_of(place, op);
	return rc ? rc
		  : write_entry(history, place, op, "alloc",
				segment && segment->start == op->place ? segment : NULL);
}

static int on_free(const struct pt_memory_history *history, struct place *place,
		   const struct pt_op_memory *op)
{
	struct segment *segment = segment_of(place, op), *own = NULL;
	int rc;

	if (segment && segment->start == op->place && segment->is_block == op->within)
		own = segment;
	rc = write_entry(history, place, op, "free_requested", own);
	if (!rc)
		rc = write_entry(history, place, op, "free_completed", own);
	if (!rc && (own || !op->within))
		rc = write_entry(history, place, op, "segment_free", NULL);
	if (own)
		segment_remove(place, own);
	return rc;
}

static int on_live(struct place *place, const struct pt_op_memory *op)
{
	struct pt_op_memory *bigger = pt_grow(place->live, place->live_count, &place->live_size,
					      256, sizeof(*bigger));

	if (!bigger)
		return -ENOMEM;
	place->live = bigger;
	place->live[place->live_count++] = *op;
	return 0;
}

int pt_memory_history_op(const struct pt_op *op, struct pt_memory_history *history)
{
	const struct pt_op_memory *memory = &op->memory;
	struct process *process = process_get(history, memory->pid);
	struct place *place = process ? place_get(process, place_of(memory)) : NULL;

	if (!place || use_stack(history, memory->stack))
		return -ENOMEM;
	if (!place->entries)
		return -EMFILE;
	switch (memory->action) {
	case PT_MEMORY_ALLOC:
		return on_alloc(history, place, memory);
	case PT_MEMORY_FREE:
		return on_free(history, place, memory);
	case PT_MEMORY_LIVE:
		break;
	}
	return on_live(place, memory);
}

/* ---- files ---- */

int pt_memory_history_open(const char *path, const struct pt_capture_info *info,
			   struct pt_memory_history **result)
{
	struct pt_memory_history *history = calloc(1, sizeof(*history));

	if (!history)
		return -ENOMEM;
	history->path = path;
	history->info = info;
	*result = history;
	return 0;
}

struct writer {
	struct pt_outfile file;
	struct pt_buf out;
	int rc;
};

static void flush(struct writer *writer)
{
	if (writer->out.failed && !writer->rc)
		writer->rc = -ENOMEM;
	if (!writer->rc)
		writer->rc = pt_outfile_append(&writer->file, writer->out.data, writer->out.len);
	writer->out.len = 0;
}

static void copy_entries(struct writer *writer, const struct place *place)
{
	char block[4096]; /* an entry takes some 300 bytes */
	struct entry_head head;
	FILE *from = place->entries;

	rewind(from);
	while (!writer->rc && fread(&head, sizeof(head), 1, from) == 1) {
		if (head.bytes > sizeof(block) || fread(block, 1, head.bytes, from) != head.bytes) {
			writer->rc = -EIO;
			return;
		}
		if (head.whole && place->split[head.number])
			continue;
		pt_buf_add(&writer->out, block, head.bytes);
		if (writer->out.len > BLOCK_BYTES)
			flush(writer);
	}
	if (ferror(from) && !writer->rc)
		writer->rc = -EIO;
}

/* By address; what lies within something comes behind it. */
static int compare_live(const void *left, const void *right)
{
	const struct pt_op_memory *a = left, *b = right;

	if (a->place != b->place)
		return a->place < b->place ? -1 : 1;
	return a->within - b->within;
}

static bool lies_in(const struct pt_op_memory *block, const struct pt_op_memory *segment)
{
	return block->within && !segment->within && block->place >= segment->place &&
	       block->place + block->bytes <= segment->place + segment->bytes;
}

static void put_segments(struct writer *writer, const struct place *place, size_t index)
{
	struct pt_op_memory *live = place->live;
	size_t to;

	if (place->live_count)
		qsort(live, place->live_count, sizeof(*live), compare_live);
	for (size_t i = 0; i < place->live_count; i = to) {
		const struct segment *segment = segment_of(place, &live[i]);
		bool split = segment && segment->start == live[i].place &&
			     place->split[segment->number];

		for (to = i + 1; to < place->live_count && lies_in(&live[to], &live[i]);)
			to++;
		put_segment(&writer->out, &live[i], to == i + 1 && !split, &live[i + 1], to - i - 1,
			    index);
		if (writer->out.len > BLOCK_BYTES)
			flush(writer);
	}
}

/* Innermost first. A frame whose line is not known has that of its function. */
static void put_stack(struct pt_buf *out, const struct pt_stack *stack)
{
	uint32_t id = stack->id;

	put_op(out, ']');
	for (; stack; stack = stack->caller) {
		const struct pt_function *function = stack->function;

		begin_dict(out);
		put_key_text(out, "filename", function->file);
		put_key_number(out, "line", stack->line ? stack->line : function->line);
		put_key_text(out, "name", function->qualname);
		end_dict(out);
		put_op(out, 'a');
	}
	put_op(out, 'r');
	put_bytes(out, id, 4);
}

static void put_stacks(struct writer *writer, const struct pt_memory_history *history)
{
	struct pt_buf *out = &writer->out;

	put_text(out, "stacks");
	pt_buf_add_str(out, "]]"); /* the list, and in it first one of no frames */
	put_op(out, 'r');
	put_bytes(out, 0, 4);
	put_op(out, 'a');
	for (size_t i = 0; i < history->stack_count; i++) {
		if (!history->stacks[i])
			continue;
		put_stack(out, history->stacks[i]);
		put_op(out, 'a');
		if (out->len > BLOCK_BYTES)
			flush(writer);
	}
}

/* Where in device_traces a place is: devices where they belong, the others behind them. */
static size_t index_of(const struct process *process, const struct place *place)
{
	size_t index = 0;

	for (const struct place *p = process->places; p; p = p->next) {
		if (p->device >= 0)
			index = (size_t)p->device;
		if (p == place)
			return index;
		index++;
	}
	return index;
}

static void put_devices(struct writer *writer, const struct process *process)
{
	struct pt_buf *out = &writer->out;

	put_text(out, "devices");
	begin_dict(out);
	for (const struct place *p = process->places; p; p = p->next) {
		char name[32];

		snprintf(name, sizeof(name), "device %d", p->device);
		put_number(out, index_of(process, p));
		put_text(out, p->device == PLACE_HOST      ? "memory of the host"
			      : p->device == PLACE_UNKNOWN ? "device not known"
							   : name);
	}
	end_dict(out);
}

static void put_traces(struct writer *writer, const struct process *process)
{
	struct pt_buf *out = &writer->out;
	size_t count = 0;

	put_text(out, "device_traces");
	put_op(out, ']');
	for (const struct place *p = process->places; p; p = p->next) {
		for (; count < index_of(process, p); count++)
			pt_buf_add_str(out, "]a");
		put_op(out, ']');
		copy_entries(writer, p);
		put_op(out, 'a');
		count++;
	}
}

static void put_document(struct writer *writer, const struct pt_memory_history *history,
			 const struct process *process)
{
	struct pt_buf *out = &writer->out;

	put_op(out, (char)0x80);
	put_op(out, 2);
	begin_dict(out);
	put_text(out, "pytrace-bpf");
	begin_dict(out);
	put_key_number(out, "pid", (uint64_t)process->pid);
	put_devices(writer, process);
	put_stacks(writer, history);
	end_dict(out);
	put_text(out, "segments");
	put_op(out, ']');
	for (const struct place *p = process->places; p; p = p->next)
		put_segments(writer, p, index_of(process, p));
	put_traces(writer, process);
	end_dict(out);
	put_op(out, '.');
	flush(writer);
}

static char *path_of(const struct pt_memory_history *history, const struct process *process)
{
	const char *path = history->path, *slash = strrchr(path, '/'), *dot = strrchr(path, '.');
	size_t head = dot && (!slash || dot > slash) ? (size_t)(dot - path) : strlen(path);
	char *text;

	if (pt_split_wanted(path))
		return pt_split_path(path, process->pid);
	if (process == history->processes || !process->pid)
		return strdup(path);
	return asprintf(&text, "%.*s_%d%s", (int)head, path, process->pid, path + head) < 0 ? NULL
											    : text;
}

static int write_process(const struct pt_memory_history *history, const struct process *process,
			 void (*done)(const char *path, void *ctx), void *ctx, struct pt_err *err)
{
	char *path = path_of(history, process);
	struct writer writer = {0};
	int rc;

	if (!path)
		return pt_err_set(err, -ENOMEM, PT_EXIT_FAILED, "", "out of memory");
	rc = pt_outfile_open(&writer.file, path, 0, err);
	if (!rc) {
		put_document(&writer, history, process);
		rc = writer.rc;
		if (rc)
			pt_outfile_discard(&writer.file);
		else
			rc = pt_outfile_commit(&writer.file, err);
	}
	if (rc)
		pt_err_set(err, rc, PT_EXIT_FAILED, "", "cannot write '%s': %s", path,
			   strerror(-rc));
	else if (done)
		done(path, ctx);
	pt_buf_release(&writer.out);
	free(path);
	return rc;
}

void pt_memory_history_discard(struct pt_memory_history *history)
{
	if (!history)
		return;
	while (history->processes) {
		struct process *process = history->processes;

		history->processes = process->next;
		while (process->places) {
			struct place *place = process->places;

			process->places = place->next;
			if (place->entries)
				fclose(place->entries);
			tdestroy(place->segments, free);
			free(place->split);
			free(place->live);
			free(place);
		}
		free(process);
	}
	free(history->stacks);
	free(history);
}

int pt_memory_history_close(struct pt_memory_history *history,
			    void (*done)(const char *path, void *ctx), void *ctx,
			    struct pt_err *err)
{
	const struct process none = {0};
	int rc = 0;

	if (!history->processes)
		rc = write_process(history, &none, done, ctx, err);
	for (const struct process *p = history->processes; p && !rc; p = p->next)
		rc = write_process(history, p, done, ctx, err);
	pt_memory_history_discard(history);
	return rc;
}
