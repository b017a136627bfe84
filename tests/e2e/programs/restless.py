# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""Ends at a random moment in a random way, in the middle of what it does: restless.py SEED SECONDS.
Nobody waits for it to be seen."""
import gc
import os
import random
import resource
import signal
import sys
import threading
import time


def down(depth):
    if depth:
        down(depth - 1)
    elif random.random() < 0.01:
        raise ValueError("at the bottom")


def work(until):
    while time.monotonic() < until:
        try:
            down(random.randrange(30))
        except ValueError:
            gc.collect(0)
        time.sleep(0.001 * random.random())


def main():
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    random.seed(int(sys.argv[1]))
    until = time.monotonic() + float(sys.argv[2]) * random.random()
    ending = random.choice(("return", "exit", "exec", "fork", "thread", signal.SIGKILL,
                            signal.SIGSEGV, signal.SIGABRT))
    if ending == "thread":
        for _ in range(3):
            threading.Thread(target=work, args=(until + 60,), daemon=True).start()
    work(until)
    if ending == "exit":
        os._exit(3)
    if ending == "exec":
        os.execv("/bin/true", ["true", *sys.argv[3:]])
    if ending == "fork" and not os.fork():
        work(until + 0.2)
        os._exit(0)
    if isinstance(ending, signal.Signals):
        os.kill(os.getpid(), ending)


main()
