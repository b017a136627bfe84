# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""Children by fork, exec, subprocess and multiprocessing; says "done" and their pids and counts.

    forks.py hold|orphan|exec|itself|itself_twice|executing|subprocess|pool|spawn|forkserver|tree|
             thread|calls_c
"""
import json
import os
import subprocess
import sys
import threading
import time


def leaf(x):
    return x


def in_child():
    for i in range(50):
        leaf(i)


def in_parent():
    for i in range(30):
        leaf(i)


def fork(body):
    pid = os.fork()
    if pid == 0:
        body()
        os._exit(0)
    return pid


def hold():
    """A child that stays until the parent closes a pipe."""
    read_end, write_end = os.pipe()
    ready_read, ready_write = os.pipe()

    def body():
        os.close(write_end)
        in_child()
        os.write(ready_write, b"x")
        os.read(read_end, 1)
        in_child()
    child = fork(body)
    os.read(ready_read, 1)
    in_parent()
    return {"children": [child]}, lambda: (os.close(write_end), os.waitpid(child, 0))


def orphan():
    """A child that goes on when its parent has ended."""
    read_end, write_end = os.pipe()
    if os.fork():
        os._exit(0)
    os.close(write_end)
    os.read(read_end, 1)
    in_child()
    return {"children": [os.getpid()]}, None


def wait(pids):
    for pid in pids:
        _, status = os.waitpid(pid, 0)
        if status:
            sys.exit("child %d ended with %d" % (pid, status))


def do_exec():
    program = "import forks; forks.in_child()"

    def body():
        in_child()
        os.execv(sys.executable, [sys.executable, "-c", program])
    os.environ["PYTHONPATH"] = os.path.dirname(os.path.abspath(__file__))
    child = fork(body)
    in_parent()
    wait([child])
    return {"children": [child]}, None


def by_python(text):
    """The command of a Python that knows this file and runs text."""
    os.environ["PYTHONPATH"] = os.path.dirname(os.path.abspath(__file__))
    return [sys.executable, "-c", "import forks; " + text]


def itself():
    """It executes its interpreter, which goes on with the protocol."""
    in_parent()
    command = by_python("forks.in_child(); forks.tell({})")
    os.execv(command[0], command)


def itself_twice():
    """The same by way of a shell."""
    in_parent()
    os.execv("/bin/sh", ["sh", "-c", 'exec "$0" "$@"'] + by_python("forks.in_child(); forks.tell({})"))


def call_until(path):
    while not os.path.exists(path):
        leaf(0)
        time.sleep(0.01)


def executing():
    """Children that execute the interpreter at different times after their fork, and then call
    leaf() until a file is there."""
    def child(i):
        command = by_python("forks.call_until(%r)" % sys.argv[2])
        time.sleep(0.02 * i)
        os.execv(command[0], command)
    return {"children": [fork(lambda: child(i)) for i in range(12)]}, None


def do_subprocess():
    """Other programs too: a shell, and Python below it."""
    text = "import os, forks; forks.in_child(); print(os.getpid())"
    os.environ["PYTHONPATH"] = os.path.dirname(os.path.abspath(__file__))
    pids = []
    for command in ([sys.executable, "-c", text], ["sh", "-c", '"$0" -c "$1"; true', sys.executable,
                                                   text]):
        pids.append(int(subprocess.check_output(command)))
    subprocess.check_call(["true"])
    in_parent()
    return {"children": pids}, None


def task(x):
    leaf(x)
    return os.getpid()


def pool(method="fork"):
    import multiprocessing
    os.environ["PYTHONPATH"] = os.path.dirname(os.path.abspath(__file__))
    context = multiprocessing.get_context(method)
    with context.Pool(3) as workers:
        pids = workers.map(task, range(200), chunksize=1)
        workers.close()
        workers.join()
    return {"children": sorted(set(pids)), "tasks": len(pids)}, None


def spawn():
    return pool("spawn")


def forkserver():
    return pool("forkserver")


def tree():
    """Three generations, each calls leaf()."""
    def grandchild():
        in_child()

    def child():
        in_child()
        wait([fork(grandchild)])
    wait([fork(child), fork(child)])
    in_parent()
    return {"children": []}, None


def thread():
    """fork() in a thread: the child has one thread, with another tid."""
    pids = []

    def run():
        pids.append(fork(in_child))
    t = threading.Thread(target=run)
    t.start()
    t.join()
    wait(pids)
    in_parent()
    return {"children": pids}, None


def calls_c():
    """A child and its child call C functions that the parent never calls; then they are gone."""
    import math
    import zlib

    def grandchild():
        math.fsum([1.0, 2.0])
        b"x".hex()

    def child():
        zlib.adler32(b"x")
        wait([fork(grandchild)])
    pid = fork(child)
    wait([pid])
    return {"children": [pid]}, None


def tell(result):
    os.write(1, b"done " + json.dumps(result).encode() + b"\n")
    os.read(0, 1)


def main():
    os.write(1, b"ready %d\n" % os.getpid())
    os.read(0, 1)
    action = {"hold": hold, "orphan": orphan, "exec": do_exec, "itself": itself,
              "itself_twice": itself_twice, "executing": executing, "subprocess": do_subprocess,
              "pool": pool, "spawn": spawn, "forkserver": forkserver, "tree": tree,
              "thread": thread, "calls_c": calls_c}[sys.argv[1]]
    result, after = action()
    tell(result)
    if after:
        after()


if __name__ == "__main__":
    main()
