// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
#include "record/kernels.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/log.h"
#include "base/thread.h"
#include "record/kernels_parts.h"

#define NICE 10 /* of the decoding: it is long, and mostly nobody waits for it */

/* ---- decoding ---- */

/* The next to be decoded, or NULL. */
static struct kernel_file *next_file(const struct kernels *kernels)
{
	struct kernel_file *any = NULL;

	for (size_t i = 0; i < kernels->file_count; i++) {
		struct kernel_file *file = kernels->files[i];

		if (file->pending && file->wanted)
			return file;
		if (file->pending && !any)
			any = file;
	}
	return any;
}

static struct pt_kernels *decode(const struct kernels *kernels, const struct kernel_file *file)
{
	const struct pt_kernels_options options = {
	    .cache_dir = kernels->options.cache_dir, .stop = &kernels->stop, .label = file->path};
	struct pt_kernels *decoded = NULL;
	struct pt_err err = {0};
	char path[32];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", file->fd);
	if (!pt_kernels_open(path, &options, &decoded, &err)) {
		pt_verbose("%zu CUDA kernels in '%s', %zu not decoded", decoded->count, file->path,
			   decoded->undecoded);
		return decoded;
	}
	if (!atomic_load(&kernels->stop))
		pt_warn("kernels are shown without their names: %s", err.what);
	return NULL;
}

static void *decoder(void *ctx)
{
	struct kernels *kernels = ctx;

	setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), NICE);
	pthread_mutex_lock(&kernels->lock);
	while (!atomic_load(&kernels->stop)) {
		struct kernel_file *file = next_file(kernels);
		struct pt_kernels *decoded;

		if (!file) {
			pthread_cond_wait(&kernels->changed, &kernels->lock);
			continue;
		}
		pthread_mutex_unlock(&kernels->lock);
		decoded = decode(kernels, file);
		pthread_mutex_lock(&kernels->lock);
		file->kernels = decoded;
		file->pending = false;
		pthread_cond_broadcast(&kernels->changed);
	}
	pthread_mutex_unlock(&kernels->lock);
	return NULL;
}

int kernels_new(const struct kernels_options *options, struct kernels **out)
{
	struct kernels *kernels = calloc(1, sizeof(*kernels));
	int rc;

	if (!kernels)
		return -ENOMEM;
	kernels->options = *options;
	pthread_mutex_init(&kernels->lock, NULL);
	pthread_cond_init(&kernels->changed, NULL);
	rc = pt_thread_start(&kernels->thread, decoder, kernels);
	if (rc) {
		pthread_cond_destroy(&kernels->changed);
		pthread_mutex_destroy(&kernels->lock);
		free(kernels);
		return rc;
	}
	*out = kernels;
	return 0;
}

void kernels_file_free(struct kernel_file *file)
{
	if (file->fd >= 0)
		close(file->fd);
	pt_kernels_free(file->kernels);
	free(file->path);
	free(file);
}

void kernels_free(struct kernels *kernels)
{
	if (!kernels)
		return;
	pthread_mutex_lock(&kernels->lock);
	atomic_store(&kernels->stop, true);
	pthread_cond_broadcast(&kernels->changed);
	pthread_mutex_unlock(&kernels->lock);
	pthread_join(kernels->thread, NULL);
	pthread_cond_destroy(&kernels->changed);
	pthread_mutex_destroy(&kernels->lock);
	for (size_t i = 0; i < kernels->process_count; i++) {
		if (kernels->processes[i]->pidfd >= 0)
			close(kernels->processes[i]->pidfd);
		free(kernels->processes[i]->maps);
		free(kernels->processes[i]);
	}
	for (size_t i = 0; i < kernels->file_count; i++)
		kernels_file_free(kernels->files[i]);
	free(kernels->processes);
	free(kernels->files);
	pt_map_release(&kernels->by_image);
	pt_map_release(&kernels->seen);
	loaded_release(&kernels->loaded);
	pt_kernel_handles_release(&kernels->handles);
	free(kernels);
}

void kernels_functions(struct kernels *kernels, const struct pt_cuda_library *library)
{
	for (size_t i = 0; i < library->plan.site_count; i++) {
		const struct pt_cuda_fn *fn = &library->fns[i];

		for (unsigned int k = 0; k < fn->layout.arg_count; k++) {
			const struct pt_cuda_arg *arg = &fn->layout.args[k];

			if (arg->code != 'k' || arg->out || arg->word < 0)
				continue;
			kernels->kernel_at[fn->id] = (uint8_t)(arg->word + 1);
			kernels->active = true;
		}
	}
}
