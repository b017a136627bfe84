# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
# A pure call loop: one unit is fib(20), 21891 calls and nothing else. "SECONDS" on stdin runs units
# for so long; the answer is: units, calls per unit, CPU ns, wall ns. Runs on Python 3.8 and later.
import sys
import time

CALLS = 21891


def fib(n):
    return n if n < 2 else fib(n - 1) + fib(n - 2)


def run(seconds):
    units, cpu, wall = 0, time.process_time_ns(), time.monotonic_ns()
    end = wall + int(seconds * 1e9)
    while time.monotonic_ns() < end:
        fib(20)
        units += 1
    return units, CALLS, time.process_time_ns() - cpu, time.monotonic_ns() - wall


print("ready", flush=True)
for line in sys.stdin:
    print(*run(float(line)), flush=True)
