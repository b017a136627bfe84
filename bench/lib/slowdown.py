# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""How much slower programs run while they are traced, beside bpftrace on the same instructions.

In each round the same process works untraced, under pytrace-bpf (default output), untraced again
(the ratio to before tells whether the speed is back), and under bpftrace with a program that only
counts, the least that it can do. The target has CPU 0, the tracer CPU 1; the web client shares
CPU 1 with the tracer. bpftrace (0.17) probes the starts of named functions only, so the process
runs a copy of its interpreter file with symbols at the sites; lib/private.py makes it.
"""
import os
import shutil
import tempfile

from lib import private, proc, stats

SETTLE_SECONDS = 0.3
PROGRAMS = ("fib", "json+regex", "web requests")


def _sites(cost_program, interpreter):
    with private.Private(interpreter) as copy, proc.Target(copy, "fib.py") as target:
        with proc.CostProbe(cost_program, [target]) as probe:
            return [s["vaddr"] for s in probe.image["sites"]]


def _target(interpreter, program):
    if program == "web requests":
        return proc.WebTarget(interpreter, 0, 1)
    return proc.Target(interpreter, "fib.py" if program == "fib" else "jsonre.py", 0)


def _slice(target, seconds):
    target.run(SETTLE_SECONDS)
    return target.run(seconds)


def _traced(target, tool, folder, seconds):
    run = proc.Recording(tool, target.traced_pid, os.path.join(folder, "slow.json.gz"), 1)
    try:
        result = _slice(target, seconds)
    finally:
        code = run.stop()
    if code not in (0, 6):
        raise proc.BenchError("%s ended with %d: %r" % (tool, code, run.text))
    return result, code == 6


def _counted(target, copy, seconds):
    peer = proc.Bpftrace(target.traced_pid, copy.file, copy.symbols, 1)
    try:
        result = _slice(target, seconds)
    finally:
        hits = peer.stop()
    if not hits:
        raise proc.BenchError("bpftrace saw no hit")
    return result


def measure(tool, cost_program, interpreter, program, rounds, seconds):
    folder = tempfile.mkdtemp(prefix="pytrace-bench-", dir="/var/tmp")
    found = {k: [] for k in ("tool_wall", "tool_cpu", "peer_wall", "peer_cpu", "after")}
    base, lossy = [], 0
    try:
        sites = _sites(cost_program, interpreter)
        with private.Private(interpreter, sites) as copy, _target(copy, program) as target:
            for _ in range(rounds):
                before = _slice(target, seconds)
                traced, lost = _traced(target, tool, folder, seconds)
                after = _slice(target, seconds)
                counted = _counted(target, copy, seconds)
                base.append(before.wall_ns_per_unit / 1e3)
                lossy += lost
                found["after"].append(after.cpu_ns_per_unit / before.cpu_ns_per_unit)
                for key, one in (("tool", traced), ("peer", counted)):
                    found[key + "_wall"].append(one.wall_ns_per_unit / before.wall_ns_per_unit)
                    found[key + "_cpu"].append(one.cpu_ns_per_unit / before.cpu_ns_per_unit)
    finally:
        shutil.rmtree(folder)
    return {"version": interpreter.version, "program": program, "sites": len(sites),
            "rounds_with_loss": lossy, "base_us_per_unit": stats.summary(base, 1),
            **{k: stats.summary(v, 2) for k, v in found.items()}}
