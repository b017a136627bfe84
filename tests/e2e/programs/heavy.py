# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""Calls without end, in rounds that are all alike; a thread that waits all the time.

    "f" makes a child that does as many rounds as the test wants to see, "e" ends it, "q" ends all.
"""
import os
import sys
import threading

lock = threading.Lock()
LEAVES = 30


def leaf(n):
    return n


def generated(n):
    for i in range(n):
        yield leaf(i)


def middle(n):
    return sum(generated(n)) + len(sorted(range(n), key=leaf))


def a_round():
    for i in range(LEAVES):
        leaf(i)
    middle(3)
    return 1


def waits():
    lock.acquire()


def rounds(go_on):
    count = 0
    while go_on():
        count += a_round()
    return count


def in_child(read_end):
    import select
    rounds(lambda: not select.select([read_end], [], [], 0)[0])
    os._exit(0)


def commands(stop):
    child, write_end = 0, -1
    while True:
        command = os.read(0, 1)
        if command == b"f":
            read_end, write_end = os.pipe()
            child = os.fork()
            if not child:
                os.close(write_end)
                in_child(read_end)
            os.write(1, b"child %d\n" % child)
        elif command == b"e":
            os.close(write_end)
            status = os.waitpid(child, 0)[1]
            os.write(1, b"ended %d\n" % status)
        else:
            stop.append(1)
            return


def main():
    stop = []
    lock.acquire()
    waiting = threading.Thread(target=waits)
    waiting.start()
    threading.Thread(target=commands, args=(stop,)).start()
    os.write(1, b"ready %d\n" % os.getpid())
    rounds(lambda: not stop)
    lock.release()
    waiting.join()
    sys.exit(0)


main()
