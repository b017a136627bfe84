// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
#include "probe/parallel.h"

#include "base/thread.h"

#define THREADS_MAX 32

struct job {
	size_t count, next;
	void (*fn)(size_t i, void *ctx);
	void *ctx;
};

static void *work(void *arg)
{
	struct job *job = arg;

	for (;;) {
		size_t i = __atomic_fetch_add(&job->next, 1, __ATOMIC_RELAXED);

		if (i >= job->count)
			return NULL;
		job->fn(i, job->ctx);
	}
}

void pt_parallel(size_t count, void (*fn)(size_t i, void *ctx), void *ctx)
{
	struct job job = {.count = count, .fn = fn, .ctx = ctx};
	pthread_t threads[THREADS_MAX];
	size_t made = 0;

	while (made < THREADS_MAX && made + 1 < count &&
	       !pt_thread_start(&threads[made], work, &job))
		made++;
	work(&job);
	for (size_t i = 0; i < made; i++)
		pthread_join(threads[i], NULL);
}
