# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
# One thing over and over, which the argument names; a unit is 100 of it, each in a call of a Python
# function. Protocol as in fib.py; what is counted as calls is the things.
import asyncio
import gc
import sys
import threading
import time

COUNT = 100
LOCK = threading.Lock()
LOOP = asyncio.new_event_loop()
sys.modules.setdefault("_stat", sys)  # for imported()


def call():
    pass


def same(number, text):
    return number


def value():
    same(5, "text")


def c_function():
    LOCK.locked()


def wait():
    time.sleep(0)


def lock():
    LOCK.acquire()
    LOCK.release()


def imported():
    del sys.modules["_stat"]
    import _stat  # noqa: F401  (built in: no file is looked for)


async def step():
    await asyncio.sleep(0)


def task():
    LOOP.run_until_complete(step())


def collection():
    gc.collect(0)


def exception():
    try:
        raise ValueError("bench")
    except ValueError:
        pass


def audit():
    sys.audit("bench.event", 1)


def sleep():
    time.sleep(0.00001)


def run(seconds, work):
    units, cpu, wall = 0, time.process_time_ns(), time.monotonic_ns()
    end = wall + int(seconds * 1e9)
    while time.monotonic_ns() < end:
        for _ in range(COUNT):
            work()
        units += 1
    return units, COUNT, time.process_time_ns() - cpu, time.monotonic_ns() - wall


print("ready", flush=True)
for line in sys.stdin:
    print(*run(float(line), globals()[sys.argv[1]]), flush=True)
