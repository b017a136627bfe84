# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""Threads that wait in known functions and system calls, and were seen to do so: for a pipe, a lock,
a child.

workload(ROUNDS, NAPS): after so many short sleeps, says of each wait the thread, the function, the system call, and from when until
when it lasted at least (CLOCK_MONOTONIC): from when the main thread saw it there, until it ended it.
"""
import os
import threading
import time

NUMBERS = {"read": "0", "futex": "202", "wait4": "61"}
HOLD_S = 0.02


def settle():
    """The end of the first thread has glibc load libgcc_s. What code is mapped does not change later."""
    thread = threading.Thread(target=len, args=((),))
    thread.start()
    thread.join()
    while len(os.listdir("/proc/self/task")) > 1:
        time.sleep(0.001)


settle()


def wait_read(fd):
    os.read(fd, 1)


def wait_lock(lock):
    lock.acquire()


def wait_child(pid):
    os.waitpid(pid, 0)


def is_in(tid, call):
    """Is the thread off the CPU in that call, for as long as it takes?"""
    with open("/proc/self/task/%d/syscall" % tid) as file:
        now = file.read().split()  # the number, six arguments, ..; or "running"
    return now[0] == NUMBERS[call] and not (call == "futex" and int(now[4], 16))


def hold(function, argument, call, release):
    thread = threading.Thread(target=function, args=(argument,))
    thread.start()
    while not is_in(thread.native_id, call):
        time.sleep(0.001)
    seen = time.monotonic_ns()
    time.sleep(HOLD_S)
    until = time.monotonic_ns()
    release()
    thread.join()
    return {"tid": thread.native_id, "function": function.__name__, "call": call, "seen": seen,
            "until": until}


def child():
    """One that lasts until something is written to the pipe."""
    end, begin = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(begin)
        os.read(end, 1)
        os._exit(0)
    os.close(end)
    return pid, lambda: os.close(begin)


def workload(rounds, naps="0"):
    waits = []
    for _ in range(int(naps)):
        time.sleep(0.00005)
    for _ in range(int(rounds)):
        end, begin = os.pipe()
        waits.append(hold(wait_read, end, "read", lambda: os.write(begin, b"x")))
        lock = threading.Lock()
        lock.acquire()
        waits.append(hold(wait_lock, lock, "futex", lock.release))
        pid, release = child()
        waits.append(hold(wait_child, pid, "wait4", release))
    return waits
