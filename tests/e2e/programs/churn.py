# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""Code objects that are made, run and freed in a loop, so that their addresses are used again, and
small modules that are imported."""
import importlib
import sys

TEXT = """
def f_%(n)d(x):
    return x + g_%(n)d(x)


def g_%(n)d(x):
    return [y for y in map(lambda z: z * %(n)d, range(x))]
result = len(g_%(n)d(2)) + %(n)d
"""


def run_text(n):
    namespace = {}
    exec(compile(TEXT % {"n": n}, "/made/up/module_%d.py" % (n % 17), "exec"), namespace)
    try:
        namespace["f_%d" % n](1)
    except TypeError:
        pass
    return namespace["result"]


def evaluate(n):
    return eval("(lambda x: x + %d)(1)" % n)


def import_again(n):
    for name in ("small_a", "small_b"):
        sys.modules.pop(name, None)
    import small_a
    return small_a.value(n)


def replace_code(n):
    def first():
        return 1

    def second():
        return 2
    first()
    first.__code__ = second.__code__
    first()
    first.__code__ = first.__code__.replace(co_name="renamed_%d" % (n % 5))
    return first()


def workload(rounds="150"):
    total = 0
    for n in range(int(rounds)):
        total += run_text(n) + evaluate(n) + replace_code(n)
    importlib.invalidate_caches()
    for n in range(5):
        total += import_again(n)
    return {"total": total}
