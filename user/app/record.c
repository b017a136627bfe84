// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/* The main form: record, and say what happens. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#include "app/verbs.h"
#include "base/log.h"
#include "record/launch.h"
#include "record/session.h"
#include "record/sources.h"
#include "sink/split.h"

/* Of --engine sample. Not 100: a program that does something a hundred times a second would always
 * be met in the same part of it. */
#define DEFAULT_HZ           99
#define DEFAULT_MIN_BLOCK_NS 1000000 /* of --off-cpu */

struct screen {
	bool is_command; /* Ctrl-C goes to it */
	bool samples;
	char no_exact[512]; /* why samples are taken that nobody asked for; else "" */
	uint64_t last_ns, last_events;
};

/* 1234567 as 1,234,567. */
static const char *grouped(uint64_t number, char *text, size_t size)
{
	char digits[24];
	size_t len = (size_t)snprintf(digits, sizeof(digits), "%llu", (unsigned long long)number);
	size_t n = 0;

	for (size_t i = 0; i < len && n + 2 < size; i++) {
		if (i && (len - i) % 3 == 0)
			text[n++] = ',';
		text[n++] = digits[i];
	}
	text[n] = '\0';
	return text;
}

static void opened(const struct pt_session_opened *o, void *ctx)
{
	const struct screen *screen = ctx;

	if (screen->no_exact[0]) {
		pt_warn("no exact engine works here: %s", screen->no_exact);
		pt_warn("so samples are taken, as --engine sample does");
	}
	if (o->hybrid)
		pt_info(
		    "recording %s, %s, engine %s, %u samples a second of each CPU, %zu probes by "
		    "%s%s%s",
		    o->targets, o->interpreter, o->engine, o->sample_hz, o->probe_count,
		    o->link_kind, o->reach_file ? "" : ", in these processes only",
		    screen->is_command ? "" : "; Ctrl-C ends it");
	else if (o->sample_hz)
		pt_info("recording %s, %s, %u samples a second of each CPU%s", o->targets,
			o->interpreter, o->sample_hz, screen->is_command ? "" : "; Ctrl-C ends it");
	else
		pt_info("recording %s, %s, engine %s, %zu probes by %s%s%s", o->targets,
			o->interpreter, o->engine, o->probe_count, o->link_kind,
			o->reach_file ? "" : ", in these processes only",
			screen->is_command ? "" : "; Ctrl-C ends it");
	pt_verbose("engine %s: %s", o->engine, o->why);
	pt_verbose("attached in %.0f ms", o->attach_ms);
}

static void progress(const struct pt_session_progress *p, void *ctx)
{
	struct screen *screen = ctx;
	char events[32], line[200];
	double seconds = (double)(p->elapsed_ns - screen->last_ns) / 1e9;
	uint64_t more = p->events > screen->last_events ? p->events - screen->last_events : 0;
	double rate = seconds > 0 ? (double)more / seconds : 0;

	screen->last_ns = p->elapsed_ns;
	screen->last_events = p->events;
	if (p->writing)
		snprintf(line, sizeof(line), "writing: %.0f MB of records to go, file %.1f MB",
			 (double)p->backlog_bytes / 1e6, (double)p->file_bytes / 1e6);
	else
		snprintf(line, sizeof(line), "%.1f s%s, %s %s, %.0f k/s, %llu lost, file %.1f MB",
			 (double)p->elapsed_ns / 1e9, p->paused ? " (paused)" : "",
			 grouped(p->events, events, sizeof(events)),
			 screen->samples ? "samples" : "events", rate / 1e3,
			 (unsigned long long)p->lost_events, (double)p->file_bytes / 1e6);
	pt_log_status(line);
}

static const char *stop_reason(enum pt_session_stop stop)
{
	switch (stop) {
	case PT_STOP_MAX_EVENTS:
		return " (stopped by --max-events)";
	case PT_STOP_TRIGGER:
		return " (stopped by --count or --stop-on)";
	case PT_STOP_MAX_FILE:
		return " (stopped by --max-file-size)";
	case PT_STOP_MAX_MEMORY:
		return " (stopped by --max-memory)";
	case PT_STOP_ERROR:
		return " (cut short)";
	case PT_STOP_DURATION:
	case PT_STOP_SIGNAL:
	case PT_STOP_COMMAND:
	case PT_STOP_TARGET_ENDED:
		break;
	}
	return "";
}

static uint64_t lost(const struct pt_session_result *result)
{
	return result->stats.lost_events > result->totals.lost_events ? result->stats.lost_events
								      : result->totals.lost_events;
}

/* Whether the trace lacks anything. */
static bool incomplete(const struct pt_session_result *result)
{
	return lost(result) || result->stats.lost_records || result->stats.missed ||
	       result->stats.sched_full || result->stats.off_cpu_full ||
	       result->stats.cuda_missed || result->stats.torch_missed;
}

static void tell_overhead(const struct pt_session_overhead *overhead)
{
	uint64_t total_ns = overhead->recorded_ns + overhead->rested_ns;
	char sampled[48] = "";

	if (overhead->sampled_ns)
		snprintf(sampled, sizeof(sampled), ", sampled %.1f s",
			 (double)overhead->sampled_ns / 1e9);
	if (overhead->cpu_limit > 0)
		pt_info(
		    "pytrace-bpf took %.1f %% of one CPU (--max-cpu %.4g%%); recorded %.1f s of "
		    "%.1f s%s",
		    overhead->cpu_share * 100, overhead->cpu_limit * 100,
		    (double)overhead->recorded_ns / 1e9, (double)total_ns / 1e9, sampled);
	if (!overhead->known)
		return;
	pt_info("overhead: %.2f %% of the processes' own CPU time (--max-overhead %.4g%%); "
		"recorded %.1f s of %.1f s%s%s",
		overhead->share * 100, overhead->limit * 100, (double)overhead->recorded_ns / 1e9,
		(double)total_ns / 1e9, sampled,
		overhead->without_c ? ", in the end without C functions" : "");
}

static void warn_of_missing(const struct pt_session_result *result)
{
	char number[32];

	if (result->stats.c_too_deep)
		pt_warn("%s calls of C functions are missing: more of them were open at once than "
			"can be followed",
			grouped(result->stats.c_too_deep, number, sizeof(number)));
	if (result->stats.sched_full)
		pt_warn("the states of %s threads are missing: there were too many",
			grouped(result->stats.sched_full, number, sizeof(number)));
	if (result->stats.off_cpu_full)
		pt_warn("%s times that a thread was blocked are missing: too many were at once",
			grouped(result->stats.off_cpu_full, number, sizeof(number)));
	if (result->totals.lost_states && !result->stats.lost_records)
		pt_warn("the kernel did not tell of %s switches of threads: the states around them "
			"are shown as lost",
			grouped(result->totals.lost_states, number, sizeof(number)));
	if (result->forks_missed)
		pt_warn("%s forks or execs on this host were not told by the kernel; if one was "
			"of these processes, a child is missing",
			grouped(result->forks_missed, number, sizeof(number)));
	if (result->stats.cuda_missed)
		pt_warn("%s calls of CUDA functions are missing: nested too deep, or no memory",
			grouped(result->stats.cuda_missed, number, sizeof(number)));
	if (result->stats.torch_missed)
		pt_warn("%s calls of PyTorch operators are missing: nested too deep, or no memory",
			grouped(result->stats.torch_missed, number, sizeof(number)));
}

static void tell_file(const struct pt_session_result *result)
{
	const char *path = result->path;

	if (!strcmp(path, "-"))
		return;
	if (pt_output_is_capture(path))
		pt_info("wrote %s (%.1f MB); make a trace of it: pytrace-bpf replay %s -o "
			"trace.json.gz",
			path, (double)result->file_bytes / 1e6, path);
	else if (pt_sink_wants_samples(path))
		pt_info("wrote %s (%.1f MB); open it in https://www.speedscope.app", path,
			(double)result->file_bytes / 1e6);
	else
		pt_info("wrote %s (%.1f MB%s); open it in https://ui.perfetto.dev, "
			"https://www.speedscope.app or chrome://tracing",
			path, (double)result->file_bytes / 1e6,
			pt_split_wanted(path) ? " in all; %p is the pid" : "");
}

static void tell_summary(const struct pt_session_result *result, bool samples, bool hybrid)
{
	char events[32], lost_text[64] = "nothing lost", number[32];

	if (result->stats.missed) {
		pt_warn("%s calls and returns are missing: the kernel gave no memory for a "
			"thread's state",
			grouped(result->stats.missed, number, sizeof(number)));
		snprintf(lost_text, sizeof(lost_text), "some LOST");
	}
	warn_of_missing(result);
	if (lost(result) || result->stats.lost_records)
		snprintf(lost_text, sizeof(lost_text), "%s LOST (a larger --buffer may help)",
			 grouped(lost(result), number, sizeof(number)));
	if (hybrid)
		pt_info(
		    "%s samples, and %s slices and instants beside them, of %llu threads in "
		    "%.1f s, %s%s",
		    grouped(result->totals.samples, events, sizeof(events)),
		    grouped(result->totals.slices + result->totals.spans + result->totals.instants,
			    number, sizeof(number)),
		    (unsigned long long)result->totals.threads, (double)result->duration_ns / 1e9,
		    lost_text, stop_reason(result->stop));
	else if (samples)
		pt_info("%s samples in %.1f s, %s%s",
			grouped(result->stats.events, events, sizeof(events)),
			(double)result->duration_ns / 1e9, lost_text, stop_reason(result->stop));
	else
		pt_info("%s events of %llu threads in %.1f s, %s%s",
			grouped(result->totals.events, events, sizeof(events)),
			(unsigned long long)result->totals.threads,
			(double)result->duration_ns / 1e9, lost_text, stop_reason(result->stop));
	tell_overhead(&result->overhead);
	tell_file(result);
}

static void tell_lacking(const struct pt_session_result *result)
{
	char number[32];

	if (result->totals.samples_incomplete)
		pt_info("%s samples are without all or some of their frames",
			grouped(result->totals.samples_incomplete, number, sizeof(number)));
	if (result->totals.blocks)
		pt_info("%s times that a thread was blocked are recorded",
			grouped(result->totals.blocks, number, sizeof(number)));
	if (result->totals.blocks_incomplete)
		pt_info("%s of them are without all or some of their frames",
			grouped(result->totals.blocks_incomplete, number, sizeof(number)));
	if (result->totals.left_out)
		pt_info("%s older entries were left out (--tracer-entries)",
			grouped(result->totals.left_out, number, sizeof(number)));
	if (result->stats.stacks_missed)
		pt_warn("%s stacks are missing: they came too fast (a larger --buffer may help)",
			grouped(result->stats.stacks_missed, number, sizeof(number)));
	if (result->stacks_unmapped)
		pt_warn("%s stacks are without native frames: what code the process mapped then is "
			"not known",
			grouped(result->stacks_unmapped, number, sizeof(number)));
	if (result->totals.unnamed_kernels)
		pt_info("%s CUDA calls have a kernel whose name is not known",
			grouped(result->totals.unnamed_kernels, number, sizeof(number)));
	if (result->totals.gpu_unbounded)
		pt_warn("of %s launches and copies it is not known until when the GPU worked on "
			"them (the trace says why)",
			grouped(result->totals.gpu_unbounded, number, sizeof(number)));
}

int app_command_status(int wait_status)
{
	if (WIFSIGNALED(wait_status))
		return 128 + WTERMSIG(wait_status);
	return WEXITSTATUS(wait_status);
}

static void set_cuda(const struct app_options *options, struct pt_session_options *session)
{
	session->cuda_asked = options->cuda > 0 || (options->memory && !options->torch_memory) ||
			      options->gpu_bounds || (options->stacks & ~PT_WANT_MARK_STACKS) != 0;
	session->cuda = options->cuda > 0 ? (enum pt_cuda_mode)(options->cuda - 1) : PT_CUDA_AUTO;
	session->cuda_libs = (unsigned int)options->cuda_libs;
	session->cuda_asked |= session->cuda_libs != 0;
	session->torch = options->torch;
	session->torch_memory = options->torch_memory;
	session->stacks = (unsigned int)options->stacks;
	session->native_stacks = options->stacks != 0;
	if (options->memory)
		session->stacks |= PT_CUDA_WANT_STACK(PT_CUDA_GROUP_MALLOC);
}

/* Those of the engines that sample, and in the rests of the others. */
static void set_samples(const struct app_options *options, struct pt_session_options *session)
{
	if (options->engine == PT_ENGINE_SAMPLE || options->engine == PT_ENGINE_HYBRID) {
		session->tracer.sample_hz = options->frequency == UINT64_MAX
						? DEFAULT_HZ
						: (unsigned int)options->frequency;
		session->tracer.lines = false; /* they are there in any case */
		session->tracer.sample_native = session->native_stacks = options->native;
		session->tracer.off_cpu = options->off_cpu;
		session->tracer.off_cpu_min_ns = options->min_block_ns == UINT64_MAX
						     ? DEFAULT_MIN_BLOCK_NS
						     : options->min_block_ns;
	}
	session->tracer.hybrid = options->engine == PT_ENGINE_HYBRID;
	if (session->tracer.hybrid) /* they are Python calls */
		session->features &= ~(1u << PY_FEATURE_IMPORTS);
	if (session->tracer.withdrawable) {
		session->tracer.sample_rests = true;
		session->tracer.sample_hz = DEFAULT_HZ;
	}
	if (options->engine == PT_ENGINE_SAMPLE) {
		session->features = session->features_asked = 0;
		session->tracer.c_functions = false;
		session->cuda = PT_CUDA_NONE;
	}
}

void app_session_options(const struct app_options *options, struct pt_session_options *session)
{
	*session = (struct pt_session_options){
	    .pids = options->pids,
	    .pid_count = options->pid_count,
	    .all = options->all,
	    .command = options->command,
	    .control = options->control,
	    .duration_ns = options->duration_ns,
	    .engine = (enum pt_engine_wish)options->engine,
	    .follow = (enum pt_follow)options->follow,
	    .tracer = {.ring_bytes = options->buffer_bytes,
		       .max_events = options->max_events,
		       .lines = options->lines,
		       .sched = options->sched,
		       .min_duration_ns = options->min_duration_ns,
		       .withdrawable = options->max_overhead_ppm || options->max_cpu_ppm,
		       .start_on = options->start_on,
		       .stop_on = options->stop_on,
		       .count = options->count,
		       .args = (const char *const *)options->args.items,
		       .retval = (const char *const *)options->retval.items,
		       .local = (const char *const *)options->local.items,
		       .no_uprobe_multi = options->no_uprobe_multi,
		       .no_cookie = options->no_cookie,
		       .no_task_storage = options->no_task_storage,
		       .c_functions = options->c_wanted,
		       .methods_only = !options->c_asked || options->engine == PT_ENGINE_HYBRID,
		       .c_globs = (const char *const *)options->c_globs.items},
	};
	set_cuda(options, session);
	session->probes = (const char *const *)options->probes.items;
	session->nvtx = options->nvtx;
	session->say_complete = options->memory || options->gpu_bounds;
	session->max_overhead = (double)options->max_overhead_ppm / 1e6;
	session->max_cpu = (double)options->max_cpu_ppm / 1e6;
	session->max_memory_bytes = options->max_memory_bytes;
	session->c_named = (const char *const *)options->c_named.items;
	session->c_asked = options->c_asked;
	if (options->audit.count)
		session->tracer.audit = (const char *const *)options->audit.items;
	app_options_features(options, &session->features, &session->features_asked);
	set_samples(options, session);
	app_output_options(options, &session->output);
	session->output.model.c_chosen = true;
	session->output.give_to_owner = pt_sudo_user(&session->output.owner_uid,
						     &session->output.owner_gid);
}

static void warn_of_filters(const struct app_options *options)
{
	if (options->output && pt_output_is_capture(options->output) &&
	    (options->max_stack_depth || options->include_files.count ||
	     options->exclude_files.count))
		pt_warn("a .ptcap holds all files and depths; give these filters to 'replay' "
			"instead");
	if (options->output && pt_output_is_capture(options->output) &&
	    (options->process_name || options->dialect != PT_DIALECT_PYTORCH))
		pt_warn("a .ptcap has no dialect and no names of its own; give --dialect and "
			"--process-name to 'replay' instead");
	if (options->output && pt_output_is_capture(options->output) && options->file_info)
		pt_warn("a .ptcap holds no source files: --file-info does nothing here");
}

/* What reads source files while recording; NULL: not wanted. */
struct readers {
	struct pt_sources *sources, *origins;
};

static int run(const struct app_options *options, const struct readers *readers,
	       const struct pt_session_watch *watch, struct pt_session_result *result,
	       struct pt_err *err)
{
	struct pt_session_options session;
	char cache_dir[4096];
	int rc;

	app_session_options(options, &session);
	session.output.sources = readers->sources;
	session.output.origins = readers->origins;
	session.cache_dir = app_cache_dir(options, cache_dir, sizeof(cache_dir));
	rc = pt_session_run(&session, watch, result, err);
	pt_log_status(NULL);
	return rc;
}

/* No exact engine works, which has not been asked for, and samples can have all that has. Not of a
 * command: what it has done already would be done twice. */
static bool may_sample(const struct app_options *options)
{
	return options->engine == PT_ENGINE_AUTO && options->pid_count &&
	       !app_options_exact(options);
}

static int sample_instead(const struct app_options *options, struct screen *screen,
			  const struct readers *readers, const struct pt_session_watch *watch,
			  struct pt_session_result *result, struct pt_err *err)
{
	struct app_options sampling = *options;

	/* said when they are: a free-threaded build, for one, cannot be sampled either */
	snprintf(screen->no_exact, sizeof(screen->no_exact), "%s", err->what);
	pt_err_clear(err);
	sampling.engine = PT_ENGINE_SAMPLE;
	screen->samples = true;
	return run(&sampling, readers, watch, result, err);
}

int app_record(const struct app_options *options, struct pt_err *err)
{
	struct pt_session_result result;
	struct screen screen = {.is_command = options->command != NULL,
				.samples = options->engine == PT_ENGINE_SAMPLE};
	const struct pt_session_watch watch = {opened, progress, &screen};
	struct readers readers = {0};
	int rc;

	if (options->file_info)
		readers.sources = pt_sources_new();
	if (options->stacks)
		readers.origins = pt_sources_new();
	if ((options->file_info && !readers.sources) || (options->stacks && !readers.origins)) {
		pt_sources_free(readers.sources);
		return pt_err_set(err, -ENOMEM, PT_EXIT_FAILED, "", "out of memory");
	}
	warn_of_filters(options);
	rc = run(options, &readers, &watch, &result, err);
	if (rc == -ENOTSUP && !result.opened && may_sample(options))
		rc = sample_instead(options, &screen, &readers, &watch, &result, err);
	pt_sources_free(readers.sources);
	pt_sources_free(readers.origins);
	if (result.opened)
		tell_summary(&result, screen.samples, options->engine == PT_ENGINE_HYBRID);
	if (result.opened)
		tell_lacking(&result);
	if (result.spilled_bytes)
		pt_verbose("%.0f MB of records lay in a temporary file at most",
			   (double)result.spilled_bytes / 1e6);
	/* the command ran without Python: that is said, but its own failure comes first */
	if (rc == -ESRCH && !result.opened && result.has_wait_status &&
	    app_command_status(result.wait_status))
		err->exit_code = (enum pt_exit)app_command_status(result.wait_status);
	if (rc)
		return rc;
	if (result.has_wait_status)
		return app_command_status(result.wait_status);
	return incomplete(&result) ? PT_EXIT_LOST : PT_EXIT_DONE;
}
