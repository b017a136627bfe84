// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/* From the kernels that batches launch to their names: this process stands for the traced one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "ingest/decode.h"
#include "kernel_image.h"
#include "rec_builder.h"
#include "record/kernels.h"
#include "scratch.h"

#define LAUNCH 8
#define OTHER  9
#define IMAGE  3
#define BASE_A 0x10000000ull
#define BASE_B 0x20000000ull

struct fixture {
	struct kernels *kernels;
	struct rec_builder builder;
	struct pt_process process;
	struct pt_module modules[2];
	unsigned int looks;
	struct pt_rec_cuda_kernel put[32];
	char put_text[32][64]; /* behind the record */
	size_t put_count;
	uint64_t memory[ELF_BYTES / 8]; /* what the process has of the file */
	/* the last record that was completed */
	char name[128], path[256];
	uint32_t names;
	uint64_t vaddr;
};

static int on_put(const struct pt_rec *record, size_t len, void *ctx)
{
	struct fixture *f = ctx;

	assert_true(f->put_count < 32);
	assert_true(len - sizeof(struct pt_rec_cuda_kernel) < sizeof(f->put_text[0]) - 1);
	f->put[f->put_count] = *(const struct pt_rec_cuda_kernel *)record;
	memcpy(f->put_text[f->put_count++], (const char *)record + sizeof(f->put[0]),
	       len - sizeof(f->put[0]));
	return 0;
}

static int on_look(pid_t pid, uint32_t image_id, void *ctx)
{
	struct fixture *f = ctx;

	f->looks++;
	if (pid != f->process.pid)
		return 0;
	f->process.module_count = 2;
	return kernels_look(f->kernels, &f->process, image_id);
}

static int on_batch(const struct pt_rec *record, size_t len, void *ctx)
{
	struct fixture *f = ctx;

	return kernels_batch(f->kernels, (const struct pt_rec_batch *)record, len);
}

static int on_complete(const struct pt_rec *record, size_t len, void *ctx)
{
	const struct pt_rec_cuda_kernel *kernel = (const struct pt_rec_cuda_kernel *)record;
	struct fixture *f = ctx;

	assert_int_equal(pt_record_check(record, len), 0);
	assert_int_equal(kernel->file, 0);
	f->names = kernel->names;
	f->vaddr = kernel->vaddr;
	snprintf(f->name, sizeof(f->name), "%.*s", (int)kernel->name_bytes, kernel->data);
	snprintf(f->path, sizeof(f->path), "%.*s", (int)kernel->path_bytes,
		 kernel->data + kernel->name_bytes);
	return 0;
}

static void start(struct fixture *f, bool folded)
{
	struct kernels_options options = {.put = on_put, .look = on_look, .ctx = f};
	struct pt_cuda_fn fns[2] = {{.id = LAUNCH}, {.id = OTHER}};
	struct pt_cuda_library library = {.fns = fns};
	struct elf_image *image = build("", 0);

	if (folded) /* the linker made one of two stubs */
		put_registration(&(struct code){image, CONSTRUCTOR}, STUB_A, TEXT_B, "", 0, CALL);
	memset(f, 0, sizeof(*f));
	scratch_write(scratch_path("kernels.so"), image, sizeof(*image));
	free(image);
	scratch_write(scratch_path("no-elf"), "x", 1);
	f->modules[0] = (struct pt_module){
	    .path = (char *)"/lib/libk.so", .dev = 1, .inode = 1, .file_offset = ELF_CODE};
	f->modules[0].open_path = strdup(scratch_path("kernels.so"));
	f->modules[0].start = (uint64_t)(uintptr_t)f->memory + ELF_CODE;
	f->modules[1] = (struct pt_module){.path = (char *)"/lib/x", .dev = 1, .inode = 2};
	f->modules[1].open_path = strdup(scratch_path("no-elf"));
	f->process = (struct pt_process){.pid = getpid(), .modules = f->modules};
	library.plan.site_count = 2;
	fns[0].layout.arg_count = 2;
	fns[0].layout.args[0] = (struct pt_cuda_arg){.code = 'p'};
	fns[0].layout.args[1] = (struct pt_cuda_arg){.code = 'k', .word = 1};
	assert_int_equal(kernels_new(&options, &f->kernels), 0);
	kernels_functions(f->kernels, &library);
	rec_init(&f->builder, on_batch, f);
}

static void end(struct fixture *f)
{
	assert_int_equal(f->builder.rc, 0);
	kernels_free(f->kernels);
	free(f->modules[0].open_path);
	free(f->modules[1].open_path);
}

static void launch(struct fixture *f, uint32_t pid, unsigned int fn, uint64_t kernel)
{
	const uint64_t words[] = {0x99, kernel, 7};
	struct rec_thread t = rec_thread(pid, pid, IMAGE, "x");

	batch_begin(&f->builder, &t, 5000);
	batch_enter(&f->builder, 1, 5000);
	batch_cuda(&f->builder, PT_X_CUDA_BEGIN, PT_CUDA_DESC(fn, 0, 0), words, 3, 5010);
	batch_cuda(&f->builder, PT_X_CUDA_END, PT_CUDA_DESC(fn, 0, 0), NULL, 0, 5020);
	batch_exit(&f->builder, 5030);
	batch_end(&f->builder, 0);
}

static uint64_t at(const struct fixture *f, uint64_t vaddr)
{
	return (uint64_t)(uintptr_t)f->memory + vaddr;
}

static void complete(struct fixture *f, size_t i)
{
	assert_true(i < f->put_count);
	assert_int_equal(kernels_complete(f->kernels, &f->put[i], on_complete, f), 0);
}

static void test_stub(void **state)
{
	static struct fixture f;

	start(&f, false);
	launch(&f, (uint32_t)getpid(), LAUNCH, at(&f, STUB_A));
	launch(&f, (uint32_t)getpid(), LAUNCH, at(&f, STUB_A)); /* is known by now */
	launch(&f, (uint32_t)getpid(), OTHER, at(&f, STUB_B));  /* has no kernel */
	launch(&f, (uint32_t)getpid(), LAUNCH, at(&f, STUB_C + 1));
	assert_int_equal(f.put_count, 2);
	assert_int_equal(f.looks, 2);
	assert_int_equal(f.put[0].hdr.tgid, getpid());
	assert_int_equal(f.put[0].hdr.image_id, IMAGE);
	assert_int_equal(f.put[0].hdr.time_ns, 5000);
	complete(&f, 0);
	assert_string_equal(f.name, "_Z4axpyIfEvT_PKS0_PS0_i");
	assert_string_equal(f.path, "/lib/libk.so");
	assert_int_equal(f.names, 1);
	assert_int_equal(f.vaddr, STUB_A);
	complete(&f, 1);
	assert_string_equal(f.name, "");
	assert_string_equal(f.path, "/lib/libk.so");
	assert_int_equal(f.names, 0);
	assert_int_equal(f.vaddr, STUB_C + 1);
	end(&f);
}

static void test_handle(void **state)
{
	static struct fixture f;

	start(&f, false);
	launch(&f, (uint32_t)getpid(), LAUNCH, 0xabcd00);
	launch(&f, (uint32_t)getpid(), LAUNCH, 0xabcd08);
	launch(&f, (uint32_t)getpid(), LAUNCH, 0xabcd10);
	assert_int_equal(f.put_count, 3);
	f.memory[HANDLE_A / 8] = 0xabcd00;
	complete(&f, 0);
	assert_string_equal(f.name, "_Z4axpyIfEvT_PKS0_PS0_i");
	assert_int_equal(f.names, 1);
	f.memory[HANDLE_B / 8] = 0xabcd08; /* it is read again */
	complete(&f, 1);
	assert_string_equal(f.name, "plain");
	complete(&f, 2);
	assert_string_equal(f.name, "");
	assert_string_equal(f.path, "");
	/* of a process that has ended nothing is believed but what was read */
	kernels_forget(f.kernels, getpid());
	f.memory[HANDLE_A / 8] = 0xabcd10;
	complete(&f, 2);
	assert_string_equal(f.name, "");
	complete(&f, 1);
	assert_string_equal(f.name, "plain");
	end(&f);
}

static void test_folded(void **state)
{
	static struct fixture f;

	start(&f, true);
	launch(&f, (uint32_t)getpid(), LAUNCH, at(&f, STUB_A));
	launch(&f, (uint32_t)getpid(), LAUNCH, 0xabcd00);
	f.memory[HANDLE_A / 8] = 0xabcd00;
	for (size_t i = 0; i < 2; i++) {
		complete(&f, i);
		assert_string_equal(f.name, "_Z4axpyIfEvT_PKS0_PS0_i");
		assert_int_equal(f.names, 2);
	}
	end(&f);
}

static void load(struct fixture *f, unsigned int what, uint64_t handle, uint64_t owner,
		 const char *name)
{
	static struct pt_rec_cuda_loaded record;

	record = (struct pt_rec_cuda_loaded){.handle = handle, .owner = owner, .what = what};
	record.hdr.tgid = (uint32_t)getpid();
	record.hdr.image_id = IMAGE;
	record.hdr.time_ns = 700;
	record.text_bytes = name ? (uint32_t)strlen(name) + 1 : 0;
	memcpy(record.text, name ? name : "", record.text_bytes);
	assert_int_equal(kernels_loaded(f->kernels, &record, sizeof(record)), 0);
}

/* The last one that was put. */
static void assert_loaded(const struct fixture *f, size_t count, uint64_t handle, const char *name)
{
	const struct pt_rec_cuda_kernel *record = &f->put[count - 1];

	assert_int_equal(f->put_count, count);
	assert_int_equal(record->address, handle);
	assert_int_equal(record->hdr.flags, PT_RF_KERNEL_LOADED);
	assert_int_equal(record->hdr.time_ns, 700);
	assert_int_equal(record->names, *name != 0);
	assert_int_equal(record->name_bytes, strlen(name));
	assert_string_equal(f->put_text[count - 1], name);
	assert_int_equal(record->hdr.len, (sizeof(*record) + strlen(name) + 7) / 8 * 8);
}

static void test_loaded(void **state)
{
	static struct fixture f;
	uint32_t pid = (uint32_t)getpid();

	start(&f, false);
	load(&f, PT_CUDA_LOAD_NAMED, 0x500, 0x90, "add");
	assert_loaded(&f, 1, 0x500, "add");
	load(&f, PT_CUDA_LOAD_NAMED, 0x500, 0x90, "add"); /* asked again */
	launch(&f, pid, LAUNCH, 0x500);
	assert_int_equal(f.put_count, 1);
	/* the function of a kernel is called as that is */
	load(&f, PT_CUDA_LOAD_SAME, 0x600, 0x500, NULL);
	assert_loaded(&f, 2, 0x600, "add");
	load(&f, PT_CUDA_LOAD_SAME, 0x610, 0x999, NULL); /* of nothing that is known */
	assert_int_equal(f.put_count, 2);
	/* of a stub */
	launch(&f, pid, LAUNCH, at(&f, STUB_A));
	load(&f, PT_CUDA_LOAD_SAME, 0x620, at(&f, STUB_A), NULL);
	assert_int_equal(f.put_count, 4);
	assert_int_equal(f.put[3].address, 0x620);
	complete(&f, 3);
	assert_string_equal(f.name, "_Z4axpyIfEvT_PKS0_PS0_i");
	/* another module is unloaded, then its own */
	load(&f, PT_CUDA_LOAD_GONE, 0, 0x91, NULL);
	assert_int_equal(f.put_count, 4);
	load(&f, PT_CUDA_LOAD_GONE, 0, 0x90, NULL);
	assert_loaded(&f, 6, f.put[5].address, "");
	assert_int_equal(f.put[4].address + f.put[5].address, 0x500 + 0x600);
	/* from then on it may be anything */
	launch(&f, pid, LAUNCH, 0x500);
	assert_int_equal(f.put_count, 7);
	assert_int_equal(f.put[6].hdr.flags, 0);
	load(&f, PT_CUDA_LOAD_NAMED, 0x500, 0x91, "mul");
	assert_loaded(&f, 8, 0x500, "mul");
	load(&f, PT_CUDA_LOAD_RESET, 0, 0, NULL);
	assert_int_equal(f.put_count, 10);
	launch(&f, pid, LAUNCH, 0x500); /* is looked up anew */
	assert_int_equal(f.put_count, 11);
	end(&f);
}

static void test_loaded_damage(void **state)
{
	static struct pt_rec_cuda_loaded record;
	static struct fixture f;

	start(&f, false);
	record.what = 9;
	assert_int_equal(kernels_loaded(f.kernels, &record, sizeof(record)), 0);
	record.what = PT_CUDA_LOAD_NAMED;
	assert_int_equal(kernels_loaded(f.kernels, &record, sizeof(record) - 8), 0);
	record.text_bytes = sizeof(record.text) + 1;
	assert_int_equal(kernels_loaded(f.kernels, &record, sizeof(record)), 0);
	assert_int_equal(f.put_count, 0);
	end(&f);
}

/* A library is unloaded, and later lies elsewhere. */
static void test_moves(void **state)
{
	static struct fixture f;

	start(&f, false);
	f.modules[0].start = BASE_A + ELF_CODE;
	launch(&f, (uint32_t)getpid(), LAUNCH, BASE_A + STUB_A);
	f.modules[0].start = BASE_B + ELF_CODE;
	launch(&f, (uint32_t)getpid(), LAUNCH, BASE_B + STUB_A);
	launch(&f, (uint32_t)getpid(), LAUNCH, BASE_A + STUB_A);
	assert_int_equal(f.put_count, 3);
	complete(&f, 0);
	assert_string_equal(f.name, "_Z4axpyIfEvT_PKS0_PS0_i");
	complete(&f, 1);
	assert_string_equal(f.name, "_Z4axpyIfEvT_PKS0_PS0_i");
	complete(&f, 2);
	assert_string_equal(f.name, "");
	end(&f);
}

/* A process that nothing is known of, or that has ended before anybody looked. */
static void test_unknown_process(void **state)
{
	static struct fixture f;
	pid_t pid = fork();

	if (!pid)
		_exit(0);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	start(&f, false);
	launch(&f, (uint32_t)pid, LAUNCH, at(&f, STUB_A));
	assert_int_equal(f.put_count, 1);
	complete(&f, 0);
	assert_string_equal(f.name, "");
	assert_string_equal(f.path, "");
	end(&f);
}

/* Of more processes that have ended than are kept, the last ones can still be looked up. */
static void test_many(void **state)
{
	static struct fixture f;

	start(&f, false);
	for (uint32_t i = 0; i < 200; i++) {
		struct pt_process process = f.process;

		process.module_count = 2;
		assert_int_equal(kernels_look(f.kernels, &process, 100 + i), 0);
		kernels_forget(f.kernels, process.pid);
	}
	launch(&f, (uint32_t)getpid(), LAUNCH, at(&f, STUB_B));
	complete(&f, 0);
	assert_string_equal(f.name, "plain");
	end(&f);
}

/* It is freed while files wait to be decoded; and batches that are damaged do no harm. */
static void test_damage(void **state)
{
	static struct fixture f;
	struct rec_thread t = rec_thread((uint32_t)getpid(), (uint32_t)getpid(), IMAGE, "x");
	const uint64_t words[] = {0x99};

	start(&f, false);
	batch_begin(&f.builder, &t, 5000);
	batch_cuda(&f.builder, PT_X_CUDA_BEGIN, PT_CUDA_DESC(LAUNCH, 0, 0), words, 1, 5010);
	batch_end(&f.builder, 0); /* too short for a kernel */
	batch_begin(&f.builder, &t, 6000);
	batch_cuda(&f.builder, PT_X_CUDA_BEGIN, PT_CUDA_DESC(LAUNCH, 0, 0), words, 1, 6010);
	f.builder.batch.word_count--;
	batch_end(&f.builder, 0);
	assert_int_equal(f.put_count, 0);
	f.process.module_count = 2;
	assert_int_equal(kernels_look(f.kernels, &f.process, IMAGE), 0);
	end(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_stub),          cmocka_unit_test(test_handle),
	    cmocka_unit_test(test_moves),         cmocka_unit_test(test_unknown_process),
	    cmocka_unit_test(test_folded),        cmocka_unit_test(test_many),
	    cmocka_unit_test(test_damage),        cmocka_unit_test(test_loaded),
	    cmocka_unit_test(test_loaded_damage),
	};

	return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
