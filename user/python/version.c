// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/* Which CPython a file is: by its own data, never by its name. */
#include <capstone/capstone.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "python/layout.h"

/* A number of at most 255 at *text; advances. -1: none there. */
static int parse_number(const char **text, const char *end)
{
	int value = 0, digits = 0;

	for (; *text < end && **text >= '0' && **text <= '9' && digits < 4; digits++)
		value = value * 10 + *(*text)++ - '0';
	return digits && value <= 255 ? value : -1;
}

uint32_t py_version_parse(const char *text, size_t size)
{
	const char *end = text + strnlen(text, size);
	int part[3], serial = 0;
	uint32_t level = 0xf;

	for (int i = 0; i < 3; i++) {
		if (i && (text == end || *text++ != '.'))
			return 0;
		part[i] = parse_number(&text, end);
		if (part[i] < 0)
			return 0;
	}
	if (text < end && *text != '+') {
		level = *text == 'a' ? 0xa : *text == 'b' ? 0xb : *text == 'r' ? 0xc : 0;
		if (!level)
			return 0;
		text += level == 0xc && text + 1 < end && text[1] == 'c' ? 2 : 1;
		serial = parse_number(&text, end);
		if (serial < 0 || serial > 15)
			return 0;
	}
	if (text < end && *text == '+')
		text++;
	if (text != end || part[0] == 0)
		return 0;
	return (uint32_t)part[0] << 24 | (uint32_t)part[1] << 16 | (uint32_t)part[2] << 8 |
	       level << 4 | (uint32_t)serial;
}

void py_version_format(uint32_t version, char *text, size_t size)
{
	unsigned int level = version >> 4 & 0xf;
	int len = snprintf(text, size, "%u.%u.%u", version >> 24, version >> 16 & 0xff,
			   version >> 8 & 0xff);

	if (level != 0xf && len > 0 && (size_t)len < size)
		snprintf(text + len, size - (size_t)len, "%s%u",
			 level == 0xa   ? "a"
			 : level == 0xb ? "b"
					: "rc",
			 version & 0xf);
}

/* The address that an instruction makes: lea reg, [rip + x] or mov reg, imm. 0: none. */
static uint64_t address_made(const cs_insn *insn)
{
	const cs_x86 *x86 = &insn->detail->x86;

	if (x86->op_count != 2 || x86->operands[0].type != X86_OP_REG)
		return 0;
	if (insn->id == X86_INS_LEA && x86->operands[1].mem.base == X86_REG_RIP &&
	    x86->operands[1].mem.index == X86_REG_INVALID)
		return insn->address + insn->size + (uint64_t)x86->operands[1].mem.disp;
	if (insn->id == X86_INS_MOV && x86->operands[1].type == X86_OP_IMM)
		return (uint64_t)x86->operands[1].imm;
	return 0;
}

/* Py_GetVersion() formats "%.80s (%.80s) %.80s" with PY_VERSION as its first string
 * (Python/getversion.c), so the address of that string is made somewhere in it. */
static int locate_text(const struct elf_file *elf, const struct elf_symbol *symbol,
		       struct py_version_place *place)
{
	size_t left = symbol->size && symbol->size < 256 ? symbol->size : 256;
	const uint8_t *bytes = elf_at_vaddr(elf, symbol->vaddr, left);
	uint64_t address = symbol->vaddr;
	int rc = -ENOENT;
	cs_insn *insn;
	csh handle;

	if (!bytes)
		return -ENOENT;
	if (cs_open(CS_ARCH_X86, CS_MODE_64, &handle) != CS_ERR_OK)
		return -ENOMEM;
	cs_option(handle, CS_OPT_DETAIL, CS_OPT_ON);
	insn = cs_malloc(handle);
	while (insn && cs_disasm_iter(handle, &bytes, &left, &address, insn)) {
		uint64_t vaddr = address_made(insn);
		const char *text = vaddr ? elf_string_at_vaddr(elf, vaddr, 24) : NULL;

		place->version = text ? py_version_parse(text, 24) : 0;
		if (place->version) {
			place->vaddr = vaddr;
			place->is_text = true;
			rc = 0;
			break;
		}
	}
	if (insn)
		cs_free(insn, 1);
	cs_close(&handle);
	return rc;
}

int py_version_locate(const struct elf_file *elf, struct py_version_place *place)
{
	struct elf_symbol symbol;

	memset(place, 0, sizeof(*place));
	/* const unsigned long Py_Version = PY_VERSION_HEX, since 3.11 (Python/getversion.c) */
	if (elf_symbol(elf, "Py_Version", &symbol)) {
		const void *data = elf_at_vaddr(elf, symbol.vaddr, sizeof(uint64_t));
		uint64_t version;

		if (!data)
			return -ENOENT;
		memcpy(&version, data, sizeof(version));
		place->version = (uint32_t)version;
		place->vaddr = symbol.vaddr;
		return version >> 32 || version >> 24 == 0 ? -ENOENT : 0;
	}
	if (elf->machine != EM_X86_64 || !elf_symbol(elf, "Py_GetVersion", &symbol))
		return -ENOENT;
	return locate_text(elf, &symbol, place);
}
