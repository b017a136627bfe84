// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/* What CUDA calls do to memory, and what the model makes of it: order, ownership, counts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cuda/memory.h"
#include "op_recorder.h"

/* ---- calls ---- */

static void read_words(const char *symbol, const uint64_t *in, const uint64_t *out,
		       struct pt_cuda_memory *memory)
{
	const struct pt_cuda_memory_call *call = pt_cuda_memory_find(symbol);
	const struct pt_cuda_row *row = pt_cuda_row_find(symbol, 13);
	struct pt_cuda_layout layout;

	if (!call || !row || pt_cuda_layout(row, &layout))
		fail_msg("%s", symbol);
	else if (!pt_cuda_memory_read(call, &layout, in, out, memory))
		fail_msg("%s cannot be read", symbol);
}

/* Each function of the table that has to do with memory can be read, with whatever arguments. */
static void test_every_call(void **state)
{
	const uint64_t words[PT_CUDA_IN_MAX] = {0};
	size_t found = 0;

	for (size_t i = 0; i < pt_cuda_row_count; i++) {
		const char *symbol = pt_cuda_rows[i].symbol;
		struct pt_cuda_memory memory;

		if (!pt_cuda_memory_find(symbol))
			continue;
		found++;
		read_words(symbol, words, words, &memory);
	}
	/* 65 names; forms of stream and version besides */
	assert_in_range(found, 65, 200);
	assert_null(pt_cuda_memory_find("cudaMemcpy"));
	assert_null(pt_cuda_memory_find("cuMemAlloc")); /* addresses of 32 bits */
	assert_non_null(pt_cuda_memory_find("cuMemAlloc_v2"));
	assert_non_null(pt_cuda_memory_find("cuMemFreeAsync_ptsz"));
}

static void test_sizes(void **state)
{
	const uint64_t out[] = {0x1000, 512};
	const uint64_t pitch[] = {1, 2, 300, 7};
	const uint64_t cube[] = {1, 300, 7, 2}; /* the extent lies on the stack */
	/* array, desc, flags; extent; float4 */
	const uint64_t array[] = {1, 2, 0, 8, 4, 3, 32 | 32ull << 32, 32 | 32ull << 32, 2};
	const uint64_t mipmap[] = {1, 2, 3, 0, 8, 4, 1, 8, 0, 1};
	const uint64_t driver[] = {1, 2, 10, 5, 0x20 | 2ull << 32};
	const uint64_t create[] = {1, 1 << 21, 3, 0, 1, 1 | 2ull << 32};
	struct pt_cuda_memory memory;

	read_words("cudaMallocPitch", pitch, out, &memory);
	assert_int_equal(memory.bytes, 512 * 7);
	assert_false(memory.at_least);
	read_words("cudaMalloc3D", cube, out, &memory);
	assert_int_equal(memory.address, 0x1000);
	assert_int_equal(memory.bytes, 300 * 7 * 2);
	assert_true(memory.at_least);
	read_words("cudaMalloc3DArray", array, out, &memory);
	assert_int_equal(memory.bytes, 16 * 8 * 4 * 3);
	/* three levels of a plane of bytes: 8 x 4, 4 x 2, 2 x 1 */
	read_words("cudaMallocMipmappedArray", mipmap, out, &memory);
	assert_int_equal(memory.bytes, 32 + 8 + 2);
	read_words("cuArrayCreate_v2", driver, out, &memory);
	assert_int_equal(memory.bytes, 10 * 5 * 8);
	read_words("cuMemCreate", create, out, &memory);
	assert_int_equal(memory.device, 2);
	assert_int_equal(memory.space, PT_CUDA_SPACE_PHYSICAL);
}

/* ---- the model ---- */

enum { MALLOC = 1, FREE, SET_DEVICE, RESET, PINNED, CREATE, RELEASE, MAP, UNMAP, RETAIN };

struct world {
	struct op_recorder ops;
	struct rec_thread a, b;
};

static void start(struct world *w)
{
	const struct pt_model_options options = {.memory = true};
	struct rec_builder *builder = &w->ops.builder;

	ops_init(&w->ops, &options);
	ops_define(&w->ops);
	w->a = rec_thread(10, 10, 1, "main");
	w->b = rec_thread(10, 11, 1, "other");
	rec_proc(builder, PT_PROC_ATTACH, 10, 1, 1000, 1, "python3", "python3 main.py", 0);
	rec_cuda_fn(builder, MALLOC, "cudaMalloc", PT_CUDA_RUNTIME, 13, 2, 1);
	rec_cuda_fn(builder, FREE, "cudaFree", PT_CUDA_RUNTIME, 13, 1, 0);
	rec_cuda_fn(builder, SET_DEVICE, "cudaSetDevice", PT_CUDA_RUNTIME, 13, 1, 0);
	rec_cuda_fn(builder, RESET, "cudaDeviceReset", PT_CUDA_RUNTIME, 13, 0, 0);
	rec_cuda_fn(builder, PINNED, "cudaMallocHost", PT_CUDA_RUNTIME, 13, 2, 1);
	rec_cuda_fn(builder, CREATE, "cuMemCreate", PT_CUDA_DRIVER, 0, 6, 1);
	rec_cuda_fn(builder, RELEASE, "cuMemRelease", PT_CUDA_DRIVER, 0, 1, 0);
	rec_cuda_fn(builder, MAP, "cuMemMap", PT_CUDA_DRIVER, 0, 5, 0);
	rec_cuda_fn(builder, UNMAP, "cuMemUnmap", PT_CUDA_DRIVER, 0, 2, 0);
	rec_cuda_fn(builder, RETAIN, "cuMemRetainAllocationHandle", PT_CUDA_DRIVER, 0, 2, 1);
}

static void call(struct world *w, unsigned int fn, const uint64_t *in, uint32_t count, uint64_t ns)
{
	batch_cuda(&w->ops.builder, PT_X_CUDA_BEGIN, PT_CUDA_DESC(fn, 0, 0), in, count, ns);
}

static void back(struct world *w, unsigned int fn, const uint64_t *out, uint32_t count, int code,
		 uint64_t ns)
{
	batch_cuda(&w->ops.builder, PT_X_CUDA_END, PT_CUDA_DESC(fn, 0, code), out, count, ns);
}

static void whole(struct world *w, unsigned int fn, const uint64_t *in, uint32_t count, int code,
		  uint64_t ns)
{
	call(w, fn, in, count, ns);
	back(w, fn, NULL, 0, code, ns + 5);
}

/* Each takes 10 ns. */
static void allocate(struct world *w, uint64_t address, uint64_t bytes, int code, uint64_t ns)
{
	const uint64_t in[] = {0x7ffd0001, bytes};

	call(w, MALLOC, in, 2, ns);
	back(w, MALLOC, &address, 1, code, ns + 10);
}

static void release(struct world *w, uint64_t address, int code, uint64_t ns)
{
	call(w, FREE, &address, 1, ns);
	back(w, FREE, NULL, 0, code, ns + 10);
}

static void finish(struct world *w)
{
	const char *wrong = ops_finish(&w->ops);

	if (wrong)
		fail_msg("%s", wrong);
	assert_int_equal(w->ops.totals.bad_records, 0);
}

static const char *args_of(const struct world *w, const char *name, size_t n)
{
	for (size_t i = 0; i < w->ops.instant_count; i++)
		if (!strcmp(w->ops.instants[i].name, name) && n-- == 0)
			return w->ops.instants[i].args;
	return NULL;
}

static void assert_args(const struct world *w, const char *name, size_t n, const char *text)
{
	const char *args = args_of(w, name, n);

	if (!args || !strstr(args, text))
		fail_msg("%s: '%s' has no '%s'", name, args ? args : "(none)", text);
}

static void begin_in(struct world *w, struct rec_thread *t, uint32_t code, uint64_t ns)
{
	batch_begin(&w->ops.builder, t, ns);
	batch_enter(&w->ops.builder, code, ns);
}

static void end_in(struct world *w, uint64_t ns)
{
	batch_exit(&w->ops.builder, ns);
	batch_end(&w->ops.builder, 0);
}

static void test_left(void **state)
{
	const uint64_t device = 2;
	struct world w;

	start(&w);
	begin_in(&w, &w.a, 1, 2000);
	allocate(&w, 0x1000, 100, 0, 2010);
	batch_enter(&w.ops.builder, 2, 2030);
	whole(&w, SET_DEVICE, &device, 1, 0, 2040);
	allocate(&w, 0x2000, 200, 0, 2100);
	allocate(&w, 0x3000, 200, 0, 2200);
	allocate(&w, 0x4000, 400, 2, 2300);
	release(&w, 0x1000, 0, 2400);
	batch_exit(&w.ops.builder, 2500);
	end_in(&w, 2600);
	finish(&w);
	assert_args(&w, "memory calls", 0,
		    "allocations=3 frees=1 failed allocations=1 failed frees=0");
	assert_args(&w, "memory in use", 0,
		    "kind=device device=-1 bytes=0 allocations=0 most bytes=100");
	assert_args(&w, "memory in use", 1, "device=2 bytes=400 allocations=2");
	assert_args(&w, "still allocated", 0,
		    "bytes=400 allocations=2 kind=device device=2 at least=0 "
		    "stack=/app/main.py(2): b\n/app/main.py(1): a");
	assert_null(args_of(&w, "still allocated", 1));
	assert_int_equal(w.ops.counter_count, 4);
	assert_string_equal(w.ops.counter_name, "CUDA memory: device ?, device");
	assert_true(w.ops.counter_value == 0);
	/* three allocations, a free, two that are left */
	assert_int_equal(w.ops.memory_count, 6);
	assert_int_equal(w.ops.memory[0].action, PT_MEMORY_ALLOC);
	assert_string_equal(w.ops.memory[0].stack->function->name, "a");
	assert_int_equal(w.ops.memory[3].action, PT_MEMORY_FREE);
	assert_int_equal(w.ops.memory[3].address, 0x1000);
	assert_int_equal(w.ops.memory[5].action, PT_MEMORY_LIVE);
	ops_release(&w.ops);
}

/* Stacks that were recorded at the calls: with lines and native frames, whatever frames are open.
 * Each distinct one is there once, and one that says nothing of Python gives way. */
static void test_recorded_stacks(void **state)
{
	const char *text = "outer/lib/deep.so";
	const struct pt_call_frame frames[] = {
	    {.kind = PT_CF_NATIVE, .where = 5, .name_bytes = 5, .path_bytes = 12},
	    {.kind = PT_CF_PYTHON, .code_id = 3, .where = PT_CF_NO_PLACE},
	    {.kind = PT_CF_PYTHON_MORE},
	};
	const struct pt_call_frame nothing = {.kind = PT_CF_NATIVE_UNKNOWN};
	struct rec_builder *builder;
	struct world w;

	start(&w);
	builder = &w.ops.builder;
	rec_call_stack(builder, &w.a, 1, 1, frames, 3, text, 2000);
	rec_call_stack(builder, &w.a, 2, 2, frames, 3, text, 2001);
	rec_call_stack(builder, &w.a, 3, 3, &nothing, 1, "", 2002);
	begin_in(&w, &w.a, 1, 2005);
	batch_stack(builder, 1, 2010);
	allocate(&w, 0x1000, 100, 0, 2010);
	batch_stack(builder, 2, 2030);
	allocate(&w, 0x2000, 20, 0, 2030);
	batch_stack(builder, 3, 2050);
	allocate(&w, 0x3000, 7, 0, 2050);
	allocate(&w, 0x4000, 7, 0, 2070);
	end_in(&w, 2600);
	finish(&w);
	assert_args(&w, "still allocated", 0,
		    "bytes=120 allocations=2 kind=device device=-1 at least=0 stack="
		    "outer (deep.so)\n/app/main.py(3): c\n[Python frames that are not known]");
	assert_args(
	    &w, "still allocated", 1,
	    "bytes=14 allocations=2 kind=device device=-1 at least=0 stack=/app/main.py(1): a");
	assert_null(args_of(&w, "still allocated", 2));
	assert_int_equal(w.ops.memory[0].stack->kind, PT_STACK_NATIVE);
	assert_ptr_equal(w.ops.memory[0].stack, w.ops.memory[1].stack);
	ops_release(&w.ops);
}

/* What PyTorch's allocators give out, in CUDA's memory and in the host's; a stack before it is its
 * own, and not that of the call which follows. A reset leaves them be. */
static void test_blocks(void **state)
{
	const uint64_t device = PT_BLOCK_DESC(PT_BLOCK_DEVICE, 3);
	const uint64_t made = PT_BLOCK_DESC(PT_BLOCK_HOST_NEW, 0);
	const uint64_t deleted = PT_BLOCK_DESC(PT_BLOCK_HOST_DELETE, 0);
	const struct pt_call_frame frame = {
	    .kind = PT_CF_PYTHON, .code_id = 3, .where = PT_CF_NO_PLACE};
	const uint64_t three = 3;
	struct rec_builder *builder;
	struct world w;

	start(&w);
	builder = &w.ops.builder;
	rec_call_stack(builder, &w.a, 1, 1, &frame, 1, "", 2000);
	begin_in(&w, &w.a, 1, 2005);
	whole(&w, SET_DEVICE, &three, 1, 0, 2006);
	allocate(&w, 0x1000, 0x1000, 0, 2012);
	batch_stack(builder, 1, 2030);
	batch_block(builder, 0x1000, 512, device, 2030);
	batch_block(builder, 0x1200, 512, device, 2032);
	batch_block(builder, 0x1200, -512, device, 2033);
	batch_block(builder, 0x1200, -512, device, 2034);
	batch_block(builder, 0x1000, 77, made, 2035); /* an address of another kind */
	batch_block(builder, 0x9000, 99, made, 2036);
	batch_block(builder, 0x9000, 0, deleted, 2037);
	batch_block(builder, 0xa000, 0, deleted, 2038);
	batch_block(builder, 0, 0, deleted, 2039);
	allocate(&w, 0x5000, 1, 0, 2040);
	whole(&w, RESET, NULL, 0, 0, 2060);
	end_in(&w, 2600);
	finish(&w);
	assert_args(&w, "memory calls", 0,
		    "allocations=6 frees=2 failed allocations=0 failed frees=0 "
		    "frees of unknown addresses=1 double frees=1 freed by a reset=2");
	assert_args(&w, "memory in use", 0, "kind=device device=3 bytes=0");
	assert_args(&w, "memory in use", 1, "kind=PyTorch block device=3 bytes=512 allocations=1");
	assert_args(&w, "memory in use", 2, "kind=PyTorch host device=-1 bytes=77 allocations=1");
	assert_args(&w, "still allocated", 0,
		    "bytes=512 allocations=1 kind=PyTorch block device=3 at least=0 "
		    "stack=/app/main.py(3): c");
	assert_args(
	    &w, "double free", 0,
	    "function=c10::reportMemoryUsageToProfiler address=0x1200 stack=/app/main.py(1): a");
	assert_null(strstr(args_of(&w, "double free", 0), "return"));
	assert_false(w.ops.memory[0].within);
	assert_true(w.ops.memory[1].within);
	for (size_t i = 0; i < w.ops.span_count; i++)
		assert_int_equal(w.ops.spans[i].op.stack_id, 0);
	ops_release(&w.ops);
}

/* A thread frees what another has allocated, and its batch comes first; and gets the same address
 * before the call that freed it has returned. */
static void test_order(void **state)
{
	const uint64_t address = 0x1000, in[] = {0x7ffd0001, 300};
	struct world w;

	start(&w);
	begin_in(&w, &w.b, 2, 2000);
	release(&w, 0x1000, 0, 3000);
	call(&w, MALLOC, in, 2, 3995);
	back(&w, MALLOC, &address, 1, 0, 4005);
	end_in(&w, 5000);
	assert_int_equal(w.ops.memory_count, 0);
	begin_in(&w, &w.a, 1, 2000);
	allocate(&w, 0x1000, 100, 0, 2500);
	allocate(&w, 0x1000, 200, 0, 3500);
	call(&w, FREE, &address, 1, 4000);
	back(&w, FREE, NULL, 0, 0, 4100);
	end_in(&w, 5000);
	rec_note(&w.ops.builder, PT_NOTE_COMPLETE, 5000, 3001);
	assert_int_equal(w.ops.memory_count, 1);
	rec_note(&w.ops.builder, PT_NOTE_COMPLETE, 6000, 5500);
	assert_int_equal(w.ops.memory_count, 5);
	finish(&w);
	assert_args(&w, "memory calls", 0,
		    "allocations=3 frees=2 failed allocations=0 failed frees=0 frees of unknown "
		    "addresses=0 double frees=0");
	assert_args(&w, "memory calls", 0, "unseen frees=0 calls of unknown outcome=0");
	assert_args(&w, "memory calls", 0, "events out of order=0");
	assert_args(&w, "still allocated", 0, "bytes=300 allocations=1");
	ops_release(&w.ops);
}

/* What comes behind a note that said that all had come. */
static void test_late(void **state)
{
	struct world w;

	start(&w);
	begin_in(&w, &w.a, 1, 2000);
	allocate(&w, 0x1000, 100, 0, 4000);
	end_in(&w, 5000);
	rec_note(&w.ops.builder, PT_NOTE_COMPLETE, 6000, 6000);
	begin_in(&w, &w.b, 1, 2000);
	allocate(&w, 0x2000, 100, 0, 3000);
	end_in(&w, 5000);
	finish(&w);
	assert_args(&w, "memory calls", 0, "events out of order=1");
	ops_release(&w.ops);
}

static void test_wrong_frees(void **state)
{
	struct world w;

	start(&w);
	begin_in(&w, &w.a, 1, 2000);
	allocate(&w, 0x1000, 100, 0, 2100);
	release(&w, 0x1000, 999, 2200); /* fails: it stays */
	release(&w, 0x1000, 0, 2300);
	release(&w, 0x1000, 1, 2400);
	release(&w, 0x1000, 0, 2500); /* cannot be, but it said so */
	release(&w, 0x9000, 0, 2600);
	release(&w, 0x9100, 1, 2700);
	release(&w, 0, 0, 2800);
	allocate(&w, 0x1000, 100, 0, 2900);
	allocate(&w, 0x1000, 70, 0, 3000); /* its free was not seen */
	end_in(&w, 5000);
	finish(&w);
	assert_args(&w, "memory calls", 0,
		    "allocations=3 frees=1 failed allocations=0 failed frees=3 frees of unknown "
		    "addresses=2 double frees=2 freed by a reset=0 unseen frees=1");
	assert_args(&w, "double free", 0, "function=cudaFree address=0x1000");
	assert_args(&w, "double free", 1, "return=cudaSuccess");
	assert_args(&w, "free of an unknown address", 0, "address=0x9000");
	assert_args(&w, "still allocated", 0, "bytes=70 allocations=1");
	ops_release(&w.ops);
}

static void create(struct world *w, uint64_t handle, uint64_t bytes, uint64_t ns)
{
	const uint64_t in[] = {0x7ffd0001, bytes, 0x7ffd0002, 0, 1, 1 | 3ull << 32};

	call(w, CREATE, in, 6, ns);
	back(w, CREATE, &handle, 1, 0, ns + 5);
}

static void map(struct world *w, uint64_t address, uint64_t bytes, uint64_t handle, uint64_t ns)
{
	const uint64_t in[] = {address, bytes, 0, handle, 0};

	whole(w, MAP, in, 5, 0, ns);
}

static void unmap(struct world *w, uint64_t address, uint64_t bytes, uint64_t ns)
{
	const uint64_t in[] = {address, bytes};

	whole(w, UNMAP, in, 2, 0, ns);
}

/* A free that fails, though its address was given out before it said so; one that is cut off. */
static void test_contradiction(void **state)
{
	const uint64_t address = 0x1000, in[] = {0x7ffd0001, 70};
	struct world w;

	start(&w);
	begin_in(&w, &w.a, 1, 2000);
	allocate(&w, 0x1000, 100, 0, 2100);
	call(&w, FREE, &address, 1, 2200);
	back(&w, FREE, NULL, 0, 1, 2400);
	call(&w, FREE, &address, 1, 2500);
	end_in(&w, 2600);
	begin_in(&w, &w.b, 2, 2000);
	call(&w, MALLOC, in, 2, 2210);
	back(&w, MALLOC, &address, 1, 0, 2300);
	end_in(&w, 2600);
	finish(&w);
	assert_args(&w, "memory calls", 0,
		    "allocations=2 frees=1 failed allocations=0 failed frees=1");
	assert_args(&w, "memory calls", 0, "unseen frees=0 calls of unknown outcome=1");
	assert_args(&w, "still allocated", 0, "bytes=70 allocations=1");
	ops_release(&w.ops);
}

/* What a process leaves when it runs another image is told then, and forgotten. */
static void test_exec(void **state)
{
	const uint64_t one = 1;
	struct world w;

	start(&w);
	begin_in(&w, &w.a, 1, 2000);
	allocate(&w, 0x1000, 100, 0, 2100);
	allocate(&w, 0x2000, 100, 0, 2150);
	release(&w, 0x2000, 0, 2200);
	create(&w, 1, 500, 2300);
	map(&w, 0x10000, 0x100, 1, 2400);
	whole(&w, RELEASE, &one, 1, 0, 2500);
	call(&w, FREE, &one, 1, 2600);
	batch_end(&w.ops.builder, 0);
	rec_proc(&w.ops.builder, PT_PROC_EXEC, 10, 2, 3000, 1, "python3", NULL, 0);
	rec_note(&w.ops.builder, PT_NOTE_COMPLETE, 5000, 4000);
	assert_args(&w, "memory calls", 0, "ended=1");
	assert_args(&w, "still allocated", 1, "bytes=500 allocations=1 kind=physical");
	w.a = rec_thread(10, 10, 2, "main");
	begin_in(&w, &w.a, 1, 5000);
	release(&w, 0x1000, 1, 5100); /* the other image's */
	end_in(&w, 6000);
	finish(&w);
	assert_args(&w, "memory calls", 1, "frees of unknown addresses=1");
	assert_args(&w, "memory calls", 1, "ended=0");
	assert_null(args_of(&w, "memory calls", 2));
	assert_null(args_of(&w, "still allocated", 2));
	ops_release(&w.ops);
}

static void test_reset(void **state)
{
	const uint64_t devices[] = {0, 1}, in[] = {0x7ffd0001, 40}, address = 0x5000;
	struct world w;

	start(&w);
	begin_in(&w, &w.a, 1, 2000);
	whole(&w, RESET, NULL, 0, 0, 2010);
	whole(&w, SET_DEVICE, &devices[0], 1, 0, 2020);
	allocate(&w, 0x1000, 100, 0, 2100);
	call(&w, PINNED, in, 2, 2150);
	back(&w, PINNED, &address, 1, 0, 2160);
	whole(&w, SET_DEVICE, &devices[1], 1, 0, 2200);
	allocate(&w, 0x2000, 100, 0, 2300);
	whole(&w, SET_DEVICE, &devices[0], 1, 0, 2400);
	whole(&w, RESET, NULL, 0, 0, 2500);
	release(&w, 0x1000, 1, 2600);
	end_in(&w, 5000);
	finish(&w);
	assert_args(&w, "memory calls", 0, "freed by a reset=2 unseen frees=0");
	assert_args(&w, "memory calls", 0, "resets of unknown extent=1");
	assert_args(&w, "still allocated", 0, "bytes=100 allocations=1 kind=device device=1");
	assert_null(args_of(&w, "still allocated", 1));
	ops_release(&w.ops);
}

/* Calls whose returns do not come: at the end, in a loss. */
static void test_cut(void **state)
{
	const uint64_t address = 0x1000, in[] = {0x7ffd0001, 100};
	struct world w;

	start(&w);
	begin_in(&w, &w.a, 1, 2000);
	allocate(&w, 0x1000, 100, 0, 2100);
	call(&w, FREE, &address, 1, 2200);
	end_in(&w, 2300);
	begin_in(&w, &w.b, 1, 2000);
	call(&w, MALLOC, in, 2, 2100);
	batch_end(&w.ops.builder, 0);
	w.b.seq++;
	w.b.events += 2;
	batch_begin(&w.ops.builder, &w.b, 3000);
	back(&w, MALLOC, &address, 1, 0, 3010); /* of another call, which was lost */
	batch_end(&w.ops.builder, 0);
	finish(&w);
	assert_args(&w, "memory calls", 0, "allocations=1 frees=0");
	assert_args(&w, "memory calls", 0, "calls of unknown outcome=2");
	assert_args(&w, "still allocated", 0, "bytes=100 allocations=1");
	ops_release(&w.ops);
}

static void test_physical(void **state)
{
	const uint64_t one = 1, two = 2, three = 3, retain[] = {0x7ffd0001, 0x10000};
	struct world w;

	start(&w);
	begin_in(&w, &w.a, 1, 2000);
	create(&w, 1, 100, 2010);
	create(&w, 2, 200, 2020);
	map(&w, 0x10000, 0x100, 1, 2030);
	map(&w, 0x10100, 0x100, 2, 2040);
	map(&w, 0x20000, 0x100, 2, 2050);
	whole(&w, RELEASE, &one, 1, 0, 2060);
	call(&w, RETAIN, retain, 2, 2070);
	back(&w, RETAIN, &three, 1, 0, 2080);
	whole(&w, RELEASE, &two, 1, 0, 2090);
	create(&w, 2, 400, 2100); /* the handle again */
	unmap(&w, 0x10000, 0x200, 2110);
	unmap(&w, 0x50000, 0x100, 2120);
	whole(&w, RELEASE, &three, 1, 0, 2130);
	end_in(&w, 5000);
	finish(&w);
	assert_args(&w, "memory calls", 0,
		    "allocations=3 frees=1 failed allocations=0 failed frees=0 frees of unknown "
		    "addresses=1");
	assert_args(&w, "still allocated", 0, "bytes=600 allocations=2 kind=physical device=3");
	ops_release(&w.ops);
}

/* Calls that another CUDA call makes belong to that one. */
static void test_nested(void **state)
{
	const uint64_t in[] = {0x7ffd0001, 100}, address = 0x1000;
	struct world w;

	start(&w);
	begin_in(&w, &w.a, 1, 2000);
	call(&w, MALLOC, in, 2, 2100);
	batch_cuda(&w.ops.builder, PT_X_CUDA_BEGIN, PT_CUDA_DESC(PINNED, 1, 0), in, 2, 2110);
	batch_cuda(&w.ops.builder, PT_X_CUDA_END, PT_CUDA_DESC(PINNED, 1, 0), &address, 1, 2120);
	back(&w, MALLOC, &address, 1, 0, 2130);
	end_in(&w, 5000);
	finish(&w);
	assert_args(&w, "memory calls", 0, "allocations=1 ");
	assert_args(&w, "still allocated", 0, "bytes=100 allocations=1 kind=device");
	ops_release(&w.ops);
}

static void at_level(struct world *w, unsigned int fn, unsigned int level, uint64_t address,
		     uint64_t ns)
{
	const uint64_t in[] = {0x7ffd0001, 100};

	batch_cuda(&w->ops.builder, PT_X_CUDA_BEGIN, PT_CUDA_DESC(fn, level, 0), in, 2, ns);
	batch_cuda(&w->ops.builder, PT_X_CUDA_END, PT_CUDA_DESC(fn, level, 0), &address, 1, ns + 5);
}

/* But those that NCCL makes do count, also of a call of NCCL in one. */
static void test_nccl(void **state)
{
	struct rec_builder *b;
	struct world w;

	start(&w);
	b = &w.ops.builder;
	rec_cuda_fn(b, 20, "ncclGroupEnd", PT_CUDA_NCCL, 0, 0, 0);
	begin_in(&w, &w.a, 1, 2000);
	batch_cuda(b, PT_X_CUDA_BEGIN, PT_CUDA_DESC(20, 0, 0), NULL, 0, 2100);
	at_level(&w, MALLOC, 1, 0x1000, 2110);
	at_level(&w, PINNED, 2, 0x2000, 2120); /* made by another call of CUDA */
	batch_cuda(b, PT_X_CUDA_BEGIN, PT_CUDA_DESC(20, 1, 0), NULL, 0, 2130);
	at_level(&w, MALLOC, 2, 0x3000, 2140);
	batch_cuda(b, PT_X_CUDA_END, PT_CUDA_DESC(20, 1, 0), NULL, 0, 2150);
	at_level(&w, MALLOC, 1, 0x4000, 2160);
	batch_cuda(b, PT_X_CUDA_END, PT_CUDA_DESC(20, 0, 0), NULL, 0, 2170);
	at_level(&w, PINNED, 1, 0x5000, 2180);
	at_level(&w, MALLOC, 0, 0x6000, 2190);
	batch_cuda(b, PT_X_CUDA_BEGIN, PT_CUDA_DESC(20, 0, 0), NULL, 0, 2200);
	at_level(&w, MALLOC, 0, 0x7000, 2210); /* it must have returned */
	end_in(&w, 5000);
	finish(&w);
	assert_args(&w, "memory calls", 0, "allocations=5 ");
	assert_args(&w, "still allocated", 0, "bytes=500 allocations=5 kind=device");
	ops_release(&w.ops);
}

/* Many addresses, freed and used again: what is kept is bounded, and nothing gets lost. */
static void test_many(void **state)
{
	struct world w;
	uint64_t ns = 2000;

	start(&w);
	for (unsigned int round = 0; round < 400; round++) {
		batch_begin(&w.ops.builder, &w.a, ns);
		batch_enter(&w.ops.builder, 1, ns);
		for (uint64_t i = 1; i <= 30; i++, ns += 50) {
			allocate(&w, 0x1000 * (round * 30 + i), i, 0, ns);
			if (i < 30)
				release(&w, 0x1000 * (round * 30 + i), 0, ns + 20);
		}
		end_in(&w, ns);
		ns += 100;
		rec_note(&w.ops.builder, PT_NOTE_COMPLETE, ns, ns);
	}
	finish(&w);
	assert_args(&w, "memory calls", 0, "allocations=12000 frees=11600");
	assert_args(&w, "still allocated", 0, "bytes=12000 allocations=400");
	ops_release(&w.ops);
}

/* Behind a clear the tracks begin anew with what is there. */
static void test_clear(void **state)
{
	struct world w;

	start(&w);
	begin_in(&w, &w.a, 1, 2000);
	allocate(&w, 0x1000, 100, 0, 2100);
	batch_end(&w.ops.builder, 0);
	rec_control(&w.ops.builder, PT_CONTROL_CLEAR, 3000);
	batch_begin(&w.ops.builder, &w.a, 4000);
	allocate(&w, 0x2000, 50, 0, 4000);
	end_in(&w, 5000);
	finish(&w);
	assert_int_equal(w.ops.counter_count, 2);
	assert_true(w.ops.counter_value == 150);
	assert_args(&w, "still allocated", 0, "bytes=150 allocations=2");
	ops_release(&w.ops);
}

/* Not asked for: nothing. */
static void test_off(void **state)
{
	struct world w;

	start(&w);
	pt_model_free(w.ops.model);
	ops_init(&w.ops, NULL);
	ops_define(&w.ops);
	rec_cuda_fn(&w.ops.builder, MALLOC, "cudaMalloc", PT_CUDA_RUNTIME, 13, 2, 1);
	begin_in(&w, &w.a, 1, 2000);
	allocate(&w, 0x1000, 100, 0, 2100);
	end_in(&w, 5000);
	rec_note(&w.ops.builder, PT_NOTE_COMPLETE, 6000, 6000);
	finish(&w);
	assert_int_equal(w.ops.memory_count + w.ops.counter_count + w.ops.instant_count, 0);
	ops_release(&w.ops);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_every_call),
	    cmocka_unit_test(test_sizes),
	    cmocka_unit_test(test_left),
	    cmocka_unit_test(test_order),
	    cmocka_unit_test(test_late),
	    cmocka_unit_test(test_wrong_frees),
	    cmocka_unit_test(test_reset),
	    cmocka_unit_test(test_cut),
	    cmocka_unit_test(test_physical),
	    cmocka_unit_test(test_nested),
	    cmocka_unit_test(test_many),
	    cmocka_unit_test(test_clear),
	    cmocka_unit_test(test_off),
	    cmocka_unit_test(test_contradiction),
	    cmocka_unit_test(test_exec),
	    cmocka_unit_test(test_nccl),
	    cmocka_unit_test(test_recorded_stacks),
	    cmocka_unit_test(test_blocks),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
