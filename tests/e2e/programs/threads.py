# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""Seven threads, started one after another and running at the same time. Deterministic a thread."""
import queue
import threading


def fib(n):
    return n if n < 2 else fib(n - 1) + fib(n - 2)


def numbers(n):
    for i in range(n):
        yield fib(i % 5)


def deep(n):
    return 0 if n == 0 else 1 + deep(n - 1)


def raising(n):
    if n == 0:
        raise ValueError("out")
    raising(n - 1)


def work_fib(rounds):
    for _ in range(rounds):
        fib(8)


def work_generators(rounds):
    for _ in range(rounds):
        sum(numbers(9))


def work_deep(rounds):
    for _ in range(rounds):
        deep(200)


def work_raising(rounds):
    for _ in range(rounds):
        try:
            raising(80)
        except ValueError:
            pass


def work_sorted(rounds):
    for _ in range(rounds):
        sorted(range(12), key=fib_small)


def fib_small(n):
    return fib(n % 4)


def work_queue(rounds, inbox):
    while True:
        item = inbox.get()
        if item is None:
            return
        fib(item)


def work_nested(rounds):
    inner = threading.Thread(target=work_inner, args=(rounds,))
    inner.start()
    inner.join()


def work_inner(rounds):
    for _ in range(rounds):
        fib(6)


class Worker(threading.Thread):
    def run(self):
        work_fib(3)


def workload(rounds="12"):
    rounds = int(rounds)
    inbox = queue.Queue()
    threads = [threading.Thread(target=f, args=(rounds,)) for f in
               (work_fib, work_generators, work_deep, work_raising, work_sorted, work_nested)]
    threads.append(threading.Thread(target=work_queue, args=(rounds, inbox)))
    # filled before it is read: whether the reader has to wait must not depend on the machine
    for i in range(rounds):
        inbox.put(i % 6)
    inbox.put(None)
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    work_fib(2)
