/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * elf.h - reads a 64-bit little-endian ELF file that may be hostile.
 *
 * The file is never mapped: whoever owns it could truncate it under us (SIGBUS). Instead its bytes
 * are read on demand, 64 KiB at a time, into memory of our own that is as long as the file was at
 * opening, so a page that nobody asks for costs nothing. All access goes through elf_at(), which
 * says NULL for what lies outside; pointers stay good until elf_file_close().
 *
 * Life cycle: elf_file_open() or elf_file_memory() -> use -> elf_file_close(). One thread at a
 * time: reading on demand and the relocation index change hidden state even behind a const pointer.
 */
#ifndef PT_TARGET_ELF_H
#define PT_TARGET_ELF_H

#include <elf.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct elf_section {
	const char *name; /* "" if it has none */
	uint32_t type, link, info;
	uint64_t flags, vaddr, offset, size, entry_size;
};

struct elf_segment {
	uint32_t type, flags;
	uint64_t offset, vaddr, file_size, mem_size;
};

struct elf_symbol {
	const char *name;
	uint64_t vaddr, size;
	uint8_t type; /* STT_* */
	uint8_t bind; /* STB_* */
};

struct elf_store; /* bytes read so far, relocation index */

struct elf_file {
	uint64_t size;       /* bytes */
	uint64_t dev, inode; /* 0 when opened from memory */
	uint64_t mtime_ns;   /* likewise */
	uint16_t type;       /* ET_EXEC, ET_DYN */
	uint16_t machine;    /* EM_X86_64 .. */
	struct elf_section *sections;
	size_t section_count; /* 0: no section headers, or unusable ones */
	struct elf_segment *segments;
	size_t segment_count;
	uint8_t build_id[32];
	size_t build_id_len; /* 0: none */
	bool has_symtab;     /* a .symtab: not stripped */
	struct elf_store *store;
};

/* A probe point of <sys/sdt.h> (note type 3, owner "stapsdt"). */
struct elf_sdt_note {
	const char *provider, *name, *args;
	uint64_t vaddr;           /* of the nop; corrected for prelink as .stapsdt.base tells */
	uint64_t semaphore_vaddr; /* 0: has none */
};

/* -ENOENT, -EACCES .. as open(2); -ENOEXEC not an ELF file; -ENOTSUP 32-bit or big-endian. */
int elf_file_open(const char *path, struct elf_file **elf, struct pt_err *err);
/* Copies nothing: data must live as long as the elf_file. */
int elf_file_memory(const void *data, size_t size, struct elf_file **elf, struct pt_err *err);
void elf_file_close(struct elf_file *elf);

/* size bytes at a file offset, or at an address that the file backs; NULL: not all in the file. */
const void *elf_at(const struct elf_file *elf, uint64_t offset, uint64_t size);
const void *elf_at_vaddr(const struct elf_file *elf, uint64_t vaddr, uint64_t size);
/* A NUL-terminated string at vaddr of at most max bytes, or NULL. */
const char *elf_string_at_vaddr(const struct elf_file *elf, uint64_t vaddr, size_t max);

/* For whoever reads through a large file: once more than max_bytes of it are held, gives back what
 * was read since the file was opened. All that elf_at() and its like have returned is void then; it
 * is read again when asked for. Names of sections stay. Does nothing to a file in memory. */
void elf_trim(const struct elf_file *elf, uint64_t max_bytes);

bool elf_vaddr_to_offset(const struct elf_file *elf, uint64_t vaddr, uint64_t *offset);
/* The address in the file of the first byte of an executable mapping that starts at this offset.
 * Mappings start at pages: lld begins a segment in the page in which the one before ends, and both
 * are mapped with that page. */
bool elf_mapped_code(const struct elf_file *elf, uint64_t offset, uint64_t *vaddr);
/* In an executable PT_LOAD? */
bool elf_is_code(const struct elf_file *elf, uint64_t vaddr);
/* In a writable PT_LOAD that is no code? What the file does not hold (.bss) counts too. */
bool elf_is_variable(const struct elf_file *elf, uint64_t vaddr);

/* First section of that name, or NULL. */
const struct elf_section *elf_section(const struct elf_file *elf, const char *name);
/* Looks in .dynsym, then in .symtab; only defined symbols count. */
bool elf_symbol(const struct elf_file *elf, const char *name, struct elf_symbol *symbol);

/* Calls fn for each defined symbol, those of .dynsym first; stops when it returns non-zero, and
 * returns that. */
int elf_each_symbol(const struct elf_file *elf,
		    int (*fn)(const struct elf_symbol *symbol, void *ctx), void *ctx);

/* The 8-byte pointer that the program finds at vaddr when its load bias is 0, relocations applied
 * (R_X86_64_RELATIVE, R_X86_64_64 and GLOB_DAT of a symbol defined here, RELR). -ENOENT: vaddr is
 * not in the file; -ENXIO: it holds the address of another file's symbol. */
int elf_read_ptr(const struct elf_file *elf, uint64_t vaddr, uint64_t *value);

/* What the file holds of the segment: its bytes, and how many there are; NULL: none. */
const uint8_t *elf_segment_bytes(const struct elf_file *elf, const struct elf_segment *segment,
				 uint64_t *size);

/* Calls fn for each aligned word of the segment that elf_read_ptr() gives a value from low to high
 * for, in the order of the addresses; stops when it returns non-zero, and returns that, or -errno.
 * A word costs some 2 ns, elf_read_ptr() 20. */
int elf_each_pointer(const struct elf_file *elf, const struct elf_segment *segment, uint64_t low,
		     uint64_t high, int (*fn)(uint64_t vaddr, uint64_t value, void *ctx),
		     void *ctx);

/* The name of the symbol whose address the dynamic linker writes to vaddr, or NULL. */
const char *elf_import_at(const struct elf_file *elf, uint64_t vaddr);

/* Whether the dynamic linker writes the address of a symbol of that name anywhere: the file uses it
 * by its name, so it would use one that another file defines. */
bool elf_imports(const struct elf_file *elf, const char *name);

/* Calls fn for each stapsdt note; stops when it returns non-zero, and returns that. A file without
 * notes gives 0. */
int elf_each_sdt_note(const struct elf_file *elf,
		      int (*fn)(const struct elf_sdt_note *note, void *ctx), void *ctx);

#endif
