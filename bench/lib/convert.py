# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""Capture to JSON: events a second on one core, with and without gzip, and the memory it takes.

Two captures: one recorded from a real program, and a large synthetic one (bench/replay_gen.c) with
thousands of functions in several threads. The conversion is the program's own `replay`;
bench/replay_bench.c tells what reading and modelling alone take of it.
"""
import json
import os
import re
import shutil
import subprocess
import tempfile
import time

from lib import private, proc, stats

LIMIT_EVENTS_PER_SECOND = 3e6
LIMIT_MIB = 64
CPU = 0
SYNTHETIC_THREADS = 8
RECORD_LIMIT = "10m"


def _record(tool, interpreter, program, out, events):
    """Records until the target made about so many events; returns how many it holds."""
    with private.Private(interpreter) as copy, proc.Target(copy, program, 0) as target:
        run = proc.Recording(tool, target.traced_pid, out, 1,
                             ("-d", RECORD_LIMIT, "--max-events", str(events)))
        target.start(600)
        code = run.wait()
        if code not in (0, 6):
            raise proc.BenchError("%s ended with %d: %r" % (tool, code, run.text))
    found = re.search(r"([\d,]+) events", "\n".join(run.text))
    if not found:
        raise proc.BenchError("no count of events in %r" % run.text)
    return int(found.group(1).replace(",", ""))


def _replay(tool, capture, out, stdout):
    """Returns (wall s, CPU s, largest resident MiB) of one conversion, pinned to one CPU."""
    begin = time.monotonic()
    child = subprocess.Popen([tool, "replay", capture, "-o", out, "-q"], stdout=stdout,
                             stderr=subprocess.PIPE, preexec_fn=proc.pin(CPU))
    text = child.stderr.read()
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    child.stderr.close()
    if child.returncode not in (0, 6):
        raise proc.BenchError("replay ended with %d: %r" % (child.returncode, text[-500:]))
    return (time.monotonic() - begin, usage.ru_utime + usage.ru_stime,
            usage.ru_maxrss / 1024)


def _rates(tool, capture, events, out, rounds):
    """Million events per second of CPU time, the same per second of wall time, and MiB."""
    rates, walls, memory = [], [], 0
    for _ in range(rounds):
        with open(os.devnull, "wb") as null:
            wall, cpu, mib = _replay(tool, capture, out, null if out == "-" else None)
        rates.append(events / cpu / 1e6)
        walls.append(events / wall / 1e6)
        memory = max(memory, mib)
    return stats.summary(rates, 2), stats.summary(walls, 2), round(memory, 1)


def _model_rate(replay_bench, capture):
    out = subprocess.run([replay_bench, capture, "none"], stdout=subprocess.PIPE, check=True,
                         preexec_fn=proc.pin(CPU), timeout=900).stdout
    found = json.loads(out)
    return found["events"], round(found["events_per_cpu_s"] / 1e6, 2)


def measure(build, interpreter, program, events, rounds):
    """program: a target of ours to record, or None for the synthetic capture."""
    tool = os.path.join(build, "pytrace-bpf")
    folder = tempfile.mkdtemp(prefix="pytrace-bench-", dir="/var/tmp")
    capture = os.path.join(folder, "bench.ptcap")
    try:
        if program:
            _record(tool, interpreter, program, capture, events)
        else:
            subprocess.run([os.path.join(build, "bench/replay_gen"), capture, str(events),
                            str(SYNTHETIC_THREADS)], check=True, stdout=subprocess.DEVNULL)
        count, model = _model_rate(os.path.join(build, "bench/replay_bench"), capture)
        plain, plain_wall, plain_mib = _rates(tool, capture, count, "-", rounds)
        packed_file = os.path.join(folder, "bench.json.gz")
        packed, packed_wall, packed_mib = _rates(tool, capture, count, packed_file, rounds)
        return {"program": program or "synthetic, %d threads" % SYNTHETIC_THREADS,
                "events": count, "model_million_events_per_second": model,
                "capture_bytes_per_event": round(os.path.getsize(capture) / count, 2),
                "json_gz_bytes_per_event": round(os.path.getsize(packed_file) / count, 2),
                "million_events_per_second": plain, "gzip_million_events_per_second": packed,
                "wall_million_events_per_second": plain_wall,
                "gzip_wall_million_events_per_second": packed_wall,
                "resident_mib": max(plain_mib, packed_mib)}
    finally:
        shutil.rmtree(folder)
