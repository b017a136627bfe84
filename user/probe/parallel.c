// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
#include "probe/parallel.h"

#include <pthread.h>
#include <signal.h>

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
	sigset_t all, old;

	/* signals are the main thread's business */
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &old);
	while (made < THREADS_MAX && made + 1 < count &&
	       !pthread_create(&threads[made], NULL, work, &job))
		made++;
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	work(&job);
	for (size_t i = 0; i < made; i++)
		pthread_join(threads[i], NULL);
}
