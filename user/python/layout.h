/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * layout.h - field offsets of one CPython version, and where they come from.
 *
 * Up to 3.12 they are a table (layout_data.h, generated from CPython's own headers), one row a
 * minor version: CPython keeps these structs within one. From 3.13 on the interpreter carries them
 * (_Py_DebugOffsets, at the start of _PyRuntime), in its file and in its memory. A version that is
 * not known is refused, never treated as its neighbour: wrong offsets give wrong frames.
 *
 * Pure functions; nothing is kept.
 */
#ifndef PT_PYTHON_LAYOUT_H
#define PT_PYTHON_LAYOUT_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "python/image.h"
#include "target/elf.h"

#define PY_NO_OFFSET UINT32_MAX

/* The way from _PyRuntime to every thread; only user space walks it. */
struct py_runtime_layout {
	uint32_t rt_interp_head;    /* _PyRuntimeState.interpreters.head */
	uint32_t rt_tstate_current; /* _PyRuntimeState.gilstate.tstate_current, up to 3.11 */
	uint32_t interp_next;
	uint32_t interp_threads_head;
	uint32_t ts_next;
	uint32_t ts_interp;
	uint32_t ts_thread_id;        /* pthread_t */
	uint32_t ts_native_thread_id; /* a TID in the process's pid namespace; 3.11+ */
};

/* How much of _PyRuntime the offsets of any known version take. */
#define PY_DEBUG_OFFSETS_BYTES (93 * 8)

/* version is a PY_VERSION_HEX. -ENOTSUP (err set): not a version that is known. Up to 3.12. */
int py_layout_from_table(uint32_t version, struct pt_layout *layout,
			 struct py_runtime_layout *runtime, struct pt_err *err);
/* data is what lies at _PyRuntime, in the file or in memory: hostile. layout->ts_remaining is left
 * PT_NO_FIELD. -ENOTSUP (err set): no offsets there, of another version than version, of a
 * free-threaded build (*free_threaded says so), or implausible. 3.13 and later. */
int py_layout_from_debug_offsets(const void *data, size_t size, uint32_t version,
				 bool *free_threaded, struct pt_layout *layout,
				 struct py_runtime_layout *runtime, struct pt_err *err);

/* Where a file says which version it is: vaddr of Py_Version (3.11+), else of the PY_VERSION string
 * that Py_GetVersion() uses (is_text). -ENOENT: nowhere that could be found. */
struct py_version_place {
	uint32_t version;
	uint64_t vaddr;
	bool is_text;
};
int py_version_locate(const struct elf_file *elf, struct py_version_place *place);
/* "3.12.1" or "3.13.0rc2+" to PY_VERSION_HEX; 0: not a version. size bounds the text. */
uint32_t py_version_parse(const char *text, size_t size);
void py_version_format(uint32_t version, char *text, size_t size);

#endif
