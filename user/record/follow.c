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

#include "base/clock.h"
#include "base/log.h"
#include "record/session_parts.h"

#define FIRST_LOOK_NS 500000ull
#define LOOK_MAX_NS   100000000ull
#define GIVE_UP_NS    1000000000ull

int follow_look_at(struct session *session, enum pt_proc_what what, pid_t pid, pid_t parent,
		   uint32_t image_id)
{
	struct task *bigger;
	uint64_t now_ns = pt_now_ns();

	bigger = reallocarray(session->tasks, session->task_count + 1, sizeof(*bigger));
	if (!bigger)
		return -ENOMEM;
	session->tasks = bigger;
	session->tasks[session->task_count++] = (struct task){
	    .what = what,
	    .pid = pid,
	    .parent = parent,
	    .image_id = image_id,
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
	if (proc->what == PT_PROC_FORK || proc->what == PT_PROC_EXEC ||
	    proc->what == PT_PROC_ATTACH)
		return follow_look_at(session, (enum pt_proc_what)proc->what, (pid_t)proc->hdr.tgid,
				      (pid_t)proc->parent_tgid, proc->hdr.image_id);
	return 0;
}

/* A child has the parent's interpreter at the parent's addresses. */
static int follow_fork(struct session *session, const struct task *task)
{
	const struct target *found = target_find(session, task->parent);
	struct target parent = found ? *found : (struct target){0}, *child;
	uint32_t image_id = task->image_id;
	struct pt_err err = {0};
	int rc;

	if (session->options->follow == PT_FOLLOW_NO && !session->options->all)
		return 0;
	child = target_add(session, task->pid, image_id);
	if (!child)
		return -ENOMEM;
	child->image = parent.image;
	child->bias = parent.bias;
	child->runs_python = parent.runs_python;
	if (!parent.runs_python || parent.image->reach == PT_REACH_FILE)
		return 0;
	rc = pt_tracer_trace_process(session->tracer, parent.image->index, task->pid, parent.bias,
				     parent.image->path, &image_id, &err);
	if (rc) {
		/* gone already, or about to exec */
		pt_verbose("child %d is not traced: %s", task->pid,
			   pt_err_is_set(&err) ? err.what : strerror(-rc));
		return 0;
	}
	child->image_id = image_id;
	child->attached = true;
	rc = target_look_for_marks(session, child, NULL);
	if (!rc)
		rc = methods_fork(session, task->pid);
	if (rc)
		return rc;
	return target_announce(session, child, PT_PROC_LATE, false, pt_now_ns());
}

/* Are the probes that this process hits in its new image there already? */
static bool has_probes(const struct session *session, const struct target *target,
		       const struct pt_traced_image *image)
{
	if (!image || image->index < 0)
		return false;
	if (!pt_tracer_probes_stay(session->tracer, image->index))
		return false;
	if (image->reach == PT_REACH_FILE)
		return true;
	/* links of a process live on through exec, and place probes in whatever maps their file */
	return target && target->attached && target->image == image;
}

static void warn_not_traced(const struct pt_process *process, const struct pt_err *err)
{
	pt_warn("process %d (%s) is not traced: %s", process->pid, process->comm, err->what);
}

static bool is_there(pid_t pid)
{
	return pt_process_cpu_ns(pid) != 0;
}

static int announce(struct session *session, const struct target *target, bool late)
{
	int rc = target_announce(session, target, PT_PROC_ATTACH, false, pt_now_ns());

	return rc || !late ? rc
			   : target_announce(session, target, PT_PROC_LATE, false, pt_now_ns());
}

static int attach_late(struct session *session, struct task *task, const struct pt_process *process,
		       bool was_late)
{
	struct pt_err err = {0};
	int rc = target_attach(session, process, true, &err);

	/* it may be about to execute something, or to map what it executes */
	task->again = rc == -ESRCH && is_there(task->pid) &&
		      pt_now_ns() + LOOK_MAX_NS < task->deadline_ns;
	if (task->again)
		return 0;
	session_tell_attached(session, process, rc, &err);
	if (rc) {
		if (rc != -ESRCH && pt_err_is_set(&err))
			warn_not_traced(process, &err);
		return 0;
	}
	pt_verbose("process %d is traced from now on", process->pid);
	return announce(session, target_find(session, process->pid), was_late);
}

/* What a process runs after an exec is Python. */
static int trace_exec(struct session *session, struct task *task, const struct pt_process *process)
{
	const struct pt_module *module = &process->modules[process->interpreter];
	struct pt_traced_image *image = pt_images_find(session->images, module);
	struct target *target = target_find(session, task->pid);
	bool file_wide = image && image->index >= 0 && image->reach == PT_REACH_FILE;
	struct pt_err err = {0};
	int late = 0;

	/* chroot, env and the like: two execs, both of which led here */
	if (pt_tracer_refuses(session->tracer, task->pid))
		return 0;
	if (!task->image_id && file_wide && image->engine != PY_ENGINE_SAMPLE)
		return 0; /* -a: BPF tells of it at its first call */
	if (!task->image_id && target && target->attached && target->image == image)
		return 0; /* found twice */
	if (!has_probes(session, target, image))
		return attach_late(session, task, process, !file_wide);
	if (target_check_jit(session, task->pid, image, pt_module_bias(module), true, &err)) {
		target_drop(session, task->pid);
		warn_not_traced(process, &err);
		return 0;
	}
	target = target_add(session, task->pid, task->image_id);
	if (!target)
		return -ENOMEM;
	target->image = image;
	target->runs_python = true;
	target->bias = pt_module_bias(module);
	if (!file_wide)
		late = pt_tracer_executed(session->tracer, task->pid, task->image_id);
	if (late < 0) {
		pt_err_set(&err, late, PT_EXIT_FAILED, NULL, "cannot mark it as traced: %s",
			   strerror(-late));
		warn_not_traced(process, &err);
		return 0;
	}
	return announce(session, target, late);
}

/* Has it mapped no other code since the last look? Without CPU time it has done nothing at all. */
static bool is_the_same(struct task *task)
{
	uint64_t cpu_ns = pt_process_cpu_ns(task->pid), before_ns = task->cpu_ns;
	bool idle = cpu_ns && cpu_ns == before_ns, changed;

	task->cpu_ns = cpu_ns;
	changed = !idle && mapped_changed(task->pid, &task->lib_kb);
	return task->tries && !changed && !task->again;
}

static int look_later(struct task *task)
{
	uint64_t wait_ns = FIRST_LOOK_NS << (task->tries < 12 ? task->tries : 12);

	task->next_ns = pt_now_ns() + (wait_ns < LOOK_MAX_NS ? wait_ns : LOOK_MAX_NS);
	return task->next_ns > task->deadline_ns;
}

/* Returns 1 when the task is done, 0 to look again later, -errno. */
static int follow_exec(struct session *session, struct task *task)
{
	struct target *target = target_find(session, task->pid);
	struct pt_process *process;
	uint64_t start_stack = 0;
	int rc;

	if (is_the_same(task)) {
		task->tries++;
		return look_later(task);
	}
	if (session->options->choice && pt_process_start_stack(task->pid, &start_stack))
		return 1;
	if (!task->tries++ && target && task->image_id) {
		target->runs_python = false;
		target->image_id = task->image_id;
	}
	rc = pt_process_open_cached(task->pid, session->files, &process, NULL);
	if (rc) {
		task->again = is_there(task->pid);
		return task->again ? look_later(task) : 1;
	}
	task->again = false;
	if (process->interpreter >= 0 && !session_wants(session, process)) {
		if (target && !pt_tracer_refuse_process(session->tracer, task->pid))
			target_drop(session, task->pid);
		pt_process_free(process);
		rc = scan_unwanted(session, task->pid, start_stack);
		return rc ? rc : 1;
	}
	if (process->interpreter >= 0) {
		rc = trace_exec(session, task, process);
		pt_process_free(process);
		if (!rc && task->again)
			return look_later(task);
		return rc ? rc : 1;
	}
	pt_process_free(process);
	return look_later(task);
}

static int do_task(struct session *session, struct task *task)
{
	int rc;

	if (task->what != PT_PROC_FORK)
		return follow_exec(session, task);
	rc = follow_fork(session, task);
	return rc ? rc : 1;
}

int follow_tasks(struct session *session)
{
	uint64_t now_ns = session->task_count ? pt_now_ns() : 0;
	size_t kept = 0;
	int rc = 0;

	/* tasks are added only by follow_record(), never meanwhile */
	for (size_t i = 0; i < session->task_count; i++) {
		struct task *task = &session->tasks[i];
		int done = 0;

		if (!rc && task->next_ns <= now_ns) {
			done = do_task(session, task);
			rc = done < 0 ? done : 0;
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
	now_ns = pt_now_ns();
	return next_ns > now_ns ? next_ns - now_ns : 0;
}
