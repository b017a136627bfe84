// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * The ring buffer's end: records are completed and handed out, and the ids that BPF gives are kept
 * in supply.
 */
#include <bpf/bpf.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "base/glob.h"
#include "base/log.h"
#include "probe/gen_skel.h"
#include "probe/tracer.h"
#include "target/memory.h"

/* Ids lie ready for BPF in queues; refilled when fewer than half of these are left. */
#define CODE_BLOCKS_READY 4096
#define IMAGE_IDS_READY   4096
/* A poll hands out at most so many records, so that its caller gets to look at the time. */
#define RECORDS_PER_POLL  8192

int pt_ids_push(struct bpf_map *queue, uint32_t id)
{
	return bpf_map_update_elem(bpf_map__fd(queue), NULL, &id, BPF_ANY);
}

int pt_ids_refill(struct pt_tracer *tracer, uint32_t used_code_id, uint32_t used_image_id)
{
	int rc = 0;

	while (!rc && tracer->next_image_id < used_image_id + IMAGE_IDS_READY) {
		rc = pt_ids_push(tracer->skel->maps.image_ids, tracer->next_image_id);
		tracer->next_image_id += rc ? 0 : 1;
	}
	while (!rc && tracer->next_code_id < used_code_id + CODE_BLOCKS_READY * PT_ID_BLOCK &&
	       tracer->next_code_id < PT_CODE_ID_USER - PT_ID_BLOCK) {
		rc = pt_ids_push(tracer->skel->maps.code_ids, tracer->next_code_id);
		tracer->next_code_id += rc ? 0 : PT_ID_BLOCK;
	}
	return rc == -E2BIG ? 0 : rc; /* full is good too */
}

/* Tells BPF that nobody wants to see a C function; whoever reads the records filters as well, since
 * some of its calls were recorded meanwhile. */
static void skip_unwanted(struct pt_tracer *tracer, const struct pt_rec_cfunc *cfunc)
{
	struct pt_cfunc_key key = {
	    .image_id = cfunc->hdr.image_id, .def = cfunc->def, .type = cfunc->type};
	int fd = bpf_map__fd(tracer->skel->maps.cfuncs);
	struct pt_cfunc value;

	if (!tracer->options.c_globs || (cfunc->kind & PT_C_PROBED) || !cfunc->name[0] ||
	    !memchr(cfunc->name, 0, sizeof(cfunc->name)) ||
	    !memchr(cfunc->owner, 0, sizeof(cfunc->owner)) ||
	    pt_glob_qualified(tracer->options.c_globs, cfunc->owner, cfunc->name))
		return;
	if (bpf_map_lookup_elem(fd, &key, &value) || value.id != cfunc->id)
		return;
	value.flags |= PT_CF_SKIP;
	bpf_map_update_elem(fd, &key, &value, BPF_EXIST);
}

static void read_text(pid_t pid, uint64_t addr, char *text, size_t size)
{
	ssize_t len = addr ? pt_memory_read_some(pid, addr, text, size - 1) : 0;

	text[len > 0 ? len : 0] = '\0';
}

static void keep_fork(struct pt_tracer *tracer, const struct pt_rec_proc *proc)
{
	tracer->forks[tracer->fork_count++ % FORKS_KEPT] = (struct tracer_fork){
	    (pid_t)proc->hdr.tgid, (pid_t)proc->parent_tgid};
}

/* 0: not known. */
static pid_t parent_of(const struct pt_tracer *tracer, pid_t pid)
{
	size_t kept = tracer->fork_count < FORKS_KEPT ? tracer->fork_count : FORKS_KEPT;

	for (size_t i = 1; i <= kept; i++) {
		const struct tracer_fork *fork =
		    &tracer->forks[(tracer->fork_count - i) % FORKS_KEPT];

		if (fork->child == pid)
			return fork->parent;
	}
	return 0;
}

/* False: the process does not have the function where it should be. */
static bool complete_from(pid_t pid, struct pt_rec_cfunc *cfunc)
{
	uint64_t def[2]; /* ml_name, ml_meth */

	if (pt_memory_read(pid, cfunc->def, def, sizeof(def)) || def[1] != cfunc->ml_meth)
		return false;
	if (!cfunc->name[0])
		read_text(pid, def[0], cfunc->name, sizeof(cfunc->name));
	if (!cfunc->owner[0])
		read_text(pid, cfunc->type, cfunc->owner, sizeof(cfunc->owner));
	return true;
}

/* BPF reads what is in memory. Names of C functions lie in files, and a page of those is read when
 * the process first looks at it: then they are read here. A child that has ended meanwhile had them
 * where its parent has them; else its address stands for the name. A name may be empty, as of
 * methods that pybind11 makes. */
static void complete_cfunc(const struct pt_tracer *tracer, struct pt_rec_cfunc *cfunc)
{
	pid_t pid = (pid_t)cfunc->hdr.tgid;

	if (cfunc->kind & PT_C_PROBED || (cfunc->name[0] && (cfunc->owner[0] || !cfunc->type)))
		return;
	for (int i = 0; i < FORK_LEVELS_MAX && pid; i++) {
		if (complete_from(pid, cfunc))
			return;
		pid = parent_of(tracer, pid);
	}
	if (!cfunc->name[0])
		snprintf(cfunc->name, sizeof(cfunc->name), "%#llx",
			 (unsigned long long)cfunc->ml_meth);
	if (!cfunc->owner[0] && cfunc->type)
		snprintf(cfunc->owner, sizeof(cfunc->owner), "?");
}

int pt_records_take(void *ctx, void *data, size_t len)
{
	struct pt_tracer *tracer = ctx;
	const struct pt_rec *rec = data;
	struct pt_rec_cfunc cfunc;

	if (len < sizeof(*rec) || rec->len != len) {
		pt_debug("a record of %zu bytes is not one of ours", len);
		return 0;
	}
	if (rec->kind == PT_REC_CODE) {
		uint32_t id = ((const struct pt_rec_code *)rec)->id;

		if (tracer->next_code_id - id < CODE_BLOCKS_READY / 2 * PT_ID_BLOCK)
			pt_ids_refill(tracer, id, 0);
	} else if (rec->kind == PT_REC_CFUNC && len >= sizeof(struct pt_rec_cfunc)) {
		memcpy(&cfunc, data, sizeof(cfunc));
		if (tracer->next_code_id - cfunc.id < CODE_BLOCKS_READY / 2 * PT_ID_BLOCK)
			pt_ids_refill(tracer, cfunc.id, 0);
		complete_cfunc(tracer, &cfunc);
		skip_unwanted(tracer, &cfunc);
		rec = &cfunc.hdr;
		len = sizeof(cfunc);
	} else if (rec->kind == PT_REC_PROC) {
		if (tracer->next_image_id - rec->image_id < IMAGE_IDS_READY / 2)
			pt_ids_refill(tracer, 0, rec->image_id);
		if (len >= sizeof(struct pt_rec_proc) &&
		    ((const struct pt_rec_proc *)data)->what == PT_PROC_FORK)
			keep_fork(tracer, data);
	}
	tracer->handed_out++;
	tracer->fn_rc = tracer->fn ? tracer->fn(rec, len, tracer->fn_ctx) : 0;
	/* a negative value ends libbpf's loop; the record itself counts as consumed */
	return tracer->fn_rc || tracer->handed_out >= RECORDS_PER_POLL ? -ECANCELED : 0;
}

/* A program that is interrupted while it writes a record keeps all behind it from us. */
static int consume(struct pt_tracer *tracer)
{
	struct ring *ring = ring_buffer__ring(tracer->ring, 0);
	unsigned long until = ring__producer_pos(ring);
	int rc;

	tracer->handed_out = 0;
	tracer->fn_rc = 0;
	rc = ring_buffer__consume(tracer->ring);
	tracer->emptied = (long)(ring__consumer_pos(ring) - until) >= 0;
	if (rc < 0 && rc != -ECANCELED)
		return rc;
	if (tracer->fn_rc)
		return tracer->fn_rc < 0 ? tracer->fn_rc : (int)tracer->handed_out;
	return (int)tracer->handed_out;
}

int pt_tracer_poll(struct pt_tracer *tracer, int timeout_ms, pt_record_fn fn, void *ctx)
{
	struct pollfd pfd = {.fd = ring_buffer__epoll_fd(tracer->ring), .events = POLLIN};
	int rc;

	tracer->fn = fn;
	tracer->fn_ctx = ctx;
	rc = consume(tracer);
	if (rc == 0 && !tracer->closing && timeout_ms != 0) {
		/* BPF wakes us only when much is pending, so a timeout does not mean nothing */
		if (poll(&pfd, 1, timeout_ms) < 0 && errno != EINTR)
			rc = -errno;
		else
			rc = consume(tracer);
	}
	/* the last copies did not all fit; there is room now */
	if (rc >= 0 && tracer->closing && tracer->skel->bss->counters.peek_failed > 0 &&
	    !tracer->fn_rc) {
		int more = pt_gate_peek(tracer, UINT64_MAX);

		if (!more)
			more = consume(tracer);
		rc = more < 0 ? more : rc + more;
	}
	tracer->fn = NULL;
	return rc;
}

int pt_tracer_poll_fd(const struct pt_tracer *tracer)
{
	return ring_buffer__epoll_fd(tracer->ring);
}

uint64_t pt_tracer_arrivals(const struct pt_tracer *tracer)
{
	return __atomic_load_n(&tracer->skel->bss->counters.arrivals, __ATOMIC_ACQUIRE);
}

bool pt_tracer_emptied(const struct pt_tracer *tracer)
{
	return tracer->emptied;
}
