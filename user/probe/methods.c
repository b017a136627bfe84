// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * Probes on C functions themselves: sets of links apart from those of interpreters, always
 * uprobe.multi, one link a file with all entries and exits in it. An exit without its entry is
 * passed over, so in which order they come to be does not matter.
 */
#include <bpf/bpf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/log.h"
#include "probe/gen_skel.h"
#include "probe/parallel.h"
#include "probe/tracer.h"

void pt_methods_configure(struct pt_tracer *tracer)
{
	struct pytrace_bpf *skel = tracer->skel;
	bool on = tracer->options.methods;

	skel->rodata->use_methods = on;
	bpf_map__set_autocreate(skel->maps.methods, on);
	bpf_map__set_autocreate(skel->maps.tstates, on);
	bpf_program__set_autoload(skel->progs.pt_method, on);
}

bool pt_tracer_methods_supported(const struct pt_tracer_options *options, bool file_wide,
				 struct pt_err *err)
{
	if (!pt_tracer_c_functions_supported(options, err) || pt_require(PT_FEAT_UPROBE_MULTI, err))
		return false;
	if (options->no_uprobe_multi) {
		pt_err_set(err, -ENOTSUP, PT_EXIT_UNSUPPORTED, NULL,
			   "uprobe.multi is switched off");
		return false;
	}
	if (!file_wide && !pt_tracer_multi_one_process()) {
		pt_err_set(err, -ENOTSUP, PT_EXIT_UNSUPPORTED, NULL,
			   "before Linux 6.10 uprobe.multi cannot serve one process alone");
		return false;
	}
	return true;
}

static uint32_t self_of(const struct py_method_def *def)
{
	switch (def->kind) {
	case PY_DEF_MODULE:
		return PT_METHOD_OF_MODULE;
	case PY_DEF_TYPE:
		return def->flags & PY_METH_STATIC ? PT_METHOD_OF_TYPE : PT_METHOD_OF_OBJECT;
	case PY_DEF_UNKNOWN:
		break;
	}
	return PT_METHOD_UNKNOWN;
}

int pt_tracer_add_methods(struct pt_tracer *tracer, const struct py_method_sites *sites,
			  uint32_t *first, struct pt_err *err)
{
	int rc = 0;

	if (sites->count > PT_METHODS_MAX - tracer->next_method)
		return pt_err_set(err, -ENOSPC, PT_EXIT_FAILED, NULL,
				  "more than %u C functions at once", PT_METHODS_MAX);
	*first = tracer->next_method;
	for (size_t i = 0; i < sites->count && !rc; i++) {
		const struct py_method_site *site = &sites->sites[i];
		struct pt_method method = {.self = self_of(&site->def)};
		uint32_t number = tracer->next_method;

		snprintf(method.name, sizeof(method.name), "%s", site->names);
		/* as repr() has it: a static method's object is the type, whose type is "type" */
		snprintf(method.owner, sizeof(method.owner), "%s",
			 method.self == PT_METHOD_OF_TYPE ? "type"
			 : site->def.owner                ? site->def.owner
							  : "");
		rc = bpf_map_update_elem(bpf_map__fd(tracer->skel->maps.methods), &number, &method,
					 BPF_ANY);
		tracer->next_method += !rc;
	}
	return rc ? pt_probe_error(err, rc, "fill the BPF maps", false) : 0;
}

/* Entries first, then exits, each with its cookie. */
static int make_plan(const struct py_method_sites *sites, uint32_t first,
		     struct py_engine_plan *plan)
{
	*plan = (struct py_engine_plan){.site_count = sites->count + sites->exit_count};
	plan->sites = calloc(plan->site_count, sizeof(*plan->sites));
	if (!plan->sites)
		return -ENOMEM;
	for (size_t i = 0; i < sites->count; i++) {
		plan->sites[i] = sites->sites[i].site;
		plan->sites[i].cookie = first + i;
	}
	for (size_t i = 0; i < sites->exit_count; i++) {
		plan->sites[sites->count + i] = sites->exits[i];
		plan->sites[sites->count + i].cookie = PT_METHOD_EXIT;
	}
	return 0;
}

static int attach(struct pt_tracer *tracer, const struct py_method_sites *sites, uint32_t first,
		  pid_t pid, const char *path, struct link_set *set, struct pt_err *err)
{
	struct py_engine_plan plan;
	int rc;

	if (make_plan(sites, first, &plan))
		return pt_err_set(err, -ENOMEM, PT_EXIT_FAILED, NULL, "out of memory");
	rc = pt_links_attach_methods(tracer, &plan, pid, path, set, err);
	free(plan.sites);
	return rc;
}

int pt_tracer_attach_methods(struct pt_tracer *tracer, const struct py_method_sites *sites,
			     uint32_t first, pid_t pid, const char *open_path, struct pt_err *err)
{
	struct tracer_methods *methods = reallocarray(tracer->methods, tracer->methods_count + 1,
						      sizeof(*methods));
	int rc;

	if (!methods)
		return pt_err_set(err, -ENOMEM, PT_EXIT_FAILED, NULL, "out of memory");
	tracer->methods = methods;
	methods += tracer->methods_count;
	*methods = (struct tracer_methods){.pid = pid, .sites = sites, .first = first, .fd = -1};
	rc = attach(tracer, sites, first, pid, open_path, &methods->links, err);
	if (rc)
		return rc;
	/* without it the file is not swept */
	if (pid >= 0)
		methods->fd = open(open_path, O_RDONLY | O_CLOEXEC);
	tracer->methods_count++;
	return 0;
}

void pt_methods_close(struct tracer_methods *methods)
{
	if (methods->fd >= 0)
		close(methods->fd);
	methods->fd = -1;
}

static void release_one(size_t i, void *ctx)
{
	pt_links_release(&((struct tracer_methods *)ctx)[i].links);
}

void pt_methods_release_process(struct pt_tracer *tracer, pid_t pid)
{
	size_t kept = tracer->methods_count;

	/* those of the process to the end */
	for (size_t i = 0; i < kept;) {
		struct tracer_methods methods = tracer->methods[i];

		if (methods.pid != pid) {
			i++;
			continue;
		}
		tracer->methods[i] = tracer->methods[--kept];
		tracer->methods[kept] = methods;
	}
	pt_parallel(tracer->methods_count - kept, release_one, tracer->methods + kept);
	while (tracer->methods_count > kept)
		pt_methods_close(&tracer->methods[--tracer->methods_count]);
}

/* Is it the first of its file that has one? Two processes may share a file. */
static bool is_first(const struct pt_tracer *tracer, size_t i)
{
	for (size_t k = 0; k < i; k++)
		if (tracer->methods[k].fd >= 0 &&
		    tracer->methods[k].first == tracer->methods[i].first)
			return false;
	return tracer->methods[i].fd >= 0;
}

int pt_methods_sweep(struct pt_tracer *tracer)
{
	struct tracer_methods *swept = calloc(tracer->methods_count + 1, sizeof(*swept));
	struct pt_err why = {0};
	size_t count = 0;
	char path[64];
	int rc = swept ? 0 : -ENOMEM;

	for (size_t i = 0; i < tracer->methods_count && !rc; i++) {
		const struct tracer_methods *methods = &tracer->methods[i];

		if (!is_first(tracer, i))
			continue;
		snprintf(path, sizeof(path), "/proc/self/fd/%d", methods->fd);
		/* of a process that will not run it: this one */
		rc = attach(tracer, methods->sites, methods->first, getpid(), path,
			    &swept[count].links, &why);
		count += !rc;
	}
	if (rc)
		pt_verbose("children that are not traced keep breakpoints: %s", why.what);
	pt_parallel(count, release_one, swept);
	free(swept);
	return rc;
}

void pt_tracer_set_tstate(struct pt_tracer *tracer, pid_t tid, uint32_t image_id, uint64_t tstate)
{
	struct pt_tstate value = {.image_id = image_id, .tstate = tstate};
	uint32_t key = (uint32_t)tid;

	/* without it the thread's C functions are recorded from its next Python call on */
	if (tracer->options.methods &&
	    bpf_map_update_elem(bpf_map__fd(tracer->skel->maps.tstates), &key, &value, BPF_ANY))
		pt_debug("thread %d: its state cannot be told to BPF", tid);
}
