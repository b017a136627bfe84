# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""A thread that waits for a lock until the test says so.

    blocked.py call|callback|generator
"""
import os
import sys
import threading

lock = threading.Lock()
waiting = threading.Event()


def after_lock(n):
    return n


def wait():
    def waits(*args):
        waiting.set()
        lock.acquire()
    return waits


def wait_in_generator():
    def waits():
        waiting.set()
        lock.acquire()
        yield 1
    return waits


def outer():
    if sys.argv[1] == "call":
        CALL()
    elif sys.argv[1] == "callback":
        sorted([1], key=CALL)
    else:
        next(GENERATOR)
    for i in range(3):
        after_lock(i)


CALL = wait()
GENERATOR = wait_in_generator()()


def leaf(n):
    return n


def work_main():
    for i in range(100):
        leaf(i)


def main():
    lock.acquire()
    thread = threading.Thread(target=outer)
    thread.start()
    waiting.wait()
    os.write(1, b"ready %d\n" % os.getpid())
    while True:
        command = os.read(0, 1)
        if command == b"w":
            work_main()
            os.write(1, b"worked\n")
        elif command == b"l":
            lock.release()
            thread.join()
            os.write(1, b"released\n")
        else:
            return


main()
