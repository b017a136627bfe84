# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""A process whose threads are blocked in known stacks; test_stack.c reads them from outside.

Prints, when all threads are blocked, for each thread "T tid hidden" and for each of its frames,
innermost first, "F line name qualname file" separated by tabs, then "END"; then waits for a line.
What it prints is the interpreter's own view (sys._current_frames). hidden is how many frames the
interpreter may count without showing them.
"""
import sys
import threading
import time
import types

lock = threading.Lock()
lock.acquire()
started = []


def block():
    started.append(1)  # no call of Python code: from here on the stack stays as it is
    lock.acquire()
    lock.release()


def nested(n):
    return nested(n - 1) if n else block()


class Initialised:
    def __init__(self, wait):
        self.wait = wait
        if wait:
            block()


def initialise():
    for i in range(3000):  # often enough for the call to be specialised
        Initialised(i == 2999)


def generator(n):
    if n:
        yield from generator(n - 1)
    else:
        yield block()


def generators():
    for _ in generator(3):
        pass


async def coroutine(n):
    if n:
        await coroutine(n - 1)
    else:
        block()


def coroutines():
    try:
        coroutine(2).send(None)
    except StopIteration:
        pass


def größe():
    def 日本語():
        renamed = types.FunctionType(
            block.__code__.replace(co_name="\U0001f600 f\0\n", co_filename="/tmp/\udc80ü"),
            globals())
        renamed()
    日本語()


def from_c():
    sorted([1], key=lambda _: [block() for _ in (1,)])


class Deep:
    def __getattr__(self, name):
        return (lambda: block())()


def executed():
    exec(compile("def f():\n    block()\n\nf()", "<string \u00e9>", "exec"), {"block": block})


def attribute():
    return Deep().missing


def clean(text):
    return "".join("\ufffd" if c in "\0" or "\ud800" <= c <= "\udfff" else c for c in text)


def describe(frame):
    while frame:
        code = frame.f_code
        fields = (str(code.co_firstlineno), code.co_name, getattr(code, "co_qualname", ""),
                  code.co_filename)
        print("F\t" + "\t".join(clean(f).replace("\n", "\\n") for f in fields))
        frame = frame.f_back


def main():
    bodies = [lambda: nested(300), initialise, generators, coroutines, größe, from_c, attribute,
              executed]
    threads = [threading.Thread(target=body, daemon=True) for body in bodies]
    for thread in threads:
        thread.start()
    while len(started) < len(threads):
        time.sleep(0.01)
    frames = sys._current_frames()
    for body, thread in zip(bodies, threads):
        print("T\t%d\t%d" % (thread.native_id, body is initialise))
        describe(frames[thread.ident])
    print("T\t%d\t0" % threading.get_native_id())
    describe(sys._getframe())
    print("END")
    sys.stdout.flush()
    sys.stdin.readline()


sys.stdout.reconfigure(encoding="utf-8")
main()
