# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""asyncio: tasks, gather, async generators, cancellation. No timers, so the order is fixed."""
import asyncio


def leaf(n):
    return n * 2


async def step(n):
    await asyncio.sleep(0)
    return leaf(n)


async def nested(n):
    return await step(n) if n == 0 else await nested(n - 1) + await step(n)


async def ticker(n):
    for i in range(n):
        await asyncio.sleep(0)
        yield i


async def consume(n):
    total = 0
    async for x in ticker(n):
        total += x
    return total + sum([leaf(x) async for x in ticker(2)])


async def fails(n):
    await asyncio.sleep(0)
    raise ValueError(n)


async def waits_for_ever(event):
    try:
        await event.wait()
    except asyncio.CancelledError:
        leaf(1)
        raise


class Resource:
    async def __aenter__(self):
        await step(1)
        return self

    async def __aexit__(self, *exc):
        await step(2)
        return True


async def producer(queue, n):
    for i in range(n):
        await queue.put(leaf(i))
    await queue.put(None)


async def consumer(queue):
    while await queue.get() is not None:
        await asyncio.sleep(0)


async def main():
    await asyncio.gather(*[nested(i) for i in range(6)])
    await asyncio.gather(consume(3), fails(1), fails(2), step(3), return_exceptions=True)
    task = asyncio.ensure_future(waits_for_ever(asyncio.Event()))
    await asyncio.sleep(0)
    task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        pass
    async with Resource():
        raise KeyError("swallowed")
    queue = asyncio.Queue(2)
    await asyncio.gather(producer(queue, 7), consumer(queue))
    lock = asyncio.Lock()
    async with lock:
        await step(1)
    loop = asyncio.get_running_loop()
    future = loop.create_future()
    loop.call_soon(future.set_result, leaf(5))
    await future


def workload():
    # Without a loop of its own making asyncio.run() differs from version to version in what it
    # does with signals and executors; all of it is Python and is compared too.
    asyncio.run(main())
