/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * cuda_inside.h - looks for a libcudart inside of stripped files, and for PyTorch's operators, in a
 * thread of its own, since reading the code of a large library takes longer than the ring buffer
 * can wait.
 *
 * cuda_inside_new() -> cuda_inside_add() for each file, cuda_inside_take() once it is done
 * -> cuda_inside_free(). All are for the recording's thread.
 */
#ifndef PT_RECORD_CUDA_INSIDE_H
#define PT_RECORD_CUDA_INSIDE_H

#include "cuda/calls.h"

struct cuda_inside;
struct cuda_inside_job;

/* -ENOMEM, or why there is no thread. cache_dir (may be NULL) is borrowed. emulated: set of 1u <<
 * enum py_insn_class. */
int cuda_inside_new(const char *cache_dir, unsigned int emulated, struct cuda_inside **inside);
/* Gives up what is not done; what was not taken is freed. inside may be NULL. The names of
 * PyTorch's operators go with it, so libraries that were taken are of no use any more. */
void cuda_inside_free(struct cuda_inside *inside);
/* want: PT_CUDA_WANT_*; PT_CUDA_WANT_TORCH alone: PyTorch's operators instead. path is the
 * process's name of it. -ENOMEM, or why it cannot be opened. */
int cuda_inside_add(struct cuda_inside *inside, const char *open_path, const char *path,
		    unsigned int want, struct cuda_inside_job **job);
/* Whether the job is done: then it is gone, and *library is the caller's; NULL: there are no
 * functions inside, or a warning has said why not. */
bool cuda_inside_take(struct cuda_inside *inside, struct cuda_inside_job *job, bool wait,
		      struct pt_cuda_library **library);
const char *cuda_inside_path(const struct cuda_inside_job *job);
/* Has a job become done since the last call? */
bool cuda_inside_news(struct cuda_inside *inside);

#endif
