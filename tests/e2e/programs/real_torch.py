# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""A training step. profile OUT: under PyTorch's own profiler; else for the tracer: 'ready', then the
same once stdin has a byte."""
import os
import sys

import torch
from torch import nn


class Block(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.linear = nn.Linear(size, size)

    def forward(self, x):
        return torch.relu(self.linear(x)) + x


def loss_of(model, x):
    return model(x).square().mean()


def get_key(name):
    return name[::-1]


def step(model, optimizer):
    names = sorted((name for name, _ in model.named_parameters()), key=get_key)
    optimizer.zero_grad()
    loss = loss_of(model, torch.ones(4, 8))
    loss.backward()
    optimizer.step()
    return names


def workload(model, optimizer):
    for _ in range(3):
        step(model, optimizer)


def main():
    torch.manual_seed(1)
    torch.set_num_threads(1)
    model = nn.Sequential(Block(8), Block(8), nn.Linear(8, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    workload(model, optimizer)  # what is imported late is there now
    if sys.argv[1:2] == ["profile"]:
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU],
                                    with_stack=True) as profiler:
            workload(model, optimizer)
        profiler.export_chrome_trace(sys.argv[2])
        return
    os.write(1, b"ready %d\n" % os.getpid())
    os.read(0, 1)
    workload(model, optimizer)


if __name__ == "__main__":
    main()
