# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""Capture to JSON: events a second on one core, with and without gzip, and the memory it takes."""
import os
import re
import shutil
import subprocess
import tempfile
import time

from lib import proc, stats

LIMIT_EVENTS_PER_SECOND = 3e6
LIMIT_MIB = 64
MEMORY_EVENTS = 50_000_000
CPU = 0


def _record(tool, interpreter, program, out, events):
    """Records until the target made about so many events."""
    with proc.Target(interpreter, program, 0) as target:
        run = proc.Recording(tool, target.traced_pid, out, 1, ("-d", "10m", "--max-events",
                                                              str(events)))
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
    walls, memory = [], 0
    for _ in range(rounds):
        with open(os.devnull, "wb") as null:
            wall, _, mib = _replay(tool, capture, out, null if out == "-" else None)
        walls.append(events / wall / 1e6)
        memory = max(memory, mib)
    return stats.summary(walls, 2), round(memory, 1)


def measure(tool, interpreter, program, events, rounds):
    folder = tempfile.mkdtemp(prefix="pytrace-bench-", dir="/var/tmp")
    capture = os.path.join(folder, "bench.ptcap")
    try:
        count = _record(tool, interpreter, program, capture, events)
        plain, plain_mib = _rates(tool, capture, count, "-", rounds)
        packed_file = os.path.join(folder, "bench.json.gz")
        packed, packed_mib = _rates(tool, capture, count, packed_file, rounds)
        return {"program": program, "version": interpreter.version, "events": count,
                "capture_bytes_per_event": round(os.path.getsize(capture) / count, 2),
                "json_gz_bytes_per_event": round(os.path.getsize(packed_file) / count, 2),
                "million_events_per_second": plain, "gzip_million_events_per_second": packed,
                "resident_mib": max(plain_mib, packed_mib)}
    finally:
        shutil.rmtree(folder)
