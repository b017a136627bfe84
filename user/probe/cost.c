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

uint64_t pt_tracer_cost_ns(const struct pt_tracer *tracer, double trap_ns)
{
	struct bpf_program *program;
	uint64_t ns = 0;

	bpf_object__for_each_program (program, tracer->skel->obj) {
		struct bpf_prog_info info = {0};
		__u32 size = sizeof(info);
		int fd = bpf_program__fd(program);

		if (fd < 0 || bpf_prog_get_info_by_fd(fd, &info, &size))
			continue;
		ns += info.run_time_ns + info.run_cnt * COUNTING_NS;
		if (bpf_program__type(program) == BPF_PROG_TYPE_KPROBE)
			ns += (uint64_t)((double)info.run_cnt * trap_ns);
	}
	return ns;
}
