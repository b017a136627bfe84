// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * Bounds of GPU work. A case is what threads call, a line each:
 *
 *   THREAD FUNCTION[^LEVEL] ARGUMENT=VALUE .. @BEGIN-END [=CODE]
 *
 * and the bounds that come of it, in the order in which they are drawn:
 *
 *   NAME BEGIN-END STREAM, ENDED BY
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cuda/streams.h"
#include "op_recorder.h"

#define FNS_MAX 64
#define END_NS  90000 /* of the recording */

/* ---- what functions say ---- */

/* Each function of the table that has to do with streams can be read, with whatever arguments. */
static void test_every_call(void **state)
{
	const uint64_t words[PT_CUDA_IN_MAX] = {0};
	size_t found = 0;

	for (size_t i = 0; i < pt_cuda_row_count; i++) {
		const char *symbol = pt_cuda_rows[i].symbol;
		struct pt_cuda_layout layout;
		struct pt_cuda_stream stream;

		if (pt_cuda_rows[i].api > PT_CUDA_DRIVER ||
		    pt_cuda_stream_what(symbol) == PT_CUDA_STREAM_NOTHING)
			continue;
		found++;
		if (pt_cuda_layout(&pt_cuda_rows[i], &layout) ||
		    !pt_cuda_stream_read(symbol, &layout, words, words, &stream))
			fail_msg("%s cannot be read", symbol);
	}
	assert_in_range(found, 250, 400);
	assert_int_equal(pt_cuda_stream_what("cudaFree"), PT_CUDA_STREAM_NOTHING);
	assert_int_equal(pt_cuda_stream_what("cuCtxSynchronize_v2"), PT_CUDA_STREAM_NOTHING);
	assert_int_equal(pt_cuda_stream_what("cuMemcpyDtoHAsync_v2_ptsz"), PT_CUDA_STREAM_COPY);
	assert_int_equal(pt_cuda_stream_what("cuGraphLaunch_ptsz"), PT_CUDA_STREAM_GRAPH);
}

/* ---- the world ---- */

struct fn {
	char symbol[PT_CUDA_SYMBOL_BYTES];
	struct pt_cuda_layout layout;
};

struct world {
	struct op_recorder ops;
	struct rec_thread a, b;
	struct fn fns[FNS_MAX];
	unsigned int fn_count;
};

static void start_with(struct world *w, const struct pt_model_options *options)
{
	memset(w, 0, sizeof(*w));
	ops_init(&w->ops, options);
	ops_define(&w->ops);
	w->a = rec_thread(10, 10, 1, "main");
	w->b = rec_thread(10, 11, 1, "other");
	rec_proc(&w->ops.builder, PT_PROC_ATTACH, 10, 1, 1000, 1, "python3", "python3 main.py", 0);
}

static void start(struct world *w)
{
	start_with(w, &(const struct pt_model_options){.gpu_bounds = true});
}

/* Its number, from 1. */
static unsigned int fn_of(struct world *w, const char *symbol)
{
	const struct pt_cuda_row *row = pt_cuda_row_find(symbol, 13);
	struct fn *fn;

	for (unsigned int i = 0; i < w->fn_count; i++)
		if (!strcmp(w->fns[i].symbol, symbol))
			return i + 1;
	fn = &w->fns[w->fn_count++];
	if (!row || w->fn_count > FNS_MAX || pt_cuda_layout(row, &fn->layout))
		fail_msg("%s", symbol);
	snprintf(fn->symbol, sizeof(fn->symbol), "%s", symbol);
	rec_cuda_fn(&w->ops.builder, w->fn_count, symbol, row->api, 13,
		    pt_cuda_in_words(&fn->layout), fn->layout.out_count);
	return w->fn_count;
}

struct call {
	char thread;
	unsigned int fn, level;
	uint64_t in[PT_CUDA_IN_MAX], out[PT_CUDA_OUT_MAX];
	unsigned long begin_ns, end_ns;
	int code;
};

static void set_argument(const struct fn *fn, struct call *call, char *text)
{
	char *equals = strchr(text, '=');
	uint64_t value = equals ? strtoull(equals + 1, NULL, 0) : 0;
	const struct pt_cuda_arg *arg;

	assert_non_null(equals);
	*equals = '\0';
	if (!strncmp(text, "block", 5)) {
		call->in[fn->layout.regs + fn->layout.stack + strtoul(text + 5, NULL, 10)] = value;
		return;
	}
	arg = pt_cuda_arg_find(&fn->layout, text);
	if (!arg || arg->word < 0)
		fail_msg("%s has no %s", fn->symbol, text);
	else
		(arg->out ? call->out : call->in)[arg->word] = value;
}

static void parse(struct world *w, char *line, struct call *call)
{
	char *save, *word = strtok_r(line, " ", &save), *level;

	memset(call, 0, sizeof(*call));
	call->thread = *word;
	word = strtok_r(NULL, " ", &save);
	level = strchr(word, '^');
	if (level) {
		*level = '\0';
		call->level = (unsigned int)strtoul(level + 1, NULL, 10);
	}
	call->fn = fn_of(w, word);
	while ((word = strtok_r(NULL, " ", &save))) {
		if (*word == '@')
			assert_int_equal(sscanf(word, "@%lu-%lu", &call->begin_ns, &call->end_ns),
					 2);
		else if (*word == '=')
			call->code = (int)strtol(word + 1, NULL, 10);
		else
			set_argument(&w->fns[call->fn - 1], call, word);
	}
}

static void begin_call(struct world *w, const struct call *call)
{
	const struct pt_cuda_layout *layout = &w->fns[call->fn - 1].layout;

	batch_cuda(&w->ops.builder, PT_X_CUDA_BEGIN, PT_CUDA_DESC(call->fn, call->level, 0),
		   call->in, pt_cuda_in_words(layout), call->begin_ns);
}

static void end_call(struct world *w, const struct call *call)
{
	const struct pt_cuda_layout *layout = &w->fns[call->fn - 1].layout;

	batch_cuda(&w->ops.builder, PT_X_CUDA_END,
		   PT_CUDA_DESC(call->fn, call->level, (uint32_t)call->code), call->out,
		   call->code ? 0 : layout->out_count, call->end_ns);
}

/* The lines of a thread, whose batch has begun; a call may lie within the one before it. */
static void run_lines(struct world *w, char which, const char *calls)
{
	char *text = strdup(calls), *save, *line;
	struct call open[4], call;
	unsigned int depth = 0;

	assert_non_null(text);
	for (line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		char copy[256];

		if (line[0] != which)
			continue;
		snprintf(copy, sizeof(copy), "%s", line);
		parse(w, copy, &call);
		while (depth && open[depth - 1].end_ns <= call.begin_ns)
			end_call(w, &open[--depth]);
		begin_call(w, &call);
		open[depth++] = call;
	}
	while (depth)
		end_call(w, &open[--depth]);
	free(text);
}

static void define_all(struct world *w, const char *calls)
{
	char *text = strdup(calls), *save, *line;
	struct call call;

	assert_non_null(text);
	for (line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
		parse(w, line, &call);
	free(text);
}

/* The other thread's batch comes first. */
static void run(struct world *w, const char *calls, uint64_t from_ns, uint64_t until_ns)
{
	struct rec_thread *threads[] = {&w->b, &w->a};

	define_all(w, calls);
	for (int i = 0; i < 2; i++) {
		struct rec_builder *builder = &w->ops.builder;

		batch_begin(builder, threads[i], from_ns);
		batch_enter(builder, 1, from_ns);
		run_lines(w, "ba"[i], calls);
		batch_exit(builder, until_ns);
		batch_end(builder, 0);
	}
}

static void finish(struct world *w)
{
	const char *wrong;

	rec_note(&w->ops.builder, PT_NOTE_GATE_CLOSE, END_NS, 0);
	wrong = ops_finish(&w->ops);
	if (wrong)
		fail_msg("%s", wrong);
	assert_int_equal(w->ops.totals.bad_records, 0);
}

/* What stands between two marks in the arguments. */
static void cut_out(const char *args, const char *from, const char *to, char *out, size_t size)
{
	const char *begin = strstr(args, from), *end;

	assert_non_null(begin);
	begin += strlen(from);
	end = strstr(begin, to);
	snprintf(out, size, "%.*s", end ? (int)(end - begin) : (int)strlen(begin), begin);
}

static void list(const struct world *w, char *out, size_t size)
{
	size_t len = 0;

	out[0] = '\0';
	for (size_t i = 0; i < w->ops.gpu_bound_count && len < size; i++) {
		const struct pt_op_gpu_bound *op = &w->ops.gpu_bounds[i].op;
		char in[64], by[64];

		cut_out(w->ops.gpu_bounds[i].args, " in=", " first launch", in, sizeof(in));
		cut_out(w->ops.gpu_bounds[i].args, "ended by=", " ended by call", by, sizeof(by));
		len += (size_t)snprintf(out + len, size - len, "%s %llu-%llu %s, %s%s\n",
					w->ops.gpu_bounds[i].name, (unsigned long long)op->begin_ns,
					(unsigned long long)op->end_ns, in, by,
					op->flags & PT_SLICE_OPEN_AT_END ? " (open)" : "");
	}
}

static void assert_bounds(const struct world *w, const char *name, const char *expected)
{
	char got[2048];

	list(w, got, sizeof(got));
	if (strcmp(got, expected))
		fail_msg("%s:\n%s, expected:\n%s", name, got, expected);
}

/* ---- streams, events, devices ---- */

static const struct test_case {
	const char *name, *calls, *bounds;
	unsigned int unbounded;
} cases[] = {
    {"a kernel in the default stream",
     "a cudaLaunchKernel stream=0 @2000-2010\n"
     "a cudaStreamSynchronize stream=0 @2100-2200\n",
     "cudaLaunchKernel 2000-2200 default stream, cudaStreamSynchronize\n", 0},
    {"several; only what succeeds counts",
     "a cudaLaunchKernel stream=0 @2000-2010\n"
     "a cudaMemcpyAsync kind=1 stream=1 @2020-2030\n"
     "a cudaLaunchKernel stream=0 @2040-2050 =1\n"
     "a cudaStreamSynchronize stream=0 @2100-2200 =700\n"
     "a cudaStreamQuery stream=0 @2210-2220 =600\n"
     "a cudaStreamQuery stream=0 @2300-2310\n",
     "2 works 2000-2310 default stream, cudaStreamQuery\n", 0},
    {"what nothing waits for",
     "a cudaLaunchKernel stream=0x10 @2000-2010\n"
     "a cudaStreamSynchronize stream=0x20 @2100-2200\n"
     "a cudaFree devPtr=0x1000 @2300-2400\n",
     "cudaLaunchKernel 2000-90000 stream 0x10, end of the recording (open)\n", 0},
    {"an event covers what was before it",
     "a cudaLaunchKernel stream=0x10 @2000-2010\n"
     "a cudaEventRecord event=0x99 stream=0x10 @2020-2030\n"
     "a cudaLaunchKernel stream=0x10 @2040-2050\n"
     "a cudaEventQuery event=0x99 @2060-2070 =600\n"
     "a cudaEventSynchronize event=0x99 @2100-2200\n"
     "a cudaStreamSynchronize stream=0x10 @2300-2400\n",
     "cudaLaunchKernel 2000-2200 stream 0x10, cudaEventSynchronize\n"
     "cudaLaunchKernel 2040-2400 stream 0x10, cudaStreamSynchronize\n",
     0},
    {"an event that is made anew, or destroyed, covers nothing",
     "a cudaLaunchKernel stream=0x10 @2000-2010\n"
     "a cudaEventRecord event=0x99 stream=0x10 @2020-2030\n"
     "a cudaEventDestroy event=0x99 @2040-2050\n"
     "a cudaEventCreate event=0x99 @2060-2070\n"
     "a cudaEventSynchronize event=0x99 @2100-2200\n"
     "a cudaStreamSynchronize stream=0x10 @2300-2400\n",
     "cudaLaunchKernel 2000-2400 stream 0x10, cudaStreamSynchronize\n", 0},
    {"a stream that waits for an event",
     "a cudaLaunchKernel stream=0x10 @2000-2010\n"
     "a cudaEventRecord event=0x99 stream=0x10 @2020-2030\n"
     "a cudaLaunchKernel stream=0x10 @2040-2050\n"
     "a cudaStreamWaitEvent stream=0x20 event=0x99 @2060-2070\n"
     "a cudaEventRecord event=0x98 stream=0x20 @2080-2090\n"
     "a cudaStreamWaitEvent stream=0x30 event=0x98 @2100-2110\n"
     "a cudaStreamSynchronize stream=0x30 @2200-2300\n"
     "a cudaStreamSynchronize stream=0x10 @2400-2500\n",
     "cudaLaunchKernel 2000-2300 stream 0x10, cudaStreamSynchronize\n"
     "cudaLaunchKernel 2040-2500 stream 0x10, cudaStreamSynchronize\n",
     0},
    {"the wait for an event is not for what is recorded later",
     "a cudaEventRecord event=0x99 stream=0x10 @2000-2010\n"
     "a cudaStreamWaitEvent stream=0x20 event=0x99 @2020-2030\n"
     "a cudaLaunchKernel stream=0x10 @2040-2050\n"
     "a cudaEventRecord event=0x99 stream=0x10 @2060-2070\n"
     "a cudaStreamSynchronize stream=0x20 @2100-2200\n"
     "a cudaEventSynchronize event=0x99 @2300-2400\n",
     "cudaLaunchKernel 2040-2400 stream 0x10, cudaEventSynchronize\n", 0},
    {"blocking streams and the legacy one wait for each other",
     "a cudaSetDevice device=0 @1900-1910\n"
     "a cudaStreamCreate pStream=0x10 @1920-1930\n"
     "a cudaStreamCreateWithFlags pStream=0x20 flags=1 @1940-1950\n"
     "a cudaLaunchKernel stream=0x10 @2000-2010\n"
     "a cudaLaunchKernel stream=0x20 @2020-2030\n"
     "a cudaLaunchKernel stream=0x30 @2040-2050\n"
     "a cudaLaunchKernel stream=0 @2060-2070\n"
     "a cudaStreamSynchronize stream=0 @2100-2200\n"
     "a cudaDeviceSynchronize @2300-2400\n",
     "cudaLaunchKernel 2060-2200 default stream, cudaStreamSynchronize\n"
     "cudaLaunchKernel 2000-2200 stream 0x10, cudaStreamSynchronize\n"
     "cudaLaunchKernel 2040-2400 stream 0x30, cudaDeviceSynchronize\n"
     "cudaLaunchKernel 2020-2400 stream 0x20, cudaDeviceSynchronize\n",
     0},
    {"and the other way round",
     "a cudaStreamCreate pStream=0x10 @1920-1930\n"
     "a cudaLaunchKernel stream=0 @2000-2010\n"
     "a cudaLaunchKernel stream=0x10 @2020-2030\n"
     "a cudaLaunchKernel stream=0 @2040-2050\n"
     "a cudaStreamSynchronize stream=0x10 @2100-2200\n"
     "a cudaStreamSynchronize stream=0 @2300-2400\n",
     "cudaLaunchKernel 2020-2200 stream 0x10, cudaStreamSynchronize\n"
     "cudaLaunchKernel 2000-2200 default stream, cudaStreamSynchronize\n"
     "cudaLaunchKernel 2040-2400 default stream, cudaStreamSynchronize\n",
     0},
    {"whether a stream is blocking may be asked",
     "a cudaLaunchKernel stream=0x10 @2000-2010\n"
     "a cudaStreamGetFlags hStream=0x10 flags=0 @2020-2030\n"
     "a cudaLaunchKernel stream=0 @2060-2070\n"
     "a cudaStreamSynchronize stream=0 @2100-2200\n",
     "cudaLaunchKernel 2060-2200 default stream, cudaStreamSynchronize\n"
     "cudaLaunchKernel 2000-2200 stream 0x10, cudaStreamSynchronize\n",
     0},
    {"copies that wait: from the device for all, to it for their stream",
     "a cudaStreamCreate pStream=0x10 @1920-1930\n"
     "a cudaLaunchKernel stream=0x10 @2000-2010\n"
     "a cudaLaunchKernel stream=0 @2020-2030\n"
     "a cudaMemcpy kind=3 @2040-2050\n"
     "a cudaMemcpy kind=1 @2060-2070\n"
     "a cudaMemcpy kind=0 @2080-2090\n"
     "a cudaMemcpy kind=4 @2100-2110\n"
     "a cudaMemcpy kind=2 @2200-2300\n",
     "2 works 2020-2070 default stream, cudaMemcpy\n"
     "cudaLaunchKernel 2000-2070 stream 0x10, cudaMemcpy\n"
     "2 works 2060-2300 default stream, cudaMemcpy\n"
     "cudaMemcpy 2200-2300 default stream, cudaMemcpy\n",
     0},
    {"a copy to the device may not have begun when its call returns",
     "a cudaStreamCreate pStream=0x10 @1920-1930\n"
     "a cudaLaunchKernel stream=0x10 @2000-2010\n"
     "a cudaMemcpy kind=1 @2060-2070\n"
     "a cudaMemcpy kind=2 @2200-2300\n",
     "cudaMemcpy 2060-2300 default stream, cudaMemcpy\n"
     "cudaLaunchKernel 2000-2300 stream 0x10, cudaMemcpy\n"
     "cudaMemcpy 2200-2300 default stream, cudaMemcpy\n",
     0},
    {"the driver's copies",
     "a cuLaunchKernel hStream=0 @2000-2010\n"
     "a cuMemcpyHtoD_v2 @2020-2030\n"
     "a cuMemcpyDtoH_v2 @2040-2050\n",
     "cuLaunchKernel 2000-2030 default stream, cuMemcpyHtoD_v2\n"
     "cuMemcpyHtoD_v2 2020-2050 default stream, cuMemcpyDtoH_v2\n"
     "cuMemcpyDtoH_v2 2040-2050 default stream, cuMemcpyDtoH_v2\n",
     0},
    {"default streams of threads",
     "a cudaLaunchKernel_ptsz stream=0 @2000-2010\n"
     "b cudaLaunchKernel stream=2 @2005-2015\n"
     "a cudaStreamSynchronize_ptsz stream=0 @2100-2200\n"
     "b cudaStreamSynchronize stream=0 @2300-2400\n"
     "b cudaStreamSynchronize stream=2 @2500-2600\n",
     "cudaLaunchKernel_ptsz 2000-2200 default stream of thread 10, cudaStreamSynchronize_ptsz\n"
     "cudaLaunchKernel 2005-2600 default stream of thread 11, cudaStreamSynchronize\n",
     0},
    {"and the legacy stream waits for them",
     "a cudaSetDevice device=1 @1900-1910\n"
     "b cudaSetDevice device=1 @1900-1910\n"
     "a cudaLaunchKernel_ptsz stream=0 @2000-2010\n"
     "b cudaMemcpy kind=2 @2100-2200\n",
     "cudaLaunchKernel_ptsz 2000-2200 default stream of thread 10, cudaMemcpy\n"
     "cudaMemcpy 2100-2200 default stream, cudaMemcpy\n",
     0},
    {"a device is waited for, not another",
     "a cudaSetDevice device=0 @1900-1910\n"
     "a cudaLaunchKernel stream=0 @2000-2010\n"
     "a cudaSetDevice device=1 @2020-2030\n"
     "a cudaLaunchKernel stream=0 @2040-2050\n"
     "a cudaLaunchKernel stream=0x10 @2060-2070\n"
     "a cudaDeviceSynchronize @2100-2200\n"
     "b cudaSetDevice device=0 @1900-1910\n"
     "b cudaDeviceSynchronize @2300-2400\n",
     "cudaLaunchKernel 2060-2200 stream 0x10, cudaDeviceSynchronize\n"
     "cudaLaunchKernel 2040-2200 default stream, cudaDeviceSynchronize\n"
     "cudaLaunchKernel 2000-2400 default stream, cudaDeviceSynchronize\n",
     0},
    {"devices that are not known are not the same",
     "a cudaLaunchKernel stream=0 @2000-2010\n"
     "b cudaDeviceSynchronize @2100-2200\n"
     "a cudaDeviceSynchronize @2300-2400\n",
     "cudaLaunchKernel 2000-2400 default stream, cudaDeviceSynchronize\n", 0},
    {"unless they turn out to be",
     "a cudaLaunchKernel stream=0 @2000-2010\n"
     "a cudaGetDevice device=1 @2020-2030\n"
     "b cudaGetDevice device=1 @2040-2050\n"
     "b cudaDeviceSynchronize @2100-2200\n",
     "cudaLaunchKernel 2000-2200 default stream, cudaDeviceSynchronize\n", 0},
    {"a context of the driver's API may be any device's",
     "a cudaSetDevice device=0 @1900-1910\n"
     "a cuCtxSetCurrent ctx=0x77 @1920-1930\n"
     "a cuLaunchKernel hStream=0 @2000-2010\n"
     "b cudaSetDevice device=0 @1900-1910\n"
     "b cudaDeviceSynchronize @2100-2200\n"
     "a cuCtxSynchronize @2300-2400\n",
     "cuLaunchKernel 2000-2400 default stream, cuCtxSynchronize\n", 0},
    {"contexts of the program's own",
     "a cudaLaunchKernel stream=0 @2000-2010\n"
     "a cuCtxCreate_v4 pctx=0x77 @2020-2030\n"
     "a cudaLaunchKernel stream=0 @2040-2050\n"
     "a cudaDeviceSynchronize @2100-2200\n",
     "", 2},
    {"what was launched when the wait had begun",
     "a cudaStreamSynchronize stream=0x10 @2000-2200\n"
     "b cudaLaunchKernel stream=0x10 @1990-2010\n"
     "b cudaLaunchKernel stream=0x10 @2020-2030\n"
     "b cudaStreamSynchronize stream=0x10 @2300-2400\n",
     "2 works 1990-2400 stream 0x10, cudaStreamSynchronize\n", 0},
    {"an event that is recorded elsewhere while it is waited for",
     "a cudaLaunchKernel stream=0x10 @2000-2010\n"
     "a cudaEventRecord event=0x99 stream=0x10 @2020-2030\n"
     "a cudaEventSynchronize event=0x99 @2100-2200\n"
     "b cudaEventRecord event=0x99 stream=0x20 @2110-2120\n"
     "a cudaStreamSynchronize stream=0x10 @2300-2400\n",
     "cudaLaunchKernel 2000-2400 stream 0x10, cudaStreamSynchronize\n", 0},
    {"or again in its stream",
     "a cudaLaunchKernel stream=0x10 @2000-2010\n"
     "a cudaEventRecord event=0x99 stream=0x10 @2020-2030\n"
     "a cudaEventSynchronize event=0x99 @2100-2200\n"
     "b cudaEventRecord event=0x99 stream=0x10 @2110-2120\n",
     "cudaLaunchKernel 2000-2200 stream 0x10, cudaEventSynchronize\n", 0},
    {"an event that graphs record tells nothing",
     "a cudaStreamBeginCapture stream=0x30 @1800-1810\n"
     "a cudaEventRecordWithFlags event=0x99 stream=0x30 flags=1 @1820-1830\n"
     "a cudaStreamEndCapture stream=0x30 pGraph=0x55 @1840-1850\n"
     "a cudaGraphAddEventRecordNode event=0x98 @1860-1870\n"
     "a cudaLaunchKernel stream=0x10 @2000-2010\n"
     "a cudaEventRecord event=0x99 stream=0x10 @2020-2030\n"
     "a cudaEventRecord event=0x98 stream=0x10 @2040-2050\n"
     "a cudaGraphLaunch graphExec=0x56 stream=0x20 @2060-2070\n"
     "a cudaEventSynchronize event=0x99 @2100-2200\n"
     "a cudaEventSynchronize event=0x98 @2210-2220\n"
     "a cudaStreamSynchronize stream=0x10 @2300-2400\n"
     "a cudaStreamSynchronize stream=0x20 @2500-2600\n",
     "cudaLaunchKernel 2000-2400 stream 0x10, cudaStreamSynchronize\n"
     "cudaGraphLaunch 2060-2600 stream 0x20, cudaStreamSynchronize\n",
     0},
    {"a stream that is destroyed goes on; its handle means another",
     "a cudaSetDevice device=0 @1900-1910\n"
     "a cudaStreamCreate pStream=0x10 @1920-1930\n"
     "a cudaLaunchKernel stream=0x10 @2000-2010\n"
     "a cudaStreamDestroy stream=0x10 @2020-2030\n"
     "a cudaStreamCreate pStream=0x10 @2040-2050\n"
     "a cudaStreamSynchronize stream=0x10 @2100-2200\n"
     "a cudaDeviceSynchronize @2300-2400\n",
     "cudaLaunchKernel 2000-2400 stream 0x10, cudaDeviceSynchronize\n", 0},
    {"a stream that is destroyed still waits",
     "a cudaSetDevice device=1 @1800-1810\n"
     "a cudaStreamCreate pStream=0x10 @1820-1830\n"
     "a cudaSetDevice device=0 @1840-1850\n"
     "a cudaStreamCreate pStream=0x20 @1860-1870\n"
     "a cudaStreamCreate pStream=0x30 @1880-1890\n"
     "a cudaLaunchKernel stream=0x10 @2000-2010\n"
     "a cudaEventRecord event=0x99 stream=0x10 @2020-2030\n"
     "a cudaStreamWaitEvent stream=0x20 event=0x99 @2040-2050\n"
     "a cudaStreamDestroy stream=0x20 @2060-2070\n"
     "a cudaLaunchKernel stream=0x30 @2080-2090\n"
     "a cudaStreamSynchronize stream=0x30 @2100-2200\n"
     "a cudaDeviceSynchronize @2300-2400\n",
     "cudaLaunchKernel 2080-2200 stream 0x30, cudaStreamSynchronize\n"
     "cudaLaunchKernel 2000-2400 stream 0x10, cudaDeviceSynchronize\n",
     0},
    {"a device is reset",
     "a cudaLaunchKernel stream=0 @2000-2010\n"
     "a cudaEventRecord event=0x99 stream=0 @2020-2030\n"
     "a cudaDeviceReset @2040-2050\n"
     "a cudaLaunchKernel stream=0 @2060-2070\n"
     "a cudaEventSynchronize event=0x99 @2100-2200\n",
     "cudaLaunchKernel 2000-2050 default stream, cudaDeviceReset\n"
     "cudaLaunchKernel 2060-90000 default stream, end of the recording (open)\n",
     0},
    {"what is captured is no work, in all streams of the capture",
     "a cudaStreamBeginCapture stream=0x10 @2000-2010\n"
     "a cudaLaunchKernel stream=0x10 @2020-2030\n"
     "a cudaEventRecord event=0x99 stream=0x10 @2040-2050\n"
     "a cudaStreamWaitEvent stream=0x20 event=0x99 @2060-2070\n"
     "a cudaMemsetAsync stream=0x20 @2080-2090\n"
     "a cudaLaunchKernel stream=0x30 @2100-2110\n"
     "b cudaStreamEndCapture stream=0x10 @2112-2115 =908\n"
     "a cudaStreamEndCapture stream=0x10 pGraph=0x55 @2120-2130\n"
     "a cudaGraphLaunch graphExec=0x56 stream=0x20 @2140-2150\n"
     "a cudaStreamSynchronize stream=0x30 @2200-2210\n"
     "a cudaStreamSynchronize stream=0x20 @2220-2300\n",
     "cudaLaunchKernel 2100-2210 stream 0x30, cudaStreamSynchronize\n"
     "cudaGraphLaunch 2140-2300 stream 0x20, cudaStreamSynchronize\n",
     0},
    {"a capture that was under way",
     "a cudaLaunchKernel stream=0x10 @2020-2030\n"
     "a cudaLaunchKernel stream=0x20 @2040-2050\n"
     "a cudaLaunchKernel stream=0 @2060-2070\n"
     "a cudaStreamEndCapture stream=0x10 pGraph=0x55 @2120-2130\n"
     "a cudaDeviceSynchronize @2200-2300\n",
     "cudaLaunchKernel 2060-2300 default stream, cudaDeviceSynchronize\n", 2},
    {"a launch by configuration; calls that other calls make",
     "a cudaLaunchKernelExC block4=0x10 @2000-2100\n"
     "a cuLaunchKernel^1 hStream=0x10 @2010-2020\n"
     "a cudaStreamSynchronize stream=0x10 @2200-2300\n"
     "a cuStreamSynchronize^1 hStream=0x10 @2210-2220\n",
     "cudaLaunchKernelExC 2000-2300 stream 0x10, cudaStreamSynchronize\n", 0},
    {"NCCL's calls are those of a program",
     "a ncclAllReduce @2000-2100\n"
     "a cudaLaunchKernel^1 stream=0x10 @2010-2020\n"
     "a cudaStreamSynchronize stream=0x10 @2200-2300\n",
     "cudaLaunchKernel 2010-2300 stream 0x10, cudaStreamSynchronize\n", 0},
};

static void test_cases(void **state)
{
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct world w;

		start(&w);
		run(&w, cases[i].calls, 1500, 80000);
		assert_int_equal(w.ops.gpu_bound_count, 0);
		finish(&w);
		assert_bounds(&w, cases[i].name, cases[i].bounds);
		if (w.ops.totals.gpu_unbounded != cases[i].unbounded)
			fail_msg("%s: %llu without bounds", cases[i].name,
				 (unsigned long long)w.ops.totals.gpu_unbounded);
		ops_release(&w.ops);
	}
}

/* ---- what is drawn ---- */

/* Bounds that overlap have tracks of their own; the slice says which calls it is from. */
static void test_tracks(void **state)
{
	struct world w;

	start(&w);
	run(&w,
	    "a cudaSetDevice device=3 @1900-1910\n"
	    "a cudaLaunchKernel stream=0x10 @2000-2010\n"
	    "a cudaEventRecord event=0x99 stream=0x10 @2020-2030\n"
	    "a cudaLaunchKernel stream=0x10 @2040-2050\n"
	    "a cudaLaunchKernel stream=0x10 @2060-2070\n"
	    "a cudaEventSynchronize event=0x99 @2100-2200\n"
	    "a cudaStreamSynchronize stream=0x10 @2300-2400\n"
	    "a cudaLaunchKernel stream=0x10 @2500-2510\n"
	    "a cudaStreamSynchronize stream=0x10 @2600-2700\n",
	    1500, 80000);
	/* nothing before it is known that all has come */
	rec_note(&w.ops.builder, PT_NOTE_COMPLETE, 80001, 2200);
	assert_int_equal(w.ops.gpu_bound_count, 0);
	rec_note(&w.ops.builder, PT_NOTE_COMPLETE, 80002, 2201);
	assert_int_equal(w.ops.gpu_bound_count, 1);
	finish(&w);
	assert_bounds(&w, "tracks",
		      "cudaLaunchKernel 2000-2200 stream 0x10, cudaEventSynchronize\n"
		      "2 works 2040-2400 stream 0x10, cudaStreamSynchronize\n"
		      "cudaLaunchKernel 2500-2700 stream 0x10, cudaStreamSynchronize\n");
	assert_int_equal(w.ops.gpu_bounds[0].op.device, 3);
	assert_int_equal(w.ops.gpu_bounds[0].op.tid, PT_TRACK_TID);
	assert_int_equal(w.ops.gpu_bounds[1].op.tid, PT_TRACK_TID + 1);
	assert_int_equal(w.ops.gpu_bounds[2].op.tid, PT_TRACK_TID);
	assert_string_equal(w.ops.gpu_bounds[0].op.category, "gpu_bounds");
	assert_string_equal(w.ops.gpu_bounds[1].track,
			    "bounds, not measured: stream 0x10 of process 10 (2)");
	/* the thread's second call launches the first, its sixth ends it */
	assert_non_null(strstr(w.ops.gpu_bounds[0].args, "first launch=2 last launch=2"));
	assert_non_null(strstr(w.ops.gpu_bounds[0].args, "ended by call=6"));
	assert_non_null(strstr(w.ops.gpu_bounds[1].args, "works=2 of=cudaLaunchKernel (2) "));
	assert_non_null(strstr(w.ops.gpu_bounds[1].args, "first launch=4 last launch=5"));
	assert_int_equal(w.ops.gpu_bounds[1].op.link_count, 2);
	assert_int_equal(w.ops.gpu_bounds[1].link.tid, 10);
	assert_int_equal(w.ops.gpu_bounds[1].link.time_ns, 2045);
	assert_int_equal(w.ops.gpu_bounds[1].link.id, 4);
	assert_int_equal(w.ops.totals.gpu_bounds, 4);
	ops_release(&w.ops);
}

static void test_off(void **state)
{
	struct world w;

	start_with(&w, NULL);
	run(&w, cases[0].calls, 1500, 80000);
	finish(&w);
	assert_bounds(&w, "off", "");
	ops_release(&w.ops);
}

/* ---- what is not known ---- */

static const char before[] = "a cudaLaunchKernel stream=0x10 @2000-2010\n"
			     "a cudaEventRecord event=0x99 stream=0x10 @2020-2030\n";
static const char after[] = "a cudaEventSynchronize event=0x99 @5000-5010\n"
			    "a cudaLaunchKernel stream=0x10 @5020-5030\n"
			    "a cudaStreamSynchronize stream=0x10 @5100-5200\n";
static const char only_after[] = "cudaLaunchKernel 5020-5200 stream 0x10, cudaStreamSynchronize\n";

static void assert_told(const struct world *w, const char *name)
{
	size_t found = 0;

	for (size_t i = 0; i < w->ops.instant_count; i++)
		found += !strcmp(w->ops.instants[i].name, name);
	if (found != 1)
		fail_msg("'%s' %zu times", name, found);
}

static void test_loss(void **state)
{
	struct world w;

	start(&w);
	run(&w, before, 1500, 2100);
	batch_begin(&w.ops.builder, &w.b, 2200);
	batch_enter(&w.ops.builder, 1, 2200);
	batch_lose(&w.ops.builder);
	run(&w, after, 4900, 80000);
	finish(&w);
	assert_bounds(&w, "a loss", only_after);
	assert_told(&w, "bounds not known");
	assert_int_equal(w.ops.totals.gpu_unbounded, 1);
	ops_release(&w.ops);
}

/* What comes behind a note that said that all had come. */
static void test_late(void **state)
{
	struct world w;

	start(&w);
	run(&w,
	    "a cudaLaunchKernel stream=0x20 @1800-1810\n"
	    "a cudaStreamSynchronize stream=0x20 @2000-2900\n"
	    "a cudaLaunchKernel stream=0x10 @2950-2960\n",
	    1500, 3000);
	rec_note(&w.ops.builder, PT_NOTE_COMPLETE, 3000, 3000);
	define_all(&w, after);
	batch_begin(&w.ops.builder, &w.b, 2500);
	batch_enter(&w.ops.builder, 1, 2500);
	run_lines(&w, 'b', "b cudaLaunchKernel stream=0x10 @2600-2610\n");
	batch_exit(&w.ops.builder, 2700);
	batch_end(&w.ops.builder, 0);
	run(&w, after, 4900, 80000);
	finish(&w);
	assert_bounds(&w, "late",
		      "cudaLaunchKernel 1800-2900 stream 0x20, cudaStreamSynchronize\n"
		      "cudaLaunchKernel 5020-5200 stream 0x10, cudaStreamSynchronize\n");
	assert_told(&w, "bounds in doubt");
	ops_release(&w.ops);
}

static void test_late_library(void **state)
{
	struct world w;

	start(&w);
	run(&w, before, 1500, 2100);
	rec_cuda_lib(&w.ops.builder, 10, "/usr/lib/libcudart.so.13", 3000);
	run(&w, after, 4900, 80000);
	finish(&w);
	assert_bounds(&w, "a late library", only_after);
	ops_release(&w.ops);
}

static void test_pause(void **state)
{
	struct world w;

	start(&w);
	run(&w, before, 1500, 2100);
	rec_control(&w.ops.builder, PT_CONTROL_PAUSE, 3000);
	rec_control(&w.ops.builder, PT_CONTROL_RESUME, 4000);
	run(&w, after, 4900, 80000);
	finish(&w);
	assert_bounds(&w, "a pause", only_after);
	assert_int_equal(w.ops.totals.gpu_unbounded, 1);
	ops_release(&w.ops);
}

static void test_clear(void **state)
{
	struct world w;

	start(&w);
	run(&w, before, 1500, 2100);
	rec_control(&w.ops.builder, PT_CONTROL_CLEAR, 3000);
	run(&w, after, 4900, 80000);
	finish(&w);
	assert_bounds(&w, "a clear", only_after);
	ops_release(&w.ops);
}

/* Arguments of a newer CUDA: what a call did cannot be told. */
static void test_unreadable(void **state)
{
	const uint64_t word = 0x10;
	struct world w;

	start(&w);
	define_all(&w, before);
	rec_cuda_fn(&w.ops.builder, 60, "cudaStreamDestroy", PT_CUDA_RUNTIME, 14, 0, 0);
	run(&w, before, 1500, 2100);
	batch_begin(&w.ops.builder, &w.a, 2200);
	batch_enter(&w.ops.builder, 1, 2200);
	batch_cuda(&w.ops.builder, PT_X_CUDA_BEGIN, PT_CUDA_DESC(60, 0, 0), &word, 0, 2300);
	batch_cuda(&w.ops.builder, PT_X_CUDA_END, PT_CUDA_DESC(60, 0, 0), &word, 0, 2310);
	batch_exit(&w.ops.builder, 2400);
	batch_end(&w.ops.builder, 0);
	run(&w, after, 4900, 80000);
	finish(&w);
	assert_bounds(&w, "unreadable", only_after);
	ops_release(&w.ops);
}

static void test_exit(void **state)
{
	struct world w;

	start(&w);
	run(&w, "a cudaLaunchKernel stream=0x10 @2000-2010\n", 1500, 3000);
	rec_proc(&w.ops.builder, PT_PROC_EXIT, 10, 1, 4000, 1, "", "", 0);
	finish(&w);
	assert_bounds(&w, "an exit",
		      "cudaLaunchKernel 2000-4000 stream 0x10, end of the process\n");
	ops_release(&w.ops);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_every_call), cmocka_unit_test(test_cases),
	    cmocka_unit_test(test_tracks),     cmocka_unit_test(test_off),
	    cmocka_unit_test(test_loss),       cmocka_unit_test(test_late),
	    cmocka_unit_test(test_pause),      cmocka_unit_test(test_late_library),
	    cmocka_unit_test(test_clear),      cmocka_unit_test(test_unreadable),
	    cmocka_unit_test(test_exit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
