# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""How much slower programs run while they are traced, beside bpftrace on the same instructions.

In each round the same process works untraced, under pytrace-bpf (default output), untraced again
(the ratio to before tells whether the speed is back), and under bpftrace with a program that only
counts, the least that it can do. The target has CPU 0, the tracer CPU 1; the web client shares
CPU 1 with the tracer. bpftrace (0.17) probes the starts of named functions only, so the process
runs a copy of its interpreter file with symbols at the sites; lib/elfsyms.py makes it.
"""
import os
import shutil
import tempfile

from lib import elfsyms, proc, stats

SETTLE_SECONDS = 0.3
PROGRAMS = ("fib", "json+regex", "web requests")


def _interpreter_file(target):
    """The file with the interpreter's code that the process maps."""
    with open("/proc/%d/maps" % target.traced_pid) as maps:
        paths = {line.split()[-1] for line in maps if " r-xp " in line and "/" in line}
    library = [p for p in paths if os.path.basename(p).startswith("libpython")]
    return library[0] if library else os.readlink("/proc/%d/exe" % target.traced_pid)


def make_copy(cost_program, interpreter, folder):
    """Returns (command prefix, environment, file, symbols) to run a copy with symbols at sites."""
    with proc.Target(interpreter, "fib.py") as target:
        with proc.CostProbe(cost_program, [target]) as probe:
            sites = probe.image["sites"]
        source = _interpreter_file(target)
    copy = os.path.join(folder, os.path.basename(source))
    elfsyms.copy_with_symbols(source, copy, [s["vaddr"] for s in sites])
    os.chmod(copy, 0o755)
    symbols = [elfsyms.symbol_name(i) for i in range(len(sites))]
    if os.path.basename(source).startswith("libpython"):
        return [interpreter.path], {"LD_PRELOAD": copy}, copy, symbols
    return [copy], None, copy, symbols


def _target(interpreter, program, prefix, env):
    if program == "web requests":
        return proc.WebTarget(interpreter, 0, 1, env,
                              prefix + ["-c", proc.source("webserver.py")])
    name = "fib.py" if program == "fib" else "jsonre.py"
    return proc.Target(interpreter, name, 0, env, prefix + ["-c", proc.source(name)])


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


def _counted(target, copy, symbols, seconds):
    peer = proc.Bpftrace(target.traced_pid, copy, symbols, 1)
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
        prefix, env, copy, symbols = make_copy(cost_program, interpreter, folder)
        with _target(interpreter, program, prefix, env) as target:
            for _ in range(rounds):
                before = _slice(target, seconds)
                traced, lost = _traced(target, tool, folder, seconds)
                after = _slice(target, seconds)
                counted = _counted(target, copy, symbols, seconds)
                base.append(before.wall_ns_per_unit / 1e3)
                lossy += lost
                found["after"].append(after.cpu_ns_per_unit / before.cpu_ns_per_unit)
                for key, one in (("tool", traced), ("peer", counted)):
                    found[key + "_wall"].append(one.wall_ns_per_unit / before.wall_ns_per_unit)
                    found[key + "_cpu"].append(one.cpu_ns_per_unit / before.cpu_ns_per_unit)
    finally:
        shutil.rmtree(folder)
    return {"version": interpreter.version, "program": program, "sites": len(symbols),
            "rounds_with_loss": lossy, "base_us_per_unit": stats.summary(base, 1),
            **{k: stats.summary(v, 2) for k, v in found.items()}}
