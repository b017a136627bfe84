// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/* Unwinding by .eh_frame and the merge of native and Python frames, on the stack of this program
 * itself, against what the C library's unwinder finds; symbols; which CUDA functions form a group.
 */
#include <errno.h>
#include <execinfo.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <ucontext.h>
#include <unistd.h>

#include <cmocka.h>

#include "cuda/table.h"
#include "ingest/decode.h"
#include "rec_builder.h"
#include "record/callstacks.h"
#include "record/callstacks_parts.h"
#include "target/vdso.h"

#define COPY_BYTES (256u << 10)

static struct pt_raw_stack *raw;
static void *truth[256];
static int truth_count, truth_first; /* from the one on that level_three() returns to */
static uint64_t marker_at;           /* in the frame of level_two() */

/* What lies at an address of this stack may be poisoned for AddressSanitizer. */
__attribute__((no_sanitize("address"))) static void copy_words(uint64_t *to, const uint64_t *from,
							       size_t count)
{
	for (size_t i = 0; i < count; i++)
		to[i] = from[i];
}

static char **stack_top; /* where main()'s environment begins */

__attribute__((noinline)) static int level_three(int depth)
{
	ucontext_t context;
	const greg_t *g = context.uc_mcontext.gregs;
	size_t bytes;

	assert_int_equal(getcontext(&context), 0);
	raw->regs[PT_RAW_IP] = (uint64_t)g[REG_RIP];
	raw->regs[PT_RAW_SP] = (uint64_t)g[REG_RSP];
	raw->regs[PT_RAW_BP] = (uint64_t)g[REG_RBP];
	raw->regs[PT_RAW_BX] = (uint64_t)g[REG_RBX];
	for (int i = 0; i < 4; i++)
		raw->regs[PT_RAW_R12 + i] = (uint64_t)g[REG_R12 + i];
	bytes = (uint64_t)(uintptr_t)stack_top - raw->regs[PT_RAW_SP];
	if (bytes > COPY_BYTES)
		bytes = COPY_BYTES;
	raw->stack_bytes = (uint32_t)(bytes & ~(size_t)7);
	copy_words((uint64_t *)(void *)raw->stack, (uint64_t *)raw->regs[PT_RAW_SP],
		   raw->stack_bytes / 8);
	truth_count = backtrace(truth, 256);
	truth_first = 0;
	while (truth[truth_first] != __builtin_return_address(0))
		truth_first++;
	return depth + 1;
}

__attribute__((noinline)) static int level_two(int depth)
{
	volatile uint64_t marker = 1;
	int rc;

	marker_at = (uint64_t)(uintptr_t)&marker;
	rc = level_three(depth);
	return rc + (int)marker;
}

__attribute__((noinline)) static int level_one(int depth)
{
	return (depth ? level_one(depth - 1) : level_two(depth)) + 1;
}

static void begin_raw(void)
{
	memset(raw, 0, sizeof(*raw));
	raw->hdr.kind = PT_REC_CALL_STACK;
	raw->hdr.flags = PT_RF_RAW;
	raw->hdr.tgid = (uint32_t)getpid();
	raw->hdr.image_id = 1;
}

/* ---- what comes out ---- */

struct got {
	struct pt_rec_call_stack *last; /* with its frames */
	unsigned int records;
	uint32_t last_id;
};

static int keep(const struct pt_rec *record, size_t len, void *ctx)
{
	const struct pt_rec_call_stack *stack = (const struct pt_rec_call_stack *)record;
	struct got *got = ctx;

	got->records++;
	got->last_id = stack->id;
	if (!stack->frame_count)
		return 0;
	free(got->last);
	got->last = malloc(len);
	assert_non_null(got->last);
	memcpy(got->last, record, len);
	return 0;
}

struct world {
	struct callstacks *stacks;
	struct got raw, named;
};

static void open_world(struct world *world)
{
	const struct callstacks_options options = {.put = keep, .ctx = &world->raw};
	struct pt_code_identity identity;

	world->stacks = callstacks_new(&options);
	assert_non_null(world->stacks);
	assert_int_equal(pt_process_code(getpid(), &identity), 0);
	raw->start_stack = identity.start_stack;
	raw->exec_pages = identity.exec_pages;
}

static void close_world(struct world *world)
{
	callstacks_free(world->stacks);
	free(world->raw.last);
	free(world->named.last);
}

static void give(struct world *world)
{
	raw->serial++;
	raw->hdr.len = (uint32_t)sizeof(*raw) + COPY_BYTES;
	raw->hdr.time_ns = 1ull << 60; /* behind all looks */
	assert_int_equal(callstacks_take(world->stacks, &raw->hdr, raw->hdr.len), 0);
	assert_int_equal(pt_record_check(&world->raw.last->hdr, world->raw.last->hdr.len), 0);
	assert_int_equal(callstacks_complete(world->stacks, world->raw.last, keep, &world->named),
			 0);
	assert_int_equal(pt_record_check(&world->named.last->hdr, world->named.last->hdr.len), 0);
}

static const char *text_of(const struct pt_rec_call_stack *stack, uint32_t frame, char *out,
			   size_t size)
{
	const char *text = (const char *)&stack->frames[stack->frame_count];

	for (uint32_t i = 0; i < frame; i++)
		text += stack->frames[i].name_bytes + stack->frames[i].path_bytes;
	snprintf(out, size, "%.*s", (int)stack->frames[frame].name_bytes, text);
	return out;
}

/* ---- tests ---- */

static void test_native(void **state)
{
	struct world world = {0};
	char name[256];

	begin_raw();
	level_one(5);
	open_world(&world);
	give(&world);
	/* the function that was called, level_three, is not of it */
	assert_int_equal(world.named.last->frame_count, truth_count - truth_first);
	assert_string_equal(text_of(world.named.last, 0, name, sizeof(name)), "level_two");
	for (uint32_t i = 1; i < 7; i++)
		assert_string_equal(text_of(world.named.last, i, name, sizeof(name)), "level_one");
	assert_string_equal(text_of(world.named.last, 7, name, sizeof(name)), "test_native");
	close_world(&world);
}

/* A sample has the innermost function, and at another place of that the same stack. */
static void test_sample(void **state)
{
	struct world world = {0};
	const struct pt_call_frame *frames;
	char name[256];

	begin_raw();
	level_one(2);
	raw->flags = PT_RAW_SAMPLE;
	memmove(raw->stack + PT_RAW_RED_ZONE, raw->stack, COPY_BYTES - PT_RAW_RED_ZONE);
	raw->stack_bytes += raw->stack_bytes + PT_RAW_RED_ZONE <= COPY_BYTES ? PT_RAW_RED_ZONE : 0;
	open_world(&world);
	give(&world);
	frames = world.named.last->frames;
	assert_int_equal(world.named.last->frame_count, truth_count - truth_first + 1);
	assert_string_equal(text_of(world.named.last, 0, name, sizeof(name)), "level_three");
	assert_string_equal(text_of(world.named.last, 1, name, sizeof(name)), "level_two");
	assert_int_equal(frames[2].where,
			 frames[4].where); /* level_one(), called from two places */
	raw->python_count = 2;
	raw->python[0] = 7;
	raw->python[1] = PT_RAW_MARK | marker_at;
	give(&world);
	assert_string_equal(text_of(world.named.last, 0, name, sizeof(name)), "level_three");
	assert_int_equal(world.named.last->frames[1].kind, PT_CF_PYTHON);
	/* the call in level_three() that gave the registers is not the last one there */
	raw->regs[PT_RAW_IP]++;
	give(&world);
	assert_int_equal(world.raw.last_id, 2);
	close_world(&world);
}

/* The same stack once more has no frames; another one has a number of its own. */
static void test_distinct(void **state)
{
	struct world world = {0};

	begin_raw();
	level_one(1);
	open_world(&world);
	give(&world);
	give(&world);
	assert_int_equal(world.raw.last_id, 1);
	assert_int_equal(world.raw.records, 2);
	raw->python_count = 1;
	raw->python[0] = 5;
	give(&world);
	assert_int_equal(world.raw.last_id, 2);
	close_world(&world);
}

static void test_merge(void **state)
{
	struct world world = {0};
	const struct pt_call_frame *frames;
	char name[256];
	uint32_t count;

	begin_raw();
	level_one(0);
	raw->python_count = 4;
	raw->python[0] = 7 | 3ull << 32;
	raw->python[1] = 8 | 0x7fffffffull << 32;
	raw->python[2] = PT_RAW_MARK | marker_at;
	raw->python[3] = 9 | 1ull << 32;
	raw->flags = PT_RAW_PYTHON_CUT;
	open_world(&world);
	give(&world);
	frames = world.named.last->frames;
	count = world.named.last->frame_count;
	assert_int_equal(frames[0].kind, PT_CF_PYTHON);
	assert_int_equal(frames[0].code_id, 7);
	assert_int_equal(frames[0].where, 3);
	assert_int_equal(frames[1].code_id, 8);
	assert_true(frames[1].where == PT_CF_NO_PLACE);
	assert_string_equal(text_of(world.named.last, 2, name, sizeof(name)), "level_one");
	/* one that has no place */
	assert_int_equal(frames[count - 3].kind, PT_CF_NATIVE_UNKNOWN);
	assert_int_equal(frames[count - 2].code_id, 9);
	assert_int_equal(frames[count - 1].kind, PT_CF_PYTHON_MORE);
	assert_int_equal(count, truth_count - truth_first + 1 + 3);
	close_world(&world);
}

/* Without the native frames, what the process maps does not matter. */
static void test_python_only(void **state)
{
	struct world world = {0};

	begin_raw();
	raw->flags = PT_RAW_PYTHON_ONLY;
	raw->python_count = 3;
	raw->python[0] = 7 | 3ull << 32;
	raw->python[1] = PT_RAW_MARK | 0x1000;
	raw->python[2] = 9 | 1ull << 32;
	open_world(&world);
	raw->start_stack++;
	give(&world);
	assert_int_equal(world.raw.last->frame_count, 2);
	assert_int_equal(world.raw.last->frames[0].code_id, 7);
	assert_int_equal(world.raw.last->frames[1].code_id, 9);
	raw->flags |= PT_RAW_PYTHON_CUT;
	give(&world);
	assert_int_equal(world.raw.last->frame_count, 3);
	assert_int_equal(world.raw.last->frames[2].kind, PT_CF_PYTHON_MORE);
	assert_int_equal(callstacks_unmapped(world.stacks), 0);
	raw->flags = PT_RAW_PYTHON_ONLY | PT_RAW_PYTHON_UNKNOWN;
	raw->python_count = 0;
	assert_int_equal(callstacks_take(world.stacks, &raw->hdr, raw->hdr.len), 0);
	assert_int_equal(world.raw.records, 2); /* there is nothing to tell */
	close_world(&world);
}

/* Only a piece of the stack; none; a process that is not known; code that was not there. */
static void test_cut(void **state)
{
	struct world world = {0};
	char name[256];

	begin_raw();
	level_one(20);
	raw->python_count = 1;
	raw->python[0] = 7;
	open_world(&world);
	raw->stack_bytes = (uint32_t)(marker_at - raw->regs[PT_RAW_SP]);
	give(&world);
	assert_string_equal(text_of(world.named.last, 0, name, sizeof(name)), "level_two");
	assert_true(world.named.last->frame_count < (uint32_t)truth_count);
	assert_int_equal(world.named.last->frames[world.named.last->frame_count - 2].kind,
			 PT_CF_NATIVE_UNKNOWN);
	raw->stack_bytes = 0;
	give(&world);
	assert_int_equal(world.named.last->frame_count, 2);
	assert_int_equal(callstacks_unmapped(world.stacks), 0);
	raw->exec_pages++;
	give(&world);
	assert_int_equal(callstacks_unmapped(world.stacks), 1);
	assert_int_equal(world.named.last->frame_count, 2);
	raw->exec_pages--;
	raw->start_stack++;
	give(&world);
	assert_int_equal(callstacks_unmapped(world.stacks), 2);
	close_world(&world);
}

/* A return address that a return probe has replaced. */
static void test_replaced(void **state)
{
	struct world world = {0};
	uint64_t *stack = (uint64_t *)(void *)raw->stack;
	unsigned int i = 0;

	begin_raw();
	level_one(2);
	while (stack[i] != (uint64_t)(uintptr_t)truth[truth_first + 1])
		i++;
	raw->return_count = 1;
	raw->returns[0].at = raw->regs[PT_RAW_SP] + 8 * i;
	raw->returns[0].to = stack[i];
	stack[i] = 0x7fffffffe000; /* the trampoline */
	open_world(&world);
	give(&world);
	assert_int_equal(world.named.last->frame_count, truth_count - truth_first);
	close_world(&world);
}

/* Our own copy is what lies at that address, and has names and unwind rules. */
static void test_vdso(void **state)
{
	uint64_t at = vdso_address(getpid());
	struct symbols symbols = {0};
	struct unwind_file *unwind;
	struct elf_file *elf;
	char path[32], copy[64];
	size_t size = 0;
	bool found = false;
	int fd = vdso_open(&size);

	if (fd == -ENOENT)
		skip();
	assert_true(fd >= 0);
	assert_true(at == getauxval(AT_SYSINFO_EHDR));
	assert_int_equal(pread(fd, copy, sizeof(copy), 0), sizeof(copy));
	assert_memory_equal(copy, (const void *)(uintptr_t)at, sizeof(copy));
	assert_int_equal(vdso_address(1 << 30), 0);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	assert_int_equal(elf_file_open(path, &elf, NULL), 0);
	assert_int_equal(symbols_load(elf, &symbols), 0);
	unwind = unwind_file_new(elf);
	assert_non_null(unwind);
	for (uint64_t vaddr = 0; vaddr < size && !found; vaddr++) {
		const char *name = symbols_find(&symbols, vaddr);
		uint64_t start, end;

		found = name && !strcmp(name, "__vdso_clock_gettime");
		if (found)
			assert_true(unwind_function(unwind, vaddr, &start, &end));
	}
	assert_true(found);
	unwind_file_free(unwind);
	symbols_release(&symbols);
	elf_file_close(elf);
	close(fd);
}

static void test_hostile(void **state)
{
	struct world world = {0};
	uint64_t seed = 1;

	begin_raw();
	level_one(3);
	open_world(&world);
	for (int i = 0; i < 2000; i++) {
		for (int k = 0; k < 20; k++) {
			seed = seed * 6364136223846793005ull + 1442695040888963407ull;
			raw->stack[(seed >> 33) % raw->stack_bytes] = (uint8_t)(seed >> 56);
		}
		give(&world);
	}
	raw->stack_bytes = UINT32_MAX;
	assert_int_equal(callstacks_take(world.stacks, &raw->hdr, sizeof(*raw)), 0);
	close_world(&world);
}

static void test_groups(void **state)
{
	static const struct {
		const char *symbol;
		enum pt_cuda_group group;
	} cases[] = {
	    {"cudaLaunchKernel", PT_CUDA_GROUP_LAUNCH},
	    {"cuLaunchKernelEx", PT_CUDA_GROUP_LAUNCH},
	    {"cudaGraphLaunch_ptsz", PT_CUDA_GROUP_LAUNCH},
	    {"cudaMallocAsync", PT_CUDA_GROUP_MALLOC},
	    {"cuMemAlloc_v2", PT_CUDA_GROUP_MALLOC},
	    {"cuMemFree_v2", PT_CUDA_GROUP_MALLOC},
	    {"cudaFreeHost", PT_CUDA_GROUP_MALLOC},
	    {"cudaMemcpyAsync", PT_CUDA_GROUP_MEMCPY},
	    {"cuMemcpyHtoD_v2", PT_CUDA_GROUP_MEMCPY},
	    {"cuMemsetD32Async", PT_CUDA_GROUP_MEMCPY},
	    {"cudaDeviceSynchronize", PT_CUDA_GROUP_SYNC},
	    {"cuStreamSynchronize", PT_CUDA_GROUP_SYNC},
	    {"cudaMemGetInfo", PT_CUDA_GROUP_OTHER},
	    {"cudaStreamCreate", PT_CUDA_GROUP_OTHER},
	    {"cuCtxCreate_v2", PT_CUDA_GROUP_OTHER},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		if (pt_cuda_group(cases[i].symbol) != cases[i].group)
			fail_msg("%s", cases[i].symbol);
}

/* ---- damaged records ---- */

static int check_one(const struct pt_rec *record, size_t len, void *ctx)
{
	*(int *)ctx = pt_record_check(record, len);
	return 0;
}

static int check(uint32_t serial, uint32_t id, struct pt_call_frame frame, const char *text)
{
	struct rec_thread t = rec_thread(100, 100, 1, "python3");
	struct rec_builder b;
	int rc = 1;

	rec_init(&b, check_one, &rc);
	rec_call_stack(&b, &t, serial, id, &frame, 1, text, 5);
	return rc;
}

static void test_damaged(void **state)
{
	const struct pt_call_frame good = {PT_CF_NATIVE, 0, 0x10, 3, 2};
	struct pt_call_frame bad = good;

	assert_int_equal(check(1, 1, good, "abc/d"), 0);
	assert_int_equal(check(0, 1, good, "abc/d"), -EBADMSG);
	assert_int_equal(check(1, 0, good, "abc/d"), -EBADMSG);
	assert_int_equal(check(1, 1, good, "abc/de"), -EBADMSG);
	assert_int_equal(check(1, 1, good, "abc"), -EBADMSG);
	bad.kind = 5;
	assert_int_equal(check(1, 1, bad, "abc/d"), -EBADMSG);
	bad.kind = 0;
	assert_int_equal(check(1, 1, bad, "abc/d"), -EBADMSG);
	bad = good;
	bad.name_bytes = UINT32_MAX;
	assert_int_equal(check(1, 1, bad, "abc/d"), -EBADMSG);
}

int main(int argc, char **argv, char **envp)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_native),      cmocka_unit_test(test_sample),
	    cmocka_unit_test(test_distinct),    cmocka_unit_test(test_merge),
	    cmocka_unit_test(test_python_only), cmocka_unit_test(test_cut),
	    cmocka_unit_test(test_replaced),    cmocka_unit_test(test_hostile),
	    cmocka_unit_test(test_vdso),        cmocka_unit_test(test_groups),
	    cmocka_unit_test(test_damaged),
	};
	int rc;

	stack_top = envp;
	raw = calloc(1, sizeof(*raw) + COPY_BYTES);
	if (!raw)
		return 1;
	backtrace(truth, 1); /* it loads what it needs */
	rc = cmocka_run_group_tests(tests, NULL, NULL);
	free(raw);
	return rc;
}
