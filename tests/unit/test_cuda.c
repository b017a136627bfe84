// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/* The table of CUDA functions, where arguments lie, and what the model makes of calls. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cuda/table.h"
#include "model/model_priv.h"
#include "op_recorder.h"

/* ---- the table ---- */

static void check_row(const struct pt_cuda_row *row, bool first, size_t enum_first,
		      size_t enum_count)
{
	struct pt_cuda_layout layout;

	if (pt_cuda_layout(row, &layout))
		fail_msg("%s: '%s'", row->symbol, row->arguments);
	assert_true(first || strcmp(row[-1].symbol, row->symbol) <= 0);
	assert_true(strlen(row->symbol) < PT_CUDA_SYMBOL_BYTES);
	assert_true(pt_cuda_in_words(&layout) <= PT_CUDA_IN_MAX);
	for (unsigned int k = 0; k < layout.arg_count; k++)
		assert_true(layout.args[k].code != 'e' ||
			    layout.args[k].enum_type - enum_first < enum_count);
}

static void test_every_row(void **state)
{
	bool taken[PT_TORCH_ID_FIRST] = {0};
	size_t enums = 0, lib_enums = 0;

	while (pt_cuda_enums[enums])
		enums++;
	while (pt_cuda_lib_enums[lib_enums])
		lib_enums++;
	assert_true(enums <= PT_CUDA_LIB_ENUMS);
	for (size_t i = 0; i < pt_cuda_row_count; i++) {
		const struct pt_cuda_row *row = &pt_cuda_rows[i];

		check_row(row, !i, 0, enums);
		assert_ptr_equal(pt_cuda_row_find(row->symbol, row->major ? row->major : 13), row);
		for (int bare = 0; bare < 2; bare++) {
			uint32_t id = pt_cuda_row_id(row, bare);

			assert_true(id < PT_TORCH_ID_FIRST && !taken[id]);
			taken[id] = true;
		}
	}
	for (size_t i = 0; i < pt_cuda_lib_row_count; i++) {
		const struct pt_cuda_row *row = &pt_cuda_lib_rows[i];
		uint32_t id = pt_cuda_row_id(row, false);

		check_row(row, !i, PT_CUDA_LIB_ENUMS, lib_enums);
		assert_ptr_equal(pt_cuda_lib_row_find(row->symbol), row);
		assert_null(pt_cuda_row_find(row->symbol, 13));
		assert_true(id < PT_TORCH_ID_FIRST && !taken[id]);
		taken[id] = true;
	}
}

static void layout_of(const char *symbol, unsigned int major, struct pt_cuda_layout *layout)
{
	const struct pt_cuda_row *row = pt_cuda_row_find(symbol, major);

	if (!row || pt_cuda_layout(row, layout))
		fail_msg("%s", symbol);
}

static int word_of(const struct pt_cuda_layout *layout, const char *name)
{
	for (unsigned int i = 0; i < layout->arg_count; i++)
		if (!strcmp(layout->args[i].name, name))
			return layout->args[i].word;
	fail_msg("no argument %s", name);
	return -1;
}

/* Registers as they were seen at a real launch: rdi func, rsi and edx grid, rcx and r8d block, r9
 * args, then the stack. */
static void test_launch(void **state)
{
	struct pt_cuda_layout layout;

	layout_of("cudaLaunchKernel", 13, &layout);
	assert_int_equal(layout.regs, 6);
	assert_int_equal(layout.stack, 2);
	assert_int_equal(word_of(&layout, "gridDim"), 1);
	assert_int_equal(word_of(&layout, "blockDim"), 3);
	assert_int_equal(word_of(&layout, "args"), 5);
	assert_int_equal(word_of(&layout, "sharedMem"), 6);
	assert_int_equal(word_of(&layout, "stream"), 7);
	layout_of("cuLaunchKernel", 0, &layout);
	assert_int_equal(layout.stack, 5);
	assert_int_equal(word_of(&layout, "hStream"), 8);
	layout_of("cudaLaunchKernelExC", 13, &layout);
	assert_int_equal(layout.block_words, 5);
	assert_int_equal(layout.block_slot, 0);
	layout_of("cudaMemcpy3D", 13, &layout);
	assert_int_equal(layout.block_offset, 128);
}

/* Of a struct that is too large, the first words; and what is made of them. */
static void test_unique_id(void **state)
{
	uint64_t words[8] = {0x0280028002800280ull, 1, 2};
	char text[MODEL_NCCL_ID_BYTES], other[MODEL_NCCL_ID_BYTES];
	struct pt_cuda_layout layout;

	layout_of("ncclCommInitRank", 0, &layout);
	assert_int_equal(pt_cuda_in_words(&layout), 3 + PT_CUDA_STACK_MAX);
	assert_int_equal(word_of(&layout, "commId"), layout.regs);
	assert_int_equal(pt_cuda_arg_find(&layout, "commId")->words, PT_CUDA_STACK_MAX);
	assert_false(model_nccl_id(words, 8, text)); /* by NCCL_COMM_ID */
	words[0] = 0;
	assert_false(model_nccl_id(words, 8, text));
	words[0] = 5;
	assert_true(model_nccl_id(words, 8, text));
	assert_int_equal(strlen(text), 16);
	words[7] = 1;
	assert_true(model_nccl_id(words, 8, other));
	assert_string_not_equal(text, other);
}

static void test_given_back(void **state)
{
	struct pt_cuda_layout layout;

	layout_of("cudaMalloc", 13, &layout);
	assert_int_equal(layout.out_count, 1);
	assert_int_equal(layout.out_slot[0], 0);
	assert_true(layout.out_wide[0]);
	layout_of("cudaGetDevice", 12, &layout);
	assert_false(layout.out_wide[0]);
}

static void test_places(void **state)
{
	static const struct pt_cuda_row spill = {
	    PT_CUDA_RUNTIME, 0, 0, "x", "", "a:p b:p c:p d:p e:p grid:d f:p g:u"};
	static const struct pt_cuda_row big = {PT_CUDA_RUNTIME, 0, 0, "x", "", "a:s32 b:i c:f d:i"};
	static const struct pt_cuda_row bad[] = {{PT_CUDA_RUNTIME, 0, 0, "x", "", "a"},
						 {PT_CUDA_RUNTIME, 0, 0, "x", "", "a:"},
						 {PT_CUDA_RUNTIME, 0, 0, "x", "", ":p"},
						 {PT_CUDA_RUNTIME, 0, 0, "x", "", "a:y"},
						 {PT_CUDA_RUNTIME, 0, 0, "x", "", "a:p,b:p"}};
	struct pt_cuda_layout layout;

	/* one register is left: not enough for the struct, but for what follows */
	assert_int_equal(pt_cuda_layout(&spill, &layout), 0);
	assert_int_equal(word_of(&layout, "f"), 5);
	assert_int_equal(word_of(&layout, "grid"), 6);
	assert_int_equal(word_of(&layout, "g"), 8);
	assert_int_equal(pt_cuda_layout(&big, &layout), 0);
	assert_int_equal(word_of(&layout, "b"), 0);
	assert_int_equal(word_of(&layout, "c"), -1);
	assert_int_equal(word_of(&layout, "d"), 1);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_true(pt_cuda_layout(&bad[i], &layout) < 0);
}

/* The same name, other arguments. */
static void test_majors(void **state)
{
	const struct pt_cuda_row *before = pt_cuda_row_find("cudaMemPrefetchAsync", 12);
	const struct pt_cuda_row *since = pt_cuda_row_find("cudaMemPrefetchAsync", 13);

	assert_non_null(before);
	assert_non_null(since);
	assert_string_equal(before->arguments, "devPtr:p count:b dstDevice:i stream:p");
	assert_ptr_not_equal(before, since);
	assert_string_equal(pt_cuda_row_find("cudaMemPrefetchAsync_v2", 12)->arguments,
			    since->arguments);
	assert_null(pt_cuda_row_find("cudaMemPrefetchAsync_v2", 13));
	assert_ptr_equal(pt_cuda_row_find("cudaMalloc", 11), pt_cuda_row_find("cudaMalloc", 13));
	assert_null(pt_cuda_row_find("cudaNoSuchThing", 13));
	/* three forms, of which one is for any but 11 */
	assert_string_equal(pt_cuda_row_find("cudaGraphInstantiate", 11)->arguments,
			    "pGraphExec:op graph:p pErrorNode:op pLogBuffer:p bufferSize:n");
	assert_string_equal(pt_cuda_row_find("cudaGraphInstantiate", 12)->arguments,
			    "pGraphExec:op graph:p flags:n");
	assert_ptr_equal(pt_cuda_row_find("cudaGraphInstantiate", 12),
			 pt_cuda_row_find("cudaGraphInstantiate", 14));
	assert_string_equal(pt_cuda_row_find("cudaGetDriverEntryPoint", 11)->arguments,
			    "symbol:p funcPtr:op flags:n");
	assert_int_equal(pt_cuda_row_find("cudaGetDriverEntryPoint", 12)->major, 0);
	assert_non_null(pt_cuda_row_find("cudaProfilerInitialize", 11));
	assert_null(pt_cuda_row_find("cudaProfilerInitialize", 12));
	assert_non_null(pt_cuda_row_find("cudaBindTexture", 11));
	/* the same arguments, but another number */
	assert_int_equal(pt_cuda_row_find("cudaEventElapsedTime", 12)->cbid, 139);
	assert_int_equal(pt_cuda_row_find("cudaEventElapsedTime", 13)->cbid, 486);
	assert_non_null(pt_cuda_row_find("cudaThreadSynchronize", 12));
	assert_null(pt_cuda_row_find("cudaThreadSynchronize", 13));
}

static void test_errors(void **state)
{
	assert_string_equal(pt_cuda_error_name(PT_CUDA_RUNTIME, 0), "cudaSuccess");
	assert_string_equal(pt_cuda_error_name(PT_CUDA_RUNTIME, 35), "cudaErrorInsufficientDriver");
	assert_string_equal(pt_cuda_error_name(PT_CUDA_DRIVER, 2), "CUDA_ERROR_OUT_OF_MEMORY");
	assert_null(pt_cuda_error_name(PT_CUDA_DRIVER, -5));
	assert_string_equal(pt_cuda_error_name(PT_CUDA_CUBLAS, 14), "CUBLAS_STATUS_INTERNAL_ERROR");
	assert_string_equal(pt_cuda_error_name(PT_CUDA_CUDNN, 1001),
			    "CUDNN_STATUS_NOT_INITIALIZED");
	assert_null(pt_cuda_error_name(PT_CUDA_TORCH, 0));
	assert_null(pt_cuda_error_name(99, 0));
}

/* ---- the model ---- */

enum { MALLOC = 7, LAUNCH, DRIVER_ALLOC, OTHER, STRING, GEMM, ADD = PT_TORCH_ID_FIRST, MUL };

static void start(struct op_recorder *ops, struct rec_thread *t)
{
	ops_init(ops, NULL);
	*t = rec_thread(10, 10, 1, "main");
	rec_code(&ops->builder, 1, "f", "", "/app/main.py", 1);
	rec_proc(&ops->builder, PT_PROC_ATTACH, 10, 1, 1000, 1, "python3", "python3 main.py", 0);
	rec_cuda_fn(&ops->builder, MALLOC, "cudaMalloc", PT_CUDA_RUNTIME, 13, 2, 1);
	rec_cuda_fn(&ops->builder, LAUNCH, "cudaLaunchKernel", PT_CUDA_RUNTIME, 13, 8, 0);
	rec_cuda_fn(&ops->builder, DRIVER_ALLOC, "cuMemAlloc_v2", PT_CUDA_DRIVER, 0, 2, 1);
	rec_cuda_fn(&ops->builder, STRING, "cudaGetErrorString", PT_CUDA_RUNTIME, 0, 1, 0);
	rec_cuda_fn(&ops->builder, GEMM, "cublasCreate_v2", PT_CUDA_CUBLAS, 0, 1, 1);
	rec_cuda_fn(&ops->builder, ADD, "aten::add.Tensor", PT_CUDA_TORCH, 0, 0, 0);
	rec_cuda_fn(&ops->builder, MUL, "aten::mul", PT_CUDA_TORCH, 0, 0, 0);
	/* another version's: fewer words than the table asks for */
	rec_cuda_fn(&ops->builder, OTHER, "cudaMemcpy", PT_CUDA_RUNTIME, 13, 1, 0);
}

static void call(struct op_recorder *ops, unsigned int fn, unsigned int level, uint64_t ns)
{
	const uint64_t words[] = {0x7ffd0001, 4096};

	batch_cuda(&ops->builder, PT_X_CUDA_BEGIN, PT_CUDA_DESC(fn, level, 0), words, 2, ns);
}

static void back(struct op_recorder *ops, unsigned int fn, unsigned int level, int code,
		 uint64_t ns)
{
	const uint64_t out[] = {0x700000000001}; /* low bits as those of an enter */

	batch_cuda(&ops->builder, PT_X_CUDA_END, PT_CUDA_DESC(fn, level, code), out, 1, ns);
}

static void finish(struct op_recorder *ops)
{
	const char *wrong = ops_finish(ops);

	if (wrong)
		fail_msg("%s", wrong);
	assert_int_equal(ops->totals.bad_records, 0);
}

static void assert_call(const struct op_recorder *ops, size_t i, const char *name,
			const char *category, const char *args)
{
	if (i >= ops->span_count)
		fail_msg("only %zu calls", ops->span_count);
	assert_string_equal(ops->spans[i].name, name);
	assert_string_equal(ops->spans[i].op.category, category);
	if (!strstr(ops->spans[i].args, args))
		fail_msg("'%s' has no '%s'", ops->spans[i].args, args);
}

static void test_calls(void **state)
{
	const uint64_t launch[] = {0x1234, 3 | 4ull << 32, 5, 32 | 2ull << 32, 1, 0x99, 77, 0x123};
	struct op_recorder ops;
	struct rec_thread t;

	start(&ops, &t);
	batch_begin(&ops.builder, &t, 2000);
	batch_enter(&ops.builder, 1, 2000);
	call(&ops, MALLOC, 0, 2100);
	call(&ops, DRIVER_ALLOC, 1, 2110);
	back(&ops, DRIVER_ALLOC, 1, 0, 2120);
	back(&ops, MALLOC, 0, 0, 2130);
	call(&ops, MALLOC, 0, 2200);
	back(&ops, MALLOC, 0, 2, 2210);
	batch_cuda(&ops.builder, PT_X_CUDA_BEGIN, PT_CUDA_DESC(LAUNCH, 0, 0), launch, 8, 2300);
	batch_cuda(&ops.builder, PT_X_CUDA_END, PT_CUDA_DESC(LAUNCH, 0, 7777), NULL, 0, 2310);
	call(&ops, OTHER, 0, 2400);
	back(&ops, OTHER, 0, 0, 2410);
	batch_exit(&ops.builder, 2500);
	batch_end(&ops.builder, 0);
	finish(&ops);
	assert_int_equal(ops.span_count, 5);
	assert_call(&ops, 0, "cuMemAlloc_v2", "cuda_driver", "dptr=0x700000000001");
	assert_call(&ops, 1, "cudaMalloc", "cuda_runtime", "size (bytes)=4096");
	assert_call(&ops, 1, "cudaMalloc", "cuda_runtime", "return=cudaSuccess");
	assert_call(&ops, 1, "cudaMalloc", "cuda_runtime", "correlation=1");
	/* a failed call gives nothing back */
	assert_call(&ops, 2, "cudaMalloc", "cuda_runtime", "return=cudaErrorMemoryAllocation");
	assert_null(strstr(ops.spans[2].args, "devPtr"));
	assert_call(&ops, 3, "cudaLaunchKernel", "cuda_runtime", "gridDim=3,4,5");
	assert_call(&ops, 3, "cudaLaunchKernel", "cuda_runtime", "return=cudaError_t 7777");
	assert_call(&ops, 4, "cudaMemcpy", "cuda_runtime", "return=cudaSuccess");
	assert_null(strstr(ops.spans[4].args, "dst"));
	assert_int_equal(ops.instant_count, 2);
	assert_string_equal(ops.instants[0].name, "cudaErrorMemoryAllocation");
	assert_string_equal(ops.instants[1].name, "CUDA error");
	assert_int_equal(ops_count(&ops, "f"), 1);
	ops_release(&ops);
}

/* A library above, with a call of the runtime in it; and a function that returns no code. */
static void test_libs(void **state)
{
	const uint64_t handle = 0x7ffd0001, error = 35;
	struct op_recorder ops;
	struct rec_thread t;

	start(&ops, &t);
	batch_begin(&ops.builder, &t, 2000);
	batch_cuda(&ops.builder, PT_X_CUDA_BEGIN, PT_CUDA_DESC(GEMM, 0, 0), &handle, 1, 2100);
	call(&ops, MALLOC, 1, 2110);
	back(&ops, MALLOC, 1, 0, 2120);
	back(&ops, GEMM, 0, 1, 2130);
	batch_cuda(&ops.builder, PT_X_CUDA_BEGIN, PT_CUDA_DESC(STRING, 0, 0), &error, 1, 2200);
	batch_cuda(&ops.builder, PT_X_CUDA_END, PT_CUDA_DESC(STRING, 0, 0x12345678), NULL, 0, 2210);
	batch_end(&ops.builder, 0);
	finish(&ops);
	assert_int_equal(ops.span_count, 3);
	assert_call(&ops, 0, "cudaMalloc", "cuda_runtime", "return=cudaSuccess");
	assert_call(&ops, 1, "cublasCreate_v2", "cublas", "return=CUBLAS_STATUS_NOT_INITIALIZED");
	assert_null(strstr(ops.spans[1].args, "handle"));
	assert_call(&ops, 2, "cudaGetErrorString", "cuda_runtime",
		    "error=cudaErrorInsufficientDriver");
	assert_null(strstr(ops.spans[2].args, "return"));
	assert_int_equal(ops.instant_count, 1);
	assert_string_equal(ops.instants[0].name, "CUBLAS_STATUS_NOT_INITIALIZED");
	ops_release(&ops);
}

/* An end that did not come, one whose call was not seen, one of another call. */
static void test_unpaired(void **state)
{
	struct op_recorder ops;
	struct rec_thread t;

	start(&ops, &t);
	batch_begin(&ops.builder, &t, 2000);
	batch_enter(&ops.builder, 1, 2000);
	back(&ops, MALLOC, 0, 0, 2010);
	call(&ops, MALLOC, 0, 2100);
	call(&ops, DRIVER_ALLOC, 1, 2110);
	back(&ops, DRIVER_ALLOC, 0, 0, 2120); /* of another level */
	back(&ops, MALLOC, 0, 0, 2130);
	call(&ops, MALLOC, 0, 2200);
	batch_exit(&ops.builder, 2300);
	batch_end(&ops.builder, 0);
	finish(&ops);
	assert_int_equal(ops.span_count, 3);
	assert_int_equal(ops.spans[0].op.flags, PT_SLICE_INTO_LOSS);
	assert_null(strstr(ops.spans[0].args, "return"));
	assert_int_equal(ops.spans[1].op.flags, 0);
	assert_null(strstr(ops.spans[2].args, "return"));
	ops_release(&ops);
}

static void op_begin(struct op_recorder *ops, unsigned int fn, unsigned int level, uint64_t ns)
{
	batch_cuda(&ops->builder, PT_X_CUDA_BEGIN, PT_CUDA_DESC(fn, level, 0), NULL, 0, ns);
}

static void op_end(struct op_recorder *ops, unsigned int fn, unsigned int level, uint64_t ns)
{
	batch_cuda(&ops->builder, PT_X_CUDA_END, PT_CUDA_DESC(fn, level, 0), NULL, 0, ns);
}

/* PyTorch's operators: each has an id, which calls of CUDA within have as well. */
static void test_operators(void **state)
{
	struct op_recorder ops;
	struct rec_thread t;

	start(&ops, &t);
	batch_begin(&ops.builder, &t, 2000);
	batch_enter(&ops.builder, 1, 2000);
	op_begin(&ops, ADD, 0, 2010);
	op_begin(&ops, MUL, 1, 2020);
	call(&ops, MALLOC, 0, 2030);
	back(&ops, MALLOC, 0, 0, 2040);
	op_end(&ops, MUL, 1, 2050);
	op_end(&ops, ADD, 0, 2060);
	call(&ops, MALLOC, 0, 2070);
	back(&ops, MALLOC, 0, 0, 2080);
	batch_exit(&ops.builder, 2100);
	batch_end(&ops.builder, 0);
	finish(&ops);
	assert_int_equal(ops.span_count, 4);
	assert_call(&ops, 0, "cudaMalloc", "cuda_runtime", "External id=2");
	assert_call(&ops, 0, "cudaMalloc", "cuda_runtime", "correlation=3");
	assert_call(&ops, 1, "aten::mul", "cpu_op", "External id=2");
	assert_null(strstr(ops.spans[1].args, "return"));
	assert_null(strstr(ops.spans[1].args, "correlation"));
	assert_null(strstr(ops.spans[1].args, "overload"));
	assert_call(&ops, 2, "aten::add", "cpu_op", "overload=Tensor");
	assert_int_equal(ops.spans[2].op.flags, 0);
	assert_call(&ops, 3, "cudaMalloc", "cuda_runtime", "External id=4");
	ops_release(&ops);
}

/* An exception left two operators without any notice; the next begins at the level of the outer
 * one. A call of CUDA that is open has levels of its own. */
static void test_operators_left(void **state)
{
	struct op_recorder ops;
	struct rec_thread t;

	start(&ops, &t);
	batch_begin(&ops.builder, &t, 2000);
	batch_enter(&ops.builder, 1, 2000);
	call(&ops, MALLOC, 0, 2005);
	op_begin(&ops, ADD, 0, 2010);
	op_begin(&ops, ADD, 1, 2020);
	op_begin(&ops, MUL, 2, 2030);
	op_begin(&ops, MUL, 1, 2040);
	op_end(&ops, MUL, 1, 2050);
	op_end(&ops, ADD, 0, 2060);
	back(&ops, MALLOC, 0, 0, 2070);
	batch_exit(&ops.builder, 2100);
	batch_end(&ops.builder, 0);
	finish(&ops);
	assert_int_equal(ops.span_count, 5);
	assert_int_equal(ops.spans[0].op.flags, PT_SLICE_INTO_LOSS);
	assert_int_equal(ops.spans[0].op.end_ns, 2040);
	assert_int_equal(ops.spans[1].op.flags, PT_SLICE_INTO_LOSS);
	assert_int_equal(ops.spans[2].op.flags, 0);
	/* no two boundaries of a track are equal */
	assert_int_equal(ops.spans[2].op.begin_ns, 2042);
	assert_int_equal(ops.spans[3].op.end_ns, 2060);
	assert_call(&ops, 4, "cudaMalloc", "cuda_runtime", "return=cudaSuccess");
	ops_release(&ops);
}

/* A number of an operator with the name of a CUDA function, and the other way round. */
static void test_operators_bad(void **state)
{
	static const struct {
		uint32_t id;
		unsigned int api;
	} bad[] = {{ADD, PT_CUDA_RUNTIME}, {MALLOC, PT_CUDA_TORCH}, {PT_CUDA_FN_MAX + 1, 8}};
	struct op_recorder ops;
	struct rec_thread t;

	start(&ops, &t);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		rec_cuda_fn(&ops.builder, bad[i].id, "x", bad[i].api, 0, 0, 0);
	assert_null(ops_finish(&ops));
	assert_int_equal(ops.totals.bad_records, 3);
	ops_release(&ops);
}

/* A thread that calls no Python function: its calls come at its end, or once they are many. */
static void test_native_thread(void **state)
{
	struct op_recorder ops;
	struct rec_thread t, native = rec_thread(10, 11, 1, "worker");

	start(&ops, &t);
	for (unsigned int i = 0; i < 30; i++) {
		batch_begin(&ops.builder, &native, 3000 + 1000 * i);
		for (unsigned int k = 0; k < 20; k++) {
			call(&ops, MALLOC, 0, 3000 + 1000 * i + 20 * k);
			back(&ops, MALLOC, 0, 0, 3010 + 1000 * i + 20 * k);
		}
		batch_end(&ops.builder, 0);
	}
	assert_true(ops.span_count >= 64);
	finish(&ops);
	assert_int_equal(ops.totals.spans, 600);
	ops_release(&ops);
}

static void test_late(void **state)
{
	struct op_recorder ops;
	struct rec_thread t;

	start(&ops, &t);
	batch_begin(&ops.builder, &t, 2000);
	batch_enter(&ops.builder, 1, 2000);
	batch_end(&ops.builder, 0);
	rec_cuda_lib(&ops.builder, 10, "/x/libcudart.so.13", 2500);
	finish(&ops);
	assert_int_equal(ops.instant_count, 1);
	ops_release(&ops);
}

static void launch(struct op_recorder *ops, uint64_t kernel, uint64_t ns)
{
	const uint64_t words[] = {kernel, 1, 1, 1, 1, 0, 0, 0};

	batch_cuda(&ops->builder, PT_X_CUDA_BEGIN, PT_CUDA_DESC(LAUNCH, 0, 0), words, 8, ns);
	batch_cuda(&ops->builder, PT_X_CUDA_END, PT_CUDA_DESC(LAUNCH, 0, 0), NULL, 0, ns + 5);
}

/* Each is shown by the best that is known of it, and those without a name are counted. */
static void test_kernel_names(void **state)
{
	static const char *const shown[] = {
	    "kernel=deep::scale(float*, int) ",
	    "kernel=plain ",
	    "kernel=_Z ",
	    "kernel=plain (or 2 more, merged by the linker) ",
	    "kernel=kernel 0x5123 (libk.so+0x123) ",
	    "kernel=kernel 0x6000 ",
	    "kernel=kernel 0x7000 ",
	    "kernel=bad\xef\xbf\xbd ",
	};
	struct op_recorder ops;
	struct rec_thread t;

	start(&ops, &t);
	rec_cuda_kernel(&ops.builder, 10, 1, 0x1000, "_ZN4deep5scaleEPfi", 1, "/x/libk.so", 1500);
	rec_cuda_kernel(&ops.builder, 10, 1, 0x2000, "plain", 1, "", 1500);
	rec_cuda_kernel(&ops.builder, 10, 1, 0x3000, "_Z", 1, "", 1500);
	rec_cuda_kernel(&ops.builder, 10, 1, 0x4000, "plain", 3, "/x/libk.so", 1500);
	rec_cuda_kernel(&ops.builder, 10, 1, 0x5123, "", 0, "/x/libk.so", 1500);
	rec_cuda_kernel(&ops.builder, 10, 1, 0x6000, "", 0, "", 1500);
	rec_cuda_kernel(&ops.builder, 10, 2, 0x7000, "of another image", 1, "", 1500);
	rec_cuda_kernel(&ops.builder, 11, 1, 0x7000, "of another process", 1, "", 1500);
	rec_cuda_kernel(&ops.builder, 10, 1, 0x8000, "bad\xff", 1, "", 1500);
	batch_begin(&ops.builder, &t, 2000);
	batch_enter(&ops.builder, 1, 2000);
	for (unsigned int i = 0; i < 8; i++)
		launch(&ops, i == 4 ? 0x5123 : 0x1000 * (i + 1), 2100 + 100 * i);
	batch_exit(&ops.builder, 3500);
	batch_end(&ops.builder, 0);
	finish(&ops);
	assert_int_equal(ops.span_count, 8);
	for (unsigned int i = 0; i < 8; i++)
		assert_call(&ops, i, "cudaLaunchKernel", "cuda_runtime", shown[i]);
	assert_int_equal(ops.totals.unnamed_kernels, 3);
	ops_release(&ops);
}

/* The library is gone and another lies where it was: a call has the name of its time. */
static void test_kernel_replaced(void **state)
{
	struct op_recorder ops;
	struct rec_thread t;

	start(&ops, &t);
	rec_cuda_kernel(&ops.builder, 10, 1, 0x1000, "first", 1, "", 2000);
	rec_cuda_kernel(&ops.builder, 10, 1, 0x1000, "second", 1, "", 3000);
	batch_begin(&ops.builder, &t, 1900);
	batch_enter(&ops.builder, 1, 1900);
	launch(&ops, 0x1000, 1950);
	launch(&ops, 0x1000, 2500);
	launch(&ops, 0x1000, 3000);
	batch_exit(&ops.builder, 3500);
	batch_end(&ops.builder, 0);
	finish(&ops);
	assert_call(&ops, 0, "cudaLaunchKernel", "cuda_runtime", "kernel=first ");
	assert_call(&ops, 1, "cudaLaunchKernel", "cuda_runtime", "kernel=first ");
	assert_call(&ops, 2, "cudaLaunchKernel", "cuda_runtime", "kernel=second ");
	assert_int_equal(ops.totals.unnamed_kernels, 0);
	ops_release(&ops);
}

/* The driver gives handles again, and takes them back: a name holds from then on, not before. */
static void test_kernel_loaded(void **state)
{
	static const char *const shown[] = {"kernel=kernel 0x1000 ", "kernel=one(int*) ",
					    "kernel=two ", "kernel=kernel 0x1000 (libk.so+0x0) "};
	struct op_recorder ops;
	struct rec_thread t;

	start(&ops, &t);
	ops.builder.kernel_flags = PT_RF_KERNEL_LOADED;
	rec_cuda_kernel(&ops.builder, 10, 1, 0x1000, "", 0, "", 1500);
	rec_cuda_kernel(&ops.builder, 10, 1, 0x1000, "_Z3onePi", 1, "", 2000);
	rec_cuda_kernel(&ops.builder, 10, 1, 0x1000, "two", 1, "", 3000);
	rec_cuda_kernel(&ops.builder, 10, 1, 0x1000, "", 0, "", 4000);
	rec_cuda_kernel(&ops.builder, 10, 1, 0x1000, "", 0, "", 4001);
	ops.builder.kernel_flags = 0; /* seen in a batch that began long ago */
	rec_cuda_kernel(&ops.builder, 10, 1, 0x1000, "", 0, "/x/libk.so", 1900);
	batch_begin(&ops.builder, &t, 1900);
	batch_enter(&ops.builder, 1, 1900);
	launch(&ops, 0x1000, 1950);
	launch(&ops, 0x1000, 2500);
	launch(&ops, 0x1000, 3000);
	launch(&ops, 0x1000, 4500);
	batch_exit(&ops.builder, 4600);
	batch_end(&ops.builder, 0);
	finish(&ops);
	for (unsigned int i = 0; i < 4; i++)
		assert_call(&ops, i, "cudaLaunchKernel", "cuda_runtime", shown[i]);
	assert_int_equal(ops.totals.unnamed_kernels, 2);
	ops_release(&ops);
}

#define COMM_INIT    20
#define ALL_GATHER   21
#define COMM_DESTROY 22

static void nccl_call(struct op_recorder *ops, unsigned int fn, const uint64_t *words,
		      uint32_t count, int code, uint64_t out, uint64_t ns)
{
	batch_cuda(&ops->builder, PT_X_CUDA_BEGIN, PT_CUDA_DESC(fn, 0, 0), words, count, ns);
	batch_cuda(&ops->builder, PT_X_CUDA_END, PT_CUDA_DESC(fn, 0, code), &out, fn == COMM_INIT,
		   ns + 5);
}

/* What goes in and out needs the communicator's size, as its making says, until it is destroyed. */
static void test_nccl(void **state)
{
	static const uint64_t init[11] = {0x7ff0, 4, 2};
	static const uint64_t gather[6] = {0x10, 0x20, 100, 7, 0xc0, 0}, destroy[1] = {0xc0};
	static const uint64_t huge[6] = {0x10, 0x20, UINT64_MAX / 4, 99, 0xc0, 0};
	struct op_recorder ops;
	struct rec_thread t;

	start(&ops, &t);
	rec_cuda_fn(&ops.builder, COMM_INIT, "ncclCommInitRank", PT_CUDA_NCCL, 0, 11, 1);
	rec_cuda_fn(&ops.builder, ALL_GATHER, "ncclAllGather", PT_CUDA_NCCL, 0, 6, 0);
	rec_cuda_fn(&ops.builder, COMM_DESTROY, "ncclCommDestroy", PT_CUDA_NCCL, 0, 1, 0);
	batch_begin(&ops.builder, &t, 1900);
	batch_enter(&ops.builder, 1, 1900);
	nccl_call(&ops, COMM_INIT, init, 11, 1, 0xc0, 2000); /* fails */
	nccl_call(&ops, ALL_GATHER, gather, 6, 0, 0, 2100);
	nccl_call(&ops, COMM_INIT, init, 11, 7, 0xc0, 2200); /* in progress */
	nccl_call(&ops, ALL_GATHER, gather, 6, 0, 0, 2300);
	nccl_call(&ops, ALL_GATHER, huge, 6, 0, 0, 2400);
	nccl_call(&ops, COMM_DESTROY, destroy, 1, 0, 0, 2500);
	nccl_call(&ops, ALL_GATHER, gather, 6, 0, 0, 2600);
	batch_exit(&ops.builder, 2700);
	batch_end(&ops.builder, 0);
	finish(&ops);
	assert_int_equal(ops.span_count, 7);
	assert_call(&ops, 0, "ncclCommInitRank", "nccl", "return=ncclUnhandledCudaError");
	assert_call(&ops, 1, "ncclAllGather", "nccl", "In msg (bytes)=400 dtype=Float return=");
	assert_call(&ops, 2, "ncclCommInitRank", "nccl", "comm=0xc0 nranks=4 rank=2 ");
	assert_call(&ops, 3, "ncclAllGather", "nccl",
		    "Collective name=allgather In msg nelems=100 In msg (bytes)=400 "
		    "Out msg nelems=400 Out msg (bytes)=1600 dtype=Float Group size=4 Rank=2 ");
	assert_call(&ops, 4, "ncclAllGather", "nccl", "datatype=99 ");
	assert_call(&ops, 6, "ncclAllGather", "nccl", "In msg (bytes)=400 dtype=Float return=");
	assert_int_equal(ops.instant_count, 1);
	ops_release(&ops);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_every_row),
	    cmocka_unit_test(test_launch),
	    cmocka_unit_test(test_given_back),
	    cmocka_unit_test(test_unique_id),
	    cmocka_unit_test(test_places),
	    cmocka_unit_test(test_majors),
	    cmocka_unit_test(test_errors),
	    cmocka_unit_test(test_calls),
	    cmocka_unit_test(test_libs),
	    cmocka_unit_test(test_unpaired),
	    cmocka_unit_test(test_operators),
	    cmocka_unit_test(test_operators_left),
	    cmocka_unit_test(test_operators_bad),
	    cmocka_unit_test(test_native_thread),
	    cmocka_unit_test(test_late),
	    cmocka_unit_test(test_kernel_names),
	    cmocka_unit_test(test_kernel_replaced),
	    cmocka_unit_test(test_kernel_loaded),
	    cmocka_unit_test(test_nccl),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
