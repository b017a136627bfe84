# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""What an option costs the target, per thing that it records, and what the same thing costs without
the option. targets/features.py does one thing over and over; in each round the same process does it
untraced, traced without the option, and traced with it."""
import os
import shutil
import tempfile

from lib import proc, stats

SETTLE_SECONDS = 0.2
NO_C = ("--c-functions", "none")
# what it is for, the options, what the program does, the options of the run that is compared with
FEATURES = (
    ("C functions by default, another one called", (), "c_function", NO_C),
    ("C functions by default, one of them called", (), "wait", NO_C),
    ("C functions, another one wanted", ("--c-functions", "time.sleep"), "c_function", NO_C),
    ("C functions, that one wanted", ("--c-functions", "*lock.locked"), "c_function", NO_C),
    ("C functions, blocking ones, another one called", ("--c-functions", "blocking"),
     "c_function", NO_C),
    ("C functions, blocking ones, one of them called", ("--c-functions", "blocking"), "lock",
     NO_C),
    ("C functions, all", ("--c-functions", "all"), "c_function", NO_C),
    ("lines of calls", ("--lines",), "call", ()),
    ("collections", (), "collection", ("--no-gc",)),
    ("imports", (), "imported", ("--no-imports",)),
    ("waits for the GIL", ("--gil",), "sleep", ()),
    ("thread states", ("--sched",), "sleep", ()),
    ("audit events", ("--audit", "bench.event"), "audit", ()),
    ("audit events, another one wanted", ("--audit", "other"), "audit", ()),
    ("exceptions", ("--exceptions",), "exception", ()),
    ("arguments, an int and a str", ("--args", "same"), "value", ()),
    ("result", ("--retval", "same"), "value", ()),
    ("a variable", ("--local", "same:number"), "value", ()),
    ("arguments of another function", ("--args", "other"), "value", ()),
    ("tasks of asyncio", ("--async",), "task", ()),
    ("calls shorter than 1 ms left out", ("--min-duration", "1ms"), "call", ()),
)


def _traced(target, tool, folder, options, seconds):
    run = proc.Recording(tool, target.traced_pid, os.path.join(folder, "f.ptcap"), 1, options)
    try:
        target.run(SETTLE_SECONDS)
        result = target.run(seconds)
    finally:
        code = run.stop()
    if code not in (0, 6):
        raise proc.BenchError("%s %s ended with %d: %r" % (tool, options, code, run.text))
    return result


def measure(tool, interpreter, feature, rounds, seconds):
    name, options, thing, without = feature
    folder = tempfile.mkdtemp(prefix="pytrace-bench-", dir="/var/tmp")
    found = {"base": [], "off": [], "on": []}
    try:
        with proc.Target(interpreter, "features.py", 0, (thing,)) as target:
            for _ in range(rounds):
                base = target.run(seconds)
                off = _traced(target, tool, folder, without, seconds)
                on = _traced(target, tool, folder, options, seconds)
                found["base"].append(base.cpu_ns_per_call)
                found["off"].append(off.cpu_ns_per_call - base.cpu_ns_per_call)
                found["on"].append(on.cpu_ns_per_call - off.cpu_ns_per_call)
    finally:
        shutil.rmtree(folder)
    return {"feature": name, "options": " ".join(options), "without": " ".join(without),
            "thing": thing, **{k + "_ns": stats.summary(v, 0) for k, v in found.items()}}
