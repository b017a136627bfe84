/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * options.h - the command line, the environment and the configuration file.
 *
 * One row of the table in options.c is one option: it yields the flag, the configuration key (the
 * flag's name), the environment variable (PYTRACE_BPF_NAME) and the help text. The command line
 * wins over the environment, the environment over the file named by --config.
 *
 * Life cycle: app_options_parse() -> use, const -> app_options_release().
 */
#ifndef PT_APP_OPTIONS_H
#define PT_APP_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#include "base/err.h"

enum app_verb {
	APP_RECORD = 1,
	APP_CHECK = 2,
	APP_LIST = 4,
	APP_REPLAY = 8,
	APP_REPORT = 16,
	APP_CTL = 32,
	APP_KERNELS = 64,
	APP_CAPTURE = 128,
	APP_MERGE = 256,
	APP_AGENT = 512,
};

struct app_list { /* NULL-terminated */
	char **items;
	size_t count;
};

/* What the clocks of hosts are compared by (merge). */
enum app_clock {
	APP_CLOCK_NCCL, /* CLOCK_REALTIME, corrected where calls of NCCL show that it is wrong */
	APP_CLOCK_REALTIME,
};

struct app_options {
	enum app_verb verb;
	char *const *command; /* what stands behind "--", or NULL; argv's own */
	const char *file;     /* of replay, report and kernels; argv's own */
	char *const *words;   /* of ctl: the command, of merge: the files; argv's own */
	size_t word_count;

	pid_t *pids;
	size_t pid_count;
	bool all;
	char *output, *config, *cache_dir, *control, *socket, *start_on, *stop_on;
	char *process_name, *c_functions, *memory_history;
	uint64_t duration_ns, min_duration_ns;
	uint64_t max_overhead_ppm, max_cpu_ppm; /* 0: not given */
	uint64_t max_memory_bytes;
	uint64_t buffer_bytes, max_file_bytes;
	uint64_t tracer_entries, max_stack_depth, max_events, count, gzip_level, top;
	uint64_t frequency;       /* of --engine sample; UINT64_MAX: not given */
	bool native;              /* frames of samples */
	bool off_cpu;             /* beside the samples */
	uint64_t min_block_ns;    /* of --off-cpu; UINT64_MAX: not given */
	struct app_list triggers; /* pt_trigger_parse() took them */
	char *token_file;
	uint64_t last_ns, after_ns, cool_down_ns;
	uint64_t window_bytes, max_captures, max_disk_bytes;
	int format; /* of captures: 0 a folder, 1 tar.gz */
	bool command_line;
	int verbose; /* how often -v was given */
	int engine;  /* enum pt_engine_wish */
	int dialect; /* enum pt_dialect */
	int clock;   /* enum app_clock */
	int follow;  /* enum pt_follow */
	bool torch, torch_memory;
	int stacks;    /* PT_CUDA_WANT_STACK*; 0: none */
	int cuda_libs; /* PT_CUDA_WANT_CUBLAS, _CUDNN */
	int cuda;      /* 1 + enum pt_cuda_mode; 0: not given */
	bool no_follow, ignore_frozen, file_info, pid_suffix, lines, flush_unfinished;
	bool gc, no_gc, gil, imports, no_imports, exceptions, sched, async, ignore_c;
	bool nvtx, memory, gpu_bounds, check_config;
	struct app_list audit;               /* event names, split at commas */
	struct app_list args, retval, local; /* globs, split at commas */
	struct app_list probes;              /* pt_mark_spec_parse() took them */
	struct app_list include_files, exclude_files;
	bool c_wanted;           /* any C functions at all */
	bool c_asked;            /* .. which the user asked for */
	struct app_list c_globs; /* empty: all */
	struct app_list c_named; /* of these, what was not the name of a set */
	bool no_call_ids, no_cache, dry_run, json, quiet, log_json, help, version;
	bool no_uprobe_multi, no_cookie, no_task_storage;
};

/* -EINVAL and err (exit code 2) for what cannot be understood. options may be released after any
 * return. */
int app_options_parse(int argc, char **argv, struct app_options *options, struct pt_err *err);
void app_options_release(struct app_options *options);
/* The sets that struct pt_images_options wants. */
void app_options_features(const struct app_options *options, unsigned int *features,
			  unsigned int *asked);
/* The first of the options given that needs an exact engine; NULL: none. */
const char *app_options_exact(const struct app_options *options);
void app_options_help(enum app_verb verb, FILE *out);

#endif
