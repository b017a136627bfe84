/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * elf_builder.h - small ELF files in memory, for tests.
 *
 * One buffer: headers, then code at ELF_CODE (mapped executable at the same address), data at
 * ELF_DATA (mapped writable). Tests patch the buffer as they like before they open it.
 */
#ifndef PT_TESTS_ELF_BUILDER_H
#define PT_TESTS_ELF_BUILDER_H

#include <elf.h>
#include <stdint.h>
#include <string.h>

#define ELF_CODE       0x1000u
#define ELF_CODE_BYTES 0x2000u
#define ELF_DATA       0x3000u
#define ELF_DATA_BYTES 0x2000u
#define ELF_BYTES      (ELF_DATA + ELF_DATA_BYTES + 0x1000u)

struct elf_image {
	_Alignas(16) uint8_t bytes[ELF_BYTES];
};

static inline Elf64_Ehdr *elf_head(struct elf_image *image)
{
	return (Elf64_Ehdr *)image->bytes;
}

static inline Elf64_Phdr *elf_segments(struct elf_image *image)
{
	return (Elf64_Phdr *)(image->bytes + sizeof(Elf64_Ehdr));
}

static inline void elf_build(struct elf_image *image, const void *code, size_t code_bytes)
{
	Elf64_Ehdr *head = elf_head(image);
	Elf64_Phdr *segments = elf_segments(image);

	memset(image, 0, sizeof(*image));
	memcpy(head->e_ident, ELFMAG, SELFMAG);
	head->e_ident[EI_CLASS] = ELFCLASS64;
	head->e_ident[EI_DATA] = ELFDATA2LSB;
	head->e_ident[EI_VERSION] = EV_CURRENT;
	head->e_type = ET_DYN;
	head->e_machine = EM_X86_64;
	head->e_phoff = sizeof(*head);
	head->e_phentsize = sizeof(*segments);
	head->e_phnum = 2;
	head->e_shentsize = sizeof(Elf64_Shdr);
	segments[0] = (Elf64_Phdr){.p_type = PT_LOAD,
				   .p_flags = PF_R | PF_X,
				   .p_offset = ELF_CODE,
				   .p_vaddr = ELF_CODE,
				   .p_filesz = ELF_CODE_BYTES,
				   .p_memsz = ELF_CODE_BYTES};
	segments[1] = (Elf64_Phdr){.p_type = PT_LOAD,
				   .p_flags = PF_R | PF_W,
				   .p_offset = ELF_DATA,
				   .p_vaddr = ELF_DATA,
				   .p_filesz = ELF_DATA_BYTES,
				   .p_memsz = ELF_DATA_BYTES};
	memset(image->bytes + ELF_CODE, 0xcc, ELF_CODE_BYTES);
	if (code_bytes)
		memcpy(image->bytes + ELF_CODE, code, code_bytes);
}

/* Writes an .eh_frame that lies at vaddr: one FDE for each {start, bytes}, pc-relative 4-byte
 * addresses. Returns its size. */
static inline size_t elf_build_eh_frame(uint8_t *to, uint64_t vaddr, const uint32_t (*ranges)[2],
					size_t count)
{
	static const uint8_t cie[] = {0x10, 0, 0, 0,    0,  0, 0,    0, 1, 'z',
				      'R',  0, 1, 0x78, 16, 1, 0x1b, 0, 0, 0};
	size_t at = sizeof(cie);

	memcpy(to, cie, sizeof(cie));
	for (size_t i = 0; i < count; i++) {
		uint32_t words[4] = {12, (uint32_t)at + 4,
				     ranges[i][0] - (uint32_t)(vaddr + at + 8), ranges[i][1]};

		memcpy(to + at, words, sizeof(words));
		at += sizeof(words);
	}
	memset(to + at, 0, 4);
	return at + 4;
}

#endif
