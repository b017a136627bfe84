// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * What whoever controls the recording did to it: pauses, clearing; and what a copy of the trace
 * needs besides what has gone out already.
 *
 * A clear forgets what lies before it. Each thread's stack is brought to it at the thread's first
 * event behind it (thread_open.c, cleared()): batches that come later may hold older events, which
 * are followed but not shown.
 */
#include <stdio.h>
#include <string.h>

#include "model/model_priv.h"

static void tell_all(struct pt_model *model, uint64_t ns, const char *name, const char *detail)
{
	const struct model_process *process;

	for (process = model->process_list; process; process = process->next) {
		if (!process->ended)
			model_instant(model, process, ns, "control", name, detail);
	}
}

static void pause_over(struct pt_model *model, uint64_t ns)
{
	if (model->pause_ns && ns > model->pause_ns)
		model->totals.paused_ns += ns - model->pause_ns;
	model->pause_ns = 0;
}

/* What a thread had open then is known to be open up to then only, until it tells more. */
static void absent(struct pt_model *model, uint64_t ns)
{
	struct model_process *process;
	struct model_thread *thread;

	model->last_absent_ns = ns;
	for (process = model->process_list; process; process = process->next) {
		for (thread = process->threads; thread; thread = thread->next_in_process) {
			if (!thread->ended && !thread->absent_ns)
				thread->absent_ns = ns;
		}
	}
}

static const char *why_text(__u32 why)
{
	if (why & PT_WHY_CPU)
		return why & PT_WHY_OVERHEAD ? "to keep within --max-overhead and --max-cpu"
					     : "to keep within --max-cpu";
	return why & PT_WHY_OVERHEAD ? "to keep within --max-overhead" : NULL;
}

static void paused(struct pt_model *model, const struct pt_rec_control *record)
{
	uint64_t ns = record->hdr.time_ns;

	if (record->why & PT_WHY_ABSENT)
		absent(model, ns);
	if (model->pause_ns)
		return;
	model->pause_ns = model->last_pause_ns = ns;
	model->totals.pauses++;
	if (model->gpu)
		model_gpu_paused(model, true, ns);
	tell_all(model, ns, "recording paused", why_text(record->why));
}

static void resumed(struct pt_model *model, const struct pt_rec_control *record)
{
	uint64_t ns = record->hdr.time_ns;
	uint64_t paused_ns = model->pause_ns && ns > model->pause_ns ? ns - model->pause_ns : 0;
	char detail[96];

	snprintf(detail, sizeof(detail), "after %llu.%06llu ms%s",
		 (unsigned long long)(paused_ns / 1000000),
		 (unsigned long long)(paused_ns % 1000000),
		 record->why & PT_WHY_NO_C ? ", without C functions, to keep within --max-overhead"
					   : "");
	if (model->gpu)
		model_gpu_paused(model, false, ns);
	tell_all(model, ns, "recording resumed", detail);
	if (record->why & PT_WHY_ABSENT)
		model->absent_until_ns = ns;
	pause_over(model, ns);
}

/* Until the recording goes on, or they cost too much as well. */
static void samples(struct pt_model *model, const struct pt_rec_control *record)
{
	bool taken = record->why & PT_WHY_SAMPLES;

	tell_all(model, record->hdr.time_ns,
		 taken ? "samples are taken meanwhile" : "no more samples are taken",
		 taken ? NULL : why_text(record->why));
}

static void clear(struct pt_model *model, uint64_t ns)
{
	const struct pt_totals fresh = {.functions = model->totals.functions};
	const struct pt_op op = {.kind = PT_OP_CLEAR};
	struct model_function *function;
	struct model_process *process;
	struct model_thread *thread;

	model->totals = fresh;
	model->lost_reported = 0;
	model->clear_ns = model->gate_open_ns = ns;
	if (model->pause_ns) { /* it goes on, and is in the new trace from its start on */
		model->pause_ns = ns;
		model->totals.pauses = 1;
	}
	for (function = model->function_list; function; function = function->next)
		function->announced = false;
	model_stacks_clear(model);
	model_emit(model, &op);
	for (process = model->process_list; process; process = process->next) {
		bool again = process->announced && !process->ended;

		process->announced = process->continues = false;
		for (thread = process->threads; thread; thread = thread->next_in_process)
			thread->announced = false;
		if (again)
			model_announce_process(model, process);
	}
}

void model_control(struct pt_model *model, const struct pt_rec_control *record)
{
	uint64_t ns = record->hdr.time_ns;

	switch ((enum pt_control_what)record->what) {
	case PT_CONTROL_PAUSE:
		paused(model, record);
		break;
	case PT_CONTROL_RESUME:
		resumed(model, record);
		break;
	case PT_CONTROL_CLEAR:
		clear(model, ns);
		break;
	case PT_CONTROL_SAMPLES:
		samples(model, record);
		break;
	case PT_CONTROL_DROP_OPEN:
		model->drop_open = model->totals.open_left_out = true;
		break;
	}
}

void model_control_end(struct pt_model *model, uint64_t end_ns)
{
	pause_over(model, end_ns);
}

/* ---- copies ---- */

struct copy {
	pt_op_fn fn;
	void *ctx;
	int rc;
};

static void each_open(struct pt_model *model, uint64_t known_ns,
		      void (*fn)(struct pt_model *model, struct model_thread *thread,
				 const struct pt_op_slice *slice, void *ctx),
		      void *ctx)
{
	struct model_process *process;
	struct model_thread *thread;

	for (process = model->process_list; process; process = process->next) {
		for (thread = process->threads; thread; thread = thread->next_in_process)
			model_thread_each_open(model, thread, known_ns, fn, ctx);
	}
}

static void announce_slice(struct pt_model *model, struct model_thread *thread,
			   const struct pt_op_slice *slice, void *ctx)
{
	/* the model's own: slices only borrow them as constants */
	model_function_announce(model, (struct model_function *)(uintptr_t)slice->function);
	if (!thread->announced)
		model_thread_announce(model, thread);
}

static void copy_slice(struct pt_model *model, struct model_thread *thread,
		       const struct pt_op_slice *slice, void *ctx)
{
	const struct pt_op op = {.kind = PT_OP_SLICE, .slice = *slice};
	struct copy *copy = ctx;

	if (!copy->rc)
		copy->rc = copy->fn(&op, copy->ctx);
}

void pt_model_announce_open(struct pt_model *model, uint64_t known_ns)
{
	each_open(model, known_ns, announce_slice, NULL);
}

int pt_model_open_slices(struct pt_model *model, uint64_t known_ns, pt_op_fn fn, void *ctx)
{
	struct copy copy = {.fn = fn, .ctx = ctx};
	struct model_process *process;
	struct model_thread *thread;

	each_open(model, known_ns, copy_slice, &copy);
	for (process = model->process_list; process; process = process->next) {
		for (thread = process->threads; thread && !copy.rc;
		     thread = thread->next_in_process)
			copy.rc = model_samples_copy(model, thread, fn, ctx);
	}
	return copy.rc;
}
