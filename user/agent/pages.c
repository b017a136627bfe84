// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/* What the agent answers. Runs in the server's thread. */
#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cjson/cJSON.h>

#include "agent/agent_parts.h"
#include "target/maps.h"

/* The recorder looks around twice a second; but beginning and ending a session takes it up to a
 * second for each process. */
#define STUCK_NS 300000000000ull

static void add_head(struct pt_buf *text, const char *name, const char *type, const char *help)
{
	pt_buf_printf(text, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void add_number(struct pt_buf *text, const char *name, const char *type, const char *help,
		       uint64_t value)
{
	add_head(text, name, type, help);
	pt_buf_printf(text, "%s %llu\n", name, (unsigned long long)value);
}

static void add_labelled(struct pt_buf *text, const char *name, const char *label,
			 const char *value, uint64_t number)
{
	pt_buf_printf(text, "%s{%s=\"%s\"} %llu\n", name, label, value, (unsigned long long)number);
}

static void add_losses(const struct agent *agent, struct pt_buf *text)
{
	const struct pt_tracer_stats *a = &agent->before, *b = &agent->stats;
	const char *name = "pytrace_agent_lost_total";

	add_number(text, "pytrace_agent_events_total", "counter",
		   "Calls and returns that were met, lost ones included.", a->events + b->events);
	add_head(text, name, "counter",
		 "What could not be recorded: events, by cause, and records beside them.");
	add_labelled(text, name, "cause", "buffer_full", a->lost_events + b->lost_events);
	add_labelled(text, name, "cause", "records", a->lost_records + b->lost_records);
	add_labelled(text, name, "cause", "no_thread_memory", a->missed + b->missed);
	add_labelled(text, name, "cause", "cuda_nested_too_deep", a->cuda_missed + b->cuda_missed);
}

static void add_attaching(const struct agent *agent, struct pt_buf *text)
{
	static const char *const failures[FAILURES] = {[FAILED_PERMISSION] = "permission",
						       [FAILED_UNSUPPORTED] = "unsupported",
						       [FAILED_ENDED] = "ended",
						       [FAILED_OTHER] = "other"};
	static const char *const whys[WHYS] = {[WHY_START] = "start",
					       [WHY_RELOAD] = "reload",
					       [WHY_ROTATE] = "rotate",
					       [WHY_BACKLOG] = "backlog",
					       [WHY_ERROR] = "error"};
	const char *name = "pytrace_agent_attach_failures_total";

	add_number(text, "pytrace_agent_processes", "gauge", "Processes that are recorded now.",
		   agent->recording ? agent->process_count : 0);
	add_number(text, "pytrace_agent_attached_total", "counter",
		   "Processes that were attached to.", agent->attached);
	add_head(text, name, "counter",
		 "Processes that a rule includes and that are not recorded.");
	for (int i = 0; i < FAILURES; i++)
		add_labelled(text, name, "reason", failures[i], agent->failures[i]);
	name = "pytrace_agent_sessions_total";
	add_head(text, name, "counter",
		 "Recordings that were begun, by reason; between two of them nothing is counted.");
	for (int i = 0; i < WHYS; i++)
		add_labelled(text, name, "reason", whys[i], agent->whys[i]);
	add_number(text, "pytrace_agent_reloads_total", "counter",
		   "How often the configuration was to be read anew.", agent->reloads);
	add_number(text, "pytrace_agent_reload_failures_total", "counter",
		   "Of these, how often it was wrong, and stayed as it was.", agent->bad_reloads);
	add_number(text, "pytrace_agent_backlog_bytes", "gauge", "Records that wait to be counted.",
		   agent->backlog_bytes);
}

static uint64_t resident_bytes(void)
{
	unsigned long pages = 0;
	char *text;
	size_t size;

	if (pt_proc_read("/proc/self/statm", 4096, &text, &size))
		return 0;
	if (sscanf(text, "%*u %lu", &pages) != 1)
		pages = 0;
	free(text);
	return (uint64_t)pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

static uint64_t open_files(void)
{
	DIR *dir = opendir("/proc/self/fd");
	uint64_t count = 0;

	while (dir && readdir(dir))
		count++;
	if (dir)
		closedir(dir);
	return count > 3 ? count - 3 : 0; /* ".", ".." and this one */
}

static void add_own(struct pt_buf *text)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	add_head(text, "pytrace_agent_cpu_seconds_total", "counter", "CPU time of the agent.");
	pt_buf_printf(text, "pytrace_agent_cpu_seconds_total %.6f\n",
		      (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
			  (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6);
	add_number(text, "pytrace_agent_resident_bytes", "gauge", "Memory of the agent.",
		   resident_bytes());
	add_number(text, "pytrace_agent_open_files", "gauge",
		   "Descriptors of the agent; probes take most.", open_files());
	add_head(text, "pytrace_agent_info", "gauge", "The version of the agent.");
	add_labelled(text, "pytrace_agent_info", "version", PT_VERSION, 1);
}

static unsigned int metrics(struct agent *agent, struct pt_buf *text)
{
	pthread_mutex_lock(&agent->lock);
	add_losses(agent, text);
	add_attaching(agent, text);
	pthread_mutex_unlock(&agent->lock);
	add_own(text);
	pt_metrics_text(agent->metrics, agent_now_ns(), text);
	return 200;
}

static unsigned int health(struct agent *agent, struct pt_buf *text)
{
	uint64_t ticked_ns, now_ns;

	pthread_mutex_lock(&agent->lock);
	ticked_ns = agent->ticked_ns;
	pthread_mutex_unlock(&agent->lock);
	now_ns = agent_now_ns();
	if (now_ns - ticked_ns < STUCK_NS) {
		pt_buf_add_str(text, "ok\n");
		return 200;
	}
	pt_buf_printf(text, "the recorder has not moved for %llu s\n",
		      (unsigned long long)((now_ns - ticked_ns) / 1000000000));
	return 503;
}

static void add_process(cJSON *array, const struct agent_process *process)
{
	cJSON *object = cJSON_CreateObject();

	cJSON_AddNumberToObject(object, "pid", process->pid);
	cJSON_AddNumberToObject(object, "uid", process->uid);
	cJSON_AddStringToObject(object, "name", process->name);
	cJSON_AddStringToObject(object, "version", process->version);
	cJSON_AddStringToObject(object, "engine", process->engine);
	cJSON_AddStringToObject(object, "rule", process->rule);
	cJSON_AddNumberToObject(object, "since", (double)process->since);
	if (process->reason[0])
		cJSON_AddStringToObject(object, "reason", process->reason);
	cJSON_AddItemToArray(array, object);
}

static unsigned int processes(struct agent *agent, struct pt_buf *text)
{
	cJSON *root = cJSON_CreateObject();
	cJSON *recorded = cJSON_AddArrayToObject(root, "recorded");
	cJSON *refused = cJSON_AddArrayToObject(root, "refused");
	char *printed;

	pthread_mutex_lock(&agent->lock);
	for (size_t i = 0; agent->recording && i < agent->process_count; i++)
		add_process(recorded, &agent->processes[i]);
	for (size_t i = 0; i < agent->refused_count; i++)
		add_process(refused, &agent->refused[i]);
	pthread_mutex_unlock(&agent->lock);
	printed = cJSON_PrintUnformatted(root);
	cJSON_Delete(root);
	if (printed)
		pt_buf_add_str(text, printed);
	else
		text->failed = true;
	free(printed);
	return 200;
}

unsigned int agent_answer(enum agent_page page, struct pt_buf *text, void *ctx)
{
	switch (page) {
	case AGENT_METRICS:
		return metrics(ctx, text);
	case AGENT_HEALTH:
		return health(ctx, text);
	case AGENT_PROCESSES:
		return processes(ctx, text);
	case AGENT_RELOAD:
		kill(getpid(), SIGHUP); /* the main thread waits for it */
		pt_buf_add_str(text,
			       "the configuration is read anew; the log says if it is wrong\n");
		return 202;
	}
	return 500;
}
