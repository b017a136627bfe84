// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * Probes of the user's. What they tell comes as words of the thread's batches (runtime.c), which
 * name a definition. A slice lies on the thread's stack; a range (begin, end) does not: what begins
 * it may be called within a function that returns at once, so it nests with other ranges only.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/model_priv.h"

/* More than the options take, so that numbers that are damaged do not take memory. */
#define MARK_ID_MAX 1024

struct model_range {
	const struct pt_rec_mark *mark;
	uint64_t begin_ns;
	int64_t key;
	struct pt_rec_runtime *details; /* owned, or NULL */
	struct model_call_stack *stack; /* or NULL */
};

int model_mark_define(struct pt_model *model, const struct pt_rec_mark *record)
{
	struct pt_rec_mark **slot;

	if (record->id > MARK_ID_MAX)
		return -EBADMSG;
	if (!model->marks)
		model->marks = calloc(MARK_ID_MAX + 1, sizeof(struct pt_rec_mark *));
	slot = model->marks ? &model->marks[record->id] : NULL;
	if (slot && !*slot)
		*slot = malloc(sizeof(**slot));
	else if (slot)
		return -EBADMSG; /* one of that id may be in use */
	if (!slot || !*slot) {
		model_fail(model, -ENOMEM);
		return 0;
	}
	**slot = *record;
	return 0;
}

void model_marks_release(struct pt_model *model)
{
	for (unsigned int i = 0; model->marks && i <= MARK_ID_MAX; i++)
		free(model->marks[i]);
	free(model->marks);
}

/* The definition of a word's probe, or NULL. */
static const struct pt_rec_mark *mark_of(const struct pt_model *model, const struct pt_ev_rt *rt)
{
	uint64_t id = rt->values == 3 ? (uint64_t)rt->value[1] : 0;

	return model->marks && id && id <= MARK_ID_MAX ? model->marks[id] : NULL;
}

void model_marks_left(struct pt_model *model, struct model_thread *thread,
		      const struct pt_ev *event)
{
	while (thread->frame_count && event->rt.values == 3) {
		const struct model_span *span = thread->frames[thread->frame_count - 1].span;

		if (!span || span->what != PT_RT_MARK || span->begin.values != 3 ||
		    (uint64_t)span->begin.value[2] > (uint64_t)event->rt.value[2])
			return;
		model_thread_pop_to(model, thread, thread->frame_count - 1, event->time_ns,
				    PT_SLICE_INTO_LOSS);
	}
}

bool model_mark_same(const struct pt_ev_rt *begin, const struct pt_ev_rt *end)
{
	return begin->values == 3 && end->values == 3 && begin->value[1] == end->value[1] &&
	       begin->value[2] == end->value[2];
}

static const char *item_utf8(const struct pt_rec_runtime *record, unsigned int i, char *text)
{
	pt_rt_item_utf8(record, i, text, MODEL_TEXT_MAX - 4);
	if (record->items[i].truncated == 1)
		strcat(text, "\u2026");
	else if (record->items[i].truncated == 2 && !text[0])
		strcpy(text, "?");
	return text;
}

static void fill_arg(const struct pt_rec_mark *mark, const struct pt_rec_runtime *record,
		     unsigned int i, struct model_mark_texts *texts)
{
	struct pt_arg *arg = &texts->args[texts->arg_count];
	int64_t number = record->items[i].number;
	char *text = texts->text[i];

	*arg = (struct pt_arg){.key = texts->keys[i], .number = number};
	pt_utf8_clean(texts->keys[i], sizeof(texts->keys[i]), mark->args[i].name,
		      strlen(mark->args[i].name));
	if (mark->args[i].type == PT_MARK_NAME || mark->args[i].type == PT_MARK_TEXT) {
		arg->text = item_utf8(record, i, text);
	} else if (mark->args[i].type == PT_MARK_POINTER) {
		snprintf(text, MODEL_TEXT_MAX, "%#llx", (unsigned long long)number);
		arg->text = text;
	} else if (mark->args[i].type == PT_MARK_UNSIGNED && number < 0) {
		snprintf(text, MODEL_TEXT_MAX, "%llu", (unsigned long long)number);
		arg->text = text;
	}
	/* a name that cannot be read is told, and that of the probe stands for it */
	if (mark->args[i].type == PT_MARK_NAME && record->items[i].truncated != 2)
		snprintf(texts->name, sizeof(texts->name), "%s", arg->text);
	else
		texts->arg_count++;
}

static void fill_texts(const struct pt_rec_mark *mark, const struct pt_rec_runtime *record,
		       struct model_mark_texts *texts)
{
	texts->arg_count = 0;
	pt_utf8_clean(texts->name, sizeof(texts->name), mark ? mark->name : "?",
		      mark ? strlen(mark->name) : 1);
	for (unsigned int i = 0; mark && record && i < record->item_count && i < mark->arg_count;
	     i++)
		fill_arg(mark, record, i, texts);
}

void model_mark_texts(const struct pt_model *model, const struct pt_ev_rt *rt,
		      const struct pt_rec_runtime *record, struct model_mark_texts *texts)
{
	fill_texts(mark_of(model, rt), record, texts);
}

uint32_t model_mark_stack(struct pt_model *model, struct model_call_stack *stack,
			  struct model_mark_texts *texts)
{
	const char *at;
	uint32_t id;

	if (!stack)
		return 0;
	id = model_stack_show(model, stack, &at);
	texts->args[texts->arg_count++] = (struct pt_arg){.key = "stack", .number = id};
	if (at)
		texts->args[texts->arg_count++] = (struct pt_arg){.key = "called at", .text = at};
	return id;
}

/* ---- ranges ---- */

static void emit_range(struct pt_model *model, struct model_thread *thread,
		       const struct model_range *range, uint64_t end_ns, uint32_t flags)
{
	struct model_mark_texts texts;
	struct pt_op op = {
	    .kind = PT_OP_RANGE,
	    .range =
		{
		    .pid = thread->process->pid,
		    .tid = thread->tid,
		    .begin_ns = range->begin_ns,
		    .end_ns = end_ns > range->begin_ns ? end_ns : range->begin_ns + 1,
		    .track = (uint64_t)range->mark->group,
		    .category = "mark",
		    .name = texts.name,
		    .args = texts.args,
		    .flags = flags,
		},
	};

	/* the low bits of the key are what the user's ranges are told apart by, the high ones say
	 * which of them it is */
	op.range.track |= ((uint64_t)range->key & ((1ull << 47) - 1)) << 16;
	if (op.range.begin_ns < model->clear_ns) {
		op.range.begin_ns = model->clear_ns;
		op.range.flags |= PT_SLICE_OPEN_AT_START;
	}
	if (op.range.end_ns <= op.range.begin_ns ||
	    op.range.end_ns - op.range.begin_ns < model->options.min_duration_ns ||
	    (model->drop_open && flags & PT_SLICE_OPEN_AT_END))
		return;
	fill_texts(range->mark, range->details, &texts);
	op.range.stack_id = model_mark_stack(model, range->stack, &texts);
	op.range.arg_count = texts.arg_count;
	model->totals.spans++;
	if (!thread->announced)
		model_thread_announce(model, thread);
	model_emit(model, &op);
}

/* Ends the range at ranges[i]. */
static void end_range(struct pt_model *model, struct model_thread *thread, uint32_t i, uint64_t ns,
		      uint32_t flags)
{
	struct model_range range = thread->ranges[i];

	memmove(&thread->ranges[i], &thread->ranges[i + 1],
		(--thread->range_count - i) * sizeof(range));
	model->open_frames--;
	emit_range(model, thread, &range, ns, flags);
	free(range.details);
}

/* The range of that group and key, or range_count. */
static uint32_t find_range(const struct model_thread *thread, const struct pt_rec_mark *mark,
			   int64_t key)
{
	uint32_t i = 0;

	while (i < thread->range_count &&
	       (thread->ranges[i].mark->group != mark->group || thread->ranges[i].key != key))
		i++;
	return i;
}

static void begin_range(struct pt_model *model, struct model_thread *thread,
			const struct pt_rec_mark *mark, const struct pt_ev *event,
			const struct pt_rec_runtime *record, struct model_call_stack *stack)
{
	uint32_t before = find_range(thread, mark, event->rt.value[2]);
	struct model_range *range, *bigger;

	/* its end was lost */
	if (before < thread->range_count)
		end_range(model, thread, before, event->time_ns, PT_SLICE_INTO_LOSS);
	if (model->open_frames >= MODEL_MAX_FRAMES) {
		model->totals.bad_records++;
		return;
	}
	bigger = reallocarray(thread->ranges, thread->range_count + 1, sizeof(*bigger));
	if (!bigger) {
		model_fail(model, -ENOMEM);
		return;
	}
	thread->ranges = bigger;
	range = &bigger[thread->range_count++];
	model->open_frames++;
	*range = (struct model_range){
	    .mark = mark, .begin_ns = event->time_ns, .key = event->rt.value[2], .stack = stack};
	if (!record)
		return;
	range->details = malloc(record->hdr.len);
	if (range->details)
		memcpy(range->details, record, record->hdr.len);
	else
		model_fail(model, -ENOMEM);
}

void model_marks_end(struct pt_model *model, struct model_thread *thread, uint64_t end_ns)
{
	while (thread->range_count)
		end_range(model, thread, thread->range_count - 1, end_ns, PT_SLICE_OPEN_AT_END);
}

void model_ranges_release(struct pt_model *model, struct model_thread *thread)
{
	for (uint32_t i = 0; i < thread->range_count; i++)
		free(thread->ranges[i].details);
	model->open_frames -= thread->range_count;
	free(thread->ranges);
	thread->ranges = NULL;
	thread->range_count = 0;
}

/* ---- instants and counters ---- */

static void emit_instant(struct pt_model *model, struct model_thread *thread,
			 const struct model_mark_texts *texts, uint32_t stack_id, uint64_t ns)
{
	const struct pt_op op = {
	    .kind = PT_OP_INSTANT,
	    .instant =
		{
		    .pid = thread->process->pid,
		    .tid = thread->tid,
		    .time_ns = ns > thread->last_ns ? ns : thread->last_ns,
		    .category = "mark",
		    .name = texts->name,
		    .args = texts->args,
		    .arg_count = texts->arg_count,
		    .stack_id = stack_id,
		},
	};

	model->totals.instants++;
	if (!thread->announced)
		model_thread_announce(model, thread);
	model_emit(model, &op);
}

static void emit_counter(struct pt_model *model, struct model_thread *thread,
			 const struct model_mark_texts *texts, uint64_t ns)
{
	struct pt_op op = {
	    .kind = PT_OP_COUNTER,
	    .counter =
		{
		    .pid = thread->process->pid,
		    .time_ns = ns > thread->last_ns ? ns : thread->last_ns,
		    .name = texts->name,
		},
	};

	if (!thread->announced)
		model_thread_announce(model, thread);
	for (uint32_t i = 0; i < texts->arg_count; i++) {
		const struct pt_arg *arg = &texts->args[i];

		op.counter.series = arg->key;
		/* what does not fit into a signed number, and pointers */
		op.counter.value = arg->text ? (double)(uint64_t)arg->number : (double)arg->number;
		model_emit(model, &op);
	}
}

void model_mark(struct pt_model *model, struct model_thread *thread, const struct pt_ev *event,
		const struct pt_rec_runtime *record)
{
	const struct pt_rec_mark *mark = mark_of(model, &event->rt);
	enum pt_mark_kind kind = mark ? (enum pt_mark_kind)mark->kind : PT_MARK_INSTANT;
	struct model_call_stack *stack = model_stack_take(thread);
	struct model_mark_texts texts;
	uint32_t i;

	if (kind == PT_MARK_BEGIN) {
		begin_range(model, thread, mark, event, record, stack);
	} else if (kind == PT_MARK_END) {
		i = find_range(thread, mark, event->rt.value[2]);
		if (i < thread->range_count)
			end_range(model, thread, i, event->time_ns, 0);
	} else if (!model_thread_silent(model, thread)) {
		fill_texts(mark, record, &texts);
		if (kind == PT_MARK_COUNTER)
			emit_counter(model, thread, &texts, event->time_ns);
		else
			emit_instant(model, thread, &texts, model_mark_stack(model, stack, &texts),
				     event->time_ns);
	}
}
