// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * Reading: spans come when they end, so a launch comes before the call of NCCL that it was made in,
 * and what comes of several threads is in no order. The calls of a file are sorted, and then
 * followed by thread: what lies in a group is done by the group's end.
 *
 * Comparing is in nccl_compare.c.
 */
#include "sink/nccl_calls.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sink/json_scan.h"
#include "sink/nccl_priv.h"

/* Of a thread, kept until the call around them comes. */
#define LAUNCHES_KEPT 32
/* Calls of all files together: at most some 250 MB, while the last file is read. */
#define CALLS_MAX     (2u << 20)

/* What a communicator or a kernel stands for */
#define UNKNOWN 1
#define FIRST   2

enum what {
	GROUP_START,
	GROUP_END,
	MADE,      /* ncclCommInitRank.. */
	SPLIT,     /* of another communicator */
	OTHERWISE, /* made or ended in another way */
	ALL_TO_ALL,
	COLLECTIVE, /* any other */
	POINT_TO_POINT,
	NOTHING,
};

struct launch {
	uint64_t ns, correlation;
	bool failed;
};

struct call {
	uint64_t begin_ns, end_ns;
	uint64_t work_ns; /* by then all of its work had ended; 0: not known yet */
	uint64_t comm, newcomm, id, likeness;
	uint32_t pid, tid, group; /* group: number + 1; 0: none */
	uint32_t pending;         /* kernels whose end has not come */
	int32_t nranks, rank;
	uint8_t what;
	bool done;     /* successful */
	bool begun;    /* successful, or in progress */
	bool launched; /* some kernel */
	bool unsure;   /* of when its work had ended */
};

struct thread {
	struct thread *next;
	struct launch launches[LAUNCHES_KEPT];
	uint32_t launch_count; /* modulo 2^32; the last LAUNCHES_KEPT are there */
	/* while the calls are followed */
	uint64_t outer_end_ns;
	uint64_t unknown_until_ns; /* it was in a group that began before the recording */
	uint32_t depth, outer, group;
};

struct group {
	uint64_t comm;
	uint32_t end; /* the call that ends it, plus one; 0: it did not come */
	bool mixed;   /* several communicators, or messages between two */
};

struct reading {
	uint32_t host;
	uint64_t base_ns;
	struct pt_nccl_file file;
	struct call *calls;
	uint32_t count, size;
	struct pt_map
	    by_correlation;    /* of a kernel -> FIRST + index of its call; UNKNOWN: it was */
	struct pt_map threads; /* (pid, tid) */
	struct thread *thread_list;
	struct group *groups;
	uint32_t group_count;
	uint64_t bound_ns; /* the bound whose arrows come next; 0: it does not hold */
};

struct pt_nccl {
	struct nccl_ranks ranks;
	struct reading now;
};

/* ---- events ---- */

struct event {
	struct pt_json_span ph, cat, name, args;
	uint64_t pid, tid, ts, dur, id;
	bool has_id;
};

static int take_members(const char *text, struct event *event)
{
	struct pt_json_member member;
	int rc;

	*event = (struct event){.ph.text = "", .cat.text = "", .name.text = "", .args.text = ""};
	while ((rc = pt_json_next(&text, &member)) > 0) {
		const struct pt_json_span *key = &member.key, *value = &member.value;

		if (pt_json_is(key, "ph"))
			event->ph = *value;
		else if (pt_json_is(key, "cat"))
			event->cat = *value;
		else if (pt_json_is(key, "name"))
			event->name = *value;
		else if (pt_json_is(key, "args"))
			event->args = *value;
		else if (pt_json_is(key, "pid") && !pt_json_take_u64(value, &event->pid))
			return -EBADMSG;
		else if (pt_json_is(key, "tid") && !pt_json_take_u64(value, &event->tid))
			return -EBADMSG;
		else if (pt_json_is(key, "ts") && !pt_json_take_milli(value, &event->ts))
			return -EBADMSG;
		else if (pt_json_is(key, "dur") && !pt_json_take_milli(value, &event->dur))
			return -EBADMSG;
		else if (pt_json_is(key, "id"))
			event->has_id = pt_json_take_u64(value, &event->id);
	}
	if (rc || event->pid > INT32_MAX || event->tid > INT32_MAX || event->dur > INT64_MAX / 4 ||
	    event->ts > INT64_MAX / 4)
		return -EBADMSG;
	return 0;
}

static struct thread *thread_get(struct reading *now, uint32_t pid, uint32_t tid)
{
	struct thread *thread = pt_map_get(&now->threads, pid, tid);

	if (thread)
		return thread;
	thread = pt_map_make(&now->threads, pid, tid, sizeof(*thread));
	if (!thread)
		return NULL;
	thread->next = now->thread_list;
	now->thread_list = thread;
	return thread;
}

/* "0x12" with its quotes; 0: it is none. */
static uint64_t hexadecimal(const struct pt_json_span *value)
{
	uint64_t number = 0;

	if (value->len < 3 || value->len > 20 || value->text[0] != '"')
		return 0;
	for (size_t i = 1 + 2 * !strncmp(value->text + 1, "0x", 2); i < value->len - 1; i++) {
		static const char digits[] = "0123456789abcdef";
		const char *digit = strchr(digits, value->text[i]);

		if (!digit || !*digit)
			return 0;
		number = number << 4 | (uint64_t)(digit - digits);
	}
	return number;
}

/* FNV-1a. */
static uint64_t mixed(uint64_t hash, const struct pt_json_span *value)
{
	for (size_t i = 0; i < value->len; i++)
		hash = (hash ^ (unsigned char)value->text[i]) * 0x100000001b3ull;
	return hash;
}

static bool starts(const struct pt_json_span *name, const char *text)
{
	return name->len > strlen(text) && !strncmp(name->text + 1, text, strlen(text));
}

static enum what what_of(const struct pt_json_span *name)
{
	static const char *const all_to_all[] = {"\"ncclAllReduce\"", "\"ncclAllGather\"",
						 "\"ncclReduceScatter\"", "\"ncclAlltoAll\""};
	static const char *const others[] = {"\"ncclBroadcast\"", "\"ncclBcast\"", "\"ncclReduce\"",
					     "\"ncclGather\"", "\"ncclScatter\""};

	if (pt_json_is(name, "\"ncclGroupStart\""))
		return GROUP_START;
	if (pt_json_is(name, "\"ncclGroupEnd\""))
		return GROUP_END;
	if (pt_json_is(name, "\"ncclCommInitRank\"") ||
	    pt_json_is(name, "\"ncclCommInitRankConfig\""))
		return MADE;
	if (pt_json_is(name, "\"ncclSend\"") || pt_json_is(name, "\"ncclRecv\""))
		return POINT_TO_POINT;
	for (size_t i = 0; i < sizeof(all_to_all) / sizeof(all_to_all[0]); i++)
		if (pt_json_is(name, all_to_all[i]))
			return ALL_TO_ALL;
	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
		if (pt_json_is(name, others[i]))
			return COLLECTIVE;
	if (starts(name, "ncclCommSplit") || starts(name, "ncclCommShrink") ||
	    starts(name, "ncclCommGrow"))
		return SPLIT;
	return starts(name, "ncclCommInit") || starts(name, "ncclCommDestroy") ||
		       starts(name, "ncclCommAbort")
		   ? OTHERWISE
		   : NOTHING;
}

static int take_call_args(const struct event *event, struct call *call)
{
	const char *p = event->args.text;
	struct pt_json_member arg;
	uint64_t number;
	bool empty = false;
	int rc;

	call->nranks = call->rank = -1;
	call->likeness = mixed(0xcbf29ce484222325ull, &event->name);
	while ((rc = pt_json_next(&p, &arg)) > 0) {
		const struct pt_json_span *key = &arg.key, *value = &arg.value;
		bool is_number = pt_json_take_u64(value, &number) && number <= INT32_MAX;

		if (pt_json_is(key, "comm"))
			call->comm = hexadecimal(value);
		else if (pt_json_is(key, "newcomm"))
			call->newcomm = hexadecimal(value);
		else if (pt_json_is(key, "commId"))
			call->id = hexadecimal(value);
		else if (pt_json_is(key, "nranks") && is_number)
			call->nranks = (int32_t)number;
		else if (pt_json_is(key, "rank") && is_number)
			call->rank = (int32_t)number;
		else if (pt_json_is(key, "count") || pt_json_is(key, "sendcount") ||
			 pt_json_is(key, "recvcount") || pt_json_is(key, "datatype"))
			call->likeness = mixed(call->likeness, value);
		if ((pt_json_is(key, "count") || pt_json_is(key, "sendcount") ||
		     pt_json_is(key, "recvcount")) &&
		    pt_json_is(value, "0"))
			empty = true;
		if (pt_json_is(key, "return")) {
			call->done = pt_json_is(value, "\"ncclSuccess\"");
			call->begun = call->done || pt_json_is(value, "\"ncclInProgress\"");
		}
	}
	call->unsure |= empty; /* it moves nothing */
	return rc;
}

static struct call *add_call(struct reading *now)
{
	uint32_t size = now->size ? 2 * now->size : 256;
	struct call *bigger;

	if (now->count == now->size) {
		bigger = reallocarray(now->calls, size, sizeof(*bigger));
		if (!bigger)
			return NULL;
		now->calls = bigger;
		now->size = size;
	}
	now->calls[now->count] = (struct call){0};
	return &now->calls[now->count++];
}

/* The launches of the thread that were made in the call, which has just come. */
static int take_launches(struct reading *now, struct thread *thread, struct call *call)
{
	uint32_t kept = thread->launch_count < LAUNCHES_KEPT ? thread->launch_count : LAUNCHES_KEPT;
	void *index = (void *)(uintptr_t)(now->count - 1 + FIRST);
	uint32_t taken = 0;

	for (uint32_t i = 0; i < kept; i++) {
		struct launch *launch = &thread->launches[i];

		if (launch->ns < call->begin_ns || launch->ns > call->end_ns)
			continue;
		call->launched = true;
		call->unsure |= launch->failed || ++taken == LAUNCHES_KEPT;
		call->pending++;
		if (!launch->failed &&
		    pt_map_put(&now->by_correlation, launch->correlation, 0, index))
			return -ENOMEM;
	}
	thread->launch_count = 0;
	return 0;
}

static int take_call(struct pt_nccl *nccl, const struct event *event)
{
	struct reading *now = &nccl->now;
	enum what what = what_of(&event->name);
	struct thread *thread;
	struct call *call;
	int rc;

	if (what == NOTHING || now->file.full)
		return 0;
	if (nccl->ranks.op_count + now->count >= CALLS_MAX) {
		now->file.full = true;
		return 0;
	}
	now->file.any = true;
	thread = thread_get(now, (uint32_t)event->pid, (uint32_t)event->tid);
	call = thread ? add_call(now) : NULL;
	if (!call)
		return -ENOMEM;
	call->what = (uint8_t)what;
	call->pid = (uint32_t)event->pid;
	call->tid = (uint32_t)event->tid;
	call->begin_ns = event->ts;
	call->end_ns = event->ts + event->dur;
	rc = take_call_args(event, call);
	return rc ? rc : take_launches(now, thread, call);
}

static int take_launch(struct reading *now, const struct event *event)
{
	struct launch launch = {.ns = event->ts, .failed = true};
	struct thread *thread;
	struct pt_json_member arg;
	const char *p = event->args.text;
	bool kernel = false;
	int rc;

	while ((rc = pt_json_next(&p, &arg)) > 0) {
		kernel |= pt_json_is(&arg.key, "kernel");
		if (pt_json_is(&arg.key, "return"))
			launch.failed = !pt_json_is(&arg.value, "\"cudaSuccess\"") &&
					!pt_json_is(&arg.value, "\"CUDA_SUCCESS\"");
		else if (pt_json_is(&arg.key, "correlation"))
			pt_json_take_u64(&arg.value, &launch.correlation);
	}
	if (rc || !kernel)
		return rc;
	thread = thread_get(now, (uint32_t)event->pid, (uint32_t)event->tid);
	if (!thread)
		return -ENOMEM;
	for (int i = 0; i < LAUNCHES_KEPT; i++) /* what it calls itself is the same launch */
		if (thread->launches[i].ns >= event->ts)
			thread->launches[i].ns = 0;
	thread->launches[thread->launch_count++ % LAUNCHES_KEPT] = launch;
	if (thread->launch_count == 2 * LAUNCHES_KEPT)
		thread->launch_count = LAUNCHES_KEPT;
	return 0;
}

/* One that a call ended, and that holds without assumptions. */
static int take_bound(struct reading *now, const struct event *event)
{
	const char *p = event->args.text;
	struct pt_json_member arg;
	bool ended = false, holds = true;
	int rc;

	now->bound_ns = 0;
	while ((rc = pt_json_next(&p, &arg)) > 0) {
		ended |= pt_json_is(&arg.key, "ended by call");
		holds &= !pt_json_is(&arg.key, "assumes") && !pt_json_is(&arg.key, "open at end");
	}
	if (ended && holds)
		now->bound_ns = 1; /* its end comes next */
	return rc;
}

/* An arrow from a launch to the bound that has just come. */
static int take_arrow(struct reading *now, const struct event *event)
{
	uintptr_t index = (uintptr_t)pt_map_get(&now->by_correlation, event->id, 0);
	struct call *call;

	if (!event->has_id || index < FIRST)
		return 0;
	call = &now->calls[index - FIRST];
	call->pending--;
	if (now->bound_ns <= 1)
		call->unsure = true;
	else if (now->bound_ns > call->work_ns)
		call->work_ns = now->bound_ns;
	/* once only */
	return pt_map_put(&now->by_correlation, event->id, 0, (void *)(uintptr_t)UNKNOWN);
}

int pt_nccl_event(struct pt_nccl *nccl, const char *text)
{
	struct reading *now = &nccl->now;
	struct event event;
	int rc = take_members(text, &event);

	if (rc)
		return rc;
	if (event.ts < now->file.first_ns)
		now->file.first_ns = event.ts;
	if (pt_json_is(&event.cat, "\"gpu_bounds\"")) {
		if (pt_json_is(&event.ph, "\"B\""))
			return event.args.len ? take_bound(now, &event) : 0;
		if (pt_json_is(&event.ph, "\"E\"") && now->bound_ns)
			now->bound_ns = event.ts > 1 ? event.ts : 0;
		return pt_json_is(&event.ph, "\"s\"") ? take_arrow(now, &event) : 0;
	}
	if (!pt_json_is(&event.ph, "\"X\"") || !event.args.len)
		return 0;
	if (pt_json_is(&event.cat, "\"nccl\""))
		return take_call(nccl, &event);
	if (pt_json_is(&event.cat, "\"cuda_runtime\"") || pt_json_is(&event.cat, "\"cuda_driver\""))
		return take_launch(now, &event);
	return 0;
}

/* ---- a file's calls in order ---- */

static int by_begin(const void *a, const void *b)
{
	const struct call *x = a, *y = b;

	if (x->begin_ns != y->begin_ns)
		return x->begin_ns < y->begin_ns ? -1 : 1;
	return x->end_ns > y->end_ns ? -1 : x->end_ns < y->end_ns;
}

/* What a call of NCCL calls of NCCL itself is a part of it. */
static bool is_inner(struct reading *now, struct thread *thread, uint32_t index)
{
	struct call *call = &now->calls[index], *outer;

	if (call->begin_ns >= thread->outer_end_ns) {
		thread->outer = index;
		thread->outer_end_ns = call->end_ns;
		return false;
	}
	outer = &now->calls[thread->outer];
	outer->launched |= call->launched;
	outer->unsure |= call->launched && call->unsure;
	outer->pending += call->pending;
	if (call->work_ns > outer->work_ns)
		outer->work_ns = call->work_ns;
	call->what = NOTHING;
	return true;
}

static void enter_group(struct reading *now, struct thread *thread)
{
	if (!thread->depth++)
		thread->group = ++now->group_count;
}

static void leave_group(struct reading *now, struct thread *thread, uint32_t index)
{
	if (!thread->depth) { /* all that the thread did so far may have been in it */
		thread->unknown_until_ns = now->calls[index].end_ns;
		return;
	}
	if (--thread->depth)
		return;
	now->groups[thread->group - 1].end = index + 1;
	thread->group = 0;
}

static void put_into_group(struct reading *now, const struct thread *thread, struct call *call)
{
	struct group *group = thread->group ? &now->groups[thread->group - 1] : NULL;

	call->group = thread->group;
	if (!group || call->what == MADE)
		return;
	group->mixed |= call->what == POINT_TO_POINT || (group->comm && group->comm != call->comm);
	group->comm = call->comm;
}

/* Which call is in which group; the launches of calls within calls go to those. */
static void follow_threads(struct reading *now)
{
	for (uint32_t i = 0; i < now->count; i++) {
		struct call *call = &now->calls[i];
		struct thread *thread = pt_map_get(&now->threads, call->pid, call->tid);

		if (!thread || is_inner(now, thread, i))
			continue;
		if (call->what == GROUP_START)
			enter_group(now, thread);
		else if (call->what == GROUP_END)
			leave_group(now, thread, i);
		else if (call->what != OTHERWISE && call->what != SPLIT)
			put_into_group(now, thread, call);
	}
}

/* The call that does what this one asks for; NULL: it is not known. */
static const struct call *doing(const struct reading *now, const struct call *call)
{
	const struct thread *thread = pt_map_get(&now->threads, call->pid, call->tid);
	const struct group *group = call->group ? &now->groups[call->group - 1] : NULL;

	if (!thread || call->begin_ns < thread->unknown_until_ns)
		return NULL;
	if (!group)
		return call;
	if (!group->end || (group->mixed && call->what != MADE))
		return NULL;
	return &now->calls[group->end - 1];
}

static int64_t absolute(const struct reading *now, uint64_t ns)
{
	return ns <= INT64_MAX - now->base_ns ? (int64_t)(now->base_ns + ns) : INT64_MAX;
}

/* What the address stands for is not known from here on. */
static int forget(struct pt_map *comms, uint32_t pid, uint64_t comm)
{
	return pt_map_get(comms, pid, comm)
		   ? pt_map_put(comms, pid, comm, (void *)(uintptr_t)UNKNOWN)
		   : 0;
}

static int add_made(struct pt_nccl *nccl, const struct call *call, struct pt_map *comms)
{
	struct reading *now = &nccl->now;
	const struct call *by = doing(now, call);
	struct nccl_rank rank = {
	    .id = call->id,
	    .nranks = call->nranks,
	    .rank = call->rank,
	    .host = now->host,
	    .begin_ns = absolute(now, call->begin_ns),
	    .end_ns = by && by->done && call->done ? absolute(now, by->end_ns) : NCCL_NEVER,
	};
	uint32_t index;

	if (!call->id || !call->begun || call->nranks <= 0 || call->rank < 0)
		return forget(comms, call->pid, call->comm);
	if (nccl_ranks_add(&nccl->ranks, &rank, &index))
		return -ENOMEM;
	now->file.told = true;
	return pt_map_put(comms, call->pid, call->comm, (void *)(uintptr_t)(index + FIRST));
}

static int add_collective(struct pt_nccl *nccl, const struct call *call, const struct pt_map *comms)
{
	struct reading *now = &nccl->now;
	uintptr_t index = (uintptr_t)pt_map_get(comms, call->pid, call->comm);
	const struct call *by = doing(now, call);
	struct nccl_op op = {
	    .likeness = call->likeness,
	    .begin_ns = absolute(now, call->begin_ns),
	    .end_ns = NCCL_NEVER,
	};

	if (index < FIRST || !call->begun)
		return 0;
	if (call->what == ALL_TO_ALL && !call->unsure && call->done && by && by->done &&
	    by->launched && !by->pending && !by->unsure && by->work_ns)
		op.end_ns = absolute(now, by->work_ns);
	return nccl_ranks_op(&nccl->ranks, (uint32_t)(index - FIRST), &op);
}

static int add_calls(struct pt_nccl *nccl)
{
	struct pt_map comms = {0}; /* (pid, communicator) -> UNKNOWN or FIRST + index of its rank */
	struct reading *now = &nccl->now;
	int rc = 0;

	for (uint32_t i = 0; !rc && i < now->count; i++) {
		const struct call *call = &now->calls[i];

		if (call->what == MADE) {
			rc = add_made(nccl, call, &comms);
		} else if (call->what == OTHERWISE) {
			rc = forget(&comms, call->pid, call->newcomm ? call->newcomm : call->comm);
		} else if (call->what == SPLIT) {
			rc = forget(&comms, call->pid, call->newcomm);
		} else if (!now->file.full &&
			   (call->what == ALL_TO_ALL || call->what == COLLECTIVE)) {
			rc = add_collective(nccl, call, &comms);
		}
	}
	pt_map_release(&comms);
	return rc;
}

/* ---- files ---- */

static void release(struct reading *now)
{
	while (now->thread_list) {
		struct thread *thread = now->thread_list;

		now->thread_list = thread->next;
		free(thread);
	}
	pt_map_release(&now->threads);
	pt_map_release(&now->by_correlation);
	free(now->groups);
	free(now->calls);
	now->groups = NULL;
	now->calls = NULL;
	now->count = now->size = now->group_count = 0;
}

struct pt_nccl *pt_nccl_new(void)
{
	return calloc(1, sizeof(struct pt_nccl));
}

void pt_nccl_free(struct pt_nccl *nccl)
{
	if (!nccl)
		return;
	release(&nccl->now);
	nccl_ranks_release(&nccl->ranks);
	free(nccl);
}

void pt_nccl_file_begin(struct pt_nccl *nccl, uint32_t host, uint64_t base_ns)
{
	release(&nccl->now);
	nccl->now = (struct reading){
	    .host = host, .base_ns = base_ns, .file = {.first_ns = UINT64_MAX}};
}

int pt_nccl_file_end(struct pt_nccl *nccl, bool whole)
{
	struct reading *now = &nccl->now;
	int rc = 0;

	if (whole && now->count && now->base_ns <= INT64_MAX) {
		qsort(now->calls, now->count, sizeof(now->calls[0]), by_begin);
		now->groups = calloc(now->count, sizeof(now->groups[0]));
		rc = now->groups ? 0 : -ENOMEM;
	}
	if (!rc && now->groups) {
		follow_threads(now);
		rc = add_calls(nccl);
	}
	release(now);
	return rc;
}

const struct pt_nccl_file *pt_nccl_file(const struct pt_nccl *nccl)
{
	return &nccl->now.file;
}

int pt_nccl_compare(struct pt_nccl *nccl, uint32_t hosts, struct pt_clock_bounds *bounds,
		    struct pt_nccl_result *result)
{
	return nccl_ranks_compare(&nccl->ranks, hosts, bounds, result);
}
