// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * Probes on C functions themselves: sets of links apart from those of interpreters, always
 * uprobe.multi, one link a file with all entries and exits in it. An exit without its entry is
 * passed over, so in which order they come to be does not matter.
 */
#include <bpf/bpf.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "probe/gen_skel.h"
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

int pt_tracer_attach_methods(struct pt_tracer *tracer, const struct py_method_sites *sites,
			     uint32_t first, pid_t pid, const char *open_path, struct pt_err *err)
{
	struct py_engine_plan plan;
	int rc = pt_links_room(&tracer->methods, tracer->methods_count, err);

	if (rc)
		return rc;
	if (make_plan(sites, first, &plan))
		return pt_err_set(err, -ENOMEM, PT_EXIT_FAILED, NULL, "out of memory");
	rc = pt_links_attach_methods(tracer, &plan, pid, open_path,
				     &tracer->methods[tracer->methods_count], err);
	tracer->methods_count += !rc;
	free(plan.sites);
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
