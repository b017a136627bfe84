// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * Calls of CUDA functions: spans like those of runtime.c, named and with arguments by the table of
 * cuda/table.h. A capture names each function; if what it read does not fit the table's row (it is
 * of another version), the call has no arguments, but its name and what it returned.
 *
 * PyTorch's operators come in the same way, with levels of their own. As in PyTorch's traces an
 * operator has an "External id", and a call of CUDA has that of the operator that it is made in.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "cuda/memory.h"
#include "cuda/table.h"
#include "model/model_priv.h"

/* An argument gives at most four of the trace's: those of a launch configuration. */
#define ARGS_MAX    (4 * PT_CUDA_ARGS_MAX)
#define NAME_BYTES  64
#define VALUE_BYTES 64

struct model_cuda_fn {
	bool defined;
	bool readable; /* layout holds */
	bool no_code;  /* what it returns tells nothing of success */
	uint8_t api;
	uint16_t cbid;
	char symbol[PT_CUDA_SYMBOL_BYTES];
	const char *overload; /* of an operator: behind its name in symbol; NULL: none */
	const char *category; /* of the table; "" unknown */
	struct pt_cuda_layout layout;
	enum pt_cuda_stream_what stream;
	const struct pt_cuda_memory_call *memory; /* NULL: it has nothing to do with memory */
};

struct model_cuda_call {
	uint32_t level;
	uint64_t correlation;
	bool ended;
	struct model_call_stack *stack; /* or NULL */
	struct pt_ev_cuda begin, end;
};

/* aten::add.Tensor: PyTorch shows the part before the dot. */
static void split_operator(struct model_cuda_fn *fn)
{
	char *dot = strchr(fn->symbol, '.');

	if (!dot)
		return;
	*dot = 0;
	fn->overload = dot + 1;
}

static bool is_torch(uint32_t fn)
{
	return fn >= PT_TORCH_ID_FIRST;
}

static const struct pt_cuda_row *row_of(const struct pt_rec_cuda_fn *record)
{
	if (record->api == PT_CUDA_CUBLAS || record->api == PT_CUDA_CUDNN)
		return pt_cuda_lib_row_find(record->symbol);
	return pt_cuda_row_find(record->symbol, record->major);
}

void model_cuda_define(struct pt_model *model, const struct pt_rec_cuda_fn *record)
{
	const struct pt_cuda_row *row = row_of(record);
	struct model_cuda_fn *fn;

	if (!model->cuda_fns)
		model->cuda_fns = calloc(PT_CUDA_FN_MAX + 1, sizeof(*model->cuda_fns));
	if (!model->cuda_fns) {
		model_fail(model, -ENOMEM);
		return;
	}
	fn = &model->cuda_fns[record->id];
	memset(fn, 0, sizeof(*fn));
	fn->defined = true;
	fn->api = record->api;
	fn->category = row ? row->category : "";
	fn->cbid = row ? row->cbid : 0;
	pt_utf8_clean(fn->symbol, sizeof(fn->symbol), record->symbol, strlen(record->symbol));
	if (fn->api == PT_CUDA_TORCH)
		split_operator(fn);
	fn->readable = row && row->api == record->api && !pt_cuda_layout(row, &fn->layout) &&
		       pt_cuda_in_words(&fn->layout) == record->in_words &&
		       fn->layout.out_count == record->out_words;
	fn->no_code = is_torch(record->id) || !strcmp(record->symbol, "cudaGetErrorName") ||
		      !strcmp(record->symbol, "cudaGetErrorString");
	fn->memory = pt_cuda_memory_find(record->symbol);
	fn->stream = pt_cuda_stream_what(record->symbol);
}

bool model_cuda_is_call(const struct pt_ev *event)
{
	return (event->kind == PT_EV_CUDA_BEGIN || event->kind == PT_EV_CUDA_END) &&
	       !is_torch(event->cuda.fn);
}

static bool is_outer(const struct pt_model *model, uint32_t id)
{
	return model->cuda_fns && model->cuda_fns[id].defined &&
	       pt_cuda_is_outer(model->cuda_fns[id].api);
}

enum model_cuda_place model_cuda_place(const struct pt_model *model, uint32_t *outer,
				       const struct pt_ev *event)
{
	uint32_t level = event->cuda.level;
	bool begins = event->kind == PT_EV_CUDA_BEGIN;

	if (begins && level < *outer)
		*outer = level; /* the return of what lay around it was lost */
	if (!is_outer(model, event->cuda.fn))
		return level == *outer ? CUDA_OUTERMOST : CUDA_WITHIN;
	if (begins && level == *outer)
		*outer = level + 1;
	else if (!begins && level < *outer)
		*outer = level;
	return CUDA_AROUND;
}

bool model_cuda_memory(const struct pt_model *model, uint32_t id, struct model_cuda_memory *memory)
{
	const struct model_cuda_fn *fn = model->cuda_fns ? &model->cuda_fns[id] : NULL;

	if (!fn || !fn->defined || !fn->memory)
		return false;
	*memory = (struct model_cuda_memory){fn->memory, fn->readable ? &fn->layout : NULL,
					     fn->symbol, fn->api};
	return true;
}

bool model_cuda_stream(const struct pt_model *model, uint32_t id, struct model_cuda_stream *stream)
{
	const struct model_cuda_fn *fn = model->cuda_fns ? &model->cuda_fns[id] : NULL;

	if (!fn || !fn->defined || (fn->stream == PT_CUDA_STREAM_NOTHING && !fn->memory))
		return false;
	*stream = (struct model_cuda_stream){fn->stream, fn->readable ? &fn->layout : NULL,
					     fn->symbol};
	return true;
}

void model_cuda_lib(struct pt_model *model, const struct pt_rec_cuda_lib *record)
{
	struct model_process *process = pt_map_get(&model->images, record->hdr.tgid, 0);
	char path[4096];

	if (!process)
		return;
	process->had_cuda |= !record->torch;
	if (!record->late)
		return;
	pt_utf8_clean(path, sizeof(path), record->data, record->text_bytes);
	if (model->gpu && !record->torch)
		model_gpu_forget(model, process, record->hdr.time_ns, record->hdr.time_ns,
				 "a CUDA library was loaded, and not all of its calls were seen");
	model_instant(model, process, record->hdr.time_ns, "cuda",
		      record->torch
			  ? "PyTorch was loaded; calls of its operators before this are missing"
			  : "CUDA library was loaded; its calls before this are missing",
		      path);
}

/* ---- words ---- */

/* Calls that something left without our notice, as an exception does, are still open here though
 * the next one of their kind begins at their level or below. */
static void drop_left(struct pt_model *model, struct model_thread *thread,
		      const struct pt_ev *event)
{
	uint32_t keep = thread->frame_count;

	for (uint32_t i = thread->frame_count; i-- > 0 && thread->frames[i].span;) {
		const struct model_cuda_call *call = thread->frames[i].span->cuda;

		if (call && is_torch(call->begin.fn) == is_torch(event->cuda.fn) &&
		    call->level >= event->cuda.level)
			keep = i;
	}
	if (keep < thread->frame_count)
		model_thread_pop_to(model, thread, keep, event->time_ns, PT_SLICE_INTO_LOSS);
}

static void begin(struct pt_model *model, struct model_thread *thread, const struct pt_ev *event)
{
	struct model_span *span = calloc(1, sizeof(*span));
	struct model_cuda_call *call = calloc(1, sizeof(*call));

	if (!span || !call) {
		free(span);
		free(call);
		model_fail(model, -ENOMEM);
		return;
	}
	drop_left(model, thread, event);
	span->what = SPAN_CUDA;
	span->cuda = call;
	call->level = event->cuda.level;
	call->begin = event->cuda;
	call->stack = model_stack_take(thread);
	call->correlation = event->cuda.correlation;
	model_thread_push_span(model, thread, span, event->time_ns);
}

static bool is_call(const struct model_frame *frame, const struct pt_ev_cuda *end)
{
	const struct model_cuda_call *call = frame->span ? frame->span->cuda : NULL;

	return call && call->begin.fn == end->fn && call->level == end->level;
}

/* What it belongs to began before the recording, or in a loss, if it is not found. */
static void end(struct pt_model *model, struct model_thread *thread, const struct pt_ev *event)
{
	uint32_t i = thread->span_count ? thread->frame_count : 0;
	struct model_span *span;

	while (i > 0 && !is_call(&thread->frames[i - 1], &event->cuda))
		i--;
	if (!i)
		return;
	model_thread_pop_to(model, thread, i, event->time_ns, PT_SLICE_INTO_LOSS);
	span = thread->frames[i - 1].span;
	span->cuda->end = event->cuda;
	span->cuda->ended = true;
	span->end.what = SPAN_CUDA; /* it did come */
	model_thread_pop_to(model, thread, i - 1, event->time_ns, 0);
}

void model_cuda_event(struct pt_model *model, struct model_thread *thread,
		      const struct pt_ev *event)
{
	if (event->kind == PT_EV_CUDA_BEGIN)
		begin(model, thread, event);
	else
		end(model, thread, event);
}

/* ---- what the trace shows ---- */

struct shown {
	struct pt_model *model;
	struct model_process *process;
	uint64_t begin_ns;
	struct pt_arg args[ARGS_MAX];
	uint32_t count;
	char keys[ARGS_MAX][NAME_BYTES], values[ARGS_MAX][VALUE_BYTES];
};

static void add_number(struct shown *shown, const char *key, int64_t number)
{
	if (shown->count < ARGS_MAX)
		shown->args[shown->count++] = (struct pt_arg){.key = key, .number = number};
}

__attribute__((format(printf, 3, 4))) static void add_text(struct shown *shown, const char *key,
							   const char *format, ...)
{
	char *text = shown->values[shown->count < ARGS_MAX ? shown->count : 0];
	va_list args;

	if (shown->count == ARGS_MAX)
		return;
	va_start(args, format);
	vsnprintf(text, VALUE_BYTES, format, args);
	va_end(args);
	shown->args[shown->count++] = (struct pt_arg){.key = key, .text = text};
}

static void add_hex(struct shown *shown, const char *key, uint64_t value)
{
	add_text(shown, key, "0x%llx", (unsigned long long)value);
}

static const char *with_unit(struct shown *shown, const char *name, const char *unit)
{
	char *key = shown->keys[shown->count < ARGS_MAX ? shown->count : 0];

	snprintf(key, NAME_BYTES, "%s (%s)", name, unit);
	return key;
}

static void add_enum(struct shown *shown, const struct pt_cuda_arg *arg, uint64_t value)
{
	const char *name = pt_cuda_name_of(pt_cuda_enum(arg->enum_type), (int32_t)value);

	if (name)
		add_text(shown, arg->name, "%s", name);
	else
		add_number(shown, arg->name, (int32_t)value);
}

static void add_float(struct shown *shown, const struct pt_cuda_arg *arg, uint64_t word)
{
	uint32_t bits = (uint32_t)word;
	float value;

	memcpy(&value, &bits, sizeof(value));
	add_text(shown, arg->name, "%g", (double)value);
}

static void add_kernel(struct shown *shown, const struct pt_cuda_arg *arg, uint64_t address)
{
	bool known;
	const char *name = model_kernel_name(shown->model, shown->process, address, shown->begin_ns,
					     &known);

	if (!known && !arg->out)
		shown->model->totals.unnamed_kernels++;
	if (!name)
		add_text(shown, "kernel", "kernel 0x%llx", (unsigned long long)address);
	else if (shown->count < ARGS_MAX)
		shown->args[shown->count++] = (struct pt_arg){.key = "kernel", .text = name};
}

/* words: from the argument's own on */
static void add_value(struct shown *shown, const struct pt_cuda_arg *arg, const uint64_t *words)
{
	switch (arg->code) {
	case 'k':
		add_kernel(shown, arg, words[0]);
		break;
	case 'p':
		add_hex(shown, arg->name, words[0]);
		break;
	case 'b':
		add_number(shown, with_unit(shown, arg->name, "bytes"), (int64_t)words[0]);
		break;
	case 'c':
		add_number(shown, with_unit(shown, arg->name, "bytes"), (uint32_t)words[0]);
		break;
	case 'n':
	case 'l':
		add_number(shown, arg->name, (int64_t)words[0]);
		break;
	case 'u':
		add_number(shown, arg->name, (uint32_t)words[0]);
		break;
	case 'i':
		add_number(shown, arg->name, (int32_t)words[0]);
		break;
	case 'e':
		add_enum(shown, arg, words[0]);
		break;
	case 'f':
		add_float(shown, arg, words[0]);
		break;
	case 'd':
		add_text(shown, arg->name, "%u,%u,%u", (uint32_t)words[0],
			 (uint32_t)(words[0] >> 32), (uint32_t)words[1]);
		break;
	default:
		break;
	}
}

static uint32_t half(const uint64_t *words, unsigned int i)
{
	return (uint32_t)(words[i / 2] >> (i % 2 ? 32 : 0));
}

/* What memory is allocated by. */
static void add_shape(struct shown *shown, char code, const uint64_t *block)
{
	uint64_t format = block[code == 'B' ? 3 : 2];

	if (code == 'F') {
		add_text(shown, "desc (bits)", "%u,%u,%u,%u", half(block, 0), half(block, 1),
			 half(block, 2), half(block, 3));
		add_number(shown, "desc (kind)", half(block, 4));
	} else if (code == 'L') {
		add_number(shown, "location type", half(block, 2));
		add_number(shown, "location id", (int32_t)half(block, 3));
	} else {
		add_text(shown, "extent", "%llu,%llu,%llu", (unsigned long long)block[0],
			 (unsigned long long)block[1],
			 code == 'B' ? (unsigned long long)block[2] : 0ull);
		add_number(shown, "format", (uint32_t)format);
		add_number(shown, "channels", (int64_t)(format >> 32));
	}
}

/* cudaLaunchConfig_t and CUlaunchConfig: grid, block, then the bytes of shared memory, in the one
 * as a size_t at 24, in the other as an unsigned int, and the stream. */
static void add_block(struct shown *shown, char code, const uint64_t *block)
{
	if (strchr("FABL", code)) {
		add_shape(shown, code, block);
		return;
	}
	if (code == 'M') {
		const char *kind = pt_cuda_name_of(pt_cuda_memcpy_kinds, (int32_t)block[3]);

		add_text(shown, "extent", "%llu,%llu,%llu", (unsigned long long)block[0],
			 (unsigned long long)block[1], (unsigned long long)block[2]);
		if (kind)
			add_text(shown, "kind", "%s", kind);
		return;
	}
	add_text(shown, "gridDim", "%u,%u,%u", half(block, 0), half(block, 1), half(block, 2));
	add_text(shown, "blockDim", "%u,%u,%u", half(block, 3), half(block, 4), half(block, 5));
	add_number(shown, "sharedMem (bytes)",
		   code == 'C' ? (int64_t)block[3] : (int64_t)(uint32_t)block[3]);
	add_hex(shown, "stream", block[4]);
}

static const char *code_name(const struct model_cuda_fn *fn, int code)
{
	const char *name = pt_cuda_error_name(fn->api, code);

	return name ? name : "";
}

/* Has it done, or at least begun, what it was to do? */
static bool succeeded(const struct model_cuda_fn *fn, const struct model_cuda_call *call)
{
	return call->ended &&
	       (!call->end.code || (fn->api == PT_CUDA_NCCL &&
				    !strcmp(code_name(fn, call->end.code), "ncclInProgress")));
}

static bool has_begin(const struct model_cuda_fn *fn, const struct model_cuda_call *call)
{
	return fn->readable && call->begin.words == pt_cuda_in_words(&fn->layout);
}

static bool has_returned(const struct model_cuda_fn *fn, const struct model_cuda_call *call)
{
	return fn->readable && succeeded(fn, call) && call->end.words == fn->layout.out_count;
}

struct nccl_words {
	const struct model_cuda_fn *fn;
	const struct model_cuda_call *call;
};

/* Suits model_nccl_call.word. */
static const uint64_t *nccl_word(void *ctx, const char *name)
{
	const struct nccl_words *words = ctx;
	const struct pt_cuda_layout *layout = &words->fn->layout;

	for (unsigned int i = 0; i < layout->arg_count; i++) {
		const struct pt_cuda_arg *arg = &layout->args[i];

		if (arg->word < 0 || strcmp(arg->name, name) != 0)
			continue;
		if (arg->out)
			return has_returned(words->fn, words->call)
				   ? &words->call->end.word[arg->word]
				   : NULL;
		return has_begin(words->fn, words->call) ? &words->call->begin.word[arg->word]
							 : NULL;
	}
	return NULL;
}

static void add_message(struct shown *shown, const char *way, int64_t nelems, uint32_t type_bytes)
{
	char *key = shown->keys[shown->count < ARGS_MAX ? shown->count : 0];
	int64_t bytes;

	if (nelems < 0)
		return;
	snprintf(key, NAME_BYTES, "%s msg nelems", way);
	add_number(shown, key, nelems);
	key = shown->keys[shown->count < ARGS_MAX ? shown->count : 0];
	snprintf(key, NAME_BYTES, "%s msg (bytes)", way);
	if (type_bytes && !__builtin_mul_overflow(nelems, (int64_t)type_bytes, &bytes))
		add_number(shown, key, bytes);
}

/* By it the ranks of a communicator are told to be of the same one. */
static void add_unique_id(struct shown *shown, const struct model_cuda_fn *fn,
			  const struct model_cuda_call *call)
{
	const struct pt_cuda_arg *arg = pt_cuda_arg_find(&fn->layout, "commId");
	char text[MODEL_NCCL_ID_BYTES];

	if (arg && arg->word >= 0 && arg->words && has_begin(fn, call) &&
	    model_nccl_id(&call->begin.word[arg->word], arg->words, text))
		add_text(shown, arg->name, "%s", text);
}

/* In the words of PyTorch's profiler, and so of who reads its traces. */
static void add_nccl(struct shown *shown, const struct model_cuda_fn *fn,
		     const struct model_cuda_call *call)
{
	struct nccl_words words = {fn, call};
	const struct model_nccl_call nccl = {fn->symbol, nccl_word, &words};
	struct model_nccl message;

	if (fn->api != PT_CUDA_NCCL)
		return;
	add_unique_id(shown, fn, call);
	if (model_nccl_explain(shown->model, shown->process, &nccl, &message)) {
		add_text(shown, "Collective name", "%s", message.collective);
		add_message(shown, "In", message.in, message.type_bytes);
		add_message(shown, "Out", message.out, message.type_bytes);
		if (message.dtype)
			add_text(shown, "dtype", "%s", message.dtype);
		if (message.size >= 0)
			add_number(shown, "Group size", message.size);
		if (message.rank >= 0)
			add_number(shown, "Rank", message.rank);
	}
	if (succeeded(fn, call))
		model_nccl_learn(shown->model, shown->process, &nccl);
}

static void add_arguments(struct shown *shown, const struct model_cuda_fn *fn,
			  const struct model_cuda_call *call)
{
	const struct pt_cuda_layout *layout = &fn->layout;
	bool whole = has_begin(fn, call), returned = has_returned(fn, call);

	for (unsigned int i = 0; whole && i < layout->arg_count; i++) {
		const struct pt_cuda_arg *arg = &layout->args[i];

		if (strchr(PT_CUDA_BLOCK_CODES, arg->code) && arg->word >= 0)
			add_block(shown, arg->code,
				  &call->begin.word[layout->regs + layout->stack]);
		else if (!arg->out && arg->word >= 0)
			add_value(shown, arg, &call->begin.word[arg->word]);
		else if (arg->out && arg->word >= 0 && returned)
			add_value(shown, arg, &call->end.word[arg->word]);
	}
}

/* A call that failed is told apart from one that did not by name. */
static void add_result(struct shown *shown, const struct model_cuda_fn *fn, int code)
{
	const char *name = pt_cuda_error_name(fn->api, code);

	if (name)
		add_text(shown, "return", "%s", name);
	else
		add_text(shown, "return", "%s %d", pt_cuda_result_type(fn->api), code);
}

/* What a query says when its answer is "not yet" is no failure. */
static bool is_failure(const struct model_cuda_fn *fn, int code)
{
	const char *name = code_name(fn, code);

	return code && !fn->no_code && !strstr(name, "NotReady") && !strstr(name, "NOT_READY") &&
	       !strstr(name, "InProgress");
}

static void emit_failure(struct pt_model *model, struct model_thread *thread,
			 const struct model_cuda_fn *fn, const struct model_cuda_call *call,
			 uint64_t ns)
{
	const char *name = pt_cuda_error_name(fn->api, call->end.code);
	struct pt_arg args[] = {
	    {.key = "function", .text = fn->symbol},
	    {.key = "code", .number = call->end.code},
	    {.key = "correlation", .number = (int64_t)call->correlation},
	};
	struct pt_op op = {
	    .kind = PT_OP_INSTANT,
	    .instant =
		{
		    .pid = thread->process->pid,
		    .tid = model_greenlet_track(model, thread),
		    .time_ns = ns,
		    .name = name ? name : "CUDA error",
		    .category = "cuda_error",
		    .args = args,
		    .arg_count = sizeof(args) / sizeof(args[0]),
		},
	};

	model->totals.instants++;
	model_emit(model, &op);
}

/* The operator that a call is made in, in this thread; NULL: none. */
static const struct model_cuda_call *operator_of(const struct model_thread *thread,
						 const struct model_frame *frame)
{
	for (size_t i = (size_t)(frame - thread->frames); i-- > 0;) {
		const struct model_span *span = thread->frames[i].span;
		const struct model_cuda_call *call = span ? span->cuda : NULL;

		if (call && is_torch(call->begin.fn))
			return call;
	}
	return NULL;
}

static void add_ids(struct shown *shown, const struct model_thread *thread,
		    const struct model_frame *frame, const struct model_cuda_fn *fn)
{
	const struct model_cuda_call *call = frame->span->cuda, *made_in = NULL;

	if (!is_torch(call->begin.fn))
		made_in = operator_of(thread, frame);
	add_number(shown, "External id", (int64_t)(made_in ? made_in : call)->correlation);
	if (is_torch(call->begin.fn)) {
		if (fn->overload)
			shown->args[shown->count++] = (struct pt_arg){.key = "overload",
								      .text = fn->overload};
		return;
	}
	if (fn->cbid)
		add_number(shown, "cbid", fn->cbid);
	add_number(shown, "correlation", (int64_t)call->correlation);
}

static const char *category_of(const struct model_cuda_fn *fn, const struct model_cuda_call *call)
{
	if (is_torch(call->begin.fn))
		return "cpu_op";
	return fn->defined ? pt_cuda_category(fn->api) : "cuda_runtime";
}

static uint32_t add_stack(struct shown *shown, struct model_call_stack *stack)
{
	const char *at;
	uint32_t id = model_stack_show(shown->model, stack, &at);

	add_number(shown, "stack", id);
	if (at && shown->count < ARGS_MAX)
		shown->args[shown->count++] = (struct pt_arg){.key = "called at", .text = at};
	return id;
}

void model_cuda_emit(struct pt_model *model, struct model_thread *thread,
		     const struct model_frame *frame, uint64_t end_ns, uint32_t flags)
{
	static const struct model_cuda_fn unknown = {.symbol = "CUDA function ?"},
					  unknown_op = {.symbol = "operator ?", .no_code = true};
	const struct model_cuda_call *call = frame->span->cuda;
	const struct model_cuda_fn *fn = model->cuda_fns && model->cuda_fns[call->begin.fn].defined
					     ? &model->cuda_fns[call->begin.fn]
					 : is_torch(call->begin.fn) ? &unknown_op
								    : &unknown;
	struct shown shown = {
	    .model = model, .process = thread->process, .begin_ns = frame->begin_ns};
	struct pt_op op = {
	    .kind = PT_OP_SPAN,
	    .span =
		{
		    .pid = thread->process->pid,
		    .tid = model_greenlet_track(model, thread),
		    .begin_ns = frame->begin_ns,
		    .end_ns = end_ns,
		    .name = fn->symbol,
		    .category = category_of(fn, call),
		    .args = shown.args,
		    .flags = flags,
		},
	};

	add_ids(&shown, thread, frame, fn);
	add_arguments(&shown, fn, call);
	add_nccl(&shown, fn, call);
	if (call->ended && !fn->no_code)
		add_result(&shown, fn, call->end.code);
	model->totals.spans++;
	if (!thread->announced)
		model_thread_announce(model, thread);
	if (call->stack)
		op.span.stack_id = add_stack(&shown, call->stack);
	op.span.arg_count = shown.count;
	model_emit(model, &op);
	if (call->ended && is_failure(fn, call->end.code))
		emit_failure(model, thread, fn, call, end_ns);
}
