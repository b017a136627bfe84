# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""Tasks that the program gives names to, in each way there is, or not; and one that is never run, whose
coroutine's address another's may be."""
import asyncio
import contextvars
import sys

ASCII, LATIN, EURO, LONG = "plain", "sch\xf6n", "\u20ac uro", "x" * 300
TOLD = []  # as the program itself sees it, and whether it gave the name


async def named(x):
    await asyncio.sleep(0)
    return x


def tell(task, given):
    TOLD.append(task.get_name() if given else None)
    return task


async def dropped():
    pass


async def main():
    loop = asyncio.get_running_loop()
    tasks = [tell(asyncio.create_task(named(n), name=n), True)
             for n in (ASCII, LATIN, EURO, LONG, "(x #1)")]
    tasks.append(tell(loop.create_task(named(1), name="by the loop"), True))
    tasks.append(tell(asyncio.create_task(named(2)), False))
    tasks.append(tell(asyncio.ensure_future(named(3)), False))
    tasks.append(tell(asyncio.create_task(named(4), name=None), False))
    if hasattr(asyncio, "TaskGroup"):
        async with asyncio.TaskGroup() as group:
            tell(group.create_task(named(5), name="in a group"), True)
            tell(group.create_task(named(6)), False)
    if sys.version_info >= (3, 11):
        tasks.append(tell(asyncio.create_task(named(7), context=contextvars.copy_context(),
                                              name="behind context"), True))
    await asyncio.gather(*tasks)
    for _ in range(20):  # cancelled before it has run: its name must not go to the next
        task = asyncio.create_task(dropped(), name="never")
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            pass
        del task
        await tell(asyncio.create_task(named(8)), False)


def workload():
    asyncio.run(main())
    return {"told": TOLD}
