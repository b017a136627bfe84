# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""A C function that calls Python that calls C: slow enough to be told from anything else."""
import time


def get_key(name):
    time.sleep(1.2)
    classmethod(repr)
    return repr(name)


def main():
    sorted(["alpha", "beta"], key=get_key)


main()
