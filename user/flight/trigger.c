// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
#include "flight/trigger.h"

#include <errno.h>
#include <fnmatch.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/glob.h"
#include "base/listen.h"
#include "base/parse.h"
#include "flight/requests.h"
#include "target/maps.h"

#define NS_PER_S            1000000000ull
#define DAY_S               86400
#define HTTP_PORT           "9755" /* the agent's is the one before */
/* A capture is made up to a few seconds after its trigger. */
#define SLOW_OPEN_MARGIN_NS (2 * NS_PER_S)

/* pt_trigger.matches */
enum match { MATCH_UNKNOWN, MATCH_NO, MATCH_YES };

/* ---- reading them ---- */

static int refuse(struct pt_err *err, const struct pt_trigger *trigger, const char *why)
{
	char forms[500];

	pt_trigger_forms(forms, sizeof(forms));
	return pt_err_set(err, -EINVAL, PT_EXIT_USAGE, forms, "--on '%.200s': %s", trigger->text,
			  why);
}

static int take_pattern(struct pt_trigger *trigger, const char *text, size_t len,
			struct pt_err *err)
{
	trigger->pattern = strndup(text, len);
	if (!trigger->pattern)
		return pt_err_set(err, -ENOMEM, PT_EXIT_FAILED, "", "out of memory");
	return 0;
}

static int parse_nothing(struct pt_trigger *trigger, const char *arguments, struct pt_err *err)
{
	return arguments ? refuse(err, trigger, "it takes no arguments") : 0;
}

static int parse_time(struct pt_trigger *trigger, const char *arguments, struct pt_err *err)
{
	if (!arguments || pt_parse_time_ns(arguments, &trigger->limit_ns) || !trigger->limit_ns)
		return refuse(err, trigger, "a time such as 50ms is missing");
	return 0;
}

static int parse_text(struct pt_trigger *trigger, const char *arguments, struct pt_err *err)
{
	if (!arguments || !*arguments)
		return refuse(err, trigger, "its argument is missing");
	return take_pattern(trigger, arguments, strlen(arguments), err);
}

/* A file that is there from the start does not appear. */
static int parse_file(struct pt_trigger *trigger, const char *arguments, struct pt_err *err)
{
	int rc = parse_text(trigger, arguments, err);

	trigger->was = !rc && !access(trigger->pattern, F_OK);
	return rc;
}

/* GLOB:TIME; a GLOB may hold colons. */
static int parse_glob_time(struct pt_trigger *trigger, const char *arguments, struct pt_err *err)
{
	const char *colon = arguments ? strrchr(arguments, ':') : NULL;

	if (!colon || colon == arguments)
		return refuse(err, trigger, "it needs a name and a time, with ':' between them");
	if (parse_time(trigger, colon + 1, err))
		return -EINVAL;
	return take_pattern(trigger, arguments, (size_t)(colon - arguments), err);
}

static int parse_size(struct pt_trigger *trigger, const char *arguments, struct pt_err *err)
{
	if (!arguments || pt_parse_size(arguments, &trigger->limit_bytes) || !trigger->limit_bytes)
		return refuse(err, trigger, "it needs a size: memory:host:2G");
	return 0;
}

static int parse_signal(struct pt_trigger *trigger, const char *arguments, struct pt_err *err)
{
	const char *name = arguments ? arguments : "";

	if (!strncmp(name, "SIG", 3))
		name += 3;
	trigger->signal_number = !strcmp(name, "USR1")   ? SIGUSR1
				 : !strcmp(name, "USR2") ? SIGUSR2
							 : 0;
	return trigger->signal_number ? 0 : refuse(err, trigger, "it is USR1 or USR2");
}

static int parse_clock(struct pt_trigger *trigger, const char *arguments, struct pt_err *err)
{
	unsigned int hour, minute, second = 0;
	int used = 0, used_s = 0, fields;

	/* no sign and no blank: each is followed by two digits only */
	if (!arguments || strspn(arguments, "0123456789:") != strlen(arguments))
		return refuse(err, trigger, "it is a time of day such as 23:05 or 23:05:30");
	fields = sscanf(arguments, "%2u:%2u%n:%2u%n", &hour, &minute, &used, &second, &used_s);
	if (fields == 3)
		used = used_s;
	if (fields < 2 || (size_t)used != strlen(arguments) || hour > 23 || minute > 59 ||
	    second > 59)
		return refuse(err, trigger, "it is a time of day such as 23:05 or 23:05:30");
	trigger->day_s = hour * 3600 + minute * 60 + second;
	return 0;
}

/* Nothing, a port of this host, ADDRESS:PORT or unix:/PATH. */
static int parse_http(struct pt_trigger *trigger, const char *arguments, struct pt_err *err)
{
	const char *where = arguments ? arguments : HTTP_PORT;
	char local[32];

	if (*where && strspn(where, "0123456789") == strlen(where)) {
		snprintf(local, sizeof(local), "127.0.0.1:%.20s", where);
		where = local;
	}
	if (!pt_listen_check(where))
		return refuse(err, trigger,
			      "it takes a port, a numeric address and a port, or unix:/PATH");
	return take_pattern(trigger, where, strlen(where), err);
}

/* ---- tests of trace ops ---- */

static bool fire(struct pt_fired *fired, uint64_t time_ns, pid_t pid, pid_t tid)
{
	fired->time_ns = time_ns;
	fired->pid = pid;
	fired->tid = tid;
	return true;
}

static double ms(uint64_t ns)
{
	return (double)ns / 1e6;
}

static bool is_meant(const struct pt_trigger *trigger, const struct pt_function *function)
{
	const char *const globs[] = {trigger->pattern, NULL};

	return trigger->pattern ? pt_glob_qualified(globs, "", function->qualname)
				: pt_request_function(function);
}

/* Names are compared once a function. */
static bool function_matches(struct pt_trigger *trigger, const struct pt_function *function)
{
	unsigned char *match;

	if (function->id >= trigger->match_count) {
		size_t count = 2 * ((size_t)function->id + 1);
		unsigned char *bigger = realloc(trigger->matches, count);

		if (!bigger) /* slower, but as right */
			return is_meant(trigger, function);
		memset(bigger + trigger->match_count, MATCH_UNKNOWN, count - trigger->match_count);
		trigger->matches = bigger;
		trigger->match_count = count;
	}
	match = &trigger->matches[function->id];
	if (*match == MATCH_UNKNOWN)
		*match = is_meant(trigger, function) ? MATCH_YES : MATCH_NO;
	return *match == MATCH_YES;
}

static struct pt_trigger_told *find_told(struct pt_trigger *trigger,
					 const struct pt_op_slice *slice)
{
	/* no two calls of a thread begin at the same time */
	for (size_t i = 0; i < trigger->told_count; i++)
		if (trigger->told[i].tid == slice->tid &&
		    trigger->told[i].begin_ns == slice->begin_ns)
			return &trigger->told[i];
	return NULL;
}

/* While it runs a call is told of when it has run for as long as a capture reaches back: its begin
 * would be lost otherwise, and it may never end. */
static bool slow_open(struct pt_trigger *trigger, const struct pt_op *op, uint64_t last_ns,
		      struct pt_fired *fired)
{
	const struct pt_op_slice *slice = &op->slice;
	uint64_t ns = slice->end_ns - slice->begin_ns;
	struct pt_trigger_told *told;

	if (ns <= trigger->limit_ns || ns + SLOW_OPEN_MARGIN_NS <= last_ns ||
	    !function_matches(trigger, slice->function))
		return false;
	told = find_told(trigger, slice);
	if (told)
		told->runs = true;
	if (told || trigger->told_count == PT_TRIGGER_TOLD_MAX)
		return false;
	trigger->told[trigger->told_count++] = (struct pt_trigger_told){slice->tid, slice->begin_ns,
									true};
	snprintf(fired->text, sizeof(fired->text), "%s %.200s still runs after %.3f s",
		 trigger->pattern ? "a call of" : "a request in", slice->function->qualname,
		 (double)ns / 1e9);
	return fire(fired, slice->end_ns, slice->pid, slice->tid);
}

/* Behind all slow_open() of a tick: those that run no longer are forgotten. */
static bool slow_tick(struct pt_trigger *trigger, struct pt_trigger_tick *tick,
		      struct pt_fired *fired)
{
	size_t kept = 0;

	for (size_t i = 0; i < trigger->told_count; i++) {
		if (!trigger->told[i].runs)
			continue;
		trigger->told[kept] = trigger->told[i];
		trigger->told[kept++].runs = false;
	}
	trigger->told_count = kept;
	return false;
}

static bool slow_op(struct pt_trigger *trigger, const struct pt_op *op, struct pt_fired *fired)
{
	const struct pt_op_slice *slice = &op->slice;

	if (op->kind != PT_OP_SLICE || slice->end_ns - slice->begin_ns <= trigger->limit_ns ||
	    !function_matches(trigger, slice->function) || find_told(trigger, slice))
		return false;
	snprintf(fired->text, sizeof(fired->text), "a call of %.200s took %.3f ms",
		 slice->function->qualname, ms(slice->end_ns - slice->begin_ns));
	return fire(fired, slice->end_ns, slice->pid, slice->tid);
}

/* A server's function calls a framework's. */
static bool request_call(struct pt_trigger *trigger, const struct pt_op_slice *slice,
			 struct pt_fired *fired)
{
	bool is_around;

	if (slice->end_ns - slice->begin_ns <= trigger->limit_ns ||
	    !function_matches(trigger, slice->function) || find_told(trigger, slice))
		return false;
	is_around = slice->tid == trigger->inner_tid && slice->begin_ns <= trigger->inner_begin_ns;
	trigger->inner_tid = slice->tid;
	trigger->inner_begin_ns = slice->begin_ns;
	snprintf(fired->text, sizeof(fired->text), "a request took %.3f ms in %.200s",
		 ms(slice->end_ns - slice->begin_ns), slice->function->qualname);
	return !is_around && fire(fired, slice->end_ns, slice->pid, slice->tid);
}

static pid_t step_thread(const struct pt_op_span *span)
{
	for (uint32_t i = 0; i < span->arg_count; i++)
		if (!strcmp(span->args[i].key, "thread"))
			return (pid_t)span->args[i].number;
	return 0;
}

/* Nobody says which step of a task is the last one: with the first one that ends so long after the
 * task began, the request has taken longer, and each request that takes longer has such a step. */
static bool request_step(struct pt_trigger *trigger, const struct pt_op_span *span,
			 struct pt_fired *fired)
{
	struct pt_trigger_task *tasks = trigger->tasks;
	bool is_told; /* as a call that took so long by itself */

	if (!span->task || span->end_ns - span->task_begin_ns <= trigger->limit_ns ||
	    !pt_request_task(span->task))
		return false;
	is_told = trigger->inner_tid == step_thread(span) &&
		  trigger->inner_begin_ns >= span->begin_ns &&
		  trigger->inner_begin_ns < span->end_ns;
	for (size_t i = 0; i < PT_TRIGGER_TOLD_MAX; i++)
		if (tasks[i].track == span->tid && tasks[i].begin_ns == span->task_begin_ns)
			return false;
	tasks[trigger->next_task] = (struct pt_trigger_task){span->tid, span->task_begin_ns};
	trigger->next_task = (trigger->next_task + 1) % PT_TRIGGER_TOLD_MAX;
	snprintf(fired->text, sizeof(fired->text), "a request has taken %.3f ms so far in %.200s",
		 ms(span->end_ns - span->task_begin_ns), span->task->qualname);
	return !is_told && fire(fired, span->end_ns, span->pid, 0);
}

static bool request_op(struct pt_trigger *trigger, const struct pt_op *op, struct pt_fired *fired)
{
	return (op->kind == PT_OP_SLICE && request_call(trigger, &op->slice, fired)) ||
	       (op->kind == PT_OP_SPAN && request_step(trigger, &op->span, fired));
}

static bool span_op(struct pt_trigger *trigger, const struct pt_op *op, struct pt_fired *fired)
{
	const struct pt_op_span *span = &op->span;

	if (span->end_ns - span->begin_ns <= trigger->limit_ns)
		return false;
	snprintf(fired->text, sizeof(fired->text), "%.200s took %.3f ms", span->name,
		 ms(span->end_ns - span->begin_ns));
	return fire(fired, span->end_ns, span->pid, span->tid);
}

static bool gc_op(struct pt_trigger *trigger, const struct pt_op *op, struct pt_fired *fired)
{
	return op->kind == PT_OP_SPAN && !strcmp(op->span.category, "gc") &&
	       span_op(trigger, op, fired);
}

static bool gil_op(struct pt_trigger *trigger, const struct pt_op *op, struct pt_fired *fired)
{
	return op->kind == PT_OP_SPAN && !strcmp(op->span.category, "gil") &&
	       span_op(trigger, op, fired);
}

static bool cuda_op(struct pt_trigger *trigger, const struct pt_op *op, struct pt_fired *fired)
{
	return op->kind == PT_OP_SPAN &&
	       (!strncmp(op->span.category, "cuda_", 5) || !strcmp(op->span.category, "nccl")) &&
	       !fnmatch(trigger->pattern, op->span.name, 0) && span_op(trigger, op, fired);
}

static bool instant_op(const struct pt_op *op, const char *what, struct pt_fired *fired)
{
	const struct pt_op_instant *instant = &op->instant;
	const char *text = NULL;

	for (uint32_t i = 0; i < instant->arg_count; i++)
		if (!strcmp(instant->args[i].key, "message") ||
		    !strcmp(instant->args[i].key, "function"))
			text = instant->args[i].text;
	snprintf(fired->text, sizeof(fired->text), "%s %.100s%s%.200s", what, instant->name,
		 text ? ": " : "", text ? text : "");
	return fire(fired, instant->time_ns, instant->pid, instant->tid);
}

static bool exception_op(struct pt_trigger *trigger, const struct pt_op *op, struct pt_fired *fired)
{
	return op->kind == PT_OP_INSTANT && !strcmp(op->instant.category, "exception") &&
	       !fnmatch(trigger->pattern, op->instant.name, 0) &&
	       instant_op(op, "exception", fired);
}

static bool cuda_error_op(struct pt_trigger *trigger, const struct pt_op *op,
			  struct pt_fired *fired)
{
	return op->kind == PT_OP_INSTANT && !strcmp(op->instant.category, "cuda_error") &&
	       instant_op(op, "CUDA error", fired);
}

/* What a process has on a device; made if need be. NULL: out of memory. */
static struct pt_trigger_memory *memory_of(struct pt_trigger *trigger, pid_t pid, int device)
{
	struct pt_trigger_memory *bigger;

	for (size_t i = 0; i < trigger->memory_count; i++)
		if (trigger->memories[i].pid == pid && trigger->memories[i].device == device)
			return &trigger->memories[i];
	bigger = reallocarray(trigger->memories, trigger->memory_count + 1, sizeof(*bigger));
	if (!bigger)
		return NULL;
	trigger->memories = bigger;
	bigger[trigger->memory_count] = (struct pt_trigger_memory){.pid = pid, .device = device};
	return &bigger[trigger->memory_count++];
}

static void forget_memory(struct pt_trigger *trigger, pid_t pid)
{
	size_t kept = 0;

	for (size_t i = 0; i < trigger->memory_count; i++)
		if (trigger->memories[i].pid != pid)
			trigger->memories[kept++] = trigger->memories[i];
	trigger->memory_count = kept;
}

/* After an exec it has nothing any more. */
static void memory_process(struct pt_trigger *trigger, const struct pt_op_process *process)
{
	struct pt_trigger_memory *image = memory_of(trigger, process->pid, PT_TRIGGER_IMAGE);

	if (image && image->image_id && image->image_id != process->image_id) {
		forget_memory(trigger, process->pid);
		image = memory_of(trigger, process->pid, PT_TRIGGER_IMAGE);
	}
	if (image)
		image->image_id = process->image_id;
}

/* Once, until it has been below again. */
static bool device_op(struct pt_trigger *trigger, const struct pt_op *op, struct pt_fired *fired)
{
	const struct pt_op_memory *memory = &op->memory;
	struct pt_trigger_memory *has;
	bool was;

	if (op->kind == PT_OP_PROCESS)
		memory_process(trigger, &op->process);
	if (op->kind != PT_OP_MEMORY || memory->action == PT_MEMORY_LIVE || memory->host ||
	    memory->within)
		return false;
	has = memory_of(trigger, memory->pid, memory->device);
	if (!has)
		return false;
	has->bytes += memory->action == PT_MEMORY_ALLOC ? (int64_t)memory->bytes
							: -(int64_t)memory->bytes;
	was = has->above;
	has->above = has->bytes > 0 && (uint64_t)has->bytes > trigger->limit_bytes;
	if (was || !has->above)
		return false;
	if (memory->device < 0)
		snprintf(fired->text, sizeof(fired->text),
			 "process %d has %.1f MB on devices that are not known", memory->pid,
			 (double)has->bytes / 1e6);
	else
		snprintf(fired->text, sizeof(fired->text), "process %d has %.1f MB on device %d",
			 memory->pid, (double)has->bytes / 1e6, memory->device);
	return fire(fired, memory->time_ns, memory->pid, memory->tid);
}

/* ---- tests of ends of processes ---- */

static bool ended(const struct pt_rec_proc *record, struct pt_fired *fired)
{
	int number = record->exit_code & 0x7f, status = record->exit_code >> 8 & 0xff;
	pid_t pid = (pid_t)record->hdr.tgid;

	if (number)
		snprintf(fired->text, sizeof(fired->text),
			 "process %d was ended by signal %d (%s%s)", pid, number, strsignal(number),
			 number == SIGKILL ? "; so does the kernel when memory is short" : "");
	else
		snprintf(fired->text, sizeof(fired->text), "process %d ended with status %d", pid,
			 status);
	return fire(fired, record->hdr.time_ns, pid, (pid_t)record->hdr.tid);
}

/* By a signal, but for those by which people and init systems ask a process to end. */
static bool crash_exit(struct pt_trigger *trigger, const struct pt_rec_proc *record,
		       struct pt_fired *fired)
{
	int number = record->exit_code & 0x7f;

	return number && number != SIGTERM && number != SIGINT && number != SIGHUP &&
	       ended(record, fired);
}

static bool exit_exit(struct pt_trigger *trigger, const struct pt_rec_proc *record,
		      struct pt_fired *fired)
{
	return record->exit_code && ended(record, fired);
}

/* ---- tests of the clock and the world outside ---- */

static bool hang_tick(struct pt_trigger *trigger, struct pt_trigger_tick *tick,
		      struct pt_fired *fired)
{
	uint32_t bit = 1u << trigger->number;

	for (size_t i = 0; i < tick->watched_count; i++) {
		struct pt_watched *watched = &tick->watched[i];

		if (!watched->runs_python || watched->told & bit ||
		    watched->last_ns + trigger->limit_ns >= tick->known_ns)
			continue;
		watched->told |= bit;
		snprintf(fired->text, sizeof(fired->text),
			 "process %d has neither called nor left a function for %.1f s",
			 watched->pid, (double)(tick->known_ns - watched->last_ns) / 1e9);
		return fire(fired, tick->known_ns, watched->pid, 0);
	}
	return false;
}

/* The memory that a process has in RAM; 0: it is gone. */
static uint64_t resident_bytes(pid_t pid)
{
	unsigned long long pages = 0;
	char path[64], *text;
	size_t size;

	snprintf(path, sizeof(path), "/proc/%d/statm", pid);
	if (pt_proc_read(path, 4096, &text, &size))
		return 0;
	if (sscanf(text, "%*u %llu", &pages) != 1)
		pages = 0;
	free(text);
	return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

/* Once, until it has been below again. */
static bool memory_tick(struct pt_trigger *trigger, struct pt_trigger_tick *tick,
			struct pt_fired *fired)
{
	uint32_t bit = 1u << trigger->number;

	for (size_t i = 0; i < tick->watched_count; i++) {
		struct pt_watched *watched = &tick->watched[i];
		uint64_t bytes = watched->runs_python ? resident_bytes(watched->pid) : 0;

		if (bytes <= trigger->limit_bytes) {
			watched->above &= ~bit;
			continue;
		}
		if (watched->above & bit)
			continue;
		watched->above |= bit;
		snprintf(fired->text, sizeof(fired->text), "process %d has %.1f MB of memory",
			 watched->pid, (double)bytes / 1e6);
		return fire(fired, tick->now_ns, watched->pid, 0);
	}
	return false;
}

static bool signal_tick(struct pt_trigger *trigger, struct pt_trigger_tick *tick,
			struct pt_fired *fired)
{
	if (!trigger->came)
		return false;
	trigger->came = false;
	snprintf(fired->text, sizeof(fired->text), "%s came",
		 trigger->signal_number == SIGUSR1 ? "SIGUSR1" : "SIGUSR2");
	return fire(fired, tick->now_ns, 0, 0);
}

static bool file_tick(struct pt_trigger *trigger, struct pt_trigger_tick *tick,
		      struct pt_fired *fired)
{
	bool is = !access(trigger->pattern, F_OK), appeared = is && !trigger->was;

	trigger->was = is;
	if (!appeared)
		return false;
	snprintf(fired->text, sizeof(fired->text), "'%.300s' is there", trigger->pattern);
	return fire(fired, tick->now_ns, 0, 0);
}

/* The next time that it is so late here, after now_s. */
static uint64_t next_clock(const struct pt_trigger *trigger, uint64_t now_s)
{
	time_t now = (time_t)now_s, at;
	struct tm tm;

	localtime_r(&now, &tm);
	tm.tm_hour = (int)trigger->day_s / 3600;
	tm.tm_min = (int)trigger->day_s / 60 % 60;
	tm.tm_sec = (int)trigger->day_s % 60;
	tm.tm_isdst = -1;
	at = mktime(&tm);
	if (at > now)
		return (uint64_t)at;
	tm.tm_mday++; /* mktime() carries */
	tm.tm_isdst = -1;
	at = mktime(&tm);
	return at > now ? (uint64_t)at : now_s + DAY_S;
}

static bool at_tick(struct pt_trigger *trigger, struct pt_trigger_tick *tick,
		    struct pt_fired *fired)
{
	uint64_t now_s = tick->real_ns / NS_PER_S;
	bool due = trigger->next_s && now_s >= trigger->next_s;

	if (due || !trigger->next_s)
		trigger->next_s = next_clock(trigger, now_s);
	if (!due)
		return false;
	snprintf(fired->text, sizeof(fired->text), "it is %02u:%02u:%02u", trigger->day_s / 3600,
		 trigger->day_s / 60 % 60, trigger->day_s % 60);
	return fire(fired, tick->now_ns, 0, 0);
}

/* ---- the table ---- */

static const struct pt_trigger_kind kinds[] = {
    {"slow", "slow:GLOB:TIME", .needs = PT_NEEDS_OPS | PT_NEEDS_CALLS, .parse = parse_glob_time,
     .op = slow_op, .open = slow_open, .tick = slow_tick},
    {"request", "request:TIME", .needs = PT_NEEDS_OPS | PT_NEEDS_ASYNC | PT_NEEDS_CALLS,
     .parse = parse_time, .op = request_op, .open = slow_open, .tick = slow_tick},
    {"exception", "exception:TYPE", .needs = PT_NEEDS_OPS | PT_NEEDS_EXCEPTIONS,
     .parse = parse_text, .op = exception_op},
    {"gc", "gc:TIME", .needs = PT_NEEDS_OPS | PT_NEEDS_GC, .parse = parse_time, .op = gc_op},
    {"gil", "gil:TIME", .needs = PT_NEEDS_OPS | PT_NEEDS_GIL, .parse = parse_time, .op = gil_op},
    {"cuda", "cuda:CALL:TIME", .needs = PT_NEEDS_OPS | PT_NEEDS_CUDA, .parse = parse_glob_time,
     .op = cuda_op},
    {"cuda-error", "cuda-error", .needs = PT_NEEDS_OPS | PT_NEEDS_CUDA, .parse = parse_nothing,
     .op = cuda_error_op},
    {"crash", "crash", .parse = parse_nothing, .exit = crash_exit},
    {"exit", "exit", .parse = parse_nothing, .exit = exit_exit},
    {"hang", "hang:TIME", .needs = PT_NEEDS_CALLS, .watches = true, .parse = parse_time,
     .tick = hang_tick},
    {"memory", "memory:host:SIZE", .prefix = "memory:host:", .watches = true, .parse = parse_size,
     .tick = memory_tick},
    {"device-memory", "memory:device:SIZE", .prefix = "memory:device:",
     .needs = PT_NEEDS_OPS | PT_NEEDS_CUDA | PT_NEEDS_MEMORY, .parse = parse_size, .op = device_op},
    {"signal", "signal:USR1|USR2", .parse = parse_signal, .tick = signal_tick},
    {"file", "file:PATH", .parse = parse_file, .tick = file_tick},
    {"at", "at:HH:MM[:SS]", .parse = parse_clock, .tick = at_tick},
    /* the last: pt_trigger_asked() */
    {"http", "http[:PORT|:ADDRESS:PORT|:unix:/PATH]", .parse = parse_http},
};
#define KIND_COUNT (sizeof(kinds) / sizeof(kinds[0]))

const struct pt_trigger_kind *pt_trigger_asked(void)
{
	return &kinds[KIND_COUNT - 1];
}

const char *pt_trigger_kind_name(size_t n)
{
	return n < KIND_COUNT ? kinds[n].name : NULL;
}

void pt_trigger_forms(char *text, size_t size)
{
	size_t len = 0;

	for (size_t i = 0; i < KIND_COUNT && len < size; i++)
		len += (size_t)snprintf(text + len, size - len, "%s%s", i ? ", " : "",
					kinds[i].form);
}

/* The arguments of a trigger of this kind; NULL: it is another one. "": there are none. */
static const char *arguments_of(const struct pt_trigger_kind *kind, const char *text)
{
	size_t len = strlen(kind->prefix ? kind->prefix : kind->name);

	if (strncmp(text, kind->prefix ? kind->prefix : kind->name, len) != 0)
		return NULL;
	return kind->prefix || !text[len] ? text + len : text[len] == ':' ? text + len + 1 : NULL;
}

int pt_trigger_parse(const char *text, struct pt_trigger *trigger, struct pt_err *err)
{
	const char *arguments = NULL;
	int rc = -EINVAL;

	*trigger = (struct pt_trigger){.text = strdup(text)};
	if (!trigger->text)
		return pt_err_set(err, -ENOMEM, PT_EXIT_FAILED, "", "out of memory");
	for (size_t i = 0; !arguments && i < KIND_COUNT; i++) {
		trigger->kind = &kinds[i];
		arguments = arguments_of(trigger->kind, text);
	}
	if (arguments)
		rc = trigger->kind->parse(trigger, strchr(text, ':') ? arguments : NULL, err);
	else
		refuse(err, trigger, "there is no such trigger");
	if (rc)
		pt_trigger_release(trigger);
	return rc;
}

void pt_trigger_restart(struct pt_trigger *trigger)
{
	free(trigger->matches);
	trigger->matches = NULL;
	trigger->match_count = 0;
	trigger->told_count = 0;
	memset(trigger->tasks, 0, sizeof(trigger->tasks));
	trigger->inner_tid = 0;
	trigger->memory_count = 0;
}

void pt_trigger_release(struct pt_trigger *trigger)
{
	free(trigger->text);
	free(trigger->pattern);
	free(trigger->matches);
	free(trigger->memories);
	*trigger = (struct pt_trigger){0};
}
