// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * Writes the golden captures and what each leads to: make_golden DIR. Run by make golden-update;
 * tests/unit/test_golden.c replays the captures and compares byte for byte.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "golden_outputs.h"
#include "ingest/capture.h"
#include "rec_builder.h"

#define START_NS 1000000000ull

static int write_record(const struct pt_rec *record, size_t len, void *ctx)
{
	return pt_capture_write(ctx, record, len, NULL);
}

static void codes(struct rec_builder *b)
{
	rec_code(b, 1, "<module>", "<module>", "/srv/app/main.py", 1);
	rec_code(b, 2, "handle", "Server.handle", "/srv/app/server.py", 40);
	rec_code(b, 3, "parse", "", "/srv/app/parse.py", 7);
	rec_code(b, 4, "<lambda>", "f.<locals>.<lambda>", "C:\\odd \"name\"\n.py", 0xffffffff);
	rec_code(b, 5, "na\xefve", "Caf\xe9.na\xefve", "/srv/caf\xe9.py", 3);
	rec_code(b, PT_CODE_ID_USER, "wait", "Condition.wait", "/usr/lib/python3.12/threading.py",
		 323);
}

/* Two threads, recursion, a generator's hidden frames, open at both ends, a silent thread. */
static void make_calls(struct rec_builder *b)
{
	static const uint32_t open[] = {2, 1}, silent[] = {PT_CODE_ID_USER};
	struct rec_thread t = rec_thread(100, 100, 1, "python3");
	struct rec_thread u = rec_thread(100, 101, 1, "worker-\xff"), s = t;
	uint64_t ns = START_NS + 1000;

	s.tid = 102;
	codes(b);
	rec_proc(b, PT_PROC_ATTACH, 100, 1, START_NS, 1, "python3", "python3 -m \"app\"", 0);
	rec_stack(b, &s, START_NS + 500, silent, 1, 1);
	batch_begin(b, &t, ns);
	batch_snap(b, open, 2, 2, ns);
	for (uint32_t i = 0; i < 6; i++)
		batch_enter(b, 3 + i % 2, ns += 111);
	for (uint32_t i = 0; i < 6; i++)
		batch_exit(b, ns += i < 3 ? 0 : 222);
	batch_depth(b, 4, ns += 10);
	batch_enter(b, 5, ns);
	batch_exit_to(b, 2, ns += 1);
	batch_end(b, 0);
	rec_thread_start(b, &u, START_NS + 2000);
	batch_begin(b, &u, START_NS + 3000);
	batch_snap(b, NULL, 0, 0, START_NS + 3000);
	batch_enter(b, 2, START_NS + 3000);
	batch_enter(b, 77, START_NS + 3001); /* never defined */
	batch_peek(b);
	batch_exit_to(b, 0, START_NS + 4000);
	batch_end(b, PT_RF_LAST);
	rec_thread_exit(b, &u, START_NS + 4001);
	rec_note(b, PT_NOTE_GATE_CLOSE, START_NS + 1234567, 0);
}

static void make_loss(struct rec_builder *b)
{
	static const uint32_t after[] = {4, 2, 1}, jump[] = {5, 1};
	struct rec_thread t = rec_thread(100, 100, 1, "python3");
	uint64_t ns = START_NS + 1000;

	codes(b);
	rec_proc(b, PT_PROC_ATTACH, 100, 1, START_NS, 1, "python3", NULL, 0);
	batch_begin(b, &t, ns);
	batch_snap(b, NULL, 0, 0, ns);
	for (uint32_t id = 1; id <= 3; id++)
		batch_enter(b, id, ns += 100);
	batch_end(b, 0);
	for (int i = 0; i < 2; i++) {
		batch_begin(b, &t, ns += 1000);
		batch_enter(b, 5, ns);
		batch_exit(b, ns + 10);
		batch_lose(b);
	}
	batch_begin(b, &t, ns += 1000);
	batch_snap(b, after, 3, 3, ns);
	batch_exit(b, ns += 50);
	batch_snap(b, jump, 2, 2, ns += 50);
	batch_exit(b, ns += 50);
	batch_end(b, 0);
	batch_begin(b, &t, ns += 50);
	batch_exit(b, ns);
	batch_lose(b);
	rec_thread_exit(b, &t, ns + 500);
	rec_note(b, PT_NOTE_GATE_CLOSE, ns + 1000, 0);
	rec_note(b, PT_NOTE_LOST_EVENTS, ns + 1000, 5);
	rec_note(b, PT_NOTE_LOST_RECORDS, ns + 1000, 1);
}

static void make_processes(struct rec_builder *b)
{
	static const uint32_t open[] = {1};
	struct rec_thread parent = rec_thread(100, 100, 1, "python3");
	struct rec_thread child = rec_thread(200, 200, 2, "python3");
	struct rec_thread image = rec_thread(200, 200, 3, "task");
	uint64_t ns = START_NS + 1000;

	codes(b);
	rec_proc(b, PT_PROC_ATTACH, 100, 1, START_NS, 1, "python3", "python3 pool.py", 0);
	batch_begin(b, &parent, ns);
	batch_snap(b, open, 1, 1, ns);
	batch_enter(b, 2, ns);
	batch_exit(b, ns + 9000);
	batch_end(b, 0);
	rec_proc(b, PT_PROC_FORK, 200, 2, ns + 1000, 100, "python3", NULL, 0);
	batch_begin(b, &child, ns + 2000);
	batch_snap(b, open, 1, 1, ns + 2000);
	batch_enter(b, 3, ns + 2000);
	batch_end(b, 0);
	rec_proc(b, PT_PROC_EXEC, 200, 3, ns + 3000, 0, "task", NULL, 0);
	rec_proc(b, PT_PROC_LATE, 200, 3, ns + 3500, 0, "", NULL, 0);
	batch_begin(b, &image, ns + 4000);
	batch_snap(b, open, 1, 1, ns + 4000);
	batch_enter(b, 4, ns + 4000);
	batch_exit(b, ns + 4500);
	batch_end(b, PT_RF_LAST);
	rec_proc(b, PT_PROC_EXIT, 200, 3, ns + 5000, 0, "", NULL, 11);
	rec_note(b, PT_NOTE_GATE_CLOSE, ns + 10000, 0);
}

static void make_damage(struct rec_builder *b)
{
	struct rec_thread t = rec_thread(100, 100, 1, "python3");
	uint64_t ns = START_NS + 1000;

	codes(b);
	for (uint32_t i = 0; i < 6; i++) {
		batch_begin(b, &t, ns += 1000);
		if (i == 0)
			batch_snap(b, NULL, 0, 0, ns);
		batch_enter(b, 1 + i % 5, ns);
		if (i == 2)
			b->batch.words[0] |= 7; /* a kind of word that there is not */
		if (i == 4)
			b->batch.seq = 1;
		batch_end(b, 0);
	}
}

/* What is no call: collections of both kinds, joined waits, imports, instants, details that are
 * missing, and words before the first snapshot. */
static void make_runtime(struct rec_builder *b)
{
	static const char *const json[] = {"json", NULL}, *const bad[] = {"na\xc3\xafve \xff\"",
									  NULL};
	static const char *const opened[] = {"open", "/srv/\xff", "r", NULL};
	static const char *const raised[] = {"ValueError", "line\none", NULL};
	static const int64_t generation[] = {1}, sum[] = {90}, stats[] = {2, 30, 4};
	static const int64_t timed_out[] = {1}, woken[] = {0}, serial[] = {1, 2, 3, 4, 9};
	static const uint32_t open[] = {2, 1};
	struct rec_thread t = rec_thread(100, 100, 1, "python3");
	uint64_t ns = START_NS + 1000;

	codes(b);
	rec_proc(b, PT_PROC_ATTACH, 100, 1, START_NS, 1, "python3", "python3", 0);
	rec_runtime(b, &t, 1, PT_RT_IMPORT, json, ns);
	rec_runtime(b, &t, 2, PT_RT_IMPORT, bad, ns);
	rec_runtime(b, &t, 3, PT_RT_AUDIT, opened, ns);
	rec_runtime(b, &t, 4, PT_RT_EXCEPTION, raised, ns);
	batch_begin(b, &t, ns);
	batch_rt(b, PT_X_RT_BEGIN, PT_RT_GC, 0, generation, 1, ns);
	batch_rt(b, PT_X_RT_END, PT_RT_GC, 0, sum, 1, ns += 100);
	batch_snap(b, open, 2, 2, ns += 100);
	batch_enter(b, 3, ns);
	batch_rt(b, PT_X_RT_BEGIN, PT_RT_IMPORT, PT_RT_DETAILS, &serial[0], 1, ns);
	batch_enter(b, 4, ns += 100);
	batch_rt(b, PT_X_RT_BEGIN, PT_RT_IMPORT, PT_RT_DETAILS, &serial[1], 1, ns);
	batch_rt(b, PT_X_RT_INSTANT, PT_RT_AUDIT, PT_RT_DETAILS, &serial[2], 1, ns += 10);
	batch_rt(b, PT_X_RT_INSTANT, PT_RT_EXCEPTION, PT_RT_DETAILS, &serial[3], 1, ns += 10);
	batch_rt(b, PT_X_RT_INSTANT, PT_RT_AUDIT, PT_RT_DETAILS, &serial[4], 1, ns += 10);
	batch_exit(b, ns += 100);
	batch_exit(b, ns += 100);
	for (int i = 0; i < 3; i++) {
		batch_rt(b, PT_X_RT_BEGIN, PT_RT_GIL, 0, NULL, 0, ns += 10);
		batch_rt(b, PT_X_RT_END, PT_RT_GIL, 0, i < 2 ? timed_out : woken, 1, ns += 1000);
	}
	batch_rt(b, PT_X_RT_BEGIN, PT_RT_GC, 0, NULL, 0, ns += 10);
	batch_enter(b, 5, ns += 10);
	batch_exit(b, ns += 10);
	batch_rt(b, PT_X_RT_END, PT_RT_GC, 0, stats, 3, ns += 10);
	batch_rt(b, PT_X_RT_BEGIN, PT_RT_GC, 0, NULL, 0, ns += 10);
	batch_rt(b, PT_X_RT_END, PT_RT_GC, PT_RT_CANCEL, NULL, 0, ns += 10);
	batch_rt(b, PT_X_RT_BEGIN, 99, 0, NULL, 0, ns += 10); /* a kind of another version */
	batch_rt(b, PT_X_RT_BEGIN, PT_RT_GIL, 0, NULL, 0, ns += 10);
	batch_end(b, 0);
	rec_note(b, PT_NOTE_GATE_CLOSE, START_NS + 10000, 0);
}

/* A call and its return, 10 ns later. */
static void cuda_call(struct rec_builder *b, unsigned int fn, const uint64_t *in, uint32_t in_count,
		      const uint64_t *out, uint32_t out_count, int code, uint64_t ns)
{
	batch_cuda(b, PT_X_CUDA_BEGIN, PT_CUDA_DESC(fn, 0, 0), in, in_count, ns);
	batch_cuda(b, PT_X_CUDA_END, PT_CUDA_DESC(fn, 0, code), out, out_count, ns + 10);
}

/* CUDA: a nested call, failures, what is given back, a function of another version, a call without
 * its return, a thread that runs no Python, a library that came late, a kernel with a name and one
 * without. */
static void make_cuda(struct rec_builder *b)
{
	static const uint64_t alloc[] = {0x7ffd00000001, 4096}, out[] = {0x700000000009};
	static const uint64_t launch[] = {0x1234, 3 | 4ull << 32, 5,  32 | 2ull << 32,
					  1,      0x99,           77, 0x123};
	static const uint64_t unknown[] = {0x1235, 1, 1, 1, 1, 0, 0, 0};
	struct rec_thread t = rec_thread(100, 100, 1, "python3"),
			  native = rec_thread(100, 101, 1, "worker");
	uint64_t ns = START_NS + 1000;

	codes(b);
	rec_proc(b, PT_PROC_ATTACH, 100, 1, START_NS, 1, "python3", "python3", 0);
	rec_cuda_fn(b, 1, "cudaMalloc", PT_CUDA_RUNTIME, 13, 2, 1);
	rec_cuda_fn(b, 2, "cuMemAlloc_v2", PT_CUDA_DRIVER, 0, 2, 1);
	rec_cuda_fn(b, 3, "cudaLaunchKernel", PT_CUDA_RUNTIME, 13, 8, 0);
	rec_cuda_fn(b, 4, "cudaNo\"Such\xff", PT_CUDA_RUNTIME, 14, 0, 0);
	rec_cuda_kernel(b, 100, 1, 0x1234, "_ZN4deep5scaleEPfi", 1, "/srv/libk.so", ns);
	rec_cuda_kernel(b, 100, 1, 0x1235, "", 0, "/srv/lib\xff.so", ns);
	batch_begin(b, &t, ns);
	batch_enter(b, 1, ns);
	batch_cuda(b, PT_X_CUDA_BEGIN, PT_CUDA_DESC(1, 0, 0), alloc, 2, ns += 10);
	batch_cuda(b, PT_X_CUDA_BEGIN, PT_CUDA_DESC(2, 1, 0), alloc, 2, ns += 10);
	batch_cuda(b, PT_X_CUDA_END, PT_CUDA_DESC(2, 1, 0), out, 1, ns += 10);
	batch_cuda(b, PT_X_CUDA_END, PT_CUDA_DESC(1, 0, 0), out, 1, ns += 10);
	batch_enter(b, 2, ns += 10);
	batch_cuda(b, PT_X_CUDA_BEGIN, PT_CUDA_DESC(3, 0, 0), launch, 8, ns += 10);
	batch_cuda(b, PT_X_CUDA_END, PT_CUDA_DESC(3, 0, 35), NULL, 0, ns += 10);
	batch_cuda(b, PT_X_CUDA_BEGIN, PT_CUDA_DESC(3, 0, 0), unknown, 8, ns += 10);
	batch_cuda(b, PT_X_CUDA_END, PT_CUDA_DESC(3, 0, 0), NULL, 0, ns += 10);
	batch_cuda(b, PT_X_CUDA_BEGIN, PT_CUDA_DESC(4, 0, 0), alloc, 1, ns += 10);
	batch_cuda(b, PT_X_CUDA_END, PT_CUDA_DESC(4, 0, -1), NULL, 0, ns += 10);
	batch_cuda(b, PT_X_CUDA_BEGIN, PT_CUDA_DESC(9, 0, 0), NULL, 0, ns += 10);
	batch_exit(b, ns += 10);
	batch_exit(b, ns += 10);
	batch_end(b, 0);
	batch_begin(b, &native, ns);
	batch_cuda(b, PT_X_CUDA_BEGIN, PT_CUDA_DESC(1, 0, 0), alloc, 2, ns += 10);
	batch_cuda(b, PT_X_CUDA_END, PT_CUDA_DESC(1, 0, 2), out, 1, ns += 10);
	batch_end(b, 0);
	rec_cuda_lib(b, 100, "/srv/libcudart.so.13", ns += 10);
	rec_note(b, PT_NOTE_GATE_CLOSE, START_NS + 10000, 0);
}

/* Memory of CUDA: two devices, the host, failures, wrong frees, an order among threads that only a
 * note tells, and what is left. */
static void make_memory(struct rec_builder *b)
{
	static const uint64_t zero[] = {0}, one[] = {1};
	static const uint64_t small[] = {0x7ffd00000001, 256}, large[] = {0x7ffd00000001, 4096};
	static const uint64_t first[] = {0x700000001000}, second[] = {0x700000002000};
	struct rec_thread t = rec_thread(100, 100, 1, "python3"),
			  native = rec_thread(100, 101, 1, "worker");
	uint64_t ns = START_NS + 1000;

	codes(b);
	rec_proc(b, PT_PROC_ATTACH, 100, 1, START_NS, 1, "python3", "python3", 0);
	rec_cuda_fn(b, 1, "cudaMalloc", PT_CUDA_RUNTIME, 13, 2, 1);
	rec_cuda_fn(b, 2, "cudaFree", PT_CUDA_RUNTIME, 13, 1, 0);
	rec_cuda_fn(b, 3, "cudaSetDevice", PT_CUDA_RUNTIME, 13, 1, 0);
	rec_cuda_fn(b, 4, "cudaMallocHost", PT_CUDA_RUNTIME, 13, 2, 1);
	batch_begin(b, &native, ns);
	cuda_call(b, 2, first, 1, NULL, 0, 0, ns + 900); /* of what the other allocates */
	cuda_call(b, 1, large, 2, first, 1, 0, ns + 1000);
	cuda_call(b, 2, first, 1, NULL, 0, 17, ns + 1100);
	cuda_call(b, 2, second, 1, NULL, 0, 0, ns + 2000); /* twice */
	batch_end(b, 0);
	batch_begin(b, &t, ns);
	batch_enter(b, 1, ns);
	cuda_call(b, 3, zero, 1, NULL, 0, 0, ns += 100);
	cuda_call(b, 1, small, 2, first, 1, 0, ns += 100);
	batch_enter(b, 2, ns += 100);
	cuda_call(b, 3, one, 1, NULL, 0, 0, ns += 100);
	cuda_call(b, 1, large, 2, second, 1, 0, ns += 100);
	cuda_call(b, 1, large, 2, zero, 1, 2, ns += 100);
	cuda_call(b, 2, second, 1, NULL, 0, 0, ns += 100);
	cuda_call(b, 2, small, 1, NULL, 0, 0, ns += 100); /* no address of anybody's */
	batch_exit(b, ns += 100);
	cuda_call(b, 4, small, 2, second, 1, 0, ns + 2000);
	batch_exit(b, ns += 3000);
	batch_end(b, 0);
	rec_note(b, PT_NOTE_COMPLETE, ns, ns - 1000);
	rec_note(b, PT_NOTE_GATE_CLOSE, START_NS + 10000, 0);
}

/* Bounds of GPU work: of two streams, of one piece of work and of several, on two tracks, across
 * threads, and one that nothing waited for. */
static void make_gpu(struct rec_builder *b)
{
	static const uint64_t zero[] = {0}, one[] = {0x5001}, event[] = {0x99};
	static const uint64_t set[] = {0x700000001000, 0, 256, 0x5001}, record[] = {0x99, 0x5001};
	static const uint64_t set_default[] = {0x700000001000, 0, 256, 0};
	struct rec_thread t = rec_thread(100, 100, 1, "python3"),
			  other = rec_thread(100, 101, 1, "worker");
	uint64_t ns = START_NS + 1000;

	codes(b);
	rec_proc(b, PT_PROC_ATTACH, 100, 1, START_NS, 1, "python3", "python3", 0);
	rec_cuda_fn(b, 1, "cudaMemsetAsync", PT_CUDA_RUNTIME, 13, 4, 0);
	rec_cuda_fn(b, 2, "cudaStreamSynchronize", PT_CUDA_RUNTIME, 13, 1, 0);
	rec_cuda_fn(b, 3, "cudaEventRecord", PT_CUDA_RUNTIME, 13, 2, 0);
	rec_cuda_fn(b, 4, "cudaEventSynchronize", PT_CUDA_RUNTIME, 13, 1, 0);
	rec_cuda_fn(b, 5, "cudaSetDevice", PT_CUDA_RUNTIME, 13, 1, 0);
	batch_begin(b, &other, ns);
	batch_enter(b, 2, ns);
	cuda_call(b, 4, event, 1, NULL, 0, 0, ns + 900);
	batch_exit(b, ns + 1000);
	batch_end(b, 0);
	batch_begin(b, &t, ns);
	batch_enter(b, 1, ns);
	cuda_call(b, 5, zero, 1, NULL, 0, 0, ns += 100);
	cuda_call(b, 1, set, 4, NULL, 0, 0, ns += 100);
	cuda_call(b, 3, record, 2, NULL, 0, 0, ns += 100);
	cuda_call(b, 1, set, 4, NULL, 0, 0, ns += 100);
	cuda_call(b, 1, set, 4, NULL, 0, 0, ns += 100);
	cuda_call(b, 1, set_default, 4, NULL, 0, 0, ns += 100);
	cuda_call(b, 1, set_default, 4, NULL, 0, 1, ns += 100);
	cuda_call(b, 2, one, 1, NULL, 0, 0, ns += 1000);
	batch_exit(b, ns += 100);
	batch_end(b, 0);
	rec_note(b, PT_NOTE_COMPLETE, ns, ns - 500);
	rec_note(b, PT_NOTE_GATE_CLOSE, START_NS + 10000, 0);
}

/* Operators of PyTorch: within each other, with Python and a call of CUDA within, one that nothing
 * told the end of, and in a thread that runs no Python. */
static void make_torch(struct rec_builder *b)
{
	enum { ADD = PT_TORCH_ID_FIRST, MUL, UNKNOWN };
	static const uint64_t alloc[] = {0x7ffd00000001, 4096}, out[] = {0x700000000009};
	struct rec_thread t = rec_thread(100, 100, 1, "python3"),
			  native = rec_thread(100, 101, 1, "worker");
	uint64_t ns = START_NS + 1000;

	codes(b);
	rec_proc(b, PT_PROC_ATTACH, 100, 1, START_NS, 1, "python3", "python3", 0);
	rec_cuda_fn(b, 1, "cudaMalloc", PT_CUDA_RUNTIME, 13, 2, 1);
	rec_cuda_fn(b, ADD, "aten::add.Tensor", PT_CUDA_TORCH, 0, 0, 0);
	rec_cuda_fn(b, MUL, "aten::mul", PT_CUDA_TORCH, 0, 0, 0);
	batch_begin(b, &t, ns);
	batch_enter(b, 1, ns);
	batch_cuda(b, PT_X_CUDA_BEGIN, PT_CUDA_DESC(ADD, 0, 0), NULL, 0, ns += 10);
	batch_enter(b, 2, ns += 10);
	batch_cuda(b, PT_X_CUDA_BEGIN, PT_CUDA_DESC(MUL, 1, 0), NULL, 0, ns += 10);
	batch_cuda(b, PT_X_CUDA_BEGIN, PT_CUDA_DESC(1, 0, 0), alloc, 2, ns += 10);
	batch_cuda(b, PT_X_CUDA_END, PT_CUDA_DESC(1, 0, 0), out, 1, ns += 10);
	batch_cuda(b, PT_X_CUDA_END, PT_CUDA_DESC(MUL, 1, 0), NULL, 0, ns += 10);
	batch_exit(b, ns += 10);
	batch_cuda(b, PT_X_CUDA_BEGIN, PT_CUDA_DESC(MUL, 1, 0), NULL, 0, ns += 10);
	batch_cuda(b, PT_X_CUDA_END, PT_CUDA_DESC(ADD, 0, 0), NULL, 0, ns += 10);
	batch_cuda(b, PT_X_CUDA_BEGIN, PT_CUDA_DESC(MUL, 0, 0), NULL, 0, ns += 10);
	batch_cuda(b, PT_X_CUDA_BEGIN, PT_CUDA_DESC(UNKNOWN, 0, 0), NULL, 0, ns += 10);
	batch_exit(b, ns += 10);
	batch_end(b, 0);
	batch_begin(b, &native, ns);
	batch_cuda(b, PT_X_CUDA_BEGIN, PT_CUDA_DESC(ADD, 0, 0), NULL, 0, ns += 10);
	batch_cuda(b, PT_X_CUDA_END, PT_CUDA_DESC(ADD, 0, 0), NULL, 0, ns += 10);
	batch_end(b, 0);
	rec_note(b, PT_NOTE_GATE_CLOSE, START_NS + 10000, 0);
}

/* Stacks: one of two calls, one that is cut, one with what is no UTF-8, one that another thread
 * has, one whose word is lost, one that was never defined. */
static void make_stacks(struct rec_builder *b)
{
	static const uint64_t alloc[] = {0x7ffd00000001, 4096};
	/* 3.12: two entries, of three code units on line 10 and four on line 12 */
	static const uint8_t table[] = {0x80 | 10 << 3 | 2, 5, 9, 0x80 | 12 << 3 | 3, 5, 9};
	static const struct pt_call_frame frames[] = {
	    {PT_CF_NATIVE, 0, 0x1230, 18, 12}, {PT_CF_NATIVE, 0, 0x55, 0, 12},
	    {PT_CF_PYTHON, 2, 4, 0, 0},        {PT_CF_PYTHON, 1, PT_CF_NO_PLACE, 0, 0},
	    {PT_CF_NATIVE, 0, 0x77, 4, 9},
	};
	static const struct pt_call_frame cut[] = {
	    {PT_CF_NATIVE, 0, 0x99, 2, 0},
	    {PT_CF_NATIVE_UNKNOWN, 0, 0, 0, 0},
	    {PT_CF_PYTHON, 9, 1, 0, 0},
	    {PT_CF_PYTHON_MORE, 0, 0, 0, 0},
	};
	struct rec_thread t = rec_thread(100, 100, 1, "python3"),
			  other = rec_thread(100, 101, 1, "worker");
	uint64_t ns = START_NS + 1000;

	codes(b);
	rec_lines(b, 2, 0x030c01f0, table, sizeof(table), 0, sizeof(table));
	rec_proc(b, PT_PROC_ATTACH, 100, 1, START_NS, 1, "python3", "python3", 0);
	rec_cuda_fn(b, 1, "cudaMalloc", PT_CUDA_RUNTIME, 13, 2, 1);
	rec_call_stack(b, &t, 1, 1, frames, 5,
		       "_ZN4deep5outerEi\xff\xfe"
		       "/srv/libk.so"
		       "/srv/libk.so"
		       "main/bin/app1",
		       ns);
	rec_call_stack(b, &t, 2, 1, NULL, 0, "", ns);
	rec_call_stack(b, &t, 3, 2, cut, 4, "\xffz", ns);
	rec_call_stack(b, &t, 4, 2, NULL, 0, "", ns);
	rec_call_stack(b, &t, 5, 1, NULL, 0, "", ns);
	rec_call_stack(b, &t, 6, 7, NULL, 0, "", ns); /* damage: it was not defined */
	batch_begin(b, &t, ns);
	batch_enter(b, 1, ns);
	batch_enter(b, 2, ns += 10);
	for (uint32_t serial = 1; serial <= 6; serial++) {
		if (serial != 4)
			batch_stack(b, serial, ns += 10);
		batch_cuda(b, PT_X_CUDA_BEGIN, PT_CUDA_DESC(1, 0, 0), alloc, 2, ns += 10);
		batch_cuda(b, PT_X_CUDA_END, PT_CUDA_DESC(1, 0, 2), NULL, 0, ns += 10);
	}
	batch_exit(b, ns += 10);
	batch_exit(b, ns += 10);
	batch_end(b, 0);
	rec_call_stack(b, &other, 1, 1, NULL, 0, "", ns);
	batch_begin(b, &other, ns);
	batch_stack(b, 1, ns += 10);
	batch_cuda(b, PT_X_CUDA_BEGIN, PT_CUDA_DESC(1, 0, 0), alloc, 2, ns += 10);
	batch_end(b, 0);
	rec_note(b, PT_NOTE_GATE_CLOSE, START_NS + 10000, 0);
}

/* Lines of calls: tables of all three formats, one in two pieces, one of which a piece is missing.
 */
static void make_lines(struct rec_builder *b)
{
	static const uint8_t lnotab[] = {8, 1, 8, 0xff}, ranges[] = {8, 1, 4, 0x80, 4, 5};
	static const uint8_t entries[] = {0x80 | 13 << 3 | 1, 4, 0x80 | 15 << 3,
					  0x80 | 11 << 3,     0, 0};
	struct rec_thread t = rec_thread(100, 100, 1, "python3");
	uint64_t ns = START_NS + 1000;

	codes(b);
	rec_lines(b, 1, 0x030801f0, lnotab, 4, 0, 4);
	rec_lines(b, 2, 0x030a01f0, ranges, 6, 0, 2);
	rec_lines(b, 2, 0x030a01f0, ranges, 6, 2, 4);
	rec_lines(b, 3, 0x030f01f0, entries, 6, 0, 6);
	rec_lines(b, 5, 0x030f01f0, entries, 6, 0, 2);
	rec_proc(b, PT_PROC_ATTACH, 100, 1, START_NS, 1, "python3", NULL, 0);
	batch_begin(b, &t, ns);
	batch_snap(b, NULL, 0, 0, ns);
	batch_enter(b, 1, ns);
	for (uint32_t caller = 1, unit = 0; unit < 10; unit += 2) {
		batch_line(b, caller, unit);
		batch_enter(b, 2, ns += 100);
		batch_line(b, 2, unit);
		batch_enter(b, 3, ns += 100);
		batch_line(b, 3, unit / 2);
		batch_enter(b, 5, ns += 100);
		batch_line(b, 5, 0);
		batch_enter(b, 4, ns += 100);
		batch_exit_to(b, 1, ns += 100);
	}
	batch_end(b, 0);
	rec_note(b, PT_NOTE_GATE_CLOSE, ns + 1000, 0);
}

/* A clear, pauses that calls and a C function go through, begin in and end in, and calls that are
 * left out at the end. */
static void make_control(struct rec_builder *b)
{
	static const uint32_t open[] = {3, 2, 1}, behind[] = {1};
	struct rec_thread t = rec_thread(100, 100, 1, "python3");
	uint64_t ns = START_NS + 1000;

	codes(b);
	rec_cfunc(b, 40, PT_C_FUNCTION, "sorted", "builtins");
	rec_proc(b, PT_PROC_ATTACH, 100, 1, START_NS, 1, "python3", "python3", 0);
	batch_begin(b, &t, ns);
	batch_snap(b, NULL, 0, 0, ns);
	batch_enter(b, 1, ns);
	batch_enter(b, 5, ns += 100);
	batch_exit(b, ns += 100);
	batch_enter(b, 2, ns += 100);
	batch_c_enter(b, 40, ns += 100);
	batch_end(b, 0);
	rec_control(b, PT_CONTROL_CLEAR, ns += 100);
	batch_begin(b, &t, ns);
	batch_enter(b, 4, ns += 100);
	batch_end(b, 0);
	rec_control(b, PT_CONTROL_PAUSE, ns += 100);
	rec_control(b, PT_CONTROL_RESUME, ns += 1000);
	batch_begin(b, &t, ns - 1000);
	batch_paused(b, 2, ns - 1000, ns, ns + 100);
	batch_snap(b, open, 3, 3, ns += 100);
	batch_exit_to(b, 2, ns += 100);
	batch_c_exit(b, ns += 100);
	batch_c_enter(b, 40, ns += 100);
	batch_end(b, 0);
	rec_control(b, PT_CONTROL_PAUSE, ns += 100);
	rec_control(b, PT_CONTROL_RESUME, ns += 1000);
	batch_begin(b, &t, ns);
	batch_paused(b, 2 | PT_PAUSED_C_OVER, ns - 1000, ns, ns + 100);
	batch_snap(b, behind, 1, 1, ns += 100);
	batch_exit_to(b, 1, ns += 100);
	batch_enter(b, 3, ns += 100);
	batch_end(b, 0);
	rec_control(b, PT_CONTROL_DROP_OPEN, ns + 1000);
	rec_note(b, PT_NOTE_GATE_CLOSE, ns + 1000, 0);
}

/* Thread states of two threads: each kind of turn, a loss, a turn that is open at the end, a thread
 * that ends; and who has the GIL. */
static void make_sched(struct rec_builder *b)
{
	static const int64_t holder[] = {7}, woken[] = {0};
	struct rec_thread t = rec_thread(100, 100, 1, "python3");
	struct rec_thread u = rec_thread(100, 101, 1, "worker");
	uint64_t ns = START_NS + 1000;

	codes(b);
	u.ns_tid = 7;
	rec_proc(b, PT_PROC_ATTACH, 100, 1, START_NS, 1, "python3", "python3", 0);
	rec_thread_start(b, &t, ns);
	rec_thread_start(b, &u, ns);
	rec_sched(b, &t,
		  (struct pt_rec_sched){.run_ns = ns,
					.out_ns = ns + 100,
					.wake_ns = ns + 300,
					.in_ns = ns + 310,
					.state = 1,
					.syscall = 202,
					.cpu = 1});
	rec_sched(b, &t,
		  (struct pt_rec_sched){.run_ns = ns + 310,
					.out_ns = ns + 400,
					.seq = 1,
					.wake_ns = ns + 400,
					.in_ns = ns + 450,
					.syscall = PT_SCHED_NO_CALL});
	rec_sched(b, &u,
		  (struct pt_rec_sched){.run_ns = ns + 10,
					.out_ns = ns + 60,
					.wake_ns = ns + 70,
					.in_ns = ns + 75,
					.state = 2,
					.syscall = PT_SCHED_NO_CALL,
					.flags = PT_SCHED_IO});
	rec_sched(b, &t,
		  (struct pt_rec_sched){.run_ns = ns + 600,
					.out_ns = ns + 700,
					.seq = 4,
					.wake_ns = ns + 710,
					.in_ns = ns + 720,
					.state = 4,
					.syscall = 30000});
	rec_sched(b, &u,
		  (struct pt_rec_sched){
		      .hdr.flags = PT_SCHED_END, .run_ns = ns + 75, .out_ns = ns + 200, .seq = 1});
	batch_begin(b, &t, ns);
	batch_snap(b, NULL, 0, 0, ns);
	batch_enter(b, 1, ns);
	batch_rt(b, PT_X_RT_BEGIN, PT_RT_GIL, 0, holder, 1, ns + 90);
	batch_rt(b, PT_X_RT_END, PT_RT_GIL, 0, woken, 1, ns + 320);
	batch_exit(b, ns + 740);
	batch_end(b, 0);
	rec_sched(b, &t,
		  (struct pt_rec_sched){.hdr = {.flags = PT_SCHED_OPEN, .time_ns = ns + 900},
					.run_ns = ns + 720,
					.out_ns = ns + 800,
					.seq = 5,
					.state = 1,
					.syscall = 0});
	rec_note(b, PT_NOTE_GATE_CLOSE, ns + 900, 0);
}

/* A value without data but a name of one letter. */
static struct pt_value value(unsigned int type, int64_t number)
{
	return (struct pt_value){
	    .type = (uint8_t)type, .width = 1, .name_bytes = 1, .name_width = 1, .number = number};
}

/* Arguments, variables and results of all types, some of which were lost. */
static void make_values(struct rec_builder *b)
{
	static const char data[] = "abcde"
				   "tf\"\xe9\n'g"
				   "h\\\xff\x01"
				   "Llist"
				   "oFoo"
				   "klnp";
	struct pt_value all[PT_VALUES_MAX] = {
	    value(PT_V_NONE, 0),    value(PT_V_BOOL, 1),       value(PT_V_INT, -5),
	    value(PT_V_FLOAT, 0),   value(PT_V_UNREADABLE, 0), value(PT_V_TEXT, 0),
	    value(PT_V_BYTES, 0),   value(PT_V_SIZED, 3),      value(PT_V_OBJECT, 0x7f00),
	    value(PT_V_UNBOUND, 0), value(PT_V_UNKNOWN, 0),    value(PT_V_NO_VARIABLE, 0),
	    value(PT_V_BOOL, 0),
	};
	struct pt_value result = value(PT_V_INT, 42);
	struct rec_thread t = rec_thread(100, 100, 1, "python3");
	uint64_t ns = START_NS + 1000;

	all[5].bytes = 6; /* behind the names a to e and its own, t */
	all[6].bytes = 3;
	all[6].truncated = 1;
	all[7].bytes = 4;
	all[8].bytes = 3;
	result.name_bytes = 0;
	codes(b);
	rec_proc(b, PT_PROC_ATTACH, 100, 1, START_NS, 1, "python3", NULL, 0);
	rec_values(b, &t, 1, all, 13, 2, data, ns);
	rec_values(b, &t, 2, &result, 1, 0, "", ns); /* its word is lost */
	rec_values(b, &t, 3, &result, 1, 0, "", ns);
	batch_begin(b, &t, ns);
	batch_snap(b, NULL, 0, 0, ns);
	batch_values(b, PT_X_ARGS, 1, ns);
	batch_enter(b, 1, ns);
	batch_values(b, PT_X_ARGS, 9, ns += 100); /* the record is lost */
	batch_enter(b, 2, ns);
	batch_values(b, PT_X_RESULT, 3, ns += 100);
	batch_exit(b, ns);
	batch_exit(b, ns += 100);
	batch_end(b, 0);
	rec_note(b, PT_NOTE_GATE_CLOSE, ns + 1000, 0);
}

/* Probes of the user's: a slice that a call lies in, ranges of two groups that overlap, a counter,
 * arguments of all types, one whose name could not be read, and a child that a thread forked. */
static void make_marks(struct rec_builder *b)
{
	static const struct rec_mark_arg event[] = {
	    {"name", PT_MARK_NAME},    {"size", PT_MARK_UNSIGNED}, {"where", PT_MARK_POINTER},
	    {"count", PT_MARK_SIGNED}, {"text", PT_MARK_TEXT},     {NULL, 0}};
	static const struct rec_mark_arg named[] = {{"name", PT_MARK_NAME}, {NULL, 0}};
	static const struct rec_mark_arg number[] = {{"value", PT_MARK_SIGNED}, {NULL, 0}};
	static const char *const args[] = {"an \"event\"", "#-1", "#4096", "#-5", "caf\xe9", NULL};
	static const char *const outer[] = {"outer", NULL}, *const number_text[] = {"#-30", NULL};
	static const int64_t words[][3] = {{1, 1, 0}, {0, 2, 4096}, {2, 3, 1}, {0, 5, 1},
					   {0, 4, 1}, {0, 6, 1},    {3, 7, 0}, {0, 99, 0}};
	struct rec_thread t = rec_thread(100, 101, 1, "python3");
	struct rec_thread child = rec_thread(200, 200, 2, "python3");
	uint64_t ns = START_NS + 1000;

	codes(b);
	rec_mark(b, 1, PT_MARK_INSTANT, 1, "app_event", event);
	rec_mark(b, 2, PT_MARK_SLICE, 2, "app_work", NULL);
	rec_mark(b, 3, PT_MARK_BEGIN, 3, "phase", named);
	rec_mark(b, 4, PT_MARK_END, 3, "phase", NULL);
	rec_mark(b, 5, PT_MARK_BEGIN, 4, "app:other", NULL);
	rec_mark(b, 6, PT_MARK_END, 4, "app:other", NULL);
	rec_mark(b, 7, PT_MARK_COUNTER, 5, "queue", number);
	rec_mark(b, 7, PT_MARK_INSTANT, 5, "once more", NULL);
	rec_proc(b, PT_PROC_ATTACH, 100, 1, START_NS, 1, "python3", "python3 app.py", 0);
	rec_runtime(b, &t, 1, PT_RT_MARK, args, ns);
	rec_runtime(b, &t, 2, PT_RT_MARK, outer, ns);
	rec_runtime(b, &t, 3, PT_RT_MARK, number_text, ns);
	batch_begin(b, &t, ns);
	batch_snap(b, NULL, 0, 0, ns);
	batch_enter(b, 1, ns);
	batch_rt(b, PT_X_RT_INSTANT, PT_RT_MARK, PT_RT_DETAILS, words[0], 3, ns += 10);
	batch_rt(b, PT_X_RT_BEGIN, PT_RT_MARK, 0, words[1], 3, ns += 10);
	batch_enter(b, 2, ns += 10);
	batch_rt(b, PT_X_RT_INSTANT, PT_RT_MARK, PT_RT_DETAILS, words[2], 3, ns += 10);
	batch_exit(b, ns += 10);
	batch_rt(b, PT_X_RT_END, PT_RT_MARK, 0, words[1], 3, ns += 10);
	batch_rt(b, PT_X_RT_INSTANT, PT_RT_MARK, 0, words[3], 3, ns += 10);
	batch_rt(b, PT_X_RT_INSTANT, PT_RT_MARK, 0, words[4], 3, ns += 10);
	batch_rt(b, PT_X_RT_INSTANT, PT_RT_MARK, 0, words[5], 3, ns += 10);
	batch_rt(b, PT_X_RT_INSTANT, PT_RT_MARK, 0, words[5], 3, ns += 10); /* one too many */
	batch_rt(b, PT_X_RT_INSTANT, PT_RT_MARK, PT_RT_DETAILS, words[6], 3, ns += 10);
	batch_rt(b, PT_X_RT_INSTANT, PT_RT_MARK, 0, words[7], 3, ns += 10); /* never defined */
	batch_rt(b, PT_X_RT_INSTANT, PT_RT_MARK, 0, words[3], 3, ns += 10); /* stays open */
	batch_end(b, 0);
	rec_fork(b, &t, 200, 2, ns += 100);
	rec_proc(b, PT_PROC_EXEC, 200, 3, ns + 100, 0, "task", NULL, 0);
	child.image_id = 3;
	batch_begin(b, &child, ns + 200);
	batch_enter(b, 3, ns + 200);
	batch_exit(b, ns + 300);
	batch_end(b, 0);
	rec_note(b, PT_NOTE_GATE_CLOSE, ns + 1000, 0);
}

/* Tasks: made by a call, with a name or without, an exception through one that waits, an address
 * used again, one that was there before, and a loss; greenlets. */
static void make_async(struct rec_builder *b)
{
	static const char *const name[] = {"worker \"1\"", NULL};
	static const uint32_t open[] = {1};
	const uint64_t outer = 0x7f0000001000, inner = 0x7f0000002000;
	const int64_t named[] = {1, (int64_t)outer};
	struct rec_thread t = rec_thread(100, 100, 1, "python3");
	uint64_t ns = START_NS + 1000;

	codes(b);
	rec_code_flags(b, 6, "serve", "/srv/app/main.py", 50, 0x80);
	rec_code_flags(b, 7, "fetch", "/srv/app/main.py", 60, 0x80);
	rec_code(b, 8, "create_task", "", "/usr/lib/python3.12/asyncio/tasks.py", 381);
	rec_proc(b, PT_PROC_ATTACH, 100, 1, START_NS, 1, "python3", "python3", 0);
	rec_runtime(b, &t, 1, PT_RT_TASK_NAME, name, ns);
	batch_begin(b, &t, ns);
	batch_snap(b, open, 1, 1, ns);
	for (int i = 0; i < 2; i++) {
		batch_enter(b, 8, ns += 100);
		batch_task(b, outer, ns);
		if (i)
			batch_rt(b, PT_X_RT_INSTANT, PT_RT_TASK_NAME, PT_RT_DETAILS, named, 2, ns);
		batch_exit(b, ns += 100);
		batch_coro(b, outer | PT_CORO_FIRST, ns += 100);
		batch_enter(b, 6, ns);
		batch_coro(b, inner | PT_CORO_FIRST, ns += 100);
		batch_enter(b, 7, ns);
		batch_exit(b, ns += 100);
		batch_exit(b, ns += 100);
		batch_enter(b, 3, ns += 1000);
		batch_exit(b, ns += 100);
		batch_coro(b, inner, ns += 1000);
		batch_enter(b, 7, ns);
		batch_exit(b, ns += 100);
		batch_coro(b, outer, ns += 100);
		batch_enter(b, 6, ns);
		batch_exit(b, ns += 100);
		batch_enter(b, 3, ns += 100);
		batch_exit(b, ns += 100);
	}
	batch_coro(b, 0x7f0000003000, ns += 100);
	batch_enter(b, 7, ns);
	batch_exit(b, ns += 100);
	batch_end(b, 0);
	batch_begin(b, &t, ns += 100);
	batch_enter(b, 3, ns);
	batch_lose(b);
	batch_begin(b, &t, ns += 100);
	batch_snap(b, open, 1, 1, ns);
	batch_coro(b, outer, ns += 100);
	batch_enter(b, 6, ns);
	/* two more stacks: one that ends, and the thread's own again */
	batch_switch(b, 0x7f0000100000, ns += 100);
	batch_snap(b, open, 1, 1, ns);
	batch_switch(b, 0x7f0000200000, ns += 100);
	batch_snap(b, NULL, 0, 1, ns);
	batch_enter(b, 3, ns);
	batch_exit_to(b, 1, ns += 100);
	batch_switch(b, 0x7f0000100000, ns += 100);
	batch_snap(b, open, 1, 1, ns);
	batch_enter(b, 2, ns);
	batch_end(b, 0);
	rec_note(b, PT_NOTE_GATE_CLOSE, START_NS + 20000, 0);
}

static int make(const char *name, void (*fill)(struct rec_builder *b))
{
	static const struct pt_capture_info info = {
	    .start_mono_ns = START_NS,
	    .start_real_ns = 1790000000123456789ull,
	    .tool_version = "0.0.0",
	    .kernel = "6.18.0",
	    .host = "golden",
	    .engine = "frame",
	    .interpreter = "CPython 3.12.1",
	};
	struct pt_capture_writer *writer;
	struct pt_err err = {0};
	struct rec_builder b;
	const char *wrong;
	char path[256];

	/* not deflated: versions of zlib differ in their output */
	snprintf(path, sizeof(path), "%s.ptcap", name);
	if (pt_capture_create(path, &info, false, &writer, &err))
		goto fail;
	rec_init(&b, write_record, writer);
	fill(&b);
	if (b.rc || pt_capture_close(writer, true, &err))
		goto fail;
	wrong = golden_outputs(path, name);
	if (!wrong)
		return 0;
	fprintf(stderr, "make_golden: %s: %s\n", name, wrong);
	return 1;
fail:
	fprintf(stderr, "make_golden: %s: %s\n", name, err.what);
	return 1;
}

int main(int argc, char **argv)
{
	static void (*const fills[])(struct rec_builder *) = {
	    make_calls,   make_loss,  make_processes, make_damage, make_runtime, make_lines,
	    make_control, make_sched, make_values,    make_cuda,   make_marks,   make_async,
	    make_memory,  make_torch, make_stacks,    make_gpu};

	if (argc != 2 || chdir(argv[1])) {
		fprintf(stderr, "usage: make_golden DIR\n");
		return 2;
	}
	for (size_t i = 0; golden_names[i]; i++) {
		if (make(golden_names[i], fills[i]))
			return 1;
	}
	return 0;
}
