// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
#include "sink/metrics.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/map.h"
#include "cuda/table.h"

#define FUNCTIONS_PER_PROCESS 4096
#define FUNCTIONS_MAX         65536
#define DEPTH_MAX             65536
#define THREAD_BUCKETS        1024

enum counter {
	CALLS,
	CALL_NS, /* self time of all functions */
	GC_COUNT,
	GC_NS,
	GIL_COUNT,
	GIL_NS,
	EXCEPTIONS,
	CUDA_CALLS,
	CUDA_LAUNCHES,
	CUDA_ERRORS,
	LOST_EVENTS,
	SAMPLES,
	SAMPLED_NS,
	COUNTERS
};

static const struct pt_series_name counter_names[COUNTERS] = {
    [CALLS] = {"pytrace_calls_total", "Calls of Python functions that have ended.",
	       PT_SERIES_COUNTER, PT_SERIES_PLAIN},
    [CALL_NS] = {"pytrace_self_seconds_total",
		 "Time in Python functions that have ended, without what they called.",
		 PT_SERIES_COUNTER, PT_SERIES_NS},
    [GC_COUNT] = {"pytrace_gc_collections_total", "Garbage collections.", PT_SERIES_COUNTER,
		  PT_SERIES_PLAIN},
    [GC_NS] = {"pytrace_gc_seconds_total", "Time in garbage collections.", PT_SERIES_COUNTER,
	       PT_SERIES_NS},
    [GIL_COUNT] = {"pytrace_gil_waits_total", "Waits for the global interpreter lock.",
		   PT_SERIES_COUNTER, PT_SERIES_PLAIN},
    [GIL_NS] = {"pytrace_gil_wait_seconds_total", "Time threads waited for the GIL.",
		PT_SERIES_COUNTER, PT_SERIES_NS},
    [EXCEPTIONS] = {"pytrace_exceptions_total", "Exceptions that reached Python code.",
		    PT_SERIES_COUNTER, PT_SERIES_PLAIN},
    [CUDA_CALLS] = {"pytrace_cuda_calls_total", "Calls of CUDA functions and of NCCL.",
		    PT_SERIES_COUNTER, PT_SERIES_PLAIN},
    [CUDA_LAUNCHES] = {"pytrace_cuda_launches_total",
		       "Calls that launch CUDA kernels, graphs or host functions.",
		       PT_SERIES_COUNTER, PT_SERIES_PLAIN},
    [CUDA_ERRORS] = {"pytrace_cuda_errors_total", "Calls of CUDA functions that failed.",
		     PT_SERIES_COUNTER, PT_SERIES_PLAIN},
    [LOST_EVENTS] = {"pytrace_lost_events_total",
		     "Calls and returns that are missing in what is counted here.",
		     PT_SERIES_COUNTER, PT_SERIES_PLAIN},
    [SAMPLES] = {"pytrace_samples_total", "Looks at what a thread was running.", PT_SERIES_COUNTER,
		 PT_SERIES_PLAIN},
    [SAMPLED_NS] = {"pytrace_sampled_seconds_total", "CPU time that the samples stand for.",
		    PT_SERIES_COUNTER, PT_SERIES_NS},
};

/* A name, once for all processes. */
struct metric_function {
	uint64_t hash;
	uint32_t line;
	char *file, *name;
	uint32_t next_same_hash; /* plus one */
};

struct function_count {
	uint32_t function;
	uint64_t calls, self_ns;
	uint64_t sampled_ns; /* what the others are without, and the other way round */
};

struct metric_process {
	pid_t pid;
	char name[64];
	uint64_t began_ns; /* its series do; of those for several processes 0 */
	uint64_t ended_ns; /* 0: it runs */
	bool exited;       /* it, and not only the recording: its number may be another's next */
	uint64_t counters[COUNTERS];
	struct function_count *functions;
	size_t function_count, function_room;
	struct pt_map function_at; /* (function, 0): place + 1 */
};

/* The time of finished calls, by depth, of a thread that is in the middle of callers of them. */
struct metric_thread {
	pid_t pid, tid;
	struct metric_thread *next;
	uint32_t room;
	uint64_t *below_ns; /* [depth]: of calls at that depth, since the last end above */
};

struct pt_metrics {
	pthread_mutex_t lock;
	struct pt_metrics_options options;
	bool calls, samples; /* options had that at some time */
	struct metric_process *processes;
	size_t process_count;
	struct metric_process other, ended;
	struct metric_function *functions;
	size_t function_count, function_room;
	struct pt_map function_by_hash; /* the newest + 1 */
	uint32_t *model_functions;      /* the model's id: function + 1; 0: it has no name here */
	size_t model_room;
	uint64_t model_size;
	struct metric_thread *threads[THREAD_BUCKETS];
};

static void take_options(struct pt_metrics *metrics, const struct pt_metrics_options *options)
{
	metrics->options = *options;
	metrics->calls |= options->calls;
	metrics->samples |= options->samples;
}

int pt_metrics_new(const struct pt_metrics_options *options, struct pt_metrics **result)
{
	struct pt_metrics *metrics = calloc(1, sizeof(*metrics));

	if (!metrics)
		return -ENOMEM;
	take_options(metrics, options);
	pthread_mutex_init(&metrics->lock, NULL);
	strcpy(metrics->other.name, "other");
	strcpy(metrics->ended.name, "ended");
	*result = metrics;
	return 0;
}

void pt_metrics_set_options(struct pt_metrics *metrics, const struct pt_metrics_options *options)
{
	pthread_mutex_lock(&metrics->lock);
	take_options(metrics, options);
	pthread_mutex_unlock(&metrics->lock);
}

static void process_release(struct metric_process *process)
{
	free(process->functions);
	pt_map_release(&process->function_at);
}

/* ---- threads ---- */

static struct metric_thread **thread_at(struct pt_metrics *metrics, pid_t pid, pid_t tid)
{
	struct metric_thread **at =
	    &metrics->threads[((uint32_t)pid * 31u + (uint32_t)tid) % THREAD_BUCKETS];

	while (*at && ((*at)->pid != pid || (*at)->tid != tid))
		at = &(*at)->next;
	return at;
}

static void thread_drop(struct metric_thread **at)
{
	struct metric_thread *thread = *at;

	*at = thread->next;
	free(thread->below_ns);
	free(thread);
}

static void threads_drop(struct pt_metrics *metrics, pid_t pid, bool all)
{
	for (size_t i = 0; i < THREAD_BUCKETS; i++) {
		struct metric_thread **at = &metrics->threads[i];

		while (*at) {
			if (all || (*at)->pid == pid)
				thread_drop(at);
			else
				at = &(*at)->next;
		}
	}
}

static int thread_grow(struct metric_thread *thread, uint32_t depth)
{
	uint32_t room = thread->room ? thread->room : 32;
	uint64_t *bigger;

	while (room <= depth)
		room *= 2;
	if (room == thread->room)
		return 0;
	bigger = reallocarray(thread->below_ns, room, sizeof(*bigger));
	if (!bigger)
		return -ENOMEM;
	memset(bigger + thread->room, 0, (room - thread->room) * sizeof(*bigger));
	thread->below_ns = bigger;
	thread->room = room;
	return 0;
}

/* What the call took without those it made. Inner calls come first, so what it made is known; once
 * an outermost one has ended nothing of its thread has to be remembered. */
static int take_self_ns(struct pt_metrics *metrics, const struct pt_op_slice *slice,
			uint64_t *self_ns)
{
	uint32_t depth = slice->depth < DEPTH_MAX ? slice->depth : DEPTH_MAX;
	uint64_t all_ns = slice->end_ns - slice->begin_ns, below_ns = 0;
	struct metric_thread **at = thread_at(metrics, slice->pid, slice->tid), *thread = *at;

	if (!thread && depth > 1) {
		thread = *at = calloc(1, sizeof(*thread));
		if (!thread)
			return -ENOMEM;
		thread->pid = slice->pid;
		thread->tid = slice->tid;
	}
	if (thread) {
		if (thread_grow(thread, depth + 1))
			return -ENOMEM;
		below_ns = thread->below_ns[depth + 1];
		thread->below_ns[depth + 1] = 0;
		thread->below_ns[depth] += all_ns;
		if (depth <= 1)
			thread_drop(at);
	}
	*self_ns = all_ns > below_ns ? all_ns - below_ns : 0;
	return 0;
}

/* ---- processes ---- */

static struct metric_process *process_find(struct pt_metrics *metrics, pid_t pid)
{
	for (size_t i = 0; i < metrics->process_count; i++)
		if (metrics->processes[i].pid == pid)
			return &metrics->processes[i];
	return NULL;
}

/* Where what this process does is added. */
static struct metric_process *process_of(struct pt_metrics *metrics, pid_t pid)
{
	struct metric_process *process = process_find(metrics, pid);

	return process ? process : &metrics->other;
}

static void process_fold(struct pt_metrics *metrics, struct metric_process *process)
{
	for (int i = 0; i < COUNTERS; i++)
		metrics->ended.counters[i] += process->counters[i];
	process_release(process);
	*process = metrics->processes[--metrics->process_count];
}

static void fold_ended(struct pt_metrics *metrics, uint64_t now_ns)
{
	for (size_t i = metrics->process_count; i-- > 0;) {
		struct metric_process *process = &metrics->processes[i];

		if (process->ended_ns && now_ns >= process->ended_ns &&
		    now_ns - process->ended_ns >= metrics->options.keep_ns)
			process_fold(metrics, process);
	}
}

/* One that has ended gives way to one that begins. */
static void make_room(struct pt_metrics *metrics)
{
	struct metric_process *oldest = NULL;

	if (metrics->process_count < metrics->options.processes)
		return;
	for (size_t i = 0; i < metrics->process_count; i++) {
		struct metric_process *process = &metrics->processes[i];

		if (process->ended_ns && (!oldest || process->ended_ns < oldest->ended_ns))
			oldest = process;
	}
	if (oldest)
		process_fold(metrics, oldest);
}

static int add_process(struct pt_metrics *metrics, const struct pt_op_process *op)
{
	struct metric_process *process = process_find(metrics, op->pid), *bigger;
	char name[sizeof(process->name)];

	metrics->model_size++;
	snprintf(name, sizeof(name), "%s", op->name);
	if (process && !process->exited && !strcmp(process->name, name)) {
		process->ended_ns = 0;
		return 0;
	}
	if (process) /* another program, or another process with that number */
		process_fold(metrics, process);
	make_room(metrics);
	if (metrics->process_count >= metrics->options.processes)
		return 0;
	bigger = reallocarray(metrics->processes, metrics->process_count + 1, sizeof(*bigger));
	if (!bigger)
		return -ENOMEM;
	metrics->processes = bigger;
	process = &bigger[metrics->process_count++];
	*process = (struct metric_process){.pid = op->pid, .began_ns = op->time_ns};
	memcpy(process->name, name, sizeof(name));
	return 0;
}

void pt_metrics_begin(struct pt_metrics *metrics, uint64_t now_ns)
{
	pthread_mutex_lock(&metrics->lock);
	for (size_t i = 0; i < metrics->process_count; i++)
		if (!metrics->processes[i].ended_ns)
			metrics->processes[i].ended_ns = now_ns;
	free(metrics->model_functions);
	metrics->model_functions = NULL;
	metrics->model_room = 0;
	metrics->model_size = 0;
	threads_drop(metrics, 0, true);
	pthread_mutex_unlock(&metrics->lock);
}

/* ---- functions ---- */

/* Its number plus one, made if need be; 0: there are too many. -ENOMEM. */
static int64_t name_function(struct pt_metrics *metrics, const struct pt_function *function)
{
	uint64_t hash = pt_hash_bytes(
	    function->qualname, strlen(function->qualname),
	    pt_hash_bytes(function->file, strlen(function->file), function->line));
	uint32_t first = (uint32_t)(uintptr_t)pt_map_get(&metrics->function_by_hash, hash, 0);
	struct metric_function *entry;

	for (uint32_t n = first; n; n = metrics->functions[n - 1].next_same_hash) {
		entry = &metrics->functions[n - 1];
		if (entry->line == function->line && !strcmp(entry->file, function->file) &&
		    !strcmp(entry->name, function->qualname))
			return n;
	}
	if (metrics->function_count == FUNCTIONS_MAX)
		return 0;
	if (metrics->function_count == metrics->function_room) {
		size_t room = metrics->function_room ? 2 * metrics->function_room : 256;

		entry = reallocarray(metrics->functions, room, sizeof(*entry));
		if (!entry)
			return -ENOMEM;
		metrics->functions = entry;
		metrics->function_room = room;
	}
	entry = &metrics->functions[metrics->function_count];
	*entry = (struct metric_function){.hash = hash,
					  .line = function->line,
					  .file = strdup(function->file),
					  .name = strdup(function->qualname),
					  .next_same_hash = first};
	if (!entry->file || !entry->name ||
	    pt_map_put(&metrics->function_by_hash, hash, 0,
		       (void *)(uintptr_t)(metrics->function_count + 1))) {
		free(entry->file);
		free(entry->name);
		return -ENOMEM;
	}
	return (int64_t)++metrics->function_count;
}

static int add_function(struct pt_metrics *metrics, const struct pt_function *function)
{
	size_t room = metrics->model_room ? metrics->model_room : 256;
	int64_t number = name_function(metrics, function);
	uint32_t *bigger;

	if (number < 0)
		return (int)number;
	metrics->model_size++;
	while (room <= function->id)
		room *= 2;
	if (room > metrics->model_room) {
		bigger = reallocarray(metrics->model_functions, room, sizeof(*bigger));
		if (!bigger)
			return -ENOMEM;
		memset(bigger + metrics->model_room, 0,
		       (room - metrics->model_room) * sizeof(*bigger));
		metrics->model_functions = bigger;
		metrics->model_room = room;
	}
	metrics->model_functions[function->id] = (uint32_t)number;
	return 0;
}

/* NULL: it is not counted by name. */
static struct function_count *count_of(struct metric_process *process, uint32_t function)
{
	uintptr_t place = (uintptr_t)pt_map_get(&process->function_at, function, 0);
	struct function_count *bigger;

	if (place)
		return &process->functions[place - 1];
	if (process->function_count == FUNCTIONS_PER_PROCESS)
		return NULL;
	if (process->function_count == process->function_room) {
		size_t room = process->function_room ? 2 * process->function_room : 64;

		bigger = reallocarray(process->functions, room, sizeof(*bigger));
		if (!bigger)
			return NULL;
		process->functions = bigger;
		process->function_room = room;
	}
	if (pt_map_put(&process->function_at, function, 0,
		       (void *)(uintptr_t)(process->function_count + 1)))
		return NULL;
	bigger = &process->functions[process->function_count++];
	*bigger = (struct function_count){.function = function};
	return bigger;
}

/* ---- ops ---- */

static int add_slice(struct pt_metrics *metrics, const struct pt_op_slice *slice)
{
	struct metric_process *process = process_of(metrics, slice->pid);
	uint32_t id = slice->function->id;
	uint32_t function = id < metrics->model_room ? metrics->model_functions[id] : 0;
	unsigned int calls = !(slice->flags & PT_SLICE_OPEN_AT_START);
	struct function_count *count = NULL;
	uint64_t self_ns;
	int rc = take_self_ns(metrics, slice, &self_ns);

	if (rc)
		return rc;
	process->counters[CALLS] += calls;
	process->counters[CALL_NS] += self_ns;
	if (function && process != &metrics->other)
		count = count_of(process, function);
	if (count) {
		count->calls += calls;
		count->self_ns += self_ns;
	}
	return 0;
}

/* The time is its innermost function's. */
static void add_sample(struct pt_metrics *metrics, const struct pt_op_sample *sample)
{
	struct metric_process *process = process_of(metrics, sample->pid);
	uint32_t id = sample->functions[0]->id;
	uint32_t function = id < metrics->model_room ? metrics->model_functions[id] : 0;
	struct function_count *count = NULL;

	process->counters[SAMPLES]++;
	process->counters[SAMPLED_NS] += sample->period_ns;
	if (function && process != &metrics->other)
		count = count_of(process, function);
	if (count)
		count->sampled_ns += sample->period_ns;
}

static void add_span(struct pt_metrics *metrics, const struct pt_op_span *span)
{
	uint64_t *counters = process_of(metrics, span->pid)->counters;
	unsigned int begun = !(span->flags & PT_SLICE_OPEN_AT_START);
	uint64_t ns = span->end_ns - span->begin_ns;

	if (!strcmp(span->category, "gc")) {
		counters[GC_COUNT] += begun;
		counters[GC_NS] += ns;
	} else if (!strcmp(span->category, "gil")) {
		counters[GIL_COUNT] += begun;
		counters[GIL_NS] += ns;
	} else if (!strncmp(span->category, "cuda_", 5) || !strcmp(span->category, "nccl")) {
		counters[CUDA_CALLS] += begun;
		if (pt_cuda_group(span->name) == PT_CUDA_GROUP_LAUNCH)
			counters[CUDA_LAUNCHES] += begun;
	}
}

static void add_instant(struct pt_metrics *metrics, const struct pt_op_instant *instant)
{
	struct metric_process *process = process_of(metrics, instant->pid);

	if (!instant->category)
		return;
	if (!strcmp(instant->category, "exception"))
		process->counters[EXCEPTIONS]++;
	else if (!strcmp(instant->category, "cuda_error"))
		process->counters[CUDA_ERRORS]++;
	else if (!strcmp(instant->category, "process") && !strcmp(instant->name, "process exit") &&
		 process != &metrics->other) {
		process->ended_ns = instant->time_ns;
		process->exited = true;
	}
}

static int take_op(struct pt_metrics *metrics, const struct pt_op *op)
{
	switch (op->kind) {
	case PT_OP_SLICE:
		return add_slice(metrics, &op->slice);
	case PT_OP_SPAN:
		add_span(metrics, &op->span);
		return 0;
	case PT_OP_INSTANT:
		add_instant(metrics, &op->instant);
		return 0;
	case PT_OP_SAMPLE:
		add_sample(metrics, &op->sample);
		return 0;
	case PT_OP_FUNCTION:
		return add_function(metrics, &op->function);
	case PT_OP_PROCESS:
		return add_process(metrics, &op->process);
	case PT_OP_THREAD:
		metrics->model_size++;
		return 0;
	case PT_OP_LOSS:
		process_of(metrics, op->loss.pid)->counters[LOST_EVENTS] += op->loss.events;
		return 0;
	case PT_OP_STACK:
	case PT_OP_STATE:
	case PT_OP_RANGE:
	case PT_OP_COUNTER:
	case PT_OP_FLOW:
	case PT_OP_MEMORY:
	case PT_OP_GPU_BOUND:
	case PT_OP_CLEAR:
		return 0;
	}
	return -EINVAL;
}

int pt_metrics_op(const struct pt_op *op, void *ctx)
{
	struct pt_metrics *metrics = ctx;
	int rc;

	pthread_mutex_lock(&metrics->lock);
	rc = take_op(metrics, op);
	pthread_mutex_unlock(&metrics->lock);
	return rc;
}

uint64_t pt_metrics_model_size(struct pt_metrics *metrics)
{
	uint64_t size;

	pthread_mutex_lock(&metrics->lock);
	size = metrics->model_size;
	pthread_mutex_unlock(&metrics->lock);
	return size;
}

/* ---- the series ---- */

static void give(const struct pt_series_sink *sink, const struct pt_series_name *name,
		 const struct metric_process *process, struct pt_series_sample *sample)
{
	sample->process = process->name;
	sample->pid = process->pid;
	sample->since_ns = process->began_ns;
	sink->sample(name, sample, sink->ctx);
}

static bool is_counted(const struct pt_metrics *metrics, int counter)
{
	if (counter == SAMPLES || counter == SAMPLED_NS)
		return metrics->samples;
	return metrics->calls || counter == LOST_EVENTS;
}

static void give_counter(const struct pt_metrics *metrics, int counter,
			 const struct pt_series_sink *sink)
{
	const struct pt_series_name *name = &counter_names[counter];

	sink->name(name, sink->ctx);
	for (size_t i = 0; i < metrics->process_count + 2; i++) {
		const struct metric_process *process = i == metrics->process_count ? &metrics->other
						       : i > metrics->process_count
							   ? &metrics->ended
							   : &metrics->processes[i];
		struct pt_series_sample sample = {.value = process->counters[counter]};

		give(sink, name, process, &sample);
	}
}

static uint64_t time_of(const struct function_count *count)
{
	return count->self_ns + count->sampled_ns;
}

static int more_self_time(const void *a, const void *b)
{
	const struct function_count *const *x = a, *const *y = b;

	if (time_of(*x) != time_of(*y))
		return time_of(*x) < time_of(*y) ? 1 : -1;
	return (*x)->function < (*y)->function ? -1 : (*x)->function > (*y)->function;
}

/* The functions of a process with most self time; the caller frees them. */
static const struct function_count **top(const struct pt_metrics *metrics,
					 const struct metric_process *process, size_t *count)
{
	const struct function_count **list;

	*count = 0;
	if (!process->function_count)
		return NULL;
	list = malloc(process->function_count * sizeof(const struct function_count *));
	if (!list)
		return NULL;
	for (size_t i = 0; i < process->function_count; i++)
		list[i] = &process->functions[i];
	qsort(list, process->function_count, sizeof(const struct function_count *), more_self_time);
	*count = process->function_count < metrics->options.functions ? process->function_count
								      : metrics->options.functions;
	return list;
}

enum function_series { SELF_TIME, FUNCTION_CALLS, SAMPLED_TIME, FUNCTION_SERIES };

static void give_functions(const struct pt_metrics *metrics, enum function_series which,
			   const struct pt_series_name *name, const struct metric_process *process,
			   const struct pt_series_sink *sink)
{
	size_t count;
	const struct function_count **list = top(metrics, process, &count);

	for (size_t i = 0; i < count; i++) {
		const uint64_t values[FUNCTION_SERIES] = {list[i]->self_ns, list[i]->calls,
							  list[i]->sampled_ns};
		const struct metric_function *function = &metrics->functions[list[i]->function - 1];
		struct pt_series_sample sample = {
		    .labels = {{"function", function->name}, {"file", function->file}}};
		char line[16];

		if (!list[i]->sampled_ns == (which == SAMPLED_TIME))
			continue;
		snprintf(line, sizeof(line), "%u", function->line);
		sample.labels[2] = (struct pt_series_label){"line", line};
		sample.value = values[which];
		give(sink, name, process, &sample);
	}
	free(list);
}

static void give_all_functions(const struct pt_metrics *metrics, const struct pt_series_sink *sink)
{
	static const struct pt_series_name names[FUNCTION_SERIES] = {
	    [SELF_TIME] = {"pytrace_function_self_seconds_total",
			   "Self time of the functions with most self time.", PT_SERIES_COUNTER,
			   PT_SERIES_NS},
	    [FUNCTION_CALLS] = {"pytrace_function_calls_total",
				"Calls of the functions with most self time.", PT_SERIES_COUNTER,
				PT_SERIES_PLAIN},
	    [SAMPLED_TIME] = {"pytrace_function_sampled_seconds_total",
			      "CPU time in the functions with most of it, by samples.",
			      PT_SERIES_COUNTER, PT_SERIES_NS},
	};

	for (enum function_series n = 0; n < FUNCTION_SERIES; n++) {
		if (!(n == SAMPLED_TIME ? metrics->samples : metrics->calls))
			continue;
		sink->name(&names[n], sink->ctx);
		for (size_t i = 0; i < metrics->process_count; i++)
			give_functions(metrics, n, &names[n], &metrics->processes[i], sink);
	}
}

/* A gauge, since it falls when a function gets series of its own. */
static void give_rest(const struct pt_metrics *metrics, const struct pt_series_sink *sink)
{
	static const struct pt_series_name name = {
	    "pytrace_other_functions_self_seconds",
	    "Self time of the functions that have no series of their own now.", PT_SERIES_GAUGE,
	    PT_SERIES_NS};

	sink->name(&name, sink->ctx);
	for (size_t i = 0; i < metrics->process_count; i++) {
		const struct metric_process *process = &metrics->processes[i];
		struct pt_series_sample sample = {.value = process->counters[CALL_NS]};
		size_t count;
		const struct function_count **list = top(metrics, process, &count);

		for (size_t f = 0; f < count; f++)
			sample.value -= list[f]->self_ns;
		free(list);
		give(sink, &name, process, &sample);
	}
}

void pt_metrics_walk(struct pt_metrics *metrics, uint64_t now_ns, const struct pt_series_sink *sink)
{
	pthread_mutex_lock(&metrics->lock);
	fold_ended(metrics, now_ns);
	for (int i = 0; i < COUNTERS; i++)
		if (is_counted(metrics, i))
			give_counter(metrics, i, sink);
	give_all_functions(metrics, sink);
	if (metrics->calls)
		give_rest(metrics, sink);
	pthread_mutex_unlock(&metrics->lock);
}

void pt_metrics_free(struct pt_metrics *metrics)
{
	if (!metrics)
		return;
	for (size_t i = 0; i < metrics->process_count; i++)
		process_release(&metrics->processes[i]);
	free(metrics->processes);
	for (size_t i = 0; i < metrics->function_count; i++) {
		free(metrics->functions[i].file);
		free(metrics->functions[i].name);
	}
	free(metrics->functions);
	pt_map_release(&metrics->function_by_hash);
	free(metrics->model_functions);
	threads_drop(metrics, 0, true);
	pthread_mutex_destroy(&metrics->lock);
	free(metrics);
}
