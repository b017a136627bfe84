# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""The ways in which a process ends in the middle of its calls.

    ends.py _exit|crash|abort|exit|exception|daemon|kill|exec|thread_exec|stop
"""
import ctypes
import os
import signal
import sys
import threading
import time


def leaf(x):
    return x


def below(n, action):
    if n:
        return below(n - 1, action)
    for i in range(100):
        leaf(i)
    return action()


def spin():
    while True:
        leaf(0)


def daemon():
    for _ in range(3):
        threading.Thread(target=spin, daemon=True).start()
    time.sleep(0.2)
    sys.exit(0)


def do_exec():
    os.execv(sys.executable, [sys.executable, "-c", "def after_exec(): return 1\nafter_exec()"])


def thread_exec():
    thread = threading.Thread(target=do_exec)
    thread.start()
    thread.join()


def stop():
    """Is stopped and continued by the test; then goes on."""
    os.write(1, b"stopping\n")
    os.kill(os.getpid(), signal.SIGSTOP)
    for i in range(100):
        leaf(i)


def fail():
    raise SystemError("as wanted")


ACTIONS = {
    "_exit": lambda: os._exit(5),
    "crash": lambda: ctypes.string_at(0),
    "abort": os.abort,
    "exit": lambda: sys.exit(4),
    "exception": fail,
    "daemon": daemon,
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "exec": do_exec,
    "thread_exec": thread_exec,
    "stop": stop,
}


def workload(action):
    below(70, ACTIONS[action])


if __name__ == "__main__":
    os.write(1, b"ready %d\n" % os.getpid())
    if sys.argv[2:] != ["--go"]:
        os.read(0, 1)
    workload(sys.argv[1])
