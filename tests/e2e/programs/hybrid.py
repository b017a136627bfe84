# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""Spends known parts of its CPU time in known functions, as shares.py does, and in between does what
is recorded exactly beside samples, in two threads: CUDA calls of the library CUDA_LIB, if there is
one, collections, time.sleep(), exceptions. What it did, each thread says by itself."""
import ctypes
import gc
import os
import threading
import time
import _thread

import shares

gc.disable()  # only those that are asked for
LIB = ctypes.CDLL(os.environ["CUDA_LIB"]) if "CUDA_LIB" in os.environ else None
DID = []  # [thread, what]
LOCK = threading.Lock()


def did(what):
    with LOCK:
        DID.append([_thread.get_native_id(), what])


def collected(phase, info):
    if phase == "stop":
        did("gc generation %d" % info["generation"])


def call_cuda():
    out = ctypes.c_void_p()
    LIB.cudaMalloc(ctypes.byref(out), ctypes.c_size_t(256))
    did("cudaMalloc")
    LIB.cudaFree(out)
    did("cudaFree")


def fail():
    try:
        raise KeyError("wanted")
    except KeyError:
        did("KeyError")


def task(ns, rounds):
    for i in range(rounds):
        shares.heavy(ns * 6 // 10 // rounds)
        if LIB:
            call_cuda()
        gc.collect(i % 3)
        shares.light(ns * 4 // 10 // rounds)
        fail()
        time.sleep(0.0001)
        did("sleep")


def workload(ms="300", rounds="30"):
    ns = int(ms) * 1000000
    gc.callbacks.append(collected)
    other = threading.Thread(target=task, args=(ns, int(rounds)))
    other.start()
    task(ns, int(rounds))
    other.join()
    gc.callbacks.remove(collected)
    parts = {}
    for (_, who), spent in shares.SPENT.items():
        parts[who] = parts.get(who, 0) + spent
    return {"parts": parts, "did": DID}
