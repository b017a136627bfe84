// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/* The one place that prints errors and ends the program. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "app/options.h"
#include "app/verbs.h"
#include "base/log.h"

static int dispatch(const struct app_options *options, struct pt_err *err)
{
	switch (options->verb) {
	case APP_RECORD:
		return options->dry_run ? app_dry_run(options, err) : app_record(options, err);
	case APP_CAPTURE:
		return app_capture(options, err);
	case APP_CHECK:
		return app_check(options, err);
	case APP_LIST:
		return app_list(options, err);
	case APP_REPLAY:
		return app_replay(options, err);
	case APP_REPORT:
		return app_report(options, err);
	case APP_KERNELS:
		return app_kernels(options, err);
	case APP_CTL:
		return app_ctl(options, err);
	case APP_MERGE:
		return app_merge(options, err);
	case APP_AGENT:
		return app_agent(options, err);
	}
	return 0;
}

static int tell_error(const struct app_options *options, int rc, struct pt_err *err)
{
	pt_log_status(NULL);
	if (!pt_err_is_set(err))
		pt_err_set(err, rc, PT_EXIT_FAILED, "", "%s", strerror(-rc));
	if (!err->hint[0])
		pt_error("%s", err->what);
	else if (options->log_json)
		pt_error("%s (%s)", err->what, err->hint);
	else
		pt_error("%s\n  %s", err->what, err->hint);
	return (int)err->exit_code;
}

void app_output_options(const struct app_options *options, struct pt_output_options *output)
{
	*output = (struct pt_output_options){
	    .path = options->output,
	    .pid_suffix = options->pid_suffix,
	    .model = {.min_duration_ns = options->min_duration_ns,
		      .max_stack_depth = (unsigned int)options->max_stack_depth,
		      .include_files = (const char *const *)options->include_files.items,
		      .exclude_files = (const char *const *)options->exclude_files.items,
		      .no_c_functions = !options->c_wanted,
		      .memory = options->memory,
		      .gpu_bounds = options->gpu_bounds,
		      .c_globs = (const char *const *)options->c_globs.items},
	    .memory_history = options->memory_history,
	    .newest_count = options->tracer_entries,
	    .sink = {.dialect = (enum pt_dialect)options->dialect,
		     .process_name = options->process_name,
		     .no_call_ids = options->no_call_ids,
		     .lines = options->lines,
		     .max_bytes = options->max_file_bytes,
		     .gzip_level = (int)options->gzip_level},
	};
}

const char *app_cache_dir(const struct app_options *options, char *text, size_t size)
{
	const char *base = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");

	if (options->no_cache)
		return NULL;
	if (options->cache_dir)
		return options->cache_dir;
	/* root trusts what is in its cache, so it must not be a folder of the user who called sudo
	 */
	if (!geteuid())
		snprintf(text, size, "/var/cache/pytrace-bpf");
	else if (base && *base == '/')
		snprintf(text, size, "%s/pytrace-bpf", base);
	else if (home && *home == '/')
		snprintf(text, size, "%s/.cache/pytrace-bpf", home);
	else
		return NULL;
	return text;
}

static int finish_output(void)
{
	/* a full disk or a closed pipe behind printf() */
	return fflush(stdout) || ferror(stdout);
}

int main(int argc, char **argv)
{
	struct app_options options;
	struct pt_err err = {0};
	int rc = app_options_parse(argc, argv, &options, &err);

	pt_log_json(options.log_json);
	if (options.quiet)
		pt_log_set_level(PT_LOG_WARN);
	else if (options.verbose)
		pt_log_set_level(options.verbose > 1 ? PT_LOG_DEBUG : PT_LOG_VERBOSE);
	if (!rc && options.help)
		app_options_help(options.verb, stdout);
	else if (!rc && options.version)
		printf("pytrace-bpf %s\n", PT_VERSION);
	else if (!rc)
		rc = dispatch(&options, &err);
	if (rc < 0)
		rc = tell_error(&options, rc, &err);
	if (finish_output() && rc == PT_EXIT_DONE)
		rc = PT_EXIT_FAILED;
	app_options_release(&options);
	return rc;
}
