# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
# A loop of calls of one CUDA function: one unit is 2000 of them. argv: the library. "SECONDS" on
# stdin runs units for so long; the answer is: units, calls per unit, CPU ns, wall ns.
import ctypes
import sys
import time

CALLS = 2000
LIB = ctypes.CDLL(sys.argv[1])
MALLOC = LIB.cudaMalloc
OUT = ctypes.byref(ctypes.c_void_p())
SIZE = ctypes.c_size_t(4096)


def unit():
    for _ in range(CALLS):
        MALLOC(OUT, SIZE)


def run(seconds):
    units, cpu, wall = 0, time.process_time_ns(), time.monotonic_ns()
    end = wall + int(seconds * 1e9)
    while time.monotonic_ns() < end:
        unit()
        units += 1
    return units, CALLS, time.process_time_ns() - cpu, time.monotonic_ns() - wall


print("ready", flush=True)
for line in sys.stdin:
    print(*run(float(line)), flush=True)
