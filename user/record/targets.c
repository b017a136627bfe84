// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/* The traced processes of a session. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "python/jit.h"
#include "python/stack.h"
#include "record/session_parts.h"
#include "record/sources.h"
#include "record/stacks.h"
#include "target/maps.h"
#include "target/rank.h"

#define CMDLINE_MAX_BYTES    4096
/* Looking for probes of the user's rests for so many times as long as it took. */
#define MARKS_REST           10
#define ENDED_WITH_LINKS_MAX 1000

struct target *target_find(struct session *session, pid_t pid)
{
	for (size_t i = 0; i < session->target_count; i++)
		if (session->targets[i].pid == pid)
			return &session->targets[i];
	return NULL;
}

struct target *target_add(struct session *session, pid_t pid, uint32_t image_id)
{
	struct target *target = target_find(session, pid), *bigger;

	if (target && target->ended) {
		/* another process has its number */
		target_drop(session, pid);
		target = NULL;
	}
	if (target) {
		target->image_id = image_id;
		target->marks_done = false;
		return target;
	}
	bigger = reallocarray(session->targets, session->target_count + 1, sizeof(*bigger));
	if (!bigger)
		return NULL;
	session->targets = bigger;
	target = &session->targets[session->target_count++];
	*target = (struct target){.pid = pid, .image_id = image_id};
	target->pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	rest_watch(session, target);
	session->had_target = true;
	return target;
}

void target_drop(struct session *session, pid_t pid)
{
	struct target *target = target_find(session, pid);

	if (!target)
		return;
	if (session->options->choice)
		session->options->choice->ended(pid, session->options->choice->ctx);
	/* Closing a process's links takes the kernel a second or two, in which nobody would read
	 * the ring buffer; those of a process that has ended do no harm, so they wait for the end
	 * of the recording unless they have become too many. */
	if (target->attached && ++session->ended_with_links > ENDED_WITH_LINKS_MAX)
		pt_tracer_forget_process(session->tracer, pid);
	cuda_forget(session, pid);
	methods_forget(session, pid);
	mapped_forget(session, pid);
	if (target->pidfd >= 0)
		close(target->pidfd);
	*target = session->targets[--session->target_count];
}

void target_let_go(struct session *session, pid_t pid)
{
	int rc = pt_tracer_let_go(session->tracer, pid);

	if (rc)
		pt_verbose("cannot mark process %d as refused: %s", pid, strerror(-rc));
	target_drop(session, pid);
}

bool target_has_ended(const struct target *target)
{
	struct pollfd poll_fd = {.fd = target->pidfd, .events = POLLIN};

	if (target->pidfd >= 0)
		return poll(&poll_fd, 1, 0) > 0 && (poll_fd.revents & POLLIN);
	return kill(target->pid, 0) && errno == ESRCH;
}

int targets_forget_ended(struct session *session)
{
	size_t ended = 0;
	int rc;

	if (!rest_may_have_ended(session))
		return 0;
	for (size_t i = 0; i < session->target_count; i++) {
		session->targets[i].ended = target_has_ended(&session->targets[i]);
		ended += session->targets[i].ended;
	}
	if (!ended)
		return 0;
	/* whatever they did came into the ring buffer before they ended */
	rc = pt_tracer_poll(session->tracer, 0, session_on_record, session);
	if (rc >= 0 || rc == -EINTR)
		rc = follow_tasks(session);
	for (size_t i = session->target_count; i-- > 0;)
		if (session->targets[i].ended)
			target_drop(session, session->targets[i].pid);
	return rc;
}

void targets_release(struct session *session)
{
	for (size_t i = 0; i < session->target_count; i++)
		if (session->targets[i].pidfd >= 0)
			close(session->targets[i].pidfd);
	free(session->targets);
	session->targets = NULL;
	session->target_count = 0;
}

/* docs/DESIGN.md, "How far the probes reach". */
enum pt_reach target_reach(struct session *session, const struct pt_module *module)
{
	pid_t *others = NULL, self[64];
	size_t self_count = 0;
	int count;

	if (session->options->all || session->options->engine == PT_ENGINE_SAMPLE)
		return PT_REACH_FILE;
	switch (session->options->follow) {
	case PT_FOLLOW_EXACT:
		return PT_REACH_FILE;
	case PT_FOLLOW_LATE:
	case PT_FOLLOW_NO:
		return PT_REACH_PROCESS;
	case PT_FOLLOW_AUTO:
		break;
	}
	for (size_t i = 0; i < session->options->pid_count && self_count < 64; i++)
		self[self_count++] = session->options->pids[i];
	for (size_t i = 0; i < session->target_count && self_count < 64; i++)
		self[self_count++] = session->targets[i].pid;
	if (session->launch && self_count < 64)
		self[self_count++] = pt_launch_pid(session->launch);
	count = pt_process_mapping_file(module->dev, module->inode, self, self_count, &others);
	if (count > 0)
		pt_verbose("%d other process%s '%s': children get their probes when they are seen "
			   "(--follow=exact would not wait, but slows the others)",
			   count, count == 1 ? " runs" : "es run", module->path);
	free(others);
	return count == 0 ? PT_REACH_FILE : PT_REACH_PROCESS;
}

/* The file was analysed by what it says of itself, perhaps in an earlier run of this program; the
 * process must say the same. */
static int check_version(const struct pt_process *process, const struct py_image *image,
			 uint64_t bias, struct pt_err *err)
{
	uint32_t version;

	if (py_process_version(process->pid, image, bias, &version) || version == image->version)
		return 0;
	return pt_err_set(err, -ENOTSUP, PT_EXIT_UNSUPPORTED,
			  "was the file changed in place? --no-cache has it analysed anew",
			  "process %d says that it is CPython %u.%u.%u, but '%s' was taken for %s",
			  process->pid, version >> 24, version >> 16 & 0xff, version >> 8 & 0xff,
			  image->path, image->version_text);
}

/* Code of the JIT keeps the frames as they are without it, so samples are right; and it leaves to C
 * what is probed beside them, but that it may raise exceptions past the probes. */
static bool jit_matters(const struct session *session)
{
	return !session_samples(session) || session->options->features >> PY_FEATURE_EXCEPTIONS & 1;
}

int target_check_jit(struct session *session, pid_t pid, struct pt_traced_image *image,
		     uint64_t bias, bool starting, struct pt_err *err)
{
	int rc;

	if (!jit_matters(session))
		return 0;
	switch (py_jit_state(pid, image->image, bias, starting)) {
	case PY_JIT_NONE:
	case PY_JIT_OFF:
		break;
	case PY_JIT_ON:
		rc = pt_tracer_refuse_process(session->tracer, pid);
		if (rc)
			pt_verbose("cannot mark process %d as refused: %s", pid, strerror(-rc));
		return py_jit_refuse(pid, image->image, err);
	case PY_JIT_UNKNOWN:
		if (!image->jit_doubt_said)
			pt_warn("CPython %s of process %d has a JIT, and whether it is on cannot "
				"be told: calls made in JIT code would be missing; set "
				"PYTHON_JIT=0 to be sure",
				image->image->version_text, pid);
		image->jit_doubt_said = true;
		break;
	}
	return 0;
}

int targets_check_jit(struct session *session, struct pt_err *err)
{
	if (!jit_matters(session))
		return 0;
	for (size_t i = session->target_count; i-- > 0;) {
		struct target *target = &session->targets[i];
		pid_t pid = target->pid;
		struct pt_err why = {0};

		if (!target->runs_python || !target->image ||
		    !py_jit_is_on(pid, target->image->image, target->bias))
			continue;
		py_jit_refuse(pid, target->image->image, &why);
		pt_tracer_refuse_process(session->tracer, pid);
		if (session->target_count == 1 && !session->options->all &&
		    !session->options->choice)
			return pt_err_set(err, -ENOTSUP, why.exit_code, why.hint, "%s", why.what);
		pt_warn("no longer traced: %s", why.what);
		target_drop(session, pid);
	}
	return 0;
}

/* The interpreter of a traced process is known: attach what must be attached to it. */
static int attach_image(struct session *session, const struct pt_process *process,
			struct pt_traced_image *image, bool starting, struct pt_err *err)
{
	const struct pt_module *module = &process->modules[process->interpreter];
	uint64_t bias = pt_module_bias(module);
	struct target *target;
	uint32_t image_id = 0;
	int rc = target_check_jit(session, process->pid, image, bias, starting, err);

	if (rc)
		return rc;
	if (image->index < 0) {
		/* one that was only just executed may not be mapped whole yet */
		if (!session->options->command && !session->gate_open)
			rc = check_version(process, image->image, bias, err);
		if (!rc)
			rc = pt_text_check_process(image->image, image->engine, process->pid, bias,
						   err);
		if (rc)
			return rc;
		rc = methods_choose(session, process, image);
		if (rc)
			return pt_err_set(err, rc, PT_EXIT_FAILED, "", "out of memory");
		rc = pt_images_attach(image, session->tracer, target_reach(session, module), err);
		if (rc)
			return rc;
		session->reach_file |= image->reach == PT_REACH_FILE;
	}
	rc = pt_tracer_trace_process(session->tracer, image->index, process->pid, bias, image->path,
				     &image_id, err);
	if (rc)
		return pt_err_set(err, rc, rc == -ESRCH ? PT_EXIT_NO_TARGET : PT_EXIT_FAILED, "",
				  "cannot attach to process %d: %s", process->pid, strerror(-rc));
	target = target_add(session, process->pid, image_id);
	if (!target)
		return pt_err_set(err, -ENOMEM, PT_EXIT_FAILED, "", "out of memory");
	target->image = image;
	target->bias = bias;
	target->attached = image->reach == PT_REACH_PROCESS;
	target->runs_python = true;
	rc = cuda_attach(session, process);
	if (!rc)
		rc = methods_attach(session, process, false);
	if (!rc && session->callstacks && session->options->stacks & PT_WANT_MARK_STACKS)
		rc = callstacks_look(session->callstacks, process->pid, image_id);
	if (rc)
		return pt_err_set(err, rc, PT_EXIT_FAILED, "", "cannot attach to process %d: %s",
				  process->pid, strerror(-rc));
	return target_look_for_marks(session, target, err);
}

int target_look_for_marks(struct session *session, struct target *target, struct pt_err *err)
{
	bool alone = target->image && target->image->reach == PT_REACH_PROCESS;
	struct pt_err why = {0};
	int rc;

	if (!session->marks || target->marks_done || !target->runs_python)
		return 0;
	rc = pt_marks_look(session->marks, session->tracer, target->pid, alone, session->files,
			   &target->marks_done, &why);
	if (!rc || rc == -ESRCH || rc == -ENOMEM)
		return rc == -ESRCH ? 0 : rc;
	if (!session->gate_open && !session->options->all)
		return pt_err_set(err, rc, why.exit_code, why.hint, "%s", why.what);
	if (rc == -ENOENT && session->options->all)
		pt_verbose("process %d: %s", target->pid, why.what); /* others may have the file */
	else
		pt_warn("process %d: %s", target->pid, why.what);
	target->marks_done = true;
	return 0;
}

int targets_look_for_marks(struct session *session)
{
	uint64_t begin_ns = session->marks ? pt_now_ns() : 0, end_ns;
	int rc = 0;

	if (!session->marks || begin_ns < session->marks_next_ns)
		return 0;
	for (size_t i = 0; !rc && i < session->target_count; i++)
		rc = target_look_for_marks(session, &session->targets[i], NULL);
	end_ns = pt_now_ns();
	session->marks_next_ns = end_ns + MARKS_REST * (end_ns - begin_ns);
	return rc;
}

/* Their switches are seen only with --async (bpf/async.h). */
static void warn_of_greenlets(const struct session *session, const struct pt_process *process,
			      const struct py_image *image)
{
	bool asked = session->options->features >> PY_FEATURE_ASYNC & 1;
	bool known = image->layout.ts_datastack != PT_NO_FIELD || image->rt.chains;
	bool found = false;

	if (session_samples(session))
		return;
	for (size_t i = 0; i < process->module_count; i++) {
		const char *name = strrchr(process->modules[i].path, '/');

		found |= name && !strncmp(name, "/_greenlet.", 11);
	}
	if (!found || (asked && known))
		return;
	pt_warn("process %d (%s) has loaded greenlet: calls of different greenlets will be mixed "
		"up; %s",
		process->pid, process->comm,
		known ? "--async tells them apart"
		      : "in this build of CPython they cannot be told apart");
}

int target_attach(struct session *session, const struct pt_process *process, bool starting,
		  struct pt_err *err)
{
	struct pt_traced_image *image;
	int rc = pt_process_check(process, err);

	if (rc)
		return rc;
	rc = pt_images_load(session->images, &process->modules[process->interpreter], &image, err);
	if (rc)
		return pt_err_set(err, rc, PT_EXIT_UNSUPPORTED, "",
				  "the interpreter of process %d was refused before", process->pid);
	rc = attach_image(session, process, image, starting, err);
	if (!rc)
		warn_of_greenlets(session, process, image->image);
	return rc;
}

static int put_proc(struct session *session, const struct target *target, enum pt_proc_what what,
		    const char *cmdline, size_t cmdline_bytes, uint64_t time_ns)
{
	_Alignas(8) char buffer[sizeof(struct pt_rec_proc) + CMDLINE_MAX_BYTES + 8] = {0};
	struct pt_rec_proc *record = (struct pt_rec_proc *)(void *)buffer;
	char path[64], *text;
	size_t size;
	long ns_pid;

	record->hdr.kind = PT_REC_PROC;
	record->hdr.tgid = record->hdr.tid = (uint32_t)target->pid;
	record->hdr.image_id = target->image_id;
	record->hdr.time_ns = time_ns;
	record->what = what;
	snprintf(path, sizeof(path), "/proc/%d/status", target->pid);
	if (!pt_proc_read(path, 1u << 20, &text, &size)) {
		if (!pt_status_number(text, "NStgid", -1, &ns_pid))
			record->ns_tgid = (uint32_t)ns_pid;
		if (!pt_status_number(text, "PPid", 0, &ns_pid))
			record->parent_tgid = (uint32_t)ns_pid;
		free(text);
	}
	snprintf(path, sizeof(path), "/proc/%d/comm", target->pid);
	if (!pt_proc_read(path, 4096, &text, &size)) {
		size = strcspn(text, "\n");
		memcpy(record->comm, text, size < 15 ? size : 15);
		free(text);
	}
	if (cmdline_bytes > CMDLINE_MAX_BYTES)
		cmdline_bytes = CMDLINE_MAX_BYTES;
	record->text_bytes = (uint32_t)cmdline_bytes;
	if (cmdline_bytes)
		memcpy(record->data, cmdline, cmdline_bytes);
	record->hdr.len = (uint32_t)((sizeof(*record) + cmdline_bytes + 7) & ~(size_t)7);
	return session_put(session, &record->hdr, record->hdr.len);
}

static int put_rank(struct session *session, const struct target *target, uint64_t time_ns)
{
	struct pt_rec_rank record = {
	    .hdr = {.kind = PT_REC_RANK,
		    .len = sizeof(record),
		    .tgid = (uint32_t)target->pid,
		    .image_id = target->image_id,
		    .time_ns = time_ns},
	};

	return pt_rank_read(target->pid, &record.rank, &record.world_size)
		   ? session_put(session, &record.hdr, sizeof(record))
		   : 0;
}

int target_announce(struct session *session, const struct target *target, enum pt_proc_what what,
		    bool with_stacks, uint64_t time_ns)
{
	char path[64], *cmdline = NULL;
	size_t size = 0;
	int rc = 0;

	if (session->output_options.sources)
		pt_sources_process(session->output_options.sources, target->pid);
	if (session->output_options.origins)
		pt_sources_process(session->output_options.origins, target->pid);
	if (what == PT_PROC_ATTACH) {
		snprintf(path, sizeof(path), "/proc/%d/cmdline", target->pid);
		pt_proc_read(path, 4u << 20, &cmdline, &size);
		rc = put_rank(session, target, time_ns);
	}
	if (!rc)
		rc = put_proc(session, target, what, cmdline, size, time_ns);
	free(cmdline);
	if (rc || !with_stacks || !target->runs_python || session_samples(session))
		return rc;
	rc = pt_stacks_records(target->pid, target->image_id, target->image->image, target->bias,
			       time_ns, &session->next_code_id, session->tracer, session_put_record,
			       session);
	if (rc && pt_spool_error(session->spool))
		return rc;
	if (rc)
		pt_verbose("cannot read the stacks of process %d from outside: %s", target->pid,
			   strerror(-rc));
	return 0;
}
