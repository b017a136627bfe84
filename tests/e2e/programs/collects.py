# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""Garbage collections of every generation, by themselves and asked for, on two threads, some of which
run Python code. gc.callbacks says what there was: (thread id, generation, collected, uncollectable).
"""
import gc
import threading
import _thread


class Cyclic:
    many = ()

    def __init__(self):
        self.me = self

    def __del__(self):
        finalised()
        # more than the threshold, within a collection: there is to be no other
        self.made = list(map(list, self.many))


def finalised():
    pass


def litter(count):
    for _ in range(count):
        Cyclic()


def round_trip():
    litter(5000)
    gc.collect(0)
    litter(7)
    gc.collect(1)
    litter(3)
    Cyclic().many = ((),) * 20000
    gc.collect()


def workload():
    seen = []

    def saw(phase, info):
        if phase == "stop":
            seen.append((_thread.get_native_id(), info["generation"], info["collected"],
                         info["uncollectable"]))

    gc.callbacks.append(saw)
    gc.enable()
    round_trip()
    thread = threading.Thread(target=round_trip)
    thread.start()
    thread.join()
    round_trip()
    gc.disable()
    gc.callbacks.remove(saw)
    return {"collections": seen}
