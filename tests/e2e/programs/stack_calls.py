# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""Calls CUDA through functions of C (stack_calls.c, in STACK_LIB), and notes where: its own frames, as
CPython has them, and the return addresses that C noted, with the files they lie in."""
import ctypes
import os
import sys
import threading
import _thread

LIB = ctypes.CDLL(os.environ["STACK_LIB"])
LIB.stack_call.argtypes = [ctypes.c_size_t]
BACK = ctypes.CFUNCTYPE(ctypes.c_int)
NOTES = []


def frames():
    """The caller's, innermost first: [file, name, line]."""
    found, frame = [], sys._getframe(1)
    while frame:
        code = frame.f_code
        found.append([code.co_filename, getattr(code, "co_qualname", code.co_name), frame.f_lineno])
        frame = frame.f_back
    return found


def addresses():
    """Those of the last call: [path, offset from where the file begins in memory, address]; None in a
    root without /proc."""
    if not os.path.exists("/proc/self/maps"):
        return None
    at = ctypes.POINTER(ctypes.c_void_p)()
    count = LIB.stack_addresses(ctypes.byref(at))
    bases, places = {}, []
    with open("/proc/self/maps") as file:
        for line in file:
            fields = line.split(None, 5)
            start, end = (int(x, 16) for x in fields[0].split("-"))
            path = fields[5].strip() if len(fields) > 5 else ""
            bases.setdefault(path, start)
            places.append((start, end, path))
    found = []
    for i in range(count):
        path = next(p for start, end, p in places if start <= at[i] < end)
        found.append([path, at[i] - bases[path], at[i]])
    return found


def note(kind, stack):
    NOTES.append([_thread.get_native_id(), kind, stack, addresses()])


def straight():
    stack = frames(); LIB.stack_call(64)
    note("straight", stack)


class Caller:
    def method(self):
        (
            straight()
        )


def called_back():
    """Python, C, Python, C."""
    notes = []

    def inside():
        stack = frames(); LIB.stack_call(128)
        notes.append((stack, addresses()))
        return 0

    callback = BACK(lambda: inside())
    LIB.stack_back(callback)
    NOTES.append([_thread.get_native_id(), "called back", *notes[0]])


def generator():
    stack = frames(); LIB.stack_call(32)
    note("generator", stack)
    yield 1


GENERATED = """
def call(args):
    buf0 = args
    # Topologically Sorted Source Nodes: [c, d], Original ATen: [aten.mm]
    extern_kernels.mm(args, out=buf0)
    del buf0
    extern_kernels.mm(args, out=None)
"""


class Kernels:
    @staticmethod
    def mm(args, out):
        stack = frames(); LIB.stack_call(8)
        note("generated", stack)


def generated(folder):
    """As PyTorch's Inductor writes and runs files."""
    path = os.path.join(folder, "as", "casqpe6odbcjnjxjpxitl3lddb3xvnfpxofl3psy5vjwhdpr3rnm.py")
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as file:
        file.write(GENERATED)
    names = {"extern_kernels": Kernels}
    exec(compile(GENERATED, path, "exec"), names)
    names["call"](())


def deep(n):
    if n:
        return deep(n - 1)
    stack = frames(); LIB.stack_call(16)
    note("deep", stack)


def workload(count, *kinds):
    for _ in range(int(count)):
        straight()
        Caller().method()
        list(generator())
        called_back()
    thread = threading.Thread(target=Caller().method)
    thread.start()
    thread.join()
    for kind in kinds:
        if kind == "deep":
            deep(400)
        else:
            generated(kind)
    return {"calls": NOTES}
