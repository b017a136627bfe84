// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/* All that the agent tells in numbers: of itself, and of what it records. Suits any thread. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "agent/agent_parts.h"
#include "agent/captures.h"
#include "base/clock.h"
#include "target/maps.h"

/* Who gets them, and the name that they are of. */
struct out {
	const struct pt_series_sink *sink;
	struct pt_series_name name;
};

static void add_name(struct out *out, const char *name, enum pt_series_kind kind,
		     enum pt_series_unit unit, const char *help)
{
	out->name = (struct pt_series_name){name, help, kind, unit};
	out->sink->name(&out->name, out->sink->ctx);
}

static void add_labelled(struct out *out, const char *label, const char *value, uint64_t number)
{
	const struct pt_series_sample sample = {.labels = {{label, value}}, .value = number};

	out->sink->sample(&out->name, &sample, out->sink->ctx);
}

static void add_counter(struct out *out, const char *name, uint64_t value, const char *help)
{
	add_name(out, name, PT_SERIES_COUNTER, PT_SERIES_PLAIN, help);
	add_labelled(out, NULL, NULL, value);
}

static void add_gauge(struct out *out, const char *name, enum pt_series_unit unit, uint64_t value,
		      const char *help)
{
	add_name(out, name, PT_SERIES_GAUGE, unit, help);
	add_labelled(out, NULL, NULL, value);
}

static void add_losses(const struct agent *agent, struct out *out)
{
	const struct pt_tracer_stats *a = &agent->before, *b = &agent->stats;

	add_counter(out, "pytrace_agent_events_total", a->events + b->events,
		    "Calls and returns that were met, lost ones included.");
	add_name(out, "pytrace_agent_lost_total", PT_SERIES_COUNTER, PT_SERIES_PLAIN,
		 "What could not be recorded: events, by cause, and records beside them.");
	add_labelled(out, "cause", "buffer_full", a->lost_events + b->lost_events);
	add_labelled(out, "cause", "records", a->lost_records + b->lost_records);
	add_labelled(out, "cause", "no_thread_memory", a->missed + b->missed);
	add_labelled(out, "cause", "cuda_nested_too_deep", a->cuda_missed + b->cuda_missed);
}

static void add_attaching(const struct agent *agent, struct out *out)
{
	static const char *const failures[FAILURES] = {[FAILED_PERMISSION] = "permission",
						       [FAILED_UNSUPPORTED] = "unsupported",
						       [FAILED_ENDED] = "ended",
						       [FAILED_OVERHEAD] = "overhead",
						       [FAILED_OTHER] = "other"};

	add_gauge(out, "pytrace_agent_processes", PT_SERIES_PLAIN,
		  agent->recording ? agent->process_count : 0, "Processes that are recorded now.");
	add_counter(out, "pytrace_agent_attached_total", agent->attached,
		    "Processes that were attached to.");
	add_name(out, "pytrace_agent_attach_failures_total", PT_SERIES_COUNTER, PT_SERIES_PLAIN,
		 "Processes that a rule includes and that are not recorded.");
	for (int i = 0; i < FAILURES; i++)
		add_labelled(out, "reason", failures[i], agent->failures[i]);
}

static void add_sessions(const struct agent *agent, struct out *out)
{
	static const char *const whys[WHYS] = {[WHY_START] = "start",
					       [WHY_RELOAD] = "reload",
					       [WHY_ROTATE] = "rotate",
					       [WHY_BACKLOG] = "backlog",
					       [WHY_ERROR] = "error"};

	add_name(out, "pytrace_agent_sessions_total", PT_SERIES_COUNTER, PT_SERIES_PLAIN,
		 "Recordings that were begun, by reason; between two of them nothing is counted.");
	for (int i = 0; i < WHYS; i++)
		add_labelled(out, "reason", whys[i], agent->whys[i]);
	add_counter(out, "pytrace_agent_reloads_total", agent->reloads,
		    "How often the configuration was to be read anew.");
	add_counter(out, "pytrace_agent_reload_failures_total", agent->bad_reloads,
		    "Of these, how often it was wrong, and stayed as it was.");
	add_gauge(out, "pytrace_agent_backlog_bytes", PT_SERIES_BYTES, agent->backlog_bytes,
		  "Records that wait to be counted.");
}

static uint64_t ratio(uint64_t spent_ns, uint64_t own_ns)
{
	return own_ns ? (uint64_t)((double)spent_ns / (double)own_ns * 1e9) : 0;
}

static void add_ratios(const struct agent *agent, struct out *out)
{
	add_name(
	    out, "pytrace_overhead_ratio", PT_SERIES_GAUGE, PT_SERIES_RATIO,
	    "What the probes have taken of the process, over its own CPU time: its share of the "
	    "calls of what they took of all.");
	for (size_t i = 0; i < agent->process_count && i < agent->ratios_max; i++) {
		const struct agent_process *process = &agent->processes[i];
		const struct pt_series_sample sample = {
		    .process = process->name,
		    .pid = process->pid,
		    .value = ratio(process->spent_ns, process->own_ns)};

		out->sink->sample(&out->name, &sample, out->sink->ctx);
	}
}

static void add_overhead(const struct agent *agent, struct out *out)
{
	const struct pt_session_overhead *a = &agent->overhead_before, *b = &agent->overhead;

	if (!a->known && !b->known)
		return;
	add_name(out, "pytrace_agent_probes_seconds_total", PT_SERIES_COUNTER, PT_SERIES_NS,
		 "CPU time of the recorded processes that the probes took.");
	add_labelled(out, NULL, NULL, a->spent_ns + b->spent_ns);
	add_name(out, "pytrace_agent_recorded_cpu_seconds_total", PT_SERIES_COUNTER, PT_SERIES_NS,
		 "CPU time that the recorded processes used for themselves.");
	add_labelled(out, NULL, NULL, a->own_ns + b->own_ns);
	add_gauge(out, "pytrace_agent_overhead_ratio", PT_SERIES_RATIO,
		  ratio(b->spent_ns, b->own_ns), "The one over the other, in this recording.");
	add_gauge(out, "pytrace_agent_resting", PT_SERIES_PLAIN, b->resting,
		  "1: recording rests, to stay within the limit on overhead.");
	add_counter(out, "pytrace_agent_rests_total", a->rests + b->rests, "How often it rested.");
	add_name(out, "pytrace_agent_recorded_seconds_total", PT_SERIES_COUNTER, PT_SERIES_NS,
		 "For how long it recorded.");
	add_labelled(out, NULL, NULL, a->recorded_ns + b->recorded_ns);
	add_name(out, "pytrace_agent_rested_seconds_total", PT_SERIES_COUNTER, PT_SERIES_NS,
		 "For how long it rested: what happened then is not counted.");
	add_labelled(out, NULL, NULL, a->rested_ns + b->rested_ns);
	add_ratios(agent, out);
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

static uint64_t time_ns(const struct timeval *time)
{
	return (uint64_t)time->tv_sec * 1000000000ull + (uint64_t)time->tv_usec * 1000ull;
}

static void add_own(struct out *out)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	add_name(out, "pytrace_agent_cpu_seconds_total", PT_SERIES_COUNTER, PT_SERIES_NS,
		 "CPU time of the agent.");
	add_labelled(out, NULL, NULL, time_ns(&usage.ru_utime) + time_ns(&usage.ru_stime));
	add_gauge(out, "pytrace_agent_resident_bytes", PT_SERIES_BYTES, resident_bytes(),
		  "Memory of the agent.");
	add_gauge(out, "pytrace_agent_open_files", PT_SERIES_PLAIN, open_files(),
		  "Descriptors of the agent; probes take most.");
	add_name(out, "pytrace_agent_info", PT_SERIES_GAUGE, PT_SERIES_PLAIN,
		 "The version of the agent.");
	add_labelled(out, "version", PT_VERSION, 1);
}

static void add_otlp(struct agent_otlp_stats *stats, struct out *out)
{
	static const char *const causes[AGENT_OTLP_RETRIES] = {
	    [AGENT_OTLP_UNREACHABLE] = "unreachable",
	    [AGENT_OTLP_SLOW] = "slow",
	    [AGENT_OTLP_BUSY] = "busy"};
	struct agent_outbox_stats *outbox = &stats->outbox;

	add_name(out, "pytrace_agent_otlp_messages_total", PT_SERIES_COUNTER, PT_SERIES_PLAIN,
		 "Messages for the collector that are done with, by what became of them.");
	add_labelled(out, "result", "sent", atomic_load(&stats->sent));
	add_labelled(out, "result", "refused", atomic_load(&stats->refused));
	add_labelled(out, "result", "dropped", atomic_load(&outbox->dropped));
	add_labelled(out, "result", "corrupt", atomic_load(&outbox->corrupt));
	add_counter(out, "pytrace_agent_otlp_sent_bytes_total", atomic_load(&stats->sent_bytes),
		    "Of the messages that were sent, compressed.");
	add_counter(out, "pytrace_agent_otlp_refused_points_total",
		    atomic_load(&stats->refused_points),
		    "Values that the collector refused of messages that it took.");
	add_name(out, "pytrace_agent_otlp_retries_total", PT_SERIES_COUNTER, PT_SERIES_PLAIN,
		 "Messages that are to be sent again, by cause.");
	for (int i = 0; i < AGENT_OTLP_RETRIES; i++)
		add_labelled(out, "cause", causes[i], atomic_load(&stats->retries[i]));
	add_counter(out, "pytrace_agent_otlp_spool_errors_total",
		    atomic_load(&outbox->write_errors),
		    "Messages that could not be written to the spool, and waited in memory.");
	add_gauge(out, "pytrace_agent_otlp_waiting_messages", PT_SERIES_PLAIN,
		  atomic_load(&outbox->messages), "Messages that wait to be sent.");
	add_gauge(out, "pytrace_agent_otlp_waiting_bytes", PT_SERIES_BYTES,
		  atomic_load(&outbox->bytes), "Of these.");
}

static void add_captures(struct agent *agent, struct out *out)
{
	struct agent_captures_counts counts;
	bool any;

	pthread_rwlock_rdlock(&agent->captures_lock);
	any = agent_captures_counts(agent->captures, &counts);
	pthread_rwlock_unlock(&agent->captures_lock);
	if (!any)
		return;
	add_name(out, "pytrace_agent_captures_total", PT_SERIES_COUNTER, PT_SERIES_PLAIN,
		 "Captures that were written, by the trigger that came first.");
	for (size_t i = 0; i < AGENT_CAPTURE_KINDS && pt_trigger_kind_name(i); i++)
		add_labelled(out, "trigger", pt_trigger_kind_name(i), counts.made[i]);
	add_counter(out, "pytrace_agent_capture_failures_total", counts.failed,
		    "Captures that could not be written.");
	if (!counts.sends)
		return;
	add_name(out, "pytrace_agent_uploads_total", PT_SERIES_COUNTER, PT_SERIES_PLAIN,
		 "Captures that were to be sent, by what became of them.");
	add_labelled(out, "result", "sent", atomic_load(&agent->uploads.sent));
	add_labelled(out, "result", "failed", atomic_load(&agent->uploads.failed));
	add_counter(out, "pytrace_agent_upload_retries_total", atomic_load(&agent->uploads.retries),
		    "How often it was tried again.");
}

void agent_series(struct agent *agent, const struct pt_series_sink *sink)
{
	struct out out = {.sink = sink};

	pthread_mutex_lock(&agent->lock);
	add_losses(agent, &out);
	add_attaching(agent, &out);
	add_sessions(agent, &out);
	add_overhead(agent, &out);
	pthread_mutex_unlock(&agent->lock);
	if (atomic_load(&agent->otlp_stats.used))
		add_otlp(&agent->otlp_stats, &out);
	add_captures(agent, &out);
	add_own(&out);
	pt_metrics_walk(agent->metrics, pt_now_ns(), sink);
}
