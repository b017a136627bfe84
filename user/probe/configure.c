// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * What is set in the BPF object before it is loaded: switches, sizes, and which programs and maps
 * there are.
 */
#include <unistd.h>

#include "probe/features.h"
#include "probe/gen_skel.h"
#include "probe/tracer.h"

#define RING_BYTES_DEFAULT (32u << 20)
#define RING_BYTES_MAX     (1u << 30)
/* With a least duration batches may fill slowly. */
#define BATCH_NS_MAX       500000000ull

static size_t ring_size(size_t wanted)
{
	size_t size = (size_t)sysconf(_SC_PAGESIZE);

	if (wanted == 0)
		wanted = RING_BYTES_DEFAULT;
	while (size < wanted && size < RING_BYTES_MAX)
		size *= 2;
	return size;
}

static void configure_triggers(struct pt_tracer *tracer)
{
	const struct pt_tracer_options *options = &tracer->options;
	struct pytrace_bpf *skel = tracer->skel;

	skel->rodata->use_triggers = options->start_on || options->stop_on;
	skel->rodata->use_windows = options->start_on != NULL;
	skel->rodata->use_tickets = options->start_on && options->count;
	if (options->start_on)
		pt_glob_parse(options->start_on, &skel->rodata->globs[PT_GLOB_START]);
	if (options->stop_on)
		pt_glob_parse(options->stop_on, &skel->rodata->globs[PT_GLOB_STOP]);
	bpf_map__set_autocreate(skel->maps.tickets, skel->rodata->use_tickets);
	if (skel->rodata->use_tickets)
		bpf_map__set_max_entries(skel->maps.tickets, (uint32_t)options->count);
}

static void configure_switches(struct pt_tracer *tracer, size_t ring_bytes)
{
	const struct pt_tracer_options *options = &tracer->options;
	struct pytrace_bpf *skel = tracer->skel;
	uint64_t max_events = options->max_events;

	skel->rodata->use_task_storage = tracer->task_storage;
	skel->rodata->use_cookie = tracer->cookie;
	skel->rodata->trace_all = options->trace_all;
	skel->rodata->want_runtime = options->runtime;
	skel->rodata->want_imports = options->imports;
	skel->rodata->want_exceptions = options->exceptions;
	skel->rodata->want_sched = options->sched;
	skel->rodata->use_task_regs = pt_feature(PT_FEAT_TASK_REGS)->available;
	skel->rodata->want_async = options->async;
	skel->rodata->want_audit = options->audit != NULL;
	skel->rodata->send_lines = options->lines;
	skel->rodata->send_tables = options->lines || options->exceptions || options->stacks;
	skel->rodata->max_depth = options->max_depth ? options->max_depth : UINT32_MAX;
	skel->rodata->max_events = max_events;
	skel->rodata->wake_bytes = ring_bytes / 8;
	if (max_events && max_events / 8 < skel->rodata->batch_limit)
		skel->rodata->batch_limit = max_events < 16 * 8 ? 16 : (uint32_t)(max_events / 8);
	skel->rodata->min_duration_ns = options->min_duration_ns;
	if (options->min_duration_ns)
		skel->rodata->batch_ns_max = BATCH_NS_MAX;
}

static void configure_calls(struct pt_tracer *tracer, size_t ring_bytes)
{
	const struct pt_tracer_options *options = &tracer->options;
	struct pytrace_bpf *skel = tracer->skel;
	/* then no site is a perf event */
	bool always_multi = pt_links_multi(tracer, true);
	bool c_sites = options->c_functions && !options->methods_only;

	bpf_map__set_max_entries(skel->maps.ring, (uint32_t)ring_bytes);
	bpf_map__set_autocreate(skel->maps.threads, tracer->task_storage);
	bpf_map__set_autocreate(skel->maps.threads_by_tid, !tracer->task_storage);
	bpf_map__set_autocreate(skel->maps.audit_names, options->audit != NULL);
	bpf_map__set_autocreate(skel->maps.task_names, options->async);
	bpf_map__set_autocreate(skel->maps.throws, options->async);
	bpf_map__set_autocreate(skel->maps.thread_template, !tracer->task_storage);
	bpf_map__set_autocreate(skel->maps.sched, options->sched);
	bpf_program__set_autoload(skel->progs.pt_switch, options->sched);
	bpf_program__set_autoload(skel->progs.pt_wakeup, options->sched);
	bpf_program__set_autoload(skel->progs.pt_site, !always_multi);
	bpf_program__set_autoload(skel->progs.pt_site_multi, tracer->multi);
	bpf_map__set_autocreate(skel->maps.c_threads, options->c_functions);
	bpf_map__set_autocreate(skel->maps.cfuncs, options->c_functions);
	bpf_program__set_autoload(skel->progs.pt_c_site, c_sites && !always_multi);
	bpf_program__set_autoload(skel->progs.pt_c_site_multi, c_sites && tracer->multi);
}

static void configure_marks(struct pt_tracer *tracer)
{
	const struct pt_tracer_options *options = &tracer->options;
	struct pytrace_bpf *skel = tracer->skel;

	bpf_map__set_autocreate(skel->maps.marks, options->marks);
	bpf_map__set_autocreate(skel->maps.mark_levels, options->marks);
	bpf_program__set_autoload(skel->progs.pt_mark, options->marks);
	bpf_program__set_autoload(skel->progs.pt_mark_end, options->marks);
}

void pt_tracer_configure(struct pt_tracer *tracer)
{
	struct pytrace_bpf *skel = tracer->skel;
	size_t ring_bytes = ring_size(tracer->options.ring_bytes);

	configure_switches(tracer, ring_bytes);
	configure_triggers(tracer);
	pt_values_configure(tracer);
	configure_calls(tracer, ring_bytes);
	pt_cuda_configure(tracer, ring_bytes);
	pt_methods_configure(tracer);
	pt_sample_configure(tracer);
	configure_marks(tracer);
	bpf_program__set_autoload(skel->progs.pt_empty_multi,
				  tracer->multi && tracer->options.bench_empty);
	bpf_program__set_autoload(skel->progs.pt_empty, tracer->options.bench_empty);
}
