// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/* The ELF and .eh_frame readers: what they find in a small file, and that damage does no harm. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "elf_builder.h"
#include "target/ehframe.h"

#define MUTATIONS 20000

enum { S_NULL, S_NAMES, S_DYNSYM, S_DYNSTR, S_RELA, S_EH, S_SDT, S_COUNT };

/* Where the parts lie in the data segment. */
#define AT_NAMES    (ELF_DATA + 0x100)
#define AT_SYMS     (ELF_DATA + 0x200)
#define AT_STRINGS  (ELF_DATA + 0x300)
#define AT_RELA     (ELF_DATA + 0x400)
#define AT_EH       (ELF_DATA + 0x500)
#define AT_SDT      (ELF_DATA + 0x600)
#define AT_POINTERS (ELF_DATA + 0x700)
#define AT_HEADERS  (ELF_DATA + 0x800)

static const char names[] = "\0.shstrtab\0.dynsym\0.dynstr\0.rela.dyn\0.eh_frame\0.note.stapsdt";
static const char strings[] = "\0alpha\0beta\0imported";

static void section(struct elf_image *image, int index, uint32_t name, uint32_t type, uint64_t at,
		    uint64_t size, uint32_t link, uint64_t entry)
{
	Elf64_Shdr *headers = (Elf64_Shdr *)(image->bytes + AT_HEADERS);

	headers[index] = (Elf64_Shdr){.sh_name = name,
				      .sh_type = type,
				      .sh_flags = SHF_ALLOC,
				      .sh_addr = at,
				      .sh_offset = at,
				      .sh_size = size,
				      .sh_link = link,
				      .sh_entsize = entry};
}

/* Two FDEs, given in the wrong order, then a third out of the code, then the first again. */
static size_t put_eh_frame(uint8_t *to, uint64_t vaddr)
{
	static const uint32_t ranges[][2] = {
	    {ELF_CODE + 0x100, 0x40}, {ELF_CODE, 0x80}, {ELF_DATA, 0x10}, {ELF_CODE + 0x100, 0x40}};

	return elf_build_eh_frame(to, vaddr, ranges, 4);
}

static size_t put_sdt(uint8_t *to)
{
	static const char texts[] = "python\0function__entry\0-4@%eax";
	Elf64_Nhdr head = {8, 24 + sizeof(texts), 3};
	uint64_t words[3] = {ELF_CODE + 0x10, 0, ELF_DATA + 8};

	memcpy(to, &head, sizeof(head));
	memcpy(to + 12, "stapsdt", 8);
	memcpy(to + 20, words, sizeof(words));
	memcpy(to + 44, texts, sizeof(texts));
	return (44 + sizeof(texts) + 3) & ~3ul;
}

static void put_symbols(struct elf_image *image)
{
	Elf64_Sym *syms = (Elf64_Sym *)(image->bytes + AT_SYMS);
	Elf64_Rela *relas = (Elf64_Rela *)(image->bytes + AT_RELA);
	uint64_t plain = 0x1234;

	syms[1] = (Elf64_Sym){1, ELF64_ST_INFO(STB_GLOBAL, STT_FUNC), 0, 1, ELF_CODE + 0x20, 16};
	syms[2] = (Elf64_Sym){7, ELF64_ST_INFO(STB_GLOBAL, STT_OBJECT), 0, 1, ELF_DATA, 8};
	syms[3] = (Elf64_Sym){12, ELF64_ST_INFO(STB_GLOBAL, STT_FUNC), 0, SHN_UNDEF, 0, 0};
	relas[0] = (Elf64_Rela){AT_POINTERS + 16, ELF64_R_INFO(3, R_X86_64_GLOB_DAT), 0};
	relas[1] = (Elf64_Rela){AT_POINTERS, ELF64_R_INFO(0, R_X86_64_RELATIVE), ELF_CODE + 0x30};
	relas[2] = (Elf64_Rela){AT_POINTERS + 8, ELF64_R_INFO(2, R_X86_64_64), 4};
	memcpy(image->bytes + AT_POINTERS + 24, &plain, sizeof(plain));
}

static void build(struct elf_image *image)
{
	size_t eh_bytes, sdt_bytes;

	elf_build(image, NULL, 0);
	memcpy(image->bytes + AT_NAMES, names, sizeof(names));
	memcpy(image->bytes + AT_STRINGS, strings, sizeof(strings));
	put_symbols(image);
	eh_bytes = put_eh_frame(image->bytes + AT_EH, AT_EH);
	sdt_bytes = put_sdt(image->bytes + AT_SDT);
	section(image, S_NAMES, 1, SHT_STRTAB, AT_NAMES, sizeof(names), 0, 0);
	section(image, S_DYNSYM, 11, SHT_DYNSYM, AT_SYMS, 4 * sizeof(Elf64_Sym), S_DYNSTR,
		sizeof(Elf64_Sym));
	section(image, S_DYNSTR, 19, SHT_STRTAB, AT_STRINGS, sizeof(strings), 0, 0);
	section(image, S_RELA, 27, SHT_RELA, AT_RELA, 3 * sizeof(Elf64_Rela), S_DYNSYM,
		sizeof(Elf64_Rela));
	section(image, S_EH, 37, SHT_PROGBITS, AT_EH, eh_bytes, 0, 0);
	section(image, S_SDT, 47, SHT_NOTE, AT_SDT, sdt_bytes, 0, 0);
	elf_head(image)->e_shoff = AT_HEADERS;
	elf_head(image)->e_shnum = S_COUNT;
	elf_head(image)->e_shstrndx = S_NAMES;
}

static struct elf_file *open_image(const struct elf_image *image, size_t size)
{
	struct pt_err err = {0};
	struct elf_file *elf;

	assert_int_equal(elf_file_memory(image, size, &elf, &err), 0);
	return elf;
}

static void test_addresses(void **state)
{
	struct elf_image *image = malloc(sizeof(*image));
	struct elf_file *elf;
	uint64_t value;

	(void)state;
	build(image);
	elf = open_image(image, sizeof(*image));
	assert_true(elf_is_code(elf, ELF_CODE));
	assert_false(elf_is_code(elf, ELF_DATA));
	assert_false(elf_is_code(elf, 0));
	assert_true(elf_vaddr_to_offset(elf, ELF_DATA + 5, &value));
	assert_int_equal(value, ELF_DATA + 5);
	assert_true(elf_mapped_code(elf, ELF_CODE, &value));
	assert_int_equal(value, ELF_CODE);
	assert_false(elf_mapped_code(elf, ELF_DATA, &value));
	assert_false(elf_vaddr_to_offset(elf, ELF_DATA + ELF_DATA_BYTES, &value));
	assert_non_null(elf_at(elf, ELF_BYTES - 1, 1));
	assert_null(elf_at(elf, ELF_BYTES - 1, 2));
	assert_null(elf_at(elf, UINT64_MAX, 2));
	assert_null(elf_at(elf, 2, UINT64_MAX));
	assert_null(elf_at_vaddr(elf, ELF_DATA + ELF_DATA_BYTES - 4, 8));
	elf_file_close(elf);
	free(image);
}

/* As lld does it: the code begins in the page of the file in which the segment before ends. */
static void test_mapped_code(void **state)
{
	struct elf_image *image = malloc(sizeof(*image));
	struct elf_file *elf;
	uint64_t value;

	(void)state;
	build(image);
	elf_head(image)->e_phnum = 3;
	elf_segments(image)[2] = elf_segments(image)[0];
	elf_segments(image)[0] = (Elf64_Phdr){
	    .p_type = PT_LOAD, .p_flags = PF_R, .p_filesz = ELF_CODE + 0x130, .p_memsz = 0x130};
	elf_segments(image)[2].p_offset = ELF_CODE + 0x130;
	elf_segments(image)[2].p_vaddr = ELF_CODE + 0x8130;
	elf = open_image(image, sizeof(*image));
	assert_true(elf_mapped_code(elf, ELF_CODE, &value));
	assert_int_equal(value, ELF_CODE + 0x8000);
	assert_true(elf_mapped_code(elf, ELF_CODE + 0x1000, &value));
	assert_int_equal(value, ELF_CODE + 0x9000);
	assert_false(elf_mapped_code(elf, 0, &value));
	elf_file_close(elf);
	free(image);
}

static int note_check(const struct elf_sdt_note *note, void *ctx)
{
	unsigned int *count = ctx;

	assert_string_equal(note->provider, "python");
	assert_string_equal(note->name, "function__entry");
	assert_string_equal(note->args, "-4@%eax");
	assert_int_equal(note->vaddr, ELF_CODE + 0x10);
	assert_int_equal(note->semaphore_vaddr, ELF_DATA + 8);
	++*count;
	return 0;
}

static void test_symbols_pointers_notes(void **state)
{
	struct elf_image *image = malloc(sizeof(*image));
	struct elf_symbol symbol;
	struct elf_file *elf;
	unsigned int notes = 0;
	uint64_t value;

	(void)state;
	build(image);
	elf = open_image(image, sizeof(*image));
	assert_true(elf_symbol(elf, "alpha", &symbol));
	assert_int_equal(symbol.vaddr, ELF_CODE + 0x20);
	assert_int_equal(symbol.type, STT_FUNC);
	assert_false(elf_symbol(elf, "imported", &symbol));
	assert_false(elf_symbol(elf, "alp", &symbol));
	assert_int_equal(elf_read_ptr(elf, AT_POINTERS, &value), 0);
	assert_int_equal(value, ELF_CODE + 0x30);
	assert_int_equal(elf_read_ptr(elf, AT_POINTERS + 8, &value), 0);
	assert_int_equal(value, ELF_DATA + 4);
	assert_int_equal(elf_read_ptr(elf, AT_POINTERS + 16, &value), -ENXIO);
	assert_string_equal(elf_import_at(elf, AT_POINTERS + 16), "imported");
	assert_int_equal(elf_read_ptr(elf, AT_POINTERS + 24, &value), 0);
	assert_int_equal(value, 0x1234);
	assert_int_equal(elf_read_ptr(elf, 8, &value), -ENOENT);
	assert_int_equal(elf_each_sdt_note(elf, note_check, &notes), 0);
	assert_int_equal(notes, 1);
	elf_file_close(elf);
	free(image);
}

struct words {
	const struct elf_file *elf;
	uint64_t next, low, high; /* the word that was not seen yet */
	size_t count;
};

/* Those that were passed over have another value. */
static void passed_over(struct words *words, uint64_t end)
{
	uint64_t value;

	for (; words->next < end; words->next += 8)
		assert_true(elf_read_ptr(words->elf, words->next, &value) || value < words->low ||
			    value > words->high);
}

static int see_word(uint64_t vaddr, uint64_t value, void *ctx)
{
	struct words *words = ctx;
	uint64_t expected;

	passed_over(words, vaddr);
	assert_int_equal(vaddr, words->next);
	assert_int_equal(elf_read_ptr(words->elf, vaddr, &expected), 0);
	assert_int_equal(value, expected);
	words->next += 8;
	words->count++;
	return 0;
}

static void test_each_pointer(void **state)
{
	static const uint64_t ranges[][2] = {
	    {0, UINT64_MAX}, {1, UINT64_MAX}, {ELF_CODE, ELF_DATA + 4}, {0x1234, 0x1234}, {2, 1}};
	struct elf_image *image = malloc(sizeof(*image));
	size_t counts[sizeof(ranges) / sizeof(ranges[0])];

	(void)state;
	build(image);
	/* another file's address is written over this one */
	memcpy(image->bytes + AT_POINTERS + 16, &(uint64_t){0x1234}, 8);
	for (unsigned int shift = 0; shift < 16; shift += 3) {
		struct elf_file *elf;

		elf_segments(image)[1].p_vaddr = ELF_DATA + shift;
		elf_segments(image)[1].p_offset = ELF_DATA + shift;
		elf = open_image(image, sizeof(*image));
		for (size_t i = 0; i < sizeof(ranges) / sizeof(ranges[0]); i++) {
			struct words words = {.elf = elf,
					      .next = (ELF_DATA + shift + 7) & ~7ull,
					      .low = ranges[i][0],
					      .high = ranges[i][1]};

			assert_int_equal(elf_each_pointer(elf, &elf->segments[1], words.low,
							  words.high, see_word, &words),
					 0);
			passed_over(&words, (ELF_DATA + shift + ELF_DATA_BYTES) & ~7ull);
			counts[i] = words.count;
		}
		elf_file_close(elf);
	}
	assert_int_equal(counts[3], 1);
	assert_int_equal(counts[4], 0);
	assert_true(counts[0] > counts[1] && counts[1] > counts[2] && counts[2] >= 2);
	free(image);
}

static void test_ranges(void **state)
{
	struct elf_image *image = malloc(sizeof(*image));
	struct eh_ranges eh;
	struct elf_file *elf;

	(void)state;
	build(image);
	elf = open_image(image, sizeof(*image));
	assert_int_equal(eh_ranges_load(elf, &eh), 0);
	assert_int_equal(eh.count, 2); /* sorted; the one in the data and the double are left out */
	assert_int_equal(eh.ranges[0].start, ELF_CODE);
	assert_int_equal(eh.ranges[1].start, ELF_CODE + 0x100);
	assert_ptr_equal(eh_range_at(&eh, ELF_CODE + 0x7f), &eh.ranges[0]);
	assert_null(eh_range_at(&eh, ELF_CODE + 0x80));
	assert_null(eh_range_at(&eh, ELF_CODE - 1));
	assert_ptr_equal(eh_range_at(&eh, ELF_CODE + 0x13f), &eh.ranges[1]);
	assert_null(eh_range_at(&eh, UINT64_MAX));
	eh_ranges_release(&eh);
	elf_file_close(elf);
	free(image);
}

/* What BOLT makes: a part of a function (the CFA is rsp + 320 where it starts), and a jump of 5
 * bytes where a function was that has been moved. */
static void test_parts_and_patches(void **state)
{
	static const uint8_t cie[] = {0x14, 0,    0,  0, 0,    0,  0, 0, 1, 'z', 'R', 0,
				      1,    0x78, 16, 1, 0x1b, 12, 7, 8, 0, 0,   0,   0};
	static const struct {
		uint32_t start, bytes;
		uint8_t program[8]; /* behind the length of the augmentation data */
	} fdes[] = {{ELF_CODE, 0x80, {0, 0x41, 0x0e, 0x10}}, /* advance, def_cfa_offset 16 */
		    {ELF_CODE + 0x100, 0x40, {0, 0x83, 7, 0x0e, 0xc0, 2}}, /* offset, .. 320 */
		    {ELF_CODE + 0x200, 0x40, {0, 0x41, 0x0e, 0x10}},
		    {ELF_CODE + 0x200, 5, {0}},
		    {ELF_CODE + 0x300, 0x10, {0x7f, 0x0e, 0xc0, 2}}}; /* data that are not there */
	struct elf_image *image = malloc(sizeof(*image));
	uint64_t at = AT_EH + sizeof(cie);
	struct eh_ranges eh;
	struct elf_file *elf;

	(void)state;
	build(image);
	memcpy(image->bytes + AT_EH, cie, sizeof(cie));
	for (size_t i = 0; i < sizeof(fdes) / sizeof(fdes[0]); i++, at += 24) {
		uint32_t words[4] = {20, (uint32_t)(at + 4 - AT_EH),
				     fdes[i].start - (uint32_t)(at + 8), fdes[i].bytes};

		memcpy(image->bytes + at, words, sizeof(words));
		memcpy(image->bytes + at + 16, fdes[i].program, 8);
	}
	section(image, S_EH, 37, SHT_PROGBITS, AT_EH, at - AT_EH, 0, 0);
	elf = open_image(image, sizeof(*image));
	assert_int_equal(eh_ranges_load(elf, &eh), 0);
	assert_int_equal(eh.count, 4);
	assert_false(eh.ranges[0].inside);
	assert_true(eh.ranges[1].inside);
	assert_false(eh.ranges[2].inside);
	assert_int_equal(eh.ranges[2].end, ELF_CODE + 0x205);
	assert_null(eh_range_at(&eh, ELF_CODE + 0x220));
	assert_false(eh.ranges[3].inside);
	eh_ranges_release(&eh);
	elf_file_close(elf);
	free(image);
}

/* Without section headers the ranges come through PT_GNU_EH_FRAME. */
static void test_ranges_without_sections(void **state)
{
	struct elf_image *image = malloc(sizeof(*image));
	uint32_t offset = AT_EH - (ELF_DATA + 4);
	struct eh_ranges eh;
	struct elf_file *elf;

	(void)state;
	build(image);
	elf_head(image)->e_shnum = 0;
	elf_head(image)->e_phnum = 3;
	elf_segments(image)[2] = (Elf64_Phdr){
	    .p_type = PT_GNU_EH_FRAME, .p_offset = ELF_DATA, .p_vaddr = ELF_DATA, .p_filesz = 12};
	memcpy(image->bytes + ELF_DATA, "\x01\x1b\x03\x3b", 4);
	memcpy(image->bytes + ELF_DATA + 4, &offset, 4);
	elf = open_image(image, sizeof(*image));
	assert_int_equal(eh_ranges_load(elf, &eh), 0);
	assert_int_equal(eh.count, 2);
	eh_ranges_release(&eh);
	elf_file_close(elf);
	free(image);
}

static int open_status(const struct elf_image *image, size_t size)
{
	struct pt_err err = {0};
	struct elf_file *elf;
	int ret = elf_file_memory(image, size, &elf, &err);

	if (ret)
		assert_true(pt_err_is_set(&err));
	elf_file_close(elf);
	return ret;
}

static void test_refused_files(void **state)
{
	struct elf_image *image = malloc(sizeof(*image));

	(void)state;
	build(image);
	assert_int_equal(open_status(image, 0), -ENOEXEC);
	assert_int_equal(open_status(image, 63), -ENOEXEC);
	assert_int_equal(open_status(image, 64), -ENOEXEC); /* the program headers are cut off */
	elf_head(image)->e_ident[EI_CLASS] = ELFCLASS32;
	assert_int_equal(open_status(image, sizeof(*image)), -ENOTSUP);
	build(image);
	elf_head(image)->e_ident[EI_DATA] = ELFDATA2MSB;
	assert_int_equal(open_status(image, sizeof(*image)), -ENOTSUP);
	build(image);
	elf_head(image)->e_phnum = 0xffff;
	assert_int_equal(open_status(image, sizeof(*image)), -ENOEXEC);
	build(image);
	elf_head(image)->e_shoff = UINT64_MAX - 10; /* a file runs without section headers */
	assert_int_equal(open_status(image, sizeof(*image)), 0);
	memcpy(image->bytes, "#!/bin/sh", 9);
	assert_int_equal(open_status(image, sizeof(*image)), -ENOEXEC);
	free(image);
}

static int note_ignore(const struct elf_sdt_note *note, void *ctx)
{
	(void)ctx;
	return strlen(note->provider) + strlen(note->name) + strlen(note->args) > SIZE_MAX / 2;
}

/* Uses everything; what it says does not matter, only that it stays inside the file. */
static void exercise(const void *data, size_t size)
{
	struct pt_err err = {0};
	struct elf_symbol symbol;
	struct elf_file *elf;
	struct eh_ranges eh;
	uint64_t value;

	if (elf_file_memory(data, size, &elf, &err))
		return;
	elf_symbol(elf, "alpha", &symbol);
	elf_symbol(elf, "nowhere", &symbol);
	for (uint64_t at = 0; at < 40; at += 8)
		elf_read_ptr(elf, AT_POINTERS + at, &value);
	elf_import_at(elf, AT_POINTERS + 16);
	elf_string_at_vaddr(elf, AT_STRINGS + 1, 100);
	elf_each_sdt_note(elf, note_ignore, NULL);
	if (!eh_ranges_load(elf, &eh)) {
		for (size_t i = 0; i < eh.count; i++) {
			assert_true(eh.ranges[i].start < eh.ranges[i].end);
			assert_non_null(eh_range_at(&eh, eh.ranges[i].start));
		}
		eh_ranges_release(&eh);
	}
	elf_file_close(elf);
}

static uint32_t next_random(uint32_t *seed)
{
	*seed = *seed * 1664525u + 1013904223u;
	return *seed >> 8;
}

static void test_damage_does_no_harm(void **state)
{
	static const uint32_t areas[][2] = {
	    {0, 64 + 112}, {AT_NAMES, 80}, {AT_SYMS, 96}, {AT_STRINGS, 32},
	    {AT_RELA, 72}, {AT_EH, 88},    {AT_SDT, 80},  {AT_HEADERS, S_COUNT * 64}};
	static const uint8_t values[] = {0, 1, 4, 0x7f, 0x80, 0xff, 0xfe, 0x1b};
	struct elf_image *image = malloc(sizeof(*image));
	uint32_t seed = 1;

	(void)state;
	for (unsigned int n = 0; n < MUTATIONS; n++) {
		unsigned int changes = 1 + next_random(&seed) % 6;
		size_t size = sizeof(*image);
		uint8_t *copy;

		build(image);
		for (unsigned int c = 0; c < changes; c++) {
			const uint32_t *area = areas[next_random(&seed) % 8];

			image->bytes[area[0] + next_random(&seed) % area[1]] =
			    values[next_random(&seed) % sizeof(values)];
		}
		if (n % 7 == 0)
			size = next_random(&seed) % size;
		copy = malloc(size + 1); /* of its own size, so that ASan sees the end */
		memcpy(copy, image, size);
		exercise(copy, size);
		free(copy);
	}
	free(image);
}

/* The file shrinks between opening and reading: an error, not a signal. */
static void test_file_cut_while_open(void **state)
{
	struct elf_image *image = malloc(sizeof(*image));
	char path[] = "/tmp/pt-elf-XXXXXX";
	struct pt_err err = {0};
	struct elf_file *elf;
	const size_t far = 1u << 20;
	int fd = mkstemp(path);

	(void)state;
	build(image);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, image, sizeof(*image)), sizeof(*image));
	assert_int_equal(ftruncate(fd, far), 0);
	assert_int_equal(elf_file_open(path, &elf, &err), 0);
	assert_non_null(elf_at(elf, far - 300000, 10));
	assert_int_equal(ftruncate(fd, sizeof(*image)), 0);
	assert_null(elf_at(elf, far - 10, 10));
	assert_non_null(elf_at(elf, far - 300000, 10)); /* read before: kept */
	elf_file_close(elf);
	close(fd);
	unlink(path);
	free(image);
}

static void test_trim(void **state)
{
	struct elf_image *image = malloc(sizeof(*image));
	char path[] = "/tmp/pt-elf-XXXXXX";
	struct elf_file *elf;
	const size_t far = 1u << 20;
	int fd = mkstemp(path);

	(void)state;
	build(image);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, image, sizeof(*image)), sizeof(*image));
	assert_int_equal(ftruncate(fd, far), 0);
	assert_int_equal(elf_file_open(path, &elf, NULL), 0);
	assert_memory_equal(elf_at(elf, far - 4, 4), "\0\0\0\0", 4);
	assert_int_equal(pwrite(fd, "new!", 4, (off_t)far - 4), 4);
	elf_trim(elf, 1u << 20); /* less than that is held: it stays */
	assert_memory_equal(elf_at(elf, far - 4, 4), "\0\0\0\0", 4);
	elf_trim(elf, 0);
	assert_memory_equal(elf_at(elf, far - 4, 4), "new!", 4);
	assert_non_null(elf_section(elf, ".eh_frame")); /* the names stay */
	elf_file_close(elf);
	close(fd);
	unlink(path);
	free(image);
}

static void test_paths_that_are_no_files(void **state)
{
	char path[] = "/tmp/pt-elf-XXXXXX";
	struct pt_err err = {0};
	struct elf_file *elf;

	(void)state;
	assert_int_equal(elf_file_open("/nonexistent/python", &elf, &err), -ENOENT);
	assert_int_equal(err.exit_code, PT_EXIT_NO_TARGET);
	pt_err_clear(&err);
	assert_int_equal(elf_file_open("/tmp", &elf, &err), -ENOEXEC);
	pt_err_clear(&err);
	assert_int_equal(elf_file_open("/dev/null", &elf, &err), -ENOEXEC);
	pt_err_clear(&err);
	assert_non_null(mkdtemp(path));
	rmdir(path);
	assert_int_equal(mkfifo(path, 0600), 0);
	assert_int_equal(elf_file_open(path, &elf, &err), -ENOEXEC); /* and does not hang */
	unlink(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_addresses),
	    cmocka_unit_test(test_mapped_code),
	    cmocka_unit_test(test_symbols_pointers_notes),
	    cmocka_unit_test(test_each_pointer),
	    cmocka_unit_test(test_ranges),
	    cmocka_unit_test(test_parts_and_patches),
	    cmocka_unit_test(test_ranges_without_sections),
	    cmocka_unit_test(test_refused_files),
	    cmocka_unit_test(test_damage_does_no_harm),
	    cmocka_unit_test(test_file_cut_while_open),
	    cmocka_unit_test(test_trim),
	    cmocka_unit_test(test_paths_that_are_no_files),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
