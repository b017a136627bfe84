// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
#include "record/session.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>

#include "base/clock.h"
#include "record/session_parts.h"

bool session_samples(const struct session *session)
{
	return session->options->tracer.sample_hz && !session->options->tracer.sample_rests;
}

bool session_wants(const struct session *session, const struct pt_process *process)
{
	const struct pt_session_choice *choice = session->options->choice;

	return !choice || choice->wanted(process, choice->ctx);
}

void session_tell_attached(const struct session *session, const struct pt_process *process, int rc,
			   const struct pt_err *err)
{
	const struct pt_session_choice *choice = session->options->choice;
	const struct pt_traced_image *image = NULL;

	if (!choice)
		return;
	if (process->interpreter >= 0)
		image = pt_images_find(session->images, &process->modules[process->interpreter]);
	choice->attached(process, image && image->image ? image->image->version_text : "",
			 image && image->image
			     ? pt_engine_wish_name(session->options->engine, image->engine)
			     : "",
			 rc, err, choice->ctx);
}

int session_put(struct session *session, const struct pt_rec *record, size_t len)
{
	int rc = pt_spool_put(session->spool, record, len);

	return rc ? rc : pt_spool_error(session->spool);
}

int session_put_record(const struct pt_rec *record, size_t len, void *ctx)
{
	return session_put(ctx, record, len);
}

int session_put_note(struct session *session, enum pt_note_what what, uint64_t value,
		     uint64_t time_ns)
{
	struct pt_rec_note note = {
	    .hdr = {.kind = PT_REC_NOTE, .len = sizeof(note), .time_ns = time_ns},
	    .what = what,
	    .value = value,
	};

	return session_put(session, &note.hdr, sizeof(note));
}

/* ---- signals ---- */

void session_signals(sigset_t *set)
{
	sigemptyset(set);
	sigaddset(set, SIGINT);
	sigaddset(set, SIGTERM);
	sigaddset(set, SIGHUP);
	sigaddset(set, SIGUSR1);
	sigaddset(set, SIGUSR2);
}

static void signals_block(sigset_t *set, sigset_t *before)
{
	session_signals(set);
	sigprocmask(SIG_BLOCK, set, before);
	signal(SIGPIPE, SIG_IGN);
}

bool session_signal_says_stop(struct session *session, unsigned int *forwarded)
{
	const struct timespec no_wait = {0};
	siginfo_t info;
	sigset_t set;

	session_signals(&set);
	if (sigtimedwait(&set, &info, &no_wait) < 0)
		return false;
	if (session->options->choice)
		return session->options->choice->signal(info.si_signo,
							session->options->choice->ctx);
	if (info.si_signo == SIGUSR1 || info.si_signo == SIGUSR2) {
		commands_signal(session, info.si_signo);
		return false;
	}
	if (!session->launch || pt_launch_ended(session->launch, NULL))
		return true;
	/* Ctrl-C reached the command by itself, through the terminal's foreground group */
	if (info.si_signo == SIGINT && info.si_code == SI_KERNEL)
		return false;
	if (*forwarded)
		return true;
	*forwarded = 1;
	pt_launch_signal(session->launch, info.si_signo);
	return false;
}

/* ---- the phases ---- */

static int run(struct session *session, enum pt_session_stop *stop, struct pt_err *err)
{
	int rc = session_prepare(session, err);

	if (rc)
		return rc;
	if (session->launch) {
		rc = session_wait_for_python(session, stop, err);
	} else {
		rc = session_attach_all(session, err);
		if (!rc && session->options->choice &&
		    !session->options->choice->ready(session->options->choice->ctx))
			rc = pt_err_set(err, -ECANCELED, PT_EXIT_FAILED, "", "given up");
		if (!rc)
			rc = session_open_gate(session, err);
	}
	if (!rc)
		rc = session_record(session, stop, err);
	if (session->spool) {
		rc = session_finish(session, rc, stop, err);
		commands_service(session); /* a copy that came last */
	}
	return rc;
}

static void release(struct session *session)
{
	pt_spool_free(session->spool);
	pt_output_discard(session->output);
	pt_tracer_free(session->tracer);
	cuda_free(session->cuda);
	methods_free(session);
	mapped_free(session);
	callstacks_free(session->callstacks);
	unmatched_free(session->unmatched);
	pt_images_free(session->images);
	if (session->marks && session->result->opened)
		pt_marks_warn_unused(session->marks);
	pt_marks_free(session->marks);
	rest_close(session);
	pt_launch_free(session->launch);
	targets_release(session);
	free(session->tasks);
	free(session->overhead);
	free(session->seen);
	free(session->unwanted);
	pt_file_cache_free(session->files);
}

int pt_session_run(const struct pt_session_options *options, const struct pt_session_watch *watch,
		   struct pt_session_result *result, struct pt_err *err)
{
	struct session session = {
	    .options = options,
	    .watch = watch,
	    .result = result,
	    .next_code_id = PT_CODE_ID_USER,
	    .rest = {.epoll_fd = -1, .signal_fd = -1},
	    .begin_ns = pt_now_ns(),
	};
	enum pt_session_stop stop = PT_STOP_ERROR;
	sigset_t set, before;
	int rc;

	*result = (struct pt_session_result){0};
	session.files = pt_file_cache_new();
	if (!session.files)
		return pt_err_set(err, -ENOMEM, PT_EXIT_FAILED, "", "out of memory");
	signals_block(&set, &before);
	rc = run(&session, &stop, err);
	commands_close(&session, rc ? err : NULL);
	result->stop = stop;
	if (options->choice)
		options->choice->finished(result, rc, err, options->choice->ctx);
	/* the probes are gone now; the command may still run (-d, a limit) */
	pt_tracer_free(session.tracer);
	session.tracer = NULL;
	if (session.launch && (result->opened || pt_launch_ended(session.launch, NULL)))
		session_await_command(&session, stop);
	release(&session);
	while (!options->choice && sigtimedwait(&set, NULL, &(struct timespec){0}) >= 0)
		; /* a Ctrl-C too many must not end us before the summary */
	sigprocmask(SIG_SETMASK, &before, NULL);
	return rc;
}
