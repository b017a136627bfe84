# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""Functions to start and stop at by name, in three threads; says what it called as JSON."""
import json
import os
import threading


def leaf(i):
    return i


def wanted(i):
    for k in range(3):
        leaf(k)
    if i % 5 == 0:
        nested()


def nested():
    if lock.acquire(False):
        lock.release()
        wanted(1)


def unwanted(i):
    leaf(i)
    leaf(i)


class Thing:
    def __init__(self):
        leaf(0)

    def method(self):
        leaf(1)

    def généré_名前(self):
        yield leaf(2)
        yield leaf(3)


def fails():
    leaf(0)
    raise KeyError


def caller(n):
    for i in range(n):
        unwanted(i)
        wanted(i)
        thing = Thing()
        thing.method()
        list(thing.généré_名前())
        try:
            fails()
        except KeyError:
            pass


def last():
    leaf(0)


lock = threading.Lock()


def main():
    os.write(1, b"ready %d\n" % os.getpid())
    os.read(0, 1)
    threads = [threading.Thread(target=caller, args=(20,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    caller(20)
    for thread in threads:
        thread.join()
    last()
    unwanted(0)
    os.write(1, b"done " + json.dumps({}).encode() + b"\n")
    os.read(0, 1)


main()
