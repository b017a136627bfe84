# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""Tasks that wait when the recording begins, and are cancelled at the next byte on standard input."""
import asyncio
import os


async def inner(event):
    await event.wait()


async def outer(event):
    await inner(event)


async def main():
    loop, event = asyncio.get_running_loop(), asyncio.Event()
    tasks = [asyncio.create_task(outer(event), name=name) for name in ("first", "second", None)]
    await asyncio.sleep(0)
    tasks[1].set_name("renamed")
    print("waiting", flush=True)
    await loop.run_in_executor(None, os.read, 0, 1)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


    return [task.get_name() for task in tasks]


def workload():
    return {"names": asyncio.new_event_loop().run_until_complete(main())}
