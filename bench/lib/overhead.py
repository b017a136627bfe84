# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""--max-overhead on a program that does nothing but call: what it really costs, and what the tool
says that it does. In each round the same process works untraced, traced with the limit, and untraced
again; what is compared is the CPU time for one unit of work, over windows and rests together."""
import os
import re
import shutil
import tempfile

from lib import proc, stats

LIMITS = ("1%", "5%")
SAID = re.compile(r"overhead: ([0-9.]+) % .*recorded ([0-9.]+) s of ([0-9.]+) s")


def _traced(target, tool, folder, limit, seconds):
    run = proc.Recording(tool, target.traced_pid, os.path.join(folder, "o.json.gz"), 1,
                         ("--max-overhead", limit))
    try:
        result = target.run(seconds)
    finally:
        code = run.stop()
    text = "\n".join(run.text)
    said = SAID.search(text)
    if code or not said:
        raise proc.BenchError("%s ended with %d: %r" % (tool, code, text))
    return result, float(said[1]), 100 * float(said[2]) / float(said[3])


def measure(tool, interpreter, limit, rounds, seconds):
    folder = tempfile.mkdtemp(prefix="pytrace-bench-", dir="/var/tmp")
    found = {"real_percent": [], "said_percent": [], "recorded_percent": []}
    try:
        with proc.Target(interpreter, "fib.py", 0) as target:
            for _ in range(rounds):
                before = target.run(seconds / 4)
                traced, said, recorded = _traced(target, tool, folder, limit, seconds)
                after = target.run(seconds / 4)
                base = (before.cpu_ns_per_unit + after.cpu_ns_per_unit) / 2
                found["real_percent"].append(100 * (traced.cpu_ns_per_unit / base - 1))
                found["said_percent"].append(said)
                found["recorded_percent"].append(recorded)
    finally:
        shutil.rmtree(folder)
    return {"version": interpreter.version, "limit": limit, "seconds": seconds,
            **{k: stats.summary(v, 2) for k, v in found.items()}}
