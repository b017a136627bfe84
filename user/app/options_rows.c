// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * The table of options, and that of verbs.
 */
#include <stddef.h>
#include <string.h>

#include "app/options_parts.h"
#include "record/control.h"
#include "record/engine.h"
#include "record/session.h"

#define ROW(NAME, LETTER, KIND, ARGUMENT, FIELD, VERBS, HELP, ...)                                 \
	{                                                                                          \
		.name = NAME, .letter = LETTER, .kind = KIND_##KIND, .argument = ARGUMENT,         \
		.at = offsetof(struct app_options, FIELD), .verbs = VERBS, .help = HELP,           \
		##__VA_ARGS__                                                                      \
	}
#define WRITERS       (APP_RECORD | APP_REPLAY)
#define TRACERS       APP_TRACERS
#define EVERYWHERE    APP_EVERYWHERE
#define CACHERS       (TRACERS | APP_CHECK | APP_LIST | APP_KERNELS | APP_AGENT)
#define FREQUENCY_MAX 10000 /* a sample takes some microseconds */

static const struct app_choice engines[] = {
    {"auto", PT_ENGINE_AUTO},     {"usdt", PT_ENGINE_USDT},     {"frame", PT_ENGINE_FRAME},
    {"sample", PT_ENGINE_SAMPLE}, {"hybrid", PT_ENGINE_HYBRID}, {NULL, 0},
};

static const struct app_choice dialects[] = {
    {"pytorch", PT_DIALECT_PYTORCH},
    {"viztracer", PT_DIALECT_VIZTRACER},
    {NULL, 0},
};

static const struct app_choice clocks[] = {
    {"nccl", APP_CLOCK_NCCL},
    {"realtime", APP_CLOCK_REALTIME},
    {NULL, 0},
};

static const struct app_choice cuda_modes[] = {
    {"auto", PT_CUDA_AUTO + 1},          {"runtime", PT_CUDA_ONLY_RUNTIME + 1},
    {"driver", PT_CUDA_ONLY_DRIVER + 1}, {"all", PT_CUDA_ALL + 1},
    {"none", PT_CUDA_NONE + 1},          {NULL, 0},
};

static const struct app_choice cuda_libs[] = {
    {"cublas", PT_CUDA_WANT_CUBLAS},
    {"cudnn", PT_CUDA_WANT_CUDNN},
    {NULL, 0},
};

static const struct app_choice stack_groups[] = {
    {"cuda", PT_CUDA_WANT_STACKS},
    {"launch", PT_CUDA_WANT_STACK(PT_CUDA_GROUP_LAUNCH)},
    {"malloc", PT_CUDA_WANT_STACK(PT_CUDA_GROUP_MALLOC)},
    {"memcpy", PT_CUDA_WANT_STACK(PT_CUDA_GROUP_MEMCPY)},
    {"sync", PT_CUDA_WANT_STACK(PT_CUDA_GROUP_SYNC)},
    {"mark", PT_WANT_MARK_STACKS},
    {NULL, 0},
};

static const struct app_choice formats[] = {
    {"folder", 0},
    {"tar.gz", 1},
    {NULL, 0},
};

static const struct app_choice follows[] = {
    {"auto", PT_FOLLOW_AUTO},
    {"exact", PT_FOLLOW_EXACT},
    {"late", PT_FOLLOW_LATE},
    {"no", PT_FOLLOW_NO},
    {NULL, 0},
};

/* clang-format off */
const struct app_row app_rows[] = {
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
	ROW("engine", 0, CHOICE, "auto|usdt|frame|sample|hybrid", engine, TRACERS,
	 "which probes to use; auto takes the cheaper exact one; sample uses none, but looks now and "
	 "then at what each CPU runs: not exact, but cheap, and where no exact engine works; hybrid "
	 "does so as well, and records exactly what is no Python call: CUDA, collections, the GIL, "
	 "C functions that wait or of a list, marks",
	 .choices = engines),
	ROW("frequency", 'F', NUMBER, "HZ", frequency, TRACERS,
	 "with --engine sample or hybrid: so many samples a second of each CPU; default 99",
	 .max = FREQUENCY_MAX),
	ROW("native", 0, FLAG, NULL, native, APP_RECORD,
	 "with --engine sample or hybrid: native frames between and above the Python ones, of threads "
	 "without any, too"),
	ROW("off-cpu", 0, FLAG, NULL, off_cpu, APP_RECORD,
	 "with --engine sample or hybrid: also record where threads are blocked, for how long, and in "
	 "which system call"),
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
	 "record each module that is searched and loaded, by name; this is the default where the "
	 "interpreter lets it be seen, and with the option it is told where it does not"),
	ROW("no-imports", 0, FLAG, NULL, no_imports, TRACERS, "leave imports out"),
	ROW("exceptions", 0, FLAG, NULL, exceptions, TRACERS,
	 "record exceptions where they get to Python code, as instants with type and message"),
	ROW("async", 0, FLAG, NULL, async, TRACERS,
	 "give each asyncio task (each coroutine that nothing awaits) a track of its own, with its "
	 "steps, the waits between them, and an arrow from where it was created; and each greenlet "
	 "a track with its calls"),
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
	ROW("clock", 0, CHOICE, "nccl|realtime", clock, APP_MERGE,
	 "what the clocks of several hosts are compared by: their time of day (realtime), or that, "
	 "corrected where calls of NCCL show that it is wrong (nccl, the default)", .choices = clocks),
	ROW("process-name", 0, STRING, "NAME", process_name, WRITERS,
	 "call the processes NAME in the trace instead of what they are called"),
	ROW("lines", 0, FLAG, NULL, lines, TRACERS | APP_REPLAY,
	 "record the line of each call within its caller (CallFrom); of samples, and in replay: "
	 ".folded and .speedscope.json tell the lines of a function apart (.pprof, .pb.gz and "
	 "report always do)"),
	ROW("pid-suffix", 0, FLAG, NULL, pid_suffix, WRITERS,
	 "write one file a process, with _PID before the suffix; so does %p in the name of -o"),
	ROW("file-info", 0, FLAG, NULL, file_info, APP_RECORD,
	 "put the source files of the functions into the trace, as far as the traced process may "
	 "read them; vizviewer shows them"),
	ROW("c-functions", 0, STRING, "none|all|LIST", c_functions, WRITERS | APP_REPORT | APP_CAPTURE,
	 "record calls of C functions: all, or those that match a comma-separated LIST of "
	 "GLOBs such as time.sleep,_socket.*; in it 'waiting' stands for what sleeps in the kernel "
	 "(sleep, poll, sockets, processes, reads and writes), 'blocking' for more that may wait or work "
	 "long; what is not listed costs nothing where -v says 'probed at themselves'; default: waiting "
	 "where that is so, and with a limit on overhead none (replay, report: all)"),
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
	 "when it costs more, C functions are left out, then recording rests between short windows, "
	 "with samples meanwhile if they fit"),
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
	 "at:HH:MM[:SS]; http[:PORT|:ADDRESS:PORT|:unix:/PATH] somebody sends POST /capture there, by default to "
	 "127.0.0.1:9755"),
	ROW("token-file", 0, STRING, "FILE", token_file, APP_CAPTURE,
	 "with --on http: who asks must know the token in FILE; needed where other hosts get to"),
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
	 "/var/cache/pytrace-bpf for root, else ~/.cache/pytrace-bpf"),
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
#define ROW_COUNT (sizeof(app_rows) / sizeof(app_rows[0]))
_Static_assert(ROW_COUNT <= APP_ROWS_MAX, "number of options");

const size_t app_row_count = ROW_COUNT;

const struct app_verb_row app_verbs[] = {
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

const size_t app_verb_count = sizeof(app_verbs) / sizeof(app_verbs[0]);

const struct app_verb_row *app_verb_find(enum app_verb verb)
{
	for (size_t i = 0; i < app_verb_count; i++)
		if (app_verbs[i].verb == verb)
			return &app_verbs[i];
	return &app_verbs[0];
}

bool app_row_takes_argument(const struct app_row *row)
{
	return row->kind != KIND_FLAG && row->kind != KIND_LEVEL;
}

const struct app_row *app_row_find(const char *name)
{
	for (size_t i = 0; i < app_row_count; i++)
		if (!strcmp(app_rows[i].name, name))
			return &app_rows[i];
	return NULL;
}
