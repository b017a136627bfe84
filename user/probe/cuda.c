// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * Probes on CUDA functions: sets of links apart from those of interpreters, always uprobe.multi.
 * They are many: as perf events, closing those of one library takes the kernel a minute.
 *
 * A link for one process puts no breakpoints into others. A child that it forks inherits them, and
 * passes them over; CUDA does not work in such a child anyway. Before 6.10 such a link sees one
 * thread only (Linux commit 46ba0e49b642): pt_tracer_multi_one_process().
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/utsname.h>

#include "base/log.h"
#include "probe/gen_skel.h"
#include "probe/tracer.h"

/* A stack's piece that is enough for some thirty frames of C++ or ten of CPython 3.10's loop. */
#define STACK_BYTES 16384

void pt_cuda_configure(struct pt_tracer *tracer, size_t ring_bytes)
{
	struct pytrace_bpf *skel = tracer->skel;
	bool on = tracer->options.cuda, memory = tracer->options.torch_memory;

	skel->rodata->cuda_nested = tracer->options.cuda_nested;
	skel->rodata->use_stacks = tracer->options.stacks;
	skel->rodata->mark_stacks = tracer->options.mark_stacks;
	skel->rodata->stacks_bytes = tracer->options.native_stacks ? STACK_BYTES : 0;
	skel->rodata->stacks_ring_bytes = ring_bytes / 2;
	bpf_map__set_autocreate(skel->maps.stack_states, tracer->options.stacks);
	bpf_map__set_autocreate(skel->maps.cuda_threads, on);
	bpf_program__set_autoload(skel->progs.pt_cuda_enter, on);
	bpf_program__set_autoload(skel->progs.pt_cuda_leave, on);
	bpf_program__set_autoload(skel->progs.pt_block, memory);
	bpf_map__set_autocreate(skel->maps.torch_threads, tracer->options.torch);
	bpf_program__set_autoload(skel->progs.pt_torch_enter, tracer->options.torch);
	bpf_program__set_autoload(skel->progs.pt_torch_leave, tracer->options.torch);
}

bool pt_tracer_multi_one_process(void)
{
	unsigned int major = 0, minor = 0;
	struct utsname uts;

	return !uname(&uts) && sscanf(uts.release, "%u.%u", &major, &minor) == 2 &&
	       (major > 6 || (major == 6 && minor >= 10));
}

int pt_tracer_add_cuda(struct pt_tracer *tracer, const struct pt_cuda_library *library, pid_t pid,
		       const char *open_path, struct pt_err *err)
{
	int rc = pt_links_room(&tracer->cuda, tracer->cuda_count, err);

	if (!rc)
		rc = pt_links_attach_cuda(tracer, library, pid, open_path,
					  &tracer->cuda[tracer->cuda_count], err);
	if (rc)
		return rc;
	tracer->cuda_count++;
	pt_debug("attached to %zu functions of '%s', process %d", library->plan.site_count,
		 library->path, pid);
	return 0;
}
