# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""Recursion into the limit, at several limits, through Python and through C.

A hook in Python needs a frame itself and fails at the limit, so no oracle can watch this: at_limit()
switches it off, the comparer leaves out what lies below at_limit(), and the program counts its own
calls instead, which the test compares with the number of slices.
"""
import sys

COUNT = {"endless": 0, "endless_via_c": 0, "endless_generator": 0, "Endless.__init__": 0,
         "Endless.__getattr__": 0}


def fib(n):
    return n if n < 2 else fib(n - 1) + fib(n - 2)


def endless(n):
    COUNT["endless"] += 1
    return endless(n + 1) + 1


def endless_via_c(n):
    COUNT["endless_via_c"] += 1
    return sorted([n + 1], key=endless_via_c)


def endless_generator(n):
    COUNT["endless_generator"] += 1
    yield from endless_generator(n + 1)


class Endless:
    def __init__(self):
        COUNT["Endless.__init__"] += 1
        Endless()

    def __getattr__(self, name):
        COUNT["Endless.__getattr__"] += 1
        return getattr(self, name + "x")


def at_limit(function, limit):
    hook = sys.getprofile()
    sys.setprofile(None)
    monitoring = getattr(sys, "monitoring", None)
    mask = 0
    if monitoring and monitoring.get_tool(monitoring.PROFILER_ID):
        mask = monitoring.get_events(monitoring.PROFILER_ID)
        monitoring.set_events(monitoring.PROFILER_ID, 0)
    old = sys.getrecursionlimit()
    sys.setrecursionlimit(limit)
    try:
        function()
    except RecursionError:
        pass
    sys.setrecursionlimit(old)
    if mask:
        monitoring.set_events(monitoring.PROFILER_ID, mask)
    sys.setprofile(hook)


def workload():
    for limit in (100, 1000, 400, 2500):
        at_limit(lambda: endless(0), limit)
        fib(3)
    at_limit(lambda: endless_via_c(0), 300)
    fib(4)
    at_limit(lambda: list(endless_generator(0)), 200)
    fib(2)
    for _ in range(3):
        at_limit(Endless, 250)
    fib(1)
    at_limit(lambda: object.__new__(Endless).x, 150)
    fib(5)
    return COUNT
