// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
#include "record/methods.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "record/method_files.h"
#include "record/session_parts.h"

int methods_new(struct session *session, struct pt_err *err)
{
	const struct pt_tracer_options *tracer = &session->options->tracer;

	session->methods = method_files_new(&(struct method_files_options){
	    .globs = tracer->c_globs,
	    .named = session->options->c_named,
	    .emulated = session->images_options.emulated,
	    .cache_dir = session->options->cache_dir,
	    .only = tracer->methods_only,
	});
	return session->methods ? 0 : pt_err_set(err, -ENOMEM, PT_EXIT_FAILED, "", "out of memory");
}

void methods_free(struct session *session)
{
	method_files_free(session->methods);
	session->methods = NULL;
}

int methods_choose(struct session *session, const struct pt_process *process,
		   struct pt_traced_image *image)
{
	bool chosen = image->c_chosen;
	int rc = session->methods ? method_files_choose(session->methods, process, image) : 0;

	if (rc || chosen || !image->c_chosen)
		return rc;
	/* with --engine hybrid it is this, or nothing */
	if (!image->c_methods && session->options->c_asked && session->options->tracer.methods_only)
		pt_warn("--c-functions of CPython %s: %s", image->image->version_text,
			image->c_why);
	else
		pt_verbose("C functions of CPython %s: %s", image->image->version_text,
			   image->c_why);
	return rc;
}

/* ---- attaching ---- */

struct attach {
	struct session *session;
	const struct pt_process *process;
	bool for_all, late;
};

/* Did the user ask for C functions? */
static bool asked(const struct session *session)
{
	return session->options->c_asked;
}

static bool has_probes(const struct method_file *file, pid_t pid)
{
	for (size_t i = 0; i < file->pid_count; i++)
		if (file->pids[i] == pid)
			return true;
	return file->for_all;
}

static int add_pid(struct method_file *file, pid_t pid)
{
	pid_t *bigger = reallocarray(file->pids, file->pid_count + 1, sizeof(*bigger));

	if (!bigger)
		return -ENOMEM;
	file->pids = bigger;
	bigger[file->pid_count++] = pid;
	return 0;
}

/* pid -1: for all. */
static int attach_file(struct session *session, struct method_file *file, pid_t pid,
		       const char *open_path)
{
	struct pt_err err = {0};
	int rc = 0;

	if (!file->numbered)
		rc = pt_tracer_add_methods(session->tracer, &file->sites, &file->first, &err);
	file->numbered |= !rc;
	if (!rc)
		rc = pt_tracer_attach_methods(session->tracer, &file->sites, file->first, pid,
					      open_path, &err);
	if (rc) {
		file->refused = true;
		pt_log(asked(session) ? PT_LOG_WARN : PT_LOG_VERBOSE,
		       "--c-functions: those of '%s' are not recorded: %s", file->path, err.what);
		return 0;
	}
	pt_debug("attached to %zu C functions of '%s', process %d", file->sites.count, file->path,
		 pid);
	if (pid >= 0)
		return add_pid(file, pid);
	file->for_all = true;
	return 0;
}

static int attach_new(struct method_file *file, const char *open_path, void *ctx)
{
	const struct attach *attach = ctx;
	pid_t pid = attach->process->pid;

	if (file->refused || has_probes(file, pid))
		return 0;
	if (attach->late && asked(attach->session))
		pt_info("process %d has loaded '%s': its C functions are recorded from now on", pid,
			file->path);
	/* both kinds on one file would report a call twice */
	return attach_file(attach->session, file, attach->for_all && !file->pid_count ? -1 : pid,
			   open_path);
}

int methods_attach(struct session *session, const struct pt_process *process, bool late)
{
	const struct target *target = target_find(session, process->pid);
	struct attach attach = {.session = session, .process = process, .late = late};

	if (!session->methods || !target || !target->image || !target->image->c_methods)
		return 0;
	attach.for_all = target->image->reach == PT_REACH_FILE;
	return method_files_each(session->methods, process, target->image->image, attach_new,
				 &attach);
}

int methods_fork(struct session *session, pid_t child)
{
	struct pt_process *process;
	int rc;

	/* what was not asked for comes with the next look at what the child maps (mapped.h), so
	 * that thousands of children that end at once do not have links each */
	if (!session->methods || !asked(session) ||
	    pt_process_open_cached(child, session->files, &process, NULL))
		return 0;
	rc = methods_attach(session, process, false);
	pt_process_free(process);
	return rc;
}

void methods_forget(struct session *session, pid_t pid)
{
	size_t count = session->methods ? method_files_count(session->methods) : 0;

	for (size_t i = 0; i < count; i++) {
		struct method_file *file = method_files_at(session->methods, i);

		for (size_t k = file->pid_count; k-- > 0;)
			if (file->pids[k] == pid)
				file->pids[k] = file->pids[--file->pid_count];
	}
}
