// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * The life of a tracer: what the kernel must have, loading, and the end. The rest of attach.h is in
 * configure.c, processes.c, gate.c and records.c.
 */
#include "probe/attach.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "probe/features.h"
#include "probe/gen_skel.h"
#include "probe/parallel.h"
#include "probe/tracer.h"

_Static_assert(PT_AUDIT_NAME_MAX == PT_AUDIT_NAME_BYTES - 1, "longest name");
_Static_assert(PT_AUDIT_COUNT_MAX == PT_AUDIT_NAMES_MAX, "number of names");

__attribute__((format(printf, 2, 0))) static int print_libbpf(enum libbpf_print_level level,
							      const char *format, va_list args)
{
	char *text, *rest, *line;

	if (pt_log_level() < PT_LOG_DEBUG || vasprintf(&text, format, args) < 0)
		return 0;
	/* the verifier's log comes as one message of many lines */
	for (line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest))
		pt_debug("%s", line);
	free(text);
	return 0;
}

/* ---- loading ---- */

int pt_require(enum pt_feature feature, struct pt_err *err)
{
	const struct pt_feature_result *result = pt_feature(feature);

	if (result->available)
		return 0;
	return pt_err_set(err, -ENOTSUP, PT_EXIT_UNSUPPORTED, result->remedy,
			  "this kernel lacks %s (%s): %s", result->name, result->since,
			  result->reason);
}

static int choose_features(struct pt_tracer *tracer, struct pt_err *err)
{
	static const enum pt_feature needed[] = {PT_FEAT_BTF, PT_FEAT_RINGBUF, PT_FEAT_UPROBE,
						 PT_FEAT_TP_BTF, PT_FEAT_TASK_ITER};
	const struct pt_feature_result *privilege = pt_feature(PT_FEAT_PRIVILEGE);
	const struct pt_feature_result *lockdown = pt_feature(PT_FEAT_LOCKDOWN_OFF);
	int rc = 0;

	if (!privilege->available)
		return pt_err_set(err, -EPERM, PT_EXIT_PERMISSION, privilege->remedy,
				  "not permitted to trace: %s", privilege->reason);
	if (!lockdown->available)
		return pt_err_set(err, -EPERM, PT_EXIT_PERMISSION, lockdown->remedy,
				  "not permitted to trace: %s", lockdown->reason);
	for (size_t i = 0; i < sizeof(needed) / sizeof(needed[0]) && !rc; i++)
		rc = pt_require(needed[i], err);
	tracer->task_storage = !tracer->options.no_task_storage &&
			       pt_feature(PT_FEAT_TASK_STORAGE)->available;
	tracer->cookie = !tracer->options.no_cookie && pt_feature(PT_FEAT_ATTACH_COOKIE)->available;
	tracer->multi = !tracer->options.no_uprobe_multi &&
			pt_feature(PT_FEAT_UPROBE_MULTI)->available;
	return rc;
}

static int attach_scheduler(struct pt_tracer *tracer, struct pt_err *err)
{
	struct pytrace_bpf *skel = tracer->skel;

	tracer->fork_link = bpf_program__attach(skel->progs.pt_fork);
	tracer->exec_link = bpf_program__attach(skel->progs.pt_exec);
	tracer->exit_link = bpf_program__attach(skel->progs.pt_exit);
	tracer->exit_again_link = bpf_program__attach(skel->progs.pt_exit_again);
	tracer->peek_link = bpf_program__attach_iter(skel->progs.pt_peek, NULL);
	if (tracer->options.sched) {
		tracer->switch_link = bpf_program__attach(skel->progs.pt_switch);
		tracer->wakeup_link = bpf_program__attach(skel->progs.pt_wakeup);
	}
	if (!tracer->fork_link || !tracer->exec_link || !tracer->exit_link ||
	    !tracer->exit_again_link || !tracer->peek_link ||
	    (tracer->options.sched && (!tracer->switch_link || !tracer->wakeup_link)))
		return pt_probe_error(err, errno ? -errno : -EINVAL,
				      "attach to the scheduler's tracepoints", false);
	return 0;
}

static int fill_audit_names(struct pt_tracer *tracer)
{
	uint32_t value = 1;
	int rc = 0;

	for (const char *const *name = tracer->options.audit; name && *name && !rc; name++) {
		struct pt_audit_key key = {0};
		size_t len = strlen(*name), bytes = len + 1;

		if (len && (*name)[len - 1] == '*')
			bytes = --len;
		if (bytes > sizeof(key.name))
			return -ENAMETOOLONG;
		memcpy(key.name, *name, len);
		key.bits = (uint32_t)(8 * bytes);
		rc = bpf_map_update_elem(bpf_map__fd(tracer->skel->maps.audit_names), &key, &value,
					 BPF_ANY);
	}
	return rc;
}

static int load(struct pt_tracer *tracer, struct pt_err *err)
{
	int rc;

	tracer->skel = pytrace_bpf__open();
	if (!tracer->skel)
		return pt_probe_error(err, -errno, "open the BPF programs", false);
	pt_tracer_configure(tracer);
	rc = pytrace_bpf__load(tracer->skel);
	/* the verifier says EACCES and EINVAL, too; missing privileges were ruled out before */
	if (rc == -EACCES || rc == -EINVAL)
		return pt_err_set(err, rc, PT_EXIT_UNSUPPORTED,
				  "Run with -vv for the verifier's reasons, and please report them "
				  "with the kernel's version.",
				  "this kernel refuses the BPF programs: %s", strerror(-rc));
	if (rc)
		return pt_probe_error(err, rc, "load the BPF programs", false);
	rc = pt_ids_refill(tracer, 0, 0);
	if (!rc)
		rc = fill_audit_names(tracer);
	for (uint32_t i = 0; !rc && tracer->skel->rodata->use_tickets && i < tracer->options.count;
	     i++)
		rc = pt_ids_push(tracer->skel->maps.tickets, i);
	if (rc)
		return pt_probe_error(err, rc, "fill the BPF maps", false);
	tracer->ring = ring_buffer__new(bpf_map__fd(tracer->skel->maps.ring), pt_records_take,
					tracer, NULL);
	if (!tracer->ring)
		return pt_probe_error(err, -errno, "map the ring buffer", false);
	rc = attach_scheduler(tracer, err);
	return rc || !tracer->options.sample_hz ? rc : pt_sample_attach(tracer, err);
}

/* Cookies and task storage are there and not switched off. */
static bool newer_kernel(const struct pt_tracer_options *options, struct pt_err *err)
{
	static const enum pt_feature needed[] = {PT_FEAT_TASK_STORAGE, PT_FEAT_ATTACH_COOKIE};

	for (size_t i = 0; i < sizeof(needed) / sizeof(needed[0]); i++)
		if (pt_require(needed[i], err))
			return false;
	if (options->no_cookie || options->no_task_storage) {
		pt_err_set(err, -ENOTSUP, PT_EXIT_UNSUPPORTED, NULL,
			   "attach cookies or task storage are switched off");
		return false;
	}
	return true;
}

bool pt_tracer_sched_supported(struct pt_err *err)
{
	return !pt_require(PT_FEAT_SCHED, err);
}

bool pt_tracer_c_functions_supported(const struct pt_tracer_options *options, struct pt_err *err)
{
	return newer_kernel(options, err);
}

bool pt_tracer_mark_stacks_supported(const struct pt_tracer_options *options, struct pt_err *err)
{
	return newer_kernel(options, err);
}

bool pt_tracer_cuda_supported(const struct pt_tracer_options *options, struct pt_err *err)
{
	if (!newer_kernel(options, err) || pt_require(PT_FEAT_UPROBE_MULTI, err))
		return false;
	if (options->no_uprobe_multi)
		pt_err_set(err, -ENOTSUP, PT_EXIT_UNSUPPORTED, NULL,
			   "uprobe.multi is switched off");
	return !options->no_uprobe_multi;
}

int pt_tracer_new(const struct pt_tracer_options *options, struct pt_tracer **out,
		  struct pt_err *err)
{
	struct pt_tracer *tracer = calloc(1, sizeof(*tracer));
	int rc;

	*out = NULL;
	if (!tracer)
		return pt_err_set(err, -ENOMEM, PT_EXIT_FAILED, NULL, "out of memory");
	tracer->options = *options;
	tracer->next_image_id = 1;
	tracer->next_code_id = 1;
	tracer->stats_fd = -1;
	libbpf_set_print(print_libbpf);
	rc = choose_features(tracer, err);
	pt_features_release();
	if (!rc)
		rc = load(tracer, err);
	if (rc) {
		pt_tracer_free(tracer);
		return rc;
	}
	*out = tracer;
	return 0;
}

static void release_set(size_t i, void *ctx)
{
	struct pt_tracer *tracer = ctx;

	if (i < tracer->image_count) {
		pt_links_release(&tracer->images[i].links);
		pt_links_release(&tracer->images[i].kept);
	} else if (i - tracer->image_count < tracer->process_count) {
		pt_links_release(&tracer->processes[i - tracer->image_count].links);
		pt_links_release(&tracer->processes[i - tracer->image_count].kept);
	} else if (i - tracer->image_count - tracer->process_count < tracer->cuda_count) {
		pt_links_release(&tracer->cuda[i - tracer->image_count - tracer->process_count]);
	} else {
		pt_links_release(&tracer
				      ->methods[i - tracer->image_count - tracer->process_count -
						tracer->cuda_count]
				      .links);
	}
}

void pt_links_release_all(struct pt_tracer *tracer)
{
	pt_parallel(tracer->image_count + tracer->process_count + tracer->cuda_count +
			tracer->methods_count,
		    release_set, tracer);
	pt_links_release(&tracer->marks);
	pt_links_release(&tracer->samples);
}

void pt_tracer_free(struct pt_tracer *tracer)
{
	if (!tracer)
		return;
	if (tracer->skel && tracer->skel->bss)
		tracer->skel->bss->control.gate = PT_GATE_CLOSED;
	pt_links_release_all(tracer);
	pt_tracer_count_cost(tracer, false);
	for (size_t i = 0; i < tracer->image_count; i++)
		if (tracer->images[i].fd >= 0)
			close(tracer->images[i].fd);
	for (size_t i = 0; i < tracer->methods_count; i++)
		pt_methods_close(&tracer->methods[i]);
	bpf_link__destroy(tracer->fork_link);
	bpf_link__destroy(tracer->exec_link);
	bpf_link__destroy(tracer->exit_link);
	bpf_link__destroy(tracer->exit_again_link);
	bpf_link__destroy(tracer->switch_link);
	bpf_link__destroy(tracer->wakeup_link);
	bpf_link__destroy(tracer->peek_link);
	ring_buffer__free(tracer->ring);
	pytrace_bpf__destroy(tracer->skel);
	free(tracer->processes);
	free(tracer->cuda);
	free(tracer->methods);
	free(tracer->clocks);
	free(tracer);
}

/* ---- what it came to ---- */

/* How often the kernel did not run it, because it was interrupted while it ran for another task. */
static uint64_t not_run(const struct bpf_program *program)
{
	struct bpf_prog_info info = {0};
	uint32_t size = sizeof(info);

	if (bpf_prog_get_info_by_fd(bpf_program__fd(program), &info, &size))
		return 0;
	return info.recursion_misses;
}

uint64_t pt_tracer_forks_missed(const struct pt_tracer *tracer)
{
	return not_run(tracer->skel->progs.pt_fork) + not_run(tracer->skel->progs.pt_exec);
}

void pt_tracer_stats(const struct pt_tracer *tracer, struct pt_tracer_stats *stats)
{
	const struct pt_counters *counters = &tracer->skel->bss->counters;

	memset(stats, 0, sizeof(*stats));
	stats->events = counters->events;
	if (tracer->total_at_peek > stats->events)
		stats->events = tracer->total_at_peek;
	stats->lost_events = counters->lost_events;
	stats->lost_records = counters->lost_records;
	stats->resyncs = counters->resyncs;
	stats->batches = counters->batches;
	stats->missed = counters->missed;
	stats->c_too_deep = counters->c_too_deep;
	stats->sched_full = counters->sched_full;
	stats->off_cpu_full = counters->off_cpu_full;
	stats->cuda_missed = counters->cuda_missed;
	stats->torch_missed = counters->torch_missed;
	stats->stacks_missed = counters->stacks_missed;
	stats->stopped = tracer->stopped || tracer->skel->bss->control.gate == PT_GATE_REACHED;
	stats->triggered = counters->stop_on ||
			   (tracer->options.count && counters->windows >= tracer->options.count);
	for (size_t i = 0; i < tracer->image_count; i++)
		stats->links += tracer->images[i].links.count;
	for (size_t i = 0; i < tracer->process_count; i++)
		stats->links += tracer->processes[i].links.count;
	for (size_t i = 0; i < tracer->cuda_count; i++)
		stats->links += tracer->cuda[i].count;
	for (size_t i = 0; i < tracer->methods_count; i++)
		stats->links += tracer->methods[i].links.count;
	stats->links += tracer->marks.count + tracer->samples.count;
}

const char *pt_tracer_link_kind(const struct pt_tracer *tracer)
{
	if (tracer->options.sample_hz && !tracer->options.hybrid && !tracer->options.sample_rests)
		return "a clock of each CPU";
	for (size_t i = 0; i < tracer->image_count; i++)
		if (pt_links_multi(tracer, tracer->images[i].reach == PT_REACH_PROCESS))
			return "uprobe.multi";
	return "perf uprobes";
}
