// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * links.c - sites become links: one uprobe.multi link for a whole file where the kernel has it,
 * else one perf event a site. A process alone always gets perf events, because their breakpoints do
 * not survive a fork into the child.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "probe/features.h"
#include "probe/gen_skel.h"
#include "probe/parallel.h"
#include "probe/tracer.h"

static const struct py_engine_plan *plan_of(const struct tracer_image *slot)
{
	return &slot->image->engines[slot->engine];
}

static uint64_t site_cookie(const struct py_site *site, int image_index)
{
	return (site->cookie & ~(0xffull << 32)) | (uint64_t)image_index << 32;
}

static bool has_semaphore(const struct py_engine_plan *plan)
{
	for (size_t i = 0; i < plan->site_count; i++)
		if (plan->sites[i].ref_ctr_offset)
			return true;
	return false;
}

static int attach_multi(struct pt_tracer *tracer, int image_index, const char *path,
			struct link_set *set, struct pt_err *err)
{
	const struct py_engine_plan *plan = plan_of(&tracer->images[image_index]);
	struct bpf_program *program = tracer->options.bench_empty
					  ? tracer->skel->progs.pt_empty_multi
					  : tracer->skel->progs.pt_site_multi;
	size_t n = plan->site_count;
	unsigned long *offsets = calloc(n, sizeof(*offsets)), *refs = calloc(n, sizeof(*refs));
	__u64 *cookies = calloc(n, sizeof(*cookies));
	LIBBPF_OPTS(bpf_uprobe_multi_opts, opts, .offsets = offsets, .cookies = cookies, .cnt = n);
	char what[256];
	int rc = -ENOMEM;

	if (!offsets || !refs || !cookies)
		goto out;
	for (size_t i = 0; i < n; i++) {
		offsets[i] = plan->sites[i].offset;
		refs[i] = plan->sites[i].ref_ctr_offset;
		cookies[i] = site_cookie(&plan->sites[i], image_index);
	}
	if (has_semaphore(plan))
		opts.ref_ctr_offsets = refs;
	set->links[0] = bpf_program__attach_uprobe_multi(program, -1, path, NULL, &opts);
	rc = set->links[0] ? 0 : -errno;
	set->count = rc ? 0 : 1;
out:
	free(offsets);
	free(refs);
	free(cookies);
	if (rc) {
		snprintf(what, sizeof(what), "attach %zu probes to '%s'", n, path);
		pt_probe_error(err, rc, what, has_semaphore(plan));
	}
	return rc;
}

struct perf_job {
	struct pt_tracer *tracer;
	const struct py_engine_plan *plan;
	struct bpf_program *program;
	struct bpf_link **links;
	int image_index;
	pid_t pid;
	const char *path;
	int rc;        /* of the first that failed */
	size_t failed; /* which */
};

static void attach_one(size_t i, void *ctx)
{
	struct perf_job *job = ctx;
	const struct py_site *site = &job->plan->sites[i];
	LIBBPF_OPTS(bpf_uprobe_opts, opts, .ref_ctr_offset = site->ref_ctr_offset);
	int rc, none = 0;

	if (__atomic_load_n(&job->rc, __ATOMIC_RELAXED))
		return;
	/* links to perf events came together with cookies, in 5.15; never tracefs */
	opts.attach_mode = job->tracer->cookie ? PROBE_ATTACH_MODE_LINK : PROBE_ATTACH_MODE_PERF;
	if (job->tracer->cookie)
		opts.bpf_cookie = site_cookie(site, job->image_index);
	job->links[i] = bpf_program__attach_uprobe_opts(job->program, job->pid, job->path,
							site->offset, &opts);
	if (job->links[i])
		return;
	rc = errno ? -errno : -EINVAL;
	if (__atomic_compare_exchange_n(&job->rc, &none, rc, false, __ATOMIC_RELAXED,
					__ATOMIC_RELAXED))
		job->failed = i;
}

static int attach_perf(struct pt_tracer *tracer, int image_index, pid_t pid, const char *path,
		       struct link_set *set, struct pt_err *err)
{
	struct perf_job job = {
	    .tracer = tracer,
	    .plan = plan_of(&tracer->images[image_index]),
	    .program = tracer->options.bench_empty ? tracer->skel->progs.pt_empty
						   : tracer->skel->progs.pt_site,
	    .links = set->links,
	    .image_index = image_index,
	    .pid = pid,
	    .path = path,
	};
	const struct py_site *site;
	char what[256];

	set->count = job.plan->site_count; /* those that failed are NULL */
	pt_parallel(set->count, attach_one, &job);
	if (!job.rc)
		return 0;
	site = &job.plan->sites[job.failed];
	snprintf(what, sizeof(what), "attach probe %zu of %zu to '%s' at %#llx", job.failed + 1,
		 job.plan->site_count, tracer->images[image_index].image->path,
		 (unsigned long long)site->offset);
	/* seen on 6.18; CAP_PERFMON was enough once: perf_uprobe_event_init() */
	if ((job.rc == -EACCES || job.rc == -EPERM) && !pt_has_sys_admin())
		return pt_err_set(err, job.rc, PT_EXIT_PERMISSION,
				  "Newer kernels want CAP_SYS_ADMIN for probes that one process "
				  "alone gets. Add it, or use --follow=exact: probes for all that "
				  "run this interpreter.",
				  "cannot %s: %s", what, strerror(-job.rc));
	pt_probe_error(err, job.rc, what, site->ref_ctr_offset != 0);
	return job.rc;
}

int pt_links_attach(struct pt_tracer *tracer, int image_index, pid_t pid, const char *path,
		    struct link_set *set, struct pt_err *err)
{
	const struct py_engine_plan *plan = plan_of(&tracer->images[image_index]);
	int rc;

	set->count = 0;
	set->links = calloc(plan->site_count, sizeof(struct bpf_link *));
	if (!set->links)
		return pt_err_set(err, -ENOMEM, PT_EXIT_FAILED, NULL, "out of memory");
	if (pid < 0 && tracer->multi)
		rc = attach_multi(tracer, image_index, path, set, err);
	else
		rc = attach_perf(tracer, image_index, pid, path, set, err);
	if (rc)
		pt_links_release(set);
	else
		pt_debug("attached %zu probes to '%s' by %zu links, process %d", plan->site_count,
			 path, set->count, pid);
	return rc;
}

static void release_one(size_t i, void *ctx)
{
	struct link_set *set = ctx;

	bpf_link__destroy(set->links[i]);
}

void pt_links_release(struct link_set *set)
{
	pt_parallel(set->count, release_one, set);
	free(set->links);
	set->links = NULL;
	set->count = 0;
}
