// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
#include "base/thread.h"

#include <signal.h>

int pt_thread_start(pthread_t *thread, void *(*fn)(void *ctx), void *ctx)
{
	sigset_t all, before;
	int rc;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	rc = pthread_create(thread, NULL, fn, ctx);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return -rc;
}
