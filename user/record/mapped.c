// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
#include "record/mapped.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "record/cuda.h"
#include "record/methods.h"
#include "record/session_parts.h"
#include "target/maps.h"

/* With more processes than this, each is looked at twice a second only. */
#define PROCESSES_FAST 16
#define SLOW_NS        500000000ull

struct mapped_process {
	pid_t pid;
	uint32_t image_id;
	uint64_t cpu_ns; /* what it had used at the last look: without more it has mapped nothing */
	long lib_kb;
};

struct mapped {
	struct mapped_process *processes;
	size_t count;
	uint64_t next_ns;
};

bool mapped_changed(pid_t pid, long *lib_kb)
{
	char path[64], *text;
	size_t size;
	long kb = 0;
	bool changed;

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	if (pt_proc_read(path, 1u << 20, &text, &size))
		return false; /* it has ended */
	changed = !pt_status_number(text, "VmLib", 0, &kb) && kb != *lib_kb;
	free(text);
	*lib_kb = kb;
	return changed;
}

static struct mapped_process *process_of(struct mapped *mapped, const struct target *target)
{
	struct mapped_process *process = NULL, *bigger;

	for (size_t i = 0; i < mapped->count && !process; i++)
		if (mapped->processes[i].pid == target->pid)
			process = &mapped->processes[i];
	if (!process) {
		bigger = reallocarray(mapped->processes, mapped->count + 1, sizeof(*bigger));
		if (!bigger)
			return NULL;
		mapped->processes = bigger;
		process = &bigger[mapped->count++];
		process->image_id = 0; /* no image has it */
	}
	if (process->image_id != target->image_id)
		*process = (struct mapped_process){.pid = target->pid,
						   .image_id = target->image_id};
	return process;
}

static int look_again(struct session *session, pid_t pid)
{
	struct pt_process *process;
	int rc;

	if (pt_process_open_cached(pid, session->files, &process, NULL))
		return 0;
	rc = cuda_attach(session, process);
	if (!rc)
		rc = methods_attach(session, process, true);
	pt_process_free(process);
	return rc;
}

int mapped_poll(struct session *session)
{
	uint64_t now_ns = pt_now_ns();
	bool news;
	int rc = 0;

	if (!session->cuda && !session->methods)
		return 0;
	if (!session->mapped)
		session->mapped = calloc(1, sizeof(*session->mapped));
	if (!session->mapped)
		return -ENOMEM;
	if (session->target_count > PROCESSES_FAST && now_ns < session->mapped->next_ns)
		return 0;
	session->mapped->next_ns = now_ns + SLOW_NS;
	news = cuda_news(session);
	for (size_t i = 0; i < session->target_count && !rc; i++) {
		const struct target *target = &session->targets[i];
		struct mapped_process *process;
		uint64_t cpu_ns;

		if (!target->runs_python)
			continue;
		process = process_of(session->mapped, target);
		if (!process)
			return -ENOMEM;
		cpu_ns = pt_process_cpu_ns(target->pid);
		if (cpu_ns == process->cpu_ns && !news)
			continue;
		process->cpu_ns = cpu_ns;
		if (mapped_changed(target->pid, &process->lib_kb) || news)
			rc = look_again(session, target->pid);
	}
	return rc;
}

void mapped_forget(struct session *session, pid_t pid)
{
	struct mapped *mapped = session->mapped;

	for (size_t i = mapped ? mapped->count : 0; i-- > 0;)
		if (mapped->processes[i].pid == pid)
			mapped->processes[i] = mapped->processes[--mapped->count];
}

void mapped_free(struct session *session)
{
	if (session->mapped)
		free(session->mapped->processes);
	free(session->mapped);
	session->mapped = NULL;
}
