// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
#include "record/callstacks.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/map.h"
#include "pt_maps.h"
#include "record/callstacks_parts.h"
#include "target/symbols.h"
#include "target/vdso.h"

#define STACKS_MAX     (1u << 18) /* different ones; what comes then has none */
#define PATH_MAX_BYTES 4096
#define LOOKS_MAX      8          /* kept of a process */
#define PAGES_UNKNOWN  UINT64_MAX /* of code: it changed while it was looked at */

struct code_process {
	struct code_look looks[LOOKS_MAX]; /* in order */
	size_t look_count;
	struct code_look between;        /* what two of them have in common, for one identity */
	struct pt_code_identity refused; /* nothing is known of that */
};

struct call_stack {
	struct call_stack *next; /* of the same hash */
	uint32_t id, count;
	struct pt_call_frame frames[];
};

struct callstacks {
	struct callstacks_options options;
	pthread_mutex_t lock; /* of files, for the output's thread */
	struct code_file **files;
	size_t file_count;
	uint32_t vdso; /* its number; 0: not opened yet, or there is none */
	size_t vdso_bytes;
	bool vdso_looked;
	struct code_process **processes;
	size_t process_count;
	struct pt_map by_image; /* (pid, image_id): a process */
	struct pt_map by_hash;  /* (hash, image): a call_stack */
	uint32_t stack_count;
	uint64_t unmapped;
	bool told_full;
};

struct callstacks *callstacks_new(const struct callstacks_options *options)
{
	struct callstacks *stacks = calloc(1, sizeof(*stacks));

	if (!stacks)
		return NULL;
	stacks->options = *options;
	pthread_mutex_init(&stacks->lock, NULL);
	return stacks;
}

static void file_free(struct code_file *file)
{
	unwind_file_free(file->unwind);
	if (file->elf)
		elf_file_close(file->elf);
	symbols_release(&file->symbols);
	if (file->named_elf)
		elf_file_close(file->named_elf);
	if (file->fd >= 0)
		close(file->fd);
	free(file->path);
	free(file);
}

void callstacks_free(struct callstacks *stacks)
{
	if (!stacks)
		return;
	for (size_t i = 0; stacks->by_hash.entries && i <= stacks->by_hash.mask; i++) {
		struct call_stack *next, *stack = stacks->by_hash.entries[i].value;

		for (; stack; stack = next) {
			next = stack->next;
			free(stack);
		}
	}
	for (size_t i = 0; i < stacks->process_count; i++) {
		struct code_process *process = stacks->processes[i];

		for (size_t k = 0; k < process->look_count; k++)
			free(process->looks[k].maps);
		free(process->between.maps);
		free(process);
	}
	for (size_t i = 0; i < stacks->file_count; i++)
		file_free(stacks->files[i]);
	free(stacks->processes);
	free(stacks->files);
	pt_map_release(&stacks->by_image);
	pt_map_release(&stacks->by_hash);
	pthread_mutex_destroy(&stacks->lock);
	free(stacks);
}

uint64_t callstacks_unmapped(const struct callstacks *stacks)
{
	return stacks->unmapped;
}

/* ---- what processes map ---- */

static struct code_file *file_new(const struct pt_module *module)
{
	struct code_file *file = calloc(1, sizeof(*file));

	if (!file)
		return NULL;
	file->dev = module->dev;
	file->inode = module->inode;
	file->fd = open(module->open_path, O_RDONLY | O_CLOEXEC);
	file->path = strdup(module->path);
	if (!file->path) {
		file_free(file);
		return NULL;
	}
	return file;
}

/* Its number, from 1, as it is one of them now; 0: no memory, and it is freed. */
static uint32_t file_add(struct callstacks *stacks, struct code_file *file)
{
	struct code_file **bigger;

	file->number = (uint32_t)stacks->file_count + 1;
	pthread_mutex_lock(&stacks->lock);
	bigger = reallocarray(stacks->files, stacks->file_count + 1, sizeof(*bigger));
	if (bigger) {
		stacks->files = bigger;
		bigger[stacks->file_count++] = file;
	}
	pthread_mutex_unlock(&stacks->lock);
	if (!bigger) {
		file_free(file);
		return 0;
	}
	return file->number;
}

/* The file's number, from 1; 0: no memory. */
static uint32_t file_number(struct callstacks *stacks, const struct pt_module *module)
{
	struct code_file *file;

	for (size_t i = 0; i < stacks->file_count; i++) {
		file = stacks->files[i];
		/* the inode of one that is not open may be another's by now */
		if (file->dev == module->dev && file->inode == module->inode && file->fd >= 0)
			return (uint32_t)i + 1;
	}
	file = file_new(module);
	return file ? file_add(stacks, file) : 0;
}

/* Opens it the first time; without it its frames are not known. */
static void find_vdso(struct callstacks *stacks)
{
	int fd = stacks->vdso_looked ? -1 : vdso_open(&stacks->vdso_bytes);
	struct code_file *file;

	stacks->vdso_looked = true;
	if (fd < 0)
		return;
	file = calloc(1, sizeof(*file));
	if (!file) {
		close(fd);
		return;
	}
	file->fd = fd;
	file->path = strdup("[vdso]");
	if (file->path)
		stacks->vdso = file_add(stacks, file);
	else
		file_free(file);
}

/* Where the process maps it, behind the count maps that there are. */
static size_t add_vdso(struct callstacks *stacks, pid_t pid, struct code_map *maps, size_t count)
{
	uint64_t at;

	find_vdso(stacks);
	at = stacks->vdso ? vdso_address(pid) : 0;
	if (!at)
		return count;
	maps[count] = (struct code_map){
	    .file = stacks->files[stacks->vdso - 1], .start = at, .end = at + stacks->vdso_bytes};
	return count + 1;
}

static struct code_process *process_get(struct callstacks *stacks, pid_t pid, uint32_t image_id)
{
	struct code_process *process, **bigger;

	process = pt_map_get(&stacks->by_image, (uint64_t)pid, image_id);
	if (process)
		return process;
	process = calloc(1, sizeof(*process));
	bigger = reallocarray(stacks->processes, stacks->process_count + 1, sizeof(*bigger));
	if (bigger)
		stacks->processes = bigger;
	if (!process || !bigger ||
	    pt_map_put(&stacks->by_image, (uint64_t)pid, image_id, process)) {
		free(process);
		return NULL;
	}
	bigger[stacks->process_count++] = process;
	return process;
}

static int make_maps(struct callstacks *stacks, const struct pt_process *from,
		     struct code_map **out, size_t *count)
{
	size_t all = from->module_count + from->part_count;
	struct code_map *maps = calloc(all + 1, sizeof(*maps));

	if (!maps)
		return -ENOMEM;
	for (size_t i = 0; i < from->module_count; i++) {
		const struct pt_module *module = &from->modules[i];
		uint32_t number = file_number(stacks, module);

		if (!number) {
			free(maps);
			return -ENOMEM;
		}
		maps[i] = (struct code_map){
		    .file = stacks->files[number - 1],
		    .start = module->start,
		    .end = module->end,
		    .offset = module->file_offset,
		};
	}
	for (size_t i = 0; i < from->part_count; i++) {
		const struct pt_module_part *part = &from->parts[i];

		maps[from->module_count + i] = (struct code_map){
		    .file = maps[part->module].file,
		    .start = part->start,
		    .end = part->end,
		    .offset = part->file_offset,
		};
	}
	*out = maps;
	*count = add_vdso(stacks, from->pid, maps, all);
	return 0;
}

static bool same(const struct pt_code_identity *a, const struct pt_code_identity *b)
{
	return a->start_stack == b->start_stack && a->exec_pages == b->exec_pages;
}

static void add_look(struct code_process *process, const struct code_look *look)
{
	if (process->look_count == LOOKS_MAX) {
		free(process->looks[0].maps);
		memmove(&process->looks[0], &process->looks[1],
			(LOOKS_MAX - 1) * sizeof(process->looks[0]));
		process->look_count--;
	}
	process->looks[process->look_count++] = *look;
}

int callstacks_look(struct callstacks *stacks, pid_t pid, uint32_t image_id)
{
	struct code_process *process = process_get(stacks, pid, image_id);
	struct code_look look = {.begin_ns = pt_now_ns()};
	struct pt_code_identity after;
	struct pt_process *opened;
	int rc;

	if (!process)
		return -ENOMEM;
	if (pt_process_code(pid, &look.identity) ||
	    pt_process_open_cached(pid, stacks->options.files, &opened, NULL))
		return 0; /* it has ended */
	if (pt_process_code(pid, &after) || after.start_stack != look.identity.start_stack) {
		pt_process_free(opened); /* it has executed something else */
		return 0;
	}
	if (!same(&look.identity, &after))
		look.identity.exec_pages = PAGES_UNKNOWN;
	look.end_ns = pt_now_ns();
	rc = make_maps(stacks, opened, &look.maps, &look.map_count);
	pt_process_free(opened);
	if (!rc)
		add_look(process, &look);
	return rc;
}

static bool has_map(const struct code_look *look, const struct code_map *map)
{
	for (size_t i = 0; i < look->map_count; i++)
		if (!memcmp(&look->maps[i], map, sizeof(*map)))
			return true;
	return false;
}

/* What was mapped before and after was mapped in between. */
static const struct code_look *both(struct code_process *process, const struct code_look *before,
				    const struct code_look *after,
				    const struct pt_code_identity *then)
{
	struct code_look *between = &process->between;
	struct code_map *maps = calloc(before->map_count + 1, sizeof(*maps));

	if (!maps)
		return NULL;
	free(between->maps);
	*between = (struct code_look){.identity = *then, .maps = maps};
	for (size_t i = 0; i < before->map_count; i++)
		if (has_map(after, &before->maps[i]))
			maps[between->map_count++] = before->maps[i];
	return between;
}

static const struct code_look *find_look(struct code_process *process, uint64_t time_ns,
					 const struct pt_code_identity *then)
{
	const struct code_look *before = NULL, *after = NULL;

	for (size_t i = 0; i < process->look_count; i++) {
		const struct code_look *look = &process->looks[i];

		if (same(&look->identity, then))
			return look;
		if (look->identity.start_stack != then->start_stack)
			continue;
		if (look->end_ns <= time_ns)
			before = look;
		else if (look->begin_ns > time_ns && !after)
			after = look;
	}
	if (!before || !after)
		return NULL;
	if (same(&process->between.identity, then))
		return &process->between;
	return both(process, before, after, then);
}

/* What the process mapped at the time of the stack, or as much of it as is known; *found NULL:
 * nothing is. */
static int look_of(struct callstacks *stacks, const struct pt_raw_stack *raw,
		   const struct code_look **found)
{
	const struct pt_code_identity then = {raw->start_stack, raw->exec_pages};
	pid_t pid = (pid_t)raw->hdr.tgid;
	struct code_process *process = process_get(stacks, pid, raw->hdr.image_id);
	int rc = process ? 0 : -ENOMEM;

	*found = process ? find_look(process, raw->hdr.time_ns, &then) : NULL;
	if (rc || *found || same(&process->refused, &then))
		goto out;
	rc = callstacks_look(stacks, pid, raw->hdr.image_id);
	if (!rc)
		*found = find_look(process, raw->hdr.time_ns, &then);
	if (!*found)
		process->refused = then; /* nor will it be known later */
out:
	if (!rc && !*found)
		stacks->unmapped++;
	return rc;
}

/* ---- stacks ---- */

/* The stack's number; *fresh: it is new. 0: no room. */
static int find_stack(struct callstacks *stacks, uint64_t image, const struct pt_call_frame *frames,
		      uint32_t count, uint32_t *id, bool *fresh)
{
	size_t bytes = count * sizeof(*frames);
	uint64_t hash = pt_hash_bytes(frames, bytes, count);
	struct call_stack *first = pt_map_get(&stacks->by_hash, hash, image), *stack;

	*fresh = false;
	*id = 0;
	for (stack = first; stack; stack = stack->next) {
		*id = stack->id;
		if (stack->count == count && !memcmp(stack->frames, frames, bytes))
			return 0;
	}
	*id = 0;
	if (stacks->stack_count == STACKS_MAX) {
		if (!stacks->told_full)
			pt_warn("there are more than %u different stacks: the others are not "
				"recorded",
				STACKS_MAX);
		stacks->told_full = true;
		return 0;
	}
	stack = malloc(sizeof(*stack) + bytes);
	if (!stack)
		return -ENOMEM;
	*stack = (struct call_stack){.next = first, .id = stacks->stack_count + 1, .count = count};
	memcpy(stack->frames, frames, bytes);
	if (pt_map_put(&stacks->by_hash, hash, image, stack)) {
		free(stack);
		return -ENOMEM;
	}
	stacks->stack_count++;
	*id = stack->id;
	*fresh = true;
	return 0;
}

static int put_stack(struct callstacks *stacks, const struct pt_raw_stack *raw, uint32_t id,
		     const struct pt_call_frame *frames, uint32_t count)
{
	size_t len = sizeof(struct pt_rec_call_stack) + count * sizeof(*frames);
	struct pt_rec_call_stack *record = calloc(1, len);
	int rc;

	if (!record)
		return -ENOMEM;
	record->hdr = raw->hdr;
	record->hdr.flags = 0;
	record->hdr.len = (uint32_t)len;
	record->serial = raw->serial;
	record->id = id;
	record->frame_count = count;
	if (count)
		memcpy(record->frames, frames, count * sizeof(*frames));
	rc = stacks->options.put(&record->hdr, len, stacks->options.ctx);
	free(record);
	return rc;
}

int callstacks_take(struct callstacks *stacks, const struct pt_rec *record, size_t len)
{
	const struct pt_raw_stack *raw = (const struct pt_raw_stack *)record;
	struct pt_call_frame frames[PT_CALL_FRAMES_MAX];
	const struct code_look *look = NULL;
	uint32_t count, id;
	bool fresh;
	int rc = 0;

	if (len < sizeof(*raw) || raw->stack_bytes > len - sizeof(*raw) ||
	    raw->python_count > PT_RAW_PYTHON_MAX || raw->return_count > PT_RAW_RETURNS_MAX)
		return 0;
	if (!(raw->flags & PT_RAW_PYTHON_ONLY))
		rc = look_of(stacks, raw, &look);
	if (rc)
		return rc;
	count = callstacks_merge(look, raw, frames);
	if (!count) /* nothing called it: it is what the thread runs */
		return 0;
	rc = find_stack(stacks, (uint64_t)raw->hdr.tgid << 32 | raw->hdr.image_id, frames, count,
			&id, &fresh);
	return rc || !id ? rc : put_stack(stacks, raw, id, frames, fresh ? count : 0);
}

/* ---- names ---- */

static struct code_file *file_with_names(struct callstacks *stacks, uint32_t number)
{
	struct code_file *file;
	char path[32];

	pthread_mutex_lock(&stacks->lock);
	file = number && number <= stacks->file_count ? stacks->files[number - 1] : NULL;
	pthread_mutex_unlock(&stacks->lock);
	if (!file || file->named)
		return file;
	file->named = true;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", file->fd);
	/* without its symbols its frames are places in the file */
	if (file->fd < 0 || elf_file_open(path, &file->named_elf, NULL))
		file->named_elf = NULL;
	else if (symbols_load(file->named_elf, &file->symbols))
		pt_warn("--stacks: no memory for the symbols of '%s'", file->path);
	return file;
}

static void add_names(struct callstacks *stacks, struct pt_call_frame *frame, struct pt_buf *text)
{
	const struct code_file *file;
	const char *name;
	size_t len;

	if (frame->kind != PT_CF_NATIVE)
		return;
	file = file_with_names(stacks, frame->code_id);
	frame->code_id = 0;
	if (!file || text->len > PT_CALL_TEXT_MAX)
		return;
	name = symbols_find(&file->symbols, frame->where);
	len = name ? strnlen(name, PT_CALL_NAME_MAX_BYTES + 1) : 0;
	frame->name_bytes = len > PT_CALL_NAME_MAX_BYTES ? 0 : (uint32_t)len;
	frame->path_bytes = (uint32_t)strnlen(file->path, PATH_MAX_BYTES);
	if (frame->name_bytes)
		pt_buf_add(text, name, frame->name_bytes);
	pt_buf_add(text, file->path, frame->path_bytes);
}

int callstacks_complete(struct callstacks *stacks, const struct pt_rec_call_stack *record,
			int (*next)(const struct pt_rec *record, size_t len, void *ctx), void *ctx)
{
	size_t fixed = sizeof(*record) + record->frame_count * sizeof(record->frames[0]), len;
	struct pt_rec_call_stack *full;
	struct pt_buf text = {0};
	int rc = -ENOMEM;

	if (!record->frame_count)
		return next(&record->hdr, record->hdr.len, ctx);
	full = malloc(fixed);
	if (!full)
		return -ENOMEM;
	memcpy(full, record, fixed);
	for (uint32_t i = 0; i < full->frame_count; i++)
		add_names(stacks, &full->frames[i], &text);
	full->text_bytes = (uint32_t)text.len;
	len = (fixed + text.len + 7) & ~(size_t)7;
	full->hdr.len = (uint32_t)len;
	if (!text.failed) {
		struct pt_rec_call_stack *bigger = realloc(full, len);

		if (bigger) {
			full = bigger;
			memset((char *)full + fixed, 0, len - fixed);
			if (text.len)
				memcpy((char *)full + fixed, text.data, text.len);
			rc = next(&full->hdr, len, ctx);
		}
	}
	pt_buf_release(&text);
	free(full);
	return rc;
}
