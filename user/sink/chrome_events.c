// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * All events but the slices of calls: they are rare, and go through a buffer.
 */
#include <errno.h>
#include <stdio.h>

#include "sink/chrome_parts.h"
#include "sink/json_text.h"

/* What is rare goes through a buffer. */
static int put_rare(struct chrome *chrome, struct pt_buf *buf)
{
	struct pt_buf shifted = *buf;
	int rc;

	if (!buf->failed)
		shifted.data = (char *)chrome_skip_comma(chrome, buf->data, &shifted.len);
	rc = chrome_put_buf(chrome, &shifted);
	pt_buf_release(buf);
	return rc;
}

static void begin_category(struct pt_buf *buf, const char *ph, const char *category)
{
	pt_buf_printf(buf, ",\n{\"ph\":\"%s\",", ph);
	if (category) {
		pt_buf_add_str(buf, "\"cat\":");
		pt_json_string(buf, category);
		pt_buf_add_str(buf, ",");
	}
	pt_buf_add_str(buf, "\"name\":");
}

static void begin_where(const struct chrome *chrome, struct pt_buf *buf, pid_t pid, pid_t tid,
			uint64_t ns)
{
	char ts[PT_JSON_NUMBER_MAX + 1];

	*pt_json_us(ts, chrome_since_base(chrome, ns)) = '\0';
	pt_buf_printf(buf, ",\"pid\":%d,\"tid\":%d,\"ts\":%s,", pid, tid, ts);
}

static void begin_rare(const struct chrome *chrome, struct pt_buf *buf, const char *ph,
		       const char *category, const char *name, pid_t pid, pid_t tid, uint64_t ns)
{
	begin_category(buf, ph, category);
	pt_json_string(buf, name);
	begin_where(chrome, buf, pid, tid, ns);
}

static int put_metadata_text(struct chrome *chrome, const char *name, pid_t pid, pid_t tid,
			     uint64_t ns, const char *key, const char *value)
{
	struct pt_buf buf = {0};

	begin_rare(chrome, &buf, "M", NULL, name, pid, tid, ns);
	pt_buf_printf(&buf, "\"args\":{\"%s\":", key);
	pt_json_string(&buf, value);
	pt_buf_add_str(&buf, "}}");
	return put_rare(chrome, &buf);
}

static int put_sort_index(struct chrome *chrome, const char *name, pid_t pid, pid_t tid,
			  pid_t sort_index, uint64_t ns)
{
	struct pt_buf buf = {0};

	begin_rare(chrome, &buf, "M", NULL, name, pid, tid, ns);
	pt_buf_printf(&buf, "\"args\":{\"sort_index\":%d}}", sort_index);
	return put_rare(chrome, &buf);
}

int chrome_put_process(struct chrome *chrome, const struct pt_op_process *process)
{
	pid_t pid = process->pid;
	const struct pt_op_rank *rank = &process->rank;
	struct pt_buf labels = {0};
	int rc = pt_ranks_add(&chrome->ranks, process);

	if (rc)
		return rc;
	rc = put_metadata_text(chrome, "process_name", pid, pid, process->time_ns, "name",
			       chrome->process_name[0] ? chrome->process_name : process->name);
	if (rc)
		return rc;
	pt_buf_add_str(&labels, process->cmdline ? process->cmdline : "");
	if (process->ns_pid != pid)
		pt_buf_printf(&labels, "%s(pid %d in its namespace)", labels.len ? " " : "",
			      process->ns_pid);
	if (rank->world_size)
		pt_buf_printf(&labels, "%s(rank %d of %d)", labels.len ? " " : "", rank->rank,
			      rank->world_size);
	if (labels.len || labels.failed) {
		pt_buf_add(&labels, "", 1);
		rc = labels.failed ? -ENOMEM
				   : put_metadata_text(chrome, "process_labels", pid, pid,
						       process->time_ns, "labels", labels.data);
	}
	pt_buf_release(&labels);
	return rc ? rc
		  : put_sort_index(chrome, "process_sort_index", pid, pid, pid, process->time_ns);
}

static int put_track(struct chrome *chrome, pid_t pid, pid_t tid, pid_t sort_index, uint64_t ns,
		     const char *name)
{
	int rc = put_metadata_text(chrome, "thread_name", pid, tid, ns, "name", name);

	return rc ? rc : put_sort_index(chrome, "thread_sort_index", pid, tid, sort_index, ns);
}

int chrome_put_thread(struct chrome *chrome, const struct pt_op_thread *thread)
{
	char name[128];

	if (thread->tid >= PT_TRACK_TID)
		return put_track(chrome, thread->pid, thread->tid,
				 thread->beside ? thread->beside : thread->tid, thread->time_ns,
				 thread->name);
	if (thread->name && thread->name[0])
		snprintf(name, sizeof(name), "thread %d (%s)", thread->tid, thread->name);
	else
		snprintf(name, sizeof(name), "thread %d", thread->tid);
	return put_track(chrome, thread->pid, thread->tid, thread->tid, thread->time_ns, name);
}

void chrome_add_args(struct pt_buf *buf, uint32_t flags, const char *detail,
		     const struct pt_arg *args, uint32_t count)
{
	const char *comma = "";

	if (!flags && !detail && !count) {
		if (buf->len)
			buf->len--;
		return;
	}
	pt_buf_add_str(buf, "\"args\":{");
	if (detail) {
		pt_buf_add_str(buf, "\"detail\":");
		pt_json_string(buf, detail);
		comma = ",";
	}
	for (uint32_t i = 0; i < count; i++) {
		pt_buf_add_str(buf, comma);
		pt_json_string(buf, args[i].key);
		pt_buf_add_str(buf, ":");
		if (args[i].text)
			pt_json_string(buf, args[i].text);
		else
			pt_buf_printf(buf, "%lld", (long long)args[i].number);
		comma = ",";
	}
	for (unsigned int i = 0; i < CHROME_FLAGS; i++) {
		if (!(flags & 1u << i))
			continue;
		pt_buf_add_str(buf, comma);
		pt_buf_add_str(buf, chrome_flag_texts[i]);
		comma = ",";
	}
	pt_buf_add_str(buf, "}");
}

int chrome_put_x(struct chrome *chrome, const struct pt_op_span *span)
{
	char dur[PT_JSON_NUMBER_MAX + 1];
	struct pt_buf buf = {0};

	*pt_json_us(dur, span->end_ns - span->begin_ns) = '\0';
	begin_category(&buf, "X", span->category);
	if (span->function) {
		pt_buf_add_str(&buf, "\"");
		chrome_add_name(chrome, &buf, span->function);
		pt_buf_add_str(&buf, "\"");
	} else {
		pt_json_string(&buf, span->name);
	}
	begin_where(chrome, &buf, span->pid, span->tid, span->begin_ns);
	pt_buf_printf(&buf, "\"dur\":%s,", dur);
	chrome_add_stack_frame(chrome, &buf, span->stack_id);
	chrome_add_args(&buf, span->flags, NULL, span->args, span->arg_count);
	pt_buf_add_str(&buf, "}");
	return put_rare(chrome, &buf);
}

int chrome_put_state(struct chrome *chrome, const struct pt_op_state *state)
{
	struct chrome_thread *thread = chrome_thread_get(chrome, state->pid, state->tid);
	const struct pt_op_span span = {
	    .pid = state->pid,
	    .tid = PT_STATE_TID_BASE + state->tid,
	    .begin_ns = state->begin_ns,
	    .end_ns = state->end_ns,
	    .category = PT_STATE_CATEGORY,
	    .name = state->name,
	    .args = state->args,
	    .arg_count = state->arg_count,
	};
	char name[64];
	int rc;

	if (!thread)
		return -ENOMEM;
	if (!thread->has_states) {
		snprintf(name, sizeof(name), "thread %d: states", state->tid);
		rc = put_track(chrome, span.pid, span.tid, state->tid, state->begin_ns, name);
		if (rc)
			return rc;
		thread->has_states = true;
	}
	return chrome_put_x(chrome, &span);
}

int chrome_put_range(struct chrome *chrome, const struct pt_op_range *range)
{
	char ts[PT_JSON_NUMBER_MAX + 1];
	struct pt_buf buf = {0};

	begin_rare(chrome, &buf, "b", range->category, range->name, range->pid, range->tid,
		   range->begin_ns);
	pt_buf_printf(&buf, "\"id\":\"%d.%llx\",", range->tid, (unsigned long long)range->track);
	chrome_add_stack_frame(chrome, &buf, range->stack_id);
	chrome_add_args(&buf, range->flags, NULL, range->args, range->arg_count);
	*pt_json_us(ts, chrome_since_base(chrome, range->end_ns)) = '\0';
	pt_buf_add_str(&buf, "},\n{\"ph\":\"e\",\"cat\":");
	pt_json_string(&buf, range->category);
	pt_buf_add_str(&buf, ",\"name\":");
	pt_json_string(&buf, range->name);
	pt_buf_printf(&buf, ",\"pid\":%d,\"tid\":%d,\"ts\":%s,\"id\":\"%d.%llx\"}", range->pid,
		      range->tid, ts, range->tid, (unsigned long long)range->track);
	return put_rare(chrome, &buf);
}

int chrome_put_flow(struct chrome *chrome, const struct pt_op_flow *flow)
{
	struct pt_buf buf = {0};

	begin_rare(chrome, &buf, "s", flow->category, flow->name, flow->from.pid, flow->from.tid,
		   flow->from.time_ns);
	pt_buf_printf(&buf, "\"id\":%llu}", (unsigned long long)flow->id);
	begin_rare(chrome, &buf, "f", flow->category, flow->name, flow->to.pid, flow->to.tid,
		   flow->to.time_ns);
	pt_buf_printf(&buf, "\"bp\":\"e\",\"id\":%llu}", (unsigned long long)flow->id);
	return put_rare(chrome, &buf);
}

/* GPU n is a process of its own, as in PyTorch's traces: pid n, and sorted behind all others;
 * tracks of one that is not known are the program's. */
#define GPU_SORT_BASE 5000000

static pid_t gpu_pid(const struct pt_op_gpu_bound *bound)
{
	return bound->device >= 0 ? bound->device : bound->pid;
}

static int put_gpu_track(struct chrome *chrome, const struct pt_op_gpu_bound *bound)
{
	pid_t pid = gpu_pid(bound);
	char name[64];
	int rc = 0;

	snprintf(name, sizeof(name), "GPU %d", bound->device);
	if (bound->device >= 0)
		rc = put_metadata_text(chrome, "process_name", pid, pid, bound->begin_ns, "name",
				       name);
	if (!rc && bound->device >= 0)
		rc = put_metadata_text(chrome, "process_labels", pid, pid, bound->begin_ns,
				       "labels", name);
	if (!rc && bound->device >= 0)
		rc = put_sort_index(chrome, "process_sort_index", pid, pid,
				    GPU_SORT_BASE + bound->device, bound->begin_ns);
	return rc ? rc
		  : put_track(chrome, pid, bound->tid, bound->tid, bound->begin_ns,
			      bound->track_name);
}

/* An arrow from a launch to the bound that it is in. */
static int put_gpu_link(struct chrome *chrome, const struct pt_op_gpu_bound *bound,
			const struct pt_gpu_link *link)
{
	const struct pt_op_flow flow = {
	    .from = {.pid = bound->pid, .tid = link->tid, .time_ns = link->time_ns},
	    .to = {.pid = gpu_pid(bound), .tid = bound->tid, .time_ns = link->time_ns},
	    .id = link->id,
	    .category = bound->category,
	    .name = bound->category,
	};

	return chrome_put_flow(chrome, &flow);
}

int chrome_put_gpu_bound(struct chrome *chrome, const struct pt_op_gpu_bound *bound)
{
	struct chrome_thread *track = chrome_thread_get(chrome, gpu_pid(bound), bound->tid);
	struct pt_buf buf = {0};
	int rc = 0;

	if (!track)
		return -ENOMEM;
	if (!track->has_states)
		rc = put_gpu_track(chrome, bound);
	track->has_states = true;
	if (rc)
		return rc;
	begin_rare(chrome, &buf, "B", bound->category, bound->name, gpu_pid(bound), bound->tid,
		   bound->begin_ns);
	chrome_add_args(&buf, bound->flags, NULL, bound->args, bound->arg_count);
	pt_buf_add_str(&buf, "}");
	begin_rare(chrome, &buf, "E", bound->category, bound->name, gpu_pid(bound), bound->tid,
		   bound->end_ns);
	buf.len--; /* the comma */
	pt_buf_add_str(&buf, "}");
	rc = put_rare(chrome, &buf);
	for (uint32_t i = 0; !rc && i < bound->link_count; i++)
		rc = put_gpu_link(chrome, bound, &bound->links[i]);
	return rc;
}

int chrome_put_instant(struct chrome *chrome, const struct pt_op_instant *instant)
{
	struct pt_buf buf = {0};

	begin_rare(chrome, &buf, "i", instant->category, instant->name, instant->pid, instant->tid,
		   instant->time_ns);
	pt_buf_add_str(&buf, "\"s\":\"t\"");
	if (instant->detail || instant->arg_count) {
		pt_buf_add_str(&buf, ",");
		chrome_add_stack_frame(chrome, &buf, instant->stack_id);
		chrome_add_args(&buf, 0, instant->detail, instant->args, instant->arg_count);
	}
	pt_buf_add_str(&buf, "}");
	return put_rare(chrome, &buf);
}

int chrome_put_counter(struct chrome *chrome, const struct pt_op_counter *counter)
{
	struct pt_buf buf = {0};

	begin_rare(chrome, &buf, "C", NULL, counter->name, counter->pid, counter->pid,
		   counter->time_ns);
	pt_buf_add_str(&buf, "\"args\":{");
	pt_json_string(&buf, counter->series);
	pt_buf_printf(&buf, ":%.17g}}", counter->value);
	return put_rare(chrome, &buf);
}

int chrome_put_loss(struct chrome *chrome, const struct pt_op_loss *loss)
{
	char dur[PT_JSON_NUMBER_MAX + 1];
	struct pt_buf buf = {0};

	*pt_json_us(dur, loss->end_ns - loss->begin_ns) = '\0';
	begin_rare(chrome, &buf, "i", "loss", "events lost", loss->pid, loss->tid, loss->begin_ns);
	pt_buf_printf(&buf, "\"s\":\"t\",\"args\":{\"events\":%llu,\"gap (us)\":%s}}",
		      (unsigned long long)loss->events, dur);
	return put_rare(chrome, &buf);
}
