# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""Calls with all kinds of arguments and results. With an argument the program watches itself by
sys.setprofile, and tells what a trace should say of each call: name, arguments, variables, result."""
import asyncio
import sys
import threading

SEEN = {}  # thread's name -> calls
TEXT_BYTES = 256
WATCHED = {"variables": ["number", "text", "cell", "missing"], "early": ["late"]}


class Text(str):
    pass


class Number(int):
    pass


class Real(float):
    pass


class Named(tuple):
    pass


class Thing:
    def __init__(self, x, y=2, *, z=None):
        self.x = x

    def method(self, a, *args, k=1, **kw):
        return a

    @classmethod
    def of_class(cls, a):
        return cls(a)

    @staticmethod
    def static(a):
        return Named((a, a))

    @property
    def prop(self):
        return self.x

    def __add__(self, other):
        return other


class Derived(Thing):
    def __init__(self, x):
        super().__init__(x, 3, z="derived")


def same(a):
    return a


def many(a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p):
    return p


def none():
    pass


def positional(a, b=5, *rest):
    return b


def closure(a, b, *, c=3):
    def inner(d):
        nonlocal b
        b = b + d if isinstance(b, int) else d
        return a
    inner(1)
    return b, c


def generate(n, word="w"):
    got = None
    for i in range(n):
        got = yield i * 1.5 if got is None else got
    return word


def delegate(n):
    value = yield from generate(n, "inner")
    return value


def closing(n):
    for i in (1, n):
        yield lambda: n
    return "not reached"


def fails_at_once(a):
    raise ValueError(a)


def fails_deeply(n):
    text = "%d" % n
    if n:
        fails_deeply(n - 1)
    fails_at_once(text)


def catches(a):
    try:
        fails_deeply(a)
    except ValueError as e:
        return str(e)
    finally:
        none()


def recursive(n):
    return 1 if n == 0 else n * recursive(n - 1)


def constant(n):
    if n == 0:
        return "constant"
    if n == 1:
        return 1.25
    if n == 2:
        return None
    if n == 3:
        return 200
    if n == 4:
        return 100000
    return b"bytes"


def variables(n):
    number = n * n
    text = "v%d" % n
    cell = [n]
    late = lambda: cell
    return late() is None


def early(n):
    if n:
        return n
    late = n
    return late


async def coroutine(n):
    await asyncio.sleep(0)
    return n


async def gather(n):
    return sum(await asyncio.gather(*[coroutine(i) for i in range(n)]))


def key_of(x):
    return -x


VALUES = [
    0, 1, -1, 5, -5, 256, 257, 2**30 - 1, 2**30, 2**31, -2**40, 2**60 - 1, 2**60, 2**62, -2**63, 2**63,
    2**64 - 1, 2**64, -2**64, -2**90 + 1, 10**100, 1 << 3000, True, False, None,
    0.0, -0.0, 1.0, -1.5, 0.1, 1 / 3, 1e15, 1e16, 123456789012345680.0, 1e22, 1e-4, 1e-5, 1.5e300,
    5e-324, float("inf"), -float("inf"),
    "", "a", "ascii", "it's", 'say "x"', "it's \"both\"", "line\nbreak\ttab\\", "\x00\x1f\x7f",
    "latin \xe9\xff", "euro \u20ac", "smile \U0001f600", "\udc80 alone", "x" * 256, "x" * 257,
    "\xe9" * 300, "\u20ac" * 128, "\u20ac" * 129, "\U0001f600" * 65,
    Text("sub"), Text("sub \u20ac"), Text(""), Number(7), Number(-2**80),
    b"", b"bytes", b"\x00\xff'\"\\\n", b"b" * 256, b"b" * 257, bytearray(b"abc"),
    [], [1, 2, 3], (), (1,), Named((1, 2)), {}, {1: 2}, set(), {1, 2, 3}, frozenset([1]),
    object(), Thing, len, Real(1.5), 1j, range(3),
]


def forms():
    for value in VALUES:
        same(value)
    many(*range(16))
    none()
    positional(1)
    positional("a", "b", "c", "d")
    closure(1, 2)
    closure("x", None, c=(1,))
    thing = Thing(1)
    Derived("d").method(1, 2, 3, k="k", extra=1)
    thing.method(b"m")
    Thing.of_class(3)
    Thing.static("s")
    thing.prop
    thing + 1
    for n in range(7):
        constant(n)
        variables(n)
        early(n)
    recursive(5)
    catches(3)
    sorted([3, 1, 2], key=key_of)
    list(map(same, "ab"))


def generators():
    list(generate(3))
    g = generate(2)
    next(g)
    g.send("sent")
    list(g)
    list(delegate(2))
    list(closing(8))
    asyncio.run(gather(3))


def run():
    for _ in range(3):
        forms()
        generators()


# ---- the oracle ----

def show_text(value):
    top = max(map(ord, value), default=0)
    width = 1 if top < 256 else 2 if top < 65536 else 4
    count = TEXT_BYTES // width
    return repr(str(value[:count])) + ("\u2026" if len(value) > count else "")


def show(value):
    if value is None or isinstance(value, bool) or type(value) is float:
        return repr(value)
    if isinstance(value, int):
        if value.bit_length() > 64 * 30:
            return "<int of more than 1920 bits>"
        return repr(int(value)) if abs(value) < 2**64 else hex(value)
    if isinstance(value, str):
        return show_text(value)
    if isinstance(value, bytes):
        return repr(value[:TEXT_BYTES]) + ("\u2026" if len(value) > TEXT_BYTES else "")
    name = type(value).__name__
    if isinstance(value, (list, tuple, dict)) or type(value) in (set, frozenset, bytearray):
        return "<%s of length %d>" % (name, len(value))
    return "<%s at 0x%x>" % (name, id(value))


class Watch:
    def __init__(self):
        self.calls, self.open, self.known = [], [], []

    def __call__(self, frame, event, arg):
        code = frame.f_code
        if code.co_filename != __file__ or event not in ("call", "return") or \
                code.co_name in ("show", "show_text", "run_watched", "workload"):
            return
        if event == "call":
            call = [getattr(code, "co_qualname", code.co_name), {}, {}, None]
            # its arguments are not told again when it goes on
            if frame not in self.known:
                count = code.co_argcount + code.co_kwonlyargcount + \
                    bool(code.co_flags & 4) + bool(code.co_flags & 8)
                call[1] = {n: show(frame.f_locals[n]) for n in code.co_varnames[:count]}
                if code.co_flags & 0x2a0:
                    self.known.append(frame)
            self.calls.append(call)
            self.open.append(call)
            return
        call = self.open.pop()
        for name in WATCHED.get(code.co_name, ()):
            has = name in code.co_varnames + code.co_cellvars
            call[2][name] = show(frame.f_locals[name]) if name in frame.f_locals else \
                "<unbound>" if has else "<no such variable>"
        if not code.co_name.startswith("fails_"):
            call[3] = show(arg)


def run_watched():
    watch = SEEN[threading.current_thread().name] = Watch()
    sys.setprofile(watch)
    run()
    sys.setprofile(None)


def workload(*how):
    target = run_watched if how else run
    other = threading.Thread(target=target, name="other")
    other.start()
    other.join()
    target()
    seen = {}
    for name, watch in SEEN.items():
        seen[name] = watch.calls
    return {"seen": seen}
