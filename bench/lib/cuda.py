# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""What recording a CUDA call costs the traced process, against an empty BPF program at the same
probes: one at the function's entry and one at its return. The library is a copy of a toolkit's
libcudart; without a driver its calls fail, after about a microsecond."""
import glob
import os
import shutil
import tempfile

from lib import cost, private, proc, stats

LIMIT_RATIO = 1.5
LIBRARIES = "/usr/local/cuda*/lib64/libcudart.so.1[23]"


def measure(program, interpreter, rounds, seconds):
    found = sorted(glob.glob(LIBRARIES))
    if not found:
        raise proc.BenchError("no " + LIBRARIES)
    folder = tempfile.mkdtemp(prefix="pytrace-bench-", dir="/var/tmp")
    library = shutil.copy(os.path.realpath(found[-1]), os.path.join(folder, "libcudart.so"))
    try:
        with private.Private(interpreter) as copy, \
                proc.Target(copy, "cuda.py", 0, [library]) as target, \
                proc.CostProbe(program, [target], 1, "frame", "file", folder,
                               cuda=library) as probe:
            return _measure(probe, target, rounds, seconds, os.path.realpath(found[-1]))
    finally:
        shutil.rmtree(folder)


def _measure(probe, target, rounds, seconds, library):
    kept = {k: [] for k in ("base", "empty", "record", "ratio")}
    for number in range(rounds):
        order = ("off", "empty", "record") if number % 2 else ("record", "off", "empty")
        ns, counts = cost.one_round(probe, [target], seconds, order)
        probe.mode("off")
        if not counts["drained_words"]:
            raise proc.BenchError("the recording delivered no calls: %r" % counts)
        empty, record = (ns[m] - ns["off"] for m in ("empty", "record"))
        kept["base"].append(ns["off"])
        kept["empty"].append(empty)
        kept["record"].append(record)
        kept["ratio"].append(record / empty)
    return {"library": os.path.basename(library), "function": "cudaMalloc",
            "base_ns": stats.summary(kept["base"], 1),
            "empty_ns": stats.summary(kept["empty"], 1),
            "record_ns": stats.summary(kept["record"], 1),
            "ratio": stats.summary(kept["ratio"])}
