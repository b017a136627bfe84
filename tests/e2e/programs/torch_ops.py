# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""PyTorch's operators: a training step, operators that fail, and some that call Python. profile OUT:
under PyTorch's own profiler, whose raw events go into the file; else for the tracer: 'ready', then
the same once stdin has a byte."""
import json
import os
import sys
import threading

import torch
from torch import nn


class Doubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x * 2

    @staticmethod
    def backward(ctx, grad):
        return grad * 2


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)
        self.linear, self.layer_norm = nn.Linear(32, 16), nn.LayerNorm(16)
        self.encoder = nn.TransformerEncoderLayer(16, 2, 16, batch_first=True)

    def forward(self, x):
        x = torch.relu(self.norm(self.conv(x)))
        x = nn.functional.gelu(self.layer_norm(self.linear(x.flatten(1))))
        return self.encoder(Doubled.apply(x).unsqueeze(1)).square().mean()


def step(model, optimizer):
    optimizer.zero_grad()
    model(torch.ones(4, 1, 6, 6)).backward()
    optimizer.step()


def fails(n):
    """Each leaves an operator, and those around it, by an exception."""
    failed = 0
    for _ in range(n):
        for call in (lambda: torch.ones(2) + torch.ones(3), lambda: torch.ones(2, 3).mm(torch.ones(2)),
                     lambda: torch.cat([torch.ones(2, 2), torch.ones(3, 3)]),
                     lambda: nn.functional.linear(torch.ones(2, 3), torch.ones(4, 5))):
            try:
                call()
            except RuntimeError:
                failed += 1
            torch.ones(1).add_(1)
    return failed


def workload(model, optimizer):
    for _ in range(3):
        step(model, optimizer)
    assert fails(5) == 20
    torch.tensor([[3, 1], [2, 4]])[torch.tensor([1, 0])].sort().values.tolist()


def profile(model, optimizer, out):
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
        workload(model, optimizer)
    events = profiler.profiler.kineto_results.events()
    with open(out, "w") as file:
        json.dump([(e.name(), e.start_ns(), e.start_ns() + e.duration_ns(), e.start_thread_id())
                   for e in events], file)


def main():
    torch.manual_seed(1)
    torch.set_num_threads(1)
    model = Model()
    optimizer = torch.optim.Adam(model.parameters())
    workload(model, optimizer)  # what is imported late is there now
    if sys.argv[1:2] == ["profile"]:
        profile(model, optimizer, sys.argv[2])
        return
    os.write(1, b"ready %d\n" % os.getpid())
    os.read(0, 1)
    workload(model, optimizer)
    thread = threading.Thread(target=lambda: [torch.ones(2).neg() for _ in range(50)])
    thread.start()
    thread.join()


if __name__ == "__main__":
    main()
