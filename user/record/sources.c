// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
#include "record/sources.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/map.h"
#include "target/source.h"

/* One for all processes that see the same files as the same user: each takes a descriptor. */
struct source_root {
	struct pt_source_root *root;
	struct source_root *next;
};

struct source_process {
	pid_t pid, parent;
	const struct pt_source_root *root; /* NULL: it could not be opened */
	struct source_process *next;
};

struct source_file {
	struct pt_source source; /* text NULL: it could not be read */
	struct source_file *next, *next_same_hash;
	char path[];
};

struct pt_sources {
	pthread_mutex_t lock; /* of the roots and the processes */
	struct source_root *root_list;
	struct source_process *process_list;
	struct pt_map processes; /* pid */
	/* of the writing thread */
	struct pt_map files; /* hash of the path */
	struct source_file *file_list;
	size_t bytes, missing, too_many;
};

struct pt_sources *pt_sources_new(void)
{
	struct pt_sources *sources = calloc(1, sizeof(*sources));

	if (sources)
		pthread_mutex_init(&sources->lock, NULL);
	return sources;
}

/* With the lock held; NULL: no memory. */
static struct source_process *process_get(struct pt_sources *sources, pid_t pid)
{
	struct source_process *process = pt_map_get(&sources->processes, (uint32_t)pid, 0);

	if (process)
		return process;
	process = pt_map_make(&sources->processes, (uint32_t)pid, 0, sizeof(*process));
	if (!process)
		return NULL;
	process->pid = pid;
	process->next = sources->process_list;
	sources->process_list = process;
	return process;
}

/* Takes root; with the lock held. NULL: no memory. */
static const struct pt_source_root *root_intern(struct pt_sources *sources,
						struct pt_source_root *root)
{
	struct source_root *one;

	for (one = sources->root_list; one; one = one->next) {
		if (pt_source_root_same(one->root, root)) {
			pt_source_root_free(root);
			return one->root;
		}
	}
	one = calloc(1, sizeof(*one));
	if (!one) {
		pt_source_root_free(root);
		return NULL;
	}
	one->root = root;
	one->next = sources->root_list;
	sources->root_list = one;
	return root;
}

/* A pid that is used again, or executes something as another user, is what it was seen as last. */
void pt_sources_process(struct pt_sources *sources, pid_t pid)
{
	struct source_process *process;
	struct pt_source_root *root;
	int rc = pt_source_root_open(pid, &root);

	if (rc) {
		pt_verbose("cannot open the root of process %d: %s", pid, strerror(-rc));
		return;
	}
	pthread_mutex_lock(&sources->lock);
	process = process_get(sources, pid);
	if (process)
		process->root = root_intern(sources, root);
	else
		pt_source_root_free(root);
	pthread_mutex_unlock(&sources->lock);
}

void pt_sources_op(struct pt_sources *sources, const struct pt_op *op)
{
	struct source_process *process;

	if (op->kind != PT_OP_PROCESS)
		return;
	pthread_mutex_lock(&sources->lock);
	process = process_get(sources, op->process.pid);
	if (process)
		process->parent = op->process.parent_pid;
	pthread_mutex_unlock(&sources->lock);
}

/* The process's own, or that of the nearest one it descends from. */
static const struct pt_source_root *root_of(struct pt_sources *sources, pid_t pid)
{
	const struct pt_source_root *root = NULL;
	const struct source_process *process;

	pthread_mutex_lock(&sources->lock);
	for (int generation = 0; !root && generation < 64; generation++) {
		process = pt_map_get(&sources->processes, (uint32_t)pid, 0);
		if (!process)
			break;
		root = process->root;
		pid = process->parent;
	}
	pthread_mutex_unlock(&sources->lock);
	return root;
}

static void read_file(struct pt_sources *sources, pid_t pid, struct source_file *file)
{
	const struct pt_source_root *root = root_of(sources, pid);
	struct pt_buf text = {0};
	int rc = -ESRCH;

	if (sources->bytes >= PT_SOURCES_MAX_BYTES) {
		sources->too_many++;
		return;
	}
	if (root)
		rc = pt_source_read(root, file->path, PT_SOURCE_MAX_BYTES, &text);
	if (rc || text.failed) {
		sources->missing++;
		pt_verbose("no source of '%s': %s", file->path, strerror(rc ? -rc : ENOMEM));
		pt_buf_release(&text);
		return;
	}
	sources->bytes += text.len;
	file->source.text = text.data;
	file->source.bytes = text.len;
	for (size_t i = 0; i < text.len; i++)
		file->source.lines += text.data[i] == '\n';
}

const struct pt_source *pt_sources_find(void *ctx, pid_t pid, const char *path)
{
	struct pt_sources *sources = ctx;
	size_t size = strlen(path) + 1;
	uint64_t hash = pt_hash_bytes(path, size, 0);
	struct source_file *head = pt_map_get(&sources->files, hash, 0), *file;

	/* "<string>", "<frozen os>": no file; nor can it be told what a relative path began from */
	if (path[0] != '/')
		return NULL;
	for (file = head; file; file = file->next_same_hash) {
		if (!strcmp(file->path, path))
			return file->source.text ? &file->source : NULL;
	}
	file = calloc(1, sizeof(*file) + size);
	if (!file || pt_map_put(&sources->files, hash, 0, file)) {
		free(file);
		return NULL;
	}
	memcpy(file->path, path, size);
	file->next_same_hash = head;
	file->next = sources->file_list;
	sources->file_list = file;
	read_file(sources, pid, file);
	return file->source.text ? &file->source : NULL;
}

void pt_sources_free(struct pt_sources *sources)
{
	if (!sources)
		return;
	if (sources->missing)
		pt_info("the sources of %zu files could not be read (-v tells why)",
			sources->missing);
	if (sources->too_many)
		pt_warn("the sources of %zu files are left out: those before them take %u MB",
			sources->too_many, PT_SOURCES_MAX_BYTES >> 20);
	while (sources->file_list) {
		struct source_file *file = sources->file_list;

		sources->file_list = file->next;
		free((char *)file->source.text);
		free(file);
	}
	while (sources->process_list) {
		struct source_process *process = sources->process_list;

		sources->process_list = process->next;
		free(process);
	}
	while (sources->root_list) {
		struct source_root *one = sources->root_list;

		sources->root_list = one->next;
		pt_source_root_free(one->root);
		free(one);
	}
	pt_map_release(&sources->files);
	pt_map_release(&sources->processes);
	pthread_mutex_destroy(&sources->lock);
	free(sources);
}
