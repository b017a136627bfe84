// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * The start: the first processes are attached to, then the gate is opened, and the output with it.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>
#include <time.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/usage.h"
#include "record/session_parts.h"

/* Adds more behind a separator unless it is there already or there is no room. */
static void append(char *text, size_t size, const char *separator, const char *more)
{
	size_t len = strlen(text), more_len = strlen(more);

	if (strstr(text, more) || len + strlen(separator) + more_len >= size)
		return;
	if (len) {
		strcpy(text + len, separator);
		len += strlen(separator);
	}
	memcpy(text + len, more, more_len + 1);
}

static void fill_info(const struct session *session, struct pt_capture_info *info)
{
	struct utsname uts;

	*info = (struct pt_capture_info){.start_mono_ns = session->gate_ns};
	info->start_real_ns = session->gate_ns + pt_since_1970_ns();
	snprintf(info->tool_version, sizeof(info->tool_version), "%s", PT_VERSION);
	if (!uname(&uts)) {
		snprintf(info->kernel, sizeof(info->kernel), "%.60s %.30s", uts.release,
			 uts.machine);
		snprintf(info->host, sizeof(info->host), "%.63s", uts.nodename);
	}
	for (size_t i = 0; i < pt_images_count(session->images); i++) {
		const struct pt_traced_image *image = pt_images_at(session->images, i);
		char text[64];

		if (image->index < 0)
			continue;
		snprintf(text, sizeof(text), "CPython %s", image->image->version_text);
		append(info->interpreter, sizeof(info->interpreter), ", ", text);
		append(info->engine, sizeof(info->engine), ",",
		       pt_engine_wish_name(session->options->engine, image->engine));
	}
}

static void describe_targets(const struct session *session, char *text, size_t size)
{
	char one[64];

	text[0] = '\0';
	if (session->options->all) {
		snprintf(text, size, "all Python processes");
		return;
	}
	for (size_t i = 0; i < session->target_count && strlen(text) + sizeof(one) < size; i++) {
		snprintf(one, sizeof(one), "%s%d", i ? ", " : "", session->targets[i].pid);
		strcat(text, one);
	}
}

static void tell_opened(const struct session *session, const struct pt_capture_info *info)
{
	char targets[256];
	struct pt_session_opened opened = {
	    .targets = targets,
	    .interpreter = info->interpreter,
	    .engine = info->engine,
	    .why = "",
	    .link_kind = pt_tracer_link_kind(session->tracer),
	    .reach_file = session->reach_file,
	    .sample_hz = session_samples(session) ? session->options->tracer.sample_hz : 0,
	    .hybrid = session->options->tracer.hybrid,
	    .path = session->result->path,
	    .attach_ms = (double)(session->gate_ns - session->begin_ns) / 1e6,
	};

	describe_targets(session, targets, sizeof(targets));
	for (size_t i = 0; i < pt_images_count(session->images); i++) {
		const struct pt_traced_image *image = pt_images_at(session->images, i);

		if (image->index < 0)
			continue;
		opened.probe_count += pt_tracer_probe_count(session->tracer, image->index);
		opened.why = image->why;
	}
	if (session->marks)
		opened.probe_count += pt_marks_count(session->marks);
	if (session->watch && session->watch->opened)
		session->watch->opened(&opened, session->watch->ctx);
}

int session_open_gate(struct session *session, struct pt_err *err)
{
	uint64_t memory_bytes = session->options->max_memory_bytes;
	struct pt_capture_info info;
	int rc;

	if (session_too_much_memory(memory_bytes))
		return pt_err_set(
		    err, -ENOMEM, PT_EXIT_USAGE, "allow some MB more",
		    "--max-memory: %.1f MB are not enough to begin with, %.1f are used",
		    (double)memory_bytes / 1e6, (double)pt_own_memory_bytes() / 1e6);
	rc = pt_tracer_open_gate(session->tracer, &session->gate_ns);

	if (rc)
		return pt_err_set(err, rc, PT_EXIT_FAILED, "", "cannot start recording: %s",
				  strerror(-rc));
	session->gate_open = true;
	fill_info(session, &info);
	rc = pt_output_open(&session->output_options, &info, &session->output, err);
	if (!rc)
		rc = pt_spool_new(0, session->folder[0] ? session->folder : NULL, commands_record,
				  session, &session->spool, err);
	if (rc)
		return rc;
	session->result->opened = true;
	rc = session_put_note(session, PT_NOTE_GATE_OPEN, 0, session->gate_ns);
	if (!rc)
		rc = cuda_announce(session);
	if (!rc && session->marks)
		rc = pt_marks_define(session->marks, session->gate_ns, session_put_record, session);
	for (size_t i = 0; !rc && i < session->target_count; i++) {
		/* while others were attached to: nothing is known of it any more */
		if (session->options->choice && target_has_ended(&session->targets[i]))
			continue;
		rc = target_announce(session, &session->targets[i], PT_PROC_ATTACH,
				     !session->options->command &&
					 !session->options->tracer.start_on,
				     session->gate_ns);
	}
	if (!rc)
		rc = cuda_announce_mapped(session);
	if (!rc)
		overhead_begin(session);
	tell_opened(session, &info);
	return rc;
}

static int attach_pid(struct session *session, pid_t pid, struct pt_err *err)
{
	struct pt_process *process;
	int rc;

	if (target_find(session, pid))
		return 0;
	rc = pt_process_open_cached(pid, session->files, &process, err);
	if (rc)
		return rc;
	rc = target_attach(session, process, false, err);
	pt_process_free(process);
	return rc;
}

/* Among all that there are, one that cannot be traced is passed over. */
static int attach_found(const struct pt_process *process, void *ctx)
{
	struct session *session = ctx;
	struct pt_err err = {0};
	int rc;

	/* it may have executed something since it was looked at */
	if (!session_wants(session, process))
		return scan_unwanted(session, process->pid, 0);
	rc = target_attach(session, process, false, &err);
	if (rc == -ENOMEM)
		return rc;
	session_tell_attached(session, process, rc, &err);
	if (rc && rc != -ESRCH)
		pt_warn("process %d (%s) is not traced: %s", process->pid, process->comm,
			pt_err_is_set(&err) ? err.what : strerror(-rc));
	return 0;
}

int session_attach_all(struct session *session, struct pt_err *err)
{
	const struct pt_session_options *options = session->options;
	int rc = 0;

	if (options->all || options->choice) {
		rc = scan_processes(session, true);
		return rc ? rc : pt_process_each_python(session->files, attach_found, session, err);
	}
	for (size_t i = 0; !rc && i < options->pid_count; i++)
		rc = attach_pid(session, options->pids[i], err);
	return rc;
}

int session_look_at_launched(pid_t pid, void *ctx)
{
	struct session *session = ctx;
	struct pt_process *process;
	struct target *target;
	int rc;

	if (pt_process_open_cached(pid, session->files, &process, NULL))
		return 0;
	if (process->interpreter < 0) {
		pt_process_free(process);
		return 0;
	}
	pt_err_clear(&session->image_err);
	rc = target_attach(session, process, true, &session->image_err);
	if (rc && session->gate_open) {
		pt_warn("process %d (%s) is not traced: %s", pid, process->comm,
			session->image_err.what);
		rc = 0;
	}
	pt_process_free(process);
	if (rc)
		return rc;
	if (!session->gate_open) {
		rc = session_open_gate(session, &session->image_err);
	} else if ((target = target_find(session, pid))) {
		rc = target_announce(session, target, PT_PROC_ATTACH, false, pt_now_ns());
	}
	return rc ? rc : 1;
}

int session_wait_for_python(struct session *session, enum pt_session_stop *stop, struct pt_err *err)
{
	unsigned int forwarded = 0;
	int rc = pt_launch_go(session->launch, err);

	while (!rc && !session->gate_open) {
		rc = pt_launch_service(session->launch, session_look_at_launched, session);
		if (rc || session->gate_open)
			break;
		if (!pt_launch_watching(session->launch)) {
			rc = pt_launch_exec_error(session->launch, err);
			return rc ? rc
				  : pt_err_set(err, -ESRCH, PT_EXIT_NO_TARGET,
					       "nothing that it ran was a CPython",
					       "'%s' has ended and never ran Python",
					       session->options->command[0]);
		}
		commands_service(session);
		if (session_signal_says_stop(session, &forwarded) || session->commands.stop) {
			*stop = PT_STOP_SIGNAL;
			return pt_err_set(err, -EINTR, PT_EXIT_FAILED, "",
					  "interrupted before '%s' ran Python",
					  session->options->command[0]);
		}
		nanosleep(&(struct timespec){.tv_nsec = 200000}, NULL);
	}
	if (rc && !session->gate_open) {
		if (err && !pt_err_is_set(err))
			*err = session->image_err;
		/* it was only just started, by us */
		pt_launch_signal(session->launch, SIGKILL);
	}
	return rc;
}
