# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""Writes an oracle's recording as a Chrome trace: what the tests of the comparer itself feed it."""
import json


def write_trace(oracle_path, trace_path, pid, mutate=None):
    with open(oracle_path) as file:
        document = json.load(file)
    codes = document["codes"]
    base = 1_700_000_000_000_000_000
    out = [{"ph": "M", "name": "process_name", "pid": pid, "tid": 0, "args": {"name": "fake"}}]
    call_id = 0
    for thread in document["threads"]:
        tid = thread["tid"]
        out.append({"ph": "M", "name": "thread_name", "pid": pid, "tid": tid,
                    "args": {"name": "thread"}})
        events = list(thread["events"])
        if mutate:
            events = mutate(events, thread["tid"] == document["main"])
        stack, now, slices = [], 1000, []
        for event in events:
            now += 7
            if event & 1:
                call_id += 1
                stack.append((event >> 1, now, call_id))
            elif stack:
                code, begin, own = stack.pop()
                slices.append((code, begin, now, own, stack[-1][2] if stack else None))
        while stack:
            now += 7
            code, begin, own = stack.pop()
            slices.append((code, begin, now, own, stack[-1][2] if stack else None))
        for code, begin, end, own, parent in slices:
            file, line, name = codes[code]
            args = {"Python id": own}
            if parent:
                args["Python parent id"] = parent
            out.append({"ph": "X", "cat": "python_function", "name": "%s(%d): %s" % (
                file, line, name), "pid": pid, "tid": tid, "ts": begin, "dur": end - begin,
                "args": args})
    text = ",\n".join(_event(event) for event in out)
    with open(trace_path, "w") as file:
        file.write('{"schemaVersion": 1, "displayTimeUnit": "ms", "baseTimeNanoseconds": %d, '
                   '"traceEvents": [\n%s\n], "traceName": "fake"}\n' % (base, text))


def _event(event):
    parts = []
    for key, value in event.items():
        if key in ("ts", "dur"):
            parts.append('"%s": %d.%03d' % (key, value // 1000, value % 1000))
        else:
            parts.append("%s: %s" % (json.dumps(key), json.dumps(value)))
    return "{%s}" % ", ".join(parts)
