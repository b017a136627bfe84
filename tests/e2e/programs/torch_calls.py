# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""Calls the operators of TORCH_LIB, which notes them; with TORCH_LATE it is loaded in workload(), and
the file TORCH_GO waited for behind that. With TORCH_JUMPS one of them is called by a jump."""
import ctypes
import os
import time

LIB = os.environ["TORCH_LIB"]
LIBS = [] if os.environ.get("TORCH_LATE") else [ctypes.CDLL(LIB)]


def inner(lib, n):
    return lib.run(ctypes.c_long(n))


def outer(lib, n):
    inner(lib, n)
    return inner(lib, n + 1)


def notes(lib):
    count = ctypes.c_int.in_dll(lib, "note_count").value
    depths = (ctypes.c_int * 4096).in_dll(lib, "note_depth")
    names = (ctypes.c_char_p * 4096).in_dll(lib, "note_name")
    return [[depths[i], names[i].decode()] for i in range(count)]


def workload():
    if not LIBS:
        LIBS.append(ctypes.CDLL(LIB))
        while not os.path.exists(os.environ["TORCH_GO"]):
            time.sleep(0.01)
    for n in range(6):
        outer(LIBS[0], n)
    if os.environ.get("TORCH_JUMPS"):
        LIBS[0].run_jumps(ctypes.c_long(1))
    return {"notes": notes(LIBS[0])}
