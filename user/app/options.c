// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
#include "app/options.h"

#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cjson/cJSON.h>

#include "app/cfunctions.h"
#include "base/parse.h"
#include "flight/ring.h"
#include "flight/trigger.h"
#include "probe/attach.h"
#include "python/image.h"
#include "record/control.h"
#include "record/engine.h"
#include "record/mark_spec.h"
#include "record/session.h"
#include "sink/sink.h"
#include "target/maps.h"

#define CONFIG_MAX_BYTES (1u << 20)

enum kind {
	KIND_FLAG,
	KIND_LEVEL, /* a flag that may be given again, for more */
	KIND_STRING,
	KIND_TIME,
	KIND_SIZE,
	KIND_NUMBER,
	KIND_PERCENT,
	KIND_CHOICE,
	KIND_CHOICES, /* several, split at commas: their values together */
	KIND_LIST,
	KIND_EVENTS,
	KIND_NAMES, /* a list that is split at commas */
	KIND_PROBES,
	KIND_TRIGGERS,
	KIND_PIDS,
};

struct choice {
	const char *name;
	int value;
};

struct row {
	const char *name;
	char letter; /* 0: none */
	enum kind kind;
	const char *argument; /* its name in the help text */
	size_t at;            /* offset in struct app_options */
	unsigned int verbs;
	const char *help; /* NULL: not shown (for tests) */
	const struct choice *choices;
	bool only_flag; /* neither in the environment nor in a file */
	uint64_t max;   /* of a number; 0: any */
};

#define ROW(NAME, LETTER, KIND, ARGUMENT, FIELD, VERBS, HELP, ...)                                 \
	{                                                                                          \
		.name = NAME, .letter = LETTER, .kind = KIND_##KIND, .argument = ARGUMENT,         \
		.at = offsetof(struct app_options, FIELD), .verbs = VERBS, .help = HELP,           \
		##__VA_ARGS__                                                                      \
	}
#define WRITERS (APP_RECORD | APP_REPLAY)
#define TRACERS (APP_RECORD | APP_CAPTURE)
#define EVERYWHERE                                                                                 \
	(TRACERS | APP_CHECK | APP_LIST | APP_REPLAY | APP_REPORT | APP_CTL | APP_KERNELS |        \
	 APP_MERGE | APP_AGENT)
#define CACHERS              (TRACERS | APP_CHECK | APP_LIST | APP_KERNELS | APP_AGENT)
#define DEFAULT_TOP          20
#define FREQUENCY_MAX        10000 /* a sample takes some microseconds */
#define DEFAULT_BUFFER_BYTES (64u << 20)
#define DEFAULT_LAST_NS      30000000000ull
#define DEFAULT_COOL_DOWN_NS 10000000000ull
#define DEFAULT_WINDOW_BYTES (64u << 20)
#define DEFAULT_CAPTURES     20
#define DEFAULT_DISK_BYTES   (1u << 30)
#define WINDOW_MAX_NS        (86400 * 1000000000ull)

static const struct choice engines[] = {
    {"auto", PT_ENGINE_AUTO},
    {"usdt", PT_ENGINE_USDT},
    {"frame", PT_ENGINE_FRAME},
    {"sample", PT_ENGINE_SAMPLE},
    {NULL, 0},
};

static const struct choice dialects[] = {
    {"pytorch", PT_DIALECT_PYTORCH},
    {"viztracer", PT_DIALECT_VIZTRACER},
    {NULL, 0},
};

static const struct choice cuda_modes[] = {
    {"auto", PT_CUDA_AUTO + 1},          {"runtime", PT_CUDA_ONLY_RUNTIME + 1},
    {"driver", PT_CUDA_ONLY_DRIVER + 1}, {"all", PT_CUDA_ALL + 1},
    {"none", PT_CUDA_NONE + 1},          {NULL, 0},
};

static const struct choice cuda_libs[] = {
    {"cublas", PT_CUDA_WANT_CUBLAS},
    {"cudnn", PT_CUDA_WANT_CUDNN},
    {NULL, 0},
};

static const struct choice stack_groups[] = {
    {"cuda", PT_CUDA_WANT_STACKS},
    {"launch", PT_CUDA_WANT_STACK(PT_CUDA_GROUP_LAUNCH)},
    {"malloc", PT_CUDA_WANT_STACK(PT_CUDA_GROUP_MALLOC)},
    {"memcpy", PT_CUDA_WANT_STACK(PT_CUDA_GROUP_MEMCPY)},
    {"sync", PT_CUDA_WANT_STACK(PT_CUDA_GROUP_SYNC)},
    {"mark", PT_WANT_MARK_STACKS},
    {NULL, 0},
};

static const struct choice formats[] = {
    {"folder", 0},
    {"tar.gz", 1},
    {NULL, 0},
};

static const struct choice follows[] = {
    {"auto", PT_FOLLOW_AUTO},
    {"exact", PT_FOLLOW_EXACT},
    {"late", PT_FOLLOW_LATE},
    {"no", PT_FOLLOW_NO},
    {NULL, 0},
};

/* clang-format off */
static const struct row rows[] = {
	ROW("pid", 'p', PIDS, "PID[,PID...]", pids, TRACERS | APP_CHECK,
	 "attach to these processes", .only_flag = true),
	ROW("all", 'a', FLAG, NULL, all, TRACERS,
	 "trace every Python process of this host, those started later too", .only_flag = true),
	ROW("output", 'o', STRING, "FILE", output, WRITERS | APP_MERGE | APP_CAPTURE,
	 "write FILE (.json, .json.gz, or .ptcap for the raw capture; of samples also .folded, "
	 ".speedscope.json, and .pprof or .pb.gz for pprof; - is standard output); default pytrace-COMM-PID.json.gz; capture: the "
	 "folder for captures, default '.'"),
	ROW("duration", 'd', TIME, "TIME", duration_ns, TRACERS,
	 "stop after TIME (500ms, 10s, 2m); default: Ctrl-C or the target's end"),
	ROW("engine", 0, CHOICE, "auto|usdt|frame|sample", engine, TRACERS,
	 "which probes to use; auto takes the cheaper exact one; sample uses none, but looks now and "
	 "then at what each CPU runs: not exact, but cheap, and where no exact engine works",
	 .choices = engines),
	ROW("frequency", 'F', NUMBER, "HZ", frequency, APP_RECORD,
	 "with --engine sample: so many samples a second of each CPU; default 99",
	 .max = FREQUENCY_MAX),
	ROW("native", 0, FLAG, NULL, native, APP_RECORD,
	 "with --engine sample: native frames between and above the Python ones, of threads without "
	 "any, too"),
	ROW("off-cpu", 0, FLAG, NULL, off_cpu, APP_RECORD,
	 "with --engine sample: also record where threads are blocked, for how long, and in which "
	 "system call"),
	ROW("min-block", 0, TIME, "TIME", min_block_ns, APP_RECORD,
	 "with --off-cpu: leave out what is shorter than TIME; default 1ms"),
	ROW("follow", 0, CHOICE, "auto|exact|late|no", follow, TRACERS,
	 "children: exact traces them from their first call, but other processes of the same "
	 "interpreter pay for the probes too; late attaches about a millisecond after the fork; "
	 "auto is exact where nobody else runs the interpreter, else late", .choices = follows),
	ROW("no-follow", 0, FLAG, NULL, no_follow, TRACERS, "same as --follow=no"),
	ROW("gc", 0, FLAG, NULL, gc, TRACERS,
	 "record garbage collections as slices of their own; this is the default where the "
	 "interpreter lets them be seen, and with the option it is told where it does not"),
	ROW("no-gc", 0, FLAG, NULL, no_gc, TRACERS, "leave garbage collections out"),
	ROW("gil", 0, FLAG, NULL, gil, TRACERS,
	 "record how long each thread waits for the global interpreter lock"),
	ROW("sched", 0, FLAG, NULL, sched, TRACERS,
	 "record when each thread runs, is runnable, and is blocked, and in which system call"),
	ROW("imports", 0, FLAG, NULL, imports, TRACERS,
	 "record each module that is searched and loaded, by name"),
	ROW("exceptions", 0, FLAG, NULL, exceptions, TRACERS,
	 "record exceptions where they get to Python code, as instants with type and message"),
	ROW("async", 0, FLAG, NULL, async, TRACERS,
	 "give each asyncio task (each coroutine that nothing awaits) a track of its own, with its "
	 "steps, the waits between them, and an arrow from where it was created; and each greenlet "
	 "(CPython 3.11 and later) a track with its calls"),
	ROW("audit", 0, EVENTS, "EVENT[,EVENT...]", audit, TRACERS,
	 "record these audit events (open, socket.*, *) as instants, with what simple arguments "
	 "they have (may be repeated)"),
	ROW("args", 0, NAMES, "GLOB[,GLOB...]", args, TRACERS,
	 "record the arguments of functions whose qualified name matches (may be repeated)"),
	ROW("retval", 0, NAMES, "GLOB[,GLOB...]", retval, TRACERS,
	 "record what such functions return or yield"),
	ROW("local", 0, NAMES, "GLOB:NAME[,...]", local, TRACERS,
	 "record the variable NAME of such functions, as it is when they return"),
	ROW("probe", 0, PROBES, "SPEC", probes, TRACERS,
	 "record calls of a C function or a USDT probe, with arguments: uprobe:PATH:SYMBOL(NAME:TYPE,"
	 "...)=KIND or usdt:PATH:PROVIDER:NAME(NAME:TYPE,...)=KIND; KIND is instant (default), slice, "
	 "counter, begin or end (may be repeated)"),
	ROW("nvtx", 0, FLAG, NULL, nvtx, TRACERS,
	 "record NVTX ranges and marks of programs that use a library which exports them"),
	ROW("min-duration", 0, TIME, "TIME", min_duration_ns, WRITERS | APP_REPORT,
	 "leave out calls shorter than TIME"),
	ROW("max-stack-depth", 0, NUMBER, "N", max_stack_depth, WRITERS | APP_REPORT,
	 "leave out calls deeper than N", .max = 1u << 30),
	ROW("include-file", 0, LIST, "GLOB", include_files, WRITERS | APP_REPORT,
	 "keep only functions of matching source files (may be repeated)"),
	ROW("exclude-file", 0, LIST, "GLOB", exclude_files, WRITERS | APP_REPORT,
	 "leave out functions of matching source files (may be repeated)"),
	ROW("ignore-frozen", 0, FLAG, NULL, ignore_frozen, WRITERS | APP_REPORT,
	 "leave out functions of modules frozen into the interpreter (importlib and others)"),
	ROW("dialect", 0, CHOICE, "pytorch|viztracer", dialect, WRITERS,
	 "whose schema the trace follows: that of PyTorch's profiler, or VizTracer's, for "
	 "vizviewer", .choices = dialects),
	ROW("process-name", 0, STRING, "NAME", process_name, WRITERS,
	 "call the processes NAME in the trace instead of what they are called"),
	ROW("lines", 0, FLAG, NULL, lines, TRACERS,
	 "record the line of each call within its caller (CallFrom)"),
	ROW("pid-suffix", 0, FLAG, NULL, pid_suffix, WRITERS,
	 "write one file a process, with _PID before the suffix; so does %p in the name of -o"),
	ROW("file-info", 0, FLAG, NULL, file_info, APP_RECORD,
	 "put the source files of the functions into the trace, as far as the traced process may "
	 "read them; vizviewer shows them"),
	ROW("c-functions", 0, STRING, "none|all|LIST", c_functions, WRITERS | APP_REPORT | APP_CAPTURE,
	 "record calls of C functions too: all, or those that match a comma-separated LIST of "
	 "GLOBs such as time.sleep,_socket.*; 'blocking' in it stands for what may wait or work "
	 "long; what is not listed costs nothing where -v says 'probed at themselves'; default "
	 "none (replay, report: all)"),
	ROW("ignore-c", 0, FLAG, NULL, ignore_c, WRITERS | APP_REPORT | APP_CAPTURE,
	 "leave C functions out: same as --c-functions=none"),
	ROW("cuda", 0, CHOICE, "auto|runtime|driver|all|none", cuda, TRACERS,
	 "record calls of CUDA functions with their arguments and what they returned: those of the "
	 "runtime, of the driver, or (all) both and NCCL's with what they call among "
	 "themselves; auto, the default, is the runtime, what is called of the driver by others, "
	 "and NCCL", .choices = cuda_modes),
	ROW("cuda-libs", 0, CHOICES, "cublas|cudnn[,...]", cuda_libs, APP_RECORD,
	 "record calls of cuBLAS (with cuBLASLt) and cuDNN, too, and within them those of CUDA that "
	 "they make", .choices = cuda_libs),
	ROW("memory", 0, FLAG, NULL, memory, WRITERS | APP_REPORT,
	 "follow the memory that CUDA functions allocate and free: tracks of the bytes in use, and "
	 "what is left at the end, by stack; report: print that instead"),
	ROW("memory-history", 0, STRING, "FILE", memory_history, WRITERS,
	 "with what --memory does, write FILE: a memory snapshot as PyTorch's, for its viewer and "
	 "torch/cuda/_memory_viz.py; %p in it is the pid"),
	ROW("torch-memory", 0, FLAG, NULL, torch_memory, APP_RECORD,
	 "with what --memory does, follow the memory that PyTorch's allocators give out: blocks within "
	 "the memory of CUDA devices, and memory of the host"),
	ROW("gpu-bounds", 0, FLAG, NULL, gpu_bounds, WRITERS,
	 "show when GPUs may have worked, as far as the host knows: from each launch or copy to the "
	 "call that waited for it, by stream (category gpu_bounds; nothing is measured on the GPU)"),
	ROW("torch", 0, FLAG, NULL, torch, TRACERS,
	 "record calls of PyTorch's operators (aten::add ..), those of C++ included, as slices of "
	 "the category cpu_op"),
	ROW("stacks", 0, CHOICES, "cuda|launch|malloc|memcpy|sync|mark[,...]", stacks, TRACERS,
	 "record where CUDA functions are called from: the Python functions, each with the line at "
	 "which it stands, and the native ones between and above them; of all such calls (cuda), or "
	 "of launches, of what allocates and frees memory, of copies, of waits; mark: where probes "
	 "of --probe and --nvtx fire (may be repeated)",
	 .choices = stack_groups),
	ROW("buffer", 0, SIZE, "SIZE", buffer_bytes, TRACERS,
	 "ring buffer between kernel and tracer; default 64M", .max = 1ull << 31),
	ROW("max-events", 0, NUMBER, "N", max_events, APP_RECORD,
	 "stop after N function entries and exits"),
	ROW("max-file-size", 0, SIZE, "SIZE", max_file_bytes, WRITERS,
	 "stop before the file becomes larger than SIZE"),
	ROW("max-overhead", 0, PERCENT, "PERCENT", max_overhead_ppm, APP_RECORD,
	 "keep what recording costs below PERCENT (1%, 0.5%) of the traced processes' own CPU time: "
	 "when it costs more, C functions are left out, then recording rests between short windows"),
	ROW("max-cpu", 0, PERCENT, "PERCENT", max_cpu_ppm, APP_RECORD,
	 "keep what pytrace-bpf itself takes of one CPU below PERCENT: when it takes more, recording "
	 "rests between short windows"),
	ROW("max-memory", 0, SIZE, "SIZE", max_memory_bytes, APP_RECORD,
	 "stop before pytrace-bpf itself takes more than SIZE of memory"),
	ROW("tracer-entries", 0, NUMBER, "N", tracer_entries, WRITERS,
	 "keep only the newest N calls and other entries, in memory until the end", .max = 1u << 28),
	ROW("no-call-ids", 0, FLAG, NULL, no_call_ids, WRITERS,
	 "leave the ids of single calls out of the trace (smaller; speedscope merges frames)"),
	ROW("gzip-level", 0, NUMBER, "N", gzip_level, WRITERS | APP_MERGE,
	 "1 (fast) to 9 (small)", .max = 9),
	ROW("start-on", 0, STRING, "GLOB", start_on, APP_RECORD,
	 "record only calls of functions whose qualified name matches, and what they call"),
	ROW("count", 0, NUMBER, "N", count, TRACERS,
	 "with --start-on: the first N such calls, then stop; capture: stop after N captures",
	 .max = 1u << 20),
	ROW("stop-on", 0, STRING, "GLOB", stop_on, APP_RECORD,
	 "stop when a call of a function whose qualified name matches returns"),
	ROW("last", 0, TIME, "TIME", last_ns, APP_CAPTURE,
	 "a capture begins so long before the trigger; default 30s"),
	ROW("on", 0, TRIGGERS, "KIND[:ARGUMENTS]", triggers, APP_CAPTURE,
	 "capture when this happens (may be repeated): slow:GLOB:TIME a call of a function took longer; "
	 "request:TIME a web request took longer; "
	 "exception:TYPE; gc:TIME; gil:TIME; cuda:CALL:TIME; cuda-error; crash; exit; hang:TIME no call "
	 "and no return for so long; memory:host:SIZE the process has more; memory:device:SIZE more on a GPU; signal:USR1 or USR2 sent to pytrace-bpf; file:PATH appears; "
	 "at:HH:MM[:SS]"),
	ROW("after", 0, TIME, "TIME", after_ns, APP_CAPTURE,
	 "a capture goes on for so long after the trigger; default 0"),
	ROW("cool-down", 0, TIME, "TIME", cool_down_ns, APP_CAPTURE,
	 "the same trigger does nothing for so long after a capture; default 10s"),
	ROW("window-memory", 0, SIZE, "SIZE", window_bytes, APP_CAPTURE,
	 "keep at most SIZE of compressed records in memory; what does not fit shortens the time "
	 "before the trigger; default 64M"),
	ROW("max-captures", 0, NUMBER, "N", max_captures, APP_CAPTURE,
	 "keep the newest N captures in the folder and delete older ones; default 20, 0 keeps all"),
	ROW("max-disk", 0, SIZE, "SIZE", max_disk_bytes, APP_CAPTURE,
	 "delete the oldest captures in the folder when all take more than SIZE; default 1G, 0 is no "
	 "limit"),
	ROW("format", 0, CHOICE, "FORMAT", format, APP_CAPTURE,
	 "each capture is a folder (the default) or one tar.gz", .choices = formats),
	ROW("command-line", 0, FLAG, NULL, command_line, APP_CAPTURE,
	 "write down the command lines of the processes, which may hold secrets"),
	ROW("control", 0, STRING, "PATH", control, APP_RECORD,
	 "listen on the Unix socket PATH for 'pytrace-bpf ctl'"),
	ROW("socket", 0, STRING, "PATH", socket, APP_CTL,
	 "what the recorder was given as --control; default " PT_CONTROL_SOCKET),
	ROW("flush-unfinished", 0, FLAG, NULL, flush_unfinished, APP_CTL,
	 "with stop: calls that are still running end now; without it they are left out",
	 .only_flag = true),
	ROW("dry-run", 0, FLAG, NULL, dry_run, APP_RECORD,
	 "print the probes that would be used, attach nothing", .only_flag = true),
	ROW("json", 0, FLAG, NULL, json,
	 APP_RECORD | APP_CHECK | APP_LIST | APP_REPORT | APP_KERNELS,
	 "print JSON (with check, list, report, kernels and --dry-run)", .only_flag = true),
	ROW("top", 0, NUMBER, "N", top, APP_REPORT,
	 "how many functions, or stacks with --memory, to show; default 20", .max = 1u << 20),
	ROW("cache-dir", 0, STRING, "DIR", cache_dir, CACHERS,
	 "where to keep what was found out about interpreters, libraries and the kernel; default "
	 "/var/cache/pytrace-bpf"),
	ROW("no-cache", 0, FLAG, NULL, no_cache, CACHERS,
	 "find everything out anew"),
	ROW("config", 0, STRING, "FILE", config, EVERYWHERE,
	 "read options from a JSON object {\"long-option\": value}; with 'agent': its configuration, "
	 "which has keys of its own", .only_flag = true),
	ROW("check-config", 0, FLAG, NULL, check_config, APP_AGENT,
	 "only say whether the configuration is right", .only_flag = true),
	ROW("quiet", 'q', FLAG, NULL, quiet, EVERYWHERE, "print warnings and errors only"),
	ROW("verbose", 'v', LEVEL, NULL, verbose, EVERYWHERE,
	    "say more; -vv also what libbpf and the kernel's verifier say"),
	ROW("log-json", 0, FLAG, NULL, log_json, EVERYWHERE,
	 "messages as JSON, one object a line"),
	ROW("version", 0, FLAG, NULL, version, EVERYWHERE, "print the version",
	 .only_flag = true),
	ROW("help", 'h', FLAG, NULL, help, EVERYWHERE, "print this text", .only_flag = true),
	/* force the fallbacks of older kernels */
	ROW("no-uprobe-multi", 0, FLAG, NULL, no_uprobe_multi, TRACERS, NULL),
	ROW("no-cookie", 0, FLAG, NULL, no_cookie, TRACERS, NULL),
	ROW("no-task-storage", 0, FLAG, NULL, no_task_storage, TRACERS, NULL),
};
/* clang-format on */
#define ROW_COUNT (sizeof(rows) / sizeof(rows[0]))

static const struct verb {
	const char *name;
	enum app_verb verb;
	const char *usage, *help;
	bool wants_file;
} verbs[] = {
    {"", APP_RECORD, "[OPTIONS] -p PID | -a | -- COMMAND [ARGS...]",
     "Records every call and return of Python functions in running CPython processes.", false},
    {"check", APP_CHECK, "check [-p PID]",
     "Says what works on this host, and for this process, and what to do where it does not.",
     false},
    {"list", APP_LIST, "list", "Lists the Python processes of this host.", false},
    {"replay", APP_REPLAY, "replay FILE.ptcap -o OUT",
     "Turns a raw capture into a trace; needs no root.", true},
    {"report", APP_REPORT, "report FILE",
     "Prints the functions that took the most time, from a trace or a capture.", true},
    {"capture", APP_CAPTURE,
     "capture -p PID | -a | -- COMMAND [ARGS...] --on TRIGGER [--on ...] [-o DIR]",
     "Keeps the last seconds in memory and writes them into a folder when something happens.",
     false},
    {"kernels", APP_KERNELS, "kernels FILE",
     "Prints the CUDA kernels that a program or library registers, read from its code; symbols are "
     "not needed.",
     true},
    {"merge", APP_MERGE, "merge FILE... -o OUT",
     "Joins traces and captures of several hosts or processes into one trace, on one clock; needs "
     "no root.",
     false},
    {"agent", APP_AGENT, "agent --config FILE [--check-config]",
     "Runs until it is told to stop: finds Python processes as they start, and serves what they do "
     "as metrics for Prometheus.",
     false},
    {"ctl", APP_CTL,
     "ctl [--socket PATH] status|pause|resume|clear|save [FILE]|stop [--flush-unfinished]",
     "Controls a recording that was started with --control, and prints its answer (JSON).", false},
};
#define VERB_COUNT (sizeof(verbs) / sizeof(verbs[0]))

static const struct verb *find_verb(enum app_verb verb)
{
	for (size_t i = 0; i < VERB_COUNT; i++)
		if (verbs[i].verb == verb)
			return &verbs[i];
	return &verbs[0];
}

static int usage(struct pt_err *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static int usage(struct pt_err *err, const char *fmt, ...)
{
	char what[sizeof(err->what)];
	va_list args;

	va_start(args, fmt);
	vsnprintf(what, sizeof(what), fmt, args);
	va_end(args);
	return pt_err_set(err, -EINVAL, PT_EXIT_USAGE, "'pytrace-bpf --help' lists the options",
			  "%s", what);
}

static int set_choice(const struct row *row, int *field, const char *value)
{
	for (const struct choice *choice = row->choices; choice->name; choice++) {
		if (!strcmp(choice->name, value)) {
			*field = choice->value;
			return 0;
		}
	}
	return -EINVAL;
}

static int add_choices(const struct row *row, int *field, const char *value)
{
	char *copy = strdup(value), *rest = copy, *name;
	int rc = copy ? 0 : -ENOMEM, one;

	while (!rc && (name = strsep(&rest, ","))) {
		rc = set_choice(row, &one, name);
		if (!rc)
			*field |= one;
	}
	free(copy);
	return rc;
}

static int set_flag(bool *field, const char *value)
{
	static const struct choice words[] = {{"1", 1},     {"true", 1}, {"yes", 1}, {"0", 0},
					      {"false", 0}, {"no", 0},   {"", 0},    {NULL, 0}};
	const struct row row = {.choices = words};
	int on = 1, rc = value ? set_choice(&row, &on, value) : 0;

	*field = on;
	return rc;
}

static int raise_level(int *level, const char *value)
{
	bool on;
	int rc = set_flag(&on, value);

	if (!rc)
		*level = on ? *level + 1 : 0;
	return rc;
}

static bool takes_argument(const struct row *row)
{
	return row->kind != KIND_FLAG && row->kind != KIND_LEVEL;
}

static int list_append(struct app_list *list, const char *item)
{
	char **bigger = reallocarray(list->items, list->count + 2, sizeof(*bigger));

	if (!bigger)
		return -ENOMEM;
	list->items = bigger;
	bigger[list->count] = strdup(item);
	if (!bigger[list->count])
		return -ENOMEM;
	bigger[++list->count] = NULL;
	return 0;
}

/* Names of audit events, with a star at the end or none. */
static int add_events(struct app_list *list, const char *value)
{
	char *copy = strdup(value), *rest = copy, *name;
	int rc = copy ? 0 : -ENOMEM;

	while (!rc && (name = strsep(&rest, ","))) {
		const char *star = strchr(name, '*');

		if (!*name || strlen(name) > PT_AUDIT_NAME_MAX || (star && star[1]))
			rc = -EINVAL;
		else if (list->count >= PT_AUDIT_COUNT_MAX)
			rc = -ERANGE;
		else
			rc = list_append(list, name);
	}
	free(copy);
	return rc;
}

static int add_names(struct app_list *list, const char *value)
{
	char *copy = strdup(value), *rest = copy, *name;
	int rc = copy ? 0 : -ENOMEM;

	while (!rc && (name = strsep(&rest, ",")))
		rc = *name ? list_append(list, name) : -EINVAL;
	free(copy);
	return rc;
}

static int set_string(char **field, const char *value)
{
	char *copy = strdup(value);

	if (!copy)
		return -ENOMEM;
	free(*field);
	*field = copy;
	return 0;
}

static int set_field(struct app_options *options, const struct row *row, const char *value)
{
	void *field = (char *)options + row->at;
	int rc;

	switch (row->kind) {
	case KIND_FLAG:
		return set_flag(field, value);
	case KIND_LEVEL:
		return raise_level(field, value);
	case KIND_STRING:
		return *value ? set_string(field, value) : -EINVAL;
	case KIND_TIME:
		return pt_parse_time_ns(value, field);
	case KIND_SIZE:
	case KIND_NUMBER:
		rc = row->kind == KIND_SIZE ? pt_parse_size(value, field)
					    : pt_parse_number(value, field);
		return !rc && row->max && *(uint64_t *)field > row->max ? -ERANGE : rc;
	case KIND_PERCENT:
		rc = pt_parse_percent(value, field);
		return !rc && !*(uint64_t *)field ? -EINVAL : rc;
	case KIND_CHOICE:
		return set_choice(row, field, value);
	case KIND_CHOICES:
		return add_choices(row, field, value);
	case KIND_LIST:
		return list_append(field, value);
	case KIND_PROBES:
	case KIND_TRIGGERS:
		return list_append(field, value);
	case KIND_EVENTS:
		return add_events(field, value);
	case KIND_NAMES:
		return add_names(field, value);
	case KIND_PIDS:
		return pt_parse_pids(value, &options->pids, &options->pid_count);
	}
	return -EINVAL;
}

/* source: "--engine", "PYTRACE_BPF_ENGINE" or "'engine' in FILE". */
static int set_option(struct app_options *options, const struct row *row, const char *value,
		      const char *source, struct pt_err *err)
{
	struct pt_trigger trigger = {0};
	struct pt_mark_spec spec;
	int rc;

	/* these say better what is wrong */
	if (row->kind == KIND_PROBES && pt_mark_spec_parse(value, &spec, err))
		return -EINVAL;
	if (row->kind == KIND_TRIGGERS && pt_trigger_parse(value, &trigger, err))
		return -EINVAL;
	pt_trigger_release(&trigger);
	rc = set_field(options, row, value);
	if (!rc)
		return 0;
	if (rc == -ENOMEM)
		return pt_err_set(err, rc, PT_EXIT_FAILED, "", "out of memory");
	if (rc == -ERANGE)
		return usage(err, "%s: '%s' is too large", source, value);
	if (!takes_argument(row))
		return usage(err, "%s: '%s' is neither true nor false", source, value);
	return usage(err, "%s: '%s' is not a valid %s", source, value, row->argument);
}

static int read_environment(struct app_options *options, struct pt_err *err)
{
	int rc = 0;

	for (size_t i = 0; !rc && i < ROW_COUNT; i++) {
		char name[64] = "PYTRACE_BPF_";
		size_t n = strlen(name);
		const char *value;

		if (rows[i].only_flag || !(rows[i].verbs & options->verb))
			continue;
		for (const char *p = rows[i].name; *p && n < sizeof(name) - 1; p++)
			name[n++] = *p == '-' ? '_' : (char)toupper((unsigned char)*p);
		value = getenv(name);
		if (value)
			rc = set_option(options, &rows[i], value, name, err);
	}
	return rc;
}

static const struct row *find_row(const char *name)
{
	for (size_t i = 0; i < ROW_COUNT; i++)
		if (!strcmp(rows[i].name, name))
			return &rows[i];
	return NULL;
}

static int set_from_json(struct app_options *options, const struct row *row, const cJSON *value,
			 const char *source, struct pt_err *err)
{
	char text[64];

	if (cJSON_IsString(value))
		return set_option(options, row, value->valuestring, source, err);
	if (cJSON_IsBool(value))
		return set_option(options, row, cJSON_IsTrue(value) ? "true" : "false", source,
				  err);
	if (cJSON_IsNumber(value)) {
		snprintf(text, sizeof(text), "%.15g", value->valuedouble);
		return set_option(options, row, text, source, err);
	}
	return usage(err, "%s has a value of the wrong type", source);
}

static int read_config_item(struct app_options *options, const cJSON *item, struct pt_err *err)
{
	const struct row *row = find_row(item->string);
	const cJSON *value;
	char source[256];
	int rc = 0;

	snprintf(source, sizeof(source), "'%.60s' in '%.120s'", item->string, options->config);
	if (!row || row->only_flag)
		return usage(err, "%s is no option that may stand in a file", source);
	if (!(row->verbs & options->verb))
		return 0; /* one file may serve all verbs */
	if (!cJSON_IsArray(item) ||
	    (row->kind != KIND_LIST && row->kind != KIND_EVENTS && row->kind != KIND_PROBES &&
	     row->kind != KIND_CHOICES && row->kind != KIND_TRIGGERS))
		return set_from_json(options, row, item, source, err);
	cJSON_ArrayForEach (value, item) {
		if (!rc)
			rc = set_from_json(options, row, value, source, err);
	}
	return rc;
}

static int read_config(struct app_options *options, struct pt_err *err)
{
	cJSON *root, *item;
	char *text;
	size_t size;
	int rc = pt_proc_read(options->config, CONFIG_MAX_BYTES, &text, &size);

	if (rc)
		return usage(err, "cannot read '%s': %s", options->config, strerror(-rc));
	root = cJSON_ParseWithLength(text, size);
	free(text);
	if (!cJSON_IsObject(root)) {
		cJSON_Delete(root);
		return usage(err, "'%s' holds no JSON object", options->config);
	}
	cJSON_ArrayForEach (item, root) {
		if (!rc)
			rc = read_config_item(options, item, err);
	}
	cJSON_Delete(root);
	return rc;
}

/* ---- the command line ---- */

#define LONG_BASE 1000

static int parse_flags(int argc, char **argv, struct app_options *options, bool only_config,
		       struct pt_err *err)
{
	struct option longs[ROW_COUNT + 1] = {0};
	/* a command's options are its own, so recording stops at the first word that is none */
	char shorts[2 * ROW_COUNT + 3];
	int c, index;

	strcpy(shorts, options->verb & TRACERS ? "+:" : ":");
	for (size_t i = 0; i < ROW_COUNT; i++) {
		bool argument = takes_argument(&rows[i]);
		char letter[3] = {rows[i].letter, argument ? ':' : '\0'};

		longs[i] = (struct option){.name = rows[i].name,
					   .has_arg = argument ? required_argument : no_argument,
					   .val = LONG_BASE + (int)i};
		if (rows[i].letter)
			strcat(shorts, letter);
	}
	opterr = 0;
	optind = 0;
	while ((c = getopt_long(argc, argv, shorts, longs, NULL)) != -1) {
		const struct row *row = NULL;
		char source[64];

		if (c == '?')
			return optopt && optopt < LONG_BASE
				   ? usage(err, "there is no option -%c", optopt)
			       : optopt ? usage(err, "'%s' takes no value", argv[optind - 1])
					: usage(err, "there is no option '%s', or it is ambiguous",
						argv[optind - 1]);
		if (c == ':')
			return usage(err, "'%s' needs a value", argv[optind - 1]);
		for (index = 0; !row && index < (int)ROW_COUNT; index++)
			if (c == LONG_BASE + index || (c < LONG_BASE && c == rows[index].letter))
				row = &rows[index];
		if (!row)
			return usage(err, "there is no option -%c", c);
		if (!(row->verbs & options->verb))
			return usage(err, "--%s does not belong to '%s'", row->name,
				     options->verb == APP_RECORD ? "recording"
								 : find_verb(options->verb)->name);
		/* the file comes before the environment, but its name is here */
		if (only_config != !strcmp(row->name, "config"))
			continue;
		snprintf(source, sizeof(source), "--%s", row->name);
		if (set_option(options, row, optarg, source, err))
			return -EINVAL;
	}
	return 0;
}

static int take_operands(int argc, char **argv, struct app_options *options, struct pt_err *err)
{
	bool dashes = optind > 1 && !strcmp(argv[optind - 1], "--");

	if (options->verb & TRACERS) {
		if (optind >= argc)
			return dashes ? usage(err, "no command stands behind --") : 0;
		if (!dashes)
			return usage(err, "'%s' is no verb; a command to run stands behind --",
				     argv[optind]);
		options->command = argv + optind;
		return 0;
	}
	if (options->verb == APP_CTL || options->verb == APP_MERGE) {
		options->words = argv + optind;
		options->word_count = (size_t)(argc - optind);
		return 0;
	}
	if (find_verb(options->verb)->wants_file && optind < argc)
		options->file = argv[optind++];
	if (optind < argc)
		return usage(err, "'%s' is one argument too many", argv[optind]);
	return 0;
}

/* --pid-suffix: trace.json.gz becomes trace_%p.json.gz. */
static int add_pid_suffix(struct app_options *options, struct pt_err *err)
{
	char *path = options->output, *longer;
	const char *suffix;

	if (!options->pid_suffix || !path || strstr(path, "%p"))
		return 0;
	if (!strcmp(path, "-"))
		return usage(err, "--pid-suffix needs files; standard output is one");
	if (pt_output_is_capture(path))
		return usage(err, "--pid-suffix: a capture holds all processes; give it to replay");
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
		return usage(err, "%s: '%s' has more than 64 characters", option, glob);
	return rc ? usage(err, "%s: '%s' is no glob of *, ? and characters (\\[ is a bracket)",
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
		return usage(err, "--args, --retval and --local: more than %d in all",
			     PT_VALUES_WANTED_MAX);
	case -EDOM:
		return usage(err,
			     "--local: '%s' is not GLOB:NAME with an ASCII name of at most 31 "
			     "characters",
			     culprit);
	default:
		return usage(err,
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
		return usage(err,
			     "'ctl' needs a command: status, pause, resume, clear, save or stop");
	for (i = 0; i < 6 && strcmp(word, commands[i]) != 0; i++)
		;
	if (i == 6)
		return usage(err, "'ctl' has no command '%s'", word);
	most = strcmp(word, "save") ? 1 : 2;
	if (options->word_count > most)
		return usage(err, "'%s' is one argument too many", options->words[most]);
	if (options->flush_unfinished && strcmp(word, "stop") != 0)
		return usage(err, "--flush-unfinished goes with 'stop'");
	return 0;
}

const char *app_options_exact(const struct app_options *options)
{
	const struct {
		bool asked;
		const char *option;
	} list[] = {
	    {options->gc, "--gc"},
	    {options->gil, "--gil"},
	    {options->sched, "--sched"},
	    {options->imports, "--imports"},
	    {options->exceptions, "--exceptions"},
	    {options->async, "--async"},
	    {options->audit.count, "--audit"},
	    {options->args.count, "--args"},
	    {options->retval.count, "--retval"},
	    {options->local.count, "--local"},
	    {options->probes.count, "--probe"},
	    {options->nvtx, "--nvtx"},
	    {options->min_duration_ns, "--min-duration"},
	    {options->lines, "--lines"},
	    {options->c_wanted, "--c-functions"},
	    {options->cuda && options->cuda != PT_CUDA_NONE + 1, "--cuda"},
	    {options->memory, "--memory"},
	    {options->torch, "--torch"},
	    {options->cuda_libs, "--cuda-libs"},
	    {options->gpu_bounds, "--gpu-bounds"},
	    {options->stacks, "--stacks"},
	    {options->max_overhead_ppm, "--max-overhead"},
	    {options->max_cpu_ppm, "--max-cpu"},
	    {options->max_events, "--max-events"},
	    {options->start_on, "--start-on"},
	    {options->stop_on, "--stop-on"},
	};

	for (size_t i = 0; i < sizeof(list) / sizeof(list[0]); i++)
		if (list[i].asked)
			return list[i].option;
	return NULL;
}

static int check_samples(struct app_options *options, struct pt_err *err)
{
	bool sampling = options->engine == PT_ENGINE_SAMPLE, only;
	const char *exact = sampling ? app_options_exact(options) : NULL;

	if (sampling && options->verb == APP_CAPTURE)
		return usage(err, "'capture' needs an exact engine: triggers look at single calls");
	if (exact)
		return usage(err, "%s needs an exact engine: it excludes --engine sample", exact);
	if (options->frequency != UINT64_MAX && !sampling)
		return usage(err, "-F goes with --engine sample");
	if (options->native && !sampling)
		return usage(err, "--native goes with --engine sample");
	if (options->native && options->off_cpu)
		return usage(err, "--native and --off-cpu exclude each other");
	if (options->off_cpu && !sampling)
		return usage(err, "--off-cpu goes with --engine sample");
	if (options->min_block_ns != UINT64_MAX && !options->off_cpu)
		return usage(err, "--min-block goes with --off-cpu");
	if (!options->frequency)
		return usage(err, "-F: no samples would be taken");
	only = options->output && pt_sink_wants_samples(options->output);
	if (only && options->verb == APP_RECORD && !sampling)
		return usage(err, "'%s' is to hold samples: it needs --engine sample",
			     options->output);
	if (only && options->max_file_bytes)
		return usage(err, "--max-file-size: '%s' is written at the end only",
			     options->output);
	return 0;
}

/* What triggers need is recorded. */
static int check_capture(struct app_options *options, struct pt_err *err)
{
	unsigned int needs = 0;

	if (!options->triggers.count)
		return usage(err, "'capture' needs a trigger: --on KIND[:ARGUMENTS]");
	if (options->triggers.count > PT_TRIGGERS_MAX)
		return usage(err, "--on: more than %d", PT_TRIGGERS_MAX);
	if (!options->last_ns || options->last_ns > WINDOW_MAX_NS ||
	    options->after_ns > WINDOW_MAX_NS || options->cool_down_ns > WINDOW_MAX_NS)
		return usage(err, "--last, --after, --cool-down: at most a day, and --last not 0");
	if (options->window_bytes < PT_RING_MIN_BYTES)
		return usage(err, "--window-memory: less than 2M is too little");
	for (size_t i = 0; i < options->triggers.count; i++) {
		struct pt_trigger trigger;
		int rc = pt_trigger_parse(options->triggers.items[i], &trigger, err);

		if (rc)
			return rc;
		needs |= trigger.kind->needs;
		pt_trigger_release(&trigger);
	}
	if (needs & PT_NEEDS_GC && options->no_gc)
		return usage(err, "--on gc and --no-gc exclude each other");
	if (needs & PT_NEEDS_CUDA && options->cuda == PT_CUDA_NONE + 1)
		return usage(err, "--on cuda and --cuda none exclude each other");
	options->exceptions |= (needs & PT_NEEDS_EXCEPTIONS) != 0;
	options->gil |= (needs & PT_NEEDS_GIL) != 0;
	options->gc |= (needs & PT_NEEDS_GC) != 0;
	options->async |= (needs & PT_NEEDS_ASYNC) != 0;
	options->memory |= (needs & PT_NEEDS_MEMORY) != 0;
	if (needs & PT_NEEDS_CUDA && !options->cuda)
		options->cuda = PT_CUDA_AUTO + 1; /* as asked for: it is told if it does nothing */
	return 0;
}

/* What cannot be told of one option alone. */
/* What cannot be told when recording rests now and then. */
static int check_rests(const struct app_options *options, struct pt_err *err)
{
	const char *resting = options->max_overhead_ppm ? "--max-overhead"
			      : options->max_cpu_ppm    ? "--max-cpu"
							: NULL;

	if (resting && (options->start_on || options->stop_on))
		return usage(err,
			     "%s excludes --start-on and --stop-on: their calls might begin or "
			     "end while recording rests",
			     resting);
	if (resting && options->memory)
		return usage(err,
			     "%s and --memory exclude each other: what is allocated while "
			     "recording rests would not be seen",
			     resting);
	return 0;
}

static int check_whole(struct app_options *options, struct pt_err *err)
{
	int targets = (options->pid_count > 0) + options->all + (options->command != NULL);

	if (options->no_follow)
		options->follow = PT_FOLLOW_NO;
	if (options->gc && options->no_gc)
		return usage(err, "--gc and --no-gc exclude each other");
	if (options->stacks & PT_WANT_MARK_STACKS && !options->probes.count && !options->nvtx)
		return usage(err, "--stacks mark needs --probe or --nvtx");
	if (options->stacks & ~PT_WANT_MARK_STACKS && options->cuda == PT_CUDA_NONE + 1 &&
	    !options->cuda_libs)
		return usage(err, "--stacks needs the calls that --cuda none leaves out");
	/* importlib's are called "<frozen importlib._bootstrap>" */
	if (options->ignore_frozen && list_append(&options->exclude_files, "<frozen *"))
		return pt_err_set(err, -ENOMEM, PT_EXIT_FAILED, "", "out of memory");
	if (options->verb & TRACERS && targets != 1)
		return usage(err, targets ? "-p, -a and -- COMMAND exclude each other"
					  : "what is to be traced? Give -p PID, -a or -- COMMAND");
	options->c_wanted = !(options->verb & TRACERS) && !options->ignore_c;
	if (options->ignore_c && options->c_functions && strcmp(options->c_functions, "none"))
		return usage(err, "--ignore-c and --c-functions exclude each other");
	if (options->c_functions && app_parse_c_functions(options->c_functions, &options->c_wanted,
							  &options->c_globs, &options->c_named))
		return usage(err, "--c-functions: '%s' is not a valid list", options->c_functions);
	if (check_glob("--start-on", options->start_on, err) ||
	    check_glob("--stop-on", options->stop_on, err))
		return -EINVAL;
	if (check_values(options, err))
		return -EINVAL;
	if (options->verb == APP_CAPTURE)
		return check_capture(options, err);
	if (options->count && !options->start_on)
		return usage(err, "--count goes with --start-on");
	if (options->tracer_entries && options->output && pt_output_is_capture(options->output))
		return usage(err,
			     "--tracer-entries: a capture holds everything; give it to replay");
	if (options->memory_history && options->output && pt_output_is_capture(options->output))
		return usage(err,
			     "--memory-history: a capture holds everything; give it to replay");
	options->memory |= options->memory_history != NULL || options->torch_memory;
	if (options->memory && !options->torch_memory && options->cuda == PT_CUDA_NONE + 1)
		return usage(err,
			     "--memory needs calls of CUDA functions: it excludes --cuda none");
	if (options->gpu_bounds && options->cuda && options->cuda != PT_CUDA_AUTO + 1 &&
	    options->cuda != PT_CUDA_ALL + 1)
		return usage(err, "--gpu-bounds needs the calls of the runtime and of the driver: "
				  "--cuda auto or all");
	if (options->gpu_bounds && options->start_on)
		return usage(err, "--gpu-bounds and --start-on exclude each other: what waits for "
				  "a GPU outside of the calls would be missing");
	if (options->memory && options->start_on)
		return usage(err, "--memory and --start-on exclude each other: what is allocated "
				  "outside of these calls would not be seen");
	if (check_rests(options, err))
		return -EINVAL;
	if (options->async && options->start_on)
		return usage(err, "--async and --start-on exclude each other: a task that starts "
				  "outside of these calls would not be seen");
	if (check_samples(options, err))
		return -EINVAL;
	if (options->verb == APP_RECORD && options->dry_run && options->command)
		return usage(err, "--dry-run needs a running process (-p or -a)");
	if (options->verb == APP_RECORD && options->json && !options->dry_run)
		return usage(err, "--json goes with --dry-run or a verb");
	if (find_verb(options->verb)->wants_file && !options->file)
		return usage(err, "'%s' needs a file", find_verb(options->verb)->name);
	if (options->verb == APP_REPLAY && !options->output)
		return usage(err, "'replay' needs -o OUT");
	if (options->verb == APP_MERGE && (!options->word_count || !options->output))
		return usage(err, "'merge' needs files, and -o OUT");
	if (options->verb == APP_AGENT && !options->config)
		return usage(err, "'agent' needs --config FILE");
	if (options->verb == APP_CTL)
		return check_ctl(options, err);
	if (options->verb == APP_CHECK && options->pid_count > 1)
		return usage(err, "'check' looks at one process at a time");
	return add_pid_suffix(options, err);
}

/* An option without a value that every form knows, such as -q: a verb may stand behind it. */
static bool is_common_flag(const char *word)
{
	for (size_t i = 0; i < ROW_COUNT; i++) {
		const struct row *row = &rows[i];
		const char letter[3] = {'-', row->letter, '\0'};

		if (takes_argument(row) || row->verbs != EVERYWHERE)
			continue;
		if ((row->letter && !strcmp(word, letter)) ||
		    (!strncmp(word, "--", 2) && !strcmp(word + 2, row->name)))
			return true;
	}
	return false;
}

/* Finds the verb and takes it out of argv. */
static void choose_verb(int *argc, char **argv, struct app_options *options)
{
	int at = 1;

	options->verb = APP_RECORD;
	while (at < *argc && is_common_flag(argv[at]))
		at++;
	for (size_t i = 1; at < *argc && i < VERB_COUNT; i++) {
		if (strcmp(argv[at], verbs[i].name))
			continue;
		options->verb = verbs[i].verb;
		memmove(&argv[at], &argv[at + 1], (size_t)(*argc - at) * sizeof(*argv));
		(*argc)--;
		return;
	}
}

int app_options_parse(int argc, char **argv, struct app_options *options, struct pt_err *err)
{
	int rc;

	*options = (struct app_options){.top = DEFAULT_TOP,
					.buffer_bytes = DEFAULT_BUFFER_BYTES,
					.frequency = UINT64_MAX,
					.min_block_ns = UINT64_MAX,
					.last_ns = DEFAULT_LAST_NS,
					.cool_down_ns = DEFAULT_COOL_DOWN_NS,
					.window_bytes = DEFAULT_WINDOW_BYTES,
					.max_captures = DEFAULT_CAPTURES,
					.max_disk_bytes = DEFAULT_DISK_BYTES};
	choose_verb(&argc, argv, options);
	rc = parse_flags(argc, argv, options, true, err);
	if (!rc && options->config && options->verb != APP_AGENT)
		rc = read_config(options, err);
	if (!rc)
		rc = read_environment(options, err);
	if (!rc)
		rc = parse_flags(argc, argv, options, false, err);
	if (rc || options->help || options->version)
		return rc;
	rc = take_operands(argc, argv, options, err);
	return rc ? rc : check_whole(options, err);
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
	*features = *asked | (unsigned int)!options->no_gc << PY_FEATURE_GC;
}

static void list_release(struct app_list *list)
{
	for (size_t i = 0; i < list->count; i++)
		free(list->items[i]);
	free(list->items);
}

void app_options_release(struct app_options *options)
{
	free(options->pids);
	free(options->output);
	free(options->config);
	free(options->cache_dir);
	list_release(&options->audit);
	list_release(&options->args);
	list_release(&options->retval);
	list_release(&options->local);
	list_release(&options->probes);
	list_release(&options->triggers);
	free(options->process_name);
	free(options->c_functions);
	free(options->memory_history);
	list_release(&options->c_globs);
	list_release(&options->c_named);
	free(options->start_on);
	free(options->stop_on);
	free(options->control);
	free(options->socket);
	list_release(&options->include_files);
	list_release(&options->exclude_files);
}

/* ---- help ---- */

#define HELP_COLUMN 30
#define HELP_WIDTH  90

/* Prints text from HELP_COLUMN on, broken at spaces. */
static void print_wrapped(FILE *out, int column, const char *text)
{
	fprintf(out, "%*s", column < HELP_COLUMN ? HELP_COLUMN - column : 0, "");
	if (column >= HELP_COLUMN)
		fprintf(out, "\n%*s", HELP_COLUMN, "");
	column = HELP_COLUMN;
	while (*text) {
		int len = (int)strcspn(text, " ");

		if (column + len > HELP_WIDTH && column > HELP_COLUMN) {
			fprintf(out, "\n%*s", HELP_COLUMN, "");
			column = HELP_COLUMN;
		}
		fprintf(out, "%.*s", len, text);
		column += len;
		text += len;
		if (*text == ' ') {
			fputc(' ', out);
			column++;
			text++;
		}
	}
	fputc('\n', out);
}

static void print_row(FILE *out, const struct row *row)
{
	char left[96];
	int len = snprintf(left, sizeof(left), "  %c%c%s--%s%s%s", row->letter ? '-' : ' ',
			   row->letter ? row->letter : ' ', row->letter ? ", " : "  ", row->name,
			   row->argument ? " " : "", row->argument ? row->argument : "");

	fputs(left, out);
	print_wrapped(out, len, row->help);
}

void app_options_help(enum app_verb verb, FILE *out)
{
	fprintf(out, "%s\n\n", find_verb(verb)->help);
	if (verb == APP_RECORD) {
		for (size_t i = 0; i < VERB_COUNT; i++)
			fprintf(out, "%s pytrace-bpf %s\n",
				i ? "      " : "Usage:", verbs[i].usage);
		fputs("\nVerbs:\n", out);
		for (size_t i = 1; i < VERB_COUNT; i++)
			print_wrapped(out, fprintf(out, "  %s", verbs[i].name), verbs[i].help);
	} else {
		fprintf(out, "Usage: pytrace-bpf %s\n", find_verb(verb)->usage);
	}
	fputs("\nOptions:\n", out);
	for (size_t i = 0; i < ROW_COUNT; i++)
		if (rows[i].help && (rows[i].verbs & verb))
			print_row(out, &rows[i]);
	fputs(
	    "\nEach option but -p, -a and those that only print may also stand in the environment "
	    "(--max-events\nas PYTRACE_BPF_MAX_EVENTS) or in the file of --config.\n",
	    out);
	fputs(
	    "\nExit codes: 0 done, 1 failed while running, 2 wrong options, 3 not permitted, 4 no "
	    "such process or\nnot Python, 5 interpreter or kernel not supported, 6 done but events "
	    "were lost. With -- COMMAND the\ncommand's own exit code (128 + N if signal N ended "
	    "it) "
	    "once it has been recorded.\n",
	    out);
}
