// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * The gate, which BPF records through, and what still rests in BPF's maps: it is copied out while
 * recording and at the end.
 */
#include <bpf/bpf.h>
#include <errno.h>
#include <linux/membarrier.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/clock.h"
#include "probe/gen_skel.h"
#include "probe/tracer.h"

/* While recording, only batches that rest for so long are copied; see bpf/peek.h. */
#define PEEK_MIN_AGE_NS    1000000ull
/* No program at a probe takes so long from reading the clock to putting the event down. */
#define COMPLETE_MARGIN_NS 1000000000ull

int pt_tracer_open_gate(struct pt_tracer *tracer, uint64_t *time_ns)
{
	struct pt_control *control = &tracer->skel->bss->control;

	if (control->gate != PT_GATE_NOT_YET)
		return -EALREADY;
	*time_ns = pt_now_ns();
	control->gate_open_ns = *time_ns;
	__atomic_store_n(&control->gate, PT_GATE_OPEN, __ATOMIC_RELEASE);
	return 0;
}

static int switch_gate(struct pt_tracer *tracer, uint32_t from, uint32_t to)
{
	/* BPF shuts the gate by itself when max_events is reached */
	return __atomic_compare_exchange_n(&tracer->skel->bss->control.gate, &from, to, false,
					   __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)
		   ? 0
		   : -EALREADY;
}

int pt_tracer_pause(struct pt_tracer *tracer, uint64_t *time_ns)
{
	struct pt_control *control = &tracer->skel->bss->control;

	if (control->gate != PT_GATE_OPEN)
		return -EALREADY;
	*time_ns = pt_now_ns();
	control->pause_ns = *time_ns;
	return switch_gate(tracer, PT_GATE_OPEN, PT_GATE_PAUSED);
}

int pt_tracer_resume(struct pt_tracer *tracer, uint64_t *time_ns)
{
	struct pt_control *control = &tracer->skel->bss->control;

	if (control->gate != PT_GATE_PAUSED)
		return -EALREADY;
	*time_ns = pt_now_ns();
	control->resume_ns = *time_ns;
	return switch_gate(tracer, PT_GATE_PAUSED, PT_GATE_OPEN);
}

/* Runs the iterator over all tasks. */
int pt_gate_peek(struct pt_tracer *tracer, uint64_t older_ns)
{
	struct pt_control *control = &tracer->skel->bss->control;
	struct pt_counters *counters = &tracer->skel->bss->counters;
	char nothing[256];
	ssize_t n;
	int fd;

	control->peek_older_ns = older_ns;
	counters->peek_pending = 0;
	counters->peek_failed = 0;
	counters->peek_left_ns = 0;
	fd = bpf_iter_create(bpf_link__fd(tracer->peek_link));
	if (fd < 0)
		return -errno;
	do {
		n = read(fd, nothing, sizeof(nothing));
	} while (n > 0 || (n < 0 && (errno == EINTR || errno == EAGAIN)));
	n = n < 0 ? -errno : 0;
	close(fd);
	tracer->total_at_peek = counters->events + counters->peek_pending;
	return (int)n;
}

uint64_t pt_tracer_shut_gate(struct pt_tracer *tracer)
{
	struct pt_control *control = &tracer->skel->bss->control;

	tracer->stopped = control->gate == PT_GATE_REACHED;
	__atomic_store_n(&control->gate, PT_GATE_CLOSED, __ATOMIC_RELEASE);
	return pt_now_ns();
}

/* Programs that do not sleep run within one section of RCU, of which this waits for the end
 * (synchronize_rcu(); kernel/sched/membarrier.c). False: this kernel does not (nohz_full). */
static bool wait_for_programs(void)
{
	return !syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0);
}

int pt_tracer_close_gate(struct pt_tracer *tracer, bool keep_links)
{
	uint64_t begin_ns = pt_now_ns();

	if (!keep_links || !wait_for_programs()) {
		/* After this no program runs at a site any more: the kernel waits, too. */
		pt_links_release_all(tracer);
		pt_cost_removed(tracer, begin_ns);
	}
	tracer->closing = true;
	return pt_gate_peek(tracer, UINT64_MAX);
}

static void sched_fill(const struct pt_sched *s, uint32_t tid, uint64_t time_ns,
		       struct pt_rec_sched *rec)
{
	*rec = (struct pt_rec_sched){
	    .hdr = {.kind = PT_REC_SCHED,
		    .flags = PT_SCHED_OPEN,
		    .len = sizeof(*rec),
		    .tgid = s->tgid,
		    .tid = tid,
		    .image_id = s->image_id,
		    .time_ns = time_ns},
	    .run_ns = s->begin_ns > s->run_ns ? s->begin_ns : s->run_ns,
	    .seq = s->seq,
	    .cpu = s->cpu,
	};
	if (s->where == PT_SCHED_RUNNING)
		return;
	rec->out_ns = s->out_ns;
	rec->wake_ns = s->where == PT_SCHED_RUNNABLE ? s->wake_ns : 0;
	rec->state = s->state;
	rec->syscall = s->syscall;
	rec->flags = s->flags;
}

int pt_tracer_sched_rest(struct pt_tracer *tracer, uint64_t time_ns, pt_record_fn fn, void *ctx)
{
	int fd = tracer->options.sched ? bpf_map__fd(tracer->skel->maps.sched) : -1, rc = 0;
	uint32_t tid, *before = NULL;

	while (fd >= 0 && !rc && !bpf_map_get_next_key(fd, before, &tid)) {
		struct pt_rec_sched rec;
		struct pt_sched s;

		before = &tid;
		if (bpf_map_lookup_elem(fd, &tid, &s) || !s.active)
			continue;
		sched_fill(&s, tid, time_ns, &rec);
		/* what began in the moment in which the gate was closed */
		if (rec.run_ns < time_ns && rec.out_ns <= time_ns && rec.wake_ns <= time_ns)
			rc = fn(&rec.hdr, sizeof(rec), ctx);
	}
	return rc;
}

int pt_tracer_flush_stale(struct pt_tracer *tracer, uint64_t older_than_ns)
{
	uint64_t now = pt_now_ns();

	if (older_than_ns < PEEK_MIN_AGE_NS)
		older_than_ns = PEEK_MIN_AGE_NS;
	if (older_than_ns < tracer->options.min_duration_ns)
		older_than_ns = tracer->options.min_duration_ns; /* bpf/brief.h */
	if (tracer->closing)
		return 0;
	return pt_gate_peek(tracer, now > older_than_ns ? now - older_than_ns : 0);
}

int pt_tracer_flush_complete(struct pt_tracer *tracer, uint64_t *until_ns)
{
	const struct pt_counters *counters = &tracer->skel->bss->counters;
	uint64_t now = pt_now_ns(), left_ns;
	int rc = pt_tracer_flush_stale(tracer, 0);

	*until_ns = 0;
	if (rc || tracer->closing || counters->peek_failed)
		return rc;
	*until_ns = now > COMPLETE_MARGIN_NS ? now - COMPLETE_MARGIN_NS : 0;
	left_ns = counters->peek_left_ns;
	if (left_ns && left_ns < *until_ns)
		*until_ns = left_ns;
	return 0;
}
