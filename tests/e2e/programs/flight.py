# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""What a flight recorder's triggers wait for, one thing for each byte on stdin; it says "did BYTE" then.

n: numbered calls, without end until the next byte; it writes down when each began and ended, and
   says "counted" when there are enough for a test
e: an exception     s: a slow call     g: a garbage collection with something to do
m: it takes 64 MB
l: two threads want the GIL            c: it crashes      q: it ends, and says what it wrote down
d: a call of CUDA that takes 30 ms     f: one that fails  (of the library CUDA_LIB)
v: it has 48 MB on the GPU, none, 48 MB and 78 MB
"""
import ctypes
import gc
import json
import os
import select
import signal
import sys
import threading
import time

clock = time.monotonic_ns
numbers = []


class FlightError(Exception):
    pass


def inner(n):
    return n


def make(n):
    space = {}
    exec("def call_%d(inner):\n    inner(%d)\n" % (n, n), space)
    return space["call_%d" % n]


calls = [make(n) for n in range(100)]


def count():
    """call_0(), call_1() .. call_99(), and from the start again."""
    n = 0
    while not select.select([0], [], [], 0.001)[0]:
        for _ in range(5):
            begin = clock()
            calls[n % 100](inner)
            numbers.append((n % 100, begin, clock()))
            n += 1
        if n == 500:
            os.write(1, b"counted\n")


def fail():
    try:
        raise FlightError("what went wrong")
    except FlightError:
        pass


def slow_part(seconds):
    time.sleep(seconds)


def slow_call():
    slow_part(0.25)


def collect():
    gc.collect()


def spin(until):
    while clock() < until:
        inner(0)


def contend():
    until = clock() + 50 * 10**6
    threads = [threading.Thread(target=spin, args=(until,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def grow():
    kept.append(b"x" * (64 << 20))


kept = []


CUDA = ctypes.CDLL(os.environ["CUDA_LIB"]) if "CUDA_LIB" in os.environ else None


def wait_for_device():
    CUDA.cudaEventQuery(None)  # "not yet": neither long nor a failure
    CUDA.cudaDeviceSynchronize()


def fail_to_allocate():
    CUDA.cudaMalloc(ctypes.byref(ctypes.c_void_p()), ctypes.c_size_t(1))


def allocate(size):
    pointer = ctypes.c_void_p()
    CUDA.cudaMalloc(ctypes.byref(pointer), ctypes.c_size_t(size))
    return pointer


def use_device():
    CUDA.cudaFree(allocate(48 << 20))
    allocate(48 << 20)
    allocate(30 << 20)


def crash():
    os.kill(os.getpid(), signal.SIGSEGV)
    time.sleep(60)


DO = {b"n": count, b"e": fail, b"s": slow_call, b"g": collect, b"l": contend, b"m": grow, b"c": crash,
      b"d": wait_for_device, b"f": fail_to_allocate, b"v": use_device}


def wait_here():
    return os.read(0, 1)


def main():
    gc.disable()
    sys.setswitchinterval(0.001)
    os.write(1, b"ready %d\n" % os.getpid())
    while True:
        byte = wait_here()
        if byte in (b"", b"q"):
            break
        if byte not in DO:
            continue
        DO[byte]()
        os.write(1, b"did " + byte + b"\n")
    os.write(1, ("done %s\n" % json.dumps(numbers)).encode())


main()
