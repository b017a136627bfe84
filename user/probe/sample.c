// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * What --off-cpu takes, and the clock of --engine sample and hybrid: one perf event a CPU, of the
 * kernel's own timers (PERF_COUNT_SW_CPU_CLOCK), so it needs no counters of the processor and is
 * there in any virtual machine. Whose samples they are is decided in BPF (bpf/sample.h).
 */
#include <bpf/bpf.h>
#include <errno.h>
#include <linux/perf_event.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "probe/gen_skel.h"
#include "probe/tracer.h"

#define NS_PER_S 1000000000ull

static bool keeps_stacks(const struct pt_tracer *tracer)
{
	return tracer->options.off_cpu && tracer->options.sample_native;
}

void pt_sample_configure(struct pt_tracer *tracer)
{
	struct pytrace_bpf *skel = tracer->skel;
	unsigned int hz = tracer->options.sample_hz;

	skel->rodata->sample_period_ns = hz ? NS_PER_S / hz : 0;
	bpf_map__set_autocreate(skel->maps.sample_states, hz);
	bpf_map__set_autocreate(skel->maps.sample_images, hz);
	bpf_map__set_autocreate(skel->maps.sample_threads, hz);
	bpf_map__set_autocreate(skel->maps.sample_codes, hz);
	bpf_program__set_autoload(skel->progs.pt_sample, hz);
	skel->rodata->frames_sampled = tracer->options.hybrid;
	skel->rodata->sample_rests = tracer->options.sample_rests;
	skel->rodata->samples_aside = tracer->options.hybrid || tracer->options.sample_rests;
	skel->rodata->want_native = tracer->options.sample_native;
	if (tracer->options.sample_native)
		skel->rodata->stacks_bytes = PT_RAW_STACK_BYTES_MAX;
	bpf_map__set_autocreate(skel->maps.native_stacks, tracer->options.sample_native);
	skel->rodata->want_off_cpu = tracer->options.off_cpu;
	skel->rodata->off_cpu_min_ns = tracer->options.off_cpu_min_ns;
	bpf_map__set_autocreate(skel->maps.off_cpu, tracer->options.off_cpu);
	bpf_map__set_autocreate(skel->maps.off_cpu_states, tracer->options.off_cpu);
	bpf_map__set_autocreate(skel->maps.off_cpu_stacks, keeps_stacks(tracer));
	bpf_map__set_autocreate(skel->maps.off_cpu_free, keeps_stacks(tracer));
	bpf_program__set_autoload(skel->progs.pt_off_cpu, tracer->options.off_cpu);
}

int pt_sample_set_image(struct pt_tracer *tracer, int image_index)
{
	const struct py_image *image = tracer->images[image_index].image;
	const struct py_sample_layout *from = &image->sample;
	const struct pt_sample_image to = {
	    .interp_head = from->interp_head,
	    .code_type = from->code_type,
	    .interp_next = from->interp_next,
	    .interp_threads = from->interp_threads,
	    .ts_next = from->ts_next,
	    .ts_interp = from->ts_interp,
	    .ts_thread_id = from->ts_thread_id,
	    .ts_datastack = from->ts_datastack,
	    .interp_jit = !image->jit.built                          ? PT_SAMPLE_JIT_NONE
			  : image->jit.interp_jit == PY_JIT_NO_FIELD ? PT_SAMPLE_JIT_UNKNOWN
								     : image->jit.interp_jit,
	};

	return bpf_map_update_elem(bpf_map__fd(tracer->skel->maps.sample_images), &image_index, &to,
				   BPF_ANY);
}

int pt_tracer_sample(struct pt_tracer *tracer, bool on)
{
	int rc = 0;

	for (size_t i = 0; i < tracer->clock_count; i++)
		if (ioctl(tracer->clocks[i], on ? PERF_EVENT_IOC_ENABLE : PERF_EVENT_IOC_DISABLE,
			  0))
			rc = -errno;
	return rc;
}

/* The clock of one CPU; NULL and errno. */
static struct bpf_link *attach_cpu(struct pt_tracer *tracer, int cpu)
{
	struct perf_event_attr attr = {
	    .type = PERF_TYPE_SOFTWARE,
	    .size = sizeof(attr),
	    .config = PERF_COUNT_SW_CPU_CLOCK,
	    .sample_period = NS_PER_S / tracer->options.sample_hz,
	};
	struct bpf_link *link;
	int fd = (int)syscall(SYS_perf_event_open, &attr, -1, cpu, -1, PERF_FLAG_FD_CLOEXEC);

	if (fd < 0)
		return NULL;
	link = bpf_program__attach_perf_event(tracer->skel->progs.pt_sample, fd);
	if (!link) {
		int error = errno;

		close(fd);
		errno = error;
		return NULL;
	}
	tracer->clocks[tracer->clock_count++] = fd;
	return link;
}

int pt_sample_attach(struct pt_tracer *tracer, struct pt_err *err)
{
	int cpus = libbpf_num_possible_cpus();
	struct link_set *set = &tracer->samples;

	/* and one link for --off-cpu */
	set->links = cpus > 0 ? calloc((size_t)cpus + 1, sizeof(*set->links)) : NULL;
	tracer->clocks = cpus > 0 ? calloc((size_t)cpus, sizeof(*tracer->clocks)) : NULL;
	if (!set->links || !tracer->clocks)
		return pt_err_set(err, -ENOMEM, PT_EXIT_FAILED, NULL, "out of memory");
	for (uint32_t i = 0; keeps_stacks(tracer) && i < PT_OFF_CPU_STACKS; i++)
		if (bpf_map_update_elem(bpf_map__fd(tracer->skel->maps.off_cpu_free), NULL, &i,
					BPF_ANY))
			return pt_probe_error(err, -errno, "fill the BPF maps", false);
	if (tracer->options.off_cpu) {
		set->links[0] = bpf_program__attach(tracer->skel->progs.pt_off_cpu);
		if (!set->links[0])
			return pt_probe_error(err, -errno, "attach to sched_switch", false);
		set->count = 1;
	}
	for (int cpu = 0; cpu < cpus; cpu++) {
		struct bpf_link *link = attach_cpu(tracer, cpu);

		if (link)
			set->links[set->count++] = link;
		else if (errno != ENODEV) /* it is not there, or switched off */
			return pt_probe_error(err, -errno, "start the clocks of the CPUs", false);
	}
	/* attaching has started them */
	if (tracer->options.sample_rests && pt_tracer_sample(tracer, false))
		return pt_probe_error(err, -errno, "stop the clocks of the CPUs", false);
	return 0;
}

/* The stack of a thread that is still blocked. */
static int rest_stack(struct pt_tracer *tracer, const struct pt_off_cpu *head,
		      struct pt_raw_stack *raw, pt_record_fn fn, void *ctx)
{
	uint32_t number = head->slot - 1;
	size_t len;

	if (!head->slot ||
	    bpf_map_lookup_elem(bpf_map__fd(tracer->skel->maps.off_cpu_stacks), &number, raw) ||
	    raw->stack_bytes > PT_RAW_STACK_BYTES_MAX)
		return 0;
	len = (sizeof(*raw) + raw->stack_bytes + 7) & ~(size_t)7;
	raw->serial = head->rec.stack;
	raw->hdr.len = (uint32_t)len;
	return fn(&raw->hdr, len, ctx);
}

static int rest(struct pt_tracer *tracer, uint64_t time_ns, struct pt_off_cpu *head,
		struct pt_raw_stack *raw, pt_record_fn fn, void *ctx)
{
	struct pt_rec_blocked *rec = &head->rec;
	size_t len;
	int rc;

	if (rec->frame_count > PT_SAMPLE_FRAMES_MAX ||
	    rec->out_ns <= tracer->skel->bss->control.pause_ns || rec->out_ns >= time_ns ||
	    time_ns - rec->out_ns < tracer->options.off_cpu_min_ns)
		return 0;
	len = sizeof(*rec) + sizeof(rec->frames[0]) * (size_t)rec->frame_count;
	rec->hdr.len = (uint32_t)len;
	rec->hdr.time_ns = time_ns;
	rc = rest_stack(tracer, head, raw, fn, ctx);
	return rc ? rc : fn(&rec->hdr, len, ctx);
}

/* What was in the map when the gate was closed; nothing changes it then. */
int pt_tracer_off_cpu_rest(struct pt_tracer *tracer, uint64_t time_ns, pt_record_fn fn, void *ctx)
{
	int fd = tracer->options.off_cpu ? bpf_map__fd(tracer->skel->maps.off_cpu) : -1, rc = 0;
	_Alignas(8) char value[PT_OFF_CPU_BYTES], stack[PT_OFF_CPU_STACK_BYTES];
	uint32_t tid, *before = NULL;

	while (fd >= 0 && !rc && !bpf_map_get_next_key(fd, before, &tid)) {
		before = &tid;
		if (!bpf_map_lookup_elem(fd, &tid, value))
			rc = rest(tracer, time_ns, (struct pt_off_cpu *)(void *)value,
				  (struct pt_raw_stack *)(void *)stack, fn, ctx);
	}
	return rc;
}
