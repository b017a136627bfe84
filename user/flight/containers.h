/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * containers.h - which container each traced process is in, by the id in its cgroup: asked for when
 * it is met, since it is gone when a capture is written of its end.
 *
 * Zero-initialise; pt_containers_release() at the end. Out of memory leaves ids out.
 */
#ifndef PT_FLIGHT_CONTAINERS_H
#define PT_FLIGHT_CONTAINERS_H

#include <linux/types.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "pt_abi.h"

#define PT_CONTAINER_ID_CHARS 64

/* More processes than this replace those that were met longest ago. */
#define PT_CONTAINERS_MAX 1024

struct pt_container {
	pid_t pid;
	char id[PT_CONTAINER_ID_CHARS + 1]; /* "": it is in none */
};

struct pt_containers {
	struct pt_container *of; /* a ring */
	size_t count, next;
};

void pt_containers_record(struct pt_containers *containers, const struct pt_rec_proc *record);
/* "" if it is in none, or not known. */
const char *pt_containers_find(const struct pt_containers *containers, pid_t pid);
void pt_containers_release(struct pt_containers *containers);
/* Finds the id in the text of /proc/PID/cgroup: 64 hexadecimal digits, as all runtimes have it.
 * Pure. */
bool pt_container_id(const char *cgroup, char id[PT_CONTAINER_ID_CHARS + 1]);
/* Of a process that is there; "": it is in none. */
void pt_container_read(pid_t pid, char id[PT_CONTAINER_ID_CHARS + 1]);

#endif
