# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""Threads that want the GIL all the time; each says how long it ran, by the wall and by the CPU."""
import threading
import time
import _thread


def spin(seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


def busy(result, seconds):
    wall, cpu = time.monotonic_ns(), time.thread_time_ns()
    spin(seconds)
    result[_thread.get_native_id()] = (time.monotonic_ns() - wall, time.thread_time_ns() - cpu)


def workload(count, seconds):
    result = {}
    threads = [threading.Thread(target=busy, args=(result, float(seconds)))
               for _ in range(int(count))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {"threads": result}
