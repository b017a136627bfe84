/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * rank.h - which process of a distributed job a process is, as its launcher (torchrun and its like)
 * has told it: by RANK and WORLD_SIZE in its environment. Nothing else there is looked at.
 * Stateless.
 */
#ifndef PT_TARGET_RANK_H
#define PT_TARGET_RANK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* text: an environment as in /proc/PID/environ. False: it has not both, or they are no such
 * numbers. */
bool pt_rank_parse(const char *text, size_t size, uint32_t *rank, uint32_t *world_size);
/* The environment is the one that the process was started with; what it has set itself is not
 * seen. */
bool pt_rank_read(pid_t pid, uint32_t *rank, uint32_t *world_size);

#endif
