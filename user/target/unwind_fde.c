// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * Which FDE an address has, and what stands in it and in its CIE.
 */
#include <string.h>

#include "target/unwind_parts.h"

void unwind_find_table(struct unwind_file *file)
{
	const struct elf_file *elf = file->elf;

	for (size_t i = 0; i < elf->segment_count; i++) {
		const struct elf_segment *s = &elf->segments[i];
		const uint8_t *head;
		struct dw_cursor c;

		if (s->type != PT_GNU_EH_FRAME || s->file_size < 12)
			continue;
		head = elf_at(elf, s->offset, 12);
		if (!head || head[0] != 1 || head[2] != DW_EH_PE_udata4 || head[3] != 0x3b)
			return;
		c = (struct dw_cursor){head + 4, head + 12, s->vaddr + 4, false};
		dw_encoded(&c, head[1]);
		file->count = dw_u32(&c);
		file->table = s->offset + 12;
		file->hdr_vaddr = s->vaddr;
		if (c.bad || file->count > (s->file_size - 12) / 8)
			file->count = 0;
		return;
	}
}

static bool table_at(const struct unwind_file *file, uint64_t i, uint64_t *start, uint64_t *fde)
{
	const uint8_t *at = elf_at(file->elf, file->table + 8 * i, 8);
	int32_t pair[2];

	if (!at)
		return false;
	memcpy(pair, at, sizeof(pair));
	*start = file->hdr_vaddr + (uint64_t)(int64_t)pair[0];
	*fde = file->hdr_vaddr + (uint64_t)(int64_t)pair[1];
	return true;
}

uint64_t unwind_find_fde(const struct unwind_file *file, uint64_t vaddr)
{
	uint64_t low = 0, high = file->count, start, fde = 0;

	while (low < high) {
		uint64_t mid = low + (high - low) / 2;

		if (!table_at(file, mid, &start, &fde))
			return 0;
		if (start <= vaddr)
			low = mid + 1;
		else
			high = mid;
	}
	return low && table_at(file, low - 1, &start, &fde) ? fde : 0;
}

/* The entry's bytes behind its length. */
static struct dw_cursor entry_at(const struct elf_file *elf, uint64_t vaddr)
{
	const uint8_t *head = elf_at_vaddr(elf, vaddr, 4);
	struct dw_cursor c = {.bad = true};
	uint32_t length;

	if (!head)
		return c;
	memcpy(&length, head, sizeof(length));
	head = length < 4 || length >= UINT32_MAX ? NULL : elf_at_vaddr(elf, vaddr, 4ull + length);
	if (head)
		c = (struct dw_cursor){head + 4, head + 4 + length, vaddr + 4, false};
	return c;
}

static void read_augmentation(struct dw_cursor *c, const char *letter, struct frame_entry *entry)
{
	for (; *letter && !c->bad; letter++) {
		if (*letter == 'R')
			entry->encoding = dw_u8(c);
		else if (*letter == 'L')
			dw_u8(c);
		else if (*letter == 'P')
			dw_encoded(c, dw_u8(c) & 0x0f); /* only its size matters */
		else if (*letter == 'S')
			entry->is_signal = true;
		else if (*letter != 'B')
			c->bad = true;
	}
}

static bool read_cie(const struct elf_file *elf, uint64_t vaddr, struct frame_entry *entry)
{
	struct dw_cursor c = entry_at(elf, vaddr), data;
	const char *augmentation;
	uint64_t return_reg, len;
	uint8_t version;

	if (dw_u32(&c) || c.bad)
		return false;
	version = dw_u8(&c);
	if (version != 1 && version != 3)
		return false;
	augmentation = (const char *)c.at;
	while (dw_u8(&c))
		;
	entry->code_align = dw_uleb(&c);
	entry->data_align = dw_sleb(&c);
	return_reg = version == 1 ? dw_u8(&c) : dw_uleb(&c);
	entry->encoding = DW_EH_PE_absptr;
	if (c.bad || return_reg != UNWIND_IP || (augmentation[0] && augmentation[0] != 'z'))
		return false;
	if (augmentation[0]) {
		len = dw_uleb(&c);
		if (c.bad || len > (size_t)(c.end - c.at))
			return false;
		data = c;
		data.end = c.at + len;
		read_augmentation(&data, augmentation + 1, entry);
		c.at += len;
		c.vaddr += len;
		c.bad = data.bad;
	}
	entry->first = c;
	return !c.bad;
}

bool unwind_read_fde(const struct elf_file *elf, uint64_t vaddr, struct frame_entry *entry)
{
	struct dw_cursor c = entry_at(elf, vaddr);
	uint64_t id_at = c.vaddr, len;
	uint32_t id = dw_u32(&c);

	if (c.bad || !id || !read_cie(elf, id_at - id, entry))
		return false;
	entry->start = dw_encoded(&c, entry->encoding);
	entry->end = entry->start + dw_encoded(&c, entry->encoding & 0x0f);
	len = dw_uleb(&c); /* of augmentation data */
	if (c.bad || len > (size_t)(c.end - c.at) || entry->end <= entry->start)
		return false;
	c.at += len;
	c.vaddr += len;
	entry->program = c;
	return true;
}
