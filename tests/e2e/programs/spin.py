# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""A process under load: says "ready PID", then runs unit() again and again, in THREADS threads.

    spin.py [THREADS [DEPTH [PAUSE]]]

PAUSE is slept after each unit, in seconds. A byte on stdin starts the counted phase: counted()
calls leaf() 1000 times, while the load goes on. It says "done" and its counters as JSON; a byte
more ends it.
"""
import json
import os
import sys
import threading
import time

units = 0
running = True


def leaf(x):
    return x + 1


def middle(n):
    return leaf(n) + leaf(n)


def unit():
    for i in range(10):
        middle(i)


def nested_unit(depth):
    if depth == 0:
        return unit()
    return nested_unit(depth - 1)


def spin(depth, pause):
    global units
    while running:
        nested_unit(depth)
        units += 1
        if pause:
            time.sleep(pause)


def counted_leaf(x):
    return x


def counted():
    for i in range(1000):
        counted_leaf(i)


def observed():
    tools = [sys.monitoring.get_tool(i) for i in range(6)] if hasattr(sys, "monitoring") else []
    events = [sys.monitoring.get_events(i) for i in range(6) if tools[i]] if tools else []
    return {"profile": repr(sys.getprofile()), "trace": repr(sys.gettrace()), "tools": tools,
            "events": events}


def rate(seconds):
    """Units a second of one thread alone; the load of the others goes on."""
    end, n = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        unit()
        n += 1
    return n / seconds


def main():
    global running
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    depth = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    pause = float(sys.argv[3]) if len(sys.argv) > 3 else 0
    threads = [threading.Thread(target=spin, args=(depth, pause), daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    os.write(1, b"ready %d\n" % os.getpid())
    while True:
        command = os.read(0, 1)
        if command == b"x":
            counted()
            os.write(1, b"done " + json.dumps(dict(observed(), units=units)).encode() + b"\n")
        elif command == b"r":
            os.write(1, b"rate %f\n" % rate(0.5))
        else:
            break
    running = False
    for thread in threads:
        thread.join()
    os.write(1, b"end %d\n" % units)


if __name__ == "__main__":
    main()
