// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * The tracer of a session: what was asked for and this kernel has not is left out, with a message.
 */
#include <errno.h>

#include "base/log.h"
#include "record/session_parts.h"

/* Of CUDA functions, or of PyTorch's. */
static bool wants_calls(const struct pt_tracer_options *options)
{
	return options->cuda || options->torch || options->torch_memory;
}

static void drop_calls(struct pt_tracer_options *options)
{
	options->cuda = options->torch = options->torch_memory = false;
	options->stacks = options->mark_stacks;
}

static void tell_no_calls(bool cuda, const struct pt_tracer_options *options,
			  const struct pt_err *why)
{
	if (cuda)
		pt_warn("--cuda: not recorded: %s", why->what);
	if (options->torch)
		pt_warn("--torch: not recorded: %s", why->what);
	if (options->torch_memory)
		pt_warn("--torch-memory: not recorded: %s", why->what);
}

static void tell_no_c_functions(const struct session *session, const struct pt_err *why)
{
	if (session->options->c_asked)
		pt_warn("--c-functions: not recorded: %s", why->what);
	else
		pt_verbose("C functions: not recorded: %s", why->what);
}

/* They cannot be probed at themselves. */
static void do_without_methods(const struct session *session, struct pt_tracer_options *options,
			       const struct pt_err *why)
{
	options->methods = false;
	options->c_functions = !options->methods_only;
	if (options->methods_only)
		tell_no_c_functions(session, why);
	else
		pt_verbose("C functions: probed where they are called: %s", why->what);
}

/* With a list of C functions they may be probed at themselves. */
static int choose_methods(struct session *session, struct pt_tracer_options *options,
			  struct pt_err *err)
{
	bool file_wide = session->options->all || session->options->follow == PT_FOLLOW_EXACT;
	struct pt_err why = {0};

	if (!options->c_functions || !options->c_globs)
		return 0;
	options->methods = pt_tracer_methods_supported(options, file_wide, &why);
	if (options->methods)
		return methods_new(session, err);
	do_without_methods(session, options, &why);
	return 0;
}

/* Does this kernel record any? */
static void choose_c_functions(const struct session *session, struct pt_tracer_options *options)
{
	struct pt_err why = {0};

	if (!options->c_functions || pt_tracer_c_functions_supported(options, &why))
		return;
	tell_no_c_functions(session, &why);
	options->c_functions = false;
}

/* A verifier that refuses programs which only one option needs does not keep us from the rest. */
static int load_tracer(struct session *session, struct pt_tracer_options *options,
		       struct pt_err *err)
{
	bool with_calls = wants_calls(options);
	struct pt_err why = {0};
	int rc = pt_tracer_new(options, &session->tracer,
			       options->methods || with_calls ? &why : err);

	if (rc && options->methods) {
		do_without_methods(session, options, &why);
		pt_err_clear(&why);
		methods_free(session);
		rc = pt_tracer_new(options, &session->tracer, with_calls ? &why : err);
	}
	if (rc && with_calls) {
		struct pt_tracer_options without = *options;

		drop_calls(&without);
		rc = pt_tracer_new(&without, &session->tracer, err);
		if (!rc)
			tell_no_calls(options->cuda, options, &why);
		drop_calls(options);
	}
	return rc;
}

/* Nor do samples that are to be taken while recording rests. */
static int load_tracer_for_rests(struct session *session, struct pt_tracer_options *options,
				 struct pt_err *err)
{
	struct pt_tracer_options with = *options;
	struct pt_err why = {0};

	if (options->sample_rests && !load_tracer(session, &with, &why)) {
		*options = with;
		session->sample_rests = true;
		return 0;
	}
	if (options->sample_rests)
		pt_verbose("no samples while recording rests: %s", why.what);
	options->sample_rests = false;
	options->sample_hz = session_samples(session) ? options->sample_hz : 0;
	return load_tracer(session, options, err);
}

static int make_callstacks(struct session *session, struct pt_err *err)
{
	const struct callstacks_options options = {
	    .files = session->files, .put = session_put_record, .ctx = session};

	session->callstacks = callstacks_new(&options);
	if (!session->callstacks)
		return pt_err_set(err, -ENOMEM, PT_EXIT_FAILED, "", "out of memory");
	return 0;
}

static void choose_mark_stacks(const struct session *session, struct pt_tracer_options *options)
{
	struct pt_err why = {0};

	if (!options->marks || !(session->options->stacks & PT_WANT_MARK_STACKS))
		return;
	options->mark_stacks = pt_tracer_mark_stacks_supported(options, &why);
	options->stacks |= options->mark_stacks;
	if (!options->mark_stacks)
		pt_warn("--stacks mark: not recorded: %s", why.what);
}

int session_make_tracer(struct session *session, struct pt_err *err)
{
	struct pt_tracer_options options = session->options->tracer;
	struct pt_err why = {0};
	int rc;

	options.trace_all = session->options->all;
	options.runtime = session->options->features != 0;
	options.async = session->options->features >> PY_FEATURE_ASYNC & 1;
	options.exceptions = session->options->features >> PY_FEATURE_EXCEPTIONS & 1;
	options.imports = session->options->features >> PY_FEATURE_IMPORTS & 1;
	options.cuda = session->options->cuda != PT_CUDA_NONE || session->options->cuda_libs;
	options.stacks = (options.cuda || session->options->torch_memory) &&
			 session->options->stacks & ~PT_WANT_MARK_STACKS;
	options.native_stacks = session->options->native_stacks;
	options.cuda_nested = session->options->cuda == PT_CUDA_ALL;
	options.torch = session->options->torch;
	options.torch_memory = session->options->torch_memory;
	options.follow_children = session->options->all || session->options->follow != PT_FOLLOW_NO;
	choose_c_functions(session, &options);
	rc = choose_methods(session, &options, err);
	if (rc)
		return rc;
	if (options.sched && !pt_tracer_sched_supported(&why)) {
		pt_warn("--sched: not recorded: %s", why.what);
		options.sched = false;
	}
	pt_err_clear(&why);
	if (options.off_cpu && !pt_tracer_sched_supported(&why)) {
		pt_warn("--off-cpu: not recorded: %s", why.what);
		options.off_cpu = false;
	}
	options.marks = session->marks != NULL;
	choose_mark_stacks(session, &options);
	if (wants_calls(&options) && !pt_tracer_cuda_supported(&options, &why)) {
		tell_no_calls(options.cuda && session->options->cuda_asked, &options, &why);
		drop_calls(&options);
	}
	rc = load_tracer_for_rests(session, &options, err);
	session->c_calls = options.c_functions && !options.methods;
	if (!rc)
		rc = overhead_prepare(session, err);
	if (!rc && wants_calls(&options))
		rc = cuda_new(session, err);
	if (!rc && unmatched_new(&session->options->tracer, &session->unmatched))
		rc = pt_err_set(err, -ENOMEM, PT_EXIT_FAILED, "", "out of memory");
	return rc || !(options.stacks || options.sample_native) ? rc
								: make_callstacks(session, err);
}
