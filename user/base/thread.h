/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * thread.h - starts a thread that takes no signals: those are for the one that records.
 */
#ifndef PT_BASE_THREAD_H
#define PT_BASE_THREAD_H

#include <pthread.h>

/* 0 or -errno. */
int pt_thread_start(pthread_t *thread, void *(*fn)(void *ctx), void *ctx);

#endif
