# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""Launches, copies and waits at random in streams of a double of two GPUs (gpu_double.c, CUDA_LIB),
in threads; one call at a time, so that what is before what is certain. Tells which call each piece
of work was done in."""
import ctypes
import os
import random
import threading

LIB = ctypes.CDLL(os.environ["CUDA_LIB"])
LOCK = threading.Lock()
STREAMS = [0]
EVENTS = [0x5200 + i for i in range(6)]
CALLS = {"calls": 0}


class Work(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int) for name in ("tid", "number", "done_tid", "done_number",
                                                  "captured")]


def handle(n):
    return ctypes.c_uint64(n)


def call(name, *args):
    CALLS["calls"] += 1
    return getattr(LIB, name)(*args)


def launch(rng, stream):
    call("cudaLaunchKernel", handle(0x1000 * bool(rng.random() < 0.95)), handle(1),
         ctypes.c_uint32(1), handle(1), ctypes.c_uint32(1), None, ctypes.c_size_t(0), handle(stream))


def copy(rng, stream):
    call("cudaMemcpyAsync", handle(1), handle(2), ctypes.c_size_t(3), 1, handle(stream))


def fill(rng, stream):
    call("cudaMemsetAsync", handle(1), 0, ctypes.c_size_t(3), handle(stream))


def copy_now(rng, stream):
    call("cudaMemcpy", handle(1), handle(2), ctypes.c_size_t(3), rng.choice([1, 2, 3]))


def free(rng, stream):
    call("cudaFree", handle(1))


def record(rng, stream):
    call("cudaEventRecord", handle(rng.choice(EVENTS)), handle(stream))


def wait(rng, stream):
    call("cudaStreamWaitEvent", handle(stream), handle(rng.choice(EVENTS)), 0)


def event_done(rng, stream):
    call("cudaEventSynchronize", handle(rng.choice(EVENTS)))


def stream_done(rng, stream):
    call(rng.choice(["cudaStreamSynchronize", "cudaStreamQuery"]), handle(stream))


def device_done(rng, stream):
    call("cudaDeviceSynchronize")


def set_device(rng, stream):
    call("cudaSetDevice", rng.choice([0, 1, 9]))


def make(rng, stream):
    out = ctypes.c_uint64()
    if call("cudaStreamCreateWithFlags", ctypes.byref(out), rng.choice([0, 1])) == 0:
        STREAMS.append(out.value)


def destroy(rng, stream):
    if stream and call("cudaStreamDestroy", handle(stream)) == 0:
        STREAMS.remove(stream)


def graph(rng, stream):
    """A capture, of one stream or two, with a launch of the graph behind it."""
    event, other = handle(EVENTS[0]), rng.choice(STREAMS)
    if call("cudaStreamBeginCapture", handle(stream), 0):
        return
    for _ in range(3):
        launch(rng, stream)
    call("cudaEventRecord", event, handle(stream))
    call("cudaStreamWaitEvent", handle(other), event, 0)
    fill(rng, other)
    stream_done(rng, other)
    call("cudaStreamEndCapture", handle(stream), ctypes.byref(ctypes.c_void_p()))
    call("cudaGraphLaunch", handle(0x5555), handle(stream))


WHAT = [launch] * 12 + [copy, fill, copy_now, record, wait] * 4 + \
    [event_done, stream_done, stream_done, free, device_done, set_device, make, destroy, graph]


def steps(seed, count):
    rng = random.Random(seed)
    with LOCK:
        call("cudaSetDevice", 0)
    for _ in range(count):
        with LOCK:
            rng.choice(WHAT)(rng, rng.choice(STREAMS))


def workload(count):
    call("cudaSetDevice", 0)
    for _ in range(5):
        make(random, 0)
    threads = [threading.Thread(target=steps, args=(n, int(count))) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = ctypes.POINTER(Work)()
    number = LIB.double_works(ctypes.byref(found))
    return {"works": [[getattr(found[i], name) for name, _ in Work._fields_]
                      for i in range(number)], "calls": CALLS["calls"]}
