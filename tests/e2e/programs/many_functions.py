# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""A program with ever more functions: many_functions.py FUNCTIONS MARKER. At each byte on stdin it makes so
many, and calls each once; meanwhile a thread calls leaf(), a millisecond apart at least, up to "q",
and then it says how often."""
import os
import sys
import threading
import time

COUNT = [0]
STOP = threading.Event()


def leaf():
    COUNT[0] += 1


def steady():
    while not STOP.is_set():
        leaf()
        time.sleep(0.001)


def grow(count, round_number):
    for i in range(count):
        scope = {}
        exec("def f_%d_%d(): pass" % (round_number, i), scope)
        scope.popitem()[1]()


def main():
    print("ready %d" % os.getpid(), flush=True)
    rounds = 0
    os.read(0, 1)
    thread = threading.Thread(target=steady)
    thread.start()
    while os.read(0, 1) == b"g":
        grow(int(sys.argv[1]), rounds)
        rounds += 1
        print("grown %d" % rounds, flush=True)
    STOP.set()
    thread.join()
    print("done [%d]" % COUNT[0], flush=True)
    os.read(0, 1)


main()
