# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""A given number of calls, as fast as can be; then, when asked again, a few that must be right."""
import os
import sys


def leaf(x):
    return x


def loop(n):
    for i in range(n):
        leaf(i)


def after(x):
    return x


def deep(n):
    return n if n == 1 else deep(n - 1)


def healed():
    deep(80)
    for i in range(100):
        after(i)


def main():
    os.write(1, b"ready %d\n" % os.getpid())
    os.read(0, 1)
    loop(int(sys.argv[1]))
    os.write(1, b"first\n")
    os.read(0, 1)
    healed()
    os.write(1, b"second\n")
    os.read(0, 1)


main()
