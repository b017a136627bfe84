# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""Does one stage for each byte on stdin and says so: stage N calls stage_N() once, which calls
leaf() N times. open_call() is running all the time."""
import os


def leaf(i):
    return i


def stage_1():
    leaf(0)


def stage_2():
    for i in range(2):
        leaf(i)


def stage_3():
    for i in range(3):
        leaf(i)


def stage_4():
    for i in range(4):
        leaf(i)


def open_call():
    for n, stage in enumerate((stage_1, stage_2, stage_3, stage_4), 1):
        if os.read(0, 1) in (b"", b"q"):
            return
        stage()
        os.write(1, b"stage %d\n" % n)
    os.read(0, 1)


def main():
    os.write(1, b"ready %d\n" % os.getpid())
    os.read(0, 1)
    os.write(1, b"begun\n")
    open_call()


main()
