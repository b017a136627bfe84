# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""A pure call loop on one CPU, the tracer with its default buffers on the other: what is lost, and
whether the finished file holds exactly as many calls as the program counted itself. The tracer
attaches before the loop starts and detaches after it."""
import json
import os
import re
import shutil
import subprocess
import tempfile

from lib import private, proc


def _lost(text):
    found = re.search(r"([\d,]+) (events )?lost|lost ([\d,]+)", text)
    if found:
        return int((found.group(1) or found.group(3)).replace(",", ""))
    if "nothing lost" in text:
        return 0
    raise proc.BenchError("no word of losses in %r" % text)


def _calls_in(tool, out):
    """How many calls of fib the file holds."""
    text = subprocess.run([tool, "report", "--json", out], stdout=subprocess.PIPE, check=True,
                          timeout=1800).stdout
    return sum(f["calls"] for f in json.loads(text)["by_self"] if f["name"].endswith("fib"))


def measure(tool, interpreter, seconds, suffix):
    """suffix: of the output, ".json.gz" (the default) or ".ptcap"."""
    folder = tempfile.mkdtemp(prefix="pytrace-bench-", dir="/var/tmp")
    out = os.path.join(folder, "loop" + suffix)
    try:
        with private.Private(interpreter) as copy, proc.Target(copy, "fib.py", 0) as target:
            target.run(0.2)
            run = proc.Recording(tool, target.traced_pid, out, 1)
            try:
                answer = target.run(seconds)
                code = run.stop()
            except BaseException:
                run.kill()
                raise
        if code not in (0, 6):
            raise proc.BenchError("%s ended with %d and said %r" % (tool, code, run.text))
        events = 2 * answer.calls
        return {"version": interpreter.version, "output": suffix, "seconds": seconds,
                "exit_code": code, "lost": _lost("\n".join(run.text)),
                "calls_made": answer.calls, "calls_recorded": _calls_in(tool, out),
                "events_per_second": round(events / seconds),
                "file_bytes_per_event": round(os.path.getsize(out) / events, 2),
                "finish_seconds": round(run.finish_seconds, 1)}
    finally:
        shutil.rmtree(folder)
