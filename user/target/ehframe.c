// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * .eh_frame is a list of entries {u32 length, u32 id, ...}: id 0 is a CIE, anything else an FDE
 * whose CIE lies id bytes before the id field. The CIE's augmentation string tells how an FDE's
 * start address is encoded ('R'). See the Linux Standard Base, "Exception Frames".
 */
#include "target/ehframe.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "target/dwarf.h"

/* How FDEs of this CIE encode their start address; DW_EH_PE_omit: unknown. *sized: an augmentation
 * of their own comes behind that, with its length. */
static uint8_t cie_encoding(struct dw_cursor c, bool *sized)
{
	const char *augmentation;
	uint8_t version = dw_u8(&c);

	if (version != 1 && version != 3 && version != 4)
		return DW_EH_PE_omit;
	augmentation = (const char *)c.at;
	while (!c.bad && dw_u8(&c))
		;
	if (c.bad)
		return DW_EH_PE_omit;
	if (version == 4) {
		dw_u8(&c); /* address size */
		dw_u8(&c); /* segment size */
	}
	dw_uleb(&c); /* code alignment */
	dw_uleb(&c); /* data alignment: signed, but as long */
	if (version == 1)
		dw_u8(&c);
	else
		dw_uleb(&c); /* return address register */
	*sized = augmentation[0] == 'z';
	if (!*sized)
		return augmentation[0] ? DW_EH_PE_omit : DW_EH_PE_absptr;
	dw_uleb(&c); /* length of the augmentation data */
	for (const char *letter = augmentation + 1; *letter && !c.bad; letter++) {
		if (*letter == 'R') {
			uint8_t encoding = dw_u8(&c);

			return c.bad ? DW_EH_PE_omit : encoding;
		}
		if (*letter == 'L')
			dw_u8(&c);
		else if (*letter == 'P')
			dw_encoded(&c, dw_u8(&c) & 0x0f); /* only its size matters */
		else if (*letter != 'S' && *letter != 'B')
			return DW_EH_PE_omit;
	}
	return c.bad ? DW_EH_PE_omit : DW_EH_PE_absptr;
}

#define REG_RSP 7 /* DWARF's number: System V ABI, x86-64, figure 3.36 */

/*
 * Is the frame at the start of an FDE another than at a function's entry, where the CFA is rsp + 8?
 * Its instructions (DWARF 4, figure 40) say so before they first advance.
 */
static bool starts_inside(struct dw_cursor c)
{
	while (!c.bad && c.at < c.end) {
		uint8_t op = dw_u8(&c);
		uint64_t reg = REG_RSP, offset = 8;

		if (op >> 6 == 2) { /* offset */
			dw_uleb(&c);
			continue;
		}
		if (op >> 6 == 3 || op == 0x00 || op == 0x0a) /* restore, nop, remember_state */
			continue;
		if (op == 0x0c || op == 0x0d) /* def_cfa, def_cfa_register */
			reg = dw_uleb(&c);
		if (op == 0x0c || op == 0x0e) /* def_cfa, def_cfa_offset */
			offset = dw_uleb(&c);
		if (op == 0x0f || reg != REG_RSP || offset != 8) /* or def_cfa_expression */
			return !c.bad;
		if (op < 0x0c || op > 0x0e)
			break; /* it advances, or is one that no compiler puts there */
	}
	return false;
}

static int ranges_add(struct eh_ranges *eh, size_t *room, const struct eh_range *range)
{
	if (eh->count == *room) {
		size_t more = *room ? *room * 2 : 4096;
		struct eh_range *bigger = realloc(eh->ranges, more * sizeof(*bigger));

		if (!bigger)
			return -ENOMEM;
		eh->ranges = bigger;
		*room = more;
	}
	eh->ranges[eh->count++] = *range;
	return 0;
}

static int range_compare(const void *a, const void *b)
{
	const struct eh_range *x = a, *y = b;

	if (x->start != y->start)
		return x->start < y->start ? -1 : 1;
	return x->end < y->end ? -1 : x->end > y->end;
}

struct area { /* the bytes of .eh_frame */
	const uint8_t *data;
	uint64_t size, vaddr;
	uint64_t cie_at; /* the CIE seen last, and its encoding: FDEs of a CIE come in a row */
	uint8_t encoding;
	bool sized;
};

static struct dw_cursor area_cursor(const struct area *area, uint64_t from, uint64_t to)
{
	return (struct dw_cursor){area->data + from, area->data + to, area->vaddr + from, false};
}

static uint8_t encoding_of(struct area *area, uint64_t cie_at)
{
	struct dw_cursor c;
	uint32_t length;

	if (cie_at == area->cie_at)
		return area->encoding;
	if (cie_at > area->size || area->size - cie_at < 8)
		return DW_EH_PE_omit;
	c = area_cursor(area, cie_at, area->size);
	length = dw_u32(&c);
	if (length < 4 || length > area->size - cie_at - 4 || dw_u32(&c) != 0)
		return DW_EH_PE_omit;
	c.end = area->data + cie_at + 4 + length;
	area->cie_at = cie_at;
	area->encoding = cie_encoding(c, &area->sized);
	return area->encoding;
}

static void skip(struct dw_cursor *c, uint64_t bytes)
{
	if (c->bad || bytes > (uint64_t)(c->end - c->at)) {
		c->bad = true;
		return;
	}
	c->at += bytes;
	c->vaddr += bytes;
}

static int area_walk(const struct elf_file *elf, struct area *area, struct eh_ranges *eh)
{
	uint64_t at = 0;
	size_t room = 0;

	while (area->size - at >= 8) {
		struct dw_cursor c = area_cursor(area, at, area->size);
		uint32_t length = dw_u32(&c), id;
		uint64_t id_at = at + 4, size;
		struct eh_range range;
		uint8_t encoding;

		/* 0 ends the list (crtend.o); 0xffffffff would be 64-bit DWARF, which nobody
		 * uses here. */
		if (!length || length == UINT32_MAX || length > area->size - id_at)
			break;
		at = id_at + length;
		if (length < 4)
			continue;
		id = dw_u32(&c);
		if (!id || id > id_at)
			continue;
		encoding = encoding_of(area, id_at - id);
		c.end = area->data + at;
		range.start = dw_encoded(&c, encoding);
		size = dw_encoded(&c, encoding & 0x0f);
		if (c.bad || !size || size > UINT64_MAX - range.start ||
		    !elf_is_code(elf, range.start) || !elf_is_code(elf, range.start + size - 1))
			continue;
		range.end = range.start + size;
		if (area->sized)
			skip(&c, dw_uleb(&c));
		range.inside = starts_inside(c);
		if (ranges_add(eh, &room, &range))
			return -ENOMEM;
	}
	return 0;
}

/* Where two start the shorter one is kept: BOLT puts a jump of 5 bytes where a function was that it
 * has moved, and what is left of that behind the jump is never run. */
static void sort_unique(struct eh_ranges *eh)
{
	size_t kept = 0;

	qsort(eh->ranges, eh->count, sizeof(*eh->ranges), range_compare);
	for (size_t i = 0; i < eh->count; i++)
		if (!kept || eh->ranges[kept - 1].start != eh->ranges[i].start)
			eh->ranges[kept++] = eh->ranges[i];
	eh->count = kept;
}

/* Without section headers: PT_GNU_EH_FRAME holds a header that points to .eh_frame, which ends
 * where its segment does, or earlier with a zero length. */
static bool area_from_segment(const struct elf_file *elf, struct area *area)
{
	for (size_t i = 0; i < elf->segment_count; i++) {
		const struct elf_segment *s = &elf->segments[i];
		const uint8_t *head;
		struct dw_cursor c;

		if (s->type != PT_GNU_EH_FRAME || s->file_size < 8)
			continue;
		head = elf_at(elf, s->offset, s->file_size);
		if (!head || head[0] != 1)
			return false;
		c = (struct dw_cursor){head + 4, head + s->file_size, s->vaddr + 4, false};
		area->vaddr = dw_encoded(&c, head[1]);
		for (size_t k = 0; k < elf->segment_count && !c.bad; k++) {
			const struct elf_segment *load = &elf->segments[k];

			if (load->type != PT_LOAD || area->vaddr < load->vaddr ||
			    area->vaddr - load->vaddr >= load->file_size)
				continue;
			area->size = load->file_size - (area->vaddr - load->vaddr);
			area->data = elf_at_vaddr(elf, area->vaddr, area->size);
			return area->data != NULL;
		}
		return false;
	}
	return false;
}

int eh_ranges_load(const struct elf_file *elf, struct eh_ranges *eh)
{
	const struct elf_section *section = elf_section(elf, ".eh_frame");
	struct area area = {.cie_at = UINT64_MAX, .encoding = DW_EH_PE_omit};
	int ret;

	memset(eh, 0, sizeof(*eh));
	if (section && section->size) {
		area.data = elf_at(elf, section->offset, section->size);
		area.size = section->size;
		area.vaddr = section->vaddr;
	}
	if (!area.data && !area_from_segment(elf, &area))
		return -ENOENT;
	ret = area_walk(elf, &area, eh);
	if (!ret && !eh->count)
		ret = -ENOENT;
	if (ret) {
		eh_ranges_release(eh);
		return ret;
	}
	sort_unique(eh);
	return 0;
}

void eh_ranges_release(struct eh_ranges *eh)
{
	free(eh->ranges);
	memset(eh, 0, sizeof(*eh));
}

const struct eh_range *eh_range_at(const struct eh_ranges *eh, uint64_t vaddr)
{
	size_t low = 0, high = eh->count;

	while (low < high) { /* the first range that starts behind vaddr */
		size_t mid = low + (high - low) / 2;

		if (eh->ranges[mid].start <= vaddr)
			low = mid + 1;
		else
			high = mid;
	}
	if (!low || vaddr >= eh->ranges[low - 1].end)
		return NULL;
	return &eh->ranges[low - 1];
}
