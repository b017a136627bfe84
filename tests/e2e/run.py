#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""The end-to-end tests: real interpreters, real probes; needs root and build/pytrace-bpf.

    tests/e2e/run.py [-j N] [--list] [--keep] [--results FILE] [PATTERN...]

PATTERN is a part of a test's name, * stands for any text: exact, 'attach*3.12*threads'.
"""
import argparse
import contextlib
import importlib
import os
import sys

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)

from harness import interpreters, process, runner  # noqa: E402


RCU_EXPEDITED = "/sys/kernel/rcu_expedited"  # Documentation/ABI/testing/sysfs-kernel-rcu


@contextlib.contextmanager
def hurried_kernel():
    """Removing probes waits for RCU grace periods: with shorter ones 28 tests take 22 s instead of 26.
    It is put back at the end, and after Ctrl-C; if a signal kills this program it stays. (The
    guests of tests/vm run without.)"""
    try:
        with open(RCU_EXPEDITED, "r+") as file:
            before = file.read()
            file.write("1")
    except OSError:
        yield
        return
    try:
        yield
    finally:
        with open(RCU_EXPEDITED, "w") as file:
            file.write(before)


def modules():
    names = sorted(f[:-3] for f in os.listdir(HERE) if f.startswith("test_") and f.endswith(".py"))
    return [importlib.import_module(name) for name in names]


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    # Two keep two processors busy for 57 % of the time, but more are no faster (28 tests: 26 s with
    # 2, 30 s with 3, 32 s with 4): attaching and detaching waits for the whole kernel.
    parser.add_argument("-j", type=int, default=2, metavar="N", help="tests at the same time")
    parser.add_argument("--list", action="store_true", help="print the names only")
    parser.add_argument("--keep", action="store_true", help="keep the folders of failed tests")
    parser.add_argument("--results", metavar="FILE", help="append 'P F S' for the totals")
    parser.add_argument("patterns", nargs="*")
    args = parser.parse_args()

    tests = runner.choose(runner.collect(modules()), args.patterns)
    if args.list:
        print("\n".join(t.name for t in tests))
        return 0
    if not tests:
        sys.exit("run.py: no test matches %s" % " ".join(args.patterns))
    if os.geteuid() != 0:
        sys.exit("run.py: the end-to-end tests attach probes: run as root")
    print("tool: %s" % process.TOOL)
    print("interpreters: %s" % " ".join(i.name for i in interpreters.every()))
    missing = interpreters.missing_minors()
    if missing:
        print("no interpreter here for: %s (scripts/interpreters.sh makes Debian's)" %
              " ".join(missing))
    with hurried_kernel():
        results = runner.run(tests, jobs=args.j, keep=args.keep)
    text, failed = runner.summary(results)
    for name, status in results.items():
        if status == runner.FAIL:
            print("failed: %s" % name)
    print("e2e: " + text)
    if args.results:
        with open(args.results, "a") as file:
            file.write("e2e %s\n" % " ".join(str(sum(1 for r in results.values() if r == s))
                                             for s in (runner.PASS, runner.FAIL, runner.SKIP)))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
