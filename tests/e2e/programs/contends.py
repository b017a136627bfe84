# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""Threads that want the GIL all the time, for some seconds of CPU each, from the same moment on; each
says how long it ran, by the wall and by the CPU. With "hog" one of them keeps it in C for long, and the
others only want it now and then."""
import os
import threading
import time
import _thread


def spin(seconds):
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def busy(result, seconds):
    wall, cpu = time.monotonic_ns(), time.thread_time_ns()
    spin(seconds)
    result[_thread.get_native_id()] = (time.monotonic_ns() - wall, time.thread_time_ns() - cpu)


def begins(result, seconds, together):
    together.wait()
    os.write(1, b"busy\n")
    busy(result, seconds)


def hog(result, name):
    """Mostly in calls of C that do not let go of the GIL."""
    result[name] = _thread.get_native_id()
    for _ in range(40):
        sum(range(400000))


def poke(result, name):
    result[name] = _thread.get_native_id()
    for _ in range(20):
        time.sleep(0.002)


def with_hog():
    result = {}
    threads = [threading.Thread(target=target, args=(result, target.__name__))
               for target in (hog, poke)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return result


def workload(count, seconds):
    if count == "hog":
        return with_hog()
    result = {}
    together = threading.Barrier(int(count))
    threads = [threading.Thread(target=begins, args=(result, float(seconds), together))
               for _ in range(int(count))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {"threads": result}
