# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""Threads whose calls write down when they were made, so that a test can tell what a trace with
pauses must hold.

Each call of level_0() .. level_6() and of the generator and the class in between is [name, before,
begin, end, after]: the caller's clock before and after, the callee's at its begin and end. No name
encloses itself. For each byte on stdin it says "calls N", how many have ended; "h" ends held() of the
main thread too, which then calls it again. "q" ends all, and it says "done" and {tid: [calls]}.
"""
import json
import os
import random
import threading
import time

clock = time.monotonic_ns
logs = {}
running = True
LEVELS = 7


def call(log, function, *args):
    before = clock()
    name, begin, end = function(*args)
    log.append([name, before, begin, end, clock()])


def rest(chance):
    if chance < 0.03:
        time.sleep(0.2)
    elif chance < 0.3:
        time.sleep(0.001)


class Made:
    def __init__(self, log, times):
        times.append(clock())
        call(log, leaf)
        times.append(clock())


def make(log):
    begin, times, before = clock(), [], clock()
    Made(log, times)
    log.append(["__init__", before, times[0], times[1], clock()])
    return "make", begin, clock()


def leaf():
    begin = clock()
    return "leaf", begin, clock()


def numbers(n):
    for i in range(n):
        yield i


def consume():
    begin, total = clock(), 0
    for i in numbers(3):
        total += i
    return "consume", begin, clock()


def fails():
    begin = clock()
    try:
        raiser()
    except ValueError:
        pass
    return "fails", begin, clock()


def raiser():
    raise ValueError


LEVEL = '''
def level_{n}(log, random):
    begin = clock()
    rest(random.random())
    for _ in range(random.randrange(3)):
        if {n} + 1 < LEVELS:
            call(log, level_{next}, log, random)
        call(log, random.choice(OTHERS), *OTHER_ARGUMENTS(log))
    return "level_{n}", begin, clock()
'''
for number in range(LEVELS):
    exec(compile(LEVEL.format(n=number, next=number + 1), __file__, "exec"))


def with_log(log):
    return ()


def make_with_log():
    return make(logs[threading.get_native_id()])


OTHERS = [leaf, consume, fails, make_with_log]
OTHER_ARGUMENTS = with_log


def run(seed):
    log = logs[threading.get_native_id()] = []
    generator = random.Random(seed)
    while running:
        call(log, level_0, log, generator)


def held():
    """Until a test says so: how long a pause takes is not for this program to know."""
    global running
    begin = clock()
    while True:
        os.write(1, b"calls %d\n" % sum(len(log) for log in list(logs.values())))
        command = os.read(0, 1)
        if command in (b"", b"q"):
            running = False
        if command in (b"", b"q", b"h"):
            return "held", begin, clock()


def main():
    os.write(1, b"ready %d\n" % os.getpid())
    os.read(0, 1)
    threads = [threading.Thread(target=run, args=(seed,)) for seed in (1, 2, 3)]
    for thread in threads:
        thread.start()
    log = logs[threading.get_native_id()] = []
    while running:
        call(log, held)
    for thread in threads:
        thread.join()
    print("done " + json.dumps(logs), flush=True)
    os.read(0, 1)


main()
