/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * metrics_parts.h - what metrics.c, which counts, and metrics_series.c, which tells, share.
 */
#ifndef PT_SINK_METRICS_PARTS_H
#define PT_SINK_METRICS_PARTS_H

#include <pthread.h>

#include "base/map.h"
#include "sink/metrics.h"

#define THREAD_BUCKETS 1024

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
	bool calls, events, samples; /* options had that at some time */
	struct metric_process *processes;
	size_t process_count;
	struct metric_process other, ended;
	struct metric_function *functions;
	size_t function_count, function_room;
	struct pt_map function_by_hash; /* the newest + 1 */
	uint32_t *model_functions;      /* the model's id: function + 1; 0: it has no name here */
	size_t model_room;
	uint64_t model_size;
	uint64_t since_ns, begun_ns; /* of the model: prepared, and counted */
	struct metric_thread *threads[THREAD_BUCKETS];
};

/* ---- metrics.c ---- */

void metrics_fold_ended(struct pt_metrics *metrics, uint64_t now_ns);

#endif
