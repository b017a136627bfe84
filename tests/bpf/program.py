# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""The program that check.py runs: what makes frames start and end in unusual ways."""
import asyncio
import functools
import json
import sys
import threading


def fib(n):
    return n if n < 2 else fib(n - 1) + fib(n - 2)


def deep(n):
    return 0 if n == 0 else 1 + deep(n - 1)


def boom(n):
    if n == 0:
        raise ValueError("boom")
    boom(n - 1)


class Base:
    def __init__(self, x):
        self.x = x


class Child(Base):
    def __init__(self, x):
        super().__init__(x)
        self.y = helper(x)

    def __getattr__(self, name):
        return name

    def __eq__(self, other):
        return True

    @property
    def prop(self):
        return self.x

    @functools.lru_cache(None)
    def cached(self, n):
        return n

    def __hash__(self):
        return 1

    def __len__(self):
        return 3


class Meta(type):
    def __call__(cls, *args):
        return super().__call__(*args)


class WithMeta(metaclass=Meta):
    def __init__(self, x):
        self.x = x


class Dying:
    def __del__(self):
        helper(1)


class DyingInit:
    def __init__(self):
        local = Dying()
        del local
        keep = Dying()  # noqa: F841: dies when the frame is cleared


class BadInit:
    def __init__(self):
        raise KeyError


class Manager:
    def __enter__(self):
        return self

    def __exit__(self, *args):
        return True


def helper(x):
    return x


def gen(n):
    for i in range(n):
        try:
            yield helper(i)
        except KeyError:
            yield -1


def outer_gen(n):
    yield from gen(n)
    yield from (x for x in range(3))


def use_generators():
    list(outer_gen(5))
    g = gen(5)
    next(g)
    g.send(None)
    g.throw(KeyError)
    for _ in gen(2):
        pass
    sum(x * 2 for x in gen(3))


async def leaf(n):
    await asyncio.sleep(0)
    return n


async def agen(n):
    for i in range(n):
        yield await leaf(i)


async def use_async():
    await asyncio.gather(*(leaf(i) for i in range(5)))
    async for _ in agen(3):
        pass


def kwonly(a, *args, b=1, **kwargs):
    return a


def call_forms():
    kwonly(1, 2, 3, b=2, c=3)
    kwonly(*[1, 2], **{"b": 3})
    list(map(lambda x: x, range(3)))
    sorted([3, 1, 2], key=helper)
    functools.partial(helper, 1)()
    functools.reduce(lambda a, b: a + b, range(4))
    exec("helper(1)")
    eval("helper(2)")
    [helper(i) for i in range(3)]
    {helper(i): 1 for i in range(3)}


def classes():
    for i in range(30):
        c = Child(i)
        c == c
        c.prop
        c.nothing
        c.cached(i)
        len(c)
        WithMeta(i)
    for _ in range(20):
        DyingInit()
        try:
            BadInit()
        except KeyError:
            pass
    Dying()


def exceptions():
    for i in range(10):
        try:
            boom(i)
        except ValueError:
            pass
    with Manager():
        boom(3)


def work():
    fib(13)
    deep(150)
    exceptions()
    classes()
    use_generators()
    call_forms()


def thread_work():
    for _ in range(3):
        work()


def everything():
    thread_work()
    asyncio.run(use_async())
    threads = [threading.Thread(target=thread_work) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    work()


# ---- the truth ----

events = {}


def note(kind, code):
    if not code.co_filename.endswith("/program.py"):
        return
    if code.co_name in ("note", "wait_for_go", "main", "<module>", "profile") or \
            code.co_name.startswith("on_"):
        return
    ident = threading.get_native_id()  # get_ident() is used again
    events.setdefault(ident, []).append((kind, code.co_name, code.co_firstlineno))


def on_start(code, offset):
    note("enter", code)


def on_end(code, offset, value):
    note("exit", code)


def on_throw(code, offset, exc):
    note("enter", code)


def on_unwind(code, offset, exc):
    note("exit", code)


def profile(frame, event, arg):
    if event == "call":
        note("enter", frame.f_code)
    elif event == "return":
        note("exit", frame.f_code)


def record_truth(path):
    main_ident = threading.get_native_id()  # get_ident() is used again
    if hasattr(sys, "monitoring"):
        m = sys.monitoring
        m.use_tool_id(0, "truth")
        e = m.events
        for event, fn in ((e.PY_START, on_start), (e.PY_RESUME, on_start), (e.PY_RETURN, on_end),
                          (e.PY_YIELD, on_end), (e.PY_THROW, on_throw), (e.PY_UNWIND, on_unwind)):
            m.register_callback(0, event, fn)
        m.set_events(0, e.PY_START | e.PY_RESUME | e.PY_RETURN | e.PY_YIELD | e.PY_THROW |
                     e.PY_UNWIND)
        everything()
        m.set_events(0, 0)
    else:
        threading.setprofile(profile)
        sys.setprofile(profile)
        everything()
        sys.setprofile(None)
        threading.setprofile(None)
    result = {}
    for ident, listed in events.items():
        name = "main" if ident == main_ident else listed[0][1]
        while name in result:
            name += "+"
        result[name] = listed
    with open(path, "w") as file:
        json.dump(result, file)


def wait_for_go():
    print("ready", flush=True)
    sys.stdin.readline()


def main():
    if sys.argv[1] == "truth":
        record_truth(sys.argv[2])
    else:
        wait_for_go()
        everything()


main()
