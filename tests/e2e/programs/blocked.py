# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""A thread that waits for a lock until the test says so."""
import os
import threading

lock = threading.Lock()
waiting = threading.Event()


def after_lock(n):
    return n


def waits():
    waiting.set()
    lock.acquire()


def outer():
    waits()
    for i in range(3):
        after_lock(i)


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
