# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""Threads that wait for a lock until the test says so, each in its own way: the frame that waits
was called by Python, by C, or is a generator's.
"""
import os
import threading

WAYS = ("call", "callback", "generator")
lock = threading.Lock()
waiting = threading.Semaphore(0)


def after_lock(n):
    return n


def wait():
    def waits(*args):
        waiting.release()
        with lock:
            pass
    return waits


def wait_in_generator():
    def waits():
        waiting.release()
        with lock:
            pass
        yield 1
    return waits


def outer(way):
    if way == "call":
        CALL()
    elif way == "callback":
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
    threads = [threading.Thread(target=outer, args=(way,), name=way) for way in WAYS]
    for thread in threads:
        thread.start()
    for _ in threads:
        waiting.acquire()
    os.write(1, b"ready %d\n" % os.getpid())
    while True:
        command = os.read(0, 1)
        if command == b"w":
            work_main()
            os.write(1, b"worked\n")
        elif command == b"l":
            lock.release()
            for thread in threads:
                thread.join()
            os.write(1, b"released\n")
        else:
            return


main()
