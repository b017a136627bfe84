// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
#include "sink/metrics.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/grow.h"
#include "cuda/table.h"
#include "sink/metrics_parts.h"

#define FUNCTIONS_PER_PROCESS 4096
#define FUNCTIONS_MAX         65536
#define DEPTH_MAX             65536

static void take_options(struct pt_metrics *metrics, const struct pt_metrics_options *options)
{
	metrics->options = *options;
	metrics->calls |= options->calls;
	metrics->events |= options->calls || options->events;
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

void metrics_fold_ended(struct pt_metrics *metrics, uint64_t now_ns)
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

/* While the recording at work was prepared: it may have met that process, too. */
static bool ended_meanwhile(const struct pt_metrics *metrics, const struct metric_process *process)
{
	return process->ended_ns >= metrics->since_ns && process->ended_ns < metrics->begun_ns;
}

static int add_process(struct pt_metrics *metrics, const struct pt_op_process *op)
{
	struct metric_process *process = process_find(metrics, op->pid), *bigger;
	char name[sizeof(process->name)];

	metrics->model_size++;
	snprintf(name, sizeof(name), "%s", op->name);
	if (process && process->exited && ended_meanwhile(metrics, process))
		return 0; /* of one that has ended the name may not be known any more */
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

void pt_metrics_begin(struct pt_metrics *metrics, uint64_t now_ns, uint64_t since_ns)
{
	pthread_mutex_lock(&metrics->lock);
	metrics->since_ns = since_ns;
	metrics->begun_ns = now_ns;
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
	entry = pt_grow(metrics->functions, metrics->function_count, &metrics->function_room, 256,
			sizeof(*entry));
	if (!entry)
		return -ENOMEM;
	metrics->functions = entry;
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
	bigger = pt_grow(process->functions, process->function_count, &process->function_room, 64,
			 sizeof(*bigger));
	if (!bigger)
		return NULL;
	process->functions = bigger;
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
