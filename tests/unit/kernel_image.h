/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * kernel_image.h - a small ELF file that registers three CUDA kernels, for tests.
 */
#ifndef PT_TESTS_KERNEL_IMAGE_H
#define PT_TESTS_KERNEL_IMAGE_H

#include <stdlib.h>

#include "elf_builder.h"

enum { S_NULL, S_NAMES, S_TEXT, S_FATBIN, S_EH, S_COUNT };

/* The functions; each has an FDE. */
#define REGISTRAR   (ELF_CODE + 0x000)
#define GET_KERNEL  (ELF_CODE + 0x010)
#define CONSTRUCTOR (ELF_CODE + 0x100)
#define STUB_A      (ELF_CODE + 0x400) /* asks for its handle itself */
#define STUB_B      (ELF_CODE + 0x440) /* by way of INNER_B */
#define INNER_B     (ELF_CODE + 0x480)
#define STUB_C      (ELF_CODE + 0x4c0) /* never asks */
#define HANDLE_A    (ELF_DATA + 0x10)
#define HANDLE_B    (ELF_DATA + 0x18)

/* Where the other parts lie. */
#define AT_TEXTS   (ELF_DATA + 0x100)
#define AT_NAMES   (ELF_DATA + 0x200)
#define AT_EH      (ELF_DATA + 0x300)
#define AT_NOTE    (ELF_DATA + 0x600)
#define AT_HEADERS (ELF_DATA + 0x800)

static const char names[] = "\0.shstrtab\0.text\0.nvFatBinSegment\0.eh_frame";
static const char texts[] = "_Z4axpyIfEvT_PKS0_PS0_i\0plain\0_ZN4deep5scaleEPfi";
#define TEXT_A AT_TEXTS
#define TEXT_B (AT_TEXTS + 24)
#define TEXT_C (AT_TEXTS + 30)

struct code {
	struct elf_image *image;
	uint64_t vaddr;
};

static inline void put(struct code *code, const char *bytes, size_t count)
{
	memcpy(code->image->bytes + code->vaddr, bytes, count);
	code->vaddr += count;
}

/* An instruction that ends with the distance to vaddr. */
static inline void put_to(struct code *code, const char *bytes, size_t count, uint64_t vaddr)
{
	int32_t distance = (int32_t)(vaddr - (code->vaddr + count + 4));

	put(code, bytes, count);
	put(code, (const char *)&distance, sizeof(distance));
}

#define LEA_RSI "\x48\x8d\x35"
#define LEA_RDI "\x48\x8d\x3d"
#define LEA_RDX "\x48\x8d\x15"
#define CALL    "\xe8"
#define JMP     "\xe9"

/* What stands between the arguments and the call, to see whether it matters. */
static inline void put_registration(struct code *code, uint64_t host, uint64_t text,
				    const char *between, size_t between_bytes, const char *how)
{
	put(code, "\x6a\x00\x45\x31\xc9\x41\xb8\xff\xff\xff\xff", 11); /* push, r9d, r8d = -1 */
	put_to(code, LEA_RDX, 3, text);
	put(code, "\x48\x89\xd1", 3); /* mov %rdx, %rcx */
	put_to(code, LEA_RSI, 3, host);
	put(code, between, between_bytes);
	put(code, "\x48\x89\xdf", 3); /* mov %rbx, %rdi */
	put_to(code, how, 1, REGISTRAR);
}

static inline void put_stubs(struct elf_image *image)
{
	struct code a = {image, STUB_A}, b = {image, STUB_B}, inner = {image, INNER_B};

	put_to(&a, LEA_RSI, 3, STUB_A);
	put_to(&a, LEA_RDI, 3, HANDLE_A);
	put_to(&a, CALL, 1, GET_KERNEL);
	put(&a, "\xc3", 1);
	put_to(&b, JMP, 1, INNER_B);
	put_to(&inner, LEA_RSI, 3, STUB_B);
	put_to(&inner, LEA_RDI, 3, HANDLE_B);
	put_to(&inner, CALL, 1, GET_KERNEL);
	put(&inner, "\xc3", 1);
	image->bytes[STUB_C] = 0xc3;
	image->bytes[REGISTRAR] = image->bytes[GET_KERNEL] = 0xc3;
}

static inline void put_section(Elf64_Shdr *section, uint32_t name, uint64_t flags, uint64_t at,
			       uint64_t size)
{
	*section = (Elf64_Shdr){.sh_name = name,
				.sh_type = SHT_PROGBITS,
				.sh_flags = flags,
				.sh_addr = at,
				.sh_offset = at,
				.sh_size = size};
}

static inline void put_sections(struct elf_image *image)
{
	static const uint32_t functions[][2] = {
	    {REGISTRAR, 16}, {GET_KERNEL, 16}, {CONSTRUCTOR, 0x200}, {STUB_A, 0x40},
	    {STUB_B, 0x40},  {INNER_B, 0x40},  {STUB_C, 0x40}};
	Elf64_Shdr *s = (Elf64_Shdr *)(image->bytes + AT_HEADERS);
	size_t eh_bytes = elf_build_eh_frame(image->bytes + AT_EH, AT_EH, functions, 7);

	memcpy(image->bytes + AT_NAMES, names, sizeof(names));
	memcpy(image->bytes + AT_TEXTS, texts, sizeof(texts));
	put_section(s + S_NAMES, 1, 0, AT_NAMES, sizeof(names));
	put_section(s + S_TEXT, 11, SHF_ALLOC | SHF_EXECINSTR, ELF_CODE, ELF_CODE_BYTES);
	put_section(s + S_FATBIN, 17, SHF_ALLOC, ELF_DATA, 16);
	put_section(s + S_EH, 34, SHF_ALLOC, AT_EH, eh_bytes);
	elf_head(image)->e_shoff = AT_HEADERS;
	elf_head(image)->e_shnum = S_COUNT;
	elf_head(image)->e_shstrndx = S_NAMES;
}

static inline void put_build_id(struct elf_image *image)
{
	Elf64_Nhdr head = {4, 8, NT_GNU_BUILD_ID};

	memcpy(image->bytes + AT_NOTE, &head, sizeof(head));
	memcpy(image->bytes + AT_NOTE + sizeof(head), "GNU\0kernels!", 12);
	elf_segments(image)[2] = (Elf64_Phdr){
	    .p_type = PT_NOTE, .p_offset = AT_NOTE, .p_filesz = sizeof(head) + 12};
	elf_head(image)->e_phnum = 3;
}

/* between: of the second of three registrations. */
static inline struct elf_image *build(const char *between, size_t between_bytes)
{
	struct elf_image *image = malloc(sizeof(*image));
	struct code code = {image, CONSTRUCTOR};

	if (!image)
		abort();
	elf_build(image, NULL, 0);
	put_registration(&code, STUB_B, TEXT_B, "", 0, CALL);
	put_registration(&code, STUB_A, TEXT_A, between, between_bytes, CALL);
	put_registration(&code, STUB_C, TEXT_C, "", 0, JMP);
	put_stubs(image);
	put_sections(image);
	put_build_id(image);
	return image;
}

#endif
