# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""Marks its own doing by calling functions of a library that do nothing (marklib.c), and says what it
marked. The library is loaded when workload() begins, or before, if it stands in MARKLIB.
"""
import ctypes
import os
import threading
import time

CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int)


class Attributes(ctypes.Structure):
    _fields_ = [("version", ctypes.c_uint16), ("size", ctypes.c_uint16),
                ("category", ctypes.c_uint32), ("color_type", ctypes.c_int32),
                ("color", ctypes.c_uint32), ("payload_type", ctypes.c_int32),
                ("reserved", ctypes.c_int32), ("payload", ctypes.c_uint64),
                ("message_type", ctypes.c_int32), ("message", ctypes.c_char_p)]


LIB = None


def load(path):
    global LIB
    LIB = ctypes.CDLL(path)
    LIB.app_event.argtypes = [ctypes.c_char_p, ctypes.c_int, ctypes.c_uint64, ctypes.c_void_p]
    LIB.app_event.restype = None
    LIB.app_counter.argtypes = [ctypes.c_char_p, ctypes.c_long]
    LIB.app_work.argtypes = [ctypes.c_int, CALLBACK]
    LIB.nvtxDomainRangePushEx.argtypes = [ctypes.c_void_p, ctypes.POINTER(Attributes)]
    LIB.nvtxDomainRangePop.argtypes = [ctypes.c_void_p]


if os.environ.get("MARKLIB"):
    load(os.environ["MARKLIB"])


def back(n):
    return leaf(n)


def leaf(n):
    return n


def opens(name):
    LIB.app_open(name.encode())


def closes():
    LIB.app_close()


class Phase:
    """As torch.cuda.nvtx.range(): what begins and ends it are calls of their own."""
    def __init__(self, name):
        self.name = name

    def __enter__(self):
        opens(self.name)

    def __exit__(self, *exc):
        closes()


def events(seen):
    for i in range(50):
        LIB.app_event(b"event %d" % i, -i, 2 ** 64 - 1 - i, 4096 + i)
        seen["events"].append(["event %d" % i, -i, str(2 ** 64 - 1 - i), hex(4096 + i)])
    for i in range(20):
        LIB.app_counter(b"queue", i * i - 30)
        seen["counter"].append(i * i - 30)


def work(seen):
    callback = CALLBACK(back)
    for depth in 1, 3, 100:
        seen["work"].append(LIB.app_work(depth, callback))


def ranges(seen):
    with Phase("outer"):
        for i in range(5):
            with Phase("inner %d" % i):
                leaf(i)
    seen["ranges"] += ["outer"] + ["inner %d" % i for i in range(5)]


def usdt(seen):
    for i in range(30):
        LIB.app_usdt(b"tick %d" % i, i)
        seen["usdt"].append(["tick %d" % i, i, 1000 * i, -7])
        seen["guarded"] += LIB.app_usdt_guarded(i)


def nvtx(seen):
    text = Attributes(message_type=1, message=b"by attributes")
    registered = Attributes(message_type=3)
    LIB.nvtxRangePushA(b"a")
    LIB.nvtxRangePushEx(ctypes.byref(text))
    LIB.nvtxDomainRangePushEx(4096, ctypes.byref(text))
    LIB.nvtxRangePushW(None)
    LIB.nvtxMarkA(b"a mark")
    LIB.nvtxRangePop()
    LIB.nvtxRangePop()
    LIB.nvtxDomainRangePop(4096)  # overlaps with those of the other domain
    LIB.nvtxRangePop()
    LIB.nvtxRangePop()  # one too many
    LIB.nvtxRangePushEx(ctypes.byref(registered))
    LIB.nvtxRangePop()
    LIB.nvtxRangeEnd(LIB.nvtxRangeStartA(b"from here"))


def await_probe(name):
    """A breakpoint stands where the function begins."""
    begin = ctypes.c_ubyte.from_address(ctypes.cast(getattr(LIB, name), ctypes.c_void_p).value)
    end = time.monotonic() + 30
    while begin.value != 0xcc and time.monotonic() < end:
        time.sleep(0.001)


def workload(path="", *probes):
    seen = {"events": [], "counter": [], "work": [], "ranges": [], "usdt": [], "guarded": 0}
    if path:
        load(path)
    for name in probes:
        await_probe(name)
    others = [threading.Thread(target=ranges, args=(seen,)) for _ in range(2)]
    for function in events, work, ranges, usdt:
        function(seen)
    if os.environ.get("NVTX"):
        nvtx(seen)
    for thread in others:
        thread.start()
    for thread in others:
        thread.join()
    return seen
