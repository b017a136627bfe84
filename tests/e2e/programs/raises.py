# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""Raises exceptions in every way, and says which: [type, arguments], in order. With "watch" a trace
function says it instead, and the line: of what it is told at each frame, what has no traceback from
further in."""
import sys
import threading

SAID = []


class Own(Exception):
    pass


class Deep(Own):
    def __init__(self, *args):
        super().__init__(*args)


def say(name, line, *args):
    SAID.append([name, list(args), line])


def plain(value):
    if value is None:
        return "None"
    return value if isinstance(value, (int, str)) else type(value).__name__


def watch(frame, event, arg):
    if event == "exception" and frame.f_code.co_name != "say":
        kind, value, traceback = arg
        if traceback.tb_next is None:
            args = getattr(value, "args", value)
            say(kind.__name__, traceback.tb_lineno, *[plain(a) for a in args])
    return watch


def by_python():
    for make, args in ((ValueError, ("no",)), (Own, ()), (Deep, (1, "two", 3)), (KeyError, ("key",)),
                       (Own, ("\u6f22\u5b57",)), (OSError, (2, "text")), (Own, (1, 2, 3, 4, 5))):
        try:
            raise make(*args)
        except Exception:
            pass


def by_c():
    try:
        int("x")
    except ValueError:
        pass
    try:
        {}["missing"]
    except KeyError:
        pass
    try:
        [][3]
    except IndexError:
        pass
    try:
        no_such_name
    except NameError:
        pass
    try:
        1 / 0
    except ZeroDivisionError:
        pass


def fail_at(depth):
    if depth:
        fail_at(depth - 1)
    raise Own("deep")


def through_frames():
    try:
        fail_at(20)
    except Own:
        pass


def passed_on():
    """The same exception goes on: it was raised once."""
    try:
        try:
            raise Own("once")
        except Own:
            raise
    except Own:
        pass
    try:
        try:
            raise Own("first")
        finally:
            pass
    except Own:
        pass


def instead():
    try:
        try:
            raise Own("cause")
        except Own as cause:
            raise Deep("effect") from cause
    except Deep:
        pass


def generator():
    try:
        yield 1
    except Own:
        raise Deep("in generator")


def thrown():
    g = generator()
    next(g)
    try:
        g.throw(Own("thrown"))
    except Deep:
        pass


def quiet():
    """Raised by C and taken by C: no Python code sees it."""
    getattr(1, "missing", None)
    hasattr(1, "missing")
    for x in (i for i in [1, 2]):
        pass


EXPECTED = [
    ["ValueError", ["no"]], ["Own", []], ["Deep", [1, "two", 3]], ["KeyError", ["key"]],
    ["Own", ["\u6f22\u5b57"]], ["FileNotFoundError", [2, "text"]], ["Own", [1, 2, 3, 4, 5]],
    ["ValueError", ["invalid literal for int() with base 10: 'x'"]], ["KeyError", ["missing"]],
    ["IndexError", ["list index out of range"]],
    ["NameError", ["name 'no_such_name' is not defined"]], ["ZeroDivisionError", ["division by zero"]],
    ["Own", ["deep"]], ["Own", ["once"]], ["Own", ["first"]], ["Own", ["cause"]],
    ["Deep", ["effect"]], ["Own", ["thrown"]], ["Deep", ["in generator"]],
]


def everything():
    by_python()
    by_c()
    through_frames()
    passed_on()
    instead()
    thrown()
    quiet()


def workload(*how):
    if how:
        sys.settrace(watch)
        threading.settrace(watch)
    everything()
    sys.settrace(None)
    other = threading.Thread(target=everything)
    other.start()
    other.join()
    threading.settrace(None)
    return {"expected": EXPECTED, "watched": SAID}
