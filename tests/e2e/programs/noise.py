# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""Much of what is no call, as fast as can be, on two threads; then, when asked again, a little that
must be right."""
import gc
import os
import sys
import threading


importing = threading.Lock()


class Cyclic:
    def __init__(self):
        self.me = self

    def __del__(self):
        finalised()


def finalised():
    pass


def once(i):
    Cyclic()
    gc.collect(0)
    sys.audit("app.mark", i)
    with importing:  # one that takes away what the other is importing makes that one fail
        sys.modules.pop("small_b", None)
        import small_b
    try:
        raise ValueError("no %d" % i)
    except ValueError:
        pass


def loop(n):
    for i in range(n):
        once(i)


def healed():
    for i in range(20):
        once(i)


def main():
    gc.disable()
    os.write(1, b"ready %d\n" % os.getpid())
    os.read(0, 1)
    other = threading.Thread(target=loop, args=(int(sys.argv[1]),))
    other.start()
    loop(int(sys.argv[1]))
    other.join()
    os.write(1, b"first\n")
    os.read(0, 1)
    healed()
    os.write(1, b"second\n")
    os.read(0, 1)


main()
