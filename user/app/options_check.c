// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/* What options mean together, and what does not go together. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "app/cfunctions.h"
#include "app/options_parts.h"
#include "flight/ring.h"
#include "flight/trigger.h"
#include "probe/attach.h"
#include "python/image.h"
#include "record/engine.h"
#include "record/session.h"
#include "sink/sink.h"

#define WINDOW_MAX_NS (86400 * 1000000000ull)

/* --pid-suffix: trace.json.gz becomes trace_%p.json.gz. */
static int add_pid_suffix(struct app_options *options, struct pt_err *err)
{
	char *path = options->output, *longer;
	const char *suffix;

	if (!options->pid_suffix || !path || strstr(path, "%p"))
		return 0;
	if (!strcmp(path, "-"))
		return app_usage(err, "--pid-suffix needs files; standard output is one");
	if (pt_output_is_capture(path))
		return app_usage(err,
				 "--pid-suffix: a capture holds all processes; give it to replay");
	suffix = pt_sink_suffix(path);
	if (!suffix)
		return 0; /* that is told later */
	if (asprintf(&longer, "%.*s_%%p%s", (int)(suffix - path), path, suffix) < 0)
		return pt_err_set(err, -ENOMEM, PT_EXIT_FAILED, "", "out of memory");
	free(path);
	options->output = longer;
	return 0;
}

static int check_glob(const char *option, const char *glob, struct pt_err *err)
{
	int rc = glob ? pt_glob_check(glob) : 0;

	if (rc == -E2BIG)
		return app_usage(err, "%s: '%s' has more than 64 characters", option, glob);
	return rc ? app_usage(err, "%s: '%s' is no glob of *, ? and characters (\\[ is a bracket)",
			      option, glob)
		  : 0;
}

static int check_values(const struct app_options *options, struct pt_err *err)
{
	const char *culprit;
	int rc = pt_values_check((const char *const *)options->args.items,
				 (const char *const *)options->retval.items,
				 (const char *const *)options->local.items, &culprit);

	switch (rc) {
	case 0:
		return 0;
	case -ENOMEM:
		return pt_err_set(err, rc, PT_EXIT_FAILED, "", "out of memory");
	case -ERANGE:
		return app_usage(err, "--args, --retval and --local: more than %d in all",
				 PT_VALUES_WANTED_MAX);
	case -EDOM:
		return app_usage(err,
				 "--local: '%s' is not GLOB:NAME with an ASCII name of at most 31 "
				 "characters",
				 culprit);
	default:
		return app_usage(err,
				 "'%s' is no glob of at most 64 characters: *, ? and others "
				 "(\\[ is a bracket)",
				 culprit);
	}
}

static int check_ctl(const struct app_options *options, struct pt_err *err)
{
	static const char *const commands[] = {"status", "pause", "resume",
					       "clear",  "save",  "stop"};
	const char *word = options->word_count ? options->words[0] : NULL;
	size_t i, most;

	if (!word)
		return app_usage(
		    err, "'ctl' needs a command: status, pause, resume, clear, save or stop");
	for (i = 0; i < 6 && strcmp(word, commands[i]) != 0; i++)
		;
	if (i == 6)
		return app_usage(err, "'ctl' has no command '%s'", word);
	most = strcmp(word, "save") ? 1 : 2;
	if (options->word_count > most)
		return app_usage(err, "'%s' is one argument too many", options->words[most]);
	if (options->flush_unfinished && strcmp(word, "stop") != 0)
		return app_usage(err, "--flush-unfinished goes with 'stop'");
	return 0;
}

/* The first option that is asked for and excludes an engine: which needs more than samples, or with
 * hybrid more than what has probes apart from those of Python calls. */
static const char *excluded(const struct app_options *options, bool hybrid)
{
	const struct {
		bool asked;
		const char *option;
		bool beside; /* its probes are no Python calls' */
	} list[] = {
	    {options->gc, "--gc", true},
	    {options->gil, "--gil", true},
	    {options->sched, "--sched", false},
	    {options->imports, "--imports", false},
	    {options->exceptions, "--exceptions", true},
	    {options->async, "--async", false},
	    {options->audit.count, "--audit", true},
	    {options->args.count, "--args", false},
	    {options->retval.count, "--retval", false},
	    {options->local.count, "--local", false},
	    {options->probes.count, "--probe", true},
	    {options->nvtx, "--nvtx", true},
	    {options->min_duration_ns, "--min-duration", false},
	    /* samples have lines, too, but no calls */
	    {options->lines && options->engine != PT_ENGINE_SAMPLE, "--lines", false},
	    {options->c_asked, "--c-functions", true},
	    {options->c_asked && !options->c_globs.count, "--c-functions all", false},
	    {options->cuda && options->cuda != PT_CUDA_NONE + 1, "--cuda", true},
	    {options->memory, "--memory", false},
	    {options->torch, "--torch", true},
	    {options->cuda_libs, "--cuda-libs", true},
	    {options->gpu_bounds, "--gpu-bounds", true},
	    {options->stacks, "--stacks", false},
	    {options->max_overhead_ppm, "--max-overhead", false},
	    {options->max_cpu_ppm, "--max-cpu", false},
	    {options->max_events, "--max-events", false},
	    {options->start_on, "--start-on", false},
	    {options->stop_on, "--stop-on", false},
	};

	for (size_t i = 0; i < sizeof(list) / sizeof(list[0]); i++)
		if (list[i].asked && !(hybrid && list[i].beside))
			return list[i].option;
	return NULL;
}

const char *app_options_exact(const struct app_options *options)
{
	return excluded(options, false);
}

static int check_hybrid(const struct app_options *options, struct pt_err *err)
{
	const char *exact = excluded(options, true);

	if (options->output && pt_sink_wants_samples(options->output))
		return app_usage(err, "'%s' would hold samples only: it needs --engine sample",
				 options->output);
	if (exact && !strcmp(exact, "--c-functions all"))
		return app_usage(err, "--engine hybrid records C functions at themselves: of "
				      "--c-functions it takes a list, or 'blocking'");
	return exact ? app_usage(err, "%s needs exact Python calls: it excludes --engine hybrid",
				 exact)
		     : 0;
}

static int check_samples(struct app_options *options, struct pt_err *err)
{
	bool sampling = options->engine == PT_ENGINE_SAMPLE, only;
	bool hybrid = options->engine == PT_ENGINE_HYBRID;
	const char *exact = sampling ? app_options_exact(options) : NULL;

	if (exact)
		return app_usage(err, "%s needs an exact engine: it excludes --engine sample",
				 exact);
	if (hybrid && check_hybrid(options, err))
		return -EINVAL;
	if (options->frequency != UINT64_MAX && !sampling && !hybrid)
		return app_usage(err, "-F goes with --engine sample or hybrid");
	if (options->native && !sampling && !hybrid)
		return app_usage(err, "--native goes with --engine sample or hybrid");
	if (options->off_cpu && !sampling && !hybrid)
		return app_usage(err, "--off-cpu goes with --engine sample or hybrid");
	if (options->min_block_ns != UINT64_MAX && !options->off_cpu)
		return app_usage(err, "--min-block goes with --off-cpu");
	if (!options->frequency)
		return app_usage(err, "-F: no samples would be taken");
	only = options->output && pt_sink_wants_samples(options->output);
	if (only && options->verb == APP_RECORD && !sampling)
		return app_usage(err, "'%s' is to hold samples: it needs --engine sample",
				 options->output);
	if (only && options->max_file_bytes)
		return app_usage(err, "--max-file-size: '%s' is written at the end only",
				 options->output);
	return 0;
}

/* Of samples none fires; of what is beside them some do. */
static int check_capture_engine(const struct app_options *options, unsigned int needs,
				struct pt_err *err)
{
	if (options->engine == PT_ENGINE_SAMPLE)
		return app_usage(
		    err, "'capture' needs an exact engine, or hybrid: triggers look at single "
			 "events");
	if (options->frequency != UINT64_MAX && options->engine != PT_ENGINE_HYBRID)
		return app_usage(err, "-F goes with --engine hybrid");
	if (!options->frequency)
		return app_usage(err, "-F: no samples would be taken");
	if (options->engine == PT_ENGINE_HYBRID && needs & PT_NEEDS_CALLS)
		return app_usage(
		    err, "--on slow, request and hang need exact Python calls: they exclude "
			 "--engine hybrid");
	return options->engine == PT_ENGINE_HYBRID ? check_hybrid(options, err) : 0;
}

/* What triggers need is recorded. */
static int check_capture(struct app_options *options, struct pt_err *err)
{
	unsigned int needs = 0, http = 0;

	if (!options->triggers.count)
		return app_usage(err, "'capture' needs a trigger: --on KIND[:ARGUMENTS]");
	if (options->triggers.count > PT_TRIGGERS_MAX)
		return app_usage(err, "--on: more than %d", PT_TRIGGERS_MAX);
	if (!options->last_ns || options->last_ns > WINDOW_MAX_NS ||
	    options->after_ns > WINDOW_MAX_NS || options->cool_down_ns > WINDOW_MAX_NS)
		return app_usage(err,
				 "--last, --after, --cool-down: at most a day, and --last not 0");
	if (options->window_bytes < PT_RING_MIN_BYTES)
		return app_usage(err, "--window-memory: less than 2M is too little");
	for (size_t i = 0; i < options->triggers.count; i++) {
		struct pt_trigger trigger;
		int rc = pt_trigger_parse(options->triggers.items[i], &trigger, err);

		if (rc)
			return rc;
		needs |= trigger.kind->needs;
		http += trigger.kind == pt_trigger_asked();
		pt_trigger_release(&trigger);
	}
	if (http > 1)
		return app_usage(err, "--on http comes twice");
	if (options->token_file && !http)
		return app_usage(err, "--token-file goes with --on http");
	if (needs & PT_NEEDS_GC && options->no_gc)
		return app_usage(err, "--on gc and --no-gc exclude each other");
	if (needs & PT_NEEDS_CUDA && options->cuda == PT_CUDA_NONE + 1)
		return app_usage(err, "--on cuda and --cuda none exclude each other");
	options->exceptions |= (needs & PT_NEEDS_EXCEPTIONS) != 0;
	options->gil |= (needs & PT_NEEDS_GIL) != 0;
	options->gc |= (needs & PT_NEEDS_GC) != 0;
	options->async |= (needs & PT_NEEDS_ASYNC) != 0;
	options->memory |= (needs & PT_NEEDS_MEMORY) != 0;
	if (needs & PT_NEEDS_CUDA && !options->cuda)
		options->cuda = PT_CUDA_AUTO + 1; /* as asked for: it is told if it does nothing */
	return check_capture_engine(options, needs, err);
}

/* What cannot be told when recording rests now and then. */
static int check_rests(const struct app_options *options, struct pt_err *err)
{
	const char *resting = options->max_overhead_ppm ? "--max-overhead"
			      : options->max_cpu_ppm    ? "--max-cpu"
							: NULL;

	if (resting && (options->start_on || options->stop_on))
		return app_usage(err,
				 "%s excludes --start-on and --stop-on: their calls might begin or "
				 "end while recording rests",
				 resting);
	if (resting && options->memory)
		return app_usage(err,
				 "%s and --memory exclude each other: what is allocated while "
				 "recording rests would not be seen",
				 resting);
	return 0;
}

/* By default not where recording is to cost little: these probes stay while it rests. */
static int choose_c_functions(struct app_options *options, struct pt_err *err)
{
	bool resting = options->max_overhead_ppm || options->max_cpu_ppm;
	const char *text = options->c_functions;

	if (options->ignore_c && text && strcmp(text, "none"))
		return app_usage(err, "--ignore-c and --c-functions exclude each other");
	options->c_wanted = !(options->verb & APP_TRACERS) && !options->ignore_c;
	if (!text && (options->verb & APP_TRACERS) && !options->ignore_c && !resting &&
	    options->engine != PT_ENGINE_SAMPLE)
		text = APP_C_FUNCTIONS_DEFAULT;
	if (text &&
	    app_parse_c_functions(text, &options->c_wanted, &options->c_globs, &options->c_named))
		return app_usage(err, "--c-functions: '%s' is not a valid list", text);
	options->c_asked = options->c_functions && options->c_wanted;
	return 0;
}

/* What is kept in memory, or followed of it and of what GPUs do. */
static int check_memory(struct app_options *options, struct pt_err *err)
{
	if (options->tracer_entries && options->output && pt_output_is_capture(options->output))
		return app_usage(err,
				 "--tracer-entries: a capture holds everything; give it to replay");
	if (options->memory_history && options->output && pt_output_is_capture(options->output))
		return app_usage(err,
				 "--memory-history: a capture holds everything; give it to replay");
	options->memory |= options->memory_history != NULL || options->torch_memory;
	if (options->memory && !options->torch_memory && options->cuda == PT_CUDA_NONE + 1)
		return app_usage(err,
				 "--memory needs calls of CUDA functions: it excludes --cuda none");
	if (options->gpu_bounds && options->cuda && options->cuda != PT_CUDA_AUTO + 1 &&
	    options->cuda != PT_CUDA_ALL + 1)
		return app_usage(err,
				 "--gpu-bounds needs the calls of the runtime and of the driver: "
				 "--cuda auto or all");
	if (options->gpu_bounds && options->start_on)
		return app_usage(err,
				 "--gpu-bounds and --start-on exclude each other: what waits for "
				 "a GPU outside of the calls would be missing");
	if (options->memory && options->start_on)
		return app_usage(err,
				 "--memory and --start-on exclude each other: what is allocated "
				 "outside of these calls would not be seen");
	return 0;
}

static int check_verb(struct app_options *options, struct pt_err *err)
{
	if (options->verb == APP_RECORD && options->dry_run && options->command)
		return app_usage(err, "--dry-run needs a running process (-p or -a)");
	if (options->verb == APP_RECORD && options->json && !options->dry_run)
		return app_usage(err, "--json goes with --dry-run or a verb");
	if (options->verb == APP_REPLAY && !options->output)
		return app_usage(err, "'replay' needs -o OUT");
	if (options->verb == APP_MERGE && (!options->word_count || !options->output))
		return app_usage(err, "'merge' needs files, and -o OUT");
	if (options->verb == APP_AGENT && !options->config)
		return app_usage(err, "'agent' needs --config FILE");
	if (options->verb == APP_CTL)
		return check_ctl(options, err);
	if (options->verb == APP_CHECK && options->pid_count > 1)
		return app_usage(err, "'check' looks at one process at a time");
	return add_pid_suffix(options, err);
}

int app_options_check(struct app_options *options, struct pt_err *err)
{
	int targets = (options->pid_count > 0) + options->all + (options->command != NULL);

	if (options->no_follow)
		options->follow = PT_FOLLOW_NO;
	if (options->gc && options->no_gc)
		return app_usage(err, "--gc and --no-gc exclude each other");
	if (options->imports && options->no_imports)
		return app_usage(err, "--imports and --no-imports exclude each other");
	if (options->stacks & PT_WANT_MARK_STACKS && !options->probes.count && !options->nvtx)
		return app_usage(err, "--stacks mark needs --probe or --nvtx");
	if (options->stacks & ~PT_WANT_MARK_STACKS && options->cuda == PT_CUDA_NONE + 1 &&
	    !options->cuda_libs)
		return app_usage(err, "--stacks needs the calls that --cuda none leaves out");
	/* importlib's are called "<frozen importlib._bootstrap>" */
	if (options->ignore_frozen && app_list_append(&options->exclude_files, "<frozen *"))
		return pt_err_set(err, -ENOMEM, PT_EXIT_FAILED, "", "out of memory");
	if (options->verb & APP_TRACERS && targets != 1)
		return app_usage(err, targets
					  ? "-p, -a and -- COMMAND exclude each other"
					  : "what is to be traced? Give -p PID, -a or -- COMMAND");
	if (choose_c_functions(options, err))
		return -EINVAL;
	if (check_glob("--start-on", options->start_on, err) ||
	    check_glob("--stop-on", options->stop_on, err))
		return -EINVAL;
	if (check_values(options, err))
		return -EINVAL;
	if (options->verb == APP_CAPTURE)
		return check_capture(options, err);
	if (options->count && !options->start_on)
		return app_usage(err, "--count goes with --start-on");
	if (check_memory(options, err))
		return -EINVAL;
	if (check_rests(options, err))
		return -EINVAL;
	if (options->async && options->start_on)
		return app_usage(err,
				 "--async and --start-on exclude each other: a task that starts "
				 "outside of these calls would not be seen");
	if (check_samples(options, err))
		return -EINVAL;
	return check_verb(options, err);
}

void app_options_features(const struct app_options *options, unsigned int *features,
			  unsigned int *asked)
{
	*asked = 0;
	*asked |= (unsigned int)options->gc << PY_FEATURE_GC;
	*asked |= (unsigned int)options->gil << PY_FEATURE_GIL;
	*asked |= (unsigned int)options->imports << PY_FEATURE_IMPORTS;
	*asked |= (unsigned int)options->exceptions << PY_FEATURE_EXCEPTIONS;
	*asked |= (unsigned int)options->async << PY_FEATURE_ASYNC;
	*asked |= (unsigned int)(options->audit.count > 0) << PY_FEATURE_AUDIT;
	*asked |=
	    (unsigned int)(options->args.count + options->retval.count + options->local.count > 0)
	    << PY_FEATURE_VALUES;
	*features = *asked | (unsigned int)!options->no_gc << PY_FEATURE_GC |
		    (unsigned int)!options->no_imports << PY_FEATURE_IMPORTS;
}
