// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
#include "python/scan.h"

#include <string.h>

static const uint8_t *segment_bytes(const struct elf_file *elf, const struct elf_segment *segment)
{
	if (segment->type != PT_LOAD || !segment->file_size)
		return NULL;
	return elf_at(elf, segment->offset, segment->file_size);
}

static uint64_t relative(const uint8_t *at, uint64_t vaddr)
{
	int32_t distance;

	memcpy(&distance, at, sizeof(distance));
	return vaddr + sizeof(distance) + (uint64_t)(int64_t)distance;
}

int scan_calls(const struct elf_file *elf, scan_fn fn, void *ctx)
{
	for (size_t s = 0; s < elf->segment_count; s++) {
		const struct elf_segment *segment = &elf->segments[s];
		const uint8_t *bytes = segment_bytes(elf, segment);

		if (!bytes || !(segment->flags & PF_X))
			continue;
		for (uint64_t i = 0; i + 5 <= segment->file_size; i++) {
			uint64_t target;
			int rc;

			if (bytes[i] != 0xe8)
				continue;
			target = relative(bytes + i + 1, segment->vaddr + i + 1);
			/* BOLT leaves some functions where they were, in another segment */
			if (target - segment->vaddr >= segment->file_size &&
			    !elf_is_code(elf, target))
				continue;
			rc = fn(segment->vaddr + i, target, ctx);
			if (rc)
				return rc;
		}
	}
	return 0;
}

int scan_jumps(const struct elf_file *elf, uint64_t start, uint64_t end, scan_fn fn, void *ctx)
{
	for (size_t s = 0; s < elf->segment_count; s++) {
		const struct elf_segment *segment = &elf->segments[s];
		const uint8_t *bytes = segment_bytes(elf, segment);

		if (!bytes || !(segment->flags & PF_X))
			continue;
		for (uint64_t i = 0; i + 6 <= segment->file_size; i++) {
			bool jcc = bytes[i] == 0x0f && (bytes[i + 1] & 0xf0) == 0x80;
			uint64_t target;
			int rc;

			if (!jcc && bytes[i] != 0xe9)
				continue;
			target = relative(bytes + i + 1 + jcc, segment->vaddr + i + 1 + jcc);
			if (target < start || target >= end)
				continue;
			rc = fn(segment->vaddr + i, target, ctx);
			if (rc)
				return rc;
		}
	}
	return 0;
}

/* Does an instruction whose opcode is bytes[i] name target, at i + 1 or i + 2? How many bytes it
 * has before its opcode; -1: no. */
static int names(const uint8_t *bytes, uint64_t i, uint64_t vaddr, uint64_t target)
{
	uint32_t absolute;

	/* REX.W lea reg, [rip + disp32] */
	if (bytes[i] == 0x8d)
		return i && (bytes[i - 1] & 0xfb) == 0x48 && (bytes[i + 1] & 0xc7) == 0x05 &&
			       relative(bytes + i + 2, vaddr + 2) == target
			   ? 1
			   : -1;
	/* mov reg32, imm32 */
	if ((bytes[i] & 0xf8) != 0xb8)
		return -1;
	memcpy(&absolute, bytes + i + 1, sizeof(absolute));
	return absolute == target ? 0 : -1;
}

int scan_references(const struct elf_file *elf, uint64_t target, scan_fn fn, void *ctx)
{
	for (size_t s = 0; s < elf->segment_count; s++) {
		const struct elf_segment *segment = &elf->segments[s];
		const uint8_t *bytes = segment_bytes(elf, segment);

		if (!bytes || !(segment->flags & PF_X))
			continue;
		for (uint64_t i = 0; i + 6 <= segment->file_size; i++) {
			int before = names(bytes, i, segment->vaddr + i, target);
			int rc = before >= 0
				     ? fn(segment->vaddr + i - (uint64_t)before, target, ctx)
				     : 0;

			if (rc)
				return rc;
		}
	}
	return 0;
}

uint64_t scan_bytes(const struct elf_file *elf, const void *wanted, size_t size)
{
	for (size_t s = 0; s < elf->segment_count; s++) {
		const uint8_t *bytes = segment_bytes(elf, &elf->segments[s]);
		const uint8_t *found = bytes
					   ? memmem(bytes, elf->segments[s].file_size, wanted, size)
					   : NULL;

		if (found)
			return elf->segments[s].vaddr + (uint64_t)(found - bytes);
	}
	return 0;
}
