// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * What was counted, as series.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "sink/metrics_parts.h"

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
	if (counter == CALLS || counter == CALL_NS)
		return metrics->calls;
	return metrics->events || counter == LOST_EVENTS;
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

		if (which == SAMPLED_TIME
			? !list[i]->sampled_ns
			: list[i]->sampled_ns && !list[i]->calls && !list[i]->self_ns)
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
	metrics_fold_ended(metrics, now_ns);
	for (int i = 0; i < COUNTERS; i++)
		if (is_counted(metrics, i))
			give_counter(metrics, i, sink);
	give_all_functions(metrics, sink);
	if (metrics->calls)
		give_rest(metrics, sink);
	pthread_mutex_unlock(&metrics->lock);
}
