# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""A pure call loop on one CPU, the tracer with its default buffers on the other: what is lost, and
whether the recording holds as many events as the program knows to have made. The tracer attaches
before the loop starts and detaches after it, so the numbers must agree but for the few calls of the
program's own frame (reading its orders)."""
import os
import re
import shutil
import tempfile

from lib import proc

SLACK_EVENTS = 200


def _number(text, pattern):
    found = re.search(pattern, text)
    return int(found.group(1).replace(",", "")) if found else None


def measure(tool, interpreter, seconds, suffix):
    """suffix: of the output, ".json.gz" (the default) or ".ptcap"."""
    folder = tempfile.mkdtemp(prefix="pytrace-bench-", dir="/var/tmp")
    out = os.path.join(folder, "loop" + suffix)
    try:
        with proc.Target(interpreter, "fib.py", 0) as target:
            target.run(0.2)
            run = proc.Recording(tool, target.traced_pid, out, 1)
            try:
                answer = target.run(seconds)
                code = run.stop()
            except BaseException:
                run.kill()
                raise
        text = "\n".join(run.text)
        events, lost = _number(text, r"([\d,]+) events"), _number(text, r"([\d,]+) lost")
        if events is None or code not in (0, 6):
            raise proc.BenchError("%s ended with %d and said %r" % (tool, code, run.text))
        missing = 2 * answer.calls - events
        return {"version": interpreter.version, "output": suffix, "seconds": seconds,
                "exit_code": code, "events": events, "events_expected": 2 * answer.calls,
                "agrees": -SLACK_EVENTS <= missing <= 0,
                "events_per_second": round(events / seconds), "lost": lost or 0,
                "file_bytes_per_event": round(os.path.getsize(out) / events, 2),
                "finish_seconds": round(run.finish_seconds, 1)}
    finally:
        shutil.rmtree(folder)
