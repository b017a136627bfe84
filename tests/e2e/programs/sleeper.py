# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""Calls C functions for ever, and no Python function at all: "sleeper.py SECONDS"."""
import sys
import time


def main():
    end = time.monotonic() + float(sys.argv[1])
    print("ready", flush=True)
    while time.monotonic() < end:
        time.sleep(0.002)
        "a,b".split(",")


main()
