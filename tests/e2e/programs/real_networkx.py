# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""The same graph computation again and again, in a thread; "x" on stdin asks for the number done.

The first argument is a file for what sys.setprofile sees of one job(): {name: calls}.
"""
import gc
import json
import os
import sys
import threading

import networkx as nx

jobs = 0
running = True


def job():
    graph = nx.random_regular_graph(3, 24, seed=7)
    nx.betweenness_centrality(graph)
    nx.shortest_path(graph, 0, 23)
    list(nx.simple_cycles(nx.cycle_graph(5)))
    tree = nx.minimum_spanning_tree(graph)
    return nx.density(tree)


def work():
    global jobs
    while running:
        job()
        jobs += 1


def count_calls():
    counts = {}

    def hook(frame, event, arg):
        if event == "call":
            name = frame.f_code.co_qualname
            counts[name] = counts.get(name, 0) + 1
    sys.setprofile(hook)
    job()
    sys.setprofile(None)
    return counts


gc.disable()
job()
job()
with open(sys.argv[1], "w") as file:
    json.dump(count_calls(), file)
gc.collect()
thread = threading.Thread(target=work)
thread.start()
os.write(1, b"ready %d\n" % os.getpid())
while os.read(0, 1) == b"x":
    os.write(1, b"done %d\n" % jobs)
running = False
thread.join()
