# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""Memory of PyTorch's on the CPU: says 'ready', and once stdin has a byte, makes training steps under
PyTorch's own profiler, whose memory events go into OUT: [address, bytes, negative if freed], in order.
The first one is of MARK bytes. What is allocated by kept() is still there at the end."""
import json
import os
import sys
import threading

import torch
from torch import nn

MARK = 123456


def kept(n):
    return [
        torch.empty(n, dtype=torch.uint8) for _ in range(3)]


def step(model, optimizer):
    optimizer.zero_grad()
    model(torch.ones(4, 1, 6, 6)).square().mean().backward()
    optimizer.step()


def workload(model, optimizer):
    torch.empty(MARK, dtype=torch.uint8)
    for _ in range(3):
        step(model, optimizer)
    try:
        torch.empty(1 << 60, dtype=torch.uint8)  # fails, by an exception
        os._exit(7)
    except RuntimeError:
        pass
    held = kept(54321)
    thread = threading.Thread(target=lambda: held.append(torch.empty(777, dtype=torch.uint8)))
    thread.start()
    thread.join()
    held.pop(0)
    return held


def main():
    torch.manual_seed(1)
    torch.set_num_threads(1)
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(32, 16),
                          nn.GELU(), nn.Linear(16, 4))
    optimizer = torch.optim.Adam(model.parameters())
    for _ in range(2):  # what is imported late is there now
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]):
            workload(model, optimizer)
    os.write(1, b"ready %d\n" % os.getpid())
    os.read(0, 1)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU],
                                profile_memory=True) as profiler:
        held = workload(model, optimizer)
    profiler.export_chrome_trace(sys.argv[1])
    with open(sys.argv[1]) as file:
        events = [e for e in json.load(file)["traceEvents"] if e["name"] == "[memory]"]
    with open(sys.argv[1], "w") as file:
        json.dump([(e["args"]["Addr"], e["args"]["Bytes"]) for e in
                   sorted(events, key=lambda e: e["ts"])], file)
    os._exit(0 if len(held) == 3 else 1)  # without freeing them


if __name__ == "__main__":
    main()
