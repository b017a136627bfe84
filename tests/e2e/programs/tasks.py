# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""asyncio in the ways in which tasks are started, wait and end. How often each is resumed depends on
nothing but the program.

workload(HOW) runs it: "c" and "py" are the two implementations of Task, "debug" is asyncio's debug mode,
"uvloop" another loop, "eager" runs first steps at once (3.12+), "threads" has a loop a thread. With
"count" behind it, a wrapper around each coroutine that becomes a task counts how often the task resumes
it, and notes the task that made it.
"""
import asyncio
import collections.abc
import contextlib
import sys
import threading

SEEN = []


def name_of(coro):
    return getattr(coro.cr_code, "co_qualname", coro.cr_code.co_name)


class Counted(collections.abc.Coroutine):
    def __init__(self, coro, parent):
        self.coro, self.steps = coro, 0
        self.note = {"name": name_of(coro), "parent": parent, "steps": 0}
        SEEN.append(self.note)

    def send(self, value):
        self.note["steps"] += 1
        return self.coro.send(value)

    def throw(self, *args):
        self.note["steps"] += 1
        return self.coro.throw(*args)

    def close(self):
        return self.coro.close()

    def __await__(self):
        return (yield from self.coro.__await__())


def counting(make):
    def factory(loop, coro, **options):
        if not asyncio.iscoroutine(coro) or not hasattr(coro, "cr_code"):
            return make(coro, loop=loop, **options)
        current = asyncio.current_task(loop) if loop.is_running() else None
        parent = getattr(current.get_coro(), "note", None) if current else None
        return make(Counted(coro, parent and parent["name"]), loop=loop, **options)
    return factory


class Box:
    """Something that one awaits by a generator."""

    def __init__(self, coro):
        self.coro = coro

    def __await__(self):
        return (yield from self.coro.__await__())


async def leaf(event):
    await event.wait()


async def middle(event):
    await Box(leaf(event))


async def nested(event):
    try:
        await middle(event)
    except asyncio.CancelledError:
        await asyncio.sleep(0)
        raise
    finally:
        await asyncio.sleep(0)


async def hops(count):
    for _ in range(count):
        await asyncio.sleep(0)
    return count


async def fails():
    await asyncio.sleep(0)
    raise ValueError("expected")


async def quick():
    return 1


async def numbers(count):
    for i in range(count):
        yield i
        await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def context():
    await asyncio.sleep(0)
    yield
    await asyncio.sleep(0)


async def consumes():
    async with context():
        return [i async for i in numbers(3)] + [await quick() for _ in range(3)]


async def spawns(depth):
    if depth:
        await asyncio.ensure_future(spawns(depth - 1))


async def never_starts():
    pass


async def swallows(event):
    """A cancellation that an inner coroutine keeps for itself."""
    async def inner():
        try:
            await event.wait()
        except asyncio.CancelledError:
            await asyncio.sleep(0)
    await inner()
    await asyncio.sleep(0)


async def main():
    event = asyncio.Event()
    tasks = [asyncio.create_task(nested(event)) for _ in range(3)]
    tasks.append(asyncio.get_running_loop().create_task(hops(50)))
    await asyncio.sleep(0)
    tasks[0].cancel()
    swallower = asyncio.create_task(swallows(event))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    swallower.cancel()
    await swallower
    event.set()
    await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.gather(fails(), hops(3), quick(), consumes(), return_exceptions=True)
    early = asyncio.create_task(never_starts())
    early.cancel()
    await asyncio.gather(early, return_exceptions=True)
    await spawns(3)
    await asyncio.wait_for(hops(4), 60)
    await asyncio.shield(hops(2))
    never_starts().close()
    for _ in range(30):  # addresses are used again
        await asyncio.ensure_future(quick())
    half = numbers(9)
    await half.__anext__()
    await half.aclose()


def new_loop(how):
    if how == "uvloop":
        import uvloop
        return uvloop.new_event_loop()
    return asyncio.new_event_loop()


def run(how, count):
    loop = new_loop(how)
    make = asyncio.tasks._PyTask if how == "py" else asyncio.Task
    if how == "py":
        for name in "current_task", "_enter_task", "_leave_task", "_swap_current_task":
            if hasattr(asyncio.tasks, "_py_" + name):
                setattr(asyncio.tasks, name, getattr(asyncio.tasks, "_py_" + name))
        asyncio.current_task = asyncio.tasks.current_task
    if how == "eager":
        def make(coro, **options):
            return asyncio.Task(coro, eager_start=True, **options)
    if count:
        loop.set_task_factory(counting(make))
    elif how in ("py", "eager"):
        loop.set_task_factory(lambda loop, coro, **options: make(coro, loop=loop, **options))
    loop.set_debug(how == "debug")
    try:
        loop.run_until_complete(main())
        loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        loop.close()


def workload(how, count=None):
    if how == "threads":
        threads = [threading.Thread(target=run, args=("c", count)) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    else:
        run(how, count)
    return {"seen": SEEN, "version": sys.version}
