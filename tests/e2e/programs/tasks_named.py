# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""Tasks that the program gives names to, in each way there is and at each time, or not; and one that is never
run, whose coroutine's address another's may be. workload("py"): Task in Python."""
import asyncio
import contextvars
import sys

ASCII, LATIN, EURO, LONG = "plain", "sch\xf6n", "\u20ac uro", "x" * 300
TOLD = []  # tasks, and whether they were given their names when they were made


async def named(x):
    await asyncio.sleep(0)
    return x


async def names_itself(name, steps):
    """Three of the same length, as an allocator may put the third where the first was."""
    for _ in range(steps):
        await asyncio.sleep(0)
    for n in "abc":
        asyncio.current_task().set_name(name + n)
    for _ in range(steps):
        await asyncio.sleep(0)


def tell(task, given):
    TOLD.append((task, given))
    return task


def later():
    """set_name(): before the first step, in the only one, in one that others follow."""
    early = tell(asyncio.create_task(named(9)), False)
    early.set_name("before it runs")
    asked = tell(asyncio.create_task(named(10)), False)
    asked.get_name()  # a str from now on
    number = tell(asyncio.create_task(named(11)), False)
    number.set_name(7)
    tasks = [tell(asyncio.create_task(names_itself("by itself %d " % steps, steps)), False)
             for steps in range(3)]
    return [early, asked, number, *tasks]


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
    tasks.append(tell(asyncio.create_task(names_itself("", 3), name=ASCII), True))
    tasks += later()
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


def workload(how="c"):
    loop = asyncio.new_event_loop()
    if how == "py":
        make = asyncio.tasks._PyTask
        loop.set_task_factory(lambda loop, coro, **options: make(coro, loop=loop, **options))
    loop.run_until_complete(main())
    loop.close()
    return {"told": [(task.get_coro().__name__, task.get_name(), given) for task, given in TOLD]}
