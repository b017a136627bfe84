# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""300 asyncio tasks that pass messages over queues and a TCP connection to itself, all the time. A
byte on stdin starts a counted phase among them."""
import asyncio
import json
import os
import sys
import threading

running = True
TASKS = 300
counts = {"ticks": 0, "echoes": 0, "counted_step": 0}


def tick(n):
    counts["ticks"] += 1
    return n + 1


async def task(n, inbox, outbox):
    while running:
        await outbox.put(tick(await inbox.get()) % 1000)
        await asyncio.sleep(0)


async def counted_step(n):
    counts["counted_step"] += 1
    await asyncio.sleep(0)
    return n


async def counted_phase():
    await asyncio.gather(*[counted_step(i) for i in range(500)])


async def serve(reader, writer):
    try:
        while True:
            line = await reader.readline()
            if not line:
                return
            writer.write(line)
            await writer.drain()
    except asyncio.CancelledError:
        pass


async def echo(port):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while running:
        writer.write(b"hello\n")
        await writer.drain()
        await reader.readline()
        counts["echoes"] += 1
        await asyncio.sleep(0.001)
    writer.close()


async def main():
    global running
    loop = asyncio.get_running_loop()
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    queues = [asyncio.Queue() for _ in range(TASKS)]
    tasks = [asyncio.ensure_future(task(i, queues[i], queues[(i + 1) % TASKS]))
             for i in range(TASKS)]
    tasks.append(asyncio.ensure_future(echo(port)))
    for i in range(0, TASKS, 10):
        queues[i].put_nowait(i)
    commands = asyncio.Queue()

    def read():
        while True:
            byte = os.read(0, 1)
            loop.call_soon_threadsafe(commands.put_nowait, byte)
            if byte != b"x":
                return
    threading.Thread(target=read, daemon=True).start()
    os.write(1, b"ready %d\n" % os.getpid())
    while await commands.get() == b"x":
        await counted_phase()
        os.write(1, b"done " + json.dumps(counts).encode() + b"\n")
    running = False
    for t in tasks:
        t.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    server.close()


asyncio.run(main())
sys.exit(0)
