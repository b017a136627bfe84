# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""Greenlets that switch in the middle of sorted() and list.sort()."""
import greenlet

ROUNDS = 50
log = []


def key(x):
    log.append(x)
    main.switch()
    return x


def work(n):
    return sorted([n, n - 1], key=key)


def other():
    for _ in range(3):
        sorted([2, 1])


main = greenlet.getcurrent()
workers = [greenlet.greenlet(work) for _ in range(3)]
results = []
for n in range(ROUNDS):
    for w in workers:
        results.append(w.switch(n))
        other()
    if workers[0].dead:
        workers = [greenlet.greenlet(work) for _ in range(3)]
assert len(log) >= ROUNDS, log
