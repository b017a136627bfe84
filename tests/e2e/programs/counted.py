# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""Counts what it does: counted.py CALLS EXCEPTIONS COLLECTIONS ENDING. Waits for a line, then works,
and says so; waits for another, then ends as it was told to, without running any more Python."""
import gc
import os
import resource
import signal
import sys


def leaf():
    pass


def raising():
    raise ValueError("counted")


def work(calls, exceptions, collections):
    for _ in range(calls):
        leaf()
    for _ in range(exceptions):
        try:
            raising()
        except ValueError:
            pass
    for _ in range(collections):
        gc.collect()


def main():
    gc.disable()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    calls, exceptions, collections = map(int, sys.argv[1:4])
    os.write(1, b"ready %d\n" % os.getpid())
    while True:
        line = os.read(0, 1)
        if line != b"x":
            break
        work(calls, exceptions, collections)
        os.write(1, b"done {}\n")
    if sys.argv[4] == "exit":
        os._exit(0)
    if sys.argv[4] == "abort":
        os.abort()
    os.kill(os.getpid(), getattr(signal, sys.argv[4]))
    while True:
        signal.pause()


main()
