// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/* Names of CUDA kernels: read from a small file's registration code, kept in the cache, demangled.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "cuda/names.h"
#include "kernel_image.h"
#include "scratch.h"
#include "target/elf.h"

#define MUTATIONS 5000

static int decode(const struct elf_image *image, struct pt_kernels **kernels, struct pt_err *err)
{
	struct elf_file *elf;
	int rc = elf_file_memory(image, sizeof(*image), &elf, err);

	if (rc)
		return rc;
	rc = pt_kernels_decode(elf, NULL, kernels, err);
	elf_file_close(elf);
	return rc;
}

static void expect(const struct pt_kernels *kernels, uint64_t host, uint64_t handle,
		   const char *name)
{
	size_t count;
	const struct pt_kernel *kernel = pt_kernels_find(kernels, host, &count);

	assert_non_null(kernel);
	assert_int_equal(count, 1);
	assert_int_equal(kernel->host, host);
	assert_int_equal(kernel->handle, handle);
	assert_string_equal(kernel->name, name);
}

static void expect_all(const struct pt_kernels *kernels)
{
	assert_int_equal(kernels->count, 3);
	assert_int_equal(kernels->undecoded, 0);
	assert_true(kernels->device_code);
	assert_int_equal(kernels->registrar, REGISTRAR);
	expect(kernels, STUB_A, HANDLE_A, "_Z4axpyIfEvT_PKS0_PS0_i");
	expect(kernels, STUB_B, HANDLE_B, "plain");
	expect(kernels, STUB_C, 0, "_ZN4deep5scaleEPfi");
	assert_null(pt_kernels_find(kernels, STUB_A + 1, NULL));
	assert_null(pt_kernels_find(kernels, 0, NULL));
	assert_null(pt_kernels_find(kernels, UINT64_MAX, NULL));
}

static void test_decode(void **state)
{
	struct elf_image *image = build("", 0);
	struct pt_kernels *kernels;

	(void)state;
	assert_int_equal(decode(image, &kernels, NULL), 0);
	expect_all(kernels);
	pt_kernels_free(kernels);
	free(image);
}

/* What makes a registration doubtful: it is counted, not guessed, and the others are there. */
static void test_doubt(void **state)
{
	static const struct {
		const char *bytes;
		size_t count;
	} doubts[] = {
	    {"\xeb\x00", 2},                     /* a jump to the next instruction: paths join */
	    {"\x48\x8d\x0d\x00\x00\x00\x00", 7}, /* lea 0(%rip), %rcx: two texts */
	    {"\x45\x31\xc0", 3},                 /* xor %r8d, %r8d */
	    {"\x48\x8b\x36", 3},                 /* mov (%rsi), %rsi */
	    {"\xe8\x00\x00\x00\x00", 5},         /* a call: it changes the arguments */
	    {"\x48\x8d\x35\x00\x20\x00\x00", 7}, /* lea to data, %rsi */
	};

	(void)state;
	for (size_t i = 0; i < sizeof(doubts) / sizeof(doubts[0]); i++) {
		struct elf_image *image = build(doubts[i].bytes, doubts[i].count);
		struct pt_kernels *kernels;

		assert_int_equal(decode(image, &kernels, NULL), 0);
		assert_int_equal(kernels->count, 2);
		assert_int_equal(kernels->undecoded, 1);
		assert_null(pt_kernels_find(kernels, STUB_A, NULL));
		expect(kernels, STUB_B, HANDLE_B, "plain");
		pt_kernels_free(kernels);
		free(image);
	}
}

/* The last bytes of the code are a registration's jump. */
static void test_end_of_code(void **state)
{
	struct elf_image *image = build("", 0);
	Elf64_Shdr *sections = (Elf64_Shdr *)(image->bytes + AT_HEADERS);
	struct code code = {image, CONSTRUCTOR};
	struct pt_kernels *kernels;

	(void)state;
	for (int i = 0; i < 3; i++)
		put_registration(&code, STUB_A, TEXT_A, "", 0, i < 2 ? CALL : JMP);
	sections[S_TEXT].sh_size = code.vaddr - ELF_CODE;
	assert_int_equal(decode(image, &kernels, NULL), 0);
	assert_int_equal(kernels->count + kernels->undecoded, 0); /* the stub is no code now */
	pt_kernels_free(kernels);
	code = (struct code){image, CONSTRUCTOR};
	for (int i = 0; i < 3; i++)
		put_registration(&code, i < 2 ? REGISTRAR : GET_KERNEL, i < 2 ? TEXT_A : TEXT_B, "",
				 0, i < 2 ? CALL : JMP);
	assert_int_equal(decode(image, &kernels, NULL), 0);
	assert_int_equal(kernels->count, 2); /* one is registered twice */
	assert_int_equal(kernels->undecoded, 0);
	expect(kernels, GET_KERNEL, 0, "plain");
	pt_kernels_free(kernels);
	free(image);
}

/* One address with two names, as when a linker folds equal stubs. */
static void test_folded(void **state)
{
	struct elf_image *image = build("", 0);
	struct code code = {image, CONSTRUCTOR};
	struct pt_kernels *kernels;
	const struct pt_kernel *first;
	size_t count;

	(void)state;
	put_registration(&code, STUB_A, TEXT_B, "", 0, CALL);
	assert_int_equal(decode(image, &kernels, NULL), 0);
	first = pt_kernels_find(kernels, STUB_A, &count);
	assert_int_equal(count, 2);
	assert_string_equal(first[0].name, "_Z4axpyIfEvT_PKS0_PS0_i");
	assert_string_equal(first[1].name, "plain");
	assert_int_equal(first[0].handle, HANDLE_A);
	assert_int_equal(first[1].handle, HANDLE_A);
	pt_kernels_free(kernels);
	free(image);
}

/* A name that could not be printed, or that has no end, is none. */
static void test_bad_names(void **state)
{
	struct elf_image *image = build("", 0);
	struct pt_kernels *kernels;

	(void)state;
	memcpy(image->bytes + TEXT_B + 1, "\x1b[2J", 4);
	memcpy(image->bytes + TEXT_C + 1, "\xff\xfe", 2);
	assert_int_equal(decode(image, &kernels, NULL), 0);
	assert_int_equal(kernels->count, 1);
	assert_int_equal(kernels->undecoded, 2);
	expect(kernels, STUB_A, HANDLE_A, "_Z4axpyIfEvT_PKS0_PS0_i");
	pt_kernels_free(kernels);
	free(image);
}

static void test_refusals(void **state)
{
	struct elf_image *image = build("", 0);
	Elf64_Shdr *sections = (Elf64_Shdr *)(image->bytes + AT_HEADERS);
	struct pt_kernels *kernels;
	struct pt_err err = {0};

	(void)state;
	sections[S_FATBIN].sh_name = 0; /* no CUDA: nothing to say */
	assert_int_equal(decode(image, &kernels, &err), 0);
	assert_int_equal(kernels->count + kernels->undecoded, 0);
	assert_false(kernels->device_code);
	assert_false(pt_err_is_set(&err));
	pt_kernels_free(kernels);
	sections[S_FATBIN].sh_name = 17;
	sections[S_EH].sh_name = 0;
	assert_int_equal(decode(image, &kernels, &err), -ENOENT);
	assert_non_null(strstr(err.what, ".eh_frame"));
	pt_err_clear(&err);
	sections[S_EH].sh_name = 34;
	elf_head(image)->e_machine = EM_AARCH64;
	assert_int_equal(decode(image, &kernels, &err), -ENOTSUP);
	assert_true(pt_err_is_set(&err));
	pt_err_clear(&err);
	elf_head(image)->e_machine = EM_X86_64;
	elf_head(image)->e_shnum = 0;
	assert_int_equal(decode(image, &kernels, &err), -ENOEXEC);
	assert_true(pt_err_is_set(&err));
	pt_err_clear(&err);
	elf_head(image)->e_shnum = S_COUNT;
	sections[S_FATBIN].sh_flags |= SHF_EXECINSTR; /* more code than there are bytes */
	sections[S_FATBIN].sh_size = ELF_DATA + ELF_DATA_BYTES;
	sections[S_FATBIN].sh_offset = 0;
	assert_int_equal(decode(image, &kernels, &err), -E2BIG);
	assert_true(pt_err_is_set(&err));
	pt_err_clear(&err);
	sections[S_FATBIN].sh_size = ELF_DATA_BYTES; /* code where no segment is */
	sections[S_FATBIN].sh_addr = ELF_DATA + ELF_DATA_BYTES;
	assert_int_equal(decode(image, &kernels, &err), -EIO);
	assert_true(pt_err_is_set(&err));
	free(image);
}

static void test_stop(void **state)
{
	struct elf_image *image = build("", 0);
	struct pt_kernels *kernels;
	struct pt_err err = {0};
	struct elf_file *elf;
	atomic_bool stop = true;

	(void)state;
	assert_int_equal(elf_file_memory(image, sizeof(*image), &elf, NULL), 0);
	assert_int_equal(pt_kernels_decode(elf, &stop, &kernels, &err), -ECANCELED);
	assert_true(pt_err_is_set(&err));
	elf_file_close(elf);
	free(image);
}

/* Whatever the bytes are: no crash, and only addresses of code. */
static void test_damage(void **state)
{
	struct elf_image *image = build("", 0), *changed = malloc(sizeof(*changed));

	(void)state;
	assert_non_null(changed);
	srand(1);
	for (int i = 0; i < MUTATIONS; i++) {
		struct pt_kernels *kernels;

		memcpy(changed, image, sizeof(*changed));
		for (int k = rand() % 8; k >= 0; k--) {
			static const uint32_t areas[] = {0,     CONSTRUCTOR, STUB_A,
							 AT_EH, AT_HEADERS,  AT_TEXTS};

			changed->bytes[areas[rand() % 6] + (uint32_t)(rand() % 0x100)] = (uint8_t)
			    rand();
		}
		if (decode(changed, &kernels, NULL))
			continue;
		for (size_t k = 0; k < kernels->count; k++)
			assert_non_null(pt_kernels_find(kernels, kernels->kernels[k].host, NULL));
		pt_kernels_free(kernels);
	}
	free(changed);
	free(image);
}

/* ---- the cache ---- */

static struct pt_kernels *open_cached(const struct elf_image *image)
{
	const struct pt_kernels_options options = {.cache_dir = scratch_path("")};
	struct pt_kernels *kernels;
	struct pt_err err = {0};

	scratch_write(scratch_path("program"), image, sizeof(*image));
	assert_int_equal(pt_kernels_open(scratch_path("program"), &options, &kernels, &err), 0);
	return kernels;
}

#define CACHED "kernels-"

static void test_cache(void **state)
{
	struct elf_image *image = build("", 0);
	struct pt_kernels *kernels = open_cached(image);

	(void)state;
	expect_all(kernels); /* decoded */
	pt_kernels_free(kernels);
	kernels = open_cached(image);
	expect_all(kernels); /* read */
	pt_kernels_free(kernels);
	/* Another file of that build id: other names, other code. */
	image->bytes[TEXT_B] = 'P';
	kernels = open_cached(image);
	expect(kernels, STUB_B, HANDLE_B, "Plain");
	pt_kernels_free(kernels);
	put_registration(&(struct code){image, CONSTRUCTOR}, STUB_B, TEXT_C, "", 0, CALL);
	kernels = open_cached(image);
	expect(kernels, STUB_B, HANDLE_B, "_ZN4deep5scaleEPfi");
	pt_kernels_free(kernels);
	free(image);
}

/* ---- handles ---- */

static void test_handles(void **state)
{
	static uint64_t variables[1024];
	uint64_t bias = (uint64_t)(uintptr_t)variables - 8;
	struct pt_kernel rows[] = {{.host = 1, .handle = 8, .name = "a"},
				   {.host = 2, .handle = 8 + 8 * 1023, .name = "b"},
				   {.host = 3, .handle = 8 + 8 * 7, .name = "c"},
				   {.host = 4, .name = "d"}};
	const struct pt_kernels kernels = {.kernels = rows, .count = 4};
	struct pt_kernel_handles handles = {0};

	(void)state;
	variables[0] = 0xabc;
	variables[1023] = 0xdef;
	assert_int_equal(pt_kernel_handles_read(&handles, &kernels, getpid(), bias), 2);
	assert_ptr_equal(pt_kernel_handles_find(&handles, 0xabc), &rows[0]);
	assert_ptr_equal(pt_kernel_handles_find(&handles, 0xdef), &rows[1]);
	assert_null(pt_kernel_handles_find(&handles, 0x123));
	variables[7] = 0x123; /* its stub has run meanwhile */
	assert_int_equal(pt_kernel_handles_read(&handles, &kernels, getpid(), bias), 3);
	assert_ptr_equal(pt_kernel_handles_find(&handles, 0x123), &rows[2]);
	assert_int_equal(pt_kernel_handles_read(&handles, &kernels, getpid(), 0), -EFAULT);
	pt_kernel_handles_release(&handles);
}

/* ---- names ---- */

static void expect_demangled(const char *name, const char *wanted)
{
	char *text = pt_kernel_demangle(name);

	if (wanted)
		assert_string_equal(text, wanted);
	else
		assert_null(text);
	free(text);
}

static void test_demangle(void **state)
{
	(void)state;
	expect_demangled("_Z4axpyIfEvT_PKS0_PS0_i",
			 "void axpy<float>(float, float const*, float*, int)");
	expect_demangled("_ZN4deep5scaleEPfi", "deep::scale(float*, int)");
	expect_demangled("__nv_static_9__a_1_b_cu__ZN12_GLOBAL__N_13oneEPi",
			 "(anonymous namespace)::one(int*)");
	expect_demangled("plain", NULL);
	expect_demangled("", NULL);
	expect_demangled("_Z", NULL);
	expect_demangled("__nv_static_", NULL);
	expect_demangled("__nv_static_99999999999999999999__ZN1aE", NULL);
}

/* A few hundred characters that stand for 2^60. */
static void test_demangle_long(void **state)
{
	static const char digits[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ";
	char name[4096] = "_Z1f1XIiiES_IS0_S0_E";
	size_t len = strlen(name);

	(void)state;
	for (int i = 1; i < 30; i++)
		len += (size_t)snprintf(name + len, sizeof(name) - len, "S_IS%c_S%c_E", digits[i],
					digits[i]);
	expect_demangled(name, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_decode),        cmocka_unit_test(test_doubt),
	    cmocka_unit_test(test_folded),        cmocka_unit_test(test_bad_names),
	    cmocka_unit_test(test_refusals),      cmocka_unit_test(test_stop),
	    cmocka_unit_test(test_damage),        cmocka_unit_test(test_cache),
	    cmocka_unit_test(test_handles),       cmocka_unit_test(test_demangle),
	    cmocka_unit_test(test_demangle_long), cmocka_unit_test(test_end_of_code),
	};

	return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
