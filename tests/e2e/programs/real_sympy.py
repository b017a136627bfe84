# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""A sympy computation, in a loop until a byte comes; the cache is cleared between the rounds."""
import gc
import json
import os
import select
import sys

import sympy
from sympy.core.cache import clear_cache

rounds = 0


def job():
    x, y = sympy.symbols("x y")
    sympy.diff(sympy.sin(x) * x, x)
    sympy.factor(sympy.expand((x + y) ** 3))
    return sympy.simplify((x ** 2 - 1) / (x - 1))


gc.disable()
job()
os.write(1, b"ready %d\n" % os.getpid())
while not select.select([0], [], [], 0)[0]:
    clear_cache()
    job()
    rounds += 1
    os.write(1, b"round %d\n" % rounds)
os.read(0, 1)
os.write(1, b"done " + json.dumps({"rounds": rounds}).encode() + b"\n")
os.read(0, 1)
sys.exit(0)
