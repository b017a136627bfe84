// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
#include "flight/containers.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "target/maps.h"

#define CGROUP_MAX_BYTES 16384

bool pt_container_id(const char *cgroup, char id[PT_CONTAINER_ID_CHARS + 1])
{
	while (*cgroup) {
		size_t digits = strspn(cgroup, "0123456789abcdef");

		if (digits == PT_CONTAINER_ID_CHARS) {
			memcpy(id, cgroup, digits);
			id[digits] = '\0';
			return true;
		}
		cgroup += digits;
		cgroup += strcspn(cgroup, "0123456789abcdef");
	}
	return false;
}

void pt_container_read(pid_t pid, char id[PT_CONTAINER_ID_CHARS + 1])
{
	char path[64], *text;
	size_t size;

	id[0] = '\0';
	snprintf(path, sizeof(path), "/proc/%d/cgroup", pid);
	if (pt_proc_read(path, CGROUP_MAX_BYTES, &text, &size))
		return;
	pt_container_id(text, id);
	free(text);
}

static struct pt_container *find(const struct pt_containers *containers, pid_t pid)
{
	for (size_t i = 0; i < containers->count; i++)
		if (containers->of[i].pid == pid)
			return &containers->of[i];
	return NULL;
}

static struct pt_container *add(struct pt_containers *containers, pid_t pid)
{
	struct pt_container *container;

	if (!containers->of)
		containers->of = calloc(PT_CONTAINERS_MAX, sizeof(*containers->of));
	if (!containers->of)
		return NULL;
	container = &containers->of[containers->next];
	containers->next = (containers->next + 1) % PT_CONTAINERS_MAX;
	if (containers->count < PT_CONTAINERS_MAX)
		containers->count++;
	container->pid = pid;
	return container;
}

void pt_containers_record(struct pt_containers *containers, const struct pt_rec_proc *record)
{
	pid_t pid = (pid_t)record->hdr.tgid;
	struct pt_container *container, *parent;

	if (record->what == PT_PROC_EXIT || record->what == PT_PROC_EXEC)
		return;
	container = find(containers, pid);
	if (!container)
		container = add(containers, pid);
	if (!container)
		return;
	parent = find(containers, (pid_t)record->parent_tgid);
	if (record->what != PT_PROC_FORK)
		pt_container_read(pid, container->id);
	else if (!parent)
		container->id[0] = '\0';
	else if (parent != container)
		memcpy(container->id, parent->id, sizeof(container->id));
}

const char *pt_containers_find(const struct pt_containers *containers, pid_t pid)
{
	const struct pt_container *container = pid ? find(containers, pid) : NULL;

	return container ? container->id : "";
}

void pt_containers_release(struct pt_containers *containers)
{
	free(containers->of);
}
