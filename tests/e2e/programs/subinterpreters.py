# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""Code in sub-interpreters: on the main thread below Python frames, nested, and in threads."""
import sys
import threading

if sys.version_info >= (3, 13):
    import _interpreters as interpreters
    run = interpreters.exec
else:
    import _xxsubinterpreters as interpreters
    run = interpreters.run_string

CODE = """
def leaf_%(name)s(i):
    return i
def work_%(name)s(n):
    for i in range(n):
        leaf_%(name)s(i)
work_%(name)s(%(count)d)
"""
# One more interpreter below that one.
DEEP = """
import %(module)s as interpreters
def deeper():
    interp = interpreters.create()
    interpreters.%(run)s(interp, %(code)r)
    interpreters.destroy(interp)
deeper()
"""
COUNT = 200


def run_any(interp, code):
    try:
        run(interp, code)
    except Exception:  # pylint: disable=broad-except
        between("failed")  # RunFailedError, up to 3.12


def inside(name, code=CODE):
    interp = interpreters.create()
    run_any(interp, code % {"name": name, "count": COUNT})
    between(name)
    run_any(interp, code % {"name": name, "count": COUNT})
    interpreters.destroy(interp)


def inside_deep():
    interp = interpreters.create()
    run_any(interp, DEEP % {"module": interpreters.__name__, "run": run.__name__,
                            "code": CODE % {"name": "deep", "count": COUNT}})
    between("deep")
    interpreters.destroy(interp)


def between(name):
    return name


def in_thread(name):
    for _ in range(3):
        between(name)
    inside(name)


def workload():
    inside("main")
    inside("failing", CODE + "raise ValueError(1)\n")
    threads = [threading.Thread(target=in_thread, args=("thread%d" % i,)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    between("end")
    inside_deep()


if __name__ == "__main__":
    import os
    os.write(1, b"ready %d\n" % os.getpid())
    os.read(0, 1)
    workload()
