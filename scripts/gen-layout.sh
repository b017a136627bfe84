#!/bin/bash
# Make user/python/layout_data.h: CPython's field offsets for the versions that do not carry their
# own (_Py_DebugOffsets came with 3.13), compiled from the headers of each version.
#
#   scripts/gen-layout.sh PREFIX... >user/python/layout_data.h
#
# PREFIX is where an interpreter with its internal headers is installed, such as
# ~/.pyenv/versions/3.12.1. Each version is compiled twice, with and without Py_DEBUG; the script
# stops if the two differ, because the table has one row for both.
set -euo pipefail

die() { echo "gen-layout.sh: $*" >&2; exit 1; }
[ $# -gt 0 ] || die "usage: gen-layout.sh PREFIX..."
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

cat >"$dir/row.c" <<'C'
#define Py_BUILD_CORE 1
#include <Python.h>
#include <frameobject.h>
#include <stddef.h>
#include <stdio.h>
#if PY_VERSION_HEX >= 0x03090000
#include "internal/pycore_interp.h"
#include "internal/pycore_runtime.h"
#endif
#if PY_VERSION_HEX >= 0x030b0000
#include "internal/pycore_frame.h"
typedef _PyInterpreterFrame frame_type;
#else
typedef PyFrameObject frame_type;
#endif
#include "internal/pycore_pystate.h"

/* Where a version lacks the field. */
#define NONE 0xffff
#define ROW(field, offset)                                                                         \
	do {                                                                                       \
		unsigned long value = (offset);                                                    \
		if (value == NONE)                                                                 \
			printf("\t\t.%s = PT_NO_FIELD,\n", field);                                 \
		else                                                                               \
			printf("\t\t.%s = %lu,\n", field, value);                                  \
	} while (0)

int main(void)
{
	printf("\t/* CPython %s */\n\t{\n\t\t.minor = %d,\n", PY_VERSION, PY_MINOR_VERSION);
#if PY_VERSION_HEX >= 0x030c0000
	ROW("ts_remaining", offsetof(PyThreadState, py_recursion_remaining));
	ROW("ts_limit", offsetof(PyThreadState, py_recursion_limit));
#elif PY_VERSION_HEX >= 0x030b0000
	ROW("ts_remaining", offsetof(PyThreadState, recursion_remaining));
	ROW("ts_limit", offsetof(PyThreadState, recursion_limit));
#else
	ROW("ts_remaining", NONE);
	ROW("ts_limit", NONE);
#endif
#if PY_VERSION_HEX >= 0x030b0000
	ROW("ts_frame", offsetof(PyThreadState, cframe));
	ROW("cframe_frame", offsetof(_PyCFrame, current_frame));
	ROW("frame_code", offsetof(frame_type, f_code));
	ROW("frame_back", offsetof(frame_type, previous));
	ROW("frame_owner", offsetof(frame_type, owner));
#else
	ROW("ts_frame", offsetof(PyThreadState, frame));
	ROW("cframe_frame", NONE);
	ROW("frame_code", offsetof(frame_type, f_code));
	ROW("frame_back", offsetof(frame_type, f_back));
	ROW("frame_owner", NONE);
#endif
#if PY_VERSION_HEX >= 0x030c0000
	ROW("owner_hidden", FRAME_OWNED_BY_CSTACK);
#else
	ROW("owner_hidden", 0xff);
#endif
	ROW("code_flags", offsetof(PyCodeObject, co_flags));
	ROW("code_firstlineno", offsetof(PyCodeObject, co_firstlineno));
	ROW("code_name", offsetof(PyCodeObject, co_name));
#if PY_VERSION_HEX >= 0x030b0000
	ROW("code_qualname", offsetof(PyCodeObject, co_qualname));
#else
	ROW("code_qualname", NONE);
#endif
	ROW("code_filename", offsetof(PyCodeObject, co_filename));
#if PY_VERSION_HEX >= 0x030b0000
	ROW("frame_instr", offsetof(frame_type, prev_instr));
	ROW("code_adaptive", offsetof(PyCodeObject, co_code_adaptive));
	ROW("code_linetable", offsetof(PyCodeObject, co_linetable));
#elif PY_VERSION_HEX >= 0x030a0000
	ROW("frame_instr", offsetof(frame_type, f_lasti));
	ROW("code_adaptive", NONE);
	ROW("code_linetable", offsetof(PyCodeObject, co_linetable));
#else
	ROW("frame_instr", offsetof(frame_type, f_lasti));
	ROW("code_adaptive", NONE);
	ROW("code_linetable", offsetof(PyCodeObject, co_lnotab));
#endif
#if PY_VERSION_HEX >= 0x030b0000
	ROW("ts_datastack", offsetof(PyThreadState, datastack_chunk));
#else
	ROW("ts_datastack", NONE);
#endif
	ROW("str_length", offsetof(PyASCIIObject, length));
	ROW("str_state", offsetof(PyASCIIObject, state));
	ROW("str_ascii_data", sizeof(PyASCIIObject));
	ROW("str_data", sizeof(PyCompactUnicodeObject));
	ROW("rt_interp_head", offsetof(_PyRuntimeState, interpreters.head));
#if PY_VERSION_HEX < 0x030c0000
	ROW("rt_tstate_current", offsetof(_PyRuntimeState, gilstate.tstate_current));
#else
	ROW("rt_tstate_current", NONE);
#endif
	ROW("interp_next", offsetof(PyInterpreterState, next));
#if PY_VERSION_HEX >= 0x030b0000
	ROW("interp_threads_head", offsetof(PyInterpreterState, threads.head));
#else
	ROW("interp_threads_head", offsetof(PyInterpreterState, tstate_head));
#endif
	ROW("ts_next", offsetof(PyThreadState, next));
	ROW("ts_interp", offsetof(PyThreadState, interp));
	ROW("ts_thread_id", offsetof(PyThreadState, thread_id));
#if PY_VERSION_HEX >= 0x030b0000
	ROW("ts_native_thread_id", offsetof(PyThreadState, native_thread_id));
#else
	ROW("ts_native_thread_id", NONE);
#endif
	printf("\t},\n");
	return 0;
}
C

cat <<'H'
/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * layout_data.h - generated by scripts/gen-layout.sh; do not edit.
 *
 * Field offsets on x86-64, compiled from the headers of the CPython named above each row, where
 * builds with and without Py_DEBUG agree. CPython keeps these structs within a minor version.
 * Included by layout.c alone, in the middle of an array.
 */
H
for prefix in "$@"; do
    include=$(echo "$prefix"/include/python3.*)
    [ -f "$include/internal/pycore_pystate.h" ] || die "$prefix has no internal CPython headers"
    for debug in -UPy_DEBUG -DPy_DEBUG; do
        "${CC:-cc}" -w "$debug" -I"$include" -I"$include/internal" -o "$dir/row" "$dir/row.c"
        "$dir/row" >"$dir/row$debug"
    done
    cmp -s "$dir/row-UPy_DEBUG" "$dir/row-DPy_DEBUG" ||
        die "$prefix: a build with Py_DEBUG has other offsets"
    cat "$dir/row-UPy_DEBUG"
done
