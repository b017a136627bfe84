// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/* Functions of a libcudart inside of a file without symbols: found by name and number, or not. */
#include <dlfcn.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/err.h"
#include "cuda/calls.h"
#include "cuda/statics.h"
#include "elf_builder.h"
#include "scratch.h"

enum { S_NULL, S_NAMES, S_TEXT, S_RODATA, S_DYNSTR, S_EH, S_COUNT };

#define FUNCTIONS  3
#define FUNCTION   0x100u /* bytes */
#define AT(i)      (ELF_CODE + (i)*FUNCTION)
#define AT_TEXTS   (ELF_DATA + 0x100)
#define AT_NAMES   (ELF_DATA + 0x200)
#define AT_EH      (ELF_DATA + 0x300)
#define AT_DYNSTR  (ELF_DATA + 0x600)
#define AT_HEADERS (ELF_DATA + 0x800)
#define AT_WORD    (ELF_DATA + 0xa00)

static const char names[] = "\0.shstrtab\0.text\0.rodata\0.dynstr\0.eh_frame";
static const char texts[] = "x\0cudaMalloc\0cudaFree\0cudaMallocHost\0cudaMemPrefetchBatchAsync\0"
			    "cudaStreamGetCaptureInfo\0pcudaFreeArray";
#define TEXT_MALLOC  (AT_TEXTS + 2)
#define TEXT_FREE    (AT_TEXTS + 13)
#define TEXT_HOST    (AT_TEXTS + 22)
#define TEXT_CAPTURE (AT_TEXTS + 63)
#define TEXT_TAIL    (AT_TEXTS + 89) /* cudaFreeArray, but of a longer string */
#define CBID_MALLOC  20
#define CBID_FREE    22
#define CBID_HOST    25
#define CBID_CAPTURE 461 /* of CUDA 13; 324 before */

struct code {
	struct elf_image *image;
	uint64_t vaddr;
};

static void put(struct code *code, const void *bytes, size_t count)
{
	memcpy(code->image->bytes + code->vaddr, bytes, count);
	code->vaddr += count;
}

static void put_lea(struct code *code, uint64_t to)
{
	int32_t distance = (int32_t)(to - (code->vaddr + 7));

	put(code, "\x48\x8d\x05", 3); /* lea to(%rip), %rax */
	put(code, &distance, sizeof(distance));
}

static void put_in_register(struct code *code, uint32_t number)
{
	put(code, "\xbf", 1); /* mov $number, %edi */
	put(code, &number, sizeof(number));
}

static void put_in_memory(struct code *code, uint32_t number)
{
	put(code, "\x48\xc7\x45\xa0", 4); /* movq $number, -0x60(%rbp) */
	put(code, &number, sizeof(number));
}

/* As libcudart's are. */
static void put_function(struct elf_image *image, uint64_t vaddr, uint64_t name, uint32_t number)
{
	struct code code = {image, vaddr};

	put(&code, "\x55\x48\x89\xe5", 4);
	put_lea(&code, name);
	put_in_memory(&code, number);
	put_in_register(&code, number);
	put(&code, "\xc9\xc3", 2);
}

static void put_section(Elf64_Shdr *section, uint32_t name, uint64_t flags, uint64_t at,
			uint64_t size)
{
	*section = (Elf64_Shdr){.sh_name = name,
				.sh_type = SHT_PROGBITS,
				.sh_flags = flags,
				.sh_addr = at,
				.sh_offset = at,
				.sh_size = size};
}

/* cudaMalloc() and cudaFree(), and room for one more. */
static struct elf_image *build(void)
{
	static const uint32_t functions[FUNCTIONS][2] = {
	    {AT(0), FUNCTION}, {AT(1), FUNCTION}, {AT(2), FUNCTION}};
	static const char imports[] = "\0dlsym\0dlvsym";
	struct elf_image *image = malloc(sizeof(*image));
	Elf64_Shdr *s;
	size_t eh_bytes;

	if (!image)
		abort();
	elf_build(image, NULL, 0);
	put_function(image, AT(0), TEXT_MALLOC, CBID_MALLOC);
	put_function(image, AT(1), TEXT_FREE, CBID_FREE);
	s = (Elf64_Shdr *)(image->bytes + AT_HEADERS);
	eh_bytes = elf_build_eh_frame(image->bytes + AT_EH, AT_EH, functions, FUNCTIONS);
	memcpy(image->bytes + AT_NAMES, names, sizeof(names));
	memcpy(image->bytes + AT_TEXTS, texts, sizeof(texts));
	memcpy(image->bytes + AT_DYNSTR, imports, sizeof(imports));
	put_section(s + S_NAMES, 1, 0, AT_NAMES, sizeof(names));
	put_section(s + S_TEXT, 11, SHF_ALLOC | SHF_EXECINSTR, ELF_CODE, ELF_CODE_BYTES);
	put_section(s + S_RODATA, 17, SHF_ALLOC, AT_TEXTS, sizeof(texts));
	put_section(s + S_DYNSTR, 25, SHF_ALLOC, AT_DYNSTR, sizeof(imports));
	put_section(s + S_EH, 33, SHF_ALLOC, AT_EH, eh_bytes);
	elf_head(image)->e_shoff = AT_HEADERS;
	elf_head(image)->e_shnum = S_COUNT;
	elf_head(image)->e_shstrndx = S_NAMES;
	return image;
}

static int find(const struct elf_image *image, const char *cache, struct pt_cuda_statics *statics)
{
	struct elf_file *elf;
	struct pt_err err = {0};
	int rc = elf_file_memory(image, sizeof(*image), &elf, &err);

	memset(statics, 0, sizeof(*statics));
	if (rc)
		return rc;
	rc = pt_cuda_statics_load(elf, cache, NULL, statics);
	elf_file_close(elf);
	return rc;
}

/* 0: it is not among them */
static uint64_t address_of(const struct pt_cuda_statics *statics, const char *symbol)
{
	for (size_t i = 0; i < statics->count; i++)
		if (!strcmp(statics->fns[i].row->symbol, symbol))
			return statics->fns[i].vaddr;
	return 0;
}

/* What is found of an image with a third function, which is freed. */
static void expect(struct elf_image *image, size_t count, size_t refused, uint64_t malloc_at)
{
	struct pt_cuda_statics statics;

	assert_int_equal(find(image, NULL, &statics), 0);
	assert_int_equal(statics.count, count);
	assert_int_equal(statics.refused, refused);
	assert_int_equal(address_of(&statics, "cudaMalloc"), malloc_at);
	assert_int_equal(address_of(&statics, "cudaFree"), AT(1));
	pt_cuda_statics_release(&statics);
	free(image);
}

static void test_found(void **state)
{
	struct elf_image *image = build();
	struct pt_cuda_statics statics;

	put_function(image, AT(2), TEXT_CAPTURE, CBID_CAPTURE);
	assert_int_equal(find(image, NULL, &statics), 0);
	assert_int_equal(statics.major, 13);
	assert_int_equal(statics.count, 3);
	assert_int_equal(address_of(&statics, "cudaStreamGetCaptureInfo"), AT(2));
	pt_cuda_statics_release(&statics);
	free(image);
	expect(build(), 2, 0, AT(0));
}

/* The same symbol, with the number that goes with other arguments. */
static void test_other_form(void **state)
{
	struct elf_image *image = build();

	put_function(image, AT(2), TEXT_CAPTURE, 324);
	expect(image, 2, 1, AT(0));
	/* before CUDA 13 that is the right one */
	image = build();
	put_function(image, AT(2), TEXT_CAPTURE, 324);
	image->bytes[AT_TEXTS + 37] = 'X';
	expect(image, 3, 0, AT(0));
}

/* As CUDA 12's compiler does it: the code loads the name's address from a word. */
static void test_word(void **state)
{
	const uint64_t name = TEXT_HOST;
	int32_t distance = (int32_t)(AT_WORD - (AT(2) + 4 + 8));
	struct elf_image *image = build();
	struct code code = {image, AT(2)};
	struct pt_cuda_statics statics;

	image->bytes[AT_TEXTS + 37] = 'X';
	memcpy(image->bytes + AT_WORD, &name, sizeof(name));
	put(&code, "\x55\x48\x89\xe5", 4);
	put(&code, "\xf3\x0f\x7e\x05", 4); /* movq word(%rip), %xmm0 */
	put(&code, &distance, sizeof(distance));
	put_in_memory(&code, CBID_HOST);
	put_in_register(&code, CBID_HOST);
	put(&code, "\xc9\xc3", 2);
	for (int i = 0; i < 2; i++) { /* found, and out of the cache */
		assert_int_equal(find(image, scratch_path(""), &statics), 0);
		assert_int_equal(statics.count, 3);
		assert_int_equal(address_of(&statics, "cudaMallocHost"), AT(2));
		pt_cuda_statics_release(&statics);
	}
	/* another word; what the cache has does not hold then */
	image->bytes[AT_WORD]++;
	assert_int_equal(find(image, scratch_path(""), &statics), 0);
	assert_int_equal(statics.count, 2);
	pt_cuda_statics_release(&statics);
	image->bytes[AT_WORD]--;
	/* 13's does not */
	image->bytes[AT_TEXTS + 37] = 'c';
	expect(image, 2, 0, AT(0));
}

static void test_doubt(void **state)
{
	struct elf_image *image = build();
	struct code code = {image, AT(2)};

	/* two functions with the same name and number */
	put_function(image, AT(2), TEXT_MALLOC, CBID_MALLOC);
	expect(image, 1, 1, 0);
	/* another one that only uses the name */
	image = code.image = build();
	put(&code, "\x55", 1);
	put_lea(&code, TEXT_MALLOC);
	put(&code, "\xc3", 1);
	expect(image, 2, 0, AT(0));
	/* a second name in the same function */
	image = build();
	code = (struct code){image, AT(0) + 40};
	put_lea(&code, TEXT_HOST);
	expect(image, 1, 2, 0);
	/* the number as an argument only */
	image = build();
	code = (struct code){image, AT(0) + 11};
	put_in_memory(&code, CBID_MALLOC + 1);
	expect(image, 1, 1, 0);
	/* it does not begin as a function does */
	image = build();
	image->bytes[AT(0)] = 0x90;
	expect(image, 1, 1, 0);
	/* the end of a longer string is no name */
	image = build();
	put_function(image, AT(2), TEXT_TAIL, 160);
	expect(image, 2, 0, AT(0));
}

/* If all is in doubt, that is an error; the library's file has no other names. */
static void test_all_in_doubt(void **state)
{
	const struct pt_cuda_inside_options options = {.want = PT_CUDA_WANT_RUNTIME};
	struct elf_image *image = build();
	struct pt_cuda_library *library;
	struct pt_err err = {0};
	bool inside;

	image->bytes[AT(0)] = 0x90;
	scratch_write(scratch_path("one"), image, sizeof(*image));
	assert_int_equal(
	    pt_cuda_library_load(scratch_path("one"), "one", options.want, &library, &inside, &err),
	    0);
	assert_null(library);
	assert_true(inside);
	assert_int_equal(
	    pt_cuda_library_load_inside(scratch_path("one"), "one", &options, &library, &err), 0);
	assert_int_equal(library->plan.site_count, 1);
	assert_int_equal(library->refused, 1);
	assert_int_equal(library->plan.sites[0].vaddr, AT(1));
	pt_cuda_library_free(library);
	image->bytes[AT(1)] = 0x90;
	scratch_write(scratch_path("none"), image, sizeof(*image));
	assert_int_equal(
	    pt_cuda_library_load_inside(scratch_path("none"), "none", &options, &library, &err),
	    -ENOTSUP);
	assert_null(library);
	assert_non_null(strstr(err.what, "not sure"));
	free(image);
}

/* A part that the compiler moved elsewhere is not where the function begins. */
static void test_moved_part(void **state)
{
	struct elf_image *image = build();
	static const uint32_t functions[][2] = {
	    {AT(0) + 8, FUNCTION - 8}, {AT(1), FUNCTION}, {AT(2), FUNCTION}};

	put_function(image, AT(0) + 8, TEXT_MALLOC, CBID_MALLOC);
	elf_build_eh_frame(image->bytes + AT_EH, AT_EH, functions, FUNCTIONS);
	expect(image, 1, 1, 0);
}

static void test_likely(void **state)
{
	struct elf_image *image = build();
	struct elf_file *elf;
	struct pt_err err = {0};

	assert_int_equal(elf_file_memory(image, sizeof(*image), &elf, &err), 0);
	assert_true(pt_cuda_statics_likely(elf));
	elf_file_close(elf);
	image->bytes[AT_DYNSTR + 9] = 'X';
	assert_int_equal(elf_file_memory(image, sizeof(*image), &elf, &err), 0);
	assert_false(pt_cuda_statics_likely(elf));
	elf_file_close(elf);
	free(image);
}

/* It has the name because it exports the function. */
static void test_not_libc(void **state)
{
	struct elf_file *elf;
	struct pt_err err = {0};
	Dl_info info;

	assert_int_not_equal(dladdr((void *)(uintptr_t)getpid, &info), 0);
	assert_int_equal(elf_file_open(info.dli_fname, &elf, &err), 0);
	assert_false(pt_cuda_statics_likely(elf));
	elf_file_close(elf);
}

/* What the cache has is believed as long as the file says the same. */
static void test_cache(void **state)
{
	struct elf_image *image = build();
	struct pt_cuda_statics statics;
	const char *dir = scratch_path("");

	assert_int_equal(find(image, dir, &statics), 0);
	assert_int_equal(statics.count, 2);
	pt_cuda_statics_release(&statics);
	/* seen only by who looks anew */
	put_function(image, AT(2), TEXT_CAPTURE, CBID_CAPTURE);
	assert_int_equal(find(image, dir, &statics), 0);
	assert_int_equal(statics.count, 2);
	assert_int_equal(address_of(&statics, "cudaFree"), AT(1));
	pt_cuda_statics_release(&statics);
	put_function(image, AT(0), TEXT_HOST, CBID_HOST);
	assert_int_equal(find(image, dir, &statics), 0);
	assert_int_equal(statics.count, 3);
	assert_int_equal(address_of(&statics, "cudaMalloc"), 0);
	pt_cuda_statics_release(&statics);
	free(image);
}

static void test_bad(void **state)
{
	struct elf_image *image = build();
	struct pt_cuda_statics statics;

	/* no .eh_frame */
	image->bytes[AT_NAMES + 33 + 1] = 'X';
	assert_int_equal(find(image, NULL, &statics), -ENOENT);
	free(image);
	for (unsigned int seed = 1; seed <= 2000; seed++) {
		image = build();
		srand(seed);
		for (int i = 0; i < 20; i++)
			image->bytes[(size_t)rand() % sizeof(*image)] = (uint8_t)rand();
		if (!find(image, NULL, &statics))
			pt_cuda_statics_release(&statics);
		free(image);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_found),        cmocka_unit_test(test_other_form),
	    cmocka_unit_test(test_word),         cmocka_unit_test(test_doubt),
	    cmocka_unit_test(test_all_in_doubt), cmocka_unit_test(test_moved_part),
	    cmocka_unit_test(test_likely),       cmocka_unit_test(test_not_libc),
	    cmocka_unit_test(test_cache),        cmocka_unit_test(test_bad),
	};

	return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
