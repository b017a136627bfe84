# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""The comparer and the checker themselves: what must agree agrees, what differs is found."""
import random

from harness import compare, fake, interpreters, process, trace
from harness.runner import each

PROGRAMS = ["callforms", "threads", "aio", "churn", "limit", "closing", "unicode_names"]


@each(interp=interpreters.every)
def test_oracles_agree(t, interp):
    """Two runs under the oracle give the same: the programs are deterministic."""
    total = 0
    for program in PROGRAMS:
        first = process.run_oracle(interp, program, folder=t.folder)
        fake.write_trace(first, t.path("trace.json"), 7)
        loaded = trace.load(t.path("trace.json"))
        second = process.run_oracle(interp, program, folder=t.folder)
        try:
            events, _ = compare.compare(compare.Oracle(second), loaded, 7)
        except compare.Mismatch as error:
            raise AssertionError("%s: %s" % (program, error)) from None
        total += events
    print("%d events" % total)


def drop_pair(events, rng):
    """Leaves out a call that calls nothing."""
    at = [i for i in range(1, len(events) - 1) if events[i] & 1 and events[i + 1] == events[i] - 1]
    i = rng.choice(at)
    return events[:i] + events[i + 2:]


def double_pair(events, rng):
    at = [i for i in range(1, len(events) - 1) if events[i] & 1 and events[i + 1] == events[i] - 1]
    i = rng.choice(at)
    return events[:i] + events[i:i + 2] + events[i:]


def late_exit(events, rng):
    """A call that ends after its next sibling instead of before it: one frame too deep."""
    at = [i for i in range(2, len(events) - 3)
          if not events[i] & 1 and events[i + 1] & 1 and events[i + 2] == events[i + 1] - 1]
    i = rng.choice(at)
    return events[:i] + events[i + 1:i + 3] + [events[i]] + events[i + 3:]


def rename(events, rng):
    codes = sorted({e >> 1 for e in events})
    at = [i for i in range(1, len(events) - 1) if events[i] & 1 and events[i + 1] == events[i] - 1]
    i = rng.choice(at)
    other = rng.choice([c for c in codes if c != events[i] >> 1])
    return events[:i] + [other << 1 | 1, other << 1] + events[i + 2:]


@each(change=[drop_pair, double_pair, late_exit, rename])
def test_differences_are_found(t, change):
    interp = interpreters.one("3.11")
    path = process.run_oracle(interp, "callforms", folder=t.folder)
    oracle = compare.Oracle(path)
    found = 0
    for seed in range(12):
        rng = random.Random(seed)
        fake.write_trace(path, t.path("trace.json"), 7, lambda events, main: change(events, rng))
        try:
            compare.compare(oracle, trace.load(t.path("trace.json")), 7)
        except compare.Mismatch:
            found += 1
    t.equal(found, 12, "differences found")


GOOD = """{"schemaVersion": 1, "displayTimeUnit": "ms", "baseTimeNanoseconds": 5, "traceEvents": [
{"ph": "M", "name": "process_name", "pid": 1, "tid": 1, "args": {"name": "x"}},
{"ph": "M", "name": "thread_name", "pid": 1, "tid": 1, "args": {"name": "x"}},
{"ph": "X", "cat": "python_function", "name": "a(1): f", "pid": 1, "tid": 1, "ts": 1.000, "dur": 5.000},
{"ph": "X", "cat": "python_function", "name": "a(2): g", "pid": 1, "tid": 1, "ts": 2.000, "dur": 3.000}
], "traceName": "x"}"""

BAD = {
    "overlap": ('"ts": 2.000, "dur": 3.000', '"ts": 2.000, "dur": 4.001'),
    "equal begin": ('"ts": 2.000, "dur": 3.000', '"ts": 1.000, "dur": 3.000'),
    "equal end": ('"ts": 2.000, "dur": 3.000', '"ts": 2.000, "dur": 4.000'),
    "empty": ('"dur": 3.000', '"dur": 0.000'),
    "two decimals": ('"ts": 2.000', '"ts": 2.00'),
    "integer": ('"ts": 2.000', '"ts": 2'),
    "exponent": ('"ts": 2.000', '"ts": 2.000e0'),
    "not JSON": ('"traceName"', "traceName"),
    "not a number": ('"ts": 2.000', '"ts": NaN'),
    "a key twice": ('"traceName": "x"', '"traceName": "x", "traceName": "y"'),
    "a dangling begin": ('"ph": "X", "cat": "python_function", "name": "a(2)',
                         '"ph": "B", "cat": "python_function", "name": "a(2)'),
    "no thread name": ('"name": "thread_name"', '"name": "thread_sort_index"'),
    "no cat": ('"cat": "python_function", "name": "a(2)', '"name": "a(2)'),
    "no traceName": (', "traceName": "x"', ""),
    "name without line": ("a(2): g", "a:2 g"),
}


def test_a_good_trace_passes(t):
    t.equal(trace.load(GOOD.encode()).count, 2, "slices")


@each(case=sorted(BAD))
def test_bad_trace(t, case):
    old, new = BAD[case]
    t.equal(GOOD.count(old), 1, "places to change")
    try:
        trace.load(GOOD.replace(old, new).encode())
    except trace.TraceError as error:
        print(error)
        return
    raise AssertionError("the checker did not notice")


def test_bad_bytes(t):
    try:
        trace.load(GOOD.replace("a(1)", "a\udc80(1)").encode("utf-8", "surrogateescape"))
    except trace.TraceError:
        return
    raise AssertionError("the checker did not notice")
