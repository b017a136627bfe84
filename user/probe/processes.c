// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * Interpreter files and processes: what BPF is told of them, and their probes.
 */
#include <bpf/bpf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "probe/gen_skel.h"
#include "probe/tracer.h"

static int set_site(struct pt_tracer *tracer, const struct pt_site_key *key,
		    const struct pt_site_value *value)
{
	return bpf_map_update_elem(bpf_map__fd(tracer->skel->maps.sites), key, value, BPF_ANY);
}

static int register_site(struct pt_tracer *tracer, const struct py_site *site, int image_index)
{
	struct pt_site_value value = {
	    .cookie = (site->cookie & ~(0xffull << 32)) | (uint64_t)image_index << 32,
	    .vaddr = site->vaddr,
	};
	struct pt_site_key key = {.by = PT_SITE_BY_VADDR, .image_index = (uint32_t)image_index};
	struct pt_site_value other;
	int rc;

	key.addr = site->vaddr;
	rc = set_site(tracer, &key, &value);
	key.by = PT_SITE_BY_NUMBER;
	key.addr = PT_COOKIE_SITE(site->cookie);
	if (!rc)
		rc = set_site(tracer, &key, &value);
	key.by = PT_SITE_BY_OFFSET;
	key.image_index = 0;
	key.addr = site->vaddr & 4095;
	if (!bpf_map_lookup_elem(bpf_map__fd(tracer->skel->maps.sites), &key, &other))
		value.cookie = 0; /* ambiguous */
	if (!rc)
		rc = set_site(tracer, &key, &value);
	return rc;
}

static int register_image(struct pt_tracer *tracer, int image_index, struct pt_err *err)
{
	const struct py_image *image = tracer->images[image_index].image;
	const struct py_engine_plan *plan = &image->engines[tracer->images[image_index].engine];
	struct pt_image *slot = &tracer->skel->bss->control.images[image_index];
	int rc = 0;

	memset(slot, 0, sizeof(*slot));
	slot->layout = image->layout;
	slot->tstate_vaddr = image->tstate_current.vaddr;
	slot->rt = image->rt;
	slot->values = image->values;
	slot->type_function = image->c_types.function;
	slot->type_method = image->c_types.method;
	slot->type_descr = image->c_types.descr;
	slot->type_module = image->c_types.module;
	for (size_t i = 0; i < plan->site_count && !rc; i++)
		rc = register_site(tracer, &plan->sites[i], image_index);
	if (!rc && tracer->options.sample_hz)
		rc = pt_sample_set_image(tracer, image_index);
	plan = pt_c_plan(tracer, image_index);
	for (size_t i = 0; plan && i < plan->site_count && !rc; i++)
		rc = register_site(tracer, &plan->sites[i], image_index);
	if (rc)
		pt_probe_error(err, rc, "fill the BPF maps", false);
	return rc;
}

int pt_tracer_add_image(struct pt_tracer *tracer, const struct py_image *image,
			enum py_engine engine, enum pt_reach reach, bool c_methods,
			const char *open_path, struct pt_err *err)
{
	const struct py_engine_plan *plan = &image->engines[engine];
	int index = (int)tracer->image_count, rc;

	if (index >= PT_LAYOUT_MAX)
		return pt_err_set(err, -ENOSPC, PT_EXIT_FAILED, "Trace fewer processes at once.",
				  "more than %d different interpreter files", PT_LAYOUT_MAX);
	if (!plan->usable || (engine != PY_ENGINE_SAMPLE && plan->site_count == 0))
		return pt_err_set(err, -ENOTSUP, PT_EXIT_UNSUPPORTED, NULL,
				  "'%s' cannot be probed this way: %s", image->path, plan->reason);
	rc = pt_text_check_file(image, engine, open_path, err);
	if (!rc && tracer->options.c_functions && !tracer->options.methods_only && !c_methods &&
	    image->engines[PY_ENGINE_C_CALLS].usable)
		rc = pt_text_check_file(image, PY_ENGINE_C_CALLS, open_path, err);
	if (rc)
		return rc;
	tracer->images[index] = (struct tracer_image){
	    .image = image, .engine = engine, .reach = reach, .c_methods = c_methods, .fd = -1};
	rc = register_image(tracer, index, err);
	if (!rc && (tracer->options.withdrawable || reach == PT_REACH_PROCESS)) {
		tracer->images[index].fd = open(open_path, O_RDONLY | O_CLOEXEC);
		if (tracer->images[index].fd < 0)
			rc = pt_err_set(err, -errno, PT_EXIT_FAILED, NULL, "cannot open '%s': %s",
					open_path, strerror(errno));
	}
	if (!rc && reach == PT_REACH_FILE)
		rc = pt_links_attach_image(tracer, index, -1, open_path,
					   &tracer->images[index].links,
					   &tracer->images[index].kept, err);
	if (rc) {
		if (tracer->images[index].fd >= 0)
			close(tracer->images[index].fd);
		return rc;
	}
	tracer->image_count++;
	return index;
}

size_t pt_tracer_probe_count(const struct pt_tracer *tracer, int image_index)
{
	const struct tracer_image *slot = &tracer->images[image_index];
	const struct py_engine_plan *calls = pt_c_plan(tracer, image_index);

	return slot->image->engines[slot->engine].site_count + (calls ? calls->site_count : 0);
}

const char *pt_tracer_c_functions_refusal(const struct pt_tracer *tracer, int image_index)
{
	const struct tracer_image *slot = &tracer->images[image_index];

	if (!tracer->options.c_functions || tracer->options.methods_only || slot->c_methods ||
	    pt_c_plan(tracer, image_index))
		return NULL;
	if (slot->engine != PY_ENGINE_FRAME)
		return "they need the frame engine";
	return slot->image->engines[PY_ENGINE_C_CALLS].reason;
}

static struct tracer_process *process_slot(struct pt_tracer *tracer, pid_t pid)
{
	struct tracer_process *grown;

	for (size_t i = 0; i < tracer->process_count; i++)
		if (tracer->processes[i].pid == pid)
			return &tracer->processes[i];
	grown = realloc(tracer->processes, (tracer->process_count + 1) * sizeof(*grown));
	if (!grown)
		return NULL;
	tracer->processes = grown;
	grown += tracer->process_count++;
	*grown = (struct tracer_process){.pid = pid};
	return grown;
}

static int set_proc(struct pt_tracer *tracer, pid_t pid, const struct pt_proc *proc)
{
	uint32_t tgid = (uint32_t)pid;
	int rc = bpf_map_update_elem(bpf_map__fd(tracer->skel->maps.procs), &tgid, proc, BPF_ANY);

	__atomic_add_fetch(&tracer->skel->bss->control.generation, 1, __ATOMIC_RELEASE);
	return rc;
}

/*
 * Tells BPF of a process. BPF changes the entry itself when the process executes another program,
 * at any time: so it is written at once after it was read, and only if something is new; a forked
 * child's is right already. What takes longer to find out goes into another map (set_since).
 */
static int set_traced(struct pt_tracer *tracer, int image_index, pid_t pid, uint64_t bias,
		      uint32_t *image_id)
{
	bool file = tracer->images[image_index].reach == PT_REACH_FILE;
	uint32_t tgid = (uint32_t)pid;
	struct pt_proc before = {0}, proc;
	bool known = !bpf_map_lookup_elem(bpf_map__fd(tracer->skel->maps.procs), &tgid, &before);

	proc = before;
	if (!known)
		proc.image_id = tracer->next_image_id++;
	/* without probes of the file it has run unseen so far */
	proc.flags = file ? (before.flags & PT_PF_START_KNOWN) | PT_PF_FILE : 0;
	if (!file && pt_tracer_probes_stay(tracer, image_index))
		proc.flags |= PT_PF_PROBES_STAY;
	if (tracer->options.follow_children)
		proc.flags |= PT_PF_FOLLOW;
	if (tracer->options.sample_hz &&
	    tracer->images[image_index].image->engines[PY_ENGINE_SAMPLE].usable)
		proc.flags |= PT_PF_LOCATED;
	proc.image_index = (uint32_t)image_index;
	proc.bias = bias;
	proc.since_ns = file ? pt_now_ns() : PT_SINCE_UNKNOWN;
	*image_id = proc.image_id;
	if (known && proc.flags == before.flags && proc.image_index == before.image_index &&
	    proc.bias == before.bias && before.since_ns == proc.since_ns)
		return 0;
	return set_proc(tracer, pid, &proc);
}

bool pt_tracer_probes_stay(const struct pt_tracer *tracer, int image_index)
{
	enum py_engine engine = tracer->images[image_index].engine;

	/* the address of the running thread's state, and probes that are told apart by address,
	 * move with the image at each exec */
	return tracer->cookie && engine != PY_ENGINE_USDT && engine != PY_ENGINE_SAMPLE;
}

static void forget_since(struct pt_tracer *tracer, uint32_t image_id)
{
	bpf_map_delete_elem(bpf_map__fd(tracer->skel->maps.since), &image_id);
}

/* Its probes are there. It may have ended meanwhile, or run something else. */
static int set_since(struct pt_tracer *tracer, pid_t pid, uint32_t image_id)
{
	uint64_t since_ns = pt_now_ns();
	uint32_t tgid = (uint32_t)pid;
	struct pt_proc proc;
	int rc = bpf_map_update_elem(bpf_map__fd(tracer->skel->maps.since), &image_id, &since_ns,
				     BPF_ANY);

	if (!rc && (bpf_map_lookup_elem(bpf_map__fd(tracer->skel->maps.procs), &tgid, &proc) ||
		    proc.image_id != image_id))
		forget_since(tracer, image_id);
	return rc;
}

int pt_tracer_executed(struct pt_tracer *tracer, pid_t pid, uint32_t image_id)
{
	uint64_t since_ns;
	int rc;

	if (!bpf_map_lookup_elem(bpf_map__fd(tracer->skel->maps.since), &image_id, &since_ns))
		return 0;
	rc = set_since(tracer, pid, image_id);
	return rc ? rc : 1;
}

int pt_tracer_trace_process(struct pt_tracer *tracer, int image_index, pid_t pid, uint64_t bias,
			    const char *open_path, uint32_t *image_id, struct pt_err *err)
{
	const struct tracer_image *image;
	struct tracer_process *slot;
	uint32_t id;
	int rc;

	if (image_index < 0 || (size_t)image_index >= tracer->image_count)
		return -EINVAL;
	image = &tracer->images[image_index];
	rc = pt_text_check_process(image->image, image->engine, pid, bias, err);
	if (!rc && pt_c_plan(tracer, image_index))
		rc = pt_text_check_process(image->image, PY_ENGINE_C_CALLS, pid, bias, err);
	if (rc)
		return rc;
	slot = process_slot(tracer, pid);
	if (!slot)
		return pt_err_set(err, -ENOMEM, PT_EXIT_FAILED, NULL, "out of memory");
	slot->image_index = image_index;
	rc = set_traced(tracer, image_index, pid, bias, &id);
	if (rc)
		return pt_probe_error(err, rc, "add a process to the BPF maps", false);
	if (image->reach == PT_REACH_PROCESS) {
		forget_since(tracer, id); /* an exec may have carried over that of other probes */
		pt_links_release(&slot->links);
		pt_links_release(&slot->kept);
		rc = pt_links_attach_image(tracer, image_index, pid, open_path, &slot->links,
					   &slot->kept, err);
		if (!rc)
			rc = set_since(tracer, pid, id);
		if (rc) {
			pt_tracer_forget_process(tracer, pid);
			return rc;
		}
	}
	if (image_id)
		*image_id = id;
	return 0;
}

static void release_process(struct pt_tracer *tracer, pid_t pid)
{
	pt_methods_release_process(tracer, pid);
	for (size_t i = 0; i < tracer->process_count; i++) {
		if (tracer->processes[i].pid != pid)
			continue;
		pt_links_release(&tracer->processes[i].links);
		pt_links_release(&tracer->processes[i].kept);
		tracer->processes[i] = tracer->processes[--tracer->process_count];
		return;
	}
}

void pt_tracer_forget_process(struct pt_tracer *tracer, pid_t pid)
{
	uint32_t tgid = (uint32_t)pid;
	struct pt_proc proc;

	if (!bpf_map_lookup_elem(bpf_map__fd(tracer->skel->maps.procs), &tgid, &proc))
		forget_since(tracer, proc.image_id);
	bpf_map_delete_elem(bpf_map__fd(tracer->skel->maps.procs), &tgid);
	__atomic_add_fetch(&tracer->skel->bss->control.generation, 1, __ATOMIC_RELEASE);
	release_process(tracer, pid);
}

int pt_tracer_refuse_process(struct pt_tracer *tracer, pid_t pid)
{
	uint32_t tgid = (uint32_t)pid;
	struct pt_proc proc = {0};

	if (bpf_map_lookup_elem(bpf_map__fd(tracer->skel->maps.procs), &tgid, &proc)) {
		proc.image_id = tracer->next_image_id++;
		proc.flags = (tracer->options.follow_children ? PT_PF_FOLLOW : 0) |
			     (tracer->options.trace_all ? PT_PF_FILE : 0);
	}
	proc.flags |= PT_PF_REFUSED;
	return set_proc(tracer, pid, &proc);
}

int pt_tracer_let_go(struct pt_tracer *tracer, pid_t pid)
{
	int rc = pt_tracer_refuse_process(tracer, pid);

	release_process(tracer, pid);
	return rc;
}

bool pt_tracer_refuses(const struct pt_tracer *tracer, pid_t pid)
{
	uint32_t tgid = (uint32_t)pid;
	struct pt_proc proc;

	return !bpf_map_lookup_elem(bpf_map__fd(tracer->skel->maps.procs), &tgid, &proc) &&
	       proc.flags & PT_PF_REFUSED;
}
