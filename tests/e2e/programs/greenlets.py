# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""Greenlets: switches at equal and at other depths, through generators, by exceptions, with deep stacks,
on two threads; and gevent. With "watch" a profile function notes what each greenlet enters and leaves.
"""
import functools
import sys
import threading

import greenlet

SEEN = {}  # greenlet -> [[1, name], [0, name], ..]


def hook(frame, event, arg):
    if event in ("call", "return") and frame.f_code.co_filename == __file__ and \
            frame.f_code is not hook.__code__:
        SEEN.setdefault(greenlet.getcurrent(), []).append(
            [int(event == "call"), getattr(frame.f_code, "co_qualname", frame.f_code.co_name)])


def leaf(other, value):
    return other.switch(value)


def twin(other, count, *_):
    for i in range(count):
        leaf(other[0], i)
    return count


def twins():
    """Two that do the same at the same depths, and are told apart by nothing else."""
    a, b = [], []
    one = greenlet.greenlet(functools.partial(twin, a, 5))
    two = greenlet.greenlet(functools.partial(twin, b, 5))
    a.append(two)
    b.append(one)
    while not one.dead:
        one.switch()
    while not two.dead:
        two.switch()


def deep(depth, back):
    a = b = c = d = e = f = g = h = None
    if depth:
        return deep(depth - 1, back)
    return leaf(back, (a, b, c, d, e, f, g, h))


def stacks():
    """More than one piece of data stack each."""
    main = greenlet.getcurrent()
    many = [greenlet.greenlet(deep) for _ in range(3)]
    for i, one in enumerate(many):
        one.switch(100 + 120 * i, main)
    for one in reversed(many):
        one.switch()


def numbers(back):
    for i in range(4):
        yield i
        leaf(back, i)


def consume(back):
    return [x for x in numbers(back)]


def generators():
    main = greenlet.getcurrent()
    one, two = greenlet.greenlet(consume), greenlet.greenlet(consume)
    one.switch(main)
    two.switch(main)
    while not one.dead or not two.dead:
        for g in one, two:
            if not g.dead:
                g.switch()


def fails(back):
    try:
        leaf(back, 0)
    finally:
        leaf(back, 1)


def exceptions():
    main = greenlet.getcurrent()
    one = greenlet.greenlet(fails)
    one.switch(main)
    one.throw(ValueError("expected"))
    try:
        one.switch()
    except ValueError:
        pass
    two = greenlet.greenlet(fails)
    two.switch(main)
    two.throw(greenlet.GreenletExit)
    two.throw(greenlet.GreenletExit)


def catches(back):
    try:
        yield 0
    except ValueError:
        leaf(back, 1)
        back.switch(2)
        yield 3
        leaf(back, 4)


def delegates(back):
    leaf(back, (yield from catches(back)))


def outermost(back):
    yield from delegates(back)


def throws(back):
    """Between the switch back to it and the throw() nothing is called."""
    generator = outermost(back)
    next(generator)
    back.switch(0)
    generator.throw(ValueError)
    back.switch(5)
    try:
        next(generator)
    except StopIteration:
        back.switch(6)


def thrown():
    """Exceptions that go through generators, with switches in the middle."""
    main = greenlet.getcurrent()
    many = [greenlet.greenlet(throws) for _ in range(3)] + [greenlet.greenlet(awaits)]
    for one in many:
        one.switch(main)
    while not all(one.dead for one in many):
        for one in many:
            if not one.dead:
                one.switch()
        leafless()


class Pause:
    def __await__(self):
        yield self


async def cancelled(back):
    try:
        await Pause()
    except ValueError:
        back.switch(1)
        leaf(back, 2)
        raise


async def awaiting(back):
    await cancelled(back)


def awaits(back):
    coroutine = awaiting(back)
    coroutine.send(None)
    back.switch(0)
    try:
        coroutine.throw(ValueError)
    except ValueError:
        leaf(back, 3)


def callback(back, value):
    leaf(back, value)


def callbacks():
    """Greenlets whose function is C: what they call has nothing below it."""
    main = greenlet.getcurrent()
    one, two = (greenlet.greenlet(list) for _ in range(2))
    for g in one, two:
        g.switch(map(functools.partial(callback, main), range(3)))
    while not one.dead or not two.dead:
        for g in one, two:
            if not g.dead:
                g.switch()


def child(back):
    inner = greenlet.greenlet(twin)
    inner.switch([greenlet.getcurrent()], 3)
    leaf(back, 0)
    while not inner.dead:
        inner.switch()


def nested():
    one = greenlet.greenlet(child)
    one.switch(greenlet.getcurrent())
    one.switch()


def short():
    for _ in range(50):  # numbers are used again
        greenlet.greenlet(leafless).switch()


def leafless():
    pass


def all_of_it():
    twins()
    stacks()
    generators()
    exceptions()
    if sys.version_info < (3, 11):  # later such calls are cut: docs/COMPARISON.md
        thrown()
    callbacks()
    nested()
    short()


def waits(count):
    import gevent
    for _ in range(count):
        nap(gevent)


def nap(gevent):
    gevent.sleep(0)


def with_gevent():
    try:
        import gevent
    except ImportError:
        return
    gevent.joinall([gevent.spawn(waits, 3 + i) for i in range(5)])


def in_thread(watch):
    if watch:
        sys.setprofile(hook)
    all_of_it()
    sys.setprofile(None)


def workload(watch=None):
    thread = threading.Thread(target=in_thread, args=(watch,))
    thread.start()
    thread.join()
    if watch:
        sys.setprofile(hook)
    all_of_it()
    with_gevent()
    sys.setprofile(None)
    return {"seen": list(SEEN.values())}
