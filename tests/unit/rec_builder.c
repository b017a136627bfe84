// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
#include "rec_builder.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void rec_init(struct rec_builder *b, rec_fn emit, void *ctx)
{
	memset(b, 0, sizeof(*b));
	b->emit = emit;
	b->ctx = ctx;
}

struct rec_thread rec_thread(uint32_t tgid, uint32_t tid, uint32_t image_id, const char *comm)
{
	struct rec_thread t = {.tgid = tgid, .tid = tid, .image_id = image_id};

	memcpy(t.comm, comm, strnlen(comm, sizeof(t.comm) - 1));
	return t;
}

static void emit(struct rec_builder *b, const struct pt_rec *record)
{
	int rc = b->emit(record, record->len, b->ctx);

	if (rc && !b->rc)
		b->rc = rc;
}

/* A zeroed record with len rounded up; the caller frees it. */
static void *make(enum pt_rec_kind kind, size_t len, uint32_t tgid, uint32_t tid, uint32_t image_id,
		  uint64_t time_ns)
{
	struct pt_rec *record = calloc(1, (len + 7) & ~(size_t)7);

	if (!record)
		abort();
	record->kind = (uint16_t)kind;
	record->len = (uint32_t)((len + 7) & ~(size_t)7);
	record->tgid = tgid;
	record->tid = tid;
	record->image_id = image_id;
	record->time_ns = time_ns;
	return record;
}

static void put_code(struct rec_builder *b, uint32_t id, const char *name, const char *qualname,
		     const char *file, uint32_t line, uint32_t co_flags)
{
	const char *texts[PT_STR_COUNT] = {name, qualname, file};
	size_t len = sizeof(struct pt_rec_code), lens[PT_STR_COUNT];
	struct pt_rec_code *code;
	char *data;

	for (int i = 0; i < PT_STR_COUNT; i++)
		len += lens[i] = strlen(texts[i]);
	code = make(PT_REC_CODE, len, 1, 1, 1, 0);
	code->id = id;
	code->firstlineno = line;
	code->co_flags = co_flags;
	data = code->data;
	for (int i = 0; i < PT_STR_COUNT; i++) {
		code->str[i].bytes = (uint16_t)lens[i];
		code->str[i].width = 1;
		memcpy(data, texts[i], lens[i]);
		data += lens[i];
	}
	emit(b, &code->hdr);
	free(code);
}

void rec_code(struct rec_builder *b, uint32_t id, const char *name, const char *qualname,
	      const char *file, uint32_t line)
{
	put_code(b, id, name, qualname, file, line, 0);
}

void rec_code_flags(struct rec_builder *b, uint32_t id, const char *name, const char *file,
		    uint32_t line, uint32_t co_flags)
{
	put_code(b, id, name, name, file, line, co_flags);
}

void rec_cfunc(struct rec_builder *b, uint32_t id, enum pt_cfunc_kind kind, const char *name,
	       const char *owner)
{
	struct pt_rec_cfunc *cfunc = make(PT_REC_CFUNC, sizeof(*cfunc), 1, 1, 1, 0);

	cfunc->id = id;
	cfunc->kind = kind;
	snprintf(cfunc->name, sizeof(cfunc->name), "%s", name);
	snprintf(cfunc->owner, sizeof(cfunc->owner), "%s", owner);
	emit(b, &cfunc->hdr);
	free(cfunc);
}

void rec_proc(struct rec_builder *b, enum pt_proc_what what, uint32_t tgid, uint32_t image_id,
	      uint64_t time_ns, uint32_t parent, const char *comm, const char *cmdline,
	      int exit_code)
{
	size_t text = cmdline ? strlen(cmdline) : 0;
	struct pt_rec_proc *proc = make(PT_REC_PROC, sizeof(*proc) + text, tgid, tgid, image_id,
					time_ns);

	proc->what = what;
	proc->parent_tgid = parent;
	proc->exit_code = exit_code;
	proc->ns_tgid = tgid;
	proc->text_bytes = (uint32_t)text;
	memcpy(proc->comm, comm, strnlen(comm, 15));
	for (size_t i = 0; i < text; i++)
		proc->data[i] = cmdline[i] == ' ' ? '\0' : cmdline[i];
	emit(b, &proc->hdr);
	free(proc);
}

static void thread_record(struct rec_builder *b, const struct rec_thread *t, uint64_t time_ns,
			  enum pt_thread_what what)
{
	struct pt_rec_thread *thread = make(PT_REC_THREAD, sizeof(*thread), t->tgid, t->tid,
					    t->image_id, time_ns);

	thread->what = what;
	thread->ns_tid = t->ns_tid;
	thread->events_total = what == PT_THREAD_EXIT ? t->events : 0;
	memcpy(thread->comm, t->comm, sizeof(thread->comm));
	emit(b, &thread->hdr);
	free(thread);
}

void rec_thread_start(struct rec_builder *b, const struct rec_thread *t, uint64_t time_ns)
{
	thread_record(b, t, time_ns, PT_THREAD_START);
}

void rec_thread_exit(struct rec_builder *b, const struct rec_thread *t, uint64_t time_ns)
{
	thread_record(b, t, time_ns, PT_THREAD_EXIT);
}

void rec_lines(struct rec_builder *b, uint32_t id, uint32_t version, const void *table,
	       uint32_t total, uint32_t offset, uint32_t bytes)
{
	struct pt_rec_lines *lines = make(PT_REC_LINES, sizeof(*lines) + bytes, 1, 1, 1, 0);

	lines->code_id = id;
	lines->version = version;
	lines->total_bytes = total;
	lines->offset = offset;
	lines->bytes = bytes;
	memcpy(lines->data, (const char *)table + offset, bytes);
	emit(b, &lines->hdr);
	free(lines);
}

void rec_note(struct rec_builder *b, enum pt_note_what what, uint64_t time_ns, uint64_t value)
{
	struct pt_rec_note *note = make(PT_REC_NOTE, sizeof(*note), 0, 0, 0, time_ns);

	note->what = what;
	note->value = value;
	emit(b, &note->hdr);
	free(note);
}

void rec_control(struct rec_builder *b, enum pt_control_what what, uint64_t time_ns)
{
	rec_control_why(b, what, 0, time_ns);
}

void rec_control_why(struct rec_builder *b, enum pt_control_what what, uint32_t why,
		     uint64_t time_ns)
{
	struct pt_rec_control *control = make(PT_REC_CONTROL, sizeof(*control), 0, 0, 0, time_ns);

	control->what = what;
	control->why = why;
	emit(b, &control->hdr);
	free(control);
}

void rec_sample(struct rec_builder *b, const struct rec_thread *t, uint64_t time_ns,
		const uint32_t *ids, uint32_t count, uint16_t flags)
{
	rec_sample_native(b, t, time_ns, 0, ids, count, flags);
}

static void place_frames(struct pt_sample_frame *frames, const uint32_t *ids, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		frames[i] = (struct pt_sample_frame){ids[i], PT_SAMPLE_NO_PLACE};
}

static void put_sample(struct rec_builder *b, const struct rec_thread *t, uint64_t time_ns,
		       uint32_t serial, const struct pt_sample_frame *frames, uint32_t count,
		       uint16_t flags)
{
	struct pt_rec_sample *record = make(PT_REC_SAMPLE, sizeof(*record) + 8 * (size_t)count,
					    t->tgid, t->tid, t->image_id, time_ns);

	record->hdr.flags = flags;
	record->period_ns = 100;
	record->stack = serial;
	record->frame_count = count;
	memcpy(record->comm, t->comm, sizeof(record->comm));
	memcpy(record->frames, frames, 8 * (size_t)count);
	emit(b, &record->hdr);
	free(record);
}

void rec_sample_native(struct rec_builder *b, const struct rec_thread *t, uint64_t time_ns,
		       uint32_t serial, const uint32_t *ids, uint32_t count, uint16_t flags)
{
	struct pt_sample_frame frames[PT_SAMPLE_FRAMES_MAX];

	place_frames(frames, ids, count);
	put_sample(b, t, time_ns, serial, frames, count, flags);
}

void rec_sample_placed(struct rec_builder *b, const struct rec_thread *t, uint64_t time_ns,
		       uint32_t serial, const struct pt_sample_frame *frames, uint32_t count)
{
	put_sample(b, t, time_ns, serial, frames, count, 0);
}

void rec_blocked(struct rec_builder *b, const struct rec_thread *t, uint64_t out_ns,
		 uint64_t time_ns, const uint32_t *ids, uint32_t count, uint16_t flags)
{
	struct pt_rec_blocked *record = make(PT_REC_BLOCKED, sizeof(*record) + 8 * (size_t)count,
					     t->tgid, t->tid, t->image_id, time_ns);

	record->hdr.flags = flags;
	record->out_ns = out_ns;
	record->period_ns = 100;
	record->state = 1;
	record->syscall = 270;
	record->frame_count = count;
	memcpy(record->comm, t->comm, sizeof(record->comm));
	place_frames(record->frames, ids, count);
	emit(b, &record->hdr);
	free(record);
}

void rec_sched(struct rec_builder *b, const struct rec_thread *t, struct pt_rec_sched record)
{
	uint64_t last_ns = record.in_ns     ? record.in_ns
			   : record.wake_ns ? record.wake_ns
			   : record.out_ns  ? record.out_ns
					    : record.run_ns;

	record.hdr.kind = PT_REC_SCHED;
	record.hdr.len = sizeof(record);
	record.hdr.tgid = t->tgid;
	record.hdr.tid = t->tid;
	record.hdr.image_id = t->image_id;
	if (!record.hdr.time_ns)
		record.hdr.time_ns = last_ns;
	emit(b, &record.hdr);
}

void rec_stack(struct rec_builder *b, const struct rec_thread *t, uint64_t time_ns,
	       const uint32_t *ids, uint32_t count, uint32_t depth)
{
	struct pt_rec_stack *stack = make(PT_REC_STACK,
					  sizeof(*stack) + count * sizeof(stack->frames[0]),
					  t->tgid, t->tid, t->image_id, time_ns);

	stack->frame_count = count;
	stack->depth = depth;
	for (uint32_t i = 0; i < count; i++) {
		stack->frames[i].code_id = ids[i];
		stack->frames[i].depth = depth - i;
	}
	emit(b, &stack->hdr);
	free(stack);
}

/* ---- batches ---- */

void batch_begin(struct rec_builder *b, struct rec_thread *t, uint64_t base_ns)
{
	memset(b->space, 0, sizeof(b->space));
	b->thread = t;
	b->batch.hdr.kind = PT_REC_BATCH;
	b->batch.hdr.tgid = t->tgid;
	b->batch.hdr.tid = t->tid;
	b->batch.hdr.image_id = t->image_id;
	b->batch.hdr.time_ns = base_ns;
	b->batch.base_ns = base_ns;
	b->batch.events_before = t->events;
	b->batch.seq = t->seq;
	b->batch.depth = t->depth;
	memcpy(b->batch.comm, t->comm, sizeof(b->batch.comm));
}

unsigned int batch_room(const struct rec_builder *b)
{
	return PT_BATCH_WORDS - b->batch.word_count;
}

static void word(struct rec_builder *b, uint64_t value)
{
	if (!batch_room(b))
		abort();
	b->batch.words[b->batch.word_count++] = value;
}

static void item(struct rec_builder *b, unsigned int kind, uint32_t arg, uint64_t ns)
{
	b->batch.hdr.time_ns = ns > b->batch.hdr.time_ns ? ns : b->batch.hdr.time_ns;
	word(b, PT_WORD(kind, arg, ns - b->batch.base_ns));
}

void batch_enter(struct rec_builder *b, uint32_t code_id, uint64_t ns)
{
	if (code_id > PT_WORD_ARG_MASK) {
		item(b, PT_W_EXT, PT_EXT_ARG(PT_X_ENTER, 1), ns);
		word(b, code_id);
	} else {
		item(b, PT_W_ENTER, code_id, ns);
	}
	b->batch.events++;
	b->thread->depth++;
}

void batch_line(struct rec_builder *b, uint32_t caller_id, uint32_t unit)
{
	word(b, PT_WORD(PT_W_LINE, unit, caller_id));
}

void batch_exit_to(struct rec_builder *b, uint32_t depth, uint64_t ns)
{
	item(b, PT_W_EXIT, depth & PT_WORD_ARG_MASK, ns);
	b->batch.events++;
	b->thread->depth = depth;
}

void batch_c_enter(struct rec_builder *b, uint32_t id, uint64_t ns)
{
	if (id > PT_WORD_ARG_MASK) {
		item(b, PT_W_EXT, PT_EXT_ARG(PT_X_C_ENTER, 1), ns);
		word(b, id);
	} else {
		item(b, PT_W_C_ENTER, id, ns);
	}
	b->batch.events++;
}

void batch_c_exit(struct rec_builder *b, uint64_t ns)
{
	item(b, PT_W_C_EXIT, b->thread->depth, ns);
	b->batch.events++;
}

void batch_exit(struct rec_builder *b, uint64_t ns)
{
	batch_exit_to(b, b->thread->depth - 1, ns);
}

void batch_depth(struct rec_builder *b, uint32_t depth, uint64_t ns)
{
	item(b, PT_W_EXT, PT_EXT_ARG(PT_X_DEPTH, 1), ns);
	word(b, depth);
	b->thread->depth = depth;
}

void batch_coro(struct rec_builder *b, uint64_t object, uint64_t ns)
{
	item(b, PT_W_EXT, PT_EXT_ARG(PT_X_CORO, 1), ns);
	word(b, object);
}

void batch_task(struct rec_builder *b, uint64_t object, uint64_t ns)
{
	item(b, PT_W_EXT, PT_EXT_ARG(PT_X_TASK, 1), ns);
	word(b, object);
}

void batch_switch(struct rec_builder *b, uint64_t number, uint64_t ns)
{
	item(b, PT_W_EXT, PT_EXT_ARG(PT_X_SWITCH, 1), ns);
	word(b, number);
}

void batch_rt(struct rec_builder *b, unsigned int type, unsigned int what, unsigned int flags,
	      const int64_t *values, uint32_t count, uint64_t ns)
{
	item(b, PT_W_EXT, PT_EXT_ARG(type, 1 + count), ns);
	word(b, PT_RT_DESC(what, count, flags));
	for (uint32_t i = 0; i < count; i++)
		word(b, (uint64_t)values[i] << PT_RT_SHIFT);
}

void rec_runtime(struct rec_builder *b, const struct rec_thread *t, uint32_t serial,
		 unsigned int what, const char *const *texts, uint64_t ns)
{
	struct pt_rec_runtime *record = make(PT_REC_RUNTIME, sizeof(*record) + 1024, t->tgid,
					     t->tid, t->image_id, ns);
	size_t used = 0;

	record->serial = serial;
	record->what = (uint16_t)what;
	for (; *texts; texts++) {
		struct pt_rt_item *one = &record->items[record->item_count++];

		if (**texts == '#') {
			one->type = PT_RT_INT;
			one->number = strtoll(*texts + 1, NULL, 0);
			continue;
		}
		one->type = PT_RT_BYTES;
		one->bytes = (uint32_t)strlen(*texts);
		memcpy(record->data + used, *texts, one->bytes);
		used += one->bytes;
	}
	record->hdr.len = (uint32_t)((sizeof(*record) + used + 7) & ~(size_t)7);
	emit(b, &record->hdr);
	free(record);
}

void rec_values(struct rec_builder *b, const struct rec_thread *t, uint32_t serial,
		const struct pt_value *values, uint16_t count, uint16_t more, const char *data,
		uint64_t ns)
{
	size_t used = 0, size;
	struct pt_rec_values *record;

	for (uint16_t i = 0; i < count; i++)
		used += (size_t)values[i].name_bytes + values[i].bytes;
	size = (sizeof(*record) + used + 7) & ~(size_t)7;
	record = make(PT_REC_VALUES, size, t->tgid, t->tid, t->image_id, ns);
	record->serial = serial;
	record->count = count;
	record->more = more;
	memcpy(record->values, values, count * sizeof(*values));
	memcpy(record->data, data, used);
	emit(b, &record->hdr);
	free(record);
}

void rec_mark(struct rec_builder *b, uint32_t id, enum pt_mark_kind kind, uint32_t group,
	      const char *name, const struct rec_mark_arg *args)
{
	struct pt_rec_mark *record = make(PT_REC_MARK, sizeof(*record), 0, 0, 0, 0);

	record->id = id;
	record->kind = kind;
	record->group = group;
	snprintf(record->name, sizeof(record->name), "%s", name);
	for (; args && args->name; args++) {
		record->args[record->arg_count].type = args->type;
		snprintf(record->args[record->arg_count++].name, PT_MARK_ARG_NAME_BYTES, "%s",
			 args->name);
	}
	emit(b, &record->hdr);
	free(record);
}

void batch_values(struct rec_builder *b, unsigned int type, uint32_t serial, uint64_t ns)
{
	item(b, PT_W_EXT, PT_EXT_ARG(type, 1), ns);
	word(b, (uint64_t)serial << PT_RT_SHIFT);
}

void rec_cuda_fn(struct rec_builder *b, uint32_t id, const char *symbol, unsigned int api,
		 unsigned int major, unsigned int in_words, unsigned int out_words)
{
	struct pt_rec_cuda_fn *record = make(PT_REC_CUDA_FN, sizeof(*record), 0, 0, 0, 0);

	record->id = id;
	record->api = (uint8_t)api;
	record->major = (uint8_t)major;
	record->in_words = (uint8_t)in_words;
	record->out_words = (uint8_t)out_words;
	strncpy(record->symbol, symbol, sizeof(record->symbol) - 1);
	emit(b, &record->hdr);
	free(record);
}

void rec_fork(struct rec_builder *b, const struct rec_thread *parent, uint32_t tgid,
	      uint32_t image_id, uint64_t time_ns)
{
	struct pt_rec_proc *record = make(PT_REC_PROC, sizeof(*record), tgid, tgid, image_id,
					  time_ns);

	record->what = PT_PROC_FORK;
	record->parent_tgid = parent->tgid;
	record->parent_tid = parent->tid;
	record->parent_image_id = parent->image_id;
	record->ns_tgid = tgid;
	memcpy(record->comm, parent->comm, sizeof(record->comm));
	emit(b, &record->hdr);
	free(record);
}

void rec_rank(struct rec_builder *b, uint32_t tgid, uint32_t image_id, uint32_t rank,
	      uint32_t world_size, uint64_t time_ns)
{
	struct pt_rec_rank *record = make(PT_REC_RANK, sizeof(*record), tgid, 0, image_id, time_ns);

	record->rank = rank;
	record->world_size = world_size;
	emit(b, &record->hdr);
	free(record);
}

void rec_cuda_lib(struct rec_builder *b, uint32_t tgid, const char *path, uint64_t ns)
{
	struct pt_rec_cuda_lib *record = make(PT_REC_CUDA_LIB, sizeof(*record) + 256, tgid, 0, 0,
					      ns);

	record->late = 1;
	record->text_bytes = (uint32_t)strlen(path);
	memcpy(record->data, path, record->text_bytes);
	emit(b, &record->hdr);
	free(record);
}

void rec_cuda_kernel(struct rec_builder *b, uint32_t tgid, uint32_t image_id, uint64_t address,
		     const char *name, uint32_t names, const char *path, uint64_t ns)
{
	size_t name_len = strlen(name), path_len = strlen(path);
	size_t len = (sizeof(struct pt_rec_cuda_kernel) + name_len + path_len + 7) & ~(size_t)7;
	struct pt_rec_cuda_kernel *record = make(PT_REC_CUDA_KERNEL, len, tgid, 0, image_id, ns);

	record->hdr.flags = b->kernel_flags;
	record->address = address;
	record->vaddr = address & 0xfff;
	record->names = names;
	record->name_bytes = (uint32_t)name_len;
	record->path_bytes = (uint32_t)path_len;
	memcpy(record->data, name, name_len);
	memcpy(record->data + name_len, path, path_len);
	emit(b, &record->hdr);
	free(record);
}

void rec_call_stack(struct rec_builder *b, const struct rec_thread *t, uint32_t serial, uint32_t id,
		    const struct pt_call_frame *frames, uint32_t count, const char *text,
		    uint64_t ns)
{
	size_t text_len = strlen(text),
	       fixed = sizeof(struct pt_rec_call_stack) + count * sizeof(*frames);
	struct pt_rec_call_stack *record = make(PT_REC_CALL_STACK,
						(fixed + text_len + 7) & ~(size_t)7, t->tgid,
						t->tid, t->image_id, ns);

	record->serial = serial;
	record->id = id;
	record->frame_count = count;
	record->text_bytes = (uint32_t)text_len;
	if (count)
		memcpy(record->frames, frames, count * sizeof(*frames));
	memcpy((char *)record + fixed, text, text_len);
	emit(b, &record->hdr);
	free(record);
}

void batch_stack(struct rec_builder *b, uint32_t serial, uint64_t ns)
{
	item(b, PT_W_EXT, PT_EXT_ARG(PT_X_STACK, 1), ns);
	word(b, (uint64_t)serial << PT_RT_SHIFT);
}

void batch_block(struct rec_builder *b, uint64_t address, int64_t bytes, uint64_t desc, uint64_t ns)
{
	item(b, PT_W_EXT, PT_EXT_ARG(PT_X_BLOCK, 3), ns);
	word(b, address);
	word(b, (uint64_t)bytes);
	word(b, desc << PT_RT_SHIFT);
}

void batch_cuda(struct rec_builder *b, unsigned int type, uint64_t desc, const uint64_t *words,
		uint32_t count, uint64_t ns)
{
	item(b, PT_W_EXT, PT_EXT_ARG(type, count + 1), ns);
	for (uint32_t i = 0; i < count; i++)
		word(b, words[i]);
	word(b, desc);
}

void batch_paused(struct rec_builder *b, uint64_t kept, uint64_t from_ns, uint64_t until_ns,
		  uint64_t ns)
{
	item(b, PT_W_EXT, PT_EXT_ARG(PT_X_PAUSED, 3), ns);
	word(b, kept);
	word(b, from_ns);
	word(b, until_ns);
	if (b->thread->depth > (uint32_t)kept)
		b->thread->depth = (uint32_t)kept;
}

void batch_snap_head(struct rec_builder *b, uint32_t count, uint32_t depth, uint64_t ns)
{
	item(b, PT_W_EXT, PT_EXT_ARG(PT_X_SNAP, 1), ns);
	word(b, count | (uint64_t)depth << 32);
	b->thread->depth = depth;
}

void batch_open(struct rec_builder *b, const uint32_t *ids, uint32_t count, uint32_t depth,
		uint64_t ns)
{
	if (!count)
		return;
	item(b, PT_W_EXT, PT_EXT_ARG(PT_X_OPEN, count), ns);
	for (uint32_t i = 0; i < count; i++)
		word(b, ids[i] | (uint64_t)(depth - i) << 32);
}

void batch_snap(struct rec_builder *b, const uint32_t *ids, uint32_t count, uint32_t depth,
		uint64_t ns)
{
	batch_snap_head(b, count, depth, ns);
	batch_open(b, ids, count, depth, ns);
}

static void hand_out(struct rec_builder *b, uint16_t flags)
{
	b->batch.hdr.flags = flags;
	b->batch.hdr.len = (uint32_t)(sizeof(b->batch) + 8 * b->batch.word_count);
	emit(b, &b->batch.hdr);
}

void batch_peek(struct rec_builder *b)
{
	hand_out(b, PT_RF_PEEK);
}

void batch_lose(struct rec_builder *b)
{
	b->thread->events += b->batch.events;
	b->thread->seq++;
}

void batch_end(struct rec_builder *b, uint16_t flags)
{
	hand_out(b, flags);
	batch_lose(b);
}
