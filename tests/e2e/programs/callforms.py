# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""The ways in which one thread of Python code can be entered and left. Deterministic.

Elsewhere: generators that are closed while suspended (closing.py), and recursion into the limit
(limit.py), which an oracle cannot watch.
"""
import contextlib
import dataclasses
import functools
import itertools
import operator
import sys


def fib(n):
    return n if n < 2 else fib(n - 1) + fib(n - 2)


def even(n):
    return True if n == 0 else odd(n - 1)


def odd(n):
    return False if n == 0 else even(n - 1)


def recursion():
    fib(9)
    even(41)
    down = lambda n: 0 if n == 0 else 1 + down(n - 1)
    for depth in (1, 63, 64, 65, 66, 130, 900 - 60):
        down(depth)


# ---- generators ----

def counter(n):
    for i in range(n):
        yield i


def delegating(n):
    got = yield from counter(n)
    yield from (x * x for x in range(n))
    return got


def guarded():
    got = []
    while True:
        try:
            got.append((yield len(got)))
        except ValueError as error:
            got.append(str(error))
        finally:
            fib(1)


def outer_guarded():
    try:
        yield from guarded()
    finally:
        fib(2)


def failing(n):
    yield n
    raise KeyError(n)


def tree(n):
    if n:
        yield from tree(n - 1)
        yield n
        yield from tree(n - 1)


def generators():
    list(counter(5))
    sum(delegating(4))
    list(tree(5))
    unused = counter(3)
    del unused
    g = guarded()
    next(g)
    g.send(1)
    g.throw(ValueError("thrown"))
    g.send(2)
    g.close()
    g.close()
    g = outer_guarded()
    next(g)
    g.throw(ValueError("through"))
    g.close()
    g = guarded()
    with contextlib.suppress(TypeError):
        g.throw(TypeError("before the first next"))
    g = guarded()
    next(g)
    with contextlib.suppress(TypeError):
        g.throw(TypeError("not caught inside"))
    with contextlib.suppress(KeyError):
        for _ in failing(1):
            pass
    with contextlib.suppress(StopIteration):
        next(counter(0))
    a, b, *rest = counter(5)
    max(counter(4), key=lambda x: -x)
    list(zip(counter(3), map(lambda x: x + 1, counter(3))))
    dict((str(x), x) for x in counter(3))
    list(itertools.chain.from_iterable(counter(i) for i in range(4)))
    functools.reduce(lambda x, y: x + y, counter(5))
    "".join(str(x) for x in counter(4))


# ---- coroutines without a loop ----

class Step:
    def __init__(self, value):
        self.value = value

    def __await__(self):
        return (yield self.value)


async def inner(n):
    return await Step(n)


async def outer(n):
    total = 0
    for i in range(n):
        total += await inner(i)
    async with Room() as room:
        async for x in room:
            total += x
    return total + sum([y async for y in agen(3)])


async def agen(n):
    for i in range(n):
        yield i


class Room:
    async def __aenter__(self):
        await Step(-1)
        return self

    async def __aexit__(self, *exc):
        await Step(-2)

    def __aiter__(self):
        self.left = 3
        return self

    async def __anext__(self):
        if not self.left:
            raise StopAsyncIteration
        self.left -= 1
        return await inner(self.left)


def coroutines():
    c = outer(3)
    sent = None
    try:
        while True:
            c.send(sent)
            sent = 1
    except StopIteration:
        pass
    c = outer(2)
    c.send(None)
    with contextlib.suppress(RuntimeError):
        c.throw(RuntimeError("cancelled"))
    c = inner(1)
    c.close()


# ---- unwinding ----

class Unwound(Exception):
    def __init__(self, depth):
        super().__init__(depth)
        self.depth = depth


def climb(n, top):
    if n == top:
        raise Unwound(n)
    return climb(n + 1, top)


def climb_finally(n):
    try:
        if n == 0:
            fib(2)
            return {}["missing"]
        return climb_finally(n - 1)
    finally:
        even(1)


def climb_reraise(n):
    try:
        return climb_reraise(n - 1) if n else int("x")
    except ValueError as error:
        raise RuntimeError(n) from error


def via_c(n):
    """Python, C, Python, again and again, and an exception through all of it."""
    return max([n], key=via_c_key) if n else 1 // n


def via_c_key(n):
    return via_c(n - 1)


def loops_with_exceptions():
    for i in range(5):
        try:
            climb(0, i)
        except Unwound:
            continue
        finally:
            fib(1)


def unwinding():
    for top in (0, 1, 5, 70, 200):
        try:
            climb(0, top)
        except Unwound:
            pass
    for call in (climb_finally, climb_reraise, via_c):
        try:
            call(12)
        except (KeyError, RuntimeError, ZeroDivisionError):
            pass
    loops_with_exceptions()


# ---- classes ----

class Base:
    made = 0

    def __new__(cls, *args, **kwargs):
        cls.made += 1
        return super().__new__(cls)

    def __init__(self, value, *args, **kwargs):
        self.value = value

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        fib(1)

    @classmethod
    def build(cls, value):
        return cls(value, 1, 2, key=3)

    @staticmethod
    def helper(x):
        return fib(x)

    @property
    def doubled(self):
        return self.helper(2) + self.value

    @doubled.setter
    def doubled(self, value):
        self.value = value // 2


class Middle(Base):
    def __init__(self, value, *args, **kwargs):
        super().__init__(value, *args, **kwargs)
        self.helper(1)


class Leaf(Middle):
    def __init__(self, value, *args, **kwargs):
        super().__init__(value, *args, **kwargs)


class FailingInit(Base):
    def __init__(self, value):
        super().__init__(value)
        raise ValueError(value)


class Plain:
    def __init__(self):
        self.x = 1


class Nested:
    def __init__(self, n):
        self.child = Nested(n - 1) if n else Plain()


class Vector:
    def __init__(self, *xs):
        self.xs = xs

    def __add__(self, other):
        return Vector(*map(operator.add, self.xs, other.xs))

    def __radd__(self, other):
        return self

    def __eq__(self, other):
        return self.xs == other.xs

    def __lt__(self, other):
        return self.xs < other.xs

    def __hash__(self):
        return hash(self.xs)

    def __len__(self):
        return len(self.xs)

    def __getitem__(self, i):
        return self.xs[i]

    def __setitem__(self, i, value):
        self.xs = self.xs[:i] + (value,) + self.xs[i + 1:]

    def __contains__(self, x):
        return any([x == y for y in self.xs])

    def __iter__(self):
        return iter(self.xs)

    def __bool__(self):
        return fib(1) == 1

    def __call__(self, scale):
        return Vector(*[x * scale for x in self.xs])

    def __getattr__(self, name):
        if name.startswith("no_"):
            raise AttributeError(name)
        return fib(2)

    def __repr__(self):
        return "Vector(%s)" % ", ".join(repr(x) for x in self.xs)

    def __str__(self):
        return repr(self)

    def __format__(self, spec):
        return str(self) + spec

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        return fib(1) == 1


class Meta(type):
    def __new__(mcs, name, bases, namespace):
        return super().__new__(mcs, name, bases, dict(namespace, extra=fib(1)))

    def __call__(cls, *args):
        return super().__call__(*args)

    def __instancecheck__(cls, instance):
        return fib(1) == 1


class Descriptor:
    def __get__(self, obj, owner=None):
        return fib(2)

    def __set__(self, obj, value):
        fib(1)

    def __set_name__(self, owner, name):
        self.name = name


@dataclasses.dataclass(order=True)
class Point:
    x: int
    y: int = 0
    tags: list = dataclasses.field(default_factory=lambda: [fib(1)])

    def __post_init__(self):
        self.length = fib(self.x)


def classes():
    for _ in range(40):  # often enough for the specialising interpreter
        Plain()
        Leaf.build(3)
        Nested(4)
    Leaf(1).doubled = 4
    Leaf(2).doubled
    with contextlib.suppress(ValueError):
        FailingInit(1)

    class Local(Base, metaclass=type):
        field = Descriptor()

        def method(self):
            return super().helper(1)

    local = Local(1)
    local.field = local.field
    local.method()
    Local.method(local)
    bound = local.method
    bound()

    class Made(metaclass=Meta):
        pass

    Made()
    isinstance(1, Made)
    v, w = Vector(1, 2, 3), Vector(4, 5, 6)
    v + w
    sum([v, w], 0)
    sorted([w, v])
    sorted([w, v], key=lambda x: x.xs)
    v == w, v != w, v < w, len(v), v[1], 2 in v, list(v), bool(v), v(2), v.anything, hash(v)
    v[0] = 9
    {v: 1}[v]
    getattr(v, "no_such", None)
    hasattr(v, "no_such")
    str(v), repr(v), format(v, ">"), "%s" % v, f"{v!r} {w:x}"
    with v:
        raise ValueError("swallowed by __exit__")
    Point(3) < Point(4, 1)
    Point(1) == Point(1)
    repr(Point(2))
    dataclasses.replace(Point(5), y=2)
    dataclasses.asdict(Point(2))


# ---- functions ----

def takes(a, b=2, *args, c=3, **kwargs):
    return a + b + c + len(args) + len(kwargs)


def decorate(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        return function(*args, **kwargs)
    return wrapper


def decorate_with(times):
    def decorator(function):
        def again(*args):
            for _ in range(times):
                function(*args)
        return again
    return decorator


@decorate
@decorate_with(3)
@decorate
def decorated(x):
    return fib(x)


def make_closures():
    total = 0

    def add(n):
        nonlocal total
        total += n
        return inner_most(n)

    def inner_most(n):
        return total * n

    return add, inner_most


@contextlib.contextmanager
def managed(name):
    fib(1)
    try:
        yield name
    except KeyError:
        fib(2)
    finally:
        fib(3)


@functools.lru_cache(maxsize=4)
def cached(n):
    return n if n < 2 else cached(n - 1) + cached(n - 2)


@functools.singledispatch
def dispatched(x):
    return fib(1)


@dispatched.register(int)
def dispatched_int(x):
    return fib(2)


class Chain:
    def link(self):
        return self

    partial = functools.partialmethod(takes, 1)

    @functools.cached_property
    def once(self):
        return fib(2)


def functions():
    for _ in range(20):
        takes(1)
        takes(1, 2, 3, 4, c=5, d=6, e=7)
    takes(*[1, 2, 3], **{"c": 1, "z": 2})
    functools.partial(takes, 1, c=2)(3)
    decorated(3)
    add, inner_most = make_closures()
    add(2), inner_most(3)
    with managed("a"), managed("b"):
        fib(2)
    with managed("c"):
        raise KeyError("handled")
    with contextlib.suppress(IndexError):
        with managed("d"):
            raise IndexError("not handled")
    with contextlib.ExitStack() as stack:
        for i in range(3):
            stack.enter_context(managed(i))
        stack.callback(fib, 1)
    cached(6)
    cached(6)
    dispatched("x"), dispatched(1)
    Chain().link().link().link()
    Chain().once
    sorted(range(6), key=lambda x: (x % 3, -x))
    sorted("bac", key=functools.cmp_to_key(lambda x, y: (x > y) - (x < y)))
    min(range(4), key=fib)
    list(map(fib, range(5)))
    list(filter(lambda x: fib(x) % 2, range(5)))
    [fib(x) for x in range(3) for _ in range(2) if fib(1)]
    {fib(x) for x in range(3)}
    {x: fib(x) for x in range(3)}
    list(fib(x) for x in range(3))
    [[fib(y) for y in range(x)] for x in range(3)]
    (lambda *a, **k: fib(len(a)))(1, 2, z=3)
    operator.methodcaller("link")(Chain())
    eval("fib(3)")
    exec("def f(x):\n    return fib(x)\nf(2)\nclass C:\n    y = f(1)\n", {"fib": fib})
    type("Dynamic", (), {"run": lambda self: fib(2)})().run()
    iter_with_sentinel = iter(functools.partial(next, iter(range(9))), 4)
    list(iter_with_sentinel)


NEWER = {
    (3, 10): """
def match(x):
    match x:
        case {"k": fib_of}:
            return fib(fib_of)
        case [a, *rest]:
            return match(rest)
        case str() if fib(2):
            return 1
        case _:
            return fib(1)
for item in ({"k": 3}, [1, 2, "s"], "s", None):
    match(item)
""",
    (3, 11): """
def group():
    try:
        raise ExceptionGroup("g", [ValueError(1), TypeError(2), KeyError(3)])
    except* ValueError:
        fib(2)
    except* TypeError:
        fib(3)
try:
    group()
except* KeyError:
    fib(1)
""",
    (3, 12): """
type Alias[T] = list[fib(3), T]
Alias.__value__
def generic[T: (int, str)](x: T) -> T:
    return fib(x)
generic(2)
class Box[T]:
    def get(self) -> T:
        return fib(2)
Box[int]().get()
""",
    (3, 14): """
def annotated(x: fib(2)) -> fib(3):
    return x
annotated.__annotations__
f"{fib(2)}"
t"{fib(3)}"
def quiet():
    try:
        return fib(1)
    finally:
        fib(2)
quiet()
""",
}


def newer_syntax():
    for version, text in sorted(NEWER.items()):
        if sys.version_info >= version:
            exec(compile(text, "<newer %d.%d>" % version, "exec"), {"fib": fib})


class Noisy:
    """On 3.8 - 3.10 the oracle misses __del__: the comparer leaves it out there."""

    def __del__(self):
        fib(2)


def finalizers():
    Noisy()
    held = [Noisy() for _ in range(3)]
    held.pop()
    held.clear()
    x = Noisy()
    x = None
    local = Noisy()


def workload():
    recursion()
    generators()
    coroutines()
    unwinding()
    classes()
    functions()
    newer_syntax()
    finalizers()
