// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * What processes with CUDA map: files with code for a GPU, and where.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/log.h"
#include "record/kernels_parts.h"
#include "target/elf.h"

#define ENDED_MAX  64   /* processes that have ended, but whose batches may still come */
#define PAGE_BYTES 4096 /* on x86-64, and there are no names elsewhere */

static void measure(struct kernel_file *file, const struct pt_module *module,
		    const struct elf_file *elf)
{
	bool found = false;

	file->offset = module->file_offset;
	for (size_t i = 0; i < elf->segment_count; i++) {
		const struct elf_segment *s = &elf->segments[i];

		if (s->type != PT_LOAD || !(s->flags & PF_X))
			continue;
		if (!file->end || s->vaddr < file->first)
			file->first = s->vaddr;
		if (s->vaddr + s->mem_size > file->end)
			file->end = s->vaddr + s->mem_size;
		/* mappings begin with a page; what is before the segment may be of another one */
		if (s->offset - s->offset % PAGE_BYTES != file->offset || found)
			continue;
		found = true;
		file->vaddr = s->vaddr - s->offset % PAGE_BYTES;
	}
	if (!found)
		file->end = 0;
	file->has_code = found && pt_kernels_has_code(elf);
	if (!file->has_code)
		return;
	file->fd = open(module->open_path, O_RDONLY | O_CLOEXEC);
	file->pending = file->fd >= 0;
	if (!file->pending)
		pt_warn("kernels are shown without their names: cannot open '%s': %s", file->path,
			strerror(errno));
}

static struct kernel_file *file_new(const struct pt_module *module)
{
	struct kernel_file *file = calloc(1, sizeof(*file));
	struct elf_file *elf;

	if (!file)
		return NULL;
	*file = (struct kernel_file){.dev = module->dev, .inode = module->inode, .fd = -1};
	file->path = strdup(module->path);
	if (!file->path) {
		free(file);
		return NULL;
	}
	/* what is no ELF file, as some fonts and databases, stays without code */
	if (!elf_file_open(module->open_path, &elf, NULL)) {
		measure(file, module, elf);
		elf_file_close(elf);
	}
	return file;
}

/* The file's number, from 1; 0: no memory. */
static uint32_t file_number(struct kernels *kernels, const struct pt_module *module)
{
	struct kernel_file *file, **bigger;

	for (size_t i = 0; i < kernels->file_count; i++) {
		file = kernels->files[i];
		/* the inode of one that is not kept open may be another's by now */
		if (file->dev == module->dev && file->inode == module->inode &&
		    (file->fd >= 0 || !strcmp(file->path, module->path)))
			return (uint32_t)i + 1;
	}
	file = file_new(module);
	if (!file)
		return 0;
	pthread_mutex_lock(&kernels->lock);
	bigger = reallocarray(kernels->files, kernels->file_count + 1, sizeof(*bigger));
	if (bigger) {
		kernels->files = bigger;
		bigger[kernels->file_count++] = file;
		pthread_cond_broadcast(&kernels->changed);
	}
	pthread_mutex_unlock(&kernels->lock);
	if (!bigger) {
		kernels_file_free(file);
		return 0;
	}
	return (uint32_t)kernels->file_count;
}

/* Of those that ended first only what may still come is kept. */
static void drop_ended(struct kernels *kernels)
{
	while (kernels->process_count - kernels->ended_at > ENDED_MAX &&
	       kernels->processes[kernels->ended_at]->pidfd < 0) {
		struct kernel_process *process = kernels->processes[kernels->ended_at++];

		free(process->maps);
		process->maps = NULL;
		process->map_count = 0;
	}
}

struct kernel_process *kernels_process_get(struct kernels *kernels, pid_t pid, uint32_t image_id)
{
	struct kernel_process *process, **bigger;

	process = pt_map_get(&kernels->by_image, (uint64_t)pid, image_id);
	if (process)
		return process;
	process = calloc(1, sizeof(*process));
	bigger = reallocarray(kernels->processes, kernels->process_count + 1, sizeof(*bigger));
	if (bigger)
		kernels->processes = bigger;
	if (!process || !bigger ||
	    pt_map_put(&kernels->by_image, (uint64_t)pid, image_id, process)) {
		free(process);
		return NULL;
	}
	*process = (struct kernel_process){.pid = pid, .image_id = image_id, .epoch = 1};
	process->pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	bigger[kernels->process_count++] = process;
	drop_ended(kernels);
	return process;
}

static bool has_mapping(const struct mapping *maps, size_t count, const struct mapping *mapping)
{
	for (size_t i = 0; i < count; i++)
		if (maps[i].file == mapping->file && maps[i].bias == mapping->bias)
			return true;
	return false;
}

/* Does an address that was looked up before mean the same still? */
static bool still_holds(const struct kernel_process *process, const struct mapping *maps,
			size_t count)
{
	for (size_t i = 0; i < process->map_count; i++)
		if (!has_mapping(maps, count, &process->maps[i]))
			return false;
	for (size_t i = 0; i < count; i++)
		if (maps[i].file->has_code &&
		    !has_mapping(process->maps, process->map_count, &maps[i]))
			return false;
	return true;
}

/* Takes over maps. */
static int set_maps(struct kernels *kernels, pid_t pid, uint32_t image_id, struct mapping *maps,
		    size_t count)
{
	struct kernel_process *process;

	pthread_mutex_lock(&kernels->lock);
	process = kernels_process_get(kernels, pid, image_id);
	if (process) {
		struct mapping *before = process->maps;

		process->epoch += !still_holds(process, maps, count);
		process->maps = maps;
		process->map_count = count;
		maps = before;
	}
	pthread_mutex_unlock(&kernels->lock);
	free(maps);
	return process ? 0 : -ENOMEM;
}

int kernels_look(struct kernels *kernels, const struct pt_process *process, uint32_t image_id)
{
	struct mapping *maps = calloc(process->module_count + 1, sizeof(*maps));
	size_t count = 0;

	if (!maps)
		return -ENOMEM;
	for (size_t i = 0; i < process->module_count; i++) {
		const struct pt_module *module = &process->modules[i];
		uint32_t number = file_number(kernels, module);
		struct kernel_file *file;

		if (!number) {
			free(maps);
			return -ENOMEM;
		}
		file = kernels->files[number - 1];
		/* a file that is mapped in another way than it was first is not looked into */
		if (!file->end || module->file_offset != file->offset)
			continue;
		maps[count] = (struct mapping){.file = file, .number = number};
		maps[count].bias = module->start - file->vaddr;
		maps[count].start = maps[count].bias + file->first;
		maps[count].end = maps[count].bias + file->end;
		count++;
	}
	return set_maps(kernels, process->pid, image_id, maps, count);
}

void kernels_forget(struct kernels *kernels, pid_t pid)
{
	pthread_mutex_lock(&kernels->lock);
	for (size_t i = kernels->process_count; i-- > kernels->ended_at;) {
		struct kernel_process *process = kernels->processes[i];

		if (process->pid == pid && process->pidfd >= 0) {
			close(process->pidfd);
			process->pidfd = -1;
		}
	}
	pthread_mutex_unlock(&kernels->lock);
}
