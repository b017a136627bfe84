// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * marks.c - probes of the user's. Each place is a perf event of its own: there are few, and they
 * come one by one while recording, as libraries are loaded.
 */
#include <bpf/bpf.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "probe/gen_skel.h"
#include "probe/tracer.h"

bool pt_tracer_marks_supported(const struct pt_tracer_options *options, struct pt_err *err)
{
	if (options->no_cookie) {
		pt_err_set(err, -ENOTSUP, PT_EXIT_UNSUPPORTED, NULL,
			   "attach cookies are switched off");
		return false;
	}
	return !pt_require(PT_FEAT_ATTACH_COOKIE, err);
}

int pt_tracer_set_mark(struct pt_tracer *tracer, uint32_t number, const struct pt_mark *mark,
		       struct pt_err *err)
{
	int rc = bpf_map_update_elem(bpf_map__fd(tracer->skel->maps.marks), &number, mark, BPF_ANY);

	if (rc)
		pt_probe_error(err, rc, "fill the BPF maps", false);
	return rc;
}

int pt_tracer_attach_mark(struct pt_tracer *tracer, const struct pt_mark_place *place, pid_t pid,
			  const char *open_path, struct pt_err *err)
{
	LIBBPF_OPTS(bpf_uprobe_opts, opts, .ref_ctr_offset = place->ref_ctr,
		    .bpf_cookie = place->number, .attach_mode = PROBE_ATTACH_MODE_LINK);
	const struct pytrace_bpf *skel = tracer->skel;
	struct link_set *set = &tracer->marks;
	struct bpf_link **links = reallocarray(set->links, set->count + 1,
					       sizeof(struct bpf_link *));
	char what[256];
	int rc;

	if (!links)
		return pt_err_set(err, -ENOMEM, PT_EXIT_FAILED, NULL, "out of memory");
	set->links = links;
	links[set->count] = bpf_program__attach_uprobe_opts(place->ends ? skel->progs.pt_mark_end
									: skel->progs.pt_mark,
							    pid, open_path, place->offset, &opts);
	if (links[set->count]) {
		set->count++;
		return 0;
	}
	rc = errno ? -errno : -EINVAL;
	snprintf(what, sizeof(what), "attach a probe to '%s' at %#llx", open_path,
		 (unsigned long long)place->offset);
	pt_probe_error(err, rc, what, false);
	return rc;
}
