# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""Code in a sub-interpreter that stops for a byte on standard input, for the test to pause and resume in
the middle: with the interpreter running on both sides, or over before recording goes on."""
import os
import sys

if sys.version_info >= (3, 13):
    import _interpreters as interpreters
    run = interpreters.exec
else:
    import _xxsubinterpreters as interpreters
    run = interpreters.run_string

CODE = """
import os
def wait(n):
    os.write(1, b"stage %%d\\n" %% n)
    os.read(0, 1)
def leaf():
    pass
def work():
    leaf()
    wait(%d)
    leaf()
    if %d:
        wait(%d)
        leaf()
work()
"""


def after():
    pass


def wait(n):
    os.write(1, b"stage %d\n" % n)
    os.read(0, 1)


def both_sides(interp):
    run(interp, CODE % (1, 1, 2))
    after()


def over_before(interp):
    run(interp, CODE % (3, 0, 0))
    wait(4)
    after()


def workload():
    interp = interpreters.create()
    both_sides(interp)
    over_before(interp)
    interpreters.destroy(interp)


if __name__ == "__main__":
    os.write(1, b"ready %d\n" % os.getpid())
    os.read(0, 1)
    workload()
