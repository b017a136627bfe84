// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * What the scheduler did with a thread. A record holds a turn: the thread ran, was blocked, was
 * runnable. The turns of a thread come in order and join without a gap, unless records were lost
 * (their numbers tell), or recording was paused meanwhile: what happened then is not shown.
 *
 * These states lie beside the thread's calls and never touch its stack: a switch may fall into the
 * middle of a probe, so the times of the two do not nest.
 */
#include <stdio.h>

#include "base/syscalls.h"
#include "model/model_priv.h"

/* TASK_* of the kernel (include/linux/sched.h) and the letters of ps(1) */
#define STATE_UNKNOWN 0xff
static const char state_letters[] = {'S', 'D', 'T', 't', 'X', 'Z', 'P', 'X'};

static void state_letter(uint16_t state, char letter[2])
{
	letter[0] = '?';
	letter[1] = '\0';
	for (unsigned int i = 0; state != STATE_UNKNOWN && i < sizeof(state_letters); i++) {
		if (state >> i & 1) {
			letter[0] = state_letters[i];
			break;
		}
	}
}

static void emit(struct pt_model *model, struct model_thread *thread, struct pt_op_state *state)
{
	struct pt_op op = {.kind = PT_OP_STATE};

	if (state->begin_ns < model->clear_ns)
		state->begin_ns = model->clear_ns;
	if (state->end_ns <= state->begin_ns)
		return;
	state->pid = thread->process->pid;
	state->tid = thread->tid;
	op.state = *state;
	if (!thread->announced)
		model_thread_announce(model, thread);
	model->totals.states++;
	if (state->end_ns > model->totals.last_ns)
		model->totals.last_ns = state->end_ns;
	model_emit(model, &op);
}

void model_sched_cause(uint16_t state, int16_t syscall, uint32_t flags, struct model_cause *cause)
{
	const char *call = pt_syscall_name(syscall);
	char number[24];

	state_letter(state, cause->letter);
	cause->args[0] = (struct pt_arg){.key = "state", .text = cause->letter};
	cause->args[1] = (struct pt_arg){.key = "waits for a device", .number = 1};
	cause->arg_count = flags & PT_SCHED_IO ? 2 : 1;
	snprintf(number, sizeof(number), "system call %d", syscall);
	if (syscall == PT_SCHED_CALL_UNKNOWN)
		call = "?";
	else if (syscall == PT_SCHED_NO_CALL)
		call = "no system call";
	else if (!call)
		call = number;
	snprintf(cause->name, sizeof(cause->name),
		 cause->letter[0] == 'S' ? "blocked: %s" : "blocked: %s (%s)", call, cause->letter);
}

static void emit_blocked(struct pt_model *model, struct model_thread *thread,
			 const struct pt_rec_sched *record, uint64_t end_ns)
{
	struct model_cause cause;
	struct pt_op_state state = {
	    .begin_ns = record->out_ns,
	    .end_ns = end_ns,
	    .state = PT_STATE_BLOCKED,
	    .name = cause.name,
	    .args = cause.args,
	};

	model_sched_cause(record->state, record->syscall, record->flags, &cause);
	state.arg_count = cause.arg_count;
	emit(model, thread, &state);
}

static void emit_runnable(struct pt_model *model, struct model_thread *thread,
			  const struct pt_rec_sched *record, uint64_t end_ns)
{
	struct pt_arg arg = {
	    .key = "after",
	    .text = record->state ? "it was woken" : "it lost the CPU",
	};
	struct pt_op_state state = {
	    .begin_ns = record->wake_ns,
	    .end_ns = end_ns,
	    .state = PT_STATE_RUNNABLE,
	    .name = "runnable",
	    .args = &arg,
	    .arg_count = 1,
	};

	emit(model, thread, &state);
}

/* From what is known to the next turn. Where nothing is known before it, since when turns are
 * missing is not known either: the slice is as short as one can be. */
static void gap(struct pt_model *model, struct model_thread *thread,
		const struct pt_rec_sched *record, uint32_t lost)
{
	struct pt_arg arg = {.key = "records", .number = lost};
	struct pt_op_state state = {
	    .begin_ns = thread->sched_ns ? thread->sched_ns : record->run_ns - 1,
	    .end_ns = record->run_ns,
	    .state = PT_STATE_LOST,
	    .name = "states lost",
	    .args = &arg,
	    .arg_count = 1,
	};

	model->totals.lost_states += lost;
	emit(model, thread, &state);
}

void model_sched_record(struct pt_model *model, struct model_thread *thread,
			const struct pt_rec_sched *record)
{
	uint64_t until_ns = record->in_ns ? record->in_ns : record->hdr.time_ns;
	struct pt_arg cpu = {.key = "cpu", .number = record->cpu};
	struct pt_op_state running = {
	    .begin_ns = record->run_ns,
	    .end_ns = record->out_ns ? record->out_ns : until_ns,
	    .state = PT_STATE_RUNNING,
	    .name = "running",
	    .args = &cpu,
	    .arg_count = record->out_ns ? 1 : 0,
	};
	uint32_t lost;

	if (!record->seq) /* a new thread */
		thread->sched_seq = 0;
	lost = record->seq - thread->sched_seq;
	if (record->run_ns < thread->sched_ns || (int32_t)lost < 0) {
		model->totals.bad_records++;
		return;
	}
	if (lost)
		gap(model, thread, record, lost);
	emit(model, thread, &running);
	thread->sched_seq = record->seq + 1;
	thread->sched_ns = record->hdr.flags & PT_SCHED_END ? 0 : until_ns;
	if (!record->out_ns || record->hdr.flags & PT_SCHED_END)
		return;
	if (record->state)
		emit_blocked(model, thread, record, record->wake_ns ? record->wake_ns : until_ns);
	if (record->wake_ns)
		emit_runnable(model, thread, record, until_ns);
}
