// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * absent.c - a pause without probes.
 *
 * A paused probe costs a process about as much as one that records, because the trap is most of it.
 * So what is to cost nothing is taken away, and put back. What BPF knows of a thread is void then:
 * each thread notices by the number of absences, at its first event afterwards, and starts with a
 * snapshot. Probes that say that a code object is freed stay: they fire seldom, and without them
 * another code object at the same address would get the name of the one before.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "probe/gen_skel.h"
#include "probe/parallel.h"
#include "probe/tracer.h"

#define ABSENT UINT64_MAX

static void remove_one(size_t i, void *ctx)
{
	struct pt_tracer *tracer = ctx;

	pt_links_release(i < tracer->image_count
			     ? &tracer->images[i].links
			     : &tracer->processes[i - tracer->image_count].links);
}

static void remove_all(struct pt_tracer *tracer)
{
	pt_parallel(tracer->image_count + tracer->process_count, remove_one, tracer);
}

int pt_tracer_withdraw(struct pt_tracer *tracer, uint64_t *time_ns)
{
	__u64 *until_ns = &tracer->skel->bss->control.absent_until_ns, before_ns = *until_ns;
	int rc;

	/* first, so that no thread or process is taken for one that is seen from its start */
	__atomic_store_n(until_ns, ABSENT, __ATOMIC_SEQ_CST);
	rc = pt_tracer_pause(tracer, time_ns);
	if (rc) {
		__atomic_store_n(until_ns, before_ns, __ATOMIC_SEQ_CST);
		return rc;
	}
	tracer->withdrawn = true;
	remove_all(tracer);
	pt_cost_removed(tracer, *time_ns);
	return 0;
}

/* A process that has ended in the meantime is no error. */
static int restore_process(struct pt_tracer *tracer, struct tracer_process *process,
			   const char *path, struct pt_err *err)
{
	struct pt_err why = {0};
	int rc = pt_links_attach(tracer, process->image_index, process->pid, path,
				 LINKS_WITHDRAWABLE, &process->links, &why);

	if (rc == -ESRCH)
		return 0;
	if (rc && err)
		*err = why;
	return rc;
}

static int restore_all(struct pt_tracer *tracer, struct pt_err *err)
{
	char path[64];
	int rc = 0;

	for (size_t i = 0; i < tracer->image_count && !rc; i++) {
		if (tracer->images[i].reach != PT_REACH_FILE)
			continue;
		snprintf(path, sizeof(path), "/proc/self/fd/%d", tracer->images[i].fd);
		rc = pt_links_attach(tracer, (int)i, -1, path, LINKS_WITHDRAWABLE,
				     &tracer->images[i].links, err);
	}
	for (size_t i = 0; i < tracer->process_count && !rc; i++) {
		const struct tracer_image *image =
		    &tracer->images[tracer->processes[i].image_index];

		if (image->reach != PT_REACH_PROCESS)
			continue;
		snprintf(path, sizeof(path), "/proc/self/fd/%d", image->fd);
		rc = restore_process(tracer, &tracer->processes[i], path, err);
	}
	return rc;
}

int pt_tracer_restore(struct pt_tracer *tracer, bool c_functions, uint64_t *time_ns,
		      struct pt_err *err)
{
	struct pt_control *control = &tracer->skel->bss->control;
	int rc;

	if (!tracer->withdrawn)
		return -EALREADY;
	/* whatever fires from now on belongs to a thread that has been unseen */
	control->absences++;
	__atomic_add_fetch(&control->generation, 1, __ATOMIC_SEQ_CST);
	tracer->without_c = !c_functions;
	rc = restore_all(tracer, err);
	if (rc) {
		remove_all(tracer);
		return rc;
	}
	tracer->withdrawn = false;
	rc = pt_tracer_resume(tracer, time_ns);
	__atomic_store_n(&control->absent_until_ns, *time_ns, __ATOMIC_SEQ_CST);
	return rc;
}
