# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""Calls C functions whose number and nesting it knows itself. With a folder, it then imports the
extension module that lies there and calls a function of it after each line that it reads."""
import _thread
import os
import re
import socket
import sys
import threading
import time

ROUNDS = 20
DEEP = 70    # more than the 64 returns that a kernel follows
DEEPER = 950 # more than are followed at once


def waits():
    for _ in range(ROUNDS):
        time.sleep(0)


def sends():
    a, b = socket.socketpair()
    for _ in range(ROUNDS):
        a.sendall(b"x")
        b.recv(1)
    a.close()
    b.close()


def sorts():
    for _ in range(ROUNDS):
        [3, 1, 2].sort()
        sorted([2, 1])


def locks():
    lock = _thread.allocate_lock()
    for _ in range(ROUNDS):
        lock.acquire()
        lock.release()


def replace(match):
    return match.group().upper()


def searches():
    pattern = re.compile("[a-c]")
    for _ in range(ROUNDS):
        pattern.sub(replace, "a-b")


def fail(_):
    raise KeyError("x")


def raises():
    for _ in range(ROUNDS):
        try:
            sorted([1], key=fail)
        except KeyError:
            pass
        try:
            time.sleep("x")
        except TypeError:
            pass


def down(left):
    if left > 1:
        sorted([left - 1], key=down)
    return left


def deep():
    down(DEEP)


def deeper():
    # on a stack that is large enough, and with a limit that C functions may count towards
    sys.setrecursionlimit(10 * DEEPER)
    threading.stack_size(512 << 20)
    thread = threading.Thread(target=down, args=(DEEPER,))
    thread.start()
    thread.join()
    after = threading.Thread(target=after_deeper)
    after.start()
    after.join()


def after_deeper():
    sorted([1])


def forks():
    pid = os.fork()
    if not pid:
        time.sleep(0)
        os._exit(0)
    os.waitpid(pid, 0)


def late(folder):
    sys.path.insert(0, folder)
    import _bisect
    for _ in sys.stdin:
        _bisect.insort_right([1, 3], 2)
        print("done", flush=True)


def main():
    for part in (waits, sends, sorts, locks, searches, raises, deep, forks):
        part()
    if sys.argv[1] == "deeper":
        deeper()
    elif sys.argv[1] != "plain":
        late(sys.argv[1])


main()
