// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * cost.c - what the programs have cost whoever ran them, as the kernel counts it.
 *
 * Counting (BPF_ENABLE_STATS, 5.8) takes the clock twice a run itself; the kernel counts
 * for all programs of the host as long as somebody wants it.
 */
#include <bpf/bpf.h>
#include <errno.h>
#include <unistd.h>

#include "probe/gen_skel.h"
#include "probe/tracer.h"

/* What counting adds to an event of CPython 3.12: 86 ns with an empty program, 68 ns with ours; by
 * kernel.bpf_stats_enabled on and off, six rounds of bench/event_cost, 6.18 in a VM. */
#define COUNTING_NS 80
/* Hits are counted over at least so long to know how often they come. */
#define RATE_NS     1000000ull

int pt_tracer_count_cost(struct pt_tracer *tracer, bool on)
{
	if (on && tracer->stats_fd < 0)
		tracer->stats_fd = bpf_enable_stats(BPF_STATS_RUN_TIME);
	if (on)
		return tracer->stats_fd < 0 ? -errno : 0;
	if (tracer->stats_fd >= 0)
		close(tracer->stats_fd);
	tracer->stats_fd = -1;
	return 0;
}

struct totals {
	uint64_t ns, runs;
	uint64_t hits; /* of probes: runs that a trap came before */
};

static void read_totals(const struct pt_tracer *tracer, struct totals *totals)
{
	struct bpf_program *program;

	*totals = (struct totals){0};
	bpf_object__for_each_program (program, tracer->skel->obj) {
		struct bpf_prog_info info = {0};
		__u32 size = sizeof(info);
		int fd = bpf_program__fd(program);

		if (fd < 0 || bpf_prog_get_info_by_fd(fd, &info, &size))
			continue;
		totals->ns += info.run_time_ns;
		totals->runs += info.run_cnt;
		if (bpf_program__type(program) == BPF_PROG_TYPE_KPROBE)
			totals->hits += info.run_cnt;
	}
}

uint64_t pt_tracer_cost_ns(struct pt_tracer *tracer, double trap_ns)
{
	uint64_t now_ns = pt_now_ns();
	struct totals totals;

	read_totals(tracer, &totals);
	if (now_ns - tracer->hits_ns >= RATE_NS) {
		tracer->hit_rate = (double)(totals.hits - tracer->hits) /
				   (double)(now_ns - tracer->hits_ns);
		tracer->hits = totals.hits;
		tracer->hits_ns = now_ns;
	}
	return totals.ns + totals.runs * COUNTING_NS +
	       (uint64_t)(((double)totals.hits + tracer->unseen_hits) * trap_ns);
}

void pt_cost_removed(struct pt_tracer *tracer, uint64_t begin_ns)
{
	if (tracer->stats_fd >= 0 && !pt_links_multi(tracer, true))
		tracer->unseen_hits += tracer->hit_rate * (double)(pt_now_ns() - begin_ns) / 2;
}
