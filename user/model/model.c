// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
#include "model/model.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "model/model_priv.h"

#define CMDLINE_MAX    4096
/* A thread that is exiting may not be scheduled for so long. */
#define EXIT_SETTLE_NS 10000000000ull

void model_fail(struct pt_model *model, int error)
{
	if (!model->error)
		model->error = error;
}

void model_emit(struct pt_model *model, const struct pt_op *op)
{
	int rc;

	if (model->error)
		return;
	rc = model->emit(op, model->ctx);
	if (rc)
		model->error = rc;
}

/* ---- processes and threads ---- */

static struct model_process *process_get(struct pt_model *model, const struct pt_rec *record)
{
	pid_t pid = (pid_t)record->tgid;
	struct model_process *process = pt_map_get(&model->processes, record->tgid,
						   record->image_id);

	if (process || model->processes.count >= MODEL_MAX_THREADS)
		return process;
	process = calloc(1, sizeof(*process));
	if (!process) {
		model_fail(model, -ENOMEM);
		return NULL;
	}
	process->pid = pid;
	process->image_id = record->image_id;
	process->threads_tail = &process->threads;
	*model->process_tail = process;
	model->process_tail = &process->next;
	if (pt_map_put(&model->processes, record->tgid, record->image_id, process))
		model_fail(model, -ENOMEM);
	return process;
}

/* A thread runs one image at a time: one that comes ends what its tid ran before, and begins after
 * that. It matters where the record of an exec is lost, or came while probes were being attached.
 */
static void thread_takes_over(struct pt_model *model, struct model_thread *thread, uint64_t key,
			      uint64_t ns)
{
	struct model_thread *before = pt_map_get(&model->newest_threads, key, 0);

	/* a batch is checked only later: one with such a time will not be taken */
	if (before == thread || ns > PT_TIME_MAX_NS)
		return;
	if (before) {
		model_thread_end(model, before, ns, 0);
		thread->floor_ns = before->end_ns;
	}
	if (pt_map_put(&model->newest_threads, key, 0, thread))
		model_fail(model, -ENOMEM);
}

/* When what it tells of began. */
static uint64_t record_begin_ns(const struct pt_rec *record)
{
	if (record->kind == PT_REC_BATCH)
		return ((const struct pt_rec_batch *)record)->base_ns;
	if (record->kind == PT_REC_SCHED)
		return ((const struct pt_rec_sched *)record)->run_ns;
	if (record->kind == PT_REC_BLOCKED)
		return ((const struct pt_rec_blocked *)record)->out_ns;
	return record->time_ns;
}

static struct model_thread *thread_get(struct pt_model *model, const struct pt_rec *record)
{
	uint64_t key = (uint64_t)record->tgid << 32 | record->tid;
	struct model_thread *thread = pt_map_get(&model->threads, key, record->image_id);
	struct model_process *process;

	if (thread)
		return thread;
	process = model->threads.count < MODEL_MAX_THREADS ? process_get(model, record) : NULL;
	if (!process)
		return NULL;
	thread = calloc(1, sizeof(*thread));
	if (!thread) {
		model_fail(model, -ENOMEM);
		return NULL;
	}
	thread->process = process;
	thread->tid = (pid_t)record->tid;
	*process->threads_tail = thread;
	process->threads_tail = &thread->next_in_process;
	if (pt_map_put(&model->threads, key, record->image_id, thread))
		model_fail(model, -ENOMEM);
	thread_takes_over(model, thread, key, record_begin_ns(record));
	return thread;
}

static void emit_process(struct pt_model *model, const struct model_process *process)
{
	struct pt_op op = {
	    .kind = PT_OP_PROCESS,
	    .process =
		{
		    .pid = process->pid,
		    .ns_pid = process->ns_pid ? process->ns_pid : process->pid,
		    .parent_pid = process->parent_pid,
		    .image_id = process->image_id,
		    .time_ns = process->start_ns ? process->start_ns : model->gate_open_ns,
		    .name = process->name[0] ? process->name : "python",
		    .cmdline = process->cmdline,
		    .rank = process->rank,
		},
	};

	model_emit(model, &op);
}

void model_process_rank(struct pt_model *model, struct model_process *process, int32_t rank,
			int32_t world_size, bool from_nccl)
{
	process->rank = (struct pt_op_rank){rank, world_size, from_nccl};
	if (process->announced)
		emit_process(model, process);
}

void model_announce_process(struct pt_model *model, struct model_process *process)
{
	if (process->announced)
		return;
	process->announced = true;
	model->totals.processes += !process->continues;
	emit_process(model, process);
}

static void process_end(struct pt_model *model, struct model_process *process, uint64_t end_ns)
{
	struct model_thread *thread;

	if (process->threads_ended)
		return;
	process->ended = process->threads_ended = true;
	model->exiting -= process->exit_ns != 0;
	for (thread = process->threads; thread; thread = thread->next_in_process) {
		if (process->exit_ns) /* it may have been told of before its last thread */
			end_ns = thread->last_ns > process->exit_ns ? thread->last_ns
								    : process->exit_ns;
		model_thread_end(model, thread, end_ns, 0);
	}
}

/*
 * Of threads that exit together any may be the one that tells of the process's exit (both see no
 * other alive), so the others' last batches may come after it.
 */
static void exited_settle(struct pt_model *model, uint64_t ns)
{
	struct model_process *process;

	for (process = model->process_list; process && model->exiting; process = process->next) {
		if (!process->exit_ns || process->threads_ended ||
		    ns < process->exit_ns + EXIT_SETTLE_NS)
			continue;
		process_end(model, process, process->exit_ns);
		if (model->memory)
			model_memory_process_end(model, process, process->exit_ns);
		if (model->gpu)
			model_gpu_process_end(model, process, process->exit_ns);
	}
}

void model_instant(struct pt_model *model, const struct model_process *process, uint64_t ns,
		   const char *category, const char *name, const char *detail)
{
	struct pt_op op = {
	    .kind = PT_OP_INSTANT,
	    .instant =
		{
		    .pid = process->pid,
		    .tid = process->pid,
		    .time_ns = ns,
		    .name = name,
		    .category = category,
		    .detail = detail,
		},
	};

	if (process->announced && model->clear_ns <= ns)
		model_emit(model, &op);
}

void model_flow(struct pt_model *model, struct model_thread *thread, uint64_t ns)
{
	const struct pt_op_flow_end *from = &thread->process->forked_by;
	const struct pt_op op = {
	    .kind = PT_OP_FLOW,
	    .flow =
		{
		    .from = *from,
		    .to = {.pid = thread->process->pid, .tid = thread->tid, .time_ns = ns},
		    .id = ++model->next_flow_id,
		    .category = "process",
		    .name = "fork",
		},
	};

	thread->process->flow_told = true;
	if (op.flow.from.time_ns >= model->clear_ns && ns >= op.flow.from.time_ns)
		model_emit(model, &op);
}

/* ---- records ---- */

static void set_cmdline(struct pt_model *model, struct model_process *process,
			const struct pt_rec_proc *record)
{
	uint32_t len = record->text_bytes < CMDLINE_MAX ? record->text_bytes : CMDLINE_MAX;
	char raw[CMDLINE_MAX];
	size_t size = 3 * (size_t)len + 1;

	if (!len)
		return;
	memcpy(raw, record->data, len);
	while (len > 0 && !raw[len - 1])
		len--;
	for (uint32_t i = 0; i < len; i++) {
		if (!raw[i])
			raw[i] = ' ';
	}
	free(process->cmdline);
	process->cmdline = malloc(size);
	if (process->cmdline)
		pt_utf8_clean(process->cmdline, size, raw, len);
	else
		model_fail(model, -ENOMEM);
}

/* A child has its parent's command line until it executes something. What a shell forks comes from
 * the call that made the shell. */
static void process_forked(struct pt_model *model, struct model_process *process,
			   const struct pt_rec_proc *record)
{
	const struct model_process *parent = pt_map_get(&model->images, record->parent_tgid, 0);

	if (parent && !parent->rank.from_nccl && !process->rank.world_size)
		process->rank = parent->rank; /* it has the environment, too */
	if (record->parent_tid)
		process->forked_by = (struct pt_op_flow_end){
		    (pid_t)record->parent_tgid, (pid_t)record->parent_tid, record->hdr.time_ns};
	else if (parent)
		process->forked_by = parent->forked_by;
	if (process->cmdline || !parent || !parent->cmdline)
		return;
	process->cmdline = strdup(parent->cmdline);
	if (!process->cmdline)
		model_fail(model, -ENOMEM);
}

/* Its start came to be known: frames that opened then may have been dated too early. */
static void process_started(struct pt_model *model, struct model_process *process, uint64_t ns)
{
	struct model_thread *thread;

	process->start_ns = ns;
	for (thread = process->threads; thread; thread = thread->next_in_process)
		model_thread_redate(model, thread);
}

static void process_exited(struct pt_model *model, struct model_process *process,
			   const struct pt_rec_proc *record)
{
	int status = record->exit_code;
	char detail[32];

	if (!process->ended) {
		process->ended = true;
		process->exit_ns = record->hdr.time_ns;
		model->exiting++;
	}
	if (status & 0x7f)
		snprintf(detail, sizeof(detail), "signal %d", status & 0x7f);
	else
		snprintf(detail, sizeof(detail), "status %d", status >> 8 & 0xff);
	model_instant(model, process, record->hdr.time_ns, "process", "process exit", detail);
}

static void process_renamed(struct pt_model *model, struct model_process *process,
			    const struct pt_rec_proc *record)
{
	if (record->comm[0])
		pt_utf8_clean(process->name, sizeof(process->name), record->comm,
			      strnlen(record->comm, sizeof(record->comm)));
	if (record->ns_tgid)
		process->ns_pid = (pid_t)record->ns_tgid;
	if (record->parent_tgid)
		process->parent_pid = (pid_t)record->parent_tgid;
	set_cmdline(model, process, record);
	if (process->announced)
		emit_process(model, process);
	else if (record->what == PT_PROC_ATTACH)
		model_announce_process(model, process);
}

static void take_process(struct pt_model *model, const struct pt_rec_proc *record)
{
	struct model_process *old = pt_map_get(&model->images, record->hdr.tgid, 0);
	struct model_process *process = process_get(model, &record->hdr);
	uint64_t ns = record->hdr.time_ns;

	if (!process)
		return;
	if (model->exiting)
		exited_settle(model, ns);
	switch ((enum pt_proc_what)record->what) {
	case PT_PROC_EXIT:
		process_exited(model, process, record);
		return;
	case PT_PROC_EXEC:
		if (old && old != process) {
			process_end(model, old, ns);
			if (model->memory)
				model_memory_process_end(model, old, ns);
			if (model->gpu)
				model_gpu_process_end(model, old, ns);
			process->parent_pid = old->parent_pid;
			process->ns_pid = old->ns_pid;
			process->forked_by = old->forked_by;
			process->flow_told = old->flow_told;
			process->continues = old->announced;
			model_instant(model, old, ns, "process", "exec", NULL);
		}
		process_started(model, process, ns);
		break;
	case PT_PROC_FORK:
		process_started(model, process, ns);
		process_forked(model, process, record);
		break;
	case PT_PROC_LATE:
		process_started(model, process, ns);
		model_announce_process(model, process);
		model_instant(model, process, ns, "process", "probes attached late",
			      "calls before this moment are missing");
		break;
	case PT_PROC_ATTACH:
		break;
	}
	if (pt_map_put(&model->images, record->hdr.tgid, 0, process))
		model_fail(model, -ENOMEM);
	process_renamed(model, process, record);
}

static void take_thread(struct pt_model *model, const struct pt_rec_thread *record)
{
	struct model_thread *thread = thread_get(model, &record->hdr);

	if (!thread)
		return;
	if (record->what == PT_THREAD_EXIT) {
		model_thread_end(model, thread, record->hdr.time_ns, record->events_total);
		return;
	}
	if (thread->ended && record->hdr.time_ns > thread->end_ns)
		model_thread_reset(model, thread);
	thread_takes_over(model, thread, (uint64_t)record->hdr.tgid << 32 | record->hdr.tid,
			  record->hdr.time_ns);
	model_thread_name(model, thread, record->comm);
	thread->ns_tid = (pid_t)record->ns_tid;
	if (record->ns_tid &&
	    pt_map_put(&model->ns_threads, (uint64_t)record->hdr.tgid << 32 | record->ns_tid,
		       record->hdr.image_id, thread))
		model_fail(model, -ENOMEM);
}

static void take_rank(struct pt_model *model, const struct pt_rec_rank *record)
{
	struct model_process *process = process_get(model, &record->hdr);

	if (process)
		model_process_rank(model, process, (int32_t)record->rank,
				   (int32_t)record->world_size, false);
}

static void take_note(struct pt_model *model, const struct pt_rec_note *note)
{
	switch (note->what) {
	case PT_NOTE_GATE_OPEN:
		model->gate_open_ns = note->hdr.time_ns;
		break;
	case PT_NOTE_GATE_CLOSE:
		model->gate_close_ns = note->hdr.time_ns;
		break;
	case PT_NOTE_LOST_EVENTS:
		if (note->value > model->lost_reported)
			model->lost_reported = note->value;
		break;
	case PT_NOTE_LOST_RECORDS:
		if (note->value > model->totals.lost_records)
			model->totals.lost_records = note->value;
		break;
	case PT_NOTE_COMPLETE:
		if (model->memory)
			model_memory_complete(model, note->value);
		if (model->gpu)
			model_gpu_complete(model, note->value);
		break;
	default:
		break; /* of a newer recorder; it concerns nobody here */
	}
}

static int take_record(struct pt_model *model, const struct pt_rec *record, size_t len)
{
	struct model_thread *thread;
	int rc;

	switch ((enum pt_rec_kind)record->kind) {
	case PT_REC_BATCH:
	case PT_REC_STACK:
		thread = thread_get(model, record);
		if (!thread)
			return -EBADMSG;
		rc = record->kind == PT_REC_BATCH
			 ? model_thread_batch(model, thread, (const struct pt_rec_batch *)record,
					      len)
			 : model_thread_outside(model, thread, (const struct pt_rec_stack *)record);
		return rc;
	case PT_REC_CODE:
		model_code_define(model, (const struct pt_rec_code *)record);
		return 0;
	case PT_REC_CFUNC:
		model_cfunc_define(model, (const struct pt_rec_cfunc *)record);
		return 0;
	case PT_REC_PROC:
		take_process(model, (const struct pt_rec_proc *)record);
		return 0;
	case PT_REC_THREAD:
		take_thread(model, (const struct pt_rec_thread *)record);
		return 0;
	case PT_REC_RANK:
		take_rank(model, (const struct pt_rec_rank *)record);
		return 0;
	case PT_REC_NOTE:
		take_note(model, (const struct pt_rec_note *)record);
		return 0;
	case PT_REC_RUNTIME:
		thread = thread_get(model, record);
		if (!thread)
			return -EBADMSG;
		model_runtime_record(model, thread, (const struct pt_rec_runtime *)record, len);
		return 0;
	case PT_REC_SCHED:
		thread = thread_get(model, record);
		if (!thread)
			return -EBADMSG;
		model_sched_record(model, thread, (const struct pt_rec_sched *)record);
		return 0;
	case PT_REC_SAMPLE:
		thread = thread_get(model, record);
		if (!thread)
			return -EBADMSG;
		model_sample_record(model, thread, (const struct pt_rec_sample *)record);
		return 0;
	case PT_REC_BLOCKED:
		thread = thread_get(model, record);
		if (!thread)
			return -EBADMSG;
		model_blocked_record(model, thread, (const struct pt_rec_blocked *)record);
		return 0;
	case PT_REC_VALUES:
		thread = thread_get(model, record);
		if (!thread)
			return -EBADMSG;
		model_values_record(model, thread, (const struct pt_rec_values *)record, len);
		return 0;
	case PT_REC_CALL_STACK:
		thread = thread_get(model, record);
		if (!thread)
			return -EBADMSG;
		return model_stack_record(model, thread, (const struct pt_rec_call_stack *)record);
	case PT_REC_MARK:
		return model_mark_define(model, (const struct pt_rec_mark *)record);
	case PT_REC_LINES:
		return model_lines_take(model, (const struct pt_rec_lines *)record);
	case PT_REC_CUDA_FN:
		model_cuda_define(model, (const struct pt_rec_cuda_fn *)record);
		return 0;
	case PT_REC_CUDA_LIB:
		model_cuda_lib(model, (const struct pt_rec_cuda_lib *)record);
		return 0;
	case PT_REC_CUDA_KERNEL:
		model_kernel_define(model, (const struct pt_rec_cuda_kernel *)record);
		return 0;
	case PT_REC_CUDA_LOADED:
		return -EBADMSG;
	case PT_REC_CONTROL:
		model_control(model, (const struct pt_rec_control *)record);
		return 0;
	}
	return -EBADMSG;
}

int pt_model_record(struct pt_model *model, const struct pt_rec *record, size_t len)
{
	/* pt_batch_begin() checks batches, which are nearly all there is */
	bool batch = len >= sizeof(struct pt_rec_batch) && record->kind == PT_REC_BATCH;

	if (model->error)
		return model->error;
	if ((!batch && pt_record_check(record, len)) || take_record(model, record, len))
		model->totals.bad_records++;
	return model->error;
}

/* ---- the life of a model ---- */

int pt_model_new(const struct pt_model_options *options, const struct pt_capture_info *info,
		 pt_op_fn emit, void *ctx, struct pt_model **result)
{
	struct pt_model *model = calloc(1, sizeof(*model));

	if (!model)
		return -ENOMEM;
	if (options)
		model->options = *options;
	model->emit = emit;
	model->ctx = ctx;
	model->gate_open_ns = info->start_mono_ns;
	model->process_tail = &model->process_list;
	if ((model->options.memory && model_memory_new(model)) ||
	    (model->options.gpu_bounds && model_gpu_new(model))) {
		model_memory_free(model);
		free(model);
		return -ENOMEM;
	}
	*result = model;
	return 0;
}

int pt_model_finish(struct pt_model *model, struct pt_totals *totals)
{
	uint64_t end_ns = model->gate_close_ns ? model->gate_close_ns : model->totals.last_ns;
	struct model_process *process;

	if (end_ns <= model->gate_open_ns)
		end_ns = model->gate_open_ns + 1;
	for (process = model->process_list; process && !model->finished; process = process->next)
		process_end(model, process, end_ns);
	if (model->memory && !model->finished)
		model_memory_finish(model, end_ns);
	if (model->gpu && !model->finished)
		model_gpu_finish(model, end_ns);
	model_control_end(model, end_ns);
	model->finished = true;
	pt_model_totals(model, totals);
	return model->error;
}

void pt_model_totals(const struct pt_model *model, struct pt_totals *totals)
{
	*totals = model->totals;
	/* what BPF counted as lost includes the ends of threads, which leave no gap behind them */
	if (model->lost_reported > totals->lost_events)
		totals->lost_events = model->lost_reported;
}

void pt_model_free(struct pt_model *model)
{
	if (!model)
		return;
	while (model->process_list) {
		struct model_process *process = model->process_list;

		model->process_list = process->next;
		while (process->threads) {
			struct model_thread *thread = process->threads;

			process->threads = thread->next_in_process;
			model_thread_reset(model, thread);
			free(thread);
		}
		free(process->cmdline);
		free(process);
	}
	free(model->value_texts);
	model_functions_release(model);
	model_marks_release(model);
	pt_map_release(&model->processes);
	pt_map_release(&model->images);
	pt_map_release(&model->threads);
	pt_map_release(&model->newest_threads);
	pt_map_release(&model->ns_threads);
	model_nccl_release(model);
	free(model->cuda_fns);
	model_kernels_release(model);
	model_memory_free(model);
	model_gpu_free(model);
	model_stacks_release(model);
	free(model);
}
