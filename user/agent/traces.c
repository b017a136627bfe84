// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
#include "agent/traces.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "agent/config.h"
#include "agent/trace_calls.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/map.h"
#include "flight/containers.h"
#include "flight/requests.h"

/* What is less than this part of a request is not told of. */
#define SHARE        50
#define MINUTE_NS    60000000000ull
/* Calls of an event loop's thread: their step of a task is told of right after it, as a rule. */
#define STEP_LATE_NS 10000000000ull
/* Ends of answers whose step is not over; one at a time, but for loops within loops. */
#define ANSWERS_MAX  4

/* What a function is; in a byte. */
enum role { ROLE_UNKNOWN, ROLE_NONE, ROLE_REQUEST, ROLE_TASK, ROLE_ANSWERED };

/* A process of a rule with "traces". */
struct traced {
	struct traced *next;
	pid_t pid;
	const struct agent_rule *rule; /* NULL: it has executed something that is of none */
	uint64_t limit_ns, least_ns;   /* of a request; of a call, to be kept */
	char name[256], version[32], container[PT_CONTAINER_ID_CHARS + 1];
	uint64_t minute_ns; /* when the one at work began .. */
	uint64_t in_minute; /* .. and what was told in it */
};

/* Of a thread, a greenlet or a task. */
struct track {
	struct track *next;
	struct agent_calls calls;
	uint64_t open_ns; /* when the outermost request began that is open; UINT64_MAX: none */
	uint64_t lost_ns; /* when events were missing last; 0: never */
	bool has_tasks;   /* a thread with tasks that are requests */
	bool is_task;     /* that is a request .. */
	bool is_over;     /* .. and whose answer has been given */
	uint64_t answers[ANSWERS_MAX];
	size_t next_answer;
};

/* A slow request that may be a part of another one still. */
struct waiting {
	struct waiting *next;
	const struct track *track;
	struct traced *of;
	uint64_t begin_ns;
	struct pt_otlp_trace *trace; /* NULL: it is only counted .. */
	enum agent_trace_result why; /* .. as this */
};

struct agent_traces {
	struct agent_trace_stats *stats;
	uint64_t least_ns; /* of all rules */

	pthread_mutex_t lock;                              /* for what follows */
	struct pt_otlp_trace *done[AGENT_TRACES_WAIT_MAX]; /* oldest first */
	size_t done_count;
};

/* What there is of a recording. */
struct agent_trace_watch {
	struct agent_traces *traces;
	uint64_t least_ns;
	/* the ops' thread's own */
	unsigned char *roles; /* by function */
	size_t role_count;
	struct pt_map tracks; /* (tid, pid) */
	struct track *track_list;
	struct waiting *waiting;

	pthread_mutex_t lock;    /* for what follows */
	struct pt_map processes; /* (pid, 0): struct traced */
	struct traced *traced_list;
};

/* ---- what there is ---- */

static void count(struct agent_trace_watch *watch, enum agent_trace_result result)
{
	atomic_fetch_add(&watch->traces->stats->results[result], 1);
}

static enum role find_role(const struct pt_function *function)
{
	if (pt_request_answered(function))
		return ROLE_ANSWERED;
	if (pt_request_task(function))
		return ROLE_TASK;
	return pt_request_function(function) ? ROLE_REQUEST : ROLE_NONE;
}

/* Names are compared once a function. */
static enum role role_of(struct agent_trace_watch *watch, const struct pt_function *function)
{
	if (function->id >= watch->role_count) {
		size_t size = 2 * ((size_t)function->id + 1);
		unsigned char *bigger = realloc(watch->roles, size);

		if (!bigger) /* slower, but as right */
			return find_role(function);
		memset(bigger + watch->role_count, ROLE_UNKNOWN, size - watch->role_count);
		watch->roles = bigger;
		watch->role_count = size;
	}
	if (watch->roles[function->id] == ROLE_UNKNOWN)
		watch->roles[function->id] = (unsigned char)find_role(function);
	return watch->roles[function->id];
}

/* NULL: no rule wants it. It stays where it is until the session ends. */
static struct traced *traced_find(struct agent_trace_watch *watch, pid_t pid)
{
	struct traced *traced;

	pthread_mutex_lock(&watch->lock);
	traced = pt_map_get(&watch->processes, (uint64_t)pid, 0);
	pthread_mutex_unlock(&watch->lock);
	return traced && traced->rule ? traced : NULL;
}

/* Made if need be. NULL: out of memory. */
static struct track *track_get(struct agent_trace_watch *watch, pid_t pid, pid_t tid)
{
	struct track *track = pt_map_get(&watch->tracks, (uint64_t)tid, (uint64_t)pid);

	if (track)
		return track;
	track = pt_map_make(&watch->tracks, (uint64_t)tid, (uint64_t)pid, sizeof(*track));
	if (!track)
		return NULL;
	track->open_ns = UINT64_MAX;
	track->next = watch->track_list;
	watch->track_list = track;
	return track;
}

/* ---- a trace ---- */

/* A request, and where the calls in it are. */
struct request {
	struct traced *of;
	const struct track *track;
	const struct agent_calls *calls;
	const struct pt_function *function; /* the server's */
	pid_t tid;
	uint64_t begin_ns, end_ns;
	uint64_t id; /* of the call; 0: a task */
};

/* An id; false: there is no randomness. So few bytes are given whole. */
static bool random_id(uint8_t *id, size_t len)
{
	ssize_t got;

	do {
		got = getrandom(id, len, 0);
	} while (got < 0 && errno == EINTR);
	id[0] |= 1; /* none may be all 0 */
	return got == (ssize_t)len;
}

/* The call that the program has for the request's path; NULL: not known. */
static const struct agent_call *find_handler(const struct request *request)
{
	const struct agent_calls *calls = request->calls;
	const struct pt_function *dispatcher = NULL;
	uint64_t caller = 0;

	/* callers end after what they call */
	for (size_t i = calls->count; i-- > 0;) {
		const struct agent_call *call = &calls->items[i];

		if (!call->function || call->begin_ns < request->begin_ns ||
		    call->end_ns > request->end_ns)
			continue;
		if (!dispatcher && pt_request_dispatcher(call->function)) {
			dispatcher = call->function;
			caller = call->id;
			continue;
		}
		if (!dispatcher || call->parent_id != caller)
			continue;
		switch (pt_request_callee(dispatcher, call->function)) {
		case PT_REQUEST_HANDLER:
			return call;
		case PT_REQUEST_WAY:
			caller = call->id;
			break;
		case PT_REQUEST_OWN:
			break;
		}
	}
	return NULL;
}

/* False: out of memory, or randomness. */
static bool fill_span(struct pt_otlp_span *span, const struct agent_call *call, size_t parent,
		      uint64_t since_1970_ns)
{
	const struct pt_function *function = call->function;

	if (!function && (!call->name || !call->category))
		return false;
	span->parent = parent;
	span->begin_ns = call->begin_ns + since_1970_ns;
	span->end_ns = call->end_ns + since_1970_ns;
	span->name = strdup(function ? function->qualname : call->name);
	span->file = strdup(function ? function->file : "");
	span->line = function ? function->line : 0;
	if (!function)
		span->category = strdup(call->category);
	return span->name && span->file && (function || span->category) &&
	       random_id(span->id, sizeof(span->id));
}

static bool fill_spans(struct pt_otlp_trace *trace, const struct request *request,
		       const struct agent_chosen *chosen, size_t chosen_count,
		       const struct agent_call *handler)
{
	/* now: the host's clock may have been set since the agent began */
	uint64_t since_1970_ns = pt_since_1970_ns();
	const struct agent_call first = {.begin_ns = request->begin_ns,
					 .end_ns = request->end_ns,
					 .function = handler ? handler->function
							     : request->function};

	trace->spans = calloc(1 + chosen_count, sizeof(*trace->spans));
	if (!trace->spans)
		return false;
	trace->span_count = 1 + chosen_count;
	if (!fill_span(&trace->spans[0], &first, 0, since_1970_ns))
		return false;
	for (size_t i = 0; i < chosen_count; i++)
		if (!fill_span(&trace->spans[1 + i], chosen[i].call, chosen[i].parent,
			       since_1970_ns))
			return false;
	return true;
}

/* NULL: as fill_span(). */
static struct pt_otlp_trace *build(const struct request *request)
{
	const struct agent_trace_config *wish = request->of->rule->traces;
	const struct agent_call *handler = find_handler(request);
	struct pt_otlp_trace *trace = calloc(1, sizeof(*trace));
	struct agent_chosen *chosen;
	size_t chosen_count;
	bool done;

	if (!trace)
		return NULL;
	chosen = agent_calls_choose(request->calls, request->begin_ns, request->end_ns, request->id,
				    (request->end_ns - request->begin_ns) / SHARE, wish->calls,
				    wish->calls ? handler : NULL, &chosen_count);
	trace->pid = request->of->pid;
	trace->tid = request->tid;
	trace->service = strdup(request->of->name);
	trace->request = strdup(request->function->qualname);
	trace->version = strdup(request->of->version);
	trace->container = strdup(request->of->container);
	done = trace->service && trace->request && trace->version && trace->container &&
	       random_id(trace->id, sizeof(trace->id)) &&
	       fill_spans(trace, request, chosen, chosen_count, handler);
	free(chosen);
	if (done)
		return trace;
	pt_otlp_trace_free(trace);
	return NULL;
}

/* ---- what becomes of it ---- */

/* Within "per_minute". */
static bool may_tell(struct traced *traced)
{
	uint64_t now_ns = pt_now_ns();

	if (now_ns - traced->minute_ns >= MINUTE_NS) {
		traced->minute_ns = now_ns;
		traced->in_minute = 0;
	}
	return traced->in_minute++ < traced->rule->traces->per_minute;
}

static enum agent_trace_result hand_over(struct agent_traces *traces, struct pt_otlp_trace *trace)
{
	bool has_room;

	pthread_mutex_lock(&traces->lock);
	has_room = traces->done_count < AGENT_TRACES_WAIT_MAX;
	if (has_room)
		traces->done[traces->done_count++] = trace;
	pthread_mutex_unlock(&traces->lock);
	return has_room ? AGENT_TRACE_TOLD : AGENT_TRACE_NO_ROOM;
}

static void tell(struct agent_trace_watch *watch, struct waiting *waiting)
{
	enum agent_trace_result result = waiting->why;

	if (waiting->trace && !may_tell(waiting->of)) {
		result = AGENT_TRACE_OVER_LIMIT;
	} else if (waiting->trace) {
		result = hand_over(watch->traces, waiting->trace);
		if (result == AGENT_TRACE_TOLD)
			waiting->trace = NULL;
	}
	count(watch, result);
	pt_otlp_trace_free(waiting->trace);
	free(waiting);
}

/* Of this track, those that begin at begin_ns or later: they are parts of another one. */
static void drop_inner(struct agent_trace_watch *watch, const struct track *track,
		       uint64_t begin_ns)
{
	struct waiting **at = &watch->waiting;

	while (*at) {
		struct waiting *waiting = *at;

		if (waiting->track != track || waiting->begin_ns < begin_ns) {
			at = &waiting->next;
			continue;
		}
		*at = waiting->next;
		pt_otlp_trace_free(waiting->trace);
		free(waiting);
	}
}

static void add_waiting(struct agent_trace_watch *watch, const struct request *request,
			bool is_whole)
{
	struct waiting *waiting = calloc(1, sizeof(*waiting));

	if (!waiting) {
		count(watch, AGENT_TRACE_NO_ROOM);
		return;
	}
	*waiting = (struct waiting){.next = watch->waiting,
				    .track = request->track,
				    .of = request->of,
				    .begin_ns = request->begin_ns,
				    .trace = is_whole ? build(request) : NULL,
				    .why = is_whole ? AGENT_TRACE_NO_ROOM : AGENT_TRACE_INCOMPLETE};
	watch->waiting = waiting;
}

/* ---- ops ---- */

static void keep_call(struct track *track, const struct agent_call *call, const char *category,
		      const char *name)
{
	struct agent_call own = *call;

	if (name) {
		own.category = strdup(category);
		own.name = strdup(name);
		if (!own.category || !own.name) {
			free(own.category);
			free(own.name);
			return; /* a span less */
		}
	}
	agent_calls_add(&track->calls, &own);
}

static void request_call(struct agent_trace_watch *watch, struct traced *traced,
			 struct track *track, const struct pt_op_slice *slice)
{
	const struct request request = {.of = traced,
					.track = track,
					.calls = &track->calls,
					.function = slice->function,
					.tid = slice->tid,
					.begin_ns = slice->begin_ns,
					.end_ns = slice->end_ns,
					.id = slice->id};

	if (slice->end_ns - slice->begin_ns <= traced->limit_ns)
		return;
	drop_inner(watch, track, slice->begin_ns);
	if (slice->flags & PT_SLICE_OPEN_AT_END)
		return; /* it has not ended yet */
	add_waiting(watch, &request, !slice->flags && track->lost_ns < slice->begin_ns);
}

static void on_slice(struct agent_trace_watch *watch, const struct pt_op_slice *slice)
{
	enum role role = role_of(watch, slice->function);
	uint64_t ns = slice->end_ns - slice->begin_ns;
	struct traced *traced;
	struct track *track;

	if (ns < watch->least_ns && role != ROLE_ANSWERED)
		return;
	traced = traced_find(watch, slice->pid);
	if (!traced || (ns < traced->least_ns && role != ROLE_ANSWERED))
		return;
	track = track_get(watch, slice->pid, slice->tid);
	if (!track)
		return;
	if (role == ROLE_ANSWERED)
		track->answers[track->next_answer++ % ANSWERS_MAX] = slice->begin_ns;
	if (role == ROLE_REQUEST)
		request_call(watch, traced, track, slice);
	if (ns >= traced->least_ns) {
		const struct agent_call call = {.begin_ns = slice->begin_ns,
						.end_ns = slice->end_ns,
						.id = slice->id,
						.parent_id = slice->parent_id,
						.function = slice->function};

		keep_call(track, &call, NULL, NULL);
	}
}

/* When the answer was given in this step of a task; 0: it was not. */
static uint64_t answered(const struct track *thread, const struct pt_op_span *step)
{
	for (size_t i = 0; i < ANSWERS_MAX; i++)
		if (thread->answers[i] >= step->begin_ns && thread->answers[i] < step->end_ns)
			return thread->answers[i];
	return 0;
}

static int64_t step_arg(const struct pt_op_span *step, const char *key)
{
	for (uint32_t i = 0; i < step->arg_count; i++)
		if (!strcmp(step->args[i].key, key))
			return step->args[i].number;
	return 0;
}

/* A step of a request, after all calls of it. */
static void on_step(struct agent_trace_watch *watch, const struct pt_op_span *step)
{
	struct traced *traced = traced_find(watch, step->pid);
	pid_t tid = (pid_t)step_arg(step, "thread");
	struct track *thread = traced ? track_get(watch, step->pid, tid) : NULL;
	struct track *task = traced ? track_get(watch, step->pid, step->tid) : NULL;
	struct request request;

	if (!thread || !task || task->is_over)
		return;
	thread->has_tasks = task->is_task = true;
	agent_calls_move(&thread->calls, &task->calls, step->begin_ns, step->end_ns);
	request = (struct request){.of = traced,
				   .track = task,
				   .calls = &task->calls,
				   .function = step->task,
				   .tid = tid,
				   .begin_ns = step->task_begin_ns,
				   .end_ns = answered(thread, step)};
	if (!request.end_ns)
		return;
	task->is_over = true;
	if (request.end_ns - request.begin_ns > traced->limit_ns)
		/* a step has a number if the first one was seen */
		add_waiting(watch, &request,
			    step_arg(step, "step") && thread->lost_ns < request.begin_ns);
	agent_calls_clear(&task->calls);
}

static void on_span(struct agent_trace_watch *watch, const struct pt_op_span *span)
{
	const struct agent_call call = {.begin_ns = span->begin_ns, .end_ns = span->end_ns};
	struct traced *traced;
	struct track *track;

	if (span->task) {
		if (role_of(watch, span->task) == ROLE_TASK)
			on_step(watch, span);
		return;
	}
	if (span->end_ns - span->begin_ns < watch->least_ns || !span->name)
		return;
	traced = traced_find(watch, span->pid);
	if (!traced || span->end_ns - span->begin_ns < traced->least_ns)
		return;
	/* what a task waits for is on its track, which there is if it is a request */
	track = span->tid >= PT_TRACK_TID && !strcmp(span->category, "asyncio_wait")
		    ? pt_map_get(&watch->tracks, (uint64_t)span->tid, (uint64_t)span->pid)
		    : track_get(watch, span->pid, span->tid);
	if (track && !track->is_over)
		keep_call(track, &call, span->category, span->name);
}

static void on_process(struct agent_trace_watch *watch, const struct pt_op_process *process)
{
	struct traced *traced = traced_find(watch, process->pid);

	if (traced) /* nobody but this thread reads it */
		snprintf(traced->name, sizeof(traced->name), "%s", process->name);
}

static void on_loss(struct agent_trace_watch *watch, const struct pt_op_loss *loss)
{
	struct traced *traced = traced_find(watch, loss->pid);
	struct track *track = traced ? track_get(watch, loss->pid, loss->tid) : NULL;

	if (track && loss->end_ns > track->lost_ns)
		track->lost_ns = loss->end_ns;
}

void agent_trace_watch_op(struct agent_trace_watch *watch, const struct pt_op *op)
{
	if (op->kind == PT_OP_SLICE)
		on_slice(watch, &op->slice);
	else if (op->kind == PT_OP_SPAN)
		on_span(watch, &op->span);
	else if (op->kind == PT_OP_PROCESS)
		on_process(watch, &op->process);
	else if (op->kind == PT_OP_LOSS)
		on_loss(watch, &op->loss);
}

/* ---- once a second ---- */

static int on_open(const struct pt_op *op, void *ctx)
{
	struct agent_trace_watch *watch = ctx;
	const struct pt_op_slice *slice = &op->slice;
	struct track *track;

	if (op->kind != PT_OP_SLICE || role_of(watch, slice->function) != ROLE_REQUEST)
		return 0;
	track = pt_map_get(&watch->tracks, (uint64_t)slice->tid, (uint64_t)slice->pid);
	if (track && slice->begin_ns < track->open_ns)
		track->open_ns = slice->begin_ns;
	return 0;
}

static void tell_waiting(struct agent_trace_watch *watch)
{
	struct waiting **at = &watch->waiting;

	while (*at) {
		struct waiting *waiting = *at;

		if (waiting->track->open_ns <= waiting->begin_ns) {
			at = &waiting->next;
			continue;
		}
		*at = waiting->next;
		tell(watch, waiting);
	}
}

/* Calls that ended before a request which is open are of no request that is to come; those of a
 * task are of the request that it is. */
static void forget_calls(struct agent_trace_watch *watch, uint64_t known_ns)
{
	for (struct track *track = watch->track_list; track; track = track->next) {
		uint64_t before_ns = track->open_ns;

		if (track->has_tasks && known_ns > STEP_LATE_NS &&
		    known_ns - STEP_LATE_NS < before_ns)
			before_ns = known_ns - STEP_LATE_NS;
		if (!track->is_task)
			agent_calls_drop(&track->calls, before_ns);
	}
}

void agent_trace_watch_complete(struct agent_trace_watch *watch, struct pt_model *model,
				uint64_t known_ns)
{
	for (struct track *track = watch->track_list; track; track = track->next)
		track->open_ns = UINT64_MAX;
	pt_model_open_slices(model, known_ns, on_open, watch);
	tell_waiting(watch);
	forget_calls(watch, known_ns);
}

/* ---- of a recording ---- */

int agent_trace_watch_new(struct agent_traces *traces, struct agent_trace_watch **result)
{
	struct agent_trace_watch *watch;

	*result = NULL;
	if (!traces)
		return 0;
	watch = calloc(1, sizeof(*watch));
	if (!watch)
		return -ENOMEM;
	watch->traces = traces;
	watch->least_ns = traces->least_ns;
	pthread_mutex_init(&watch->lock, NULL);
	*result = watch;
	return 0;
}

void agent_trace_watch_attached(struct agent_trace_watch *watch, pid_t pid,
				const struct agent_rule *rule, const char *version)
{
	const struct agent_trace_config *wish = rule ? rule->traces : NULL;
	struct traced *traced;

	if (!watch || (!wish && !traced_find(watch, pid)))
		return;
	traced = calloc(1, sizeof(*traced));
	if (traced) {
		traced->pid = pid;
		traced->rule = wish ? rule : NULL;
		traced->limit_ns = wish ? wish->limit_ns : 0;
		traced->least_ns = traced->limit_ns / SHARE;
		snprintf(traced->version, sizeof(traced->version), "%s", version);
		pt_container_read(pid, traced->container);
	}
	pthread_mutex_lock(&watch->lock);
	if (!traced || pt_map_put(&watch->processes, (uint64_t)pid, 0, traced)) {
		pt_error("slow requests of process %d are not told of: out of memory", pid);
		free(traced);
	} else {
		traced->next = watch->traced_list;
		watch->traced_list = traced;
	}
	pthread_mutex_unlock(&watch->lock);
}

static void release_tracks(struct agent_trace_watch *watch)
{
	while (watch->track_list) {
		struct track *track = watch->track_list;

		watch->track_list = track->next;
		agent_calls_clear(&track->calls);
		free(track);
	}
	pt_map_release(&watch->tracks);
}

void agent_trace_watch_free(struct agent_trace_watch *watch)
{
	if (!watch)
		return;
	while (watch->waiting) {
		struct waiting *waiting = watch->waiting;

		watch->waiting = waiting->next;
		tell(watch, waiting);
	}
	release_tracks(watch);
	while (watch->traced_list) {
		struct traced *traced = watch->traced_list;

		watch->traced_list = traced->next;
		free(traced);
	}
	pt_map_release(&watch->processes);
	pthread_mutex_destroy(&watch->lock);
	free(watch->roles);
	free(watch);
}

/* ---- of all ---- */

int agent_traces_new(const struct agent_config *config, struct agent_trace_stats *stats,
		     struct agent_traces **result, struct pt_err *err)
{
	uint64_t least_ns = UINT64_MAX;
	struct agent_traces *traces;

	*result = NULL;
	for (size_t i = 0; i < config->rule_count; i++) {
		const struct agent_trace_config *wish = config->rules[i].traces;

		if (wish && wish->limit_ns / SHARE < least_ns)
			least_ns = wish->limit_ns / SHARE;
	}
	if (least_ns == UINT64_MAX)
		return 0;
	traces = calloc(1, sizeof(*traces));
	if (!traces)
		return pt_err_set(err, -ENOMEM, PT_EXIT_FAILED, "", "out of memory");
	traces->stats = stats;
	traces->least_ns = least_ns;
	pthread_mutex_init(&traces->lock, NULL);
	atomic_store(&stats->used, true);
	*result = traces;
	return 0;
}

void agent_traces_free(struct agent_traces *traces)
{
	if (!traces)
		return;
	for (size_t i = 0; i < traces->done_count; i++)
		pt_otlp_trace_free(traces->done[i]);
	pthread_mutex_destroy(&traces->lock);
	free(traces);
}

size_t agent_traces_take(struct agent_traces *traces, struct pt_otlp_trace **taken, size_t max)
{
	size_t n;

	pthread_mutex_lock(&traces->lock);
	n = traces->done_count < max ? traces->done_count : max;
	memcpy(taken, traces->done, n * sizeof(*taken));
	traces->done_count -= n;
	memmove(traces->done, traces->done + n, traces->done_count * sizeof(*taken));
	pthread_mutex_unlock(&traces->lock);
	return n;
}
