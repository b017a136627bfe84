/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * kernels.h - names for the kernels that recorded CUDA calls launch.
 *
 * The files that processes with CUDA map are decoded (cuda/names.h) in a thread of their own, each
 * once, those first that a name is asked of. The thread that reads the ring buffer looks each new
 * kernel address up in what its process maps now, and puts a PT_REC_CUDA_KERNEL that says where it
 * lies into the queue, before the batch. The output's thread completes the record: it waits for
 * that file there, so that a name is never late, and the queue grows meanwhile (spool.h).
 *
 * An address in no file may be a handle, which lies in a variable of the process. These are read
 * when the output's thread comes to it, so they are known only if the process still runs then.
 * Those of kernels that the driver loads are known by the names they were asked for (loaded.h).
 *
 * Life cycle: kernels_new() -> the others -> kernels_free() after the queue is freed.
 * All are for the thread that reads the ring buffer, but kernels_complete() is for the output's.
 */
#ifndef PT_RECORD_KERNELS_H
#define PT_RECORD_KERNELS_H

#include <linux/types.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "cuda/calls.h"
#include "pt_abi.h"
#include "target/process.h"

struct kernels;

struct kernels_options {
	const char *cache_dir; /* may be NULL */
	/* Puts a record into the queue. */
	int (*put)(const struct pt_rec *record, size_t len, void *ctx);
	/* An address is new in this process: looks at it again if what it maps has changed
	 * (kernels_look()). */
	int (*look)(pid_t pid, uint32_t image_id, void *ctx);
	void *ctx;
};

/* -ENOMEM, or why there is no thread; strings and ctx are borrowed. */
int kernels_new(const struct kernels_options *options, struct kernels **kernels);
/* May wait for the file that is being decoded. */
void kernels_free(struct kernels *kernels);
/* Which arguments of these functions are kernels. */
void kernels_functions(struct kernels *kernels, const struct pt_cuda_library *library);
/* What that image of the process maps now. -ENOMEM */
int kernels_look(struct kernels *kernels, const struct pt_process *process, uint32_t image_id);
/* The process has ended: its number may be used again. */
void kernels_forget(struct kernels *kernels, pid_t pid);
/* A batch is about to be put into the queue. What put() or look() returned, or -ENOMEM. */
int kernels_batch(struct kernels *kernels, const struct pt_rec_batch *batch, size_t len);
/* Has a call of CUDA been in such a batch? */
bool kernels_called(const struct kernels *kernels);
/* The driver has loaded or unloaded kernels: the record is of no more use then. What put() or
 * look() returned, or -ENOMEM. */
int kernels_loaded(struct kernels *kernels, const struct pt_rec_cuda_loaded *record, size_t len);
/* Hands the completed record to next, and returns what that does; or -ENOMEM. */
int kernels_complete(struct kernels *kernels, const struct pt_rec_cuda_kernel *record,
		     int (*next)(const struct pt_rec *record, size_t len, void *ctx), void *ctx);

#endif
