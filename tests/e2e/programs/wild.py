# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""Random programs: each function does a few things that chance chooses, of all the ways in which
Python code is entered and left, nested into each other. The same seed does the same."""
import _thread
import contextlib
import functools
import operator
import random
import sys
import weakref

LIMIT = 12  # of the depth


class Thrown(Exception):
    pass


class State:
    def __init__(self, seed, steps):
        self.random = random.Random(seed)
        self.left = steps
        self.depth = 0
        self.kept = []
        self.raised = 0


NOW = {}  # thread id -> State


def now():
    return NOW[_thread.get_ident()]


def act(times=2):
    """Does a few things; may raise."""
    state = now()
    if state.depth >= LIMIT or state.left <= 0:
        return 0
    state.depth += 1
    try:
        for _ in range(state.random.randrange(1, times + 2)):
            state.left -= 1
            ACTIONS[state.random.randrange(len(ACTIONS))](state)
    finally:
        state.depth -= 1
    return state.depth


def act_caught():
    try:
        act()
    except Thrown:
        return 1
    return 0


def plain(state):
    act()


def raising(state):
    state.raised += 1
    raise Thrown(state.raised)


def caught(state):
    try:
        raising(state)
    except Thrown as error:
        act_caught()
        if state.random.random() < 0.3:
            raise Thrown from error
    finally:
        act_caught()


def numbers(n, state):
    for i in range(n):
        act_caught()
        try:
            yield i
        except Thrown:
            act_caught()


def bare(n):
    yield from range(n)


def delegating(n, state):
    got = yield from numbers(n, state)
    act_caught()
    yield got
    yield from bare(2)


def generator(state):
    total = sum(numbers(3, state))
    return total + len([x for x in delegating(2, state)])


def partly(state):
    g = delegating(4, state)
    for _ in range(state.random.randrange(1, 4)):
        next(g)
    what = state.random.randrange(3)
    if what == 0:
        try:
            g.throw(Thrown)
        except (Thrown, StopIteration):
            pass
    elif what == 1:
        try:
            g.send(None)
            g.send(5)
        except StopIteration:
            pass
    state.kept.append(g)
    if len(state.kept) > 6:
        for old in state.kept.pop(state.random.randrange(6)):
            pass


def never_run(state):
    g = numbers(1, state)
    del g


class Awaitable:
    def __init__(self, n):
        self.n = n

    def __await__(self):
        for i in range(self.n):
            yield i
        return self.n


async def leaf_coroutine(state, n):
    act_caught()
    return await Awaitable(n)


async def agen(state, n):
    for i in range(n):
        yield await leaf_coroutine(state, i)


class AsyncManager:
    async def __aenter__(self):
        return await Awaitable(1)

    async def __aexit__(self, kind, value, tb):
        await Awaitable(1)
        return kind is Thrown


async def coroutine(state):
    total = await leaf_coroutine(state, 2)
    async for x in agen(state, 3):
        total += x
    async with AsyncManager():
        act()
    return [y async for y in agen(state, 2)]


def drive(state):
    c = coroutine(state)
    try:
        while True:
            c.send(None)
    except StopIteration:
        pass


class Weird:
    """All that is called without a call in the source."""

    def __init__(self, n):
        self.n = n

    def __lt__(self, other):
        return act_caught() == 0 if now().random.random() < 0.2 else self.n < other.n

    def __eq__(self, other):
        return self.n == other.n

    def __hash__(self):
        return hash(self.n)

    def __getattr__(self, name):
        if name == "missing":
            raise AttributeError(name)
        return act_caught()

    def __getitem__(self, i):
        if i > 2:
            raise IndexError(i)
        return i

    def __len__(self):
        return 3

    def __bool__(self):
        return bool(self.n)

    def __call__(self, *args, **kwargs):
        return len(args) + len(kwargs) + act_caught()

    def __contains__(self, item):
        return item == self.n

    def __add__(self, other):
        return Weird(self.n + 1)

    __radd__ = __add__

    def __format__(self, spec):
        return "weird"

    def __enter__(self):
        return self

    def __exit__(self, kind, value, tb):
        act_caught()
        return kind is Thrown

    @property
    def prop(self):
        return act_caught()

    @classmethod
    def made(cls, n):
        return cls(n)

    @staticmethod
    def fixed(*, key=None):
        return key


class Child(Weird):
    def __init__(self, n):
        super().__init__(n)
        self.more = [Weird(i) for i in range(2)]

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)


class Meta(type):
    def __call__(cls, *args):
        return super().__call__(*args)

    def __new__(mcs, name, bases, namespace):
        return super().__new__(mcs, name, bases, namespace)


def dunders(state):
    w = Child(state.random.randrange(9))
    with w:
        act()
    sorted([Weird(3), Weird(1), w, Weird(2)])
    {w: 1, Weird(w.n): 2}
    getattr(w, "missing", None)
    list(w), len(w), bool(w), w in [w], 3 in w, w.other, w.prop
    w(1, 2, k=3), 1 + w, w + 1, "%s" % w.n, format(w), Weird.made(1), Weird.fixed(key=2)
    return operator.attrgetter("prop")(w)


def classes(state):
    class Local(metaclass=Meta):
        field = act_caught()

        def method(self):
            return super().__hash__()

    Local().method()

    class Below(Child):
        pass
    Below(1)


def keyed(state):
    max([3, 1, 2], key=lambda x: act_caught() + x)
    list(map(lambda x, y: x + y, [1, 2], [3, 4]))
    list(filter(Weird(1), [1, 2]))
    functools.reduce(lambda a, b: a + b, range(4))
    functools.partial(leafs, 1, c=2)(3)
    return leafs(*[1, 2], **{"c": 3})


def leafs(a, b=1, *rest, c=0):
    return a + b + c


@functools.lru_cache(maxsize=4)
def cached(n):
    return n + act_caught()


def caching(state):
    return [cached(state.random.randrange(8)) for _ in range(4)]


@contextlib.contextmanager
def manager():
    act_caught()
    try:
        yield 1
    except Thrown:
        act_caught()


def managed(state):
    with manager(), contextlib.suppress(Thrown):
        act()
    with contextlib.ExitStack() as stack:
        stack.enter_context(manager())
        stack.callback(leafs, 1)
        raising(state)


def texts(state):
    space = {"act_caught": act_caught}
    exec("def made_%d(x):\n    return [act_caught() for _ in range(x)]\n" % state.random.randrange(5),
         space)
    next(v for k, v in space.items() if k.startswith("made"))(2)
    return eval("(lambda: act_caught())()", space)


def replaced(state):
    def first():
        return act_caught()

    def second():
        return 2
    first()
    first.__code__ = second.__code__
    return first()


def recursion(state, n=None):
    n = state.random.randrange(3, 60) if n is None else n
    if not n:
        return act()
    return recursion(state, n - 1)


def frames(state):
    frame = sys._getframe()
    while frame:
        frame = frame.f_back
    return len(sys._getframe().f_locals)


def weak(state):
    class Key:
        pass
    key = Key()
    ref = weakref.ref(key, lambda r: act_caught())
    del key
    return ref()


def closures(state):
    cells = [lambda i=i: i + act_caught() for i in range(2)]
    return sum(f() for f in cells) + sum(x for x in (y for y in range(3)))


def unpacking(state):
    a, *b = numbers(3, state)
    first, second = Weird(1), Weird(2)
    return {**dict(zip(map(str, b), b))}, [*Weird(1)], a, first == second


ACTIONS = [plain, plain, raising, caught, generator, partly, never_run, drive, dunders, classes, keyed,
           caching, managed, texts, replaced, recursion, frames, weak, closures, unpacking]


def run(seed, steps):
    state = NOW[_thread.get_ident()] = State(seed, steps)
    while state.left > 0:
        act_caught()
    for g in state.kept:
        for _ in g:
            pass
    cached.cache_clear()
    return state.raised


def workload(seed="1", steps="2000"):
    return {"raised": run(int(seed), int(steps))}
