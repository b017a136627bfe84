# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""How long it takes from the start of pytrace-bpf until it records: with nothing cached (the
finder's results, the calibration of this kernel), and again with what the first run left. On a busy
machine most of it is waiting for a CPU, so that part is told apart."""
import os
import shutil
import tempfile

from lib import private, proc, stats

LIMIT_GATE_MS = 300
LIMIT_FIND_COLD_MS = 100
LIMIT_FIND_CACHED_MS = 5


def measure(tool, interpreter, rounds):
    folder = tempfile.mkdtemp(prefix="pytrace-bench-")
    found = {"cold_ms": [], "cached_ms": [], "cold_queue_ms": [], "cached_queue_ms": []}
    try:
        with private.Private(interpreter) as copy, proc.Target(copy, "fib.py", 0) as target:
            for number in range(rounds):
                cache = os.path.join(folder, "cache-%d" % number)
                for name in ("cold", "cached"):
                    target.start(2)
                    out = os.path.join(folder, "attach.ptcap")
                    run = proc.Recording(tool, target.traced_pid, out, 1,
                                         ("-d", "200ms", "--cache-dir", cache))
                    if run.wait() not in (0, 6):
                        raise proc.BenchError("%s failed: %r" % (tool, run.text))
                    target.finish()
                    found[name + "_ms"].append(run.gate_seconds * 1e3)
                    found[name + "_queue_ms"].append(run.queue_seconds * 1e3)
    finally:
        shutil.rmtree(folder)
    return {"version": interpreter.version,
            **{name: stats.summary(values, 1) for name, values in found.items()}}
