# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""Calls C functions in the ways that there are. "cfunctions.py oracle" prints as JSON what
sys.setprofile sees of it, thread by thread; "cfunctions.py run" just runs.

sys.setprofile reports no call of a type (str(x), dict(), list(map(..))), nor what C code calls.
Under it nothing is specialized, so the oracle's len(), isinstance() and list.append() are calls, where
the traced program has opcodes of their own for them (3.11+).
"""
import functools
import itertools
import json
import math
import operator
import os
import re
import struct
import sys
import threading
import time

NAMES = ["pear", "apple", "fig"]
ROUNDS = 30  # enough for CPython 3.11+ to specialize, and for it to run specialized then


def get_key(name):
    classmethod(repr)
    return repr(name)


def nested():
    sorted(NAMES, key=get_key)
    NAMES.copy().sort(key=get_key)
    max(NAMES, key=lambda n: ord(n[0]))
    functools.reduce(lambda a, b: operator.add(a, b), [1, 2, 3])
    for x in map(get_key, NAMES):
        hash(x)
    any(get_key(n) == "" for n in NAMES)
    getattr(Dunder(), "prop")


class Dunder:
    @property
    def prop(self):
        return abs(-1)

    def __eq__(self, other):
        return bool(divmod(7, 2))

    def __hash__(self):
        return id(self) and hash("x")

    def __enter__(self):
        return vars(self)

    def __exit__(self, *error):
        callable(self)

    def __call__(self, *args):
        return sum(args)


class Child(list):
    def push(self, x):
        super().insert(0, x)
        self.extend((x, x))
        return self.pop()


def conventions():
    """METH_O, NOARGS, FASTCALL, KEYWORDS, VARARGS, class and static methods, descriptors."""
    abs(-3)
    repr("x")
    chr(65)
    bin(3)
    round(2.5)
    pow(2, 3)
    divmod(7, 3)
    getattr("x", "upper")
    hasattr("x", "nope")
    setattr(Dunder, "y", 1)
    vars(Dunder)
    dir()
    globals()
    locals()
    max(1, 2, 3)
    min([3, 1], default=0)
    print(end="", file=sys.stderr, flush=False)
    format(3.5, ".1f")
    iter([])
    next(iter([1]), None)
    int.from_bytes(b"\1\2", "big")
    dict.fromkeys("ab")
    str.maketrans("a", "b")
    bytes.fromhex("00ff")
    (5).bit_length()
    (5).to_bytes(2, "big")
    "a,b".split(",")
    "a b".split(maxsplit=1)
    "x".join(NAMES)
    "x{}".format(3)
    "abc".encode("utf-8", errors="strict")
    b"x".decode()
    "abc".startswith(("a", "b"))
    NAMES.index("fig")
    NAMES.copy()
    {"a": 1}.get("a")
    {"a": 1}.items()
    {1, 2}.union([3], [4])
    d = {}
    d.setdefault("k", [])
    d.update(a=1)
    d.pop("a", None)
    list.insert([], 0, 1)
    bound = "abc".upper
    bound()
    struct.pack("<I", 7)
    struct.Struct("<I").unpack(b"1234")
    math.sqrt(2.0)
    math.gcd(4, 6)
    os.getpid()
    os.fspath("x")
    time.monotonic()
    time.sleep(0)
    re.compile("a+").match("aaa").group(0)
    operator.itemgetter(1)([1, 2])
    itertools.count(3)
    sys.getrefcount(None)
    sys.intern("abc")
    Child([1]).push(2)


def unpacked():
    args, kwargs = (3, 1, 2), {"key": get_key}
    max(*args)
    sorted(NAMES, **kwargs)
    "{}{a}".format(*args, **{"a": 1})
    [].insert(*(0, 1))
    divmod(*(7, 2))
    vars(*(Dunder,))
    getattr(*("x", "upper"))


def failing():
    for call in (lambda: int.from_bytes(1, 2, 3), lambda: NAMES.index("nope"), lambda: ord("ab"),
                 lambda: next(iter([])), lambda: {}.pop("x"), lambda: sorted([1], key=broken),
                 lambda: getattr(1, "nope"), lambda: max([]), lambda: sorted(*(1,))):
        try:
            call()
        except Exception as error:  # pylint: disable=broad-except
            repr(error)


def broken(x):
    raise ValueError(repr(x))


class Sized:
    """What len() and isinstance() ask runs Python code, and calls C functions."""

    def __init__(self, size):
        self.size = size

    def __len__(self):
        return abs(self.size)


class Meta(type):
    def __instancecheck__(cls, other):
        return callable(other) or isinstance(other, (int, Sized))


class Asked(metaclass=Meta):
    pass


class Kept(list):
    pass


class Greedy(list):
    def append(self, x):
        super().append(x)
        list.append(self, len(self))


def opcodes():
    """Calls that become opcodes: of every kind of argument, failing ones, nested ones, and at places
    where what is called is another function now and then."""
    kept, own, greedy = [], Kept(), Greedy()
    for x in ("abc", [1], {1: 2}, Sized(3), Sized(-1), own, kept, range(3), NAMES):
        len(x)
        kept.append(x)
        own.append(len(x))
        greedy.append(isinstance(x, list))
        isinstance(x, (str, Asked))
        isinstance(x, Asked) and len(NAMES) or isinstance(x, Sized)  # pylint: disable=expression-not-assigned
    for x in (7, Sized("x"), Sized(None)):
        try:
            len(x)
        except TypeError:
            kept.append(x)
    for x in (7, Asked, ()):
        try:
            isinstance(x, x)
        except TypeError:
            kept.append(isinstance(x, int))
    for function in (len, id, len, callable, len):
        function(NAMES)
    for collection in (kept, own, Appendable(), kept):
        collection.append(1)
    for n in range(20):
        kept.append(n)  # grows


class Appendable:
    def append(self, x):
        return isinstance(x, int) and len(NAMES)


def generator(n):
    for i in range(n):
        got = yield hex(i)
        if got:
            id(got)


def generators():
    g = generator(3)
    next(g)
    g.send("x")
    try:
        g.throw(KeyError("k"))
    except KeyError:
        pass
    sum(abs(x) for x in (1, -2))
    with Dunder():
        oct(8)
    Dunder()(1, 2)
    Dunder() == 3  # pylint: disable=expression-not-assigned
    hash(Dunder())


def deep(n):
    """C and Python in turns, beyond the 64 return probes that a kernel keeps."""
    return max([n], key=lambda x: deep(x - 1) if x else 0)


def workload():
    for n in range(ROUNDS):
        nested()
        conventions()
        unpacked()
        failing()
        generators()
        if n % 4 == 0:  # has loops of its own
            opcodes()
    deep(90)


def worker():
    for _ in range(3):
        workload()


class Profile:
    """Every enter (1) and exit (0), by name, of this file's functions and of what they call."""

    def __init__(self):
        self.events, self.open = [], []

    def __call__(self, frame, event, arg):
        if event[:2] == "c_":
            if frame.f_code.co_filename != __file__:
                return
            if event == "c_call":
                name = re.sub(" at 0x[0-9a-f]+>$", ">", repr(arg))
                if "setprofile" in name:
                    return
                self.open.append(name)
                self.events.append((1, name))
            elif self.open:
                self.events.append((0, self.open.pop()))
        elif frame.f_code.co_filename == __file__:
            self.events.append((int(event == "call"), frame.f_code.co_name))


PROFILES = []


def watched(function):
    profile = Profile()
    PROFILES.append(profile)
    sys.setprofile(profile)
    function()
    sys.setprofile(None)


def main():
    oracle = sys.argv[1] == "oracle"
    others = [threading.Thread(target=watched if oracle else worker,
                               args=(worker,) if oracle else ()) for _ in range(2)]
    for thread in others:
        thread.start()
    for thread in others:
        thread.join()
    if oracle:
        watched(workload)
        json.dump([p.events for p in PROFILES], sys.stdout)
    else:
        workload()


if __name__ == "__main__":
    main()
