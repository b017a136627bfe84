# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""What Holistic Trace Analysis asks of a trace, checked as its own reader goes about it (hta.common of
May 2026: trace_file.py, trace_parser.py, trace.py), without pandas.

check() raises HtaError at the first thing on which it would stumble, or draw wrong conclusions."""
import gzip
import json
import math
import re

RANK = re.compile(r'"rank":\s+(\d+)')
LAUNCH = "cudaLaunchKernel"
# args that become columns of integers, with the value for rows that have none
NUMBERS = {"correlation": -1, "External id": -1, "Python id": -1, "cbid": -1}


class HtaError(AssertionError):
    pass


def rank_of(path):
    """It reads lines until one has the rank, and takes any file without one for rank 0."""
    with (gzip.open(path, "rt") if path.endswith(".gz") else open(path)) as file:
        for line in file:
            found = RANK.search(line)
            if found:
                return int(found.group(1))
    raise HtaError("no line has a rank")


def stream_of(args):
    try:
        return int(float(args.get("stream", -1)))
    except (TypeError, ValueError):
        return -1


def rows_of(document):
    """What is left of the events: those with a category and a duration, with its rounded times."""
    rows = []
    for event in document["traceEvents"]:
        if event.get("dur") is None or event.get("cat") is None:
            continue
        args = event.get("args") or {}
        row = {"name": event["name"], "cat": event["cat"], "track": (event["pid"], event["tid"]),
               "ts": math.ceil(event["ts"]), "stream": stream_of(args), "event": event}
        row["end"] = math.floor(event["ts"] + event["dur"])
        for key, missing in NUMBERS.items():
            row[key] = args.get(key, missing)
            if not isinstance(row[key], int) or isinstance(row[key], bool):
                raise HtaError("%s is no whole number: %r" % (key, event))
        if row["end"] - row["ts"] < -1:
            raise HtaError("it ends before it begins: %r" % event)
        rows.append(row)
    return rows


def join(rows):
    """By the correlation id: {id: (call, kernel)} of the kernels (rows with a stream)."""
    calls, kernels = {}, {}
    for row in rows:
        if row["correlation"] == -1:
            if row["stream"] >= 0:
                raise HtaError("on a stream, but no call has launched it: %r" % row["event"])
            continue
        side = kernels if row["stream"] >= 0 else calls
        if row["correlation"] in side:
            raise HtaError("two have the correlation id %d" % row["correlation"])
        side[row["correlation"]] = row
    lonely = sorted(set(kernels) - set(calls))
    if lonely:
        raise HtaError("kernels without their call: %s" % lonely)
    return {i: (calls[i], kernels[i]) for i in kernels}


def check(path):
    """Returns the rows."""
    with (gzip.open(path, "rt") if path.endswith(".gz") else open(path)) as file:
        document = json.load(file)
    if not isinstance(document.get("baseTimeNanoseconds"), int):
        raise HtaError("no baseTimeNanoseconds")
    if rank_of(path) != document.get("distributedInfo", {}).get("rank"):
        raise HtaError("the rank is not that of distributedInfo")
    rows = rows_of(document)
    join(rows)
    runtime = [r for r in rows if r["cat"] == "cuda_runtime"]
    for row in runtime:
        if row["correlation"] < 0:
            raise HtaError("a call without a correlation id: %r" % row["event"])
    launches = [r for r in runtime if "kernel" in (r["event"].get("args") or {})
                and "Launch" in r["name"]]
    if launches and not any(r["name"].startswith(LAUNCH) for r in launches):
        raise HtaError("kernels are launched, but not by name of %s" % LAUNCH)
    ops = [r["External id"] for r in rows if r["cat"] == "cpu_op"]
    if -1 in ops or len(set(ops)) != len(ops):
        raise HtaError("operators whose External id is not theirs alone")
    if any(r["External id"] not in ops for r in runtime
           if ops and r["External id"] != r["correlation"]):
        raise HtaError("a call in an operator that is not there")
    return rows
