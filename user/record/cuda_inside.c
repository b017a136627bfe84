// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
#include "record/cuda_inside.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/thread.h"
#include "cuda/torch.h"

struct cuda_inside_job {
	struct cuda_inside_job *next;
	char *path;
	int fd; /* so that it is this file that is looked at */
	unsigned int want;
	bool done; /* under the lock; those below are the thread's until then */
	struct pt_cuda_library *library;
	struct pt_err err;
};

struct cuda_inside {
	const char *cache_dir;
	unsigned int emulated;
	struct pt_torch_names names; /* the thread's */
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	atomic_bool stop;
	struct cuda_inside_job *jobs; /* in the order in which they came */
	bool news;
};

static struct cuda_inside_job *next_job(struct cuda_inside *inside)
{
	struct cuda_inside_job *job = inside->jobs;

	while (job && job->done)
		job = job->next;
	return job;
}

static void look(struct cuda_inside *inside, struct cuda_inside_job *job)
{
	const struct pt_cuda_inside_options options = {
	    .want = job->want, .cache_dir = inside->cache_dir, .stop = &inside->stop};
	char path[32];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", job->fd);
	if (job->want == PT_CUDA_WANT_TORCH)
		pt_torch_library_load(path, job->path, inside->emulated, &inside->stop,
				      &inside->names, &job->library, &job->err);
	else
		pt_cuda_library_load_inside(path, job->path, &options, &job->library, &job->err);
}

static void *looker(void *ctx)
{
	struct cuda_inside *inside = ctx;

	pthread_mutex_lock(&inside->lock);
	while (!atomic_load(&inside->stop)) {
		struct cuda_inside_job *job = next_job(inside);

		if (!job) {
			pthread_cond_wait(&inside->changed, &inside->lock);
			continue;
		}
		pthread_mutex_unlock(&inside->lock);
		look(inside, job);
		pthread_mutex_lock(&inside->lock);
		job->done = inside->news = true;
		pthread_cond_broadcast(&inside->changed);
	}
	pthread_mutex_unlock(&inside->lock);
	return NULL;
}

int cuda_inside_new(const char *cache_dir, unsigned int emulated, struct cuda_inside **out)
{
	struct cuda_inside *inside = calloc(1, sizeof(*inside));
	int rc;

	if (!inside)
		return -ENOMEM;
	inside->cache_dir = cache_dir;
	inside->emulated = emulated;
	pthread_mutex_init(&inside->lock, NULL);
	pthread_cond_init(&inside->changed, NULL);
	rc = pt_thread_start(&inside->thread, looker, inside);
	if (rc) {
		pthread_cond_destroy(&inside->changed);
		pthread_mutex_destroy(&inside->lock);
		free(inside);
		return rc;
	}
	*out = inside;
	return 0;
}

static void job_free(struct cuda_inside_job *job)
{
	pt_cuda_library_free(job->library);
	if (job->fd >= 0)
		close(job->fd);
	free(job->path);
	free(job);
}

void cuda_inside_free(struct cuda_inside *inside)
{
	if (!inside)
		return;
	pthread_mutex_lock(&inside->lock);
	atomic_store(&inside->stop, true);
	pthread_cond_broadcast(&inside->changed);
	pthread_mutex_unlock(&inside->lock);
	pthread_join(inside->thread, NULL);
	while (inside->jobs) {
		struct cuda_inside_job *job = inside->jobs;

		inside->jobs = job->next;
		job_free(job);
	}
	pt_torch_names_release(&inside->names);
	pthread_cond_destroy(&inside->changed);
	pthread_mutex_destroy(&inside->lock);
	free(inside);
}

int cuda_inside_add(struct cuda_inside *inside, const char *open_path, const char *path,
		    unsigned int want, struct cuda_inside_job **out)
{
	struct cuda_inside_job *job = calloc(1, sizeof(*job)), **last = &inside->jobs;
	int rc = 0;

	if (!job)
		return -ENOMEM;
	job->want = want;
	job->path = strdup(path);
	job->fd = open(open_path, O_RDONLY | O_CLOEXEC);
	if (!job->path || job->fd < 0) {
		rc = job->path ? -errno : -ENOMEM;
		job_free(job);
		return rc;
	}
	pthread_mutex_lock(&inside->lock);
	while (*last)
		last = &(*last)->next;
	*last = job;
	pthread_cond_broadcast(&inside->changed);
	pthread_mutex_unlock(&inside->lock);
	*out = job;
	return 0;
}

bool cuda_inside_take(struct cuda_inside *inside, struct cuda_inside_job *job, bool wait,
		      struct pt_cuda_library **library)
{
	struct cuda_inside_job **at = &inside->jobs;
	bool done;

	pthread_mutex_lock(&inside->lock);
	while (wait && !job->done)
		pthread_cond_wait(&inside->changed, &inside->lock);
	done = job->done;
	while (done && *at != job)
		at = &(*at)->next;
	if (done)
		*at = job->next;
	pthread_mutex_unlock(&inside->lock);
	if (!done)
		return false;
	if (pt_err_is_set(&job->err))
		pt_warn("--%s: calls of '%s' are not recorded: %s",
			job->want == PT_CUDA_WANT_TORCH ? "torch" : "cuda", job->path,
			job->err.what);
	*library = job->library;
	job->library = NULL;
	job_free(job);
	return true;
}

const char *cuda_inside_path(const struct cuda_inside_job *job)
{
	return job->path;
}

bool cuda_inside_news(struct cuda_inside *inside)
{
	bool news;

	pthread_mutex_lock(&inside->lock);
	news = inside->news;
	inside->news = false;
	pthread_mutex_unlock(&inside->lock);
	return news;
}
