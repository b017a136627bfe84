/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * dwarf.h - reads the numbers that DWARF and .eh_frame are made of, within bounds.
 */
#ifndef PT_TARGET_DWARF_H
#define PT_TARGET_DWARF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* DWARF pointer encodings, LSB 5.0 core, table "DWARF Exception Header Encoding". */
#define DW_EH_PE_absptr 0x00
#define DW_EH_PE_udata2 0x02
#define DW_EH_PE_udata4 0x03
#define DW_EH_PE_udata8 0x04
#define DW_EH_PE_sdata2 0x0a
#define DW_EH_PE_sdata4 0x0b
#define DW_EH_PE_sdata8 0x0c
#define DW_EH_PE_pcrel  0x10
#define DW_EH_PE_omit   0xff

struct dw_cursor { /* bad stays set once something did not fit; what is taken then is 0 */
	const uint8_t *at, *end;
	uint64_t vaddr; /* of at */
	bool bad;
};

void dw_take(struct dw_cursor *c, void *to, size_t size);
uint8_t dw_u8(struct dw_cursor *c);
uint32_t dw_u32(struct dw_cursor *c);
uint64_t dw_uleb(struct dw_cursor *c);
int64_t dw_sleb(struct dw_cursor *c);
/* An address: absolute, or relative to where it stands. */
uint64_t dw_encoded(struct dw_cursor *c, uint8_t encoding);

#endif
