# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""Threads that compute, sleep, wait for a lock and for a pipe, one after the other, and what the
kernel says of each: its context switches. status() is called around each, so that the trace tells
when the kernel was asked."""
import os
import threading
import time
import _thread

NAPS, NAP = 8, 0.01
ASKED, SLEPT = [], []


def status_of_kernel():
    """(voluntary switches, others), of this thread."""
    with open("/proc/self/task/%d/status" % _thread.get_native_id()) as file:
        lines = dict(line.split(":", 1) for line in file)
    return int(lines["voluntary_ctxt_switches"]), int(lines["nonvoluntary_ctxt_switches"])


def status():
    return status_of_kernel()


def compute():
    end = time.thread_time() + 0.1
    while time.thread_time() < end:
        pass


def voluntary():
    return status_of_kernel()[0]


def nap():
    """On a busy machine the time may be over before the call, which does not sleep then."""
    for _ in range(NAPS):
        before = voluntary()
        time.sleep(NAP)
        SLEPT.append(voluntary() > before)


def give_up():
    for _ in range(20):
        os.sched_yield()


def wait_for_lock():
    """As in nap(), the time may be over before the call."""
    lock = threading.Lock()
    lock.acquire()
    before = voluntary()
    while voluntary() == before:
        lock.acquire(timeout=0.03)


def in_read(pid, tid):
    with open("/proc/%d/task/%d/syscall" % (pid, tid)) as file:
        return file.read().startswith("0 ")  # or another call's number, or "running"


def wait_for_pipe():
    """The child writes when its parent waits, however long that one takes to leave fork()."""
    ends = os.pipe()
    reader = os.getpid(), _thread.get_native_id()
    child = os.fork()
    if not child:
        while not in_read(*reader):
            time.sleep(0.01)
        os.write(ends[1], b"x")
        os._exit(0)
    os.read(ends[0], 1)
    os.waitpid(child, 0)


def measured(function):
    before, cpu = status(), time.thread_time_ns()
    function()
    cpu, after = time.thread_time_ns() - cpu, status()
    ASKED.append([function.__name__, _thread.get_native_id(), before, after, cpu])


def many():
    for _ in range(3000):
        time.sleep(0.0001)


def workload(how="each"):
    if how == "many":
        return many()
    for function in (compute, nap, give_up, wait_for_lock, wait_for_pipe):
        thread = threading.Thread(target=measured, args=(function,))
        thread.start()
        thread.join()
    return {"asked": ASKED, "naps": sum(SLEPT), "nap_ns": int(NAP * 1e9)}
