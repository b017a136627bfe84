# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""Generators and coroutines that are closed while they are suspended, or are never resumed.

From 3.13 on CPython clears a frame without a try block instead of running it; drive.py says how the
oracle takes that into account.
"""


def fib(n):
    return n if n < 2 else fib(n - 1) + fib(n - 2)


def endless():
    while True:
        yield fib(2)


async def waits():
    await Forever()


class Forever:
    def __await__(self):
        return suspends()


def suspends():
    yield


def guarded():
    try:
        yield fib(1)
        yield fib(2)
    finally:
        fib(3)


def delegating():
    yield fib(1)
    yield from endless()


def workload():
    for _ in range(3):
        g = endless()
        next(g)
        next(g)
        g.close()
        fib(3)
        # Not in a local variable: up to 3.10 sys.setprofile keeps the values of locals alive.
        box = [endless()]
        next(box[0])
        box.pop()
        c = waits()
        c.send(None)
        c.close()
        fib(3)
    for x in endless():
        break
    any(endless())
    for make in (guarded, delegating, endless):
        for steps in range(4):
            for _ in zip(range(steps), make()):
                pass
    next(zip(make(), endless()))
    fib(4)
