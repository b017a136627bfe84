// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * py_rt_layout_fill(): the fields that only the runtime's events need. The numbers were compiled
 * from the headers of 3.8.18, 3.9.18, 3.10.13, 3.11.7, 3.12.1 and 3.13.0, with and without
 * Py_DEBUG, in which they agree. What is not known is left out, and the feature that needs it says
 * no.
 */
#include <string.h>

#include "python/parts.h"

struct row {
	unsigned int minor;
	uint32_t gc_stats; /* gc.generation_stats in PyInterpreterState; 3.8: in _PyRuntime */
};

static const struct row rows[] = {
    {8, 472}, {9, 744}, {10, 744}, {11, 776}, {12, 240}, {13, 7528},
};

#define TS_INTERP 16 /* PyThreadState.interp, 3.8 to 3.15 */

void py_rt_layout_fill(struct py_image *image, const struct elf_file *elf)
{
	unsigned int minor = image->version >> 16 & 0xff;
	struct pt_rt_layout *rt = &image->rt;

	(void)elf;
	*rt = (struct pt_rt_layout){
	    .ts_interp = TS_INTERP,
	    .frame_locals = PT_NO_FIELD,
	    .ts_exception = PT_NO_FIELD,
	};
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		if (rows[i].minor != minor)
			continue;
		if (minor == 8)
			rt->gc_stats_vaddr = image->runtime.vaddr + rows[i].gc_stats;
		else
			rt->gc_stats = rows[i].gc_stats;
	}
}
