// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
#include "target/dwarf.h"

#include <string.h>

void dw_take(struct dw_cursor *c, void *to, size_t size)
{
	memset(to, 0, size);
	if (c->bad || (size_t)(c->end - c->at) < size) {
		c->bad = true;
		return;
	}
	memcpy(to, c->at, size);
	c->at += size;
	c->vaddr += size;
}

uint8_t dw_u8(struct dw_cursor *c)
{
	uint8_t value;

	dw_take(c, &value, sizeof(value));
	return value;
}

uint32_t dw_u32(struct dw_cursor *c)
{
	uint32_t value;

	dw_take(c, &value, sizeof(value));
	return value;
}

uint64_t dw_uleb(struct dw_cursor *c)
{
	uint64_t value = 0;

	for (unsigned int shift = 0; shift < 64; shift += 7) {
		uint8_t byte = dw_u8(c);

		value |= (uint64_t)(byte & 0x7f) << shift;
		if (!(byte & 0x80))
			return value;
	}
	c->bad = true;
	return 0;
}

int64_t dw_sleb(struct dw_cursor *c)
{
	uint64_t value = 0;

	for (unsigned int shift = 0; shift < 64; shift += 7) {
		uint8_t byte = dw_u8(c);

		value |= (uint64_t)(byte & 0x7f) << shift;
		if (byte & 0x80)
			continue;
		if (byte & 0x40 && shift < 57)
			value |= UINT64_MAX << (shift + 7);
		return (int64_t)value;
	}
	c->bad = true;
	return 0;
}

/* The low four bits of the encoding say the size, the next three what it is relative to. */
uint64_t dw_encoded(struct dw_cursor *c, uint8_t encoding)
{
	uint64_t base = (encoding & 0x70) == DW_EH_PE_pcrel ? c->vaddr : 0, value = 0;

	if (encoding == DW_EH_PE_omit || (encoding & 0x80) ||
	    ((encoding & 0x70) && (encoding & 0x70) != DW_EH_PE_pcrel)) {
		c->bad = true;
		return 0;
	}
	switch (encoding & 0x0f) {
	case DW_EH_PE_absptr:
	case DW_EH_PE_udata8:
	case DW_EH_PE_sdata8:
		dw_take(c, &value, 8);
		break;
	case DW_EH_PE_udata4:
		dw_take(c, &value, 4);
		break;
	case DW_EH_PE_sdata4:
		dw_take(c, &value, 4);
		value = (uint64_t)(int64_t)(int32_t)(uint32_t)value;
		break;
	case DW_EH_PE_udata2:
		dw_take(c, &value, 2);
		break;
	case DW_EH_PE_sdata2:
		dw_take(c, &value, 2);
		value = (uint64_t)(int64_t)(int16_t)(uint16_t)value;
		break;
	default:
		c->bad = true;
	}
	return base + value;
}
