// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * links.c - sites become links: one uprobe.multi link where the kernel has it (for one process
 * alone since 6.10), else one perf event a site. Perf events take long to remove: the kernel waits
 * for two grace periods for each, and has one lock around them (perf_uprobe_destroy()). But a
 * forked child loses a perf event's breakpoint when it gets there, and keeps a link's until
 * something is removed from that place: pt_tracer_sweep().
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

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

const struct py_engine_plan *pt_c_plan(const struct pt_tracer *tracer, int image_index)
{
	const struct tracer_image *slot = &tracer->images[image_index];
	const struct py_engine_plan *plan = &slot->image->engines[PY_ENGINE_C_CALLS];

	/* its probes need the depth as the frame engine counts it */
	return tracer->options.c_functions && !tracer->options.methods_only && !slot->c_methods &&
		       slot->engine == PY_ENGINE_FRAME && plan->usable
		   ? plan
		   : NULL;
}

bool pt_links_multi(const struct pt_tracer *tracer, bool one_process)
{
	return tracer->multi && (!one_process || pt_tracer_multi_one_process());
}

static bool has_semaphore(const struct py_engine_plan *plan)
{
	for (size_t i = 0; i < plan->site_count; i++)
		if (plan->sites[i].ref_ctr_offset)
			return true;
	return false;
}

/* Which sites, with which programs. */
struct share {
	const struct py_engine_plan *plan;
	struct bpf_program *one, *multi;
	bool at_return;   /* when the function that begins there returns */
	bool own_cookies; /* with no image's index in them */
};

static uint64_t share_cookie(const struct share *share, size_t i, int image_index)
{
	const struct py_site *site = &share->plan->sites[i];

	return share->own_cookies ? site->cookie : site_cookie(site, image_index);
}

static int attach_multi(int image_index, pid_t pid, const char *path, const struct share *share,
			struct link_set *set, struct pt_err *err)
{
	const struct py_engine_plan *plan = share->plan;
	size_t n = plan->site_count;
	unsigned long *offsets = calloc(n, sizeof(*offsets)), *refs = calloc(n, sizeof(*refs));
	__u64 *cookies = calloc(n, sizeof(*cookies));
	LIBBPF_OPTS(bpf_uprobe_multi_opts, opts, .offsets = offsets, .cookies = cookies, .cnt = n,
		    .retprobe = share->at_return);
	char what[256];
	int rc = -ENOMEM;

	if (!offsets || !refs || !cookies)
		goto out;
	for (size_t i = 0; i < n; i++) {
		offsets[i] = plan->sites[i].offset;
		refs[i] = plan->sites[i].ref_ctr_offset;
		cookies[i] = share_cookie(share, i, image_index);
	}
	if (has_semaphore(plan))
		opts.ref_ctr_offsets = refs;
	set->links[set->count] = bpf_program__attach_uprobe_multi(share->multi, pid, path, NULL,
								  &opts);
	rc = set->links[set->count] ? 0 : -errno;
	set->count += !rc;
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
		       const struct share *share, struct link_set *set, struct pt_err *err)
{
	struct perf_job job = {
	    .tracer = tracer,
	    .plan = share->plan,
	    .program = share->one,
	    .links = set->links + set->count,
	    .image_index = image_index,
	    .pid = pid,
	    .path = path,
	};
	const struct py_site *site;
	char what[256];

	set->count += share->plan->site_count; /* those that failed are NULL */
	pt_parallel(share->plan->site_count, attach_one, &job);
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

static int attach_share(struct pt_tracer *tracer, int image_index, pid_t pid, const char *path,
			const struct share *share, struct link_set *set, struct pt_err *err)
{
	if (pt_links_multi(tracer, pid >= 0))
		return attach_multi(image_index, pid, path, share, set, err);
	return attach_perf(tracer, image_index, pid, path, share, set, err);
}

/* The plan's sites that belong to the part, in a copy. */
static int take_part(const struct py_engine_plan *plan, enum links_part part,
		     struct py_engine_plan *taken)
{
	*taken = *plan;
	taken->site_count = 0;
	taken->sites = calloc(plan->site_count, sizeof(*plan->sites));
	if (!taken->sites)
		return -ENOMEM;
	for (size_t i = 0; i < plan->site_count; i++) {
		bool kept = PT_COOKIE_KIND(plan->sites[i].cookie) == PT_SITE_FREE_CODE;

		if (part == LINKS_ALL || kept == (part == LINKS_KEPT))
			taken->sites[taken->site_count++] = plan->sites[i];
	}
	return 0;
}

static int attach_parts(struct pt_tracer *tracer, int image_index, pid_t pid, const char *path,
			const struct share *frames, const struct share *calls, struct link_set *set,
			struct pt_err *err)
{
	size_t sites = frames->plan->site_count + (calls->plan ? calls->plan->site_count : 0);
	int rc = 0;

	set->count = 0;
	set->links = calloc(sites + 1, sizeof(struct bpf_link *));
	if (!set->links)
		return pt_err_set(err, -ENOMEM, PT_EXIT_FAILED, NULL, "out of memory");
	if (frames->plan->site_count)
		rc = attach_share(tracer, image_index, pid, path, frames, set, err);
	if (!rc && calls->plan)
		rc = attach_share(tracer, image_index, pid, path, calls, set, err);
	if (rc)
		pt_links_release(set);
	else
		pt_debug("attached %zu probes to '%s' by %zu links, process %d", sites, path,
			 set->count, pid);
	return rc;
}

int pt_links_attach(struct pt_tracer *tracer, int image_index, pid_t pid, const char *path,
		    enum links_part part, struct link_set *set, struct pt_err *err)
{
	const struct pytrace_bpf *skel = tracer->skel;
	bool empty = tracer->options.bench_empty;
	struct py_engine_plan sites;
	struct share frames = {
	    .plan = &sites,
	    .one = empty ? skel->progs.pt_empty : skel->progs.pt_site,
	    .multi = empty ? skel->progs.pt_empty_multi : skel->progs.pt_site_multi,
	};
	struct share calls = {
	    .plan = part == LINKS_KEPT || tracer->without_c ? NULL : pt_c_plan(tracer, image_index),
	    .one = empty ? skel->progs.pt_empty : skel->progs.pt_c_site,
	    .multi = empty ? skel->progs.pt_empty_multi : skel->progs.pt_c_site_multi,
	};
	int rc;

	if (take_part(plan_of(&tracer->images[image_index]), part, &sites))
		return pt_err_set(err, -ENOMEM, PT_EXIT_FAILED, NULL, "out of memory");
	rc = attach_parts(tracer, image_index, pid, path, &frames, &calls, set, err);
	free(sites.sites);
	return rc;
}

int pt_links_attach_image(struct pt_tracer *tracer, int image_index, pid_t pid, const char *path,
			  struct link_set *links, struct link_set *kept, struct pt_err *err)
{
	int rc;

	if (!tracer->options.withdrawable)
		return pt_links_attach(tracer, image_index, pid, path, LINKS_ALL, links, err);
	rc = pt_links_attach(tracer, image_index, pid, path, LINKS_KEPT, kept, err);
	if (rc || tracer->withdrawn)
		return rc;
	rc = pt_links_attach(tracer, image_index, pid, path, LINKS_WITHDRAWABLE, links, err);
	if (rc)
		pt_links_release(kept);
	return rc;
}

static int sweep_image(struct pt_tracer *tracer, size_t i)
{
	struct link_set set = {0};
	struct pt_err why = {0};
	char path[64];
	int rc;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", tracer->images[i].fd);
	/* of a process that will not run it: this one */
	rc = pt_links_attach(tracer, (int)i, getpid(), path, LINKS_ALL, &set, &why);
	if (rc)
		pt_verbose("children that are not traced keep breakpoints: %s", why.what);
	pt_links_release(&set);
	return rc;
}

int pt_tracer_sweep(struct pt_tracer *tracer)
{
	uint64_t strays = tracer->skel->bss->counters.strays;
	int rc = 0;

	if (strays == tracer->swept || !pt_links_multi(tracer, true))
		return 0;
	tracer->swept = strays;
	/* when a probe is removed the kernel looks at all who map the file, and leaves a breakpoint
	 * only where another probe wants one (register_for_each_vma()) */
	for (size_t i = 0; i < tracer->image_count && !rc; i++)
		if (tracer->images[i].reach == PT_REACH_PROCESS)
			rc = sweep_image(tracer, i);
	return rc ? rc : pt_methods_sweep(tracer);
}

int pt_links_attach_cuda(struct pt_tracer *tracer, const struct pt_cuda_library *library, pid_t pid,
			 const char *path, struct link_set *set, struct pt_err *err)
{
	const struct pytrace_bpf *skel = tracer->skel;
	bool empty = tracer->options.bench_empty;
	struct share enters = {
	    .plan = &library->plan,
	    .multi = empty ? skel->progs.pt_empty_multi : skel->progs.pt_cuda_enter,
	    .own_cookies = true,
	};
	struct share leaves = enters;
	int rc = 0;

	if (library->blocks) {
		enters.multi = empty ? enters.multi : skel->progs.pt_block;
	} else if (library->leaves.site_count) { /* PyTorch's operators */
		leaves.plan = &library->leaves;
		if (!empty) {
			enters.multi = skel->progs.pt_torch_enter;
			leaves.multi = skel->progs.pt_torch_leave;
		}
	} else {
		leaves.at_return = true;
		if (!empty)
			leaves.multi = skel->progs.pt_cuda_leave;
	}
	set->count = 0;
	set->links = calloc(2, sizeof(struct bpf_link *));
	if (!set->links)
		return pt_err_set(err, -ENOMEM, PT_EXIT_FAILED, NULL, "out of memory");
	/* a return without its call is passed over, so these come first */
	if (!library->blocks)
		rc = attach_multi(-1, pid, path, &leaves, set, err);
	if (!rc)
		rc = attach_multi(-1, pid, path, &enters, set, err);
	if (rc)
		pt_links_release(set);
	return rc;
}

int pt_links_attach_methods(struct pt_tracer *tracer, const struct py_engine_plan *plan, pid_t pid,
			    const char *path, struct link_set *set, struct pt_err *err)
{
	const struct pytrace_bpf *skel = tracer->skel;
	struct share share = {
	    .plan = plan,
	    .multi = tracer->options.bench_empty ? skel->progs.pt_empty_multi
						 : skel->progs.pt_method,
	    .own_cookies = true,
	};
	int rc;

	set->count = 0;
	set->links = calloc(1, sizeof(struct bpf_link *));
	if (!set->links)
		return pt_err_set(err, -ENOMEM, PT_EXIT_FAILED, NULL, "out of memory");
	rc = attach_multi(-1, pid, path, &share, set, err);
	if (rc)
		pt_links_release(set);
	return rc;
}

int pt_links_room(struct link_set **sets, size_t count, struct pt_err *err)
{
	struct link_set *bigger = reallocarray(*sets, count + 1, sizeof(*bigger));

	if (!bigger)
		return pt_err_set(err, -ENOMEM, PT_EXIT_FAILED, NULL, "out of memory");
	*sets = bigger;
	return 0;
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
