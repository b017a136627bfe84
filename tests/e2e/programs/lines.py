# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""Calls on lines that the program knows: each call of here() notes the line that it comes from, as
CPython's own frame says. Calls over several lines, in expressions that the compiler moves around,
through C functions, from generators, at import and in code that is freed at once."""
import asyncio
import functools
import sys

SEEN = []


def here(*args, **kwargs):
    SEEN.append(sys._getframe(1).f_lineno)
    return args[0] if args else 1


class Thing:
    def __init__(self, value):
        SEEN.append(sys._getframe(1).f_lineno)
        self.value = value

    @property
    def prop(self):
        SEEN.append(sys._getframe(1).f_lineno)
        return self.value

    def __add__(self, other):
        SEEN.append(sys._getframe(1).f_lineno)
        return self

    def __enter__(self):
        SEEN.append(sys._getframe(1).f_lineno)
        return self

    def __exit__(self, *args):
        SEEN.append(sys._getframe(1).f_lineno)
        return True

    def __iter__(self):
        SEEN.append(sys._getframe(1).f_lineno)
        return iter((1, 2))


def spread():
    here(
        here(1),
        *[
            here(2),
            here(
                3
            ),
        ],
        key=here(
            4),
    )
    value = (
        here(1) +
        here(2)
        if here(0) else
        here(3) +

        here(4)
    )
    value = [
        here(x)
        for x in
        (1, here(2))
        if here(
            x)
    ]
    return here(value) and \
        here(1) and \
        here(2)


def objects():
    thing = Thing(
        1
    )
    thing = (
        thing
        + thing
        + Thing(2)
    )
    thing.prop
    for _ in thing:
        here()
    with thing:
        here()
        raise ValueError(
            here()
        )


def through_c():
    sorted([3, 1, 2],
           key=here)
    list(map(
        here,
        [1, 2]))
    functools.reduce(
        lambda a, b:
        here(a),
        [1, 2, 3])
    max([1, 2], key=lambda x: here(
        x))


def generate(n):
    for i in range(n):
        here()
        yield here(
            i)
    return here()


def delegate():
    here()
    yield from generate(2)
    here()


async def coroutine(n):
    here()
    await asyncio.sleep(0)
    if n:
        await coroutine(
            n - 1)
    here()


def unwind(n):
    try:
        if n == 0:
            raise KeyError(here())
        unwind(
            n - 1)
    finally:
        here(
        )


def far_apart():
    """A line table with jumps of hundreds of lines, forwards and backwards, in code that is run
    once and freed."""
    text = "here()\n" + "\n" * 300 + "here(\n" + "\n" * 500 + "here(), here())\n" + \
        "for i in (1, 2):\n    here(\n        i,\n" + "\n" * 140 + "        here())\n"
    # code of more than 256 and more than 65536 bytes
    text += "x = 1\n" * 4000 + "here()\n" + "def f():\n" + "    y = 1\n" * 9000 + "    here()\nf()\n"
    for _ in range(3):
        exec(compile(text, "<far apart>", "exec"), {"here": here})


def workload():
    del SEEN[:]
    spread()
    objects()
    through_c()
    list(delegate())
    for _ in generate(
            2):
        pass
    loop = asyncio.new_event_loop()
    loop.run_until_complete(coroutine(2))
    loop.close()
    try:
        unwind(3)
    except KeyError:
        here()
    far_apart()
    return {"seen": SEEN}
