# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""What the oracle itself changes. The comparer leaves out the functions named closed_*; all others
must still agree, before and after.

Closing a suspended generator that has no try block: from 3.13 on CPython clears the frame without
running it, unless a tool asks for PY_UNWIND, which the oracle does (3.13.18 and later).
"""


def fib(n):
    return n if n < 2 else fib(n - 1) + fib(n - 2)


def closed_generator():
    while True:
        yield fib(2)


async def closed_coroutine():
    await Forever()


class Forever:
    def __await__(self):
        return closed_await()


def closed_await():
    yield


def workload():
    for _ in range(3):
        g = closed_generator()
        next(g)
        next(g)
        g.close()
        fib(3)
        g = closed_generator()
        next(g)
        del g
        c = closed_coroutine()
        c.send(None)
        c.close()
        fib(3)
    for x in closed_generator():
        break
    any(closed_generator())
    fib(4)
