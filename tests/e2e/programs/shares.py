# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""Spends known parts of its CPU time in known functions, in ways in which stacks come about: calls,
generators, calls by way of C, recursion, code that is made and freed, a thread. The functions that
call nothing say how much CPU time they had, and lined() and what it calls in which lines.

workload(MS): work() for so much CPU time, in a thread for half of it, calls() for the same time, and
lined() for two fifths of it.
"forever": work() until it is killed. "family": a child by fork() works for MS, too, and one by exec,
once there is a byte on stdin.
"""
import os
import subprocess
import sys
import threading
import time
import _thread

clock = time.thread_time_ns
PAUSE = 10000000  # no short step of a loop takes so much CPU time: the host had stopped the processor,
# which the thread's clock counts though nothing ran and no timer fired; the loops leave such steps
# out. Longer steps are compared with the shortest one: an emulated processor is slow.
PAUSES = 20
SPENT = {}  # (thread, function) -> ns
LINES = {}  # "lined:12 spin:7", where its functions stand, outermost first -> ns


def note(who, begin):
    key = _thread.get_ident(), who
    SPENT[key] = SPENT.get(key, 0) + clock() - begin


def heavy(ns):
    begin = now = clock()
    while now - begin < ns:
        sum(range(200))
        step = clock() - now
        now += step
        begin += step * (step > PAUSE)
    note("heavy", begin)


def middle(ns):
    begin = now = clock()
    while now - begin < ns:
        sum(range(200))
        step = clock() - now
        now += step
        begin += step * (step > PAUSE)
    note("middle", begin)


def light(ns):
    begin = now = clock()
    while now - begin < ns:
        sum(range(200))
        step = clock() - now
        now += step
        begin += step * (step > PAUSE)
    note("light", begin)


def work(ns):
    end = clock() + ns
    while clock() < end:
        heavy(14000000)
        middle(4000000)
        light(2000000)


def mapped(x):
    return x + 1


def through_c():
    """Many short runs of the interpreter's loop, one after the other at the same place."""
    list(map(mapped, range(50)))
    list(map(lambda x: x, range(50)))


def deeper():
    through_c()


def numbers(n):
    for i in range(n):
        yield i


def doubled(n):
    for i in numbers(n):
        yield 2 * i


def consume():
    sum(doubled(50))
    return max(numbers(50))


def recurse(n):
    return recurse(n - 1) if n else 0


def made():
    """Functions of one line and length, whose code is freed: the next is often at its place."""
    for name in ("one", "two"):
        scope = {}
        source = "def f():\n  def %s():\n    for i in range(99): pass\n  %s()\n" % (name, name)
        exec(compile(source, "<made %s>" % name, "exec"), scope)
        scope["f"]()


def calls(ns):
    begin = now = clock()
    least = ns
    while now - begin < ns:
        through_c()
        consume()
        deeper()
        recurse(30)
        made()
        step = clock() - now
        now += step
        least = min(least, step)
        begin += step * (step > max(PAUSE, PAUSES * least))
    note("calls", begin)


def following():
    return sys._getframe(1).f_lineno + 1


def note_line(where, begin):
    LINES[where] = LINES.get(where, 0) + clock() - begin


def spin(ns, above):
    begin = now = clock()
    line = following()
    while now - begin < ns: sum(range(200)); d = clock() - now; now += d; begin += d * (d > PAUSE)
    note_line("%s spin:%d" % (above, line), begin)
    begin = now = clock()
    least = ns
    line = following() + 1
    while now - begin < ns:
        for i in range(2000): i * i - i
        step = clock() - now
        now += step
        least = min(least, step)
        begin += step * (step > max(PAUSE, PAUSES * least))
    note_line("%s spin:%d" % (above, line), begin)


def spinning(ns, above):
    """A generator: the time between two of its values is its own."""
    least = ns
    line, until = following() + 2, clock() + ns
    while clock() < until:
        begin = clock()
        for i in range(10000): i * i - i
        step = clock() - begin
        least = min(least, step)
        begin += step * (step > max(PAUSE, PAUSES * least))
        note_line("%s spinning:%d" % (above, line), begin)
        yield line


def lined(ns):
    line = following()
    spin(ns // 20, "lined:%d" % line)
    line = following()
    spin(ns // 10, "lined:%d" % line)
    line = following()
    for _ in spinning(ns // 10, "lined:%d" % line):
        pass


def family(ns):
    child = os.fork()
    if not child:
        work(ns)
        os._exit(0)
    code = ("import sys\nsys.path.insert(0, %r)\nimport shares\nsys.stdin.read()\nshares.work(%d)\n" %
            (os.path.dirname(os.path.abspath(__file__)), ns))
    other = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE)
    os.write(1, b"executed %d\n" % other.pid)
    os.read(0, 1)
    other.stdin.close()
    work(ns)
    os.waitpid(child, 0)
    other.wait()
    return {"forked": child, "executed": other.pid}


def workload(ms="300", how="all"):
    ns = int(ms) * 1000000
    if how == "forever":
        work(1 << 60)
    if how == "family":
        return family(ns)
    other = threading.Thread(target=work, args=(ns // 2,))
    other.start()
    work(ns)
    calls(ns)
    lined(ns)
    other.join()
    parts = {}
    for (_, who), spent in SPENT.items():
        parts[who] = parts.get(who, 0) + spent
    return {"functions": parts, "lines": LINES}
