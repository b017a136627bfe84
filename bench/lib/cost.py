# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""What an event costs the traced process, against an empty BPF program at the same sites.

The target runs fib in slices and reports its own CPU time. In each round a slice runs without
probes, one with an empty program at every site and one with the programs of a recording, whose
ring buffer is drained meanwhile on the other CPU. An event is an enter or an exit of a Python
function; the cost of one is (CPU time per call with probes - without) / 2.
"""
import os
import shutil
import tempfile

from lib import private, proc, stats

LIMIT_RATIO = 1.25
LIMIT_BYTES = 12


def _slices(targets, seconds):
    for target in targets:
        target.start(seconds)
    done = [t.finish(seconds + proc.ANSWER_SECONDS) for t in targets]
    calls = sum(s.calls for s in done)
    return sum(s.cpu_ns_per_call * s.calls for s in done) / calls


def one_round(probe, targets, seconds, order):
    """One slice in each mode; returns CPU ns per call by mode and the recording's counts."""
    cost, counts = {}, None
    for mode in order:
        begun = probe.mode(mode)
        _slices(targets, seconds / 8)  # caches and code ids settle
        cost[mode] = _slices(targets, seconds)
        if mode == "record":
            counts = dict(probe.mode("off"), link_kind=begun["link_kind"])
    return cost, counts


def measure(program, interpreter, rounds, seconds, cpus=(0,), tracer_cpu=1, engine="frame",
            reach="file"):
    targets, cache = [], tempfile.mkdtemp(prefix="pytrace-bench-")
    try:
        with private.Private(interpreter) as copy:
            for cpu in cpus:
                targets.append(proc.Target(copy, "fib.py", cpu))
            with proc.CostProbe(program, targets, tracer_cpu, engine, reach, cache) as probe:
                return _measure(probe, targets, rounds, seconds)
    finally:
        for target in targets:
            target.__exit__()
        shutil.rmtree(cache)


def _measure(probe, targets, rounds, seconds):
    found = {k: [] for k in ("base", "empty", "record", "ratio", "bytes")}
    lost = events = resyncs = 0
    for number in range(rounds):
        order = ("off", "empty", "record") if number % 2 else ("record", "off", "empty")
        cost, counts = one_round(probe, targets, seconds, order)
        probe.mode("off")
        empty, record = ((cost[m] - cost["off"]) / 2 for m in ("empty", "record"))
        if not counts["drained_events"]:
            raise proc.BenchError("the recording delivered no events: %r" % counts)
        found["base"].append(cost["off"])
        found["empty"].append(empty)
        found["record"].append(record)
        found["ratio"].append(record / empty)
        found["bytes"].append(counts["drained_bytes"] / counts["drained_events"])
        lost += counts["lost_events"]
        events += counts["events"]
        resyncs += counts["resyncs"]
    image = probe.image
    return {
        "version": image["version"], "engine": image["engine"], "sites": len(image["sites"]),
        "sites_single_stepped": sum(not s["emulated"] for s in image["sites"]),
        "link_kind": counts["link_kind"],
        "base_ns_per_call": stats.summary(found["base"], 1),
        "empty_ns_per_event": stats.summary(found["empty"], 1),
        "record_ns_per_event": stats.summary(found["record"], 1),
        "ratio": stats.summary(found["ratio"]),
        "bytes_per_event": stats.summary(found["bytes"], 2),
        "events": events, "lost_events": lost, "resyncs": resyncs,
        "find_cold_ms": image["find_cold_ms"], "find_cached_ms": image["find_cached_ms"],
    }
