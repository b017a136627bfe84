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
	const struct pt_tracer_stats *stats = &agent->stats;

	add_counter(out, "pytrace_agent_events_total", stats->events,
		    "Calls and returns that were met, lost ones included.");
	add_name(out, "pytrace_agent_lost_total", PT_SERIES_COUNTER, PT_SERIES_PLAIN,
		 "What could not be recorded: events, by cause, and records beside them.");
	add_labelled(out, "cause", "buffer_full", stats->lost_events);
	add_labelled(out, "cause", "records", stats->lost_records);
	add_labelled(out, "cause", "no_thread_memory", stats->missed);
	add_labelled(out, "cause", "cuda_nested_too_deep", stats->cuda_missed);
}

static void add_attaching(const struct agent *agent, struct out *out)
{
	static const char *const failures[FAILURES] = {[FAILED_PERMISSION] = "permission",
						       [FAILED_UNSUPPORTED] = "unsupported",
						       [FAILED_ENDED] = "ended",
						       [FAILED_OVERHEAD] = "overhead",
						       [FAILED_OTHER] = "other"};

	const struct agent_recording *now = agent_recording_now(agent);

	add_gauge(out, "pytrace_agent_processes", PT_SERIES_PLAIN, now ? now->process_count : 0,
		  "Processes that are recorded now.");
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
	uint64_t gap_ns = agent->gap_ns + (agent->shut_ns ? pt_now_ns() - agent->shut_ns : 0);
	uint64_t backlog_bytes = 0;

	add_name(out, "pytrace_agent_sessions_total", PT_SERIES_COUNTER, PT_SERIES_PLAIN,
		 "Recordings that were begun, by reason.");
	for (int i = 0; i < WHYS; i++)
		add_labelled(out, "reason", whys[i], agent->whys[i]);
	add_name(out, "pytrace_agent_gap_seconds_total", PT_SERIES_COUNTER, PT_SERIES_NS,
		 "Time between two recordings: what happened then is not counted.");
	add_labelled(out, NULL, NULL, gap_ns);
	add_counter(out, "pytrace_agent_reloads_total", agent->reloads,
		    "How often the configuration was to be read anew.");
	add_counter(out, "pytrace_agent_reload_failures_total", agent->bad_reloads,
		    "Of these, how often it was wrong, and stayed as it was.");
	for (const struct agent_recording *r = agent->recordings; r; r = r->next)
		backlog_bytes += r->backlog_bytes;
	add_gauge(out, "pytrace_agent_backlog_bytes", PT_SERIES_BYTES, backlog_bytes,
		  "Records that wait to be counted.");
}

static uint64_t ratio(uint64_t spent_ns, uint64_t own_ns)
{
	return own_ns ? (uint64_t)((double)spent_ns / (double)own_ns * 1e9) : 0;
}

static void add_ratios(const struct agent *agent, struct out *out)
{
	const struct agent_recording *now = agent_recording_now(agent);

	add_name(
	    out, "pytrace_overhead_ratio", PT_SERIES_GAUGE, PT_SERIES_RATIO,
	    "What the probes have taken of the process, over its own CPU time: its share of the "
	    "calls of what they took of all.");
	for (size_t i = 0; now && i < now->process_count && i < agent->ratios_max; i++) {
		const struct agent_process *process = &now->processes[i];
		const struct pt_series_sample sample = {
		    .process = process->name,
		    .pid = process->pid,
		    .value = ratio(process->spent_ns, process->own_ns)};

		out->sink->sample(&out->name, &sample, out->sink->ctx);
	}
}

static void add_overhead(const struct agent *agent, struct out *out)
{
	const struct pt_session_overhead *sum = &agent->overhead, none = {0};
	const struct agent_recording *now = agent_recording_now(agent);
	const struct pt_session_overhead *own = now ? &now->overhead : &none;

	if (!sum->known)
		return;
	add_name(out, "pytrace_agent_probes_seconds_total", PT_SERIES_COUNTER, PT_SERIES_NS,
		 "CPU time of the recorded processes that the probes took.");
	add_labelled(out, NULL, NULL, sum->spent_ns);
	add_name(out, "pytrace_agent_recorded_cpu_seconds_total", PT_SERIES_COUNTER, PT_SERIES_NS,
		 "CPU time that the recorded processes used for themselves.");
	add_labelled(out, NULL, NULL, sum->own_ns);
	add_gauge(out, "pytrace_agent_overhead_ratio", PT_SERIES_RATIO,
		  ratio(own->spent_ns, own->own_ns), "The one over the other, in this recording.");
	add_gauge(out, "pytrace_agent_resting", PT_SERIES_PLAIN, own->resting,
		  "1: recording rests, to stay within the limit on overhead.");
	add_gauge(
	    out, "pytrace_agent_level", PT_SERIES_PLAIN, own->level,
	    "What is recorded now: 0 everything, 1 no C functions, 2 in windows, 3 samples, 4 "
	    "nothing.");
	add_counter(out, "pytrace_agent_rests_total", sum->rests, "How often it rested.");
	add_name(out, "pytrace_agent_recorded_seconds_total", PT_SERIES_COUNTER, PT_SERIES_NS,
		 "For how long it recorded.");
	add_labelled(out, NULL, NULL, sum->recorded_ns);
	add_name(out, "pytrace_agent_rested_seconds_total", PT_SERIES_COUNTER, PT_SERIES_NS,
		 "For how long it rested: what happened then is not counted.");
	add_labelled(out, NULL, NULL, sum->rested_ns);
	add_name(out, "pytrace_agent_sampled_seconds_total", PT_SERIES_COUNTER, PT_SERIES_NS,
		 "For how long of that it took samples.");
	add_labelled(out, NULL, NULL, sum->sampled_ns);
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

/* what: "pytrace_agent_otlp", or of the exporter of traces; items: what is in their messages. */
static void add_otlp(struct agent_otlp_stats *stats, const char *what, const char *items,
		     struct out *out)
{
	static const char *const causes[AGENT_OTLP_RETRIES] = {
	    [AGENT_OTLP_UNREACHABLE] = "unreachable",
	    [AGENT_OTLP_SLOW] = "slow",
	    [AGENT_OTLP_BUSY] = "busy"};
	struct agent_outbox_stats *outbox = &stats->outbox;
	char name[80];

#define NAME(...) (snprintf(name, sizeof(name), __VA_ARGS__), name)
	add_name(out, NAME("%s_messages_total", what), PT_SERIES_COUNTER, PT_SERIES_PLAIN,
		 "Messages for the collector that are done with, by what became of them.");
	add_labelled(out, "result", "sent", atomic_load(&stats->sent));
	add_labelled(out, "result", "refused", atomic_load(&stats->refused));
	add_labelled(out, "result", "dropped", atomic_load(&outbox->dropped));
	add_labelled(out, "result", "corrupt", atomic_load(&outbox->corrupt));
	add_counter(out, NAME("%s_sent_bytes_total", what), atomic_load(&stats->sent_bytes),
		    "Of the messages that were sent, compressed.");
	add_counter(out, NAME("%s_refused_%s_total", what, items),
		    atomic_load(&stats->refused_items),
		    "What the collector refused of messages that it took.");
	add_name(out, NAME("%s_retries_total", what), PT_SERIES_COUNTER, PT_SERIES_PLAIN,
		 "Messages that are to be sent again, by cause.");
	for (int i = 0; i < AGENT_OTLP_RETRIES; i++)
		add_labelled(out, "cause", causes[i], atomic_load(&stats->retries[i]));
	add_counter(out, NAME("%s_spool_errors_total", what), atomic_load(&outbox->write_errors),
		    "Messages that could not be written to the spool, and waited in memory.");
	add_gauge(out, NAME("%s_waiting_messages", what), PT_SERIES_PLAIN,
		  atomic_load(&outbox->messages), "Messages that wait to be sent.");
	add_gauge(out, NAME("%s_waiting_bytes", what), PT_SERIES_BYTES, atomic_load(&outbox->bytes),
		  "Of these.");
#undef NAME
}

static void add_traces(struct agent_trace_stats *stats, struct out *out)
{
	static const char *const results[AGENT_TRACE_RESULTS] = {
	    [AGENT_TRACE_TOLD] = "told",
	    [AGENT_TRACE_OVER_LIMIT] = "over_limit",
	    [AGENT_TRACE_INCOMPLETE] = "incomplete",
	    [AGENT_TRACE_NO_ROOM] = "no_room"};

	add_name(out, "pytrace_agent_slow_requests_total", PT_SERIES_COUNTER, PT_SERIES_PLAIN,
		 "Requests that took longer than their rule's limit, by what became of them.");
	for (int i = 0; i < AGENT_TRACE_RESULTS; i++)
		add_labelled(out, "result", results[i], atomic_load(&stats->results[i]));
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
		add_otlp(&agent->otlp_stats, "pytrace_agent_otlp", "points", &out);
	if (atomic_load(&agent->trace_stats.used)) {
		add_traces(&agent->trace_stats, &out);
		add_otlp(&agent->otlp_traces_stats, "pytrace_agent_otlp_traces", "spans", &out);
	}
	add_captures(agent, &out);
	add_own(&out);
	pt_metrics_walk(agent->metrics, pt_now_ns(), sink);
}
