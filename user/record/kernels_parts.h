/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * kernels_parts.h - what the files of kernels.h share; nobody else includes it.
 *
 * kernels.c has the thread that decodes, kernels_maps.c and kernels_calls.c are of the one that
 * reads the ring buffer, kernels_complete.c of the output's.
 */
#ifndef PT_RECORD_KERNELS_PARTS_H
#define PT_RECORD_KERNELS_PARTS_H

#include <pthread.h>
#include <stdatomic.h>

#include "cuda/names.h"
#include "record/kernels.h"
#include "record/loaded.h"

/* A file that a process with CUDA maps executable. */
struct kernel_file {
	uint64_t dev, inode;
	char *path;
	uint64_t offset, vaddr; /* of its first executable mapping */
	uint64_t first, end;    /* its code: file addresses; end 0: it is not looked into */
	bool has_code;          /* for a GPU */
	int fd; /* of one with code for a GPU, kept so that its inode stays its own; or -1 */
	/* under the lock */
	bool pending; /* is to be decoded */
	bool wanted;  /* soon */
	struct pt_kernels *kernels;
};

struct mapping {
	struct kernel_file *file;
	uint32_t number; /* of the file, from 1 */
	uint64_t bias, start, end;
};

struct kernel_process {
	pid_t pid;
	uint32_t image_id;
	uint32_t epoch; /* which of its lists of mappings this is, from 1 */
	/* under the lock; written by the thread that reads the ring buffer alone */
	int pidfd; /* -1: it has ended, or cannot be watched */
	struct mapping *maps;
	size_t map_count;
};

struct kernels {
	struct kernels_options options;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	atomic_bool stop;
	struct kernel_file **files;
	size_t file_count;
	struct kernel_process **processes;
	size_t process_count, ended_at; /* maps of those before it have been freed */
	struct pt_map by_image;         /* (pid, image_id): a process */

	/* of the thread that reads the ring buffer */
	bool active;                           /* a function that has a kernel is attached to */
	bool called;                           /* a call of CUDA was recorded */
	uint8_t kernel_at[PT_CUDA_FN_MAX + 1]; /* by function: the kernel's word, from 1; 0 none */
	struct pt_map seen;                    /* (pid << 32 | image_id, address): the epoch */
	struct loaded loaded;
	struct kernel_process *last;

	/* of the output's thread: handles of one process */
	const struct kernel_process *handles_of;
	uint32_t handles_epoch;
	struct pt_kernel_handles handles;
};

/* ---- kernels.c ---- */

void kernels_file_free(struct kernel_file *file);

/* ---- kernels_maps.c ---- */

/* The process's entry, made if need be; NULL: no memory. */
struct kernel_process *kernels_process_get(struct kernels *kernels, pid_t pid, uint32_t image_id);

#endif
