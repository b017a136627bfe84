# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""Calls of two durations, far from each other."""
import time


def short_one():
    return 1


def long_one(seconds):
    short_one()
    time.sleep(seconds)
    short_one()


def workload(seconds="0.01"):
    for _ in range(5):
        short_one()
        long_one(float(seconds))
