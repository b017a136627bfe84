// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * The output's thread: waits for what is decoded and puts names into records.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "record/kernels_parts.h"

#define PATH_MAX_BYTES 4096

static const struct pt_kernels *wait_for(struct kernels *kernels, const struct kernel_file *file)
{
	pthread_mutex_lock(&kernels->lock);
	while (file->pending)
		pthread_cond_wait(&kernels->changed, &kernels->lock);
	pthread_mutex_unlock(&kernels->lock);
	return file->kernels; /* stays as it is now */
}

static bool has_ended(struct kernels *kernels, const struct kernel_process *process)
{
	struct pollfd poll_fd = {.events = POLLIN};
	bool ended;

	pthread_mutex_lock(&kernels->lock);
	poll_fd.fd = process->pidfd;
	ended = poll_fd.fd < 0 || poll(&poll_fd, 1, 0) != 0;
	pthread_mutex_unlock(&kernels->lock);
	return ended;
}

/* Reads the variables of what the process maps. What cannot be read is as good as not set; of a
 * process that has ended nothing is taken, since its number may be another's by now. */
static int read_handles(struct kernels *kernels, const struct kernel_process *process,
			const struct mapping *maps, size_t count)
{
	pt_kernel_handles_release(&kernels->handles);
	memset(&kernels->handles, 0, sizeof(kernels->handles));
	for (size_t i = 0; i < count; i++) {
		const struct pt_kernels *of_file = wait_for(kernels, maps[i].file);

		if (of_file && pt_kernel_handles_read(&kernels->handles, of_file, process->pid,
						      maps[i].bias) == -ENOMEM)
			return -ENOMEM;
	}
	if (!has_ended(kernels, process))
		return 0;
	pt_kernel_handles_release(&kernels->handles);
	memset(&kernels->handles, 0, sizeof(kernels->handles));
	return 0;
}

/* Its mappings as they are now; *maps from malloc. */
static struct kernel_process *copy_process(struct kernels *kernels,
					   const struct pt_rec_cuda_kernel *record,
					   struct mapping **maps, size_t *count, uint32_t *epoch)
{
	struct kernel_process *process;

	pthread_mutex_lock(&kernels->lock);
	process = pt_map_get(&kernels->by_image, record->hdr.tgid, record->hdr.image_id);
	*count = process ? process->map_count : 0;
	*epoch = process ? process->epoch : 0;
	*maps = calloc(*count + 1, sizeof(**maps));
	if (*maps && *count)
		memcpy(*maps, process->maps, *count * sizeof(**maps));
	pthread_mutex_unlock(&kernels->lock);
	return process;
}

/* How many names the stub of this kernel has; *kernel becomes the first. */
static size_t count_names(const struct mapping *maps, size_t count, const struct pt_kernel **kernel)
{
	for (size_t i = 0; i < count; i++) {
		const struct pt_kernels *of_file = maps[i].file->kernels;
		size_t names;

		if (!of_file || *kernel < of_file->kernels ||
		    *kernel >= of_file->kernels + of_file->count)
			continue;
		*kernel = pt_kernels_find(of_file, (*kernel)->host, &names);
		return names;
	}
	return 0;
}

/* -ENOMEM */
static int find_handle(struct kernels *kernels, const struct pt_rec_cuda_kernel *record,
		       const struct pt_kernel **kernel, size_t *names)
{
	struct kernel_process *process;
	struct mapping *maps;
	uint32_t epoch;
	size_t count;
	int rc = 0;

	process = copy_process(kernels, record, &maps, &count, &epoch);
	if (!maps)
		return -ENOMEM;
	if (process && kernels->handles_of == process && kernels->handles_epoch == epoch)
		*kernel = pt_kernel_handles_find(&kernels->handles, record->address);
	if (process && !*kernel && !has_ended(kernels, process)) {
		rc = read_handles(kernels, process, maps, count);
		kernels->handles_of = process;
		kernels->handles_epoch = epoch;
		*kernel = pt_kernel_handles_find(&kernels->handles, record->address);
	}
	if (*kernel) {
		*names = count_names(maps, count, kernel);
		if (!*names)
			*kernel = NULL;
	}
	free(maps);
	return rc;
}

/* kernel, file: may be NULL. */
static int put_complete(const struct pt_rec_cuda_kernel *record, const struct pt_kernel *kernel,
			size_t names, const struct kernel_file *file,
			int (*next)(const struct pt_rec *record, size_t len, void *ctx), void *ctx)
{
	size_t name_len = kernel ? strlen(kernel->name) : 0;
	size_t path_len = file ? strnlen(file->path, PATH_MAX_BYTES) : 0, len;
	struct pt_rec_cuda_kernel *full;
	int rc;

	if (name_len > PT_CUDA_KERNEL_NAME_MAX)
		name_len = 0;
	len = (sizeof(*full) + name_len + path_len + 7) & ~(size_t)7;
	full = calloc(1, len);
	if (!full)
		return -ENOMEM;
	*full = *record;
	full->hdr.len = (uint32_t)len;
	full->file = 0;
	full->names = name_len ? (uint32_t)names : 0;
	full->name_bytes = (uint32_t)name_len;
	full->path_bytes = (uint32_t)path_len;
	if (name_len)
		memcpy(full->data, kernel->name, name_len);
	if (path_len)
		memcpy(full->data + name_len, file->path, path_len);
	rc = next(&full->hdr, len, ctx);
	free(full);
	return rc;
}

int kernels_complete(struct kernels *kernels, const struct pt_rec_cuda_kernel *record,
		     int (*next)(const struct pt_rec *record, size_t len, void *ctx), void *ctx)
{
	const struct kernel_file *file = NULL;
	const struct pt_kernel *kernel = NULL;
	const struct pt_kernels *of_file;
	size_t names = 0;
	int rc = 0;

	if (!record->file && (record->hdr.flags & PT_RF_KERNEL_LOADED))
		return next(&record->hdr, record->hdr.len, ctx); /* it says all there is */
	if (record->file) {
		pthread_mutex_lock(&kernels->lock);
		file = kernels->files[record->file - 1];
		pthread_mutex_unlock(&kernels->lock);
		of_file = wait_for(kernels, file);
		if (of_file)
			kernel = pt_kernels_find(of_file, record->vaddr, &names);
	} else {
		rc = find_handle(kernels, record, &kernel, &names);
	}
	return rc ? rc : put_complete(record, kernel, names, file, next, ctx);
}
