// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * py_sample_fill(): what finding a thread's frames takes where no probe tells of them: the way from
 * _PyRuntime to all thread states, and how to tell code objects and leftovers from live frames.
 */
#include <errno.h>

#include "python/layout.h"
#include "python/parts.h"

/* PyThreadState: prev, next, interp, 3.8 to 3.15 (Include/cpython/pystate.h). BPF relies on prev.
 */
#define TS_NEXT          8
#define TS_INTERP        16
/* .datastack_chunk in 3.11, compiled from the headers of 3.11.7; see pt_layout.ts_datastack */
#define TS_DATASTACK_311 296

static int runtime_layout(const struct py_image *image, const struct elf_file *elf,
			  struct py_runtime_layout *runtime)
{
	const void *data = elf_at_vaddr(elf, image->runtime.vaddr, PY_DEBUG_OFFSETS_BYTES);
	struct pt_layout layout;
	bool free_threaded;

	if (image->version < 0x030d0000)
		return py_layout_from_table(image->version, &layout, runtime, NULL);
	return data ? py_layout_from_debug_offsets(data, PY_DEBUG_OFFSETS_BYTES, image->version,
						   &free_threaded, &layout, runtime, NULL)
		    : -ENOTSUP;
}

static uint16_t datastack(const struct py_image *image)
{
	unsigned int minor = image->version >> 16 & 0xff;

	return minor == 11 ? TS_DATASTACK_311 : image->layout.ts_datastack;
}

int py_sample_fill(struct py_image *image, const struct elf_file *elf, struct py_engine_plan *plan)
{
	struct py_runtime_layout runtime;
	struct elf_symbol type;

	if (!elf_symbol(elf, "PyCode_Type", &type))
		return py_plan_refuse(plan, "the interpreter does not export PyCode_Type");
	if (runtime_layout(image, elf, &runtime))
		return py_plan_refuse(plan, "the way to its threads is not known");
	if (runtime.ts_next != TS_NEXT || runtime.ts_interp != TS_INTERP ||
	    runtime.ts_thread_id >= PT_NO_FIELD)
		return py_plan_refuse(plan, "its thread states look different");
	image->sample = (struct py_sample_layout){
	    .interp_head = image->runtime.vaddr + runtime.rt_interp_head,
	    .code_type = type.vaddr,
	    .interp_next = runtime.interp_next,
	    .interp_threads = runtime.interp_threads_head,
	    .ts_next = TS_NEXT,
	    .ts_interp = TS_INTERP,
	    .ts_thread_id = (uint16_t)runtime.ts_thread_id,
	    .ts_datastack = datastack(image),
	};
	return 0;
}
