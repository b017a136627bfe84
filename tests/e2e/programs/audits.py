# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""Raises audit events, by C and by sys.audit(). With "watch" a hook notes them: the name and what can be
told of each argument without running code.
"""
import os
import sys
import threading

SEEN = []
MINE = ["app.mark", "app.other", "open", "compile", "exec", "os.listdir", "os.putenv"]


def plain(value):
    if value is None:
        return "None"
    if isinstance(value, int):
        return int(value) if abs(value) < 1 << 60 else "int"
    if isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return value.decode()
    return type(value).__name__


def hook(event, args):
    if event in MINE:
        SEEN.append([event, [plain(a) for a in args]])


class Thing:
    pass


def marks():
    sys.audit("app.mark")
    sys.audit("app.mark", 0, 1, -1, 2 ** 30)
    sys.audit("app.mark", -2 ** 59, 2 ** 60 - 1, 2 ** 60, True)
    sys.audit("app.other", "ascii", "\u00e9t\u00e9", "\u6f22", "\U0001f600")
    sys.audit("app.mark", None, b"bytes", "", b"", Thing())
    sys.audit("app.mark", "x" * 1000, 1.5)
    sys.audit("unwanted", 1)
    sys.audit("app", 1)
    sys.audit("app.mark", 1, 2, 3, 4, 5, 6, 7)


def by_c():
    open(os.devnull).close()
    exec(compile("1", "<made up>", "eval"))
    os.listdir("/")
    os.putenv("NAME", "value")


def workload(*how):
    if how:
        sys.addaudithook(hook)
    marks()
    by_c()
    other = threading.Thread(target=marks)
    other.start()
    other.join()
    by_c()
    return {"seen": SEEN[:]}
