// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * Children, execs and new processes.
 *
 * BPF reports fork and exec in the stream of records. A child of a file-wide image has its probes
 * already; a child of a process-wide one gets them here. After an exec the interpreter's file may
 * not be mapped yet (libpython comes through the dynamic loader), so the process is looked at again
 * and again, at growing intervals, until it turns out to be Python or a second has passed.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "record/session_parts.h"

#define FIRST_LOOK_NS 500000ull
#define LOOK_MAX_NS   100000000ull
#define GIVE_UP_NS    1000000000ull

static int add_task(struct session *session, const struct pt_rec_proc *record)
{
	struct task *bigger;
	uint64_t now_ns = session_now_ns();

	bigger = reallocarray(session->tasks, session->task_count + 1, sizeof(*bigger));
	if (!bigger)
		return -ENOMEM;
	session->tasks = bigger;
	session->tasks[session->task_count++] = (struct task){
	    .what = (enum pt_proc_what)record->what,
	    .pid = (pid_t)record->hdr.tgid,
	    .parent = (pid_t)record->parent_tgid,
	    .image_id = record->hdr.image_id,
	    .next_ns = now_ns,
	    .deadline_ns = now_ns + GIVE_UP_NS,
	};
	return 0;
}

int follow_record(struct session *session, const struct pt_rec *record, size_t len)
{
	const struct pt_rec_proc *proc = (const struct pt_rec_proc *)record;

	if (record->kind != PT_REC_PROC || len < sizeof(*proc))
		return 0;
	if (proc->what == PT_PROC_FORK || proc->what == PT_PROC_EXEC)
		return add_task(session, proc);
	return 0;
}

/* A child has the parent's interpreter at the parent's addresses. */
static int follow_fork(struct session *session, const struct task *task)
{
	const struct target *parent = target_find(session, task->parent);
	struct pt_traced_image *image = parent ? parent->image : NULL;
	uint64_t bias = parent ? parent->bias : 0;
	struct target *child;
	uint32_t image_id = task->image_id;
	struct pt_err err = {0};
	int rc;

	if (session->options->follow == PT_FOLLOW_NO && !session->options->all)
		return 0;
	child = target_add(session, task->pid, image_id);
	if (!child)
		return -ENOMEM;
	child->image = image;
	child->bias = bias;
	if (!image || image->reach == PT_REACH_FILE)
		return 0;
	rc = pt_tracer_trace_process(session->tracer, image->index, task->pid, bias, image->path,
				     &image_id, &err);
	if (rc) {
		/* gone already, or about to exec */
		pt_verbose("child %d is not traced: %s", task->pid,
			   pt_err_is_set(&err) ? err.what : strerror(-rc));
		return 0;
	}
	child->image_id = image_id;
	child->attached = true;
	return target_announce(session, child, PT_PROC_LATE, false, session_now_ns());
}

/* What a process runs after an exec is Python. late: its probes were not there from the start. */
static int trace_exec(struct session *session, const struct task *task,
		      const struct pt_process *process)
{
	const struct pt_module *module = &process->modules[process->interpreter];
	struct pt_traced_image *image = pt_images_find(session->images, module);
	bool late = !image || image->index < 0 || image->reach == PT_REACH_PROCESS;
	struct pt_err err = {0};
	struct target *target;
	int rc;

	if (!late) {
		target = target_add(session, task->pid, task->image_id);
		if (!target)
			return -ENOMEM;
		target->image = image;
		target->bias = pt_module_bias(module);
		return target_announce(session, target, PT_PROC_ATTACH, false, session_now_ns());
	}
	rc = target_attach(session, process, &err);
	if (rc) {
		if (rc != -ESRCH && pt_err_is_set(&err))
			pt_warn("process %d (%s) is not traced: %s", process->pid, process->comm,
				err.what);
		return 0;
	}
	target = target_find(session, task->pid);
	rc = target_announce(session, target, PT_PROC_ATTACH, false, session_now_ns());
	return rc ? rc : target_announce(session, target, PT_PROC_LATE, false, session_now_ns());
}

/* Returns 1 when the task is done, 0 to look again later, -errno. */
static int follow_exec(struct session *session, struct task *task)
{
	struct target *target = target_find(session, task->pid);
	struct pt_process *process;
	uint64_t wait_ns;
	int rc;

	if (!task->tries++ && target) {
		/* the old image's probes are gone with its memory */
		if (target->attached)
			pt_tracer_forget_process(session->tracer, task->pid);
		target->attached = false;
		target->image = NULL;
		target->image_id = task->image_id;
	}
	rc = pt_process_open_cached(task->pid, session->files, &process, NULL);
	if (rc)
		return 1;
	if (process->interpreter >= 0) {
		rc = trace_exec(session, task, process);
		pt_process_free(process);
		return rc ? rc : 1;
	}
	pt_process_free(process);
	wait_ns = FIRST_LOOK_NS << (task->tries < 12 ? task->tries : 12);
	task->next_ns = session_now_ns() + (wait_ns < LOOK_MAX_NS ? wait_ns : LOOK_MAX_NS);
	return task->next_ns > task->deadline_ns;
}

int follow_tasks(struct session *session)
{
	uint64_t now_ns = session->task_count ? session_now_ns() : 0;
	size_t kept = 0;
	int rc = 0;

	/* tasks are added only by follow_record(), never meanwhile */
	for (size_t i = 0; i < session->task_count; i++) {
		struct task *task = &session->tasks[i];
		int done = 0;

		if (!rc && task->next_ns <= now_ns) {
			done = task->what == PT_PROC_FORK ? follow_fork(session, task)
							  : follow_exec(session, task);
			if (done < 0)
				rc = done;
			else if (task->what == PT_PROC_FORK)
				done = 1;
		}
		if (!done)
			session->tasks[kept++] = *task;
	}
	session->task_count = kept;
	return rc;
}

uint64_t follow_next_ns(const struct session *session)
{
	uint64_t next_ns = UINT64_MAX, now_ns;

	for (size_t i = 0; i < session->task_count; i++)
		if (session->tasks[i].next_ns < next_ns)
			next_ns = session->tasks[i].next_ns;
	if (next_ns == UINT64_MAX)
		return UINT64_MAX;
	now_ns = session_now_ns();
	return next_ns > now_ns ? next_ns - now_ns : 0;
}
